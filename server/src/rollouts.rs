//! Rollouts: planned, approved, and worked on by one server at a time.

use crate::app::{App, Fault, now, refused, rest};
use crate::org;
use crate::plans;
use crate::store::{Filter, Kind, Row};
use ringfence_domain::approval::{self, Approval};
use ringfence_domain::audit::Actor;
use ringfence_domain::cloud::ErrorClass;
use ringfence_domain::finding::{Finding, FindingState};
use ringfence_domain::hash;
use ringfence_domain::id::NodeId;
use ringfence_domain::ledger::Rule;
use ringfence_domain::rollout::{
    self, Attached, Body, Limits, Rollout, Stage, State, Step, Wish, decide, preflight,
};
use ringfence_domain::scp;
use ringfence_domain::time::Span;
use std::collections::BTreeMap;

/// All writes to Organizations are serialized: it answers ConcurrentModificationException even to
/// sequential calls that follow each other closely (terraform-provider-aws#5073, CfCT#175).
const LEASE: &str = "organization-writes";
const LEASE_FOR: Span = Span::seconds(60);

/// How often an attachment is read back before the step ends and the next look decides.
const READ_BACK: u32 = 5;

/// What a person wants rolled out.
pub struct Wanted {
    /// The policy's short name.
    pub policy: String,
    /// Its document; empty for the built-in one.
    pub document: String,
    /// The stages.
    pub stages: Vec<Stage>,
    /// Whether the root may be a target.
    pub allow_root: bool,
}

/// Plans a rollout: lint, targets, slots, size. Stores it unless `dry`. The same id twice is the
/// same rollout. The warnings are the lint's.
pub async fn plan(app: &App, actor: &Actor, id: &str, wanted: Wanted, dry: bool) -> Result<(Rollout, Vec<String>), Fault> {
    if app.store.get(Kind::Rollout, id).await?.is_some() {
        return Ok((app.load(Kind::Rollout, id).await?.1, Vec::new()));
    }
    let document = match (wanted.policy.as_str(), wanted.document.as_str()) {
        ("rds-encryption", "") => scp::RDS_ENCRYPTION,
        (name, "") => return Err(Fault::Invalid(format!("policy `{name}` is not built in, and no document was given"))),
        (_, document) => document,
    };
    let policy = scp::lint(document).map_err(Fault::Invalid)?;
    let tree = org::fresh(app, app.config.org_max_age).await?;
    let targets: Vec<&NodeId> = wanted.stages.iter().flat_map(|s| &s.targets).collect();
    for target in &targets {
        if tree.get(target).is_none() {
            return Err(Fault::NotFound(format!("{target} is not in the organization as of {}; `ringfence org tree` shows what is", tree.as_of)));
        }
    }
    let attached = read(app, targets.into_iter()).await?;
    let trouble = preflight(&wanted.stages, &policy.minified, &tree, &attached, wanted.allow_root, limits(app));
    if !trouble.is_empty() {
        return refused("PREFLIGHT", format!("nothing was planned: {}", trouble.join("; ")));
    }
    let at = now();
    let rollout = Rollout::new(Body {
        id: id.to_owned(),
        author: actor.name.clone(),
        created_at: at,
        policy_name: format!("ringfence-{}-{}", wanted.policy, hash::short(&policy.minified, 8)),
        content: policy.minified,
        stages: wanted.stages,
        planned_on: attached.into_iter().filter_map(|(t, set)| Some((t, set?))).collect(),
        allow_root: wanted.allow_root,
    });
    if !dry {
        let event = actor.did(at, "rollout.plan", id, format!("{}, hash {}", rollout.body.policy_name, rollout.hash));
        let row = Row::new(Kind::Rollout, id, rollout.state.as_str(), at, &rollout);
        if !app.store.create(&[row], &event).await? {
            return Ok((app.load(Kind::Rollout, id).await?.1, policy.warnings));
        }
    }
    Ok((rollout, policy.warnings))
}

fn limits(app: &App) -> Limits {
    Limits { policies_per_target: app.config.policies_per_target, policy_size: app.config.policy_size }
}

