//! Accounts that come to what a complete rollout is attached to, or go from it; and stages proposed by risk.

use crate::bake::write_command;
use crate::canary::World;
use crate::stage::{MINUTE, text};
use ringfence_domain::rollout;
use ringfence_tests::until;
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn nodes(world: &World) -> Vec<Value> {
    world.org.cli("ann").json("org tree", 0)["nodes"].as_array().cloned().expect("nodes")
}

fn root(world: &World) -> String {
    let all = nodes(world);
    text(all.iter().find(|n| n["kind"] == "root").expect("a root"), "id").to_owned()
}

fn moved(world: &World, account: &str, from: &str, to: &str) {
    // As a person: CloudTrail remembers who.
    let params = json!({"AccountId": account, "SourceParentId": from, "DestinationParentId": to});
    let done = world.org.somebody("-", "organizations", "MoveAccount", &params);
    assert_eq!(text(&done, "code"), "", "{done}");
}

/// An account that somebody makes, as it is in the root.
fn new_account(world: &World) -> String {
    let org = &world.org;
    let before: BTreeSet<String> = nodes(world).iter().map(|n| text(n, "id").to_owned()).collect();
    org.call("CreateAccount", json!({"Email": "new@example.com", "AccountName": "new"}));
    until("the account is there", MINUTE, || {
        org.cli("ann").expect("org sync", 0);
        let all = nodes(world);
        let found = all.iter().map(|n| text(n, "id")).find(|id| !before.contains(*id));
        found.map(str::to_owned).ok_or_else(|| "not yet".to_owned())
    })
}

#[test]
fn accounts_that_come_and_go_after_it_is_complete_are_told_with_who_moved_them() {
    let world = World::new(&[("ROLLOUT__GUARD_EVERY", "1s")]);
    let org = &world.org;
    let toml = format!(
        "policy = \"rds-encryption\"\n[[stage]]\nname = \"a\"\ntargets = [\"{}\"]\n",
        world.ou
    );
    let id = org.begun(&toml);
    org.reaches(&id, "complete");
    let why = |want: &str, there: bool| {
        until(&format!("{want}: {there}"), MINUTE, || {
            let said = org.cli("ann").json(&format!("rollout status {id}"), 0);
            match said["why"].to_string().contains(want) == there {
                true => Ok(said),
                false => Err(said.to_string()),
            }
        })
    };
    until("its accounts are known", MINUTE, || {
        let log = org.cli("ann").expect(&format!("audit list --subject {id} -o json"), 0).out;
        if log.contains("\"rollout.complete\"") { Ok(()) } else { Err(log) }
    });
    let new = new_account(&world);
    let root = root(&world);
    moved(&world, &new, &root, &world.ou);
    let said = why("its evidence does not hold", true);
    assert_eq!(text(&said, "state"), "complete", "it is bound: {said}");
    let lines = said["why"].to_string();
    assert!(lines.contains(&format!("{new} has come to")), "{lines}");
    assert!(lines.contains(&format!("{new} was moved to {}", world.ou)), "{lines}");
    // A plan says so before anybody is asked for an approval, and whose policy it is.
    let again = org.cli("ann").expect(&format!("rollout plan --dry-run -f {}", org.file(&toml)), 0);
    assert!(
        again.err.contains(&format!("the gate before {} is shut today", world.ou)),
        "{again:?}"
    );
    assert!(again.err.contains(&format!("{id} has this policy attached to 1 of")), "{again:?}");
    org.cli("ann").expect(&format!("scan start --account {new} --wait --timeout 60s"), 0);
    why("has come to", false);
    // An OU that somebody makes is told once, with who made it.
    let made = json!({"ParentId": world.ou, "Name": "newcomers"});
    let made = org.somebody("-", "organizations", "CreateOrganizationalUnit", &made);
    assert_eq!(text(&made, "code"), "", "{made}");
    until("it is told", MINUTE, || {
        let log = org.cli("ann").expect(&format!("audit list --subject {id} -o json"), 0).out;
        let told = log.contains("is new, at ") && log.contains("newcomers: what is in it is bound");
        if told && log.contains(" was made at ") { Ok(()) } else { Err(log) }
    });
    moved(&world, &new, &world.ou, &root);
    let failed = org.reaches(&id, "failed");
    let lines = failed["why"].to_string();
    assert!(lines.contains(&format!("{new} is not bound any more")), "{lines}");
    assert!(lines.contains("resume accepts that"), "{lines}");
    org.cli("ann").expect(&format!("rollout resume {id} --reason known"), 0);
    org.reaches(&id, "complete");
}

