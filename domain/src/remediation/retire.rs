//! The end of an original: decommissioned after its hold, on an approval of its own; and of a twin that
//! nobody wants: discarded.
//!
//! Nothing is deleted before its last copy is proven: of an instance an encrypted copy of a last snapshot
//! ("it is unencrypted again" otherwise: a final snapshot is as its database is, API reference,
//! DeleteDBInstance); of an Aurora cluster, whose snapshots no copy encrypts, a snapshot of the twin.

use super::place::{groups_key, protect, set_groups, settle, when_available};
use super::quiet::{KNOWN_FOR_MAX, Quiesce};
use super::swap::{Unmet, isolate_all, unmet};
use super::unit::{Db, Part, find, twin, twin_id};
use super::{
    Act, Bounds, Goal, MODIFY_FOR_MAX, Mark, Remediation, Step, broken, create, drop_snapshot,
    repeat, snapshot_ready, wait_for,
};
use crate::approval::Approval;
use crate::finding::{Kind, Resource};
use crate::hash;
use crate::rds::{Snapshot, Sweep};
use crate::time::Time;
use serde::{Deserialize, Serialize};

/// What people agree to when an original is to be deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retirement {
    /// Who asked, and so may not approve.
    pub author: String,
    /// When.
    pub at: Time,
    /// Why.
    pub reason: String,
    /// What is deleted: names and immutable ids.
    pub originals: Vec<(String, String)>,
    /// What stays: names and immutable ids.
    pub twins: Vec<(String, String)>,
    /// Who agreed.
    pub approvals: Vec<Approval>,
}

impl Retirement {
    /// The hash that approvals are bound to.
    pub fn hash(&self) -> String {
        hash::of(&(&self.author, self.at, &self.reason, &self.originals, &self.twins))
    }
}

impl Remediation {
    /// The snapshot that stays when the original is gone.
    pub(super) fn last_copy(&self) -> String {
        let (plain, copy) = last_names(self);
        match self.kind {
            Kind::Instance => copy,
            Kind::Cluster => plain,
            Kind::Snapshot => self.names.twin.clone(),
        }
    }
}

/// The names of the last snapshot and of its encrypted copy.
fn last_names(rem: &Remediation) -> (String, String) {
    (format!("ringfence-{}-final", rem.id), format!("ringfence-{}-final-enc", rem.id))
}

/// The table of a decommission; the first row that holds is the answer.
pub(super) fn decommission(rem: &Remediation, seen: &Sweep, now: Time, bounds: Bounds) -> Step {
    if let Resource::Snapshot { snapshot, .. } = &rem.source {
        return super::snapshot::decommission(rem, snapshot, seen, now, bounds);
    }
    let parts = rem.parts();
    if let Some(step) = twin_stands(rem, &parts, seen, now) {
        return step;
    }
    let asked = |p: &Part<'_>| rem.intents.contains_key(&format!("retire {}", p.resource_id));
    let original = |p: &Part<'_>| find(seen, p.kind, p.resource_id);
    // Only a deletion that we asked for explains that one is gone.
    if let Some(gone) = parts.iter().find(|p| original(p).is_none() && !asked(p)) {
        return Step::AskHuman(format!(
            "the original of {} ({}) is gone, and it was not deleted by {}",
            gone.id, gone.resource_id, rem.id
        ));
    }
    let begun = parts.iter().any(asked);
    if !begun && let Some(step) = last_copy(rem, &parts[0], seen, now, bounds) {
        return step;
    }
    // All are up and unprotected first: members of a cluster that is stopped cannot be deleted.
    for part in parts.iter().filter(|p| p.own.is_some()) {
        if let Some(db) = original(part).filter(|db| db.status != "deleting")
            && let Some(step) = protect(rem, &db, false, now, bounds)
        {
            return step;
        }
    }
    // Replicas before their sources: a deleted source would promote them (RDS guide, "Working with read
    // replicas"); and members before their cluster.
    for part in parts.iter().rev() {
        if let Some(db) = original(part) {
            return retire(rem, &db, now, bounds);
        }
    }
    Step::Finish
}

/// Deletes one database, and waits until it is gone.
fn retire(rem: &Remediation, db: &Db<'_>, now: Time, bounds: Bounds) -> Step {
    let act = Act::Retire {
        kind: db.kind,
        database: db.id.to_owned(),
        resource_id: db.resource_id.to_owned(),
    };
    if db.status == "deleting" {
        return wait_for(rem, &act.key(), db.id, "being deleted", MODIFY_FOR_MAX, now);
    }
    // One that is broken will not get better, and can be deleted all the same.
    let ready = || when_available(rem, db, &act.key(), now, bounds);
    let wait = if broken(db.status) { None } else { ready() };
    wait.unwrap_or_else(|| repeat(rem, act, now, bounds))
}

