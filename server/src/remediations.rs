//! Remediations on the server's side: what agents hand back.

use crate::agents;
use crate::app::{App, Fault, now};
use crate::reports::row_of;
use crate::store::{Fenced, Filter, Kind, Lease, Row};
use ringfence_domain::finding::Finding;
use ringfence_domain::remediation::Remediation;

/// Commits are retried so often when the finding changed between reading and writing (a waiver).
const COMMIT_TRIES: u32 = 5;

/// The remediations of a plan; rows have the plan's id in the region's place.
pub fn of_plan(plan: &str) -> Filter {
    Filter { region: plan.to_owned(), ..Filter::default() }
}

/// The row of a remediation that was changed.
pub fn row_with(row: Row, rem: &Remediation) -> Row {
    let mut row = row.with(rem.state.as_str(), rem);
    row.wake_at = rem.wake_at;
    row
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
    let actor = agents::actor(agent);
    for _ in 0..COMMIT_TRIES {
        let (row, old): (Row, Remediation) = app.load(Kind::Remediation, &rem.id).await?;
        if row.version != version || old.account.as_str() != lease.account {
            return Ok(None);
        }
        let mut rows = vec![row_with(row, rem)];
        // With the milestone, and with all that follows it: the twin stands, whatever cleaning up does.
        if rem.verified_at.is_some() {
            let (row, mut finding): (Row, Finding) = app.load(Kind::Finding, &rem.finding).await?;
            finding.held_by = Some(rem.id.clone());
            rows.push(row_of(Some(row), &finding));
        }
        let event = (!action.is_empty()).then(|| actor.did(now(), action, &rem.id, reason));
        match app.store.commit(agent, lease, &rows, event.as_ref()).await? {
            Fenced::Done => {
                if rem.state.ended() {
                    // Its place is free.
                    app.wake_admission.notify_one();
                }
                return Ok(Some(version + 1));
            }
            Fenced::Lost => return Ok(None),
            Fenced::Stale => {}
        }
    }
    Err(Fault::Conflict(format!("{} keeps changing", rem.id)))
}
