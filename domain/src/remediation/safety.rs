//! The safety sweep: every state that people, AWS and crashes can bring a swap into, through `decide`.
//!
//! A small AWS in memory: what is asked for happens at once, later, or not at all (the call or its answer
//! was lost); reads may lag by one change; somebody connects, deletes, breaks. From each state all of these
//! follow, and of each step that `decide` names the rules are checked: no rename before the twin is verified
//! and the original proven quiet, no deletion of an original without an approved order, none of a twin that
//! was met, never two databases changed by one step.

mod aws;
mod green;
mod old;
mod rules;

use super::sample;
use super::*;
use crate::finding::Kind;
use crate::isolation::NewGroup;
use crate::rds::Instance;
use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

/// Between two looks.
const STEP: Span = Span::seconds(61);
/// Worlds are the same but for their times, so what is waited for is not longer than what tells them apart.
const BOUNDS: Bounds = Bounds { expect_for: Span::seconds(100), quiet_for: STEP, ..sample::BOUNDS };

/// What can happen beside the next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    /// The step is done, and its answer recorded.
    Done,
    /// The call takes effect, and the process dies before it records that.
    DoneUnrecorded,
    /// The process dies before the call.
    NotDone,
    /// It is decided by what was there one change ago.
    Stale,
    /// Nothing happens for a while.
    Rest,
    /// Somebody is connected to what bears the original's name, from now on until nobody is.
    Connect,
    /// A person orders.
    CutOver,
    RollBack,
    Decommission,
    Discard,
    Retry,
    Cancel,
    /// Somebody deletes the database of that place.
    Lose(&'static str),
    /// It breaks.
    Break(&'static str),
    /// AWS starts an original that was stopped for seven days, or somebody does.
    Wake,
    /// Somebody switches a blue/green deployment over at AWS.
    Switch,
    /// AWS does not switch over.
    Fail,
    /// Its owner tags it.
    Tag(&'static str),
    /// Somebody lets himself in and connects to it.
    Meet(&'static str),
}

/// The world: what is there, who is connected to what, and the remediation.
#[derive(Debug, Clone)]
struct World {
    rem: Remediation,
    seen: Sweep,
    /// What was there one change ago, and when it changed.
    before: Sweep,
    changed_at: Time,
    now: Time,
    made: u32,
    /// Resource ids that somebody connected to after they were made or since the snapshot.
    met: BTreeSet<String>,
    /// Of these, who was met after CloudWatch was asked last: no proof can know.
    late: BTreeSet<String>,
    connected: bool,
    /// Whether AWS encrypts green environments.
    encrypts: bool,
    /// Blows of fate so far, and crashes.
    events: u32,
    crashes: u32,
    /// So many of them at most.
    blows: u32,
    /// What happened, for a person who has to understand a failure.
    trail: Vec<String>,
}

impl World {
    /// Its isolation group is yet to be made.
    fn instance() -> World {
        let (rem, seen, now) = sample::instance_world(&[]);
        let mut world = World::of(rem, seen, now);
        let new = NewGroup { vpc: "vpc-1".into(), name: "ringfence-isolation".into() };
        world.rem.swap = Some(Swap { make: Some(new), ..Swap::default() });
        world
    }

    fn tree() -> World {
        let mut main = sample::instance("orders");
        let mut read = sample::instance("orders-read");
        read.replica_source = Some("orders".into());
        main.replicas = vec!["orders-read".into()];
        let (mut rem, mut seen, now) = sample::instance_world(&[]);
        rem.source = Resource::Instance { instance: main.clone(), replicas: vec![read.clone()] };
        seen.instances = vec![main, read];
        World::of(rem, seen, now)
    }

    /// Its replica is in another region.
    fn across() -> World {
        let (rem, seen, now) = sample::instance_world(&[]);
        let mut world = World::of(rem, seen, now);
        sample::across(&mut world.rem, &mut world.seen);
        world.before = world.seen.clone();
        world
    }

    /// Its original is stopped while its twin is made.
    fn cluster() -> World {
        let (rem, seen, now) = sample::cluster_world(&[]);
        let mut world = World::of(rem, seen, now);
        if let Some(swap) = &mut world.rem.swap {
            swap.quiesce = Quiesce::Stop;
        }
        world
    }

    fn snapshot_of() -> World {
        let (rem, seen, now) = sample::snapshot_world();
        World::of(rem, seen, now)
    }

    fn of(mut rem: Remediation, seen: Sweep, now: Time) -> World {
        let swaps = rem.kind != Kind::Snapshot;
        rem.swap = swaps.then(|| Swap { isolation: "sg-nobody".into(), ..Swap::default() });
        rem.state = State::Running;
        rem.begun_at = Some(now);
        World {
            rem,
            before: seen.clone(),
            changed_at: Time(0),
            seen,
            now,
            made: 0,
            met: BTreeSet::new(),
            late: BTreeSet::new(),
            connected: false,
            encrypts: true,
            events: 0,
            crashes: 0,
            blows: BLOWS,
            trail: Vec::new(),
        }
    }

    /// What makes two worlds the same for what follows: times are left out.
    fn print(&self) -> String {
        let mut rem = self.rem.clone();
        // At the next step.
        let fresh = |a: &Activity| self.now.plus(STEP).since(a.at) < BOUNDS.measure_every;
        let known =
            rem.activity.take().filter(fresh).map(|a| (a.names, a.connections, a.from > self.now));
        for intent in rem.intents.values_mut() {
            // How long ago a database was cut off counts, up to where a proof can end.
            let looks = self.now.since(intent.at).0 / STEP.0;
            let age = if matches!(intent.act, Act::SetGroups { .. }) { looks.min(3) } else { 0 };
            (intent.first_at, intent.at) = (Time(0), Time(age));
        }
        // And how long ago a way back was asked for, which waits for what was asked for before.
        let back = rem.green().is_some() && rem.goal == Goal::RollBack;
        let asked = if back { (self.now.since(rem.since()).0 / STEP.0).min(3) } else { 0 };
        (rem.begun_at, rem.wake_at, rem.approved_at) = (None, Time(asked), Time(0));
        rem.verified_at = rem.verified_at.map(|_| Time(0));
        rem.why = String::new();
        rem.note = None;
        if let Some(swap) = &mut rem.swap {
            let quiet = swap.quiet.take().map(|_| ());
            let stopped = swap.stopped.take().map(|_| ());
            let marks =
                [&mut swap.unmet_at, &mut swap.began_at, &mut swap.done_at, &mut swap.back_at];
            marks.into_iter().for_each(|m| *m = m.map(|_| Time(0)));
            swap.proof = None;
            swap.stale = swap.stale.as_ref().map(|_| String::new());
            rem.why = format!("{quiet:?} {stopped:?}");
        }
        hash::of(&(
            &rem,
            (&self.seen, &self.before),
            (&self.met, &self.late),
            self.connected,
            (self.events, self.crashes),
            known,
        ))
    }

    fn measure(&self, names: &[String], from: Time) -> Activity {
        let bears = |name: &String| self.seen.instance(name).map(|i| i.resource_id.clone());
        // Before the snapshot only who is there now counts; afterwards everybody since.
        let proving = self.rem.swap.as_ref().is_some_and(|s| s.quiet.is_some());
        let met = match proving {
            true => names.iter().filter_map(bears).any(|id| self.met.contains(&id)),
            false => self.connected,
        };
        // A name that nobody bears has no values.
        let there = names.iter().all(|name| self.seen.instance(name).is_some());
        Activity {
            names: names.to_vec(),
            from,
            until: if there { self.now } else { from },
            at: self.now,
            points: if there { 100 } else { 0 },
            gap: Span(0),
            connections: u32::from(met),
            writes: 0,
            connected_at: met.then_some(self.now),
        }
    }

    /// The name that clients use.
    fn name(&self) -> &str {
        match self.rem.kind {
            Kind::Instance => "orders",
            Kind::Cluster => "m2",
            Kind::Snapshot => "monthly",
        }
    }

    fn groups_of(&self, i: &Instance) -> BTreeSet<String> {
        let of = i.cluster.as_ref().and_then(|c| self.seen.cluster(c));
        of.map_or(&i.settings.vpc_security_group_ids, |c| &c.settings.vpc_security_group_ids)
            .clone()
    }

    /// Clients are where the name is, if its groups let them in.
    fn meet(&mut self) {
        let Some(found) = self.seen.instance(self.name()).filter(|_| self.connected) else {
            return;
        };
        let open = self.groups_of(found) != BTreeSet::from(["sg-nobody".to_owned()]);
        if open && found.status == "available" {
            let id = found.resource_id.clone();
            self.met.insert(id);
        }
    }

    /// Whether that database is there.
    fn holds(&self, id: &str) -> bool {
        self.seen.instances.iter().any(|i| i.resource_id == id)
            || self.seen.clusters.iter().any(|c| c.resource_id == id)
    }

    /// Who clients write to.
    fn top_id<'a>(&self, originals: &[&'a str]) -> &'a str {
        match self.rem.kind {
            Kind::Instance => originals[0],
            Kind::Cluster | Kind::Snapshot => originals[2],
        }
    }

    /// One decision, and what comes of it.
    fn step(&mut self, event: Event) {
        self.now = self.now.plus(STEP);
        self.meet();
        // Reads lag by less than `expect_for`: that is what it is.
        let lags = event == Event::Stale && self.now.since(self.changed_at) < BOUNDS.expect_for;
        let view = if lags { self.before.clone() } else { self.seen.clone() };
        self.rem.adopt(&view);
        let step = decide(&self.rem, &view, self.now, BOUNDS);
        self.trail.push(sample::show(&step));
        match step {
            // Whom it is done to is read again, right before: the agent's part.
            Step::Act(act) if !self.is_still(&act) => {
                self.crashes += u32::from(event != Event::Done)
            }
            Step::Act(act) => {
                self.check(&act);
                self.crashes += u32::from(event != Event::Done);
                self.rem.intend(act.clone(), self.now);
                if event != Event::NotDone && !self.exists(&act) {
                    (self.before, self.changed_at) = (self.seen.clone(), self.now);
                    self.perform(&act);
                }
                if event == Event::Done || event == Event::Stale {
                    self.rem.adopt(&self.seen);
                    if let Some(intent) = self.rem.intents.get_mut(&act.key()) {
                        intent.done = true;
                    }
                }
            }
            Step::Measure { names, from } => {
                self.rem.activity = Some(self.measure(&names, from));
                let asked = |id: &String| {
                    names
                        .iter()
                        .any(|n| self.seen.instance(n).is_some_and(|i| i.resource_id == *id))
                };
                self.late.retain(|id| !asked(id));
                // Judged at once, as the agent does.
                self.now = Time(self.now.0 - STEP.0);
            }
            Step::Mark(mark) => {
                if matches!(mark, Mark::CutOverBegins { .. }) {
                    let known: Vec<_> = self.met.difference(&self.late).collect();
                    assert!(known.is_empty(), "names may change, and somebody was met: {known:?}");
                }
                drop(self.rem.mark(&mark, self.now));
            }
            Step::Wait(_) | Step::Check => {}
            Step::AskHuman(why) => self.rem.stop(&why, Failure::Blocked),
            Step::Finish => self.rem.finish(self.now, BOUNDS),
        }
    }

    fn happen(&mut self, event: Event) {
        self.trail.push(format!("{event:?}"));
        let active = matches!(self.rem.state, State::Running | State::CutOver);
        match event {
            Event::Done | Event::DoneUnrecorded | Event::NotDone | Event::Stale if active => {
                self.step(event);
            }
            Event::Done | Event::DoneUnrecorded | Event::NotDone | Event::Stale => {}
            Event::Rest => self.now = self.now.plus(Span::hours(1)),
            Event::Connect => {
                self.events += 1;
                self.connected = !self.connected;
                self.meet();
            }
            Event::CutOver => drop(self.rem.cut_over(self.now)),
            Event::RollBack => drop(self.rem.roll_back(self.now)),
            Event::Decommission => {
                self.now = self.now.plus(BOUNDS.hold);
                drop(self.rem.decommission(self.now, BOUNDS));
            }
            Event::Discard => drop(self.rem.discard(self.now)),
            Event::Retry if matches!(self.rem.state, State::Stopped | State::Discarded) => {
                self.events += 1;
                self.rem.retry(self.now);
                self.rem.state = State::Running;
            }
            Event::Retry => {}
            Event::Cancel => {
                let making = self.rem.goal == Goal::Twin && self.rem.verified_at.is_none();
                if active && making && !self.rem.cancelled {
                    self.events += 1;
                    self.rem.cancel("cancelled".into(), self.now);
                }
            }
            Event::Lose(name) => {
                self.events += 1;
                self.seen.instances.retain(|i| i.id != name);
                self.seen.snapshots.retain(|s| s.id != name);
            }
            Event::Wake => {
                let stopped = self.seen.clusters.iter().find(|c| c.status == "stopped");
                if let Some(id) = stopped.map(|c| c.resource_id.clone()) {
                    self.events += 1;
                    self.status(Kind::Cluster, &id, "available");
                }
            }
            Event::Switch => {
                self.events += 1;
                self.switch_over();
            }
            Event::Fail => {
                self.events += 1;
                for b in self.seen.blue_greens.iter_mut().filter(|b| b.status == "AVAILABLE") {
                    b.status = "SWITCHOVER_FAILED".into();
                }
            }
            Event::Tag(name) => {
                self.events += 1;
                for s in self.seen.snapshots.iter_mut().filter(|s| s.id == name) {
                    s.tags.insert("legal-hold".into(), "true".into());
                }
            }
            Event::Meet(name) => {
                self.events += 1;
                let id = self.seen.instance(name).map(|i| i.resource_id.clone());
                self.met.extend(id.clone());
                self.late.extend(id);
            }
            Event::Break(name) => {
                self.events += 1;
                for i in self.seen.instances.iter_mut().filter(|i| i.id == name) {
                    i.status = "storage-full".into();
                }
                for s in self.seen.snapshots.iter_mut().filter(|s| s.id == name) {
                    s.status = "failed".into();
                }
            }
        }
    }
}

