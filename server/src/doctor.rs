//! What is missing before a first run.

use crate::app::{App, Fault, now};
use crate::probes;
use crate::scans;
use crate::scope::Scope;
use ringfence_domain::audit::Actor;
use ringfence_domain::hash;
use ringfence_domain::id::AccountId;
use ringfence_domain::ledger::{Cell, CellState, REGION_UNKNOWN};
use ringfence_domain::org::{AccountState, Node};
use ringfence_domain::probe::Off;
use ringfence_domain::time::Span;
use ringfence_domain::work::Options;
use std::collections::{BTreeMap, BTreeSet};

/// How far the database's clock and ours may be apart: leases and evidence are dated by both.
const SKEW_MAX: i64 = 5_000;

/// How long the agents have for the sample.
const SAMPLE_FOR: Span = Span::seconds(60);

/// So many of the same trouble are named.
const SAID_MAX: usize = 3;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Good.
    Ok,
    /// Works, and should be known.
    Warning,
    /// Does not work.
    Failed,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was checked.
    pub name: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// What was found.
    pub message: String,
    /// What to do; empty if nothing.
    pub fix: String,
}

fn check(name: &'static str, outcome: Outcome, message: impl Into<String>, fix: &str) -> Check {
    Check { name, outcome, message: message.into(), fix: fix.to_owned() }
}

/// Whether rollouts may be probed: off is how it begins.
async fn probes(app: &App) -> Check {
    match probes::proven(app).await {
        Ok(Ok(proof)) => {
            let at = proof.answered.as_ref().map(|a| a.at.to_string()).unwrap_or_default();
            check("probes", Outcome::Ok, format!("proven in {} at {at}", proof.place), "")
        }
        Ok(Err(off @ Off::Made(..))) => {
            let hint = "look at it, delete it, prove probes anew";
            check("probes", Outcome::Warning, off.to_string(), hint)
        }
        Ok(Err(off @ Off::Unproven)) => check("probes", Outcome::Ok, off.to_string(), ""),
        Err(fault) => check("probes", Outcome::Failed, fault.to_string(), "look at the store"),
    }
}

/// Runs all checks. A check that fails does not stop those that can still run.
pub async fn run(app: &App, actor: &Actor, sample: usize) -> Vec<Check> {
    let mut checks = Vec::new();
    store(app, &mut checks).await;
    let caller = match app.cloud.caller().await {
        Ok(caller) => {
            checks.push(check("credentials", Outcome::Ok, caller.arn.clone(), ""));
            caller
        }
        Err(e) => {
            let fix = "give the server AWS credentials of the management account or of a delegated administrator";
            checks.push(check("credentials", Outcome::Failed, e.to_string(), fix));
            return checks;
        }
    };
    organization(app, &caller.account, &mut checks).await;
    let split = match app.config.embedded_agent {
        true => check(
            "split of rights",
            Outcome::Warning,
            "the embedded agent shares the server's process and credentials",
            "in production, set server.embedded_agent = false and run ringfence-agent with a role of its own",
        ),
        false => check("split of rights", Outcome::Ok, "agents run in processes of their own", ""),
    };
    checks.push(split);
    checks.push(probes(app).await);
    let read = async { app.cloud.tree(app.cloud.account_ids().await?).await };
    let nodes = match read.await {
        Ok(nodes) => nodes,
        Err(e) => {
            checks.push(check(
                "accounts",
                Outcome::Failed,
                e.to_string(),
                "allow organizations:List* to the caller",
            ));
            return checks;
        }
    };
    members(app, actor, &nodes, sample, &mut checks).await;
    checks
}

async fn store(app: &App, checks: &mut Vec<Check>) {
    match app.store.clock().await {
        Err(e) => checks.push(check(
            "store",
            Outcome::Failed,
            e.to_string(),
            "check store.url and that the database answers",
        )),
        Ok(theirs) => {
            checks.push(check(
                "store",
                Outcome::Ok,
                crate::store::without_password(&app.config.store_url),
                "",
            ));
            let skew = now().since(theirs).0.abs();
            let clock = match skew <= SKEW_MAX {
                true => check("clock", Outcome::Ok, format!("{skew} ms from the database's"), ""),
                false => check(
                    "clock",
                    Outcome::Failed,
                    format!("{skew} ms from the database's"),
                    "synchronize the clocks (NTP)",
                ),
            };
            checks.push(clock);
        }
    }
}

async fn organization(app: &App, account: &AccountId, checks: &mut Vec<Check>) {
    let organization = match app.cloud.organization().await {
        Ok(organization) => organization,
        Err(e) => {
            let fix = "use credentials of an account that belongs to an organization";
            checks.push(check("organization", Outcome::Failed, e.to_string(), fix));
            return;
        }
    };
    let features = match organization.feature_set.as_str() {
        "ALL" => {
            check("organization", Outcome::Ok, format!("{} with all features", organization.id), "")
        }
        other => check(
            "organization",
            Outcome::Failed,
            format!("{} has feature set {other}", organization.id),
            "enable all features in AWS Organizations: SCPs need them",
        ),
    };
    checks.push(features);
    let kind = match organization.management_account == account.as_str() {
        true => check("caller", Outcome::Ok, format!("{account} is the management account"), ""),
        false => check(
            "caller",
            Outcome::Warning,
            format!(
                "{account} is a member account; it works if it is a delegated administrator whose delegation policy covers SCPs"
            ),
            "`aws organizations list-delegated-administrators` shows who is",
        ),
    };
    checks.push(kind);
    let scps = match app.cloud.root().await {
        Ok((_, true)) => check("SCP policy type", Outcome::Ok, "enabled on the root", ""),
        Ok((root, false)) => check(
            "SCP policy type",
            Outcome::Failed,
            format!("not enabled on {}", root.id),
            "run `aws organizations enable-policy-type --policy-type SERVICE_CONTROL_POLICY`",
        ),
        Err(e) => check(
            "SCP policy type",
            Outcome::Failed,
            e.to_string(),
            "allow organizations:ListRoots to the caller",
        ),
    };
    checks.push(scps);
}

