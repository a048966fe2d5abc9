//! The organization rules of AWS Config that watch a control: planned, approved, put in place region by
//! region, and checked.
//!
//! PutOrganizationConfigRule is "per Region" and replaces the rule of that name (Config API reference), so a
//! put that was lost on the way may be repeated, and one that was not ours must not be.

use crate::approval::{self, Approval};
use crate::hash;
use crate::id::Region;
use crate::opinion::Rule;
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// What an organization rule is, as far as we say so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The managed rule's identifier; empty of a rule with code of its own.
    pub identifier: String,
    /// Accounts that it leaves out.
    pub excluded: BTreeSet<String>,
    /// Parameters and scopes, by which it judges more or fewer resources than all; ours has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub narrowed: String,
}

/// What is to be done about one rule in one region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It is not there.
    Create,
    /// It is there, and leaves out other accounts.
    Update,
    /// It is there, under our name or another.
    Nothing,
    /// It cannot be put there.
    Blocked,
}

impl Change {
    /// The name in JSON and on screen.
    pub fn as_str(self) -> &'static str {
        match self {
            Change::Create => "create",
            Change::Update => "update",
            Change::Nothing => "nothing",
            Change::Blocked => "blocked",
        }
    }

    /// Whether AWS is to be changed.
    pub fn acts(self) -> bool {
        matches!(self, Change::Create | Change::Update)
    }
}

/// One rule in one region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The region.
    pub region: Region,
    /// The managed rule.
    pub rule: Rule,
    /// Its name in the organization.
    pub name: String,
    /// What was there under that name when it was planned.
    pub before: Option<Found>,
    /// What is to be done.
    pub change: Change,
    /// What an update changes, or why it is blocked; else empty.
    pub why: String,
}

impl Item {
    /// A rule that cannot be deployed in a region.
    pub fn blocked(region: &Region, rule: Rule, why: String) -> Item {
        let (name, before, change) = (name_of(rule), None, Change::Blocked);
        Item { region: region.clone(), rule, name, before, change, why }
    }

    /// Plans one rule in one region, given the organization's rules there.
    pub fn plan(
        region: &Region,
        rule: Rule,
        excluded: &BTreeSet<String>,
        there: &BTreeMap<String, Found>,
    ) -> Item {
        let wanted = wanted(rule, excluded);
        let ours = name_of(rule);
        let other = there.iter().find(|(_, found)| **found == wanted).map(|(name, _)| name);
        let (name, change) = match (there.get(&ours), other) {
            (Some(found), _) if *found == wanted => (ours, Change::Nothing),
            (Some(found), _) if *found == Found { excluded: found.excluded.clone(), ..wanted } => {
                (ours, Change::Update)
            }
            (Some(found), _) => {
                let why = match found.narrowed.as_str() {
                    "" => {
                        "a rule of this name judges something else, and is not touched".to_owned()
                    }
                    narrowed => format!("a rule of this name has {narrowed}, and is not touched"),
                };
                return Item::blocked(region, rule, why);
            }
            // Twice the same rule would be judged, and paid for, twice.
            (None, Some(name)) => (name.clone(), Change::Nothing),
            (None, None) => (ours, Change::Create),
        };
        let before = there.get(&name).cloned();
        let why = match (change, &before) {
            (Change::Update, Some(before)) => {
                let [now, then] = [&before.excluded, excluded].map(|all| match all.is_empty() {
                    true => "no account".to_owned(),
                    false => all.iter().cloned().collect::<Vec<_>>().join(", "),
                });
                format!("it leaves out {now}, and will leave out {then}")
            }
            _ => String::new(),
        };
        Item { region: region.clone(), rule, name, before, change, why }
    }

    /// Its key in [`Deployment::outcomes`].
    pub fn key(&self) -> String {
        format!("{}/{}", self.region, self.name)
    }

    /// What to do now that the rule was read again: put it, or nothing where it is as wanted already
    /// (by a put whose answer was lost).
    ///
    /// # Errors
    /// The rule is neither what it was nor what is wanted: somebody else changed it.
    pub fn now(&self, excluded: &BTreeSet<String>, found: Option<&Found>) -> Result<bool, String> {
        if found == Some(&wanted(self.rule, excluded)) {
            return Ok(false);
        }
        if found == self.before.as_ref() {
            return Ok(true);
        }
        Err("it is no longer what it was when this was planned: plan again".to_owned())
    }
}

