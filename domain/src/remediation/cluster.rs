//! An Aurora cluster: snapshot, restore under the key, prove that it is encrypted, then the members,
//! writer first; verify; clean up.
//!
//! Restoring with `KmsKeyId` is the step that encrypts: copying an unencrypted Aurora snapshot with
//! a key is an error (API reference, CopyDBClusterSnapshot).

use super::unit::writer_first;
use super::{
    Act, Bounds, CREATE_FOR_MAX, MODIFY_FOR_MAX, Mark, Remediation, Step, broken, create,
    drop_snapshot, endpoint, fidelity, mend, mend_cluster, quiet, repeat, snapshot_ready, still,
    twin_name, unless_orphaned, wait_for,
};
use crate::finding::Resource;
use crate::rds::{Cluster, Encryption, Instance, Sweep};
use crate::time::Time;

/// The table for a cluster; the first row that holds is the answer.
pub(super) fn decide(
    rem: &Remediation,
    spec: &Cluster,
    members: &[Instance],
    seen: &Sweep,
    now: Time,
    bounds: Bounds,
) -> Step {
    let names = &rem.names;
    let snapshot = seen.cluster_snapshots.iter().find(|s| s.id == names.snapshot);
    let twin = seen.cluster(&names.twin);
    let drop_scratch = || {
        let act = Act::DeleteClusterSnapshot { snapshot: names.snapshot.clone() };
        let step = drop_snapshot(rem, snapshot, "snapshot", act, now, bounds);
        unless_orphaned(rem, seen, step)
    };
    if rem.verified_at.is_some() {
        return drop_scratch().unwrap_or(Step::Finish);
    }
    if let Some(why) = &rem.giving_up {
        // By a person's word no database is deleted, though nobody can have connected to it.
        let down = if rem.cancelled { None } else { take_down(rem, twin, now, bounds) };
        let end = match unless_orphaned(rem, seen, down) {
            None => Step::AskHuman(why.clone()),
            Some(ask @ Step::AskHuman(_)) => ask,
            Some(step) => return step,
        };
        return drop_scratch().unwrap_or(end);
    }
    if let Some(why) = source_changed(rem, seen) {
        return Step::AskHuman(why);
    }
    if let Some(twin) = twin {
        return after_restore(rem, spec, members, twin, seen, now, bounds);
    }
    if let Some(snapshot) = snapshot {
        let (from, cluster) = (names.snapshot.clone(), names.twin.clone());
        let act = Act::RestoreCluster { snapshot: from, cluster };
        return snapshot_ready(rem, "snapshot", snapshot, now)
            .or_else(|| still::stop(rem, seen, now, bounds))
            .unwrap_or_else(|| create(rem, act, now, bounds));
    }
    let status = seen.cluster(&spec.id).map_or("", |s| s.status.as_str());
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
    create(rem, Act::CreateClusterSnapshot { snapshot: names.snapshot.clone() }, now, bounds)
}

/// Why the source is no longer what was planned; `None` while it is.
pub(super) fn source_changed(rem: &Remediation, seen: &Sweep) -> Option<String> {
    let Resource::Cluster { cluster: spec, members } = &rem.source else {
        return Some("its plan is for another kind of database".into());
    };
    let id = &spec.id;
    let Some(source) = seen.cluster(id) else {
        return Some(format!("the original cluster {id} is gone"));
    };
    if source.resource_id != spec.resource_id {
        return Some(format!(
            "{id} is now another cluster ({}, planned was {})",
            source.resource_id, spec.resource_id
        ));
    }
    if source.encryption == Encryption::SseKms {
        return Some(format!("{id} is encrypted already"));
    }
    let mut source = source.clone();
    let mut now: Vec<Instance> =
        source.members.iter().filter_map(|m| seen.instance(&m.id)).cloned().collect();
    // Isolated by us: it has its own groups again after a cutover or a way back.
    if let Some(swap) = &rem.swap
        && source.settings.vpc_security_group_ids == swap.only()
    {
        source.settings.vpc_security_group_ids.clone_from(&spec.settings.vpc_security_group_ids);
        for one in &mut now {
            if let Some(planned) = members.iter().find(|m| m.id == one.id) {
                let groups = &planned.settings.vpc_security_group_ids;
                one.settings.vpc_security_group_ids.clone_from(groups);
            }
        }
    }
    let print = |cluster: &Cluster, members: &[Instance]| {
        Resource::Cluster { cluster: cluster.clone(), members: members.to_vec() }.fingerprint()
    };
    if print(&source, &now) != print(spec, members) {
        let what = fidelity::describe(&fidelity::cluster(spec, &source));
        let what = if what.is_empty() { "its members or its endpoints".to_owned() } else { what };
        return Some(format!("{id} changed since it was planned: {what}. Scan and plan again"));
    }
    None
}

