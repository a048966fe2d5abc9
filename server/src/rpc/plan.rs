//! `PlanService`.

use super::{Answer, Rpc, actor, convert, id_of, ok, page, page_size};
use crate::app::Fault;
use crate::plans;
use crate::store::{Filter, Kind, Row};
use ringfence_domain::plan::{Jobs, Plan, Strategy, Wanted};
use ringfence_domain::remediation::Quiesce;
use ringfence_proto::v1;
use ringfence_proto::v1::plan_service_server::PlanService;
use std::collections::BTreeSet;
use tonic::Request;

impl Rpc {
    fn plan(&self, plan: &Plan) -> v1::Plan {
        convert::plan(plan, self.0.config.approvals_remediation)
    }
}

#[tonic::async_trait]
impl PlanService for Rpc {
    async fn create_plan(
        &self,
        request: Request<v1::CreatePlanRequest>,
    ) -> Answer<v1::CreatePlanResponse> {
        let who = actor(request.metadata())?;
        let a = request.into_inner();
        let scope = convert::scope(a.scope)?;
        let id = id_of("pl", &a.request_id);
        let wanted = Wanted {
            strategy: match a.strategy.as_str() {
                "" => Strategy::default(),
                text => text.parse().map_err(|e| Fault::Invalid(format!("strategy: {e}")))?,
            },
            quiesce: match a.quiesce.as_str() {
                "" => Quiesce::default(),
                text => text.parse().map_err(|e| Fault::Invalid(format!("quiesce: {e}")))?,
            },
            auto: a.auto_cutover,
            isolation: self.0.config.isolation.clone(),
            make_groups: a.make_isolation_groups,
            window: self.0.config.window.clone(),
            jobs: match (a.acknowledge_jobs, self.0.config.require_jobs_acknowledged) {
                (true, _) => Jobs::Acknowledged,
                (false, true) => Jobs::Required,
                (false, false) => Jobs::Told,
            },
            unproven: a.unproven,
            past: Vec::new(),        // as the store knows it
            proven: BTreeSet::new(), // so is this
            guess: self.0.config.guess,
        };
        if a.snapshots && wanted.strategy != Strategy::SideBySide {
            return Err(Fault::Invalid("strategy: a snapshot has no place to take".into()).into());
        }
        if wanted.strategy == Strategy::BlueGreen && wanted.quiesce != Quiesce::Observe {
            let why =
                "quiesce: AWS itself stops writes for the switchover of a blue/green deployment";
            return Err(Fault::Invalid(why.into()).into());
        }
        let how = (wanted, a.snapshots);
        let (plan, done) =
            plans::create(&self.0, &who, &id, &a.findings, &scope, how, a.validate_only).await?;
        let left_out = i32::try_from(done).unwrap_or(i32::MAX);
        ok(v1::CreatePlanResponse { plan: Some(self.plan(&plan)), left_out })
    }

    async fn get_plan(&self, request: Request<v1::GetPlanRequest>) -> Answer<v1::GetPlanResponse> {
        let (_, plan): (Row, Plan) = self.0.load(Kind::Plan, &request.get_ref().id).await?;
        ok(v1::GetPlanResponse { plan: Some(self.plan(&plan)) })
    }

    async fn list_plans(
        &self,
        request: Request<v1::ListPlansRequest>,
    ) -> Answer<v1::ListPlansResponse> {
        let a = request.into_inner();
        let mut all: Vec<(Row, Plan)> = self.0.all(Kind::Plan, &Filter::default()).await?;
        all.sort_by_key(|(row, _)| std::cmp::Reverse((row.created_at, row.id.clone())));
        let plans = all.iter().map(|(_, p)| self.plan(p)).collect();
        let (plans, next_page_token) = page(plans, page_size(a.page_size)?, &a.page_token)?;
        ok(v1::ListPlansResponse { plans, next_page_token })
    }

    async fn approve_plan(
        &self,
        request: Request<v1::ApprovePlanRequest>,
    ) -> Answer<v1::ApprovePlanResponse> {
        let who = actor(request.metadata())?;
        let a = request.into_inner();
        let plan = plans::add_approval(&self.0, &who, &a.id, &a.reason, &a.hash).await?;
        ok(v1::ApprovePlanResponse { plan: Some(self.plan(&plan)) })
    }
}
