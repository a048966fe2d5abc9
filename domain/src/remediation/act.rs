//! One write: what AWS is asked for.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// One thing to ask AWS for: exactly one write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "act")]
#[expect(missing_docs, reason = "each is the RDS call of that name; fields are identifiers")]
pub enum Act {
    CreateSnapshot { snapshot: String },
    CopySnapshot { from: String, to: String },
    RestoreInstance { snapshot: String, instance: String },
    ModifyInstance { instance: String, fields: BTreeSet<String> },
    CreateClusterSnapshot { snapshot: String },
    RestoreCluster { snapshot: String, cluster: String },
    CreateMember { source: String, instance: String, cluster: String },
    ModifyCluster { cluster: String, fields: BTreeSet<String> },
    DeleteSnapshot { snapshot: String },
    DeleteClusterSnapshot { snapshot: String },
    DeleteCluster { cluster: String },
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
        }
    }

    /// Whether it makes something.
    pub fn creates(&self) -> bool {
        match self {
            Act::CreateSnapshot { .. }
            | Act::CopySnapshot { .. }
            | Act::RestoreInstance { .. }
            | Act::CreateClusterSnapshot { .. }
            | Act::RestoreCluster { .. }
            | Act::CreateMember { .. } => true,
            Act::ModifyInstance { .. }
            | Act::ModifyCluster { .. }
            | Act::DeleteSnapshot { .. }
            | Act::DeleteClusterSnapshot { .. }
            | Act::DeleteCluster { .. } => false,
        }
    }

    /// What the step is called on screen.
    pub fn title(&self) -> String {
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
                format!("delete scratch snapshot {snapshot}")
            }
            Act::DeleteCluster { cluster } => format!("delete unusable twin cluster {cluster}"),
        }
    }
}

fn protects(fields: &BTreeSet<String>) -> bool {
    fields.len() == 1 && fields.contains("deletion_protection")
}
