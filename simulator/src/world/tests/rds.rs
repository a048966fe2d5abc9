//! RDS and KMS.

use super::{Play, Settings, j};
use crate::value::Map;

#[test]
fn names_are_checked_and_unique() {
    let mut play = Play::new();
    play.database("orders", j!({}));
    for (name, code) in [
        ("1orders", "InvalidParameterValue"),
        ("or--ders", "InvalidParameterValue"),
        ("orders-", "InvalidParameterValue"),
        (&"x".repeat(64), "InvalidParameterValue"),
        ("ORDERS", "DBInstanceAlreadyExists"),
    ] {
        let params = j!({"DBInstanceIdentifier": name, "Engine": "mysql", "DBInstanceClass": "db.m5.large",
            "AllocatedStorage": 20, "MasterUsername": "a", "MasterUserPassword": "b"});
        assert_eq!(play.code("CreateDBInstance", params), code, "{name}");
    }
}

#[test]
fn a_parameter_that_is_not_modelled_is_refused_aloud() {
    let mut play = Play::new();
    let error = play.call("rds", "DescribeDBInstances", j!({"Nonsense": "x"})).unwrap_err();
    assert!(
        error.starts_with("NotImplemented: the simulator does not model the parameter Nonsense")
    );
    play.database("a", j!({}));
    let own = play.instance("a").text("DBInstanceArn").unwrap().to_owned();
    assert!(play.call("rds", "DescribeDBInstances", j!({"DBInstanceIdentifier": own})).is_ok());
    let other = own.replace("us-east-1", "eu-west-1");
    let error =
        play.call("rds", "DescribeDBInstances", j!({"DBInstanceIdentifier": other})).unwrap_err();
    assert!(error.contains("another account or region"), "{error}");
    let error = play.call("rds", "CreateGlobalCluster", j!({})).unwrap_err();
    assert!(error.starts_with("NotImplemented"));
}

#[test]
fn states_take_time_and_backups_come_before_available() {
    let mut play = Play::new();
    let params = j!({"DBInstanceIdentifier": "a", "Engine": "postgres", "DBInstanceClass": "db.m5.large",
        "AllocatedStorage": 20, "MasterUsername": "a", "MasterUserPassword": "b"});
    play.ok("CreateDBInstance", params);
    assert_eq!(play.status("a"), "creating");
    assert!(!play.instance("a").has("Endpoint"), "no endpoint before it exists");
    let snapshot = j!({"DBInstanceIdentifier": "a", "DBSnapshotIdentifier": "s"});
    assert_eq!(play.code("CreateDBSnapshot", snapshot.clone()), "InvalidDBInstanceState");
    play.pass(241);
    assert_eq!(play.status("a"), "backing-up");
    play.pass(60);
    assert_eq!(play.status("a"), "available");
    play.ok("CreateDBSnapshot", snapshot);
}

/// Encrypts by snapshot, copy and restore; gives back the twin.
fn encrypt(play: &mut Play, name: &str, key: &str, restore: serde_json::Value) -> Map {
    play.ok("CreateDBSnapshot", j!({"DBInstanceIdentifier": name, "DBSnapshotIdentifier": "s"}));
    play.pass(300);
    let copy =
        j!({"SourceDBSnapshotIdentifier": "s", "TargetDBSnapshotIdentifier": "c", "KmsKeyId": key});
    play.ok("CopyDBSnapshot", copy);
    play.pass(300);
    let mut params = j!({"DBInstanceIdentifier": "twin", "DBSnapshotIdentifier": "c"});
    for (field, value) in restore.as_object().unwrap() {
        params[field] = value.clone();
    }
    play.ok("RestoreDBInstanceFromDBSnapshot", params);
    play.pass(600);
    play.instance("twin")
}

