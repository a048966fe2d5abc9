//! The organization at a glance, from the store alone.

use crate::app::{App, Fault, now};
use crate::freezes;
use crate::scope::Scope;
use crate::store::{Filter, In, Kind, Row};
use crate::tally::Tally;
use ringfence_domain::freeze::Freeze;
use ringfence_domain::id::{AccountId, NodeId};
use ringfence_domain::ledger::{Cell, CellState, Coverage};
use ringfence_domain::opinion::DISAGREES;
use ringfence_domain::org::{NodeKind, OrgTree};
use ringfence_domain::remediation::{Remediation, State};
use ringfence_domain::rollout::Rollout;
use ringfence_domain::time::Time;
use std::collections::{BTreeMap, BTreeSet};

/// At most so many cells are listed by name; the counts are always whole.
const LISTED_MAX: i64 = 200;

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

/// Whether a label is that of a database's finding.
pub(crate) fn database(label: &str) -> bool {
    !label.starts_with("snapshot")
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
    /// Open findings of old snapshots, which count nowhere else.
    pub snapshots: u32,
    /// Of these, with a verified copy.
    pub snapshots_held: u32,
    /// Of the open ones.
    pub waived: u32,
    /// Of the open ones.
    pub held: u32,
    /// By state.
    pub remediations: BTreeMap<String, u32>,
    /// All rollouts.
    pub rollouts: Vec<Rollout>,
    /// Freezes that are active.
    pub freezes: Vec<Freeze>,
    /// The table.
    pub lines: Vec<Line>,
    /// Cells that were asked and not answered, with their reasons.
    pub unanswered: Vec<Cell>,
    /// Cells by AWS Config's word on them.
    pub config: BTreeMap<String, u32>,
    /// Cells where AWS Config and Describe differ.
    pub disagreeing: Vec<Cell>,
}

/// Names in the table, with the keys and counts of what has that name.
type Named = Vec<(String, String, i64)>;

/// Puts the status of a scope together. Counts come from the store's tallies: no cell and no finding is
/// read but those that are shown.
pub async fn status(app: &App, scope: &Scope) -> Result<Status, Fault> {
    let tree = app.tree().await?;
    // Of the whole organization no list is made: the tree itself says who is in it.
    let accounts = if scope.is_whole() { BTreeSet::new() } else { scope.accounts(&tree)? };
    let at = now();
    let (by, named) = named(app, scope, &accounts, &tree).await?;
    let tally = Tally::new(named.iter().map(|(_, key, n)| (key.as_str(), *n)));
    let meant = |account: &AccountId, region: &str| match scope.is_whole() {
        true => tree.get(&account.into()).is_some() && scope.region(region),
        false => accounts.contains(account) && scope.region(region),
    };
    let waived = app.store.waived(at).await?;
    let waived = waived
        .iter()
        .filter(|r| database(&r.label) && r.account.parse().is_ok_and(|a| meant(&a, &r.region)))
        .count();
    let mut remediations: BTreeMap<String, u32> =
        State::ALL.iter().map(|s| (s.as_str().to_owned(), 0)).collect();
    let all: Vec<(Row, Remediation)> = app.all(Kind::Remediation, &Filter::default()).await?;
    for (_, rem) in all.iter().filter(|(_, r)| meant(&r.account, r.region.as_str())) {
        *remediations.entry(rem.state.as_str().to_owned()).or_default() += 1;
    }
    let rollouts: Vec<(Row, Rollout)> = app.all(Kind::Rollout, &Filter::default()).await?;
    let freezes = freezes::active(app).await?;
    let (ous, total, by_state) = people(&tree);
    Ok(Status {
        as_of: at,
        org_as_of: tree.as_of,
        accounts: total,
        accounts_by_state: by_state,
        ous,
        instances: tally.open(|label| label.starts_with("instance")),
        clusters: tally.open(|label| label.starts_with("cluster")),
        waived: u32::try_from(waived).unwrap_or(u32::MAX),
        snapshots: tally.open(|label| !database(label)),
        snapshots_held: tally.open(|label| !database(label) && label.ends_with("+held")),
        held: tally.open(|label| database(label) && label.ends_with("+held")),
        remediations,
        rollouts: rollouts.into_iter().map(|(_, r)| r).collect(),
        freezes,
        lines: lines(by, &named),
        unanswered: match tally.coverage.count(CellState::failed) {
            0 => Vec::new(),
            _ => some(app, scope, &accounts, In::State(&CellState::failures())).await?,
        },
        disagreeing: match tally.config.contains_key(DISAGREES) {
            false => Vec::new(),
            true => some(app, scope, &accounts, In::Config(&[DISAGREES])).await?,
        },
        config: tally.config,
        coverage: tally.coverage,
    })
}

/// OUs, accounts, and accounts by state.
fn people(tree: &OrgTree) -> (u32, u32, BTreeMap<String, u32>) {
    let (mut ous, mut total, mut by_state) = (0, 0, BTreeMap::new());
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
    (ous, total, by_state)
}

/// The counts by region where accounts or regions are named, by account inside an OU, else by OU.
async fn named(
    app: &App,
    scope: &Scope,
    accounts: &BTreeSet<AccountId>,
    tree: &OrgTree,
) -> Result<(&'static str, Named), Fault> {
    let (names, regions) = (scope.account_names(accounts), scope.region_names());
    if !scope.accounts.is_empty() || !regions.is_empty() {
        return Ok(("region", app.store.tally_by_region(&names, &regions).await?));
    }
    if !scope.ous.is_empty() {
        return Ok(("account", app.store.tally_by_account(&names).await?));
    }
    let paths = |id: &String| id.parse::<NodeId>().map(|p| tree.path(&p)).unwrap_or_default();
    let rows = app.store.tally_by_parent().await?;
    Ok(("ou", rows.into_iter().map(|(parent, key, n)| (paths(&parent), key, n)).collect()))
}

/// The first cells of the scope that are in something.
async fn some(
    app: &App,
    scope: &Scope,
    accounts: &BTreeSet<AccountId>,
    which: In<'_>,
) -> Result<Vec<Cell>, Fault> {
    let (names, regions) = (scope.account_names(accounts), scope.region_names());
    Ok(app.store.cells_in(which, "", &names, &regions, LISTED_MAX).await?)
}

/// The table.
fn lines(by: &'static str, named: &Named) -> Vec<Line> {
    let mut table: BTreeMap<&str, Vec<(&str, i64)>> = BTreeMap::new();
    for (name, key, n) in named {
        table.entry(name).or_default().push((key, *n));
    }
    let line = |(name, counts): (&str, Vec<(&str, i64)>)| {
        let tally = Tally::new(counts);
        Line {
            name: name.to_owned(),
            by,
            cells: tally.coverage.cells(),
            answered: tally.coverage.count(CellState::answered),
            open: tally.open(database),
        }
    };
    table.into_iter().map(line).collect()
}
