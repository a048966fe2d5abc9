//! Versions of a policy: one takes the place of another, is undone, and targets go without, on the simulator.

use crate::bake::{Org, write_command};
use crate::stage::{MINUTE, text};
use crate::sweep::crash_points;
use ringfence_tests::until;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const OLD: &str = r#"{"Version":"2012-10-17","Statement":[{"Sid":"NoStop","Effect":"Deny","Action":"rds:DeleteOptionGroup","Resource":"*"}]}"#;

/// Stages of one account each; the first ones with these lines.
fn stages(org: &Org, accounts: &[usize], more: &str) -> String {
    let stage = |n: &usize| {
        let target = &org.accounts[*n];
        format!("[[stage]]\nname = \"stage-{n}\"\ntargets = [\"{target}\"]\n{more}\n")
    };
    accounts.iter().map(stage).collect()
}

/// The first version, complete on both accounts: its id and its policy's.
fn first(org: &Org) -> (String, String) {
    std::fs::write(org.folder.path().join("old.json"), OLD).expect("write");
    let id = org.begun(&format!("policy = \"old.json\"\n{}", stages(org, &[0, 1], "")));
    let policy = text(&org.reaches(&id, "complete"), "policy_id").to_owned();
    (id, policy)
}

fn second(org: &Org, replaces: &str, accounts: &[usize]) -> String {
    let stages = stages(org, accounts, "bake = \"1s\"");
    format!("policy = \"rds-encryption\"\nreplaces = \"{replaces}\"\n{stages}")
}

/// The policies on each account that were not there before.
fn more(org: &Org) -> Vec<BTreeSet<String>> {
    let now = org.attached();
    let on = |id: &String| now[id].difference(&org.before[id]).cloned().collect();
    org.accounts.iter().map(on).collect()
}

fn only(policy: &str) -> BTreeSet<String> {
    [policy.to_owned()].into()
}

fn state(org: &Org, id: &str) -> String {
    text(&org.cli("ann").json(&format!("rollout status {id}"), 0), "state").to_owned()
}

#[test]
fn a_version_takes_the_place_of_the_earlier_one_and_undo_gives_it_back() {
    let org = Org::new(&[("ROLLOUT__GUARD_EVERY", "1s")]);
    let (old, policy) = first(&org);
    // Nothing to replace, or the same again.
    for (toml, want) in [
        (second(&org, "ro-000000000000", &[0]), "ro-000000000000"),
        (
            format!("policy = \"old.json\"\nreplaces = \"{old}\"\n{}", stages(&org, &[0], "")),
            "has the same policy already",
        ),
    ] {
        let ran = org.cli("ann").run(&format!("rollout plan -f {}", org.file(&toml)));
        assert!(ran.code == 1 && ran.err.contains(want), "{ran:?}");
    }
    // All of it or nothing: what is left would be nobody's.
    let file = org.file(&second(&org, &old, &[0]));
    let part = org.cli("ann").run(&format!("rollout plan --dry-run -f {file}"));
    let left = format!("{old} is attached to {}", org.accounts[1]);
    assert!(part.code == 1 && part.err.contains(&left), "{part:?}");

    let id = org.begun(&second(&org, &old, &[0, 1]));
    let twice =
        org.cli("ann").run(&format!("rollout plan -f {}", org.file(&second(&org, &old, &[0, 1]))));
    assert!(twice.code == 1 && twice.err.contains("abort that one first"), "{twice:?}");
    org.reaches(&id, "baking");
    assert!(more(&org)[1].contains(&policy), "the earlier one stays until all has baked");
    let complete = org.reaches(&id, "complete");
    let new = text(&complete, "policy_id").to_owned();
    assert_eq!(more(&org), [only(&new), only(&new)]);
    assert_eq!(complete["replaces"]["targets"][0]["state"], "detached", "{complete}");
    assert_eq!(state(&org, &old), "superseded");
    let shown = org.cli("ann").expect(&format!("rollout status {old}"), 0).out;
    assert!(shown.contains("0 of 1 attached") && !shown.contains("●"), "{shown}");
    let shown = org.cli("ann").expect(&format!("rollout status {id}"), 0).out;
    assert!(shown.contains(&format!("takes the place of {old}")), "{shown}");
    assert!(shown.contains("2 of 2 detached"), "{shown}");
    for verb in ["abort", "resume", "undo"] {
        let ran = org.cli("ann").run(&format!("rollout {verb} {old} --reason x"));
        assert!(ran.code == 5 && ran.err.contains("has taken its place"), "{ran:?}");
    }
    // The guard misses nothing of either.
    let looks = || org.sim.counts().get("organizations:ListTargetsForPolicy").map_or(0, |c| c.0);
    let before = looks();
    until("the guard has looked twice", MINUTE, || {
        if looks() >= before + 2 { Ok(()) } else { Err(looks().to_string()) }
    });
    assert_eq!((state(&org, &id).as_str(), state(&org, &old).as_str()), ("complete", "superseded"));

    org.cli("ann").expect(&format!("rollout undo {id} --reason CHG-9 --wait --timeout 60s"), 0);
    assert_eq!(more(&org), [only(&policy), only(&policy)]);
    assert_eq!((state(&org, &id).as_str(), state(&org, &old).as_str()), ("aborted", "complete"));
    let log = org.cli("ann").expect(&format!("audit list --subject {id} -o json"), 0).out;
    assert!(log.contains("\"rollout.undo\"") && log.contains("CHG-9"), "{log}");
    org.cli("ann").expect(&format!("rollout undo {old} --reason CHG-10 --wait --timeout 60s"), 0);
    assert_eq!(org.attached(), org.before);
}

