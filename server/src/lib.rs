//! The control server: store, gRPC, rollouts, and everything about the organization as a whole.
//!
//! What happens inside member accounts is an agent's. In the default mode the server starts one
//! agent in its own process, which speaks the same gRPC over an in-memory pipe: one code path,
//! whatever the size.

pub mod admission;
pub mod agents;
pub mod app;
mod audit;
mod decommission;
pub mod deployments;
pub mod doctor;
pub mod emergency;
pub mod findings;
pub mod freezes;
pub mod histories;
pub mod keys;
pub mod leases;
pub mod orders;
pub mod org;
mod past;
pub mod plans;
pub mod policies;
mod probes;
pub mod remediations;
pub mod reports;
pub mod rollouts;
mod rpc;
pub mod scans;
pub mod schedule;
pub mod scope;
pub mod staging;
pub mod status;
pub mod store;
pub mod tally;
pub mod waivers;

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
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http;
use tonic::transport::server::{TcpConnectInfo, TcpIncoming, TlsConnectInfo};
use tonic::transport::{Channel, Endpoint, Identity, Server, ServerTlsConfig};
use tower::BoxError;
use tower::filter::AsyncFilterLayer;

/// The name of the token in `agent.join_token` of the server's own configuration. All servers of one store
/// must have the same, or none: the one that starts last counts.
pub const CONFIGURED_TOKEN: &str = "agent.join_token";

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
    let (tls, schedule) = (tls(&config)?, schedule::parse(&config.scan_schedule)?);
    let health = ringfence_agent::Checks::new(&config.health_command, config.health_timeout);
    let gate = ringfence_agent::Checks::new(&config.gate_command, config.gate_timeout);
    let owner = format!("server/{}/{}", std::process::id(), uuid::Uuid::new_v4());
    let app = App {
        store,
        cloud: cloud.clone(),
        config: Arc::new(config),
        owner: owner.into(),
        wake_rollouts: Arc::new(Notify::new()),
        wake_scans: Arc::new(Notify::new()),
        wake_agents: Arc::new(Notify::new()),
        wake_admission: Arc::new(Notify::new()),
        health,
        gate,
        writes: Arc::default(),
        tree: Arc::default(),
    };
    tokio::spawn(rollouts::run(app.clone()));
    tokio::spawn(rollouts::keep_fresh(app.clone()));
    tokio::spawn(waivers::run(app.clone()));
    tokio::spawn(audit::run(app.clone()));
    tokio::spawn(staging::run(app.clone()));
    tokio::spawn(scans::run(app.clone()));
    tokio::spawn(admission::run(app.clone()));
    tokio::spawn(schedule::run(app.clone(), schedule));
    let (leave, leaving) = watch::channel(false);
    let agent = match app.config.embedded_agent {
        true => Some(tokio::spawn(embedded_agent(&app, names, leaving).await?)),
        false => None,
    };

    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
    let mut routes = rpc::routes(&app).context("build reflection")?;
    routes.add_service(health);
    // One that was changed or taken out of the configuration lets nobody in any more.
    let token = (!app.config.join_token.is_empty()).then(|| store::Token {
        hash: hash::sha256(app.config.join_token.as_bytes()),
        name: CONFIGURED_TOKEN.into(),
        created_at: app::now(),
    });
    app.store.set_token(CONFIGURED_TOKEN, token.as_ref()).await?;
    routes.add_service(
        AgentServiceServer::new(rpc::Agents(rpc::Rpc(app.clone())))
            .max_decoding_message_size(MESSAGE_MAX),
    );
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
    // Without it the second frame of an answer waits for the first one's delayed ACK: 40 ms each.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let mut server = Server::builder();
    if let Some(tls) = tls {
        server = server.tls_config(tls).context("server.tls.cert_file and server.tls.key_file")?;
    }
    let door = Door(app.store.clone());
    let check = move |request| {
        let door = door.clone();
        async move { door.check(request).await.map_err(BoxError::from) }
    };
    let served = server
        .layer(AsyncFilterLayer::new(check))
        .add_routes(routes.routes())
        .serve_with_incoming_shutdown(incoming, stop);
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
    let _turn = give_back(&app).await;
    match failure.await {
        Ok(why) => Err(why.context("the embedded agent")),
        Err(_) => served,
    }
}

/// What other servers wait for before they write to the organization is theirs at once, unless a step is under way: then it
/// runs out by itself. No further step begins while what is returned is held.
async fn give_back(app: &App) -> Option<tokio::sync::OwnedMutexGuard<()>> {
    let turn = tokio::time::timeout(GIVE_BACK_FOR, app.writes.clone().lock_owned()).await.ok()?;
    if let Err(error) =
        app.store.hold(rollouts::WRITES, &app.owner, ringfence_domain::time::Span(0)).await
    {
        tracing::warn!("{}: {error}", rollouts::WRITES);
    }
    Some(turn)
}

/// How long a step may take to end before the process does.
const GIVE_BACK_FOR: std::time::Duration = std::time::Duration::from_secs(3);

/// Who may call what on the listener.
///
/// - Agents: only with a join token, required even on loopback, where any local user can connect. The
///   store keeps hashes alone, and a lookup by hash tells nothing of a token by the time it takes.
/// - People: only from loopback. There are no client certificates yet, so anybody else on the network
///   could say that they are anybody (docs/adr/0011).
#[derive(Clone)]
struct Door(Arc<dyn store::Store>);

impl Door {
    async fn check(self, request: http::Request<Body>) -> Result<http::Request<Body>, Status> {
        let path = request.uri().path();
        if path.starts_with(AGENT_SERVICE) {
            let given = request.headers().get(ringfence_agent::TOKEN_HEADER);
            let known = match given {
                Some(token) => self.0.token_known(&hash::sha256(token.as_bytes())).await,
                None => Ok(false),
            };
            return match known {
                Ok(true) => Ok(request),
                Ok(false) => {
                    let from = peer(&request).map_or("?".to_owned(), |a| a.to_string());
                    tracing::warn!(
                        "an agent at {from} is refused: its join token is missing or not known"
                    );
                    Err(Status::unauthenticated(
                        "the join token is missing or not known (agent.join_token); `ringfence-server join-token create` makes one",
                    ))
                }
                Err(error) => Err(app::Fault::from(error).into()),
            };
        }
        let peer = peer(&request).map(|a| a.ip());
        if path.starts_with("/ringfence.")
            && !peer.is_some_and(|ip| ip.to_canonical().is_loopback())
        {
            return Err(Status::permission_denied(
                "people are served on loopback only, until there are client certificates: go through a tunnel to the server's machine (ssh -L)",
            ));
        }
        Ok(request)
    }
}

/// Where all calls of agents go.
const AGENT_SERVICE: &str = "/ringfence.v1.AgentService/";

/// Who is at the other end, with TLS or without.
fn peer(request: &http::Request<Body>) -> Option<SocketAddr> {
    let plain = request.extensions().get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
    let tls = request.extensions().get::<TlsConnectInfo<TcpConnectInfo>>();
    plain.or_else(|| tls.and_then(|info| info.get_ref().remote_addr()))
}

/// The server's own certificate, if it has one.
fn tls(config: &Config) -> anyhow::Result<Option<ServerTlsConfig>> {
    let Some((cert, key)) = &config.tls else { return Ok(None) };
    let read = |path: &std::path::Path, what: &str| {
        std::fs::read(path).with_context(|| format!("read server.tls.{what} {}", path.display()))
    };
    let identity = Identity::from_pem(read(cert, "cert_file")?, read(key, "key_file")?);
    Ok(Some(ServerTlsConfig::new().identity(identity)))
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
