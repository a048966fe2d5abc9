//! The audit event: who did what, when, on what, why; and the chain that shows whether the log was changed afterwards.

use crate::hash;
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

impl Event {
    /// What seals it as number `sequence` of the log: the SHA-256, in hex, of the JSON array `[seal of the event before it,
    /// sequence, milliseconds since 1970, actor, authenticated, action, subject, reason]` without white space. The first one
    /// follows an empty text. Anybody can compute it from `ringfence audit list -o json`.
    pub fn seal(&self, sequence: i64, before: &str) -> String {
        let Event { at, actor, authenticated, action, subject, reason } = self;
        hash::of(&(before, sequence, at.0, actor, authenticated, action, subject, reason))
    }
}

/// The log, read from its newest event to its first one.
///
/// Each seal holds the one before it, so who changes, removes or adds an event must seal all that follow anew. That, and an
/// end that was cut off, shows only against a seal that was kept elsewhere: whoever can write the database can seal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    /// The number and the seal of the newest event.
    pub head: Option<(i64, String)>,
    /// How many events were read.
    pub events: u64,
    /// The numbers of events that are not what was sealed, or do not follow what is before them; newest first.
    pub broken: Vec<i64>,
    newer: Option<(i64, Event, String)>,
}

impl Chain {
    /// The next older event, with its number and its seal.
    pub fn read(&mut self, sequence: i64, event: Event, seal: String) {
        self.events += 1;
        if self.head.is_none() {
            self.head = Some((sequence, seal.clone()));
        }
        self.follows(&seal);
        self.newer = Some((sequence, event, seal));
    }

    /// There are no older ones.
    pub fn ends(&mut self) {
        self.follows("");
    }

    fn follows(&mut self, before: &str) {
        if let Some((sequence, event, seal)) = self.newer.take()
            && event.seal(sequence, before) != seal
        {
            self.broken.push(sequence);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Log = Vec<(i64, Event, String)>;

    /// A sealed log, oldest first.
    fn log(events: i64) -> Log {
        let (mut log, mut before) = (Log::new(), String::new());
        for n in 1..=events {
            let event =
                Actor::system("test").did(Time(n), "plan.approve", &format!("pl-{n}"), "CHG");
            before = event.seal(n, &before);
            log.push((n, event, before.clone()));
        }
        log
    }

    fn read(log: &Log) -> Chain {
        let mut chain = Chain::default();
        log.iter().rev().cloned().for_each(|(n, event, seal)| chain.read(n, event, seal));
        chain.ends();
        chain
    }

    #[test]
    fn what_was_done_to_one_event_of_a_thousand_shows_at_every_place() {
        let whole = log(1_000);
        let chain = read(&whole);
        assert_eq!((chain.events, chain.broken.len()), (1_000, 0));
        let head = chain.head.unwrap();
        for at in 0..whole.len() {
            let tampered = |edit: &dyn Fn(&mut Log)| {
                let mut log = whole.clone();
                edit(&mut log);
                read(&log)
            };
            let edited = tampered(&|log| log[at].1.actor = "system/other".into());
            assert_eq!(edited.broken, [whole[at].0]);
            let renumbered = tampered(&|log| log[at].0 += 1);
            assert!(!renumbered.broken.is_empty(), "{at}");
            let sealed = tampered(&|log| log[at].2 = log[at].1.seal(1, "mine"));
            assert!(!sealed.broken.is_empty(), "{at}");
            let swapped = tampered(&|log| log.swap(at, (at + 1) % 1_000));
            assert!(!swapped.broken.is_empty(), "{at}");
            let removed = tampered(&|log| drop(log.remove(at)));
            let cut = tampered(&|log| log.truncate(at));
            assert_ne!(cut.head.as_ref(), Some(&head), "only the head that was kept tells");
            assert_eq!(removed.broken.is_empty(), at == 999, "{at}: the last one: its head tells");
            assert!(at < 999 || removed.head.as_ref() != Some(&head));
        }
    }

    #[test]
    fn a_seal_is_what_is_documented() {
        let event = Actor { name: "ann \"a\" é".into(), authenticated: false }.did(
            Time(1_700_000_000_123),
            "plan.approve",
            "pl-1",
            "CHG-1\n",
        );
        let json = "[\"ab\",7,1700000000123,\"ann \\\"a\\\" é\",false,\"plan.approve\",\"pl-1\",\"CHG-1\\n\"]";
        assert_eq!(event.seal(7, "ab"), hash::sha256(json.as_bytes()));
    }
}
