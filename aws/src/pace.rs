//! How fast one bucket may go after throttles: additive increase, multiplicative decrease.
//!
//! AWS publishes few of its limits and other tools use them up beside us, so the configured rate is a
//! ceiling and AWS's own answers say the rest. Pure: `now` is an argument.

use std::time::Instant;

/// What is left of the rate after a throttle. A gentler cut than TCP's half: the bucket at AWS refills
/// at its limit whatever we do, so all that lies below the limit is lost.
const CUT: f64 = 0.7;

/// The slowest: one fiftieth of the ceiling.
const FLOOR: f64 = 0.02;

/// What is won back in a second, of the ceiling, to begin with.
const STEP: f64 = 0.05;

/// How much the step grows each second: a steady limit is probed in small steps, several times a
/// second, and two quiet seconds forget a storm.
const GROWTH: f64 = 0.2;

/// The pace of one bucket: its rate as a share of the ceiling.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    at_cut: f64,
    cut: Option<Instant>,
}

impl Pace {
    pub(crate) const FULL: Pace = Pace { at_cut: 1.0, cut: None };

    /// The share of the ceiling that may be used now.
    pub(crate) fn share(&self, now: Instant) -> f64 {
        let Some(cut) = self.cut else { return 1.0 };
        let passed = now.saturating_duration_since(cut).as_secs_f64();
        (self.at_cut + STEP * passed + GROWTH * passed * passed).min(1.0)
    }

    /// AWS throttled a call that was sent at `sent`. One that was sent before the last cut says nothing
    /// of the rate since, and is ignored: at most one cut in each round trip.
    pub(crate) fn throttled(&mut self, sent: Instant, now: Instant) {
        if self.cut.is_none_or(|cut| sent >= cut) {
            self.at_cut = (self.share(now) * CUT).max(FLOOR);
            self.cut = Some(now);
        }
    }

    /// Whether nothing is left of any cut.
    pub(crate) fn is_full(&self, now: Instant) -> bool {
        self.share(now) >= 1.0
    }
}

/// What a rate of `share` of the ceiling makes a call cost, in units of which a call at the ceiling
/// costs `unit`.
pub(crate) fn cost(unit: u32, share: f64) -> u32 {
    let cost = (f64::from(unit) / share.clamp(1e-6, 1.0)).ceil();
    // At most unit * 1e6, which fits by the choice of units.
    if cost >= f64::from(u32::MAX) { u32::MAX } else { cost as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[expect(clippy::disallowed_methods, reason = "an origin of a test's own time")]
    fn origin() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_round_trip_of_throttles_cuts_once_and_quiet_wins_it_back() {
        let t = origin();
        let at = |ms: u64| t + Duration::from_millis(ms);
        let mut pace = Pace::FULL;
        assert!(pace.is_full(t));
        pace.throttled(at(0), at(50));
        for late in 0..50 {
            pace.throttled(at(late), at(60));
        }
        assert!((pace.share(at(50)) - 0.7).abs() < 1e-9, "one cut: {pace:?}");
        pace.throttled(at(50), at(100));
        assert!(pace.share(at(100)) < 0.7 * 0.71, "{pace:?}");
        assert!(pace.is_full(at(2_100)), "two seconds forget it");
        assert!(pace.share(at(600)) < 0.6, "and not at once");
    }

    #[test]
    fn a_steady_limit_of_a_tenth_is_used_to_four_fifths_at_least() {
        // Calls at our pace against a bucket of 60 a second while we believe in 600.
        let t = origin();
        let (mut pace, mut tokens, mut sent, mut granted) = (Pace::FULL, 60.0_f64, 0_u32, 0_u32);
        let mut credit = 0.0;
        for ms in 0..30_000_u64 {
            let now = t + Duration::from_millis(ms);
            tokens = (tokens + 0.06).min(60.0);
            credit += 0.6 * pace.share(now);
            while credit >= 1.0 {
                credit -= 1.0;
                sent += 1;
                if tokens >= 1.0 {
                    tokens -= 1.0;
                    granted += 1;
                } else {
                    pace.throttled(now, now);
                }
            }
        }
        let used = f64::from(granted) / (30.0 * 60.0 + 60.0);
        assert!(used > 0.8, "{used} of the limit was used, {granted} of {sent}");
        assert!(f64::from(sent) < f64::from(granted) * 1.25, "{granted} of {sent}");
    }

    #[test]
    fn however_often_it_is_cut_it_never_stops() {
        let t = origin();
        let mut pace = Pace::FULL;
        for ms in 0..1_000 {
            let now = t + Duration::from_millis(ms);
            pace.throttled(now, now);
        }
        assert!(pace.share(t + Duration::from_millis(1_000)) >= FLOOR);
        assert_eq!(cost(100, 0.02), 5_000);
        assert_eq!(cost(100, 1.0), 100);
    }
}
