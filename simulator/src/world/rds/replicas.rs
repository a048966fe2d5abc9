//! Read replicas in the same region.
//! Source: RDS user guide, "Working with read replicas": a replica is encrypted as its source is; the
//! source needs automated backups; a source in another region is refused before it comes here.

use super::instances::{
    begin, collect, combination, free_name, inherit, invalid_state, named, shown,
};
use super::settings::Omitted;
use super::{Step, seconds, tags};
use crate::fault::Fault;
use crate::value::Map;
use crate::world::Ctx;

pub(super) fn create(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let name = free_name(ctx, params)?;
    let source = named(ctx.rds(), params, "SourceDBInstanceIdentifier")?.clone();
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
    let engine = source.engine()?;
    let version = source.settings.text_or_empty("EngineVersion").to_owned();
    let kept = |setting: &super::settings::Setting| match setting.member {
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
    let port = params.int("Port")?.unwrap_or(source.port);
    let tags = tags::read(params)?;
    begin(ctx, &name, settings, port, tags, seconds::RESTORE);
    if let Some(replica) = ctx.rds().instances.get_mut(&name) {
        replica.source = Some(source.name);
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
        found.source = None;
        found.status = "modifying".into();
        found.settings.set("BackupRetentionPeriod", retention);
        if let Some(window) = window {
            found.settings.set("PreferredBackupWindow", window);
        }
    }
    rds.at(at, Step::Instance { dbi: replica.dbi, status: "available" });
    Ok(shown(ctx, &replica.name))
}
