//! `make bench`: what Ringfence costs, beside what the same work costs without it. Prints tables and
//! writes target/bench/results.json. Names of parts may be given: `floor`, `time`, `limits`, `agents`,
//! `store`, `remediation`, `rollout`, `moto`, `simulator`; all unless said.

use mimalloc::MiMalloc;
use ringfence_tests::fanout::{self, Took, World};
use ringfence_tests::postgres::Postgres;
use ringfence_tests::scale::{self, Cost};
use ringfence_tests::{campaign, load, storeload};
use serde_json::{Value, json};
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const SEED: u32 = 7;
const FAR: (u64, u64) = (30, 80);
const ALL: usize = usize::MAX;

/// All rows so far.
#[derive(Default)]
struct Table {
    rows: Vec<Value>,
}

impl Table {
    fn say(&mut self, name: &str, value: f64, unit: &str) {
        self.put(name, value, unit, None);
    }

    fn at_most(&mut self, name: &str, value: f64, unit: &str, goal: f64) {
        self.put(name, value, unit, Some((goal, value <= goal)));
    }

    fn at_least(&mut self, name: &str, value: f64, unit: &str, goal: f64) {
        self.put(name, value, unit, Some((goal, value >= goal)));
    }

    fn put(&mut self, name: &str, value: f64, unit: &str, goal: Option<(f64, bool)>) {
        let text = match goal {
            None => String::new(),
            Some((goal, true)) => format!("goal {goal}: holds"),
            Some((goal, false)) => format!("goal {goal}: MISSED"),
        };
        println!("  {name:<64} {value:>10.2} {unit:<8} {text}");
        self.rows
            .push(json!({"name": name, "value": value, "unit": unit, "goal": goal.map(|g| g.0),
            "holds": goal.map(|g| g.1), "seed": SEED}));
    }
}

fn main() -> anyhow::Result<()> {
    let parts: Vec<String> = std::env::args().skip(1).collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|p| p == part);
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    println!("seed {SEED}, {cores} cores; the simulator runs on the same ones");
    let mut table = Table::default();
    for (name, run) in [
        ("floor", floor as fn(&mut Table)),
        ("time", time),
        ("limits", limits),
        ("agents", agents),
        ("store", store),
        ("remediation", remediation),
        ("rollout", rollout),
        ("moto", moto),
        ("simulator", simulator),
    ] {
        if wanted(name) {
            run(&mut table);
        }
    }
    let folder = ringfence_tests::root().join("target/bench");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("results.json"), serde_json::to_string_pretty(&table.rows)?)?;
    println!("written to target/bench/results.json");
    Ok(())
}

/// A rollout over every OU of a large organization, against the fewest calls that could do it.
fn rollout(table: &mut Table) {
    const ACCOUNTS: usize = 10_000;
    const OUS: usize = 2_000;
    println!(
        "\nA rollout over {OUS} OUs and {ACCOUNTS} accounts, taken back afterwards; AWS grants everything"
    );
    let took = ringfence_tests::rollout::run(ACCOUNTS, OUS, SEED);
    let targets = took.targets as f64;
    let sum = |calls: &std::collections::BTreeMap<String, u64>| calls.values().sum::<u64>() as f64;
    let (calls, back) = (sum(&took.calls), sum(&took.back_calls));
    table.say("rollout: targets", targets, "OUs");
    table.say("rollout: from start to complete", took.wall.as_secs_f64(), "s");
    table.say("rollout: taken back", took.back.as_secs_f64(), "s");
    table.say(
        "rollout: CPU of the server a target, on and off",
        took.cpu.as_secs_f64() * 1e3 / targets,
        "ms",
    );
    table.say("rollout: most memory of the server", took.memory, "MiB");
    // Of each: what is attached before the first write, who is in it (two lists), AttachPolicy, and a read that it shows.
    let fewest = targets * 5.0 + 1.0;
    table.at_most("rollout: Organizations calls / fewest (5 a target)", calls / fewest, "x", 3.0);
    // DetachPolicy, and a read that it shows.
    table.at_most(
        "rollout: calls to take it back / fewest (2 a target)",
        back / (targets * 2.0),
        "x",
        3.0,
    );
    let reads = |calls: &std::collections::BTreeMap<String, u64>| {
        let write = |name: &str| ["Attach", "Detach", "Create"].iter().any(|w| name.contains(w));
        calls.iter().filter(|(name, _)| !write(name)).map(|(_, n)| *n).sum::<u64>() as f64
    };
    // The defaults of limits.organizations_read and limits.organizations_write.
    let hours = (reads(&took.calls) / 5.0).max(targets) / 3_600.0;
    table.say("rollout: at 5 reads and 1 write a second it takes", hours, "h");
    for (name, count) in took.calls {
        table.say(&format!("rollout: {name}"), count as f64, "calls");
    }
}

