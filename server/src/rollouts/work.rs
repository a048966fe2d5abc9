//! The worker: one server at a time takes the next step of each rollout that runs.

use super::gates::closed;
use super::guard::{self, fail_with};
use super::positions::Positions;
use super::{
    Loaded, attach, back, bake, change, limits, notice, policy, probes, transient, version,
};
use crate::app::{App, Fault, now, rest};
use crate::org;
use crate::store::{Filter, Kind};
use ringfence_domain::approval;
use ringfence_domain::audit::Actor;
use ringfence_domain::id::NodeId;
use ringfence_domain::rollout::{
    self, Attached, Attachment, Rollout, State, Step, Wish, preflight,
};
use ringfence_domain::scp::Policy;
use ringfence_domain::time::{Span, Time};
use std::collections::{BTreeMap, BTreeSet};

/// All writes to Organizations are serialized: it answers ConcurrentModificationException even to
/// sequential calls that follow each other closely (terraform-provider-aws#5073, CfCT#175).
pub(crate) const WRITES: &str = "organization-writes";

/// Changes by people that are met in a row before the worker rests.
pub(super) const CONFLICTS_MAX: u32 = 10;

/// How long a rollout rests after an error that may pass.
const PAUSE_MS: u64 = 5_000;

/// How often an attachment is read back before the step ends and the next look decides.
const READ_BACK: u32 = 5;

/// How long one has its turn while others may wait.
const TURN: Span = Span::seconds(10);

/// How often those that rest are listed.
const REST_LOOK: Span = Span::seconds(30);

/// How often a rollout that bakes is looked at, for what people do to it meanwhile: a call for each target.
const BAKE_LOOK: Span = Span::seconds(60);

/// Looks at rollouts that run, for ever.
pub async fn run(app: App) {
    // After a start nothing was looked at.
    let (mut looked, mut seen) = (BTreeMap::new(), BTreeMap::new());
    loop {
        match look(&app, &mut looked, &mut seen).await {
            // Of the others none waits now, or each had its turn.
            Ok(true) => continue,
            Ok(false) => {}
            Err(fault) => tracing::warn!("rollouts: {fault}"),
        }
        tokio::select! {
            () = app.wake_rollouts.notified() => {}
            () = rest(1_000) => {}
        }
    }
}

/// `looked`: those that bake, wait or rest, and when each was looked at. `seen`: where those that move are attached. True where
/// one has more to do than its turn was long.
async fn look(
    app: &App,
    looked: &mut BTreeMap<String, Time>,
    seen: &mut BTreeMap<String, Positions>,
) -> Result<bool, Fault> {
    let (mut moving, mut more) = (BTreeSet::new(), false);
    // Taking back comes first. Those that rest are many in the end, and large.
    let rest: &[State] = match seldom("", REST_LOOK.min(app.config.guard_every), looked) {
        true => &[State::Complete, State::Paused, State::Blocked, State::Failed],
        false => &[],
    };
    for state in [State::Aborting, State::Running, State::Baking].iter().chain(rest).copied() {
        for (_, rollout) in all(app, state).await? {
            let id = &rollout.body.id;
            let waits = match state {
                State::Baking => !due(app, &rollout, looked),
                State::Running if closed(&rollout).is_some() => !seldom(id, BAKE_LOOK, looked),
                State::Complete => !seldom(id, app.config.guard_every, looked),
                State::Paused | State::Blocked | State::Failed => {
                    let every = notice::every(app, &rollout);
                    !notice::wanted(&rollout) || !seldom(id, every, looked)
                }
                _ => false,
            };
            if rest.iter().all(|r| *r != state) {
                moving.insert(id.clone());
            }
            if waits {
                continue;
            }
            match turn(app, &rollout, (looked, seen)).await? {
                Some(cut_short) => more |= cut_short,
                None => return Ok(false),
            }
            // Whatever has begun to be taken back meanwhile does not wait for the others' turns.
            let aborting =
                if state == State::Aborting { vec![] } else { all(app, State::Aborting).await? };
            for (_, rollout) in aborting {
                moving.insert(rollout.body.id.clone());
                match turn(app, &rollout, (looked, seen)).await? {
                    Some(cut_short) => more |= cut_short,
                    None => return Ok(false),
                }
            }
        }
    }
    // A rollout that rests, or that another server had, is read anew.
    seen.retain(|id, _| moving.contains(id));
    Ok(more)
}

