//! `AgentService`: accounts to work on, and what came of it.

use super::{Answer, Rpc, ok};
use crate::app::{Fault, now};
use crate::store::{AgentSeen, Lease, json};
use crate::{histories, keys, leases, probes, remediations, reports};
use ringfence_domain::history::Reading;
use ringfence_domain::key::job::Job;
use ringfence_domain::probe::Probe;
use ringfence_domain::remediation::Remediation;
use ringfence_domain::work::AccountReport;
use ringfence_proto::v1;
use ringfence_proto::v1::agent_service_server::AgentService;
use serde::de::DeserializeOwned;
use std::pin::pin;
use std::time::Duration;
use tonic::{Request, Status};

/// How long an agent may wait for work, in milliseconds.
const WAIT_MAX_MS: i32 = 1_000;

/// Accounts that one call may lease.
const LEASES_MAX: i32 = 256;

/// The service; behind a token unless it is the embedded agent's pipe.
#[derive(Clone)]
pub(crate) struct Agents(pub(crate) Rpc);

fn lease(lease: Option<v1::Lease>) -> Result<Lease, Status> {
    let v1::Lease { account, fence } =
        lease.ok_or_else(|| Status::invalid_argument("lease: missing"))?;
    Ok(Lease { account, fence })
}

/// The name and the instance of an agent's thread.
fn named(agent: &str) -> Result<(&str, &str), Status> {
    match agent.split_once('#') {
        Some((name, instance)) if !name.is_empty() && !instance.is_empty() => Ok((name, instance)),
        _ => Err(Status::invalid_argument(
            "agent: it must be NAME/THREAD#INSTANCE; are server and agent of one version?",
        )),
    }
}

fn document<T: DeserializeOwned>(field: &str, text: &str) -> Result<T, Status> {
    serde_json::from_str(text).map_err(|e| {
        Status::invalid_argument(format!("{field}: {e}; are server and agent of one version?"))
    })
}

fn lost(account: &str) -> Status {
    Status::aborted(format!("the lease on {account} is lost or its work has changed: drop it"))
}

#[tonic::async_trait]
impl AgentService for Agents {
    async fn lease_work(
        &self,
        request: Request<v1::LeaseWorkRequest>,
    ) -> Answer<v1::LeaseWorkResponse> {
        let app = &self.0.0;
        let a = request.into_inner();
        let (name, instance) = named(&a.agent)?;
        let ttl = app.config.lease_for;
        let mut answer = v1::LeaseWorkResponse {
            lease_seconds: i32::try_from(ttl.0 / 1_000).unwrap_or(i32::MAX),
            ..Default::default()
        };
        if !a.usage_json.is_empty() {
            let using = i64::from(a.share);
            let seen = app.store.agent_seen(name, instance, using, &a.usage_json, ttl).await;
            match seen.map_err(Fault::from)? {
                AgentSeen::Taken(at) => {
                    return Err(Status::already_exists(format!(
                        "another agent is named {name}, last heard of at {at}: give this one another agent.name, or wait until that one is taken for dead"
                    )));
                }
                AgentSeen::Welcome { share, draining } => {
                    answer.share = i32::try_from(share).ok();
                    answer.draining = Some(draining);
                }
            }
        }
        let max = i64::from(a.max_accounts.clamp(0, LEASES_MAX));
        if max > 0 {
            let claim = async || app.store.claim(&a.agent, now(), ttl, max).await;
            // Listens first, so that work which comes between the look and the wait is not missed.
            let mut woken = pin!(app.wake_agents.notified());
            woken.as_mut().enable();
            let mut leases = claim().await.map_err(Fault::from)?;
            let wait =
                Duration::from_millis(u64::try_from(a.wait_ms.min(WAIT_MAX_MS)).unwrap_or(0));
            if leases.is_empty() && tokio::time::timeout(wait, woken).await.is_ok() {
                leases = claim().await.map_err(Fault::from)?;
            }
            for (lease, due) in leases::work_of(app, &leases).await? {
                let lease = v1::Lease { account: lease.account, fence: lease.fence };
                answer.work.push(v1::Work { lease: Some(lease), document_json: json(&due) });
            }
        }
        ok(answer)
    }