fn after_restore(
    rem: &Remediation,
    spec: &Cluster,
    members: &[Instance],
    twin: &Cluster,
    seen: &Sweep,
    now: Time,
    bounds: Bounds,
) -> Step {
    let id = &twin.id;
    if twin.made_by.as_deref() != Some(rem.id.as_str()) {
        return Step::AskHuman(format!("cluster {id} exists and was not made by {}", rem.id));
    }
    if broken(&twin.status) {
        return Step::AskHuman(format!("the twin cluster {id} is {}", twin.status));
    }
    if twin.status != "available" {
        return wait_for(rem, "twin", &format!("cluster {id}"), &twin.status, CREATE_FOR_MAX, now);
    }
    let (what, key) = (("the restored cluster", id.as_str()), twin.kms_key.as_deref());
    if let Some(why) = rem.other_key(what, &twin.encryption, key) {
        return Step::Mark(Mark::GivingUp { why: format!("{why}: no member was made") });
    }
    for source in writer_first(spec, members) {
        let name = twin_name(&source.id, &source.resource_id);
        let Some(member) = seen.instance(&name) else {
            let (source, cluster) = (source.id.clone(), id.clone());
            return create(rem, Act::CreateMember { source, instance: name, cluster }, now, bounds);
        };
        if let Some(step) = check_member(rem, id, member, source, now, bounds) {
            return step;
        }
    }
    if !twin.pending.is_empty() {
        let what = format!("cluster {id}: {}", twin.pending.join(", "));
        return wait_for(rem, &format!("modify {id}"), &what, "being applied", MODIFY_FOR_MAX, now);
    }
    let writer = |c: &Cluster| c.members.iter().find(|m| m.writer).map(|m| m.id.clone());
    let want = writer(spec)
        .and_then(|w| members.iter().find(|m| m.id == w))
        .map(|m| twin_name(&m.id, &m.resource_id));
    if writer(twin) != want {
        let show = |w: Option<String>| w.unwrap_or_else(|| "nobody".into());
        return Step::AskHuman(format!(
            "the writer of {id} is {}, and should be {}",
            show(writer(twin)),
            show(want)
        ));
    }
    if let Some(step) = mend_cluster(rem, (spec, twin), now, bounds) {
        return step;
    }
    // In a swap they keep their names, and move when the cluster does.
    let wanted = if rem.swap.is_some() { vec![] } else { endpoint::beside(spec, members) };
    let step = endpoint::put(rem, &wanted, None, twin, now, bounds);
    step.unwrap_or(Step::Mark(Mark::Verified))
}

/// One member's rows: `None` when it is available and equal.
fn check_member(
    rem: &Remediation,
    cluster: &str,
    member: &Instance,
    source: &Instance,
    now: Time,
    bounds: Bounds,
) -> Option<Step> {
    let id = &member.id;
    if member.made_by.as_deref() != Some(rem.id.as_str())
        || member.cluster.as_deref() != Some(cluster)
    {
        return Some(Step::AskHuman(format!("{id} exists and was not made by {}", rem.id)));
    }
    if broken(&member.status) {
        return Some(Step::AskHuman(format!("the member {id} is {}", member.status)));
    }
    if member.status != "available" || !member.pending.is_empty() {
        let key = format!("member {id}");
        return Some(wait_for(rem, &key, id, &member.status, CREATE_FOR_MAX, now));
    }
    mend("the member", rem, (source, member), fidelity::member(source, member), now, bounds)
}

/// Deletes the twin cluster that turned out wrong: ours, recorded, and without a single member, so
/// that nobody can ever have connected to it. `None` when it is gone.
fn take_down(rem: &Remediation, twin: Option<&Cluster>, now: Time, bounds: Bounds) -> Option<Step> {
    let twin = twin?;
    let id = &twin.id;
    // An ARN is the name again; the resource id tells whether it is the cluster that we made.
    let made = rem.intents.get("twin").and_then(|i| i.resource_id.as_ref());
    let same = made == Some(&twin.resource_id);
    let ours = rem.made("twin", &twin.arn, twin.made_by.as_deref()) && same;
    if !ours || !twin.members.is_empty() {
        let why = rem.giving_up.as_deref().unwrap_or_default();
        return Some(Step::AskHuman(format!(
            "{why}; cluster {id} is left alone: it has members, or no record that {} made it",
            rem.id
        )));
    }
    let act = Act::DeleteCluster { cluster: id.clone() };
    if twin.status == "deleting" {
        return Some(wait_for(
            rem,
            &act.key(),
            &format!("cluster {id}"),
            "deleting",
            MODIFY_FOR_MAX,
            now,
        ));
    }
    Some(repeat(rem, act, now, bounds))
}

