//! What people do with findings: waive and unwaive.

use crate::app::{App, Fault, changed, now, refused};
use crate::reports::row_of;
use crate::store::{Kind, Row};
use crate::waivers;
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
    let waiver = waivers::wanted(actor, (owner, reason, until))?;
    let until = waiver.until;
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
    if waiver.is_none() && finding.waiver.as_ref().is_some_and(|w| w.account) {
        return refused(
            "ACCOUNT_WAIVED",
            format!(
                "{id} is waived with all of its account: `ringfence finding unwaive --account {}` ends that",
                finding.account
            ),
        );
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
