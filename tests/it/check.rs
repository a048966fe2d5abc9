//! `remediation.check_command`: what is in a twin is the operator's to judge, before it is verified.

use crate::stage::{MINUTE, Stage, text};
use ringfence_tests::until;
use std::os::unix::fs::PermissionsExt;

#[test]
fn a_twin_is_verified_once_the_operators_command_agrees() {
    let folder = tempfile::tempdir().expect("a folder");
    let (told, verdict) = (folder.path().join("told"), folder.path().join("verdict"));
    let script = folder.path().join("check");
    let sources = (told.display(), verdict.display());
    let lines =
        format!("#!/bin/sh\nenv | grep ^RINGFENCE_ | sort > {}\n. {}\n", sources.0, sources.1);
    std::fs::write(&script, lines).expect("write");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("mode");
    let say = |line: &str| std::fs::write(&verdict, line).expect("write");

    let mut stage = Stage::new();
    stage.instance("orders");
    say("echo 'rows differ in t'; exit 3");
    let command = script.to_str().expect("text");
    stage.start(&[("REMEDIATION__CHECK_COMMAND", command), ("REMEDIATION__POLL", "100ms")]);
    let id = stage.apply("")["orders"].clone();
    let stopped = stage.reaches(&id, "stopped");
    assert!(text(&stopped, "why").contains("exit status: 3: rows differ in t"), "{stopped}");
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
