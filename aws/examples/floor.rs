//! What the same calls cost without Ringfence: the floor of `make bench`. No limits, no ledger, no store;
//! one client, a semaphore, and nothing else.
//!
//! `floor sdk|raw ACCOUNTS.json REGIONS IN_FLIGHT`: each account's AssumeRole and ListRegions, and in each
//! cell both Describe calls at once. `sdk` is the AWS SDK as Ringfence sets it up; `raw` is hyper, aws-sigv4
//! and quick-xml. `queue` is so many tasks before one bucket of Ringfence's own. Prints one JSON line.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads clock and environment")]

use futures::StreamExt;
use mimalloc::MiMalloc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Accounts worked on at a time; the semaphore bounds the calls.
const ACCOUNTS: usize = 96;

/// As long as the scan's session policy.
const POLICY: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["rds:Describe*","kms:DescribeKey","account:ListRegions"],"Resource":"*"}]}"#;

/// What was done.
#[derive(Default)]
struct Done {
    calls: u64,
    instances: u64,
}

fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit(')').next().unwrap_or_default();
    // Signed: the terminal's group is -1 without one.
    let fields: Vec<i64> = after.split_whitespace().filter_map(|f| f.parse().ok()).collect();
    Duration::from_millis((fields[10] + fields[11]).unsigned_abs() * 10)
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let accounts = std::fs::read_to_string(&args[2]).expect("the accounts");
    let accounts: Vec<String> = serde_json::from_str(&accounts).expect("a list");
    let regions: Vec<String> = args[3].split(',').map(str::to_owned).collect();
    let slots = Arc::new(Semaphore::new(args[4].parse().expect("a number")));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let cells = accounts.len() * regions.len();
    let (before, began) = (cpu(), Instant::now());
    let done = runtime.block_on(async {
        match args[1].as_str() {
            "sdk" => sdk::run(&accounts, &regions, &slots).await,
            "raw" => raw::run(&accounts, &regions, &slots).await,
            "queue" => queue::run(args[4].parse().expect("a number")).await,
            other => panic!("{other}: it must be sdk or raw"),
        }
    });
    let (wall, used) = (began.elapsed(), cpu() - before);
    #[expect(clippy::print_stdout, reason = "the result")]
    {
        println!(
            "{}",
            serde_json::json!({"cells": cells, "calls": done.calls, "instances": done.instances,
                "wall_ms": wall.as_millis() as u64, "cpu_us": used.as_micros() as u64})
        );
    }
}

mod sdk {
    use super::*;
    use aws_config::{BehaviorVersion, Region};
    use aws_credential_types::Credentials;
    use aws_smithy_http_client::pool::{Client as PoolClient, ConnectionPool};
    use aws_smithy_http_client::tls;
    use aws_smithy_types::retry::RetryConfig;
    use aws_smithy_types::timeout::TimeoutConfig;

    pub(super) async fn run(accounts: &[String], regions: &[String], slots: &Semaphore) -> Done {
        let pool = ConnectionPool::builder()
            .max_connections_per_host(1_000)
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
            .build_https()
            .expect("a pool");
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(5))
            .operation_attempt_timeout(Duration::from_secs(20))
            .build();
        let base = aws_config::defaults(BehaviorVersion::latest())
            .http_client(PoolClient::new(&pool).expect("a client"))
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .load()
            .await;
        let sts = aws_sdk_sts::Client::new(&base);
        let account = aws_sdk_account::Client::new(&base);
        let rds: Vec<aws_sdk_rds::Client> = regions
            .iter()
            .map(|r| {
                let config =
                    aws_sdk_rds::config::Builder::from(&base).region(Region::new(r.clone()));
                aws_sdk_rds::Client::from_conf(config.build())
            })
            .collect();
        let (sts, account, rds) = (&sts, &account, &rds);
        futures::stream::iter(accounts)
            .map(|id| async move { one(id, sts, account, rds, slots).await })
            .buffer_unordered(ACCOUNTS)
            .fold(Done::default(), |sum, d| async move {
                Done { calls: sum.calls + d.calls, instances: sum.instances + d.instances }
            })
            .await
    }

    async fn one(
        id: &str,
        sts: &aws_sdk_sts::Client,
        account: &aws_sdk_account::Client,
        rds: &[aws_sdk_rds::Client],
        slots: &Semaphore,
    ) -> Done {
        let slot = slots.acquire().await;
        let role = format!("arn:aws:iam::{id}:role/RingfenceRemediation");
        let call = sts.assume_role().role_arn(role).role_session_name("floor").policy(POLICY);
        let answer = call.send().await.expect("AssumeRole");
        drop(slot);
        let given = answer.credentials().expect("credentials");
        let session = Credentials::new(
            given.access_key_id(),
            given.secret_access_key(),
            Some(given.session_token().to_owned()),
            None,
            "floor",
        );
        macro_rules! call {
            ($service:ident, $session:expr, $call:expr) => {{
                let _slot = slots.acquire().await;
                let config = $service::config::Config::builder()
                    .credentials_provider($session.clone())
                    .identity_cache($service::config::IdentityCache::no_cache());
                $call.customize().config_override(config).send().await.expect("an answer")
            }};
        }
        call!(aws_sdk_account, session, account.list_regions().max_results(50));
        let cells = rds.iter().map(|client| {
            let session = &session;
            async move {
                let a = async {
                    call!(aws_sdk_rds, session, client.describe_db_instances().max_records(100))
                };
                let b = async {
                    call!(aws_sdk_rds, session, client.describe_db_clusters().max_records(100))
                };
                let (a, _) = futures::join!(a, b);
                a.db_instances().len() as u64
            }
        });
        let instances: u64 = futures::future::join_all(cells).await.into_iter().sum();
        Done { calls: 2 + 2 * rds.len() as u64, instances }
    }
}

