//! The work on the keys of one account: observe, decide (in the domain), act, record.

use crate::lease::{Desk, Pipe};
use crate::now;
use ringfence_aws::{Phase, Session};
use ringfence_domain::cloud::{CloudError, ErrorClass};
use ringfence_domain::key::decide::{Observed, Step, decide};
use ringfence_domain::key::job::{Act, Job, State};
use ringfence_domain::key::{NO_ROLE, NOT_FOUND, Wanted};
use ringfence_domain::time::Span;
use ringfence_domain::work::VersionedJob;
use ringfence_proto::v1;
use tonic::{Code, Status};

/// How many times longer than other things take to show a key may be asked for after that was recorded: throttles
/// are waited out meanwhile. Others wait twice as long before they ask again (`Job::is_settling`).
const SEND_WITHIN: i64 = 5;

/// Works on all that is due, as far as it goes now.
pub(crate) async fn account<P: Pipe>(desk: &Desk<P>, due: Vec<VersionedJob>) -> Result<(), Status> {
    for one in due {
        let id = one.job.id.clone();
        match cell(desk, one).await {
            // A person applied it again meanwhile, or the account is another agent's now, which the next
            // record will find too.
            Err(status) if status.code() == Code::Aborted => {
                tracing::info!("{id}: {}", status.message());
            }
            done => done?,
        }
    }
    Ok(())
}

async fn cell<P: Pipe>(desk: &Desk<P>, mut one: VersionedJob) -> Result<(), Status> {
    one.job.begun_at.get_or_insert_with(now);
    if one.job.role != desk.cloud.role_name() {
        let why = format!(
            "role {} was approved, and this agent's aws.role_name is {}",
            one.job.role,
            desk.cloud.role_name()
        );
        return end(desk, one, State::Stopped, &why).await;
    }
    loop {
        // What is read may be older than its end: patience counts from before.
        let at = now();
        let (session, seen) = match observe(desk, &one.job).await {
            Ok(observed) => observed,
            Err(error) => return failed(desk, one, &error).await,
        };
        if session.own {
            return end(desk, one, State::Stopped, NO_ROLE).await;
        }
        match decide(&one.job, &seen, at, desk.settings.bounds.expect_for) {
            Step::Finish => return end(desk, one, State::Done, "the key is as planned").await,
            Step::AskHuman(why) => return end(desk, one, State::Stopped, &why).await,
            Step::Wait(why) => return wait(desk, one, why).await,
            Step::Act(act) => match act_on(desk, &session, one, &act).await? {
                Some(more) => one = more,
                None => return Ok(()),
            },
        }
    }
}

/// The key behind the alias; where there is none, those that we made for it.
async fn observe<P: Pipe>(desk: &Desk<P>, job: &Job) -> Result<(Session, Observed), CloudError> {
    let (account, region) = (&job.item.account, &job.item.region);
    let session = desk.cloud.enter(account, Phase::Keys, &job.plan).await?;
    let own = Wanted { alias: job.alias.clone(), central: None };
    let mut seen = Observed::default();
    match desk.cloud.key_facts(&session, region, &own).await?.answer {
        Ok(key) => seen.behind = Some(key),
        Err(why) if why == NOT_FOUND => match &job.made {
            Some(made) => seen.ours.extend(desk.cloud.key_by_arn(&session, region, made).await?),
            None => {
                let plans = job.after.iter().chain([&job.plan]).map(String::as_str);
                let plans: Vec<&str> = plans.collect();
                (seen.ours, seen.unread) =
                    desk.cloud.keys_made_for(&session, region, &job.alias, &plans).await?;
            }
        },
        Err(why) => {
            return Err(CloudError {
                class: ErrorClass::Denied,
                operation: "kms:DescribeKey".into(),
                code: why,
                message: job.alias.clone(),
            });
        }
    }
    Ok((session, seen))
}

