//! Scans: what is queued for agents, and what their reports do to ledger and findings.

use crate::app::{App, Fault, now, rest};
use crate::scope::Scope;
use crate::store::{Fenced, Filter, Kind, Lease, Report, Row};
use ringfence_domain::audit::Actor;
use ringfence_domain::controls::ALL;
use ringfence_domain::finding::{Finding, FindingState};
use ringfence_domain::id::AccountId;
use ringfence_domain::ledger::{Cell, CellState, REGION_UNKNOWN, RegionsSource};
use ringfence_domain::org::OrgTree;
use ringfence_domain::remediation::twin_name;
use ringfence_domain::time::Span;
use ringfence_domain::work::{AccountReport, CellReport, Scan};
use std::collections::BTreeMap;

/// Cells of one account that a page can hold; no account has more regions.
const CELLS_OF_ACCOUNT: i64 = 1_000;

/// Reports are retried so often when a finding changed between reading and writing (a waiver).
const REPORT_TRIES: u32 = 5;

/// The accounts of a scope that have cells.
pub fn scannable(scope: &Scope, tree: &OrgTree) -> Result<Vec<AccountId>, Fault> {
    let accounts = scope.accounts(tree)?;
    Ok(accounts
        .into_iter()
        .filter(|a| {
            let node = tree.get(&a.into());
            node.and_then(|n| n.account_state()).is_some_and(|s| s.has_cells())
        })
        .collect())
}

/// Queues a scan. The same id twice is the same scan.
pub async fn start(
    app: &App,
    actor: &Actor,
    id: &str,
    accounts: Vec<AccountId>,
    scope: &Scope,
    keys: bool,
) -> Result<Scan, Fault> {
    let at = now();
    let scan = Scan {
        id: id.to_owned(),
        started_by: actor.name.clone(),
        started_at: at,
        ended_at: accounts.is_empty().then_some(at),
        accounts,
        regions: scope.regions.iter().map(|r| r.as_str().to_owned()).collect(),
        keys,
    };
    let state = if scan.ended_at.is_some() { "done" } else { "running" };
    let row = Row::new(Kind::Scan, id, state, at, &scan);
    let event = actor.did(at, "scan.start", id, format!("{} accounts", scan.accounts.len()));
    if app.store.start_scan(&row, &scan.accounts, &event).await? {
        return Ok(scan);
    }
    Ok(app.load(Kind::Scan, id).await?.1)
}

/// Waits until a scan ends; false if it does not within the time.
pub async fn wait(app: &App, id: &str, max: Span) -> Result<bool, Fault> {
    let until = now().plus(max);
    loop {
        let (total, done) = app.store.scan_progress(id).await?;
        if done >= total {
            return Ok(true);
        }
        if now() > until {
            return Ok(false);
        }
        rest(100).await;
    }
}

/// The cells that a scan was about.
pub async fn cells(app: &App, scan: &Scan) -> Result<Vec<Cell>, Fault> {
    let mut cells = Vec::new();
    for account in &scan.accounts {
        let found = app.store.cells(account.as_str(), ("", ""), CELLS_OF_ACCOUNT).await?;
        cells.extend(found.into_iter().filter(|c| {
            scan.regions.is_empty()
                || c.region == REGION_UNKNOWN
                || scan.regions.contains(&c.region)
        }));
    }
    Ok(cells)
}

/// Stores an agent's report of one account. False if the agent has lost the account.
pub async fn report(
    app: &App,
    agent: &str,
    lease: &Lease,
    scan: &str,
    report: AccountReport,
    last: bool,
) -> Result<bool, Fault> {
    for _ in 0..REPORT_TRIES {
        let findings = merge(app, &report).await?;
        let (gone, missing) = regions(app, lease, &report).await?;
        let write = Report {
            cells: report.cells.iter().map(|c| c.cell.clone()).chain(missing).collect(),
            findings,
            gone,
            last,
        };
        let actor = Actor::system(&format!("agent/{agent}"));
        let failed = report.cells.iter().filter(|c| c.cell.state.failed()).count();
        let note = match (failed, report.note.as_str()) {
            (0, "") => None,
            (0, note) => Some(note.to_owned()),
            (n, note) => Some(format!("{n} cells not answered {note}").trim_end().to_owned()),
        };
        let event = note.map(|n| actor.did(now(), "account.scan", &lease.account, n));
        match app.store.report(agent, lease, scan, &write, event.as_ref()).await? {
            Fenced::Done => {
                finish(app, scan).await?;
                return Ok(true);
            }
            Fenced::Lost => return Ok(false),
            Fenced::Stale => {}
        }
    }
    Err(Fault::Conflict(format!("the findings of {} keep changing", lease.account)))
}

