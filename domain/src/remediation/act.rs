//! One write: what AWS is asked for.

use crate::far;
use crate::finding::Kind;
use crate::id::Region;
use crate::rds::Endpoint;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// One thing to ask AWS for: exactly one write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "act")]
#[expect(missing_docs, reason = "each is the RDS call of that name; fields are identifiers")]
pub enum Act {
    CreateSnapshot {
        snapshot: String,
    },
    CopySnapshot {
        from: String,
        to: String,
    },
    RestoreInstance {
        snapshot: String,
        instance: String,
    },
    ModifyInstance {
        instance: String,
        fields: BTreeSet<String>,
    },
    CreateClusterSnapshot {
        snapshot: String,
    },
    RestoreCluster {
        snapshot: String,
        cluster: String,
    },
    CreateMember {
        source: String,
        instance: String,
        cluster: String,
    },
    ModifyCluster {
        cluster: String,
        fields: BTreeSet<String>,
    },
    DeleteSnapshot {
        snapshot: String,
    },
    DeleteClusterSnapshot {
        snapshot: String,
    },
    DeleteCluster {
        cluster: String,
    },
    CreateReplica {
        source: String,
        instance: String,
        of: String,
    },
    AddRole {
        kind: Kind,
        database: String,
        role: String,
        feature: String,
    },
    CreateEndpoint {
        cluster: String,
        resource_id: String,
        endpoint: Box<Endpoint>,
    },
    DeleteEndpoint {
        cluster: String,
        resource_id: String,
        endpoint: String,
    },
    SetGroups {
        kind: Kind,
        database: String,
        resource_id: String,
        groups: BTreeSet<String>,
    },
    Rename {
        kind: Kind,
        from: String,
        to: String,
        resource_id: String,
    },
    Protect {
        kind: Kind,
        database: String,
        resource_id: String,
        on: bool,
    },
    Start {
        kind: Kind,
        database: String,
        resource_id: String,
    },
    Stop {
        kind: Kind,
        database: String,
        resource_id: String,
    },
    Reboot {
        instance: String,
        resource_id: String,
    },
    LastSnapshot {
        snapshot: String,
    },
    LastCopy {
        from: String,
        to: String,
    },
    SnapshotTwin {
        snapshot: String,
    },
    Retire {
        kind: Kind,
        database: String,
        resource_id: String,
    },
    CreateGroup {
        vpc: String,
        name: String,
    },
    CloseGroup {
        group: String,
    },
    CreateBlueGreen {
        name: String,
    },
    SwitchOver {
        deployment: String,
        kind: Kind,
        database: String,
        resource_id: String,
    },
    DeleteBlueGreen {
        deployment: String,
        name: String,
        green: bool,
        kind: Kind,
        database: String,
        resource_id: String,
    },
}

impl Act {
    /// The intent's key: one per thing that can be made or unmade.
    pub fn key(&self) -> String {
        match self {
            Act::CreateSnapshot { .. } | Act::CreateClusterSnapshot { .. } => "snapshot".into(),
            Act::CopySnapshot { .. } => "copy".into(),
            Act::RestoreInstance { .. } | Act::RestoreCluster { .. } => "twin".into(),
            Act::CreateMember { instance, .. } => format!("member {instance}"),
            Act::ModifyInstance { instance, fields } if protects(fields) => {
                format!("protect {instance}")
            }
            Act::ModifyInstance { instance, .. } => format!("modify {instance}"),
            Act::ModifyCluster { cluster, fields } if protects(fields) => {
                format!("protect {cluster}")
            }
            Act::ModifyCluster { cluster, .. } => format!("modify {cluster}"),
            Act::DeleteSnapshot { snapshot } | Act::DeleteClusterSnapshot { snapshot } => {
                format!("delete {snapshot}")
            }
            Act::DeleteCluster { cluster } => format!("delete {cluster}"),
            Act::CreateReplica { instance, .. } => format!("replica {instance}"),
            Act::AddRole { database, role, feature, .. } => {
                format!("role {database} {feature} {role}")
            }
            Act::CreateEndpoint { resource_id, endpoint, .. } => {
                format!("endpoint {resource_id} {}", endpoint.id)
            }
            Act::DeleteEndpoint { resource_id, endpoint, .. } => {
                format!("no endpoint {resource_id} {endpoint}")
            }
            Act::SetGroups { resource_id, groups, .. } => {
                super::place::groups_key(resource_id, groups)
            }
            Act::Rename { to, resource_id, .. } => format!("rename {resource_id} {to}"),
            Act::Protect { resource_id, on, .. } => format!("protection {resource_id} {on}"),
            Act::Start { resource_id, .. } => format!("start {resource_id}"),
            Act::Stop { resource_id, .. } => format!("stop {resource_id}"),
            Act::Reboot { resource_id, .. } => format!("reboot {resource_id}"),
            Act::LastSnapshot { .. } | Act::SnapshotTwin { .. } => "last snapshot".into(),
            Act::LastCopy { .. } => "last copy".into(),
            Act::Retire { resource_id, .. } => format!("retire {resource_id}"),
            Act::CreateGroup { .. } => "isolation group".into(),
            Act::CloseGroup { group } => format!("close {group}"),
            Act::CreateBlueGreen { .. } => "deployment".into(),
            Act::SwitchOver { .. } => "switch over".into(),
            Act::DeleteBlueGreen { name, .. } => format!("delete {name}"),
        }
    }

