//! What other people do to a rollout, and when it must not go on by itself.

use super::gates::{evidence, lapsed};
use super::work::system;
use super::{Loaded, bake, change, who};
use crate::app::{App, Fault, changed, now, rest};
use crate::store::{Filter, Kind, Row};
use crate::{org, staging};
use ringfence_domain::cloud::ErrorClass;
use ringfence_domain::id::{AccountId, NodeId};
use ringfence_domain::org::{Node, NodeKind, OrgTree};
use ringfence_domain::rollout::{Moves, OnDrift, Rollout, State};
use ringfence_domain::time::Span;
use std::collections::BTreeSet;

/// New accounts whose evidence is looked at in one look; those whose evidence holds are known from then on.
const CAME_MAX: usize = 1_000;

/// Targets that are looked at one by one.
const LOOKED_MAX: usize = 20;

/// Reads the organization anew where a rollout has something attached and does not move, for ever: who comes and goes is found
/// by that. Apart from the steps, which nobody should have to wait for.
pub async fn keep_fresh(app: App) {
    loop {
        rest(LOOK_MS).await;
        if let Err(fault) = read_anew(&app).await {
            tracing::warn!("the organization for the guard: {fault}");
            rest(10 * LOOK_MS).await;
        }
    }
}

async fn read_anew(app: &App) -> Result<(), Fault> {
    let every = app.config.guard_every;
    let Ok(tree) = app.tree().await else { return Ok(()) };
    if now().since(tree.as_of) <= every {
        return Ok(());
    }
    let mut any = false;
    for state in [State::Complete, State::Baking, State::Paused, State::Blocked, State::Failed] {
        let filter = Filter { state: state.as_str().into(), ..Filter::default() };
        any |= !app.store.list(Kind::Rollout, &filter, "", 1).await?.is_empty();
    }
    if !any || !app.store.hold(READS, &app.owner, app.config.lease_for).await? {
        return Ok(());
    }
    tokio::select! {
        read = org::fresh(app, every) => read.map(drop),
        () = app.keep(READS, app.config.lease_for) => Ok(()),
    }
}

/// One server reads it.
const READS: &str = "organization-reads";

const LOOK_MS: u64 = 1_000;

/// What other people did to a rollout that is complete. A look that fails says nothing: the next one does.
pub(super) async fn guard(app: &App, loaded: Loaded) -> Result<bool, Fault> {
    let rollout = &loaded.1;
    let policy = rollout.policy_id.clone().unwrap_or_default();
    match position(app, rollout).await {
        Ok((on, edited)) => {
            let drift = rollout.drift(&on, edited);
            if !drift.is_empty() {
                return fail_with(app, loaded, (drift, edited), |t| on.contains(t)).await;
            }
            members(app, loaded, &on).await
        }
        Err(Fault::Cloud(error)) if error.class == ErrorClass::NotFound => {
            tracing::warn!("{}: {error}", rollout.body.id);
            let gone = format!("{}; abort, then plan anew", gone(&policy));
            fail_with(app, loaded, (vec![gone], true), |_| false).await
        }
        Err(fault) => {
            tracing::warn!("{}: not looked at: {fault}", rollout.body.id);
            Ok(false)
        }
    }
}

/// What is to be said of a policy that is not there.
pub(super) fn gone(policy: &str) -> String {
    format!("{policy} is gone, so it is attached to nothing: somebody deleted it")
}

/// Where the policy is, and whether it says something else by now.
pub(super) async fn position(
    app: &App,
    rollout: &Rollout,
) -> Result<(BTreeSet<NodeId>, bool), Fault> {
    let policy = rollout.policy_id.clone().unwrap_or_default();
    let edited = bake::edited(app, rollout).await?.is_some();
    let mut on = app.cloud.targets_of(&policy).await?;
    // A list may lag behind: what it lacks is looked at itself.
    let missing = rollout.drift(&on, false).len();
    if missing > 0 && missing <= LOOKED_MAX {
        look_again(app, rollout, &policy, &mut on).await?;
    }
    Ok((on, edited))
}

/// Adds the targets that have it after all.
async fn look_again(
    app: &App,
    rollout: &Rollout,
    policy: &str,
    on: &mut BTreeSet<NodeId>,
) -> Result<(), Fault> {
    let missing: Vec<NodeId> =
        rollout.body.targets().filter(|t| !on.contains(*t)).cloned().collect();
    for target in missing {
        if rollout.holds(&target)
            && app.cloud.attached(&target).await?.is_some_and(|set| set.contains(policy))
        {
            on.insert(target);
        }
    }
    Ok(())
}

