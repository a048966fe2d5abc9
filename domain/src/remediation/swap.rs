//! The swap: the twin takes the original's name, and with it its endpoint; and the way back.
//!
//! "After you rename the DB instance, the old DNS name is deleted at once"; a new name takes about ten
//! minutes and a reboot (RDS guide, "Renaming a DB instance"). So the order is: the original is isolated;
//! it is proven that it has been quiet since before the snapshot, and that nobody met the twin; then the
//! names, one at a time; and only then is the twin let into its own security groups. Until that moment the
//! way back loses nothing.

use super::quiet::{Quiesce, Verdict, answered, judge};
use super::unit::{Db, Pair, Part, pairs, twin};
use super::{
    Act, Activity, Bounds, MODIFY_FOR_MAX, Mark, Remediation, Step, broken, fidelity, repeat,
    wait_for,
};
use crate::finding::{Kind, Resource};
use crate::rds::{Encryption, Sweep};
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// How the twin takes the original's place, where the plan says so, and how far that is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swap {
    /// The security group that lets nobody in, of the original's VPC.
    pub isolation: String,
    /// How writes are made to stop before the snapshot.
    pub quiesce: Quiesce,
    /// Whether the plan permits the cutover as soon as the twin is verified.
    pub auto: bool,
    /// Milestone: it was quiet when the snapshot was asked for; the proof begins with it.
    pub quiet: Option<Activity>,
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
}

impl Swap {
    /// The isolation group alone.
    pub fn only(&self) -> BTreeSet<String> {
        BTreeSet::from([self.isolation.clone()])
    }
}

/// The key of the intent that puts a database into these groups.
pub(super) fn groups_key(resource_id: &str, groups: &BTreeSet<String>) -> String {
    let list: Vec<&str> = groups.iter().map(String::as_str).collect();
    format!("groups {resource_id} {}", list.join(","))
}

/// Puts a database into these groups; `None` once it is.
pub(super) fn set_groups(
    rem: &Remediation,
    db: &Db<'_>,
    groups: &BTreeSet<String>,
    now: Time,
    bounds: Bounds,
) -> Option<Step> {
    let act = Act::SetGroups {
        kind: db.kind,
        database: db.id.to_owned(),
        resource_id: db.resource_id.to_owned(),
        groups: groups.clone(),
    };
    if *db.groups == *groups {
        return settle(rem, db, &act.key(), now);
    }
    when_available(rem, db, &act.key(), now, bounds).or_else(|| Some(repeat(rem, act, now, bounds)))
}

/// Cuts a database off, for a proof that follows; `None` once it is.
///
/// That it looks isolated is not enough: a read may be older than the opening of its groups. So it is asked
/// for once more, and what is seen counts after AWS confirmed that, or after reads have had their time.
pub(super) fn isolate(
    rem: &Remediation,
    db: &Db<'_>,
    only: &BTreeSet<String>,
    now: Time,
    bounds: Bounds,
) -> Option<Step> {
    let key = groups_key(db.resource_id, only);
    match rem.intents.get(&key) {
        None => {
            let act = Act::SetGroups {
                kind: db.kind,
                database: db.id.to_owned(),
                resource_id: db.resource_id.to_owned(),
                groups: only.clone(),
            };
            when_available(rem, db, &key, now, bounds).or(Some(Step::Act(act)))
        }
        Some(intent) if !intent.done && now.since(intent.at) < bounds.expect_for => {
            Some(Step::Wait(format!("{} is being isolated", db.id)))
        }
        Some(_) => set_groups(rem, db, only, now, bounds),
    }
}

/// Waits until what was asked for is applied; `None` once it is.
pub(super) fn settle(rem: &Remediation, db: &Db<'_>, key: &str, now: Time) -> Option<Step> {
    if broken(db.status) {
        return Some(Step::AskHuman(format!("{} is {}", db.id, db.status)));
    }
    (!db.settled()).then(|| wait_for(rem, key, db.id, &db.doing(), MODIFY_FOR_MAX, now))
}

/// What must happen before a database can be changed; one that is stopped is started first ("you can't
/// modify a stopped DB instance", RDS guide, "Stopping a DB instance").
pub(super) fn when_available(
    rem: &Remediation,
    db: &Db<'_>,
    key: &str,
    now: Time,
    bounds: Bounds,
) -> Option<Step> {
    if db.status != "stopped" {
        return settle(rem, db, key, now);
    }
    let act = Act::Start {
        kind: db.kind,
        database: db.id.to_owned(),
        resource_id: db.resource_id.to_owned(),
    };
    Some(repeat(rem, act, now, bounds))
}