    /// The database that it is done to, where that exists already: its kind, its name and its immutable id.
    /// Both are read again right before the call.
    pub fn subject(&self) -> Option<(Kind, &str, &str)> {
        match self {
            Act::SetGroups { kind, database, resource_id, .. }
            | Act::Protect { kind, database, resource_id, .. }
            | Act::Start { kind, database, resource_id }
            | Act::Stop { kind, database, resource_id }
            | Act::Rename { kind, from: database, resource_id, .. }
            | Act::SwitchOver { kind, database, resource_id, .. }
            // With the green environment: the original must be in its place.
            | Act::DeleteBlueGreen { green: true, kind, database, resource_id, .. }
            | Act::Retire { kind, database, resource_id } => Some((*kind, database, resource_id)),
            Act::Reboot { instance, resource_id } => Some((Kind::Instance, instance, resource_id)),
            Act::CreateEndpoint { cluster, resource_id, .. }
            | Act::DeleteEndpoint { cluster, resource_id, .. } => {
                Some((Kind::Cluster, cluster, resource_id))
            }
            _ => None,
        }
    }

    /// The name of what it makes, if it makes something.
    pub fn makes(&self) -> Option<&str> {
        match self {
            Act::CreateSnapshot { snapshot }
            | Act::CreateClusterSnapshot { snapshot }
            | Act::LastSnapshot { snapshot }
            | Act::SnapshotTwin { snapshot } => Some(snapshot),
            Act::CopySnapshot { to, .. } | Act::LastCopy { to, .. } => Some(to),
            Act::RestoreCluster { cluster, .. } => Some(cluster),
            Act::RestoreInstance { instance, .. }
            | Act::CreateMember { instance, .. }
            | Act::CreateReplica { instance, .. } => Some(instance),
            Act::CreateGroup { name, .. } | Act::CreateBlueGreen { name } => Some(name),
            Act::ModifyInstance { .. }
            | Act::ModifyCluster { .. }
            | Act::DeleteSnapshot { .. }
            | Act::DeleteClusterSnapshot { .. }
            | Act::DeleteCluster { .. }
            | Act::AddRole { .. }
            | Act::CreateEndpoint { .. } // where it belongs changes with the goal
            | Act::DeleteEndpoint { .. }
            | Act::SetGroups { .. }
            | Act::Rename { .. }
            | Act::Protect { .. }
            | Act::Start { .. }
            | Act::Stop { .. }
            | Act::Reboot { .. }
            | Act::CloseGroup { .. }
            | Act::SwitchOver { .. }
            | Act::DeleteBlueGreen { .. }
            | Act::Retire { .. } => None,
        }
    }

    /// Whether it makes something.
    pub fn creates(&self) -> bool {
        self.makes().is_some()
    }

