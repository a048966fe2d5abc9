//! `make demo`: the whole job on a simulated organization, in one process, watchable, with a summary at
//! the end. The simulator and the server run in this process; the commands are the real command line.
#![expect(
    clippy::disallowed_methods,
    reason = "a demo reads its environment and waits for what it starts"
)]

use anyhow::Context;
use ringfence_simulator::faults::Rule;
use ringfence_simulator::run::{self, Running};
use ringfence_simulator::value::Map;
use ringfence_simulator::wire::{Protocol, Request, Service};
use ringfence_tests::{binary, free_port, process::Cli};
use serde_json::{Value, json};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[path = "demo/swap.rs"]
mod swap;

const SEED: &str = "7";
const ENDPOINT: &str = "AWS_ENDPOINT_URL";
const MARK: &str = "RINGFENCE_DEMO";

fn main() -> anyhow::Result<()> {
    // The AWS SDK reads its endpoint from the environment, so the process starts itself anew with one.
    if std::env::var_os(MARK).is_none() {
        let url = format!("http://127.0.0.1:{}", free_port());
        let error =
            Command::new(std::env::current_exe()?)
                .env_clear()
                .envs(std::env::vars().filter(|(name, _)| {
                    !name.starts_with("AWS_") && !name.starts_with("RINGFENCE_")
                }))
                .envs([(MARK, "1"), (ENDPOINT, &url), ("AWS_REGION", "us-east-1")])
                .envs([("AWS_ACCESS_KEY_ID", "management"), ("AWS_SECRET_ACCESS_KEY", "not-used")])
                .exec();
        return Err(error).context("start anew");
    }
    Demo::start()?.run()
}

