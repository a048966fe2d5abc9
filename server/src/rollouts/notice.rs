//! What is attached while a rollout waits for a person: harm that it does is taken back, what other people did is said.

use super::guard::{came, gone, position};
use super::work::system;
use super::{Loaded, bake, change, who};
use crate::app::{App, Fault, now};
use crate::store::Kind;
use ringfence_domain::cloud::ErrorClass;
use ringfence_domain::id::NodeId;
use ringfence_domain::rollout::{Rollout, State, Wish};
use ringfence_domain::time::Span;
use std::collections::BTreeSet;

/// Begins the lines that say what was seen meanwhile.
const MEANWHILE: &str = "meanwhile: ";

/// Whether it waits for a person, with anything attached that does harm or that somebody could change.
pub(super) fn wanted(rollout: &Rollout) -> bool {
    matches!(rollout.state, State::Paused | State::Blocked | State::Failed)
        && matches!(rollout.wish, Wish::Run | Wish::Pause)
        && rollout.body.targets().any(|t| rollout.holds(t))
}

/// How often that is looked at: while a stage bakes, as often as for its health.
pub(super) fn every(app: &App, rollout: &Rollout) -> Span {
    let health = bake::moment(app).observe_every.filter(|_| rollout.baking().is_some());
    health.unwrap_or(app.config.guard_every).min(app.config.guard_every)
}

/// Looks. True while somebody is being asked, and no answer is there yet.
pub(super) async fn look(app: &App, id: &str) -> bool {
    let _turn = app.writes.lock().await;
    match notice(app, id).await {
        Ok(asks) => asks,
        // Its reasons stay; the next look tries again.
        Err(fault) => {
            tracing::warn!("{id}: not looked at: {fault}");
            false
        }
    }
}

async fn notice(app: &App, id: &str) -> Result<bool, Fault> {
    let loaded: Loaded = app.load(Kind::Rollout, id).await?;
    let rollout = &loaded.1;
    if !wanted(rollout) {
        return Ok(false);
    }
    let mut asks = false;
    if let Some((n, ..)) = rollout.baking()
        && bake::moment(app).observe_every.is_some()
    {
        match bake::harm(app, rollout, n, every(app, rollout)).await? {
            Some(Some(harm)) => {
                bake::take_back(app, loaded, n, harm).await?;
                return Ok(false);
            }
            Some(None) => {}
            None => asks = true,
        }
    }
    let mut said = done(app, rollout).await?;
    said.retain(|line| !rollout.why.contains(line));
    said.iter_mut().for_each(|line| line.insert_str(0, MEANWHILE));
    let known = rollout.why.iter().filter(|line| line.starts_with(MEANWHILE));
    if !known.eq(&said) {
        change(app, &system(), loaded, "rollout.noticed", &said.join("; "), |r| {
            r.why.retain(|line| !line.starts_with(MEANWHILE));
            r.why.extend(said.clone());
            Ok(())
        })
        .await?;
    }
    Ok(asks)
}

/// What other people did to what is attached, one line each, and who did it.
async fn done(app: &App, rollout: &Rollout) -> Result<Vec<String>, Fault> {
    let (mut said, on, edited) = match position(app, rollout).await {
        Ok((on, edited)) => (rollout.drift(&on, edited), on, edited),
        Err(Fault::Cloud(error)) if error.class == ErrorClass::NotFound => {
            let policy = rollout.policy_id.clone().unwrap_or_default();
            (vec![gone(&policy)], BTreeSet::<NodeId>::new(), true)
        }
        Err(fault) => return Err(fault),
    };
    let drifted = !said.is_empty();
    if let Ok(tree) = app.tree().await {
        said.extend(came(app, &tree, &rollout.moves(&tree, &on).came).await?.0);
    }
    if drifted {
        let mut after = rollout.clone();
        after.note_lost(|t| on.contains(t), now());
        said.extend(who::did_it(app, &after, edited).await);
    }
    Ok(said)
}
