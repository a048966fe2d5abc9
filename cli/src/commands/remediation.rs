//! `ringfence remediation`

use super::{Context, MESSAGE_MAX, approved_by, missing, pages, within};
use crate::args::{Order, Remediation};
use crate::client::Connection;
use crate::exit::{End, Exit, Failure};
use crate::printer::{self, Progress};
use ringfence_proto::v1;
use ringfence_proto::v1::remediation_service_client::RemediationServiceClient;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

type Client = RemediationServiceClient<Connection>;

#[derive(Serialize)]
struct Remediations {
    #[serde(skip_serializing_if = "String::is_empty")]
    id: String,
    remediations: Vec<v1::Remediation>,
}

/// An order, and what it changed: the requests have the same fields, and no type in common.
macro_rules! give {
    ($client:ident, $context:ident, $order:ident, $call:ident, $request:ident, $verb:literal) => {{
        let Order { id, reason, dry_run: validate_only } = $order;
        let request = v1::$request { id: id.clone(), reason, validate_only };
        let changed = $client.$call(request).await?.into_inner().remediations;
        changes($context, id, changed, validate_only, $verb)
    }};
}

pub(crate) async fn run(context: &Context, command: Remediation) -> End {
    let mut client = Client::new(context.connection.clone()).max_decoding_message_size(MESSAGE_MAX);
    match command {
        Remediation::Apply { plan, wait, timeout, priority, dry_run } => {
            let request =
                v1::ApplyPlanRequest { plan: plan.clone(), validate_only: dry_run, priority };
            let started = client.apply_plan(request).await?.into_inner().remediations;
            if dry_run {
                list(context, plan, started);
                printer::talk("dry run: the plan still holds; nothing was started");
                return Ok(Exit::Done);
            }
            if !wait {
                list(context, plan.clone(), started);
                printer::talk(&format!("follow them: ringfence remediation list --plan {plan}"));
                return Ok(Exit::Done);
            }
            let ended =
                within(timeout, &format!("plan {plan}"), follow(client, plan.clone())).await?;
            let count = |s| ended.iter().filter(|r| r.state() == s).count();
            // A plan may permit the cutover at once.
            let verified =
                count(v1::RemediationState::Verified) + count(v1::RemediationState::CutOver);
            let paused = count(v1::RemediationState::Paused);
            let all = ended.len();
            list(context, plan.clone(), ended);
            if paused > 0 {
                printer::talk(&format!(
                    "{paused} are paused: ringfence remediation resume {plan} --reason ..."
                ));
            }
            Ok(match all - verified {
                0 => Exit::Done,
                n if n == all => Exit::Failed,
                _ => Exit::Partial,
            })
        }
        Remediation::List { plan, states } => {
            let request = v1::ListRemediationsRequest { plan, ..Default::default() };
            let mut all = pages!(client, list_remediations, request, remediations);
            let wanted = |r: &v1::Remediation| states.iter().any(|s| s.as_str() == state(r));
            all.retain(|r| states.is_empty() || wanted(r));
            list(context, String::new(), all);
            Ok(Exit::Done)
        }
        Remediation::Get { id } => {
            let rem = client
                .get_remediation(v1::GetRemediationRequest { id })
                .await?
                .into_inner()
                .remediation;
            show(context, &rem.ok_or_else(|| missing("a remediation"))?);
            Ok(Exit::Done)
        }
        Remediation::Watch { id } => watch(context, client, id).await,
        Remediation::Pause(order) => {
            give!(client, context, order, pause_remediation, PauseRemediationRequest, "pause")
        }
        Remediation::Resume(order) => {
            give!(client, context, order, resume_remediation, ResumeRemediationRequest, "resume")
        }
        Remediation::Cancel(order) => {
            give!(client, context, order, cancel_remediation, CancelRemediationRequest, "cancel")
        }
        Remediation::Retry(order) => {
            give!(client, context, order, retry_remediation, RetryRemediationRequest, "retry")
        }
        Remediation::Cutover(order) => {
            give!(
                client,
                context,
                order,
                cut_over_remediation,
                CutOverRemediationRequest,
                "cutover"
            )
        }
        Remediation::Rollback(order) => {
            give!(
                client,
                context,
                order,
                roll_back_remediation,
                RollBackRemediationRequest,
                "rollback"
            )
        }
        Remediation::Confirm(order) => {
            give!(client, context, order, confirm_remediation, ConfirmRemediationRequest, "confirm")
        }
        Remediation::Discard(order) => {
            give!(client, context, order, discard_remediation, DiscardRemediationRequest, "discard")
        }
        Remediation::Decommission { id, confirm, reason, dry_run: validate_only } => {
            let request = v1::DecommissionRemediationRequest { id, reason, confirm, validate_only };
            let rem = client.decommission_remediation(request).await?.into_inner().remediation;
            show(context, &rem.ok_or_else(|| missing("a remediation"))?);
            if validate_only {
                printer::talk("dry run: it could be decommissioned; nothing was changed");
            }
            Ok(Exit::Done)
        }
    }
}

