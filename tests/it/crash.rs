//! `kill -9` at each write of an instance's remediation, before the call and after its effect: started
//! again, it converges, with no duplicate and no orphan.

use ringfence_tests::emulator::Emulator;
use ringfence_tests::process::Setup;
use ringfence_tests::proxy::Point;
use ringfence_tests::{Guard, binary, until};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// Writes of one instance's remediation on moto: snapshot, copy, restore, two deletions.
const WRITES: usize = 5;

struct Crash<'a> {
    emulator: &'a Emulator,
    world: &'a Value,
    account: usize,
    program: PathBuf,
    split: bool,
    cluster: bool,
}

impl Crash<'_> {
    /// Only this run's account, so that runs do not read each other.
    fn world(&self) -> Value {
        let mut world = self.world.clone();
        world["accounts"] = json!([self.world["accounts"][self.account]]);
        world["ous"] = json!({});
        world
    }

    fn start(&self, setup: &Setup) -> Vec<Guard> {
        let mut processes = vec![setup.start()];
        if self.split {
            processes.push(setup.start_agent("agent-1"));
        }
        processes
    }

    /// Runs a remediation, kills everything at the point, starts again, and says what is wrong at the
    /// end. Gives back the operation that was held, and what the world looks like at the end.
    fn run(&self, at: Option<(usize, Point)>) -> (String, Vec<String>, Value) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut setup = Setup::new(&self.emulator.url(), folder.path());
        setup.program.clone_from(&self.program);
        setup.set("RINGFENCE_AWS__REGIONS", "us-east-1");
        if self.split {
            setup.set("RINGFENCE_SERVER__EMBEDDED_AGENT", "false");
            setup.set("RINGFENCE_AGENT__JOIN_TOKEN", "a-token-for-tests");
        }
        let world = self.world();
        let before = self.emulator.dump(&world);
        let account = world["accounts"][0]["id"].as_str().expect("an account").to_owned();
        let mut processes = self.start(&setup);
        let (ann, bob) = (setup.cli("ann"), setup.cli("bob"));
        ann.expect("org sync", 0);
        ann.expect(&format!("scan start --account {account} --wait --timeout 60s"), 0);
        let plan = ann.json(&format!("plan create --account {account}"), 0);
        let plan = plan["id"].as_str().expect("a plan").to_owned();
        bob.expect(&format!("approve {plan} --reason CHG-1"), 0);
        let held = at.map(|(nth, point)| self.emulator.hold(nth, point));
        ann.expect(&format!("remediation apply {plan}"), 0);
        let operation = held.map(|held| {
            let operation = held.wait();
            // The agent first: with the server gone it could not tell anybody what happened anyway.
            while let Some(mut process) = processes.pop() {
                process.kill();
            }
            processes = self.start(&setup);
            operation
        });
        until("the remediation ends", Duration::from_secs(90), || {
            let list = ann.json(&format!("remediation list --plan {plan}"), 0);
            let state = list["remediations"][0]["state"].as_str().unwrap_or_default().to_owned();
            if ["verified", "stopped"].contains(&state.as_str()) {
                Ok(())
            } else {
                Err(list.to_string())
            }
        });
        let list = ann.json(&format!("remediation list --plan {plan}"), 0);
        let mut wrong = Vec::new();
        if list["remediations"][0]["state"] != "verified" {
            wrong.push(format!("it is {}", list["remediations"][0]));
        }
        let after = self.emulator.dump(&world);
        if self.cluster {
            wrong.extend(verdict_on_cluster(&before, &after));
        } else {
            wrong.extend(verdict(&before, &after));
        }
        (operation.unwrap_or_default(), wrong, outline(&after))
    }
}

/// What a world looks like whoever's account it is: names, encryption, and what belongs together.
fn outline(world: &Value) -> Value {
    let mut outline = Vec::new();
    for (cell, found) in world["cells"].as_object().expect("cells") {
        let region = cell.split(' ').nth(1).unwrap_or_default();
        for (kind, all) in found.as_object().expect("kinds") {
            for (name, item) in all.as_object().expect("names") {
                outline.push(json!([
                    region,
                    kind,
                    name,
                    item["StorageEncrypted"],
                    item["DBClusterIdentifier"]
                ]));
            }
        }
    }
    outline.into()
}

