//! What was found goes to the server in batches: one transaction for the cells of many accounts.

use crate::lease::{Pipe, Slots, within};
use crate::rest;
use ringfence_domain::bounds::{REPORT_CELLS, REPORT_EVERY, REPORT_FINDINGS};
use ringfence_domain::id::AccountId;
use ringfence_domain::work::AccountReport;
use ringfence_proto::v1;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tonic::Status;

/// Reports of one thread's accounts that wait to be sent. A full queue makes the scans wait.
const QUEUE: usize = 1_024;

/// How often a batch is sent again while the server is away. Longer than any lease lives: whoever took
/// the accounts over has scanned them by then.
const TRIES: u32 = 40;

/// How long the server may take to store one batch.
const ANSWER_FOR: std::time::Duration = std::time::Duration::from_secs(30);

/// Between two tries.
const AWAY_MS: u64 = 1_500;

type Answer = oneshot::Sender<Result<(), Status>>;

/// The way to the task that sends.
#[derive(Clone)]
pub(crate) struct Reporter(mpsc::Sender<(AccountReport, Option<Answer>)>);

impl Reporter {
    /// Starts the task; it ends when all reporters are gone and everything is sent.
    pub(crate) fn start<P: Pipe>(
        pipe: P,
        agent: String,
        slots: Slots,
    ) -> (Reporter, tokio::task::JoinHandle<()>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Reporter(sender), tokio::spawn(send(pipe, agent, receiver, slots)))
    }

    /// Some cells; nobody waits for the answer.
    pub(crate) async fn cells(&self, report: AccountReport) {
        // Never refused: the task outlives all reporters.
        let _ = self.0.send((report, None)).await;
    }

    /// The last cells of an account: waits until they are stored.
    ///
    /// # Errors
    /// The lease is lost, or the server did not answer for longer than any lease lives.
    pub(crate) async fn last(&self, report: AccountReport) -> Result<(), Status> {
        let (sender, receiver) = oneshot::channel();
        let _ = self.0.send((report, Some(sender))).await;
        receiver.await.unwrap_or_else(|_| Err(Status::unavailable("the report was not sent")))
    }
}

/// Reports that go together, those of one account as one.
#[derive(Default)]
struct Batch {
    reports: BTreeMap<(AccountId, i64), AccountReport>,
    waiting: Vec<((AccountId, i64), Answer)>,
    cells: usize,
    findings: usize,
}

impl Batch {
    fn add(&mut self, report: AccountReport, answer: Option<Answer>) {
        self.cells += report.cells.len();
        self.findings += report.cells.iter().map(|c| c.detected.len()).sum::<usize>();
        let key = (report.account.clone(), report.fence);
        if let Some(answer) = answer {
            self.waiting.push((key.clone(), answer));
        }
        match self.reports.entry(key) {
            Entry::Vacant(place) => {
                place.insert(report);
            }
            Entry::Occupied(mut place) => {
                let before = place.get_mut();
                before.cells.extend(report.cells);
                before.end = report.end.or(before.end.take());
            }
        }
    }

    fn is_full(&self) -> bool {
        self.cells >= REPORT_CELLS || self.findings >= REPORT_FINDINGS
    }
}

async fn send<P: Pipe>(
    pipe: P,
    agent: String,
    mut queue: mpsc::Receiver<(AccountReport, Option<Answer>)>,
    slots: Slots,
) {
    while let Some((report, answer)) = queue.recv().await {
        let mut batch = Batch::default();
        batch.add(report, answer);
        let until = deadline();
        // Where no account is being read, nothing follows that would be worth waiting for.
        while !(batch.is_full() || queue.is_empty() && slots.all_free()) {
            match tokio::time::timeout_at(until, queue.recv()).await {
                Ok(Some((report, answer))) => batch.add(report, answer),
                Ok(None) | Err(_) => break,
            }
        }
        let Batch { reports, waiting, .. } = batch;
        let reports: Vec<AccountReport> = reports.into_values().collect();
        let answer = deliver(&pipe, &agent, &reports).await;
        for ((account, fence), waiter) in waiting {
            let ours = match &answer {
                Ok(lost) if lost.contains(&(account.as_str().to_owned(), fence)) => {
                    Err(Status::aborted("the lease is lost"))
                }
                Ok(_) => Ok(()),
                Err(status) => Err(status.clone()),
            };
            // Whoever does not wait any more was stopped.
            let _ = waiter.send(ours);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a batch gathers by the monotonic clock")]
fn deadline() -> Instant {
    Instant::now() + REPORT_EVERY.to_duration()
}

/// Sends a batch until it is answered. Which leases were lost.
async fn deliver<P: Pipe>(
    pipe: &P,
    agent: &str,
    reports: &[AccountReport],
) -> Result<Vec<(String, i64)>, Status> {
    let reports_json =
        serde_json::to_string(reports).map_err(|e| Status::internal(e.to_string()))?;
    let mut tries = 0;
    loop {
        let agent = agent.to_owned();
        let request = v1::ReportCellsRequest { agent, reports_json: reports_json.clone() };
        // A server that hangs is one that is away: the thread must not wait for it for ever.
        match within(ANSWER_FOR, pipe.report(request)).await {
            Ok(answer) => {
                return Ok(answer.lost.into_iter().map(|l| (l.account, l.fence)).collect());
            }
            // What the server cannot read it will not read the next time either.
            Err(status) if status.code() == tonic::Code::InvalidArgument || tries >= TRIES => {
                tracing::warn!("{} cells were not stored: {}", reports.len(), status.message());
                return Err(status);
            }
            Err(status) => {
                if tries == 0 {
                    tracing::warn!("a report is sent again: {}", status.message());
                }
                tries += 1;
                rest(AWAY_MS).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(account: &str, last: bool) -> AccountReport {
        use ringfence_domain::ledger::{Cell, RegionsSource};
        use ringfence_domain::work::{AccountEnd, CellReport};
        let account: AccountId = account.parse().unwrap();
        let cell = Cell::pending(account.clone(), "eu-west-1", RegionsSource::Account);
        let end = AccountEnd {
            regions: Vec::new(),
            regions_source: RegionsSource::Account,
            list: None,
            unreachable: Vec::new(),
            cells: 1,
            failed: 0,
            found: 0,
            note: String::new(),
            release: true,
        };
        let cells = vec![CellReport { cell, detected: Vec::new() }];
        let scans = BTreeMap::from([("sc-1".into(), 0)]);
        AccountReport { account, fence: 1, scans, cells, end: last.then_some(end) }
    }

    #[test]
    fn parts_of_one_account_go_as_one_and_the_end_is_kept() {
        let mut batch = Batch::default();
        batch.add(report("111122223333", false), None);
        batch.add(report("111122223333", true), None);
        batch.add(report("111122223333", false), None);
        batch.add(report("111122223334", false), None);
        assert_eq!((batch.reports.len(), batch.cells), (2, 4));
        let first = batch.reports.values().next().unwrap();
        assert!(first.cells.len() == 3 && first.end.is_some());
    }
}
