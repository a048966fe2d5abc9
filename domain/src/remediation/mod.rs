//! The work on one database: observe, decide, act, record.
//!
//! There is no step counter. [`decide`] looks at what is there and names the next step, the end of
//! the work first, so that finished work is never redone (docs/adr/0001). What AWS cannot show is a
//! milestone; what was asked for and may not be visible yet is an [`Intent`].

mod act;
pub mod cluster;
pub mod fidelity;
pub mod instance;
#[cfg(test)]
pub(crate) mod sample;
mod stop;

pub use act::Act;
pub use stop::Failure;

use crate::finding::{Kind, Resource};
use crate::hash;
use crate::id::{AccountId, Region};
use crate::rds::{Snapshot, Sweep};
use crate::time::{Span, Time};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How often one step is tried before a person is asked.
pub const ATTEMPTS_MAX: u32 = 3;

/// How long a snapshot, copy or restore may take. AWS gives no bound; its own runbooks wait 4 hours
/// for a copy, and copies of one source queue up, so a day is long and still ends.
pub const CREATE_FOR_MAX: Span = Span::hours(24);

/// How long a modification or deletion may take.
pub const MODIFY_FOR_MAX: Span = Span::hours(4);

/// How long one remediation may take in all, from its turn to its verified twin; and how old an approval
/// may be for a retry.
pub const JOB_FOR_MAX: Span = Span::hours(7 * 24);

/// How long after its turn, or after it was cancelled, a remediation may still be deleting its scratch.
pub const CLEAN_UP_FOR_MAX: Span = Span::hours(14 * 24);

/// RDS's bound on the names of instances and clusters (API reference, CreateDBInstance).
const NAME_MAX: usize = 63;

/// How patient the worker is; from the settings `remediation.*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// How long something that was asked for may stay invisible before it is asked for again, or,
    /// if AWS had confirmed it, before a person is asked.
    pub expect_for: Span,
}

/// A fact that AWS cannot show. Set once, before the act that it permits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "mark")]
pub enum Mark {
    /// The twin equals the original, field by field, and is encrypted under the key.
    Verified,
    /// It cannot work: what we made is taken down again, for this reason.
    GivingUp {
        /// What went wrong.
        why: String,
    },
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Ask AWS for one thing.
    Act(Act),
    /// Look again later.
    Wait(String),
    /// Set a milestone.
    Mark(Mark),
    /// All is done and cleaned up.
    Finish,
    /// A person must look: nothing more is done.
    AskHuman(String),
}

/// What was asked for. After a restart it is an expectation, never a position: it may have happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The act.
    pub act: Act,
    /// When it was first asked for.
    pub first_at: Time,
    /// When it was last asked for.
    pub at: Time,
    /// How often.
    pub attempts: u32,
    /// The ARN of what came of it: from AWS's own reply, or from an observation of a resource with
    /// our tag under the exact name while this intent was open.
    pub made: Option<String>,
    /// The immutable id of what came of it, of a cluster: what a deletion compares.
    #[serde(default)]
    pub resource_id: Option<String>,
    /// Restore without the IOPS of gp3: AWS refused them at an earlier try.
    #[serde(default)]
    pub plain_gp3: bool,
}

/// Where a remediation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Admitted, not begun.
    Pending,
    /// Being worked on.
    Running,
    /// The twin is verified and the scratch is gone.
    Verified,
    /// A person must look; `why` says at what.
    Stopped,
    /// A person stopped it for a while, or its plan's failures did; nothing is done.
    Paused,
    /// A person ended it; its scratch is gone.
    Cancelled,
}

impl State {
    /// All states.
    pub const ALL: [State; 6] = [
        State::Pending,
        State::Running,
        State::Verified,
        State::Stopped,
        State::Paused,
        State::Cancelled,
    ];

    /// The name in JSON and on screen.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Pending => "pending",
            State::Running => "running",
            State::Verified => "verified",
            State::Stopped => "stopped",
            State::Paused => "paused",
            State::Cancelled => "cancelled",
        }
    }

    /// Whether nothing more will happen, unless a person asks for it.
    pub fn ended(self) -> bool {
        match self {
            State::Verified | State::Stopped | State::Cancelled => true,
            State::Pending | State::Running | State::Paused => false,
        }
    }
}

/// The names of what a remediation makes. Functions of the source and the remediation, so that a
/// repeat finds its own work instead of making it twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// The plain snapshot.
    pub snapshot: String,
    /// The encrypted copy of it.
    pub copy: String,
    /// The twin.
    pub twin: String,
}

/// The twin's name: `encrypted-<name>`; over 63 characters the name is cut, trimmed of `-`, and `-`
/// with 8 hex digits of the SHA-256 of the source's resource id follows.
pub fn twin_name(name: &str, resource_id: &str) -> String {
    let whole = format!("encrypted-{name}");
    if whole.len() <= NAME_MAX {
        return whole;
    }
    let cut: String = whole.chars().take(NAME_MAX - 9).collect();
    format!("{}-{}", cut.trim_end_matches('-'), hash::short(resource_id, 8))
}

