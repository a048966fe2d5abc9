//! Smithy RPC v2 with CBOR, which CloudWatch's clients speak first.
//! Source: smithy.io "Smithy RPC v2 CBOR protocol": timestamps are tag 1, errors carry `__type`.

use crate::fault::{Fault, Kind};
use crate::value::{Map, Text, Time, Value};
use ciborium::Value as Cbor;

/// A reader's depth; CloudWatch's own shapes need seven levels.
const DEPTH_MAX: usize = 32;

/// Reads a body; an empty one has no parameters.
pub fn parse(body: &[u8]) -> Result<Map, Fault> {
    let malformed = |message: String| Fault::of(Kind::Malformed, message);
    if body.is_empty() {
        return Ok(Map::new());
    }
    let cbor: Cbor = ciborium::de::from_reader_with_recursion_limit(body, DEPTH_MAX)
        .map_err(|error| malformed(format!("the body is not CBOR: {error}")))?;
    match tree(cbor) {
        Some(Value::Map(map)) => Ok(map),
        _ => Err(malformed("the body is not a CBOR map".into())),
    }
}

fn tree(cbor: Cbor) -> Option<Value> {
    Some(match cbor {
        Cbor::Bool(flag) => Value::Bool(flag),
        Cbor::Integer(n) => Value::Int(i64::try_from(n).ok()?),
        Cbor::Float(n) => Value::Float(n),
        Cbor::Text(text) => Value::from(text),
        Cbor::Tag(1, seconds) => match *seconds {
            Cbor::Integer(n) => Value::Time(Time(i64::try_from(n).ok()?.checked_mul(1000)?)),
            Cbor::Float(n) => Value::Time(Time((n * 1000.0) as i64)),
            _ => return None,
        },
        Cbor::Array(items) => Value::List("member", items.into_iter().filter_map(tree).collect()),
        Cbor::Map(members) => {
            let member = |(name, value): (Cbor, Cbor)| {
                Some((Text::Owned(name.into_text().ok()?), tree(value)?))
            };
            Value::Map(members.into_iter().filter_map(member).collect())
        }
        _ => return None,
    })
}

fn to_cbor(value: &Value) -> Cbor {
    match value {
        Value::Bool(flag) => Cbor::Bool(*flag),
        Value::Int(n) => Cbor::Integer((*n).into()),
        Value::Float(n) => Cbor::Float(*n),
        Value::Text(text) => Cbor::Text(text.to_string()),
        Value::Time(time) => Cbor::Tag(1, Box::new(Cbor::Float(time.0 as f64 / 1000.0))),
        Value::List(_, items) => Cbor::Array(items.iter().map(to_cbor).collect()),
        Value::Map(map) => members(map),
    }
}

fn members(map: &Map) -> Cbor {
    Cbor::Map(map.iter().map(|(name, v)| (Cbor::Text(name.to_owned()), to_cbor(v))).collect())
}

/// A reply's body.
pub fn write(map: &Map, error: Option<(&str, &Fault)>) -> Vec<u8> {
    let cbor = match error {
        None => members(map),
        Some((code, fault)) => members(
            &Map::new()
                .with("__type", format!("com.amazonaws.cloudwatch#{code}"))
                .with("message", fault.message.clone()),
        ),
    };
    let mut body = Vec::new();
    ciborium::into_writer(&cbor, &mut body).unwrap_or_default();
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_comes_back() {
        let map = Map::new()
            .with("Start", Time(1_700_000_000_000))
            .with("Period", 60)
            .with("Queries", crate::value::list("member", [Map::new().with("Id", "a")]));
        assert_eq!(parse(&write(&map, None)).unwrap(), map);
        assert_eq!(parse(b"\x83\x01").unwrap_err().kind, Kind::Malformed);
        assert_eq!(parse(&[0x81; 4096]).unwrap_err().kind, Kind::Malformed);
    }
}
