//! `kill -9` at the writes of remediations that meet trouble of their own, with reads that lag and answers that
//! get lost: started again, all ends in the same world as the run that nobody killed.

use crate::stage::{MINUTE, Stage, text};
use crate::sweep::{at_rest, crash_points, cruel_so};
use ringfence_tests::until;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What goes wrong, once, whatever is killed when.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Trouble {
    /// The restored twin fails; its owner deletes it, and somebody says retry.
    FailedRestore,
    /// The key is disabled before the restore, and enabled again once that was noticed.
    KeyDisabled,
    /// Every third call is throttled.
    Throttled,
    /// Somebody deletes the original right before the restore: what was made may be all there is, and stays.
    SourceDeleted,
}

impl Trouble {
    fn stage(self, hold: Option<(usize, &str)>) -> (Stage, String) {
        let mut stage = Stage::new();
        stage.instance("orders");
        if self == Trouble::SourceDeleted {
            let off = json!({"DBInstanceIdentifier": "orders", "DeletionProtection": false,
                "ApplyImmediately": true});
            stage.call("rds", "ModifyDBInstance", off);
            stage.available("orders");
        }
        stage.start(&[("REMEDIATION__POLL", "100ms"), ("REMEDIATION__EXPECT_FOR", "1500ms")]);
        // The plan is made on a calm day.
        let made = stage.planned("");
        if let Some((skip, effect)) = hold {
            // Before the other faults: the first that meets a call has it.
            stage.hold_write(skip, effect);
        }
        self.begins(&stage);
        let id = stage.applied(&made)["orders"].clone();
        (stage, id)
    }

    fn begins(self, stage: &Stage) {
        let (account, region) = (&stage.account, &stage.region);
        let call = |service: &str, operation: &str, params: Value| {
            json!({"change": {"call": {"account": account, "region": region, "service": service,
                "operation": operation, "params": params}}})
        };
        let rule = |operation: &str, effect: Value| {
            stage.sim.fault(
                json!({"match": {"service": "rds", "operation": operation}, "effect": effect}),
            );
        };
        match self {
            Trouble::FailedRestore => {
                rule("RestoreDBInstanceFromDBSnapshot", json!("fail-restore"));
            }
            Trouble::KeyDisabled => {
                let off = call("kms", "DisableKey", json!({"KeyId": key(stage)}));
                rule("CopyDBSnapshot", off);
            }
            Trouble::Throttled => {
                stage.sim.fault(
                    json!({"match": {"service": "rds"}, "times": 0, "chance": 0.33, "effect": "throttle"}),
                );
            }
            Trouble::SourceDeleted => {
                let gone = json!({"DBInstanceIdentifier": "orders", "SkipFinalSnapshot": true});
                rule("RestoreDBInstanceFromDBSnapshot", call("rds", "DeleteDBInstance", gone));
            }
        }
        // A restore that is lost is not asked for again where its original is gone: the end would be chance.
        cruel_so(stage, self != Trouble::SourceDeleted);
    }

    /// What a person does who looks at it; where it ended, if it did.
    fn helps(self, stage: &Stage, rem: &Value) -> Option<String> {
        let (id, state, why) = (text(rem, "id"), text(rem, "state"), text(rem, "why"));
        match (self, state) {
            (_, "verified") => return Some("verified".into()),
            (Trouble::FailedRestore, "stopped") => {
                if let Some(twin) = stage.describe().get("encrypted-orders") {
                    if text(twin, "DBInstanceStatus") == "failed" {
                        stage.call(
                            "rds",
                            "DeleteDBInstance",
                            json!({"DBInstanceIdentifier":
                            "encrypted-orders", "SkipFinalSnapshot": true}),
                        );
                    }
                } else {
                    stage.cli("ann").args(&["remediation", "retry", id, "--reason", "deleted"]);
                }
            }
            (Trouble::KeyDisabled, "running") if why.contains("enable-key") => {
                stage.call("kms", "EnableKey", json!({"KeyId": key(stage)}));
            }
            (_, "stopped") => return Some(format!("stopped: {why}")),
            _ => {}
        }
        None
    }

