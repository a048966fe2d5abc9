//! The organization tree: an immutable snapshot, validated when it is made.

use crate::id::{AccountId, NodeId};
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// AWS allows 5 levels of OUs under the root (Organizations quotas page); one more is tolerated so
/// that an emulator's or a future deeper tree is read, and a cycle is still found.
const DEPTH_MAX: usize = 16;

/// An account's `State` in Organizations. `Status`, its predecessor, was retired on 2026-09-09 and
/// is read only where `State` is absent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AccountState {
    /// In use: scanned, and counted by gates.
    Active,
    /// Being closed, still usable: scanned and reported, never written to, not counted by gates.
    PendingClosure,
    /// Sign-up is not complete: unusable.
    PendingActivation,
    /// Suspended by AWS (or, in the old `Status`, also closed): unusable.
    Suspended,
    /// Closed, in its 90 days: unusable.
    Closed,
    /// A state that this version does not know. Kept, shown, and never treated as clean.
    #[serde(untagged)]
    Other(String),
}

impl AccountState {
    /// Reads AWS's text; an unknown one is kept.
    pub fn parse(text: &str) -> AccountState {
        match text {
            "ACTIVE" => AccountState::Active,
            "PENDING_CLOSURE" => AccountState::PendingClosure,
            "PENDING_ACTIVATION" => AccountState::PendingActivation,
            "SUSPENDED" => AccountState::Suspended,
            "CLOSED" => AccountState::Closed,
            other => AccountState::Other(other.to_owned()),
        }
    }

    /// AWS's text for it.
    pub fn as_str(&self) -> &str {
        match self {
            AccountState::Active => "ACTIVE",
            AccountState::PendingClosure => "PENDING_CLOSURE",
            AccountState::PendingActivation => "PENDING_ACTIVATION",
            AccountState::Suspended => "SUSPENDED",
            AccountState::Closed => "CLOSED",
            AccountState::Other(text) => text,
        }
    }

    /// Whether the account has cells in the ledger.
    pub fn has_cells(&self) -> bool {
        matches!(self, AccountState::Active | AccountState::PendingClosure)
    }

    /// Why an account in this state is not scanned; `None` if it is.
    pub fn excluded(&self) -> Option<&'static str> {
        match self {
            AccountState::Active | AccountState::PendingClosure => None,
            AccountState::PendingActivation => Some("sign-up is not complete"),
            AccountState::Suspended => Some("suspended by AWS, or closed"),
            AccountState::Closed => Some("closed; AWS removes it after 90 days"),
            AccountState::Other(_) => Some("a state that this version does not know"),
        }
    }
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum NodeKind {
    /// The one root.
    Root,
    /// An organizational unit.
    Ou,
    /// An account.
    Account {
        /// Its state.
        state: AccountState,
        /// Whether it is the management account, which SCPs never bind.
        management: bool,
    },
}

/// A root, OU or account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// What it hangs under; `None` for the root.
    pub parent: Option<NodeId>,
    /// Its name in Organizations.
    pub name: String,
    /// What it is.
    #[serde(flatten)]
    pub kind: NodeKind,
}

impl Node {
    /// The account's state, if this is an account.
    pub fn account_state(&self) -> Option<&AccountState> {
        match &self.kind {
            NodeKind::Account { state, .. } => Some(state),
            NodeKind::Root | NodeKind::Ou => None,
        }
    }
}

/// What is wrong with a list of nodes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrgError {
    /// There is not exactly one root.
    #[error("the organization has {0} roots, not one")]
    Roots(usize),
    /// A node's parent is not there.
    #[error("{child} hangs under {parent}, which was not read")]
    Orphan {
        /// The node.
        child: NodeId,
        /// The parent that is missing.
        parent: NodeId,
    },
    /// Following the parents does not end.
    #[error("{0} is deeper than any organization can be, or its parents form a cycle")]
    Depth(NodeId),
    /// Two nodes share an id.
    #[error("{0} was read twice")]
    Twice(NodeId),
}

/// What changed between two snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrgChange {
    /// The node.
    pub id: NodeId,
    /// Its name now (or last).
    pub name: String,
    /// What happened, in words: `added under ou-...`, `moved from ... to ...`.
    pub what: String,
}

/// The tree of one organization as of one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrgTree {
    /// When it was read.
    pub as_of: Time,
    nodes: BTreeMap<NodeId, Node>,
    children: BTreeMap<NodeId, Vec<NodeId>>,
    root: NodeId,
}

