//! The rollout of one SCP through ordered stages.
//!
//! Position is what is attached, as read; there is no current-step counter. One target at a time;
//! what was attached before us is never detached by us; all is stored before the first write.

mod alarm;
mod back;
mod bake;
mod drift;
mod file;
mod gate;
mod hours;
mod probe;
pub mod propose;
#[cfg(test)]
mod safety;
mod state;
#[cfg(test)]
mod tests;
pub mod tools;
mod version;

pub use alarm::Alarm;
pub use back::{RETRY, compare};
pub use bake::{Bake, Health, Moment, Observation};
pub use drift::{Moves, OnDrift, bound};
pub use file::{BAKE_MAX, BUILT_IN, File, FileStage, is_principal, parse};
pub use gate::{Limits, gate, preflight, too_many};
pub use hours::Hours;
pub use probe::{IN_A_ROW, Probed};
pub use state::{State, Wish};
pub use version::{Replaces, Skip, replaces};

use crate::approval::Approval;
use crate::hash;
use crate::id::{AccountId, NodeId};
use crate::org::OrgTree;
use crate::probe::Place;
use crate::time::{Span, Time};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// One ordered set of targets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// What people call it.
    pub name: String,
    /// The targets, in order.
    pub targets: Vec<NodeId>,
    /// How long it must have been attached before the next stage begins, at least.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bake: Span,
    /// How many healthy observations that takes, at least.
    #[serde(default, skip_serializing_if = "is_nought")]
    pub observations: u32,
    /// How many calls CloudTrail must show from its accounts since it was attached, at least, that the policy judges and let
    /// through: a bake in which nobody made a database has shown nothing. 0 for an OU that is known to be quiet.
    #[serde(default, skip_serializing_if = "is_nought")]
    pub calls: u32,
    /// How many people must have approved before it begins, where that is more than for the others.
    #[serde(default, skip_serializing_if = "is_nought")]
    pub approvals: u32,
    /// How many accounts it may bind that no earlier stage binds; 0 is no limit.
    #[serde(default, skip_serializing_if = "is_nought")]
    pub max_accounts: u32,
    /// Where it is probed once all its targets are attached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Place>,
}

// What was hashed before stages could bake must hash the same.
fn is_zero(span: &Span) -> bool {
    *span == Span(0)
}

fn is_nought(count: &u32) -> bool {
    *count == 0
}

/// The part of a rollout that is hashed and approved.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// `ro-` and 12 hex digits.
    pub id: String,
    /// Who planned it, and so may not approve it.
    pub author: String,
    /// When.
    pub created_at: Time,
    /// The policy's name in Organizations: `ringfence-<name>-<8 hex digits of its content>`. A new
    /// version is a new object, for UpdatePolicy would change every target at once.
    pub policy_name: String,
    /// The minified document.
    pub content: String,
    /// The stages.
    pub stages: Vec<Stage>,
    /// What was attached to each target when planned: policy ids.
    pub planned_on: BTreeMap<NodeId, BTreeSet<String>>,
    /// Whether the root may be a target.
    pub allow_root: bool,
    /// Accounts that are targets before an OU that they are in: once all is attached and has baked they are detached again,
    /// for the OU binds them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub replaced_by: BTreeMap<NodeId, NodeId>,
    /// Whose denials by the policy are no harm: patterns of the ARNs of principals.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expected_denials: Vec<String>,
    /// The earlier version that this one takes the place of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<Replaces>,
    /// When alone anything is attached, or an earlier version detached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<Hours>,
    /// The accounts that the policy leaves alone because they are waived, and until when they were when it was planned.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub waived: BTreeMap<AccountId, Time>,
}

