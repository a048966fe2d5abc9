//! KMS keys: planned from the last scan, approved, made or mended by agents, and listed.

use crate::app::{App, Fault, changed, now, refused};
use crate::freezes::Frozen;
use crate::scope::Scope;
use crate::store::{Fenced, Filter, Kind, Lease, Page, Row};
use crate::{agents, plans, scans};
use ringfence_domain::approval;
use ringfence_domain::audit::Actor;
use ringfence_domain::finding::{Finding, FindingState};
use ringfence_domain::hash;
use ringfence_domain::id::{AccountId, Region};
use ringfence_domain::key::job::{Job, State};
use ringfence_domain::key::plan::{self, Body, Change, KeyPlan};
use ringfence_domain::ledger::{Cell, CellState};
use ringfence_domain::time::{Span, Time};
use ringfence_domain::work::Options;
use std::collections::{BTreeMap, BTreeSet};

/// Jobs by account and region.
type ByCell = BTreeMap<(AccountId, Region), Vec<Job>>;

/// The lease of whoever applies a plan.
const APPLYING: &str = "key-plans";

/// How long after it was made a plan may be applied again.
const RETRY_MAX: Span = Span::hours(7 * 24);

/// Cells of one read.
const CELLS: i64 = 1_000;

/// A plan with the work on it, by account and region.
pub struct Work {
    /// The plan.
    pub plan: KeyPlan,
    /// Its jobs, by their ids.
    pub jobs: BTreeMap<String, Job>,
}

impl Work {
    /// The job of a cell, if there is one.
    pub fn job(&self, item: &plan::Item) -> Option<&Job> {
        self.jobs.get(&Job::id_of(&self.plan.body.id, &item.account, &item.region))
    }

    /// How many jobs are in a state.
    pub fn count(&self, state: State) -> usize {
        self.jobs.values().filter(|j| j.state == state).count()
    }

    /// `draft`, `approved`, `applying`, `stopped` (in some cells, and nothing runs), `applied`.
    pub fn state(&self, needed: usize) -> &'static str {
        let KeyPlan { body, hash, approvals, applied } = &self.plan;
        let all_done = self.count(State::Done) == self.plan.acting().count();
        match (applied.is_some(), self.count(State::Running)) {
            (true, _) if all_done => "applied",
            (true, 0) => "stopped",
            (true, _) => "applying",
            (false, _) if approval::missing(&body.author, hash, approvals, needed) == 0 => {
                "approved"
            }
            (false, _) => "draft",
        }
    }
}

/// A stored plan with its work.
pub async fn load(app: &App, id: &str) -> Result<(Row, Work), Fault> {
    let (row, plan) = app.load(Kind::KeyPlan, id).await?;
    let jobs = jobs(app, id).await?.into_iter().map(|(_, j)| (j.id.clone(), j)).collect();
    Ok((row, Work { plan, jobs }))
}

async fn jobs(app: &App, plan: &str) -> Result<Vec<(Row, Job)>, Fault> {
    let filter = Filter { region: plan.to_owned(), ..Filter::default() };
    app.all(Kind::KeyJob, &filter).await
}

/// The cells of these accounts (empty: all) in these regions, a page at a time.
async fn cells(app: &App, accounts: Vec<String>, regions: Vec<String>) -> Result<Vec<Cell>, Fault> {
    let mut page = Page { accounts, regions, limit: CELLS, ..Page::default() };
    let mut found: Vec<Cell> = Vec::new();
    loop {
        let cells = app.store.cell_page(&page).await?;
        let Some(last) = cells.last() else { return Ok(found) };
        page.after = (last.account.to_string(), last.region.clone(), String::new());
        found.extend(cells);
    }
}