/// Accounts that came under what is attached, or went from it, as the organization was last read.
async fn members(app: &App, loaded: Loaded, on: &BTreeSet<NodeId>) -> Result<bool, Fault> {
    let rollout = &loaded.1;
    let Ok(tree) = app.tree().await else { return Ok(false) };
    let mut fresh = new_ous(app, &tree, rollout).await;
    fresh.extend(lapsed(app, rollout).await?);
    let ous: BTreeSet<NodeId> = ous(&tree).map(|ou| ou.id.clone()).collect();
    let mut found = rollout.moves(&tree, on);
    // One that visits a staging OU comes back.
    let visiting = staging::away(app).await?;
    found.went.retain(|account| !visiting.contains(account));
    let known = rollout.bound.clone().unwrap_or_default();
    if found == Moves::default() {
        return kept(app, loaded, (known, ous), fresh).await;
    }
    let moved: Vec<AccountId> = found.came.union(&found.went).cloned().collect();
    let by = who::moved(app, &moved, rollout).await;
    let (shut, proven) = came(app, &tree, &found.came).await?;
    let known = known.into_iter().filter(|a| !found.went.contains(a)).chain(proven).collect();
    let adopts = app.config.on_drift == OnDrift::Adopt;
    let mut why: Vec<String> = match adopts {
        true => Vec::new(),
        false => found.went.iter().map(|a| went(&tree, a)).collect(),
    };
    let fails = !why.is_empty();
    why.extend(shut);
    if !why.is_empty() {
        why.extend(by);
    }
    why.extend(fresh);
    if !fails {
        return kept(app, loaded, (known, ous), why).await;
    }
    why.push(
        "resume accepts that; to bind them, move them back or plan a rollout for where they are"
            .into(),
    );
    change(app, &system(), loaded, "rollout.failed", &why.join("; "), |r| {
        (r.state, r.bound, r.ous) = (State::Failed, Some(known), Some(ous));
        r.why.clone_from(&why);
        Ok(())
    })
    .await?;
    Ok(false)
}

fn ous(tree: &OrgTree) -> impl Iterator<Item = &Node> {
    tree.nodes().filter(|n| matches!(n.kind, NodeKind::Ou))
}

/// What is to be said of OUs that were made since the last look: once.
async fn new_ous(app: &App, tree: &OrgTree, rollout: &Rollout) -> Vec<String> {
    let Some(known) = &rollout.ous else { return Vec::new() };
    let new: Vec<&Node> = ous(tree).filter(|ou| !known.contains(&ou.id)).collect();
    if new.is_empty() {
        return Vec::new();
    }
    let under = |ou: &Node| tree.ancestors(&ou.id).any(|n| rollout.holds(&n.id));
    let line = |ou: &&Node| {
        let bound = match under(ou) {
            true => "what is in it is bound",
            false => "nothing of this rollout binds what is in it",
        };
        format!("{} is new, at {}: {bound}", ou.id, tree.path(&ou.id))
    };
    let mut said: Vec<String> = new.iter().map(line).collect();
    said.extend(who::made(app, &new, rollout).await);
    said
}

/// Accounts that have come to what is attached already, and whose evidence does not hold: nothing is attached to a further
/// target before it does. And those whose does.
pub(super) async fn came_before(
    app: &App,
    (row, rollout): &Loaded,
    target: &NodeId,
) -> Result<(Vec<String>, Vec<AccountId>), Fault> {
    let begun = |t: &NodeId| rollout.attachments.get(t).is_some_and(|a| a.intended_at.is_some());
    let stage = rollout.body.stages.iter().find(|s| s.targets.contains(target));
    let on: BTreeSet<NodeId> =
        rollout.body.targets().filter(|t| rollout.holds(t)).cloned().collect();
    // Once for each stage the organization is read; for its other targets it is as it was then.
    let tree = match stage.is_some_and(|s| s.targets.iter().any(begun)) || on.is_empty() {
        true => app.tree().await?,
        // Of a large one that takes minutes, and a person's word must not wait for it.
        false => tokio::select! {
            read = org::fresh(app, app.config.org_max_age) => read?,
            () = changes(app, row) => return Err(changed(&row.id)),
        },
    };
    let moves = rollout.moves(&tree, &on);
    let (mut said, proven) = came(app, &tree, &moves.came).await?;
    if !said.is_empty() {
        let all: Vec<AccountId> = moves.came.into_iter().collect();
        said.extend(who::moved(app, &all, rollout).await);
    }
    Ok((said, proven))
}

