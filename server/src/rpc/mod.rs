//! The gRPC services: parse, call the part that knows, answer. One service a file.

mod agent;
mod control;
pub(crate) mod convert;
mod finding;
mod fleet;
mod freeze;
mod key;
mod org;
mod plan;
mod probe;
mod remediation;
mod rollout;
mod rollout_convert;
mod scan;
mod simulation;
mod staging;
mod status;

pub(crate) use agent::Agents;

use crate::app::{App, Fault, rest};
use crate::scope::Scope;
use crate::store::Page;
use futures::Stream;
use ringfence_domain::audit::Actor;
use ringfence_domain::cloud::ErrorClass;
use ringfence_domain::hash;
use ringfence_domain::org::OrgTree;
use ringfence_proto::v1;
use std::pin::Pin;
use tonic::metadata::MetadataMap;
use tonic::service::{Routes, RoutesBuilder};
use tonic::{Code, Status};

/// Who the CLI says it is.
pub const USER_HEADER: &str = "ringfence-user";
/// A constant for programs beside the message (AIP-193's ErrorInfo.reason).
pub const REASON_HEADER: &str = "ringfence-reason";

/// The server's state behind every service.
#[derive(Clone)]
pub(crate) struct Rpc(pub(crate) App);

/// All services but the agents', as one router.
pub(crate) fn routes(app: &App) -> Result<RoutesBuilder, tonic_reflection::server::Error> {
    let rpc = Rpc(app.clone());
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(ringfence_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let mut routes = Routes::builder();
    routes
        .add_service(reflection)
        .add_service(v1::org_service_server::OrgServiceServer::new(rpc.clone()))
        .add_service(v1::scan_service_server::ScanServiceServer::new(rpc.clone()))
        .add_service(v1::fleet_service_server::FleetServiceServer::new(rpc.clone()))
        .add_service(v1::finding_service_server::FindingServiceServer::new(rpc.clone()))
        .add_service(v1::control_service_server::ControlServiceServer::new(rpc.clone()))
        .add_service(v1::plan_service_server::PlanServiceServer::new(rpc.clone()))
        .add_service(v1::key_service_server::KeyServiceServer::new(rpc.clone()))
        .add_service(v1::remediation_service_server::RemediationServiceServer::new(rpc.clone()))
        .add_service(v1::rollout_service_server::RolloutServiceServer::new(rpc.clone()))
        .add_service(v1::staging_service_server::StagingServiceServer::new(rpc.clone()))
        .add_service(v1::freeze_service_server::FreezeServiceServer::new(rpc.clone()))
        .add_service(v1::status_service_server::StatusServiceServer::new(rpc));
    Ok(routes)
}

/// The person behind a request. On loopback the client's word is taken, and the audit log says so.
pub(crate) fn actor(metadata: &MetadataMap) -> Result<Actor, Status> {
    let name = metadata.get(USER_HEADER).and_then(|v| v.to_str().ok()).map(str::trim);
    match name {
        Some(name) if !name.is_empty() && name.len() <= 128 && !name.starts_with("system/") => {
            Ok(Actor { name: name.to_owned(), authenticated: false })
        }
        _ => Err(Status::unauthenticated(format!(
            "the request says not who sends it: set the `{USER_HEADER}` metadata (the CLI: RINGFENCE_USER)"
        ))),
    }
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Status {
        let message = fault.to_string();
        let (code, reason) = match &fault {
            Fault::Invalid(_) => (Code::InvalidArgument, "INVALID"),
            Fault::NotFound(_) => (Code::NotFound, "NOT_FOUND"),
            Fault::Refused { reason, .. } => (Code::FailedPrecondition, *reason),
            Fault::Forbidden(_) => (Code::PermissionDenied, "FORBIDDEN"),
            Fault::Late(_) => (Code::DeadlineExceeded, "LATE"),
            Fault::Conflict(_) => (Code::Aborted, "CONFLICT"),
            Fault::Cloud(e) => match e.class {
                ErrorClass::Denied | ErrorClass::ScpDenied => (Code::Unknown, "AWS_DENIED"),
                ErrorClass::Throttled => (Code::ResourceExhausted, "AWS_THROTTLED"),
                ErrorClass::RegionRefused
                | ErrorClass::NotFound
                | ErrorClass::AlreadyExists
                | ErrorClass::Conflict
                | ErrorClass::Invalid
                | ErrorClass::Unknown => (Code::Unknown, "AWS_ERROR"),
            },
            Fault::Store(e) => {
                tracing::error!("{e}");
                (Code::Internal, "STORE")
            }
        };
        let mut status = Status::new(code, message);
        if let Ok(value) = reason.parse() {
            status.metadata_mut().insert(REASON_HEADER, value);
        }
        status
    }
}

/// An id that is a function of the request's id, so that a repeated request meets its own work
/// (AIP-155). A request without one gets a fresh id.
pub(crate) fn id_of(prefix: &str, request_id: &str) -> String {
    let fresh = uuid::Uuid::new_v4().to_string();
    let request_id = if request_id.is_empty() { &fresh } else { request_id };
    format!("{prefix}-{}", hash::short(request_id, 12))
}

/// The size of a page: 100 unless said, at most 1,000 (AIP-158).
pub(crate) fn page_size(size: i32) -> Result<i64, Status> {
    match size {
        0 => Ok(100),
        n if n < 0 => {
            Err(Status::invalid_argument(format!("page_size = {n}: it must not be negative")))
        }
        n => Ok(i64::from(n.min(1_000))),
    }
}

/// One page of a list that is in memory; the token is how many came before.
pub(crate) fn page<T>(list: Vec<T>, size: i64, token: &str) -> Result<(Vec<T>, String), Status> {
    let skip: usize = match token {
        "" => 0,
        token => {
            token.parse().map_err(|_| Status::invalid_argument("page_token: not one of ours"))?
        }
    };
    let size = usize::try_from(size).unwrap_or(100);
    let next = if list.len() > skip + size { (skip + size).to_string() } else { String::new() };
    Ok((list.into_iter().skip(skip).take(size).collect(), next))
}

/// The page of a list by place that a request asks for. Its token is the place of the last row before:
/// account, region and, of findings, id.
pub(crate) fn page_of(
    scope: &Scope,
    tree: &OrgTree,
    size: i32,
    token: &str,
) -> Result<Page, Status> {
    // Of the whole organization nobody makes a list of ten thousand accounts for each page.
    let accounts = match scope.is_whole() {
        true => Vec::new(),
        false => scope.account_names(&scope.accounts(tree)?),
    };
    let words: Vec<&str> = token.split(' ').collect();
    let after = match words[..] {
        [""] => Default::default(),
        [a, b] => (a.to_owned(), b.to_owned(), String::new()),
        [a, b, c] => (a.to_owned(), b.to_owned(), c.to_owned()),
        _ => return Err(Status::invalid_argument("page_token: not one of ours")),
    };
    Ok(Page {
        accounts,
        regions: scope.region_names(),
        state: String::new(),
        after,
        limit: page_size(size)?,
    })
}

/// The token of the next page: the place of the last row, unless the page was not filled.
pub(crate) fn next_page<T>(page: &Page, rows: &[T], place: impl Fn(&T) -> String) -> String {
    let full = i64::try_from(rows.len()).unwrap_or(i64::MAX) >= page.limit;
    rows.last().filter(|_| full).map(place).unwrap_or_default()
}

/// What a watch sends.
pub(crate) type Watch<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Reads again and again and sends what differs from the last, until `done`. Polling is the truth:
/// it sees what other servers wrote.
pub(crate) fn watch<T, F>(
    read: impl Fn() -> F + Send + Sync + 'static,
    done: impl Fn(&T) -> bool + Send + 'static,
) -> Watch<T>
where
    T: Clone + PartialEq + Send + Sync + 'static,
    F: Future<Output = Result<T, Status>> + Send,
{
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    tokio::spawn(async move {
        let mut last: Option<T> = None;
        loop {
            match read().await {
                Ok(now) => {
                    let end = done(&now);
                    if last.as_ref() != Some(&now) {
                        last = Some(now.clone());
                        if sender.send(Ok(now)).await.is_err() {
                            return;
                        }
                    }
                    if end {
                        return;
                    }
                }
                Err(status) => {
                    let _ = sender.send(Err(status)).await;
                    return;
                }
            }
            tokio::select! {
                () = rest(250) => {}
                () = sender.closed() => return,
            }
        }
    });
    Box::pin(tokio_stream::wrappers::ReceiverStream::new(receiver))
}

/// One row of each kind of request: the response with its metadata.
pub(crate) type Answer<T> = Result<tonic::Response<T>, Status>;

pub(crate) fn ok<T>(message: T) -> Answer<T> {
    Ok(tonic::Response::new(message))
}
