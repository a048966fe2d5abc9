//! Stages that are watched before the next one begins: their clock, their health, and what becomes of one that does
//! harm.

use super::gates::gate;
use super::guard::came;
use super::work::{same, stop, system};
use super::{Loaded, back, change, denials, transient, version};
use crate::app::{App, Fault, now};
use ringfence_agent::Look;
use ringfence_domain::audit::Actor;
use ringfence_domain::id::NodeId;
use ringfence_domain::rollout::{
    Alarm, BAKE_MAX, Bake, Health, Moment, Observation, Rollout, State, Wish, bound,
};
use ringfence_domain::time::Span;
use std::collections::{BTreeMap, BTreeSet};

/// Now, and how often health is asked for.
pub(crate) fn moment(app: &App) -> Moment {
    let asks = app.health.is_some() || app.config.watch_denials || !app.config.alarms.is_empty();
    Moment { now: now(), observe_every: asks.then_some(app.config.observe_every) }
}

/// Notes that a person ended the bake, or let a stage pass without its probe.
pub(super) fn promote(rollout: &mut Rollout, actor: &Actor, reason: &str) {
    let at = now();
    if let Some(probed) = rollout.probes.values_mut().find(|p| p.passed_at.is_none()) {
        (probed.passed_at, probed.promoted) = (Some(at), Some(format!("{}: {reason}", actor.name)));
    } else if let Some(bake) = rollout.bakes.values_mut().find(|b| b.done_at.is_none()) {
        bake.promoted = Some((at, format!("{}: {reason}", actor.name)));
    }
}

/// All targets of a stage are attached: its clock starts.
pub(super) async fn begin(app: &App, loaded: Loaded, stage: usize) -> Result<bool, Fault> {
    let name = name(&loaded.1, stage);
    change(app, &system(), loaded, "rollout.bake", &name, |r| {
        r.bakes.insert(stage, Bake::begun(now()));
        (r.state, r.why) = (State::Baking, vec![waits_for(app, r)]);
        Ok(())
    })
    .await?;
    Ok(true)
}

/// It bakes: noted where that is news.
pub(super) async fn rests(app: &App, loaded: Loaded) -> Result<bool, Fault> {
    if let Some(why) = waits_in_vain(app, &loaded.1) {
        change(app, &system(), loaded, "rollout.paused", &why, |r| {
            (r.wish, r.state, r.why) = (Wish::Pause, State::Paused, vec![why.clone()]);
            Ok(())
        })
        .await?;
        return Ok(false);
    }
    let why = vec![waits_for(app, &loaded.1)];
    if loaded.1.state != State::Baking || loaded.1.why != why {
        stop(app, loaded, State::Baking, why).await?;
    }
    Ok(false)
}

/// What a bake waits for, and what ends it where nobody makes a database.
fn waits_for(app: &App, rollout: &Rollout) -> String {
    let text = rollout.bakes_for(moment(app));
    let short = rollout.baking().is_some_and(|(_, s, b)| b.calls < u64::from(s.calls));
    if short { format!("{text}; promote ends it without them") } else { text }
}

/// Why the calls that a stage wants will not be seen.
fn waits_in_vain(app: &App, rollout: &Rollout) -> Option<String> {
    let (_, stage, bake) = rollout.baking().filter(|(_, s, b)| b.calls < u64::from(s.calls))?;
    let why = match () {
        () if !app.config.watch_denials => "rollout.watch_denials is off by now: set it".to_owned(),
        () if now().since(bake.began_at) > BAKE_MAX => format!("it bakes for {BAKE_MAX} already"),
        () => return None,
    };
    let (name, wanted, seen) = (&stage.name, stage.calls, bake.calls);
    Some(format!(
        "stage {name} wants {wanted} calls in CloudTrail, {seen} were seen, and {why}; resume goes on, promote ends its bake"
    ))
}

