//! EC2, as far as RDS needs it: regions and security groups.
//! Source: EC2 API reference, DescribeRegions (without AllRegions: those that the account can use),
//! CreateSecurityGroup, DescribeSecurityGroups, AuthorizeSecurityGroupIngress, RevokeSecurityGroupEgress.

use super::authorize::Resource;
use super::rds::{default_security_group, groups::vpc};
use super::{AccountId, Ctx, Op, Region, op};
use crate::fault::Fault;
use crate::regions;
use crate::value::{Map, list};
use std::collections::BTreeMap;

pub(crate) const OPS: &[Op] = &[
    op!(Read "DescribeRegions" ("AllRegions", "RegionName", "Filter") describe_regions),
    op!(Write "CreateSecurityGroup" ("GroupName", "GroupDescription", "VpcId", "TagSpecification") create_group),
    op!(Read "DescribeSecurityGroups" ("GroupId", "GroupName", "Filter", "MaxResults", "NextToken") describe_groups),
    op!(Write "AuthorizeSecurityGroupIngress" ("GroupId", "IpPermissions") let_in),
    op!(Write "RevokeSecurityGroupEgress" ("GroupId", "IpPermissions") revoke_out),
    op!(Write "DeleteSecurityGroup" ("GroupId", "GroupName") delete_group),
];

#[derive(Debug, Clone)]
pub(crate) struct Group {
    id: String,
    name: String,
    description: String,
    tags: BTreeMap<String, String>,
    lets_in: Vec<Map>,
    lets_out: Vec<Map>,
}

/// What a call is authorized against (Service Authorization Reference, Amazon EC2): a group that is made with tags
/// is created and tagged, each an action of its own.
pub(crate) fn resources(
    groups: &[Group],
    operation: &str,
    (account, region): (AccountId, Region),
    params: &Map,
) -> Vec<Resource> {
    let arn = |on: &str| format!("arn:aws:ec2:{region}:{account}:{on}");
    let id = params.text_or_empty("GroupId");
    match operation {
        "CreateSecurityGroup" => {
            let asked = tags(params);
            let group = Resource::new(arn("security-group/*")).tags("aws:RequestTag/", &asked);
            let mut all = vec![group.clone()];
            all.extend(params.text("VpcId").map(|vpc| Resource::new(arn(&format!("vpc/{vpc}")))));
            if !asked.is_empty() {
                let tag = group.text("ec2:CreateAction", operation);
                all.push(Resource { action: Some("ec2:CreateTags"), ..tag });
            }
            all
        }
        "AuthorizeSecurityGroupIngress" | "RevokeSecurityGroupEgress" | "DeleteSecurityGroup" => {
            let found = groups.iter().find(|g| g.id == id).map(|g| g.tags.clone());
            let resource = Resource::new(arn(&format!("security-group/{id}")));
            vec![resource.tags("aws:ResourceTag/", &found.unwrap_or_default())]
        }
        _ => vec![Resource::new(format!("arn:aws:ec2:{region}:{account}:*"))],
    }
}

fn tags(params: &Map) -> BTreeMap<String, String> {
    let all = params.maps("TagSpecification").flat_map(|of| of.maps("Tag"));
    all.map(|t| (t.text_or_empty("Key").to_owned(), t.text_or_empty("Value").to_owned())).collect()
}

/// A rule for everything, as AWS writes it.
fn everything() -> Map {
    let range = Map::new().with("cidrIp", "0.0.0.0/0");
    Map::new().with("ipProtocol", "-1").with("ipRanges", list("item", [range]))
}

/// A rule, from the names of a request to those of an answer.
fn rule(asked: &Map) -> Map {
    let ranges: Vec<Map> = asked
        .maps("IpRanges")
        .map(|r| Map::new().with("cidrIp", r.text_or_empty("CidrIp").to_owned()))
        .collect();
    Map::new()
        .with("ipProtocol", asked.text("IpProtocol").unwrap_or("-1").to_owned())
        .maybe("fromPort", asked.text("FromPort").map(str::to_owned))
        .maybe("toPort", asked.text("ToPort").map(str::to_owned))
        .with("ipRanges", list("item", ranges))
}

fn missing(id: &str) -> Fault {
    let message = format!("The security group '{id}' does not exist");
    Fault::new(400, "InvalidGroup.NotFound", message)
}

impl Ctx<'_> {
    /// Every security group that there is, the default one included.
    pub(crate) fn security_groups(&mut self) -> Vec<String> {
        let mut ids = vec![default_security_group(self.account, self.region)];
        ids.extend(self.cell().groups.iter().map(|group| group.id.clone()));
        ids
    }

    /// The key that RDS shall use; see [`super::World::key_for_rds`].
    pub(crate) fn rds_key(&mut self, name: Option<&str>) -> Result<String, Fault> {
        let place = (self.account, self.region);
        self.world.key_for_rds(place, self.who, name, self.now)
    }
}

