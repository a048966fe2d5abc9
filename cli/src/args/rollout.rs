//! `ringfence rollout`

use super::span;
use clap::Subcommand;
use ringfence_domain::time::Span;
use std::path::PathBuf;

#[derive(Subcommand)]
pub(crate) enum Rollout {
    /// Plan a rollout from a file; nothing is attached.
    Plan {
        /// The rollout file (TOML): policy, then [[stage]] with name, targets, and how long it bakes.
        #[arg(short, long = "file", value_name = "FILE")]
        file: PathBuf,
        /// Let the root be the last target: it binds every account at once.
        #[arg(long)]
        allow_root: bool,
        /// Check, store nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Say what a policy would have denied lately, from CloudTrail's memory of every account; changes nothing.
    Simulate {
        /// A planned rollout.
        #[arg(required_unless_present = "file", conflicts_with = "file")]
        id: Option<String>,
        /// A rollout file, as for plan.
        #[arg(short, long = "file", value_name = "FILE")]
        file: Option<PathBuf>,
        /// How far back: CloudTrail remembers 90d.
        #[arg(long, value_parser = span, default_value = "90d")]
        since: Span,
        /// Read CloudTrail again, also where it was read a while ago (rollout.history_max_age).
        #[arg(long)]
        fresh: bool,
        /// Records of a trail instead: its log files, `aws cloudtrail lookup-events`, or one record a line.
        #[arg(long, value_name = "FILE", conflicts_with_all = ["since", "fresh"])]
        events: Option<PathBuf>,
        #[arg(long, value_parser = span)]
        timeout: Option<Span>,
    },
    /// Approve a rollout; never your own.
    Approve {
        id: String,
        #[arg(long)]
        reason: String,
        #[arg(long)]
        hash: Option<String>,
    },
    /// Begin to attach, target by target.
    Start {
        id: String,
        #[arg(long)]
        wait: bool,
        #[arg(long, value_parser = span)]
        timeout: Option<Span>,
    },
    /// Show a rollout.
    Status { id: String },
    /// Print a rollout as a page for a change board, in Markdown: what, where, why it is safe, and the way back. Reads what the
    /// policy would have denied lately, as simulate does.
    Page {
        id: String,
        /// Leave out what it would have denied lately.
        #[arg(long)]
        no_history: bool,
        #[arg(long, value_parser = span)]
        timeout: Option<Span>,
    },
    /// List rollouts, newest first.
    List,
    /// Attach nothing more; keep what is attached.
    Pause {
        id: String,
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Go on after a pause or a gate that refused.
    Resume {
        id: String,
        #[arg(long, default_value = "")]
        reason: String,
        #[arg(long)]
        wait: bool,
        #[arg(long, value_parser = span)]
        timeout: Option<Span>,
    },
    /// End the bake of a stage before its time.
    Promote {
        id: String,
        #[arg(long)]
        reason: String,
    },
    /// Detach, in reverse order, what this rollout attached.
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
