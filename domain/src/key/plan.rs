//! What is to be done so that each cell has its key: planned from the last scan, approved, then done by agents.

use super::policy::{self, Lets};
use super::{Key, NO_ROLE, NOT_FOUND, Wanted};
use crate::approval::Approval;
use crate::hash;
use crate::id::{AccountId, Region};
use crate::ledger::Cell;
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// What is to be done in one cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// A key is made, with its policy, its rotation and the alias.
    Create,
    /// The key that is there gets what it lacks.
    Mend,
    /// All is there.
    Nothing,
    /// It cannot be done, or is not ours to do.
    Blocked,
}

impl Change {
    /// The name in JSON and on screen.
    pub fn as_str(self) -> &'static str {
        match self {
            Change::Create => "create",
            Change::Mend => "mend",
            Change::Nothing => "nothing",
            Change::Blocked => "blocked",
        }
    }

    /// Whether AWS is to be changed.
    pub fn acts(self) -> bool {
        matches!(self, Change::Create | Change::Mend)
    }
}

/// One cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The account.
    pub account: AccountId,
    /// The region.
    pub region: Region,
    /// What is to be done.
    pub change: Change,
    /// The key that is there.
    pub key_arn: Option<String>,
    /// Whether its rotation is turned on.
    pub rotation: bool,
    /// The statements that its policy gets, by their `Sid`.
    pub statements: BTreeSet<String>,
    /// The SHA-256 of the policy that they are added to: only that one is replaced.
    pub policy_hash: String,
    /// When the cell was read.
    pub as_of: Option<Time>,
    /// Why it is blocked, or what people should know; else empty.
    pub why: String,
}

/// Plans one cell from what the last scan read of it.
pub fn item(cell: &Cell, region: Region, wanted: &Wanted) -> Item {
    let mut item = Item {
        account: cell.account.clone(),
        change: Change::Blocked,
        key_arn: None,
        rotation: false,
        statements: BTreeSet::new(),
        policy_hash: String::new(),
        as_of: cell.as_of,
        why: String::new(),
        region,
    };
    match judge(cell, &mut item, wanted) {
        Ok(change) => item.change = change,
        Err(why) => item.why = why,
    }
    item
}

fn judge(cell: &Cell, item: &mut Item, wanted: &Wanted) -> Result<Change, String> {
    if !cell.state.answered() {
        let because =
            if cell.reason.is_empty() { String::new() } else { format!(": {}", cell.reason) };
        return Err(format!("the cell is {}{because}", cell.state));
    }
    let unread = || "its key was not read: run `ringfence scan start --keys` for it".to_owned();
    let facts = cell.key.as_ref().ok_or_else(unread)?;
    if !wanted.was_asked(facts, &cell.account) {
        return Err(format!(
            "the last scan asked for {}, and kms.alias or kms.account has changed since: run `ringfence scan start --keys` for it",
            facts.alias
        ));
    }
    if cell.own && wanted.central.as_ref().is_none_or(|c| *c == cell.account) {
        return Err(NO_ROLE.to_owned());
    }
    let elsewhere = wanted.central.as_ref().filter(|c| **c != cell.account);
    let key = match (&facts.answer, elsewhere) {
        (Ok(key), _) => key,
        (Err(why), None) if why == NOT_FOUND => {
            item.rotation = true;
            return Ok(Change::Create);
        }
        (Err(_), _) => {
            return Err(facts.trouble(&cell.account, item.region.as_str()).unwrap_or_default());
        }
    };
    item.key_arn = Some(key.arn.clone());
    if let Some(trouble) = facts.trouble(&cell.account, item.region.as_str()) {
        return Err(trouble);
    }
    if elsewhere.is_some() {
        item.why = "a key of another account: it is usable as far as can be seen from here; its policy is not ours to read".to_owned();
        return Ok(Change::Nothing);
    }
    lacks(key, item)
}

/// What a usable key of the account itself lacks.
fn lacks(key: &Key, item: &mut Item) -> Result<Change, String> {
    let (Some(rotation), Some(policy)) = (&key.rotation, &key.policy) else {
        return Err(
            "its rotation and policy were not read: run `ringfence scan start --keys` for it"
                .to_owned(),
        );
    };
    let (rotates, facts) = match (rotation, policy) {
        (Ok(rotates), Ok(facts)) => (*rotates, facts),
        (Err(why), _) | (_, Err(why)) => {
            return Err(format!(
                "its rotation or policy could not be read ({why}); deploy/member-role.yaml with Keys=yes lets the role"
            ));
        }
    };
    if let Lets::Denied(why) = &facts.lets {
        return Err(format!("{why}, by a statement that is not ours to take out"));
    }
    item.rotation = !rotates;
    item.statements.clone_from(&facts.lacks);
    item.policy_hash.clone_from(&facts.hash);
    if facts.lets == Lets::ByIam && !facts.lacks.is_empty() {
        item.why = "it works today, by the account's IAM policies; with the statements it works without them".to_owned();
    }
    Ok(if item.rotation || !item.statements.is_empty() { Change::Mend } else { Change::Nothing })
}

