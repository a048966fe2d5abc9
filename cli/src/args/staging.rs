//! `ringfence staging`

use super::span;
use clap::Subcommand;
use ringfence_domain::id::{AccountId, NodeId};
use ringfence_domain::time::Span;

#[derive(Subcommand)]
pub(crate) enum Staging {
    /// Show what changes for accounts in a staging OU, and plan their way there and back; nobody is moved.
    Plan {
        /// The OU where policies are tried.
        #[arg(long)]
        ou: NodeId,
        /// The accounts, in the order in which they go.
        #[arg(long, value_delimiter = ',', required = true)]
        account: Vec<AccountId>,
        /// How many are there at a time.
        #[arg(long, default_value_t = 1)]
        batch: i32,
        /// How long each batch stays.
        #[arg(long, value_parser = span, default_value = "1h")]
        stay: Span,
        /// Although AWS Control Tower is at work: it counts a moved account as drift.
        #[arg(long)]
        allow_control_tower: bool,
        /// Check, store nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Begin to move them, batch by batch, each home before the next.
    Start {
        id: String,
        #[arg(long)]
        wait: bool,
        #[arg(long, value_parser = span)]
        timeout: Option<Span>,
    },
    /// Show where the accounts are.
    Status { id: String },
    /// List all, newest first.
    List,
    /// Move nobody; who is there stays.
    Pause {
        id: String,
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Go on.
    Resume {
        id: String,
        #[arg(long, default_value = "")]
        reason: String,
        #[arg(long)]
        wait: bool,
        #[arg(long, value_parser = span)]
        timeout: Option<Span>,
    },
    /// Bring every account home.
    Abort {
        id: String,
        #[arg(long, default_value = "")]
        reason: String,
        #[arg(long)]
        wait: bool,
        #[arg(long, value_parser = span)]
        timeout: Option<Span>,
    },
}
