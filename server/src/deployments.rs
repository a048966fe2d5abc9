//! AWS Config's organization rules that watch a control: planned, approved, put in place, checked.
//!
//! Calls about the organization as a whole, so they are the server's, with its own credentials: those of
//! the management account or of the one that it delegated Config to.

use crate::app::{App, Fault, changed, now, refused};
use crate::store::{Kind, Row};
use crate::{freezes, plans};
use futures::future::join_all;
use ringfence_aws::MemberStatus;
use ringfence_domain::audit::Actor;
use ringfence_domain::cloud::{CloudError, ErrorClass};
use ringfence_domain::controls::ALL;
use ringfence_domain::deployment::{Body, Change, Deployment, Found, Item, Outcome, name_of};
use ringfence_domain::id::{AccountId, Region};
use ringfence_domain::ledger::CellState;
use ringfence_domain::opinion::Rule;
use ringfence_domain::time::Span;
use std::collections::{BTreeMap, BTreeSet};

/// What is to be deployed.
pub struct Wanted {
    /// The control.
    pub control: String,
    /// Only these regions; empty means every one that an account has enabled.
    pub regions: Vec<Region>,
    /// Accounts that the rules leave out.
    pub excluded: Vec<AccountId>,
}

/// How one rule stands in one region.
pub struct Standing {
    /// The region.
    pub region: Region,
    /// The managed rule.
    pub rule: Rule,
    /// The organization rule's name; empty if there is none.
    pub name: String,
    /// AWS's word; `absent` without a rule, `unread` where AWS did not answer.
    pub status: String,
    /// Why it is not well; empty if it is.
    pub why: String,
    /// Accounts that have it.
    pub accounts: usize,
    /// Accounts that do not.
    pub failed: Vec<MemberStatus>,
    /// Accounts that it leaves out.
    pub excluded: usize,
    /// Whether it is in place everywhere and judges everything.
    pub well: bool,
}

/// AWS's words for a rule that is there; `DELETE_SUCCESSFUL` is none of them.
fn in_place(status: &str) -> bool {
    matches!(status, "CREATE_SUCCESSFUL" | "UPDATE_SUCCESSFUL")
}

fn known(control: &str) -> Result<(), Fault> {
    if ALL.iter().any(|c| c.id() == control) {
        return Ok(());
    }
    let names: Vec<&str> = ALL.iter().map(|c| c.id()).collect();
    Err(Fault::Invalid(format!("control: `{control}` is none; there is {}", names.join(", "))))
}

/// The regions that are meant: those named, else every one that some account of the ledger has enabled.
async fn regions(app: &App, named: &[Region]) -> Result<Vec<Region>, Fault> {
    if !named.is_empty() {
        let named: BTreeSet<Region> = named.iter().cloned().collect();
        return Ok(named.into_iter().collect());
    }
    let off = format!("cell/{}", CellState::RegionOff);
    let counts = app.store.tally_by_region(&[], &[]).await?;
    let on = counts.iter().filter(|(_, key, _)| key.starts_with("cell/") && *key != off);
    let found: BTreeSet<Region> = on.filter_map(|(region, _, _)| region.parse().ok()).collect();
    if found.is_empty() {
        return refused(
            "NO_REGIONS",
            "no region is known yet: run `ringfence scan start --wait`, or name them with --region",
        );
    }
    Ok(found.into_iter().collect())
}