mod raw {
    use super::*;
    use aws_credential_types::Credentials;
    use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
    use aws_sigv4::sign::v4;
    use http_body_util::{BodyExt, Full};
    use hyper::body::Bytes;
    use hyper_util::client::legacy::Client;
    use hyper_util::client::legacy::connect::HttpConnector;
    use hyper_util::rt::TokioExecutor;
    use quick_xml::Reader;
    use quick_xml::events::Event;

    type Http = Client<HttpConnector, Full<Bytes>>;

    pub(super) async fn run(accounts: &[String], regions: &[String], slots: &Semaphore) -> Done {
        let url = std::env::var("AWS_ENDPOINT_URL").expect("AWS_ENDPOINT_URL");
        let http: Http = Client::builder(TokioExecutor::new()).build_http();
        let own = Credentials::new("management", "x", None, None, "floor");
        let (url, http, own) = (&url, &http, &own);
        futures::stream::iter(accounts)
            .map(|id| async move { one(id, regions, url, http, own, slots).await })
            .buffer_unordered(ACCOUNTS)
            .fold(Done::default(), |sum, d| async move {
                Done { calls: sum.calls + d.calls, instances: sum.instances + d.instances }
            })
            .await
    }

    async fn one(
        id: &str,
        regions: &[String],
        url: &str,
        http: &Http,
        own: &Credentials,
        slots: &Semaphore,
    ) -> Done {
        let form = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(k, v)| format!("{k}={}", encode(v))).collect::<Vec<_>>().join("&")
        };
        let role = format!("arn:aws:iam::{id}:role/RingfenceRemediation");
        let body = form(&[
            ("Action", "AssumeRole"),
            ("Version", "2011-06-15"),
            ("RoleArn", &role),
            ("RoleSessionName", "floor"),
            ("Policy", POLICY),
        ]);
        let slot = slots.acquire().await;
        let answer = send(http, url, "/", "sts", "us-east-1", own, body).await;
        drop(slot);
        let fields = texts(&answer, &["AccessKeyId", "SecretAccessKey", "SessionToken"]);
        let session =
            Credentials::new(&*fields[0], &*fields[1], Some(fields[2].clone()), None, "floor");
        let slot = slots.acquire().await;
        let body = "{\"MaxResults\":50}".to_owned();
        let list = send(http, url, "/listRegions", "account", "us-east-1", &session, body).await;
        drop(slot);
        let _: serde_json::Value = serde_json::from_slice(&list).expect("JSON");
        let cells = regions.iter().map(|region| {
            let session = &session;
            async move {
                let call = |action: &'static str| async move {
                    let body = format!("Action={action}&Version=2014-10-31&MaxRecords=100");
                    let _slot = slots.acquire().await;
                    send(http, url, "/", "rds", region, session, body).await
                };
                let (a, b) =
                    futures::join!(call("DescribeDBInstances"), call("DescribeDBClusters"));
                count(&b, "DBCluster");
                count(&a, "DBInstance")
            }
        });
        let instances: u64 = futures::future::join_all(cells).await.into_iter().sum();
        Done { calls: 2 + 2 * regions.len() as u64, instances }
    }

    fn encode(text: &str) -> String {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
        text.bytes()
            .map(|b| if plain(b) { (b as char).to_string() } else { format!("%{b:02X}") })
            .collect()
    }

    async fn send(
        http: &Http,
        url: &str,
        path: &str,
        service: &str,
        region: &str,
        credentials: &Credentials,
        body: String,
    ) -> Bytes {
        let kind =
            if path == "/" { "application/x-www-form-urlencoded" } else { "application/json" };
        let uri = format!("{url}{path}");
        let host = url.trim_start_matches("http://");
        let identity = credentials.clone().into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(region)
            .name(service)
            .time(std::time::SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .expect("parameters")
            .into();
        let headers = [("host", host), ("content-type", kind)];
        let signable = SignableRequest::new(
            "POST",
            &uri,
            headers.into_iter(),
            SignableBody::Bytes(body.as_bytes()),
        );
        let (instructions, _) =
            sign(signable.expect("a request"), &params).expect("a signature").into_parts();
        let mut request = hyper::Request::builder()
            .method("POST")
            .uri(&uri)
            .header("content-type", kind)
            .body(Full::new(Bytes::from(body)))
            .expect("a request");
        instructions.apply_to_request_http1x(&mut request);
        let answer = http.request(request).await.expect("an answer");
        assert!(answer.status().is_success(), "{service} {}", answer.status());
        answer.into_body().collect().await.expect("a body").to_bytes()
    }

    /// The texts of the elements of these names.
    fn texts(xml: &[u8], names: &[&str]) -> Vec<String> {
        let mut found = vec![String::new(); names.len()];
        let mut reader = Reader::from_reader(xml);
        let mut open = None;
        loop {
            match reader.read_event().expect("XML") {
                Event::Start(e) => {
                    open = names.iter().position(|n| *n == e.name().as_ref());
                }
                Event::Text(t) => {
                    if let Some(n) = open {
                        found[n] = t.to_string();
                    }
                }
                Event::End(_) => open = None,
                Event::Eof => return found,
                _ => {}
            }
        }
    }

    /// Reads everything into fields, as an inventory would; how many elements of that name there are.
    fn count(xml: &[u8], name: &str) -> u64 {
        let mut reader = Reader::from_reader(xml);
        let (mut n, mut fields) = (0, Vec::new());
        loop {
            match reader.read_event().expect("XML") {
                Event::Start(e) if e.name().as_ref() == name => {
                    n += 1;
                    fields.clear();
                }
                Event::Start(e) => {
                    fields.push((e.name().as_ref().to_owned(), String::new()));
                }
                Event::Text(t) => {
                    if let Some((_, value)) = fields.last_mut() {
                        value.push_str(&t);
                    }
                }
                Event::Eof => return n,
                _ => {}
            }
        }
    }
}

