//! Calls from a file: an export of a trail.

use super::call::{Calls, Event, event};
use super::lookup::{Lookup, service_of};
use crate::id::AccountId;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Reads the records of a trail: its log files (`{"Records": [...]}`), what `aws cloudtrail lookup-events` prints
/// (`{"Events": [{"CloudTrailEvent": "..."}]}`), or records one a line. Only what the lookups ask for is kept.
///
/// # Errors
/// Where it is not one of these: the line.
pub fn import(
    text: &str,
    lookups: &BTreeSet<Lookup>,
) -> Result<BTreeMap<AccountId, Calls>, String> {
    let mut all: BTreeMap<AccountId, Calls> = BTreeMap::new();
    let mut documents = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    loop {
        let line = 1 + text[..documents.byte_offset()].matches('\n').count();
        let Some(document) = documents.next() else { return Ok(all) };
        let document = document.map_err(|e| format!("line {}: {e}", e.line()))?;
        let at = |e: String| format!("in what begins on line {line}: {e}");
        for record in records(document).map_err(at)? {
            let service = service_of(record["eventSource"].as_str().unwrap_or_default());
            let name = record["eventName"].as_str().unwrap_or_default();
            let meant = |l: &Lookup| match l {
                Lookup::Name { name: of, .. } => {
                    of.eq_ignore_ascii_case(name) && l.is_about(&service)
                }
                Lookup::Service(_) | Lookup::Everything => l.is_about(&service),
            };
            if !lookups.iter().any(meant) {
                continue;
            }
            let account = record["recipientAccountId"].as_str().unwrap_or_default();
            match event(&record).map_err(at)? {
                Event::Call(call, when) => {
                    let account = call.account.clone();
                    all.entry(account).or_default().add(Event::Call(call, when));
                }
                other => {
                    if let Ok(account) = account.parse() {
                        all.entry(account).or_default().add(other);
                    }
                }
            }
        }
    }
}

fn records(document: Value) -> Result<Vec<Value>, String> {
    let Value::Object(mut map) = document else {
        return Err("it is no JSON object: a trail's log file, the output of `aws cloudtrail lookup-events`, or a record".into());
    };
    if let Some(Value::Array(records)) = map.remove("Records") {
        return Ok(records);
    }
    if let Some(Value::Array(events)) = map.remove("Events") {
        let inner = |e: &Value| {
            let text = e["CloudTrailEvent"].as_str().ok_or("an event has no CloudTrailEvent")?;
            serde_json::from_str(text).map_err(|e| format!("a CloudTrailEvent: {e}"))
        };
        return events.iter().map(inner).collect();
    }
    match map.contains_key("eventName") {
        true => Ok(vec![Value::Object(map)]),
        false => Err("it has neither Records nor Events nor an eventName".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::call::tests::record;
    use super::*;
    use serde_json::json;

    #[test]
    fn the_forms_in_which_trails_are_exported_are_read() {
        let lookups = BTreeSet::from([Lookup::Name {
            service: "rds".into(),
            name: "CreateDBInstance".into(),
        }]);
        let (one, mut other) = (record(), record());
        other["eventName"] = "CreateDBCluster".into();
        let count = |text: &str| {
            let all = import(text, &lookups).unwrap();
            all.values().flat_map(|c| c.kinds.values()).map(|(n, ..)| *n).sum::<u64>()
        };
        assert_eq!(count(&json!({"Records": [one, other, one]}).to_string()), 2);
        assert_eq!(count(&format!("{one}\n{other}\n{one}\n")), 2);
        let inner = json!({"Events": [{"CloudTrailEvent": one.to_string()}]});
        assert_eq!(count(&serde_json::to_string_pretty(&inner).unwrap()), 1);
        assert_eq!(count(""), 0);
        for (text, want) in [
            (format!("{one}\n{{\n"), "line 3"),
            (format!("{one}\n[1]\n"), "in what begins on line 1"),
            (r#"{"a":1}"#.to_owned(), "neither Records nor Events"),
            (format!("{one}").replace("eu-west-1", ""), "has no awsRegion"),
        ] {
            let error = import(&text, &lookups).unwrap_err();
            assert!(error.contains(want), "{text}: {error}");
        }
    }
}
