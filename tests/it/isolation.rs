//! The isolation group of a swap: looked at before it is relied on, found by its name, made where the plan says so.

use crate::stage::{MINUTE, Stage, check, groups, text};
use ringfence_tests::emulator::Emulator;
use ringfence_tests::process::Setup;
use ringfence_tests::{script, until};
use serde_json::{Value, json};

const NAME: &str = "ringfence-isolation";

/// Groups of that name, as AWS shows them.
fn named(stage: &Stage, name: &str) -> Vec<Value> {
    let filter = json!({"Filter": [{"Name": "group-name", "Value": [name]}]});
    let all = stage.call("ec2", "DescribeSecurityGroups", filter);
    all["securityGroupInfo"].as_array().expect("groups").clone()
}

#[test]
fn a_group_is_made_once_for_all_databases_of_a_vpc_and_found_ever_after() {
    let mut stage = Stage::new();
    stage.instance("orders");
    stage.instance("tickets");
    stage.start(&[("REMEDIATION__ISOLATION_GROUPS", "")]);
    let ann = stage.cli("ann");
    ann.expect("scan start --wait --timeout 60s", 0);
    let without = ann.json("plan create --all --strategy swap --dry-run", 0);
    let (verdict, why) = check(&without, "strategy");
    assert!(verdict == "block" && why.contains("plan with --make-isolation-groups"), "{why}");
    let misplaced = ann.run("plan create --all --make-isolation-groups --dry-run");
    assert_eq!(misplaced.code, 64, "{misplaced:?}");
    let plan = stage.planned("--strategy swap --make-isolation-groups");
    let said = ann.run(&format!("plan show {plan}")).out;
    assert!(said.contains(&format!("make security group {NAME} in vpc-")), "{said}");
    assert!(named(&stage, NAME).is_empty(), "nothing is made by a plan");
    let made = stage.applied(&plan);
    for name in ["orders", "tickets"] {
        stage.reaches(&made[name], "verified");
    }
    let there = named(&stage, NAME);
    assert_eq!(there.len(), 1, "{there:?}");
    let rules = |way: &str| there[0][way].as_array().map(Vec::len);
    assert_eq!((rules("ipPermissions"), rules("ipPermissionsEgress")), (Some(0), Some(0)));
    let id = text(&there[0], "groupId");
    for twin in ["encrypted-orders", "encrypted-tickets"] {
        assert_eq!(groups(&stage.describe()[twin]), [id]);
    }
    // One more database of the VPC: the group is found by its name, and nothing needs to be made.
    stage.instance("users");
    ann.expect("scan start --wait --timeout 60s", 0);
    let list = ann.json("finding list", 0);
    let users =
        list["findings"].as_array().expect("findings").iter().find(|f| f["name"] == "users");
    let users = text(users.expect("users"), "id").to_owned();
    let plan = ann.json(&format!("plan create --finding {users} --strategy swap --dry-run"), 0);
    assert_eq!(check(&plan, "isolation").0, "pass", "{plan}");
    assert!(text(&plan, "text").contains(&format!("isolation group {id}")), "{plan}");
    // Somebody opens it.
    let rule = json!([{"IpProtocol": "tcp", "FromPort": "5432", "ToPort": "5432", "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}]);
    stage.call(
        "ec2",
        "AuthorizeSecurityGroupIngress",
        json!({"GroupId": id, "IpPermissions": rule}),
    );
    ann.expect("scan start --wait --timeout 60s", 0);
    let plan = ann.json(&format!("plan create --finding {users} --strategy swap --dry-run"), 0);
    let (verdict, why) = check(&plan, "isolation");
    assert!(verdict == "block" && why.contains("lets in tcp 5432 from 10.0.0.0/8"), "{why}");
}

#[test]
fn nothing_is_restored_into_a_group_that_was_opened_after_the_plan() {
    let mut stage = Stage::new();
    stage.instance("orders");
    stage.start(&[]);
    let plan = stage.planned("--strategy swap --quiesce isolate");
    let rule = json!([{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]);
    let group = stage.isolation.clone();
    stage.call(
        "ec2",
        "AuthorizeSecurityGroupIngress",
        json!({"GroupId": group, "IpPermissions": rule}),
    );
    let id = stage.applied(&plan)["orders"].clone();
    until("it waits", MINUTE, || {
        let rem = stage.get(&id);
        let waits = text(&rem, "why").contains("(nobody) lets in everything from 0.0.0.0/0");
        if waits { Ok(()) } else { Err(rem.to_string()) }
    });
    assert_eq!(groups(&stage.describe()["orders"]), [stage.own.as_str()], "it is not cut off");
    assert_eq!(stage.snapshots(), Vec::<String>::new());
    stage.order("cancel", &id, 0);
    stage.reaches(&id, "cancelled");
}

/// The same on both emulators, judged by boto3.
#[test]
fn a_group_is_made_and_closed_on_both_emulators() {
    for emulator in [Emulator::moto(), Emulator::simulator()] {
        let world = emulator.build(9, &["single", "1"]);
        let account = text(&world["accounts"][0], "id").to_owned();
        script("isolation.py", &emulator.script_url(), &[&account, "us-east-1", "place"]);
        let folder = tempfile::tempdir().expect("a folder");
        let mut setup = Setup::new(&emulator.url(), folder.path());
        setup.set("RINGFENCE_AWS__REGIONS", "us-east-1");
        let _server = setup.start();
        let (ann, bob) = (setup.cli("ann"), setup.cli("bob"));
        ann.expect("org sync", 0);
        ann.expect(&format!("scan start --account {account} --wait --timeout 60s"), 0);
        let flags = "--strategy swap --make-isolation-groups";
        let plan = ann.json(&format!("plan create --account {account} {flags}"), 0);
        let plan = text(&plan, "id").to_owned();
        bob.expect(&format!("approve {plan} --reason CHG-1"), 0);
        ann.expect(&format!("remediation apply {plan}"), 0);
        until("the group is closed", MINUTE, || {
            let found = script(
                "isolation.py",
                &emulator.script_url(),
                &[&account, "us-east-1", "show", NAME],
            );
            let tags = json!({"ringfence:isolation": "true"});
            let good = found.as_array().is_some_and(|all| all.len() == 1)
                && found[0]["rules"] == 0
                && found[0]["tags"] == tags
                && found[0]["of_the_database"] == true;
            if good { Ok(()) } else { Err(format!("{found} {:?}", ann.run("remediation list"))) }
        });
    }
}