/// The cells with an open finding, of these accounts (empty: all).
async fn with_findings(
    app: &App,
    accounts: &[String],
) -> Result<BTreeSet<(AccountId, String)>, Fault> {
    let all = [String::new()];
    let mut places = BTreeSet::new();
    for account in if accounts.is_empty() { &all } else { accounts } {
        let state = FindingState::Open.as_str().to_owned();
        let filter = Filter { account: account.clone(), state, ..Filter::default() };
        let open: Vec<(Row, Finding)> = app.all(Kind::Finding, &filter).await?;
        places.extend(open.into_iter().map(|(_, f)| (f.account, f.region.to_string())));
    }
    Ok(places)
}

/// The cells that a plan is about: those with something to encrypt, or every one that is not off; and how many of
/// the scope were not answered and are not among them.
async fn chosen(app: &App, scope: &Scope, everywhere: bool) -> Result<(Vec<Cell>, usize), Fault> {
    let accounts = scope.account_names(&scope.accounts(&*app.tree().await?)?);
    if !scope.is_whole() && accounts.is_empty() {
        return Ok((Vec::new(), 0));
    }
    let places = match everywhere {
        true => BTreeSet::new(),
        false => with_findings(app, &accounts).await?,
    };
    let mut cells = cells(app, accounts, scope.region_names()).await?;
    let all = cells.iter().filter(|c| !c.state.answered()).count();
    cells.retain(|c| match everywhere {
        true => !matches!(c.state, CellState::RegionOff | CellState::SkippedByRule),
        false => places.contains(&(c.account.clone(), c.region.clone())),
    });
    // Those that are in it say so themselves.
    let left_out =
        all - cells.iter().filter(|c| c.region().is_some() && !c.state.answered()).count();
    Ok((cells, left_out))
}

/// Makes a plan; stores it unless `dry`, or nothing is to be done. The same id twice is the same plan.
pub async fn plan(
    app: &App,
    actor: &Actor,
    id: &str,
    scope: &Scope,
    everywhere: bool,
    dry: bool,
) -> Result<Work, Fault> {
    if app.store.get(Kind::KeyPlan, id).await?.is_some() {
        return Ok(load(app, id).await?.1);
    }
    let (cells, left_out) = chosen(app, scope, everywhere).await?;
    if cells.is_empty() {
        return refused(
            "NOTHING_TO_PLAN",
            match everywhere {
                true => {
                    "no account of this scope has an enabled region of it, as far as was scanned"
                }
                false => {
                    "no cell of this scope has anything to encrypt, as far as was scanned; --everywhere plans keys for all of its cells"
                }
            },
        );
    }
    let wanted = &app.config.key;
    let mut items = Vec::new();
    for cell in &cells {
        // A cell without a region stands for an account that could not be entered.
        let Some(region) = cell.region() else { continue };
        items.push(plan::item(cell, region, wanted));
    }
    let at = now();
    let plan = KeyPlan::new(Body {
        id: id.to_owned(),
        author: actor.name.clone(),
        created_at: at,
        alias: wanted.alias.clone(),
        role: app.config.aws.role_name.clone(),
        items,
        left_out,
    });
    if !dry && plan.acting().next().is_some() {
        let (create, mend) = (plan.count(Change::Create), plan.count(Change::Mend));
        let text = format!("{create} keys to create, {mend} to mend, hash {}", plan.hash);
        let event = actor.did(at, "key.plan", id, text);
        let row = Row::new(Kind::KeyPlan, id, "draft", at, &plan);
        if !app.store.update(&[row], &event).await? {
            return Ok(load(app, id).await?.1);
        }
    }
    Ok(Work { plan, jobs: BTreeMap::new() })
}

/// Adds a person's approval.
pub async fn add_approval(
    app: &App,
    actor: &Actor,
    id: &str,
    reason: &str,
    hash: &str,
) -> Result<Work, Fault> {
    let (row, mut work) = load(app, id).await?;
    plans::not_applied(id, work.plan.applied.as_ref())?;
    plans::intact(id, work.plan.intact())?;
    let KeyPlan { body, hash: own, approvals, .. } = &mut work.plan;
    plans::approve(&body.author, own, approvals, actor, (reason, hash))?;
    let state = work.state(app.config.approvals_remediation);
    let event = actor.did(now(), "key.approve", id, format!("{reason} (hash {hash})"));
    match app.store.update(&[row.with(state, &work.plan)], &event).await? {
        true => Ok(work),
        false => Err(changed(id)),
    }
}

