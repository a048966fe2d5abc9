//! What other people do to a rollout: attachments that are gone, a policy that says something else, accounts that come and
//! go.

use super::{Rollout, Skip, State, Wish};
use crate::id::{AccountId, NodeId};
use crate::org::{NodeKind, OrgTree};
use crate::time::Time;
use std::collections::BTreeSet;

/// What becomes of a rollout when somebody detaches what it attached (`rollout.on_drift`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDrift {
    /// It stops, and a person looks.
    Pause,
    /// It is attached again, through its gate, a few times.
    Reattach,
    /// It stays off.
    Adopt,
}

/// How often one target is attached again by itself: whoever detaches it each time, a person or a tool, means it.
pub(super) const REATTACHED_MAX: u32 = 3;

impl OnDrift {
    /// All, by the names in the configuration.
    pub const ALL: [(&'static str, OnDrift); 3] =
        [("pause", OnDrift::Pause), ("reattach", OnDrift::Reattach), ("adopt", OnDrift::Adopt)];
}

impl Rollout {
    /// Notes which targets it is no longer attached to, though it should be.
    pub fn note_lost(&mut self, on: impl Fn(&NodeId) -> bool, now: Time) {
        for (target, attachment) in &mut self.attachments {
            let should = attachment.attached_at.is_some()
                && attachment.detach_intended_at.is_none()
                && attachment.lost_at.is_none();
            if should && !on(target) {
                attachment.lost_at = Some(now);
                attachment.losses += 1;
            }
        }
    }

    /// Where it is known to be off, though nobody asked us to, and nobody has agreed to that.
    pub fn lost(&self) -> Vec<NodeId> {
        let lost = |t: &&NodeId| self.attachments.get(*t).is_some_and(|a| a.lost_at.is_some());
        let meant = |t: &&NodeId| !self.skipped.contains_key(*t) && !self.is_replaced(t);
        self.body.targets().filter(lost).filter(meant).cloned().collect()
    }

    /// What other people did to what was attached, given where the policy is now: one line each.
    pub fn drift(&self, on: &BTreeSet<NodeId>, edited: bool) -> Vec<String> {
        let policy = self.policy_id.as_deref().unwrap_or_default();
        let goes = |t: &NodeId| self.is_replaced(t) || self.skipped.contains_key(t);
        let off = self.body.targets().filter(|t| self.holds(t) && !on.contains(t) && !goes(t));
        let line = |t: &NodeId| {
            format!("{policy} is no longer attached to {t}: somebody detached it, or {t} is gone")
        };
        let mut found: Vec<String> = off.map(line).collect();
        if edited {
            found.push(format!("{policy} no longer says what was approved: somebody changed it"));
        }
        found
    }

    /// What becomes of it, for these reasons, once what is lost is noted.
    pub fn drifted(&mut self, what: OnDrift, edited: bool, why: Vec<String>, now: Time) {
        self.why = why;
        let (lost, complete) = (self.lost(), self.state == State::Complete);
        // Off at one target among others is somebody's doing there; off at more in one look, or everywhere, is an order
        // (emergency-detach), and not to be undone.
        let holds = self.body.targets().filter(|t| self.holds(t)).count();
        let ordered = lost.len() > 1 || holds == 0;
        let losses = |t: &NodeId| self.attachments.get(t).map_or(0, |a| a.losses);
        let often = lost.iter().find(|t| losses(t) > REATTACHED_MAX);
        match (what, often) {
            _ if edited || ordered || !complete || lost.is_empty() || self.wish != Wish::Run => {
                self.state = State::Failed;
            }
            (OnDrift::Reattach, Some(target)) => {
                self.why.push(format!(
                    "{target} was attached again {REATTACHED_MAX} times, and somebody keeps detaching it"
                ));
                self.state = State::Failed;
            }
            (OnDrift::Reattach, None) => {
                self.why.push("attached again (rollout.on_drift = \"reattach\")".into());
                self.tries_again();
                self.state = State::Running;
            }
            (OnDrift::Adopt, _) => {
                let reason = "somebody detached it (rollout.on_drift = \"adopt\")";
                for target in lost {
                    let skip = Skip { by: "rollouts".into(), at: now, reason: reason.into() };
                    self.skip(&target, skip);
                }
            }
            (OnDrift::Pause, _) => self.state = State::Failed,
        }
        if self.state == State::Failed && self.wish == Wish::Run && !edited {
            self.why.push("resume attaches again what was detached, skip lets a target go without, abort takes back the rest".into());
        }
    }
}

/// The accounts that SCPs on these targets bind, and that can do anything.
pub fn bound<'a>(tree: &OrgTree, targets: impl Iterator<Item = &'a NodeId>) -> BTreeSet<AccountId> {
    targets.flat_map(|t| tree.accounts_under(t)).filter(|a| can_be_bound(tree, a)).collect()
}

fn can_be_bound(tree: &OrgTree, account: &AccountId) -> bool {
    let node = tree.get(&account.into());
    node.is_some_and(|n| match &n.kind {
        NodeKind::Account { state, management } => !management && state.has_cells(),
        NodeKind::Root | NodeKind::Ou => false,
    })
}

/// Accounts that came or went since a rollout was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moves {
    /// Bound now, and not known.
    pub came: BTreeSet<AccountId>,
    /// Known, still in use, and under no target of the rollout any more.
    pub went: BTreeSet<AccountId>,
}

impl Rollout {
    /// Which accounts came and went since they were known, given where the policy is attached. One that was closed has not
    /// gone anywhere; one whose target is off has not either.
    pub fn moves(&self, tree: &OrgTree, on: &BTreeSet<NodeId>) -> Moves {
        let known = self.bound.clone().unwrap_or_default();
        let binds = bound(tree, self.body.targets().filter(|t| on.contains(*t)));
        let under = bound(tree, self.body.targets());
        let went = known.difference(&under).filter(|a| can_be_bound(tree, a));
        Moves { came: binds.difference(&known).cloned().collect(), went: went.cloned().collect() }
    }

    /// Notes accounts whose evidence held.
    pub fn knows(&mut self, accounts: impl IntoIterator<Item = AccountId>) {
        self.bound.get_or_insert_default().extend(accounts);
    }
}
