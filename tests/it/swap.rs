//! The twin in the original's place, the way back, and the end of the original, on the simulator.

use crate::stage::{MINUTE, Stage, groups, text};
use ringfence_domain::time::{Span, Time};
use ringfence_domain::window::Window;
use ringfence_tests::until;
use serde_json::json;

#[test]
fn an_instance_with_its_replicas_is_swapped_kept_and_decommissioned() {
    let mut stage = Stage::new();
    stage.instance("orders");
    stage.replica("orders-read", "orders");
    let before = stage.describe();
    stage.start(&[]);
    let made = stage.apply("--strategy swap");
    assert_eq!(made.keys().collect::<Vec<_>>(), ["orders"], "the replica goes with its source");
    let id = &made["orders"];
    let rem = stage.reaches(id, "verified");
    assert!(!text(&rem, "quiet").is_empty(), "{rem}");
    let twins = stage.describe();
    for twin in ["encrypted-orders", "encrypted-orders-read"] {
        assert_eq!(groups(&twins[twin]), [stage.isolation.as_str()], "the twin is quiet");
    }
    assert_eq!(
        text(&twins["encrypted-orders-read"], "ReadReplicaSourceDBInstanceIdentifier"),
        "encrypted-orders"
    );
    assert_eq!(groups(&twins["orders"]), [stage.own.as_str()], "the original is not touched yet");

    stage.order("cutover", id, 0);
    let rem = stage.reaches(id, "cut_over");
    let held = text(&rem, "held").to_owned();
    let after = stage.describe();
    for name in ["orders", "orders-read"] {
        let (old, new) = (&before[name], &after[name]);
        assert_ne!(old["DbiResourceId"], new["DbiResourceId"], "{name} is another database");
        assert_eq!(text(new, "StorageEncryptionType"), "sse-kms");
        for field in [
            "DBInstanceClass",
            "DeletionProtection",
            "BackupRetentionPeriod",
            "Endpoint",
            "VpcSecurityGroups",
        ] {
            assert_eq!(old[field], new[field], "{name} {field}");
        }
        let kept = after.values().find(|i| i["DbiResourceId"] == old["DbiResourceId"]);
        let kept = kept.expect("the original is kept");
        assert!(
            text(kept, "DBInstanceIdentifier").starts_with(&format!("{name}-unencrypted-")),
            "{kept}"
        );
        assert_eq!(
            (groups(kept), &kept["DeletionProtection"]),
            (vec![stage.isolation.as_str()], &json!(true))
        );
    }
    assert_eq!(text(&after["orders-read"], "ReadReplicaSourceDBInstanceIdentifier"), "orders");
    assert_eq!(stage.snapshots(), Vec::<String>::new(), "the scratch is gone");
    // The kept ones are open findings, held, and so is what a scan says.
    for scanned in [false, true] {
        if scanned {
            stage.cli("ann").expect("scan start --wait --timeout 60s", 0);
        }
        let list = stage.cli("ann").json("finding list", 0);
        let list = list["findings"].as_array().expect("findings");
        let names: Vec<&str> = list.iter().map(|f| text(f, "name")).collect();
        assert_eq!(names.len(), 2, "{scanned} {list:?}");
        assert!(list.iter().all(|f| f["held_by"] == id.as_str()), "{list:?}");
        assert!(names.contains(&held.as_str()), "{names:?}");
    }

    // Its end: a name typed, two others, and a last copy that is encrypted.
    let ann = stage.cli("ann");
    let decommission = |confirm: &str| {
        ann.args(&[
            "remediation",
            "decommission",
            id,
            "--confirm",
            confirm,
            "--reason",
            "done with it",
        ])
    };
    let wrong = decommission("orders");
    assert!(wrong.code == 1 && wrong.err.contains(&held), "{wrong:?}");
    let asked = decommission(&held);
    assert!(asked.code == 5 && asked.err.contains("2 others must approve"), "{asked:?}");
    let own = ann.run(&format!("approve {id} --reason mine"));
    assert_eq!(own.code, 4, "{own:?}");
    stage.cli("bob").expect(&format!("approve {id} --reason CHG-2"), 0);
    let asked = decommission(&held);
    assert!(asked.code == 5 && asked.err.contains("1 missing"), "{asked:?}");
    stage.cli("eve").expect(&format!("approve {id} --reason CHG-2"), 0);
    assert_eq!(decommission(&held).code, 0);
    stage.reaches(id, "decommissioned");
    let left = stage.describe();
    assert_eq!(
        left.keys().collect::<Vec<_>>(),
        ["orders", "orders-read"],
        "only the twins are left"
    );
    assert_eq!(stage.snapshots(), [format!("ringfence-{id}-final-enc sse-kms")]);
    let list = ann.json("finding list", 0);
    assert_eq!(list["findings"], json!([]), "{list}");
}

