//! The audit event: who did what, when, on what, why.

use crate::time::Time;
use serde::{Deserialize, Serialize};

/// One line of the audit log. Written in the same transaction as the change that it tells of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, by the server's clock.
    pub at: Time,
    /// Who: a person's name, or `system/...` for the server, an agent or the scheduler.
    pub actor: String,
    /// Whether the actor's identity was proven. False until certificates exist: on loopback the
    /// client's word is taken, and the log says so.
    pub authenticated: bool,
    /// What was done: a noun and a verb, for example `plan.approve`.
    pub action: String,
    /// On what: the id of a plan, remediation, rollout, finding, account ...
    pub subject: String,
    /// Why: the reason that the person gave, or the rule that decided.
    pub reason: String,
}

/// The people and parts that act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// The name.
    pub name: String,
    /// Whether it was proven.
    pub authenticated: bool,
}

impl Actor {
    /// A part of Ringfence itself; the process is its own proof.
    pub fn system(part: &str) -> Actor {
        Actor { name: format!("system/{part}"), authenticated: true }
    }

    /// An event of this actor.
    pub fn did(&self, at: Time, action: &str, subject: &str, reason: impl Into<String>) -> Event {
        Event {
            at,
            actor: self.name.clone(),
            authenticated: self.authenticated,
            action: action.to_owned(),
            subject: subject.to_owned(),
            reason: reason.into(),
        }
    }
}
