//! From bytes to a call and back: the request's signature, its protocol, its operation.
//!
//! Nothing here may panic on any input: each parser has a fuzz target (`simulator/fuzz`) and a test
//! over random bytes.

pub mod cbor;
pub mod json;
pub mod query;
pub mod xml;

use crate::fault::{Fault, Kind};
use crate::value::{Map, Value};

/// A service, by the name that requests are signed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are AWS's")]
pub enum Service {
    Sts,
    Organizations,
    Account,
    Rds,
    Kms,
    Config,
    CloudWatch,
    CloudTrail,
    AccessAnalyzer,
    Ec2,
    Iam,
    SecretsManager,
    CloudFormation,
}

impl Service {
    /// All of them.
    pub const ALL: [Service; 13] = [
        Service::Sts,
        Service::Organizations,
        Service::Account,
        Service::Rds,
        Service::Kms,
        Service::Config,
        Service::CloudWatch,
        Service::CloudTrail,
        Service::AccessAnalyzer,
        Service::Ec2,
        Service::Iam,
        Service::SecretsManager,
        Service::CloudFormation,
    ];

    /// The name in a signature's scope.
    pub fn signing_name(self) -> &'static str {
        match self {
            Service::CloudWatch => "monitoring",
            other => other.prefix(),
        }
    }

    /// The prefix of its IAM actions.
    pub fn prefix(self) -> &'static str {
        match self {
            Service::Sts => "sts",
            Service::Organizations => "organizations",
            Service::Account => "account",
            Service::Rds => "rds",
            Service::Kms => "kms",
            Service::Config => "config",
            Service::CloudWatch => "cloudwatch",
            Service::CloudTrail => "cloudtrail",
            Service::AccessAnalyzer => "access-analyzer",
            Service::Ec2 => "ec2",
            Service::Iam => "iam",
            Service::SecretsManager => "secretsmanager",
            Service::CloudFormation => "cloudformation",
        }
    }

    /// The service of an IAM prefix or a signing name.
    pub fn find(name: &str) -> Option<Service> {
        Service::ALL.into_iter().find(|s| s.signing_name() == name || s.prefix() == name)
    }

    fn protocol(self) -> Protocol {
        match self {
            Service::Sts
            | Service::Rds
            | Service::Iam
            | Service::CloudWatch
            | Service::CloudFormation => Protocol::Query,
            Service::Ec2 => Protocol::Ec2,
            Service::Account | Service::AccessAnalyzer => Protocol::RestJson,
            _ => Protocol::Json("1.1"),
        }
    }
}

/// A wire protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// A form in, XML out.
    Query,
    /// A form in, EC2's XML out.
    Ec2,
    /// JSON with the operation in `X-Amz-Target`; the version is in the content type.
    Json(&'static str),
    /// JSON with the operation in the path.
    RestJson,
    /// Smithy RPC v2 with CBOR; CloudWatch's first choice since 2025.
    Cbor,
}

/// What an HTTP request holds, borrowed.
pub struct Http<'a> {
    /// The path, without the query string.
    pub path: &'a str,
    /// The query string.
    pub query: &'a str,
    /// A header's value, by its lower-case name.
    pub header: &'a dyn Fn(&str) -> Option<&'a str>,
    /// The whole body.
    pub body: &'a [u8],
}

/// A call, as it came over the wire.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The protocol, which the reply speaks too.
    pub protocol: Protocol,
    /// Signed for this service.
    pub service: Service,
    /// Signed for this region.
    pub region: String,
    /// The operation's name.
    pub operation: String,
    /// Its parameters.
    pub params: Map,
    /// The access key of the signature.
    pub access_key: String,
    /// The session token, where there is one.
    pub token: Option<String>,
}

/// A reply, ready for HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The content type.
    pub content_type: &'static str,
    /// More headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// The parts of `AWS4-HMAC-SHA256 Credential=KEY/DATE/REGION/SERVICE/aws4_request, ...`.
