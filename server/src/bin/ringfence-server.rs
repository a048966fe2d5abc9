//! `ringfence-server --config FILE`

use clap::{Parser, Subcommand};
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
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Tokens with which agents join. They are made here, beside the store, and not over the network.
    #[command(subcommand)]
    JoinToken(JoinToken),
    /// Take a service control policy off everything that it is attached to, now: needs AWS credentials and nothing
    /// else, no store and no running server.
    EmergencyDetach {
        /// The policy: p-...
        #[arg(long, value_name = "ID")]
        policy: String,
        /// Only from this root, OU or account; may be repeated.
        #[arg(long = "target", value_name = "ID", value_delimiter = ',')]
        targets: Vec<ringfence_domain::id::NodeId>,
        /// Say what it would be detached from, change nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Subcommand)]
enum JoinToken {
    /// Make one, and print it once: the store keeps its hash.
    Create {
        /// What to call it, for example the site of the agents.
        name: String,
    },
    /// List the tokens by name.
    List,
    /// Forget the tokens of a name: agents that use them are let in no more.
    Revoke {
        /// The name.
        name: String,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    ringfence_agent::process::log_to_stderr();
    ringfence_agent::process::end(run(args).await)
}

async fn run(args: Args) -> anyhow::Result<()> {
    let config = ringfence_agent::config::load(args.config.as_deref())?;
    match args.command {
        None => {}
        Some(Command::JoinToken(command)) => return join_token(&config.store_url, command).await,
        Some(Command::EmergencyDetach { policy, targets, dry_run }) => {
            let cloud = ringfence_aws::Cloud::new(config.aws).await.map_err(anyhow::Error::msg)?;
            let out = &mut std::io::stdout();
            return ringfence_server::emergency::detach(&cloud, &policy, &targets, dry_run, out)
                .await;
        }
    }
    let names = ringfence_agent::Names::exact();
    let ready = |address| tracing::info!("ringfence-server ready on {address}");
    let stop = ringfence_agent::process::asked_to_stop();
    ringfence_server::run(config, names, ready, stop).await
}

/// Makes, lists and forgets join tokens, straight in the store.
async fn join_token(store: &str, command: JoinToken) -> anyhow::Result<()> {
    use ringfence_domain::audit::Actor;
    use ringfence_server::store::{self, Token};
    use std::io::Write;
    let store = store::open(store).await?;
    let mut out = std::io::stdout();
    // Whoever can write to the store's file or database is its operator.
    let (actor, now) = (Actor::system("operator"), ringfence_server::app::now());
    match command {
        JoinToken::Create { name } => {
            anyhow::ensure!(!name.trim().is_empty(), "the name of a token must not be empty");
            let reserved = ringfence_server::CONFIGURED_TOKEN;
            anyhow::ensure!(
                name != reserved,
                "{reserved} is the name of the configured token: choose another"
            );
            // Two random UUIDs: 244 bits.
            let token =
                format!("rft-{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
            let hash = ringfence_domain::hash::sha256(token.as_bytes());
            let event = actor.did(now, "join-token.create", &name, "");
            store.put_token(&Token { hash, name, created_at: now }, Some(&event)).await?;
            writeln!(out, "{token}")?;
        }
        JoinToken::List => {
            for token in store.tokens().await? {
                writeln!(out, "{}  made {}", token.name, token.created_at)?;
            }
        }
        JoinToken::Revoke { name } => {
            let event = actor.did(now, "join-token.revoke", &name, "");
            let gone = store.revoke_tokens(&name, &event).await?;
            anyhow::ensure!(gone > 0, "there is no join token named {name}");
            writeln!(out, "{gone} revoked")?;
        }
    }
    Ok(())
}
