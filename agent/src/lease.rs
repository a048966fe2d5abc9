//! The loop: lease accounts, work on each in a task of its own, keep the leases alive, and stop a
//! task whose lease is lost.

use crate::report::Reporter;
use crate::{Settings, history, key, probe, remediate, rest, scan};
use ringfence_aws::Cloud;
use ringfence_domain::work::{LimitUsage, Look, Work};
use ringfence_proto::v1;
use ringfence_proto::v1::agent_service_client::AgentServiceClient;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codegen::{Body as HttpBody, Bytes, StdError};

/// How long to rest when there is nothing to do, or the server does not answer.
const IDLE_MS: u64 = 300;
const AWAY_MS: u64 = 2_000;

/// How often the server hears how the limits are, and says what share of the common ones is ours.
const BEAT: Duration = Duration::from_millis(1_000);

/// How long the server may take to lease or renew: well under a lease's life.
const ANSWER_FOR: Duration = Duration::from_secs(5);

/// A server connection of any kind: the pipe in memory, or a channel with a token.
#[expect(missing_docs, reason = "the calls of AgentService, see proto/ringfence/v1/agent.proto")]
pub trait Pipe: Clone + Send + Sync + 'static {
    fn lease(
        &self,
        request: v1::LeaseWorkRequest,
    ) -> impl Future<Output = Result<v1::LeaseWorkResponse, Status>> + Send;
    fn renew(
        &self,
        request: v1::RenewLeasesRequest,
    ) -> impl Future<Output = Result<v1::RenewLeasesResponse, Status>> + Send;
    fn report(
        &self,
        request: v1::ReportCellsRequest,
    ) -> impl Future<Output = Result<v1::ReportCellsResponse, Status>> + Send;
    fn commit(
        &self,
        request: v1::CommitRemediationRequest,
    ) -> impl Future<Output = Result<i64, Status>> + Send;
    fn commit_key(
        &self,
        request: v1::CommitKeyJobRequest,
    ) -> impl Future<Output = Result<i64, Status>> + Send;
    fn commit_reading(
        &self,
        request: v1::CommitReadingRequest,
    ) -> impl Future<Output = Result<i64, Status>> + Send;
    fn commit_probe(
        &self,
        request: v1::CommitProbeRequest,
    ) -> impl Future<Output = Result<i64, Status>> + Send;
    fn release(
        &self,
        request: v1::ReleaseLeaseRequest,
    ) -> impl Future<Output = Result<(), Status>> + Send;
    fn leave(&self, request: v1::LeaveRequest) -> impl Future<Output = Result<(), Status>> + Send;
}

impl<T> Pipe for AgentServiceClient<T>
where
    T: GrpcService<Body> + Clone + Send + Sync + 'static,
    T::Error: Into<StdError>,
    T::Future: Send,
    T::ResponseBody: HttpBody<Data = Bytes> + Send + 'static,
    <T::ResponseBody as HttpBody>::Error: Into<StdError> + Send,
{
    async fn lease(&self, request: v1::LeaseWorkRequest) -> Result<v1::LeaseWorkResponse, Status> {
        Ok(self.clone().lease_work(request).await?.into_inner())
    }

    async fn renew(
        &self,
        request: v1::RenewLeasesRequest,
    ) -> Result<v1::RenewLeasesResponse, Status> {
        Ok(self.clone().renew_leases(request).await?.into_inner())
    }

    async fn report(
        &self,
        request: v1::ReportCellsRequest,
    ) -> Result<v1::ReportCellsResponse, Status> {
        Ok(self.clone().report_cells(request).await?.into_inner())
    }

    async fn commit(&self, request: v1::CommitRemediationRequest) -> Result<i64, Status> {
        Ok(self.clone().commit_remediation(request).await?.into_inner().version)
    }

    async fn commit_key(&self, request: v1::CommitKeyJobRequest) -> Result<i64, Status> {
        Ok(self.clone().commit_key_job(request).await?.into_inner().version)
    }

    async fn commit_reading(&self, request: v1::CommitReadingRequest) -> Result<i64, Status> {
        Ok(AgentServiceClient::commit_reading(&mut self.clone(), request)
            .await?
            .into_inner()
            .version)
    }

    async fn commit_probe(&self, request: v1::CommitProbeRequest) -> Result<i64, Status> {
        Ok(AgentServiceClient::commit_probe(&mut self.clone(), request).await?.into_inner().version)
    }

    async fn release(&self, request: v1::ReleaseLeaseRequest) -> Result<(), Status> {
        self.clone().release_lease(request).await.map(drop)
    }

    async fn leave(&self, request: v1::LeaveRequest) -> Result<(), Status> {
        AgentServiceClient::leave(&mut self.clone(), request).await.map(drop)
    }
}

