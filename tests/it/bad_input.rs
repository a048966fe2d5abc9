//! Bad input: a clear message, the right exit code, and a store that nothing was written to.

use ringfence_tests::process::{Cli, Ran, Setup};
use ringfence_tests::proxy::{Proxy, Rules};
use ringfence_tests::{Moto, emulator};
use std::path::Path;

fn refused(ran: &Ran, code: i32, wants: &[&str]) {
    assert_eq!(ran.code, code, "{ran:?}");
    for want in wants {
        assert!(ran.err.contains(want), "want {want:?}, have {:?}", ran.err);
    }
}

/// The number of the newest audit event: unchanged if nothing was written.
fn newest(cli: &Cli) -> u64 {
    cli.json("audit list --limit 1", 0)["events"][0]["sequence"].as_u64().unwrap_or(0)
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("write a file");
    path.display().to_string()
}

#[test]
fn bad_requests_are_refused_by_name_and_change_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let moto = Moto::start();
    let world = emulator::build(&moto.url(), 1, &["empty", "2"]);
    let setup = Setup::new(&moto.url(), folder);
    let _server = setup.start();
    let cli = setup.cli("ann");
    refused(&cli.run("status"), 5, &["never read", "ringfence org sync"]);
    cli.expect("org sync", 0);
    let before = newest(&cli);

    refused(
        &cli.run("scan start --ou ou-aaaa-bbbbbbbb"),
        1,
        &["ou-aaaa-bbbbbbbb is not in the organization", "org tree"],
    );
    refused(
        &cli.run("scan start --account 999999999999"),
        1,
        &["999999999999 is not in the organization"],
    );
    refused(
        &cli.run("scan start --account 12345"),
        64,
        &["`12345` is not an account id", "12 digits"],
    );
    refused(&cli.run("scan start --region mars"), 64, &["`mars` is not a region code"]);
    refused(&cli.run("plan create"), 64, &["--all"]);
    refused(&cli.run("plan create --all"), 5, &["nothing to plan"]);
    refused(&cli.run("plan show pl-none"), 1, &["there is no plan `pl-none`"]);
    refused(&cli.run("approve x-1 --reason r"), 64, &["neither a plan"]);
    refused(&cli.run("remediation apply pl-none"), 1, &["there is no plan"]);
    refused(&cli.run("remediation cutover rem-1"), 64, &["--reason"]);
    refused(
        &cli.run("remediation cutover rem-1 --reason r"),
        1,
        &["there is no remediation `rem-1`"],
    );
    refused(
        &cli.run("remediation decommission rem-1 --confirm orders --reason r"),
        1,
        &["there is no remediation `rem-1`"],
    );
    refused(&cli.run("remediation failover rem-1"), 64, &["unrecognized subcommand"]);
    refused(
        &cli.run("plan create --all --auto-cutover"),
        64,
        &["--auto-cutover and --make-isolation-groups are for --strategy swap or blue-green"],
    );
    refused(&cli.run("plan create --all --strategy bluegreen"), 64, &["side-by-side", "swap"]);
    refused(
        &cli.run("finding waive fi-1 --reason r --owner o --until soon"),
        1,
        &["--until `soon`"],
    );
    refused(&cli.run("rollout start ro-none"), 1, &["there is no rollout"]);

    let ou = world["ous"]["all"].as_str().expect("an OU");
    let root = world["root"].as_str().expect("a root");
    let stage = |target: &str| format!("[[stage]]\nname = \"a\"\ntargets = [\"{target}\"]\n");
    let good = format!("policy = \"rds-encryption\"\n{}", stage(ou));
    let plan = |file: &str| cli.args(&["rollout", "plan", "-f", file]);
    refused(&plan("/nowhere.toml"), 1, &["read /nowhere.toml"]);
    refused(
        &plan(&write(folder, "key.toml", &good.replace("name", "nmae"))),
        1,
        &["key.toml", "line 3", "unknown field `nmae`"],
    );
    refused(
        &plan(&write(folder, "ou.toml", &good.replace(ou, "ou-aaaa-bbbbbbbb"))),
        1,
        &["ou-aaaa-bbbbbbbb is not in the organization"],
    );
    refused(
        &plan(&write(folder, "root.toml", &good.replace(ou, root))),
        5,
        &["is the root", "--allow-root"],
    );
    write(folder, "broken.json", "{\"Version\": ");
    refused(
        &plan(&write(folder, "policy.toml", &good.replace("rds-encryption", "broken.json"))),
        1,
        &["broken.json", "not JSON"],
    );
    write(
        folder,
        "lockout.json",
        r#"{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"rds:*","Resource":"*"}}"#,
    );
    refused(
        &plan(&write(folder, "lockout.toml", &good.replace("rds-encryption", "lockout.json"))),
        5,
        &["it would deny Ringfence's own role rds:"],
    );
    refused(
        &plan(&write(folder, "missing.toml", &good.replace("rds-encryption", "none.json"))),
        1,
        &["neither rds-encryption nor a file"],
    );
    assert_eq!(newest(&cli), before, "nothing was written");

    let nobody = Cli { server: "127.0.0.1:1".into(), user: "ann".into(), ca_file: None };
    refused(
        &nobody.run("status"),
        8,
        &["no Ringfence server answers at http://127.0.0.1:1", "RINGFENCE_SERVER"],
    );
    let unnamed = Cli { user: "system/server".into(), ..cli.clone() };
    refused(&unnamed.run("org sync"), 4, &["says not who sends it"]);
}

