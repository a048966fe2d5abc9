//! Read replicas.
//! Source: RDS user guide, "Working with read replicas": a replica is encrypted as its source is; the
//! source needs automated backups. Across regions a key must be named, and groups are those of the region
//! (API reference, CreateDBInstanceReadReplica, KmsKeyId, DBParameterGroupName, OptionGroupName).

use super::instances::{
    begin, collect, combination, free_name, inherit, invalid_state, named, shown,
};
use super::settings::Omitted;
use super::{Instance, Rds, Step, across, seconds, tags};
use crate::fault::Fault;
use crate::regions;
use crate::value::{Map, list};
use crate::world::Ctx;

/// What Describe shows of an instance's source and replicas.
pub(super) fn show(it: &Instance, rds: &Rds, map: &mut Map) {
    let replicas = rds.instances.values().filter(|i| i.source.as_ref() == Some(&it.name));
    let names = replicas.map(|r| &r.name).chain(&it.far_replicas);
    map.set("ReadReplicaDBInstanceIdentifiers", list("ReadReplicaDBInstanceIdentifier", names));
    if let Some(source) = &it.source {
        map.set("ReadReplicaSourceDBInstanceIdentifier", source);
        let status = if it.terminated { "terminated" } else { "replicating" };
        let info = Map::new().with("StatusType", "read replication");
        let info = info.with("Normal", !it.terminated).with("Status", status);
        map.set("StatusInfos", list("DBInstanceStatusInfo", [info]));
    }
}

pub(super) fn create(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let name = free_name(ctx, params)?;
    let of = params.required("SourceDBInstanceIdentifier")?;
    let far = across::elsewhere(of, ctx.region).and_then(regions::find);
    let source = match far {
        Some(region) => across::source(ctx, of, region)?,
        None => named(ctx.rds(), params, "SourceDBInstanceIdentifier")?.clone(),
    };
    if source.cluster.is_some() {
        return Err(combination(
            "A member of a cluster can't be replicated by itself; add a reader.",
        ));
    }
    if source.status != "available" {
        return Err(invalid_state(format!("Instance {} is not available.", source.name)));
    }
    if source.settings.number("BackupRetentionPeriod") == 0 {
        return Err(invalid_state(
            "Automated backups are not enabled for this database instance. To enable automated backups, use ModifyDBInstance to set the backup retention period to a non-zero value.",
        ));
    }
    let encrypted = source.settings.is("StorageEncrypted");
    if params.has("KmsKeyId") && !encrypted {
        return Err(combination(
            "You cannot create an encrypted Read Replica from an unencrypted DB instance.",
        ));
    }
    if far.is_some() && encrypted && !params.has("KmsKeyId") {
        return Err(combination(
            "You must specify a KMS key of the destination Region for an encrypted Read Replica in another Region.",
        ));
    }
    let engine = source.engine()?;
    let version = source.settings.text_or_empty("EngineVersion").to_owned();
    let kept = |setting: &super::settings::Setting| match setting.member {
        // Of another region there is nothing to keep.
        "DBParameterGroups" | "OptionGroupMemberships" | "DBSubnetGroup" if far.is_some() => {
            setting.create
        }
        // The source's own, unless given.
        "DBInstanceClass"
        | "AllocatedStorage"
        | "StorageType"
        | "Iops"
        | "LicenseModel"
        | "DBParameterGroups"
        | "OptionGroupMemberships"
        | "AutoMinorVersionUpgrade"
        | "DBSubnetGroup"
        | "PreferredMaintenanceWindow"
        | "DBName"
        | "StorageThroughput" => Omitted::Kept,
        // "Replicas are created with backups off."
        "BackupRetentionPeriod" => Omitted::Number(0),
        _ => setting.restore,
    };
    let mut settings = collect(ctx, params, (engine, &version), kept, &source.settings)?;
    inherit(&mut settings, &source.settings);
    if far.is_some() && encrypted {
        let key = ctx.rds_key(params.text("KmsKeyId"))?;
        settings.set("KmsKeyId", key);
    }
    let port = params.int("Port")?.unwrap_or(source.port);
    let tags = tags::read(params)?;
    begin(ctx, &name, settings, port, tags, seconds::RESTORE);
    let called = match far {
        Some(region) => source.arn(ctx.account, region),
        None => source.name.clone(),
    };
    if let Some(replica) = ctx.rds().instances.get_mut(&name) {
        replica.source = Some(called);
    }
    if let Some(region) = far {
        across::link(ctx, (region, &source), &name);
    }
    Ok(shown(ctx, &name))
}

pub(super) fn promote(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let replica = named(ctx.rds(), params, "DBInstanceIdentifier")?.clone();
    if replica.source.is_none() || replica.status != "available" {
        return Err(invalid_state(format!(
            "DB Instance {} is not a read replica that is available.",
            replica.name
        )));
    }
    let retention = params.int("BackupRetentionPeriod")?.unwrap_or(1);
    let window = params.text("PreferredBackupWindow").map(str::to_owned);
    let at = ctx.after(seconds::REBOOT);
    let rds = ctx.rds();
    if let Some(found) = rds.instances.get_mut(&replica.name) {
        (found.source, found.terminated) = (None, false);
        found.status = "modifying".into();
        found.settings.set("BackupRetentionPeriod", retention);
        if let Some(window) = window {
            found.settings.set("PreferredBackupWindow", window);
        }
    }
    rds.at(at, Step::Instance { dbi: replica.dbi, status: "available" });
    Ok(shown(ctx, &replica.name))
}
