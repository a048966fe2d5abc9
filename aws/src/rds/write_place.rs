//! The writes that move databases: names, groups, protection, start and stop, and the end of an original.
//! One AWS call each.

use super::write::{gone, no_database, send};
use crate::client::Cloud;
use crate::error::cloud_error;
use crate::limits::Class;
use crate::retry::To;
use crate::session::Session;
use ringfence_domain::cloud::{CloudError, ErrorClass};
use ringfence_domain::finding::Kind;
use ringfence_domain::id::Region;
use ringfence_domain::rds::{ClusterSettings, InstanceSettings};
use std::collections::BTreeSet;

impl Cloud {
    /// The immutable id of the database or snapshot that has this name now; `None` where there is none.
    pub async fn resource_id(
        &self,
        session: &Session,
        region: &Region,
        kind: Kind,
        name: &str,
    ) -> Result<Option<String>, CloudError> {
        let client = self.rds(region.as_str());
        let to = To::cell(Class::RdsRead, session.account.as_str(), region.as_str());
        let answer = match kind {
            Kind::Instance => {
                const OP: &str = "rds:DescribeDBInstances";
                let call = || async {
                    let call = client.describe_db_instances().db_instance_identifier(name).send();
                    session.within(call).await.map_err(|e| cloud_error(OP, e))
                };
                let answer = self.0.gate.read(to, OP, call).await;
                answer.map(|a| {
                    a.db_instances().first().and_then(|i| i.dbi_resource_id()).map(str::to_owned)
                })
            }
            Kind::Cluster => {
                const OP: &str = "rds:DescribeDBClusters";
                let call = || async {
                    let call = client.describe_db_clusters().db_cluster_identifier(name).send();
                    session.within(call).await.map_err(|e| cloud_error(OP, e))
                };
                let answer = self.0.gate.read(to, OP, call).await;
                answer.map(|a| {
                    let first = a.db_clusters().first();
                    first.and_then(|c| c.db_cluster_resource_id()).map(str::to_owned)
                })
            }
            Kind::Snapshot => {
                let found = self.snapshots_named(session, region, &[name]).await;
                found.map(|all| all.into_iter().next().map(|s| s.resource_id))
            }
        };
        match answer {
            Err(error) if error.class == ErrorClass::NotFound => Ok(None),
            other => other,
        }
    }

    /// A new name, at once.
    pub async fn rename(
        &self,
        session: &Session,
        region: &Region,
        kind: Kind,
        (from, to): (&str, &str),
    ) -> Result<(), CloudError> {
        match kind {
            Kind::Instance => {
                drop(send!(self, session, region, "rds:ModifyDBInstance", |client| {
                    client
                        .modify_db_instance()
                        .db_instance_identifier(from)
                        .new_db_instance_identifier(to)
                        .apply_immediately(true)
                })?)
            }
            Kind::Cluster => drop(send!(self, session, region, "rds:ModifyDBCluster", |client| {
                client
                    .modify_db_cluster()
                    .db_cluster_identifier(from)
                    .new_db_cluster_identifier(to)
                    .apply_immediately(true)
            })?),
            Kind::Snapshot => no_database("rds:ModifyDBInstance")?,
        }
        Ok(())
    }

    /// Other security groups, at once.
    pub async fn set_groups(
        &self,
        session: &Session,
        region: &Region,
        kind: Kind,
        name: &str,
        groups: &BTreeSet<String>,
    ) -> Result<(), CloudError> {
        let fields = BTreeSet::from(["vpc_security_group_ids".to_owned()]);
        let vpc_security_group_ids = groups.clone();
        match kind {
            Kind::Instance => {
                let want = InstanceSettings { vpc_security_group_ids, ..Default::default() };
                self.modify_instance(session, region, name, &want, &fields).await
            }
            Kind::Cluster => {
                let want = ClusterSettings { vpc_security_group_ids, ..Default::default() };
                self.modify_cluster(session, region, name, &want, &fields).await
            }
            Kind::Snapshot => no_database("rds:ModifyDBInstance"),
        }
    }