#[test]
fn several_versions_are_undone_at_once() {
    let mut org = Org::new(&[]);
    let (old, policy) = first(&org);
    let second = org.begun(&second(&org, &old, &[0, 1]));
    org.reaches(&second, "complete");
    std::fs::write(org.folder.path().join("new.json"), OLD.replace("NoStop", "NoneStops"))
        .expect("write");
    let third =
        format!("policy = \"new.json\"\nreplaces = \"{second}\"\n{}", stages(&org, &[0, 1], ""));
    let third = org.begun(&third);
    org.reaches(&third, "complete");
    let odd = org.cli("ann").run(&format!("rollout undo {third} --to {third} --reason x"));
    assert!(odd.code == 1 && odd.err.contains(&format!("they are: {second}, {old}")), "{odd:?}");
    // Killed on its way.
    org.sim.fault(json!({"match": {"service": "organizations", "write": true}, "skip": 4, "effect": "hold-after"}));
    let line = format!("rollout undo {third} --to {old} --reason CHG-9");
    org.cli("ann").expect(&line, 0);
    let gap = |org: &Org| more(org).iter().any(BTreeSet::is_empty);
    until("it is killed", MINUTE, || {
        assert!(!gap(&org), "bound by none of them");
        org.killed_if_held().ok_or_else(|| "not yet".to_owned())
    });
    until("both are undone", 2 * MINUTE, || {
        assert!(!gap(&org), "bound by none of them");
        match state(&org, &old).as_str() {
            "complete" => Ok(()),
            other => Err(other.to_owned()),
        }
    });
    let gone = org.cli("ann").expect(&format!("rollout status {third}"), 0).out;
    assert!(gone.contains("aborted"), "{gone}");
    assert_eq!(state(&org, &second), "aborted");
    assert_eq!(state(&org, &old), "complete");
    assert_eq!(more(&org), [only(&policy), only(&policy)], "and nothing else");
    let log = org.cli("ann").expect(&format!("audit list --subject {second} -o json"), 0).out;
    assert!(
        log.contains("rollout.aborted") && log.contains("was undone for an earlier version"),
        "{log}"
    );
    let log = org.cli("ann").expect(&format!("audit list --subject {old} -o json"), 0).out;
    assert!(log.contains("rollout.stands-again"), "{log}");
}

