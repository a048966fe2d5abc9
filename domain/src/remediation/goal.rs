//! What people want of a remediation beyond its verified twin, and what becomes of it when a milestone is
//! reached.

use super::quiet::KNOWN_FOR_MAX;
use super::unit::twin_id;
use super::{Bounds, Green, Intent, Names, Part, Quiesce, Remediation, Retirement, State, Swap};
use crate::finding::Kind;
use crate::time::Time;
use serde::{Deserialize, Serialize};

/// How often all may begin again because the original was used after its snapshot.
pub const ROUNDS_MAX: u32 = 3;

/// What is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// A verified twin.
    #[default]
    Twin,
    /// The twin in the original's place.
    CutOver,
    /// The original in its own place again.
    RollBack,
    /// The original gone.
    Decommission,
    /// The twin gone.
    Discard,
}

impl Goal {
    /// Where a remediation stands that has reached it.
    pub fn reached(self) -> State {
        match self {
            Goal::Twin => State::Verified,
            Goal::CutOver => State::CutOver,
            Goal::RollBack => State::RolledBack,
            Goal::Decommission => State::Decommissioned,
            Goal::Discard => State::Discarded,
        }
    }
}

impl Remediation {
    /// Sets what is wanted now. What was made stays recorded; what was asked of it counts no more.
    pub(super) fn aim(&mut self, goal: Goal, now: Time) {
        self.goal = goal;
        self.intents.retain(|_, intent| intent.act.creates());
        (self.activity, self.begun_at, self.wake_at) = (None, Some(now), now);
        (self.failure, self.forgiven) = (None, false);
        self.state = State::Running;
    }

    /// Whether it cuts its original off, and has begun.
    pub fn cuts_off(&self) -> bool {
        let isolates = self.swap.as_ref().is_some_and(|s| s.quiesce.isolates());
        isolates && self.has_begun()
    }

    /// Whether its databases are cut off, or between two names: an application waits for its end.
    pub fn midway(&self) -> bool {
        let cut_off = self.swap.as_ref().is_some_and(|s| s.cut_off);
        let begun = self.swap.as_ref().is_some_and(|s| s.began_at.is_some());
        match self.goal {
            // To its end, where the twin is open and the original protected and stopped.
            Goal::CutOver if self.placed() => self.state != State::CutOver,
            Goal::CutOver => cut_off || begun,
            Goal::RollBack => self.state != State::RolledBack,
            Goal::Twin | Goal::Discard => cut_off,
            Goal::Decommission => false,
        }
    }

    /// Whether it is about to ask AWS for something that `before` had not asked for.
    pub fn asks(&self, before: &Remediation) -> bool {
        let new =
            |(key, i): (&String, &Intent)| before.intents.get(key).is_none_or(|b| i.at > b.at);
        self.intents.iter().any(new)
    }

    /// Why its owner's word is not wanted; `None` if it was taken.
    pub fn confirm(&mut self, who: &str, now: Time) -> Option<String> {
        let waits = matches!(self.state, State::Pending | State::Running | State::Paused)
            && self.goal == Goal::Twin
            && self.giving_up.is_none();
        let Some(swap) = self.swap.as_mut().filter(|s| s.quiesce == Quiesce::Confirm) else {
            return Some("its plan does not wait for a word: plan with --quiesce confirm".into());
        };
        match (&swap.confirmed, &swap.quiet) {
            (Some((at, by)), _) => return Some(format!("{by} said so {at}")),
            (None, Some(_)) => return Some("its snapshot was asked for already".into()),
            (None, None) if !waits => return Some(format!("it is {}", self.state.as_str())),
            (None, None) => {}
        }
        swap.confirmed = Some((now, who.to_owned()));
        self.wake_at = now;
        None
    }

