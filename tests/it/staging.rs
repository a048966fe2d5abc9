//! Accounts that go to a staging OU and come back, on the simulator.

use crate::bake::{Org, write_command};
use crate::stage::{MINUTE, text};
use crate::sweep::crash_points;
use ringfence_tests::process::{Cli, Setup};
use ringfence_tests::{Moto, emulator, script, until};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// An organization with an OU where policies are tried.
struct World {
    org: Org,
    ou: String,
    home: BTreeMap<String, String>,
}

impl World {
    fn new(settings: &[(&str, &str)]) -> World {
        let org = Org::of(4, settings);
        let nodes = org.cli("ann").json("org tree", 0)["nodes"].as_array().cloned().expect("nodes");
        let root = nodes.iter().find(|n| n["kind"] == "root").expect("a root");
        let params = json!({"ParentId": text(root, "id"), "Name": "policy-staging"});
        let made = org.call("CreateOrganizationalUnit", params);
        let ou = text(&made["OrganizationalUnit"], "Id").to_owned();
        org.cli("ann").expect("org sync", 0);
        let mut world = World { org, ou, home: BTreeMap::new() };
        world.home = world.places();
        world
    }

    /// The parent of each account.
    fn places(&self) -> BTreeMap<String, String> {
        self.org.accounts.iter().map(|a| (a.clone(), self.org.parent(a))).collect()
    }

    fn away(&self) -> usize {
        let now = self.places();
        now.iter().filter(|(account, place)| self.home[*account] != **place).count()
    }

    fn planned(&self, accounts: &[&str], more: &str) -> String {
        let list = accounts.join(",");
        let (org, ou) = (&self.org, &self.ou);
        let plan =
            org.cli("ann").json(&format!("staging plan --ou {ou} --account {list} {more}"), 0);
        text(&plan, "id").to_owned()
    }

    fn begun(&self, accounts: &[&str], more: &str) -> String {
        let id = self.planned(accounts, more);
        self.starts(&id);
        id
    }

    fn starts(&self, id: &str) {
        self.org.cli("bob").expect(&format!("approve {id} --reason CHG-1"), 0);
        self.org.cli("ann").expect(&format!("staging start {id}"), 0);
    }

    fn reaches(&self, id: &str, state: &str) -> Value {
        until(&format!("{id} is {state}"), MINUTE, || {
            let staging = self.org.cli("ann").json(&format!("staging status {id}"), 0);
            if staging["state"] == state { Ok(staging) } else { Err(staging.to_string()) }
        })
    }
}

fn states(staging: &Value) -> Vec<&str> {
    staging["visits"].as_array().expect("visits").iter().map(|v| text(v, "state")).collect()
}