#[test]
fn a_setting_that_a_restore_forgets_is_lost() {
    let mut play = Play::new();
    let key = play.key();
    play.database("a", j!({
        "MultiAZ": true, "DeletionProtection": true, "StorageType": "gp2", "BackupRetentionPeriod": 7,
        "PreferredMaintenanceWindow": "sun:04:00-sun:04:30", "CopyTagsToSnapshot": true, "Port": 6432,
        "EnableIAMDatabaseAuthentication": true, "Tags": [{"Key": "team", "Value": "a"}],
        "EnableCloudwatchLogsExports": ["postgresql"], "MaxAllocatedStorage": 100, "PubliclyAccessible": false,
    }));
    let twin = encrypt(&mut play, "a", &key, j!({}));
    for member in
        ["MultiAZ", "DeletionProtection", "CopyTagsToSnapshot", "IAMDatabaseAuthenticationEnabled"]
    {
        assert!(!twin.is(member), "{member} is off again");
    }
    assert_eq!(twin.text("StorageType"), Some("gp3"), "not the snapshot's");
    assert_ne!(twin.text("PreferredMaintenanceWindow"), Some("sun:04:00-sun:04:30"));
    assert!(twin.is("PubliclyAccessible") && !twin.has("MaxAllocatedStorage"));
    assert!(!twin.has("EnabledCloudwatchLogsExports"));
    // These come with the snapshot.
    assert_eq!(twin.number("BackupRetentionPeriod"), 7);
    assert_eq!(twin.map("Endpoint").unwrap().number("Port"), 6432);
    assert_eq!(twin.maps("TagList").next().unwrap().text("Value"), Some("a"));
    assert_eq!(twin.text("StorageEncryptionType"), Some("sse-kms"));
    assert_eq!(twin.text("KmsKeyId"), Some(key.as_str()));
}

#[test]
fn encryption_has_rules() {
    let mut play = Play::new();
    let base = |more: serde_json::Value| {
        let mut params = j!({"DBInstanceIdentifier": "x", "Engine": "mysql", "DBInstanceClass": "db.m5.large",
            "AllocatedStorage": 20, "MasterUsername": "a", "MasterUserPassword": "b"});
        for (field, value) in more.as_object().unwrap() {
            params[field] = value.clone();
        }
        params
    };
    for (more, code) in [
        (j!({"KmsKeyId": "alias/aws/rds"}), "InvalidParameterCombination"),
        (
            j!({"StorageEncrypted": true, "DBInstanceClass": "db.t2.micro"}),
            "InvalidParameterCombination",
        ),
        (j!({"StorageEncrypted": true, "KmsKeyId": "alias/none"}), "KMSKeyNotAccessibleFault"),
        (
            j!({"StorageEncrypted": true, "KmsKeyId": "arn:aws:kms:eu-west-1:1:key/x"}),
            "KMSKeyNotAccessibleFault",
        ),
        (j!({"MultiAZ": true, "AvailabilityZone": "us-east-1a"}), "InvalidParameterCombination"),
        (j!({"MonitoringInterval": 60}), "InvalidParameterCombination"),
        (j!({"DBParameterGroupName": "none"}), "DBParameterGroupNotFound"),
        (j!({"VpcSecurityGroupIds": ["sg-none"]}), "InvalidParameterValue"),
        (j!({"AllocatedStorage": 5}), "InvalidParameterValue"),
        (j!({"Tags": [{"Key": "aws:x", "Value": "y"}]}), "InvalidParameterValue"),
    ] {
        assert_eq!(play.code("CreateDBInstance", base(more.clone())), code, "{more}");
    }
    let made = play.ok("CreateDBInstance", base(j!({"StorageEncrypted": true})));
    let made = made.map("DBInstance").unwrap();
    assert!(
        made.text("KmsKeyId").unwrap().contains(":key/"),
        "under aws/rds where no key is named"
    );
}