    /// Why it cannot be cut over; `None` if it can.
    pub fn cut_over(&mut self, now: Time) -> Option<String> {
        if self.kind == Kind::Snapshot {
            return Some("it is about a snapshot: nothing takes its place".into());
        }
        if self.swap.is_none() {
            return Some(
                "its plan makes a twin beside the original: plan with --strategy swap".into(),
            );
        }
        let verified = self.goal == Goal::Twin && self.state == State::Verified;
        let swap = self.swap.as_ref();
        // Forward again, where the way back got stuck before it began.
        let stuck = self.goal == Goal::RollBack
            && self.state == State::Stopped
            && swap.is_some_and(|s| s.back_at.is_none() && s.stale.is_none());
        // A switchover that was withdrawn, or that somebody did while the twin was being discarded.
        let again = self.green().is_some()
            && match self.goal {
                Goal::RollBack => self.state == State::RolledBack,
                Goal::Discard => self.state == State::Stopped,
                Goal::Twin | Goal::CutOver | Goal::Decommission => false,
            };
        if !verified && !stuck && !again {
            return Some(format!(
                "it is {}, and a cutover begins with a verified twin",
                self.state.as_str()
            ));
        }
        let since = swap.and_then(|s| s.quiet.as_ref()).map(|q| q.from);
        if verified && since.is_some_and(|from| now.since(from) > KNOWN_FOR_MAX) {
            return Some(format!(
                "its proof begins {}, and CloudWatch knows minutes for 15 days: discard the twin, and retry",
                since.unwrap_or_default()
            ));
        }
        self.note = None;
        if let Some(swap) = &mut self.swap {
            swap.unmet_at = None; // asked anew: it was a while ago
        }
        self.aim(Goal::CutOver, now);
        None
    }

    /// Why there is no way back; `None` if it has begun.
    pub fn roll_back(&mut self, now: Time) -> Option<String> {
        let open = !matches!(self.state, State::Paused | State::Cancelled);
        if self.goal != Goal::CutOver || !open {
            let or = match self.state {
                State::Verified if self.green().is_some() => {
                    "; `remediation discard` deletes its green environment"
                }
                State::Verified => {
                    "; `remediation discard` deletes its twin, and gives the original back"
                }
                _ => "",
            };
            return Some(format!(
                "it is {}, and only a cutover can be rolled back{or}",
                self.state.as_str()
            ));
        }
        let began = self.swap.as_ref().and_then(|s| s.began_at);
        if let (Some(_), Some(at)) = (self.green(), began) {
            return Some(format!(
                "AWS switched over before {at}, and nothing replicates back: {} lacks what was written since",
                self.held()
            ));
        }
        if began.is_some_and(|began| now.since(began) > KNOWN_FOR_MAX) {
            return Some(format!(
                "the names changed {}, and CloudWatch knows minutes for 15 days: nobody can prove that nothing was written since",
                began.unwrap_or_default()
            ));
        }
        (self.retirement, self.note) = (None, None);
        self.aim(Goal::RollBack, now);
        None
    }

    /// Why the original cannot be decommissioned; `None` if that has begun.
    pub fn decommission(&mut self, now: Time, bounds: Bounds) -> Option<String> {
        let verified = self.verified_at.filter(|_| self.state == State::Verified);
        let swapped = self.swap.as_ref().and_then(|s| s.done_at);
        let (done, what) = match self.kind {
            Kind::Snapshot => {
                (verified.filter(|_| self.goal == Goal::Twin), "a snapshot whose copy is verified")
            }
            Kind::Instance | Kind::Cluster => (
                swapped.filter(|_| self.goal == Goal::CutOver),
                "an original whose twin has its place",
            ),
        };
        let Some(done) = done else {
            let state = self.state.as_str();
            return Some(format!("it is {state}, and only {what} is decommissioned"));
        };
        if now.since(done) < bounds.hold {
            let what =
                if self.kind == Kind::Snapshot { "the old snapshot" } else { "the original" };
            return Some(format!(
                "{what} is held until {} (remediation.hold is {})",
                done.plus(bounds.hold),
                bounds.hold
            ));
        }
        self.aim(Goal::Decommission, now);
        None
    }

    /// Why the twin cannot be discarded; `None` if that has begun.
    pub fn discard(&mut self, now: Time) -> Option<String> {
        // A switchover that could not be had interrupted nothing.
        let withdrawn = self.green().is_some()
            && self.state == State::Stopped
            && matches!(self.goal, Goal::CutOver | Goal::RollBack)
            && self.swap.as_ref().is_some_and(|s| s.began_at.is_none());
        if !matches!(self.state, State::Verified | State::RolledBack) && !withdrawn {
            return Some(format!(
                "it is {}, and only a twin beside its original is discarded",
                self.state.as_str()
            ));
        }
        if self.kind == Kind::Snapshot {
            return Some(format!(
                "{} is a snapshot: delete it by hand, once its original is sure to stay",
                self.names.twin
            ));
        }
        if self.swap.is_none() {
            return Some("its twin stands in security groups of its own, so nobody can prove that it was not used: delete it by hand".into());
        }
        self.note = None;
        self.aim(Goal::Discard, now);
        None
    }

