//! The simulator from outside: clients that are not ours, requests that are none, and its own doors.

use ringfence_tests::emulator::Sim;
use ringfence_tests::process::Setup;
use ringfence_tests::{Guard, binary, python, root, until};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The simulator as a process, with what its ready line says.
struct Program {
    _process: Guard,
    // Read no further, and kept open: a program whose output is closed ends.
    _out: BufReader<std::process::ChildStdout>,
    aws: String,
    admin: String,
}

fn program(args: &[&str]) -> Program {
    let mut child = Command::new(binary("ringfence-simulator"))
        .args(["--listen", "127.0.0.1:0"])
        .args(args)
        .stdout(Stdio::piped())
        .spawn()
        .expect("start the simulator");
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().expect("its output"));
    out.read_line(&mut line).expect("the ready line");
    let address = |after: &str| {
        let rest = line.split(after).nth(1).unwrap_or_else(|| panic!("no {after} in {line}"));
        rest.split_whitespace().next().expect("an address").to_owned()
    };
    let (aws, admin) = (address("AWS at "), address("admin at "));
    Program { aws, admin, _process: Guard(child), _out: out }
}

fn run_python(interpreter: &Path, script: &str, args: &[&str]) -> Value {
    let ran = Command::new(interpreter)
        .arg(root().join("tests/python").join(script))
        .args(args)
        .output()
        .expect("run Python");
    assert!(ran.status.success(), "{script}: {}", String::from_utf8_lossy(&ran.stderr));
    serde_json::from_slice(&ran.stdout).expect("JSON")
}

#[test]
fn boto3_finds_nothing_in_any_operation_that_its_models_do_not_know() {
    let simulator = program(&["--empty", "--manual-clock", "--limits", "none"]);
    let said = run_python(&python(), "conformance.py", &[&simulator.aws, &simulator.admin]);
    // The script itself fails unless every operation was called.
    assert!(said["operations"].as_u64() > Some(130), "{said}");
    let codes = said["errors"].as_array().expect("codes").len();
    assert!(said["answers"].as_u64() > Some(160) && codes > 40, "{said}");
}

/// Written beside the start, so a reader waits for it.
fn truth_file(args: &[&str], folder: &Path) -> (Program, Value) {
    let file = folder.join("truth.json");
    let path = file.display().to_string();
    let program = program(&[args, &["--truth", &path]].concat());
    until("the truth is written", Duration::from_secs(30), || {
        if file.exists() { Ok(()) } else { Err("no file".to_owned()) }
    });
    let text = std::fs::read_to_string(file).expect("the truth");
    (program, serde_json::from_str(&text).expect("JSON"))
}

#[test]
fn other_peoples_tools_find_the_truth() {
    let folder = tempfile::tempdir().expect("a folder");
    let args = [
        "--accounts",
        "14",
        "--regions",
        "3",
        "--seed",
        "5",
        "--density",
        "0.4",
        "--limits",
        "none",
    ];
    let (simulator, _) = truth_file(&args, folder.path());
    let peers = root().join(".venv-peers/bin/python");
    assert!(peers.exists(), "{} is missing: run `make peers`", peers.display());
    let truth = folder.path().join("truth.json").display().to_string();
    let said = run_python(
        &peers,
        "peers.py",
        &[&simulator.aws, &truth, &folder.path().display().to_string()],
    );
    assert!(said["truth"].as_u64() > Some(10), "{said}");
}

#[test]
fn the_ledger_is_the_truth_of_a_generated_organization() {
    let folder = tempfile::tempdir().expect("a folder");
    let args = ["--accounts", "60", "--regions", "4", "--opt-in", "2", "--seed", "9"];
    let (simulator, truth) = truth_file(&args, folder.path());
    let mut setup = Setup::new(&simulator.aws, folder.path());
    // Named, so that a denied account has a cell in every one of them.
    let regions: Vec<&str> =
        truth["regions"].as_array().expect("regions").iter().filter_map(Value::as_str).collect();
    setup.set("RINGFENCE_AWS__REGIONS", &regions.join(","));
    setup.set("RINGFENCE_AWS__EXTERNAL_ID", "");
    let _server = setup.start();
    let cli = setup.cli("ann");
    cli.expect("org sync", 0);
    cli.expect("scan start --wait --timeout 120s", 3);
    let place = |c: &Value| format!("{} {}", c["account"], c["region"]).replace('"', "");
    let cells = cli.json("scan cells", 0);
    let found: BTreeMap<String, String> = cells["cells"]
        .as_array()
        .expect("cells")
        .iter()
        .map(|c| (place(c), c["state"].as_str().unwrap_or_default().to_owned()))
        .collect();
    let wanted: BTreeMap<String, String> = truth["cells"]
        .as_array()
        .expect("cells")
        .iter()
        .map(|c| (place(c), c["expect"].as_str().unwrap_or_default().to_owned()))
        .collect();
    for state in ["clean", "findings", "denied", "scp-denied", "region-off"] {
        assert!(wanted.values().any(|s| s == state), "the truth has {state}");
    }
    assert_eq!(found, wanted);
}