/// The name that we give an organization rule.
pub fn name_of(rule: Rule) -> String {
    format!("ringfence-{}", rule.as_str())
}

fn wanted(rule: Rule, excluded: &BTreeSet<String>) -> Found {
    let identifier = rule.identifier().to_owned();
    Found { identifier, excluded: excluded.clone(), narrowed: String::new() }
}

/// The part that is hashed and approved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// `de-` and 12 hex digits.
    pub id: String,
    /// Who made it, and so may not approve it.
    pub author: String,
    /// When.
    pub created_at: Time,
    /// The control.
    pub control: String,
    /// Accounts that the rules leave out.
    pub excluded: BTreeSet<String>,
    /// The rules, region by region.
    pub items: Vec<Item>,
}

/// What came of one item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is about to be put: after a crash, nobody knows whether it was.
    Begun,
    /// AWS took it, or had it.
    Put,
    /// Not, and why.
    Failed(String),
}

/// A deployment with its approvals and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// What is approved.
    pub body: Body,
    /// The SHA-256 of the body.
    pub hash: String,
    /// Who agreed.
    pub approvals: Vec<Approval>,
    /// When and by whom it was last applied.
    pub applied: Option<(Time, String)>,
    /// By the key of each item that was worked on.
    pub outcomes: BTreeMap<String, Outcome>,
}

impl Deployment {
    /// Seals a body.
    pub fn new(body: Body) -> Deployment {
        let hash = hash::of(&body);
        Deployment { body, hash, approvals: Vec::new(), applied: None, outcomes: BTreeMap::new() }
    }

    /// Whether the body is still what was hashed.
    pub fn intact(&self) -> bool {
        hash::of(&self.body) == self.hash
    }

    /// Items that change something in AWS.
    pub fn acting(&self) -> impl Iterator<Item = &Item> {
        self.body.items.iter().filter(|i| i.change.acts())
    }

    /// Items that do, and are not done.
    pub fn left(&self) -> Vec<Item> {
        let open = |i: &&Item| self.outcomes.get(&i.key()) != Some(&Outcome::Put);
        self.acting().filter(open).cloned().collect()
    }

    /// How many items failed.
    pub fn failed(&self) -> usize {
        self.outcomes.values().filter(|o| matches!(o, Outcome::Failed(_))).count()
    }

