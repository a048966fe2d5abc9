//! The whole job on an organization in moto and in the simulator, judged by boto3 reading the emulator
//! directly: what Ringfence says of its work is compared with what is there. Where the two emulators
//! give different ends, docs/emulators.md says which one is right about AWS.

use ringfence_tests::emulator::Emulator;
use ringfence_tests::postgres::Postgres;
use ringfence_tests::process::{Cli, Setup};
use ringfence_tests::python;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

const SEED: u32 = 7;

/// What may differ between an original and its twin: identity, times, and what encryption is about.
const MAY_DIFFER: &[&str] = &[
    "DBInstanceIdentifier",
    "DBInstanceArn",
    "DbiResourceId",
    "Endpoint",
    "InstanceCreateTime",
    "LatestRestorableTime",
    "StorageEncrypted",
    "StorageEncryptionType",
    "KmsKeyId",
    "TagList",
    "ReadReplicaDBInstanceIdentifiers",
];

/// The same for clusters and their members.
const CLUSTER_MAY_DIFFER: &[&str] = &[
    "DBClusterIdentifier",
    "DBClusterArn",
    "DbClusterResourceId",
    "ReaderEndpoint",
    "ClusterCreateTime",
    "EarliestRestorableTime",
    "DBClusterMembers",
];

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap_or_else(|| panic!("no list: {value}"))
}

fn map(value: &Value) -> &Map<String, Value> {
    value.as_object().unwrap_or_else(|| panic!("no map: {value}"))
}

struct Job {
    emulator: Emulator,
    world: Value,
    before: Value,
    cli: Cli,
    folder: tempfile::TempDir,
    _server: ringfence_tests::Guard,
}

impl Job {
    fn start(emulator: Emulator, store: Option<&str>) -> Job {
        let folder = tempfile::tempdir().expect("a folder");
        let world = emulator.build(SEED, &[]);
        let before = emulator.dump(&world);
        let denied: Vec<String> =
            list(&world["denied"]).iter().map(|d| text(d).to_owned()).collect();
        emulator.guard(&denied, "ringfence-test");
        let mut setup = Setup::new(&emulator.url(), folder.path());
        if let Some(store) = store {
            setup.set("RINGFENCE_STORE__URL", store);
        }
        let server = setup.start();
        Job { cli: setup.cli("ann"), emulator, world, before, folder, _server: server }
    }

    fn bob(&self) -> Cli {
        Cli { user: "bob".into(), ..self.cli.clone() }
    }

    /// The unencrypted resources that the truth shows, as `account region name`.
    fn unencrypted(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        let (mut instances, mut clusters) = (BTreeSet::new(), BTreeSet::new());
        for (cell, found) in map(&self.before["cells"]) {
            let closed = cell.starts_with(text(&self.world["suspended"]));
            let denied = list(&self.world["denied"]).iter().any(|d| cell.starts_with(text(d)));
            if closed || denied {
                continue;
            }
            for (name, i) in map(&found["instances"]) {
                if i["StorageEncrypted"] == false && i.get("DBClusterIdentifier").is_none() {
                    instances.insert(format!("{cell} {name}"));
                }
            }
            for (name, c) in map(&found["clusters"]) {
                if c["StorageEncrypted"] == false {
                    clusters.insert(format!("{cell} {name}"));
                }
            }
        }
        assert!(instances.len() > 10 && clusters.len() == 2, "{instances:?} {clusters:?}");
        (instances, clusters)
    }

    fn organization(&self) {
        let synced = self.cli.json("org sync", 0);
        assert_eq!(synced["accounts"], list(&self.world["accounts"]).len());
        assert_eq!(synced["ous"], map(&self.world["ous"]).len());
        // A closed account is CLOSED for 90 days; moto still calls it SUSPENDED, as AWS did until 2026.
        let closed = if self.emulator.is_simulator() { "CLOSED" } else { "SUSPENDED" };
        assert_eq!(synced["accounts_by_state"][closed], 1, "{synced}");
        assert!(self.cli.expect("org sync", 0).out.contains("nothing changed"));
        let tree = self.cli.expect("org tree", 0).out;
        for account in list(&self.world["accounts"]) {
            assert!(tree.contains(text(&account["id"])), "{account} is in the tree");
        }
        assert!(tree.contains(&format!("{closed} (")), "{tree}");
        self.move_account();
    }

