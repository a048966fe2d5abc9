//! The command line, as clap reads it.

mod key;
mod remediation;
mod rollout;
mod staging;

pub(crate) use key::Key;
pub(crate) use remediation::{Order, Plan, Quiesce, Remediation, Strategy};
pub(crate) use rollout::Rollout;
pub(crate) use staging::Staging;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use ringfence_domain::id::{AccountId, NodeId, Region};
use ringfence_domain::ledger::CellState;
use ringfence_domain::time::Span;
use std::path::PathBuf;

const EXIT_CODES: &str = "Exit codes:
  0 done    1 error    2 findings or changes present (--detailed-exitcode only)
  3 partial: some cells or targets failed    4 forbidden
  5 refused (stale plan, approval missing, gate not met, freeze)
  6 what was waited for failed    7 timeout, work goes on    8 server unreachable
  64 usage    130 interrupted";

/// Finds unencrypted RDS databases across an AWS organization, encrypts them, and fences the
/// organization with an SCP, stage by stage.
#[derive(Parser)]
#[command(name = "ringfence", version, after_help = EXIT_CODES)]
pub(crate) struct Args {
    /// The server.
    #[arg(
        long,
        env = "RINGFENCE_SERVER",
        default_value = "127.0.0.1:7443",
        global = true,
        help_heading = "Global options"
    )]
    pub(crate) server: String,
    /// The CA of a server with https://, as a PEM file; the system's roots unless said.
    #[arg(
        long,
        env = "RINGFENCE_CA_FILE",
        global = true,
        value_name = "FILE",
        help_heading = "Global options"
    )]
    pub(crate) ca_file: Option<PathBuf>,
    /// Who you are, for approvals and the audit log.
    /// The login name unless said.
    #[arg(long, env = "RINGFENCE_USER", global = true, help_heading = "Global options")]
    pub(crate) user: Option<String>,
    /// How to print.
    #[arg(
        short,
        long,
        value_enum,
        default_value = "table",
        global = true,
        help_heading = "Global options"
    )]
    pub(crate) output: Output,
    /// Exit with 2 when there are findings or changes.
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) detailed_exitcode: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[expect(clippy::disallowed_methods, reason = "the login name is the environment's")]
pub(crate) fn login_name() -> String {
    let name = |key| std::env::var(key).ok().filter(|n: &String| !n.is_empty());
    name("LOGNAME").or_else(|| name("USER")).unwrap_or_else(|| "root".into())
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// One document.
    Json,
}

/// What a command is about. Nothing means everything; all may be repeated.
#[derive(ClapArgs, Clone)]
pub(crate) struct Scope {
    /// An OU (or the root) and all accounts under it.
    #[arg(long = "ou", value_name = "OU", value_delimiter = ',')]
    pub(crate) ous: Vec<NodeId>,
    /// An account.
    #[arg(long = "account", value_name = "ACCOUNT", value_delimiter = ',')]
    pub(crate) accounts: Vec<AccountId>,
    /// A region.
    #[arg(long = "region", value_name = "REGION", value_delimiter = ',')]
    pub(crate) regions: Vec<Region>,
}

fn span(text: &str) -> Result<Span, String> {
    Span::parse(text).ok_or_else(|| "it must be a duration such as 20s, 15m or 24h".to_owned())
}

fn cell_state(text: &str) -> Result<CellState, String> {
    let all = CellState::ALL.map(CellState::as_str).join(", ");
    CellState::parse(text).ok_or_else(|| format!("it must be one of {all}"))
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// The organization: its tree of OUs and accounts.
    #[command(subcommand)]
    Org(Org),
    /// Look for what breaks a control.
    #[command(subcommand)]
    Scan(Scan),
    /// What was found.
    #[command(subcommand)]
    Finding(Finding),
    /// What would be done: immutable, hashed, approved by another person.
    #[command(subcommand)]
    Plan(Plan),
    /// Approve a plan (pl-...), a key plan (kp-...), a rollout (ro-...), a staging (st-...), a deployment (de-...) or the
    /// decommission of a remediation (rem-...); never your own.
    Approve {
        id: String,
        /// Why, for example a change number.
        #[arg(long)]
        reason: String,
        /// The hash that you read; refused if it is another one by now.
        #[arg(long)]
        hash: Option<String>,
    },
    /// The work on databases.
    #[command(subcommand)]
    Remediation(Remediation),
    /// The KMS keys that databases are encrypted under.
    #[command(subcommand)]
    Key(Key),
    /// Put the SCP up, target by target.
    #[command(subcommand)]
    Rollout(Rollout),
    /// Times in which nothing is changed in AWS.
    #[command(subcommand)]
    Freeze(Freeze),
    /// Move accounts to an OU where policies are tried, a few at a time, and back.
    #[command(subcommand)]
    Staging(Staging),
    /// The organization at a glance.
    Status {
        #[command(flatten)]
        scope: Scope,
    },
    /// Who works inside accounts, and within which limits.
    #[command(subcommand)]
    Agent(Agent),
    /// The rules of AWS Config that watch a control in the whole organization.
    #[command(subcommand)]
    Control(Control),
    /// Who did what, when, on what, why.
    #[command(subcommand)]
    Audit(Audit),
    /// Rehearse on a copy of an organization that lives in memory: nothing reaches AWS.
    /// Runs until Ctrl-C, and keeps nothing.
    Rehearse(Rehearse),
    /// Watch the whole job on a simulated organization; about a minute, and nothing reaches AWS.
    Demo,
    /// Check what a first run needs.
    Doctor {
        /// How many accounts to try the role in.
        #[arg(long, default_value_t = 5)]
        sample: i32,
    },
}

