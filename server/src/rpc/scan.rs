//! `ScanService`.

use super::{
    Answer, Rpc, Watch, actor, convert, id_of, next_page, ok, page, page_of, page_size, watch,
};
use crate::app::{App, Fault, now};
use crate::scans;
use crate::status::database;
use crate::store::{Filter, In, Kind, Page, Row};
use crate::tally::Tally;
use ringfence_domain::ledger::CellState;
use ringfence_domain::opinion::DISAGREES;
use ringfence_domain::time::Time;
use ringfence_domain::work::{Options, Scan};
use ringfence_proto::v1;
use ringfence_proto::v1::scan_service_server::ScanService;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use tonic::{Request, Status};

/// Cells that were not answered are listed up to here; the counts are always whole.
const FAILED_MAX: i64 = 500;

/// The time over which a watch takes the rate.
const WINDOW_MS: i64 = 5_000;

/// The states that a page is of, by their names in the store; the empty one means any.
fn states(wanted: &[i32]) -> Result<BTreeSet<String>, Status> {
    if wanted.is_empty() {
        return Ok(BTreeSet::from([String::new()]));
    }
    let name = |wanted: &i32| {
        let name = v1::CellState::try_from(*wanted).map_or("", |s| s.as_str_name());
        let name = name.trim_start_matches("CELL_STATE_").to_ascii_lowercase().replace('_', "-");
        let known = CellState::parse(&name).map(|s| s.as_str().to_owned());
        known.ok_or_else(|| Status::invalid_argument("states: one of them is no state"))
    };
    wanted.iter().map(name).collect()
}

/// A scan with its cells and findings as they are now.
async fn show(app: &App, id: &str) -> Result<v1::Scan, Fault> {
    let (_, scan): (Row, Scan) = app.load(Kind::Scan, id).await?;
    let progress = app.store.scan_progress(id).await?;
    let mut shown = convert::scan(&scan, &progress, now());
    let tally = app.store.tally_of_scan(id, &scan.regions).await?;
    let tally = Tally::new(tally.iter().map(|(key, n)| (key.as_str(), *n)));
    let failed = tally.coverage.count(CellState::failed);
    if failed > 0 {
        let states = CellState::failures();
        let cells =
            app.store.cells_in(In::State(&states), id, &[], &scan.regions, FAILED_MAX).await?;
        shown.failed = cells.iter().map(convert::cell).collect();
    }
    if tally.config.contains_key(DISAGREES) {
        let which = In::Config(&[DISAGREES]);
        let cells = app.store.cells_in(which, id, &[], &scan.regions, FAILED_MAX).await?;
        shown.disagreeing = cells.iter().map(convert::cell).collect();
    }
    shown.config = convert::counts(&tally.config);
    let number = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    shown.cells = number(tally.coverage.cells());
    shown.coverage = convert::counts(&tally.coverage.0);
    shown.failed_cells = number(failed);
    shown.findings_open = number(tally.open(database));
    if scan.options.snapshots {
        shown.snapshots = true;
        shown.snapshots_open = number(tally.open(|label| !database(label)));
        let which = In::SnapshotsUnread;
        let cells = app.store.cells_in(which, id, &[], &scan.regions, FAILED_MAX).await?;
        shown.snapshots_unread = cells.iter().map(convert::cell_of_snapshots).collect();
    }
    shown.progress = Some(guess(app, shown.progress.unwrap_or_default(), &progress, &scan).await?);
    Ok(shown)
}

/// What is left, and what it waits for.
async fn guess(
    app: &App,
    mut shown: v1::ScanProgress,
    progress: &crate::store::Progress,
    scan: &Scan,
) -> Result<v1::ScanProgress, Fault> {
    if scan.ended_at.is_some() {
        return Ok(shown);
    }
    let rate = shown.cells_per_second;
    if rate > 0.0 && progress.done > 0 && !shown.listing {
        let left = progress.accounts - progress.done;
        let cells_left = left as f64 * progress.cells as f64 / progress.done as f64;
        shown.eta_seconds = (cells_left / rate).ceil().min(f64::from(i32::MAX)) as i32;
    }
    let mut waiting: BTreeMap<String, i32> = BTreeMap::new();
    for (_, usage) in crate::agents::usage(app).await? {
        *waiting.entry(usage.limit).or_default() +=
            i32::try_from(usage.waiting).unwrap_or(i32::MAX);
    }
    waiting.retain(|_, n| *n > 0);
    shown.waiting = waiting.into_iter().collect();
    Ok(shown)
}

/// The rate of a watch: cells a second over its last few seconds.
#[derive(Default)]
struct Window(VecDeque<(Time, i64)>);

impl Window {
    fn rate(&mut self, now: Time, cells: i64) -> Option<f64> {
        self.0.push_back((now, cells));
        while self.0.front().is_some_and(|(at, _)| now.since(*at).0 > WINDOW_MS) && self.0.len() > 2
        {
            self.0.pop_front();
        }
        let (at, before) = self.0.front()?;
        let seconds = now.since(*at).0 as f64 / 1e3;
        (seconds >= 1.0).then(|| (cells - before).max(0) as f64 / seconds)
    }
}

