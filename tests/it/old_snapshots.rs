//! Old snapshots: found when asked for, planned apart, copied encrypted, and deleted on an approval of their own.

use crate::stage::{MINUTE, Stage, text};
use crate::sweep::{at_rest, crash_points, cruel};
use ringfence_tests::emulator::Emulator;
use ringfence_tests::process::{Cli, Ran, Setup};
use ringfence_tests::{script, until};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const SCAN: &str = "scan start --snapshots --wait --timeout 60s";

impl Stage {
    /// A snapshot of `orders` that nobody encrypted.
    fn old(&self, name: &str) {
        self.call(
            "rds",
            "CreateDBSnapshot",
            json!({"DBSnapshotIdentifier": name,
            "DBInstanceIdentifier": "orders", "Tags": [{"Key": "keep", "Value": "7y"}]}),
        );
        until("it is taken", MINUTE, || {
            let status = self.snapshot(name)["Status"].to_string();
            if status == "\"available\"" { Ok(()) } else { Err(status) }
        });
        self.available("orders");
    }

    /// As AWS shows it; null if it is not there.
    fn snapshot(&self, name: &str) -> Value {
        let all = self.call("rds", "DescribeDBSnapshots", json!({}));
        let list = all["DBSnapshots"].as_array().expect("snapshots");
        list.iter().find(|s| s["DBSnapshotIdentifier"] == name).cloned().unwrap_or_default()
    }

    /// Plans all that was found, approves it, applies it; the remediations by the snapshot's name. With a crash
    /// point everything is cruel from then on.
    fn copy_all(&self, hold: Option<(usize, &str)>) -> BTreeMap<String, String> {
        let plan = self.planned_after(SCAN, "--snapshots");
        if let Some((skip, effect)) = hold {
            self.hold_write(skip, effect);
            cruel(self);
        }
        self.applied(&plan)
    }
}

fn decommission(ann: &Cli, id: &str, name: &str) -> Ran {
    ann.args(&["remediation", "decommission", id, "--confirm", name, "--reason", "kept as a copy"])
}

/// Asked for, approved by two, ordered.
fn end(ann: &Cli, others: [Cli; 2], id: &str, name: &str) {
    let asked = decommission(ann, id, name);
    assert!(asked.code == 5 && asked.err.contains("2 others must approve"), "{asked:?}");
    for other in others {
        other.expect(&format!("approve {id} --reason CHG-2"), 0);
    }
    assert_eq!(decommission(ann, id, name).code, 0);
}

