//! Scans of a whole organization on the simulator, measured: time, CPU, memory, calls.

use crate::Guard;
use crate::emulator::Sim;
use crate::process::{Cli, Setup};
use crate::scale::{cpu, peak};
use ringfence_server::store::{self, Kind};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// What a world is like.
#[derive(Debug, Clone)]
pub struct World {
    /// Accounts, the management account included.
    pub accounts: u32,
    /// How far the nearest and the farthest region are, in milliseconds.
    pub latency: (u64, u64),
    /// AWS's limits; `None` grants everything.
    pub limits: Option<Value>,
    /// The seed.
    pub seed: u32,
    /// DB instances in each cell.
    pub instances: u32,
}

/// What a scan took.
#[derive(Debug, Clone)]
pub struct Took {
    /// Cells.
    pub cells: u64,
    /// From the request to the end of the scan.
    pub wall: Duration,
    /// CPU of server and agents.
    pub cpu: Duration,
    /// CPU of each agent process, where they are apart.
    pub agents: Vec<Duration>,
    /// CPU of the simulator and what drives it.
    pub simulator: Duration,
    /// The most memory that the server had, in MiB; of agents apart, the sum with theirs.
    pub memory: f64,
    /// Calls by operation.
    pub calls: std::collections::BTreeMap<String, u64>,
    /// Calls that were throttled.
    pub throttled: u64,
    /// When all accounts but one were done.
    pub all_but_one: Duration,
    /// The scan at its end.
    pub scan: Value,
}

impl Took {
    /// CPU of server and agents for a cell, in microseconds.
    pub fn per_cell(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.cells as f64
    }

    /// All calls of the scan.
    pub fn all_calls(&self) -> u64 {
        self.calls.values().sum()
    }
}

/// A simulator and a server that knows the organization, both quiet.
pub struct Stage {
    /// The simulator, in this process.
    pub sim: Sim,
    /// How the server is started.
    pub setup: Setup,
    folder: tempfile::TempDir,
    world: World,
}

/// Builds the world with empty cells.
pub fn stage(world: &World) -> Stage {
    let seed = world.seed.to_string();
    let instances = world.instances.to_string();
    let density = if world.instances == 0 { 0.0 } else { 1.0 };
    let more = ["--threads", "1", "--seed", &seed, "--instances", &instances];
    let sim = Sim::plain(world.accounts, 17, density, &more);
    let folder = tempfile::tempdir().expect("a folder");
    let mut setup = Setup::new(&sim.url(), folder.path());
    for (key, value) in [
        ("AWS__REGIONS", ""),
        ("AWS__EXTERNAL_ID", ""),
        ("SERVER__LEASE_FOR", "45s"),
        ("LIMITS__ACCOUNT", "5"),
        ("LIMITS__RDS_READ", "10"),
        ("LIMITS__STS", "570"),
    ] {
        setup.set(&format!("RINGFENCE_{key}"), value);
    }
    Stage { sim, setup, folder, world: world.clone() }
}

impl Stage {
    /// Starts the server, reads the organization, and only then makes the world far and strict.
    fn start(&self) -> (Guard, Cli) {
        {
            let mut world = self.sim.inside().world();
            (world.settings.latency_low_ms, world.settings.latency_high_ms) = (0, 0);
        }
        self.sim.limits(json!([]));
        let server = self.setup.start();
        let cli = self.setup.cli("bench");
        cli.expect("org sync", 0);
        {
            let mut world = self.sim.inside().world();
            (world.settings.latency_low_ms, world.settings.latency_high_ms) = self.world.latency;
        }
        if let Some(limits) = &self.world.limits {
            self.sim.limits(limits.clone());
        }
        (server, cli)
    }

    /// One scan of everything by the embedded agent. `during` is called every 20 ms with the time since
    /// the start.
    pub fn scan(&self, during: impl FnMut(Duration)) -> Took {
        let (server, cli) = self.start();
        all_have_their_share(&cli, None);
        self.measure(&server, &[], &cli, during)
    }

    /// One scan by so many agent processes of one thread.
    pub fn scan_by(&mut self, agents: usize) -> Took {
        for (key, value) in [
            ("SERVER__EMBEDDED_AGENT", "false"),
            ("AGENT__JOIN_TOKEN", "a-token-for-benchmarks"),
            ("AGENT__THREADS", "1"),
        ] {
            self.setup.set(&format!("RINGFENCE_{key}"), value);
        }
        let (server, cli) = self.start();
        let agents: Vec<Guard> =
            (0..agents).map(|n| self.setup.start_agent(&format!("agent-{n}"))).collect();
        all_have_their_share(&cli, Some(agents.len()));
        self.measure(&server, &agents, &cli, |_| ())
    }

