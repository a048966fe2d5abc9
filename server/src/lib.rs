//! The control server: store, gRPC, rollouts, and everything about the organization as a whole.
//!
//! What happens inside member accounts is an agent's. In the default mode the server starts one
//! agent in its own process, which speaks the same gRPC over an in-memory pipe: one code path,
//! whatever the size.

pub mod agents;
pub mod app;
pub mod doctor;
pub mod findings;
pub mod leases;
pub mod org;
pub mod plans;
pub mod remediations;
pub mod reports;
pub mod rollouts;
mod rpc;
pub mod scans;
pub mod scope;
pub mod status;
pub mod store;

pub use ringfence_agent::config;
pub use rpc::{REASON_HEADER, USER_HEADER};

use anyhow::Context;
use app::App;
use futures::StreamExt;
use hyper_util::rt::TokioIo;
use ringfence_agent::Names;
use ringfence_agent::config::Config;
use ringfence_aws::Cloud;
use ringfence_domain::hash;
use ringfence_proto::v1::agent_service_client::AgentServiceClient;
use ringfence_proto::v1::agent_service_server::AgentServiceServer;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::DuplexStream;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Status};

/// The largest message taken. A report of one account is the largest there is.
const MESSAGE_MAX: usize = 16 << 20;

/// How long open connections are given when the server is asked to stop.
const STOP_FOR_MS: u64 = 3_000;

/// How long the embedded agent may take to finish what it has begun when the server is asked to stop.
const LEAVE_FOR_MS: u64 = 5_000;

/// The buffer of the in-memory pipe to the embedded agent.
const PIPE: usize = 256 << 10;

/// Opens the store, listens, and serves until `stop` resolves.
///
/// `ready` is told the address (with port 0, the one that was given).
pub async fn run(
    config: Config,
    names: Names,
    ready: impl FnOnce(SocketAddr),
    stop: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let store = store::open(&config.store_url).await?;
    let cloud = Cloud::new(config.aws.clone()).await.map_err(anyhow::Error::msg)?;
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("listen on {} (server.listen)", config.listen))?;
    let address = listener.local_addr().context("read the address listened on")?;
    let owner = format!("server/{}/{}", std::process::id(), uuid::Uuid::new_v4());
    let app = App {
        store,
        cloud: cloud.clone(),
        config: Arc::new(config),
        owner: owner.into(),
        wake_rollouts: Arc::new(Notify::new()),
        wake_scans: Arc::new(Notify::new()),
        tree: Arc::default(),
    };
    tokio::spawn(rollouts::run(app.clone()));
    tokio::spawn(scans::run(app.clone()));
    let (leave, leaving) = watch::channel(false);
    let agent = match app.config.embedded_agent {
        true => Some(tokio::spawn(embedded_agent(&app, names, leaving).await?)),
        false => None,
    };

    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
    let mut routes = rpc::routes(&app).context("build reflection")?;
    routes.add_service(health);
    if !app.config.join_token.is_empty() {
        routes.add_service(guarded(&app));
    }
    let stopping = Arc::new(Notify::new());
    let stopped = stopping.clone();
    let (failed, failure) = oneshot::channel();
    let stop = async move {
        // The embedded agent goes first: it gives its leases back while somebody takes them.
        match agent {
            None => stop.await,
            Some(agent) => {
                let abort = agent.abort_handle();
                tokio::pin!(agent);
                let early = tokio::select! {
                    () = stop => None,
                    ended = &mut agent => Some(ended),
                };
                match early {
                    Some(ended) => {
                        let why = ended.map_err(anyhow::Error::from).and_then(|e| e);
                        let _ =
                            failed
                                .send(why.err().unwrap_or_else(|| {
                                    anyhow::anyhow!("the embedded agent ended")
                                }));
                    }
                    None => {
                        leave.send_replace(true);
                        tokio::select! {
                            _ = &mut agent => {}
                            () = app::rest(LEAVE_FOR_MS) => abort.abort(),
                        }
                    }
                }
            }
        }
        stopped.notify_one();
    };
    let served = Server::builder()
        .add_routes(routes.routes())
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop);
    // Open watches do not end by themselves: they are given a moment, not for ever.
    let late = async {
        stopping.notified().await;
        app::rest(STOP_FOR_MS).await;
    };
    ready(address);
    let served = tokio::select! {
        served = served => served.context("serve"),
        () = late => Ok(()),
    };
    match failure.await {
        Ok(why) => Err(why.context("the embedded agent")),
        Err(_) => served,
    }
}

/// Lets agents in on the listener: only with the token, required even on loopback, where any local
/// user can connect. Hashes are compared, so that the time it takes tells nothing of the token.
#[derive(Clone)]
struct JoinToken(String);

impl Interceptor for JoinToken {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let given = request.metadata().get(ringfence_agent::TOKEN_HEADER);
        let given = given.map(|value| hash::sha256(value.as_bytes()));
        if given.as_ref() == Some(&self.0) {
            return Ok(request);
        }
        Err(Status::unauthenticated("the join token is missing or wrong (agent.join_token)"))
    }
}

fn guarded(app: &App) -> InterceptedService<AgentServiceServer<rpc::Agents>, JoinToken> {
    let service = AgentServiceServer::new(rpc::Agents(rpc::Rpc(app.clone())))
        .max_decoding_message_size(MESSAGE_MAX);
    InterceptedService::new(service, JoinToken(hash::sha256(app.config.join_token.as_bytes())))
}

/// Serves the embedded agent over a pipe in memory, and runs it. Ends with an error, or after `leaving`.
async fn embedded_agent(
    app: &App,
    names: Names,
    leaving: watch::Receiver<bool>,
) -> anyhow::Result<impl Future<Output = anyhow::Result<()>> + use<>> {
    let (dial, accept) = mpsc::channel::<DuplexStream>(4);
    let service = AgentServiceServer::new(rpc::Agents(rpc::Rpc(app.clone())))
        .max_decoding_message_size(MESSAGE_MAX);
    let incoming = ReceiverStream::new(accept).map(Ok::<_, std::io::Error>);
    let server = Server::builder().add_service(service).serve_with_incoming(incoming);
    let connect = move || {
        let dial = dial.clone();
        let connect = tower::service_fn(move |_: tonic::transport::Uri| {
            let dial = dial.clone();
            async move {
                let (ours, theirs) = tokio::io::duplex(PIPE);
                dial.send(theirs).await.map_err(std::io::Error::other)?;
                Ok::<_, std::io::Error>(TokioIo::new(ours))
            }
        });
        let channel: Channel =
            Endpoint::from_static("http://embedded").connect_with_connector_lazy(connect);
        AgentServiceClient::new(channel).max_decoding_message_size(MESSAGE_MAX)
    };
    let name = format!("embedded.{}", app.config.listen.port());
    if app.config.store_url.starts_with("sqlite://") {
        // One machine, and we listen on the port: whoever had the name is dead, and need not be waited
        // for. With PostgreSQL another machine may have the same port, and leases have to run out.
        app.store.agent_gone(&name).await?;
    }
    let name = format!("{name}#{}", uuid::Uuid::new_v4().simple());
    let settings = app.config.agent(name, names);
    let aws = app.config.aws.clone();
    Ok(async move {
        tokio::select! {
            served = server => served.context("serve the embedded agent"),
            ended = ringfence_agent::start(settings, aws, connect, leaving) => ended,
        }
    })
}
