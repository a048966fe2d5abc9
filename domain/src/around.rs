//! What names a database from outside, and so does not come along when it is replaced.

use crate::finding::{Kind, Resource};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The names of what names a database, by [`key`].
pub type Named = BTreeMap<String, Vec<String>>;

/// What names the databases of a cell; or why that is not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Around {
    /// RDS Proxies with it as a target.
    pub proxies: Result<Named, String>,
    /// Event subscriptions to it by name; those to all databases go on by themselves.
    pub subscriptions: Result<Named, String>,
    /// CloudWatch alarms on its metrics.
    pub alarms: Result<Named, String>,
    /// IAM policies with its resource id; asked for where IAM authentication is on.
    #[serde(default = "not_asked")]
    pub policies: Result<Named, String>,
}

/// Of a cell that was read before that was asked for.
fn not_asked() -> Result<Named, String> {
    Err("the last scan did not ask for them".into())
}

/// The IAM policies of an account that name databases, by the databases' resource ids.
pub type ByResourceId = BTreeMap<String, BTreeSet<String>>;

/// Whether IAM users are let into a database, so that policies name its resource id (RDS guide, "Creating and
/// using an IAM policy for IAM database access").
pub fn lets_iam_in(resource: &Resource) -> bool {
    match resource {
        Resource::Instance { instance, replicas } => {
            let mut all = std::iter::once(instance).chain(replicas);
            all.any(|i| i.settings.iam_database_authentication)
        }
        Resource::Cluster { cluster, .. } => cluster.settings.iam_database_authentication,
        Resource::Snapshot { .. } => false,
    }
}

/// Which of these policies name a database or one of its replicas or members.
pub fn naming<'a>(policies: &ByResourceId, found: impl Iterator<Item = &'a Resource>) -> Named {
    let mut named = Named::new();
    for resource in found {
        let own = std::iter::once(resource.resource_id());
        let ids = own.chain(resource.dependents().iter().map(|d| d.resource_id.as_str()));
        for ((key, _), id) in keys(resource).into_iter().zip(ids) {
            if let Some(by) = policies.get(id) {
                named.insert(key, by.iter().cloned().collect());
            }
        }
    }
    named
}

/// The key of a database: an instance and a cluster may have the same name.
pub fn key(kind: Kind, name: &str) -> String {
    format!("{} {name}", kind.as_str())
}

/// The keys of a database, its members and its replicas, each with its name.
pub fn keys(resource: &Resource) -> Vec<(String, &str)> {
    let kind = match resource {
        Resource::Instance { .. } => Kind::Instance,
        Resource::Cluster { .. } => Kind::Cluster,
        Resource::Snapshot { .. } => return Vec::new(),
    };
    let own = (key(kind, resource.name()), resource.name());
    let dependents = resource.dependents().iter();
    let rest = dependents.map(|d| (key(Kind::Instance, &d.id), d.id.as_str()));
    std::iter::once(own).chain(rest).collect()
}

impl Around {
    /// What is about these databases: a region has thousands of alarms, and most are about others.
    #[must_use]
    pub fn about<'a>(self, found: impl Iterator<Item = &'a Resource>) -> Around {
        let wanted: BTreeSet<String> =
            found.flat_map(|r| keys(r).into_iter().map(|(k, _)| k)).collect();
        let only = |all: Result<Named, String>| {
            all.map(|mut named| {
                named.retain(|key, _| wanted.contains(key));
                named
            })
        };
        Around {
            proxies: only(self.proxies),
            subscriptions: only(self.subscriptions),
            alarms: only(self.alarms),
            policies: only(self.policies),
        }
    }
}