fn say(text: &str) {
    println!("\n=== {text}");
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The server, in this process, on a runtime of its own.
struct Server(Option<tokio::runtime::Runtime>);

impl Server {
    fn start(folder: &Path, port: u16, isolation: &str) -> anyhow::Result<Server> {
        let environment = [
            ("RINGFENCE_SERVER__LISTEN", format!("127.0.0.1:{port}")),
            ("RINGFENCE_STORE__URL", format!("sqlite://{}", folder.join("ringfence.db").display())),
            // The simulator's restores take seconds, so the server looks more often than in AWS.
            ("RINGFENCE_REMEDIATION__POLL", "300ms".into()),
            ("RINGFENCE_REMEDIATION__EXPECT_FOR", "2s".into()),
            ("RINGFENCE_SERVER__LEASE_FOR", "3s".into()),
            // A simulated minute is short.
            ("RINGFENCE_REMEDIATION__METRIC_PERIOD", "1s".into()),
            ("RINGFENCE_REMEDIATION__QUIET_FOR", "2s".into()),
            ("RINGFENCE_REMEDIATION__HOLD", "0s".into()),
            ("RINGFENCE_REMEDIATION__ISOLATION_GROUPS", isolation.to_owned()),
        ];
        let environment = environment.into_iter().map(|(key, value)| (key.to_owned(), value));
        let config = ringfence_server::config::parse("", environment)?;
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let names = ringfence_agent::Names::exact();
        let (sender, receiver) = std::sync::mpsc::channel();
        runtime.spawn(async move {
            let (ready, never) = (sender.clone(), std::future::pending());
            let told = |_| drop(ready.send(Ok(())));
            if let Err(error) = ringfence_server::run(config, names, told, never).await {
                let _ = sender.send(Err(error));
            }
        });
        receiver.recv_timeout(Duration::from_secs(20)).context("the server does not listen")??;
        Ok(Server(Some(runtime)))
    }

    /// Stops it in the middle of whatever it does: nothing is finished, nothing is handed over. Its
    /// listener is gone when this returns, so that the next one can have the port.
    fn crash(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_timeout(Duration::from_secs(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.crash();
    }
}

struct Demo {
    folder: tempfile::TempDir,
    simulator: Running,
    server: Server,
    port: u16,
    truth: Value,
    place: swap::Place,
    began: Instant,
}

impl Demo {
    fn start() -> anyhow::Result<Demo> {
        let began = Instant::now();
        let folder = tempfile::tempdir()?;
        let log = std::fs::File::create(folder.path().join("server.log"))?;
        tracing_subscriber::fmt().with_writer(std::sync::Mutex::new(log)).with_ansi(false).init();
        let listen = std::env::var(ENDPOINT)?.replace("http://", "");
        let args = [
            "simulator",
            "--listen",
            &listen,
            "--seed",
            SEED,
            "--accounts",
            "26",
            "--regions",
            "3",
            "--opt-in",
            "1",
            "--density",
            "0.35",
            "--time-scale",
            "400",
        ];
        let args = <run::Args as clap::Parser>::try_parse_from(args)?;
        let simulator = run::start(&args)?;
        let mut truth = Vec::new();
        simulator.simulator.write_truth(&mut truth)?;
        let truth: Value = serde_json::from_slice(&truth)?;
        let port = free_port();
        let place = swap::Place::find(&simulator, &truth)?;
        let server = Server::start(folder.path(), port, &place.setting())?;
        Ok(Demo { folder, simulator, server, port, truth, place, began })
    }

    fn run(mut self) -> anyhow::Result<()> {
        println!(
            "A simulated AWS organization: {} accounts, regions {}, seed {SEED}. States change 400 times faster than in AWS.",
            list(&self.truth["accounts"]).len(),
            list(&self.truth["regions"]).iter().map(text).collect::<Vec<_>>().join(", "),
        );
        say("1. Is everything there that a first run needs?");
        self.show("ann", &["doctor"], &[0, 1])?;
        say("2. Read the organization");
        self.show("ann", &["org", "sync"], &[0])?;
        self.show("ann", &["org", "tree"], &[0])?;
        self.scan()?;
        let plan = self.remediate()?;
        self.swap()?;
        let rollouts = self.fence()?;
        say("9. What the organization looks like now");
        self.show("ann", &["scan", "start", "--wait"], &[3])?;
        self.show("ann", &["status"], &[0])?;
        self.show("ann", &["audit", "list", "--limit", "8"], &[0])?;
        self.summary(&plan, &rollouts)
    }

    /// A scan through a throttle storm: every fifth call is refused.
    fn scan(&self) -> anyhow::Result<()> {
        say("3. Look into every account and region, while AWS throttles a fifth of our calls");
        let storm =
            json!({"match": {"service": "rds"}, "times": 0, "chance": 0.2, "effect": "throttle"});
        let rule: Rule = serde_json::from_value(storm)?;
        let id = self.world().faults.add(rule).map_err(anyhow::Error::msg)?;
        // 3 = partial: some accounts and regions deny us, and that is said and not hidden.
        self.show("ann", &["scan", "start", "--wait"], &[3])?;
        let met =
            self.world().faults.list().find(|(n, _, _)| *n == id).map_or(0, |(_, met, _)| met);
        self.world().faults.remove(id);
        println!("{met} calls were throttled; no cell was lost to it. Against the ground truth:");
        let cells = self.cli("ann").json("scan cells", 0);
        let status = self.cli("ann").json("status", 0);
        let expected = |state: &str| {
            list(&self.truth["cells"]).iter().filter(|c| c["expect"] == state).count()
        };
        for state in ["clean", "findings", "region-off", "scp-denied"] {
            let found = list(&cells["cells"]).iter().filter(|c| c["state"] == state).count();
            println!("  {state:<11} truth {:>3}, ledger {found:>3}", expected(state));
            anyhow::ensure!(found == expected(state), "the ledger is not the truth: {status}");
        }
        // A denied account cannot say its regions: the ledger has one cell for all of them, so accounts
        // are what can be compared.
        let accounts = |cells: &Value, field: &str| {
            let denied = list(cells).iter().filter(|c| c[field] == "denied");
            denied.map(|c| text(&c["account"])).collect::<std::collections::BTreeSet<_>>().len()
        };
        let (truth, ledger) =
            (accounts(&self.truth["cells"], "expect"), accounts(&cells["cells"], "state"));
        println!(
            "  denied      truth {truth:>3}, ledger {ledger:>3}  (accounts; their regions are not known)"
        );
        anyhow::ensure!(truth == ledger, "the ledger is not the truth: {status}");
        self.show("ann", &["finding", "list"], &[0])
    }

    /// Plan, approval, work; in the middle of it, a crash.
    fn remediate(&mut self) -> anyhow::Result<String> {
        say("4. Ann plans, Bob approves, Ann applies");
        let plan = self.id("ann", &["plan", "create", "--all"])?;
        self.show("ann", &["plan", "show", &plan], &[0])?;
        self.show("ann", &["approve", &plan, "--reason", "my own plan"], &[4])?;
        self.show("bob", &["approve", &plan, "--reason", "CHG-1234"], &[0])?;
        let hold = json!({"match": {"service": "rds", "operation": "CopyDBSnapshot"}, "effect": "hold-after"});
        self.world().faults.add(serde_json::from_value(hold)?).map_err(anyhow::Error::msg)?;
        self.show("ann", &["remediation", "apply", &plan], &[0])?;
        say("5. The server crashes: AWS has done what it was asked, and the answer never arrives");
        let end = Instant::now() + Duration::from_secs(30);
        let held = loop {
            if let Some(hold) = self.simulator.simulator.held().first() {
                break hold.clone();
            }
            anyhow::ensure!(Instant::now() < end, "no call was held:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        };
        self.server.crash();
        println!(
            "stopped in the middle of {} in {}; starting again on the same store",
            held.call, held.region
        );
        self.server = Server::start(self.folder.path(), self.port, &self.place.setting())?;
        self.show("ann", &["remediation", "list", "--plan", &plan], &[0])?;
        self.wait(&plan)?;
        self.show("ann", &["remediation", "list", "--plan", &plan], &[0])?;
        Ok(plan)
    }

    fn wait(&self, plan: &str) -> anyhow::Result<()> {
        let end = Instant::now() + Duration::from_secs(90);
        loop {
            let all = self.cli("ann").json(&format!("remediation list --plan {plan}"), 0);
            let open = list(&all["remediations"])
                .iter()
                .filter(|r| !["verified", "stopped"].contains(&text(&r["state"])))
                .count();
            if open == 0 {
                return Ok(());
            }
            anyhow::ensure!(
                Instant::now() < end,
                "{open} remediations do not end:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    /// The fence on an account that is clean, refused where it is not, and tried.
    fn fence(&self) -> anyhow::Result<Vec<String>> {
        say("8. Fence an account that is clean, and be refused where it is not");
        let cells = list(&self.truth["cells"]);
        let states = |account: &str| -> Vec<&str> {
            cells.iter().filter(|c| c["account"] == account).map(|c| text(&c["expect"])).collect()
        };
        let members = list(&self.truth["accounts"])
            .iter()
            .filter(|a| a["id"] != self.truth["management_account"]);
        let clean = |a: &&Value| {
            a["state"] == "ACTIVE"
                && states(text(&a["id"])).iter().all(|s| ["clean", "region-off"].contains(s))
        };
        let clean = members.clone().find(clean).context("an account without findings")?;
        let dirty = members.clone().find(|a| states(text(&a["id"])).contains(&"findings"));
        let dirty = dirty.context("an account with findings")?;
        let good = self.rollout("canary", text(&clean["id"]))?;
        for user in ["bob", "eve"] {
            self.show(user, &["rollout", "approve", &good, "--reason", "CHG-1235"], &[0])?;
        }
        self.show("ann", &["rollout", "start", &good, "--wait"], &[0])?;
        let bad = self.rollout("too-early", text(&dirty["id"]))?;
        for user in ["bob", "eve"] {
            self.show(user, &["rollout", "approve", &bad, "--reason", "CHG-1236"], &[0])?;
        }
        self.show("ann", &["rollout", "start", &bad, "--wait"], &[5])?;
        println!("\nA developer of {} ({}) tries it:", text(&clean["name"]), text(&clean["id"]));
        // Until the policy is in force everywhere, which takes AWS a moment.
        std::thread::sleep(Duration::from_millis(1_200));
        let plain = self.create(text(&clean["id"]), "plain", false);
        println!(
            "  CreateDBInstance, unencrypted: {}",
            plain.clone().err().unwrap_or("created".into())
        );
        let safe = self.create(text(&clean["id"]), "safe", true);
        println!(
            "  CreateDBInstance, encrypted:   {}",
            safe.clone().err().unwrap_or("created".into())
        );
        let denied = plain.is_err_and(|e| e.contains("explicit deny in a service control policy"));
        anyhow::ensure!(denied && safe.is_ok(), "the fence does not hold");
        Ok(vec![good, bad])
    }

    /// What an SDK would send for a session in that account, and what the world answers.
    fn create(&self, account: &str, name: &str, encrypted: bool) -> Result<(), String> {
        let request =
            |service, operation: &str, params, (key, token): (&str, Option<String>)| Request {
                protocol: Protocol::Query,
                service,
                region: "us-east-1".into(),
                operation: operation.into(),
                params,
                access_key: key.into(),
                token,
            };
        let send = |request: &Request| {
            let now = self.simulator.simulator.clock.now();
            let outcome = self.world().handle(request, now, None);
            outcome
                .result
                .map_err(|fault| format!("{}: {}", fault.code(request.service).0, fault.message))
        };
        let role = format!("arn:aws:iam::{account}:role/OrganizationAccountAccessRole");
        let params = Map::new().with("RoleArn", role).with("RoleSessionName", "developer");
        let session = send(&request(Service::Sts, "AssumeRole", params, ("developer", None)))?;
        let credentials = session.map("Credentials").cloned().unwrap_or_default();
        let params = Map::new()
            .with("DBInstanceIdentifier", name.to_owned())
            .with("Engine", "postgres")
            .with("DBInstanceClass", "db.m5.large")
            .with("AllocatedStorage", 20)
            .with("MasterUsername", "admin1")
            .with("MasterUserPassword", "not-a-secret-1")
            .with("StorageEncrypted", encrypted);
        let token = credentials.text("SessionToken").map(str::to_owned);
        let who = (credentials.text_or_empty("AccessKeyId"), token);
        send(&request(Service::Rds, "CreateDBInstance", params, who)).map(drop)
    }

    fn world(&self) -> std::sync::MutexGuard<'_, ringfence_simulator::world::World> {
        self.simulator.simulator.world()
    }

    fn cli(&self, user: &str) -> Cli {
        Cli { server: format!("127.0.0.1:{}", self.port), user: user.to_owned(), ca_file: None }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default()
    }

    /// Runs a command where it can be watched; its exit code must be one of those.
    fn show(&self, user: &str, args: &[&str], codes: &[i32]) -> anyhow::Result<()> {
        println!("\n{user}$ ringfence {}", args.join(" "));
        let cli = self.cli(user);
        let status = Command::new(binary("ringfence"))
            .args(args)
            .env("RINGFENCE_SERVER", cli.server)
            .env("RINGFENCE_USER", cli.user)
            .stdin(Stdio::null())
            .status()?;
        let code = status.code().unwrap_or(-1);
        println!("[exit {code}]");
        anyhow::ensure!(
            codes.contains(&code),
            "expected exit {codes:?}; the server's log:\n{}",
            self.log()
        );
        Ok(())
    }

    /// Runs a command that makes something, and gives back its id.
    fn id(&self, user: &str, args: &[&str]) -> anyhow::Result<String> {
        println!("\n{user}$ ringfence {}", args.join(" "));
        let ran = self.cli(user).args(&[args, &["-o", "json"]].concat());
        anyhow::ensure!(ran.code == 0, "{}", ran.err);
        let id = text(&ran.json()["id"]).to_owned();
        println!("{id}");
        Ok(id)
    }

    fn rollout(&self, name: &str, target: &str) -> anyhow::Result<String> {
        let file: PathBuf = self.folder.path().join(format!("{name}.toml"));
        let toml = format!(
            "policy = \"rds-encryption\"\n\n[[stage]]\nname = \"{name}\"\ntargets = [\"{target}\"]\n"
        );
        std::fs::write(&file, &toml)?;
        println!("\n--- {}\n{toml}---", file.display());
        self.id("ann", &["rollout", "plan", "-f", &file.to_string_lossy()])
    }

    fn summary(&self, plan: &str, rollouts: &[String]) -> anyhow::Result<()> {
        let cli = self.cli("ann");
        let status = cli.json("status", 0);
        let findings = &status["findings"];
        let count = |state: &str| status["coverage"][state].as_u64().unwrap_or(0);
        say("Summary");
        println!(
            "{} accounts, {} cells; {} answered, {} denied by accounts and {} by an SCP (nothing is known of them)",
            status["org"]["accounts"],
            count("cells"),
            count("clean") + count("findings"),
            count("denied"),
            count("scp-denied"),
        );
        println!(
            "{} unencrypted databases are left as findings; {} of them have a verified, encrypted twin, beside them or in their place",
            findings["open"], findings["held_original"]
        );
        let all = cli.json(&format!("remediation list --plan {plan}"), 0);
        let all = list(&all["remediations"]);
        let verified = all.iter().filter(|r| r["state"] == "verified").count();
        println!(
            "plan {plan}: {verified} of {} remediations verified, through a throttle storm and a crash",
            all.len()
        );
        anyhow::ensure!(verified == all.len(), "some stopped:\n{}", self.log());
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
        println!(
            "Nothing was deleted but our own scratch. Every line above is in `ringfence audit list`. {} s in all.",
            self.began.elapsed().as_secs()
        );
        Ok(())
    }
}
