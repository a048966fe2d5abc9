//! Accounts that are targets before their OU: attached first, and left to the OU once that is attached and has baked.

use crate::bake::Org;
use crate::stage::{MINUTE, text};
use crate::sweep::crash_points;
use ringfence_tests::until;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Two accounts in an OU of their own, and a third one elsewhere.
pub(crate) struct World {
    pub(crate) org: Org,
    pub(crate) ou: String,
    before: BTreeMap<String, BTreeSet<String>>,
}

impl World {
    pub(crate) fn new(settings: &[(&str, &str)]) -> World {
        let org = Org::of(4, settings);
        let nodes = org.cli("ann").json("org tree", 0)["nodes"].as_array().cloned().expect("nodes");
        let root = nodes.iter().find(|n| n["kind"] == "root").expect("a root");
        let made = org.call(
            "CreateOrganizationalUnit",
            json!({"ParentId": text(root, "id"), "Name": "with-canaries"}),
        );
        let ou = text(&made["OrganizationalUnit"], "Id").to_owned();
        for account in &org.accounts[..2] {
            let node = nodes.iter().find(|n| n["id"] == **account).expect("the account");
            org.call(
                "MoveAccount",
                json!({"AccountId": account,
                "SourceParentId": text(node, "parent"), "DestinationParentId": ou}),
            );
        }
        org.cli("ann").expect("org sync", 0);
        let mut world = World { org, ou, before: BTreeMap::new() };
        world.before = world.attached();
        world
    }

    fn attached(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut targets = self.org.accounts.clone();
        targets.push(self.ou.clone());
        self.org.attached_to(&targets)
    }

    /// Which of canary, its neighbour, the third account and the OU have one policy more than before.
    fn fenced(&self) -> Vec<bool> {
        let now = self.attached();
        let more = |id: &String| now[id] != self.before[id];
        self.org.accounts.iter().chain([&self.ou]).map(more).collect()
    }

    /// Canary, OU, and the third account.
    fn toml(&self, bake: &str) -> String {
        let stage = |name: &str, target: &str| {
            format!("[[stage]]\nname = \"{name}\"\ntargets = [\"{target}\"]\nbake = \"{bake}\"\n")
        };
        let (canary, other) = (&self.org.accounts[0], &self.org.accounts[2]);
        let stages =
            stage("canary", canary) + &stage("workloads", &self.ou) + &stage("rest", other);
        format!("policy = \"rds-encryption\"\n{stages}")
    }
}

fn states(rollout: &Value) -> Vec<&str> {
    rollout["targets"].as_array().expect("targets").iter().map(|t| text(t, "state")).collect()
}

#[test]
fn a_canary_is_left_to_its_ou_when_all_has_baked() {
    let world = World::new(&[("ROLLOUT__GUARD_EVERY", "1s")]);
    let org = &world.org;
    let plan = org
        .cli("ann")
        .json(&format!("rollout plan --dry-run -f {}", org.file(&world.toml("1s"))), 0);
    assert_eq!(text(&plan["targets"][0], "replaced_by"), world.ou, "{plan}");
    let id = org.begun(&world.toml("1s"));
    let complete = org.reaches(&id, "complete");
    assert_eq!(states(&complete), ["replaced", "attached", "attached"]);
    assert_eq!(world.fenced(), [false, false, true, true], "the OU binds it now");
    assert_eq!(org.makes(&org.accounts[0], "plain", false), "AccessDenied");
    for target in complete["targets"].as_array().expect("targets") {
        assert_eq!(text(target, "evidence").len(), 64, "{target}");
    }
    // The guard does not miss it.
    let looks = || org.sim.counts().get("organizations:ListTargetsForPolicy").map_or(0, |c| c.0);
    let first = looks();
    until("the guard has looked twice", MINUTE, || {
        if looks() >= first + 2 { Ok(()) } else { Err(looks().to_string()) }
    });
    assert_eq!(text(&org.cli("ann").json(&format!("rollout status {id}"), 0), "state"), "complete");
    // Somebody takes the OU off: a resume begins with the canary again.
    let policy = text(&complete, "policy_id");
    org.call("DetachPolicy", json!({"PolicyId": policy, "TargetId": world.ou}));
    org.reaches(&id, "failed");
    org.cli("ann").expect(&format!("rollout resume {id} --reason again"), 0);
    let again = org.reaches(&id, "complete");
    assert_eq!(states(&again), ["replaced", "attached", "attached"]);
    assert_ne!(again["targets"][0]["attached_at"], complete["targets"][0]["attached_at"]);
    org.cli("ann").expect(&format!("rollout abort {id} --wait --timeout 60s"), 0);
    assert_eq!(world.attached(), world.before);
}

