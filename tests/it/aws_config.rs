//! AWS Config beside Describe: what it says, where it is blind, where the two differ, and its rules.

use ringfence_tests::emulator::Sim;
use ringfence_tests::process::{Cli, Setup};
use ringfence_tests::until;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

const RULES: usize = 3;

fn setup(sim: &Sim, folder: &Path) -> Setup {
    let mut setup = Setup::new(&sim.url(), folder);
    setup.set("RINGFENCE_AWS__REGIONS", "");
    setup.set("RINGFENCE_AWS__EXTERNAL_ID", "");
    setup
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_else(|| panic!("{field} of {value}")).to_owned()
}

/// A call by an administrator of that account.
fn call(sim: &Sim, account: &str, region: &str, operation: &str, params: &Value) {
    sim.change(json!({"call": {"account": account, "region": region, "service": "config",
        "operation": operation, "params": params}}));
}

/// Deploys the organization rules through the product, by two people.
fn deploy(ann: &Cli, bob: &Cli) -> String {
    let plan = ann.json("control deploy rds-encryption --config-rule", 0);
    let id = text(&plan, "id");
    bob.expect(&format!("approve {id} --reason CHG-7"), 0);
    ann.expect(&format!("control apply {id}"), 0);
    id
}

fn scan(cli: &Cli) -> Value {
    cli.json("scan start --aws-config --wait --timeout 120s", 0)
}

/// Some unencrypted instance of the world: account, region, name, and the finding.
fn an_instance(cli: &Cli) -> (String, String, String) {
    let found = cli.json("finding list", 0);
    let instance = list(&found, "findings").iter().find(|f| f["kind"] == "instance");
    let one = instance.expect("an unencrypted instance");
    (text(one, "account"), text(one, "region"), text(one, "name"))
}

fn finding(cli: &Cli, (account, region, name): &(String, String, String)) -> Value {
    let found = cli.json(&format!("finding list --account {account} --region {region}"), 0);
    list(&found, "findings").iter().find(|f| f["name"] == name.as_str()).expect("it").clone()
}

#[test]
fn config_is_a_second_opinion_and_blind_is_never_compliant() {
    let folder = tempfile::tempdir().expect("a folder");
    let sim = Sim::plain(6, 3, 1.0, &["--seed", "3"]);
    let setup = setup(&sim, folder.path());
    let _server = setup.start();
    let (ann, bob) = (setup.cli("ann"), setup.cli("bob"));
    ann.expect("org sync", 0);
    let plain = ann.json("scan start --wait --timeout 120s", 0);
    assert_eq!(plain["config"], json!({}), "not asked");
    let first = scan(&ann);
    assert_eq!(first["config"], json!({"no-rule": first["cells"]}), "{first}");
    deploy(&ann, &bob);
    let second = scan(&ann);
    let words: i64 =
        second["config"].as_object().expect("words").values().filter_map(Value::as_i64).sum();
    assert_eq!(words, second["cells"].as_i64().expect("cells"), "every cell has a word");
    assert!(second["config"]["blind"].is_null() && second["config"]["no-rule"].is_null());
    // Describe and Config part ways: Describe shows an unencrypted database where Config's item says
    // that it is encrypted.
    let place = an_instance(&ann);
    assert_eq!(finding(&ann, &place)["config"], "non-compliant");
    let (account, region, name) = &place;
    let member = |member: &str, value: Value| {
        sim.change(json!({"member": {"account": account, "region": region, "name": name,
            "member": member, "value": value}}));
    };
    member("StorageEncryptionType", json!("none"));
    member("StorageEncrypted", json!(true));
    let third = scan(&ann);
    assert_eq!(finding(&ann, &place)["config"], "compliant");
    let differ = |value: &Value| {
        list(value, "disagreeing")
            .iter()
            .flat_map(|c| list(&c["config"], "disagreements"))
            .any(|d| d["resource"] == name.as_str() && d["config"] == "compliant")
    };
    assert!(differ(&third), "{third}");
    let status = ann.json("status", 0);
    assert!(differ(&status) && status["config"] == third["config"], "{status}");
    let said = ann.expect("status", 0).out;
    let line = said.lines().find(|l| l.contains("AWS Config says compliant"));
    assert!(line.is_some_and(|l| l.contains(name.as_str())), "{said}");
    // A recorder that is off, or leaves databases out, knows nothing; the cell is answered all the same.
    call(
        &sim,
        account,
        region,
        "StopConfigurationRecorder",
        &json!({"ConfigurationRecorderName": "default"}),
    );
    ann.expect(&format!("scan start --aws-config --wait --account {account}"), 0);
    let cell = |word: &str| {
        let cells = ann.json(&format!("scan cells --account {account} --region {region}"), 0);
        let cell = &list(&cells, "cells")[0];
        assert_eq!(
            (&cell["config"]["verdict"], &cell["state"]),
            (&json!(word), &json!("findings"))
        );
        text(&cell["config"], "reason")
    };
    assert!(cell("blind").contains("stopped"));
    assert_eq!(finding(&ann, &place)["config"], "blind");
    let group = json!({"recordingGroup": {"allSupported": false, "exclusionByResourceTypes":
        {"resourceTypes": ["AWS::RDS::DBInstance"]},
        "recordingStrategy": {"useOnly": "EXCLUSION_BY_RESOURCE_TYPES"}}, "name": "default", "roleARN": "arn:aws:iam::1:role/x"});
    call(
        &sim,
        account,
        region,
        "PutConfigurationRecorder",
        &json!({"ConfigurationRecorder": group}),
    );
    call(
        &sim,
        account,
        region,
        "StartConfigurationRecorder",
        &json!({"ConfigurationRecorderName": "default"}),
    );
    ann.expect(&format!("scan start --aws-config --wait --account {account}"), 0);
    assert!(cell("blind").contains("AWS::RDS::DBInstance"));
    // Config that denies is no reason to lose the cell.
    sim.fault(
        json!({"match": {"service": "config", "account": account}, "times": 0, "effect": "deny"}),
    );
    ann.expect(&format!("scan start --aws-config --wait --account {account}"), 0);
    assert!(cell("unread").contains("config:DescribeConfigurationRecorders"));
    assert_eq!(finding(&ann, &place)["config"], "unread");
}

