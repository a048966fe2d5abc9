//! `RolloutService`.

use super::{
    Answer, Rpc, Watch, actor, id_of, ok, page, page_size, probe, rollout_convert, simulation,
    watch,
};
use crate::app::{App, Fault};
use crate::probes;
use crate::rollouts::{self, Verb, Wanted, simulate};
use crate::store::{Filter, Kind, Row};
use ringfence_domain::id::NodeId;
use ringfence_domain::rollout::{Hours, Rollout};
use ringfence_proto::v1;
use ringfence_proto::v1::rollout_service_server::RolloutService;
use std::sync::Arc;
use tonic::{Request, Status};

async fn show(app: &App, rollout: &Rollout) -> v1::Rollout {
    let tree = app.tree().await.ok();
    let (needed, moment) = (app.config.approvals_rollout, rollouts::moment(app));
    let mut shown = rollout_convert::rollout(rollout, tree.as_deref(), needed, moment);
    // One that waits for its hours is looked at now and then only.
    if rollouts::closed(rollout).is_none() {
        shown.why.extend(rollouts::silent(app, rollout.state).await);
    }
    shown
}

async fn load(app: &App, id: &str) -> Result<v1::Rollout, Fault> {
    let (_, rollout): (Row, Rollout) = app.load(Kind::Rollout, id).await?;
    Ok(show(app, &rollout).await)
}

fn target(id: &str) -> Result<NodeId, Fault> {
    id.parse().map_err(|e| Fault::Invalid(format!("target: {e}")))
}

/// A verb with its person and reason.
async fn wish<T>(
    rpc: &Rpc,
    request: &Request<T>,
    verb: Verb,
    id: &str,
    reason: &str,
) -> Result<Option<v1::Rollout>, Status> {
    let who = actor(request.metadata())?;
    let rollout = rollouts::wish(&rpc.0, &who, id, verb, reason).await?;
    Ok(Some(show(&rpc.0, &rollout).await))
}

#[tonic::async_trait]
impl RolloutService for Rpc {
    async fn plan_rollout(
        &self,
        request: Request<v1::PlanRolloutRequest>,
    ) -> Answer<v1::PlanRolloutResponse> {
        let who = actor(request.metadata())?;
        let a = request.into_inner();
        let wanted = Wanted {
            policy: rollout_convert::policy(a.policy, a.policy_document, a.parameters),
            stages: rollout_convert::stages(a.stages)?,
            allow_root: a.allow_root,
            expected_denials: rollout_convert::principals(a.expected_denials)?,
            replaces: a.replaces,
            probe: a.probe,
            hours: Hours::new(&a.windows, &a.time_zone).map_err(Fault::Invalid)?,
        };
        let id = id_of("ro", &a.request_id);
        let (rollout, warnings) =
            rollouts::plan(&self.0, &who, &id, wanted, a.validate_only).await?;
        ok(v1::PlanRolloutResponse { rollout: Some(show(&self.0, &rollout).await), warnings })
    }

    type SimulateRolloutStream = Watch<v1::SimulateRolloutResponse>;

    async fn simulate_rollout(
        &self,
        request: Request<v1::SimulateRolloutRequest>,
    ) -> Answer<Self::SimulateRolloutStream> {
        let who = actor(request.metadata())?;
        let ask = simulation::ask(request.into_inner())?;
        let run = Arc::new(simulate::begin(&self.0, &who, ask).await?);
        let app = self.0.clone();
        let read = move || {
            let (app, run) = (app.clone(), run.clone());
            async move { Ok(simulation::answer(simulate::look(&app, &run).await?)) }
        };
        ok(watch(read, |answer: &v1::SimulateRolloutResponse| answer.simulation.is_some()))
    }

    type ProveProbesStream = Watch<v1::ProveProbesResponse>;

    async fn prove_probes(
        &self,
        request: Request<v1::ProveProbesRequest>,
    ) -> Answer<Self::ProveProbesStream> {
        let who = actor(request.metadata())?;
        let a = request.into_inner();
        let id = id_of("pb", &a.request_id);
        probes::prove(&self.0, &who, &id, probe::place(&a.account, &a.region)?).await?;
        let app = self.0.clone();
        let read = move || {
            let (app, id) = (app.clone(), id.clone());
            async move {
                Ok(probe::proof(&probes::read(&app, &id).await?, &probes::proven(&app).await?))
            }
        };
        ok(watch(read, |answer: &v1::ProveProbesResponse| !answer.unencrypted.is_empty()))
    }

    async fn approve_rollout(
        &self,
        request: Request<v1::ApproveRolloutRequest>,
    ) -> Answer<v1::ApproveRolloutResponse> {
        let who = actor(request.metadata())?;
        let a = request.into_inner();
        let rollout = rollouts::add_approval(&self.0, &who, &a.id, &a.reason, &a.hash).await?;
        ok(v1::ApproveRolloutResponse { rollout: Some(show(&self.0, &rollout).await) })
    }