#[test]
fn a_version_that_is_taken_back_while_it_bakes_leaves_the_earlier_one_alone() {
    let org = Org::new(&[]);
    let (old, policy) = first(&org);
    let toml = second(&org, &old, &[0, 1]).replace("\"1s\"", "\"1h\"");
    let id = org.begun(&toml);
    org.reaches(&id, "baking");
    let undone = org.cli("ann").run(&format!("rollout undo {id} --reason x"));
    assert!(undone.code == 5 && undone.err.contains("rollout abort"), "{undone:?}");
    // The earlier one is not taken off under it: its other targets would be bound by neither.
    let under = org.cli("ann").run(&format!("rollout abort {old} --reason x"));
    assert!(under.code == 5 && under.err.contains("is taking the place of"), "{under:?}");
    // Harm takes it back by itself.
    org.healthy(1, "harm");
    org.reaches(&id, "blocked");
    assert_eq!(more(&org), [only(&policy), only(&policy)]);
    org.cli("ann").expect(&format!("rollout abort {id} --wait --timeout 60s"), 0);
    assert_eq!(more(&org), [only(&policy), only(&policy)]);
    assert_eq!(state(&org, &old), "complete");
}

#[test]
fn an_earlier_policy_that_is_gone_keeps_no_harm_attached() {
    let org = Org::new(&[]);
    let (old, policy) = first(&org);
    let id = org.begun(&second(&org, &old, &[0, 1]));
    org.reaches(&id, "complete");
    org.call("DeletePolicy", json!({"PolicyId": policy}));
    org.cli("ann").expect(&format!("rollout undo {id} --reason CHG-9 --wait --timeout 60s"), 3);
    assert_eq!(org.attached(), org.before, "what did harm is off");
    let why = org.cli("ann").json(&format!("rollout status {id}"), 0)["why"].to_string();
    assert!(why.contains("could not be attached again") && why.contains(&policy), "{why}");
}

#[test]
fn an_earlier_policy_that_was_edited_is_for_a_person() {
    let org = Org::new(&[]);
    let (old, policy) = first(&org);
    let id = org.begun(&second(&org, &old, &[0, 1]));
    let new = text(&org.reaches(&id, "complete"), "policy_id").to_owned();
    let other = OLD.replace("DeleteOptionGroup", "CreateDBInstance");
    org.call("UpdatePolicy", json!({"PolicyId": policy, "Content": other}));
    org.cli("ann").expect(&format!("rollout undo {id} --reason CHG-9 --wait --timeout 60s"), 6);
    assert_eq!(more(&org), [only(&new), only(&new)], "nothing that nobody approved is attached");
    let why = org.cli("ann").json(&format!("rollout status {id}"), 0)["why"].to_string();
    assert!(why.contains(&format!("emergency-detach --policy {new}")), "{why}");
    // It may stay, or the earlier one is changed back.
    org.cli("ann").expect(&format!("rollout resume {id} --wait --timeout 60s"), 0);
    assert_eq!((state(&org, &id).as_str(), state(&org, &old).as_str()), ("complete", "superseded"));
    org.call("UpdatePolicy", json!({"PolicyId": policy, "Content": OLD}));
    org.cli("ann").expect(&format!("rollout undo {id} --reason CHG-9 --wait --timeout 60s"), 0);
    assert_eq!(more(&org), [only(&policy), only(&policy)]);
}

/// To its end, and undone; killed where a call to Organizations of this kind is held. Which that was.
fn crashed(skip: usize, effect: &str, write: bool) -> Option<String> {
    let mut org = Org::new(&[]);
    let (old, policy) = first(&org);
    let id = org.planned(&second(&org, &old, &[0, 1]));
    let held = json!({"service": "organizations", "write": write});
    org.sim.fault(json!({"match": held, "skip": skip, "effect": effect}));
    let to_organizations = json!({"service": "organizations", "write": true});
    let busy = json!({"error": {"status": 400, "code": "ConcurrentModificationException"}});
    org.sim.fault(json!({"match": to_organizations, "times": 0, "chance": 0.5, "effect": busy}));
    org.cli("ann").expect(&format!("rollout start {id}"), 0);
    let (mut killed, mut ordered) = (None, false);
    until("it is undone", 2 * MINUTE, || {
        killed = org.killed_if_held().or(killed.take());
        for on in more(&org) {
            assert!(!on.is_empty(), "{killed:?}: bound by neither");
        }
        let ran = org.cli("ann").run(&format!("rollout status {id} -o json"));
        let state =
            if ran.code == 0 { text(&ran.json(), "state").to_owned() } else { String::new() };
        match (state.as_str(), ordered) {
            ("complete", false) => {
                let new = text(&ran.json(), "policy_id").to_owned();
                assert_eq!(more(&org), [only(&new), only(&new)], "{killed:?}");
                drop(org.cli("ann").run(&format!("rollout undo {id} --reason CHG-9")));
                ordered = true;
            }
            ("aborted", true) => return Ok(()),
            ("failed", _) => panic!("{killed:?}: {ran:?}"),
            _ => {}
        }
        Err(format!("killed at {killed:?}: {ran:?}"))
    });
    assert_eq!(more(&org), [only(&policy), only(&policy)], "{killed:?}");
    assert_eq!(state(&org, &old), "complete", "{killed:?}");
    killed
}

