//! A new version of a policy takes the place of an earlier one, and gives it back when it is undone.
//!
//! UpdatePolicy would change every target at once (Organizations API reference), so a version is a policy of its own. It
//! is attached beside the earlier one; that is detached last, when all has baked. Until then the way back needs no write
//! to the earlier one, and on the way back it comes first: at no moment is a target bound by neither.

use super::{ATTEMPTS_MAX, Attached, Attachment, Rollout, Stage, State, Step, Wish};
use crate::id::NodeId;
use crate::org::OrgTree;
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What a rollout takes the place of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaces {
    /// The earlier rollout.
    pub rollout: String,
    /// Its policy's id.
    pub policy: String,
    /// Where that rollout attached it, each with the target of the new one that binds all that it binds.
    pub targets: BTreeMap<NodeId, NodeId>,
    /// What the new one denies more and less than that, for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
}

/// What a rollout with these stages takes the place of: all of it, for what is left would be nobody's to guard or to take
/// back.
///
/// # Errors
/// Why that rollout cannot be replaced.
pub fn replaces(
    old: &Rollout,
    stages: &[Stage],
    (tree, replaced_by): (&OrgTree, &BTreeMap<NodeId, NodeId>),
    on: &BTreeSet<NodeId>,
) -> Result<Replaces, String> {
    let id = &old.body.id;
    let policy = match (&old.policy_id, old.stands()) {
        (Some(policy), true) => policy.clone(),
        _ => {
            let state = old.state.as_str();
            return Err(format!(
                "replaces: {id} is {state}; only one that is complete can be replaced"
            ));
        }
    };
    let targets: BTreeSet<&NodeId> = stages.iter().flat_map(|s| &s.targets).collect();
    let binder = |at: &NodeId| {
        let above = tree.ancestors(at).map(|node| &node.id);
        let by = std::iter::once(at).chain(above).find(|id| targets.contains(id))?;
        // What binds it in the end.
        Some(replaced_by.get(by).unwrap_or(by).clone())
    };
    let (mut covered, mut stays) = (BTreeMap::new(), Vec::new());
    for at in old.body.targets().filter(|t| old.ours(t) && on.contains(t)) {
        match binder(at) {
            Some(by) => drop(covered.insert(at.clone(), by)),
            None => stays.push(at.to_string()),
        }
    }
    match stays.is_empty() {
        true => Ok(Replaces { rollout: id.clone(), policy, targets: covered, changes: Vec::new() }),
        false => Err(format!(
            "replaces: {id} is attached to {}, which no target of this rollout binds: add targets that do",
            stays.join(", ")
        )),
    }
}

impl Rollout {
    /// Whether it was carried out, and stands.
    pub fn stands(&self) -> bool {
        self.state == State::Complete && self.wish == Wish::Run
    }

    /// Where it is attached beyond what a later version takes over: it was attached there since that was planned.
    pub fn beyond(&self, replaces: &Replaces) -> Option<&NodeId> {
        let held = |t: &&NodeId| self.ours(t) && self.holds(t) && !self.is_replaced(t);
        self.body.targets().filter(held).find(|t| !replaces.targets.contains_key(*t))
    }

    /// Whether the earlier version is back wherever it was taken off.
    pub fn gave_back(&self) -> bool {
        let off = |a: &Attachment| a.detach_intended_at.is_some() && a.attached_at.is_none();
        !self.old.values().any(off)
    }

    /// Whether its undoing can be called off: nothing of its own was detached for it.
    pub fn can_stay(&self) -> bool {
        let off =
            |t: &NodeId| self.attachments.get(t).is_some_and(|a| a.detach_intended_at.is_some());
        let undoes = self.wish == Wish::Abort && self.state == State::Failed;
        undoes && !self.body.targets().any(|t| off(t) && !self.is_replaced(t))
    }

    /// It stays: what came back of the earlier version is detached anew.
    pub fn stays(&mut self) {
        self.old.retain(|_, done| done.intended_at.is_none());
    }

    /// Every target that it writes to: its own, and those that an earlier policy is detached from.
    pub fn touches(&self) -> impl Iterator<Item = &NodeId> {
        let own: BTreeSet<&NodeId> = self.body.targets().collect();
        let old = self.body.replaces.iter().flat_map(|r| r.targets.keys());
        self.body.targets().chain(old.filter(move |t| !own.contains(t)))
    }

    /// Notes that the earlier policy is about to be detached there.
    pub fn releases(&mut self, target: &NodeId, now: Time) {
        let done = self.old.entry(target.clone()).or_default();
        done.detach_intended_at.get_or_insert(now);
        done.attempts += 1;
    }

    /// AWS said that it is attached there again. Before that, that it shows proves nothing: the read may be older than
    /// what detached it.
    pub fn restored(&mut self, target: &NodeId, now: Time) {
        let done = self.old.entry(target.clone()).or_default();
        done.intended_at.get_or_insert(now);
        done.attempts += 1;
    }

