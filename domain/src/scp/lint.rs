//! What is wrong with a policy document, by code and line.

use super::coverage;
use crate::iam::document;
use crate::iam::{Context, Request};
use jsonc_parser::ast;
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;

/// One thing that is wrong, or should be known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lint {
    /// Which rule: `NOT_ACTION`.
    pub code: Cow<'static, str>,
    /// Whether the policy is refused for it.
    pub refuses: bool,
    /// The line of the document, from 1.
    pub line: usize,
    /// What, and what to do.
    pub text: String,
}

impl fmt::Display for Lint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (line {}): {}", self.code, self.line, self.text)
    }
}

/// All of them, for one message.
pub fn said(lints: &[Lint]) -> String {
    lints.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// A policy that may be rolled out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The document without white space: SDKs save it as sent, and AWS counts white space.
    pub minified: String,
    /// What people should know before they approve.
    pub warnings: Vec<Lint>,
}

/// Checks a policy document: strict JSON, the elements that SCPs have, denials only.
///
/// # Errors
/// All that is wrong, and what else should be known.
pub fn lint(document: &str) -> Result<Policy, Vec<Lint>> {
    let alone = |code: &'static str, line, text| {
        Err(vec![Lint { code: code.into(), refuses: true, line, text }])
    };
    let value: Value = match serde_json::from_str(document) {
        Ok(value) => value,
        Err(e) => {
            return alone("JSON_SYNTAX", e.line().max(1), format!("the policy is not JSON: {e}"));
        }
    };
    let strict = ParseOptions { allow_comments: false, ..ParseOptions::default() };
    // It is JSON: this one is asked where things are.
    let parsed = parse_to_ast(document, &CollectOptions::default(), &strict);
    let Some(ast::Value::Object(top)) = parsed.ok().and_then(|p| p.value) else {
        return alone("NO_OBJECT", 1, "the policy is not a JSON object".to_owned());
    };
    let mut lints = Linter { document, found: Vec::new() };
    lints.twice(&ast::Value::Object(top.clone()));
    lints.top(&top);
    if lints.found.iter().all(|l| !l.refuses) {
        lints.understood(document, &top);
    }
    match lints.found.iter().any(|l| l.refuses) {
        true => Err(lints.found),
        false => Ok(Policy { minified: value.to_string(), warnings: lints.found }),
    }
}

struct Linter<'a> {
    document: &'a str,
    found: Vec<Lint>,
}

const ELEMENTS: &[&str] =
    &["Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"];

