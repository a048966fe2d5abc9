//! Plans: made from findings, approved by another person, applied when the world still matches.

use crate::app::{App, Fault, changed, now, refused};
use crate::scope::Scope;
use crate::store::{Filter, Kind, Row};
use crate::{freezes, past, policies, reports, scans};
use ringfence_domain::approval::{self, Approval, ApprovalError};
use ringfence_domain::audit::Actor;
use ringfence_domain::controls;
use ringfence_domain::far::{self, Far};
use ringfence_domain::finding::{self, Finding, FindingState};
use ringfence_domain::hash;
use ringfence_domain::id::{AccountId, Region};
use ringfence_domain::ledger::Cell;
use ringfence_domain::org::{AccountState, OrgTree};
use ringfence_domain::plan::{self, Body, Plan, Strategy, Wanted};
use ringfence_domain::remediation::{Goal, Names, Remediation, State};
use ringfence_domain::time::Time;
use ringfence_domain::window;
use ringfence_domain::work::Options;
use std::collections::{BTreeMap, BTreeSet};

/// The findings that a request names, or all that are open, in its scope, not waived, and without a verified twin;
/// and how many were left out for that.
async fn chosen(
    app: &App,
    tree: &OrgTree,
    ids: &[String],
    scope: &Scope,
    snapshots: bool,
) -> Result<(Vec<Finding>, usize), Fault> {
    let (mut findings, mut done) = (Vec::new(), 0);
    // Old snapshots are a matter of their own: nobody who plans databases agrees to those too.
    let meant = |f: &Finding| (f.kind == finding::Kind::Snapshot) == snapshots;
    if ids.is_empty() {
        let accounts = scope.accounts(tree)?;
        let filter = Filter { state: FindingState::Open.as_str().into(), ..Filter::default() };
        let all: Vec<(Row, Finding)> = app.all(Kind::Finding, &filter).await?;
        let wanted = |f: &Finding| {
            let here = accounts.contains(&f.account) && scope.region(f.region.as_str());
            here && !f.waived(now()) && meant(f)
        };
        let open = all.into_iter().map(|(_, f)| f).filter(wanted);
        let (held, left): (Vec<_>, Vec<_>) = open.partition(|f| f.held_by.is_some());
        (findings, done) = (left, held.len());
    }
    let distinct: BTreeSet<&String> = ids.iter().collect();
    for id in distinct {
        let (_, finding): (Row, Finding) = app.load(Kind::Finding, id).await?;
        if finding.state != FindingState::Open {
            return refused(
                "FINDING_RESOLVED",
                format!("{id} is resolved: there is nothing to do"),
            );
        }
        if !meant(&finding) {
            return Err(Fault::Invalid(match snapshots {
                true => format!("finding: {id} is no snapshot: plan it without --snapshots"),
                false => format!("finding: {id} is a snapshot: plan it with --snapshots"),
            }));
        }
        findings.push(finding);
    }
    if findings.is_empty() {
        return refused(
            "NOTHING_TO_PLAN",
            match snapshots {
                true => {
                    "no open finding of a snapshot matches: nothing to plan; `ringfence scan start --snapshots` looks for old snapshots"
                }
                false if done > 0 => {
                    "every open finding that matches has a verified twin already: nothing to plan"
                }
                false => "no open finding matches: nothing to plan",
            },
        );
    }
    findings.sort_by(|a, b| {
        (&a.account, &a.region, a.resource.name()).cmp(&(&b.account, &b.region, b.resource.name()))
    });
    Ok((findings, done))
}

/// The cell of each finding.
async fn cells_of(
    app: &App,
    accounts: BTreeSet<&AccountId>,
) -> Result<BTreeMap<(AccountId, String), Cell>, Fault> {
    let mut cells = BTreeMap::new();
    for account in accounts {
        for cell in app.store.cells(account.as_str(), ("", ""), 1_000).await? {
            cells.insert((cell.account.clone(), cell.region.clone()), cell);
        }
    }
    Ok(cells)
}