/// A world, seen through the product, exported, rehearsed, and seen again: the same findings.
#[test]
fn an_exported_organization_can_be_rehearsed() {
    let folder = tempfile::tempdir().expect("a folder");
    let look = |aws: &str, name: &str| {
        let inside = folder.path().join(name);
        std::fs::create_dir(&inside).expect("a folder");
        let mut setup = Setup::new(aws, &inside);
        // As by default: a denied account cannot say its regions, and has one cell, `unknown`.
        setup.set("RINGFENCE_AWS__REGIONS", "");
        setup.set("RINGFENCE_AWS__EXTERNAL_ID", "");
        let _server = setup.start();
        let cli = setup.cli("ann");
        let before = cli.expect("org export", 5);
        assert!(before.err.contains("run `ringfence org sync`"), "{before:?}");
        cli.expect("org sync", 0);
        let before = cli.expect("org export", 0);
        assert!(before.err.contains("nothing was scanned yet"), "{before:?}");
        cli.expect("scan start --wait --timeout 120s", 3);
        cli.expect("org export", 0).json()
    };
    let args =
        ["--accounts", "30", "--regions", "3", "--opt-in", "1", "--seed", "12", "--limits", "none"];
    let sim = Sim::start(&args);
    let first = look(&sim.url(), "first");
    let file = folder.path().join("org.json");
    std::fs::write(&file, first.to_string()).expect("write the export");
    let child = Command::new(binary("ringfence"))
        .args([
            "rehearse",
            "--from",
            &file.display().to_string(),
            "--listen",
            "127.0.0.1:0",
            "-o",
            "json",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .expect("start the rehearsal");
    let mut rehearsal = Guard(child);
    let mut out = BufReader::new(rehearsal.0.stdout.take().expect("its output"));
    let mut text = String::new();
    while !text.ends_with("}\n") {
        assert!(out.read_line(&mut text).expect("a line") > 0, "{text}");
    }
    let doors: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(doors["accounts"], 30, "{doors}");
    let listen = doors["endpoint"].as_str().expect("an endpoint").replace("http://", "");
    let taken = Command::new(binary("ringfence"))
        .args(["rehearse", "--from", &file.display().to_string(), "--listen", &listen])
        .output()
        .expect("run");
    let said = String::from_utf8_lossy(&taken.stderr).into_owned();
    assert_eq!(taken.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("listen on {listen}")) && !said.contains("panicked"), "{said}");
    let unknown = first["cells"].as_array().expect("cells").iter();
    assert!(unknown.filter(|c| c["region"] == "unknown").count() > 0, "a denied account is there");
    let second = look(doors["endpoint"].as_str().expect("an endpoint"), "second");
    let outline = |export: &Value| {
        let pick = |list: &str, fields: &[&str]| -> Vec<Vec<Value>> {
            let rows = export[list].as_array().expect("rows").iter();
            let mut rows: Vec<Vec<Value>> =
                rows.map(|row| fields.iter().map(|f| row[f].clone()).collect()).collect();
            rows.sort_by_key(|row| format!("{row:?}"));
            rows
        };
        json!({
            "nodes": pick("nodes", &["id", "parent", "name", "kind", "account_state", "path"]),
            "cells": pick("cells", &["account", "region", "instances", "clusters"]),
            "findings": pick("findings", &["account", "region", "kind", "name", "engine", "group"]),
        })
    };
    let (was, is) = (outline(&first), outline(&second));
    assert!(was["findings"].as_array().expect("findings").len() > 5, "{was}");
    assert_eq!(is, was);
    let ran = Command::new(binary("ringfence"))
        .args(["rehearse", "--from", "/dev/null"])
        .output()
        .expect("run");
    assert_eq!(ran.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&ran.stderr).contains("is not an export of `ringfence org export`")
    );
}

