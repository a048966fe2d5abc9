//! How a remediation ends without a verified twin, by trouble or by a person's word, and begins again.

use super::{Act, CREATE_FOR_MAX, Goal, Remediation, State};
use crate::cloud::{CloudError, ErrorClass};
use crate::finding::Kind;
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What kind of trouble stopped a remediation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// AWS does not let us: IAM, a key's policy, an SCP.
    Denied,
    /// AWS's rates, for longer than we wait.
    Throttled,
    /// A quota of the account is used up.
    Quota,
    /// The database, its twin or its key is not as it must be.
    Blocked,
    /// Nobody knows.
    Unknown,
}

impl Failure {
    /// The name in JSON and on screen.
    pub fn as_str(self) -> &'static str {
        match self {
            Failure::Denied => "denied",
            Failure::Throttled => "throttled",
            Failure::Quota => "quota",
            Failure::Blocked => "blocked",
            Failure::Unknown => "unknown",
        }
    }

    /// Of a refused call. RDS's codes of used-up quotas: `InstanceQuotaExceeded`,
    /// `SnapshotQuotaExceeded`, `StorageQuotaExceeded` (API reference, CreateDBSnapshot and its like).
    pub fn of(error: &CloudError) -> Failure {
        match error.class {
            ErrorClass::Denied | ErrorClass::ScpDenied => Failure::Denied,
            ErrorClass::Throttled => Failure::Throttled,
            _ if error.code.contains("QuotaExceeded") => Failure::Quota,
            ErrorClass::Unknown => Failure::Unknown,
            ErrorClass::RegionRefused
            | ErrorClass::NotFound
            | ErrorClass::AlreadyExists
            | ErrorClass::Conflict
            | ErrorClass::Invalid => Failure::Blocked,
        }
    }
}

impl Remediation {
    /// Whether a call that a quota refused is asked for again later. Of copies to one region 20 of an account
    /// are in flight at a time (RDS guide, "Copying a DB snapshot"), whoever began them, and those end by
    /// themselves. The code is the same for too many snapshots, which may not: hence the bound.
    pub fn queues(&self, act: &Act, error: &CloudError, now: Time) -> bool {
        let source = match act {
            Act::CopySnapshot { .. } => "snapshot",
            Act::LastCopy { .. } => "last snapshot",
            _ => return false,
        };
        let since = self.intents.get(source).map_or(self.since(), |i| i.at).max(self.since());
        error.code == "SnapshotQuotaExceeded" && now.since(since) <= CREATE_FOR_MAX
    }

    /// Ends it by a person's word: what is scratch is taken down first.
    pub fn cancel(&mut self, why: String, now: Time) {
        (self.cancelled, self.failure, self.forgiven) = (true, None, false);
        (self.wake_at, self.begun_at) = (now, Some(now));
        if self.intents.is_empty() {
            (self.state, self.why) = (State::Cancelled, why);
            return;
        }
        // Deletions that failed before are tried anew.
        self.intents.retain(|key, _| !key.starts_with("delete "));
        let what = match self.kind {
            _ if self.intents.contains_key("deployment") => {
                "blue/green deployment, once AWS has made it,"
            }
            Kind::Snapshot => "copy",
            Kind::Instance | Kind::Cluster => "scratch",
        };
        self.why = format!("{why}; its {what} is being deleted");
        (self.state, self.giving_up) = (State::Running, Some(why));
    }

    /// Begins again after it stopped or was cancelled: what stands is used, what is gone is made anew.
    pub fn retry(&mut self, now: Time) {
        if self.goal != Goal::Twin {
            // Databases have other names now: what was recorded stays recorded.
            // That an original was asked to go explains that it is gone.
            let kept = |act: &Act| act.creates() || matches!(act, Act::Retire { .. });
            self.intents.retain(|_, intent| kept(&intent.act));
            for intent in self.intents.values_mut() {
                intent.attempts = 0;
            }
            (self.failure, self.forgiven, self.activity) = (None, false, None);
            self.begun_at = Some(now);
            (self.state, self.wake_at) = (State::Pending, now);
            return;
        }
        // What stands, the next look tells; it is recorded again by its name and tag. What AWS agreed to delete
        // is not waited for.
        let deletes = self.intents.iter().filter(|(_, intent)| intent.done);
        let deleted: BTreeSet<String> =
            deletes.filter_map(|(key, _)| key.strip_prefix("delete ").map(str::to_owned)).collect();
        let may_stand = |act: &Act| act.makes().is_some_and(|name| !deleted.contains(name));
        self.intents.retain(|_, intent| may_stand(&intent.act));
        self.forget_proofs();
        for intent in self.intents.values_mut() {
            (intent.made, intent.resource_id) = (None, None);
            (intent.attempts, intent.at) = (0, now);
        }
        (self.giving_up, self.cancelled, self.checked) = (None, false, None);
        (self.failure, self.forgiven) = (None, false);
        (self.state, self.wake_at) = (State::Pending, now);
    }