#[test]
fn replicas_follow_their_source_and_outlive_it() {
    let mut play = Play::new();
    play.database("a", j!({}));
    let replica = j!({"DBInstanceIdentifier": "r", "SourceDBInstanceIdentifier": "a"});
    play.ok("CreateDBInstanceReadReplica", replica);
    play.pass(600);
    assert_eq!(play.instance("r").text("ReadReplicaSourceDBInstanceIdentifier"), Some("a"));
    let stop = j!({"DBInstanceIdentifier": "a"});
    assert_eq!(play.code("StopDBInstance", stop), "InvalidDBInstanceState");
    let rename =
        j!({"DBInstanceIdentifier": "a", "NewDBInstanceIdentifier": "b", "ApplyImmediately": true});
    play.ok("ModifyDBInstance", rename);
    play.pass(700);
    assert_eq!(play.instance("r").text("ReadReplicaSourceDBInstanceIdentifier"), Some("b"));
    play.ok("DeleteDBInstance", j!({"DBInstanceIdentifier": "b", "SkipFinalSnapshot": true}));
    play.pass(200);
    assert!(!play.instance("r").has("ReadReplicaSourceDBInstanceIdentifier"), "promoted");
}

#[test]
fn replicas_across_regions_follow_their_source_by_arn() {
    let far = "eu-west-1";
    let mut play = Play::new();
    let account = play.account.clone();
    let arn = |region: &str, name: &str| format!("arn:aws:rds:{region}:{account}:db:{name}");
    let here = arn("us-east-1", "a");
    play.database("a", j!({}));
    let replica = j!({"DBInstanceIdentifier": "a", "SourceDBInstanceIdentifier": here});
    play.call_in(far, "rds", "CreateDBInstanceReadReplica", replica.clone()).unwrap();
    play.pass(700);
    let source = |play: &mut Play| {
        let found = play.call_in(far, "rds", "DescribeDBInstances", j!({})).unwrap();
        let first = found.maps("DBInstances").next().unwrap().clone();
        first.text("ReadReplicaSourceDBInstanceIdentifier").map(str::to_owned)
    };
    assert_eq!(source(&mut play).as_deref(), Some(here.as_str()));
    let listed = format!("{:?}", play.instance("a").get("ReadReplicaDBInstanceIdentifiers"));
    assert!(listed.contains(&arn(far, "a")), "{listed}");
    assert_eq!(
        play.code("StopDBInstance", j!({"DBInstanceIdentifier": "a"})),
        "InvalidDBInstanceState"
    );
    let rename =
        j!({"DBInstanceIdentifier": "a", "NewDBInstanceIdentifier": "b", "ApplyImmediately": true});
    play.ok("ModifyDBInstance", rename);
    play.pass(700);
    assert_eq!(source(&mut play).as_deref(), Some(arn("us-east-1", "b").as_str()));
    play.ok("DeleteDBInstance", j!({"DBInstanceIdentifier": "b", "SkipFinalSnapshot": true}));
    play.pass(400);
    // Of PostgreSQL it is not promoted: its replication is over.
    assert_eq!(source(&mut play).as_deref(), Some(arn("us-east-1", "b").as_str()));

    // An encrypted one needs a key of its own region.
    play.database("c", j!({"StorageEncrypted": true}));
    let of = arn("us-east-1", "c");
    let replica = j!({"DBInstanceIdentifier": "c", "SourceDBInstanceIdentifier": of});
    let refused = play.call_in(far, "rds", "CreateDBInstanceReadReplica", replica.clone());
    assert!(refused.unwrap_err().starts_with("InvalidParameterCombination"));
    let mut keyed = replica;
    keyed["KmsKeyId"] = "alias/aws/rds".into();
    let made = play.call_in(far, "rds", "CreateDBInstanceReadReplica", keyed).unwrap();
    let key = made.map("DBInstance").unwrap().text("KmsKeyId").unwrap();
    assert!(key.contains(far), "{key}");
}