/// Has agents do what is left: jobs of all cells the first time, of those that stopped afterwards.
pub async fn apply(app: &App, actor: &Actor, id: &str, dry: bool) -> Result<Work, Fault> {
    // One at a time, by whatever server: of two plans for one cell, the second sees the first.
    let me = format!("{}/{}", app.owner, uuid::Uuid::new_v4());
    if !app.store.hold(APPLYING, &me, app.config.lease_for).await? {
        return Err(Fault::Conflict(
            "another key plan is being applied just now: try again".to_owned(),
        ));
    }
    let done = begin(app, actor, id, dry).await;
    app.store.hold(APPLYING, &me, Span(-1)).await?;
    done
}

async fn begin(app: &App, actor: &Actor, id: &str, dry: bool) -> Result<Work, Fault> {
    let (row, mut work) = load(app, id).await?;
    plans::intact(id, work.plan.intact())?;
    let (needed, at) = (app.config.approvals_remediation, now());
    let KeyPlan { body, hash, approvals, applied } = &work.plan;
    plans::approved(id, &body.author, hash, approvals, needed)?;
    if applied.is_none() && at.since(body.created_at) > app.config.plan_max_age {
        return refused(
            "PLAN_STALE",
            format!(
                "{id} is older than remediation.plan_max_age ({}): plan again",
                app.config.plan_max_age
            ),
        );
    }
    // As long as what was approved for a database.
    if applied.is_some() && at.since(body.created_at) > RETRY_MAX {
        return refused("PLAN_STALE", format!("{id} is older than {RETRY_MAX}: plan again"));
    }
    let frozen = Frozen::read(app).await?;
    let held = body.items.iter().filter(|i| i.change.acts());
    let held: Vec<_> = held.map(|i| frozen.holds_in(&i.account, &i.region)).collect();
    if let Some(why) = held.iter().flatten().next().filter(|_| held.iter().all(Option::is_some)) {
        return refused(
            "FROZEN",
            format!(
                "{id} is {why}; nothing was changed: wait until then, or lift it (`ringfence freeze lift`)"
            ),
        );
    }
    let begun: Vec<(Option<Row>, Job)> = match applied {
        None => work.plan.acting().map(|i| (None, Job::new(&work.plan, i, at))).collect(),
        Some(_) => {
            let mut stopped = jobs(app, id).await?;
            stopped.retain(|(_, job)| job.state == State::Stopped);
            stopped.into_iter().map(|(row, job)| (Some(row), job)).collect()
        }
    };
    let accounts: BTreeSet<AccountId> = begun.iter().map(|(_, j)| j.item.account.clone()).collect();
    let others = jobs_in(app, &accounts).await?;
    let mut rows = Vec::new();
    for (row, mut job) in begun {
        after_others(&mut job, &others)?;
        rows.push(match row {
            None => row_of(&job, at),
            Some(row) => {
                job.again(at);
                row_with(row, &job)
            }
        });
    }
    if dry {
        return Ok(work);
    }
    if !rows.is_empty() {
        let text = format!("keys of {} cells", rows.len());
        let event = actor.did(at, "key.apply", id, text);
        work.plan.applied = Some((at, actor.name.clone()));
        rows.push(row.with("applying", &work.plan));
        if !app.store.update(&rows, &event).await? {
            return Err(changed(id));
        }
        app.wake_agents.notify_waiters();
    }
    Ok(load(app, id).await?.1)
}

