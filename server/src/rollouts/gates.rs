//! What must be so before a target is attached to: nothing frozen, and evidence.

use super::verbs::approved;
use crate::app::{App, Fault, now, refused};
use crate::freezes;
use crate::org;
use crate::store::{Filter, Kind};
use ringfence_domain::finding::{Finding, FindingState};
use ringfence_domain::hash;
use ringfence_domain::id::NodeId;
use ringfence_domain::ledger::Rule;
use ringfence_domain::org::OrgTree;
use ringfence_domain::rollout::{self, Rollout, too_many};
use std::collections::BTreeMap;

/// Refuses outside of the rollout's hours, and while a part of what the target binds is frozen: the rollout waits, and says so.
pub(super) async fn may_write(app: &App, rollout: &Rollout, target: &NodeId) -> Result<(), Fault> {
    match closed(rollout) {
        Some(why) => refused("OUTSIDE_WINDOW", why),
        None => thawed(app, target).await,
    }
}

/// Why nothing of it may be attached at this hour.
pub(super) fn closed(rollout: &Rollout) -> Option<String> {
    rollout.body.hours.as_ref()?.closed(now())
}

/// Refuses while a part of what the target binds is frozen.
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
async fn evidence(
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

/// Why the stage of this target may not begin, or grow: it binds more accounts by now than it may, or fewer people approved
/// than it wants. Approvals of a stage that has begun count on.
pub(super) async fn stage_shut(
    app: &App,
    rollout: &Rollout,
    target: &NodeId,
) -> Result<Vec<String>, Fault> {
    let body = &rollout.body;
    let Some(n) = body.stages.iter().position(|s| s.targets.contains(target)) else {
        return Ok(Vec::new());
    };
    let stage = &body.stages[n];
    let tree = app.tree().await?;
    let mut shut = Vec::new();
    shut.extend(too_many(&rollout.wanted(), &tree, super::limits(app)).remove(&n));
    let begun = |t| rollout.attachments.get(t).is_some_and(|a| a.intended_at.is_some());
    let needed = usize::try_from(stage.approvals).unwrap_or(usize::MAX);
    if needed > app.config.approvals_rollout && !stage.targets.iter().any(begun) {
        let who = (body.id.as_str(), body.author.as_str(), rollout.hash.as_str());
        match approved(app, who, &rollout.approvals, needed) {
            Err(Fault::Refused { message, .. }) => {
                shut.push(format!("stage {}: {message}", stage.name));
            }
            other => other?,
        }
    }
    Ok(shut)
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
