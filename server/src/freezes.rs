//! Freezes: who may change what in AWS, and when nobody may.

use crate::app::{App, Fault, because, changed, instant, now, refused};
use crate::scope::Scope;
use crate::store::{Filter, Kind, Row};
use ringfence_domain::audit::Actor;
use ringfence_domain::freeze::{self, Freeze, Place};
use ringfence_domain::id::{AccountId, NodeId, Region};
use ringfence_domain::org::OrgTree;
use ringfence_domain::remediation::{Goal, Remediation};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The state of the row of one that was not lifted, whether its time has come or not.
const STANDING: &str = "standing";

/// What a person asks for.
pub struct Wanted<'a> {
    /// The id, a function of the request's.
    pub id: &'a str,
    /// Where.
    pub scope: &'a Scope,
    /// From when; empty for now.
    pub from: &'a str,
    /// Until when.
    pub to: &'a str,
    /// Why.
    pub reason: &'a str,
    /// Also swaps under way.
    pub midway: bool,
    /// Check, change nothing.
    pub dry: bool,
}

/// What becomes of a reason.
const TOLD: &str = "people who must wait are told";

/// Makes a freeze. The same id twice is the same freeze.
pub async fn add(app: &App, actor: &Actor, wanted: Wanted<'_>) -> Result<Freeze, Fault> {
    let (id, at) = (wanted.id, now());
    let reason = because(wanted.reason, TOLD)?;
    let from = if wanted.from.is_empty() { at } else { instant("from", wanted.from)? };
    let to = instant("to", wanted.to)?;
    if to <= from || to <= at {
        return Err(Fault::Invalid(format!("--to {to}: it must be after --from and after now")));
    }
    if !wanted.scope.is_whole() {
        wanted.scope.accounts(&*app.tree().await?)?;
    }
    let freeze = Freeze {
        id: id.to_owned(),
        from,
        to,
        reason: reason.to_owned(),
        by: actor.name.clone(),
        ous: wanted.scope.ous.clone(),
        accounts: wanted.scope.accounts.clone(),
        regions: wanted.scope.regions.clone(),
        midway: wanted.midway,
        lifted: None,
    };
    if wanted.dry {
        return Ok(freeze);
    }
    if app.store.get(Kind::Freeze, id).await?.is_some() {
        return Ok(app.load(Kind::Freeze, id).await?.1);
    }
    let event = actor.did(at, "freeze.add", id, format!("{from} to {to}: {reason}"));
    let row = Row::new(Kind::Freeze, id, STANDING, at, &freeze);
    if !app.store.update(&[row], &event).await? {
        return Ok(app.load(Kind::Freeze, id).await?.1);
    }
    Ok(freeze)
}

/// Ends a freeze before its time.
pub async fn lift(
    app: &App,
    actor: &Actor,
    id: &str,
    reason: &str,
    dry: bool,
) -> Result<Freeze, Fault> {
    let reason = because(reason, TOLD)?;
    let (row, mut freeze): (Row, Freeze) = app.load(Kind::Freeze, id).await?;
    let at = now();
    match freeze.state(at) {
        "lifted" => return refused("FREEZE_LIFTED", format!("{id} was lifted already")),
        "over" => return refused("FREEZE_OVER", format!("{id} was over at {}", freeze.to)),
        _ => {}
    }
    freeze.lifted = Some((at, actor.name.clone(), reason.to_owned()));
    if dry {
        return Ok(freeze);
    }
    let event = actor.did(at, "freeze.lift", id, reason);
    if !app.store.update(&[row.with("lifted", &freeze)], &event).await? {
        return Err(changed(id));
    }
    app.wake_admission.notify_one();
    app.wake_agents.notify_waiters();
    app.wake_rollouts.notify_one();
    Ok(freeze)
}

