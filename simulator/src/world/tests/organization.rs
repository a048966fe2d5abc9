//! Organizations, STS, policies, regions, lag and faults.

use super::{Play, Settings, j};
use serde_json::Value;

const DENY: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"rds:CreateDBInstance","Resource":"arn:*:rds:*:*:db:*","Condition":{"Bool":{"rds:StorageEncrypted":"false"},"StringNotLike":{"rds:DatabaseEngine":["aurora*"]}}}]}"#;

fn create(encrypted: Option<bool>) -> Value {
    let mut params = j!({"DBInstanceIdentifier": "x", "Engine": "mysql", "DBInstanceClass": "db.m5.large",
        "AllocatedStorage": 20, "MasterUsername": "a", "MasterUserPassword": "b",
        "DBSubnetGroupName": "none"});
    if let Some(encrypted) = encrypted {
        params["StorageEncrypted"] = encrypted.into();
    }
    params
}

/// Puts a policy on the member account; its id.
fn fence(play: &mut Play, content: &str) -> String {
    let policy = j!({"Name": "fence", "Description": "d", "Type": "SERVICE_CONTROL_POLICY", "Content": content});
    let made = play.org("CreatePolicy", policy).unwrap();
    let id =
        made.map("Policy").unwrap().map("PolicySummary").unwrap().text("Id").unwrap().to_owned();
    let account = play.account.clone();
    play.org("AttachPolicy", j!({"PolicyId": id, "TargetId": account})).unwrap();
    id
}

#[test]
fn a_policy_bites_after_a_while_and_lets_go_after_a_while() {
    let mut play =
        Play::with(Settings { time_scale: 1.0, scp_delay_ms: 5_000, ..Settings::default() });
    let id = fence(&mut play, DENY);
    // The probe: denied, or it fails on its subnet group, and makes nothing either way.
    assert_eq!(play.code("CreateDBInstance", create(None)), "DBSubnetGroupNotFoundFault");
    play.pass(5);
    let denied = play.call("rds", "CreateDBInstance", create(None)).unwrap_err();
    let text = format!(
        "with an explicit deny in a service control policy: arn:aws:organizations::{}:policy/",
        play.world.management()
    );
    assert!(
        denied.starts_with("AccessDenied: ") && denied.contains(&text) && denied.ends_with(&id),
        "{denied}"
    );
    assert_eq!(play.code("CreateDBInstance", create(Some(false))), "AccessDenied");
    assert_eq!(play.code("CreateDBInstance", create(Some(true))), "DBSubnetGroupNotFoundFault");
    // CloudTrail has the denied ones, with the policy's name.
    let events = play.call("cloudtrail", "LookupEvents", j!({})).unwrap();
    assert_eq!(
        events.maps("Events").filter(|e| e.text("CloudTrailEvent").unwrap().contains(&id)).count(),
        2
    );
    // The management account is exempt, wherever the policy is.
    let keys = ("any".into(), None);
    let free = play.send(&keys, "us-east-1", "rds", "CreateDBInstance", create(None)).unwrap_err();
    assert!(free.starts_with("DBSubnetGroupNotFoundFault"), "{free}");
    let account = play.account.clone();
    play.org("DetachPolicy", j!({"PolicyId": id, "TargetId": account})).unwrap();
    assert_eq!(play.code("CreateDBInstance", create(None)), "AccessDenied", "still in force");
    play.pass(5);
    assert_eq!(play.code("CreateDBInstance", create(None)), "DBSubnetGroupNotFoundFault");
}

#[test]
fn the_traps_of_the_policy_are_there() {
    // IfExists matches the groups that the same call is authorized against: encrypted is denied too.
    let mut play = Play::new();
    let careless = DENY.replace("\"Bool\"", "\"BoolIfExists\"").replace("arn:*:rds:*:*:db:*", "*");
    fence(&mut play, &careless);
    play.pass(5);
    assert_eq!(play.code("CreateDBInstance", create(Some(true))), "AccessDenied");
    // With restores in it, the restore of an encrypted snapshot is denied.
    let mut play = Play::new();
    fence(&mut play, &DENY.replace("rds:CreateDBInstance", "rds:RestoreDBInstanceFromDBSnapshot"));
    play.pass(5);
    let restore = j!({"DBInstanceIdentifier": "x", "DBSnapshotIdentifier": "s"});
    assert_eq!(play.code("RestoreDBInstanceFromDBSnapshot", restore), "AccessDenied");
}