#[test]
fn a_crash_at_any_write_of_a_version_or_its_undoing_leaves_no_gap() {
    let run = |(nth, effect): (usize, &str)| crashed(nth, effect, true);
    let points = crash_points("a version and its undoing", 3, run);
    assert!(points >= 5, "{points}");
}

#[test]
fn a_crash_at_any_read_of_a_version_or_its_undoing_leaves_no_gap() {
    let run = |(nth, effect): (usize, &str)| crashed(nth, effect, false);
    let points = crash_points("the reads of a version and its undoing", 53, run);
    assert!(points >= 2, "{points}");
}

#[test]
fn a_gate_of_ones_own_refuses_and_a_target_goes_without() {
    let folder = tempfile::tempdir().expect("a folder");
    let gate = folder.path().join("gate");
    let write = |text: &str| write_command(&gate, text);
    write("echo CAB says no to $RINGFENCE_STAGE; exit 1");
    let org = Org::new(&[("ROLLOUT__GATE_COMMAND", gate.to_str().expect("text"))]);
    let toml = format!("policy = \"rds-encryption\"\n{}", stages(&org, &[0, 1], ""));
    let id = org.begun(&toml);
    let blocked = org.reaches(&id, "blocked");
    let why = blocked["why"].to_string();
    assert!(why.contains("rollout.gate_command refuses") && why.contains("to stage-0"), "{why}");
    assert_eq!(org.attached(), org.before);
    // What nobody knows is no pass.
    write("exit 3");
    org.cli("ann").expect(&format!("rollout resume {id}"), 0);
    let dark = until("it is blocked for that", MINUTE, || {
        let said = org.cli("ann").json(&format!("rollout status {id}"), 0);
        let why = said["why"].to_string();
        if why.contains("gives no answer") && said["state"] == "blocked" {
            Ok(why)
        } else {
            Err(why)
        }
    });
    assert!(dark.contains("exit code 3"), "{dark}");
    write("test \"$RINGFENCE_TARGET\" != $(cat \"${0}.not\")");
    std::fs::write(folder.path().join("gate.not"), &org.accounts[0]).expect("write");
    let target = &org.accounts[0];
    let odd = org.cli("ann").run(&format!("rollout skip {id} 000000000000 --reason x"));
    assert!(odd.code == 1 && odd.err.contains("is no target"), "{odd:?}");
    let empty = org.cli("ann").args(&["rollout", "skip", &id, target, "--reason", " "]);
    assert!(empty.code == 1 && empty.err.contains("reason"), "{empty:?}");
    org.cli("ann").expect(&format!("rollout skip {id} {target} --reason CHG-3"), 0);
    org.cli("ann").expect(&format!("rollout resume {id}"), 0);
    let complete = org.reaches(&id, "complete");
    assert_eq!(org.fenced(), [false, true]);
    assert_eq!(text(&complete["targets"][0], "state"), "skipped", "{complete}");
    assert!(text(&complete["targets"][0], "skipped").starts_with("ann at"), "{complete}");
    let shown = org.cli("ann").expect(&format!("rollout status {id}"), 0).out;
    assert!(shown.contains(": CHG-3"), "{shown}");
    let attached = &org.accounts[1];
    let has = org.cli("ann").run(&format!("rollout skip {id} {attached} --reason x"));
    assert!(has.code == 5 && has.err.contains("has it"), "{has:?}");
    let not = org.cli("ann").run(&format!("rollout retry {id} {attached} --reason x"));
    assert!(not.code == 5 && not.err.contains("nothing to retry"), "{not:?}");
    write("exit 0");
    org.cli("ann").expect(&format!("rollout retry {id} {target} --reason CHG-4"), 0);
    until("it is attached everywhere", MINUTE, || {
        if org.fenced() == [true, true] { Ok(()) } else { Err("not yet".to_owned()) }
    });
    org.reaches(&id, "complete");
}

