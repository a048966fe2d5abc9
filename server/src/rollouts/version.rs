//! The earlier version that a rollout takes the place of: detached where the new one binds, and given back.

use super::gates::thawed;
use super::guard::unbound;
use super::positions::Positions;
use super::work::{note_old, read_back, same, stop, system, waits_for_hours};
use super::{Loaded, back, bake, change, transient};
use crate::app::{App, Fault, changed, now, refused};
use crate::store::{Filter, Kind, Row};
use ringfence_domain::cloud::ErrorClass;
use ringfence_domain::id::NodeId;
use ringfence_domain::org::OrgTree;
use ringfence_domain::rollout::{Replaces, Rollout, Stage, State, Wish, replaced_by, replaces};
use ringfence_domain::scp;
use std::collections::BTreeSet;

/// What a rollout with these stages and this policy takes the place of.
pub(super) async fn wanted(
    app: &App,
    old: &str,
    (content, stages): (&str, &[Stage]),
    tree: &OrgTree,
) -> Result<Replaces, Fault> {
    let (_, old): Loaded = app.load(Kind::Rollout, old).await?;
    let id = &old.body.id;
    if old.body.content == content {
        return Err(Fault::Invalid(format!("replaces: {id} has the same policy already")));
    }
    let all: Vec<(Row, Rollout)> = app.all(Kind::Rollout, &Filter::default()).await?;
    let other = all.iter().map(|(_, r)| r).find(|r| {
        r.state != State::Aborted && r.body.replaces.as_ref().is_some_and(|r| r.rollout == *id)
    });
    if let Some(other) = other {
        return Err(Fault::Invalid(format!(
            "replaces: {} is to take the place of {id} already; abort that one first",
            other.body.id
        )));
    }
    let on = match &old.policy_id {
        Some(policy) => app.cloud.targets_of(policy).await?,
        None => BTreeSet::new(),
    };
    let left = replaced_by(stages, tree);
    let found = replaces(&old, stages, (tree, &left), &on).map_err(Fault::Invalid)?;
    let changes = scp::changes(&old.body.content, content).map_err(Fault::Invalid)?;
    Ok(Replaces { changes, ..found })
}

/// Detaches the earlier policy from a target, after a look that the new one binds all that it binds. With the first one,
/// the earlier rollout is over.
pub(super) async fn release(
    app: &App,
    loaded: Loaded,
    target: &NodeId,
    seen: &mut Positions,
) -> Result<bool, Fault> {
    let Some(replaces) = loaded.1.body.replaces.clone() else { return Ok(false) };
    let Some(by) = replaces.targets.get(target) else { return Ok(false) };
    if waits_for_hours(app, &loaded.1).await? {
        return Ok(false);
    }
    thawed(app, target).await?;
    let mut why = bake::edited(app, &loaded.1).await?;
    if why.is_none() {
        why = unbound(app, &loaded.1, (target, by)).await?;
    }
    if let Some(why) = why {
        let why = vec![format!(
            "{target} keeps {}: {why}; or let it keep that: skip {target} and resume",
            replaces.policy
        )];
        stop(app, loaded, State::Failed, why).await?;
        return Ok(false);
    }
    supersede(app, loaded, &replaces, target).await?;
    app.cloud.detach_policy(&replaces.policy, target).await?;
    read_back(app, target, (&replaces.policy, false), seen).await?;
    Ok(true)
}

