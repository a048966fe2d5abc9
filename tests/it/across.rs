//! Replicas in other regions, on the simulator: rebuilt where they are, under the key of their region, and moved with
//! their source.

use crate::stage::{Stage, check, groups, text};
use ringfence_tests::emulator::Emulator;
use ringfence_tests::process::Setup;
use ringfence_tests::script;
use serde_json::{Value, json};

/// `orders`, a replica of that name in the second region, and a replica of that one beside it.
fn tree() -> Stage {
    let stage = Stage::across();
    stage.instance("orders");
    stage.far_replica("orders", &stage.arn(&stage.region, "orders"));
    stage.far_replica("orders-read", "orders");
    stage
}

fn key_of(stage: &Stage, region: &str) -> String {
    let alias = json!({"KeyId": "alias/RDSEncryptionAtRestKMSAlias"});
    text(&stage.call_in(region, "kms", "DescribeKey", alias)["KeyMetadata"], "Arn").to_owned()
}

fn source(database: &Value) -> &str {
    text(database, "ReadReplicaSourceDBInstanceIdentifier")
}

#[test]
fn a_tree_across_regions_is_swapped_kept_and_decommissioned() {
    let mut stage = tree();
    let (here, there) = (stage.region.clone(), stage.far.clone());
    let before = (stage.describe(), stage.describe_in(&there));
    stage.start(&[]);
    let plan = stage.planned("--strategy swap");
    let shown = stage.cli("ann").expect(&format!("plan show {plan}"), 0).out;
    assert!(shown.contains("1 to encrypt, 2 blocked"), "{shown}");
    assert!(shown.contains("in another region: it is worked on with its source"), "{shown}");
    assert!(shown.contains(&format!("{} in {there}", key_of(&stage, &there))), "{shown}");
    assert!(shown.contains(&format!("encrypted-orders ({there})")), "{shown}");
    let made = stage.applied(&plan);
    let id = &made["orders"];
    stage.reaches(id, "verified");
    let twins = stage.describe_in(&there);
    for (name, of) in [
        ("encrypted-orders", stage.arn(&here, "encrypted-orders")),
        ("encrypted-orders-read", "encrypted-orders".to_owned()),
    ] {
        assert_eq!(source(&twins[name]), of);
        assert_eq!(text(&twins[name], "KmsKeyId"), key_of(&stage, &there), "{name}");
        assert_eq!(groups(&twins[name]), [stage.far_group("ringfence-isolation")], "{name}");
    }
    let list = stage.cli("ann").json("finding list", 0);
    let held =
        list["findings"].as_array().expect("findings").iter().all(|f| f["held_by"] == id.as_str());
    assert!(held, "{list}");

    stage.order("cutover", id, 0);
    let rem = stage.reaches(id, "cut_over");
    let after = (stage.describe(), stage.describe_in(&there));
    assert_eq!(source(&after.1["orders"]), stage.arn(&here, "orders"));
    assert_eq!(source(&after.1["orders-read"]), "orders");
    for name in ["orders", "orders-read"] {
        let (old, new) = (&before.1[name], &after.1[name]);
        assert_ne!(old["DbiResourceId"], new["DbiResourceId"], "{name} is another database");
        for field in ["DBInstanceClass", "BackupRetentionPeriod", "Endpoint", "VpcSecurityGroups"] {
            assert_eq!(old[field], new[field], "{name} {field}");
        }
        let kept = after.1.values().find(|i| i["DbiResourceId"] == old["DbiResourceId"]);
        let kept = kept.expect("the original is kept");
        assert!(text(kept, "DBInstanceIdentifier").starts_with(&format!("{name}-unencrypted-")));
        assert_eq!(groups(kept), [stage.far_group("ringfence-isolation")]);
    }
    // What was found there is found under the names that it has now, whoever looks.
    for scanned in [false, true] {
        if scanned {
            stage.cli("ann").expect("scan start --wait --timeout 60s", 0);
        }
        let list = stage.cli("ann").json("finding list", 0);
        let list = list["findings"].as_array().expect("findings").clone();
        assert_eq!(list.len(), 3, "{scanned} {list:?}");
        assert!(list.iter().all(|f| f["held_by"] == id.as_str()), "{scanned} {list:?}");
        assert!(list.iter().all(|f| text(f, "name").contains("-unencrypted-")), "{list:?}");
        let far = list.iter().filter(|f| f["region"] == there.as_str()).count();
        assert_eq!(far, 2, "{list:?}");
    }

    let ann = stage.cli("ann");
    let args =
        ["remediation", "decommission", id, "--confirm", text(&rem, "held"), "--reason", "done"];
    assert_eq!(ann.args(&args).code, 5);
    for other in ["bob", "eve"] {
        stage.cli(other).expect(&format!("approve {id} --reason CHG-2"), 0);
    }
    assert_eq!(ann.args(&args).code, 0);
    stage.reaches(id, "decommissioned");
    assert_eq!(stage.describe().keys().collect::<Vec<_>>(), ["orders"]);
    let left = stage.describe_in(&there);
    assert_eq!(left.keys().collect::<Vec<_>>(), ["orders", "orders-read"], "nothing was promoted");
    assert!(left.values().all(|i| i["StorageEncryptionType"] == "sse-kms"), "{left:?}");
    assert_eq!(ann.json("finding list", 0)["findings"], json!([]));
}

