//! What accounts did, put before a policy; what a policy denied, put to its stage; and who took one off.

use crate::bake::Org;
use crate::stage::{MINUTE, text};
use ringfence_tests::until;
use serde_json::{Value, json};

/// Restores are denied where they are said to be unencrypted: and so are those of encrypted snapshots.
const RESTORES: &str = r#"{"Version":"2012-10-17","Statement":[{"Sid":"NoRestores","Effect":"Deny",
"Action":"rds:RestoreDBInstanceFromDBSnapshot","Resource":"*","Condition":{"Bool":{"rds:StorageEncrypted":"false"}}}]}"#;

fn stage(name: &str, target: &str, more: &str) -> String {
    format!("[[stage]]\nname = \"{name}\"\ntargets = [\"{target}\"]\n{more}\n")
}

/// Kinds of calls that the simulation does not let through: verdict, account, how often.
fn stopped(simulation: &Value) -> Vec<(String, String, i64)> {
    let all = simulation["calls"].as_array().expect("calls").iter();
    let one = |c: &Value| {
        let (verdict, account) = (text(c, "verdict").to_owned(), text(c, "account").to_owned());
        (verdict, account, c["count"].as_i64().expect("a count"))
    };
    all.map(one).collect()
}

#[test]
fn a_dry_run_says_who_would_have_been_denied_and_what_was_not_read() {
    let mut org = Org::new(&[]);
    let (a, b) = (org.accounts[0].clone(), org.accounts[1].clone());
    for n in 0..3 {
        assert_eq!(org.makes(&a, &format!("plain-{n}"), false), "");
        assert_eq!(org.makes(&b, &format!("safe-{n}"), true), "");
    }
    let toml =
        format!("policy = \"rds-encryption\"\n{}{}", stage("one", &a, ""), stage("two", &b, ""));
    let file = org.file(&toml);
    let run = format!("rollout simulate -f {file}");
    let said = org.cli("ann").json(&run, 0);
    assert_eq!(stopped(&said), [("denied".to_owned(), a.clone(), 3)], "{said}");
    let call = &said["calls"][0];
    assert_eq!(text(call, "stage"), "one");
    assert_eq!(call["statements"], json!(["DenyUnencryptedInstance"]));
    assert_eq!(call["keys"]["rds:StorageEncrypted"], "false");
    assert!(text(call, "principal").ends_with(":role/OrganizationAccountAccessRole"), "{call}");
    let counts = &said["counts"];
    assert_eq!(
        (&counts["calls"], &counts["allowed"], &counts["denied"]),
        (&json!(6), &json!(3), &json!(3))
    );
    assert_eq!(said["coverage"].as_array().map(Vec::len), Some(16), "{said}");
    assert!(text(call, "ou").starts_with("Root/"), "{call}");
    let aurora =
        said["coverage"].as_array().expect("ways").iter().find(|c| c["path"] == "CreateDBCluster");
    assert!(
        text(aurora.expect("it is there"), "for_nothing")
            .contains("encrypts new clusters by itself"),
        "{said}"
    );
    org.cli("ann").expect(&format!("{run} --detailed-exitcode"), 2);
    let shown = org.cli("ann").expect(&run, 0).out;
    for want in [
        "denied",
        "DenyUnencryptedInstance",
        "calls: 6; 3 let through, 3 would have been denied",
        "RestoreDBInstanceFromDBSnapshot",
    ] {
        assert!(shown.contains(want), "{want}: {shown}");
    }
    // What was read serves again, until it is asked for anew.
    org.makes(&a, "plain-9", false);
    let before = org.sim.counts().get("cloudtrail:LookupEvents").copied();
    assert_eq!(org.cli("ann").json(&run, 0)["counts"]["denied"], 3);
    assert_eq!(org.sim.counts().get("cloudtrail:LookupEvents").copied(), before, "from the store");
    assert_eq!(org.cli("ann").json(&format!("{run} --fresh"), 0)["counts"]["denied"], 4);
    // A region that was not read is no region without denials.
    let denied = json!({"error": {"status": 403, "code": "AccessDeniedException"}});
    let fault = org.sim.fault(
        json!({"match": {"operation": "LookupEvents", "account": b}, "times": 0, "effect": denied}),
    );
    let partial = org.cli("ann").json(&format!("{run} --fresh"), 3);
    let unread = partial["unread"].as_array().expect("unread");
    assert!(!unread.is_empty() && unread.iter().all(|u| text(u, "account") == b), "{partial}");
    assert!(text(&unread[0], "why").contains("AccessDenied"), "{unread:?}");
    assert_eq!(partial["counts"]["denied"], 4, "the other one was read");
    org.sim.remove_fault(fault);
    // A server that dies while agents read: whoever asks again gets the whole.
    org.sim.fault(json!({"match": {"operation": "LookupEvents"}, "effect": "hold-before"}));
    let cut = org.cli("ann").run(&format!("{run} --fresh --timeout 2s"));
    assert_eq!(cut.code, 7, "{cut:?}");
    drop(org.server.take());
    org.server = Some(org.setup.start());
    org.sim.release_all();
    let again = org.cli("ann").json(&format!("{run} --timeout 60s"), 0);
    assert_eq!((&again["counts"]["denied"], &again["unread"]), (&json!(4), &json!([])));
    // The same of a rollout that is planned, and from a file, which asks no CloudTrail.
    let id = text(&org.cli("ann").json(&format!("rollout plan -f {file}"), 0), "id").to_owned();
    assert_eq!(org.cli("ann").json(&format!("rollout simulate {id}"), 0)["counts"]["denied"], 4);
    let events = org.somebody(&a, "cloudtrail", "LookupEvents", &json!({}));
    let export = org.folder.path().join("events.json");
    std::fs::write(&export, events["answer"].to_string()).expect("write");
    // An account of which the file has nothing was not looked at.
    let offline = org.cli("ann").json(&format!("{run} --events {}", export.display()), 3);
    assert_eq!(stopped(&offline), [("denied".to_owned(), a.clone(), 4)], "{offline}");
    assert_eq!(offline["unread"].as_array().map(Vec::len), Some(1), "{offline}");
    assert_eq!(text(&offline["unread"][0], "account"), b);
    std::fs::write(&export, "{\"a\": 1}").expect("write");
    let odd = org.cli("ann").run(&format!("{run} --events {}", export.display()));
    assert!(odd.code == 1 && odd.err.contains("neither Records nor Events"), "{odd:?}");
}