/// One account's work with what it takes to report it.
#[derive(Clone)]
pub(crate) struct Desk<P> {
    pub(crate) pipe: P,
    pub(crate) cloud: Cloud,
    pub(crate) settings: Settings,
    pub(crate) lease: v1::Lease,
    pub(crate) reporter: Reporter,
    /// Whether the last report is on its way: with it the lease ends.
    pub(crate) handed_in: Arc<AtomicBool>,
    passes: Passes,
}

impl<P> Desk<P> {
    /// When this thread began with that pass of a scan.
    pub(crate) fn pass_began(&self, look: &Look) -> std::time::Instant {
        let mut passes = self.passes.0.lock().unwrap_or_else(PoisonError::into_inner);
        if passes.len() > PASSES_MAX {
            passes.clear();
        }
        let key = (look.scans.keys().next().cloned().unwrap_or_default(), look.pass());
        *passes.entry(key).or_insert_with(|| clock().into_std())
    }
}

/// When the passes of scans began in this thread.
#[derive(Clone, Default)]
struct Passes(Arc<Mutex<HashMap<(String, i64), std::time::Instant>>>);

/// Old passes that are remembered; forgetting one costs a region one more probe.
const PASSES_MAX: usize = 64;

/// The rights to read accounts of one thread.
#[derive(Clone)]
pub(crate) struct Slots {
    all: Arc<Semaphore>,
    many: usize,
}

impl Slots {
    fn new(many: usize) -> Slots {
        Slots { all: Arc::new(Semaphore::new(many)), many }
    }

    /// Whether no account is being read.
    pub(crate) fn all_free(&self) -> bool {
        self.all.available_permits() == self.many
    }
}

/// The right to read one account.
pub(crate) type Slot = OwnedSemaphorePermit;

/// A task at work on an account.
struct Task {
    fence: i64,
    handle: AbortHandle,
    handed_in: Arc<AtomicBool>,
}

/// Tasks by account.
type Running = HashMap<String, Task>;

/// One thread's loop.
struct Worker<P> {
    desk: Desk<P>,
    tasks: JoinSet<(String, i64)>,
    running: Running,
    /// Leased, and not begun: so that a slot that becomes free is not idle while the server is asked.
    ready: VecDeque<v1::Work>,
    renewed: Instant,
    beat: Option<Instant>,
    ask_at: Instant,
    ttl: Duration,
    /// Of the common budgets, in millionths.
    share: i32,
    draining: bool,
    /// Whether it was said already that the server does not answer.
    quiet: bool,
}

/// Works for a server until it is told to stop; then finishes what it has begun, within
/// `agent.drain_for`, and gives back the rest.
pub async fn run<T>(
    client: AgentServiceClient<T>,
    cloud: Cloud,
    settings: Settings,
    mut stop: watch::Receiver<bool>,
) where
    AgentServiceClient<T>: Pipe,
{
    // What is being read at a time. An account whose last report is on its way holds none.
    let slots = Slots::new(settings.max_accounts);
    let (reporter, sending) = Reporter::start(client.clone(), settings.name.clone(), slots.clone());
    // Nothing of a common budget is ours before the server says so.
    cloud.set_sts_share(0);
    let (lease, passes) = (v1::Lease::default(), Passes::default());
    let mut worker = Worker {
        ready: VecDeque::new(),
        desk: Desk {
            pipe: client,
            cloud,
            settings,
            lease,
            reporter,
            passes,
            handed_in: Arc::default(),
        },
        tasks: JoinSet::new(),
        running: Running::new(),
        renewed: clock(),
        beat: None,
        ask_at: clock(),
        ttl: Duration::from_secs(45),
        share: 0,
        draining: false,
        quiet: false,
    };
    while !*stop.borrow() {
        let pause = tokio::select! {
            pause = worker.turn(true) => pause,
            // An answer on its way is dropped; what it leased goes back when we leave.
            _ = stop.changed() => break,
        };
        tokio::select! {
            () = rest(pause) => {}
            Some(ended) = worker.tasks.join_next(), if !worker.tasks.is_empty() => {
                forget(&mut worker.running, ended);
            }
            // Never an error: nobody closes it.
            Ok(slot) = slots.all.clone().acquire_owned(), if !worker.ready.is_empty() => {
                worker.begin(slot);
            }
            _ = stop.changed() => {}
        }
    }
    worker.leave().await;
    drop(worker);
    // What was handed in is sent, if the server takes it at all.
    let _ = tokio::time::timeout(ANSWER_FOR, sending).await;
}

