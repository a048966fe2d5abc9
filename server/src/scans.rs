//! Scans: what is queued for agents, and how they end.

use crate::app::{App, Fault, now, refused, rest};
use crate::org;
use crate::scope::Scope;
use crate::store::{Filter, Kind, Row, Target};
use crate::tally::Tally;
use ringfence_domain::audit::Actor;
use ringfence_domain::cloud::ErrorClass;
use ringfence_domain::hash;
use ringfence_domain::id::AccountId;
use ringfence_domain::ledger::{Cell, CellState, REGION_UNKNOWN};
use ringfence_domain::org::OrgTree;
use ringfence_domain::time::{Span, Time};
use ringfence_domain::work::{Listing, Options, Scan, Trigger};
use std::collections::{BTreeMap, BTreeSet};

/// Cells of one account that a page can hold; no account has more regions.
const CELLS_OF_ACCOUNT: i64 = 1_000;

/// Scans that a person waits for are leased before those of the whole organization.
const FIRST: i64 = 0;
pub(crate) const LATER: i64 = 1;

/// How often scans that are still listing the organization are looked for, unless woken.
const LOOK_MS: u64 = 500;

/// The lease on listing: one server does it.
const LISTING_LEASE: &str = "listing";
const LISTING_FOR: Span = Span::seconds(30);

/// What a new scan is.
#[derive(Debug, Clone)]
pub struct Start {
    /// The same id twice is the same scan.
    pub id: String,
    /// Its accounts.
    pub accounts: Vec<Target>,
    /// Only these regions; empty means all.
    pub regions: Vec<String>,
    /// What is looked at beside the databases.
    pub options: Options,
    /// Why it is made.
    pub trigger: Trigger,
    /// How many databases the aggregator named, where its cells are those of candidates.
    pub candidates: Option<i64>,
}

impl Start {
    /// A scan that somebody waits for.
    pub fn demand(id: &str, accounts: &[AccountId], scope: &Scope, options: Options) -> Start {
        Start {
            id: id.to_owned(),
            accounts: Target::whole(accounts),
            candidates: None,
            regions: scope.region_names(),
            options,
            trigger: Trigger::Demand,
        }
    }

    /// A scan that nobody asked for.
    pub fn unasked(id_of: &str, accounts: &[AccountId], trigger: Trigger) -> Start {
        Start {
            id: format!("sc-{}", hash::short(id_of, 12)),
            accounts: Target::whole(accounts),
            candidates: None,
            regions: Vec::new(),
            options: Options::default(),
            trigger,
        }
    }

    fn scan(&self, actor: &Actor, whole: bool, listing: Listing) -> Scan {
        Scan {
            id: self.id.clone(),
            started_by: actor.name.clone(),
            started_at: now(),
            ended_at: None,
            regions: self.regions.clone(),
            options: self.options,
            trigger: self.trigger,
            whole,
            listing,
            listed_at: None,
            relisted: false,
            listing_failed: String::new(),
            candidates: self.candidates,
        }
    }
}

/// Refuses a region that no account of the ledger has. Accounts name all regions that exist for them, on or
/// off, so that one which none names is a slip of the finger, and would leave a cell everywhere.
pub async fn regions_exist(app: &App, scope: &Scope) -> Result<(), Fault> {
    if scope.regions.is_empty() {
        return Ok(());
    }
    let counts = app.store.tally_by_region(&[], &[]).await?;
    let known: BTreeSet<&str> = counts
        .iter()
        .filter(|(region, key, _)| region != REGION_UNKNOWN && key.starts_with("cell/"))
        .map(|(region, _, _)| region.as_str())
        .collect();
    let stranger = scope.regions.iter().find(|r| !known.contains(r.as_str()));
    match stranger {
        // Before the first scan nobody knows.
        Some(stranger) if !known.is_empty() => Err(Fault::Invalid(format!(
            "region: no account of the ledger has {stranger}; there are {}",
            known.into_iter().collect::<Vec<_>>().join(", ")
        ))),
        _ => Ok(()),
    }
}

/// The accounts of a scope that have cells.
pub fn scannable(scope: &Scope, tree: &OrgTree) -> Result<Vec<AccountId>, Fault> {
    let accounts = scope.accounts(tree)?;
    Ok(accounts
        .into_iter()
        .filter(|a| {
            let node = tree.get(&a.into());
            node.and_then(|n| n.account_state()).is_some_and(|s| s.has_cells())
        })
        .collect())
}

