//! What a rollout file asks of its stages besides evidence: hours, approvals, sizes, calls seen; and whom a policy leaves alone.

use crate::audit::piped;
use crate::bake::Org;
use crate::stage::{MINUTE, text};
use ringfence_domain::time::{Span, Time};
use ringfence_tests::until;
use serde_json::{Value, json};

/// A stage of one account, with these lines.
fn stage(org: &Org, n: usize, more: &str) -> String {
    format!("[[stage]]\nname = \"stage-{n}\"\ntargets = [\"{}\"]\n{more}\n", org.accounts[n])
}

fn built_in(stages: &[String]) -> String {
    format!("policy = \"rds-encryption\"\n{}", stages.concat())
}

fn status(org: &Org, id: &str) -> Value {
    org.cli("ann").json(&format!("rollout status {id}"), 0)
}

fn root(org: &Org) -> String {
    let tree = org.cli("ann").json("org tree", 0);
    let nodes = tree["nodes"].as_array().expect("nodes");
    text(nodes.iter().find(|n| n["kind"] == "root").expect("a root"), "id").to_owned()
}

/// The server's clock.
fn now(org: &Org) -> Time {
    let file = org.file(&built_in(&[stage(org, 0, "")]));
    let plan = org.cli("ann").json(&format!("rollout plan --dry-run -f {file}"), 0);
    Time::parse(text(&plan, "created_at")).expect("a time")
}

/// `mon:09:05` of a moment; 1970-01-01 was a Thursday.
fn minute(at: Time) -> String {
    let minutes = at.0.div_euclid(60_000);
    let day = ["thu", "fri", "sat", "sun", "mon", "tue", "wed"]
        [usize::try_from(minutes.div_euclid(1_440) % 7).expect("a day")];
    format!("{day}:{:02}:{:02}", minutes % 1_440 / 60, minutes % 60)
}

#[test]
fn nothing_is_attached_before_its_hours_begin_and_the_way_back_does_not_wait_for_them() {
    let org = Org::new(&[]);
    let at = now(&org);
    let (next, later) = (at.plus(Span::seconds(60)), at.plus(Span::hours(3)));
    let hours = |from: Time, until: Time, zone: &str| {
        format!("windows = [\"{}-{}\"]\ntime_zone = \"{zone}\"\n", minute(from), minute(until))
    };
    // Hours that have just ended, and that begin with the next minute.
    let over = built_in(&[stage(&org, 0, "")]);
    let over =
        format!("{}{over}", hours(at.plus(Span::hours(-3)), at.plus(Span::hours(-2)), "UTC"));
    let over = org.begun(&over);
    let soon = format!("{}{}", hours(next, later, "Etc/UTC"), built_in(&[stage(&org, 1, "")]));
    let soon = org.begun(&soon);
    for id in [&over, &soon] {
        until("it waits for its hours", MINUTE, || {
            let rollout = status(&org, id);
            let why = rollout["why"].to_string();
            // The next minute may have begun by now.
            let waits = why.contains("waiting for its hours") && why.contains("they begin at");
            if waits || rollout["state"] == "complete" { Ok(()) } else { Err(rollout.to_string()) }
        });
    }
    assert_eq!(org.attached()[&org.accounts[0]], org.before[&org.accounts[0]]);
    let shown = org.cli("ann").expect(&format!("rollout status {over}"), 0).out;
    assert!(shown.contains("(UTC); the way back at any hour"), "{shown}");
    until("its hours begin", 2 * MINUTE, || {
        let rollout = status(&org, &soon);
        if rollout["state"] == "complete" { Ok(()) } else { Err(rollout.to_string()) }
    });
    let attached = status(&org, &soon);
    let attached = Time::parse(text(&attached["targets"][0], "attached_at")).expect("a time");
    assert!(attached.0 >= next.0.div_euclid(60_000) * 60_000, "not before: {attached}");
    assert_eq!(org.fenced(), [false, true]);
    org.cli("ann").expect(&format!("rollout abort {over} --wait --timeout 30s"), 0);
    org.cli("ann").expect(&format!("rollout undo {soon} --reason CHG-2 --wait --timeout 30s"), 0);
    assert_eq!(org.attached(), org.before);
    let bad = org.file(&format!("windows = [\"sunday\"]\n{}", built_in(&[stage(&org, 0, "")])));
    let bad = org.cli("ann").run(&format!("rollout plan -f {bad}"));
    assert!(bad.code == 1 && bad.err.contains("windows: `sunday`"), "{bad:?}");
}

