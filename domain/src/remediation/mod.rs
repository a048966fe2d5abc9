//! The work on one database: observe, decide, act, record.
//!
//! There is no step counter. [`decide`] looks at what is there and names the next step, the end of
//! the work first, so that finished work is never redone (docs/adr/0001). What AWS cannot show is a
//! milestone; what was asked for and may not be visible yet is an [`Intent`].

mod act;
mod adopt;
mod back;
pub mod cluster;
mod endpoint;
pub mod fidelity;
mod goal;
mod green;
pub mod instance;
mod isolate;
mod mark;
mod names;
mod place;
mod quiet;
mod replica;
mod retire;
#[cfg(test)]
mod safety;
#[cfg(test)]
pub(crate) mod sample;
mod snapshot;
mod state;
mod steps;
mod still;
mod stop;
mod swap;
mod unit;

pub use act::Act;
pub use goal::{Goal, ROUNDS_MAX};
pub use green::{Green, Twin};
pub use mark::Mark;
pub use names::{Names, name_of_twin, twin_name};
pub use quiet::{Activity, Quiesce};
pub use retire::Retirement;
pub use state::State;
pub use steps::broken;
pub(crate) use still::stoppable;
pub use stop::Failure;
pub use swap::Swap;
pub use unit::{Part, held_name, is_held};

use steps::{
    create, drop_snapshot, mend, mend_cluster, orphaned, repeat, snapshot_ready, unless_orphaned,
    wait_for,
};

use crate::far;
use crate::finding::{Kind, Resource};
use crate::hash;
use crate::id::{AccountId, Region};
use crate::rds::{Encryption, Sweep};
use crate::time::{Span, Time};
use crate::window::{self, Window};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
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

