//! Parameter, option and subnet groups.
//! Source: RDS API reference; group names are lower case, and a parameter group fits one family.

use super::super::{AccountId, Ctx, Region};
use crate::fault::Fault;
use crate::hash;
use crate::value::{Map, list};
use std::collections::BTreeMap;

#[derive(Debug, Clone, Default)]
pub(crate) struct Groups {
    parameter: BTreeMap<String, Map>,
    cluster_parameter: BTreeMap<String, Map>,
    option: BTreeMap<String, Map>,
    subnet: BTreeMap<String, Map>,
}

/// The id of the default VPC.
pub(crate) fn vpc(account: AccountId, region: Region) -> String {
    format!("vpc-{}", hash::letters(hash::of(account.0, region), 8))
}

impl Groups {
    pub(crate) fn subnet_group(
        &self,
        name: &str,
        account: AccountId,
        region: Region,
    ) -> Option<Map> {
        if name == "default" {
            return Some(subnets("default", "default", account, region));
        }
        self.subnet.get(name).cloned()
    }

    pub(crate) fn has_option_group(&self, name: &str) -> bool {
        self.option.contains_key(name)
    }

    pub(crate) fn check_parameter_group(&self, name: &str, family: &str) -> Result<(), Fault> {
        check(&self.parameter, name, family, "DBParameterGroupNotFound")
    }

    pub(crate) fn check_cluster_group(&self, name: &str, family: &str) -> Result<(), Fault> {
        check(&self.cluster_parameter, name, family, "DBClusterParameterGroupNotFound")
    }

    /// A parameter group, for worlds that are generated.
    pub(crate) fn add_parameter_group(&mut self, name: &str, family: &str) {
        let group = Map::new()
            .with("DBParameterGroupName", name.to_owned())
            .with("DBParameterGroupFamily", family.to_owned())
            .with("Description", "made by the generator");
        self.parameter.insert(name.to_owned(), group);
    }
}

fn check(
    groups: &BTreeMap<String, Map>,
    name: &str,
    family: &str,
    code: &'static str,
) -> Result<(), Fault> {
    if name.starts_with("default.") {
        return Ok(());
    }
    let Some(group) = groups.get(name) else {
        return Err(Fault::new(404, code, format!("DBParameterGroup not found: {name}")));
    };
    let made_for = group.text_or_empty("DBParameterGroupFamily");
    if made_for != family {
        let message = format!(
            "The parameter group {name} with DBParameterGroupFamily {made_for} can't be used for this instance. Please use a parameter group with DBParameterGroupFamily {family}"
        );
        return Err(Fault::new(400, "InvalidParameterCombination", message));
    }
    Ok(())
}

fn subnets(name: &str, description: &str, account: AccountId, region: Region) -> Map {
    let subnet = |zone: char| {
        Map::new()
            .with("SubnetIdentifier", format!("subnet-{}{zone}", hash::letters(account.0, 7)))
            .with("SubnetAvailabilityZone", Map::new().with("Name", format!("{region}{zone}")))
            .with("SubnetOutpost", Map::new())
            .with("SubnetStatus", "Active")
    };
    Map::new()
        .with("DBSubnetGroupName", name.to_owned())
        .with("DBSubnetGroupDescription", description.to_owned())
        .with("VpcId", vpc(account, region))
        .with("SubnetGroupStatus", "Complete")
        .with("Subnets", list("Subnet", ['a', 'b', 'c'].map(subnet)))
}

/// A kind of group: what its members are called.
struct Kind {
    name: &'static str,
    result: &'static str,
    plural: &'static str,
    item: &'static str,
    exists: &'static str,
    missing: &'static str,
    arn: &'static str,
    table: fn(&mut Groups) -> &mut BTreeMap<String, Map>,
}

const PARAMETER: Kind = Kind {
    name: "DBParameterGroupName",
    result: "DBParameterGroup",
    plural: "DBParameterGroups",
    item: "DBParameterGroup",
    exists: "DBParameterGroupAlreadyExists",
    missing: "DBParameterGroupNotFound",
    arn: "pg",
    table: |g| &mut g.parameter,
};
const CLUSTER_PARAMETER: Kind = Kind {
    name: "DBClusterParameterGroupName",
    result: "DBClusterParameterGroup",
    plural: "DBClusterParameterGroups",
    item: "DBClusterParameterGroup",
    exists: "DBParameterGroupAlreadyExists",
    missing: "DBParameterGroupNotFound",
    arn: "cluster-pg",
    table: |g| &mut g.cluster_parameter,
};
const OPTION: Kind = Kind {
    name: "OptionGroupName",
    result: "OptionGroup",
    plural: "OptionGroupsList",
    item: "OptionGroup",
    exists: "OptionGroupAlreadyExistsFault",
    missing: "OptionGroupNotFoundFault",
    arn: "og",
    table: |g| &mut g.option,
};
const SUBNET: Kind = Kind {
    name: "DBSubnetGroupName",
    result: "DBSubnetGroup",
    plural: "DBSubnetGroups",
    item: "DBSubnetGroup",
    exists: "DBSubnetGroupAlreadyExists",
    missing: "DBSubnetGroupNotFoundFault",
    arn: "subgrp",
    table: |g| &mut g.subnet,
};