#[test]
fn a_stage_waits_for_the_people_that_it_wants_and_binds_no_more_accounts_than_it_may() {
    let org = Org::new(&[("ROLLOUT__MAX_ACCOUNTS", "1")]);
    let root = root(&org);
    let ou = org.call("CreateOrganizationalUnit", json!({"ParentId": root, "Name": "prod"}));
    let ou = text(&ou["OrganizationalUnit"], "Id").to_owned();
    org.moves(&org.accounts[1], &ou);
    org.cli("ann").expect("org sync", 0);
    let prod = |more: &str| format!("[[stage]]\nname = \"prod\"\ntargets = [\"{ou}\"]\n{more}\n");
    let whole =
        format!("[[stage]]\nname = \"all\"\ntargets = [\"{}\", \"{ou}\"]\n", org.accounts[0]);
    let refused = org.cli("ann").run(&format!("rollout plan -f {}", org.file(&built_in(&[whole]))));
    assert_eq!(refused.code, 5, "{refused:?}");
    assert!(refused.err.contains("stage `all` binds 2 accounts that no earlier stage binds, rollout.max_accounts allows 1"), "{refused:?}");

    let id = org.begun(&built_in(&[stage(&org, 0, ""), prod("approvals = 3\nmax_accounts = 1")]));
    let blocked = org.reaches(&id, "blocked");
    let why = blocked["why"].to_string();
    assert!(
        why.contains("stage prod: ")
            && why.contains("needs 3 approval(s)")
            && why.contains("2 missing"),
        "{why}"
    );
    assert_eq!(org.fenced(), [true, false], "the first stage went on");
    let page = org.cli("ann").expect(&format!("rollout page {id} --no-history"), 0).out;
    assert!(page.contains("Stage prod wants 3 approvals before it begins."), "{page}");
    assert!(page.contains("Stage prod may bind 1 accounts"), "{page}");
    for who in ["carol", "dave"] {
        org.cli(who).expect(&format!("approve {id} --reason CHG-1"), 0);
    }
    // Meanwhile another account came there.
    org.call("CreateAccount", json!({"Email": "new@example.com", "AccountName": "new"}));
    let new = until("it is there", MINUTE, || {
        org.cli("ann").expect("org sync", 0);
        let all = org.cli("ann").json("org tree", 0)["nodes"].as_array().cloned().expect("nodes");
        let known = |id: &str| org.accounts.iter().any(|a| a == id) || org.management == id;
        let found = all.iter().find(|n| n["kind"] == "account" && !known(text(n, "id")));
        found.map(|n| text(n, "id").to_owned()).ok_or_else(|| "not yet".to_owned())
    });
    org.cli("ann").expect(&format!("scan start --account {new} --wait --timeout 60s"), 0);
    // Clean, and nobody has read the organization since.
    org.moves(&new, &ou);
    org.cli("ann").expect(&format!("rollout resume {id}"), 0);
    let blocked = org.reaches(&id, "blocked");
    let why = blocked["why"].to_string();
    assert!(
        why.contains(
            "stage `prod` binds 2 accounts that no earlier stage binds, max_accounts allows 1"
        ),
        "{why}"
    );
    org.moves(&new, &root);
    org.cli("ann").expect(&format!("rollout resume {id}"), 0);
    org.reaches(&id, "complete");
    assert_eq!(org.attached_to(std::slice::from_ref(&ou))[&ou].len(), 2, "the OU has it");
}

#[test]
fn a_bake_wants_calls_to_have_been_seen() {
    let org = Org::new(&[("ROLLOUT__HEALTH_COMMAND", ""), ("ROLLOUT__WATCH_DENIALS", "true")]);
    let id =
        org.begun(&built_in(&[stage(&org, 0, "bake = \"1s\"\ncalls = 2"), stage(&org, 1, "")]));
    until("it is found healthy", MINUTE, || {
        let rollout = status(&org, &id);
        let healthy = rollout["bakes"][0]["healthy"].as_i64() >= Some(2);
        if healthy { Ok(()) } else { Err(rollout.to_string()) }
    });
    let waits = status(&org, &id);
    assert_eq!(waits["state"], "baking", "healthy, and its time is over: {waits}");
    assert!(waits["why"].to_string().contains("0 calls seen in CloudTrail, 2 needed"), "{waits}");
    for name in ["one", "two"] {
        assert_eq!(org.makes(&org.accounts[0], name, true), "");
    }
    let complete = org.reaches(&id, "complete");
    assert!(complete["bakes"][0]["calls"].as_i64() >= Some(2), "{complete}");
    let dark = Org::new(&[]);
    let file = dark.file(&built_in(&[stage(&dark, 0, "calls = 2")]));
    let refused = dark.cli("ann").run(&format!("rollout plan -f {file}"));
    assert!(refused.code == 1 && refused.err.contains("set rollout.watch_denials"), "{refused:?}");
}