/// Queues a scan of some accounts.
pub async fn start(app: &App, actor: &Actor, start: Start) -> Result<Scan, Fault> {
    begin(app, actor, &start, format!("{} accounts", start.accounts.len())).await
}

async fn begin(app: &App, actor: &Actor, start: &Start, text: String) -> Result<Scan, Fault> {
    let mut scan = start.scan(actor, false, Listing::Done);
    scan.ended_at = start.accounts.is_empty().then_some(scan.started_at);
    put(app, actor, scan, &start.accounts, text).await
}

/// Queues a scan of the whole organization. Where it was read lately, all of it at once; else its
/// accounts are queued as AWS lists them, so that the scan begins with the first page.
pub async fn start_whole(app: &App, actor: &Actor, start: Start) -> Result<Scan, Fault> {
    let known = match app.tree().await {
        Ok(tree) if now().since(tree.as_of) <= app.config.scan_org_max_age => Some(tree),
        Ok(_) | Err(Fault::Refused { .. }) => None,
        Err(fault) => return Err(fault),
    };
    let mut scan = start.scan(actor, true, Listing::Open);
    let (accounts, text) = match &known {
        None => (Vec::new(), "the organization, as it is listed".to_owned()),
        Some(tree) => {
            (scan.listing, scan.listed_at) = (Listing::Done, Some(tree.as_of));
            let accounts = scannable(&Scope::default(), tree)?;
            let text = format!("the organization, {} accounts", accounts.len());
            (Target::whole(&accounts), text)
        }
    };
    let scan = put(app, actor, scan, &accounts, text).await?;
    app.wake_scans.notify_one();
    Ok(scan)
}

async fn put(
    app: &App,
    actor: &Actor,
    mut scan: Scan,
    accounts: &[Target],
    text: String,
) -> Result<Scan, Fault> {
    // Every look writes the cells anew, AWS Config's word with them.
    scan.options.config |= app.config.scan_aws_config;
    let state = if scan.ended_at.is_some() { "done" } else { "running" };
    let row = Row::new(Kind::Scan, &scan.id, state, scan.started_at, &scan);
    let event = actor.did(scan.started_at, "scan.start", &scan.id, text);
    let priority = if scan.trigger == Trigger::Demand && !scan.whole { FIRST } else { LATER };
    if app.store.start_scan(&row, accounts, priority, &event).await? {
        app.wake_agents.notify_waiters();
        tracing::info!("{} begins ({}): {}", scan.id, scan.trigger.as_str(), event.reason);
        return Ok(scan);
    }
    Ok(app.load(Kind::Scan, &scan.id).await?.1)
}

/// Queues a scan of the cells where AWS Config's aggregator names an unencrypted database. It proves nothing
/// of any other cell: those stay as they are in the ledger.
pub async fn start_candidates(
    app: &App,
    actor: &Actor,
    id: &str,
    scope: &Scope,
    options: Options,
) -> Result<Scan, Fault> {
    let name = &app.config.scan_aggregator;
    if name.is_empty() {
        return refused(
            "NO_AGGREGATOR",
            "scan.aggregator is empty: name the configuration aggregator of the organization (and scan.aggregator_region)",
        );
    }
    let tree = org::fresh(app, app.config.scan_org_max_age).await?;
    let meant: BTreeSet<AccountId> = scannable(scope, &tree)?.into_iter().collect();
    let region = app.config.scan_aggregator_region.as_ref();
    let region = region.map_or(app.cloud.own_region(), |r| r.as_str());
    let all = app.cloud.candidates(region, name).await?;
    let here: Vec<_> = all
        .found
        .iter()
        .filter(|c| meant.contains(&c.account) && scope.region(c.region.as_str()))
        .collect();
    let mut cells: BTreeMap<&AccountId, BTreeSet<String>> = BTreeMap::new();
    for candidate in &here {
        cells.entry(&candidate.account).or_default().insert(candidate.region.to_string());
    }
    let target = |(account, regions): (&&AccountId, &BTreeSet<String>)| Target {
        account: (*account).clone(),
        regions: regions.iter().cloned().collect(),
    };
    let start = Start {
        accounts: cells.iter().map(target).collect(),
        candidates: Some(i64::try_from(here.len()).unwrap_or(i64::MAX)),
        ..Start::demand(id, &[], scope, options)
    };
    let text = format!(
        "{} databases that the aggregator {name} names, in {} accounts; {} more are outside of the scope or the organization, {} rows were unreadable",
        here.len(),
        start.accounts.len(),
        all.found.len() - here.len(),
        all.unreadable
    );
    begin(app, actor, &start, text).await
}

