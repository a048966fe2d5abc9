//! The admin door: see and change the world. On its own port, on loopback only, never through the
//! AWS port.
//!
//! | request | what it does |
//! |---|---|
//! | `GET /clock`, `POST /clock {"advance_ms": N}` | the world's time |
//! | `GET /settings`, `PATCH /settings {...}` | [`crate::settings::Settings`] |
//! | `GET /limits`, `PUT /limits [...]`, `GET /throttles` | limits, and what each bucket granted and refused |
//! | `GET /faults`, `POST /faults {...}`, `DELETE /faults[/ID]` | [`crate::faults::Rule`] |
//! | `GET /holds[?wait_ms=N]`, `POST /holds/ID/release` | calls that are held |
//! | `POST /changes {...}` | [`crate::world::change::Change`]; `{"call": {...}}` makes any AWS call |
//! | `GET /calls[?from=N]`, `GET /counts` | the call log |
//! | `GET /world`, `GET /truth`, `GET /operations` | what is there; what a scan should say; what is modelled |

use crate::front::{Simulator, accept};
use crate::throttle::Limit;
use crate::truth;
use crate::world::World;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

const BODY_MAX: usize = 16 << 20;
/// The longest that one request may wait for a call to be held.
const WAIT_MAX_MS: u64 = 60_000;

type Answer = Result<Value, (u16, String)>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    advance_ms: u32,
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, (u16, String)> {
    serde_json::from_slice(body).map_err(|e| (400, e.to_string()))
}

fn bad(message: String) -> (u16, String) {
    (400, message)
}

fn number(query: &str, name: &str) -> Option<u64> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find(|(key, _)| key == name).and_then(|(_, value)| value.parse().ok())
}

impl Simulator {
    async fn admin(&self, method: &Method, path: &str, query: &str, body: &[u8]) -> Answer {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let now = self.clock.now();
        match (method.as_str(), parts.as_slice()) {
            ("GET", ["clock"]) => Ok(json!({"now": now.to_string(), "ms": now.0})),
            ("POST", ["clock"]) => {
                self.clock.advance(read::<Advance>(body)?.advance_ms);
                let now = self.clock.now();
                Ok(json!({"now": now.to_string(), "ms": now.0}))
            }
            ("GET", ["settings"]) => Ok(json!(self.world().settings)),
            ("PATCH", ["settings"]) => self.patch(body),
            ("GET", ["limits"]) => Ok(json!(self.world().throttle.limits())),
            ("PUT", ["limits"]) => {
                let limits: Vec<Limit> = read(body)?;
                self.world().throttle.set(limits).map_err(bad)?;
                Ok(json!({}))
            }
            ("GET", ["throttles"]) => Ok(json!(self.world().throttle.counts())),
            ("GET", ["faults"]) => {
                let world = self.world();
                let rule = |(id, met, rule)| json!({"id": id, "met": met, "rule": rule});
                Ok(world.faults.list().map(rule).collect())
            }
            ("POST", ["faults"]) => {
                let id = self.world().faults.add(read(body)?).map_err(bad)?;
                Ok(json!({"id": id}))
            }
            ("DELETE", ["faults"]) => {
                self.world().faults.clear();
                Ok(json!({}))
            }
            ("DELETE", ["faults", id]) => {
                let id = id.parse().map_err(|_| bad(format!("{id} is no number of a fault")))?;
                if self.world().faults.remove(id) { Ok(json!({})) } else { Err((404, format!("there is no fault {id}"))) }
            }
            ("GET", ["holds"]) => {
                let most = number(query, "wait_ms").unwrap_or(0).min(WAIT_MAX_MS);
                Ok(json!(self.wait_held(Duration::from_millis(most)).await))
            }
            ("POST", ["holds", id, "release"]) => {
                let id = id.parse().map_err(|_| bad(format!("{id} is no number of a hold")))?;
                if self.release(id) { Ok(json!({})) } else { Err((404, format!("no call {id} is held"))) }
            }
            ("POST", ["changes"]) => {
                let change = read(body)?;
                self.world().change(&change, now).map_err(bad)
            }
            ("GET", ["calls"]) => {
                let world = self.world();
                let calls: Vec<_> = world.log.entries(number(query, "from").unwrap_or(0)).collect();
                Ok(json!({"total": world.log.total(), "calls": calls}))
            }
            ("GET", ["counts"]) => {
                let counts = self.world().log.counts();
                let count = |(call, (all, failed))| (call, json!({"calls": all, "failed": failed}));
                Ok(Value::Object(counts.into_iter().map(count).collect()))
            }
            ("GET", ["world"]) => Ok(self.world().snapshot(now)),
            ("GET", ["operations"]) => Ok(World::operations()
                .map(|(service, op)| json!({"service": service.prefix(), "operation": op.name, "params": op.params}))
                .collect()),
            (_, ["clock" | "settings" | "limits" | "throttles" | "faults" | "holds" | "changes" | "calls" | "counts" | "world" | "operations" | "truth", ..]) => {
                Err((405, format!("{method} {path} is not one of the requests of this door")))
            }
            _ => Err((404, format!("there is no {path} at the admin door"))),
        }
    }

