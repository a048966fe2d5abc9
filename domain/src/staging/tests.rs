//! The decisions of a staging OU: row by row, and through every reachable state of a small one.

use super::*;
use crate::rollout::Health;
use std::collections::{BTreeSet, VecDeque};

const OU: &str = "ou-ab12-ssssssss";
const HOME: &str = "ou-ab12-aaaaaaaa";
const ELSEWHERE: &str = "ou-ab12-eeeeeeee";
const ONE: &str = "111122223333";
const TWO: &str = "444455556666";

fn node(text: &str) -> NodeId {
    text.parse().unwrap()
}

fn account(text: &str) -> AccountId {
    text.parse().unwrap()
}

fn staging(wish: Wish) -> Staging {
    let visitor = |a: &str| Visitor { account: account(a), origin: node(HOME) };
    let mut staging = Staging::new(Body {
        id: "st-1".into(),
        author: "ann".into(),
        created_at: Time(0),
        ou: node(OU),
        visitors: vec![visitor(ONE), visitor(TWO)],
        batch: 1,
        stay: Span(4),
        differences: BTreeMap::new(),
    });
    (staging.wish, staging.state) = (wish, State::Running);
    staging
}

fn places(one: &str, two: &str) -> Places {
    [(account(ONE), Some(node(one))), (account(TWO), Some(node(two)))].into()
}

fn at(staging: &Staging, places: &Places, now: i64) -> Step {
    decide(staging, places, 0, Moment { now: Time(now), observe_every: None })
}

#[test]
fn one_batch_goes_stays_and_comes_back_before_the_next() {
    let mut s = staging(Wish::Planned);
    let home = places(HOME, HOME);
    assert_eq!(at(&s, &home, 0), Step::Rest(State::Planned));
    s.wish = Wish::Run;
    let none = Moment { now: Time(0), observe_every: None };
    assert_eq!(decide(&s, &home, 1, none), Step::Rest(State::Blocked));
    assert_eq!(at(&s, &home, 0), Step::MoveThere(account(ONE)));
    assert_eq!(s.watched(), [account(ONE)]);
    s.leaves(&account(ONE), Time(0));
    assert_eq!(at(&s, &home, 0), Step::MoveThere(account(ONE)), "a lost call is repeated");
    let there = places(OU, HOME);
    assert_eq!(at(&s, &there, 1), Step::MarkArrived(account(ONE)));
    s.arrives(&account(ONE), Time(1));
    assert_eq!(at(&s, &there, 2), Step::Rest(State::Baking));
    let asked = Moment { now: Time(9), observe_every: Some(Span(2)) };
    assert_eq!(decide(&s, &there, 0, asked), Step::Observe(vec![account(ONE)]));
    let seen = |health| Observation { at: Time(9), health, said: String::new() };
    s.observe(seen(Health::Inconclusive));
    let again = Step::Observe(vec![account(ONE)]);
    assert_eq!(decide(&s, &there, 0, asked), again, "nobody knows");
    s.observe(seen(Health::Healthy));
    assert_eq!(decide(&s, &there, 0, asked), Step::MoveBack(account(ONE)));
    s.returns(&account(ONE), Time(9));
    assert_eq!(at(&s, &home, 9), Step::MoveBack(account(ONE)), "that it shows proves nothing yet");
    s.visit(&account(ONE)).return_accepted_at = Some(Time(10));
    assert_eq!(at(&s, &home, 10), Step::MarkReturned(account(ONE)));
    s.visit(&account(ONE)).returned_at = Some(Time(11));
    assert_eq!(at(&s, &home, 11), Step::MoveThere(account(TWO)));
    let two =
        Visit { intended_at: Some(Time(12)), returned_at: Some(Time(13)), ..Visit::default() };
    s.visits.insert(account(TWO), two);
    assert_eq!(at(&s, &home, 13), Step::Rest(State::Complete));
    s.body.batch = 2;
    assert!(matches!(at(&s, &home, 13), Step::AskHuman(why) if why.contains("hashed")));
}

