//! Twins by blue/green deployments of AWS's: switched over, kept, discarded, refused.

use crate::stage::{MINUTE, Stage, check, groups, text};
use ringfence_tests::emulator::Emulator;
use ringfence_tests::process::Setup;
use ringfence_tests::{script, until};
use serde_json::{Value, json};

fn deployments(stage: &Stage) -> Vec<Value> {
    let all = stage.call("rds", "DescribeBlueGreenDeployments", json!({}));
    all["BlueGreenDeployments"].as_array().expect("deployments").clone()
}

#[test]
fn a_tree_is_switched_over_while_it_is_used_kept_and_decommissioned() {
    let mut stage = Stage::new();
    stage.instance("orders");
    stage.replica("orders-read", "orders");
    // Nobody has to stop.
    stage.load("orders", 3);
    stage.start(&[("APPROVALS__DECOMMISSION", "1")]);
    let (before, ann) = (stage.describe(), stage.cli("ann"));
    ann.expect("scan start --wait --timeout 60s", 0);
    for (flags, code) in [
        ("--strategy swap --unproven", 64),
        ("--strategy blue-green --quiesce isolate", 64),
        ("--unproven", 64),
    ] {
        let ran = ann.run(&format!("plan create --all {flags} --dry-run"));
        assert_eq!(ran.code, code, "{ran:?}");
    }
    for (flags, verdict, says) in [
        ("", "block", "was not seen in"),
        ("--unproven --auto-cutover", "block", "plan without --auto-cutover"),
        ("--unproven", "warn", "the plan's author wants to try"),
    ] {
        let flags = format!("plan create --all --strategy blue-green {flags} --dry-run");
        let plan = ann.run(&format!("{flags} -o json")).json();
        let (found, why) = check(&plan, "blue-green");
        assert!(found == verdict && why.contains(says), "{flags}: {found} {why}");
    }
    let without = ann.run("plan create --all --strategy blue-green --unproven --dry-run -o json");
    let (found, why) = (without.json(), "green-jobs");
    assert_eq!(check(&found, why).0, "block", "{found}");
    let plan = stage.planned("--strategy blue-green --unproven --acknowledge-jobs");
    let said = ann.run(&format!("plan show {plan}")).out;
    for part in [
        "make the blue/green deployment ringfence-rem-",
        "of orders, orders-read: AWS makes a green environment, encrypted under the key",
        "swap  by a blue/green deployment, switchover when a person says so",
        "There is no way back after it",
    ] {
        assert!(said.contains(part), "{part}\n{said}");
    }
    let id = stage.applied(&plan)["orders"].clone();
    let rem = stage.reaches(&id, "verified");
    assert_eq!(text(&rem, "strategy"), "blue-green");
    let greens = stage.describe();
    for name in ["orders", "orders-read"] {
        let green = greens.keys().find(|k| k.starts_with(&format!("{name}-green-")));
        let green = &greens[green.unwrap_or_else(|| panic!("{name}: {greens:?}"))];
        assert_eq!(text(green, "StorageEncryptionType"), "sse-kms", "{green}");
        assert_eq!(green["DeletionProtection"], before[name]["DeletionProtection"], "{green}");
    }
    assert_eq!(stage.snapshots(), Vec::<String>::new());
    // While it stands, nothing else is planned for it.
    ann.expect("scan start --wait --timeout 60s", 0);
    let finding = ann.json("finding list", 0)["findings"][0].clone();
    assert_eq!(finding["held_by"], id.as_str(), "{finding}");

    stage.order("cutover", &id, 0);
    let rem = stage.reaches(&id, "cut_over");
    assert_eq!(text(&rem, "held"), "orders-old1");
    let after = stage.describe();
    for name in ["orders", "orders-read"] {
        let (old, new) = (&before[name], &after[name]);
        assert_ne!(old["DbiResourceId"], new["DbiResourceId"], "{name} is another database");
        assert_eq!(text(new, "StorageEncryptionType"), "sse-kms");
        for field in ["DBInstanceClass", "DeletionProtection", "Endpoint", "VpcSecurityGroups"] {
            assert_eq!(old[field], new[field], "{name} {field}");
        }
        let kept = &after[&format!("{name}-old1")];
        assert_eq!(kept["DbiResourceId"], old["DbiResourceId"]);
        assert_eq!(
            (groups(kept), &kept["DeletionProtection"]),
            (vec![stage.isolation.as_str()], &json!(true))
        );
    }
    assert_eq!(text(&after["orders-read"], "ReadReplicaSourceDBInstanceIdentifier"), "orders");
    assert_eq!(deployments(&stage), Vec::<Value>::new(), "it is done");
    let refused = stage.order("rollback", &id, 5);
    assert!(refused.contains("nothing replicates back: orders-old1 lacks"), "{refused}");
    for scanned in [false, true] {
        if scanned {
            ann.expect("scan start --wait --timeout 60s", 0);
        }
        let list = ann.json("finding list", 0);
        let list = list["findings"].as_array().expect("findings");
        let names: Vec<&str> = list.iter().map(|f| text(f, "name")).collect();
        assert_eq!((names.len(), names.contains(&"orders-old1")), (2, true), "{names:?}");
        assert!(list.iter().all(|f| f["held_by"] == id.as_str()), "{scanned} {list:?}");
    }

    let args = ["remediation", "decommission", &id, "--confirm", "orders-old1", "--reason", "done"];
    assert_eq!(ann.args(&args).code, 5, "somebody must agree");
    stage.cli("bob").expect(&format!("approve {id} --reason CHG-2"), 0);
    assert_eq!(ann.args(&args).code, 0);
    stage.reaches(&id, "decommissioned");
    assert_eq!(stage.describe().keys().collect::<Vec<_>>(), ["orders", "orders-read"]);
    assert_eq!(stage.snapshots(), [format!("ringfence-{id}-final-enc sse-kms")]);

    // AWS was seen to do it: the next one of that engine is planned without a word.
    stage.instance("tickets");
    ann.expect("scan start --wait --timeout 60s", 0);
    let plan = ann.json("plan create --all --strategy blue-green --auto-cutover --dry-run", 0);
    assert_eq!(check(&plan, "blue-green").0, "pass", "{plan}");
}

