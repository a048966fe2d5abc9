//! Whether a stage's policy is in force, seen in one of its accounts: before it bakes, and again after it was taken back.
//!
//! That an attachment shows says not that it denies: policies take effect some time after they are attached (Organizations
//! guide, "Eventual consistency"), and nobody says how long. So a stage is probed until its policy was seen in force
//! several times in a row, and what was seen in force is probed again once it is detached.

use super::{Rollout, Stage, Step};
use crate::probe::Shows;
use crate::time::Time;
use serde::{Deserialize, Serialize};

/// How often in a row a policy must be seen in force: the next answer can come from where it is not yet known.
pub const IN_A_ROW: u32 = 2;

/// The probing of one stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probed {
    /// When all its targets showed as attached.
    pub began_at: Time,
    /// How often in a row it was seen in force.
    pub good: u32,
    /// The last answer, and when it was taken in.
    pub last: Option<(Time, String)>,
    /// When it was seen in force often enough, or a person let it pass.
    pub passed_at: Option<Time>,
    /// Who let it pass, and why.
    pub promoted: Option<String>,
    /// When it was detached, and is looked for again.
    pub detached_at: Option<Time>,
    /// When that look was over.
    pub lifted_at: Option<Time>,
}

impl Probed {
    /// One that begins.
    pub fn begun(now: Time) -> Probed {
        Probed {
            began_at: now,
            good: 0,
            last: None,
            passed_at: None,
            promoted: None,
            detached_at: None,
            lifted_at: None,
        }
    }

    /// Takes in what a probe shows of a policy that is attached.
    pub fn sees(&mut self, shows: Shows, said: String, now: Time) {
        self.good = if shows == Shows::Yes { self.good + 1 } else { 0 };
        self.last = Some((now, said));
        if self.good >= IN_A_ROW {
            self.passed_at.get_or_insert(now);
        }
    }

    /// What is asked for after this is news.
    pub fn since(&self) -> Time {
        let last = self.last.as_ref().map(|(at, _)| *at);
        [self.detached_at, last].into_iter().flatten().fold(self.began_at, Time::max)
    }

    /// Whether it was seen in force, so that it can be seen to be gone.
    fn saw(&self) -> bool {
        self.passed_at.is_some() && self.promoted.is_none()
    }
}

/// What the probing of a stage whose targets are all attached wants next; `None` once it is over.
pub(super) fn step(rollout: &Rollout, n: usize, stage: &Stage) -> Option<Step> {
    if stage.probe.is_none() || stage.targets.iter().all(|t| rollout.never_had(t)) {
        return None;
    }
    let passed = rollout.probes.get(&n).is_some_and(|p| p.passed_at.is_some());
    (!passed).then_some(Step::Probe(n))
}

/// After all of these stages is detached: what was seen in force is looked for again, the last first.
pub(super) fn after(rollout: &Rollout, from: usize) -> Option<Step> {
    let open = |(n, p): &(&usize, &Probed)| **n >= from && p.saw() && p.lifted_at.is_none();
    rollout.probes.iter().rev().find(open).map(|(n, _)| Step::ProbeLifted(*n))
}

impl Rollout {
    /// What its probing waits for, for people.
    pub fn probes_for(&self) -> String {
        let Some((_, stage, probed)) = self.probing() else { return String::new() };
        let place = stage.probe.as_ref().map(ToString::to_string).unwrap_or_default();
        let last = probed.last.as_ref().map(|(_, said)| format!("; last: {said}"));
        format!(
            "stage {} is probed in {place} until its policy was seen in force {IN_A_ROW} times in a row, {} so far{}",
            stage.name,
            probed.good,
            last.unwrap_or_default()
        )
    }

    /// The stage that waits for its probe.
    pub fn probing(&self) -> Option<(usize, &Stage, &Probed)> {
        let (n, probed) = self.probes.iter().find(|(_, p)| p.passed_at.is_none())?;
        Some((*n, self.body.stages.get(*n)?, probed))
    }
}
