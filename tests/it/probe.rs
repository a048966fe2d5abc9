//! Probes: creates that must fail, which show whether a policy is in force, on the simulator and on moto.

use crate::bake::Org;
use crate::stage::text;
use ringfence_tests::emulator;
use ringfence_tests::process::{Cli, Setup};
use ringfence_tests::{Moto, script, until};
use serde_json::{Value, json};
use std::time::Duration;

const REGION: &str = "us-east-1";

/// Without a command, alarms or CloudTrail: only probes say anything.
const ALONE: &[(&str, &str)] = &[("ROLLOUT__HEALTH_COMMAND", ""), ("ROLLOUT__PROBE_EVERY", "1s")];

fn org(settings: &[(&str, &str)]) -> Org {
    Org::new(&ALONE.iter().chain(settings).copied().collect::<Vec<_>>())
}

/// Two stages of an account each, which are probed; with these lines for the first.
fn file(org: &Org, more: &str) -> String {
    let stage =
        |n: usize| format!("[[stage]]\nname = \"s{n}\"\ntargets = [\"{}\"]\n", org.accounts[n]);
    format!("policy = \"rds-encryption\"\nprobe = true\n{}{more}\n{}", stage(0), stage(1))
}

fn prove(cli: &Cli, account: &str, code: i32) -> Value {
    cli.json(&format!("rollout probe --account {account} --region {REGION} --timeout 60s"), code)
}

fn status(org: &Org, id: &str) -> Value {
    org.cli("ann").json(&format!("rollout status {id}"), 0)
}

/// The databases of an account, by name.
fn databases(org: &Org, account: &str) -> Vec<String> {
    let found = org.somebody(account, "rds", "DescribeDBInstances", &json!({}));
    let all = found["answer"]["DBInstances"].as_array().cloned().unwrap_or_default();
    all.iter().map(|d| text(d, "DBInstanceIdentifier").to_owned()).collect()
}

fn log(org: &Org, subject: &str) -> String {
    org.cli("ann").expect(&format!("audit list --subject {subject} -o json"), 0).out
}

#[test]
fn probes_are_off_until_both_creates_failed_as_they_must_in_a_sandbox() {
    let org = org(&[]);
    let (ann, sandbox) = (org.cli("ann"), org.accounts[1].clone());
    let plan = format!("rollout plan --dry-run -f {}", org.file(&file(&org, "")));
    let off = ann.run(&plan);
    assert!(off.code == 5 && off.err.contains("probes are off until they are proven"), "{off:?}");
    for (account, region, want) in [
        ("1111", REGION, "account: `1111` is not an account id"),
        (&sandbox, "here", "region: `here` is not a region code"),
        ("999988887777", REGION, "is not in the organization"),
        (&org.management, REGION, "is the management account"),
        (&sandbox, "eu-north-1", "region: eu-north-1 is not on in"),
    ] {
        let ran = ann.run(&format!("rollout probe --account {account} --region {region}"));
        assert!(ran.code == 1 && ran.err.contains(want), "{ran:?}");
    }
    // Where CloudTrail would not tell a probe from harm, nothing is tried.
    let role = |no: bool| {
        org.sim.change(json!({"role": {"account": sandbox, "name": "RingfenceRemediation",
            "present": true, "no_source_identity": no}}));
    };
    let tried = || org.sim.counts().get("rds:CreateDBInstance").copied().unwrap_or_default();
    role(true);
    let nameless = prove(&ann, &sandbox, 5);
    assert!(text(&nameless, "unencrypted").contains("bears no SourceIdentity"), "{nameless}");
    assert_eq!(tried(), (0, 0));
    role(false);
    // Where a policy denies creates, AWS's other answer is not seen.
    let deny = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"rds:Create*","Resource":"*"}]}"#;
    let made = org.call(
        "CreatePolicy",
        json!({"Name": "no", "Description": "", "Content": deny, "Type": "SERVICE_CONTROL_POLICY"}),
    );
    let policy = text(&made["Policy"]["PolicySummary"], "Id").to_owned();
    let attach = json!({"PolicyId": policy, "TargetId": sandbox});
    org.call("AttachPolicy", attach.clone());
    let denied = prove(&ann, &sandbox, 5);
    assert_eq!(text(&denied, "encrypted"), format!("denied by {policy}"));
    assert!(text(&denied, "why").contains("something denies creates in"), "{denied}");
    org.call("DetachPolicy", attach);

    let proof = prove(&ann, &sandbox, 0);
    assert_eq!(
        (text(&proof, "unencrypted"), text(&proof, "encrypted")),
        ("not denied", "not denied")
    );
    assert!(databases(&org, &sandbox).is_empty(), "nothing is made");
    let said = log(&org, text(&proof, "id"));
    assert!(said.contains("probe.ask") && said.contains("probe.proven"), "{said}");
    let shown = ann.expect(&format!("rollout probe --account {sandbox} --region {REGION}"), 0);
    assert!(shown.out.contains("with encryption:    not denied\nprobes are proven"), "{shown:?}");

    // A place is chosen, or it is one that the stage binds.
    let planned = ann.json(&plan, 0);
    let places: Vec<&str> =
        planned["probes"].as_array().expect("probes").iter().map(|p| text(p, "account")).collect();
    assert_eq!(places, [org.accounts[0].as_str(), sandbox.as_str()], "{planned}");
    let elsewhere = file(&org, &format!("probe_in = \"{sandbox}/{REGION}\""));
    let ran = ann.run(&format!("rollout plan --dry-run -f {}", org.file(&elsewhere)));
    assert!(
        ran.code == 1
            && ran.err.contains("stage `s0`: probe_in: ")
            && ran.err.contains("none of its targets"),
        "{ran:?}"
    );
    // What denies neither create cannot be seen.
    let stop = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"rds:DeleteOptionGroup","Resource":"*"}]}"#;
    std::fs::write(org.folder.path().join("stop.json"), stop).expect("write");
    let other = file(&org, "").replace("rds-encryption", "stop.json");
    let ran = ann.run(&format!("rollout plan --dry-run -f {}", org.file(&other)));
    assert!(ran.code == 1 && ran.err.contains("a probe shows nothing of it"), "{ran:?}");
}

