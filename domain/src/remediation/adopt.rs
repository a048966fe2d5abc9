//! What a look shows of what was asked for.

use super::{Act, Intent, Quiesce, Remediation, unit};
use crate::rds::{Snapshot, Sweep};

impl Remediation {
    /// Takes over what an open intent made although its answer was lost: the exact name, with our
    /// tag and this remediation's id.
    ///
    /// And notes whether its original is cut off.
    pub fn adopt(&mut self, seen: &Sweep) {
        let id = self.id.clone();
        let original = unit::find(seen, self.kind, self.source.resource_id());
        let original = original.map(|db| (db.groups.clone(), db.status == "stopped"));
        if let (Some((groups, stopped)), Some(swap)) = (original, &mut self.swap) {
            swap.cut_off = groups == swap.only() || (stopped && swap.quiesce == Quiesce::Stop);
        }
        let ours = |made_by: &Option<String>| made_by.as_deref() == Some(id.as_str());
        let snapshot = |list: &[Snapshot], name: &str| {
            list.iter().find(|s| s.id == name && ours(&s.made_by)).map(|s| s.arn.clone())
        };
        let unknown =
            |i: &&mut Intent| i.made.is_none() || (i.act.restores() && i.resource_id.is_none());
        for intent in self.intents.values_mut().filter(unknown) {
            intent.made = match &intent.act {
                Act::CreateSnapshot { snapshot: name }
                | Act::CopySnapshot { to: name, .. }
                | Act::LastSnapshot { snapshot: name }
                | Act::LastCopy { to: name, .. } => snapshot(&seen.snapshots, name),
                Act::CreateClusterSnapshot { snapshot: name }
                | Act::SnapshotTwin { snapshot: name } => snapshot(&seen.cluster_snapshots, name),
                Act::RestoreInstance { instance, .. }
                | Act::CreateMember { instance, .. }
                | Act::CreateReplica { instance, .. } => {
                    let found = seen.instance(instance).filter(|i| ours(&i.made_by));
                    intent.resource_id = found.map(|i| i.resource_id.clone());
                    found.map(|i| i.arn.clone())
                }
                Act::RestoreCluster { cluster, .. } => {
                    let found = seen.cluster(cluster).filter(|c| ours(&c.made_by));
                    intent.resource_id = found.map(|c| c.resource_id.clone());
                    found.map(|c| c.arn.clone())
                }
                Act::CreateGroup { vpc, name } => {
                    let found =
                        seen.groups.iter().find(|g| g.ours && g.vpc == *vpc && g.name == *name);
                    found.map(|g| g.id.clone())
                }
                Act::CreateBlueGreen { name } => {
                    let found =
                        seen.blue_greens.iter().find(|b| b.name == *name && ours(&b.made_by));
                    found.map(|b| b.id.clone())
                }
                Act::ModifyInstance { .. }
                | Act::ModifyCluster { .. }
                | Act::CloseGroup { .. }
                | Act::DeleteSnapshot { .. }
                | Act::DeleteClusterSnapshot { .. }
                | Act::DeleteCluster { .. }
                | Act::AddRole { .. }
                | Act::CreateEndpoint { .. }
                | Act::DeleteEndpoint { .. }
                | Act::SetGroups { .. }
                | Act::Rename { .. }
                | Act::Protect { .. }
                | Act::Start { .. }
                | Act::Stop { .. }
                | Act::Reboot { .. }
                | Act::SwitchOver { .. }
                | Act::DeleteBlueGreen { .. }
                | Act::Retire { .. } => None,
            };
        }
    }
}