/// What an order changed.
fn changes(
    context: &Context,
    id: String,
    changed: Vec<v1::Remediation>,
    dry: bool,
    verb: &str,
) -> End {
    let n = changed.len();
    let switches = verb == "cutover" && changed.iter().any(|r| r.strategy == "blue-green");
    list(context, id, changed);
    if switches {
        printer::talk(
            "there is no way back once AWS has switched over; until then: ringfence remediation rollback",
        );
    }
    if dry {
        printer::talk(&format!("dry run: {verb} would change these {n}; nothing was changed"));
    }
    Ok(Exit::Done)
}

pub(crate) fn state(rem: &v1::Remediation) -> String {
    rem.state().as_str_name().trim_start_matches("REMEDIATION_STATE_").to_ascii_lowercase()
}

fn ended(rem: &v1::Remediation) -> bool {
    match rem.state() {
        v1::RemediationState::Unspecified
        | v1::RemediationState::Pending
        | v1::RemediationState::Running => false,
        v1::RemediationState::Verified
        | v1::RemediationState::Stopped
        | v1::RemediationState::Cancelled
        | v1::RemediationState::CutOver
        | v1::RemediationState::RolledBack
        | v1::RemediationState::Decommissioned
        | v1::RemediationState::Discarded
        // Nothing comes of waiting for what waits for a person.
        | v1::RemediationState::Paused => true,
    }
}

/// Polls the plan's remediations until all have ended, and says what changed.
async fn follow(mut client: Client, plan: String) -> Result<Vec<v1::Remediation>, Failure> {
    let mut progress = Progress::new();
    let mut said: BTreeMap<String, String> = BTreeMap::new();
    loop {
        let request = v1::ListRemediationsRequest { plan: plan.clone(), ..Default::default() };
        let all = pages!(client, list_remediations, request, remediations);
        for rem in &all {
            let text = format!("{} {}", state(rem), rem.why);
            if said.insert(rem.id.clone(), text.clone()).as_ref() != Some(&text) {
                progress.line(&format!(
                    "{} {} {}: {}",
                    rem.account,
                    rem.region,
                    rem.name,
                    text.trim()
                ));
            }
        }
        let done = all.iter().filter(|r| ended(r)).count();
        let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
        let snapshots = all.iter().any(|r| r.kind() == v1::ResourceKind::Snapshot);
        let what = if snapshots { "snapshots" } else { "databases" };
        progress.show(count(done), count(all.len()), what);
        if done == all.len() {
            return Ok(all);
        }
        pause().await;
    }
}

#[expect(clippy::disallowed_methods, reason = "the command line polls")]
async fn pause() {
    tokio::time::sleep(Duration::from_millis(300)).await;
}

fn list(context: &Context, id: String, remediations: Vec<v1::Remediation>) {
    if context.json() {
        printer::json(&Remediations { id, remediations });
        return;
    }
    let row = |r: &v1::Remediation| {
        vec![
            r.id.clone(),
            r.account.clone(),
            r.region.clone(),
            r.name.clone(),
            r.twin.clone(),
            state(r),
            r.why.clone(),
        ]
    };
    printer::table(
        &["ID", "ACCOUNT", "REGION", "NAME", "TWIN", "STATE", "WHY"],
        remediations.iter().map(row).collect(),
    );
}

