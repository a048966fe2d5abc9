//! Whom a manual snapshot of an instance is shared with.
//! Source: API reference, ModifyDBSnapshotAttribute and DescribeDBSnapshotAttributes.

use super::Snapshot;
use super::snapshots::named;
use crate::fault::Fault;
use crate::value::{Map, list};
use crate::world::Ctx;

fn show(snapshot: &Snapshot) -> Map {
    let restore = Map::new()
        .with("AttributeName", "restore")
        .with("AttributeValues", list("AttributeValue", snapshot.shared.clone()));
    let result = Map::new()
        .with("DBSnapshotIdentifier", &snapshot.name)
        .with("DBSnapshotAttributes", list("DBSnapshotAttribute", vec![restore]));
    Map::new().with("DBSnapshotAttributesResult", result)
}

pub(super) fn describe(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    named(&ctx.rds().snapshots, params, "DBSnapshotIdentifier").map(show)
}

pub(super) fn modify(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    if params.required("AttributeName")? != "restore" {
        let message = "AttributeName must be restore";
        return Err(Fault::new(400, "InvalidParameterValue", message));
    }
    let (add, remove) = (params.texts("ValuesToAdd"), params.texts("ValuesToRemove"));
    let snapshot = named(&ctx.rds().snapshots, params, "DBSnapshotIdentifier")?;
    // "Don't add the all value for any manual DB snapshots that contain private information", and an
    // encrypted one cannot have it (RDS user guide, "Sharing a DB snapshot").
    if snapshot.settings.is("StorageEncrypted") && add.iter().any(|a| a == "all") {
        let message = "Encrypted snapshots can't be shared with everybody.";
        return Err(Fault::new(400, "InvalidParameterValue", message));
    }
    let name = snapshot.name.clone();
    let Some(found) = ctx.rds().snapshots.get_mut(&name) else { return Ok(Map::new()) };
    found.shared.extend(add);
    found.shared.retain(|s| !remove.contains(s));
    found.shared.sort();
    found.shared.dedup();
    Ok(show(found))
}
