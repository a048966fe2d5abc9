//! `FindingService`.

use super::{Answer, Rpc, actor, convert, next_page, ok, page_of};
use crate::app::{Fault, now};
use crate::store::{Page, Row};
use crate::{findings, waivers};
use ringfence_domain::finding::AccountWaiver;
use ringfence_domain::id::AccountId;
use ringfence_proto::v1;
use ringfence_proto::v1::finding_service_server::FindingService;
use tonic::Request;

fn account(id: &str) -> Result<AccountId, Fault> {
    id.parse().map_err(|e| Fault::Invalid(format!("account: {e}")))
}

fn shown(w: &AccountWaiver) -> v1::AccountWaiver {
    let waiver = Some(convert::waiver(&w.waiver));
    v1::AccountWaiver { account: w.account.to_string(), waiver }
}

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

    async fn waive_account(
        &self,
        request: Request<v1::WaiveAccountRequest>,
    ) -> Answer<v1::WaiveAccountResponse> {
        let who = actor(request.metadata())?;
        let a = request.into_inner();
        let asked = (a.owner.as_str(), a.reason.as_str(), a.until.as_str());
        let account = account(&a.account)?;
        let (waiver, covered) =
            waivers::waive(&self.0, &who, &account, asked, a.validate_only).await?;
        let waiver = Some(shown(&waiver));
        ok(v1::WaiveAccountResponse { waiver, findings: convert::count(covered) })
    }

    async fn unwaive_account(
        &self,
        request: Request<v1::UnwaiveAccountRequest>,
    ) -> Answer<v1::UnwaiveAccountResponse> {
        let who = actor(request.metadata())?;
        let a = request.into_inner();
        let account = account(&a.account)?;
        let left = waivers::unwaive(&self.0, &who, &account, &a.reason, a.validate_only).await?;
        ok(v1::UnwaiveAccountResponse { findings: convert::count(left) })
    }

    async fn list_account_waivers(
        &self,
        _: Request<v1::ListAccountWaiversRequest>,
    ) -> Answer<v1::ListAccountWaiversResponse> {
        let waivers = waivers::active(&self.0).await?.values().map(shown).collect();
        ok(v1::ListAccountWaiversResponse { waivers })
    }
}
