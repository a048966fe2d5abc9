//! `key ensure`: keys are planned, approved, made once and mended by as much as was agreed to, through kills.

use crate::stage::{MINUTE, Stage, text};
use crate::sweep::crash_points;
use ringfence_tests::emulator::Emulator;
use ringfence_tests::process::{Cli, Setup};
use ringfence_tests::{script, until};
use serde_json::{Value, json};

const ALIAS: &str = "alias/RDSEncryptionAtRestKMSAlias";

/// A stage whose cell has a database, and no key behind the alias.
fn without_a_key(settings: &[(&str, &str)]) -> Stage {
    let mut stage = Stage::new();
    stage.instance("orders");
    stage.call("kms", "DeleteAlias", json!({"AliasName": ALIAS}));
    stage.start(settings);
    stage.cli("ann").expect("scan start --wait --timeout 60s", 0);
    stage
}

/// A plan for keys, approved.
fn planned(ann: &Cli, bob: &Cli, flags: &str) -> Value {
    let plan = ann.json(&format!("key ensure {flags}"), 0);
    bob.expect(&format!("approve {} --reason CHG-1", text(&plan, "id")), 0);
    plan
}

/// The keys that we made, as AWS shows them.
fn made(stage: &Stage) -> Vec<Value> {
    let list = |operation: &str, field: &str, params: Value| {
        let all = stage.call("kms", operation, params);
        all[field].as_array().expect("a list").clone()
    };
    let aliases = list("ListAliases", "Aliases", json!({}));
    let behind = aliases.iter().find(|a| a["AliasName"] == ALIAS).map(|a| text(a, "TargetKeyId"));
    let mut found = Vec::new();
    for key in list("ListKeys", "Keys", json!({})) {
        let id = text(&key, "KeyId");
        let tags = list("ListResourceTags", "Tags", json!({"KeyId": id}));
        if !tags.iter().any(|t| t["TagKey"] == "ringfence:alias" && t["TagValue"] == ALIAS) {
            continue;
        }
        let rotation = stage.call("kms", "GetKeyRotationStatus", json!({"KeyId": id}));
        let policy =
            stage.call("kms", "GetKeyPolicy", json!({"KeyId": id, "PolicyName": "default"}));
        let policy: Value = serde_json::from_str(text(&policy, "Policy")).expect("JSON");
        found.push(json!({"arn": key["KeyArn"], "behind": behind == Some(id),
            "rotation": rotation["KeyRotationEnabled"], "policy": policy}));
    }
    found
}

fn policy(stage: &Stage) -> Value {
    let found =
        stage.call("kms", "GetKeyPolicy", json!({"KeyId": key(stage), "PolicyName": "default"}));
    serde_json::from_str(text(&found, "Policy")).expect("JSON")
}

fn key(stage: &Stage) -> String {
    let found = stage.call("kms", "DescribeKey", json!({"KeyId": ALIAS}));
    text(&found["KeyMetadata"], "Arn").to_owned()
}

#[test]
fn a_missing_key_is_made_on_approval_and_databases_are_encrypted_under_it() {
    let stage = without_a_key(&[]);
    let (ann, bob) = (stage.cli("ann"), stage.cli("bob"));
    let plan = ann.expect("plan create --all", 0).out;
    assert!(plan.contains("ringfence key ensure --account"), "{plan}");
    let none = ann.expect("key list", 0).out;
    assert!(none.contains("there is no key behind alias/"), "{none}");
    let dry = ann.expect("key ensure --dry-run", 0);
    assert!(dry.out.contains("1 to create, 0 to mend, 0 in place, 0 blocked"), "{dry:?}");
    let plan = ann.json("key ensure", 0);
    let id = text(&plan, "id");
    let early = ann.run(&format!("key apply {id} --wait"));
    assert!(early.code == 5 && early.err.contains("1 missing"), "{early:?}");
    ann.expect(&format!("approve {id} --reason mine"), 4);
    bob.expect(&format!("approve {id} --reason CHG-1"), 0);
    assert_eq!(stage.sim.done("kms:CreateKey"), 0, "nothing was changed yet");
    let done = ann.json(&format!("key apply {id} --wait --timeout 60s"), 0);
    assert_eq!((&done["state"], &done["done"]), (&json!("applied"), &json!(1)), "{done}");
    let keys = made(&stage);
    assert_eq!(keys.len(), 1, "{keys:?}");
    assert!(keys[0]["behind"] == true && keys[0]["rotation"] == true, "{keys:?}");
    let statements = keys[0]["policy"]["Statement"].as_array().expect("statements");
    let of = |sid: &str| statements.iter().find(|s| s["Sid"] == sid).expect(sid);
    let service = format!("rds.{}.amazonaws.com", stage.region);
    let use_it = &of("RingfenceThroughRds")["Condition"]["StringEquals"];
    assert_eq!(use_it["kms:ViaService"], service.as_str());
    assert_eq!(use_it["kms:CallerAccount"], stage.account.as_str());
    let grants = of("RingfenceGrantsForAws");
    assert_eq!(grants["Condition"]["Bool"]["kms:GrantIsForAWSResource"], "true");
    // The key serves, and what depends on it is listed.
    let rem = stage.apply("")["orders"].clone();
    stage.reaches(&rem, "verified");
    ann.expect("scan start --wait --timeout 60s", 0);
    let list = ann.json("key list", 0);
    let ours = list["keys"].as_array().expect("keys").iter().find(|k| k["chosen"] == true);
    let ours = ours.expect("the key behind the alias");
    assert_eq!(ours["databases"], json!(["encrypted-orders"]), "{list}");
    assert_eq!((text(ours, "policy"), &ours["rotates"]), ("named", &json!(true)), "{list}");
    let again = ann.expect("key ensure", 0);
    assert!(again.err.contains("nothing is to be done"), "{again:?}");
    let audit = ann.expect("audit list --limit 500", 0).out;
    for action in ["key.plan", "key.approve", "key.apply", "key.intend", "key.finish"] {
        assert!(audit.contains(action), "{action}: {audit}");
    }
}

