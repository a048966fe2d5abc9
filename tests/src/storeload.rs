//! What a large ledger costs to look at: 170,000 cells and a million findings, over gRPC.

use crate::emulator::Sim;
use crate::process::Setup;
use ringfence_domain::audit::Actor;
use ringfence_domain::id::AccountId;
use ringfence_domain::ledger::{Cell, CellState, RegionsSource};
use ringfence_domain::time::{Span, Time};
use ringfence_proto::v1;
use ringfence_proto::v1::finding_service_client::FindingServiceClient;
use ringfence_proto::v1::scan_service_client::ScanServiceClient;
use ringfence_proto::v1::status_service_client::StatusServiceClient;
use ringfence_server::store::{self, End, Kind, Page, Part, Row};
use std::time::{Duration, Instant};
use tonic::transport::Channel;

/// How large the ledger is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Accounts, each of 17 regions.
    pub accounts: u32,
    /// Findings of each account.
    pub findings: usize,
    /// How often each question is asked.
    pub times: u32,
}

/// How long one kind of question took.
#[derive(Debug, Clone)]
pub struct Latency {
    /// What was asked.
    pub question: &'static str,
    /// Half of the answers came within this.
    pub p50: Duration,
    /// All but one of a hundred did.
    pub p99: Duration,
}

/// Builds the ledger in that store, and asks a server about it.
pub fn run(size: Size, seed: u32, url: Option<&str>) -> (Duration, Vec<Latency>) {
    let folder = tempfile::tempdir().expect("a folder");
    let sim = Sim::plain(size.accounts, 17, 0.02, &["--seed", &seed.to_string()]);
    let mut setup = Setup::new(&sim.url(), folder.path());
    setup.set("RINGFENCE_AWS__REGIONS", "");
    setup.set("RINGFENCE_AWS__EXTERNAL_ID", "");
    if let Some(url) = url {
        setup.set("RINGFENCE_STORE__URL", url);
    }
    let server = setup.start();
    let cli = setup.cli("bench");
    cli.expect("org sync", 0);
    let tree = cli.json("org export", 0);
    let nodes = tree["nodes"].as_array().expect("nodes").clone();
    let ids: Vec<String> = nodes
        .iter()
        .filter(|n| n["kind"] == "account")
        .map(|n| n["id"].as_str().expect("an id").to_owned())
        .collect();
    // A hundred real accounts, so that the findings are what a scan writes.
    cli.json(&format!("scan start --wait --account {}", ids[..100].join(",")), 0);
    drop(server);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let store_url = setup.environment["RINGFENCE_STORE__URL"].clone();
    let began = Instant::now();
    runtime.block_on(fill(&store_url, &ids, size.findings));
    let filled = began.elapsed();
    setup.set("RINGFENCE_SERVER__EMBEDDED_AGENT", "false");
    let _server = setup.start();
    let ous: Vec<String> = nodes
        .iter()
        .filter(|n| n["kind"] == "ou")
        .map(|n| n["id"].as_str().expect("an id").to_owned())
        .collect();
    let questions = runtime.block_on(ask(setup.port, &ids, &ous, size.times, seed));
    (filled, questions)
}

const REGIONS: [&str; 17] = [
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
    "ca-central-1",
    "sa-east-1",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "eu-central-1",
    "eu-north-1",
    "ap-south-1",
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-northeast-3",
    "ap-southeast-1",
    "ap-southeast-2",
];

