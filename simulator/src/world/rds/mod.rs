//! RDS: the state of one account and region, and what time does to it.
//!
//! States take time, scaled by [`crate::settings::Settings::time_scale`]. A write schedules what will
//! become of it ([`Step`]); whoever looks next lets the steps that are due happen first.
//! Sources: RDS and Aurora user guides and API reference; the rule's own place is at each rule.

mod across;
mod around;
mod authorize;
mod blue_green;
pub(crate) mod clusters;
mod endpoints;
pub(crate) mod engines;
pub(crate) mod groups;
mod instances;
mod lifecycle;
pub(crate) mod members;
mod modify;
mod ops;
mod paging;
mod replicas;
pub(crate) mod settings;
mod sharing;
mod snapshots;
mod tags;

pub(crate) use across::Across;
pub(crate) use authorize::resources;
pub(crate) use clusters::Cluster;
pub(crate) use instances::Instance;
pub(crate) use ops::OPS;
pub(crate) use paging::{filters, page};
pub(crate) use snapshots::Snapshot;

use super::{AccountId, Ctx, Region};
use crate::fault::Fault;
use crate::hash;
use crate::value::{Map, Text, Time, list};
use groups::Groups;
use std::collections::BTreeMap;

/// What AWS takes for a state, in seconds; estimates from the user guide and field reports, before
/// [`crate::settings::Settings::time_scale`].
pub(crate) mod seconds {
    pub(crate) const CREATE: i64 = 240;
    pub(crate) const BACKUP: i64 = 60;
    pub(crate) const RESTORE: i64 = 360;
    pub(crate) const SNAPSHOT: i64 = 120;
    /// A snapshot's copy takes longer by its size.
    pub(crate) const SNAPSHOT_GIB: i64 = 1;
    pub(crate) const MODIFY_STARTS: i64 = 5;
    pub(crate) const MODIFY: i64 = 60;
    /// "the new DNS name takes about 10 minutes" (RDS user guide, "Renaming a DB instance").
    pub(crate) const RENAME: i64 = 600;
    pub(crate) const REBOOT: i64 = 60;
    pub(crate) const DELETE: i64 = 120;
    pub(crate) const STOP: i64 = 120;
    pub(crate) const START: i64 = 180;
    /// "typically takes under a minute" (RDS user guide, "Overview of Amazon RDS Blue/Green Deployments").
    pub(crate) const SWITCHOVER: i64 = 45;
    /// "after seven days it starts again" (RDS user guide, "Stopping a DB instance").
    pub(crate) const STOPPED_MOST: i64 = 7 * 86_400;
    /// "two hours after detection" (RDS user guide, "Encrypting Amazon RDS resources").
    pub(crate) const KEY_LOST: i64 = 7_200;
}

pub(crate) type Tags = BTreeMap<String, String>;

/// Something that will happen to a resource. Resources are named by their immutable ids, because names
/// can change in between.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Instance { dbi: String, status: &'static str },
    Modified { dbi: String, changes: Map },
    Renamed { dbi: String, name: String },
    Gone { dbi: String },
    Restart { dbi: String },
    Cluster { id: String, status: &'static str },
    ClusterRenamed { id: String, name: String },
    ClusterGone { id: String },
    Snapshot { arn: String },
    ClusterSnapshot { arn: String },
    Deployment { id: String, status: &'static str },
    SwitchedOver { id: String },
    DeploymentGone { id: String },
}

/// RDS in one account and region.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rds {
    pub(crate) instances: BTreeMap<String, Instance>,
    pub(crate) clusters: BTreeMap<String, Cluster>,
    pub(crate) snapshots: BTreeMap<String, Snapshot>,
    pub(crate) cluster_snapshots: BTreeMap<String, Snapshot>,
    pub(crate) groups: Groups,
    pub(crate) around: around::Around,
    pub(crate) deployments: Vec<blue_green::Deployment>,
    /// Automated backups that outlived their database.
    pub(crate) kept_backups: Vec<Map>,
    due: Vec<(Time, Step)>,
    /// The resource id of what was made last, for faults that let it fail.
    newest: Option<String>,
}

impl Rds {
    /// Remembers that a step will happen.
    pub(crate) fn at(&mut self, time: Time, step: Step) {
        self.due.push((time, step));
    }

    /// Forgets the states that were to come, where another one begins now.
    pub(crate) fn forget_states(&mut self, id: &str) {
        self.due.retain(|(_, step)| {
            !matches!(step, Step::Instance { dbi: of, .. } | Step::Cluster { id: of, .. } if of == id)
        });
    }

    /// Lets everything happen that is due.
    pub(crate) fn settle(&mut self, now: Time) {
        while let Some(next) = self
            .due
            .iter()
            .enumerate()
            .filter(|(_, (time, _))| *time <= now)
            // The first one scheduled wins where two are due at once.
            .min_by_key(|(i, (time, _))| (*time, *i))
            .map(|(i, _)| i)
        {
            let (time, step) = self.due.remove(next);
            self.happen(step, time);
        }
    }

