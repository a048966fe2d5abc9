//! What is read of RDS and KMS in one cell (one account x one region).
//!
//! The members are those of `DescribeDBInstances` and `DescribeDBClusters` (botocore
//! rds/2014-10-31). Each belongs to one of five groups: settable at restore (R), settable only
//! afterwards (M), settable by another API (X), coming with the snapshot (S), derived (D). R and M
//! make up [`InstanceSettings`] and [`ClusterSettings`], S is `inherited`, X is `foreign`: an X
//! member that is in use blocks a plan by name. `aws/src/members.rs` has the whole table and a test
//! that fails when the SDK learns a member that it does not list.

use crate::far;
use crate::id::Region;
use crate::isolation::Group;
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

mod blue_green;
mod tags;

pub use blue_green::{BlueGreen, Pairing, name_in};
pub use tags::{JOBS_TAG, TAG, WINDOW_TAG, managed_by};

/// How storage is protected at rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encryption {
    /// Not at all: `none`.
    None,
    /// Under a KMS key of the account: `sse-kms`.
    SseKms,
    /// Under a key that AWS owns: `sse-rds`. `StorageEncrypted` is false here, and the data is
    /// encrypted all the same (API reference, DBCluster); Aurora's default since 2026-02-18.
    SseRds,
    /// A value that this version does not know, or no answer at all. Never treated as encrypted.
    #[serde(untagged)]
    Unknown(String),
}

impl Encryption {
    /// Judges by `StorageEncryptionType` first; the boolean counts only where the type is absent.
    pub fn judge(kind: Option<&str>, flag: Option<bool>) -> Encryption {
        match (kind, flag) {
            (Some("none"), _) | (None, Some(false)) => Encryption::None,
            (Some("sse-kms"), _) | (None, Some(true)) => Encryption::SseKms,
            (Some("sse-rds"), _) => Encryption::SseRds,
            (Some(other), _) => Encryption::Unknown(other.to_owned()),
            (None, None) => Encryption::Unknown("not reported".to_owned()),
        }
    }
}

impl fmt::Display for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Encryption::None => "none",
            Encryption::SseKms => "sse-kms",
            Encryption::SseRds => "sse-rds",
            Encryption::Unknown(text) => text,
        })
    }
}

/// An Active Directory membership (R: `Domain*`). Either a directory with a role, or a self-managed
/// domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the API's own")]
pub struct Domain {
    pub domain: Option<String>,
    pub iam_role_name: Option<String>,
    pub fqdn: Option<String>,
    pub ou: Option<String>,
    pub auth_secret_arn: Option<String>,
    pub dns_ips: Vec<String>,
}

/// An additional storage volume (Oracle, SQL Server).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the API's own")]
pub struct StorageVolume {
    pub volume_name: Option<String>,
    pub allocated_storage: Option<i32>,
    pub iops: Option<i32>,
    pub max_allocated_storage: Option<i32>,
    pub storage_throughput: Option<i32>,
    pub storage_type: Option<String>,
}