#[test]
fn organization_rules_are_planned_approved_put_and_checked_and_survive_a_crash() {
    let folder = tempfile::tempdir().expect("a folder");
    let sim = Sim::plain(5, 4, 1.0, &["--seed", "4"]);
    let setup = setup(&sim, folder.path());
    let server = setup.start();
    let (ann, bob) = (setup.cli("ann"), setup.cli("bob"));
    ann.expect("org sync", 0);
    let said = ann.expect("control deploy rds-encryption --config-rule", 5).err;
    assert!(said.contains("--region"), "no region is known before the first scan: {said}");
    ann.expect("scan start --wait --timeout 120s", 0);
    ann.expect("control deploy rds-encryption", 64);
    ann.expect("control deploy s3-encryption --config-rule", 1);
    assert!(
        list(&ann.json("control check rds-encryption", 3), "rules")
            .iter()
            .all(|r| r["status"] == "absent")
    );
    sim.take_calls();
    let dry = ann.json("control deploy rds-encryption --config-rule --dry-run", 0);
    assert_eq!(list(&ann.json("control list", 0), "deployments").len(), 0);
    let regions: BTreeSet<String> = list(&dry, "items").iter().map(|i| text(i, "region")).collect();
    assert_eq!(list(&dry, "items").len(), RULES * regions.len());
    let plan = ann.json("control deploy rds-encryption --config-rule", 0);
    let id = text(&plan, "id");
    ann.expect(&format!("control apply {id}"), 5);
    ann.expect(&format!("approve {id} --reason CHG-7"), 4);
    bob.expect(&format!("approve {id} --reason CHG-7 --hash 123"), 5);
    bob.expect(&format!("approve {id} --reason CHG-7"), 0);
    ann.expect(&format!("control apply {id} --dry-run"), 0);
    let puts = |calls: &std::collections::BTreeMap<String, u64>| {
        calls.get("config:PutOrganizationConfigRule").copied().unwrap_or(0)
    };
    assert_eq!(puts(&sim.take_calls()), 0, "nothing was put yet");
    // Killed after AWS took the fourth put, and before anybody knew.
    sim.fault(json!({"match": {"service": "config", "operation": "PutOrganizationConfigRule"},
        "skip": 3, "effect": "hold-after"}));
    let cli = setup.cli("ann");
    let line = format!("control apply {id}");
    let waiting = std::thread::spawn(move || cli.run(&line).code);
    sim.held(Duration::from_secs(30));
    drop(server); // kill -9
    sim.release_all();
    assert_eq!(waiting.join().expect("the client ends"), 8);
    let _server = setup.start();
    let shown = ann.json(&format!("control show {id}"), 0);
    assert_eq!(shown["state"], "applying");
    assert_eq!(list(&shown, "items").iter().filter(|i| i["outcome"] == "begun").count(), 1);
    // One rule was meanwhile made by somebody else, another way: it is not touched, and said.
    let management = text(&list(&sim.truth(), "accounts")[0], "id");
    let last = list(&plan, "items").last().expect("an item");
    let theirs = json!({"OrganizationConfigRuleName": text(last, "name"), "ExcludedAccounts": ["000000000001"],
        "OrganizationManagedRuleMetadata": {"RuleIdentifier": "RDS_SNAPSHOT_ENCRYPTED"}});
    call(&sim, &management, &text(last, "region"), "PutOrganizationConfigRule", &theirs);
    sim.take_calls();
    // The dead server's lease on the deployment has to run out first.
    let rest = until("it may be applied again", Duration::from_secs(60), || {
        let ran = ann.run(&format!("control apply {id} -o json"));
        if ran.code == 3 { Ok(ran.json()) } else { Err(ran.err) }
    });
    let all = RULES * regions.len();
    assert_eq!(puts(&sim.take_calls()), all as u64 - 5, "the fourth is there, the last is theirs");
    let failed: Vec<_> = list(&rest, "items").iter().filter(|i| i["outcome"] == "failed").collect();
    assert!(failed.len() == 1 && text(failed[0], "reason").contains("plan again"), "{failed:?}");
    let again = ann.json("control deploy rds-encryption --config-rule", 0);
    assert_eq!(again["acting"], 1, "what is in place stays");
    let id = text(&again, "id");
    bob.expect(&format!("approve {id} --reason CHG-8"), 0);
    assert_eq!(ann.json(&format!("control apply {id}"), 0)["state"], "applied");
    let check = ann.json("control check rds-encryption", 0);
    assert_eq!(list(&check, "rules").len(), all);
    assert_eq!(ann.json("control deploy rds-encryption --config-rule", 0)["acting"], 0);
    assert_eq!(
        list(&ann.json("control list", 0), "deployments").len(),
        2,
        "nothing to do is not kept"
    );
    let said = ann
        .expect("control deploy rds-encryption --config-rule --exclude-account 999999999999", 1)
        .err;
    assert!(said.contains("--exclude-account 999999999999"), "{said}");
    // An account without a recorder cannot take the rules.
    let place =
        (text(&list(&sim.truth(), "accounts")[1], "id"), regions.first().expect("one").clone());
    call(
        &sim,
        &place.0,
        &place.1,
        "DeleteConfigurationRecorder",
        &json!({"ConfigurationRecorderName": "default"}),
    );
    let said = ann.expect("control check rds-encryption", 3).out;
    assert!(said.contains(&place.0) && said.contains("NoAvailableConfigurationRecorder"), "{said}");
    let events = ann.json(&format!("audit list --subject {id}"), 0);
    assert!(list(&events, "events").iter().any(|e| e["action"] == "control.put"));
}

