//! EC2, as far as RDS needs it: regions and security groups.
//! Source: EC2 API reference, DescribeRegions (without AllRegions: those that the account can use),
//! CreateSecurityGroup, DescribeSecurityGroups.

use super::rds::{default_security_group, groups::vpc};
use super::{Ctx, Op, op};
use crate::fault::Fault;
use crate::regions;
use crate::value::{Map, list};

pub(crate) const OPS: &[Op] = &[
    op!(Read "DescribeRegions" ("AllRegions", "RegionName", "Filter") describe_regions),
    op!(Write "CreateSecurityGroup" ("GroupName", "GroupDescription", "VpcId", "TagSpecification") create_group),
    op!(Read "DescribeSecurityGroups" ("GroupId", "GroupName", "Filter", "MaxResults", "NextToken") describe_groups),
    op!(Write "DeleteSecurityGroup" ("GroupId", "GroupName") delete_group),
];

#[derive(Debug, Clone)]
pub(crate) struct Group {
    id: String,
    name: String,
    description: String,
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
    if ctx.cell().groups.iter().any(|group| group.name == name) {
        let message = format!("The security group '{name}' already exists");
        return Err(Fault::new(400, "InvalidGroup.Duplicate", message));
    }
    let id = format!("sg-{}", ctx.id(17));
    ctx.cell().groups.push(Group { id: id.clone(), name, description });
    Ok(Map::new().with("groupId", id))
}

fn describe_groups(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let ids = params.texts("GroupId");
    let (account, region) = (ctx.account, ctx.region);
    let mut all = vec![Group {
        id: default_security_group(account, region),
        name: "default".into(),
        description: "default VPC security group".into(),
    }];
    all.extend(ctx.cell().groups.iter().cloned());
    if let Some(id) = ids.iter().find(|id| !all.iter().any(|group| group.id == **id)) {
        let message = format!("The security group '{id}' does not exist");
        return Err(Fault::new(400, "InvalidGroup.NotFound", message));
    }
    all.retain(|group| ids.is_empty() || ids.contains(&group.id));
    let nothing: [Map; 0] = [];
    let group = |group: &Group| {
        Map::new()
            .with("groupId", &group.id)
            .with("groupName", &group.name)
            .with("groupDescription", &group.description)
            .with("ownerId", account.to_string())
            .with("vpcId", vpc(account, region))
            .with("ipPermissions", list("item", nothing.clone()))
            .with("ipPermissionsEgress", list("item", nothing.clone()))
    };
    Ok(Map::new().with("securityGroupInfo", list("item", all.iter().map(group))))
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
        let message = format!("The security group '{id}' does not exist");
        return Err(Fault::new(400, "InvalidGroup.NotFound", message));
    }
    Ok(Map::new().with("return", true).with("groupId", id))
}
