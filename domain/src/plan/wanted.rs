//! How the databases of a plan are to be replaced, and when.

use super::checks::{Checks, Verdict};
use super::isolation::{self, Groups};
use super::{Guess, Past};
use crate::finding::Resource;
use crate::id::AccountId;
use crate::isolation::Isolation;
use crate::rds::JOBS_TAG;
use crate::remediation::{Green, Quiesce, Swap, stoppable};
use crate::window::{self, Window};
use std::collections::BTreeSet;
use std::str::FromStr;

/// Where the twins of a plan go, and by what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Beside the original, which is not touched.
    #[default]
    SideBySide,
    /// Into its place, by snapshot, restore and renames.
    Swap,
    /// Into its place, by a blue/green deployment of AWS's.
    BlueGreen,
}

impl Strategy {
    /// All strategies.
    pub const ALL: [Strategy; 3] = [Strategy::SideBySide, Strategy::Swap, Strategy::BlueGreen];

    /// The name in JSON and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Strategy::SideBySide => "side-by-side",
            Strategy::Swap => "swap",
            Strategy::BlueGreen => "blue-green",
        }
    }

    /// How a swap says that it goes.
    pub fn of(swap: Option<&Swap>) -> Strategy {
        match swap {
            None => Strategy::SideBySide,
            Some(swap) if swap.green.is_some() => Strategy::BlueGreen,
            Some(_) => Strategy::Swap,
        }
    }

    /// How much it counts that something is not known: that much, and more where a deployment is to be made.
    pub(super) fn needs(self, otherwise: Verdict) -> Verdict {
        if self == Strategy::BlueGreen { Verdict::Block } else { otherwise }
    }
}

impl FromStr for Strategy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Strategy::ALL.into_iter().find(|s| s.as_str() == text);
        found.ok_or_else(|| format!("`{text}` is none of side-by-side, swap and blue-green"))
    }
}

/// How the databases of a plan are to be replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Where the twin goes.
    pub strategy: Strategy,
    /// How writes are made to stop first.
    pub quiesce: Quiesce,
    /// Whether the cutover follows as soon as the twin is verified.
    pub auto: bool,
    /// Whether blue/green deployments are tried where AWS was not seen to encrypt one (`plan create --unproven`).
    pub unproven: bool,
    /// Where it was seen to: accounts and engines.
    pub proven: BTreeSet<(AccountId, String)>,
    /// The isolation groups.
    pub isolation: Isolation,
    /// Whether they are made where they are missing (`plan create --make-isolation-groups`).
    pub make_groups: bool,
    /// When work may begin (`remediation.window`).
    pub window: window::Rule,
    /// Whether it was said that what runs by itself in the copies is known.
    pub jobs: Jobs,
    /// How long twins of the past took.
    pub past: Vec<Past>,
    /// What is taken for true before there is a past.
    pub guess: Guess,
}

/// Whether people must say that they know what runs by itself in a copy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Jobs {
    /// The plan says what may; who approves it knows.
    #[default]
    Told,
    /// Each database must be tagged, or the plan's author must say so
    /// (`remediation.require_jobs_acknowledged`).
    Required,
    /// The plan's author said so (`plan create --acknowledge-jobs`).
    Acknowledged,
}

/// What runs by itself in a copy of a database of this engine.
fn runs(engine: &str) -> &'static str {
    match engine {
        e if e.contains("mysql") || e.starts_with("mariadb") => {
            "events (event_scheduler) and replication from outside"
        }
        e if e.contains("postgres") => "pg_cron jobs, subscriptions and foreign tables",
        e if e.starts_with("oracle") => "scheduler jobs and database links",
        e if e.starts_with("sqlserver") => "SQL Server Agent jobs and linked servers",
        e if e.starts_with("db2") => "scheduled administrative tasks and federated tables",
        _ => "jobs, links and subscriptions",
    }
}

/// A restored copy is alive: what the original does by itself, it does too.
pub(super) fn jobs(resource: &Resource, jobs: Jobs, checks: &mut Checks) {
    let tagged = match resource {
        Resource::Instance { instance, .. } => instance.jobs_known,
        Resource::Cluster { cluster, .. } => cluster.jobs_known,
        Resource::Snapshot { .. } => return, // nothing runs in one
    };
    let (name, runs) = (resource.name(), runs(resource.engine()));
    let alive = format!("{name}: the copy is alive: {runs} of the original run in it too");
    match jobs {
        Jobs::Acknowledged => {
            checks.warn("jobs", [format!("{alive}; the plan's author says that they are known")]);
        }
        _ if tagged => checks.warn("jobs", None),
        Jobs::Told => checks.warn("jobs", [alive]),
        Jobs::Required => checks.block(
            "jobs",
            [format!(
                "{alive}: tag {name} with {JOBS_TAG}=acknowledged, or plan with --acknowledge-jobs"
            )],
        ),
    }
}

/// When work on this resource may begin, or why nobody knows.
pub(super) fn windows(resource: &Resource, rule: &window::Rule) -> Result<Vec<Window>, String> {
    let (tag, own) = match resource {
        Resource::Instance { instance, .. } => {
            (&instance.window, &instance.settings.preferred_maintenance_window)
        }
        Resource::Cluster { cluster, .. } => {
            (&cluster.window, &cluster.settings.preferred_maintenance_window)
        }
        // No database notices that a snapshot is copied.
        Resource::Snapshot { .. } => return Ok(Vec::new()),
    };
    let found = rule.of(tag.as_deref(), own.as_deref());
    found.map_err(|why| format!("{}: {why}", resource.name()))
}

/// The VPC of a database.
pub(super) fn vpc(resource: &Resource) -> Option<&str> {
    match resource {
        Resource::Instance { instance, .. } => instance.vpc.as_deref(),
        Resource::Cluster { members, .. } => members.iter().find_map(|m| m.vpc.as_deref()),
        Resource::Snapshot { .. } => None,
    }
}

/// How the twin of this resource takes its place, or why it cannot; `groups` are those of its region.
pub(super) fn swap(
    resource: &Resource,
    groups: Option<&Groups>,
    wanted: &Wanted,
) -> Result<Option<Swap>, String> {
    if wanted.strategy == Strategy::SideBySide {
        return Ok(None);
    }
    let name = resource.name();
    if let Resource::Snapshot { .. } = resource {
        return Err(format!("{name} is a snapshot: it has no place"));
    }
    let vpc = vpc(resource)
        .ok_or_else(|| format!("{name}: its VPC is not known, so it cannot be isolated"))?;
    let own = match resource {
        Resource::Instance { instance, .. } => &instance.settings.vpc_security_group_ids,
        Resource::Cluster { cluster, .. } => &cluster.settings.vpc_security_group_ids,
        Resource::Snapshot { .. } => return Ok(None),
    };
    if wanted.quiesce == Quiesce::Stop && !stoppable(resource) {
        return Err(format!(
            "{name} cannot be stopped (AWS stops no replica, no source of one, and no Multi-AZ SQL Server): plan it with --quiesce isolate"
        ));
    }
    let (group, make) =
        isolation::choose(vpc, groups, wanted).map_err(|why| format!("{name}: {why}"))?;
    if own.contains(&group) {
        return Err(format!(
            "{name} is in {group}, the isolation group of {vpc}: it is cut off already, or the group lets its clients in; put it into its own groups first"
        ));
    }
    Ok(Some(Swap {
        isolation: group,
        make,
        quiesce: wanted.quiesce,
        auto: wanted.auto,
        green: (wanted.strategy == Strategy::BlueGreen).then(Green::default),
        ..Swap::default()
    }))
}
