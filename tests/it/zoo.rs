//! Databases with unusual settings, built by boto3, encrypted by us, and compared by boto3: what a twin loses shows here.

use ringfence_tests::emulator::{self, Emulator, Sim};
use ringfence_tests::process::Setup;
use ringfence_tests::script;
use serde_json::Value;

/// Plans and applies all; what is not verified, and why.
fn encrypt(setup: &Setup, account: &str, timeout: &str) -> (usize, Vec<String>) {
    let (ann, bob) = (setup.cli("ann"), setup.cli("bob"));
    ann.expect("org sync", 0);
    ann.expect(&format!("scan start --account {account} --wait --timeout 60s"), 0);
    let plan = ann.json(&format!("plan create --account {account}"), 0);
    let mut wrong: Vec<String> = Vec::new();
    for item in plan["items"].as_array().expect("items") {
        let blockers: Vec<&str> =
            item["blockers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if !blockers.is_empty() && !blockers[0].contains("it is rebuilt with it") {
            wrong.push(format!("{}: blocked: {}", item["name"], blockers.join("; ")));
        }
    }
    let id = plan["id"].as_str().expect("a plan");
    bob.expect(&format!("approve {id} --reason CHG-1"), 0);
    let ran = ann.run(&format!("remediation apply {id} --wait --timeout {timeout} -o json"));
    assert!([0, 3, 6].contains(&ran.code), "{ran:?}");
    let all = ran.json()["remediations"].as_array().expect("remediations").clone();
    for rem in all.iter().filter(|r| r["state"] != "verified") {
        wrong.push(format!("{}: {} {}", rem["name"], rem["state"], rem["why"]));
    }
    (all.len(), wrong)
}

#[test]
fn no_twin_of_the_zoo_lacks_a_setting() {
    let sim = Sim::empty();
    {
        let mut world = sim.inside().world();
        (world.settings.rds_instances, world.settings.rds_clusters) = (400, 100);
        world.settings.rds_snapshots = 400;
    }
    let world = emulator::build(&sim.url(), 8, &["empty", "1"]);
    let account = world["accounts"][0]["id"].as_str().expect("an account").to_owned();
    let region = "eu-west-1";
    script("zoo.py", &sim.url(), &[&account, region, "build"]);
    let folder = tempfile::tempdir().expect("a folder");
    let mut setup = Setup::new(&sim.url(), folder.path());
    setup.set("RINGFENCE_REMEDIATION__MAX_RUNNING_PER_CELL", "60");
    setup.set("RINGFENCE_REMEDIATION__MAX_RUNNING_PER_ACCOUNT", "60");
    setup.set("RINGFENCE_REMEDIATION__FAILURE_BUDGET", "100%");
    let _server = setup.start();
    let (made, wrong) = encrypt(&setup, &account, "300s");
    assert_eq!(wrong, Vec::<String>::new());
    let said = script("zoo.py", &sim.url(), &[&account, region, "compare"]);
    println!("{made} units, {} databases compared, {} members", said["compared"], said["members"]);
    assert_eq!(said["differences"], serde_json::json!([]), "{said:#}");
    // And a difference would show.
    sim.change(serde_json::json!({"call": {"account": account, "region": region, "service": "rds",
        "operation": "ModifyDBInstance", "params": {"DBInstanceIdentifier": "encrypted-plain", "CopyTagsToSnapshot": true}}}));
    let changed = script("zoo.py", &sim.url(), &[&account, region, "compare"]);
    let differences = serde_json::json!(["plain: CopyTagsToSnapshot was False, is True"]);
    assert_eq!(changed["differences"], differences, "{changed}");
    assert!(made >= 50 && said["compared"].as_u64() > Some(60), "{made} {said}");
}

/// Those that moto can express: it forgets what is not its business, and forbids little.
#[test]
fn moto_agrees_on_what_it_can_express() {
    let emulator = Emulator::moto();
    let world = emulator.build(8, &["empty", "1"]);
    let account = world["accounts"][0]["id"].as_str().expect("an account").to_owned();
    let region = "eu-west-1";
    let names = [
        "plain",
        "gp2",
        "io1",
        "multi-az",
        "no-minor",
        "copies-tags",
        "protected",
        "long-backups",
        "other-port",
        "own-parameters",
        "iam-auth",
        "logs",
        "named",
        "odd-tags",
    ];
    let args = [&[account.as_str(), region, "build"][..], &names].concat();
    script("zoo.py", &emulator.script_url(), &args);
    let folder = tempfile::tempdir().expect("a folder");
    let setup = Setup::new(&emulator.url(), folder.path());
    let _server = setup.start();
    let (made, wrong) = encrypt(&setup, &account, "120s");
    println!("{made} on moto, not verified: {wrong:#?}");
    let said = script("zoo.py", &emulator.script_url(), &[&account, region, "compare"]);
    println!("{said:#}");
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!(said["differences"], serde_json::json!([]), "{said:#}");
    assert_eq!(made, names.len());
}