/// Of accounts that are targets before an OU that they are in: that OU, the nearest.
pub fn replaced_by(stages: &[Stage], tree: &OrgTree) -> BTreeMap<NodeId, NodeId> {
    let order: Vec<&NodeId> = stages.iter().flat_map(|s| &s.targets).collect();
    let later = |n: usize, target: &NodeId| {
        let above = tree.ancestors(target).map(|node| &node.id);
        above.into_iter().find(|id| order[n + 1..].contains(id)).cloned()
    };
    let canaries = order.iter().enumerate().filter(|(_, t)| t.account().is_some());
    canaries.filter_map(|(n, t)| Some(((*t).clone(), later(n, t)?))).collect()
}

impl Body {
    /// The targets in the order in which they are attached.
    pub fn targets(&self) -> impl DoubleEndedIterator<Item = &NodeId> {
        self.stages.iter().flat_map(|s| &s.targets)
    }
}

/// What became of one attachment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// When we meant to attach: written before the call.
    pub intended_at: Option<Time>,
    /// When it was read back as attached.
    pub attached_at: Option<Time>,
    /// When it was seen to be off again, though nobody asked us to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_at: Option<Time>,
    /// How often that was.
    #[serde(default, skip_serializing_if = "is_nought")]
    pub losses: u32,
    /// When we meant to detach: written before the call.
    pub detach_intended_at: Option<Time>,
    /// When it was read back as gone.
    pub detached_at: Option<Time>,
    /// The SHA-256 of the evidence that its gate opened on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
    /// How often AttachPolicy or DetachPolicy was called.
    pub attempts: u32,
    /// When AWS refused for certain to detach it, and why; until it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<(Time, String)>,
}

/// A rollout, as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// What is approved.
    pub body: Body,
    /// The SHA-256 of the body.
    pub hash: String,
    /// Who agreed.
    pub approvals: Vec<Approval>,
    /// What a person asked for last.
    pub wish: Wish,
    /// Where it stands.
    pub state: State,
    /// Why it waits or stopped.
    pub why: Vec<String>,
    /// The policy's id, once it is there.
    pub policy_id: Option<String>,
    /// What was attached to every target before the first write: policy ids. Never changed after.
    pub baseline: Option<BTreeMap<NodeId, BTreeSet<String>>>,
    /// What we did, by target.
    pub attachments: BTreeMap<NodeId, Attachment>,
    /// The bakes, by the number of their stage.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bakes: BTreeMap<usize, Bake>,
    /// What probes showed, by the number of their stage.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub probes: BTreeMap<usize, Probed>,
    /// What we did with the earlier policy, by target.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub old: BTreeMap<NodeId, Attachment>,
    /// Targets that go without, by a person's word.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub skipped: BTreeMap<NodeId, Skip>,
    /// The later version that has taken its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<String>,
    /// While it is undone: the earlier version that is to stand in the end, where that is not the one before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo_to: Option<String>,
    /// The accounts that it binds and whose evidence held once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<BTreeSet<AccountId>>,
    /// The organization's OUs, as far as its guard has told of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ous: Option<BTreeSet<NodeId>>,
}

impl Rollout {
    /// Seals a body.
    pub fn new(body: Body) -> Rollout {
        Rollout {
            hash: hash::of(&body),
            body,
            approvals: Vec::new(),
            wish: Wish::Planned,
            state: State::Planned,
            why: Vec::new(),
            policy_id: None,
            baseline: None,
            attachments: BTreeMap::new(),
            bakes: BTreeMap::new(),
            probes: BTreeMap::new(),
            old: BTreeMap::new(),
            skipped: BTreeMap::new(),
            superseded_by: None,
            undo_to: None,
            bound: None,
            ous: None,
        }
    }

    /// Notes that it is about to be attached there; its stage, and what follows, is probed and bakes anew.
    pub fn attaches(&mut self, target: &NodeId, now: Time) {
        let attachment = self.attachments.entry(target.clone()).or_default();
        if attachment.detach_intended_at.is_some() {
            // It was replaced by its OU, which is off again.
            *attachment = Attachment::default();
        }
        attachment.intended_at.get_or_insert(now);
        attachment.attempts += 1;
        let stage = self.body.stages.iter().position(|s| s.targets.contains(target));
        let before = |n: &usize| stage.is_none_or(|stage| *n < stage);
        self.bakes.retain(|n, _| before(n));
        self.probes.retain(|n, _| before(n));
    }

