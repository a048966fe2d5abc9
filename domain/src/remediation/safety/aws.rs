//! A small AWS: what each call does to the world.

use super::World;
use crate::finding::{Kind, Resource};
use crate::isolation::Group;
use crate::rds::{Cluster, Encryption, Instance, MemberRef, Snapshot};
use crate::remediation::Act;
use std::collections::BTreeMap;

const KEY: &str = "arn:aws:kms:eu-west-1:111122223333:key/1";

impl World {
    fn fresh(&mut self) -> u32 {
        self.made += 1;
        self.made
    }

    fn snapshot(&mut self, id: &str, encrypted: bool) -> Snapshot {
        Snapshot {
            id: id.into(),
            arn: format!("arn:snapshot:{id}:{}", self.fresh()),
            of: String::new(),
            status: "available".into(),
            encryption: if encrypted { Encryption::SseKms } else { Encryption::None },
            kms_key: encrypted.then(|| KEY.into()),
            created_at: Some(self.now),
            made_by: Some(self.rem.id.clone()),
            resource_id: String::new(),
            settings: BTreeMap::new(),
            tags: BTreeMap::new(),
        }
    }

    fn twin_of(&mut self, source: &str, id: &str, cluster: Option<&str>, of: Option<&str>) {
        let spec = self.rem.twin_spec().into_owned();
        let want = spec.instances().find(|i| i.id == source).unwrap();
        let n = self.fresh();
        let arn = match id.starts_with("arn:") {
            true => id.to_owned(),
            false => format!("arn:aws:rds:eu-west-1:111122223333:db:{id}"),
        };
        let twin = Instance {
            id: id.into(),
            arn,
            resource_id: format!("db-TWIN{n}"),
            encryption: Encryption::SseKms,
            kms_key: Some(self.rem.key_of(id).into()),
            cluster: cluster.map(str::to_owned),
            replica_source: of.map(str::to_owned),
            replicas: vec![],
            made_by: Some(self.rem.id.clone()),
            ..want.clone()
        };
        self.seen.instances.push(twin);
    }

    fn instances(&mut self, id: &str, change: impl FnOnce(&mut Instance)) {
        change(self.seen.instances.iter_mut().find(|i| i.resource_id == id).expect("it is there"));
    }

    fn clusters(&mut self, id: &str, change: impl FnOnce(&mut Cluster)) {
        change(self.seen.clusters.iter_mut().find(|c| c.resource_id == id).expect("it is there"));
    }

    /// What AWS does.
    pub(super) fn perform(&mut self, act: &Act) {
        match act.clone() {
            Act::CreateSnapshot { snapshot } | Act::LastSnapshot { snapshot } => {
                let s = self.snapshot(&snapshot, false);
                self.seen.snapshots.push(s);
                // What was written before it is in it.
                if matches!(act, Act::CreateSnapshot { .. }) {
                    self.met.clear();
                }
            }
            Act::CopySnapshot { to, .. } | Act::LastCopy { to, .. } => {
                let mut s = self.snapshot(&to, true);
                if let Resource::Snapshot { snapshot: of, .. } = &self.rem.source {
                    (s.settings, s.tags) = (of.settings.clone(), of.tags.clone());
                    s.resource_id = s.arn.clone();
                }
                self.seen.snapshots.push(s);
            }
            Act::CreateClusterSnapshot { snapshot } => {
                let s = self.snapshot(&snapshot, false);
                self.seen.cluster_snapshots.push(s);
                self.met.clear();
            }
            Act::SnapshotTwin { snapshot } => {
                let s = self.snapshot(&snapshot, true);
                self.seen.cluster_snapshots.push(s);
            }
            Act::RestoreInstance { instance, .. } => self.twin_of("orders", &instance, None, None),
            Act::CreateReplica { source, instance, of } => {
                self.twin_of(&source, &instance, None, Some(&of));
            }
            Act::CreateMember { source, instance, cluster } => {
                self.twin_of(&source, &instance, Some(&cluster), None);
                let twin = self.seen.clusters.iter_mut().find(|c| c.id == cluster).unwrap();
                let writer = twin.members.is_empty();
                twin.members.push(MemberRef { id: instance, writer });
            }
            Act::RestoreCluster { cluster, .. } => {
                let Resource::Cluster { cluster: want, .. } = self.rem.twin_spec().into_owned()
                else {
                    return;
                };
                let n = self.fresh();
                self.seen.clusters.push(Cluster {
                    id: cluster.clone(),
                    arn: format!("arn:aws:rds:eu-west-1:111122223333:cluster:{cluster}"),
                    resource_id: format!("cluster-TWIN{n}"),
                    encryption: Encryption::SseKms,
                    kms_key: Some(KEY.into()),
                    members: vec![],
                    endpoints: vec![],
                    made_by: Some(self.rem.id.clone()),
                    ..want
                });
            }
            Act::DeleteSnapshot { snapshot } => self.seen.snapshots.retain(|s| s.id != snapshot),
            Act::DeleteClusterSnapshot { snapshot } => {
                self.seen.cluster_snapshots.retain(|s| s.id != snapshot);
            }
            Act::SetGroups { kind: Kind::Instance, resource_id, groups, .. } => {
                self.instances(&resource_id, |i| i.settings.vpc_security_group_ids = groups);
            }
            Act::SetGroups { resource_id, groups, .. } => {
                self.clusters(&resource_id, |c| c.settings.vpc_security_group_ids = groups);
            }
            Act::Protect { kind: Kind::Instance, resource_id, on, .. } => {
                self.instances(&resource_id, |i| i.settings.deletion_protection = on);
            }
            Act::Protect { resource_id, on, .. } => {
                self.clusters(&resource_id, |c| c.settings.deletion_protection = on);
            }
            Act::Stop { kind, resource_id, .. } => self.status(kind, &resource_id, "stopped"),
            Act::Start { kind, resource_id, .. } => self.status(kind, &resource_id, "available"),
            Act::Rename { kind, from, to, resource_id } => {
                self.rename(kind, &from, &to, &resource_id)
            }
            Act::Retire { kind: Kind::Instance, resource_id, database } => {
                self.seen.instances.retain(|i| i.resource_id != resource_id);
                for cluster in &mut self.seen.clusters {
                    cluster.members.retain(|m| m.id != database);
                }
            }
            Act::Retire { kind: Kind::Snapshot, resource_id, .. } => {
                self.seen.snapshots.retain(|s| s.resource_id != resource_id);
            }
            Act::Retire { resource_id, .. } => {
                self.seen.clusters.retain(|c| c.resource_id != resource_id);
            }
            Act::CreateGroup { vpc, name } => {
                let (id, lets_in) = ("sg-nobody".into(), vec![]);
                let lets_out = vec!["everything to 0.0.0.0/0".into()];
                self.seen.groups.push(Group { id, name, vpc, lets_in, lets_out, ours: true });
            }
            Act::CloseGroup { .. } => self.seen.groups.iter_mut().for_each(|g| g.lets_out.clear()),
            Act::CreateBlueGreen { .. } | Act::SwitchOver { .. } | Act::DeleteBlueGreen { .. } => {
                self.perform_green(act);
            }
            Act::Reboot { .. }
            | Act::AddRole { .. }
            | Act::CreateEndpoint { .. }
            | Act::DeleteEndpoint { .. }
            | Act::ModifyInstance { .. }
            | Act::ModifyCluster { .. }
            | Act::DeleteCluster { .. } => {}
        }
    }

