//! Probes: asked for here, made by agents.

use crate::agents;
use crate::app::{App, Fault, changed, now, refused};
use crate::scans;
use crate::store::{Fenced, Filter, Kind, Lease, Row};
use ringfence_domain::audit::Actor;
use ringfence_domain::ledger::{Cell, CellState, RegionsSource};
use ringfence_domain::org::NodeKind;
use ringfence_domain::probe::{self, Answer, Answered, Off, Place, Probe};
use ringfence_domain::time::{Span, Time};
use ringfence_domain::work::VersionedProbe;

/// Whether probes may be used: they were proven, and none made a database since.
pub(crate) async fn proven(app: &App) -> Result<Result<Probe, Off>, Fault> {
    let all: Vec<(Row, Probe)> = app.all(Kind::Probe, &Filter::default()).await?;
    Ok(probe::proven(all.iter().map(|(_, p)| p)).cloned())
}

/// Asks for one in a sandbox account, to prove that a probe makes nothing. The same id twice is the same probe.
pub(crate) async fn prove(
    app: &App,
    actor: &Actor,
    id: &str,
    place: Place,
) -> Result<Probe, Fault> {
    if app.store.get(Kind::Probe, id).await?.is_some() {
        return read(app, id).await;
    }
    let tree = app.tree().await?;
    let account = &place.account;
    match tree.get(&account.into()).map(|node| &node.kind) {
        Some(NodeKind::Account { management: true, .. }) => {
            return Err(Fault::Invalid(format!(
                "account: {account} is the management account, which no service control policy binds: name a member account"
            )));
        }
        Some(NodeKind::Account { state, .. }) if state.has_cells() => is_on(app, &place).await?,
        Some(_) => {
            return refused("WRONG_STATE", format!("account: {account} is not active"));
        }
        None => {
            return Err(Fault::NotFound(format!(
                "account: {account} is not in the organization as of {}; `ringfence org tree` shows what is",
                tree.as_of
            )));
        }
    }
    let probe = Probe { id: id.to_owned(), place, rollout: None, asked_at: now(), answered: None };
    ask(app, actor, None, &probe).await?;
    Ok(probe)
}

/// Refuses a region that the account has off, as far as scans saw: its answer would be of the session, not of policies.
pub(crate) async fn is_on(app: &App, place: &Place) -> Result<(), Fault> {
    let cells = scans::cells(app, std::slice::from_ref(&place.account)).await?;
    let named = cells.iter().any(|c| c.regions_source == RegionsSource::Account);
    let on = |c: &Cell| c.region == place.region.as_str() && c.state != CellState::RegionOff;
    match named && !cells.iter().any(on) {
        true => Err(Fault::Invalid(format!(
            "region: {} is not on in {}, by its last scan",
            place.region, place.account
        ))),
        false => Ok(()),
    }
}

/// One probe.
pub(crate) async fn read(app: &App, id: &str) -> Result<Probe, Fault> {
    Ok(app.load(Kind::Probe, id).await?.1)
}

/// What came of asking for a probe.
pub(crate) enum Asked {
    /// This.
    Answered(Answered),
    /// An agent is at it, or is to be, since then.
    Waits(Time),
    /// Nobody asks: probes may not be used.
    Off(String),
}

/// What came of the probe with this id that was asked for after `since`; where nobody asked since then, it is asked for
/// now.
pub(crate) async fn since(
    app: &App,
    actor: &Actor,
    (id, rollout): (&str, &str),
    place: &Place,
    since: Time,
) -> Result<Asked, Fault> {
    let known = app.store.get(Kind::Probe, id).await?;
    if let Some(row) = &known {
        let probe: Probe = row.document()?;
        if probe.asked_at > since && probe.place == *place {
            return Ok(probe.answered.map_or(Asked::Waits(probe.asked_at), Asked::Answered));
        }
    }
    if let Err(off) = proven(app).await? {
        return Ok(Asked::Off(off.to_string()));
    }
    let probe = Probe {
        id: id.to_owned(),
        place: place.clone(),
        rollout: Some(rollout.to_owned()),
        // Also where our clock is behind that of the server before us.
        asked_at: now().max(since.plus(Span(1))),
        answered: None,
    };
    ask(app, actor, known, &probe).await?;
    Ok(Asked::Waits(probe.asked_at))
}

