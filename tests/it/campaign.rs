//! Many remediations at once: limits, failures, and what a person says to them.

use ringfence_tests::emulator::Sim;
use ringfence_tests::process::{Cli, Setup};
use ringfence_tests::{Guard, until};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

/// A simulated organization whose databases are scanned, and a plan for all of them, approved.
struct Stage {
    sim: Sim,
    setup: Setup,
    server: Option<Guard>,
    ann: Cli,
    plan: String,
    _folder: tempfile::TempDir,
}

impl Stage {
    fn new(accounts: u32, instances: &str, settings: &[(&str, &str)]) -> Stage {
        let folder = tempfile::tempdir().expect("a folder");
        let more = ["--seed", "3", "--instances", instances, "--time-scale", "20000"];
        let sim = Sim::plain(accounts, 1, 1.0, &more);
        let mut setup = Setup::new(&sim.url(), folder.path());
        setup.set("RINGFENCE_AWS__REGIONS", "");
        setup.set("RINGFENCE_AWS__EXTERNAL_ID", "");
        for (key, value) in settings {
            setup.set(&format!("RINGFENCE_REMEDIATION__{key}"), value);
        }
        let server = setup.start();
        let (ann, bob) = (setup.cli("ann"), setup.cli("bob"));
        ann.expect("org sync", 0);
        ann.expect("scan start --wait --timeout 60s", 0);
        let plan = ann.json("plan create --all", 0)["id"].as_str().expect("a plan").to_owned();
        bob.expect(&format!("approve {plan} --reason CHG-1"), 0);
        Stage { sim, setup, server: Some(server), ann, plan, _folder: folder }
    }

    fn kill_and_start(&mut self) {
        drop(self.server.take());
        self.server = Some(self.setup.start());
    }

    fn list(&self) -> Vec<Value> {
        let list = self.ann.json(&format!("remediation list --plan {}", self.plan), 0);
        list["remediations"].as_array().expect("remediations").clone()
    }

    fn get(&self, id: &str) -> Value {
        self.ann.json(&format!("remediation get {id}"), 0)
    }

    /// An order; its exit code is `code`.
    fn order(&self, verb: &str, id: &str, code: i32) -> String {
        let ran = self.ann.args(&["remediation", verb, id, "--reason", "because"]);
        assert_eq!(ran.code, code, "{verb} {id}: {ran:?}");
        ran.err
    }

    fn states(&self) -> BTreeMap<String, usize> {
        let mut states = BTreeMap::new();
        for rem in self.list() {
            *states.entry(rem["state"].as_str().expect("a state").to_owned()).or_default() += 1;
        }
        states
    }

    fn reaches(&self, id: &str, state: &str) -> Value {
        until(&format!("{id} is {state}"), MINUTE, || {
            let rem = self.get(id);
            if rem["state"] == state { Ok(rem) } else { Err(rem.to_string()) }
        })
    }

    /// Waits until so many are verified.
    fn verifies(&self, many: usize, most: Duration) {
        until(&format!("{many} are verified"), most, || {
            let states = self.states();
            if states.get("verified") == Some(&many) { Ok(()) } else { Err(format!("{states:?}")) }
        });
    }

    /// Calls by operation, in all.
    fn calls(&self, operation: &str) -> u64 {
        self.sim.counts().get(&format!("rds:{operation}")).map_or(0, |(n, _)| *n)
    }

    /// Every snapshot that was made was deleted again; so many deletions were refused.
    fn no_scratch(&self, refused: u64) {
        let made = self.calls("CreateDBSnapshot") + self.calls("CopyDBSnapshot");
        assert_eq!(made, self.calls("DeleteDBSnapshot") - refused, "snapshots that were left");
    }
}

fn text<'a>(rem: &'a Value, field: &str) -> &'a str {
    rem[field].as_str().unwrap_or_default()
}

#[test]
fn no_place_has_more_at_work_than_its_limit() {
    let settings = [("MAX_RUNNING", "3"), ("MAX_RUNNING_PER_CELL", "2")];
    let stage = Stage::new(3, "10", &settings);
    let all = stage.list().len();
    assert_eq!(all, 0);
    stage.ann.expect(&format!("remediation apply {}", stage.plan), 0);
    let mut most = 0;
    until("all are verified", 2 * MINUTE, || {
        let list = stage.list();
        let running: Vec<&Value> = list.iter().filter(|r| r["state"] == "running").collect();
        let mut cells: BTreeMap<&str, usize> = BTreeMap::new();
        for rem in &running {
            *cells.entry(text(rem, "account")).or_default() += 1;
        }
        assert!(running.len() <= 3 && cells.values().all(|n| *n <= 2), "{cells:?}");
        most = most.max(running.len());
        let verified = list.iter().all(|r| r["state"] == "verified");
        if verified && list.len() > 6 { Ok(()) } else { Err(format!("{:?}", stage.states())) }
    });
    assert_eq!(most, 3, "the places are used");
    stage.no_scratch(0);
}

