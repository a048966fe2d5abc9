//! What people do with findings: waive and unwaive.

use crate::app::{App, Fault, changed, instant, now, refused};
use crate::reports::row_of;
use crate::store::{Kind, Row};
use ringfence_domain::audit::Actor;
use ringfence_domain::finding::{Finding, FindingState, Waiver};

/// Accepts an open finding until an instant, in somebody's name.
pub async fn waive(
    app: &App,
    actor: &Actor,
    id: &str,
    owner: &str,
    reason: &str,
    until: &str,
    dry: bool,
) -> Result<Finding, Fault> {
    for (flag, value) in [("--owner", owner), ("--reason", reason)] {
        if value.trim().is_empty() {
            return Err(Fault::Invalid(format!("a waiver needs {flag}")));
        }
    }
    let until = instant("until", until)?;
    if until <= now() {
        return Err(Fault::Invalid(format!(
            "--until {until} is in the past: a waiver ends in the future"
        )));
    }
    let waiver = Waiver {
        owner: owner.to_owned(),
        reason: reason.to_owned(),
        until,
        by: actor.name.clone(),
    };
    let text = format!("until {until}, owner {owner}: {reason}");
    set(app, actor, id, "finding.waive", &text, Some(waiver), dry).await
}

/// Ends a waiver.
pub async fn unwaive(
    app: &App,
    actor: &Actor,
    id: &str,
    reason: &str,
    dry: bool,
) -> Result<Finding, Fault> {
    set(app, actor, id, "finding.unwaive", reason, None, dry).await
}

async fn set(
    app: &App,
    actor: &Actor,
    id: &str,
    action: &str,
    text: &str,
    waiver: Option<Waiver>,
    dry: bool,
) -> Result<Finding, Fault> {
    let (row, mut finding): (Row, Finding) = app.load(Kind::Finding, id).await?;
    if waiver.is_some() && finding.state != FindingState::Open {
        return refused("FINDING_RESOLVED", format!("{id} is resolved: there is nothing to waive"));
    }
    if waiver.is_none() && finding.waiver.is_none() {
        return refused("NOT_WAIVED", format!("{id} has no waiver"));
    }
    finding.waiver = waiver;
    if dry {
        return Ok(finding);
    }
    let event = actor.did(now(), action, id, text);
    if !app.store.update(&[row_of(Some(row), &finding)], &event).await? {
        return Err(changed(id));
    }
    Ok(finding)
}
