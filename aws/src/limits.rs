//! Token buckets by account, region and kind of call.
//!
//! governor keeps the buckets. A call costs 100 units at the ceiling and more when its bucket was
//! throttled or only a part of a shared budget is ours, so that the rate changes without losing the
//! bucket's state. Where several wait on one bucket they stand in a queue and only its head sleeps:
//! governor's own `until_key_ready` wakes all of them for each permit, in no order.

use crate::class::CLASSES;
pub use crate::class::{Class, Rates};
use crate::pace::{Pace, cost};
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What one kind of call did so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Usage {
    /// The kind.
    pub class: Class,
    /// The ceiling of one bucket, in calls a second: of a shared budget, the part that is ours.
    pub rate: f64,
    /// Calls let through.
    pub granted: u64,
    /// Calls that wait just now.
    pub waiting: u64,
    /// Calls that AWS throttled.
    pub throttled: u64,
    /// Buckets that are slowed down just now.
    pub slowed: u64,
}

/// What a call at the ceiling costs. Fine enough for any share, coarse enough that a unit's time in
/// whole nanoseconds is exact to a ten-thousandth at 1,000 calls a second.
const UNIT: u32 = 100;

/// A whole budget, in millionths.
pub const WHOLE: u32 = 1_000_000;

/// tokio's clock for governor, so that tests can be in charge of time.
#[derive(Debug, Clone, Copy)]
struct TokioClock(Instant);

impl Clock for TokioClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        now().saturating_duration_since(self.0)
    }
}

type Bucket = RateLimiter<u64, DefaultKeyedStateStore<u64>, TokioClock, NoOpMiddleware<Duration>>;

/// The queue before one bucket, made when somebody must wait or AWS throttled.
struct Lane {
    gate: tokio::sync::Mutex<()>,
    pace: Mutex<Pace>,
}

/// All buckets of one class.
struct Buckets {
    class: Class,
    rate: u32,
    bucket: Bucket,
    clock: TokioClock,
    burst: u32,
    lanes: Mutex<HashMap<u64, Arc<Lane>>>,
    /// In millionths; less than [`WHOLE`] only of a budget that agents share.
    share: AtomicU32,
    granted: AtomicU64,
    waiting: AtomicU64,
    throttled: AtomicU64,
}

/// The buckets of one process or agent thread.
pub struct Limits {
    buckets: [Buckets; CLASSES.len()],
}

/// Whose budget a call takes: the account and region, or nothing for the calling account's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key(u64);

impl Key {
    /// The organization's budget.
    pub const SHARED: Key = Key(0);

    /// 40 bits hold any account id, 24 bits tell the regions apart.
    pub fn cell(account: &str, region: &str) -> Key {
        let account: u64 = account.parse().unwrap_or(0);
        Key((account << 24) | u64::from(Key::hash(region) & 0x00FF_FFFF))
    }

    /// The calling account's budget at one regional endpoint.
    pub fn endpoint(region: &str) -> Key {
        Key(u64::from(Key::hash(region) & 0x00FF_FFFF))
    }

    /// FNV-1a.
    fn hash(region: &str) -> u32 {
        region
            .bytes()
            .fold(2_166_136_261_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(16_777_619))
    }
}

