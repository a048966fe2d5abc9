//! `ringfence-agent --config FILE`: an agent in a process of its own.

use anyhow::Context;
use clap::Parser;
use mimalloc::MiMalloc;
use ringfence_proto::v1::agent_service_client::AgentServiceClient;
use std::path::PathBuf;
use std::process::ExitCode;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// A Ringfence agent: works inside member accounts for a server (agent.server, agent.join_token).
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The configuration file (TOML); keys also from the environment as RINGFENCE_SECTION__KEY.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    ringfence_agent::process::log_to_stderr();
    ringfence_agent::process::end(run(args).await)
}

/// How often the server's end of the connection is asked whether it is there.
const KEEP_ALIVE_EVERY: std::time::Duration = std::time::Duration::from_secs(20);

/// How long it may take to answer; after that a new connection is made.
const KEEP_ALIVE_FOR: std::time::Duration = std::time::Duration::from_secs(10);

async fn run(args: Args) -> anyhow::Result<()> {
    let config = ringfence_agent::config::load(args.config.as_deref())?;
    anyhow::ensure!(
        !config.join_token.is_empty(),
        "agent.join_token is empty: the server takes no agent without it"
    );
    let mut endpoint = Endpoint::from_shared(config.agent_server.clone()).with_context(|| {
        format!("agent.server = `{}`: it must be like http://127.0.0.1:7443", config.agent_server)
    })?;
    // A connection whose other end vanished without a word would hold every call for its whole time.
    endpoint = endpoint
        .http2_keep_alive_interval(KEEP_ALIVE_EVERY)
        .keep_alive_timeout(KEEP_ALIVE_FOR)
        .keep_alive_while_idle(true);
    if config.agent_server.starts_with("https://") && config.agent_ca_file.is_empty() {
        let tls = ClientTlsConfig::new().with_native_roots();
        endpoint = endpoint.tls_config(tls).context("agent.server")?;
    }
    if !config.agent_ca_file.is_empty() {
        let pem = std::fs::read(&config.agent_ca_file)
            .with_context(|| format!("read agent.ca_file {}", config.agent_ca_file))?;
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
        endpoint = endpoint.tls_config(tls).context("agent.ca_file")?;
    }
    let token = ringfence_agent::Token::new(&config.join_token)
        .context("agent.join_token: it must be printable ASCII")?;
    let name = format!("{}#{}", config.agent_name, uuid::Uuid::new_v4().simple());
    let settings = config.agent(name, ringfence_agent::Names::exact());
    tracing::info!(
        "ringfence-agent {} works for {} with {} threads",
        config.agent_name,
        config.agent_server,
        settings.threads
    );
    let connect =
        move || AgentServiceClient::with_interceptor(endpoint.connect_lazy(), token.clone());
    let (stop, stopping) = tokio::sync::watch::channel(false);
    tokio::spawn(async move {
        ringfence_agent::process::asked_to_stop().await;
        tracing::info!("asked to stop: what has begun is finished, nothing new is taken");
        stop.send_replace(true);
    });
    ringfence_agent::start(settings, config.aws.clone(), connect, stopping).await
}