#[test]
fn accounts_go_a_few_at_a_time_and_come_home() {
    let world = World::new(&[]);
    let org = &world.org;
    let all: Vec<&str> = org.accounts.iter().map(String::as_str).collect();
    // What is tried there, and what binds them at home alone.
    let policy = |name: &str, target: &str| {
        let content = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"rds:DeleteOptionGroup","Resource":"*"}]}"#;
        let params = json!({"Name": name, "Description": "", "Type": "SERVICE_CONTROL_POLICY", "Content": content});
        let made = org.call("CreatePolicy", params);
        let id = text(&made["Policy"]["PolicySummary"], "Id").to_owned();
        org.call("AttachPolicy", json!({"PolicyId": id, "TargetId": target}));
        id
    };
    let tried = policy("tried", &world.ou);
    let mine = policy("at-home", &world.home[all[0]]);
    let args = format!("staging plan --ou {} --account {} --stay 1s", world.ou, all[0]);
    let plan = org.cli("ann").json(&format!("{args} --dry-run"), 0);
    let change = &plan["differences"][0];
    assert_eq!(text(change, "policy_type"), "SERVICE_CONTROL_POLICY");
    assert_eq!(change["loses"], json!([format!("at-home ({mine})")]), "{plan}");
    assert_eq!(change["gets"], json!([format!("tried ({tried})")]), "{plan}");
    let said = org.cli("ann").expect(&format!("{args} --dry-run"), 0);
    assert!(!said.err.contains("StackSet"), "there is none: {said:?}");
    assert!(said.out.contains("not there: at-home"), "{said:?}");

    // StackSets follow accounts.
    let stacks = |operation: &str, params: Value| org.call_of("cloudformation", operation, params);
    for (name, retains, target) in
        [("guard", false, &world.ou), ("base", true, &world.home[all[0]])]
    {
        let auto = json!({"Enabled": true, "RetainStacksOnAccountRemoval": retains});
        stacks(
            "CreateStackSet",
            json!({"StackSetName": name, "TemplateBody": "{}", "PermissionModel": "SERVICE_MANAGED", "AutoDeployment": auto}),
        );
        let to = json!({"OrganizationalUnitIds": [target]});
        stacks(
            "CreateStackInstances",
            json!({"StackSetName": name, "DeploymentTargets": to, "Regions": ["us-east-1"]}),
        );
    }
    let said = org.cli("ann").expect(&format!("{args} --dry-run"), 0);
    assert!(
        said.out.contains(
            "StackSet guard of us-east-1: stacks are made, and deleted when it goes home"
        ),
        "{said:?}"
    );
    assert!(said.out.contains("StackSet base of us-east-1: its stacks stay"), "{said:?}");

    let id = world.planned(&all, "--batch 2 --stay 2s");
    let early = org.cli("ann").run(&format!("staging start {id}"));
    assert!(early.code == 5 && early.err.contains("1 missing"), "{early:?}");
    let own = org.cli("ann").run(&format!("approve {id} --reason CHG-1"));
    assert_eq!(own.code, 4, "{own:?}");
    org.cli("bob").expect(&format!("approve {id} --reason CHG-1"), 0);
    org.cli("ann").expect(&format!("staging start {id}"), 0);
    let mut most = 0;
    until("all are back", MINUTE, || {
        most = most.max(world.away());
        let said = org.cli("ann").json(&format!("staging status {id}"), 0);
        if said["state"] == "complete" { Ok(()) } else { Err(said.to_string()) }
    });
    assert_eq!(most, 2, "a batch at a time");
    assert_eq!(world.places(), world.home);
    let done = org.cli("ann").json(&format!("staging status {id}"), 0);
    assert_eq!(states(&done), ["back", "back", "back"]);
    let time = |text: &str| ringfence_domain::time::Time::parse(text).expect("a time").0;
    let first = &done["visits"][0];
    assert!(time(text(first, "returned_at")) >= time(text(first, "arrived_at")) + 2_000, "{first}");
    let over = org.cli("ann").run(&format!("staging abort {id}"));
    assert!(over.code == 5 && over.err.contains("is at home"), "{over:?}");
    assert!(org.cli("ann").expect("staging list", 0).out.contains(&id));
}

#[test]
fn harm_brings_every_account_home_and_nobody_knows_is_not_healthy() {
    let world = World::new(&[]);
    let org = &world.org;
    let all: Vec<&str> = org.accounts.iter().map(String::as_str).collect();
    org.healthy(2, "the log could not be read");
    let id = world.begun(&all, "--stay 1s");
    let paused = world.reaches(&id, "paused");
    assert!(paused["why"].to_string().contains("could not be read"), "{paused}");
    assert_eq!((world.away(), states(&paused)), (1, vec!["there", "at home", "at home"]));
    org.healthy(1, "7 denials");
    org.cli("ann").expect(&format!("staging resume {id}"), 0);
    let aborted = world.reaches(&id, "aborted");
    assert!(aborted["why"].to_string().contains("7 denials"), "{aborted}");
    assert_eq!(world.places(), world.home);
    let again = org.cli("ann").run(&format!("staging resume {id}"));
    assert!(again.code == 5 && again.err.contains("plan anew"), "{again:?}");
}

