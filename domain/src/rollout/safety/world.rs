//! A small rollout with all that can happen to it: people, crashes, stale reads, refusals, and what its health is said to be.

use super::super::*;
use crate::probe::Shows;

/// How long the first stage bakes, in steps of the clock.
const BAKE: Span = Span(4);
const OU_A: &str = "ou-ab12-aaaaaaaa";
const OU_B: &str = "ou-ab12-bbbbbbbb";
const CANARY: &str = "111122223333";

#[derive(Debug, Clone, Copy)]
pub(super) enum Event {
    /// What is decided is done and recorded; the health of a stage is said to be this.
    Done(Health),
    /// It takes effect, and the process dies before it records that.
    Unrecorded,
    /// It is decided by what was there one change ago.
    Stale,
    /// AWS refuses to detach it.
    Refused,
    Pause,
    Resume,
    Abort,
    Promote,
    /// Somebody detaches ours from the first target, or attaches it there.
    Meddle,
    /// A person lets the last target go without.
    Skip,
    /// An approval is missing, or there again; the gates are shut, or open again.
    Approve,
    Shut,
}

#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) r: Rollout,
    pub(super) attached: Attached,
    before: Attached,
    now: Time,
    /// Blows so far: crashes, stale reads, other people's changes.
    pub(super) blows: u32,
    /// Whether somebody else changed an attachment.
    pub(super) meddled: bool,
    /// Whether a stage was said to do harm since a person said that it may go on.
    harmful: bool,
    missing: usize,
    shut: bool,
    pub(super) trail: Vec<String>,
}

fn id(text: &str) -> NodeId {
    text.parse().unwrap()
}

impl World {
    /// With a canary account in the second stage's OU, or an OU of its own in the first stage; and a version that took the
    /// place of an earlier one everywhere. The first stage is probed.
    pub(super) fn new(with: bool, version: bool) -> World {
        let first = if with { CANARY } else { OU_A };
        let stage = |name: &str, target: &str| Stage {
            name: name.into(),
            targets: vec![id(target)],
            ..Stage::default()
        };
        let probe = Place::parse("111122223333/eu-west-1");
        let canary = Stage { bake: BAKE, observations: 1, probe, ..stage("canary", first) };
        let mut r = Rollout::new(Body {
            id: "ro-1".into(),
            author: "ann".into(),
            policy_name: "ringfence-x-12345678".into(),
            content: "{}".into(),
            stages: vec![canary, stage("rest", OU_B)],
            replaced_by: with.then(|| (id(CANARY), id(OU_B))).into_iter().collect(),
            replaces: version.then(|| Replaces {
                changes: Vec::new(),
                rollout: "ro-0".into(),
                policy: "p-old".into(),
                // A canary is left to its OU, which is what binds it then.
                targets: [(id(first), id(if with { OU_B } else { first })), (id(OU_B), id(OU_B))]
                    .into(),
            }),
            ..Body::default()
        });
        let mut full: BTreeSet<String> = ["p-FullAWSAccess".to_owned()].into();
        full.extend(version.then(|| "p-old".to_owned()));
        r.baseline = Some([(id(first), full.clone()), (id(OU_B), full.clone())].into());
        (r.policy_id, r.wish, r.state) = (Some("p-ours".into()), Wish::Run, State::Running);
        let attached: Attached = [(id(first), Some(full.clone())), (id(OU_B), Some(full))].into();
        World {
            r,
            before: attached.clone(),
            attached,
            now: Time(0),
            blows: 0,
            meddled: false,
            harmful: false,
            missing: 0,
            shut: false,
            trail: Vec::new(),
        }
    }

    fn moment(&self) -> Moment {
        Moment { now: self.now, observe_every: Some(Span(2)) }
    }

    fn here(&mut self, target: &NodeId) -> &mut BTreeSet<String> {
        self.attached.get_mut(target).unwrap().as_mut().unwrap()
    }

