//! `make demo`: the whole job on an organization in moto, watchable, with a summary at the end.

use ringfence_tests::process::Setup;
use ringfence_tests::proxy::{Proxy, Rules};
use ringfence_tests::{Moto, binary};
use serde_json::Value;
use std::process::{Command, Stdio};

const SEED: u32 = 7;

fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    say("Building an organization in moto, an AWS emulator that is not ours (seed 7)");
    let moto = Moto::start();
    let world = moto.build(SEED, &[]);
    let denied: Vec<String> = world["denied"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|d| d.as_str())
        .map(str::to_owned)
        .collect();
    println!(
        "{} accounts, {} OUs, {} regions; a proxy in front denies AssumeRole in {}",
        count(&world["accounts"]),
        count(&world["ous"]),
        count(&world["regions"]),
        denied.join(" and ")
    );
    let rules = Rules { denied, external_id: "ringfence-test".into(), ..Rules::default() };
    let proxy = Proxy::start(moto.port, rules);
    let setup = Setup::new(&proxy.url(), folder.path());
    let _server = setup.start();
    let demo = Demo { setup, folder: folder.path().to_owned() };

    say("1. Is everything there that a first run needs?");
    demo.show("ann", &["doctor"], &[0, 1])?;
    say("2. Read the organization");
    demo.show("ann", &["org", "sync"], &[0])?;
    demo.show("ann", &["org", "tree"], &[0])?;
    say("3. Look into every account and region (3 = partial: two accounts deny us, and we say so)");
    demo.show("ann", &["scan", "start", "--wait"], &[3])?;
    demo.show("ann", &["finding", "list"], &[0])?;
    say("4. Ann plans, Bob approves, Ann applies (3 = some stopped: moto does not encrypt Aurora)");
    let plan = demo.id("ann", &["plan", "create", "--all"])?;
    demo.show("ann", &["plan", "show", &plan], &[0])?;
    demo.show("ann", &["approve", &plan, "--reason", "my own plan"], &[4])?;
    demo.show("bob", &["approve", &plan, "--reason", "CHG-1234"], &[0])?;
    demo.show("ann", &["remediation", "apply", &plan, "--wait"], &[3])?;
    say("5. Fence the OU that is clean, and be refused where it is not");
    let (clean, dirty) = (text(&world["ous"]["sandbox"]), text(&world["ous"]["dev"]));
    let good = demo.rollout("sandbox", clean)?;
    demo.show("bob", &["rollout", "approve", &good, "--reason", "CHG-1235"], &[0])?;
    demo.show("ann", &["rollout", "start", &good, "--wait"], &[0])?;
    let bad = demo.rollout("dev", dirty)?;
    demo.show("bob", &["rollout", "approve", &bad, "--reason", "CHG-1236"], &[0])?;
    demo.show("ann", &["rollout", "start", &bad, "--wait"], &[5])?;
    say("6. What the organization looks like now");
    demo.show("ann", &["scan", "start", "--wait"], &[3])?;
    demo.show("ann", &["status"], &[0])?;
    demo.show("ann", &["audit", "list", "--limit", "12"], &[0])?;
    demo.summary(&plan, &[&good, &bad])
}

fn say(text: &str) {
    println!("\n=== {text}");
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn count(value: &Value) -> usize {
    value.as_array().map_or_else(|| value.as_object().map_or(0, serde_json::Map::len), Vec::len)
}

struct Demo {
    setup: Setup,
    folder: std::path::PathBuf,
}

impl Demo {
    /// Runs a command where it can be watched; its exit code must be one of those.
    fn show(&self, user: &str, args: &[&str], codes: &[i32]) -> anyhow::Result<()> {
        println!("\n{user}$ ringfence {}", args.join(" "));
        let status = Command::new(binary("ringfence"))
            .args(args)
            .env("RINGFENCE_SERVER", format!("127.0.0.1:{}", self.setup.port))
            .env("RINGFENCE_USER", user)
            .stdin(Stdio::null())
            .status()?;
        let code = status.code().unwrap_or(-1);
        println!("[exit {code}]");
        anyhow::ensure!(
            codes.contains(&code),
            "expected exit {codes:?}; the server's log:\n{}",
            self.setup.log()
        );
        Ok(())
    }

    /// Runs a command that makes something, and gives back its id.
    fn id(&self, user: &str, args: &[&str]) -> anyhow::Result<String> {
        println!("\n{user}$ ringfence {}", args.join(" "));
        let ran = self.setup.cli(user).args(&[args, &["-o", "json"]].concat());
        anyhow::ensure!(ran.code == 0, "{}", ran.err);
        let id = text(&ran.json()["id"]).to_owned();
        println!("{id}");
        Ok(id)
    }

    fn rollout(&self, name: &str, target: &str) -> anyhow::Result<String> {
        let file = self.folder.join(format!("{name}.toml"));
        let toml = format!(
            "policy = \"rds-encryption\"\n\n[[stage]]\nname = \"{name}\"\ntargets = [\"{target}\"]\n"
        );
        std::fs::write(&file, &toml)?;
        println!("\n--- {}\n{toml}---", file.display());
        self.id("ann", &["rollout", "plan", "-f", &file.to_string_lossy()])
    }

    fn summary(&self, plan: &str, rollouts: &[&str]) -> anyhow::Result<()> {
        let cli = self.setup.cli("ann");
        let status = cli.json("status", 0);
        let findings = &status["findings"];
        say("Summary");
        println!(
            "{} accounts, {} cells; {} answered, {} denied (nothing is known of them)",
            status["org"]["accounts"],
            status["coverage"]["cells"],
            status["coverage"]["clean"].as_u64().unwrap_or(0)
                + status["coverage"]["findings"].as_u64().unwrap_or(0),
            status["coverage"]["denied"],
        );
        println!(
            "{} unencrypted databases found; {} now have a verified, encrypted twin beside them and wait for cutover",
            findings["open"], findings["held_original"]
        );
        println!(
            "plan {plan}: {} verified, {} stopped for a person to look at:",
            status["remediations"]["verified"], status["remediations"]["stopped"]
        );
        let list = cli.json(&format!("remediation list --plan {plan}"), 0);
        for rem in list["remediations"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|r| r["state"] == "stopped")
        {
            println!(
                "  {} {} {}: {}",
                text(&rem["account"]),
                text(&rem["region"]),
                text(&rem["name"]),
                text(&rem["why"])
            );
        }
        for id in rollouts {
            let rollout = cli.json(&format!("rollout status {id}"), 0);
            let target = &rollout["targets"][0];
            println!(
                "rollout {id} on {} ({}): {}, {}",
                text(&target["name"]),
                text(&target["id"]),
                text(&rollout["state"]),
                text(&target["state"])
            );
        }
        println!("No original was touched. Every line above is in `ringfence audit list`.");
        Ok(())
    }
}
