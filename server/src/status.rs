//! The organization at a glance, from the store alone.

use crate::app::{App, Fault, now};
use crate::scope::Scope;
use crate::store::{Filter, Kind, Row};
use ringfence_domain::finding::{Finding, FindingState, Kind as ResourceKind};
use ringfence_domain::id::{AccountId, NodeId};
use ringfence_domain::ledger::{Cell, CellState, Coverage};
use ringfence_domain::org::{NodeKind, OrgTree};
use ringfence_domain::remediation::{Remediation, State};
use ringfence_domain::rollout::Rollout;
use ringfence_domain::time::Time;
use std::collections::BTreeMap;

/// At most so many unanswered cells are listed; the counts are always whole.
const UNANSWERED_MAX: usize = 200;

/// A row of the table: an OU, account or region.
#[derive(Debug, Clone, Default)]
pub struct Line {
    /// The OU's path, the account or the region.
    pub name: String,
    /// `ou`, `account` or `region`.
    pub by: &'static str,
    /// Cells.
    pub cells: u32,
    /// Cells that were answered.
    pub answered: u32,
    /// Open findings.
    pub open: u32,
}

/// Everything that `status` shows.
#[derive(Debug, Clone)]
pub struct Status {
    /// When it was put together.
    pub as_of: Time,
    /// When the organization was read.
    pub org_as_of: Time,
    /// All accounts of the organization.
    pub accounts: u32,
    /// By their state in Organizations.
    pub accounts_by_state: BTreeMap<String, u32>,
    /// OUs.
    pub ous: u32,
    /// Cells in the scope.
    pub coverage: Coverage,
    /// Open findings in the scope.
    pub instances: u32,
    /// Open findings in the scope.
    pub clusters: u32,
    /// Of the open ones.
    pub waived: u32,
    /// Of the open ones.
    pub held: u32,
    /// By state.
    pub remediations: BTreeMap<String, u32>,
    /// All rollouts.
    pub rollouts: Vec<Rollout>,
    /// The table.
    pub lines: Vec<Line>,
    /// Cells that were asked and not answered, with their reasons.
    pub unanswered: Vec<Cell>,
}

/// Puts the status of a scope together.
pub async fn status(app: &App, scope: &Scope) -> Result<Status, Fault> {
    let tree = app.tree().await?;
    let accounts = scope.accounts(&tree)?;
    let meant = |account: &str, region: &str| {
        account.parse::<AccountId>().is_ok_and(|a| accounts.contains(&a)) && scope.region(region)
    };
    let mut states: Vec<(String, String, CellState)> = Vec::new();
    for (account, region, state) in app.store.cell_states().await? {
        let state = CellState::parse(&state).unwrap_or(CellState::Error);
        if meant(&account, &region) {
            states.push((account, region, state));
        }
    }
    let filter = Filter { state: FindingState::Open.as_str().into(), ..Filter::default() };
    let findings: Vec<(Row, Finding)> = app.all(Kind::Finding, &filter).await?;
    let findings: Vec<Finding> = findings
        .into_iter()
        .map(|(_, f)| f)
        .filter(|f| meant(f.account.as_str(), f.region.as_str()))
        .collect();
    let count = |test: &dyn Fn(&Finding) -> bool| {
        u32::try_from(findings.iter().filter(|f| test(f)).count()).unwrap_or(u32::MAX)
    };
    let at = now();
    let mut remediations: BTreeMap<String, u32> =
        State::ALL.iter().map(|s| (s.as_str().to_owned(), 0)).collect();
    let all: Vec<(Row, Remediation)> = app.all(Kind::Remediation, &Filter::default()).await?;
    for (_, rem) in all.iter().filter(|(_, r)| meant(r.account.as_str(), r.region.as_str())) {
        *remediations.entry(rem.state.as_str().to_owned()).or_default() += 1;
    }
    let rollouts: Vec<(Row, Rollout)> = app.all(Kind::Rollout, &Filter::default()).await?;
    let mut unanswered = Vec::new();
    for (account, region, state) in &states {
        if state.failed() && unanswered.len() < UNANSWERED_MAX {
            let found = app.store.cells(account, ("", ""), 1_000).await?;
            unanswered.extend(found.into_iter().filter(|c| c.region == *region));
        }
    }
    let mut by_state = BTreeMap::new();
    let (mut ous, mut total) = (0, 0);
    for node in tree.nodes() {
        match &node.kind {
            NodeKind::Root => {}
            NodeKind::Ou => ous += 1,
            NodeKind::Account { state, .. } => {
                total += 1;
                *by_state.entry(state.as_str().to_owned()).or_default() += 1;
            }
        }
    }
    Ok(Status {
        as_of: at,
        org_as_of: tree.as_of,
        accounts: total,
        accounts_by_state: by_state,
        ous,
        coverage: Coverage::new(states.iter().map(|(_, _, s)| (*s, 1))),
        instances: count(&|f| f.kind == ResourceKind::Instance),
        clusters: count(&|f| f.kind == ResourceKind::Cluster),
        waived: count(&|f| f.waived(at)),
        held: count(&|f| f.held_by.is_some()),
        remediations,
        rollouts: rollouts.into_iter().map(|(_, r)| r).collect(),
        lines: lines(&tree, scope, &states, &findings),
        unanswered,
    })
}

/// The table: by region where accounts are named, by account inside an OU, else by OU.
fn lines(
    tree: &OrgTree,
    scope: &Scope,
    states: &[(String, String, CellState)],
    findings: &[Finding],
) -> Vec<Line> {
    let by = match (scope.accounts.is_empty(), scope.ous.is_empty()) {
        (false, _) => "region",
        (true, false) => "account",
        (true, true) => "ou",
    };
    let name = |account: &str, region: &str| match by {
        "region" => region.to_owned(),
        "account" => account.to_owned(),
        _ => {
            let parent =
                account.parse::<NodeId>().ok().and_then(|id| tree.get(&id)?.parent.clone());
            parent.map(|p| tree.path(&p)).unwrap_or_default()
        }
    };
    let mut table: BTreeMap<String, Line> = BTreeMap::new();
    let row = |table: &mut BTreeMap<String, Line>, key: String, add: (u32, u32, u32)| {
        let line = table.entry(key.clone()).or_insert(Line { name: key, by, ..Line::default() });
        line.cells += add.0;
        line.answered += add.1;
        line.open += add.2;
    };
    for (account, region, state) in states {
        row(&mut table, name(account, region), (1, u32::from(state.answered()), 0));
    }
    for finding in findings {
        row(&mut table, name(finding.account.as_str(), finding.region.as_str()), (0, 0, 1));
    }
    table.into_values().collect()
}
