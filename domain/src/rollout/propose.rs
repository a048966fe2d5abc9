//! Stages by risk: what can do the least harm comes first, and large OUs a few accounts at a time.
//!
//! AWS advises to attach a policy to an OU for tests, then to further ones little by little, and never first to the root
//! (Organizations user guide, service control policies). The order here: environment, then how many accounts are bound,
//! then how many databases they have, and how much is done with them. An OU comes after all that are in it.

use super::Stage;
use crate::id::{AccountId, NodeId};
use crate::org::{AccountState, NodeKind, OrgTree};
use crate::time::Span;
use std::collections::{BTreeMap, BTreeSet};

/// How far an environment is from production.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Environment {
    /// Sandboxes, development, tests.
    Test,
    /// Staging, acceptance.
    Staging,
    /// Nothing says.
    Unknown,
    /// Production.
    Production,
}

impl Environment {
    /// The name of a stage.
    pub fn as_str(self) -> &'static str {
        match self {
            Environment::Test => "test",
            Environment::Staging => "staging",
            Environment::Unknown => "other",
            Environment::Production => "production",
        }
    }

    /// What a tag's value or a name says: whole words, for a "product" is not "prod".
    pub fn of(text: &str) -> Option<Environment> {
        let text = text.to_ascii_lowercase();
        let words: Vec<&str> = text.split(|c: char| !c.is_ascii_alphabetic()).collect();
        let any = |list: &[&str]| words.iter().any(|w| list.contains(w));
        match () {
            // "non-prod", "preprod": not production, and not a sandbox either.
            () if any(&["nonprod", "preprod", "non", "pre"]) => Some(Environment::Staging),
            () if any(&["prod", "production", "prd", "live"]) => Some(Environment::Production),
            () if any(&["staging", "stage", "uat", "qa", "acceptance"]) => {
                Some(Environment::Staging)
            }
            () if any(&[
                "sandbox",
                "dev",
                "development",
                "test",
                "testing",
                "lab",
                "playground",
            ]) =>
            {
                Some(Environment::Test)
            }
            () => None,
        }
    }
}

/// What is known of an organization, and how careful one wants to be.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Databases in each account, as last scanned.
    pub databases: BTreeMap<AccountId, u32>,
    /// Calls in each account that simulations of late found in CloudTrail.
    pub calls: BTreeMap<AccountId, u64>,
    /// What a tag says of an OU's environment.
    pub tagged: BTreeMap<NodeId, String>,
    /// Accounts that come before everything else.
    pub canaries: usize,
    /// An OU with more accounts than this grows by [`percents`](Self::percents).
    pub large: usize,
    /// Of a large OU, how much of it is attached account by account first: 1 to 99, ascending.
    pub percents: Vec<u32>,
    /// Accounts in one stage at most; an OU that has more is one of its own.
    pub max_accounts: usize,
    /// How long each stage bakes.
    pub bake: Span,
}

/// A stage, and why it is where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposed {
    /// The stage.
    pub stage: Stage,
    /// What its targets have in common; one line each.
    pub because: Vec<String>,
}

/// An OU that has accounts of its own.
struct Ou {
    id: NodeId,
    environment: Environment,
    accounts: usize,
    databases: u32,
    calls: u64,
    /// What it binds, and no other OU with accounts below it: those with the fewest databases first.
    own: Vec<AccountId>,
}

