//! What must hold before anything is written, and before each target.

use super::{Attached, Stage, bound};
use crate::finding::{Finding, Kind};
use crate::id::{AccountId, NodeId};
use crate::ledger::{Cell, Rule, gaps};
use crate::org::{AccountState, NodeKind, OrgTree};
use crate::time::Time;
use std::collections::{BTreeMap, BTreeSet};

/// What AWS allows on one target; settings, for AWS has changed them (5 to 10 SCPs in May 2026,
/// 5,120 to 10,240 characters before).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// SCPs directly attached to one root, OU or account.
    pub policies_per_target: usize,
    /// Characters of one policy.
    pub policy_size: usize,
    /// Accounts that one stage may bind and no earlier one does, whatever its file says; 0 is no limit.
    pub accounts_per_stage: usize,
}

/// Stages, by their numbers, that bind more accounts which no earlier stage binds than they may.
pub fn too_many(stages: &[Stage], tree: &OrgTree, limits: Limits) -> BTreeMap<usize, String> {
    let (mut before, mut found) = (BTreeSet::new(), BTreeMap::new());
    for (n, stage) in stages.iter().enumerate() {
        let here = bound(tree, stage.targets.iter());
        let more = here.difference(&before).count();
        let own = usize::try_from(stage.max_accounts).unwrap_or(usize::MAX);
        let limits = [("max_accounts", own), ("rollout.max_accounts", limits.accounts_per_stage)];
        let limit = limits.iter().filter(|(_, most)| *most > 0).min_by_key(|(_, most)| *most);
        if let Some((key, most)) = limit.filter(|(_, most)| more > *most) {
            let name = &stage.name;
            found.insert(n, format!("stage `{name}` binds {more} accounts that no earlier stage binds, {key} allows {most}: make it several stages"));
        }
        before.extend(here);
    }
    found
}

/// What stands in the way before anything is written: unknown targets, the root, slots, size.
pub fn preflight(
    stages: &[Stage],
    content: &str,
    tree: &OrgTree,
    attached: &Attached,
    allow_root: bool,
    limits: Limits,
) -> Vec<String> {
    let mut trouble = Vec::new();
    let size = content.chars().count().max(content.len());
    if size > limits.policy_size {
        trouble
            .push(format!("the policy has {size} characters, AWS allows {}", limits.policy_size));
    }
    let targets: Vec<&NodeId> = stages.iter().flat_map(|s| &s.targets).collect();
    for (i, target) in targets.iter().enumerate() {
        let Some(node) = tree.get(target) else {
            trouble.push(format!("{target} is not in the organization as of {}", tree.as_of));
            continue;
        };
        if target.is_root() {
            if !allow_root {
                trouble.push(format!("{target} is the root: it binds every account at once; pass --allow-root to mean it"));
            } else if i + 1 != targets.len() {
                trouble.push(format!("{target} is the root and must be the last target"));
            }
        }
        if let Some(state) = node.account_state().filter(|s| **s != AccountState::Active) {
            trouble.push(format!("{target} is {}", state.as_str()));
        }
        if matches!(node.kind, NodeKind::Account { management: true, .. }) {
            trouble.push(format!(
                "{target} is the management account: SCPs do not bind it, so nothing would be fenced"
            ));
        }
        match attached.get(*target) {
            Some(Some(now)) if now.len() >= limits.policies_per_target => trouble.push(format!(
                "{target} has {} SCPs attached, AWS allows {}",
                now.len(),
                limits.policies_per_target
            )),
            Some(Some(_)) => {}
            Some(None) | None => {
                trouble.push(format!("what is attached to {target} could not be read"))
            }
        }
    }
    trouble.extend(too_many(stages, tree, limits).into_values());
    trouble
}

