//! Rollouts whose stages are watched before the next one begins, on the simulator.

use crate::stage::{MINUTE, text};
use crate::sweep::crash_points;
use ringfence_tests::emulator::Sim;
use ringfence_tests::process::{Cli, Setup};
use ringfence_tests::{Guard, script, until};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const DENY_NOTHING: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"rds:StopDBCluster","Resource":"*"}]}"#;

/// A command of an operator's own, with this body.
pub(crate) fn write_command(path: &Path, body: &str) {
    std::fs::write(path, format!("#!/bin/sh\n{body}\n")).expect("write");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("mode");
}

/// An organization without databases, a server that asks a command of ours for the health of stages, and two accounts.
pub(crate) struct Org {
    pub(crate) sim: Sim,
    pub(crate) setup: Setup,
    pub(crate) server: Option<Guard>,
    pub(crate) accounts: Vec<String>,
    pub(crate) management: String,
    pub(crate) before: BTreeMap<String, BTreeSet<String>>,
    pub(crate) folder: tempfile::TempDir,
}

impl Org {
    pub(crate) fn new(settings: &[(&str, &str)]) -> Org {
        Org::of(3, settings)
    }

    /// With so many accounts, the management account included.
    pub(crate) fn of(accounts: u32, settings: &[(&str, &str)]) -> Org {
        let folder = tempfile::tempdir().expect("a folder");
        let sim = Sim::plain(accounts, 1, 0.0, &["--seed", "5"]);
        {
            let mut world = sim.inside().world();
            (world.settings.organizations_busy_ms, world.settings.scp_delay_ms) = (0, 0);
        }
        let mut setup = Setup::new(&sim.url(), folder.path());
        let command = folder.path().join("health");
        let answers =
            "env | grep ^RINGFENCE_ > \"${0}.told\"\ncat \"${0}.says\"\nexit $(cat \"${0}.code\")";
        write_command(&command, answers);
        for (key, value) in [
            ("AWS__REGIONS", ""),
            ("AWS__EXTERNAL_ID", ""),
            ("ROLLOUT__HEALTH_COMMAND", command.to_str().expect("text")),
            ("ROLLOUT__OBSERVE_EVERY", "300ms"),
            ("ROLLOUT__TRAIL_DELAY", "0s"),
        ]
        .iter()
        .chain(settings)
        {
            setup.set(&format!("RINGFENCE_{key}"), value);
        }
        let mut org = Org {
            sim,
            setup,
            server: None,
            accounts: Vec::new(),
            management: String::new(),
            before: BTreeMap::new(),
            folder,
        };
        org.healthy(0, "no denials");
        org.server = Some(org.setup.start());
        org.cli("ann").expect("org sync", 0);
        org.cli("ann").expect("scan start --wait --timeout 60s", 0);
        let nodes = org.cli("ann").json("org tree", 0)["nodes"].as_array().cloned().expect("nodes");
        for node in nodes.iter().filter(|n| n["kind"] == "account") {
            let id = text(node, "id").to_owned();
            match node["management"] == true {
                true => org.management = id,
                false => org.accounts.push(id),
            }
        }
        org.before = org.attached();
        org
    }

    pub(crate) fn cli(&self, user: &str) -> Cli {
        self.setup.cli(user)
    }

    /// What the command says from now on.
    pub(crate) fn healthy(&self, code: i32, says: &str) {
        let write = |name: &str, text: &str| {
            std::fs::write(self.folder.path().join(name), format!("{text}\n")).expect("write");
        };
        write("health.says", says);
        write("health.code", &code.to_string());
    }

