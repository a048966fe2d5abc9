//! The policy of a key: whether it lets the member role use it through RDS, and the statements that do.
//!
//! What RDS needs of its caller is `kms:CreateGrant` and `kms:DescribeKey` (RDS guide, "Encrypting Amazon RDS
//! resources"); `kms:Decrypt` and `kms:GenerateDataKey` stand behind creates (Service Authorization Reference).

use super::judge::{NEEDED, lets};
use crate::hash;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// Whom a policy is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// `aws`, `aws-cn` ...
    pub partition: String,
    /// The account of role and key.
    pub account: String,
    /// The key's region.
    pub region: String,
    /// The role's ARN.
    pub role: String,
}

/// What a policy says of us.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lets {
    /// A statement for the role, or for everybody, lets it in.
    Named,
    /// It hands the decision to the account's IAM policies (a statement for the account's root).
    ByIam,
    /// It does not, and what is missing.
    No(String),
    /// It forbids it, by a statement that is not ours.
    Denied(String),
    /// Nobody can tell, and why: a condition that is not known here.
    Unclear(String),
}

/// What was read of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The SHA-256 of its text.
    pub hash: String,
    /// What it says of us.
    pub lets: Lets,
    /// Which of our statements it lacks; none where the role is let in by name, or kept out so.
    pub lacks: BTreeSet<String>,
}

const THROUGH_RDS: &str = "RingfenceThroughRds";
const GRANTS: &str = "RingfenceGrantsForAws";
const DESCRIBE: &str = "RingfenceDescribe";

/// Why a policy cannot be used.
fn broken(why: impl std::fmt::Display) -> String {
    format!("its policy is not what it should be: {why}")
}

/// Whether grants for these operations are all that is needed.
pub fn suffice(granted: &BTreeSet<String>) -> bool {
    NEEDED.iter().all(|(action, _)| {
        action.strip_prefix("kms:").is_some_and(|operation| granted.contains(operation))
    })
}

/// Reads a policy.
///
/// # Errors
/// It is no JSON object with statements.
pub fn read(text: &str, key: &str, caller: &Caller) -> Result<Facts, String> {
    let (statements, variables) = statements(text)?;
    let lets = lets((&statements, variables), key, caller);
    let lacks = match lets {
        Lets::Named | Lets::Denied(_) => BTreeSet::new(),
        Lets::ByIam | Lets::No(_) | Lets::Unclear(_) => {
            let ours = ours(caller);
            let lacks = ours.iter().filter(|s| !statements.contains(s));
            lacks.map(|s| s["Sid"].as_str().unwrap_or_default().to_owned()).collect()
        }
    };
    Ok(Facts { hash: hash::sha256(text.as_bytes()), lets, lacks })
}

/// Its statements, and whether its version has variables.
fn statements(text: &str) -> Result<(Vec<Value>, bool), String> {
    let policy: Map<String, Value> = serde_json::from_str(text).map_err(broken)?;
    let variables = policy.get("Version").and_then(Value::as_str) == Some("2012-10-17");
    match policy.get("Statement") {
        Some(Value::Array(all)) => Ok((all.clone(), variables)),
        Some(one @ Value::Object(_)) => Ok((vec![one.clone()], variables)),
        _ => Err(broken("it has no statements")),
    }
}

/// The policy of a new key: the account keeps it, for without this statement a key can become unmanageable (KMS
/// guide, "Default key policy"), and the role may use it through RDS.
pub fn new(caller: &Caller) -> String {
    let Caller { partition, account, .. } = caller;
    let root = json!({"Sid": "AccountKeepsIt", "Effect": "Allow",
        "Principal": {"AWS": format!("arn:{partition}:iam::{account}:root")},
        "Action": "kms:*", "Resource": "*"});
    let mut all = vec![root];
    all.extend(ours(caller));
    json!({"Version": "2012-10-17", "Id": "ringfence", "Statement": all}).to_string()
}

/// A policy with our statements as they should be; all others stay as they are.
///
/// # Errors
/// It is no JSON object with statements.
pub fn merged(text: &str, caller: &Caller) -> Result<String, String> {
    let mut policy: Map<String, Value> = serde_json::from_str(text).map_err(broken)?;
    let ours = ours(caller);
    let of_us = |s: &Value| ours.iter().any(|o| o["Sid"] == s["Sid"]);
    let mut all: Vec<Value> = statements(text)?.0.into_iter().filter(|s| !of_us(s)).collect();
    all.extend(ours.iter().cloned());
    policy.insert("Statement".to_owned(), Value::Array(all));
    Ok(Value::Object(policy).to_string())
}