#[test]
fn a_rollback_gives_the_original_back_unless_somebody_met_the_twin() {
    let mut stage = Stage::new();
    stage.instance("orders");
    let before = stage.describe()["orders"].clone();
    stage.start(&[]);
    let made = stage.apply("--strategy swap --auto-cutover --quiesce isolate");
    let id = &made["orders"];
    stage.reaches(id, "cut_over");
    let kept =
        stage.describe().into_values().find(|i| i["DbiResourceId"] == before["DbiResourceId"]);
    assert_eq!(text(&kept.expect("kept"), "DBInstanceStatus"), "stopped");
    stage.order("rollback", id, 0);
    let rem = stage.reaches(id, "rolled_back");
    let after = stage.describe();
    for field in
        ["DbiResourceId", "VpcSecurityGroups", "DeletionProtection", "DBInstanceStatus", "Endpoint"]
    {
        assert_eq!(after["orders"][field], before[field], "{field}");
    }
    assert_eq!(groups(&after["encrypted-orders"]), [stage.isolation.as_str()], "{rem}");
    let list = stage.cli("ann").json("finding list", 0);
    assert_eq!(list["findings"].as_array().map(Vec::len), Some(1), "{list}");

    // The twin goes, and all can begin again; this time somebody connects to it after the cutover.
    stage.order("discard", id, 0);
    stage.reaches(id, "discarded");
    assert_eq!(stage.describe().keys().collect::<Vec<_>>(), ["orders"]);
    stage.order("retry", id, 0);
    stage.reaches(id, "cut_over");
    stage.load("orders", 3);
    stage.shows("orders", 3);
    stage.order("rollback", id, 0);
    let rem = until("the rollback is refused", MINUTE, || {
        let rem = stage.get(id);
        if rem["state"] == "cut_over" { Ok(rem) } else { Err(rem.to_string()) }
    });
    let log = stage.cli("ann").run(&format!("audit list --subject {id} -o json"));
    assert!(log.out.contains("remediation.no-way-back"), "{rem} {}", log.out);
    let after = stage.describe();
    assert_ne!(after["orders"]["DbiResourceId"], before["DbiResourceId"], "the twin stays");
    assert_eq!(groups(&after["orders"]), [stage.own.as_str()], "and is open");
}

#[test]
fn a_cluster_is_swapped_with_its_members_and_decommissioned() {
    let mut stage = Stage::new();
    stage.cluster("ledger", &["ledger-1", "ledger-2"]);
    let (before, members) = (stage.clusters()["ledger"].clone(), stage.describe());
    stage.start(&[("APPROVALS__DECOMMISSION", "1")]);
    let made = stage.apply("--strategy swap --auto-cutover");
    let id = &made["ledger"];
    let rem = stage.reaches(id, "cut_over");
    let (after, now) = (stage.clusters()["ledger"].clone(), stage.describe());
    assert_ne!(before["DbClusterResourceId"], after["DbClusterResourceId"]);
    assert_eq!(text(&after, "StorageEncryptionType"), "sse-kms");
    assert_eq!(groups(&after), [stage.own.as_str()]);
    for name in ["ledger-1", "ledger-2"] {
        assert_ne!(members[name]["DbiResourceId"], now[name]["DbiResourceId"]);
        assert_eq!(members[name]["PromotionTier"], now[name]["PromotionTier"]);
        assert_eq!(text(&now[name], "DBClusterIdentifier"), "ledger");
    }
    let held = text(&rem, "held");
    assert_eq!(text(&stage.clusters()[held], "Status"), "stopped");
    let args = ["remediation", "decommission", id, "--confirm", held, "--reason", "done"];
    assert_eq!(stage.cli("ann").args(&args).code, 5);
    stage.cli("bob").expect(&format!("approve {id} --reason CHG-2"), 0);
    assert_eq!(stage.cli("ann").args(&args).code, 0);
    stage.reaches(id, "decommissioned");
    assert_eq!(stage.clusters().keys().collect::<Vec<_>>(), ["ledger"]);
    assert_eq!(stage.snapshots(), [format!("ringfence-{id}-final sse-kms")]);
}

