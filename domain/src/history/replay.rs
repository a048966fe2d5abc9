//! Calls of the past, put before a policy that was not there then.

use super::call::Call;
use crate::iam::document::Policy;
use crate::iam::scp::{self, Attached, Level, Verdict};
use crate::iam::{Context, Request};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a policy would have said.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Judged {
    /// It would have denied the call, by these statements.
    Denied(Vec<String>),
    /// That depends on what CloudTrail does not show: the statements with their keys.
    Unknown(Vec<String>),
    /// It would have gone through.
    Allowed,
    /// It was denied already.
    WasDenied,
}

/// A policy with what it stands beside: FullAWSAccess, so that only its denials count.
#[derive(Debug, Clone)]
pub struct Replay(Level);

/// Prepares a policy for [`judge`].
///
/// # Errors
/// It is not understood.
pub fn replay(name: &str, document: &str) -> Result<Replay, String> {
    let full =
        r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#;
    let attached = |name: &str, policy| Arc::new(Attached { name: name.to_owned(), policy });
    let own = Policy::parse(document)?;
    let policies = vec![attached("FullAWSAccess", Policy::parse(full)), attached(name, Ok(own))];
    Ok(Replay(Level { node: "its target".to_owned(), policies }))
}

/// What the policy says of a request: the statements that decide, if it is not let through.
pub fn ask(replay: &Replay, request: &Request) -> Verdict {
    scp::judge(std::slice::from_ref(&replay.0), request)
}

/// What the policy says of a call: denied if one of what it is authorized against is.
pub fn judge(replay: &Replay, call: &Call) -> Judged {
    match call.refused {
        Some(_) => Judged::WasDenied,
        None => weigh(replay, call),
    }
}

/// The same, whatever became of the call then.
pub fn weigh(replay: &Replay, call: &Call) -> Judged {
    let (mut denied, mut unknown) = (BTreeSet::new(), BTreeSet::new());
    for request in requests(call) {
        match ask(replay, &request) {
            Verdict::Allowed => {}
            Verdict::Denied(reasons) => denied.extend(reasons.iter().map(scp::Reason::short)),
            Verdict::Unknown(reasons) => unknown.extend(reasons.iter().map(scp::Reason::short)),
        }
    }
    match (denied.is_empty(), unknown.is_empty()) {
        (false, _) => Judged::Denied(denied.into_iter().collect()),
        (true, false) => Judged::Unknown(unknown.into_iter().collect()),
        (true, true) => Judged::Allowed,
    }
}

/// All that one call is authorized against (Service Authorization Reference).
fn requests(call: &Call) -> Vec<Request> {
    let partition = call.principal.split(':').nth(1).unwrap_or("aws");
    let (account, region) = (&call.account, &call.region);
    let (service, name) = call.action.split_once(':').unwrap_or_default();
    let context = Context::default()
        .with("aws:PrincipalArn", &call.principal)
        .with("aws:PrincipalAccount", account.as_str())
        .with("aws:PrincipalType", &call.principal_type)
        .with("aws:PrincipalIsAWSService", "false")
        .with("aws:ViaAWSService", if call.via_service { "true" } else { "false" })
        .with("aws:RequestedRegion", region);
    let context = match call.source_identity.as_str() {
        "" => context.without("aws:SourceIdentity"),
        identity => context.with("aws:SourceIdentity", identity),
    };
    let keyed = call.keys.iter().fold(context.clone(), |context, (key, value)| match value {
        Some(value) => context.with(key, value),
        None => context.without(key),
    });
    let request = |resource: String, context: &Context| Request {
        action: call.action.clone(),
        resource,
        context: context.clone(),
    };
    let on = |kind: &str| format!("arn:{partition}:rds:{region}:{account}:{kind}:*");
    let (own, beside): (&str, &[&str]) = match name {
        _ if service != "rds" => ("", &[]),
        "CreateDBInstance" | "RestoreDBInstanceFromS3" => ("db", &["og", "pg", "subgrp"]),
        "CreateDBCluster" | "RestoreDBClusterFromS3" => ("cluster", &["cluster-pg", "subgrp"]),
        _ => ("", &[]),
    };
    if own.is_empty() {
        // Nobody says here what it was about.
        return vec![request(format!("arn:{partition}:{service}:*:*:*"), &keyed)];
    }
    // Only the database carries its keys: a policy that asks whether they are missing denies what else the call names.
    let bare = call.keys.keys().fold(context, |context, key| context.without(key));
    let beside = beside.iter().map(|kind| request(on(kind), &bare));
    std::iter::once(request(on(own), &keyed)).chain(beside).collect()
}