    async fn renew_leases(
        &self,
        request: Request<v1::RenewLeasesRequest>,
    ) -> Answer<v1::RenewLeasesResponse> {
        let a = request.into_inner();
        let leases: Vec<Lease> =
            a.leases.into_iter().map(|l| Lease { account: l.account, fence: l.fence }).collect();
        let held = self
            .0
            .0
            .store
            .renew(&a.agent, &leases, self.0.0.config.lease_for)
            .await
            .map_err(Fault::from)?;
        let leases =
            held.into_iter().map(|l| v1::Lease { account: l.account, fence: l.fence }).collect();
        ok(v1::RenewLeasesResponse { leases })
    }

    async fn report_cells(
        &self,
        request: Request<v1::ReportCellsRequest>,
    ) -> Answer<v1::ReportCellsResponse> {
        let a = request.into_inner();
        named(&a.agent)?;
        let list: Vec<AccountReport> = document("reports_json", &a.reports_json)?;
        for report in &list {
            if report.cells.iter().any(|c| c.cell.account != report.account) {
                return Err(Status::invalid_argument(
                    "reports_json: a cell of another account than the lease's",
                ));
            }
        }
        let lost = reports::report(&self.0.0, &a.agent, list).await?;
        let lost =
            lost.into_iter().map(|l| v1::Lease { account: l.account, fence: l.fence }).collect();
        ok(v1::ReportCellsResponse { lost })
    }

    async fn commit_remediation(
        &self,
        request: Request<v1::CommitRemediationRequest>,
    ) -> Answer<v1::CommitRemediationResponse> {
        let a = request.into_inner();
        let lease = lease(a.lease)?;
        let rem: Remediation = document("remediation_json", &a.remediation_json)?;
        let done = remediations::commit(
            &self.0.0, &a.agent, &lease, a.version, &rem, &a.action, &a.reason,
        )
        .await?;
        match done {
            Some(version) => ok(v1::CommitRemediationResponse { version }),
            None => Err(lost(&lease.account)),
        }
    }

    async fn commit_key_job(
        &self,
        request: Request<v1::CommitKeyJobRequest>,
    ) -> Answer<v1::CommitKeyJobResponse> {
        let a = request.into_inner();
        let lease = lease(a.lease)?;
        let job: Job = document("job_json", &a.job_json)?;
        let said = (a.action.as_str(), a.reason.as_str());
        match keys::commit(&self.0.0, &a.agent, &lease, a.version, &job, said).await? {
            Some(version) => ok(v1::CommitKeyJobResponse { version }),
            None => Err(lost(&lease.account)),
        }
    }

    async fn commit_reading(
        &self,
        request: Request<v1::CommitReadingRequest>,
    ) -> Answer<v1::CommitReadingResponse> {
        let a = request.into_inner();
        let lease = lease(a.lease)?;
        let reading: Reading = document("reading_json", &a.reading_json)?;
        match histories::commit(&self.0.0, &a.agent, &lease, a.version, &reading).await? {
            Some(version) => ok(v1::CommitReadingResponse { version }),
            None => Err(lost(&lease.account)),
        }
    }

    async fn commit_probe(
        &self,
        request: Request<v1::CommitProbeRequest>,
    ) -> Answer<v1::CommitProbeResponse> {
        let a = request.into_inner();
        let lease = lease(a.lease)?;
        let probe: Probe = document("probe_json", &a.probe_json)?;
        match probes::commit(&self.0.0, &a.agent, &lease, a.version, probe).await? {
            Some(version) => ok(v1::CommitProbeResponse { version }),
            None => Err(lost(&lease.account)),
        }
    }

    async fn release_lease(
        &self,
        request: Request<v1::ReleaseLeaseRequest>,
    ) -> Answer<v1::ReleaseLeaseResponse> {
        let a = request.into_inner();
        let lease = lease(a.lease)?;
        self.0.0.store.release(&a.agent, &[lease]).await.map_err(Fault::from)?;
        ok(v1::ReleaseLeaseResponse {})
    }

    async fn leave(&self, request: Request<v1::LeaveRequest>) -> Answer<v1::LeaveResponse> {
        let a = request.into_inner();
        let (name, instance) = named(&a.agent)?;
        self.0.0.store.agent_left(name, instance).await.map_err(Fault::from)?;
        ok(v1::LeaveResponse {})
    }
}