#[test]
fn a_stage_is_seen_in_force_before_the_next_and_seen_to_be_gone_and_probes_are_no_harm() {
    let mut org = org(&[
        ("ROLLOUT__WATCH_DENIALS", "true"),
        ("ROLLOUT__TRAIL_DELAY", "1s"),
        ("ROLLOUT__OBSERVE_EVERY", "1s"),
    ]);
    org.sim.inside().world().settings.scp_delay_ms = 3_000;
    prove(&org.cli("ann"), &org.accounts[1].clone(), 0);
    // A server that dies while a create is under way: it is tried again.
    let hold =
        org.sim.fault(json!({"match": {"operation": "CreateDBInstance"}, "effect": "hold-before"}));
    let id = org.begun(&file(&org, "bake = \"3s\"\nobservations = 2"));
    org.sim.held(Duration::from_secs(60));
    let waits = status(&org, &id);
    assert!(waits["why"].to_string().contains("until its policy was seen in force"), "{waits}");
    assert_eq!(org.fenced(), [true, false], "not before the first is seen in force");
    drop(org.server.take());
    org.sim.remove_fault(hold);
    org.sim.release_all();
    org.server = Some(org.setup.start());
    let complete = org.reaches(&id, "complete");
    let policy = text(&complete, "policy_id").to_owned();
    for probe in complete["probes"].as_array().expect("probes") {
        assert_eq!(text(probe, "state"), "in force", "{complete}");
        let said = text(probe, "last_said");
        assert!(
            said.contains(&format!(
                "without encryption is denied by {policy}, one with encryption is not denied"
            )),
            "{said}"
        );
    }
    let bake = &complete["bakes"][0];
    assert!(text(bake, "last_said").contains(&format!("none denied by {policy}")), "{bake}");
    assert!(text(bake, "began_at") >= text(&complete["probes"][0], "passed_at"), "{complete}");
    // It was too early at first: the policy takes three seconds.
    let said = log(&org, &id);
    assert!(said.contains("both creates are not denied"), "{said}");
    let shown = org.cli("ann").expect(&format!("rollout status {id}"), 0).out;
    assert!(
        shown.contains(&format!("probe in {} {REGION}: in force since", org.accounts[0])),
        "{shown}"
    );
    let page = org.cli("ann").expect(&format!("rollout page {id} --no-history"), 0).out;
    assert!(page.contains("two creates of a database that must fail"), "{page}");

    org.cli("ann").expect(&format!("rollout abort {id} --wait --timeout 60s"), 0);
    let aborted = status(&org, &id);
    for probe in aborted["probes"].as_array().expect("probes") {
        assert_eq!(text(probe, "state"), "gone", "{aborted}");
    }
    assert!(aborted["why"].to_string().contains("stage s0 is detached; in"), "{aborted}");
    assert!(!aborted["why"].to_string().contains("to see that it is gone"), "{aborted}");
    assert_eq!(org.attached(), org.before);
    assert!(org.accounts.iter().all(|a| databases(&org, a).is_empty()), "nothing was made");
}

