//! Rollouts: planned and approved here, carried out by [`work`].

mod bake;
mod denials;
mod guard;
mod policy;
mod positions;
pub mod simulate;
mod who;
mod work;

pub(crate) use bake::moment;
pub use policy::Named;
pub(crate) use policy::bound;
pub use work::run;

use crate::app::{App, Fault, changed, now, refused};
use crate::org;
use crate::plans;
use crate::store::{Kind, Row};
use ringfence_domain::approval;
use ringfence_domain::audit::Actor;
use ringfence_domain::hash;
use ringfence_domain::id::NodeId;
use ringfence_domain::rollout::{
    self, Attached, Body, Limits, Rollout, Stage, State, Wish, preflight,
};

/// What a person wants rolled out.
pub struct Wanted {
    /// The policy.
    pub policy: Named,
    /// The stages.
    pub stages: Vec<Stage>,
    /// Whether the root may be a target.
    pub allow_root: bool,
    /// Whose denials are no harm.
    pub expected_denials: Vec<String>,
}

/// Plans a rollout: lint, targets, slots, size. Stores it unless `dry`. The same id twice is the
/// same rollout. The warnings are the lint's.
pub async fn plan(
    app: &App,
    actor: &Actor,
    id: &str,
    wanted: Wanted,
    dry: bool,
) -> Result<(Rollout, Vec<String>), Fault> {
    if app.store.get(Kind::Rollout, id).await?.is_some() {
        return Ok((app.load(Kind::Rollout, id).await?.1, Vec::new()));
    }
    let policy = policy::checked(&wanted.policy)?;
    let asks = bake::moment(app).observe_every.is_some();
    let unseen = wanted.stages.iter().find(|s| s.observations > 0 && !asks);
    if let Some(stage) = unseen {
        return Err(Fault::Invalid(format!(
            "stage `{}`: observations = {}, and the server has no rollout.health_command to ask and no rollout.watch_denials",
            stage.name, stage.observations
        )));
    }
    let tree = org::fresh(app, app.config.org_max_age).await?;
    let targets: Vec<&NodeId> = wanted.stages.iter().flat_map(|s| &s.targets).collect();
    for target in &targets {
        if tree.get(target).is_none() {
            return Err(Fault::NotFound(format!(
                "{target} is not in the organization as of {}; `ringfence org tree` shows what is",
                tree.as_of
            )));
        }
    }
    let attached = read(app, targets.into_iter()).await?;
    let trouble = preflight(
        &wanted.stages,
        &policy.minified,
        &tree,
        &attached,
        wanted.allow_root,
        limits(app),
    );
    if !trouble.is_empty() {
        return refused("PREFLIGHT", format!("nothing was planned: {}", trouble.join("; ")));
    }
    let bound = policy::bound(&tree, wanted.stages.iter().flat_map(|s| &s.targets));
    let warnings = policy::may_go(app, &wanted.policy.name, &policy, &bound).await?;
    let at = now();
    let rollout = Rollout::new(Body {
        id: id.to_owned(),
        author: actor.name.clone(),
        created_at: at,
        policy_name: format!(
            "ringfence-{}-{}",
            wanted.policy.name,
            hash::short(&policy.minified, 8)
        ),
        content: policy.minified,
        replaced_by: rollout::replaced_by(&wanted.stages, &tree),
        expected_denials: wanted.expected_denials,
        stages: wanted.stages,
        planned_on: attached.into_iter().filter_map(|(t, set)| Some((t, set?))).collect(),
        allow_root: wanted.allow_root,
    });
    if !dry {
        let event = actor.did(
            at,
            "rollout.plan",
            id,
            format!("{}, hash {}", rollout.body.policy_name, rollout.hash),
        );
        let row = Row::new(Kind::Rollout, id, rollout.state.as_str(), at, &rollout);
        if !app.store.update(&[row], &event).await? {
            return Ok((app.load(Kind::Rollout, id).await?.1, warnings));
        }
    }
    Ok((rollout, warnings))
}

fn limits(app: &App) -> Limits {
    Limits {
        policies_per_target: app.config.policies_per_target,
        policy_size: app.config.policy_size,
    }
}

async fn read(app: &App, targets: impl Iterator<Item = &NodeId>) -> Result<Attached, Fault> {
    let mut attached = Attached::new();
    for target in targets {
        attached.insert(target.clone(), app.cloud.attached(target).await?);
    }
    Ok(attached)
}

/// Adds a person's approval.
pub async fn add_approval(
    app: &App,
    actor: &Actor,
    id: &str,
    reason: &str,
    hash: &str,
) -> Result<Rollout, Fault> {
    let loaded = app.load(Kind::Rollout, id).await?;
    let text = format!("{reason} (hash {hash})");
    let (_, rollout) = change(app, actor, loaded, "rollout.approve", &text, |rollout| {
        let (author, own) = (&rollout.body.author, &rollout.hash);
        plans::approve(author, own, &mut rollout.approvals, actor, (reason, hash))
    })
    .await?;
    Ok(rollout)
}