/// One write; given back if there is more to do now.
async fn act_on<P: Pipe>(
    desk: &Desk<P>,
    session: &Session,
    mut one: VersionedJob,
    act: &Act,
) -> Result<Option<VersionedJob>, Status> {
    let before = one.job.clone();
    one.job.intend(act, now());
    // Recorded before the call: after a crash this is all that tells us to look for it. The server refuses it
    // while changes are frozen.
    match record(desk, &mut one, "key.intend", &act.title()).await {
        Err(frozen) if frozen.code() == Code::FailedPrecondition => {
            one.job = before;
            // What waits for people does not get late by that.
            one.job.begun_at = None;
            return wait(desk, one, frozen.message().to_owned()).await.map(|()| None);
        }
        recorded => recorded?,
    }
    match perform(desk, session, &one.job, act).await {
        Ok(made) => {
            one.job.made = made.or(one.job.made);
            record(desk, &mut one, "key.done", &act.title()).await?;
            Ok(Some(one))
        }
        Err(error) => {
            match error.class {
                // It may have happened just now, or is there: the next look tells.
                ErrorClass::Unknown | ErrorClass::AlreadyExists => {
                    if let Some(intent) = one.job.intents.get_mut(act.key()) {
                        intent.at = now();
                    }
                }
                // AWS said that it did nothing.
                _ => one.job.intents = before.intents,
            }
            failed(desk, one, &error).await.map(|()| None)
        }
    }
}

async fn perform<P: Pipe>(
    desk: &Desk<P>,
    session: &Session,
    job: &Job,
    act: &Act,
) -> Result<Option<String>, CloudError> {
    let (cloud, region) = (&desk.cloud, &job.item.region);
    match act {
        Act::Create => {
            let asked = job.intents.get(act.key()).map_or(now(), |i| i.at);
            let not_after = asked.plus(Span(desk.settings.bounds.expect_for.0 * SEND_WITHIN));
            let tags = (job.alias.as_str(), job.plan.as_str());
            return cloud.create_key(session, region, tags, not_after).await.map(Some);
        }
        Act::Rotate { key } => cloud.rotate_key(session, region, key).await?,
        Act::PutPolicy { key, over } => cloud.admit_to_key(session, region, key, over).await?,
        Act::Alias { key } => cloud.name_key(session, region, &job.alias, key).await?,
    }
    Ok(None)
}

/// What a failed call means: a no is for a person, anything else is tried again, up to the job's bound.
async fn failed<P: Pipe>(
    desk: &Desk<P>,
    one: VersionedJob,
    error: &CloudError,
) -> Result<(), Status> {
    let why = match error.class {
        ErrorClass::Denied => {
            format!(
                "{error}; deploy/member-role.yaml with Keys=yes lets the role make and mend keys"
            )
        }
        _ => error.to_string(),
    };
    match error.class {
        _ if one.job.is_late(now()) => end(desk, one, State::Stopped, &why).await,
        ErrorClass::Throttled
        | ErrorClass::Conflict
        | ErrorClass::Unknown
        | ErrorClass::AlreadyExists => wait(desk, one, why).await,
        // A key that was just made, or its tag, may not have got everywhere yet.
        _ if one.job.made.is_some()
            && one.job.is_settling(now(), desk.settings.bounds.expect_for) =>
        {
            wait(desk, one, why).await
        }
        ErrorClass::Denied
        | ErrorClass::ScpDenied
        | ErrorClass::RegionRefused
        | ErrorClass::NotFound
        | ErrorClass::Invalid => end(desk, one, State::Stopped, &why).await,
    }
}

async fn wait<P: Pipe>(desk: &Desk<P>, mut one: VersionedJob, why: String) -> Result<(), Status> {
    one.job.wake_at = now().plus(desk.settings.poll);
    let action = if one.job.why == why { "" } else { "key.wait" };
    one.job.why.clone_from(&why);
    record(desk, &mut one, action, &why).await
}

async fn end<P: Pipe>(
    desk: &Desk<P>,
    mut one: VersionedJob,
    state: State,
    why: &str,
) -> Result<(), Status> {
    (one.job.state, one.job.why) = (state, why.to_owned());
    let action = if state == State::Done { "key.finish" } else { "key.stop" };
    record(desk, &mut one, action, why).await
}

/// Writes the job under the fence. An error means that the account is somebody else's now, or the server is
/// away: either way this ends and somebody looks again.
async fn record<P: Pipe>(
    desk: &Desk<P>,
    one: &mut VersionedJob,
    action: &str,
    reason: &str,
) -> Result<(), Status> {
    let job_json = serde_json::to_string(&one.job).map_err(|e| Status::internal(e.to_string()))?;
    let request = v1::CommitKeyJobRequest {
        agent: desk.settings.name.clone(),
        lease: Some(desk.lease.clone()),
        version: one.version,
        job_json,
        action: action.to_owned(),
        reason: reason.to_owned(),
    };
    one.version = desk.pipe.commit_key(request).await?;
    Ok(())
}
