//! What tests, demo and bench share: moto and a proxy in front of it, the simulator, a private
//! PostgreSQL, and our own programs as processes. Nothing here is part of the product.
#![expect(
    clippy::disallowed_methods,
    reason = "test code reads clock and environment, and waits for processes"
)]

pub mod campaign;
pub mod emulator;
pub mod fanout;
pub mod load;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod rollout;
pub mod scale;
pub mod storeload;

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// The workspace's folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// A program of ours, built beside this one.
pub fn binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("our own path");
    let found = own.ancestors().map(|dir| dir.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is not built: cargo build --release --workspace"))
}

/// The Python of the venv that the make targets create.
pub fn python() -> PathBuf {
    let path = root().join(".venv/bin/python");
    assert!(path.exists(), "{} is missing: run `make venv`", path.display());
    path
}

/// A port that nobody listens on just now. Below the range that the kernel takes ports for port 0 from
/// (ip(7): 32768 and up), for between our look and our program's bind another would get it.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 10_000 + (std::process::id() % 100) as u16 * 200;
    loop {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed) % 200;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Looks until it holds, at most that long; what was seen last is in the panic.
pub fn until<T: std::fmt::Debug>(
    what: &str,
    max: Duration,
    mut look: impl FnMut() -> Result<T, String>,
) -> T {
    let end = Instant::now() + max;
    loop {
        match look() {
            Ok(seen) => return seen,
            Err(last) if Instant::now() > end => {
                panic!("{what}: not within {max:?}; last seen: {last}")
            }
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// A process that is killed when its handle goes.
pub struct Guard(pub Child);

impl Guard {
    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// Asks it to end (SIGTERM).
    pub fn terminate(&mut self) {
        let id = self.0.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &id]).status();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A moto server of our own.
pub struct Moto {
    /// Its process.
    pub process: Guard,
    /// Where it listens.
    pub port: u16,
}

impl Moto {
    /// Starts it, and waits until it answers.
    pub fn start() -> Moto {
        let port = free_port();
        let child = Command::new(python())
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start moto");
        let moto = Moto { process: Guard(child), port };
        until("moto listens", Duration::from_secs(60), || {
            std::net::TcpStream::connect(("127.0.0.1", port)).map(drop).map_err(|e| e.to_string())
        });
        moto
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// Runs one of the Python scripts against that AWS endpoint; what it printed, as JSON.
pub fn script(name: &str, url: &str, args: &[&str]) -> Value {
    let output = Command::new(python())
        .arg(root().join("tests/python").join(name))
        .arg(url)
        .args(args)
        .output()
        .expect("run Python");
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON from the script")
}
