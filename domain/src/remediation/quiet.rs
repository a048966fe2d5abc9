//! Whether a database is quiet: what CloudWatch says of its connections and writes.
//!
//! Metrics are evidence and not a lock (RDS guide, "Amazon CloudWatch metrics for Amazon RDS": one value a
//! minute, late by a minute or two), so they are looked at for a stretch of time, and again for the time
//! since then after the database was isolated. A minute without data counts as unknown, never as quiet.

use super::{Act, Bounds, Mark, Remediation, Step, swap};
use crate::rds::Sweep;
use crate::time::{Span, Time};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How writes are made to stop before the snapshot of a database that is to be swapped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quiesce {
    /// Its owner stops them; it is waited until nobody is connected.
    #[default]
    Observe,
    /// It is put into the isolation security group, and rebooted if connections outlive that.
    Isolate,
}

impl Quiesce {
    /// The name in files, JSON and on screen.
    pub fn as_str(self) -> &'static str {
        match self {
            Quiesce::Observe => "observe",
            Quiesce::Isolate => "isolate",
        }
    }
}

impl std::str::FromStr for Quiesce {
    type Err = String;

    fn from_str(text: &str) -> Result<Quiesce, String> {
        let all = [Quiesce::Observe, Quiesce::Isolate];
        let found = all.into_iter().find(|q| q.as_str() == text);
        found.ok_or_else(|| format!("`{text}`: it is observe or isolate"))
    }
}

/// What CloudWatch said of some instances between two moments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activity {
    /// The instances, by the names that they had.
    pub names: Vec<String>,
    /// From when.
    pub from: Time,
    /// The end of the last period that has data for all of them; `from` where there is none.
    pub until: Time,
    /// When CloudWatch was asked.
    pub at: Time,
    /// Periods with data, of the instance that has fewest.
    pub points: u32,
    /// The most connections at a time (DatabaseConnections, Maximum).
    pub connections: u32,
    /// The most writes a second, rounded up (WriteIOPS, Average).
    pub writes: u32,
    /// The last period with a connection.
    pub connected_at: Option<Time>,
}

impl fmt::Display for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} to {}: at most {} connections and {} writes/s at {}",
            self.from,
            self.until,
            self.connections,
            self.writes,
            self.names.join(", ")
        )
    }
}

/// What an [`Activity`] means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nobody was connected, and next to nothing was written, all the time.
    Quiet,
    /// Somebody was, or something was.
    Busy(String),
    /// CloudWatch has not said enough yet.
    NotYet(String),
}

/// Judges `activity` for the time from its beginning to `until` at least.
pub(super) fn judge(activity: &Activity, until: Time, bounds: Bounds) -> Verdict {
    let names = activity.names.join(", ");
    if activity.connections > 0 {
        let last = activity.connected_at.unwrap_or(activity.until);
        return Verdict::Busy(format!(
            "{} connections to {names}, the last at {last}",
            activity.connections
        ));
    }
    if activity.writes > bounds.quiet_writes {
        return Verdict::Busy(format!(
            "{} writes/s on {names}, and remediation.quiet_writes is {}",
            activity.writes, bounds.quiet_writes
        ));
    }
    // One in ten may be missing: RDS leaves out a minute now and then.
    let periods = activity.until.since(activity.from).0 / bounds.metric_period.0.max(1);
    if activity.until < until || i64::from(activity.points) * 10 < periods * 9 {
        return Verdict::NotYet(format!(
            "CloudWatch has {} values of {names} up to {}; it is late by some minutes",
            activity.points, activity.until
        ));
    }
    Verdict::Quiet
}

/// The last answer to this question, if it is fresh.
pub(super) fn answered<'a>(
    rem: &'a Remediation,
    names: &[String],
    from: Time,
    now: Time,
    bounds: Bounds,
) -> Option<&'a Activity> {
    rem.activity
        .as_ref()
        .filter(|a| a.names == names && a.from <= from && now.since(a.at) < bounds.measure_every)
}