#[test]
fn what_somebody_detaches_comes_back_or_stays_off_as_set() {
    let detach = |org: &Org, complete: &Value| {
        let policy = text(complete, "policy_id");
        org.call("DetachPolicy", json!({"PolicyId": policy, "TargetId": org.accounts[0]}));
    };
    let begun = |setting: &str| {
        let org = Org::new(&[("ROLLOUT__GUARD_EVERY", "1s"), ("ROLLOUT__ON_DRIFT", setting)]);
        let toml = format!("policy = \"rds-encryption\"\n{}", stages(&org, &[0, 1], ""));
        let id = org.begun(&toml);
        let complete = org.reaches(&id, "complete");
        (org, id, complete)
    };
    let (org, id, complete) = begun("reattach");
    let count = || {
        let log = org.cli("ann").expect(&format!("audit list --subject {id} -o json"), 0).out;
        log.matches("\"rollout.reattach\"").count()
    };
    for n in 1..=3 {
        detach(&org, &complete);
        until("it is attached again", MINUTE, || match (count(), org.fenced()[0]) {
            (times, true) if times == n => Ok(()),
            other => Err(format!("{other:?}")),
        });
        org.reaches(&id, "complete");
    }
    detach(&org, &complete);
    let failed = org.reaches(&id, "failed");
    assert!(failed["why"].to_string().contains("keeps detaching it"), "{failed}");

    let (org, id, complete) = begun("adopt");
    detach(&org, &complete);
    until("it is let go", MINUTE, || {
        let said = org.cli("ann").json(&format!("rollout status {id}"), 0);
        match text(&said["targets"][0], "state") {
            "skipped" => Ok(()),
            other => Err(other.to_owned()),
        }
    });
    assert_eq!(state(&org, &id), "complete");
    assert_eq!(org.fenced(), [false, true]);
}

#[test]
fn ten_policies_on_a_target_and_other_tools_are_found_when_it_is_planned() {
    let org = Org::new(&[]);
    let target = &org.accounts[0];
    let file = org.file(&format!("policy = \"rds-encryption\"\n{}", stages(&org, &[0, 1], "")));
    let make = |name: String| {
        let made = org.call(
            "CreatePolicy",
            json!({"Name": name, "Description": "", "Type": "SERVICE_CONTROL_POLICY", "Content": OLD}),
        );
        let id = text(&made["Policy"]["PolicySummary"], "Id").to_owned();
        org.call("AttachPolicy", json!({"PolicyId": id, "TargetId": target}));
    };
    make("aws-guardrails-aBcDeF".to_owned());
    // The role of the function with which Landing Zone Accelerator undoes what others attach.
    let reverts = "AWSAccelerator-FinalizeSt-RevertScpChangesRevertSc-1A2B";
    org.call_of(
        "iam",
        "CreateRole",
        json!({"RoleName": reverts, "AssumeRolePolicyDocument": "{}"}),
    );
    let plan = org.cli("ann").expect(&format!("rollout plan --dry-run -f {file}"), 0);
    assert!(
        plan.err.contains("AWS Control Tower is at work here (aws-guardrails-aBcDeF"),
        "{plan:?}"
    );
    let line = format!(
        "Landing Zone Accelerator is at work here (its function that undoes attachments is here, with the role {reverts})"
    );
    assert!(plan.err.contains(&line), "{plan:?}");
    let there = org.attached()[target].len();
    (there..10).for_each(|n| make(format!("other-{n}")));
    let before = org.sim.counts();
    let full = org.cli("ann").run(&format!("rollout plan -f {file}"));
    assert_eq!(full.code, 5, "{full:?}");
    assert!(
        full.err.contains(&format!("{target} has 10 SCPs attached, AWS allows 10")),
        "{full:?}"
    );
    let writes = |counts: &std::collections::BTreeMap<String, (u64, u64)>| {
        counts.get("organizations:CreatePolicy").map_or(0, |c| c.0)
    };
    assert_eq!(writes(&before), writes(&org.sim.counts()), "nothing was made");
    assert!(org.cli("ann").expect("rollout list", 0).err.contains("none"));
}
