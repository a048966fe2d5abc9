//! What is said about plans and remediations.

use super::{Scope, span};
use clap::{Args, Subcommand, ValueEnum};
use ringfence_domain::remediation::State;
use ringfence_domain::time::Span;

/// Where the twin goes.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Strategy {
    /// Beside the original, which is not touched.
    SideBySide,
    /// Into the original's place; the original is kept under another name.
    Swap,
    /// The same, by a blue/green deployment of AWS's: applications go on until its switchover.
    BlueGreen,
}

/// How writes stop.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Quiesce {
    /// The owner stops them: it is waited until nobody is connected.
    Observe,
    /// The database is cut off by the isolation group.
    Isolate,
    /// The same, and it is stopped from its snapshot to its cutover.
    Stop,
    /// Somebody says so (`remediation confirm`), and CloudWatch must agree from then on.
    Confirm,
}

#[derive(Subcommand)]
pub(crate) enum Plan {
    /// Plan the encryption of findings.
    Create {
        /// Every open finding that is not waived: of databases, or of snapshots.
        #[arg(long, conflicts_with_all = ["findings", "ous", "accounts", "regions"])]
        all: bool,
        /// This finding; may be repeated.
        #[arg(long = "finding", value_name = "ID", value_delimiter = ',', conflicts_with_all = ["ous", "accounts", "regions"])]
        findings: Vec<String>,
        #[command(flatten)]
        scope: Scope,
        /// Where the twin goes: beside the original as encrypted-NAME, or into its place, so that the
        /// endpoint stays.
        #[arg(long, value_enum, default_value = "side-by-side")]
        strategy: Strategy,
        /// How writes are made to stop before the snapshot of a swap.
        #[arg(long, value_enum, default_value = "observe")]
        quiesce: Quiesce,
        /// Try blue/green deployments also where AWS was not seen yet to encrypt one, in that account and for that
        /// engine.
        #[arg(long)]
        unproven: bool,
        /// Cut over as soon as the twin is verified; else `remediation cutover` does.
        #[arg(long)]
        auto_cutover: bool,
        /// Make the isolation group of a VPC that has none (remediation.isolation_name): a security group without a
        /// rule; approving the plan approves it.
        #[arg(long)]
        make_isolation_groups: bool,
        /// Say that you know what runs by itself in the copies: jobs, links, subscriptions.
        #[arg(long)]
        acknowledge_jobs: bool,
        /// Plan old snapshots instead of databases: encrypted copies of them (`scan start --snapshots` finds
        /// them).
        #[arg(long, conflicts_with_all = ["strategy", "quiesce", "auto_cutover", "make_isolation_groups", "unproven", "acknowledge_jobs"])]
        snapshots: bool,
        /// Show it, store nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Show a plan as people approve it.
    Show { id: String },
    /// List plans, newest first.
    List,
}

/// A state, by its name in JSON.
fn state(text: &str) -> Result<State, String> {
    let found = State::ALL.into_iter().find(|s| s.as_str() == text.replace('-', "_"));
    found.ok_or_else(|| {
        let all = State::ALL.map(State::as_str).join(", ");
        format!("`{text}` is none of {all}")
    })
}

#[derive(Subcommand)]
pub(crate) enum Remediation {
    /// Carry out an approved plan, if it still holds.
    Apply {
        plan: String,
        /// Wait until each database is verified, stopped, cancelled or paused.
        #[arg(long)]
        wait: bool,
        /// How long to wait.
        #[arg(long, value_parser = span)]
        timeout: Option<Span>,
        /// 0 to 100: remediations with a higher one begin first.
        #[arg(long, default_value_t = 0)]
        priority: i32,
        /// Read again and check, start nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// List remediations.
    List {
        /// Only those of this plan.
        #[arg(long, default_value = "")]
        plan: String,
        /// Only in these states; several by commas (verified,stopped are those that wait for somebody).
        #[arg(long = "state", value_name = "STATE", value_delimiter = ',', value_parser = state)]
        states: Vec<State>,
    },
    /// Show one remediation with its steps.
    Get { id: String },
    /// Ask AWS for nothing more until it is resumed; what was asked for goes on in AWS.
    Pause(Order),
    /// Go on; what stopped so far counts no more against remediation.failure_budget.
    Resume(Order),
    /// End it: its snapshots are deleted, or its blue/green deployment with the green environment; the original and a
    /// twin that was restored stay.
    Cancel(Order),
    /// Begin again what stopped, was cancelled or discarded, with what stands, on the same approval.
    Retry(Order),
    /// Put verified twins into their originals' places, so that the endpoints stay (plans with --strategy swap or
    /// blue-green).
    Cutover(Order),
    /// Put originals back, while nobody has connected to the twins; of a blue/green deployment, withdraw a switchover
    /// that AWS has not done.
    Rollback(Order),
    /// Say that nobody writes to originals any more (plans with --quiesce confirm).
    Confirm(Order),
    /// Delete twins that nobody ever connected to, or green environments.
    Discard(Order),
    /// Delete the original of a cutover, or an old snapshot whose copy is verified, after its hold and on
    /// approvals of its own.
    Decommission {
        /// The remediation.
        id: String,
        /// The name that the original has now, to say that you mean it.
        #[arg(long, value_name = "NAME")]
        confirm: String,
        /// Why; it goes into the audit log.
        #[arg(long)]
        reason: String,
        /// Say what would change, change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Follow one remediation to its end.
    Watch { id: String },
}

/// What a person says to remediations under way.
#[derive(Args)]
pub(crate) struct Order {
    /// A remediation, or a plan: then all of its remediations that this is for.
    pub(crate) id: String,
    /// Why; it goes into the audit log.
    #[arg(long)]
    pub(crate) reason: String,
    /// Say what would change, change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}
