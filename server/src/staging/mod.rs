//! Accounts on their way to a staging OU and back: planned and ordered here, moved by [`work`].

mod plan;
mod work;

pub use plan::{Wanted, plan};
pub use work::run;

use crate::app::{App, Fault, changed, now, refused};
use crate::plans;
use crate::rollouts::verbs::approved;
use crate::store::{Filter, Kind, Row};
use ringfence_domain::audit::Actor;
use ringfence_domain::id::AccountId;
use ringfence_domain::rollout::{State, Wish};
use ringfence_domain::staging::{Staging, Visit};
use std::collections::BTreeSet;

type Loaded = (Row, Staging);

/// Adds a person's approval.
pub async fn add_approval(
    app: &App,
    actor: &Actor,
    id: &str,
    reason: &str,
    hash: &str,
) -> Result<Staging, Fault> {
    let loaded = app.load(Kind::Staging, id).await?;
    let text = format!("{reason} (hash {hash})");
    let (_, staging) = change(app, actor, loaded, ("staging.approve", &text), |s| {
        let (author, own) = (&s.body.author, &s.hash);
        plans::approve(author, own, &mut s.approvals, actor, (reason, hash))
    })
    .await?;
    Ok(staging)
}

/// What a person can ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Begin.
    Start,
    /// Move nothing more.
    Pause,
    /// Go on.
    Resume,
    /// Bring every account home.
    Abort,
}

/// Carries out a person's wish; the worker does the rest.
pub async fn wish(
    app: &App,
    actor: &Actor,
    id: &str,
    verb: Verb,
    reason: &str,
) -> Result<Staging, Fault> {
    let loaded: Loaded = app.load(Kind::Staging, id).await?;
    let staging = &loaded.1;
    if matches!(verb, Verb::Start | Verb::Resume) {
        let needed = app.config.approvals_rollout;
        approved(app, (id, &staging.body.author, &staging.hash), &staging.approvals, needed)?;
    }
    let (wish, state, action) = becomes(staging, verb)?;
    let (_, staging) = change(app, actor, loaded, (action, reason), |s| {
        s.tries_again();
        (s.wish, s.state) = (wish, state);
        s.why.clear();
        if verb == Verb::Pause {
            s.why.push(format!("paused by {}; who is there stays; resume goes on", actor.name));
        }
        Ok(())
    })
    .await?;
    app.wake_rollouts.notify_one();
    Ok(staging)
}

fn becomes(staging: &Staging, verb: Verb) -> Result<(Wish, State, &'static str), Fault> {
    let (state, id) = (staging.state, &staging.body.id);
    let no = |what: &str| refused("WRONG_STATE", format!("{id} is {}: {what}", state.as_str()));
    Ok(match verb {
        Verb::Abort if matches!(state, State::Aborted | State::Complete) => {
            return no("every account is at home");
        }
        Verb::Abort => (Wish::Abort, State::Aborting, "staging.abort"),
        _ if staging.wish == Wish::Abort => return no("its accounts are brought home; plan anew"),
        _ if state == State::Complete => return no("every account was there and is back"),
        Verb::Start if state != State::Planned => return no("use `ringfence staging resume`"),
        Verb::Resume | Verb::Pause if state == State::Planned => {
            return no("use `ringfence staging start`");
        }
        Verb::Start => (Wish::Run, State::Running, "staging.start"),
        Verb::Resume => (Wish::Run, State::Running, "staging.resume"),
        Verb::Pause => (Wish::Pause, State::Paused, "staging.pause"),
    })
}

/// Those that are not over: with what they may move.
async fn open(app: &App) -> Result<Vec<Staging>, Fault> {
    let all: Vec<(Row, Staging)> = app.all(Kind::Staging, &Filter::default()).await?;
    let over = |s: &Staging| matches!(s.state, State::Complete | State::Aborted | State::Planned);
    Ok(all.into_iter().map(|(_, s)| s).filter(|s| !over(s)).collect())
}

/// Accounts that are away from home, and will be back.
pub async fn away(app: &App) -> Result<BTreeSet<AccountId>, Fault> {
    let all = open(app).await?;
    let away = |s: Staging| s.visits.into_iter().filter(|(_, v)| Visit::is_away(v)).map(|(a, _)| a);
    Ok(all.into_iter().flat_map(away).collect())
}

/// One compare-and-set change with its event.
async fn change(
    app: &App,
    actor: &Actor,
    (row, mut staging): Loaded,
    (action, reason): (&str, &str),
    edit: impl FnOnce(&mut Staging) -> Result<(), Fault>,
) -> Result<Loaded, Fault> {
    let id = staging.body.id.clone();
    edit(&mut staging)?;
    let event = actor.did(now(), action, &id, reason);
    let mut row = row.with(staging.state.as_str(), &staging);
    if !app.store.update(std::slice::from_ref(&row), &event).await? {
        return Err(changed(&id));
    }
    row.version += 1;
    Ok((row, staging))
}
