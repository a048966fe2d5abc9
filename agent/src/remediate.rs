//! Remediations of one account: observe, decide (in the domain), act, record.

mod before;
mod look;

use crate::check::Look;
use crate::lease::{Desk, Pipe};
use crate::perform::perform;
use crate::{now, rest};
use before::{Trouble, decided_otherwise, group_trouble, key_trouble, other_subject};
use look::{activity, observe};
use ringfence_aws::Session;
use ringfence_domain::cloud::{CloudError, ErrorClass};
use ringfence_domain::finding::{Kind, Resource};
use ringfence_domain::id::Region;
use ringfence_domain::rds::Sweep;
use ringfence_domain::remediation::{
    ATTEMPTS_MAX, Act, Failure, Goal, Mark, Remediation, State, Step, decide,
};
use ringfence_domain::time::{Span, Time};
use ringfence_domain::work::Versioned;
use ringfence_proto::v1;
use std::collections::BTreeMap;
use tonic::Status;

/// For how long a switchover that AWS refuses for now is asked for again, before tries are counted.
const SWITCH_FOR_MAX: Span = Span::seconds(15 * 60);

/// Works on all remediations that are due, cell by cell: one sweep serves all databases of a cell.
pub(crate) async fn account<P: Pipe>(desk: &Desk<P>, due: Vec<Versioned>) -> Result<(), Status> {
    // By plan too: sessions are named for the plan, so that CloudTrail shows whose approval it was.
    // And those with replicas elsewhere last: nobody else of their cell waits for the other regions.
    let mut cells: BTreeMap<(Region, String, bool), Vec<Versioned>> = BTreeMap::new();
    for one in due {
        let rem = &one.remediation;
        let far = !rem.source.far_regions().is_empty();
        cells.entry((rem.region.clone(), rem.plan.clone(), far)).or_default().push(one);
    }
    for ((region, ..), mut open) in cells {
        while !open.is_empty() {
            open = pass(desk, &region, open).await?;
        }
    }
    Ok(())
}

/// One sweep, and one step of each remediation. Gives back those that have more to do now.
async fn pass<P: Pipe>(
    desk: &Desk<P>,
    region: &Region,
    open: Vec<Versioned>,
) -> Result<Vec<Versioned>, Status> {
    let (session, seen, read) = match observe(desk, region, &open).await {
        Ok(observed) => observed,
        Err(error) => {
            for one in open {
                let id = one.remediation.id.clone();
                unless_dropped(&id, unseen(desk, one, &error).await)?;
            }
            return Ok(Vec::new());
        }
    };
    let mut more = Vec::new();
    for one in open {
        let id = one.remediation.id.clone();
        let rem = &one.remediation;
        // Who does not need it goes on, and some of them are between two names.
        let groups = read.groups.as_ref().err().filter(|_| rem.wants_group());
        let greens = read.blue_greens.as_ref().err().filter(|_| rem.green().is_some());
        let far = rem.source.far_regions().iter().find_map(|region| read.far.get(region));
        // What is taken down, or given back, is in its own region.
        let far = far.filter(|_| rem.goal != Goal::Twin || rem.giving_up.is_none());
        let next = match (groups.or(greens), far) {
            (Some(error), _) => unseen(desk, one, error).await.map(|()| None),
            (None, Some(error)) => unseen_far(desk, one, error).await,
            (None, None) => step(desk, &session, region, one, &seen).await,
        };
        more.extend(unless_dropped(&id, next)?.flatten());
    }
    Ok(more)
}

/// A record that is refused drops one remediation, not the account: a person paused or cancelled it
/// meanwhile. Or the account is another agent's now, which the next of them will find too.
fn unless_dropped<T>(id: &str, done: Result<T, Status>) -> Result<Option<T>, Status> {
    match done {
        Ok(done) => Ok(Some(done)),
        Err(status) if status.code() == tonic::Code::Aborted => {
            tracing::info!("{id}: {}", status.message());
            Ok(None)
        }
        Err(status) => Err(status),
    }
}