#[cfg(test)]
mod tests {
    use super::super::sample::{self, Change};

    fn check(world: &[Change], want: &str) {
        let (rem, seen, now) = sample::cluster_world(world);
        let step = super::super::decide(&rem, &seen, now, sample::BOUNDS);
        let said = sample::show(&step);
        assert!(said.starts_with(want), "{world:?}\n  want {want}\n  have {said}");
    }

    #[test]
    fn decide_table() {
        use Change::*;
        check(&[], "act create snapshot ringfence-rem-1-plain");
        check(&[SourceGone], "ask the original cluster ledger is gone");
        check(&[SourceReplaced], "ask ledger is now another cluster");
        check(&[SourceChanged], "ask ledger changed since it was planned: backup_retention_period");
        check(&[SourceStatus("stopped")], "ask ledger is stopped");
        check(&[Snapshot("creating")], "wait snapshot ringfence-rem-1-plain is creating");
        check(
            &[Snapshot("available"), SnapshotForeign],
            "mark giving up: snapshot ringfence-rem-1-plain exists",
        );
        check(&[Snapshot("available")], "act restore cluster encrypted-ledger");
        check(
            &[Snapshot("available"), Twin("creating")],
            "wait cluster encrypted-ledger is creating",
        );
        check(&[Twin("available"), TwinForeign], "ask cluster encrypted-ledger exists");
        // The good case: encrypted under the key, then the writer, then the readers, then equal.
        check(&[Twin("available")], "act create member encrypted-m2");
        check(&[Twin("available"), Member("m2", "creating")], "wait encrypted-m2 is creating");
        check(&[Twin("available"), Member("m2", "available")], "act create member encrypted-m1");
        let whole = [Twin("available"), Member("m2", "available"), Member("m1", "available")];
        let with = |more: &[Change]| [&whole[..], more].concat();
        check(&with(&[]), "mark verified");
        check(&with(&[TwinUnprotected]), "act set deletion_protection of cluster encrypted-ledger");
        check(&with(&[TwinDiffers("port")]), "ask the twin cluster encrypted-ledger differs: port");
        check(&with(&[MemberDiffers("m1")]), "ask the member encrypted-m1 differs: promotion_tier");
        check(&with(&[WriterIs("m1")]), "ask the writer of encrypted-ledger is encrypted-m1");
        check(&with(&[Verified, Snapshot("available")]), "act delete scratch snapshot");
        check(&with(&[Verified]), "finish");
    }

    #[test]
    fn an_unencrypted_restore_is_caught_before_any_member_and_taken_down() {
        use Change::*;
        check(
            &[Snapshot("available"), Twin("available"), TwinPlain],
            "mark giving up: the restored cluster encrypted-ledger is not encrypted under",
        );
        check(&[Snapshot("available"), Twin("available"), TwinOtherKey], "mark giving up");
        let given_up = [Snapshot("available"), Twin("available"), TwinPlain, GivingUp];
        let with = |more: &[Change]| [&given_up[..], more].concat();
        check(&with(&[]), "act delete unusable twin cluster encrypted-ledger");
        // Where the twin is left alone, the scratch goes all the same.
        let scratch = "act delete scratch snapshot ringfence-rem-1-plain";
        check(&with(&[Member("m2", "available")]), scratch);
        let with = |more: &[Change]| [&given_up[1..], more].concat();
        check(
            &with(&[Member("m2", "available")]),
            "ask why; cluster encrypted-ledger is left alone",
        );
        let later = Later(crate::time::Span::hours(1));
        check(
            &with(&[NotRecorded("twin"), later]),
            "ask why; cluster encrypted-ledger is left alone",
        );
        check(&with(&[TwinForeign]), "ask why; cluster encrypted-ledger is left alone");
        check(&with(&[TwinReplaced]), "ask why; cluster encrypted-ledger is left alone");
        check(
            &[Snapshot("available"), GivingUp],
            "act delete scratch snapshot ringfence-rem-1-plain",
        );
        check(&[GivingUp], "ask why");
    }

    #[test]
    fn a_cancel_deletes_snapshots_and_no_cluster() {
        use Change::*;
        // Alone, ours and recorded: giving up would delete it.
        let steps =
            [&[Snapshot("available"), Twin("available")][..], &[Twin("available")]].map(|w| {
                let (mut rem, seen, now) =
                    sample::cluster_world(&[w, &[TwinPlain, GivingUp]].concat());
                rem.cancelled = true;
                sample::show(&super::super::decide(&rem, &seen, now, sample::BOUNDS))
            });
        assert_eq!(steps, ["act delete scratch snapshot ringfence-rem-1-plain", "ask why"]);
    }
}
