//! `StagingService`.

use super::convert::{approval, count, when};
use super::rollout_convert::rollout_state;
use super::{Answer, Rpc, Watch, actor, id_of, ok, page, page_size, watch};
use crate::app::{App, Fault};
use crate::rollouts;
use crate::staging::{self, Verb, Wanted};
use crate::store::{Filter, Kind, Row};
use ringfence_domain::id::AccountId;
use ringfence_domain::org::OrgTree;
use ringfence_domain::rollout::BAKE_MAX;
use ringfence_domain::staging::{Difference, Staging, Visit, Visitor};
use ringfence_domain::time::Span;
use ringfence_proto::v1;
use ringfence_proto::v1::staging_service_server::StagingService;
use tonic::{Request, Status};

async fn show(app: &App, staging: &Staging) -> v1::Staging {
    let tree = app.tree().await.ok();
    let mut shown = convert(staging, tree.as_deref(), app.config.approvals_rollout);
    shown.why.extend(rollouts::silent(app, staging.state).await);
    shown
}

async fn load(app: &App, id: &str) -> Result<v1::Staging, Fault> {
    let (_, staging): (Row, Staging) = app.load(Kind::Staging, id).await?;
    Ok(show(app, &staging).await)
}

/// A verb with its person and reason.
async fn wish<T>(
    rpc: &Rpc,
    request: &Request<T>,
    verb: Verb,
    (id, reason): (&str, &str),
) -> Result<Option<v1::Staging>, Status> {
    let who = actor(request.metadata())?;
    let staging = staging::wish(&rpc.0, &who, id, verb, reason).await?;
    Ok(Some(show(&rpc.0, &staging).await))
}

fn wanted(a: &v1::PlanStagingRequest) -> Result<Wanted, Fault> {
    let ou = a.ou.parse().map_err(|e| Fault::Invalid(format!("ou: {e}")))?;
    let account = |text: &String| {
        text.parse::<AccountId>().map_err(|e| Fault::Invalid(format!("accounts: {e}")))
    };
    let stay = Span(a.stay_seconds.saturating_mul(1_000));
    if stay < Span(0) || stay > BAKE_MAX {
        return Err(Fault::Invalid(format!(
            "stay_seconds: it must be 0 to {}",
            BAKE_MAX.0 / 1_000
        )));
    }
    let batch = usize::try_from(a.batch).ok().filter(|n| *n >= 1);
    Ok(Wanted {
        ou,
        accounts: a.accounts.iter().map(account).collect::<Result<_, _>>()?,
        batch: batch.ok_or_else(|| Fault::Invalid(format!("batch = {}: 1 or more", a.batch)))?,
        stay,
        allow_control_tower: a.allow_control_tower,
    })
}

#[tonic::async_trait]
impl StagingService for Rpc {
    async fn plan_staging(
        &self,
        request: Request<v1::PlanStagingRequest>,
    ) -> Answer<v1::PlanStagingResponse> {
        let who = actor(request.metadata())?;
        let a = request.into_inner();
        let id = id_of("st", &a.request_id);
        let (staging, warnings) =
            staging::plan(&self.0, &who, &id, wanted(&a)?, a.validate_only).await?;
        ok(v1::PlanStagingResponse { staging: Some(show(&self.0, &staging).await), warnings })
    }

    async fn approve_staging(
        &self,
        request: Request<v1::ApproveStagingRequest>,
    ) -> Answer<v1::ApproveStagingResponse> {
        let who = actor(request.metadata())?;
        let a = request.into_inner();
        let staging = staging::add_approval(&self.0, &who, &a.id, &a.reason, &a.hash).await?;
        ok(v1::ApproveStagingResponse { staging: Some(show(&self.0, &staging).await) })
    }

    async fn start_staging(
        &self,
        request: Request<v1::StartStagingRequest>,
    ) -> Answer<v1::StartStagingResponse> {
        let staging = wish(self, &request, Verb::Start, (&request.get_ref().id, "")).await?;
        ok(v1::StartStagingResponse { staging })
    }

    async fn pause_staging(
        &self,
        request: Request<v1::PauseStagingRequest>,
    ) -> Answer<v1::PauseStagingResponse> {
        let a = request.get_ref();
        let staging = wish(self, &request, Verb::Pause, (&a.id, &a.reason)).await?;
        ok(v1::PauseStagingResponse { staging })
    }

    async fn resume_staging(
        &self,
        request: Request<v1::ResumeStagingRequest>,
    ) -> Answer<v1::ResumeStagingResponse> {
        let a = request.get_ref();
        let staging = wish(self, &request, Verb::Resume, (&a.id, &a.reason)).await?;
        ok(v1::ResumeStagingResponse { staging })
    }

