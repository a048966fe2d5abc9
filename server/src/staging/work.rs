//! The worker: moves one account at a time, and looks at those that are there.

use super::{Loaded, change, plan};
use crate::app::{App, Fault, now, refused, rest};
use crate::freezes;
use crate::rollouts::{Admitted, WRITES, admits, gate, moment, transient};
use crate::store::{Filter, Kind, Row};
use ringfence_agent::Look;
use ringfence_aws::moves::Moved;
use ringfence_domain::approval;
use ringfence_domain::audit::Actor;
use ringfence_domain::cloud::ErrorClass;
use ringfence_domain::id::{AccountId, NodeId};
use ringfence_domain::rollout::{Health, Observation, State, Wish};
use ringfence_domain::staging::{Places, Staging, Step, decide};
use ringfence_domain::time::{Span, Time};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// How long it rests after an error that may pass.
const PAUSE_MS: u64 = 5_000;

/// How often a batch that stays is looked at, for what people do to it meanwhile.
const STAY_LOOK: Span = Span::seconds(60);

/// How often a move is read back before the step ends and the next look decides.
const READ_BACK: u32 = 5;

/// Looks at what is on its way, for ever.
pub async fn run(app: App) {
    let mut looked = BTreeMap::new();
    loop {
        if let Err(fault) = look(&app, &mut looked).await {
            tracing::warn!("staging: {fault}");
        }
        rest(1_000).await;
    }
}