#[test]
fn they_are_found_on_request_copied_and_decommissioned() {
    let mut stage = Stage::new();
    stage.instance("orders");
    stage.cluster("ledger", &["ledger-1"]);
    stage.old("monthly");
    stage.old("yearly");
    let of_ledger =
        json!({"DBClusterSnapshotIdentifier": "ledger-old", "DBClusterIdentifier": "ledger"});
    stage.call("rds", "CreateDBClusterSnapshot", of_ledger);
    stage.call(
        "rds",
        "ModifyDBSnapshotAttribute",
        json!({"DBSnapshotIdentifier": "yearly",
        "AttributeName": "restore", "ValuesToAdd": ["all"]}),
    );
    stage.start(&[]);
    let (ann, bob) = (stage.cli("ann"), stage.cli("bob"));
    // Not unless they are asked for.
    ann.expect("scan start --wait --timeout 60s", 0);
    let calls = stage.sim.done("rds:DescribeDBSnapshots");
    let none = ann.run("plan create --all --snapshots");
    assert!(none.code == 5 && none.err.contains("scan start --snapshots"), "{none:?}");
    let scan = ann.expect(SCAN, 0).out;
    assert!(scan.contains("2 unencrypted databases\n3 unencrypted snapshots"), "{scan}");
    assert!(stage.sim.done("rds:DescribeDBSnapshots") > calls);
    let list = ann.expect("finding list", 0).out;
    assert_eq!(list.matches("  snapshot").count(), 3, "{list}");
    assert!(list.contains("of orders, taken"), "{list}");
    assert!(list.contains("Z, PUBLIC"), "{list}");
    let status = ann.expect("status", 0).out;
    assert!(status.contains("2 open (1 instances, 1 clusters)"), "databases only: {status}");
    assert!(status.contains("old snapshots 3 unencrypted"), "{status}");
    // Databases and snapshots are never in one plan.
    let databases = ann.json("plan create --all --dry-run", 0);
    assert_eq!(databases["items"].as_array().map(Vec::len), Some(2), "{databases}");
    let found = ann.json("finding list", 0);
    let id_of = |name: &str| {
        let all = found["findings"].as_array().expect("findings");
        text(all.iter().find(|f| f["name"] == name).expect(name), "id").to_owned()
    };
    for (flags, want) in [
        (format!("--finding {}", id_of("monthly")), "plan it with --snapshots"),
        (format!("--finding {} --snapshots", id_of("orders")), "plan it without --snapshots"),
    ] {
        let mixed = ann.run(&format!("plan create {flags}"));
        assert!(mixed.code == 1 && mixed.err.contains(want), "{mixed:?}");
    }
    let plan = ann.expect("plan create --all --snapshots --dry-run", 0).out;
    for part in [
        "2 to encrypt, 1 blocked",
        "ledger-old is of a cluster: AWS encrypts no copy",
        "yearly is PUBLIC",
        "copy  encrypted-monthly",
        "For every copy:",
    ] {
        assert!(plan.contains(part), "{part}: {plan}");
    }

    let before = [stage.snapshot("monthly"), stage.snapshot("yearly")];
    let made = stage.copy_all(None);
    assert_eq!(made.keys().collect::<Vec<_>>(), ["monthly", "yearly"]);
    for name in ["monthly", "yearly"] {
        let rem = stage.reaches(&made[name], "verified");
        assert!(text(&rem, "why").contains("on: ringfence remediation decommission rem-"), "{rem}");
        let copy = stage.snapshot(&format!("encrypted-{name}"));
        assert_eq!(text(&copy, "StorageEncryptionType"), "sse-kms");
        let tags: BTreeMap<&str, &str> = copy["TagList"]
            .as_array()
            .expect("tags")
            .iter()
            .map(|t| (text(t, "Key"), text(t, "Value")))
            .collect();
        let want = [("keep", "7y"), ("ringfence:remediation", made[name].as_str())];
        assert_eq!(tags, want.into(), "its tags, and ours");
    }
    assert_eq!(before, [stage.snapshot("monthly"), stage.snapshot("yearly")], "nothing changed");

    // A scan that does not look for them says nothing of them; one that does shows that a copy stands.
    for (scan, held) in [("scan start --wait --timeout 60s", 2), (SCAN, 2)] {
        let said = ann.expect(scan, 0).out;
        assert!(said.contains("2 unencrypted databases"), "{said}");
        assert_eq!(said.contains("3 unencrypted snapshots"), scan == SCAN, "{said}");
        let list = ann.expect("finding list", 0).out;
        assert_eq!(list.matches("held-original").count(), held, "{scan}: {list}");
        assert_eq!(list.matches("  snapshot").count(), 3, "{scan}: {list}");
    }
    let (monthly, yearly) = (&made["monthly"], &made["yearly"]);
    for verb in ["cutover", "rollback", "discard"] {
        stage.order(verb, monthly, 5);
    }
    let wrong = decommission(&ann, monthly, "encrypted-monthly");
    assert!(wrong.code == 1 && wrong.err.contains("type its name: monthly"), "{wrong:?}");
    end(&ann, [bob, stage.cli("eve")], monthly, "monthly");
    stage.reaches(monthly, "decommissioned");
    assert_eq!(stage.snapshot("monthly"), Value::Null);
    assert_eq!(text(&stage.snapshot("encrypted-monthly"), "Status"), "available");
    ann.expect(SCAN, 0);
    let list = ann.expect("finding list", 0).out;
    assert!(!list.contains("monthly") && list.contains("yearly"), "{list}");

    // Never the last copy.
    stage.call("rds", "DeleteDBSnapshot", json!({"DBSnapshotIdentifier": "encrypted-yearly"}));
    end(&ann, [stage.cli("bob"), stage.cli("eve")], yearly, "yearly");
    let stopped = stage.reaches(yearly, "stopped");
    assert!(text(&stopped, "why").contains("is gone: nothing is deleted"), "{stopped}");
    assert_eq!(text(&stage.snapshot("yearly"), "Status"), "available");
    ann.expect(SCAN, 0);
    let list = ann.expect("finding list", 0).out;
    assert!(!list.contains("held-original"), "it can be planned again: {list}");
}

