//! `AgentService`: accounts to work on, and what came of it.

use super::{Answer, Rpc, ok};
use crate::app::{Fault, now};
use crate::remediations;
use crate::scans;
use crate::store::{Lease, json};
use ringfence_domain::remediation::Remediation;
use ringfence_domain::work::AccountReport;
use ringfence_proto::v1;
use ringfence_proto::v1::agent_service_server::AgentService;
use serde::de::DeserializeOwned;
use tonic::{Request, Status};

/// The service; behind a token unless it is the embedded agent's pipe.
#[derive(Clone)]
pub(crate) struct Agents(pub(crate) Rpc);

fn lease(lease: Option<v1::Lease>) -> Result<Lease, Status> {
    let v1::Lease { account, fence } =
        lease.ok_or_else(|| Status::invalid_argument("lease: missing"))?;
    Ok(Lease { account, fence })
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
        if a.agent.is_empty() {
            return Err(Status::invalid_argument("agent: missing"));
        }
        let max = i64::from(a.max_accounts.clamp(0, 100));
        let leases = app
            .store
            .claim(&a.agent, now(), app.config.lease_for, max)
            .await
            .map_err(Fault::from)?;
        let mut work = Vec::new();
        for lease in leases {
            let due = match remediations::work_of(app, &lease).await {
                Ok(due) => due,
                Err(fault) => {
                    // One account that cannot be read must not keep the others from being worked on.
                    // Its lease is left to run out, so that it is tried again, and not at once.
                    tracing::error!("{}: {fault}", lease.account);
                    continue;
                }
            };
            let lease = v1::Lease { account: lease.account, fence: lease.fence };
            work.push(v1::Work { lease: Some(lease), document_json: json(&due) });
        }
        let lease_seconds = i32::try_from(app.config.lease_for.0 / 1_000).unwrap_or(i32::MAX);
        ok(v1::LeaseWorkResponse { work, lease_seconds })
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
        let lease = lease(a.lease)?;
        let report: AccountReport = document("reports_json", &a.reports_json)?;
        if report.cells.iter().any(|c| c.cell.account.as_str() != lease.account) {
            return Err(Status::invalid_argument(
                "reports_json: a cell of another account than the lease's",
            ));
        }
        match scans::report(&self.0.0, &a.agent, &lease, &a.scan, report, a.last).await? {
            true => ok(v1::ReportCellsResponse {}),
            false => Err(lost(&lease.account)),
        }
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

    async fn release_lease(
        &self,
        request: Request<v1::ReleaseLeaseRequest>,
    ) -> Answer<v1::ReleaseLeaseResponse> {
        let a = request.into_inner();
        let lease = lease(a.lease)?;
        self.0.0.store.release(&a.agent, &lease).await.map_err(Fault::from)?;
        ok(v1::ReleaseLeaseResponse {})
    }
}