/// See [`Command::Rehearse`].
#[derive(ClapArgs)]
pub(crate) struct Rehearse {
    /// What `ringfence org export` wrote.
    #[arg(long, value_name = "ORG.json")]
    pub(crate) from: PathBuf,
    /// Where the copy's AWS API listens.
    #[arg(long, default_value = "127.0.0.1:5077", value_name = "ADDR")]
    pub(crate) listen: std::net::SocketAddr,
    /// Where its admin door listens, on loopback only; a free port unless said.
    #[arg(long, value_name = "ADDR")]
    pub(crate) admin_listen: Option<std::net::SocketAddr>,
    /// How much faster than in AWS databases change their states, 1 or more.
    #[arg(long, default_value_t = 60.0)]
    pub(crate) time_scale: f64,
    /// aws.role_name of the server that will work on it.
    #[arg(long, default_value = "RingfenceRemediation")]
    pub(crate) role: String,
    /// aws.external_id of the server that will work on it.
    #[arg(long, default_value = "")]
    pub(crate) external_id: String,
    /// Write the ground truth to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) truth: Option<PathBuf>,
}

#[derive(Subcommand)]
pub(crate) enum Org {
    /// Read the organization from AWS, and say what changed.
    Sync {
        /// Kept for scripts: sync always waits for its end.
        #[arg(long)]
        wait: bool,
        /// Read and compare, store nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Draw the stored organization.
    Tree,
    /// Write the stored organization as one JSON document: the tree, the ledger, the open findings.
    /// `ringfence rehearse` builds a copy from it.
    Export,
}

#[derive(Subcommand)]
pub(crate) enum Scan {
    /// Scan accounts; all without a scope.
    Start {
        #[command(flatten)]
        scope: Scope,
        /// Ask AWS Config for a second opinion of every cell (always, where the server has
        /// scan.aws_config).
        #[arg(long)]
        aws_config: bool,
        /// Read the KMS key of every cell, and not only where something is to be encrypted.
        #[arg(long)]
        keys: bool,
        /// Look for old snapshots that are not encrypted, too: two calls more for each cell, and one for each
        /// that is found.
        #[arg(long, conflicts_with = "candidates")]
        snapshots: bool,
        /// Look only where AWS Config's aggregator (the server's scan.aggregator) names an unencrypted
        /// database: quick, and blind where no recorder is.
        #[arg(long)]
        candidates: bool,
        /// Wait for its end, and exit with 3 if a cell was not answered.
        #[arg(long)]
        wait: bool,
        /// How long to wait.
        #[arg(long, value_parser = span)]
        timeout: Option<Span>,
    },
    /// Show one scan.
    Get { id: String },
    /// List scans, newest first.
    List,
    /// List the ledger: every account x region with its state.
    Cells {
        #[command(flatten)]
        scope: Scope,
        /// Only cells in this state; several by commas (denied,scp-denied,throttled-out,error are those that a
        /// scan was not answered in).
        #[arg(long = "state", value_name = "STATE", value_delimiter = ',', value_parser = cell_state)]
        states: Vec<CellState>,
    },
}

/// What a finding is about.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FindingKind {
    Instance,
    Cluster,
    Snapshot,
}

/// How a finding stands.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FindingState {
    Open,
    Waived,
    HeldOriginal,
    Resolved,
}

