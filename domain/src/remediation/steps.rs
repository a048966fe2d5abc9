//! The steps that all tables share: ask once, ask again, wait, delete scratch.

use super::fidelity::{self, Difference};
use super::{ATTEMPTS_MAX, Act, Bounds, CREATE_FOR_MAX, Intent, MODIFY_FOR_MAX, Remediation, Step};
use crate::finding::Kind;
use crate::rds::{Cluster, Instance, Snapshot, Sweep};
use crate::time::{Span, Time};
use std::collections::BTreeSet;

/// Asks for a thing that is not there, unless it was asked for and may still appear.
pub(super) fn create(rem: &Remediation, act: Act, now: Time, bounds: Bounds) -> Step {
    let title = act.title();
    match rem.intents.get(&act.key()) {
        None => Step::Act(act),
        // Reads may lag writes: an unseen thing is not an absent thing until its time is up.
        Some(i) if now.since(i.at) < bounds.expect_for => {
            Step::Wait(format!("asked AWS to {title}; it is not visible yet"))
        }
        Some(i) if i.made.is_some() => Step::AskHuman(format!(
            "AWS had confirmed: {title}; now it is gone. Somebody may have deleted it"
        )),
        Some(i) if i.attempts >= ATTEMPTS_MAX => Step::AskHuman(tried(i, &title)),
        Some(_) => Step::Act(act),
    }
}

/// That it was tried often enough, and AWS's reason where it gave one.
fn tried(intent: &Intent, title: &str) -> String {
    let why = intent.refused.as_ref().map_or(String::new(), |why| format!(" ({why})"));
    format!("tried {} times without effect: {title}{why}", intent.attempts)
}

/// Repeats an act that changes nothing when done twice, at most [`ATTEMPTS_MAX`] times.
pub(super) fn repeat(rem: &Remediation, act: Act, now: Time, bounds: Bounds) -> Step {
    let title = act.title();
    match rem.intents.get(&act.key()) {
        None => Step::Act(act),
        Some(i) if now.since(i.at) < bounds.expect_for => {
            Step::Wait(format!("asked AWS to {title}; it does not show yet"))
        }
        Some(i) if i.attempts >= ATTEMPTS_MAX && now.since(i.at) <= MODIFY_FOR_MAX => {
            Step::AskHuman(tried(i, &title))
        }
        Some(_) => Step::Act(act),
    }
}

/// Gives what was made the next role that its original has; `None` once it has them all. A restore brings none
/// along (API reference, AddRoleToDBInstance).
pub(super) fn next_role(
    rem: &Remediation,
    (kind, id): (Kind, &str),
    want: &BTreeSet<(String, String)>,
    have: &BTreeSet<(String, String)>,
    now: Time,
    bounds: Bounds,
) -> Option<Step> {
    let (feature, role) = want.difference(have).next()?.clone();
    let act = Act::AddRole { kind, database: id.to_owned(), role, feature };
    Some(repeat(rem, act, now, bounds))
}

/// Makes an instance that was made what its original is; `None` once it is.
pub(super) fn mend(
    what: &str,
    rem: &Remediation,
    (want, have): (&Instance, &Instance),
    differences: Vec<Difference>,
    now: Time,
    bounds: Bounds,
) -> Option<Step> {
    if differences.is_empty() {
        return None;
    }
    // A member of a cluster has none of its own to compare.
    if differences.iter().any(|d| d.field == "associated_roles") {
        let (own, there) = (&want.settings.associated_roles, &have.settings.associated_roles);
        let step = next_role(rem, (Kind::Instance, &have.id), own, there, now, bounds);
        if step.is_some() {
            return step;
        }
    }
    let instance = have.id.clone();
    Some(match fidelity::mendable(&differences, fidelity::INSTANCE_MODIFIABLE) {
        Ok(fields) => repeat(rem, Act::ModifyInstance { instance, fields }, now, bounds),
        Err(why) => Step::AskHuman(format!("{what} {instance} differs: {why}")),
    })
}

/// Makes a cluster that was made what its original is, members apart; `None` once it is.
pub(super) fn mend_cluster(
    rem: &Remediation,
    (want, have): (&Cluster, &Cluster),
    now: Time,
    bounds: Bounds,
) -> Option<Step> {
    let differences = fidelity::cluster(want, have);
    if differences.is_empty() {
        return None;
    }
    let (own, there) = (&want.settings.associated_roles, &have.settings.associated_roles);
    let step = next_role(rem, (Kind::Cluster, &have.id), own, there, now, bounds);
    let cluster = have.id.clone();
    step.or_else(|| {
        Some(match fidelity::mendable(&differences, fidelity::CLUSTER_MODIFIABLE) {
            Ok(fields) => repeat(rem, Act::ModifyCluster { cluster, fields }, now, bounds),
            Err(why) => Step::AskHuman(format!("the twin cluster {cluster} differs: {why}")),
        })
    })
}