/// Asks the operator's command, or looks how it stands. True once there is an answer.
pub(super) async fn observe(app: &App, loaded: Loaded, n: usize) -> Result<bool, Fault> {
    let rollout = &loaded.1;
    if let Some(why) = edited(app, rollout).await? {
        stop(app, loaded, State::Failed, vec![why]).await?;
        return Ok(false);
    }
    let look = format!("{} stage {n}", rollout.body.id);
    // What was read for this look, and not for the one before.
    let began = rollout.bakes.get(&n).map(|b| b.last.as_ref().map_or(b.began_at, |o| o.at));
    let since = now().since(began.unwrap_or(now()));
    let Some((health, said, calls)) = asked(app, rollout, n, (&look, since)).await? else {
        return Ok(false);
    };
    let name = name(rollout, n);
    let text = format!("stage {name} is {}: {said}", health.as_str());
    let seen = Observation { at: now(), health, said };
    change(app, &system(), loaded, "rollout.observed", &text, |r| {
        if let Some(bake) = r.bakes.get_mut(&n) {
            bake.observe(seen);
            bake.calls = bake.calls.max(calls);
        }
        match health {
            // That it bakes on is no news of its own.
            Health::Healthy => (r.state, r.why) = (State::Baking, vec![waits_for(app, r)]),
            Health::Inconclusive => {
                (r.wish, r.state) = (Wish::Pause, State::Paused);
                r.why = vec![format!("{text}; nothing more is attached; resume asks again")];
            }
            Health::Unhealthy => harmed(app, r, n, &text),
        }
        Ok(())
    })
    .await?;
    Ok(true)
}

/// A stage does harm: it is taken back, or all is.
pub(super) fn harmed(app: &App, r: &mut Rollout, n: usize, text: &str) {
    let (wish, what) = match app.config.retreat_all {
        true => (Wish::Abort, "all that was attached is"),
        false => (Wish::Retreat { stage: n }, "its targets are"),
    };
    (r.wish, r.state) = (wish, State::Aborting);
    r.why = vec![format!("{text}; {what} taken back")];
    r.undo_to = None;
    // Taking back has all its tries.
    r.tries_again();
}

/// The harm that a stage does while its rollout rests, where anybody knows of any; `None` until all that are asked have
/// answered. It is looked at apart, each so often, so that after a pause somebody is asked anew.
pub(super) async fn harm(
    app: &App,
    rollout: &Rollout,
    n: usize,
    every: Span,
) -> Result<Option<Option<Observation>>, Fault> {
    let look = format!("{} stage {n} at rest", rollout.body.id);
    Ok(asked(app, rollout, n, (&look, every)).await?.map(|(health, said, _)| {
        (health == Health::Unhealthy).then(|| Observation { at: now(), health, said })
    }))
}

/// Takes in that it does harm.
pub(super) async fn take_back(
    app: &App,
    loaded: Loaded,
    n: usize,
    seen: Observation,
) -> Result<(), Fault> {
    let text = format!("stage {} is {}: {}", name(&loaded.1, n), seen.health.as_str(), seen.said);
    change(app, &system(), loaded, "rollout.observed", &text, |r| {
        if let Some(bake) = r.bakes.get_mut(&n) {
            bake.observe(seen);
        }
        harmed(app, r, n, &text);
        Ok(())
    })
    .await?;
    Ok(())
}

/// What the operator's alarms say: of our own account alone, for the server enters no other one.
async fn alarmed(app: &App) -> Result<(Health, String), Fault> {
    let alarms = &app.config.alarms;
    let own = app.cloud.caller().await?.account;
    if let Some(other) = alarms.iter().find(|a| a.account != own) {
        return Ok((Health::Inconclusive, format!("{other} is not of {own}, where the server is")));
    }
    let mut states = BTreeMap::new();
    for region in alarms.iter().map(|a| &a.region).collect::<BTreeSet<_>>() {
        let here: Vec<&Alarm> = alarms.iter().filter(|a| a.region == *region).collect();
        let names: Vec<String> = here.iter().map(|a| a.name.clone()).collect();
        let mut found = match app.cloud.alarm_states(region, &names).await {
            Ok(found) => found,
            Err(error) if transient(error.class) => return Err(error.into()),
            Err(error) => return Ok((Health::Inconclusive, error.to_string())),
        };
        states.extend(here.into_iter().filter_map(|a| Some((a.clone(), found.remove(&a.name)?))));
    }
    Ok(Alarm::verdict(alarms, &states))
}

