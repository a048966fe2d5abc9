//! Every reachable state of a small rollout, through [`decide`]: crashes, stale reads, people, and whatever the health of a
//! stage is said to be.

mod world;

use super::*;
use std::collections::VecDeque;
use world::{Event, World};

#[test]
fn nothing_is_attached_before_what_comes_first_has_shown_itself() {
    use Health::{Healthy, Inconclusive, Unhealthy};
    let events = [
        Event::Done(Healthy),
        Event::Done(Unhealthy),
        Event::Done(Inconclusive),
        Event::Unrecorded,
        Event::Stale,
        Event::Refused,
        Event::Pause,
        Event::Resume,
        Event::Abort,
        Event::Promote,
        Event::Meddle,
    ];
    for canary in [false, true] {
        sweep(&World::new(canary, false), &events);
    }
}

#[test]
fn nothing_is_attached_without_approval_or_evidence() {
    let events = [
        Event::Done(Health::Healthy),
        Event::Unrecorded,
        Event::Pause,
        Event::Resume,
        Event::Abort,
        Event::Approve,
        Event::Shut,
    ];
    sweep(&World::new(false, false), &events);
}

#[test]
fn a_version_takes_the_place_of_another_without_a_gap() {
    use Health::{Healthy, Unhealthy};
    let events = [
        Event::Done(Healthy),
        Event::Done(Unhealthy),
        Event::Unrecorded,
        Event::Stale,
        Event::Pause,
        Event::Resume,
        Event::Abort,
        Event::Meddle,
        Event::Skip,
    ];
    for canary in [false, true] {
        sweep(&World::new(canary, true), &events);
    }
}

fn sweep(start: &World, events: &[Event]) {
    let start = start.clone();
    let (mut known, mut left) = (BTreeSet::from([start.print()]), VecDeque::from([start]));
    let mut states = BTreeSet::new();
    while let Some(world) = left.pop_front() {
        world.can_be_taken_back();
        states.insert(world.r.state);
        assert!(world.meddled || world.gap().is_none(), "bound by neither: {:#?}", world.trail);
        if world.r.state == State::Aborted {
            let open = |p: &Probed| p.seen_at.is_some() && p.lifted.is_none();
            let open = world.r.body.replaces.is_none() && world.r.probes.values().any(open);
            let open = open && !world.meddled;
            assert!(!open, "nobody looked whether it is gone: {:#?}", world.trail);
        }
        if world.r.state == State::Complete && world.r.skipped.is_empty() && !world.meddled {
            let both = world.r.body.replaces.iter().flat_map(|r| r.targets.keys());
            let both = both.filter(|t| world.shows(t, "p-old")).count();
            assert_eq!(both, 0, "the earlier one is still attached: {:#?}", world.trail);
            let behind = world.r.probes.values().any(|p| p.shadowed);
            assert!(!behind, "it was seen behind the earlier one only: {:#?}", world.trail);
        }
        let on = |t: &NodeId| world.attached[t].as_ref().is_some_and(|set| set.contains("p-ours"));
        for (canary, ou) in &world.r.body.replaced_by {
            let replaced = world.r.is_replaced(canary) && world.r.wish == Wish::Run;
            let bound = on(canary) || on(ou) || world.meddled;
            assert!(!replaced || bound, "a canary that nothing binds: {:#?}", world.trail);
        }
        if world.r.state == State::Blocked && !world.meddled {
            let noted =
                |t: &NodeId| world.r.attachments.get(t).is_some_and(|a| a.attached_at.is_some());
            let gap = world.r.body.replaced_by.iter().find(|(c, ou)| noted(c) && !on(c) && !on(ou));
            assert!(
                gap.is_none() || world.blows > 0,
                "a canary counts as bound: {:#?}",
                world.trail
            );
        }
        // One whose OU goes without keeps it.
        if world.r.state == State::Complete && !world.meddled && world.r.skipped.is_empty() {
            let twice = world
                .r
                .body
                .replaced_by
                .keys()
                .any(|c| world.attached[c].as_ref().is_some_and(|set| set.contains("p-ours")));
            assert!(!twice, "the canary is still attached: {:#?}", world.trail);
        }
        for event in events.iter().copied() {
            let mut next = world.clone();
            next.happen(event);
            if next.blows <= 2 && known.insert(next.print()) {
                left.push_back(next);
            }
        }
    }
    assert!(known.len() > 2_000, "{} worlds only", known.len());
    for state in [State::Baking, State::Complete, State::Blocked, State::Paused, State::Aborted] {
        assert!(states.contains(&state), "{state:?} is never reached: {states:?}");
    }
}