/// The part that is hashed and approved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// `kp-` and 12 hex digits.
    pub id: String,
    /// Who made it, and so may not approve it.
    pub author: String,
    /// When.
    pub created_at: Time,
    /// The alias.
    pub alias: String,
    /// The role that is let in, by its name.
    pub role: String,
    /// The cells.
    pub items: Vec<Item>,
    /// Cells of the scope that the last scan did not answer for, and that are left out.
    pub left_out: usize,
}

/// A plan for keys with its approvals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPlan {
    /// What is approved.
    pub body: Body,
    /// The SHA-256 of the body.
    pub hash: String,
    /// Who agreed.
    pub approvals: Vec<Approval>,
    /// When and by whom it was last applied.
    pub applied: Option<(Time, String)>,
}

impl KeyPlan {
    /// Seals a body.
    pub fn new(body: Body) -> KeyPlan {
        let hash = hash::of(&body);
        KeyPlan { body, hash, approvals: Vec::new(), applied: None }
    }

    /// Whether the body is still what was hashed.
    pub fn intact(&self) -> bool {
        hash::of(&self.body) == self.hash
    }

    /// Cells in which AWS is to be changed.
    pub fn acting(&self) -> impl Iterator<Item = &Item> {
        self.body.items.iter().filter(|i| i.change.acts())
    }

    /// How many cells are so.
    pub fn count(&self, change: Change) -> usize {
        self.body.items.iter().filter(|i| i.change == change).count()
    }

    /// The plan as people approve it.
    pub fn text(&self) -> String {
        let body = &self.body;
        let mut out = format!(
            "Key plan {}  by {}  {}\nhash {}\nKeys behind {}: {} to create, {} to mend, {} in place, {} blocked\n",
            body.id,
            body.author,
            body.created_at,
            self.hash,
            body.alias,
            self.count(Change::Create),
            self.count(Change::Mend),
            self.count(Change::Nothing),
            self.count(Change::Blocked),
        );
        for item in &body.items {
            let (mark, what) = match item.change {
                Change::Create => ("+", "create"),
                Change::Mend => ("~", "mend"),
                Change::Nothing => ("=", "in place"),
                Change::Blocked => ("!", "blocked"),
            };
            let _ = writeln!(out, "\n{mark} {} {}: {what}", item.account, item.region);
            for line in lines(item, body) {
                let _ = writeln!(out, "    {line}");
            }
        }
        out.push_str(&self.notes());
        out
    }

    fn notes(&self) -> String {
        let mut out = String::new();
        let role = format!("arn:PARTITION:iam::ACCOUNT:role/{}", self.body.role);
        let statements = policy::statements_of(&role);
        if self.acting().any(|i| i.change == Change::Create || !i.statements.is_empty()) {
            let _ =
                writeln!(out, "\nThe statements, with each cell's partition, account and region:");
            for statement in statements {
                let _ = writeln!(out, "    {statement}");
            }
        }
        let new = self.count(Change::Create);
        if new > 0 {
            let _ = writeln!(
                out,
                "\nnote: {new} new keys cost about {new} USD a month, and more as they rotate (AWS KMS pricing); Ringfence never disables or deletes one"
            );
        }
        if self.body.left_out > 0 {
            let _ = writeln!(
                out,
                "\nnote: {} cells of this scope were not answered by the last scan, and are not in here: `ringfence scan start --keys --wait`, then plan again",
                self.body.left_out
            );
        }
        out
    }
}

