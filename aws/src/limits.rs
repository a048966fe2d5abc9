//! Token buckets by account, region and kind of call, and the one retry loop.

use governor::clock::DefaultClock;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};
use ringfence_domain::cloud::{CloudError, ErrorClass};
use std::future::Future;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Retries of a read whose answer was lost. A read has no effect, so it may be repeated; a write
/// never is.
const LOST_READS_MAX: u32 = 2;

/// What a call counts against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// AssumeRole and GetCallerIdentity: one budget for the calling account.
    Sts,
    /// Organizations reads: one budget for the organization.
    OrganizationsRead,
    /// Organizations writes: serialized by the server, so one a second is plenty.
    OrganizationsWrite,
    /// `account:ListRegions`.
    Account,
    /// RDS Describe calls, by account and region.
    RdsRead,
    /// RDS writes, by account and region.
    RdsWrite,
    /// KMS DescribeKey, by account and region.
    KmsRead,
}

const CLASSES: usize = 7;

/// Calls a second. AWS publishes none of RDS's and Organizations' figures; these are what other
/// tools found safe (README, "Limits"), and all of them are settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "one for each Class")]
pub struct Rates {
    pub sts: u32,
    pub organizations_read: u32,
    pub organizations_write: u32,
    pub account: u32,
    pub rds_read: u32,
    pub rds_write: u32,
    pub kms_read: u32,
}

type Bucket = RateLimiter<u64, DefaultKeyedStateStore<u64>, DefaultClock>;

/// The buckets of one process.
pub(crate) struct Limits {
    buckets: [Bucket; CLASSES],
    /// STS and Organizations have one bucket for everybody, and governor wakes all who wait on a
    /// key at once: this queue lets only the first of them wait on it.
    turnstile: tokio::sync::Mutex<()>,
    deadline: Duration,
    calls: AtomicU64,
    throttled: AtomicU64,
}

/// Whose budget a call takes: the account and region, or nothing for the calling account's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key(u64);

impl Key {
    /// The calling account's or the organization's budget.
    pub(crate) const SHARED: Key = Key(0);

    /// 40 bits hold any account id, 24 bits tell the regions apart.
    pub(crate) fn cell(account: &str, region: &str) -> Key {
        let account: u64 = account.parse().unwrap_or(0);
        let region = region.bytes().fold(2_166_136_261_u32, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(16_777_619)
        });
        Key((account << 24) | u64::from(region & 0x00FF_FFFF))
    }
}

impl Limits {
    pub(crate) fn new(rates: Rates, deadline: Duration) -> Limits {
        let bucket = |per_second: u32| -> Bucket {
            let rate = NonZeroU32::new(per_second).unwrap_or(NonZeroU32::MIN);
            RateLimiter::dashmap(Quota::per_second(rate))
        };
        let Rates {
            sts,
            organizations_read,
            organizations_write,
            account,
            rds_read,
            rds_write,
            kms_read,
        } = rates;
        let order =
            [sts, organizations_read, organizations_write, account, rds_read, rds_write, kms_read];
        Limits {
            buckets: order.map(bucket),
            turnstile: tokio::sync::Mutex::new(()),
            deadline,
            calls: AtomicU64::new(0),
            throttled: AtomicU64::new(0),
        }
    }

    async fn permit(&self, class: Class, key: Key) {
        let bucket = &self.buckets[class as usize];
        if key == Key::SHARED {
            let _first = self.turnstile.lock().await;
            bucket.until_key_ready(&key.0).await;
        } else {
            bucket.until_key_ready(&key.0).await;
        }
    }

    /// A call that changes nothing: throttles are retried until the deadline, lost answers twice.
    pub(crate) async fn read<T, F>(
        &self,
        class: Class,
        key: Key,
        call: impl Fn() -> F,
    ) -> Result<T, CloudError>
    where
        F: Future<Output = Result<T, CloudError>>,
    {
        self.repeat(class, key, call, |error, lost| match error.class {
            ErrorClass::Throttled | ErrorClass::Conflict => true,
            ErrorClass::Unknown => lost < LOST_READS_MAX,
            ErrorClass::Denied
            | ErrorClass::ScpDenied
            | ErrorClass::RegionRefused
            | ErrorClass::NotFound
            | ErrorClass::AlreadyExists
            | ErrorClass::Invalid => false,
        })
        .await
    }