    fn told(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("health.told")).unwrap_or_default()
    }

    /// Planned with these lines for the first stage and for the second, approved and started.
    fn started(&self, first: &str, second: &str) -> String {
        let mut toml = "policy = \"rds-encryption\"\n".to_owned();
        for ((name, more), target) in
            [("canary", first), ("rest", second)].iter().zip(&self.accounts)
        {
            toml.push_str(&format!(
                "[[stage]]\nname = \"{name}\"\ntargets = [\"{target}\"]\n{more}\n"
            ));
        }
        self.begun(&toml)
    }

    /// The rollout file with this text.
    pub(crate) fn file(&self, toml: &str) -> String {
        let file = self.folder.path().join("rollout.toml");
        std::fs::write(&file, toml).expect("write the file");
        file.display().to_string()
    }

    /// A rollout of this file, planned and approved.
    pub(crate) fn planned(&self, toml: &str) -> String {
        let plan = self.cli("ann").json(&format!("rollout plan -f {}", self.file(toml)), 0);
        let id = text(&plan, "id").to_owned();
        self.cli("bob").expect(&format!("approve {id} --reason CHG-1"), 0);
        id
    }

    /// The same, and started.
    pub(crate) fn begun(&self, toml: &str) -> String {
        let id = self.planned(toml);
        self.cli("ann").expect(&format!("rollout start {id}"), 0);
        id
    }

    /// A call by a role of an account, or by the management account's administrator (`-`).
    pub(crate) fn somebody(
        &self,
        account: &str,
        service: &str,
        operation: &str,
        params: &Value,
    ) -> Value {
        let role = "OrganizationAccountAccessRole";
        let args = [account, role, "us-east-1", service, operation, &params.to_string()];
        script("call.py", &self.sim.url(), &args)
    }

    /// Somebody makes a database, encrypted or not; the code of the refusal.
    pub(crate) fn makes(&self, account: &str, name: &str, encrypted: bool) -> String {
        let params = json!({"DBInstanceIdentifier": name, "Engine": "postgres", "DBInstanceClass": "db.m5.large",
            "AllocatedStorage": 20, "MasterUsername": "admin1", "MasterUserPassword": "not-a-secret-1",
            "StorageEncrypted": encrypted});
        text(&self.somebody(account, "rds", "CreateDBInstance", &params), "code").to_owned()
    }

    pub(crate) fn reaches(&self, id: &str, state: &str) -> Value {
        until(&format!("{id} is {state}"), MINUTE, || {
            let rollout = self.cli("ann").json(&format!("rollout status {id}"), 0);
            if rollout["state"] == state { Ok(rollout) } else { Err(rollout.to_string()) }
        })
    }

    pub(crate) fn call(&self, operation: &str, params: Value) -> Value {
        self.call_of("organizations", operation, params)
    }

    /// A call of another service by the management account.
    pub(crate) fn call_of(&self, service: &str, operation: &str, params: Value) -> Value {
        self.sim.change(json!({"call": {"account": self.management, "region": "us-east-1",
            "service": service, "operation": operation, "params": params}}))
    }

    /// The OU or root that an account is in; AWS gives empty pages now and then.
    pub(crate) fn parent(&self, account: &str) -> String {
        let mut params = json!({"ChildId": account});
        loop {
            let page = self.call("ListParents", params.clone());
            if let Some(parent) = page["Parents"][0]["Id"].as_str() {
                return parent.to_owned();
            }
            params["NextToken"] = page["NextToken"].clone();
        }
    }

    /// Moves an account.
    pub(crate) fn moves(&self, account: &str, to: &str) {
        let from = self.parent(account);
        self.call(
            "MoveAccount",
            json!({"AccountId": account, "SourceParentId": from, "DestinationParentId": to}),
        );
    }

    /// The policies on each account.
    pub(crate) fn attached(&self) -> BTreeMap<String, BTreeSet<String>> {
        self.attached_to(&self.accounts)
    }

    /// The policies on each of these; AWS gives empty pages now and then.
    pub(crate) fn attached_to(&self, targets: &[String]) -> BTreeMap<String, BTreeSet<String>> {
        let on = |id: &String| {
            let mut found = BTreeSet::new();
            let mut params = json!({"TargetId": id, "Filter": "SERVICE_CONTROL_POLICY"});
            loop {
                let page = self.call("ListPoliciesForTarget", params.clone());
                let policies = page["Policies"].as_array().expect("policies");
                found.extend(policies.iter().map(|p| text(p, "Id").to_owned()));
                match page["NextToken"].as_str() {
                    Some(token) => params["NextToken"] = token.into(),
                    None => return (id.clone(), found),
                }
            }
        };
        targets.iter().map(on).collect()
    }

    /// Where a call is held: kills the server, starts it again, and lets the call go. Which call that was.
    pub(crate) fn killed_if_held(&mut self) -> Option<String> {
        let hold = self.sim.inside().held().into_iter().next()?;
        drop(self.server.take());
        self.server = Some(self.setup.start());
        self.sim.release_all();
        Some(hold.call.rsplit(':').next().unwrap_or_default().to_owned())
    }

    /// Whether each account has one more than before.
    pub(crate) fn fenced(&self) -> Vec<bool> {
        let now = self.attached();
        self.accounts.iter().map(|id| now[id] != self.before[id]).collect()
    }
}

