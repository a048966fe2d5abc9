//! Rollouts: planned and approved here, carried out by [`work`].

mod attach;
mod back;
mod bake;
mod denials;
mod gates;
mod guard;
mod notice;
mod policy;
mod positions;
mod probes;
mod proposal;
pub mod simulate;
pub(crate) mod tools;
pub(crate) mod verbs;
mod version;
mod who;
mod work;

pub(crate) use bake::{Admitted, admits, moment};
pub(crate) use gates::{closed, gate};
pub use guard::keep_fresh;
pub use policy::Named;
pub use proposal::{Proposal, propose};
pub use verbs::{Verb, wish};
pub(crate) use work::WRITES;
pub use work::run;

use crate::app::{App, Fault, changed, now, refused};
use crate::org;
use crate::plans;
use crate::store::{Filter, Kind, Row};
use ringfence_domain::audit::Actor;
use ringfence_domain::cloud::ErrorClass;
use ringfence_domain::hash;
use ringfence_domain::id::NodeId;
use ringfence_domain::org::OrgTree;
use ringfence_domain::rollout::{
    self, Attached, Body, Hours, Limits, Rollout, Stage, State, preflight,
};
use ringfence_domain::time::Span;
use std::collections::BTreeSet;

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
    /// The earlier rollout that it takes the place of; empty for none.
    pub replaces: String,
    /// Whether each stage is probed.
    pub probe: bool,
    /// When alone it goes on.
    pub hours: Option<Hours>,
}

