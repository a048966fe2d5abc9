//! One account: its regions, and each cell swept and judged.

use crate::lease::{Desk, Pipe};
use crate::now;
use futures::StreamExt;
use ringfence_aws::{Phase, Session};
use ringfence_domain::cloud::{CloudError, ErrorClass};
use ringfence_domain::control::Control;
use ringfence_domain::controls::rds_encryption::RdsEncryption;
use ringfence_domain::id::Region;
use ringfence_domain::ledger::{Cell, CellState, REGION_UNKNOWN, RegionsSource};
use ringfence_domain::rds::Sweep;
use ringfence_domain::work::{AccountReport, CellReport, ScanWork, Work};
use ringfence_proto::v1;
use tonic::Status;

/// Regions of one account read at a time.
const REGIONS_AT_ONCE: usize = 8;

/// Which regions an account has, and in which state the others are.
struct Regions {
    scan: Vec<Region>,
    other: Vec<(String, CellState, &'static str)>,
    source: RegionsSource,
}

/// Scans an account and reports it. An account that cannot be entered is reported as such: every
/// cell that is known of it gets the reason.
pub(crate) async fn account<P: Pipe>(
    desk: &Desk<P>,
    work: &Work,
    wanted: &ScanWork,
) -> Result<(), Status> {
    let report = match desk.cloud.enter(&work.account, Phase::Scan, &wanted.scan).await {
        Err(error) => unreachable_account(desk, work, wanted, &error),
        Ok(session) => inside(desk, work, wanted, &session).await,
    };
    let request = v1::ReportCellsRequest {
        agent: desk.settings.name.clone(),
        lease: Some(desk.lease.clone()),
        scan: wanted.scan.clone(),
        reports_json: serde_json::to_string(&report)
            .map_err(|e| Status::internal(e.to_string()))?,
        last: true,
    };
    desk.pipe.report(request).await
}

fn state_of(class: ErrorClass) -> CellState {
    match class {
        ErrorClass::Denied => CellState::Denied,
        ErrorClass::ScpDenied => CellState::ScpDenied,
        ErrorClass::Throttled => CellState::ThrottledOut,
        ErrorClass::RegionRefused
        | ErrorClass::NotFound
        | ErrorClass::AlreadyExists
        | ErrorClass::Conflict
        | ErrorClass::Invalid
        | ErrorClass::Unknown => CellState::Error,
    }
}

fn chosen(wanted: &ScanWork, region: &str) -> bool {
    wanted.regions.is_empty() || wanted.regions.iter().any(|r| r == region)
}

fn unreachable_account<P>(
    desk: &Desk<P>,
    work: &Work,
    wanted: &ScanWork,
    error: &CloudError,
) -> AccountReport {
    let configured: Vec<String> = desk.settings.regions.iter().map(ToString::to_string).collect();
    // Every region that was asked for gets the reason: a denied account is never silence.
    let names = match (wanted.regions.is_empty(), configured.is_empty(), &work.known_regions[..]) {
        (false, _, _) => wanted.regions.clone(),
        (true, false, _) => configured.clone(),
        (true, true, []) => vec![REGION_UNKNOWN.to_owned()],
        (true, true, known) => known.to_vec(),
    };
    let cells = names
        .iter()
        .map(|region| {
            let source = if region == REGION_UNKNOWN {
                RegionsSource::Unknown
            } else {
                RegionsSource::Configured
            };
            let cell = Cell {
                state: state_of(error.class),
                reason: error.to_string(),
                as_of: Some(now()),
                ..Cell::pending(work.account.clone(), region, source)
            };
            CellReport { cell, detected: Vec::new() }
        })
        .collect();
    let source = RegionsSource::Configured;
    AccountReport { cells, regions: configured, regions_source: source, note: String::new() }
}

async fn inside<P: Pipe>(
    desk: &Desk<P>,
    work: &Work,
    wanted: &ScanWork,
    session: &Session,
) -> AccountReport {
    let regions = regions(desk, session).await;
    let mut cells = Vec::new();
    for (region, state, reason) in &regions.other {
        if chosen(wanted, region) || region == REGION_UNKNOWN {
            let cell = Cell {
                state: *state,
                reason: (*reason).to_owned(),
                as_of: Some(now()),
                ..Cell::pending(work.account.clone(), region, regions.source)
            };
            cells.push(CellReport { cell, detected: Vec::new() });
        }
    }
    let source = regions.source;
    let mut all: Vec<String> = regions.other.iter().map(|(name, _, _)| name.clone()).collect();
    all.extend(regions.scan.iter().map(ToString::to_string));
    for region in
        wanted.regions.iter().filter(|r| !all.contains(r) && source != RegionsSource::Unknown)
    {
        let cell = Cell {
            state: CellState::Error,
            reason: "asked for, and not among the account's regions".to_owned(),
            as_of: Some(now()),
            ..Cell::pending(work.account.clone(), region, source)
        };
        cells.push(CellReport { cell, detected: Vec::new() });
    }
    let scan: Vec<Region> =
        regions.scan.into_iter().filter(|r| chosen(wanted, r.as_str())).collect();
    let swept = futures::stream::iter(scan)
        .map(|region| async move { cell(desk, work, wanted, session, &region, source).await })
        .buffer_unordered(REGIONS_AT_ONCE)
        .collect::<Vec<_>>()
        .await;
    cells.extend(swept);
    cells.sort_by(|a, b| a.cell.region.cmp(&b.cell.region));
    AccountReport {
        cells,
        regions: all,
        regions_source: source,
        note: session.note.clone().unwrap_or_default(),
    }
}

/// The account's regions from ListRegions inside it; where that does not answer, the configured
/// list, marked as such.
async fn regions<P: Pipe>(desk: &Desk<P>, session: &Session) -> Regions {
    let configured = &desk.settings.regions;
    match desk.cloud.regions(session).await {
        Ok(map) => {
            let mut regions =
                Regions { scan: vec![], other: vec![], source: RegionsSource::Account };
            for (name, on) in map {
                let named = configured.is_empty() || configured.iter().any(|r| r.as_str() == name);
                match (on, named, name.parse::<Region>()) {
                    (false, _, _) => regions.other.push((name, CellState::RegionOff, "")),
                    (true, false, _) => {
                        regions.other.push((
                            name,
                            CellState::SkippedByRule,
                            "enabled, and not in aws.regions",
                        ));
                    }
                    (true, true, Ok(region)) => regions.scan.push(region),
                    (true, true, Err(_)) => {
                        regions.other.push((name, CellState::Error, "not a region code"))
                    }
                }
            }
            regions
        }
        Err(error) if configured.is_empty() => {
            tracing::warn!("{}: {error}", session.account);
            let other = vec![(
                REGION_UNKNOWN.to_owned(),
                CellState::Error,
                "ListRegions did not answer, and aws.regions is empty",
            )];
            Regions { scan: vec![], other, source: RegionsSource::Unknown }
        }
        Err(error) => {
            tracing::debug!("{}: {error}; aws.regions is used", session.account);
            Regions { scan: configured.clone(), other: vec![], source: RegionsSource::Configured }
        }
    }
}

/// One cell: swept, judged, and its key read where something is to be encrypted. A call that fails
/// makes the cell that failure; what was found until then stays listed.
async fn cell<P: Pipe>(
    desk: &Desk<P>,
    work: &Work,
    wanted: &ScanWork,
    session: &Session,
    region: &Region,
    source: RegionsSource,
) -> CellReport {
    let mut sweep = Sweep::default();
    let read = desk.cloud.sweep_databases(session, region, &mut sweep).await;
    let found = RdsEncryption.detect(&sweep, desk.settings.require_kms_key);
    let mut cell = Cell::pending(work.account.clone(), region.as_str(), source);
    let mut failure = read.err();
    if wanted.keys || !found.findings.is_empty() {
        match desk.cloud.key(session, region, &desk.settings.kms_alias).await {
            Ok(key) => cell.key = Some(key),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    (cell.state, cell.reason) =
        match (failure, found.unjudged.is_empty(), found.findings.is_empty()) {
            (Some(error), _, _) => (state_of(error.class), reason(&error)),
            (None, false, _) => (CellState::Error, found.unjudged.join("; ")),
            (None, true, false) => (CellState::Findings, String::new()),
            (None, true, true) => (CellState::Clean, String::new()),
        };
    cell.as_of = Some(now());
    cell.instances = found.instances;
    cell.clusters = found.clusters;
    cell.out_of_scope = found.out_of_scope;
    cell.names = sweep
        .instances
        .iter()
        .map(|i| i.id.clone())
        .chain(sweep.clusters.iter().map(|c| c.id.clone()))
        .collect();
    CellReport { cell, detected: found.findings }
}

fn reason(error: &CloudError) -> String {
    match error.class {
        ErrorClass::RegionRefused => {
            format!("the region refuses the session; it may not be enabled in the account: {error}")
        }
        ErrorClass::Throttled
        | ErrorClass::Denied
        | ErrorClass::ScpDenied
        | ErrorClass::NotFound
        | ErrorClass::AlreadyExists
        | ErrorClass::Conflict
        | ErrorClass::Invalid
        | ErrorClass::Unknown => error.to_string(),
    }
}
