//! ModifyDBInstance and ModifyDBCluster.
//!
//! What needs work on the machine is seen in PendingModifiedValues, the status stays `available` for a
//! moment, goes to `modifying`, and comes back: a waiter that looks right after the call sees
//! `available` and nothing done. Without ApplyImmediately such changes wait for a maintenance window,
//! which never comes here.

use super::clusters::{self, collect as collect_cluster};
use super::instances::{self, STORAGE, check_class, combination, domain_and_secret, invalid_state};
use super::settings::{Facts, Modify, SETTINGS};
use super::{Step, check_name, seconds};
use crate::fault::Fault;
use crate::value::{Map, Value, list};
use crate::world::Ctx;

pub(super) fn instance(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let instance = instances::named(ctx.rds(), params, "DBInstanceIdentifier")?.clone();
    if instance.status != "available" {
        return Err(invalid_state(format!(
            "Database instance {} is not in available state.",
            instance.name
        )));
    }
    if instance.cluster.is_some() {
        super::members::refuse_the_clusters(params)?;
    }
    let now_or_never = params.flag("ApplyImmediately")?.unwrap_or(false);
    let new_name = new_name(ctx, params, &instance.name)?;
    let (mut at_once, mut later) = changes(ctx, params, &instance)?;
    if let Some(version) = params.text("EngineVersion")
        && instance.settings.text("EngineVersion") != Some(version)
    {
        later.set("EngineVersion", version.to_owned());
    }
    if let Some(port) = params.int("DBPortNumber")?
        && port != instance.port
    {
        later.set("Port", port);
    }
    if let Some(class) = later.text("DBInstanceClass") {
        check_class(class, instance.settings.is("StorageEncrypted"))?;
    }
    if let Some(size) = params.int("AllocatedStorage")?
        && (size < instance.settings.number("AllocatedStorage") || !STORAGE.contains(&size))
    {
        return Err(combination("Requested storage size is smaller than the current one"));
    }
    logs(params, &instance.settings, &mut at_once);
    let managed = params.flag("ManageMasterUserPassword")?.unwrap_or(false);
    if managed && !instance.settings.has("MasterUserSecret") {
        domain_and_secret(ctx, params, true, &mut at_once)?;
    } else if params.has("Domain") {
        domain_and_secret(ctx, params, false, &mut at_once)?;
    }
    // A new parameter group is in force after a reboot only.
    if let Some(group) = params.text("DBParameterGroupName") {
        let pending = super::settings::parameter_membership(group, "pending-reboot");
        at_once.set("DBParameterGroups", pending);
    }
    begin(ctx, &instance, at_once, later, new_name, now_or_never);
    Ok(instances::shown(ctx, &instance.name))
}

fn new_name(ctx: &mut Ctx<'_>, params: &Map, old: &str) -> Result<Option<String>, Fault> {
    let Some(name) = params.text("NewDBInstanceIdentifier") else {
        return Ok(None);
    };
    let name = name.to_lowercase();
    check_name(&name, 63, "NewDBInstanceIdentifier")?;
    if name != old && ctx.rds().instance_name_taken(&name) {
        return Err(Fault::new(400, "DBInstanceAlreadyExists", "DB instance already exists"));
    }
    Ok((name != old).then_some(name))
}

/// The changes in force at once, and those that wait.
fn changes(
    ctx: &mut Ctx<'_>,
    params: &Map,
    instance: &super::Instance,
) -> Result<(Map, Map), Fault> {
    let (account, region) = (ctx.account, ctx.region);
    let security_groups = ctx.security_groups();
    let version = instance.settings.text_or_empty("EngineVersion");
    let groups = &ctx.rds().groups;
    let engine = instance.engine()?;
    let facts = Facts {
        engine,
        version,
        account,
        region,
        params,
        groups,
        security_groups: &security_groups,
    };
    let (mut at_once, mut later) = (Map::new(), Map::new());
    for setting in SETTINGS {
        let Some(value) = setting.given(&facts)? else { continue };
        if instance.settings.get(setting.member) == Some(&value) {
            continue;
        }
        match setting.modify {
            Modify::AtOnce => at_once.set(setting.member, value),
            Modify::Later => later.set(setting.member, value),
            Modify::Never => {
                let message = format!("{} cannot be modified", setting.input);
                return Err(combination(message));
            }
        }
    }
    let mut after = instance.settings.clone();
    for (name, value) in at_once.iter() {
        after.set(name.to_owned(), value.clone());
    }
    if after.number("MonitoringInterval") > 0
        && after.text("MonitoringRoleArn").is_none()
        && (params.has("MonitoringInterval") || params.has("MonitoringRoleArn"))
    {
        return Err(combination(
            "A MonitoringRoleARN value is required if you specify a MonitoringInterval value other than 0.",
        ));
    }
    if after.is("PerformanceInsightsEnabled") && !after.has("PerformanceInsightsRetentionPeriod") {
        at_once.set("PerformanceInsightsRetentionPeriod", 7);
    }
    Ok((at_once, later))
}

