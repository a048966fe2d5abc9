//! What names a database from outside is read by the scan, and said by the plan.

use crate::stage::{Stage, check, text};
use ringfence_tests::emulator::Emulator;
use ringfence_tests::process::Setup;
use ringfence_tests::script;
use serde_json::json;

#[test]
fn proxies_subscriptions_and_alarms_are_named_and_a_proxy_forbids_a_swap() {
    let mut stage = Stage::new();
    stage.instance("orders");
    let role = format!("arn:aws:iam::{}:role/proxy", stage.account);
    stage.call(
        "rds",
        "CreateDBProxy",
        json!({"DBProxyName": "front", "EngineFamily": "POSTGRESQL", "RoleArn": role}),
    );
    stage.call(
        "rds",
        "RegisterDBProxyTargets",
        json!({"DBProxyName": "front", "DBInstanceIdentifiers": ["orders"]}),
    );
    stage.call(
        "rds",
        "CreateEventSubscription",
        json!({"SubscriptionName": "ops", "SnsTopicArn": "arn:aws:sns:us-east-1:1:ops",
        "SourceType": "db-instance", "SourceIds": ["orders"]}),
    );
    for n in 0..130 {
        let of = if n % 50 == 0 { "orders" } else { "another" };
        stage.call("cloudwatch", "PutMetricAlarm", json!({"AlarmName": format!("a{n:03}"), "Namespace": "AWS/RDS",
            "MetricName": "CPUUtilization", "Dimensions": [{"Name": "DBInstanceIdentifier", "Value": of}], "Period": 60,
            "EvaluationPeriods": 1, "Threshold": 90.0, "ComparisonOperator": "GreaterThanThreshold", "Statistic": "Average"}));
    }
    stage.start(&[]);
    let ann = stage.cli("ann");
    ann.expect("scan start --wait --timeout 60s", 0);
    let beside = ann.json("plan create --all --dry-run", 0);
    for (name, want) in [
        ("proxies", "orders is a target of RDS Proxy front"),
        ("subscriptions", "is named by event subscription ops"),
        ("alarms", "orders is watched by alarm a000, a050, a100: none"),
    ] {
        let (verdict, said) = check(&beside, name);
        assert!(verdict == "warn" && said.contains(want), "{name}: {verdict} {said}");
    }
    assert_eq!((&beside["ready"], check(&beside, "iam-authentication").0), (&json!(1), "pass"));
    let swap = ann.json("plan create --all --strategy swap --dry-run", 0);
    assert_eq!(check(&swap, "proxies").0, "block", "{swap}");
    // As the block says.
    stage.call(
        "rds",
        "DeregisterDBProxyTargets",
        json!({"DBProxyName": "front", "DBInstanceIdentifiers": ["orders"]}),
    );
    ann.expect("scan start --wait --timeout 60s", 0);
    let swap = ann.json("plan create --all --strategy swap --dry-run", 0);
    assert_eq!((check(&swap, "proxies").0, check(&swap, "alarms").0), ("pass", "pass"), "{swap}");
    // What cannot be read is no failure of the cell, and not nothing either.
    let denied = json!({"error": {"status": 403, "code": "AccessDenied"}});
    stage.call(
        "rds",
        "ModifyDBInstance",
        json!({"DBInstanceIdentifier": "orders", "EnableIAMDatabaseAuthentication": true, "ApplyImmediately": true}),
    );
    for operation in [
        "DescribeDBProxies",
        "DescribeEventSubscriptions",
        "DescribeAlarms",
        "GetAccountAuthorizationDetails",
        "ListSecrets",
    ] {
        stage.sim.fault(json!({"match": {"operation": operation}, "effect": denied}));
    }
    ann.expect("scan start --wait --timeout 60s", 0);
    let denied = ann.json("plan create --all --dry-run", 0);
    for name in ["proxies", "subscriptions", "alarms", "iam-authentication", "secrets"] {
        let (verdict, said) = check(&denied, name);
        assert!(verdict == "warn" && said.contains("could not be read"), "{name}: {said}");
    }
}

/// The same on both emulators, made by boto3.
#[test]
fn what_names_a_database_is_found_on_both_emulators() {
    for emulator in [Emulator::moto(), Emulator::simulator()] {
        let world = emulator.build(9, &["single", "1"]);
        let account = text(&world["accounts"][0], "id").to_owned();
        script("around.py", &emulator.script_url(), &[&account, "us-east-1"]);
        let folder = tempfile::tempdir().expect("a folder");
        let mut setup = Setup::new(&emulator.url(), folder.path());
        setup.set("RINGFENCE_AWS__REGIONS", "us-east-1");
        let _server = setup.start();
        let ann = setup.cli("ann");
        ann.expect("org sync", 0);
        ann.expect(&format!("scan start --account {account} --wait --timeout 60s"), 0);
        let plan = ann.json(&format!("plan create --account {account} --dry-run"), 0);
        for (name, want) in [
            ("proxies", "orders is a target of RDS Proxy front"),
            ("subscriptions", "is named by event subscription ops"),
            // moto does not speak the protocol that the SDK speaks with CloudWatch (docs/emulators.md).
            (
                "alarms",
                match emulator.is_simulator() {
                    true => "orders is watched by alarm busy",
                    false => "CloudWatch alarms could not be read",
                },
            ),
            ("iam-authentication", "its resource id is in policy apps: the twin's"),
            ("secrets", "orders is mentioned by secret prod/orders: whoever"),
        ] {
            let (verdict, said) = check(&plan, name);
            assert!(verdict == "warn" && said.contains(want), "{name}: {verdict} {said}");
        }
    }
}
