//! `FreezeService`.

use super::{Answer, Rpc, actor, convert, id_of, ok, page, page_size};
use crate::app::now;
use crate::freezes::{self, Wanted};
use ringfence_domain::freeze::Freeze;
use ringfence_domain::time::Time;
use ringfence_proto::v1;
use ringfence_proto::v1::freeze_service_server::FreezeService;
use tonic::Request;

#[tonic::async_trait]
impl FreezeService for Rpc {
    async fn add_freeze(
        &self,
        request: Request<v1::AddFreezeRequest>,
    ) -> Answer<v1::AddFreezeResponse> {
        let who = actor(request.metadata())?;
        let a = request.into_inner();
        let wanted = Wanted {
            id: &id_of("fr", &a.request_id),
            scope: &convert::scope(a.scope)?,
            from: &a.from,
            to: &a.to,
            reason: &a.reason,
            midway: a.midway,
            dry: a.validate_only,
        };
        let made = freezes::add(&self.0, &who, wanted).await?;
        ok(v1::AddFreezeResponse { freeze: Some(show(&made, now())) })
    }

    async fn lift_freeze(
        &self,
        request: Request<v1::LiftFreezeRequest>,
    ) -> Answer<v1::LiftFreezeResponse> {
        let who = actor(request.metadata())?;
        let a = request.into_inner();
        let lifted = freezes::lift(&self.0, &who, &a.id, &a.reason, a.validate_only).await?;
        ok(v1::LiftFreezeResponse { freeze: Some(show(&lifted, now())) })
    }

    async fn list_freezes(
        &self,
        request: Request<v1::ListFreezesRequest>,
    ) -> Answer<v1::ListFreezesResponse> {
        let a = request.into_inner();
        let all = freezes::list(&self.0, a.include_ended).await?;
        let (found, next_page_token) = page(all, page_size(a.page_size)?, &a.page_token)?;
        let at = now();
        let freezes = found.iter().map(|f| show(f, at)).collect();
        ok(v1::ListFreezesResponse { freezes, next_page_token })
    }
}

/// A freeze as programs and people see it.
pub(super) fn show(f: &Freeze, at: Time) -> v1::Freeze {
    let (lifted_at, lifted_by, lifted_reason) = match &f.lifted {
        Some((at, by, why)) => (at.to_string(), by.clone(), why.clone()),
        None => Default::default(),
    };
    v1::Freeze {
        id: f.id.clone(),
        state: f.state(at).to_owned(),
        from: f.from.to_string(),
        to: f.to.to_string(),
        reason: f.reason.clone(),
        by: f.by.clone(),
        scope: Some(v1::Scope {
            ous: f.ous.iter().map(ToString::to_string).collect(),
            accounts: f.accounts.iter().map(ToString::to_string).collect(),
            regions: f.regions.iter().map(ToString::to_string).collect(),
        }),
        midway: f.midway,
        lifted_at,
        lifted_by,
        lifted_reason,
    }
}