/// How patient the worker is; from the settings `remediation.*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// How long something that was asked for may stay invisible before it is asked for again, or,
    /// if AWS had confirmed it, before a person is asked.
    pub expect_for: Span,
    /// How long nobody may have been connected before the snapshot of a database that is swapped.
    pub quiet_for: Span,
    /// More writes a second than that are somebody's; an idle engine writes a little.
    pub quiet_writes: u32,
    /// The period of the metrics: RDS has one value a minute.
    pub metric_period: Span,
    /// How long an answer of CloudWatch serves.
    pub measure_every: Span,
    /// How long an original is kept after its cutover.
    pub hold: Span,
    /// How often one that is kept is looked at.
    pub hold_look: Span,
    /// Whether a command of the operator's own must agree before a twin is verified.
    pub check: bool,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Ask AWS for one thing.
    Act(Act),
    /// Look again later.
    Wait(String),
    /// Ask CloudWatch what these instances have been doing since.
    Measure {
        /// Their names.
        names: Vec<String>,
        /// From when.
        from: Time,
    },
    /// Ask the operator's command whether the data is the same.
    Check,
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
    /// The immutable id of what came of it, of a database: what names it after a swap, and what a deletion
    /// compares.
    #[serde(default)]
    pub resource_id: Option<String>,
    /// Whether AWS confirmed it.
    #[serde(default)]
    pub done: bool,
    /// Why AWS refused it last: not now, but later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Restore without the IOPS of gp3: AWS refused them at an earlier try.
    #[serde(default)]
    pub plain_gp3: bool,
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
    /// The keys of the other regions that it has replicas in.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub far_keys: BTreeMap<Region, String>,
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
    /// What is wanted.
    #[serde(default)]
    pub goal: Goal,
    /// How the twin takes the original's place, where the plan says so.
    #[serde(default)]
    pub swap: Option<Swap>,
    /// When its work and its cutover may begin; none is any time.
    #[serde(default)]
    pub windows: Vec<Window>,
    /// How often all began again.
    #[serde(default)]
    pub rounds: u32,
    /// What was tried and did not come about, and when.
    #[serde(default)]
    pub note: Option<String>,
    /// What CloudWatch said last.
    #[serde(default)]
    pub activity: Option<Activity>,
    /// What people were asked to agree to before the original is deleted.
    #[serde(default)]
    pub retirement: Option<Retirement>,
    /// Milestone: when the operator's command found the data to be the same, and what it said.
    #[serde(default)]
    pub checked: Option<(Time, String)>,
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
            done: false,
            refused: None,
            plain_gp3: false,
        });
        if now.since(intent.at) > MODIFY_FOR_MAX {
            intent.attempts = 0; // another time: an original that AWS started again is stopped again
        }
        intent.act = act;
        (intent.at, intent.done) = (now, false);
        intent.attempts += 1;
        self.state = State::Running;
    }

    /// What the twin must equal until a cutover: the original, with the isolation group as its only one where
    /// it is to be swapped, for a restored copy is alive.
    pub fn twin_spec(&self) -> Cow<'_, Resource> {
        // AWS gives a green environment the groups of the blue one, and lets nobody write to it.
        let Some(swap) = self.swap.as_ref().filter(|s| s.green.is_none()) else {
            return Cow::Borrowed(&self.source);
        };
        let mut spec = self.source.clone();
        match &mut spec {
            Resource::Instance { instance, replicas } => {
                for one in std::iter::once(instance).chain(replicas) {
                    one.settings.vpc_security_group_ids = swap.only_of(&one.id);
                }
            }
            Resource::Cluster { cluster, .. } => {
                cluster.settings.vpc_security_group_ids = swap.only();
            }
            Resource::Snapshot { .. } => {}
        }
        Cow::Owned(spec)
    }

    /// The recorded key of the region of a database; empty where none is.
    pub fn key_of(&self, id: &str) -> &str {
        match far::region(id) {
            None => &self.key_arn,
            Some(region) => self.far_keys.get(&region).map_or("", String::as_str),
        }
    }

    /// Why what is called `id` is not encrypted under the recorded key of its region, in words; `None` if it is.
    fn other_key(
        &self,
        (what, id): (&str, &str),
        encryption: &Encryption,
        key: Option<&str>,
    ) -> Option<String> {
        let want = self.key_of(id);
        let proven = *encryption == Encryption::SseKms && !want.is_empty() && key == Some(want);
        (!proven).then(|| {
            let it = format!("{what} {id}");
            format!(
                "{} is not encrypted under {want} (AWS reports encryption `{encryption}`, key {})",
                it.trim_start(),
                key.unwrap_or("none")
            )
        })
    }

    /// Whether its twin has the original's place.
    fn placed(&self) -> bool {
        self.swap.as_ref().is_some_and(|s| s.done_at.is_some())
    }

    /// From when its bounds count: the last time that it began, or was told to end.
    fn since(&self) -> Time {
        self.begun_at.unwrap_or(self.approved_at)
    }

    /// Whether it took too long, in all.
    pub fn is_late(&self, now: Time) -> bool {
        // An original is kept for as long as people want.
        if self.goal == Goal::CutOver && self.placed() {
            return false;
        }
        let unverified = self.verified_at.is_none() && self.giving_up.is_none();
        let max = if unverified { JOB_FOR_MAX } else { CLEAN_UP_FOR_MAX };
        now.since(self.since()) > max
    }

    /// Whether snapshots are all that was made, on the way to a twin that was never asked for; the verified copy of
    /// an old one is none of them.
    pub fn only_scratch(&self) -> bool {
        let made = |key: &str| self.intents.get(key).is_some_and(|i| i.made.is_some());
        let unverified = self.goal == Goal::Twin && self.verified_at.is_none();
        unverified && (made("snapshot") || made("copy")) && !self.intents.contains_key("twin")
    }

    /// Whether something was asked for so recently that it may still show: its answer was lost, or this look is older
    /// than it.
    fn in_doubt(&self, seen: &Sweep, now: Time, bounds: Bounds) -> bool {
        let shows = |made: &str| {
            let mut snapshots = seen.snapshots.iter().chain(&seen.cluster_snapshots);
            snapshots.any(|s| s.arn == made)
                || seen.instances.iter().any(|i| i.arn == made)
                || seen.clusters.iter().any(|c| c.arn == made)
                || seen.blue_greens.iter().any(|b| b.id == made)
        };
        // What was deleted since is not waited for.
        let deleted = |i: &Intent| {
            i.act.makes().is_some_and(|n| self.intents.contains_key(&format!("delete {n}")))
        };
        // A group stays, whoever made it.
        let counts = |i: &&Intent| i.act.creates() && !matches!(i.act, Act::CreateGroup { .. });
        let recent = |i: &&Intent| now.since(i.at) < bounds.expect_for;
        let mut open = self.intents.values().filter(counts).filter(recent);
        open.any(|i| i.made.as_deref().is_none_or(|made| !shows(made) && !deleted(i)))
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
    let begun = rem.swap.as_ref().is_some_and(|s| s.began_at.is_some());
    // What the plan permits at once, its window permitted when it began.
    // But a switchover interrupts an application that nothing interrupted before.
    let ordered = rem.swap.as_ref().is_some_and(|s| !s.auto || s.green.is_some());
    let cuts = |i: &Intent| matches!(i.act, Act::SetGroups { .. } | Act::SwitchOver { .. });
    let cut_off = rem.intents.values().any(cuts);
    // Once it is cut off it goes on: the application waits.
    if rem.goal == Goal::CutOver
        && ordered
        && !begun
        && !cut_off
        && let Some(why) = window::closed(&rem.windows, now)
    {
        return Step::Wait(why);
    }
    let green = rem.green().is_some();
    let step = match rem.goal {
        Goal::Twin => return make_twin(rem, seen, now, bounds),
        Goal::CutOver if green => green::cut_over(rem, seen, now, bounds),
        Goal::CutOver => swap::cut_over(rem, seen, now, bounds),
        Goal::RollBack if green => green::roll_back(rem, seen, now, bounds),
        Goal::RollBack => back::roll_back(rem, seen, now, bounds),
        Goal::Decommission => retire::decommission(rem, seen, now, bounds),
        Goal::Discard if green => green::discard(rem, seen, now, bounds),
        Goal::Discard => retire::discard(rem, seen, now, bounds),
    };
    // An original that is kept is looked at for as long as it is.
    // So is one that waited for its window.
    let kept = rem.goal == Goal::CutOver && (rem.placed() || (!begun && !rem.windows.is_empty()));
    match step {
        Step::Act(_) | Step::Wait(_) | Step::Measure { .. }
            if !kept && now.since(rem.since()) > JOB_FOR_MAX =>
        {
            Step::AskHuman(format!("not finished {JOB_FOR_MAX} after it was asked for"))
        }
        step => step,
    }
}

