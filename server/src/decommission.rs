//! The end of an original: asked for by one, agreed to by others, done by an agent.

use crate::app::{App, Fault, because, changed, now, refused};
use crate::remediations::row_with;
use crate::store::{Kind, Row};
use crate::{freezes, plans};
use ringfence_domain::approval::Approval;
use ringfence_domain::audit::Actor;
use ringfence_domain::controls;
use ringfence_domain::far;
use ringfence_domain::finding::Finding;
use ringfence_domain::remediation::{JOB_FOR_MAX, Remediation, Retirement};

/// Orders the decommission, once enough others have approved the request; records the request, and refuses,
/// until then.
pub(crate) async fn order(
    app: &App,
    actor: &Actor,
    id: &str,
    confirm: &str,
    reason: &str,
    dry: bool,
) -> Result<Remediation, Fault> {
    let reason = because(reason, "it goes into the audit log")?;
    let (row, mut rem): (Row, Remediation) = app.load(Kind::Remediation, id).await?;
    let at = now();
    let mut ordered = rem.clone();
    if let Some(why) = ordered.decommission(at, app.config.bounds) {
        return refused("NOT_NOW", format!("{id}: no decommission: {why}; nothing was changed"));
    }
    not_waived(app, &rem).await?;
    let wanted = rem.retirement(&actor.name, at, reason);
    let name = wanted.originals.first().map(|(name, _)| name.clone()).unwrap_or_default();
    if confirm != name {
        return Err(Fault::Invalid(format!(
            "confirm: `{confirm}` is not what is deleted; to delete it, type its name: {name}"
        )));
    }
    // What was agreed to is this: the same databases, none that came into their places since.
    let same = |r: &&Retirement| r.originals == wanted.originals && r.twins == wanted.twins;
    let needed = app.config.approvals_decommission;
    if rem.retirement.as_ref().filter(same).is_none() {
        if dry {
            return refused(
                "APPROVAL_MISSING",
                format!(
                    "dry run: it would ask {needed} others to approve the decommission of {name}; nothing was stored"
                ),
            );
        }
        let hash = wanted.hash();
        rem.retirement = Some(wanted);
        let event = actor.did(at, "decommission.request", id, format!("{reason} (hash {hash})"));
        if !app.store.update(&[row_with(row, &rem)], &event).await? {
            return Err(changed(id));
        }
        return refused(
            "APPROVAL_MISSING",
            format!(
                "the decommission of {name} is asked for; {needed} others must approve it: `ringfence approve {id} --reason ...`; then give this order again"
            ),
        );
    }
    approved(app, &rem)?;
    freezes::refuse(app, [&rem], false).await?;
    ordered.why = format!("decommission ordered by {}: {reason}", actor.name);
    if dry {
        return Ok(ordered);
    }
    let event = actor.did(at, "remediation.decommission", id, reason);
    if !app.store.update(&[row_with(row, &ordered)], &event).await? {
        return Err(changed(id));
    }
    app.wake_agents.notify_waiters();
    Ok(ordered)
}

/// Refuses what not enough people have agreed to lately: what was agreed to long ago may be another matter now.
pub(crate) fn approved(app: &App, rem: &Remediation) -> Result<(), Fault> {
    let (id, needed) = (&rem.id, app.config.approvals_decommission);
    let Some(asked) = &rem.retirement else {
        return refused("APPROVAL_MISSING", format!("{id}: nobody asked for its decommission"));
    };
    let fresh = |a: &&Approval| now().since(a.at) <= JOB_FOR_MAX;
    let approvals: Vec<Approval> = asked.approvals.iter().filter(fresh).cloned().collect();
    plans::approved(id, &asked.author, &asked.hash(), &approvals, needed)
}

/// Somebody decided to live with it, or with one of its replicas, for a time: that comes first. Each is found under its
/// own name, or under the one that it was given.
async fn not_waived(app: &App, rem: &Remediation) -> Result<(), Fault> {
    let control = controls::of(rem.kind).id();
    for part in rem.parts() {
        let held = far::renamed(part.arn, far::name(&part.held));
        for arn in [part.arn, &held] {
            let id = Finding::id_of(control, arn);
            let Some(row) = app.store.get(Kind::Finding, &id).await? else { continue };
            let finding: Finding = row.document()?;
            let same = finding.resource.resource_id() == part.resource_id;
            if let Some(w) = finding.waiver.as_ref().filter(|w| same && w.until > now()) {
                return refused(
                    "WAIVED",
                    format!(
                        "{}: its finding {id} is waived until {} by {} ({}): end that first, `ringfence finding unwaive {id}`",
                        rem.id, w.until, w.by, w.reason
                    ),
                );
            }
        }
    }
    Ok(())
}

/// Adds a person's approval to a request.
pub(crate) async fn approve(
    app: &App,
    actor: &Actor,
    id: &str,
    reason: &str,
    hash: &str,
) -> Result<Remediation, Fault> {
    let (row, mut rem): (Row, Remediation) = app.load(Kind::Remediation, id).await?;
    let Some(asked) = &mut rem.retirement else {
        return refused(
            "NOTHING_TO_APPROVE",
            format!(
                "{id}: nobody asked for its decommission; a plan is approved by its own id (pl-...)"
            ),
        );
    };
    let (author, own) = (asked.author.clone(), asked.hash());
    plans::approve(&author, &own, &mut asked.approvals, actor, (reason, hash))?;
    let event = actor.did(now(), "decommission.approve", id, format!("{reason} (hash {hash})"));
    if !app.store.update(&[row_with(row, &rem)], &event).await? {
        return Err(changed(id));
    }
    Ok(rem)
}