/// Stages for a whole organization but its root. What is not bound by any of them is in the second list.
pub fn propose(tree: &OrgTree, wanted: &Wanted) -> (Vec<Proposed>, Vec<String>) {
    let ous = ous(tree, wanted);
    let mut stages = Vec::new();
    let canaries = ous.iter().flat_map(|ou| &ou.own).take(wanted.canaries);
    let canaries: Vec<AccountId> = canaries.cloned().collect();
    let said = |account: &AccountId| line(tree, wanted, &account.into());
    if !canaries.is_empty() {
        let because = canaries.iter().map(said).collect();
        stages.push(stage(wanted, "canary", canaries.iter().map(NodeId::from), because));
    }
    let mut taken: BTreeSet<AccountId> = canaries.into_iter().collect();
    let mut open: Vec<&Ou> = Vec::new();
    for ou in &ous {
        let room = open.iter().map(|o| o.own.len()).sum::<usize>() + ou.own.len();
        let other = open.first().is_some_and(|o| o.environment != ou.environment);
        let large = ou.own.len() > wanted.large;
        if !open.is_empty() && (other || large || room > wanted.max_accounts) {
            stages.push(together(tree, wanted, &std::mem::take(&mut open)));
        }
        if large {
            stages.extend(growth(tree, wanted, ou, &mut taken));
        }
        open.push(ou);
    }
    if !open.is_empty() {
        stages.push(together(tree, wanted, &open));
    }
    let loose = at_root(tree);
    if !loose.is_empty() {
        let because = loose.iter().map(said).collect();
        stages.push(stage(wanted, "outside-ous", loose.iter().map(NodeId::from), because));
    }
    named_apart(&mut stages);
    (stages, left_out(tree))
}

/// Every OU with accounts of its own, the least risk first, an OU after all that are in it.
fn ous(tree: &OrgTree, wanted: &Wanted) -> Vec<Ou> {
    let mut found = Vec::new();
    for node in tree.nodes().filter(|n| matches!(n.kind, NodeKind::Ou)) {
        let mut own: Vec<AccountId> = super::bound(tree, std::iter::once(&node.id))
            .into_iter()
            .filter(|a| active_in(tree, a, &node.id))
            .collect();
        if own.is_empty() {
            continue;
        }
        let databases = |a: &AccountId| wanted.databases.get(a).copied().unwrap_or(0);
        let calls = |a: &AccountId| wanted.calls.get(a).copied().unwrap_or(0);
        own.sort_by_key(|a| (databases(a), calls(a), a.clone()));
        let below = super::bound(tree, std::iter::once(&node.id));
        found.push(Ou {
            environment: environment(tree, wanted, &node.id),
            accounts: below.len(),
            databases: below.iter().map(databases).sum(),
            calls: below.iter().map(calls).sum(),
            id: node.id.clone(),
            own,
        });
    }
    // What is in an OU is never riskier than the OU.
    let worst: BTreeMap<NodeId, Environment> = found
        .iter()
        .map(|ou| {
            let inside = |o: &&Ou| tree.ancestors(&o.id).any(|n| n.id == ou.id);
            let most = found.iter().filter(inside).map(|o| o.environment).max();
            (ou.id.clone(), most.map_or(ou.environment, |most| most.max(ou.environment)))
        })
        .collect();
    for ou in &mut found {
        ou.environment = worst[&ou.id];
    }
    let depth = |ou: &Ou| tree.ancestors(&ou.id).count();
    found.sort_by_key(|ou| {
        let size = (ou.accounts, ou.databases, ou.calls);
        (ou.environment, size, std::cmp::Reverse(depth(ou)), ou.id.clone())
    });
    found
}

/// Whether an account is in there, and may be a target of its own.
fn active_in(tree: &OrgTree, account: &AccountId, parent: &NodeId) -> bool {
    let node = tree.get(&account.into());
    node.is_some_and(|n| {
        n.parent.as_ref() == Some(parent) && n.account_state() == Some(&AccountState::Active)
    })
}

/// What the OU's own tag or name says, or the nearest one above it.
fn environment(tree: &OrgTree, wanted: &Wanted, id: &NodeId) -> Environment {
    let own = tree.get(id).into_iter();
    let mut all = own.chain(tree.ancestors(id));
    let says = |tag: Option<&String>, name: &str| {
        tag.and_then(|t| Environment::of(t)).or(Environment::of(name))
    };
    all.find_map(|node| says(wanted.tagged.get(&node.id), &node.name))
        .unwrap_or(Environment::Unknown)
}