mod queue {
    use super::*;
    use ringfence_aws::limits::{Class, Key, Limits, Rates};

    /// What the bucket grants a second.
    const RATE: u32 = 1_000;

    pub(super) async fn run(waiters: u32) -> Done {
        let rates = Rates::each(|class| if class == Class::Sts { RATE } else { 1 });
        let limits = Arc::new(Limits::new(&rates));
        let served = Arc::new(std::sync::Mutex::new(Vec::new()));
        let (before, began) = (cpu(), Instant::now());
        let tasks: Vec<_> = (0..waiters)
            .map(|n| {
                let (limits, served) = (limits.clone(), served.clone());
                tokio::spawn(async move {
                    limits.permit(Class::Sts, Key::endpoint("us-east-1")).await;
                    served.lock().expect("the list").push(n);
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("a task");
        }
        let (took, used) = (began.elapsed().as_secs_f64(), cpu() - before);
        let served = served.lock().expect("the list");
        let disorder = served.windows(2).filter(|w| w[0] > w[1]).count();
        // A tenth of a second's worth goes at once.
        let share = f64::from(waiters - RATE / 10) / took / f64::from(RATE);
        #[expect(clippy::print_stdout, reason = "the result")]
        {
            println!(
                "{}",
                serde_json::json!({"used": share, "disorder": disorder, "cpu_us": used.as_micros() as f64 / f64::from(waiters)})
            );
        }
        std::process::exit(0)
    }
}