/// What CloudTrail, alarms and the operator's command say of a stage, and how many calls CloudTrail showed; `None` until both
/// are there. Harm that one knows of counts whatever the other does not know. `look` tells this asking
/// from others, and what was read longer ago than `max_age` is none of it.
async fn asked(
    app: &App,
    rollout: &Rollout,
    n: usize,
    (look, max_age): (&str, Span),
) -> Result<Option<(Health, String, u64)>, Fault> {
    let (mut all, mut calls) = (Vec::new(), 0);
    if !app.config.alarms.is_empty() {
        match alarmed(app).await? {
            (Health::Unhealthy, said) => return Ok(Some((Health::Unhealthy, said, 0))),
            other => all.push(other),
        }
    }
    if app.config.watch_denials {
        match denials::look(app, rollout, n, (look, max_age)).await? {
            None => return Ok(None),
            Some(harm @ (Health::Unhealthy, ..)) => return Ok(Some(harm)),
            Some((health, said, seen)) => {
                calls = seen;
                all.push((health, said));
            }
        }
    }
    if let Some(command) = &app.health {
        match command.look(look, &about(rollout, n), now()) {
            Look::Running(_) => return Ok(None),
            Look::Passed(said) => all.push((Health::Healthy, said)),
            Look::Failed(Some(1), why) => return Ok(Some((Health::Unhealthy, why, calls))),
            Look::Failed(_, why) => all.push((Health::Inconclusive, why)),
        }
    }
    if let Some((health, said)) = all.iter().find(|(health, _)| *health != Health::Healthy) {
        return Ok(Some((*health, said.clone(), calls)));
    }
    let said: Vec<String> = all.into_iter().map(|(_, said)| said).collect();
    Ok(Some((Health::Healthy, said.join("; "), calls)))
}

/// The bake is over, if the evidence of what it binds still holds: a new account, or one that nobody scanned since, shuts
/// its gate.
pub(super) async fn end(app: &App, loaded: Loaded, n: usize) -> Result<bool, Fault> {
    if let Some(why) = edited(app, &loaded.1).await? {
        stop(app, loaded, State::Failed, vec![why]).await?;
        return Ok(false);
    }
    let name = name(&loaded.1, n);
    let mut shut = Vec::new();
    let here = loaded.1.targets_of(n);
    for target in &here {
        let (why, _) = gate(app, target).await?;
        if !why.is_empty() {
            shut.push(format!(
                "stage {name} has baked, and the evidence of {target} no longer holds"
            ));
            shut.extend(why);
        }
    }
    // Accounts that came to what was attached before.
    let tree = app.tree().await?;
    let before = (0..n).flat_map(|m| &loaded.1.body.stages[m].targets);
    let on: BTreeSet<NodeId> = before.filter(|t| loaded.1.holds(t)).cloned().collect();
    let (unproven, proven) = came(app, &tree, &loaded.1.moves(&tree, &on).came).await?;
    shut.extend(unproven);
    if !shut.is_empty() {
        tracing::warn!("{}: blocked: {}", loaded.1.body.id, shut.join("; "));
        change(app, &system(), loaded, "rollout.blocked", &shut.join("; "), |r| {
            r.knows(proven);
            (r.state, r.why) = (State::Blocked, shut.clone());
            Ok(())
        })
        .await?;
        return Ok(false);
    }
    let here = bound(&tree, here.iter());
    change(app, &system(), loaded, "rollout.baked", &name, |r| {
        r.knows(here.into_iter().chain(proven));
        if let Some(bake) = r.bakes.get_mut(&n) {
            bake.done_at = Some(now());
        }
        r.state = State::Running;
        r.why.clear();
        Ok(())
    })
    .await?;
    Ok(true)
}

