//! Golden cases: of the documentation, and of what has locked people out.

use super::document::Policy;
use super::pattern::{literal, pattern};
use super::scp::{Attached, Level, Reason, Verdict, judge};
use super::{Context, Request, all, any, condition};
use serde_json::{Value, json};

fn word(answer: Option<bool>) -> &'static str {
    match answer {
        Some(true) => "yes",
        Some(false) => "no",
        None => "?",
    }
}

#[test]
fn conditions_are_met_as_documented() {
    let mut cases = 0;
    let lines = include_str!("conditions.txt").lines();
    for line in lines.filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let (case, want) = line.rsplit_once(" -> ").expect(line);
        let (left, has) = case.rsplit_once(" | ").expect(line);
        let (operator, wanted) = left.split_once(' ').expect(line);
        let quoted = wanted.contains('\'');
        let wanted: Vec<&str> = if quoted { vec![wanted] } else { wanted.split(',').collect() };
        let context = Context::default().with("k1", "v1").without("k0");
        let context = match has {
            "?" => context,
            "-" => context.without("key"),
            "{}" => context.with_all("key", &[]),
            values => context.with_all("key", &values.split(',').collect::<Vec<_>>()),
        };
        let condition = json!({operator: {"KEY": wanted}});
        let parsed = condition::parse(&condition, true).expect(line);
        assert_eq!(parsed.len(), 1);
        assert_eq!(word(parsed[0].is_met(&context)), want, "{line}");
        cases += 1;
    }
    assert!(cases >= 300, "{cases} cases");
}

#[test]
fn before_2012_a_variable_was_a_text() {
    let context = Context::default().with("key", "${k1}").with("k1", "v1");
    let value = json!({"StringEquals": {"key": "${k1}"}});
    let met = |variables| condition::parse(&value, variables).unwrap()[0].is_met(&context);
    assert_eq!((met(false), met(true)), (Some(true), Some(false)));
}

