//! The query protocol's form: `Tags.Tag.1.Key=team` and its like, to a tree.

use crate::fault::{Fault, Kind};
use crate::value::{Map, Text, Value};
use std::collections::BTreeMap;

/// How deep a name may nest, and how many parameters a request may have; AWS's own requests stay
/// far below.
const DEPTH_MAX: usize = 12;
const PARAMETERS_MAX: usize = 10_000;

#[derive(Default)]
struct Node {
    value: Option<String>,
    children: BTreeMap<String, Node>,
}

/// Reads a form.
pub fn parse(body: &[u8]) -> Result<Map, Fault> {
    let malformed = |message: &str| Fault::of(Kind::Malformed, message);
    if std::str::from_utf8(body).is_err() {
        return Err(malformed("the body is not UTF-8"));
    }
    let mut root = Node::default();
    for (count, (name, value)) in form_urlencoded::parse(body).enumerate() {
        let mut node = &mut root;
        let parts: Vec<&str> = name.split('.').collect();
        if parts.len() > DEPTH_MAX || count >= PARAMETERS_MAX {
            return Err(malformed("the request nests too deep or has too many parameters"));
        }
        for part in parts {
            node = node.children.entry(part.to_owned()).or_default();
        }
        if node.value.replace(value.into_owned()).is_some() {
            return Err(malformed(&format!("the parameter {name} is there twice")));
        }
    }
    Ok(root.children.into_iter().map(|(name, node)| (Text::Owned(name), tree(node))).collect())
}

/// `X.1`, `X.member.1` and `X.Item.1` are lists; every other name is a structure.
fn tree(node: Node) -> Value {
    let Node { value, mut children } = node;
    if children.is_empty() {
        return Value::from(value.unwrap_or_default());
    }
    if children.len() == 1 {
        let only = children.values().next().is_some_and(numbered);
        if only && let Some((_, inner)) = children.pop_first() {
            return items(inner.children);
        }
    }
    if children.keys().all(|k| k.parse::<u32>().is_ok()) {
        return items(children);
    }
    Value::Map(children.into_iter().map(|(name, n)| (Text::Owned(name), tree(n))).collect())
}

fn numbered(node: &Node) -> bool {
    !node.children.is_empty() && node.children.keys().all(|k| k.parse::<u32>().is_ok())
}

fn items(children: BTreeMap<String, Node>) -> Value {
    let mut items: Vec<(u32, Node)> =
        children.into_iter().filter_map(|(k, n)| Some((k.parse().ok()?, n))).collect();
    // Names sort as text, items as numbers: 10 comes after 9.
    items.sort_by_key(|(index, _)| *index);
    Value::List("member", items.into_iter().map(|(_, node)| tree(node)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_become_trees() {
        let map = parse(
            b"Action=X&Tags.Tag.1.Key=a%2Fb&Tags.Tag.1.Value=&Ids.Id.2=y&Ids.Id.10=z&Ids.Id.1=x&Region.1=r&S.MinCapacity=0.5",
        )
        .unwrap();
        assert_eq!(map.text("Action"), Some("X"));
        assert_eq!(map.maps("Tags").next().unwrap().text("Key"), Some("a/b"));
        assert_eq!(map.texts("Ids"), ["x", "y", "z"]);
        assert_eq!(map.texts("Region"), ["r"]);
        assert_eq!(map.map("S").unwrap().float("MinCapacity").unwrap(), Some(0.5));
    }

    #[test]
    fn nonsense_is_refused() {
        for body in [&b"a=1&a=2"[..], b"\xff\xfe=1", b"a.b.c.d.e.f.g.h.i.j.k.l.m.n=1"] {
            assert_eq!(parse(body).unwrap_err().kind, Kind::Malformed);
        }
    }
}