/// The cell could not be read. Before anything was begun, a denial is for a person; afterwards it is
/// waited out, up to the job's bound, for what was made must not be left behind.
async fn unseen<P: Pipe>(
    desk: &Desk<P>,
    mut one: Versioned,
    error: &CloudError,
) -> Result<(), Status> {
    let rem = &mut one.remediation;
    if rem.is_late(now()) || (refuses(error) && rem.intents.is_empty()) {
        return stop(desk, one, error.to_string(), Failure::of(error)).await;
    }
    wait(desk, one, error.to_string()).await
}

/// Another region of its unit could not be read. It is waited for, too; but an original that is cut off meanwhile is given
/// back where that region refuses us, and at the end of the job's time.
async fn unseen_far<P: Pipe>(
    desk: &Desk<P>,
    one: Versioned,
    error: &CloudError,
) -> Result<Option<Versioned>, Status> {
    let rem = &one.remediation;
    let refused = refuses(error) && (rem.intents.is_empty() || rem.must_give_up());
    match rem.is_late(now()) || refused {
        true => give_up_or_stop(desk, one, error.to_string(), Failure::of(error)).await,
        false => wait(desk, one, error.to_string()).await.map(|()| None),
    }
}

/// Whether asking again does not help.
fn refuses(error: &CloudError) -> bool {
    use ErrorClass::{Denied, RegionRefused, ScpDenied};
    matches!(error.class, Denied | ScpDenied | RegionRefused)
}

async fn stop<P: Pipe>(
    desk: &Desk<P>,
    mut one: Versioned,
    why: String,
    failure: Failure,
) -> Result<(), Status> {
    one.remediation.stop(&why, failure);
    let action = match one.remediation.state {
        State::Cancelled => "remediation.cancelled",
        _ => "remediation.stop",
    };
    let why = one.remediation.why.clone();
    record(desk, &mut one, action, &why).await
}

/// Ends it: what was made is taken down first, and an original that was cut off is given back.
async fn give_up_or_stop<P: Pipe>(
    desk: &Desk<P>,
    mut one: Versioned,
    why: String,
    failure: Failure,
) -> Result<Option<Versioned>, Status> {
    if !one.remediation.must_give_up() {
        return stop(desk, one, why, failure).await.map(|()| None);
    }
    one.remediation.failure = Some(failure);
    let (action, reason) = one.remediation.mark(&Mark::GivingUp { why }, now());
    record(desk, &mut one, action, &reason).await?;
    Ok(Some(one))
}

async fn wait<P: Pipe>(desk: &Desk<P>, mut one: Versioned, why: String) -> Result<(), Status> {
    let rem = &mut one.remediation;
    rem.wake_at = now().plus(desk.settings.poll);
    // An original that is kept is kept, whatever a look at it says.
    if rem.state == State::CutOver || (rem.why == why && rem.state == State::Running) {
        return record(desk, &mut one, "", &why).await;
    }
    rem.state = State::Running;
    rem.why.clone_from(&why);
    record(desk, &mut one, "remediation.wait", &why).await
}

/// Writes the remediation under the fence. An error means that the account is somebody else's now,
/// or the server is away: either way this task ends and somebody looks again.
async fn record<P: Pipe>(
    desk: &Desk<P>,
    one: &mut Versioned,
    action: &str,
    reason: &str,
) -> Result<(), Status> {
    let json =
        serde_json::to_string(&one.remediation).map_err(|e| Status::internal(e.to_string()))?;
    let request = v1::CommitRemediationRequest {
        agent: desk.settings.name.clone(),
        lease: Some(desk.lease.clone()),
        version: one.version,
        remediation_json: json,
        action: action.to_owned(),
        reason: reason.to_owned(),
    };
    one.version = desk.pipe.commit(request).await?;
    Ok(())
}