/// Blows of fate and crashes on one way; with two there are a hundred times as many worlds.
const BLOWS: u32 = 1;

/// All worlds that can follow, up to so many; how many there were, and how many steps were looked at.
fn sweep(start: World, events: &[Event], most: usize) -> (usize, BTreeMap<State, usize>) {
    let mut known: HashSet<String> = HashSet::from([start.print()]);
    let mut left = VecDeque::from([start]);
    let mut states: BTreeMap<State, usize> = BTreeMap::new();
    while let Some(world) = left.pop_front() {
        *states.entry(world.rem.state).or_default() += 1;
        world.check_nobody_is_left_off();
        world.check_nothing_is_left_over();
        for event in events {
            let mut next = world.clone();
            next.happen(*event);
            if next.events + next.crashes <= next.blows
                && known.len() < most
                && known.insert(next.print())
            {
                left.push_back(next);
            }
        }
    }
    (known.len(), states)
}

const ORDERS: [Event; 9] = [
    Event::Done,
    Event::Stale,
    Event::DoneUnrecorded,
    Event::NotDone,
    Event::CutOver,
    Event::RollBack,
    Event::Decommission,
    Event::Discard,
    Event::Connect,
];

#[test]
fn nothing_unsafe_can_be_reached() {
    for (name, start, fates) in [
        (
            "instance",
            World::instance(),
            &[
                Event::Lose("encrypted-orders"),
                Event::Lose("orders"),
                Event::Break("orders"),
                Event::Meet("encrypted-orders"),
            ][..],
        ),
        (
            "tree",
            World::tree(),
            &[
                Event::Lose("orders-read"),
                Event::Break("encrypted-orders"),
                Event::Meet("encrypted-orders"),
            ],
        ),
        (
            "tree across regions",
            World::across(),
            &[
                Event::Lose(sample::FAR),
                Event::Break("encrypted-orders"),
                Event::Meet("encrypted-orders"),
            ],
        ),
        (
            "cluster",
            World::cluster(),
            &[
                Event::Lose("m1"),
                Event::Break("encrypted-m2"),
                Event::Meet("encrypted-m2"),
                Event::Wake,
                Event::Cancel,
            ],
        ),
    ] {
        let events = [&ORDERS[..], fates, &[Event::Rest, Event::Retry]].concat();
        let (worlds, states) = sweep(start, &events, 400_000);
        assert!(worlds < 400_000, "{name}: the sweep is not complete");
        assert!(worlds > 500, "{name}: {worlds} worlds only, {states:?}");
        for state in [
            State::Verified,
            State::CutOver,
            State::RolledBack,
            State::Decommissioned,
            State::Discarded,
        ] {
            assert!(states.contains_key(&state), "{name}: {state:?} is never reached: {states:?}");
        }
    }
}
