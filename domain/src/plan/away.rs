//! What is looked at in the other regions that a database has replicas in.

use super::checks::Checks;
use super::{Strategy, Wanted, around, green, held_names, isolation, names, standing, wanted};
use crate::far::{self, Far};
use crate::finding::{Finding, Resource};
use crate::id::Region;
use crate::remediation::Swap;
use std::collections::BTreeMap;

/// Each tree in another region than the source's, by the facts of that region; a swap gets the isolation groups. One that
/// leads back into the source's region has nothing there that the source has not.
pub(super) fn see(
    home: &Finding,
    far: &[Far<'_>],
    wanted: &Wanted,
    mut swap: Option<&mut Swap>,
    checks: &mut Checks,
) {
    for one in far {
        let resource = &one.finding.resource;
        // A verified twin has the name: that is said of its original.
        let held = home.held_by.is_some();
        names_free(one, (held, swap.is_some()), checks);
        let facts = one.cell.and_then(|c| c.around.as_ref());
        around::around(resource, facts, wanted.strategy != Strategy::SideBySide, checks);
        around::iam(resource, facts, checks);
        green::part_of(resource, facts, wanted.strategy, checks);
        if one.finding.region == home.region {
            continue;
        }
        standing::keyed(one.finding, one.cell, checks);
        partition(resource, checks);
        waived(one, checks);
        if let Some(swap) = swap.as_deref_mut() {
            let group = isolated(one, wanted, swap, checks);
            checks.block("isolation", group.err());
        }
    }
}

/// Somebody decided to live with one of them for a time; their source is worked on all the same.
fn waived(one: &Far<'_>, checks: &mut Checks) {
    let waiver = one.finding.waiver.iter();
    checks.warn("waivers", waiver.map(|w| format!(
        "{} in {} is waived until {} by {} ({}), and is rebuilt with its source all the same; it is not deleted while that holds",
        one.finding.resource.name(), one.finding.region, w.until, w.by, w.reason
    )));
}

/// The key of each of the other regions.
pub(super) fn keys(home: &Region, far: &[Far<'_>]) -> BTreeMap<Region, String> {
    let key = |f: &Far<'_>| {
        let key = f.cell?.key.as_ref()?.answer.as_ref().ok()?;
        Some((f.finding.region.clone(), key.arn.clone()))
    };
    far.iter().filter(|f| f.finding.region != *home).filter_map(key).collect()
}

fn names_free(one: &Far<'_>, (twin, swaps): (bool, bool), checks: &mut Checks) {
    let (finding, cell) = (one.finding, one.cell);
    let held = if swaps { held_names(&finding.resource) } else { Vec::new() };
    let all = [names(&finding.resource), held].concat();
    let taken = |name: &&String| cell.is_some_and(|c| c.has(finding.kind, name));
    let text = |name: &String| format!("the name {name} is taken in {}", finding.region);
    let taken = all.iter().filter(|_| !twin).filter(taken);
    checks.block("names", taken.map(text));
}

/// GovCloud and China want a presigned URL from the source's region ("This setting applies only to Amazon Web Services
/// GovCloud (US) Regions and China Amazon Web Services Regions", API reference, CreateDBInstanceReadReplica,
/// PreSignedUrl), which AWS's SDK for Rust does not make.
fn partition(resource: &Resource, checks: &mut Checks) {
    let other = resource.arn().split(':').nth(1).filter(|p| *p != "aws");
    checks.block("replicas", other.map(|partition| {
        format!(
            "{} is a replica across regions in {partition}, where AWS wants a presigned URL for a new one, which this version does not make: delete it, and create it anew from the twin (`aws rds create-db-instance-read-replica --source-region --kms-key-id`)",
            resource.arn()
        )
    }));
}

/// Notes the isolation group of that region. None is made there: what is made is approved for one region.
fn isolated(
    one: &Far<'_>,
    wanted: &Wanted,
    swap: &mut Swap,
    checks: &mut Checks,
) -> Result<(), String> {
    let (resource, region) = (&one.finding.resource, &one.finding.region);
    let said = |why: String| format!("{} in {region}: {why}", resource.name());
    let groups = one.cell.and_then(|c| c.groups.as_ref());
    let vpc = wanted::vpc(resource)
        .ok_or_else(|| said("its VPC is not known, so it cannot be isolated".into()))?;
    let there = Wanted { make_groups: false, ..wanted.clone() };
    let (group, _) = isolation::choose(vpc, groups, &there).map_err(|_| {
        said(format!(
            "{vpc} has no isolation group {}, as of the last scan, and none is made in another region than the source's: make one there without any rule (`aws ec2 create-security-group --region {region} --vpc-id {vpc}`, then revoke its egress), or name one in remediation.isolation_groups; scan, and plan again",
            wanted.isolation.name
        ))
    })?;
    if resource.instances().any(|i| i.settings.vpc_security_group_ids.contains(&group)) {
        return Err(said(format!(
            "it is in {group}, its isolation group, already: put it into its own groups first"
        )));
    }
    let before = swap.far_isolation.insert(region.clone(), group.clone());
    if let Some(other) = before.filter(|g| *g != group) {
        return Err(said(format!(
            "its replicas there would need both {other} and {group}: replicas in two VPCs of one region are not swapped by this version; plan it side by side"
        )));
    }
    let as_one = Swap { isolation: group, ..Swap::default() };
    isolation::see(Some(&as_one), Some(vpc), groups, checks);
    Ok(())
}

/// The replicas in other regions of what AWS makes a deployment of.
pub(super) fn no_deployment(resource: &Resource) -> Option<String> {
    let far = resource.instances().find(|i| far::region(&i.id).is_some())?;
    Some(format!(
        "{}: {} is in another region, and AWS makes no blue/green deployment of such a tree: plan a swap",
        resource.name(),
        far::said(&far.id)
    ))
}