    fn measure(
        &self,
        server: &Guard,
        agents: &[Guard],
        cli: &Cli,
        mut during: impl FnMut(Duration),
    ) -> Took {
        self.sim.take_calls();
        let throttled =
            || self.sim.inside().world().throttle.counts().iter().map(|c| c.throttled).sum::<u64>();
        let all = || -> Vec<Duration> {
            std::iter::once(server).chain(agents).map(|p| cpu(p.0.id())).collect()
        };
        let (before, own, began, thrown) =
            (all(), cpu(std::process::id()), Instant::now(), throttled());
        let scan = cli.json("scan start", 0)["id"].as_str().expect("an id").to_owned();
        let mut all_but_one = Duration::ZERO;
        // From the store itself, so that looking costs the server nothing.
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let store = runtime
            .block_on(store::open(&self.setup.environment["RINGFENCE_STORE__URL"]))
            .expect("open the store");
        loop {
            std::thread::sleep(Duration::from_millis(20));
            during(began.elapsed());
            let (row, progress) = runtime.block_on(async {
                (store.get(Kind::Scan, &scan).await, store.scan_progress(&scan).await)
            });
            let progress = progress.expect("its progress");
            if all_but_one.is_zero() && progress.done >= i64::from(self.world.accounts) - 1 {
                all_but_one = began.elapsed();
            }
            if row.expect("the store").expect("the scan").state == "done" {
                break;
            }
        }
        let wall = began.elapsed();
        let used: Vec<Duration> = all().iter().zip(&before).map(|(a, b)| *a - *b).collect();
        let scan = cli.run(&format!("scan get {scan} -o json")).json();
        let mut calls = self.sim.take_calls();
        calls.retain(|k, _| !k.starts_with("organizations:"));
        Took {
            cells: scan["cells"].as_u64().expect("cells"),
            wall,
            cpu: used.iter().sum(),
            agents: used[1..].to_vec(),
            simulator: cpu(std::process::id()) - own,
            memory: std::iter::once(server).chain(agents).map(|p| peak(p.0.id())).sum(),
            calls,
            throttled: throttled() - thrown,
            all_but_one,
            scan,
        }
    }
}

/// Waits until so many agent threads (as many as there are, unless said) have been dealt an equal share of
/// STS's budget: a server that has run for a few seconds is what is measured.
fn all_have_their_share(cli: &Cli, threads: Option<usize>) {
    crate::until("all agents have their share", Duration::from_secs(30), || {
        let list = cli.json("agent list", 0);
        let list = list["agents"].as_array().expect("agents").clone();
        let equal = 0.9 / list.len() as f64;
        let dealt = list.iter().all(|a| a["share"].as_f64().unwrap_or(0.0) > equal);
        let all = !list.is_empty() && threads.is_none_or(|n| n == list.len());
        if all && dealt { Ok(()) } else { Err(format!("{list:?}")) }
    });
}

/// CPU of a cell, in microseconds, of the same calls without Ringfence by so many processes at once, of one
/// thread each; see `aws/examples/floor.rs`. Of the stage's accounts at most so many.
pub fn floor(stage: &Stage, mode: &str, processes: usize, accounts: usize) -> f64 {
    stage.sim.limits(json!([]));
    {
        let mut world = stage.sim.inside().world();
        (world.settings.latency_low_ms, world.settings.latency_high_ms) = stage.world.latency;
    }
    let truth = stage.sim.truth();
    let ids: Vec<&str> = truth["accounts"]
        .as_array()
        .expect("accounts")
        .iter()
        .filter(|a| a["id"] != truth["management_account"])
        .map(|a| a["id"].as_str().expect("an id"))
        .collect();
    let ids = &ids[..accounts.min(ids.len())];
    let regions: Vec<&str> =
        truth["regions"].as_array().expect("regions").iter().filter_map(Value::as_str).collect();
    let in_flight = (IN_FLIGHT / processes).to_string();
    let running: Vec<_> = ids
        .chunks(ids.len().div_ceil(processes))
        .enumerate()
        .map(|(n, ids)| {
            let file = stage.folder.path().join(format!("accounts-{n}.json"));
            std::fs::write(&file, json!(ids).to_string()).expect("write the accounts");
            example(stage, &[mode, &file.display().to_string(), &regions.join(","), &in_flight])
        })
        .collect();
    let done: Vec<Value> = running.into_iter().map(finished).collect();
    let sum = |key: &str| done.iter().map(|d| d[key].as_f64().expect("a number")).sum::<f64>();
    sum("cpu_us") / sum("cells")
}

/// So many that wait for one bucket of Ringfence's own.
pub fn queue(stage: &Stage, waiters: u32) -> Value {
    let file = stage.folder.path().join("no-accounts.json");
    std::fs::write(&file, "[]").expect("write no accounts");
    finished(example(stage, &["queue", &file.display().to_string(), "", &waiters.to_string()]))
}

/// Calls in flight of a bare loop, of all its processes.
const IN_FLIGHT: usize = 512;

fn example(stage: &Stage, args: &[&str]) -> std::process::Child {
    std::process::Command::new(crate::root().join("target/release/examples/floor"))
        .args(args)
        .env_clear()
        .envs(&stage.setup.environment)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("run the floor")
}

fn finished(child: std::process::Child) -> Value {
    let output = child.wait_with_output().expect("the floor ends");
    assert!(output.status.success(), "the floor failed");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// An account in the middle of the list.
pub fn some_account(stage: &Stage) -> String {
    let ids = stage.sim.inside().world().account_ids();
    ids[ids.len() / 2].to_string()
}

/// What one cell costs another tool, in microseconds of CPU; see `tests/python/peers.py`.
pub fn peer(stage: &Stage, name: &str) -> f64 {
    let truth = stage.folder.path().join("truth.json");
    std::fs::write(&truth, stage.sim.truth().to_string()).expect("write the truth");
    let output = std::process::Command::new(crate::root().join(".venv-peers/bin/python"))
        .arg(crate::root().join("tests/python/peer_cost.py"))
        .args([
            &stage.sim.url(),
            &truth.display().to_string(),
            &stage.folder.path().display().to_string(),
            name,
        ])
        .output()
        .expect("run the peer");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    said["cpu_us"].as_f64().expect("CPU") / said["cells"].as_f64().expect("cells")
}
