//! The two emulators behind one face, so that the same scenario runs on both.

use crate::proxy::{Point, Proxy, Rules};
use crate::{Moto, script};
use ringfence_simulator::faults::Rule;
use ringfence_simulator::run::{self, Running};
use ringfence_simulator::world::change::Change;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// Builds an organization in an emulator with boto3.
pub fn build(url: &str, seed: u32, more: &[&str]) -> Value {
    let seed = seed.to_string();
    script("world.py", url, &[&[seed.as_str()], more].concat())
}

/// Reads everything that matters out of an emulator with boto3.
pub fn dump(url: &str, world: &Value) -> Value {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), world.to_string()).expect("write the world");
    script("dump.py", url, &[file.path().to_str().expect("a path")])
}

/// The simulator, in this process; it ends with its handle.
pub struct Sim {
    running: Running,
    counted: std::cell::RefCell<BTreeMap<String, u64>>,
}

impl Sim {
    /// Starts it on free ports with these arguments more.
    pub fn start(args: &[&str]) -> Sim {
        let all = [&["ringfence-simulator", "--listen", "127.0.0.1:0"], args].concat();
        let args = <run::Args as clap::Parser>::try_parse_from(all).expect("arguments");
        let running = run::start(&args).expect("start the simulator");
        Sim { running, counted: std::cell::RefCell::default() }
    }

    /// So many accounts and regions that nothing stands against, of which that share of cells has
    /// databases; nothing is throttled.
    pub fn plain(accounts: u32, regions: u32, density: f64, more: &[&str]) -> Sim {
        let (accounts, regions) = (accounts.to_string(), regions.to_string());
        let density = density.to_string();
        let args = ["--accounts", &accounts, "--regions", &regions, "--density", &density];
        Sim::start(&[&args[..], &["--plain", "--limits", "none"], more].concat())
    }

    /// The ground truth of all cells.
    pub fn truth(&self) -> Value {
        let mut text = Vec::new();
        self.inside().write_truth(&mut text).expect("the truth");
        serde_json::from_slice(&text).expect("JSON")
    }

    /// An empty one in which states take milliseconds and nothing is throttled, with clusters as they
    /// were made before 2026-02-18.
    pub fn empty() -> Sim {
        let sim = Sim::start(&["--empty", "--limits", "none", "--time-scale", "100000"]);
        let mut world = sim.running.simulator.world();
        world.settings.aurora_default = "none".into();
        world.settings.organizations_busy_ms = 0;
        world.settings.scp_delay_ms = 0;
        drop(world);
        sim
    }

    /// Its URL, for `AWS_ENDPOINT_URL`.
    pub fn url(&self) -> String {
        format!("http://{}", self.running.address)
    }

    /// The world and its clock.
    pub fn inside(&self) -> &ringfence_simulator::front::Simulator {
        &self.running.simulator
    }

    /// Changes the world behind everybody's back; see the simulator's `Change`.
    pub fn change(&self, change: Value) -> Value {
        let change: Change = serde_json::from_value(change).expect("a change");
        let now = self.inside().clock.now();
        self.inside().world().change(&change, now).expect("the change is made")
    }

    /// Adds a fault; see the simulator's `Rule`.
    pub fn fault(&self, rule: Value) -> u64 {
        let rule: Rule = serde_json::from_value(rule).expect("a rule");
        self.inside().world().faults.add(rule).expect("a sound rule")
    }

    /// Takes a fault away.
    pub fn remove_fault(&self, id: u64) {
        assert!(self.inside().world().faults.remove(id), "there is no fault {id}");
    }

    /// Replaces the limits; see the simulator's `Limit`.
    pub fn limits(&self, limits: Value) {
        let limits = serde_json::from_value(limits).expect("limits");
        self.inside().world().throttle.set(limits).expect("sound limits");
    }

    /// Lets all calls go that are held.
    pub fn release_all(&self) {
        for hold in self.inside().held() {
            self.inside().release(hold.id);
        }
    }

