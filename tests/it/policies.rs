//! What service control policies say of our own calls: in plans, and against an evaluator that we did not write.

use crate::stage::{Stage, text};
use iam_rs::{Arn, Context, ContextValue, Decision, IAMPolicy, IAMRequest, Principal, PrincipalId};
use serde_json::{Value, json};

const ORGANIZATIONS: &str = "organizations";

/// The checks of that name of the plan's only database.
fn policies(plan: &Value) -> Vec<(&str, &str)> {
    let checks = plan["items"][0]["checks"].as_array().expect("checks");
    let found = checks.iter().filter(|c| c["name"] == "policies");
    found.map(|c| (text(c, "verdict"), c["text"].as_str().unwrap_or_default())).collect()
}

#[test]
fn a_plan_says_which_policy_would_stop_it_and_the_policy_does() {
    let mut stage = Stage::among(2);
    {
        // Policies are in force at once, and can be changed one after another.
        let mut world = stage.sim.inside().world();
        (world.settings.organizations_busy_ms, world.settings.scp_delay_ms) = (0, 0);
    }
    stage.instance("orders");
    stage.start(&[]);
    let (ann, bob) = (stage.cli("ann"), stage.cli("bob"));
    ann.expect("scan start --wait --timeout 60s", 0);
    let plan = || ann.json("plan create --all --dry-run", 0);
    assert_eq!(policies(&plan()), [("pass", "")], "FullAWSAccess alone");
    let nodes = ann.json("org tree", 0)["nodes"].as_array().cloned().expect("nodes");
    let management = nodes.iter().find(|n| n["management"] == true).expect("a management account");
    let root = nodes.iter().find(|n| n["kind"] == "root").expect("a root");
    let as_management = |operation: &str, params: Value| {
        stage.sim.change(json!({"call": {"account": text(management, "id"), "region": "us-east-1",
            "service": ORGANIZATIONS, "operation": operation, "params": params}}))
    };
    let deny = |condition: Value| {
        json!({"Version": "2012-10-17", "Statement": [{"Sid": "NoCopies", "Effect": "Deny",
            "Action": "rds:Copy*", "Resource": "*", "Condition": condition}]})
    };
    let made = as_management(
        "CreatePolicy",
        json!({"Name": "copies", "Description": "-", "Type": "SERVICE_CONTROL_POLICY",
            "Content": deny(json!({})).to_string()}),
    );
    let id = made["Policy"]["PolicySummary"]["Id"]
        .as_str()
        .unwrap_or_else(|| panic!("{made}"))
        .to_owned();
    // An approved plan of before: the policy comes after it.
    let before = text(&ann.json("plan create --all", 0), "id").to_owned();
    bob.expect(&format!("approve {before} --reason CHG-1"), 0);
    as_management("AttachPolicy", json!({"PolicyId": id, "TargetId": text(root, "id")}));
    let blocked = plan();
    let [(verdict, said)] = policies(&blocked)[..] else { panic!("{blocked}") };
    let want = format!(
        "deny us rds:CopyDBSnapshot: NoCopies of copies ({id}) on Root ({})",
        text(root, "id")
    );
    assert!(verdict == "block" && said.contains(&want), "{said}");
    assert_eq!(blocked["ready"], 0);
    for (condition, want) in [
        (json!({"StringEquals": {"aws:PrincipalTag/team": "dba"}}), "(by aws:PrincipalTag/team)"),
        (
            json!({"ArnNotLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/RingfenceRemediation"}}),
            "",
        ),
        (json!({"StringNotEquals": {"aws:RequestedRegion": stage.region}}), ""),
        (json!({"StringEquals": {"aws:RequestedRegion": stage.region}}), "NoCopies"),
    ] {
        as_management(
            "UpdatePolicy",
            json!({"PolicyId": id, "Content": deny(condition.clone()).to_string()}),
        );
        let plan = plan();
        let [(verdict, said)] = policies(&plan)[..] else { panic!("{plan}") };
        let verdict_wanted = match want {
            "" => "pass",
            "NoCopies" => "block",
            _ => "warn",
        };
        assert!(verdict == verdict_wanted && said.contains(want), "{condition}: {verdict} {said}");
    }
    // The plan of before is not applied any more.
    let refused = ann.expect(&format!("remediation apply {before} --wait --timeout 60s"), 5);
    assert!(refused.err.contains("apply pl-") && refused.err.contains("NoCopies"), "{refused:?}");
    // Where nobody can look it is: then AWS denies that very call, and nothing is lost.
    stage.sim.fault(unreadable());
    ann.expect(&format!("remediation apply {before} --wait --timeout 60s"), 6);
    let list = ann.json(&format!("remediation list --plan {before}"), 0);
    let stopped = &list["remediations"][0];
    assert!(stopped["why"].to_string().contains("CopyDBSnapshot"), "{stopped}");
}

