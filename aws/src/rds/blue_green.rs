//! Blue/green deployments.

use super::convert::{some, text};
use super::write::{Made, gone, made, send, tags};
use crate::client::Cloud;
use crate::error::{broken, cloud_error};
use crate::limits::Class;
use crate::retry::To;
use crate::session::Session;
use aws_sdk_rds::operation::describe_blue_green_deployments::DescribeBlueGreenDeploymentsOutput;
use aws_sdk_rds::types::{BlueGreenDeployment, SwitchoverDetail, TargetResourceConfiguration};
use ringfence_domain::cloud::CloudError;
use ringfence_domain::id::Region;
use ringfence_domain::rds::{BlueGreen, Pairing, TAG};
use std::collections::BTreeMap;

/// How long a switchover may take, in seconds; after that AWS puts everything back. It is AWS's default, said all the
/// same, for people agree to it (API reference, SwitchoverBlueGreenDeployment).
const SWITCHOVER_SECONDS: i32 = 300;

fn pairing(detail: &SwitchoverDetail) -> Pairing {
    Pairing {
        source: text(detail.source_member()),
        target: some(detail.target_member()),
        status: text(detail.status()),
    }
}

fn blue_green(made: &BlueGreenDeployment) -> BlueGreen {
    let mut members: Vec<Pairing> = made.switchover_details().iter().map(pairing).collect();
    members.retain(|m| !m.source.is_empty());
    // Some answers name the two ends only.
    if let (Some(source), target) = (made.source(), some(made.target()))
        && members.iter().all(|m| m.source != source)
    {
        members.push(Pairing { source: source.into(), target, status: text(made.status()) });
    }
    let ours = made.tag_list().iter().find(|t| t.key() == Some(TAG));
    BlueGreen {
        id: text(made.blue_green_deployment_identifier()),
        name: text(made.blue_green_deployment_name()),
        source: text(made.source()),
        status: text(made.status()),
        details: some(made.status_details()),
        members,
        made_by: ours.and_then(|t| some(t.value())),
    }
}

impl Cloud {
    /// All blue/green deployments of a cell.
    pub async fn blue_greens(
        &self,
        session: &Session,
        region: &Region,
    ) -> Result<Vec<BlueGreen>, CloudError> {
        const OP: &str = "rds:DescribeBlueGreenDeployments";
        let client = self.rds(region.as_str());
        let to = To::cell(Class::RdsRead, session.account.as_str(), region.as_str());
        let mut all = Vec::new();
        // A page has 100 where nothing is said; moto fails where something is.
        let page = |marker| {
            let call = client.describe_blue_green_deployments().set_marker(marker).send();
            let call = session.within(call);
            async { call.await.map_err(|e| cloud_error(OP, e)) }
        };
        let take = |page: DescribeBlueGreenDeploymentsOutput| {
            all.extend(page.blue_green_deployments().iter().map(blue_green));
            page.marker
        };
        self.0.gate.pages(to, OP, page, take).await?;
        Ok(all)
    }

    /// `CreateBlueGreenDeployment` of the database with the first ARN; all of them are encrypted under the key in the
    /// green environment. The id of it is what was made.
    pub async fn create_blue_green(
        &self,
        session: &Session,
        region: &Region,
        name: &str,
        (source, all): (&str, &[&str]),
        key: &str,
        remediation: &str,
    ) -> Result<Made, CloudError> {
        const OP: &str = "rds:CreateBlueGreenDeployment";
        let under_key = |arn: &&str| {
            let one = TargetResourceConfiguration::builder().source_arn(*arn);
            one.target_kms_key_id(key).build().map_err(|e| broken(OP, e.to_string()))
        };
        let all = all.iter().map(under_key).collect::<Result<Vec<_>, CloudError>>()?;
        let answer =
            send!(self, session, region, "rds:CreateBlueGreenDeployment", |client| client
                .create_blue_green_deployment()
                .blue_green_deployment_name(name)
                .source(source)
                .set_target_resource_configurations(Some(all.clone()))
                .set_tags(tags(&BTreeMap::new(), remediation)))?;
        let deployment = answer.blue_green_deployment();
        made(OP, deployment.and_then(|d| d.blue_green_deployment_identifier()))
    }

    /// `SwitchoverBlueGreenDeployment`.
    pub async fn switch_over(
        &self,
        session: &Session,
        region: &Region,
        deployment: &str,
    ) -> Result<(), CloudError> {
        send!(self, session, region, "rds:SwitchoverBlueGreenDeployment", |client| client
            .switchover_blue_green_deployment()
            .blue_green_deployment_identifier(deployment)
            .switchover_timeout(SWITCHOVER_SECONDS))?;
        Ok(())
    }

    /// `DeleteBlueGreenDeployment`, with its green environment or without. That it is gone already is success.
    pub async fn delete_blue_green(
        &self,
        session: &Session,
        region: &Region,
        deployment: &str,
        green: bool,
    ) -> Result<(), CloudError> {
        gone(
            send!(self, session, region, "rds:DeleteBlueGreenDeployment", |client| client
                .delete_blue_green_deployment()
                .blue_green_deployment_identifier(deployment)
                // Not to be said at all once it is switched over.
                .set_delete_target(green.then_some(true)))
            .map(drop),
        )
    }
}