/// Plans a deployment; stores it unless `dry`. The same id twice is the same deployment.
pub async fn plan(
    app: &App,
    actor: &Actor,
    id: &str,
    wanted: Wanted,
    dry: bool,
) -> Result<Deployment, Fault> {
    if app.store.get(Kind::Deployment, id).await?.is_some() {
        return Ok(app.load(Kind::Deployment, id).await?.1);
    }
    known(&wanted.control)?;
    let tree = app.tree().await?;
    if let Some(stranger) = wanted.excluded.iter().find(|a| tree.get(&(*a).into()).is_none()) {
        return Err(Fault::NotFound(format!(
            "--exclude-account {stranger}: it is not in the organization as of {}",
            tree.as_of
        )));
    }
    let regions = regions(app, &wanted.regions).await?;
    let excluded: BTreeSet<String> = wanted.excluded.iter().map(ToString::to_string).collect();
    let there = join_all(regions.iter().map(|r| app.cloud.organization_rules(r))).await;
    let mut items = Vec::new();
    for (region, there) in regions.iter().zip(there) {
        for rule in Rule::ALL {
            items.push(match &there {
                Ok(there) => Item::plan(region, rule, &excluded, there),
                // One region that refuses (an opt-in region that is off here) must not keep the others.
                Err(error) => Item::blocked(region, rule, unreadable(error)),
            });
        }
    }
    if items.iter().all(|i| i.change == Change::Blocked) {
        let why = items.first().map(|i| i.why.clone()).unwrap_or_default();
        return refused("NOTHING_TO_DO", format!("no rule can be deployed anywhere: {why}"));
    }
    let at = now();
    let deployment = Deployment::new(Body {
        id: id.to_owned(),
        author: actor.name.clone(),
        created_at: at,
        control: wanted.control,
        excluded,
        items,
    });
    // With nothing to put there is nothing to approve: it is shown, and not kept.
    if !dry && deployment.acting().next().is_some() {
        let text =
            format!("{} rules to put, hash {}", deployment.acting().count(), deployment.hash);
        let event = actor.did(at, "control.plan", id, text);
        let row = Row::new(Kind::Deployment, id, "draft", at, &deployment);
        if !app.store.update(&[row], &event).await? {
            return Ok(app.load(Kind::Deployment, id).await?.1);
        }
    }
    Ok(deployment)
}

/// Adds a person's approval.
pub async fn add_approval(
    app: &App,
    actor: &Actor,
    id: &str,
    reason: &str,
    hash: &str,
) -> Result<Deployment, Fault> {
    let (row, mut deployment): (Row, Deployment) = app.load(Kind::Deployment, id).await?;
    plans::not_applied(id, deployment.applied.as_ref())?;
    plans::intact(id, deployment.intact())?;
    let Deployment { body, hash: own, approvals, .. } = &mut deployment;
    plans::approve(&body.author, own, approvals, actor, (reason, hash))?;
    let state = deployment.state(app.config.approvals_rollout);
    let event = actor.did(now(), "control.approve", id, format!("{reason} (hash {hash})"));
    match app.store.update(&[row.with(state, &deployment)], &event).await? {
        true => Ok(deployment),
        false => Err(changed(id)),
    }
}

/// Puts what is left in place, one rule at a time: the intent is recorded, the rule is read again, and
/// only what was planned is put. A process that ends in between leaves the rest to the next call.
pub async fn apply(app: &App, actor: &Actor, id: &str, dry: bool) -> Result<Deployment, Fault> {
    let (_, deployment): (Row, Deployment) = app.load(Kind::Deployment, id).await?;
    plans::intact(id, deployment.intact())?;
    let (needed, body) = (app.config.approvals_rollout, &deployment.body);
    plans::approved(id, &body.author, &deployment.hash, &deployment.approvals, needed)?;
    for item in deployment.left() {
        thawed(app, &item.region).await?;
    }
    if dry {
        return Ok(deployment);
    }
    // One at a time, by whatever server: who comes second is told so. Kept with each rule.
    let ttl = app.config.lease_for;
    let (lease, me) =
        (format!("deployment/{id}"), format!("{}/{}", app.owner, uuid::Uuid::new_v4()));
    for item in deployment.left() {
        thawed(app, &item.region).await?;
        if !app.store.hold(&lease, &me, ttl).await? {
            return Err(Fault::Conflict(format!(
                "{id} is being applied by somebody else; if that ended, apply again after {ttl}"
            )));
        }
        note(app, actor, id, &item, Outcome::Begun).await?;
        let outcome = put(app, &item, &body.excluded).await;
        note(app, actor, id, &item, outcome).await?;
    }
    app.store.hold(&lease, &me, Span(-1)).await?;
    Ok(app.load(Kind::Deployment, id).await?.1)
}

/// Refuses while a part of the organization is frozen in that region; what is in place stays.
async fn thawed(app: &App, region: &Region) -> Result<(), Fault> {
    match freezes::held_under(app, None, Some(region)).await? {
        Some(why) => refused("FROZEN", format!("{why}; what is left can be applied afterwards")),
        None => Ok(()),
    }
}