/// The server may not list policies.
fn unreadable() -> Value {
    json!({"match": {"service": ORGANIZATIONS, "operation": "ListPolicies"}, "effect": "deny"})
}

#[test]
fn without_the_right_to_read_them_a_plan_says_so() {
    let mut stage = Stage::among(2);
    stage.instance("orders");
    stage.start(&[]);
    let ann = stage.cli("ann");
    ann.expect("scan start --wait --timeout 60s", 0);
    stage.sim.fault(unreadable());
    let plan = ann.json("plan create --all --dry-run", 0);
    let [(verdict, said)] = policies(&plan)[..] else { panic!("{plan}") };
    assert!(verdict == "warn" && said.contains("could not be read"), "{said}");
    assert_eq!(plan["ready"], 1);
}

/// What iam-rs says of one condition of a Deny statement.
fn other(operator: &str, wanted: &[&str], has: Option<&[&str]>) -> Option<bool> {
    let policy = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*",
        "Condition": {operator: {"key": wanted}}}]});
    let policy = IAMPolicy::from_json(&policy.to_string()).ok()?;
    let mut context = Context::new().with_string("k1", "v1");
    let value = |text: &str| match (operator.contains("Bool"), text.parse::<f64>()) {
        (true, _) => ContextValue::Boolean(text.eq_ignore_ascii_case("true")),
        (false, Ok(number)) if operator.contains("Numeric") => ContextValue::Number(number),
        (false, _) => ContextValue::String(text.to_owned()),
    };
    match has {
        None => {}
        Some([one]) if !operator.starts_with("For") => context.insert("key".into(), value(one)),
        Some(all) => {
            let all = all.iter().map(|v| (*v).to_owned()).collect();
            context.insert("key".into(), ContextValue::StringList(all));
        }
    }
    let principal = Principal::Aws(PrincipalId::String("arn:aws:iam::111122223333:role/A".into()));
    let arn = Arn::parse("arn:aws:rds:eu-west-1:111122223333:db:orders").ok()?;
    let request = IAMRequest::new_with_context(principal, "rds:CreateDBInstance", arn, context);
    match iam_rs::evaluate_policy(&policy, &request) {
        Ok(Decision::Deny) => Some(true),
        Ok(Decision::NotApplicable) => Some(false),
        Ok(Decision::Allow) | Err(_) => None,
    }
}

/// Why, and of which cases.
type Difference = (&'static str, fn(&str) -> bool);

/// Where we differ from it, and why we stay.
const DIFFERENT: &[Difference] = &[
    ("it fills in variables in resources alone", |case| case.contains("${")),
    ("ArnEquals and ArnLike behave identically (IAM guide)", |case| {
        case.starts_with("ArnEquals") || case.starts_with("ArnNotEquals")
    }),
    ("it compares binary values without regard to case", |case| case.starts_with("BinaryEquals")),
    ("it takes a year alone for seconds", |case| case.starts_with("DateEquals 2026 |")),
];

#[test]
fn an_evaluator_that_we_did_not_write_agrees_on_every_condition_that_it_can_judge() {
    let file = ringfence_tests::root().join("domain/src/iam/conditions.txt");
    let cases = std::fs::read_to_string(file).expect("the cases");
    let (mut same, mut cannot, mut different) = (0, Vec::new(), Vec::new());
    let mut known = std::collections::BTreeSet::new();
    for line in cases.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let (case, want) = line.rsplit_once(" -> ").expect(line);
        let (left, has) = case.rsplit_once(" | ").expect(line);
        let (operator, wanted) = left.split_once(' ').expect(line);
        let wanted: Vec<&str> = match wanted.contains('\'') {
            true => vec![wanted],
            false => wanted.split(',').collect(),
        };
        let has: Vec<&str> = match has {
            // It has no third value.
            "?" | "{}" => continue,
            "-" => Vec::new(),
            values => values.split(',').collect(),
        };
        let has = Some(&has[..]).filter(|h| !h.is_empty());
        let want = match want {
            "yes" => true,
            "no" => false,
            _ => continue,
        };
        match other(operator, &wanted, has) {
            Some(said) if said == want => same += 1,
            Some(_) => match DIFFERENT.iter().find(|(_, is)| is(line)) {
                Some((why, _)) => drop(known.insert(why)),
                None => different.push(line),
            },
            None => cannot.push(line),
        }
    }
    println!("{same} the same, {} it cannot judge: {cannot:#?}", cannot.len());
    assert!(different.is_empty(), "{different:#?}");
    assert_eq!(known.len(), DIFFERENT.len(), "a difference is gone: {known:?}");
    assert!(same > 150, "{same}");
}