/// Notes what is about to be detached, and that the earlier rollout is over, in one transaction.
async fn supersede(
    app: &App,
    (row, mut rollout): Loaded,
    replaces: &Replaces,
    target: &NodeId,
) -> Result<(), Fault> {
    let (old_row, mut old): Loaded = app.load(Kind::Rollout, &replaces.rollout).await?;
    let id = rollout.body.id.clone();
    rollout.releases(target, now());
    let mut rows = vec![row.with(rollout.state.as_str(), &rollout)];
    if old.superseded_by.as_ref() != Some(&id) {
        if !old.stands() {
            return refused(
                "WRONG_STATE",
                format!(
                    "{} is {}: its policy stays until it is complete again, or taken back",
                    old.body.id,
                    old.state.as_str()
                ),
            );
        }
        if let Some(more) = old.beyond(replaces) {
            return refused(
                "WRONG_STATE",
                format!("{} was attached to {more} since this was planned", old.body.id),
            );
        }
        (old.superseded_by, old.state) = (Some(id.clone()), State::Superseded);
        old.why = vec![format!("{id} has taken its place; undo that one to have it back")];
        rows.push(old_row.with(old.state.as_str(), &old));
    }
    let text = format!("{} from {target}", replaces.policy);
    let event = system().did(now(), "rollout.release", &id, text);
    match app.store.update(&rows, &event).await? {
        true => Ok(()),
        false => Err(changed(&id)),
    }
}

/// Attaches the earlier policy again. One that is gone keeps nothing where it is; any other refusal is for a person, except
/// where a stage does harm.
pub(super) async fn restore(
    app: &App,
    loaded: Loaded,
    target: &NodeId,
    seen: &mut Positions,
) -> Result<bool, Fault> {
    let Some(replaces) = loaded.1.body.replaces.clone() else { return Ok(false) };
    let text = format!("{} to {target}", replaces.policy);
    let now_on = loaded.1.policy_id.clone().unwrap_or_default();
    let changed = match changed_since(app, &replaces, &now_on).await {
        Err(Fault::Cloud(error)) if !transient(error.class) => Some(error.to_string()),
        changed => changed?,
    };
    if let Some(why) = changed {
        // What does harm now is not kept for that.
        if matches!(loaded.1.wish, Wish::Retreat { .. }) {
            return give_up(app, loaded, target, &format!("{text}: {why}")).await;
        }
        let why = back::reasons(&loaded.1).into_iter().chain([why]).collect();
        stop(app, loaded, State::Failed, why).await?;
        return Ok(false);
    }
    let event = system().did(now(), "rollout.restore", &loaded.1.body.id, &text);
    app.store.append(&event).await?;
    match app.cloud.attach_policy(&replaces.policy, target).await {
        Ok(_) => {}
        // It is gone, or its target is: there is nothing to wait for.
        Err(error) if error.class == ErrorClass::NotFound => {
            return give_up(app, loaded, target, &format!("{text}: {error}")).await;
        }
        Err(error) if !transient(error.class) && matches!(loaded.1.wish, Wish::Retreat { .. }) => {
            return give_up(app, loaded, target, &format!("{text}: {error}")).await;
        }
        Err(error) if !transient(error.class) => {
            let why = back::asks(&loaded.1, format!("{text}: {error}"));
            stop(app, loaded, State::Failed, why).await?;
            return Ok(false);
        }
        Err(error) => return Err(error.into()),
    }
    change(app, &system(), loaded, "rollout.restore-accepted", &text, |r| {
        r.restored(target, now());
        Ok(())
    })
    .await?;
    read_back(app, target, (&replaces.policy, true), seen).await?;
    Ok(true)
}

/// Notes that it is gone, or back.
pub(super) async fn mark(
    app: &App,
    loaded: Loaded,
    target: &NodeId,
    back: bool,
) -> Result<bool, Fault> {
    let action = if back { "rollout.restored" } else { "rollout.released" };
    note_old(app, loaded, target, action, |done| {
        let at = if back { &mut done.attached_at } else { &mut done.detached_at };
        *at = Some(now());
    })
    .await?;
    Ok(true)
}

/// It could not be attached again: said, and not waited for.
pub(super) async fn give_up(
    app: &App,
    loaded: Loaded,
    target: &NodeId,
    why: &str,
) -> Result<bool, Fault> {
    change(app, &system(), loaded, "rollout.not-restored", why, |r| {
        r.gives_up(target, now());
        r.why.push(format!("the earlier policy could not be attached again: {why}"));
        Ok(())
    })
    .await?;
    Ok(true)
}