/// What the account's list of regions changes in its ledger: cells that go, and cells that are missing.
///
/// A list from the account itself is complete. A configured one says nothing of regions that the
/// account once named: those cells stay, and age. A region that was not scanned now and has no cell
/// gets a pending one, or a scan of one region would make a ledger that looks full.
async fn regions(
    app: &App,
    lease: &Lease,
    report: &AccountReport,
) -> Result<(Vec<String>, Vec<Cell>), Fault> {
    if report.regions.is_empty() || report.regions_source == RegionsSource::Unknown {
        return Ok((Vec::new(), Vec::new()));
    }
    let account =
        lease.account.parse().map_err(|e| Fault::Invalid(format!("a lease on no account: {e}")))?;
    let complete = report.regions_source == RegionsSource::Account;
    let known = app.store.cells(&lease.account, ("", ""), CELLS_OF_ACCOUNT).await?;
    let reported = |region: &String| report.cells.iter().any(|c| c.cell.region == *region);
    let gone = known
        .iter()
        .filter(|c| !report.regions.contains(&c.region) && !reported(&c.region))
        .filter(|c| complete || c.regions_source != RegionsSource::Account)
        .map(|c| c.region.clone())
        .collect();
    let missing = report
        .regions
        .iter()
        .filter(|r| !reported(r) && known.iter().all(|c| c.region != **r))
        .map(|r| Cell::pending(AccountId::clone(&account), r, report.regions_source))
        .collect();
    Ok((gone, missing))
}

/// The findings of the report's cells as they are now.
async fn merge(app: &App, report: &AccountReport) -> Result<Vec<Row>, Fault> {
    let mut rows = Vec::new();
    for CellReport { cell, detected } in &report.cells {
        let filter = Filter {
            account: cell.account.as_str().to_owned(),
            region: cell.region.clone(),
            state: String::new(),
        };
        let known: Vec<(Row, Finding)> = app.all(Kind::Finding, &filter).await?;
        let mut known: BTreeMap<String, (Row, Finding)> =
            known.into_iter().map(|(row, finding)| (finding.id.clone(), (row, finding))).collect();
        let at = cell.as_of.unwrap_or_else(now);
        let incomplete = !cell.state.answered();
        let control = ALL[0].id();
        let Some(region) = cell.region() else {
            continue;
        };
        for found in detected {
            let id = Finding::id_of(control, found.resource.arn());
            let (row, before) = match known.remove(&id) {
                Some((row, finding)) => (Some(row), Some(finding)),
                None => (None, None),
            };
            let mut finding = Finding::seen(
                before,
                control,
                &cell.account,
                &region,
                found.clone(),
                incomplete,
                at,
            );
            // A twin that is gone holds nothing: the original can be planned again.
            let twin = twin_name(finding.resource.name(), finding.resource.resource_id());
            if cell.state.answered() && !cell.names.contains(&twin) {
                finding.held_by = None;
            }
            rows.push(row_of(row, &finding));
        }
        // Only a cell that was read to its end can say that something is gone.
        if cell.state.answered() {
            let left = known.into_values().filter(|(_, f)| f.state == FindingState::Open);
            rows.extend(left.map(|(row, finding)| row_of(Some(row), &finding.resolved(at))));
        }
    }
    Ok(rows)
}

/// The row of a finding: the one it came from, or a new one.
pub fn row_of(row: Option<Row>, finding: &Finding) -> Row {
    let state = finding.state.as_str();
    match row {
        Some(row) => row.with(state, finding),
        None => Row {
            account: finding.account.as_str().to_owned(),
            region: finding.region.as_str().to_owned(),
            ..Row::new(Kind::Finding, &finding.id, state, finding.first_seen, finding)
        },
    }
}

/// Marks a scan as done when its last account is. Two agents may both see the end; one writes it.
async fn finish(app: &App, id: &str) -> Result<(), Fault> {
    let (total, done) = app.store.scan_progress(id).await?;
    if done < total {
        return Ok(());
    }
    let (row, mut scan): (Row, Scan) = app.load(Kind::Scan, id).await?;
    if scan.ended_at.is_some() {
        return Ok(());
    }
    let at = now();
    scan.ended_at = Some(at);
    let cells = cells(app, &scan).await?;
    let failed = cells.iter().filter(|c| c.state.failed()).count();
    let found = cells.iter().filter(|c| c.state == CellState::Findings).count();
    let text = format!("{} cells, {found} with findings, {failed} not answered", cells.len());
    let event = Actor::system("server").did(at, "scan.end", id, text);
    app.store.update(&[row.with("done", &scan)], &event).await?;
    Ok(())
}
