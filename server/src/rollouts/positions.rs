//! Where a rollout's policy is attached, as far as is known: read as a whole now and then, and target by target right
//! before anything is done there.
//!
//! To read all targets before every step costs their square: 2,000 OUs would be four million calls at five a second.
//! ListTargetsForPolicy has 20 targets a call, and whatever a step is about is read anew by itself.

use super::bake::moment;
use crate::app::{App, Fault, now};
use ringfence_domain::id::NodeId;
use ringfence_domain::rollout::{Attached, Attachment, RETRY, Rollout, State, Step, Wish, decide};
use ringfence_domain::time::{Span, Time};
use std::collections::{BTreeMap, BTreeSet};

/// How old the whole may be while steps go on, where it is read in no time.
const WHOLE: Span = Span::seconds(5);

/// Of its time, reading the whole takes a tenth at most.
const SHARE: i64 = 10;

/// What was read of a target so lately is not read again for the next step on it.
const JUST_NOW: Span = Span::seconds(2);

/// How long ListTargetsForPolicy may lag behind what a look at the target itself showed.
const LIST_LAGS: Span = Span::seconds(30);

/// How often a decision is made again because what it was made on had changed.
const TRIES: u32 = 10;

/// Targets that are looked at one by one before a person is asked.
const LOST_MAX: usize = 20;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Positions {
    attached: Attached,
    /// When the whole was read, and how long that took.
    read: Option<(Time, Span)>,
    /// When each target was read by itself.
    looked: BTreeMap<NodeId, Time>,
    /// When those were read that hold up the way back.
    lost: Option<Time>,
}

/// What a decision is to be checked against.
enum About<'a> {
    /// This target.
    Target(&'a NodeId),
    /// Where the policy is.
    Policy,
    /// Everything that is attached to every target.
    Everything,
    /// What could not be taken back yet, now and then.
    Lost,
    Nothing,
}

fn about<'a>(step: &'a Step, wish: Wish) -> About<'a> {
    match step {
        Step::Attach(t)
        | Step::Detach(t)
        | Step::MarkAttached(t)
        | Step::MarkDetached(t)
        | Step::Release(t)
        | Step::MarkReleased(t)
        | Step::Restore(t)
        | Step::MarkRestored(t)
        | Step::GiveUp(t) => About::Target(t),
        Step::AskHuman(_) | Step::EndBake(_) | Step::Rest(State::Complete) => About::Policy,
        Step::TakeBaseline => About::Everything,
        // What differs from before the first write is told then.
        Step::Rest(State::Aborted) => About::Everything,
        // What is forgotten then must be gone.
        Step::Rest(State::Blocked) if matches!(wish, Wish::Retreat { .. }) => About::Everything,
        Step::Rest(State::Aborting) => About::Lost,
        Step::CreatePolicy
        | Step::Probe(_)
        | Step::ProbeLifted(_)
        | Step::BeginBake(_)
        | Step::Observe(_)
        | Step::Rest(_) => About::Nothing,
    }
}

impl Positions {
    /// Other people may have done something since the steps before.
    pub(super) fn begin(&mut self) {
        self.looked.clear();
    }

    pub(super) fn attached(&self) -> &Attached {
        &self.attached
    }

    /// The next step, decided on what was read for it just now.
    pub(super) async fn decide(
        &mut self,
        app: &App,
        rollout: &Rollout,
        missing: usize,
    ) -> Result<Step, Fault> {
        let old = |(at, took): (Time, Span)| {
            now().since(at) > WHOLE.max(Span(took.0.saturating_mul(SHARE)))
        };
        let mut all_read = false;
        if self.read.is_none_or(old) {
            all_read = rollout.baseline.is_none();
            self.read_policy(app, rollout).await?;
        }
        for _ in 0..TRIES {
            let step = decide(rollout, &self.attached, missing, moment(app));
            let before = self.attached.clone();
            match about(&step, rollout.wish) {
                About::Nothing => return Ok(step),
                About::Lost => {
                    if self.lost.is_some_and(|at| now().since(at) < RETRY) {
                        return Ok(step);
                    }
                    self.look_at_lost(app, rollout).await?;
                    self.lost = Some(now());
                }
                About::Everything if all_read => return Ok(step),
                About::Target(target) => self.look(app, target).await?,
                About::Policy => self.read_policy(app, rollout).await?,
                About::Everything => self.read_everything(app, rollout).await?,
            }
            if let Step::AskHuman(_) = step {
                self.look_at_lost(app, rollout).await?;
            }
            if self.attached == before {
                return Ok(step);
            }
        }
        Err(Fault::Conflict("what is attached keeps changing while it is read".to_owned()))
    }