fn stage(
    wanted: &Wanted,
    name: &str,
    targets: impl Iterator<Item = NodeId>,
    because: Vec<String>,
) -> Proposed {
    let stage = Stage {
        name: name.to_owned(),
        targets: targets.collect(),
        bake: wanted.bake,
        ..Stage::default()
    };
    Proposed { stage, because }
}

fn together(tree: &OrgTree, wanted: &Wanted, ous: &[&Ou]) -> Proposed {
    let name = ous.first().map_or("other", |ou| ou.environment.as_str());
    let because = ous.iter().map(|ou| line(tree, wanted, &ou.id)).collect();
    stage(wanted, name, ous.iter().map(|ou| ou.id.clone()), because)
}

/// A large OU, a share of its accounts at a time; the OU takes their place.
fn growth(
    tree: &OrgTree,
    wanted: &Wanted,
    ou: &Ou,
    taken: &mut BTreeSet<AccountId>,
) -> Vec<Proposed> {
    let mut stages = Vec::new();
    let name = tree.get(&ou.id).map_or("", |n| n.name.as_str());
    for percent in &wanted.percents {
        let many = (ou.own.len() * *percent as usize).div_ceil(100);
        let more: Vec<&AccountId> =
            ou.own.iter().take(many).filter(|a| !taken.contains(*a)).collect();
        if more.is_empty() {
            continue;
        }
        let because = vec![format!(
            "{percent}% of the {} accounts in {}, those with the fewest databases",
            ou.own.len(),
            tree.path(&ou.id)
        )];
        let name = format!("{name}-{percent}-percent");
        stages.push(stage(wanted, &name, more.iter().map(|a| NodeId::from(*a)), because));
        taken.extend(more.into_iter().cloned());
    }
    stages
}

fn line(tree: &OrgTree, wanted: &Wanted, id: &NodeId) -> String {
    let bound = super::bound(tree, std::iter::once(id));
    let databases: u32 = bound.iter().filter_map(|a| wanted.databases.get(a)).sum();
    let calls: u64 = bound.iter().filter_map(|a| wanted.calls.get(a)).sum();
    let lately = if calls == 0 { String::new() } else { format!(", {calls} calls lately") };
    let of = match id.account() {
        Some(_) => String::new(),
        None if bound.len() == 1 => "1 account, ".to_owned(),
        None => format!("{} accounts, ", bound.len()),
    };
    format!("{id} {}: {of}{databases} databases{lately}", tree.path(id))
}

/// Accounts outside of every OU: only the root or a policy of their own binds them.
fn at_root(tree: &OrgTree) -> Vec<AccountId> {
    let all = super::bound(tree, std::iter::once(tree.root()));
    all.into_iter().filter(|a| active_in(tree, a, tree.root())).collect()
}

fn left_out(tree: &OrgTree) -> Vec<String> {
    let mut left = vec![format!(
        "OUs and accounts that are made outside of these later are not bound; the root ({}) would bind them, as the last stage and with --allow-root",
        tree.root()
    )];
    left.push("the management account is never bound".to_owned());
    left
}

