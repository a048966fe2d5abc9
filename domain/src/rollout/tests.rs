//! The tables of a rollout, row by row.

use super::drift::REATTACHED_MAX;
use super::*;

const OU_A: &str = "ou-ab12-aaaaaaaa";
const OU_B: &str = "ou-ab12-bbbbbbbb";

fn id(text: &str) -> NodeId {
    text.parse().unwrap()
}

fn rollout(wish: Wish) -> Rollout {
    let stage = |name: &str, target: &str| Stage {
        name: name.into(),
        targets: vec![id(target)],
        ..Stage::default()
    };
    let mut rollout = Rollout::new(Body {
        id: "ro-1".into(),
        author: "ann".into(),
        policy_name: "ringfence-rds-encryption-12345678".into(),
        content: "{}".into(),
        stages: vec![stage("a", OU_A), stage("b", OU_B)],
        ..Body::default()
    });
    rollout.wish = wish;
    let full: BTreeSet<String> = ["p-FullAWSAccess".to_owned()].into();
    rollout.baseline = Some([(id(OU_A), full.clone()), (id(OU_B), full)].into());
    rollout.policy_id = Some("p-ours".into());
    rollout
}

/// Of stages that do not bake.
fn at(rollout: &Rollout, attached: &Attached, missing: usize) -> Step {
    decide(rollout, attached, missing, Moment { now: Time(0), observe_every: None })
}

fn attached(a: &[&str], b: &[&str]) -> Attached {
    let set = |list: &[&str]| Some(list.iter().map(|p| (*p).to_owned()).collect());
    [(id(OU_A), set(a)), (id(OU_B), set(b))].into()
}

fn done(intended: bool, attached: bool) -> Attachment {
    Attachment {
        intended_at: intended.then_some(Time(1)),
        attached_at: attached.then_some(Time(2)),
        attempts: u32::from(intended),
        ..Attachment::default()
    }
}

#[test]
fn forward_table() {
    const FULL: &str = "p-FullAWSAccess";
    let none = attached(&[FULL], &[FULL]);
    let first = attached(&[FULL, "p-ours"], &[FULL]);
    let both = attached(&[FULL, "p-ours"], &[FULL, "p-ours"]);
    let mut r = rollout(Wish::Planned);
    assert_eq!(at(&r, &none, 1), Step::Rest(State::Planned));
    r.wish = Wish::Run;
    assert_eq!(at(&r, &none, 1), Step::Rest(State::Blocked));
    assert_eq!(at(&r, &none, 0), Step::Attach(id(OU_A)));
    r.attachments.insert(id(OU_A), done(true, false));
    assert_eq!(at(&r, &first, 0), Step::MarkAttached(id(OU_A)));
    assert_eq!(at(&r, &none, 0), Step::Attach(id(OU_A)), "a lost call is repeated");
    r.attachments.insert(id(OU_A), done(true, true));
    assert_eq!(at(&r, &first, 0), Step::Attach(id(OU_B)));
    assert!(matches!(at(&r, &none, 0), Step::AskHuman(why) if why.contains("somebody detached")));
    r.wish = Wish::Pause;
    assert_eq!(at(&r, &first, 0), Step::Rest(State::Paused));
    r.wish = Wish::Run;
    r.attachments.insert(id(OU_B), done(true, true));
    assert_eq!(at(&r, &both, 0), Step::Rest(State::Complete));
    let gone: Attached = [(id(OU_A), None), (id(OU_B), None)].into();
    assert!(matches!(at(&r, &gone, 0), Step::AskHuman(_)));
    r.policy_id = None;
    assert_eq!(at(&r, &none, 0), Step::CreatePolicy);
    r.baseline = None;
    assert_eq!(at(&r, &none, 0), Step::TakeBaseline, "the set is stored before any write");
    r.body.author = "eve".into();
    assert!(matches!(at(&r, &none, 0), Step::AskHuman(why) if why.contains("hashed")));
}

