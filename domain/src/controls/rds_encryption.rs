//! `rds-encryption`: the storage of every RDS DB instance and cluster is encrypted.

use crate::control::{Control, Detection, Facts};
use crate::finding::{Detected, Kind, Resource};
use crate::rds::{Encryption, Sweep, out_of_scope};
use crate::scp;

/// The control.
pub struct RdsEncryption;

impl Control for RdsEncryption {
    fn id(&self) -> &'static str {
        "rds-encryption"
    }

    fn doc(&self) -> &'static str {
        "The storage of every RDS DB instance and cluster is encrypted at rest."
    }

    fn needs(&self) -> &'static [Facts] {
        &[Facts::Databases]
    }

    /// A cluster is one finding, whatever its members; a replica is one that names its source.
    /// `strict` (`controls.rds-encryption.require_kms_key`) makes AWS-owned keys a finding too.
    fn detect(&self, sweep: &Sweep, strict: bool) -> Detection {
        let mut found = Detection::default();
        let breaks = |encryption: &Encryption| match encryption {
            Encryption::None => Some(true),
            Encryption::SseRds => Some(strict),
            Encryption::SseKms => Some(false),
            Encryption::Unknown(_) => None,
        };
        for cluster in &sweep.clusters {
            if out_of_scope(&cluster.engine) {
                found.out_of_scope += 1;
                continue;
            }
            found.clusters += 1;
            match breaks(&cluster.encryption) {
                Some(true) => {
                    let members: Vec<_> = cluster
                        .members
                        .iter()
                        .filter_map(|m| sweep.instance(&m.id))
                        .cloned()
                        .collect();
                    let resource = Resource::Cluster { cluster: cluster.clone(), members };
                    found.findings.push(Detected { kind: Kind::Cluster, resource, config: None });
                }
                Some(false) => {}
                None => found.unjudged.push(unknown("cluster", &cluster.id, &cluster.encryption)),
            }
        }
        for instance in &sweep.instances {
            if out_of_scope(&instance.engine) {
                found.out_of_scope += 1;
                continue;
            }
            found.instances += 1;
            if let Some(cluster) = &instance.cluster {
                if sweep.cluster(cluster).is_none() {
                    let id = &instance.id;
                    let why = format!("instance {id}: its cluster {cluster} was not read");
                    found.unjudged.push(why);
                }
                continue; // judged with its cluster: encryption is the cluster's (Aurora guide)
            }
            match breaks(&instance.encryption) {
                Some(true) => {
                    let (instance, replicas) = (instance.clone(), sweep.tree(&instance.id));
                    let resource = Resource::Instance { instance, replicas };
                    found.findings.push(Detected { kind: Kind::Instance, resource, config: None });
                }
                Some(false) => {}
                None => {
                    found.unjudged.push(unknown("instance", &instance.id, &instance.encryption))
                }
            }
        }
        found
    }

    fn prevent(&self) -> Option<&'static str> {
        Some(scp::RDS_ENCRYPTION)
    }
}

fn unknown(what: &str, id: &str, encryption: &Encryption) -> String {
    format!("{what} {id}: storage encryption type {encryption} is not known to this version")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rds::MemberRef;
    use crate::remediation::sample;

    fn check(change: impl FnOnce(&mut Sweep), strict: bool, want: &[&str]) {
        let mut sweep = Sweep {
            instances: vec![sample::instance("orders"), sample::member("m1", "ledger")],
            clusters: vec![sample::cluster("ledger", &["m1"])],
            ..Sweep::default()
        };
        change(&mut sweep);
        let found = RdsEncryption.detect(&sweep, strict);
        let mut said: Vec<String> = found
            .findings
            .iter()
            .map(|f| format!("{} {}", f.kind.as_str(), f.resource.name()))
            .collect();
        said.extend(
            found.unjudged.iter().map(|u| format!("? {}", u.split(':').next().unwrap_or(""))),
        );
        said.extend((found.out_of_scope > 0).then(|| format!("out {}", found.out_of_scope)));
        assert_eq!(said, want);
    }

    #[test]
    fn detection_table() {
        let all = &["cluster ledger", "instance orders"];
        check(|_| {}, false, all);
        check(|s| s.instances[0].encryption = Encryption::SseKms, false, &["cluster ledger"]);
        check(|s| s.clusters[0].encryption = Encryption::SseRds, false, &["instance orders"]);
        check(|s| s.clusters[0].encryption = Encryption::SseRds, true, all);
        check(
            |s| s.instances[0].encryption = Encryption::Unknown("sse-x".into()),
            false,
            &["cluster ledger", "? instance orders"],
        );
        check(|s| s.clusters[0].engine = "neptune".into(), false, &["instance orders", "out 1"]);
        check(
            |s| {
                s.clusters[0].engine = "docdb".into();
                s.instances[1].engine = "docdb".into();
            },
            false,
            &["instance orders", "out 2"],
        );
        check(|s| s.clusters.clear(), false, &["instance orders", "? instance m1"]);
        check(|s| *s = Sweep::default(), false, &[]);
    }

    #[test]
    fn members_travel_with_their_cluster() {
        let mut cluster = sample::cluster("ledger", &["m1", "m2"]);
        cluster.members.push(MemberRef { id: "gone".into(), writer: false });
        let sweep = Sweep {
            instances: vec![sample::member("m1", "ledger"), sample::member("m2", "ledger")],
            clusters: vec![cluster],
            ..Sweep::default()
        };
        let found = RdsEncryption.detect(&sweep, false);
        assert_eq!((found.instances, found.clusters, found.findings.len()), (2, 1, 1));
        let Resource::Cluster { members, .. } = &found.findings[0].resource else {
            panic!("a cluster")
        };
        assert_eq!(members.len(), 2);
    }

    #[test]
    fn every_control_is_whole() {
        let mut ids = std::collections::BTreeSet::new();
        for control in crate::controls::ALL {
            assert!(ids.insert(control.id()), "{} twice", control.id());
            assert!(!control.doc().is_empty() && !control.needs().is_empty());
            assert_eq!(control.detect(&Sweep::default(), true), Detection::default());
            if let Some(policy) = control.prevent() {
                scp::lint(policy).expect("the built-in policy passes our own lint");
            }
        }
    }
}
