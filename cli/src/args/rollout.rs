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
        /// Records of a trail instead: its log files (.gz, too), `aws cloudtrail lookup-events`, one record a line, or what a
        /// query of Athena or CloudTrail Lake gives, as CSV or JSON.
        #[arg(long, value_name = "FILE", conflicts_with_all = ["since", "fresh"])]
        events: Option<PathBuf>,
        #[arg(long, value_parser = span)]
        timeout: Option<Span>,
    },
    /// Prove that probes make nothing, before the first rollout file says `probe = true`: tries the two creates that a probe
    /// consists of in a sandbox account where nothing denies them, and wants both refused for want of a subnet group.
    Probe {
        /// A member account that may be tried in.
        #[arg(long)]
        account: String,
        /// One of its regions.
        #[arg(long)]
        region: String,
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
    /// Show a rollout as a tree.
    Status {
        id: String,
        /// Go on showing it at each change, until it rests.
        #[arg(long)]
        watch: bool,
        /// As a JUnit report instead: a suite for each stage, a case for each target and check.
        #[arg(long, conflicts_with = "watch")]
        junit: bool,
    },
    /// Print a rollout file for the whole organization: the least risk first, large OUs a few accounts at a time. Changes
    /// nothing.
    Propose {
        /// The policy that the file names: rds-encryption, or a path.
        #[arg(long, default_value = "rds-encryption")]
        policy: String,
        /// Accounts that come before everything else.
        #[arg(long, default_value_t = 1)]
        canaries: i32,
        /// An OU with more accounts than this grows by --percents.
        #[arg(long, default_value_t = 20)]
        large: i32,
        /// Of a large OU, how much is attached account by account first; its OU takes their place.
        #[arg(long, value_delimiter = ',', default_value = "5,25")]
        percents: Vec<i32>,
        /// Accounts in one stage at most; an OU that has more is a stage of its own.
        #[arg(long, default_value_t = 200)]
        max_accounts: i32,
        /// How long each stage bakes.
        #[arg(long, value_parser = span, default_value = "24h")]
        bake: Span,
        /// The key of the tag of OUs that names their environment; without it, and where an OU has no such tag, names say
        /// it. A call for each OU.
        #[arg(long, default_value = "")]
        environment_tag: String,
    },
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
    /// End the bake of a stage before its time, or let it pass without its probe.
    Promote {
        id: String,
        #[arg(long)]
        reason: String,
    },
    /// Let a target go without; resume goes on. Only where it is not attached.
    Skip {
        id: String,
        /// The OU, account or root.
        target: String,
        #[arg(long)]
        reason: String,
    },
    /// Attach to a skipped target after all, through its gate.
    Retry {
        id: String,
        /// The OU, account or root.
        target: String,
        #[arg(long)]
        reason: String,
    },
    /// Take back a rollout that was carried out: the earlier version that it replaced is attached again first.
    Undo {
        id: String,
        /// A still earlier version that is to stand again: those in between are undone one after the other.
        #[arg(long, value_name = "ID", value_parser = clap::builder::NonEmptyStringValueParser::new())]
        to: Option<String>,
        #[arg(long)]
        reason: String,
        #[arg(long)]
        wait: bool,
        #[arg(long, value_parser = span)]
        timeout: Option<Span>,
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