impl OrgTree {
    /// Checks and builds a tree: one root, no orphan, no cycle, no id twice.
    pub fn new(as_of: Time, list: Vec<Node>) -> Result<OrgTree, Vec<OrgError>> {
        let mut errors = Vec::new();
        let mut nodes = BTreeMap::new();
        for node in list {
            if let Some(old) = nodes.insert(node.id.clone(), node) {
                errors.push(OrgError::Twice(old.id));
            }
        }
        let roots: Vec<NodeId> =
            nodes.values().filter(|n| n.parent.is_none()).map(|n| n.id.clone()).collect();
        let mut children: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
        for node in nodes.values() {
            if let Some(parent) = &node.parent {
                if nodes.contains_key(parent) {
                    children.entry(parent.clone()).or_default().push(node.id.clone());
                } else {
                    let (child, parent) = (node.id.clone(), parent.clone());
                    errors.push(OrgError::Orphan { child, parent });
                }
            }
        }
        let root = match roots.as_slice() {
            [root] => root.clone(),
            other => {
                errors.push(OrgError::Roots(other.len()));
                return Err(errors);
            }
        };
        for list in children.values_mut() {
            // OUs first, then accounts, each by name: the order people expect in a tree.
            list.sort_by_key(|id| {
                let node = &nodes[id];
                (node.account_state().is_some(), node.name.clone(), id.clone())
            });
        }
        let tree = OrgTree { as_of, nodes, children, root };
        for id in tree.nodes.keys() {
            let depth = tree.ancestors(id).take(DEPTH_MAX).count();
            if depth >= DEPTH_MAX {
                errors.push(OrgError::Depth(id.clone()));
            }
        }
        if errors.is_empty() { Ok(tree) } else { Err(errors) }
    }

    /// The root's id.
    pub fn root(&self) -> &NodeId {
        &self.root
    }

    /// One node.
    pub fn get(&self, id: &NodeId) -> Option<&Node> {
        self.nodes.get(id)
    }