fn world(accounts: u32, latency: (u64, u64), limits: Option<Value>) -> World {
    World { accounts, latency, limits, seed: SEED, instances: 0 }
}

/// CPU of a cell, against the same calls without Ringfence and against other people's tools.
fn floor(table: &mut Table) {
    println!("\nCPU of an empty cell: 3,000 accounts x 17 regions, answers after {FAR:?} ms");
    let stage = fanout::stage(&world(3_000, FAR, None));
    let ours = stage.scan(|_| ());
    // Like is compared with like: where all cores are busy, each does less in its time than one alone.
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let of = |mode: &str, loops| fanout::floor(&stage, mode, loops, ALL);
    let (sdk, alone, raw) = (of("sdk", cores), of("sdk", 1), of("raw", 1));
    table.at_most(
        "CPU of a cell: Ringfence (limits, ledger, store, watch)",
        ours.per_cell(),
        "us",
        350.0,
    );
    table.say("CPU of a cell: bare loops over the AWS SDK, one a core", sdk, "us");
    table.say("CPU of a cell: bare loop over the AWS SDK, one alone", alone, "us");
    table.say("CPU of a cell: hyper, aws-sigv4, quick-xml, one alone", raw, "us");
    table.at_most("CPU of a cell: Ringfence / bare SDK loops", ours.per_cell() / sdk, "x", 1.3);
    table.say("CPU of a cell: Ringfence / bare SDK loop alone", ours.per_cell() / alone, "x");
    table.say("CPU of a cell: Ringfence / raw loop alone", ours.per_cell() / raw, "x");
    drop(stage);
    for (name, accounts, goal) in [("boto3, 20 threads", 20, 50.0), ("c7n-org", 4, 800.0)] {
        let stage = fanout::stage(&world(accounts, (0, 0), None));
        let cell = fanout::peer(&stage, name.split(',').next().unwrap_or(name));
        table.say(&format!("CPU of a cell: {name} ({accounts} accounts x 17)"), cell, "us");
        table.at_least(
            &format!("CPU of a cell: {name} / Ringfence"),
            cell / ours.per_cell(),
            "x",
            goal,
        );
    }
    println!(
        "\nCPU of a cell of 13 instances (three in ten unencrypted): 300 accounts x 17 regions"
    );
    let full = |accounts, latency| {
        fanout::stage(&World { instances: 13, ..world(accounts, latency, None) })
    };
    let stage = full(300, FAR);
    let ours = stage.scan(|_| ()).per_cell();
    table.say("13 instances: CPU of a cell: Ringfence", ours, "us");
    for mode in ["sdk", "raw"] {
        let cell = fanout::floor(&stage, mode, 1, ALL);
        table.say(&format!("13 instances: CPU of a cell: {mode} loop"), cell, "us");
        table.say(&format!("13 instances: Ringfence / {mode} loop"), ours / cell, "x");
    }
    drop(stage);
    for (name, accounts) in [("boto3", 10), ("c7n-org", 3)] {
        let cell = fanout::peer(&full(accounts, (0, 0)), name);
        table.say(&format!("13 instances: CPU of a cell: {name}"), cell, "us");
        table.say(&format!("13 instances: {name} / Ringfence"), cell / ours, "x");
    }
}

/// A scan, and what the same calls cost in bare loops over the SDK, one on each core: just before it and
/// just after, for a shared machine does not keep its speed.
fn scan_between_floors(stage: &fanout::Stage) -> (Took, f64) {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let floor = || fanout::floor(stage, "sdk", cores, 2_000);
    let before = floor();
    let took = stage.scan(|_| ());
    (took, (before + floor()) / 2.0)
}