    /// Replaces the settings that are named, if the whole makes sense.
    fn patch(&self, body: &[u8]) -> Answer {
        let changes: serde_json::Map<String, Value> = read(body)?;
        let mut world = self.world();
        let mut all = json!(world.settings);
        for (name, value) in changes {
            all[name] = value;
        }
        let settings: crate::settings::Settings =
            serde_json::from_value(all).map_err(|e| bad(e.to_string()))?;
        settings.check().map_err(bad)?;
        world.log.resize(settings.log_size);
        world.settings = settings;
        Ok(json!(world.settings))
    }

    /// The truth as one document; cells are looked at one by one, so calls go on meanwhile.
    ///
    /// # Errors
    /// What the writer says.
    pub fn write_truth(&self, out: &mut impl std::io::Write) -> std::io::Result<()> {
        let (head, accounts, regions) = {
            let world = self.world();
            (world.truth_head(), world.account_ids(), world.regions().to_vec())
        };
        truth::write(out, &head, &accounts, &regions, |account, region| {
            self.world().truth_of(account, region, self.clock.now())
        })
    }

    async fn door(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        // A page in a browser must not reach it: nothing that runs here sends an Origin, and a name that
        // was rebound to loopback is not one of ours.
        let host = request.headers().get("host").and_then(|h| h.to_str().ok()).unwrap_or_default();
        let ours = ["127.", "localhost", "[::1]"].iter().any(|name| host.starts_with(name));
        if !ours || request.headers().contains_key("origin") {
            return Ok(plain(403, json!({"error": "not for browsers"}).to_string()));
        }
        let (parts, body) = request.into_parts();
        let Ok(body) = Limited::new(body, BODY_MAX).collect().await else {
            return Ok(plain(
                400,
                json!({"error": "the request is too long or was cut off"}).to_string(),
            ));
        };
        let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
        if (parts.method.as_str(), path) == ("GET", "/truth") {
            let mut out = Vec::new();
            return Ok(match self.write_truth(&mut out) {
                Ok(()) => plain(200, String::from_utf8_lossy(&out).into_owned()),
                Err(error) => plain(500, json!({"error": error.to_string()}).to_string()),
            });
        }
        Ok(match self.admin(&parts.method, path, query, &body.to_bytes()).await {
            Ok(value) => plain(200, value.to_string()),
            Err((status, error)) => plain(status, json!({"error": error}).to_string()),
        })
    }
}

fn plain(status: u16, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body + "\n")));
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
    response
        .headers_mut()
        .insert("content-type", hyper::header::HeaderValue::from_static("application/json"));
    response
}

/// Answers on this listener until the future is dropped.
pub async fn serve(simulator: Arc<Simulator>, listener: TcpListener) {
    loop {
        let stream = accept(&listener).await;
        let simulator = simulator.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| simulator.door(request));
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
