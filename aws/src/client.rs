//! One HTTP client, one SDK client a service and region, credentials per call.

use crate::limits::{Class, Rates, Usage, whole};
use crate::retry::{Gate, Probe};
use crate::session::{Caller, OfSession, Sessions};
use crate::user_agent::UserAgent;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_rds::config::IdentityCache;
use aws_smithy_http_client::pool::{Client as PoolClient, ConnectionPool};
use aws_smithy_http_client::tls;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Connections to one host at most. All accounts of a region share them: HTTP connections are pooled by
/// authority, credentials travel with each request. It is the slots of each service and region that
/// bound what is in flight (`limits.in_flight_per_region`); this is above their sum, for endpoints that
/// stand for all regions (a proxy, an emulator).
const CONNECTIONS_PER_HOST: usize = 4_096;

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
    /// How long one call, with its retries, may take, from its first try.
    pub call_deadline: Duration,
    /// How long one try may take.
    pub attempt_timeout: Duration,
    /// Calls in flight to one region.
    pub in_flight_per_region: u32,
    /// Regions whose STS endpoints are used; empty means [`Cloud::sts_regions`]'s choice.
    pub sts_regions: Vec<String>,
}

/// The way to AWS. Cheap to clone.
#[derive(Clone)]
pub struct Cloud(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) base: SdkConfig,
    /// For clients of member accounts: a call outside of a session has no credentials, and fails. With
    /// `base` it would go, as the management account.
    member: SdkConfig,
    pub(crate) settings: Settings,
    pub(crate) gate: Gate,
    pub(crate) sessions: Sessions,
    pub(crate) caller: tokio::sync::OnceCell<Caller>,
    pub(crate) sts: Vec<StsEndpoint>,
    pub(crate) organizations: aws_sdk_organizations::Client,
    pub(crate) account: aws_sdk_account::Client,
    pub(crate) iam: aws_sdk_iam::Client,
    pub(crate) own_iam: aws_sdk_iam::Client,
    pub(crate) analyzer: aws_sdk_accessanalyzer::Client,
    rds: Shared<aws_sdk_rds::Client>,
    kms: Shared<aws_sdk_kms::Client>,
    config: Shared<aws_sdk_config::Client>,
    member_config: Shared<aws_sdk_config::Client>,
    cloudwatch: Shared<aws_sdk_cloudwatch::Client>,
    own_cloudwatch: Shared<aws_sdk_cloudwatch::Client>,
    ec2: Shared<aws_sdk_ec2::Client>,
    secretsmanager: Shared<aws_sdk_secretsmanager::Client>,
    cloudtrail: Shared<aws_sdk_cloudtrail::Client>,
    own_cloudformation: Shared<aws_sdk_cloudformation::Client>,
}

/// A client of a service, in the region of the configuration unless said.
macro_rules! client {
    ($service:ident, $base:expr, $region:expr) => {{
        let region = Region::new(AsRef::<str>::as_ref($region).to_owned());
        client!(@ $service, $service::config::Builder::from($base).region(region))
    }};
    ($service:ident, $base:expr) => { client!(@ $service, $service::config::Builder::from($base)) };
    (@ $service:ident, $builder:expr) => {
        $service::Client::from_conf($builder.interceptor(UserAgent).build())
    };
}

/// One of STS's regional endpoints.
pub(crate) struct StsEndpoint {
    pub(crate) region: String,
    pub(crate) client: aws_sdk_sts::Client,
    /// It does not take the caller's credentials: the region is off in the caller's account. Asked
    /// again only where all are.
    pub(crate) refuses: AtomicBool,
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

/// The value under a key, made if absent.
pub(crate) fn get_or_insert<K: Eq + Hash, V: Clone>(
    map: &Mutex<HashMap<K, V>>,
    key: K,
    make: impl FnOnce() -> V,
) -> V {
    whole(map).entry(key).or_insert_with(make).clone()
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
            // The same in every client: the pool of connections is keyed by the timeouts.
            .operation_attempt_timeout(settings.attempt_timeout)
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
        let sts = sts_regions(&settings.sts_regions, base.region().map(Region::as_ref))
            .into_iter()
            .map(|region| {
                let client = client!(aws_sdk_sts, &base, &region);
                StsEndpoint { region, client, refuses: AtomicBool::new(false) }
            })
            .collect();
        // `no_cache`, because the SDK's identity cache holds 64 partitions, and one identity in each.
        let member = base
            .to_builder()
            .credentials_provider(SharedCredentialsProvider::new(OfSession))
            .identity_cache(IdentityCache::no_cache())
            .build();
        let inner = Inner {
            sts,
            organizations: client!(aws_sdk_organizations, &base),
            account: client!(aws_sdk_account, &member),
            iam: client!(aws_sdk_iam, &member),
            own_iam: client!(aws_sdk_iam, &base),
            analyzer: client!(aws_sdk_accessanalyzer, &base),
            gate: Gate::new(&settings.rates, settings.in_flight_per_region, settings.call_deadline),
            sessions: Sessions::default(),
            caller: tokio::sync::OnceCell::new(),
            rds: Shared::new(),
            kms: Shared::new(),
            config: Shared::new(),
            member_config: Shared::new(),
            cloudwatch: Shared::new(),
            own_cloudwatch: Shared::new(),
            ec2: Shared::new(),
            secretsmanager: Shared::new(),
            cloudtrail: Shared::new(),
            own_cloudformation: Shared::new(),
            settings,
            base,
            member,
        };
        Ok(Cloud(Arc::new(inner)))
    }