#[test]
fn a_stage_bakes_before_the_next_one_and_its_clock_outlives_the_server() {
    let mut org = Org::new(&[]);
    let id = org.started("bake = \"4s\"\nobservations = 2", "");
    let baking = org.reaches(&id, "baking");
    assert!(baking["why"].to_string().contains("stage canary bakes until"), "{baking}");
    assert_eq!(org.fenced(), [true, false], "not before it has baked");
    let began = text(&baking["bakes"][0], "began_at").to_owned();
    drop(org.server.take());
    org.server = Some(org.setup.start());
    let complete = org.reaches(&id, "complete");
    let bake = &complete["bakes"][0];
    assert_eq!(text(bake, "began_at"), began, "the clock is not started anew");
    assert!(bake["healthy"].as_i64() >= Some(2) && !text(bake, "done_at").is_empty(), "{bake}");
    assert_eq!(org.fenced(), [true, true]);
    let second = complete["targets"].as_array().expect("targets")[1].clone();
    let time = |text: &str| ringfence_domain::time::Time::parse(text).expect("a time").0;
    assert!(time(text(&second, "attached_at")) >= time(&began) + 4_000, "{second} {began}");
    let told = org.told();
    let target = format!("RINGFENCE_TARGETS={}", org.accounts[0]);
    for want in ["RINGFENCE_STAGE=canary", target.as_str(), "RINGFENCE_POLICY=p-"] {
        assert!(told.contains(want), "{told}");
    }
    assert!(!told.contains("ROLLOUT__HEALTH"), "nothing of the configuration: {told}");
    let shown = org.cli("ann").expect(&format!("rollout status {id}"), 0).out;
    assert!(
        shown.contains("├─ ● canary: 1 of 1 attached, 1 account, then bakes 4s at least and 2 healthy observations"),
        "{shown}"
    );
    assert!(shown.contains("healthy: no denials"), "{shown}");
}

#[test]
fn a_stage_that_does_harm_is_detached_by_itself_and_can_be_had_again() {
    let org = Org::new(&[]);
    org.healthy(1, "7 explicit denials of team-a");
    let id = org.started("bake = \"1h\"", "");
    let blocked = org.reaches(&id, "blocked");
    let why = blocked["why"].to_string();
    assert!(
        why.contains("stage canary is unhealthy") && why.contains("7 explicit denials"),
        "{why}"
    );
    assert!(why.contains("resume attaches them again"), "{why}");
    assert_eq!(org.attached(), org.before, "exactly as before");
    org.healthy(0, "none");
    org.cli("ann").expect(&format!("rollout resume {id} --reason mended"), 0);
    org.reaches(&id, "baking");
    assert_eq!(org.fenced(), [true, false]);
    // A person may end a bake, and says why.
    let none = org.cli("bob").args(&["rollout", "promote", &id, "--reason", " "]);
    assert!(none.code == 1 && none.err.contains("reason"), "{none:?}");
    until("it was seen healthy", MINUTE, || {
        let said = org.cli("ann").json(&format!("rollout status {id}"), 0);
        if said["bakes"][0]["healthy"].as_i64() > Some(0) { Ok(()) } else { Err(said.to_string()) }
    });
    org.cli("bob").expect(&format!("rollout promote {id} --reason CHG-7"), 0);
    let complete = org.reaches(&id, "complete");
    assert_eq!(text(&complete["bakes"][0], "promoted"), "bob: CHG-7");
    let over = org.cli("bob").args(&["rollout", "promote", &id, "--reason", "CHG-8"]);
    assert!(over.code == 5 && over.err.contains("no stage bakes"), "{over:?}");
    org.cli("ann").expect(&format!("rollout abort {id} --wait --timeout 60s"), 0);
    assert_eq!(org.attached(), org.before);
}

