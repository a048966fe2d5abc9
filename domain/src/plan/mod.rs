//! A plan: an immutable, hashed list of changes that people approve.

mod around;
mod away;
mod blockers;
mod checks;
mod estimate;
mod fence;
mod green;
mod isolation;
mod notes;
mod quota;
mod standing;
mod steps;
mod text;
mod wanted;

pub use around::proxied;
pub use checks::{Check, Verdict};
pub use estimate::{Estimate, Guess, Past};
pub use fence::{fenced, unfenced};
pub use quota::fit;
pub use wanted::{Jobs, Strategy, Wanted};

use checks::Checks;

use crate::approval::Approval;
use crate::far::{self, Far};
use crate::finding::{Finding, Kind, Resource};
use crate::hash;
use crate::id::{AccountId, Region};
use crate::ledger::Cell;
use crate::org::AccountState;
use crate::remediation::{Remediation, Swap, held_name, name_of_twin, twin_name};
use crate::time::{Span, Time};
use crate::window::Window;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One database in a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The finding.
    pub finding: String,
    /// The account.
    pub account: AccountId,
    /// The region.
    pub region: Region,
    /// Instance or cluster.
    pub kind: Kind,
    /// The database as planned: what the twin must equal.
    pub resource: Resource,
    /// Its fingerprint: if a fresh read gives another, the plan is stale.
    pub fingerprint: String,
    /// The twin's name.
    pub twin: String,
    /// The key's ARN, resolved from the alias in this region.
    pub key_arn: Option<String>,
    /// The same in the other regions that it has replicas in.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub far_keys: BTreeMap<Region, String>,
    /// How the twin takes the original's place; `None` where it stays beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swap: Option<Swap>,
    /// When its work may begin; none is any time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Window>,
    /// What will be done, in order.
    pub steps: Vec<String>,
    /// What was looked at, and what came of it.
    #[serde(default)]
    pub checks: Vec<Check>,
    /// What it will take; `None` if it cannot be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimate: Option<Estimate>,
}

/// The part of a plan that is hashed and approved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// `pl-` and 12 hex digits.
    pub id: String,
    /// Who made it, and so may not approve it.
    pub author: String,
    /// When.
    pub created_at: Time,
    /// The control.
    pub control: String,
    /// The databases.
    pub items: Vec<Item>,
}

/// A plan with its approvals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What is approved.
    pub body: Body,
    /// The SHA-256 of the body.
    pub hash: String,
    /// Who agreed.
    pub approvals: Vec<Approval>,
    /// When and by whom it was applied.
    pub applied: Option<(Time, String)>,
}

impl Plan {
    /// Seals a body.
    pub fn new(body: Body) -> Plan {
        Plan { hash: hash::of(&body), body, approvals: Vec::new(), applied: None }
    }

    /// Whether the body is still what was hashed: a store that was edited by hand shows here.
    pub fn intact(&self) -> bool {
        hash::of(&self.body) == self.hash
    }

    /// The items that can be done.
    pub fn ready(&self) -> impl Iterator<Item = &Item> {
        self.body.items.iter().filter(|i| i.ready())
    }

    /// `draft`, `approved` or `applied`.
    pub fn state(&self, needed: usize) -> &'static str {
        let missing =
            crate::approval::missing(&self.body.author, &self.hash, &self.approvals, needed);
        match (&self.applied, missing) {
            (Some(_), _) => "applied",
            (None, 0) => "approved",
            (None, _) => "draft",
        }
    }
}

/// Why a plan is stale: what a fresh read says of its items, in words; empty if it still holds.
pub fn stale(plan: &Plan, findings: &[Finding], now: Time, max_age: Span) -> Vec<String> {
    let mut why = Vec::new();
    let open = findings.iter().filter(|f| f.state == crate::finding::FindingState::Open);
    let fresh =
        |f: &Finding| far::whole(&f.resource, &f.region, far::of(f, open.clone()).into_iter());
    let age = now.since(plan.body.created_at);
    if age > max_age {
        why.push(format!("the plan is {age} old, and remediation.plan_max_age is {max_age}"));
    }
    for item in plan.ready() {
        let name = format!("{} {} {}", item.account, item.region, item.resource.name());
        match findings.iter().find(|f| f.id == item.finding) {
            None => why.push(format!("{name}: the finding is gone")),
            Some(f) if f.state != crate::finding::FindingState::Open => {
                why.push(format!("{name}: no longer unencrypted, or no longer there"));
            }
            Some(f) if fresh(f).fingerprint() != item.fingerprint => {
                why.push(format!("{name}: changed since the plan was made"));
            }
            Some(_) => {}
        }
    }
    why
}