fn lines(item: &Item, body: &Body) -> Vec<String> {
    let mut lines: Vec<String> = item.key_arn.iter().map(|arn| format!("key   {arn}")).collect();
    match item.change {
        Change::Create => lines.extend([
            format!(
                "1. create a symmetric key; its policy leaves it to the account, and lets role {} use it through RDS",
                body.role
            ),
            "2. turn its yearly rotation on".to_owned(),
            format!("3. point {} at it", body.alias),
        ]),
        Change::Mend => {
            if !item.statements.is_empty() {
                let names: Vec<&str> = item.statements.iter().map(String::as_str).collect();
                lines.push(format!(
                    "- add to its policy, for role {}: {}; all other statements stay",
                    body.role,
                    names.join(", ")
                ));
            }
            if item.rotation {
                lines.push("- turn its yearly rotation on".to_owned());
            }
        }
        Change::Nothing | Change::Blocked => {}
    }
    if !item.why.is_empty() {
        lines.push(item.why.clone());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::{KeyFacts, sample as key};
    use super::*;
    use crate::ledger::{CellState, RegionsSource};

    fn cell(answer: Result<Key, String>) -> Cell {
        let account = "111122223333".parse().unwrap();
        let key = Some(KeyFacts { alias: "alias/k".into(), answer });
        let pending = Cell::pending(account, "eu-west-1", RegionsSource::Account);
        Cell { state: CellState::Findings, key, ..pending }
    }

    fn planned(cell: &Cell, central: Option<&str>) -> Item {
        let wanted =
            Wanted { alias: "alias/k".into(), central: central.map(|c| c.parse().unwrap()) };
        item(cell, "eu-west-1".parse().unwrap(), &wanted)
    }

    #[test]
    fn what_is_missing_is_made_and_what_is_there_is_mended_or_left() {
        let no = || Lets::No("its policy does not let us".into());
        let unread = Key { rotation: None, ..key(true, Lets::Named, &[]) };
        let denied = Key { policy: Some(Err("AccessDenied".into())), ..unread.clone() };
        let denied = Key { rotation: Some(Ok(true)), ..denied };
        let off = Key { state: "Disabled".into(), ..key(true, Lets::Named, &[]) };
        for (cell, change, why) in [
            (cell(Err(NOT_FOUND.into())), Change::Create, ""),
            (cell(Err("AccessDeniedException".into())), Change::Blocked, "could not be read"),
            (
                Cell { own: true, ..cell(Err(NOT_FOUND.into())) },
                Change::Blocked,
                "no role to let in",
            ),
            (cell(Ok(key(true, Lets::Named, &[]))), Change::Nothing, ""),
            (cell(Ok(key(false, Lets::Named, &[]))), Change::Mend, ""),
            (cell(Ok(key(true, no(), &["A"]))), Change::Mend, ""),
            (
                cell(Ok(key(true, Lets::Denied("it denies us".into()), &[]))),
                Change::Blocked,
                "not ours to take out",
            ),
            (cell(Ok(key(true, Lets::ByIam, &["A"]))), Change::Mend, "works today"),
            (cell(Ok(unread)), Change::Blocked, "scan start --keys"),
            (cell(Ok(denied)), Change::Blocked, "Keys=yes"),
            (cell(Ok(off)), Change::Blocked, "enable-key"),
            (Cell { key: None, ..cell(Err("x".into())) }, Change::Blocked, "scan start --keys"),
            (
                Cell { state: CellState::Denied, ..cell(Err("x".into())) },
                Change::Blocked,
                "the cell is denied",
            ),
        ] {
            let item = planned(&cell, None);
            assert_eq!(item.change, change, "{item:?}");
            assert!(item.why.contains(why), "{why}: {item:?}");
        }
    }

    #[test]
    fn a_central_key_is_checked_and_never_made() {
        let central = Some("999988887777");
        let before = planned(&cell(Ok(key(true, Lets::Named, &[]))), central);
        assert!(before.why.contains("kms.account has changed since"), "{before:?}");
        let cell = |answer| {
            let mut cell = cell(answer);
            if let Some(facts) = &mut cell.key {
                facts.alias = "arn:aws:kms:eu-west-1:999988887777:alias/k".into();
            }
            cell
        };
        let item = planned(&cell(Err(NOT_FOUND.into())), central);
        assert_eq!(item.change, Change::Blocked);
        assert!(item.why.contains("999988887777's to make"), "{item:?}");
        let mut there = key(true, Lets::Named, &[]);
        there.arn = "arn:aws:kms:eu-west-1:999988887777:key/1".into();
        (there.rotation, there.policy) = (None, None);
        assert_eq!(planned(&cell(Ok(there.clone())), central).change, Change::Nothing);
        there.state = "PendingDeletion".into();
        assert_eq!(planned(&cell(Ok(there)), central).change, Change::Blocked);
        let mut home = cell(Err(NOT_FOUND.into()));
        home.key = home.key.map(|facts| KeyFacts { alias: "alias/k".into(), ..facts });
        let home = planned(&home, Some("111122223333"));
        assert_eq!(home.change, Change::Create, "in its own account it is made");
    }

    #[test]
    fn a_plan_says_what_is_done_and_is_bound_to_its_hash() {
        let cells = [
            cell(Err(NOT_FOUND.into())),
            cell(Ok(key(false, Lets::ByIam, &["RingfenceDescribe"]))),
            cell(Ok(key(true, Lets::Named, &[]))),
        ];
        let body = Body {
            id: "kp-1".into(),
            author: "ann".into(),
            created_at: Time(0),
            alias: "alias/k".into(),
            role: "R".into(),
            items: cells.iter().map(|c| planned(c, None)).collect(),
            left_out: 2,
        };
        let mut plan = KeyPlan::new(body);
        let text = plan.text();
        for want in [
            "1 to create, 1 to mend, 1 in place, 0 blocked",
            "3. point alias/k at it",
            "add to its policy, for role R: RingfenceDescribe; all other statements stay",
            "turn its yearly rotation on",
            "never disables or deletes",
            "\"kms:ViaService\":\"rds.REGION.amazonaws.com\"",
            "2 cells of this scope were not answered",
        ] {
            assert!(text.contains(want), "{want}: {text}");
        }
        assert!(plan.intact() && plan.acting().count() == 2);
        plan.body.items[0].rotation = false;
        assert!(!plan.intact());
    }
}
