//! Security groups that let nobody in: where a twin stands until its cutover, and where an original is cut off.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The tag of a group that Ringfence made.
pub const TAG: &str = "ringfence:isolation";

/// What is said of isolation groups in the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Isolation {
    /// The one of each VPC that was named (`remediation.isolation_groups`).
    pub groups: BTreeMap<String, String>,
    /// How it is called in all others (`remediation.isolation_name`); no two groups of a VPC share a name (EC2 API
    /// reference, CreateSecurityGroup).
    pub name: String,
}

/// A security group, as far as isolation is about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// `sg-...`
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its VPC.
    pub vpc: String,
    /// Its inbound rules, in words.
    pub lets_in: Vec<String>,
    /// Its outbound rules, in words.
    pub lets_out: Vec<String>,
    /// Whether it has our tag.
    pub ours: bool,
}

/// A group that is to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewGroup {
    /// In this VPC.
    pub vpc: String,
    /// Under this name.
    pub name: String,
}

impl Group {
    /// Why it isolates nobody; `None` if nobody gets in.
    pub fn open(&self) -> Option<String> {
        let Group { id, name, lets_in, .. } = self;
        (!lets_in.is_empty())
            .then(|| format!("{id} ({name}) lets in {}, so it isolates nobody", lets_in.join(", ")))
    }
}
