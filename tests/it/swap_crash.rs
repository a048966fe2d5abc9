//! `kill -9` at the writes of a swap, a way back and a decommission, before the call and after its effect, with
//! reads that lag and answers that get lost: started again, all ends in the same world as the uninterrupted run.

use crate::stage::{MINUTE, Stage, text};
use crate::sweep::{at_rest, crash_points, cruel};
use ringfence_tests::until;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What the databases are, and what is wanted of them.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Scenario {
    /// An instance with a replica, whose isolation group is made, swapped and decommissioned.
    Tree,
    /// An instance with a replica in another region, swapped and decommissioned.
    Across,
    /// A cluster with a reader, a role and a custom endpoint, stopped, swapped and decommissioned.
    Cluster,
    /// An instance that is cut off, swapped, and put back; then its twin is discarded.
    Back,
    /// An instance with a replica that AWS switches over, and whose original is decommissioned.
    Green,
    /// A cluster with a reader whose green environment is discarded.
    GreenGone,
}

impl Scenario {
    fn stage(self, hold: Option<(usize, &str)>) -> (Stage, String) {
        let mut stage = match self {
            Scenario::Across => Stage::across(),
            _ => Stage::new(),
        };
        match self {
            Scenario::Across => {
                stage.instance("orders");
                stage.far_replica("orders", &stage.arn(&stage.region, "orders"));
            }
            Scenario::GreenGone => {
                stage.cluster("orders", &["orders-1", "orders-2"]);
                stage.own_parameters("orders");
            }
            Scenario::Tree | Scenario::Green => {
                stage.instance("orders");
                stage.replica("orders-read", "orders");
            }
            Scenario::Cluster => {
                stage.cluster("orders", &["orders-1", "orders-2"]);
                stage.call(
                    "rds",
                    "CreateDBClusterEndpoint",
                    json!({"DBClusterIdentifier": "orders",
                    "DBClusterEndpointIdentifier": "reports", "EndpointType": "READER"}),
                );
                stage.call(
                    "rds",
                    "AddRoleToDBCluster",
                    json!({"DBClusterIdentifier": "orders",
                    "RoleArn": "arn:aws:iam::1:role/load", "FeatureName": "s3Import"}),
                );
            }
            Scenario::Back => stage.instance("orders"),
        }
        let mut settings = vec![
            ("APPROVALS__DECOMMISSION", "1"),
            ("REMEDIATION__POLL", "100ms"),
            ("REMEDIATION__EXPECT_FOR", "1500ms"),
        ];
        if matches!(self, Scenario::Tree | Scenario::Green) {
            settings.push(("REMEDIATION__ISOLATION_GROUPS", ""));
        }
        stage.start(&settings);
        let flags = match self {
            Scenario::Tree => "--strategy swap --make-isolation-groups",
            Scenario::Across => "--strategy swap",
            Scenario::Cluster => "--strategy swap --quiesce stop",
            Scenario::Back => "--strategy swap --quiesce isolate --auto-cutover",
            Scenario::Green => {
                "--strategy blue-green --unproven --acknowledge-jobs --make-isolation-groups"
            }
            Scenario::GreenGone => "--strategy blue-green --unproven --acknowledge-jobs",
        };
        // The plan is made on a calm day.
        let plan = stage.planned(flags);
        if let Some((skip, effect)) = hold {
            // Before the other faults: the first that meets a call has it.
            stage.hold_write(skip, effect);
        }
        cruel(&stage);
        let id = stage.applied(&plan)["orders"].clone();
        (stage, id)
    }

    /// The next order of a person who looks at it; true when there is none.
    fn order(self, stage: &Stage, rem: &Value) -> bool {
        let (id, state) = (text(rem, "id"), text(rem, "state"));
        let ann = stage.cli("ann");
        let order = |verb: &str| drop(ann.args(&["remediation", verb, id, "--reason", "because"]));
        match (self, state) {
            (_, "decommissioned" | "discarded") => return true,
            (_, "stopped") => panic!("{self:?} stopped: {rem}"),
            (Scenario::GreenGone, "verified") => order("discard"),
            (Scenario::Back, "cut_over") => order("rollback"),
            (Scenario::Back, "rolled_back") => order("discard"),
            (Scenario::Back | Scenario::GreenGone, _) => {}
            (_, "verified") => order("cutover"),
            (_, "cut_over") => {
                let args = [
                    "remediation",
                    "decommission",
                    id,
                    "--confirm",
                    text(rem, "held"),
                    "--reason",
                    "done",
                ];
                if ann.args(&args).code == 5 {
                    stage.cli("bob").args(&["approve", id, "--reason", "CHG-2"]);
                }
            }
            _ => {}
        }
        false
    }

