//! The keys of a cell, and what depends on each.

use super::Key;
use super::Wanted;
use super::policy::Lets;
use crate::ledger::Cell;
use std::collections::BTreeMap;

/// Databases by the key that they are under.
pub type Under = BTreeMap<String, Vec<String>>;

/// One key of one cell, as `key list` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its ARN; empty where there is none behind the alias.
    pub arn: String,
    /// Whether it is the one behind the alias.
    pub chosen: bool,
    /// Its state, if it was read; of one that is not behind the alias it is not.
    pub state: Option<String>,
    /// Whether it rotates, if that was read.
    pub rotates: Option<bool>,
    /// What lets the role in: `named`, `by-iam`, `by-grant`, or `no`, `denied`, `unclear`; if its policy was read.
    pub lets: Option<&'static str>,
    /// What is wrong with it; empty if nothing is, as far as it was read.
    pub trouble: String,
    /// The databases under it.
    pub databases: Vec<String>,
}

/// The keys of a cell: the one behind the alias first, then those that databases are under.
pub fn standing(cell: &Cell, wanted: &Wanted) -> Vec<Standing> {
    let mut under = cell.under.clone();
    let mut all = Vec::new();
    if let Some(facts) = cell.key.as_ref().filter(|facts| wanted.was_asked(facts, &cell.account)) {
        let key = facts.answer.as_ref().ok();
        let arn = key.map(|k| k.arn.clone()).unwrap_or_default();
        let shut = facts.shut_out().filter(|(blocks, _)| *blocks).map(|(_, why)| why);
        let databases = under.remove(&arn).unwrap_or_default();
        let trouble = facts.trouble(&cell.account, &cell.region).map(|why| match databases.len() {
            0 => why,
            n => format!("{n} databases depend on it: {why}"),
        });
        all.push(Standing {
            chosen: true,
            state: key.map(|k| k.state.clone()),
            rotates: key.and_then(|k| k.rotation.clone()).and_then(Result::ok),
            lets: key.and_then(word),
            trouble: trouble.or(shut).unwrap_or_default(),
            databases,
            arn,
        });
    }
    all.extend(under.into_iter().map(|(arn, databases)| Standing {
        arn,
        chosen: false,
        state: None,
        rotates: None,
        lets: None,
        trouble: String::new(),
        databases,
    }));
    all
}

fn word(key: &Key) -> Option<&'static str> {
    let facts = key.policy.as_ref()?.as_ref().ok()?;
    Some(match facts.lets {
        _ if key.has_grants() => "by-grant",
        Lets::Named => "named",
        Lets::ByIam => "by-iam",
        Lets::No(_) => "no",
        Lets::Denied(_) => "denied",
        Lets::Unclear(_) => "unclear",
    })
}

#[cfg(test)]
mod tests {
    use super::super::{KeyFacts, NOT_FOUND, sample};
    use super::*;
    use crate::ledger::{CellState, RegionsSource};

    fn cell() -> Cell {
        let account = "111122223333".parse().unwrap();
        let key = sample(true, Lets::ByIam, &["A"]);
        let key = Some(KeyFacts { alias: "alias/k".into(), answer: Ok(key) });
        let pending = Cell::pending(account, "eu-west-1", RegionsSource::Account);
        Cell { state: CellState::Findings, key, ..pending }
    }

    #[test]
    fn keys_are_listed_with_what_depends_on_them() {
        let mut cell = cell();
        let own = "arn:aws:kms:eu-west-1:111122223333:key/1";
        cell.under = BTreeMap::from([
            (own.to_owned(), vec!["encrypted-orders".to_owned()]),
            ("arn:aws:kms:eu-west-1:111122223333:key/2".to_owned(), vec!["old".to_owned()]),
        ]);
        let wanted = Wanted { alias: "alias/k".into(), central: None };
        let standing = |cell: &Cell| standing(cell, &wanted);
        let all = standing(&cell);
        assert_eq!(all.len(), 2);
        assert!(all[0].chosen && all[0].databases == ["encrypted-orders"]);
        assert_eq!((all[0].lets, all[0].rotates), (Some("by-iam"), Some(true)));
        assert_eq!((all[1].chosen, all[1].state.clone()), (false, None));
        cell.key = Some(KeyFacts { alias: "alias/k".into(), answer: Err(NOT_FOUND.into()) });
        assert!(standing(&cell)[0].trouble.contains("key ensure"));
        assert_eq!(standing(&cell).len(), 3, "and those that databases are under");
    }
}
