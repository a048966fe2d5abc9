//! The way back: what this rollout attached is detached, the last first, and what it took the place of comes back.

use super::{ATTEMPTS_MAX, Attached, Rollout, State, Step, probe, version};
use crate::id::NodeId;

/// Takes back what is ours of these stages, the last first; then it rests so.
pub(super) fn backward(rollout: &Rollout, attached: &Attached, from: usize, rest: State) -> Step {
    let Some(policy) = &rollout.policy_id else {
        return Step::Rest(rest);
    };
    if let Some(step) = version::restore(rollout, attached, from) {
        return step;
    }
    let stages = rollout.body.stages.iter().skip(from);
    let targets: Vec<&NodeId> = stages.flat_map(|s| &s.targets).collect();
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
        match (here.contains(policy), done.is_some_and(|a| a.detached_at.is_some())) {
            (false, true) => {}
            // That it does not show is not that it is gone: it may still appear, or the read may be older than it. So it
            // is detached before it counts as gone (PolicyNotAttached is success).
            (false, false) if done.is_some_and(|a| a.detach_intended_at.is_none()) => {
                return Step::Detach(target.clone());
            }
            (false, false) => return Step::MarkDetached(target.clone()),
            // Detached by us and there again: somebody else attached it since. It is reported, by
            // `compare`, and not touched.
            (true, true) => {}
            // AWS refuses to remove the last SCP, and an account without one may do nothing.
            (true, false) if here.len() <= 1 => {
                return Step::AskHuman(format!(
                    "{policy} is the last SCP on {target}: attach another one (FullAWSAccess) first"
                ));
            }
            (true, false) if done.is_some_and(|a| a.attempts >= 2 * ATTEMPTS_MAX) => {
                return Step::AskHuman(format!("detaching from {target} has no effect"));
            }
            (true, false) => return Step::Detach(target.clone()),
        }
    }
    probe::after(rollout, from).unwrap_or(Step::Rest(rest))
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