/// What is wrong with a world in which the cluster `ledger` was to get one twin.
fn verdict_on_cluster(before: &Value, after: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    for (cell, was) in before["cells"].as_object().expect("cells") {
        let is = &after["cells"][cell];
        let count = |v: &Value| v.as_object().expect("names").len();
        for kind in ["snapshots", "cluster_snapshots"] {
            if count(&is[kind]) != count(&was[kind]) {
                wrong.push(format!("{kind} left: {}", is[kind]));
            }
        }
        if count(&is["clusters"]) != 2 * count(&was["clusters"])
            || count(&is["instances"]) != 2 * count(&was["instances"])
        {
            wrong.push(format!(
                "{} clusters, {} instances",
                count(&is["clusters"]),
                count(&is["instances"])
            ));
        }
        let originals = was["clusters"].as_object().expect("clusters").iter();
        for (name, original) in originals {
            let (mut original, mut same) = (original.clone(), is["clusters"][name].clone());
            for side in [&mut original, &mut same] {
                side["LatestRestorableTime"] = Value::Null;
            }
            if original != same {
                wrong.push("the original changed".into());
            }
            if is["clusters"][format!("encrypted-{name}")]["StorageEncryptionType"] != "sse-kms" {
                wrong.push("no encrypted twin".into());
            }
        }
    }
    wrong
}

/// What is wrong with a world in which `orders` was to get one twin.
fn verdict(before: &Value, after: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    for (cell, was) in before["cells"].as_object().expect("cells") {
        let is = &after["cells"][cell];
        let names = |v: &Value| v.as_object().expect("names").keys().cloned().collect::<Vec<_>>();
        for kind in ["snapshots", "cluster_snapshots", "clusters"] {
            let left = names(&is[kind]);
            if left != names(&was[kind]) {
                wrong.push(format!("{} {kind} left: {left:?}", left.len()));
            }
        }
        let mut want = names(&was["instances"]);
        if !want.is_empty() {
            want.insert(0, "encrypted-orders".into());
            let (mut original, mut same) =
                (was["instances"]["orders"].clone(), is["instances"]["orders"].clone());
            for side in [&mut original, &mut same] {
                side["LatestRestorableTime"] = Value::Null;
            }
            if original != same {
                wrong.push("the original changed".into());
            }
            if is["instances"]["encrypted-orders"]["StorageEncrypted"] != true {
                wrong.push("no encrypted twin".into());
            }
        }
        let have = names(&is["instances"]);
        if have != want {
            wrong.push(format!("instances are {have:?}"));
        }
    }
    wrong
}

#[test]
fn a_crash_at_any_write_converges_without_duplicate_or_orphan() {
    let emulator = Emulator::moto();
    let world = emulator.build(1, &["single", &(2 * WRITES).to_string()]);
    let program = binary("ringfence-server");
    let mut held = Vec::new();
    for nth in 1..=WRITES {
        for (i, point) in [Point::Before, Point::After].into_iter().enumerate() {
            let account = 2 * (nth - 1) + i;
            let crash = Crash {
                emulator: &emulator,
                world: &world,
                account,
                program: program.clone(),
                split: false,
                cluster: false,
            };
            let (operation, wrong, _) = crash.run(Some((nth, point)));
            assert!(wrong.is_empty(), "{point:?} write {nth} ({operation}): {wrong:?}");
            held.push(operation);
        }
    }
    held.dedup();
    let all = [
        "CreateDBSnapshot",
        "CopyDBSnapshot",
        "RestoreDBInstanceFromDBSnapshot",
        "DeleteDBSnapshot",
    ];
    assert_eq!(held, all, "every kind of write was met");
}

/// On the simulator, where states take time and Aurora encrypts: at every write of the uninterrupted
/// run, whatever they are, the end is the same world.
fn sweep_on_the_simulator(kind: &str, cluster: bool) {
    let emulator = Emulator::simulator();
    let world = emulator.build(5, &[kind, "24"]);
    let program = binary("ringfence-server");
    let crash = |account| Crash {
        emulator: &emulator,
        world: &world,
        account,
        program: program.clone(),
        split: false,
        cluster,
    };
    emulator.take_calls();
    let (_, wrong, reference) = crash(0).run(None);
    assert!(wrong.is_empty(), "without a crash: {wrong:?}");
    let reads = ["Describe", "List", "Get", "AssumeRole"];
    let write = |call: &String| {
        let name = call.split(':').nth(1).unwrap_or_default();
        !reads.iter().any(|r| name.starts_with(r))
    };
    let writes: u64 =
        emulator.take_calls().iter().filter(|(call, _)| write(call)).map(|(_, n)| n).sum();
    assert!((5..=11).contains(&writes), "{writes} writes");
    for nth in 1..=writes as usize {
        for (i, point) in [Point::Before, Point::After].into_iter().enumerate() {
            let account = 2 * nth - 1 + i;
            let (operation, wrong, end) = crash(account).run(Some((nth, point)));
            assert!(wrong.is_empty(), "{kind}, {point:?} write {nth} ({operation}): {wrong:?}");
            assert_eq!(end, reference, "{kind}, {point:?} write {nth} ({operation})");
        }
    }
}