#[test]
fn a_rename_takes_minutes_and_snapshots_keep_the_old_name() {
    let mut play = Play::new();
    play.database("a", j!({}));
    play.ok("CreateDBSnapshot", j!({"DBInstanceIdentifier": "a", "DBSnapshotIdentifier": "s"}));
    play.pass(600);
    let dbi = play.instance("a").text("DbiResourceId").unwrap().to_owned();
    let rename =
        j!({"DBInstanceIdentifier": "a", "NewDBInstanceIdentifier": "b", "ApplyImmediately": true});
    play.ok("ModifyDBInstance", rename);
    assert_eq!(play.status("a"), "renaming");
    assert_eq!(
        play.code("DescribeDBInstances", j!({"DBInstanceIdentifier": "b"})),
        "DBInstanceNotFound"
    );
    let taken = j!({"DBInstanceIdentifier": "b", "Engine": "mysql", "DBInstanceClass": "db.m5.large",
        "AllocatedStorage": 20, "MasterUsername": "a", "MasterUserPassword": "b"});
    assert_eq!(play.code("CreateDBInstance", taken), "DBInstanceAlreadyExists");
    play.pass(601);
    assert_eq!(play.status("b"), "rebooting");
    play.pass(60);
    let renamed = play.instance("b");
    assert_eq!(renamed.text("DBInstanceStatus"), Some("available"));
    assert_eq!(renamed.text("DbiResourceId"), Some(dbi.as_str()), "identity stays");
    let found = play.ok("DescribeDBSnapshots", j!({"DBSnapshotIdentifier": "s"}));
    assert_eq!(found.maps("DBSnapshots").next().unwrap().text("DBInstanceIdentifier"), Some("a"));
}

#[test]
fn a_modification_is_pending_before_it_is_in_force() {
    let mut play = Play::new();
    play.database("a", j!({}));
    let modify = j!({"DBInstanceIdentifier": "a", "DBInstanceClass": "db.r6g.large", "DeletionProtection": true,
        "ApplyImmediately": true});
    play.ok("ModifyDBInstance", modify);
    let now = play.instance("a");
    assert_eq!(now.text("DBInstanceStatus"), Some("available"), "for a moment yet");
    assert_eq!(
        now.map("PendingModifiedValues").unwrap().text("DBInstanceClass"),
        Some("db.r6g.large")
    );
    assert!(now.is("DeletionProtection"), "at once");
    play.pass(6);
    assert_eq!(play.status("a"), "modifying");
    play.pass(60);
    let done = play.instance("a");
    assert_eq!(done.text("DBInstanceClass"), Some("db.r6g.large"));
    assert!(done.map("PendingModifiedValues").unwrap().is_empty());
    let later = j!({"DBInstanceIdentifier": "a", "DBInstanceClass": "db.m5.large"});
    play.ok("ModifyDBInstance", later);
    play.pass(2_000);
    assert_eq!(
        play.instance("a").text("DBInstanceClass"),
        Some("db.r6g.large"),
        "waits for a window"
    );
}

#[test]
fn deleting_is_guarded() {
    let mut play = Play::new();
    play.database("a", j!({"DeletionProtection": true}));
    let delete = |more: serde_json::Value| {
        let mut params = j!({"DBInstanceIdentifier": "a"});
        for (field, value) in more.as_object().unwrap() {
            params[field] = value.clone();
        }
        params
    };
    let skip = delete(j!({"SkipFinalSnapshot": true}));
    assert_eq!(play.code("DeleteDBInstance", skip.clone()), "InvalidParameterCombination");
    play.ok("ModifyDBInstance", j!({"DBInstanceIdentifier": "a", "DeletionProtection": false}));
    assert_eq!(play.code("DeleteDBInstance", delete(j!({}))), "InvalidParameterCombination");
    let last = delete(j!({"FinalDBSnapshotIdentifier": "last", "DeleteAutomatedBackups": false}));
    play.ok("DeleteDBInstance", last);
    assert_eq!(play.status("a"), "deleting");
    play.pass(200);
    assert_eq!(play.code("DescribeDBInstances", delete(j!({}))), "DBInstanceNotFound");
    let left = play.ok("DescribeDBSnapshots", j!({}));
    assert_eq!(left.maps("DBSnapshots").count(), 1);
    let backups = play.ok("DescribeDBInstanceAutomatedBackups", j!({}));
    let kept = backups.maps("DBInstanceAutomatedBackups").next().unwrap().clone();
    assert_eq!((kept.text("Status"), kept.is("Encrypted")), (Some("retained"), false));
}

