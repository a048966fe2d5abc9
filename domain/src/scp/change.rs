//! What one policy denies and another one does not: said before one takes the place of the other.

use super::coverage::{Covered, coverage};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What changes where the later policy takes the place of the earlier one, for people; empty if nothing does. Both hold denials
/// alone, so nothing is given: a statement more denies more, one less denies less, whatever else is attached.
///
/// # Errors
/// One of them is not understood.
pub fn changes(earlier: &str, later: &str) -> Result<Vec<String>, String> {
    let (old, new) = (statements(earlier)?, statements(later)?);
    let mut said = Vec::new();
    let not_in = |some: &[Named], others: &[Named]| -> Vec<Named> {
        let lacks = |s: &&Named| !others.iter().any(|o| o.1 == s.1);
        some.iter().filter(lacks).cloned().collect()
    };
    let (gone, come) = (not_in(&old, &new), not_in(&new, &old));
    for (name, then) in &come {
        let how = match gone.iter().find(|(gone, _)| gone == name) {
            Some((_, before)) => {
                format!("denies otherwise than before: {}", otherwise(before, then).join("; "))
            }
            None => "denies more".to_owned(),
        };
        said.push(format!("{name}: {how}"));
    }
    let less = gone.iter().filter(|(name, _)| !come.iter().any(|(come, _)| come == name));
    said.extend(less.map(|(name, _)| format!("{name}: is not denied any more")));
    let ways = coverage(earlier)?.into_iter().zip(coverage(later)?);
    said.extend(ways.flat_map(|(old, new)| differs(&old, &new)));
    Ok(said)
}

fn differs(old: &Covered, new: &Covered) -> Vec<String> {
    let word = |said: &str| said.split([':', ' ']).next().unwrap_or_default().to_owned();
    let one = |what: &str, old: &str, new: &str| {
        (word(old) != word(new)).then(|| format!("{what}: {old} before, {new} then"))
    };
    let plain = one(&format!("{}, unencrypted", old.path), &old.unencrypted, &new.unencrypted);
    let encrypted = one(&format!("{}, encrypted", old.path), &old.encrypted, &new.encrypted);
    plain.into_iter().chain(encrypted).collect()
}

/// Which parts of a statement say something else: `Condition StringNotEquals aws:PrincipalAccount: with 111122223333`.
fn otherwise(before: &Value, then: &Value) -> Vec<String> {
    let (before, then) = (parts(before), parts(then));
    let all: BTreeSet<&String> = before.keys().chain(then.keys()).collect();
    let none = BTreeSet::new();
    let line = |part: &String| {
        let (old, new) = (before.get(part).unwrap_or(&none), then.get(part).unwrap_or(&none));
        let only = |word: &str, some: &BTreeSet<String>, others: &BTreeSet<String>| {
            let only: Vec<&str> = some.difference(others).map(String::as_str).collect();
            (!only.is_empty()).then(|| format!("{word} {}", only.join(", ")))
        };
        let said: Vec<String> =
            [only("with", new, old), only("without", old, new)].into_iter().flatten().collect();
        (!said.is_empty()).then(|| format!("{part} {}", said.join(" and ")))
    };
    all.into_iter().filter_map(line).collect()
}

/// The elements of a statement with their values; of its condition, each operator's keys by themselves.
fn parts(statement: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let values = |value: &Value| match value {
        Value::Array(list) => list.iter().map(text).collect(),
        one => BTreeSet::from([text(one)]),
    };
    let mut parts = BTreeMap::new();
    for (element, value) in statement.as_object().into_iter().flatten() {
        match (element.as_str(), value.as_object()) {
            ("Condition", Some(operators)) => {
                for (operator, keys) in operators {
                    for (key, value) in keys.as_object().into_iter().flatten() {
                        parts.insert(format!("{element} {operator} {key}"), values(value));
                    }
                }
            }
            _ => drop(parts.insert(element.clone(), values(value))),
        }
    }
    parts
}

/// A statement with what people call it.
type Named = (String, Value);

fn statements(document: &str) -> Result<Vec<Named>, String> {
    let read: Value = serde_json::from_str(document).map_err(|e| e.to_string())?;
    let list = match &read["Statement"] {
        Value::Array(list) => list.clone(),
        one => vec![one.clone()],
    };
    let named = |(n, statement): (usize, Value)| {
        let sid = statement["Sid"].as_str().map(str::to_owned);
        (sid.unwrap_or_else(|| format!("statement {}", n + 1)), statement)
    };
    Ok(list.into_iter().enumerate().map(named).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scp::{Parameters, RDS_ENCRYPTION, rds_encryption};

    #[test]
    fn what_a_version_denies_more_or_less_is_said() {
        assert_eq!(changes(RDS_ENCRYPTION, RDS_ENCRYPTION), Ok(Vec::new()));
        let stops = r#"{"Version":"2012-10-17","Statement":[{"Sid":"NoStop","Effect":"Deny","Action":"rds:StopDBInstance","Resource":"*"}]}"#;
        let said = changes(stops, RDS_ENCRYPTION).unwrap();
        assert!(said.contains(&"DenyUnencryptedInstance: denies more".to_owned()), "{said:?}");
        assert!(said.contains(&"NoStop: is not denied any more".to_owned()), "{said:?}");
        let way =
            "CreateDBInstance, unencrypted: allowed before, denied by DenyUnencryptedInstance then";
        assert!(said.contains(&way.to_owned()), "{said:?}");
        let back = changes(RDS_ENCRYPTION, stops).unwrap();
        assert!(
            back.iter().any(|l| l.starts_with("CreateDBCluster, unencrypted: denied by")),
            "{back:?}"
        );
        let exempt =
            Parameters { exempt_engines: vec!["postgres".into()], ..Parameters::default() };
        let exempt = rds_encryption(&exempt, &std::collections::BTreeSet::new()).unwrap();
        let said = changes(RDS_ENCRYPTION, &exempt).unwrap();
        assert!(
            said[0].ends_with(
                ": denies otherwise than before: Condition StringNotLike rds:DatabaseEngine with postgres"
            ),
            "{said:?}"
        );
        assert!(
            said.iter().any(|l| l.starts_with("CreateDBInstance, unencrypted: denied by")
                && l.ends_with("allowed then")),
            "{said:?}"
        );
        assert!(changes("{", stops).is_err());
    }
}
