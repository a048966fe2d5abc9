//! Records as queries give them: names in small letters, nested columns as text.

use serde_json::{Map, Value};

/// What is read of a record, in CloudTrail's own spelling (CloudTrail guide, "CloudTrail record contents").
const NAMES: &[&str] = &[
    "accountId",
    "arn",
    "awsRegion",
    "errorCode",
    "errorMessage",
    "eventName",
    "eventSource",
    "eventTime",
    "eventType",
    "invokedBy",
    "principalId",
    "recipientAccountId",
    "requestParameters",
    "sessionContext",
    "sessionIssuer",
    "sourceIdentity",
    "type",
    "userIdentity",
];

/// The record, as a trail would have written it.
///
/// # Errors
/// A nested column is no JSON: it would be read as a call without principal or parameters.
pub(super) fn record(exported: Value) -> Result<Value, String> {
    let mut record = spelled(exported, false);
    for name in ["userIdentity", "requestParameters"] {
        let text = match &record[name] {
            Value::String(text) => text.trim().to_owned(),
            _ => continue,
        };
        let read = match text.as_str() {
            "" | "-" => Value::Null,
            text => serde_json::from_str(text).map_err(|e| {
                format!("{name} is no JSON ({e}): query it as json_format(CAST({name} AS JSON))")
            })?,
        };
        record[name] = if name == "userIdentity" { spelled(read, true) } else { read };
    }
    if let Some(time) = record["eventTime"].as_str().filter(|t| !t.contains('T')) {
        record["eventTime"] = format!("{}Z", time.replacen(' ', "T", 1)).into();
    }
    Ok(record)
}

/// With the names that it has in a trail; of what is nested, only whose call it is: parameters keep their own.
fn spelled(value: Value, nested: bool) -> Value {
    let Value::Object(map) = value else { return value };
    let one = |(name, value): (String, Value)| {
        let known = NAMES.iter().find(|n| n.eq_ignore_ascii_case(&name));
        let name = known.map_or(name, |n| (*n).to_owned());
        let inside = nested || name == "userIdentity";
        let value = if inside { spelled(value, true) } else { value };
        (name, value)
    };
    Value::Object(map.into_iter().map(one).collect::<Map<String, Value>>())
}