#[test]
fn a_swap_waits_for_quiet_and_begins_again_when_the_original_moved() {
    let mut stage = Stage::new();
    stage.instance("orders");
    stage.load("orders", 4);
    stage.start(&[]);
    let made = stage.apply("--strategy swap");
    let id = &made["orders"];
    let waits = until("it waits for quiet", MINUTE, || {
        let rem = stage.get(id);
        if text(&rem, "why").contains("4 connections") { Ok(rem) } else { Err(rem.to_string()) }
    });
    assert_eq!(waits["steps"], json!([]), "nothing was asked for: {waits}");
    stage.load("orders", 0);
    stage.reaches(id, "verified");
    // Somebody comes back before the cutover, and goes again.
    stage.load("orders", 2);
    stage.shows("orders", 2);
    stage.load("orders", 0);
    let first = stage.describe()["encrypted-orders"]["DbiResourceId"].clone();
    stage.order("cutover", id, 0);
    let rem = until("it is verified again", MINUTE, || {
        let rem = stage.get(id);
        let twin = stage.describe().get("encrypted-orders").map(|t| t["DbiResourceId"].clone());
        let again = twin.is_some_and(|t| t != first);
        if rem["state"] == "verified" && again { Ok(rem) } else { Err(rem.to_string()) }
    });
    let log = stage.cli("ann").run(&format!("audit list --subject {id} -o json"));
    assert!(log.out.contains("remediation.stale"), "{rem} {}", log.out);
    assert_eq!(
        groups(&stage.describe()["orders"]),
        [stage.own.as_str()],
        "it can be used meanwhile"
    );
    stage.order("cutover", id, 0);
    stage.reaches(id, "cut_over");
    assert_eq!(text(&stage.describe()["orders"], "StorageEncryptionType"), "sse-kms");
}

#[test]
fn whatever_ends_early_leaves_nobody_cut_off() {
    let mut stage = Stage::new();
    stage.instance("orders");
    stage.load("orders", 5);
    stage.start(&[]);
    let made = stage.apply("--strategy swap --quiesce isolate");
    let id = &made["orders"];
    // Connections that outlive isolation and reboot: a person is asked, and the application is let in again.
    let rem = stage.reaches(id, "stopped");
    assert!(
        text(&rem, "why").starts_with("isolated and rebooted, and still: 5 connections"),
        "{rem}"
    );
    assert_eq!(groups(&stage.describe()["orders"]), [stage.own.as_str()], "{rem}");
    stage.load("orders", 0);
    stage.order("retry", id, 0);
    let rem = stage.reaches(id, "verified");
    assert!(text(&rem, "why").starts_with("the original is cut off; next:"), "{rem}");
    assert_eq!(groups(&stage.describe()["orders"]), [stage.isolation.as_str()]);
    stage.order("discard", id, 0);
    stage.reaches(id, "discarded");
    let left = stage.describe();
    assert_eq!(left.keys().collect::<Vec<_>>(), ["orders"]);
    assert_eq!(groups(&left["orders"]), [stage.own.as_str()]);
}

