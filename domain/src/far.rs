//! The parts of a unit in other regions: replicas across regions.
//!
//! AWS calls a replica by its identifier within a region, and by its ARN across regions (API reference, DBInstance,
//! ReadReplicaSourceDBInstanceIdentifier). So do we: seen from a unit's own region, whatever is elsewhere has its ARN for
//! a name, and two regions may use one name twice.

use crate::finding::{Finding, Resource};
use crate::id::Region;
use crate::ledger::Cell;
use crate::rds::{Instance, Sweep};
use std::collections::BTreeSet;

/// What an ARN of a DB instance has before its name.
const KIND: &str = ":db:";

/// The region of a database that is called by its ARN; `None` where it is called by its name.
pub fn region(id: &str) -> Option<Region> {
    let region = id.starts_with("arn:").then(|| id.split(':').nth(3))??;
    region.parse().ok()
}

/// What a database is called in its own region.
pub fn name(id: &str) -> &str {
    match id.starts_with("arn:") {
        true => id.rsplit_once(':').map_or(id, |(_, name)| name),
        false => id,
    }
}

/// The same place with another name.
pub fn renamed(id: &str, to: &str) -> String {
    format!("{}{to}", id.strip_suffix(name(id)).unwrap_or_default())
}

/// For people: the name, and the region where it is elsewhere.
pub fn said(id: &str) -> String {
    match region(id) {
        Some(region) => format!("{} ({region})", name(id)),
        None => id.to_owned(),
    }
}

/// A text with all ARNs of instances as [`said`].
pub fn said_in(text: &str) -> String {
    let word = |w: &str| {
        let at = w.find("arn:")?;
        let name = at + w[at..].find(KIND)? + KIND.len();
        let end = |c: char| !c.is_ascii_alphanumeric() && c != '-';
        let end = w[name..].find(end).map_or(w.len(), |n| name + n);
        Some(format!("{}{}{}", &w[..at], said(&w[at..end]), &w[end..]))
    };
    let words = text.split(' ').map(|w| word(w).unwrap_or_else(|| w.to_owned()));
    words.collect::<Vec<_>>().join(" ")
}

/// What the source of a replica is called when one asks in the replica's region; `own` is the ARN of any database of the
/// unit's own region.
pub fn source(replica: &str, of: &str, own: &str) -> String {
    match (region(replica), region(of)) {
        (there, from) if there == from => name(of).to_owned(),
        (_, None) => renamed(own, of),
        (_, Some(_)) => of.to_owned(),
    }
}

/// An instance that was read in its region, as it is called from `home`.
pub fn seen_from(home: &Region, mut it: Instance) -> Instance {
    let own = it.arn.clone();
    let from = |called: &str| {
        let arn = match called.starts_with("arn:") {
            true => called.to_owned(),
            false => renamed(&own, called),
        };
        match region(&arn).as_ref() == Some(home) {
            true => name(&arn).to_owned(),
            false => arn,
        }
    };
    it.id = from(&it.id);
    it.replica_source = it.replica_source.as_deref().map(from);
    it.replicas = it.replicas.iter().map(|r| from(r)).collect();
    it.replicas.sort();
    it
}

/// The roots of an instance's trees in other regions: findings of replicas there, each with what its region's last scan
/// knows.
#[derive(Debug, Clone, Copy)]
pub struct Far<'a> {
    /// A replica of a source in another region, with its own replicas in its region.
    pub finding: &'a Finding,
    /// Its cell.
    pub cell: Option<&'a Cell>,
}

/// Those of `open` that hang on this one, directly or by another, in the order in which they do.
pub fn of<'a>(
    finding: &Finding,
    open: impl Iterator<Item = &'a Finding> + Clone,
) -> Vec<&'a Finding> {
    let home = &finding.region;
    let instances = finding.resource.instances();
    let mut known: BTreeSet<String> = instances.map(|i| i.id.clone()).collect();
    let mut found: Vec<&Finding> = Vec::new();
    loop {
        let hangs = |f: &&Finding| match &f.resource {
            // One in the unit's own region can hang on one elsewhere.
            Resource::Instance { instance, .. }
                if f.id != finding.id && f.account == finding.account =>
            {
                let seen = seen_from(home, instance.clone());
                !known.contains(&seen.id) && seen.replica_source.is_some_and(|s| known.contains(&s))
            }
            _ => false,
        };
        let new: Vec<&Finding> = open.clone().filter(hangs).collect();
        if new.is_empty() {
            return found;
        }
        for one in &new {
            known.extend(one.resource.instances().map(|i| seen_from(home, i.clone()).id));
        }
        found.extend(new);
    }
}

