//! `RemediationService`.

use super::{Answer, Rpc, Watch, actor, convert, ok, page, page_size, watch};
use crate::app::{App, Fault};
use crate::plans;
use crate::store::{Filter, Kind, Row};
use ringfence_domain::remediation::Remediation;
use ringfence_proto::v1;
use ringfence_proto::v1::remediation_service_server::RemediationService;
use tonic::Request;

async fn show(app: &App, id: &str) -> Result<v1::Remediation, Fault> {
    let (_, rem): (Row, Remediation) = app.load(Kind::Remediation, id).await?;
    Ok(convert::remediation(&rem))
}

#[tonic::async_trait]
impl RemediationService for Rpc {
    async fn apply_plan(
        &self,
        request: Request<v1::ApplyPlanRequest>,
    ) -> Answer<v1::ApplyPlanResponse> {
        let who = actor(request.metadata())?;
        let a = request.into_inner();
        let made = plans::apply(&self.0, &who, &a.plan, a.validate_only).await?;
        let remediations = made.iter().map(convert::remediation).collect();
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
        let filter = Filter { region: a.plan, ..Filter::default() };
        let all: Vec<(Row, Remediation)> = self.0.all(Kind::Remediation, &filter).await?;
        let all = all.iter().map(|(_, r)| convert::remediation(r)).collect();
        let (remediations, next_page_token) = page(all, page_size(a.page_size)?, &a.page_token)?;
        ok(v1::ListRemediationsResponse { remediations, next_page_token })
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
        let ended = [v1::RemediationState::Verified as i32, v1::RemediationState::Stopped as i32];
        let done = move |r: &v1::WatchRemediationResponse| {
            r.remediation.as_ref().is_some_and(|r| ended.contains(&r.state))
        };
        ok(watch(read, done))
    }
}