/// What the item lists are called in XML; the option groups' is the odd one.
fn add(ctx: &mut Ctx<'_>, params: &Map, kind: &Kind, group: Map) -> Result<Map, Fault> {
    let name = params.required(kind.name)?.to_lowercase();
    super::check_name(&name, 255, kind.name)?;
    let arn = ctx.arn("rds", &format!("{}:{name}", kind.arn));
    let arn_member = format!("{}Arn", kind.result);
    let group = group.with(kind.name, &name).with(arn_member, arn);
    let table = (kind.table)(&mut ctx.rds().groups);
    if table.contains_key(&name) {
        return Err(Fault::new(400, kind.exists, format!("{name} already exists")));
    }
    table.insert(name, group.clone());
    Ok(Map::new().with(kind.result, group))
}

fn describe(ctx: &mut Ctx<'_>, params: &Map, kind: &Kind) -> Result<Map, Fault> {
    let wanted = params.text(kind.name).map(str::to_lowercase);
    let (account, region) = (ctx.account, ctx.region);
    let mut all: Vec<Map> = (kind.table)(&mut ctx.rds().groups).values().cloned().collect();
    if kind.result == "DBSubnetGroup" {
        let arn = ctx.arn("rds", "subgrp:default");
        all.insert(0, subnets("default", "default", account, region).with("DBSubnetGroupArn", arn));
    }
    if let Some(name) = &wanted {
        all.retain(|group| group.text(kind.name) == Some(name));
        let default = name.starts_with("default");
        if all.is_empty() && !default {
            return Err(Fault::new(
                404,
                kind.missing,
                format!("{} not found: {name}", kind.result),
            ));
        }
    }
    super::page(params, kind.plural, kind.item, all, |group| {
        group.text_or_empty(kind.name).to_owned()
    })
}

fn remove(ctx: &mut Ctx<'_>, params: &Map, kind: &Kind) -> Result<Map, Fault> {
    let name = params.required(kind.name)?.to_lowercase();
    match (kind.table)(&mut ctx.rds().groups).remove(&name) {
        Some(_) => Ok(Map::new()),
        None => Err(Fault::new(404, kind.missing, format!("{} not found: {name}", kind.result))),
    }
}

fn family(params: &Map) -> Result<Map, Fault> {
    Ok(Map::new()
        .with("DBParameterGroupFamily", params.required("DBParameterGroupFamily")?.to_owned())
        .with("Description", params.required("Description")?.to_owned()))
}

pub(super) fn create_parameter(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    add(ctx, params, &PARAMETER, family(params)?)
}

pub(super) fn create_cluster_parameter(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    add(ctx, params, &CLUSTER_PARAMETER, family(params)?)
}

pub(super) fn create_option(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let group = Map::new()
        .with("EngineName", params.required("EngineName")?.to_owned())
        .with("MajorEngineVersion", params.required("MajorEngineVersion")?.to_owned())
        .with("OptionGroupDescription", params.required("OptionGroupDescription")?.to_owned());
    add(ctx, params, &OPTION, group)
}

pub(super) fn create_subnet(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let description = params.required("DBSubnetGroupDescription")?;
    if params.texts("SubnetIds").is_empty() {
        return Err(Fault::validation("The request must contain the parameter SubnetIds"));
    }
    let group = subnets("", description, ctx.account, ctx.region);
    add(ctx, params, &SUBNET, group)
}

pub(super) fn parameters(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    describe(ctx, params, &PARAMETER)
}

pub(super) fn cluster_parameters(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    describe(ctx, params, &CLUSTER_PARAMETER)
}

pub(super) fn options(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    describe(ctx, params, &OPTION)
}

pub(super) fn subnet_groups(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    describe(ctx, params, &SUBNET)
}

pub(super) fn delete_parameter(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    remove(ctx, params, &PARAMETER)
}

pub(super) fn delete_cluster_parameter(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    remove(ctx, params, &CLUSTER_PARAMETER)
}

pub(super) fn delete_option(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    remove(ctx, params, &OPTION)
}

pub(super) fn delete_subnet(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    remove(ctx, params, &SUBNET)
}
