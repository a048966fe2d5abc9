//! An original that is stopped as soon as its snapshot is there (`--quiesce stop`): what runs inside a database,
//! schedulers and jobs, writes without a connection, and nothing runs in one that is stopped.
//!
//! RDS could make the snapshot itself while it stops an instance (API reference, StopDBInstance,
//! DBSnapshotIdentifier); but it takes no tags for it, so nobody could tell it from somebody else's, and there is no
//! such thing for clusters.

use super::place::settle;
use super::quiet::{Quiesce, Verdict, judge};
use super::swap::ask;
use super::unit::find;
use super::{Act, Activity, Bounds, Mark, Remediation, Step, repeat};
use crate::finding::Resource;
use crate::rds::Sweep;
use crate::time::{Span, Time};

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
    let give_up = |why: String| Some(Step::Mark(Mark::GivingUp { why: format!("{why}; retry") }));
    let parts = rem.parts();
    let source = find(seen, parts[0].kind, parts[0].resource_id)?;
    let Some(quiet) = &swap.quiet else {
        return give_up(format!("{} has a snapshot, and no proof of quiet before it", source.id));
    };
    // Whoever let clients in again needs it.
    if *source.groups != swap.only() {
        return give_up(format!(
            "{} was taken out of {} before its stop",
            source.id, swap.isolation
        ));
    }
    let act = Act::Stop {
        kind: source.kind,
        database: source.id.to_owned(),
        resource_id: source.resource_id.to_owned(),
    };
    let key = act.key();
    if source.status != "stopped" {
        return settle(rem, &source, &key, now).or_else(|| Some(repeat(rem, act, now, bounds)));
    }
    // Where somebody else stopped it, it was after its snapshot was asked for. Its last value is of the period before
    // the one in which it went down, and one may be missing.
    let asked = rem.intents.get(&key).map(|i| i.first_at);
    let asked = asked.or(rem.intents.get("snapshot").map(|i| i.at)).unwrap_or(now);
    let until = Time(asked.0 - 2 * bounds.metric_period.0);
    let late = now.since(asked).0 > LATE * bounds.metric_period.0;
    let names = parts.iter().filter(|p| p.written).map(|p| p.id.to_owned()).collect();
    match ask(rem, names, quiet.from, now, bounds).map(|a| (judge(a, until, bounds), a)) {
        Err(step) => Some(step),
        Ok((Verdict::Quiet, proof)) => Some(Step::Mark(Mark::Stopped { proof: proof.clone() })),
        Ok((Verdict::NotYet(why), _)) if late => {
            give_up(format!("nobody knows what {} did until it was stopped ({why})", source.id))
        }
        Ok((Verdict::NotYet(why), _)) => Some(Step::Wait(why)),
        Ok((Verdict::Connected(why) | Verdict::Written(why), _)) => {
            give_up(format!("{} was used between its snapshot and its stop: {why}", source.id))
        }
    }
}

/// What CloudWatch said of one that was stopped in between: no values are no hole then, and whenever it ran, whoever
/// started it, there are some.
pub(super) fn but_for_its_stop(quiesce: Quiesce, activity: &Activity) -> Activity {
    let gap = if quiesce == Quiesce::Stop { Span(0) } else { activity.gap };
    Activity { gap, ..activity.clone() }
}
