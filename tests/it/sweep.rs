//! Crash points: every write, before the call and after its effect.

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
