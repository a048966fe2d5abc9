//! An old snapshot of an instance: copied encrypted, compared, and deleted only on an approval of its own.
//!
//! Copying with a key encrypts a snapshot of an instance; one of a cluster it does not (API reference,
//! CopyDBClusterSnapshot): plans block those.

use super::{
    Act, Bounds, MODIFY_FOR_MAX, Mark, Remediation, Step, create, drop_snapshot, repeat,
    snapshot_ready, unless_orphaned, wait_for,
};
use crate::finding::Kind;
use crate::hash;
use crate::rds::{Encryption, Snapshot, Sweep};
use crate::time::Time;
use std::collections::BTreeMap;

/// RDS's bound on the names of instance snapshots (API reference, CreateDBSnapshot).
const NAME_MAX: usize = 255;

/// The name of the encrypted copy: `encrypted-<name>`, cut like that of a twin where it is too long. The part
/// before the colon of a name that AWS gave is no name that people may give.
pub(super) fn copy_name(name: &str, resource_id: &str) -> String {
    let whole = format!("encrypted-{}", name.rsplit(':').next().unwrap_or(name));
    if whole.len() <= NAME_MAX {
        return whole;
    }
    let cut: String = whole.chars().take(NAME_MAX - 9).collect();
    format!("{}-{}", cut.trim_end_matches('-'), hash::short(resource_id, 8))
}

/// The table for a snapshot; the first row that holds is the answer.
pub(super) fn decide(
    rem: &Remediation,
    spec: &Snapshot,
    seen: &Sweep,
    now: Time,
    bounds: Bounds,
) -> Step {
    let name = &rem.names.twin;
    let copy = find(seen, name);
    if rem.verified_at.is_some() {
        return Step::Finish;
    }
    if let Some(why) = &rem.giving_up {
        let act = Act::DeleteSnapshot { snapshot: name.clone() };
        let step = drop_snapshot(rem, copy, "copy", act, now, bounds);
        return unless_orphaned(rem, seen, step).unwrap_or_else(|| Step::AskHuman(why.clone()));
    }
    let Some(source) = find(seen, &spec.id) else {
        return Step::AskHuman(format!("the snapshot {} is gone", spec.id));
    };
    if let Some(why) = changed(spec, source) {
        return Step::AskHuman(why);
    }
    match copy {
        Some(copy) => not_proven(rem, source, copy, now).unwrap_or(Step::Mark(Mark::Verified)),
        None => {
            let act = Act::CopySnapshot { from: spec.id.clone(), to: name.clone() };
            create(rem, act, now, bounds)
        }
    }
}

/// The table of its end, once people agreed; the first row that holds is the answer.
pub(super) fn decommission(
    rem: &Remediation,
    spec: &Snapshot,
    seen: &Sweep,
    now: Time,
    bounds: Bounds,
) -> Step {
    let name = &rem.names.twin;
    // Never the last copy: read again each time.
    let Some(copy) = find(seen, name) else {
        return Step::AskHuman(format!(
            "the copy {name} is gone: nothing is deleted; scan with --snapshots and plan {} again",
            spec.id
        ));
    };
    if !rem.made("copy", &copy.arn, copy.made_by.as_deref()) {
        return Step::AskHuman(format!(
            "{name} is not the copy that {} made, or has lost its tag: nothing is deleted",
            rem.id
        ));
    }
    let act = Act::Retire {
        kind: Kind::Snapshot,
        database: spec.id.clone(),
        resource_id: spec.resource_id.clone(),
    };
    let asked = rem.intents.contains_key(&act.key());
    let Some(old) = find(seen, &spec.id).filter(|s| s.resource_id == spec.resource_id) else {
        return match asked {
            true => Step::Finish,
            false => Step::AskHuman(format!(
                "the snapshot {} ({}) is gone, and it was not deleted by {}",
                spec.id, spec.resource_id, rem.id
            )),
        };
    };
    if old.status == "deleting" {
        return wait_for(rem, &act.key(), &old.id, "being deleted", MODIFY_FOR_MAX, now);
    }
    // A tag that somebody put on it since says what is wanted of it.
    if let Some(why) = changed(spec, old) {
        return Step::AskHuman(format!("{why}: nothing is deleted"));
    }
    not_proven(rem, old, copy, now).unwrap_or_else(|| repeat(rem, act, now, bounds))
}

fn find<'a>(seen: &'a Sweep, name: &str) -> Option<&'a Snapshot> {
    seen.snapshots.iter().find(|s| s.id == name)
}

/// Why the snapshot is no longer what was planned; `None` while it is.
fn changed(spec: &Snapshot, source: &Snapshot) -> Option<String> {
    let id = &spec.id;
    if source.resource_id != spec.resource_id {
        return Some(format!(
            "{id} is now another snapshot ({}, planned was {})",
            source.resource_id, spec.resource_id
        ));
    }
    if source.encryption == Encryption::SseKms {
        return Some(format!("{id} is encrypted already"));
    }
    if source.status != "available" {
        return Some(format!("{id} is {}: a copy needs it available", source.status));
    }
    let mut what = lacks(&spec.settings, &source.settings, "");
    if spec.tags != source.tags {
        what.extend(lacks(&spec.tags, &source.tags, "tag "));
        let new = source.tags.iter().filter(|(k, _)| !spec.tags.contains_key(*k));
        what.extend(new.map(|(k, v)| format!("tag {k} is {v}, and was not there")));
    }
    (!what.is_empty()).then(|| {
        format!("{id} changed since it was planned: {}. Scan and plan again", what.join("; "))
    })
}