    /// A second sync says what changed.
    fn move_account(&self) {
        let (ous, accounts) = (&self.world["ous"], list(&self.world["accounts"]));
        let (from, to) = (text(&ous["empty"]), text(&ous["dev"]));
        let id =
            accounts.iter().find(|a| a["name"] == "new-3").map(|a| text(&a["id"])).expect("new-3");
        let code = format!(
            "import boto3; boto3.client('organizations', region_name='us-east-1', endpoint_url='{}', aws_access_key_id='m', aws_secret_access_key='x').move_account(AccountId='{id}', SourceParentId='{from}', DestinationParentId='{to}')",
            self.emulator.script_url()
        );
        assert!(Command::new(python()).args(["-c", &code]).status().expect("run Python").success());
        let synced = self.cli.json("org sync", 0);
        let changes = list(&synced["changes"]);
        assert_eq!(changes.len(), 1, "{synced}");
        assert_eq!(changes[0]["id"], id);
        assert_eq!(changes[0]["what"], "moved from Root/workloads/empty to Root/workloads/dev");
    }

    fn scan(&self) {
        let scan = self.cli.json("scan start --wait", 3);
        let denied = list(&self.world["denied"]).len() * list(&self.world["regions"]).len();
        assert_eq!(scan["coverage"]["denied"], denied, "{scan}");
        let (instances, clusters) = self.unencrypted();
        let status = self.cli.json("status", 0);
        assert_eq!(status["schema_version"], "1");
        assert_eq!(status["findings"]["instances"], instances.len(), "{status}");
        assert_eq!(status["findings"]["clusters"], clusters.len());
        assert_eq!(status["findings"]["open"], instances.len() + clusters.len());
        let coverage = map(&status["coverage"]);
        let sum: u64 =
            coverage.iter().filter(|(k, _)| *k != "cells").filter_map(|(_, n)| n.as_u64()).sum();
        assert_eq!(coverage["cells"], sum);
        let found: BTreeSet<String> = list(&self.cli.json("finding list", 0)["findings"])
            .iter()
            .map(|f| format!("{} {} {}", text(&f["account"]), text(&f["region"]), text(&f["name"])))
            .collect();
        assert_eq!(found, instances.union(&clusters).cloned().collect());
        self.cells(&found);
    }

    /// Every cell against the truth: denied where denied, findings where something is unencrypted.
    fn cells(&self, found: &BTreeSet<String>) {
        let cells = self.cli.json("scan cells", 0);
        for cell in list(&cells["cells"]) {
            let at = format!("{} {}", text(&cell["account"]), text(&cell["region"]));
            let denied = list(&self.world["denied"]).contains(&cell["account"]);
            let dirty = found.iter().any(|f| f.starts_with(&at));
            let want = match (denied, dirty) {
                (true, _) => "denied",
                (false, true) => "findings",
                (false, false) => "clean",
            };
            assert_eq!(cell["state"], want, "{cell}");
            // moto has no ListRegions, and a denied account does not say its regions.
            let listed = self.emulator.is_simulator() && !denied;
            let source = if listed { "account" } else { "configured" };
            assert_eq!(cell["regions_source"], source, "{cell}");
            if !denied {
                let truth = &self.before["cells"][&at];
                assert_eq!(cell["instances"], map(&truth["instances"]).len(), "{cell}");
                assert_eq!(cell["clusters"], map(&truth["clusters"]).len(), "{cell}");
            }
        }
    }