#[test]
fn what_cannot_be_moved_is_refused_before_anybody_is() {
    let world = World::new(&[]);
    let org = &world.org;
    let (ou, account) = (&world.ou, &org.accounts[0]);
    let nodes = org.cli("ann").json("org tree", 0)["nodes"].as_array().cloned().expect("nodes");
    let management = nodes.iter().find(|n| n["management"] == true).expect("one");
    for (args, code, want) in [
        (format!("--ou {account} --account {account}"), 1, "is no OU"),
        (format!("--ou {ou} --account {}", text(management, "id")), 1, "the management account"),
        (format!("--ou {ou} --account {account},{account}"), 1, "named twice"),
        (format!("--ou {ou} --account 000000000000"), 1, "not in the organization"),
        (format!("--ou {} --account {account}", world.home[account]), 1, "already"),
        (format!("--ou {ou} --account {account} --batch 0"), 1, "batch = 0"),
    ] {
        let ran = org.cli("ann").run(&format!("staging plan {args}"));
        assert!(ran.code == code && ran.err.contains(want), "{args}: {ran:?}");
    }
    // AWS Control Tower counts a moved account as drift.
    let content = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"rds:DeleteOptionGroup","Resource":"*"}]}"#;
    let made = org.call("CreatePolicy", json!({"Name": "aws-guardrails-x", "Description": "", "Type": "SERVICE_CONTROL_POLICY", "Content": content}));
    let policy = text(&made["Policy"]["PolicySummary"], "Id").to_owned();
    org.call("AttachPolicy", json!({"PolicyId": policy, "TargetId": world.home[account]}));
    let args = format!("staging plan --ou {ou} --account {account}");
    let refused = org.cli("ann").run(&args);
    assert!(refused.code == 5 && refused.err.contains("--allow-control-tower"), "{refused:?}");
    org.cli("ann").expect(&format!("{args} --allow-control-tower --dry-run"), 0);
    // Somebody moves it meanwhile: it is not taken from there, and aborting ends.
    org.call("DetachPolicy", json!({"PolicyId": policy, "TargetId": world.home[account]}));
    let id = world.begun(&[account], "--stay 1h");
    world.reaches(&id, "baking");
    let root = nodes.iter().find(|n| n["kind"] == "root").map(|n| text(n, "id")).expect("a root");
    let params = json!({"AccountId": account, "SourceParentId": ou, "DestinationParentId": root});
    org.call("MoveAccount", params);
    let failed = world.reaches(&id, "failed");
    assert!(failed["why"].to_string().contains("somebody moved it"), "{failed}");
    org.cli("ann").expect(&format!("staging abort {id}"), 0);
    let stuck = until("it says what to do", MINUTE, || {
        let said = org.cli("ann").json(&format!("staging status {id}"), 0);
        if said["why"].to_string().contains("abort again") {
            Ok(said)
        } else {
            Err(said.to_string())
        }
    });
    assert_eq!(text(&stuck, "state"), "failed");
    let params = json!({"AccountId": account, "SourceParentId": root, "DestinationParentId": ou});
    org.call("MoveAccount", params);
    org.cli("ann").expect(&format!("staging abort {id} --wait --timeout 60s"), 0);
    assert_eq!(world.places(), world.home);
}

/// There and back, two at a time; killed where a call to Organizations of this kind is held. Which that was.
fn crashed(skip: usize, effect: &str, write: bool) -> Option<String> {
    let mut world = World::new(&[]);
    let all: Vec<String> = world.org.accounts.clone();
    let names: Vec<&str> = all.iter().map(String::as_str).collect();
    let id = world.planned(&names, "--batch 2 --stay 1s");
    let held = json!({"service": "organizations", "write": write});
    world.org.sim.fault(json!({"match": held, "skip": skip, "effect": effect}));
    let to_organizations = json!({"service": "organizations", "write": true});
    let busy = json!({"error": {"status": 400, "code": "ConcurrentModificationException"}});
    world
        .org
        .sim
        .fault(json!({"match": to_organizations, "times": 0, "chance": 0.5, "effect": busy}));
    let places = world.home.values().chain([&world.ou]);
    let everywhere: Vec<String> = all.iter().chain(places).cloned().collect();
    let attached = world.org.attached_to(&everywhere);
    world.starts(&id);
    let mut killed = None;
    until("all are back", 2 * MINUTE, || {
        killed = world.org.killed_if_held().or(killed.take());
        assert!(world.away() <= 2, "{killed:?}: more than a batch is away");
        let ran = world.org.cli("ann").run(&format!("staging status {id} -o json"));
        let state =
            if ran.code == 0 { text(&ran.json(), "state").to_owned() } else { String::new() };
        match state.as_str() {
            "complete" => Ok(()),
            "failed" | "blocked" => panic!("{killed:?}: {ran:?}"),
            _ => Err(format!("killed at {killed:?}: {ran:?}")),
        }
    });
    assert_eq!(world.places(), world.home, "{killed:?}");
    assert_eq!(world.org.attached_to(&everywhere), attached, "{killed:?}");
    let (moves, refused) = world.org.sim.counts()["organizations:MoveAccount"];
    // What took effect and was not recorded is asked for once more, and AWS says that it is there.
    assert!(moves - refused <= 7, "{killed:?}: {moves} moves, {refused} refused");
    killed
}