#[test]
fn copies_wait_for_their_turn_in_a_region() {
    let settings = [("MAX_RUNNING_PER_CELL", "20")];
    let stage = Stage::new(1, "10", &settings);
    stage.sim.inside().world().settings.rds_copies = 0;
    let begun = stage.ann.json(&format!("remediation apply {}", stage.plan), 0);
    let all = begun["remediations"].as_array().expect("remediations").len();
    until("all wait", MINUTE, || {
        let list = stage.list();
        let full = |r: &&Value| text(r, "why").contains("SnapshotQuotaExceeded");
        let wait = list.iter().filter(full).all(|r| r["state"] == "running");
        if wait && list.iter().filter(full).count() == all {
            Ok(())
        } else {
            Err(format!("{list:?}"))
        }
    });
    stage.sim.inside().world().settings.rds_copies = 20;
    stage.verifies(all, 2 * MINUTE);
    assert!(all > 2 && stage.calls("CopyDBSnapshot") > all as u64, "all were refused at first");
    assert_eq!(stage.calls("CreateDBSnapshot"), all as u64, "and nothing was made anew for it");
}

#[test]
fn failures_hold_the_rest_back_until_a_person_has_looked() {
    let settings = [("MAX_RUNNING", "1"), ("FAILURE_BUDGET", "1")];
    let stage = Stage::new(3, "10", &settings);
    let denied = json!({"error": {"status": 403, "code": "AccessDenied"}});
    let rule = json!({"match": {"service": "rds", "operation": "CreateDBSnapshot"}, "times": 2, "effect": denied});
    stage.sim.fault(rule);
    let ran = stage.ann.run(&format!("remediation apply {} --wait --timeout 60s", stage.plan));
    assert_eq!(ran.code, 6, "{ran:?}");
    assert!(ran.err.contains(&format!("ringfence remediation resume {}", stage.plan)), "{ran:?}");
    let states = stage.states();
    let all: usize = states.values().sum();
    assert_eq!(states, BTreeMap::from([("stopped".into(), 2), ("paused".into(), all - 2)]));
    let list = stage.list();
    let held = list.iter().find(|r| r["state"] == "paused").expect("one is held");
    assert!(text(held, "why").contains("2 of") && text(held, "why").contains("2 denied"), "{held}");
    let stopped = list.iter().find(|r| r["state"] == "stopped").expect("one stopped");
    assert_eq!(stopped["failure"], "denied");
    stage.order("resume", &stage.plan, 0);
    stage.verifies(all - 2, 2 * MINUTE);
    stage.order("retry", &stage.plan, 0);
    stage.verifies(all, MINUTE);
    // Two of the calls that would have made one were refused.
    let made = stage.calls("CreateDBSnapshot") - 2 + stage.calls("CopyDBSnapshot");
    assert_eq!(made, stage.calls("DeleteDBSnapshot"), "snapshots that were left");
    let refused = stage.order("retry", &stage.plan, 5);
    assert!(refused.contains(&format!("nothing to retry ({all} verified)")), "{refused}");
}