    fn remediate(&self) -> Value {
        let plan = self.cli.json("plan create --all", 0);
        let id = text(&plan["id"]);
        let blocked: BTreeMap<&str, &str> = list(&plan["items"])
            .iter()
            .filter(|i| !list(&i["blockers"]).is_empty())
            .map(|i| (text(&i["name"]), text(&i["blockers"][0])))
            .collect();
        assert!(blocked["orders-read"].contains("read replica of orders-main"), "{blocked:?}");
        assert!(
            blocked["keyless"].contains(
                "there is no key behind alias/RDSEncryptionAtRestKMSAlias in eu-central-1"
            )
        );
        assert_eq!(blocked.len(), 2, "{blocked:?}");
        let main =
            list(&plan["items"]).iter().find(|i| i["name"] == "orders-main").expect("orders-main");
        let steps = main["steps"].to_string();
        assert!(steps.contains("each after its source: encrypted-orders-read"), "{steps}");

        let refused = self.cli.expect(&format!("remediation apply {id}"), 5);
        assert!(refused.err.contains("approval"), "{refused:?}");
        self.cli.expect(&format!("approve {id} --reason CHG-1"), 4);
        let other =
            self.bob().expect(&format!("approve {id} --reason CHG-1 --hash {}", "0".repeat(64)), 5);
        assert!(other.err.contains("read it again"), "{other:?}");
        self.bob().expect(&format!("approve {id} --reason CHG-1"), 0);
        let code = if self.emulator.is_simulator() { 0 } else { 3 };
        let done =
            self.cli.expect(&format!("remediation apply {id} --wait --timeout 120s -o json"), code);
        let twice = self.cli.expect(&format!("remediation apply {id}"), 5);
        assert!(twice.err.contains("was applied at"), "{twice:?}");
        let done = done.json();
        for rem in list(&done["remediations"]) {
            // moto does not encrypt the restore of an Aurora snapshot, which AWS does.
            let aurora = self.emulator.is_simulator();
            let want = if rem["kind"] == "cluster" && !aurora { "stopped" } else { "verified" };
            assert_eq!(rem["state"], want, "{rem}");
            if want == "stopped" {
                assert!(text(&rem["why"]).contains("is not encrypted under"), "{rem}");
            }
        }
        done
    }

    /// What moto holds afterwards: a twin beside every unencrypted instance that could be done, equal
    /// but for what may differ; nothing else new, nothing else changed, no scratch.
    fn judge(&self, remediations: &Value) {
        let after = self.emulator.dump(&self.world);
        let (instances, clusters) = self.unencrypted();
        let (mut twins, mut twin_clusters) = (0, 0);
        let rems = list(&remediations["remediations"]);
        let of = |cell: &str, twin: &str| {
            let here = |r: &&Value| {
                r["twin"] == twin
                    && cell == format!("{} {}", text(&r["account"]), text(&r["region"]))
            };
            rems.iter().find(here)
        };
        for (cell, was) in map(&self.before["cells"]) {
            let is = &after["cells"][cell];
            for kind in ["snapshots", "cluster_snapshots"] {
                assert_eq!(names(&is[kind]), names(&was[kind]), "{cell} {kind}");
            }
            let mut new = names(&is["instances"]);
            for (name, instance) in map(&was["instances"]) {
                assert!(new.remove(name), "{cell} {name} is still there");
                same(instance, &is["instances"][name], &["LatestRestorableTime"], name);
            }
            let mut new_clusters = names(&is["clusters"]);
            for (name, cluster) in map(&was["clusters"]) {
                assert!(new_clusters.remove(name), "{cell} {name} is still there");
                let but = ["LatestRestorableTime", "EarliestRestorableTime"];
                same(cluster, &is["clusters"][name], &but, name);
            }
            for twin in new_clusters {
                let rem =
                    of(cell, &twin).unwrap_or_else(|| panic!("{cell}: who asked for {twin}?"));
                assert!(clusters.contains(&format!("{cell} {}", text(&rem["name"]))));
                cluster_equals(was, is, rem, &mut new);
                twin_clusters += 1;
            }
            for twin in new {
                let source = &is["instances"][&twin]["ReadReplicaSourceDBInstanceIdentifier"];
                let asked = source.as_str().unwrap_or(&twin);
                let rem =
                    of(cell, asked).unwrap_or_else(|| panic!("{cell}: who asked for {twin}?"));
                let name = twin.strip_prefix("encrypted-").unwrap_or_else(|| text(&rem["name"]));
                let name = if source.is_null() { text(&rem["name"]) } else { name };
                assert!(instances.contains(&format!("{cell} {name}")));
                let but = [MAY_DIFFER, &["ReadReplicaSourceDBInstanceIdentifier"]].concat();
                equals(&was["instances"][name], &is["instances"][&twin], &but, rem);
                twins += 1;
            }
        }
        // All but the one without a key; Aurora only where the emulator encrypts it.
        assert_eq!(twins, instances.len() - 1);
        assert_eq!(twin_clusters, if self.emulator.is_simulator() { clusters.len() } else { 0 });
        self.cli.expect("scan start --wait", 3);
        let held = twins + twin_clusters;
        assert_eq!(self.cli.json("status", 0)["findings"]["held_original"], held);
    }