    /// All nodes, by id.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// The node's parent, its parent's parent, and so on to the root.
    pub fn ancestors<'a>(&'a self, id: &NodeId) -> impl Iterator<Item = &'a Node> + use<'a> {
        let first = self.nodes.get(id).and_then(|n| n.parent.as_ref());
        std::iter::successors(first.and_then(|p| self.nodes.get(p)), |n| {
            n.parent.as_ref().and_then(|p| self.nodes.get(p))
        })
    }

    /// The names from the root to the node, joined by `/`.
    pub fn path(&self, id: &NodeId) -> String {
        let mut names: Vec<&str> = self.ancestors(id).map(|n| n.name.as_str()).collect();
        names.reverse();
        names.extend(self.nodes.get(id).map(|n| n.name.as_str()));
        names.join("/")
    }

    /// What is under a root or OU, at any depth; of an account, itself.
    pub fn below(&self, id: &NodeId) -> Vec<&Node> {
        let (mut found, mut open) = (Vec::new(), vec![id]);
        while let Some(next) = open.pop() {
            let counts = |n: &&Node| n.id != *id || n.id.account().is_some();
            found.extend(self.nodes.get(next).filter(counts));
            open.extend(self.children.get(next).into_iter().flatten());
        }
        found
    }

    /// Every account at or under a node, at any depth.
    pub fn accounts_under(&self, id: &NodeId) -> Vec<AccountId> {
        let found: BTreeSet<AccountId> =
            self.below(id).into_iter().filter_map(|n| n.id.account()).collect();
        found.into_iter().collect()
    }

    /// What a reader of both snapshots would want to know.
    pub fn diff(old: &OrgTree, new: &OrgTree) -> Vec<OrgChange> {
        let mut changes = Vec::new();
        let mut say = |node: &Node, what: String| {
            changes.push(OrgChange { id: node.id.clone(), name: node.name.clone(), what });
        };
        for node in new.nodes.values() {
            let Some(was) = old.nodes.get(&node.id) else {
                let under = node.parent.as_ref().map(|p| new.path(p)).unwrap_or_default();
                say(node, format!("added under {under}"));
                continue;
            };
            if let (Some(from), Some(to)) = (&was.parent, &node.parent)
                && from != to
            {
                say(node, format!("moved from {} to {}", old.path(from), new.path(to)));
            }
            if was.name != node.name {
                say(node, format!("renamed from {}", was.name));
            }
            if let (Some(from), Some(to)) = (was.account_state(), node.account_state())
                && from != to
            {
                say(node, format!("state {} -> {}", from.as_str(), to.as_str()));
            }
        }
        for node in old.nodes.values().filter(|n| !new.nodes.contains_key(&n.id)) {
            say(node, "removed".to_owned());
        }
        changes
    }

    /// The tree as indented lines, the way `ringfence org tree` shows it.
    pub fn draw(&self) -> String {
        let mut out = String::new();
        self.draw_into(&mut out, &self.root, "", "");
        out
    }

    fn draw_into(&self, out: &mut String, id: &NodeId, own: &str, below: &str) {
        let node = &self.nodes[id];
        let _ = match &node.kind {
            NodeKind::Root => writeln!(out, "{own}{} ({id})", node.name),
            NodeKind::Ou => {
                let n = self.accounts_under(id).len();
                let s = if n == 1 { "" } else { "s" };
                writeln!(out, "{own}{}  {id}  {n} account{s}", node.name)
            }
            NodeKind::Account { state, management } => {
                let mut notes = String::new();
                if *management {
                    notes.push_str("  management account");
                }
                if let Some(why) = state.excluded() {
                    let _ = write!(notes, "  {} ({why})", state.as_str());
                } else if *state != AccountState::Active {
                    let _ = write!(notes, "  {}", state.as_str());
                }
                writeln!(out, "{own}{id}  {}{notes}", node.name)
            }
        };
        let children = self.children.get(id).map(Vec::as_slice).unwrap_or_default();
        for (i, child) in children.iter().enumerate() {
            let last = i + 1 == children.len();
            let (branch, trunk) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            self.draw_into(out, child, &format!("{below}{branch}"), &format!("{below}{trunk}"));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use expect_test::expect;

    fn node(id: &str, parent: &str, name: &str, state: Option<AccountState>) -> Node {
        let kind = match state {
            Some(state) => NodeKind::Account { state, management: false },
            None if parent.is_empty() => NodeKind::Root,
            None => NodeKind::Ou,
        };
        let parent = (!parent.is_empty()).then(|| parent.parse().unwrap());
        Node { id: id.parse().unwrap(), parent, name: name.into(), kind }
    }

    pub(crate) fn sample() -> Vec<Node> {
        vec![
            node("r-ab12", "", "Root", None),
            node("ou-ab12-prodprod", "r-ab12", "prod", None),
            node("ou-ab12-paymentz", "ou-ab12-prodprod", "payments", None),
            node("111122223333", "ou-ab12-paymentz", "orders", Some(AccountState::Active)),
            node("222233334444", "ou-ab12-prodprod", "old", Some(AccountState::Suspended)),
        ]
    }

    #[test]
    fn a_tree_is_drawn() {
        let tree = OrgTree::new(Time(0), sample()).unwrap();
        expect![[r#"
            Root (r-ab12)
            └─ prod  ou-ab12-prodprod  2 accounts
               ├─ payments  ou-ab12-paymentz  1 account
               │  └─ 111122223333  orders
               └─ 222233334444  old  SUSPENDED (suspended by AWS, or closed)
        "#]]
        .assert_eq(&tree.draw());
        assert_eq!(tree.accounts_under(&"ou-ab12-prodprod".parse().unwrap()).len(), 2);
        assert_eq!(tree.path(&"111122223333".parse().unwrap()), "Root/prod/payments/orders");
    }

    #[test]
    fn broken_trees_are_refused() {
        let mut orphan = sample();
        orphan.push(node("333344445555", "ou-ab12-missing1", "x", Some(AccountState::Active)));
        let mut cycle = sample();
        cycle[1].parent = Some("ou-ab12-paymentz".parse().unwrap());
        let two = [sample(), vec![node("r-cd34", "", "Root", None)]].concat();
        for (list, want) in
            [(orphan, "not read"), (cycle, "cycle"), (two, "2 roots"), (vec![], "0 roots")]
        {
            let errors = OrgTree::new(Time(0), list).unwrap_err();
            assert!(errors.iter().any(|e| e.to_string().contains(want)), "{want}: {errors:?}");
        }
    }

    #[test]
    fn a_second_read_says_what_changed() {
        let old = OrgTree::new(Time(0), sample()).unwrap();
        let mut list = sample();
        list[3].parent = Some("ou-ab12-prodprod".parse().unwrap());
        list[4].kind = NodeKind::Account { state: AccountState::Closed, management: false };
        list.remove(2);
        list.push(node("333344445555", "r-ab12", "new", Some(AccountState::Active)));
        let new = OrgTree::new(Time(1), list).unwrap();
        let said: Vec<String> =
            OrgTree::diff(&old, &new).iter().map(|c| format!("{} {}", c.name, c.what)).collect();
        assert_eq!(
            said,
            [
                "orders moved from Root/prod/payments to Root/prod",
                "old state SUSPENDED -> CLOSED",
                "new added under Root",
                "payments removed",
            ]
        );
    }
}
