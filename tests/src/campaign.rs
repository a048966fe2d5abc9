//! Remediations of one cell on the simulator: AWS calls, beside the fewest that can do the work.

use crate::emulator::Sim;
use crate::process::Setup;
use crate::until;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How much faster than in AWS databases change their states; our own patience and rates are scaled alike.
const SCALE: u64 = 60;

/// What a campaign cost.
#[derive(Debug, Clone)]
pub struct Took {
    /// Databases that were encrypted.
    pub databases: u64,
    /// From `apply` to the last verified twin, in AWS's time.
    pub minutes: f64,
    /// Calls of RDS by operation.
    pub calls: BTreeMap<String, u64>,
}

impl Took {
    fn sum(&self, reads: bool) -> f64 {
        let read = |name: &str| name.starts_with("rds:Describe");
        let calls = self.calls.iter().filter(|(name, _)| read(name) == reads);
        calls.map(|(_, n)| *n as f64).sum()
    }

    /// Writes for one database.
    pub fn writes(&self) -> f64 {
        self.sum(false) / self.databases as f64
    }

    /// Describe calls of the cell in a minute.
    pub fn reads(&self) -> f64 {
        self.sum(true) / self.minutes
    }
}

/// Encrypts what is unencrypted among 60 instances of one cell, so many at a time.
pub fn run(seed: u32, at_a_time: u32) -> Took {
    let folder = tempfile::tempdir().expect("a folder");
    let (seed, scale) = (seed.to_string(), SCALE.to_string());
    let more = ["--seed", &seed, "--instances", "60", "--time-scale", &scale];
    let sim = Sim::plain(1, 1, 1.0, &more);
    {
        let mut world = sim.inside().world();
        world.settings.rds_instances = 200;
    }
    let mut setup = Setup::new(&sim.url(), folder.path());
    // The defaults (15 s, 60 s, 10 and 2 a second), as much faster.
    for (key, value) in [
        ("AWS__REGIONS", ""),
        ("AWS__EXTERNAL_ID", ""),
        ("REMEDIATION__POLL", "250ms"),
        ("REMEDIATION__EXPECT_FOR", "1s"),
        ("LIMITS__RDS_READ", "600"),
        ("LIMITS__RDS_WRITE", "120"),
        ("REMEDIATION__MAX_RUNNING_PER_CELL", &at_a_time.to_string()),
    ] {
        setup.set(&format!("RINGFENCE_{key}"), value);
    }
    let _server = setup.start();
    let (ann, bob) = (setup.cli("ann"), setup.cli("bob"));
    ann.expect("org sync", 0);
    ann.expect("scan start --wait --timeout 60s", 0);
    let plan = ann.json("plan create --all", 0)["id"].as_str().expect("a plan").to_owned();
    bob.expect(&format!("approve {plan} --reason CHG-1"), 0);
    let made = ann.json(&format!("remediation apply {plan}"), 0);
    let all = made["remediations"].as_array().expect("remediations").len();
    sim.take_calls();
    let began = Instant::now();
    until("all are verified", Duration::from_secs(600), || {
        let list = ann.json(&format!("remediation list --plan {plan}"), 0);
        let list = list["remediations"].as_array().cloned().unwrap_or_default();
        let left = list.iter().filter(|r| r["state"] != "verified").count();
        if left == 0 { Ok(()) } else { Err(format!("{left} of {all} are left")) }
    });
    let minutes = began.elapsed().as_secs_f64() * SCALE as f64 / 60.0;
    let calls = sim.take_calls().into_iter().filter(|(name, _)| name.starts_with("rds:"));
    Took { databases: all as u64, minutes, calls: calls.collect() }
}
