//! Whether a policy would stop our own remediation: a fence that keeps out whoever mends it ends the work.

use crate::history::{Replay, ask};
use crate::iam::scp::Verdict;
use crate::iam::{Context, Request};
use std::collections::{BTreeMap, BTreeSet};

/// With what keys a call of ours shows to policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// With those of every call.
    Plain,
    /// A restore of an instance, or a member of a cluster: it names no `StorageEncrypted`, and shows it as false, also
    /// where it comes from an encrypted snapshot (aws-sdk-go-v2#2678) or cluster (aws-secure-environment-accelerator#105).
    Unnamed(&'static [&'static str]),
    /// What RDS does with the key in our name.
    ThroughRds,
}

const INSTANCES: &[&str] = &[
    "postgres",
    "mysql",
    "mariadb",
    "oracle-ee",
    "oracle-se2",
    "sqlserver-ee",
    "sqlserver-se",
    "db2-se",
];
const MEMBERS: &[&str] = &["aurora-mysql", "aurora-postgresql"];

/// Every call of our own that a policy must not take away: with them goes the way to encrypt, and with AssumeRole the
/// way in.
pub const OUR_CALLS: &[&str] = &[
    "account:ListRegions",
    "cloudtrail:LookupEvents",
    "cloudwatch:GetMetricData",
    "ec2:CreateSecurityGroup",
    "ec2:CreateTags",
    "ec2:DescribeSecurityGroups",
    "ec2:RevokeSecurityGroupEgress",
    "iam:PassRole",
    "kms:CreateGrant",
    "kms:Decrypt",
    "kms:DescribeKey",
    "kms:GenerateDataKey",
    "rds:AddRoleToDBCluster",
    "rds:AddRoleToDBInstance",
    "rds:AddTagsToResource",
    "rds:CopyDBSnapshot",
    "rds:CreateBlueGreenDeployment",
    "rds:CreateDBClusterEndpoint",
    "rds:CreateDBClusterSnapshot",
    "rds:CreateDBInstance",
    "rds:CreateDBInstanceReadReplica",
    "rds:CreateDBSnapshot",
    "rds:CreateTenantDatabase",
    "rds:DeleteBlueGreenDeployment",
    "rds:DeleteDBCluster",
    "rds:DeleteDBClusterEndpoint",
    "rds:DeleteDBClusterSnapshot",
    "rds:DeleteDBInstance",
    "rds:DeleteDBSnapshot",
    "rds:DescribeBlueGreenDeployments",
    "rds:DescribeDBClusterSnapshots",
    "rds:DescribeDBClusters",
    "rds:DescribeDBInstances",
    "rds:DescribeDBSnapshots",
    "rds:ModifyDBCluster",
    "rds:ModifyDBInstance",
    "rds:PromoteReadReplica",
    "rds:PromoteReadReplicaDBCluster",
    "rds:RebootDBInstance",
    "rds:RestoreDBClusterFromSnapshot",
    "rds:RestoreDBInstanceFromDBSnapshot",
    "rds:StartDBCluster",
    "rds:StartDBInstance",
    "rds:StopDBCluster",
    "rds:StopDBInstance",
    "rds:SwitchoverBlueGreenDeployment",
    "secretsmanager:CreateSecret",
    "secretsmanager:RotateSecret",
    "secretsmanager:TagResource",
    "sts:AssumeRole",
    "sts:SetSourceIdentity",
];

/// Calls of scans, plans and keys beside these.
pub const OUR_OTHER_CALLS: &[&str] = &[
    "cloudwatch:DescribeAlarms",
    "config:DescribeComplianceByConfigRule",
    "config:DescribeConfigRules",
    "config:DescribeConfigurationRecorderStatus",
    "config:DescribeConfigurationRecorders",
    "config:GetComplianceDetailsByConfigRule",
    "iam:GetAccountAuthorizationDetails",
    "kms:CreateAlias",
    "kms:CreateKey",
    "kms:EnableKeyRotation",
    "kms:GetKeyPolicy",
    "kms:GetKeyRotationStatus",
    "kms:ListGrants",
    "kms:ListKeys",
    "kms:ListResourceTags",
    "kms:PutKeyPolicy",
    "kms:TagResource",
    "rds:DescribeAccountAttributes",
    "rds:DescribeDBClusterEndpoints",
    "rds:DescribeDBProxies",
    "rds:DescribeDBProxyTargets",
    "rds:DescribeDBSnapshotAttributes",
    "rds:DescribeEventSubscriptions",
    "rds:ListTagsForResource",
    "secretsmanager:ListSecrets",
];

