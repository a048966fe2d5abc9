//! Regions as the account itself lists them. moto has no ListRegions, so the proxy answers it.

use ringfence_tests::emulator::Sim;
use ringfence_tests::process::Setup;
use ringfence_tests::proxy::{Proxy, Rules};
use ringfence_tests::{Moto, emulator};
use serde_json::{Value, json};

fn states(cells: &Value, account: &str) -> Vec<String> {
    let cells = cells["cells"].as_array().expect("cells");
    let of = cells.iter().filter(|c| c["account"] == account);
    of.map(|c| format!("{} {} {}", c["region"], c["state"], c["regions_source"]).replace('"', ""))
        .collect()
}

#[test]
fn a_ledger_is_not_full_without_every_enabled_region() {
    let folder = tempfile::tempdir().expect("a folder");
    let moto = Moto::start();
    let world = emulator::build(&moto.url(), 5, &["empty", "1"]);
    let regions = vec![
        ("us-east-1", "ENABLED_BY_DEFAULT"),
        ("eu-west-1", "ENABLED"),
        ("af-south-1", "DISABLED"),
    ];
    let proxy = Proxy::start(moto.port, Rules { regions, ..Rules::default() });
    let mut setup = Setup::new(&proxy.url(), folder.path());
    setup.set("RINGFENCE_AWS__REGIONS", "");
    setup.set("RINGFENCE_ROLLOUT__ACCEPT_CONFIGURED_REGIONS", "false");
    let mut server = setup.start();
    let (ann, bob) = (setup.cli("ann"), setup.cli("bob"));
    ann.expect("org sync", 0);
    let account = world["accounts"][0]["id"].as_str().expect("an account");

    // A scan of one region leaves the others pending, and the gate shut.
    let scan = ann.expect("scan start --region us-east-1 --wait --timeout 60s", 0);
    assert!(scan.out.contains("0 unencrypted databases"), "{scan:?}");
    let cells = states(&ann.json("scan cells", 0), account);
    assert_eq!(
        cells,
        ["af-south-1 pending account", "eu-west-1 pending account", "us-east-1 clean account"]
    );
    let ou = world["ous"]["all"].as_str().expect("an OU");
    let file = folder.path().join("rollout.toml");
    let toml =
        format!("policy = \"rds-encryption\"\n[[stage]]\nname = \"a\"\ntargets = [\"{ou}\"]\n");
    std::fs::write(&file, toml).expect("write the file");
    let id = ann.json(&format!("rollout plan -f {}", file.display()), 0);
    let id = id["id"].as_str().expect("an id").to_owned();
    bob.expect(&format!("approve {id} --reason CHG-1"), 0);
    let shut = ann.expect(&format!("rollout start {id} --wait --timeout 60s"), 5);
    assert!(shut.out.contains("eu-west-1: pending"), "{shut:?}");

    // A region that no account has is a slip of the finger, not an empty success, and leaves no trace.
    let said = ann.expect("scan start --region mx-central-1 --wait --timeout 60s", 1).err;
    assert!(said.contains("mx-central-1") && said.contains("eu-west-1"), "{said}");

    // A full scan answers all, drops what is no region of the account, and opens the gate.
    ann.expect("scan start --wait --timeout 60s", 0);
    let cells = states(&ann.json("scan cells", 0), account);
    assert_eq!(
        cells,
        ["af-south-1 region-off account", "eu-west-1 clean account", "us-east-1 clean account"]
    );
    ann.expect(&format!("rollout resume {id} --wait --timeout 60s"), 0);

    // An enabled region that aws.regions leaves out is named, and not full.
    server.kill();
    setup.set("RINGFENCE_AWS__REGIONS", "us-east-1");
    let _server = setup.start();
    ann.expect("scan start --wait --timeout 60s", 0);
    let cells = states(&ann.json("scan cells", 0), account);
    assert_eq!(cells[1], "eu-west-1 skipped-by-rule account");
}

#[test]
fn a_denied_account_gathers_no_cells_and_keeps_no_old_answers() {
    let folder = tempfile::tempdir().expect("a folder");
    let sim = Sim::plain(4, 3, 0.5, &["--seed", "8"]);
    let mut setup = Setup::new(&sim.url(), folder.path());
    setup.set("RINGFENCE_AWS__REGIONS", "");
    setup.set("RINGFENCE_AWS__EXTERNAL_ID", "");
    let _server = setup.start();
    let ann = setup.cli("ann");
    let account = sim.truth()["accounts"][2]["id"].as_str().expect("an account").to_owned();
    let region = sim.truth()["regions"][1].as_str().expect("a region").to_owned();
    let role = |present: bool| {
        sim.change(json!({"role": {"account": account, "name": "RingfenceRemediation",
            "present": present}}));
    };
    let cells = || {
        let cells = ann.json(&format!("scan cells --account {account}"), 0);
        let cells = cells["cells"].as_array().expect("cells").clone();
        let text = |c: &Value| format!("{} {}", c["region"], c["state"]).replace('"', "");
        cells.iter().map(text).collect::<Vec<_>>()
    };
    role(false);
    ann.expect("org sync", 0);
    let some = format!("scan start --region {region}");
    for line in ["scan start", &some, "scan start"] {
        ann.expect(&format!("{line} --wait --timeout 60s"), 3);
        assert_eq!(cells(), ["unknown denied"], "{line}");
    }
    let status = ann.json(&format!("status --region {region}"), 0);
    assert_eq!(status["coverage"]["denied"], 1, "it may have something in that region");
    let said = ann.expect(&format!("finding list --account {account}"), 0).err;
    assert!(said.contains("1 of 1 cells were not answered"), "{said}");
    role(true);
    ann.expect("scan start --wait --timeout 60s", 0);
    assert!(cells().len() == 3 && !cells().iter().any(|c| c.contains("unknown")), "{:?}", cells());
    // What it once answered is not kept when it does not answer any more.
    role(false);
    ann.expect("scan start --wait --timeout 60s", 3);
    assert!(cells().len() == 3 && cells().iter().all(|c| c.ends_with("denied")), "{:?}", cells());
}