#[test]
fn a_stage_bakes_for_its_time_and_its_observations() {
    const FULL: &str = "p-FullAWSAccess";
    let first = attached(&[FULL, "p-ours"], &[FULL]);
    let mut r = rollout(Wish::Run);
    (r.body.stages[0].bake, r.body.stages[0].observations) = (Span::hours(1), 2);
    r.hash = hash::of(&r.body);
    r.attachments.insert(id(OU_A), done(true, true));
    let hour = |h: i64| Time(0).plus(Span::hours(h));
    let every = Some(Span::seconds(600));
    let step =
        |r: &Rollout, now: Time, observe_every| decide(r, &first, 0, Moment { now, observe_every });
    assert_eq!(step(&r, hour(0), every), Step::BeginBake(0));
    r.bakes.insert(0, Bake::begun(hour(0)));
    assert_eq!(step(&r, hour(0), every), Step::Observe(0));
    let seen = |h: i64, health| Observation { at: hour(h), health, said: String::new() };
    r.bakes.get_mut(&0).unwrap().observe(seen(0, Health::Healthy));
    assert_eq!(step(&r, hour(0), every), Step::Rest(State::Baking));
    assert_eq!(step(&r, hour(2), every), Step::Observe(0), "its time alone ends it not");
    r.bakes.get_mut(&0).unwrap().observe(seen(2, Health::Inconclusive));
    assert_eq!(step(&r, hour(2), every), Step::Observe(0), "nobody knows: not healthy");
    assert!(
        r.bakes_for(Moment { now: hour(2), observe_every: every })
            .contains("1 healthy observations, 2 needed")
    );
    r.bakes.get_mut(&0).unwrap().observe(seen(3, Health::Healthy));
    assert_eq!(step(&r, hour(3), every), Step::EndBake(0));
    // Healthy often enough, and nobody knows at last.
    let mut last = r.clone();
    last.bakes.get_mut(&0).unwrap().observe(seen(3, Health::Inconclusive));
    assert_eq!(step(&last, hour(3), every), Step::Observe(0));
    let mut quiet = r.clone();
    quiet.body.stages[0].calls = 3;
    quiet.hash = hash::of(&quiet.body);
    let rests = || Step::Rest(State::Baking);
    for (calls, want) in [(0, rests()), (2, rests()), (3, Step::EndBake(0))] {
        quiet.bakes.get_mut(&0).unwrap().calls = calls;
        assert_eq!(step(&quiet, hour(3), every), want, "{calls} calls");
    }
    assert!(
        matches!(step(&r, hour(3), None), Step::AskHuman(why) if why.contains("health_command"))
    );
    let mut early = r.clone();
    early.bakes.insert(0, Bake::begun(hour(3)));
    early.bakes.get_mut(&0).unwrap().promoted = Some((hour(3), "bob: known".into()));
    assert_eq!(step(&early, hour(3), every), Step::EndBake(0));
    r.bakes.get_mut(&0).unwrap().done_at = Some(hour(3));
    assert_eq!(step(&r, hour(3), every), Step::Attach(id(OU_B)));
    // Only its time, where nobody can be asked.
    r.body.stages[0].observations = 0;
    r.hash = hash::of(&r.body);
    r.bakes.insert(0, Bake::begun(hour(3)));
    assert_eq!(step(&r, hour(3), None), Step::Rest(State::Baking));
    assert_eq!(step(&r, hour(4), None), Step::EndBake(0));
    // Somebody takes it off meanwhile.
    let off = attached(&[FULL], &[FULL]);
    let said = decide(&r, &off, 0, Moment { now: hour(3), observe_every: None });
    assert!(matches!(said, Step::AskHuman(why) if why.contains("somebody detached")));
    // One that does harm is taken back with what followed, and no further.
    r.wish = Wish::Retreat { stage: 1 };
    r.attachments.insert(id(OU_B), done(true, true));
    let both = attached(&[FULL, "p-ours"], &[FULL, "p-ours"]);
    assert_eq!(at(&r, &both, 0), Step::Detach(id(OU_B)));
    r.attachments.get_mut(&id(OU_B)).unwrap().detached_at = Some(hour(4));
    assert_eq!(at(&r, &first, 0), Step::Rest(State::Blocked));
    r.forget_from(1);
    r.wish = Wish::Run;
    r.bakes.get_mut(&0).unwrap().done_at = Some(hour(4));
    assert_eq!(at(&r, &first, 0), Step::Attach(id(OU_B)), "a resume attaches it anew");
}

