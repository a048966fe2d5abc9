//! The swap: the twin takes the original's name, and with it its endpoint; and the way back.
//!
//! "After you rename the DB instance, the old DNS name is deleted at once"; a new name takes about ten
//! minutes and a reboot (RDS guide, "Renaming a DB instance"). So the order is: the original is isolated;
//! it is proven that it has been quiet since before the snapshot, and that nobody met the twin; then the
//! names, one at a time; and only then is the twin let into its own security groups. Until that moment the
//! way back loses nothing.

use super::endpoint::put;
use super::place::{groups_key, isolate, protect, rename, set_groups, settle};
use super::quiet::{Quiesce, Verdict, answered, connected, judge, late};
use super::unit::{Db, Pair, find, pairs, twin};
use super::{
    ATTEMPTS_MAX, Act, Activity, Bounds, Green, Mark, Remediation, Step, broken, fidelity, repeat,
    still,
};
use crate::far;
use crate::finding::{Kind, Resource};
use crate::id::Region;
use crate::isolation::NewGroup;
use crate::rds::Sweep;
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// How the twin takes the original's place, where the plan says so, and how far that is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swap {
    /// The security group that lets nobody in, of the original's VPC; empty until the one that is to be made is
    /// there.
    pub isolation: String,
    /// The same in the other regions that it has replicas in.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub far_isolation: BTreeMap<Region, String>,
    /// The group that is made for it, where the VPC has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub make: Option<NewGroup>,
    /// How writes are made to stop before the snapshot.
    pub quiesce: Quiesce,
    /// Whether the plan permits the cutover as soon as the twin is verified.
    pub auto: bool,
    /// When its owner said that writes had stopped, and who that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed: Option<(Time, String)>,
    /// Milestone: it was quiet when the snapshot was asked for; the proof begins with it.
    pub quiet: Option<Activity>,
    /// Milestone: it was quiet until it was stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Activity>,
    /// Milestone: nobody met the twin before the cutover.
    pub unmet_at: Option<Time>,
    /// Milestone: it was quiet up to its isolation, so names may change. Until then the twin is scratch.
    pub began_at: Option<Time>,
    /// The proof of that.
    pub proof: Option<Activity>,
    /// Milestone: the twin bears the name.
    pub done_at: Option<Time>,
    /// Milestone: nobody met the twin, so names may change back.
    pub back_at: Option<Time>,
    /// Why the twin lacks writes of the original: it is taken down, and all begins again.
    pub stale: Option<String>,
    /// Whether the original was in the isolation group when it was last seen: its application waits.
    #[serde(default)]
    pub cut_off: bool,
    /// A blue/green deployment makes the twin, and swaps the names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub green: Option<Green>,
}

impl Swap {
    /// The isolation group, in words.
    pub fn group(&self) -> String {
        match &self.make {
            Some(new) if self.isolation.is_empty() => new.name.clone(),
            _ => self.isolation.clone(),
        }
    }

    /// The isolation group alone.
    pub fn only(&self) -> BTreeSet<String> {
        BTreeSet::from([self.isolation.clone()])
    }

    /// The isolation group of a database: that of its region.
    pub fn group_of(&self, id: &str) -> &str {
        match far::region(id) {
            None => &self.isolation,
            Some(region) => self.far_isolation.get(&region).map_or("", String::as_str),
        }
    }

    /// That alone.
    pub fn only_of(&self, id: &str) -> BTreeSet<String> {
        BTreeSet::from([self.group_of(id).to_owned()])
    }
}

/// No connections and hardly any writes of these, from then on, as far as CloudWatch knows: `Ok` with the
/// answer, or what to do first.
pub(super) fn ask(
    rem: &Remediation,
    names: Vec<String>,
    from: Time,
    now: Time,
    bounds: Bounds,
) -> Result<&Activity, Step> {
    match answered(rem, &names, from, now, bounds) {
        Some(activity) => Ok(activity),
        None => Err(Step::Measure { names, from }),
    }
}

