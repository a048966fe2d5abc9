//! Freezes: nothing is changed in AWS while one lasts, whatever was ordered before, through kills.

use crate::stage::{MINUTE, Stage, groups, text};
use ringfence_tests::emulator::Sim;
use ringfence_tests::process::{Cli, Setup};
use ringfence_tests::until;
use serde_json::{Value, json};

const TO: &str = "--to 2099-01-01 --reason year-end";

fn freeze(cli: &Cli, flags: &str) -> String {
    let made = cli.json(&format!("freeze add {TO} {flags}"), 0);
    assert_eq!(made["state"], "active", "{made}");
    text(&made, "id").to_owned()
}

fn waits(stage: &Stage, id: &str) -> Value {
    until(&format!("{id} waits"), MINUTE, || {
        let rem = stage.get(id);
        let frozen = text(&rem, "why").starts_with("frozen until 2099-01-01T00:00:00Z by bob");
        if frozen { Ok(rem) } else { Err(rem.to_string()) }
    })
}

#[test]
fn while_frozen_nothing_is_changed_and_afterwards_work_goes_on() {
    let mut stage = Stage::new();
    stage.instance("orders");
    stage.start(&[]);
    let (ann, bob) = (stage.cli("ann"), stage.cli("bob"));
    stage.sim.fault(json!({"match": {"operation": "CopyDBSnapshot"}, "effect": "hold-before"}));
    let made = stage.apply("");
    let id = &made["orders"];
    stage.sim.held(MINUTE);
    // It has asked for the copy already; what follows waits.
    let fr = freeze(&bob, "");
    stage.sim.release_all();
    let rem = waits(&stage, id);
    assert_eq!(rem["state"], "running", "{rem}");
    let before = stage.sim.rds_writes();
    stage.kill_and_start();
    waits(&stage, id);
    // Whoever lifts it says why; scans go on, orders are refused, and all of it is said.
    ann.expect("scan start --wait --timeout 60s", 0);
    let refused = ann.args(&["remediation", "cancel", id, "--reason", "not now"]);
    assert_eq!(refused.code, 0, "a cancel is no change yet: {refused:?}");
    let status = ann.expect("status", 0).out;
    assert!(
        status.contains("frozen        everywhere until 2099-01-01T00:00:00Z by bob: year-end")
    );
    let none = ann.run(&format!("freeze lift {fr} --reason "));
    assert_eq!(none.code, 64, "{none:?}");
    assert_eq!(stage.sim.rds_writes(), before, "nothing was changed meanwhile");
    ann.expect(&format!("freeze lift {fr} --reason over"), 0);
    let again = ann.run(&format!("freeze lift {fr} --reason over"));
    assert!(again.code == 5 && again.err.contains("lifted already"), "{again:?}");
    stage.reaches(id, "cancelled");
    assert_eq!(stage.snapshots(), Vec::<String>::new(), "its scratch is gone");
    // Frozen elsewhere is not frozen here.
    let elsewhere = if stage.region == "us-east-1" { "eu-west-1" } else { "us-east-1" };
    freeze(&bob, &format!("--region {elsewhere}"));
    ann.args(&["remediation", "retry", id, "--reason", "now"]);
    stage.reaches(id, "verified");
    let list = ann.json("freeze list", 0);
    assert_eq!(list["freezes"].as_array().map(Vec::len), Some(1), "{list}");
    let all = ann.json("freeze list --all", 0);
    let lifted =
        all["freezes"].as_array().expect("freezes").iter().find(|f| f["id"] == fr.as_str());
    assert_eq!(lifted.map(|f| text(f, "lifted_reason")), Some("over"), "{all}");
}

#[test]
fn a_swap_under_way_is_brought_to_its_end_unless_the_freeze_says_no() {
    let mut stage = Stage::new();
    stage.instance("orders");
    stage.start(&[]);
    let (ann, bob) = (stage.cli("ann"), stage.cli("bob"));
    let made = stage.apply("--strategy swap --quiesce isolate");
    let id = &made["orders"];
    until("orders is cut off", MINUTE, || {
        let orders = stage.describe()["orders"].clone();
        let cut = groups(&orders) == [stage.isolation.as_str()];
        if cut { Ok(()) } else { Err(orders.to_string()) }
    });
    let hard = freeze(&bob, "--midway");
    waits(&stage, id);
    let before = stage.sim.rds_writes();
    freeze(&bob, "");
    ann.expect(&format!("freeze lift {hard} --reason too-hard"), 0);
    stage.reaches(id, "verified");
    assert!(stage.sim.rds_writes() > before);
    // Its application waits for the cutover.
    stage.order("cutover", id, 0);
    stage.reaches(id, "cut_over");
    let orders = stage.describe()["orders"].clone();
    assert_eq!(groups(&orders), [stage.own.as_str()], "open to its own clients");
    // The way back begins something new.
    let refused = stage.order("rollback", id, 5);
    assert!(refused.contains("frozen until") && refused.contains("freeze lift"), "{refused}");
}

