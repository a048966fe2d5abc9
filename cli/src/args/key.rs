//! What is said about keys.

use super::{Scope, span};
use clap::Subcommand;
use ringfence_domain::time::Span;

#[derive(Subcommand)]
pub(crate) enum Key {
    /// Plan what is missing for each account and region to have its key: the key, its yearly rotation, the alias,
    /// and the policy statements that let the member role use it through RDS. Nothing is changed in AWS until it is
    /// approved and applied.
    Ensure {
        #[command(flatten)]
        scope: Scope,
        /// Every enabled region of the scope, and not only those where something is to be encrypted.
        #[arg(long)]
        everywhere: bool,
        /// Show it, store nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Do what an approved plan says, or what is left of it.
    Apply {
        /// The plan: kp-...
        id: String,
        /// Wait until each key is done or stopped.
        #[arg(long)]
        wait: bool,
        /// How long to wait.
        #[arg(long, value_parser = span)]
        timeout: Option<Span>,
        /// Check that it may be applied, change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Show a plan as people approve it, and how far it is.
    Show {
        /// The plan: kp-...
        id: String,
    },
    /// List plans, newest first.
    Plans,
    /// List the keys of each account and region, and how many databases depend on each, as of the last scan.
    List {
        #[command(flatten)]
        scope: Scope,
    },
}