/// The names of all databases that a remediation of this resource makes, the twin first.
pub fn names(resource: &Resource) -> Vec<String> {
    let mut names = vec![name_of_twin(resource)];
    names.extend(resource.dependents().iter().map(|m| twin_name(&m.id, &m.resource_id)));
    names
}

/// The names that originals get when their twins take theirs, in the same order.
fn held_names(resource: &Resource) -> Vec<String> {
    let mut names = vec![held_name(resource.name(), resource.resource_id())];
    names.extend(resource.dependents().iter().map(|m| held_name(&m.id, &m.resource_id)));
    names
}

/// What twins of a blue/green deployment are called until its switchover: AWS ends the name with what it likes (RDS
/// guide, "Overview of Amazon RDS Blue/Green Deployments").
fn green_name(name: &str) -> String {
    format!("{name}-green-*")
}

impl Item {
    /// The names that must be free for it in one of its regions.
    pub fn new_names(&self, region: &Region) -> Vec<String> {
        let all = match Strategy::of(self.swap.as_ref()) {
            Strategy::SideBySide => names(&self.resource),
            Strategy::Swap => [names(&self.resource), held_names(&self.resource)].concat(),
            Strategy::BlueGreen => Vec::new(), // AWS finds names that are free
        };
        let here = |id: &&String| far::region(id).as_ref().unwrap_or(&self.region) == region;
        all.iter().filter(here).map(|id| far::name(id).to_owned()).collect()
    }

    /// The regions that it has databases in, its own first.
    pub fn regions(&self) -> Vec<Region> {
        std::iter::once(self.region.clone()).chain(self.resource.far_regions()).collect()
    }

    /// The key of one of them.
    pub fn key_in(&self, region: &Region) -> Option<&String> {
        match *region == self.region {
            true => self.key_arn.as_ref(),
            false => self.far_keys.get(region),
        }
    }

    /// Whether it can be done.
    pub fn ready(&self) -> bool {
        self.checks.iter().all(|c| c.verdict != Verdict::Block)
    }

    /// What the checks of that verdict say.
    pub fn texts(&self, verdict: Verdict) -> impl Iterator<Item = &String> {
        self.checks.iter().filter(move |c| c.verdict == verdict).map(|c| &c.text)
    }

    /// Adds a check that was made of all items together.
    pub fn add(&mut self, check: Check) {
        self.checks.push(check);
        if !self.ready() {
            self.steps.clear();
            self.estimate = None;
        }
    }
}

