//! The one shape of requests and replies, whatever their wire protocol.
//!
//! Each protocol turns bytes into a [`Map`] and a [`Map`] into bytes; the world in between knows
//! members by the names that AWS's API references give them, and nothing of XML, JSON or CBOR.

use crate::fault::Fault;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The last millisecond of the year 9999; AWS takes no later ones.
const LAST_MS: i64 = 253_402_300_799_999;

/// A moment, in milliseconds since 1970 (UTC).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub i64);

impl Time {
    /// This much later.
    pub fn plus(self, ms: i64) -> Time {
        Time(self.0.saturating_add(ms))
    }
}

/// RFC 3339 with milliseconds, as AWS's XML protocols write it.
impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let moment = jiff::Timestamp::from_millisecond(self.0).unwrap_or(jiff::Timestamp::MAX);
        write!(f, "{moment:.3}")
    }
}

/// Text that is a literal most of the time.
pub type Text = Cow<'static, str>;

/// A member of a request or a reply.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// true or false
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// A string, or anything that came over a protocol which has strings only.
    Text(Text),
    /// A moment; each protocol writes it its own way.
    Time(Time),
    /// A list; the name is that of one item in XML.
    List(&'static str, Vec<Value>),
    /// A structure.
    Map(Map),
}

impl Value {
    /// The text, where it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The structure, where it is one.
    pub fn as_map(&self) -> Option<&Map> {
        match self {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The items, where it is a list.
    pub fn items(&self) -> &[Value] {
        match self {
            Value::List(_, items) => items,
            _ => &[],
        }
    }

    fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(flag) => Some(*flag),
            Value::Text(text) if text.eq_ignore_ascii_case("true") => Some(true),
            Value::Text(text) if text.eq_ignore_ascii_case("false") => Some(false),
            _ => None,
        }
    }

    fn as_float(&self) -> Option<f64> {
        match self {
            Value::Int(n) => Some(*n as f64),
            Value::Float(n) => Some(*n),
            Value::Text(text) => text.parse().ok(),
            _ => None,
        }
    }

    fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(n) => Some(*n),
            // CBOR and JSON clients may send whole numbers as floats.
            Value::Float(n) if n.fract() == 0.0 && n.abs() < 9e15 => Some(*n as i64),
            Value::Text(text) => text.parse().ok(),
            _ => None,
        }
    }

    fn as_time(&self) -> Option<Time> {
        match self {
            Value::Time(time) => Some(*time),
            Value::Int(seconds) => seconds.checked_mul(1000).map(Time),
            Value::Float(seconds) => Some(Time((seconds * 1000.0) as i64)),
            Value::Text(text) => {
                let moment: jiff::Timestamp = text.parse().ok()?;
                Some(Time(moment.as_millisecond()))
            }
            _ => None,
        }
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Value {
        Value::Bool(flag)
    }
}

impl From<i64> for Value {
    fn from(n: i64) -> Value {
        Value::Int(n)
    }
}

impl From<f64> for Value {
    fn from(n: f64) -> Value {
        Value::Float(n)
    }
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Value {
        Value::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(Cow::Owned(text))
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Value {
        Value::Text(Cow::Owned(text.clone()))
    }
}

impl From<Time> for Value {
    fn from(time: Time) -> Value {
        Value::Time(time)
    }
}

impl From<Map> for Value {
    fn from(map: Map) -> Value {
        Value::Map(map)
    }
}

/// A list whose items have that name in XML.
pub fn list<T: Into<Value>>(item: &'static str, values: impl IntoIterator<Item = T>) -> Value {
    Value::List(item, values.into_iter().map(Into::into).collect())
}

/// A structure: members by name, in the order of their names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Map(BTreeMap<Text, Value>);

impl Map {
    /// An empty one.
    pub fn new() -> Map {
        Map::default()
    }

