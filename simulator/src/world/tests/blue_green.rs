//! Blue/green deployments.

use super::{Map, Play, Value, j};

fn deployment(play: &mut Play, name: &str) -> Map {
    let found = play.ok("DescribeBlueGreenDeployments", j!({}));
    let found = found
        .maps("BlueGreenDeployments")
        .find(|d| d.text("BlueGreenDeploymentName") == Some(name));
    found.unwrap_or_else(|| panic!("no deployment {name}")).clone()
}

fn arn(play: &mut Play, name: &str) -> String {
    play.instance(name).text("DBInstanceArn").unwrap().to_owned()
}

fn named(id: &str) -> Value {
    j!({"BlueGreenDeploymentIdentifier": id})
}

/// MySQL, where greens show as replicas of their blues, with a replica; its deployment, once it is available.
fn tree(play: &mut Play, keyed: bool) -> String {
    play.database("a", j!({"Engine": "mysql", "BackupRetentionPeriod": 7}));
    play.ok(
        "CreateDBInstanceReadReplica",
        j!({"DBInstanceIdentifier": "r", "SourceDBInstanceIdentifier": "a"}),
    );
    play.pass(600);
    let key = play.key();
    let one = |arn: String| match keyed {
        true => j!({"SourceArn": arn, "TargetKmsKeyId": key}),
        false => j!({"SourceArn": arn}),
    };
    let all = [arn(play, "a"), arn(play, "r")].map(one);
    let source = arn(play, "a");
    let made = play.ok(
        "CreateBlueGreenDeployment",
        j!({"BlueGreenDeploymentName": "d", "Source": source, "TargetResourceConfigurations": all}),
    );
    let id = made
        .map("BlueGreenDeployment")
        .unwrap()
        .text("BlueGreenDeploymentIdentifier")
        .unwrap()
        .to_owned();
    play.pass(600);
    id
}

fn greens(play: &mut Play) -> Vec<String> {
    let found = deployment(play, "d");
    let members =
        found.maps("SwitchoverDetails").map(|m| m.text("TargetMember").unwrap().to_owned());
    members.map(|arn| arn.rsplit(':').next().unwrap().to_owned()).collect()
}

#[test]
fn a_green_environment_is_as_encrypted_as_its_keys_say() {
    for (keyed, encrypts, want) in [(true, true, true), (false, true, false), (true, false, false)]
    {
        let mut play = Play::new();
        play.world.settings.blue_green_encrypts = encrypts;
        tree(&mut play, keyed);
        let greens = greens(&mut play);
        assert!(
            greens[0].starts_with("a-green-") && greens[1].starts_with("r-green-"),
            "{greens:?}"
        );
        for green in &greens {
            assert_eq!(
                play.instance(green).is("StorageEncrypted"),
                want,
                "{green} {keyed} {encrypts}"
            );
        }
        let fed = play
            .instance(&greens[1])
            .text("ReadReplicaSourceDBInstanceIdentifier")
            .map(str::to_owned);
        assert_eq!(fed.as_deref(), Some(greens[0].as_str()));
        let fed = play
            .instance(&greens[0])
            .text("ReadReplicaSourceDBInstanceIdentifier")
            .map(str::to_owned);
        assert_eq!(fed.as_deref(), Some("a"));
    }
}

