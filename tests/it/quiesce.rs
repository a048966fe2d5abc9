//! How writes are made to stop before the snapshot of a swap: the original is stopped, or its owner gives his word.

use crate::stage::{MINUTE, Stage, groups, text};
use ringfence_tests::until;
use serde_json::json;

#[test]
fn an_original_is_stopped_while_its_twin_is_made() {
    let mut stage = Stage::new();
    stage.instance("orders");
    let before = stage.describe()["orders"].clone();
    stage.start(&[]);
    let id = stage.apply("--strategy swap --quiesce stop")["orders"].clone();
    let rem = stage.reaches(&id, "verified");
    assert!(text(&rem, "why").starts_with("the original is cut off and stopped; next:"), "{rem}");
    let now = stage.describe();
    assert_eq!(text(&now["orders"], "DBInstanceStatus"), "stopped");
    assert_eq!(groups(&now["orders"]), [stage.isolation.as_str()]);
    stage.order("cutover", &id, 0);
    stage.reaches(&id, "cut_over");
    assert_eq!(text(&stage.describe()["orders"], "StorageEncryptionType"), "sse-kms");
    let audit = stage.cli("ann").run(&format!("audit list --subject {id} -o json")).out;
    for action in ["remediation.stopped", "remediation.cut-over"] {
        assert!(audit.contains(action), "{action}: {audit}");
    }
    stage.order("rollback", &id, 0);
    stage.reaches(&id, "rolled_back");
    let after = stage.describe()["orders"].clone();
    for field in ["DbiResourceId", "VpcSecurityGroups", "DeletionProtection", "DBInstanceStatus"] {
        assert_eq!(after[field], before[field], "{field}");
    }
}

#[test]
fn an_original_that_somebody_started_again_is_cut_over_only_if_nobody_used_it() {
    let mut stage = Stage::new();
    stage.instance("orders");
    stage.start(&[]);
    let id = stage.apply("--strategy swap --quiesce stop")["orders"].clone();
    stage.reaches(&id, "verified");
    // As AWS does after seven days; and somebody lets clients in.
    stage.call("rds", "StartDBInstance", json!({"DBInstanceIdentifier": "orders"}));
    stage.available("orders");
    let own = json!({"DBInstanceIdentifier": "orders", "VpcSecurityGroupIds": [stage.own], "ApplyImmediately": true});
    stage.call("rds", "ModifyDBInstance", own);
    stage.load("orders", 2);
    stage.shows("orders", 2);
    stage.load("orders", 0);
    let first = stage.describe()["encrypted-orders"]["DbiResourceId"].clone();
    stage.order("cutover", &id, 0);
    until("it begins again", MINUTE, || {
        let rem = stage.get(&id);
        let twin = stage.describe().get("encrypted-orders").map(|t| t["DbiResourceId"].clone());
        let again = twin.is_some_and(|t| t != first);
        if rem["state"] == "verified" && again { Ok(()) } else { Err(rem.to_string()) }
    });
    let audit = stage.cli("ann").run(&format!("audit list --subject {id} -o json")).out;
    assert!(audit.contains("remediation.stale"), "{audit}");
    assert_eq!(text(&stage.describe()["orders"], "DBInstanceStatus"), "stopped");
    // Started, and used by nobody.
    stage.call("rds", "StartDBInstance", json!({"DBInstanceIdentifier": "orders"}));
    stage.available("orders");
    stage.order("cutover", &id, 0);
    stage.reaches(&id, "cut_over");
}