/// An instance with all its replicas, those in other regions too; anything else as it is.
pub fn whole<'a>(
    resource: &Resource,
    home: &Region,
    far: impl Iterator<Item = &'a Finding>,
) -> Resource {
    let Resource::Instance { instance, replicas } = resource else { return resource.clone() };
    let mut seen = Sweep::default();
    seen.instances.push(instance.clone());
    seen.instances.extend(replicas.iter().cloned());
    for finding in far {
        seen.instances.extend(finding.resource.instances().map(|i| seen_from(home, i.clone())));
    }
    // In the order in which a look at all its regions finds them.
    let replicas = seen.tree(&instance.id);
    Resource::Instance { instance: instance.clone(), replicas }
}

impl Resource {
    /// The other regions that it has databases in.
    pub fn far_regions(&self) -> BTreeSet<Region> {
        self.instances().filter_map(|i| region(&i.id)).collect()
    }

    /// What it has in another region, by the names that it has there; `None` where that is nothing.
    pub fn part_in(&self, there: &Region) -> Option<Resource> {
        let here = self.instances().filter(|i| region(&i.id).as_ref() == Some(there));
        let mut found = here.map(|i| Instance { id: name(&i.id).to_owned(), ..i.clone() });
        Some(Resource::Instance { instance: found.next()?, replicas: found.collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remediation::sample;

    const HOME: &str = "arn:aws:rds:eu-central-1:111122223333:db:orders";
    const FAR: &str = "arn:aws:rds:eu-west-1:111122223333:db:orders";

    #[test]
    fn names_across_regions() {
        assert_eq!(region(FAR).unwrap().as_str(), "eu-west-1");
        assert_eq!((region("orders"), name(FAR), name("orders")), (None, "orders", "orders"));
        assert_eq!(renamed("orders", "b"), "b");
        assert_eq!(renamed(FAR, "b"), "arn:aws:rds:eu-west-1:111122223333:db:b");
        assert_eq!(
            said_in(&format!("rename {FAR} to {}, then x", renamed(FAR, "b"))),
            "rename orders (eu-west-1) to b (eu-west-1), then x"
        );
        assert_eq!(said_in(&format!("({FAR}: gone)")), "(orders (eu-west-1): gone)");
        let far_child = renamed(FAR, "child");
        for (replica, of, want) in [
            ("child", "orders", "orders"),
            (FAR, "orders", HOME),
            (far_child.as_str(), FAR, "orders"),
            ("child", FAR, FAR),
        ] {
            assert_eq!(source(replica, of, HOME), want, "{replica} of {of}");
        }
    }

    #[test]
    fn a_tree_may_lead_back_into_its_region() {
        let home: Region = "eu-central-1".parse().unwrap();
        let of = |region: &str, name: &str, source: Option<&str>, replicas: &[&str]| {
            let mut instance = sample::instance(name);
            instance.arn = format!("arn:aws:rds:{region}:111122223333:db:{name}");
            instance.replica_source = source.map(str::to_owned);
            instance.replicas = replicas.iter().map(|r| (*r).to_owned()).collect();
            let resource = Resource::Instance { instance, replicas: vec![] };
            let (kind, region) = (crate::finding::Kind::Instance, region.parse().unwrap());
            let detected = crate::finding::Detected { kind, resource, config: None };
            let (account, now) = (sample::account(), crate::time::Time(0));
            Finding::seen(None, "rds-encryption", &account, &region, detected, false, now)
        };
        let back = HOME.replace("orders", "back");
        let all = [
            of("eu-central-1", "back", Some(FAR), &[]),
            of("eu-west-1", "orders", Some(HOME), &[&back]),
            of("eu-central-1", "orders", None, &[FAR]),
            of("eu-central-1", "other", None, &[]),
        ];
        let far = super::of(&all[2], all.iter());
        let whole = whole(&all[2].resource, &home, far.into_iter());
        let names: Vec<&str> = whole.instances().map(|i| i.id.as_str()).collect();
        assert_eq!(names, ["orders", FAR, "back"]);
        assert_eq!(whole.far_regions().len(), 1);
    }

    #[test]
    fn what_is_elsewhere_is_called_by_its_arn() {
        let home: Region = "eu-central-1".parse().unwrap();
        let mut far = sample::instance("orders");
        (far.arn, far.replica_source) = (FAR.into(), Some(HOME.into()));
        far.replicas = vec!["child".into(), HOME.replace("orders", "back")];
        let seen = seen_from(&home, far);
        assert_eq!((seen.id.as_str(), seen.replica_source.as_deref()), (FAR, Some("orders")));
        assert_eq!(seen.replicas, [renamed(FAR, "child"), "back".to_owned()]);
    }
}