impl Names {
    /// The names for one source and one remediation.
    pub fn new(remediation: &str, resource: &Resource) -> Names {
        Names {
            snapshot: format!("ringfence-{remediation}-plain"),
            copy: format!("ringfence-{remediation}-enc"),
            twin: twin_name(resource.name(), resource.resource_id()),
        }
    }
}

/// One remediation, as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remediation {
    /// `rem-` and 12 hex digits, a function of plan and finding.
    pub id: String,
    /// The plan.
    pub plan: String,
    /// The plan's hash, as approved.
    pub plan_hash: String,
    /// The finding.
    pub finding: String,
    /// The account.
    pub account: AccountId,
    /// The region.
    pub region: Region,
    /// Instance or cluster.
    pub kind: Kind,
    /// The source as planned: what the twin must equal.
    pub source: Resource,
    /// The key, resolved when planned.
    pub key_arn: String,
    /// The names of what it makes.
    pub names: Names,
    /// Milestone: who approved the plan and when, written at admission.
    pub approved_at: Time,
    /// When its turn came, last.
    #[serde(default)]
    pub begun_at: Option<Time>,
    /// Milestone: the twin was verified.
    pub verified_at: Option<Time>,
    /// Milestone: it cannot work or is not wanted, and what was made is being taken down.
    pub giving_up: Option<String>,
    /// Whether a person ended it.
    #[serde(default)]
    pub cancelled: bool,
    /// What kind of trouble stopped it.
    #[serde(default)]
    pub failure: Option<Failure>,
    /// Whether a person has looked at that: it counts no more against `remediation.failure_budget`.
    #[serde(default)]
    pub forgiven: bool,
    /// Those with a higher one begin first.
    #[serde(default)]
    pub priority: i32,
    /// What was asked for, by [`Act::key`].
    pub intents: BTreeMap<String, Intent>,
    /// Where it stands.
    pub state: State,
    /// Why it waits, or why it stopped.
    pub why: String,
    /// When to look again.
    pub wake_at: Time,
}

impl Remediation {
    /// The id of the remediation of that finding under that plan: a plan applied twice meets itself.
    pub fn id_of(plan: &str, finding: &str) -> String {
        format!("rem-{}", hash::short(&format!("{plan} {finding}"), 12))
    }

    /// Notes that an act is about to be asked for. Must be committed before the call.
    pub fn intend(&mut self, act: Act, now: Time) {
        let intent = self.intents.entry(act.key()).or_insert(Intent {
            act: act.clone(),
            first_at: now,
            at: now,
            attempts: 0,
            made: None,
            resource_id: None,
            plain_gp3: false,
        });
        intent.act = act;
        intent.at = now;
        intent.attempts += 1;
        self.state = State::Running;
    }

    /// Takes over what an open intent made although its answer was lost: the exact name, with our
    /// tag and this remediation's id.
    pub fn adopt(&mut self, seen: &Sweep) {
        let id = self.id.clone();
        let ours = |made_by: &Option<String>| made_by.as_deref() == Some(id.as_str());
        let snapshot = |list: &[Snapshot], name: &str| {
            list.iter().find(|s| s.id == name && ours(&s.made_by)).map(|s| s.arn.clone())
        };
        for intent in self.intents.values_mut().filter(|i| i.made.is_none()) {
            intent.made = match &intent.act {
                Act::CreateSnapshot { snapshot: name } | Act::CopySnapshot { to: name, .. } => {
                    snapshot(&seen.snapshots, name)
                }
                Act::CreateClusterSnapshot { snapshot: name } => {
                    snapshot(&seen.cluster_snapshots, name)
                }
                Act::RestoreInstance { instance, .. } | Act::CreateMember { instance, .. } => {
                    let found = seen.instance(instance).filter(|i| ours(&i.made_by));
                    found.map(|i| i.arn.clone())
                }
                Act::RestoreCluster { cluster, .. } => {
                    let found = seen.cluster(cluster).filter(|c| ours(&c.made_by));
                    intent.resource_id = found.map(|c| c.resource_id.clone());
                    found.map(|c| c.arn.clone())
                }
                Act::ModifyInstance { .. }
                | Act::ModifyCluster { .. }
                | Act::DeleteSnapshot { .. }
                | Act::DeleteClusterSnapshot { .. }
                | Act::DeleteCluster { .. } => None,
            };
        }
    }

    /// From when its bounds count: the last time that it began, or was told to end.
    fn since(&self) -> Time {
        self.begun_at.unwrap_or(self.approved_at)
    }

    /// Whether it took too long, in all.
    pub fn is_late(&self, now: Time) -> bool {
        let unverified = self.verified_at.is_none() && self.giving_up.is_none();
        let max = if unverified { JOB_FOR_MAX } else { CLEAN_UP_FOR_MAX };
        now.since(self.since()) > max
    }

    /// Whether snapshots are all that was made, and a twin was never asked for.
    pub fn only_scratch(&self) -> bool {
        let made = |key: &str| self.intents.get(key).is_some_and(|i| i.made.is_some());
        (made("snapshot") || made("copy")) && !self.intents.contains_key("twin")
    }

