//! A green environment that nobody wants, and a deployment that is done.

use super::super::place::protect;
use super::super::unit::{bearer, find, twin_id};
use super::super::{
    Act, Bounds, CREATE_FOR_MAX, Goal, MODIFY_FOR_MAX, Remediation, Step, orphaned, repeat,
    wait_for,
};
use super::{deployment, is_green};
use crate::finding::Kind;
use crate::rds::{BlueGreen, Sweep};
use crate::time::Time;

/// The table of a twin that nobody wants; the first row that holds is the answer.
pub(in super::super) fn discard(
    rem: &Remediation,
    seen: &Sweep,
    now: Time,
    bounds: Bounds,
) -> Step {
    match deployment(rem, seen) {
        Ok(made) => take_down(rem, made, seen, now, bounds).unwrap_or(Step::Finish),
        Err(step) => step,
    }
}

/// Deletes the deployment with its green environment; `None` once both are gone.
///
/// Never after a switchover: what was green is production then (AWS refuses it, too; API reference,
/// DeleteBlueGreenDeployment).
pub(super) fn take_down(
    rem: &Remediation,
    made: Option<&BlueGreen>,
    seen: &Sweep,
    now: Time,
    bounds: Bounds,
) -> Option<Step> {
    if let Some(kept) = orphaned(rem, seen) {
        return Some(Step::AskHuman(kept));
    }
    let Some(made) = made else { return left_over(rem, seen, now) };
    let parts = rem.parts();
    let top = &parts[0];
    let wait = |status: &str, max| wait_for(rem, "deployment", &made.id, status, max, now);
    if bearer(seen, top.kind, top.id) != Some(top.resource_id)
        || made.status == "SWITCHOVER_COMPLETED"
    {
        return Some(Step::AskHuman(format!(
            "{} is not under its own name any more, so {} may be production: nothing is deleted. If somebody switched over, `ringfence remediation cutover` carries on from there; look at the deletion protection of {}",
            top.id, made.id, top.id
        )));
    }
    if !rem.made("deployment", &made.id, made.made_by.as_deref()) {
        let why = "is not the one that was made: nothing is deleted";
        return Some(Step::AskHuman(format!("the blue/green deployment {} {why}", made.id)));
    }
    match made.status.as_str() {
        // AWS deletes none that it is making or switching.
        "PROVISIONING" => return Some(wait("being provisioned", CREATE_FOR_MAX)),
        "SWITCHOVER_IN_PROGRESS" => return Some(wait("switching over", MODIFY_FOR_MAX)),
        // Somebody may have promoted a green one, and use it.
        "INVALID_CONFIGURATION" if rem.goal == Goal::Discard => {
            return Some(Step::AskHuman(format!(
                "the blue/green deployment {} is {}, so its green databases may be in use: delete it by hand",
                made.id,
                made.doing()
            )));
        }
        _ => {}
    }
    // "They must have deletion protection turned off" (RDS guide, "Deleting a blue/green deployment").
    for part in parts.iter().filter(|p| p.own.is_some()) {
        let green = twin_id(rem, part).and_then(|id| find(seen, part.kind, id));
        let Some(db) = green.filter(|db| db.protected && db.status != "deleting") else { continue };
        if let Some(step) = protect(rem, &db, false, now, bounds) {
            return Some(step);
        }
    }
    Some(delete(rem, made, true, now, bounds))
}

/// What is left of a green environment whose deployment is gone: AWS deletes it by and by; where somebody deleted the
/// deployment alone, it stays, and is nobody's scratch any more. `None` where nothing is.
fn left_over(rem: &Remediation, seen: &Sweep, now: Time) -> Option<Step> {
    let mut known = false;
    let mut left: Vec<(&str, &str)> = Vec::new();
    for part in rem.parts() {
        let recorded = twin_id(rem, &part);
        known |= recorded.is_some();
        let green = |name: &str, id: &str| match recorded {
            Some(twin) => twin == id && twin != part.resource_id,
            None => is_green(name, part.id),
        };
        let instances = seen.instances.iter().filter(|_| part.kind == Kind::Instance);
        let clusters = seen.clusters.iter().filter(|_| part.kind == Kind::Cluster);
        let instances = instances.map(|i| (&i.id, &i.resource_id, &i.status));
        let all = instances.chain(clusters.map(|c| (&c.id, &c.resource_id, &c.status)));
        left.extend(
            all.filter(|(n, id, _)| green(n, id)).map(|(n, _, s)| (n.as_str(), s.as_str())),
        );
    }
    let (name, status) = left.iter().find(|(_, s)| *s != "deleting").or(left.first())?;
    // Of one that was never told apart, a name is all that is known.
    let made = rem.intents.get("deployment").is_some_and(|i| i.made.is_some());
    if !known && !made {
        return None;
    }
    let key = format!("delete {}", rem.deployment());
    // AWS was asked to delete both, and does it one after the other.
    if *status == "deleting" || rem.intents.contains_key(&key) {
        let what = format!("{name}, which goes with its blue/green deployment,");
        return Some(wait_for(rem, &key, &what, status, MODIFY_FOR_MAX, now));
    }
    Some(Step::AskHuman(format!(
        "somebody deleted the blue/green deployment {}, and {name} of its green environment is left: lift its deletion protection and delete it by hand, then `ringfence remediation retry {}`",
        rem.deployment(),
        rem.id
    )))
}

/// Deletes a deployment, with its green environment or without; waits until it is gone.
pub(super) fn delete(
    rem: &Remediation,
    made: &BlueGreen,
    green: bool,
    now: Time,
    bounds: Bounds,
) -> Step {
    let act = Act::DeleteBlueGreen {
        deployment: made.id.clone(),
        name: made.name.clone(),
        green,
        kind: rem.kind,
        database: rem.source.name().to_owned(),
        resource_id: rem.source.resource_id().to_owned(),
    };
    if made.status == "DELETING" {
        return wait_for(rem, &act.key(), &made.id, "being deleted", MODIFY_FOR_MAX, now);
    }
    repeat(rem, act, now, bounds)
}