/// From when a proof can end: whoever was in before the groups changed shows in the value after it. None
/// where the database was not isolated for this proof yet.
fn isolated_for(rem: &Remediation, db: &Db<'_>, swap: &Swap, bounds: Bounds) -> Option<Time> {
    let intent = rem.intents.get(&groups_key(db.resource_id, &swap.only_of(db.id)))?;
    Some(intent.at.plus(bounds.metric_period).plus(bounds.metric_period))
}

/// Cuts these off, but for broken ones, which take no change: from when a proof can end, or what to do first.
pub(super) fn isolate_all(
    rem: &Remediation,
    swap: &Swap,
    databases: &[Db<'_>],
    now: Time,
    bounds: Bounds,
) -> Result<Option<Time>, Step> {
    for db in databases.iter().filter(|db| !broken(db.status)) {
        if let Some(step) = isolate(rem, db, &swap.only_of(db.id), now, bounds) {
            return Err(step);
        }
    }
    Ok(databases.iter().filter_map(|db| isolated_for(rem, db, swap, bounds)).max())
}

/// The table of a cutover; the first row that holds is the answer.
pub(super) fn cut_over(rem: &Remediation, seen: &Sweep, now: Time, bounds: Bounds) -> Step {
    let Some(swap) = &rem.swap else {
        return Step::AskHuman("its plan does not swap".into());
    };
    if swap.done_at.is_some() {
        return hold(rem, swap, seen, now, bounds);
    }
    let pairs = match pairs(rem, seen) {
        Ok(pairs) => pairs,
        Err(why) => return Step::AskHuman(why),
    };
    if swap.began_at.is_none() {
        return before_names(rem, swap, &pairs, seen, now, bounds);
    }
    let top = &pairs[0];
    // Somebody let clients in again before the names changed.
    if top.source.id == top.part.id && *top.source.groups != swap.only() {
        let why =
            format!("{} was taken out of {} before the names changed", top.part.id, swap.isolation);
        return Step::Mark(Mark::Stale { why });
    }
    let steps = || {
        // One after the other: the name is free once the original has another.
        for Pair { part, source, twin } in &pairs {
            let moved = source.id == part.held;
            if !moved && let Some(step) = rename(rem, source, &part.held, now, bounds) {
                return Some(step);
            }
            if let Some(step) = rename(rem, twin, part.id, now, bounds) {
                return Some(step);
            }
        }
        if let Some(step) = endpoints(rem, seen, (Some(&top.source), &top.twin), now, bounds) {
            return Some(step);
        }
        for pair in &pairs {
            if let Some((groups, _)) = pair.part.own
                && let Some(step) = set_groups(rem, &pair.twin, groups, now, bounds)
            {
                return Some(step);
            }
        }
        None
    };
    steps().unwrap_or_else(|| match differences(rem, seen, &rem.source) {
        Ok(()) => Step::Mark(Mark::CutOver),
        Err(why) => Step::AskHuman(why),
    })
}

/// Takes the custom endpoints from the one cluster and makes them on the other; `None` once they are there.
pub(super) fn endpoints(
    rem: &Remediation,
    seen: &Sweep,
    (from, to): (Option<&Db<'_>>, &Db<'_>),
    now: Time,
    bounds: Bounds,
) -> Option<Step> {
    let Resource::Cluster { cluster: spec, .. } = &rem.source else { return None };
    let find = |db: &Db<'_>| seen.clusters.iter().find(|c| c.resource_id == db.resource_id);
    put(rem, &spec.endpoints, from.and_then(find), find(to)?, now, bounds)
}

/// Whether names may change: the original is as planned, was quiet from before its snapshot until it was
/// isolated, and nobody met the twin.
///
/// CloudWatch is asked before the original is cut off, too: one that is in use is not cut off to learn that.
fn before_names(
    rem: &Remediation,
    swap: &Swap,
    pairs: &[Pair<'_>],
    seen: &Sweep,
    now: Time,
    bounds: Bounds,
) -> Step {
    let Some(quiet) = &swap.quiet else {
        return Step::AskHuman(
            "there is no proof that writes had stopped before its snapshot".into(),
        );
    };
    let changed = match &rem.source {
        Resource::Instance { .. } => super::instance::source_changed(rem, seen),
        Resource::Cluster { .. } => super::cluster::source_changed(rem, seen),
        Resource::Snapshot { snapshot, .. } => Some(format!("{} is a snapshot", snapshot.id)),
    };
    if let Some(why) = changed.or_else(|| super::replica::strayed(rem, seen)) {
        return Step::AskHuman(why);
    }
    for pair in pairs {
        if let Some(step) = settle(rem, &pair.twin, "cutover", now) {
            return step;
        }
        let twin = &pair.twin;
        if let Some(why) = rem.other_key(("", twin.id), twin.encryption, twin.kms_key) {
            return Step::AskHuman(why);
        }
        if pair.part.own.is_some() && *twin.groups != swap.only_of(twin.id) {
            let (id, group) = (twin.id, swap.group_of(twin.id));
            return Step::AskHuman(format!("the twin {id} was taken out of {group}"));
        }
    }
    let names =
        || pairs.iter().filter(|p| p.part.written).map(|p| p.source.id.to_owned()).collect();
    let stale = |why: String| {
        let why =
            format!("the original was used after its snapshot, so the twin lacks writes: {why}");
        Step::Mark(Mark::Stale { why })
    };
    let top = &pairs[0].source;
    let isolated = isolated_for(rem, top, swap, bounds);
    if isolated.is_none() {
        match ask(rem, names(), quiet.from, now, bounds).map(|a| judge(a, quiet.from, bounds)) {
            Err(step) => return step,
            Ok(Verdict::Connected(why) | Verdict::Written(why)) => return stale(why),
            Ok(Verdict::Quiet | Verdict::NotYet(_)) => {}
        }
    }
    if let Some(step) = isolate(rem, top, &swap.only(), now, bounds) {
        return step;
    }
    if swap.unmet_at.is_none() {
        let twins: Vec<Db<'_>> = pairs.iter().map(|p| p.twin).collect();
        return match unmet(rem, &twins, quiet.from, rem.since(), now, bounds) {
            Unmet::Yes => Step::Mark(Mark::Unmet),
            Unmet::Ask(step) => step,
            Unmet::Met(why) => Step::AskHuman(format!("{why}: it is no longer only a copy")),
        };
    }
    let until = isolated.unwrap_or_default().max(rem.since());
    let known = ask(rem, names(), quiet.from, now, bounds);
    let known = known.map(|a| still::but_for_its_stop(swap.quiesce, a));
    match known.map(|a| (judge(&a, until, bounds), a)) {
        Err(step) => step,
        Ok((Verdict::Quiet, proof)) => Step::Mark(Mark::CutOverBegins { proof }),
        Ok((Verdict::NotYet(why), _)) => Step::Wait(why),
        Ok((Verdict::Connected(why) | Verdict::Written(why), _)) => stale(why),
    }
}

/// What CloudWatch knows of connections to twins.
pub(super) enum Unmet {
    /// There were none.
    Yes,
    /// It is to be asked, or waited for.
    Ask(Step),
    /// There were some.
    Met(String),
}

/// Whether anybody connected to these since then. No data is no answer.
pub(super) fn unmet(
    rem: &Remediation,
    twins: &[Db<'_>],
    from: Time,
    until: Time,
    now: Time,
    bounds: Bounds,
) -> Unmet {
    let instances = twins.iter().filter(|db| db.kind == Kind::Instance);
    let names: Vec<String> = instances.map(|db| db.id.to_owned()).collect();
    let activity = match ask(rem, names, from, now, bounds) {
        Ok(activity) => activity,
        Err(step) => return Unmet::Ask(step),
    };
    if let Some(why) = connected(activity) {
        return Unmet::Met(why);
    }
    // Reboots and renames leave gaps, so what counts is that the end is known.
    if activity.points == 0 || activity.until < until {
        return Unmet::Ask(Step::Wait(late(activity)));
    }
    Unmet::Yes
}

/// The original, while it is kept: isolated, protected, stopped where AWS lets it be; and the twin open.
pub(super) fn hold(
    rem: &Remediation,
    swap: &Swap,
    seen: &Sweep,
    now: Time,
    bounds: Bounds,
) -> Step {
    let steps = || {
        let parts = rem.parts();
        for part in parts.iter().filter(|p| p.own.is_some()) {
            // A rollback that was refused had cut it off.
            if let (Ok(twin), Some((groups, _))) = (twin(rem, part, seen), part.own)
                && *twin.groups == swap.only_of(twin.id)
                && let Some(step) = set_groups(rem, &twin, groups, now, bounds)
            {
                return Some(step);
            }
        }
        for part in parts.iter().filter(|p| p.own.is_some()) {
            let Some(source) = find(seen, part.kind, part.resource_id) else { continue };
            if source.status == "stopped" || broken(source.status) {
                continue;
            }
            if !source.settled() {
                return Some(Step::Wait(format!("{} is {}", source.id, source.doing())));
            }
            let cut_off = set_groups(rem, &source, &swap.only_of(source.id), now, bounds);
            if let Some(step) = cut_off.or_else(|| protect(rem, &source, true, now, bounds)) {
                return Some(step);
            }
        }
        if let Some(step) = super::green::ended(rem, seen, now, bounds) {
            return Some(step);
        }
        let top = find(seen, parts[0].kind, parts[0].resource_id)?;
        if !still::stoppable(&rem.source) || !top.settled() {
            return None;
        }
        let act = Act::Stop {
            kind: top.kind,
            database: top.id.to_owned(),
            resource_id: top.resource_id.to_owned(),
        };
        // AWS does not let every one be stopped; it is kept all the same.
        let refused = rem.intents.get(&act.key()).is_some_and(|i| i.attempts >= ATTEMPTS_MAX);
        (!refused).then(|| repeat(rem, act, now, bounds))
    };
    steps().unwrap_or(Step::Finish)
}

/// Whether the twins, which have the names now, equal the originals as planned.
pub(super) fn differences(rem: &Remediation, seen: &Sweep, spec: &Resource) -> Result<(), String> {
    let mut found = Vec::new();
    for part in rem.parts() {
        let db = twin(rem, &part, seen)?;
        let differs = match (spec, part.kind) {
            (Resource::Cluster { cluster, .. }, Kind::Cluster) => {
                seen.cluster(db.id).map(|c| fidelity::cluster(cluster, c))
            }
            (Resource::Cluster { members, .. }, Kind::Instance) => {
                let want = members.iter().find(|m| m.id == part.id);
                want.and_then(|w| seen.instance(db.id).map(|i| fidelity::member(w, i)))
            }
            (Resource::Snapshot { .. }, _) | (_, Kind::Snapshot) => None,
            (Resource::Instance { .. }, _) => {
                let want = spec.instances().find(|w| w.id == part.id);
                want.and_then(|w| seen.instance(db.id).map(|i| fidelity::instance(w, i)))
            }
        };
        match differs {
            Some(list) if list.is_empty() => {}
            Some(list) => found.push(format!("{}: {}", db.id, fidelity::describe(&list))),
            None => found.push(format!("{} is not there", db.id)),
        }
    }
    if found.is_empty() { Ok(()) } else { Err(format!("it differs: {}", found.join("; "))) }
}

#[cfg(test)]
mod tests {
    use super::super::{Goal, State, decide, sample};
    use super::*;

    #[test]
    fn an_ordered_cutover_waits_for_its_window_and_a_permitted_one_does_not() {
        let (mut rem, seen, now) = sample::instance_world(&[sample::Change::Verified]);
        rem.swap = Some(Swap { isolation: "sg-nobody".into(), ..Swap::default() });
        (rem.goal, rem.state, rem.begun_at) = (Goal::CutOver, State::Running, Some(now));
        let mut said = |auto: bool, window: &str| {
            rem.swap.as_mut().unwrap().auto = auto;
            rem.windows = crate::window::parse(window).unwrap();
            sample::show(&decide(&rem, &seen, now, sample::BOUNDS))
        };
        // The sample's now is a Monday, 13:46.
        let shut = "tue:01:00-tue:02:00";
        let waits = said(false, shut);
        assert!(
            waits.starts_with(
                "wait waiting for its window tue:01:00-tue:02:00 (UTC), which opens at"
            ),
            "{waits}"
        );
        let begins = "ask there is no record of which database is the twin of orders";
        assert_eq!(said(false, "mon:13:00-mon:14:00"), begins);
        assert_eq!(said(true, shut), begins);
        assert_eq!(said(false, ""), begins);
    }
}