    /// Whether a create call was made so recently, and without an answer, that its effect may still
    /// show.
    fn in_doubt(&self, now: Time, bounds: Bounds) -> bool {
        let creates = |i: &&Intent| i.act.creates();
        let mut creates = self.intents.values().filter(creates);
        creates.any(|i| i.made.is_none() && now.since(i.at) < bounds.expect_for)
    }

    /// Whether this remediation made the thing: our tag with its id, and the ARN recorded under the
    /// intent that asked for it. Anything else is never deleted.
    pub fn made(&self, key: &str, arn: &str, made_by: Option<&str>) -> bool {
        made_by == Some(self.id.as_str())
            && self.intents.get(key).and_then(|i| i.made.as_deref()) == Some(arn)
    }
}

/// The next step. Pure: the same remediation, observation and instant give the same answer.
pub fn decide(rem: &Remediation, seen: &Sweep, now: Time, bounds: Bounds) -> Step {
    let unverified = rem.verified_at.is_none() && rem.giving_up.is_none();
    if unverified && rem.is_late(now) {
        let why = format!("not finished {JOB_FOR_MAX} after it began");
        return match rem.only_scratch() {
            true => Step::Mark(Mark::GivingUp { why }),
            false => Step::AskHuman(why),
        };
    }
    let step = match &rem.source {
        Resource::Instance { instance } => instance::decide(rem, instance, seen, now, bounds),
        Resource::Cluster { cluster, members } => {
            cluster::decide(rem, cluster, members, seen, now, bounds)
        }
    };
    let in_doubt =
        || Step::Wait("what was asked for last may still appear; it is waited for".into());
    match step {
        // Cleaning up is bounded too; what is done is done.
        Step::Act(_) | Step::Wait(_) if now.since(rem.since()) > CLEAN_UP_FOR_MAX => {
            Step::AskHuman(format!("cleaning up did not end {CLEAN_UP_FOR_MAX} after it began"))
        }
        // Something asked for may still appear: taking down and stopping wait for it, or it would
        // be left over.
        Step::Act(_) if rem.giving_up.is_some() && rem.in_doubt(now, bounds) => in_doubt(),
        Step::AskHuman(_) if rem.verified_at.is_none() && rem.in_doubt(now, bounds) => in_doubt(),
        // While there is nothing but scratch, it goes before a person is asked.
        Step::AskHuman(why) if unverified && rem.only_scratch() => {
            Step::Mark(Mark::GivingUp { why })
        }
        step => step,
    }
}

/// Asks for a thing that is not there, unless it was asked for and may still appear.
fn create(rem: &Remediation, act: Act, now: Time, bounds: Bounds) -> Step {
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
        Some(i) if i.attempts >= ATTEMPTS_MAX => {
            Step::AskHuman(format!("tried {} times without effect: {title}", i.attempts))
        }
        Some(_) => Step::Act(act),
    }
}

/// Repeats an act that changes nothing when done twice, at most [`ATTEMPTS_MAX`] times.
fn repeat(rem: &Remediation, act: Act, now: Time, bounds: Bounds) -> Step {
    let title = act.title();
    match rem.intents.get(&act.key()) {
        None => Step::Act(act),
        Some(i) if now.since(i.at) < bounds.expect_for => {
            Step::Wait(format!("asked AWS to {title}; it does not show yet"))
        }
        Some(i) if i.attempts >= ATTEMPTS_MAX => {
            Step::AskHuman(format!("tried {} times without effect: {title}", i.attempts))
        }
        Some(_) => Step::Act(act),
    }
}

/// Waits for a thing that is being made, as long as that may take.
fn wait_for(rem: &Remediation, key: &str, what: &str, status: &str, max: Span, now: Time) -> Step {
    // Without an intent of its own the wait began with what was asked for last.
    let last = rem.intents.values().map(|i| i.at).max().unwrap_or(rem.since());
    let since = rem.intents.get(key).map_or(last, |i| i.at);
    if now.since(since) > max {
        Step::AskHuman(format!("{what} is still {status} after {max}"))
    } else {
        Step::Wait(format!("{what} is {status}"))
    }
}

/// Deletes one scratch snapshot if it is there; `None` when it is gone.
fn drop_snapshot(
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
    if found.status == "deleting" {
        let what = format!("snapshot {}", found.id);
        return Some(wait_for(rem, &act.key(), &what, "deleting", MODIFY_FOR_MAX, now));
    }
    Some(repeat(rem, act, now, bounds))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twin_names_fit_and_stay_apart() {
        assert_eq!(twin_name("orders", "db-A"), "encrypted-orders");
        let long = "a".repeat(63);
        let (a, b) = (twin_name(&long, "db-A"), twin_name(&long, "db-B"));
        assert!(a.len() == 63 && b.len() == 63 && a != b, "{a} {b}");
        assert_eq!(a, twin_name(&long, "db-A"));
        let dashed = format!("{}-{}", "a".repeat(43), "b".repeat(19));
        let name = twin_name(&dashed, "db-A");
        assert!(!name.contains("--"), "RDS refuses two hyphens in a row: {name}");
    }
}