/// Never the last copy: `None` where the twin is there, available and encrypted under the recorded key. Readers
/// and replicas of it come and go.
fn twin_stands(rem: &Remediation, parts: &[Part<'_>], seen: &Sweep, now: Time) -> Option<Step> {
    if let Some(part) = parts.first() {
        let db = match twin(rem, part, seen) {
            Ok(db) => db,
            Err(why) => return Some(Step::AskHuman(why)),
        };
        if let Some(why) = rem.other_key(("", db.id), db.encryption, db.kms_key) {
            return Some(Step::AskHuman(why));
        }
        if let Some(step) = settle(rem, &db, "last snapshot", now) {
            return Some(step);
        }
    }
    None
}

/// The last copy, encrypted; `None` once it is proven and the plain one is gone.
fn last_copy(
    rem: &Remediation,
    top: &Part<'_>,
    seen: &Sweep,
    now: Time,
    bounds: Bounds,
) -> Option<Step> {
    let (plain, copy) = last_names(rem);
    if top.kind == Kind::Cluster {
        let act = Act::SnapshotTwin { snapshot: plain.clone() };
        let Some(found) = seen.cluster_snapshots.iter().find(|s| s.id == plain) else {
            return Some(create(rem, act, now, bounds));
        };
        return proven(rem, found, &act.key(), now);
    }
    let find_snapshot = |name: &String| seen.snapshots.iter().find(|s| s.id == *name);
    let create_plain = Act::LastSnapshot { snapshot: plain.clone() };
    let act = Act::LastCopy { from: plain.clone(), to: copy.clone() };
    if let Some(found) = find_snapshot(&copy) {
        if let Some(step) = proven(rem, found, &act.key(), now) {
            return Some(step);
        }
        let delete = Act::DeleteSnapshot { snapshot: plain.clone() };
        return drop_snapshot(rem, find_snapshot(&plain), &create_plain.key(), delete, now, bounds);
    }
    let Some(found) = find_snapshot(&plain) else {
        let source = find(seen, top.kind, top.resource_id)?;
        let ready = when_available(rem, &source, &create_plain.key(), now, bounds);
        return ready.or_else(|| Some(create(rem, create_plain, now, bounds)));
    };
    // The name that it was taken under may be another database's by then.
    let of = found.resource_id.split('@').next().unwrap_or_default();
    if !of.is_empty() && of != top.resource_id {
        return Some(Step::AskHuman(format!(
            "snapshot {plain} is of another database ({of}, and not {}): nothing is deleted",
            top.resource_id
        )));
    }
    let ready = snapshot_ready(rem, &create_plain.key(), found, now);
    ready.or_else(|| Some(create(rem, act, now, bounds)))
}

/// A snapshot that must be ours, and encrypted under the recorded key; `None` once it is available.
fn proven(rem: &Remediation, found: &Snapshot, key: &str, now: Time) -> Option<Step> {
    snapshot_ready(rem, key, found, now).or_else(|| {
        let key = found.kms_key.as_deref();
        rem.other_key(("snapshot", &found.id), &found.encryption, key).map(Step::AskHuman)
    })
}

/// The table of a twin that is taken down; the first row that holds is the answer.
///
/// Only what this remediation made: its tag, the id from the reply to its own call; and only what nobody
/// has ever connected to.
pub(super) fn discard(rem: &Remediation, seen: &Sweep, now: Time, bounds: Bounds) -> Step {
    let parts = rem.parts();
    let mut there: Vec<(&Part<'_>, Db<'_>)> = Vec::new();
    for part in &parts {
        let Some(id) = twin_id(rem, part) else { continue };
        let Some(db) = find(seen, part.kind, id) else { continue };
        let source = parts.iter().any(|p| p.resource_id == id);
        if source || db.made_by != Some(rem.id.as_str()) || db.id != part.twin {
            return Step::AskHuman(format!(
                "{} is left alone: it is not a twin that {} made, or it has lost its tag or name",
                db.id, rem.id
            ));
        }
        there.push((part, db));
    }
    let begun = rem.intents.values().any(|i| matches!(i.act, Act::Retire { .. }));
    let own = find(seen, parts[0].kind, parts[0].resource_id);
    if !there.is_empty() && own.is_none_or(|db| db.status == "deleting") {
        let id = parts[0].id;
        let why = format!("the original {id} is gone, so it may be the last copy of the data");
        return match begun {
            true => Step::AskHuman(format!("{why}: nothing more is deleted")),
            false => Step::Mark(Mark::Met { why }),
        };
    }
    if !begun
        && !there.is_empty()
        && let Some(step) = prove_unmet(rem, &there, now, bounds)
    {
        return step;
    }
    for (part, db) in &there {
        if part.own.is_some()
            && db.status != "deleting"
            && let Some(step) = protect(rem, db, false, now, bounds)
        {
            return step;
        }
    }
    if let Some((_, db)) = there.last() {
        return retire(rem, db, now, bounds);
    }
    give_back(rem, seen, now, bounds).unwrap_or(Step::Finish)
}

/// Nobody ever connected to these: they are cut off, whoever was in shows in CloudWatch afterwards, and its
/// answer reaches back to when they were made. `None` once that is proven.
fn prove_unmet(
    rem: &Remediation,
    there: &[(&Part<'_>, Db<'_>)],
    now: Time,
    bounds: Bounds,
) -> Option<Step> {
    let met = |why: String| Some(Step::Mark(Mark::Met { why }));
    let made = rem.intents.get("twin").map_or(now, |i| i.first_at);
    if now.since(made) > KNOWN_FOR_MAX {
        return met(format!(
            "it was made at {made}, and CloudWatch does not know minutes so long ago"
        ));
    }
    let Some(swap) = &rem.swap else {
        return met(
            "it stands in security groups of its own, so nobody can prove that it was not used"
                .into(),
        );
    };
    let twins: Vec<Db<'_>> = there.iter().map(|(_, db)| *db).collect();
    let owners: Vec<Db<'_>> =
        there.iter().filter(|(part, _)| part.own.is_some()).map(|(_, db)| *db).collect();
    let isolated = match isolate_all(rem, swap, &owners, now, bounds) {
        Ok(isolated) => isolated,
        Err(step) => return Some(step),
    };
    // One that is broken may have no values any more.
    let until = isolated.unwrap_or(made);
    match unmet(rem, &twins, made, until, now, bounds) {
        Unmet::Yes => None,
        Unmet::Ask(step @ Step::Measure { .. }) => Some(step),
        Unmet::Ask(_) if isolated.is_none() => None,
        Unmet::Ask(step) => Some(step),
        Unmet::Met(why) => met(why),
    }
}

/// The original, where it is cut off for a swap, or stopped.
pub(super) fn withheld<'a>(rem: &Remediation, seen: &'a Sweep) -> Option<Db<'a>> {
    let swap = rem.swap.as_ref()?;
    let parts = rem.parts();
    let source = find(seen, parts[0].kind, parts[0].resource_id)?;
    let off = swap.quiesce == Quiesce::Stop && source.status == "stopped";
    (off || *source.groups == swap.only()).then_some(source)
}