/// All that were not lifted, or all there ever were; the newest first.
pub async fn list(app: &App, all: bool) -> Result<Vec<Freeze>, Fault> {
    let state = if all { String::new() } else { STANDING.to_owned() };
    let filter = Filter { state, ..Filter::default() };
    let found: Vec<(Row, Freeze)> = app.all(Kind::Freeze, &filter).await?;
    let at = now();
    let mut freezes: Vec<Freeze> =
        found.into_iter().map(|(_, f)| f).filter(|f| all || f.state(at) != "over").collect();
    freezes.sort_by_key(|f| std::cmp::Reverse(f.from));
    Ok(freezes)
}

/// The freezes of this moment, with what tells whom they hold.
pub struct Frozen {
    freezes: Vec<Freeze>,
    tree: Option<Arc<OrgTree>>,
}

impl Frozen {
    /// Reads them.
    ///
    /// # Errors
    /// The store's, or one that cannot be read: then nobody knows what may be changed, and nothing is.
    pub async fn read(app: &App) -> Result<Frozen, Fault> {
        let freezes = active(app).await?;
        let by_ou = freezes.iter().any(|f| !f.ous.is_empty());
        let tree = if by_ou { app.tree().await.ok() } else { None };
        Ok(Frozen { freezes, tree })
    }

    fn above(&self, account: &AccountId) -> Option<Vec<NodeId>> {
        let (tree, id) = (self.tree.as_ref()?, account.into());
        tree.get(&id)?;
        Some(tree.ancestors(&id).map(|node| node.id.clone()).collect())
    }

    /// Why what this remediation does must wait; `None` if it need not.
    pub fn holds(&self, rem: &Remediation, midway: bool) -> Option<String> {
        let own = self.held(&rem.account, &rem.region, midway);
        let mut far = rem.source.far_regions().into_iter();
        own.or_else(|| far.find_map(|region| self.held(&rem.account, &region, midway)))
    }

    /// Why a change there must wait; `None` if it need not.
    pub fn holds_in(&self, account: &AccountId, region: &Region) -> Option<String> {
        self.held(account, region, false)
    }

    fn held(&self, account: &AccountId, region: &Region, midway: bool) -> Option<String> {
        let above = self.above(account);
        let place = Place { account, region, above: above.as_deref(), midway };
        freeze::held(&self.freezes, &place, now()).map(Freeze::text)
    }
}

/// Those that are active.
pub async fn active(app: &App) -> Result<Vec<Freeze>, Fault> {
    let at = now();
    let mut freezes = list(app, false).await?;
    freezes.retain(|f| f.state(at) == "active");
    Ok(freezes)
}

/// Why something that works on an account, an OU or (`None`) the root, and all that is under it, must wait: a
/// part of it is frozen, or what it is under.
pub async fn held_under(
    app: &App,
    target: Option<&NodeId>,
    region: Option<&Region>,
) -> Result<Option<String>, Fault> {
    let tree = app.tree().await?;
    let target = target.unwrap_or(tree.root());
    let freezes = active(app).await?;
    let held = freezes.iter().find(|f| f.meets(&tree, target, region));
    Ok(held.map(|f| format!("{target} is {}", f.text())))
}

/// Refuses an order where all of its remediations are frozen; of some it is for the others. Those that are cut
/// off have their way out, but a twin that has its place is not put back.
pub async fn refuse<'a>(
    app: &App,
    remediations: impl IntoIterator<Item = &'a Remediation>,
    back: bool,
) -> Result<BTreeSet<&'a str>, Fault> {
    let frozen = Frozen::read(app).await?;
    let (mut free, mut held) = (BTreeSet::new(), None);
    for rem in remediations {
        let midway = rem.midway() && !(back && rem.goal == Goal::CutOver);
        match frozen.holds(rem, midway) {
            Some(why) => held = Some((rem, why)),
            None => drop(free.insert(rem.id.as_str())),
        }
    }
    match held {
        Some((rem, why)) if free.is_empty() => refused(
            "FROZEN",
            format!(
                "{} {} {} is {why}; nothing was changed: wait, or lift it (`ringfence freeze lift`)",
                rem.account,
                rem.region,
                rem.source.name()
            ),
        ),
        _ => Ok(free),
    }
}
