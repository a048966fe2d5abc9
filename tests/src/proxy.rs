//! A small proxy in front of moto, for what moto forbids nobody: it denies AssumeRole where it is
//! told to, checks the external id, counts calls, and holds the reply of one call so that a test can
//! kill the caller there.

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

/// Where a call is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// Before it reaches moto: it never happened.
    Before,
    /// After it took effect, before its reply.
    After,
}

/// What the proxy does.
#[derive(Default)]
pub struct Rules {
    /// Accounts whose AssumeRole is denied.
    pub denied: Vec<String>,
    /// The external id that AssumeRole must bring; empty takes any.
    pub external_id: String,
    /// Regions whose RDS refuses every session.
    pub refused_regions: Vec<String>,
    /// What `account:ListRegions` answers, as names and statuses; without it, moto's 404.
    pub regions: Vec<(&'static str, &'static str)>,
    /// Hold the n-th write (RDS, Organizations) from now (1 is the first); see [`Proxy::hold`].
    pub hold: Option<(usize, Point, Sender<String>)>,
    /// Calls by `service:Operation`.
    pub calls: BTreeMap<String, u64>,
}

/// The proxy; it ends with its handle.
pub struct Proxy {
    /// What it does; may be changed at any time.
    pub rules: Arc<Mutex<Rules>>,
    port: u16,
    _runtime: tokio::runtime::Runtime,
}

impl Proxy {
    /// Starts it in front of that port.
    pub fn start(moto: u16, rules: Rules) -> Proxy {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let rules = Arc::new(Mutex::new(rules));
        let listener =
            runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("listen");
        let port = listener.local_addr().expect("the address").port();
        runtime.spawn(serve(listener, moto, rules.clone()));
        Proxy { rules, port, _runtime: runtime }
    }

    /// Its URL, for `AWS_ENDPOINT_URL`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Holds the n-th write (RDS, Organizations) from now; the receiver gets its operation when it is held.
    pub fn hold(&self, nth: usize, point: Point) -> Receiver<String> {
        let (sender, receiver) = channel();
        self.rules.lock().expect("rules").hold = Some((nth, point, sender));
        receiver
    }

    /// Calls since the last time this was asked.
    pub fn take_calls(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut self.rules.lock().expect("rules").calls)
    }
}

type Forward = Client<HttpConnector, Full<Bytes>>;

async fn serve(listener: tokio::net::TcpListener, moto: u16, rules: Arc<Mutex<Rules>>) {
    let client: Forward = Client::builder(TokioExecutor::new()).build_http();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let (client, rules) = (client.clone(), rules.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let (client, rules) = (client.clone(), rules.clone());
                async move { Ok::<_, Infallible>(answer(request, moto, &client, &rules).await) }
            });
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// What a request asks for.
struct Call {
    service: String,
    region: String,
    operation: String,
    body: String,
}

impl Call {
    fn field(&self, name: &str) -> Option<String> {
        let prefix = format!("{name}=");
        let value = self.body.split('&').find_map(|pair| pair.strip_prefix(&prefix))?;
        Some(value.replace("%3A", ":").replace("%2F", "/"))
    }
}

fn call(parts: &hyper::http::request::Parts, body: &Bytes) -> Call {
    let header = |name: &str| {
        parts.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned()
    };
    let body = String::from_utf8_lossy(body).into_owned();
    // Credential=KEY/DATE/REGION/SERVICE/aws4_request
    let scope = header("authorization");
    let mut scope = scope.split("Credential=").nth(1).unwrap_or_default().split('/').skip(2);
    let region = scope.next().unwrap_or_default().to_owned();
    let service = scope.next().unwrap_or_default().to_owned();
    let target = header("x-amz-target");
    let mut call = Call {
        service,
        region,
        operation: target.rsplit('.').next().unwrap_or_default().to_owned(),
        body,
    };
    if call.operation.is_empty() {
        call.operation =
            call.field("Action").unwrap_or_else(|| parts.uri.path().trim_matches('/').to_owned());
    }
    call
}

fn denied(call: &Call, rules: &Rules) -> Option<(u16, &'static str, String)> {
    if call.service == "sts" && call.operation == "AssumeRole" {
        let role = call.field("RoleArn").unwrap_or_default();
        let wrong = !rules.external_id.is_empty()
            && call.field("ExternalId").as_ref() != Some(&rules.external_id);
        if wrong || rules.denied.iter().any(|account| role.contains(account)) {
            return Some((
                403,
                "AccessDenied",
                format!("User is not authorized to perform: sts:AssumeRole on resource: {role}"),
            ));
        }
    }
    if call.service == "rds" && rules.refused_regions.contains(&call.region) {
        return Some((
            403,
            "InvalidClientTokenId",
            "The security token included in the request is invalid".into(),
        ));
    }
    None
}

async fn answer(
    request: Request<Incoming>,
    moto: u16,
    client: &Forward,
    rules: &Mutex<Rules>,
) -> Response<Full<Bytes>> {
    let (mut parts, body) = request.into_parts();
    let Ok(body) = body.collect().await.map(|b| b.to_bytes()) else {
        return plain(400, String::new());
    };
    let call = call(&parts, &body);
    let starts = |verbs: &[&str]| verbs.iter().any(|v| call.operation.starts_with(v));
    let write = (call.service == "rds" && !starts(&["Describe"]))
        || (call.service == "organizations" && starts(&["Create", "Attach", "Detach"]));
    let held = {
        let mut rules = rules.lock().expect("rules");
        *rules.calls.entry(format!("{}:{}", call.service, call.operation)).or_default() += 1;
        if let Some((status, code, message)) = denied(&call, &rules) {
            return plain(
                status,
                format!(
                    "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error><RequestId>proxy</RequestId></ErrorResponse>"
                ),
            );
        }
        if call.service == "account" && !rules.regions.is_empty() {
            let region = |(name, status): &(&str, &str)| {
                format!(r#"{{"RegionName":"{name}","RegionOptStatus":"{status}"}}"#)
            };
            let list: Vec<String> = rules.regions.iter().map(region).collect();
            let body = format!(r#"{{"Regions":[{}]}}"#, list.join(","));
            return reply(200, "application/json", body);
        }
        match &mut rules.hold {
            Some((nth, _, _)) if write && *nth > 1 => {
                *nth -= 1;
                None
            }
            Some(_) if write => rules.hold.take(),
            _ => None,
        }
    };
    if let Some((_, Point::Before, sender)) = &held {
        let _ = sender.send(call.operation.clone());
        std::future::pending::<()>().await;
    }
    let uri = format!(
        "http://127.0.0.1:{moto}{}",
        parts.uri.path_and_query().map_or("/", |p| p.as_str())
    );
    parts.uri = uri.parse().expect("a URI");
    let reply = match client.request(Request::from_parts(parts, Full::new(body))).await {
        Ok(reply) => reply,
        Err(error) => return plain(502, error.to_string()),
    };
    let (parts, body) = reply.into_parts();
    let Ok(body) = body.collect().await.map(|b| b.to_bytes()) else {
        return plain(502, String::new());
    };
    if let Some((_, Point::After, sender)) = &held {
        let _ = sender.send(call.operation.clone());
        std::future::pending::<()>().await;
    }
    Response::from_parts(parts, Full::new(body))
}

fn plain(status: u16, body: String) -> Response<Full<Bytes>> {
    reply(status, "text/xml", body)
}

fn reply(status: u16, kind: &str, body: String) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .header("content-type", kind)
        .body(Full::new(Bytes::from(body)))
        .expect("a response")
}