#[test]
fn the_aggregators_candidates_are_confirmed_by_describe() {
    let folder = tempfile::tempdir().expect("a folder");
    let sim = Sim::plain(30, 5, 0.3, &["--seed", "6"]);
    let mut setup = setup(&sim, folder.path());
    let server = setup.start();
    let ann = setup.cli("ann");
    ann.expect("org sync", 0);
    let said = ann.expect("scan start --candidates --wait", 5).err;
    assert!(said.contains("scan.aggregator"), "{said}");
    drop(server);
    setup.set("RINGFENCE_SCAN__AGGREGATOR", "org");
    let _server = setup.start();
    let said = ann.expect("scan start --candidates --wait", 1).err;
    assert!(said.contains("does not exist"), "{said}");
    let management = text(&list(&sim.truth(), "accounts")[0], "id");
    let source = json!({"AllAwsRegions": true, "RoleArn": "arn:aws:iam::1:role/x"});
    call(
        &sim,
        &management,
        "us-east-1",
        "PutConfigurationAggregator",
        &json!({"ConfigurationAggregatorName": "org", "OrganizationAggregationSource": source}),
    );
    sim.take_calls();
    let fast = ann.json("scan start --candidates --wait --timeout 120s", 0);
    let calls = sim.take_calls();
    let cells = fast["cells"].as_u64().expect("cells");
    assert!(cells > 3 && calls["rds:DescribeDBInstances"] == cells, "{fast} {calls:?}");
    let said = ann.expect(&format!("scan get {}", text(&fast, "id")), 0).out;
    assert!(said.contains("only a full scan proves"), "{said}");
    let names = || -> BTreeSet<String> {
        let found = ann.json("finding list", 0);
        list(&found, "findings").iter().map(|f| text(f, "arn")).collect()
    };
    let confirmed = names();
    assert!(!confirmed.is_empty());
    let status = ann.json("status", 0);
    assert!(status["coverage"]["pending"].as_u64() > Some(0), "no other cell is said to be clean");
    ann.expect("scan start --wait --timeout 120s", 0);
    assert_eq!(names(), confirmed, "a full scan finds no other where recorders are");
}
