//! The earlier version that a rollout takes the place of: detached where the new one binds, and given back.

use super::guard::unbound;
use super::positions::Positions;
use super::work::{note_old, read_back, stop, system, thawed};
use super::{Loaded, change, transient};
use crate::app::{App, Fault, changed, now, refused};
use crate::store::Kind;
use ringfence_domain::id::NodeId;
use ringfence_domain::org::OrgTree;
use ringfence_domain::rollout::{Replaces, Rollout, Stage, State, replaced_by, replaces};

/// What a rollout with these stages and this policy takes the place of, and where the earlier policy stays.
pub(super) async fn wanted(
    app: &App,
    old: &str,
    (content, stages): (&str, &[Stage]),
    tree: &OrgTree,
) -> Result<(Replaces, Vec<String>), Fault> {
    let (_, old): Loaded = app.load(Kind::Rollout, old).await?;
    if old.body.content == content {
        let id = &old.body.id;
        return Err(Fault::Invalid(format!("replaces: {id} has the same policy already")));
    }
    let on = app.cloud.targets_of(old.policy_id.as_deref().unwrap_or_default()).await?;
    let left = replaced_by(stages, tree);
    let (found, stays) = replaces(&old, stages, (tree, &left), &on).map_err(Fault::Invalid)?;
    let said = stays.iter().map(|target| {
        format!(
            "{} of {} stays attached to {target}, which no target of this rollout binds",
            found.policy, old.body.id
        )
    });
    let said = said.collect();
    Ok((found, said))
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
    thawed(app, target).await?;
    if let Some(why) = unbound(app, &loaded.1, (target, by), app.config.org_max_age).await? {
        let why = vec![format!("{target} keeps {}: {why}", replaces.policy)];
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

/// Attaches the earlier policy again. What AWS refuses for good does not keep the new one where it is.
pub(super) async fn restore(
    app: &App,
    loaded: Loaded,
    target: &NodeId,
    seen: &mut Positions,
) -> Result<bool, Fault> {
    let Some(replaces) = loaded.1.body.replaces.clone() else { return Ok(false) };
    let text = format!("{} to {target}", replaces.policy);
    let loaded = change(app, &system(), loaded, "rollout.restore", &text, |r| {
        r.restores(target);
        Ok(())
    })
    .await?;
    match app.cloud.attach_policy(&replaces.policy, target).await {
        Ok(_) => {}
        Err(error) if transient(error.class) => return Err(error.into()),
        Err(error) => {
            return give_up(app, loaded, target, &format!("{text}: {error}")).await;
        }
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

/// All is taken back: the earlier rollout stands again.
pub(super) async fn given_back(
    app: &App,
    (row, mut rollout): Loaded,
    why: Vec<String>,
) -> Result<(), Fault> {
    let id = rollout.body.id.clone();
    let text = if why.is_empty() { "aborted".to_owned() } else { why.join("; ") };
    (rollout.state, rollout.why) = (State::Aborted, why);
    let mut rows = vec![row.with(rollout.state.as_str(), &rollout)];
    if let Some(replaces) = &rollout.body.replaces {
        let (old_row, mut old): (_, Rollout) = app.load(Kind::Rollout, &replaces.rollout).await?;
        if old.superseded_by.as_ref() == Some(&id) {
            (old.superseded_by, old.state, old.bound) = (None, State::Complete, None);
            old.why.clear();
            rows.push(old_row.with(old.state.as_str(), &old));
        }
    }
    let event = system().did(now(), "rollout.aborted", &id, text);
    match app.store.update(&rows, &event).await? {
        true => Ok(()),
        false => Err(changed(&id)),
    }
}