#[test]
fn a_key_that_shuts_us_out_is_mended_and_nothing_else_in_its_policy_changes() {
    let mut stage = Stage::new();
    stage.instance("orders");
    let role = format!("arn:aws:iam::{}:role/RingfenceRemediation", stage.account);
    let put = |stage: &Stage, admin: &str| {
        let theirs = json!({"Version": "2012-10-17", "Id": "theirs", "Statement": [
            {"Sid": "Admins", "Effect": "Allow", "Resource": "*", "Action": "kms:*", "Principal": {"AWS":
                [format!("arn:aws:iam::{}:role/{admin}", stage.account), "*"]},
                "Condition": {"ArnNotEquals": {"aws:PrincipalArn": role}}},
            {"Sid": "Look", "Effect": "Allow", "Principal": {"AWS": role}, "Resource": "*", "Action":
                ["kms:DescribeKey", "kms:GetKeyPolicy", "kms:GetKeyRotationStatus", "kms:PutKeyPolicy",
                 "kms:EnableKeyRotation"]}]});
        let one =
            json!({"KeyId": key(stage), "PolicyName": "default", "Policy": theirs.to_string()});
        stage.call("kms", "PutKeyPolicy", one);
        theirs
    };
    put(&stage, "Admin");
    stage.start(&[]);
    let (ann, bob) = (stage.cli("ann"), stage.cli("bob"));
    ann.expect("scan start --wait --timeout 60s", 0);
    let blocked = ann.expect("plan create --all", 0).out;
    assert!(blocked.contains("does not let") && blocked.contains("key ensure"), "{blocked}");
    let plan = planned(&ann, &bob, "");
    assert_eq!(plan["items"][0]["change"], "mend", "{plan}");
    // Somebody else edits it in between: their edit stands, and ours is planned anew.
    let theirs = put(&stage, "Operator");
    let stopped = ann.run(&format!("key apply {} --wait --timeout 60s", text(&plan, "id")));
    assert!(stopped.code == 6 && stopped.out.contains("changed since"), "{stopped:?}");
    assert_eq!(policy(&stage), theirs);
    ann.expect("scan start --wait --timeout 60s", 0);
    let plan = planned(&ann, &bob, "");
    ann.expect(&format!("key apply {} --wait --timeout 60s", text(&plan, "id")), 0);
    let after = policy(&stage);
    let statements = after["Statement"].as_array().expect("statements");
    assert_eq!(&statements[..2], theirs["Statement"].as_array().expect("theirs"), "{after}");
    assert_eq!((statements.len(), text(&after, "Id")), (5, "theirs"));
    let rotation = stage.call("kms", "GetKeyRotationStatus", json!({"KeyId": key(&stage)}));
    assert_eq!(rotation["KeyRotationEnabled"], true);
    let rem = stage.apply("")["orders"].clone();
    stage.reaches(&rem, "verified");
}