    async fn start_rollout(
        &self,
        request: Request<v1::StartRolloutRequest>,
    ) -> Answer<v1::StartRolloutResponse> {
        let rollout = wish(self, &request, Verb::Start, &request.get_ref().id, "").await?;
        ok(v1::StartRolloutResponse { rollout })
    }

    async fn pause_rollout(
        &self,
        request: Request<v1::PauseRolloutRequest>,
    ) -> Answer<v1::PauseRolloutResponse> {
        let a = request.get_ref();
        let rollout = wish(self, &request, Verb::Pause, &a.id, &a.reason).await?;
        ok(v1::PauseRolloutResponse { rollout })
    }

    async fn resume_rollout(
        &self,
        request: Request<v1::ResumeRolloutRequest>,
    ) -> Answer<v1::ResumeRolloutResponse> {
        let a = request.get_ref();
        let rollout = wish(self, &request, Verb::Resume, &a.id, &a.reason).await?;
        ok(v1::ResumeRolloutResponse { rollout })
    }

    async fn promote_rollout(
        &self,
        request: Request<v1::PromoteRolloutRequest>,
    ) -> Answer<v1::PromoteRolloutResponse> {
        let a = request.get_ref();
        let rollout = wish(self, &request, Verb::Promote, &a.id, &a.reason).await?;
        ok(v1::PromoteRolloutResponse { rollout })
    }

    async fn skip_rollout_target(
        &self,
        request: Request<v1::SkipRolloutTargetRequest>,
    ) -> Answer<v1::SkipRolloutTargetResponse> {
        let a = request.get_ref();
        let verb = Verb::Skip(target(&a.target)?);
        let rollout = wish(self, &request, verb, &a.id, &a.reason).await?;
        ok(v1::SkipRolloutTargetResponse { rollout })
    }

    async fn retry_rollout_target(
        &self,
        request: Request<v1::RetryRolloutTargetRequest>,
    ) -> Answer<v1::RetryRolloutTargetResponse> {
        let a = request.get_ref();
        let verb = Verb::Retry(target(&a.target)?);
        let rollout = wish(self, &request, verb, &a.id, &a.reason).await?;
        ok(v1::RetryRolloutTargetResponse { rollout })
    }

    async fn undo_rollout(
        &self,
        request: Request<v1::UndoRolloutRequest>,
    ) -> Answer<v1::UndoRolloutResponse> {
        let a = request.get_ref();
        let verb = Verb::Undo(Some(a.to.clone()).filter(|to| !to.is_empty()));
        let rollout = wish(self, &request, verb, &a.id, &a.reason).await?;
        ok(v1::UndoRolloutResponse { rollout })
    }

    async fn propose_rollout(
        &self,
        request: Request<v1::ProposeRolloutRequest>,
    ) -> Answer<v1::ProposeRolloutResponse> {
        actor(request.metadata())?;
        let (wanted, tag) = rollout_convert::wanted(request.into_inner())?;
        let proposal = rollouts::propose(&self.0, wanted, &tag).await?;
        ok(rollout_convert::proposal(proposal))
    }

    async fn abort_rollout(
        &self,
        request: Request<v1::AbortRolloutRequest>,
    ) -> Answer<v1::AbortRolloutResponse> {
        let a = request.get_ref();
        let rollout = wish(self, &request, Verb::Abort, &a.id, &a.reason).await?;
        ok(v1::AbortRolloutResponse { rollout })
    }

    async fn get_rollout(
        &self,
        request: Request<v1::GetRolloutRequest>,
    ) -> Answer<v1::GetRolloutResponse> {
        ok(v1::GetRolloutResponse { rollout: Some(load(&self.0, &request.get_ref().id).await?) })
    }

    async fn list_rollouts(
        &self,
        request: Request<v1::ListRolloutsRequest>,
    ) -> Answer<v1::ListRolloutsResponse> {
        let a = request.into_inner();
        let mut all: Vec<(Row, Rollout)> = self.0.all(Kind::Rollout, &Filter::default()).await?;
        all.sort_by_key(|(row, _)| std::cmp::Reverse((row.created_at, row.id.clone())));
        let (some, next_page_token) = page(all, page_size(a.page_size)?, &a.page_token)?;
        let mut rollouts = Vec::new();
        for (_, rollout) in &some {
            rollouts.push(show(&self.0, rollout).await);
        }
        ok(v1::ListRolloutsResponse { rollouts, next_page_token })
    }

    type WatchRolloutStream = Watch<v1::WatchRolloutResponse>;

    async fn watch_rollout(
        &self,
        request: Request<v1::WatchRolloutRequest>,
    ) -> Answer<Self::WatchRolloutStream> {
        let (app, id) = (self.0.clone(), request.into_inner().id);
        let read = move || {
            let (app, id) = (app.clone(), id.clone());
            async move { Ok(v1::WatchRolloutResponse { rollout: Some(load(&app, &id).await?) }) }
        };
        use v1::RolloutState::{Aborting, Baking, Running};
        let busy = [Running as i32, Baking as i32, Aborting as i32];
        let done = move |r: &v1::WatchRolloutResponse| {
            r.rollout.as_ref().is_some_and(|r| !busy.contains(&r.state))
        };
        ok(watch(read, done))
    }
}