/// The shortest possible time of a scan: the largest of what AWS grants, what the CPU must do, and the way
/// there and back (facts of the run, all printed).
fn shortest(
    table: &mut Table,
    name: &str,
    (took, sdk): (&Took, f64),
    accounts: u32,
    sts: Option<f64>,
) -> f64 {
    let cores = std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64);
    let floor = sdk * 1e-6 * took.cells as f64;
    let cpu = (floor + took.simulator.as_secs_f64()) / cores;
    let granted = sts.map_or(0.0, |rate| f64::from(accounts) / rate);
    let fill = 4.0 * FAR.1 as f64 / 1e3;
    table.say(&format!("{name}: CPU of a cell in bare loops over the SDK"), sdk, "us");
    table.say(&format!("{name}: term of the CPU (the SDK's, and the simulator)"), cpu, "s");
    table.say(&format!("{name}: term of STS"), granted, "s");
    table.say(&format!("{name}: filling the pipe"), fill, "s");
    cpu.max(granted) + fill
}

fn report(
    table: &mut Table,
    name: &str,
    (took, sdk): (&Took, f64),
    accounts: u32,
    sts: Option<f64>,
) {
    let shortest = shortest(table, name, (took, sdk), accounts, sts);
    table.say(&format!("{name}: time"), took.wall.as_secs_f64(), "s");
    let clean = took.scan["coverage"]["clean"].as_u64().unwrap_or(0);
    assert_eq!(clean, took.cells, "every cell is answered: {}", took.scan["coverage"]);
    table.at_most(
        &format!("{name}: time / shortest possible"),
        took.wall.as_secs_f64() / shortest,
        "x",
        1.15,
    );
    table.at_most(
        &format!("{name}: calls that were throttled"),
        took.throttled as f64 * 100.0 / took.all_calls() as f64,
        "%",
        0.5,
    );
    let sessions = took.calls.get("sts:AssumeRole").copied().unwrap_or(0);
    table.at_most(
        &format!("{name}: AssumeRole calls over accounts"),
        sessions as f64 - f64::from(accounts),
        "calls",
        0.0,
    );
    table.say(&format!("{name}: CPU of a cell"), took.per_cell(), "us");
    table.say(&format!("{name}: most memory, server and agent"), took.memory, "MiB");
}

fn aws_limits() -> Value {
    json!(ringfence_simulator::throttle::aws())
}

/// How long a scan takes against how long it must.
fn time(table: &mut Table) {
    println!("\ntime: AWS's limits, answers after {FAR:?} ms; the CPU binds");
    let mut memory = Vec::new();
    for accounts in [1_000, 10_000] {
        let scan =
            || scan_between_floors(&fanout::stage(&world(accounts, FAR, Some(aws_limits()))));
        // A short scan says little on a shared machine: the middle one of three.
        let rounds = if accounts > 1_000 { 1 } else { 3 };
        let mut scans: Vec<(Took, f64)> = (0..rounds).map(|_| scan()).collect();
        let speed = |s: &(Took, f64)| s.0.wall.as_secs_f64() / s.1;
        scans.sort_by(|a, b| speed(a).total_cmp(&speed(b)));
        let (took, sdk) = &scans[scans.len() / 2];
        let name = format!("{accounts} x 17");
        report(table, &name, (took, *sdk), accounts, Some(600.0 * 4.0));
        memory.push(took.memory);
    }
    table.at_most("10000 x 17: most memory, server and agent", memory[1], "MiB", 250.0);
    table.at_most("memory of 10000 x 17 / 1000 x 17", memory[1] / memory[0], "x", 1.5);
}

/// STS grants so many calls a second, at one endpoint.
fn narrow(rate: f64) -> Value {
    json!([{"service": "sts", "rate": rate, "burst": rate}, {"service": "rds", "rate": 20.0, "burst": 40.0}])
}