fn aurora(play: &mut Play, name: &str) {
    let params = j!({"DBClusterIdentifier": name, "Engine": "aurora-postgresql", "EngineVersion": "16.2",
        "MasterUsername": "a", "MasterUserPassword": "b"});
    play.ok("CreateDBCluster", params);
    let member = j!({"DBInstanceIdentifier": format!("{name}-1"), "DBClusterIdentifier": name,
        "Engine": "aurora-postgresql", "DBInstanceClass": "db.r6g.large"});
    assert_eq!(play.code("CreateDBInstance", member.clone()), "InvalidDBClusterStateFault");
    play.pass(300);
    play.ok("CreateDBInstance", member);
    play.pass(300);
}

#[test]
fn aurora_is_encrypted_by_the_restore_and_never_by_a_copy() {
    let mut play = Play::with(Settings {
        time_scale: 1.0,
        aurora_default: "none".into(),
        ..Settings::default()
    });
    let key = play.key();
    aurora(&mut play, "ledger");
    let direct = j!({"DBInstanceIdentifier": "ledger-1", "DBSnapshotIdentifier": "no"});
    assert_eq!(play.code("CreateDBSnapshot", direct), "InvalidParameterValue");
    play.ok(
        "CreateDBClusterSnapshot",
        j!({"DBClusterIdentifier": "ledger", "DBClusterSnapshotIdentifier": "s"}),
    );
    play.pass(600);
    let copy = j!({"SourceDBClusterSnapshotIdentifier": "s", "TargetDBClusterSnapshotIdentifier": "c", "KmsKeyId": key});
    assert_eq!(play.code("CopyDBClusterSnapshot", copy), "InvalidParameterCombination");
    let restore = j!({"DBClusterIdentifier": "twin", "SnapshotIdentifier": "s", "Engine": "aurora-postgresql", "KmsKeyId": key});
    let twin = play.ok("RestoreDBClusterFromSnapshot", restore);
    let twin = twin.map("DBCluster").unwrap();
    assert_eq!(twin.text("StorageEncryptionType"), Some("sse-kms"));
    assert_eq!(
        twin.text("EngineVersion"),
        Some("16.4"),
        "omitted: the region's default, not the snapshot's"
    );
    assert_eq!(twin.items("DBClusterMembers").len(), 0, "members are not restored");
}

#[test]
fn a_new_aurora_cluster_is_encrypted_without_saying_so() {
    let mut play = Play::new();
    aurora(&mut play, "new");
    let found = play.ok("DescribeDBClusters", j!({}));
    let cluster = found.maps("DBClusters").next().unwrap();
    assert!(!cluster.is("StorageEncrypted"));
    assert_eq!(cluster.text("StorageEncryptionType"), Some("sse-rds"));
    let early = j!({"DBClusterIdentifier": "new", "SkipFinalSnapshot": true});
    assert_eq!(play.code("DeleteDBCluster", early), "InvalidDBClusterStateFault", "it has members");
}

