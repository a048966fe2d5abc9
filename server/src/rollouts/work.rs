//! The worker: one server at a time takes the next step of each rollout that runs.

use super::bake::Admitted;
use super::gates::{closed, gate, stage_shut, thawed, too_large};
use super::guard::{came_before, fail_with, guard, unbound};
use super::positions::Positions;
use super::{Loaded, bake, change, limits, policy, probes, transient, version};
use crate::app::{App, Fault, now, rest};
use crate::org;
use crate::store::{Filter, Kind, Row};
use ringfence_aws::organizations::Attach;
use ringfence_domain::approval;
use ringfence_domain::audit::Actor;
use ringfence_domain::cloud::ErrorClass;
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
const CONFLICTS_MAX: u32 = 10;

/// How long a rollout rests after an error that may pass.
const PAUSE_MS: u64 = 5_000;

/// How often an attachment is read back before the step ends and the next look decides.
const READ_BACK: u32 = 5;

/// How often a rollout that bakes is looked at, for what people do to it meanwhile: a call for each target.
const BAKE_LOOK: Span = Span::seconds(60);

/// Looks at rollouts that run, for ever.
pub async fn run(app: App) {
    // After a start nothing was looked at.
    let (mut looked, mut seen) = (BTreeMap::new(), BTreeMap::new());
    loop {
        if let Err(fault) = look(&app, &mut looked, &mut seen).await {
            tracing::warn!("rollouts: {fault}");
        }
        tokio::select! {
            () = app.wake_rollouts.notified() => {}
            () = rest(1_000) => {}
        }
    }
}

/// `looked`: those that bake, wait for their hours or are complete, and when each was looked at. `seen`: where those that move are attached.
async fn look(
    app: &App,
    looked: &mut BTreeMap<String, Time>,
    seen: &mut BTreeMap<String, Positions>,
) -> Result<(), Fault> {
    let mut moving = BTreeSet::new();
    // Taking back comes first.
    for state in [State::Aborting, State::Running, State::Baking, State::Complete] {
        let filter = Filter { state: state.as_str().into(), ..Filter::default() };
        let rollouts: Vec<(Row, Rollout)> = app.all(Kind::Rollout, &filter).await?;
        for (_, rollout) in rollouts {
            let waits = match state {
                State::Baking => !due(app, &rollout, looked),
                State::Complete => !seldom(&rollout, app.config.guard_every, looked),
                State::Running if closed(&rollout).is_some() => {
                    !seldom(&rollout, BAKE_LOOK, looked)
                }
                _ => false,
            };
            if waits {
                if state != State::Complete {
                    moving.insert(rollout.body.id);
                }
                continue;
            }
            if !app.store.hold(WRITES, &app.owner, app.config.lease_for).await? {
                return Ok(());
            }
            // A step can take longer than the lease (a large organization is read anew).
            let id = rollout.body.id;
            if state != State::Complete {
                moving.insert(id.clone());
            }
            tokio::select! {
                () = advance(app, &id, seen.entry(id.clone()).or_default()) => {}
                () = app.keep(WRITES, app.config.lease_for) => return Ok(()),
            }
        }
    }
    // A rollout that rests, or that another server had, is read anew.
    seen.retain(|id, _| moving.contains(id));
    Ok(())
}

/// Whether one that bakes wants to be looked at: now and then, when its health is to be asked for or is being asked for,
/// and when its time is over.
fn due(app: &App, rollout: &Rollout, looked: &mut BTreeMap<String, Time>) -> bool {
    let moment = bake::moment(app);
    let Some((_, stage, bake)) = rollout.baking() else { return true };
    // Nobody is asked before CloudTrail can show anything.
    let early = if app.config.watch_denials { app.config.trail_delay } else { Span(0) };
    let shows = moment.now.since(bake.began_at) >= early;
    let observed =
        |every: Span| shows && bake.last.as_ref().is_none_or(|o| moment.now.since(o.at) >= every);
    stage.has_baked(bake, moment)
        || moment.observe_every.is_some_and(observed)
        || seldom(rollout, BAKE_LOOK, looked)
}