#[test]
fn an_account_that_comes_to_what_is_attached_shuts_the_next_gate_also_where_nothing_bakes() {
    let folder = tempfile::tempdir().expect("a folder");
    let gate = folder.path().join("gate");
    let says = |text: &str| write_command(&gate, text);
    says("case $RINGFENCE_TARGET in ou-*) ;; *) exit 1;; esac");
    let world = World::new(&[
        ("ROLLOUT__GATE_COMMAND", gate.to_str().expect("text")),
        ("ROLLOUT__ORG_MAX_AGE", "1ms"),
    ]);
    let org = &world.org;
    let new = new_account(&world);
    let stage = |name: &str, target: &str| {
        format!("[[stage]]\nname = \"{name}\"\ntargets = [\"{target}\"]\n")
    };
    let stages = stage("a", &world.ou) + &stage("b", &org.accounts[2]);
    let id = org.begun(&format!("policy = \"rds-encryption\"\n{stages}"));
    let blocked = org.reaches(&id, "blocked");
    assert!(blocked["why"].to_string().contains("gate_command refuses"), "{blocked}");
    assert_eq!(text(&blocked["targets"][0], "state"), "attached", "{blocked}");
    // Nobody reads the organization meanwhile; the next stage's own gate is open now.
    moved(&world, &new, &root(&world), &world.ou);
    says("exit 0");
    org.cli("ann").expect(&format!("rollout resume {id}"), 0);
    let want = format!("{new} has come to");
    let blocked = until("it is blocked for that", MINUTE, || {
        let said = org.cli("ann").json(&format!("rollout status {id}"), 0);
        let there = said["state"] == "blocked" && said["why"].to_string().contains(&want);
        if there { Ok(said) } else { Err(said.to_string()) }
    });
    let moved_by = format!("{new} was moved to {}", world.ou);
    assert!(blocked["why"].to_string().contains(&moved_by), "{blocked}");
    assert_eq!(text(&blocked["targets"][1], "state"), "waiting", "nothing more is attached");
    org.cli("ann").expect(&format!("scan start --account {new} --wait --timeout 60s"), 0);
    org.cli("ann").expect(&format!("rollout resume {id}"), 0);
    org.reaches(&id, "complete");
}

#[test]
fn what_is_proposed_can_be_planned_and_goes_from_the_least_risk_to_the_most() {
    let world = World::new(&[]);
    let org = &world.org;
    let read = |args: &str| {
        let shown = org.cli("ann").expect(&format!("rollout propose {args}"), 0).out;
        let (_, stages) = rollout::parse(&shown).unwrap_or_else(|e| panic!("{e}\n{shown}"));
        (shown, stages)
    };
    let (shown, stages) = read("--large 1 --percents 50 --canaries 0 --bake 1h");
    let names: Vec<&str> = stages.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["with-canaries-50-percent", "other", "production"], "{shown}");
    assert!(shown.contains("with-canaries: 2 accounts, 0 databases"), "{shown}");
    let plan = org.cli("ann").json(&format!("rollout plan --dry-run -f {}", org.file(&shown)), 0);
    assert_eq!(text(&plan["targets"][0], "replaced_by"), world.ou, "{plan}");
    // A tag says what a name does not.
    let tags = json!([{"Key": "env", "Value": "dev"}]);
    org.call("TagResource", json!({"ResourceId": world.ou, "Tags": tags}));
    let (_, stages) = read("--environment-tag env");
    let names: Vec<&str> = stages.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["canary", "test", "production"]);
    for (args, want) in [
        ("--percents 25,5", "each more than the one before"),
        ("--percents 100", "1 to 99"),
        ("--large 0", "large = 0"),
        ("--canaries=-1", "canaries = -1"),
    ] {
        let ran = org.cli("ann").run(&format!("rollout propose {args}"));
        assert!(ran.code == 1 && ran.err.contains(want), "{args}: {ran:?}");
    }
}