    /// Everything to its end; the process is killed where a call is held. Which call that was.
    fn drive(self, stage: &mut Stage, id: &str) -> (Option<String>, String) {
        let mut killed = None;
        let end = until(&format!("{self:?} ends"), 2 * MINUTE, || {
            killed = stage.kill_where_held().or(killed.take());
            let rem = stage.cli("ann").run(&format!("remediation get {id} -o json"));
            let end = (rem.code == 0).then(|| self.helps(stage, &rem.json())).flatten();
            end.ok_or_else(|| format!("killed at {killed:?}: {rem:?}"))
        });
        (killed, end)
    }
}

fn key(stage: &Stage) -> String {
    let all = stage.call("kms", "ListAliases", json!({}));
    let all = all["Aliases"].as_array().cloned().unwrap_or_default();
    let ours = all.iter().find(|a| a["AliasName"] == "alias/RDSEncryptionAtRestKMSAlias");
    text(ours.expect("our alias"), "TargetKeyId").to_owned()
}

/// What is left, without what differs from run to run.
fn world(stage: &Stage, id: &str) -> BTreeMap<String, String> {
    at_rest(|| {
        let mut all = BTreeMap::new();
        for (name, database) in stage.describe() {
            let fields = [
                "DBInstanceStatus",
                "StorageEncryptionType",
                "DeletionProtection",
                "DBInstanceClass",
            ];
            all.insert(name, fields.map(|f| database[f].to_string()).join(" "));
        }
        all.extend(stage.snapshots().into_iter().map(|s| (s.replace(id, "rem"), String::new())));
        all
    })
}

/// Calls that made something, by operation.
fn made(stage: &Stage) -> BTreeMap<String, u64> {
    let all = stage.sim.counts();
    let makes =
        |name: &str| ["rds:Create", "rds:Copy", "rds:Restore"].iter().any(|v| name.starts_with(v));
    all.into_iter()
        .filter(|(name, _)| makes(name))
        .map(|(name, (n, bad))| (name, n - bad))
        .collect()
}

struct Ran {
    killed: Option<String>,
    end: String,
    world: BTreeMap<String, String>,
    made: BTreeMap<String, u64>,
}

fn run(trouble: Trouble, hold: Option<(usize, &str)>) -> Ran {
    let (mut stage, id) = trouble.stage(hold);
    let (killed, end) = trouble.drive(&mut stage, &id);
    stage.sim.inside().world().settings.read_lag_ms = 0;
    Ran { killed, end, world: world(&stage, &id), made: made(&stage) }
}

fn crash_everywhere(trouble: Trouble, end: &str) {
    let quiet = run(trouble, None);
    println!("{trouble:?}: {} {:?} {:?}", quiet.end, quiet.world, quiet.made);
    assert!(quiet.end.starts_with(end), "{trouble:?}: {}", quiet.end);
    let points = crash_points(&format!("{trouble:?}"), 4, |(nth, effect)| {
        let ran = run(trouble, Some((nth, effect)));
        let operation = ran.killed?;
        let at = format!("{trouble:?}: killed at write {nth} ({operation}), {effect}");
        assert_eq!(ran.end, quiet.end, "{at}: {:?}", ran.world);
        assert_eq!(ran.world, quiet.world, "{at}");
        assert_eq!(ran.made, quiet.made, "{at}: nothing is made twice");
        Some(operation)
    });
    assert!(points >= 2, "{points}");
}

#[test]
fn a_failed_restore_survives_a_crash_at_its_writes() {
    crash_everywhere(Trouble::FailedRestore, "verified");
}

#[test]
fn a_disabled_key_survives_a_crash_at_its_writes() {
    crash_everywhere(Trouble::KeyDisabled, "verified");
}

#[test]
fn throttling_survives_a_crash_at_its_writes() {
    crash_everywhere(Trouble::Throttled, "verified");
}

#[test]
fn a_deleted_original_survives_a_crash_at_its_writes() {
    crash_everywhere(Trouble::SourceDeleted, "stopped");
}