#[test]
fn a_switchover_swaps_all_names_and_a_second_one_finds_others() {
    let mut play = Play::new();
    let id = tree(&mut play, true);
    play.database("a-old1", j!({}));
    let greens = greens(&mut play);
    let dbi =
        |play: &mut Play, name: &str| play.instance(name).text("DbiResourceId").unwrap().to_owned();
    let before = (dbi(&mut play, "a"), dbi(&mut play, &greens[0]), dbi(&mut play, &greens[1]));
    play.ok("SwitchoverBlueGreenDeployment", named(&id));
    assert_eq!(deployment(&mut play, "d").text("Status"), Some("SWITCHOVER_IN_PROGRESS"));
    assert_eq!(
        play.code("SwitchoverBlueGreenDeployment", named(&id)),
        "InvalidBlueGreenDeploymentStateFault"
    );
    play.pass(60);
    assert_eq!(deployment(&mut play, "d").text("Status"), Some("SWITCHOVER_COMPLETED"));
    let after = (dbi(&mut play, "a-old2"), dbi(&mut play, "a"), dbi(&mut play, "r"));
    assert_eq!(before, after);
    let replica = play.instance("r");
    assert_eq!(replica.text("ReadReplicaSourceDBInstanceIdentifier"), Some("a"));
    assert_eq!(play.instance("a").text("ReadReplicaSourceDBInstanceIdentifier"), None);
    assert_eq!(play.status("a"), "available");
    let target = j!({"BlueGreenDeploymentIdentifier": id, "DeleteTarget": true});
    assert_eq!(play.code("DeleteBlueGreenDeployment", target), "InvalidParameterCombination");
    play.ok("DeleteBlueGreenDeployment", named(&id));
    play.pass(200);
    assert_eq!(
        play.code("DescribeBlueGreenDeployments", named(&id)),
        "BlueGreenDeploymentNotFoundFault"
    );
    assert!(
        play.instance("a").is("StorageEncrypted")
            && !play.instance("a-old2").is("StorageEncrypted")
    );
}

#[test]
fn greens_go_with_their_deployment_unless_they_are_protected() {
    let mut play = Play::new();
    let id = tree(&mut play, true);
    let greens = greens(&mut play);
    let protect = |on: bool| j!({"DBInstanceIdentifier": greens[0], "DeletionProtection": on});
    play.ok("ModifyDBInstance", protect(true));
    let target = j!({"BlueGreenDeploymentIdentifier": id, "DeleteTarget": true});
    assert_eq!(
        play.code("DeleteBlueGreenDeployment", target.clone()),
        "InvalidBlueGreenDeploymentStateFault"
    );
    play.ok("ModifyDBInstance", protect(false));
    play.ok("DeleteBlueGreenDeployment", target);
    play.pass(200);
    for green in &greens {
        assert_eq!(
            play.code("DescribeDBInstances", j!({"DBInstanceIdentifier": green})),
            "DBInstanceNotFound"
        );
    }
    assert_eq!((play.status("a"), play.status("r")), ("available".into(), "available".into()));
}

#[test]
fn what_aws_makes_no_deployment_of_is_refused() {
    let mut play = Play::new();
    play.database("bare", j!({"BackupRetentionPeriod": 0}));
    play.database("secret", j!({"BackupRetentionPeriod": 7, "MasterUserPassword": null, "ManageMasterUserPassword": true}));
    play.database("oracle", j!({"BackupRetentionPeriod": 7, "Engine": "oracle-ee"}));
    for (source, want) in [
        ("bare", "InvalidDBInstanceState"),
        ("secret", "SourceDatabaseNotSupportedFault"),
        ("oracle", "SourceDatabaseNotSupportedFault"),
    ] {
        let params = j!({"BlueGreenDeploymentName": "x", "Source": arn(&mut play, source)});
        assert_eq!(play.code("CreateBlueGreenDeployment", params), want, "{source}");
    }
}

#[test]
fn a_switchover_that_lags_is_put_back() {
    let mut play = Play::new();
    let id = tree(&mut play, true);
    play.world.settings.blue_green_lags = true;
    play.ok("SwitchoverBlueGreenDeployment", named(&id));
    play.pass(60);
    let failed = deployment(&mut play, "d");
    assert_eq!(failed.text("Status"), Some("SWITCHOVER_FAILED"));
    assert!(failed.text("StatusDetails").is_some_and(|d| d.contains("lag")), "{failed:?}");
    assert!(!play.instance("a").is("StorageEncrypted"), "as before");
}