#[test]
fn without_an_allow_at_a_level_everything_below_is_denied() {
    let mut play = Play::new();
    fence(&mut play, DENY);
    let account = play.account.clone();
    play.org("DetachPolicy", j!({"PolicyId": "p-FullAWSAccess", "TargetId": account})).unwrap();
    play.pass(5);
    let denied = play.call("rds", "DescribeDBInstances", j!({})).unwrap_err();
    assert!(
        denied.contains(
            "because no service control policy allows the rds:DescribeDBInstances action"
        )
    );
    assert!(play.call("sts", "GetCallerIdentity", j!({})).is_ok(), "nothing can deny it");
}

#[test]
fn attachments_have_a_minimum_and_a_maximum() {
    let mut play = Play::new();
    let account = play.account.clone();
    let last = play.org("DetachPolicy", j!({"PolicyId": "p-FullAWSAccess", "TargetId": account}));
    assert!(last.unwrap_err().contains("You cannot remove the last policy"));
    for i in 0..10 {
        let policy = j!({"Name": format!("p{i}"), "Description": "", "Type": "SERVICE_CONTROL_POLICY", "Content": DENY});
        let made = play.org("CreatePolicy", policy).unwrap();
        let id = made
            .map("Policy")
            .unwrap()
            .map("PolicySummary")
            .unwrap()
            .text("Id")
            .unwrap()
            .to_owned();
        let attached = play.org("AttachPolicy", j!({"PolicyId": id, "TargetId": account}));
        assert_eq!(attached.is_ok(), i < 9, "FullAWSAccess is one of the ten: {attached:?}");
    }
}

#[test]
fn two_writes_at_once_conflict() {
    let mut play = Play::with(Settings { organizations_busy_ms: 500, ..Settings::default() });
    let root = play.world.org.root.clone();
    play.org("CreateOrganizationalUnit", j!({"ParentId": root, "Name": "a"})).unwrap();
    let keys = ("any".into(), None);
    let params = j!({"ParentId": root, "Name": "b"});
    let now =
        play.send(&keys, "us-east-1", "organizations", "CreateOrganizationalUnit", params.clone());
    assert!(now.unwrap_err().starts_with("ConcurrentModificationException"));
    play.org("CreateOrganizationalUnit", params).unwrap();
}

#[test]
fn pages_are_twenty_and_some_are_empty_with_a_token() {
    let shape = crate::generate::Shape {
        accounts: 70,
        regions: 1,
        opt_in: 0,
        density: 0.0,
        instances: None,
        plain: true,
    };
    let world =
        crate::generate::generate(Settings { empty_page_every: 2, ..Settings::default() }, &shape)
            .unwrap();
    let mut play =
        Play { world, now: super::START, account: String::new(), keys: ("any".into(), None) };
    let (mut token, mut sizes) = (None, Vec::new());
    loop {
        let params = token.map_or(j!({}), |t: String| j!({"NextToken": t}));
        let page = play.call("organizations", "ListAccounts", params).unwrap();
        sizes.push(page.items("Accounts").len());
        token = page.text("NextToken").map(str::to_owned);
        if token.is_none() {
            break;
        }
    }
    assert_eq!(sizes.iter().sum::<usize>(), 70);
    assert!(sizes.contains(&0) && sizes.iter().all(|n| *n <= 20), "{sizes:?}");
}