    /// It goes on: every target has its tries again, one that somebody took off is attached again, and what no probe showed
    /// yet has its time again.
    pub fn tries_again(&mut self) {
        self.probes.values_mut().for_each(Probed::stops);

        for done in self.old.values_mut() {
            (done.attempts, done.lost_at) = (0, None);
        }
        for attachment in self.attachments.values_mut() {
            (attachment.attempts, attachment.refused) = (0, None);
            if attachment.lost_at.take().is_some() {
                attachment.attached_at = None;
            }
        }
    }

    /// The stages, without targets that go without.
    pub fn wanted(&self) -> Vec<Stage> {
        let some = |stage: &Stage| {
            let targets = stage.targets.iter().filter(|t| !self.is_skipped(t)).cloned().collect();
            Stage { targets, ..stage.clone() }
        };
        self.body.stages.iter().map(some).collect()
    }

    /// Whether its OU has taken this account's place, or is taking it.
    pub fn is_replaced(&self, target: &NodeId) -> bool {
        self.body.replaced_by.contains_key(target)
            && self.attachments.get(target).is_some_and(|a| a.detach_intended_at.is_some())
    }

    /// Whether this rollout attached the policy there: it meant to, and it was not there before.
    pub fn ours(&self, target: &NodeId) -> bool {
        let intended = self.attachments.get(target).is_some_and(|a| a.intended_at.is_some());
        let before = match (&self.baseline, &self.policy_id) {
            (Some(baseline), Some(policy)) => {
                baseline.get(target).is_some_and(|set| set.contains(policy))
            }
            _ => false,
        };
        intended && !before
    }
}

/// How often one attachment is tried before a person is asked.
pub const ATTEMPTS_MAX: u32 = 5;

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Store what is attached to every target: before any write.
    TakeBaseline,
    /// Create the policy object.
    CreatePolicy,
    /// Attach it to this target, if the gate lets it.
    Attach(NodeId),
    /// It shows as attached: note it.
    MarkAttached(NodeId),
    /// Detach it from this target.
    Detach(NodeId),
    /// It is gone: note it.
    MarkDetached(NodeId),
    /// Detach the earlier policy from this target, for the new one binds it.
    Release(NodeId),
    /// The earlier one is gone: note it.
    MarkReleased(NodeId),
    /// Attach the earlier policy to this target again.
    Restore(NodeId),
    /// The earlier one shows as attached again: note it.
    MarkRestored(NodeId),
    /// It cannot be attached there again: note it, for what does harm must not stay because of it.
    GiveUp(NodeId),
    /// All targets of the stage with this number are attached: see whether the policy is in force.
    Probe(usize),
    /// What was seen in force in the stages with these numbers is detached: see whether it is gone.
    ProbeLifted(Vec<usize>),
    /// All targets of the stage with this number are attached: its clock starts.
    BeginBake(usize),
    /// Ask for its health.
    Observe(usize),
    /// It was watched long enough: the next one may begin, if its evidence still holds.
    EndBake(usize),
    /// Nothing to do in this state.
    Rest(State),
    /// A person must look.
    AskHuman(String),
}

/// The policies attached to each target, as read just now; `None` where the target is gone.
pub type Attached = BTreeMap<NodeId, Option<BTreeSet<String>>>;

/// The next step. `missing` is the number of approvals that are missing, counted anew each time.
pub fn decide(rollout: &Rollout, attached: &Attached, missing: usize, moment: Moment) -> Step {
    if rollout.hash != hash::of(&rollout.body) {
        return Step::AskHuman("the stored rollout is not the one that was hashed".into());
    }
    match rollout.wish {
        Wish::Planned => Step::Rest(State::Planned),
        Wish::Pause => Step::Rest(State::Paused),
        Wish::Run => forward(rollout, attached, missing, moment),
        Wish::Abort => back::backward(rollout, attached, (0, State::Aborted), moment.now),
        Wish::Retreat { stage } => {
            back::backward(rollout, attached, (stage, State::Blocked), moment.now)
        }
    }
}