#[test]
fn quotas_bind() {
    let settings =
        Settings { time_scale: 1.0, rds_snapshots: 2, rds_instances: 1, ..Settings::default() };
    let mut play = Play::with(settings);
    play.database("a", j!({}));
    let other = j!({"DBInstanceIdentifier": "b", "Engine": "mysql", "DBInstanceClass": "db.m5.large",
        "AllocatedStorage": 20, "MasterUsername": "a", "MasterUserPassword": "b"});
    assert_eq!(play.code("CreateDBInstance", other), "InstanceQuotaExceeded");
    for (name, good) in [("s1", true), ("s2", true), ("s3", false)] {
        let params = j!({"DBInstanceIdentifier": "a", "DBSnapshotIdentifier": name});
        let made = play.call("rds", "CreateDBSnapshot", params);
        play.pass(300);
        assert_eq!(made.is_ok(), good, "{made:?}");
    }
}

#[test]
fn a_key_policy_decides_what_may_be_done_through_rds() {
    let mut play = Play::new();
    let key = play.key();
    let role = format!("arn:aws:iam::{}:role/RingfenceRemediation", play.account);
    let policy = |service: &str| {
        j!({"Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Principal": {"AWS": role}, "Action": ["kms:DescribeKey", "kms:CreateGrant"],
            "Resource": "*", "Condition": {"StringEquals": {"kms:ViaService": service}},
        }]})
        .to_string()
    };
    let create = |name: &str| {
        j!({"DBInstanceIdentifier": name, "Engine": "mysql", "DBInstanceClass": "db.m5.large",
            "AllocatedStorage": 20, "MasterUsername": "a", "MasterUserPassword": "b",
            "StorageEncrypted": true, "KmsKeyId": key})
    };
    let put = |key: &str, service: &str| j!({"KeyId": key, "Policy": policy(service), "BypassPolicyLockoutSafetyCheck": true});
    let unsafe_one = j!({"KeyId": key, "Policy": policy("rds.eu-west-1.amazonaws.com")});
    let refused = play.call("kms", "PutKeyPolicy", unsafe_one).unwrap_err();
    assert!(refused.starts_with("MalformedPolicyDocumentException"), "{refused}");
    play.call("kms", "PutKeyPolicy", put(&key, "rds.eu-west-1.amazonaws.com")).unwrap();
    assert_eq!(play.code("CreateDBInstance", create("a")), "KMSKeyNotAccessibleFault");
    // Nobody may change it any more but an administrator behind our back: the lock-out that AWS warns of.
    let other = put(&key, "rds.us-east-1.amazonaws.com");
    assert!(
        play.call("kms", "PutKeyPolicy", other).unwrap_err().starts_with("AccessDeniedException")
    );
    let second = play.key();
    play.call("kms", "PutKeyPolicy", put(&second, "rds.us-east-1.amazonaws.com")).unwrap();
    let mut params = create("b");
    params["KmsKeyId"] = second.clone().into();
    play.ok("CreateDBInstance", params);
    // Not via RDS, so the statement does not hold.
    assert!(
        play.call("kms", "DescribeKey", j!({"KeyId": second}))
            .unwrap_err()
            .starts_with("AccessDenied")
    );
}

#[test]
fn a_disabled_key_takes_its_databases_two_hours_later() {
    let mut play = Play::new();
    let key = play.key();
    play.database("a", j!({"StorageEncrypted": true, "KmsKeyId": key}));
    play.call("kms", "DisableKey", j!({"KeyId": key})).unwrap();
    let again = j!({"DBInstanceIdentifier": "b", "Engine": "mysql", "DBInstanceClass": "db.m5.large",
        "AllocatedStorage": 20, "MasterUsername": "a", "MasterUserPassword": "b",
        "StorageEncrypted": true, "KmsKeyId": key});
    assert_eq!(play.code("CreateDBInstance", again), "KMSKeyNotAccessibleFault");
    assert_eq!(play.status("a"), "available");
    play.pass(7_201);
    let account = play.account.clone();
    play.keys = play.enter(&account);
    assert_eq!(play.status("a"), "inaccessible-encryption-credentials-recoverable");
    let start = j!({"DBInstanceIdentifier": "a"});
    assert_eq!(play.code("StartDBInstance", start.clone()), "KMSKeyNotAccessibleFault");
    play.call("kms", "EnableKey", j!({"KeyId": key})).unwrap();
    play.ok("StartDBInstance", start);
    play.pass(200);
    assert_eq!(play.status("a"), "available");
}

