//! Many remediations at once: how many may run, which are next, and when failures hold the rest back.

use crate::remediation::{Failure, State};
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

/// A number of databases, or a share of a plan's: `5` or `10%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Share {
    /// So many, whatever their plan.
    Count(u32),
    /// Of the plan's databases in that place, rounded up.
    Percent(u32),
}

impl Share {
    /// How many of so many.
    pub fn of(self, all: usize) -> usize {
        match self {
            Share::Count(n) => n as usize,
            Share::Percent(p) => (all * p as usize).div_ceil(100),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Share::Count(n) => write!(f, "{n}"),
            Share::Percent(p) => write!(f, "{p}%"),
        }
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Share, String> {
        let number = |text: &str| text.trim().parse::<u32>().ok();
        let share = match text.trim().strip_suffix('%') {
            Some(text) => number(text).filter(|p| *p <= 100).map(Share::Percent),
            None => number(text).map(Share::Count),
        };
        share.ok_or_else(|| format!("`{text}`: a number such as 5, or a share such as 10%"))
    }
}

/// How many databases are worked on at a time; from the settings `remediation.*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// In the whole organization.
    pub organization: Share,
    /// In accounts that are directly in one OU.
    pub ou: Share,
    /// In one account.
    pub account: Share,
    /// In one region of an account. AWS copies 20 RDS and 5 Aurora snapshots of an account to a region at
    /// a time (RDS guide, "Copying a DB snapshot"; Aurora guide, "Copying a DB cluster snapshot").
    pub cell: Share,
    /// More of a plan's databases than that stopped: the others do not begin.
    pub failures: Share,
}

/// One remediation, as far as its turn depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: String,
    /// Its plan.
    pub plan: String,
    /// Its account.
    pub account: String,
    /// Its region.
    pub region: String,
    /// The OU of its account; empty where the account left the organization.
    pub ou: String,
    /// Where it stands.
    pub state: State,
    /// Whether AWS was asked for something.
    pub begun: bool,
    /// Whether its maintenance window is shut: what has not begun waits for it.
    pub shut: bool,
    /// Whether nothing may be changed for it now: it takes no place, and gets none.
    pub frozen: bool,
    /// Whether it only takes down what it made.
    pub giving_up: bool,
    /// Why it stopped.
    pub failure: Option<Failure>,
    /// Whether a person has looked at that.
    pub forgiven: bool,
    /// Higher ones first.
    pub priority: i32,
    /// Earlier ones first.
    pub approved_at: Time,
}

/// A place that has a limit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Place<'a> {
    Organization,
    Ou(&'a str),
    Account(&'a str),
    Cell(&'a str, &'a str),
}

impl Member {
    /// Whether nothing was begun yet: admitted or not, it can be held back.
    pub fn may_be_held(&self) -> bool {
        matches!(self.state, State::Pending | State::Running) && !self.begun
    }

    fn places(&self) -> [Place<'_>; 4] {
        [
            Place::Organization,
            Place::Ou(&self.ou),
            Place::Account(&self.account),
            Place::Cell(&self.account, &self.region),
        ]
    }
}

/// What is to change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Turn {
    /// Begin now, by id.
    pub admitted: Vec<String>,
    /// Plans whose databases that have not begun are held back, and why.
    pub held: BTreeMap<String, String>,
}

/// Counts of members by place, of all plans and of each.
#[derive(Default)]
struct Counts<'a> {
    all: BTreeMap<Place<'a>, usize>,
    of_plan: BTreeMap<(&'a str, Place<'a>), usize>,
}

impl<'a> Counts<'a> {
    fn add(&mut self, member: &'a Member) {
        for place in member.places() {
            *self.all.entry(place.clone()).or_default() += 1;
            *self.of_plan.entry((&member.plan, place)).or_default() += 1;
        }
    }
}

