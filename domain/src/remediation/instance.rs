//! A DB instance: snapshot, encrypted copy, restore, mend, verify, clean up.

use super::{
    Act, Bounds, CREATE_FOR_MAX, MODIFY_FOR_MAX, Mark, Remediation, Step, broken, create,
    drop_snapshot, fidelity, mend, quiet, replica, snapshot_ready, still, unless_orphaned,
    wait_for,
};
use crate::finding::Resource;
use crate::rds::{Encryption, Instance, Snapshot, Sweep};
use crate::time::Time;

/// The table for an instance; the first row that holds is the answer.
pub(super) fn decide(
    rem: &Remediation,
    spec: &Instance,
    replicas: &[Instance],
    seen: &Sweep,
    now: Time,
    bounds: Bounds,
) -> Step {
    let names = &rem.names;
    let find = |name: &str| seen.snapshots.iter().find(|s| s.id == name);
    let (snapshot, copy) = (find(&names.snapshot), find(&names.copy));
    let drop_scratch = || {
        let drop = |found: Option<&Snapshot>, key: &str, name: &String| {
            drop_snapshot(
                rem,
                found,
                key,
                Act::DeleteSnapshot { snapshot: name.clone() },
                now,
                bounds,
            )
        };
        let step =
            drop(copy, "copy", &names.copy).or_else(|| drop(snapshot, "snapshot", &names.snapshot));
        unless_orphaned(rem, seen, step)
    };
    if rem.verified_at.is_some() {
        return drop_scratch().unwrap_or(Step::Finish);
    }
    if let Some(why) = &rem.giving_up {
        return drop_scratch().unwrap_or_else(|| Step::AskHuman(why.clone()));
    }
    if let Some(why) = source_changed(rem, seen) {
        return Step::AskHuman(why);
    }
    if let Some(twin) = seen.instance(&names.twin) {
        return mend_or_verify(rem, spec, twin, now, bounds).unwrap_or_else(|| {
            let rest = replica::rebuild(rem, spec, replicas, seen, now, bounds);
            rest.unwrap_or(Step::Mark(Mark::Verified))
        });
    }
    if let Some(copy) = copy {
        return after_copy(rem, copy, now, bounds);
    }
    if let Some(snapshot) = snapshot {
        let act = Act::CopySnapshot { from: names.snapshot.clone(), to: names.copy.clone() };
        return snapshot_ready(rem, "snapshot", snapshot, now)
            .or_else(|| still::stop(rem, seen, now, bounds))
            .unwrap_or_else(|| create(rem, act, now, bounds));
    }
    let status = seen.instance(&spec.id).map_or("", |s| s.status.as_str());
    if broken(status) || status == "stopped" || status == "deleting" {
        return Step::AskHuman(format!("{} is {status}: a snapshot needs it available", spec.id));
    }
    if status != "available" && !rem.intents.contains_key("snapshot") {
        return wait_for(rem, "snapshot", &spec.id, status, MODIFY_FOR_MAX, now);
    }
    // What was asked for is waited for first.
    if !rem.intents.contains_key("snapshot")
        && let Some(step) = quiet::before_snapshot(rem, seen, now, bounds)
    {
        return step;
    }
    create(rem, Act::CreateSnapshot { snapshot: names.snapshot.clone() }, now, bounds)
}

/// Why the source is no longer what was planned; `None` while it is.
pub(super) fn source_changed(rem: &Remediation, seen: &Sweep) -> Option<String> {
    let Resource::Instance { instance: spec, replicas } = &rem.source else {
        return Some("its plan is for another kind of database".into());
    };
    let id = &spec.id;
    let Some(source) = seen.instance(id) else {
        return Some(format!("the original {id} is gone"));
    };
    if source.resource_id != spec.resource_id {
        return Some(format!(
            "{id} is now another database ({}, planned was {})",
            source.resource_id, spec.resource_id
        ));
    }
    if source.encryption == Encryption::SseKms {
        return Some(format!("{id} is encrypted already"));
    }
    let mut source = source.clone();
    // Isolated by us: it has its own groups again after a cutover or a way back.
    if rem.swap.as_ref().is_some_and(|s| source.settings.vpc_security_group_ids == s.only()) {
        source.settings.vpc_security_group_ids.clone_from(&spec.settings.vpc_security_group_ids);
    }
    let print = |instance: &Instance, replicas: Vec<Instance>| {
        Resource::Instance { instance: instance.clone(), replicas }.fingerprint()
    };
    if print(&source, seen.tree(id)) != print(spec, replicas.clone()) {
        let what = fidelity::describe(&fidelity::instance(spec, &source));
        let what = if what.is_empty() { "its replicas".to_owned() } else { what };
        return Some(format!("{id} changed since it was planned: {what}. Scan and plan again"));
    }
    None
}

