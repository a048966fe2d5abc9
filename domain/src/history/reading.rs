//! The reading of one account's history: what is to be looked up, and what came of it.

use super::call::Calls;
use super::lookup::Lookup;
use crate::hash;
use crate::id::AccountId;
use crate::time::{Span, Time};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Where a reading is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// An agent is to read it.
    Running,
    /// It was read, as far as it could be.
    Done,
}

impl State {
    /// The name in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Running => "running",
            State::Done => "done",
        }
    }
}

/// What came of one region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Not looked at yet.
    Open,
    /// Read to its end.
    Read,
    /// Not read, and why.
    Failed(String),
}

/// One account's history, from one time to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// What is looked up, hashed, and the account.
    pub id: String,
    /// The account.
    pub account: AccountId,
    /// What is looked up.
    pub lookups: BTreeSet<Lookup>,
    /// Since when.
    pub from: Time,
    /// Until when.
    pub until: Time,
    /// Its regions.
    pub regions: BTreeMap<String, Part>,
    /// What was found.
    pub calls: Calls,
    /// Where it is.
    pub state: State,
}

impl Reading {
    /// What is to be read of an account. `purpose` keeps readings for different ends apart.
    pub fn new(
        purpose: &str,
        account: AccountId,
        lookups: BTreeSet<Lookup>,
        (from, until): (Time, Time),
        regions: BTreeSet<String>,
    ) -> Reading {
        Reading {
            id: Reading::id_of(purpose, &account, &lookups),
            account,
            lookups,
            from,
            until,
            regions: regions.into_iter().map(|r| (r, Part::Open)).collect(),
            calls: Calls::default(),
            state: State::Running,
        }
    }

    /// The id of the reading for such an end.
    pub fn id_of(purpose: &str, account: &AccountId, lookups: &BTreeSet<Lookup>) -> String {
        format!("hi-{}/{account}", hash::short(&format!("{purpose} {}", hash::of(lookups)), 12))
    }

    /// Whether it can serve again: read to its end, of these regions, at least this far back, and not long ago.
    pub fn serves(&self, regions: &BTreeSet<String>, from: Time, max_age: Span, now: Time) -> bool {
        self.state == State::Done
            && self.calls.left_out == 0
            && self.from <= from
            && now.since(self.until) <= max_age
            && regions.iter().all(|r| self.regions.get(r) == Some(&Part::Read))
    }

    /// Which regions were not read, and why.
    pub fn failures(&self) -> impl Iterator<Item = (&String, &str)> {
        self.regions.iter().filter_map(|(region, part)| match part {
            Part::Open => Some((region, "not read yet")),
            Part::Failed(why) => Some((region, why.as_str())),
            Part::Read => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_serves_again_only_where_it_says_as_much() {
        let regions: BTreeSet<String> = ["a".to_owned(), "b".to_owned()].into();
        let account: AccountId = "111122223333".parse().unwrap();
        let lookups = BTreeSet::from([Lookup::Service("rds".into())]);
        let day = |n: i64| Time(0).plus(Span::hours(24 * n));
        let span = (day(1), day(10));
        let mut done = Reading::new("x", account, lookups, span, regions.clone());
        let serves = |r: &Reading, from, now| r.serves(&regions, from, Span::hours(24), now);
        assert!(!serves(&done, day(1), day(10)), "it was not read");
        assert_eq!(done.failures().count(), 2);
        (done.state, done.calls) = (State::Done, Calls::default());
        done.regions.values_mut().for_each(|p| *p = Part::Read);
        assert!(serves(&done, day(1), day(11)) && serves(&done, day(5), day(10)));
        assert!(!serves(&done, day(0), day(10)), "not as far back");
        assert!(!serves(&done, day(1), day(12)), "too old");
        done.regions.insert("b".into(), Part::Failed("denied".into()));
        assert!(!serves(&done, day(1), day(10)));
        assert_eq!(done.failures().next().map(|(_, why)| why), Some("denied"));
    }
}
