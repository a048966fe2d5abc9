//! Whether a database is quiet: what CloudWatch says of its connections and writes.
//!
//! Metrics are evidence and not a lock (RDS guide, "Amazon CloudWatch metrics for Amazon RDS": one value a
//! minute, late by a minute or two), so they are looked at for a stretch of time, and again for the time
//! since then after the database was isolated. A minute without data counts as unknown, never as quiet.

use super::place::{groups_key, isolate};
use super::{Act, Bounds, Mark, Remediation, Step};
use crate::rds::Sweep;
use crate::time::{Span, Time};
use serde::{Deserialize, Serialize};
use std::fmt;

/// CloudWatch keeps values of a minute for 15 days (CloudWatch guide, "Metrics retention"); a proof that reaches
/// further back would have a hole.
pub(super) const KNOWN_FOR_MAX: Span = Span::hours(14 * 24);

/// How writes are made to stop before the snapshot of a database that is to be swapped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quiesce {
    /// Its owner stops them; it is waited until nobody is connected.
    #[default]
    Observe,
    /// It is put into the isolation security group, and rebooted if connections outlive that.
    Isolate,
    /// The same, and it is stopped as soon as its snapshot is there: what runs inside it needs no connection.
    Stop,
    /// Its owner says that they have stopped, and CloudWatch must agree from then on.
    Confirm,
}

impl Quiesce {
    /// The name in files, JSON and on screen.
    pub fn as_str(self) -> &'static str {
        match self {
            Quiesce::Observe => "observe",
            Quiesce::Isolate => "isolate",
            Quiesce::Stop => "stop",
            Quiesce::Confirm => "confirm",
        }
    }

    /// Whether the original is cut off before its snapshot.
    pub fn isolates(self) -> bool {
        matches!(self, Quiesce::Isolate | Quiesce::Stop)
    }
}

impl std::str::FromStr for Quiesce {
    type Err = String;