/// Where the limits bind: a narrow one, a throttled account, a storm, and ten thousand that wait.
fn limits(table: &mut Table) {
    println!(
        "\nlimits: 1,000 accounts x 17 regions, STS grants 60 a second at one endpoint; the limits bind"
    );
    let strict = |rate: f64, ours: &str| {
        let mut stage = fanout::stage(&world(1_000, FAR, Some(narrow(rate))));
        stage.setup.set("RINGFENCE_AWS__STS_REGIONS", "us-east-1");
        stage.setup.set("RINGFENCE_LIMITS__STS", ours);
        stage
    };
    let (plain, sdk) = scan_between_floors(&strict(60.0, "60"));
    report(table, "60 a second", (&plain, sdk), 1_000, Some(60.0));
    let stage = strict(60.0, "60");
    let account = fanout::some_account(&stage);
    stage.sim.fault(
        json!({"match": {"service": "rds", "account": account}, "times": 60, "effect": "throttle"}),
    );
    let beside = stage.scan(|_| ());
    table.at_most(
        "an account that is throttled 60 times: time of the 999 others, more",
        (beside.all_but_one.as_secs_f64() / plain.all_but_one.as_secs_f64() - 1.0) * 100.0,
        "%",
        1.0,
    );
    // 120 a second, and a tenth of that between one third and two thirds of the shortest time.
    let shortest = 1_000.0 / (120.0 * (2.0 / 3.0 + 1.0 / 30.0));
    let stage = strict(120.0, "120");
    let mut state = 0;
    let storm = stage.scan(|passed| {
        let third = shortest / 3.0;
        let next = match passed.as_secs_f64() {
            t if t < third => 0,
            t if t < 2.0 * third => 1,
            _ => 2,
        };
        if next != state {
            state = next;
            stage.sim.limits(narrow(if next == 1 { 12.0 } else { 120.0 }));
        }
    });
    let clean = storm.scan["coverage"]["clean"].as_u64().unwrap_or(0);
    assert_eq!(clean, storm.cells, "no cell is lost to throttles: {}", storm.scan["coverage"]);
    table.say("storm (limit cut to a tenth for a third): shortest possible", shortest, "s");
    table.at_most(
        "storm: time / shortest possible",
        storm.wall.as_secs_f64() / shortest,
        "x",
        1.25,
    );
    let queue = fanout::queue(&stage, 10_000);
    table.at_least(
        "10,000 that wait for 1,000 a second: share of the rate that is used",
        queue["used"].as_f64().unwrap_or(0.0) * 100.0,
        "%",
        98.0,
    );
    table.at_most(
        "10,000 that wait: served out of order",
        queue["disorder"].as_f64().unwrap_or(1.0),
        "calls",
        0.0,
    );
    table.say("10,000 that wait: CPU of a permit", queue["cpu_us"].as_f64().unwrap_or(0.0), "us");
}

/// Agents in processes of their own.
fn agents(table: &mut Table) {
    println!(
        "\nagents: 1,000 accounts x 17 regions, one thread each; STS grants 60 a second, a region of an account 10"
    );
    let sts = |rate: f64| json!([{"service": "rds", "rate": 10.0, "burst": 10.0}, {"service": "sts", "rate": rate, "burst": rate}]);
    let apart = by_agents(
        table,
        "",
        1_000,
        |stage| {
            stage.setup.set("RINGFENCE_AWS__STS_REGIONS", "us-east-1");
            stage.setup.set("RINGFENCE_LIMITS__STS", "60");
        },
        &sts(60.0),
    );
    table.at_most("agents: most and least cells in a CPU second, apart", apart, "%", 15.0);
    println!("agents, the CPU binds: with server and simulator there are more of them than cores");
    let apart = by_agents(table, "the CPU binds, ", 3_000, |_| (), &sts(600.0));
    // Without a goal: on fewer cores than processes it says as much of the machine.
    table.say("the CPU binds, agents: most and least, apart", apart, "%");
}

/// How far cells in an agent's CPU second are apart, in percent, with 1, 2 and 4 agents.
fn by_agents(
    table: &mut Table,
    name: &str,
    accounts: u32,
    set: impl Fn(&mut fanout::Stage),
    limits: &Value,
) -> f64 {
    let mut rates = Vec::new();
    let mut all: [Vec<(f64, Took)>; 3] = Default::default();
    // In turns, and of each the middle one of three: a shared machine does not keep its speed.
    for _ in 0..3 {
        for (n, took) in [1, 2, 4].into_iter().zip(&mut all) {
            let mut stage = fanout::stage(&world(accounts, FAR, Some(limits.clone())));
            set(&mut stage);
            let scan = stage.scan_by(n);
            let agents: Duration = scan.agents.iter().sum();
            took.push((scan.cells as f64 / agents.as_secs_f64(), scan));
        }
    }
    for (n, took) in [1, 2, 4].into_iter().zip(&mut all) {
        took.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (rate, middle) = &took[1];
        rates.push(*rate);
        table.say(&format!("{name}{n} agents: cells in a CPU second of an agent"), *rate, "cells");
        table.say(&format!("{name}{n} agents: time"), middle.wall.as_secs_f64(), "s");
        table.at_most(
            &format!("{name}{n} agents: calls that were throttled"),
            took.iter().map(|(_, t)| t.throttled as f64).fold(0.0, f64::max),
            "calls",
            0.0,
        );
    }
    let most = rates.iter().copied().fold(f64::MIN, f64::max);
    let least = rates.iter().copied().fold(f64::MAX, f64::min);
    (most / least - 1.0) * 100.0
}