///
/// The signature itself is not checked: a simulator has no secrets.
pub fn credential(authorization: &str) -> Option<(&str, &str, &str)> {
    let scope = authorization.split("Credential=").nth(1)?;
    let scope = scope.split([',', ' ']).next()?;
    let mut parts = scope.split('/');
    let (key, _date, region, service) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    (parts.next() == Some("aws4_request") && !key.is_empty()).then_some((key, region, service))
}

/// Reads a request; the protocol and service of a failure are those of its error reply.
pub fn parse(http: &Http<'_>) -> Result<Request, (Protocol, Service, Fault)> {
    let authorization = (http.header)("authorization").unwrap_or_default();
    let Some((key, region, service)) = credential(authorization) else {
        let fault = Fault::of(Kind::NoToken, "Missing Authentication Token");
        return Err((Protocol::Query, Service::Sts, fault));
    };
    let Some(service) = Service::find(service) else {
        let message = format!("the simulator has no service {service}");
        return Err((Protocol::Query, Service::Sts, Fault::of(Kind::NotModelled, message)));
    };
    let (protocol, operation) = operation(http, service);
    let fail = |fault| (protocol, service, fault);
    let mut params = match protocol {
        Protocol::Query | Protocol::Ec2 => query::parse(http.body).map_err(fail)?,
        Protocol::Json(_) | Protocol::RestJson => json::parse(http.body).map_err(fail)?,
        Protocol::Cbor => cbor::parse(http.body).map_err(fail)?,
    };
    let operation = match operation {
        Some(operation) => operation,
        None => {
            params.remove("Version");
            match params.remove("Action") {
                Some(Value::Text(action)) => action.into_owned(),
                _ => {
                    return Err(fail(Fault::of(Kind::Malformed, "the request names no operation")));
                }
            }
        }
    };
    if protocol == Protocol::RestJson {
        for (name, value) in form_urlencoded::parse(http.query.as_bytes()) {
            params.set(name.into_owned(), value.into_owned());
        }
    }
    Ok(Request {
        protocol,
        service,
        region: region.to_owned(),
        operation,
        params,
        access_key: key.to_owned(),
        token: (http.header)("x-amz-security-token").map(str::to_owned),
    })
}

/// Which protocol a request speaks, and its operation where that is not in the body.
fn operation(http: &Http<'_>, service: Service) -> (Protocol, Option<String>) {
    let last = |text: &str, separator: char| text.rsplit(separator).next().map(str::to_owned);
    if (http.header)("smithy-protocol") == Some("rpc-v2-cbor") {
        return (Protocol::Cbor, last(http.path, '/'));
    }
    match (service.protocol(), (http.header)("x-amz-target")) {
        (Protocol::RestJson, _) => {
            let name = match http.path {
                "/policy/validation" => "ValidatePolicy".to_owned(),
                path => {
                    let mut letters = path.trim_matches('/').chars();
                    let first = letters.next().map(|c| c.to_ascii_uppercase());
                    first.into_iter().chain(letters).collect()
                }
            };
            (Protocol::RestJson, Some(name))
        }
        (Protocol::Query, Some(target)) => (Protocol::Json("1.0"), last(target, '.')),
        (Protocol::Json(version), target) => {
            (Protocol::Json(version), Some(target.and_then(|t| last(t, '.')).unwrap_or_default()))
        }
        (protocol, _) => (protocol, None),
    }
}