#[test]
fn a_policy_that_would_stop_our_own_restores_is_refused() {
    let org = Org::new(&[]);
    let policy = org.folder.path().join("restores.json");
    let toml = format!("policy = \"restores.json\"\n{}", stage("one", &org.accounts[0], ""));
    let file = org.file(&toml);
    std::fs::write(&policy, RESTORES).expect("write");
    let want = "rds:RestoreDBInstanceFromDBSnapshot: NoRestores";
    let dry = org.cli("ann").run(&format!("rollout simulate -f {file}"));
    assert!(dry.code == 5 && dry.out.contains(want), "{dry:?}");
    let plan = org.cli("ann").run(&format!("rollout plan -f {file}"));
    assert!(plan.code == 5 && plan.err.contains(want), "{plan:?}");
    // With the role exempt it goes, and the exemption by a mere name is said.
    let exempt = RESTORES.replace(
        "\"Bool\"",
        "\"ArnNotLike\":{\"aws:PrincipalArn\":\"arn:*:iam::*:role/RingfenceRemediation\"},\"Bool\"",
    );
    std::fs::write(&policy, exempt).expect("write");
    let plan = org.cli("ann").expect(&format!("rollout plan -f {file}"), 0);
    assert!(plan.err.contains("EXEMPTION_UNPROTECTED (line 1)"), "{plan:?}");
    // What is wrong is said with its line, before a server is asked.
    std::fs::write(&policy, RESTORES.replace("\"Deny\",", "\"Deny\",\n\"Effect\":\"Allow\","))
        .expect("write");
    let plan = org.cli("ann").run(&format!("rollout plan -f {file}"));
    assert!(plan.code == 1 && plan.err.contains("DUPLICATE_KEY (line 2)"), "{plan:?}");
    // Parameters of the built-in one.
    let toml = format!(
        "policy = \"rds-encryption\"\n[parameters]\nbreak_glass = \"/break-glass/\"\n{}",
        stage("one", &org.accounts[0], "")
    );
    let plan = org.cli("ann").json(&format!("rollout plan -f {}", org.file(&toml)), 0);
    assert!(text(&plan, "policy_document").contains("ProtectBreakGlass"), "{plan}");
}

