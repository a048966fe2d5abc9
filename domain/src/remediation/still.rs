//! An original that is stopped as soon as its snapshot is there (`--quiesce stop`): what runs inside a database,
//! schedulers and jobs, writes without a connection, and nothing runs in one that is stopped.
//!
//! RDS could make the snapshot itself while it stops an instance (API reference, StopDBInstance,
//! DBSnapshotIdentifier); but it takes no tags for it, so nobody could tell it from somebody else's, and there is no
//! such thing for clusters. A snapshot of a database that is cut off, and its stop, come to the same.

use super::quiet::{Quiesce, Verdict, judge};
use super::swap::{Swap, ask};
use super::unit::{Db, find};
use super::{Act, Activity, Bounds, Mark, Remediation, Step, place, repeat};
use crate::finding::Resource;
use crate::rds::Sweep;
use crate::time::Time;

/// So many periods after a stop CloudWatch has all that it ever will have; the application waits.
const LATE: i64 = 15;

/// Replicas, their sources and Multi-AZ SQL Server cannot be stopped (RDS guide, "Stopping a DB instance").
pub(crate) fn stoppable(resource: &Resource) -> bool {
    match resource {
        Resource::Instance { instance, replicas } => {
            let mirrored = instance.engine.starts_with("sqlserver") && instance.settings.multi_az;
            replicas.is_empty() && !mirrored
        }
        Resource::Cluster { .. } => true,
        Resource::Snapshot { .. } => false,
    }
}

/// Stops the original once its snapshot is there, and asks what it did until then; `None` once both are done, or
/// where it is not to be stopped.
pub(super) fn stop(rem: &Remediation, seen: &Sweep, now: Time, bounds: Bounds) -> Option<Step> {
    let swap = rem.swap.as_ref().filter(|s| s.quiesce == Quiesce::Stop && s.stopped.is_none())?;
    let quiet = swap.quiet.as_ref()?;
    let parts = rem.parts();
    let source = find(seen, parts[0].kind, parts[0].resource_id)?;
    let act = Act::Stop {
        kind: source.kind,
        database: source.id.to_owned(),
        resource_id: source.resource_id.to_owned(),
    };
    let key = act.key();
    if source.status != "stopped" {
        return place::settle(rem, &source, &key, now)
            .or_else(|| Some(repeat(rem, act, now, bounds)));
    }
    // Its last value is of the period before the one in which it went down, and one may be missing.
    let asked = rem.intents.get(&key).map_or(now, |i| i.at);
    let until = Time(asked.0 - 2 * bounds.metric_period.0);
    let late = now.since(asked).0 > LATE * bounds.metric_period.0;
    let names = parts.iter().filter(|p| p.written).map(|p| p.id.to_owned()).collect();
    Some(match ask(rem, names, quiet.from, now, bounds).map(|a| (judge(a, until, bounds), a)) {
        Err(step) => step,
        Ok((Verdict::Quiet, proof)) => Step::Mark(Mark::Stopped { proof: proof.clone() }),
        Ok((Verdict::NotYet(why), _)) if late => Step::Mark(Mark::GivingUp {
            why: format!("nobody knows what {} did until it was stopped ({why}); retry", source.id),
        }),
        Ok((Verdict::NotYet(why), _)) => Step::Wait(why),
        Ok((Verdict::Connected(why) | Verdict::Written(why), _)) => Step::Mark(Mark::GivingUp {
            why: format!("{} was used between its snapshot and its stop: {why}; retry", source.id),
        }),
    })
}

/// From when the original must be proven quiet again, where it was stopped: from its start on, for until then nothing
/// ran in it. Or what to do first.
pub(super) fn since(swap: &Swap, top: &Db<'_>) -> Result<Option<Time>, Step> {
    match (&swap.stopped, swap.restarted) {
        (None, _) => Ok(None),
        (Some(_), Some(restarted)) => Ok(Some(restarted)),
        (Some(_), None) if top.status == "stopped" => Err(Step::Mark(Mark::Restarts)),
        (Some(_), None) => Err(Step::AskHuman(format!(
            "{} was stopped after its snapshot, and is {}: somebody started it, or AWS did after seven days, so the twin may lack writes: roll it back, discard the twin, and retry",
            top.id, top.status
        ))),
    }
}

/// What CloudWatch said of one that was just started: there is nothing until it is up, and that is no hole.
pub(super) fn since_its_start(activity: &Activity) -> Activity {
    Activity { gap: activity.inner, ..activity.clone() }
}
