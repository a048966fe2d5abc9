//! The rollout of one SCP through ordered stages.
//!
//! Position is what is attached, as read; there is no current-step counter. One target at a time;
//! what was attached before us is never detached by us; all is stored before the first write.

mod file;
mod gate;

pub use file::{File, FileStage, parse};
pub use gate::{Limits, gate, preflight};

use crate::approval::Approval;
use crate::hash;
use crate::id::NodeId;
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// One ordered set of targets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// What people call it.
    pub name: String,
    /// The targets, in order.
    pub targets: Vec<NodeId>,
}

/// The part of a rollout that is hashed and approved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// `ro-` and 12 hex digits.
    pub id: String,
    /// Who planned it, and so may not approve it.
    pub author: String,
    /// When.
    pub created_at: Time,
    /// The policy's name in Organizations: `ringfence-<name>-<8 hex digits of its content>`. A new
    /// version is a new object, for UpdatePolicy would change every target at once.
    pub policy_name: String,
    /// The minified document.
    pub content: String,
    /// The stages.
    pub stages: Vec<Stage>,
    /// What was attached to each target when planned: policy ids.
    pub planned_on: BTreeMap<NodeId, BTreeSet<String>>,
    /// Whether the root may be a target.
    pub allow_root: bool,
}

impl Body {
    /// The targets in the order in which they are attached.
    pub fn targets(&self) -> impl DoubleEndedIterator<Item = &NodeId> {
        self.stages.iter().flat_map(|s| &s.targets)
    }
}

/// What a person asked for last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    /// Nothing yet.
    Planned,
    /// Go on.
    Run,
    /// Attach nothing more; keep what is attached.
    Pause,
    /// Detach what this rollout attached.
    Abort,
}

/// Where a rollout stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Planned, not started.
    Planned,
    /// Attaching.
    Running,
    /// A person paused it.
    Paused,
    /// A gate or an approval refuses; `why` says which. `resume` tries again.
    Blocked,
    /// Detaching.
    Aborting,
    /// All targets are attached.
    Complete,
    /// All that it attached is detached again.
    Aborted,
    /// A person must look.
    Failed,
}

impl State {
    /// All states.
    pub const ALL: [State; 8] = [
        State::Planned,
        State::Running,
        State::Paused,
        State::Blocked,
        State::Aborting,
        State::Complete,
        State::Aborted,
        State::Failed,
    ];

    /// The name in JSON and on screen.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Planned => "planned",
            State::Running => "running",
            State::Paused => "paused",
            State::Blocked => "blocked",
            State::Aborting => "aborting",
            State::Complete => "complete",
            State::Aborted => "aborted",
            State::Failed => "failed",
        }
    }
}

/// What became of one attachment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// When we meant to attach: written before the call.
    pub intended_at: Option<Time>,
    /// When it was read back as attached.
    pub attached_at: Option<Time>,
    /// When we meant to detach: written before the call.
    pub detach_intended_at: Option<Time>,
    /// When it was read back as gone.
    pub detached_at: Option<Time>,
    /// How often AttachPolicy or DetachPolicy was called.
    pub attempts: u32,
}

/// A rollout, as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// What is approved.
    pub body: Body,
    /// The SHA-256 of the body.
    pub hash: String,
    /// Who agreed.
    pub approvals: Vec<Approval>,
    /// What a person asked for last.
    pub wish: Wish,
    /// Where it stands.
    pub state: State,
    /// Why it waits or stopped.
    pub why: Vec<String>,
    /// The policy's id, once it is there.
    pub policy_id: Option<String>,
    /// What was attached to every target before the first write: policy ids. Never changed after.
    pub baseline: Option<BTreeMap<NodeId, BTreeSet<String>>>,
    /// What we did, by target.
    pub attachments: BTreeMap<NodeId, Attachment>,
}

impl Rollout {
    /// Seals a body.
    pub fn new(body: Body) -> Rollout {
        Rollout {
            hash: hash::of(&body),
            body,
            approvals: Vec::new(),
            wish: Wish::Planned,
            state: State::Planned,
            why: Vec::new(),
            policy_id: None,
            baseline: None,
            attachments: BTreeMap::new(),
        }
    }

    /// Whether this rollout attached the policy there: it meant to, and it was not there before.
    pub fn ours(&self, target: &NodeId) -> bool {
        let intended = self.attachments.get(target).is_some_and(|a| a.intended_at.is_some());
        let before = match (&self.baseline, &self.policy_id) {
            (Some(baseline), Some(policy)) => {
                baseline.get(target).is_some_and(|set| set.contains(policy))
            }
            _ => false,
        };
        intended && !before
    }
}

