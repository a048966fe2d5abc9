//! The service control policy: the built-in one, a lint, and what counts against AWS's size limit.

use crate::iam::pattern::{covers, literal, lower, pattern};
use serde_json::Value;

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

/// The calls of our own remediation that an SCP must not take away: with them goes the way to
/// encrypt, and with AssumeRole the way in.
pub(crate) const OUR_CALLS: &[&str] = &[
    "sts:AssumeRole",
    "sts:SetSourceIdentity",
    "account:ListRegions",
    "iam:PassRole",
    "kms:Decrypt",
    "kms:GenerateDataKey",
    "rds:CreateDBInstance",
    "rds:CreateTenantDatabase",
    "rds:DeleteDBCluster",
    "secretsmanager:CreateSecret",
    "secretsmanager:TagResource",
    "secretsmanager:RotateSecret",
    "rds:DescribeDBInstances",
    "rds:DescribeDBClusters",
    "rds:DescribeDBSnapshots",
    "rds:DescribeDBClusterSnapshots",
    "rds:CreateDBSnapshot",
    "rds:CopyDBSnapshot",
    "rds:RestoreDBInstanceFromDBSnapshot",
    "rds:ModifyDBInstance",
    "rds:CreateDBClusterSnapshot",
    "rds:RestoreDBClusterFromSnapshot",
    "rds:ModifyDBCluster",
    "rds:AddRoleToDBInstance",
    "rds:AddRoleToDBCluster",
    "rds:CreateDBClusterEndpoint",
    "rds:AddTagsToResource",
    "rds:DeleteDBSnapshot",
    "rds:DeleteDBClusterSnapshot",
    "kms:DescribeKey",
    "kms:CreateGrant",
];

/// A policy that passed the lint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The document without white space: SDKs save it as sent, and AWS counts white space.
    pub minified: String,
    /// What people should know before they approve.
    pub warnings: Vec<String>,
}

/// Checks a policy document: strict JSON, the elements that SCPs have, a Deny-only policy that does
/// not take our own remediation away.
pub fn lint(document: &str) -> Result<Policy, String> {
    let value: Value =
        serde_json::from_str(document).map_err(|e| format!("the policy is not JSON: {e}"))?;
    let Value::Object(top) = &value else {
        return Err("the policy is not a JSON object".into());
    };
    for key in top.keys() {
        if !["Version", "Id", "Statement"].contains(&key.as_str()) {
            return Err(format!("the policy has an element `{key}`, which SCPs do not have"));
        }
    }
    if top.get("Version").and_then(Value::as_str) != Some("2012-10-17") {
        return Err("the policy needs \"Version\": \"2012-10-17\"".into());
    }
    let statements = match top.get("Statement") {
        Some(Value::Array(list)) if !list.is_empty() => list.iter().collect(),
        Some(one @ Value::Object(_)) => vec![one],
        _ => return Err("the policy needs a Statement".into()),
    };
    let mut warnings = Vec::new();
    for (i, statement) in statements.into_iter().enumerate() {
        lint_statement(statement, &mut warnings)
            .map_err(|e| format!("statement {} of the policy: {e}", i + 1))?;
    }
    Ok(Policy { minified: value.to_string(), warnings })
}