#[derive(Subcommand)]
pub(crate) enum Finding {
    /// List open findings.
    List {
        #[command(flatten)]
        scope: Scope,
        /// Resolved ones too.
        #[arg(long)]
        all: bool,
        /// Only these: instance, cluster, snapshot; may be repeated.
        #[arg(long = "kind", value_name = "KIND", value_enum, value_delimiter = ',')]
        kinds: Vec<FindingKind>,
        /// Only in these states: open, waived, held-original, resolved; may be repeated.
        #[arg(long = "state", value_name = "STATE", value_enum, value_delimiter = ',')]
        states: Vec<FindingState>,
    },
    /// Accept a finding until a date, or all that is or will be found in an account.
    Waive {
        #[arg(required_unless_present = "account", conflicts_with = "account")]
        id: Option<String>,
        /// All of this account; what could not be read there stays unknown.
        #[arg(long)]
        account: Option<String>,
        #[arg(long)]
        reason: String,
        /// A date (2027-01-31) or an RFC 3339 instant.
        #[arg(long)]
        until: String,
        /// Who answers for it.
        #[arg(long)]
        owner: String,
    },
    /// List the waivers of accounts.
    Waivers,
    /// End a waiver.
    Unwaive {
        #[arg(required_unless_present = "account", conflicts_with = "account")]
        id: Option<String>,
        /// That of this account.
        #[arg(long)]
        account: Option<String>,
        #[arg(long, default_value = "")]
        reason: String,
    },
}

#[derive(Subcommand)]
pub(crate) enum Freeze {
    /// Change nothing for a time: in the whole organization, unless a scope is given. Scans go on, and SCPs
    /// may be taken off.
    Add {
        #[command(flatten)]
        scope: Scope,
        /// A date (2027-01-31) or an RFC 3339 instant; now unless said.
        #[arg(long, default_value = "")]
        from: String,
        /// Until when, the same way: a date is its first moment, in UTC.
        #[arg(long)]
        to: String,
        /// Why; who must wait is told.
        #[arg(long)]
        reason: String,
        /// Stop also swaps whose databases are cut off or between two names: their applications then have no
        /// database until it is over. Without it they are brought to their end.
        #[arg(long)]
        midway: bool,
        /// Check, change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// End a freeze before its time.
    Lift {
        id: String,
        #[arg(long)]
        reason: String,
        /// Check, change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// List freezes, the latest first.
    List {
        /// Those that are over or were lifted too.
        #[arg(long)]
        all: bool,
    },
}

#[derive(Subcommand)]
pub(crate) enum Agent {
    /// List the agents that are alive, a line a thread.
    List,
    /// What each limit granted, what waits for it, and what AWS throttled.
    Limits,
    /// Have an agent finish what it has begun, and take nothing new.
    Drain {
        /// Its name, for all its threads, or NAME/THREAD.
        name: String,
        /// Let it take work again.
        #[arg(long)]
        undo: bool,
        /// Check, change nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Subcommand)]
pub(crate) enum Control {
    /// Plan the organization rules of a control; nothing is changed in AWS until they are approved and
    /// applied.
    Deploy {
        /// The control: rds-encryption.
        control: String,
        /// AWS Config's managed rules, as organization rules; the only kind so far.
        #[arg(long, required = true)]
        config_rule: bool,
        /// Only in this region; every one that an account has enabled unless said.
        #[arg(long = "region", value_name = "REGION", value_delimiter = ',')]
        regions: Vec<Region>,
        /// Leave this account out.
        #[arg(long = "exclude-account", value_name = "ACCOUNT", value_delimiter = ',')]
        excluded: Vec<AccountId>,
        /// Show it, store nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Put an approved deployment in place, or what is left of it.
    Apply {
        /// The deployment: de-...
        id: String,
        /// Check that it may be applied, change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Show a deployment as people approve it.
    Show { id: String },
    /// List deployments, newest first.
    List,
    /// Read from AWS how a control's rules stand in every region and account; exit with 3 if one is
    /// missing somewhere.
    Check {
        /// The control: rds-encryption.
        control: String,
        /// Only in this region.
        #[arg(long = "region", value_name = "REGION", value_delimiter = ',')]
        regions: Vec<Region>,
    },
}

#[derive(Subcommand)]
pub(crate) enum Audit {
    /// List events, newest first.
    List {
        /// Only events on this id.
        #[arg(long, default_value = "")]
        subject: String,
        /// Only events by this person or part.
        #[arg(long, default_value = "")]
        actor: String,
        /// Only this action, such as rollout.abort.
        #[arg(long, default_value = "")]
        action: String,
        /// How many.
        #[arg(long, default_value_t = 50)]
        limit: i32,
    },
    /// Check that no event was changed, removed or added since it was written. Prints the number and the seal of the newest
    /// one: kept elsewhere, they show later whether the log was cut off or written anew.
    Verify {
        /// A number and a seal that were kept, such as 812:9f3c...
        #[arg(long, value_name = "NUMBER:SEAL", value_parser = kept)]
        head: Option<(i64, String)>,
    },
}

fn kept(text: &str) -> Result<(i64, String), String> {
    let (number, seal) = text.split_once(':').unwrap_or((text, ""));
    let hex = seal.len() == 64 && seal.bytes().all(|b| b.is_ascii_hexdigit());
    match number.parse() {
        Ok(number) if hex => Ok((number, seal.to_ascii_lowercase())),
        _ => {
            Err("it must be a number and a seal of 64 hex digits, as `audit verify` prints them"
                .into())
        }
    }
}
