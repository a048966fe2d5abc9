//! What must be so before a target is attached to: nothing frozen, and evidence.

use super::verbs::approved;
use crate::app::{App, Fault, now, refused};
use crate::freezes;
use crate::org;
use crate::store::{Filter, Kind};
use crate::waivers;
use ringfence_domain::finding::{Finding, FindingState};
use ringfence_domain::hash;
use ringfence_domain::id::{AccountId, NodeId};
use ringfence_domain::ledger::Rule;
use ringfence_domain::org::OrgTree;
use ringfence_domain::rollout::{self, Rollout, Stage, too_many};
use std::collections::BTreeMap;

/// Why nothing of it may be attached at this hour.
pub(crate) fn closed(rollout: &Rollout) -> Option<String> {
    rollout.body.hours.as_ref()?.closed(now())
}

/// Refuses while a part of what the target binds is frozen: the rollout waits, and says so.
pub(super) async fn thawed(app: &App, target: &NodeId) -> Result<(), Fault> {
    match freezes::held_under(app, Some(target), None).await? {
        Some(why) => refused("FROZEN", why),
        None => Ok(()),
    }
}

/// Why the gate before a target is shut, from a fresh tree and the ledger; and the SHA-256 of what that was decided on.
pub(crate) async fn gate(app: &App, target: &NodeId) -> Result<(Vec<String>, String), Fault> {
    evidence(app, &*org::fresh_below(app, target).await?, target).await
}

/// The same, from this tree.
pub(super) async fn evidence(
    app: &App,
    tree: &OrgTree,
    target: &NodeId,
) -> Result<(Vec<String>, String), Fault> {
    let mut cells = BTreeMap::new();
    let mut findings: Vec<Finding> = Vec::new();
    for account in tree.accounts_under(target) {
        let found = app.store.cells(account.as_str(), ("", ""), 1_000).await?;
        cells.insert(account.clone(), found);
        let filter = Filter {
            account: account.as_str().to_owned(),
            state: FindingState::Open.as_str().into(),
            ..Filter::default()
        };
        findings.extend(app.all(Kind::Finding, &filter).await?.into_iter().map(|(_, f)| f));
    }
    let rule = Rule {
        max_age: app.config.evidence_max_age,
        accept_configured: app.config.accept_configured_regions,
    };
    let evidence = hash::of(&(&cells, &findings));
    Ok((rollout::gate(target, tree, &cells, &findings, rule, now()), evidence))
}

/// Why the stage of this target may not begin: fewer people approved than it wants, or a waiver has ended that the policy relies
/// on. What it wants of people counts until it has begun.
pub(super) async fn stage_shut(
    app: &App,
    rollout: &Rollout,
    target: &NodeId,
) -> Result<Vec<String>, Fault> {
    let body = &rollout.body;
    let mut shut = lapsed(app, rollout).await?;
    let stage = body.stages.iter().find(|s| s.targets.contains(target));
    let begun = |t: &NodeId| rollout.attachments.get(t).is_some_and(|a| a.intended_at.is_some());
    let waits = |s: &&Stage| s.approvals > 0 && !s.targets.iter().any(begun);
    if let Some(stage) = stage.filter(waits) {
        let needed = usize::try_from(stage.approvals).unwrap_or(usize::MAX);
        let who = (body.id.as_str(), body.author.as_str(), rollout.hash.as_str());
        match approved(app, who, &rollout.approvals, needed) {
            Err(Fault::Refused { message, .. }) => {
                shut.push(format!("stage {}: {message}, then resume", stage.name));
            }
            other => other?,
        }
    }
    Ok(shut)
}

/// Why the stage of this target may not grow: it binds more accounts by now than it may.
pub(super) async fn too_large(
    app: &App,
    rollout: &Rollout,
    target: &NodeId,
) -> Result<Option<String>, Fault> {
    let stage = rollout.body.stages.iter().position(|s| s.targets.contains(target));
    let own = stage.map_or(0, |n| rollout.body.stages[n].max_accounts);
    if own == 0 && app.config.accounts_per_stage == 0 {
        return Ok(None);
    }
    let tree = app.tree().await?;
    let mut found = too_many(&rollout.wanted(), &tree, super::limits(app));
    Ok(stage.and_then(|n| found.remove(&n)))
}

/// What is to be said of accounts that the policy leaves alone although their waivers have ended: until a version binds them.
pub(super) async fn lapsed(app: &App, rollout: &Rollout) -> Result<Vec<String>, Fault> {
    if rollout.body.waived.is_empty() {
        return Ok(Vec::new());
    }
    let active = waivers::active(app).await?;
    let over = rollout.body.waived.keys().filter(|a| !active.contains_key(*a));
    let line = |a: &AccountId| {
        format!(
            "{a} is left alone by the policy, and its waiver has ended: plan a version that binds it, or waive it again"
        )
    };
    Ok(over.map(line).collect())
}

/// Gates that are named when a rollout is planned.
const NAMED: usize = 5;

/// Which gates would be shut today: while approvals are not asked for yet.
pub(super) async fn shut_today<'a>(
    app: &App,
    tree: &OrgTree,
    targets: impl Iterator<Item = &'a NodeId>,
) -> Result<Vec<String>, Fault> {
    let (mut said, mut more) = (Vec::new(), 0);
    for target in targets {
        let (why, _) = evidence(app, tree, target).await?;
        match why.as_slice() {
            [] => {}
            _ if said.len() == NAMED => more += 1,
            [one] => said.push(format!("the gate before {target} is shut today: {one}")),
            [first, others @ ..] => said.push(format!(
                "the gate before {target} is shut today: {first}; and {} more reasons",
                others.len()
            )),
        }
    }
    if more > 0 {
        said.push(format!("the gates before {more} more targets are shut today"));
    }
    Ok(said)
}
