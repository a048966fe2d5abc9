//! Members of Aurora clusters: CreateDBInstance with DBClusterIdentifier.
//! Source: API reference, CreateDBInstance: what "doesn't apply to Amazon Aurora DB instances" is set
//! on the cluster, and a member can be created only when its cluster is available.

use super::clusters;
use super::engines::Engine;
use super::instances::{begin, check_class, collect, combination, shown};
use super::{seconds, tags};
use crate::fault::Fault;
use crate::value::Map;
use crate::world::Ctx;

/// Parameters that RDS refuses for a member, with what it calls them.
const THE_CLUSTERS: &[(&str, &str)] = &[
    ("MasterUsername", "master user name"),
    ("MasterUserPassword", "master user password"),
    ("StorageEncrypted", "storage encryption"),
    ("KmsKeyId", "storage encryption"),
    ("BackupRetentionPeriod", "backup retention period"),
    ("PreferredBackupWindow", "backup window"),
    ("VpcSecurityGroupIds", "vpc security group"),
    ("Port", "port"),
    ("EnableIAMDatabaseAuthentication", "IAM database authentication"),
    ("AllocatedStorage", "storage"),
    ("DeletionProtection", "deletion protection"),
];

/// Members that a member shows but that are its cluster's.
const INHERITED: &[&str] = &[
    "EngineVersion",
    "MasterUsername",
    "StorageEncrypted",
    "StorageEncryptionType",
    "KmsKeyId",
    "BackupRetentionPeriod",
    "PreferredBackupWindow",
    "VpcSecurityGroups",
    "IAMDatabaseAuthenticationEnabled",
    "StorageType",
    "CopyTagsToSnapshot",
];

/// What is the cluster's is refused, at a create and at a modification.
pub(super) fn refuse_the_clusters(params: &Map) -> Result<(), Fault> {
    let Some((_, what)) = THE_CLUSTERS.iter().find(|(param, _)| params.has(param)) else {
        return Ok(());
    };
    Err(combination(format!(
        "The requested DB Instance will be a member of a DB Cluster. Set {what} for the DB Cluster."
    )))
}

/// What a member shows that is its cluster's, and what a member does not have.
pub(crate) fn of_cluster(settings: &mut Map, cluster: &Map) {
    for member in INHERITED {
        settings.remove(member);
        if let Some(value) = cluster.get(member) {
            settings.set(*member, value.clone());
        }
    }
    for member in ["Iops", "StorageThroughput", "OptionGroupMemberships"] {
        settings.remove(member);
    }
    settings.set("AllocatedStorage", 1);
    if !settings.has("PromotionTier") {
        settings.set("PromotionTier", 1);
    }
}

pub(super) fn create(
    ctx: &mut Ctx<'_>,
    params: &Map,
    name: &str,
    engine: &'static Engine,
    class: &str,
) -> Result<Map, Fault> {
    if !params.has("DBClusterIdentifier") {
        let message = format!("{} instances need DBClusterIdentifier", engine.name);
        return Err(combination(message));
    }
    let cluster = clusters::named(ctx.rds(), params)?.clone();
    refuse_the_clusters(params)?;
    if cluster.settings.text("Engine") != Some(engine.name) {
        let message = format!(
            "The engine must be the cluster's: {}",
            cluster.settings.text_or_empty("Engine")
        );
        return Err(combination(message));
    }
    if cluster.status != "available" {
        let message = format!("The source cluster {} is not in a valid state", cluster.name);
        return Err(Fault::new(400, "InvalidDBClusterStateFault", message));
    }
    check_class(class, cluster.settings.is("StorageEncrypted"))?;
    let version = cluster.settings.text_or_empty("EngineVersion").to_owned();
    let mut settings = collect(ctx, params, (engine, &version), |s| s.create, &Map::new())?;
    settings.set("Engine", engine.name);
    of_cluster(&mut settings, &cluster.settings);
    let tags = tags::read(params)?;
    // Its backups are the cluster's: the member itself does not go through backing-up.
    settings.set("BackupRetentionPeriod", 0);
    begin(ctx, name, settings, cluster.port, tags, seconds::CREATE);
    let retention = cluster.settings.number("BackupRetentionPeriod");
    let rds = ctx.rds();
    if let Some(member) = rds.instances.get_mut(name) {
        member.cluster = Some(cluster.name.clone());
        member.settings.set("BackupRetentionPeriod", retention);
    }
    if let Some(found) = rds.clusters.get_mut(&cluster.name) {
        // The first one is the writer.
        found.members.push(name.to_owned());
    }
    Ok(shown(ctx, name))
}