#[test]
fn a_stage_is_seen_in_force_before_it_bakes_and_seen_to_be_gone_after() {
    use crate::probe::Shows;
    const FULL: &str = "p-FullAWSAccess";
    let first = attached(&[FULL, "p-ours"], &[FULL]);
    let mut r = rollout(Wish::Run);
    r.body.stages[0].bake = Span::hours(1);
    r.body.stages[0].probe = Place::parse("111122223333/eu-west-1");
    r.hash = hash::of(&r.body);
    r.attachments.insert(id(OU_A), done(true, true));
    assert_eq!(at(&r, &first, 0), Step::Probe(0));
    r.probes.insert(0, Probed::begun(Time(5)));
    assert_eq!(r.probing().map(|(n, stage, _)| (n, stage.name.as_str())), Some((0, "a")));
    let sees = |r: &mut Rollout, shows, at| {
        r.probes.get_mut(&0).unwrap().sees(shows, shows == Shows::Yes, String::new(), Time(at));
    };
    for (at_time, shows) in
        [(6, Shows::Yes), (7, Shows::No), (8, Shows::Yes), (9, Shows::Unknown), (10, Shows::Yes)]
    {
        sees(&mut r, shows, at_time);
        assert_eq!(r.probes[&0].since(), Time(at_time), "what was asked for before is no news");
        assert_eq!(at(&r, &first, 0), Step::Probe(0), "not so often in a row: {shows:?}");
    }
    sees(&mut r, Shows::Yes, 11);
    assert_eq!(at(&r, &first, 0), Step::BeginBake(0));
    r.wish = Wish::Abort;
    assert_eq!(at(&r, &first, 0), Step::Detach(id(OU_A)));
    let none = attached(&[FULL], &[FULL]);
    let gone = Attachment {
        detach_intended_at: Some(Time(12)),
        detached_at: Some(Time(13)),
        ..done(true, true)
    };
    r.attachments.insert(id(OU_A), gone);
    assert_eq!(at(&r, &none, 0), Step::ProbeLifted(vec![0]));
    // What nobody saw there is not looked for; nor what others had attached, or what denies it again.
    let mut unseen = r.clone();
    unseen.probes.get_mut(&0).unwrap().seen_at = None;
    assert_eq!(at(&unseen, &none, 0), Step::Rest(State::Aborted));
    let mut theirs = r.clone();
    theirs.baseline.as_mut().unwrap().get_mut(&id(OU_A)).unwrap().insert("p-ours".into());
    assert_eq!(at(&theirs, &none, 0), Step::Rest(State::Aborted));
    // Seen only once, before it did harm: it is looked for all the same.
    let mut harmed = r.clone();
    harmed.probes.get_mut(&0).unwrap().passed_at = None;
    harmed.tries_again();
    assert_eq!(at(&harmed, &none, 0), Step::ProbeLifted(vec![0]));
    let p = r.probes.get_mut(&0).unwrap();
    p.goes(Time(14));
    p.looks(Shows::Yes, false, String::new(), Time(15));
    p.looks(Shows::No, false, String::new(), Time(16));
    p.looks(Shows::Yes, false, String::new(), Time(17));
    assert_eq!((p.lifted, p.since()), (None, Time(17)), "not so often in a row");
    let mut late = p.clone();
    late.looks(Shows::No, true, String::new(), Time(18));
    assert_eq!(late.lifted, Some((Time(18), false)));
    p.looks(Shows::Yes, false, String::new(), Time(18));
    assert_eq!(p.lifted, Some((Time(18), true)));
    assert_eq!(at(&r, &none, 0), Step::Rest(State::Aborted));
    // Attached anew, it is seen anew; and a resume begins the time of what was not seen yet anew.
    r.attaches(&id(OU_A), Time(15));
    assert!(r.probes.is_empty());
    r.probes.insert(0, Probed::begun(Time(16)));
    r.tries_again();
    assert_eq!(r.probes[&0].began_at, None);
}