/// Our three statements: use through RDS alone; grants only for AWS's own resources, so that the role cannot
/// hand the key on; and looking at it, which is not done through RDS.
fn ours(caller: &Caller) -> Vec<Value> {
    let Caller { partition, account, region, role } = caller;
    let service = format!("rds.{region}.{}", suffix(partition));
    let through = json!({"kms:ViaService": service, "kms:CallerAccount": account});
    vec![
        json!({"Sid": THROUGH_RDS, "Effect": "Allow", "Principal": {"AWS": role}, "Resource": "*",
            "Action": ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*"],
            "Condition": {"StringEquals": through}}),
        json!({"Sid": GRANTS, "Effect": "Allow", "Principal": {"AWS": role}, "Resource": "*",
            "Action": ["kms:CreateGrant", "kms:ListGrants", "kms:RevokeGrant"],
            "Condition": {"StringEquals": through, "Bool": {"kms:GrantIsForAWSResource": "true"}}}),
        json!({"Sid": DESCRIBE, "Effect": "Allow", "Principal": {"AWS": role}, "Resource": "*",
            "Action": "kms:DescribeKey"}),
    ]
}

/// Our statements, for people: with words where the cell's own stand.
pub(super) fn statements_of(role: &str) -> Vec<Value> {
    let word = |text: &str| text.to_owned();
    ours(&Caller {
        partition: word("PARTITION"),
        account: word("ACCOUNT"),
        region: word("REGION"),
        role: word(role),
    })
}

