//! The rules for an old snapshot, and every state that one can be brought into.

use super::{Event, ORDERS, World, sweep};
use crate::rds::{Encryption, Snapshot};
use crate::remediation::{Act, Goal, State};

impl World {
    /// The rules for an old snapshot.
    pub(super) fn check_snapshot(&self, act: &Act, old: &Snapshot) {
        let there = |id: &str| self.seen.snapshots.iter().find(|s| s.id == id);
        let copy = there(&self.rem.names.twin);
        match act {
            Act::CopySnapshot { .. } => assert!(copy.is_none(), "copied twice"),
            Act::DeleteSnapshot { snapshot } => {
                assert_eq!(*snapshot, self.rem.names.twin, "scratch that is none");
                assert!(self.rem.verified_at.is_none(), "a verified copy deleted");
                assert!(there(&old.id).is_some(), "the last copy deleted: {:#?}", self.trail);
            }
            Act::Retire { resource_id, .. } => {
                assert_eq!((self.rem.goal, resource_id), (Goal::Decommission, &old.resource_id));
                let copy = copy.expect("the last copy deleted");
                assert_eq!(copy.encryption, Encryption::SseKms);
                assert_eq!((&copy.settings, &copy.tags), (&old.settings, &old.tags));
                let ours = copy.made_by.as_deref() == Some(self.rem.id.as_str());
                assert!(ours && copy.kms_key.as_ref() == Some(&self.rem.key_arn));
                let now = there(&old.id).expect("it is there");
                assert_eq!(now.tags, old.tags, "an owner's word since: {:#?}", self.trail);
            }
            other => panic!("nothing of this is done to a snapshot: {other:?}"),
        }
    }
}

#[test]
fn an_old_snapshot_is_deleted_on_an_order_and_its_copy_never() {
    let fates = [
        Event::Lose("encrypted-monthly"),
        Event::Lose("monthly"),
        Event::Break("encrypted-monthly"),
        Event::Tag("monthly"),
        Event::Rest,
        Event::Retry,
    ];
    let (worlds, states) = sweep(World::snapshot_of(), &[&ORDERS[..], &fates].concat(), 400_000);
    assert!((50..400_000).contains(&worlds), "{worlds} worlds, {states:?}");
    for state in [State::Verified, State::Decommissioned, State::Stopped] {
        assert!(states.contains_key(&state), "{state:?} is never reached: {states:?}");
    }
}