#[test]
fn abort_detaches_in_reverse_only_what_is_ours_and_never_the_last() {
    const FULL: &str = "p-FullAWSAccess";
    let both = attached(&[FULL, "p-ours"], &[FULL, "p-ours"]);
    let mut r = rollout(Wish::Abort);
    assert_eq!(at(&r, &both, 0), Step::Rest(State::Aborted), "not attached by us: left alone");
    r.attachments.insert(id(OU_A), done(true, true));
    r.attachments.insert(id(OU_B), done(true, false));
    assert_eq!(at(&r, &both, 0), Step::Detach(id(OU_B)));
    let first = attached(&[FULL, "p-ours"], &[FULL]);
    assert_eq!(at(&r, &first, 0), Step::Detach(id(OU_B)), "never seen: it may still appear");
    r.attachments.get_mut(&id(OU_B)).unwrap().detach_intended_at = Some(Time(8));
    assert_eq!(at(&r, &first, 0), Step::MarkDetached(id(OU_B)));
    r.attachments.get_mut(&id(OU_B)).unwrap().detached_at = Some(Time(9));
    assert_eq!(at(&r, &first, 0), Step::Detach(id(OU_A)));
    let last = attached(&["p-ours"], &[FULL]);
    assert!(matches!(at(&r, &last, 0), Step::AskHuman(why) if why.contains("last SCP")));
    r.baseline.as_mut().unwrap().get_mut(&id(OU_A)).unwrap().insert("p-ours".into());
    assert_eq!(at(&r, &first, 0), Step::Rest(State::Aborted), "it was there before us");
    let differences = compare(&r, &attached(&[FULL], &[FULL, "p-x"]));
    assert_eq!(differences.len(), 2, "{differences:?}");
}

#[test]
fn a_target_that_it_cannot_be_taken_off_holds_no_other_one_up() {
    const FULL: &str = "p-FullAWSAccess";
    let both = attached(&[FULL, "p-ours"], &[FULL, "p-ours"]);
    let on = |r: &Rollout, attached: &Attached, now: i64| {
        decide(r, attached, 0, Moment { now: Time(now), observe_every: None })
    };
    let mut r = rollout(Wish::Retreat { stage: 0 });
    r.attachments.insert(id(OU_A), done(true, true));
    r.attachments.insert(id(OU_B), done(true, true));
    // The last SCP there.
    let last = attached(&[FULL, "p-ours"], &["p-ours"]);
    assert_eq!(on(&r, &last, 0), Step::Detach(id(OU_A)));
    let left = attached(&[FULL], &["p-ours"]);
    r.attachments.get_mut(&id(OU_A)).unwrap().detaches(Time(0));
    r.attachments.get_mut(&id(OU_A)).unwrap().detached_at = Some(Time(1));
    assert!(matches!(on(&r, &left, 2), Step::AskHuman(why) if why.contains("last SCP")));
    // What AWS refuses is tried again after a while, for ever, and says why meanwhile.
    r.attachments.insert(id(OU_A), done(true, true));
    let b = r.attachments.get_mut(&id(OU_B)).unwrap();
    for n in 0..100 {
        b.detaches(Time(n));
        b.is_refused("expired".into(), Time(n));
    }
    assert_eq!(on(&r, &both, 100), Step::Detach(id(OU_A)), "the others first");
    // Nor does it end because nobody answers.
    let a = r.attachments.get_mut(&id(OU_A)).unwrap();
    for n in 0..100 {
        a.detaches(Time(n));
        a.is_unanswered();
    }
    assert_eq!(on(&r, &both, 100), Step::Detach(id(OU_A)));
    let b_only = attached(&[FULL], &[FULL, "p-ours"]);
    r.attachments.get_mut(&id(OU_A)).unwrap().detaches(Time(100));
    r.attachments.get_mut(&id(OU_A)).unwrap().detached_at = Some(Time(101));
    assert_eq!(on(&r, &b_only, 102), Step::Rest(State::Aborting));
    let said = r.refusals(&b_only);
    assert!(said.len() == 1 && said[0].contains("expired; it is tried again"), "{said:?}");
    // One that nobody can take it off is said beside it.
    r.attachments.get_mut(&id(OU_A)).unwrap().detached_at = None;
    let bare = attached(&["p-ours"], &[FULL, "p-ours"]);
    assert_eq!(on(&r, &bare, 102), Step::Rest(State::Aborting));
    let said = r.refusals(&bare);
    assert!(said.len() == 2 && said[0].contains("the last SCP on"), "{said:?}");
    r.attachments.get_mut(&id(OU_A)).unwrap().detached_at = Some(Time(101));
    assert_eq!(on(&r, &b_only, 99 + RETRY.0), Step::Detach(id(OU_B)));
    // That it does not show is not that it is gone: the call was refused.
    assert_eq!(on(&r, &attached(&[FULL], &[FULL]), 99 + RETRY.0), Step::Detach(id(OU_B)));
}

