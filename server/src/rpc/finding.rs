//! `FindingService`.

use super::{Answer, Rpc, actor, convert, next_page, ok, page_of};
use crate::app::{Fault, now};
use crate::findings;
use crate::store::{Page, Row};
use ringfence_proto::v1;
use ringfence_proto::v1::finding_service_server::FindingService;
use tonic::Request;

#[tonic::async_trait]
impl FindingService for Rpc {
    async fn list_findings(
        &self,
        request: Request<v1::ListFindingsRequest>,
    ) -> Answer<v1::ListFindingsResponse> {
        let asked = request.into_inner();
        let scope = convert::scope(asked.scope)?;
        let tree = self.0.tree().await?;
        let state = if asked.include_resolved { String::new() } else { "open".to_owned() };
        let page = Page { state, ..page_of(&scope, &tree, asked.page_size, &asked.page_token)? };
        let rows = self.0.store.finding_page(&page).await.map_err(Fault::from)?;
        let at = now();
        let mut findings = Vec::new();
        for row in &rows {
            findings.push(convert::finding(&row.document().map_err(Fault::from)?, at));
        }
        let place = |r: &Row| format!("{} {} {}", r.account, r.region, r.id);
        let next_page_token = next_page(&page, &rows, place);
        ok(v1::ListFindingsResponse { findings, next_page_token })
    }

    async fn waive_finding(
        &self,
        request: Request<v1::WaiveFindingRequest>,
    ) -> Answer<v1::WaiveFindingResponse> {
        let who = actor(request.metadata())?;
        let a = request.into_inner();
        let finding =
            findings::waive(&self.0, &who, &a.id, &a.owner, &a.reason, &a.until, a.validate_only)
                .await?;
        ok(v1::WaiveFindingResponse { finding: Some(convert::finding(&finding, now())) })
    }

    async fn unwaive_finding(
        &self,
        request: Request<v1::UnwaiveFindingRequest>,
    ) -> Answer<v1::UnwaiveFindingResponse> {
        let who = actor(request.metadata())?;
        let a = request.into_inner();
        let finding = findings::unwaive(&self.0, &who, &a.id, &a.reason, a.validate_only).await?;
        ok(v1::UnwaiveFindingResponse { finding: Some(convert::finding(&finding, now())) })
    }
}