/// Why the earlier policy may not be attached again: it says something else by now. One that is gone is AWS's to say.
async fn changed_since(app: &App, replaces: &Replaces, now: &str) -> Result<Option<String>, Fault> {
    let (_, old): Loaded = app.load(Kind::Rollout, &replaces.rollout).await?;
    Ok((says_still(app, replaces, &old).await? == Some(false)).then(|| {
        format!(
            "{} no longer says what was approved with {}: somebody changed it; change it back and abort again, or resume to keep this one; `ringfence-server emergency-detach --policy {now}` takes it off all the same",
            replaces.policy, replaces.rollout
        )
    }))
}

/// Whether the earlier policy says what was approved with its rollout; `None` where it is gone.
async fn says_still(app: &App, replaces: &Replaces, old: &Rollout) -> Result<Option<bool>, Fault> {
    match app.cloud.policy_content(&replaces.policy).await {
        Ok(content) => Ok(Some(same(&content, &old.body.content))),
        Err(error) if error.class == ErrorClass::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Refuses to go back to what is no earlier version of a rollout, or over one in between that cannot be attached for a moment:
/// there its targets would be bound by neither.
pub(super) async fn goes_back(app: &App, rollout: &Rollout, to: &str) -> Result<(), Fault> {
    let (mut from, mut known) = (rollout.clone(), Vec::new());
    loop {
        let id = from.body.id.clone();
        let Some(replaces) = from.body.replaces else {
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let id = &rollout.body.id;
            return Err(Fault::Invalid(format!(
                "to: {to} is no earlier version of {id}; they are: {known}"
            )));
        };
        let (_, old): Loaded = app.load(Kind::Rollout, &replaces.rollout).await?;
        if old.superseded_by.as_ref() != Some(&id) {
            return refused(
                "WRONG_STATE",
                format!("{id} has not taken the place of {}: abort it", replaces.rollout),
            );
        }
        if replaces.rollout == to {
            return Ok(());
        }
        if says_still(app, &replaces, &old).await? != Some(true) {
            return refused(
                "WRONG_STATE",
                format!(
                    "{}, the policy of {} in between, is gone or says something else by now: undo one version after the other",
                    replaces.policy, replaces.rollout
                ),
            );
        }
        known.push(replaces.rollout);
        from = old;
    }
}

/// The earlier rollout's row, once nothing of it is off any more because of this one: it stands again, or is undone in its
/// turn where a still earlier one is wanted.
async fn old_back(app: &App, rollout: &Rollout) -> Result<Option<Row>, Fault> {
    let Some(replaces) = &rollout.body.replaces else { return Ok(None) };
    let (row, mut old): Loaded = app.load(Kind::Rollout, &replaces.rollout).await?;
    if old.superseded_by.as_ref() != Some(&rollout.body.id) {
        return Ok(None);
    }
    (old.superseded_by, old.state) = (None, State::Complete);
    old.why.clear();
    if let Some(to) = rollout.undo_to.clone().filter(|to| *to != old.body.id) {
        old.why.push(format!("{to} is to stand again: {} was undone for it", rollout.body.id));
        (old.wish, old.state, old.undo_to) = (Wish::Abort, State::Aborting, Some(to));
        old.tries_again();
    }
    Ok(Some(row.with(old.state.as_str(), &old)))
}

/// Records what becomes of this rollout and, where it is `back`, that the earlier one stands again, in one transaction.
pub(super) async fn given_back(
    app: &App,
    (row, rollout): Loaded,
    (action, text): (&str, &str),
    back: bool,
) -> Result<(), Fault> {
    let id = rollout.body.id.clone();
    let mut rows = vec![row.with(rollout.state.as_str(), &rollout)];
    let mut events = vec![system().did(now(), action, &id, text)];
    if back && let Some(old) = old_back(app, &rollout).await? {
        let (action, text) = match old.state == State::Complete.as_str() {
            true => ("rollout.stands-again", format!("{id} is off")),
            false => ("rollout.undo", format!("{id} was undone for an earlier version than this")),
        };
        events.push(system().did(now(), action, &old.id, text));
        rows.push(old);
    }
    match app.store.update_all(&rows, &events.iter().collect::<Vec<_>>()).await? {
        true => Ok(()),
        false => Err(changed(&id)),
    }
}
