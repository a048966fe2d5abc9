//! CloudFormation, as far as somebody asks which StackSets follow accounts from OU to OU; no stack is ever made.
//! Source: CloudFormation API reference, CreateStackSet, CreateStackInstances, ListStackSets, ListStackSetAutoDeploymentTargets.

use super::{Ctx, Op, op};
use crate::fault::Fault;
use crate::value::{Map, list};
use std::collections::BTreeMap;

pub(crate) const OPS: &[Op] = &[
    op!(Write "CreateStackSet" (
        "StackSetName", "Description", "TemplateBody", "PermissionModel", "AutoDeployment", "CallAs", "ClientRequestToken",
    ) create),
    op!(Write "CreateStackInstances" ("StackSetName", "DeploymentTargets", "Regions", "CallAs", "OperationId") deploy),
    op!(Read "ListStackSets" ("Status", "CallAs", "MaxResults", "NextToken") list_all),
    op!(Read "ListStackSetAutoDeploymentTargets" ("StackSetName", "CallAs", "MaxResults", "NextToken") targets),
];

/// A StackSet: how it deploys, and where to.
#[derive(Debug, Clone, Default)]
pub(crate) struct StackSet {
    managed: bool,
    automatic: bool,
    retains: bool,
    /// Regions by OU.
    targets: BTreeMap<String, Vec<String>>,
}

fn create(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let name = params.required("StackSetName")?.to_owned();
    if ctx.cell().stack_sets.contains_key(&name) {
        let message = format!("StackSet {name} already exists");
        return Err(Fault::new(409, "NameAlreadyExistsException", message));
    }
    let managed = params.text_or_empty("PermissionModel") == "SERVICE_MANAGED";
    let none = Map::new();
    let deployment = params.map("AutoDeployment").unwrap_or(&none);
    let automatic = deployment.flag("Enabled")?.unwrap_or(false);
    let retains = deployment.flag("RetainStacksOnAccountRemoval")?.unwrap_or(false);
    let set = StackSet { managed, automatic, retains, targets: BTreeMap::new() };
    ctx.cell().stack_sets.insert(name.clone(), set);
    Ok(Map::new().with("StackSetId", format!("{name}:00000000-0000-0000-0000-000000000000")))
}

fn missing(name: &str) -> Fault {
    Fault::new(404, "StackSetNotFoundException", format!("StackSet {name} not found"))
}

fn deploy(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let name = params.required("StackSetName")?.to_owned();
    let none = Map::new();
    let ous = params.map("DeploymentTargets").unwrap_or(&none).texts("OrganizationalUnitIds");
    let regions = params.texts("Regions");
    let set = ctx.cell().stack_sets.get_mut(&name).ok_or_else(|| missing(&name))?;
    set.targets.extend(ous.into_iter().map(|ou| (ou, regions.clone())));
    Ok(Map::new().with("OperationId", "00000000-0000-0000-0000-000000000000"))
}

/// One page of these, and the token of the next one.
fn page(params: &Map, all: Vec<Map>) -> Result<Map, Fault> {
    let most = usize::try_from(params.int("MaxResults")?.unwrap_or(100).clamp(1, 100)).unwrap_or(1);
    let from: usize = params.text("NextToken").and_then(|t| t.parse().ok()).unwrap_or(0);
    let next = from.saturating_add(most);
    let more = (next < all.len()).then(|| next.to_string());
    let some: Vec<Map> = all.into_iter().skip(from).take(most).collect();
    Ok(Map::new().with("Summaries", list("member", some)).maybe("NextToken", more))
}

fn list_all(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let sets = ctx.cell().stack_sets.clone();
    let summary = |(name, set): (String, StackSet)| {
        let model = if set.managed { "SERVICE_MANAGED" } else { "SELF_MANAGED" };
        let deployment = Map::new()
            .with("Enabled", set.automatic)
            .with("RetainStacksOnAccountRemoval", set.retains);
        let map = Map::new().with("StackSetName", name).with("Status", "ACTIVE");
        let map = map.with("PermissionModel", model);
        if set.managed { map.with("AutoDeployment", deployment) } else { map }
    };
    page(params, sets.into_iter().map(summary).collect())
}

fn targets(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let name = params.required("StackSetName")?.to_owned();
    let set = ctx.cell().stack_sets.get(&name).cloned().ok_or_else(|| missing(&name))?;
    let summary = |(ou, regions): (String, Vec<String>)| {
        Map::new().with("OrganizationalUnitId", ou).with("Regions", list("member", regions))
    };
    page(params, set.targets.into_iter().map(summary).collect())
}
