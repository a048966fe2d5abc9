//! What accounts did before: read by agents, kept in the store, and used again while it is fresh.

use crate::app::{App, Fault, changed, now};
use crate::scans;
use crate::store::{Fenced, Filter, Kind, Lease, Row};
use ringfence_domain::audit::Actor;
use ringfence_domain::history::{Lookup, Reading, State};
use ringfence_domain::id::AccountId;
use ringfence_domain::ledger::{CellState, REGION_UNKNOWN, RegionsSource};
use ringfence_domain::time::{Span, Time};
use std::collections::BTreeSet;

/// Rows of one write.
const BATCH: usize = 500;

/// What is to be read.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// For what: readings for different ends are kept apart.
    pub purpose: String,
    /// Of whom.
    pub accounts: Vec<AccountId>,
    /// Which events.
    pub lookups: BTreeSet<Lookup>,
    /// From when to when.
    pub span: (Time, Time),
    /// What was read so long ago may be used again.
    pub max_age: Span,
    /// Whether what could not be read then is an answer, too; else it is tried again.
    pub failures_count: bool,
}

impl Wanted {
    fn id(&self, account: &AccountId) -> String {
        Reading::id_of(&self.purpose, account, &self.lookups)
    }

    fn ids(&self) -> BTreeSet<String> {
        self.accounts.iter().map(|account| self.id(account)).collect()
    }

    /// What its readings have in common: the part of their ids before the account.
    fn group(&self) -> String {
        let id = self.accounts.first().map(|a| self.id(a)).unwrap_or_default();
        id.split('/').next().unwrap_or_default().to_owned()
    }
}

/// Has agents read what is not there already. Accounts of which not all regions are known, and why.
pub async fn begin(
    app: &App,
    actor: &Actor,
    wanted: &Wanted,
) -> Result<Vec<(AccountId, String)>, Fault> {
    let (mut rows, mut strange) = (Vec::new(), Vec::new());
    for account in &wanted.accounts {
        let (regions, configured) = regions(app, account).await?;
        if regions.is_empty() {
            let why = "no scan has named its regions: run `ringfence scan start`".to_owned();
            strange.push((account.clone(), why));
            continue;
        }
        if configured && !app.config.accept_configured_regions {
            let why =
                "its regions are those of aws.regions, not named by the account: there may be more"
                    .to_owned();
            strange.push((account.clone(), why));
        }
        let known = app.store.get(Kind::Reading, &wanted.id(account)).await?;
        let old = known.as_ref().and_then(|row| row.document::<Reading>().ok());
        let (from, max_age) = (wanted.span.0, wanted.max_age);
        let serves = |r: &Reading| match r.state {
            // Somebody waits for the same.
            State::Running => r.from <= from && now().since(r.until) <= max_age,
            State::Done if wanted.failures_count => now().since(r.until) <= max_age,
            State::Done => r.serves(&regions, from, max_age, now()),
        };
        if old.as_ref().is_some_and(serves) {
            continue;
        }
        let reading = Reading::new(
            &wanted.purpose,
            account.clone(),
            wanted.lookups.clone(),
            wanted.span,
            regions,
        );
        rows.push(row(known, &reading, &wanted.group()));
    }
    for some in rows.chunks(BATCH) {
        let text = format!("{} accounts", some.len());
        let event = actor.did(now(), "history.read", &wanted.group(), text);
        if !app.store.update(some, &event).await? {
            return Err(changed(&wanted.group()));
        }
    }
    if !rows.is_empty() {
        app.wake_agents.notify_waiters();
    }
    Ok(strange)
}

/// The regions that the account is known to have on, as far as scans saw; and whether that is only what is configured.
async fn regions(app: &App, account: &AccountId) -> Result<(BTreeSet<String>, bool), Fault> {
    let cells = scans::cells(app, std::slice::from_ref(account)).await?;
    let on = cells.into_iter().filter(|c| c.state != CellState::RegionOff);
    let on: Vec<_> = on.filter(|c| c.region != REGION_UNKNOWN).collect();
    let configured = on.iter().any(|c| c.regions_source != RegionsSource::Account);
    Ok((on.into_iter().map(|c| c.region).collect(), configured))
}

fn row(known: Option<Row>, reading: &Reading, group: &str) -> Row {
    let (state, at) = (reading.state.as_str(), now());
    let row = match known {
        Some(row) => row.with(state, reading),
        None => Row {
            account: reading.account.to_string(),
            region: group.to_owned(),
            ..Row::new(Kind::Reading, &reading.id, state, at, reading)
        },
    };
    Row { wake_at: at, ..row }
}

/// Those that are still to be read.
async fn running(app: &App, wanted: &Wanted) -> Result<Vec<Row>, Fault> {
    let filter = Filter {
        region: wanted.group(),
        state: State::Running.as_str().to_owned(),
        ..Filter::default()
    };
    let ours = wanted.ids();
    let mut running = app.rows(Kind::Reading, &filter).await?;
    running.retain(|row| ours.contains(&row.id));
    Ok(running)
}

/// How many of these are still to be read.
pub async fn left(app: &App, wanted: &Wanted) -> Result<usize, Fault> {
    Ok(running(app, wanted).await?.len())
}

/// Since when agents have been asked for those that are still to be read; `None` where there are none.
pub async fn waits_since(app: &App, wanted: &Wanted) -> Result<Option<Time>, Fault> {
    let running = running(app, wanted).await?;
    Ok(running.iter().filter_map(|row| row.document::<Reading>().ok()).map(|r| r.until).min())
}

/// What was read.
pub async fn read(app: &App, wanted: &Wanted) -> Result<Vec<Reading>, Fault> {
    let filter = Filter { region: wanted.group(), ..Filter::default() };
    let ours = wanted.ids();
    let all: Vec<(Row, Reading)> = app.all(Kind::Reading, &filter).await?;
    Ok(all.into_iter().map(|(_, r)| r).filter(|r| ours.contains(&r.id)).collect())
}

/// Stores what an agent read, under its fence. `None` if the lease is lost or somebody asked for it anew.
pub async fn commit(
    app: &App,
    agent: &str,
    lease: &Lease,
    version: i64,
    reading: &Reading,
) -> Result<Option<i64>, Fault> {
    let (old, _): (Row, Reading) = app.load(Kind::Reading, &reading.id).await?;
    if old.version != version || old.account != lease.account {
        return Ok(None);
    }
    let row = old.with(reading.state.as_str(), reading);
    match app.store.commit(agent, lease, &[row], None).await? {
        Fenced::Done => Ok(Some(version + 1)),
        Fenced::Lost | Fenced::Stale => Ok(None),
    }
}