    /// Whether it makes a database.
    pub fn restores(&self) -> bool {
        matches!(
            self,
            Act::RestoreInstance { .. }
                | Act::RestoreCluster { .. }
                | Act::CreateMember { .. }
                | Act::CreateReplica { .. }
        )
    }

    /// The region in which it is asked for, where that is not the unit's own.
    pub fn far_region(&self) -> Option<Region> {
        let of = match self {
            Act::CreateReplica { instance, .. }
            | Act::ModifyInstance { instance, .. }
            | Act::AddRole { database: instance, .. } => instance,
            _ => self.subject()?.1,
        };
        far::region(of)
    }

    /// What the step is called on screen.
    pub fn title(&self) -> String {
        far::said_in(&self.called())
    }

    fn called(&self) -> String {
        let list =
            |fields: &BTreeSet<String>| fields.iter().cloned().collect::<Vec<_>>().join(", ");
        match self {
            Act::CreateSnapshot { snapshot } | Act::CreateClusterSnapshot { snapshot } => {
                format!("create snapshot {snapshot}")
            }
            Act::CopySnapshot { from, to } => format!("copy {from}, encrypted, to {to}"),
            Act::RestoreInstance { instance, .. } => format!("restore {instance}"),
            Act::RestoreCluster { cluster, .. } => format!("restore cluster {cluster}"),
            Act::CreateMember { instance, .. } => format!("create member {instance}"),
            Act::ModifyInstance { instance, fields } => {
                format!("set {} of {instance}", list(fields))
            }
            Act::ModifyCluster { cluster, fields } => {
                format!("set {} of cluster {cluster}", list(fields))
            }
            Act::DeleteSnapshot { snapshot } | Act::DeleteClusterSnapshot { snapshot } => {
                match snapshot.starts_with("ringfence-") {
                    true => format!("delete scratch snapshot {snapshot}"),
                    false => format!("delete the unfinished copy {snapshot}"),
                }
            }
            Act::DeleteCluster { cluster } => format!("delete unusable twin cluster {cluster}"),
            Act::CreateReplica { instance, of, .. } => format!("create replica {instance} of {of}"),
            Act::AddRole { database, role, feature, .. } => {
                format!("give {database} the role {role} for {feature}")
                    .trim_end_matches(" for ")
                    .to_owned()
            }
            Act::CreateEndpoint { cluster, endpoint, .. } => {
                format!("make endpoint {} of {cluster}", endpoint.id)
            }
            Act::DeleteEndpoint { cluster, endpoint, .. } => {
                format!("delete endpoint {endpoint} of {cluster}")
            }
            Act::SetGroups { database, groups, .. } => {
                format!("put {database} into {}", list(groups))
            }
            Act::Rename { from, to, .. } => format!("rename {from} to {to}"),
            Act::Protect { database, on: true, .. } => format!("protect {database} from deletion"),
            Act::Protect { database, on: false, .. } => {
                format!("lift deletion protection of {database}")
            }
            Act::Start { database, .. } => format!("start {database}"),
            Act::Stop { database, .. } => format!("stop {database}"),
            Act::Reboot { instance, .. } => format!("reboot {instance}"),
            Act::LastSnapshot { snapshot } => format!("create last snapshot {snapshot}"),
            Act::LastCopy { from, to } => format!("copy {from}, encrypted, to {to}"),
            Act::SnapshotTwin { snapshot } => format!("create snapshot {snapshot} of the twin"),
            Act::Retire { database, .. } => format!("delete {database}"),
            Act::CreateGroup { vpc, name } => format!("make security group {name} in {vpc}"),
            Act::CloseGroup { group } => format!("take the outbound rules from {group}"),
            Act::CreateBlueGreen { name } => format!("create blue/green deployment {name}"),
            Act::SwitchOver { deployment, .. } => format!("switch {deployment} over"),
            Act::DeleteBlueGreen { deployment, green: true, .. } => {
                format!("delete {deployment} with its green environment")
            }
            Act::DeleteBlueGreen { deployment, .. } => {
                format!("delete {deployment}, which is done; its databases stay")
            }
        }
    }
}

fn protects(fields: &BTreeSet<String>) -> bool {
    fields.len() == 1 && fields.contains("deletion_protection")
}