#[test]
fn nothing_is_deleted_where_something_speaks_against_it() {
    let mut stage = Stage::new();
    stage.instance("orders");
    for name in ["denied", "held", "keyless", "waived"] {
        stage.old(name);
    }
    stage.start(&[("APPROVALS__DECOMMISSION", "1")]);
    let ann = stage.cli("ann");
    let made = stage.copy_all(None);
    for id in made.values() {
        stage.reaches(id, "verified");
    }
    let ask = |name: &str| {
        let id = &made[name];
        assert_eq!(decommission(&ann, id, name).code, 5);
        stage.cli("bob").expect(&format!("approve {id} --reason CHG-2"), 0);
        decommission(&ann, id, name)
    };
    let there = |name: &str| text(&stage.snapshot(name), "Status") == "available";
    // A waiver comes first.
    let found = ann.json("finding list", 0);
    let all = found["findings"].as_array().expect("findings");
    let finding = text(all.iter().find(|f| f["name"] == "waived").expect("it"), "id");
    let waive = format!("finding waive {finding} --owner legal --reason case-7 --until 2099-01-01");
    ann.expect(&waive, 0);
    let refused = decommission(&ann, &made["waived"], "waived");
    assert!(refused.code == 5 && refused.err.contains("is waived until 2099"), "{refused:?}");
    // So does a tag that somebody put on it since.
    let arn = text(&stage.snapshot("held"), "DBSnapshotArn").to_owned();
    let tag = json!([{"Key": "legal-hold", "Value": "true"}]);
    stage.call("rds", "AddTagsToResource", json!({"ResourceName": arn, "Tags": tag}));
    assert_eq!(ask("held").code, 0);
    let stopped = stage.reaches(&made["held"], "stopped");
    assert!(text(&stopped, "why").contains("tag legal-hold is true"), "{stopped}");
    // A key that is about to go takes the copy with it.
    let key = text(&stage.snapshot("encrypted-keyless"), "KmsKeyId").to_owned();
    stage.call("kms", "DisableKey", json!({"KeyId": key}));
    assert_eq!(ask("keyless").code, 0);
    until("it waits for the key", MINUTE, || {
        let rem = stage.get(&made["keyless"]);
        if text(&rem, "why").contains("disabled") { Ok(()) } else { Err(rem.to_string()) }
    });
    assert!(there("held") && there("keyless") && there("waived"), "nothing is deleted");
    stage.call("kms", "EnableKey", json!({"KeyId": key}));
    stage.reaches(&made["keyless"], "decommissioned");
    // What AWS refuses stops, once, and gives nothing up.
    let denied = json!({"error": {"status": 403, "code": "AccessDenied"}});
    let fault =
        stage.sim.fault(json!({"match": {"operation": "DeleteDBSnapshot"}, "effect": denied}));
    assert_eq!(ask("denied").code, 0);
    let stopped = stage.reaches(&made["denied"], "stopped");
    assert!(!text(&stopped, "why").contains("taken down"), "{stopped}");
    assert!(there("denied") && there("encrypted-denied"), "{stopped}");
    stage.sim.remove_fault(fault);
    stage.order("retry", &made["denied"], 0);
    stage.reaches(&made["denied"], "decommissioned");
}

#[test]
fn snapshots_that_cannot_be_read_say_nothing_of_databases() {
    let mut stage = Stage::new();
    stage.instance("orders");
    stage.old("monthly");
    stage.start(&[]);
    let ann = stage.cli("ann");
    ann.expect(SCAN, 0);
    let denied = json!({"error": {"status": 403, "code": "AccessDenied"}});
    stage.sim.fault(json!({"match": {"operation": "DescribeDBSnapshots"}, "effect": denied}));
    let partial = ann.expect(SCAN, 3).out;
    assert!(partial.contains("1 unencrypted databases\n1 unencrypted snapshots"), "{partial}");
    assert!(partial.contains("! the snapshots of 1 cells could not be read: rds:"), "{partial}");
    let list = ann.expect("finding list", 0).out;
    assert!(list.contains("monthly"), "what was known stays known: {list}");
    let status = ann.expect("status", 0).out;
    assert!(!status.contains("not answered"), "{status}");
    let plan = ann.expect("plan create --all --snapshots --dry-run", 0).out;
    assert!(plan.contains("blocked: the snapshots of its region could not be read"), "{plan}");
}

