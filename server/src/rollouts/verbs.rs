//! What people ask of a rollout; the worker does the rest.

use super::gates::closed;
use super::{Loaded, back, bake, change, version};
use crate::app::{App, Fault, now, refused};
use crate::probes;
use crate::store::{Filter, Kind};
use ringfence_domain::approval::{self, Approval};
use ringfence_domain::audit::Actor;
use ringfence_domain::id::NodeId;
use ringfence_domain::rollout::{Rollout, Skip, State, Wish};

/// What a person can ask of a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    /// Begin.
    Start,
    /// Attach nothing more.
    Pause,
    /// Go on after a pause or a refused gate.
    Resume,
    /// Take back what was attached.
    Abort,
    /// Take back what was carried out, and give back what it took the place of; or this still earlier version.
    Undo(Option<String>),
    /// End the bake of a stage before its time, or let it pass without its probe.
    Promote,
    /// Let this target go without.
    Skip(NodeId),
    /// Attach to this target after all.
    Retry(NodeId),
}

impl Verb {
    /// Whether it makes the rollout go on, and so wants approvals.
    fn goes_on(&self) -> bool {
        matches!(self, Verb::Start | Verb::Resume | Verb::Retry(_))
    }

    /// Whether somebody reads later why it was done.
    fn wants_reason(&self) -> bool {
        matches!(self, Verb::Promote | Verb::Undo(_) | Verb::Skip(_) | Verb::Retry(_))
    }
}

/// Carries out a person's wish; again where the rollout took a step meanwhile.
pub async fn wish(
    app: &App,
    actor: &Actor,
    id: &str,
    verb: Verb,
    reason: &str,
) -> Result<Rollout, Fault> {
    for _ in 0..CONFLICTS_MAX {
        match once(app, actor, id, verb.clone(), reason).await {
            Err(Fault::Conflict(_)) => {}
            done => return done,
        }
    }
    once(app, actor, id, verb, reason).await
}

/// Steps that a wish is tried over.
const CONFLICTS_MAX: u32 = 5;

async fn once(
    app: &App,
    actor: &Actor,
    id: &str,
    verb: Verb,
    reason: &str,
) -> Result<Rollout, Fault> {
    let loaded: Loaded = app.load(Kind::Rollout, id).await?;
    let onward = verb.goes_on() && !retreats(&loaded.1);
    // Where a probe made a database somebody looks at that first.
    if (matches!(verb, Verb::Promote) || onward)
        && loaded.1.probing().is_some()
        && let Err(off) = probes::proven(app).await?
    {
        return refused("PROBES_OFF", off.to_string());
    }
    if verb.wants_reason() && reason.trim().is_empty() {
        return Err(Fault::Invalid("reason: say why".into()));
    }
    if onward {
        let r = &loaded.1;
        let needed = app.config.approvals_rollout;
        approved(app, (id, &r.body.author, &r.hash), &r.approvals, needed)?;
    }
    versions_agree(app, &loaded.1, &verb).await?;
    let (wish, state, action) = becomes(&loaded.1, &verb)?;
    if let Verb::Undo(Some(to)) = &verb {
        version::goes_back(app, &loaded.1, to).await?;
    }
    let text = match &verb {
        Verb::Undo(Some(to)) => format!("{reason} (back to {to})"),
        _ => reason.to_owned(),
    };
    let (_, rollout) = change(app, actor, loaded, action, &text, |rollout| {
        edit(rollout, &verb, actor, reason);
        rollout.wish = wish;
        rollout.state = state;
        Ok(())
    })
    .await?;
    app.wake_rollouts.notify_one();
    Ok(rollout)
}

/// Whether a stage that does harm is being taken back, or could not be.
fn retreats(rollout: &Rollout) -> bool {
    matches!(rollout.wish, Wish::Retreat { .. })
}

