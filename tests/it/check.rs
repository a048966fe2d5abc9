//! `remediation.check_command`: what is in a twin is the operator's to judge, before it is verified.

use crate::bake::write_command;
use crate::stage::{MINUTE, Stage, text};
use ringfence_tests::postgres::Postgres;
use ringfence_tests::{Moto, python, root, script, until};
use std::process::Command;

#[test]
fn a_twin_is_verified_once_the_operators_command_agrees() {
    let folder = tempfile::tempdir().expect("a folder");
    let (told, verdict) = (folder.path().join("told"), folder.path().join("verdict"));
    let script = folder.path().join("check");
    let sources = (told.display(), verdict.display());
    let lines = format!("env | grep ^RINGFENCE_ | sort > {}\n. {}", sources.0, sources.1);
    write_command(&script, &lines);
    let say = |line: &str| std::fs::write(&verdict, line).expect("write");

    let mut stage = Stage::new();
    stage.instance("orders");
    say("echo 'rows differ in t'; exit 3");
    let command = script.to_str().expect("text");
    stage.start(&[("REMEDIATION__CHECK_COMMAND", command), ("REMEDIATION__POLL", "100ms")]);
    let id = stage.apply("")["orders"].clone();
    let stopped = stage.reaches(&id, "stopped");
    assert!(text(&stopped, "why").contains("exit code 3: rows differ in t"), "{stopped}");
    assert_eq!((text(&stopped, "failure"), text(&stopped, "checked")), ("blocked", ""));
    let twin = stage.describe()["encrypted-orders"].clone();
    assert_eq!(text(&twin, "StorageEncryptionType"), "sse-kms", "it stays, to be looked into");
    let told = std::fs::read_to_string(&told).expect("it was told");
    for line in [
        "RINGFENCE_ORIGINAL=orders".to_owned(),
        "RINGFENCE_TWIN=encrypted-orders".to_owned(),
        format!("RINGFENCE_TWIN_ADDRESS={}", text(&twin["Endpoint"], "Address")),
        format!("RINGFENCE_REMEDIATION={id}"),
        "RINGFENCE_PORT=5432".to_owned(),
    ] {
        assert!(told.lines().any(|l| l == line), "{line}: {told}");
    }
    assert!(!told.contains("__"), "nothing of the agent's own configuration: {told}");

    // One that hangs is begun anew after a crash, and asked again.
    say("exec sleep 600");
    stage.order("retry", &id, 0);
    until("it runs", MINUTE, || {
        let rem = stage.get(&id);
        if text(&rem, "why").contains("compares the data") { Ok(()) } else { Err(rem.to_string()) }
    });
    say("echo noise; echo '7 tables, 9000 rows'");
    stage.kill_and_start();
    let verified = stage.reaches(&id, "verified");
    assert!(text(&verified, "checked").ends_with("7 tables, 9000 rows"), "{verified}");
    let audit = stage.cli("ann").expect("audit list --limit 500", 0).out;
    assert!(audit.contains("remediation.check"), "{audit}");
}

/// The example that is shipped, on two real databases, with credentials from a secret.
#[test]
fn the_shipped_check_sees_a_row_that_is_missing() {
    let original = Postgres::start();
    let twin = original.twin();
    let moto = Moto::start();
    script("secret.py", &moto.url(), &["ringfence/orders"]);
    let run = |secret: &str| {
        let (address, port) = original.place();
        let done = Command::new(python())
            .arg(root().join("deploy/checks/same-data"))
            .env("AWS_ENDPOINT_URL", moto.url())
            .env("AWS_ACCESS_KEY_ID", "agent")
            .env("AWS_SECRET_ACCESS_KEY", "x")
            .env("PGSSLMODE", "disable")
            .env("SAME_DATA_SECRET", secret)
            .env("RINGFENCE_REGION", "us-east-1")
            .env("RINGFENCE_ENGINE", "postgres")
            .env("RINGFENCE_ORIGINAL", "orders")
            .env("RINGFENCE_ORIGINAL_ADDRESS", address)
            .env("RINGFENCE_TWIN_ADDRESS", twin.place().0)
            .env("RINGFENCE_PORT", port.to_string())
            .output()
            .expect("run it");
        let said = String::from_utf8_lossy(&done.stdout).trim().to_owned();
        assert!(!said.contains("of-the-secret"), "{said}");
        (done.status.code(), said)
    };
    let (code, said) = run("ringfence/{original}");
    assert!(code == Some(2) && said.contains("no table"), "{said}");
    for (database, order) in [(&original, "1, 5000"), (&twin, "-5000, -1")] {
        database.sql("create schema shop; create table shop.orders (id int, what text)");
        // The same rows in another order.
        let ids = format!("select abs(n), 'order ' || abs(n) from generate_series({order}) n");
        database.sql(&format!("insert into shop.orders {ids}"));
    }
    let (code, said) = run("ringfence/{original}");
    assert_eq!((code, said.as_str()), (Some(0), "1 questions, 1 answers, all equal"));
    // In another database of the same server, too.
    for database in [&original, &twin] {
        database.sql("create database second");
    }
    original.sql_in("second", "create table late (id int)");
    let (code, said) = run("ringfence/{original}");
    assert!(code == Some(2) && said.contains("late"), "the twin lacks a table: {said}");
    twin.sql_in("second", "create table late (id int)");
    assert_eq!(run("ringfence/{original}").0, Some(0));
    twin.sql("update shop.orders set what = 'other' where id = 77");
    let (code, said) = run("ringfence/{original}");
    assert!(code == Some(1) && said.contains("shop.orders|5000|"), "{said}");
    let (code, said) = run("ringfence/of-others");
    assert!(code == Some(2) && said.contains("ResourceNotFoundException"), "{said}");
}

#[test]
fn the_webhook_that_is_shipped_says_how_a_stage_is() {
    // One that answers each post with the next of these, and keeps what was posted.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/health", listener.local_addr().expect("an address"));
    let posted = std::thread::spawn(move || {
        let mut told = Vec::new();
        for answer in ["200 OK\r\n\r\nfine", "409 Conflict\r\n\r\ncreates fail", "500 Oops\r\n\r\n"]
        {
            let (mut stream, _) = listener.accept().expect("a post");
            let mut read = vec![0; 65_536];
            let mut text = String::new();
            while !text.contains("}") {
                let n = std::io::Read::read(&mut stream, &mut read).expect("read");
                text.push_str(&String::from_utf8_lossy(&read[..n]));
            }
            told.push(text);
            let answer = format!("HTTP/1.0 {answer}");
            std::io::Write::write_all(&mut stream, answer.as_bytes()).expect("write");
        }
        told
    });
    let script = ringfence_tests::root().join("deploy/checks/webhook");
    let asked = |url: &str| {
        let run = std::process::Command::new(&script)
            .env("WEBHOOK_URL", url)
            .env("RINGFENCE_STAGE", "canary")
            .output()
            .expect("run it");
        (run.status.code(), String::from_utf8_lossy(&run.stdout).trim().to_owned())
    };
    assert_eq!(asked(&url), (Some(0), "HTTP 200: fine".to_owned()));
    assert_eq!(asked(&url), (Some(1), "HTTP 409: creates fail".to_owned()));
    assert_eq!(asked(&url), (Some(2), "HTTP 500".to_owned()));
    assert!(posted.join().expect("it")[0].contains("\"stage\": \"canary\""));
    let (code, said) = asked("http://127.0.0.1:1/secret-token");
    assert!(code == Some(2) && said.contains("no answer") && !said.contains("secret"), "{said}");
    assert_eq!(asked("").0, Some(2));
}
