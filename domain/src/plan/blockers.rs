//! Why a database cannot be encrypted by this version, and what people should know if it can: each text names
//! the database and what to do.

use super::checks::Checks;
use crate::far;
use crate::rds::{Cluster, Encryption, Instance, Snapshot};
use crate::remediation::broken;

/// Classes without encryption at rest (RDS guide, "Encrypting Amazon RDS resources").
fn old_class(what: &str, class: &str) -> Option<String> {
    let old = class.starts_with("db.m1.") || class.starts_with("db.m2.") || class == "db.t2.micro";
    old.then(|| {
        format!("{what}: class {class} has no encryption at rest; move it to a newer class first")
    })
}

/// An instance outside clusters, its replicas included.
pub(super) fn tree(main: &Instance, replicas: &[Instance], checks: &mut Checks) {
    let id = &main.id;
    checks.block("replicas", main.replica_source.as_ref().map(|source| match source.starts_with("arn:") {
        true => format!("{id} is a read replica of {source}, in another region: it is worked on with its source, under that one's item"),
        false => format!("{id} is a read replica of {source}: it is rebuilt with it"),
    }));
    managed(id, main.managed_by.as_deref(), checks);
    for one in std::iter::once(main).chain(replicas) {
        instance(one, checks);
        let known = |name: &&String| replicas.iter().any(|r| r.id == **name);
        let far = one.replicas.iter().filter(|name| !known(name));
        checks.block("replicas", far.map(|far| match far::region(far) {
            Some(region) => format!("{}: its replica {} is no open finding of {region} as of its last scan, if it had one: `ringfence scan start --account {} --region {region}`, and plan again", one.id, far::said(far), one.arn.split(':').nth(4).unwrap_or_default()),
            None => format!("{}: its replica {far} could not be read: scan, and plan again", one.id),
        }));
    }
}

/// An instance, alone or as a member.
fn instance(instance: &Instance, checks: &mut Checks) {
    let id = &instance.id;
    let custom = instance.engine.starts_with("custom-");
    checks.block(
        "engine",
        custom.then(|| format!("{id} is RDS Custom: its snapshots cannot be copied")),
    );
    checks.block("class", old_class(id, &instance.settings.db_instance_class));
    status(id, &instance.status, checks);
    settings(instance.foreign.iter(), checks);
    pending(&instance.pending, checks);
    checks.warn(
        "parameters",
        instance.out_of_sync.iter().map(|g| format!("{id}: {g}: the twin starts with the group's values; reboot {id} first to see whether it runs with them")),
    );
    secret(id, instance.settings.manage_master_user_password && instance.cluster.is_none(), checks);
}

/// A snapshot needs `available` (API reference, CreateDBSnapshot); what heals by itself is waited for.
fn status(id: &str, status: &str, checks: &mut Checks) {
    let bad = broken(status) || status == "stopped" || status == "deleting";
    checks.block(
        "status",
        bad.then(|| match status {
            "storage-full" => format!(
                "{id} is storage-full: a snapshot needs it available; give it more storage first"
            ),
            "stopped" => format!("{id} is stopped: a snapshot needs it available; start it first"),
            status => format!("{id} is {status}: a snapshot needs it available"),
        }),
    );
}

fn settings<'a>(foreign: impl Iterator<Item = (&'a String, &'a String)>, checks: &mut Checks) {
    checks.block("settings", foreign.map(|(k, v)| format!("{k} = {v} cannot be carried over")));
}

fn pending(pending: &[String], checks: &mut Checks) {
    let text = |p: &String| format!("a change of {p} is pending: apply or cancel it");
    checks.block("pending changes", pending.iter().map(text));
}

/// Tags of one resource at most (RDS guide, "Tagging").
const TAGS_MAX: usize = 50;

/// An old snapshot.
pub(super) fn snapshot(
    snapshot: &Snapshot,
    of_cluster: bool,
    shared: &Result<Vec<String>, String>,
    checks: &mut Checks,
) {
    let id = &snapshot.id;
    // "If you copy an unencrypted DB cluster snapshot and specify KmsKeyId, an error is returned" (API
    // reference, CopyDBClusterSnapshot); snapshots of Multi-AZ DB clusters cannot be copied at all.
    checks.block("engine", of_cluster.then(|| format!("{id} is of a cluster: AWS encrypts no copy of it; where it must be kept, restore it under the key by hand (`aws rds restore-db-cluster-from-snapshot --kms-key-id`), and take a snapshot of that")));
    let custom = snapshot.setting("Engine").starts_with("custom-");
    checks.block("engine", custom.then(|| format!("{id} is of RDS Custom: it cannot be copied")));
    checks.block("encryption", matches!(snapshot.encryption, Encryption::Unknown(_) | Encryption::SseRds).then(|| format!("{id}: its encryption type is {}, and what a copy of that is, this version does not know", snapshot.encryption)));
    let target = snapshot.setting("SnapshotTarget");
    checks.block(
        "place",
        (!["", "region"].contains(&target)).then(|| {
            format!(
                "{id} is kept in `{target}`: a copy would be kept in the region; copy it by hand"
            )
        }),
    );
    let unknown = snapshot.resource_id.starts_with('@') || snapshot.resource_id.ends_with('@');
    checks.block("identity", unknown.then(|| format!("{id}: AWS does not say of which database it is, or when it was taken, so nobody can tell it from another of its name")));
    checks.block(
        "tags",
        (snapshot.tags.len() >= TAGS_MAX).then(|| {
            format!("{id} has {TAGS_MAX} tags, and its copy needs one more: take one off")
        }),
    );
    let status = &snapshot.status;
    checks.block(
        "status",
        (status != "available").then(|| format!("{id} is {status}: a copy needs it available")),
    );
    let warning = match shared {
        Err(why) => Some(format!(
            "{id}: who may restore it is not known ({why}): a copy is shared with nobody"
        )),
        Ok(with) if with.iter().any(|w| w == "all") => Some(format!(
            "{id} is PUBLIC: everybody who has an AWS account can restore it, until it is decommissioned or made private (`aws rds modify-db-snapshot-attribute --attribute-name restore --values-to-remove all`); its copy cannot be public"
        )),
        Ok(with) if !with.is_empty() => Some(format!(
            "{id} is shared with {}: the copy is not; share it yourself, and the key with it",
            with.join(", ")
        )),
        Ok(_) => None,
    };
    checks.warn("sharing", warning);
}

