//! What other people do to a rollout, and when it must not go on by itself.

use super::work::{stop, system};
use super::{Loaded, bake, change, who};
use crate::app::{App, Fault, now};
use crate::org;
use ringfence_domain::cloud::ErrorClass;
use ringfence_domain::id::NodeId;
use ringfence_domain::rollout::{Rollout, State};
use ringfence_domain::time::Span;

/// What other people did to a rollout that is complete. A look that fails says nothing: the next one does.
pub(super) async fn guard(app: &App, loaded: Loaded) -> Result<bool, Fault> {
    let rollout = &loaded.1;
    let policy = rollout.policy_id.clone().unwrap_or_default();
    let seen = async {
        let edited = bake::edited(app, rollout).await?.is_some();
        Ok::<_, Fault>((app.cloud.targets_of(&policy).await?, edited))
    };
    match seen.await {
        Ok((on, edited)) => {
            let mut drift = rollout.drift(&on, edited);
            drift.extend(moved(app, rollout).await);
            if !drift.is_empty() {
                return fail_with(app, loaded, (drift, edited), |t| on.contains(t)).await;
            }
        }
        Err(Fault::Cloud(error)) if error.class == ErrorClass::NotFound => {
            stop(app, loaded, State::Failed, vec![format!("{policy} is gone ({error})")]).await?;
        }
        Err(fault) => tracing::warn!("{}: not looked at: {fault}", rollout.body.id),
    }
    Ok(false)
}

/// Accounts that were left to their OU and are not in it any more: nothing of this rollout binds them.
async fn moved(app: &App, rollout: &Rollout) -> Vec<String> {
    let Ok(tree) = app.tree().await else { return Vec::new() };
    let left = rollout.body.replaced_by.iter().filter(|(account, _)| rollout.is_replaced(account));
    let out = left.filter(|(account, ou)| !tree.ancestors(account).any(|node| node.id == **ou));
    out.map(|(account, ou)| {
        format!("{account} was left to {ou}, and is not in it any more: plan a rollout for where it is, or move it back and resume")
    })
    .collect()
}

/// A person must look; what it should be attached to and is not is noted.
pub(super) async fn fail_with(
    app: &App,
    loaded: Loaded,
    (why, edited): (Vec<String>, bool),
    on: impl Fn(&NodeId) -> bool,
) -> Result<bool, Fault> {
    let mut why = why;
    let mut seen = loaded.1.clone();
    seen.note_lost(&on, now());
    why.extend(who::did_it(app, &seen, edited).await);
    change(app, &system(), loaded, "rollout.failed", &why.join("; "), |r| {
        r.note_lost(on, now());
        (r.state, r.why) = (State::Failed, why.clone());
        Ok(())
    })
    .await?;
    Ok(false)
}

/// Why an account may not be left to its OU, by a look right now: it was moved, or the policy is off there.
pub(super) async fn unbound(
    app: &App,
    rollout: &Rollout,
    target: &NodeId,
) -> Result<Option<String>, Fault> {
    let Some(ou) = rollout.body.replaced_by.get(target) else {
        return Ok(Some("no OU of this rollout takes its place".to_owned()));
    };
    let tree = org::fresh(app, Span(0)).await?;
    if !tree.ancestors(target).any(|node| node.id == *ou) {
        return Ok(Some(format!(
            "it is not in {ou} any more, which was to take its place; move it back and resume, or abort"
        )));
    }
    let policy = rollout.policy_id.clone().unwrap_or_default();
    let there = app.cloud.attached(ou).await?.is_some_and(|set| set.contains(&policy));
    Ok((!there).then(|| format!("{policy} does not show on {ou}")))
}
