//! The one retry loop: limiter, breaker and a slot around each try. The SDK's own retries are off, so
//! that every try is charged to its bucket.

use crate::breaker::{Admit, Breaker};
use crate::limits::{Class, Key, Limits, Rates, now, rest, whole};
use ringfence_domain::cloud::{CloudError, ErrorClass, REGION_UNREACHABLE};
use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Retries of a read whose answer was lost. A read has no effect, so it may be repeated; a write
/// never is.
const LOST_READS_MAX: u32 = 2;

/// One service in one region: its breaker, and the calls that may be in flight to it.
struct Host {
    breaker: Mutex<Breaker>,
    slots: Semaphore,
    /// Held by whoever finds out whether the region is back, while others wait for that.
    probe: Arc<tokio::sync::Mutex<()>>,
}

/// Held by whoever finds out whether a region is back; the others wait until it is dropped.
#[derive(Debug)]
pub struct Probe(#[expect(dead_code, reason = "held, not read")] tokio::sync::OwnedMutexGuard<()>);

/// Where a call goes, and whose budget it takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct To<'a> {
    class: Class,
    key: Key,
    region: &'a str,
}

impl<'a> To<'a> {
    /// A call about one account's region.
    pub(crate) fn cell(class: Class, account: &str, region: &'a str) -> To<'a> {
        To { class, key: Key::cell(account, region), region }
    }

    /// A call that takes the organization's budget.
    pub(crate) fn organization(class: Class) -> To<'static> {
        To { class, key: Key::SHARED, region: "" }
    }

    /// A call to a regional endpoint of STS.
    pub(crate) fn sts(region: &'a str) -> To<'a> {
        To { class: Class::Sts, key: Key::endpoint(region), region }
    }

    /// Reads and writes of a service go to one host.
    fn host(&self) -> (&'static str, &'a str) {
        let service = match self.class {
            Class::Sts => "STS",
            Class::OrganizationsRead | Class::OrganizationsWrite => "Organizations",
            Class::Account => "Account Management",
            Class::RdsRead | Class::RdsWrite => "RDS",
            Class::KmsRead | Class::KmsWrite => "KMS",
            Class::ConfigRead | Class::ConfigWrite => "Config",
            Class::MetricsRead => "CloudWatch",
            Class::IamRead => "IAM",
            Class::Ec2Read | Class::Ec2Write => "EC2",
            Class::SecretsRead => "Secrets Manager",
            Class::TrailRead => "CloudTrail",
            Class::AnalyzerRead => "Access Analyzer",
            Class::StackSetsRead => "CloudFormation",
        };
        // These have one endpoint for all regions.
        let global = matches!(service, "Organizations" | "Account Management" | "IAM");
        (service, if global { "" } else { self.region })
    }
}

/// Every call goes through here.
pub(crate) struct Gate {
    pub(crate) limits: Limits,
    hosts: Mutex<HashMap<&'static str, HashMap<String, Arc<Host>>>>,
    in_flight: usize,
    deadline: Duration,
}

impl Gate {
    /// `in_flight`: calls to one host at a time. `deadline`: one call with its retries, from its first
    /// try.
    pub(crate) fn new(rates: &Rates, in_flight: u32, deadline: Duration) -> Gate {
        Gate {
            limits: Limits::new(rates),
            hosts: Mutex::default(),
            in_flight: in_flight.max(1) as usize,
            deadline,
        }
    }

    fn host(&self, to: &To<'_>) -> Arc<Host> {
        let (service, region) = to.host();
        let mut hosts = whole(&self.hosts);
        let hosts = hosts.entry(service).or_default();
        if let Some(host) = hosts.get(region) {
            return host.clone();
        }
        let slots = Semaphore::new(self.in_flight);
        let host = Arc::new(Host { breaker: Mutex::default(), slots, probe: Arc::default() });
        hosts.insert(region.to_owned(), host.clone());
        host
    }