/// With an earlier version on both targets, all attached and noted.
fn version() -> (Rollout, Attached) {
    const FULL: &str = "p-FullAWSAccess";
    let mut r = rollout(Wish::Run);
    let targets = [OU_A, OU_B].map(|t| (id(t), id(t))).into();
    r.body.replaces = Some(Replaces {
        rollout: "ro-0".into(),
        policy: "p-old".into(),
        targets,
        changes: Vec::new(),
    });
    r.hash = hash::of(&r.body);
    for target in [OU_A, OU_B] {
        r.attachments.insert(id(target), done(true, true));
    }
    (r, attached(&[FULL, "p-ours", "p-old"], &[FULL, "p-ours", "p-old"]))
}

#[test]
fn an_earlier_version_is_detached_last_and_comes_back_first() {
    let (mut r, both) = version();
    assert_eq!(at(&r, &both, 0), Step::Release(id(OU_A)));
    r.releases(&id(OU_A), Time(3));
    let off = |target: &str| {
        let mut now = both.clone();
        now.get_mut(&id(target)).unwrap().as_mut().unwrap().remove("p-old");
        now
    };
    assert_eq!(at(&r, &off(OU_A), 0), Step::MarkReleased(id(OU_A)));
    r.old.get_mut(&id(OU_A)).unwrap().detached_at = Some(Time(4));
    assert_eq!(at(&r, &off(OU_A), 0), Step::Release(id(OU_B)));
    // Somebody else detached it: nothing to do.
    let mut none = off(OU_A);
    none.get_mut(&id(OU_B)).unwrap().as_mut().unwrap().remove("p-old");
    assert_eq!(at(&r, &none, 0), Step::Rest(State::Complete));
    // A target that goes without the new one keeps the old one.
    let mut without = r.clone();
    let skip = Skip { by: "bob".into(), at: Time(5), reason: "CHG-1".into() };
    without.skip(&id(OU_B), skip);
    without.attachments.remove(&id(OU_B));
    let mut there = off(OU_A);
    there.get_mut(&id(OU_B)).unwrap().as_mut().unwrap().remove("p-ours");
    assert_eq!(at(&without, &there, 0), Step::Rest(State::Complete));
    // The way back: only where it was detached, and before anything of ours is.
    r.wish = Wish::Abort;
    assert_eq!(at(&r, &off(OU_A), 0), Step::Restore(id(OU_A)));
    assert_eq!(at(&r, &both, 0), Step::Restore(id(OU_A)), "that it shows proves nothing yet");
    r.restored(&id(OU_A), Time(6));
    assert_eq!(at(&r, &both, 0), Step::MarkRestored(id(OU_A)));
    r.old.get_mut(&id(OU_A)).unwrap().attached_at = Some(Time(7));
    assert_eq!(at(&r, &both, 0), Step::Detach(id(OU_B)));
    // Its undoing can be called off until something of it was detached.
    let mut stays = r.clone();
    assert!(!stays.can_stay());
    stays.state = State::Failed;
    assert!(stays.can_stay());
    stays.stays();
    stays.wish = Wish::Run;
    assert_eq!(at(&stays, &both, 0), Step::Release(id(OU_A)));
    stays.wish = Wish::Abort;
    stays.attachments.get_mut(&id(OU_B)).unwrap().detach_intended_at = Some(Time(8));
    assert!(!stays.can_stay());
    // What cannot be attached again does not keep harm where it is.
    r.old.get_mut(&id(OU_A)).unwrap().attached_at = None;
    r.old.get_mut(&id(OU_A)).unwrap().attempts = 2 * ATTEMPTS_MAX;
    assert_eq!(at(&r, &off(OU_A), 0), Step::GiveUp(id(OU_A)));
    r.gives_up(&id(OU_A), Time(8));
    assert_eq!(at(&r, &off(OU_A), 0), Step::Detach(id(OU_B)));
    assert_eq!(r.unrestored(), [&id(OU_A)]);
    r.tries_again();
    assert_eq!(at(&r, &off(OU_A), 0), Step::Restore(id(OU_A)));
}

