//! One HTTP client, one SDK client a service and region, credentials per call.

use crate::limits::{Limits, Rates};
use crate::session::{Caller, Sessions};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_smithy_http_client::pool::{Client as PoolClient, ConnectionPool};
use aws_smithy_http_client::tls;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Connections kept to one host. All accounts of a region share them: HTTP connections are pooled
/// by authority, credentials travel with each request.
const CONNECTIONS_PER_HOST: usize = 200;

/// The SDK has no read timeout by default, so one lost answer would hold a worker for ever.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether the run's id is set as SourceIdentity of every session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceIdentity {
    /// Set it; where the role's trust policy does not allow that, go without and say so.
    Auto,
    /// Never set it (a caller that has one already keeps it: it cannot be changed by chaining).
    Off,
}

/// What the calls need to know of the configuration (`aws.*`).
#[derive(Debug, Clone)]
pub struct Settings {
    /// The role that is assumed in every account.
    pub role_name: String,
    /// Its external id; empty sends none.
    pub external_id: String,
    /// See [`SourceIdentity`].
    pub source_identity: SourceIdentity,
    /// Calls a second, by class.
    pub rates: Rates,
    /// How long one call, with its retries, may take.
    pub call_deadline: Duration,
}

/// The way to AWS. Cheap to clone.
#[derive(Clone)]
pub struct Cloud(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) base: SdkConfig,
    pub(crate) settings: Settings,
    pub(crate) limits: Limits,
    pub(crate) sessions: Sessions,
    pub(crate) caller: tokio::sync::OnceCell<Caller>,
    pub(crate) sts: aws_sdk_sts::Client,
    pub(crate) organizations: aws_sdk_organizations::Client,
    pub(crate) account: aws_sdk_account::Client,
    rds: Shared<aws_sdk_rds::Client>,
    kms: Shared<aws_sdk_kms::Client>,
}

/// One client a region.
struct Shared<C>(Mutex<HashMap<String, C>>);

impl<C: Clone> Shared<C> {
    fn new() -> Self {
        Shared(Mutex::new(HashMap::new()))
    }

    fn get(&self, region: &str, make: impl FnOnce() -> C) -> C {
        get_or_insert(&self.0, region.to_owned(), make)
    }
}

/// The value under a key, made if absent. A poisoned lock is no harm: the map is always whole.
pub(crate) fn get_or_insert<K: Eq + Hash, V: Clone>(
    map: &Mutex<HashMap<K, V>>,
    key: K,
    make: impl FnOnce() -> V,
) -> V {
    let mut map = map.lock().unwrap_or_else(PoisonError::into_inner);
    map.entry(key).or_insert_with(make).clone()
}

impl Cloud {
    /// Reads the standard credential chain and `AWS_ENDPOINT_URL`. Calls nothing yet.
    ///
    /// # Errors
    /// When the HTTP client cannot be built (no usable TLS roots).
    pub async fn new(settings: Settings) -> Result<Cloud, String> {
        let pool = ConnectionPool::builder()
            .max_connections_per_host(CONNECTIONS_PER_HOST)
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
            .build_https()
            .map_err(|e| format!("build the HTTPS client: {e}"))?;
        let http = PoolClient::new(&pool).map_err(|e| format!("build the HTTPS client: {e}"))?;
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(ATTEMPT_TIMEOUT)
            .build();
        let mut base = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http)
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .load()
            .await;
        if base.region().is_none() {
            // Sessions and Organizations need some region to sign for; us-east-1 is on in every
            // account of the standard partition.
            base = base.into_builder().region(Region::from_static("us-east-1")).build();
        }
        let inner = Inner {
            sts: aws_sdk_sts::Client::new(&base),
            organizations: aws_sdk_organizations::Client::new(&base),
            account: aws_sdk_account::Client::new(&base),
            limits: Limits::new(settings.rates, settings.call_deadline),
            sessions: Sessions::default(),
            caller: tokio::sync::OnceCell::new(),
            rds: Shared::new(),
            kms: Shared::new(),
            settings,
            base,
        };
        Ok(Cloud(Arc::new(inner)))
    }

    pub(crate) fn rds(&self, region: &str) -> aws_sdk_rds::Client {
        self.0.rds.get(region, || {
            let config = aws_sdk_rds::config::Builder::from(&self.0.base);
            aws_sdk_rds::Client::from_conf(config.region(Region::new(region.to_owned())).build())
        })
    }

    pub(crate) fn kms(&self, region: &str) -> aws_sdk_kms::Client {
        self.0.kms.get(region, || {
            let config = aws_sdk_kms::config::Builder::from(&self.0.base);
            aws_sdk_kms::Client::from_conf(config.region(Region::new(region.to_owned())).build())
        })
    }
}

/// A per-call override with a session's credentials. `no_cache`, because the SDK's identity cache
/// holds 64 partitions for the whole process and would resolve again and again beyond that.
macro_rules! as_session {
    ($service:ident, $session:expr) => {
        $service::config::Config::builder()
            .credentials_provider($session.credentials.clone())
            .identity_cache($service::config::IdentityCache::no_cache())
    };
}
pub(crate) use as_session;
