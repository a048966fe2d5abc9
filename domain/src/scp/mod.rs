//! The service control policy: the built-in one, what is wrong with one, what it covers, and whether it stops us.

mod built_in;
mod change;
mod coverage;
mod exempt;
mod lint;
mod own;

pub use built_in::{Parameters, rds_encryption};
pub use change::changes;
pub use coverage::{Covered, coverage, makes_database};
pub use exempt::exempt;
pub use lint::{Lint, Policy, lint, said};
pub use own::{OUR_CALLS, OUR_OTHER_CALLS, Own, of_server, own};

/// Denies creating unencrypted databases.
///
/// - `Bool` and not `BoolIfExists` or `Null`: one call is authorized against several resources (db,
///   og, pg, subgrp) and only `db` carries `rds:StorageEncrypted`; the other operators match where a
///   key is missing and would deny encrypted creates too (Service Authorization Reference, RDS).
/// - AWS sets the key to false when the parameter is omitted, so members of clusters, which never
///   send it, are exempted by engine and caught by the cluster's statement.
/// - Restores from snapshots are left out on purpose: they do not carry the key reliably, and listing
///   them has denied restores of encrypted snapshots (aws-sdk-go-v2#2678), which is our own work.
pub const RDS_ENCRYPTION: &str = r#"{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "DenyUnencryptedInstance",
      "Effect": "Deny",
      "Action": ["rds:CreateDBInstance", "rds:RestoreDBInstanceFromS3"],
      "Resource": "arn:*:rds:*:*:db:*",
      "Condition": {
        "Bool": {"rds:StorageEncrypted": "false"},
        "StringNotLike": {"rds:DatabaseEngine": ["aurora*", "docdb*", "neptune*", "custom-*"]}
      }
    },
    {
      "Sid": "DenyUnencryptedCluster",
      "Effect": "Deny",
      "Action": ["rds:CreateDBCluster", "rds:RestoreDBClusterFromS3"],
      "Resource": "*",
      "Condition": {"Bool": {"rds:StorageEncrypted": "false"}}
    }
  ]
}"#;