    /// Everything to its end; the process is killed where a call is held. Which call that was.
    fn drive(self, stage: &mut Stage, id: &str) -> Option<String> {
        let mut killed = None;
        until(&format!("{self:?} ends"), 2 * MINUTE, || {
            killed = stage.kill_where_held().or(killed.take());
            let rem = stage.cli("ann").run(&format!("remediation get {id} -o json"));
            if rem.code == 0 && self.order(stage, &rem.json()) {
                return Ok(());
            }
            Err(format!("killed at {killed:?}: {rem:?}"))
        });
        killed
    }
}

/// What is left, without what differs from run to run.
fn world(stage: &Stage, id: &str) -> BTreeMap<String, String> {
    at_rest(|| {
        let mut all = BTreeMap::new();
        let (mut groups, mut rules) = (BTreeMap::new(), BTreeMap::new());
        let found = stage.call("ec2", "DescribeSecurityGroups", json!({}));
        for group in found["securityGroupInfo"].as_array().expect("groups") {
            let name = text(group, "groupName").to_owned();
            let said = format!("{} {}", group["ipPermissions"], group["ipPermissionsEgress"]);
            groups.insert(text(group, "groupId").to_owned(), name.clone());
            assert!(rules.insert(format!("group {name}"), said).is_none(), "two groups {name}");
        }
        all.extend(rules);
        let mut databases = vec![("instance", stage.describe()), ("cluster", stage.clusters())];
        if !stage.far.is_empty() {
            databases.push(("instance elsewhere", stage.describe_in(&stage.far)));
        }
        for (kind, list) in databases {
            for (name, database) in list {
                let fields = [
                    "DBInstanceStatus",
                    "Status",
                    "StorageEncryptionType",
                    "VpcSecurityGroups",
                    "DeletionProtection",
                    "DBInstanceClass",
                    "DBClusterIdentifier",
                    "ReadReplicaSourceDBInstanceIdentifier",
                    "BackupRetentionPeriod",
                    "CustomEndpoints",
                    "AssociatedRoles",
                ];
                let said = fields.map(|f| database[f].to_string()).join(" ");
                // Security groups are made anew in each run.
                let by_name =
                    |said: String, (id, group): (&String, &String)| said.replace(id, group);
                let said = groups.iter().fold(said, by_name);
                assert!(all.insert(format!("{kind} {name}"), said).is_none());
            }
        }
        for snapshot in stage.snapshots() {
            all.insert(snapshot.replace(id, "rem"), String::new());
        }
        all
    })
}

/// Calls that made or deleted something, by operation.
fn calls(stage: &Stage) -> BTreeMap<String, u64> {
    let counts = stage.sim.counts();
    let makes = |name: &str| {
        ["Create", "Copy", "Restore", "Delete", "Switchover"]
            .iter()
            .any(|verb| ["rds", "ec2"].iter().any(|s| name.starts_with(&format!("{s}:{verb}"))))
    };
    counts
        .into_iter()
        .filter(|(name, _)| makes(name))
        .map(|(name, (n, bad))| (name, n - bad))
        .collect()
}

struct Ran {
    killed: Option<String>,
    world: BTreeMap<String, String>,
    calls: BTreeMap<String, u64>,
}

fn run(scenario: Scenario, hold: Option<(usize, &str)>) -> Ran {
    let (mut stage, id) = scenario.stage(hold);
    let killed = scenario.drive(&mut stage, &id);
    stage.sim.inside().world().settings.read_lag_ms = 0;
    Ran { killed, world: world(&stage, &id), calls: calls(&stage) }
}

fn crash_everywhere(scenario: Scenario) {
    let quiet = run(scenario, None);
    // The way back has many waits; a green environment that is discarded has few writes.
    let part = match scenario {
        Scenario::Back => 8,
        Scenario::Tree | Scenario::Across | Scenario::Cluster | Scenario::Green => 4,
        Scenario::GreenGone => 1,
    };
    let points = crash_points(&format!("{scenario:?}"), part, |(nth, effect)| {
        let ran = run(scenario, Some((nth, effect)));
        let operation = ran.killed?;
        let at = format!("{scenario:?}: killed at write {nth} ({operation}), {effect}");
        assert_eq!(ran.world, quiet.world, "{at}");
        assert_eq!(ran.calls, quiet.calls, "{at}: nothing is made or deleted twice");
        Some(operation)
    });
    assert!(points >= 4, "{points}");
}

#[test]
fn a_tree_survives_a_crash_at_its_writes() {
    crash_everywhere(Scenario::Tree);
}

#[test]
fn a_tree_across_regions_survives_a_crash_at_its_writes() {
    crash_everywhere(Scenario::Across);
}

#[test]
fn a_cluster_survives_a_crash_at_its_writes() {
    crash_everywhere(Scenario::Cluster);
}

#[test]
fn a_way_back_survives_a_crash_at_its_writes() {
    crash_everywhere(Scenario::Back);
}

#[test]
fn a_switchover_survives_a_crash_at_its_writes() {
    crash_everywhere(Scenario::Green);
}

#[test]
fn a_discarded_green_environment_survives_a_crash_at_its_writes() {
    crash_everywhere(Scenario::GreenGone);
}
