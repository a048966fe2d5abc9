//! One attachment: all that must be so before it, the intent, the call, and what AWS answered.

use super::bake::Admitted;
use super::gates::{gate, stage_shut, thawed, too_large};
use super::guard::came_before;
use super::positions::Positions;
use super::work::{CONFLICTS_MAX, read_back, stop, system, waits, waits_for_hours};
use super::{Loaded, bake, change};
use crate::app::{App, Fault, changed, now};
use crate::store::Kind;
use ringfence_aws::organizations::Attach;
use ringfence_domain::cloud::ErrorClass;
use ringfence_domain::id::NodeId;
use ringfence_domain::rollout::{self, Attachment, Rollout, State};

/// Attaches to one target: if its gate is open, and if the policy still says what was approved.
pub(super) async fn attach(
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
        tracing::warn!("{}: blocked: {}", loaded.1.body.id, unproven.join("; "));
        change(app, &system(), loaded, "rollout.blocked", &unproven.join("; "), |r| {
            // Those whose evidence holds are not looked at again.
            r.knows(known);
            (r.state, r.why) = (State::Blocked, unproven.clone());
            Ok(())
        })
        .await?;
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
        Ok(Attach::WasThere) if first => {
            surely(app, &loaded.1.body.id, ("rollout.attached-by-others", target.as_str()), |r| {
                let baseline = r.baseline.get_or_insert_default();
                baseline.entry(target.clone()).or_default().insert(policy.clone());
            })
            .await?;
        }
        Ok(Attach::WasThere) => {}
        Err(error) => {
            // AWS said no for certain: what appears there later is not ours.
            let definite = error.class != ErrorClass::Unknown;
            if first && definite {
                surely(app, &loaded.1.body.id, ("rollout.attach-refused", target.as_str()), |r| {
                    r.attachments.insert(target.clone(), Attachment::default());
                })
                .await?;
            }
            return Err(error.into());
        }
    }
    read_back(app, target, (&policy, true), seen).await?;
    Ok(true)
}

/// Notes what AWS answered, over whatever a person asked for meanwhile: else what is somebody else's would count as ours and be
/// detached, or what was not detached as gone.
pub(super) async fn surely(
    app: &App,
    id: &str,
    (action, text): (&str, &str),
    edit: impl Fn(&mut Rollout),
) -> Result<(), Fault> {
    for _ in 0..CONFLICTS_MAX {
        let loaded: Loaded = app.load(Kind::Rollout, id).await?;
        let actor = system();
        let noted = change(app, &actor, loaded, action, text, |r| {
            edit(r);
            Ok(())
        });
        match noted.await {
            Err(Fault::Conflict(_)) => {}
            done => return done.map(drop),
        }
    }
    Err(changed(id))
}
