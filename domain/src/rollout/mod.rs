//! The rollout of one SCP through ordered stages.
//!
//! Position is what is attached, as read; there is no current-step counter. One target at a time;
//! what was attached before us is never detached by us; all is stored before the first write.

mod bake;
mod file;
mod gate;
#[cfg(test)]
mod safety;

pub use bake::{Bake, Health, Moment, Observation};
pub use file::{BAKE_MAX, File, FileStage, parse};
pub use gate::{Limits, gate, preflight};

use crate::approval::Approval;
use crate::hash;
use crate::id::NodeId;
use crate::time::{Span, Time};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// One ordered set of targets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// What people call it.
    pub name: String,
    /// The targets, in order.
    pub targets: Vec<NodeId>,
    /// How long it must have been attached before the next stage begins, at least.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bake: Span,
    /// How many healthy observations that takes, at least.
    #[serde(default, skip_serializing_if = "is_nought")]
    pub observations: u32,
}

// What was hashed before stages could bake must hash the same.
fn is_zero(span: &Span) -> bool {
    *span == Span(0)
}

fn is_nought(count: &u32) -> bool {
    *count == 0
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
    /// Detach this stage and all after it, for it does harm.
    Retreat {
        /// Its number, from 0.
        stage: usize,
    },
}

/// Where a rollout stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Planned, not started.
    Planned,
    /// Attaching.
    Running,
    /// A stage is attached and watched, before the next one begins.
    Baking,
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
    pub const ALL: [State; 9] = [
        State::Planned,
        State::Running,
        State::Baking,
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
            State::Baking => "baking",
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
    /// The bakes, by the number of their stage.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bakes: BTreeMap<usize, Bake>,
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
            bakes: BTreeMap::new(),
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
    /// All targets of the stage with this number are attached: its clock starts.
    BeginBake(usize),
    /// Ask for its health.
    Observe(usize),
    /// It was watched long enough: the next one may begin, if its evidence still holds.
    EndBake(usize),
    /// Nothing to do in this state.
    Rest(State),
    /// A person must look.
    AskHuman(String),
}

/// The policies attached to each target, as read just now; `None` where the target is gone.
pub type Attached = BTreeMap<NodeId, Option<BTreeSet<String>>>;

/// The next step. `missing` is the number of approvals that are missing, counted anew each time.
pub fn decide(rollout: &Rollout, attached: &Attached, missing: usize, moment: Moment) -> Step {
    if rollout.hash != hash::of(&rollout.body) {
        return Step::AskHuman("the stored rollout is not the one that was hashed".into());
    }
    match rollout.wish {
        Wish::Planned => Step::Rest(State::Planned),
        Wish::Pause => Step::Rest(State::Paused),
        Wish::Run => forward(rollout, attached, missing, moment),
        Wish::Abort => backward(rollout, attached, 0, State::Aborted),
        Wish::Retreat { stage } => backward(rollout, attached, stage, State::Blocked),
    }
}

fn forward(rollout: &Rollout, attached: &Attached, missing: usize, moment: Moment) -> Step {
    if missing > 0 {
        return Step::Rest(State::Blocked);
    }
    if rollout.baseline.is_none() {
        return Step::TakeBaseline;
    }
    let Some(policy) = &rollout.policy_id else {
        return Step::CreatePolicy;
    };
    for (n, stage) in rollout.body.stages.iter().enumerate() {
        let step = stage.targets.iter().find_map(|t| attach(rollout, policy, t, attached));
        if let Some(step) = step.or_else(|| bake::step(rollout, n, stage, moment)) {
            return step;
        }
    }
    Step::Rest(State::Complete)
}

/// What one target is short of; `None` once it is attached.
fn attach(
    rollout: &Rollout,
    policy: &String,
    target: &NodeId,
    attached: &Attached,
) -> Option<Step> {
    let Some(Some(now)) = attached.get(target) else {
        return Some(Step::AskHuman(format!("{target} is no longer in the organization")));
    };
    let done = rollout.attachments.get(target);
    let noted = done.is_some_and(|a| a.attached_at.is_some());
    match (now.contains(policy), noted) {
        (true, true) => None,
        (true, false) => Some(Step::MarkAttached(target.clone())),
        (false, true) => Some(Step::AskHuman(format!(
            "{policy} was attached to {target} and is gone: somebody detached it"
        ))),
        (false, false) if done.is_some_and(|a| a.attempts >= ATTEMPTS_MAX) => {
            Some(Step::AskHuman(format!("attaching to {target} has no effect")))
        }
        (false, false) => Some(Step::Attach(target.clone())),
    }
}