/// Sends bytes, and gives back the status line and the whole answer.
fn raw(address: &str, bytes: &[u8], finish: bool) -> String {
    let mut stream = TcpStream::connect(address.trim_start_matches("http://")).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    // A server that answers early may close before all was sent.
    let _ = stream.write_all(bytes);
    if finish {
        let _ = stream.shutdown(std::net::Shutdown::Write);
    }
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(n) = stream.read(&mut buffer) {
        answer.extend_from_slice(&buffer[..n]);
        if n == 0 || answer.windows(4).any(|w| w == b"\r\n\r\n") {
            break;
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

const AUTH: &str = "Authorization: AWS4-HMAC-SHA256 Credential=m/20260101/us-east-1/rds/aws4_request, SignedHeaders=host, Signature=0";

fn post(body: &str, more: &str) -> Vec<u8> {
    format!(
        "POST / HTTP/1.1\r\nHost: x\r\n{AUTH}\r\n{more}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[test]
fn nonsense_is_answered_with_400_and_harms_nothing() {
    let sim = Sim::start(&["--accounts", "3"]);
    let url = sim.url();
    let status = |answer: &str| answer.split(' ').nth(1).unwrap_or_default().to_owned();
    let target = "X-Amz-Target: AWSOrganizationsV20161128.ListRoots\r\n";
    let json_auth = AUTH.replace("/rds/", "/organizations/");
    let json = format!(
        "POST / HTTP/1.1\r\nHost: x\r\n{json_auth}\r\n{target}Content-Length: 3\r\n\r\n[1]"
    );
    let cbor_auth = AUTH.replace("/rds/", "/monitoring/");
    let cbor = format!(
        "POST /service/G/operation/GetMetricData HTTP/1.1\r\nHost: x\r\n{cbor_auth}\r\nSmithy-Protocol: rpc-v2-cbor\r\nContent-Length: 3\r\n\r\n\u{1}\u{2}\u{3}"
    );
    let deep = format!("Action=DescribeDBInstances&{}=1", vec!["a"; 40].join("."));
    for (what, bytes) in [
        ("no HTTP", b"\x16\x03\x01 hello\r\n\r\n".to_vec()),
        ("no operation", post("", "")),
        ("no UTF-8", [post("Action=%ff", "").as_slice(), b""].concat()),
        ("too deep", post(&deep, "")),
        ("twice", post("Action=DescribeDBInstances&Action=CreateDBInstance", "")),
        ("no JSON object", json.into_bytes()),
        ("no CBOR", cbor.into_bytes()),
        (
            "a length that is none",
            format!("POST / HTTP/1.1\r\nHost: x\r\n{AUTH}\r\nContent-Length: x\r\n\r\n")
                .into_bytes(),
        ),
    ] {
        let answer = raw(&url, &bytes, false);
        // An operation whose name is no UTF-8 is an operation that we do not have.
        let want = if what == "no UTF-8" { ["400", "501"] } else { ["400", "400"] };
        assert!(want.contains(&status(&answer).as_str()), "{what}: {answer}");
    }
    let huge = post(&format!("Action={}", "x".repeat(2 << 20)), "");
    let answer = raw(&url, &huge, false);
    assert_eq!(status(&answer), "400", "{answer}");
    // Cut off: there is nobody left to answer, and nothing happens.
    let whole = post("Action=DescribeDBInstances", "");
    raw(&url, &whole[..whole.len() - 5], true);
    let unsigned = raw(&url, b"GET /faults HTTP/1.1\r\nHost: x\r\n\r\n", false);
    assert_eq!(status(&unsigned), "403", "the admin door is not behind the AWS port: {unsigned}");
    let good = raw(&url, &whole, false);
    assert_eq!(status(&good), "200", "{good}");
}

#[test]
fn one_connection_serves_many_requests() {
    let sim = Sim::start(&["--accounts", "3", "--limits", "none"]);
    let mut stream = TcpStream::connect(sim.url().trim_start_matches("http://")).expect("connect");
    for _ in 0..50 {
        stream.write_all(&post("Action=DescribeDBClusters", "")).expect("send");
        let mut buffer = vec![0; 4096];
        let n = stream.read(&mut buffer).expect("an answer");
        assert!(
            buffer[..n].starts_with(b"HTTP/1.1 200"),
            "{}",
            String::from_utf8_lossy(&buffer[..n])
        );
    }
}

#[test]
fn connections_drop_and_calls_are_held_as_asked() {
    let sim = Sim::start(&["--accounts", "3"]);
    let write = |name: &str| {
        let body = format!(
            "Action=CreateDBParameterGroup&DBParameterGroupName={name}&DBParameterGroupFamily=postgres16&Description=d"
        );
        post(&body, "")
    };
    let there = |name: &str| {
        let body = format!("Action=DescribeDBParameterGroups&DBParameterGroupName={name}");
        raw(&sim.url(), &post(&body, ""), false).starts_with("HTTP/1.1 200")
    };
    for (effect, happened) in [("drop-before", false), ("drop-after", true)] {
        sim.fault(json!({"match": {"write": true}, "effect": effect}));
        assert_eq!(raw(&sim.url(), &write(effect), false), "", "{effect}: no answer");
        assert_eq!(there(effect), happened, "{effect}");
    }
    // A client that is killed while its call is held before the effect: it never happens.
    sim.fault(json!({"match": {"write": true}, "effect": "hold-before"}));
    let mut stream = TcpStream::connect(sim.url().trim_start_matches("http://")).expect("connect");
    stream.write_all(&write("killed")).expect("send");
    assert_eq!(sim.held(Duration::from_secs(10)), "CreateDBParameterGroup");
    drop(stream);
    until("the held call is forgotten", Duration::from_secs(10), || {
        if sim.inside().held().is_empty() { Ok(()) } else { Err("held") }.map_err(str::to_owned)
    });
    assert!(!there("killed"));
    // Released, it goes on.
    sim.fault(json!({"match": {"write": true}, "effect": "hold-after"}));
    let url = sim.url();
    let bytes = write("released");
    let client = std::thread::spawn(move || raw(&url, &bytes, false));
    sim.held(Duration::from_secs(10));
    assert!(there("released"), "its effect is there before its answer");
    let id = sim.inside().held()[0].id;
    assert!(sim.inside().release(id));
    assert!(client.join().expect("the client").starts_with("HTTP/1.1 200"));
}

/// A request at the admin door; its status and document.
fn admin(program: &Program, method: &str, path: &str, body: &str) -> (u16, Value) {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream =
        TcpStream::connect(program.admin.trim_start_matches("http://")).expect("connect");
    stream.write_all(head.as_bytes()).expect("send");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a body");
    let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
    (status, serde_json::from_str(body).expect("JSON"))
}

#[test]
fn the_admin_door_shows_and_changes_the_world() {
    let simulator = program(&["--accounts", "3", "--manual-clock", "--density", "1"]);
    let (_, clock) = admin(&simulator, "GET", "/clock", "");
    assert_eq!(clock["now"], "2026-01-01T00:00:00.000Z");
    let (_, clock) = admin(&simulator, "POST", "/clock", r#"{"advance_ms": 1500}"#);
    assert_eq!(clock["now"], "2026-01-01T00:00:01.500Z");
    let (status, _) = admin(&simulator, "PATCH", "/settings", r#"{"read_lag_ms": 500}"#);
    assert_eq!(status, 200);
    for (path, body, why) in [
        ("/settings", r#"{"read_lag": 5}"#, "unknown field `read_lag`"),
        ("/settings", r#"{"time_scale": 0}"#, "time_scale must be 1 or more"),
    ] {
        let (status, said) = admin(&simulator, "PATCH", path, body);
        assert_eq!(status, 400, "{said}");
        assert!(said["error"].as_str().unwrap_or_default().contains(why), "{said}");
    }
    let (status, said) = admin(
        &simulator,
        "POST",
        "/faults",
        r#"{"effect": "throttle", "match": {"service": "rds"}}"#,
    );
    assert_eq!((status, &said["id"]), (200, &json!(1)));
    assert_eq!(admin(&simulator, "DELETE", "/faults/7", "").0, 404);
    let (_, truth) = admin(&simulator, "GET", "/truth", "");
    let account = truth["accounts"][1]["id"].as_str().expect("an account").to_owned();
    let call = json!({"call": {"account": account, "region": "us-east-1", "service": "rds",
        "operation": "DescribeDBInstances"}});
    let (_, said) = admin(&simulator, "POST", "/changes", &call.to_string());
    let name =
        said["DBInstances"][0]["DBInstanceIdentifier"].as_str().expect("a database").to_owned();
    let status = json!({"status": {"account": account, "region": "us-east-1", "name": name, "status": "storage-full"}});
    admin(&simulator, "POST", "/changes", &status.to_string());
    let (_, world) = admin(&simulator, "GET", "/world", "");
    let cell = &world["cells"][format!("{account} us-east-1")]["DBInstances"];
    assert!(
        cell.as_array().expect("databases").iter().any(|d| d["DBInstanceStatus"] == "storage-full")
    );
    // One call through the front door meets the fault, and is in the log and in the counts.
    assert!(
        raw(&simulator.aws, &post("Action=DescribeDBInstances", ""), false)
            .starts_with("HTTP/1.1 400")
    );
    let (_, calls) = admin(&simulator, "GET", "/calls", "");
    assert_eq!(calls["calls"][0]["error"], "Throttling", "{calls}");
    let (_, counts) = admin(&simulator, "GET", "/counts", "");
    assert_eq!(counts["rds:DescribeDBInstances"], json!({"calls": 1, "failed": 1}));
    assert_eq!(admin(&simulator, "GET", "/nothing", "").0, 404);
    let ran = Command::new(binary("ringfence-simulator"))
        .args(["--admin-listen", "0.0.0.0:0"])
        .output()
        .expect("run");
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(
        !ran.status.success() && said.contains("the admin door is for loopback only"),
        "{said}"
    );
}