    /// On the simulator the fence holds: by boto3, an unencrypted database is denied in the fenced OU,
    /// by the policy's name, an encrypted one is made, and both are where there is no fence.
    fn bites(&self) {
        if !self.emulator.is_simulator() {
            return;
        }
        let account = |ou: &str| {
            let found = list(&self.world["accounts"]).iter().find(|a| a["ou"] == ou);
            found.map(|a| text(&a["id"]).to_owned()).expect("an account")
        };
        let ran = Command::new(python())
            .arg(ringfence_tests::root().join("tests/python/fence.py"))
            .args([self.emulator.script_url(), account("sandbox"), account("empty")])
            .output()
            .expect("run Python");
        let out = String::from_utf8_lossy(&ran.stdout).into_owned();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        let said: Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!(said["fenced plain"]["code"], "AccessDenied", "{said}");
        let message = text(&said["fenced plain"]["message"]);
        assert!(
            message.contains(
                "with an explicit deny in a service control policy: arn:aws:organizations::"
            ),
            "{message}"
        );
        assert_eq!(said["fenced encrypted"]["code"], "", "{said}");
        assert_eq!(said["fenced cluster member"]["code"], "", "{said}");
        assert_eq!(said["free plain"]["code"], "", "{said}");
        assert_eq!(said["trail"], 1, "CloudTrail names the policy of the denied call: {said}");
    }

    fn rollout(&self, name: &str, stages: &[&str]) -> String {
        let mut toml = "policy = \"rds-encryption\"\n".to_owned();
        for ou in stages {
            let target = text(&self.world["ous"][*ou]);
            toml.push_str(&format!("[[stage]]\nname = \"{ou}\"\ntargets = [\"{target}\"]\n"));
        }
        let file = self.folder.path().join(format!("{name}.toml"));
        std::fs::write(&file, toml).expect("write the file");
        let plan = self.cli.json(&format!("rollout plan -f {}", file.display()), 0);
        text(&plan["id"]).to_owned()
    }

    /// Which targets have a policy of ours, by name of OU.
    fn fenced(&self) -> BTreeSet<String> {
        let now = self.emulator.dump(&self.world)["policies"].clone();
        let ours =
            |target: &str| list(&now[target]).iter().any(|p| text(p).starts_with("ringfence-"));
        let mut found: BTreeSet<String> = map(&self.world["ous"])
            .iter()
            .filter(|(_, id)| ours(text(id)))
            .map(|(n, _)| n.clone())
            .collect();
        let others = list(&self.world["accounts"])
            .iter()
            .map(|a| text(&a["id"]))
            .chain([text(&self.world["root"])]);
        found.extend(others.filter(|id| ours(id)).map(str::to_owned));
        // Whatever was there before is there still.
        for (target, was) in map(&self.before["policies"]) {
            let is: BTreeSet<&str> = list(&now[target]).iter().map(text).collect();
            assert!(list(was).iter().all(|p| is.contains(text(p))), "{target}");
        }
        found
    }