/// Why the gate before `target` is shut; empty if it is open. Every account at or under the target
/// must have a full, fresh ledger, and every open finding there must be waived.
pub fn gate(
    target: &NodeId,
    tree: &OrgTree,
    cells: &BTreeMap<AccountId, Vec<Cell>>,
    findings: &[Finding],
    rule: Rule,
    now: Time,
) -> Vec<String> {
    let mut why = Vec::new();
    for account in tree.accounts_under(target) {
        let state = tree.get(&NodeId::from(&account)).and_then(|n| n.account_state());
        match state {
            Some(AccountState::Active) => {}
            // Not usable, or about to be gone: no new database can appear there unseen.
            Some(
                AccountState::PendingClosure
                | AccountState::PendingActivation
                | AccountState::Suspended
                | AccountState::Closed,
            ) => continue,
            Some(AccountState::Other(text)) => {
                why.push(format!("{account}: state {text} is not known to this version"));
                continue;
            }
            None => continue,
        }
        why.extend(gaps(&account, cells.get(&account).map_or(&[], Vec::as_slice), rule, now));
        // An old snapshot is nothing that an SCP could deny.
        let counts = |f: &&Finding| f.kind != Kind::Snapshot && f.counts(now);
        for finding in findings.iter().filter(|f| f.account == account).filter(counts) {
            let what = match &finding.held_by {
                Some(by) => format!(
                    "is a held-original (its twin was verified by {by}); decommission it or waive"
                ),
                None => "is not encrypted; remediate it or waive".to_owned(),
            };
            why.push(format!(
                "{account} {}: {} {} {what} {}",
                finding.region,
                finding.kind.as_str(),
                finding.resource.name(),
                finding.id
            ));
        }
    }
    why
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::{Detected, Kind, Resource, Waiver};
    use crate::ledger::{CellState, RegionsSource};
    use crate::org::Node;
    use crate::remediation::sample;
    use crate::time::Span;
    use std::collections::BTreeSet;

    const ROOT: &str = "r-ab12";
    const OU: &str = "ou-ab12-aaaaaaaa";
    const ACCOUNT: &str = "111122223333";

    fn id(text: &str) -> NodeId {
        text.parse().unwrap()
    }

    fn tree(state: AccountState) -> OrgTree {
        let node = |text: &str, parent: Option<&str>, kind| Node {
            id: id(text),
            parent: parent.map(id),
            name: text.into(),
            kind,
        };
        let account = NodeKind::Account { state, management: false };
        let nodes = vec![
            node(ROOT, None, NodeKind::Root),
            node(OU, Some(ROOT), NodeKind::Ou),
            node(ACCOUNT, Some(OU), account),
        ];
        OrgTree::new(Time(0), nodes).unwrap()
    }

    fn cells(state: CellState, as_of: Time) -> BTreeMap<AccountId, Vec<Cell>> {
        let cell = Cell {
            state,
            as_of: Some(as_of),
            regions_at: Some(as_of),
            ..Cell::pending(sample::account(), "eu-west-1", RegionsSource::Account)
        };
        [(sample::account(), vec![cell])].into()
    }

    fn finding() -> Finding {
        let instance = sample::instance("orders");
        let resource = Resource::Instance { instance, replicas: vec![] };
        let found = Detected { kind: Kind::Instance, resource, config: None };
        let (account, region) = (sample::account(), sample::region());
        Finding::seen(None, "rds-encryption", &account, &region, found, false, Time(0))
    }

    #[test]
    fn the_gate_opens_only_on_full_fresh_clean_or_waived() {
        let now = Time(0).plus(Span::hours(100));
        let rule = Rule { max_age: Span::hours(24), accept_configured: false };
        let waived = |until: Time| {
            let waiver = Waiver {
                owner: "o".into(),
                reason: "r".into(),
                until,
                by: "b".into(),
                account: false,
            };
            vec![Finding { waiver: Some(waiver), ..finding() }]
        };
        let held = vec![Finding { held_by: Some("rem-1".into()), ..finding() }];
        let later = now.plus(Span::hours(1));
        for (state, as_of, findings, want) in [
            (CellState::Clean, now, vec![], ""),
            (CellState::RegionOff, now, vec![], ""),
            (CellState::Clean, Time(0), vec![], "evidence is"),
            (CellState::Pending, now, vec![], "pending"),
            (CellState::Denied, now, vec![], "denied"),
            (CellState::SkippedByRule, now, vec![], "skipped-by-rule"),
            (CellState::Findings, now, vec![finding()], "orders is not encrypted"),
            (CellState::Findings, now, held, "held-original"),
            (CellState::Findings, now, waived(later), ""),
            (CellState::Findings, now, waived(now), "orders is not encrypted"),
            (CellState::Findings, now, vec![finding().resolved(now)], ""),
        ] {
            let cells = cells(state, as_of);
            let why = gate(&id(OU), &tree(AccountState::Active), &cells, &findings, rule, now);
            let why = why.join("; ");
            assert_eq!(why.is_empty(), want.is_empty(), "{state}: {why}");
            assert!(why.contains(want), "{state}: want {want}, have {why}");
        }
        // No cell at all is no evidence; an account that cannot be used needs none.
        let none = BTreeMap::new();
        let active = gate(&id(OU), &tree(AccountState::Active), &none, &[], rule, now);
        assert!(active[0].contains("no cell"), "{active:?}");
        assert!(gate(&id(OU), &tree(AccountState::Suspended), &none, &[], rule, now).is_empty());
        let odd = AccountState::Other("HIBERNATING".into());
        assert!(!gate(&id(OU), &tree(odd), &none, &[], rule, now).is_empty());
    }

    #[test]
    fn preflight_finds_what_would_fail_later() {
        let limits = Limits { policies_per_target: 2, policy_size: 100, accounts_per_stage: 0 };
        let stages = |targets: &[&str]| {
            vec![Stage {
                name: "a".into(),
                targets: targets.iter().map(|t| id(t)).collect(),
                ..Stage::default()
            }]
        };
        let set = |n: usize| Some((0..n).map(|i| format!("p-{i}")).collect::<BTreeSet<String>>());
        let on = |target: &str, n: usize| -> Attached { [(id(target), set(n))].into() };
        let active = || tree(AccountState::Active);
        let long = "x".repeat(101);
        for (targets, content, tree, attached, allow_root, want) in [
            (vec![OU], "{}", active(), on(OU, 1), false, ""),
            (vec![OU], "{}", active(), on(OU, 2), false, "has 2 SCPs attached"),
            (vec![OU], long.as_str(), active(), on(OU, 1), false, "101 characters"),
            (vec![ROOT], "{}", active(), on(ROOT, 1), false, "--allow-root"),
            (vec![ROOT], "{}", active(), on(ROOT, 1), true, ""),
            (vec!["ou-ab12-zzzzzzzz"], "{}", active(), on(OU, 1), false, "not in the organization"),
            (
                vec![ACCOUNT],
                "{}",
                tree(AccountState::Suspended),
                on(ACCOUNT, 1),
                false,
                "SUSPENDED",
            ),
            (vec![OU], "{}", active(), [(id(OU), None)].into(), false, "could not be read"),
        ] {
            let trouble =
                preflight(&stages(&targets), content, &tree, &attached, allow_root, limits);
            let trouble = trouble.join("; ");
            assert_eq!(trouble.is_empty(), want.is_empty(), "{targets:?}: {trouble}");
            assert!(trouble.contains(want), "{targets:?}: want {want}, have {trouble}");
        }
        let management = NodeKind::Account { state: AccountState::Active, management: true };
        let root = Node { id: id(ROOT), parent: None, name: "r".into(), kind: NodeKind::Root };
        let own =
            Node { id: id(ACCOUNT), parent: Some(id(ROOT)), name: "m".into(), kind: management };
        let tree = OrgTree::new(Time(0), vec![root, own]).unwrap();
        let trouble = preflight(&stages(&[ACCOUNT]), "{}", &tree, &on(ACCOUNT, 1), false, limits);
        assert!(trouble[0].contains("SCPs do not bind it"), "{trouble:?}");
        let both: Attached = [(id(ROOT), set(1)), (id(OU), set(1))].into();
        let trouble = preflight(&stages(&[ROOT, OU]), "{}", &active(), &both, true, limits);
        assert!(trouble[0].contains("must be the last"), "the root is last: {trouble:?}");
    }

    #[test]
    fn a_stage_binds_no_more_accounts_than_it_may() {
        let accounts = (1..=5).map(|n| Node {
            id: id(&format!("11112222333{n}")),
            parent: Some(id(OU)),
            name: n.to_string(),
            kind: NodeKind::Account { state: AccountState::Active, management: false },
        });
        let root = Node { id: id(ROOT), parent: None, name: "r".into(), kind: NodeKind::Root };
        let ou = Node { id: id(OU), parent: Some(id(ROOT)), name: "o".into(), kind: NodeKind::Ou };
        let tree = OrgTree::new(Time(0), [root, ou].into_iter().chain(accounts).collect()).unwrap();
        let stage = |targets: &[&str], max_accounts| Stage {
            name: targets.join(" "),
            targets: targets.iter().map(|t| id(t)).collect(),
            max_accounts,
            ..Stage::default()
        };
        let (two, ou) = (["111122223331", "111122223332"], [OU]);
        for (stages, most, want) in [
            (vec![stage(&two, 0), stage(&ou, 0)], 0, vec![]),
            (vec![stage(&two, 2), stage(&ou, 3)], 0, vec![]),
            (vec![stage(&two, 1), stage(&ou, 3)], 0, vec![0]),
            (vec![stage(&two, 2), stage(&ou, 2)], 0, vec![1]),
            (vec![stage(&two, 0), stage(&ou, 0)], 2, vec![1]),
            (vec![stage(&two, 9), stage(&ou, 9)], 1, vec![0, 1]),
        ] {
            let limits =
                Limits { policies_per_target: 9, policy_size: 9, accounts_per_stage: most };
            let found = too_many(&stages, &tree, limits);
            assert_eq!(found.keys().copied().collect::<Vec<_>>(), want, "{found:?}");
        }
        let limits = Limits { policies_per_target: 9, policy_size: 9, accounts_per_stage: 4 };
        let why = too_many(&[stage(&ou, 9)], &tree, limits).remove(&0).unwrap();
        assert!(
            why.contains("binds 5 accounts") && why.contains("rollout.max_accounts allows 4"),
            "{why}"
        );
    }
}