/// The open findings of accounts in which one of these has replicas in other regions.
async fn around_far(app: &App, findings: &[Finding]) -> Result<Vec<Finding>, Fault> {
    let far = |f: &&Finding| {
        f.resource.instances().flat_map(|i| &i.replicas).any(|r| far::region(r).is_some())
    };
    open_of(app, findings.iter().filter(far).map(|f| &f.account).collect()).await
}

async fn open_of(app: &App, accounts: BTreeSet<&AccountId>) -> Result<Vec<Finding>, Fault> {
    let mut open = Vec::new();
    for account in accounts {
        let (account, state) = (account.to_string(), FindingState::Open.as_str().to_owned());
        let filter = Filter { account, state, ..Filter::default() };
        open.extend(app.all(Kind::Finding, &filter).await?.into_iter().map(|(_, f)| f));
    }
    Ok(open)
}

/// Makes a plan, and says how many findings were left out for they are done; stores it unless `dry`. The same id
/// twice is the same plan.
pub async fn create(
    app: &App,
    actor: &Actor,
    id: &str,
    ids: &[String],
    scope: &Scope,
    (mut wanted, snapshots): (Wanted, bool),
    dry: bool,
) -> Result<(Plan, usize), Fault> {
    if app.store.get(Kind::Plan, id).await?.is_some() {
        return Ok((app.load(Kind::Plan, id).await?.1, 0));
    }
    wanted.past = past::past(app).await?;
    let tree = app.tree().await?;
    let (findings, done) = chosen(app, &tree, ids, scope, snapshots).await?;
    if wanted.strategy == Strategy::BlueGreen {
        wanted.proven = past::proven(app, findings.iter().map(|f| &f.account).collect()).await?;
    }
    let cells = cells_of(app, findings.iter().map(|f| &f.account).collect()).await?;
    let open = around_far(app, &findings).await?;
    let cell_of = |f: &Finding| cells.get(&(f.account.clone(), f.region.as_str().to_owned()));
    let unknown = AccountState::Other("NOT_IN_THE_ORGANIZATION".into());
    let mut items: Vec<plan::Item> = findings
        .iter()
        .map(|finding| {
            let node = tree.get(&(&finding.account).into());
            let state = node.and_then(|n| n.account_state()).unwrap_or(&unknown);
            let far = far::of(finding, open.iter()).into_iter();
            let far: Vec<Far<'_>> = far.map(|f| Far { finding: f, cell: cell_of(f) }).collect();
            plan::item(finding, cell_of(finding), &far, state, id, &wanted)
        })
        .collect();
    let checks = plan::fit(&items.iter().collect::<Vec<_>>(), &cells);
    for (n, check) in checks {
        items[n].add(check);
    }
    let ready: Vec<usize> = (0..items.len()).filter(|n| items[*n].ready()).collect();
    let asked: Vec<&plan::Item> = ready.iter().map(|n| &items[*n]).collect();
    let said = policies::checks(app, &tree, &asked).await;
    for (n, checks) in ready.into_iter().zip(said) {
        checks.into_iter().for_each(|check| items[n].add(check));
    }
    let at = now();
    let plan = Plan::new(Body {
        id: id.to_owned(),
        author: actor.name.clone(),
        created_at: at,
        control: controls::of(findings[0].kind).id().to_owned(),
        items,
    });
    if !dry {
        let ready = plan.ready().count();
        let text = format!(
            "{ready} to encrypt, {} blocked, hash {}",
            plan.body.items.len() - ready,
            plan.hash
        );
        let event = actor.did(at, "plan.create", id, text);
        let row = Row::new(Kind::Plan, id, "draft", at, &plan);
        if !app.store.update(&[row], &event).await? {
            return Ok((app.load(Kind::Plan, id).await?.1, done));
        }
    }
    Ok((plan, done))
}

