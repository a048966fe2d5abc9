//! `FindingService`.

use super::{Answer, Rpc, actor, convert, ok, page, page_size};
use crate::app::now;
use crate::findings;
use crate::store::{Filter, Kind, Row};
use ringfence_domain::finding::{Finding, FindingState};
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
        let accounts = scope.accounts(&self.0.tree().await?)?;
        let all: Vec<(Row, Finding)> = self.0.all(Kind::Finding, &Filter::default()).await?;
        let at = now();
        let wanted = |f: &Finding| {
            (asked.include_resolved || f.state == FindingState::Open)
                && (scope.is_all() || accounts.contains(&f.account))
                && scope.region(f.region.as_str())
        };
        let found = all
            .iter()
            .map(|(_, f)| f)
            .filter(|f| wanted(f))
            .map(|f| convert::finding(f, at))
            .collect();
        let (findings, next_page_token) =
            page(found, page_size(asked.page_size)?, &asked.page_token)?;
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