    /// A call that changes something: repeated only where AWS said that it did nothing.
    pub(crate) async fn write<T, F>(
        &self,
        class: Class,
        key: Key,
        call: impl Fn() -> F,
    ) -> Result<T, CloudError>
    where
        F: Future<Output = Result<T, CloudError>>,
    {
        let definite = [ErrorClass::Throttled, ErrorClass::Conflict];
        self.repeat(class, key, call, |error, _| definite.contains(&error.class)).await
    }

    async fn repeat<T, F>(
        &self,
        class: Class,
        key: Key,
        call: impl Fn() -> F,
        again: impl Fn(&CloudError, u32) -> bool,
    ) -> Result<T, CloudError>
    where
        F: Future<Output = Result<T, CloudError>>,
    {
        let until = now() + self.deadline;
        let (mut attempt, mut lost) = (0_u32, 0_u32);
        loop {
            self.permit(class, key).await;
            self.calls.fetch_add(1, Ordering::Relaxed);
            let error = match call().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            if error.class == ErrorClass::Throttled {
                self.throttled.fetch_add(1, Ordering::Relaxed);
            }
            let pause = backoff(attempt);
            if !again(&error, lost) || now() + pause > until {
                return Err(error);
            }
            tracing::debug!(%error, attempt, "try again");
            lost += u32::from(error.class == ErrorClass::Unknown);
            attempt += 1;
            rest(pause).await;
        }
    }

    /// Buckets of keys that are full again are dropped: they are as good as new.
    pub(crate) fn forget_idle(&self) {
        for bucket in &self.buckets {
            bucket.retain_recent();
        }
    }

    /// Calls made and throttles met since the start.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.calls.load(Ordering::Relaxed), self.throttled.load(Ordering::Relaxed))
    }
}

/// 0.2 s doubled each time up to 8 s, then a random half of it off, so that workers do not come
/// back together ("Exponential Backoff And Jitter", AWS Architecture Blog).
fn backoff(attempt: u32) -> Duration {
    let whole = 200_u64 << attempt.min(5);
    Duration::from_millis(whole / 2 + fastrand::u64(0..=whole / 2))
}

#[expect(clippy::disallowed_methods, reason = "the retry loop is an edge: it may wait")]
async fn rest(pause: Duration) {
    tokio::time::sleep(pause).await;
}

#[expect(clippy::disallowed_methods, reason = "deadlines of calls are measured here, not decided")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn error(class: ErrorClass) -> CloudError {
        CloudError { class, operation: "x:Y".into(), code: String::new(), message: String::new() }
    }

    fn limits() -> Limits {
        let rates = Rates {
            sts: 1000,
            organizations_read: 1000,
            organizations_write: 1000,
            account: 1000,
            rds_read: 1000,
            rds_write: 1000,
            kms_read: 1000,
        };
        Limits::new(rates, Duration::from_secs(60))
    }

    /// How often a call that always fails so is made.
    async fn tries(class: ErrorClass, write: bool) -> u32 {
        let count = Cell::new(0);
        let call = || {
            count.set(count.get() + 1);
            async { Err::<(), _>(error(class)) }
        };
        let limits = limits();
        let key = Key::cell("111122223333", "eu-west-1");
        let result = match write {
            true => limits.write(Class::RdsWrite, key, call).await,
            false => limits.read(Class::RdsRead, key, call).await,
        };
        assert!(result.is_err());
        count.get()
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_whose_answer_was_lost_is_never_repeated() {
        assert_eq!(tries(ErrorClass::Unknown, true).await, 1);
        assert_eq!(tries(ErrorClass::Unknown, false).await, 3);
        assert_eq!(tries(ErrorClass::Denied, false).await, 1);
        assert!(tries(ErrorClass::Throttled, true).await > 5);
        assert!(tries(ErrorClass::Throttled, false).await > 5);
    }

    #[test]
    fn cells_have_keys_of_their_own() {
        let key = Key::cell("111122223333", "eu-west-1");
        assert_ne!(key, Key::cell("111122223333", "eu-west-2"));
        assert_ne!(key, Key::cell("111122223334", "eu-west-1"));
        assert_ne!(key, Key::SHARED);
    }
}