    /// Waits until a call is held; its operation.
    pub fn held(&self, most: Duration) -> String {
        let end = Instant::now() + most;
        while Instant::now() < end {
            if let Some(hold) = self.inside().held().first() {
                return hold.call.rsplit(':').next().unwrap_or_default().to_owned();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("no call was held within {most:?}");
    }

    /// All calls by `service:Operation`, and how many of them failed.
    pub fn counts(&self) -> BTreeMap<String, (u64, u64)> {
        self.inside().world().log.counts()
    }

    /// Calls of that `service:Operation` that had their effect.
    pub fn done(&self, call: &str) -> u64 {
        self.counts().get(call).map_or(0, |(n, failed)| n - failed)
    }

    /// Writes to RDS.
    pub fn rds_writes(&self) -> u64 {
        let writes = |name: &str| name.starts_with("rds:") && !name.starts_with("rds:Describe");
        let counts = self.counts().into_iter().filter(|(name, _)| writes(name));
        counts.map(|(_, (n, _))| n).sum()
    }

    /// Calls since the last time this was asked, by `service:Operation`.
    pub fn take_calls(&self) -> BTreeMap<String, u64> {
        let all = self.counts();
        let all: BTreeMap<String, u64> = all.into_iter().map(|(k, (n, _))| (k, n)).collect();
        let before = self.counted.replace(all.clone());
        let new = all.into_iter().map(|(k, n)| (k.clone(), n - before.get(&k).unwrap_or(&0)));
        new.filter(|(_, n)| *n > 0).collect()
    }
}

/// One of the two.
pub enum Emulator {
    /// moto, with a proxy in front for what moto lacks.
    Moto(Moto, Proxy),
    /// Our own.
    Simulator(Sim),
}

/// A call that will be held.
pub enum Held<'a> {
    /// By the proxy.
    Proxy(Receiver<String>),
    /// By the simulator.
    Simulator(&'a Sim),
}

impl Held<'_> {
    /// Waits until it is; the operation.
    pub fn wait(self) -> String {
        match self {
            Held::Proxy(receiver) => {
                receiver.recv_timeout(Duration::from_secs(60)).expect("the crash point is reached")
            }
            Held::Simulator(sim) => sim.held(Duration::from_secs(60)),
        }
    }
}

impl Emulator {
    /// moto behind a proxy.
    pub fn moto() -> Emulator {
        let moto = Moto::start();
        let proxy = Proxy::start(moto.port, Rules::default());
        Emulator::Moto(moto, proxy)
    }

    /// The simulator; see [`Sim::empty`].
    pub fn simulator() -> Emulator {
        Emulator::Simulator(Sim::empty())
    }

    /// Where the product goes.
    pub fn url(&self) -> String {
        match self {
            Emulator::Moto(_, proxy) => proxy.url(),
            Emulator::Simulator(sim) => sim.url(),
        }
    }

    /// Where the scripts go that build and judge.
    fn direct(&self) -> String {
        match self {
            Emulator::Moto(moto, _) => moto.url(),
            Emulator::Simulator(sim) => sim.url(),
        }
    }

    /// Whether it is our own.
    pub fn is_simulator(&self) -> bool {
        matches!(self, Emulator::Simulator(_))
    }

    /// Builds an organization with boto3.
    pub fn build(&self, seed: u32, more: &[&str]) -> Value {
        build(&self.direct(), seed, more)
    }

    /// Reads everything with boto3, without our code.
    pub fn dump(&self, world: &Value) -> Value {
        dump(&self.direct(), world)
    }

    /// The URL of [`Emulator::dump`], for scripts of a test's own.
    pub fn script_url(&self) -> String {
        self.direct()
    }

    /// The role is gone from these accounts, and wants this external id in the others.
    pub fn guard(&self, denied: &[String], external_id: &str) {
        match self {
            Emulator::Moto(_, proxy) => {
                let mut rules = proxy.rules.lock().expect("rules");
                rules.denied = denied.to_vec();
                rules.external_id = external_id.to_owned();
            }
            Emulator::Simulator(sim) => {
                sim.inside().world().settings.external_id = external_id.to_owned();
                for account in denied {
                    let role = json!({"account": account, "name": "RingfenceRemediation", "present": false});
                    sim.change(json!({"role": role}));
                }
            }
        }
    }

    /// Holds the n-th write from now.
    pub fn hold(&self, nth: usize, point: Point) -> Held<'_> {
        match self {
            Emulator::Moto(_, proxy) => Held::Proxy(proxy.hold(nth, point)),
            Emulator::Simulator(sim) => {
                let effect = match point {
                    Point::Before => "hold-before",
                    Point::After => "hold-after",
                };
                sim.fault(json!({"match": {"write": true}, "skip": nth - 1, "effect": effect}));
                Held::Simulator(sim)
            }
        }
    }

    /// Calls since the last time this was asked.
    pub fn take_calls(&self) -> BTreeMap<String, u64> {
        match self {
            Emulator::Moto(_, proxy) => proxy.take_calls(),
            Emulator::Simulator(sim) => sim.take_calls(),
        }
    }
}