/// Everything about a DB instance that a person chose and that can be chosen again for its twin.
/// Storage is in GiB, retention in days, intervals in seconds, throughput in MiBps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names are the API's own, in snake case")]
pub struct InstanceSettings {
    // R: given to RestoreDBInstanceFromDBSnapshot.
    pub db_instance_class: String,
    pub allocated_storage: Option<i32>,
    pub iops: Option<i32>,
    pub storage_throughput: Option<i32>,
    pub storage_type: Option<String>,
    pub multi_az: bool,
    pub availability_zone: Option<String>,
    pub publicly_accessible: bool,
    pub auto_minor_version_upgrade: bool,
    pub license_model: Option<String>,
    pub db_name: Option<String>,
    pub ca_certificate_identifier: Option<String>,
    pub copy_tags_to_snapshot: bool,
    pub processor_features: BTreeMap<String, String>,
    pub deletion_protection: bool,
    pub network_type: Option<String>,
    pub backup_target: Option<String>,
    pub custom_iam_instance_profile: Option<String>,
    pub dedicated_log_volume: bool,
    pub engine_lifecycle_support: Option<String>,
    pub additional_storage_volumes: Vec<StorageVolume>,
    pub backup_retention_period: i32,
    pub preferred_backup_window: Option<String>,
    pub db_capacity_reservation_identifier: Option<String>,
    pub port: Option<i32>,
    pub vpc_security_group_ids: BTreeSet<String>,
    pub db_parameter_group: Option<String>,
    pub db_subnet_group: Option<String>,
    pub option_group: Option<String>,
    pub domain: Option<Domain>,
    pub iam_database_authentication: bool,
    pub enabled_cloudwatch_logs_exports: BTreeSet<String>,
    pub customer_owned_ip: bool,
    pub tags: BTreeMap<String, String>,
    // M: given to ModifyDBInstance afterwards.
    pub preferred_maintenance_window: Option<String>,
    pub monitoring_interval: i32,
    pub monitoring_role_arn: Option<String>,
    pub performance_insights: bool,
    pub performance_insights_kms_key_id: Option<String>,
    pub performance_insights_retention_period: Option<i32>,
    pub database_insights_mode: Option<String>,
    pub max_allocated_storage: Option<i32>,
    pub manage_master_user_password: bool,
    pub master_user_secret_kms_key_id: Option<String>,
    // X: given by AddRoleToDBInstance afterwards. Feature and role ARN.
    pub associated_roles: BTreeSet<(String, String)>,
}

/// Everything about an Aurora cluster that a person chose and that can be chosen again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names are the API's own, in snake case")]
pub struct ClusterSettings {
    // R: given to RestoreDBClusterFromSnapshot.
    pub availability_zones: BTreeSet<String>,
    pub backup_retention_period: Option<i32>,
    pub preferred_backup_window: Option<String>,
    pub database_name: Option<String>,
    pub port: Option<i32>,
    pub backtrack_window: i64,
    pub engine_mode: Option<String>,
    pub storage_type: Option<String>,
    pub iops: Option<i32>,
    pub deletion_protection: bool,
    pub copy_tags_to_snapshot: bool,
    pub network_type: Option<String>,
    /// Serverless v2: minimum, maximum (ACUs, as text so that equality is exact), pause (seconds).
    pub serverless_v2: Option<(String, String, Option<i32>)>,
    pub monitoring_interval: Option<i32>,
    pub monitoring_role_arn: Option<String>,
    pub performance_insights: Option<bool>,
    pub performance_insights_kms_key_id: Option<String>,
    pub performance_insights_retention_period: Option<i32>,
    pub engine_lifecycle_support: Option<String>,
    pub db_cluster_parameter_group: Option<String>,
    pub db_subnet_group: Option<String>,
    pub vpc_security_group_ids: BTreeSet<String>,
    pub iam_database_authentication: bool,
    pub enabled_cloudwatch_logs_exports: BTreeSet<String>,
    pub domain: Option<Domain>,
    pub tags: BTreeMap<String, String>,
    // M: given to ModifyDBCluster afterwards.
    pub preferred_maintenance_window: Option<String>,
    pub auto_minor_version_upgrade: Option<bool>,
    pub database_insights_mode: Option<String>,
    pub manage_master_user_password: bool,
    pub master_user_secret_kms_key_id: Option<String>,
    pub local_write_forwarding: bool,
    // X: given by AddRoleToDBCluster afterwards. Feature and role ARN.
    pub associated_roles: BTreeSet<(String, String)>,
}

