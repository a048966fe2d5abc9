//! Crash points: every write, before the call and after its effect; and what else is cruel.

use crate::stage::{MINUTE, Stage};
use ringfence_tests::until;
use serde_json::json;
use std::collections::BTreeMap;

/// Runs with a crash at each point, as long as `run` meets one; it says at which operation. In `make sweep` all
/// points are tried, else one of `part`. How many they were is printed, and given back.
pub(crate) fn crash_points(
    name: &str,
    part: usize,
    mut run: impl FnMut((usize, &str)) -> Option<String>,
) -> usize {
    let every = if std::env::var_os("RINGFENCE_SWEEP").is_some() { 1 } else { part };
    let (mut points, mut met) = (0, BTreeMap::new());
    'writes: for nth in 0.. {
        for (n, effect) in ["hold-before", "hold-after"].into_iter().enumerate() {
            if (2 * nth + n) % every != 0 {
                continue;
            }
            let Some(operation) = run((nth, effect)) else { break 'writes };
            points += 1;
            *met.entry(operation).or_insert(0) += 1;
        }
    }
    println!("{name}: {points} crash points, {met:?}");
    points
}

/// From now on reads lag, and answers get lost. Lost before their effect is one write at most: with the crash that
/// makes two of the three tries.
pub(crate) fn cruel(stage: &Stage) {
    cruel_so(stage, true);
}

/// The same; without calls that are lost before their effect where the end would hang on which one that is.
pub(crate) fn cruel_so(stage: &Stage, lost_before: bool) {
    stage.sim.inside().world().settings.read_lag_ms = 300;
    for (service, write, effect, chance, times) in [
        ("rds", true, "drop-after", 0.2, 0),
        ("rds", true, "drop-before", if lost_before { 0.3 } else { 0.0 }, 1),
        ("rds", false, "drop-before", 0.05, 0),
        ("ec2", true, "drop-after", 0.5, 0),
        ("ec2", false, "drop-before", 0.05, 0),
    ] {
        if chance > 0.0 {
            stage.sim.fault(json!({"match": {"service": service, "write": write}, "times": times,
                "chance": chance, "effect": effect}));
        }
    }
}

/// The world once it stays as it is: what was asked for last has been done, and shows.
pub(crate) fn at_rest(read: impl Fn() -> BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut last = BTreeMap::new();
    until("the world is at rest", MINUTE, || {
        let all = read();
        let busy = all.values().any(|said| said.contains("ing\""));
        let same = all == last;
        last = all;
        if same && !busy { Ok(()) } else { Err(format!("{last:?}")) }
    });
    last
}