fn forward(rollout: &Rollout, attached: &Attached, missing: usize, moment: Moment) -> Step {
    if missing > 0 {
        return Step::Rest(State::Blocked);
    }
    if rollout.baseline.is_none() {
        return Step::TakeBaseline;
    }
    let Some(policy) = &rollout.policy_id else {
        return Step::CreatePolicy;
    };
    for (n, stage) in rollout.body.stages.iter().enumerate() {
        let step = stage.targets.iter().find_map(|t| attach(rollout, policy, t, attached));
        let step = step.or_else(|| probe::step(rollout, n, stage));
        if let Some(step) = step.or_else(|| bake::step(rollout, n, stage, moment)) {
            return step;
        }
    }
    replace(rollout, policy, attached)
        .or_else(|| version::release(rollout, policy, attached))
        .or_else(|| probe::unshadowed(rollout))
        .unwrap_or(Step::Rest(State::Complete))
}

/// Detaches from an account what its OU binds it by: after that shows, so that there is no gap.
fn replace(rollout: &Rollout, policy: &String, attached: &Attached) -> Option<Step> {
    let here = |target: &NodeId| attached.get(target).and_then(Option::as_ref);
    let on = |target: &NodeId| here(target).is_some_and(|set| set.contains(policy));
    for (account, ou) in &rollout.body.replaced_by {
        let done = rollout.attachments.get(account);
        let (meant, gone) = done
            .map_or((false, false), |a| (a.detach_intended_at.is_some(), a.detached_at.is_some()));
        if !rollout.ours(account) || !on(ou) || gone {
            continue;
        }
        let step = match on(account) {
            false if meant => Step::MarkDetached(account.clone()),
            // The stages' own look said that it shows.
            false => continue,
            // AWS refuses to remove the last one; then both stay.
            true if here(account).is_some_and(|set| set.len() <= 1) => continue,
            true if done.is_some_and(|a| a.attempts >= 2 * ATTEMPTS_MAX) => {
                Step::AskHuman(format!("detaching from {account} has no effect"))
            }
            true => Step::Detach(account.clone()),
        };
        return Some(step);
    }
    None
}

/// What one target is short of; `None` once it is attached.
fn attach(
    rollout: &Rollout,
    policy: &String,
    target: &NodeId,
    attached: &Attached,
) -> Option<Step> {
    let skipped = rollout.is_skipped(target);
    let Some(Some(now)) = attached.get(target) else {
        let gone =
            format!("{target} is no longer in the organization: skip it and resume, or abort");
        return (!skipped).then_some(Step::AskHuman(gone));
    };
    let done = rollout.attachments.get(target);
    let noted = done.is_some_and(|a| a.attached_at.is_some());
    if let Some(ou) = rollout.body.replaced_by.get(target).filter(|_| rollout.is_replaced(target)) {
        // The OU's own look says if that is gone; once it is to be attached anew, this comes first again.
        let stands = rollout.attachments.get(ou).is_some_and(|a| a.attached_at.is_some());
        return (!stands).then(|| Step::Attach(target.clone()));
    }
    match (now.contains(policy), noted) {
        (true, true) => None,
        (true, false) => Some(Step::MarkAttached(target.clone())),
        (false, _) if skipped => None,
        (false, true) => Some(Step::AskHuman(format!(
            "{policy} was attached to {target} and is gone: somebody detached it; resume attaches it again, abort takes back the rest"
        ))),
        (false, false) if done.is_some_and(|a| a.attempts >= ATTEMPTS_MAX) => {
            Some(Step::AskHuman(format!("attaching to {target} has no effect")))
        }
        (false, false) => Some(Step::Attach(target.clone())),
    }
}