/// Questions about a large ledger.
fn store(table: &mut Table) {
    let size = storeload::Size { accounts: 10_000, findings: 100, times: 200 };
    println!(
        "\nstore: 170,000 cells and 1,000,000 findings, {} questions of each kind over gRPC",
        size.times
    );
    let postgres = Postgres::start();
    let url = postgres.url();
    for (name, url) in [("sqlite", None), ("postgres", Some(url.as_str()))] {
        let (filled, latencies) = storeload::run(size, SEED, url);
        table.say(&format!("{name}: written in"), filled.as_secs_f64(), "s");
        for l in latencies {
            let ms = |d: Duration| d.as_secs_f64() * 1e3;
            table.say(&format!("{name}: {}, p50", l.question), ms(l.p50), "ms");
            table.at_most(&format!("{name}: {}, p99", l.question), ms(l.p99), "ms", 20.0);
        }
    }
}

/// AWS calls of remediations: what is written must be written, what is read is read for all of a cell together.
fn remediation(table: &mut Table) {
    println!(
        "\nremediation: one cell of 60 instances, what is unencrypted of it, at the default patience"
    );
    for at_a_time in [5, 20] {
        let took = campaign::run(SEED, at_a_time);
        let name = format!("{at_a_time} at a time, of {}", took.databases);
        println!("  {:?}", took.calls);
        table.say(&format!("{name}: AWS's time"), took.minutes, "min");
        // Snapshot, copy, restore, the members that a restore cannot set, and two deletions of scratch.
        table.at_most(
            &format!("{name}: RDS writes of a database (fewest: 6)"),
            took.writes(),
            "calls",
            7.0,
        );
        // A sweep is four calls, every 15 seconds; more of them follow what was just asked for.
        let most = 4.0 * 4.0 * 2.0;
        table.at_most(
            &format!("{name}: Describe calls of the cell (sweeps alone: 16)"),
            took.reads(),
            "1/min",
            most,
        );
    }
}

/// The same on moto, which serves about 250 calls a second: its wall time says nothing of us.
fn moto(table: &mut Table) {
    const ACCOUNTS: u32 = 200;
    println!("\nmoto: {ACCOUNTS} accounts x 4 regions of empty cells");
    let postgres = Postgres::start();
    let url = postgres.url();
    for (name, store) in [("sqlite", None), ("postgres", Some(url.as_str()))] {
        let Cost { cells, cpu, scan_calls, .. } = scale::run(ACCOUNTS, SEED, store);
        let calls: u64 = scan_calls.values().sum();
        let sessions = scan_calls.get("sts:AssumeRole").copied().unwrap_or(0);
        table.say(
            &format!("moto, {name}: CPU of a cell, sync and scan"),
            cpu.as_micros() as f64 / cells as f64,
            "us",
        );
        table.say(
            &format!("moto, {name}: AWS calls of a cell"),
            calls as f64 / cells as f64,
            "calls",
        );
        let more = sessions as f64 - f64::from(ACCOUNTS) - 1.0;
        table.at_most(&format!("moto, {name}: AssumeRole calls over accounts"), more, "calls", 0.0);
    }
}

/// What the simulator itself can do: it must not be the bottleneck.
fn simulator(table: &mut Table) {
    const REQUESTS: u64 = 400_000;
    println!(
        "\nsimulator: 10,000 accounts x 17 regions, one thread, {REQUESTS} DescribeDBInstances of empty cells"
    );
    let load = load::run(SEED, REQUESTS);
    table.at_most("simulator: start of 10,000 x 17", load.start.as_secs_f64(), "s", 1.0);
    table.at_most("simulator: memory of 10,000 x 17", load.memory_at_start, "MiB", 64.0);
    table.say("simulator: memory after the requests", load.memory_after, "MiB");
    table.at_least("simulator: requests a CPU second", load.per_core_second, "1/s", 20_000.0);
}