#[test]
fn what_others_do_is_for_a_person_and_holds_no_other_account_up() {
    let asks = |s: &Staging, p: &Places, want: &str| {
        let step = at(s, p, 9);
        assert!(matches!(&step, Step::AskHuman(why) if why.contains(want)), "{want}: {step:?}");
    };
    let mut s = staging(Wish::Run);
    asks(&s, &places(OU, HOME), "not by us");
    asks(&s, &places(ELSEWHERE, HOME), "somebody moved it");
    asks(&s, &[(account(ONE), None)].into(), "no longer in the organization");
    s.leaves(&account(ONE), Time(0));
    s.arrives(&account(ONE), Time(1));
    asks(&s, &places(HOME, HOME), "somebody moved it back");
    s.wish = Wish::Abort;
    s.leaves(&account(TWO), Time(0));
    assert_eq!(at(&s, &places(ELSEWHERE, OU), 9), Step::MoveBack(account(TWO)));
    s.visit(&account(TWO)).returned_at = Some(Time(9));
    asks(&s, &places(ELSEWHERE, HOME), "abort again");
    assert_eq!(at(&s, &[(account(ONE), None)].into(), 9), Step::MarkGone(account(ONE)));
    // What AWS refuses for one holds no other one up.
    let mut s = staging(Wish::Abort);
    for one in [ONE, TWO] {
        s.leaves(&account(one), Time(0));
        s.arrives(&account(one), Time(1));
    }
    s.visit(&account(TWO)).refused = Some("its home is gone".into());
    assert_eq!(at(&s, &places(OU, OU), 9), Step::MoveBack(account(ONE)));
    s.visit(&account(ONE)).returned_at = Some(Time(9));
    asks(&s, &places(HOME, OU), "its home is gone; abort tries again");
    s.tries_again();
    assert_eq!(at(&s, &places(HOME, OU), 9), Step::MoveBack(account(TWO)));
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Done(Health),
    /// It takes effect, and the process dies before it records that.
    Unrecorded,
    /// It is decided by where accounts were one move ago.
    Stale,
    Pause,
    Resume,
    Abort,
    /// Somebody moves the first account elsewhere, or home from there.
    Meddle,
}

#[derive(Debug, Clone)]
struct World {
    s: Staging,
    places: Places,
    before: Places,
    now: Time,
    blows: u32,
    meddled: bool,
    harmful: bool,
    trail: Vec<String>,
}

impl World {
    fn new() -> World {
        let home = places(HOME, HOME);
        World {
            s: staging(Wish::Run),
            places: home.clone(),
            before: home,
            now: Time(0),
            blows: 0,
            meddled: false,
            harmful: false,
            trail: Vec::new(),
        }
    }

    fn moment(&self) -> Moment {
        Moment { now: self.now, observe_every: Some(Span(2)) }
    }

    fn check(&self, step: &Step) {
        match step {
            Step::MoveThere(a) => {
                assert_eq!(self.s.wish, Wish::Run, "{:#?}", self.trail);
                assert!(!self.harmful, "moved after harm: {:#?}", self.trail);
                let away = self.s.visits.iter().filter(|(b, v)| *b != a && v.is_away()).count();
                assert_eq!(away, 0, "more than a batch is away: {:#?}", self.trail);
            }
            Step::MoveBack(a) => assert!(self.s.visits[a].is_away(), "{:#?}", self.trail),
            _ => {}
        }
    }

    /// MoveAccount, with its parent that is to be left: AWS refuses where that is another one.
    fn moved(&mut self, a: &AccountId, from: &str, to: &str) -> bool {
        let place = self.places[a].clone();
        if place == Some(node(from)) {
            self.before = self.places.clone();
            self.places.insert(a.clone(), Some(node(to)));
        }
        place == Some(node(from)) || place == Some(node(to))
    }

    fn perform(&mut self, step: &Step, health: Health, recorded: bool) {
        let now = self.now;
        match step {
            Step::MoveThere(a) => {
                self.s.leaves(a, now);
                self.moved(a, HOME, OU);
                self.s.visit(a).attempts += 1;
            }
            Step::MoveBack(a) => {
                self.s.returns(a, now);
                self.s.visit(a).attempts += 1;
                if self.moved(a, OU, HOME) && recorded {
                    self.s.visit(a).return_accepted_at = Some(now);
                }
            }
            _ if !recorded => {}
            Step::MarkGone(_) => unreachable!("none leaves"),
            Step::MarkArrived(a) => self.s.arrives(a, now),
            Step::MarkReturned(a) => self.s.visit(a).returned_at = Some(now),
            Step::Observe(_) => {
                self.s.observe(Observation { at: now, health, said: String::new() });
                match health {
                    Health::Healthy => {}
                    Health::Inconclusive => {
                        (self.s.wish, self.s.state) = (Wish::Pause, State::Paused);
                    }
                    Health::Unhealthy => {
                        self.harmful = true;
                        (self.s.wish, self.s.state) = (Wish::Abort, State::Aborting);
                    }
                }
            }
            Step::Rest(state) => self.s.state = *state,
            Step::AskHuman(_) => self.s.state = State::Failed,
        }
    }