/// Has the agents enter a sample of accounts, and looks at what they found: the way that a scan
/// goes, so that what works here works there.
async fn members(app: &App, actor: &Actor, nodes: &[Node], sample: usize, checks: &mut Vec<Check>) {
    let active: Vec<AccountId> = nodes
        .iter()
        .filter(|n| n.account_state() == Some(&AccountState::Active))
        .filter_map(|n| n.id.account())
        .collect();
    // Spread over the list, so that old and new accounts are among them.
    let every = active.len().div_ceil(sample.max(1)).max(1);
    let some: Vec<AccountId> = active.iter().step_by(every).cloned().collect();
    let names: Vec<String> = some.iter().map(ToString::to_string).collect();
    let scan = format!("sc-{}", hash::short(&format!("doctor {} {}", now().0, app.owner), 12));
    let cells = async {
        let options = Options { keys: true, ..Options::default() };
        let start = scans::Start::demand(&scan, &some, &Scope::default(), options);
        scans::start(app, actor, start).await?;
        if !scans::wait(app, &scan, SAMPLE_FOR).await? {
            return Err(Fault::Late(format!(
                "no agent was done with {} within {SAMPLE_FOR}",
                names.join(", ")
            )));
        }
        scans::cells(app, &some).await
    };
    match cells.await {
        Err(e) => checks.push(check(
            "role",
            Outcome::Failed,
            e.to_string(),
            "is an agent running? server.embedded_agent, or a ringfence-agent with agent.server",
        )),
        Ok(cells) => judge(app, &some, &cells, checks),
    }
}

/// So much is said; more is counted.
fn some(all: Vec<String>) -> String {
    let more = all.len().saturating_sub(SAID_MAX);
    let said = all.into_iter().take(SAID_MAX).collect::<Vec<_>>().join("; ");
    if more > 0 { format!("{said}; and {more} more like these") } else { said }
}

fn judge(app: &App, accounts: &[AccountId], cells: &[Cell], checks: &mut Vec<Check>) {
    let role = &app.config.aws.role_name;
    let bad: BTreeSet<String> = cells
        .iter()
        .filter(|c| c.state.failed())
        .map(|c| format!("{}: {} ({})", c.account, c.state, c.reason))
        .collect();
    let n = accounts.len();
    let fenced = cells.iter().any(|c| c.state == CellState::ScpDenied);
    let denied = cells.iter().any(|c| c.state == CellState::Denied);
    let fix = match (fenced, denied) {
        (true, false) => {
            "exempt the role in the service control policies that deny it (ArnNotLike on aws:PrincipalArn)"
        }
        (true, true) => {
            "where the role is missing, deploy deploy/member-role.yaml; where a service control policy denies it, exempt it there"
        }
        (false, false) => "the reason says what; then run `ringfence doctor` again",
        (false, true) => {
            "deploy deploy/member-role.yaml to every account, with this server's principal and aws.external_id"
        }
    };
    checks.push(match bad.is_empty() {
        true => {
            check("role", Outcome::Ok, format!("{role} works in {n} of {n} accounts tried"), "")
        }
        false => check("role", Outcome::Failed, some(bad.into_iter().collect()), fix),
    });
    let listed = cells.iter().any(|c| c.regions_source.as_str() == "configured");
    if listed {
        let fix = "allow account:ListRegions to the role, or set rollout.accept_configured_regions if aws.regions is complete";
        checks.push(check(
            "regions",
            Outcome::Warning,
            "ListRegions does not answer in the accounts; aws.regions is used",
            fix,
        ));
    } else if cells.iter().any(|c| c.region == REGION_UNKNOWN && c.state == CellState::Error) {
        checks.push(check(
            "regions",
            Outcome::Failed,
            "ListRegions does not answer in the accounts, and aws.regions is empty",
            "set aws.regions",
        ));
    } else {
        checks.push(check("regions", Outcome::Ok, "read from each account", ""));
    }
    let mut trouble: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for cell in cells {
        if let Some(why) =
            cell.key.as_ref().and_then(|key| key.trouble(&cell.account, &cell.region))
        {
            trouble.entry(why).or_default().insert(cell.account.as_str());
        }
    }
    let trouble: Vec<String> = trouble
        .into_iter()
        .map(|(why, accounts)| {
            let first = accounts.first().copied().unwrap_or_default();
            format!("in {} of {n} accounts, for example {first}: {why}", accounts.len())
        })
        .collect();
    let with_key = cells.iter().filter(|c| c.key.is_some()).count();
    checks.push(match trouble.is_empty() {
        true => check(
            "keys",
            Outcome::Ok,
            format!("{} is usable in {with_key} cells tried", app.config.key.alias),
            "",
        ),
        false => check(
            "keys",
            Outcome::Warning,
            some(trouble),
            "databases in these cells are blocked until the key is there",
        ),
    });
}
