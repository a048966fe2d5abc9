//! What is attached is watched before more is: for a minimum of time, and for a minimum of healthy observations.
//!
//! A policy's harm shows in calls that people make, and those take hours to come; a stage that nobody observed has shown
//! nothing. So time alone ends no bake where somebody can be asked, and "nobody knows" is never healthy.

use super::{Rollout, Stage, State, Step, version};
use crate::id::NodeId;
use crate::time::{Span, Time};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What was found when the health of a stage was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Nothing speaks against it.
    Healthy,
    /// The policy does harm.
    Unhealthy,
    /// Nobody knows.
    Inconclusive,
}

impl Health {
    /// The name in JSON and on screen.
    pub fn as_str(self) -> &'static str {
        match self {
            Health::Healthy => "healthy",
            Health::Unhealthy => "unhealthy",
            Health::Inconclusive => "inconclusive",
        }
    }
}

/// One look at the health of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// When.
    pub at: Time,
    /// What was found.
    pub health: Health,
    /// In whose words.
    pub said: String,
}

/// The bake of one stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bake {
    /// When all its targets showed as attached: the clock is this, so it goes on while no server runs.
    pub began_at: Time,
    /// How many healthy observations there were.
    pub healthy: u32,
    /// How many calls that [`Stage::calls`] counts CloudTrail showed until the last observation.
    #[serde(default)]
    pub calls: u64,
    /// The last observation.
    pub last: Option<Observation>,
    /// Who ended it early, when, and why.
    pub promoted: Option<(Time, String)>,
    /// When it ended.
    pub done_at: Option<Time>,
}

impl Bake {
    /// One that begins.
    pub fn begun(now: Time) -> Bake {
        Bake { began_at: now, healthy: 0, calls: 0, last: None, promoted: None, done_at: None }
    }

    /// Takes an observation in.
    pub fn observe(&mut self, seen: Observation) {
        self.healthy += u32::from(seen.health == Health::Healthy);
        self.last = Some(seen);
    }

    /// Whether the last observation found nothing that speaks against it: what was healthy before that says nothing of now.
    fn is_healthy(&self) -> bool {
        self.last.as_ref().is_some_and(|last| last.health == Health::Healthy)
    }

    /// Whether somebody is to be asked: each so often, and at once after a person let it go on although nobody knew.
    pub fn wants_look(&self, now: Time, every: Span) -> bool {
        !self.is_healthy() || self.last.as_ref().is_none_or(|last| now.since(last.at) >= every)
    }
}

/// The moment of a decision, and whether health can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Now.
    pub now: Time,
    /// How often health is asked for; `None` where nobody can be asked.
    pub observe_every: Option<Span>,
}

impl Stage {
    /// Whether it is watched before the next one begins.
    pub fn bakes(&self) -> bool {
        self.bake > Span(0) || self.observations > 0 || self.calls > 0
    }

    /// How many healthy observations it needs: one at least, where anybody can be asked.
    pub fn wanted(&self, moment: Moment) -> u32 {
        self.observations.max(u32::from(moment.observe_every.is_some()))
    }

    /// Whether it was watched for long enough, found healthy often enough and at last, and saw calls enough.
    pub fn has_baked(&self, bake: &Bake, moment: Moment) -> bool {
        moment.now.since(bake.began_at) >= self.bake
            && (moment.observe_every.is_none() || bake.is_healthy())
            && bake.healthy >= self.wanted(moment)
            && bake.calls >= u64::from(self.calls)
    }
}

/// What the bake of a stage whose targets are all attached wants next; `None` once it is over.
pub(super) fn step(rollout: &Rollout, n: usize, stage: &Stage, moment: Moment) -> Option<Step> {
    if !stage.bakes() || stage.targets.iter().all(|t| rollout.never_had(t)) {
        return None;
    }
    let Some(bake) = rollout.bakes.get(&n) else { return Some(Step::BeginBake(n)) };
    if bake.done_at.is_some() {
        return None;
    }
    if bake.promoted.is_some() {
        return Some(Step::EndBake(n));
    }
    if stage.observations > 0 && moment.observe_every.is_none() {
        return Some(Step::AskHuman(format!(
            "stage {} wants {} healthy observations, and none of rollout.health_command, rollout.alarms and rollout.watch_denials is set",
            stage.name, stage.observations
        )));
    }
    if moment.observe_every.is_some_and(|every| bake.wants_look(moment.now, every)) {
        return Some(Step::Observe(n));
    }
    if stage.has_baked(bake, moment) {
        return Some(Step::EndBake(n));
    }
    Some(Step::Rest(State::Baking))
}

impl Rollout {
    /// The stage that bakes now.
    pub fn baking(&self) -> Option<(usize, &Stage, &Bake)> {
        let (n, bake) = self.bakes.iter().find(|(_, b)| b.done_at.is_none())?;
        Some((*n, self.body.stages.get(*n)?, bake))
    }

    /// What its bake waits for, for people.
    pub fn bakes_for(&self, moment: Moment) -> String {
        let Some((_, stage, bake)) = self.baking() else { return String::new() };
        let until = bake.began_at.plus(stage.bake);
        let wanted = stage.wanted(moment);
        let seen = match wanted {
            0 => "nobody is asked for its health".to_owned(),
            wanted => format!("{} healthy observations, {wanted} needed", bake.healthy),
        };
        let calls = match stage.calls {
            0 => String::new(),
            wanted => format!("; {} calls seen in CloudTrail, {wanted} needed", bake.calls),
        };
        format!("stage {} bakes until {until} at least; {seen}{calls}", stage.name)
    }

    /// The targets of a stage, without those that go without.
    pub fn targets_of(&self, stage: usize) -> Vec<NodeId> {
        let all = self.body.stages.get(stage).into_iter().flat_map(|s| &s.targets);
        all.filter(|t| !self.is_skipped(t)).cloned().collect()
    }

    /// Accounts of earlier stages that were left to an OU of this stage or a later one: with it gone nothing binds them.
    pub fn left_by(&self, stage: usize) -> Vec<NodeId> {
        let later: Vec<_> = self.body.stages[stage..].iter().flat_map(|s| &s.targets).collect();
        let left = |(account, ou): &(&NodeId, &NodeId)| {
            later.contains(ou) && !later.contains(account) && self.is_replaced(account)
        };
        self.body.replaced_by.iter().filter(left).map(|(account, _)| account.clone()).collect()
    }

    /// Forgets a stage and all after it, once they are detached: a resume attaches them anew.
    pub fn forget_from(&mut self, stage: usize) {
        let gone = self.body.stages[stage..].iter().flat_map(|s| s.targets.iter().cloned());
        let gone: BTreeSet<NodeId> = gone.collect();
        let left = self.left_by(stage);
        self.attachments.retain(|target, _| !(gone.contains(target) || left.contains(target)));
        self.bakes.retain(|n, _| *n < stage);
        self.probes.retain(|n, _| *n < stage);
        version::forget(self, &gone);
    }
}
