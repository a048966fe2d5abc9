//! A scan of a whole organization: every cell accounted for, whatever happens on the way.

use ringfence_tests::emulator::Sim;
use ringfence_tests::process::{Cli, Setup};
use ringfence_tests::{Guard, until};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

/// A server on a simulated organization, with regions as the accounts name them.
fn setup(sim: &Sim, folder: &Path) -> Setup {
    let mut setup = Setup::new(&sim.url(), folder);
    setup.set("RINGFENCE_AWS__REGIONS", "");
    setup.set("RINGFENCE_AWS__EXTERNAL_ID", "");
    setup.set("RINGFENCE_LIMITS__ATTEMPT_TIMEOUT", "1s");
    setup.set("RINGFENCE_ROLLOUT__ACCEPT_CONFIGURED_REGIONS", "false");
    setup
}

/// The same, with agents in processes of their own.
fn apart(sim: &Sim, folder: &Path) -> Setup {
    let mut setup = setup(sim, folder);
    setup.set("RINGFENCE_SERVER__EMBEDDED_AGENT", "false");
    setup.set("RINGFENCE_AGENT__JOIN_TOKEN", "a-token-for-tests");
    setup.set("RINGFENCE_AGENT__THREADS", "1");
    setup
}

/// What the truth expects of each cell; a denied account is one thing, whatever its regions.
fn expected(truth: &Value) -> BTreeMap<(String, String), String> {
    let mut cells = BTreeMap::new();
    for cell in truth["cells"].as_array().expect("cells") {
        let text = |field: &str| cell[field].as_str().expect("text").to_owned();
        let region = if text("expect") == "denied" { "*".to_owned() } else { text("region") };
        cells.insert((text("account"), region), text("expect"));
    }
    cells
}

/// The ledger in the same terms, with the reasons.
fn ledger(cli: &Cli) -> BTreeMap<(String, String), (String, String)> {
    let cells = cli.json("scan cells", 0);
    let mut found = BTreeMap::new();
    for cell in cells["cells"].as_array().expect("cells") {
        let text = |field: &str| cell[field].as_str().expect("text").to_owned();
        let region = if text("state") == "denied" { "*".to_owned() } else { text("region") };
        found.insert((text("account"), region), (text("state"), text("reason")));
    }
    found
}

fn done(cli: &Cli, scan: &str) -> Value {
    until("the scan ends", 3 * MINUTE, || {
        let scan = cli.run(&format!("scan get {scan} -o json")).json();
        if scan["ended_at"] == "" { Err(scan.to_string()) } else { Ok(scan) }
    })
}

