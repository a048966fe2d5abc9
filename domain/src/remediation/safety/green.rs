//! Blue/green deployments: what AWS does, what no step may do, and every state that one can be brought into.

use super::{Event, ORDERS, World, sweep};
use crate::finding::{Kind, Resource};
use crate::rds::{BlueGreen, Encryption, Pairing, name_in};
use crate::remediation::unit::find;
use crate::remediation::{Act, Goal, Green, Quiesce, State, Swap, sample};

impl World {
    /// A tree whose green environment AWS encrypts, or does not.
    fn green_tree(encrypts: bool) -> World {
        let mut world = World::tree();
        world.rem.swap = Some(Swap {
            isolation: "sg-nobody".into(),
            green: Some(Green::default()),
            ..Swap::default()
        });
        (world.encrypts, world.blows) = (encrypts, 2);
        world
    }

    fn green_cluster() -> World {
        let mut world = World::cluster();
        world.blows = 2;
        if let Some(swap) = &mut world.rem.swap {
            (swap.quiesce, swap.green) = (Quiesce::Observe, Some(Green::default()));
        }
        world
    }

    /// The ARNs of the unit's originals, as they are now.
    fn blues(&self) -> Vec<(Kind, String, String)> {
        let one = |kind: Kind, id: &str| {
            let db = find(&self.seen, kind, id)?;
            let kind_name = if kind == Kind::Cluster { "cluster" } else { "db" };
            Some((
                kind,
                db.id.to_owned(),
                format!("arn:aws:rds:eu-west-1:111122223333:{kind_name}:{}", db.id),
            ))
        };
        self.rem.parts().iter().filter_map(|p| one(p.kind, p.resource_id)).collect()
    }

    pub(super) fn perform_green(&mut self, act: &Act) {
        match act {
            Act::CreateBlueGreen { name } => self.make_green(name),
            Act::SwitchOver { .. } => self.switch_over(),
            Act::DeleteBlueGreen { green, .. } => {
                for made in std::mem::take(&mut self.seen.blue_greens) {
                    for target in
                        made.members.iter().filter_map(|m| m.target.as_deref()).filter(|_| *green)
                    {
                        self.seen.instances.retain(|i| i.arn != target);
                        self.seen.clusters.retain(|c| c.arn != target);
                    }
                }
            }
            other => unreachable!("{other:?}"),
        }
    }

    fn make_green(&mut self, name: &str) {
        self.made += 1;
        let (n, encrypts) = (self.made, self.encrypts);
        let blues = self.blues();
        let source = self.rem.source.arn().to_owned();
        let under = match encrypts {
            true => (Encryption::SseKms, Some(self.rem.key_arn.clone())),
            false => (Encryption::None, None),
        };
        let green = |name: &str| format!("{name}-green-{n}");
        let mut members = Vec::new();
        for (kind, id, arn) in &blues {
            members.push(Pairing {
                source: arn.clone(),
                target: Some(green(arn)),
                status: "AVAILABLE".into(),
            });
            if *kind == Kind::Cluster {
                let mut made = self.seen.cluster(id).expect("it is there").clone();
                (made.id, made.arn, made.resource_id) =
                    (green(id), green(arn), format!("cluster-GREEN{n}"));
                (made.encryption, made.kms_key) = under.clone();
                made.members.iter_mut().for_each(|m| m.id = green(&m.id));
                self.seen.clusters.push(made);
            } else {
                let mut made = self.seen.instance(id).expect("it is there").clone();
                (made.id, made.arn, made.resource_id) =
                    (green(id), green(arn), format!("db-GREEN-{id}-{n}"));
                (made.encryption, made.kms_key) = under.clone();
                // As AWS may show it: the green one is fed by the blue one.
                let fed = made.cluster.is_none().then(|| id.clone());
                made.replica_source = made.replica_source.as_deref().map(green).or(fed);
                made.replicas.iter_mut().for_each(|r| *r = green(r));
                made.cluster = made.cluster.as_deref().map(green);
                self.seen.instances.push(made);
            }
        }
        let made_by = Some(self.rem.id.clone());
        let (id, name) = (format!("bgd-{n}"), name.to_owned());
        let status = "AVAILABLE".into();
        self.seen.blue_greens.push(BlueGreen {
            id,
            name,
            source,
            status,
            details: None,
            members,
            made_by,
        });
    }