/// Waits for a thing that is being made, as long as that may take.
pub(super) fn wait_for(
    rem: &Remediation,
    key: &str,
    what: &str,
    status: &str,
    max: Span,
    now: Time,
) -> Step {
    // Without an intent of its own the wait began with what was asked for last.
    let last = rem.intents.values().map(|i| i.at).max().unwrap_or(rem.since());
    // What was made under an earlier goal is no news.
    let since = rem.intents.get(key).map_or(last, |i| i.at).max(rem.since());
    if now.since(since) > max {
        Step::AskHuman(format!("{what} is still {status} after {max}"))
    } else {
        Step::Wait(format!("{what} is {status}"))
    }
}

/// A snapshot's row: `None` when it is available and ours.
pub(super) fn snapshot_ready(
    rem: &Remediation,
    key: &str,
    snapshot: &Snapshot,
    now: Time,
) -> Option<Step> {
    let id = &snapshot.id;
    if snapshot.made_by.as_deref() != Some(rem.id.as_str()) {
        return Some(Step::AskHuman(format!(
            "snapshot {id} exists and was not made by {}",
            rem.id
        )));
    }
    match snapshot.status.as_str() {
        "available" => None,
        status if broken(status) => Some(Step::AskHuman(format!("snapshot {id} is {status}"))),
        status => Some(wait_for(rem, key, &format!("snapshot {id}"), status, CREATE_FOR_MAX, now)),
    }
}

/// Deletes one scratch snapshot if it is there; `None` when it is gone.
pub(super) fn drop_snapshot(
    rem: &Remediation,
    snapshot: Option<&Snapshot>,
    key: &str,
    act: Act,
    now: Time,
    bounds: Bounds,
) -> Option<Step> {
    let found = snapshot?;
    if !rem.made(key, &found.arn, found.made_by.as_deref()) {
        return Some(Step::AskHuman(format!(
            "snapshot {} bears the name of our scratch but was not made by {}: it is left alone",
            found.id, rem.id
        )));
    }
    // "The DB snapshot must be in the available state to be deleted" (API reference, DeleteDBSnapshot).
    if found.status == "creating" {
        let what = format!("snapshot {}, which is to be deleted,", found.id);
        return Some(wait_for(rem, key, &what, "creating", CREATE_FOR_MAX, now));
    }
    if found.status == "deleting" {
        let what = format!("snapshot {}", found.id);
        return Some(wait_for(rem, &act.key(), &what, "deleting", MODIFY_FOR_MAX, now));
    }
    Some(repeat(rem, act, now, bounds))
}

/// A step that takes down what was made, unless that may be all there is.
pub(super) fn unless_orphaned(rem: &Remediation, seen: &Sweep, step: Option<Step>) -> Option<Step> {
    step.map(|step| orphaned(rem, seen).map_or(step, Step::AskHuman))
}

/// Why nothing that was made may be taken down: the data is in no database any more that we know of. `None`
/// while its original is there, or its verified twin.
pub(super) fn orphaned(rem: &Remediation, seen: &Sweep) -> Option<String> {
    let own = rem.source.resource_id();
    let twin = |name: &str, by: &Option<String>, status: &str| {
        rem.verified_at.is_some()
            && name == rem.names.twin
            && by.as_deref() == Some(rem.id.as_str())
            && !broken(status)
    };
    let mut instances = seen.instances.iter().filter(|i| i.status != "deleting");
    let mut clusters = seen.clusters.iter().filter(|c| c.status != "deleting");
    let mut snapshots =
        seen.snapshots.iter().filter(|s| s.status != "deleting" && !broken(&s.status));
    let there = snapshots.any(|s| s.resource_id == own && s.id == rem.source.name())
        || instances.any(|i| i.resource_id == own || twin(&i.id, &i.made_by, &i.status))
        || clusters.any(|c| c.resource_id == own || twin(&c.id, &c.made_by, &c.status));
    (!there).then(|| {
        format!(
            "the original {} is gone, so what was made of it may be the last copy of its data: nothing is deleted. Delete it by hand once nobody needs it",
            rem.source.name()
        )
    })
}

/// Whether a status of an instance, cluster or snapshot is one that does not heal by waiting
/// (RDS guide, "Viewing DB instance status").
pub fn broken(status: &str) -> bool {
    status == "failed"
        || status == "restore-error"
        || status == "storage-full"
        || status == "insufficient-capacity"
        || status.starts_with("incompatible-")
        || status.starts_with("inaccessible-")
}