/// The work on the keys of these accounts, by cell.
async fn jobs_in(app: &App, accounts: &BTreeSet<AccountId>) -> Result<ByCell, Fault> {
    let mut found = ByCell::new();
    for account in accounts {
        let filter = Filter { account: account.to_string(), ..Filter::default() };
        let here: Vec<(Row, Job)> = app.all(Kind::KeyJob, &filter).await?;
        for (_, job) in here {
            found.entry(cell_of(&job)).or_default().push(job);
        }
    }
    Ok(found)
}

fn cell_of(job: &Job) -> (AccountId, Region) {
    (job.item.account.clone(), job.item.region.clone())
}

/// Of two jobs for one cell, each could make a key: one that runs refuses the other, and what one that stopped had
/// asked for is taken over.
fn after_others(job: &mut Job, others: &ByCell) -> Result<(), Fault> {
    let (account, region) = cell_of(job);
    let here = others.get(&(account.clone(), region.clone()));
    for other in here.into_iter().flatten() {
        if other.id == job.id {
            continue;
        }
        if other.state == State::Running {
            return refused(
                "BUSY",
                format!("the key of {account} {region} is being worked on by {}", other.plan),
            );
        }
        job.follow(other);
    }
    Ok(())
}

fn row_of(job: &Job, at: Time) -> Row {
    Row {
        account: job.item.account.to_string(),
        region: job.plan.clone(),
        ..Row::new(Kind::KeyJob, &job.id, job.state.as_str(), at, job)
    }
}

fn row_with(row: Row, job: &Job) -> Row {
    let mut row = row.with(job.state.as_str(), job);
    row.wake_at = job.wake_at;
    row
}

/// Stores a job's new state under the agent's fence. `None` if the lease is lost or the version is old: the
/// agent must drop what it knows.
pub async fn commit(
    app: &App,
    agent: &str,
    lease: &Lease,
    version: i64,
    job: &Job,
    (action, reason): (&str, &str),
) -> Result<Option<i64>, Fault> {
    let (row, old): (Row, Job) = app.load(Kind::KeyJob, &job.id).await?;
    if row.version != version || row.account != lease.account || old.item != job.item {
        return Ok(None);
    }
    // Whatever is asked of AWS is recorded first: what is refused here is not asked.
    if job.asks(&old)
        && let Some(why) = Frozen::read(app).await?.holds_in(&job.item.account, &job.item.region)
    {
        return refused("FROZEN", why);
    }
    let actor = agents::actor(agent);
    let event = (!action.is_empty()).then(|| actor.did(now(), action, &job.id, reason));
    let done = app.store.commit(agent, lease, &[row_with(row, job)], event.as_ref()).await?;
    if done != Fenced::Done {
        return Ok(None);
    }
    if job.state != State::Running {
        read_again(app, &actor, &job.plan).await?;
    }
    Ok(Some(version + 1))
}

/// Once nothing of a plan runs any more, its cells are scanned: what is planned next is planned on what is there.
async fn read_again(app: &App, actor: &Actor, id: &str) -> Result<(), Fault> {
    let running = Filter {
        region: id.to_owned(),
        state: State::Running.as_str().to_owned(),
        ..Filter::default()
    };
    // Each job of a plan ends once: none of them may cost a look at all.
    if !app.store.list(Kind::KeyJob, &running, "", 1).await?.is_empty() {
        return Ok(());
    }
    let (_, plan): (Row, KeyPlan) = app.load(Kind::KeyPlan, id).await?;
    let Some((at, _)) = &plan.applied else { return Ok(()) };
    let acting = || plan.acting();
    let accounts: BTreeSet<AccountId> = acting().map(|i| i.account.clone()).collect();
    let regions: BTreeSet<_> = acting().map(|i| i.region.clone()).collect();
    let scope = Scope { regions: regions.into_iter().collect(), ..Scope::default() };
    let accounts: Vec<AccountId> = accounts.into_iter().collect();
    let scan = format!("sc-{}", hash::short(&format!("keys {id} {}", at.0), 12));
    let options = Options { keys: true, ..Options::default() };
    scans::start(app, actor, scans::Start::demand(&scan, &accounts, &scope, options)).await?;
    Ok(())
}
