//! StackSets that deploy by themselves to the accounts of OUs, of our own account.

use crate::client::Cloud;
use crate::error::cloud_error;
use crate::limits::Class;
use crate::retry::To;
use aws_sdk_cloudformation::operation::list_stack_set_auto_deployment_targets::ListStackSetAutoDeploymentTargetsOutput;
use aws_sdk_cloudformation::operation::list_stack_sets::ListStackSetsOutput;
use aws_sdk_cloudformation::types::{PermissionModels, StackSetStatus};
use ringfence_domain::cloud::CloudError;
use ringfence_domain::id::Region;
use ringfence_domain::staging::StackSet;

impl Cloud {
    /// Those of a region: a StackSet is of the region that it was made in, wherever its stacks are.
    ///
    /// # Errors
    /// The caller may not list them (`cloudformation:ListStackSets`, `ListStackSetAutoDeploymentTargets`), or AWS does not answer.
    pub async fn stack_sets(&self, region: &Region) -> Result<Vec<StackSet>, CloudError> {
        const OP: &str = "cloudformation:ListStackSets";
        let own = self.caller().await?.account;
        let client = self.own_cloudformation(region.as_str());
        let to = To::cell(Class::StackSetsRead, own.as_str(), region.as_str());
        let mut found = Vec::new();
        let page = |token| {
            let call = client.list_stack_sets().status(StackSetStatus::Active);
            let call = call.set_next_token(token).send();
            async { call.await.map_err(|e| cloud_error(OP, e)) }
        };
        let take = |page: ListStackSetsOutput| {
            for set in page.summaries() {
                let managed = set.permission_model() == Some(&PermissionModels::ServiceManaged);
                let by_itself = set.auto_deployment().filter(|d| d.enabled() == Some(true));
                let (true, Some(deployment)) = (managed, by_itself) else { continue };
                found.push(StackSet {
                    name: set.stack_set_name().unwrap_or_default().to_owned(),
                    region: region.clone(),
                    retains: deployment.retain_stacks_on_account_removal() == Some(true),
                    targets: Default::default(),
                });
            }
            page.next_token
        };
        self.0.gate.pages(to, OP, page, take).await?;
        for set in &mut found {
            self.targets_of_stack_set(to, set).await?;
        }
        Ok(found)
    }

    async fn targets_of_stack_set(&self, to: To<'_>, set: &mut StackSet) -> Result<(), CloudError> {
        const OP: &str = "cloudformation:ListStackSetAutoDeploymentTargets";
        let client = self.own_cloudformation(set.region.as_str());
        let StackSet { name, targets, .. } = set;
        let page = |token| {
            let call =
                client.list_stack_set_auto_deployment_targets().stack_set_name(name.as_str());
            let call = call.set_next_token(token).send();
            async { call.await.map_err(|e| cloud_error(OP, e)) }
        };
        let take = |page: ListStackSetAutoDeploymentTargetsOutput| {
            let ids = page.summaries().iter().filter_map(|s| s.organizational_unit_id());
            targets.extend(ids.filter_map(|id| id.parse().ok()));
            page.next_token
        };
        self.0.gate.pages(to, OP, page, take).await
    }
}
