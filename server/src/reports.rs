//! What agents report: what it does to the ledger, to findings, and to the scans that asked.

use crate::app::{App, Fault, now};
use crate::store::{End, Fenced, Kind, Lease, Part, Row, json};
use crate::{agents, scans, waivers};
use ringfence_domain::controls;
use ringfence_domain::finding::{AccountWaiver, Finding, FindingState};
use ringfence_domain::id::AccountId;
use ringfence_domain::ledger::{Cell, REGION_UNKNOWN, RegionsSource};
use ringfence_domain::remediation::{is_held, name_of_twin};
use ringfence_domain::time::{Span, Time};
use ringfence_domain::work::{AccountReport, CellReport};
use std::collections::{BTreeMap, BTreeSet};

/// Reports are retried so often when a finding changed between reading and writing (a waiver).
const TRIES: u32 = 5;

/// A finding that was seen again as it was is written only when its date is older than this: a scan of
/// a million databases would write them all, and the cell has the exact time.
const SEEN_AGAIN_AFTER: Span = Span::hours(24);

/// Findings by account and region, and there by id.
type Known = BTreeMap<(String, String), BTreeMap<String, (Row, Finding)>>;

/// The waivers of accounts that hold now.
type Waived = BTreeMap<AccountId, AccountWaiver>;

/// Stores a batch of reports. The leases that the agent has lost: nothing of these was stored.
pub async fn report(
    app: &App,
    agent: &str,
    reports: Vec<AccountReport>,
) -> Result<Vec<Lease>, Fault> {
    let ended: BTreeSet<String> =
        reports.iter().filter(|r| r.end.is_some()).flat_map(|r| r.scans.keys().cloned()).collect();
    let (mut left, mut lost) = (reports, Vec::new());
    for _ in 0..TRIES {
        let parts = parts(app, agent, &left).await?;
        let outcomes = app.store.report(agent, &parts).await?;
        let mut stale = Vec::new();
        for (report, outcome) in left.into_iter().zip(outcomes) {
            match outcome {
                Fenced::Done => {}
                Fenced::Lost => {
                    lost.push(Lease { account: report.account.to_string(), fence: report.fence })
                }
                Fenced::Stale => stale.push(report),
            }
        }
        left = stale;
        if left.is_empty() {
            for scan in &ended {
                scans::finish(app, scan).await?;
            }
            return Ok(lost);
        }
    }
    let names: Vec<&str> = left.iter().map(|r| r.account.as_str()).collect();
    Err(Fault::Conflict(format!("the findings of {} keep changing", names.join(", "))))
}

/// What the reports mean, given what is known.
async fn parts(app: &App, agent: &str, reports: &[AccountReport]) -> Result<Vec<Part>, Fault> {
    let accounts: Vec<&str> = reports.iter().map(|r| r.account.as_str()).collect();
    let mut known = Known::new();
    for row in app.store.findings_of(&accounts).await? {
        let finding: Finding = row.document()?;
        let place = (row.account.clone(), row.region.clone());
        known.entry(place).or_default().insert(finding.id.clone(), (row, finding));
    }
    let ending: Vec<&str> = reports
        .iter()
        .filter(|r| r.end.as_ref().is_some_and(|e| !e.regions.is_empty()))
        .map(|r| r.account.as_str())
        .collect();
    let mut places: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    if !ending.is_empty() {
        for (account, region, _) in app.store.places(&ending).await? {
            places.entry(account).or_default().insert(region);
        }
    }
    let waived = match reports.iter().any(|r| r.cells.iter().any(|c| !c.detected.is_empty())) {
        true => waivers::active(app).await?,
        false => Waived::new(),
    };
    let actor = agents::actor(agent);
    let mut parts = Vec::new();
    for report in reports {
        let mut findings = Vec::new();
        // Of a cell that was looked at twice, the later look counts.
        let last: BTreeMap<&str, &CellReport> =
            report.cells.iter().map(|c| (c.cell.region.as_str(), c)).collect();
        for cell in last.values() {
            findings.extend(merge(cell, &mut known, &waived));
        }
        let mut cells: Vec<Cell> = last.into_values().map(|c| c.cell.clone()).collect();
        let end = match &report.end {
            None => None,
            Some(_) => {
                let here = places.get(report.account.as_str()).cloned().unwrap_or_default();
                let (end, missing) = end(app, report, &here).await?;
                cells.extend(missing);
                Some(end)
            }
        };
        parts.push(Part {
            lease: Lease { account: report.account.to_string(), fence: report.fence },
            scans: report.scans.clone(),
            cells,
            findings,
            event: note(report)
                .map(|n| actor.did(now(), "account.scan", report.account.as_str(), n)),
            end,
        });
    }
    Ok(parts)
}

/// What the audit log is told of an account, if anything.
fn note(report: &AccountReport) -> Option<String> {
    let end = report.end.as_ref()?;
    match (end.failed, end.note.as_str()) {
        (0, "") => None,
        (0, note) => Some(note.to_owned()),
        (n, note) => Some(format!("{n} cells not answered {note}").trim_end().to_owned()),
    }
}