/// Checks and adds a person's approval; used for all that is approved.
pub(crate) fn approve(
    author: &str,
    hash: &str,
    approvals: &mut Vec<Approval>,
    actor: &Actor,
    (reason, given): (&str, &str),
) -> Result<(), Fault> {
    let (by, reason, given) = (actor.name.clone(), reason.to_owned(), given.to_owned());
    let approval = Approval { by, at: now(), reason, hash: given };
    match approval::check(author, hash, &approval) {
        Ok(()) => {}
        Err(e @ ApprovalError::Author(_)) => return Err(Fault::Forbidden(e.to_string())),
        Err(e @ ApprovalError::NoReason) => return Err(Fault::Invalid(e.to_string())),
        Err(e @ ApprovalError::OtherHash { .. }) => return refused("HASH_MISMATCH", e.to_string()),
    }
    // Said again it counts from now on, for approvals of long ago count no more.
    approvals.retain(|a| a.hash != approval.hash || !a.by.eq_ignore_ascii_case(&approval.by));
    approvals.push(approval);
    Ok(())
}

/// Refuses what was applied already; used for all that is applied once it is approved.
pub(crate) fn not_applied(id: &str, applied: Option<&(Time, String)>) -> Result<(), Fault> {
    match applied {
        None => Ok(()),
        Some((at, by)) => refused("PLAN_APPLIED", format!("{id} was applied at {at} by {by}")),
    }
}

/// Refuses what is not what was hashed; used for deployments and the plans of keys.
pub(crate) fn intact(id: &str, intact: bool) -> Result<(), Fault> {
    match intact {
        true => Ok(()),
        false => refused(
            "PLAN_CHANGED",
            format!("the stored {id} is not the one that was hashed: plan again"),
        ),
    }
}

/// Adds a person's approval to a plan.
pub async fn add_approval(
    app: &App,
    actor: &Actor,
    id: &str,
    reason: &str,
    hash: &str,
) -> Result<Plan, Fault> {
    let (row, mut plan): (Row, Plan) = app.load(Kind::Plan, id).await?;
    not_applied(id, plan.applied.as_ref())?;
    if !plan.intact() {
        return refused(
            "PLAN_CHANGED",
            format!("the stored plan {id} is not the one that was hashed: make a new one"),
        );
    }
    if plan.ready().next().is_none() {
        return refused(
            "NOTHING_TO_DO",
            format!(
                "everything in {id} is blocked: there is nothing to approve; make a new plan once that is mended"
            ),
        );
    }
    approve(&plan.body.author, &plan.hash, &mut plan.approvals, actor, (reason, hash))?;
    let state = plan.state(app.config.approvals_remediation);
    let event = actor.did(now(), "plan.approve", id, format!("{reason} (hash {hash})"));
    if !app.store.update(&[row.with(state, &plan)], &event).await? {
        return Err(changed(id));
    }
    Ok(plan)
}

/// Refuses what not enough people have approved; used for plans and deployments.
pub(crate) fn approved(
    id: &str,
    author: &str,
    hash: &str,
    approvals: &[Approval],
    needed: usize,
) -> Result<(), Fault> {
    match approval::missing(author, hash, approvals, needed) {
        0 => Ok(()),
        missing => refused(
            "APPROVAL_MISSING",
            format!(
                "{id} needs {needed} approval(s) by others than {author}, {missing} missing: `ringfence approve {id} --reason ...`"
            ),
        ),
    }
}

/// Why a plan may not be applied, before anything is read from AWS.
fn admissible(app: &App, plan: &Plan) -> Result<(), Fault> {
    let id = &plan.body.id;
    if let Some((at, by)) = &plan.applied {
        return refused(
            "PLAN_APPLIED",
            format!(
                "{id} was applied at {at} by {by}; `ringfence remediation list --plan {id}` shows its work"
            ),
        );
    }
    if !plan.intact() {
        return refused(
            "PLAN_CHANGED",
            format!("the stored plan {id} is not the one that was hashed: make a new one"),
        );
    }
    // Before the approvals, for nobody can approve it.
    if plan.ready().next().is_none() {
        return refused(
            "NOTHING_TO_DO",
            format!("everything in {id} is blocked; `ringfence plan show {id}` says why"),
        );
    }
    let needed = app.config.approvals_remediation;
    approved(id, &plan.body.author, &plan.hash, &plan.approvals, needed)?;
    Ok(())
}