/// Waits until a scan ends; false if it does not within the time.
pub async fn wait(app: &App, id: &str, max: Span) -> Result<bool, Fault> {
    let until = now().plus(max);
    loop {
        let (_, scan): (Row, Scan) = app.load(Kind::Scan, id).await?;
        if scan.ended_at.is_some() {
            return Ok(true);
        }
        if now() > until {
            return Ok(false);
        }
        rest(100).await;
    }
}

/// The cells of some accounts that a scan of these regions was about.
pub async fn cells(app: &App, accounts: &[AccountId]) -> Result<Vec<Cell>, Fault> {
    let mut cells = Vec::new();
    for account in accounts {
        cells.extend(app.store.cells(account.as_str(), ("", ""), CELLS_OF_ACCOUNT).await?);
    }
    Ok(cells)
}

/// Ends a scan's pass, and the scan with its last one. Two servers may both see the end; one writes it.
///
/// The scan is read first: where the listing closes or begins anew after that, its version is another one,
/// and this end is not written.
pub async fn finish(app: &App, id: &str) -> Result<(), Fault> {
    let (row, mut scan): (Row, Scan) = app.load(Kind::Scan, id).await?;
    if scan.ended_at.is_some() || scan.listing != Listing::Done {
        return Ok(());
    }
    if !app.store.end_pass(id).await? {
        return Ok(());
    }
    let counts = app.store.tally_of_scan(id, &scan.regions).await?;
    let cells = Tally::new(counts.iter().map(|(key, n)| (key.as_str(), *n))).coverage;
    let denied = cells.count(|s| s == CellState::Denied) > 0;
    let actor = Actor::system("server");
    if list_again(&scan, denied, now(), app.config.scan_org_max_age) {
        scan.listing = Listing::Again;
        let event = actor.did(now(), "scan.list-again", id, "accounts may have come or gone");
        app.store.update(&[row.with("running", &scan)], &event).await?;
        app.wake_scans.notify_one();
        return Ok(());
    }
    let at = now();
    scan.ended_at = Some(at);
    let found = cells.count(|s| s == CellState::Findings);
    let failed = cells.count(CellState::failed);
    let mut text = format!("{} cells, {found} with findings, {failed} not answered", cells.cells());
    if !scan.listing_failed.is_empty() {
        text = format!("{text}; the organization was not listed: {}", scan.listing_failed);
    }
    let event = actor.did(at, "scan.end", id, text);
    if app.store.update(&[row.with("done", &scan)], &event).await? {
        tracing::info!("{id} has ended: {}", event.reason);
    }
    Ok(())
}

/// Whether the organization is listed once more before a scan of all of it ends: the list is old, or
/// accounts are denied and it is not quite new. Suspended and closed accounts deny, and new ones are in
/// no older list.
fn list_again(scan: &Scan, denied: bool, now: Time, max_age: Span) -> bool {
    let max_age = if denied { Span(max_age.0 / 15) } else { max_age };
    scan.whole && !scan.relisted && scan.listed_at.is_none_or(|at| now.since(at) > max_age)
}

/// Lists the organization for the scans that want it, for ever.
pub async fn run(app: App) {
    let mut tries = Tries::new();
    loop {
        if let Err(fault) = turn(&app, &mut tries).await {
            tracing::warn!("looking after scans: {fault}; it is tried again");
        }
        tokio::select! {
            () = app.wake_scans.notified() => {}
            () = rest(LOOK_MS) => {}
        }
    }
}

/// The scans that have not ended.
pub async fn running(app: &App) -> Result<Vec<Scan>, Fault> {
    let filter = Filter { state: "running".into(), ..Filter::default() };
    let found: Vec<(Row, Scan)> = app.all_readable(Kind::Scan, &filter).await?;
    Ok(found.into_iter().map(|(_, scan)| scan).collect())
}

/// Listings that failed: how often, and when the next try may be. Of this process: a new one tries anew.
type Tries = BTreeMap<String, (u32, Time)>;

