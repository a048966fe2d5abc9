//! `FindingService`.

use super::{Answer, Rpc, actor, convert, named, ok, page_size, place};
use crate::app::{Fault, now};
use crate::findings;
use crate::store::Page;
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
        let accounts = scope.accounts(&tree)?;
        let size = page_size(asked.page_size)?;
        let after = place("page_token", &asked.page_token)?;
        let page = Page {
            accounts: named(&scope, &accounts),
            regions: scope.regions.iter().map(ToString::to_string).collect(),
            state: if asked.include_resolved { String::new() } else { "open".to_owned() },
            after,
            limit: size,
        };
        let rows = self.0.store.finding_page(&page).await.map_err(Fault::from)?;
        let at = now();
        let mut findings = Vec::new();
        for row in &rows {
            findings.push(convert::finding(&row.document().map_err(Fault::from)?, at));
        }
        let full = i64::try_from(rows.len()).unwrap_or(i64::MAX) >= size;
        let next_page_token = match rows.last() {
            Some(last) if full => format!("{} {} {}", last.account, last.region, last.id),
            _ => String::new(),
        };
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
