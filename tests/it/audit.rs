//! The audit log's seals: what somebody did to the log shows.

use crate::bake::Org;
use crate::stage::text;
use ringfence_tests::{python, root, script};
use serde_json::Value;
use std::io::Write as _;
use std::process::{Command, Stdio};

/// What Python, run with these arguments, makes of this text.
pub(crate) fn piped(args: &[&str], text: &str) -> Value {
    let mut child = Command::new(python())
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("run Python");
    child.stdin.take().expect("its input").write_all(text.as_bytes()).expect("write");
    let output = child.wait_with_output().expect("its answer");
    assert!(output.status.success(), "{text}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The log's end as a program of ours in another language computes it: how many events, and the last seal.
fn recomputed(org: &Org) -> (u64, String) {
    let log = org.cli("ann").expect("audit list --limit 5000 -o json", 0).out;
    let script = root().join("tests/python/audit.py").display().to_string();
    let found = piped(&[&script], &log);
    (found["events"].as_u64().expect("a number"), text(&found, "head").to_owned())
}

/// Stops the server, does this to its log, and starts it again.
fn tamper(org: &mut Org, statements: &[&str]) {
    drop(org.server.take());
    let database = org.folder.path().join("ringfence.db").display().to_string();
    script("tamper.py", &database, statements);
    org.server = Some(org.setup.start());
}

#[test]
fn what_somebody_did_to_the_audit_log_shows() {
    let mut org = Org::new(&[]);
    let file = org.file(&format!(
        "policy = \"rds-encryption\"\n[[stage]]\nname = \"a\"\ntargets = [\"{}\"]\n",
        org.accounts[0]
    ));
    let plan = org.cli("ann").json(&format!("rollout plan -f {file}"), 0);
    let reason = "CHG-1: \"é\" \\ \u{1}\t€ 𝄞";
    let approved = org.cli("bob").args(&["approve", text(&plan, "id"), "--reason", reason]);
    assert_eq!(approved.code, 0, "{approved:?}");
    let verified = org.cli("ann").json("audit verify", 0);
    let (events, head) = recomputed(&org);
    assert_eq!(verified["intact"], true, "{verified}");
    assert_eq!(verified["events"].as_u64(), Some(events));
    assert_eq!(text(&verified["head"], "seal"), head);
    let approvals = org.cli("ann").json("audit list --action rollout.approve", 0);
    assert_eq!(approvals["events"].as_array().map(Vec::len), Some(1), "{approvals}");
    let number = verified["head"]["sequence"].as_i64().expect("a number");
    let kept = format!("{number}:{head}");
    let said = org.cli("ann").expect(&format!("audit verify --head {kept}"), 0).out;
    assert!(said.contains(&format!("{events} events, each as it was sealed")), "{said}");
    assert!(said.contains(&format!("newest: {kept}")), "{said}");
    assert!(said.contains(&format!("event {number} has the seal that was kept")), "{said}");
    let bad = org.cli("ann").run("audit verify --head 12");
    assert!(bad.code == 64 && bad.err.contains("64 hex digits"), "{bad:?}");

    let checked = |org: &Org, line: &str| {
        let ran = org.cli("ann").run(line);
        (ran.code, ran.out)
    };
    // Somebody else is to have planned it; and back again.
    let seal = "UPDATE event SET actor = 'eve' WHERE seq = 3";
    let actor = text(
        &org.cli("ann").json("audit list --limit 5000", 0)["events"]
            .as_array()
            .and_then(|all| all.iter().find(|e| e["sequence"] == 3).cloned())
            .expect("event 3"),
        "actor",
    )
    .to_owned();
    tamper(&mut org, &[seal]);
    let (code, out) = checked(&org, "audit verify");
    assert!(code == 1 && out.contains("the log was changed: at event 3, what is there"), "{out}");
    tamper(&mut org, &[&format!("UPDATE event SET actor = '{actor}' WHERE seq = 3")]);
    assert_eq!(checked(&org, "audit verify").0, 0);
    // One is gone.
    tamper(
        &mut org,
        &["CREATE TABLE kept AS SELECT * FROM event", "DELETE FROM event WHERE seq = 2"],
    );
    let (code, out) = checked(&org, "audit verify");
    assert!(code == 1 && out.contains("at event 3, what is there"), "{out}");
    let back = [
        "DELETE FROM event WHERE seq <= (SELECT MAX(seq) FROM kept)",
        "INSERT INTO event SELECT * FROM kept",
    ];
    tamper(&mut org, &back);
    assert_eq!(checked(&org, &format!("audit verify --head {kept}")).0, 0);
    // An end that is cut off shows only by what was kept; and a log that is written anew.
    tamper(&mut org, &[&format!("DELETE FROM event WHERE seq >= {number}")]);
    let (code, out) = checked(&org, &format!("audit verify --head {kept}"));
    assert!(code == 1 && out.contains(&format!("event {number} ")), "{out}");
    assert!(out.contains("was cut off or written anew"), "{out}");
    let reads = org.cli("ann").run("audit verify");
    assert_eq!(reads.code, 0, "what is left is as it was sealed: {reads:?}");
}