fn shown(action: &str) -> Shown {
    match action {
        "rds:RestoreDBInstanceFromDBSnapshot" => Shown::Unnamed(INSTANCES),
        "rds:CreateDBInstance" => Shown::Unnamed(MEMBERS),
        "kms:CreateGrant" | "kms:Decrypt" | "kms:GenerateDataKey" => Shown::ThroughRds,
        _ => Shown::Plain,
    }
}

/// What a policy says of our own calls: the calls, by why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Own {
    /// It denies these.
    pub denied: BTreeMap<String, BTreeSet<&'static str>>,
    /// Whether it denies these depends on what is not known before they are made.
    pub unknown: BTreeMap<String, BTreeSet<&'static str>>,
}

impl Own {
    /// What it denies, for people; empty if nothing.
    pub fn refusals(&self) -> Vec<String> {
        let said = |(why, calls): (&String, &BTreeSet<&str>)| {
            format!(
                "it would deny Ringfence's own role {}: {why}; leave them out, or exempt the role (ArnNotLike on aws:PrincipalArn)",
                list(calls)
            )
        };
        self.denied.iter().map(said).collect()
    }

    /// What it may deny.
    pub fn warnings(&self) -> Vec<String> {
        let said = |(why, calls): (&String, &BTreeSet<&str>)| {
            format!(
                "whether it denies Ringfence's own role {} cannot be told before: {why}",
                list(calls)
            )
        };
        self.unknown.iter().map(said).collect()
    }
}

/// The first few of them.
fn list(calls: &BTreeSet<&str>) -> String {
    const NAMED: usize = 5;
    let named: Vec<&str> = calls.iter().take(NAMED).copied().collect();
    match calls.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more calls", named.join(", ")),
    }
}

/// What the server calls, where its own account is bound: a delegated administrator's can be. Without them nobody takes the
/// policy off again.
const SERVER_CALLS: &[&str] = &[
    "organizations:AttachPolicy",
    "organizations:CreatePolicy",
    "organizations:DescribeOrganization",
    "organizations:DescribePolicy",
    "organizations:DetachPolicy",
    "organizations:ListAccountsForParent",
    "organizations:ListOrganizationalUnitsForParent",
    "organizations:ListParents",
    "organizations:ListPolicies",
    "organizations:ListPoliciesForTarget",
    "organizations:ListRoots",
    "organizations:ListTargetsForPolicy",
    "sts:AssumeRole",
];

/// Puts all our calls, as that role makes them, before a policy.
pub fn own(policy: &Replay, role: &str) -> Own {
    asked(policy, role, OUR_CALLS.iter().chain(OUR_OTHER_CALLS))
}

/// The same of the server's calls, by its caller's ARN: of a session, its role's counts.
pub fn of_server(policy: &Replay, caller: &str) -> Own {
    let parts: Vec<&str> = caller.split([':', '/']).collect();
    let role = match parts[..] {
        ["arn", partition, "sts", "", account, "assumed-role", name, ..] => {
            format!("arn:{partition}:iam::{account}:role/{name}")
        }
        _ => caller.to_owned(),
    };
    asked(policy, &role, SERVER_CALLS.iter())
}

fn asked<'a>(policy: &Replay, role: &str, actions: impl Iterator<Item = &'a &'static str>) -> Own {
    let mut own = Own::default();
    for action in actions {
        for request in requests(action, role) {
            let (into, reasons) = match ask(policy, &request) {
                Verdict::Allowed => continue,
                Verdict::Denied(reasons) => (&mut own.denied, reasons),
                Verdict::Unknown(reasons) => (&mut own.unknown, reasons),
            };
            for reason in &reasons {
                into.entry(reason.short()).or_default().insert(action);
            }
        }
    }
    // What is denied for sure is not said to be unknown, too.
    let denied: BTreeSet<&str> = own.denied.values().flatten().copied().collect();
    own.unknown.values_mut().for_each(|calls| calls.retain(|c| !denied.contains(c)));
    own.unknown.retain(|_, calls| !calls.is_empty());
    own
}