/// A lock whose data is always whole: a task that broke while it held it is no harm.
pub(crate) fn whole<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts one that waits, also when it stops waiting because its task was stopped.
struct Waiting<'a>(&'a AtomicU64);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicU64) -> Waiting<'a> {
        count.fetch_add(1, Ordering::Relaxed);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Buckets {
    fn new(class: Class, rates: &Rates, clock: TokioClock) -> Buckets {
        let rate = rates.of(class).max(1);
        // A second's worth at once. STS is asked by everybody all the time: a tenth of a second smooths
        // it, and still makes up for timers that are a millisecond late.
        let at_once = if class == Class::Sts { rate.div_ceil(10) } else { rate };
        let units =
            |calls: u32| NonZeroU32::new(calls.saturating_mul(UNIT)).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_second(units(rate)).allow_burst(units(at_once));
        Buckets {
            class,
            rate,
            bucket: RateLimiter::dashmap_with_clock(quota, clock),
            clock,
            burst: units(at_once).get(),
            lanes: Mutex::default(),
            share: AtomicU32::new(WHOLE),
            granted: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            throttled: AtomicU64::new(0),
        }
    }

    fn share(&self) -> f64 {
        f64::from(self.share.load(Ordering::Relaxed)) / f64::from(WHOLE)
    }

    fn lane(&self, key: u64) -> Arc<Lane> {
        let new =
            || Arc::new(Lane { gate: tokio::sync::Mutex::default(), pace: Mutex::new(Pace::FULL) });
        whole(&self.lanes).entry(key).or_insert_with(new).clone()
    }

    /// Waits for the right to make one call.
    async fn permit(&self, key: u64) {
        let queued = whole(&self.lanes).get(&key).cloned();
        let share = self.share();
        let free = queued.is_none() && share > 0.0 && {
            let cost = cost(UNIT, share);
            cost <= self.burst && matches!(self.bucket.check_key_n(&key, some(cost)), Ok(Ok(())))
        };
        if !free {
            let lane = queued.unwrap_or_else(|| self.lane(key));
            let _waiting = Waiting::new(&self.waiting);
            // tokio's mutex is fair: first come, first served.
            let _turn = lane.gate.lock().await;
            self.wait(key, &lane).await;
        }
        self.granted.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes what a call costs now out of the bucket, in parts that the bucket can hold.
    async fn wait(&self, key: u64, lane: &Lane) {
        let (mut left, mut priced) = (None, 0.0);
        while left != Some(0) {
            let share = self.share();
            if share == 0.0 {
                // Nothing of this budget is ours yet: another agent has to give some back.
                rest(Duration::from_millis(20)).await;
                continue;
            }
            if share != priced {
                // A call that was begun with a sliver, which the dealing of a budget can leave, would else wait
                // for a quarter of an hour though the share has grown. What it paid is lost: no rate is exceeded.
                (left, priced) = (None, share);
            }
            let whole_cost = || cost(UNIT, share * whole(&lane.pace).share(now()));
            let due = left.unwrap_or_else(whole_cost);
            let part = due.min(self.burst);
            match self.bucket.check_key_n(&key, some(part)) {
                Ok(Ok(())) => left = Some(due - part),
                Ok(Err(not_yet)) => {
                    left = Some(due);
                    rest(not_yet.wait_time_from(self.clock.now())).await;
                }
                // Never: a part is at most what the bucket holds.
                Err(_) => left = Some(0),
            }
        }
    }
}

fn some(units: u32) -> NonZeroU32 {
    NonZeroU32::new(units).unwrap_or(NonZeroU32::MIN)
}

impl Limits {
    /// Full buckets.
    pub fn new(rates: &Rates) -> Limits {
        let clock = TokioClock(now());
        Limits { buckets: CLASSES.map(|class| Buckets::new(class, rates, clock)) }
    }

    /// Waits for the right to make one call.
    pub async fn permit(&self, class: Class, key: Key) {
        self.buckets[class as usize].permit(key.0).await;
    }

    /// AWS throttled a call that was sent at `sent`.
    pub fn throttled(&self, class: Class, key: Key, sent: Instant) {
        let buckets = &self.buckets[class as usize];
        buckets.throttled.fetch_add(1, Ordering::Relaxed);
        let lane = buckets.lane(key.0);
        whole(&lane.pace).throttled(sent, now());
    }

    /// How much of a shared budget is ours, in millionths.
    pub fn set_share(&self, class: Class, millionths: u32) {
        self.buckets[class as usize].share.store(millionths.min(WHOLE), Ordering::Relaxed);
    }

    /// Buckets that are full again, and queues that nobody stands in, are dropped: they are as good as
    /// new ones.
    pub fn forget_idle(&self) {
        let now = now();
        for buckets in &self.buckets {
            buckets.bucket.retain_recent();
            whole(&buckets.lanes)
                .retain(|_, l| Arc::strong_count(l) > 1 || !whole(&l.pace).is_full(now));
        }
    }

    /// What every class did so far.
    pub fn usage(&self) -> Vec<Usage> {
        let now = now();
        let of = |b: &Buckets| Usage {
            class: b.class,
            rate: f64::from(b.rate) * b.share(),
            granted: b.granted.load(Ordering::Relaxed),
            waiting: b.waiting.load(Ordering::Relaxed),
            throttled: b.throttled.load(Ordering::Relaxed),
            slowed: whole(&b.lanes).values().filter(|l| !whole(&l.pace).is_full(now)).count()
                as u64,
        };
        self.buckets.iter().map(of).collect()
    }
}

#[expect(clippy::disallowed_methods, reason = "waiting for a bucket is what this is for")]
pub(crate) async fn rest(pause: Duration) {
    tokio::time::sleep(pause).await;
}

#[expect(clippy::disallowed_methods, reason = "rates are measured here, not decided")]
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use futures::stream::{FuturesUnordered, StreamExt};

    pub(crate) fn rates(all: u32) -> Rates {
        Rates::each(|_| all)
    }

    #[tokio::test(start_paused = true)]
    async fn ten_thousand_wait_in_order_and_nothing_of_the_rate_is_lost() {
        let limits = Limits::new(&rates(1_000));
        let key = Key::endpoint("us-east-1");
        let began = now();
        let waiters: FuturesUnordered<_> = (0..10_000_u32)
            .map(|n| {
                let limits = &limits;
                async move {
                    limits.permit(Class::Sts, key).await;
                    n
                }
            })
            .collect();
        let order: Vec<u32> = waiters.collect().await;
        assert!(order.is_sorted(), "first come, first served");
        let took = (now() - began).as_secs_f64();
        // 100 go at once, the others at 1,000 a second.
        assert!((9.9..10.1).contains(&took), "{took} s");
        assert_eq!(limits.usage()[0].granted, 10_000);
        assert_eq!(limits.usage()[0].waiting, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn shares_of_a_budget_sum_to_the_whole() {
        let agents = [Limits::new(&rates(100)), Limits::new(&rates(100))];
        agents[0].set_share(Class::Sts, 250_000);
        agents[1].set_share(Class::Sts, 750_000);
        let began = now();
        let run = |limits: &'static Limits| async move {
            for _ in 0..200 {
                limits.permit(Class::Sts, Key::endpoint("us-east-1")).await;
            }
            (now() - began).as_secs_f64()
        };
        let [a, b] = agents.map(|l| &*Box::leak(Box::new(l)));
        let (slow, fast) = futures::join!(run(a), run(b));
        assert!((7.4..8.1).contains(&slow), "200 at 25 a second: {slow}");
        assert!((2.4..2.8).contains(&fast), "200 at 75 a second: {fast}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_with_a_sliver_goes_on_when_the_share_grows() {
        // What is left of the whole when three have a third each.
        let limits = Limits::new(&rates(1_000));
        limits.set_share(Class::Sts, 1);
        let began = now();
        let grows = async {
            rest(Duration::from_secs(1)).await;
            limits.set_share(Class::Sts, 250_000);
        };
        futures::join!(limits.permit(Class::Sts, Key::endpoint("us-east-1")), grows);
        let took = (now() - began).as_secs_f64();
        assert!((1.0..1.3).contains(&took), "{took} s");
    }

    #[tokio::test(start_paused = true)]
    async fn a_throttled_account_slows_itself_down_and_nobody_else() {
        let limits = Limits::new(&rates(10));
        let (slow, other) =
            (Key::cell("111122223333", "eu-west-1"), Key::cell("111122223334", "eu-west-1"));
        for _ in 0..5 {
            limits.throttled(Class::RdsRead, slow, now());
            rest(Duration::from_millis(1)).await;
        }
        let took = |key| {
            let limits = &limits;
            async move {
                let began = now();
                for _ in 0..20 {
                    limits.permit(Class::RdsRead, key).await;
                }
                (now() - began).as_secs_f64()
            }
        };
        let (slowed, free) = futures::join!(took(slow), took(other));
        assert!((0.9..1.1).contains(&free), "10 at once, 10 in a second: {free}");
        assert!(slowed > 1.5, "{slowed}");
        assert_eq!(limits.usage()[4].slowed, 0, "and in that time it was won back");
        limits.forget_idle();
        assert!(whole(&limits.buckets[4].lanes).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_stops_waiting_does_not_hold_up_the_others() {
        let limits = Limits::new(&rates(1));
        let key = Key::SHARED;
        limits.permit(Class::Sts, key).await;
        let first = Box::pin(limits.permit(Class::Sts, key));
        let second = Box::pin(limits.permit(Class::Sts, key));
        let futures::future::Either::Right(((), mut first)) =
            futures::future::select(second, first).await
        else {
            // The first in the queue was polled second, so the other one is the head.
            return;
        };
        assert!(futures::poll!(&mut first).is_pending());
        drop(first);
        limits.permit(Class::Sts, key).await;
        assert_eq!(limits.usage()[0].waiting, 0);
    }

    #[test]
    fn cells_have_keys_of_their_own() {
        let key = Key::cell("111122223333", "eu-west-1");
        assert_ne!(key, Key::cell("111122223333", "eu-west-2"));
        assert_ne!(key, Key::cell("111122223334", "eu-west-1"));
        assert_ne!(key, Key::SHARED);
        assert_ne!(Key::endpoint("eu-west-1"), Key::endpoint("us-east-1"));
    }
}