#[test]
fn a_wrong_external_id_is_a_denied_account_not_a_clean_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let moto = Moto::start();
    emulator::build(&moto.url(), 1, &["empty", "2"]);
    let proxy =
        Proxy::start(moto.port, Rules { external_id: "the-right-one".into(), ..Rules::default() });
    let setup = Setup::new(&proxy.url(), folder.path());
    let _server = setup.start();
    let cli = setup.cli("ann");
    cli.expect("org sync", 0);
    let scan = cli.json("scan start --wait", 3);
    // The management account is the caller's own: there, its own credentials serve.
    assert_eq!(scan["coverage"]["denied"], 6, "{scan}");
    assert_eq!(scan["coverage"]["clean"], 3, "{scan}");
    let doctor = cli.expect("doctor", 1);
    assert!(doctor.out.contains("FAIL  role"), "{doctor:?}");
    assert!(doctor.out.contains("aws.external_id"), "{doctor:?}");
}

#[test]
fn a_region_that_refuses_is_an_error_not_a_clean_cell() {
    let folder = tempfile::tempdir().expect("a folder");
    let moto = Moto::start();
    emulator::build(&moto.url(), 1, &["empty", "1"]);
    let rules = Rules { refused_regions: vec!["eu-central-1".into()], ..Rules::default() };
    let proxy = Proxy::start(moto.port, rules);
    let setup = Setup::new(&proxy.url(), folder.path());
    let _server = setup.start();
    let cli = setup.cli("ann");
    cli.expect("org sync", 0);
    let scan = cli.json("scan start --wait", 3);
    assert_eq!(
        (&scan["coverage"]["error"], &scan["coverage"]["clean"]),
        (&2.into(), &4.into()),
        "{scan}"
    );
    let reason = scan["failed"][0]["reason"].as_str().expect("a reason");
    assert!(reason.contains("the region refuses the session"), "{reason}");
}

#[test]
fn servers_that_cannot_work_say_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut setup = Setup::new("http://127.0.0.1:1", folder.path());
    let check = |setup: &Setup, key: &str, value: &str, want: &str| {
        let mut setup = setup.clone();
        setup.set(key, value);
        let said = setup.fails();
        assert!(said.contains(want), "want {want:?}, have {said:?}");
    };
    check(
        &setup,
        "RINGFENCE_STORE__URL",
        "sqlite:///nowhere/at/all.db",
        "store.url `sqlite:///nowhere/at/all.db`",
    );
    check(
        &setup,
        "RINGFENCE_STORE__URL",
        "mysql://u:secret@h/d",
        "it must begin with sqlite:// or postgres://",
    );
    check(
        &setup,
        "RINGFENCE_STORE__URL",
        "postgres://u:secret@127.0.0.1:1/d",
        "postgres://u:***@127.0.0.1:1/d",
    );
    check(&setup, "RINGFENCE_STORE__ULR", "x", "did you mean `store.url`");
    check(&setup, "RINGFENCE_SERVER__LISTEN", "0.0.0.0:7443", "only a loopback address");

    // Without AWS credentials the server runs, and each call says what is missing.
    for key in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
        setup.environment.remove(key);
    }
    setup.set("AWS_EC2_METADATA_DISABLED", "true");
    setup.set("HOME", &folder.path().display().to_string());
    let _server = setup.start();
    let cli = setup.cli("ann");
    refused(&cli.run("org sync"), 1, &["no AWS credentials were found"]);
    let doctor = cli.expect("doctor", 1);
    assert!(doctor.out.contains("FAIL  credentials"), "{doctor:?}");
    assert_eq!(newest(&cli), 0, "nothing was written");
}