async fn read(app: &App, targets: impl Iterator<Item = &NodeId>) -> Result<Attached, Fault> {
    let mut attached = Attached::new();
    for target in targets {
        attached.insert(target.clone(), app.cloud.attached(target).await?);
    }
    Ok(attached)
}

/// Adds a person's approval.
pub async fn add_approval(app: &App, actor: &Actor, id: &str, reason: &str, hash: &str) -> Result<Rollout, Fault> {
    change(app, actor, id, "rollout.approve", &format!("{reason} (hash {hash})"), |rollout| {
        let approval = Approval { by: actor.name.clone(), at: now(), reason: reason.to_owned(), hash: hash.to_owned() };
        plans::approve(&rollout.body.author, &rollout.hash, &mut rollout.approvals, approval)
    })
    .await
}

/// What a person can ask of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Begin.
    Start,
    /// Attach nothing more.
    Pause,
    /// Go on after a pause or a refused gate.
    Resume,
    /// Take back what was attached.
    Abort,
}

/// Carries out a person's wish; the worker does the rest.
pub async fn wish(app: &App, actor: &Actor, id: &str, verb: Verb, reason: &str) -> Result<Rollout, Fault> {
    let (_, rollout): (Row, Rollout) = app.load(Kind::Rollout, id).await?;
    let state = rollout.state;
    let no = |what: &str| refused("WRONG_STATE", format!("{id} is {}: {what}", state.as_str()));
    let needed = app.config.approvals_rollout;
    let missing = approval::missing(&rollout.body.author, &rollout.hash, &rollout.approvals, needed);
    let ended = matches!(state, State::Complete | State::Aborted | State::Failed);
    let aborting = rollout.wish == Wish::Abort;
    let (wish, state, action) = match verb {
        Verb::Start | Verb::Resume if missing > 0 => {
            return refused(
                "APPROVAL_MISSING",
                format!("{id} needs {needed} approval(s) by others than {}, {missing} missing: `ringfence rollout approve {id} --reason ...`", rollout.body.author),
            );
        }
        Verb::Start | Verb::Resume if aborting || state == State::Aborted => {
            return no("it is being taken back; plan a new rollout");
        }
        Verb::Start if state == State::Paused => return no("use `ringfence rollout resume`"),
        Verb::Start | Verb::Resume if state == State::Complete => return no("all its targets are attached"),
        Verb::Resume if state == State::Planned => return no("use `ringfence rollout start`"),
        Verb::Start => (Wish::Run, State::Running, "rollout.start"),
        Verb::Resume => (Wish::Run, State::Running, "rollout.resume"),
        Verb::Pause if ended || aborting => return no("there is nothing to pause"),
        Verb::Pause => (Wish::Pause, State::Paused, "rollout.pause"),
        Verb::Abort if state == State::Aborted => return no("it was taken back already"),
        Verb::Abort => (Wish::Abort, State::Aborting, "rollout.abort"),
    };
    let rollout = change(app, actor, id, action, reason, |rollout| {
        rollout.wish = wish;
        rollout.state = state;
        rollout.why.clear();
        Ok(())
    })
    .await?;
    app.wake_rollouts.notify_one();
    Ok(rollout)
}

/// One compare-and-set change with its event.
async fn change(app: &App, actor: &Actor, id: &str, action: &str, reason: &str, edit: impl FnOnce(&mut Rollout) -> Result<(), Fault>) -> Result<Rollout, Fault> {
    let (row, mut rollout): (Row, Rollout) = app.load(Kind::Rollout, id).await?;
    edit(&mut rollout)?;
    let event = actor.did(now(), action, id, reason);
    if !app.store.update(&[row.with(rollout.state.as_str(), &rollout)], &event).await? {
        return Err(Fault::Conflict(format!("{id} was changed by somebody else just now: try again")));
    }
    Ok(rollout)
}

/// The worker: looks at rollouts that run, for ever.
pub async fn work(app: App) {
    loop {
        if let Err(fault) = look(&app).await {
            tracing::warn!("rollouts: {fault}");
        }
        tokio::select! {
            () = app.wake_rollouts.notified() => {}
            () = rest(1_000) => {}
        }
    }
}

