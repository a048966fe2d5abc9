//! `kill -9` of the server and of agents, at random moments, with hundreds of databases in flight: none is lost,
//! none is made twice.

use ringfence_tests::emulator::Sim;
use ringfence_tests::process::Setup;
use ringfence_tests::{Guard, until};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

const SEED: u64 = 11;

/// Accounts, and how many databases they have at least: in `make sweep` 500, else fewer.
fn size() -> (u32, usize) {
    if std::env::var_os("RINGFENCE_SWEEP").is_some() { (19, 500) } else { (6, 150) }
}

/// Where a kill falls: after so many more writes, and on whom.
fn dice(n: u64) -> (u64, usize) {
    // SplitMix64.
    let mut z = SEED.wrapping_add(n.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    (20 + z % 130, (z >> 40) as usize % 3)
}

struct Fleet {
    setup: Setup,
    processes: [Option<Guard>; 3],
}

impl Fleet {
    fn start(&mut self, n: usize) {
        self.processes[n] = None; // kill -9
        self.processes[n] = Some(match n {
            0 => self.setup.start(),
            n => self.setup.start_agent(&format!("agent-{n}")),
        });
    }
}

#[test]
fn many_databases_survive_kills_at_random_moments() {
    let folder = tempfile::tempdir().expect("a folder");
    let more = ["--seed", "3", "--instances", "100", "--time-scale", "600"];
    let (accounts, least) = size();
    let sim = Sim::plain(accounts, 1, 1.0, &more);
    {
        let mut world = sim.inside().world();
        world.settings.rds_instances = 1_000;
        world.settings.rds_snapshots = 1_000;
    }
    let mut setup = Setup::new(&sim.url(), folder.path());
    for (key, value) in [
        ("RINGFENCE_AWS__REGIONS", ""),
        // Each look at one is a commit: of hundreds, every 300 ms, they would keep the store busy.
        ("RINGFENCE_REMEDIATION__POLL", "3s"),
        ("RINGFENCE_REMEDIATION__EXPECT_FOR", "6s"),
        ("RINGFENCE_AWS__EXTERNAL_ID", ""),
        ("RINGFENCE_SERVER__EMBEDDED_AGENT", "false"),
        ("RINGFENCE_AGENT__JOIN_TOKEN", "not-a-secret"),
        ("RINGFENCE_REMEDIATION__MAX_RUNNING", "600"),
        ("RINGFENCE_REMEDIATION__MAX_RUNNING_PER_ACCOUNT", "600"),
        ("RINGFENCE_REMEDIATION__MAX_RUNNING_PER_CELL", "600"),
    ] {
        setup.set(key, value);
    }
    let mut fleet = Fleet { setup, processes: [None, None, None] };
    (0..3).for_each(|n| fleet.start(n));
    let (ann, bob) = (fleet.setup.cli("ann"), fleet.setup.cli("bob"));
    ann.expect("org sync", 0);
    ann.expect("scan start --wait --timeout 60s", 0);
    let plan = ann.json("plan create --all", 0)["id"].as_str().expect("a plan").to_owned();
    bob.expect(&format!("approve {plan} --reason CHG-1"), 0);
    let begun = ann.json(&format!("remediation apply {plan}"), 0);
    let all = begun["remediations"].as_array().expect("remediations").len();
    let (mut kills, mut next) = ([0; 3], sim.rds_writes() + dice(0).0);
    let states = until("all are verified", Duration::from_secs(300), || {
        if sim.rds_writes() >= next {
            let n = u64::from(kills.iter().sum::<u32>());
            let victim = dice(n).1;
            fleet.start(victim);
            kills[victim] += 1;
            next = sim.rds_writes() + dice(n + 1).0;
        }
        let ran = ann.run(&format!("remediation list --plan {plan} -o json"));
        if ran.code != 0 {
            return Err(ran.err);
        }
        let mut states: BTreeMap<String, usize> = BTreeMap::new();
        for rem in ran.json()["remediations"].as_array().expect("remediations") {
            *states.entry(rem["state"].as_str().expect("a state").to_owned()).or_default() += 1;
        }
        match states.get("verified") {
            Some(n) if *n == all => Ok(states),
            _ => Err(format!("{states:?} after kills of server and agents {kills:?}")),
        }
    });
    let truth = sim.truth();
    let instances: Vec<&Value> = truth["cells"]
        .as_array()
        .expect("cells")
        .iter()
        .flat_map(|c| c["instances"].as_array())
        .flatten()
        .collect();
    let twin = |i: &&&Value| i["id"].as_str().is_some_and(|id| id.starts_with("encrypted-"));
    let twins = instances.iter().filter(twin).count();
    let plain = instances.iter().filter(|i| i["encrypted"] == false).count();
    let mut calls = sim.counts();
    calls.retain(|name, _| name.starts_with("rds:"));
    println!(
        "seed {SEED}: {all} databases, kills of server and agents {kills:?}, {states:?}, {calls:?}"
    );
    assert!(all >= least, "{all}");
    assert!(kills.iter().all(|n| *n >= 1), "all were killed: {kills:?}");
    assert_eq!((twins, plain), (all, all), "each original stands, and has one twin");
    // What was made beyond what was wanted was refused, or taken down: nothing is left.
    let done = |operation: &str| sim.done(&format!("rds:{operation}"));
    assert_eq!(done("RestoreDBInstanceFromDBSnapshot"), all as u64);
    assert_eq!(done("CreateDBSnapshot"), all as u64);
    assert_eq!(done("CopyDBSnapshot"), all as u64);
    assert_eq!(done("DeleteDBSnapshot"), 2 * all as u64);
}