    /// What no step may do.
    fn check(&self, step: &Step) {
        match step {
            Step::Attach(target) => {
                assert_eq!(self.r.wish, Wish::Run, "attached against a person's wish");
                assert_eq!(self.missing, 0, "attached without approval: {:#?}", self.trail);
                assert!(!self.harmful, "attached after harm: {:#?}", self.trail);
                assert!(!self.r.is_skipped(target), "attached though skipped: {:#?}", self.trail);
                let n = self.r.body.stages.iter().position(|s| s.targets.contains(target)).unwrap();
                for (m, stage) in self.r.body.stages[..n].iter().enumerate() {
                    let bake = self.r.bakes.get(&m);
                    let baked = !stage.bakes() || bake.is_some_and(|b| b.done_at.is_some());
                    assert!(baked, "{target} before {} has baked: {:#?}", stage.name, self.trail);
                    let seen = stage.probe.is_none() || self.is_seen(m);
                    assert!(seen, "{target} before {} was seen: {:#?}", stage.name, self.trail);
                }
            }
            Step::BeginBake(n) | Step::Observe(n) => {
                let seen = self.r.body.stages[*n].probe.is_none() || self.is_seen(*n);
                assert!(seen, "it bakes before it was seen in force: {:#?}", self.trail);
            }
            Step::ProbeLifted(_) => assert_ne!(self.r.wish, Wish::Run, "{:#?}", self.trail),
            Step::EndBake(n) => {
                let (stage, bake) = (&self.r.body.stages[*n], &self.r.bakes[n]);
                let long = self.now.since(bake.began_at) >= stage.bake;
                let last = bake.last.as_ref().is_some_and(|o| o.health == Health::Healthy);
                let healthy = bake.healthy >= stage.observations && last;
                assert!(bake.promoted.is_some() || (long && healthy), "{:#?}", self.trail);
            }
            Step::Detach(target) => {
                assert!(self.r.ours(target), "what is not ours is detached");
                // A canary that its OU, noted and shown as attached, has taken the place of.
                let ou = self.r.body.replaced_by.get(target);
                let stands = ou.is_some_and(|ou| {
                    self.r.attachments.get(ou).is_some_and(|a| a.attached_at.is_some())
                });
                let late = match self.r.wish {
                    Wish::Run if stands => true,
                    Wish::Abort => true,
                    Wish::Retreat { stage } => {
                        self.r.body.stages[stage..].iter().any(|s| s.targets.contains(target))
                    }
                    Wish::Planned | Wish::Run | Wish::Pause => false,
                };
                assert!(late, "detached against a person's wish: {:#?}", self.trail);
            }
            Step::Release(_) => assert_eq!(self.r.wish, Wish::Run, "{:#?}", self.trail),
            Step::Restore(_) => assert_ne!(self.r.wish, Wish::Run, "{:#?}", self.trail),
            _ => {}
        }
    }

    /// What it does to AWS; then what is recorded of it.
    fn perform(&mut self, step: &Step, health: Health, recorded: bool) {
        let (now, policy) = (self.now, "p-ours".to_owned());
        let before = self.attached.clone();
        match step {
            // Without evidence the worker stops here.
            Step::Attach(_) if self.shut => self.r.state = State::Blocked,
            // The intent is recorded before the call.
            Step::Attach(target) => {
                self.r.attaches(target, now);
                self.here(target).insert(policy);
            }
            Step::Detach(target) if self.r.wish == Wish::Run && !self.is_bound(target) => {}
            Step::Detach(target) => {
                self.r.attachments.entry(target.clone()).or_default().detaches(now);
                self.here(target).remove(&policy);
            }
            Step::Release(target) if !self.shows(&self.binder(target), "p-ours") => {}
            Step::Release(target) => {
                self.r.releases(target, now);
                self.here(target).remove("p-old");
            }
            Step::Restore(target) => {
                self.here(target).insert("p-old".into());
                if recorded {
                    self.r.restored(target, now);
                }
            }
            _ if !recorded => {}
            Step::MarkReleased(t) => self.r.old.get_mut(t).unwrap().detached_at = Some(now),
            Step::MarkRestored(t) => self.r.old.get_mut(t).unwrap().attached_at = Some(now),
            Step::GiveUp(t) => self.r.gives_up(t, now),
            Step::MarkAttached(t) => {
                self.r.attachments.entry(t.clone()).or_default().attached_at = Some(now)
            }
            Step::MarkDetached(t) => {
                self.r.attachments.entry(t.clone()).or_default().detached_at = Some(now)
            }
            Step::Probe(n) => {
                let probed = self.r.probes.entry(*n).or_insert_with(|| Probed::begun(now));
                let there = self.attached.values().flatten().any(|set| set.contains("p-ours"));
                let shows = match health {
                    _ if !there => Shows::No,
                    Health::Healthy => Shows::Yes,
                    Health::Unhealthy => Shows::Harm,
                    Health::Inconclusive => Shows::Unknown,
                };
                if probed.began_at.is_none() || probed.shadowed {
                    *probed = Probed { seen_at: probed.seen_at, ..Probed::begun(now) };
                }
                // Beside an earlier version AWS names that one, until it is detached everywhere.
                let old = self.attached.values().flatten().any(|set| set.contains("p-old"));
                probed.sees(shows, there && !old, String::new(), now);
                self.judge(*n, if there { health } else { Health::Healthy });
            }
            Step::ProbeLifted(all) => {
                let each = self.r.probes.iter_mut().filter(|(n, _)| all.contains(n));
                each.for_each(|(_, p)| p.lifted = Some((now, true)));
            }
            Step::BeginBake(n) => drop(self.r.bakes.insert(*n, Bake::begun(now))),
            Step::EndBake(n) => self.r.bakes.get_mut(n).unwrap().done_at = Some(now),
            Step::Observe(n) => {
                let seen = Observation { at: now, health, said: String::new() };
                self.r.bakes.get_mut(n).unwrap().observe(seen);
                self.judge(*n, health);
            }
            Step::Rest(State::Blocked) if let Wish::Retreat { stage } = self.r.wish => {
                self.r.forget_from(stage);
                (self.r.wish, self.r.state) = (Wish::Pause, State::Blocked);
            }
            // It is tried again after a while.
            Step::Rest(State::Aborting) => self.now = self.now.plus(RETRY),
            Step::Rest(state) => self.r.state = *state,
            Step::AskHuman(_) => {
                self.r.state = State::Failed;
                let on = self.attached.clone();
                let on = |t: &NodeId| on[t].as_ref().is_some_and(|set| set.contains("p-ours"));
                self.r.note_lost(on, now);
            }
            Step::TakeBaseline | Step::CreatePolicy => unreachable!("both are there"),
        }
        if before != self.attached {
            self.before = before;
        }
    }