#[test]
fn a_crash_at_any_write_of_an_instance_converges_on_the_simulator() {
    sweep_on_the_simulator("single", false);
}

#[test]
fn a_crash_at_any_write_of_a_cluster_converges_on_the_simulator() {
    sweep_on_the_simulator("aurora", true);
}

#[test]
fn server_and_agent_apart_survive_a_crash_too() {
    let emulator = Emulator::moto();
    let world = emulator.build(2, &["single", "2"]);
    for (account, nth) in [1, 3].into_iter().enumerate() {
        let program = binary("ringfence-server");
        let crash = Crash {
            emulator: &emulator,
            world: &world,
            account,
            program,
            split: true,
            cluster: false,
        };
        let (operation, wrong, _) = crash.run(Some((nth, Point::After)));
        assert!(wrong.is_empty(), "write {nth} ({operation}): {wrong:?}");
    }
}

/// The negative control: with names that differ from try to try, the same test must go red.
#[test]
fn with_random_names_the_crash_test_goes_red() {
    let emulator = Emulator::moto();
    let world = emulator.build(3, &["single", "1"]);
    let program = binary("server-with-random-names");
    let crash = Crash {
        emulator: &emulator,
        world: &world,
        account: 0,
        program,
        split: false,
        cluster: false,
    };
    let (_, wrong, _) = crash.run(Some((1, Point::After)));
    assert!(
        wrong.iter().any(|w| w.starts_with("2 snapshots left")),
        "a duplicate is seen: {wrong:?}"
    );
}

/// Kills the server at a write of a rollout, and starts it again.
fn crash_in_rollout(nth: usize, point: Point, abort: bool) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let emulator = Emulator::moto();
    let world = emulator.build(4, &["empty", "1"]);
    let setup = Setup::new(&emulator.url(), folder.path());
    let mut server = setup.start();
    let (ann, bob) = (setup.cli("ann"), setup.cli("bob"));
    ann.expect("org sync", 0);
    ann.expect("scan start --wait --timeout 60s", 0);
    let ou = world["ous"]["all"].as_str().expect("an OU");
    let file = folder.path().join("rollout.toml");
    let toml =
        format!("policy = \"rds-encryption\"\n[[stage]]\nname = \"a\"\ntargets = [\"{ou}\"]\n");
    std::fs::write(&file, toml).expect("write the file");
    let id = ann.json(&format!("rollout plan -f {}", file.display()), 0);
    let id = id["id"].as_str().expect("an id").to_owned();
    bob.expect(&format!("approve {id} --reason CHG-1"), 0);
    if abort {
        ann.expect(&format!("rollout start {id} --wait --timeout 60s"), 0);
    }
    let held = emulator.hold(nth, point);
    let verb = if abort { "abort" } else { "start" };
    ann.expect(&format!("rollout {verb} {id}"), 0);
    let operation = held.wait();
    server.kill();
    let _again = setup.start();
    let want = if abort { "aborted" } else { "complete" };
    let rollout = until("the rollout ends", Duration::from_secs(60), || {
        let rollout = ann.json(&format!("rollout status {id}"), 0);
        if rollout["state"] == want { Ok(rollout) } else { Err(rollout.to_string()) }
    });
    assert_eq!(rollout["why"], json!([]), "{operation} {point:?}");
    let after = emulator.dump(&world);
    let ours = |target: &str| {
        let names = after["policies"][target].as_array().expect("policies");
        names.iter().filter(|n| n.as_str().is_some_and(|n| n.starts_with("ringfence-"))).count()
    };
    assert_eq!(ours(ou), usize::from(!abort), "{operation} {point:?}");
    assert_eq!(after["ringfence_policies"], 1, "{operation} {point:?}: one policy object");
    operation
}

#[test]
fn a_crash_at_any_write_of_a_rollout_converges() {
    let mut met = Vec::new();
    for point in [Point::Before, Point::After] {
        met.push(crash_in_rollout(1, point, false));
        met.push(crash_in_rollout(2, point, false));
        met.push(crash_in_rollout(1, point, true));
    }
    assert_eq!(met[..3], ["CreatePolicy", "AttachPolicy", "DetachPolicy"]);
}