#[test]
fn what_is_not_understood_is_an_error() {
    let statement = |rest: &str| {
        format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Sid":"Odd","Effect":"Deny",{rest}}}]}}"#
        )
    };
    for (document, want) in [
        ("[]".to_owned(), "no JSON object"),
        ("{}".to_owned(), "no Statement"),
        (r#"{"Statement":[],"Other":1}"#.to_owned(), "Other"),
        (r#"{"Statement":[1]}"#.to_owned(), "statement 1: it is no JSON object"),
        (statement(r#""Action":"s3:*""#), "Odd: it needs Resource"),
        (statement(r#""Resource":"*""#), "Odd: it needs Action"),
        (statement(r#""Action":"s3:*","NotAction":"*","Resource":"*""#), "Action and NotAction"),
        (statement(r#""Action":"s3","Resource":"*""#), "`s3` is not an action"),
        (statement(r#""Action":{},"Resource":"*""#), "must be text"),
        (statement(r#""NotAction":[],"Resource":"*""#), "NotAction is empty"),
        (statement(r#""Action":"*","Resource":"*","Condition":{"Bool":{"a":[]}}"#), "a is empty"),
        (statement(r#""Action":"*","Resource":"*","Principal":"*""#), "Principal"),
        (statement(r#""Action":"*","Resource":"*","Condition":[]"#), "Condition must be"),
        (statement(r#""Action":"*","Resource":"*","Condition":{"Is":{}}"#), "operator Is"),
        (
            statement(r#""Action":"*","Resource":"*","Condition":{"NullIfExists":{"a":"b"}}"#),
            "NullIfExists",
        ),
        (
            statement(
                r#""Action":"*","Resource":"*","Condition":{"ForSomeValues:Bool":{"a":"b"}}"#,
            ),
            "ForSomeValues",
        ),
        (statement(r#""Action":"*","Resource":"*","Condition":{"Bool":[]}"#), "Bool must be"),
        (
            statement(r#""Action":"*","Resource":"*","Condition":{"Bool":{"a":{}}}"#),
            "a must be text",
        ),
    ] {
        let error = Policy::parse(&document).unwrap_err();
        assert!(error.contains(want), "{document}: {error}");
    }
}

fn request(action: &str, resource: &str) -> Request {
    Request { action: action.into(), resource: resource.into(), context: Context::default() }
}

fn policy(statements: Value) -> Policy {
    Policy::parse(&json!({"Version": "2012-10-17", "Statement": statements}).to_string()).unwrap()
}

const DB: &str = "arn:aws:rds:eu-west-1:111122223333:db:orders";

#[test]
fn statements_are_about_actions_and_resources() {
    for (rest, action, resource, want) in [
        (json!({"Action": "*", "Resource": "*"}), "rds:CreateDBInstance", DB, "yes"),
        (json!({"Action": "rds:*", "Resource": "*"}), "rds:CreateDBInstance", DB, "yes"),
        (json!({"Action": "RDS:create*", "Resource": "*"}), "rds:CreateDBInstance", DB, "yes"),
        (json!({"Action": "rds:*DB*", "Resource": "*"}), "rds:CreateDBInstance", DB, "yes"),
        (
            json!({"Action": "rds:Create?BInstance", "Resource": "*"}),
            "rds:CreateDBInstance",
            DB,
            "yes",
        ),
        (
            json!({"Action": ["ec2:*", "rds:Delete*"], "Resource": "*"}),
            "rds:CreateDBInstance",
            DB,
            "no",
        ),
        (json!({"Action": "rds:CreateDB", "Resource": "*"}), "rds:CreateDBInstance", DB, "no"),
        (json!({"NotAction": "rds:*", "Resource": "*"}), "rds:CreateDBInstance", DB, "no"),
        (
            json!({"NotAction": ["ec2:*", "iam:*"], "Resource": "*"}),
            "rds:CreateDBInstance",
            DB,
            "yes",
        ),
        (json!({"NotAction": "*", "Resource": "*"}), "rds:CreateDBInstance", DB, "no"),
        (json!({"Action": "*", "Resource": DB}), "rds:CreateDBInstance", DB, "yes"),
        (
            json!({"Action": "*", "Resource": "arn:aws:rds:*:*:db:*"}),
            "rds:CreateDBInstance",
            DB,
            "yes",
        ),
        (
            json!({"Action": "*", "Resource": "arn:aws:rds:*:*:cluster:*"}),
            "rds:CreateDBInstance",
            DB,
            "no",
        ),
        (
            json!({"Action": "*", "Resource": ["x", "arn:aws:rds:*"]}),
            "rds:CreateDBInstance",
            DB,
            "yes",
        ),
        (
            json!({"Action": "*", "Resource": "arn:aws:rds:*:*:db:Orders"}),
            "rds:CreateDBInstance",
            DB,
            "no",
        ),
        (
            json!({"Action": "*", "NotResource": "arn:aws:rds:*:*:db:orders"}),
            "rds:CreateDBInstance",
            DB,
            "no",
        ),
        (
            json!({"Action": "*", "NotResource": "arn:aws:rds:*:*:db:bills"}),
            "rds:CreateDBInstance",
            DB,
            "yes",
        ),
        (
            json!({"Action": "*", "Resource": "arn:aws:rds:*:*:db:${k0}"}),
            "rds:CreateDBInstance",
            DB,
            "no",
        ),
        (
            json!({"Action": "*", "Resource": "arn:aws:rds:*:*:db:${k1}"}),
            "rds:CreateDBInstance",
            DB,
            "yes",
        ),
        (
            json!({"Action": "*", "Resource": "arn:aws:rds:*:*:db:${k2}"}),
            "rds:CreateDBInstance",
            DB,
            "?",
        ),
        // What is known of a name that AWS makes up.
        (
            json!({"Action": "*", "Resource": "arn:aws:rds:*:*:db:prod-*"}),
            "rds:CreateDBInstance",
            "arn:aws:rds:eu-west-1:111122223333:db:*",
            "?",
        ),
        (
            json!({"Action": "*", "NotResource": "arn:aws:rds:*:*:db:prod-*"}),
            "rds:CreateDBInstance",
            "arn:aws:rds:eu-west-1:111122223333:db:*",
            "?",
        ),
        // What has no resource.
        (json!({"Action": "*", "Resource": "*"}), "account:ListRegions", "*", "yes"),
        (json!({"Action": "*", "Resource": "arn:aws:rds:*"}), "account:ListRegions", "*", "no"),
        // Conditions all count; one that is not met decides, whatever is not known beside it.
        (
            json!({"Action": "*", "Resource": "*", "Condition": {"StringEquals": {"k1": "orders", "k2": "b"}}}),
            "a:b",
            "*",
            "?",
        ),
        (
            json!({"Action": "*", "Resource": "*", "Condition": {"StringEquals": {"k1": "x", "k2": "b"}}}),
            "a:b",
            "*",
            "no",
        ),
        (
            json!({"Action": "*", "Resource": "*", "Condition": {"StringEquals": {"k1": "orders"}, "Null": {"k0": "true"}}}),
            "a:b",
            "*",
            "yes",
        ),
        (
            json!({"Action": "*", "Resource": "*", "Condition": {"Bool": {"k0": false}}}),
            "a:b",
            "*",
            "no",
        ),
        (
            json!({"Action": "*", "Resource": "*", "Condition": {"NumericLessThan": {"k3": 5}}}),
            "a:b",
            "*",
            "yes",
        ),
    ] {
        let mut statement = rest.clone();
        statement["Effect"] = "Deny".into();
        let policy = policy(json!(statement));
        let context = Context::default().with("k1", "orders").without("k0").with("k3", "4");
        let request = Request { context, ..request(action, resource) };
        assert_eq!(word(policy.statements[0].applies(&request)), want, "{rest}");
    }
}

fn level(node: &str, policies: &[(&str, Value)]) -> Level {
    let attached = |(id, statements): &(&str, Value)| {
        let policy = match statements {
            Value::String(why) => Err(why.clone()),
            statements => Ok(policy(statements.clone())),
        };
        Attached { name: (*id).to_owned(), policy }.into()
    };
    Level { node: node.to_owned(), policies: policies.iter().map(attached).collect() }
}

fn said(verdict: &Verdict) -> String {
    let list = |all: &[Reason]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    match verdict {
        Verdict::Allowed => "allowed".into(),
        Verdict::Denied(reasons) => format!("denied: {}", list(reasons)),
        Verdict::Unknown(reasons) => format!("?: {}", list(reasons)),
    }
}

#[test]
fn every_level_must_allow_and_none_may_deny() {
    let full = || ("p-full", json!({"Effect": "Allow", "Action": "*", "Resource": "*"}));
    let rule = |effect: &str, action: &str| json!({"Sid": "S", "Effect": effect, "Action": action, "Resource": "*"});
    let when = |effect: &str, key: &str| {
        json!({"Sid": "S", "Effect": effect, "Action": "*", "Resource": "*",
            "Condition": {"StringEquals": {key: "a"}}})
    };
    for (name, levels, want) in [
        (
            "nothing but FullAWSAccess",
            vec![level("r-1", &[full()]), level("1", &[full()])],
            "allowed",
        ),
        ("SCPs are not in force", vec![level("r-1", &[]), level("1", &[])], "allowed"),
        (
            "a denial at the root",
            vec![level("r-1", &[full(), ("p-1", rule("Deny", "rds:*"))]), level("1", &[full()])],
            "denied: S of p-1 on r-1",
        ),
        (
            "a denial at the account",
            vec![level("r-1", &[full()]), level("1", &[full(), ("p-1", rule("Deny", "rds:*"))])],
            "denied: S of p-1 on 1",
        ),
        (
            "all that deny are named",
            vec![
                level("r-1", &[full(), ("p-1", rule("Deny", "rds:*"))]),
                level("1", &[("p-2", rule("Deny", "*"))]),
            ],
            "denied: S of p-1 on r-1; S of p-2 on 1; no policy on 1 allows it",
        ),
        (
            "a denial of something else",
            vec![level("r-1", &[full(), ("p-1", rule("Deny", "ec2:*"))])],
            "allowed",
        ),
        (
            "one level allows something else only",
            vec![
                level("r-1", &[full()]),
                level("ou-1", &[("p-1", rule("Allow", "ec2:*"))]),
                level("1", &[full()]),
            ],
            "denied: no policy on ou-1 allows it",
        ),
        (
            "an allow beside FullAWSAccess changes nothing",
            vec![level("r-1", &[full(), ("p-1", rule("Allow", "ec2:*"))])],
            "allowed",
        ),
        (
            "two policies of a level allow together",
            vec![level("r-1", &[("p-1", rule("Allow", "ec2:*")), ("p-2", rule("Allow", "rds:*"))])],
            "allowed",
        ),
        (
            "a denial that depends on what is not known",
            vec![level("r-1", &[full(), ("p-1", when("Deny", "k2"))])],
            "?: S of p-1 on r-1 (by k2)",
        ),
        (
            "a sure denial beside it",
            vec![
                level("r-1", &[full(), ("p-1", when("Deny", "k2"))]),
                level("1", &[full(), ("p-2", rule("Deny", "*"))]),
            ],
            "denied: S of p-2 on 1",
        ),
        (
            "a denial whose condition is not met",
            vec![level("r-1", &[full(), ("p-1", when("Deny", "k0"))])],
            "allowed",
        ),
        (
            "an allow that depends on what is not known",
            vec![level("r-1", &[("p-1", when("Allow", "k2"))])],
            "?: no policy on r-1 is known to allow it",
        ),
        (
            "an allow whose condition is not met",
            vec![level("r-1", &[("p-1", when("Allow", "k0"))])],
            "denied: no policy on r-1 allows it",
        ),
        (
            "a policy that is not understood",
            vec![level("r-1", &[full(), ("p-1", "odd".into())])],
            "?: p-1 on r-1 is not understood: odd",
        ),
        (
            "it may be what allows",
            vec![level("r-1", &[("p-1", "odd".into())])],
            "?: p-1 on r-1 is not understood: odd; no policy on r-1 is known to allow it",
        ),
    ] {
        let request = Request {
            context: Context::default().without("k0"),
            ..request("rds:CreateDBInstance", DB)
        };
        assert_eq!(said(&judge(&levels, &request)), want, "{name}");
    }
}

/// Region denial as AWS shows it (Organizations guide, "Deny access to AWS based on the requested AWS Region").
#[test]
fn a_region_denial_spares_what_it_names() {
    let deny = json!({"Sid": "DenyOutsideEu", "Effect": "Deny", "NotAction": ["iam:*", "organizations:*", "sts:*"],
        "Resource": "*", "Condition": {
            "StringNotEquals": {"aws:RequestedRegion": ["eu-central-1", "eu-west-1"]},
            "ArnNotLike": {"aws:PrincipalARN": ["arn:aws:iam::*:role/Role1AllowedToBypassThisSCP"]}}});
    let full = json!({"Effect": "Allow", "Action": "*", "Resource": "*"});
    let levels = [level("r-1", &[("p-full", full), ("p-1", deny)])];
    let role = |name: &str| format!("arn:aws:iam::111122223333:role/{name}");
    for (action, region, who, want) in [
        ("rds:CreateDBInstance", "eu-west-1", role("A"), "allowed"),
        ("rds:CreateDBInstance", "us-east-1", role("A"), "denied: DenyOutsideEu of p-1 on r-1"),
        ("iam:CreateRole", "us-east-1", role("A"), "allowed"),
        ("rds:CreateDBInstance", "us-east-1", role("Role1AllowedToBypassThisSCP"), "allowed"),
    ] {
        let context = Context::default()
            .with("aws:RequestedRegion", region)
            .with("aws:PrincipalArn", &who)
            .complete();
        let request = Request { context, ..request(action, DB) };
        assert_eq!(said(&judge(&levels, &request)), want, "{action} in {region}");
    }
}

/// See [`crate::scp::RDS_ENCRYPTION`]: what it must deny, and what it must not.
#[test]
fn the_built_in_policy_denies_what_it_is_meant_to() {
    let built_in = Policy::parse(crate::scp::RDS_ENCRYPTION).unwrap();
    let full = policy(json!({"Effect": "Allow", "Action": "*", "Resource": "*"}));
    let attached = |id: &str, policy| Attached { name: id.into(), policy: Ok(policy) }.into();
    let levels = [Level {
        node: "r-1".into(),
        policies: vec![attached("p-full", full), attached("p-1", built_in)],
    }];
    let of = |kind: &str| format!("arn:aws:rds:eu-west-1:111122223333:{kind}:x");
    for (action, kind, encrypted, engine, want) in [
        ("rds:CreateDBInstance", "db", Some("false"), Some("mysql"), "denied"),
        ("rds:CreateDBInstance", "db", Some("true"), Some("mysql"), "allowed"),
        ("rds:CreateDBInstance", "db", Some("false"), Some("aurora-mysql"), "allowed"),
        ("rds:CreateDBInstance", "db", Some("false"), Some("docdb"), "allowed"),
        ("rds:CreateDBInstance", "subgrp", None, None, "allowed"),
        ("rds:CreateDBInstance", "og", None, None, "allowed"),
        ("rds:CreateDBCluster", "cluster", Some("false"), Some("aurora-mysql"), "denied"),
        ("rds:CreateDBCluster", "cluster", Some("true"), Some("aurora-mysql"), "allowed"),
        ("rds:CreateDBCluster", "cluster-pg", None, None, "allowed"),
        ("rds:RestoreDBInstanceFromS3", "db", Some("false"), Some("mysql"), "denied"),
        ("rds:RestoreDBInstanceFromDBSnapshot", "db", Some("false"), Some("mysql"), "allowed"),
        (
            "rds:RestoreDBClusterFromSnapshot",
            "cluster",
            Some("false"),
            Some("aurora-mysql"),
            "allowed",
        ),
        ("rds:CreateDBInstanceReadReplica", "db", Some("false"), Some("mysql"), "allowed"),
    ] {
        let add = |context: Context, key, value: Option<&str>| match value {
            Some(value) => context.with(key, value),
            None => context.without(key),
        };
        let context = add(Context::default(), "rds:StorageEncrypted", encrypted);
        let context = add(context, "rds:DatabaseEngine", engine);
        let request = Request { context, ..request(action, &of(kind)) };
        let verdict = said(&judge(&levels, &request));
        assert!(verdict.starts_with(want), "{action} {kind} {encrypted:?} {engine:?}: {verdict}");
    }
}

#[test]
fn what_is_not_known_stays_so_unless_something_else_decides() {
    let (yes, no, unknown) = (Some(true), Some(false), None);
    assert_eq!(all([yes, unknown, no]), no);
    assert_eq!(all([yes, unknown]), unknown);
    assert_eq!(all([yes, yes]), yes);
    assert_eq!(any([no, unknown, yes]), yes);
    assert_eq!(any([no, unknown]), unknown);
    assert_eq!(any([no, no]), no);
    assert_eq!((all([]), any([])), (yes, no));
    assert_ne!(pattern("a*"), literal("a*"));
    let reason = Reason::NothingAllows { node: "r-1".into(), sure: true };
    assert_eq!(reason.to_string(), "no policy on r-1 allows it");
}