#[test]
fn a_crash_at_any_move_brings_everybody_home() {
    let run = |(nth, effect): (usize, &str)| crashed(nth, effect, true);
    let points = crash_points("a staging OU", 3, run);
    assert!(points >= 3, "{points}");
}

#[test]
fn a_crash_at_any_read_of_a_move_brings_everybody_home() {
    let run = |(nth, effect): (usize, &str)| crashed(nth, effect, false);
    let points = crash_points("the reads of a staging OU", 53, run);
    assert!(points >= 2, "{points}");
}

/// A rollout of this file, planned, approved and carried out.
fn rolled_out(ann: &Cli, bob: &Cli, file: &std::path::Path, toml: &str) -> String {
    std::fs::write(file, toml).expect("write the file");
    let plan = ann.json(&format!("rollout plan -f {}", file.display()), 0);
    let id = text(&plan, "id").to_owned();
    bob.expect(&format!("approve {id} --reason CHG-1"), 0);
    ann.expect(&format!("rollout start {id} --wait --timeout 60s"), 0);
    id
}

#[test]
fn an_account_goes_where_its_gates_let_it_and_what_was_approved_still_holds() {
    let folder = tempfile::tempdir().expect("a folder");
    let gate = folder.path().join("gate");
    let says = |text: &str| write_command(&gate, text);
    says("echo CAB says no to $RINGFENCE_STAGING for $RINGFENCE_TARGET; exit 1");
    let world = World::new(&[("ROLLOUT__GATE_COMMAND", gate.to_str().expect("text"))]);
    let (org, account) = (&world.org, world.org.accounts[0].clone());
    let id = world.begun(&[&account], "--stay 1s");
    let blocked = world.reaches(&id, "blocked");
    let want = format!("CAB says no to {id} for {account}");
    assert!(blocked["why"].to_string().contains(&want), "{blocked}");
    // What binds them there changes after it was approved.
    says("exit 0");
    let content = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"rds:DeleteOptionGroup","Resource":"*"}]}"#;
    let params = json!({"Name": "later", "Description": "", "Type": "SERVICE_CONTROL_POLICY", "Content": content});
    let made = org.call("CreatePolicy", params);
    let policy = text(&made["Policy"]["PolicySummary"], "Id").to_owned();
    let attach = json!({"PolicyId": policy, "TargetId": world.ou});
    org.call("AttachPolicy", attach.clone());
    org.cli("ann").expect(&format!("staging resume {id}"), 0);
    let want = format!("they get later ({policy}), which nobody approved");
    until("it is blocked for that", MINUTE, || {
        let said = org.cli("ann").json(&format!("staging status {id}"), 0);
        let there = said["why"].to_string().contains(&want) && said["state"] == "blocked";
        if there { Ok(()) } else { Err(said.to_string()) }
    });
    assert_eq!(world.places(), world.home);
    org.call("DetachPolicy", attach);
    org.cli("ann").expect(&format!("staging resume {id}"), 0);
    world.reaches(&id, "complete");
    assert_eq!(world.places(), world.home);
}

#[test]
fn only_the_management_account_moves_accounts() {
    let mut world = World::new(&[]);
    let member = world.org.accounts[0].clone();
    let role = json!({"RoleArn": format!("arn:aws:iam::{member}:role/OrganizationAccountAccessRole"), "RoleSessionName": "member"});
    let url = world.org.sim.url();
    let args = ["-", "-", "us-east-1", "sts", "AssumeRole", &role.to_string()];
    let session = script("call.py", &url, &args)["answer"]["Credentials"].clone();
    drop(world.org.server.take());
    for (key, field) in [
        ("AWS_ACCESS_KEY_ID", "AccessKeyId"),
        ("AWS_SECRET_ACCESS_KEY", "SecretAccessKey"),
        ("AWS_SESSION_TOKEN", "SessionToken"),
    ] {
        world.org.setup.set(key, text(&session, field));
    }
    world.org.server = Some(world.org.setup.start());
    let plan = format!("staging plan --ou {} --account {member}", world.ou);
    let ran = world.org.cli("ann").run(&plan);
    let want = format!(
        "accounts can be moved from the management account ({}) only",
        world.org.management
    );
    assert!(ran.code == 5 && ran.err.contains(&want), "{ran:?}");
}