#[test]
fn a_grant_lets_us_in_where_the_policy_does_not() {
    let mut stage = Stage::new();
    stage.instance("orders");
    let role = format!("arn:aws:iam::{}:role/RingfenceRemediation", stage.account);
    let theirs = json!({"Version": "2012-10-17", "Statement": [
        {"Sid": "Others", "Effect": "Allow", "Resource": "*", "Action": "kms:*", "Principal": {"AWS": "*"},
            "Condition": {"ArnNotEquals": {"aws:PrincipalArn": role}}},
        {"Sid": "Look", "Effect": "Allow", "Principal": {"AWS": role}, "Resource": "*", "Action":
            ["kms:DescribeKey", "kms:GetKeyPolicy", "kms:GetKeyRotationStatus", "kms:ListGrants"]}]});
    let put = json!({"KeyId": key(&stage), "PolicyName": "default", "Policy": theirs.to_string()});
    stage.call("kms", "PutKeyPolicy", put);
    stage.start(&[]);
    let ann = stage.cli("ann");
    let grant = |who: &str, operations: &[&str]| {
        let params =
            json!({"KeyId": key(&stage), "GranteePrincipal": who, "Operations": operations});
        stage.call("kms", "CreateGrant", params);
        ann.expect("scan start --wait --timeout 60s", 0);
        ann.expect("plan create --all --dry-run", 0).out
    };
    let all = ["CreateGrant", "Decrypt", "DescribeKey", "GenerateDataKey"];
    for (who, operations) in [("arn:aws:iam::1:role/Other", &all[..]), (&role, &all[1..])] {
        let blocked = grant(who, operations);
        assert!(blocked.contains("does not let"), "{who} {operations:?}: {blocked}");
    }
    let ready = grant(&role, &all);
    assert!(ready.contains("1 to encrypt, 0 blocked"), "{ready}");
    assert!(ann.expect("key list", 0).out.contains("by-grant"));
    let rem = stage.apply("")["orders"].clone();
    stage.reaches(&rem, "verified");
}

#[test]
fn a_key_is_made_once_whatever_is_killed_and_lost() {
    let points = crash_points("keys", 1, |(skip, effect)| {
        let mut stage =
            without_a_key(&[("REMEDIATION__POLL", "100ms"), ("REMEDIATION__EXPECT_FOR", "1s")]);
        let (ann, bob) = (stage.cli("ann"), stage.cli("bob"));
        let plan = planned(&ann, &bob, "");
        let id = text(&plan, "id").to_owned();
        // The first that meets a call has it: one is held, and one of the others gets no answer.
        stage.sim.fault(
            json!({"match": {"service": "kms", "write": true}, "skip": skip, "effect": effect}),
        );
        stage.sim.fault(json!({"match": {"service": "kms", "write": true}, "skip": (skip + 1) % 3,
            "effect": "drop-after"}));
        ann.expect(&format!("key apply {id}"), 0);
        let mut killed = None;
        until("the key is made", 2 * MINUTE, || {
            killed = stage.kill_where_held().or(killed.take());
            let shown = stage.cli("ann").run(&format!("key show {id} -o json"));
            let state = if shown.code == 0 { shown.json() } else { Value::Null };
            if state["state"] == "applied" { Ok(()) } else { Err(state.to_string()) }
        });
        let keys = made(&stage);
        assert_eq!(keys.len(), 1, "{skip} {effect}: one key: {keys:?}");
        assert!(
            keys[0]["behind"] == true && keys[0]["rotation"] == true,
            "{skip} {effect}: {keys:?}"
        );
        killed
    });
    assert_eq!(points, 6, "a key, its rotation, its alias; before each and after");
}