fn lint_statement(statement: &Value, warnings: &mut Vec<String>) -> Result<(), String> {
    const KNOWN: &[&str] =
        &["Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"];
    let Value::Object(map) = statement else {
        return Err("it is not a JSON object".into());
    };
    for key in map.keys() {
        if !KNOWN.contains(&key.as_str()) {
            return Err(format!("it has `{key}`, which SCPs do not support"));
        }
    }
    match map.get("Effect").and_then(Value::as_str) {
        Some("Deny") => {}
        // An Allow beside FullAWSAccess changes nothing, and in its place it locks accounts out:
        // either way it is not what a staged fence is for.
        Some("Allow") => {
            return Err("Effect is Allow; Ringfence rolls out Deny policies only".into());
        }
        _ => return Err("Effect must be \"Deny\"".into()),
    }
    let actions = match (map.get("Action"), map.get("NotAction")) {
        (Some(actions), None) => texts(actions)?,
        (None, Some(_)) => {
            return Err("NotAction denies all but a few calls, our remediation's among them; name the actions".into());
        }
        _ => return Err("it needs Action".into()),
    };
    if !map.contains_key("Resource") && !map.contains_key("NotResource") {
        return Err("it needs Resource".into());
    }
    let conditional =
        map.get("Condition").is_some_and(|c| c.as_object().is_some_and(|o| !o.is_empty()));
    for call in OUR_CALLS {
        if actions.iter().any(|a| covers(&lower(&pattern(a)), &lower(&literal(call)))) {
            if !conditional {
                return Err(format!(
                    "it denies {call} without a condition, which Ringfence itself needs to remediate"
                ));
            }
            warnings.push(format!("it denies {call} under a condition: make sure that it does not hold for Ringfence's role"));
        }
    }
    Ok(())
}

fn texts(value: &Value) -> Result<Vec<String>, String> {
    let list = match value {
        Value::String(one) => vec![one.clone()],
        Value::Array(list) => list
            .iter()
            .map(|v| v.as_str().map(str::to_owned).ok_or("Action must be text"))
            .collect::<Result<_, _>>()?,
        _ => return Err("Action must be text or a list of texts".into()),
    };
    match list.iter().find(|a| *a != "*" && !a.contains(':')) {
        Some(bad) => Err(format!("`{bad}` is not an action (service:Operation)")),
        None => Ok(list),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deny(rest: &str) -> String {
        format!(r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Deny",{rest}}}]}}"#)
    }

    #[test]
    fn the_built_in_policy_passes_and_is_small() {
        let policy = lint(RDS_ENCRYPTION).unwrap();
        // CreateDBInstance: of ours, only members of clusters, whose engines it exempts.
        assert_eq!(policy.warnings.len(), 1, "{:?}", policy.warnings);
        assert!(policy.minified.len() < 700 && !policy.minified.contains('\n'));
    }

    #[test]
    fn bad_policies_are_refused_with_the_reason() {
        for (document, want) in [
            ("{".to_owned(), "not JSON"),
            ("[]".to_owned(), "not a JSON object"),
            (r#"{"Statement":[]}"#.to_owned(), "Version"),
            (r#"{"Version":"2012-10-17"}"#.to_owned(), "needs a Statement"),
            (deny(r#""Action":"s3:*""#), "needs Resource"),
            (deny(r#""Resource":"*""#), "needs Action"),
            (deny(r#""Action":"s3:*","Resource":"*","Principal":"*""#), "Principal"),
            (deny(r#""NotAction":"s3:*","Resource":"*""#), "NotAction"),
            (deny(r#""Action":"*","Resource":"*""#), "sts:AssumeRole"),
            (
                deny(r#""Action":"rds:Restore*","Resource":"*""#),
                "rds:RestoreDBInstanceFromDBSnapshot",
            ),
            (deny(r#""Action":["RDS:describedb*"],"Resource":"*""#), "rds:DescribeDBInstances"),
            (deny(r#""Action":"everything","Resource":"*""#), "not an action"),
            (deny(r#""Action":"s3:*","Resource":"*""#).replace("Deny", "Allow"), "Allow"),
        ] {
            let error = lint(&document).unwrap_err();
            assert!(error.contains(want), "{document}: {error}");
        }
    }

    #[test]
    fn a_conditional_deny_of_our_calls_warns() {
        let condition = r#""Condition":{"Bool":{"rds:StorageEncrypted":"false"}}"#;
        let document = deny(&format!(r#""Action":"rds:ModifyDB*","Resource":"*",{condition}"#));
        assert_eq!(lint(&document).unwrap().warnings.len(), 2);
    }
}
