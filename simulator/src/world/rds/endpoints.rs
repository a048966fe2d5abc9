//! Custom endpoints and roles of Aurora clusters.
//! Source: Aurora user guide, "Custom endpoints for Amazon Aurora".

use super::clusters::named;
use super::{check_name, page, tags};
use crate::fault::Fault;
use crate::hash;
use crate::value::{Map, list};
use crate::world::Ctx;

/// Names of custom endpoints are unique in an account and region.
pub(super) fn create_endpoint(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let cluster = named(ctx.rds(), params)?.clone();
    let name = params.required("DBClusterEndpointIdentifier")?.to_lowercase();
    check_name(&name, 63, "DBClusterEndpointIdentifier")?;
    let kind = params.required("EndpointType")?.to_owned();
    if !["READER", "WRITER", "ANY"].contains(&kind.as_str()) {
        let message = "EndpointType must be READER, WRITER or ANY";
        return Err(Fault::new(400, "InvalidParameterValue", message));
    }
    let taken = ctx.rds().clusters.values().flat_map(|c| &c.endpoints);
    if taken.clone().any(|e| e.text("DBClusterEndpointIdentifier") == Some(&name)) {
        let message = format!("DB cluster endpoint {name} already exists");
        return Err(Fault::new(400, "DBClusterEndpointAlreadyExistsFault", message));
    }
    let unique = hash::letters(hash::of(ctx.account.0, ctx.region), 12);
    let endpoint = Map::new()
        .with("DBClusterEndpointIdentifier", &name)
        .with("DBClusterIdentifier", &cluster.name)
        .with(
            "Endpoint",
            format!("{name}.cluster-custom-{unique}.{}.rds.amazonaws.com", ctx.region),
        )
        .with("Status", "available")
        .with("EndpointType", "CUSTOM")
        .with("CustomEndpointType", kind)
        .with("StaticMembers", list("member", params.texts("StaticMembers")))
        .with("ExcludedMembers", list("member", params.texts("ExcludedMembers")))
        .with("DBClusterEndpointArn", ctx.arn("rds", &format!("cluster-endpoint:{name}")));
    let tags = tags::read(params)?;
    if let Some(found) = ctx.rds().clusters.get_mut(&cluster.name) {
        found.endpoints.push(endpoint.clone());
        found.endpoint_tags.insert(name, tags);
    }
    Ok(endpoint)
}

pub(super) fn endpoints(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let mut all = Vec::new();
    for cluster in ctx.rds().clusters.values() {
        if params.text("DBClusterIdentifier").is_some_and(|n| n != cluster.name) {
            continue;
        }
        for kind in ["WRITER", "READER"] {
            all.push(
                Map::new()
                    .with("DBClusterIdentifier", &cluster.name)
                    .with("EndpointType", kind)
                    .with("Status", "available"),
            );
        }
        // A cluster keeps its endpoints when it gets another name.
        let now = |e: &Map| {
            let mut e = e.clone();
            e.set("DBClusterIdentifier", &cluster.name);
            e
        };
        all.extend(cluster.endpoints.iter().map(now));
    }
    if let Some(name) = params.text("DBClusterEndpointIdentifier") {
        all.retain(|e| e.text("DBClusterEndpointIdentifier") == Some(name));
    }
    let key = |map: &Map| {
        let part = |name| map.text_or_empty(name);
        format!(
            "{}/{}{}",
            part("DBClusterIdentifier"),
            part("EndpointType"),
            part("DBClusterEndpointIdentifier")
        )
    };
    all.sort_by_key(key);
    page(params, "DBClusterEndpoints", "DBClusterEndpointList", all, key)
}

pub(super) fn delete_endpoint(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let name = params.required("DBClusterEndpointIdentifier")?.to_lowercase();
    for cluster in ctx.rds().clusters.values_mut() {
        let found = cluster
            .endpoints
            .iter()
            .position(|e| e.text("DBClusterEndpointIdentifier") == Some(&name));
        if let Some(i) = found {
            cluster.endpoint_tags.remove(&name);
            return Ok(cluster.endpoints.remove(i).with("Status", "deleting"));
        }
    }
    let message = format!("DBClusterEndpoint not found: {name}");
    Err(Fault::new(404, "DBClusterEndpointNotFoundFault", message))
}

pub(super) fn add_role(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let name = named(ctx.rds(), params)?.name.clone();
    let role = Map::new()
        .with("RoleArn", params.required("RoleArn")?.to_owned())
        .with("Status", "ACTIVE")
        .maybe("FeatureName", params.text("FeatureName").map(str::to_owned));
    if let Some(cluster) = ctx.rds().clusters.get_mut(&name) {
        if cluster.roles.iter().any(|r| r.text("RoleArn") == role.text("RoleArn")) {
            let message = "The role is already associated with the cluster";
            return Err(Fault::new(400, "DBClusterRoleAlreadyExists", message));
        }
        cluster.roles.push(role);
    }
    Ok(Map::new())
}
