//! The read replicas of a twin: rebuilt from it, each after its source.
//!
//! No encrypted replica of an unencrypted source can be made, nor the reverse (RDS guide, "Encrypting
//! Amazon RDS resources", limitations), so replicas are new ones. "Replicas are created with backups off",
//! and a source needs them: each is mended before its own replicas are made.

use super::{
    Act, Bounds, CREATE_FOR_MAX, MODIFY_FOR_MAX, Remediation, Step, broken, create, fidelity, mend,
    twin_name, wait_for,
};
use crate::rds::{Instance, Sweep};
use crate::time::Time;

/// The first replica that is not as it must be; `None` when all are.
pub(super) fn rebuild(
    rem: &Remediation,
    main: &Instance,
    replicas: &[Instance],
    seen: &Sweep,
    now: Time,
    bounds: Bounds,
) -> Option<Step> {
    for replica in replicas {
        let name = twin_name(&replica.id, &replica.resource_id);
        let source = replica.replica_source.as_deref().unwrap_or_default();
        let parent = std::iter::once(main).chain(replicas).find(|i| i.id == source);
        let Some(parent) = parent.map(|p| twin_name(&p.id, &p.resource_id)) else {
            return Some(Step::AskHuman(format!(
                "{}: its source {source} is not known",
                replica.id
            )));
        };
        let Some(found) = seen.instance(&name) else {
            let source = replica.id.clone();
            let act = Act::CreateReplica { source, instance: name, of: parent };
            return Some(create(rem, act, now, bounds));
        };
        if let Some(step) = check(rem, &parent, replica, found, now, bounds) {
            return Some(step);
        }
    }
    None
}

/// One replica's rows: `None` when it is available and equal.
fn check(
    rem: &Remediation,
    parent: &str,
    want: &Instance,
    found: &Instance,
    now: Time,
    bounds: Bounds,
) -> Option<Step> {
    let id = &found.id;
    let ours = found.made_by.as_deref() == Some(rem.id.as_str());
    if !ours || found.replica_source.as_deref() != Some(parent) {
        return Some(Step::AskHuman(format!("{id} exists and was not made by {}", rem.id)));
    }
    if broken(&found.status) {
        return Some(Step::AskHuman(format!("the replica {id} is {}", found.status)));
    }
    let modify = format!("modify {id}");
    let unsettled: Vec<&str> =
        found.pending.iter().chain(&found.out_of_sync).map(String::as_str).collect();
    if found.status != "available" || !unsettled.is_empty() {
        let (key, max) = match rem.intents.contains_key(&modify) {
            true => (modify, MODIFY_FOR_MAX),
            false => (format!("replica {id}"), CREATE_FOR_MAX),
        };
        let status = format!("{} {}", found.status, unsettled.join(", "));
        return Some(wait_for(rem, &key, id, status.trim(), max, now));
    }
    if !rem.under_its_key(&found.encryption, found.kms_key.as_deref()) {
        let why = format!("the replica {id} is not encrypted under {}", rem.key_arn);
        return Some(Step::AskHuman(why));
    }
    mend("the replica", rem, (want, found), fidelity::instance(want, found), now, bounds)
}