#[test]
fn an_account_that_is_taken_elsewhere_right_before_its_move_is_not_ours_to_bring_back() {
    let world = World::new(&[]);
    let (org, account) = (&world.org, world.org.accounts[0].clone());
    let home = world.home[&account].clone();
    let root = text(&org.call("ListRoots", json!({}))["Roots"][0], "Id").to_owned();
    let made = org.call("CreateOrganizationalUnit", json!({"ParentId": root, "Name": "elsewhere"}));
    let elsewhere = text(&made["OrganizationalUnit"], "Id").to_owned();
    let moved =
        json!({"AccountId": account, "SourceParentId": home, "DestinationParentId": elsewhere});
    org.sim.fault(json!({"match": {"operation": "MoveAccount"}, "times": 1, "effect": {"change": {"call": {
        "account": org.management, "region": "us-east-1", "service": "organizations", "operation": "MoveAccount", "params": moved}}}}));
    let id = world.begun(&[&account], "--stay 1s");
    let failed = world.reaches(&id, "failed");
    assert!(failed["why"].to_string().contains("neither at home"), "{failed}");
    org.cli("ann").expect(&format!("staging abort {id} --wait --timeout 60s"), 0);
    assert_eq!(world.places()[&account], elsewhere, "whoever took it there knows why");
}

#[test]
fn on_moto_a_version_is_undone_and_accounts_come_home() {
    let folder = tempfile::tempdir().expect("a folder");
    let moto = Moto::start();
    let built = emulator::build(&moto.url(), 5, &["empty", "2"]);
    let organizations = |operation: &str, params: Value| {
        let args = ["-", "-", "us-east-1", "organizations", operation, &params.to_string()];
        let said = script("call.py", &moto.url(), &args);
        assert_eq!(text(&said, "code"), "", "{said}");
        said["answer"].clone()
    };
    let setup = Setup::new(&moto.url(), folder.path());
    let _server = setup.start();
    let (ann, bob) = (setup.cli("ann"), setup.cli("bob"));
    ann.expect("org sync", 0);
    ann.expect("scan start --wait --timeout 60s", 0);
    let ou = text(&built["ous"], "all");
    let stage = format!("[[stage]]\nname = \"all\"\ntargets = [\"{ou}\"]\n");
    let file = folder.path().join("rollout.toml");
    let attached = || {
        let params = json!({"TargetId": ou, "Filter": "SERVICE_CONTROL_POLICY"});
        let found = organizations("ListPoliciesForTarget", params);
        let all = found["Policies"].as_array().expect("policies").clone();
        let names = all.iter().map(|p| text(p, "Name").to_owned());
        names.filter(|n| n.starts_with("ringfence-")).collect::<Vec<_>>()
    };
    let first = rolled_out(&ann, &bob, &file, &format!("policy = \"rds-encryption\"\n{stage}"));
    let old = attached();
    let toml = format!(
        "policy = \"rds-encryption\"\nreplaces = \"{first}\"\n[parameters]\nexempt_engines = [\"mariadb\"]\n{stage}"
    );
    let second = rolled_out(&ann, &bob, &file, &toml);
    let new = attached();
    assert!(new.len() == 1 && old.len() == 1 && new != old, "{old:?} {new:?}");
    ann.expect(&format!("rollout undo {second} --reason CHG-2 --wait --timeout 60s"), 0);
    assert_eq!(attached(), old);
    assert_eq!(text(&ann.json(&format!("rollout status {first}"), 0), "state"), "complete");

    let account = text(&built["accounts"][0], "id");
    let root = organizations("ListRoots", json!({}))["Roots"][0]["Id"].clone();
    let made = organizations("CreateOrganizationalUnit", json!({"ParentId": root, "Name": "st"}));
    let staging = text(&made["OrganizationalUnit"], "Id").to_owned();
    let plan = format!("staging plan --ou {staging} --account {account} --stay 1s");
    // moto has no LookupEvents: who changes attachments there is not known.
    let dark = ann.run(&plan);
    assert!(dark.code == 5 && dark.err.contains("is not known"), "{dark:?}");
    let planned = ann.json(&format!("{plan} --allow-control-tower"), 0);
    assert_eq!(planned["differences"][0]["loses"].as_array().map(Vec::len), Some(1), "{planned}");
    let id = text(&planned, "id");
    bob.expect(&format!("approve {id} --reason CHG-3"), 0);
    ann.expect(&format!("staging start {id} --wait --timeout 60s"), 0);
    let parent = organizations("ListParents", json!({"ChildId": account}));
    assert_eq!(text(&parent["Parents"][0], "Id"), ou);
}