/// RDS makes a new secret for a copy, with a new password (RDS guide, "Password management with Secrets
/// Manager").
fn secret(id: &str, managed: bool, checks: &mut Checks) {
    checks.warn("secret", managed.then(|| format!("{id}: its master password is managed in Secrets Manager: the twin gets a new secret, which applications must be given")));
}

/// `StorageEncrypted` can be changed by replacement only (CloudFormation reference, AWS::RDS::DBInstance).
fn managed(id: &str, by: Option<&str>, checks: &mut Checks) {
    checks.warn("ownership", by.map(|by| format!("{id} is managed by {by}: it does not know of the twin; say there that storage is encrypted and take the new resource in before anything is applied, or it may replace the database")));
}

/// A cluster, its members included.
pub(super) fn cluster(cluster: &Cluster, members: &[Instance], checks: &mut Checks) {
    let id = &cluster.id;
    let aurora = cluster.engine.starts_with("aurora");
    checks.block("engine", (!aurora).then(|| format!("{id} is a Multi-AZ DB cluster ({}): AWS documents no way to encrypt one; do it by hand", cluster.engine)));
    status(id, &cluster.status, checks);
    let unread = members.len() != cluster.members.len();
    checks.block(
        "members",
        unread.then(|| {
            format!(
                "{id}: only {} of {} members could be read",
                members.len(),
                cluster.members.len()
            )
        }),
    );
    settings(cluster.foreign.iter(), checks);
    pending(&cluster.pending, checks);
    secret(id, cluster.settings.manage_master_user_password, checks);
    managed(id, cluster.managed_by.as_deref(), checks);
    for member in members {
        instance(member, checks);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::planned;
    use super::super::{Body, Plan, Verdict};
    use super::*;
    use crate::finding::Resource;
    use crate::remediation::sample;
    use crate::time::Time;

    #[test]
    fn an_old_snapshot_is_planned_or_blocked_with_the_reason() {
        let shared = |with: &[&str]| Ok(with.iter().map(|w| (*w).to_owned()).collect());
        type Change = fn(&mut Snapshot);
        type Case = (Change, bool, Result<Vec<String>, String>, Verdict, &'static str);
        let same: Change = |_| {};
        let cases: [Case; 9] = [
            (same, false, shared(&[]), Verdict::Pass, ""),
            (same, false, shared(&["111122223333"]), Verdict::Warn, "is shared with 111122223333"),
            (same, false, shared(&["all"]), Verdict::Warn, "monthly is PUBLIC"),
            (same, false, Err("denied".into()), Verdict::Warn, "is not known (denied)"),
            (same, true, shared(&[]), Verdict::Block, "is of a cluster: AWS encrypts no copy"),
            (|s| s.status = "creating".into(), false, shared(&[]), Verdict::Block, "is creating"),
            (
                |s| s.encryption = Encryption::Unknown("sse-pq".into()),
                false,
                shared(&[]),
                Verdict::Block,
                "its encryption type is sse-pq",
            ),
            (|s| s.encryption = Encryption::SseRds, false, shared(&[]), Verdict::Block, "sse-rds"),
            (
                |s| drop(s.settings.insert("Engine".into(), "custom-oracle-ee".into())),
                false,
                shared(&[]),
                Verdict::Block,
                "RDS Custom",
            ),
        ];
        for (change, of_cluster, shared, verdict, text) in cases {
            let mut snapshot = sample::old_snapshot("monthly");
            change(&mut snapshot);
            let item = planned(Resource::Snapshot { snapshot, of_cluster, shared });
            let said: Vec<_> = item.checks.iter().filter(|c| c.text.contains(text)).collect();
            assert!(said.iter().any(|c| c.verdict == verdict), "{text}: {:?}", item.checks);
            assert_eq!(item.ready(), verdict != Verdict::Block, "{text}");
        }
    }

    #[test]
    fn the_plan_says_what_becomes_of_it() {
        let snapshot = sample::old_snapshot("monthly");
        let item = planned(Resource::Snapshot { snapshot, of_cluster: false, shared: Ok(vec![]) });
        let body = Body {
            id: "pl-1".into(),
            author: "ann".into(),
            created_at: Time(0),
            control: "rds-snapshot-encryption".into(),
            items: vec![item],
        };
        let text = Plan::new(body).text();
        for part in [
            "+ snapshot monthly  postgres",
            "copy  encrypted-monthly",
            "1. copy monthly, encrypted under the key, to encrypted-monthly, with its tags",
            "3. keep monthly until it is decommissioned",
            "to the verified copy (a guess",
            "100 GiB of snapshot more while both stand",
            "For every copy:",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains("twin"), "{text}");
    }
}
