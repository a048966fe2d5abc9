//! Reading the organization.

use crate::app::{App, Fault, now};
use crate::{scans, schedule};
use ringfence_domain::audit::Actor;
use ringfence_domain::id::{AccountId, NodeId};
use ringfence_domain::ledger::{Cell, REGION_UNKNOWN, RegionsSource};
use ringfence_domain::org::{Node, OrgChange, OrgTree};
use ringfence_domain::time::Span;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a sync found.
pub struct Synced {
    /// The tree as read.
    pub tree: OrgTree,
    /// What changed since the last read.
    pub changes: Vec<OrgChange>,
    /// Whether there was none.
    pub first: bool,
}

/// Reads the whole organization, compares it with the stored one, and stores it.
pub async fn sync(app: &App, actor: &Actor, store: bool) -> Result<Synced, Fault> {
    sync_for(app, actor, store, None).await
}

/// [`sync`], which queues the accounts that have cells for a scan as AWS lists them, before it knows
/// where in the tree they are.
pub async fn sync_for(
    app: &App,
    actor: &Actor,
    store: bool,
    scan: Option<&str>,
) -> Result<Synced, Fault> {
    let (mut listed, mut token) = (BTreeSet::new(), None);
    loop {
        let page = app.cloud.accounts_page(token).await?;
        if let Some(scan) = scan {
            let live = page.accounts.iter().filter(|(_, state)| state.has_cells());
            let live: Vec<AccountId> = live.map(|(id, _)| id.clone()).collect();
            app.store.add_accounts(scan, &live, scans::LATER).await?;
        }
        listed.extend(page.accounts.into_iter().map(|(id, _)| id));
        token = page.next;
        if token.is_none() {
            break;
        }
    }
    let nodes = app.cloud.tree(listed).await?;
    let as_of = now();
    let tree = OrgTree::new(as_of, nodes).map_err(|errors| {
        let text: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Fault::Conflict(format!(
            "what AWS answered is no tree ({}): the organization may be changing, try again",
            text.join("; ")
        ))
    })?;
    let old = match app.store.org().await? {
        Some((as_of, nodes)) => OrgTree::new(as_of, nodes).ok(),
        None => None,
    };
    let changes = old.as_ref().map(|old| OrgTree::diff(old, &tree)).unwrap_or_default();
    let first = old.is_none();
    if store {
        write(app, actor, old.as_ref(), &tree, &changes).await?;
    }
    Ok(Synced { tree, changes, first })
}

async fn write(
    app: &App,
    actor: &Actor,
    old: Option<&OrgTree>,
    tree: &OrgTree,
    changes: &[OrgChange],
) -> Result<(), Fault> {
    let gone: Vec<NodeId> = old
        .iter()
        .flat_map(|old| old.nodes())
        .filter(|n| tree.get(&n.id).is_none())
        .map(|n| n.id.clone())
        .collect();
    let known: BTreeSet<String> = app.store.known_accounts().await?.into_iter().collect();
    let mut new_cells = Vec::new();
    let mut without = Vec::new();
    for node in tree.nodes() {
        let (Some(account), Some(state)) = (node.id.account(), node.account_state()) else {
            continue;
        };
        if !state.has_cells() {
            without.push(account);
        } else if !known.contains(account.as_str()) {
            new_cells.extend(pending(app, &account));
        }
    }
    without.extend(gone.iter().filter_map(NodeId::account));
    let changed: Vec<_> =
        tree.nodes().filter(|n| old.and_then(|o| o.get(&n.id)) != Some(n)).cloned().collect();
    let what = match old {
        None => "first read".to_owned(),
        Some(_) => format!("{} changes", changes.len()),
    };
    let event = actor.did(tree.as_of, "org.sync", tree.root().as_str(), what);
    app.store.put_org(tree.as_of, &changed, &gone, &new_cells, &without, &event).await?;
    if old.is_none() {
        return Ok(());
    }
    let live = changed.iter().filter(|n| n.account_state().is_some_and(|s| s.has_cells()));
    schedule::changed(app, tree.as_of, live.filter_map(|n| n.id.account()).collect()).await
}

/// The cells of an account that was never scanned.
fn pending(app: &App, account: &AccountId) -> Vec<Cell> {
    if app.config.regions.is_empty() {
        return vec![Cell::pending(account.clone(), REGION_UNKNOWN, RegionsSource::Unknown)];
    }
    let cell = |region: &ringfence_domain::id::Region| {
        Cell::pending(account.clone(), region.as_str(), RegionsSource::Configured)
    };
    app.config.regions.iter().map(cell).collect()
}

/// The tree, with what is under a target as it is now: that alone is read, and all of it only where it differs from what
/// is known. To read thousands of accounts before each target would take longer than the list is good for.
pub async fn fresh_below(app: &App, target: &NodeId) -> Result<Arc<OrgTree>, Fault> {
    let tree = match app.tree().await {
        Ok(tree) => tree,
        Err(Fault::Refused { .. }) => return fresh(app, Span(-1)).await,
        Err(fault) => return Err(fault),
    };
    let known: BTreeMap<&NodeId, &Node> =
        tree.below(target).into_iter().map(|n| (&n.id, n)).collect();
    let now = app.cloud.below(target).await?;
    let same = now.len() == known.len()
        && now
            .iter()
            .all(|n| known.get(&n.id).is_some_and(|k| k.account_state() == n.account_state()));
    match same {
        true => Ok(tree),
        false => fresh(app, Span(-1)).await,
    }
}

/// The tree, read anew when the stored one is older than that.
pub async fn fresh(app: &App, max_age: Span) -> Result<Arc<OrgTree>, Fault> {
    if let Ok(tree) = app.tree().await
        && now().since(tree.as_of) <= max_age
    {
        return Ok(tree);
    }
    Ok(Arc::new(sync(app, &Actor::system("rollouts"), true).await?.tree))
}