/// What is no longer as planned in one of an item's regions, by its cell as read since `begin`.
fn moved(item: &plan::Item, region: &Region, cell: Option<&Cell>, begin: Time) -> Vec<String> {
    let Some(cell) = cell else { return vec!["its cell is not in the ledger".into()] };
    if cell.as_of.is_none_or(|at| at < begin) {
        return vec!["its cell was not read again".into()];
    }
    if !cell.state.answered() {
        return vec![format!("its cell is {} ({})", cell.state, cell.reason)];
    }
    if !cell.tells(item.kind) {
        return vec!["the snapshots of its region were not read again".into()];
    }
    let mut why: Vec<String> =
        plan::proxied(item, region, cell.around.as_ref()).into_iter().collect();
    let key = cell.key.as_ref();
    let arn = key.and_then(|k| k.answer.as_ref().ok()).map(|k| &k.arn);
    let trouble = key.and_then(|k| k.trouble(&item.account, region.as_str()));
    if arn != item.key_in(region) || trouble.is_some() {
        why.push(trouble.unwrap_or_else(|| match &arn {
            Some(_) => "the alias points at another key now".into(),
            None => "its key was not read again".into(),
        }));
    }
    for name in item.new_names(region).iter().filter(|n| cell.has(item.kind, n)) {
        why.push(format!("the name {name} is taken now"));
    }
    why
}

/// Reads the plan's cells again through the agents, and says why the plan no longer holds.
async fn recheck(app: &App, actor: &Actor, plan: &Plan) -> Result<(), Fault> {
    let id = &plan.body.id;
    let accounts: BTreeSet<AccountId> = plan.ready().map(|i| i.account.clone()).collect();
    let regions: BTreeSet<_> = plan.ready().flat_map(plan::Item::regions).collect();
    let scope = Scope { regions: regions.into_iter().collect(), ..Scope::default() };
    let scan = format!("sc-{}", hash::short(&format!("recheck {id} {}", now().0), 12));
    let accounts: Vec<AccountId> = accounts.into_iter().collect();
    let begin = now();
    let snapshots = plan.ready().any(|i| i.kind == finding::Kind::Snapshot);
    let options = Options { snapshots, ..Options::default() };
    let start = scans::Start::demand(&scan, &accounts, &scope, options);
    scans::start(app, actor, start).await?;
    if !scans::wait(app, &scan, app.config.recheck_timeout).await? {
        return Err(Fault::Late(format!(
            "the accounts of {id} could not be read again within {} (scan {scan} goes on); nothing was started: apply again",
            app.config.recheck_timeout
        )));
    }
    let cells = cells_of(app, accounts.iter().collect()).await?;
    let findings = open_of(app, accounts.iter().collect()).await?;
    let mut why = plan::stale(plan, &findings, now(), app.config.plan_max_age);
    for item in plan.ready() {
        for region in item.regions() {
            let name = format!("{} {region} {}", item.account, item.resource.name());
            let cell = cells.get(&(item.account.clone(), region.as_str().to_owned()));
            why.extend(moved(item, &region, cell, begin).iter().map(|w| format!("{name}: {w}")));
        }
    }
    let ready: Vec<&plan::Item> = plan.ready().collect();
    for (n, check) in plan::fit(&ready, &cells) {
        if check.verdict == plan::Verdict::Block {
            let item = ready[n];
            let name = item.resource.name();
            why.push(format!("{} {} {name}: {}", item.account, item.region, check.text));
        }
    }
    if !why.is_empty() {
        return refused(
            "PLAN_STALE",
            format!("{id} is stale, nothing was started. Make a new plan. {}", why.join("; ")),
        );
    }
    let said = policies::checks(app, &*app.tree().await?, &ready).await;
    for (item, check) in
        ready.iter().zip(said).flat_map(|(i, all)| all.into_iter().map(move |c| (i, c)))
    {
        if check.verdict == plan::Verdict::Block {
            why.push(format!("{} {} {}", item.account, item.region, check.text));
        }
    }
    if why.is_empty() {
        return Ok(());
    }
    refused(
        "POLICY_DENIES",
        format!(
            "nothing was started; when this is out of the way, apply {id} again. {}",
            why.join("; ")
        ),
    )
}

