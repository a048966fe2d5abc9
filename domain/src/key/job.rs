//! The work on one cell's key: observe, decide, act, record, as for databases.
//!
//! `CreateKey` has no token that would make a repeat harmless, so a key that we made bears a tag with the alias
//! that it is for, and is looked for by it before another one is made. The alias comes last: what it points at
//! is complete.

use super::plan::{Change, Item, KeyPlan};
use crate::id::{AccountId, Region};
use crate::time::{Span, Time};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// How often something is asked for that does not show.
pub const ATTEMPTS_MAX: u32 = 3;

/// How many times longer than other things a new key may need to show: minutes, says the KMS guide ("AWS KMS eventual
/// consistency"), and one that is asked for twice is there twice.
const SETTLES: i64 = 10;

/// How long a job may take before a person is asked.
pub const JOB_MAX: Span = Span::hours(24);

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Agents work on it.
    Running,
    /// The key is as planned.
    Done,
    /// A person must look.
    Stopped,
}

impl State {
    /// The name in the store, in JSON and on screen.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Running => "running",
            State::Done => "done",
            State::Stopped => "stopped",
        }
    }
}

/// One write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "act")]
pub enum Act {
    /// Make a key, with its policy and our tag.
    Create,
    /// Turn its yearly rotation on.
    Rotate {
        /// The key.
        key: String,
    },
    /// Add our statements to its policy.
    PutPolicy {
        /// The key.
        key: String,
        /// The SHA-256 of the policy that they are added to.
        over: String,
    },
    /// Point the alias at it.
    Alias {
        /// The key.
        key: String,
    },
}

impl Act {
    /// The intent's key.
    pub fn key(&self) -> &'static str {
        match self {
            Act::Create => "create",
            Act::Rotate { .. } => "rotate",
            Act::PutPolicy { .. } => "policy",
            Act::Alias { .. } => "alias",
        }
    }

    /// What it is, for people.
    pub fn title(&self) -> String {
        match self {
            Act::Create => "create a key".to_owned(),
            Act::Rotate { key } => format!("turn the rotation of {key} on"),
            Act::PutPolicy { key, .. } => format!("add our statements to the policy of {key}"),
            Act::Alias { key } => format!("point the alias at {key}"),
        }
    }
}

/// What was asked for, when, and how often. After a restart it is an expectation, never a position.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// What.
    pub act: Act,
    /// When, the last time.
    pub at: Time,
    /// How often.
    pub attempts: u32,
}

/// The work on one cell's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Plan, account and region: `kp-.../111122223333/eu-west-1`.
    pub id: String,
    /// The plan.
    pub plan: String,
    /// The alias.
    pub alias: String,
    /// The role that is let in, by its name.
    pub role: String,
    /// Plans whose work here did not come to its end: a key that they made is taken, and none is made twice.
    pub after: BTreeSet<String>,
    /// What was planned here.
    pub item: Item,
    /// When an agent looked first since it was applied.
    pub begun_at: Option<Time>,
    /// The key that we made, as AWS answered it.
    pub made: Option<String>,
    /// By [`Act::key`].
    pub intents: BTreeMap<String, Intent>,
    /// Where it is.
    pub state: State,
    /// Why it is there.
    pub why: String,
    /// When it wants to be looked at.
    pub wake_at: Time,
}

impl Job {
    /// The job of one planned cell.
    pub fn new(plan: &KeyPlan, item: &Item, now: Time) -> Job {
        Job {
            id: Job::id_of(&plan.body.id, &item.account, &item.region),
            plan: plan.body.id.clone(),
            alias: plan.body.alias.clone(),
            role: plan.body.role.clone(),
            after: BTreeSet::new(),
            item: item.clone(),
            begun_at: None,
            made: None,
            intents: BTreeMap::new(),
            state: State::Running,
            why: "waiting for an agent".to_owned(),
            wake_at: now,
        }
    }

    /// The id of a cell's job.
    pub fn id_of(plan: &str, account: &AccountId, region: &Region) -> String {
        format!("{plan}/{account}/{region}")
    }

    /// Works on it again after it stopped. What was asked for and not seen is still looked for, and its tries
    /// begin anew.
    pub fn again(&mut self, now: Time) {
        (self.state, self.begun_at, self.wake_at) = (State::Running, None, now);
        self.why = "applied again".to_owned();
        for intent in self.intents.values_mut() {
            intent.attempts = 1;
        }
    }

    /// Whether this is about to ask AWS for something that the one before had not.
    pub fn asks(&self, before: &Job) -> bool {
        let new = |(key, intent): (&String, &Intent)| {
            before.intents.get(key).is_none_or(|before| intent.at > before.at)
        };
        self.intents.iter().any(new)
    }

    /// Takes over what another plan asked for in this cell and did not see to its end.
    pub fn follow(&mut self, other: &Job) {
        let Some(create) = other.intents.get("create") else { return };
        if other.state == State::Done || other.alias != self.alias {
            return;
        }
        self.after.insert(other.plan.clone());
        self.after.extend(other.after.iter().cloned());
        if self.intents.get("create").is_none_or(|ours| ours.at < create.at) {
            self.intents.insert("create".to_owned(), create.clone());
            self.made.clone_from(&other.made);
        }
    }

    /// Whether it takes longer than it may.
    pub fn is_late(&self, now: Time) -> bool {
        self.begun_at.is_some_and(|begun| now.since(begun) > JOB_MAX)
    }

    /// Whether a key was asked for so lately that it, its tags and its alias may not be everywhere yet: "it might
    /// take up to five minutes for tag and alias changes to affect KMS key authorization" (KMS guide, "ABAC for AWS
    /// KMS").
    pub fn is_settling(&self, now: Time, expect_for: Span) -> bool {
        self.item.change == Change::Create
            && self
                .intents
                .get("create")
                .is_some_and(|i| now.since(i.at) < Span(expect_for.0 * SETTLES))
    }

    /// Notes what is about to be asked for.
    pub fn intend(&mut self, act: &Act, now: Time) {
        let attempts = self.intents.get(act.key()).map_or(0, |i| i.attempts) + 1;
        if let (Change::Create, Act::Rotate { key } | Act::Alias { key }) = (self.item.change, act)
        {
            // Where AWS's answer was lost, it was found by its tag.
            self.made.get_or_insert_with(|| key.clone());
        }
        self.why = act.title();
        self.intents.insert(act.key().to_owned(), Intent { act: act.clone(), at: now, attempts });
    }
}
