//! A rollout over a large organization, measured: time, calls, CPU, memory.

use crate::emulator::Sim;
use crate::process::Setup;
use crate::scale::{cpu, peak};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// OUs right under the root.
const DIVISIONS: usize = 20;

/// What it took.
#[derive(Debug, Clone)]
pub struct Took {
    /// Targets.
    pub targets: usize,
    /// From the start to the last attachment.
    pub wall: Duration,
    /// The same of taking it all back.
    pub back: Duration,
    /// CPU of the server, both.
    pub cpu: Duration,
    /// The most memory that the server had, in MiB.
    pub memory: f64,
    /// Calls to Organizations from the start to the last attachment, by operation.
    pub calls: BTreeMap<String, u64>,
    /// The same of taking it all back.
    pub back_calls: BTreeMap<String, u64>,
}

/// An SCP on every OU of an organization with so many accounts and OUs, the leaves first; and off again. AWS grants
/// everything, so that what is measured is ours.
pub fn run(accounts: usize, ous: usize, seed: u32) -> Took {
    let seed = seed.to_string();
    let all = u32::try_from(accounts + 1).expect("so many");
    let sim = Sim::plain(all, 1, 0.0, &["--threads", "1", "--seed", &seed]);
    {
        let mut world = sim.inside().world();
        (world.settings.organizations_busy_ms, world.settings.scp_delay_ms) = (0, 0);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let mut setup = Setup::new(&sim.url(), folder.path());
    for (key, value) in [
        ("AWS__REGIONS", ""),
        ("AWS__EXTERNAL_ID", ""),
        ("SERVER__LEASE_FOR", "45s"),
        ("LIMITS__ORGANIZATIONS_READ", "100000"),
        ("LIMITS__ORGANIZATIONS_WRITE", "100000"),
        ("LIMITS__ACCOUNT", "1000"),
        ("LIMITS__STS", "100000"),
    ] {
        setup.set(&format!("RINGFENCE_{key}"), value);
    }
    let server = setup.start();
    let (ann, bob) = (setup.cli("ann"), setup.cli("bob"));
    ann.expect("org sync", 0);
    let nodes = ann.json("org tree", 0)["nodes"].as_array().cloned().expect("nodes");
    let targets = regroup(&sim, &nodes, ous);
    ann.expect("org sync", 0);
    ann.expect("scan start --wait --timeout 10m", 0);
    let mut toml = "policy = \"rds-encryption\"\n".to_owned();
    for (n, some) in targets.chunks(targets.len().div_ceil(4)).enumerate() {
        toml.push_str(&format!("[[stage]]\nname = \"wave-{n}\"\ntargets = {}\n", json!(some)));
    }
    let file = folder.path().join("rollout.toml");
    std::fs::write(&file, toml).expect("write the file");
    let plan = ann.json(&format!("rollout plan -f {}", file.display()), 0);
    let id = plan["id"].as_str().expect("an id").to_owned();
    bob.expect(&format!("approve {id} --reason CHG-1"), 0);
    let before = cpu(server.0.id());
    drop(sim.take_calls());
    let begin = Instant::now();
    ann.expect(&format!("rollout start {id} --wait --timeout 60m"), 0);
    let (wall, calls) = (begin.elapsed(), sim.take_calls());
    let begin = Instant::now();
    ann.expect(&format!("rollout abort {id} --wait --timeout 60m"), 0);
    let (back, back_calls) = (begin.elapsed(), sim.take_calls());
    let ours = |calls: BTreeMap<String, u64>| {
        calls.into_iter().filter(|(name, _)| name.starts_with("organizations:")).collect()
    };
    Took {
        targets: targets.len(),
        wall,
        back,
        cpu: cpu(server.0.id()).saturating_sub(before),
        memory: peak(server.0.id()),
        calls: ours(calls),
        back_calls: ours(back_calls),
    }
}

/// So many OUs, and every account in one of the leaves. The OUs, leaves first.
fn regroup(sim: &Sim, nodes: &[Value], ous: usize) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let management = nodes.iter().find(|n| n["management"] == true).expect("management");
    let call = |operation: &str, params: Value| {
        sim.change(json!({"call": {"account": management["id"], "region": "us-east-1",
            "service": "organizations", "operation": operation, "params": params}}))
    };
    let root = nodes.iter().find(|n| n["kind"] == "root").expect("a root");
    let there = nodes.iter().filter(|n| n["kind"] == "ou").count();
    let ou = |parent: &str, name: String| {
        let made = call("CreateOrganizationalUnit", json!({"ParentId": parent, "Name": name}));
        text(&made["OrganizationalUnit"]["Id"])
    };
    // AWS allows 2,000 OUs, those that are there among them.
    let ours = ous.min(2_000 - there);
    let tops: Vec<String> =
        (0..DIVISIONS).map(|n| ou(&text(&root["id"]), format!("division-{n}"))).collect();
    let leaves: Vec<String> =
        (0..ours - DIVISIONS).map(|n| ou(&tops[n % DIVISIONS], format!("unit-{n}"))).collect();
    let members = nodes.iter().filter(|n| n["kind"] == "account" && n["management"] != true);
    for (n, account) in members.enumerate() {
        call(
            "MoveAccount",
            json!({"AccountId": account["id"], "SourceParentId": account["parent"],
                "DestinationParentId": leaves[n % leaves.len()]}),
        );
    }
    leaves.into_iter().chain(tops).collect()
}
