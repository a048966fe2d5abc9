//! Whose turn it is: remediations that wait begin as others end (`domain::campaign`).

use crate::app::{App, Fault, now, readable, rest};
use crate::store::{Filter, Kind, Row};
use ringfence_domain::audit::Actor;
use ringfence_domain::campaign::{self, Member};
use ringfence_domain::remediation::{Remediation, State};
use ringfence_domain::time::Span;
use std::collections::{BTreeMap, BTreeSet};

/// The lease on admission: one server does it, or two would each count without the other's.
const LEASE: &str = "admission";
const LEASE_FOR: Span = Span::seconds(10);

/// How often it is looked, unless woken.
const LOOK_MS: u64 = 5_000;

/// Between two looks at least, and ten times as long as the last one took: each reads all remediations of
/// the plans at work.
const REST_MS: u64 = 100;

type Found = BTreeMap<String, (Row, Remediation)>;

/// Admits for ever.
pub async fn run(app: App) {
    loop {
        let began = now();
        if let Err(fault) = turn(&app).await {
            tracing::warn!("admitting remediations: {fault}; it is tried again");
        }
        let took = u64::try_from(now().since(began).0).unwrap_or_default();
        rest((10 * took).clamp(REST_MS, LOOK_MS)).await;
        tokio::select! {
            () = app.wake_admission.notified() => {}
            () = rest(LOOK_MS) => {}
        }
    }
}

async fn turn(app: &App) -> Result<(), Fault> {
    let mut found = read(app, &in_state(State::Running)).await?;
    found.extend(read(app, &in_state(State::Pending)).await?);
    found.retain(|_, (_, rem)| !rem.state.ended());
    let waits = |rem: &Remediation| rem.state == State::Pending || rem.intents.is_empty();
    let waiting = found.values().filter(|(_, rem)| waits(rem));
    let plans: BTreeSet<String> = waiting.map(|(_, rem)| rem.plan.clone()).collect();
    if plans.is_empty() || !app.store.hold(LEASE, &app.owner, LEASE_FOR).await? {
        return Ok(());
    }
    for plan in &plans {
        found.extend(read(app, &of_plan(plan)).await?);
    }
    let members = members(app, &found).await;
    // Again, right before it is written: reading can have taken long.
    if !app.store.hold(LEASE, &app.owner, LEASE_FOR).await? {
        return Ok(());
    }
    let turn = campaign::turn(&app.config.campaign, &members);
    for plan in &plans {
        begin(app, plan, &turn.admitted, &found).await?;
        if let Some(why) = turn.held.get(plan) {
            hold_back(app, plan, why, &found).await?;
        }
    }
    if !turn.admitted.is_empty() {
        app.wake_agents.notify_waiters();
    }
    Ok(())
}

fn in_state(state: State) -> Filter {
    Filter { state: state.as_str().into(), ..Filter::default() }
}

/// The remediations of a plan; rows have the plan's id in the region's place.
pub(crate) fn of_plan(plan: &str) -> Filter {
    Filter { region: plan.to_owned(), ..Filter::default() }
}

async fn read(app: &App, filter: &Filter) -> Result<Found, Fault> {
    let mut found = Found::new();
    for row in app.rows(Kind::Remediation, filter).await? {
        // One that cannot be read must not keep the others waiting.
        if let Some(rem) = readable::<Remediation>(row.document().map_err(Fault::from))? {
            found.insert(row.id.clone(), (row, rem));
        }
    }
    Ok(found)
}

async fn members(app: &App, found: &Found) -> Vec<Member> {
    // Without the organization all accounts count as of one OU: fewer begin, and none too many.
    let tree = app.tree().await.ok();
    let ou = |rem: &Remediation| {
        let node = tree.as_ref()?.get(&(&rem.account).into())?;
        node.parent.as_ref().map(ToString::to_string)
    };
    found
        .values()
        .map(|(_, rem)| Member {
            id: rem.id.clone(),
            plan: rem.plan.clone(),
            account: rem.account.to_string(),
            region: rem.region.to_string(),
            ou: ou(rem).unwrap_or_default(),
            state: rem.state,
            begun: !rem.intents.is_empty(),
            giving_up: rem.giving_up.is_some(),
            failure: rem.failure,
            forgiven: rem.forgiven,
            priority: rem.priority,
            approved_at: rem.approved_at,
        })
        .collect()
}

/// Those of one plan whose turn it is. Where somebody changed one of them meanwhile, none begins: the next
/// look sees it.
async fn begin(app: &App, plan: &str, admitted: &[String], found: &Found) -> Result<(), Fault> {
    let rows: Vec<Row> = admitted
        .iter()
        .filter_map(|id| found.get(id))
        .filter(|(_, rem)| rem.plan == plan)
        .map(|(row, rem)| {
            let mut rem = rem.clone();
            (rem.state, rem.why) = (State::Running, "waiting for an agent".into());
            (rem.wake_at, rem.begun_at) = (now(), Some(now()));
            row_with(row, &rem)
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    let text = format!("{} remediations begin", rows.len());
    let event = Actor::system("server").did(now(), "remediation.admit", plan, text);
    app.store.update(&rows, &event).await?;
    Ok(())
}

/// Those of a plan that have not begun wait for a person.
async fn hold_back(app: &App, plan: &str, why: &str, found: &Found) -> Result<(), Fault> {
    let rows: Vec<Row> = found
        .values()
        .filter(|(_, rem)| rem.plan == plan && rem.intents.is_empty())
        // Those that were admitted too: an agent that is about to begin finds its record refused.
        .filter(|(_, rem)| matches!(rem.state, State::Pending | State::Running))
        .map(|(row, rem)| {
            let mut rem = rem.clone();
            (rem.state, rem.why) = (State::Paused, why.to_owned());
            row_with(row, &rem)
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    tracing::warn!("{plan}: {} remediations are {why}", rows.len());
    let event = Actor::system("server").did(now(), "plan.hold", plan, why);
    app.store.update(&rows, &event).await?;
    Ok(())
}

/// The row of a remediation that was changed.
pub(crate) fn row_with(row: &Row, rem: &Remediation) -> Row {
    let mut row = row.clone().with(rem.state.as_str(), rem);
    row.wake_at = rem.wake_at;
    row
}