/// Ends when somebody changes this document.
async fn changes(app: &App, row: &Row) {
    loop {
        rest(LOOK_MS).await;
        match app.store.get(row.kind, &row.id).await {
            Ok(Some(now)) if now.version == row.version => {}
            Ok(_) => return,
            // What cannot be read now is read later.
            Err(error) => tracing::debug!("{}: {error}", row.id),
        }
    }
}

/// Of accounts that came: what is to be said of those whose evidence does not hold, and those whose does.
pub(super) async fn came(
    app: &App,
    tree: &OrgTree,
    accounts: &BTreeSet<AccountId>,
) -> Result<(Vec<String>, Vec<AccountId>), Fault> {
    let (mut said, mut proven) = (Vec::new(), Vec::new());
    // One that came is bound at once; what it has is evidence of nothing until it was scanned.
    for (n, account) in accounts.iter().enumerate() {
        let (shut, _) = match n < CAME_MAX {
            true => evidence(app, tree, &account.into()).await?,
            false => (vec!["not looked at yet: resume goes on".to_owned()], String::new()),
        };
        match shut.first() {
            None => proven.push(account.clone()),
            Some(first) => said.push(unproven(tree, account, first, shut.len() - 1)),
        }
    }
    Ok((said, proven))
}

/// Notes which accounts are known, and what is to be said of the others; once for each news.
async fn kept(
    app: &App,
    loaded: Loaded,
    (known, ous): (BTreeSet<AccountId>, BTreeSet<NodeId>),
    why: Vec<String>,
) -> Result<bool, Fault> {
    let r = &loaded.1;
    if (r.bound.as_ref(), r.ous.as_ref()) == (Some(&known), Some(&ous)) && r.why == why {
        return Ok(false);
    }
    let text = match why.is_empty() {
        true => format!("{} accounts", known.len()),
        false => why.join("; "),
    };
    change(app, &system(), loaded, "rollout.bound", &text, |r| {
        (r.bound, r.ous, r.why) = (Some(known), Some(ous), why);
        Ok(())
    })
    .await?;
    Ok(false)
}

fn went(tree: &OrgTree, account: &AccountId) -> String {
    format!("{account} is not bound any more: it is at {} now", tree.path(&account.into()))
}

fn unproven(tree: &OrgTree, account: &AccountId, first: &str, more: usize) -> String {
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
    tracing::warn!("{}: {action}: {text}", after.body.id);
    change(app, &system(), loaded, action, &text, |r| {
        *r = after;
        Ok(())
    })
    .await?;
    Ok(goes_on)
}

/// Why a target may not be left to another one (or to the new policy on itself), by a look right now: it was moved, or the
/// policy is off there. An OU cannot be moved, so where an account is says where it is under.
pub(super) async fn unbound(
    app: &App,
    rollout: &Rollout,
    (target, by): (&NodeId, &NodeId),
) -> Result<Option<String>, Fault> {
    if target != by && !is_under(app, target, by).await? {
        return Ok(Some(format!(
            "it is not in {by} any more, which was to take its place; move it back and resume, or abort"
        )));
    }
    let policy = rollout.policy_id.clone().unwrap_or_default();
    let there = app.cloud.attached(by).await?.is_some_and(|set| set.contains(&policy));
    Ok((!there).then(|| format!("{policy} does not show on {by}")))
}

async fn is_under(app: &App, target: &NodeId, by: &NodeId) -> Result<bool, Fault> {
    let first = match target.account() {
        Some(account) => match app.cloud.parent_of(&account).await? {
            Some(parent) => parent,
            None => return Ok(false),
        },
        None => target.clone(),
    };
    let mut tree = app.tree().await?;
    if tree.get(&first).is_none() {
        // An OU that was made since the organization was read.
        tree = org::fresh(app, Span(0)).await?;
    }
    Ok(first == *by || tree.ancestors(&first).any(|node| node.id == *by))
}