/// Gives a database another name; `None` once it has it and is up again.
fn rename(rem: &Remediation, db: &Db<'_>, to: &str, now: Time, bounds: Bounds) -> Option<Step> {
    let act = Act::Rename {
        kind: db.kind,
        from: db.id.to_owned(),
        to: to.to_owned(),
        resource_id: db.resource_id.to_owned(),
    };
    if db.id == to {
        return settle(rem, db, &act.key(), now);
    }
    when_available(rem, db, &act.key(), now, bounds).or_else(|| Some(repeat(rem, act, now, bounds)))
}

/// Sets deletion protection; `None` once it is so.
pub(super) fn protect(
    rem: &Remediation,
    db: &Db<'_>,
    on: bool,
    now: Time,
    bounds: Bounds,
) -> Option<Step> {
    let act = Act::Protect {
        kind: db.kind,
        database: db.id.to_owned(),
        resource_id: db.resource_id.to_owned(),
        on,
    };
    if db.protected == on {
        return None;
    }
    when_available(rem, db, &act.key(), now, bounds).or_else(|| Some(repeat(rem, act, now, bounds)))
}

/// The table of a cutover; the first row that holds is the answer.
pub(super) fn cut_over(rem: &Remediation, seen: &Sweep, now: Time, bounds: Bounds) -> Step {
    let Some(swap) = &rem.swap else {
        return Step::AskHuman("its plan does not swap".into());
    };
    let pairs = match pairs(rem, seen) {
        Ok(pairs) => pairs,
        Err(why) => return Step::AskHuman(why),
    };
    if swap.done_at.is_some() {
        return hold(rem, swap, &pairs, now, bounds);
    }
    let steps = || {
        if swap.began_at.is_none() {
            let top = &pairs[0];
            if let Some(step) = isolate(rem, &top.source, &swap.only(), now, bounds) {
                return Some(step);
            }
            return Some(prove(rem, swap, &pairs, now, bounds));
        }
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

/// Whether names may change: the original was quiet from before its snapshot until it was isolated, and
/// nobody met the twin.
fn prove(rem: &Remediation, swap: &Swap, pairs: &[Pair<'_>], now: Time, bounds: Bounds) -> Step {
    let Some(quiet) = &swap.quiet else {
        return Step::AskHuman(
            "there is no proof that writes had stopped before its snapshot".into(),
        );
    };
    for pair in pairs {
        if let Some(step) = settle(rem, &pair.twin, "twin", now) {
            return step;
        }
        let key = pair.twin.kms_key;
        if *pair.twin.encryption != Encryption::SseKms || key != Some(rem.key_arn.as_str()) {
            return Step::AskHuman(format!(
                "{} is not encrypted under {}",
                pair.twin.id, rem.key_arn
            ));
        }
    }
    if swap.unmet_at.is_none() {
        return unmet(rem, pairs.iter().map(|p| (&p.part, p.twin.id)), quiet.from, now, bounds)
            .unwrap_or(Step::Mark(Mark::Unmet));
    }
    // Isolated now or before; and what happened up to then, and up to the order, is known.
    let isolated = rem.intents.get(&groups_key(pairs[0].source.resource_id, &swap.only()));
    let until = rem.since().max(isolated.map_or(Time(0), |i| i.at));
    let names: Vec<String> =
        pairs.iter().filter(|p| p.part.written).map(|p| p.source.id.into()).collect();
    let Some(activity) = answered(rem, &names, quiet.from, now, bounds) else {
        return Step::Measure { names, from: quiet.from };
    };
    match judge(activity, until, bounds) {
        Verdict::Quiet => Step::Mark(Mark::CutOverBegins { proof: activity.clone() }),
        Verdict::NotYet(why) => Step::Wait(why),
        Verdict::Busy(why) => Step::Mark(Mark::Stale {
            why: format!(
                "the original was used after its snapshot, so the twin lacks writes: {why}"
            ),
        }),
    }
}

/// Whether anybody connected to a twin under its own name; `None` where CloudWatch knows of nobody.
pub(super) fn unmet<'a>(
    rem: &Remediation,
    twins: impl Iterator<Item = (&'a Part<'a>, &'a str)>,
    from: Time,
    now: Time,
    bounds: Bounds,
) -> Option<Step> {
    let names: Vec<String> =
        twins.filter(|(part, _)| part.written).map(|(_, name)| name.to_owned()).collect();
    let Some(activity) = answered(rem, &names, from, now, bounds) else {
        return Some(Step::Measure { names, from });
    };
    (activity.connections > 0).then(|| {
        let last = activity.connected_at.unwrap_or(activity.until);
        Step::AskHuman(format!(
            "somebody connected to the twin ({}), last at {last}: it is no longer only a copy",
            names.join(", ")
        ))
    })
}

/// The original, while it is kept: isolated, protected, stopped where AWS lets it be.
fn hold(rem: &Remediation, swap: &Swap, pairs: &[Pair<'_>], now: Time, bounds: Bounds) -> Step {
    let steps = || {
        for pair in pairs {
            let at_rest = pair.source.status == "stopped" || pair.source.status == "stopping";
            if pair.part.own.is_none() || at_rest {
                continue;
            }
            let cut_off = || set_groups(rem, &pair.source, &swap.only(), now, bounds);
            if let Some(step) = cut_off().or_else(|| protect(rem, &pair.source, true, now, bounds))
            {
                return Some(step);
            }
        }
        let top = &pairs[0];
        if !stoppable(rem) || top.source.status == "stopped" {
            return None;
        }
        let act = Act::Stop {
            kind: top.source.kind,
            database: top.source.id.to_owned(),
            resource_id: top.source.resource_id.to_owned(),
        };
        when_available(rem, &top.source, &act.key(), now, bounds)
            .or_else(|| Some(repeat(rem, act, now, bounds)))
    };
    steps().unwrap_or(Step::Finish)
}

/// Replicas, their sources and Multi-AZ SQL Server cannot be stopped (RDS guide, "Stopping a DB instance").
fn stoppable(rem: &Remediation) -> bool {
    match &rem.source {
        Resource::Instance { instance, replicas } => {
            let mirrored = instance.engine.starts_with("sqlserver") && instance.settings.multi_az;
            replicas.is_empty() && !mirrored
        }
        Resource::Cluster { .. } => true,
    }
}

/// Whether the twins, which have the names now, equal the originals as planned.
fn differences(rem: &Remediation, seen: &Sweep, spec: &Resource) -> Result<(), String> {
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
            (Resource::Instance { instance, replicas }, _) => {
                let want = std::iter::once(instance).chain(replicas).find(|w| w.id == part.id);
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

/// The table of the way back; the first row that holds is the answer.
pub(super) fn roll_back(rem: &Remediation, seen: &Sweep, now: Time, bounds: Bounds) -> Step {
    let Some(swap) = &rem.swap else {
        return Step::AskHuman("its plan does not swap".into());
    };
    let pairs = match pairs(rem, seen) {
        Ok(pairs) => pairs,
        Err(why) => return Step::AskHuman(why),
    };
    let steps = || {
        // What was stopped takes minutes to start: before its name is missed.
        let asleep = pairs.iter().find(|p| p.source.status == "stopped");
        if let Some(pair) = asleep {
            let key = format!("start {}", pair.source.resource_id);
            return when_available(rem, &pair.source, &key, now, bounds);
        }
        if swap.began_at.is_some() && swap.back_at.is_none() {
            return Some(prove_unmet(rem, swap, &pairs, now, bounds));
        }
        for Pair { part, source, twin } in pairs.iter().rev() {
            let moved = twin.id == part.twin;
            if !moved && let Some(step) = rename(rem, twin, &part.twin, now, bounds) {
                return Some(step);
            }
            if let Some(step) = rename(rem, source, part.id, now, bounds) {
                return Some(step);
            }
        }
        for pair in &pairs {
            let Some((groups, protected)) = pair.part.own else { continue };
            if let Some(step) = set_groups(rem, &pair.source, groups, now, bounds)
                .or_else(|| protect(rem, &pair.source, protected, now, bounds))
            {
                return Some(step);
            }
        }
        None
    };
    steps().unwrap_or(Step::Finish)
}

/// Whether the twins took no connection since they may have been met: writes to them would be lost.
fn prove_unmet(
    rem: &Remediation,
    swap: &Swap,
    pairs: &[Pair<'_>],
    now: Time,
    bounds: Bounds,
) -> Step {
    for pair in pairs.iter().filter(|p| p.part.own.is_some()) {
        if let Some(step) = isolate(rem, &pair.twin, &swap.only(), now, bounds) {
            return step;
        }
    }
    let asked =
        |p: &Pair<'_>| rem.intents.get(&groups_key(p.twin.resource_id, &swap.only())).map(|i| i.at);
    let until = pairs.iter().filter_map(asked).max().unwrap_or_default().max(rem.since());
    // Under the name that they had: the original's, isolated and proven quiet, and then the twin's.
    let from = swap.began_at.unwrap_or_default();
    let names: Vec<String> =
        pairs.iter().filter(|p| p.part.written).map(|p| p.part.id.into()).collect();
    let Some(activity) = answered(rem, &names, from, now, bounds) else {
        return Step::Measure { names, from };
    };
    if activity.connections > 0 {
        let last = activity.connected_at.unwrap_or(activity.until);
        return Step::Mark(Mark::NoWayBack {
            why: format!(
                "{} connections to {} since the cutover, the last at {last}: what they wrote would be lost",
                activity.connections,
                names.join(", ")
            ),
        });
    }
    // Reboots leave gaps here, so what counts is that the end is known.
    if activity.until < until {
        return Step::Wait(format!(
            "CloudWatch has values up to {} only; it is late by some minutes",
            activity.until
        ));
    }
    Step::Mark(Mark::RollBackBegins)
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