async fn all(app: &App, state: State) -> Result<Vec<Loaded>, Fault> {
    let filter = Filter { state: state.as_str().into(), ..Filter::default() };
    app.all(Kind::Rollout, &filter).await
}

/// The turn of one: true where it is cut short, `None` where another server makes the changes.
async fn turn(
    app: &App,
    rollout: &Rollout,
    (looked, seen): (&mut BTreeMap<String, Time>, &mut BTreeMap<String, Positions>),
) -> Result<Option<bool>, Fault> {
    if !app.store.hold(WRITES, &app.owner, app.config.lease_for).await? {
        return Ok(None);
    }
    let id = &rollout.body.id;
    let work = async {
        if notice::wanted(rollout) {
            if notice::look(app, id).await {
                // It is asked for the answer soon.
                looked.remove(id);
            }
            return false;
        }
        advance(app, id, seen.entry(id.clone()).or_default()).await
    };
    // A step can take longer than the lease (a large organization is read anew).
    tokio::select! {
        cut_short = work => Ok(Some(cut_short)),
        () = app.keep(WRITES, app.config.lease_for) => Ok(None),
    }
}

/// Whether one that bakes wants to be looked at: now and then, when its health is to be asked for or is being asked for,
/// and when its time is over.
fn due(app: &App, rollout: &Rollout, looked: &mut BTreeMap<String, Time>) -> bool {
    let moment = bake::moment(app);
    let Some((_, stage, bake)) = rollout.baking() else { return true };
    // Nobody is asked before CloudTrail can show anything.
    let early = if app.config.watch_denials { app.config.trail_delay } else { Span(0) };
    let shows = moment.now.since(bake.began_at) >= early;
    let observed = |every: Span| shows && bake.wants_look(moment.now, every);
    stage.has_baked(bake, moment)
        || moment.observe_every.is_some_and(observed)
        || seldom(&rollout.body.id, BAKE_LOOK, looked)
}

/// Whether it was not looked at for so long.
fn seldom(id: &str, every: Span, looked: &mut BTreeMap<String, Time>) -> bool {
    let at = now();
    let due = looked.get(id).is_none_or(|last| at.since(*last) >= every);
    if due {
        looked.insert(id.to_owned(), at);
    }
    due
}

/// Steps of one rollout, each from a fresh read: a pause or an abort takes effect between them. True where there are more, and
/// its turn is over: a large stage takes an hour, and another rollout may have harm to take back.
async fn advance(app: &App, id: &str, seen: &mut Positions) -> bool {
    let (began, mut conflicts) = (now(), 0);
    seen.begin();
    loop {
        let turn = app.writes.lock().await;
        let done = step(app, id, seen).await;
        drop(turn);
        let fault = match done {
            Ok(true) if now().since(began) < TURN => continue,
            Ok(more) => return more,
            Err(fault) => fault,
        };
        // After an error what was known may be wrong; a freeze is none.
        if !matches!(fault, Fault::Refused { .. }) {
            *seen = Positions::default();
        }
        match fault {
            // A person changed it meanwhile: look again.
            Fault::Conflict(_) if conflicts < CONFLICTS_MAX => conflicts += 1,
            fault => {
                let definite = matches!(&fault, Fault::Cloud(e) if !transient(e.class));
                match held_up(app, id, fault.to_string(), definite).await {
                    Ok(true) => rest(PAUSE_MS).await,
                    Ok(false) => {}
                    Err(fault) => tracing::warn!("{id}: {fault}"),
                }
                return false;
            }
        }
    }
}

/// After an error: it stays as it is, and says why it waits; or it fails, where AWS refused for good. Taking back goes on
/// whatever AWS says. Whether it goes on by itself.
async fn held_up(app: &App, id: &str, why: String, definite: bool) -> Result<bool, Fault> {
    let loaded: Loaded = app.load(Kind::Rollout, id).await?;
    match loaded.1.state {
        State::Running | State::Baking if definite => {
            stop(app, loaded, State::Failed, vec![why]).await?;
            Ok(false)
        }
        State::Running | State::Baking | State::Aborting => {
            waits(app, id, vec![why]).await.map(|()| true)
        }
        // One that rests, or for which a person asked for something else meanwhile: its reasons stay.
        _ => {
            tracing::warn!("{id}: {why}");
            Ok(true)
        }
    }
}