    fn judge(&mut self, stage: usize, health: Health) {
        match health {
            Health::Healthy => {}
            Health::Inconclusive => (self.r.wish, self.r.state) = (Wish::Pause, State::Paused),
            Health::Unhealthy => {
                self.harmful = true;
                (self.r.wish, self.r.state) = (Wish::Retreat { stage }, State::Aborting);
            }
        }
    }

    /// Whether its policy was seen in force, or a person let it pass.
    fn is_seen(&self, stage: usize) -> bool {
        self.r.probes.get(&stage).is_some_and(|p| p.passed_at.is_some())
    }

    /// Whether the canary's OU binds it: read anew right before it is detached.
    fn is_bound(&self, canary: &NodeId) -> bool {
        self.shows(&self.r.body.replaced_by[canary], "p-ours")
    }

    pub(super) fn shows(&self, target: &NodeId, policy: &str) -> bool {
        self.attached[target].as_ref().is_some_and(|set| set.contains(policy))
    }

    /// What binds a target of the earlier version in the end.
    fn binder(&self, target: &NodeId) -> NodeId {
        self.r.body.replaces.as_ref().unwrap().targets[target].clone()
    }

    /// Where neither version binds.
    pub(super) fn gap(&self) -> Option<&NodeId> {
        let any = |t: &NodeId| self.shows(t, "p-ours") || self.shows(t, "p-old");
        let bare = |t: &&NodeId| !any(t) && !any(&self.binder(t));
        self.r.body.replaces.iter().flat_map(|r| r.targets.keys()).find(bare)
    }

    fn runs(&self) -> bool {
        matches!(self.r.state, State::Running | State::Baking | State::Aborting)
    }