    fn fence(&self) {
        let id = self.rollout("good", &["sandbox"]);
        self.cli.expect(&format!("rollout start {id}"), 5);
        self.cli.expect(&format!("rollout approve {id} --reason CHG-2"), 4);
        self.bob().expect(&format!("rollout approve {id} --reason CHG-2"), 0);
        assert_eq!(self.fenced(), BTreeSet::new());
        self.cli.expect(&format!("rollout start {id} --wait --timeout 60s"), 0);
        assert_eq!(self.fenced(), ["sandbox".to_owned()].into());

        // In order, and no further than the gate lets it: security is clean, legacy is denied.
        let id = self.rollout("mixed", &["sandbox", "security", "legacy", "dev"]);
        self.bob().expect(&format!("approve {id} --reason CHG-3"), 0);
        let stopped =
            self.cli.expect(&format!("rollout start {id} --wait --timeout 60s -o json"), 5).json();
        let states: Vec<&str> =
            list(&stopped["targets"]).iter().map(|t| text(&t["state"])).collect();
        assert_eq!(states, ["attached_before", "attached", "waiting", "waiting"]);
        assert!(stopped["why"].to_string().contains("denied"), "{stopped}");
        assert_eq!(self.fenced(), ["sandbox".to_owned(), "security".to_owned()].into());
        self.cli.expect(&format!("rollout resume {id} --wait --timeout 60s"), 5);

        // Abort takes back its own attachment, and leaves the one that was there before it.
        let aborted = self
            .cli
            .expect(&format!("rollout abort {id} --reason stop --wait --timeout 60s -o json"), 0)
            .json();
        assert_eq!(aborted["state"], "aborted", "{aborted}");
        assert_eq!(aborted["why"], Value::Array(vec![]), "equal to the stored set");
        assert_eq!(self.fenced(), ["sandbox".to_owned()].into());
        self.cli.expect(&format!("rollout resume {id}"), 5);

        let id = self.rollout("dirty", &["dev"]);
        self.bob().expect(&format!("rollout approve {id} --reason CHG-4"), 0);
        let refused = self.cli.expect(&format!("rollout start {id} --wait --timeout 60s"), 5);
        assert!(
            refused.out.contains("held-original") && refused.out.contains("keyless"),
            "{refused:?}"
        );
        assert_eq!(self.fenced(), ["sandbox".to_owned()].into());
        self.waive(&id);
    }

    /// With every finding under it waived, the gate opens.
    fn waive(&self, rollout: &str) {
        let ou = text(&self.world["ous"]["dev"]);
        let findings = self.cli.json(&format!("finding list --ou {ou}"), 0);
        for finding in list(&findings["findings"]) {
            let id = text(&finding["id"]);
            self.cli.expect(
                &format!("finding waive {id} --reason CHG-5 --until 2099-01-01 --owner team-dev"),
                0,
            );
        }
        let n = list(&findings["findings"]).len();
        assert_eq!(self.cli.json(&format!("status --ou {ou}"), 0)["findings"]["waived"], n);
        self.cli.expect(&format!("rollout resume {rollout} --wait --timeout 60s"), 0);
        assert_eq!(self.fenced(), ["sandbox".to_owned(), "dev".to_owned()].into());
        let id = text(&findings["findings"][0]["id"]);
        self.cli.expect(&format!("finding unwaive {id} --reason over"), 0);
        assert_eq!(self.cli.json(&format!("status --ou {ou}"), 0)["findings"]["waived"], n - 1);
    }

    /// The audit log has every act, by whom, and that nobody's identity was proven.
    fn audit(&self) {
        let events = self.cli.json("audit list --limit 1000", 0);
        let events = list(&events["events"]);
        let by = |action: &str| {
            events.iter().find(|e| e["action"] == action).unwrap_or_else(|| panic!("no {action}"))
        };
        assert_eq!(by("plan.approve")["actor"], "bob");
        assert_eq!(by("plan.approve")["authenticated"], false);
        assert_eq!(by("plan.apply")["actor"], "ann");
        assert_eq!(by("rollout.abort")["reason"], "stop");
        assert!(text(&by("remediation.intend")["actor"]).starts_with("system/agent/"));
        let attached: Vec<&str> = events
            .iter()
            .rev()
            .filter(|e| e["action"] == "rollout.attached")
            .map(|e| text(&e["reason"]))
            .collect();
        let ou = |name: &str| text(&self.world["ous"][name]);
        assert_eq!(attached, [ou("sandbox"), ou("sandbox"), ou("security"), ou("dev")]);
    }
}

