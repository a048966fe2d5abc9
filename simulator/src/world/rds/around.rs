//! What names databases from outside: proxies with their targets, and event subscriptions.
//!
//! Sources: RDS API reference, CreateDBProxy, RegisterDBProxyTargets, CreateEventSubscription and their
//! like. Whether a proxy or a subscription follows a rename is not documented: here they keep the name.

use super::{Rds, check_name, page};
use crate::fault::Fault;
use crate::value::{Map, list};
use crate::world::Ctx;
use std::collections::BTreeMap;

#[derive(Debug, Clone, Default)]
pub(crate) struct Around {
    /// By name: the proxy, and its targets.
    proxies: BTreeMap<String, (Map, Vec<Map>)>,
    subscriptions: BTreeMap<String, Map>,
}

fn no_proxy(name: &str) -> Fault {
    Fault::new(404, "DBProxyNotFoundFault", format!("DB proxy {name} not found"))
}

pub(super) fn create_proxy(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let name = params.required("DBProxyName")?.to_lowercase();
    check_name(&name, 63, "DBProxyName")?;
    let engine = params.required("EngineFamily")?.to_owned();
    let role = params.required("RoleArn")?.to_owned();
    if ctx.rds().around.proxies.contains_key(&name) {
        let message = format!("DB proxy {name} already exists");
        return Err(Fault::new(400, "DBProxyAlreadyExistsFault", message));
    }
    let proxy = Map::new()
        .with("DBProxyName", &name)
        .with("DBProxyArn", ctx.arn("rds", &format!("db-proxy:{name}")))
        .with("Status", "available")
        .with("EngineFamily", engine)
        .with("RoleArn", role);
    ctx.rds().around.proxies.insert(name, (proxy.clone(), Vec::new()));
    Ok(Map::new().with("DBProxy", proxy))
}

pub(super) fn proxies(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let all = ctx.rds().around.proxies.values().map(|(proxy, _)| proxy.clone());
    let only = params.text("DBProxyName").map(str::to_lowercase);
    let all: Vec<Map> =
        all.filter(|p| only.as_ref().is_none_or(|n| p.text("DBProxyName") == Some(n))).collect();
    if let (Some(name), true) = (&only, all.is_empty()) {
        return Err(no_proxy(name));
    }
    page(params, "DBProxies", "member", all, |p| p.text_or_empty("DBProxyName").to_owned())
}

/// The proxy's targets, to be changed.
fn targets_of<'a>(rds: &'a mut Rds, params: &Map) -> Result<&'a mut Vec<Map>, Fault> {
    let name = params.required("DBProxyName")?.to_lowercase();
    rds.around.proxies.get_mut(&name).map(|(_, targets)| targets).ok_or_else(|| no_proxy(&name))
}

pub(super) fn register(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let (instances, clusters) =
        (params.texts("DBInstanceIdentifiers"), params.texts("DBClusterIdentifiers"));
    let mut made = Vec::new();
    let target = |kind: &'static str, id: &str| {
        Map::new().with("Type", kind).with("RdsResourceId", id.to_owned())
    };
    for id in &instances {
        if !ctx.rds().instances.contains_key(id) {
            return Err(Fault::new(
                404,
                "DBInstanceNotFound",
                format!("DBInstance {id} not found."),
            ));
        }
        made.push(target("RDS_INSTANCE", id));
    }
    for id in &clusters {
        let Some(cluster) = ctx.rds().clusters.get(id) else {
            let message = format!("DBCluster {id} not found.");
            return Err(Fault::new(404, "DBClusterNotFoundFault", message));
        };
        let members = cluster.members.clone();
        made.push(target("TRACKED_CLUSTER", id));
        for member in members {
            made.push(target("RDS_INSTANCE", &member).with("TrackedClusterId", id.clone()));
        }
    }
    let targets = targets_of(ctx.rds(), params)?;
    // "One target DB per proxy" (RDS guide, "Limitations of RDS Proxy").
    if !targets.is_empty() {
        let message = "The proxy is already associated with a target.";
        return Err(Fault::new(400, "DBProxyTargetAlreadyRegisteredFault", message));
    }
    targets.extend(made.iter().cloned());
    Ok(Map::new().with("DBProxyTargets", list("member", made)))
}

pub(super) fn deregister(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let gone: Vec<String> =
        [params.texts("DBInstanceIdentifiers"), params.texts("DBClusterIdentifiers")].concat();
    let is = |t: &Map, field: &str| t.text(field).is_some_and(|id| gone.iter().any(|g| g == id));
    let targets = targets_of(ctx.rds(), params)?;
    let before = targets.len();
    targets.retain(|t| !is(t, "RdsResourceId") && !is(t, "TrackedClusterId"));
    if targets.len() == before {
        let message = "The proxy has no such target.";
        return Err(Fault::new(404, "DBProxyTargetNotFoundFault", message));
    }
    Ok(Map::new())
}

pub(super) fn targets(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let all = targets_of(ctx.rds(), params)?.clone();
    page(params, "Targets", "member", all, |t| t.text_or_empty("RdsResourceId").to_owned())
}

pub(super) fn create_subscription(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let name = params.required("SubscriptionName")?.to_lowercase();
    let topic = params.required("SnsTopicArn")?.to_owned();
    if ctx.rds().around.subscriptions.contains_key(&name) {
        let message = format!("Subscription {name} already exists");
        return Err(Fault::new(400, "SubscriptionAlreadyExist", message));
    }
    let kind = params.text("SourceType").map(str::to_owned);
    let sources = params.texts("SourceIds");
    if kind.is_none() && !sources.is_empty() {
        let message = "SourceIds need a SourceType";
        return Err(Fault::new(400, "InvalidParameterCombination", message));
    }
    let made = Map::new()
        .with("CustSubscriptionId", &name)
        .with("SnsTopicArn", topic)
        .with("Status", "active")
        .with("Enabled", params.flag("Enabled")?.unwrap_or(true))
        .maybe("SourceType", kind)
        .with("SourceIdsList", list("SourceId", sources))
        .with("EventSubscriptionArn", ctx.arn("rds", &format!("es:{name}")));
    ctx.rds().around.subscriptions.insert(name, made.clone());
    Ok(Map::new().with("EventSubscription", made))
}

pub(super) fn subscriptions(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let all = ctx.rds().around.subscriptions.values().cloned().collect();
    page(params, "EventSubscriptionsList", "EventSubscription", all, |s| {
        s.text_or_empty("CustSubscriptionId").to_owned()
    })
}