#[test]
fn whatever_ends_a_stop_early_starts_the_original_and_lets_its_clients_in() {
    let mut stage = Stage::new();
    stage.instance("orders");
    stage.start(&[]);
    let own = stage.own.clone();
    let is_back = |stage: &Stage| {
        let orders = stage.describe()["orders"].clone();
        assert_eq!(text(&orders, "DBInstanceStatus"), "available");
        assert_eq!(groups(&orders), [own.as_str()]);
    };
    // The copy is refused for good: its scratch goes, and a retry proves everything anew.
    let denied = json!({"error": {"status": 403, "code": "AccessDenied"}});
    let copy = json!({"operation": "CopyDBSnapshot"});
    stage.sim.fault(json!({"match": copy, "times": 1, "effect": denied}));
    let id = stage.apply("--strategy swap --quiesce stop")["orders"].clone();
    stage.reaches(&id, "stopped");
    is_back(&stage);
    assert_eq!(stage.snapshots(), Vec::<String>::new());
    stage.order("retry", &id, 0);
    stage.reaches(&id, "verified");
    let audit = stage.cli("ann").json(&format!("audit list --subject {id} --limit 500"), 0);
    let audit = audit["events"].as_array().expect("events").clone();
    for action in ["remediation.quiet", "remediation.stopped"] {
        let times = audit.iter().filter(|e| e["action"] == action).count();
        assert_eq!(times, 2, "{action} is proven for each snapshot: {audit:#?}");
    }
    // A cutover that cannot begin: it is rolled back from where it stands, stopped.
    stage.call(
        "rds",
        "AddTagsToResource",
        json!({"ResourceName": stage.describe()["orders"]["DBInstanceArn"],
        "Tags": [{"Key": "team", "Value": "another"}]}),
    );
    stage.order("cutover", &id, 0);
    let rem = stage.reaches(&id, "stopped");
    assert_eq!(text(&stage.describe()["orders"], "DBInstanceStatus"), "stopped", "{rem}");
    stage.order("rollback", &id, 0);
    stage.reaches(&id, "rolled_back");
    is_back(&stage);
    stage.order("discard", &id, 0);
    stage.reaches(&id, "discarded");
    is_back(&stage);
}

#[test]
fn what_aws_does_not_stop_is_not_planned_so() {
    let mut stage = Stage::new();
    stage.instance("orders");
    stage.replica("orders-read", "orders");
    stage.start(&[]);
    let ann = stage.cli("ann");
    ann.expect("scan start --wait --timeout 60s", 0);
    let plan = ann.json("plan create --all --strategy swap --quiesce stop --dry-run", 0);
    let said = text(&plan, "text");
    assert!(
        said.contains("orders cannot be stopped") && said.contains("--quiesce isolate"),
        "{said}"
    );
}

#[test]
fn a_snapshot_waits_for_the_owners_word_and_cloudwatch_must_agree() {
    let mut stage = Stage::new();
    stage.instance("orders");
    // With a word it need not be waited for so long.
    stage.start(&[("REMEDIATION__QUIET_FOR", "1h")]);
    let id = stage.apply("--strategy swap --quiesce confirm")["orders"].clone();
    let waits = |what: &str| {
        until(what, MINUTE, || {
            let rem = stage.get(&id);
            if text(&rem, "why").contains(what) { Ok(rem) } else { Err(rem.to_string()) }
        })
    };
    let rem = waits("ringfence remediation confirm");
    assert_eq!(rem["steps"], json!([]), "{rem}");
    stage.load("orders", 3);
    stage.shows("orders", 3);
    let eve = stage.cli("eve");
    let confirm = ["remediation", "confirm", &id, "--reason", "the shop is closed"];
    assert_eq!(eve.args(&confirm).code, 0);
    let rem = waits("of quiet: 3 connections");
    assert_eq!(rem["steps"], json!([]), "a word is no proof: {rem}");
    stage.load("orders", 0);
    stage.reaches(&id, "verified");
    let again = eve.args(&confirm);
    assert!(again.code == 5 && again.err.contains("eve said so"), "{again:?}");
    let audit = stage.cli("ann").run(&format!("audit list --subject {id} -o json")).out;
    assert!(
        audit.contains("remediation.confirm") && audit.contains("the shop is closed"),
        "{audit}"
    );
}
