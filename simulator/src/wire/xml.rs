//! XML replies of the query protocol (RDS, STS, IAM, CloudWatch) and of EC2.

use super::Service;
use crate::fault::Fault;
use crate::value::{Map, Value};
use std::fmt::Write as _;

/// Text with what XML reserves escaped; control characters, which XML 1.0 forbids, are left out.
fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' | '\n' => out.push(c),
            c if c < ' ' || c == '\u{fffe}' || c == '\u{ffff}' => {}
            c => out.push(c),
        }
    }
}

fn element(out: &mut String, name: &str, value: &Value) {
    let _ = write!(out, "<{name}>");
    match value {
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Int(n) => {
            let _ = write!(out, "{n}");
        }
        Value::Float(n) => {
            let _ = write!(out, "{n}");
        }
        Value::Text(text) => escape(out, text),
        Value::Time(time) => {
            let _ = write!(out, "{time}");
        }
        Value::List(item, items) => {
            for value in items {
                element(out, item, value);
            }
        }
        Value::Map(map) => members(out, map),
    }
    let _ = write!(out, "</{name}>");
}

fn members(out: &mut String, map: &Map) {
    for (name, value) in map.iter() {
        element(out, name, value);
    }
}

fn namespace(service: Service) -> &'static str {
    match service {
        Service::Sts => "https://sts.amazonaws.com/doc/2011-06-15/",
        Service::Iam => "https://iam.amazonaws.com/doc/2010-05-08/",
        Service::CloudFormation => "http://cloudformation.amazonaws.com/doc/2010-05-15/",
        Service::CloudWatch => "http://monitoring.amazonaws.com/doc/2010-08-01/",
        _ => "http://rds.amazonaws.com/doc/2014-10-31/",
    }
}

/// A reply of the query protocol.
pub fn query(
    service: Service,
    operation: &str,
    id: &str,
    map: &Map,
    error: Option<(&str, &Fault)>,
) -> Vec<u8> {
    let mut out = String::with_capacity(256);
    let space = namespace(service);
    if let Some((code, fault)) = error {
        let side = if fault.code(service).1 < 500 { "Sender" } else { "Receiver" };
        let _ = write!(
            out,
            "<ErrorResponse xmlns=\"{space}\"><Error><Type>{side}</Type><Code>{code}</Code><Message>"
        );
        escape(&mut out, &fault.message);
        let _ = write!(out, "</Message></Error><RequestId>{id}</RequestId></ErrorResponse>");
        return out.into_bytes();
    }
    // The operation came from the client; only names of ours reach this line.
    let _ = write!(out, "<{operation}Response xmlns=\"{space}\"><{operation}Result>");
    members(&mut out, map);
    let _ = write!(
        out,
        "</{operation}Result><ResponseMetadata><RequestId>{id}</RequestId></ResponseMetadata></{operation}Response>"
    );
    out.into_bytes()
}

/// A reply of EC2's protocol.
pub fn ec2(operation: &str, id: &str, map: &Map, error: Option<(&str, &Fault)>) -> Vec<u8> {
    let mut out = String::with_capacity(256);
    if let Some((code, fault)) = error {
        let _ = write!(out, "<Response><Errors><Error><Code>{code}</Code><Message>");
        escape(&mut out, &fault.message);
        let _ = write!(out, "</Message></Error></Errors><RequestID>{id}</RequestID></Response>");
        return out.into_bytes();
    }
    let _ = write!(
        out,
        "<{operation}Response xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>{id}</requestId>"
    );
    members(&mut out, map);
    let _ = write!(out, "</{operation}Response>");
    out.into_bytes()
}
