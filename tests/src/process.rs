//! Our own programs as processes.

use crate::{Guard, binary, free_port, until};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// How a server is started; kept, so that it can be started again after a kill.
#[derive(Clone)]
pub struct Setup {
    /// The program.
    pub program: PathBuf,
    /// Its environment, beside the credentials.
    pub environment: BTreeMap<String, String>,
    /// Where it listens.
    pub port: u16,
    /// Where its log goes.
    pub log: PathBuf,
}

impl Setup {
    /// A server on that AWS endpoint, with its store and log in that folder, tuned for an emulator
    /// that answers at once.
    pub fn new(endpoint: &str, folder: &Path) -> Setup {
        let mut setup = Setup {
            program: binary("ringfence-server"),
            environment: BTreeMap::new(),
            port: free_port(),
            log: folder.join("server.log"),
        };
        let store = format!("sqlite://{}", folder.join("ringfence.db").display());
        let listen = format!("127.0.0.1:{}", setup.port);
        for (key, value) in [
            ("AWS_ENDPOINT_URL", endpoint),
            ("AWS_ACCESS_KEY_ID", "management"),
            ("AWS_SECRET_ACCESS_KEY", "x"),
            ("AWS_REGION", "us-east-1"),
            ("RINGFENCE_STORE__URL", &store),
            ("RINGFENCE_SERVER__LISTEN", &listen),
            ("RINGFENCE_AWS__REGIONS", "us-east-1,eu-west-1,eu-central-1"),
            ("RINGFENCE_AWS__EXTERNAL_ID", "ringfence-test"),
            ("RINGFENCE_ROLLOUT__ACCEPT_CONFIGURED_REGIONS", "true"),
            ("RINGFENCE_APPROVALS__ROLLOUT", "1"),
            ("RINGFENCE_REMEDIATION__POLL", "300ms"),
            ("RINGFENCE_REMEDIATION__EXPECT_FOR", "2s"),
            ("RINGFENCE_SERVER__LEASE_FOR", "3s"),
            ("RINGFENCE_LIMITS__STS", "1000"),
            ("RINGFENCE_LIMITS__ORGANIZATIONS_READ", "1000"),
            ("RINGFENCE_LIMITS__ORGANIZATIONS_WRITE", "1000"),
            ("RINGFENCE_LIMITS__ACCOUNT", "1000"),
            ("RINGFENCE_LIMITS__RDS_READ", "1000"),
            ("RINGFENCE_LIMITS__RDS_WRITE", "1000"),
            ("RINGFENCE_LIMITS__KMS_READ", "1000"),
        ] {
            setup.set(key, value);
        }
        setup
    }

    /// Sets a variable of its environment.
    pub fn set(&mut self, key: &str, value: &str) {
        self.environment.insert(key.to_owned(), value.to_owned());
    }

    fn spawn(&self, program: &Path) -> Guard {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .expect("open the log");
        let child = Command::new(program)
            .env_clear()
            .envs(&self.environment)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("start a program of ours");
        Guard(child)
    }

    /// Starts the server, and waits until it listens.
    pub fn start(&self) -> Guard {
        let mut server = self.spawn(&self.program);
        until("the server listens", Duration::from_secs(20), || {
            if let Ok(Some(status)) = server.0.try_wait() {
                panic!("the server ended with {status}: {}", self.log());
            }
            std::net::TcpStream::connect(("127.0.0.1", self.port))
                .map(drop)
                .map_err(|e| e.to_string())
        });
        server
    }

    /// Starts an agent of its own process for this server.
    pub fn start_agent(&self, name: &str) -> Guard {
        self.start_agent_of(name, &format!("http://127.0.0.1:{}", self.port))
    }

    /// The same, which reaches the server by another URL.
    pub fn start_agent_of(&self, name: &str, server: &str) -> Guard {
        let mut setup = self.clone();
        setup.set("RINGFENCE_AGENT__NAME", name);
        setup.set("RINGFENCE_AGENT__SERVER", server);
        setup.spawn(&binary("ringfence-agent"))
    }

    /// Starts the server where it must not come up; gives back what it said.
    pub fn fails(&self) -> String {
        let output = Command::new(&self.program)
            .env_clear()
            .envs(&self.environment)
            .output()
            .expect("start the server");
        assert!(!output.status.success(), "the server should not start");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Runs a command of the server's program, which is not running: its exit code, and what it printed on both.
    pub fn command(&self, args: &[&str]) -> (i32, String) {
        let output = Command::new(&self.program)
            .args(args)
            .env_clear()
            .envs(&self.environment)
            .output()
            .expect("run the server's command");
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&said).into_owned())
    }

    /// Runs `ringfence-server join-token`; what it printed.
    pub fn join_token(&self, args: &[&str]) -> String {
        let output = Command::new(&self.program)
            .arg("join-token")
            .args(args)
            .env_clear()
            .envs(&self.environment)
            .output()
            .expect("run the server's command");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// The log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The command line of a person, for this server.
    pub fn cli(&self, user: &str) -> Cli {
        let server = format!("127.0.0.1:{}", self.port);
        Cli { server, user: user.to_owned(), ca_file: None }
    }
}

/// The command line, as one person.
#[derive(Clone)]
pub struct Cli {
    /// `RINGFENCE_SERVER`
    pub server: String,
    /// `RINGFENCE_USER`
    pub user: String,
    /// `RINGFENCE_CA_FILE`
    pub ca_file: Option<String>,
}

/// What a command did.
#[derive(Debug, Clone)]
pub struct Ran {
    /// Its exit code.
    pub code: i32,
    /// What it printed on stdout.
    pub out: String,
    /// What it printed on stderr.
    pub err: String,
}

impl Ran {
    /// The JSON on stdout.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("no JSON ({e}): {self:?}"))
    }
}

impl Cli {
    /// Runs a command line (words are separated by spaces).
    pub fn run(&self, line: &str) -> Ran {
        self.args(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// Runs a command with these arguments.
    pub fn args(&self, args: &[&str]) -> Ran {
        let output = Command::new(binary("ringfence"))
            .args(args)
            .env("RINGFENCE_SERVER", &self.server)
            .env("RINGFENCE_USER", &self.user)
            .envs(self.ca_file.iter().map(|file| ("RINGFENCE_CA_FILE", file)))
            .output()
            .expect("run the command line");
        Ran {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs a command that must end with `code`; with `-o json`, its document.
    pub fn expect(&self, line: &str, code: i32) -> Ran {
        let ran = self.run(line);
        assert_eq!(ran.code, code, "`ringfence {line}`: {ran:?}");
        ran
    }

    /// A command's document; it must end with `code`.
    pub fn json(&self, line: &str, code: i32) -> Value {
        self.expect(&format!("{line} -o json"), code).json()
    }
}