#[test]
fn an_account_that_comes_while_its_ou_bakes_shuts_the_gate() {
    let world = World::new(&[("ROLLOUT__ORG_MAX_AGE", "1h")]);
    let org = &world.org;
    let id = org.begun(&world.toml("8s"));
    until("the OU bakes", MINUTE, || {
        let said = org.cli("ann").json(&format!("rollout status {id}"), 0);
        let began = text(&said["bakes"][1], "began_at");
        if began.is_empty() { Err(said.to_string()) } else { Ok(()) }
    });
    let nodes = org.cli("ann").json("org tree", 0)["nodes"].as_array().cloned().expect("nodes");
    let root = nodes.iter().find(|n| n["kind"] == "root").expect("a root");
    org.call("CreateAccount", json!({"Email": "new@example.com", "AccountName": "new"}));
    let known: BTreeSet<&str> = nodes.iter().map(|n| text(n, "id")).collect();
    let new = until("the account is there", MINUTE, || {
        org.cli("ann").expect("org sync", 0);
        let nodes = org.cli("ann").json("org tree", 0)["nodes"].as_array().cloned().expect("nodes");
        let found = nodes.iter().find(|n| n["kind"] == "account" && !known.contains(text(n, "id")));
        found.map(|n| text(n, "id").to_owned()).ok_or_else(|| "not yet".to_owned())
    });
    org.call(
        "MoveAccount",
        json!({"AccountId": new,
        "SourceParentId": text(root, "id"), "DestinationParentId": world.ou}),
    );
    let blocked = org.reaches(&id, "blocked");
    let why = blocked["why"].to_string();
    assert!(why.contains("stage workloads has baked") && why.contains(&new), "{why}");
    assert_eq!(world.fenced(), [true, false, false, true], "nothing more was attached");
    org.cli("ann").expect(&format!("scan start --account {new} --wait --timeout 60s"), 0);
    org.cli("ann").expect(&format!("rollout resume {id} --reason scanned"), 0);
    org.reaches(&id, "complete");
}

/// To its end, and then taken back; killed where a call to Organizations of this kind is held. Which that was.
fn crashed(skip: usize, effect: &str, write: bool) -> Option<String> {
    let mut world = World::new(&[]);
    let to_organizations = json!({"service": "organizations", "write": true});
    let id = world.org.planned(&world.toml("1s"));
    let held = json!({"service": "organizations", "write": write});
    world.org.sim.fault(json!({"match": held, "skip": skip, "effect": effect}));
    let busy = json!({"error": {"status": 400, "code": "ConcurrentModificationException"}});
    world
        .org
        .sim
        .fault(json!({"match": to_organizations, "times": 0, "chance": 0.5, "effect": busy}));
    world.org.cli("ann").expect(&format!("rollout start {id}"), 0);
    let (mut killed, mut ordered) = (None, false);
    until("it is taken back", 2 * MINUTE, || {
        let org = &mut world.org;
        killed = org.killed_if_held().or(killed.take());
        let ran = org.cli("ann").run(&format!("rollout status {id} -o json"));
        let state =
            if ran.code == 0 { text(&ran.json(), "state").to_owned() } else { String::new() };
        match (state.as_str(), ordered) {
            ("complete", false) => {
                // As without a crash: what was there before, and the policy where it is to be.
                let policy = text(&ran.json(), "policy_id").to_owned();
                let mut want = world.before.clone();
                for target in [&world.org.accounts[2], &world.ou] {
                    want.get_mut(target).expect("a target").insert(policy.clone());
                }
                assert_eq!(world.attached(), want, "{killed:?}");
                drop(world.org.cli("ann").run(&format!("rollout abort {id}")));
                ordered = true;
            }
            ("aborted", true) => return Ok(()),
            ("failed", _) => panic!("{killed:?}: {ran:?}"),
            _ => {}
        }
        Err(format!("killed at {killed:?}: {ran:?}"))
    });
    assert_eq!(world.attached(), world.before, "{killed:?}");
    let (made, refused) = world.org.sim.counts()["organizations:CreatePolicy"];
    assert_eq!(made - refused, 1, "{killed:?}: one policy");
    killed
}

#[test]
fn a_crash_at_any_write_leaves_the_canary_to_its_ou() {
    let points =
        crash_points("a rollout with a canary", 3, |(nth, effect)| crashed(nth, effect, true));
    assert!(points >= 4, "{points}");
}

#[test]
fn a_crash_at_any_read_ends_in_the_same_organization() {
    let points = crash_points("the reads of a rollout with a canary", 53, |(nth, effect)| {
        crashed(nth, effect, false)
    });
    assert!(points >= 2, "{points}");
}