#[test]
fn harm_of_a_later_stage_takes_back_that_one_or_all() {
    for (setting, state, fenced) in
        [("stage", "blocked", [true, false]), ("all", "aborted", [false, false])]
    {
        let org = Org::new(&[("ROLLOUT__ON_UNHEALTHY", setting)]);
        let id = org.started("bake = \"1s\"", "bake = \"1h\"");
        until("the second stage bakes", MINUTE, || {
            let said = org.cli("ann").json(&format!("rollout status {id}"), 0);
            match text(&said["bakes"][1], "began_at") {
                "" => Err(said.to_string()),
                _ => Ok(()),
            }
        });
        org.healthy(1, "harm");
        let ended = org.reaches(&id, state);
        assert!(ended["why"].to_string().contains("stage rest is unhealthy"), "{ended}");
        assert_eq!(org.fenced(), fenced, "{setting}");
    }
}

#[test]
fn what_nobody_knows_is_not_healthy_and_what_others_do_meanwhile_is_seen() {
    let org = Org::new(&[]);
    org.healthy(2, "the log could not be read");
    let id = org.started("bake = \"1s\"", "");
    let paused = org.reaches(&id, "paused");
    let why = paused["why"].to_string();
    assert!(why.contains("is inconclusive") && why.contains("could not be read"), "{why}");
    assert_eq!(org.fenced(), [true, false]);
    org.healthy(0, "fine");
    org.cli("ann").expect(&format!("rollout resume {id}"), 0);
    org.reaches(&id, "complete");

    // Somebody takes it off while it bakes, and the guard says who.
    let org = Org::new(&[]);
    let id = org.started("bake = \"1h\"", "");
    let policy = text(&org.reaches(&id, "baking"), "policy_id").to_owned();
    let detach = json!({"PolicyId": policy, "TargetId": org.accounts[0]});
    let done = org.somebody("-", "organizations", "DetachPolicy", &detach);
    assert_eq!(text(&done, "code"), "", "{done}");
    let failed = org.reaches(&id, "failed");
    let why = failed["why"].to_string();
    assert!(why.contains("somebody detached it"), "{why}");
    assert!(
        why.contains(&format!("DetachPolicy on {} at ", org.accounts[0]))
            && why.contains(" by arn:aws:"),
        "{why}"
    );
    assert_eq!(org.fenced(), [false, false], "nothing more was attached");

    // And after it was complete; a resume attaches it again, and it bakes anew.
    let org = Org::new(&[("ROLLOUT__GUARD_EVERY", "1s")]);
    let id = org.started("bake = \"1s\"", "");
    let complete = org.reaches(&id, "complete");
    let policy = text(&complete, "policy_id").to_owned();
    let began = text(&complete["bakes"][0], "began_at").to_owned();
    org.call("DetachPolicy", json!({"PolicyId": policy, "TargetId": org.accounts[0]}));
    let failed = org.reaches(&id, "failed");
    let why = failed["why"].to_string();
    assert!(why.contains(&format!("no longer attached to {}", org.accounts[0])), "{why}");
    let states = |rollout: &Value| -> Vec<String> {
        let all = rollout["targets"].as_array().expect("targets").iter();
        all.map(|t| text(t, "state").to_owned()).collect()
    };
    assert_eq!(states(&failed), ["lost", "attached"]);
    let kept = failed["targets"][1]["attached_at"].clone();
    let early = org.cli("bob").args(&["rollout", "promote", &id, "--reason", "CHG-9"]);
    assert_eq!(early.code, 5, "{early:?}");
    org.cli("ann").expect(&format!("rollout resume {id} --reason agreed"), 0);
    let again = org.reaches(&id, "complete");
    assert_eq!(org.fenced(), [true, true]);
    assert_ne!(text(&again["bakes"][0], "began_at"), began, "its stage bakes anew");
    assert_eq!(again["targets"][1]["attached_at"], kept, "that one was never off");
    org.call("UpdatePolicy", json!({"PolicyId": policy, "Content": DENY_NOTHING}));
    let failed = org.reaches(&id, "failed");
    assert!(failed["why"].to_string().contains("somebody changed it"), "{failed}");

    // Nobody to ask.
    let org = Org::new(&[("ROLLOUT__HEALTH_COMMAND", "")]);
    let file = org.folder.path().join("rollout.toml");
    let target = &org.accounts[0];
    std::fs::write(&file, format!("policy = \"rds-encryption\"\n[[stage]]\nname = \"a\"\ntargets = [\"{target}\"]\nobservations = 3\n"))
        .expect("write");
    let ran = org.cli("ann").run(&format!("rollout plan -f {}", file.display()));
    assert!(ran.code == 1 && ran.err.contains("no rollout.health_command to ask"), "{ran:?}");
}