    pub(super) fn happen(&mut self, event: Event) {
        self.now = self.now.plus(Span(1));
        self.trail.push(format!("{event:?}"));
        let retreats = matches!(self.r.wish, Wish::Retreat { .. });
        match event {
            Event::Done(_) | Event::Unrecorded | Event::Stale | Event::Refused if !self.runs() => {}
            Event::Refused => {
                let step = decide(&self.r, &self.attached, self.missing, self.moment());
                if let (Step::Detach(target), true) = (&step, self.r.wish != Wish::Run) {
                    self.blows += 1;
                    let a = self.r.attachments.entry(target.clone()).or_default();
                    a.detaches(self.now);
                    a.is_refused(String::new(), self.now);
                }
            }
            Event::Done(health) => {
                let step = decide(&self.r, &self.attached, self.missing, self.moment());
                self.trail.push(format!("  {step:?}"));
                self.check(&step);
                self.perform(&step, health, true);
            }
            Event::Unrecorded => {
                self.blows += 1;
                let step = decide(&self.r, &self.attached, self.missing, self.moment());
                self.check(&step);
                self.perform(&step, Health::Healthy, false);
            }
            Event::Stale => {
                self.blows += 1;
                let step = decide(&self.r, &self.before.clone(), self.missing, self.moment());
                self.check(&step);
                self.perform(&step, Health::Healthy, true);
            }
            Event::Pause if !retreats && self.r.wish == Wish::Run => {
                (self.r.wish, self.r.state) = (Wish::Pause, State::Paused);
            }
            // What is to be taken back is, before anything goes on.
            Event::Resume if retreats && self.r.state == State::Failed => {
                self.r.tries_again();
                self.r.state = State::Aborting;
            }
            Event::Resume if !retreats && self.r.wish != Wish::Abort => {
                self.r.tries_again();
                (self.r.wish, self.r.state, self.harmful) = (Wish::Run, State::Running, false);
            }
            Event::Abort => {
                self.r.tries_again();
                (self.r.wish, self.r.state) = (Wish::Abort, State::Aborting);
            }
            Event::Promote if !retreats => {
                if let Some(b) = self.r.bakes.values_mut().find(|b| b.done_at.is_none()) {
                    b.promoted = Some((self.now, "bob".into()));
                }
                if let Some(p) = self.r.probes.values_mut().find(|p| p.passed_at.is_none()) {
                    (p.promoted, p.passed_at) = (Some("bob".into()), Some(self.now));
                }
            }
            Event::Meddle => {
                (self.blows, self.meddled) = (self.blows + 1, true);
                let first = self.r.body.stages[0].targets[0].clone();
                let here = self.here(&first);
                if !here.remove("p-ours") {
                    here.insert("p-ours".into());
                }
            }
            Event::Skip if !self.r.holds(&id(OU_B)) && !retreats => {
                let skip = Skip { by: "bob".into(), at: Time(0), reason: String::new() };
                self.r.skip(&id(OU_B), skip);
            }
            Event::Approve => self.missing = 1 - self.missing,
            Event::Shut => self.shut = !self.shut,
            Event::Pause | Event::Resume | Event::Promote | Event::Skip => {}
        }
    }

    /// What makes two worlds the same for what follows.
    pub(super) fn print(&self) -> String {
        let mut r = self.r.clone();
        let age = |t: Time| Time(self.now.since(t).0.min(5));
        for bake in r.bakes.values_mut() {
            bake.began_at = age(bake.began_at);
            bake.healthy = bake.healthy.min(2);
            bake.done_at = bake.done_at.map(|_| Time(0));
            bake.promoted = bake.promoted.take().map(|_| (Time(0), String::new()));
            if let Some(last) = &mut bake.last {
                last.at = age(last.at);
            }
        }
        for p in r.probes.values_mut() {
            (p.last, p.good) = (None, p.good.min(IN_A_ROW));
            p.lifted = p.lifted.map(|(_, gone)| (Time(0), gone));
            for at in [&mut p.began_at, &mut p.seen_at, &mut p.passed_at, &mut p.detached_at] {
                *at = at.map(|_| Time(0));
            }
        }
        for a in r.attachments.values_mut().chain(r.old.values_mut()) {
            let lately = |at: Time| Time(i64::from(self.now.since(at) < RETRY));
            a.refused = a.refused.take().map(|(at, why)| (lately(at), why));
            for at in [
                &mut a.intended_at,
                &mut a.attached_at,
                &mut a.detach_intended_at,
                &mut a.detached_at,
            ] {
                *at = at.map(|_| Time(0));
            }
        }
        let people = (self.blows, self.meddled, self.harmful, self.missing, self.shut);
        hash::of(&(&r, &self.attached, &self.before, people))
    }

    /// An abort always ends, and leaves nothing of ours, unless somebody else put it there.
    pub(super) fn can_be_taken_back(&self) {
        let mut world = self.clone();
        world.happen(Event::Abort);
        for _ in 0..30 {
            if !world.runs() {
                break;
            }
            world.happen(Event::Done(Health::Healthy));
        }
        assert_eq!(world.r.state, State::Aborted, "{:#?}", world.trail);
        let left = world.attached.values().flatten().any(|set| set.contains("p-ours"));
        assert!(!left || world.meddled, "left attached: {:#?}", world.trail);
        let bare = world.r.body.replaces.iter().flat_map(|r| r.targets.keys());
        for target in bare {
            assert!(world.shows(target, "p-old"), "not given back: {:#?}", world.trail);
        }
    }
}