async fn look(app: &App, looked: &mut BTreeMap<String, Time>) -> Result<(), Fault> {
    for state in [State::Aborting, State::Running, State::Baking] {
        let filter = Filter { state: state.as_str().into(), ..Filter::default() };
        let all: Vec<(Row, Staging)> = app.all(Kind::Staging, &filter).await?;
        for (_, staging) in all {
            if state == State::Baking && !due(app, &staging, looked) {
                continue;
            }
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

/// Whether a batch that is there wants to be looked at: now and then, when its time is over, and when its health is to be
/// asked for.
fn due(app: &App, staging: &Staging, looked: &mut BTreeMap<String, Time>) -> bool {
    let at = now();
    let over = staging.stays_until().is_none_or(|until| at >= until);
    let every = app.config.observe_every;
    let observe = || staging.last.as_ref().is_none_or(|o| at.since(o.at) >= every);
    let seldom = looked.get(&staging.body.id).is_none_or(|last| at.since(*last) >= STAY_LOOK);
    let due = over || (app.health.is_some() && observe()) || seldom;
    if due {
        looked.insert(staging.body.id.clone(), at);
    }
    due
}

async fn advance(app: &App, id: &str) {
    // Read once, and each account anew when it is moved.
    let mut places = Places::new();
    loop {
        let turn = app.writes.lock().await;
        let done = step(app, id, &mut places).await;
        drop(turn);
        let why = match done {
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

/// Reads where an account is until it is where it should be, for a few seconds: Organizations is eventually consistent.
/// What it shows is then the next step's business.
async fn read_back(
    app: &App,
    account: &AccountId,
    wanted: &NodeId,
    places: &mut Places,
) -> Result<(), Fault> {
    for _ in 0..READ_BACK {
        let place = app.cloud.parent_of(account).await?;
        let shows = place.as_ref() == Some(wanted);
        places.insert(account.clone(), place);
        if shows {
            return Ok(());
        }
        rest(1_000).await;
    }
    Ok(())
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
async fn step(app: &App, id: &str, places: &mut Places) -> Result<bool, Fault> {
    let loaded: Loaded = app.load(Kind::Staging, id).await?;
    let staging = &loaded.1;
    if !matches!(staging.state, State::Running | State::Baking | State::Aborting) {
        return Ok(false);
    }
    for account in staging.watched() {
        if let Entry::Vacant(place) = places.entry(account) {
            let now = app.cloud.parent_of(place.key()).await?;
            place.insert(now);
        }
    }
    let (author, approvals) = (&staging.body.author, &staging.approvals);
    let needed = app.config.approvals_rollout;
    let missing = approval::missing(author, &staging.hash, approvals, needed);
    // CloudTrail is asked for rollouts alone: the one on the staging OU sees these accounts.
    let mut moment = moment(app);
    moment.observe_every = moment.observe_every.filter(|_| app.health.is_some());
    match decide(staging, places, missing, moment) {
        Step::MoveThere(account) => there(app, loaded, &account, places).await,
        Step::MoveBack(account) => back(app, loaded, &account, places).await,
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
        Step::MarkGone(account) => {
            let text = format!("{account} has left the organization");
            change(app, &system(), loaded, ("staging.gone", &text), |s| {
                s.visit(&account).gone_at = Some(now());
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

/// Why an account may not go yet: its evidence, what the operator's own gate says, or what changes for it.
async fn shut(app: &App, staging: &Staging, account: &AccountId) -> Result<Admitted, Fault> {
    let target = NodeId::from(account);
    let about = about(staging, std::slice::from_ref(account));
    match admits(app, &staging.body.id, about, &target) {
        Admitted::Yes => {}
        other => return Ok(other),
    }
    let (shut, _) = gate(app, &target).await?;
    if !shut.is_empty() {
        return Ok(Admitted::No(format!("the gate before {account} is shut: {}", shut.join("; "))));
    }
    let (from, _) = ends(staging, account)?;
    let changed = plan::changed(app, &staging.body, &from).await?;
    Ok(changed.map_or(Admitted::Yes, Admitted::No))
}

/// Moves one there: where nothing is frozen and its gate is open, as before any attachment.
async fn there(
    app: &App,
    loaded: Loaded,
    account: &AccountId,
    places: &mut Places,
) -> Result<bool, Fault> {
    let target = NodeId::from(account);
    if let Some(why) = freezes::held_under(app, Some(&target), None).await? {
        return refused("FROZEN", why);
    }
    match shut(app, &loaded.1, account).await? {
        Admitted::Yes => {}
        Admitted::Waits(why) => {
            waits(app, &loaded.1.body.id, why, false).await?;
            return Ok(false);
        }
        Admitted::No(why) => {
            let why = vec![why, "resume tries again, abort ends it".to_owned()];
            return stop(app, loaded, State::Blocked, why).await;
        }
    }
    let (from, to) = ends(&loaded.1, account)?;
    let first = !loaded.1.visits.contains_key(account);
    let text = format!("{account} from {from} to {to}");
    let loaded = change(app, &system(), loaded, ("staging.move", &text), |s| {
        s.leaves(account, now());
        s.why.clear();
        Ok(())
    })
    .await?;
    match app.cloud.move_account(account, &from, &to).await {
        Ok(Moved::Done) => {}
        // Somebody took it elsewhere since we looked: it was never moved by us, and is not ours to bring back. Later it may
        // be that an answer was lost; then the next look says where it is.
        Ok(Moved::NotThere | Moved::Already) if first => {
            never_left(app, loaded, account, &text).await?;
            return Ok(false);
        }
        // A call whose answer was lost.
        Ok(Moved::Already) => {}
        Ok(Moved::NotThere) => return Ok(false),
        Err(error) => {
            // AWS said no for certain.
            if first && error.class != ErrorClass::Unknown {
                never_left(app, loaded, account, &text).await?;
            }
            return Err(error.into());
        }
    }
    answered(app, loaded, account, ("staging.move-accepted", &text), false).await?;
    read_back(app, account, &to, places).await?;
    Ok(true)
}

/// Forgets a move that did not take place: it need not be brought back.
async fn never_left(
    app: &App,
    loaded: Loaded,
    account: &AccountId,
    text: &str,
) -> Result<(), Fault> {
    change(app, &system(), loaded, ("staging.move-refused", text), |s| {
        s.visits.remove(account);
        Ok(())
    })
    .await?;
    Ok(())
}

/// Notes that AWS said yes.
async fn answered(
    app: &App,
    loaded: Loaded,
    account: &AccountId,
    (action, text): (&str, &str),
    back: bool,
) -> Result<(), Fault> {
    change(app, &system(), loaded, (action, text), |s| {
        let visit = s.visit(account);
        visit.attempts += 1;
        if back {
            visit.return_accepted_at = Some(now());
        }
        Ok(())
    })
    .await?;
    Ok(())
}

/// Moves one back. A freeze does not keep it away, and what AWS refuses for one holds no other one up.
async fn back(
    app: &App,
    loaded: Loaded,
    account: &AccountId,
    places: &mut Places,
) -> Result<bool, Fault> {
    let (home, ou) = ends(&loaded.1, account)?;
    let text = format!("{account} from {ou} to {home}");
    let loaded = change(app, &system(), loaded, ("staging.move-back", &text), |s| {
        s.returns(account, now());
        Ok(())
    })
    .await?;
    match app.cloud.move_account(account, &ou, &home).await {
        Ok(Moved::Done | Moved::Already) => {
            answered(app, loaded, account, ("staging.move-back-accepted", &text), true).await?;
        }
        // It is somewhere else than we thought: the next look says where.
        Ok(Moved::NotThere) => {}
        Err(error) if transient(error.class) => return Err(error.into()),
        Err(error) => {
            let why = error.to_string();
            change(app, &system(), loaded, ("staging.move-back-refused", &why), |s| {
                s.visit(account).refused = Some(why.clone());
                Ok(())
            })
            .await?;
            return Ok(true);
        }
    }
    read_back(app, account, &home, places).await?;
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

/// What the operator's commands are told.
fn about(staging: &Staging, accounts: &[AccountId]) -> Vec<(&'static str, String)> {
    let list: Vec<String> = accounts.iter().map(ToString::to_string).collect();
    let since = accounts.iter().filter_map(|a| staging.visits.get(a)?.arrived_at).max();
    vec![
        ("STAGING", staging.body.id.clone()),
        ("STAGE", "staging".to_owned()),
        ("TARGETS", list.join(",")),
        ("SINCE", since.map_or(String::new(), |at| at.to_string())),
    ]
}

/// Asks the operator's command, or looks how it stands.
async fn observe(app: &App, loaded: Loaded, accounts: &[AccountId]) -> Result<bool, Fault> {
    let Some(command) = &app.health else { return Ok(false) };
    let staging = &loaded.1;
    let list: Vec<String> = accounts.iter().map(ToString::to_string).collect();
    let (health, said) = match command.look(&staging.body.id, &about(staging, accounts), now()) {
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
