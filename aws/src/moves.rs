//! Where accounts are, what binds them there by inheritance, and moves of them: for a staging OU, and for stages by risk.

use crate::client::Cloud;
use crate::error::cloud_error;
use crate::limits::Class;
use crate::organizations::{PAGE, node_id, odd, pages};
use crate::retry::To;
use aws_sdk_organizations::types::{PolicyType, PolicyTypeStatus};
use ringfence_domain::cloud::{CloudError, ErrorClass};
use ringfence_domain::id::{AccountId, NodeId};
use std::collections::BTreeSet;

/// What became of a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// It was moved.
    Done,
    /// It was there already: by a call whose answer was lost, or by somebody else.
    Already,
    /// It is not where it was to go from.
    NotThere,
}

impl Cloud {
    /// The value of a tag of a root, OU or account; `None` where it has no such tag, or is gone.
    pub async fn tag_of(&self, target: &NodeId, key: &str) -> Result<Option<String>, CloudError> {
        const OP: &str = "organizations:ListTagsForResource";
        let client = &self.0.organizations;
        let read = async {
            let mut value = None;
            pages!(
                self,
                OP,
                |token| client.list_tags_for_resource().resource_id(target.as_str()),
                |page| value = value.or(page
                    .tags()
                    .iter()
                    .find(|t| t.key() == key)
                    .map(|t| t.value().to_owned()))
            );
            Ok(value)
        };
        match read.await {
            Err(CloudError { class: ErrorClass::NotFound, .. }) => Ok(None),
            read => read,
        }
    }

    /// The types of policies that are on in the organization, as AWS calls them.
    pub async fn policy_types(&self) -> Result<Vec<String>, CloudError> {
        const OP: &str = "organizations:ListRoots";
        let client = &self.0.organizations;
        let mut types = Vec::new();
        pages!(self, OP, |token| client.list_roots().max_results(PAGE), |page| {
            for kind in page.roots().iter().flat_map(|root| root.policy_types()) {
                if kind.status() == Some(&PolicyTypeStatus::Enabled) {
                    types.extend(kind.r#type().map(|t| t.as_str().to_owned()));
                }
            }
        });
        Ok(types)
    }

    /// Names and ids of the policies of one type that are attached directly to a target; none where it is gone.
    pub async fn attached_of(
        &self,
        target: &NodeId,
        policy_type: &str,
    ) -> Result<BTreeSet<String>, CloudError> {
        const OP: &str = "organizations:ListPoliciesForTarget";
        let client = &self.0.organizations;
        let read = async {
            let mut found = BTreeSet::new();
            pages!(
                self,
                OP,
                |token| client
                    .list_policies_for_target()
                    .target_id(target.as_str())
                    .filter(PolicyType::from(policy_type))
                    .max_results(PAGE),
                |page| found.extend(page.policies().iter().map(|p| {
                    let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
                    format!("{} ({})", text(p.name()), text(p.id()))
                }))
            );
            Ok(found)
        };
        match read.await {
            Err(CloudError { class: ErrorClass::NotFound, .. }) => Ok(BTreeSet::new()),
            read => read,
        }
    }

    /// The OU or root that an account is in; `None` where it is gone from the organization.
    pub async fn parent_of(&self, account: &AccountId) -> Result<Option<NodeId>, CloudError> {
        const OP: &str = "organizations:ListParents";
        let client = &self.0.organizations;
        let read = async {
            let mut found = None;
            pages!(
                self,
                OP,
                |token| client.list_parents().child_id(account.as_str()).max_results(PAGE),
                |page| for parent in page.parents() {
                    found = Some(node_id(OP, parent.id())?);
                }
            );
            found.map(Some).ok_or_else(|| odd(OP, "no parent in the answer"))
        };
        match read.await {
            Err(CloudError { class: ErrorClass::NotFound, .. }) => Ok(None),
            read => read,
        }
    }

    /// Moves an account, if it is where we think (API reference, MoveAccount: the source parent must be its own).
    pub async fn move_account(
        &self,
        account: &AccountId,
        from: &NodeId,
        to: &NodeId,
    ) -> Result<Moved, CloudError> {
        const OP: &str = "organizations:MoveAccount";
        let answer = self
            .0
            .gate
            .write(To::organization(Class::OrganizationsWrite), OP, || async {
                let call = self.0.organizations.move_account().account_id(account.as_str());
                let call = call.source_parent_id(from.as_str()).destination_parent_id(to.as_str());
                call.send().await.map_err(|e| cloud_error(OP, e))
            })
            .await;
        match answer {
            Ok(_) => Ok(Moved::Done),
            Err(e) if e.code == "DuplicateAccountException" => Ok(Moved::Already),
            Err(e) if e.code == "SourceParentNotFoundException" => Ok(Moved::NotThere),
            Err(e) => Err(e),
        }
    }
}