/// Stages of one name are numbered.
fn named_apart(stages: &mut [Proposed]) {
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    for proposed in stages {
        let count = seen.entry(proposed.stage.name.clone()).or_default();
        *count += 1;
        if *count > 1 {
            proposed.stage.name = format!("{}-{count}", proposed.stage.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::org::Node;
    use crate::rollout::replaced_by;
    use crate::time::Time;

    fn id(text: &str) -> NodeId {
        text.parse().unwrap()
    }

    fn node(text: &str, parent: &str, name: &str) -> Node {
        let kind = match id(text).account() {
            Some(_) => NodeKind::Account {
                state: AccountState::Active,
                management: text == "000000000001",
            },
            None => NodeKind::Ou,
        };
        Node { id: id(text), parent: Some(id(parent)), name: name.into(), kind }
    }

    const PROD: &str = "ou-ab12-pppppppp";
    const SHOP: &str = "ou-ab12-ssssssss";
    const DEV: &str = "ou-ab12-dddddddd";
    const EMPTY: &str = "ou-ab12-eeeeeeee";

    fn tree() -> OrgTree {
        let root =
            Node { id: id("r-ab12"), parent: None, name: "Root".into(), kind: NodeKind::Root };
        let mut nodes = vec![
            root,
            node(PROD, "r-ab12", "Production"),
            node(SHOP, PROD, "shop"),
            node(DEV, "r-ab12", "team-dev"),
            node(EMPTY, "r-ab12", "empty"),
            node("000000000001", "r-ab12", "management"),
            node("000000000002", "r-ab12", "loose"),
            node("100000000001", PROD, "p"),
            node("200000000001", DEV, "d"),
        ];
        for n in 0..40 {
            nodes.push(node(&format!("3000000000{n:02}"), SHOP, "s"));
        }
        OrgTree::new(Time(0), nodes).unwrap()
    }

    fn wanted() -> Wanted {
        Wanted {
            calls: BTreeMap::new(),
            databases: [("300000000000".parse().unwrap(), 9)].into(),
            tagged: BTreeMap::new(),
            canaries: 1,
            large: 20,
            percents: vec![5, 25],
            max_accounts: 50,
            bake: Span::hours(24),
        }
    }

    #[test]
    fn the_least_risk_comes_first_and_large_ous_grow() {
        let (tree, wanted) = (tree(), wanted());
        let (found, left) = propose(&tree, &wanted);
        let names: Vec<&str> = found.iter().map(|p| p.stage.name.as_str()).collect();
        assert_eq!(
            names,
            ["canary", "test", "shop-5-percent", "shop-25-percent", "production", "outside-ous"]
        );
        let sizes: Vec<usize> = found.iter().map(|p| p.stage.targets.len()).collect();
        assert_eq!(sizes, [1, 1, 2, 8, 2, 1]);
        assert_eq!(found[4].stage.targets, [id(SHOP), id(PROD)], "what is in an OU before it");
        assert_eq!(found[0].stage.targets, [id("200000000001")]);
        let grown: Vec<&NodeId> = found[2..4].iter().flat_map(|p| &p.stage.targets).collect();
        assert!(!grown.contains(&&id("300000000000")), "the one with databases comes with its OU");
        assert!(left.iter().any(|l| l.contains("--allow-root")), "{left:?}");
        // Whatever is attached account by account is left to its OU in the end, and all are bound.
        let stages: Vec<Stage> = found.into_iter().map(|p| p.stage).collect();
        assert_eq!(replaced_by(&stages, &tree).len(), 11);
        let all = super::super::bound(&tree, stages.iter().flat_map(|s| &s.targets));
        assert_eq!(all, super::super::bound(&tree, std::iter::once(tree.root())));
    }

    #[test]
    fn a_tag_says_more_than_a_name_and_names_are_whole_words() {
        let mut wanted = wanted();
        (wanted.canaries, wanted.max_accounts) = (0, 1);
        wanted.tagged = [(id(DEV), "prod".to_owned())].into();
        let (found, _) = propose(&tree(), &wanted);
        let names: Vec<&str> = found.iter().map(|p| p.stage.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "production",
                "shop-5-percent",
                "shop-25-percent",
                "production-2",
                "production-3",
                "outside-ous"
            ]
        );
        for (text, want) in [
            ("Production", Some(Environment::Production)),
            ("products", None),
            ("non-prod", Some(Environment::Staging)),
            ("team_dev_7", Some(Environment::Test)),
            ("Sandbox", Some(Environment::Test)),
            ("", None),
        ] {
            assert_eq!(Environment::of(text), want, "{text}");
        }
    }
}