/// Takes back what is ours of these stages, the last first; then it rests so.
fn backward(rollout: &Rollout, attached: &Attached, from: usize, rest: State) -> Step {
    let Some(policy) = &rollout.policy_id else {
        return Step::Rest(rest);
    };
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
    Step::Rest(rest)
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
        let stage = |name: &str, target: &str| Stage {
            name: name.into(),
            targets: vec![id(target)],
            ..Stage::default()
        };
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

    /// Of stages that do not bake.
    fn at(rollout: &Rollout, attached: &Attached, missing: usize) -> Step {
        decide(rollout, attached, missing, Moment { now: Time(0), observe_every: None })
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
        assert_eq!(at(&r, &none, 1), Step::Rest(State::Planned));
        r.wish = Wish::Run;
        assert_eq!(at(&r, &none, 1), Step::Rest(State::Blocked));
        assert_eq!(at(&r, &none, 0), Step::Attach(id(OU_A)));
        r.attachments.insert(id(OU_A), done(true, false));
        assert_eq!(at(&r, &first, 0), Step::MarkAttached(id(OU_A)));
        assert_eq!(at(&r, &none, 0), Step::Attach(id(OU_A)), "a lost call is repeated");
        r.attachments.insert(id(OU_A), done(true, true));
        assert_eq!(at(&r, &first, 0), Step::Attach(id(OU_B)));
        assert!(
            matches!(at(&r, &none, 0), Step::AskHuman(why) if why.contains("somebody detached"))
        );
        r.wish = Wish::Pause;
        assert_eq!(at(&r, &first, 0), Step::Rest(State::Paused));
        r.wish = Wish::Run;
        r.attachments.insert(id(OU_B), done(true, true));
        assert_eq!(at(&r, &both, 0), Step::Rest(State::Complete));
        let gone: Attached = [(id(OU_A), None), (id(OU_B), None)].into();
        assert!(matches!(at(&r, &gone, 0), Step::AskHuman(_)));
        r.policy_id = None;
        assert_eq!(at(&r, &none, 0), Step::CreatePolicy);
        r.baseline = None;
        assert_eq!(at(&r, &none, 0), Step::TakeBaseline, "the set is stored before any write");
        r.body.author = "eve".into();
        assert!(matches!(at(&r, &none, 0), Step::AskHuman(why) if why.contains("hashed")));
    }

    #[test]
    fn a_stage_bakes_for_its_time_and_its_observations() {
        const FULL: &str = "p-FullAWSAccess";
        let first = attached(&[FULL, "p-ours"], &[FULL]);
        let mut r = rollout(Wish::Run);
        (r.body.stages[0].bake, r.body.stages[0].observations) = (Span::hours(1), 2);
        r.hash = hash::of(&r.body);
        r.attachments.insert(id(OU_A), done(true, true));
        let hour = |h: i64| Time(0).plus(Span::hours(h));
        let every = Some(Span::seconds(600));
        let step = |r: &Rollout, now: Time, observe_every| {
            decide(r, &first, 0, Moment { now, observe_every })
        };
        assert_eq!(step(&r, hour(0), every), Step::BeginBake(0));
        r.bakes.insert(0, Bake::begun(hour(0)));
        assert_eq!(step(&r, hour(0), every), Step::Observe(0));
        let seen = |h: i64, health| Observation { at: hour(h), health, said: String::new() };
        r.bakes.get_mut(&0).unwrap().observe(seen(0, Health::Healthy));
        assert_eq!(step(&r, hour(0), every), Step::Rest(State::Baking));
        assert_eq!(step(&r, hour(2), every), Step::Observe(0), "its time alone ends it not");
        r.bakes.get_mut(&0).unwrap().observe(seen(2, Health::Inconclusive));
        assert_eq!(
            step(&r, hour(2), every),
            Step::Rest(State::Baking),
            "nobody knows: not healthy"
        );
        assert!(
            r.bakes_for(Moment { now: hour(2), observe_every: every }).contains("1 of 2 healthy")
        );
        r.bakes.get_mut(&0).unwrap().observe(seen(3, Health::Healthy));
        assert_eq!(step(&r, hour(3), every), Step::EndBake(0));
        assert!(
            matches!(step(&r, hour(3), None), Step::AskHuman(why) if why.contains("health_command"))
        );
        let mut early = r.clone();
        early.bakes.insert(0, Bake::begun(hour(3)));
        early.bakes.get_mut(&0).unwrap().promoted = Some((hour(3), "bob: known".into()));
        assert_eq!(step(&early, hour(3), every), Step::EndBake(0));
        r.bakes.get_mut(&0).unwrap().done_at = Some(hour(3));
        assert_eq!(step(&r, hour(3), every), Step::Attach(id(OU_B)));
        // Only its time, where nobody can be asked.
        r.body.stages[0].observations = 0;
        r.hash = hash::of(&r.body);
        r.bakes.insert(0, Bake::begun(hour(3)));
        assert_eq!(step(&r, hour(3), None), Step::Rest(State::Baking));
        assert_eq!(step(&r, hour(4), None), Step::EndBake(0));
        // Somebody takes it off meanwhile.
        let off = attached(&[FULL], &[FULL]);
        let said = decide(&r, &off, 0, Moment { now: hour(3), observe_every: None });
        assert!(matches!(said, Step::AskHuman(why) if why.contains("somebody detached")));
        // One that does harm is taken back with what followed, and no further.
        r.wish = Wish::Retreat { stage: 1 };
        r.attachments.insert(id(OU_B), done(true, true));
        let both = attached(&[FULL, "p-ours"], &[FULL, "p-ours"]);
        assert_eq!(at(&r, &both, 0), Step::Detach(id(OU_B)));
        r.attachments.get_mut(&id(OU_B)).unwrap().detached_at = Some(hour(4));
        assert_eq!(at(&r, &first, 0), Step::Rest(State::Blocked));
        r.forget_from(1);
        r.wish = Wish::Run;
        r.bakes.get_mut(&0).unwrap().done_at = Some(hour(4));
        assert_eq!(at(&r, &first, 0), Step::Attach(id(OU_B)), "a resume attaches it anew");
    }

    #[test]
    fn abort_detaches_in_reverse_only_what_is_ours_and_never_the_last() {
        const FULL: &str = "p-FullAWSAccess";
        let both = attached(&[FULL, "p-ours"], &[FULL, "p-ours"]);
        let mut r = rollout(Wish::Abort);
        assert_eq!(at(&r, &both, 0), Step::Rest(State::Aborted), "not attached by us: left alone");
        r.attachments.insert(id(OU_A), done(true, true));
        r.attachments.insert(id(OU_B), done(true, false));
        assert_eq!(at(&r, &both, 0), Step::Detach(id(OU_B)));
        let first = attached(&[FULL, "p-ours"], &[FULL]);
        assert_eq!(at(&r, &first, 0), Step::Detach(id(OU_B)), "never seen: it may still appear");
        r.attachments.get_mut(&id(OU_B)).unwrap().detach_intended_at = Some(Time(8));
        assert_eq!(at(&r, &first, 0), Step::MarkDetached(id(OU_B)));
        r.attachments.get_mut(&id(OU_B)).unwrap().detached_at = Some(Time(9));
        assert_eq!(at(&r, &first, 0), Step::Detach(id(OU_A)));
        let last = attached(&["p-ours"], &[FULL]);
        assert!(matches!(at(&r, &last, 0), Step::AskHuman(why) if why.contains("last SCP")));
        r.baseline.as_mut().unwrap().get_mut(&id(OU_A)).unwrap().insert("p-ours".into());
        assert_eq!(at(&r, &first, 0), Step::Rest(State::Aborted), "it was there before us");
        let differences = compare(&r, &attached(&[FULL], &[FULL, "p-x"]));
        assert_eq!(differences.len(), 2, "{differences:?}");
    }
}
