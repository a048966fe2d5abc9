//! The worker: moves one account at a time, and looks at those that are there.

use super::{Loaded, change};
use crate::app::{App, Fault, now, rest};
use crate::freezes;
use crate::rollouts::{WRITES, gate, moment, transient};
use crate::store::{Filter, Kind, Row};
use ringfence_agent::Look;
use ringfence_aws::organizations::Moved;
use ringfence_domain::approval;
use ringfence_domain::audit::Actor;
use ringfence_domain::id::{AccountId, NodeId};
use ringfence_domain::rollout::{Health, Observation, State, Wish};
use ringfence_domain::staging::{Places, Staging, Step, decide};

/// How long it rests after an error that may pass.
const PAUSE_MS: u64 = 5_000;

/// Looks at what is on its way, for ever.
pub async fn run(app: App) {
    loop {
        if let Err(fault) = look(&app).await {
            tracing::warn!("staging: {fault}");
        }
        rest(1_000).await;
    }
}

async fn look(app: &App) -> Result<(), Fault> {
    for state in [State::Aborting, State::Running, State::Baking] {
        let filter = Filter { state: state.as_str().into(), ..Filter::default() };
        let all: Vec<(Row, Staging)> = app.all(Kind::Staging, &filter).await?;
        for (_, staging) in all {
            // Moves are writes to Organizations like all others: one server makes them, one after the other.
            if !app.store.hold(WRITES, &app.owner, app.config.lease_for).await? {
                return Ok(());
            }
            tokio::select! {
                () = advance(app, &staging.body.id) => {}
                () = app.keep(WRITES, app.config.lease_for) => return Ok(()),
            }
        }
    }
    Ok(())
}

async fn advance(app: &App, id: &str) {
    loop {
        let why = match step(app, id).await {
            Ok(true) => continue,
            Ok(false) => return,
            // A person changed it meanwhile: the next look is fresh.
            Err(Fault::Conflict(_)) => return,
            Err(fault) => fault,
        };
        let fatal = matches!(&why, Fault::Cloud(e) if !transient(e.class));
        if let Err(fault) = waits(app, id, why.to_string(), fatal).await {
            tracing::warn!("{id}: {fault}");
        }
        rest(PAUSE_MS).await;
        return;
    }
}

fn system() -> Actor {
    Actor::system("staging")
}

/// Notes why it makes no progress, or that a person must look; once for each reason.
async fn waits(app: &App, id: &str, why: String, fatal: bool) -> Result<(), Fault> {
    let loaded: Loaded = app.load(Kind::Staging, id).await?;
    if loaded.1.why == [why.clone()] && !fatal {
        return Ok(());
    }
    let action = if fatal { "staging.failed" } else { "staging.wait" };
    change(app, &system(), loaded, (action, &why), |s| {
        s.why = vec![why.clone()];
        if fatal {
            s.state = State::Failed;
        }
        Ok(())
    })
    .await?;
    Ok(())
}

async fn stop(app: &App, loaded: Loaded, state: State, why: Vec<String>) -> Result<bool, Fault> {
    if loaded.1.state == state && loaded.1.why == why {
        return Ok(false);
    }
    let text = if why.is_empty() { state.as_str().to_owned() } else { why.join("; ") };
    change(app, &system(), loaded, (&format!("staging.{}", state.as_str()), &text), |s| {
        (s.state, s.why) = (state, why);
        Ok(())
    })
    .await?;
    Ok(false)
}

/// Observe, decide, act, record: once. False when there is nothing more to do now.
async fn step(app: &App, id: &str) -> Result<bool, Fault> {
    let loaded: Loaded = app.load(Kind::Staging, id).await?;
    let staging = &loaded.1;
    if !matches!(staging.state, State::Running | State::Baking | State::Aborting) {
        return Ok(false);
    }
    let mut places = Places::new();
    for account in staging.watched() {
        let place = app.cloud.parent_of(&account).await?;
        places.insert(account, place);
    }
    let (author, approvals) = (&staging.body.author, &staging.approvals);
    let needed = app.config.approvals_rollout;
    let missing = approval::missing(author, &staging.hash, approvals, needed);
    // CloudTrail is asked for rollouts alone: the one on the staging OU sees these accounts.
    let mut moment = moment(app);
    moment.observe_every = moment.observe_every.filter(|_| app.health.is_some());
    match decide(staging, &places, missing, moment) {
        Step::MoveThere(account) => there(app, loaded, &account).await,
        Step::MoveBack(account) => back(app, loaded, &account).await,
        Step::Observe(accounts) => observe(app, loaded, &accounts).await,
        Step::MarkArrived(account) => {
            let text = account.to_string();
            change(app, &system(), loaded, ("staging.arrived", &text), |s| {
                s.arrives(&account, now());
                Ok(())
            })
            .await
            .map(|_| true)
        }
        Step::MarkReturned(account) => {
            let text = account.to_string();
            change(app, &system(), loaded, ("staging.returned", &text), |s| {
                s.visit(&account).returned_at = Some(now());
                Ok(())
            })
            .await
            .map(|_| true)
        }
        Step::Rest(State::Running) => Ok(false),
        Step::Rest(State::Baking) => {
            let until = staging.stays_until().map_or(String::new(), |until| until.to_string());
            let why = vec![format!("they stay until {until} at least")];
            stop(app, loaded, State::Baking, why).await
        }
        Step::Rest(State::Blocked) => {
            stop(app, loaded, State::Blocked, vec![format!("{missing} approval(s) missing")]).await
        }
        Step::Rest(state) => {
            let why = if state == State::Aborted { staging.why.clone() } else { Vec::new() };
            stop(app, loaded, state, why).await
        }
        Step::AskHuman(why) => stop(app, loaded, State::Failed, vec![why]).await,
    }
}