#[test]
fn keys_wait_while_frozen_and_are_refused_by_name() {
    let stage = without_a_key(&[]);
    let (ann, bob) = (stage.cli("ann"), stage.cli("bob"));
    let plan = planned(&ann, &bob, "");
    let id = text(&plan, "id");
    let freeze = bob.json("freeze add --to 2099-01-01 --reason year-end", 0);
    let refused = ann.run(&format!("key apply {id}"));
    assert!(refused.code == 5 && refused.err.contains("frozen until 2099"), "{refused:?}");
    let lift = format!("freeze lift {} --reason over", text(&freeze, "id"));
    ann.expect(&lift, 0);
    stage.sim.fault(json!({"match": {"operation": "CreateKey"}, "effect": "hold-before"}));
    ann.expect(&format!("key apply {id}"), 0);
    stage.sim.held(MINUTE);
    let freeze = bob.json("freeze add --to 2099-01-01 --reason year-end", 0);
    stage.sim.release_all();
    until("it waits", MINUTE, || {
        let shown = ann.json(&format!("key show {id}"), 0);
        let why = text(&shown["items"][0], "why").to_owned();
        if why.starts_with("frozen until") { Ok(()) } else { Err(shown.to_string()) }
    });
    assert_eq!(made(&stage).len(), 1, "what was asked for before is made");
    assert_eq!(made(&stage)[0]["rotation"], false, "and no more");
    ann.expect(&format!("freeze lift {} --reason over", text(&freeze, "id")), 0);
    ann.expect(&format!("key apply {id} --wait --timeout 60s"), 0);
    assert_eq!(made(&stage).len(), 1);
    // A key that somebody disabled is theirs to enable.
    stage.call("kms", "DisableKey", json!({"KeyId": key(&stage)}));
    ann.expect("scan start --wait --timeout 60s", 0);
    let blocked = ann.expect("key ensure", 0);
    assert!(
        blocked.out.contains("is disabled") && blocked.out.contains("1 blocked"),
        "{blocked:?}"
    );
    for (line, code, want) in [
        ("key apply kp-none", 1, "there is no key plan `kp-none`"),
        ("key ensure --account 999999999999", 1, "999999999999 is not in the organization"),
        ("approve kp-none --reason r", 1, "there is no key plan"),
    ] {
        let ran = ann.run(line);
        assert!(ran.code == code && ran.err.contains(want), "{line}: {ran:?}");
    }
}

#[test]
fn of_two_plans_for_one_cell_one_makes_the_key() {
    let stage = without_a_key(&[]);
    let (ann, bob) = (stage.cli("ann"), stage.cli("bob"));
    let plans = [planned(&ann, &bob, ""), planned(&bob, &ann, "")];
    let [one, two] = plans.each_ref().map(|p| text(p, "id"));
    stage.sim.fault(json!({"match": {"operation": "CreateKey"}, "effect": "hold-before"}));
    ann.expect(&format!("key apply {one}"), 0);
    stage.sim.held(MINUTE);
    let busy = ann.run(&format!("key apply {two}"));
    assert!(busy.code == 5 && busy.err.contains(&format!("worked on by {one}")), "{busy:?}");
    stage.sim.release_all();
    let done = ann.expect(&format!("key apply {one} --wait --timeout 60s"), 0).out;
    let arn = text(&made(&stage)[0], "arn").to_owned();
    assert!(done.contains(&arn), "people see which key it is: {done}");
    let late = ann.run(&format!("key apply {two} --wait --timeout 60s"));
    assert!(late.code == 6 && late.out.contains("not from this plan"), "{late:?}");
    assert_eq!(made(&stage).len(), 1);
    // The cell was scanned again by itself.
    until("the key is in place", MINUTE, || {
        let again = ann.expect("key ensure", 0);
        if again.out.contains("1 in place") { Ok(()) } else { Err(again.out) }
    });
}

/// The same on both emulators, judged by boto3, for every account that can be entered.
#[test]
fn keys_are_made_on_both_emulators() {
    for emulator in [Emulator::moto(), Emulator::simulator()] {
        let world = emulator.build(7, &[]);
        emulator.guard(&[], "ringfence-test");
        let folder = tempfile::tempdir().expect("a folder");
        let mut setup = Setup::new(&emulator.url(), folder.path());
        setup.set("RINGFENCE_KMS__ALIAS", "alias/new");
        let _server = setup.start();
        let (ann, bob) = (setup.cli("ann"), setup.cli("bob"));
        ann.expect("org sync", 0);
        let management = text(&world, "management");
        let accounts = world["accounts"].as_array().expect("accounts");
        let ids = accounts.iter().map(|a| text(a, "id"));
        let account = ids.clone().find(|a| *a != management && world["suspended"] != *a);
        let account = account.expect("an account");
        ann.expect(&format!("scan start --account {account} --keys --wait --timeout 60s"), 0);
        let scope = format!("--account {account} --everywhere");
        let plan = planned(&ann, &bob, &scope);
        assert_eq!(plan["acting"], 3, "one a region: {plan}");
        ann.expect(&format!("key apply {} --wait --timeout 60s", text(&plan, "id")), 0);
        for region in ["us-east-1", "eu-west-1", "eu-central-1"] {
            let keys = script("keys.py", &emulator.script_url(), &[account, region, "alias/new"]);
            let keys = keys.as_array().expect("keys");
            assert_eq!(keys.len(), 1, "{keys:?}");
            assert!(keys[0]["behind"] == true && keys[0]["rotation"] == true, "{keys:?}");
            assert_eq!(keys[0]["policy"]["Statement"].as_array().map(Vec::len), Some(4));
        }
    }
}