#[test]
fn an_alarm_is_harm_and_one_without_data_proves_nothing() {
    // The management account's number is the simulator's, by its seed.
    let own = Org::new(&[]).management.clone();
    let arn = format!("arn:aws:cloudwatch:us-east-1:{own}:alarm:orders-errors");
    let org = Org::new(&[("ROLLOUT__HEALTH_COMMAND", ""), ("ROLLOUT__ALARMS", &arn)]);
    let id = org.started("bake = \"1h\"", "");
    let missing = org.reaches(&id, "paused");
    assert!(missing["why"].to_string().contains("does not exist"), "{missing}");
    let alarm = |operation: &str, params: Value| {
        org.sim.change(json!({"call": {"account": org.management, "region": "us-east-1",
            "service": "cloudwatch", "operation": operation, "params": params}}));
    };
    alarm(
        "PutMetricAlarm",
        json!({"AlarmName": "orders-errors", "MetricName": "Errors", "Namespace": "Orders", "Statistic": "Sum",
            "Period": 60, "EvaluationPeriods": 1, "Threshold": 3.0, "ComparisonOperator": "GreaterThanThreshold"}),
    );
    let set = |state: &str| {
        let params =
            json!({"AlarmName": "orders-errors", "StateValue": state, "StateReason": "5 > 3"});
        alarm("SetAlarmState", params);
    };
    set("OK");
    org.cli("ann").expect(&format!("rollout resume {id}"), 0);
    until("it is seen healthy", MINUTE, || {
        let said = org.cli("ann").json(&format!("rollout status {id}"), 0);
        match text(&said["bakes"][0], "last_said") {
            "1 alarm is OK" => Ok(()),
            other => Err(other.to_owned()),
        }
    });
    assert_eq!(org.fenced(), [true, false]);
    set("ALARM");
    let blocked = org.reaches(&id, "blocked");
    let why = blocked["why"].to_string();
    assert!(why.contains("alarm orders-errors") && why.contains("5 > 3"), "{why}");
    assert_eq!(org.attached(), org.before, "exactly as before");
}