    /// Deletion protection.
    pub async fn protect(
        &self,
        session: &Session,
        region: &Region,
        kind: Kind,
        name: &str,
        on: bool,
    ) -> Result<(), CloudError> {
        let fields = BTreeSet::from(["deletion_protection".to_owned()]);
        match kind {
            Kind::Instance => {
                let want = InstanceSettings { deletion_protection: on, ..Default::default() };
                self.modify_instance(session, region, name, &want, &fields).await
            }
            Kind::Cluster => {
                let want = ClusterSettings { deletion_protection: on, ..Default::default() };
                self.modify_cluster(session, region, name, &want, &fields).await
            }
            Kind::Snapshot => no_database("rds:ModifyDBInstance"),
        }
    }

    /// `AddRoleToDBInstance` or `AddRoleToDBCluster`; a cluster's role may be for no feature.
    pub async fn add_role(
        &self,
        session: &Session,
        region: &Region,
        (kind, name): (Kind, &str),
        (role, feature): (&str, &str),
    ) -> Result<(), CloudError> {
        match kind {
            Kind::Instance => {
                drop(send!(self, session, region, "rds:AddRoleToDBInstance", |client| {
                    let call = client.add_role_to_db_instance().db_instance_identifier(name);
                    call.role_arn(role).feature_name(feature)
                })?)
            }
            Kind::Cluster => {
                drop(send!(self, session, region, "rds:AddRoleToDBCluster", |client| {
                    let call = client.add_role_to_db_cluster().db_cluster_identifier(name);
                    let feature = Some(feature.to_owned()).filter(|f| !f.is_empty());
                    call.role_arn(role).set_feature_name(feature)
                })?)
            }
            Kind::Snapshot => no_database("rds:AddRoleToDBInstance")?,
        }
        Ok(())
    }

    /// `StartDBInstance` or `StartDBCluster`.
    pub async fn start(
        &self,
        session: &Session,
        region: &Region,
        kind: Kind,
        name: &str,
    ) -> Result<(), CloudError> {
        match kind {
            Kind::Instance => {
                drop(send!(self, session, region, "rds:StartDBInstance", |client| {
                    client.start_db_instance().db_instance_identifier(name)
                })?)
            }
            Kind::Cluster => drop(send!(self, session, region, "rds:StartDBCluster", |client| {
                client.start_db_cluster().db_cluster_identifier(name)
            })?),
            Kind::Snapshot => no_database("rds:StartDBInstance")?,
        }
        Ok(())
    }

    /// `StopDBInstance` or `StopDBCluster`.
    pub async fn stop(
        &self,
        session: &Session,
        region: &Region,
        kind: Kind,
        name: &str,
    ) -> Result<(), CloudError> {
        match kind {
            Kind::Instance => drop(send!(self, session, region, "rds:StopDBInstance", |client| {
                client.stop_db_instance().db_instance_identifier(name)
            })?),
            Kind::Cluster => drop(send!(self, session, region, "rds:StopDBCluster", |client| {
                client.stop_db_cluster().db_cluster_identifier(name)
            })?),
            Kind::Snapshot => no_database("rds:StopDBInstance")?,
        }
        Ok(())
    }

    /// `RebootDBInstance`.
    pub async fn reboot(
        &self,
        session: &Session,
        region: &Region,
        name: &str,
    ) -> Result<(), CloudError> {
        send!(self, session, region, "rds:RebootDBInstance", |client| {
            client.reboot_db_instance().db_instance_identifier(name)
        })?;
        Ok(())
    }

    /// Deletes an original, or a twin that nobody wants. No final snapshot: the last copy is made, encrypted
    /// and proven before. Automated backups are kept until their retention ends. That it is gone already is
    /// success.
    pub async fn retire(
        &self,
        session: &Session,
        region: &Region,
        kind: Kind,
        name: &str,
    ) -> Result<(), CloudError> {
        match kind {
            Kind::Snapshot => self.delete_snapshot(session, region, name).await,
            Kind::Instance => gone(
                send!(self, session, region, "rds:DeleteDBInstance", |client| {
                    client
                        .delete_db_instance()
                        .db_instance_identifier(name)
                        .skip_final_snapshot(true)
                        .delete_automated_backups(false)
                })
                .map(drop),
            ),
            Kind::Cluster => gone(
                send!(self, session, region, "rds:DeleteDBCluster", |client| {
                    client
                        .delete_db_cluster()
                        .db_cluster_identifier(name)
                        .skip_final_snapshot(true)
                        .delete_automated_backups(false)
                })
                .map(drop),
            ),
        }
    }
}