    fn from_str(text: &str) -> Result<Quiesce, String> {
        let all = [Quiesce::Observe, Quiesce::Isolate, Quiesce::Stop, Quiesce::Confirm];
        let found = all.into_iter().find(|q| q.as_str() == text);
        found.ok_or_else(|| format!("`{text}`: it is observe, isolate, stop or confirm"))
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
    /// The longest time without, of all of them, up to `until`.
    #[serde(default)]
    pub gap: Span,
    /// The most connections at a time (DatabaseConnections, Maximum).
    pub connections: u32,
    /// The most writes a second, rounded up (WriteIOPS, Average).
    pub writes: u32,
    /// The last period with a connection.
    pub connected_at: Option<Time>,
}

impl Activity {
    /// What two answers to one question mean together: the busiest of them, and what is known least.
    #[must_use]
    pub fn and(&self, other: &Activity) -> Activity {
        Activity {
            names: [&self.names[..], &other.names[..]].concat(),
            from: self.from.max(other.from),
            until: self.until.min(other.until),
            at: self.at.min(other.at),
            points: self.points.min(other.points),
            gap: self.gap.max(other.gap),
            connections: self.connections.max(other.connections),
            writes: self.writes.max(other.writes),
            connected_at: self.connected_at.max(other.connected_at),
        }
    }
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
    /// Somebody was.
    Connected(String),
    /// Nobody was, and it wrote.
    Written(String),
    /// CloudWatch has not said enough yet.
    NotYet(String),
}

/// Judges `activity` for the time from its beginning to `until` at least.
pub(super) fn judge(activity: &Activity, until: Time, bounds: Bounds) -> Verdict {
    if let Some(why) = connected(activity) {
        return Verdict::Connected(why);
    }
    if activity.writes > bounds.quiet_writes {
        return Verdict::Written(format!(
            "{} writes/s on {}, and remediation.quiet_writes is {}",
            activity.writes,
            activity.names.join(", "),
            bounds.quiet_writes
        ));
    }
    // RDS leaves out a minute now and then; in a longer hole anything could have happened.
    if activity.until < until || activity.gap.0 > HOLE * bounds.metric_period.0 {
        return Verdict::NotYet(late(activity));
    }
    Verdict::Quiet
}

/// Who was connected, in words; `None` where nobody was.
pub(super) fn connected(activity: &Activity) -> Option<String> {
    let last = activity.connected_at.unwrap_or(activity.until);
    (activity.connections > 0).then(|| {
        let names = activity.names.join(", ");
        format!("{} connections to {names}, the last at {last}", activity.connections)
    })
}

/// Periods without a value that are no hole yet.
const HOLE: i64 = 5;

/// What to say while CloudWatch has not said enough.
pub(super) fn late(activity: &Activity) -> String {
    let names = activity.names.join(", ");
    let hole = match activity.gap.0 >= 1_000 {
        true => format!(", with a hole of {}", activity.gap),
        false => String::new(),
    };
    format!("CloudWatch knows {names} up to {}{hole}; it is late by some minutes", activity.until)
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
    let mut stretch = bounds.quiet_for;
    if swap.quiesce == Quiesce::Confirm {
        let Some(word) = &swap.confirmed else {
            return Some(Step::Wait(format!(
                "waiting for its owner: once nobody writes to {}, ringfence remediation confirm {} --reason ...",
                top.id, rem.id
            )));
        };
        // Who says so need not be waited for as one who does not; from then on all is proven as ever.
        (since, stretch) = (word.0, Span(2 * bounds.metric_period.0));
    }
    if swap.quiesce.isolates() {
        let Some(source) = super::unit::find(seen, top.kind, top.resource_id) else {
            return Some(Step::AskHuman(format!("the original {} is gone", top.id)));
        };
        if let Some(step) = isolate(rem, &source, &swap.only(), now, bounds) {
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
        let isolated = rem.intents.get(&groups_key(top.resource_id, &swap.only()));
        since = since.max(isolated.map_or(Time(0), |i| i.at.plus(bounds.metric_period)));
    }
    let names: Vec<String> = parts.iter().filter(|p| p.written).map(|p| p.id.to_owned()).collect();
    Some(wait_until_quiet(rem, &names, (since, stretch), now, bounds))
}

/// A stretch without a connection, after `since`.
fn wait_until_quiet(
    rem: &Remediation,
    names: &[String],
    (since, stretch): (Time, Span),
    now: Time,
    bounds: Bounds,
) -> Step {
    let lag = Span(3 * bounds.metric_period.0);
    let begin = Time(now.0 - stretch.0 - lag.0).max(since);
    if begin >= now {
        return Step::Wait("it should be quiet just now; CloudWatch is asked in a moment".into());
    }
    let answers = |a: &&Activity| a.from >= since && a.connected_at.is_none_or(|at| at >= since);
    let Some(activity) = answered(rem, names, now, now, bounds).filter(answers) else {
        return Step::Measure { names: names.to_vec(), from: begin };
    };
    let until = activity.from.plus(stretch);
    match judge(activity, until, bounds) {
        Verdict::Quiet => Step::Mark(Mark::Quiet { activity: activity.clone() }),
        Verdict::NotYet(why) => Step::Wait(why),
        Verdict::Connected(why) if rem.swap.as_ref().is_some_and(|s| s.quiesce.isolates()) => {
            outlived(rem, &why, now, bounds)
        }
        // Nobody writes for ever to a database that nobody is connected to: it flushes, or vacuums.
        Verdict::Connected(why) | Verdict::Written(why) => {
            Step::Wait(format!("waiting for {stretch} of quiet: {why}"))
        }
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

#[cfg(test)]
mod tests {
    use super::super::sample::{self, BOUNDS};
    use super::super::{Swap, decide};
    use super::*;

    const MINUTE: i64 = 60_000;

    fn activity(points: u32, connections: u32, writes: u32) -> Activity {
        Activity {
            names: vec!["orders".into()],
            from: Time(0),
            until: Time(20 * MINUTE),
            at: Time(22 * MINUTE),
            points,
            gap: Span(0),
            connections,
            writes,
            connected_at: (connections > 0).then_some(Time(5 * MINUTE)),
        }
    }

    #[test]
    fn quiet_is_known_to_be_quiet() {
        let until = Time(15 * MINUTE);
        let judged = |a: &Activity, until| judge(a, until, BOUNDS);
        assert_eq!(judged(&activity(20, 0, 1), until), Verdict::Quiet);
        assert_eq!(judged(&activity(18, 0, 5), until), Verdict::Quiet, "a minute may be missing");
        let hole = |minutes| Activity { gap: Span(minutes * MINUTE), ..activity(20, 0, 1) };
        assert_eq!(judged(&hole(5), until), Verdict::Quiet);
        assert!(matches!(judged(&hole(6), until), Verdict::NotYet(_)), "a hole is unknown");
        assert!(matches!(judged(&activity(20, 0, 1), Time(21 * MINUTE)), Verdict::NotYet(_)));
        assert!(matches!(judged(&activity(20, 0, 6), until), Verdict::Written(_)));
        let Verdict::Connected(why) = judged(&activity(2, 3, 0), until) else { panic!("busy") };
        assert!(why.contains("3 connections to orders, the last at 1970-01-01T00:05"), "{why}");
    }

    /// The steps before the snapshot, with what CloudWatch says between them; each a minute later.
    fn steps(quiesce: Quiesce, connections: &[u32]) -> Vec<String> {
        let (mut rem, mut seen, mut now) = sample::instance_world(&[]);
        rem.swap = Some(Swap { isolation: "sg-nobody".into(), quiesce, ..Swap::default() });
        rem.begun_at = Some(now);
        let mut said = Vec::new();
        let mut answers = connections.iter();
        for _ in 0..40 {
            let step = decide(&rem, &seen, now, BOUNDS);
            let text = sample::show(&step);
            if said.last() != Some(&text) {
                said.push(text);
            }
            match step {
                Step::Measure { names, from } => {
                    let Some(connections) = answers.next() else { break };
                    let until = Time(now.0 - 2 * MINUTE).max(from);
                    let points = u32::try_from(until.since(from).0 / MINUTE).unwrap();
                    let found = Activity {
                        names,
                        from,
                        until,
                        at: now,
                        points,
                        ..activity(0, *connections, 0)
                    };
                    let connected_at = (*connections > 0).then_some(until);
                    rem.activity = Some(Activity { connected_at, ..found });
                    continue;
                }
                Step::Act(act) => {
                    rem.intend(act.clone(), now);
                    rem.intents.get_mut(&act.key()).unwrap().done = true;
                    match act {
                        Act::SetGroups { groups, .. } => {
                            seen.instances[0].settings.vpc_security_group_ids = groups;
                        }
                        Act::Reboot { .. } => {}
                        _ => break,
                    }
                }
                Step::Mark(mark) => drop(rem.mark(&mark, now)),
                Step::AskHuman(_) => break,
                _ => {}
            }
            now = now.plus(Span::seconds(61));
        }
        said.retain(|text| !text.starts_with("measure") && !text.starts_with("wait CloudWatch"));
        said
    }

    #[test]
    fn an_owner_is_waited_for_and_nothing_is_asked_of_aws() {
        let said = steps(Quiesce::Observe, &[2, 2, 0]);
        assert!(
            said[0].starts_with("wait waiting for 15m00s of quiet: 2 connections"),
            "{said:#?}"
        );
        assert_eq!(
            said[said.len() - 2..],
            ["mark quiet", "act create snapshot ringfence-rem-1-plain"]
        );
    }

    #[test]
    fn an_owners_word_shortens_the_wait_and_not_the_proof() {
        let said = steps(Quiesce::Confirm, &[0; 9]);
        assert_eq!(said.len(), 1, "{said:#?}");
        assert!(said[0].ends_with("ringfence remediation confirm rem-1 --reason ..."), "{said:#?}");
        let confirmed = |connections: u32| {
            let (mut rem, seen, now) = sample::instance_world(&[]);
            let quiesce = Quiesce::Confirm;
            rem.swap = Some(Swap { isolation: "sg-nobody".into(), quiesce, ..Swap::default() });
            rem.state = super::super::State::Running;
            assert_eq!(rem.confirm("eve", now), None);
            assert!(rem.confirm("ann", now).unwrap().starts_with("eve said so"));
            let at = now.plus(Span(5 * MINUTE));
            let Step::Measure { from, .. } = decide(&rem, &seen, at, BOUNDS) else { panic!() };
            assert_eq!(from, now, "what was before the word counts no more");
            let until = now.plus(Span(3 * MINUTE));
            let connected_at = (connections > 0).then_some(until);
            let found = activity(3, connections, 0);
            rem.activity = Some(Activity { from, until, at, connected_at, ..found });
            sample::show(&decide(&rem, &seen, at, BOUNDS))
        };
        assert_eq!(confirmed(0), "mark quiet");
        assert!(confirmed(2).starts_with("wait waiting for 2m00s of quiet: 2 connections"));
        let (mut rem, _, now) = sample::instance_world(&[]);
        rem.swap = Some(Swap::default());
        assert!(rem.confirm("eve", now).unwrap().contains("--quiesce confirm"));
    }

    #[test]
    fn a_database_is_cut_off_rebooted_once_and_then_a_person_is_asked() {
        let quiet = [0; 40];
        let said = steps(Quiesce::Isolate, &quiet);
        assert_eq!(said[0], "act put orders into sg-nobody", "{said:#?}");
        assert_eq!(
            said[said.len() - 2..],
            ["mark quiet", "act create snapshot ringfence-rem-1-plain"]
        );
        assert!(said.iter().all(|text| !text.contains("reboot")), "{said:#?}");
        let said = steps(Quiesce::Isolate, &[[1].as_slice(), &quiet].concat());
        assert_eq!(said.iter().filter(|text| *text == "act reboot orders").count(), 1, "{said:#?}");
        assert_eq!(said.last().unwrap(), "act create snapshot ringfence-rem-1-plain");
        let said = steps(Quiesce::Isolate, &[1; 40]);
        assert!(
            said.last().unwrap().starts_with("ask isolated and rebooted, and still"),
            "{said:#?}"
        );
        assert!(!said.iter().any(|text| text.contains("snapshot")), "{said:#?}");
    }
}