#[test]
fn harm_that_shows_only_in_the_bake_is_taken_back() {
    let org = Org::new(&[("ROLLOUT__HEALTH_COMMAND", ""), ("ROLLOUT__WATCH_DENIALS", "true")]);
    let toml = |more: &str| {
        format!(
            "policy = \"rds-encryption\"\n{more}\n{}{}",
            stage("canary", &org.accounts[0], "bake = \"1h\""),
            stage("rest", &org.accounts[1], "")
        )
    };
    let id = org.begun(&toml(""));
    let healthy = |id: &str, n: i64| {
        until("it was seen healthy", MINUTE, || {
            let said = org.cli("ann").json(&format!("rollout status {id}"), 0);
            if said["bakes"][0]["healthy"].as_i64() >= Some(n) {
                Ok(said)
            } else {
                Err(said.to_string())
            }
        })
    };
    let said = healthy(&id, 1);
    assert!(text(&said["bakes"][0], "last_said").contains("none denied by p-"), "{said}");
    assert_eq!(org.makes(&org.accounts[0], "safe", true), "", "encrypted creates go on");
    assert_eq!(org.makes(&org.accounts[0], "plain", false), "AccessDenied");
    let blocked = org.reaches(&id, "blocked");
    let why = blocked["why"].to_string();
    assert!(
        why.contains("stage canary is unhealthy: p-")
            && why.contains("denied rds:CreateDBInstance of"),
        "{why}"
    );
    assert_eq!(org.attached(), org.before, "exactly as before");
    org.cli("ann").expect(&format!("rollout abort {id} --wait --timeout 60s"), 0);
    // Denials that were meant are no harm.
    let id = org
        .begun(&toml("expected_denials = [\"arn:*:iam::*:role/OrganizationAccountAccessRole\"]"));
    healthy(&id, 1);
    assert_eq!(org.makes(&org.accounts[0], "plain-2", false), "AccessDenied");
    until("the denial was seen", MINUTE, || {
        let said = org.cli("ann").json(&format!("rollout status {id}"), 0);
        let last = text(&said["bakes"][0], "last_said").to_owned();
        if last.contains("that were expected") { Ok(()) } else { Err(last) }
    });
    // Silence is no health.
    let denied = json!({"error": {"status": 403, "code": "AccessDeniedException"}});
    org.sim.fault(json!({"match": {"operation": "LookupEvents"}, "times": 0, "effect": denied}));
    let paused = org.reaches(&id, "paused");
    assert!(paused["why"].to_string().contains("was not read"), "{paused}");
    assert_eq!(org.fenced(), [true, false]);
}

#[test]
fn who_took_it_off_is_said() {
    let org = Org::new(&[("ROLLOUT__GUARD_EVERY", "1s")]);
    let id =
        org.begun(&format!("policy = \"rds-encryption\"\n{}", stage("one", &org.accounts[0], "")));
    let policy = text(&org.reaches(&id, "complete"), "policy_id").to_owned();
    let params = json!({"PolicyId": policy, "TargetId": org.accounts[0]});
    assert_eq!(text(&org.somebody("-", "organizations", "DetachPolicy", &params), "code"), "");
    let failed = org.reaches(&id, "failed");
    let why = failed["why"].to_string();
    let want = format!("DetachPolicy on {} at ", org.accounts[0]);
    assert!(why.contains(&want) && why.contains(" by arn:aws:"), "{why}");
    // Where CloudTrail does not answer, what happened is said all the same.
    org.cli("ann").expect(&format!("rollout resume {id} --reason again"), 0);
    org.reaches(&id, "complete");
    let denied = json!({"error": {"status": 403, "code": "AccessDeniedException"}});
    org.sim.fault(json!({"match": {"operation": "LookupEvents"}, "times": 0, "effect": denied}));
    org.somebody("-", "organizations", "DetachPolicy", &params);
    let failed = org.reaches(&id, "failed");
    let why = failed["why"].to_string();
    assert!(
        why.contains("no longer attached") && why.contains("who did it cannot be said"),
        "{why}"
    );
}

