//! Remediations on the server's side: what agents hand back.

use crate::agents;
use crate::app::{App, Fault, now, refused};
use crate::freezes::Frozen;
use crate::reports::row_of;
use crate::store::{Fenced, Filter, Kind, Lease, Row};
use ringfence_domain::controls;
use ringfence_domain::far;
use ringfence_domain::finding::{self, Finding, FindingState};
use ringfence_domain::remediation::{Green, Part, Remediation, State};

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

/// The findings that a remediation changes: a verified twin holds its original; after a cutover the
/// originals have other names, and findings are by name. The next scan says the same.
async fn findings(app: &App, rem: &Remediation) -> Result<Vec<Row>, Fault> {
    let mut rows = Vec::new();
    // What was scanned under that name meanwhile may be another database.
    let known = async |id: &str| -> Result<Option<(Row, Finding)>, Fault> {
        match app.store.get(Kind::Finding, id).await? {
            None => Ok(None),
            Some(row) => {
                let finding: Finding = row.document()?;
                Ok(Some((row, finding)))
            }
        }
    };
    let done = rem.swap.as_ref().is_some_and(|s| s.done_at.is_some());
    // AWS changes all names at once; those of a swap are said at its end.
    let switched = rem.green().is_some_and(Green::switched);
    let kept =
        (rem.state == State::CutOver && done) || (switched && rem.state != State::Decommissioned);
    let parts = rem.parts();
    let names = parts.iter().map(|p| (p.id.to_owned(), p.held.clone())).collect();
    // Members of a cluster have none of their own.
    let own =
        |p: &&Part<'_>| rem.kind != finding::Kind::Cluster || p.kind == finding::Kind::Cluster;
    for part in parts.iter().filter(own) {
        let control = controls::of(rem.kind).id();
        let own = Finding::id_of(control, part.arn);
        // A finding is of its own region, and called by its name there.
        let held_name = far::name(&part.held);
        let held = Finding::id_of(control, &far::renamed(part.arn, held_name));
        let is = |f: &Finding| f.resource.resource_id() == part.resource_id;
        let before = known(&own).await?.filter(|(_, f)| is(f));
        match rem.state {
            _ if kept => {
                let there = known(&held).await?;
                // One that is known as held keeps what people said of it.
                // After a switchover what holds it bears its name.
                let twin = rem.green().map(|_| part.id.to_owned());
                if let Some((row, mut new)) = there.clone().filter(|(_, f)| is(f)) {
                    (new.state, new.held_by) = (FindingState::Open, Some(rem.id.clone()));
                    new.twin = twin;
                    rows.push(row_of(Some(row), &new));
                } else if let Some((_, old)) = &before {
                    let mut new = Finding { id: held.clone(), ..old.clone() };
                    new.resource = old.resource.renamed(held_name, &names);
                    (new.state, new.held_by) = (FindingState::Open, Some(rem.id.clone()));
                    new.twin = twin;
                    rows.push(row_of(there.map(|(row, _)| row), &new));
                }
                if let Some((row, old)) = before.filter(|(_, f)| f.state == FindingState::Open) {
                    rows.push(row_of(Some(row), &old.resolved(now())));
                }
            }
            State::RolledBack | State::Decommissioned => {
                if let Some((row, old)) = known(&held).await?.filter(|(_, f)| is(f)) {
                    rows.push(row_of(Some(row), &old.resolved(now())));
                }
                if let Some((row, mut old)) = before.filter(|_| rem.state == State::RolledBack) {
                    (old.state, old.held_by) = (FindingState::Open, Some(rem.id.clone()));
                    rows.push(row_of(Some(row), &old));
                }
            }
            _ => {
                if let Some((row, mut old)) = before {
                    let holds = rem.verified_at.map(|_| rem.id.clone());
                    let twin = rem.green().and(holds.as_ref()).map(|_| part.twin.clone());
                    if (&old.held_by, &old.twin) != (&holds, &twin) {
                        (old.held_by, old.twin) = (holds, twin);
                        rows.push(row_of(Some(row), &old));
                    }
                }
            }
        }
    }
    Ok(rows)
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
        // Whatever is asked of AWS is recorded first: what is refused here is not asked.
        if rem.asks(&old)
            && let Some(why) = Frozen::read(app).await?.holds(rem, old.midway())
        {
            return refused("FROZEN", why);
        }
        let switched = |r: &Remediation| r.green().is_some_and(Green::switched);
        let changed = old.state != rem.state
            || old.verified_at != rem.verified_at
            || switched(&old) != switched(rem);
        let mut rows = vec![row_with(row, rem)];
        if changed {
            rows.extend(findings(app, rem).await?);
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