#[test]
fn one_is_paused_cancelled_and_retried_through_kills_while_the_others_go_on() {
    // One account: all its databases are in one cell, and worked on one after the other.
    let mut stage = Stage::new(1, "20", &[]);
    let hold = |operation: &str, at: &str| json!({"match": {"service": "rds", "operation": operation}, "effect": format!("hold-{at}")});
    // The first snapshot's call is held until its remediation is paused.
    stage.sim.fault(hold("CreateDBSnapshot", "before"));
    stage.ann.expect(&format!("remediation apply {}", stage.plan), 0);
    stage.sim.held(MINUTE);
    let list = stage.list();
    let asked = |r: &&Value| r["steps"].as_array().is_some_and(|s| !s.is_empty());
    assert_eq!(list.iter().filter(asked).count(), 1, "{list:?}");
    let one = text(list.iter().find(asked).expect("one has begun"), "id").to_owned();
    let others = list.len() - 1;
    assert!(others >= 1, "{list:?}");
    stage.order("pause", &one, 0);
    assert!(text(&stage.get(&one), "why").starts_with("paused by ann: because"));
    stage.sim.release_all();
    stage.verifies(others, MINUTE);
    // The cell was looked at all the time, and nothing more was asked for the one that is paused.
    assert_eq!(stage.get(&one)["state"], "paused");
    assert_eq!(stage.calls("CreateDBSnapshot"), others as u64 + 1);
    assert_eq!(stage.calls("CopyDBSnapshot"), others as u64);

    // Its snapshot cannot be deleted at first: the cancel says so, and can be repeated.
    let denied = json!({"error": {"status": 403, "code": "AccessDenied"}});
    let rule = json!({"match": {"service": "rds", "operation": "DeleteDBSnapshot"}, "times": 1, "effect": denied});
    stage.sim.fault(rule);
    stage.order("cancel", &one, 0);
    let rem = stage.reaches(&one, "stopped");
    assert_eq!(rem["failure"], "denied", "{rem}");
    stage.sim.fault(hold("DeleteDBSnapshot", "after"));
    stage.order("cancel", &one, 0);
    stage.sim.held(MINUTE);
    stage.kill_and_start();
    stage.sim.release_all();
    let rem = stage.reaches(&one, "cancelled");
    assert!(text(&rem, "why").starts_with("cancelled by ann: because"), "{rem}");
    stage.no_scratch(1);
    let refused = stage.order("cancel", &one, 5);
    assert!(refused.contains("nothing to cancel (1 cancelled)"), "{refused}");

    // A plan's retry is for what failed, not for what a person did not want.
    let refused = stage.order("retry", &stage.plan, 5);
    assert!(refused.contains("nothing to retry"), "{refused}");
    stage.sim.fault(hold("CreateDBSnapshot", "after"));
    stage.order("retry", &one, 0);
    stage.sim.held(MINUTE);
    stage.kill_and_start();
    stage.sim.release_all();
    stage.reaches(&one, "verified");
    stage.no_scratch(1);
    assert_eq!(stage.calls("CreateDBSnapshot"), others as u64 + 2, "none twice");
    assert_eq!(stage.calls("RestoreDBInstanceFromDBSnapshot"), others as u64 + 1, "one twin each");
    let log = stage.ann.run(&format!("audit list --subject {one} -o json"));
    for action in ["pause", "cancel", "cancelled", "retry"] {
        assert!(log.out.contains(&format!("\"remediation.{action}\"")), "{action}: {}", log.out);
    }
}

#[test]
fn orders_that_make_no_sense_change_nothing() {
    let stage = Stage::new(2, "7", &[("MAX_RUNNING", "1")]);
    let run = |args: &[&str]| {
        let ran = stage.ann.args(args);
        (ran.code, ran.err)
    };
    let plan = stage.plan.as_str();
    let (code, err) = run(&["remediation", "pause", plan, "--reason", " "]);
    assert!(code == 1 && err.contains("reason: say why"), "{code} {err}");
    let (code, err) = run(&["remediation", "cancel", "rem-nobody", "--reason", "x"]);
    assert!(code == 1 && err.contains("there is no remediation `rem-nobody`"), "{code} {err}");
    let (code, err) = run(&["remediation", "resume", plan, "--reason", "x"]);
    assert!(code == 5 && err.contains("nothing to resume (no remediation)"), "{code} {err}");
    let (code, err) = run(&["remediation", "apply", plan, "--priority", "101"]);
    assert!(code == 1 && err.contains("priority: it must be 0 to 100"), "{code} {err}");
    let first = json!({"match": {"service": "rds", "write": true}, "effect": "hold-before"});
    stage.sim.fault(first);
    stage.ann.expect(&format!("remediation apply {plan} --priority 7"), 0);
    stage.sim.held(MINUTE);
    let (code, err) = run(&["remediation", "pause", plan, "--reason", "x", "--dry-run"]);
    assert!(code == 0 && err.contains("nothing was changed"), "{code} {err}");
    assert!(!stage.states().contains_key("paused"));
    assert!(stage.list().iter().all(|r| r["priority"] == 7));
    stage.order("pause", plan, 0);
    assert_eq!(stage.states().keys().collect::<Vec<_>>(), ["paused"]);
    stage.sim.release_all();
}