/// Records what is about to be done, or was.
async fn note(
    app: &App,
    actor: &Actor,
    id: &str,
    item: &Item,
    outcome: Outcome,
) -> Result<(), Fault> {
    let (row, mut deployment): (Row, Deployment) = app.load(Kind::Deployment, id).await?;
    let (at, key) = (now(), item.key());
    let text = match &outcome {
        Outcome::Begun => format!("{key}: to be put"),
        Outcome::Put => format!("{key}: in place"),
        Outcome::Failed(why) => format!("{key}: {why}"),
    };
    deployment.applied = Some((at, actor.name.clone()));
    deployment.outcomes.insert(key, outcome);
    let state = deployment.state(app.config.approvals_rollout);
    let event = actor.did(at, "control.put", id, text);
    match app.store.update(&[row.with(state, &deployment)], &event).await? {
        true => Ok(()),
        false => Err(changed(id)),
    }
}

async fn put(app: &App, item: &Item, excluded: &BTreeSet<String>) -> Outcome {
    let there = match app.cloud.organization_rules(&item.region).await {
        Ok(there) => there,
        Err(error) => return Outcome::Failed(error.to_string()),
    };
    match item.now(excluded, there.get(&item.name)) {
        Err(why) => Outcome::Failed(why),
        Ok(false) => Outcome::Put,
        Ok(true) => {
            let identifier = item.rule.identifier();
            let put =
                app.cloud.put_organization_rule(&item.region, &item.name, identifier, excluded);
            match put.await {
                Ok(()) => Outcome::Put,
                Err(error) => Outcome::Failed(error.to_string()),
            }
        }
    }
}

/// Why a region's rules cannot be read. One that is off refuses with words that sound like bad credentials.
fn unreadable(error: &CloudError) -> String {
    match error.class {
        ErrorClass::RegionRefused => {
            "the region is off in the server's own account, so that it can have no organization rule"
                .to_owned()
        }
        _ => error.to_string(),
    }
}

/// How a control's rules stand, in every region and account.
pub async fn check(app: &App, control: &str, named: &[Region]) -> Result<Vec<Standing>, Fault> {
    known(control)?;
    let regions = regions(app, named).await?;
    let found = join_all(regions.iter().map(|region| region_check(app, region))).await;
    Ok(found.into_iter().flatten().collect())
}

fn standing(region: &Region, rule: Rule, status: &str, why: &str) -> Standing {
    Standing {
        region: region.clone(),
        rule,
        name: String::new(),
        status: status.to_owned(),
        why: why.to_owned(),
        accounts: 0,
        failed: Vec::new(),
        excluded: 0,
        well: false,
    }
}

async fn region_check(app: &App, region: &Region) -> Vec<Standing> {
    let read = async {
        let rules = app.cloud.organization_rules(region).await?;
        Ok::<_, CloudError>((rules, app.cloud.organization_rule_statuses(region).await?))
    };
    let (rules, statuses) = match read.await {
        Ok(found) => found,
        Err(error) => {
            let unread = |rule| standing(region, rule, "unread", &unreadable(&error));
            return Rule::ALL.into_iter().map(unread).collect();
        }
    };
    let mut all = Vec::new();
    for rule in Rule::ALL {
        let names = names(rule, &rules);
        if names.is_empty() {
            all.push(standing(region, rule, "absent", "no organization rule of this kind"));
        }
        for name in names {
            let status = statuses.get(&name);
            let word = status.map_or("unread", |s| s.status.as_str());
            let mut one = standing(region, rule, word, status.map_or("", |s| s.error.as_str()));
            match app.cloud.organization_rule_members(region, &name).await {
                Ok(members) => {
                    let (well, failed): (Vec<_>, Vec<_>) =
                        members.into_iter().partition(|m| in_place(&m.status));
                    (one.accounts, one.failed) = (well.len(), failed);
                }
                Err(error) => (one.status, one.why) = ("unread".to_owned(), error.to_string()),
            }
            if let Some(found) = rules.get(&name) {
                one.excluded = found.excluded.len();
                if !found.narrowed.is_empty() && one.why.is_empty() {
                    one.why = format!("it does not judge everything: it has {}", found.narrowed);
                }
            }
            one.well = in_place(&one.status) && one.failed.is_empty() && one.why.is_empty();
            one.name = name;
            all.push(one);
        }
    }
    all
}

/// The organization rules that judge what this rule judges, ours first.
fn names(rule: Rule, there: &BTreeMap<String, Found>) -> Vec<String> {
    let same = there.iter().filter(|(_, found)| found.identifier == rule.identifier());
    let mut names: Vec<String> = same.map(|(name, _)| name.clone()).collect();
    names.sort_by_key(|name| *name != name_of(rule));
    names
}