/// Plans a rollout: lint, targets, slots, size. Stores it unless `dry`. The same id twice is the
/// same rollout. The warnings are the lint's.
pub async fn plan(
    app: &App,
    actor: &Actor,
    id: &str,
    mut wanted: Wanted,
    dry: bool,
) -> Result<(Rollout, Vec<String>), Fault> {
    if app.store.get(Kind::Rollout, id).await?.is_some() {
        return Ok((app.load(Kind::Rollout, id).await?.1, Vec::new()));
    }
    if let Some(stage) = wanted.stages.iter().find(|s| s.probe.is_some() && !wanted.probe) {
        return Err(Fault::Invalid(format!(
            "stage `{}`: probe_in says where, and `probe` that it is probed at all",
            stage.name
        )));
    }
    // What is wrong with it by itself needs no organization.
    policy::checked(&wanted.policy, &BTreeSet::new())?;
    let tree = org::fresh(app, app.config.org_max_age).await?;
    can_be_staged(app, &tree, &wanted.stages)?;
    let targets = || wanted.stages.iter().flat_map(|s| &s.targets);
    let bound = rollout::bound(&tree, targets());
    let waived = policy::waived(app, &wanted.policy, &bound).await?;
    let policy = policy::checked(&wanted.policy, &waived.keys().cloned().collect())?;
    let replaces = match wanted.replaces.as_str() {
        "" => None,
        old => {
            let asked = (policy.minified.as_str(), wanted.stages.as_slice());
            Some(version::wanted(app, old, asked, &tree).await?)
        }
    };
    let attached = read(app, targets()).await?;
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
    let policy_name =
        format!("ringfence-{}-{}", wanted.policy.name, hash::short(&policy.minified, 8));
    // Both ask services that may take their time.
    let (warnings, tools) = tokio::join!(
        policy::may_go(app, &wanted.policy.name, &policy, &bound),
        tools::warnings(app, &attached)
    );
    let mut warnings: Vec<String> = warnings?.into_iter().chain(tools).collect();
    if wanted.policy.parameters.exempt_waived && waived.is_empty() {
        warnings.push("exempt_waived: no account under its targets has a waiver, so the policy leaves none alone".to_owned());
    }
    if wanted.probe {
        let replay = policy::asked(&policy_name, &policy)?;
        let places = probes::placed(app, (&tree, &waived), &replay, &mut wanted.stages);
        warnings.extend(places.await?);
    }
    let targets = || wanted.stages.iter().flat_map(|s| &s.targets);
    warnings.extend(theirs(app, &policy_name, targets()).await?);
    warnings.extend(gates::shut_today(app, &tree, targets()).await?);
    let at = now();
    let rollout = Rollout::new(Body {
        id: id.to_owned(),
        author: actor.name.clone(),
        created_at: at,
        policy_name,
        content: policy.minified,
        replaced_by: rollout::replaced_by(&wanted.stages, &tree),
        expected_denials: wanted.expected_denials,
        replaces,
        stages: wanted.stages,
        planned_on: attached.into_iter().filter_map(|(t, set)| Some((t, set?))).collect(),
        allow_root: wanted.allow_root,
        hours: wanted.hours,
        waived,
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

/// Refuses targets that are not there, and observations that nobody makes.
fn can_be_staged(app: &App, tree: &OrgTree, stages: &[Stage]) -> Result<(), Fault> {
    let asks = bake::moment(app).observe_every.is_some();
    if let Some(stage) = stages.iter().find(|s| s.observations > 0 && !asks) {
        return Err(Fault::Invalid(format!(
            "stage `{}`: observations = {}, and the server has no rollout.health_command to ask, no rollout.alarms and no rollout.watch_denials",
            stage.name, stage.observations
        )));
    }
    if let Some(stage) = stages.iter().find(|s| s.calls > 0 && !app.config.watch_denials) {
        return Err(Fault::Invalid(format!(
            "stage `{}`: calls = {}, and the server does not look at CloudTrail: set rollout.watch_denials",
            stage.name, stage.calls
        )));
    }
    match stages.iter().flat_map(|s| &s.targets).find(|t| tree.get(t).is_none()) {
        None => Ok(()),
        Some(target) => Err(Fault::NotFound(format!(
            "{target} is not in the organization as of {}; `ringfence org tree` shows what is",
            tree.as_of
        ))),
    }
}

/// Other rollouts that have this very policy attached to some of these targets: it stays theirs.
async fn theirs<'a>(
    app: &App,
    policy_name: &str,
    targets: impl Iterator<Item = &'a NodeId>,
) -> Result<Vec<String>, Fault> {
    let all: Vec<Loaded> = app.all(Kind::Rollout, &Filter::default()).await?;
    let targets: Vec<&NodeId> = targets.collect();
    let line = |(_, r): &Loaded| {
        let same = r.body.policy_name == policy_name && r.state != State::Aborted;
        let held = targets.iter().filter(|t| same && r.ours(t) && r.holds(t)).count();
        let id = &r.body.id;
        (held > 0).then(|| {
            format!("{id} has this policy attached to {held} of the targets already: there it stays that one's")
        })
    };
    Ok(all.iter().filter_map(line).collect())
}

fn limits(app: &App) -> Limits {
    Limits {
        policies_per_target: app.config.policies_per_target,
        policy_size: app.config.policy_size,
        accounts_per_stage: app.config.accounts_per_stage,
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

/// What is said of one that moves, or should, while the server that has the lease of all writes is silent: it was killed, or
/// is cut off.
pub(crate) async fn silent(app: &App, state: State) -> Option<String> {
    if !matches!(state, State::Running | State::Aborting) {
        return None;
    }
    // What cannot be read now is said at the next look.
    let (owner, until) = app.store.holder(WRITES).await.ok()??;
    let clock = app.store.clock().await.ok()?;
    let ttl = app.config.lease_for;
    // While something moves it is kept each third of that.
    (owner != *app.owner && until.since(clock).0 < ttl.0 / 2).then(|| {
        let heard = until.plus(Span(-ttl.0));
        format!(
            "the server that made the changes has been silent since {heard}; if it stays so, this one goes on at {until}"
        )
    })
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

/// Whether a refusal may pass by itself.
pub(crate) fn transient(class: ErrorClass) -> bool {
    matches!(class, ErrorClass::Throttled | ErrorClass::Conflict | ErrorClass::Unknown)
}
