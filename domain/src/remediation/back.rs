//! The way back: the original in its own place again, as long as nobody met the twin.

use super::place::{groups_key, protect, rename, set_groups, settle, when_available};
use super::retire::unsure;
use super::swap::{Swap, Unmet, endpoints, isolate_all, unmet};
use super::unit::{Db, Part, original, twin};
use super::{Bounds, Mark, Remediation, Step};
use crate::finding::Kind;
use crate::rds::Sweep;
use crate::time::Time;

/// An original, and its twin if that is still there.
struct Both<'a> {
    part: Part<'a>,
    source: Db<'a>,
    twin: Option<Db<'a>>,
}

fn both<'a>(rem: &'a Remediation, seen: &'a Sweep) -> Result<Vec<Both<'a>>, String> {
    let one = |part: Part<'a>| {
        let source = original(&part, seen)?;
        let twin = twin(rem, &part, seen).ok();
        Ok(Both { part, source, twin })
    };
    rem.parts().into_iter().map(one).collect()
}

/// The table of the way back; the first row that holds is the answer.
pub(super) fn roll_back(rem: &Remediation, seen: &Sweep, now: Time, bounds: Bounds) -> Step {
    let Some(swap) = &rem.swap else {
        return Step::AskHuman("its plan does not swap".into());
    };
    let all = match both(rem, seen) {
        Ok(all) => all,
        Err(why) => return Step::AskHuman(why),
    };
    let steps = || {
        if swap.began_at.is_some() {
            if swap.back_at.is_none() {
                return Some(prove_unmet(rem, swap, &all, seen, now, bounds));
            }
            if let Some(why) = opened(swap, &all) {
                return Some(Step::Mark(Mark::NoWayBack { why }));
            }
        }
        ready(rem, &all, now, bounds).or_else(|| names_back(rem, &all, now, bounds))
    };
    let give_back = || {
        for Both { part, source, .. } in &all {
            let Some((groups, protected)) = part.own else { continue };
            if let Some(step) = set_groups(rem, source, groups, now, bounds)
                .or_else(|| protect(rem, source, protected, now, bounds))
            {
                return Some(step);
            }
        }
        None
    };
    // Last: one that somebody changed meanwhile keeps nobody out of the rest.
    let endpoints = || swap.began_at.and_then(|_| endpoints_back(rem, &all, seen, now, bounds));
    let unsure = || unsure(rem, now, bounds);
    steps().or_else(give_back).or_else(endpoints).or_else(unsure).unwrap_or(Step::Finish)
}

/// All originals are up before the first name is taken away: starting one that was stopped takes minutes.
fn ready(rem: &Remediation, all: &[Both<'_>], now: Time, bounds: Bounds) -> Option<Step> {
    // In its own place, too, where it was stopped for its twin.
    let down = |b: &&Both<'_>| b.source.id != b.part.id || b.source.status == "stopped";
    for Both { part, source, .. } in all.iter().filter(down) {
        // Members start with their cluster.
        let stopped = part.own.is_none() && source.status == "stopped";
        let key = format!("start {}", source.resource_id);
        let step = match stopped {
            true => Some(Step::Wait(format!("{} is stopped", source.id))),
            false => when_available(rem, source, &key, now, bounds),
        };
        if step.is_some() {
            return step;
        }
    }
    None
}

fn names_back(rem: &Remediation, all: &[Both<'_>], now: Time, bounds: Bounds) -> Option<Step> {
    for Both { part, source, twin } in all.iter().rev() {
        if let Some(twin) = twin.filter(|t| t.id != part.twin)
            && let Some(step) = rename(rem, &twin, &part.twin, now, bounds)
        {
            return Some(step);
        }
        if source.id != part.id
            && let Some(step) = rename(rem, source, part.id, now, bounds)
        {
            return Some(step);
        }
    }
    // In its own place it may still be coming up.
    all.iter().find_map(|b| {
        settle(rem, &b.source, &format!("rename {} {}", b.part.resource_id, b.part.id), now)
    })
}

/// The custom endpoints are of the original again.
fn endpoints_back(
    rem: &Remediation,
    all: &[Both<'_>],
    seen: &Sweep,
    now: Time,
    bounds: Bounds,
) -> Option<Step> {
    let top = all.first()?;
    // With a twin that is gone its endpoints are.
    endpoints(rem, seen, (top.twin.as_ref(), &top.source), now, bounds)
}

/// Whether somebody let clients to the twin again after it was proven unmet, and before it gave its name up.
fn opened(swap: &Swap, all: &[Both<'_>]) -> Option<String> {
    let top = all.first()?;
    let twin = top.twin.filter(|t| t.id == top.part.id)?;
    (*twin.groups != swap.only()).then(|| {
        format!("{} was taken out of {} before the names changed back", twin.id, swap.isolation)
    })
}

/// Whether the twins took no connection since they may have been met: writes to them would be lost.
///
/// CloudWatch is asked before they are cut off, too: a database that is in use is not cut off to learn that.
fn prove_unmet(
    rem: &Remediation,
    swap: &Swap,
    all: &[Both<'_>],
    seen: &Sweep,
    now: Time,
    bounds: Bounds,
) -> Step {
    // A replica takes no writes, and those who read the original's under its name until it was renamed show as its own.
    let twins: Vec<Db<'_>> = all
        .iter()
        .filter(|b| b.part.written || b.part.kind == Kind::Cluster)
        .filter_map(|b| b.twin)
        .collect();
    if twins.is_empty() {
        // Nothing is left of what they held; the original is the best there is.
        return Step::Mark(Mark::RollBackBegins);
    }
    // Under the name that each bears now; the original bore it before, and was proven quiet.
    let from = swap.began_at.unwrap_or_default();
    let refused = |why: String| {
        Step::Mark(Mark::NoWayBack { why: format!("{why}: what they wrote would be lost") })
    };
    // But one that was promoted does.
    let alone = |b: &&Both<'_>| {
        let twin =
            b.twin.and_then(|t| seen.instances.iter().find(|i| i.resource_id == t.resource_id));
        b.part.key.starts_with("replica ") && twin.is_some_and(|i| i.replica_source.is_none())
    };
    if let Some(both) = all.iter().find(alone) {
        return refused(format!("{} was promoted", both.part.id));
    }
    let asked =
        |db: &Db<'_>| rem.intents.contains_key(&groups_key(db.resource_id, &swap.only_of(db.id)));
    if !twins.iter().any(asked) {
        match unmet(rem, &twins, from, from, now, bounds) {
            Unmet::Met(why) => return refused(why),
            Unmet::Ask(step @ Step::Measure { .. }) => return step,
            Unmet::Ask(_) | Unmet::Yes => {}
        }
    }
    let owners = all.iter().filter(|b| b.part.own.is_some());
    let owners: Vec<Db<'_>> = owners.filter_map(|b| b.twin).collect();
    let isolated = match isolate_all(rem, swap, &owners, now, bounds) {
        Ok(isolated) => isolated,
        Err(step) => return step,
    };
    let until = isolated.unwrap_or_default().max(rem.since());
    match unmet(rem, &twins, from, until, now, bounds) {
        Unmet::Yes => Step::Mark(Mark::RollBackBegins),
        Unmet::Ask(step) => step,
        Unmet::Met(why) => refused(why),
    }
}