#[test]
fn through_denials_lost_answers_dead_regions_and_killed_agents_the_ledger_is_the_truth() {
    let folder = tempfile::tempdir().expect("a folder");
    let sim = Sim::plain(1_000, 17, 0.1, &["--seed", "5"]);
    let accounts: Vec<String> = {
        let truth = sim.truth();
        let list = truth["accounts"].as_array().expect("accounts");
        list.iter().map(|a| a["id"].as_str().expect("an id").to_owned()).collect()
    };
    for account in accounts.iter().skip(7).step_by(33) {
        let role = json!({"account": account, "name": "RingfenceRemediation", "present": false});
        sim.change(json!({"role": role}));
    }
    // Two regions answer nothing; one of them comes back in the middle of the scan.
    let silent = |region: &str| json!({"match": {"service": "rds", "region": region}, "times": 0, "effect": {"late": {"ms": 600_000}}});
    let back = sim.fault(silent("eu-west-2"));
    sim.fault(silent("sa-east-1"));
    let rds = json!({"service": "rds"});
    let error = json!({"error": {"status": 500, "code": "InternalFailure"}});
    sim.fault(json!({"match": rds, "times": 0, "chance": 0.005, "effect": error}));
    sim.fault(json!({"match": rds, "times": 0, "chance": 0.01, "effect": "drop-after"}));
    let mut setup = apart(&sim, folder.path());
    setup.set("RINGFENCE_LIMITS__ATTEMPT_TIMEOUT", "3s");
    let _server = setup.start();
    let cli = setup.cli("ann");
    let _stays = setup.start_agent("stays");
    let killed = setup.start_agent("killed");
    let scan = cli.json("scan start", 0)["id"].as_str().expect("an id").to_owned();
    let progress = |least: i64, guard: Guard| {
        until("the scan goes on", 2 * MINUTE, || {
            let scan = cli.run(&format!("scan get {scan} -o json")).json();
            let done = scan["accounts_done"].as_i64().unwrap_or(0)
                + scan["progress"]["accounts_to_retry"].as_i64().unwrap_or(0);
            if done >= least { Ok(()) } else { Err(scan.to_string()) }
        });
        drop(guard); // kill -9
    };
    progress(50, killed);
    sim.remove_fault(back);
    progress(300, setup.start_agent("killed-again"));
    let scan = done(&cli, &scan);
    let mut want = expected(&sim.truth());
    for ((_, region), state) in &mut want {
        if region == "sa-east-1" {
            *state = "error".to_owned();
        }
    }
    let have = ledger(&cli);
    let states: BTreeMap<_, _> = have.iter().map(|(k, (s, _))| (k.clone(), s.clone())).collect();
    let differ: Vec<_> = want
        .keys()
        .chain(states.keys())
        .filter(|k| want.get(*k) != states.get(*k))
        .map(|k| (k, want.get(k), have.get(k)))
        .take(10)
        .collect();
    assert!(differ.is_empty(), "{differ:?}");
    let dead: BTreeSet<&str> = have
        .iter()
        .filter(|((_, region), _)| region == "sa-east-1")
        .map(|(_, (_, reason))| reason.split(':').next().unwrap_or_default())
        .collect();
    assert!(dead.iter().all(|r| r.contains("region-unreachable") || r.contains("rds")), "{dead:?}");
    assert_eq!(scan["accounts"], 1000);
    cli.expect(&format!("scan get {}", scan["id"].as_str().expect("an id")), 3);
    // The list by states is the list, over all its pages.
    let all = cli.json("scan cells", 0)["cells"].as_array().cloned().expect("cells");
    let unanswered = ["denied", "error"];
    let some = cli.json(&format!("scan cells --state {}", unanswered.join(",")), 0);
    let want: Vec<Value> =
        all.into_iter().filter(|c| unanswered.iter().any(|state| c["state"] == *state)).collect();
    assert!(want.len() > 900 && some["cells"].as_array() == Some(&want), "{}", want.len());
    let odd = cli.expect("scan cells --state broken", 64);
    assert!(odd.err.contains("pending, clean, findings, denied"), "{odd:?}");
    // Every database that the truth has is a finding, and no other.
    let found = cli.json("finding list", 0);
    let found: BTreeSet<String> = found["findings"]
        .as_array()
        .expect("findings")
        .iter()
        .map(|f| format!("{} {} {}", f["account"], f["region"], f["name"]))
        .collect();
    let mut there = BTreeSet::new();
    for cell in sim.truth()["cells"].as_array().expect("cells") {
        let place = format!("{} {}", cell["account"], cell["region"]);
        let closed = cell["expect"] == "denied" || cell["region"] == "sa-east-1";
        for (list, kind) in [("instances", false), ("clusters", true)] {
            let rows = cell[list].as_array().expect("a list").iter();
            let open = rows.filter(|r| r["encrypted"] == false && (kind || r["kind"] != "member"));
            there.extend(open.filter(|_| !closed).map(|r| format!("{place} {}", r["id"])));
        }
    }
    assert_eq!(found, there);
}

#[test]
fn a_cold_scan_begins_before_the_organization_is_listed() {
    let folder = tempfile::tempdir().expect("a folder");
    let sim = Sim::plain(400, 3, 0.0, &[]);
    sim.inside().world().settings.latency_low_ms = 40;
    sim.inside().world().settings.latency_high_ms = 60;
    let mut setup = setup(&sim, folder.path());
    setup.set("RINGFENCE_AWS__STS_REGIONS", "us-east-1");
    let _server = setup.start();
    let cli = setup.cli("ann");
    let scan = cli.json("scan start --wait", 0);
    assert_eq!((&scan["accounts"], &scan["coverage"]["clean"]), (&json!(400), &json!(1200)));
    let status = cli.json("status", 0);
    assert_eq!(status["org"]["accounts"], 400);
    let world = sim.inside().world();
    let calls: Vec<String> = world.log.entries(0).map(|e| e.call).collect();
    let first = calls.iter().position(|c| c == "sts:AssumeRole").expect("a session");
    let last = calls.iter().rposition(|c| c == "organizations:ListAccounts").expect("a list");
    assert!(first < last, "the first session is call {first}, the last page {last}");
    // Exactly one session an account; the management account's own credentials serve where there is no role.
    let sessions = calls.iter().filter(|c| *c == "sts:AssumeRole").count();
    assert_eq!(sessions, 400);
}

