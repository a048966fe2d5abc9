//! Tags of RDS resources.
//! Source: RDS user guide, "Tagging": keys that start with `aws:` or `rds:` are reserved.

use super::{Rds, Tags};
use crate::fault::Fault;
use crate::value::Map;
use crate::world::Ctx;
use crate::world::organizations::{read_tags, write_tags};

/// Tags that one resource may have.
const MOST: usize = 50;

/// `Tags` of a request.
pub(crate) fn read(params: &Map) -> Result<Tags, Fault> {
    let tags = read_tags(params)?;
    let reserved = |key: &String| key.starts_with("aws:") || key.starts_with("rds:");
    if let Some(key) = tags.keys().find(|key| reserved(key)) {
        let message = format!("Tag keys cannot start with the reserved prefix: {key}");
        return Err(Fault::new(400, "InvalidParameterValue", message));
    }
    if tags.len() > MOST {
        let message = format!("A resource may have at most {MOST} tags");
        return Err(Fault::new(400, "InvalidParameterValue", message));
    }
    Ok(tags)
}

/// The tags of the resource with this ARN.
fn find<'a>(rds: &'a mut Rds, arn: &str) -> Result<&'a mut Tags, Fault> {
    let mut parts = arn.splitn(7, ':').skip(5);
    let (kind, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let (tags, code) = match kind {
        "db" => (rds.instances.get_mut(name).map(|i| &mut i.tags), "DBInstanceNotFound"),
        "cluster" => (rds.clusters.get_mut(name).map(|c| &mut c.tags), "DBClusterNotFoundFault"),
        "cluster-endpoint" => (
            rds.clusters.values_mut().find_map(|c| c.endpoint_tags.get_mut(name)),
            "DBClusterEndpointNotFoundFault",
        ),
        "deployment" => {
            let found = rds.deployments.iter_mut().find(|d| d.id == name);
            (found.map(|d| &mut d.tags), "BlueGreenDeploymentNotFoundFault")
        }
        "snapshot" => (rds.snapshots.get_mut(name).map(|s| &mut s.tags), "DBSnapshotNotFound"),
        "cluster-snapshot" => (
            rds.cluster_snapshots.get_mut(name).map(|s| &mut s.tags),
            "DBClusterSnapshotNotFoundFault",
        ),
        _ => {
            let message = format!("Invalid resource name: {arn}");
            return Err(Fault::new(400, "InvalidParameterValue", message));
        }
    };
    tags.ok_or_else(|| Fault::new(404, code, format!("Could not find {arn}")))
}

/// The tags of a resource, if it exists.
pub(crate) fn of(rds: &Rds, arn: &str) -> Option<Tags> {
    let mut parts = arn.splitn(7, ':').skip(5);
    match (parts.next()?, parts.next()?) {
        ("db", name) => rds.instances.get(name).map(|i| i.tags.clone()),
        ("cluster", name) => rds.clusters.get(name).map(|c| c.tags.clone()),
        ("cluster-endpoint", name) => {
            rds.clusters.values().find_map(|c| c.endpoint_tags.get(name).cloned())
        }
        ("deployment", name) => {
            rds.deployments.iter().find(|d| d.id == name).map(|d| d.tags.clone())
        }
        ("snapshot", name) => rds.snapshots.get(name).map(|s| s.tags.clone()),
        ("cluster-snapshot", name) => rds.cluster_snapshots.get(name).map(|s| s.tags.clone()),
        _ => None,
    }
}

pub(super) fn add(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let new = read(params)?;
    find(ctx.rds(), params.required("ResourceName")?)?.extend(new);
    Ok(Map::new())
}

pub(super) fn remove(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let keys = params.texts("TagKeys");
    find(ctx.rds(), params.required("ResourceName")?)?.retain(|key, _| !keys.contains(key));
    Ok(Map::new())
}

pub(super) fn list_tags(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let tags = find(ctx.rds(), params.required("ResourceName")?)?;
    Ok(Map::new().with("TagList", write_tags("Tag", tags)))
}