/// A DB instance, alone or as a cluster's member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// `DBInstanceIdentifier`.
    pub id: String,
    /// Its ARN.
    pub arn: String,
    /// `DbiResourceId`: never changes, and is new for a copy.
    pub resource_id: String,
    /// For example `postgres`.
    pub engine: String,
    /// For example `available`.
    pub status: String,
    /// How its storage is protected.
    pub encryption: Encryption,
    /// The key's ARN, when encrypted under one.
    pub kms_key: Option<String>,
    /// The cluster it is a member of.
    pub cluster: Option<String>,
    /// What it replicates: an identifier, or an ARN in another region.
    pub replica_source: Option<String>,
    /// Its own replicas.
    pub replicas: Vec<String>,
    /// The VPC of its subnet group.
    #[serde(default)]
    pub vpc: Option<String>,
    /// `Endpoint.Address`, once it has one; of a member its own.
    #[serde(default)]
    pub address: Option<String>,
    /// The `ringfence:window` tag, if it has one.
    #[serde(default)]
    pub window: Option<String>,
    /// Whether its `ringfence:jobs` tag says `acknowledged`.
    #[serde(default)]
    pub jobs_known: bool,
    /// What keeps it in line with a text of its own, by its tags.
    #[serde(default)]
    pub managed_by: Option<String>,
    /// R and M members.
    pub settings: InstanceSettings,
    /// S members: they come with the snapshot, and are compared all the same.
    pub inherited: BTreeMap<String, String>,
    /// X members in use, and what cannot be read back: name and value. Each blocks a plan.
    pub foreign: BTreeMap<String, String>,
    /// `PendingModifiedValues` that are set, by name.
    pub pending: Vec<String>,
    /// Parameter and option groups that are not `in-sync`, with their state.
    pub out_of_sync: Vec<String>,
    /// `PromotionTier`, of a member.
    pub promotion_tier: Option<i32>,
    /// The `ringfence:remediation` tag, if it has one.
    pub made_by: Option<String>,
}

/// A custom endpoint of an Aurora cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// `DBClusterEndpointIdentifier`.
    pub id: String,
    /// Its ARN.
    pub arn: String,
    /// `READER`, `ANY`...
    pub kind: String,
    /// The members that it is of; none means all of its kind.
    pub members: BTreeSet<String>,
    /// The members that it is not of.
    pub excluded: BTreeSet<String>,
    /// For example `available`.
    pub status: String,
    /// Its tags; read by scans only.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

impl Endpoint {
    /// Whether it leads to the same members.
    pub fn equals(&self, other: &Endpoint) -> bool {
        (&self.kind, &self.members, &self.excluded)
            == (&other.kind, &other.members, &other.excluded)
    }

    /// Where it leads.
    pub fn show(&self) -> String {
        let list = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(", ");
        format!("{} of [{}] without [{}]", self.kind, list(&self.members), list(&self.excluded))
    }
}

/// A member's place in its cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MemberRef {
    /// `DBInstanceIdentifier`.
    pub id: String,
    /// Whether it is the writer.
    pub writer: bool,
}

/// A DB cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// `DBClusterIdentifier`.
    pub id: String,
    /// Its ARN.
    pub arn: String,
    /// `DbClusterResourceId`.
    pub resource_id: String,
    /// For example `aurora-postgresql`.
    pub engine: String,
    /// For example `15.4`. Restores without it get the region's default version.
    pub engine_version: String,
    /// For example `available`.
    pub status: String,
    /// `Endpoint`, of the writer, once it has one.
    #[serde(default)]
    pub address: Option<String>,
    /// How its storage is protected.
    pub encryption: Encryption,
    /// The key's ARN, when encrypted under one.
    pub kms_key: Option<String>,
    /// Its members.
    pub members: Vec<MemberRef>,
    /// Its custom endpoints, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Endpoint>,
    /// R and M members.
    pub settings: ClusterSettings,
    /// S members.
    pub inherited: BTreeMap<String, String>,
    /// X members in use: name and value. Each blocks a plan.
    pub foreign: BTreeMap<String, String>,
    /// `PendingModifiedValues` that are set, by name.
    pub pending: Vec<String>,
    /// The `ringfence:window` tag, if it has one.
    #[serde(default)]
    pub window: Option<String>,
    /// Whether its `ringfence:jobs` tag says `acknowledged`.
    #[serde(default)]
    pub jobs_known: bool,
    /// What keeps it in line with a text of its own, by its tags.
    #[serde(default)]
    pub managed_by: Option<String>,
    /// The `ringfence:remediation` tag, if it has one.
    pub made_by: Option<String>,
}

