//! `ringfence-agent --config FILE`: an agent in a process of its own.

use anyhow::Context;
use clap::Parser;
use mimalloc::MiMalloc;
use ringfence_aws::Cloud;
use ringfence_proto::v1::agent_service_client::AgentServiceClient;
use std::path::PathBuf;
use std::process::ExitCode;
use tonic::transport::Endpoint;

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

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    ringfence_agent::process::log_to_stderr();
    ringfence_agent::process::end(run(args).await)
}

async fn run(args: Args) -> anyhow::Result<()> {
    let config = ringfence_agent::config::load(args.config.as_deref())?;
    anyhow::ensure!(
        !config.join_token.is_empty(),
        "agent.join_token is empty: the server takes no agent without it"
    );
    let cloud = Cloud::new(config.aws.clone()).await.map_err(anyhow::Error::msg)?;
    let endpoint = Endpoint::from_shared(config.agent_server.clone()).with_context(|| {
        format!("agent.server = `{}`: it must be like http://127.0.0.1:7443", config.agent_server)
    })?;
    let channel = endpoint.connect_lazy();
    let token = ringfence_agent::Token::new(&config.join_token)
        .context("agent.join_token: it must be printable ASCII")?;
    let client = AgentServiceClient::with_interceptor(channel, token);
    let name = config.agent_name.clone();
    let settings = config.agent(name, ringfence_agent::Names::exact());
    tracing::info!("ringfence-agent {} works for {}", config.agent_name, config.agent_server);
    tokio::select! {
        () = ringfence_agent::run(client, cloud, settings) => Ok(()),
        () = ringfence_agent::process::asked_to_stop() => Ok(()),
    }
}
