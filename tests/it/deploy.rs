//! The member role's template allows what the code calls, and nothing else.

use ringfence_tests::emulator::{self, Sim};
use ringfence_tests::process::Setup;
use ringfence_tests::{python, root};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// Actions that AWS checks behind a call, and where that is documented. "SAR" is the Service
/// Authorization Reference, "Actions, resources, and condition keys for Amazon RDS", column
/// "Dependent actions".
const DEPENDENT: &[(&str, &[&str], &str)] = &[
    (
        "rds:AddTagsToResource",
        &[
            "rds:CopyDBSnapshot",
            "rds:RestoreDBInstanceFromDBSnapshot",
            "rds:RestoreDBClusterFromSnapshot",
            "rds:CreateDBInstanceReadReplica",
        ],
        "SAR",
    ),
    (
        "iam:PassRole",
        &[
            "rds:RestoreDBInstanceFromDBSnapshot",
            "rds:RestoreDBClusterFromSnapshot",
            "rds:CreateDBInstanceReadReplica",
        ],
        "SAR",
    ),
    ("rds:CreateDBCluster", &["rds:CreateBlueGreenDeployment"], "SAR"),
    ("rds:PromoteReadReplica", &["rds:SwitchoverBlueGreenDeployment"], "SAR"),
    ("rds:PromoteReadReplicaDBCluster", &["rds:SwitchoverBlueGreenDeployment"], "SAR"),
    ("rds:CreateTenantDatabase", &["rds:RestoreDBInstanceFromDBSnapshot"], "SAR"),
    (
        "kms:CreateGrant",
        &["rds:CreateDBInstance", "rds:ModifyDBInstance"],
        "SAR; RDS guide, \"Encrypting Amazon RDS resources\": the caller needs CreateGrant and DescribeKey",
    ),
    (
        "ec2:CreateTags",
        &["ec2:CreateSecurityGroup"],
        "EC2 guide, \"Grant permission to tag resources during creation\"",
    ),
    ("kms:TagResource", &["kms:CreateKey"], "KMS API reference, CreateKey: Tags"),
    ("kms:Decrypt", &["rds:CreateDBInstance", "rds:ModifyDBInstance"], "SAR"),
    ("kms:GenerateDataKey", &["rds:CreateDBInstance", "rds:ModifyDBInstance"], "SAR"),
    ("secretsmanager:CreateSecret", &["rds:CreateDBInstance", "rds:ModifyDBInstance"], "SAR"),
    ("secretsmanager:TagResource", &["rds:CreateDBInstance", "rds:ModifyDBInstance"], "SAR"),
    ("secretsmanager:RotateSecret", &["rds:ModifyDBInstance"], "SAR"),
];

/// The operations that the adapter names in its calls inside member accounts.
fn called() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut read = |path: &Path| {
        let text = std::fs::read_to_string(path).expect("a source file");
        for part in text.split('"').skip(1).step_by(2) {
            let inside = [
                "rds:",
                "kms:",
                "account:",
                "config:",
                "cloudwatch:",
                "iam:Get",
                "ec2:",
                "secretsmanager:List",
                "cloudtrail:",
            ]
            .iter()
            .any(|p| part.starts_with(p));
            let operation = part.split(':').nth(1).unwrap_or_default();
            if inside && operation.len() > 3 && operation.bytes().all(|b| b.is_ascii_alphanumeric())
            {
                found.insert(part.to_owned());
            }
        }
    };
    let src = root().join("aws/src");
    for file in [
        "account.rs",
        "cloudtrail.rs",
        "cloudwatch.rs",
        "config/member.rs",
        "ec2.rs",
        "iam.rs",
        "secrets.rs",
        "kms/mod.rs",
        "kms/write.rs",
        "rds/around.rs",
        "rds/blue_green.rs",
        "rds/endpoints.rs",
        "rds/probe.rs",
        "rds/read.rs",
        "rds/snapshot.rs",
        "rds/write_cluster.rs",
        "rds/write_instance.rs",
        "rds/write_place.rs",
        "rds/write_replica.rs",
    ] {
        read(&src.join(file));
    }
    found
}

#[test]
fn the_member_role_allows_what_the_code_calls_and_no_more() {
    let calls = called();
    assert!(calls.len() > 12, "the sources are read: {calls:?}");
    let mut wanted = calls.clone();
    for (action, behind, source) in DEPENDENT {
        assert!(!source.is_empty());
        assert!(
            behind.iter().any(|b| calls.contains(*b)),
            "{action} stands behind no call of ours"
        );
        wanted.insert((*action).to_owned());
    }
    let output = Command::new(python())
        .arg(root().join("tests/python/actions.py"))
        .arg(root().join("deploy/member-role.yaml"))
        .output()
        .expect("run Python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let allowed: BTreeSet<String> =
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    // A policy is asked about all of them before it is rolled out.
    let asked =
        ringfence_domain::scp::OUR_CALLS.iter().chain(ringfence_domain::scp::OUR_OTHER_CALLS);
    let asked: BTreeSet<String> = asked.map(|c| (*c).to_owned()).collect();
    let unasked: Vec<_> = calls.difference(&asked).collect();
    assert!(unasked.is_empty(), "no policy is asked about {unasked:?}");
    let lack: Vec<_> = wanted.difference(&allowed).collect();
    let surplus: Vec<_> = allowed.difference(&wanted).collect();
    assert!(lack.is_empty() && surplus.is_empty(), "lack {lack:?}, surplus {surplus:?}");
}

/// The whole remediation with no more rights than the template gives, on the simulator, which enforces
/// them: an instance and a cluster.
#[test]
fn the_member_roles_permissions_are_enough_and_enforced() {
    for kind in ["single", "aurora"] {
        let sim = Sim::empty();
        let world = emulator::build(&sim.url(), 6, &[kind, "1"]);
        let account = world["accounts"][0]["id"].as_str().expect("an account").to_owned();
        let ran = Command::new(python())
            .arg(root().join("tests/python/role_policy.py"))
            .arg(root().join("deploy/member-role.yaml"))
            .arg(&account)
            .output()
            .expect("run Python");
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        let policy: Value = serde_json::from_slice(&ran.stdout).expect("JSON");
        let role = |policy: &Value| {
            sim.change(json!({"role": {"account": account, "name": "RingfenceRemediation",
                "present": true, "policy": policy}}));
        };
        let folder = tempfile::tempdir().expect("a folder");
        let setup = Setup::new(&sim.url(), folder.path());
        let _server = setup.start();
        let (ann, bob) = (setup.cli("ann"), setup.cli("bob"));
        ann.expect("org sync", 0);
        // With rights to nothing, nothing is said to be clean.
        role(
            &json!({"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]}),
        );
        let blind = ann.json(&format!("scan start --account {account} --wait --timeout 60s"), 3);
        assert_eq!(blind["coverage"]["denied"], blind["cells"], "{blind}");
        role(&policy);
        ann.expect(&format!("scan start --account {account} --wait --timeout 60s"), 0);
        let plan = ann.json(&format!("plan create --account {account}"), 0);
        let plan = plan["id"].as_str().expect("a plan").to_owned();
        bob.expect(&format!("approve {plan} --reason CHG-1"), 0);
        let done = ann.run(&format!("remediation apply {plan} --wait --timeout 90s"));
        assert_eq!(done.code, 0, "{kind}: {done:?}");
    }
}