#[test]
fn accounts_that_come_and_go_during_a_scan_are_seen() {
    let folder = tempfile::tempdir().expect("a folder");
    let sim = Sim::plain(60, 3, 0.0, &[]);
    let mut setup = setup(&sim, folder.path());
    // Whatever was listed before is old.
    setup.set("RINGFENCE_SCAN__ORG_MAX_AGE", "0s");
    let _server = setup.start();
    let cli = setup.cli("ann");
    sim.fault(
        json!({"match": {"service": "rds"}, "times": 1, "skip": 20, "effect": "hold-before"}),
    );
    let scan = cli.json("scan start", 0)["id"].as_str().expect("an id").to_owned();
    sim.held(MINUTE);
    // The organization was listed; now one account is suspended, and one is made.
    until("the list is read", MINUTE, || {
        let scan = cli.run(&format!("scan get {scan} -o json")).json();
        if scan["progress"]["listing"] == false { Ok(()) } else { Err(scan.to_string()) }
    });
    let accounts = sim.truth()["accounts"].clone();
    let gone = accounts[9]["id"].as_str().expect("an id").to_owned();
    sim.change(json!({"account-state": {"account": gone, "state": "SUSPENDED"}}));
    let management = sim.truth()["management_account"].clone();
    sim.change(json!({"call": {"account": management, "region": "us-east-1", "service": "organizations",
        "operation": "CreateAccount", "params": {"AccountName": "late", "Email": "late@example.com"}}}));
    sim.release_all();
    let scan = done(&cli, &scan);
    let cells = cli.json("scan cells", 0);
    let of = |id: &str| {
        let cells = cells["cells"].as_array().expect("cells").iter();
        cells.filter(|c| c["account"] == id).count()
    };
    assert_eq!(of(&gone), 0, "a suspended account has no cells");
    assert_eq!(scan["accounts_done"], scan["accounts"]);
    let tree = sim.truth();
    let late = tree["accounts"].as_array().expect("accounts").iter().find(|a| a["name"] == "late");
    let late = late.expect("the new account")["id"].as_str().expect("an id");
    assert!(of(late) > 0, "a new account is scanned, or said to be denied: {scan}");
}

#[test]
fn a_scan_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().expect("a folder");
    let sim = Sim::plain(200, 5, 0.0, &[]);
    let mut setup = setup(&sim, folder.path());
    setup.set("RINGFENCE_AGENT__THREADS", "1");
    setup.set("RINGFENCE_AGENT__ACCOUNTS_PER_THREAD", "4");
    let server = setup.start();
    let cli = setup.cli("ann");
    cli.expect("org sync", 0);
    // One region of one account hangs: the account's other cells are stored without it.
    sim.fault(json!({"match": {"service": "rds", "operation": "DescribeDBClusters"}, "skip": 300, "effect": "hold-before"}));
    let scan = cli.json("scan start", 0)["id"].as_str().expect("an id").to_owned();
    sim.held(MINUTE);
    let stored = |cli: &Cli| {
        let cells = cli.json("scan cells", 0);
        let cells = cells["cells"].as_array().expect("cells").iter();
        cells.filter(|c| c["state"] == "clean").count()
    };
    until("some is stored", MINUTE, || match stored(&cli) {
        n if n > 150 => Ok(()),
        n => Err(n.to_string()),
    });
    drop(server); // kill -9
    sim.release_all();
    let calls = |sim: &Sim| sim.take_calls().get("rds:DescribeDBInstances").copied().unwrap_or(0);
    // What was read before and was not stored is that of the accounts in hand.
    let before = calls(&sim) as usize;
    let _server = setup.start();
    let scan = done(&cli, &scan);
    assert_eq!(scan["coverage"]["clean"], 1000, "{scan}");
    let again = calls(&sim) as usize;
    assert!(
        again >= 1000 - before && again <= 1000 - before + 2 * 4 * 5,
        "{again} calls, {before} before"
    );
}