/// Plans one finding, given its cell, its trees in other regions with theirs, and its account's state.
pub fn item(
    finding: &Finding,
    cell: Option<&Cell>,
    far: &[Far<'_>],
    account: &AccountState,
    plan: &str,
    wanted: &Wanted,
) -> Item {
    let resource = far::whole(&finding.resource, &finding.region, far.iter().map(|f| f.finding));
    let blue_green = wanted.strategy == Strategy::BlueGreen;
    let twin = match blue_green {
        true => green_name(resource.name()),
        false => name_of_twin(&resource),
    };
    let key = cell.and_then(|c| c.key.as_ref());
    let mut checks = Checks::default();
    standing::see(finding, account, &twin, &mut checks);
    standing::keyed(finding, cell, &mut checks);
    let made = names(&resource);
    match &resource {
        Resource::Instance { instance, replicas } => {
            blockers::tree(instance, replicas, &mut checks);
        }
        Resource::Cluster { cluster, members } => {
            blockers::cluster(cluster, members, &mut checks);
        }
        Resource::Snapshot { snapshot, of_cluster, shared } => {
            blockers::snapshot(snapshot, *of_cluster, shared, &mut checks);
        }
    }
    let groups = cell.and_then(|c| c.groups.as_ref());
    let swap = wanted::swap(&resource, groups, wanted);
    checks.block("strategy", swap.as_ref().err().cloned());
    let mut swap = swap.unwrap_or_default();
    isolation::see(swap.as_ref(), wanted::vpc(&resource), groups, &mut checks);
    let windows = wanted::windows(&resource, &wanted.window);
    checks.block("window", windows.as_ref().err().cloned());
    green::see(finding, wanted, &mut checks);
    checks.block("strategy", away::no_deployment(&resource).filter(|_| blue_green));
    let held = if swap.is_some() { held_names(&resource) } else { Vec::new() };
    let taken = |name: &&String| cell.is_some_and(|c| c.has(finding.kind, name));
    let text = |name: &String| format!("the name {name} is taken in {}", finding.region);
    checks.block("names", standing::unread(finding, cell));
    let all = made.iter().chain(&held);
    let all = all.filter(|_| finding.held_by.is_none() && !blue_green);
    checks.block("names", all.filter(taken).map(text));
    if finding.kind != Kind::Snapshot {
        let named = cell.and_then(|c| c.around.as_ref());
        let swaps = wanted.strategy != Strategy::SideBySide;
        around::around(&resource, named, swaps, &mut checks);
        green::part_of(&resource, named, wanted.strategy, &mut checks);
        around::iam(&resource, named, &mut checks);
    }
    away::see(finding, far, wanted, swap.as_mut(), &mut checks);
    wanted::jobs(&resource, wanted.jobs, &mut checks);
    let ready = checks.ready();
    Item {
        finding: finding.id.clone(),
        account: finding.account.clone(),
        region: finding.region.clone(),
        kind: finding.kind,
        fingerprint: resource.fingerprint(),
        key_arn: key.and_then(|k| k.answer.as_ref().ok()).map(|k| k.arn.clone()),
        far_keys: away::keys(&finding.region, far),
        steps: if ready {
            steps::of(&resource, &Remediation::id_of(plan, &finding.id), swap.as_ref(), &made)
        } else {
            Vec::new()
        },
        estimate: ready.then(|| Estimate::new(&resource, blue_green, &wanted.past, wanted.guess)),
        checks: checks.0,
        twin,
        swap,
        windows: windows.unwrap_or_default(),
        resource,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::around::Around;
    use crate::finding::Detected;
    use crate::key::policy::Lets;
    use crate::key::{Key, KeyFacts};
    use crate::ledger::RegionsSource;
    use crate::rds::Instance;
    use crate::remediation::sample;
    use expect_test::expect;

    fn finding(resource: Resource) -> Finding {
        let kind = match resource {
            Resource::Instance { .. } => Kind::Instance,
            Resource::Cluster { .. } => Kind::Cluster,
            Resource::Snapshot { .. } => Kind::Snapshot,
        };
        let detected = Detected { kind, resource, config: None };
        Finding::seen(
            None,
            "rds-encryption",
            &sample::account(),
            &sample::region(),
            detected,
            false,
            Time(0),
        )
    }

    fn single(instance: Instance) -> Resource {
        Resource::Instance { instance, replicas: vec![] }
    }

    pub(super) fn cell() -> Cell {
        let key = crate::key::sample(true, Lets::Named, &[]);
        // A scan of an older version read no policy.
        let key = Key { rotation: None, policy: None, ..key };
        let facts = KeyFacts { alias: "alias/k".into(), answer: Ok(key) };
        let pending = Cell::pending(sample::account(), "eu-west-1", RegionsSource::Account);
        let none = || Ok(Default::default());
        let around = Around {
            proxies: none(),
            subscriptions: none(),
            alarms: none(),
            policies: none(),
            secrets: none(),
            deployments: none(),
        };
        let names = vec!["orders".into()];
        let snapshots = Some(Ok(vec!["monthly".into()]));
        Cell { key: Some(facts), names, around: Some(around), snapshots, ..pending }
    }

    pub(super) fn planned(resource: Resource) -> Item {
        let wanted = Wanted {
            guess: Guess { base: Span::seconds(1_800), per_gib: Span::seconds(30) },
            ..Wanted::default()
        };
        item(&finding(resource), Some(&cell()), &[], &AccountState::Active, "pl-1", &wanted)
    }

    fn blockers(item: &Item) -> String {
        item.texts(Verdict::Block).cloned().collect::<Vec<_>>().join("; ")
    }

    fn plan(resource: Resource) -> Plan {
        let item = planned(resource);
        Plan::new(Body {
            id: "pl-1".into(),
            author: "ann".into(),
            created_at: Time(0),
            control: "rds-encryption".into(),
            items: vec![item],
        })
    }

    #[test]
    fn the_text_says_what_will_be_done() {
        let plan = plan(single(sample::instance("orders")));
        let text = plan.text();
        let text = text.split_once("\n\n").unwrap().1;
        expect![[r#"
            + instance orders  postgres  111122223333  eu-west-1
                twin  encrypted-orders
                key   arn:aws:kms:eu-west-1:111122223333:key/1
                1. snapshot orders as ringfence-rem-09ae3a030b09-plain
                2. copy it, encrypted under the key, to ringfence-rem-09ae3a030b09-enc
                3. restore it as encrypted-orders, with every setting of orders
                4. compare encrypted-orders with orders field by field; set deletion protection last
                5. delete ringfence-rem-09ae3a030b09-enc and ringfence-rem-09ae3a030b09-plain
                takes about 1h20m to the verified twin (a guess: too few were made here yet); 100 GiB and 1 instance more while both stand
                22 of 23 checks passed
                warning: orders: the copy is alive: pg_cron jobs, subscriptions and foreign tables of the original run in it too

            For every twin:
              - the original is not touched: the twin holds the data of the moment of the snapshot, and later writes are not in it
              - point-in-time history stays with the original, unencrypted
              - not looked at: what is inside secrets, and whatever else knows its address or its resource id, which is new for a twin
        "#]]
        .assert_eq(text);
    }

    #[test]
    fn blockers_are_named() {
        let check = |change: &dyn Fn(&mut Instance), want: &str| {
            let mut instance = sample::instance("orders");
            change(&mut instance);
            let plan = plan(single(instance));
            let blockers = blockers(&plan.body.items[0]);
            assert!(blockers.contains(want), "want {want}, have {blockers:?}");
            assert_eq!(plan.ready().count(), 0);
            assert!(plan.body.items[0].steps.is_empty());
        };
        check(&|i| i.replica_source = Some("main".into()), "read replica of main");
        check(&|i| i.engine = "custom-oracle-ee".into(), "RDS Custom");
        check(&|i| i.settings.db_instance_class = "db.t2.micro".into(), "no encryption at rest");
        check(&|i| i.status = "stopped".into(), "is stopped");
        check(&|i| i.pending = vec!["MasterUserPassword".into()], "MasterUserPassword is pending");
        check(
            &|i| drop(i.foreign.insert("TdeCredentialArn".into(), "x".into())),
            "TdeCredentialArn = x cannot",
        );
    }

    #[test]
    fn a_taken_name_a_missing_key_and_a_closing_account_block() {
        let f = finding(single(sample::instance("orders")));
        let mut taken = cell();
        taken.names.push("encrypted-orders".into());
        let mut keyless = cell();
        keyless.key = None;
        for (cell, state, want) in [
            (Some(&taken), AccountState::Active, "name encrypted-orders is taken"),
            (Some(&keyless), AccountState::Active, "was not read"),
            (None, AccountState::Active, "was not read"),
            (Some(&cell()), AccountState::PendingClosure, "never written to"),
        ] {
            let blockers = blockers(&item(&f, cell, &[], &state, "pl-1", &Wanted::default()));
            assert!(blockers.contains(want), "want {want}, have {blockers:?}");
        }
    }

    #[test]
    fn staleness_is_a_changed_world_or_age() {
        let instance = sample::instance("orders");
        let plan = plan(single(instance.clone()));
        let fresh = finding(single(instance.clone()));
        let mut other = instance;
        other.settings.backup_retention_period = 1;
        let changed = finding(single(other));
        let day = Span::hours(24);
        for (findings, now, want) in [
            (vec![fresh.clone()], Time(1), None),
            (vec![changed], Time(1), Some("changed since")),
            (vec![fresh.clone().resolved(Time(1))], Time(1), Some("no longer unencrypted")),
            (vec![], Time(1), Some("gone")),
            (vec![fresh], Time(0).plus(Span::hours(25)), Some("old")),
        ] {
            let why = stale(&plan, &findings, now, day).join("; ");
            assert_eq!(why.is_empty(), want.is_none(), "{why}");
            assert!(why.contains(want.unwrap_or_default()), "{why}");
        }
    }

    #[test]
    fn an_edited_plan_is_noticed() {
        let mut plan = plan(single(sample::instance("orders")));
        assert!(plan.intact());
        plan.body.items[0].twin = "other".into();
        assert!(!plan.intact());
    }
}
