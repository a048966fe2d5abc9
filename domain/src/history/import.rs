//! Calls from a file: an export of a trail.

mod exported;

use super::call::{Calls, Event, event};
use super::lookup::{Lookup, service_of};
use crate::id::AccountId;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Reads the records of a trail: its log files (`{"Records": [...]}`), what `aws cloudtrail lookup-events` prints
/// (`{"Events": [{"CloudTrailEvent": "..."}]}`), what a query of Athena or CloudTrail Lake gives (CSV with a header,
/// `QueryResultRows`), or records one a line. Only what the lookups ask for is kept.
///
/// # Errors
/// Where it is not one of these: the line. A call that cannot be read must not count as one that nothing denies.
pub fn import(
    text: &str,
    lookups: &BTreeSet<Lookup>,
) -> Result<BTreeMap<AccountId, Calls>, String> {
    let mut all: BTreeMap<AccountId, Calls> = BTreeMap::new();
    if !text.trim_start().is_empty() && !text.trim_start().starts_with(['{', '[']) {
        for row in csv::Reader::from_reader(text.as_bytes()).into_deserialize::<Row>() {
            let row = row.map_err(|e| format!("as CSV with a header: {e}"))?;
            let at = |e: String| {
                format!(
                    "in a row of {}: {e}",
                    row.get("eventtime").or(row.get("eventTime")).map_or("no time", String::as_str)
                )
            };
            let fields = row.iter().map(|(k, v)| (k.clone(), Value::String(v.clone())));
            let record = exported::record(Value::Object(fields.collect())).map_err(at)?;
            take(&record, lookups, &mut all).map_err(at)?;
        }
        return Ok(all);
    }
    let mut documents = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    loop {
        let line = 1 + text[..documents.byte_offset()].matches('\n').count();
        let Some(document) = documents.next() else { return Ok(all) };
        let document = document.map_err(|e| format!("line {}: {e}", e.line()))?;
        let at = |e: String| format!("in what begins on line {line}: {e}");
        for record in records(document).map_err(at)? {
            take(&record, lookups, &mut all).map_err(at)?;
        }
    }
}

/// A row of CSV by its header.
type Row = BTreeMap<String, String>;

/// Adds a record, if the lookups ask for it.
fn take(
    record: &Value,
    lookups: &BTreeSet<Lookup>,
    all: &mut BTreeMap<AccountId, Calls>,
) -> Result<(), String> {
    let service = service_of(record["eventSource"].as_str().ok_or("it has no eventSource")?);
    let name = record["eventName"].as_str().ok_or("it has no eventName")?;
    let meant = |l: &Lookup| match l {
        Lookup::Name { name: of, .. } => of.eq_ignore_ascii_case(name) && l.is_about(&service),
        Lookup::Service(_) | Lookup::Everything => l.is_about(&service),
    };
    if !lookups.iter().any(meant) {
        return Ok(());
    }
    let account = record["recipientAccountId"].as_str().unwrap_or_default();
    match event(record)? {
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
    Ok(())
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
    // `aws cloudtrail get-query-results`: each row is a list of columns, each of them an object of one key.
    if let Some(Value::Array(rows)) = map.remove("QueryResultRows") {
        let merged = |row: &Value| {
            let columns = row.as_array().into_iter().flatten().filter_map(Value::as_object);
            let fields = columns.flat_map(|c| c.iter().map(|(k, v)| (k.clone(), v.clone())));
            exported::record(Value::Object(fields.collect()))
        };
        return rows.iter().map(merged).collect();
    }
    match map.keys().any(|k| k.eq_ignore_ascii_case("eventName")) {
        true => Ok(vec![exported::record(Value::Object(map))?]),
        false => {
            Err("it has neither Records nor Events nor QueryResultRows nor an eventName".into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::call::tests::record;
    use super::*;
    use serde_json::json;

    /// What an export's columns are: nested ones as JSON text, names in small letters.
    fn columns(record: &Value) -> Vec<(String, String)> {
        let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
        record
            .as_object()
            .unwrap()
            .iter()
            .map(|(k, v)| {
                (
                    k.to_lowercase(),
                    text(v)
                        .replace("sessionContext", "sessioncontext")
                        .replace("sessionIssuer", "sessionissuer")
                        .replace("accountId", "accountid"),
                )
            })
            .collect()
    }

    #[test]
    fn results_of_queries_are_read_as_the_records_that_they_are_of() {
        let lookups = BTreeSet::from([Lookup::Everything]);
        let mut plain = record();
        plain["requestParameters"]["storageEncrypted"] = true.into();
        let want = import(&plain.to_string(), &lookups).unwrap();
        let quoted = |t: &str| format!("\"{}\"", t.replace('"', "\"\""));
        let (names, values): (Vec<String>, Vec<String>) = columns(&plain).into_iter().unzip();
        let values: Vec<String> = values.iter().map(|v| quoted(v)).collect();
        let csv = format!("{}\n{}\n", names.join(","), values.join(","));
        assert_eq!(import(&csv, &lookups).unwrap(), want, "{csv}");
        // CloudTrail Lake writes times without T and Z.
        let lake = csv.replace("2026-11-01T10:00:00Z", "2026-11-01 10:00:00.000");
        assert_eq!(import(&lake, &lookups).unwrap(), want);
        let rows: Vec<Value> = columns(&plain).into_iter().map(|(k, v)| json!({k: v})).collect();
        let lake = json!({"QueryStatus": "FINISHED", "QueryResultRows": [rows]});
        assert_eq!(import(&lake.to_string(), &lookups).unwrap(), want);
        // What Athena's UNLOAD writes.
        let small: serde_json::Map<String, Value> = columns(&plain)
            .into_iter()
            .map(|(k, v)| (k, serde_json::from_str(&v).unwrap_or(v.into())))
            .collect();
        assert_eq!(import(&Value::Object(small).to_string(), &lookups).unwrap(), want);
        // A structure as Athena prints it by itself is no JSON: it cannot be read without guessing.
        let printed = csv.replace(
            &quoted(&columns(&plain).iter().find(|(k, _)| k == "useridentity").unwrap().1),
            "{type=AssumedRole}",
        );
        let error = import(&printed, &lookups).unwrap_err();
        assert!(error.contains("userIdentity is no JSON") && error.contains("CAST"), "{error}");
        let gone = csv.replace("useridentity", "other");
        assert!(import(&gone, &lookups).unwrap_err().contains("has no userIdentity"));
    }

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
        assert_eq!(count("eventname,eventsource\n"), 0, "a query that found nothing");
        for (text, want) in [
            (format!("{one}\n{{\n"), "line 3"),
            (format!("{one}\n[1]\n"), "in what begins on line 1"),
            (r#"{"a":1}"#.to_owned(), "neither Records nor Events"),
            (format!("{one}").replace("eu-west-1", ""), "has no awsRegion"),
            ("eventname,eventsource\na,b,c\n".to_owned(), "as CSV with a header"),
            ("a,b\nc,d\n".to_owned(), "it has no eventSource"),
        ] {
            let error = import(&text, &lookups).unwrap_err();
            assert!(error.contains(want), "{text}: {error}");
        }
    }
}
