//! The loop: lease accounts, work on each in a task of its own, keep the leases alive, and stop a
//! task whose lease is lost.

use crate::{Settings, remediate, rest, scan};
use ringfence_aws::Cloud;
use ringfence_domain::work::Work;
use ringfence_proto::v1;
use ringfence_proto::v1::agent_service_client::AgentServiceClient;
use std::collections::HashMap;
use std::time::Duration;
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codegen::{Body as HttpBody, Bytes, StdError};

/// How long to rest when there is nothing to do, or the server does not answer.
const IDLE_MS: u64 = 300;
const AWAY_MS: u64 = 2_000;

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
    ) -> impl Future<Output = Result<(), Status>> + Send;
    fn commit(
        &self,
        request: v1::CommitRemediationRequest,
    ) -> impl Future<Output = Result<i64, Status>> + Send;
    fn release(
        &self,
        request: v1::ReleaseLeaseRequest,
    ) -> impl Future<Output = Result<(), Status>> + Send;
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

    async fn report(&self, request: v1::ReportCellsRequest) -> Result<(), Status> {
        self.clone().report_cells(request).await.map(drop)
    }

    async fn commit(&self, request: v1::CommitRemediationRequest) -> Result<i64, Status> {
        Ok(self.clone().commit_remediation(request).await?.into_inner().version)
    }

    async fn release(&self, request: v1::ReleaseLeaseRequest) -> Result<(), Status> {
        self.clone().release_lease(request).await.map(drop)
    }
}

/// One account's work with what it takes to report it.
#[derive(Clone)]
pub(crate) struct Desk<P> {
    pub(crate) pipe: P,
    pub(crate) cloud: Cloud,
    pub(crate) settings: Settings,
    pub(crate) lease: v1::Lease,
}

/// Tasks by account, with their fences.
type Running = HashMap<String, (i64, AbortHandle)>;

/// Works for a server, for ever.
pub async fn run<T>(client: AgentServiceClient<T>, cloud: Cloud, settings: Settings)
where
    AgentServiceClient<T>: Pipe,
{
    let pipe = client;
    let mut tasks: JoinSet<(String, i64)> = JoinSet::new();
    let mut running = Running::new();
    let mut renewed = clock();
    let mut ttl = Duration::from_secs(45);
    let mut quiet = false;
    loop {
        while let Some(ended) = tasks.try_join_next() {
            forget(&mut running, ended);
        }
        if clock() - renewed > ttl / 3 {
            keep(&pipe, &settings.name, &mut running, &mut renewed, ttl).await;
            cloud.forget_idle();
        }
        let free = settings.max_accounts.saturating_sub(running.len());
        let max_accounts = i32::try_from(free).unwrap_or(i32::MAX);
        let mut pause = IDLE_MS;
        if free > 0 {
            let request = v1::LeaseWorkRequest { agent: settings.name.clone(), max_accounts };
            match within(pipe.lease(request)).await {
                Ok(answer) => {
                    quiet = false;
                    ttl = Duration::from_secs(u64::try_from(answer.lease_seconds).unwrap_or(45));
                    if !answer.work.is_empty() {
                        pause = 0;
                    }
                    for work in answer.work {
                        begin(&pipe, &cloud, &settings, work, &mut tasks, &mut running);
                    }
                }
                Err(status) => {
                    // Once, not every two seconds for as long as the server is away.
                    if !quiet {
                        tracing::warn!("the server does not answer: {}", status.message());
                    }
                    quiet = true;
                    pause = AWAY_MS;
                }
            }
        }
        if pause > 0 {
            tokio::select! {
                () = rest(pause) => {}
                Some(ended) = tasks.join_next() => forget(&mut running, ended),
            }
        }
    }
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
            running.retain(|name, (theirs, _)| *name != account || *theirs != fence);
        }
        Err(error) => {
            if error.is_panic() {
                tracing::error!("a task broke: {error}");
            }
            running.retain(|_, (_, handle)| handle.id() != error.id());
        }
    }
}

/// An answer, or UNAVAILABLE: a server that hangs must not keep us from noticing that leases end.
async fn within<T>(answer: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    match tokio::time::timeout(ANSWER_FOR, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(Status::unavailable("no answer in time")),
    }
}

fn begin<P: Pipe>(
    pipe: &P,
    cloud: &Cloud,
    settings: &Settings,
    work: v1::Work,
    tasks: &mut JoinSet<(String, i64)>,
    running: &mut Running,
) {
    let Some(lease) = work.lease else { return };
    let due: Work = match serde_json::from_str(&work.document_json) {
        Ok(due) => due,
        Err(e) => {
            tracing::error!("work on {}: {e}; are server and agent of one version?", lease.account);
            return;
        }
    };
    let (account, fence) = (lease.account.clone(), lease.fence);
    let desk = Desk { pipe: pipe.clone(), cloud: cloud.clone(), settings: settings.clone(), lease };
    let name = account.clone();
    let handle = tasks.spawn(async move {
        if let Err(status) = work_on(&desk, due).await {
            tracing::warn!("{name}: {}", status.message());
        }
        let agent = desk.settings.name.clone();
        let request = v1::ReleaseLeaseRequest { agent, lease: Some(desk.lease.clone()) };
        if let Err(status) = desk.pipe.release(request).await {
            tracing::warn!("{name}: give the lease back: {}", status.message());
        }
        (name, fence)
    });
    running.insert(account, (fence, handle));
}

async fn work_on<P: Pipe>(desk: &Desk<P>, due: Work) -> Result<(), Status> {
    let mut failed = None;
    for wanted in &due.scans {
        // A report that fails must not keep the account's remediations waiting.
        failed = scan::account(desk, &due, wanted).await.err().or(failed);
    }
    remediate::account(desk, due.remediations).await?;
    failed.map_or(Ok(()), Err)
}

/// Renews all leases. A task whose lease did not come back is stopped; so are all when the server
/// did not answer for most of a lease's life, for by then somebody else may be about to begin.
async fn keep<P: Pipe>(
    pipe: &P,
    agent: &str,
    running: &mut Running,
    renewed: &mut Instant,
    ttl: Duration,
) {
    if running.is_empty() {
        *renewed = clock();
        return;
    }
    let leases = running
        .iter()
        .map(|(account, (fence, _))| v1::Lease { account: account.clone(), fence: *fence })
        .collect();
    let asked = clock();
    let request = v1::RenewLeasesRequest { agent: agent.to_owned(), leases };
    let answer = within(pipe.renew(request)).await;
    let held: Option<HashMap<String, i64>> =
        answer.ok().map(|a| a.leases.into_iter().map(|l| (l.account, l.fence)).collect());
    match held {
        Some(held) => {
            *renewed = asked;
            running.retain(|account, (fence, handle)| {
                let ours = held.get(account) == Some(fence);
                if !ours {
                    tracing::warn!("{account}: the lease is lost, its work stops");
                    handle.abort();
                }
                ours
            });
        }
        None if clock() - *renewed > ttl * 2 / 3 => {
            tracing::warn!("the server does not answer, all work stops");
            for (_, (_, handle)) in running.drain() {
                handle.abort();
            }
        }
        None => {}
    }
}
