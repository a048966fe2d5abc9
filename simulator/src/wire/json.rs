//! JSON 1.0, 1.1 and REST: bodies to a tree and back. Timestamps are seconds since 1970.

use crate::fault::{Fault, Kind};
use crate::value::{Map, Text, Value};
use serde_json::Value as Json;

/// Reads a body; an empty one has no parameters.
pub fn parse(body: &[u8]) -> Result<Map, Fault> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    match serde_json::from_slice(body) {
        Ok(Json::Object(map)) => Ok(members(map)),
        Ok(_) => Err(Fault::of(Kind::Malformed, "the body is not a JSON object")),
        Err(error) => Err(Fault::of(Kind::Malformed, format!("the body is not JSON: {error}"))),
    }
}

fn members(map: serde_json::Map<String, Json>) -> Map {
    map.into_iter().filter_map(|(name, v)| Some((Text::Owned(name), tree(v)?))).collect()
}

/// JSON to a value; null is absent.
pub fn tree(json: Json) -> Option<Value> {
    Some(match json {
        Json::Null => return None,
        Json::Bool(flag) => Value::Bool(flag),
        Json::Number(n) => match n.as_i64() {
            Some(n) => Value::Int(n),
            None => Value::Float(n.as_f64().unwrap_or_default()),
        },
        Json::String(text) => Value::from(text),
        Json::Array(items) => Value::List("member", items.into_iter().filter_map(tree).collect()),
        Json::Object(map) => Value::Map(members(map)),
    })
}

/// A value as JSON.
pub fn to_json(value: &Value) -> Json {
    match value {
        Value::Bool(flag) => Json::Bool(*flag),
        Value::Int(n) => Json::from(*n),
        Value::Float(n) => Json::from(*n),
        Value::Text(text) => Json::from(text.as_ref()),
        Value::Time(time) => Json::from(time.0 as f64 / 1000.0),
        Value::List(_, items) => items.iter().map(to_json).collect(),
        Value::Map(map) => object(map),
    }
}

/// A structure as JSON.
pub fn object(map: &Map) -> Json {
    Json::Object(map.iter().map(|(name, value)| (name.to_owned(), to_json(value))).collect())
}

/// A reply's body. The query-like protocols name the error in `__type`, REST in a header.
pub fn write(map: &Map, error: Option<(&str, &Fault)>, typed: bool) -> Vec<u8> {
    let Some((code, fault)) = error else {
        return object(map).to_string().into_bytes();
    };
    // KMS, Config and CloudTrail spell it `message`, Organizations `Message`; SDKs take both.
    let mut body = serde_json::json!({"message": fault.message, "Message": fault.message});
    if typed {
        body["__type"] = code.into();
    }
    if let Some(reason) = fault.reason {
        body["Reason"] = reason.into();
    }
    body.to_string().into_bytes()
}