impl Linter<'_> {
    fn add(
        &mut self,
        code: &'static str,
        refuses: bool,
        at: &impl Ranged,
        text: impl Into<String>,
    ) {
        let before = self.document.get(..at.range().start).unwrap_or_default();
        let line = 1 + before.matches('\n').count();
        self.found.push(Lint { code: code.into(), refuses, line, text: text.into() });
    }

    fn bad(&mut self, code: &'static str, at: &impl Ranged, text: impl Into<String>) {
        self.add(code, true, at, text);
    }

    /// JSON lets an object have a key twice, and readers take the last one: whoever reviews may see the first.
    fn twice(&mut self, value: &ast::Value<'_>) {
        match value {
            ast::Value::Object(object) => {
                for (i, prop) in object.properties.iter().enumerate() {
                    let name = prop.name.as_str();
                    if object.properties[..i].iter().any(|p| p.name.as_str() == name) {
                        self.bad(
                            "DUPLICATE_KEY",
                            prop,
                            format!("`{name}` is there twice; only the last one would count"),
                        );
                    }
                    self.twice(&prop.value);
                }
            }
            ast::Value::Array(list) => list.elements.iter().for_each(|v| self.twice(v)),
            ast::Value::StringLit(_)
            | ast::Value::NumberLit(_)
            | ast::Value::BooleanLit(_)
            | ast::Value::NullKeyword(_) => {}
        }
    }

    fn top(&mut self, top: &ast::Object<'_>) {
        for prop in &top.properties {
            let name = prop.name.as_str();
            if !["Version", "Id", "Statement"].contains(&name) {
                self.bad(
                    "UNKNOWN_ELEMENT",
                    prop,
                    format!("the policy has an element `{name}`, which SCPs do not have"),
                );
            }
        }
        let version = top.get("Version").and_then(|p| p.value.as_string_lit());
        if version.is_none_or(|v| v.value != "2012-10-17") {
            let text = "the policy needs \"Version\": \"2012-10-17\"";
            match top.get("Version") {
                Some(prop) => self.bad("VERSION", prop, text),
                None => self.bad("VERSION", top, text),
            }
        }
        match top.get("Statement").map(|p| &p.value) {
            Some(ast::Value::Array(list)) if !list.elements.is_empty() => {
                list.elements.iter().for_each(|s| self.statement(s));
            }
            Some(one @ ast::Value::Object(_)) => self.statement(one),
            _ => self.bad("MISSING_STATEMENT", top, "the policy needs a Statement"),
        }
    }

    fn statement(&mut self, statement: &ast::Value<'_>) {
        let ast::Value::Object(map) = statement else {
            return self.bad("STATEMENT", statement, "a statement is not a JSON object");
        };
        for prop in &map.properties {
            let name = prop.name.as_str();
            if !ELEMENTS.contains(&name) {
                self.bad(
                    "UNKNOWN_ELEMENT",
                    prop,
                    format!("a statement has `{name}`, which SCPs do not support"),
                );
            }
        }
        match (map.get("Effect"), map.get_string("Effect").map(|s| s.value.as_ref())) {
            (Some(_), Some("Deny")) => {}
            // An Allow beside FullAWSAccess changes nothing, and in its place it locks accounts out: either way it is not
            // what a staged fence is for.
            (Some(prop), Some("Allow")) => {
                self.bad("ALLOW", prop, "Effect is Allow; Ringfence rolls out Deny policies only");
            }
            (Some(prop), _) => self.bad("EFFECT", prop, "Effect must be \"Deny\""),
            (None, _) => self.bad("EFFECT", map, "Effect must be \"Deny\""),
        }
        match (map.get("Action"), map.get("NotAction")) {
            (Some(prop), None) => self.actions(&prop.value),
            (None, Some(prop)) => self.bad(
                "NOT_ACTION",
                prop,
                "NotAction denies all but a few calls, our remediation's among them; name the actions",
            ),
            (Some(_), Some(prop)) => self.bad("NOT_ACTION", prop, "it has Action and NotAction"),
            (None, None) => self.bad("MISSING_ACTION", map, "a statement needs Action"),
        }
        if map.get("Resource").is_none() && map.get("NotResource").is_none() {
            self.bad("MISSING_RESOURCE", map, "a statement needs Resource");
        }
    }

    fn actions(&mut self, value: &ast::Value<'_>) {
        let list: Vec<&ast::Value<'_>> = match value {
            ast::Value::Array(list) => list.elements.iter().collect(),
            one => vec![one],
        };
        if list.is_empty() {
            self.bad("MISSING_ACTION", value, "Action is empty");
        }
        for one in list {
            match one.as_string_lit().map(|s| s.value.as_ref()) {
                None => self.bad("ACTION", one, "Action must be text or a list of texts"),
                Some("*") => {}
                Some(action) if action.contains(':') => {}
                Some(action) => self.bad(
                    "ACTION",
                    one,
                    format!("`{action}` is not an action (service:Operation)"),
                ),
            }
        }
    }

    /// What its evaluation shows, where it has the form of a policy.
    fn understood(&mut self, document: &str, top: &ast::Object<'_>) {
        let policy = match document::Policy::parse(document) {
            Ok(policy) => policy,
            Err(why) => {
                return self.bad(
                    "NOT_UNDERSTOOD",
                    top,
                    format!("{why}; what Ringfence does not understand it cannot test"),
                );
            }
        };
        for (i, at) in statements(top).into_iter().enumerate() {
            let Some(statement) = policy.statements.get(i) else { break };
            for role in statement.exempt_principals() {
                if !protected(&policy, &role) {
                    self.add("EXEMPTION_UNPROTECTED", false, at, format!(
                        "{role} is exempt by its name: who may create or change such a role in a member account is exempt, too; deny iam:CreateRole and iam:UpdateAssumeRolePolicy on that path in this policy, or see that nobody may"
                    ));
                }
            }
        }
        for (path, what) in encrypted_and_denied(document, &policy) {
            self.add(
                "DENIES_ENCRYPTED",
                false,
                top,
                format!("{path} is denied although it would be encrypted: {what}"),
            );
        }
    }
}

fn statements<'a, 'b>(top: &'b ast::Object<'a>) -> Vec<&'b ast::Value<'a>> {
    match top.get("Statement").map(|p| &p.value) {
        Some(ast::Value::Array(list)) => list.elements.iter().collect(),
        Some(one) => vec![one],
        None => Vec::new(),
    }
}

/// Whether the policy itself keeps others from making, or taking over, what it exempts.
fn protected(policy: &document::Policy, role: &str) -> bool {
    ["iam:CreateRole", "iam:UpdateAssumeRolePolicy"].iter().all(|action| {
        let request = Request {
            action: (*action).to_owned(),
            resource: role.to_owned(),
            context: Context::default(),
        };
        // Under a condition is enough: somebody must be able to make it.
        policy.statements.iter().any(|s| s.denies && s.applies(&request) != Some(false))
    })
}