/// Waits where a look that shows the original in its own groups may be older than what was asked for last: a new goal
/// forgets what was asked for under the old one.
pub(super) fn unsure(rem: &Remediation, now: Time, bounds: Bounds) -> Option<Step> {
    let swap = rem.swap.as_ref()?;
    let id = rem.source.resource_id();
    let off = [groups_key(id, &swap.only()), format!("stop {id}")];
    let asked = off.iter().filter_map(|key| rem.intents.get(key)).map(|i| i.at).max();
    let new = (rem.goal != Goal::Twin).then(|| rem.since());
    let last = asked.max(new)?;
    (now.since(last) < bounds.expect_for).then(|| {
        Step::Wait("looked at once more: reads may be older than what was asked for".into())
    })
}

/// An original that was cut off for a swap that is not to be is started and gets its groups back; `None` once it
/// has them.
pub(super) fn give_back(
    rem: &Remediation,
    seen: &Sweep,
    now: Time,
    bounds: Bounds,
) -> Option<Step> {
    let Some(source) = withheld(rem, seen) else { return unsure(rem, now, bounds) };
    let parts = rem.parts();
    let (groups, _) = parts[0].own?;
    if source.status == "stopped" {
        return when_available(rem, &source, &groups_key(source.resource_id, groups), now, bounds);
    }
    if groups == source.groups {
        return None;
    }
    set_groups(rem, &source, groups, now, bounds)
}