    pub(super) fn status(&mut self, kind: Kind, id: &str, status: &str) {
        match kind {
            Kind::Instance => self.instances(id, |i| i.status = status.into()),
            Kind::Cluster => {
                self.clusters(id, |c| c.status = status.into());
                let name =
                    self.seen.clusters.iter().find(|c| c.resource_id == id).unwrap().id.clone();
                for i in
                    self.seen.instances.iter_mut().filter(|i| i.cluster.as_ref() == Some(&name))
                {
                    i.status = status.into();
                }
            }
            Kind::Snapshot => unreachable!("a snapshot is neither stopped nor started"),
        }
    }

    fn rename(&mut self, kind: Kind, from: &str, to: &str, id: &str) {
        match kind {
            Kind::Instance => {
                assert!(self.seen.instance(to).is_none(), "AWS refuses a name that is taken: {to}");
                self.instances(id, |i| {
                    i.arn = i.arn.replace(&format!(":{from}"), &format!(":{to}"));
                    i.id = to.into();
                });
                for i in &mut self.seen.instances {
                    if i.replica_source.as_deref() == Some(from) {
                        i.replica_source = Some(to.into());
                    }
                }
                for m in self.seen.clusters.iter_mut().flat_map(|c| &mut c.members) {
                    if m.id == from {
                        m.id = to.into();
                    }
                }
            }
            Kind::Cluster => {
                assert!(self.seen.cluster(to).is_none(), "AWS refuses a name that is taken: {to}");
                self.clusters(id, |c| c.id = to.into());
                for i in self.seen.instances.iter_mut() {
                    if i.cluster.as_deref() == Some(from) {
                        i.cluster = Some(to.into());
                    }
                }
            }
            Kind::Snapshot => unreachable!("a snapshot keeps its name"),
        }
    }

    /// Whether the database that it is done to has the id that was meant, under that name.
    pub(super) fn is_still(&self, act: &Act) -> bool {
        let Some((kind, name, id)) = act.subject() else { return true };
        match kind {
            Kind::Instance => self.seen.instance(name).is_some_and(|i| i.resource_id == id),
            Kind::Cluster => self.seen.cluster(name).is_some_and(|c| c.resource_id == id),
            Kind::Snapshot => {
                self.seen.snapshots.iter().any(|s| s.id == name && s.resource_id == id)
            }
        }
    }

    /// Whether AWS refuses it, because the name is taken or what it is made of is gone.
    pub(super) fn exists(&self, act: &Act) -> bool {
        let snapshot = |name: &str| {
            self.seen.snapshots.iter().chain(&self.seen.cluster_snapshots).any(|s| s.id == name)
        };
        match act {
            Act::CreateSnapshot { snapshot: name }
            | Act::CreateClusterSnapshot { snapshot: name }
            | Act::LastSnapshot { snapshot: name }
            | Act::SnapshotTwin { snapshot: name } => snapshot(name),
            Act::CopySnapshot { from, to } | Act::LastCopy { from, to } => {
                snapshot(to) || !snapshot(from)
            }
            Act::RestoreInstance { snapshot: from, instance } => {
                self.seen.instance(instance).is_some() || !snapshot(from)
            }
            Act::RestoreCluster { snapshot: from, cluster } => {
                self.seen.cluster(cluster).is_some() || !snapshot(from)
            }
            Act::CreateReplica { instance, of, .. } => {
                self.seen.instance(instance).is_some() || self.seen.instance(of).is_none()
            }
            Act::CreateMember { instance, cluster, .. } => {
                self.seen.instance(instance).is_some() || self.seen.cluster(cluster).is_none()
            }
            Act::Rename { kind: Kind::Instance, to, .. } => self.seen.instance(to).is_some(),
            Act::Rename { to, .. } => self.seen.cluster(to).is_some(),
            Act::CreateGroup { .. } => !self.seen.groups.is_empty(),
            _ => self.refuses_green(act),
        }
    }
}