/// Whether it was not looked at for so long.
fn seldom(rollout: &Rollout, every: Span, looked: &mut BTreeMap<String, Time>) -> bool {
    let at = now();
    let due = looked.get(&rollout.body.id).is_none_or(|last| at.since(*last) >= every);
    if due {
        looked.insert(rollout.body.id.clone(), at);
    }
    due
}

/// Steps of one rollout, each from a fresh read: a pause or an abort takes effect between them.
async fn advance(app: &App, id: &str, seen: &mut Positions) {
    let mut conflicts = 0;
    seen.begin();
    loop {
        let turn = app.writes.lock().await;
        let done = step(app, id, seen).await;
        drop(turn);
        let fault = match done {
            Ok(true) => continue,
            Ok(false) => return,
            Err(fault) => fault,
        };
        // After an error what was known may be wrong.
        *seen = Positions::default();
        match fault {
            // A person changed it meanwhile: look again.
            Fault::Conflict(_) if conflicts < CONFLICTS_MAX => conflicts += 1,
            Fault::Cloud(e) if !transient(e.class) => {
                if let Err(fault) = fail(app, id, e.to_string()).await {
                    tracing::warn!("{id}: {fault}");
                }
                return;
            }
            fault => {
                // It may pass. Until then the rollout stays as it is, and says why it waits.
                let why = vec![fault.to_string()];
                if let Err(fault) = waits(app, id, why).await {
                    tracing::warn!("{id}: {fault}");
                }
                rest(PAUSE_MS).await;
                return;
            }
        }
    }
}