#[test]
fn a_version_replaces_all_that_its_targets_bind_or_nothing() {
    use crate::org::{AccountState, Node, NodeKind};
    let account = NodeKind::Account { state: AccountState::Active, management: false };
    let node = |text: &str, parent: Option<&str>, kind: NodeKind| Node {
        id: id(text),
        parent: parent.map(id),
        name: text.into(),
        kind,
    };
    let tree = OrgTree::new(
        Time(0),
        vec![
            node("r-ab12", None, NodeKind::Root),
            node(OU_A, Some("r-ab12"), NodeKind::Ou),
            node(OU_B, Some("r-ab12"), NodeKind::Ou),
            node("111122223333", Some(OU_A), account),
        ],
    )
    .unwrap();
    let mut old = rollout(Wish::Run);
    let stage = |target: &str| Stage { targets: vec![id(target)], ..Stage::default() };
    old.body.stages = vec![stage("111122223333"), stage(OU_B)];
    for target in ["111122223333", OU_B] {
        old.attachments.insert(id(target), done(true, true));
    }
    let on: BTreeSet<NodeId> = [id("111122223333"), id(OU_B)].into();
    let asked = |old: &Rollout, new: &[&str]| {
        let stages: Vec<Stage> = new.iter().map(|t| stage(t)).collect();
        let left = super::replaced_by(&stages, &tree);
        replaces(old, &stages, (&tree, &left), &on)
    };
    assert!(asked(&old, &[OU_A]).unwrap_err().contains("is planned"));
    old.state = State::Complete;
    let left = asked(&old, &[OU_A]).unwrap_err();
    assert!(left.contains(&format!("ro-1 is attached to {OU_B}, which no target")), "{left}");
    let found = asked(&old, &[OU_A, OU_B]).unwrap();
    let both: BTreeMap<NodeId, NodeId> =
        [(id("111122223333"), id(OU_A)), (id(OU_B), id(OU_B))].into();
    assert_eq!((found.policy.as_str(), &found.targets), ("p-ours", &both));
    // A canary is left to its OU, which is what binds it then.
    assert_eq!(asked(&old, &["111122223333", OU_A, OU_B]).unwrap().targets, both);
    assert_eq!(asked(&old, &["r-ab12"]).unwrap().targets.len(), 2);
    // What it was attached to since is nobody's.
    let part = Replaces { targets: [(id(OU_B), id(OU_B))].into(), ..found };
    old.baseline = Some(BTreeMap::new());
    assert_eq!(old.beyond(&part), Some(&id("111122223333")));
}