fn show(context: &Context, rem: &v1::Remediation) {
    if context.json() {
        printer::json(rem);
        return;
    }
    printer::data(&format!("{}  {}  {} {}", rem.id, rem.name, rem.account, rem.region));
    let failure = match rem.failure.as_str() {
        "" => String::new(),
        failure => format!(" ({failure})"),
    };
    printer::data(&format!("state   {}{failure}  {}", state(rem), rem.why));
    let snapshot = rem.kind() == v1::ResourceKind::Snapshot;
    let made = if snapshot { "copy" } else { "twin" };
    printer::data(&format!("{made}    {}", rem.twin));
    printer::data(&format!("key     {}", rem.key_arn));
    for (region, key) in &rem.far_keys {
        printer::data(&format!("        {key} in {region}"));
    }
    printer::data(&format!("plan    {}  approved {}", rem.plan, rem.approved_at));
    if !rem.verified_at.is_empty() {
        printer::data(&format!("verified {}", rem.verified_at));
    }
    if !rem.windows.is_empty() {
        printer::data(&format!("windows {} (UTC)", rem.windows.join(" ")));
    }
    for (what, text) in [
        ("check", &rem.checked),
        ("quiet", &rem.quiet),
        ("proof", &rem.proof),
        ("cut over", &rem.cut_over_at),
    ] {
        if !text.is_empty() {
            printer::data(&format!("{what:<7} {text}"));
        }
    }
    if !rem.note.is_empty() {
        printer::data(&format!("note    {}", rem.note));
    }
    if rem.state() == v1::RemediationState::Stopped {
        let or = match rem.verified_at.is_empty() {
            true => format!("; or ringfence remediation cancel {} --reason ...", rem.id),
            false if rem.strategy == "blue-green" && rem.cut_over_at.is_empty() => {
                format!("; or ringfence remediation discard {} --reason ...", rem.id)
            }
            false => String::new(),
        };
        printer::data(&format!(
            "next    once that is mended: ringfence remediation retry {} --reason ...{or}",
            rem.id
        ));
    }
    if let Some(asked) = &rem.retirement {
        printer::data(&format!("decommission asked for by {} ({})", asked.author, asked.reason));
        printer::data(&format!("  deletes   {}", asked.originals.join(", ")));
        printer::data(&format!("  keeps     {}", asked.twins.join(", ")));
        let by = approved_by(&asked.approvals);
        printer::data(&format!("  approved  by {by}; {} needed", asked.approvals_needed));
        printer::data(&format!("  hash      {}", asked.hash));
    }
    for step in &rem.steps {
        let tries =
            if step.attempts > 1 { format!(" ({} tries)", step.attempts) } else { String::new() };
        printer::data(&format!("  {}  {}{tries}", step.at, step.what));
    }
    // What was asked for under an earlier order is no longer among the steps.
    printer::data(&format!("history ringfence audit list --subject {}", rem.id));
}

async fn watch(context: &Context, mut client: Client, id: String) -> End {
    let mut stream =
        client.watch_remediation(v1::WatchRemediationRequest { id }).await?.into_inner();
    let mut last = None;
    while let Some(answer) = stream.message().await? {
        let rem = answer.remediation.ok_or_else(|| missing("a remediation"))?;
        printer::talk(&format!("{} {}: {} {}", rem.id, rem.name, state(&rem), rem.why));
        last = Some(rem);
    }
    let rem = last.ok_or_else(|| missing("a remediation"))?;
    show(context, &rem);
    Ok(match rem.state() {
        v1::RemediationState::Verified
        | v1::RemediationState::CutOver
        | v1::RemediationState::RolledBack
        | v1::RemediationState::Decommissioned
        | v1::RemediationState::Discarded => Exit::Done,
        _ => Exit::Failed,
    })
}

/// Approves the decommission of a remediation's original, under the hash that it has now, or the one that
/// was read.
pub(crate) async fn approve(
    context: &Context,
    id: String,
    reason: String,
    hash: Option<String>,
) -> End {
    let mut client = Client::new(context.connection.clone()).max_decoding_message_size(MESSAGE_MAX);
    let hash = match hash {
        Some(hash) => hash,
        None => {
            let request = v1::GetRemediationRequest { id: id.clone() };
            let rem = client.get_remediation(request).await?.into_inner().remediation;
            rem.and_then(|r| r.retirement).map(|r| r.hash).unwrap_or_default()
        }
    };
    let request = v1::ApproveDecommissionRequest { id, reason, hash };
    let rem = client.approve_decommission(request).await?.into_inner().remediation;
    let rem = rem.ok_or_else(|| missing("a remediation"))?;
    if context.json() {
        printer::json(&rem);
        return Ok(Exit::Done);
    }
    let asked = rem.retirement.unwrap_or_default();
    printer::data(&format!(
        "the decommission of {} is approved ({} of {}), hash {}",
        asked.originals.join(", "),
        asked.approvals.len(),
        asked.approvals_needed,
        asked.hash
    ));
    printer::talk(&format!(
        "next, once enough have approved: ringfence remediation decommission {} --confirm {} --reason ...",
        rem.id, rem.held
    ));
    Ok(Exit::Done)
}