#[test]
fn agents_join_with_a_token_share_the_limits_and_give_back_what_they_hold() {
    let folder = tempfile::tempdir().expect("a folder");
    let sim = Sim::plain(120, 5, 0.0, &[]);
    // Each account's region grants two calls, and one more each half second.
    let limits = json!([{"service": "rds", "rate": 4.0, "burst": 4.0}, {"service": "sts", "rate": 80.0, "burst": 80.0}]);
    sim.limits(limits);
    let mut setup = apart(&sim, folder.path());
    setup.set("RINGFENCE_LIMITS__RDS_READ", "4");
    setup.set("RINGFENCE_LIMITS__STS", "60");
    setup.set("RINGFENCE_AWS__STS_REGIONS", "us-east-1");
    let server = setup.start();
    let cli = setup.cli("ann");
    let stranger = Setup { log: folder.path().join("stranger.log"), ..setup.clone() };
    let mut wrong = stranger.clone();
    wrong.set("RINGFENCE_AGENT__JOIN_TOKEN", "another");
    let _outside = wrong.start_agent("outside");
    until("it is told why", MINUTE, || {
        let log = stranger.log();
        if log.contains("join token is missing or not known") { Ok(()) } else { Err(log) }
    });
    cli.expect("org sync", 0);
    let _one = setup.start_agent("one");
    let mut two = setup.start_agent("two");
    let names = |cli: &Cli| -> Vec<String> {
        let agents = cli.json("agent list", 0);
        let agents = agents["agents"].as_array().expect("agents").iter();
        agents.map(|a| a["name"].as_str().expect("a name").to_owned()).collect()
    };
    until("both are there", MINUTE, || match names(&cli) {
        names if names == ["one/0", "two/0"] => Ok(()),
        names => Err(format!("{names:?}")),
    });
    let twice = Setup { log: folder.path().join("twice.log"), ..setup.clone() };
    let second = twice.start_agent("two");
    until("a second one of a name is refused", MINUTE, || {
        let log = twice.log();
        if log.contains("another agent is named two/0") { Ok(()) } else { Err(log) }
    });
    drop(second);
    until("the budget is dealt", MINUTE, || {
        let agents = cli.json("agent list", 0);
        let shares: Vec<f64> = agents["agents"]
            .as_array()
            .expect("agents")
            .iter()
            .map(|a| a["share"].as_f64().expect("a share"))
            .collect();
        if shares == [0.5, 0.5] { Ok(()) } else { Err(format!("{shares:?}")) }
    });
    let scan = cli.json("scan start --wait", 0);
    assert_eq!(scan["coverage"]["clean"], 600);
    let throttled: u64 = sim.inside().world().throttle.counts().iter().map(|c| c.throttled).sum();
    assert_eq!(throttled, 0, "twice the agents is not twice the rate");
    let limits = cli.json("agent limits", 0);
    let used = |limit: &str| -> i64 {
        let rows = limits["limits"].as_array().expect("limits").iter();
        let agents = rows.filter(|l| l["limit"] == limit && l["agent"] != "server");
        agents.map(|l| l["granted"].as_i64().expect("a count")).sum()
    };
    until("the limits are told", MINUTE, || {
        let limits = cli.json("agent limits", 0);
        let rows = limits["limits"].as_array().expect("limits").iter();
        let granted = rows.filter(|l| l["limit"] == "rds_read").map(|l| l["granted"].as_i64());
        let sum: i64 = granted.map(|n| n.expect("a count")).sum();
        if sum == 1200 { Ok(()) } else { Err(sum.to_string()) }
    });
    assert!(used("organizations_read") == 0, "agents ask Organizations nothing");
    // One is told to take nothing more, the other to stop; neither keeps anybody waiting.
    assert_eq!(cli.json("agent drain one", 0)["threads"], 1);
    cli.expect("agent drain nobody", 1);
    two.terminate();
    assert!(two.0.wait().expect("it ends").success());
    until("it has left", MINUTE, || match names(&cli) {
        names if names == ["one/0"] => Ok(()),
        names => Err(format!("{names:?}")),
    });
    let scan = cli.json("scan start", 0)["id"].as_str().expect("an id").to_owned();
    let waits = cli.run("scan start --wait --timeout 2s");
    assert_eq!(waits.code, 7, "nobody takes work: {waits:?}");
    cli.expect("agent drain one --undo", 0);
    done(&cli, &scan);
    drop(server);
}

/// A certificate for this machine, and the CA that it is its own.
fn certificate(folder: &Path) -> (String, String) {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).expect("write the certificate");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("write the key");
    (cert.display().to_string(), key.display().to_string())
}