    /// Whether the earlier policy is detached wherever this one takes its place.
    pub fn released(&self) -> bool {
        let off = |t: &NodeId| self.old.get(t).is_some_and(|a| a.detached_at.is_some());
        self.body.replaces.as_ref().is_none_or(|r| r.targets.keys().all(off))
    }

    /// It could not be attached there again.
    pub fn gives_up(&mut self, target: &NodeId, now: Time) {
        self.old.entry(target.clone()).or_default().lost_at = Some(now);
    }

    /// Where the earlier policy could not be attached again.
    pub fn unrestored(&self) -> Vec<&NodeId> {
        self.old.iter().filter(|(_, a)| a.lost_at.is_some()).map(|(t, _)| t).collect()
    }
}

/// Detaches the earlier policy where the new one shows, once all has baked.
pub(super) fn release(rollout: &Rollout, policy: &String, attached: &Attached) -> Option<Step> {
    let replaces = rollout.body.replaces.as_ref()?;
    let here = |target: &NodeId| attached.get(target).and_then(Option::as_ref);
    for (target, by) in &replaces.targets {
        let done = rollout.old.get(target);
        let (meant, gone) = done
            .map_or((false, false), |a| (a.detach_intended_at.is_some(), a.detached_at.is_some()));
        // Where a person lets it keep the earlier one.
        let kept = rollout.skipped.contains_key(target);
        let bound = !kept && here(by).is_some_and(|set| set.contains(policy));
        // A target that is gone took its attachments with it.
        let Some(set) = here(target).filter(|_| bound && !gone) else { continue };
        return Some(match set.contains(&replaces.policy) {
            false if meant => Step::MarkReleased(target.clone()),
            // Somebody else detached it.
            false => continue,
            // AWS refuses to remove the last one; then both stay.
            true if set.len() <= 1 => continue,
            true if done.is_some_and(|a| a.attempts >= ATTEMPTS_MAX) => {
                Step::AskHuman(format!("detaching {} from {target} has no effect", replaces.policy))
            }
            true => Step::Release(target.clone()),
        });
    }
    None
}

/// Attaches the earlier policy again where targets of these stages are about to be detached.
pub(super) fn restore(rollout: &Rollout, attached: &Attached, from: usize) -> Option<Step> {
    let replaces = rollout.body.replaces.as_ref()?;
    let doomed: BTreeSet<&NodeId> =
        rollout.body.stages.iter().skip(from).flat_map(|s| &s.targets).collect();
    for (target, _) in replaces.targets.iter().filter(|(_, by)| doomed.contains(by)) {
        let Some(done) = rollout.old.get(target).filter(|a| a.detach_intended_at.is_some()) else {
            continue;
        };
        // One that is gone cannot be attached to; one that AWS refused for good must not keep harm attached.
        let Some(Some(here)) = attached.get(target) else { continue };
        if done.attached_at.is_some() || done.lost_at.is_some() {
            continue;
        }
        return Some(match (here.contains(&replaces.policy), done.intended_at.is_some()) {
            (true, true) => Step::MarkRestored(target.clone()),
            (_, _) if done.attempts >= 2 * ATTEMPTS_MAX => Step::GiveUp(target.clone()),
            // DuplicatePolicyAttachment is success.
            (_, _) => Step::Restore(target.clone()),
        });
    }
    None
}

/// Forgets what became of the earlier policy where it is back: a resume detaches it anew.
pub(super) fn forget(rollout: &mut Rollout, gone: &BTreeSet<NodeId>) {
    let Some(replaces) = &rollout.body.replaces else { return };
    let by = |target: &NodeId| replaces.targets.get(target).is_some_and(|by| gone.contains(by));
    rollout.old.retain(|target, _| !by(target));
}

/// A target that goes without: who said so, when, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skip {
    /// Who.
    pub by: String,
    /// When.
    pub at: Time,
    /// Why.
    pub reason: String,
}

impl Rollout {
    /// Whether this target goes without, by a person's word.
    pub fn is_skipped(&self, target: &NodeId) -> bool {
        self.skipped.contains_key(target) && !self.holds(target)
    }

    /// Whether this target goes without, and always has.
    pub fn never_had(&self, target: &NodeId) -> bool {
        let had = self.attachments.get(target).is_some_and(|a| a.attached_at.is_some());
        self.is_skipped(target) && !had
    }

    /// Whether it was read back as attached there, and is not known to be off.
    pub fn holds(&self, target: &NodeId) -> bool {
        let held = |a: &Attachment| a.attached_at.is_some() && a.lost_at.is_none();
        self.attachments.get(target).is_some_and(held)
    }

    /// Who lets this target go without.
    pub fn skip(&mut self, target: &NodeId, skip: Skip) {
        self.skipped.insert(target.clone(), skip);
    }
}
