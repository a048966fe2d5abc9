//! `RemediationService`.

use super::{Answer, Rpc, Watch, actor, convert, ok, page, page_size, watch};
use crate::app::{App, Fault};
use crate::decommission;
use crate::orders::{self, Order};
use crate::plans;
use crate::remediations::of_plan;
use crate::store::{Kind, Row};
use ringfence_domain::audit::Actor;
use ringfence_domain::remediation::Remediation;
use ringfence_proto::v1;
use ringfence_proto::v1::remediation_service_server::RemediationService;
use tonic::Request;

async fn show(app: &App, id: &str) -> Result<v1::Remediation, Fault> {
    let (_, rem): (Row, Remediation) = app.load(Kind::Remediation, id).await?;
    Ok(convert::remediation(&rem, app.config.approvals_decommission))
}

impl Rpc {
    fn remediations(&self, list: &[Remediation]) -> Vec<v1::Remediation> {
        let needed = self.0.config.approvals_decommission;
        list.iter().map(|rem| convert::remediation(rem, needed)).collect()
    }

    async fn order(
        &self,
        who: &Actor,
        order: Order,
        id: &str,
        reason: &str,
        dry: bool,
    ) -> Result<Vec<v1::Remediation>, Fault> {
        let changed = orders::give(&self.0, who, order, id, reason, dry).await?;
        Ok(self.remediations(&changed))
    }
}

/// An order and those that it changed: the messages have the same fields, and no type in common.
macro_rules! ordered {
    ($rpc:ident, $request:ident, $order:expr, $response:ident) => {{
        let who = actor($request.metadata())?;
        let a = $request.into_inner();
        let remediations = $rpc.order(&who, $order, &a.id, &a.reason, a.validate_only).await?;
        ok(v1::$response { remediations })
    }};
}

#[tonic::async_trait]
impl RemediationService for Rpc {
    async fn apply_plan(
        &self,
        request: Request<v1::ApplyPlanRequest>,
    ) -> Answer<v1::ApplyPlanResponse> {
        let who = actor(request.metadata())?;
        let a = request.into_inner();
        let made = plans::apply(&self.0, &who, &a.plan, a.priority, a.validate_only).await?;
        let remediations = self.remediations(&made);
        ok(v1::ApplyPlanResponse { plan: a.plan, remediations })
    }

    async fn get_remediation(
        &self,
        request: Request<v1::GetRemediationRequest>,
    ) -> Answer<v1::GetRemediationResponse> {
        ok(v1::GetRemediationResponse {
            remediation: Some(show(&self.0, &request.get_ref().id).await?),
        })
    }

    async fn list_remediations(
        &self,
        request: Request<v1::ListRemediationsRequest>,
    ) -> Answer<v1::ListRemediationsResponse> {
        let a = request.into_inner();
        let filter = of_plan(&a.plan);
        let all: Vec<(Row, Remediation)> = self.0.all(Kind::Remediation, &filter).await?;
        let all: Vec<Remediation> = all.into_iter().map(|(_, r)| r).collect();
        let all = self.remediations(&all);
        let (remediations, next_page_token) = page(all, page_size(a.page_size)?, &a.page_token)?;
        ok(v1::ListRemediationsResponse { remediations, next_page_token })
    }

    async fn pause_remediation(
        &self,
        request: Request<v1::PauseRemediationRequest>,
    ) -> Answer<v1::PauseRemediationResponse> {
        ordered!(self, request, Order::Pause, PauseRemediationResponse)
    }

    async fn resume_remediation(
        &self,
        request: Request<v1::ResumeRemediationRequest>,
    ) -> Answer<v1::ResumeRemediationResponse> {
        ordered!(self, request, Order::Resume, ResumeRemediationResponse)
    }

    async fn cancel_remediation(
        &self,
        request: Request<v1::CancelRemediationRequest>,
    ) -> Answer<v1::CancelRemediationResponse> {
        ordered!(self, request, Order::Cancel, CancelRemediationResponse)
    }

    async fn retry_remediation(
        &self,
        request: Request<v1::RetryRemediationRequest>,
    ) -> Answer<v1::RetryRemediationResponse> {
        ordered!(self, request, Order::Retry, RetryRemediationResponse)
    }

    async fn cut_over_remediation(
        &self,
        request: Request<v1::CutOverRemediationRequest>,
    ) -> Answer<v1::CutOverRemediationResponse> {
        ordered!(self, request, Order::CutOver, CutOverRemediationResponse)
    }

    async fn roll_back_remediation(
        &self,
        request: Request<v1::RollBackRemediationRequest>,
    ) -> Answer<v1::RollBackRemediationResponse> {
        ordered!(self, request, Order::RollBack, RollBackRemediationResponse)
    }

    async fn confirm_remediation(
        &self,
        request: Request<v1::ConfirmRemediationRequest>,
    ) -> Answer<v1::ConfirmRemediationResponse> {
        ordered!(self, request, Order::Confirm, ConfirmRemediationResponse)
    }

    async fn discard_remediation(
        &self,
        request: Request<v1::DiscardRemediationRequest>,
    ) -> Answer<v1::DiscardRemediationResponse> {
        ordered!(self, request, Order::Discard, DiscardRemediationResponse)
    }

    async fn decommission_remediation(
        &self,
        request: Request<v1::DecommissionRemediationRequest>,
    ) -> Answer<v1::DecommissionRemediationResponse> {
        let who = actor(request.metadata())?;
        let a = request.into_inner();
        let dry = a.validate_only;
        let rem = decommission::order(&self.0, &who, &a.id, &a.confirm, &a.reason, dry).await?;
        let remediation = self.remediations(&[rem]).pop();
        ok(v1::DecommissionRemediationResponse { remediation })
    }

    async fn approve_decommission(
        &self,
        request: Request<v1::ApproveDecommissionRequest>,
    ) -> Answer<v1::ApproveDecommissionResponse> {
        let who = actor(request.metadata())?;
        let a = request.into_inner();
        let rem = decommission::approve(&self.0, &who, &a.id, &a.reason, &a.hash).await?;
        let remediation = self.remediations(&[rem]).pop();
        ok(v1::ApproveDecommissionResponse { remediation })
    }

    type WatchRemediationStream = Watch<v1::WatchRemediationResponse>;

    async fn watch_remediation(
        &self,
        request: Request<v1::WatchRemediationRequest>,
    ) -> Answer<Self::WatchRemediationStream> {
        let (app, id) = (self.0.clone(), request.into_inner().id);
        let read = move || {
            let (app, id) = (app.clone(), id.clone());
            async move { Ok(v1::WatchRemediationResponse { remediation: Some(show(&app, &id).await?) }) }
        };
        let ended = [
            v1::RemediationState::Verified,
            v1::RemediationState::Stopped,
            v1::RemediationState::Cancelled,
            v1::RemediationState::CutOver,
            v1::RemediationState::RolledBack,
            v1::RemediationState::Decommissioned,
            v1::RemediationState::Discarded,
        ];
        let done = move |r: &v1::WatchRemediationResponse| {
            r.remediation.as_ref().is_some_and(|r| ended.contains(&r.state()))
        };
        ok(watch(read, done))
    }
}
