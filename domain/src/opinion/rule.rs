//! The managed rules, and what they can say.

use serde::{Deserialize, Serialize};

/// A managed rule of AWS Config about encryption (Config guide, "List of AWS Config Managed Rules").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// DB instances, members of clusters included.
    RdsStorageEncrypted,
    /// DB clusters.
    RdsClusterEncryptedAtRest,
    /// Manual snapshots of both.
    RdsSnapshotEncrypted,
}

impl Rule {
    /// All of them.
    pub const ALL: [Rule; 3] =
        [Rule::RdsStorageEncrypted, Rule::RdsClusterEncryptedAtRest, Rule::RdsSnapshotEncrypted];

    /// The name that AWS's pages give it.
    pub fn as_str(self) -> &'static str {
        match self {
            Rule::RdsStorageEncrypted => "rds-storage-encrypted",
            Rule::RdsClusterEncryptedAtRest => "rds-cluster-encrypted-at-rest",
            Rule::RdsSnapshotEncrypted => "rds-snapshot-encrypted",
        }
    }

    /// The `SourceIdentifier` by which a rule of any name is known.
    pub fn identifier(self) -> &'static str {
        match self {
            Rule::RdsStorageEncrypted => "RDS_STORAGE_ENCRYPTED",
            Rule::RdsClusterEncryptedAtRest => "RDS_CLUSTER_ENCRYPTED_AT_REST",
            Rule::RdsSnapshotEncrypted => "RDS_SNAPSHOT_ENCRYPTED",
        }
    }

    /// The rule of that identifier.
    pub fn of(identifier: &str) -> Option<Rule> {
        Rule::ALL.into_iter().find(|r| r.identifier() == identifier)
    }

    /// The types of resources that it judges; a recorder must see them all.
    pub fn judges(self) -> &'static [&'static str] {
        match self {
            Rule::RdsStorageEncrypted => &["AWS::RDS::DBInstance"],
            Rule::RdsClusterEncryptedAtRest => &["AWS::RDS::DBCluster"],
            Rule::RdsSnapshotEncrypted => &["AWS::RDS::DBSnapshot", "AWS::RDS::DBClusterSnapshot"],
        }
    }

    /// Whether it judges what a scan reads, so that the two can be compared.
    pub fn about_databases(self) -> bool {
        self != Rule::RdsSnapshotEncrypted
    }
}

/// What Config says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// In one of the rules, not.
    NonCompliant,
    /// Yes.
    Compliant,
    /// The rule is there and has not judged.
    NoData,
    /// No such rule is there.
    NoRule,
    /// The recorder does not see such resources: whatever the rule says is old or empty.
    Blind,
    /// Config was asked and did not answer.
    Unread,
}

impl Verdict {
    /// The name in JSON and on screen.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::NonCompliant => "non-compliant",
            Verdict::Compliant => "compliant",
            Verdict::NoData => "no-data",
            Verdict::NoRule => "no-rule",
            Verdict::Blind => "blind",
            Verdict::Unread => "unread",
        }
    }

    /// The worst comes first: what is not known is never covered by what is compliant.
    pub(super) fn order(&self) -> u8 {
        match self {
            Verdict::Blind | Verdict::Unread => 0,
            Verdict::NonCompliant => 1,
            Verdict::NoRule => 2,
            Verdict::NoData => 3,
            Verdict::Compliant => 4,
        }
    }
}