    /// The region of the caller's own configuration.
    pub fn own_region(&self) -> &str {
        self.0.base.region().map_or("us-east-1", Region::as_ref)
    }

    /// What every kind of call did so far.
    pub fn usage(&self) -> Vec<Usage> {
        self.0.gate.limits.usage()
    }

    /// How much of the STS budget is ours, in millionths: the server deals it out to the agents, so
    /// that together they stay within it.
    pub fn set_sts_share(&self, millionths: u32) {
        self.0.gate.limits.set_share(Class::Sts, millionths);
    }

    /// Where RDS of a region is taken for dead and nobody has asked it since then: the right to ask, for
    /// one; the others wait here until that one knows.
    pub async fn settle(
        &self,
        region: &ringfence_domain::id::Region,
        since: Instant,
    ) -> Option<Probe> {
        self.0.gate.settle(Class::RdsRead, region.as_str(), since).await
    }

    /// Drops what is as good as new: full buckets, empty queues, ended sessions.
    pub fn forget_idle(&self) {
        self.0.gate.limits.forget_idle();
        self.forget_ended();
    }

    pub(crate) fn rds(&self, region: &str) -> aws_sdk_rds::Client {
        self.0.rds.get(region, || client!(aws_sdk_rds, &self.0.member, region))
    }

    /// AWS Config as ourselves: the organization's rules and aggregators.
    pub(crate) fn config(&self, region: &str) -> aws_sdk_config::Client {
        self.0.config.get(region, || client!(aws_sdk_config, &self.0.base, region))
    }

    /// AWS Config in a member account.
    pub(crate) fn member_config(&self, region: &str) -> aws_sdk_config::Client {
        self.0.member_config.get(region, || client!(aws_sdk_config, &self.0.member, region))
    }

    pub(crate) fn cloudwatch(&self, region: &str) -> aws_sdk_cloudwatch::Client {
        self.0.cloudwatch.get(region, || client!(aws_sdk_cloudwatch, &self.0.member, region))
    }

    /// CloudWatch as ourselves: alarms.
    pub(crate) fn own_cloudwatch(&self, region: &str) -> aws_sdk_cloudwatch::Client {
        self.0.own_cloudwatch.get(region, || client!(aws_sdk_cloudwatch, &self.0.base, region))
    }

    pub(crate) fn own_cloudformation(&self, region: &str) -> aws_sdk_cloudformation::Client {
        let make = || client!(aws_sdk_cloudformation, &self.0.base, region);
        self.0.own_cloudformation.get(region, make)
    }

    pub(crate) fn ec2(&self, region: &str) -> aws_sdk_ec2::Client {
        self.0.ec2.get(region, || client!(aws_sdk_ec2, &self.0.member, region))
    }

    pub(crate) fn secretsmanager(&self, region: &str) -> aws_sdk_secretsmanager::Client {
        let make = || client!(aws_sdk_secretsmanager, &self.0.member, region);
        self.0.secretsmanager.get(region, make)
    }

    pub(crate) fn cloudtrail(&self, region: &str) -> aws_sdk_cloudtrail::Client {
        let make = || client!(aws_sdk_cloudtrail, &self.0.member, region);
        self.0.cloudtrail.get(region, make)
    }

    pub(crate) fn kms(&self, region: &str) -> aws_sdk_kms::Client {
        self.0.kms.get(region, || client!(aws_sdk_kms, &self.0.member, region))
    }
}

/// The regions whose STS endpoints are used: those named, else the caller's own and others of its
/// partition that are on by default in every account. Each endpoint has a quota of its own, and
/// credentials from any of them are good in every region (IAM guide, "Managing AWS STS in an AWS
/// Region"); endpoints of opt-in regions only answer accounts that have them on.
fn sts_regions(named: &[String], own: Option<&str>) -> Vec<String> {
    if !named.is_empty() {
        return named.to_vec();
    }
    let own = own.unwrap_or("us-east-1");
    let others: &[&str] = match own {
        _ if own.starts_with("cn-") => &["cn-north-1", "cn-northwest-1"],
        _ if own.starts_with("us-gov-") => &["us-gov-west-1", "us-gov-east-1"],
        _ if own.contains("-iso") => &[],
        _ => &["us-east-1", "us-west-2", "eu-west-1", "eu-central-1"],
    };
    let mut regions = vec![own.to_owned()];
    regions.extend(others.iter().filter(|r| **r != own).map(|r| (*r).to_owned()));
    regions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sts_is_asked_in_the_own_partition_and_the_own_region_first() {
        assert_eq!(sts_regions(&["eu-west-2".into()], Some("us-east-1")), ["eu-west-2"]);
        assert_eq!(sts_regions(&[], Some("eu-west-1"))[0], "eu-west-1");
        assert_eq!(sts_regions(&[], Some("eu-west-1")).len(), 4);
        assert_eq!(sts_regions(&[], Some("ap-southeast-2")).len(), 5);
        assert_eq!(sts_regions(&[], Some("cn-north-1")), ["cn-north-1", "cn-northwest-1"]);
        assert!(sts_regions(&[], Some("us-gov-east-1")).iter().all(|r| r.starts_with("us-gov-")));
        assert_eq!(sts_regions(&[], Some("us-iso-east-1")), ["us-iso-east-1"]);
    }
}