/// Notes why a rollout that runs makes no progress; once for each reason.
pub(super) async fn waits(app: &App, id: &str, why: Vec<String>) -> Result<(), Fault> {
    let loaded: Loaded = app.load(Kind::Rollout, id).await?;
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

/// Ends a rollout that AWS refused for good: unless a person asked for something else meanwhile.
async fn fail(app: &App, id: &str, why: String) -> Result<(), Fault> {
    let loaded: Loaded = app.load(Kind::Rollout, id).await?;
    match loaded.1.state {
        State::Running | State::Aborting | State::Baking => {
            stop(app, loaded, State::Failed, vec![why]).await
        }
        _ => Ok(()),
    }
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
        State::Complete => return guard(app, loaded).await,
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
                why.clone_from(&rollout.why);
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
            fail_with(app, loaded, (vec![why], false), on).await
        }
        Step::TakeBaseline => take_baseline(app, loaded, seen.attached().clone()).await,
        Step::CreatePolicy => policy::create(app, loaded).await,
        Step::Attach(target) => attach(app, loaded, &target, seen).await,
        Step::Detach(target) => detach(app, loaded, &target, seen).await,
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

async fn note(
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

/// All is attached and has baked. What bakes was looked at with its accounts when it ended; the others are known from their
/// gates.
async fn complete(app: &App, loaded: Loaded) -> Result<bool, Fault> {
    let tree = app.tree().await?;
    change(app, &system(), loaded, "rollout.complete", "complete", |r| {
        let stages = r.body.stages.iter().filter(|s| !s.bakes());
        let targets: Vec<NodeId> = stages.flat_map(|s| s.targets.iter().cloned()).collect();
        r.knows(rollout::bound(&tree, targets.iter()));
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
    let own = policy::own(app, &replay, &rollout::bound(&tree, body.targets())).await?;
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

/// Attaches to one target: if its gate is open, and if the policy still says what was approved.
async fn attach(
    app: &App,
    loaded: Loaded,
    target: &NodeId,
    seen: &mut Positions,
) -> Result<bool, Fault> {
    if waits_for_hours(app, &loaded.1).await? {
        return Ok(false);
    }
    thawed(app, target).await?;
    let shut = stage_shut(app, &loaded.1, target).await?;
    if !shut.is_empty() {
        stop(app, loaded, State::Blocked, shut).await?;
        return Ok(false);
    }
    match bake::admitted(app, &loaded.1, target) {
        Admitted::Waits(why) => {
            waits(app, &loaded.1.body.id, vec![why]).await?;
            return Ok(false);
        }
        Admitted::No(why) => {
            stop(app, loaded, State::Blocked, vec![why]).await?;
            return Ok(false);
        }
        Admitted::Yes => {}
    }
    let (mut why, evidence) = gate(app, target).await?;
    if !why.is_empty() {
        why.insert(0, format!("the gate before {target} is shut"));
        stop(app, loaded, State::Blocked, why).await?;
        return Ok(false);
    }
    let (unproven, mut known) = came_before(app, &loaded, target).await?;
    if !unproven.is_empty() {
        stop(app, loaded, State::Blocked, unproven).await?;
        return Ok(false);
    }
    // From here on the organization is what the gate has just read.
    if let Some(why) = too_large(app, &loaded.1, target).await? {
        stop(app, loaded, State::Blocked, vec![why]).await?;
        return Ok(false);
    }
    known.extend(rollout::bound(&*app.tree().await?, std::iter::once(target)));
    if let Some(why) = bake::edited(app, &loaded.1).await? {
        stop(app, loaded, State::Failed, vec![why]).await?;
        return Ok(false);
    }
    let policy = loaded.1.policy_id.clone().unwrap_or_default();
    // Again: the gate can have taken long.
    thawed(app, target).await?;
    if waits_for_hours(app, &loaded.1).await? {
        return Ok(false);
    }
    let first = loaded.1.attachments.get(target).is_none_or(|a| a.intended_at.is_none());
    // The intent comes first: after a crash it tells our attachment from somebody else's.
    let text = format!("{target} on evidence {evidence}");
    let loaded = change(app, &system(), loaded, "rollout.attach", &text, |r| {
        r.attaches(target, now());
        r.knows(known);
        if let Some(attachment) = r.attachments.get_mut(target) {
            attachment.evidence = Some(evidence);
        }
        Ok(())
    })
    .await?;
    match app.cloud.attach_policy(&policy, target).await {
        Ok(Attach::Done) => {}
        // It was there before our first try: somebody else's, and never to be detached by us.
        Ok(Attach::WasThere) if first => theirs(app, loaded, target, &policy).await?,
        Ok(Attach::WasThere) => {}
        Err(error) => {
            // AWS said no for certain: what appears there later is not ours.
            let definite = error.class != ErrorClass::Unknown;
            if first && definite {
                let edit = |a: &mut Attachment| *a = Attachment::default();
                note(app, loaded, target, "rollout.attach-refused", edit).await?;
            }
            return Err(error.into());
        }
    }
    read_back(app, target, (&policy, true), seen).await?;
    Ok(true)
}

/// Counts an attachment as made before us.
async fn theirs(app: &App, loaded: Loaded, target: &NodeId, policy: &str) -> Result<(), Fault> {
    change(app, &system(), loaded, "rollout.attached-by-others", target.as_str(), |r| {
        let baseline = r.baseline.get_or_insert_default();
        baseline.entry(target.clone()).or_default().insert(policy.to_owned());
        Ok(())
    })
    .await?;
    Ok(())
}

async fn detach(
    app: &App,
    loaded: Loaded,
    target: &NodeId,
    seen: &mut Positions,
) -> Result<bool, Fault> {
    // Leaving a canary to its OU is no way back.
    if loaded.1.wish == Wish::Run && waits_for_hours(app, &loaded.1).await? {
        return Ok(false);
    }
    if loaded.1.wish == Wish::Run
        && let Some(by) = loaded.1.body.replaced_by.get(target)
        && let Some(why) = unbound(app, &loaded.1, (target, by)).await?
    {
        let why = vec![format!("{target} keeps what is attached to it: {why}")];
        stop(app, loaded, State::Failed, why).await?;
        return Ok(false);
    }
    let policy = loaded.1.policy_id.clone().unwrap_or_default();
    note(app, loaded, target, "rollout.detach", |a| {
        a.detach_intended_at.get_or_insert(now());
        a.attempts += 1;
    })
    .await?;
    app.cloud.detach_policy(&policy, target).await?;
    read_back(app, target, (&policy, false), seen).await?;
    Ok(true)
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