/// One step of one remediation; given back if there is more to do now.
async fn step<P: Pipe>(
    desk: &Desk<P>,
    session: &Session,
    region: &Region,
    mut one: Versioned,
    seen: &Sweep,
) -> Result<Option<Versioned>, Status> {
    one.remediation.adopt(seen);
    match decide(&one.remediation, seen, now(), desk.settings.bounds) {
        Step::Act(act) => act_on(desk, session, region, one, act, seen).await,
        Step::Wait(why) => wait(desk, one, why).await.map(|()| None),
        Step::AskHuman(why) => stop(desk, one, why, Failure::Blocked).await.map(|()| None),
        Step::Check => check(desk, one, seen).await,
        Step::Measure { names, from } => measure(desk, session, region, one, (&names, from)).await,
        Step::Mark(mark) => {
            let (action, reason) = one.remediation.mark(&mark, now());
            record(desk, &mut one, action, &reason).await?;
            Ok((!one.remediation.state.ended()).then_some(one))
        }
        Step::Finish => {
            let before = one.remediation.state;
            one.remediation.finish(now(), desk.settings.bounds);
            let rem = &one.remediation;
            // An original that is kept is looked at now and then: that is no news.
            let action = if rem.state == before { "" } else { "remediation.finish" };
            let (more, reason) = (rem.state == State::Running, rem.state.as_str());
            record(desk, &mut one, action, reason).await?;
            Ok(more.then_some(one))
        }
    }
}

/// Begins the operator's check, or looks how it stands.
async fn check<P: Pipe>(
    desk: &Desk<P>,
    mut one: Versioned,
    seen: &Sweep,
) -> Result<Option<Versioned>, Status> {
    let Some(checks) = &desk.settings.checks else {
        return wait(desk, one, "no remediation.check_command is set here".into())
            .await
            .map(|()| None);
    };
    let rem = &one.remediation;
    match checks.look(&rem.id, &about(rem, seen), now()) {
        Look::Running(since) => {
            let why = format!("remediation.check_command compares the data since {since}");
            wait(desk, one, why).await.map(|()| None)
        }
        Look::Passed(said) => {
            let (action, reason) = one.remediation.mark(&Mark::Checked { said }, now());
            record(desk, &mut one, action, &reason).await?;
            Ok(Some(one))
        }
        Look::Failed(_, why) => {
            let why = format!("remediation.check_command does not agree ({why}): the twin stays");
            stop(desk, one, why, Failure::Blocked).await.map(|()| None)
        }
    }
}

/// What the operator's check is told.
fn about(rem: &Remediation, seen: &Sweep) -> Vec<(&'static str, String)> {
    let (original, twin) = (rem.source.name(), rem.names.twin.as_str());
    let address = |name: &str| match rem.kind {
        Kind::Cluster => seen.cluster(name).and_then(|c| c.address.clone()),
        Kind::Instance | Kind::Snapshot => seen.instance(name).and_then(|i| i.address.clone()),
    };
    let port = match &rem.source {
        Resource::Instance { instance, .. } => instance.settings.port,
        Resource::Cluster { cluster, .. } => cluster.settings.port,
        Resource::Snapshot { .. } => None,
    };
    vec![
        ("REMEDIATION", rem.id.clone()),
        ("PLAN", rem.plan.clone()),
        ("ACCOUNT", rem.account.to_string()),
        ("REGION", rem.region.to_string()),
        ("KIND", rem.kind.as_str().to_owned()),
        ("ENGINE", rem.source.engine().to_owned()),
        ("ORIGINAL", original.to_owned()),
        ("ORIGINAL_ADDRESS", address(original).unwrap_or_default()),
        ("TWIN", twin.to_owned()),
        ("TWIN_ADDRESS", address(twin).unwrap_or_default()),
        ("PORT", port.map(|p| p.to_string()).unwrap_or_default()),
    ]
}

/// Asks CloudWatch, and keeps the answer for the next decision.
async fn measure<P: Pipe>(
    desk: &Desk<P>,
    session: &Session,
    region: &Region,
    mut one: Versioned,
    (names, from): (&[String], Time),
) -> Result<Option<Versioned>, Status> {
    match activity(desk, session, region, (names, from)).await {
        Ok(activity) => {
            one.remediation.activity = Some(activity);
            record(desk, &mut one, "", "").await?;
            Ok(Some(one))
        }
        Err(error) if matches!(error.class, ErrorClass::Denied | ErrorClass::ScpDenied) => {
            let failure = Failure::of(&error);
            give_up_or_stop(desk, one, error.to_string(), failure).await
        }
        Err(error) => wait(desk, one, error.to_string()).await.map(|()| None),
    }
}