#[test]
fn a_cluster_that_was_tried_and_discarded_is_the_proof() {
    let mut stage = Stage::new();
    stage.cluster("ledger", &["ledger-1", "ledger-2"]);
    stage.own_parameters("ledger");
    stage.call(
        "rds",
        "AddRoleToDBCluster",
        json!({"DBClusterIdentifier": "ledger", "RoleArn": "arn:aws:iam::1:role/load", "FeatureName": "s3Import"}),
    );
    stage.start(&[]);
    let before = (stage.describe(), stage.clusters());
    let id = stage.apply("--strategy blue-green --unproven --acknowledge-jobs")["ledger"].clone();
    stage.reaches(&id, "verified");
    let green = stage.clusters().into_keys().find(|c| c.starts_with("ledger-green-"));
    assert_eq!(
        text(&stage.clusters()[&green.expect("a green one")], "StorageEncryptionType"),
        "sse-kms"
    );
    stage.order("discard", &id, 0);
    stage.reaches(&id, "discarded");
    assert_eq!((stage.describe(), stage.clusters()), before, "as if nothing had been");
    assert_eq!(deployments(&stage), Vec::<Value>::new());
    // Seen once, it may switch over by itself.
    let id =
        stage.apply("--strategy blue-green --auto-cutover --acknowledge-jobs")["ledger"].clone();
    stage.reaches(&id, "cut_over");
    let (members, clusters) = (stage.describe(), stage.clusters());
    assert_eq!(text(&clusters["ledger"], "StorageEncryptionType"), "sse-kms");
    assert_eq!(clusters["ledger"]["AssociatedRoles"], before.1["ledger"]["AssociatedRoles"]);
    assert_eq!(text(&clusters["ledger-old1"], "Status"), "stopped");
    for member in ["ledger-1", "ledger-2"] {
        assert_eq!(text(&members[member], "DBClusterIdentifier"), "ledger");
        assert_eq!(members[member]["PromotionTier"], before.0[member]["PromotionTier"]);
        assert_eq!(text(&members[&format!("{member}-old1")], "DBClusterIdentifier"), "ledger-old1");
    }
}

#[test]
fn one_that_aws_does_not_encrypt_is_taken_down() {
    let mut stage = Stage::new();
    stage.instance("orders");
    stage.sim.inside().world().settings.blue_green_encrypts = false;
    stage.start(&[]);
    let before = stage.describe();
    let id = stage.apply("--strategy blue-green --unproven --acknowledge-jobs")["orders"].clone();
    let rem = stage.reaches(&id, "stopped");
    let why = text(&rem, "why");
    assert!(why.contains("the green database") && why.contains("is not encrypted"), "{why}");
    assert_eq!((stage.describe(), deployments(&stage)), (before, vec![]), "nothing is left");
    let plan = stage.cli("ann").run("plan create --all --strategy blue-green --dry-run -o json");
    assert_eq!(check(&plan.json(), "blue-green").0, "block", "it is no proof");
}

