//! `ringfence rollout simulate`

use super::rollout::{Client, Read, get};
use super::{Context, missing, within};
use crate::exit::{End, Exit, Failure};
use crate::printer::{self, Progress};
use flate2::read::MultiGzDecoder;
use ringfence_domain::history;
use ringfence_domain::iam::document::Policy;
use ringfence_domain::scp;
use ringfence_domain::time::Span;
use ringfence_proto::v1;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// How many kinds of calls are shown to people; JSON has all.
const SHOWN: usize = 40;

/// What is asked for.
pub(super) struct Ask {
    pub(super) id: Option<String>,
    pub(super) read: Option<Read>,
    pub(super) since: Span,
    pub(super) fresh: bool,
    pub(super) events: Option<PathBuf>,
}

pub(super) async fn run(
    context: &Context,
    mut client: Client,
    ask: Ask,
    timeout: Option<Span>,
) -> End {
    let mut request = v1::SimulateRolloutRequest {
        id: ask.id.clone().unwrap_or_default(),
        span_seconds: ask.since.0 / 1_000,
        fresh: ask.fresh,
        ..v1::SimulateRolloutRequest::default()
    };
    if let Some(read) = &ask.read {
        request.stages = read.stages();
        request.parameters = read.parameters();
        request.policy.clone_from(&read.policy);
        request.policy_document.clone_from(&read.document);
    }
    if let Some(path) = &ask.events {
        let document = match (&ask.read, &ask.id) {
            (Some(read), _) if read.document.is_empty() => {
                // Waivers are the server's to know: which calls are looked for is the same with them.
                scp::rds_encryption(&read.parameters, &BTreeSet::new())
                    .map_err(|e| Failure::new(Exit::Error, e))?
            }
            (Some(read), _) => read.document.clone(),
            (None, id) => {
                let id = id.clone().unwrap_or_default();
                get(&mut client, id).await?.policy_document
            }
        };
        request.calls_json = calls(path, &document)?;
    }
    let simulation = simulated(client, request, timeout).await?;
    if context.json() {
        printer::json(&simulation);
    } else {
        show(&simulation);
    }
    Ok(exit(context, &simulation))
}

/// Waits for what comes of it, and says meanwhile how far it is.
pub(super) async fn simulated(
    mut client: Client,
    request: v1::SimulateRolloutRequest,
    timeout: Option<Span>,
) -> Result<v1::Simulation, Failure> {
    let mut progress = Progress::new();
    let answered = async {
        let mut stream = client.simulate_rollout(request).await?.into_inner();
        while let Some(answer) = stream.message().await? {
            progress.show(answer.accounts_done, answer.accounts, "accounts read");
            if let Some(simulation) = answer.simulation {
                return Ok(simulation);
            }
        }
        Err(missing("a simulation"))
    };
    within(timeout, "the simulation", answered).await
}

/// Calls from a file, as the server takes them.
fn calls(path: &Path, document: &str) -> Result<String, Failure> {
    let fail = |why: String| Failure::new(Exit::Error, format!("{}: {why}", path.display()));
    let text = text(path).map_err(|e| fail(e.to_string()))?;
    let policy = Policy::parse(document).map_err(fail)?;
    let calls = history::import(&text, &history::lookups(&policy)).map_err(fail)?;
    serde_json::to_string(&calls).map_err(|e| fail(e.to_string()))
}

/// A file's text; trails write theirs compressed.
fn text(path: &Path) -> std::io::Result<String> {
    let bytes = std::fs::read(path)?;
    let mut text = String::new();
    match bytes.starts_with(&[0x1f, 0x8b]) {
        true => MultiGzDecoder::new(bytes.as_slice()).read_to_string(&mut text)?,
        false => bytes.as_slice().read_to_string(&mut text)?,
    };
    Ok(text)
}

fn exit(context: &Context, simulation: &v1::Simulation) -> Exit {
    if !simulation.refusals.is_empty() {
        return Exit::Refused;
    }
    if !(simulation.unread.is_empty() && simulation.overflowed.is_empty()) {
        return Exit::Partial;
    }
    match context.detailed && !simulation.calls.is_empty() {
        true => Exit::Present,
        false => Exit::Done,
    }
}