/// What a copy is still short of; `None` when it is available, ours, under the key, and has what its original has.
fn not_proven(rem: &Remediation, original: &Snapshot, copy: &Snapshot, now: Time) -> Option<Step> {
    if let Some(step) = snapshot_ready(rem, "copy", copy, now) {
        return Some(step);
    }
    let (it, key) = (("the copy", copy.id.as_str()), copy.kms_key.as_deref());
    if let Some(why) = rem.other_key(it, &copy.encryption, key) {
        return Some(Step::AskHuman(why));
    }
    let mut what = lacks(&original.settings, &copy.settings, "");
    what.extend(lacks(&original.tags, &copy.tags, "tag "));
    (!what.is_empty()).then(|| {
        let what = what.join("; ");
        Step::AskHuman(format!("the copy {} differs from {}: {what}", copy.id, original.id))
    })
}

/// What `want` has and `have` has not, in words. What AWS did not say of the original yet (it may be older than
/// the member), or says as nothing, is no difference; nor is a tag that somebody's tool put on a copy.
fn lacks(
    want: &BTreeMap<String, String>,
    have: &BTreeMap<String, String>,
    what: &str,
) -> Vec<String> {
    let nothing = |v: &str| ["", "0", "false"].contains(&v);
    let same = |k: &String, v: &String| match have.get(k) {
        Some(other) => other == v,
        None => what.is_empty() && nothing(v),
    };
    let gone = want.iter().filter(|(k, v)| !same(k, v));
    let show = |k: &String| have.get(k).map_or("none", String::as_str).to_owned();
    gone.map(|(k, v)| format!("{what}{k} is {}, not {v}", show(k))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::super::{Goal, decide as any, sample::BOUNDS};
    use super::*;
    use crate::time::Span;

    const COPY: &str = "encrypted-monthly";

    /// A world with the old snapshot and, if `copy` says so, its copy.
    fn world(copy: Option<&str>) -> (Remediation, Sweep, Time) {
        let (mut rem, mut seen, now) = sample::snapshot_world();
        if let Some(status) = copy {
            rem.intend(Act::CopySnapshot { from: "monthly".into(), to: COPY.into() }, now);
            let old = seen.snapshots[0].clone();
            seen.snapshots.push(Snapshot {
                id: COPY.into(),
                arn: format!("arn:snapshot:{COPY}"),
                status: status.into(),
                encryption: Encryption::SseKms,
                kms_key: Some(rem.key_arn.clone()),
                made_by: Some(rem.id.clone()),
                resource_id: "db-ORDERS@later".into(),
                ..old
            });
            rem.adopt(&seen);
        }
        (rem, seen, now)
    }

    fn check(copy: Option<&str>, change: impl FnOnce(&mut Remediation, &mut Sweep), want: &str) {
        let (mut rem, mut seen, now) = world(copy);
        change(&mut rem, &mut seen);
        let said = sample::show(&any(&rem, &seen, now, BOUNDS));
        assert!(said.starts_with(want), "{copy:?}\n  want {want}\n  have {said}");
    }

    #[test]
    fn decide_table() {
        let none = |_: &mut Remediation, _: &mut Sweep| {};
        let there = Some("available");
        check(None, none, "act copy monthly, encrypted, to encrypted-monthly");
        check(None, |_, s| s.snapshots.clear(), "ask the snapshot monthly is gone");
        check(
            None,
            |_, s| s.snapshots[0].resource_id = "db-ORDERS@other".into(),
            "ask monthly is now another snapshot",
        );
        check(
            None,
            |_, s| s.snapshots[0].encryption = Encryption::SseKms,
            "ask monthly is encrypted",
        );
        check(None, |_, s| s.snapshots[0].status = "failed".into(), "ask monthly is failed");
        check(
            None,
            |_, s| drop(s.snapshots[0].tags.insert("keep".into(), "7y".into())),
            "ask monthly changed since it was planned: tag keep is 7y, and was not there",
        );
        check(Some("creating"), none, "wait snapshot encrypted-monthly is creating");
        check(there, none, "mark verified");
        check(
            there,
            |_, s| s.snapshots[1].made_by = None,
            "mark giving up: snapshot encrypted-monthly exists",
        );
        check(
            there,
            |_, s| s.snapshots[1].kms_key = Some("other".into()),
            "mark giving up: the copy encrypted-monthly is not encrypted under",
        );
        check(
            there,
            |_, s| drop(s.snapshots[1].settings.insert("Port".into(), "1".into())),
            "mark giving up: the copy encrypted-monthly differs from monthly: Port is 1, not 5432",
        );
        // What somebody's tool put on the copy, and what AWS says of it beside, is no difference.
        check(
            there,
            |_, s| {
                s.snapshots[1].tags.insert("auto".into(), "x".into());
                s.snapshots[1].settings.insert("MultiTenant".into(), "false".into());
                s.snapshots[0].settings.insert("DedicatedLogVolume".into(), "false".into());
            },
            "mark verified",
        );
        let give_up = |rem: &mut Remediation, _: &mut Sweep| rem.giving_up = Some("why".into());
        check(None, give_up, "ask why");
        check(there, give_up, "act delete the unfinished copy encrypted-monthly");
        // Of a snapshot that is gone the copy may be all there is.
        check(
            there,
            |rem, s| {
                rem.giving_up = Some("why".into());
                s.snapshots.remove(0);
            },
            "ask the original monthly is gone, so what was made of it may be the last copy",
        );
        check(there, |rem, _| rem.verified_at = Some(Time(1)), "finish");
        check(None, |rem, _| rem.verified_at = Some(Time(1)), "finish");
    }

    #[test]
    fn it_is_deleted_on_an_order_and_never_without_its_copy() {
        let order = |rem: &mut Remediation| {
            rem.verified_at = Some(Time(1));
            rem.goal = Goal::Decommission;
        };
        let there = Some("available");
        check(there, |rem, _| order(rem), "act delete monthly");
        check(
            there,
            |rem, s| {
                order(rem);
                s.snapshots.truncate(1);
            },
            "ask the copy encrypted-monthly is gone: nothing is deleted",
        );
        for change in [(|s: &mut Snapshot| s.made_by = None) as fn(&mut Snapshot), |s| {
            s.arn = "arn:other".into()
        }] {
            check(
                there,
                |rem, s| {
                    order(rem);
                    change(&mut s.snapshots[1]);
                },
                "ask encrypted-monthly is not the copy that rem-1 made",
            );
        }
        check(
            there,
            |rem, s| {
                order(rem);
                s.snapshots[1].tags.clear();
            },
            "ask the copy encrypted-monthly differs",
        );
        check(
            there,
            |rem, s| {
                order(rem);
                s.snapshots[0].tags.insert("legal-hold".into(), "true".into());
            },
            "ask monthly changed since it was planned: tag legal-hold is true, and was not there",
        );
        check(
            there,
            |rem, s| {
                order(rem);
                s.snapshots[1].status = "deleting".into();
            },
            "wait snapshot encrypted-monthly is deleting",
        );
        check(
            there,
            |rem, s| {
                order(rem);
                s.snapshots[0].resource_id = "db-ORDERS@new".into();
            },
            "ask the snapshot monthly (db-ORDERS@old) is gone, and it was not deleted by",
        );
        check(
            there,
            |rem, s| {
                order(rem);
                let (database, resource_id) = ("monthly".into(), "db-ORDERS@old".into());
                rem.intend(Act::Retire { kind: Kind::Snapshot, database, resource_id }, Time(1));
                s.snapshots.remove(0);
            },
            "finish",
        );
    }

    #[test]
    fn an_order_waits_for_the_hold() {
        let (mut rem, seen, now) = world(Some("available"));
        assert!(rem.decommission(now, BOUNDS).is_some_and(|why| why.contains("it is running")));
        rem.mark(&Mark::Verified, now);
        rem.finish(now, BOUNDS);
        assert!(rem.decommission(now, BOUNDS).is_some_and(|why| why.contains("is held until")));
        let later = now.plus(BOUNDS.hold);
        assert_eq!(rem.clone().decommission(later, BOUNDS), None);
        let wanted = rem.retirement("ann", later, "r");
        assert_eq!(wanted.originals, [("monthly".to_owned(), "db-ORDERS@old".to_owned())]);
        assert_eq!(wanted.twins, [(COPY.to_owned(), format!("arn:snapshot:{COPY}"))]);
        rem.decommission(later, BOUNDS);
        assert_eq!(sample::show(&any(&rem, &seen, later, BOUNDS)), "act delete monthly");
        for refused in [rem.clone().cut_over(later), rem.clone().discard(later)] {
            assert!(refused.is_some(), "{refused:?}");
        }
        assert!(rem.decommission(later.plus(Span::hours(1)), BOUNDS).is_some(), "once");
    }

    #[test]
    fn a_verified_copy_is_no_scratch() {
        let (mut rem, _, now) = world(Some("available"));
        assert!(rem.only_scratch());
        rem.mark(&Mark::Verified, now);
        assert!(!rem.only_scratch(), "a refused deletion must not give up what is verified");
    }

    #[test]
    fn copies_have_names_that_aws_takes() {
        assert_eq!(copy_name("monthly", "x"), COPY);
        assert_eq!(copy_name("rds:orders-2026-01-01", "x"), "encrypted-orders-2026-01-01");
        let long = "a".repeat(255);
        let (a, b) = (copy_name(&long, "x"), copy_name(&long, "y"));
        assert!(a.len() == 255 && b.len() == 255 && a != b, "{a}");
    }
}
