//! The read replicas of a twin: rebuilt from it, each after its source.
//!
//! No encrypted replica of an unencrypted source can be made, nor the reverse (RDS guide, "Encrypting
//! Amazon RDS resources", limitations), so replicas are new ones. "Replicas are created with backups off",
//! and a source needs them: each is mended before its own replicas are made.

use super::{
    Act, Bounds, CREATE_FOR_MAX, MODIFY_FOR_MAX, Remediation, Step, broken, create, fidelity, mend,
    twin_name, wait_for,
};
use crate::finding::Resource;
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

/// Which twin of a replica no longer replicates the twin of its source, in words: somebody promoted it, and it is frozen
/// since. Before names change.
pub(super) fn strayed(rem: &Remediation, seen: &Sweep) -> Option<String> {
    let Resource::Instance { instance: main, replicas } = &rem.source else { return None };
    let twin = |i: &Instance| twin_name(&i.id, &i.resource_id);
    replicas.iter().find_map(|replica| {
        let source = replica.replica_source.as_deref().unwrap_or_default();
        let parent = std::iter::once(main).chain(replicas).find(|i| i.id == source).map(twin)?;
        let name = twin(replica);
        let found = seen.instance(&name)?;
        (found.replica_source.as_deref() != Some(parent.as_str())).then(|| {
            format!(
                "{name} no longer replicates {parent}: it was promoted, and has what it had then. `remediation discard` takes all of it down, and a new plan begins again"
            )
        })
    })
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
    let key = found.kms_key.as_deref();
    if let Some(why) = rem.other_key(("the replica", id), &found.encryption, key) {
        return Some(Step::AskHuman(why));
    }
    mend("the replica", rem, (want, found), fidelity::instance(want, found), now, bounds)
}

#[cfg(test)]
mod tests {
    use super::super::{decide, sample};
    use super::*;
    use crate::rds::Encryption;

    #[test]
    fn a_replica_in_another_region_is_made_under_the_key_of_that_one() {
        let twin = sample::FAR.replace(":db:", ":db:encrypted-");
        type Edit = fn(&mut Instance);
        let rows: [(Option<Edit>, &str); 5] = [
            (None, "act create replica encrypted-orders (us-east-1) of encrypted-orders"),
            (Some(|_| {}), "mark verified"),
            (
                Some(|i| i.kms_key = Some("arn:aws:kms:eu-west-1:111122223333:key/1".into())),
                "ask the replica arn:aws:rds:us-east-1:111122223333:db:encrypted-orders is not encrypted under arn:aws:kms:us-east-1",
            ),
            (
                Some(|i| i.replica_source = Some("another".into())),
                "ask arn:aws:rds:us-east-1:111122223333:db:encrypted-orders exists and was not made",
            ),
            (
                Some(|i| i.settings.monitoring_interval = 5),
                "act set monitoring_interval of encrypted-orders (us-east-1)",
            ),
        ];
        for (edit, want) in rows {
            let (mut rem, mut seen, now) =
                sample::instance_world(&[sample::Change::Twin("available")]);
            sample::across(&mut rem, &mut seen);
            if let (Some(edit), Resource::Instance { replicas, .. }) = (edit, &rem.source) {
                let mut made = Instance {
                    id: twin.clone(),
                    arn: twin.clone(),
                    resource_id: "db-FARTWIN".into(),
                    encryption: Encryption::SseKms,
                    kms_key: Some(sample::FAR_KEY.into()),
                    replica_source: Some("encrypted-orders".into()),
                    made_by: Some(rem.id.clone()),
                    ..replicas[0].clone()
                };
                edit(&mut made);
                seen.instances.push(made);
            }
            let said = sample::show(&decide(&rem, &seen, now, sample::BOUNDS));
            assert!(said.starts_with(want), "want {want}\nhave {said}");
        }
    }

    #[test]
    fn a_twin_that_was_promoted_takes_no_place() {
        let (mut rem, mut seen, _) = sample::instance_world(&[sample::Change::Twin("available")]);
        sample::across(&mut rem, &mut seen);
        let mut far = sample::instance("far");
        far.id = sample::FAR.replace(":db:", ":db:encrypted-");
        far.replica_source = Some("encrypted-orders".into());
        seen.instances.push(far);
        assert_eq!(strayed(&rem, &seen), None);
        seen.instances.last_mut().unwrap().replica_source = None;
        let why = strayed(&rem, &seen).expect("it is said");
        assert!(why.contains("no longer replicates encrypted-orders: it was promoted"), "{why}");
    }

    #[test]
    fn names_of_two_regions_stay_apart() {
        let (mut rem, mut seen, _) = sample::instance_world(&[]);
        sample::across(&mut rem, &mut seen);
        let parts = rem.parts();
        assert_eq!((parts[0].id, parts[1].id), ("orders", sample::FAR));
        assert_eq!(parts[1].twin, sample::FAR.replace(":db:", ":db:encrypted-"));
        assert!(parts[1].held.starts_with(&format!("{}-unencrypted-", sample::FAR)));
        assert_eq!(seen.tree("orders").len(), 1);
    }
}