#[test]
fn a_snapshot_keeps_its_source_busy_and_deleting_is_final() {
    let mut play = Play::new();
    play.database("a", j!({}));
    play.ok("CreateDBSnapshot", j!({"DBInstanceIdentifier": "a", "DBSnapshotIdentifier": "s"}));
    assert_eq!(play.status("a"), "backing-up");
    let other = j!({"DBInstanceIdentifier": "a", "DBSnapshotIdentifier": "t"});
    assert_eq!(play.code("CreateDBSnapshot", other), "InvalidDBInstanceState");
    play.pass(300);
    play.ok("ModifyDBInstance", j!({"DBInstanceIdentifier": "a", "DBInstanceClass": "db.r6g.large", "ApplyImmediately": true}));
    play.ok("DeleteDBInstance", j!({"DBInstanceIdentifier": "a", "SkipFinalSnapshot": true}));
    play.pass(70);
    assert_eq!(play.status("a"), "deleting", "what was to come does not come");
}

#[test]
fn nothing_takes_a_name_that_a_rename_has_reserved() {
    let mut play = Play::new();
    play.database("a", j!({}));
    play.database("b", j!({}));
    let rename =
        j!({"DBInstanceIdentifier": "a", "NewDBInstanceIdentifier": "c", "ApplyImmediately": true});
    play.ok("ModifyDBInstance", rename);
    let replica = j!({"DBInstanceIdentifier": "c", "SourceDBInstanceIdentifier": "b"});
    assert_eq!(play.code("CreateDBInstanceReadReplica", replica), "DBInstanceAlreadyExists");
}

#[test]
fn a_copy_needs_its_source_and_its_keys_to_the_end() {
    let mut play = Play::new();
    let key = play.key();
    play.database("a", j!({"StorageEncrypted": true, "KmsKeyId": key}));
    play.ok("CreateDBSnapshot", j!({"DBInstanceIdentifier": "a", "DBSnapshotIdentifier": "s"}));
    play.pass(300);
    play.ok(
        "CopyDBSnapshot",
        j!({"SourceDBSnapshotIdentifier": "s", "TargetDBSnapshotIdentifier": "c"}),
    );
    play.ok("DeleteDBSnapshot", j!({"DBSnapshotIdentifier": "s"}));
    play.pass(600);
    let found = play.ok("DescribeDBSnapshots", j!({"DBSnapshotIdentifier": "c"}));
    assert_eq!(found.maps("DBSnapshots").next().unwrap().text("Status"), Some("failed"));
    play.ok("CreateDBSnapshot", j!({"DBInstanceIdentifier": "a", "DBSnapshotIdentifier": "s"}));
    play.pass(300);
    play.call("kms", "ScheduleKeyDeletion", j!({"KeyId": key})).unwrap();
    let copy = j!({"SourceDBSnapshotIdentifier": "s", "TargetDBSnapshotIdentifier": "d", "KmsKeyId": "alias/aws/rds"});
    assert_eq!(play.code("CopyDBSnapshot", copy), "KMSKeyNotAccessibleFault");
}

#[test]
fn one_key_that_comes_back_saves_only_its_own_databases() {
    let mut play = Play::new();
    let (first, second) = (play.key(), play.key());
    play.database("a", j!({"StorageEncrypted": true, "KmsKeyId": first}));
    for key in [&first, &second] {
        play.call("kms", "DisableKey", j!({"KeyId": key})).unwrap();
    }
    play.call("kms", "EnableKey", j!({"KeyId": second})).unwrap();
    play.pass(7_201);
    let account = play.account.clone();
    play.keys = play.enter(&account);
    assert_eq!(play.status("a"), "inaccessible-encryption-credentials-recoverable");
}