#[test]
fn with_tls_agents_join_over_the_network_and_people_do_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let sim = Sim::plain(12, 3, 0.0, &[]);
    let (cert, key) = certificate(folder.path());
    let mut setup = apart(&sim, folder.path());
    setup.environment.remove("RINGFENCE_AGENT__JOIN_TOKEN");
    setup.set("RINGFENCE_SERVER__LISTEN", &format!("0.0.0.0:{}", setup.port));
    assert!(setup.fails().contains("server.tls.cert_file"), "not without TLS");
    setup.set("RINGFENCE_SERVER__TLS__CERT_FILE", &cert);
    assert!(setup.fails().contains("server.tls.key_file is empty"), "both or none");
    setup.set("RINGFENCE_SERVER__TLS__KEY_FILE", &key);
    let token = setup.join_token(&["create", "site"]);
    assert!(token.starts_with("rft-") && token.len() > 40, "{token}");
    let _server = setup.start();
    let mut cli = setup.cli("ann");
    cli.server = format!("https://127.0.0.1:{}", setup.port);
    assert_eq!(cli.run("status").code, 8, "the certificate is not one of the system's");
    cli.ca_file = Some(cert.clone());
    cli.expect("org sync", 0);
    let mut agent = setup.clone();
    agent.set("RINGFENCE_AGENT__JOIN_TOKEN", &token);
    agent.set("RINGFENCE_AGENT__CA_FILE", &cert);
    let _agent = agent.start_agent_of("far", &format!("https://localhost:{}", setup.port));
    let scan = cli.json("scan start --wait --timeout 60s", 0);
    assert_eq!(scan["coverage"]["clean"], 36);
    // From another address than loopback, people are told where to go.
    if let Some(own) = own_address() {
        cli.server = format!("https://{own}:{}", setup.port);
        let far = cli.run("status");
        assert!(far.code != 0, "{far:?}");
    }
    assert!(setup.join_token(&["list"]).contains("site"));
    setup.join_token(&["revoke", "site"]);
    until("a revoked token lets nobody in", MINUTE, || {
        let log = setup.log();
        if log.contains("join token is missing or not known") { Ok(()) } else { Err(log) }
    });
    let text = std::fs::read(folder.path().join("ringfence.db")).expect("the store");
    let secret = token.as_bytes();
    assert!(!text.windows(secret.len()).any(|w| w == secret), "the store has no token");
    assert!(!setup.log().contains(&token), "nor has the log");
}

/// An address of this machine that is not loopback; no packet is sent.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback())
}

#[test]
fn scans_are_made_on_schedule_and_of_the_oldest_evidence() {
    let folder = tempfile::tempdir().expect("a folder");
    let sim = Sim::plain(8, 3, 0.0, &[]);
    let mut setup = setup(&sim, folder.path());
    setup.set("RINGFENCE_SCAN__SCHEDULE", "at two");
    assert!(setup.fails().contains("scan.schedule"), "not a schedule");
    // Each minute, so that one is due whenever this runs; and plenty of calls for small ones.
    setup.set("RINGFENCE_SCAN__SCHEDULE", "* * * * *");
    setup.set("RINGFENCE_SCAN__JITTER", "0s");
    setup.set("RINGFENCE_SCAN__CALLS_PER_HOUR", "1000");
    let _server = setup.start();
    let cli = setup.cli("ann");
    cli.expect("org sync", 0);
    sim.take_calls();
    // A server without any scan does not make up for what was due before; with one, it does.
    let first = cli.json("scan start --wait", 0);
    let list = || cli.json("scan list", 0)["scans"].as_array().expect("scans").clone();
    let done = |trigger: &str| {
        until("such a scan", MINUTE, || {
            let found = list().into_iter().find(|s| s["trigger"] == trigger && s["ended_at"] != "");
            found.ok_or_else(|| format!("{:?}", list()))
        })
    };
    let full = done("schedule");
    assert_eq!((&full["accounts"], &full["progress"]["cells"]), (&json!(8), &json!(24)));
    // 1,000 calls an hour are 16 a minute: two accounts of three regions.
    let small = done("incremental");
    assert!(small["accounts"] == 2 || small["accounts"] == 1, "{small}");
    assert_eq!(first["trigger"], "demand");
    // Whoever asked had the lists of regions read; the others used them again.
    let lists = sim.take_calls().get("account:ListRegions").copied().unwrap_or(0);
    assert!(lists <= 8 + 2, "{lists} lists of regions for {:?}", list());
}
