//! The databases of one unit, each original with its twin, and what is seen of them.
//!
//! After a swap a name is another database's, so both are found by their immutable ids.

use super::green::old_name;
use super::names::NAME_MAX;
use super::{Remediation, twin_name};
use crate::far;
use crate::finding::{Kind, Resource};
use crate::hash;
use crate::rds::{Cluster, Encryption, Instance, Sweep};
use std::collections::BTreeSet;

/// What the names of held originals end with.
fn held_suffix(resource_id: &str) -> String {
    format!("-unencrypted-{}", hash::short(resource_id, 8))
}

/// The name of an original whose twin has its own: `<name>-unencrypted-` and 8 hex digits of the SHA-256
/// of its resource id; the name is cut where that is over 63 characters.
pub fn held_name(id: &str, resource_id: &str) -> String {
    let suffix = held_suffix(resource_id);
    let cut: String = far::name(id).chars().take(NAME_MAX - suffix.len()).collect();
    far::renamed(id, &format!("{}{suffix}", cut.trim_end_matches('-')))
}

/// Snapshots have no security groups.
static NO_GROUPS: BTreeSet<String> = BTreeSet::new();

/// Whether a database of that name and id is an original whose twin has its name.
pub fn is_held(name: &str, resource_id: &str) -> bool {
    name.ends_with(&held_suffix(resource_id))
}

/// One database of a unit, or its old snapshot, as planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part<'a> {
    /// A cluster, a snapshot, or an instance: members and replicas are instances.
    pub kind: Kind,
    /// The original's name.
    pub id: &'a str,
    /// Its ARN.
    pub arn: &'a str,
    /// Its immutable id.
    pub resource_id: &'a str,
    /// The twin's name until the swap, and after a way back.
    pub twin: String,
    /// The original's name after the swap.
    pub held: String,
    /// The intent that made the twin.
    pub key: String,
    /// The security groups and the deletion protection that it had; `None` for members of a cluster, whose
    /// cluster has them.
    pub own: Option<(&'a BTreeSet<String>, bool)>,
    /// Whether clients write to it: connections to it are what a proof looks at.
    pub written: bool,
}

impl Remediation {
    /// What a decommission would delete: the original under the name that it has once its twin has its own, or
    /// the old snapshot; empty where nothing ever is.
    pub fn held(&self) -> String {
        match (self.kind, &self.swap) {
            (Kind::Snapshot, _) => self.source.name().to_owned(),
            (_, Some(_)) => self.parts().into_iter().next().map(|p| p.held).unwrap_or_default(),
            (_, None) => String::new(),
        }
    }

    /// The databases of the unit: the instance and its replicas, each after its source; or the cluster and
    /// its members, the writer first.
    pub fn parts(&self) -> Vec<Part<'_>> {
        let mut parts = self.planned_parts();
        let Some(green) = self.green() else { return parts };
        // Their names are AWS's choice.
        for part in &mut parts {
            part.twin =
                green.twins.get(part.resource_id).map(|t| t.name.clone()).unwrap_or_default();
            let held = green.held.get(part.resource_id).cloned();
            part.held = held.unwrap_or_else(|| old_name(part.id));
        }
        parts
    }

    fn planned_parts(&self) -> Vec<Part<'_>> {
        match &self.source {
            Resource::Instance { instance: main, replicas } => {
                let mut parts = vec![part(main, "twin")];
                parts
                    .extend(replicas.iter().map(|r| Part { written: false, ..part(r, "replica") }));
                parts
            }
            Resource::Cluster { cluster, members } => {
                let settings = &cluster.settings;
                let mut parts = vec![Part {
                    kind: Kind::Cluster,
                    id: &cluster.id,
                    arn: &cluster.arn,
                    resource_id: &cluster.resource_id,
                    twin: twin_name(&cluster.id, &cluster.resource_id),
                    held: held_name(&cluster.id, &cluster.resource_id),
                    key: "twin".into(),
                    own: Some((&settings.vpc_security_group_ids, settings.deletion_protection)),
                    written: false,
                }];
                let order = writer_first(cluster, members);
                parts.extend(order.into_iter().map(|m| Part { own: None, ..part(m, "member") }));
                parts
            }
            Resource::Snapshot { snapshot, .. } => vec![Part {
                kind: Kind::Snapshot,
                id: &snapshot.id,
                arn: &snapshot.arn,
                resource_id: &snapshot.resource_id,
                twin: self.names.twin.clone(),
                held: snapshot.id.clone(),
                key: "copy".into(),
                own: None,
                written: false,
            }],
        }
    }
}

/// An instance; `kind` is what the intent that makes its twin begins with.
fn part<'a>(i: &'a Instance, kind: &str) -> Part<'a> {
    let twin = twin_name(&i.id, &i.resource_id);
    Part {
        key: if kind == "twin" { kind.to_owned() } else { format!("{kind} {twin}") },
        kind: Kind::Instance,
        id: &i.id,
        arn: &i.arn,
        resource_id: &i.resource_id,
        twin,
        held: held_name(&i.id, &i.resource_id),
        own: Some((&i.settings.vpc_security_group_ids, i.settings.deletion_protection)),
        written: true,
    }
}

/// The members in the order in which their twins are made: whoever comes first becomes the writer.
pub(super) fn writer_first<'a>(spec: &Cluster, members: &'a [Instance]) -> Vec<&'a Instance> {
    let writer = spec.members.iter().find(|m| m.writer).map(|m| m.id.as_str());
    let mut order: Vec<&Instance> = members.iter().collect();
    order.sort_by_key(|m| (Some(m.id.as_str()) != writer, m.id.clone()));
    order
}