/// A frame of a watch: progress alone while the scan runs, everything at its end.
async fn frame(app: &App, id: &str, window: &Mutex<Window>) -> Result<v1::Scan, Fault> {
    let (_, scan): (Row, Scan) = app.load(Kind::Scan, id).await?;
    if scan.ended_at.is_some() {
        return show(app, id).await;
    }
    let progress = app.store.scan_progress(id).await?;
    let mut shown = convert::scan(&scan, &progress, now());
    let mut about = shown.progress.unwrap_or_default();
    let rate = window.lock().unwrap_or_else(PoisonError::into_inner).rate(now(), progress.cells);
    about.cells_per_second = rate.unwrap_or(about.cells_per_second);
    shown.progress = Some(guess(app, about, &progress, &scan).await?);
    Ok(shown)
}

#[tonic::async_trait]
impl ScanService for Rpc {
    async fn start_scan(
        &self,
        request: Request<v1::StartScanRequest>,
    ) -> Answer<v1::StartScanResponse> {
        let who = actor(request.metadata())?;
        let asked = request.into_inner();
        let scope = convert::scope(asked.scope)?;
        let id = id_of("sc", &asked.request_id);
        scans::regions_exist(&self.0, &scope).await?;
        // Evidence for a gate wants the lists of regions that were read with it.
        let (fresh_regions, config) = (!asked.candidates, asked.aws_config);
        let (keys, snapshots) = (asked.keys, asked.snapshots);
        let options = Options { keys, fresh_regions, config, snapshots };
        let scan = if asked.candidates {
            if asked.validate_only {
                return ok(v1::StartScanResponse { scan: None });
            }
            scans::start_candidates(&self.0, &who, &id, &scope, options).await?
        } else if scope.is_whole() {
            if asked.validate_only {
                return ok(v1::StartScanResponse { scan: None });
            }
            let start = scans::Start::demand(&id, &[], &scope, options);
            scans::start_whole(&self.0, &who, start).await?
        } else {
            let tree = self.0.tree().await?;
            let accounts = scans::scannable(&scope, &tree)?;
            if accounts.is_empty() {
                return Err(Fault::Refused {
                    reason: "NOTHING_TO_SCAN",
                    message:
                        "no account of this scope can be scanned: none is ACTIVE or PENDING_CLOSURE"
                            .into(),
                }
                .into());
            }
            if asked.validate_only {
                return ok(v1::StartScanResponse { scan: None });
            }
            let start = scans::Start::demand(&id, &accounts, &scope, options);
            scans::start(&self.0, &who, start).await?
        };
        ok(v1::StartScanResponse { scan: Some(show(&self.0, &scan.id).await?) })
    }

    async fn list_scans(
        &self,
        request: Request<v1::ListScansRequest>,
    ) -> Answer<v1::ListScansResponse> {
        let asked = request.into_inner();
        let mut rows: Vec<(Row, Scan)> = self.0.all(Kind::Scan, &Filter::default()).await?;
        rows.sort_by_key(|(row, _)| std::cmp::Reverse(row.created_at));
        let (rows, next_page_token) = page(rows, page_size(asked.page_size)?, &asked.page_token)?;
        let mut scans = Vec::new();
        for (_, scan) in &rows {
            let progress = self.0.store.scan_progress(&scan.id).await.map_err(Fault::from)?;
            let mut shown = convert::scan(scan, &progress, now());
            let about = shown.progress.clone().unwrap_or_default();
            (shown.cells, shown.failed_cells) = (about.cells, about.failed);
            scans.push(shown);
        }
        ok(v1::ListScansResponse { scans, next_page_token })
    }

    async fn get_scan(&self, request: Request<v1::GetScanRequest>) -> Answer<v1::GetScanResponse> {
        ok(v1::GetScanResponse { scan: Some(show(&self.0, &request.get_ref().id).await?) })
    }

    type WatchScanStream = Watch<v1::WatchScanResponse>;

    async fn watch_scan(
        &self,
        request: Request<v1::WatchScanRequest>,
    ) -> Answer<Self::WatchScanStream> {
        let (app, id) = (self.0.clone(), request.into_inner().id);
        let window = Arc::new(Mutex::new(Window::default()));
        let read = move || {
            let (app, id, window) = (app.clone(), id.clone(), window.clone());
            async move { Ok(v1::WatchScanResponse { scan: Some(frame(&app, &id, &window).await?) }) }
        };
        let done =
            |r: &v1::WatchScanResponse| r.scan.as_ref().is_some_and(|s| !s.ended_at.is_empty());
        ok(watch(read, done))
    }

    async fn list_cells(
        &self,
        request: Request<v1::ListCellsRequest>,
    ) -> Answer<v1::ListCellsResponse> {
        let asked = request.into_inner();
        let scope = convert::scope(asked.scope)?;
        let tree = self.0.tree().await?;
        let page = page_of(&scope, &tree, asked.page_size, &asked.page_token)?;
        let mut cells = Vec::new();
        // Each state is a part of an index of its own.
        for state in states(&asked.states)? {
            let page = Page { state, ..page.clone() };
            cells.extend(self.0.store.cell_page(&page).await.map_err(Fault::from)?);
        }
        cells.sort_by(|a, b| (&a.account, &a.region).cmp(&(&b.account, &b.region)));
        cells.truncate(usize::try_from(page.limit).unwrap_or(usize::MAX));
        let next_page_token = next_page(&page, &cells, |c| format!("{} {}", c.account, c.region));
        ok(v1::ListCellsResponse {
            cells: cells.iter().map(convert::cell).collect(),
            next_page_token,
        })
    }
}
