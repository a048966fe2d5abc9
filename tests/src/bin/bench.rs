//! `make bench`: what a cell costs. Prints a table and writes target/bench/results.json.

use ringfence_tests::load;
use ringfence_tests::postgres::Postgres;
use ringfence_tests::scale::{self, Cost};
use serde_json::{Value, json};

const ACCOUNTS: u32 = 200;
const SEED: u32 = 7;

fn main() -> anyhow::Result<()> {
    let postgres = Postgres::start();
    let url = postgres.url();
    let mut rows: Vec<Value> = Vec::new();
    println!("{ACCOUNTS} accounts x 4 regions of empty cells on moto, seed {SEED}");
    println!(
        "moto serves about 250 calls a second on one core, so wall time says nothing of Ringfence"
    );
    for (name, store) in [("sqlite", None), ("postgres", Some(url.as_str()))] {
        let cost = scale::run(ACCOUNTS, SEED, store);
        rows.extend(report(name, &cost));
    }
    rows.extend(simulator());
    let folder = ringfence_tests::root().join("target/bench");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("results.json"), serde_json::to_string_pretty(&rows)?)?;
    println!("written to target/bench/results.json");
    Ok(())
}

fn report(store: &str, cost: &Cost) -> Vec<Value> {
    let cells = cost.cells as f64;
    let calls: u64 = cost.scan_calls.values().sum();
    let cpu = cost.cpu.as_micros() as f64 / cells;
    let assumed = cost.scan_calls.get("sts:AssumeRole").copied().unwrap_or(0);
    println!("\n{store}: {} cells in {:.1} s", cost.cells, cost.wall.as_secs_f64());
    println!("  CPU of our process       {cpu:>8.0} us a cell (sync and scan)");
    println!("  AWS calls of the scan    {:>8.2} a cell", calls as f64 / cells);
    for (operation, n) in &cost.scan_calls {
        println!("    {operation:<24} {n:>6}");
    }
    println!("  AWS calls of the sync    {:>8}", cost.sync_calls);
    let accounts = u64::from(ACCOUNTS) + 1;
    vec![
        json!({"name": format!("{store}: CPU per cell"), "value": cpu, "unit": "us", "goal": null, "holds": null, "seed": SEED}),
        json!({"name": format!("{store}: AWS calls per cell"), "value": calls as f64 / cells, "unit": "calls", "goal": null, "holds": null, "seed": SEED}),
        json!({"name": format!("{store}: AssumeRole per account"), "value": assumed as f64 / accounts as f64, "unit": "calls", "goal": 1.0, "holds": assumed == accounts, "seed": SEED}),
    ]
}

/// Requests to the simulator with nothing behind them.
const REQUESTS: u64 = 400_000;

fn simulator() -> Vec<Value> {
    let load = load::run(SEED, REQUESTS);
    println!(
        "\nsimulator: 10,000 accounts x 17 regions, one thread, {} DescribeDBInstances of empty cells by 16 connections, each with a session policy",
        load.requests
    );
    println!("  from start to ready      {:>8.0} ms", load.start.as_secs_f64() * 1e3);
    println!(
        "  memory when ready        {:>8.1} MiB, after the requests {:.1} MiB",
        load.memory_at_start, load.memory_after
    );
    println!("  requests a CPU second    {:>8.0}", load.per_core_second);
    let row = |name: &str, value: f64, unit: &str, goal: f64, holds: bool| json!({"name": format!("simulator: {name}"), "value": value, "unit": unit, "goal": goal, "holds": holds, "seed": SEED});
    let start = load.start.as_secs_f64();
    vec![
        row("start of 10,000 x 17", start, "s", 1.0, start < 1.0),
        row(
            "memory of 10,000 x 17",
            load.memory_at_start,
            "MiB",
            64.0,
            load.memory_at_start < 64.0,
        ),
        row(
            "requests a CPU second",
            load.per_core_second,
            "1/s",
            20_000.0,
            load.per_core_second > 20_000.0,
        ),
    ]
}
