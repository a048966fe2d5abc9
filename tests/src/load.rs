//! What the simulator itself can do: it must not be the bottleneck of a benchmark of ours.

use crate::scale::{cpu, memory};
use crate::{Guard, binary};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What was measured.
#[derive(Debug, Clone)]
pub struct Load {
    /// From the start of the process to its ready line, 10,000 accounts x 17 regions.
    pub start: Duration,
    /// Resident memory then, in MiB.
    pub memory_at_start: f64,
    /// Requests answered.
    pub requests: u64,
    /// Requests for one second of the simulator's CPU.
    pub per_core_second: f64,
    /// Resident memory after every request went to another account or region, in MiB.
    pub memory_after: f64,
}

const CONNECTIONS: usize = 16;
const REGIONS: [&str; 4] = ["us-east-1", "eu-west-1", "eu-central-1", "us-west-2"];

fn ask(
    stream: &mut TcpStream,
    service: &str,
    region: &str,
    session: Option<&(String, String)>,
    body: &str,
) -> String {
    let key = session.map_or("m", |(key, _)| key);
    let token =
        session.map(|(_, token)| format!("X-Amz-Security-Token: {token}\r\n")).unwrap_or_default();
    let request = format!(
        "POST / HTTP/1.1\r\nHost: x\r\nAuthorization: AWS4-HMAC-SHA256 Credential={key}/20260101/{region}/{service}/aws4_request, SignedHeaders=host, Signature=0\r\n{token}Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    exchange(stream, &request)
}

/// Sends a request, and gives back the body of its answer, which must be good.
fn exchange(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).expect("send");
    let mut buffer = vec![0; 64 << 10];
    let mut have = 0;
    loop {
        have += stream.read(&mut buffer[have..]).expect("an answer");
        let text = std::str::from_utf8(&buffer[..have]).expect("text");
        let Some((head, rest)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.split("content-length: ").nth(1).and_then(|l| l.split("\r\n").next());
        let length: usize = length.and_then(|l| l.parse().ok()).expect("a length");
        if rest.len() >= length {
            assert!(head.starts_with("HTTP/1.1 200"), "{text}");
            return rest.to_owned();
        }
    }
}

fn between(text: &str, tag: &str) -> String {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    let inner = text.split(&open).nth(1).and_then(|rest| rest.split(&close).next());
    inner.expect("the element").to_owned()
}

/// Asks DescribeDBInstances of cells without databases, with sessions as the product has them.
pub fn run(seed: u32, requests: u64) -> Load {
    let began = Instant::now();
    let mut child = Command::new(binary("ringfence-simulator"))
        .args(["--listen", "127.0.0.1:0", "--accounts", "10000", "--regions", "17", "--plain"])
        .args(["--density", "0", "--limits", "none", "--threads", "1", "--seed", &seed.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .expect("start the simulator");
    let mut out = BufReader::new(child.stdout.take().expect("its output"));
    let mut line = String::new();
    out.read_line(&mut line).expect("the ready line");
    let start = began.elapsed();
    let process = Guard(child);
    let id = process.0.id();
    let memory_at_start = memory(id);
    let address = line.split("AWS at http://").nth(1).and_then(|r| r.split(' ').next());
    let address = address.expect("an address").to_owned();
    let policy = "%7B%22Version%22%3A%222012-10-17%22%2C%22Statement%22%3A%5B%7B%22Effect%22%3A%22Allow%22%2C%22Action%22%3A%22rds%3ADescribe%2A%22%2C%22Resource%22%3A%22%2A%22%7D%5D%7D";
    let mut first = TcpStream::connect(&address).expect("connect");
    let accounts = accounts(&mut first);
    let sessions: Vec<(String, String)> = accounts
        .iter()
        .map(|account| {
            let body = format!("Action=AssumeRole&RoleArn=arn%3Aaws%3Aiam%3A%3A{account}%3Arole%2FRingfenceRemediation&RoleSessionName=load&Policy={policy}");
            let made = ask(&mut first, "sts", "us-east-1", None, &body);
            (between(&made, "AccessKeyId"), between(&made, "SessionToken"))
        })
        .collect();
    let before = cpu(id);
    let each = requests / CONNECTIONS as u64;
    std::thread::scope(|scope| {
        for worker in 0..CONNECTIONS {
            let (address, sessions) = (&address, &sessions);
            scope.spawn(move || {
                let mut stream = TcpStream::connect(address).expect("connect");
                stream.set_nodelay(true).expect("no delay");
                for i in 0..each as usize {
                    let session = &sessions[(i + worker) % sessions.len()];
                    let body = "Action=DescribeDBInstances&Version=2014-10-31&MaxRecords=100";
                    ask(&mut stream, "rds", REGIONS[i % REGIONS.len()], Some(session), body);
                }
            });
        }
    });
    let used = cpu(id) - before;
    let answered = each * CONNECTIONS as u64;
    Load {
        start,
        memory_at_start,
        requests: answered,
        per_core_second: answered as f64 / used.as_secs_f64(),
        memory_after: memory(id),
    }
}

/// The ids of some member accounts, as ListAccounts gives them.
fn accounts(stream: &mut TcpStream) -> Vec<String> {
    let mut found = Vec::new();
    let mut token = String::new();
    while found.len() < 200 {
        let body = if token.is_empty() {
            "{}".to_owned()
        } else {
            format!("{{\"NextToken\":\"{token}\"}}")
        };
        let request = format!(
            "POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: AWSOrganizationsV20161128.ListAccounts\r\nAuthorization: AWS4-HMAC-SHA256 Credential=m/20260101/us-east-1/organizations/aws4_request, SignedHeaders=host, Signature=0\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let body = exchange(stream, &request);
        let page: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        let rows = page["Accounts"].as_array().cloned().unwrap_or_default();
        // The first one is the management account, which has no role to assume.
        found.extend(
            rows.iter()
                .filter(|a| a["Name"] != "management")
                .filter_map(|a| a["Id"].as_str().map(str::to_owned)),
        );
        token = page["NextToken"].as_str().unwrap_or_default().to_owned();
    }
    found
}
