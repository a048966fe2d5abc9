//! Accounts go to an OU where a policy is tried, a few at a time, and back.
//!
//! AWS advises to make an OU for tests of policies and to move accounts into it "one at a time or in small numbers"
//! (Organizations user guide, service control policies). What binds an account changes with its OU, of every type of
//! policy; so where it came from is what people approve, and every move names the parent that it starts from:
//! MoveAccount refuses where that is another one by now (API reference, SourceParentNotFoundException).

mod stacks;
#[cfg(test)]
mod tests;

pub use stacks::{StackSet, stacks};

use crate::approval::Approval;
use crate::hash;
use crate::id::{AccountId, NodeId};
use crate::rollout::{Health, Moment, Observation, State, Wish};
use crate::time::{Span, Time};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An account, and where it is at home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Visitor {
    /// The account.
    pub account: AccountId,
    /// The OU or root that it comes from, and goes back to.
    pub origin: NodeId,
}

/// What binds an account at home and not in the staging OU, or the other way round: policies that are inherited, by type, and
/// StackSets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The type, as AWS calls it: `SERVICE_CONTROL_POLICY`.
    pub policy_type: String,
    /// Names and ids of those that it loses while it is there.
    pub loses: Vec<String>,
    /// Names and ids of those that it gets.
    pub gets: Vec<String>,
}

/// The part that is hashed and approved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// `st-` and 12 hex digits.
    pub id: String,
    /// Who planned it, and so may not approve it.
    pub author: String,
    /// When.
    pub created_at: Time,
    /// The staging OU.
    pub ou: NodeId,
    /// The accounts, in the order in which they go.
    pub visitors: Vec<Visitor>,
    /// How many are there at a time.
    pub batch: usize,
    /// How long a batch stays, once all of it is there.
    pub stay: Span,
    /// What changes for accounts from each origin.
    pub differences: BTreeMap<NodeId, Vec<Difference>>,
}

/// What became of one account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Visit {
    /// When we meant to move it there: written before the call.
    pub intended_at: Option<Time>,
    /// When it was read back as there.
    pub arrived_at: Option<Time>,
    /// When we meant to move it back: written before the call.
    pub return_intended_at: Option<Time>,
    /// When AWS said that it is back.
    pub return_accepted_at: Option<Time>,
    /// When it was read back as at home.
    pub returned_at: Option<Time>,
    /// When it was read that it has left the organization.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone_at: Option<Time>,
    /// Why AWS refuses to move it back: it holds no other account up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// How often AWS said that it moved it.
    pub attempts: u32,
}

/// Accounts on their way, as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staging {
    /// What is approved.
    pub body: Body,
    /// The SHA-256 of the body.
    pub hash: String,
    /// Who agreed.
    pub approvals: Vec<Approval>,
    /// What a person asked for last; `Abort` is that all come back.
    pub wish: Wish,
    /// Where it stands; `Baking` while a batch is there.
    pub state: State,
    /// Why it waits or stopped.
    pub why: Vec<String>,
    /// What became of each account.
    pub visits: BTreeMap<AccountId, Visit>,
    /// Healthy observations since the batch was there.
    pub healthy: u32,
    /// The last observation of the batch that is there.
    pub last: Option<Observation>,
}

/// How often one account is moved before a person is asked.
pub const ATTEMPTS_MAX: u32 = 5;

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Move it to the staging OU, if its gate lets it.
    MoveThere(AccountId),
    /// It shows there: note it.
    MarkArrived(AccountId),
    /// Ask for the health of these, which are there.
    Observe(Vec<AccountId>),
    /// Move it back.
    MoveBack(AccountId),
    /// It shows at home: note it.
    MarkReturned(AccountId),
    /// It has left the organization: note it.
    MarkGone(AccountId),
    /// Nothing to do in this state.
    Rest(State),
    /// A person must look.
    AskHuman(String),
}

/// Where each account is, as read just now; `None` where it is gone.
pub type Places = BTreeMap<AccountId, Option<NodeId>>;