#[test]
fn bad_freezes_are_refused_by_name() {
    let mut stage = Stage::new();
    stage.instance("orders");
    stage.start(&[]);
    let ann = stage.cli("ann");
    for (flags, code, want) in [
        ("--to yesterday --reason r", 1, "--to `yesterday`"),
        ("--to 2001-01-01 --reason r", 1, "must be after --from and after now"),
        ("--from 2098-01-01 --to 2097-01-01 --reason r", 1, "must be after --from"),
        (
            "--to 2099-01-01 --reason r --account 999999999999",
            1,
            "999999999999 is not in the organization",
        ),
        ("--to 2099-01-01", 64, "--reason"),
    ] {
        let ran = ann.run(&format!("freeze add {flags}"));
        assert!(ran.code == code && ran.err.contains(want), "{flags}: {ran:?}");
    }
    let dry = ann.expect("freeze add --to 2099-01-01 --reason r --dry-run", 0);
    assert!(dry.out.contains("nothing was stored"), "{dry:?}");
    assert_eq!(ann.json("freeze list --all", 0)["freezes"], json!([]));
    // A freeze of the future holds nothing yet.
    ann.expect("freeze add --from 2098-01-01 --to 2099-01-01 --reason r", 0);
    let made = stage.apply("");
    stage.reaches(&made["orders"], "verified");
}

#[test]
fn while_frozen_no_scp_is_attached_and_one_is_taken_off() {
    let folder = tempfile::tempdir().expect("a folder");
    let sim = Sim::plain(3, 1, 0.0, &["--seed", "5"]);
    let mut setup = Setup::new(&sim.url(), folder.path());
    for key in ["RINGFENCE_AWS__REGIONS", "RINGFENCE_AWS__EXTERNAL_ID"] {
        setup.set(key, "");
    }
    let _server = setup.start();
    let (ann, bob) = (setup.cli("ann"), setup.cli("bob"));
    ann.expect("org sync", 0);
    ann.expect("scan start --wait --timeout 60s", 0);
    let nodes = ann.json("org tree", 0)["nodes"].as_array().cloned().expect("nodes");
    let one = |is: &dyn Fn(&Value) -> bool| {
        text(nodes.iter().find(|n| is(n)).expect("a node"), "id").to_owned()
    };
    let account = one(&|n| n["kind"] == "account" && n["management"] == false);
    let root = one(&|n| n["kind"] == "root");
    let file = folder.path().join("rollout.toml");
    let toml = format!(
        "policy = \"rds-encryption\"\n[[stage]]\nname = \"a\"\ntargets = [\"{account}\"]\n"
    );
    std::fs::write(&file, toml).expect("write the file");
    let made = ann.json(&format!("rollout plan -f {}", file.display()), 0);
    let id = text(&made, "id").to_owned();
    bob.expect(&format!("approve {id} --reason CHG-1"), 0);
    let attached = || {
        let n = |operation: &str| sim.done(&format!("organizations:{operation}"));
        (n("CreatePolicy"), n("AttachPolicy"), n("DetachPolicy"))
    };
    let is = |want: &str, why: &str| {
        until(&format!("the rollout is {want}"), MINUTE, || {
            let rollout = ann.json(&format!("rollout status {id}"), 0);
            let said = rollout["why"].to_string();
            if rollout["state"] == want && said.contains(why) {
                Ok(())
            } else {
                Err(rollout.to_string())
            }
        });
    };
    let first = freeze(&bob, "");
    ann.expect(&format!("rollout start {id}"), 0);
    is("running", "frozen until 2099-01-01T00:00:00Z by bob: year-end");
    assert_eq!(attached(), (0, 0, 0), "nothing was changed");
    // An OU above it holds it too.
    let second = freeze(&bob, &format!("--ou {}", root));
    ann.expect(&format!("freeze lift {first} --reason over"), 0);
    is("running", &second);
    assert_eq!(attached(), (0, 0, 0));
    ann.expect(&format!("freeze lift {second} --reason over"), 0);
    is("complete", "");
    freeze(&bob, &format!("--account {account}"));
    ann.expect(&format!("rollout abort {id}"), 0);
    is("aborted", "");
    assert_eq!(attached(), (1, 1, 1), "a way back stays open");
}
