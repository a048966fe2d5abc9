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
    /// Secrets that mention its name or its resource id in their own names, descriptions or tags; what is in them
    /// is read by nobody.
    #[serde(default = "not_asked")]
    pub secrets: Result<Named, String>,
    /// Blue/green deployments that it is part of, and that are not over.
    #[serde(default = "not_asked")]
    pub deployments: Result<Named, String>,
}

/// A secret, without what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// Its name.
    pub name: String,
    /// All that is said of it: name, description, tags.
    pub said: String,
}

/// Whether a text has that name as a word of its own: `orders` is in `prod/orders`, and not in `orders-read`.
fn mentions(text: &str, name: &str) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '-';
    text.to_ascii_lowercase().split(|c| !part(c)).any(|word| word == name.to_ascii_lowercase())
}

/// Which of these secrets mention a database, or one of its replicas or members.
pub fn mentioning<'a>(secrets: &[Secret], found: impl Iterator<Item = &'a Resource>) -> Named {
    let mut named = Named::new();
    for (key, name, id) in found.flat_map(named_with_ids) {
        let about = |s: &&Secret| mentions(&s.said, name) || mentions(&s.said, id);
        let by: Vec<String> = secrets.iter().filter(about).map(|s| s.name.clone()).collect();
        if !by.is_empty() {
            named.insert(key, by);
        }
    }
    named
}

/// The key, the name and the resource id of a database, its members and its replicas.
fn named_with_ids(resource: &Resource) -> Vec<(String, &str, &str)> {
    let own = std::iter::once(resource.resource_id());
    let ids = own.chain(resource.dependents().iter().map(|d| d.resource_id.as_str()));
    keys(resource).into_iter().zip(ids).map(|((key, name), id)| (key, name, id)).collect()
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
    for (key, _, id) in found.flat_map(named_with_ids) {
        if let Some(by) = policies.get(id) {
            named.insert(key, by.iter().cloned().collect());
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
            secrets: only(self.secrets),
            deployments: only(self.deployments),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remediation::sample;

    #[test]
    fn secrets_mention_a_database_by_its_whole_name_or_its_id() {
        let resource = Resource::Instance {
            instance: sample::instance("orders"),
            replicas: vec![sample::instance("orders-read")],
        };
        for (said, want) in [
            ("prod/orders", "instance orders"),
            ("shop the master of Orders", "instance orders"),
            ("shop dbInstanceIdentifier=orders-read", "instance orders-read"),
            ("shop db-ORDERS", "instance orders"),
            ("prod/orders-replica", ""),
            ("reorders", ""),
        ] {
            let secrets = [Secret { name: "s".into(), said: said.into() }];
            let named = mentioning(&secrets, std::iter::once(&resource));
            assert_eq!(named.keys().next().map_or("", String::as_str), want, "{said}");
            assert!(named.len() < 2, "{named:?}");
        }
    }
}