async fn act_on<P: Pipe>(
    desk: &Desk<P>,
    session: &Session,
    region: &Region,
    mut one: Versioned,
    act: Act,
    seen: &Sweep,
) -> Result<Option<Versioned>, Status> {
    // Where it is asked for: a replica may be in another region.
    let there = act.far_region();
    let region = there.as_ref().unwrap_or(region);
    // Nor is the last plain copy deleted while the key of the encrypted one is disabled, or about to go.
    let last = matches!(act, Act::Retire { kind: Kind::Snapshot, .. });
    let encrypts = matches!(
        act,
        Act::CopySnapshot { .. }
            | Act::RestoreInstance { .. }
            | Act::RestoreCluster { .. }
            | Act::LastCopy { .. }
            | Act::CreateBlueGreen { .. }
            | Act::SwitchOver { .. } // there is no way back from what cannot be read
    ) || (matches!(act, Act::CreateReplica { .. }) && there.is_some());
    if (encrypts || last)
        && let Some(why) =
            key_trouble(desk, session, region, &one.remediation, there.as_ref()).await
    {
        return wait(desk, one, why).await.map(|()| None);
    }
    if one.remediation.isolates(&act) {
        match group_trouble(desk, session, region, &one.remediation, there.as_ref()).await {
            None => {}
            Some(Trouble::Passing(why)) => return wait(desk, one, why).await.map(|()| None),
            Some(Trouble::Gone(why)) => {
                return give_up_or_stop(desk, one, why, Failure::Blocked).await;
            }
        }
    }
    let unfit = match last || matches!(act, Act::SwitchOver { .. }) {
        true => decided_otherwise(desk, session, region, &one.remediation, &act).await,
        false => other_subject(desk, session, region, &act).await,
    };
    if let Some(why) = unfit {
        return wait(desk, one, why).await.map(|()| None);
    }
    let before = one.remediation.clone();
    let title = act.title();
    one.remediation.intend(act.clone(), now());
    one.remediation.why = title.clone();
    // Recorded before the call: after a crash this is all that tells us to look for it. The server refuses it
    // while changes are frozen.
    match record(desk, &mut one, "remediation.intend", &title).await {
        Err(frozen) if frozen.code() == tonic::Code::FailedPrecondition => {
            one.remediation = before;
            // What waits for people does not get late by that.
            one.remediation.begun_at = Some(now());
            return wait(desk, one, frozen.message().to_owned()).await.map(|()| None);
        }
        recorded => recorded?,
    }
    match perform(desk, session, region, &one.remediation, &act, seen).await {
        Ok(made) => {
            if let Some(intent) = one.remediation.intents.get_mut(&act.key()) {
                intent.done = true;
                if let Some(made) = made {
                    intent.made = Some(made.arn);
                    intent.resource_id = made.resource_id;
                }
            }
            let done = record(desk, &mut one, "remediation.done", &title).await;
            if done.as_ref().is_err_and(|status| status.code() == tonic::Code::Aborted) {
                // What was made shows only after a while. Until then nobody may look, least of all one that
                // takes down what it sees: the account is ours for as long.
                let rest_ms = u64::try_from(desk.settings.bounds.expect_for.0).unwrap_or_default();
                rest(rest_ms).await;
            }
            done.map(|()| Some(one))
        }
        Err(error) => {
            // A key that was disabled since it was looked at is waited for, like one that was seen disabled; one
            // whose policy does not let us in is not.
            if encrypts
                && error.code.starts_with("KMSKeyNotAccessible")
                && let Some(why) =
                    key_trouble(desk, session, region, &one.remediation, there.as_ref()).await
            {
                one.remediation.intents = before.intents;
                return wait(desk, one, why).await.map(|()| None);
            }
            failed(desk, one, before, &act, error).await
        }
    }
}