    /// Where a region is taken for dead and nobody has asked it since then: the right to ask, for one;
    /// the others wait here until that one knows.
    pub(crate) async fn settle(&self, class: Class, region: &str, since: Instant) -> Option<Probe> {
        let host = self.host(&To { class, key: Key::SHARED, region });
        if !whole(&host.breaker).needs_probe(since) {
            return None;
        }
        let turn = host.probe.clone().lock_owned().await;
        let mut breaker = whole(&host.breaker);
        if !breaker.needs_probe(since) {
            return None;
        }
        breaker.probe_now(now());
        Some(Probe(turn))
    }

    /// All pages of a call that changes nothing. `page` asks for the one behind a token; `take` keeps what is on it, and
    /// gives the token of the next.
    pub(crate) async fn pages<T, F>(
        &self,
        to: To<'_>,
        operation: &str,
        page: impl Fn(Option<String>) -> F,
        mut take: impl FnMut(T) -> Option<String>,
    ) -> Result<(), CloudError>
    where
        F: Future<Output = Result<T, CloudError>>,
    {
        let mut token = None;
        loop {
            let answer = self.read(to, operation, || page(token.clone())).await?;
            // AWS ends some lists with an empty token.
            token = take(answer).filter(|token| !token.is_empty());
            if token.is_none() {
                return Ok(());
            }
        }
    }