/// Writes a reply in the request's protocol.
pub fn write(
    protocol: Protocol,
    service: Service,
    operation: &str,
    id: &str,
    result: &Result<Map, Fault>,
) -> Reply {
    let code = result.as_ref().err().map(|fault| (fault, fault.code(service)));
    let status = code.as_ref().map_or(200, |(_, (_, status))| *status);
    let error = code.as_ref().map(|(fault, (code, _))| (code.as_ref(), *fault));
    let mut headers = vec![("x-amzn-requestid", id.to_owned())];
    let empty = Map::new();
    let map = result.as_ref().unwrap_or(&empty);
    let (content_type, body) = match protocol {
        Protocol::Query => ("text/xml", xml::query(service, operation, id, map, error)),
        Protocol::Ec2 => ("text/xml;charset=UTF-8", xml::ec2(operation, id, map, error)),
        Protocol::Json("1.0") => ("application/x-amz-json-1.0", json::write(map, error, true)),
        Protocol::Json(_) => ("application/x-amz-json-1.1", json::write(map, error, true)),
        Protocol::RestJson => {
            if let Some((code, _)) = error {
                headers.push(("x-amzn-errortype", code.to_owned()));
            }
            ("application/json", json::write(map, error, false))
        }
        Protocol::Cbor => {
            headers.push(("smithy-protocol", "rpc-v2-cbor".to_owned()));
            ("application/cbor", cbor::write(map, error))
        }
    };
    // awsQueryCompatible: services that moved from the query protocol name its code here.
    if let (Some((code, _)), true) = (error, service == Service::CloudWatch) {
        let side = if status < 500 { "Sender" } else { "Receiver" };
        headers.push(("x-amzn-query-error", format!("{code};{side}")));
    }
    Reply { status, content_type, headers, body }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::mix;

    /// Each parser, on bytes that look random and on real requests with bytes changed. The same inputs
    /// at each run; `make fuzz` looks further.
    #[test]
    fn any_bytes_are_parsed_or_refused() {
        let real: [&[u8]; 3] = [
            b"Action=CreateDBInstance&Tags.Tag.1.Key=a&Tags.Tag.1.Value=b&Version=2014-10-31",
            br#"{"Filter":"SERVICE_CONTROL_POLICY","Tags":[{"Key":"a","Value":null}],"n":1.5e300}"#,
            b"\xa2aAcabcaB\xc1\xfbA\xd9U\x9a\x80\x00\x00\x00",
        ];
        for seed in 0..30_000_u64 {
            let mut bytes = match seed % 4 {
                3 => (0..mix(seed, 0) % 64).map(|i| mix(seed, i) as u8).collect(),
                which => real[which as usize].to_vec(),
            };
            for i in 0..mix(seed, 99) % 4 {
                let at = mix(seed, 100 + i) as usize % bytes.len().max(1);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = mix(seed, 200 + i) as u8;
                }
            }
            bytes.truncate(mix(seed, 300) as usize % 100);
            let (path, json) = ("/service/G/operation/X", seed % 2 == 0);
            for service in ["rds", "kms", "account", "monitoring", "ec2"] {
                let scope = format!("Credential=a/b/us-east-1/{service}/aws4_request");
                let header = |name: &str| match name {
                    "authorization" => Some(scope.as_str()),
                    "smithy-protocol" if service == "monitoring" => Some("rpc-v2-cbor"),
                    "x-amz-target" if json => Some("X.Y"),
                    _ => None,
                };
                let http = Http { path, query: "a=%ff&b", header: &header, body: &bytes };
                let (protocol, service, result) = match parse(&http) {
                    Ok(request) => (request.protocol, request.service, Ok(request.params)),
                    Err((protocol, service, fault)) => {
                        assert!((400..500).contains(&fault.code(service).1), "{fault:?}");
                        (protocol, service, Err(fault))
                    }
                };
                assert!(!write(protocol, service, "X", "id", &result).body.is_empty());
            }
        }
    }

    #[test]
    fn credentials_are_read_from_the_scope() {
        let good = "AWS4-HMAC-SHA256 Credential=AKIA/20260101/eu-west-1/rds/aws4_request, SignedHeaders=host, Signature=1";
        assert_eq!(credential(good), Some(("AKIA", "eu-west-1", "rds")));
        for bad in
            ["", "Credential=", "Credential=a/b/c/d", "Credential=/b/c/d/aws4_request", "Basic x"]
        {
            assert_eq!(credential(bad), None, "{bad}");
        }
    }
}
