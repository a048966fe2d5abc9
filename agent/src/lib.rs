//! Everything that happens inside member accounts: leases, scans, remediations.
//!
//! An agent may touch databases and change no policy. It decides nothing: `detect` and `decide` are
//! `ringfence-domain`'s; here is what observes and what acts.

mod check;
pub mod config;
mod history;
mod key;
mod lease;
mod perform;
mod probe;
pub mod process;
mod remediate;
mod report;
mod scan;
mod threads;

pub use check::{Checks, Look};
pub use lease::{Pipe, run, usage};
pub use threads::start;

use ringfence_domain::id::Region;
use ringfence_domain::isolation::Isolation;
use ringfence_domain::key::Wanted;
use ringfence_domain::remediation::Bounds;
use ringfence_domain::time::{Span, Time};
use std::sync::Arc;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

/// The metadata that carries the join token.
pub const TOKEN_HEADER: &str = "ringfence-join-token";

/// What an agent is told once.
#[derive(Clone)]
pub struct Settings {
    /// NAME/THREAD#INSTANCE, which owns its leases: no two agents may share one.
    pub name: String,
    /// `aws.regions`: an override where ListRegions answers, a fallback where it does not.
    pub regions: Vec<Region>,
    /// `kms.alias` and `kms.account`.
    pub key: Wanted,
    /// `controls.rds-encryption.require_kms_key`.
    pub require_kms_key: bool,
    /// The isolation groups of swaps.
    pub isolation: Isolation,
    /// How patient remediations are.
    pub bounds: Bounds,
    /// `remediation.check_command`, where there is one.
    pub checks: Option<Checks>,
    /// How long a waiting remediation rests before the next look.
    pub poll: Span,
    /// Accounts that one thread works on at a time.
    pub max_accounts: usize,
    /// Threads.
    pub threads: usize,
    /// How long what has begun may take when it is told to stop.
    pub drain_for: Span,
    /// See [`Names`].
    pub names: Names,
}

/// How the name of a new resource becomes the name that AWS is given: unchanged.
///
/// Only the tests make another one. With names that differ from try to try, a crash leaves twins
/// behind; the crash test must see that, or it sees nothing.
#[derive(Clone)]
pub struct Names(Arc<dyn Fn(&str) -> String + Send + Sync>);

impl Names {
    /// The names as decided.
    pub fn exact() -> Names {
        Names::new(str::to_owned)
    }

    /// Other names, for tests.
    pub fn new(name: impl Fn(&str) -> String + Send + Sync + 'static) -> Names {
        Names(Arc::new(name))
    }

    fn of(&self, name: &str) -> String {
        (self.0)(name)
    }
}

/// Adds the join token to every call.
#[derive(Clone)]
pub struct Token(MetadataValue<Ascii>);

impl Token {
    /// `None` if the token is not printable ASCII.
    pub fn new(token: &str) -> Option<Token> {
        let mut value: MetadataValue<Ascii> = token.parse().ok()?;
        value.set_sensitive(true);
        Some(Token(value))
    }
}

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert(TOKEN_HEADER, self.0.clone());
        Ok(request)
    }
}

/// The wall clock: the agent's one.
#[expect(clippy::disallowed_methods, reason = "the agent's one clock")]
fn now() -> Time {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Time(since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX)))
}

#[expect(clippy::disallowed_methods, reason = "the agent's loop polls")]
async fn rest(milliseconds: u64) {
    tokio::time::sleep(std::time::Duration::from_millis(milliseconds)).await;
}
