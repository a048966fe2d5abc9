//! `ringfence-server --config FILE`

use clap::Parser;
use mimalloc::MiMalloc;
use std::path::PathBuf;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The Ringfence control server.
///
/// Every key of the configuration file is also read from the environment as
/// RINGFENCE_SECTION__KEY, which is enough without a file. AWS credentials come from the standard
/// chain, and AWS_ENDPOINT_URL is honoured.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The configuration file (TOML).
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
    let names = ringfence_agent::Names::exact();
    let ready = |address| tracing::info!("ringfence-server ready on {address}");
    let stop = ringfence_agent::process::asked_to_stop();
    ringfence_server::run(config, names, ready, stop).await
}