    /// The names change hands, all at once.
    pub(super) fn switch_over(&mut self) {
        let Some(mut made) = self.seen.blue_greens.pop() else { return };
        if made.status == "SWITCHOVER_COMPLETED" || self.blues().len() != made.members.len() {
            self.seen.blue_greens.push(made);
            return;
        }
        let old: Vec<(String, String)> = made
            .members
            .iter()
            .filter_map(|m| {
                Some((name_in(&m.source).to_owned(), name_in(m.target.as_deref()?).to_owned()))
            })
            .collect();
        let new = |name: &str| {
            let held =
                old.iter().find(|(blue, _)| blue == name).map(|(blue, _)| format!("{blue}-old1"));
            let taken = old.iter().find(|(_, green)| green == name).map(|(blue, _)| blue.clone());
            held.or(taken).unwrap_or_else(|| name.to_owned())
        };
        let arn = |arn: &str| {
            format!("{}{}", arn.strip_suffix(name_in(arn)).unwrap_or(arn), new(name_in(arn)))
        };
        for i in &mut self.seen.instances {
            (i.id, i.arn) = (new(&i.id), arn(&i.arn));
            i.replica_source =
                i.replica_source.as_deref().map(new).filter(|s| *s != format!("{}-old1", i.id));
            i.replicas.iter_mut().for_each(|r| *r = new(r));
            i.cluster = i.cluster.as_deref().map(new);
        }
        for c in &mut self.seen.clusters {
            (c.id, c.arn) = (new(&c.id), arn(&c.arn));
            c.members.iter_mut().for_each(|m| m.id = new(&m.id));
        }
        for m in &mut made.members {
            m.source = arn(&m.source);
            m.target = m.target.as_deref().map(arn);
        }
        made.status = "SWITCHOVER_COMPLETED".into();
        self.seen.blue_greens.push(made);
    }

    /// Whether AWS refuses it.
    pub(super) fn refuses_green(&self, act: &Act) -> bool {
        let status = self.seen.blue_greens.first().map(|b| b.status.as_str());
        match act {
            Act::CreateBlueGreen { .. } => {
                status.is_some() || self.blues().len() != self.rem.parts().len()
            }
            Act::SwitchOver { .. } => !matches!(status, Some("AVAILABLE" | "SWITCHOVER_FAILED")),
            Act::DeleteBlueGreen { green, .. } => {
                status.is_none() || (*green && status == Some("SWITCHOVER_COMPLETED"))
            }
            _ => false,
        }
    }

    /// The rules for deployments.
    pub(super) fn check_green(&self, act: &Act) {
        let rem = &self.rem;
        let swap = rem.swap.clone().unwrap_or_default();
        let switched = self.seen.blue_greens.iter().any(|b| b.status == "SWITCHOVER_COMPLETED");
        match act {
            Act::SwitchOver { .. } => {
                assert_eq!(rem.goal, Goal::CutOver, "a switchover nobody ordered");
                assert!(rem.verified_at.is_some(), "a switchover before verification");
                let made = self.seen.blue_greens.iter().flat_map(|b| &b.members);
                for target in made.filter_map(|m| m.target.as_deref()).filter(|_| !switched) {
                    let plain = self
                        .seen
                        .instances
                        .iter()
                        .any(|i| i.arn == target && i.encryption != Encryption::SseKms);
                    assert!(!plain, "a switchover to what is not encrypted");
                }
            }
            Act::DeleteBlueGreen { green: true, .. } if !switched => {
                assert!(
                    rem.goal == Goal::Discard || rem.giving_up.is_some(),
                    "deleted without an order"
                );
                let top = &rem.parts()[0];
                let there = find(&self.seen, top.kind, top.resource_id);
                assert!(
                    there.is_some_and(|db| db.id == top.id),
                    "the last copy deleted: {:#?}",
                    self.trail
                );
            }
            Act::DeleteBlueGreen { green: false, .. } => {
                assert!(swap.done_at.is_some(), "the deployment deleted before its end");
                // AWS lets its clients write to it again then.
                let top = &rem.parts()[0];
                let open = find(&self.seen, top.kind, top.resource_id).is_some_and(|db| {
                    *db.groups != swap.only() && !crate::remediation::broken(db.status)
                });
                assert!(!open, "the original is open: {:#?}", self.trail);
            }
            _ => {}
        }
    }
}

