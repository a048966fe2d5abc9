//! A region that does not answer costs one timeout, not one for each account: after a few calls in a
//! row without any answer its breaker opens, and calls fail at once until a probe is answered.
//!
//! Pure: `now` is an argument.

use ringfence_domain::bounds::{BREAKER_LOST, BREAKER_REST, BREAKER_REST_MAX, PROBES_A_PASS};
use std::time::{Duration, Instant};

/// The breaker of one region.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Breaker {
    lost: u32,
    open: Option<Open>,
    /// When the last probes ended without an answer.
    probed: [Option<Instant>; PROBES_A_PASS],
}

#[derive(Debug, Clone, Copy)]
struct Open {
    rest: Duration,
    /// When the next call may try.
    until: Instant,
}

/// What a breaker says to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admit {
    /// Go.
    Yes,
    /// Go, and tell whether the region is back.
    Probe,
    /// The region is taken for dead.
    No,
}

impl Breaker {
    /// Whether a call may go out. Where the breaker is open and its rest is over, this one is the probe,
    /// and the others rest on until it ends.
    pub(crate) fn admits(&mut self, now: Instant) -> Admit {
        match &mut self.open {
            None => Admit::Yes,
            Some(open) if now < open.until => Admit::No,
            Some(open) => {
                // A probe that never comes back (its task was stopped) must not shut the region for ever.
                open.until = now + open.rest;
                Admit::Probe
            }
        }
    }

    /// Any answer at all, an error included, is a region that is there.
    pub(crate) fn answered(&mut self) {
        *self = Breaker::default();
    }

    /// A call got no answer. True if this opened the breaker.
    pub(crate) fn silent(&mut self, admitted: Admit, now: Instant) -> bool {
        match &mut self.open {
            // Those that were on their way when it opened say nothing new.
            Some(open) => {
                if admitted == Admit::Probe {
                    self.probed.rotate_right(1);
                    self.probed[0] = Some(now);
                    open.rest = (open.rest * 2).min(BREAKER_REST_MAX.to_duration());
                    open.until = now + open.rest;
                }
                false
            }
            None => {
                self.lost += 1;
                if self.lost < BREAKER_LOST {
                    return false;
                }
                let rest = BREAKER_REST.to_duration();
                self.open = Some(Open { rest, until: now + rest });
                true
            }
        }
    }

    /// Whether the region is taken for dead, and was not asked often enough since then to be sure.
    pub(crate) fn needs_probe(&self, since: Instant) -> bool {
        self.open.is_some() && self.probed.iter().any(|p| p.is_none_or(|probed| probed < since))
    }

    /// Lets the next call through, whatever the rest.
    pub(crate) fn probe_now(&mut self, now: Instant) {
        if let Some(open) = &mut self.open {
            open.until = open.until.min(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "an origin of a test's own time")]
    fn origin() -> Instant {
        Instant::now()
    }

    #[test]
    fn it_opens_after_some_silence_probes_one_at_a_time_and_closes_on_any_answer() {
        let t = origin();
        let at = |s: u64| t + Duration::from_secs(s);
        let mut breaker = Breaker::default();
        for _ in 1..BREAKER_LOST {
            assert!(!breaker.silent(Admit::Yes, t), "a lost packet or two is no outage");
            assert_eq!(breaker.admits(t), Admit::Yes);
        }
        assert!(breaker.silent(Admit::Yes, t), "now it opens");
        for _ in 0..100 {
            assert!(!breaker.silent(Admit::Yes, at(1)), "those on their way change nothing");
        }
        assert_eq!(breaker.admits(at(1)), Admit::No);
        assert_eq!(breaker.admits(at(5)), Admit::Probe);
        assert_eq!(breaker.admits(at(5)), Admit::No, "only one");
        breaker.silent(Admit::Probe, at(8));
        assert_eq!(breaker.admits(at(17)), Admit::No, "the rest is longer now");
        assert_eq!(breaker.admits(at(18)), Admit::Probe);
        breaker.answered();
        assert_eq!(breaker.admits(at(18)), Admit::Yes);
    }

    #[test]
    fn one_answer_among_the_lost_keeps_it_shut() {
        let t = origin();
        let mut breaker = Breaker::default();
        for _ in 0..20 {
            breaker.silent(Admit::Yes, t);
            breaker.silent(Admit::Yes, t);
            breaker.answered();
        }
        assert_eq!(breaker.admits(t), Admit::Yes);
    }

    #[test]
    fn a_new_pass_may_ask_at_once() {
        let t = origin();
        let mut breaker = Breaker::default();
        for _ in 0..BREAKER_LOST {
            breaker.silent(Admit::Yes, t);
        }
        assert_eq!(breaker.admits(t), Admit::No);
        assert!(breaker.needs_probe(t));
        breaker.probe_now(t);
        assert_eq!((breaker.admits(t), breaker.admits(t)), (Admit::Probe, Admit::No));
        let later = t + Duration::from_secs(20);
        for n in 0..PROBES_A_PASS {
            assert!(breaker.needs_probe(t), "after {n} lost probes");
            breaker.silent(Admit::Probe, later);
        }
        assert!(!breaker.needs_probe(t), "that is enough for one pass");
        assert!(breaker.needs_probe(later + Duration::from_secs(1)), "a later pass has its own");
        breaker.answered();
        assert!(!breaker.needs_probe(later + Duration::from_secs(1)));
    }
}