/// How often one attachment is tried before a person is asked.
pub const ATTEMPTS_MAX: u32 = 5;

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Store what is attached to every target: before any write.
    TakeBaseline,
    /// Create the policy object.
    CreatePolicy,
    /// Attach it to this target, if the gate lets it.
    Attach(NodeId),
    /// It shows as attached: note it.
    MarkAttached(NodeId),
    /// Detach it from this target.
    Detach(NodeId),
    /// It is gone: note it.
    MarkDetached(NodeId),
    /// Nothing to do in this state.
    Rest(State),
    /// A person must look.
    AskHuman(String),
}

/// The policies attached to each target, as read just now; `None` where the target is gone.
pub type Attached = BTreeMap<NodeId, Option<BTreeSet<String>>>;

/// The next step. `missing` is the number of approvals that are missing, counted anew each time.
pub fn decide(rollout: &Rollout, attached: &Attached, missing: usize) -> Step {
    if rollout.hash != hash::of(&rollout.body) {
        return Step::AskHuman("the stored rollout is not the one that was hashed".into());
    }
    match rollout.wish {
        Wish::Planned => Step::Rest(State::Planned),
        Wish::Pause => Step::Rest(State::Paused),
        Wish::Run => forward(rollout, attached, missing),
        Wish::Abort => backward(rollout, attached),
    }
}

fn forward(rollout: &Rollout, attached: &Attached, missing: usize) -> Step {
    if missing > 0 {
        return Step::Rest(State::Blocked);
    }
    if rollout.baseline.is_none() {
        return Step::TakeBaseline;
    }
    let Some(policy) = &rollout.policy_id else {
        return Step::CreatePolicy;
    };
    for target in rollout.body.targets() {
        let Some(Some(now)) = attached.get(target) else {
            return Step::AskHuman(format!("{target} is no longer in the organization"));
        };
        let done = rollout.attachments.get(target);
        let noted = done.is_some_and(|a| a.attached_at.is_some());
        match (now.contains(policy), noted) {
            (true, true) => {}
            (true, false) => return Step::MarkAttached(target.clone()),
            (false, true) => {
                return Step::AskHuman(format!(
                    "{policy} was attached to {target} and is gone: somebody detached it"
                ));
            }
            (false, false) if done.is_some_and(|a| a.attempts >= ATTEMPTS_MAX) => {
                return Step::AskHuman(format!("attaching to {target} has no effect"));
            }
            (false, false) => return Step::Attach(target.clone()),
        }
    }
    Step::Rest(State::Complete)
}