/// One database as it is seen, whatever its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Db<'a> {
    pub(super) kind: Kind,
    pub(super) id: &'a str,
    pub(super) resource_id: &'a str,
    pub(super) status: &'a str,
    pub(super) encryption: &'a Encryption,
    pub(super) kms_key: Option<&'a str>,
    pub(super) groups: &'a BTreeSet<String>,
    pub(super) protected: bool,
    pub(super) pending: &'a [String],
    pub(super) made_by: Option<&'a str>,
}

impl Db<'_> {
    /// Whether it is available and nothing is being applied to it.
    pub(super) fn settled(&self) -> bool {
        self.status == "available" && self.pending.is_empty()
    }

    /// What it is doing, for people.
    pub(super) fn doing(&self) -> String {
        match self.pending {
            [] => self.status.to_owned(),
            pending => format!("{}, {} being applied", self.status, pending.join(", ")),
        }
    }
}

/// The database with that immutable id.
pub(super) fn find<'a>(seen: &'a Sweep, kind: Kind, resource_id: &str) -> Option<Db<'a>> {
    match kind {
        Kind::Instance => {
            seen.instances.iter().find(|i| i.resource_id == resource_id).map(|i| Db {
                kind,
                id: &i.id,
                resource_id: &i.resource_id,
                status: &i.status,
                encryption: &i.encryption,
                kms_key: i.kms_key.as_deref(),
                groups: &i.settings.vpc_security_group_ids,
                protected: i.settings.deletion_protection,
                pending: &i.pending,
                made_by: i.made_by.as_deref(),
            })
        }
        Kind::Cluster => seen.clusters.iter().find(|c| c.resource_id == resource_id).map(|c| Db {
            kind,
            id: &c.id,
            resource_id: &c.resource_id,
            status: &c.status,
            encryption: &c.encryption,
            kms_key: c.kms_key.as_deref(),
            groups: &c.settings.vpc_security_group_ids,
            protected: c.settings.deletion_protection,
            pending: &c.pending,
            made_by: c.made_by.as_deref(),
        }),
        Kind::Snapshot => {
            seen.snapshots.iter().find(|s| s.resource_id == resource_id).map(|s| Db {
                kind,
                id: &s.id,
                resource_id: &s.resource_id,
                status: &s.status,
                encryption: &s.encryption,
                kms_key: s.kms_key.as_deref(),
                groups: &NO_GROUPS,
                protected: false,
                pending: &[],
                made_by: s.made_by.as_deref(),
            })
        }
    }
}

/// The immutable id of the database that bears that name.
pub(super) fn bearer<'a>(seen: &'a Sweep, kind: Kind, name: &str) -> Option<&'a str> {
    match kind {
        Kind::Cluster => seen.cluster(name).map(|c| c.resource_id.as_str()),
        Kind::Instance | Kind::Snapshot => seen.instance(name).map(|i| i.resource_id.as_str()),
    }
}

/// An original with its twin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pair<'a> {
    pub(super) part: Part<'a>,
    pub(super) source: Db<'a>,
    pub(super) twin: Db<'a>,
}

/// The original of a part; or that it is not there.
pub(super) fn original<'a>(part: &Part<'_>, seen: &'a Sweep) -> Result<Db<'a>, String> {
    let gone = || format!("the original {} ({}) is gone", part.id, part.resource_id);
    find(seen, part.kind, part.resource_id).ok_or_else(gone)
}

/// The id of the twin of a part, as recorded when it was made.
pub(super) fn twin_id<'a>(rem: &'a Remediation, part: &Part<'_>) -> Option<&'a str> {
    match rem.green() {
        Some(green) => green.twins.get(part.resource_id).map(|t| t.resource_id.as_str()),
        None => rem.intents.get(&part.key).and_then(|i| i.resource_id.as_deref()),
    }
}

/// The twin of a part, by its recorded id and our tag.
pub(super) fn twin<'a>(
    rem: &Remediation,
    part: &Part<'_>,
    seen: &'a Sweep,
) -> Result<Db<'a>, String> {
    let none = || format!("there is no record of which database is the twin of {}", part.id);
    let id = twin_id(rem, part).ok_or_else(none)?;
    // Once it has the name, the id is who it is: owners' tools take foreign tags off.
    // And AWS puts no tag of ours on green ones.
    let ours =
        |db: &Db<'_>| rem.placed() || rem.green().is_some() || db.made_by == Some(rem.id.as_str());
    let found = find(seen, part.kind, id).filter(ours);
    found.ok_or_else(|| {
        format!("the twin of {} ({id}) is gone, or has lost its tag: nothing is renamed", part.id)
    })
}

/// All originals with their twins, by their recorded ids; or which is not there.
pub(super) fn pairs<'a>(rem: &'a Remediation, seen: &'a Sweep) -> Result<Vec<Pair<'a>>, String> {
    let pair = |part: Part<'a>| {
        let source = original(&part, seen)?;
        let twin = twin(rem, &part, seen)?;
        Ok(Pair { part, source, twin })
    };
    rem.parts().into_iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_names_fit_and_stay_apart() {
        let name = held_name("orders", "db-A");
        assert!(name.starts_with("orders-unencrypted-") && name.len() == 27, "{name}");
        let long = format!("{}-{}", "a".repeat(41), "b".repeat(21));
        let (a, b) = (held_name(&long, "db-A"), held_name(&long, "db-B"));
        assert!(a != b && a.len() <= NAME_MAX && !a.contains("--"), "{a} {b}");
    }
}
