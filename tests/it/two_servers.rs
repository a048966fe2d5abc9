//! Two servers on one store: their writes to Organizations never meet.

use crate::bake::Org;
use crate::stage::{MINUTE, text};
use ringfence_tests::postgres::Postgres;
use ringfence_tests::process::Setup;
use ringfence_tests::until;
use serde_json::json;
use std::collections::BTreeSet;

#[test]
fn a_server_that_was_killed_at_its_work_is_silent_until_the_next_one_goes_on() {
    let mut org = Org::new(&[("SERVER__LEASE_FOR", "10s")]);
    org.sim.fault(json!({"match": {"operation": "AttachPolicy"}, "effect": "hold-before"}));
    let id = org.begun(&format!(
        "policy = \"rds-encryption\"\n[[stage]]\nname = \"a\"\ntargets = [\"{}\"]\n",
        org.accounts[0]
    ));
    let killed = until("it is killed at its work", MINUTE, || {
        org.killed_if_held().ok_or_else(|| "not held yet".to_owned())
    });
    assert_eq!(killed, "AttachPolicy");
    let status = || org.cli("ann").json(&format!("rollout status {id}"), 0);
    until("its silence is said", MINUTE, || {
        let said = status()["why"].to_string();
        match said.contains("has been silent since") && said.contains("goes on at") {
            true => Ok(()),
            false => Err(said),
        }
    });
    let complete = org.reaches(&id, "complete");
    assert!(!complete["why"].to_string().contains("silent"), "{complete}");
    assert!(org.fenced()[0]);
    // What is taken back leaves the policy itself, and says so.
    org.cli("ann").expect(&format!("rollout abort {id} --wait --timeout 60s"), 0);
    let shown = org.cli("ann").expect(&format!("rollout status {id}"), 0).out;
    let policy = text(&complete, "policy_id");
    assert!(shown.contains(&format!("{policy} is still in the organization")), "{shown}");
}

#[test]
fn writes_of_two_servers_are_made_one_after_the_other() {
    let postgres = Postgres::start();
    let url = postgres.url();
    let org = Org::of(7, &[("STORE__URL", &url)]);
    let folder = tempfile::tempdir().expect("a folder");
    let mut setup = Setup::new(&org.sim.url(), folder.path());
    for (key, value) in [
        ("STORE__URL", url.as_str()),
        ("AWS__REGIONS", ""),
        ("AWS__EXTERNAL_ID", ""),
        ("AGENT__NAME", "second"),
    ] {
        setup.set(&format!("RINGFENCE_{key}"), value);
    }
    let _second = setup.start();
    let toml = |accounts: &[String]| {
        let targets: Vec<String> = accounts.iter().map(|a| format!("\"{a}\"")).collect();
        format!(
            "policy = \"rds-encryption\"\n[[stage]]\nname = \"a\"\ntargets = [{}]\n",
            targets.join(", ")
        )
    };
    let ids = [org.planned(&toml(&org.accounts[..3])), org.planned(&toml(&org.accounts[3..]))];
    let busy = json!({"error": {"status": 400, "code": "ConcurrentModificationException"}});
    let writes = json!({"service": "organizations", "write": true});
    org.sim.fault(json!({"match": writes, "times": 0, "chance": 0.5, "effect": busy}));
    org.sim.fault(json!({"match": writes, "times": 0, "effect": "hold-before"}));
    // One is told to go on by each of them.
    org.cli("ann").expect(&format!("rollout start {}", ids[0]), 0);
    setup.cli("ann").expect(&format!("rollout start {}", ids[1]), 0);
    let (mut held, mut from) = (0, BTreeSet::new());
    until("both are complete", 2 * MINUTE, || {
        if !org.sim.inside().held().is_empty() {
            // Whoever else would write has time to.
            for cli in [org.cli("ann"), setup.cli("ann")] {
                ids.iter().for_each(|id| drop(cli.json(&format!("rollout status {id}"), 0)));
            }
            let now = org.sim.inside().held();
            assert_eq!(now.len(), 1, "at once: {now:?}");
            held += 1;
            from.extend(now.into_iter().map(|hold| hold.call));
            org.sim.release_all();
        }
        let of = |id: &String| org.cli("ann").json(&format!("rollout status {id}"), 0);
        let states: Vec<String> = ids.iter().map(|id| text(&of(id), "state").to_owned()).collect();
        match states.iter().all(|s| s == "complete") {
            true => Ok(()),
            false => Err(format!("{states:?}")),
        }
    });
    assert!(held >= 7, "a policy and six attachments at least: {held} {from:?}");
    assert!(org.fenced().iter().all(|on| *on));
}