/// The highest priority of a plan's remediations.
const PRIORITY_MAX: i32 = 100;

/// Applies a plan: checks, reads again, then admits all its remediations in one transaction.
pub async fn apply(
    app: &App,
    actor: &Actor,
    id: &str,
    priority: i32,
    dry: bool,
) -> Result<Vec<Remediation>, Fault> {
    if !(0..=PRIORITY_MAX).contains(&priority) {
        return Err(Fault::Invalid(format!("priority: it must be 0 to {PRIORITY_MAX}")));
    }
    let (row, mut plan): (Row, Plan) = app.load(Kind::Plan, id).await?;
    admissible(app, &plan)?;
    recheck(app, actor, &plan).await?;
    let at = now();
    let made: Vec<Remediation> =
        plan.ready().map(|item| admit(&plan, item, priority, at)).collect();
    // Read before looking who is busy, and written with the rest: of two plans for one database
    // that are applied together, one finds its finding changed.
    let mut findings = Vec::new();
    for rem in &made {
        let (row, finding): (Row, Finding) = app.load(Kind::Finding, &rem.finding).await?;
        findings.push(reports::row_of(Some(row), &finding));
    }
    busy(app, &made).await?;
    freezes::refuse(app, &made, false).await?;
    if dry {
        return Ok(made);
    }
    plan.applied = Some((at, actor.name.clone()));
    let mut rows: Vec<Row> = made.iter().map(row_of).collect();
    rows.extend(findings);
    rows.push(row.with("applied", &plan));
    let event = actor.did(at, "plan.apply", id, format!("{} remediations", made.len()));
    if !app.store.update(&rows, &event).await? {
        return Err(Fault::Conflict(format!(
            "{id} was changed or applied by somebody else just now; nothing was started"
        )));
    }
    app.wake_admission.notify_one();
    Ok(made)
}

/// Two units that share a resource never run together.
pub(crate) async fn busy(app: &App, made: &[Remediation]) -> Result<(), Fault> {
    for state in State::ALL.into_iter().filter(|s| !s.ended()) {
        let filter = Filter { state: state.as_str().into(), ..Filter::default() };
        let running: Vec<(Row, Remediation)> = app.all(Kind::Remediation, &filter).await?;
        for new in made {
            if let Some((_, old)) =
                running.iter().find(|(_, old)| old.finding == new.finding && old.id != new.id)
            {
                return refused(
                    "BUSY",
                    format!("{} is being worked on by {}", new.source.name(), old.id),
                );
            }
        }
    }
    Ok(())
}

fn admit(plan: &Plan, item: &plan::Item, priority: i32, at: Time) -> Remediation {
    let id = Remediation::id_of(&plan.body.id, &item.finding);
    Remediation {
        plan: plan.body.id.clone(),
        plan_hash: plan.hash.clone(),
        finding: item.finding.clone(),
        account: item.account.clone(),
        region: item.region.clone(),
        kind: item.kind,
        source: item.resource.clone(),
        key_arn: item.key_arn.clone().unwrap_or_default(),
        far_keys: item.far_keys.clone(),
        names: Names { twin: item.twin.clone(), ..Names::new(&id, &item.resource) },
        approved_at: at,
        begun_at: None,
        verified_at: None,
        checked: None,
        giving_up: None,
        cancelled: false,
        failure: None,
        forgiven: false,
        priority,
        goal: Goal::Twin,
        swap: item.swap.clone(),
        windows: item.windows.clone(),
        rounds: 0,
        activity: None,
        note: None,
        retirement: None,
        intents: BTreeMap::new(),
        state: State::Pending,
        why: match window::closed(&item.windows, at) {
            Some(why) => why,
            None => "waiting for its turn".into(),
        },
        wake_at: at,
        id,
    }
}

fn row_of(rem: &Remediation) -> Row {
    Row {
        account: rem.account.as_str().to_owned(),
        region: rem.plan.clone(),
        wake_at: rem.wake_at,
        ..Row::new(Kind::Remediation, &rem.id, rem.state.as_str(), rem.approved_at, rem)
    }
}
