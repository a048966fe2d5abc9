//! The way back of a rollout, when something holds it up; and what is attached while it waits for a person.

use crate::bake::Org;
use crate::stage::{MINUTE, text};
use ringfence_tests::until;
use serde_json::{Value, json};

/// Two stages of an account each, the first with these lines, planned and approved.
fn planned(org: &Org, first: &str) -> String {
    let stage = |name: &str, target: &str, more: &str| {
        format!("[[stage]]\nname = \"{name}\"\ntargets = [\"{target}\"]\n{more}\n")
    };
    let (canary, rest) = (&org.accounts[0], &org.accounts[1]);
    org.planned(&format!(
        "policy = \"rds-encryption\"\n{}{}",
        stage("canary", canary, first),
        stage("rest", rest, "")
    ))
}

fn begun(org: &Org, first: &str) -> String {
    let id = planned(org, first);
    org.cli("ann").expect(&format!("rollout start {id}"), 0);
    id
}

fn status(org: &Org, id: &str) -> Value {
    org.cli("ann").json(&format!("rollout status {id}"), 0)
}

/// Waits until one of its reasons says this.
fn says(org: &Org, id: &str, what: &str) -> Value {
    until(what, MINUTE, || {
        let now = status(org, id);
        if now["why"].to_string().contains(what) { Ok(now) } else { Err(now["why"].to_string()) }
    })
}

fn full_access(org: &Org, operation: &str, target: &str) {
    org.call(operation, json!({"PolicyId": "p-FullAWSAccess", "TargetId": target}));
}

#[test]
fn a_target_that_aws_refuses_keeps_no_other_one_attached() {
    let org = Org::new(&[]);
    let id = begun(&org, "");
    org.reaches(&id, "complete");
    // The last one is the first to be taken back.
    let denied = json!({"error": {"status": 400, "code": "AccessDeniedException"}});
    let detach = json!({"operation": "DetachPolicy"});
    org.sim.fault(json!({"match": detach, "effect": denied}));
    org.cli("ann").expect(&format!("rollout abort {id} --reason CHG-3"), 0);
    let refused = format!("not taken back yet: detaching from {}: ", org.accounts[1]);
    let said = says(&org, &id, &refused);
    assert!(said["why"].to_string().contains("it is tried again every"), "{said}");
    until("the other one is off", MINUTE, || match org.fenced().as_slice() {
        [false, true] => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(text(&status(&org, &id), "state"), "aborting", "it goes on by itself");
    // A person who mended it need not wait.
    org.cli("ann").expect(&format!("rollout abort {id} --wait --timeout 60s"), 0);
    assert_eq!(org.attached(), org.before);
    let ended = status(&org, &id);
    assert!(!ended["why"].to_string().contains("not taken back yet"), "{ended}");
}

#[test]
fn a_retreat_that_could_not_end_goes_on_before_anything_else() {
    let org = Org::new(&[]);
    let id = begun(&org, "bake = \"1h\"");
    org.reaches(&id, "baking");
    let canary = org.accounts[0].clone();
    full_access(&org, "DetachPolicy", &canary);
    org.healthy(1, "harm");
    let failed = org.reaches(&id, "failed");
    let why = failed["why"].to_string();
    for want in
        ["stage canary is unhealthy", "is the last SCP on", "resume goes on with taking it back"]
    {
        assert!(why.contains(want), "{want}: {why}");
    }
    // Nothing goes on before that, whoever resumes it and whatever its health is said to be.
    org.healthy(0, "fine");
    let skip = org.cli("ann").run(&format!("rollout skip {id} {canary} --reason x"));
    assert_eq!(skip.code, 5, "{skip:?}");
    let again = org.cli("ann").run(&format!("rollout resume {id} --wait --timeout 60s"));
    assert_eq!(again.code, 6, "{again:?}");
    assert_eq!(org.fenced(), [true, false]);
    full_access(&org, "AttachPolicy", &canary);
    org.cli("ann").expect(&format!("rollout resume {id}"), 0);
    let blocked = org.reaches(&id, "blocked");
    assert!(blocked["why"].to_string().contains("stage canary is unhealthy"), "{blocked}");
    assert_eq!(org.attached(), org.before);
    org.cli("ann").expect(&format!("rollout resume {id}"), 0);
    org.reaches(&id, "baking");
    assert_eq!(org.fenced(), [true, false]);
}

#[test]
fn a_stage_is_healthy_at_last_before_the_next_one_begins() {
    let org = Org::new(&[]);
    let id = begun(&org, "bake = \"2s\"");
    until("it was healthy once", MINUTE, || {
        let said = status(&org, &id);
        if said["bakes"][0]["healthy"].as_i64() > Some(0) { Ok(()) } else { Err(said.to_string()) }
    });
    org.healthy(2, "the log could not be read");
    // Its time is over soon, and it was healthy often enough; nobody knows what it is now.
    for _ in 0..6 {
        org.reaches(&id, "paused");
        org.cli("ann").expect(&format!("rollout resume {id}"), 0);
    }
    org.reaches(&id, "paused");
    assert_eq!(org.fenced(), [true, false]);
    org.healthy(0, "fine");
    org.cli("ann").expect(&format!("rollout resume {id} --wait --timeout 60s"), 0);
    assert_eq!(org.fenced(), [true, true]);
}

#[test]
fn what_is_attached_is_watched_while_it_waits_for_a_person() {
    let org = Org::new(&[("ROLLOUT__GUARD_EVERY", "1s")]);
    let id = begun(&org, "bake = \"1h\"");
    let policy = text(&org.reaches(&id, "baking"), "policy_id").to_owned();
    org.cli("ann").expect(&format!("rollout pause {id} --reason lunch"), 0);
    org.reaches(&id, "paused");
    let other = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"rds:StopDBCluster","Resource":"*"}]}"#;
    let update = json!({"PolicyId": policy, "Content": other});
    let edited = org.somebody("-", "organizations", "UpdatePolicy", &update);
    assert_eq!(text(&edited, "code"), "", "{edited}");
    let said = says(&org, &id, "meanwhile: ");
    let why = said["why"].to_string();
    assert!(why.contains("lunch") && why.contains("no longer says what was approved"), "{why}");
    assert!(why.contains("UpdatePolicy") && why.contains(" by arn:aws:"), "{why}");
    assert_eq!(text(&said, "state"), "paused");
    // A pause stops nothing that is attached, and so neither what takes it back.
    org.healthy(1, "harm");
    let blocked = org.reaches(&id, "blocked");
    assert!(blocked["why"].to_string().contains("stage canary is unhealthy"), "{blocked}");
    assert_eq!(org.attached(), org.before);
}

#[test]
fn who_waits_for_a_rollout_that_does_harm_is_told_that_it_failed() {
    let org = Org::new(&[("ROLLOUT__ON_UNHEALTHY", "all")]);
    org.healthy(1, "harm");
    let id = planned(&org, "bake = \"1h\"");
    let ran = org.cli("ann").run(&format!("rollout start {id} --wait --timeout 60s"));
    assert!(ran.code == 6 && ran.out.contains("is unhealthy"), "{ran:?}");
    assert_eq!(text(&status(&org, &id), "state"), "aborted");
    let report = org.cli("ann").expect(&format!("rollout status {id} --junit"), 0).out;
    assert!(report.contains("<failure message=\"aborted: stage canary is unhealthy"), "{report}");
    assert_eq!(org.attached(), org.before);
}
