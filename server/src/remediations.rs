//! Remediations on the server's side: the work that agents take, and what they hand back.

use crate::app::{App, Fault, now};
use crate::scans;
use crate::store::{Fenced, Filter, Kind, Lease, Row};
use ringfence_domain::audit::Actor;
use ringfence_domain::finding::Finding;
use ringfence_domain::id::AccountId;
use ringfence_domain::remediation::{Remediation, State};
use ringfence_domain::work::{Scan, ScanWork, Versioned, Work};

/// Commits are retried so often when the finding changed between reading and writing (a waiver).
const COMMIT_TRIES: u32 = 5;

/// All that is due in an account that was just leased.
pub async fn work_of(app: &App, lease: &Lease) -> Result<Work, Fault> {
    let account: AccountId =
        lease.account.parse().map_err(|e| Fault::Invalid(format!("a lease on no account: {e}")))?;
    let mut scans = Vec::new();
    for id in app.store.scans_of(&lease.account).await? {
        let (_, scan): (Row, Scan) = app.load(Kind::Scan, &id).await?;
        scans.push(ScanWork { scan: id, regions: scan.regions, keys: scan.keys });
    }
    let mut remediations = Vec::new();
    for state in [State::Pending, State::Running] {
        let filter = Filter {
            account: lease.account.clone(),
            state: state.as_str().into(),
            ..Filter::default()
        };
        let rows: Vec<(Row, Remediation)> = app.all(Kind::Remediation, &filter).await?;
        let due = rows.into_iter().filter(|(row, _)| row.wake_at <= now());
        remediations
            .extend(due.map(|(row, remediation)| Versioned { version: row.version, remediation }));
    }
    let cells = app.store.cells(&lease.account, ("", ""), 1_000).await?;
    let known_regions = cells.into_iter().map(|c| c.region).collect();
    Ok(Work { account, known_regions, scans, remediations })
}

/// Stores a remediation's new state under the agent's fence. `None` if the lease is lost or the
/// version is old: the agent must drop what it knows. A verified one marks its finding as held.
pub async fn commit(
    app: &App,
    agent: &str,
    lease: &Lease,
    version: i64,
    rem: &Remediation,
    action: &str,
    reason: &str,
) -> Result<Option<i64>, Fault> {
    let actor = Actor::system(&format!("agent/{agent}"));
    for _ in 0..COMMIT_TRIES {
        let (row, old): (Row, Remediation) = app.load(Kind::Remediation, &rem.id).await?;
        if row.version != version || old.account.as_str() != lease.account {
            return Ok(None);
        }
        let mut row = row.with(rem.state.as_str(), rem);
        row.wake_at = rem.wake_at;
        let mut rows = vec![row];
        // With the milestone, and with all that follows it: the twin stands, whatever cleaning up does.
        if rem.verified_at.is_some() {
            let (row, mut finding): (Row, Finding) = app.load(Kind::Finding, &rem.finding).await?;
            finding.held_by = Some(rem.id.clone());
            rows.push(scans::row_of(Some(row), &finding));
        }
        let event = (!action.is_empty()).then(|| actor.did(now(), action, &rem.id, reason));
        match app.store.commit(agent, lease, &rows, event.as_ref()).await? {
            Fenced::Done => return Ok(Some(version + 1)),
            Fenced::Lost => return Ok(None),
            Fenced::Stale => {}
        }
    }
    Err(Fault::Conflict(format!("{} keeps changing", rem.id)))
}
