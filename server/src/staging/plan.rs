//! What a visit to a staging OU would change, before anybody moves.

use crate::app::{App, Fault, now, refused};
use crate::org;
use crate::rollouts::{tools, transient};
use crate::store::{Filter, Kind, Row};
use ringfence_domain::audit::Actor;
use ringfence_domain::id::{AccountId, NodeId, Region};
use ringfence_domain::ledger::CellState;
use ringfence_domain::org::{AccountState, NodeKind, OrgTree};
use ringfence_domain::rollout::{self, Rollout};
use ringfence_domain::staging::{Body, Difference, StackSet, Staging, Visitor, stacks};
use ringfence_domain::time::Span;
use std::collections::{BTreeMap, BTreeSet};

/// What a person wants.
pub struct Wanted {
    /// The staging OU.
    pub ou: NodeId,
    /// The accounts, in order.
    pub accounts: Vec<AccountId>,
    /// How many are there at a time.
    pub batch: usize,
    /// For how long.
    pub stay: Span,
    /// Whether AWS Control Tower may be at work.
    pub allow_control_tower: bool,
}

/// Accounts in one plan at most: what goes wrong with a few is found with a few.
const ACCOUNTS_MAX: usize = 200;

/// Plans it; stores it unless `dry`. The same id twice is the same one. The second part are warnings.
pub async fn plan(
    app: &App,
    actor: &Actor,
    id: &str,
    wanted: Wanted,
    dry: bool,
) -> Result<(Staging, Vec<String>), Fault> {
    if app.store.get(Kind::Staging, id).await?.is_some() {
        return Ok((app.load(Kind::Staging, id).await?.1, Vec::new()));
    }
    // AWS lets no other account move accounts (API reference, MoveAccount).
    let (caller, organization) = (app.cloud.caller().await?, app.cloud.organization().await?);
    if caller.account.as_str() != organization.management_account {
        return refused(
            "NOT_MANAGEMENT",
            format!(
                "accounts can be moved from the management account ({}) only; this server's credentials are of {}",
                organization.management_account, caller.account
            ),
        );
    }
    let tree = org::fresh(app, Span(0)).await?;
    let visitors = visitors(&tree, &wanted)?;
    for other in super::open(app).await? {
        let both = |v: &&Visitor| other.body.visitors.iter().any(|o| o.account == v.account);
        if let Some(visitor) = visitors.iter().find(both) {
            return refused(
                "WRONG_STATE",
                format!(
                    "{} is on its way in {}: let that end first",
                    visitor.account, other.body.id
                ),
            );
        }
    }
    let mut warnings = warnings(app, &tree, &visitors, &wanted).await?;
    let (sets, unread) = stack_sets(app).await?;
    warnings.extend(unread);
    let mut differences = BTreeMap::new();
    for origin in visitors.iter().map(|v| &v.origin).collect::<BTreeSet<_>>() {
        differences.insert(origin.clone(), between(app, &tree, &sets, (origin, &wanted.ou)).await?);
    }
    let at = now();
    let staging = Staging::new(Body {
        id: id.to_owned(),
        author: actor.name.clone(),
        created_at: at,
        ou: wanted.ou,
        visitors,
        batch: wanted.batch,
        stay: wanted.stay,
        differences,
    });
    if !dry {
        let text =
            format!("{} to {}, hash {}", wanted.accounts.len(), staging.body.ou, staging.hash);
        let event = actor.did(at, "staging.plan", id, text);
        let row = Row::new(Kind::Staging, id, staging.state.as_str(), at, &staging);
        if !app.store.update(&[row], &event).await? {
            return Ok((app.load(Kind::Staging, id).await?.1, warnings));
        }
    }
    Ok((staging, warnings))
}

/// The accounts with where they are at home; or what is wrong with one.
fn visitors(tree: &OrgTree, wanted: &Wanted) -> Result<Vec<Visitor>, Fault> {
    let invalid = |text: String| Err(Fault::Invalid(text));
    let ou = &wanted.ou;
    match tree.get(ou).map(|n| &n.kind) {
        Some(NodeKind::Ou) => {}
        Some(_) => return invalid(format!("ou: {ou} is no OU")),
        None => return Err(Fault::NotFound(format!("ou: {ou} is not in the organization"))),
    }
    if wanted.accounts.is_empty() || wanted.accounts.len() > ACCOUNTS_MAX {
        return invalid(format!("accounts: name 1 to {ACCOUNTS_MAX}"));
    }
    let mut visitors: Vec<Visitor> = Vec::new();
    for account in &wanted.accounts {
        let Some(node) = tree.get(&account.into()) else {
            return Err(Fault::NotFound(format!("accounts: {account} is not in the organization")));
        };
        let (NodeKind::Account { state, management }, Some(origin)) = (&node.kind, &node.parent)
        else {
            return invalid(format!("accounts: {account} is no account"));
        };
        if *management {
            return invalid(format!(
                "accounts: {account} is the management account, which no SCP binds"
            ));
        }
        if *state != AccountState::Active {
            return invalid(format!("accounts: {account} is {}", state.as_str()));
        }
        if origin == ou {
            return invalid(format!("accounts: {account} is in {ou} already"));
        }
        if visitors.iter().any(|v| v.account == *account) {
            return invalid(format!("accounts: {account} is named twice"));
        }
        visitors.push(Visitor { account: account.clone(), origin: origin.clone() });
    }
    Ok(visitors)
}

