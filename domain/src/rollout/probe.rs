//! Whether a stage's policy is in force, seen in one of its accounts: before it bakes, and again after it was taken back.
//!
//! That an attachment shows says not that it denies: policies take effect some time after they are attached (Organizations
//! guide, "Eventual consistency"), and nobody says how long. So a stage is probed until its policy was seen in force
//! several times in a row, and what was seen once is probed again after it was detached.

use super::{Rollout, Stage, Step};
use crate::probe::Shows;
use crate::time::Time;
use serde::{Deserialize, Serialize};

/// How often in a row it must be seen: the next answer can come from where the change is not yet known.
pub const IN_A_ROW: u32 = 2;

/// The probing of one stage.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probed {
    /// When all its targets showed as attached; `None` until then, and after it was stopped.
    pub began_at: Option<Time>,
    /// How often in a row it was seen in force; after it was detached, to be gone.
    pub good: u32,
    /// The last answer, and when it was taken in.
    pub last: Option<(Time, String)>,
    /// When AWS first named the policy.
    pub seen_at: Option<Time>,
    /// When it was seen in force often enough, or a person let it pass.
    pub passed_at: Option<Time>,
    /// Whether AWS named the earlier version instead, which was attached beside it: it is probed again without that.
    #[serde(default)]
    pub shadowed: bool,
    /// Who let it pass, and why.
    pub promoted: Option<String>,
    /// When it was detached, and is looked for again.
    pub detached_at: Option<Time>,
    /// When that look was over, and whether it was seen to be gone.
    pub lifted: Option<(Time, bool)>,
}

impl Probed {
    /// One that begins.
    pub fn begun(now: Time) -> Probed {
        Probed { began_at: Some(now), ..Probed::default() }
    }

    /// Takes in what a probe shows of a policy that is attached; `named`: whether AWS named it.
    pub fn sees(&mut self, shows: Shows, named: bool, said: String, now: Time) {
        if named {
            self.seen_at.get_or_insert(now);
        }
        self.good = if shows == Shows::Yes { self.good + 1 } else { 0 };
        self.last = Some((now, said));
        if self.good >= IN_A_ROW {
            self.passed_at.get_or_insert(now);
            self.shadowed = !named;
        }
    }

    /// Begins to look whether it is gone.
    pub fn goes(&mut self, now: Time) {
        (self.detached_at, self.good, self.last) = (Some(now), 0, None);
    }

    /// Takes in what a probe shows of a policy that is detached; `late`: whether the look ends with this.
    pub fn looks(&mut self, shows: Shows, late: bool, said: String, now: Time) {
        self.good = if shows == Shows::Yes { self.good + 1 } else { 0 };
        self.last = Some((now, said));
        let gone = self.good >= IN_A_ROW;
        if gone || late || shows == Shows::Made {
            self.lifted = Some((now, gone));
        }
    }

    /// What is asked for after this is news.
    pub fn since(&self) -> Time {
        let last = self.last.as_ref().map(|(at, _)| *at);
        [self.began_at, self.detached_at, last].into_iter().flatten().max().unwrap_or(Time(0))
    }

    /// It is stopped, or begins anew: what was seen of it stays.
    pub(super) fn stops(&mut self) {
        if self.passed_at.is_none() {
            (self.began_at, self.good, self.last) = (None, 0, None);
        }
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

/// After the earlier version is detached everywhere: a stage that was seen behind it is probed once more.
pub(super) fn unshadowed(rollout: &Rollout) -> Option<Step> {
    rollout.probes.iter().find(|(_, p)| p.shadowed).map(|(n, _)| Step::Probe(*n))
}

/// After all of these stages is detached: what was seen is looked for again. Not where the earlier version is attached again
/// and denies the same, nor where others had the policy attached: there it stays.
pub(super) fn after(rollout: &Rollout, from: usize) -> Option<Step> {
    if rollout.body.replaces.is_some() {
        return None;
    }
    let ours = |n: usize| {
        let mut targets = rollout.body.stages.get(n).into_iter().flat_map(|s| &s.targets);
        targets.all(|t| rollout.ours(t) || rollout.never_had(t))
    };
    let open = |n: usize, p: &Probed| n >= from && p.seen_at.is_some() && p.lifted.is_none();
    let open = rollout.probes.iter().filter(|(n, p)| open(**n, p) && ours(**n));
    let open: Vec<usize> = open.map(|(n, _)| *n).collect();
    (!open.is_empty()).then_some(Step::ProbeLifted(open))
}

impl Rollout {
    /// The stage that waits for its probe.
    pub fn probing(&self) -> Option<(usize, &Stage, &Probed)> {
        let (n, probed) = self.probes.iter().find(|(_, p)| p.passed_at.is_none())?;
        Some((*n, self.body.stages.get(*n)?, probed))
    }

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
}