/// Before the snapshot of a database that is to be swapped: it is quiet, and has been for a while.
/// `None` where that is proven, or not asked for.
pub(super) fn before_snapshot(
    rem: &Remediation,
    seen: &Sweep,
    now: Time,
    bounds: Bounds,
) -> Option<Step> {
    let swap = rem.swap.as_ref().filter(|s| s.quiet.is_none())?;
    let parts = rem.parts();
    let top = &parts[0];
    let mut since = Time(0);
    if swap.quiesce == Quiesce::Isolate {
        let Some(source) = super::unit::find(seen, top.kind, top.resource_id) else {
            return Some(Step::AskHuman(format!("the original {} is gone", top.id)));
        };
        if let Some(step) = swap::isolate(rem, &source, &swap.only(), now, bounds) {
            return Some(step);
        }
        let written = parts.iter().filter(|p| p.written);
        for db in written.filter_map(|p| super::unit::find(seen, p.kind, p.resource_id)) {
            let act = Act::Reboot { instance: db.id.into(), resource_id: db.resource_id.into() };
            if let Some(intent) = rem.intents.get(&act.key()) {
                if !db.settled() {
                    let what = format!("{} is {} after its reboot", db.id, db.doing());
                    return Some(Step::Wait(what));
                }
                since = since.max(intent.at.plus(bounds.metric_period));
            }
        }
        // Whoever was let in before counts no more, nor does the period in which it was isolated.
        let isolated = rem.intents.get(&swap::groups_key(top.resource_id, &swap.only()));
        since = since.max(isolated.map_or(Time(0), |i| i.at.plus(bounds.metric_period)));
    }
    let names: Vec<String> = parts.iter().filter(|p| p.written).map(|p| p.id.to_owned()).collect();
    Some(wait_until_quiet(rem, &names, since, now, bounds))
}

/// A stretch of `remediation.quiet_for` without a connection, after `since`.
fn wait_until_quiet(
    rem: &Remediation,
    names: &[String],
    since: Time,
    now: Time,
    bounds: Bounds,
) -> Step {
    let lag = Span(3 * bounds.metric_period.0);
    let begin = Time(now.0 - bounds.quiet_for.0 - lag.0).max(since);
    if begin >= now {
        return Step::Wait("isolated just now; CloudWatch is asked in a moment".into());
    }
    let answers = |a: &&Activity| a.from >= since && a.connected_at.is_none_or(|at| at >= since);
    let Some(activity) = answered(rem, names, now, now, bounds).filter(answers) else {
        return Step::Measure { names: names.to_vec(), from: begin };
    };
    let until = activity.from.plus(bounds.quiet_for);
    match judge(activity, until, bounds) {
        Verdict::Quiet => Step::Mark(Mark::Quiet { activity: activity.clone() }),
        Verdict::NotYet(why) => Step::Wait(why),
        Verdict::Busy(why) => match rem.swap.as_ref().map(|s| s.quiesce) {
            Some(Quiesce::Isolate) => outlived(rem, &why, now, bounds),
            _ => Step::Wait(format!(
                "waiting until nobody is connected for {}: {why}",
                bounds.quiet_for
            )),
        },
    }
}

/// Connections that outlive the change of groups end with a reboot, once for each database ("existing
/// connections are not interrupted when security groups change", EC2 guide, "Security group connection
/// tracking").
fn outlived(rem: &Remediation, why: &str, now: Time, bounds: Bounds) -> Step {
    for part in rem.parts().iter().filter(|p| p.written) {
        let act =
            Act::Reboot { instance: part.id.into(), resource_id: part.resource_id.to_owned() };
        match rem.intents.get(&act.key()) {
            None => return Step::Act(act),
            Some(intent) if now.since(intent.at) < bounds.expect_for => {
                return Step::Wait(format!("{} is rebooting: {why}", part.id));
            }
            Some(_) => {}
        }
    }
    Step::AskHuman(format!("isolated and rebooted, and still: {why}"))
}