    /// What people agree to when its original is to be deleted.
    pub fn retirement(&self, author: &str, at: Time, reason: &str) -> Retirement {
        // A copy of a snapshot has no immutable id but its ARN.
        let twin = |p: &Part<'_>| match self.kind {
            Kind::Snapshot => {
                let made = self.intents.get(&p.key).and_then(|i| i.made.clone());
                (p.twin.clone(), made.unwrap_or_default())
            }
            Kind::Instance | Kind::Cluster => {
                (p.id.to_owned(), twin_id(self, p).unwrap_or_default().to_owned())
            }
        };
        let parts = self.parts();
        Retirement {
            author: author.to_owned(),
            at,
            reason: reason.to_owned(),
            originals: parts.iter().map(|p| (p.held.clone(), p.resource_id.to_owned())).collect(),
            twins: parts.iter().map(twin).collect(),
            approvals: Vec::new(),
        }
    }

    /// Its goal is reached.
    pub fn finish(&mut self, now: Time, bounds: Bounds) {
        let swap = self.swap.clone().unwrap_or_default();
        match (self.goal, swap.stale) {
            (Goal::Twin, _) if swap.auto => {
                self.aim(Goal::CutOver, now);
                self.why = "its plan permits the cutover".into();
                return;
            }
            // The original has its groups back; the twin without its writes goes.
            (Goal::RollBack, Some(why)) => {
                self.aim(Goal::Discard, now);
                self.why = why;
                return;
            }
            (Goal::Discard, Some(why)) => return self.begin_again(&why, now),
            _ => {}
        }
        self.state = self.goal.reached();
        let held = self.held();
        let why = match self.goal {
            Goal::CutOver => {
                let until = swap.done_at.unwrap_or(now).plus(bounds.hold);
                format!("the original is kept as {held}; it can be decommissioned from {until} on")
            }
            Goal::RollBack if swap.green.is_some() => {
                format!(
                    "nothing was switched over; next: ringfence remediation cutover {} --reason ..., or discard",
                    self.id
                )
            }
            Goal::RollBack => {
                format!(
                    "the twin {} stays, isolated, until it is discarded: ringfence remediation discard {} --reason ...",
                    self.names.twin, self.id
                )
            }
            Goal::Discard if swap.green.is_some() => {
                "its blue/green deployment is deleted; the original was not touched".into()
            }
            Goal::Discard => "the twin is deleted; the original has its groups".into(),
            Goal::Twin if self.swap.is_some() => {
                let cut_off = match swap.quiesce {
                    _ if swap.green.is_some() => "AWS keeps the twin in step; ",
                    Quiesce::Isolate => "the original is cut off; ",
                    Quiesce::Stop => "the original is cut off and stopped; ",
                    Quiesce::Observe | Quiesce::Confirm => "",
                };
                format!("{cut_off}next: ringfence remediation cutover {} --reason ...", self.id)
            }
            Goal::Twin if self.kind == Kind::Snapshot => {
                let until = self.verified_at.unwrap_or(now).plus(bounds.hold);
                format!(
                    "the old snapshot stays; from {until} on: ringfence remediation decommission {} --confirm {}",
                    self.id,
                    self.source.name()
                )
            }
            Goal::Twin => String::new(),
            Goal::Decommission if self.kind == Kind::Snapshot => {
                format!("the encrypted copy {} stays", self.last_copy())
            }
            Goal::Decommission => format!("a last copy stays: snapshot {}", self.last_copy()),
        };
        // What was tried and did not come about is said for as long as it stands.
        self.why = match &self.note {
            Some(note) => format!("{why}; {note}"),
            None => why,
        };
        // An original that AWS starts again after seven days is stopped again.
        self.wake_at = now.plus(bounds.hold_look);
        if self.goal == Goal::Discard {
            self.forget_twin();
        }
    }

    /// There is no twin and no scratch: a retry begins anew.
    fn forget_twin(&mut self) {
        (self.goal, self.verified_at, self.checked) = (Goal::Twin, None, None);
        self.intents.clear();
        if let Some(Swap { isolation, far_isolation, make, quiesce, auto, green, .. }) =
            self.swap.take()
        {
            let green =
                green.map(|Green { proven_at, .. }| Green { proven_at, ..Green::default() });
            self.swap = Some(Swap {
                isolation,
                far_isolation,
                make,
                quiesce,
                auto,
                green,
                ..Swap::default()
            });
        }
    }

    /// All begins again with another snapshot, a few times.
    fn begin_again(&mut self, why: &str, now: Time) {
        self.rounds += 1;
        self.note = Some(format!("{now}: {why}; this is try {} of {ROUNDS_MAX}", self.rounds + 1));
        self.aim(Goal::Twin, now);
        self.forget_twin();
        self.names = Names::again(&self.id, &self.source, self.rounds);
        self.why = format!("{why}; it begins again");
        if self.rounds >= ROUNDS_MAX {
            let why = format!(
                "{why}; it was tried {ROUNDS_MAX} times, and no twin is left: stop the writes, and retry"
            );
            self.stop(&why, super::Failure::Blocked);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Act, Mark, decide, sample};
    use super::*;

    #[test]
    fn only_who_waits_for_an_end_is_midway() {
        use Goal::*;
        use State as S;
        let (rem, _, now) = sample::instance_world(&[]);
        for (goal, state, marks, want) in [
            (Twin, S::Running, "", false),
            (Twin, S::Running, "cut", true),
            (Twin, S::Verified, "cut", true),
            (CutOver, S::Running, "", false),
            (CutOver, S::Running, "cut", true),
            (CutOver, S::Stopped, "begun", true),
            (CutOver, S::Running, "begun done", true),
            (CutOver, S::Stopped, "begun done", true),
            (CutOver, S::CutOver, "cut begun done", false),
            (RollBack, S::Running, "begun done", true),
            (RollBack, S::Stopped, "begun", true),
            (RollBack, S::RolledBack, "", false),
            (Discard, S::Running, "", false),
            (Discard, S::Running, "cut", true),
            (Decommission, S::Running, "cut begun done", false),
        ] {
            let at = |word: &str| marks.contains(word).then_some(now);
            let swap = Swap {
                began_at: at("begun"),
                done_at: at("done"),
                cut_off: marks.contains("cut"),
                ..Swap::default()
            };
            let rem = Remediation { goal, state, swap: Some(swap), ..rem.clone() };
            assert_eq!(rem.midway(), want, "{goal:?} {state:?} {marks:?}");
        }
    }

    #[test]
    fn whatever_is_asked_of_aws_shows() {
        let (mut rem, _, now) = sample::instance_world(&[]);
        rem.intents.clear();
        let before = rem.clone();
        rem.state = State::Running;
        rem.wake_at = now;
        assert!(!rem.asks(&before), "a look asks for nothing");
        let act = Act::CreateSnapshot { snapshot: "s".into() };
        rem.intend(act.clone(), now);
        assert!(rem.asks(&before));
        let asked = rem.clone();
        rem.intents.get_mut("snapshot").unwrap().done = true;
        assert!(!rem.asks(&asked), "it was answered");
        rem.intents.clear();
        assert!(!rem.asks(&asked), "it was taken back");
        rem = asked.clone();
        rem.intend(act, Time(now.0 + 1));
        assert!(rem.asks(&asked), "once more");
    }

    #[test]
    fn the_operators_command_has_the_last_word_before_a_twin_is_verified() {
        use sample::Change::*;
        let (mut rem, seen, now) = sample::instance_world(&[Twin("available")]);
        let bounds = Bounds { check: true, ..sample::BOUNDS };
        let said = |rem: &Remediation, bounds| sample::show(&decide(rem, &seen, now, bounds));
        assert_eq!(said(&rem, sample::BOUNDS), "mark verified");
        assert_eq!(said(&rem, bounds), "check");
        let swaps = Remediation { swap: Some(Swap::default()), ..rem.clone() };
        assert_ne!(said(&swaps, bounds), "check", "its connections would count as use");
        rem.mark(&Mark::Checked { said: "7 tables".into() }, now);
        assert_eq!(said(&rem, bounds), "mark verified");
        rem.retry(now);
        assert_eq!(rem.checked, None, "what is made anew is looked at anew");
        let (rem, seen, now) = sample::instance_world(&[Twin("available"), TwinDiffers("port")]);
        let first = sample::show(&decide(&rem, &seen, now, bounds));
        assert!(first.starts_with("ask"), "settings first: {first}");
        let (mut rem, mut seen, now) = sample::snapshot_world();
        rem.intend(
            Act::CopySnapshot { from: "monthly".into(), to: "encrypted-monthly".into() },
            now,
        );
        let old = seen.snapshots[0].clone();
        let (kms_key, made_by) = (Some(rem.key_arn.clone()), Some(rem.id.clone()));
        let encryption = crate::rds::Encryption::SseKms;
        let id = "encrypted-monthly".into();
        seen.snapshots.push(crate::rds::Snapshot { id, kms_key, made_by, encryption, ..old });
        let none = sample::show(&decide(&rem, &seen, now, bounds));
        assert_eq!(none, "mark verified", "nobody looks into a snapshot");
    }
}
