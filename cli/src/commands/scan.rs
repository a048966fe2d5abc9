//! `ringfence scan`

use super::{Context, MESSAGE_MAX, missing, pages, request_id, scope, within};
use crate::args::Scan;
use crate::exit::{End, Exit, Failure};
use crate::printer::{self, Progress};
use ringfence_domain::ledger::CellState;
use ringfence_domain::time::Span;
use ringfence_proto::v1;
use ringfence_proto::v1::fleet_service_client::FleetServiceClient;
use ringfence_proto::v1::scan_service_client::ScanServiceClient;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Lines of failed cells on screen; JSON has all.
const FAILED_MAX: usize = 20;

/// Names on one line.
const NAMES_MAX: usize = 6;

pub(crate) async fn run(context: &Context, command: Scan) -> End {
    let mut client =
        ScanServiceClient::new(context.connection.clone()).max_decoding_message_size(MESSAGE_MAX);
    match command {
        Scan::Start { scope: wanted, aws_config, keys, snapshots, candidates, wait, timeout } => {
            let request = v1::StartScanRequest {
                request_id: request_id(),
                validate_only: false,
                scope: scope(&wanted),
                aws_config,
                keys,
                snapshots,
                candidates,
            };
            let scan = client
                .start_scan(request)
                .await?
                .into_inner()
                .scan
                .ok_or_else(|| missing("a scan"))?;
            if scan.ended_at.is_empty() {
                somebody_works(context).await?;
            }
            if !wait {
                if context.json() {
                    printer::json(&scan);
                } else {
                    printer::data(&format!("{} started: {} accounts", scan.id, scan.accounts));
                    printer::talk(&format!("follow it: ringfence scan get {}", scan.id));
                }
                return Ok(Exit::Done);
            }
            let what = format!("scan {}", scan.id);
            let scan = within(timeout, &what, follow(client, scan)).await?;
            Ok(show(context, &scan))
        }
        Scan::Get { id } => {
            let scan = client.get_scan(v1::GetScanRequest { id }).await?.into_inner().scan;
            Ok(show(context, &scan.ok_or_else(|| missing("a scan"))?))
        }
        Scan::List => {
            let scans = pages!(client, list_scans, v1::ListScansRequest::default(), scans);
            if context.json() {
                #[derive(Serialize)]
                struct Scans {
                    scans: Vec<v1::Scan>,
                }
                printer::json(&Scans { scans });
                return Ok(Exit::Done);
            }
            let row = |s: &v1::Scan| {
                let progress = s.progress.clone().unwrap_or_default();
                vec![
                    s.id.clone(),
                    if s.ended_at.is_empty() { "running" } else { "done" }.to_owned(),
                    format!("{}/{}", s.accounts_done, s.accounts),
                    progress.cells.to_string(),
                    progress.failed.to_string(),
                    s.trigger.clone(),
                    s.started_by.clone(),
                    s.started_at.clone(),
                    s.ended_at.clone(),
                ]
            };
            printer::table(
                &[
                    "SCAN",
                    "STATE",
                    "ACCOUNTS",
                    "CELLS",
                    "NOT ANSWERED",
                    "TRIGGER",
                    "BY",
                    "STARTED",
                    "ENDED",
                ],
                scans.iter().map(row).collect(),
            );
            Ok(Exit::Done)
        }
        Scan::Cells { scope: wanted, states } => {
            let states = states.into_iter().map(wire).collect();
            let request =
                v1::ListCellsRequest { scope: scope(&wanted), states, ..Default::default() };
            let cells = pages!(client, list_cells, request, cells);
            if context.json() {
                #[derive(Serialize)]
                struct Cells {
                    cells: Vec<v1::Cell>,
                }
                printer::json(&Cells { cells });
                return Ok(Exit::Done);
            }
            if cells.is_empty() {
                printer::talk("no cell is in that scope and state");
                return Ok(Exit::Done);
            }
            let rows = cells.iter().map(row).collect();
            printer::table(
                &[
                    "ACCOUNT",
                    "REGION",
                    "STATE",
                    "INSTANCES",
                    "CLUSTERS",
                    "REGIONS FROM",
                    "CONFIG",
                    "AS OF",
                    "REASON",
                ],
                rows,
            );
            Ok(Exit::Done)
        }
    }
}