    /// `draft`, `approved`, `applying` (or stopped half-way), `applied`.
    pub fn state(&self, needed: usize) -> &'static str {
        let (by, hash) = (&self.body.author, &self.hash);
        match (self.applied.is_some(), self.left().is_empty()) {
            (true, true) => "applied",
            (true, false) => "applying",
            (false, _) if approval::missing(by, hash, &self.approvals, needed) == 0 => "approved",
            (false, _) => "draft",
        }
    }

    /// The deployment as people approve it.
    pub fn text(&self) -> String {
        let body = &self.body;
        let count = |change| body.items.iter().filter(|i| i.change == change).count();
        let mut out = format!(
            "Deployment {}  by {}  {}\nhash {}\nAWS Config organization rules of {}: {} to create, {} to update, {} in place, {} blocked\n",
            body.id,
            body.author,
            body.created_at,
            self.hash,
            body.control,
            count(Change::Create),
            count(Change::Update),
            count(Change::Nothing),
            count(Change::Blocked),
        );
        let mut groups: BTreeMap<(Change, &str, Rule, &str), Vec<&str>> = BTreeMap::new();
        for item in &body.items {
            let group = groups.entry((item.change, &item.name, item.rule, &item.why)).or_default();
            group.push(item.region.as_str());
        }
        for ((change, name, rule, why), regions) in groups {
            let (mark, what) = match change {
                Change::Create => ("+", "create"),
                Change::Update => ("~", "update"),
                Change::Nothing => ("=", "in place"),
                Change::Blocked => ("!", "blocked"),
            };
            let _ = writeln!(out, "\n{mark} {name} ({}): {what}", rule.identifier());
            let _ = writeln!(out, "    in {}", regions.join(", "));
            if !why.is_empty() {
                let _ = writeln!(out, "    {why}");
            }
        }
        if !body.excluded.is_empty() {
            let all: Vec<&str> = body.excluded.iter().map(String::as_str).collect();
            let _ = writeln!(out, "\nleaves out {}", all.join(", "));
        }
        let _ = writeln!(
            out,
            "\nnote: accounts without a configuration recorder cannot take the rules; AWS tries new ones for 7 hours\nnote: AWS Config charges for each evaluation in each account and region"
        );
        for (key, outcome) in &self.outcomes {
            if let Outcome::Failed(why) = outcome {
                let _ = writeln!(out, "! {key}: {why}");
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule::RdsStorageEncrypted;

    fn found(identifier: &str, excluded: &[&str]) -> Found {
        let excluded = excluded.iter().map(|e| (*e).to_owned()).collect();
        Found { identifier: identifier.to_owned(), excluded, narrowed: String::new() }
    }

    fn plan(there: &[(&str, Found)]) -> Item {
        let there = there.iter().map(|(n, f)| ((*n).to_owned(), f.clone())).collect();
        Item::plan(&"eu-west-1".parse().unwrap(), RULE, &BTreeSet::new(), &there)
    }

    #[test]
    fn what_is_there_is_kept_and_what_is_not_ours_is_not_touched() {
        let ours = "ringfence-rds-storage-encrypted";
        let same = || found("RDS_STORAGE_ENCRYPTED", &[]);
        let narrow = || Found { narrowed: "the tag prod".into(), ..same() };
        for (there, name, change) in [
            (vec![], ours, Change::Create),
            (vec![(ours, same())], ours, Change::Nothing),
            (vec![("theirs", same())], "theirs", Change::Nothing),
            (vec![("theirs", found("RDS_STORAGE_ENCRYPTED", &["1"]))], ours, Change::Create),
            (vec![(ours, found("RDS_STORAGE_ENCRYPTED", &["1"]))], ours, Change::Update),
            (vec![(ours, found("", &[]))], ours, Change::Blocked),
            (vec![(ours, narrow())], ours, Change::Blocked),
            (vec![("theirs", narrow())], ours, Change::Create),
            (vec![(ours, found("IAM_X", &[])), ("theirs", same())], ours, Change::Blocked),
        ] {
            let item = plan(&there);
            assert_eq!((item.name.as_str(), item.change), (name, change), "{there:?}");
        }
    }

    #[test]
    fn a_rule_is_put_only_over_what_was_planned() {
        let (item, none) = (plan(&[]), BTreeSet::new());
        assert_eq!(item.now(&none, None), Ok(true));
        assert_eq!(item.now(&none, Some(&found("RDS_STORAGE_ENCRYPTED", &[]))), Ok(false));
        assert!(item.now(&none, Some(&found("RDS_STORAGE_ENCRYPTED", &["1"]))).is_err());
        let ours = "ringfence-rds-storage-encrypted";
        let item = plan(&[(ours, found("RDS_STORAGE_ENCRYPTED", &["1"]))]);
        assert_eq!(item.now(&none, item.before.as_ref()), Ok(true));
        assert!(item.now(&none, None).is_err(), "somebody deleted it");
    }

    #[test]
    fn a_deployment_is_done_when_all_of_it_is() {
        let item = plan(&[]);
        let key = item.key();
        let body = Body {
            id: "de-1".into(),
            author: "ann".into(),
            created_at: Time(0),
            control: "rds-encryption".into(),
            excluded: BTreeSet::new(),
            items: vec![item],
        };
        let mut deployment = Deployment::new(body);
        assert_eq!((deployment.state(1), deployment.state(0)), ("draft", "approved"));
        deployment.applied = Some((Time(1), "ann".into()));
        for (outcome, state, failed) in [
            (Outcome::Begun, "applying", 0),
            (Outcome::Failed("AccessDenied".into()), "applying", 1),
            (Outcome::Put, "applied", 0),
        ] {
            deployment.outcomes.insert(key.clone(), outcome);
            assert_eq!((deployment.state(1), deployment.failed()), (state, failed));
        }
        assert!(deployment.intact() && deployment.text().contains("1 to create"));
        deployment.body.excluded.insert("1".into());
        assert!(!deployment.intact());
    }
}