/// Fills the ledger as agents do: by reports under leases.
async fn fill(url: &str, ids: &[String], findings: usize) {
    let store = store::open(url).await.expect("open the store");
    let page = Page { limit: 1, state: "open".into(), ..Page::default() };
    let template = store.finding_page(&page).await.expect("a page").pop().expect("a finding");
    let accounts: Vec<AccountId> = ids.iter().map(|id| id.parse().expect("an account")).collect();
    let event = Actor::system("bench").did(Time(1), "fill", "x", "");
    let scan = Row::new(Kind::Scan, "fill", "done", Time(1), &"fill");
    assert!(
        store.start_scan(&scan, &store::Target::whole(&accounts), 0, &event).await.expect("a scan")
    );
    let owner = "fill/0#1";
    loop {
        let leases = store.claim(owner, Time(1), Span::hours(1), 20).await.expect("leases");
        if leases.is_empty() {
            return;
        }
        let part = |lease: &store::Lease| Part {
            lease: lease.clone(),
            scans: [("fill".into(), 0)].into(),
            cells: REGIONS
                .iter()
                .map(|region| {
                    let account = lease.account.parse().expect("an account");
                    let cell = Cell::pending(account, region, RegionsSource::Account);
                    Cell { state: CellState::Findings, as_of: Some(Time(1)), ..cell }
                })
                .collect(),
            findings: (0..findings)
                .map(|n| {
                    let id = format!("fi-{}-{n:04}", lease.account);
                    let body = template
                        .body
                        .replace(&template.id, &id)
                        .replace(&template.account, &lease.account);
                    Row {
                        id,
                        account: lease.account.clone(),
                        region: REGIONS[n % REGIONS.len()].to_owned(),
                        version: 0,
                        body,
                        ..template.clone()
                    }
                })
                .collect(),
            end: Some(End { release: true, ..End::default() }),
            event: None,
        };
        let parts: Vec<Part> = leases.iter().map(part).collect();
        let outcome = store.report(owner, &parts).await.expect("a report");
        assert!(outcome.iter().all(|o| *o == store::Fenced::Done));
    }
}

fn from<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert(ringfence_server::USER_HEADER, "bench".parse().expect("a name"));
    request
}

async fn ask(port: u16, ids: &[String], ous: &[String], times: u32, seed: u32) -> Vec<Latency> {
    let channel = Channel::from_shared(format!("http://127.0.0.1:{port}"))
        .expect("a URL")
        .connect()
        .await
        .expect("the server");
    let max = 64 << 20;
    let mut findings = FindingServiceClient::new(channel.clone()).max_decoding_message_size(max);
    let mut scans = ScanServiceClient::new(channel.clone()).max_decoding_message_size(max);
    let mut status = StatusServiceClient::new(channel).max_decoding_message_size(max);
    let mut all = Vec::new();
    macro_rules! measure {
        ($question:literal, |$n:ident| $call:expr) => {{
            let mut took = Vec::new();
            // The first ones warm the caches, as a server that runs has them.
            for round in 0..times + 5 {
                let $n = (round.wrapping_mul(2_654_435_761) ^ seed) as usize;
                let began = Instant::now();
                $call.await.expect("an answer");
                if round >= 5 {
                    took.push(began.elapsed());
                }
            }
            took.sort();
            let at = |share: usize| took[(took.len() * share / 100).min(took.len() - 1)];
            all.push(Latency { question: $question, p50: at(50), p99: at(99) });
        }};
    }
    let scope = |ous: Vec<String>, accounts: Vec<String>, regions: Vec<String>| {
        Some(v1::Scope { ous, accounts, regions })
    };
    let page = |scope, page_token: String| {
        let (page_size, include_resolved) = (100, false);
        from(v1::ListFindingsRequest { scope, page_size, page_token, include_resolved })
    };
    let account = |n: usize| ids[n % ids.len()].clone();
    let region = |n: usize| REGIONS[n % REGIONS.len()].to_owned();
    measure!("status", |_n| status.get_status(from(v1::GetStatusRequest { scope: None })));
    measure!("status --ou", |n| status.get_status(from(v1::GetStatusRequest {
        scope: scope(vec![ous[n % ous.len()].clone()], vec![], vec![])
    })));
    measure!("finding list", |n| findings
        .list_findings(page(None, format!("{} {} ", account(n), region(n)))));
    measure!("finding list --ou", |n| findings.list_findings(page(
        scope(vec![ous[n % ous.len()].clone()], vec![], vec![]),
        String::new()
    )));
    measure!("finding list --account", |n| findings
        .list_findings(page(scope(vec![], vec![account(n)], vec![]), String::new())));
    measure!("finding list --region", |n| findings.list_findings(page(
        scope(vec![], vec![], vec![region(n)]),
        format!("{} {} ", account(n), region(n))
    )));
    let cells = |n: usize, states: Vec<i32>| {
        from(v1::ListCellsRequest {
            scope: None,
            page_size: 100,
            page_token: format!("{} {}", account(n), region(n)),
            states,
        })
    };
    measure!("scan cells", |n| scans.list_cells(cells(n, vec![])));
    let states = [v1::CellState::Findings, v1::CellState::Denied, v1::CellState::Error];
    let states: Vec<i32> = states.into_iter().map(i32::from).collect();
    measure!("scan cells --state", |n| scans.list_cells(cells(n, states.clone())));
    all
}