/// Who is next. `members` are all remediations of the plans that have some to begin, and all that run.
pub fn turn(limits: &Limits, members: &[Member]) -> Turn {
    let (mut running, mut total) = (Counts::default(), Counts::default());
    for member in members {
        total.add(member);
        // Deleting one's own snapshots is no work that a limit is for.
        if member.state == State::Running && !member.giving_up && !member.frozen {
            running.add(member);
        }
    }
    let may_begin = |m: &&Member| m.state == State::Pending && (m.begun || !m.shut) && !m.frozen;
    let mut waiting: Vec<&Member> = members.iter().filter(may_begin).collect();
    waiting.sort_by_key(|m| (-i64::from(m.priority), m.approved_at, &m.id));
    let plans: BTreeSet<&str> =
        members.iter().filter(|m| m.may_be_held()).map(|m| m.plan.as_str()).collect();
    let held: BTreeMap<String, String> = plans
        .into_iter()
        .filter_map(|plan| Some((plan.to_owned(), over_budget(limits.failures, plan, members)?)))
        .collect();
    let mut admitted = Vec::new();
    for member in waiting {
        // What has begun is finished: its scratch must not stand for as long as a person thinks.
        if held.contains_key(&member.plan) && !member.begun {
            continue;
        }
        let shares = [limits.organization, limits.ou, limits.account, limits.cell];
        let room = member.places().into_iter().zip(shares).all(|(place, share)| {
            let of_plan = (member.plan.as_str(), place.clone());
            let at_work = match share {
                Share::Count(_) => running.all.get(&place),
                Share::Percent(_) => running.of_plan.get(&of_plan),
            };
            let all = total.of_plan.get(&of_plan).copied().unwrap_or_default();
            at_work.copied().unwrap_or_default() < share.of(all)
        });
        if room {
            running.add(member);
            admitted.push(member.id.clone());
        }
    }
    Turn { admitted, held }
}