impl<P: Pipe> Worker<P> {
    /// Reaps, renews, asks for work. How many milliseconds to rest at most.
    async fn turn(&mut self, more: bool) -> u64 {
        while let Some(ended) = self.tasks.try_join_next() {
            forget(&mut self.running, ended);
        }
        if clock() - self.renewed > self.ttl / 3 {
            self.keep().await;
            self.desk.cloud.forget_idle();
        }
        // In batches: an account at a time would be a transaction an account. What is handed in and not
        // stored yet counts too, so that a slow store slows us down; a batch that gathers and one that is
        // being stored do not.
        let max = self.desk.settings.max_accounts;
        let batch = max.div_ceil(2);
        let free = batch.saturating_sub(self.ready.len());
        let room = self.running.len() < 4 * max;
        let wants = more && !self.draining && self.share > 0 && room && free >= batch.div_ceil(2);
        let due = self.beat.is_none_or(|beat| clock() - beat >= BEAT);
        if clock() >= self.ask_at && (wants || due) {
            self.ask(if wants { free } else { 0 }, due).await;
        }
        let now = clock();
        if self.ask_at > now {
            return u64::try_from((self.ask_at - now).as_millis())
                .unwrap_or(IDLE_MS)
                .clamp(1, AWAY_MS);
        }
        // Who has nothing to do waits at the server's, where new work is heard of at once.
        if wants && self.is_idle() { 0 } else { IDLE_MS }
    }

    fn is_idle(&self) -> bool {
        self.running.is_empty() && self.ready.is_empty()
    }

    async fn ask(&mut self, accounts: usize, beat: bool) {
        // Plain data with text keys, for which this cannot fail.
        let usage =
            beat.then(|| serde_json::to_string(&usage(&self.desk.cloud)).unwrap_or_default());
        let usage_json = usage.unwrap_or_default();
        // With nothing else to do the answer may take a while: new work is it.
        let waits = accounts > 0 && self.is_idle();
        let request = v1::LeaseWorkRequest {
            agent: self.desk.settings.name.clone(),
            max_accounts: i32::try_from(accounts).unwrap_or(i32::MAX),
            share: self.share,
            usage_json,
            wait_ms: if waits { i32::try_from(IDLE_MS).unwrap_or(0) } else { 0 },
        };
        let asked = clock();
        let answer = within(ANSWER_FOR, self.desk.pipe.lease(request)).await;
        let now = clock();
        match answer {
            Ok(answer) => {
                self.quiet = false;
                self.ttl = Duration::from_secs(u64::try_from(answer.lease_seconds).unwrap_or(45));
                if beat {
                    self.beat = Some(now);
                }
                if let Some(share) = answer.share {
                    self.share = share;
                    self.desk.cloud.set_sts_share(u32::try_from(share).unwrap_or(0));
                }
                self.draining = answer.draining.unwrap_or(self.draining);
                let idle = accounts > 0 && answer.work.is_empty();
                // From when we asked: who waited at the server's asks again at once.
                self.ask_at = if idle { asked + Duration::from_millis(IDLE_MS) } else { now };
                self.ready.extend(answer.work);
            }
            Err(status) => {
                // Once, not every two seconds for as long as the server is away.
                if !self.quiet {
                    tracing::warn!("the server takes no call: {}", status.message());
                }
                self.quiet = true;
                self.ask_at = now + Duration::from_millis(AWAY_MS);
            }
        }
    }

    fn begin(&mut self, slot: Slot) {
        let Some(work) = self.ready.pop_front() else { return };
        let Some(lease) = work.lease else { return };
        let due: Work = match serde_json::from_str(&work.document_json) {
            Ok(due) => due,
            Err(e) => {
                tracing::error!(
                    "work on {}: {e}; are server and agent of one version?",
                    lease.account
                );
                return;
            }
        };
        let (account, fence) = (lease.account.clone(), lease.fence);
        let handed_in = Arc::new(AtomicBool::new(false));
        let desk = Desk { lease, handed_in: handed_in.clone(), ..self.desk.clone() };
        let name = account.clone();
        let handle = self.tasks.spawn(async move {
            if let Err(status) = work_on(&desk, due, slot).await {
                tracing::warn!("{name}: {}", status.message());
            }
            (name, fence)
        });
        self.running.insert(account, Task { fence, handle, handed_in });
    }