fn after_copy(rem: &Remediation, copy: &Snapshot, now: Time, bounds: Bounds) -> Step {
    if let Some(step) = snapshot_ready(rem, "copy", copy, now) {
        return step;
    }
    let (what, key) = (("the copy", copy.id.as_str()), copy.kms_key.as_deref());
    if let Some(why) = rem.other_key(what, &copy.encryption, key) {
        return Step::AskHuman(why);
    }
    let (snapshot, instance) = (rem.names.copy.clone(), rem.names.twin.clone());
    create(rem, Act::RestoreInstance { snapshot, instance }, now, bounds)
}

/// The twin's own rows; `None` when it is available, encrypted and equal.
fn mend_or_verify(
    rem: &Remediation,
    spec: &Instance,
    twin: &Instance,
    now: Time,
    bounds: Bounds,
) -> Option<Step> {
    let id = &twin.id;
    if twin.made_by.as_deref() != Some(rem.id.as_str()) {
        return Some(Step::AskHuman(format!("{id} exists and was not made by {}", rem.id)));
    }
    let modify = format!("modify {id}");
    if broken(&twin.status) {
        return Some(Step::AskHuman(format!("the twin {id} is {}", twin.status)));
    }
    if twin.status != "available" {
        let (key, max) = match rem.intents.contains_key(&modify) {
            true => (modify.as_str(), MODIFY_FOR_MAX),
            false => ("twin", CREATE_FOR_MAX),
        };
        return Some(wait_for(rem, key, id, &twin.status, max, now));
    }
    let (what, key) = (("the twin", id.as_str()), twin.kms_key.as_deref());
    if let Some(why) = rem.other_key(what, &twin.encryption, key) {
        return Some(Step::AskHuman(format!("{why}; it is left for you to look at")));
    }
    let unsettled: Vec<&str> =
        twin.pending.iter().chain(&twin.out_of_sync).map(String::as_str).collect();
    if !unsettled.is_empty() {
        let what = format!("{id}: {}", unsettled.join(", "));
        return Some(wait_for(rem, &modify, &what, "being applied", MODIFY_FOR_MAX, now));
    }
    mend("the twin", rem, (spec, twin), fidelity::instance(spec, twin), now, bounds)
}

#[cfg(test)]
mod tests {
    use super::super::sample::{self, Change};
    use super::*;
    use crate::time::Span;

    /// Runs the table on a world and compares the step.
    fn check(world: &[Change], want: &str) {
        let (rem, seen, now) = sample::instance_world(world);
        let step = super::super::decide(&rem, &seen, now, sample::BOUNDS);
        let said = sample::show(&step);
        assert!(said.starts_with(want), "{world:?}\n  want {want}\n  have {said}");
    }

    #[test]
    fn decide_table() {
        use Change::*;
        check(&[], "act create snapshot ringfence-rem-1-plain");
        check(&[SourceStatus("backing-up")], "wait orders is backing-up");
        check(&[SourceStatus("storage-full")], "ask orders is storage-full");
        check(&[SourceStatus("stopped")], "ask orders is stopped");
        check(&[SourceGone], "ask the original orders is gone");
        check(&[SourceReplaced], "ask orders is now another database");
        check(&[SourceChanged], "ask orders changed since it was planned: backup_retention_period");
        check(&[SourceEncrypted], "ask orders is encrypted already");
        check(&[Intended("snapshot", 1, 0)], "wait asked AWS to create snapshot");
        check(&[Intended("snapshot", 1, 99)], "act create snapshot");
        check(&[Intended("snapshot", 3, 99)], "ask tried 3 times");
        check(
            &[Intended("snapshot", 1, 99), Made("snapshot")],
            "mark giving up: AWS had confirmed",
        );
        check(&[Snapshot("creating")], "wait snapshot ringfence-rem-1-plain is creating");
        check(&[Snapshot("failed")], "mark giving up: snapshot ringfence-rem-1-plain is failed");
        check(
            &[Snapshot("creating"), Later(Span::hours(25))],
            "mark giving up: snapshot ringfence-rem-1-plain is still",
        );
        check(&[Snapshot("available")], "act copy ringfence-rem-1-plain");
        check(
            &[Snapshot("available"), SnapshotForeign],
            "mark giving up: snapshot ringfence-rem-1-plain exists",
        );
        check(&[Snapshot("available"), Copy("creating")], "wait snapshot ringfence-rem-1-enc");
        check(&[Snapshot("available"), Copy("available")], "act restore encrypted-orders");
        check(&[Copy("available")], "act restore encrypted-orders");
        check(
            &[Copy("available"), CopyPlain],
            "mark giving up: the copy ringfence-rem-1-enc is not encrypted under",
        );
        check(
            &[Copy("available"), CopyOtherKey],
            "mark giving up: the copy ringfence-rem-1-enc is not encrypted under",
        );
        check(&[Copy("available"), Twin("creating")], "wait encrypted-orders is creating");
        check(
            &[Twin("incompatible-network")],
            "ask the twin encrypted-orders is incompatible-network",
        );
        check(&[Twin("available"), TwinForeign], "ask encrypted-orders exists");
        check(
            &[Twin("available"), TwinPlain],
            "ask the twin encrypted-orders is not encrypted under",
        );
        check(&[Twin("available"), TwinPending], "wait encrypted-orders: MultiAZ is being applied");
        check(
            &[Twin("available"), TwinDiffers("monitoring_interval")],
            "act set monitoring_interval of",
        );
        check(
            &[Twin("available"), TwinDiffers("port")],
            "ask the twin encrypted-orders differs: port",
        );
        check(
            &[Twin("available"), TwinDiffers("no role"), TwinUnprotected],
            "act give encrypted-orders the role arn:role for s3Import",
        );
        check(
            &[Twin("available"), TwinDiffers("another role")],
            "ask the twin encrypted-orders differs: associated_roles",
        );
        check(&[Twin("available"), TwinUnprotected], "act set deletion_protection of");
        check(
            &[Twin("available"), TwinUnprotected, TwinDiffers("monitoring_interval")],
            "act set monitoring_interval of",
        );
        check(&[Twin("available")], "mark verified");
        check(&[Twin("available"), SourceChanged], "ask orders changed");
        check(&[Twin("available"), Later(Span::hours(24 * 8))], "ask not finished 7d");
    }

