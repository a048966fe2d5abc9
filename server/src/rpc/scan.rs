//! `ScanService`.

use super::{Answer, Rpc, Watch, actor, convert, id_of, ok, page_size, watch};
use crate::app::{App, Fault};
use crate::scans;
use crate::store::{Filter, Kind, Row};
use ringfence_domain::finding::{Finding, FindingState};
use ringfence_domain::work::Scan;
use ringfence_proto::v1;
use ringfence_proto::v1::scan_service_server::ScanService;
use std::collections::BTreeSet;
use tonic::{Request, Status};

/// A scan with its cells and findings as they are now.
async fn show(app: &App, id: &str) -> Result<v1::Scan, Fault> {
    let (_, scan): (Row, Scan) = app.load(Kind::Scan, id).await?;
    let progress = app.store.scan_progress(id).await?;
    let cells = scans::cells(app, &scan).await?;
    let seen: BTreeSet<(&str, &str)> =
        cells.iter().map(|c| (c.account.as_str(), c.region.as_str())).collect();
    let filter = Filter { state: FindingState::Open.as_str().into(), ..Filter::default() };
    let findings: Vec<(Row, Finding)> = app.all(Kind::Finding, &filter).await?;
    let open = findings
        .iter()
        .filter(|(_, f)| seen.contains(&(f.account.as_str(), f.region.as_str())))
        .count();
    Ok(convert::scan(&scan, progress, &cells, open))
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
        let scan =
            scans::start(&self.0, &who, &id_of("sc", &asked.request_id), accounts, &scope, false)
                .await?;
        ok(v1::StartScanResponse { scan: Some(show(&self.0, &scan.id).await?) })
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
        let read = move || {
            let (app, id) = (app.clone(), id.clone());
            async move { Ok(v1::WatchScanResponse { scan: Some(show(&app, &id).await?) }) }
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
        let accounts = scope.accounts(&self.0.tree().await?)?;
        let size = page_size(asked.page_size)?;
        let (mut account, mut region) = match asked.page_token.split_once(' ') {
            Some((a, r)) => (a.to_owned(), r.to_owned()),
            None if asked.page_token.is_empty() => (String::new(), String::new()),
            None => return Err(Status::invalid_argument("page_token: not one of ours")),
        };
        let mut cells = Vec::new();
        loop {
            let found =
                self.0.store.cells("", (&account, &region), size).await.map_err(Fault::from)?;
            let Some(last) = found.last() else {
                return ok(v1::ListCellsResponse { cells, next_page_token: String::new() });
            };
            (account, region) = (last.account.as_str().to_owned(), last.region.clone());
            let wanted =
                found.iter().filter(|c| accounts.contains(&c.account) && scope.region(&c.region));
            cells.extend(wanted.map(convert::cell));
            // Pages may come a little longer than asked for rather than lose what was read.
            if convert::count(cells.len()) >= i32::try_from(size).unwrap_or(i32::MAX) {
                return ok(v1::ListCellsResponse {
                    cells,
                    next_page_token: format!("{account} {region}"),
                });
            }
        }
    }
}
