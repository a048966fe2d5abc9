//! A policy document, read strictly: what is not understood is an error, never left out.

use super::condition::{self, Condition};
use super::pattern::{Pattern, covers, fits_arn, literal, lower, pattern};
use super::{Request, all, any};
use serde_json::{Map, Value};

/// A policy without principals: an SCP, or what an identity has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Its statements, in their order.
    pub statements: Vec<Statement>,
}

/// A statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Its Sid, else `statement 2`.
    pub name: String,
    /// Whether it denies; it allows otherwise.
    pub denies: bool,
    actions: Actions,
    resources: Resources,
    conditions: Vec<Condition>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Actions {
    /// As written.
    texts: Vec<String>,
    patterns: Vec<Pattern>,
    all_but: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Resources {
    texts: Vec<String>,
    all_but: bool,
    /// Whether `${...}` is a variable: in documents of version 2012-10-17 alone.
    variables: bool,
}

const ELEMENTS: &[&str] =
    &["Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"];

impl Policy {
    /// Reads a document.
    ///
    /// # Errors
    /// It is no policy, or has something that is not known here; the text names the statement.
    pub fn parse(document: &str) -> Result<Policy, String> {
        let top: Map<String, Value> =
            serde_json::from_str(document).map_err(|e| format!("it is no JSON object: {e}"))?;
        if let Some(odd) =
            top.keys().find(|k| !["Version", "Id", "Statement"].contains(&k.as_str()))
        {
            return Err(format!("its element {odd} is not known"));
        }
        let variables = top.get("Version").and_then(Value::as_str) == Some("2012-10-17");
        let statements = match top.get("Statement") {
            Some(Value::Array(list)) => list.iter().collect(),
            Some(one @ Value::Object(_)) => vec![one],
            _ => return Err("it has no Statement".into()),
        };
        let statement = |(i, value): (usize, &Value)| {
            let name = match value["Sid"].as_str() {
                Some(sid) if !sid.is_empty() => sid.to_owned(),
                _ => format!("statement {}", i + 1),
            };
            Statement::parse(&name, value, variables).map_err(|e| format!("{name}: {e}"))
        };
        let statements =
            statements.into_iter().enumerate().map(statement).collect::<Result<_, _>>()?;
        Ok(Policy { statements })
    }
}

impl Statement {
    fn parse(name: &str, value: &Value, variables: bool) -> Result<Statement, String> {
        let map = value.as_object().ok_or("it is no JSON object")?;
        if let Some(odd) = map.keys().find(|k| !ELEMENTS.contains(&k.as_str())) {
            return Err(format!("its element {odd} is not known"));
        }
        let denies = match map.get("Effect").and_then(Value::as_str) {
            Some("Deny") => true,
            Some("Allow") => false,
            _ => return Err("Effect must be Allow or Deny".into()),
        };
        let (actions, all_but) = one_of(map, "Action", "NotAction")?;
        if let Some(odd) = actions.iter().find(|a| *a != "*" && !a.contains(':')) {
            return Err(format!("`{odd}` is not an action (service:Operation)"));
        }
        let patterns = actions.iter().map(|a| lower(&pattern(a))).collect();
        let actions = Actions { texts: actions, patterns, all_but };
        let (texts, all_but) = one_of(map, "Resource", "NotResource")?;
        let resources = Resources { texts, all_but, variables };
        let conditions = match map.get("Condition") {
            None => Vec::new(),
            Some(value) => condition::parse(value, variables)?,
        };
        Ok(Statement { name: name.to_owned(), denies, actions, resources, conditions })
    }

    /// Whether it is about a request.
    pub fn applies(&self, request: &Request) -> Option<bool> {
        // Most statements are about other actions: nothing else of those is looked at.
        let wanted = lower(&literal(&request.action));
        if self.actions.patterns.iter().any(|p| covers(p, &wanted)) == self.actions.all_but {
            return Some(false);
        }
        let conditions = self.conditions.iter().map(|c| c.is_met(&request.context));
        all(std::iter::once_with(|| self.resources.hold(request)).chain(conditions))
    }

    /// Its actions as they are written, and whether it is about all but these.
    pub fn actions(&self) -> (&[String], bool) {
        (&self.actions.texts, self.actions.all_but)
    }

    /// Whether one of its conditions is about this key.
    pub fn looks_at(&self, key: &str) -> bool {
        self.conditions.iter().any(|c| c.key.eq_ignore_ascii_case(key))
    }

    /// The principals that its conditions leave out, as they are written there.
    pub fn exempt_principals(&self) -> Vec<String> {
        self.conditions.iter().filter_map(Condition::exempt_principals).flatten().cloned().collect()
    }

    /// The keys of its conditions that nobody knows of a request.
    pub fn unknown_keys(&self, request: &Request) -> Vec<String> {
        let unknown = self.conditions.iter().filter(|c| c.is_met(&request.context).is_none());
        let mut keys: Vec<String> = unknown.map(|c| c.key.clone()).collect();
        keys.sort();
        keys.dedup();
        keys
    }
}

impl Resources {
    fn hold(&self, request: &Request) -> Option<bool> {
        let about = pattern(&request.resource);
        let fits =
            |text: &String| match condition::expand(text, true, self.variables, &request.context) {
                condition::Text::Known(pattern) => fits_arn(&pattern, &about),
                // A variable without a value fits nothing; what is left out then nobody says.
                condition::Text::Missing if self.all_but => None,
                condition::Text::Missing => Some(false),
                condition::Text::Unknown => None,
            };
        any(self.texts.iter().map(fits)).map(|f| f != self.all_but)
    }
}

/// One of two elements, and whether it is the second.
fn one_of(map: &Map<String, Value>, plain: &str, not: &str) -> Result<(Vec<String>, bool), String> {
    match (map.get(plain), map.get(not)) {
        (Some(value), None) => Ok((texts(value, plain)?, false)),
        (None, Some(value)) => Ok((texts(value, not)?, true)),
        (Some(_), Some(_)) => Err(format!("it has {plain} and {not}: one of them is meant")),
        (None, None) => Err(format!("it needs {plain}")),
    }
}

/// One text or a list of them.
pub(super) fn texts(value: &Value, name: &str) -> Result<Vec<String>, String> {
    let one = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(flag) => Ok(flag.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            Err(format!("{name} must be text or a list of texts"))
        }
    };
    match value {
        Value::Array(list) if list.is_empty() => Err(format!("{name} is empty")),
        Value::Array(list) => list.iter().map(one).collect(),
        value => Ok(vec![one(value)?]),
    }
}
