//! What other people do to a rollout, and when it must not go on by itself.

use super::work::{gate, stop, system};
use super::{Loaded, bake, change, who};
use crate::app::{App, Fault, now};
use crate::org;
use ringfence_domain::cloud::ErrorClass;
use ringfence_domain::id::{AccountId, NodeId};
use ringfence_domain::org::OrgTree;
use ringfence_domain::rollout::{Moves, OnDrift, Rollout, State, bound, moves};
use ringfence_domain::time::Span;
use std::collections::BTreeSet;

/// New accounts whose evidence is looked at in one look.
const CAME_MAX: usize = 50;

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
            let drift = rollout.drift(&on, edited);
            if !drift.is_empty() {
                return fail_with(app, loaded, (drift, edited), |t| on.contains(t)).await;
            }
            members(app, loaded, &on).await
        }
        Err(Fault::Cloud(error)) if error.class == ErrorClass::NotFound => {
            stop(app, loaded, State::Failed, vec![format!("{policy} is gone ({error})")]).await?;
            Ok(false)
        }
        Err(fault) => {
            tracing::warn!("{}: not looked at: {fault}", rollout.body.id);
            Ok(false)
        }
    }
}

/// Accounts that came under what is attached, or went from it, as the organization was last read.
async fn members(app: &App, loaded: Loaded, on: &BTreeSet<NodeId>) -> Result<bool, Fault> {
    let rollout = &loaded.1;
    let Ok(tree) = app.tree().await else { return Ok(false) };
    let binds = bound(&tree, rollout.body.targets().filter(|t| on.contains(t)));
    let Some(then) = &rollout.bound else {
        let text = format!("{} accounts", binds.len());
        change(app, &system(), loaded, "rollout.bound", &text, |r| {
            r.bound = Some(binds);
            Ok(())
        })
        .await?;
        return Ok(false);
    };
    let found = moves(&tree, then, &binds);
    if found == Moves::default() {
        return kept(app, loaded, binds.clone(), Vec::new()).await;
    }
    let moved: Vec<AccountId> = found.came.union(&found.went).cloned().collect();
    let by = who::moved(app, &moved, rollout).await;
    let mut why = Vec::new();
    if app.config.on_drift != OnDrift::Adopt {
        why = found.went.iter().map(|a| went(&tree, a)).collect();
    }
    if !why.is_empty() {
        why.extend(by);
        why.push("resume accepts that; to bind them, move them back or plan a rollout for where they are".into());
        stop(app, loaded, State::Failed, why).await?;
        return Ok(false);
    }
    // One that came is bound at once; what it has is evidence of nothing until it was scanned.
    let mut known: BTreeSet<AccountId> = binds.difference(&found.came).cloned().collect();
    for (n, account) in found.came.iter().enumerate() {
        let (shut, _) = match n < CAME_MAX {
            true => gate(app, &account.into()).await?,
            false => (vec!["not looked at yet".to_owned()], String::new()),
        };
        match shut.first() {
            None => drop(known.insert(account.clone())),
            Some(first) => why.push(came(&tree, account, first, shut.len() - 1)),
        }
    }
    if !why.is_empty() {
        why.extend(by);
    }
    kept(app, loaded, known, why).await
}

/// Notes which accounts are known, and what is to be said of the others; once for each news.
async fn kept(
    app: &App,
    loaded: Loaded,
    known: BTreeSet<AccountId>,
    why: Vec<String>,
) -> Result<bool, Fault> {
    if loaded.1.bound.as_ref() == Some(&known) && loaded.1.why == why {
        return Ok(false);
    }
    let text = match why.is_empty() {
        true => format!("{} accounts", known.len()),
        false => why.join("; "),
    };
    change(app, &system(), loaded, "rollout.bound", &text, |r| {
        (r.bound, r.why) = (Some(known), why);
        Ok(())
    })
    .await?;
    Ok(false)
}

fn went(tree: &OrgTree, account: &AccountId) -> String {
    format!("{account} is not bound any more: it is at {} now", tree.path(&account.into()))
}

fn came(tree: &OrgTree, account: &AccountId, first: &str, more: usize) -> String {
    let more = if more == 0 { String::new() } else { format!(", and {more} more") };
    format!(
        "{account} has come to {} and is bound; its evidence does not hold: {first}{more}",
        tree.path(&account.into())
    )
}

/// What it should be attached to and is not is noted; then it goes on as `rollout.on_drift` says, or a person must look.
pub(super) async fn fail_with(
    app: &App,
    loaded: Loaded,
    (mut why, edited): (Vec<String>, bool),
    on: impl Fn(&NodeId) -> bool,
) -> Result<bool, Fault> {
    let mut after = loaded.1.clone();
    after.note_lost(&on, now());
    why.extend(who::did_it(app, &after, edited).await);
    let text = why.join("; ");
    after.drifted(app.config.on_drift, edited, why, now());
    let (action, goes_on) = match after.state {
        State::Failed => ("rollout.failed", false),
        State::Running => ("rollout.reattach", true),
        _ => ("rollout.adopt", false),
    };
    change(app, &system(), loaded, action, &text, |r| {
        *r = after;
        Ok(())
    })
    .await?;
    Ok(goes_on)
}

/// Why a target may not be left to another one (or to the new policy on itself), by a look right now, at a tree no older
/// than that: it was moved, or the policy is off there.
pub(super) async fn unbound(
    app: &App,
    rollout: &Rollout,
    (target, by): (&NodeId, &NodeId),
    max_age: Span,
) -> Result<Option<String>, Fault> {
    if target != by && !org::fresh(app, max_age).await?.ancestors(target).any(|node| node.id == *by)
    {
        return Ok(Some(format!(
            "it is not in {by} any more, which was to take its place; move it back and resume, or abort"
        )));
    }
    let policy = rollout.policy_id.clone().unwrap_or_default();
    let there = app.cloud.attached(by).await?.is_some_and(|set| set.contains(&policy));
    Ok((!there).then(|| format!("{policy} does not show on {by}")))
}