/// Moves one there: where nothing is frozen and its evidence holds, as before any attachment.
async fn there(app: &App, loaded: Loaded, account: &AccountId) -> Result<bool, Fault> {
    let target = NodeId::from(account);
    if let Some(why) = freezes::held_under(app, Some(&target), None).await? {
        return crate::app::refused("FROZEN", why);
    }
    let (shut, _) = gate(app, &target).await?;
    if !shut.is_empty() {
        let why = std::iter::once(format!("the gate before {account} is shut")).chain(shut);
        return stop(app, loaded, State::Blocked, why.collect()).await;
    }
    let (from, to) = ends(&loaded.1, account)?;
    let text = format!("{account} from {from} to {to}");
    change(app, &system(), loaded, ("staging.move", &text), |s| {
        s.leaves(account, now());
        Ok(())
    })
    .await?;
    app.cloud.move_account(account, &from, &to).await?;
    Ok(true)
}

/// Moves one back. A freeze does not keep it away.
async fn back(app: &App, loaded: Loaded, account: &AccountId) -> Result<bool, Fault> {
    let (home, ou) = ends(&loaded.1, account)?;
    let text = format!("{account} from {ou} to {home}");
    let loaded = change(app, &system(), loaded, ("staging.move-back", &text), |s| {
        s.returns(account, now());
        Ok(())
    })
    .await?;
    match app.cloud.move_account(account, &ou, &home).await? {
        Moved::Done => {}
        // It is somewhere else than we thought: the next look says where.
        Moved::NotThere => return Ok(true),
    }
    change(app, &system(), loaded, ("staging.move-back-accepted", &text), |s| {
        s.visit(account).return_accepted_at = Some(now());
        Ok(())
    })
    .await?;
    Ok(true)
}

/// Its home, and the staging OU.
fn ends(staging: &Staging, account: &AccountId) -> Result<(NodeId, NodeId), Fault> {
    let visitor = staging.body.visitors.iter().find(|v| v.account == *account);
    match visitor {
        Some(visitor) => Ok((visitor.origin.clone(), staging.body.ou.clone())),
        None => Err(Fault::Invalid(format!("{account} is not in {}", staging.body.id))),
    }
}

/// Asks the operator's command, or looks how it stands.
async fn observe(app: &App, loaded: Loaded, accounts: &[AccountId]) -> Result<bool, Fault> {
    let Some(command) = &app.health else { return Ok(false) };
    let staging = &loaded.1;
    let list: Vec<String> = accounts.iter().map(ToString::to_string).collect();
    let since = accounts.iter().filter_map(|a| staging.visits.get(a)?.arrived_at).max();
    let about = [
        ("STAGING", staging.body.id.clone()),
        ("STAGE", "staging".to_owned()),
        ("TARGETS", list.join(",")),
        ("SINCE", since.map_or(String::new(), |at| at.to_string())),
    ];
    let (health, said) = match command.look(&staging.body.id, &about, now()) {
        Look::Running(_) => return Ok(false),
        Look::Passed(said) => (Health::Healthy, said),
        Look::Failed(Some(1), why) => (Health::Unhealthy, why),
        Look::Failed(_, why) => (Health::Inconclusive, why),
    };
    let text = format!("{} is {}: {said}", list.join(", "), health.as_str());
    change(app, &system(), loaded, ("staging.observed", &text), |s| {
        s.observe(Observation { at: now(), health, said });
        match health {
            Health::Healthy => {}
            Health::Inconclusive => {
                (s.wish, s.state) = (Wish::Pause, State::Paused);
                s.why = vec![format!("{text}; who is there stays; resume asks again")];
            }
            Health::Unhealthy => {
                (s.wish, s.state) = (Wish::Abort, State::Aborting);
                s.why = vec![format!("{text}; every account is brought home")];
                s.tries_again();
            }
        }
        Ok(())
    })
    .await?;
    Ok(true)
}