/// The intent comes first: what was asked for where is in the audit log before any agent calls AWS.
async fn ask(app: &App, actor: &Actor, known: Option<Row>, probe: &Probe) -> Result<(), Fault> {
    let text = format!("creates that must fail, in {}", probe.place);
    let event = actor.did(now(), "probe.ask", &probe.id, text);
    let row = match known {
        Some(row) => row.with(probe.state(), probe),
        None => Row::new(Kind::Probe, &probe.id, probe.state(), now(), probe),
    };
    let place = &probe.place;
    let (account, region) = (place.account.to_string(), place.region.to_string());
    let row = Row { account, region, wake_at: now(), ..row };
    if !app.store.update(&[row], &event).await? {
        return Err(changed(&probe.id));
    }
    app.wake_agents.notify_waiters();
    Ok(())
}

/// Those of these that agents are to make now. One that a rollout asked for long ago, or before another one made a database, is
/// closed: whoever wants it asks again.
pub(crate) async fn dealt(
    app: &App,
    due: Vec<VersionedProbe>,
) -> Result<Vec<VersionedProbe>, Fault> {
    if due.iter().all(|one| one.probe.rollout.is_none()) {
        return Ok(due);
    }
    let off = proven(app).await?.err();
    let mut left = Vec::new();
    for one in due {
        let old = now().since(one.probe.asked_at) >= app.config.probe_for;
        let why = match &off {
            _ if one.probe.rollout.is_none() => None,
            Some(off) => Some(off.to_string()),
            None => old.then(|| "no agent was there in time".to_owned()),
        };
        match why {
            None => left.push(one),
            Some(why) => close(app, one.probe, why).await?,
        }
    }
    Ok(left)
}

async fn close(app: &App, mut probe: Probe, why: String) -> Result<(), Fault> {
    let event = Actor::system("server").did(now(), "probe.closed", &probe.id, &*why);
    probe.answered = Some(Answered::both(now(), Answer::Other(format!("it was not tried: {why}"))));
    let (row, open): (Row, Probe) = app.load(Kind::Probe, &probe.id).await?;
    if open.answered.is_none() {
        // Whoever was faster has asked anew, or has an answer.
        app.store.update(&[row.with(probe.state(), &probe)], &event).await?;
    }
    Ok(())
}

/// Stores what an agent saw, under its fence. `None` if the lease is lost or somebody asked for it anew.
pub(crate) async fn commit(
    app: &App,
    agent: &str,
    lease: &Lease,
    version: i64,
    told: Probe,
) -> Result<Option<i64>, Fault> {
    let (old, mut probe): (Row, Probe) = app.load(Kind::Probe, &told.id).await?;
    if old.version != version || old.account != lease.account || probe.answered.is_some() {
        return Ok(None);
    }
    let Some(answered) = told.answered else {
        return Err(Fault::Invalid("probe_json: it has no answer".to_owned()));
    };
    let said = answered.said();
    // By the servers' clock: it tells a proof from what came after it.
    probe.answered = Some(Answered { at: now(), ..answered });
    let action = match &probe.answered {
        _ if probe.proves() => "probe.proven",
        Some(answered) if answered.made().is_some() => "probe.off",
        _ => "probe.answered",
    };
    let text = format!("{}: {said}", probe.place);
    let event = agents::actor(agent).did(now(), action, &probe.id, text);
    let row = old.with(probe.state(), &probe);
    match app.store.commit(agent, lease, &[row], Some(&event)).await? {
        Fenced::Done => {
            app.wake_rollouts.notify_one();
            Ok(Some(version + 1))
        }
        Fenced::Lost | Fenced::Stale => Ok(None),
    }
}