fn backward(rollout: &Rollout, attached: &Attached) -> Step {
    let Some(policy) = &rollout.policy_id else {
        return Step::Rest(State::Aborted);
    };
    for target in rollout.body.targets().rev() {
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
            // Our attachment was asked for and never seen: it may still appear, so it is detached
            // before it counts as gone (PolicyNotAttached is success).
            (false, false)
                if done
                    .is_some_and(|a| a.attached_at.is_none() && a.detach_intended_at.is_none()) =>
            {
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
    Step::Rest(State::Aborted)
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

#[cfg(test)]
mod tests {
    use super::*;

    const OU_A: &str = "ou-ab12-aaaaaaaa";
    const OU_B: &str = "ou-ab12-bbbbbbbb";

    fn id(text: &str) -> NodeId {
        text.parse().unwrap()
    }

    fn rollout(wish: Wish) -> Rollout {
        let stage =
            |name: &str, target: &str| Stage { name: name.into(), targets: vec![id(target)] };
        let mut rollout = Rollout::new(Body {
            id: "ro-1".into(),
            author: "ann".into(),
            created_at: Time(0),
            policy_name: "ringfence-rds-encryption-12345678".into(),
            content: "{}".into(),
            stages: vec![stage("a", OU_A), stage("b", OU_B)],
            planned_on: BTreeMap::new(),
            allow_root: false,
        });
        rollout.wish = wish;
        let full: BTreeSet<String> = ["p-FullAWSAccess".to_owned()].into();
        rollout.baseline = Some([(id(OU_A), full.clone()), (id(OU_B), full)].into());
        rollout.policy_id = Some("p-ours".into());
        rollout
    }

    fn attached(a: &[&str], b: &[&str]) -> Attached {
        let set = |list: &[&str]| Some(list.iter().map(|p| (*p).to_owned()).collect());
        [(id(OU_A), set(a)), (id(OU_B), set(b))].into()
    }

    fn done(intended: bool, attached: bool) -> Attachment {
        Attachment {
            intended_at: intended.then_some(Time(1)),
            attached_at: attached.then_some(Time(2)),
            attempts: u32::from(intended),
            ..Attachment::default()
        }
    }

    #[test]
    fn forward_table() {
        const FULL: &str = "p-FullAWSAccess";
        let none = attached(&[FULL], &[FULL]);
        let first = attached(&[FULL, "p-ours"], &[FULL]);
        let both = attached(&[FULL, "p-ours"], &[FULL, "p-ours"]);
        let mut r = rollout(Wish::Planned);
        assert_eq!(decide(&r, &none, 1), Step::Rest(State::Planned));
        r.wish = Wish::Run;
        assert_eq!(decide(&r, &none, 1), Step::Rest(State::Blocked));
        assert_eq!(decide(&r, &none, 0), Step::Attach(id(OU_A)));
        r.attachments.insert(id(OU_A), done(true, false));
        assert_eq!(decide(&r, &first, 0), Step::MarkAttached(id(OU_A)));
        assert_eq!(decide(&r, &none, 0), Step::Attach(id(OU_A)), "a lost call is repeated");
        r.attachments.insert(id(OU_A), done(true, true));
        assert_eq!(decide(&r, &first, 0), Step::Attach(id(OU_B)));
        assert!(
            matches!(decide(&r, &none, 0), Step::AskHuman(why) if why.contains("somebody detached"))
        );
        r.wish = Wish::Pause;
        assert_eq!(decide(&r, &first, 0), Step::Rest(State::Paused));
        r.wish = Wish::Run;
        r.attachments.insert(id(OU_B), done(true, true));
        assert_eq!(decide(&r, &both, 0), Step::Rest(State::Complete));
        let gone: Attached = [(id(OU_A), None), (id(OU_B), None)].into();
        assert!(matches!(decide(&r, &gone, 0), Step::AskHuman(_)));
        r.policy_id = None;
        assert_eq!(decide(&r, &none, 0), Step::CreatePolicy);
        r.baseline = None;
        assert_eq!(decide(&r, &none, 0), Step::TakeBaseline, "the set is stored before any write");
        r.body.author = "eve".into();
        assert!(matches!(decide(&r, &none, 0), Step::AskHuman(why) if why.contains("hashed")));
    }

    #[test]
    fn abort_detaches_in_reverse_only_what_is_ours_and_never_the_last() {
        const FULL: &str = "p-FullAWSAccess";
        let both = attached(&[FULL, "p-ours"], &[FULL, "p-ours"]);
        let mut r = rollout(Wish::Abort);
        assert_eq!(
            decide(&r, &both, 0),
            Step::Rest(State::Aborted),
            "not attached by us: left alone"
        );
        r.attachments.insert(id(OU_A), done(true, true));
        r.attachments.insert(id(OU_B), done(true, false));
        assert_eq!(decide(&r, &both, 0), Step::Detach(id(OU_B)));
        let first = attached(&[FULL, "p-ours"], &[FULL]);
        assert_eq!(
            decide(&r, &first, 0),
            Step::Detach(id(OU_B)),
            "never seen: it may still appear"
        );
        r.attachments.get_mut(&id(OU_B)).unwrap().detach_intended_at = Some(Time(8));
        assert_eq!(decide(&r, &first, 0), Step::MarkDetached(id(OU_B)));
        r.attachments.get_mut(&id(OU_B)).unwrap().detached_at = Some(Time(9));
        assert_eq!(decide(&r, &first, 0), Step::Detach(id(OU_A)));
        let last = attached(&["p-ours"], &[FULL]);
        assert!(matches!(decide(&r, &last, 0), Step::AskHuman(why) if why.contains("last SCP")));
        r.baseline.as_mut().unwrap().get_mut(&id(OU_A)).unwrap().insert("p-ours".into());
        assert_eq!(decide(&r, &first, 0), Step::Rest(State::Aborted), "it was there before us");
        let differences = compare(&r, &attached(&[FULL], &[FULL, "p-x"]));
        assert_eq!(differences.len(), 2, "{differences:?}");
    }
}