#[cfg(test)]
mod tests {
    use super::super::call::{Event, event, tests::record};
    use super::*;
    use serde_json::{Value, json};

    fn judged(policy: &str, edit: impl FnOnce(&mut Value)) -> Judged {
        let mut record = record();
        edit(&mut record);
        let Ok(Event::Call(call, _)) = event(&record) else { panic!("{record}") };
        judge(&replay("p", policy).unwrap(), &call)
    }

    fn deny(statement: Value) -> String {
        let mut statement = statement;
        statement["Effect"] = "Deny".into();
        statement["Resource"] = "*".into();
        json!({"Version": "2012-10-17", "Statement": [statement]}).to_string()
    }

    #[test]
    fn the_built_in_policy_denies_what_was_made_without_encryption() {
        let said = |edit: &dyn Fn(&mut Value)| judged(crate::scp::RDS_ENCRYPTION, edit);
        let parameters = |key: &'static str, value: Value| {
            move |r: &mut Value| r["requestParameters"][key] = value.clone()
        };
        let denied = Judged::Denied(vec!["DenyUnencryptedInstance".into()]);
        assert_eq!(said(&|_| {}), denied);
        assert_eq!(said(&parameters("storageEncrypted", true.into())), Judged::Allowed);
        assert_eq!(said(&parameters("engine", "aurora-mysql".into())), Judged::Allowed);
        let cluster = |r: &mut Value| {
            r["eventName"] = "CreateDBCluster".into();
            r["requestParameters"]["engine"] = "aurora-mysql".into();
        };
        assert_eq!(said(&cluster), Judged::Denied(vec!["DenyUnencryptedCluster".into()]));
        assert_eq!(said(&|r| r["errorCode"] = "AccessDenied".into()), Judged::WasDenied);
        assert_eq!(said(&|r| r["eventName"] = "StartDBInstance".into()), Judged::Allowed);
        let restore = |r: &mut Value| r["eventName"] = "RestoreDBInstanceFromDBSnapshot".into();
        assert_eq!(said(&restore), Judged::Allowed, "left out of the policy on purpose");
    }

    #[test]
    fn what_cloudtrail_does_not_show_is_said_with_its_keys() {
        let tagged = deny(json!({"Action": "rds:CreateDBInstance",
            "Condition": {"StringEquals": {"aws:RequestTag/team": "a"}}}));
        let Judged::Unknown(why) = judged(&tagged, |_| {}) else { panic!("it is known") };
        assert_eq!(why, ["statement 1 (by aws:RequestTag/team)"]);
        // Restores are not known to carry the key.
        let restores = deny(json!({"Action": "rds:Restore*",
            "Condition": {"Bool": {"rds:StorageEncrypted": "false"}}}));
        let restore = |r: &mut Value| r["eventName"] = "RestoreDBInstanceFromDBSnapshot".into();
        assert!(matches!(judged(&restores, restore), Judged::Unknown(_)));
        let exempt = deny(json!({"Action": "rds:*",
            "Condition": {"ArnNotLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/ci"}}}));
        assert_eq!(judged(&exempt, |_| {}), Judged::Allowed);
        let region = deny(json!({"Action": "*",
            "Condition": {"StringNotEquals": {"aws:RequestedRegion": "us-east-1"}}}));
        assert_eq!(judged(&region, |_| {}), Judged::Denied(vec!["statement 1".into()]));
        // A condition that a key is missing meets what else the call names.
        let missing = deny(json!({"Action": "rds:CreateDBInstance",
            "Condition": {"Null": {"rds:StorageEncrypted": "true"}}}));
        let encrypted = |r: &mut Value| r["requestParameters"]["storageEncrypted"] = true.into();
        assert_eq!(judged(&missing, encrypted), Judged::Denied(vec!["statement 1".into()]));
    }
}