    /// Notes what was just read of a target.
    pub(super) fn note(&mut self, target: &NodeId, set: Option<BTreeSet<String>>) {
        self.attached.insert(target.clone(), set);
        self.looked.insert(target.clone(), now());
    }

    async fn look(&mut self, app: &App, target: &NodeId) -> Result<(), Fault> {
        let lately = |at: &Time| now().since(*at) < JUST_NOW;
        match self.looked.get(target).is_some_and(lately) {
            true => Ok(()),
            false => self.look_again(app, target).await,
        }
    }

    /// Reads a target, however lately it was read.
    async fn look_again(&mut self, app: &App, target: &NodeId) -> Result<(), Fault> {
        let set = app.cloud.attached(target).await?;
        self.note(target, set);
        Ok(())
    }

    /// Targets that lack it although it was attached (gone from the organization, or detached), and those that had nothing else:
    /// somebody may have given them an SCP since.
    async fn look_at_lost(&mut self, app: &App, rollout: &Rollout) -> Result<(), Fault> {
        let policy = rollout.policy_id.clone().unwrap_or_default();
        let noted = |t: &&NodeId| {
            let there = |a: &Attachment| a.attached_at.is_some() && a.detached_at.is_none();
            rollout.attachments.get(*t).is_some_and(there) && !rollout.is_replaced(t)
        };
        let here = |t: &&NodeId| {
            let set = self.attached.get(*t).and_then(Option::as_ref);
            !set.is_some_and(|set| set.contains(&policy) && set.len() > 1)
        };
        let lost: Vec<NodeId> =
            rollout.body.targets().filter(noted).filter(here).take(LOST_MAX).cloned().collect();
        for target in &lost {
            self.look_again(app, target).await?;
        }
        Ok(())
    }

    /// Where the policy is; what else is attached is as it was before the first write, until a target is read by
    /// itself.
    async fn read_policy(&mut self, app: &App, rollout: &Rollout) -> Result<(), Fault> {
        let Some(baseline) = &rollout.baseline else {
            return self.read_everything(app, rollout).await;
        };
        let began = now();
        let old = rollout.body.replaces.as_ref().map(|r| &r.policy);
        let mut on = BTreeMap::new();
        for policy in rollout.policy_id.iter().chain(old) {
            on.insert(policy, app.cloud.targets_of(policy).await?);
        }
        let mut attached = Attached::new();
        for target in rollout.touches() {
            let known = self.attached.get(target).cloned().flatten();
            let mut set = known.or_else(|| baseline.get(target).cloned()).unwrap_or_default();
            for (policy, targets) in &on {
                match targets.contains(target) {
                    true => set.insert((*policy).clone()),
                    false => set.remove(*policy),
                };
            }
            attached.insert(target.clone(), Some(set));
        }
        for (target, set) in &self.attached {
            // A list may be older than a look at the target itself; and one that is gone is in no list.
            let lately = self.looked.get(target).is_some_and(|at| now().since(*at) < LIST_LAGS);
            if lately || (set.is_none() && !on.values().any(|targets| targets.contains(target))) {
                attached.insert(target.clone(), set.clone());
            }
        }
        (self.attached, self.read) = (attached, Some((began, now().since(began))));
        Ok(())
    }

    async fn read_everything(&mut self, app: &App, rollout: &Rollout) -> Result<(), Fault> {
        let began = now();
        self.attached = super::read(app, rollout.touches()).await?;
        self.looked.clear();
        self.read = Some((began, now().since(began)));
        Ok(())
    }
}