/// Creates that a policy denies although the database would be encrypted, by a statement that asks whether it is: the
/// condition is met by what else the call is authorized against, which does not carry the key.
fn encrypted_and_denied(document: &str, policy: &document::Policy) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for covered in coverage::coverage(document).unwrap_or_default() {
        let Some(by) = covered.encrypted.strip_prefix("denied by ") else { continue };
        let asks = |s: &&document::Statement| s.looks_at("rds:StorageEncrypted");
        let mut asking = policy.statements.iter().filter(asks);
        if let Some(statement) = asking.find(|s| by.split(", ").any(|name| name == s.name)) {
            found.push((covered.path, statement.name.clone()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::RDS_ENCRYPTION;
    use super::*;

    fn deny(rest: &str) -> String {
        format!("{{\"Version\":\"2012-10-17\",\n\"Statement\":[\n{{\"Effect\":\"Deny\",{rest}}}]}}")
    }

    #[test]
    fn the_built_in_policy_passes_and_is_small() {
        let policy = lint(RDS_ENCRYPTION).unwrap();
        assert_eq!(policy.warnings, []);
        assert!(policy.minified.len() < 700 && !policy.minified.contains('\n'));
    }

    #[test]
    fn bad_policies_are_refused_with_code_and_line() {
        for (document, want) in [
            ("{\n".to_owned(), "JSON_SYNTAX (line 2): the policy is not JSON"),
            ("[]".to_owned(), "NO_OBJECT (line 1)"),
            (r#"{"Statement":[]}"#.to_owned(), "VERSION (line 1)"),
            (r#"{"Version":"2012-10-17"}"#.to_owned(), "MISSING_STATEMENT (line 1)"),
            (deny(r#""Action":"s3:*""#), "MISSING_RESOURCE (line 3)"),
            (deny(r#""Resource":"*""#), "MISSING_ACTION (line 3)"),
            (
                deny("\"Action\":\"s3:*\",\"Resource\":\"*\",\n\"Principal\":\"*\""),
                "UNKNOWN_ELEMENT (line 4): a statement has `Principal`",
            ),
            (deny(r#""NotAction":"s3:*","Resource":"*""#), "NOT_ACTION (line 3)"),
            (deny(r#""Action":"everything","Resource":"*""#), "ACTION (line 3): `everything`"),
            (deny(r#""Action":[7],"Resource":"*""#), "ACTION (line 3)"),
            (deny(r#""Action":"s3:*","Resource":"*""#).replace("Deny", "Allow"), "ALLOW (line 3)"),
            (
                deny(r#""Action":"s3:*","Resource":"*","Effect":"Deny""#),
                "DUPLICATE_KEY (line 3): `Effect` is there twice",
            ),
            (
                deny(r#""Action":"s3:*","Resource":"*","Condition":{"Sounds":{"a":"b"}}"#),
                "NOT_UNDERSTOOD (line 1)",
            ),
        ] {
            let error = said(&lint(&document).unwrap_err());
            assert!(error.starts_with(want), "{document}: {error}");
        }
        let both = lint(&deny(r#""Action":"all""#)).unwrap_err();
        assert_eq!(both.len(), 2, "all of it is said at once: {both:?}");
    }

    #[test]
    fn what_should_be_known_is_said() {
        let warned = |rest: &str| said(&lint(&deny(rest)).unwrap().warnings);
        let exempt = r#""Action":"s3:*","Resource":"*","Condition":{"ArnNotLike":{"aws:PrincipalArn":"arn:aws:iam::*:role/admin/*"}}"#;
        assert!(
            warned(exempt)
                .starts_with("EXEMPTION_UNPROTECTED (line 3): arn:aws:iam::*:role/admin/*")
        );
        let protected = format!(
            r#"{exempt}}},{{"Effect":"Deny","Action":["iam:CreateRole","iam:UpdateAssumeRolePolicy"],"Resource":"arn:*:iam::*:role/admin/*""#
        );
        assert_eq!(warned(&protected), "");
        // Only the database carries the key: this denies every create, for its groups do not.
        let if_exists = r#""Action":"rds:CreateDBInstance","Resource":"*","Condition":{"BoolIfExists":{"rds:StorageEncrypted":"false"}}"#;
        assert!(warned(if_exists).contains("DENIES_ENCRYPTED"), "{}", warned(if_exists));
        assert_eq!(
            warned(r#""Action":"rds:CreateDBInstance","Resource":"*""#),
            "",
            "all creates: it is meant"
        );
    }
}