/// What a person can ask of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Begin.
    Start,
    /// Attach nothing more.
    Pause,
    /// Go on after a pause or a refused gate.
    Resume,
    /// Take back what was attached.
    Abort,
    /// End the bake of a stage before its time.
    Promote,
}

/// Carries out a person's wish; the worker does the rest.
pub async fn wish(
    app: &App,
    actor: &Actor,
    id: &str,
    verb: Verb,
    reason: &str,
) -> Result<Rollout, Fault> {
    let loaded: Loaded = app.load(Kind::Rollout, id).await?;
    let rollout = &loaded.1;
    let state = rollout.state;
    let no = |what: &str| refused("WRONG_STATE", format!("{id} is {}: {what}", state.as_str()));
    let needed = app.config.approvals_rollout;
    // Once it runs they count on: a bake may take longer than anybody's word should stand before the start.
    let valid_for = app.config.approvals_rollout_valid_for;
    let fresh = rollout.approvals.iter().filter(|a| now().since(a.at) <= valid_for);
    let fresh: Vec<_> = fresh.cloned().collect();
    let missing = approval::missing(&rollout.body.author, &rollout.hash, &fresh, needed);
    let ended = matches!(state, State::Complete | State::Aborted | State::Failed);
    let aborting = rollout.wish == Wish::Abort;
    let retreats = matches!(rollout.wish, Wish::Retreat { .. }) && state == State::Aborting;
    let (wish, state, action) = match verb {
        Verb::Start | Verb::Resume if missing > 0 => {
            return refused(
                "APPROVAL_MISSING",
                format!(
                    "{id} needs {needed} approval(s) by others than {}, no older than {valid_for}, {missing} missing: `ringfence rollout approve {id} --reason ...`",
                    rollout.body.author
                ),
            );
        }
        Verb::Start | Verb::Resume if aborting || state == State::Aborted => {
            return no("it is being taken back; plan a new rollout");
        }
        Verb::Start | Verb::Resume | Verb::Pause | Verb::Promote if retreats => {
            return no(
                "a stage that does harm is being detached; when that is done, resume or abort",
            );
        }
        Verb::Promote if reason.trim().is_empty() => {
            return Err(Fault::Invalid("reason: say why it need not bake any longer".into()));
        }
        Verb::Promote if aborting || rollout.baking().is_none() => return no("no stage bakes"),
        Verb::Promote if !matches!(state, State::Baking | State::Running | State::Paused) => {
            return no("resume it first");
        }
        Verb::Promote
            if let Some((_, by)) = rollout.baking().and_then(|(.., b)| b.promoted.as_ref()) =>
        {
            return no(&format!("its bake was ended already by {by}"));
        }
        Verb::Promote if state == State::Baking => (Wish::Run, State::Running, "rollout.promote"),
        Verb::Promote => (rollout.wish, state, "rollout.promote"),
        Verb::Start if state == State::Paused => return no("use `ringfence rollout resume`"),
        Verb::Start | Verb::Resume if state == State::Complete => {
            return no("all its targets are attached");
        }
        Verb::Resume if state == State::Planned => return no("use `ringfence rollout start`"),
        Verb::Start => (Wish::Run, State::Running, "rollout.start"),
        Verb::Resume => (Wish::Run, State::Running, "rollout.resume"),
        Verb::Pause if state == State::Planned => return no("it was never started"),
        Verb::Pause if ended || aborting => return no("there is nothing to pause"),
        Verb::Pause => (Wish::Pause, State::Paused, "rollout.pause"),
        Verb::Abort if state == State::Aborted => return no("it was taken back already"),
        Verb::Abort => (Wish::Abort, State::Aborting, "rollout.abort"),
    };
    let (_, rollout) = change(app, actor, loaded, action, reason, |rollout| {
        if verb == Verb::Promote {
            bake::promote(rollout, actor, reason);
        }
        rollout.tries_again();
        rollout.wish = wish;
        rollout.state = state;
        match verb {
            Verb::Pause => {
                let why = if reason.trim().is_empty() { "" } else { ": " };
                rollout.why.push(format!("paused by {}{why}{reason}; resume goes on", actor.name));
            }
            Verb::Promote => {}
            Verb::Start | Verb::Resume | Verb::Abort => rollout.why.clear(),
        }
        Ok(())
    })
    .await?;
    app.wake_rollouts.notify_one();
    Ok(rollout)
}

/// A rollout with the row that it was read from.
pub(crate) type Loaded = (Row, Rollout);

/// One compare-and-set change with its event: nothing is written if somebody changed the rollout
/// since it was loaded, so that no decision is recorded over a pause or an abort that it did not see.
async fn change(
    app: &App,
    actor: &Actor,
    (row, mut rollout): Loaded,
    action: &str,
    reason: &str,
    edit: impl FnOnce(&mut Rollout) -> Result<(), Fault>,
) -> Result<Loaded, Fault> {
    let id = rollout.body.id.clone();
    edit(&mut rollout)?;
    let event = actor.did(now(), action, &id, reason);
    let mut row = row.with(rollout.state.as_str(), &rollout);
    if !app.store.update(std::slice::from_ref(&row), &event).await? {
        return Err(changed(&id));
    }
    row.version += 1;
    Ok((row, rollout))
}