/// Refuses what would leave targets to neither of two versions, or a version without what it takes the place of.
async fn versions_agree(app: &App, rollout: &Rollout, verb: &Verb) -> Result<(), Fault> {
    let id = &rollout.body.id;
    if matches!(verb, Verb::Abort | Verb::Undo(_)) && rollout.superseded_by.is_none() {
        let all: Vec<Loaded> = app.all(Kind::Rollout, &Filter::default()).await?;
        let takes = |r: &Rollout| r.body.replaces.as_ref().is_some_and(|r| r.rollout == *id);
        let under_way = |r: &Rollout| !matches!(r.state, State::Planned | State::Aborted);
        if let Some((_, new)) = all.iter().find(|(_, r)| takes(r) && under_way(r)) {
            let new = &new.body.id;
            return refused(
                "WRONG_STATE",
                format!("{new} is taking the place of {id}: abort or undo {new} first"),
            );
        }
    }
    let onward = verb.goes_on() && !retreats(rollout);
    let Some(replaces) = rollout.body.replaces.as_ref().filter(|_| onward) else {
        return Ok(());
    };
    let (_, old): Loaded = app.load(Kind::Rollout, &replaces.rollout).await?;
    match old.stands() || old.superseded_by.as_ref() == Some(id) {
        true => Ok(()),
        false => refused(
            "WRONG_STATE",
            format!(
                "{}, which it is to take the place of, is {}: resume that one, or abort this one and plan anew",
                replaces.rollout,
                old.state.as_str()
            ),
        ),
    }
}

/// Refuses while approvals are missing. Once it runs they count on: a bake may take longer than anybody's word should
/// stand before the start.
pub(crate) fn approved(
    app: &App,
    (id, author, hash): (&str, &str, &str),
    approvals: &[Approval],
    needed: usize,
) -> Result<(), Fault> {
    let valid_for = app.config.approvals_rollout_valid_for;
    let fresh = approvals.iter().filter(|a| now().since(a.at) <= valid_for);
    let fresh: Vec<_> = fresh.cloned().collect();
    match approval::missing(author, hash, &fresh, needed) {
        0 => Ok(()),
        missing => refused(
            "APPROVAL_MISSING",
            format!(
                "{id} needs {needed} approval(s) by others than {author}, no older than {valid_for}, {missing} missing: `ringfence approve {id} --reason ...`"
            ),
        ),
    }
}

/// What the rollout wishes and where it stands after that, and the action in the audit log; or why not.
fn becomes(rollout: &Rollout, verb: &Verb) -> Result<(Wish, State, &'static str), Fault> {
    let (state, id) = (rollout.state, &rollout.body.id);
    let no = |what: &str| refused("WRONG_STATE", format!("{id} is {}: {what}", state.as_str()));
    let ended = matches!(state, State::Complete | State::Aborted | State::Failed);
    let aborting = rollout.wish == Wish::Abort;

    if let Some(by) = &rollout.superseded_by {
        return no(&format!(
            "{by} has taken its place; `ringfence rollout undo {by} --reason ...` gives it back"
        ));
    }
    Ok(match verb {
        Verb::Resume if rollout.can_stay() => (Wish::Run, State::Running, "rollout.resume"),
        verb if (verb.goes_on() || matches!(verb, Verb::Skip(_))) && aborting => {
            return no("it is being taken back, or was; plan a new rollout");
        }
        Verb::Abort | Verb::Undo(_) if state == State::Aborted => {
            return no("it was taken back already");
        }
        Verb::Abort => (Wish::Abort, State::Aborting, "rollout.abort"),
        Verb::Undo(_) if !matches!(state, State::Complete | State::Failed) => {
            return no("it has not been carried out; use `ringfence rollout abort`");
        }
        Verb::Undo(_) => (Wish::Abort, State::Aborting, "rollout.undo"),
        // What does harm is taken back first, whatever held that up.
        Verb::Resume if retreats(rollout) && state == State::Failed => {
            (rollout.wish, State::Aborting, "rollout.resume")
        }
        _ if retreats(rollout) && state == State::Failed => {
            return no(
                "a stage that does harm could not be detached yet: resume goes on with that, or abort",
            );
        }
        _ if retreats(rollout) => {
            return no(
                "a stage that does harm is being detached; when that is done, resume or abort",
            );
        }
        Verb::Skip(target) | Verb::Retry(target) => return about_target(rollout, verb, target),
        Verb::Promote if aborting => return no("no stage bakes or waits for its probe"),
        // One that cannot be probed may be blocked by that: it passes, and a resume goes on.
        Verb::Promote if rollout.probing().is_some() && !ended => {
            (rollout.wish, state, "rollout.promote")
        }
        Verb::Promote if rollout.baking().is_none() => {
            return no("no stage bakes or waits for its probe");
        }
        Verb::Promote if !matches!(state, State::Baking | State::Running | State::Paused) => {
            return no("resume it first");
        }
        Verb::Promote
            if let Some((_, by)) = rollout.baking().and_then(|(.., b)| b.promoted.as_ref()) =>
        {
            return no(&format!("its bake was ended already by {by}"));
        }
        Verb::Promote if state == State::Baking => (Wish::Run, State::Running, "rollout.promote"),
        Verb::Promote => (rollout.wish, state, "rollout.promote"),
        Verb::Start if state == State::Paused => return no("use `ringfence rollout resume`"),
        Verb::Start | Verb::Resume if state == State::Complete => {
            return no("all its targets are attached");
        }
        Verb::Resume if state == State::Planned => return no("use `ringfence rollout start`"),
        Verb::Start => (Wish::Run, State::Running, "rollout.start"),
        Verb::Resume => (Wish::Run, State::Running, "rollout.resume"),
        Verb::Pause if state == State::Planned => return no("it was never started"),
        Verb::Pause if ended || aborting => return no("there is nothing to pause"),
        Verb::Pause => (Wish::Pause, State::Paused, "rollout.pause"),
    })
}

