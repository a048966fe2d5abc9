//! The commands, one group a file.

mod agent;
mod audit;
mod control;
mod demo;
mod doctor;
mod finding;
mod freeze;
mod junit;
mod key;
mod org;
mod page;
mod plan;
mod probe;
mod propose;
mod rehearse;
mod remediation;
mod rollout;
mod scan;
mod simulate;
mod staging;
mod status;
mod tree;

use crate::args::{Args, Command, Output, Scope};
use crate::client::{Connection, connect};
use crate::exit::{End, Exit, Failure};
use ringfence_domain::time::Span;
use ringfence_proto::v1;

/// The largest answer taken: a plan of some ten thousand databases.
const MESSAGE_MAX: usize = 128 << 20;

/// What every command is given.
pub(crate) struct Context {
    connection: Connection,
    output: Output,
    detailed: bool,
}

impl Context {
    fn json(&self) -> bool {
        self.output == Output::Json
    }

    /// 0, or 2 where something is present and the caller wants to know.
    fn present(&self, present: bool) -> Exit {
        if present && self.detailed { Exit::Present } else { Exit::Done }
    }
}

/// Carries out a command line.
pub(crate) async fn run(args: Args) -> End {
    // Bad files are found before a server is needed.
    let rollout = match &args.command {
        Command::Rollout(
            crate::args::Rollout::Plan { file, .. }
            | crate::args::Rollout::Simulate { file: Some(file), .. },
        ) => Some(rollout::read(file)?),
        _ => None,
    };
    // A rehearsal needs no server: it is what a server can be pointed at; the demo brings its own.
    match &args.command {
        Command::Rehearse(wanted) => return rehearse::run(wanted, args.output).await,
        Command::Demo => return demo::run(args.output).await,
        _ => {}
    }
    let context = Context {
        connection: connect(&args).await?,
        output: args.output,
        detailed: args.detailed_exitcode,
    };
    match args.command {
        Command::Org(command) => org::run(&context, command).await,
        Command::Scan(command) => scan::run(&context, command).await,
        Command::Finding(command) => finding::run(&context, command).await,
        Command::Plan(command) => plan::run(&context, command).await,
        Command::Approve { id, reason, hash } => match id.split('-').next() {
            Some("pl") => plan::approve(&context, id, reason, hash).await,
            Some("kp") => key::approve(&context, id, reason, hash).await,
            Some("ro") => rollout::approve(&context, id, reason, hash).await,
            Some("de") => control::approve(&context, id, reason, hash).await,
            Some("st") => staging::approve(&context, id, reason, hash).await,
            Some("rem") => remediation::approve(&context, id, reason, hash).await,
            _ => Err(Failure::new(
                Exit::Usage,
                format!(
                    "`{id}` is neither a plan (pl-...) nor a key plan (kp-...), a rollout (ro-...), a staging (st-...), a deployment (de-...) or a remediation (rem-...)"
                ),
            )),
        },
        Command::Remediation(command) => remediation::run(&context, command).await,
        Command::Key(command) => key::run(&context, command).await,
        Command::Rollout(command) => rollout::run(&context, command, rollout).await,
        Command::Freeze(command) => freeze::run(&context, command).await,
        Command::Staging(command) => staging::run(&context, command).await,
        Command::Status { scope } => status::run(&context, scope).await,
        Command::Agent(command) => agent::run(&context, command).await,
        Command::Control(command) => control::run(&context, command).await,
        Command::Audit(command) => audit::run(&context, command).await,
        Command::Doctor { sample } => doctor::run(&context, sample).await,
        Command::Rehearse(_) | Command::Demo => {
            unreachable!("handled before a server is asked for")
        }
    }
}

fn texts<T: ToString>(ids: &[T]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

/// Who approved, and why.
fn approved_by(approvals: &[v1::Approval]) -> String {
    let by: Vec<String> = approvals.iter().map(|a| format!("{} ({})", a.by, a.reason)).collect();
    if by.is_empty() { "nobody".to_owned() } else { by.join(", ") }
}

/// How many approvals something has, under which hash.
fn is_approved(id: &str, approvals: &[v1::Approval], needed: i32, hash: &str) -> String {
    format!("{id} is approved ({} of {needed}), hash {hash}", approvals.len())
}

/// So many people, in words.
fn people(count: i32) -> String {
    match count {
        1 => "a person".to_owned(),
        n => format!("{n} people"),
    }
}

fn scope(scope: &Scope) -> Option<v1::Scope> {
    Some(v1::Scope {
        ous: texts(&scope.ous),
        accounts: texts(&scope.accounts),
        regions: texts(&scope.regions),
    })
}

/// A fresh id, so that a request that is sent twice is done once (AIP-155).
fn request_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

fn missing(what: &str) -> Failure {
    Failure::new(Exit::Error, format!("the server answered without {what}"))
}

/// Reads all pages of a list.
macro_rules! pages {
    ($client:expr, $call:ident, $request:expr, $field:ident) => {{
        let mut all = Vec::new();
        let asked = $request;
        let mut page_token = String::new();
        loop {
            let mut request = asked.clone();
            request.page_size = 1_000;
            request.page_token.clone_from(&page_token);
            let answer = $client.$call(request).await?.into_inner();
            all.extend(answer.$field);
            if answer.next_page_token.is_empty() {
                break all;
            }
            page_token = answer.next_page_token;
        }
    }};
}
pub(crate) use pages;

/// Waits for something, at most that long.
async fn within<T>(
    timeout: Option<Span>,
    what: &str,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let Some(span) = timeout else {
        return work.await;
    };
    match tokio::time::timeout(span.to_duration(), work).await {
        Ok(done) => done,
        Err(_) => Err(Failure::new(
            Exit::Timeout,
            format!("{what} did not end within {span}; it goes on at the server"),
        )),
    }
}