    /// Whether more is to be done before it stops in trouble: scratch is taken down, and an original that is cut off
    /// is given back.
    pub fn must_give_up(&self) -> bool {
        let cut_off = self.swap.as_ref().is_some_and(|s| s.cut_off);
        let making = self.goal == Goal::Twin && self.verified_at.is_none();
        making && self.giving_up.is_none() && (cut_off || self.only_scratch())
    }

    /// Before a retry: what was proven of an original counts only for the snapshot that it was proven for, and none of
    /// it once the original was let go.
    fn forget_proofs(&mut self) {
        let (verified, snapshot) =
            (self.verified_at.is_some(), self.intents.contains_key("snapshot"));
        let Some(swap) = self.swap.as_mut().filter(|_| !verified) else { return };
        swap.stopped = None;
        if !snapshot {
            (swap.quiet, swap.confirmed) = (None, None);
        }
        // Found by its name again, or made again where somebody deleted it.
        if swap.make.is_some() && !swap.cut_off {
            swap.isolation.clear();
        }
    }

    /// Ends it without a verified twin.
    pub fn stop(&mut self, why: &str, failure: Failure) {
        let wanted = self.giving_up.as_deref() == Some(why);
        let twin = self.intents.get("twin").is_some_and(|i| i.made.is_some());
        let green = self.cancelled && wanted && self.intents.contains_key("deployment");
        self.why = match self.cancelled && twin {
            _ if green => {
                format!("{why}; its deployment is deleted, and the original was not touched")
            }
            true => format!("{why}; {} was made already and stays", self.names.twin),
            false => why.to_owned(),
        };
        // Cancelled only if all that was to be taken down is gone.
        if self.cancelled && wanted {
            self.state = State::Cancelled;
            return;
        }
        self.state = State::Stopped;
        self.failure.get_or_insert(failure);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Intent, decide, sample};
    use super::*;
    use crate::time::Span;

    fn intent(act: Act, made: bool) -> (String, Intent) {
        let made = made.then(|| "arn".to_owned());
        let (at, resource_id) = (Time(0), None);
        let key = act.key();
        (
            key,
            Intent {
                act,
                first_at: at,
                at,
                attempts: 3,
                made,
                resource_id,
                done: false,
                refused: None,
                plain_gp3: false,
            },
        )
    }

    #[test]
    fn cancelling_takes_scratch_down_and_a_retry_makes_it_again() {
        let (mut rem, _, now) = sample::instance_world(&[]);
        rem.intents.clear();
        rem.cancel("cancelled by ann: wrong one".into(), now);
        assert_eq!((rem.state, rem.giving_up.clone()), (State::Cancelled, None), "nothing to undo");
        rem.retry(now);
        assert_eq!(rem.state, State::Pending);
        rem.intents.extend([
            intent(Act::CreateSnapshot { snapshot: "s".into() }, true),
            intent(Act::CopySnapshot { from: "s".into(), to: "c".into() }, false),
        ]);
        rem.cancel("cancelled by ann: wrong one".into(), now);
        assert_eq!(rem.state, State::Running, "the snapshot is to be deleted");
        let why = rem.giving_up.clone().unwrap();
        let mut kept = rem.clone();
        kept.stop("snapshot s bears the name of our scratch", Failure::Blocked);
        assert_eq!((kept.state, kept.failure), (State::Stopped, Some(Failure::Blocked)));
        rem.stop(&why, Failure::Blocked);
        assert_eq!((rem.state, rem.failure), (State::Cancelled, None));
        rem.retry(now);
        assert!(rem.giving_up.is_none() && !rem.cancelled && rem.state == State::Pending);
        kept.cancel("cancelled by ann: again".into(), now);
        assert_eq!(kept.state, State::Running, "a cancel that failed can be repeated");
    }