#[test]
fn a_cutover_that_stops_between_two_names_can_be_rolled_back() {
    let mut stage = Stage::new();
    stage.instance("orders");
    let before = stage.describe()["orders"]["DbiResourceId"].clone();
    stage.start(&[]);
    let made = stage.apply("--strategy swap");
    let id = &made["orders"];
    stage.reaches(id, "verified");
    // The original is isolated and renamed; the twin's own rename is refused.
    let refused = json!({"error": {"status": 400, "code": "InvalidParameterCombination"}});
    let modify = json!({"service": "rds", "operation": "ModifyDBInstance"});
    stage.sim.fault(json!({"match": modify, "skip": 2, "times": 1, "effect": refused}));
    stage.order("cutover", id, 0);
    let rem = stage.reaches(id, "stopped");
    assert!(!stage.describe().contains_key("orders"), "nobody bears the name: {rem}");
    stage.order("rollback", id, 0);
    stage.reaches(id, "rolled_back");
    let after = stage.describe();
    assert_eq!(after["orders"]["DbiResourceId"], before);
    assert_eq!(groups(&after["orders"]), [stage.own.as_str()]);
}

#[test]
fn work_begins_in_its_window_or_when_the_owners_tag_says_so() {
    let mut stage = Stage::new();
    stage.instance("orders");
    stage.instance("tickets");
    let arn = text(&stage.describe()["tickets"], "DBInstanceArn").to_owned();
    stage.call(
        "rds",
        "AddTagsToResource",
        json!({"ResourceName": arn,
        "Tags": [{"Key": "ringfence:window", "Value": "any"}]}),
    );
    let now = Time(stage.sim.inside().clock.now().0);
    let days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let windows = days.map(|day| format!("{day}:12:00-{day}:13:00"));
    let shut = windows.iter().find(|w| {
        let window: Window = w.parse().expect("a window");
        window.opens(now).since(now) > Span::hours(2)
    });
    let shut = shut.expect("one that is shut");
    stage.start(&[("REMEDIATION__WINDOW", shut)]);
    let made = stage.apply("");
    stage.reaches(&made["tickets"], "verified");
    let rem = stage.get(&made["orders"]);
    assert_eq!(rem["state"], "pending", "{rem}");
    assert!(
        text(&rem, "why").starts_with(&format!("waiting for its window {shut} (UTC)")),
        "{rem}"
    );
    assert_eq!(rem["steps"], json!([]), "{rem}");
}

#[test]
fn custom_endpoints_move_with_their_cluster_and_back() {
    let mut stage = Stage::new();
    stage.cluster("ledger", &["ledger-1", "ledger-2"]);
    stage.call("rds", "CreateDBClusterEndpoint", json!({"DBClusterIdentifier": "ledger",
        "DBClusterEndpointIdentifier": "reports", "EndpointType": "READER", "StaticMembers": ["ledger-2"],
        "Tags": [{"Key": "team", "Value": "b"}]}));
    let show = |stage: &Stage| {
        let all = stage.call("rds", "DescribeDBClusterEndpoints", json!({}));
        let all = all["DBClusterEndpoints"].as_array().expect("endpoints").clone();
        let custom = all.iter().filter(|e| e["EndpointType"] == "CUSTOM");
        let mut found: Vec<String> = custom
            .map(|e| {
                let arn = &e["DBClusterEndpointArn"];
                let tags = stage.call("rds", "ListTagsForResource", json!({"ResourceName": arn}));
                let (of, id) = (text(e, "DBClusterIdentifier"), text(e, "Endpoint"));
                format!("{of} {id} {} {}", e["StaticMembers"], tags["TagList"])
            })
            .collect();
        found.sort();
        found
    };
    let before = show(&stage);
    assert!(before.len() == 1 && before[0].starts_with("ledger reports."), "{before:?}");
    stage.start(&[]);
    let made = stage.apply("--strategy swap --auto-cutover");
    let id = &made["ledger"];
    stage.reaches(id, "cut_over");
    assert_eq!(show(&stage), before, "the same address, members and tags");
    assert_eq!(text(&stage.clusters()["ledger"], "StorageEncryptionType"), "sse-kms");
    let held = text(&stage.get(id), "held").to_owned();
    assert_eq!(stage.clusters()[&held]["CustomEndpoints"], json!([]));
    stage.order("rollback", id, 0);
    stage.reaches(id, "rolled_back");
    assert_eq!(show(&stage), before);
    assert_eq!(text(&stage.clusters()["ledger"], "StorageEncryptionType"), "none");
    assert_eq!(stage.clusters()["encrypted-ledger"]["CustomEndpoints"], json!([]));
}
