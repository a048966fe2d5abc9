//! The way back: what this rollout attached is detached, the last first, and what it took the place of comes back.

use super::{ATTEMPTS_MAX, Attached, Attachment, Rollout, State, Step, probe, version};
use crate::id::NodeId;
use crate::time::{Span, Time};

/// How long after AWS refused to detach it from one target that is tried again, at least: for ever, for credentials come back
/// and permissions are mended, and nobody should have to ask again for what does harm to end.
pub const RETRY: Span = Span::seconds(60);

/// How long each target that is refused lets the others of its kind wait, beside that.
const SHARE: Span = Span::seconds(5);

/// Takes back what is ours of the stages from this one on, the last first; then it rests so. A target that it cannot be taken
/// off holds no other one up.
pub(super) fn backward(
    rollout: &Rollout,
    attached: &Attached,
    (from, rest): (usize, State),
    now: Time,
) -> Step {
    let Some(policy) = &rollout.policy_id else {
        return Step::Rest(rest);
    };
    if let Some(step) = version::restore(rollout, attached, from) {
        return step;
    }
    let stages = rollout.body.stages.iter().skip(from);
    let targets: Vec<&NodeId> = stages.flat_map(|s| &s.targets).collect();
    let retry = rollout.retry();
    let (mut waits, mut due, mut asks) = (false, None, None);
    for target in targets.into_iter().rev() {
        if !rollout.ours(target) {
            continue;
        }
        let done = rollout.attachments.get(target);
        let here = match attached.get(target) {
            Some(Some(now)) => now,
            // A target that is gone took its attachments with it.
            Some(None) | None => continue,
        };
        let refused = done.and_then(|a| a.refused.as_ref());
        match (here.contains(policy), done.is_some_and(|a| a.detached_at.is_some())) {
            (false, true) => {}
            // AWS refuses to remove the last SCP, and an account without one may do nothing.
            (true, false) if here.len() <= 1 => drop(asks.get_or_insert(last(policy, target))),
            // Those that were never tried come first, and then the one that waits for longest.
            (_, false) if let Some((at, _)) = refused => match now.since(*at) < retry {
                true => waits = true,
                false => due = due.into_iter().chain([(*at, target)]).min(),
            },
            // That it does not show is not that it is gone: it may still appear, or the read may be older than it. So it
            // is detached before it counts as gone (PolicyNotAttached is success).
            (false, false) if done.is_some_and(|a| a.detach_intended_at.is_none()) => {
                return Step::Detach(target.clone());
            }
            (false, false) => return Step::MarkDetached(target.clone()),
            // Detached by us and there again: somebody else attached it since. It is reported, by
            // `compare`, and not touched.
            (true, true) => {}
            (true, false) if done.is_some_and(|a| a.attempts >= 2 * ATTEMPTS_MAX) => {
                asks.get_or_insert(format!("detaching from {target} has no effect"));
            }
            (true, false) => return Step::Detach(target.clone()),
        }
    }
    match (due, waits, asks) {
        (Some((_, target)), ..) => Step::Detach(target.clone()),
        (None, true, _) => Step::Rest(State::Aborting),
        (None, false, Some(why)) => Step::AskHuman(why),
        (None, false, None) => probe::after(rollout, from).unwrap_or(Step::Rest(rest)),
    }
}

fn last(policy: &str, target: &NodeId) -> String {
    format!("{policy} is the last SCP on {target}: attach another one (FullAWSAccess) first")
}

impl Attachment {
    /// Notes that it is about to be detached.
    pub fn detaches(&mut self, now: Time) {
        self.detach_intended_at.get_or_insert(now);
        self.attempts += 1;
        self.refused = None;
    }

    /// AWS could not be asked, or did not answer: that was no try that had no effect.
    pub fn is_unanswered(&mut self) {
        self.attempts = self.attempts.saturating_sub(1);
    }

    /// AWS said for certain that it did not detach it: that was no such try either, and one that does not show later is not
    /// known to be gone.
    pub fn is_refused(&mut self, why: String, now: Time) {
        self.is_unanswered();
        self.detach_intended_at = None;
        self.refused = Some((now, why));
    }
}

impl Rollout {
    /// Where it cannot be detached yet, and why.
    pub fn refusals(&self, attached: &Attached) -> Vec<String> {
        let policy = self.policy_id.as_deref().unwrap_or_default();
        let retry = self.retry();
        let line = |(target, a): (&NodeId, &Attachment)| match &a.refused {
            Some((_, why)) => {
                Some(format!("detaching from {target}: {why}; it is tried again every {retry}"))
            }
            None => {
                let here = attached.get(target).and_then(Option::as_ref)?;
                let bare = a.detached_at.is_none() && here.len() == 1 && here.contains(policy);
                bare.then(|| last(policy, target))
            }
        };
        self.attachments.iter().filter_map(line).collect()
    }

    /// How often a target that is refused is tried again: of many, that costs no more than one try each five seconds.
    fn retry(&self) -> Span {
        let refused = self.attachments.values().filter(|a| a.refused.is_some()).count();
        RETRY.max(Span(SHARE.0.saturating_mul(i64::try_from(refused).unwrap_or(i64::MAX))))
    }
}

/// How the targets differ from the stored set: what an operator must know after an abort.
pub fn compare(rollout: &Rollout, attached: &Attached) -> Vec<String> {
    let mut differences = Vec::new();
    for (target, before) in rollout.baseline.iter().flatten() {
        match attached.get(target) {
            Some(Some(now)) => {
                for policy in before.difference(now) {
                    differences
                        .push(format!("{target}: {policy} was attached before and is not now"));
                }
                for policy in now.difference(before) {
                    differences
                        .push(format!("{target}: {policy} was not attached before and is now"));
                }
            }
            Some(None) | None => differences.push(format!("{target}: gone from the organization")),
        }
    }
    differences
}