fn requests(action: &str, role: &str) -> Vec<Request> {
    let mut parts = role.split(':').skip(1);
    let partition = parts.next().unwrap_or("aws");
    let account = parts.nth(2).unwrap_or_default();
    let (service, _) = action.split_once(':').unwrap_or_default();
    let context = Context::default()
        .with("aws:PrincipalArn", role)
        .with("aws:PrincipalAccount", account)
        .with("aws:PrincipalType", "AssumedRole")
        .with("aws:PrincipalIsAWSService", "false")
        .with("aws:SecureTransport", "true");
    let direct = || context.clone().with("aws:ViaAWSService", "false").without("aws:CalledVia");
    let on = |resource: &str, context| Request {
        action: action.to_owned(),
        resource: format!("arn:{partition}:{service}:*:{account}:{resource}"),
        context,
    };
    match shown(action) {
        Shown::Plain => vec![on("*", direct())],
        Shown::ThroughRds => vec![on("*", context.clone())],
        Shown::Unnamed(engines) => {
            let database = |engine: &&str| {
                let keys = direct().with("rds:StorageEncrypted", "false");
                on("db:*", keys.with("rds:DatabaseEngine", engine))
            };
            // Only the database carries the key.
            let beside = on("subgrp:*", direct().without("rds:StorageEncrypted"));
            engines.iter().map(database).chain([beside]).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::replay;
    use serde_json::{Value, json};

    #[test]
    fn a_server_that_is_bound_keeps_its_way_back() {
        let text = json!({"Version": "2012-10-17", "Statement": [{"Sid": "NoOrg", "Effect": "Deny",
            "Action": "organizations:Detach*", "Resource": "*",
            "Condition": {"ArnNotLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/admins"}}}]});
        let policy = replay("p", &text.to_string()).unwrap();
        let denied = |caller: &str| {
            let own = of_server(&policy, caller);
            own.denied.into_values().flatten().collect::<Vec<_>>()
        };
        let session = |role: &str| format!("arn:aws:sts::111122223333:assumed-role/{role}/i-1");
        assert_eq!(denied(&session("ringfence")), ["organizations:DetachPolicy"]);
        assert_eq!(denied("arn:aws:iam::111122223333:user/x"), ["organizations:DetachPolicy"]);
        assert!(denied(&session("admins")).is_empty());
    }

    const ROLE: &str = "arn:aws:iam::111122223333:role/RingfenceRemediation";

    fn asked(statement: Value) -> Own {
        let mut statement = statement;
        (statement["Effect"], statement["Resource"]) = ("Deny".into(), "*".into());
        let text = json!({"Version": "2012-10-17", "Statement": [statement]}).to_string();
        own(&replay("p", &text).unwrap(), ROLE)
    }

    #[test]
    fn the_built_in_policy_lets_us_work() {
        let built_in = replay("p", crate::scp::RDS_ENCRYPTION).unwrap();
        assert_eq!(own(&built_in, ROLE), Own::default());
    }

    #[test]
    fn a_policy_that_stops_us_is_known_by_its_statement() {
        let unencrypted = || json!({"Bool": {"rds:StorageEncrypted": "false"}});
        let exempt =
            json!({"ArnNotLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/RingfenceRemediation"}});
        for (statement, denied, unknown) in [
            (json!({"Action": "s3:*"}), "", ""),
            (json!({"Action": "sts:AssumeRole"}), "sts:AssumeRole", ""),
            // The restore of an encrypted snapshot shows as not encrypted (aws-sdk-go-v2#2678).
            (
                json!({"Action": "rds:Restore*", "Condition": unencrypted()}),
                "rds:RestoreDBInstanceFromDBSnapshot",
                "rds:RestoreDBClusterFromSnapshot",
            ),
            (
                json!({"Action": "rds:CreateDBInstance", "Condition": unencrypted()}),
                "rds:CreateDBInstance",
                "",
            ),
            (json!({"Action": ["RDS:copydb*"], "Condition": {}}), "rds:CopyDBSnapshot", ""),
            (json!({"Action": "rds:Restore*", "Condition": exempt}), "", ""),
            (
                json!({"Action": "kms:Decrypt", "Condition": {"StringNotEquals": {"aws:RequestedRegion": "eu-west-1"}}}),
                "",
                "kms:Decrypt",
            ),
        ] {
            let own = asked(statement.clone());
            let names = |calls: &BTreeMap<String, BTreeSet<&str>>| {
                calls.values().flatten().copied().collect::<Vec<_>>().join(" ")
            };
            assert_eq!(
                (names(&own.denied), names(&own.unknown)),
                (denied.into(), unknown.into()),
                "{statement}"
            );
            assert_eq!(own.refusals().is_empty(), denied.is_empty());
            assert_eq!(own.warnings().is_empty(), unknown.is_empty());
        }
        let all = asked(json!({"Action": "*"}));
        let ours = OUR_CALLS.len() + OUR_OTHER_CALLS.len();
        assert_eq!(all.denied.values().flatten().count(), ours);
        let more = format!("and {} more calls", ours - 5);
        assert!(all.refusals()[0].contains(&more), "{:?}", all.refusals());
    }
}