    #[test]
    fn only_copies_queue_and_not_for_ever() {
        let (mut rem, _, now) = sample::instance_world(&[]);
        let refused = |code: &str| CloudError {
            class: ErrorClass::Invalid,
            operation: "rds:CopyDBSnapshot".into(),
            code: code.into(),
            message: "Cannot copy more than 20 snapshots at a time to this region".into(),
        };
        let copy = Act::CopySnapshot { from: "s".into(), to: "c".into() };
        let create = Act::CreateSnapshot { snapshot: "s".into() };
        rem.begun_at = Some(now);
        rem.intents = [intent(create.clone(), true)].into();
        rem.intents.get_mut("snapshot").unwrap().at = now;
        let at = |hours: i64| now.plus(Span::hours(hours));
        for (act, code, hours, queues) in [
            (&copy, "SnapshotQuotaExceeded", 0, true),
            (&copy, "SnapshotQuotaExceeded", 24, true),
            (&copy, "SnapshotQuotaExceeded", 25, false),
            (&copy, "StorageQuotaExceeded", 0, false),
            (&create, "SnapshotQuotaExceeded", 0, false),
        ] {
            let found = rem.queues(act, &refused(code), at(hours));
            assert_eq!(found, queues, "{act:?} {code} after {hours} h");
        }
        rem.retry(at(48));
        assert!(rem.queues(&copy, &refused("SnapshotQuotaExceeded"), at(49)), "told to go on");
    }

    #[test]
    fn a_retry_uses_what_stands_and_makes_what_is_gone() {
        use sample::Change::*;
        let (mut rem, seen, _) = sample::instance_world(&[Snapshot("available"), GivingUp]);
        let now = Time(rem.approved_at.0 + Span::hours(1).0);
        let (name, plain) = (rem.names.snapshot.clone(), rem.names.snapshot.clone());
        rem.intents.extend([
            intent(Act::CreateSnapshot { snapshot: name }, true),
            intent(Act::DeleteSnapshot { snapshot: plain }, false),
        ]);
        let twin = rem.names.twin.clone();
        let fields = ["port".to_owned()].into();
        rem.intents.extend([
            intent(Act::ModifyInstance { instance: twin.clone(), fields }, false),
            intent(Act::RestoreInstance { snapshot: "c".into(), instance: twin }, true),
        ]);
        rem.stop("why", Failure::Blocked);
        rem.retry(now);
        assert!(rem.intents.values().all(|i| i.act.creates() && i.made.is_none()), "{rem:?}");
        rem.adopt(&seen);
        assert!(rem.intents["snapshot"].made.is_some(), "a deletion failed, and it still stands");
        assert!(rem.intents["twin"].made.is_none(), "somebody deleted it");
        // And the next look asks for the copy, and waits for no twin that is gone.
        let later = Time(now.0 + sample::BOUNDS.expect_for.0 + 1);
        assert_eq!(sample::show(&decide(&rem, &seen, later, sample::BOUNDS))[..8], *"act copy");
    }
    #[test]
    fn a_retry_makes_at_once_what_was_deleted_before() {
        use sample::Change::*;
        let (mut rem, seen, now) = sample::instance_world(&[GivingUp]);
        let snapshot = rem.names.snapshot.clone();
        let (key, asked) = intent(Act::CreateSnapshot { snapshot: snapshot.clone() }, true);
        rem.intents.insert(key, asked);
        for (confirmed, want) in [(false, "wait asked AWS"), (true, "act create snapshot")] {
            let mut rem = rem.clone();
            let (key, delete) = intent(Act::DeleteSnapshot { snapshot: snapshot.clone() }, false);
            rem.intents.insert(key, Intent { done: confirmed, ..delete });
            rem.stop("why", Failure::Blocked);
            rem.retry(now);
            let said = sample::show(&decide(&rem, &seen, now, sample::BOUNDS));
            assert!(said.starts_with(want), "{confirmed}: {said}");
        }
    }
}