    #[test]
    fn giving_up_takes_down_scratch_and_nothing_else() {
        use Change::*;
        check(
            &[Snapshot("available"), Copy("available"), GivingUp],
            "act delete scratch snapshot ringfence-rem-1-enc",
        );
        check(
            &[Snapshot("available"), GivingUp],
            "act delete scratch snapshot ringfence-rem-1-plain",
        );
        check(
            &[Snapshot("available"), SnapshotForeign, GivingUp],
            "ask snapshot ringfence-rem-1-plain bears",
        );
        check(&[Twin("available"), GivingUp], "ask why");
        // A copy whose answer was lost may still appear: taking down waits for it.
        check(
            &[Snapshot("available"), Intended("copy", 1, 1), GivingUp],
            "wait what was asked for last",
        );
        check(
            &[Snapshot("available"), Intended("copy", 1, 99), GivingUp],
            "act delete scratch snapshot ringfence-rem-1-plain",
        );
        check(&[GivingUp], "ask why");
        // Of a database that is gone the snapshots may be all there is.
        let gone = "ask the original orders is gone, so what was made of it may be the last copy";
        check(&[SourceGone, Snapshot("available")], gone);
        check(&[SourceGone, Snapshot("available"), GivingUp], gone);
        check(&[SourceReplaced, Copy("available"), GivingUp], gone);
        check(&[SourceStatus("deleting"), Snapshot("available"), GivingUp], gone);
        check(&[SourceGone, Snapshot("available"), Verified], gone);
    }

    #[test]
    fn after_verification_only_scratch_is_touched() {
        use Change::*;
        let verified = [Twin("available"), Verified];
        let with = |more: &[Change]| [&verified[..], more].concat();
        check(&with(&[]), "finish");
        check(
            &with(&[Snapshot("available"), Copy("available")]),
            "act delete scratch snapshot ringfence-rem-1-enc",
        );
        check(&with(&[Snapshot("available")]), "act delete scratch snapshot ringfence-rem-1-plain");
        check(&with(&[Snapshot("deleting")]), "wait snapshot ringfence-rem-1-plain is deleting");
        check(
            &with(&[Snapshot("available"), SnapshotForeign]),
            "ask snapshot ringfence-rem-1-plain bears",
        );
        // The source may change or go: the work is done and must not be redone.
        check(&with(&[SourceGone]), "finish");
        check(
            &with(&[SourceGone, Snapshot("available")]),
            "act delete scratch snapshot ringfence-rem-1-plain",
        );
        check(&with(&[Later(Span::hours(24 * 30))]), "finish");
        let late = [Snapshot("available"), Later(Span::hours(24 * 30))];
        check(&with(&late), "ask cleaning up did not end 14d");
    }

    #[test]
    fn nothing_is_deleted_without_our_tag_and_our_recorded_arn() {
        // Every combination of a snapshot's tag and of what was recorded: only one may be deleted.
        use Change::*;
        for (world, deletes) in [
            (vec![Verified, Snapshot("available")], true),
            (vec![Verified, Snapshot("available"), SnapshotForeign], false),
            (vec![Verified, Snapshot("available"), NotRecorded("snapshot")], false),
            (vec![Verified, Snapshot("available"), OtherArn("snapshot")], false),
        ] {
            let (rem, seen, now) = sample::instance_world(&world);
            let step = super::super::decide(&rem, &seen, now, sample::BOUNDS);
            assert_eq!(matches!(step, Step::Act(Act::DeleteSnapshot { .. })), deletes, "{world:?}");
        }
    }
}