fn describe_regions(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let all = params.flag("AllRegions")?.unwrap_or(false);
    let names = params.texts("RegionName");
    let mut found = Vec::new();
    for region in ctx.world.regions.clone() {
        let status = match (regions::opt_in(region), ctx.world.region_on(ctx.account, region)) {
            (false, _) => "opt-in-not-required",
            (true, true) => "opted-in",
            (true, false) => "not-opted-in",
        };
        if (all || status != "not-opted-in")
            && (names.is_empty() || names.iter().any(|n| n == region))
        {
            found.push(
                Map::new()
                    .with("regionName", region)
                    .with("regionEndpoint", format!("ec2.{region}.amazonaws.com"))
                    .with("optInStatus", status),
            );
        }
    }
    Ok(Map::new().with("regionInfo", list("item", found)))
}

fn create_group(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let name = params.required("GroupName")?.to_owned();
    let description = params.required("GroupDescription")?.to_owned();
    let own = vpc(ctx.account, ctx.region);
    if let Some(other) = params.text("VpcId").filter(|id| *id != own) {
        let message = format!("The vpc ID '{other}' does not exist");
        return Err(Fault::new(400, "InvalidVpcID.NotFound", message));
    }
    if ctx.cell().groups.iter().any(|group| group.name == name) {
        let message = format!("The security group '{name}' already exists for VPC '{own}'");
        return Err(Fault::new(400, "InvalidGroup.Duplicate", message));
    }
    let id = format!("sg-{}", ctx.id(17));
    let tags = tags(params);
    let lets_out = vec![everything()];
    ctx.cell().groups.push(Group {
        id: id.clone(),
        name,
        description,
        tags,
        lets_in: Vec::new(),
        lets_out,
    });
    Ok(Map::new().with("groupId", id))
}

fn describe_groups(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let ids = params.texts("GroupId");
    let (account, region) = (ctx.account, ctx.region);
    let own = vpc(account, region);
    let mut all = vec![Group {
        id: default_security_group(account, region),
        name: "default".into(),
        description: "default VPC security group".into(),
        tags: BTreeMap::new(),
        lets_in: Vec::new(),
        lets_out: vec![everything()],
    }];
    all.extend(ctx.cell().groups.iter().cloned());
    if let Some(id) = ids.iter().find(|id| !all.iter().any(|group| group.id == **id)) {
        return Err(missing(id));
    }
    all.retain(|group| ids.is_empty() || ids.contains(&group.id));
    for filter in params.maps("Filter") {
        let values = filter.texts("Value");
        let has = |text: &String| values.contains(text);
        match filter.text_or_empty("Name") {
            "group-id" => all.retain(|group| has(&group.id)),
            "group-name" => all.retain(|group| has(&group.name)),
            "vpc-id" => all.retain(|_| has(&own)),
            other => {
                return Err(Fault::validation(format!("the simulator has no filter '{other}'")));
            }
        }
    }
    let group = |group: &Group| {
        let tag =
            |(key, value): (&String, &String)| Map::new().with("key", key).with("value", value);
        Map::new()
            .with("groupId", &group.id)
            .with("groupName", &group.name)
            .with("groupDescription", &group.description)
            .with("ownerId", account.to_string())
            .with("vpcId", &own)
            .with("ipPermissions", list("item", group.lets_in.clone()))
            .with("ipPermissionsEgress", list("item", group.lets_out.clone()))
            .with("tagSet", list("item", group.tags.iter().map(tag)))
    };
    Ok(Map::new().with("securityGroupInfo", list("item", all.iter().map(group))))
}

fn let_in(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let id = params.required("GroupId")?.to_owned();
    let group = ctx.cell().groups.iter_mut().find(|g| g.id == id).ok_or_else(|| missing(&id))?;
    for asked in params.maps("IpPermissions") {
        let rule = rule(asked);
        if group.lets_in.contains(&rule) {
            let message = "the specified rule already exists";
            return Err(Fault::new(400, "InvalidPermission.Duplicate", message));
        }
        group.lets_in.push(rule);
    }
    Ok(Map::new().with("return", true))
}

fn revoke_out(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let id = params.required("GroupId")?.to_owned();
    let group = ctx.cell().groups.iter_mut().find(|g| g.id == id).ok_or_else(|| missing(&id))?;
    for asked in params.maps("IpPermissions") {
        let before = group.lets_out.len();
        let rule = rule(asked);
        group.lets_out.retain(|r| *r != rule);
        if group.lets_out.len() == before {
            let message = "The specified rule does not exist in this security group.";
            return Err(Fault::new(400, "InvalidPermission.NotFound", message));
        }
    }
    Ok(Map::new().with("return", true))
}

fn delete_group(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let id = params.required("GroupId")?.to_owned();
    let cell = ctx.cell();
    let used = cell.rds.instances.values().any(|i| {
        i.settings.maps("VpcSecurityGroups").any(|g| g.text("VpcSecurityGroupId") == Some(&id))
    });
    if used {
        let message = format!("resource {id} has a dependent object");
        return Err(Fault::new(400, "DependencyViolation", message));
    }
    let before = cell.groups.len();
    cell.groups.retain(|group| group.id != id);
    if cell.groups.len() == before {
        return Err(missing(&id));
    }
    Ok(Map::new().with("return", true).with("groupId", id))
}