/// A state as the server knows it.
fn wire(state: CellState) -> i32 {
    let name = format!("CELL_STATE_{}", state.as_str().to_ascii_uppercase().replace('-', "_"));
    v1::CellState::from_str_name(&name).unwrap_or_default().into()
}

pub(crate) fn state(cell: &v1::Cell) -> String {
    cell.state()
        .as_str_name()
        .trim_start_matches("CELL_STATE_")
        .to_ascii_lowercase()
        .replace('_', "-")
}

fn row(c: &v1::Cell) -> Vec<String> {
    vec![
        c.account.clone(),
        c.region.clone(),
        state(c),
        c.instances.to_string(),
        c.clusters.to_string(),
        c.regions_source.clone(),
        config(c),
        c.as_of.clone(),
        match (&c.config, c.reason.as_str()) {
            (Some(opinion), "") if !opinion.reason.is_empty() => {
                format!("Config: {}", opinion.reason)
            }
            _ => c.reason.clone(),
        },
    ]
}

/// AWS Config's word on a cell: `-` where it was not asked.
fn config(cell: &v1::Cell) -> String {
    match &cell.config {
        None => "-".to_owned(),
        Some(opinion) if !opinion.disagreements.is_empty() => "disagrees".to_owned(),
        Some(opinion) => opinion.verdict.clone(),
    }
}

/// Names, the first few of them.
fn some(names: &BTreeSet<&str>, most: usize) -> String {
    let text = names.iter().take(most).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(most) {
        0 => text,
        n => format!("{text} and {n} more"),
    }
}

/// Where AWS Config and Describe differ, those that differ in the same way on one line.
pub(crate) fn show_disagreeing(cells: &[v1::Cell]) {
    let mut groups: BTreeMap<(&str, &str, &str), BTreeSet<String>> = BTreeMap::new();
    for cell in cells {
        for d in cell.config.iter().flat_map(|o| &o.disagreements) {
            let group = groups.entry((&d.config, &d.rule, &d.describe)).or_default();
            group.insert(format!("{} {} {}", cell.account, cell.region, d.resource));
        }
    }
    for ((config, rule, describe), names) in groups {
        printer::data(&format!(
            "~ AWS Config says {config} ({rule}), Describe says {describe}, of {}: {}",
            names.len(),
            some(&names.iter().map(String::as_str).collect(), NAMES_MAX)
        ));
    }
}

/// A cell's reason without its place, so that the same ones are told together.
fn reason(cell: &v1::Cell) -> String {
    cell.reason.replace(&cell.account, "ACCOUNT").replace(&cell.region, "REGION")
}

/// Cells that were not answered, those of one reason on one line, whatever account and region it names.
pub(crate) fn show_failed(cells: &[v1::Cell]) {
    type Group<'a> = (BTreeSet<&'a str>, BTreeSet<&'a str>, usize);
    let mut groups: BTreeMap<(String, String), Group<'_>> = BTreeMap::new();
    for cell in cells {
        let (accounts, regions, n) = groups.entry((state(cell), reason(cell))).or_default();
        accounts.insert(&cell.account);
        regions.insert(&cell.region);
        *n += 1;
    }
    for ((state, reason), (accounts, regions, n)) in groups.iter().take(FAILED_MAX) {
        printer::data(&format!(
            "! {n} cells {state}, of {} in {}: {reason}",
            some(accounts, NAMES_MAX),
            some(regions, NAMES_MAX)
        ));
    }
    if groups.len() > FAILED_MAX {
        printer::data(&format!(
            "... and {} more reasons; `ringfence scan cells` lists all",
            groups.len() - FAILED_MAX
        ));
    }
}

/// What a scan that looked for old snapshots has to say of them.
fn show_snapshots(scan: &v1::Scan) {
    printer::data(&format!("{} unencrypted snapshots", scan.snapshots_open));
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for cell in &scan.snapshots_unread {
        *reasons.entry(reason(cell)).or_default() += 1;
    }
    for (reason, n) in reasons.iter().take(FAILED_MAX) {
        printer::data(&format!("! the snapshots of {n} cells could not be read: {reason}"));
    }
}

/// Says so where nobody would do the work.
async fn somebody_works(context: &Context) -> Result<(), Failure> {
    let mut client = FleetServiceClient::new(context.connection.clone());
    let agents = client.list_agents(v1::ListAgentsRequest::default()).await?.into_inner().agents;
    if agents.iter().all(|a| a.draining) {
        printer::talk(match agents.is_empty() {
            true => "no agent is connected: nothing is looked at until one joins",
            false => "all agents are draining: nothing is looked at until one takes work again",
        });
    }
    Ok(())
}