    fn happen(&mut self, step: Step, time: Time) {
        match step {
            Step::Instance { dbi, status } => {
                if let Some(instance) = self.by_dbi(&dbi) {
                    instance.become_(status, time);
                }
            }
            Step::Modified { dbi, changes } => {
                if let Some(instance) = self.by_dbi(&dbi) {
                    instance.apply(changes);
                }
            }
            Step::Renamed { dbi, name } => self.rename_instance(&dbi, &name),
            Step::Gone { dbi } => self.instance_gone(&dbi),
            Step::Restart { dbi } => {
                if let Some(instance) = self.by_dbi(&dbi).filter(|i| i.status == "stopped") {
                    instance.become_("available", time);
                }
            }
            Step::Cluster { id, status } => {
                if let Some(cluster) = self.by_resource_id(&id) {
                    cluster.become_(status);
                }
            }
            Step::ClusterRenamed { id, name } => self.rename_cluster(&id, &name),
            Step::ClusterGone { id } => self.clusters.retain(|_, c| c.resource_id != id),
            Step::Snapshot { arn } => done(&mut self.snapshots, &arn),
            Step::ClusterSnapshot { arn } => done(&mut self.cluster_snapshots, &arn),
            Step::Deployment { id, status } => self.deployment_becomes(&id, status),
            Step::SwitchedOver { id } => self.switched_over(&id),
            Step::DeploymentGone { id } => self.deployments.retain(|d| d.id != id),
        }
    }

    /// Whether an instance has this name, or will have it when its rename is done.
    pub(crate) fn instance_name_taken(&self, name: &str) -> bool {
        let reserved = |i: &Instance| i.new_name.as_deref() == Some(name);
        self.instances.contains_key(name) || self.instances.values().any(reserved)
    }

    /// The same for clusters.
    pub(crate) fn cluster_name_taken(&self, name: &str) -> bool {
        let reserved = |c: &Cluster| c.new_name.as_deref() == Some(name);
        self.clusters.contains_key(name) || self.clusters.values().any(reserved)
    }

    pub(crate) fn by_dbi(&mut self, dbi: &str) -> Option<&mut Instance> {
        self.instances.values_mut().find(|i| i.dbi == dbi)
    }

    pub(crate) fn by_resource_id(&mut self, id: &str) -> Option<&mut Cluster> {
        self.clusters.values_mut().find(|c| c.resource_id == id)
    }

    /// Snapshots keep the name that their database had; replicas and clusters follow it.
    fn rename_instance(&mut self, dbi: &str, name: &str) {
        let Some(old) = self.by_dbi(dbi).map(|i| i.name.clone()) else {
            return;
        };
        if let Some(mut instance) = self.instances.remove(&old) {
            instance.name = name.to_owned();
            instance.new_name = None;
            instance.pending.remove("DBInstanceIdentifier");
            instance.status = "rebooting".into();
            if let Some(cluster) = instance.cluster.as_ref().and_then(|c| self.clusters.get_mut(c))
            {
                cluster
                    .members
                    .iter_mut()
                    .filter(|m| **m == old)
                    .for_each(|m| *m = name.to_owned());
            }
            self.instances.insert(name.to_owned(), instance);
        }
        for replica in self.instances.values_mut().filter(|i| i.source.as_ref() == Some(&old)) {
            replica.source = Some(name.to_owned());
        }
    }

    fn rename_cluster(&mut self, id: &str, name: &str) {
        let Some(old) = self.by_resource_id(id).map(|c| c.name.clone()) else {
            return;
        };
        if let Some(mut cluster) = self.clusters.remove(&old) {
            cluster.name = name.to_owned();
            cluster.new_name = None;
            cluster.status = "available".into();
            for endpoint in &mut cluster.endpoints {
                endpoint.set("DBClusterIdentifier", name.to_owned());
            }
            for member in &cluster.members {
                if let Some(instance) = self.instances.get_mut(member) {
                    instance.cluster = Some(name.to_owned());
                }
            }
            self.clusters.insert(name.to_owned(), cluster);
        }
    }

    /// Same-region replicas of a deleted source are promoted (RDS user guide, "Working with read
    /// replicas"): they become standalone databases, as unencrypted as it was.
    fn instance_gone(&mut self, dbi: &str) {
        let Some(name) = self.by_dbi(dbi).map(|i| i.name.clone()) else {
            return;
        };
        if let Some(gone) = self.instances.remove(&name)
            && let Some(cluster) = gone.cluster.and_then(|c| self.clusters.get_mut(&c))
        {
            // The next member is the writer: failover.
            cluster.members.retain(|member| *member != name);
        }
        for replica in self.instances.values_mut().filter(|i| i.source.as_ref() == Some(&name)) {
            replica.source = None;
        }
    }

    /// Before a call whose work is to fail: only what this call makes counts.
    pub(crate) fn forget_newest(&mut self) {
        self.newest = None;
    }