/// A manual snapshot of an instance or of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its identifier.
    pub id: String,
    /// Its ARN.
    pub arn: String,
    /// The instance or cluster that it was taken of.
    pub of: String,
    /// For example `available`.
    pub status: String,
    /// How it is protected.
    pub encryption: Encryption,
    /// The key's ARN.
    pub kms_key: Option<String>,
    /// `SnapshotCreateTime`; absent while it is being made.
    pub created_at: Option<Time>,
    /// The `ringfence:remediation` tag, if it has one.
    pub made_by: Option<String>,
    /// The immutable id of the database that it was taken of, `@`, and when it was made: a snapshot has no
    /// immutable id of its own, and its name can be another's later.
    #[serde(default)]
    pub resource_id: String,
    /// What a copy must have too, by the API's names.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// Its tags, without ours and AWS's own.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

impl Snapshot {
    /// One of its settings; empty where it has none.
    pub fn setting(&self, name: &str) -> &str {
        self.settings.get(name).map_or("", String::as_str)
    }
}

/// One sweep of a cell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sweep {
    /// All DB instances, members and replicas included, Neptune and DocumentDB too.
    pub instances: Vec<Instance>,
    /// All DB clusters.
    pub clusters: Vec<Cluster>,
    /// Manual instance snapshots; read for remediation only.
    pub snapshots: Vec<Snapshot>,
    /// Manual cluster snapshots; read for remediation only.
    pub cluster_snapshots: Vec<Snapshot>,
    /// Security groups under the name of the isolation groups; read where one is to be made.
    pub groups: Vec<Group>,
    /// Blue/green deployments; read where one is the way to a twin.
    pub blue_greens: Vec<BlueGreen>,
}

impl Sweep {
    /// The instance of that name.
    pub fn instance(&self, id: &str) -> Option<&Instance> {
        self.instances.iter().find(|i| i.id == id)
    }

    /// Adds what was read in another region, as it is called from `home`: its replicas and what they replicate.
    pub fn add_far(&mut self, home: &Region, far: Sweep) {
        let alone = far.instances.into_iter().filter(|i| i.cluster.is_none());
        self.instances.extend(alone.map(|i| far::seen_from(home, i)));
    }

    /// The read replicas that were read of the instance of that name, and theirs, each after its source.
    pub fn tree(&self, id: &str) -> Vec<Instance> {
        let mut found: Vec<Instance> = Vec::new();
        let mut sources = vec![id.to_owned()];
        while !sources.is_empty() {
            let of = |i: &&Instance| i.replica_source.as_ref().is_some_and(|s| sources.contains(s));
            // AWS has no cycles; a read while things change could show one.
            let new = |i: &&Instance| i.id != id && found.iter().all(|f| f.id != i.id);
            let mut level: Vec<Instance> =
                self.instances.iter().filter(of).filter(new).cloned().collect();
            level.sort_by(|a, b| a.id.cmp(&b.id));
            sources = level.iter().map(|i| i.id.clone()).collect();
            found.extend(level);
        }
        found
    }

    /// The cluster of that name.
    pub fn cluster(&self, id: &str) -> Option<&Cluster> {
        self.clusters.iter().find(|c| c.id == id)
    }
}

/// A quota of an account and region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// How much is used.
    pub used: i64,
    /// How much there may be.
    pub max: i64,
}

/// Quotas by the names of `rds:DescribeAccountAttributes`; storage in GiB.
pub type Quotas = BTreeMap<String, Quota>;

/// Engines that share the RDS API but are not RDS: counted, never touched.
pub fn out_of_scope(engine: &str) -> bool {
    engine.starts_with("neptune") || engine.starts_with("docdb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_decides_and_the_boolean_only_fills_in() {
        use Encryption::*;
        for (kind, flag, want) in [
            (Some("none"), Some(false), None),
            (Some("sse-kms"), Some(true), SseKms),
            (Some("sse-rds"), Some(false), SseRds),
            (Some("none"), Some(true), None),
            (Some("sse-pq"), Some(true), Unknown("sse-pq".into())),
            (Option::None, Some(false), None),
            (Option::None, Some(true), SseKms),
            (Option::None, Option::None, Unknown("not reported".into())),
        ] {
            assert_eq!(Encryption::judge(kind, flag), want, "{kind:?} {flag:?}");
        }
    }
}