/// What a failed call means. Where AWS said that it did nothing, the intent is taken back; where
/// nobody knows, it stays, and the next look decides.
async fn failed<P: Pipe>(
    desk: &Desk<P>,
    mut one: Versioned,
    before: Remediation,
    act: &Act,
    error: CloudError,
) -> Result<Option<Versioned>, Status> {
    let (why, failure) = (error.to_string(), Failure::of(&error));
    // "InvalidDBSnapshotState" and its like: not now, but later.
    let not_now = error.code.contains("State");
    match error.class {
        // What is there and may not be changed just now: the intent stays, and its tries are counted.
        ErrorClass::Invalid
            if not_now
                && (act.subject().is_some() || matches!(act, Act::CreateBlueGreen { .. })) =>
        {
            if let Some(intent) = one.remediation.intents.get_mut(&act.key()) {
                intent.refused = Some(why.clone());
                // A green database that is being backed up, for one, is ready minutes later.
                let switches = matches!(act, Act::SwitchOver { .. });
                if switches && now().since(intent.first_at) < SWITCH_FOR_MAX {
                    intent.attempts = 0;
                }
            }
            wait(desk, one, why).await.map(|()| None)
        }
        // A stop that AWS does not allow is no failure: the original is kept all the same.
        ErrorClass::Invalid if matches!(act, Act::Stop { .. }) => {
            let key = act.key();
            if let Some(intent) = one.remediation.intents.get_mut(&key) {
                intent.attempts = ATTEMPTS_MAX;
            }
            wait(desk, one, why).await.map(|()| None)
        }
        ErrorClass::Throttled | ErrorClass::Conflict => {
            one.remediation.intents = before.intents;
            wait(desk, one, why).await.map(|()| None)
        }
        ErrorClass::Invalid if not_now || one.remediation.queues(act, &error, now()) => {
            (one.remediation.intents, one.remediation.why) = (before.intents, before.why);
            wait(desk, one, why).await.map(|()| None)
        }
        ErrorClass::Unknown | ErrorClass::AlreadyExists => {
            // It may have happened, or it is there: whether it is ours, the next look tells.
            let why = match act {
                Act::CreateGroup { name, .. } if error.class == ErrorClass::AlreadyExists => {
                    format!("another remediation has made {name}; it is looked for")
                }
                _ => why,
            };
            record(desk, &mut one, "remediation.unknown", &why).await?;
            wait(desk, one, why).await.map(|()| None)
        }
        ErrorClass::Invalid if retries_plain(&one.remediation, act, &error) => {
            let key = act.key();
            if let Some(intent) = one.remediation.intents.get_mut(&key) {
                intent.plain_gp3 = true;
                // Refused for certain: it need not be waited for.
                intent.at =
                    ringfence_domain::time::Time(intent.at.0 - desk.settings.bounds.expect_for.0);
            }
            record(desk, &mut one, "remediation.retry", &why).await?;
            Ok(Some(one))
        }
        ErrorClass::Denied
        | ErrorClass::ScpDenied
        | ErrorClass::RegionRefused
        | ErrorClass::NotFound
        | ErrorClass::Invalid => {
            one.remediation.intents = before.intents;
            let role = "the member role needs BlueGreen=yes and Swap=yes (deploy/member-role.yaml)";
            let why = match act {
                Act::CreateBlueGreen { .. } if failure == Failure::Denied => {
                    format!("{why}; {role}")
                }
                _ => why,
            };
            give_up_or_stop(desk, one, why, failure).await
        }
    }
}

/// Small gp3 volumes report a baseline of IOPS that a restore may refuse to be given: one more try
/// without it. The twin then reports the same baseline, or it differs and stops.
fn retries_plain(rem: &Remediation, act: &Act, error: &CloudError) -> bool {
    let gp3 = match &rem.source {
        Resource::Instance { instance, .. } => {
            instance.settings.storage_type.as_deref() == Some("gp3")
        }
        Resource::Cluster { .. } | Resource::Snapshot { .. } => false,
    };
    let first = rem.intents.get(&act.key()).is_some_and(|i| i.attempts == 1);
    gp3 && first
        && matches!(act, Act::RestoreInstance { .. })
        && error.message.to_ascii_lowercase().contains("iops")
}