/// What to say when a plan's failures are more than its budget.
fn over_budget(budget: Share, plan: &str, members: &[Member]) -> Option<String> {
    let of_plan = || members.iter().filter(|m| m.plan == plan);
    let all = of_plan().count();
    let failed = |m: &&Member| m.state == State::Stopped && !m.forgiven;
    let stopped: Vec<&Member> = of_plan().filter(failed).collect();
    if stopped.len() <= budget.of(all) {
        return None;
    }
    let mut classes: BTreeMap<&str, usize> = BTreeMap::new();
    for member in &stopped {
        *classes.entry(member.failure.unwrap_or(Failure::Unknown).as_str()).or_default() += 1;
    }
    let classes: Vec<String> = classes.into_iter().map(|(c, n)| format!("{n} {c}")).collect();
    Some(format!(
        "held back: {} of {all} stopped ({}), more than remediation.failure_budget ({budget}) allows; look at them, then `ringfence remediation resume {plan}`",
        stopped.len(),
        classes.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Share = Share::Percent(100);

    fn limits() -> Limits {
        Limits { organization: ALL, ou: ALL, account: ALL, cell: ALL, failures: Share::Percent(10) }
    }

    /// `plan account region state`, in the order of their ids.
    fn members(list: &[&str]) -> Vec<Member> {
        let member = |(n, text): (usize, &&str)| {
            let words: Vec<&str> = text.split(' ').collect();
            let state = State::ALL.into_iter().find(|s| s.as_str() == words[3]).unwrap();
            Member {
                id: format!("{n}"),
                plan: words[0].into(),
                account: words[1].into(),
                region: words[2].into(),
                ou: words[1][..1].into(),
                state,
                begun: words.contains(&"begun"),
                shut: words.contains(&"shut"),
                frozen: words.contains(&"frozen"),
                giving_up: words.contains(&"ending"),
                failure: (state == State::Stopped).then_some(Failure::Denied),
                forgiven: words.contains(&"forgiven"),
                priority: if words.contains(&"first") { 1 } else { 0 },
                approved_at: Time(0),
            }
        };
        list.iter().enumerate().map(member).collect()
    }

    fn check(limits: Limits, list: &[&str], want: &[&str]) {
        assert_eq!(turn(&limits, &members(list)).admitted, want, "{list:?}");
    }

    #[test]
    fn each_place_has_its_limit() {
        let one = Share::Count(1);
        let pending = ["p a1 eu pending", "p a1 us pending", "p a2 eu pending", "p b1 eu pending"];
        check(limits(), &pending, &["0", "1", "2", "3"]);
        check(Limits { cell: one, ..limits() }, &pending, &["0", "1", "2", "3"]);
        check(Limits { account: one, ..limits() }, &pending, &["0", "2", "3"]);
        check(Limits { ou: one, ..limits() }, &pending, &["0", "3"]);
        check(Limits { organization: one, ..limits() }, &pending, &["0"]);
        check(Limits { organization: Share::Percent(50), ..limits() }, &pending, &["0", "1"]);
        check(Limits { organization: Share::Percent(1), ..limits() }, &pending, &["0"]);
        check(Limits { organization: Share::Count(0), ..limits() }, &pending, &[]);
        let busy = ["q a1 eu running", "p a1 eu pending"];
        check(Limits { cell: one, ..limits() }, &busy, &[]);
        check(Limits { cell: Share::Percent(50), ..limits() }, &busy, &["1"]);
        let ending = ["q a1 eu running begun ending", "p a1 eu pending"];
        check(Limits { cell: one, ..limits() }, &ending, &["1"]);
        let done = ["q a1 eu verified", "q a1 eu stopped", "q a1 eu paused", "p a1 eu pending"];
        check(Limits { cell: one, ..limits() }, &done, &["3"]);
    }

    #[test]
    fn urgent_ones_go_first() {
        let list = ["p a1 eu pending", "p a2 eu pending first"];
        check(Limits { organization: Share::Count(1), ..limits() }, &list, &["1"]);
    }

    #[test]
    fn what_has_not_begun_waits_for_its_window() {
        let list = ["p a eu pending shut", "p a eu pending", "p a eu pending shut begun"];
        check(limits(), &list, &["1", "2"]);
    }

    #[test]
    fn what_is_frozen_takes_no_place_and_gets_none() {
        let one = Limits { organization: Share::Count(1), ..limits() };
        check(one, &["p a eu running frozen", "p b eu pending"], &["1"]);
        check(one, &["p a eu running", "p b eu pending"], &[]);
        check(limits(), &["p a eu pending frozen", "p a eu pending begun frozen"], &[]);
    }

    #[test]
    fn failures_hold_back_what_has_not_begun() {
        let list = ["p a eu stopped", "p a eu stopped", "p a eu pending", "p a eu pending begun"];
        let plain = turn(&limits(), &members(&list));
        assert_eq!(plain.admitted, ["3"]);
        assert!(plain.held["p"].contains("2 of 4 stopped (2 denied)"), "{:?}", plain.held);
        let seen = ["p a eu stopped forgiven", "p a eu stopped", "p a eu pending"];
        check(limits(), &seen, &["2"]);
        check(limits(), &["p a eu stopped", "p a eu pending"], &["1"]);
        let other = ["q a eu stopped", "q a eu stopped", "p a eu pending"];
        check(limits(), &other, &["2"]);
        let admitted = ["p a eu stopped", "p a eu stopped", "p a eu running"];
        assert!(turn(&limits(), &members(&admitted)).held.contains_key("p"));
        let none = Limits { failures: Share::Count(0), ..limits() };
        check(none, &["p a eu stopped", "p a eu pending"], &[]);
    }

    #[test]
    fn shares_are_read_and_written() {
        for (text, want) in [("5", Some(Share::Count(5))), (" 10% ", Some(Share::Percent(10)))] {
            assert_eq!(text.parse().ok(), want);
        }
        for text in ["", "101%", "-1", "ten", "%"] {
            assert!(text.parse::<Share>().unwrap_err().contains("a share such as 10%"), "{text}");
        }
        assert_eq!(Share::Percent(10).of(0), 0);
    }
}