#[test]
fn two_people_agree_and_not_long_ago_and_a_board_has_a_page() {
    let org = Org::new(&[("APPROVALS__ROLLOUT", "2"), ("APPROVALS__ROLLOUT_VALID_FOR", "6s")]);
    let (a, b) = (&org.accounts[0], &org.accounts[1]);
    assert_eq!(org.makes(a, "plain", false), "");
    org.somebody(
        a,
        "rds",
        "DeleteDBInstance",
        &json!({"DBInstanceIdentifier": "plain", "SkipFinalSnapshot": true}),
    );
    let toml = format!(
        "policy = \"rds-encryption\"\n{}{}",
        stage("one", a, "bake = \"2s\""),
        stage("two", b, "")
    );
    let plan = org.cli("ann").json(&format!("rollout plan -f {}", org.file(&toml)), 0);
    let id = text(&plan, "id").to_owned();
    assert_eq!(plan["targets"][0]["accounts"], 1);
    let page = org.cli("ann").expect(&format!("rollout page {id}"), 0).out;
    for want in [
        format!("# Rollout {id}: ringfence-rds-encryption-"),
        format!("| one | {a} | account-00001 | 1 | 1 | adds denials | 2s"),
        "**1 would have been denied**".to_owned(),
        "it denies none".to_owned(),
        format!("`ringfence rollout abort {id} --reason ...`"),
        "## What it covers".to_owned(),
        "\"Sid\": \"DenyUnencryptedInstance\"".to_owned(),
    ] {
        assert!(page.contains(&want), "{want}: {page}");
    }
    let both = org.cli("ann").json(&format!("rollout page {id} --no-history"), 0);
    assert!(both["rollout"]["id"] == *id && both["simulation"].is_null(), "{both}");
    // One is not enough, nor two of long ago.
    let start = |code: i32| org.cli("ann").expect(&format!("rollout start {id}"), code);
    org.cli("bob").expect(&format!("approve {id} --reason CHG-1"), 0);
    assert!(start(5).err.contains("1 missing"));
    let said = || org.cli("ann").run(&format!("rollout start {id}")).err;
    until("bob's word is too old", MINUTE, || {
        let said = said();
        if said.contains("no older than 6s, 2 missing") { Ok(()) } else { Err(said) }
    });
    org.cli("eve").expect(&format!("approve {id} --reason CHG-1"), 0);
    assert!(start(5).err.contains("1 missing"));
    org.cli("bob").expect(&format!("approve {id} --reason still"), 0);
    start(0);
    org.reaches(&id, "complete");
}

#[test]
fn what_access_analyzer_finds_wrong_is_refused_and_where_it_does_not_answer_that_is_said() {
    let org = Org::new(&[]);
    let plan = |action: &str| {
        let policy = format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Deny","Action":["rds:DeleteOptionGroup","{action}"],"Resource":"*"}}]}}"#
        );
        std::fs::write(org.folder.path().join("own.json"), policy).expect("write");
        let toml = format!("policy = \"own.json\"\n{}", stage("a", &org.accounts[0], ""));
        org.cli("ann").run(&format!("rollout plan --dry-run -f {}", org.file(&toml)))
    };
    let refused = plan(":Create");
    assert!(refused.code == 1 && refused.err.contains("INVALID_ACTION"), "{refused:?}");
    let good = plan("rds:CreateOptionGroup");
    assert!(good.code == 0 && !good.err.contains("Access Analyzer"), "{good:?}");
    let denied = json!({"error": {"status": 403, "code": "AccessDeniedException"}});
    org.sim.fault(json!({"match": {"operation": "ValidatePolicy"}, "times": 0, "effect": denied}));
    let dark = plan("rds:CreateOptionGroup");
    let said = dark.err.contains("Access Analyzer did not look at the policy");
    assert!(dark.code == 0 && said, "{dark:?}");
}