/// `CloudwatchLogsExportConfiguration`: types to turn on and off.
fn logs(params: &Map, settings: &Map, at_once: &mut Map) {
    let Some(change) = params.map("CloudwatchLogsExportConfiguration") else {
        return;
    };
    let off = change.texts("DisableLogTypes");
    let mut types = settings.texts("EnabledCloudwatchLogsExports");
    types.retain(|kind| !off.contains(kind));
    for kind in change.texts("EnableLogTypes") {
        if !types.contains(&kind) {
            types.push(kind);
        }
    }
    at_once.set("EnabledCloudwatchLogsExports", list("member", types));
}

fn begin(
    ctx: &mut Ctx<'_>,
    instance: &super::Instance,
    at_once: Map,
    later: Map,
    new_name: Option<String>,
    immediately: bool,
) {
    let dbi = instance.dbi.clone();
    let starts = ctx.after(seconds::MODIFY_STARTS);
    let ends = ctx.after(seconds::MODIFY_STARTS + seconds::MODIFY);
    let renamed = ctx.after(seconds::RENAME);
    let up = ctx.after(seconds::RENAME + seconds::REBOOT);
    let rds = ctx.rds();
    let Some(found) = rds.instances.get_mut(&instance.name) else { return };
    found.apply(at_once);
    for (name, value) in later.iter() {
        // Groups and volumes are shown as names there.
        let shown = match (name, value) {
            ("DBSubnetGroup", Value::Map(group)) => (
                "DBSubnetGroupName",
                group.get("DBSubnetGroupName").cloned().unwrap_or(Value::from("")),
            ),
            (name, value) => (name, value.clone()),
        };
        found.pending.set(shown.0.to_owned(), shown.1);
    }
    if let Some(name) = new_name.as_ref().filter(|_| !immediately) {
        found.pending.set("DBInstanceIdentifier", name);
    }
    if let Some(name) = new_name.filter(|_| immediately) {
        // Shown under the old name until the new one comes, with a reboot.
        found.status = "renaming".into();
        found.new_name = Some(name.clone());
        found.pending.set("DBInstanceIdentifier", &name);
        rds.forget_states(&dbi);
        rds.at(renamed, Step::Modified { dbi: dbi.clone(), changes: later });
        rds.at(renamed, Step::Renamed { dbi: dbi.clone(), name });
        rds.at(up, Step::Instance { dbi, status: "available" });
        return;
    }
    if immediately && !later.is_empty() {
        rds.at(starts, Step::Instance { dbi: dbi.clone(), status: "modifying" });
        rds.at(ends, Step::Modified { dbi: dbi.clone(), changes: later });
        rds.at(ends, Step::Instance { dbi, status: "available" });
    }
}

pub(super) fn cluster(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let cluster = clusters::named(ctx.rds(), params)?.clone();
    if cluster.status != "available" {
        let message = format!("DB cluster {} is not in available state.", cluster.name);
        return Err(Fault::new(400, "InvalidDBClusterStateFault", message));
    }
    let new_name = match params.text("NewDBClusterIdentifier").map(str::to_lowercase) {
        None => None,
        Some(name) => {
            check_name(&name, 63, "NewDBClusterIdentifier")?;
            if ctx.rds().cluster_name_taken(&name) {
                let message = format!("DB cluster {name} already exists");
                return Err(Fault::new(400, "DBClusterAlreadyExistsFault", message));
            }
            Some(name)
        }
    };
    let engine = cluster.engine()?;
    let version = cluster.settings.text_or_empty("EngineVersion").to_owned();
    let mut changes = collect_cluster(ctx, params, engine, &version, false)?;
    logs(params, &cluster.settings, &mut changes);
    if let Some(version) = params.text("EngineVersion") {
        changes.set("EngineVersion", version.to_owned());
    }
    if let Some(port) = params.int("Port")? {
        changes.set("Port", port);
    }
    if let Some(on) = params.flag("EnableLocalWriteForwarding")? {
        changes.set("LocalWriteForwardingStatus", if on { "enabled" } else { "disabled" });
    }
    if params.flag("ManageMasterUserPassword")?.unwrap_or(false)
        && !cluster.settings.has("MasterUserSecret")
    {
        domain_and_secret(ctx, params, true, &mut changes)?;
    }
    let immediately = params.flag("ApplyImmediately")?.unwrap_or(false);
    let (ends, renamed) = (ctx.after(seconds::MODIFY), ctx.after(seconds::RENAME));
    let id = cluster.resource_id.clone();
    let rds = ctx.rds();
    if let Some(found) = rds.clusters.get_mut(&cluster.name) {
        // Most of a cluster's settings are in force with the answer.
        found.apply(changes);
        if let Some(name) = new_name.filter(|_| immediately) {
            found.status = "renaming".into();
            found.new_name = Some(name.clone());
            rds.forget_states(&id);
            rds.at(renamed, Step::ClusterRenamed { id, name });
        } else {
            found.status = "modifying".into();
            rds.at(ends, Step::Cluster { id, status: "available" });
        }
    }
    Ok(clusters::shown(ctx, &cluster.name))
}