/// A stage that did harm is detached: what was done there is forgotten, so that a resume begins it anew.
pub(super) async fn retreated(app: &App, loaded: Loaded, from: usize) -> Result<bool, Fault> {
    let why = back::reasons(&loaded.1);
    let text = format!("stage {} and what followed it are detached", name(&loaded.1, from));
    let left: Vec<String> = loaded.1.left_by(from).iter().map(ToString::to_string).collect();
    let (row, mut r) = loaded;
    // Before what is forgotten is: where the earlier version could not be attached again it is not back.
    let back = r.gave_back();
    r.forget_from(from);
    (r.wish, r.state, r.why) = (Wish::Pause, State::Blocked, why);
    r.why.push(format!("{text}; resume attaches them again, abort takes back the rest"));
    if !left.is_empty() {
        r.why.push(format!(
            "{} had been left to what is detached: nothing binds them until a resume, which begins with them",
            left.join(", ")
        ));
    }
    version::given_back(app, (row, r), ("rollout.retreated", &text), back).await?;
    Ok(false)
}

/// Whether somebody changed the policy since it was approved.
pub(super) async fn edited(app: &App, rollout: &Rollout) -> Result<Option<String>, Fault> {
    let policy = rollout.policy_id.clone().unwrap_or_default();
    let content = app.cloud.policy_content(&policy).await?;
    Ok((!same(&content, &rollout.body.content))
        .then(|| format!("{policy} no longer says what was approved: somebody changed it")))
}

/// What the operator's own gate says of a target (`rollout.gate_command`).
pub(crate) enum Admitted {
    /// It may be attached to, or there is nobody to ask.
    Yes,
    /// It may not, or nobody knows: no answer is never a pass.
    No(String),
    /// It is being asked.
    Waits(String),
}

/// Asks it, or looks what it says.
pub(super) fn admitted(app: &App, rollout: &Rollout, target: &NodeId) -> Admitted {
    let stage = rollout.body.stages.iter().position(|s| s.targets.contains(target));
    admits(app, &rollout.body.id, about(rollout, stage.unwrap_or_default()), target)
}

/// The same, of a target of any document.
pub(crate) fn admits(
    app: &App,
    id: &str,
    mut about: Vec<(&'static str, String)>,
    target: &NodeId,
) -> Admitted {
    let Some(command) = &app.gate else { return Admitted::Yes };
    about.push(("TARGET", target.to_string()));
    match command.look(&format!("{id} {target}"), &about, now()) {
        Look::Running(_) => {
            Admitted::Waits(format!("rollout.gate_command is asked about {target}"))
        }
        Look::Passed(_) => Admitted::Yes,
        Look::Failed(Some(1), why) => {
            Admitted::No(format!("rollout.gate_command refuses {target}: {why}"))
        }
        Look::Failed(_, why) => Admitted::No(format!(
            "rollout.gate_command gives no answer for {target}, so the gate is shut: {why}"
        )),
    }
}

pub(super) fn name(rollout: &Rollout, stage: usize) -> String {
    rollout.body.stages.get(stage).map(|s| s.name.clone()).unwrap_or_default()
}

/// What the command is told.
fn about(rollout: &Rollout, n: usize) -> Vec<(&'static str, String)> {
    let targets: Vec<String> = rollout.targets_of(n).iter().map(ToString::to_string).collect();
    let since = rollout.bakes.get(&n).map(|b| b.began_at.to_string());
    vec![
        ("ROLLOUT", rollout.body.id.clone()),
        ("POLICY", rollout.policy_id.clone().unwrap_or_default()),
        ("POLICY_NAME", rollout.body.policy_name.clone()),
        ("STAGE", name(rollout, n)),
        ("TARGETS", targets.join(",")),
        ("SINCE", since.unwrap_or_default()),
    ]
}