#[test]
fn the_way_back_and_a_discard_reach_the_other_region() {
    let mut stage = tree();
    let there = stage.far.clone();
    let before = (stage.describe(), stage.describe_in(&there));
    stage.start(&[]);
    let made = stage.apply("--strategy swap --auto-cutover");
    let id = &made["orders"];
    stage.reaches(id, "cut_over");
    stage.order("rollback", id, 0);
    stage.reaches(id, "rolled_back");
    stage.order("discard", id, 0);
    stage.reaches(id, "discarded");
    for (old, new) in [(&before.0, stage.describe()), (&before.1, stage.describe_in(&there))] {
        assert_eq!(old.keys().collect::<Vec<_>>(), new.keys().collect::<Vec<_>>());
        for (name, was) in old {
            for field in
                ["DbiResourceId", "VpcSecurityGroups", "ReadReplicaSourceDBInstanceIdentifier"]
            {
                assert_eq!(was[field], new[name][field], "{name} {field}");
            }
        }
    }
}

#[test]
fn a_plan_says_what_the_other_region_lacks() {
    let mut stage = tree();
    let (here, there) = (stage.region.clone(), stage.far.clone());
    stage.start(&[]);
    let ann = stage.cli("ann");
    let planned = |flags: &str| {
        let all = ann.json(&format!("plan create --all --dry-run {flags}"), 0);
        let items = all["items"].as_array().expect("items");
        let home = items.iter().find(|i| i["region"] == here.as_str()).expect("the source");
        json!({"items": [home]})
    };
    // Nobody looked there.
    ann.expect(&format!("scan start --region {here} --wait --timeout 60s"), 0);
    let plan = planned("");
    let (verdict, said) = check(&plan, "replicas");
    assert_eq!(verdict, "block", "{plan}");
    assert!(said.contains(&format!("orders ({there}) is no open finding of {there}")), "{said}");

    ann.expect("scan start --wait --timeout 60s", 0);
    assert_eq!(planned("")["items"][0]["blockers"], json!([]));
    let plan = planned("--strategy blue-green --unproven --acknowledge-jobs");
    let (verdict, said) = check(&plan, "strategy");
    assert!(verdict == "block" && said.contains("is in another region"), "{said}");

    // No group, a taken name, and no key there.
    let group = stage.far_group("ringfence-isolation");
    stage.call_in(&there, "ec2", "DeleteSecurityGroup", json!({"GroupId": group}));
    stage.call_in(&there, "rds", "CreateDBInstance", json!({"DBInstanceIdentifier": "encrypted-orders-read",
        "Engine": "postgres", "DBInstanceClass": "db.m6g.large", "AllocatedStorage": 100, "MasterUsername": "admin",
        "MasterUserPassword": "secret-secret", "StorageEncrypted": true}));
    let alias = "alias/RDSEncryptionAtRestKMSAlias";
    stage.call_in(&there, "kms", "DeleteAlias", json!({"AliasName": alias}));
    ann.expect("scan start --wait --timeout 60s", 0);
    let plan = planned("--strategy swap");
    for (name, want) in [
        ("isolation", "none is made in another region than the source's".to_owned()),
        ("names", format!("the name encrypted-orders-read is taken in {there}")),
        ("key", "alias/RDSEncryptionAtRestKMSAlias".to_owned()),
    ] {
        let (verdict, said) = check(&plan, name);
        assert!(verdict == "block" && said.contains(&want), "{name}: {said}");
    }
}

/// The same on both emulators, made and judged by boto3.
#[test]
fn a_replica_is_rebuilt_in_its_region_on_both_emulators() {
    for emulator in [Emulator::moto(), Emulator::simulator()] {
        let world = emulator.build(9, &["single", "1"]);
        let account = text(&world["accounts"][0], "id").to_owned();
        let tell = |verb: &str| {
            let args = [&account, "us-east-1", "eu-west-1", verb];
            script("across.py", &emulator.script_url(), &args)
        };
        let before = tell("make");
        let folder = tempfile::tempdir().expect("a folder");
        let mut setup = Setup::new(&emulator.url(), folder.path());
        setup.set("RINGFENCE_AWS__REGIONS", "us-east-1,eu-west-1");
        let _server = setup.start();
        let (ann, bob) = (setup.cli("ann"), setup.cli("bob"));
        ann.expect("org sync", 0);
        ann.expect(&format!("scan start --account {account} --wait --timeout 60s"), 0);
        let plan = ann.json(&format!("plan create --account {account}"), 0);
        let id = text(&plan, "id");
        bob.expect(&format!("approve {id} --reason CHG-1"), 0);
        ann.expect(&format!("remediation apply {id} --wait --timeout 60s"), 0);
        let after = tell("show");
        let (here, there) = (&after["us-east-1"], &after["eu-west-1"]);
        let twin = &there["databases"]["encrypted-orders-far"];
        assert_eq!(
            source(twin),
            text(&here["databases"]["encrypted-orders"], "DBInstanceArn"),
            "{after}"
        );
        assert!(twin["StorageEncrypted"] == true && twin["KmsKeyId"] == there["key"], "{twin}");
        let own = &before["eu-west-1"]["databases"]["orders-far"];
        for same in ["DBInstanceClass", "AllocatedStorage", "MultiAZ", "DbInstancePort"] {
            assert_eq!(twin[same], own[same], "{same}");
        }
    }
}