    /// Renews all leases. A task whose lease did not come back is stopped; so are all when the server
    /// did not answer for most of a lease's life, for by then somebody else may be about to begin.
    async fn keep(&mut self) {
        if self.running.is_empty() && self.ready.is_empty() {
            self.renewed = clock();
            return;
        }
        let begun = self.running.iter();
        let leases = begun
            .map(|(account, task)| v1::Lease { account: account.clone(), fence: task.fence })
            .chain(self.ready.iter().filter_map(|w| w.lease.clone()))
            .collect();
        let asked = clock();
        let request = v1::RenewLeasesRequest { agent: self.desk.settings.name.clone(), leases };
        match within(ANSWER_FOR, self.desk.pipe.renew(request)).await {
            Ok(answer) => {
                self.renewed = asked;
                let held: HashMap<String, i64> =
                    answer.leases.into_iter().map(|l| (l.account, l.fence)).collect();
                self.ready.retain(|w| {
                    w.lease.as_ref().is_some_and(|l| held.get(&l.account) == Some(&l.fence))
                });
                self.running.retain(|account, Task { fence, handle, handed_in }| {
                    // What was handed in is the reporter's: it may be stored, and the lease ended with
                    // it, before we hear of that.
                    let ours =
                        held.get(account) == Some(fence) || handed_in.load(Ordering::Relaxed);
                    if !ours {
                        tracing::warn!("{account}: the lease is lost, its work stops");
                        handle.abort();
                    }
                    ours
                });
            }
            Err(_) if clock() - self.renewed > self.ttl * 2 / 3 => {
                tracing::warn!("the server does not answer, all work stops");
                self.ready.clear();
                for (_, task) in self.running.drain() {
                    task.handle.abort();
                }
            }
            Err(_) => {}
        }
    }

    /// Ends: what has begun is finished, as far as there is time; leases and share go back.
    async fn leave(&mut self) {
        let until = clock() + self.desk.settings.drain_for.to_duration();
        while !self.running.is_empty() && clock() < until {
            self.turn(false).await;
            tokio::select! {
                () = rest(IDLE_MS) => {}
                Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                    forget(&mut self.running, ended);
                }
            }
        }
        self.ready.clear();
        // Stopped, not finished: their leases go back with ours, and others begin anew.
        self.tasks.shutdown().await;
        let request = v1::LeaveRequest { agent: self.desk.settings.name.clone() };
        if let Err(status) = within(ANSWER_FOR, self.desk.pipe.leave(request)).await {
            tracing::warn!("the server was not told that we leave: {}", status.message());
        }
    }
}

/// What the limits say, for `ringfence agent limits`.
pub fn usage(cloud: &Cloud) -> Vec<LimitUsage> {
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let of = |u: &ringfence_aws::limits::Usage| LimitUsage {
        limit: u.class.as_str().to_owned(),
        rate: u.rate,
        granted: count(u.granted),
        waiting: count(u.waiting),
        throttled: count(u.throttled),
        slowed: count(u.slowed),
    };
    cloud.usage().iter().map(of).collect()
}

#[expect(clippy::disallowed_methods, reason = "leases are kept by the monotonic clock")]
fn clock() -> Instant {
    Instant::now()
}

/// A task that ended, or broke: either way its account is free again, and its lease runs out.
fn forget(running: &mut Running, ended: Result<(String, i64), JoinError>) {
    match ended {
        // By account and fence: the account may have been leased again already, and that task is
        // another one, whose lease must go on being renewed.
        Ok((account, fence)) => {
            running.retain(|name, task| *name != account || task.fence != fence);
        }
        Err(error) => {
            if error.is_panic() {
                tracing::error!("a task broke: {error}");
            }
            running.retain(|_, task| task.handle.id() != error.id());
        }
    }
}

/// An answer, or UNAVAILABLE: a server that hangs is one that is away, and must not keep us from
/// noticing that leases end.
pub(crate) async fn within<T>(
    time: Duration,
    answer: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout(time, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(Status::unavailable("no answer in time")),
    }
}

async fn work_on<P: Pipe>(desk: &Desk<P>, due: Work, slot: Slot) -> Result<(), Status> {
    let late = !(due.readings.is_empty() && due.probes.is_empty());
    let busy = late || !(due.remediations.is_empty() && due.keys.is_empty());
    // Four calls, and a rollout waits for them.
    let (mut failed, mut slot) = (probe::account(desk, due.probes.clone()).await.err(), Some(slot));
    if let Some(look) = &due.look {
        let ours = if busy { None } else { slot.take() };
        // A report that fails must not keep the account's remediations waiting.
        failed = failed.or(scan::account(desk, &due, look, ours).await.err());
    }
    if busy || due.look.is_none() {
        // Keys first: databases may wait for them.
        let keys = key::account(desk, due.keys).await;
        let worked = remediate::account(desk, due.remediations).await;
        // Last: databases do not wait for them.
        let read = history::account(desk, due.readings).await;
        failed = failed.or(keys.err()).or(worked.err()).or(read.err());
        let agent = desk.settings.name.clone();
        let request = v1::ReleaseLeaseRequest { agent, lease: Some(desk.lease.clone()) };
        desk.pipe.release(request).await?;
    }
    failed.map_or(Ok(()), Err)
}
