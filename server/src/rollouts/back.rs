//! The way back: what holds it up is said and tried again, and never keeps more attached than it must.

use super::attach::surely;
use super::positions::Positions;
use super::work::{note, read_back, stop, waits, waits_for_hours};
use super::{Loaded, guard, transient};
use crate::app::{App, Fault, now};
use ringfence_domain::id::NodeId;
use ringfence_domain::rollout::{Attachment, Rollout, State, Wish};

/// Begins the lines that say what holds it up.
const HELD: &str = "not taken back yet: ";

/// Why it is taken back, without what held that up.
pub(super) fn reasons(rollout: &Rollout) -> Vec<String> {
    rollout.why.iter().filter(|line| !line.starts_with(HELD)).cloned().collect()
}

/// The same, with what holds it up now.
pub(super) fn held(rollout: &Rollout, held: Vec<String>) -> Vec<String> {
    let held = held.into_iter().map(|why| format!("{HELD}{why}"));
    reasons(rollout).into_iter().chain(held).collect()
}

/// AWS refuses to detach it where it still is; that is tried again.
pub(super) async fn rests(app: &App, loaded: Loaded, seen: &Positions) -> Result<bool, Fault> {
    waits(app, &loaded.1.body.id, loaded.1.refusals(seen.attached())).await?;
    Ok(false)
}

/// A person must look at what cannot be taken back; all else is.
pub(super) fn asks(rollout: &Rollout, why: String) -> Vec<String> {
    let next = match rollout.wish {
        Wish::Retreat { .. } => "resume goes on with taking it back, abort takes back all",
        _ => "abort tries again",
    };
    held(rollout, vec![format!("{why}; {next}")])
}

/// Detaches from one target: on the way back, or from a canary account that its OU has taken the place of.
pub(super) async fn detach(
    app: &App,
    loaded: Loaded,
    target: &NodeId,
    seen: &mut Positions,
) -> Result<bool, Fault> {
    let forward = loaded.1.wish == Wish::Run;
    // Leaving a canary to its OU is no way back.
    if forward && waits_for_hours(app, &loaded.1).await? {
        return Ok(false);
    }
    if forward
        && let Some(by) = loaded.1.body.replaced_by.get(target)
        && let Some(why) = guard::unbound(app, &loaded.1, (target, by)).await?
    {
        let why = vec![format!("{target} keeps what is attached to it: {why}")];
        stop(app, loaded, State::Failed, why).await?;
        return Ok(false);
    }
    let policy = loaded.1.policy_id.clone().unwrap_or_default();
    let edit = |a: &mut Attachment| a.detaches(now());
    let loaded = note(app, loaded, target, "rollout.detach", edit).await?;
    match app.cloud.detach_policy(&policy, target).await {
        Ok(()) => {}
        Err(error) if forward => return Err(error.into()),
        // It passes, however long that takes.
        Err(error) if transient(error.class) => {
            let text = format!("{target}: {error}");
            surely(app, &loaded.1.body.id, ("rollout.detach-unanswered", &text), |r| {
                r.attachments.entry(target.clone()).or_default().is_unanswered();
            })
            .await?;
            return Err(error.into());
        }
        // One that AWS refuses must not keep the others attached (credentials that ran out, a permission that is missing).
        Err(error) => {
            let text = format!("{target}: {error}");
            tracing::warn!("{}: not detached from {text}", loaded.1.body.id);
            surely(app, &loaded.1.body.id, ("rollout.detach-refused", &text), |r| {
                let attachment = r.attachments.entry(target.clone()).or_default();
                attachment.is_refused(error.to_string(), now());
            })
            .await?;
            return Ok(true);
        }
    }
    read_back(app, target, (&policy, false), seen).await?;
    Ok(true)
}