async fn look(app: &App) -> Result<(), Fault> {
    for state in [State::Running, State::Aborting] {
        let filter = Filter { state: state.as_str().into(), ..Filter::default() };
        let rollouts: Vec<(Row, Rollout)> = app.all(Kind::Rollout, &filter).await?;
        for (_, rollout) in rollouts {
            let id = rollout.body.id.clone();
            // One step at a time, each from a fresh read: a pause or an abort takes effect between.
            loop {
                if !app.store.hold(LEASE, &app.owner, LEASE_FOR).await? {
                    return Ok(());
                }
                match step(app, &id).await {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(Fault::Conflict(_)) => {} // a person changed it meanwhile: look again
                    Err(Fault::Cloud(e)) if transient(e.class) => {
                        tracing::warn!("{id}: {e}; look again");
                        break;
                    }
                    Err(Fault::Cloud(e)) => {
                        stop(app, &id, State::Failed, vec![e.to_string()]).await?;
                        break;
                    }
                    Err(fault) => return Err(fault),
                }
            }
        }
    }
    Ok(())
}

fn transient(class: ErrorClass) -> bool {
    matches!(class, ErrorClass::Throttled | ErrorClass::Conflict | ErrorClass::Unknown)
}

fn system() -> Actor {
    Actor::system("rollouts")
}

async fn stop(app: &App, id: &str, state: State, why: Vec<String>) -> Result<(), Fault> {
    let text = if why.is_empty() { state.as_str().to_owned() } else { why.join("; ") };
    change(app, &system(), id, &format!("rollout.{}", state.as_str()), &text, |r| {
        r.state = state;
        r.why = why;
        Ok(())
    })
    .await?;
    Ok(())
}

/// Observe, decide, act, record: once. False when there is nothing more to do now.
async fn step(app: &App, id: &str) -> Result<bool, Fault> {
    let (_, rollout): (Row, Rollout) = app.load(Kind::Rollout, id).await?;
    if !matches!(rollout.state, State::Running | State::Aborting) {
        return Ok(false);
    }
    let attached = read(app, rollout.body.targets()).await?;
    let needed = app.config.approvals_rollout;
    let missing = approval::missing(&rollout.body.author, &rollout.hash, &rollout.approvals, needed);
    match decide(&rollout, &attached, missing) {
        Step::Rest(state) => {
            let mut why = Vec::new();
            if state == State::Blocked {
                why.push(format!("{missing} approval(s) missing"));
            }
            if state == State::Aborted {
                why = rollout::compare(&rollout, &attached);
            }
            stop(app, id, state, why).await?;
            Ok(false)
        }
        Step::AskHuman(why) => {
            stop(app, id, State::Failed, vec![why]).await?;
            Ok(false)
        }
        Step::TakeBaseline => take_baseline(app, &rollout, attached).await,
        Step::CreatePolicy => create_policy(app, &rollout).await,
        Step::Attach(target) => attach(app, &rollout, &target).await,
        Step::Detach(target) => detach(app, &rollout, &target).await,
        Step::MarkAttached(target) => {
            note(app, id, &target, "rollout.attached", |a| a.attached_at = Some(now())).await
        }
        Step::MarkDetached(target) => {
            note(app, id, &target, "rollout.detached", |a| a.detached_at = Some(now())).await
        }
    }
}

async fn note(app: &App, id: &str, target: &NodeId, action: &str, edit: impl FnOnce(&mut rollout::Attachment)) -> Result<bool, Fault> {
    change(app, &system(), id, action, target.as_str(), |r| {
        edit(r.attachments.entry(target.clone()).or_default());
        Ok(())
    })
    .await?;
    Ok(true)
}

/// Stores what is attached everywhere, and checks slots once more, before the first write.
async fn take_baseline(app: &App, rollout: &Rollout, attached: Attached) -> Result<bool, Fault> {
    let id = &rollout.body.id;
    let tree = org::fresh(app, app.config.org_max_age).await?;
    let body = &rollout.body;
    let trouble = preflight(&body.stages, &body.content, &tree, &attached, body.allow_root, limits(app));
    if !trouble.is_empty() {
        stop(app, id, State::Blocked, trouble).await?;
        return Ok(false);
    }
    change(app, &system(), id, "rollout.baseline", &format!("{} targets", attached.len()), |r| {
        r.baseline = Some(attached.into_iter().filter_map(|(t, set)| Some((t, set?))).collect());
        Ok(())
    })
    .await?;
    Ok(true)
}

