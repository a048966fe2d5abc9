//! Condition operators, sets of values, and policy variables (IAM guide, "Condition operators", "Multivalued
//! context keys", "Policy variables").

use super::document::texts;
use super::pattern::{Pattern, Token, covers, fits_arn, is_arn, literal, lower, pattern};
use super::{Context, all, any};
use crate::time::Time;
use serde_json::Value;
use std::cmp::Ordering;
use std::net::IpAddr;

/// One condition: a key, compared with values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The key, as it is written.
    pub key: String,
    operator: Operator,
    values: Vec<String>,
    variables: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Operator {
    set: Set,
    test: Test,
    not: bool,
    if_exists: bool,
}

/// How many of a request's values must fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    /// The one that there is.
    One,
    /// `ForAllValues`.
    All,
    /// `ForAnyValue`.
    Any,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Test {
    Equals,
    IgnoringCase,
    Like,
    Arn,
    Number(Compare),
    Date(Compare),
    Bool,
    Binary,
    Address,
    Null,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compare {
    Equals,
    Less,
    AtMost,
    More,
    AtLeast,
}

impl Compare {
    fn holds(self, order: Ordering) -> bool {
        match self {
            Compare::Equals => order.is_eq(),
            Compare::Less => order.is_lt(),
            Compare::AtMost => order.is_le(),
            Compare::More => order.is_gt(),
            Compare::AtLeast => order.is_ge(),
        }
    }

    fn named(name: &str) -> Option<(Compare, bool)> {
        Some(match name {
            "Equals" => (Compare::Equals, false),
            "NotEquals" => (Compare::Equals, true),
            "LessThan" => (Compare::Less, false),
            "LessThanEquals" => (Compare::AtMost, false),
            "GreaterThan" => (Compare::More, false),
            "GreaterThanEquals" => (Compare::AtLeast, false),
            _ => return None,
        })
    }
}

impl Operator {
    fn parse(name: &str) -> Option<Operator> {
        let (set, rest) = match name.split_once(':') {
            None => (Set::One, name),
            Some(("ForAllValues", rest)) => (Set::All, rest),
            Some(("ForAnyValue", rest)) => (Set::Any, rest),
            Some(_) => return None,
        };
        let (rest, if_exists) = match rest.strip_suffix("IfExists") {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let (test, not) = match rest {
            "StringEquals" => (Test::Equals, false),
            "StringNotEquals" => (Test::Equals, true),
            "StringEqualsIgnoreCase" => (Test::IgnoringCase, false),
            "StringNotEqualsIgnoreCase" => (Test::IgnoringCase, true),
            "StringLike" => (Test::Like, false),
            "StringNotLike" => (Test::Like, true),
            "ArnEquals" | "ArnLike" => (Test::Arn, false),
            "ArnNotEquals" | "ArnNotLike" => (Test::Arn, true),
            "Bool" => (Test::Bool, false),
            "BinaryEquals" => (Test::Binary, false),
            "IpAddress" => (Test::Address, false),
            "NotIpAddress" => (Test::Address, true),
            // It asks whether the key is there: there is no "if it exists" to it, nor a set.
            "Null" if set == Set::One && !if_exists => (Test::Null, false),
            other => {
                let number = other.strip_prefix("Numeric").and_then(Compare::named);
                let date = other.strip_prefix("Date").and_then(Compare::named);
                match (number, date) {
                    (Some((compare, not)), _) => (Test::Number(compare), not),
                    (_, Some((compare, not))) => (Test::Date(compare), not),
                    (None, None) => return None,
                }
            }
        };
        Some(Operator { set, test, not, if_exists })
    }
}

/// Reads the conditions of a statement: all of them must be met.
///
/// # Errors
/// An operator that is not known, or values that are no texts.
pub fn parse(value: &Value, variables: bool) -> Result<Vec<Condition>, String> {
    let operators = value.as_object().ok_or("Condition must be an object")?;
    let mut conditions = Vec::new();
    for (name, keys) in operators {
        let operator = Operator::parse(name)
            .ok_or_else(|| format!("the condition operator {name} is not known"))?;
        let keys = keys.as_object().ok_or_else(|| format!("{name} must be an object of keys"))?;
        for (key, values) in keys {
            let values = texts(values, key)?;
            conditions.push(Condition { key: key.clone(), operator, values, variables });
        }
    }
    Ok(conditions)
}

impl Condition {
    /// The principals that it leaves out, where that is what it is about.
    pub(super) fn exempt_principals(&self) -> Option<&[String]> {
        let principals = self.key.eq_ignore_ascii_case("aws:PrincipalArn");
        (principals && self.operator.not).then_some(self.values.as_slice())
    }

    /// Whether it is met; `None` where that depends on what is not known.
    pub fn is_met(&self, context: &Context) -> Option<bool> {
        let Operator { set, test, not, if_exists } = self.operator;
        let has = context.get(&self.key)?;
        if test == Test::Null {
            // "The key exists and its value is not null" (IAM guide, "Multivalued context keys").
            let none = has.is_none_or(<[String]>::is_empty);
            return Some(self.values.iter().any(|v| v.eq_ignore_ascii_case("true") == none));
        }
        let values = match (has, set) {
            // "If the key is not present": a condition is not met, a negated one is; ForAllValues is.
            (None, _) if if_exists => return Some(true),
            (None, Set::One) => return Some(not),
            (None, Set::All) => return Some(true),
            (None, Set::Any) => return Some(false),
            (Some(values), _) => values,
        };
        let one = |value: &String| Some(self.fits(value, context)? != not);
        match set {
            // Several values under an operator for one: what AWS does then is not documented.
            Set::One if values.len() != 1 => None,
            Set::One => one(&values[0]),
            Set::All => all(values.iter().map(one)),
            Set::Any => any(values.iter().map(one)),
        }
    }

    /// Whether a value of the request fits one of the policy's.
    fn fits(&self, value: &str, context: &Context) -> Option<bool> {
        let test = self.operator.test;
        let one =
            |wanted: &String| match expand(wanted, test.has_wildcards(), self.variables, context) {
                Text::Known(wanted) => test.holds(&wanted, value),
                // "The comparison does not match": for a negated one nobody says so.
                Text::Missing if self.operator.not => None,
                Text::Missing => Some(false),
                Text::Unknown => None,
            };
        any(self.values.iter().map(one))
    }
}

impl Test {
    fn has_wildcards(self) -> bool {
        matches!(self, Test::Like | Test::Arn)
    }

    /// Whether a value fits; `None` where one of the two is not what the operator compares: AWS does not say
    /// what comes of that.
    fn holds(self, wanted: &[Token], value: &str) -> Option<bool> {
        let text = || -> String {
            let one = |t: &Token| match t {
                Token::Any => '*',
                Token::One => '?',
                Token::Is(c) => *c,
            };
            wanted.iter().map(one).collect()
        };
        match self {
            Test::Equals | Test::Binary => Some(wanted == literal(value)),
            Test::IgnoringCase | Test::Bool => Some(lower(wanted) == lower(&literal(value))),
            Test::Like => Some(covers(wanted, &literal(value))),
            Test::Arn if !is_arn(wanted) => None,
            Test::Arn => fits_arn(wanted, &literal(value)),
            Test::Number(compare) => {
                let (wanted, value) = (number(&text())?, number(value)?);
                value.partial_cmp(&wanted).map(|o| compare.holds(o))
            }
            Test::Date(compare) => Some(compare.holds(instant(value)?.cmp(&instant(&text())?))),
            Test::Address => {
                let value: IpAddr = value.parse().ok()?;
                let one = || text().parse::<IpAddr>().ok().map(ipnet::IpNet::from);
                Some(text().parse().ok().or_else(one)?.contains(&value))
            }
            // Answered before any value is looked at.
            Test::Null => None,
        }
    }
}

/// A number that a float holds exactly.
fn number(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|n| n.is_finite() && n.abs() < 9_007_199_254_740_992.0)
}

/// A date of ISO 8601, as far as W3C's profile goes, or seconds since 1970 (IAM guide, "Date condition
/// operators").
fn instant(text: &str) -> Option<Time> {
    if let Ok(seconds) = text.parse::<i64>()
        && text.len() > 4
    {
        return Some(Time(seconds.checked_mul(1_000)?));
    }
    let whole = match text.len() {
        4 => format!("{text}-01-01T00:00:00Z"),
        7 => format!("{text}-01T00:00:00Z"),
        10 => format!("{text}T00:00:00Z"),
        _ => text.to_owned(),
    };
    Time::parse(&whole)
}

/// A text of a policy with its variables filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Text {
    /// All of them.
    Known(Pattern),
    /// One has no value and no default.
    Missing,
    /// The value of one is not known.
    Unknown,
}

/// Fills in `${key}`, `${key, 'default'}`, and `${*}`, `${?}`, `${$}`, which stand for the characters.
pub fn expand(text: &str, wildcards: bool, variables: bool, context: &Context) -> Text {
    let read = if wildcards { pattern } else { literal };
    let (mut tokens, mut rest) = (Pattern::new(), text);
    while variables
        && let Some((before, after)) = rest.split_once("${")
        && let Some((name, after)) = after.split_once('}')
    {
        tokens.extend(read(before));
        rest = after;
        let (key, default) = match name.split_once(',') {
            Some((key, default)) => (key.trim(), Some(default.trim().trim_matches('\''))),
            None => (name.trim(), None),
        };
        let value = match (key, context.get(key)) {
            ("*" | "?" | "$", _) => key.to_owned(),
            (_, None) => return Text::Unknown,
            (_, Some(Some([one]))) => one.clone(),
            // "You can't use a multivalued key as a variable."
            (_, Some(Some(_))) => return Text::Unknown,
            (_, Some(None)) => match default {
                Some(default) => default.to_owned(),
                None => return Text::Missing,
            },
        };
        tokens.extend(literal(&value));
    }
    tokens.extend(read(rest));
    Text::Known(tokens)
}