impl Staging {
    /// Seals a body.
    pub fn new(body: Body) -> Staging {
        Staging {
            hash: hash::of(&body),
            body,
            approvals: Vec::new(),
            wish: Wish::Planned,
            state: State::Planned,
            why: Vec::new(),
            visits: BTreeMap::new(),
            healthy: 0,
            last: None,
        }
    }

    /// What became of an account.
    pub fn visit(&mut self, account: &AccountId) -> &mut Visit {
        self.visits.entry(account.clone()).or_default()
    }

    /// The accounts whose place a decision wants: those of the batch whose turn it is, and all that are away.
    pub fn watched(&self) -> Vec<AccountId> {
        let done = |v: &Visitor| self.visits.get(&v.account).is_some_and(Visit::is_over);
        let batch = self.batches().find(|batch| !batch.iter().all(done));
        let away = |v: &&Visitor| self.visits.get(&v.account).is_some_and(Visit::is_away);
        let mut all: Vec<&Visitor> = batch.into_iter().flatten().collect();
        all.extend(
            self.body.visitors.iter().filter(away).filter(|v| !all.contains(v)).collect::<Vec<_>>(),
        );
        all.into_iter().map(|v| v.account.clone()).collect()
    }

    fn batches(&self) -> impl Iterator<Item = &[Visitor]> {
        self.body.visitors.chunks(self.body.batch.max(1))
    }

    /// It goes on: every account has its tries again.
    pub fn tries_again(&mut self) {
        self.visits.values_mut().for_each(|v| (v.attempts, v.refused) = (0, None));
    }

    /// Takes an observation of the batch in.
    pub fn observe(&mut self, seen: Observation) {
        self.healthy += u32::from(seen.health == Health::Healthy);
        self.last = Some(seen);
    }

    /// Notes that it is about to be moved there.
    pub fn leaves(&mut self, account: &AccountId, now: Time) {
        self.visit(account).intended_at.get_or_insert(now);
    }

    /// Notes that it shows there: the batch is looked at from its last arrival.
    pub fn arrives(&mut self, account: &AccountId, now: Time) {
        let visit = self.visit(account);
        (visit.arrived_at, visit.attempts) = (Some(now), 0);
        (self.healthy, self.last) = (0, None);
    }

    /// Notes that it is about to be moved back.
    pub fn returns(&mut self, account: &AccountId, now: Time) {
        self.visit(account).return_intended_at.get_or_insert(now);
    }

    /// Until when the batch that is there stays, at least.
    pub fn stays_until(&self) -> Option<Time> {
        let there = self.visits.values().filter(|v| v.is_away()).filter_map(|v| v.arrived_at);
        there.max().map(|last| last.plus(self.body.stay))
    }
}

impl Visit {
    /// Whether it was there and is back, or nobody's to move any more.
    pub fn is_over(&self) -> bool {
        self.returned_at.is_some() || self.gone_at.is_some()
    }

    /// Whether it was to be moved there, and is not known to be back.
    pub fn is_away(&self) -> bool {
        self.intended_at.is_some() && !self.is_over()
    }
}

/// The next step. `missing` is the number of approvals that are missing.
pub fn decide(staging: &Staging, places: &Places, missing: usize, moment: Moment) -> Step {
    if staging.hash != hash::of(&staging.body) {
        return Step::AskHuman("what is stored is not what was hashed".into());
    }
    match staging.wish {
        Wish::Planned => Step::Rest(State::Planned),
        Wish::Pause => Step::Rest(State::Paused),
        Wish::Run if missing > 0 => Step::Rest(State::Blocked),
        Wish::Run => forward(staging, places, moment),
        Wish::Abort | Wish::Retreat { .. } => {
            let away = staging.body.visitors.iter().rev();
            back(staging, away, places).unwrap_or(Step::Rest(State::Aborted))
        }
    }
}

fn forward(staging: &Staging, places: &Places, moment: Moment) -> Step {
    for batch in staging.batches() {
        let visit = |v: &Visitor| staging.visits.get(&v.account);
        if batch.iter().all(|v| visit(v).is_some_and(Visit::is_over)) {
            continue;
        }
        let leaves = batch.iter().any(|v| visit(v).is_some_and(|v| v.return_intended_at.is_some()));
        let step = match leaves {
            true => None,
            false => {
                let there = batch.iter().find_map(|v| go(staging, v, places));
                there.or_else(|| stay(staging, batch, moment))
            }
        };
        // One of a batch may have been brought back by a person; then it is over for it.
        return step
            .or_else(|| back(staging, batch.iter().rev(), places))
            .unwrap_or(Step::Rest(State::Running));
    }
    Step::Rest(State::Complete)
}