/// Everything but that which only a swap by names has.
const FATES: [Event; 10] = [
    Event::Switch,
    Event::Fail,
    Event::Lose("orders"),
    Event::Lose("orders-green-1"),
    Event::Lose("m2"),
    Event::Lose("m2-green-1"),
    Event::Break("orders"),
    Event::Rest,
    Event::Retry,
    Event::Cancel,
];

#[test]
fn a_green_environment_takes_the_place_on_an_order_and_production_is_never_deleted() {
    for (world, least) in [(World::green_tree(true), 10_000), (World::green_cluster(), 4_000)] {
        let (worlds, states) = sweep(world, &[&ORDERS[..], &FATES].concat(), 400_000);
        assert!((least..400_000).contains(&worlds), "{worlds} worlds, {states:?}");
        for state in [
            State::Verified,
            State::CutOver,
            State::RolledBack,
            State::Discarded,
            State::Decommissioned,
            State::Cancelled,
            State::Stopped,
        ] {
            assert!(states.contains_key(&state), "{state:?} is never reached: {states:?}");
        }
    }
}

#[test]
fn one_that_is_not_encrypted_is_taken_down_and_never_switched_over() {
    let (worlds, states) =
        sweep(World::green_tree(false), &[&ORDERS[..], &FATES].concat(), 400_000);
    assert!((50..400_000).contains(&worlds), "{worlds} worlds, {states:?}");
    assert!(
        !states.contains_key(&State::Verified) && !states.contains_key(&State::CutOver),
        "{states:?}"
    );
}

#[test]
fn decide_table() {
    let mut world = World::green_tree(true);
    let said = |w: &World| {
        sample::show(&crate::remediation::decide(&w.rem, &w.seen, w.now, super::BOUNDS))
    };
    assert_eq!(said(&world), "act create blue/green deployment ringfence-rem-1");
    let mut busy = world.clone();
    busy.seen.instances[0].status = "backing-up".into();
    assert_eq!(said(&busy), "wait orders is backing-up");
    world.make_green("ringfence-rem-1");
    for (status, want) in [
        ("PROVISIONING", "wait the blue/green deployment bgd-1 is being provisioned"),
        (
            "INVALID_CONFIGURATION",
            "ask the blue/green deployment bgd-1 is INVALID_CONFIGURATION (no space)",
        ),
        (
            "SWITCHOVER_COMPLETED",
            "ask the blue/green deployment bgd-1 is SWITCHOVER_COMPLETED (no space), and nobody ordered",
        ),
        ("DELETING", "wait the blue/green deployment bgd-1 is being deleted"),
    ] {
        let mut world = world.clone();
        let made = &mut world.seen.blue_greens[0];
        (made.status, made.details) = (status.into(), Some("no space".into()));
        assert!(said(&world).starts_with(want), "{}", said(&world));
    }
    let mut foreign = world.clone();
    foreign.seen.blue_greens[0].made_by = None;
    assert!(said(&foreign).contains("exists and was not made by rem-1"), "{}", said(&foreign));
    assert_eq!(said(&world), "mark greens orders-green-1, orders-read-green-1");
    world.step(Event::Done);
    let mut differs = world.clone();
    differs.seen.instances[2].settings.port = Some(1);
    assert!(said(&differs).contains("the twin orders-green-1 differs: port"), "{}", said(&differs));
    let mut lacks = world.clone();
    lacks.seen.instances[3].settings.monitoring_interval = 7;
    assert_eq!(said(&lacks), "act set monitoring_interval of orders-read-green-1");
    let mut plain = world.clone();
    plain.seen.instances[3].encryption = Encryption::None;
    assert!(
        said(&plain).starts_with("mark giving up: the green database orders-read-green-1"),
        "{}",
        said(&plain)
    );
    let mut half = world.clone();
    half.seen.blue_greens[0].members[1].target = None;
    assert!(said(&half).contains("without a counterpart of orders-read yet"), "{}", said(&half));
    assert_eq!(said(&world), "mark verified");
    let resource = Resource::clone(&world.rem.source);
    assert_eq!(world.rem.parts().len(), resource.instances().count());
}