async fn follow(
    mut client: ScanServiceClient<crate::client::Connection>,
    scan: v1::Scan,
) -> Result<v1::Scan, Failure> {
    let mut stream =
        client.watch_scan(v1::WatchScanRequest { id: scan.id.clone() }).await?.into_inner();
    let mut progress = Progress::new();
    let mut last = scan;
    loop {
        let answer = stream.message().await.map_err(|status| {
            let mut failure = Failure::from(status);
            failure.hint = Some(format!(
                "the scan goes on when the server is back: ringfence scan get {}",
                last.id
            ));
            failure
        })?;
        let Some(answer) = answer else { return Ok(last) };
        last = answer.scan.ok_or_else(|| missing("a scan"))?;
        progress.show(last.accounts_done, last.accounts, &how_far(&last));
    }
}

/// What a person who waits wants to know: how much, how fast, how long, and what it waits for.
fn how_far(scan: &v1::Scan) -> String {
    let about = scan.progress.clone().unwrap_or_default();
    let mut text = format!("accounts, {} cells", about.cells);
    if about.listing {
        text.push_str(", more accounts are being listed");
    }
    if about.cells_per_second >= 1.0 {
        text.push_str(&format!(", {:.0} cells/s", about.cells_per_second));
    }
    if about.eta_seconds > 0 {
        let left = Span::seconds(i64::from(about.eta_seconds));
        text.push_str(&format!(", about {left} left"));
    }
    text.push_str(&format!(", {} found", about.found));
    if about.failed > 0 {
        text.push_str(&format!(", {} cells not answered", about.failed));
    }
    if about.accounts_to_retry > 0 {
        text.push_str(&format!(", {} accounts to try again", about.accounts_to_retry));
    }
    let waiting: Vec<String> =
        about.waiting.iter().map(|(limit, n)| format!("{n} wait for limits.{limit}")).collect();
    if !waiting.is_empty() {
        text.push_str(&format!("; {}", waiting.join(", ")));
    }
    text
}

fn show(context: &Context, scan: &v1::Scan) -> Exit {
    let ended = !scan.ended_at.is_empty();
    if context.json() {
        printer::json(scan);
    } else {
        let states: Vec<String> = scan
            .coverage
            .iter()
            .filter(|(_, n)| **n > 0)
            .map(|(s, n)| format!("{n} {s}"))
            .collect();
        let what = if ended { "done" } else { "running" };
        printer::data(&format!(
            "{} {what}: {}/{} accounts, {} cells ({})",
            scan.id,
            scan.accounts_done,
            scan.accounts,
            scan.cells,
            if states.is_empty() { "none".to_owned() } else { states.join(", ") }
        ));
        show_failed(&scan.failed);
        if !scan.listing_failed.is_empty() {
            printer::data(&format!(
                "! the organization could not be listed, accounts may be missing: {}",
                scan.listing_failed
            ));
        }
        if !scan.config.is_empty() {
            let words: Vec<String> = scan.config.iter().map(|(w, n)| format!("{n} {w}")).collect();
            printer::data(&format!("AWS Config: {}", words.join(", ")));
        }
        show_disagreeing(&scan.disagreeing);
        if scan.by_candidates {
            printer::data(&format!(
                "the aggregator named {} databases; only their cells were looked at, and only a full scan proves that there are no others",
                scan.candidates
            ));
        }
        let answered: i32 =
            ["clean", "findings", "region-off"].iter().filter_map(|s| scan.coverage.get(*s)).sum();
        let partial = match scan.cells - answered {
            0 if ended && scan.cells > 0 => String::new(),
            n => format!(" seen so far; {n} of {} cells were not answered", scan.cells),
        };
        printer::data(&format!("{} unencrypted databases{partial}", scan.findings_open));
        if scan.snapshots {
            show_snapshots(scan);
        }
    }
    let all = scan.failed_cells == 0
        && scan.listing_failed.is_empty()
        && scan.snapshots_unread.is_empty();
    match (all, scan.findings_open + scan.snapshots_open) {
        (false, _) => Exit::Partial,
        (true, n) => context.present(n > 0),
    }
}
