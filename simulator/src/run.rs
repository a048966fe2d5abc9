//! The program: its command line, and the two doors.

use crate::front::{Clock, Simulator};
use crate::generate::{self, Shape};
use crate::inventory::Inventory;
use crate::settings::Settings;
use crate::throttle::{self, Limit};
use crate::value::Time;
use crate::world::World;
use crate::{admin, front};
use anyhow::{Context, bail};
use clap::Parser;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use tokio::net::TcpListener;

/// An AWS organization in memory behind AWS's own protocols.
///
/// Point any AWS SDK at it with AWS_ENDPOINT_URL; any access key is the management account's.
/// Nothing is stored: when it ends, the organization is gone.
#[derive(Parser, Debug, Clone)]
#[command(version)]
pub struct Args {
    /// Where AWS's API listens; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:5077", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// Where the admin door listens, on loopback only.
    #[arg(long, value_name = "ADDR")]
    pub admin_listen: Option<SocketAddr>,
    /// Accounts to generate, the management account included.
    #[arg(long, default_value_t = 26)]
    pub accounts: u32,
    /// Regions that are on by default, 1 to 17.
    #[arg(long, default_value_t = 3)]
    pub regions: usize,
    /// Opt-in regions; each account has turned on about a third.
    #[arg(long, default_value_t = 0)]
    pub opt_in: usize,
    /// The share of accounts x regions that have databases, 0 to 1.
    #[arg(long, default_value_t = 0.2)]
    pub density: f64,
    /// Cells that have databases have so many DB instances, and nothing else; up to four and a cluster
    /// unless said.
    #[arg(long, value_name = "N", conflicts_with_all = ["empty", "from"])]
    pub instances: Option<u32>,
    /// Every account is active, has the role, and no policy stands against it.
    #[arg(long)]
    pub plain: bool,
    /// One account and no organization yet: build it through the API.
    #[arg(long, conflicts_with_all = ["accounts", "opt_in", "density", "plain", "from"])]
    pub empty: bool,
    /// Rehearse an organization that `ringfence org export` wrote.
    #[arg(long, value_name = "ORG.json", conflicts_with_all = ["accounts", "regions", "opt_in", "density", "plain"])]
    pub from: Option<PathBuf>,
    /// Seed of everything that looks random.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How much faster than in AWS states change.
    #[arg(long, default_value_t = 60.0)]
    pub time_scale: f64,
    /// Throttles: `aws` (realistic), `none`, or a TOML file of [[limit]] entries.
    #[arg(long, default_value = "aws", value_name = "aws|none|FILE")]
    pub limits: String,
    /// More settings, as a TOML file; its keys are those of GET /settings at the admin door.
    #[arg(long, value_name = "FILE")]
    pub settings: Option<PathBuf>,
    /// The role that stands in every member account.
    #[arg(long, default_value = "RingfenceRemediation")]
    pub role: String,
    /// The external id that the role wants.
    #[arg(long, default_value = "")]
    pub external_id: String,
    /// Write the ground truth to this file, after the start.
    #[arg(long, value_name = "FILE")]
    pub truth: Option<PathBuf>,
    /// A clock that stands until the admin door advances it.
    #[arg(long)]
    pub manual_clock: bool,
    /// Threads that answer.
    #[arg(long, default_value_t = 2)]
    pub threads: usize,
}