#[test]
fn a_switchover_that_aws_gives_up_leaves_everything_and_can_be_had_again() {
    let mut stage = Stage::new();
    stage.instance("orders");
    stage.sim.inside().world().settings.blue_green_lags = true;
    stage.start(&[]);
    let id = stage.apply("--strategy blue-green --unproven --acknowledge-jobs")["orders"].clone();
    stage.reaches(&id, "verified");
    let before = stage.describe();
    stage.order("cutover", &id, 0);
    let rem = stage.reaches(&id, "stopped");
    let why = text(&rem, "why");
    assert!(why.contains("AWS did not switch over, and the original is as before"), "{why}");
    assert!(why.contains("replica lag"), "AWS's reason: {why}");
    assert_eq!(stage.describe(), before);
    assert!(why.contains(&format!("ringfence remediation discard {id}")), "{why}");
    stage.order("rollback", &id, 0);
    stage.reaches(&id, "rolled_back");
    assert_eq!(stage.describe(), before, "only the order is withdrawn");
    stage.order("discard", &id, 0);
    stage.reaches(&id, "discarded");
    stage.order("retry", &id, 0);
    stage.reaches(&id, "verified");
    stage.order("cutover", &id, 0);
    stage.reaches(&id, "stopped");
    stage.sim.inside().world().settings.blue_green_lags = false;
    stage.order("retry", &id, 0);
    stage.reaches(&id, "cut_over");
    assert_eq!(text(&stage.describe()["orders"], "StorageEncryptionType"), "sse-kms");
}

#[test]
fn what_is_part_of_a_deployment_of_somebody_elses_is_not_touched() {
    let mut stage = Stage::new();
    stage.instance("orders");
    let source = text(&stage.describe()["orders"], "DBInstanceArn").to_owned();
    stage.call(
        "rds",
        "CreateBlueGreenDeployment",
        json!({"BlueGreenDeploymentName": "upgrade", "Source": source}),
    );
    stage.start(&[]);
    let ann = stage.cli("ann");
    ann.expect("scan start --wait --timeout 60s", 0);
    let plan = |strategy: &str| {
        let list = ann.json("finding list", 0);
        let list = list["findings"].as_array().expect("findings");
        let id = list.iter().find(|f| f["name"] == "orders").map(|f| text(f, "id").to_owned());
        let id = id.expect("orders");
        ann.run(&format!("plan create --finding {id} --strategy {strategy} --dry-run -o json"))
            .json()
    };
    for (strategy, verdict) in
        [("swap", "block"), ("blue-green", "block"), ("side-by-side", "warn")]
    {
        let plan = plan(strategy);
        let (found, why) = check(&plan, "deployments");
        assert!(
            found == verdict && why.contains("part of the blue/green deployment upgrade"),
            "{strategy}: {found} {why}"
        );
    }
}

/// moto keeps deployments, but has one resource id for all databases, so nobody can tell a green one from its blue:
/// nothing is verified, and all is taken down again on a word.
#[test]
fn on_moto_a_deployment_is_made_and_deleted_with_what_is_of_it() {
    let moto = Emulator::moto();
    let world = moto.build(9, &["single", "1"]);
    let account = text(&world["accounts"][0], "id").to_owned();
    let show =
        |what: &str| script("blue_green.py", &moto.script_url(), &[&account, "us-east-1", what]);
    script("isolation.py", &moto.script_url(), &[&account, "us-east-1", "place"]);
    let folder = tempfile::tempdir().expect("a folder");
    let mut setup = Setup::new(&moto.url(), folder.path());
    setup.set("RINGFENCE_AWS__REGIONS", "us-east-1");
    let _server = setup.start();
    let (ann, bob) = (setup.cli("ann"), setup.cli("bob"));
    ann.expect("org sync", 0);
    ann.expect(&format!("scan start --account {account} --wait --timeout 60s"), 0);
    let flags = "--strategy blue-green --unproven --acknowledge-jobs --make-isolation-groups";
    let plan = ann.json(&format!("plan create --account {account} {flags}"), 0);
    let plan = text(&plan, "id").to_owned();
    bob.expect(&format!("approve {plan} --reason CHG-1"), 0);
    let before = show("databases");
    let made = ann.json(&format!("remediation apply {plan}"), 0);
    let id = text(&made["remediations"][0], "id").to_owned();
    until("it is made, and waited for", MINUTE, || {
        let rem = ann.json(&format!("remediation get {id}"), 0);
        let said = text(&rem, "why").contains("as its own counterpart");
        if said { Ok(()) } else { Err(rem.to_string()) }
    });
    let there = show("deployments");
    let tags = json!({"ringfence:remediation": id});
    assert_eq!((there.as_array().map(Vec::len), &there[0]["tags"]), (Some(1), &tags), "{there}");
    ann.expect(&format!("remediation cancel {id} --reason tried"), 0);
    until("it is cancelled", MINUTE, || {
        let rem = ann.json(&format!("remediation get {id}"), 0);
        if rem["state"] == "cancelled" { Ok(()) } else { Err(rem.to_string()) }
    });
    assert_eq!((show("deployments"), show("databases")), (json!([]), before));
}