#[test]
fn switchover_table() {
    let said = |w: &World| {
        sample::show(&crate::remediation::decide(&w.rem, &w.seen, w.now, super::BOUNDS))
    };
    let mut world = World::green_tree(true);
    world.step(Event::Done); // asks for it
    world.step(Event::Done); // marks the greens
    world.step(Event::Done); // verified
    world.step(Event::Done); // finished
    assert_eq!(world.rem.state, State::Verified, "{:?}", world.trail);
    assert_eq!(world.rem.clone().cut_over(world.now), None);
    world.rem.cut_over(world.now);
    assert_eq!(said(&world), "act switch bgd-1 over");
    type Change = fn(&mut World);
    let cases: [(Change, &str); 8] = [
        (|w| w.seen.blue_greens.clear(), "ask its blue/green deployment ringfence-rem-1 is gone"),
        (
            |w| w.seen.blue_greens[0].made_by = None,
            "ask the blue/green deployment ringfence-rem-1 exists and was not made",
        ),
        (
            |w| w.seen.blue_greens[0].status = "SWITCHOVER_IN_PROGRESS".into(),
            "wait bgd-1 is switching over",
        ),
        (
            |w| w.seen.blue_greens[0].status = "INVALID_CONFIGURATION".into(),
            "ask the blue/green deployment is INVALID_CONFIGURATION",
        ),
        (
            |w| w.seen.instances[0].settings.backup_retention_period = 3,
            "ask orders changed since it was planned: backup_retention_period",
        ),
        (
            |w| w.seen.instances[2].settings.monitoring_interval = 7,
            "ask its twin changed since it was verified (set monitoring_interval of orders-green-1)",
        ),
        (
            |w| w.seen.instances[3].encryption = Encryption::None,
            "ask the green database orders-read-green-1",
        ),
        (
            |w| w.seen.instances[2].resource_id = "db-OTHER".into(),
            "ask its green environment is no longer the one that was verified",
        ),
    ];
    for (change, want) in cases {
        let mut world = world.clone();
        change(&mut world);
        assert!(said(&world).starts_with(want), "want {want}, have {}", said(&world));
    }
    // AWS gave it up, before this order and because of it.
    let mut failed = world.clone();
    failed.happen(Event::Fail);
    assert_eq!(said(&failed), "act switch bgd-1 over");
    failed.step(Event::NotDone);
    assert!(said(&failed).starts_with("wait asked AWS to switch bgd-1 over"), "{}", said(&failed));
    failed.now = failed.now.plus(super::BOUNDS.expect_for);
    assert!(said(&failed).starts_with("ask AWS did not switch over"), "{}", said(&failed));
    // The way back, before and after.
    let mut back = world.clone();
    assert_eq!(back.rem.roll_back(back.now), None);
    assert!(said(&back).starts_with("wait looked at once more"), "{}", said(&back));
    back.now = back.now.plus(super::BOUNDS.expect_for);
    assert_eq!(said(&back), "finish");
    back.switch_over();
    assert!(
        said(&back).starts_with("mark no way back: AWS completed the switchover first"),
        "{}",
        said(&back)
    );

    world.step(Event::Done);
    assert_eq!(said(&world), "mark switched over, held orders-old1, orders-read-old1");
    world.step(Event::Done);
    let mut differs = world.clone();
    let green = differs.seen.instances.iter_mut().find(|i| i.id == "orders").expect("it is there");
    green.settings.port = Some(1);
    assert!(said(&differs).starts_with("ask it differs: orders: port"), "{}", said(&differs));
    assert_eq!(said(&world), "mark cut over");
    world.step(Event::Done);
    assert_eq!(said(&world), "act put orders-old1 into sg-nobody");
    let mut steps = Vec::new();
    while !said(&world).starts_with("act delete") && steps.len() < 8 {
        steps.push(said(&world));
        world.step(Event::Done);
    }
    assert_eq!(said(&world), "act delete bgd-1, which is done; its databases stay", "{steps:?}");
    assert!(steps.contains(&"act put orders-read-old1 into sg-nobody".to_owned()), "{steps:?}");
    let refused = world.rem.roll_back(world.now).expect("no way back");
    assert!(refused.contains("nothing replicates back: orders-old1 lacks"), "{refused}");
}