    async fn abort_staging(
        &self,
        request: Request<v1::AbortStagingRequest>,
    ) -> Answer<v1::AbortStagingResponse> {
        let a = request.get_ref();
        let staging = wish(self, &request, Verb::Abort, (&a.id, &a.reason)).await?;
        ok(v1::AbortStagingResponse { staging })
    }

    async fn get_staging(
        &self,
        request: Request<v1::GetStagingRequest>,
    ) -> Answer<v1::GetStagingResponse> {
        ok(v1::GetStagingResponse { staging: Some(load(&self.0, &request.get_ref().id).await?) })
    }

    async fn list_stagings(
        &self,
        request: Request<v1::ListStagingsRequest>,
    ) -> Answer<v1::ListStagingsResponse> {
        let a = request.into_inner();
        let mut all: Vec<(Row, Staging)> = self.0.all(Kind::Staging, &Filter::default()).await?;
        all.sort_by_key(|(row, _)| std::cmp::Reverse((row.created_at, row.id.clone())));
        let (some, next_page_token) = page(all, page_size(a.page_size)?, &a.page_token)?;
        let mut stagings = Vec::new();
        for (_, staging) in &some {
            stagings.push(show(&self.0, staging).await);
        }
        ok(v1::ListStagingsResponse { stagings, next_page_token })
    }

    type WatchStagingStream = Watch<v1::WatchStagingResponse>;

    async fn watch_staging(
        &self,
        request: Request<v1::WatchStagingRequest>,
    ) -> Answer<Self::WatchStagingStream> {
        let (app, id) = (self.0.clone(), request.into_inner().id);
        let read = move || {
            let (app, id) = (app.clone(), id.clone());
            async move { Ok(v1::WatchStagingResponse { staging: Some(load(&app, &id).await?) }) }
        };
        use v1::RolloutState::{Aborting, Baking, Running};
        let busy = [Running as i32, Baking as i32, Aborting as i32];
        let done = move |r: &v1::WatchStagingResponse| {
            r.staging.as_ref().is_some_and(|s| !busy.contains(&s.state))
        };
        ok(watch(read, done))
    }
}

fn state(visit: Option<&Visit>) -> &'static str {
    match visit {
        Some(v) if v.gone_at.is_some() => "gone",
        Some(v) if v.returned_at.is_some() => "back",
        Some(v) if v.return_intended_at.is_some() => "returning",
        Some(v) if v.arrived_at.is_some() => "there",
        Some(v) if v.intended_at.is_some() => "leaving",
        Some(_) | None => "at home",
    }
}

fn convert(s: &Staging, tree: Option<&OrgTree>, needed: usize) -> v1::Staging {
    let name = |id: &ringfence_domain::id::NodeId| {
        tree.and_then(|t| t.get(id)).map(|n| n.name.clone()).unwrap_or_default()
    };
    let visit = |v: &Visitor| {
        let visit = s.visits.get(&v.account);
        v1::StagingVisit {
            account: v.account.to_string(),
            account_name: name(&(&v.account).into()),
            origin: v.origin.to_string(),
            state: state(visit).to_owned(),
            arrived_at: when(visit.and_then(|v| v.arrived_at)),
            returned_at: when(visit.and_then(|v| v.returned_at)),
        }
    };
    let difference =
        |origin: &ringfence_domain::id::NodeId, d: &Difference| v1::StagingDifference {
            origin: origin.to_string(),
            policy_type: d.policy_type.clone(),
            loses: d.loses.clone(),
            gets: d.gets.clone(),
        };
    v1::Staging {
        id: s.body.id.clone(),
        hash: s.hash.clone(),
        state: rollout_state(s.state).into(),
        why: s.why.clone(),
        author: s.body.author.clone(),
        created_at: s.body.created_at.to_string(),
        ou: s.body.ou.to_string(),
        ou_name: name(&s.body.ou),
        batch: count(s.body.batch),
        stay_seconds: s.body.stay.0 / 1_000,
        visits: s.body.visitors.iter().map(visit).collect(),
        differences: s
            .body
            .differences
            .iter()
            .flat_map(|(origin, all)| all.iter().map(move |d| (origin, d)))
            .map(|(origin, d)| difference(origin, d))
            .collect(),
        approvals: s.approvals.iter().map(approval).collect(),
        approvals_needed: count(needed),
        last_at: when(s.last.as_ref().map(|o| o.at)),
        last_health: s.last.as_ref().map(|o| o.health.as_str().to_owned()).unwrap_or_default(),
        last_said: s.last.as_ref().map(|o| o.said.clone()).unwrap_or_default(),
    }
}