/// What an account is short of being there; `None` once it is.
fn go(staging: &Staging, visitor: &Visitor, places: &Places) -> Option<Step> {
    let (account, ou) = (&visitor.account, &staging.body.ou);
    let visit = staging.visits.get(account).cloned().unwrap_or_default();
    let Some(Some(place)) = places.get(account) else {
        return Some(Step::AskHuman(format!("{account} is no longer in the organization")));
    };
    let (meant, arrived) = (visit.intended_at.is_some(), visit.arrived_at.is_some());
    Some(match () {
        () if place == ou && arrived => return None,
        () if place == ou && meant => Step::MarkArrived(account.clone()),
        () if place == ou => Step::AskHuman(format!(
            "{account} is in {ou} already, and not by us; where it is at home is for a person to say"
        )),
        () if *place != visitor.origin => Step::AskHuman(format!(
            "{account} is in {place}, neither at home ({}) nor in {ou}: somebody moved it; move it there and resume",
            visitor.origin
        )),
        () if arrived => Step::AskHuman(format!(
            "{account} was in {ou}, and somebody moved it back; abort brings back the others"
        )),
        () if visit.attempts >= ATTEMPTS_MAX => {
            Step::AskHuman(format!("moving {account} has no effect"))
        }
        () => Step::MoveThere(account.clone()),
    })
}

/// What a batch that is there waits for; `None` once it may go.
fn stay(staging: &Staging, batch: &[Visitor], moment: Moment) -> Option<Step> {
    // What was healthy before the last look says nothing of now; after a pause for that somebody is asked at once.
    let last = staging.last.as_ref().is_some_and(|o| o.health == Health::Healthy);
    let due = |every: Span| staging.last.as_ref().is_none_or(|o| moment.now.since(o.at) >= every);
    if moment.observe_every.is_some_and(|every| !last || due(every)) {
        return Some(Step::Observe(batch.iter().map(|v| v.account.clone()).collect()));
    }
    let over = staging.stays_until().is_none_or(|until| moment.now >= until);
    let healthy = moment.observe_every.is_none() || last;
    (!(over && healthy)).then_some(Step::Rest(State::Baking))
}

/// Brings these home; `None` once they are. One that somebody took elsewhere holds no other one up.
fn back<'a>(
    staging: &Staging,
    visitors: impl Iterator<Item = &'a Visitor>,
    places: &Places,
) -> Option<Step> {
    let mut astray = None;
    for visitor in visitors {
        let account = &visitor.account;
        let Some(visit) = staging.visits.get(account).filter(|v| v.is_away()) else { continue };
        let place = match places.get(account) {
            Some(Some(place)) => place,
            // One that left the organization is nobody's to move.
            Some(None) => return Some(Step::MarkGone(account.clone())),
            None => continue,
        };
        let accepted = visit.return_accepted_at.is_some();
        let stuck = (visit.attempts >= 2 * ATTEMPTS_MAX).then(|| "it has no effect".to_owned());
        if let Some(why) = visit.refused.clone().or(stuck) {
            astray
                .get_or_insert(format!("{account} cannot be moved back: {why}; abort tries again"));
            continue;
        }
        return Some(match () {
            () if *place == visitor.origin && accepted => Step::MarkReturned(account.clone()),
            () if *place != visitor.origin && *place != staging.body.ou => {
                astray.get_or_insert_with(|| {
                    format!(
                        "{account} is in {place}: somebody moved it; move it to {} or to {} and abort again",
                        visitor.origin, staging.body.ou
                    )
                });
                continue;
            }
            // Also where it shows at home: the call that moves it away may still take effect, or the read may be older
            // than it. DuplicateAccountException says that it is there.
            () => Step::MoveBack(account.clone()),
        });
    }
    astray.map(Step::AskHuman)
}
