//! `rds-snapshot-encryption`: every manual snapshot is encrypted. Judged only where that is asked for: old
//! snapshots say nothing of what an SCP would deny, and reading them costs calls.

use crate::control::{Control, Detection, Facts};
use crate::finding::{Detected, Kind, Resource};
use crate::rds::{Encryption, Snapshot, Sweep, out_of_scope};

/// The control.
pub struct RdsSnapshotEncryption;

impl Control for RdsSnapshotEncryption {
    fn id(&self) -> &'static str {
        "rds-snapshot-encryption"
    }

    fn doc(&self) -> &'static str {
        "Every manual snapshot of an RDS DB instance or cluster is encrypted."
    }

    fn needs(&self) -> &'static [Facts] {
        &[Facts::Snapshots]
    }

    /// What a remediation made is its scratch, or its last copy, and is left out. Who a snapshot is shared with
    /// is read afterwards, of those that are found.
    fn detect(&self, sweep: &Sweep, strict: bool) -> Detection {
        let mut found = Detection::default();
        let breaks = |s: &&Snapshot| match s.encryption {
            // A type that this version does not know is never taken for encrypted.
            Encryption::None | Encryption::Unknown(_) => true,
            Encryption::SseRds => strict,
            Encryption::SseKms => false,
        };
        for (list, of_cluster) in [(&sweep.snapshots, false), (&sweep.cluster_snapshots, true)] {
            let ours = |s: &&Snapshot| s.made_by.is_some() || out_of_scope(s.setting("Engine"));
            // One that is being made has no time yet, and so no identity.
            let made = |s: &&Snapshot| s.status != "creating";
            for snapshot in list.iter().filter(made).filter(|s| !ours(s)).filter(breaks) {
                let shared = Err("it was not asked for".to_owned());
                let resource =
                    Resource::Snapshot { snapshot: snapshot.clone(), of_cluster, shared };
                found.findings.push(Detected { kind: Kind::Snapshot, resource, config: None });
            }
        }
        found
    }

    /// No condition key tells whether a snapshot is encrypted (service authorization reference, Amazon RDS).
    fn prevent(&self) -> Option<&'static str> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remediation::sample;

    #[test]
    fn plain_snapshots_of_others_are_found() {
        for (encryption, made_by, engine, strict, want) in [
            (Encryption::None, None, "postgres", false, true),
            (Encryption::None, Some("rem-1"), "postgres", false, false),
            (Encryption::None, None, "docdb", false, false),
            (Encryption::SseKms, None, "postgres", true, false),
            (Encryption::SseRds, None, "aurora-mysql", false, false),
            (Encryption::SseRds, None, "aurora-mysql", true, true),
            (Encryption::Unknown("sse-pq".into()), None, "postgres", false, true),
        ] {
            let mut snapshot = sample::old_snapshot("monthly");
            snapshot.encryption = encryption.clone();
            snapshot.made_by = made_by.map(str::to_owned);
            snapshot.settings.insert("Engine".into(), engine.into());
            for of_cluster in [false, true] {
                let mut sweep = Sweep::default();
                let list =
                    if of_cluster { &mut sweep.cluster_snapshots } else { &mut sweep.snapshots };
                list.push(snapshot.clone());
                let found = RdsSnapshotEncryption.detect(&sweep, strict).findings;
                assert_eq!(found.len() == 1, want, "{encryption} {engine} {strict}");
            }
        }
    }
}