/// The domain of a partition's services (CloudFormation's `AWS::URLSuffix`).
pub(crate) fn suffix(partition: &str) -> &'static str {
    match partition {
        "aws-cn" => "amazonaws.com.cn",
        _ => "amazonaws.com",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLE: &str = "arn:aws:iam::111122223333:role/RingfenceRemediation";
    const KEY: &str = "arn:aws:kms:eu-west-1:111122223333:key/1";
    const ROOT: &str = "arn:aws:iam::111122223333:root";

    fn caller() -> Caller {
        Caller {
            partition: "aws".into(),
            account: "111122223333".into(),
            region: "eu-west-1".into(),
            role: ROLE.into(),
        }
    }

    fn said(statements: Value) -> &'static str {
        let text = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
        match read(&text, KEY, &caller()).unwrap().lets {
            Lets::Named => "named",
            Lets::ByIam => "iam",
            Lets::No(_) => "no",
            Lets::Denied(_) => "denied",
            Lets::Unclear(_) => "unclear",
        }
    }

    fn allow(who: &str, action: &str, condition: Value) -> Value {
        json!({"Effect": "Allow", "Principal": {"AWS": who}, "Action": action, "Resource": "*",
            "Condition": condition})
    }

    #[test]
    fn a_policy_is_asked_what_it_lets_the_role_do_through_rds() {
        let none = || json!({});
        let via = |service: &str| json!({"StringEquals": {"kms:ViaService": service}});
        let deny = |condition: Value| {
            json!([allow(ROLE, "kms:*", none()), {"Effect": "Deny", "Principal": "*",
                "Action": "kms:CreateGrant", "Resource": "*", "Condition": condition}])
        };
        for (statements, want) in [
            (json!([allow(ROOT, "kms:*", none())]), "iam"),
            (json!([allow("111122223333", "kms:*", none())]), "iam"),
            (json!(allow(ROLE, "kms:*", none())), "named"),
            (json!([allow("*", "*", none())]), "named"),
            (json!([allow("arn:aws:iam::111122223333:role/Other", "kms:*", none())]), "no"),
            (json!([allow(ROLE, "kms:Describe*", none())]), "no"),
            (json!([allow(ROLE, "kms:*", via("rds.eu-west-1.amazonaws.com"))]), "no"),
            (
                json!([
                    allow(ROLE, "kms:*", via("rds.eu-west-1.amazonaws.com")),
                    allow(ROLE, "kms:DescribeKey", none())
                ]),
                "named",
            ),
            (
                json!([
                    allow(ROLE, "kms:*", via("ec2.eu-west-1.amazonaws.com")),
                    allow(ROLE, "kms:DescribeKey", none())
                ]),
                "no",
            ),
            (
                json!([allow(
                    "*",
                    "kms:*",
                    json!({"StringEquals": {"aws:PrincipalOrgID": "o-1"}})
                )]),
                "unclear",
            ),
            (
                json!([
                    allow("*", "kms:*", json!({"StringEquals": {"aws:PrincipalOrgID": "o-1"}})),
                    allow(ROOT, "kms:*", none())
                ]),
                "iam",
            ),
            (deny(json!({"BoolIfExists": {"kms:GrantIsForAWSResource": "false"}})), "named"),
            (deny(json!({"Bool": {"kms:GrantIsForAWSResource": "true"}})), "denied"),
            (
                deny(json!({"ArnNotLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/Ring*"}})),
                "named",
            ),
            (
                deny(json!({"ArnNotLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/Admin"}})),
                "denied",
            ),
            (deny(json!({"Null": {"kms:ViaService": "True"}})), "named"),
            (deny(json!({"StringEquals": {"kms:CallerAccount": 111_122_223_333_u64}})), "denied"),
            (
                deny(json!({"StringNotEquals": {"kms:CallerAccount": "${aws:PrincipalAccount}"}})),
                "named",
            ),
            (
                deny(json!({"StringNotEquals": {"kms:CallerAccount": "${aws:PrincipalTag/team}"}})),
                "unclear",
            ),
            // Case counts, but for actions; a star in an ARN does not reach over a colon.
            (
                deny(json!({"ArnNotLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/ring*"}})),
                "denied",
            ),
            (
                deny(json!({"ArnNotLike": {"aws:PrincipalArn": "arn:aws:iam:*:*:role/ring*"}})),
                "denied",
            ),
            // Nobody says what an ARN of fewer parts means there.
            (deny(json!({"ArnNotLike": {"aws:PrincipalArn": "arn:aws:iam::*"}})), "unclear"),
            (json!([allow(ROLE, "KMS:*", none())]), "named"),
            (
                json!([allow(
                    "*",
                    "kms:*",
                    json!({"StringLike": {"aws:PrincipalArn": "*/ringfence*"}})
                )]),
                "no",
            ),
            (
                json!([allow(
                    "*",
                    "kms:*",
                    json!({"StringLike": {"aws:PrincipalArn": "*/Ring*Rem*"}})
                )]),
                "named",
            ),
            // About another key, or about none.
            (
                json!([{"Effect": "Allow", "Principal": {"AWS": ROLE}, "Action": "kms:*",
                "Resource": "arn:aws:kms:eu-west-1:111122223333:key/2"}]),
                "no",
            ),
            (json!([{"Effect": "Allow", "Principal": {"AWS": ROLE}, "Action": "kms:*"}]), "no"),
            (
                json!([{"Effect": "Allow", "Principal": {"AWS": ROLE}, "Action": "kms:*", "NotResource": "x"}]),
                "unclear",
            ),
            (
                json!([{"Effect": "Allow", "NotPrincipal": {"AWS": "x"}, "Action": "kms:*", "Resource": "*"}]),
                "unclear",
            ),
            (
                json!([allow(ROLE, "kms:*", none()), {"Effect": "Deny", "NotPrincipal": {"AWS": ROLE},
                "Action": "kms:*", "Resource": "*"}]),
                "unclear",
            ),
            (
                json!([allow(ROLE, "kms:*", none()), {"Effect": "Deny", "NotPrincipal": {"AWS": "x"},
                "Action": "kms:*", "Resource": "*"}]),
                "denied",
            ),
            (deny(json!({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}})), "unclear"),
        ] {
            assert_eq!(said(statements.clone()), want, "{statements}");
        }
        assert!(read("[]", KEY, &caller()).is_err() && read("{}", KEY, &caller()).is_err());
    }

    #[test]
    fn our_statements_let_us_in_and_leave_the_others_as_they_are() {
        for partition in ["aws", "aws-cn"] {
            let caller = Caller { partition: partition.into(), ..caller() };
            assert_eq!(read(&new(&caller), KEY, &caller).unwrap().lets, Lets::Named);
        }
        let theirs = json!({"Version": "2012-10-17", "Id": "theirs", "Statement": [
            {"Sid": "Admins", "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:role/Admin"},
             "Action": "kms:*", "Resource": "*"},
            {"Sid": THROUGH_RDS, "Effect": "Allow", "Principal": {"AWS": ROLE}, "Action": "kms:Decrypt",
             "Resource": "*"}]});
        let before = read(&theirs.to_string(), KEY, &caller()).unwrap();
        assert_eq!(before.lacks.len(), 3, "one is there, and is another: {before:?}");
        let after = merged(&theirs.to_string(), &caller()).unwrap();
        let facts = read(&after, KEY, &caller()).unwrap();
        assert_eq!((facts.lets, facts.lacks.len()), (Lets::Named, 0));
        let after: Value = serde_json::from_str(&after).unwrap();
        assert_eq!(
            (after["Id"].as_str(), &after["Statement"][0]),
            (Some("theirs"), &theirs["Statement"][0])
        );
        assert_eq!(after["Statement"].as_array().unwrap().len(), 4);
        let again = merged(&after.to_string(), &caller()).unwrap();
        assert_eq!(again, after.to_string(), "twice is once");
    }
}