/// Finds or creates the policy. Its name holds its content's hash, so a repeat meets its own work.
async fn create_policy(app: &App, rollout: &Rollout) -> Result<bool, Fault> {
    let body = &rollout.body;
    let id = &body.id;
    let policy = match app.cloud.find_policy(&body.policy_name).await? {
        Some(found) => {
            let same = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
            if same(&app.cloud.policy_content(&found.id).await?) != same(&body.content) {
                let why = format!("a policy named {} exists ({}) and says something else", body.policy_name, found.id);
                stop(app, id, State::Failed, vec![why]).await?;
                return Ok(false);
            }
            found.id
        }
        None => {
            let event = system().did(now(), "rollout.create-policy", id, &body.policy_name);
            app.store.append(&event).await?;
            app.cloud.create_policy(&body.policy_name, &body.content, id).await?
        }
    };
    change(app, &system(), id, "rollout.policy", &policy, |r| {
        r.policy_id = Some(policy.clone());
        Ok(())
    })
    .await?;
    Ok(true)
}

async fn attach(app: &App, rollout: &Rollout, target: &NodeId) -> Result<bool, Fault> {
    let id = &rollout.body.id;
    let why = gate(app, target).await?;
    if !why.is_empty() {
        let why = std::iter::once(format!("the gate before {target} is shut")).chain(why).collect();
        stop(app, id, State::Blocked, why).await?;
        return Ok(false);
    }
    let policy = rollout.policy_id.clone().unwrap_or_default();
    // The intent comes first: after a crash it tells our attachment from somebody else's.
    note(app, id, target, "rollout.attach", |a| {
        a.intended_at.get_or_insert(now());
        a.attempts += 1;
    })
    .await?;
    app.cloud.attach_policy(&policy, target).await?;
    read_back(app, target, &policy, true).await?;
    Ok(true)
}

async fn detach(app: &App, rollout: &Rollout, target: &NodeId) -> Result<bool, Fault> {
    let policy = rollout.policy_id.clone().unwrap_or_default();
    note(app, &rollout.body.id, target, "rollout.detach", |a| {
        a.detach_intended_at.get_or_insert(now());
        a.attempts += 1;
    })
    .await?;
    app.cloud.detach_policy(&policy, target).await?;
    read_back(app, target, &policy, false).await?;
    Ok(true)
}

/// Reads until it shows, for a few seconds: Organizations is eventually consistent. What it shows
/// is then the next step's business.
async fn read_back(app: &App, target: &NodeId, policy: &str, wanted: bool) -> Result<(), Fault> {
    for _ in 0..READ_BACK {
        let now = app.cloud.attached(target).await?;
        if now.is_some_and(|set| set.contains(policy)) == wanted {
            return Ok(());
        }
        rest(1_000).await;
    }
    Ok(())
}

/// Why the gate before a target is shut, from a fresh tree and the ledger.
async fn gate(app: &App, target: &NodeId) -> Result<Vec<String>, Fault> {
    let tree = org::fresh(app, app.config.org_max_age).await?;
    let mut cells = BTreeMap::new();
    let mut findings: Vec<Finding> = Vec::new();
    for account in tree.accounts_under(target) {
        let found = app.store.cells(account.as_str(), ("", ""), 1_000).await?;
        cells.insert(account.clone(), found);
        let filter = Filter {
            account: account.as_str().to_owned(),
            state: FindingState::Open.as_str().into(),
            ..Filter::default()
        };
        findings.extend(app.all(Kind::Finding, &filter).await?.into_iter().map(|(_, f)| f));
    }
    let rule = Rule { max_age: app.config.evidence_max_age, accept_configured: app.config.accept_configured_regions };
    Ok(rollout::gate(target, &tree, &cells, &findings, rule, now()))
}