/// Harm first, then a resume to its end, then an abort; killed where a write to Organizations is held. Which that was.
fn crashed(skip: usize, effect: &str) -> Option<String> {
    let mut org = Org::new(&[]);
    let to_organizations = json!({"service": "organizations", "write": true});
    org.sim.fault(json!({"match": to_organizations, "skip": skip, "effect": effect}));
    let busy = json!({"error": {"status": 400, "code": "ConcurrentModificationException"}});
    org.sim.fault(json!({"match": to_organizations, "times": 0, "chance": 0.5, "effect": busy}));
    org.healthy(1, "harm");
    let id = org.started("bake = \"1s\"", "");
    let (mut killed, mut orders) = (None, 0);
    until("it is taken back", 2 * MINUTE, || {
        killed = org.killed_if_held().or(killed.take());
        let ran = org.cli("ann").run(&format!("rollout status {id} -o json"));
        let state =
            if ran.code == 0 { text(&ran.json(), "state").to_owned() } else { String::new() };
        match (state.as_str(), orders) {
            ("blocked", 0) => {
                assert_eq!(org.attached(), org.before, "{killed:?}: what did harm is gone");
                org.healthy(0, "fine");
                drop(org.cli("ann").run(&format!("rollout resume {id}")));
                orders = 1;
            }
            ("complete", 1) => {
                assert_eq!(org.fenced(), [true, true], "{killed:?}");
                drop(org.cli("ann").run(&format!("rollout abort {id}")));
                orders = 2;
            }
            ("aborted", 2) => return Ok(()),
            ("failed", _) => panic!("{killed:?}: {ran:?}"),
            _ => {}
        }
        Err(format!("killed at {killed:?}: {ran:?}"))
    });
    assert_eq!(org.attached(), org.before, "{killed:?}");
    let (made, refused) = org.sim.counts()["organizations:CreatePolicy"];
    assert_eq!(made - refused, 1, "{killed:?}: one policy");
    killed
}

#[test]
fn a_pause_attaches_nothing_more_until_it_is_resumed_and_a_watch_shows_each_change() {
    let org = Org::new(&[]);
    let id = org.started("bake = \"1h\"", "");
    org.reaches(&id, "baking");
    // A watch that began too late sees one state only: then another one is tried.
    let watching = until("a watch sees the pause", MINUTE, || {
        org.cli("ann").run(&format!("rollout resume {id}"));
        org.reaches(&id, "baking");
        let (eve, line) = (org.setup.clone(), format!("rollout status {id} --watch"));
        let watch = std::thread::spawn(move || eve.cli("eve").run(&line));
        for _ in 0..5 {
            org.cli("ann").json(&format!("rollout status {id}"), 0);
        }
        let paused = org.cli("ann").json(&format!("rollout pause {id} --reason lunch"), 0);
        assert_eq!(text(&paused, "state"), "paused");
        let watching = watch.join().expect("the watch");
        assert_eq!(watching.code, 0, "{watching:?}");
        match watching.out.matches("canary: 1 of 1 attached").count() {
            0 | 1 => Err(watching.out),
            _ => Ok(watching),
        }
    });
    let last = watching.out.rfind("  paused").expect("it ends as it rests");
    assert!(watching.out[last..].contains("paused by ann: lunch; resume goes on"), "{watching:?}");
    // Its bake is over, and still nothing is attached.
    org.cli("bob").expect(&format!("rollout promote {id} --reason seen"), 0);
    // Another one is carried out meanwhile: whoever takes steps has looked.
    let policy = DENY_NOTHING.replace("StopDBCluster", "DeleteOptionGroup");
    std::fs::write(org.folder.path().join("other.json"), policy).expect("write");
    let toml = format!(
        "policy = \"other.json\"\n[[stage]]\nname = \"x\"\ntargets = [\"{}\"]\n",
        org.accounts[0]
    );
    let other = org.begun(&toml);
    org.reaches(&other, "complete");
    let waits = org.cli("ann").json(&format!("rollout status {id}"), 0);
    assert_eq!(text(&waits["targets"][1], "state"), "waiting", "{waits}");
    assert_eq!(org.fenced(), [true, false]);
    org.cli("ann").expect(&format!("rollout resume {id}"), 0);
    org.reaches(&id, "complete");
    assert_eq!(org.fenced(), [true, true]);
}

#[test]
fn a_crash_at_any_write_ends_in_the_same_organization() {
    let points = crash_points("a rollout that bakes", 3, |(nth, effect)| crashed(nth, effect));
    assert!(points >= 4, "{points}");
}
