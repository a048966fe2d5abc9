//! What a key's policy says of a caller: principals, actions, and the few conditions that we know the values of.
//! Anything else cannot be told, and is never taken for a yes. Rules: IAM guide, "Policy evaluation logic",
//! "Condition operators".

use super::policy::{Caller, Lets, suffix};
use serde_json::Value;

/// What is asked of a key, and whether it is asked through RDS.
const NEEDED: [(&str, bool); 4] = [
    ("kms:DescribeKey", false),
    ("kms:CreateGrant", true),
    ("kms:Decrypt", true),
    ("kms:GenerateDataKey", true),
];

pub(super) fn lets(statements: &[Value], key: &str, caller: &Caller) -> Lets {
    let mut by_iam = false;
    for (action, through) in NEEDED {
        let ask = Ask { caller, key, action, through };
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
    for statement in statements {
        let Some(who) = principal(statement, ask.caller) else { continue };
        if !action(statement, ask.action) {
            continue;
        }
        let met = match (resource(statement, ask.key), conditions(statement, ask)) {
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
    let wanted = wanted.to_ascii_lowercase();
    let any = |value: &Value| texts(value).iter().any(|p| like(&p.to_ascii_lowercase(), &wanted));
    match statement.get("NotAction") {
        Some(not) => !any(not),
        None => any(&statement["Action"]),
    }
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(all) => all.iter().flat_map(texts).collect(),
        Value::String(text) => vec![text.clone()],
        Value::Bool(flag) => vec![flag.to_string()],
        Value::Number(number) => vec![number.to_string()],
        Value::Null | Value::Object(_) => Vec::new(),
    }
}

/// Whether a statement is about this key; `None` where it says which keys it is not about. Without a resource it
/// has no effect (KMS guide, "Key policies").
fn resource(statement: &Value, key: &str) -> Option<bool> {
    if statement.get("NotResource").is_some() {
        return None;
    }
    Some(texts(&statement["Resource"]).iter().any(|p| p == "*" || like_arn(p, key)))
}

/// Whether a text fits a pattern with `*` and `?`. Whoever wrote the policy chose the pattern, so it takes no more
/// than pattern times text.
fn like(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == b'?' || c == text[t] => (p, t) = (p + 1, t + 1),
            // The last star takes one more.
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    (p, t) = (at + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

/// The same for ARNs, part by part: a wildcard does not reach over a colon (IAM guide, "ARN condition operators").
fn like_arn(pattern: &str, arn: &str) -> bool {
    let (pattern, arn): (Vec<&str>, Vec<&str>) =
        (pattern.splitn(6, ':').collect(), arn.splitn(6, ':').collect());
    pattern.len() == arn.len() && pattern.iter().zip(arn).all(|(p, a)| like(p, a))
}

/// Whether all conditions are met; `None` where one is about something that is not known here.
fn conditions(statement: &Value, ask: &Ask<'_>) -> Option<bool> {
    let Some(Value::Object(operators)) = statement.get("Condition") else {
        return Some(true);
    };
    let mut all = Some(true);
    for (operator, keys) in operators {
        for (key, wanted) in keys.as_object().into_iter().flatten() {
            match condition(operator, key, &texts(wanted), ask) {
                Some(true) => {}
                Some(false) => return Some(false),
                None => all = None,
            }
        }
    }
    all
}

/// What a request of ours has under a key: `Some(None)` where it has none, `None` where nobody knows.
fn context(key: &str, ask: &Ask<'_>) -> Option<Option<String>> {
    let Caller { partition, account, region, role } = ask.caller;
    let through = |value: String| Some(ask.through.then_some(value));
    match key.to_ascii_lowercase().as_str() {
        "kms:viaservice" => through(format!("rds.{region}.{}", suffix(partition))),
        "kms:grantisforawsresource" if ask.action == "kms:CreateGrant" => through("true".into()),
        "kms:grantisforawsresource" => Some(None),
        "kms:calleraccount" | "aws:principalaccount" => Some(Some(account.clone())),
        "aws:principalarn" => Some(Some(role.clone())),
        "aws:securetransport" => Some(Some("true".into())),
        _ => None,
    }
}

fn condition(operator: &str, key: &str, wanted: &[String], ask: &Ask<'_>) -> Option<bool> {
    let (operator, if_exists) = match operator.strip_suffix("IfExists") {
        Some(operator) => (operator, true),
        None => (operator, false),
    };
    let has = context(key, ask)?;
    if operator == "Null" {
        return Some(wanted.iter().any(|w| w.eq_ignore_ascii_case("true")) == has.is_none());
    }
    if wanted.iter().any(|w| w.contains("${")) {
        return None;
    }
    let (negated, plain) =
        match operator.strip_prefix("StringNot").or(operator.strip_prefix("ArnNot")) {
            Some(rest) => (true, rest),
            None => (false, operator.trim_start_matches("String").trim_start_matches("Arn")),
        };
    let arn = operator.starts_with("Arn");
    let fits: fn(&str, &str) -> bool = match (plain, arn) {
        ("Equals" | "Like", true) => like_arn,
        ("Equals", false) => |wanted, has| wanted == has,
        ("EqualsIgnoreCase", false) => str::eq_ignore_ascii_case,
        ("Like", false) => like,
        ("Bool", false) => str::eq_ignore_ascii_case,
        _ => return None,
    };
    // A condition on what a request does not have is not met, a negated one is (IAM guide, "Condition
    // operators").
    let Some(value) = has else {
        return Some(if_exists || negated);
    };
    Some(wanted.iter().any(|w| fits(w, &value)) != negated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_takes_no_more_time_than_its_length_is_worth() {
        let bad = format!("{}z", "a*".repeat(2_000));
        assert!(!like(&bad, &"a".repeat(2_000)));
        for (pattern, text, fits) in [
            ("", "", true),
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abbcd", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*b*", "abc", true),
            ("a", "A", false),
        ] {
            assert_eq!(like(pattern, text), fits, "{pattern} {text}");
        }
    }
}
