//! Whose turn it is: remediations that wait begin as others end (`domain::campaign`).

use crate::app::{App, Fault, now, rest};
use crate::freezes::Frozen;
use crate::remediations::{of_plan, row_with};
use crate::store::{Filter, Kind, Row};
use ringfence_domain::audit::Actor;
use ringfence_domain::campaign::{self, Member};
use ringfence_domain::remediation::{Remediation, State};
use ringfence_domain::time::Span;
use ringfence_domain::window;
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
    let running = read(app, &in_state(State::Running)).await?;
    // Of those that wait the rows say enough: their documents come with their plans.
    let waiting = app.rows(Kind::Remediation, &in_state(State::Pending)).await?;
    let unbegun = running.values().filter(|(_, rem)| rem.intents.is_empty());
    let plans: BTreeSet<String> = unbegun
        .map(|(_, rem)| rem.plan.clone())
        .chain(waiting.into_iter().map(|r| r.region))
        .collect();
    if plans.is_empty() || !app.store.hold(LEASE, &app.owner, LEASE_FOR).await? {
        return Ok(());
    }
    let mut found = running;
    for plan in &plans {
        found.extend(read(app, &of_plan(plan)).await?);
    }
    let members = members(app, &found).await?;
    // Again, right before it is written: reading can have taken long.
    if !app.store.hold(LEASE, &app.owner, LEASE_FOR).await? {
        return Ok(());
    }
    let turn = campaign::turn(&app.config.campaign, &members);
    let admitted: BTreeSet<&String> = turn.admitted.iter().collect();
    for plan in &plans {
        let its = || members.iter().filter(|m| m.plan == *plan);
        begin(app, plan, its().filter(|m| admitted.contains(&m.id)), &found).await?;
        if let Some(why) = turn.held.get(plan) {
            hold_back(app, plan, why, its().filter(|m| m.may_be_held()), &found).await?;
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

async fn read(app: &App, filter: &Filter) -> Result<Found, Fault> {
    let found: Vec<(Row, Remediation)> = app.all_readable(Kind::Remediation, filter).await?;
    Ok(found.into_iter().map(|(row, rem)| (row.id.clone(), (row, rem))).collect())
}

async fn members(app: &App, found: &Found) -> Result<Vec<Member>, Fault> {
    // Without the organization all accounts count as of one OU: fewer begin, and none too many.
    let (tree, at) = (app.tree().await.ok(), now());
    let frozen = Frozen::read(app).await?;
    let ou = |rem: &Remediation| {
        let node = tree.as_ref()?.get(&(&rem.account).into())?;
        node.parent.as_ref().map(ToString::to_string)
    };
    let members = found
        .values()
        .map(|(_, rem)| Member {
            id: rem.id.clone(),
            plan: rem.plan.clone(),
            account: rem.account.to_string(),
            region: rem.region.to_string(),
            ou: ou(rem).unwrap_or_default(),
            state: rem.state,
            begun: rem.has_begun(),
            shut: window::closed(&rem.windows, at).is_some(),
            frozen: frozen.holds(rem, rem.midway()).is_some(),
            giving_up: rem.giving_up.is_some(),
            failure: rem.failure,
            forgiven: rem.forgiven,
            priority: rem.priority,
            approved_at: rem.approved_at,
        })
        .collect();
    Ok(members)
}

/// Those of one plan whose turn it is.
async fn begin(
    app: &App,
    plan: &str,
    admitted: impl Iterator<Item = &Member>,
    found: &Found,
) -> Result<(), Fault> {
    let at = now();
    let rows = changed(admitted, found, |rem| {
        (rem.state, rem.why) = (State::Running, "waiting for an agent".into());
        (rem.wake_at, rem.begun_at) = (at, Some(at));
    });
    let text = format!("{} remediations begin", rows.len());
    put(app, plan, "remediation.admit", &rows, &text).await
}

/// Those of a plan that have not begun wait for a person; those that were admitted too: an agent that is
/// about to begin finds its record refused.
async fn hold_back(
    app: &App,
    plan: &str,
    why: &str,
    members: impl Iterator<Item = &Member>,
    found: &Found,
) -> Result<(), Fault> {
    let rows = changed(members, found, |rem| {
        (rem.state, rem.why) = (State::Paused, why.to_owned());
    });
    if !rows.is_empty() {
        tracing::warn!("{plan}: {} remediations are {why}", rows.len());
    }
    put(app, plan, "plan.hold", &rows, why).await
}

/// The rows of these remediations, changed so.
fn changed<'a>(
    members: impl Iterator<Item = &'a Member>,
    found: &Found,
    change: impl Fn(&mut Remediation),
) -> Vec<Row> {
    let row = |member: &Member| {
        let (row, mut rem) = found.get(&member.id)?.clone();
        change(&mut rem);
        Some(row_with(row, &rem))
    };
    members.filter_map(row).collect()
}

/// Where somebody changed one of them meanwhile, none is written: the next look sees it.
async fn put(app: &App, plan: &str, action: &str, rows: &[Row], why: &str) -> Result<(), Fault> {
    if rows.is_empty() {
        return Ok(());
    }
    app.store.update(rows, &Actor::system("server").did(now(), action, plan, why)).await?;
    Ok(())
}