    /// Lets the newest resource fail instead of becoming available.
    pub(crate) fn fail_newest(&mut self) {
        let Some(id) = self.newest.clone() else { return };
        let snapshots = self.snapshots.values_mut().chain(self.cluster_snapshots.values_mut());
        for snapshot in snapshots.filter(|s| s.arn == id) {
            snapshot.status = "failed";
        }
        for deployment in self.deployments.iter_mut().filter(|d| d.id == id) {
            deployment.fate = Some("INVALID_CONFIGURATION");
        }
        if let Some(instance) = self.by_dbi(&id) {
            instance.fate = Some("failed");
        }
        if let Some(cluster) = self.by_resource_id(&id) {
            cluster.fate = Some("failed");
        }
    }

    /// Databases under a key that was disabled become unusable; see [`seconds::KEY_LOST`].
    pub(crate) fn key_lost(&mut self, arn: &str, at: Time) {
        const LOST: &str = "inaccessible-encryption-credentials-recoverable";
        let under = |map: &Map| map.text("KmsKeyId") == Some(arn);
        let instances = self.instances.values().filter(|i| under(&i.settings));
        let mut steps: Vec<Step> =
            instances.map(|i| Step::Instance { dbi: i.dbi.clone(), status: LOST }).collect();
        let clusters = self.clusters.values().filter(|c| under(&c.settings));
        steps.extend(clusters.map(|c| Step::Cluster { id: c.resource_id.clone(), status: LOST }));
        self.due.extend(steps.into_iter().map(|step| (at, step)));
    }

    /// A key that came back in time.
    pub(crate) fn key_back(&mut self, arn: &str) {
        const LOST: &str = "inaccessible-encryption-credentials-recoverable";
        let under = |map: &Map| map.text("KmsKeyId") == Some(arn);
        let mut ids: Vec<String> = Vec::new();
        ids.extend(self.instances.values().filter(|i| under(&i.settings)).map(|i| i.dbi.clone()));
        let clusters = self.clusters.values().filter(|c| under(&c.settings));
        ids.extend(clusters.map(|c| c.resource_id.clone()));
        self.due.retain(|(_, step)| match step {
            Step::Instance { dbi: id, status } | Step::Cluster { id, status } => {
                *status != LOST || !ids.contains(id)
            }
            _ => true,
        });
    }
}

fn done(table: &mut BTreeMap<String, Snapshot>, arn: &str) {
    if let Some(snapshot) = table.values_mut().find(|s| s.arn == arn && s.status == "creating") {
        snapshot.status = "available";
    }
}

/// "1 to 63 letters, numbers, or hyphens. First character must be a letter. Can't end with a hyphen or
/// contain two consecutive hyphens" (API reference); names are stored in lower case.
pub(crate) fn check_name(name: &str, most: usize, field: &str) -> Result<(), Fault> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic());
    let dotted = field.contains("Group");
    let all = name.chars().all(|c| good(c) || (dotted && "._ ".contains(c)));
    if !starts || !all || name.ends_with('-') || name.contains("--") || name.len() > most {
        let message = format!(
            "The parameter {field} is not a valid identifier. Identifiers must begin with a letter; must contain only ASCII letters, digits, and hyphens; and must not end with a hyphen or contain two consecutive hyphens, and have at most {most} characters."
        );
        return Err(Fault::new(400, "InvalidParameterValue", message));
    }
    Ok(())
}

/// The security group that a default VPC has.
pub(crate) fn default_security_group(account: AccountId, region: Region) -> String {
    format!("sg-{}", hash::letters(hash::of(account.0 ^ 5, region), 8))
}

fn attributes(ctx: &mut Ctx<'_>, _: &Map) -> Result<Map, Fault> {
    let settings = ctx.world.settings.clone();
    let rds = ctx.rds();
    let manual = |table: &BTreeMap<String, Snapshot>| table.len() as i64;
    let quota = |name: &'static str, used: i64, max: i64| {
        Map::new().with("AccountQuotaName", name).with("Used", used).with("Max", max)
    };
    let storage: i64 = rds.instances.values().map(|i| i.settings.number("AllocatedStorage")).sum();
    let quotas = [
        quota("DBInstances", rds.instances.len() as i64, settings.rds_instances as i64),
        quota("DBClusters", rds.clusters.len() as i64, settings.rds_clusters as i64),
        quota("ManualSnapshots", manual(&rds.snapshots), settings.rds_snapshots as i64),
        quota(
            "ManualClusterSnapshots",
            manual(&rds.cluster_snapshots),
            settings.rds_snapshots as i64,
        ),
        quota("AllocatedStorage", storage, 100_000),
    ];
    Ok(Map::new().with("AccountQuotas", list("AccountQuota", quotas)))
}

fn no_maintenance(_: &mut Ctx<'_>, _: &Map) -> Result<Map, Fault> {
    let nothing: [Map; 0] = [];
    Ok(Map::new()
        .with("PendingMaintenanceActions", list("ResourcePendingMaintenanceActions", nothing)))
}

/// A status that is a literal most of the time.
pub(crate) type Status = Text;
