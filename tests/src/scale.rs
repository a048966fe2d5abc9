//! Many empty cells: how much CPU and how many AWS calls one of them costs.

use crate::process::Setup;
use crate::proxy::{Proxy, Rules};
use crate::{Moto, emulator};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What a run cost.
#[derive(Debug, Clone)]
pub struct Cost {
    /// Cells scanned; all of them must be clean.
    pub cells: u64,
    /// CPU of the server with its embedded agent, sync and scan together.
    pub cpu: Duration,
    /// Wall time of the scan. moto answers about 250 calls a second, so it says nothing of us.
    pub wall: Duration,
    /// AWS calls of the sync.
    pub sync_calls: u64,
    /// AWS calls of the scan, by operation.
    pub scan_calls: BTreeMap<String, u64>,
}

/// Syncs and scans `accounts` accounts in 4 regions, with that store.
pub fn run(accounts: u32, seed: u32, store: Option<&str>) -> Cost {
    let folder = tempfile::tempdir().expect("a folder");
    let moto = Moto::start();
    emulator::build(&moto.url(), seed, &["empty", &accounts.to_string()]);
    let proxy = Proxy::start(moto.port, Rules::default());
    let mut setup = Setup::new(&proxy.url(), folder.path());
    setup.set("RINGFENCE_AWS__REGIONS", "us-east-1,us-west-2,eu-west-1,eu-central-1");
    if let Some(store) = store {
        setup.set("RINGFENCE_STORE__URL", store);
    }
    let server = setup.start();
    let cli = setup.cli("ann");
    cli.expect("org sync", 0);
    let sync_calls = proxy.take_calls().values().sum();
    let begin = Instant::now();
    let scan = cli.json("scan start --wait", 0);
    let wall = begin.elapsed();
    let cells = scan["cells"].as_u64().expect("cells");
    assert_eq!(scan["coverage"]["clean"].as_u64(), Some(cells), "{scan}");
    assert_eq!(cells, u64::from(accounts + 1) * 4, "every account and the management account");
    Cost { cells, cpu: cpu(server.0.id()), wall, sync_calls, scan_calls: proxy.take_calls() }
}

/// User and system time of a process, from /proc (proc(5): fields 14 and 15, in ticks of 10 ms).
pub(crate) fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after = stat.rsplit(')').next().unwrap_or_default();
    // Signed: the terminal's group is -1 without one, and must not be left out of the counting.
    let fields: Vec<i64> = after.split_whitespace().filter_map(|f| f.parse().ok()).collect();
    // After the name come state (no number), ppid ...: utime and stime are numbers 10 and 11.
    let ticks = fields.get(10).copied().unwrap_or(0) + fields.get(11).copied().unwrap_or(0);
    Duration::from_millis(ticks.unsigned_abs() * 10)
}

/// Resident memory of a process in MiB, from /proc (proc(5): VmRSS).
pub(crate) fn memory(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().unwrap_or_default();
    kib / 1024.0
}

/// The most resident memory that a process had, in MiB (proc(5): VmHWM).
pub(crate) fn peak(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().unwrap_or_default();
    kib / 1024.0
}
