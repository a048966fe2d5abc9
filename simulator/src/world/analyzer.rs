//! IAM Access Analyzer: ValidatePolicy for SCPs, by lints of our own.
//! Source: Access Analyzer API reference, ValidatePolicy; "policy check reference" for the codes;
//! Organizations guide, "SCP syntax" (no Principal; conditions and resources in Allow since 2025-09).

use super::{Ctx, Op, op};
use crate::fault::{Fault, Kind};
use crate::value::{Map, list};
use serde_json::Value as Json;

pub(crate) const OPS: &[Op] = &[op!(Read "ValidatePolicy" (
    "policyDocument", "policyType", "locale", "maxResults", "nextToken", "validatePolicyResourceType",
) validate)];

const ELEMENTS: &[&str] =
    &["Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"];

/// A finding: type, code, text, and the path to where it is.
struct Finding {
    kind: &'static str,
    code: &'static str,
    text: String,
    path: Vec<Step>,
}

#[derive(Clone)]
enum Step {
    Name(String),
    Index(usize),
}

fn error(code: &'static str, text: impl Into<String>, path: Vec<Step>) -> Finding {
    Finding { kind: "ERROR", code, text: text.into(), path }
}

/// What makes a document no SCP; empty for one that is.
pub(crate) fn scp_errors(document: &str) -> Vec<String> {
    findings(document).into_iter().filter(|f| f.kind == "ERROR").map(|f| f.text).collect()
}

fn findings(document: &str) -> Vec<Finding> {
    let parsed: Json = match serde_json::from_str(document) {
        Ok(parsed) => parsed,
        Err(e) => {
            return vec![error(
                "JSON_SYNTAX_ERROR",
                format!("Fix the JSON syntax error: {e}"),
                vec![],
            )];
        }
    };
    let Json::Object(top) = &parsed else {
        return vec![error("INVALID_POLICY_SYNTAX", "The policy must be a JSON object.", vec![])];
    };
    let mut found = Vec::new();
    for key in top.keys().filter(|k| !["Version", "Id", "Statement"].contains(&k.as_str())) {
        let path = vec![Step::Name(key.clone())];
        found.push(error(
            "INVALID_POLICY_ELEMENT",
            format!("The policy element {key} is not valid."),
            path,
        ));
    }
    match top.get("Version").and_then(Json::as_str) {
        Some("2012-10-17" | "2008-10-17") => {}
        Some(other) => {
            let path = vec![Step::Name("Version".into())];
            found.push(error(
                "INVALID_VERSION",
                format!("The version {other} is not valid."),
                path,
            ));
        }
        None => found.push(Finding {
            kind: "WARNING",
            code: "MISSING_VERSION",
            text: "We recommend that you specify the Version element.".into(),
            path: vec![],
        }),
    }
    let statements: Vec<&Json> = match top.get("Statement") {
        Some(Json::Array(list)) => list.iter().collect(),
        Some(one @ Json::Object(_)) => vec![one],
        _ => {
            found.push(error(
                "MISSING_STATEMENT",
                "Add a Statement element to the policy.",
                vec![],
            ));
            return found;
        }
    };
    for (i, statement) in statements.into_iter().enumerate() {
        let path = vec![Step::Name("Statement".into()), Step::Index(i)];
        check(statement, &path, &mut found);
    }
    found
}