#[test]
fn waived_accounts_are_left_alone_until_their_waivers_end() {
    let org = Org::new(&[("ROLLOUT__GUARD_EVERY", "1s")]);
    let (waived, bound) = (org.accounts[0].clone(), org.accounts[1].clone());
    let until_then = now(&org).plus(Span::hours(24));
    org.cli("ann").expect(
        &format!(
            "finding waive --account {waived} --owner team-a --reason CHG-1 --until {until_then}"
        ),
        0,
    );
    let ou = json!({"ParentId": root(&org), "Name": "both"});
    let ou = text(&org.call("CreateOrganizationalUnit", ou)["OrganizationalUnit"], "Id").to_owned();
    for account in [&waived, &bound] {
        org.moves(account, &ou);
    }
    org.cli("ann").expect("org sync", 0);
    let file = format!(
        "policy = \"rds-encryption\"\n[parameters]\nexempt_waived = true\n[[stage]]\nname = \"a\"\ntargets = [\"{ou}\"]\n"
    );
    let id = org.begun(&file);
    org.reaches(&id, "complete");
    assert_eq!(org.makes(&waived, "legacy", false), "", "it is waived");
    assert_ne!(org.makes(&bound, "plain", false), "", "it is not");
    let shown = org.cli("ann").expect(&format!("rollout status {id}"), 0).out;
    assert!(shown.contains(&format!("left alone: {waived}, waived until {until_then}")), "{shown}");
    assert!(
        shown.contains(&format!(
            "left alone: whose aws:PrincipalAccount is {waived}: not by DenyUnencryptedInstance"
        )),
        "{shown}"
    );
    let later = format!("[[stage]]\nname = \"b\"\ntargets = [\"{waived}\"]\n");
    let later = org.planned(&format!(
        "policy = \"rds-encryption\"\n[parameters]\nexempt_waived = true\n{later}"
    ));
    org.cli("ann").expect(&format!("finding unwaive --account {waived} --reason over"), 0);
    org.cli("ann").expect(&format!("rollout start {later}"), 0);
    let blocked = org.reaches(&later, "blocked");
    assert!(blocked["why"].to_string().contains("its waiver has ended"), "{blocked}");
    let told = until("its waiver ends", MINUTE, || {
        let rollout = status(&org, &id);
        let why = rollout["why"].to_string();
        if why.contains("its waiver has ended") { Ok(rollout) } else { Err(rollout.to_string()) }
    });
    assert!(
        told["why"].to_string().contains(&format!("{waived} is left alone by the policy")),
        "{told}"
    );
    assert_eq!(told["state"], "complete");

    // A version that binds it.
    let next = org.file(&format!("replaces = \"{id}\"\n{}", file.replace("true", "false")));
    let plan = org.cli("ann").json(&format!("rollout plan --dry-run -f {next}"), 0);
    assert_eq!(plan["exempt"], json!([]), "{plan}");
}

#[test]
fn a_report_for_pipelines_says_what_passed() {
    let org = Org::new(&[]);
    let id = org.begun(&built_in(&[stage(&org, 0, "bake = \"1h\""), stage(&org, 1, "")]));
    org.reaches(&id, "baking");
    let report = org.cli("ann").expect(&format!("rollout status {id} --junit"), 0).out;
    let read = "import sys, json, xml.etree.ElementTree as e\nr = e.fromstring(sys.stdin.read())\nprint(json.dumps([[s.get('name'), s.get('tests'), s.get('failures'), s.get('skipped')] for s in r]))";
    let suites = piped(&["-c", read], &report);
    let name = text(&status(&org, &id), "policy_name").to_owned();
    assert_eq!(
        suites,
        json!([[name, "1", "0", "1"], ["stage-0", "2", "0", "1"], ["stage-1", "1", "0", "1"]]),
        "{report}"
    );
}
