//! The front door: AWS's API over HTTP/1.1, for unmodified SDKs.

use crate::fault::{Fault, Kind};
use crate::faults::Effect;
use crate::value::Time;
use crate::wire::{self, Http, Protocol, Service};
use crate::world::World;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};

/// Bytes of one request. AWS's own requests stay below 1 MiB.
const BODY_MAX: usize = 1 << 20;

/// How long a client may take for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// What time it is in the world.
#[derive(Debug)]
pub struct Clock {
    /// Milliseconds that the world is ahead; or, of a clock by hand, its time.
    ms: AtomicI64,
    by_hand: bool,
}

impl Clock {
    /// The real clock, which can be advanced.
    pub fn real() -> Clock {
        Clock { ms: AtomicI64::new(0), by_hand: false }
    }

    /// A clock that stands until it is advanced: the same script gives the same world.
    pub fn by_hand(start: Time) -> Clock {
        Clock { ms: AtomicI64::new(start.0), by_hand: true }
    }

    /// Now.
    #[expect(clippy::disallowed_methods, reason = "the simulator's one clock")]
    pub fn now(&self) -> Time {
        let ms = self.ms.load(Ordering::SeqCst);
        if self.by_hand { Time(ms) } else { Time(jiff::Timestamp::now().as_millisecond() + ms) }
    }

    /// Moves it forward; never back.
    pub fn advance(&self, ms: u32) {
        self.ms.fetch_add(i64::from(ms), Ordering::SeqCst);
    }
}

/// A call that waits to be released.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hold {
    /// Its number.
    pub id: u64,
    /// `rds:CreateDBSnapshot`
    pub call: String,
    /// The caller's region.
    pub region: String,
    /// `before` its effect, or `after`.
    pub at: &'static str,
}

#[derive(Default)]
struct Holds {
    made: u64,
    waiting: BTreeMap<u64, (Hold, oneshot::Sender<()>)>,
}

/// The world, its clock, and the calls that are held.
pub struct Simulator {
    world: Mutex<World>,
    /// The world's clock.
    pub clock: Clock,
    holds: Mutex<Holds>,
    held: Notify,
}

/// The connection is closed instead of an answer.
#[derive(Debug)]
struct Dropped;

impl std::fmt::Display for Dropped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the connection was dropped, as a fault asked for")
    }
}

impl std::error::Error for Dropped {}

impl Simulator {
    /// Puts a world behind doors.
    pub fn new(world: World, clock: Clock) -> Arc<Simulator> {
        let (world, holds) = (Mutex::new(world), Mutex::new(Holds::default()));
        Arc::new(Simulator { world, clock, holds, held: Notify::new() })
    }

    /// The world, for as long as the guard lives. A poisoned lock is a bug of ours in one call; the rest
    /// of the world goes on, for operations check before they change anything.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn holds(&self) -> MutexGuard<'_, Holds> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The calls that wait.
    pub fn held(&self) -> Vec<Hold> {
        self.holds().waiting.values().map(|(hold, _)| hold.clone()).collect()
    }

    /// Waits until a call is held, at most that long.
    pub async fn wait_held(&self, most: Duration) -> Vec<Hold> {
        let _ = tokio::time::timeout(most, async {
            loop {
                let notified = self.held.notified();
                if !self.held().is_empty() {
                    return;
                }
                notified.await;
            }
        })
        .await;
        self.held()
    }

    /// Lets a call go on; whether it was there.
    pub fn release(&self, id: u64) -> bool {
        let found = self.holds().waiting.remove(&id);
        found.is_some_and(|(_, sender)| sender.send(()).is_ok())
    }

    async fn hold(&self, request: &wire::Request, at: &'static str) {
        let (sender, receiver) = oneshot::channel();
        let call = format!("{}:{}", request.service.prefix(), request.operation);
        let id = {
            let mut holds = self.holds();
            holds.made += 1;
            let id = holds.made;
            let hold = Hold { id, call, region: request.region.clone(), at };
            holds.waiting.insert(id, (hold, sender));
            id
        };
        self.held.notify_waiters();
        // A client that is killed meanwhile closes the connection: hyper drops this future.
        let _gone = Forget { simulator: self, id };
        let _ = receiver.await;
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Dropped> {
        let (parts, body) = request.into_parts();
        let body = match Limited::new(body, BODY_MAX).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => {
                let why = match error.downcast_ref::<LengthLimitError>() {
                    Some(_) => format!("the request is longer than {BODY_MAX} bytes"),
                    None => "the request was cut off".to_owned(),
                };
                return Ok(refused(Protocol::Query, Service::Sts, Fault::of(Kind::Malformed, why)));
            }
        };
        let request = match parse(&parts, &body) {
            Ok(request) => request,
            Err((protocol, service, fault)) => return Ok(refused(protocol, service, fault)),
        };
        let effect = self.world().effect(&request, self.clock.now());
        match &effect {
            Some(Effect::DropBefore) => return Err(Dropped),
            Some(Effect::HoldBefore) => self.hold(&request, "before").await,
            _ => {}
        }
        let (outcome, distance) = {
            let mut world = self.world();
            let outcome = world.handle(&request, self.clock.now(), effect.as_ref());
            (outcome, world.settings.latency_ms(&request.region))
        };
        if distance > 0 {
            pause(distance).await;
        }
        match &effect {
            Some(Effect::DropAfter) => return Err(Dropped),
            Some(Effect::HoldAfter) => self.hold(&request, "after").await,
            Some(Effect::Late { ms }) => pause(*ms).await,
            _ => {}
        }
        let (protocol, service) = (request.protocol, request.service);
        Ok(response(wire::write(
            protocol,
            service,
            &request.operation,
            &outcome.id,
            &outcome.result,
        )))
    }
}

fn parse(
    parts: &hyper::http::request::Parts,
    body: &[u8],
) -> Result<wire::Request, (Protocol, Service, Fault)> {
    let header = |name: &str| parts.headers.get(name).and_then(|v| v.to_str().ok());
    let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
    wire::parse(&Http { path, query, header: &header, body })
}

/// Waits, where waiting is what was asked for, or all that can be done.
#[expect(
    clippy::disallowed_methods,
    reason = "late answers are late; accept() has no other remedy"
)]
async fn pause(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

/// Takes a held call off the list when nobody waits for its answer any more.
struct Forget<'a> {
    simulator: &'a Simulator,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.simulator.holds().waiting.remove(&self.id);
    }
}

fn refused(protocol: Protocol, service: Service, fault: Fault) -> Response<Full<Bytes>> {
    response(wire::write(
        protocol,
        service,
        "Unknown",
        "00000000-0000-4000-8000-000000000000",
        &Err(fault),
    ))
}

fn response(reply: wire::Reply) -> Response<Full<Bytes>> {
    let mut builder =
        Response::builder().status(reply.status).header("content-type", reply.content_type);
    for (name, value) in reply.headers {
        builder = builder.header(name, value);
    }
    builder.body(Full::new(Bytes::from(reply.body))).unwrap_or_else(|_| {
        let mut empty = Response::new(Full::default());
        *empty.status_mut() = hyper::StatusCode::INTERNAL_SERVER_ERROR;
        empty
    })
}

/// The next connection of a listener. It fails when there are no file descriptors left, most likely:
/// others will be closed.
pub(crate) async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(_) => pause(20).await,
        }
    }
}

/// Answers on this listener until the future is dropped.
pub async fn serve(simulator: Arc<Simulator>, listener: TcpListener) {
    loop {
        let stream = accept(&listener).await;
        let _ = stream.set_nodelay(true);
        let simulator = simulator.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| simulator.answer(request));
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
