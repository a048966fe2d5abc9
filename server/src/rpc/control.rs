//! `ControlService`.

use super::{Answer, Rpc, actor, convert, id_of, ok, page, page_size};
use crate::app::{App, Fault};
use crate::deployments::{self, Standing, Wanted};
use crate::store::{Filter, Kind, Row};
use ringfence_domain::deployment::{Deployment, Item, Outcome};
use ringfence_proto::v1;
use ringfence_proto::v1::control_service_server::ControlService;
use tonic::Request;

fn item(item: &Item, outcome: Option<&Outcome>) -> v1::DeploymentItem {
    let (outcome, reason) = match outcome {
        None => ("", item.why.as_str()),
        Some(Outcome::Begun) => ("begun", "it was not seen to its end: apply again"),
        Some(Outcome::Put) => ("put", ""),
        Some(Outcome::Failed(why)) => ("failed", why.as_str()),
    };
    v1::DeploymentItem {
        region: item.region.to_string(),
        rule: item.rule.as_str().to_owned(),
        name: item.name.clone(),
        change: item.change.as_str().to_owned(),
        outcome: outcome.to_owned(),
        reason: reason.to_owned(),
    }
}

fn show(app: &App, d: &Deployment) -> Option<v1::Deployment> {
    let needed = app.config.approvals_rollout;
    Some(v1::Deployment {
        id: d.body.id.clone(),
        hash: d.hash.clone(),
        state: d.state(needed).to_owned(),
        author: d.body.author.clone(),
        created_at: d.body.created_at.to_string(),
        control: d.body.control.clone(),
        excluded_accounts: d.body.excluded.iter().cloned().collect(),
        items: d.body.items.iter().map(|i| item(i, d.outcomes.get(&i.key()))).collect(),
        approvals: d.approvals.iter().map(convert::approval).collect(),
        approvals_needed: convert::count(needed),
        acting: convert::count(d.acting().count()),
        failed: convert::count(d.failed()),
        text: d.text(),
    })
}

fn rule(s: &Standing) -> v1::RuleStatus {
    let failed = |m: &ringfence_aws::MemberStatus| v1::RuleFailure {
        account: m.account.clone(),
        status: m.status.clone(),
        reason: m.error.clone(),
    };
    v1::RuleStatus {
        region: s.region.to_string(),
        rule: s.rule.as_str().to_owned(),
        name: s.name.clone(),
        status: s.status.clone(),
        reason: s.why.clone(),
        accounts: convert::count(s.accounts),
        failed: s.failed.iter().map(failed).collect(),
        excluded_accounts: convert::count(s.excluded),
        well: s.well,
    }
}

#[tonic::async_trait]
impl ControlService for Rpc {
    async fn plan_deployment(
        &self,
        request: Request<v1::PlanDeploymentRequest>,
    ) -> Answer<v1::PlanDeploymentResponse> {
        let who = actor(request.metadata())?;
        let a = request.into_inner();
        let wanted = Wanted {
            control: a.control,
            regions: convert::ids("region", &a.regions)?,
            excluded: convert::ids("excluded account", &a.excluded_accounts)?,
        };
        let id = id_of("de", &a.request_id);
        let made = deployments::plan(&self.0, &who, &id, wanted, a.validate_only).await?;
        ok(v1::PlanDeploymentResponse { deployment: show(&self.0, &made) })
    }

    async fn get_deployment(
        &self,
        request: Request<v1::GetDeploymentRequest>,
    ) -> Answer<v1::GetDeploymentResponse> {
        let (_, found): (Row, Deployment) =
            self.0.load(Kind::Deployment, &request.get_ref().id).await?;
        ok(v1::GetDeploymentResponse { deployment: show(&self.0, &found) })
    }

    async fn list_deployments(
        &self,
        request: Request<v1::ListDeploymentsRequest>,
    ) -> Answer<v1::ListDeploymentsResponse> {
        let a = request.into_inner();
        let mut rows: Vec<(Row, Deployment)> =
            self.0.all(Kind::Deployment, &Filter::default()).await?;
        rows.sort_by_key(|(row, _)| std::cmp::Reverse(row.created_at));
        let (rows, next_page_token) = page(rows, page_size(a.page_size)?, &a.page_token)?;
        let deployments = rows.iter().filter_map(|(_, d)| show(&self.0, d)).collect();
        ok(v1::ListDeploymentsResponse { deployments, next_page_token })
    }

    async fn approve_deployment(
        &self,
        request: Request<v1::ApproveDeploymentRequest>,
    ) -> Answer<v1::ApproveDeploymentResponse> {
        let who = actor(request.metadata())?;
        let a = request.into_inner();
        let made = deployments::add_approval(&self.0, &who, &a.id, &a.reason, &a.hash).await?;
        ok(v1::ApproveDeploymentResponse { deployment: show(&self.0, &made) })
    }

    async fn apply_deployment(
        &self,
        request: Request<v1::ApplyDeploymentRequest>,
    ) -> Answer<v1::ApplyDeploymentResponse> {
        let who = actor(request.metadata())?;
        let (app, a) = (self.0.clone(), request.into_inner());
        // A task of its own: it goes on to its end though the caller has gone.
        let work = tokio::spawn(async move {
            let done = deployments::apply(&app, &who, &a.id, a.validate_only).await?;
            Ok::<_, Fault>(show(&app, &done))
        });
        let done = work.await.map_err(|e| tonic::Status::internal(e.to_string()))?;
        ok(v1::ApplyDeploymentResponse { deployment: done? })
    }

    async fn check_control(
        &self,
        request: Request<v1::CheckControlRequest>,
    ) -> Answer<v1::CheckControlResponse> {
        let a = request.into_inner();
        let regions = convert::ids("region", &a.regions)?;
        let found = deployments::check(&self.0, &a.control, &regions).await?;
        ok(v1::CheckControlResponse { rules: found.iter().map(rule).collect() })
    }
}