#[test]
fn a_policy_that_denies_encrypted_creates_as_well_is_taken_back_by_its_probe() {
    let org = org(&[("ROLLOUT__PROBE_FOR", "5s")]);
    org.sim.inside().world().settings.scp_delay_ms = 600_000;
    prove(&org.cli("ann"), &org.accounts[1].clone(), 0);
    let id = org.begun(&file(&org, ""));
    let policy = until("the policy is there", crate::stage::MINUTE, || {
        let now = status(&org, &id);
        match text(&now, "policy_id") {
            "" => Err(now.to_string()),
            policy => Ok(policy.to_owned()),
        }
    });
    // As it happened to others: AWS denies both, whatever the document seems to say.
    let message = format!(
        "User: x is not authorized to perform: rds:CreateDBInstance with an explicit deny in a service control policy: arn:aws:organizations::{}:policy/o-1/service_control_policy/{policy}",
        org.management
    );
    let denied = json!({"error": {"status": 403, "code": "AccessDenied", "message": message}});
    let mut fault =
        Some(org.sim.fault(
            json!({"match": {"operation": "CreateDBInstance"}, "times": 0, "effect": denied}),
        ));
    let blocked = until("it is taken back", crate::stage::MINUTE, || {
        let now = status(&org, &id);
        let said = now["why"].to_string();
        if said.contains("is not to deny")
            && let Some(fault) = fault.take()
        {
            org.sim.remove_fault(fault);
        }
        if text(&now, "state") == "blocked" { Ok(now) } else { Err(now.to_string()) }
    });
    let why = blocked["why"].to_string();
    // The one without encryption may have been made before the fault was there: the other one alone is harm, too.
    let harm =
        ["both creates are", "a create without encryption is not denied, one with encryption is"]
            .map(|what| {
                format!(
                    "{what} denied by {policy}, which it is not to deny; its targets are taken back"
                )
            });
    assert!(harm.iter().any(|said| why.contains(said)), "{why}");
    // It was seen there, so it is looked for again once it is detached.
    assert!(
        why.contains("stage s0 is detached; in ") && why.contains("both creates are not denied"),
        "{why}"
    );
    assert_eq!(org.attached(), org.before);
    assert_eq!(text(&blocked["probes"][0], "state"), "waiting", "a resume begins anew: {blocked}");
}

#[test]
fn what_is_not_seen_in_time_waits_for_a_person_who_may_let_it_pass() {
    let org = org(&[("ROLLOUT__PROBE_FOR", "2s")]);
    org.sim.inside().world().settings.scp_delay_ms = 600_000;
    prove(&org.cli("ann"), &org.accounts[1].clone(), 0);
    let id = org.begun(&file(&org, ""));
    let paused = org.reaches(&id, "paused");
    let why = paused["why"].to_string();
    assert!(
        why.contains("both creates are not denied; it was not seen in force within 2s"),
        "{why}"
    );
    assert_eq!(org.fenced(), [true, false]);
    org.cli("ann").expect(&format!("rollout resume {id}"), 0);
    org.reaches(&id, "paused");
    let promote = format!("rollout promote {id} --reason CHG-7");
    org.cli("bob").expect(&promote, 0);
    let again = org.cli("bob").run(&promote);
    assert!(
        again.code == 5 && again.err.contains("no stage bakes or waits for its probe"),
        "{again:?}"
    );
    org.cli("ann").expect(&format!("rollout resume {id}"), 0);
    until("the second stage waits", crate::stage::MINUTE, || {
        if org.fenced() == [true, true] { Ok(()) } else { Err(String::new()) }
    });
    let paused = org.reaches(&id, "paused");
    assert_eq!(text(&paused["probes"][0], "state"), "passed", "{paused}");
    let shown = org.cli("ann").expect(&format!("rollout status {id}"), 0).out;
    assert!(shown.contains("without being seen, by bob: CHG-7"), "{shown}");
    // What nobody saw in force is not looked for when it is taken back.
    org.cli("ann").expect(&format!("rollout abort {id} --wait --timeout 60s"), 0);
    assert_eq!(org.attached(), org.before);
}

