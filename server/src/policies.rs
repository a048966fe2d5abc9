//! The service control policies that bind accounts, and what they say of a plan's calls.

use crate::app::App;
use ringfence_domain::cloud::{CloudError, ErrorClass};
use ringfence_domain::iam::document::Policy;
use ringfence_domain::iam::scp::{Attached, Level};
use ringfence_domain::id::{AccountId, NodeId};
use ringfence_domain::org::{Node, NodeKind, OrgTree};
use ringfence_domain::plan::{self, Check, Item};
use ringfence_domain::time::Span;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How long they may take to be read: a plan without them says so, and can be made.
const READ_FOR: Span = Span::seconds(120);

/// What the policies in force say of the calls of each of these items.
pub async fn checks(app: &App, tree: &OrgTree, items: &[&Item]) -> Vec<Vec<Check>> {
    let accounts: BTreeSet<&AccountId> = items.iter().map(|i| &i.account).collect();
    let read = in_force(app, tree, accounts.into_iter());
    let read = match tokio::time::timeout(READ_FOR.to_duration(), read).await {
        Ok(read) => read,
        Err(_) => Err(format!("not within {READ_FOR}")),
    };
    let mut all = Vec::new();
    for item in items {
        let role = app.cloud.role_arn(&item.account).await.map_err(said);
        all.push(match (&read, role) {
            (Ok(read), Ok(role)) => plan::fenced(item, &read.levels(tree, &item.account), &role),
            (Err(why), _) => vec![plan::unfenced(item, why)],
            (_, Err(why)) => vec![plan::unfenced(item, &why)],
        });
    }
    all
}

/// What is attached to the nodes from the root to some accounts.
struct InForce(BTreeMap<NodeId, Vec<Arc<Attached>>>);

/// Targets on a page (Organizations API reference).
const PAGE: usize = 20;

/// Reads what is attached on the ways to these accounts: a call for each node, or one for each 20 targets of each
/// policy of the organization, whichever are fewer, and one for each document. Organizations grants a few calls a
/// second, and FullAWSAccess alone is attached to every node.
///
/// # Errors
/// Why it is not known what is in force.
async fn in_force(
    app: &App,
    tree: &OrgTree,
    accounts: impl Iterator<Item = &AccountId>,
) -> Result<InForce, String> {
    let nodes: BTreeSet<NodeId> =
        accounts.flat_map(|a| way(tree, a).into_iter().map(|n| n.id.clone())).collect();
    let mut attached: BTreeMap<NodeId, BTreeSet<String>> = BTreeMap::new();
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    if !nodes.is_empty() {
        let policies = app.cloud.policies().await.map_err(said)?;
        names.extend(policies.iter().map(|p| (p.id.clone(), format!("{} ({})", p.name, p.id))));
        if nodes.len() <= policies.len() + tree.nodes().count() / PAGE {
            for node in nodes {
                let here = app.cloud.attached(&node).await.map_err(said)?;
                let here = here.ok_or_else(|| {
                    format!("{node} is gone; `ringfence org sync` reads the organization again")
                })?;
                attached.insert(node, here);
            }
        } else {
            for policy in policies {
                let targets = app.cloud.targets_of(&policy.id).await.map_err(said)?;
                for node in targets.into_iter().filter(|t| nodes.contains(t)) {
                    attached.entry(node).or_default().insert(policy.id.clone());
                }
            }
        }
    }
    let ids: BTreeSet<&String> = attached.values().flatten().collect();
    let mut documents: BTreeMap<String, Arc<Attached>> = BTreeMap::new();
    for id in ids {
        let policy = match app.cloud.policy_content(id).await {
            Ok(text) => Policy::parse(&text),
            Err(e) if e.class == ErrorClass::NotFound => Err("it is gone".to_owned()),
            Err(e) => return Err(said(e)),
        };
        let name = names.get(id).unwrap_or(id).clone();
        documents.insert(id.clone(), Arc::new(Attached { name, policy }));
    }
    let read =
        |ids: BTreeSet<String>| ids.iter().filter_map(|id| documents.get(id).cloned()).collect();
    Ok(InForce(attached.into_iter().map(|(node, ids)| (node, read(ids))).collect()))
}

impl InForce {
    /// The levels from the root to an account of the tree; none for the management account, which SCPs never bind
    /// (Organizations guide, "SCP effects on permissions").
    fn levels(&self, tree: &OrgTree, account: &AccountId) -> Vec<Level> {
        let level = |node: &Node| Level {
            node: format!("{} ({})", node.name, node.id),
            policies: self.0.get(&node.id).cloned().unwrap_or_default(),
        };
        way(tree, account).into_iter().map(level).collect()
    }
}

fn said(error: CloudError) -> String {
    error.to_string()
}

/// The nodes from the root to an account that SCPs bind. An account that is not in the tree is never worked on.
fn way<'a>(tree: &'a OrgTree, account: &AccountId) -> Vec<&'a Node> {
    let id = NodeId::from(account);
    let Some(node) = tree.get(&id) else { return Vec::new() };
    if matches!(node.kind, NodeKind::Account { management: true, .. }) {
        return Vec::new();
    }
    let mut way: Vec<_> = std::iter::once(node).chain(tree.ancestors(&id)).collect();
    way.reverse();
    way
}
