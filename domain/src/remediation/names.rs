//! What a remediation calls what it makes.

use super::snapshot;
use crate::far;
use crate::finding::Resource;
use crate::hash;
use serde::{Deserialize, Serialize};

/// RDS's bound on the names of instances and clusters (API reference, CreateDBInstance).
pub(super) const NAME_MAX: usize = 63;

/// The names of what a remediation makes. Functions of the source and the remediation, so that a
/// repeat finds its own work instead of making it twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// The plain snapshot.
    pub snapshot: String,
    /// The encrypted copy of it.
    pub copy: String,
    /// The twin.
    pub twin: String,
}

/// The name of what is made of a resource: its twin's, or its copy's.
pub fn name_of_twin(resource: &Resource) -> String {
    match resource {
        Resource::Instance { .. } | Resource::Cluster { .. } => {
            twin_name(resource.name(), resource.resource_id())
        }
        Resource::Snapshot { snapshot, .. } => {
            snapshot::copy_name(&snapshot.id, &snapshot.resource_id)
        }
    }
}

/// The twin's name: `encrypted-<name>`; over 63 characters the name is cut, trimmed of `-`, and `-`
/// with 8 hex digits of the SHA-256 of the source's resource id follows. A twin is in its original's region.
pub fn twin_name(id: &str, resource_id: &str) -> String {
    let whole = format!("encrypted-{}", far::name(id));
    if whole.len() <= NAME_MAX {
        return far::renamed(id, &whole);
    }
    let cut: String = whole.chars().take(NAME_MAX - 9).collect();
    let short = format!("{}-{}", cut.trim_end_matches('-'), hash::short(resource_id, 8));
    far::renamed(id, &short)
}

impl Names {
    /// The names for one source and one remediation.
    pub fn new(remediation: &str, resource: &Resource) -> Names {
        Names {
            snapshot: format!("ringfence-{remediation}-plain"),
            copy: format!("ringfence-{remediation}-enc"),
            twin: name_of_twin(resource),
        }
    }

    /// The names after it began again so often.
    pub fn again(remediation: &str, resource: &Resource, rounds: u32) -> Names {
        let names = Names::new(remediation, resource);
        let (snapshot, copy) =
            (format!("{}-{rounds}", names.snapshot), format!("{}-{rounds}", names.copy));
        Names { snapshot, copy, ..names }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twin_names_fit_and_stay_apart() {
        assert_eq!(twin_name("orders", "db-A"), "encrypted-orders");
        let long = "a".repeat(63);
        let (a, b) = (twin_name(&long, "db-A"), twin_name(&long, "db-B"));
        assert!(a.len() == 63 && b.len() == 63 && a != b, "{a} {b}");
        assert_eq!(a, twin_name(&long, "db-A"));
        let dashed = format!("{}-{}", "a".repeat(43), "b".repeat(19));
        let name = twin_name(&dashed, "db-A");
        assert!(!name.contains("--"), "RDS refuses two hyphens in a row: {name}");
    }
}