fn show(s: &v1::Simulation) {
    let counts = s.counts.unwrap_or_default();
    printer::data(&format!(
        "{} on {} accounts, calls from {} to {}: {}",
        s.policy_name,
        counts.accounts,
        s.from,
        s.until,
        s.lookups.join(", ")
    ));
    for refusal in &s.refusals {
        printer::data(&format!("! cannot be rolled out: {refusal}"));
    }
    for warning in &s.warnings {
        printer::data(&format!("! {warning}"));
    }
    if !s.calls.is_empty() {
        calls_table(s);
        printer::data("");
        printer::table(
            &["OU", "PRINCIPAL", "DENIED", "UNKNOWN", "LAST"],
            by_ou(s).into_iter().take(SHOWN).collect(),
        );
    }
    printer::data("");
    printer::table(
        &["WAY TO MAKE A DATABASE", "UNENCRYPTED", "ENCRYPTED", "DENIED FOR NOTHING", ""],
        coverage(s),
    );
    printer::data("");
    printer::data(&format!(
        "calls: {}; {} let through, {} would have been denied, {} cannot be told, {} were denied already; {} more by principals that SCPs do not bind",
        counts.calls,
        counts.allowed,
        counts.denied,
        counts.unknown,
        counts.denied_before,
        counts.unbound
    ));
    unread(s);
}

fn calls_table(s: &v1::Simulation) {
    let row = |c: &v1::SimulatedCalls| {
        let asked: Vec<String> = c.keys.iter().map(|(k, v)| format!("{k}={v}")).collect();
        vec![
            c.verdict.clone(),
            c.count.to_string(),
            c.last.clone(),
            c.stage.clone(),
            format!("{} {}", c.account, c.account_name),
            c.region.clone(),
            c.action.clone(),
            c.principal.clone(),
            c.statements.join(", "),
            asked.join(" "),
        ]
    };
    printer::data("");
    printer::table(
        &[
            "WOULD BE",
            "COUNT",
            "LAST",
            "STAGE",
            "ACCOUNT",
            "REGION",
            "ACTION",
            "PRINCIPAL",
            "BY",
            "ASKED FOR",
        ],
        s.calls.iter().take(SHOWN).map(row).collect(),
    );
    if s.calls.len() > SHOWN {
        printer::data(&format!(
            "and {} more kinds of calls: -o json has all",
            s.calls.len() - SHOWN
        ));
    }
}

/// Who would have been denied how often, by OU; the most first.
pub(super) fn by_ou(s: &v1::Simulation) -> Vec<Vec<String>> {
    let mut all: BTreeMap<(&str, &str), (i64, i64, &str)> = BTreeMap::new();
    for call in &s.calls {
        let (denied, unknown, last) = all.entry((&call.ou, &call.principal)).or_default();
        match call.verdict.as_str() {
            "denied" => *denied += call.count,
            _ => *unknown += call.count,
        }
        *last = call.last.as_str().max(*last);
    }
    let mut rows: Vec<_> = all.into_iter().collect();
    rows.sort_by_key(|(_, (denied, unknown, _))| std::cmp::Reverse((*denied, *unknown)));
    let row = |((ou, who), (denied, unknown, last)): ((&str, &str), (i64, i64, &str))| {
        let text = [ou, who].map(str::to_owned);
        let counts = [denied.to_string(), unknown.to_string(), last.to_owned()];
        text.into_iter().chain(counts).collect()
    };
    rows.into_iter().map(row).collect()
}

fn coverage(s: &v1::Simulation) -> Vec<Vec<String>> {
    let row = |c: &v1::CoveredPath| {
        let encrypted = if c.encrypted.is_empty() { "-" } else { &c.encrypted };
        let nothing = if c.for_nothing.is_empty() { "-" } else { &c.for_nothing };
        vec![
            c.path.clone(),
            c.unencrypted.clone(),
            encrypted.to_owned(),
            nothing.to_owned(),
            c.note.clone(),
        ]
    };
    s.coverage.iter().map(row).collect()
}

/// Silence is no proof: what was not read is said last, where it is not overlooked.
fn unread(s: &v1::Simulation) {
    for account in &s.overflowed {
        printer::data(&format!(
            "! {account} has more kinds of calls than are kept: some were not looked at"
        ));
    }
    let mut by_why: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for part in &s.unread {
        let place = format!("{} {}", part.account, part.region);
        by_why.entry(&part.why).or_default().push(place.trim_end().to_owned());
    }
    for (why, places) in by_why {
        let more = match places.len().saturating_sub(5) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let named = places.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
        printer::data(&format!("! not read, so nothing is known of it: {named}{more}: {why}"));
    }
}