/// Notes why a rollout that runs makes no progress; once for each reason.
pub(super) async fn waits(app: &App, id: &str, why: Vec<String>) -> Result<(), Fault> {
    let loaded: Loaded = app.load(Kind::Rollout, id).await?;
    let why = match loaded.1.state {
        State::Aborting => back::held(&loaded.1, why),
        _ => why,
    };
    if loaded.1.why == why {
        return Ok(());
    }
    let text = why.join("; ");
    change(app, &system(), loaded, "rollout.wait", &text, |r| {
        r.why = why;
        Ok(())
    })
    .await?;
    Ok(())
}

/// Whether it is outside its hours, and says so.
pub(super) async fn waits_for_hours(app: &App, rollout: &Rollout) -> Result<bool, Fault> {
    let Some(why) = closed(rollout) else { return Ok(false) };
    waits(app, &rollout.body.id, vec![why]).await?;
    Ok(true)
}

pub(super) fn system() -> Actor {
    Actor::system("rollouts")
}

pub(super) async fn stop(
    app: &App,
    loaded: Loaded,
    state: State,
    why: Vec<String>,
) -> Result<(), Fault> {
    let text = if why.is_empty() { state.as_str().to_owned() } else { why.join("; ") };
    if matches!(state, State::Failed | State::Blocked) {
        tracing::warn!("{}: {}: {text}", loaded.1.body.id, state.as_str());
    }
    change(app, &system(), loaded, &format!("rollout.{}", state.as_str()), &text, |r| {
        r.state = state;
        r.why = why;
        Ok(())
    })
    .await?;
    Ok(())
}

/// Observe, decide, act, record: once. False when there is nothing more to do now. All that is
/// recorded is recorded over the version that was decided on.
async fn step(app: &App, id: &str, seen: &mut Positions) -> Result<bool, Fault> {
    let loaded: Loaded = app.load(Kind::Rollout, id).await?;
    let rollout = &loaded.1;
    match rollout.state {
        State::Running | State::Aborting | State::Baking => {}
        State::Complete => return guard::guard(app, loaded).await,
        State::Planned
        | State::Paused
        | State::Blocked
        | State::Aborted
        | State::Failed
        | State::Superseded => return Ok(false),
    }
    let needed = app.config.approvals_rollout;
    let missing =
        approval::missing(&rollout.body.author, &rollout.hash, &rollout.approvals, needed);
    match seen.decide(app, rollout, missing).await? {
        Step::Probe(stage) => probes::look(app, loaded, stage).await,
        Step::ProbeLifted(stages) => probes::lifted(app, loaded, &stages).await,
        Step::BeginBake(stage) => bake::begin(app, loaded, stage).await,
        Step::Observe(stage) => bake::observe(app, loaded, stage).await,
        Step::EndBake(stage) => bake::end(app, loaded, stage).await,
        Step::Rest(State::Baking) => bake::rests(app, loaded).await,
        Step::Rest(State::Aborting) => back::rests(app, loaded, seen).await,
        Step::Rest(State::Blocked) if let Wish::Retreat { stage } = rollout.wish => {
            bake::retreated(app, loaded, stage).await
        }
        Step::Rest(state) => {
            let mut why = Vec::new();
            if state == State::Blocked {
                why.push(format!("{missing} approval(s) missing"));
            }
            if state == State::Aborted {
                // What a person or its health said of it stays.
                why = back::reasons(rollout);
                why.extend(rollout::compare(rollout, seen.attached()));
                let text = if why.is_empty() { "aborted".to_owned() } else { why.join("; ") };
                let (row, mut rollout) = loaded;
                (rollout.state, rollout.why) = (state, why);
                // Nothing of this one binds any more: what could not be attached again is the earlier one's to miss.
                version::given_back(app, (row, rollout), ("rollout.aborted", &text), true).await?;
                return Ok(false);
            }
            if state == State::Complete {
                return complete(app, loaded).await;
            }
            stop(app, loaded, state, why).await?;
            Ok(false)
        }
        Step::AskHuman(why) => {
            let policy = rollout.policy_id.clone().unwrap_or_default();
            let forward = rollout.wish == Wish::Run;
            let attached = seen.attached().clone();
            let on = |t: &NodeId| {
                let here = attached.get(t).and_then(Option::as_ref);
                !forward || here.is_some_and(|set| set.contains(&policy))
            };
            let why = if forward { vec![why] } else { back::asks(rollout, why) };
            fail_with(app, loaded, (why, false), on).await
        }
        Step::TakeBaseline => take_baseline(app, loaded, seen.attached().clone()).await,
        Step::CreatePolicy => policy::create(app, loaded).await,
        Step::Attach(target) => attach::attach(app, loaded, &target, seen).await,
        Step::Detach(target) => back::detach(app, loaded, &target, seen).await,
        Step::MarkAttached(target) => {
            let edit = |a: &mut Attachment| a.attached_at = Some(now());
            note(app, loaded, &target, "rollout.attached", edit).await.map(|_| true)
        }
        Step::MarkDetached(target) => {
            let edit = |a: &mut Attachment| a.detached_at = Some(now());
            note(app, loaded, &target, "rollout.detached", edit).await.map(|_| true)
        }
        Step::Release(target) => version::release(app, loaded, &target, seen).await,
        Step::Restore(target) => version::restore(app, loaded, &target, seen).await,
        Step::MarkReleased(target) => version::mark(app, loaded, &target, false).await,
        Step::MarkRestored(target) => version::mark(app, loaded, &target, true).await,
        Step::GiveUp(target) => {
            version::give_up(app, loaded, &target, &format!("{target}: it has no effect")).await
        }
    }
}