    /// A call that changes nothing: throttles are retried until the deadline, lost answers twice.
    pub(crate) async fn read<T, F>(
        &self,
        to: To<'_>,
        operation: &str,
        call: impl Fn() -> F,
    ) -> Result<T, CloudError>
    where
        F: Future<Output = Result<T, CloudError>>,
    {
        self.repeat(to, operation, call, |error, lost| match error.class {
            ErrorClass::Throttled | ErrorClass::Conflict => true,
            ErrorClass::Unknown => lost < LOST_READS_MAX && error.code != REGION_UNREACHABLE,
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
        to: To<'_>,
        operation: &str,
        call: impl Fn() -> F,
    ) -> Result<T, CloudError>
    where
        F: Future<Output = Result<T, CloudError>>,
    {
        let definite = [ErrorClass::Throttled, ErrorClass::Conflict];
        self.repeat(to, operation, call, |error, _| definite.contains(&error.class)).await
    }

    async fn repeat<T, F>(
        &self,
        to: To<'_>,
        operation: &str,
        call: impl Fn() -> F,
        again: impl Fn(&CloudError, u32) -> bool,
    ) -> Result<T, CloudError>
    where
        F: Future<Output = Result<T, CloudError>>,
    {
        let host = self.host(&to);
        let (mut attempt, mut lost) = (0_u32, 0_u32);
        let mut until: Option<Instant> = None;
        loop {
            self.limits.permit(to.class, to.key).await;
            let until = *until.get_or_insert_with(|| now() + self.deadline);
            let error = match self.attempt(&host, &to, operation, &call).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
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

    /// One try, in a slot of its region.
    async fn attempt<T, F>(
        &self,
        host: &Host,
        to: &To<'_>,
        operation: &str,
        call: &impl Fn() -> F,
    ) -> Result<T, CloudError>
    where
        F: Future<Output = Result<T, CloudError>>,
    {
        // Never an error: nobody closes it.
        let _slot = host.slots.acquire().await;
        let admitted = whole(&host.breaker).admits(now());
        if admitted == Admit::No {
            return Err(unreachable_region(operation, to));
        }
        let sent = now();
        // Boxed: an SDK call is some 5 KB of state, and nearly all futures that hold one only wait.
        let answer = Box::pin(call()).await;
        match &answer {
            Err(error) if error.unanswered() => {
                if whole(&host.breaker).silent(admitted, now()) {
                    let (service, region) = to.host();
                    tracing::warn!(
                        "{service} {region} does not answer: {error}; it is probed from now on"
                    );
                }
            }
            Err(error) => {
                whole(&host.breaker).answered();
                if error.class == ErrorClass::Throttled {
                    self.limits.throttled(to.class, to.key, sent);
                }
            }
            Ok(_) => whole(&host.breaker).answered(),
        }
        answer
    }
}

fn unreachable_region(operation: &str, to: &To<'_>) -> CloudError {
    let (service, region) = to.host();
    CloudError {
        class: ErrorClass::Unknown,
        operation: operation.to_owned(),
        code: REGION_UNREACHABLE.to_owned(),
        message: format!("{service} in {region} answers no call; it is probed every few seconds"),
    }
}

/// 0.1 s doubled each time up to 3.2 s, then a random half of it off, so that workers do not come
/// back together ("Exponential Backoff And Jitter", AWS Architecture Blog). The bucket has slowed
/// down already, so this is short.
fn backoff(attempt: u32) -> Duration {
    let whole = 100_u64 << attempt.min(5);
    Duration::from_millis(whole / 2 + fastrand::u64(0..=whole / 2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::tests::rates;
    use futures::FutureExt;
    use std::cell::Cell;

    fn error(class: ErrorClass, code: &str) -> CloudError {
        let (operation, message) = ("x:Y".into(), String::new());
        CloudError { class, operation, code: code.into(), message }
    }

    fn gate() -> Gate {
        Gate::new(&rates(1_000), 4, Duration::from_secs(60))
    }

    const CELL: (&str, &str) = ("111122223333", "eu-west-1");

    /// How often a call that always fails so is made.
    async fn tries(class: ErrorClass, write: bool) -> u32 {
        let count = Cell::new(0);
        let call = || {
            count.set(count.get() + 1);
            async { Err::<(), _>(error(class, "X")) }
        };
        let gate = gate();
        let result = match write {
            true => gate.write(To::cell(Class::RdsWrite, CELL.0, CELL.1), "x:Y", call).await,
            false => gate.read(To::cell(Class::RdsRead, CELL.0, CELL.1), "x:Y", call).await,
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

    #[tokio::test(start_paused = true)]
    async fn a_dead_region_costs_one_timeout_and_the_others_nothing() {
        let gate = gate();
        let dead = |account: u32| {
            let gate = &gate;
            async move {
                let account = format!("{account:012}");
                let to = To::cell(Class::RdsRead, &account, "eu-west-1");
                let call = || async {
                    rest(Duration::from_secs(20)).await;
                    Err::<(), _>(error(ErrorClass::Unknown, ""))
                };
                gate.read(to, "rds:X", call).await.expect_err("nobody answers")
            }
        };
        let began = now();
        let errors = futures::future::join_all((0..1_000).map(dead)).await;
        let took = now() - began;
        assert!(errors.iter().all(CloudError::unanswered));
        let refused = errors.iter().filter(|e| e.code == REGION_UNREACHABLE).count();
        assert!(refused > 900, "{refused}");
        assert!(took < Duration::from_secs(120), "and not 1,000 x 20 s / 4: {took:?}");
        let to = To::cell(Class::RdsRead, CELL.0, "us-east-1");
        let well = gate.read(to, "rds:X", || async { Ok(()) }).now_or_never();
        assert_eq!(well, Some(Ok(())), "another region");
        // A later pass: one asks, the others wait for what it finds.
        let since = now();
        let probe =
            gate.settle(Class::RdsRead, "eu-west-1", since).await.expect("the right to ask");
        let mut other = Box::pin(gate.settle(Class::RdsRead, "eu-west-1", since));
        assert!(futures::poll!(&mut other).is_pending());
        let to = To::cell(Class::RdsRead, CELL.0, CELL.1);
        assert_eq!(gate.read(to, "rds:X", || async { Ok(()) }).await, Ok(()), "the probe");
        drop(probe);
        assert!(other.await.is_none(), "it is back: nothing to find out");
        assert_eq!(gate.read(to, "rds:X", || async { Ok(()) }).await, Ok(()), "and it is back");
    }
}