/// The way to a verified twin.
fn make_twin(rem: &Remediation, seen: &Sweep, now: Time, bounds: Bounds) -> Step {
    let unverified = rem.verified_at.is_none() && rem.giving_up.is_none();
    // First of all: an application waits for it.
    let kept_off =
        match rem.giving_up.as_ref().and_then(|_| retire::give_back(rem, seen, now, bounds)) {
            Some(Step::AskHuman(why)) => Some(why),
            Some(step) => return step,
            None => None,
        };
    let step = match unverified && rem.is_late(now) {
        true => Step::AskHuman(format!("not finished {JOB_FOR_MAX} after it began")),
        false => way_to_twin(rem, seen, now, bounds),
    };
    let in_doubt =
        || Step::Wait("what was asked for last may still appear; it is waited for".into());
    match step {
        // Last of all, for it may take long. Not where a swap follows: its proofs count every connection to the
        // two, the checker's too.
        Step::Mark(Mark::Verified)
            if bounds.check
                && rem.checked.is_none()
                && rem.swap.is_none()
                && rem.kind != Kind::Snapshot =>
        {
            Step::Check
        }
        // Cleaning up is bounded too; what is done is done.
        Step::Act(_) | Step::Wait(_) if now.since(rem.since()) > CLEAN_UP_FOR_MAX => {
            Step::AskHuman(format!("cleaning up did not end {CLEAN_UP_FOR_MAX} after it began"))
        }
        // Something asked for may still appear: taking down and stopping wait for it, or it would
        // be left over.
        Step::Act(_) if rem.giving_up.is_some() && rem.in_doubt(seen, now, bounds) => in_doubt(),
        Step::AskHuman(_) if rem.verified_at.is_none() && rem.in_doubt(seen, now, bounds) => {
            in_doubt()
        }
        // While there is nothing but scratch, it goes before a person is asked.
        Step::AskHuman(why) if unverified && rem.only_scratch() => match orphaned(rem, seen) {
            Some(kept) => Step::AskHuman(kept),
            None => Step::Mark(Mark::GivingUp { why }),
        },
        // An original that was cut off is not left so while a person thinks.
        Step::AskHuman(why) if unverified && retire::withheld(rem, seen).is_some() => {
            Step::Mark(Mark::GivingUp { why })
        }
        Step::AskHuman(why) => match kept_off {
            Some(also) => {
                Step::AskHuman(format!("{why}; and the original is still cut off: {also}"))
            }
            None => Step::AskHuman(why),
        },
        step => step,
    }
}

/// The table of the twin, once its isolation group is known.
fn way_to_twin(rem: &Remediation, seen: &Sweep, now: Time, bounds: Bounds) -> Step {
    if let Some(step) = isolate::group(rem, seen, now, bounds) {
        return step;
    }
    if rem.green().is_some() {
        return green::decide(rem, seen, now, bounds);
    }
    match &*rem.twin_spec() {
        Resource::Instance { instance, replicas } => {
            instance::decide(rem, instance, replicas, seen, now, bounds)
        }
        Resource::Cluster { cluster, members } => {
            cluster::decide(rem, cluster, members, seen, now, bounds)
        }
        Resource::Snapshot { snapshot, .. } => snapshot::decide(rem, snapshot, seen, now, bounds),
    }
}
