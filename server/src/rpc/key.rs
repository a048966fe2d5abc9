//! `KeyService`.

use super::{Answer, Rpc, actor, convert, id_of, next_page, ok, page, page_of, page_size};
use crate::app::{App, Fault};
use crate::keys::{self, Work};
use crate::store::{Filter, Kind, Row};
use ringfence_domain::key::job::State;
use ringfence_domain::key::list::{Standing, standing};
use ringfence_domain::key::plan::{Item, KeyPlan};
use ringfence_domain::ledger::Cell;
use ringfence_proto::v1;
use ringfence_proto::v1::key_service_server::KeyService;
use tonic::Request;

fn item(work: &Work, item: &Item) -> v1::KeyPlanItem {
    let job = work.job(item);
    let made = job.and_then(|j| j.made.clone());
    v1::KeyPlanItem {
        account: item.account.to_string(),
        region: item.region.to_string(),
        change: item.change.as_str().to_owned(),
        key_arn: made.or_else(|| item.key_arn.clone()).unwrap_or_default(),
        rotation: item.rotation,
        statements: item.statements.iter().cloned().collect(),
        reason: item.why.clone(),
        state: job.map(|j| j.state.as_str().to_owned()).unwrap_or_default(),
        why: job.map(|j| j.why.clone()).unwrap_or_default(),
    }
}

fn show(app: &App, work: &Work) -> Option<v1::KeyPlan> {
    let (needed, plan) = (app.config.approvals_remediation, &work.plan);
    Some(v1::KeyPlan {
        id: plan.body.id.clone(),
        hash: plan.hash.clone(),
        state: work.state(needed).to_owned(),
        author: plan.body.author.clone(),
        created_at: plan.body.created_at.to_string(),
        alias: plan.body.alias.clone(),
        role: plan.body.role.clone(),
        items: plan.body.items.iter().map(|i| item(work, i)).collect(),
        approvals: plan.approvals.iter().map(convert::approval).collect(),
        approvals_needed: convert::count(needed),
        acting: convert::count(plan.acting().count()),
        done: convert::count(work.count(State::Done)),
        stopped: convert::count(work.count(State::Stopped)),
        text: plan.text(),
    })
}

fn key(cell: &Cell, key: Standing) -> v1::KeyInUse {
    v1::KeyInUse {
        account: cell.account.to_string(),
        region: cell.region.clone(),
        key_arn: key.arn,
        chosen: key.chosen,
        state: key.state.unwrap_or_default(),
        rotates: key.rotates,
        policy: key.lets.unwrap_or_default().to_owned(),
        trouble: key.trouble,
        databases: key.databases,
        as_of: cell.as_of.map(|t| t.to_string()).unwrap_or_default(),
    }
}

#[tonic::async_trait]
impl KeyService for Rpc {
    async fn plan_keys(
        &self,
        request: Request<v1::PlanKeysRequest>,
    ) -> Answer<v1::PlanKeysResponse> {
        let who = actor(request.metadata())?;
        let a = request.into_inner();
        let (id, scope) = (id_of("kp", &a.request_id), convert::scope(a.scope)?);
        let made = keys::plan(&self.0, &who, &id, &scope, a.everywhere, a.validate_only).await?;
        ok(v1::PlanKeysResponse { plan: show(&self.0, &made) })
    }

    async fn get_key_plan(
        &self,
        request: Request<v1::GetKeyPlanRequest>,
    ) -> Answer<v1::GetKeyPlanResponse> {
        let (_, work) = keys::load(&self.0, &request.get_ref().id).await?;
        ok(v1::GetKeyPlanResponse { plan: show(&self.0, &work) })
    }

    async fn list_key_plans(
        &self,
        request: Request<v1::ListKeyPlansRequest>,
    ) -> Answer<v1::ListKeyPlansResponse> {
        let a = request.into_inner();
        let mut rows: Vec<(Row, KeyPlan)> = self.0.all(Kind::KeyPlan, &Filter::default()).await?;
        rows.sort_by_key(|(row, _)| std::cmp::Reverse(row.created_at));
        let (rows, next_page_token) = page(rows, page_size(a.page_size)?, &a.page_token)?;
        let mut plans = Vec::new();
        for (row, _) in &rows {
            let shown = show(&self.0, &keys::load(&self.0, &row.id).await?.1);
            plans.extend(shown.map(|p| v1::KeyPlan {
                items: Vec::new(),
                text: String::new(),
                ..p
            }));
        }
        ok(v1::ListKeyPlansResponse { plans, next_page_token })
    }

    async fn approve_key_plan(
        &self,
        request: Request<v1::ApproveKeyPlanRequest>,
    ) -> Answer<v1::ApproveKeyPlanResponse> {
        let who = actor(request.metadata())?;
        let a = request.into_inner();
        let work = keys::add_approval(&self.0, &who, &a.id, &a.reason, &a.hash).await?;
        ok(v1::ApproveKeyPlanResponse { plan: show(&self.0, &work) })
    }

    async fn apply_key_plan(
        &self,
        request: Request<v1::ApplyKeyPlanRequest>,
    ) -> Answer<v1::ApplyKeyPlanResponse> {
        let who = actor(request.metadata())?;
        let a = request.into_inner();
        let work = keys::apply(&self.0, &who, &a.id, a.validate_only).await?;
        ok(v1::ApplyKeyPlanResponse { plan: show(&self.0, &work) })
    }

    async fn list_keys(
        &self,
        request: Request<v1::ListKeysRequest>,
    ) -> Answer<v1::ListKeysResponse> {
        let asked = request.into_inner();
        let scope = convert::scope(asked.scope)?;
        let tree = self.0.tree().await?;
        // A page of cells, some of which have no key: it may be empty, with another one behind it (AIP-158).
        let wanted = &self.0.config.key;
        let page = page_of(&scope, &tree, asked.page_size, &asked.page_token)?;
        let cells = self.0.store.cell_page(&page).await.map_err(Fault::from)?;
        let next_page_token = next_page(&page, &cells, |c| format!("{} {}", c.account, c.region));
        let keys =
            cells.iter().flat_map(|c| standing(c, wanted).into_iter().map(|k| key(c, k))).collect();
        ok(v1::ListKeysResponse { keys, next_page_token })
    }
}
