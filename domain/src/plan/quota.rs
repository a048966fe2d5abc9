//! Whether the quotas of an account and region have room for what a plan makes there.

use super::{Check, Item, Strategy, Verdict, standing};
use crate::far;
use crate::finding::Resource;
use crate::id::{AccountId, Region};
use crate::ledger::Cell;
use crate::rds::{Instance, Quota, Quotas};
use std::collections::BTreeMap;

/// The check's name.
const NAME: &str = "quotas";

/// What one database needs, by the names of `rds:DescribeAccountAttributes`: twins stay, so their needs add
/// up. Storage is in GiB; that of Aurora is not allocated.
fn stays(resource: &Resource, far: Option<&Region>) -> BTreeMap<&'static str, i64> {
    let here = |i: &&Instance| far::region(&i.id).as_ref() == far;
    let count = i64::try_from(resource.instances().filter(here).count()).unwrap_or(i64::MAX);
    let mut needs = BTreeMap::from([("DBInstances", count)]);
    match resource {
        Resource::Instance { .. } => {
            needs.insert("AllocatedStorage", resource.instances().filter(here).map(storage).sum());
        }
        Resource::Cluster { .. } => {
            needs.insert("DBClusters", 1);
        }
        Resource::Snapshot { .. } => return BTreeMap::from([("ManualSnapshots", 1)]),
    }
    needs
}

/// The snapshots that stand at a time while one database is worked on.
fn passes(item: &Item) -> (&'static str, i64) {
    match &item.resource {
        // AWS copies by itself.
        _ if Strategy::of(item.swap.as_ref()) == Strategy::BlueGreen => ("ManualSnapshots", 0),
        Resource::Instance { .. } => ("ManualSnapshots", 2),
        Resource::Cluster { .. } => ("ManualClusterSnapshots", 1),
        Resource::Snapshot { .. } => ("ManualSnapshots", 0),
    }
}

/// The storage of one instance, in GiB.
fn storage(instance: &Instance) -> i64 {
    let volumes = instance.settings.additional_storage_volumes.iter();
    let more: i64 = volumes.filter_map(|v| v.allocated_storage).map(i64::from).sum();
    i64::from(instance.settings.allocated_storage.unwrap_or(0)) + more
}

/// The storage of a database with its replicas, or of the database that a snapshot is of, in GiB; 0 for
/// Aurora, which allocates none.
pub(super) fn gib(resource: &Resource) -> i64 {
    match resource {
        Resource::Instance { .. } => resource.instances().map(storage).sum(),
        Resource::Cluster { .. } => 0,
        Resource::Snapshot { snapshot, .. } => {
            snapshot.setting("AllocatedStorage").parse().unwrap_or(0)
        }
    }
}

/// A quota of a cell.
type Place<'a> = (&'a AccountId, Region, &'static str);

fn place<'a>(item: &'a Item, far: Option<&Region>, name: &'static str) -> Place<'a> {
    (&item.account, far.unwrap_or(&item.region).clone(), name)
}

/// The check of each item that is ready, in the plan's order: those of one cell share its quotas.
pub fn fit(items: &[&Item], cells: &BTreeMap<(AccountId, String), Cell>) -> Vec<(usize, Check)> {
    let ready = || items.iter().copied().enumerate().filter(|(_, item)| item.ready());
    let mut at_once: BTreeMap<Place<'_>, i64> = BTreeMap::new();
    for (_, item) in ready() {
        *at_once.entry(place(item, None, passes(item).0)).or_default() += 1;
    }
    let mut planned: BTreeMap<Place<'_>, i64> = BTreeMap::new();
    let mut checks = Vec::new();
    for (n, item) in ready() {
        let regions: Vec<Region> = item.resource.far_regions().into_iter().collect();
        let far = || regions.iter().map(Some);
        let of = |far: Option<&Region>| quotas(item, far.unwrap_or(&item.region), cells);
        // All of its regions have room, or none of them gives any.
        let lacking = |far: Option<&Region>| {
            let text = of(far).ok().and_then(|q| full(item, far, q, &planned))?;
            Some(far.map_or(text.clone(), |region| format!("{text} (in {region})")))
        };
        let full = std::iter::once(None).chain(far()).find_map(lacking);
        let check = match of(None) {
            Err(why) => warn(why),
            Ok(quotas) => judge(item, quotas, &at_once, full.as_ref()),
        };
        let blocked = check.verdict == Verdict::Block;
        checks.push((n, check));
        if let Some(text) = full.filter(|_| !blocked) {
            checks.push((n, Check::new(NAME, Verdict::Block, text)));
            continue;
        }
        for far in std::iter::once(None).chain(far()).filter(|_| !blocked) {
            if let (Some(region), Err(why)) = (far, of(far)) {
                checks.push((n, warn(format!("{region}: {why}"))));
            }
            for (name, need) in stays(&item.resource, far) {
                *planned.entry(place(item, far, name)).or_default() += need;
            }
        }
    }
    checks
}

/// The quotas of a region of an item's account, or why they are not known.
fn quotas<'a>(
    item: &Item,
    region: &Region,
    cells: &'a BTreeMap<(AccountId, String), Cell>,
) -> Result<&'a Quotas, String> {
    let cell = cells.get(&(item.account.clone(), region.as_str().to_owned()));
    match cell.and_then(|c| c.quotas.as_ref()) {
        Some(Ok(quotas)) => Ok(quotas),
        Some(Err(why)) => {
            Err(format!("they could not be read ({why}): a copy that finds one used up stops"))
        }
        None => Err(format!("they were not read: {}", standing::scan(item.kind))),
    }
}

