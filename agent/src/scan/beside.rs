//! What is read of a cell beside its databases.

use super::Visit;
use crate::lease::Pipe;
use ringfence_aws::Session;
use ringfence_aws::rds::in_time;
use ringfence_domain::around::{self, Around, ByResourceId, Named};
use ringfence_domain::bounds::OPINION_FOR;
use ringfence_domain::cloud::{CloudError, ErrorClass};
use ringfence_domain::control::{Control, Detection};
use ringfence_domain::controls::rds_snapshot_encryption::RdsSnapshotEncryption;
use ringfence_domain::finding::{Detected, Resource};
use ringfence_domain::id::Region;
use ringfence_domain::isolation::Group;
use ringfence_domain::opinion::{Opinion, Verdict};
use ringfence_domain::rds::Sweep;

/// Config has no word on the cell, nor on what was found in it.
fn none(found: &mut Detection, why: String) -> Opinion {
    for detected in &mut found.findings {
        detected.config = Some(Verdict::Unread);
    }
    Opinion::unread(why)
}

impl<P: Pipe> Visit<'_, P> {
    /// What names the databases of a cell from outside, and the isolation groups of their region.
    pub(super) async fn beside(
        &self,
        session: &Session,
        region: &Region,
        found: &Detection,
    ) -> (Around, Result<Vec<Group>, String>) {
        let databases = || found.findings.iter().map(|d| &d.resource);
        let (cloud, isolation) = (&self.desk.cloud, &self.desk.settings.isolation);
        let groups = cloud.isolation_groups(session, region, isolation);
        let secrets = in_time("Secrets Manager", OPINION_FOR, cloud.secrets(session, region));
        let around = cloud.around(session, region, OPINION_FOR);
        let (around, groups, secrets) =
            futures::join!(around, in_time("EC2", OPINION_FOR, groups), secrets);
        let secrets = secrets.map(|all| around::mentioning(&all, databases()));
        let policies = match databases().any(around::lets_iam_in) {
            true => self.policies(session).await.map(|all| around::naming(all, databases())),
            false => Ok(Named::new()),
        };
        (Around { policies, secrets, ..around }.about(databases()), groups)
    }

    /// The account's IAM policies that name databases: read once, whichever cell asks first.
    async fn policies(&self, session: &Session) -> Result<&ByResourceId, String> {
        let read = || async {
            in_time("IAM", OPINION_FOR, self.desk.cloud.policies_by_resource_id(session)).await
        };
        self.policies.get_or_init(read).await.as_ref().map_err(String::clone)
    }

    /// The tags of the custom endpoints of what was found.
    pub(super) async fn endpoint_tags(
        &self,
        session: &Session,
        region: &Region,
        found: &mut Detection,
    ) -> Result<(), CloudError> {
        for detected in &mut found.findings {
            if let Resource::Cluster { cluster, .. } = &mut detected.resource {
                let endpoints = &mut cluster.endpoints;
                match self.desk.cloud.endpoint_tags(session, region, endpoints).await {
                    // Endpoints without their tags are not the same: that blocks its plan, and not the cell.
                    Err(e) if matches!(e.class, ErrorClass::Denied | ErrorClass::ScpDenied) => {
                        let why = format!("(their tags cannot be read: {e})");
                        cluster.foreign.insert("CustomEndpoints".into(), why);
                    }
                    read => read?,
                }
            }
        }
        Ok(())
    }

    /// Old snapshots that are not encrypted, and whom each is shared with.
    pub(super) async fn snapshots(
        &self,
        session: &Session,
        region: &Region,
        sweep: &mut Sweep,
    ) -> Result<Vec<Detected>, CloudError> {
        let (cloud, settings) = (&self.desk.cloud, &self.desk.settings);
        cloud.sweep_snapshots(session, region, sweep).await?;
        let mut found = RdsSnapshotEncryption.detect(sweep, settings.require_kms_key).findings;
        let mut silent: Option<String> = None;
        for detected in &mut found {
            if let Resource::Snapshot { snapshot, of_cluster: false, shared } =
                &mut detected.resource
            {
                // Not known is no failure of the cell: plans say that it is not. Of many, none is asked for once
                // one was not answered.
                *shared = match &silent {
                    Some(why) => Err(why.clone()),
                    None => match cloud.shared(session, region, &snapshot.id).await {
                        Err(error) if error.expired() => return Err(error),
                        Err(error) => {
                            silent = Some(error.to_string());
                            Err(error.to_string())
                        }
                        Ok(with) => Ok(with),
                    },
                };
            }
        }
        Ok(found)
    }

    /// AWS Config's word on a cell that was read. That it has none is not the cell's failure.
    ///
    /// # Errors
    /// The session's time was up: the cell is read again with a new one.
    pub(super) async fn opinion(
        &self,
        session: &Session,
        region: &Region,
        sweep: &Sweep,
        found: &mut Detection,
    ) -> Result<Opinion, CloudError> {
        let asked = self.desk.cloud.config_facts(session, region);
        let Ok(answer) = tokio::time::timeout(OPINION_FOR.to_duration(), asked).await else {
            return Ok(none(found, format!("AWS Config did not answer within {OPINION_FOR}")));
        };
        match answer {
            Ok(facts) => {
                let opinion = Opinion::new(&facts, sweep, found);
                for detected in &mut found.findings {
                    detected.config = Some(opinion.of(&facts, detected));
                }
                Ok(opinion)
            }
            Err(error) if error.expired() => Err(error),
            Err(error) => Ok(none(found, error.to_string())),
        }
    }
}