/// What closes an account, and the cells that are missing.
///
/// A list of regions from the account itself is complete. A configured one says nothing of regions that
/// the account once named: those cells stay, and age. A region that was not scanned now and has no cell
/// gets a pending one, or a scan of one region would make a ledger that looks full.
async fn end(
    app: &App,
    report: &AccountReport,
    places: &BTreeSet<String>,
) -> Result<(End, Vec<Cell>), Fault> {
    let Some(told) = &report.end else { return Ok((End::default(), Vec::new())) };
    let reported = |region: &String| report.cells.iter().any(|c| c.cell.region == *region);
    let silent = told.regions.is_empty() || told.regions_source == RegionsSource::Unknown;
    let mut gone: Vec<String> = match silent {
        true => Vec::new(),
        false => {
            places.iter().filter(|r| !told.regions.contains(r) && !reported(r)).cloned().collect()
        }
    };
    let unknown = REGION_UNKNOWN.to_owned();
    if told.regions_source != RegionsSource::Account && !gone.is_empty() {
        let cells = scans::cells(app, std::slice::from_ref(&report.account)).await?;
        gone.retain(|region| {
            cells.iter().any(|c| c.region == *region && c.regions_source != RegionsSource::Account)
        });
    }
    // The place holder of an account whose regions were not known; it may have been made just now. Whoever
    // reports another region knows them.
    let known = !silent || report.cells.iter().any(|c| c.cell.region != unknown);
    if known && !reported(&unknown) && !gone.contains(&unknown) {
        gone.push(unknown);
    }
    let missing = match silent {
        true => Vec::new(),
        false => told
            .regions
            .iter()
            .filter(|r| !reported(r) && !places.contains(*r))
            .map(|r| Cell::pending(report.account.clone(), r, told.regions_source))
            .collect(),
    };
    let count = i64::from;
    let end = End {
        gone,
        regions: told.list.as_ref().map(|list| (list.read_at, json(&list.enabled))),
        unreachable: told.unreachable.clone(),
        counts: (count(told.cells), count(told.failed), count(told.found)),
        release: told.release,
    };
    Ok((end, missing))
}

/// The findings of a cell that changed, as they are now.
fn merge(
    CellReport { cell, detected }: &CellReport,
    known: &mut Known,
    waived: &Waived,
) -> Vec<Row> {
    let place = (cell.account.as_str().to_owned(), cell.region.clone());
    let mut known = known.remove(&place).unwrap_or_default();
    let at = cell.as_of.unwrap_or_else(now);
    let incomplete = !cell.state.answered();
    let (mut rows, mut seen) = (Vec::new(), BTreeSet::new());
    let Some(region) = cell.region() else {
        return rows;
    };
    for found in detected {
        let control = controls::of(found.kind).id();
        let id = Finding::id_of(control, found.resource.arn());
        // Pages that move while they are read show a database twice.
        if !seen.insert(id.clone()) {
            continue;
        }
        let (row, before) = match known.remove(&id) {
            Some((row, finding)) => (Some(row), Some(finding)),
            None => (None, None),
        };
        let old = before.clone();
        let mut finding =
            Finding::seen(before, control, &cell.account, &region, found.clone(), incomplete, at);
        // A twin that is gone holds nothing: the original can be planned again.
        let (name, id) = (finding.resource.name(), finding.resource.resource_id());
        let gone = match &finding.twin {
            Some(twin) => !cell.has(found.kind, twin),
            None => !cell.has(found.kind, &name_of_twin(&finding.resource)) && !is_held(name, id),
        };
        if cell.tells(found.kind) && gone {
            (finding.held_by, finding.twin) = (None, None);
        }
        if let Some(waiver) = waived.get(&cell.account) {
            waiver.cover(&mut finding);
        }
        if old.is_none_or(|old| changed(old, &finding, at)) {
            rows.push(row_of(row, &finding));
        }
    }
    // Only a cell that was read to its end can say that something is gone.
    let gone = |f: &Finding| f.state == FindingState::Open && cell.tells(f.kind);
    let left = known.into_values().filter(|(_, f)| gone(f));
    rows.extend(left.map(|(row, finding)| row_of(Some(row), &finding.resolved(at))));
    rows
}

/// Whether a finding says more than that it was seen again.
fn changed(mut old: Finding, new: &Finding, at: Time) -> bool {
    if at.since(old.last_seen) > SEEN_AGAIN_AFTER {
        return true;
    }
    old.last_seen = new.last_seen;
    old != *new
}

/// The row of a finding: the one it came from, or a new one.
pub fn row_of(row: Option<Row>, finding: &Finding) -> Row {
    let state = finding.state.as_str();
    let row = match row {
        Some(row) => row.with(state, finding),
        None => Row {
            account: finding.account.as_str().to_owned(),
            region: finding.region.as_str().to_owned(),
            ..Row::new(Kind::Finding, &finding.id, state, finding.first_seen, finding)
        },
    };
    Row {
        label: finding.label(),
        wake_at: finding.waiver.as_ref().map_or(Time(0), |w| w.until),
        ..row
    }
}