/// One item's check in its own region, given what has no room.
fn judge<'a>(
    item: &'a Item,
    quotas: &Quotas,
    at_once: &BTreeMap<Place<'a>, i64>,
    full: Option<&String>,
) -> Check {
    let (snapshots, need) = passes(item);
    let lacking = lacks(quotas, snapshots, 0, need);
    if let Some(text) = lacking.or_else(|| full.cloned()) {
        return Check::new(NAME, Verdict::Block, text);
    }
    let many = at_once.get(&place(item, None, snapshots)).copied().unwrap_or_default();
    tight(quotas, snapshots, need, many)
}

/// Why what stays has no room in one of its regions, given what those before it take.
fn full<'a>(
    item: &'a Item,
    far: Option<&Region>,
    quotas: &Quotas,
    planned: &BTreeMap<Place<'a>, i64>,
) -> Option<String> {
    stays(&item.resource, far).iter().find_map(|(name, need)| {
        let before = planned.get(&place(item, far, name)).copied().unwrap_or_default();
        lacks(quotas, name, before, *need)
    })
}

/// Whether the snapshots of all of a plan's databases of a cell have room at the same time: those that have not
/// wait for each other's.
fn tight(quotas: &Quotas, name: &str, need: i64, many: i64) -> Check {
    let full = |q: &&Quota| need > 0 && q.used + need * many > q.max;
    match quotas.get(name).filter(full) {
        None => Check::new(NAME, Verdict::Pass, String::new()),
        Some(q) => warn(format!(
            "{name}: {} of {} used: room for {} databases at a time, and the plan has {many} here; keep remediation.max_running_per_cell below that",
            q.used,
            q.max,
            (q.max - q.used) / need
        )),
    }
}

fn warn(text: String) -> Check {
    Check::new(NAME, Verdict::Warn, format!("quotas: {text}"))
}

/// Why a quota has no room, given what the plan's other databases take; `None` if it has. A quota that AWS
/// does not name is no bound that we know of.
fn lacks(quotas: &Quotas, name: &str, before: i64, need: i64) -> Option<String> {
    let quota = quotas.get(name)?;
    let planned = match before {
        0 => String::new(),
        n => format!(" and {n} planned before it"),
    };
    (quota.used + before + need > quota.max).then(|| {
        format!(
            "quota {name}: {} of {} used{planned}, and {need} needed: raise it in Service Quotas and scan again",
            quota.used, quota.max
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{cell, planned};
    use super::*;
    use crate::remediation::sample;

    fn check(quotas: Option<Result<Quotas, String>>, many: usize) -> Vec<(Verdict, String)> {
        let instance = |n: usize| {
            let mut instance = sample::instance(&format!("orders-{n}"));
            instance.settings.allocated_storage = Some(100);
            Resource::Instance { instance, replicas: vec![] }
        };
        let items: Vec<Item> = (0..many).map(|n| planned(instance(n))).collect();
        assert!(items.iter().all(Item::ready), "{:?}", items[0].checks);
        let place = (items[0].account.clone(), items[0].region.to_string());
        let cells = BTreeMap::from([(place, Cell { quotas, ..cell() })]);
        let items: Vec<&Item> = items.iter().collect();
        fit(&items, &cells).into_iter().map(|(_, c)| (c.verdict, c.text)).collect()
    }

    fn quotas(list: &[(&str, i64, i64)]) -> Option<Result<Quotas, String>> {
        let quota = |(name, used, max): &(&str, i64, i64)| {
            ((*name).to_owned(), Quota { used: *used, max: *max })
        };
        Some(Ok(list.iter().map(quota).collect()))
    }

    #[test]
    fn twins_share_the_quotas_of_their_cell() {
        use Verdict::*;
        for (list, want, text) in [
            (&[("DBInstances", 37, 40)][..], [Pass, Pass, Pass], ""),
            (
                &[("DBInstances", 38, 40)],
                [Pass, Pass, Block],
                "38 of 40 used and 2 planned before it, and 1 needed",
            ),
            (
                &[("DBInstances", 40, 40)],
                [Block, Block, Block],
                "quota DBInstances: 40 of 40 used, and 1 needed",
            ),
            (&[("AllocatedStorage", 700, 1_000)], [Pass, Pass, Pass], ""),
            (
                &[("AllocatedStorage", 850, 1_000)],
                [Pass, Block, Block],
                "quota AllocatedStorage: 850 of 1000 used and 100 planned",
            ),
            (&[("ManualSnapshots", 94, 100)], [Pass, Pass, Pass], ""),
            (
                &[("ManualSnapshots", 96, 100)],
                [Warn, Warn, Warn],
                "room for 2 databases at a time, and the plan has 3",
            ),
            (
                &[("ManualSnapshots", 99, 100)],
                [Block, Block, Block],
                "quota ManualSnapshots: 99 of 100 used, and 2 needed",
            ),
            (&[("DBClusters", 40, 40)], [Pass, Pass, Pass], ""),
            (&[], [Pass, Pass, Pass], ""),
        ] {
            let found = check(quotas(list), 3);
            let verdicts: Vec<Verdict> = found.iter().map(|(v, _)| *v).collect();
            assert_eq!(verdicts, want, "{list:?}");
            assert!(found[2].1.contains(text), "{list:?}: {}", found[2].1);
        }
    }

    #[test]
    fn what_was_not_read_is_said() {
        for (quotas, want) in
            [(None, "were not read"), (Some(Err("AccessDenied".to_owned())), "AccessDenied")]
        {
            let found = check(quotas, 1);
            assert!(found[0].0 == Verdict::Warn && found[0].1.contains(want), "{found:?}");
        }
    }
}