pub(super) async fn note(
    app: &App,
    loaded: Loaded,
    target: &NodeId,
    action: &str,
    edit: impl FnOnce(&mut Attachment),
) -> Result<Loaded, Fault> {
    change(app, &system(), loaded, action, target.as_str(), |r| {
        edit(r.attachments.entry(target.clone()).or_default());
        Ok(())
    })
    .await
}

/// All is attached and has baked. Its accounts are known from their gates: of others the guard tells.
async fn complete(app: &App, loaded: Loaded) -> Result<bool, Fault> {
    change(app, &system(), loaded, "rollout.complete", "complete", |r| {
        (r.state, r.why) = (State::Complete, Vec::new());
        Ok(())
    })
    .await?;
    Ok(false)
}

/// The same of the earlier policy.
pub(super) async fn note_old(
    app: &App,
    loaded: Loaded,
    target: &NodeId,
    action: &str,
    edit: impl FnOnce(&mut Attachment),
) -> Result<Loaded, Fault> {
    change(app, &system(), loaded, action, target.as_str(), |r| {
        edit(r.old.entry(target.clone()).or_default());
        Ok(())
    })
    .await
}

/// Stores what is attached everywhere, and checks slots once more, before the first write.
async fn take_baseline(app: &App, loaded: Loaded, attached: Attached) -> Result<bool, Fault> {
    let tree = org::fresh(app, app.config.org_max_age).await?;
    let body = &loaded.1.body;
    let wanted = loaded.1.wanted();
    let mut trouble =
        preflight(&wanted, &body.content, &tree, &attached, body.allow_root, limits(app));
    // Once more: the role may have another name by now.
    let document = Policy { minified: body.content.clone(), warnings: Vec::new() };
    let replay = policy::asked(&body.policy_name, &document)?;
    let own =
        policy::own(app, (&replay, &body.content), &rollout::bound(&tree, body.targets())).await?;
    trouble.extend(own.refusals());
    if !trouble.is_empty() {
        stop(app, loaded, State::Blocked, trouble).await?;
        return Ok(false);
    }
    let text = format!("{} targets", attached.len());
    change(app, &system(), loaded, "rollout.baseline", &text, |r| {
        r.baseline = Some(attached.into_iter().filter_map(|(t, set)| Some((t, set?))).collect());
        Ok(())
    })
    .await?;
    Ok(true)
}

/// Whether two policy documents say the same, whatever their white space.
pub(super) fn same(one: &str, other: &str) -> bool {
    let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
    read(one).is_some() && read(one) == read(other)
}

/// Reads until it shows, for a few seconds: Organizations is eventually consistent. What it shows
/// is then the next step's business.
pub(super) async fn read_back(
    app: &App,
    target: &NodeId,
    (policy, wanted): (&str, bool),
    seen: &mut Positions,
) -> Result<(), Fault> {
    for _ in 0..READ_BACK {
        let now = app.cloud.attached(target).await?;
        let shows = now.as_ref().is_some_and(|set| set.contains(policy));
        seen.note(target, now);
        if shows == wanted {
            return Ok(());
        }
        rest(1_000).await;
    }
    Ok(())
}