fn check(statement: &Json, path: &[Step], found: &mut Vec<Finding>) {
    let at = |name: &str| [path, &[Step::Name(name.to_owned())]].concat();
    let Json::Object(map) = statement else {
        found.push(error(
            "INVALID_POLICY_SYNTAX",
            "A statement must be a JSON object.",
            path.to_vec(),
        ));
        return;
    };
    for key in map.keys().filter(|k| !ELEMENTS.contains(&k.as_str())) {
        let (code, text) = if key.ends_with("Principal") {
            (
                "UNSUPPORTED_ELEMENT_IN_SCP",
                format!("The element {key} is not supported in service control policies."),
            )
        } else {
            ("INVALID_POLICY_ELEMENT", format!("The policy element {key} is not valid."))
        };
        found.push(error(code, text, at(key)));
    }
    match map.get("Effect").and_then(Json::as_str) {
        Some("Allow" | "Deny") => {}
        _ => found.push(error("INVALID_EFFECT", "Add an Effect of Allow or Deny.", at("Effect"))),
    }
    let one_of = |a: &str, b: &str| map.contains_key(a) != map.contains_key(b);
    if !one_of("Action", "NotAction") {
        found.push(error("MISSING_ACTION", "Add an Action or NotAction element.", path.to_vec()));
    }
    if !one_of("Resource", "NotResource") {
        found.push(error(
            "MISSING_RESOURCE",
            "Add a Resource or NotResource element.",
            path.to_vec(),
        ));
    }
    for name in ["Action", "NotAction"] {
        for action in texts(map.get(name)) {
            let service = action.split_once(':').map(|(service, _)| service);
            let known = action == "*" || service.is_some_and(|s| !s.is_empty());
            if !known {
                let text = format!("The action {action} does not exist: use service:action.");
                found.push(error("INVALID_ACTION", text, at(name)));
            }
        }
    }
    if let Some(condition) = map.get("Condition") {
        check_condition(condition, &at("Condition"), found);
    }
    if map.get("Effect").and_then(Json::as_str) == Some("Deny") && map.contains_key("NotAction") {
        found.push(Finding {
            kind: "WARNING",
            code: "DENY_WITH_NOT_ACTION",
            text: "Deny with NotAction denies everything that is not listed.".into(),
            path: at("NotAction"),
        });
    }
}

fn check_condition(condition: &Json, path: &[Step], found: &mut Vec<Finding>) {
    let Json::Object(operators) = condition else {
        found.push(error("INVALID_CONDITION", "Condition must be a JSON object.", path.to_vec()));
        return;
    };
    for (operator, keys) in operators {
        let bare = operator.trim_start_matches("ForAllValues:").trim_start_matches("ForAnyValue:");
        let bare = bare.trim_end_matches("IfExists");
        let families = [
            "String",
            "Numeric",
            "Date",
            "Bool",
            "Arn",
            "IpAddress",
            "NotIpAddress",
            "Null",
            "Binary",
        ];
        if !families.iter().any(|f| bare.starts_with(f)) || !keys.is_object() {
            let text = format!("The condition operator {operator} is not valid.");
            let path = [path, &[Step::Name(operator.clone())]].concat();
            found.push(error("INVALID_OPERATOR", text, path));
        }
    }
}

fn texts(value: Option<&Json>) -> Vec<&str> {
    match value {
        Some(Json::String(one)) => vec![one],
        Some(Json::Array(list)) => list.iter().filter_map(Json::as_str).collect(),
        _ => Vec::new(),
    }
}

fn validate(_: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let document = params.required("policyDocument")?;
    match params.required("policyType")? {
        "SERVICE_CONTROL_POLICY" => {}
        other => {
            let message =
                format!("the simulator validates service control policies only, not {other}");
            return Err(Fault::of(Kind::NotModelled, message));
        }
    }
    let finding = |f: &Finding| {
        let step = |step: &Step| match step {
            Step::Name(name) => Map::new().with("value", name),
            Step::Index(i) => Map::new().with("index", *i as i64),
        };
        let nowhere = |line: i64| Map::new().with("line", line).with("column", 0).with("offset", 0);
        let span = Map::new().with("start", nowhere(1)).with("end", nowhere(1));
        let location =
            Map::new().with("path", list("member", f.path.iter().map(step))).with("span", span);
        Map::new()
            .with("findingType", f.kind)
            .with("issueCode", f.code)
            .with("findingDetails", &f.text)
            .with("learnMoreLink", "https://docs.aws.amazon.com/IAM/latest/UserGuide/access-analyzer-reference-policy-checks.html")
            .with("locations", list("member", [location]))
    };
    Ok(Map::new().with("findings", list("member", findings(document).iter().map(finding))))
}