/// Both snapshots are copied, and both old ones deleted. The process is killed where a call is held; which call
/// that was, and the world at the end.
fn run(hold: Option<(usize, &str)>) -> (Option<String>, BTreeMap<String, String>) {
    let mut stage = Stage::new();
    stage.instance("orders");
    stage.old("monthly");
    stage.old("yearly");
    stage.start(&[
        ("APPROVALS__DECOMMISSION", "1"),
        ("REMEDIATION__POLL", "100ms"),
        ("REMEDIATION__EXPECT_FOR", "1s"),
    ]);
    let made = stage.copy_all(hold);
    let mut killed = None;
    until("both are decommissioned", 2 * MINUTE, || {
        killed = stage.kill_where_held().or(killed.take());
        let ann = stage.cli("ann");
        let mut states = Vec::new();
        for (name, id) in &made {
            let shown = ann.run(&format!("remediation get {id} -o json"));
            let rem = if shown.code == 0 { shown.json() } else { Value::Null };
            if rem["state"] == "verified" && decommission(&ann, id, name).code == 5 {
                stage.cli("bob").run(&format!("approve {id} --reason CHG-2"));
            }
            assert_ne!(rem["state"], "stopped", "{hold:?}: {rem}");
            states.push(rem["state"].clone());
        }
        if states.iter().all(|s| *s == "decommissioned") {
            Ok(())
        } else {
            Err(format!("{states:?}"))
        }
    });
    let world = at_rest(|| {
        let all = stage.call("rds", "DescribeDBSnapshots", json!({}));
        let all = all["DBSnapshots"].as_array().expect("snapshots").clone();
        let tags = |s: &Value| s["TagList"].as_array().map(Vec::len);
        let show =
            |s: &Value| format!("{} {} {:?}", s["Status"], s["StorageEncryptionType"], tags(s));
        all.iter().map(|s| (text(s, "DBSnapshotIdentifier").to_owned(), show(s))).collect()
    });
    assert_eq!(stage.sim.done("rds:CopyDBSnapshot"), 2, "{hold:?}: none twice");
    (killed, world)
}

#[test]
fn a_crash_at_any_write_ends_in_the_same_world() {
    let (_, want) = run(None);
    assert_eq!(want.keys().collect::<Vec<_>>(), ["encrypted-monthly", "encrypted-yearly"]);
    let points = crash_points("old snapshots", 2, |hold| {
        let (killed, world) = run(Some(hold));
        assert_eq!(world, want, "{hold:?}");
        killed
    });
    assert!(points >= 4, "two copies, two deletions: {points}");
}

/// The same on both emulators, made and judged by boto3.
#[test]
fn they_are_copied_on_both_emulators() {
    for emulator in [Emulator::moto(), Emulator::simulator()] {
        let world = emulator.build(9, &["single", "1"]);
        let account = text(&world["accounts"][0], "id").to_owned();
        let tell = |verb: &str| {
            script("old_snapshots.py", &emulator.script_url(), &[&account, "us-east-1", verb])
        };
        let before = tell("make");
        let folder = tempfile::tempdir().expect("a folder");
        let mut setup = Setup::new(&emulator.url(), folder.path());
        setup.set("RINGFENCE_AWS__REGIONS", "us-east-1");
        setup.set("RINGFENCE_REMEDIATION__HOLD", "0s");
        let _server = setup.start();
        let (ann, bob) = (setup.cli("ann"), setup.cli("bob"));
        ann.expect("org sync", 0);
        ann.expect(&format!("scan start --account {account} --snapshots --wait --timeout 60s"), 0);
        let plan = ann.json(&format!("plan create --account {account} --snapshots"), 0);
        assert!(text(&plan, "text").contains("yearly is shared with 999988887777"), "{plan}");
        let id = text(&plan, "id");
        bob.expect(&format!("approve {id} --reason CHG-1"), 0);
        ann.expect(&format!("remediation apply {id} --wait --timeout 60s"), 0);
        let after = tell("show");
        assert_eq!(after.as_object().map(serde_json::Map::len), Some(4), "{after}");
        for name in ["monthly", "yearly"] {
            assert_eq!(after[name], before[name]);
            let copy = &after[format!("encrypted-{name}")];
            assert!(copy["Encrypted"] == true && copy["Shared"] == json!([]), "{copy}");
            assert_eq!(copy["Tags"]["keep"], before[name]["Tags"]["keep"]);
            for same in ["Engine", "AllocatedStorage", "DBInstanceIdentifier", "Port"] {
                assert_eq!(copy[same], before[name][same], "{same}");
            }
        }
        let list = ann.json(&format!("remediation list --plan {id}"), 0);
        for rem in list["remediations"].as_array().expect("remediations") {
            end(&ann, [setup.cli("bob"), setup.cli("eve")], text(rem, "id"), text(rem, "name"));
        }
        until("the old ones are gone", MINUTE, || {
            let left = tell("show");
            let names: Vec<_> = left.as_object().expect("names").keys().cloned().collect();
            if names == ["encrypted-monthly", "encrypted-yearly"] {
                Ok(())
            } else {
                Err(format!("{names:?}"))
            }
        });
    }
}
