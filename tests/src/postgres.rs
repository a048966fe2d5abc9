//! A PostgreSQL of our own: a temporary folder, a free port on loopback, trust. No service is
//! assumed, and nothing of it is left.

use crate::{free_port, until};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;
use tempfile::TempDir;

/// The server; it ends with its handle.
pub struct Postgres {
    folder: TempDir,
    bin: PathBuf,
    address: &'static str,
    port: u16,
}

impl Postgres {
    /// Makes a cluster and starts it.
    ///
    /// # Panics
    /// Without PostgreSQL's programs (`make test` installs them).
    pub fn start() -> Postgres {
        Postgres::at("127.0.0.1", free_port())
    }

    /// Another one on the same port, under the loopback address 127.0.0.2: an original and its twin have one port.
    pub fn twin(&self) -> Postgres {
        Postgres::at("127.0.0.2", self.port)
    }

    fn at(address: &'static str, port: u16) -> Postgres {
        let folder =
            tempfile::Builder::new().prefix("ringfence-pg").tempdir_in("/tmp").expect("a folder");
        let server = Postgres { bin: programs(), address, port, folder };
        if root() {
            // initdb refuses to run as root; postgres must be able to enter the folder.
            let chown =
                Command::new("chown").args(["-R", "postgres"]).arg(server.folder.path()).status();
            assert!(chown.is_ok_and(|s| s.success()), "give the folder to postgres");
        }
        let data = server.folder.path().join("data");
        let data = data.to_str().expect("a path");
        server.run(
            "initdb",
            &[
                "-D",
                data,
                "-A",
                "trust",
                "-U",
                "postgres",
                "-E",
                "UTF8",
                "--no-locale",
                "--no-sync",
            ],
        );
        let options = format!(
            "-p {port} -k {} -c listen_addresses={address}",
            server.folder.path().display()
        );
        let log = server.folder.path().join("log");
        server.run(
            "pg_ctl",
            &["-D", data, "-l", log.to_str().expect("a path"), "-w", "-o", &options, "start"],
        );
        until("PostgreSQL listens", Duration::from_secs(20), || {
            std::net::TcpStream::connect((address, port)).map(drop).map_err(|e| e.to_string())
        });
        server
    }

    /// Its URL, for `store.url`.
    pub fn url(&self) -> String {
        format!("postgres://postgres@{}:{}/postgres", self.address, self.port)
    }

    /// Its address and port.
    pub fn place(&self) -> (&'static str, u16) {
        (self.address, self.port)
    }

    /// Runs these statements in it.
    pub fn sql(&self, statements: &str) {
        self.sql_in("postgres", statements);
    }

    /// Runs these statements in one of its databases.
    pub fn sql_in(&self, database: &str, statements: &str) {
        let port = self.port.to_string();
        let user = ["-U", "postgres", "-d", database, "-v", "ON_ERROR_STOP=1", "-c", statements];
        self.run("psql", &[&["-h", self.address, "-p", &port][..], &user].concat());
    }

    fn command(&self, program: &str, args: &[&str]) -> Output {
        let path = self.bin.join(program);
        let mut command = match root() {
            true => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]).arg(path);
                command
            }
            false => Command::new(path),
        };
        command.args(args).current_dir("/tmp").output().expect("run a PostgreSQL program")
    }

    fn run(&self, program: &str, args: &[&str]) {
        let output = self.command(program, args);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program}: {text}");
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let data = self.folder.path().join("data");
        let _ = self.command(
            "pg_ctl",
            &["-D", data.to_str().unwrap_or_default(), "-m", "immediate", "stop"],
        );
    }
}

/// Whether we are root.
fn root() -> bool {
    let id = Command::new("id").arg("-u").output().map(|o| o.stdout).unwrap_or_default();
    String::from_utf8_lossy(&id).trim() == "0"
}

/// The folder of the newest PostgreSQL installed.
fn programs() -> PathBuf {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|dir| dir.flatten().map(|e| e.path().join("bin")).filter(|p| usable(p)).collect())
        .unwrap_or_default();
    versions.sort();
    versions.pop().expect("PostgreSQL is not installed: run `make postgres`")
}

fn usable(bin: &Path) -> bool {
    bin.join("initdb").exists()
}