    fn runs(&self) -> bool {
        matches!(self.s.state, State::Running | State::Baking | State::Aborting)
    }

    fn happen(&mut self, event: Event) {
        self.now = self.now.plus(Span(1));
        self.trail.push(format!("{event:?}"));
        match event {
            Event::Done(_) | Event::Unrecorded | Event::Stale if !self.runs() => {}
            Event::Done(health) => {
                let step = decide(&self.s, &self.places, 0, self.moment());
                self.trail.push(format!("  {step:?}"));
                self.check(&step);
                self.perform(&step, health, true);
            }
            Event::Unrecorded => {
                self.blows += 1;
                let step = decide(&self.s, &self.places, 0, self.moment());
                self.check(&step);
                self.perform(&step, Health::Healthy, false);
            }
            Event::Stale => {
                self.blows += 1;
                let step = decide(&self.s, &self.before.clone(), 0, self.moment());
                self.check(&step);
                self.perform(&step, Health::Healthy, true);
            }
            Event::Pause if self.s.wish == Wish::Run => {
                (self.s.wish, self.s.state) = (Wish::Pause, State::Paused);
            }
            Event::Resume if self.s.wish != Wish::Abort => {
                self.s.tries_again();
                (self.s.wish, self.s.state) = (Wish::Run, State::Running);
            }
            Event::Abort => {
                self.s.tries_again();
                (self.s.wish, self.s.state) = (Wish::Abort, State::Aborting);
            }
            Event::Meddle => {
                (self.blows, self.meddled) = (self.blows + 1, true);
                let one = account(ONE);
                let to = if self.places[&one] == Some(node(ELSEWHERE)) { HOME } else { ELSEWHERE };
                self.before = self.places.clone();
                self.places.insert(one, Some(node(to)));
            }
            Event::Pause | Event::Resume => {}
        }
    }

    fn print(&self) -> String {
        let mut s = self.s.clone();
        let age = |t: Time| Time(self.now.since(t).0.min(5));
        for v in s.visits.values_mut() {
            v.arrived_at = v.arrived_at.map(age);
            for at in [
                &mut v.intended_at,
                &mut v.return_intended_at,
                &mut v.return_accepted_at,
                &mut v.returned_at,
            ] {
                *at = at.map(|_| Time(0));
            }
        }
        s.healthy = s.healthy.min(2);
        if let Some(last) = &mut s.last {
            last.at = age(last.at);
        }
        hash::of(&(&s, &self.places, &self.before, self.blows, self.meddled, self.harmful))
    }

    /// An abort always ends, with every account at home, unless somebody else took it elsewhere.
    fn can_be_brought_home(&self) {
        let mut world = self.clone();
        world.happen(Event::Abort);
        for _ in 0..40 {
            if !world.runs() {
                break;
            }
            world.happen(Event::Done(Health::Healthy));
        }
        let home = world.places.values().all(|p| *p == Some(node(HOME)));
        assert!(world.meddled || (world.s.state == State::Aborted && home), "{:#?}", world.trail);
        assert!(!world.runs(), "it does not end: {:#?}", world.trail);
        let there = world.places.values().any(|p| *p == Some(node(OU)));
        assert!(!there, "left in the staging OU: {:#?}", world.trail);
    }
}

#[test]
fn whatever_happens_every_account_comes_home() {
    let events = [
        Event::Done(Health::Healthy),
        Event::Done(Health::Unhealthy),
        Event::Done(Health::Inconclusive),
        Event::Unrecorded,
        Event::Stale,
        Event::Pause,
        Event::Resume,
        Event::Abort,
        Event::Meddle,
    ];
    let start = World::new();
    let (mut known, mut left) = (BTreeSet::from([start.print()]), VecDeque::from([start]));
    let mut states = BTreeSet::new();
    while let Some(world) = left.pop_front() {
        world.can_be_brought_home();
        states.insert(world.s.state);
        if world.s.state == State::Complete && !world.meddled {
            let home = world.places.values().all(|p| *p == Some(node(HOME)));
            assert!(home, "complete, and not at home: {:#?}", world.trail);
        }
        for event in events {
            let mut next = world.clone();
            next.happen(event);
            if next.blows <= 2 && known.insert(next.print()) {
                left.push_back(next);
            }
        }
    }
    assert!(known.len() > 1_000, "{} worlds only", known.len());
    for state in [State::Baking, State::Complete, State::Paused, State::Aborted, State::Failed] {
        assert!(states.contains(&state), "{state:?} is never reached: {states:?}");
    }
}