fn about_target(
    rollout: &Rollout,
    verb: &Verb,
    target: &NodeId,
) -> Result<(Wish, State, &'static str), Fault> {
    let (state, id) = (rollout.state, &rollout.body.id);
    let no = |what: String| refused("WRONG_STATE", format!("{id} is {}: {what}", state.as_str()));
    if !rollout.touches().any(|t| t == target) {
        return Err(Fault::NotFound(format!("{target} is no target of {id}")));
    }
    let skipped = rollout.skipped.contains_key(target);
    match verb {
        Verb::Retry(_) if rollout.holds(target) => no(format!("{target} has it: nothing to retry")),
        Verb::Retry(_) if !skipped => no(format!("{target} is not skipped; resume tries it again")),
        Verb::Retry(_) => Ok((Wish::Run, State::Running, "rollout.retry")),
        _ if state == State::Planned => no(format!("plan it without {target}")),
        _ if skipped => no(format!("{target} is skipped already")),
        _ if rollout.holds(target) || rollout.is_replaced(target) => {
            no(format!("{target} has it; abort takes it back, from all targets"))
        }
        _ => Ok((rollout.wish, state, "rollout.skip")),
    }
}

fn edit(rollout: &mut Rollout, verb: &Verb, actor: &Actor, reason: &str) {
    match verb {
        Verb::Skip(target) => {
            let skip = Skip { by: actor.name.clone(), at: now(), reason: reason.to_owned() };
            rollout.skip(target, skip);
            rollout.why.push(format!("{target} goes without, by {}: {reason}", actor.name));
            return;
        }
        Verb::Retry(target) => drop(rollout.skipped.remove(target)),
        Verb::Promote => bake::promote(rollout, actor, reason),
        Verb::Start | Verb::Pause | Verb::Resume | Verb::Abort | Verb::Undo(_) => {}
    }
    // Whatever is asked now is not what an earlier undoing was for.
    rollout.undo_to = match verb {
        Verb::Undo(to) => to.clone(),
        // It tries again.
        Verb::Abort if rollout.wish == Wish::Abort => rollout.undo_to.take(),
        _ => None,
    };
    rollout.tries_again();
    let onward = verb.goes_on() && !retreats(rollout);
    if onward {
        // A person looked: what was lost before counts no more.
        rollout.attachments.values_mut().for_each(|a| a.losses = 0);
        if rollout.can_stay() {
            rollout.stays();
        }
    }
    let hours = closed(rollout);
    match verb {
        Verb::Pause => {
            rollout.why.retain(|line| Some(line) != hours.as_ref());
            let why = if reason.trim().is_empty() { "" } else { ": " };
            rollout.why.push(format!("paused by {}{why}{reason}; resume goes on", actor.name));
        }
        // What it waited for is over; where it rests, a resume goes on.
        Verb::Promote if matches!(rollout.state, State::Paused | State::Blocked) => {
            rollout.why = vec![format!("promoted by {}: {reason}; resume goes on", actor.name)];
        }
        Verb::Promote => {}
        // It is taken back for that.
        Verb::Resume if retreats(rollout) => rollout.why = back::reasons(rollout),
        // What it waits for it still waits for.
        Verb::Resume if matches!(rollout.state, State::Running | State::Baking) => {}
        _ => rollout.why.clear(),
    }
    if onward && !matches!(rollout.state, State::Baking) {
        rollout.why.retain(|line| Some(line) != hours.as_ref());
        rollout.why.extend(hours);
    }
}