#[test]
fn sessions_are_the_roles_and_end() {
    let mut play = Play::new();
    let account = play.account.clone();
    let wrong = (play.keys.0.clone(), Some("wrong".into()));
    let bad = play.send(&wrong, "us-east-1", "rds", "DescribeDBInstances", j!({})).unwrap_err();
    assert!(bad.starts_with("InvalidClientTokenId"));
    let forged = ("ASIAFORGED".into(), Some("x".into()));
    assert!(
        play.send(&forged, "us-east-1", "kms", "ListKeys", j!({}))
            .unwrap_err()
            .starts_with("UnrecognizedClient")
    );
    assert!(
        play.assume(&account, j!({"DurationSeconds": 60}))
            .unwrap_err()
            .starts_with("ValidationError")
    );
    assert!(play.assume("999999999999", j!({})).unwrap_err().starts_with("AccessDenied"));
    play.pass(3_601);
    assert_eq!(play.code("DescribeDBInstances", j!({})), "ExpiredToken");
    // A role that is assumed from a role gets an hour at most.
    play.keys = play.enter(&account);
    let arn = format!("arn:aws:iam::{account}:role/RingfenceRemediation");
    let chained = j!({"RoleArn": arn, "RoleSessionName": "aa", "DurationSeconds": 7200});
    assert!(play.call("sts", "AssumeRole", chained).unwrap_err().contains("role chaining"));
    // An external id that the trust policy wants.
    play.world.settings.external_id = "secret".into();
    assert!(play.assume(&account, j!({})).unwrap_err().starts_with("AccessDenied"));
    assert!(play.assume(&account, j!({"ExternalId": "secret"})).is_ok());
}

#[test]
fn session_and_role_policies_take_away() {
    let mut play = Play::new();
    let account = play.account.clone();
    let read = j!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "rds:Describe*", "Resource": "*"}]});
    play.keys = play.assume(&account, j!({"Policy": read.to_string()})).unwrap();
    assert!(play.call("rds", "DescribeDBInstances", j!({})).is_ok());
    let denied = play.call("rds", "CreateDBInstance", create(None)).unwrap_err();
    assert!(
        denied.contains("because no session policy allows the rds:CreateDBInstance action"),
        "{denied}"
    );
    let role = j!({"role": {"account": account, "name": "RingfenceRemediation", "present": true, "policy": read}});
    play.world.change(&serde_json::from_value(role).unwrap(), play.now).unwrap();
    play.keys = play.enter(&account);
    let denied = play.call("rds", "CreateDBInstance", create(None)).unwrap_err();
    assert!(denied.contains("because no identity-based policy allows"), "{denied}");
}

#[test]
fn a_region_that_is_off_knows_no_token() {
    let mut play = Play::new();
    let region = j!({"region": {"account": play.account, "region": "af-south-1", "on": false}});
    play.world.change(&serde_json::from_value(region.clone()).unwrap(), play.now).unwrap();
    let keys = play.keys.clone();
    let off = play.send(&keys, "af-south-1", "rds", "DescribeDBInstances", j!({})).unwrap_err();
    assert!(off.starts_with("InvalidClientTokenId"));
    let mut on = region;
    on["region"]["on"] = true.into();
    play.world.change(&serde_json::from_value(on).unwrap(), play.now).unwrap();
    assert!(play.send(&keys, "af-south-1", "rds", "DescribeDBInstances", j!({})).is_ok());
    let listed = play.call("account", "ListRegions", j!({})).unwrap();
    assert!(listed.maps("Regions").any(|r| r.text("RegionOptStatus") == Some("ENABLED")));
    let nowhere = play.send(&keys, "mars-1", "rds", "DescribeDBInstances", j!({})).unwrap_err();
    assert!(nowhere.starts_with("SignatureDoesNotMatch"));
}

#[test]
fn reads_lag_behind_writes() {
    let mut play =
        Play::with(Settings { time_scale: 1000.0, read_lag_ms: 3_000, ..Settings::default() });
    let make = j!({"DBInstanceIdentifier": "a", "Engine": "mysql", "DBInstanceClass": "db.m5.large",
        "AllocatedStorage": 20, "MasterUsername": "a", "MasterUserPassword": "b"});
    play.ok("CreateDBInstance", make.clone());
    play.pass(1);
    assert_eq!(play.ok("DescribeDBInstances", j!({})).items("DBInstances").len(), 0);
    assert_eq!(play.code("CreateDBInstance", make), "DBInstanceAlreadyExists", "writes never lag");
    play.pass(3);
    assert_eq!(play.ok("DescribeDBInstances", j!({})).items("DBInstances").len(), 1);
}