fn names(value: &Value) -> BTreeSet<String> {
    map(value).keys().cloned().collect()
}

fn same(want: &Value, have: &Value, but: &[&str], name: &str) {
    let keys: BTreeSet<&String> = map(want).keys().chain(map(have).keys()).collect();
    for key in keys.into_iter().filter(|k| !but.contains(&k.as_str())) {
        assert_eq!(have.get(key), want.get(key), "{name}: {key}");
    }
}

fn tags(item: &Value) -> BTreeMap<String, String> {
    let tag = |t: &Value| (text(&t["Key"]).to_owned(), text(&t["Value"]).to_owned());
    list(&item["TagList"]).iter().map(tag).collect()
}

/// A twin is its original, under the recorded key and with our tag.
fn equals(original: &Value, twin: &Value, but: &[&str], rem: &Value) {
    same(original, twin, but, text(&rem["name"]));
    assert_eq!(twin["StorageEncrypted"], true, "{twin}");
    assert_eq!(twin["KmsKeyId"], rem["key_arn"], "{twin}");
    let mut wanted = tags(original);
    wanted.insert("ringfence:remediation".into(), text(&rem["id"]).into());
    assert_eq!(tags(twin), wanted);
}

/// A twin cluster, and its members one by one; those are taken off the list of what is new.
fn cluster_equals(was: &Value, is: &Value, rem: &Value, new: &mut BTreeSet<String>) {
    let (name, twin) = (text(&rem["name"]), text(&rem["twin"]));
    let (original, copy) = (&was["clusters"][name], &is["clusters"][twin]);
    let mut but = MAY_DIFFER.to_vec();
    but.extend(CLUSTER_MAY_DIFFER);
    equals(original, copy, &but, rem);
    let (old, made) = (list(&original["DBClusterMembers"]), list(&copy["DBClusterMembers"]));
    assert_eq!(old.len(), made.len(), "{copy}");
    for (old, made) in old.iter().zip(made) {
        for field in ["IsClusterWriter", "PromotionTier"] {
            assert_eq!(old[field], made[field], "{made}");
        }
        let made = text(&made["DBInstanceIdentifier"]);
        assert!(new.remove(made), "{made} is new");
        let old = &was["instances"][text(&old["DBInstanceIdentifier"])];
        equals(old, &is["instances"][made], &but, rem);
    }
}

fn whole_job(emulator: Emulator, store: Option<&str>) {
    let job = Job::start(emulator, store);
    job.organization();
    job.scan();
    let remediations = job.remediate();
    job.judge(&remediations);
    job.fence();
    job.bites();
    job.audit();
    let calls = job.emulator.take_calls();
    for never in
        ["rds:DeleteDBInstance", "organizations:DisablePolicyType", "organizations:UpdatePolicy"]
    {
        assert!(!calls.contains_key(never), "{never} was called");
    }
    let log = std::fs::read_to_string(job.folder.path().join("server.log")).unwrap_or_default();
    assert!(!log.contains("ERROR") && !log.contains("panicked"), "{log}");
    assert!(Path::new(job.folder.path()).exists());
}

#[test]
fn the_whole_job_on_moto_with_sqlite() {
    whole_job(Emulator::moto(), None);
}

#[test]
fn the_whole_job_on_the_simulator_with_sqlite() {
    whole_job(Emulator::simulator(), None);
}

#[test]
fn the_whole_job_on_the_simulator_with_postgres() {
    let postgres = Postgres::start();
    whole_job(Emulator::simulator(), Some(&postgres.url()));
}
