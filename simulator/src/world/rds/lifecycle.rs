//! What happens to an instance that is there: reboot, stop, start, roles, automated backups.
//! Source: RDS user guide, "Stopping a DB instance", "Rebooting a DB instance".

use super::instances::{Instance, invalid_state, named, shown};
use super::{Step, Tags, page, seconds, snapshots};
use crate::fault::Fault;
use crate::value::{Map, Time};
use crate::world::{AccountId, Ctx, Region};

/// Moves an instance through a state, if it is in the one that allows it.
fn through(
    ctx: &mut Ctx<'_>,
    params: &Map,
    from: &str,
    states: [&'static str; 2],
    takes: i64,
) -> Result<Instance, Fault> {
    let instance = named(ctx.rds(), params, "DBInstanceIdentifier")?.clone();
    if instance.status != from {
        return Err(invalid_state(format!("Instance {} is not in {from} state.", instance.name)));
    }
    let at = ctx.after(takes);
    let rds = ctx.rds();
    if let Some(found) = rds.instances.get_mut(&instance.name) {
        found.status = states[0].into();
    }
    rds.forget_states(&instance.dbi);
    rds.at(at, Step::Instance { dbi: instance.dbi.clone(), status: states[1] });
    Ok(instance)
}

/// After a reboot, parameter groups that waited for one are in sync.
pub(super) fn reboot(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let instance = through(ctx, params, "available", ["rebooting", "available"], seconds::REBOOT)?;
    if let Some(found) = ctx.rds().instances.get_mut(&instance.name) {
        let group = found.settings.maps("DBParameterGroups").next();
        let name = group.map(|g| g.text_or_empty("DBParameterGroupName").to_owned());
        if let Some(name) = name {
            let synced = super::settings::parameter_membership(&name, "in-sync");
            found.settings.set("DBParameterGroups", synced);
        }
    }
    Ok(shown(ctx, &instance.name))
}

/// Replicas and their sources cannot be stopped (RDS user guide, "Stopping a DB instance").
pub(super) fn stop(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let instance = named(ctx.rds(), params, "DBInstanceIdentifier")?.clone();
    let has_replicas =
        ctx.rds().instances.values().any(|i| i.source.as_ref() == Some(&instance.name))
            || !instance.far_replicas.is_empty();
    if instance.source.is_some() || has_replicas || instance.cluster.is_some() {
        return Err(invalid_state(format!(
            "Cannot stop {}: read replicas, their sources and members of clusters cannot be stopped",
            instance.name
        )));
    }
    through(ctx, params, "available", ["stopping", "stopped"], seconds::STOP)?;
    if let Some(name) = params.text("DBSnapshotIdentifier").map(str::to_owned) {
        snapshots::take(ctx, &instance, &name, Tags::new())?;
    }
    let at = ctx.after(seconds::STOP + seconds::STOPPED_MOST);
    ctx.rds().at(at, Step::Restart { dbi: instance.dbi });
    Ok(shown(ctx, &instance.name))
}

pub(super) fn start(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let instance = named(ctx.rds(), params, "DBInstanceIdentifier")?;
    let from = match instance.status.as_ref() {
        // The way back from a key that was lost and came again.
        "inaccessible-encryption-credentials-recoverable" => {
            let key = instance.settings.text_or_empty("KmsKeyId").to_owned();
            if !ctx.world.key_enabled(&key) {
                return Err(Fault::new(400, "KMSKeyNotAccessibleFault", "The key is not enabled."));
            }
            "inaccessible-encryption-credentials-recoverable"
        }
        _ => "stopped",
    };
    let instance = through(ctx, params, from, ["starting", "available"], seconds::START)?;
    Ok(shown(ctx, &instance.name))
}

pub(super) fn add_role(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let name = named(ctx.rds(), params, "DBInstanceIdentifier")?.name.clone();
    let (arn, feature) = (params.required("RoleArn")?, params.required("FeatureName")?);
    let role = Map::new()
        .with("RoleArn", arn.to_owned())
        .with("FeatureName", feature.to_owned())
        .with("Status", "ACTIVE");
    if let Some(instance) = ctx.rds().instances.get_mut(&name) {
        if instance.roles.iter().any(|r| r.text("FeatureName") == Some(feature)) {
            let message = format!("{arn} is already associated with {name}");
            return Err(Fault::new(400, "DBInstanceRoleAlreadyExists", message));
        }
        instance.roles.push(role);
    }
    Ok(Map::new())
}

pub(super) fn remove_role(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let name = named(ctx.rds(), params, "DBInstanceIdentifier")?.name.clone();
    let feature = params.required("FeatureName")?;
    if let Some(instance) = ctx.rds().instances.get_mut(&name) {
        instance.roles.retain(|r| r.text("FeatureName") != Some(feature));
    }
    Ok(Map::new())
}

/// An automated backup, as Describe shows it.
pub(super) fn backup(
    instance: &Instance,
    account: AccountId,
    region: Region,
    status: &'static str,
    now: Time,
) -> Map {
    Map::new()
        .with("DBInstanceIdentifier", &instance.name)
        .with("DbiResourceId", &instance.dbi)
        .with("DBInstanceArn", instance.arn(account, region))
        .with("Region", region)
        .with("Status", status)
        .with("Encrypted", instance.settings.is("StorageEncrypted"))
        .with("BackupRetentionPeriod", instance.settings.number("BackupRetentionPeriod"))
        .with("InstanceCreateTime", instance.created.unwrap_or(now))
        .with("Engine", instance.settings.text_or_empty("Engine").to_owned())
}

pub(super) fn automated_backups(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let (account, region, now) = (ctx.account, ctx.region, ctx.now);
    let rds = ctx.rds();
    let active = rds
        .instances
        .values()
        .filter(|i| i.settings.number("BackupRetentionPeriod") > 0 && i.cluster.is_none())
        .map(|i| backup(i, account, region, "active", now));
    let mut all: Vec<Map> = active.chain(rds.kept_backups.iter().cloned()).collect();
    for field in ["DBInstanceIdentifier", "DbiResourceId"] {
        if let Some(wanted) = params.text(field) {
            all.retain(|map| map.text(field) == Some(wanted));
        }
    }
    all.sort_by_key(|map| map.text_or_empty("DbiResourceId").to_owned());
    page(params, "DBInstanceAutomatedBackups", "DBInstanceAutomatedBackup", all, |map| {
        map.text_or_empty("DbiResourceId").to_owned()
    })
}
