//! What no step may do, whatever the state.

use super::World;
use crate::finding::Resource;
use crate::rds::Encryption;
use crate::remediation::{Act, Goal, Quiesce, State, broken};

impl World {
    /// The rules, for one act that `decide` wants.
    pub(super) fn check(&self, act: &Act) {
        let rem = &self.rem;
        let swap = &rem.swap.clone().unwrap_or_default();
        let originals: Vec<&str> = match &rem.source {
            Resource::Instance { instance, replicas } => {
                std::iter::once(instance).chain(replicas).map(|i| i.resource_id.as_str()).collect()
            }
            Resource::Cluster { cluster, members } => std::iter::once(cluster.resource_id.as_str())
                .chain(members.iter().map(|m| m.resource_id.as_str()))
                .collect(),
            Resource::Snapshot { snapshot, .. } => return self.check_snapshot(act, snapshot),
        };
        let is_original = |id: &str| originals.contains(&id);
        match act {
            Act::CreateSnapshot { .. } | Act::CreateClusterSnapshot { .. } => {
                assert!(swap.quiet.is_some(), "a snapshot before quiet is proven");
            }
            Act::Rename { resource_id, .. } => {
                assert!(rem.verified_at.is_some(), "a rename before verification");
                assert!(swap.began_at.is_some(), "a rename before the original is proven quiet");
                assert!(
                    matches!(rem.goal, Goal::CutOver | Goal::RollBack),
                    "a rename nobody ordered"
                );
                if rem.goal == Goal::CutOver {
                    let top = self.top_id(&originals);
                    assert!(!self.met.contains(top), "the original was used after its snapshot");
                }
                if rem.goal == Goal::RollBack {
                    assert!(swap.back_at.is_some(), "back before the twin is proven unmet");
                    let met = self.met.contains(resource_id) && !self.late.contains(resource_id);
                    assert!(
                        is_original(resource_id) || !met,
                        "back, and the twin was met: {:#?}",
                        self.trail
                    );
                }
            }
            Act::Retire { resource_id, .. } if is_original(resource_id) => {
                assert_eq!(rem.goal, Goal::Decommission, "an original deleted without an order");
                assert!(
                    swap.done_at.is_some(),
                    "an original deleted before its twin has its place"
                );
                // Readers and replicas come and go.
                for part in &rem.parts()[..1] {
                    let twin =
                        super::super::unit::twin(rem, part, &self.seen).expect("its twin is there");
                    assert_eq!(*twin.encryption, Encryption::SseKms);
                }
                let last = self.seen.snapshots.iter().chain(&self.seen.cluster_snapshots);
                assert!(
                    last.into_iter().any(|s| s.encryption == Encryption::SseKms),
                    "no last copy"
                );
            }
            Act::Retire { resource_id, .. } => {
                assert_eq!(rem.goal, Goal::Discard, "a twin deleted without an order");
                let known = self.met.contains(resource_id) && !self.late.contains(resource_id);
                assert!(!known, "a twin deleted that somebody met");
                assert!(self.holds(originals[0]), "the last copy deleted: {:#?}", self.trail);
            }
            Act::DeleteSnapshot { .. } | Act::DeleteClusterSnapshot { .. } => {
                let twin = super::super::unit::twin(rem, &rem.parts()[0], &self.seen);
                let kept = rem.verified_at.is_some() && twin.is_ok();
                assert!(kept || self.holds(originals[0]), "the last copy deleted");
            }
            Act::Stop { resource_id, .. } => {
                let snapshot = rem.intents.contains_key("snapshot") && swap.quiet.is_some();
                let may = swap.done_at.is_some() || (swap.quiesce == Quiesce::Stop && snapshot);
                assert!(
                    is_original(resource_id) && may,
                    "a twin stopped, or an original too early"
                );
            }
            Act::RestoreInstance { .. } | Act::RestoreCluster { .. } => {
                let open = self.seen.groups.iter().any(|g| !g.lets_out.is_empty());
                assert!(!open && !swap.isolation.is_empty(), "restored into no isolation");
                let stops = swap.quiesce == Quiesce::Stop;
                assert!(
                    !stops || swap.stopped.is_some(),
                    "restored before its original is stopped"
                );
            }
            Act::CreateBlueGreen { .. } | Act::SwitchOver { .. } | Act::DeleteBlueGreen { .. } => {
                self.check_green(act);
            }
            Act::SetGroups { database, resource_id, groups, .. } if !is_original(resource_id) => {
                let opens = *groups != swap.only_of(database);
                assert!(!opens || swap.began_at.is_some(), "a twin opened before the cutover");
            }
            _ => {}
        }
    }

    /// What was cancelled or discarded is gone.
    pub(super) fn check_nothing_is_left_over(&self) {
        let rem = &self.rem;
        if !matches!(rem.state, State::Cancelled | State::Discarded) || self.lost() {
            return;
        }
        let scratch = [&rem.names.snapshot, &rem.names.copy];
        let mut snapshots = self.seen.snapshots.iter().chain(&self.seen.cluster_snapshots);
        let left = snapshots.any(|s| scratch.contains(&&s.id)) || !self.seen.blue_greens.is_empty();
        assert!(!left, "left over: {:#?}", self.trail);
    }

    /// Whether somebody deleted something: what may be the last copy stays then.
    fn lost(&self) -> bool {
        self.trail.iter().any(|t| t.starts_with("Lose"))
    }

    /// Where it ended without a swap, its original runs, and lets its clients in.
    pub(super) fn check_nobody_is_left_off(&self) {
        let rem = &self.rem;
        let ended = match rem.state {
            State::RolledBack | State::Discarded | State::Cancelled => true,
            State::Stopped => rem.goal == Goal::Twin && rem.verified_at.is_none(),
            _ => false,
        };
        let parts = rem.parts();
        let original = super::super::unit::find(&self.seen, parts[0].kind, parts[0].resource_id);
        let (Some(db), Some((own, _)), true) = (original, parts[0].own, ended) else { return };
        // One that takes no change is for a person, who is told.
        let told = rem.why.contains("still cut off") || broken(db.status);
        assert!(
            told || (db.status != "stopped" && db.groups == own),
            "left off: {:#?}",
            self.trail
        );
    }
}
