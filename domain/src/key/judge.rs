//! What a key's policy says of a caller: by name, through the account's own policies, or not at all.

use super::policy::{Caller, Lets, suffix};
use crate::iam::condition::{self, Text};
use crate::iam::pattern::{covers, fits_arn, literal, lower, pattern};
use crate::iam::{Context, all, any};
use serde_json::Value;

/// What is asked of a key, and whether it is asked through RDS.
pub(super) const NEEDED: [(&str, bool); 4] = [
    ("kms:DescribeKey", false),
    ("kms:CreateGrant", true),
    ("kms:Decrypt", true),
    ("kms:GenerateDataKey", true),
];

pub(super) fn lets((statements, variables): (&[Value], bool), key: &str, caller: &Caller) -> Lets {
    let mut by_iam = false;
    for (action, through) in NEEDED {
        let ask = Ask { caller, key, action, through, variables };
        let how = if through { " through RDS" } else { "" };
        match judge(statements, &ask) {
            Answer::Named => {}
            Answer::ByIam => by_iam = true,
            Answer::No => {
                return Lets::No(format!("its policy does not let {} {action}{how}", caller.role));
            }
            Answer::Denied => {
                return Lets::Denied(format!("its policy denies {} {action}{how}", caller.role));
            }
            Answer::Unclear => {
                return Lets::Unclear(format!(
                    "whether its policy lets {} {action}{how} depends on conditions that cannot be told from here",
                    caller.role
                ));
            }
        }
    }
    if by_iam { Lets::ByIam } else { Lets::Named }
}

struct Ask<'a> {
    caller: &'a Caller,
    key: &'a str,
    action: &'a str,
    through: bool,
    /// Whether the document's version has variables.
    variables: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Answer {
    No,
    ByIam,
    Named,
    Unclear,
    Denied,
}

/// A deny beats an allow; what may be a deny makes all unclear; what may be an allow, only where there is none.
fn judge(statements: &[Value], ask: &Ask<'_>) -> Answer {
    let (mut answer, mut perhaps) = (Answer::No, false);
    let context = context(ask);
    for statement in statements {
        let Some(who) = principal(statement, ask.caller) else { continue };
        if !action(statement, ask.action) {
            continue;
        }
        let met = match (resource(statement, ask, &context), conditions(statement, ask, &context)) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            _ if who == Answer::Unclear => None,
            (Some(true), met) => met,
            (None, _) => None,
        };
        match (statement["Effect"].as_str(), met) {
            (_, Some(false)) => {}
            (Some("Allow"), Some(true)) => answer = answer.max(who),
            (Some("Allow"), None) => perhaps = true,
            (_, Some(true)) => answer = answer.max(Answer::Denied),
            (_, None) => answer = answer.max(Answer::Unclear),
        }
    }
    if answer == Answer::No && perhaps { Answer::Unclear } else { answer }
}

/// Whether a statement is about the role by name (or about everybody), or about the account.
fn principal(statement: &Value, caller: &Caller) -> Option<Answer> {
    let Caller { partition, account, role, .. } = caller;
    let root = format!("arn:{partition}:iam::{account}:root");
    let everybody = |text: &str| text == "*" || text == role;
    let of = |value: &Value| match value {
        Value::String(all) => vec![all.clone()],
        Value::Object(kinds) => kinds.get("AWS").map(texts).unwrap_or_default(),
        _ => Vec::new(),
    };
    if let Some(not) = statement.get("NotPrincipal") {
        // Whom it leaves out depends on the account and the session too (IAM guide, "NotPrincipal").
        let ours = of(not).iter().any(|p| everybody(p) || *p == root || p == account);
        let denies = statement["Effect"] != "Allow";
        return Some(if denies && !ours { Answer::Named } else { Answer::Unclear });
    }
    let named = of(&statement["Principal"]);
    if named.iter().any(|p| everybody(p)) {
        return Some(Answer::Named);
    }
    named.iter().any(|p| *p == root || p == account).then_some(Answer::ByIam)
}

fn action(statement: &Value, wanted: &str) -> bool {
    let wanted = lower(&literal(wanted));
    let any = |value: &Value| texts(value).iter().any(|p| covers(&lower(&pattern(p)), &wanted));
    match statement.get("NotAction") {
        Some(not) => !any(not),
        None => any(&statement["Action"]),
    }
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(all) => all.iter().flat_map(texts).collect(),
        Value::String(text) => vec![text.clone()],
        Value::Number(number) => vec![number.to_string()],
        Value::Null | Value::Bool(_) | Value::Object(_) => Vec::new(),
    }
}

/// Whether a statement is about this key; `None` where it says which keys it is not about. Without a resource it
/// has no effect (KMS guide, "Key policies").
fn resource(statement: &Value, ask: &Ask<'_>, context: &Context) -> Option<bool> {
    if statement.get("NotResource").is_some() {
        return None;
    }
    let fits = |text: &String| match condition::expand(text, true, ask.variables, context) {
        Text::Known(pattern) => fits_arn(&pattern, &literal(ask.key)),
        Text::Missing => Some(false),
        Text::Unknown => None,
    };
    any(texts(&statement["Resource"]).iter().map(fits))
}

/// Whether all conditions are met; `None` where one is about something that is not known here.
fn conditions(statement: &Value, ask: &Ask<'_>, context: &Context) -> Option<bool> {
    let Some(conditions) = statement.get("Condition") else {
        return Some(true);
    };
    let conditions = condition::parse(conditions, ask.variables).ok()?;
    all(conditions.iter().map(|c| c.is_met(context)))
}

/// What is known of a request of ours.
fn context(ask: &Ask<'_>) -> Context {
    let Caller { partition, account, region, role } = ask.caller;
    let context = Context::default()
        .with("kms:CallerAccount", account)
        .with("aws:PrincipalAccount", account)
        .with("aws:PrincipalArn", role)
        .with("aws:SecureTransport", "true");
    let service = format!("rds.{region}.{}", suffix(partition));
    let context = match ask.through {
        true => context.with("kms:ViaService", &service),
        false => context.without("kms:ViaService"),
    };
    match ask.through && ask.action == "kms:CreateGrant" {
        true => context.with("kms:GrantIsForAWSResource", "true"),
        false => context.without("kms:GrantIsForAWSResource"),
    }
}