#[test]
fn faults_meet_the_calls_that_they_are_for() {
    let mut play = Play::new();
    let fault = |play: &mut Play, rule: Value| {
        play.world.faults.add(serde_json::from_value(rule).unwrap()).unwrap();
    };
    let describe = j!({"service": "rds", "operation": "Describe*"});
    fault(&mut play, j!({"match": describe, "skip": 1, "times": 2, "effect": "throttle"}));
    let codes: Vec<bool> =
        (0..4).map(|_| play.call("rds", "DescribeDBInstances", j!({})).is_ok()).collect();
    assert_eq!(codes, [true, false, false, true]);
    fault(&mut play, j!({"match": describe, "effect": "expire"}));
    assert_eq!(play.code("DescribeDBInstances", j!({})), "ExpiredToken");
    fault(&mut play, j!({"match": describe, "effect": "deny"}));
    assert_eq!(play.code("DescribeDBInstances", j!({})), "AccessDenied");
    fault(
        &mut play,
        j!({"match": describe, "effect": {"error": {"status": 503, "code": "ServiceUnavailable"}}}),
    );
    assert_eq!(play.code("DescribeDBInstances", j!({})), "ServiceUnavailable");
    // Somebody deletes the database right before our snapshot of it.
    play.database("a", j!({}));
    let delete = j!({"call": {"account": play.account, "region": "us-east-1", "service": "rds",
        "operation": "DeleteDBInstance", "params": {"DBInstanceIdentifier": "a", "SkipFinalSnapshot": true}}});
    fault(
        &mut play,
        j!({"match": {"operation": "CreateDBSnapshot"}, "effect": {"change": delete}}),
    );
    let snapshot = j!({"DBInstanceIdentifier": "a", "DBSnapshotIdentifier": "s"});
    assert_eq!(play.code("CreateDBSnapshot", snapshot), "InvalidDBInstanceState");
    // What is made fails.
    fault(&mut play, j!({"match": {"operation": "CreateDBInstance"}, "effect": "fail-restore"}));
    play.database("b", j!({}));
    assert_eq!(play.status("b"), "failed");
}

#[test]
fn settings_and_faults_that_make_no_sense_are_refused() {
    let mut play = Play::new();
    let bad = |play: &mut Play, rule: Value| match serde_json::from_value(rule) {
        Ok(rule) => play.world.faults.add(rule).unwrap_err(),
        Err(error) => error.to_string(),
    };
    assert!(bad(&mut play, j!({"effect": "explode"})).contains("unknown variant `explode`"));
    assert!(bad(&mut play, j!({"effect": "deny", "chance": 2.0})).contains("chance must be"));
    assert!(
        bad(&mut play, j!({"effect": "deny", "match": {"service": "s4"}}))
            .contains("no service s4")
    );
    assert!(
        Settings { time_scale: 0.5, ..Settings::default() }
            .check()
            .unwrap_err()
            .contains("time_scale")
    );
}

#[test]
fn policies_hold_for_what_rds_asks_of_kms() {
    let mut play = Play::new();
    let deny = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"kms:CreateGrant","Resource":"*"}]}"#;
    fence(&mut play, deny);
    play.pass(5);
    let mut params = create(Some(true));
    params["DBSubnetGroupName"] = "default".into();
    let refused = play.call("rds", "CreateDBInstance", params).unwrap_err();
    assert!(
        refused.starts_with("KMSKeyNotAccessibleFault")
            && refused.contains("service control policy")
    );
}

#[test]
fn a_suspended_account_ends_its_sessions() {
    let mut play = Play::new();
    assert!(play.call("rds", "DescribeDBInstances", j!({})).is_ok());
    let change = j!({"account-state": {"account": play.account, "state": "SUSPENDED"}});
    play.world.change(&serde_json::from_value(change).unwrap(), play.now).unwrap();
    assert_eq!(play.code("DescribeDBInstances", j!({})), "AccessDenied");
    let account = play.account.clone();
    assert!(play.assume(&account, j!({})).unwrap_err().starts_with("AccessDenied"));
    let long = j!({"DurationSeconds": 7200});
    let other = play.world.account_ids()[2].to_string();
    assert!(play.assume(&other, long).unwrap_err().contains("MaxSessionDuration"));
}