#[test]
fn what_others_detach_stops_it_comes_back_or_stays_off() {
    let lost = || {
        let (mut r, _) = version();
        r.state = State::Complete;
        r.note_lost(|t| *t != id(OU_A), Time(9));
        assert_eq!(r.lost(), [id(OU_A)]);
        r
    };
    let why = || vec!["off".to_owned()];
    let mut r = lost();
    r.drifted(OnDrift::Pause, false, why(), Time(9));
    assert!(r.state == State::Failed && r.why[1].contains("skip lets"), "{:?}", r.why);
    let mut r = lost();
    for n in 1..=REATTACHED_MAX {
        r.drifted(OnDrift::Reattach, false, why(), Time(9));
        assert_eq!(r.state, State::Running, "{n}");
        assert!(r.attachments[&id(OU_A)].attached_at.is_none(), "it goes through its gate again");
        r.attachments.get_mut(&id(OU_A)).unwrap().attached_at = Some(Time(10));
        r.state = State::Complete;
        r.note_lost(|t| *t != id(OU_A), Time(11));
    }
    r.drifted(OnDrift::Reattach, false, why(), Time(12));
    assert!(r.state == State::Failed && r.why[1].contains("keeps detaching it"), "{:?}", r.why);
    // More than one at a time, or all, is an order: emergency-detach.
    for what in [OnDrift::Reattach, OnDrift::Adopt] {
        let mut r = lost();
        r.note_lost(|_| false, Time(9));
        r.drifted(what, false, why(), Time(9));
        assert_eq!(r.state, State::Failed);
        // What was taken off while it bakes was taken off for a reason.
        let mut r = lost();
        r.state = State::Baking;
        r.drifted(what, false, why(), Time(9));
        assert_eq!(r.state, State::Failed);
    }
    let mut r = lost();
    r.drifted(OnDrift::Adopt, false, why(), Time(9));
    assert_eq!((r.state, r.lost().len()), (State::Complete, 0));
    assert!(r.is_skipped(&id(OU_A)));
    for what in [OnDrift::Reattach, OnDrift::Adopt] {
        let mut r = lost();
        r.drifted(what, true, why(), Time(9));
        assert_eq!(r.state, State::Failed, "an edited policy wants a person");
        let mut r = lost();
        r.wish = Wish::Abort;
        r.drifted(what, false, why(), Time(9));
        assert_eq!(r.state, State::Failed, "on the way back nothing is attached");
    }
}

#[test]
fn a_target_that_goes_without_holds_nothing_up() {
    const FULL: &str = "p-FullAWSAccess";
    let none = attached(&[FULL], &[FULL]);
    let mut r = rollout(Wish::Run);
    r.body.stages[0].bake = Span::hours(1);
    r.hash = hash::of(&r.body);
    let skip = || Skip { by: "bob".into(), at: Time(5), reason: "CHG-1".into() };
    r.skip(&id(OU_A), skip());
    assert_eq!(at(&r, &none, 0), Step::Attach(id(OU_B)), "a stage of nothing does not bake");
    let gone: Attached = [(id(OU_A), None), (id(OU_B), Some(BTreeSet::new()))].into();
    assert_eq!(at(&r, &gone, 0), Step::Attach(id(OU_B)), "gone, and skipped");
    // It was asked for before, and shows after all.
    r.attachments.insert(id(OU_A), done(true, false));
    let late = attached(&[FULL, "p-ours"], &[FULL]);
    assert_eq!(at(&r, &late, 0), Step::MarkAttached(id(OU_A)));
    assert!(r.drift(&BTreeSet::from([id(OU_B)]), false).is_empty());
}