#[test]
fn a_database_of_a_probes_name_halts_the_rollout_and_turns_probes_off() {
    let org = org(&[]);
    let sandbox = org.accounts[1].clone();
    prove(&org.cli("ann"), &sandbox, 0);
    let name = "ringfence-probe-unencrypted";
    assert_eq!(org.makes(&org.accounts[0], name, true), "");
    let id = org.begun(&file(&org, ""));
    let failed = org.reaches(&id, "failed");
    let why = failed["why"].to_string();
    assert!(why.contains(&format!("no probe may make {name}")), "{why}");
    assert_eq!(org.fenced(), [true, false], "nothing more is attached, and what is stays");
    assert_eq!(databases(&org, &org.accounts[0]), [name], "it is a person's to delete");
    let off =
        org.cli("ann").run(&format!("rollout plan --dry-run -f {}", org.file(&file(&org, ""))));
    assert!(off.code == 5 && off.err.contains(&format!("there is a database {name}")), "{off:?}");
    for verb in ["resume", "promote"] {
        let ran = org.cli("ann").run(&format!("rollout {verb} {id} --reason x"));
        assert!(ran.code == 5 && ran.err.contains("probes are off"), "{ran:?}");
    }
    let delete = json!({"DBInstanceIdentifier": name, "SkipFinalSnapshot": true});
    until("it can be deleted", crate::stage::MINUTE, || {
        let said = org.somebody(&org.accounts[0], "rds", "DeleteDBInstance", &delete);
        if text(&said, "code").is_empty() { Ok(()) } else { Err(said.to_string()) }
    });
    until("it is gone", crate::stage::MINUTE, || {
        let left = databases(&org, &org.accounts[0]);
        if left.is_empty() { Ok(()) } else { Err(left.join(",")) }
    });
    prove(&org.cli("ann"), &sandbox, 0);
    org.cli("ann").expect(&format!("rollout resume {id}"), 0);
    org.reaches(&id, "complete");
}

#[test]
fn a_version_is_seen_behind_the_earlier_one_and_by_itself_once_that_is_detached() {
    let org = org(&[]);
    prove(&org.cli("ann"), &org.accounts[1].clone(), 0);
    let first = org.begun(&file(&org, ""));
    let old = text(&org.reaches(&first, "complete"), "policy_id").to_owned();
    let stages = file(&org, "").replace("policy = \"rds-encryption\"\nprobe = true\n", "");
    let id = org.begun(&format!(
        "policy = \"rds-encryption\"\nprobe = true\nreplaces = \"{first}\"\n[parameters]\nexempt_engines = [\"mariadb\"]\n{stages}"
    ));
    let complete = org.reaches(&id, "complete");
    let new = text(&complete, "policy_id").to_owned();
    let changes = complete["replaces"]["changes"].to_string();
    assert!(changes.contains("DenyUnencryptedInstance: denies otherwise than before"), "{changes}");
    for probe in complete["probes"].as_array().expect("probes") {
        assert_eq!(text(probe, "state"), "in force", "{complete}");
        assert!(text(probe, "last_said").contains(&format!("is denied by {new}")), "{complete}");
    }
    let said = log(&org, &id);
    let released = said.find("rollout.release").expect("released");
    // Newest first: what is said before the release stands after it.
    let before = &said[released..];
    assert!(
        before.contains(&format!("denied by {old}"))
            || before.contains(&format!("denied by {new}")),
        "{said}"
    );
    // Nothing is claimed of a way back on which the earlier one denies the same.
    org.cli("ann").expect(&format!("rollout undo {id} --reason CHG-9 --wait --timeout 60s"), 0);
    let undone = status(&org, &id);
    assert_eq!(text(&undone["probes"][0], "state"), "not looked for", "{undone}");
}

#[test]
fn on_moto_a_probe_makes_nothing_and_a_policy_that_is_not_enforced_is_not_seen() {
    let folder = tempfile::tempdir().expect("a folder");
    let moto = Moto::start();
    let built = emulator::build(&moto.url(), 5, &["empty", "2"]);
    let mut setup = Setup::new(&moto.url(), folder.path());
    setup.set("RINGFENCE_ROLLOUT__PROBE_EVERY", "1s");
    setup.set("RINGFENCE_ROLLOUT__PROBE_FOR", "2s");
    let _server = setup.start();
    let (ann, bob) = (setup.cli("ann"), setup.cli("bob"));
    ann.expect("org sync", 0);
    ann.expect("scan start --wait --timeout 60s", 0);
    let account = text(&built["accounts"][0], "id");
    let proof = prove(&ann, account, 0);
    assert_eq!(text(&proof, "unencrypted"), "not denied", "{proof}");
    let args =
        [account, "OrganizationAccountAccessRole", REGION, "rds", "DescribeDBInstances", "{}"];
    let found = script("call.py", &moto.url(), &args);
    assert_eq!(found["answer"]["DBInstances"].as_array().map(Vec::len), Some(0), "{found}");
    let toml = folder.path().join("rollout.toml");
    let ou = text(&built["ous"], "all");
    std::fs::write(&toml, format!("policy = \"rds-encryption\"\nprobe = true\n[[stage]]\nname = \"all\"\ntargets = [\"{ou}\"]\n")).expect("write");
    let planned = ann.json(&format!("rollout plan -f {}", toml.display()), 0);
    let id = text(&planned, "id");
    bob.expect(&format!("approve {id} --reason CHG-1"), 0);
    ann.expect(&format!("rollout start {id} --wait --timeout 60s"), 5);
    let why = ann.json(&format!("rollout status {id}"), 0)["why"].to_string();
    assert!(why.contains("both creates are not denied; it was not seen in force"), "{why}");
}