/// Other tools that count a move as something else. AWS Control Tower refuses the plan, unless told.
async fn warnings(
    app: &App,
    tree: &OrgTree,
    visitors: &[Visitor],
    wanted: &Wanted,
) -> Result<Vec<String>, Fault> {
    let origins = visitors.iter().map(|v| &v.origin).chain([&wanted.ou]);
    let chain: BTreeSet<NodeId> = origins.flat_map(|o| above(tree, o)).collect();
    let mut attached = BTreeMap::new();
    for node in chain {
        attached.insert(node.clone(), app.cloud.attached(&node).await?);
    }
    let (tools, mut said) = tools::found(app, &attached).await;
    if let Some((tool, line)) = tools.iter().find(|(tool, _)| *tool == tools::CONTROL_TOWER)
        && !wanted.allow_control_tower
    {
        return refused(
            "CONTROL_TOWER",
            format!(
                "{line}. {} counts a moved account as drift, and may enroll it anew; with --allow-control-tower it is moved all the same",
                tool.name
            ),
        );
    }
    // That nobody could look is not that it is not there.
    if let Some(why) = said.first().filter(|_| !wanted.allow_control_tower) {
        return refused(
            "CONTROL_TOWER",
            format!(
                "whether AWS Control Tower is at work is not known ({why}); with --allow-control-tower accounts are moved all the same"
            ),
        );
    }
    said.extend(tools.into_iter().map(|(_, line)| line));
    let all: Vec<(Row, Rollout)> = app.all(Kind::Rollout, &Filter::default()).await?;
    let moving = [rollout::State::Running, rollout::State::Baking, rollout::State::Aborting];
    for (_, rollout) in all.iter().filter(|(_, r)| moving.contains(&r.state)) {
        let (id, state) = (&rollout.body.id, rollout.state.as_str());
        said.push(format!("{id} is {state}: what is inherited may change while it goes on"));
    }
    Ok(said)
}

/// A node and all above it, itself first.
fn above(tree: &OrgTree, id: &NodeId) -> Vec<NodeId> {
    std::iter::once(id.clone()).chain(tree.ancestors(id).map(|n| n.id.clone())).collect()
}

/// How what changes for accounts from this home is no longer what was approved; `None` where it is. OUs as they were last
/// read, their policies as they are now.
pub(super) async fn changed(
    app: &App,
    body: &Body,
    origin: &NodeId,
) -> Result<Option<String>, Fault> {
    let lines = |all: &[Difference]| -> BTreeSet<String> {
        let of = |d: &Difference| {
            let loses = d.loses.iter().map(|p| format!("they lose {p}"));
            loses.chain(d.gets.iter().map(|p| format!("they get {p}"))).collect::<Vec<_>>()
        };
        all.iter().flat_map(of).collect()
    };
    let (sets, _) = stack_sets(app).await?;
    let now = lines(&between(app, &*app.tree().await?, &sets, (origin, &body.ou)).await?);
    let approved = lines(body.differences.get(origin).map_or(&[], Vec::as_slice));
    let new = now.difference(&approved).map(|line| format!("{line}, which nobody approved"));
    let gone = approved.difference(&now).map(|line| format!("not any more: {line}"));
    let all: Vec<String> = new.chain(gone).collect();
    Ok((!all.is_empty()).then(|| {
        format!(
            "what changes for accounts from {origin} is not what was approved: {}; plan it anew, or undo that",
            all.join("; ")
        )
    }))
}

/// The StackSets that follow accounts from OU to OU, made in any region of our own account, which is the management account;
/// and the regions where nobody could look.
async fn stack_sets(app: &App) -> Result<(Vec<StackSet>, Vec<String>), Fault> {
    let own = app.cloud.caller().await?.account;
    let cells = app.store.cells(own.as_str(), ("", ""), 1_000).await?;
    let on = cells.iter().filter(|c| c.state != CellState::RegionOff);
    let mut regions: BTreeSet<Region> = on.filter_map(|c| c.region.parse().ok()).collect();
    regions.extend(app.cloud.own_region().parse());
    let (mut found, mut unread) = (Vec::new(), Vec::new());
    for region in &regions {
        match app.cloud.stack_sets(region).await {
            Ok(sets) => found.extend(sets),
            Err(error) if transient(error.class) => return Err(error.into()),
            Err(error) => unread.push(format!(
                "StackSets of {region} were not looked at ({error}); one with automatic deployment deletes its stacks in an account that leaves its OUs, unless it retains them"
            )),
        }
    }
    Ok((found, unread))
}

/// What is inherited from one parent and not from the other, of every type that is on in the organization; and StackSets.
async fn between(
    app: &App,
    tree: &OrgTree,
    sets: &[StackSet],
    (origin, ou): (&NodeId, &NodeId),
) -> Result<Vec<Difference>, Fault> {
    let (here, there) = (above(tree, origin), above(tree, ou));
    let mut found = Vec::new();
    for policy_type in app.cloud.policy_types().await? {
        let (mut loses, mut gets) = (BTreeSet::new(), BTreeSet::new());
        for (chain, other, into) in [(&here, &there, &mut loses), (&there, &here, &mut gets)] {
            for node in chain.iter().filter(|n| !other.contains(n)) {
                into.extend(app.cloud.attached_of(node, &policy_type).await?);
            }
        }
        let both: BTreeSet<String> = loses.intersection(&gets).cloned().collect();
        let only = |set: BTreeSet<String>| set.difference(&both).cloned().collect::<Vec<String>>();
        let (loses, gets) = (only(loses), only(gets));
        if !(loses.is_empty() && gets.is_empty()) {
            found.push(Difference { policy_type, loses, gets });
        }
    }
    found.extend(stacks(sets, &here, &there));
    Ok(found)
}