/// How often a listing that gets no answer is tried: with the rests between, for seven minutes.
const LIST_TRIES: u32 = 12;

/// The rest after the first failure; doubled with each, up to [`LIST_REST_MAX`].
const LIST_REST: Span = Span::seconds(1);

/// See [`LIST_REST`].
const LIST_REST_MAX: Span = Span::seconds(60);

async fn turn(app: &App, tries: &mut Tries) -> Result<(), Fault> {
    let scans = running(app).await?;
    tries.retain(|id, _| scans.iter().any(|s| s.id == *id));
    for scan in scans {
        if scan.listing == Listing::Done {
            // A server that ended between an account's report and the scan's end left it to us.
            finish(app, &scan.id).await?;
            continue;
        }
        let (failed, next) = tries.get(&scan.id).copied().unwrap_or_default();
        if now() < next || !app.store.hold(LISTING_LEASE, &app.owner, LISTING_FOR).await? {
            continue;
        }
        let Err(fault) = list(app, &scan.id).await else {
            tries.remove(&scan.id);
            continue;
        };
        // A denial does not go away by asking: the scan ends, and says that accounts may be missing.
        if refused_for_good(&fault) || failed + 1 >= LIST_TRIES {
            tracing::warn!("{}: the organization cannot be listed: {fault}", scan.id);
            listed(app, &scan.id, &fault.to_string()).await?;
        } else {
            tracing::warn!("{}: listing the organization: {fault}; it is tried again", scan.id);
            let rest = Span((LIST_REST.0 << failed.min(16)).min(LIST_REST_MAX.0));
            tries.insert(scan.id, (failed + 1, now().plus(rest)));
        }
    }
    Ok(())
}

fn refused_for_good(fault: &Fault) -> bool {
    match fault {
        Fault::Cloud(error) => !matches!(
            error.class,
            ErrorClass::Throttled | ErrorClass::Conflict | ErrorClass::Unknown
        ),
        Fault::Invalid(_)
        | Fault::NotFound(_)
        | Fault::Refused { .. }
        | Fault::Forbidden(_)
        | Fault::Late(_)
        | Fault::Conflict(_)
        | Fault::Store(_) => false,
    }
}

/// Lists the organization, and queues its accounts for a scan as they come.
async fn list(app: &App, id: &str) -> Result<(), Fault> {
    let actor = Actor::system("server");
    tokio::select! {
        synced = org::sync_for(app, &actor, true, Some(id)) => synced.map(drop)?,
        () = app.keep(LISTING_LEASE, LISTING_FOR) => return Ok(()),
    }
    listed(app, id, "").await
}

/// Closes a scan's listing; `failed` says why it ends without some accounts.
async fn listed(app: &App, id: &str, failed: &str) -> Result<(), Fault> {
    loop {
        let (row, mut scan): (Row, Scan) = app.load(Kind::Scan, id).await?;
        scan.relisted |= scan.listing == Listing::Again || !failed.is_empty();
        scan.listing = Listing::Done;
        scan.listing_failed = failed.to_owned();
        if failed.is_empty() {
            scan.listed_at = Some(now());
        }
        let event = Actor::system("server").did(now(), "scan.listed", id, failed);
        if app.store.update(&[row.with("running", &scan)], &event).await? {
            return finish(app, id).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_organization_is_listed_again_where_that_may_matter_and_once() {
        let start = Start {
            id: "sc-1".into(),
            accounts: Vec::new(),
            regions: Vec::new(),
            options: Options::default(),
            trigger: Trigger::Demand,
            candidates: None,
        };
        let age = Span::seconds(900);
        let scan = |listed: i64| Scan {
            started_at: Time(1_000_000),
            listed_at: Some(Time(listed)),
            ..start.scan(&Actor::system("test"), true, Listing::Done)
        };
        let now = Time(1_100_000);
        assert!(!list_again(&scan(990_000), false, now, age), "the list is young");
        assert!(list_again(&scan(990_000), true, now, age), "accounts are denied");
        assert!(list_again(&scan(1), false, now, age), "the list is old");
        let twice = Scan { relisted: true, ..scan(1) };
        assert!(!list_again(&twice, true, now, age), "once");
        let some = Scan { whole: false, ..scan(1) };
        assert!(!list_again(&some, true, now, age), "of some accounts, never");
    }
}