impl Args {
    /// A rehearsal of that inventory, with everything else as by default.
    pub fn of_inventory(from: &Path) -> Args {
        let from = from.as_os_str();
        Args::parse_from([std::ffi::OsStr::new("rehearse"), "--from".as_ref(), from])
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsFile {
    limit: Vec<Limit>,
}

fn file(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

fn settings(args: &Args) -> anyhow::Result<Settings> {
    let mut settings = match &args.settings {
        Some(path) => {
            let place = || format!("the settings in {}", path.display());
            let table: toml::Table = file(path)?.parse().with_context(place)?;
            for (key, flag) in [
                ("seed", "--seed"),
                ("time_scale", "--time-scale"),
                ("role", "--role"),
                ("external_id", "--external-id"),
            ] {
                if table.contains_key(key) {
                    bail!("{}: {key} is given by {flag}", place());
                }
            }
            table.try_into().with_context(place)?
        }
        None => Settings::default(),
    };
    settings.seed = args.seed;
    settings.time_scale = args.time_scale;
    settings.role.clone_from(&args.role);
    settings.external_id.clone_from(&args.external_id);
    settings.check().map_err(anyhow::Error::msg)?;
    Ok(settings)
}

/// Builds the world that the arguments ask for.
///
/// # Errors
/// Names the argument or the file that makes no sense.
pub fn world(args: &Args) -> anyhow::Result<World> {
    let settings = settings(args)?;
    let mut world = if args.empty {
        let regions = crate::regions::DEFAULT.iter().take(args.regions.clamp(1, 17)).copied();
        World::new(settings, regions.collect())
    } else if let Some(path) = &args.from {
        let inventory = Inventory::parse(&file(path)?).map_err(anyhow::Error::msg)?;
        generate::rehearse(settings, &inventory).map_err(anyhow::Error::msg)?
    } else {
        let shape = Shape {
            accounts: args.accounts,
            regions: args.regions,
            opt_in: args.opt_in,
            density: args.density,
            instances: args.instances,
            plain: args.plain,
        };
        generate::generate(settings, &shape).map_err(anyhow::Error::msg)?
    };
    let limits = match args.limits.as_str() {
        "aws" => throttle::aws(),
        "none" => Vec::new(),
        path => {
            let path = Path::new(path);
            let limits: LimitsFile = toml::from_str(&file(path)?)
                .with_context(|| format!("the limits in {}", path.display()))?;
            limits.limit
        }
    };
    world.throttle.set(limits).map_err(anyhow::Error::msg)?;
    Ok(world)
}

/// A simulator that listens; it ends with its handle.
pub struct Running {
    /// The world behind the doors.
    pub simulator: Arc<Simulator>,
    /// Where AWS's API listens.
    pub address: SocketAddr,
    /// Where the admin door listens.
    pub admin: SocketAddr,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Running {
    /// How many accounts and regions there are.
    pub fn size(&self) -> (usize, usize) {
        let world = self.simulator.world();
        (world.account_ids().len(), world.regions().len())
    }

    /// Writes the ground truth: into a file beside it first, so that a reader never sees half of it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_truth(&self, path: &Path) -> anyhow::Result<()> {
        let partial = path.with_extension("partial");
        let write = || {
            let mut out = std::io::BufWriter::new(std::fs::File::create(&partial)?);
            self.simulator.write_truth(&mut out)?;
            std::fs::rename(&partial, path)
        };
        write().with_context(|| format!("write {}", path.display()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Opens the doors.
///
/// # Errors
/// When an address cannot be listened on, or the admin door's is not loopback.
pub fn start(args: &Args) -> anyhow::Result<Running> {
    let admin_at = args.admin_listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
    if !admin_at.ip().is_loopback() {
        bail!(
            "--admin-listen {admin_at}: the admin door is for loopback only, for example 127.0.0.1:5078"
        );
    }
    // 2026-01-01; a clock by hand must not depend on the day of the run.
    let clock =
        if args.manual_clock { Clock::by_hand(Time(1_767_225_600_000)) } else { Clock::real() };
    let simulator = Simulator::new(world(args)?, clock);
    // Bound before there is a runtime: whoever starts it may be inside a runtime of their own, where
    // another one must not be dropped on the way out of an error.
    let listen = |at: SocketAddr| {
        let bound = std::net::TcpListener::bind(at)
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
        bound.with_context(|| format!("listen on {at}"))
    };
    let (aws_door, admin_door) = (listen(args.listen)?, listen(admin_at)?);
    let (address, admin) = (aws_door.local_addr()?, admin_door.local_addr()?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(args.threads.clamp(1, 64))
        .enable_all()
        .build()
        .context("start the runtime")?;
    // From here on the handle owns the runtime, and ends it without waiting.
    let running = Running { simulator, address, admin, runtime: Some(runtime) };
    let runtime = running.runtime.as_ref().context("the runtime")?;
    let inside = runtime.enter();
    let (aws_door, admin_door) =
        (TcpListener::from_std(aws_door)?, TcpListener::from_std(admin_door)?);
    drop(inside);
    runtime.spawn(front::serve(running.simulator.clone(), aws_door));
    runtime.spawn(admin::serve(running.simulator.clone(), admin_door));
    Ok(running)
}

/// Opens the doors, says where they are, and waits for the end.
///
/// # Errors
/// As [`start`], and when the truth cannot be written.
pub fn serve(args: &Args) -> anyhow::Result<()> {
    let running = start(args)?;
    let mut out = std::io::stdout();
    let (accounts, regions) = running.size();
    writeln!(
        out,
        "ready: AWS at http://{} admin at http://{} ({accounts} accounts, {regions} regions, seed {})",
        running.address, running.admin, args.seed
    )?;
    out.flush()?;
    if let Some(path) = &args.truth {
        running.write_truth(path)?;
        writeln!(out, "truth: {}", path.display())?;
        out.flush()?;
    }
    let runtime = running.runtime.as_ref().context("the runtime")?;
    runtime.block_on(tokio::signal::ctrl_c()).context("wait for the end")?;
    Ok(())
}

/// What the program does.
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let usage = error.use_stderr();
            let _ = error.print();
            return ExitCode::from(if usage { 64 } else { 0 });
        }
    };
    match serve(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