    /// This one with a member more.
    #[must_use]
    pub fn with(mut self, name: impl Into<Text>, value: impl Into<Value>) -> Map {
        self.set(name, value);
        self
    }

    /// This one with a member more, where there is a value.
    #[must_use]
    pub fn maybe<V: Into<Value>>(self, name: impl Into<Text>, value: Option<V>) -> Map {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Sets a member.
    pub fn set(&mut self, name: impl Into<Text>, value: impl Into<Value>) {
        self.0.insert(name.into(), value.into());
    }

    /// Takes a member away.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name)
    }

    /// A member.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// Whether it has this member.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// All members.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value))
    }

    /// Whether it has no member.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many members it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// A member's text; an empty one counts as absent, as in AWS's query protocol.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Value::as_text).filter(|text| !text.is_empty())
    }

    /// A member's text, empty where there is none.
    pub fn text_or_empty(&self, name: &str) -> &str {
        self.text(name).unwrap_or_default()
    }

    /// A member that the request must have.
    pub fn required(&self, name: &str) -> Result<&str, Fault> {
        self.text(name).ok_or_else(|| {
            Fault::validation(format!("The request must contain the parameter {name}"))
        })
    }

    /// A member that is true or false.
    pub fn flag(&self, name: &str) -> Result<Option<bool>, Fault> {
        self.typed(name, Value::as_bool, "true or false")
    }

    /// A member that is a whole number.
    pub fn int(&self, name: &str) -> Result<Option<i64>, Fault> {
        self.typed(name, Value::as_int, "a whole number")
    }

    /// A member that is a number.
    pub fn float(&self, name: &str) -> Result<Option<f64>, Fault> {
        self.typed(name, Value::as_float, "a number")
    }

    /// A member that is a moment, between 1970 and the year 9999.
    pub fn time(&self, name: &str) -> Result<Option<Time>, Fault> {
        let sound = |value: &Value| value.as_time().filter(|t| (0..=LAST_MS).contains(&t.0));
        self.typed(name, sound, "a timestamp")
    }

    /// A flag of a record that the world itself wrote.
    pub fn is(&self, name: &str) -> bool {
        self.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// A number of a record that the world itself wrote.
    pub fn number(&self, name: &str) -> i64 {
        self.get(name).and_then(Value::as_int).unwrap_or(0)
    }

    /// A moment of a record that the world itself wrote.
    pub fn moment(&self, name: &str) -> Time {
        self.get(name).and_then(Value::as_time).unwrap_or_default()
    }

    /// A member's items.
    pub fn items(&self, name: &str) -> &[Value] {
        self.get(name).map(Value::items).unwrap_or_default()
    }

    /// A member's items that are structures.
    pub fn maps(&self, name: &str) -> impl Iterator<Item = &Map> {
        self.items(name).iter().filter_map(Value::as_map)
    }

    /// A member's items that are texts.
    pub fn texts(&self, name: &str) -> Vec<String> {
        self.items(name).iter().filter_map(Value::as_text).map(str::to_owned).collect()
    }

    /// A member's structure.
    pub fn map(&self, name: &str) -> Option<&Map> {
        self.get(name).and_then(Value::as_map)
    }

    fn typed<T>(
        &self,
        name: &str,
        read: impl Fn(&Value) -> Option<T>,
        what: &str,
    ) -> Result<Option<T>, Fault> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Text(text)) if text.is_empty() => Ok(None),
            Some(value) => read(value)
                .map(Some)
                .ok_or_else(|| Fault::validation(format!("{name} must be {what}"))),
        }
    }
}

impl<K: Into<Text>, V: Into<Value>, const N: usize> From<[(K, V); N]> for Map {
    fn from(members: [(K, V); N]) -> Map {
        Map(members.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }
}

impl FromIterator<(Text, Value)> for Map {
    fn from_iter<I: IntoIterator<Item = (Text, Value)>>(members: I) -> Map {
        Map(members.into_iter().collect())
    }
}
