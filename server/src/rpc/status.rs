//! `StatusService`.

use super::{Answer, Rpc, actor, convert, ok, page_size};
use crate::app::Fault;
use crate::store::EventFilter;
use crate::{doctor, status};
use ringfence_proto::v1;
use ringfence_proto::v1::status_service_server::StatusService;
use tonic::{Request, Status};

#[tonic::async_trait]
impl StatusService for Rpc {
    async fn get_status(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Answer<v1::GetStatusResponse> {
        let scope = convert::scope(request.into_inner().scope)?;
        ok(convert::status(&status::status(&self.0, &scope).await?))
    }

    async fn list_audit_events(
        &self,
        request: Request<v1::ListAuditEventsRequest>,
    ) -> Answer<v1::ListAuditEventsResponse> {
        let a = request.into_inner();
        let size = page_size(a.page_size)?;
        let below = match a.page_token.as_str() {
            "" => i64::MAX,
            token => token
                .parse()
                .map_err(|_| Status::invalid_argument("page_token: not one of ours"))?,
        };
        let only = EventFilter { subject: &a.subject, actor: &a.actor, action: &a.action };
        let found = self.0.store.events(only, below, size + 1).await.map_err(Fault::from)?;
        let more = convert::count(found.len()) > i32::try_from(size).unwrap_or(i32::MAX);
        let keep = usize::try_from(size).unwrap_or(100);
        let events: Vec<_> = found.iter().take(keep).map(convert::event).collect();
        let next_page_token = match events.last() {
            Some(last) if more => last.sequence.to_string(),
            _ => String::new(),
        };
        ok(v1::ListAuditEventsResponse { events, next_page_token })
    }

    async fn run_doctor(
        &self,
        request: Request<v1::RunDoctorRequest>,
    ) -> Answer<v1::RunDoctorResponse> {
        let who = actor(request.metadata())?;
        let sample = match request.get_ref().sample {
            n if n <= 0 => 5,
            n => usize::try_from(n).unwrap_or(5),
        };
        let checks = doctor::run(&self.0, &who, sample).await;
        ok(v1::RunDoctorResponse { checks: checks.iter().map(convert::check).collect() })
    }
}
