//! Whom the denials of a policy leave alone, by what they say of the caller.

use serde_json::Value;
use std::collections::BTreeMap;

/// What conditions can say of the caller (IAM user guide, global condition keys: properties of the principal).
const CALLER: &[&str] = &["aws:principal", "aws:sourceidentity", "aws:userid", "aws:username"];

/// One line for each condition on the caller, for those that it exempts: what they must be, and from which statements.
/// Conditions on anything else than the caller are not told here.
pub fn exempt(document: &str) -> Vec<String> {
    let Ok(policy) = serde_json::from_str::<Value>(document) else { return Vec::new() };
    let statements: Vec<&Value> = match &policy["Statement"] {
        Value::Array(many) => many.iter().collect(),
        one => vec![one],
    };
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (n, statement) in statements.iter().enumerate().filter(|(_, s)| s["Effect"] == "Deny") {
        let name = statement["Sid"].as_str().map_or(format!("statement {}", n + 1), str::to_owned);
        for (operator, keys) in statement["Condition"].as_object().into_iter().flatten() {
            for (key, values) in keys.as_object().into_iter().flatten() {
                let lower = key.to_ascii_lowercase();
                if CALLER.iter().any(|caller| lower.starts_with(caller)) {
                    let who = who(operator, key, values);
                    found.entry(who).or_default().push(name.clone());
                }
            }
        }
    }
    found.into_iter().map(|(who, by)| format!("{who}: not by {}", by.join(", "))).collect()
}

/// Whom a condition does not match.
fn who(operator: &str, key: &str, values: &Value) -> String {
    let operator = operator.rsplit(':').next().unwrap_or_default().to_ascii_lowercase();
    let like = if operator.contains("like") || operator.starts_with("arn") { "like " } else { "" };
    match (operator.as_str(), said(values).as_str()) {
        ("null", "true") => format!("who has {key}"),
        ("null", _) => format!("who has no {key}"),
        (negated, is) if negated.contains("not") => format!("whose {key} is {like}{is}"),
        (_, is) => format!("whose {key} is not {like}{is}"),
    }
}

fn said(values: &Value) -> String {
    let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    match values {
        Value::Array(many) => many.iter().map(text).collect::<Vec<_>>().join(" or "),
        one => text(one),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_said_of_the_caller_is_told_and_nothing_else() {
        let deny = |sid: Option<&str>, condition: Value| json!({"Sid": sid, "Effect": "Deny", "Action": "*", "Resource": "*", "Condition": condition});
        let roles = json!({"ArnNotLike": {"aws:PrincipalArn": "arn:*:iam::*:role/break-glass/*"}, "Bool": {"rds:StorageEncrypted": "false"}});
        let two =
            json!({"StringNotEquals": {"aws:PrincipalAccount": ["111122223333", "444455556666"]}});
        let document = json!({"Version": "2012-10-17", "Statement": [
            deny(Some("A"), roles.clone()),
            deny(None, roles),
            deny(Some("B"), two),
            deny(Some("C"), json!({"StringNotLike": {"rds:DatabaseEngine": "aurora*"}})),
            deny(Some("E"), json!({"StringEquals": {"aws:PrincipalTag/team": "web"}, "Null": {"aws:SourceIdentity": "true"}})),
            deny(Some("D"), json!({"ForAllValues:StringNotEqualsIfExists": {"aws:PrincipalTag/team": "db"}})),
        ]});
        assert_eq!(
            exempt(&document.to_string()),
            [
                "who has aws:SourceIdentity: not by E",
                "whose aws:PrincipalAccount is 111122223333 or 444455556666: not by B",
                "whose aws:PrincipalArn is like arn:*:iam::*:role/break-glass/*: not by A, statement 2",
                "whose aws:PrincipalTag/team is db: not by D",
                "whose aws:PrincipalTag/team is not web: not by E",
            ]
        );
        assert_eq!(exempt(super::super::RDS_ENCRYPTION), Vec::<String>::new());
    }
}
