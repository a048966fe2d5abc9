//! `ringfence rollout`

use super::{
    Context, MESSAGE_MAX, approved_by, is_approved, junit, missing, page, pages, people, probe,
    propose, request_id, simulate, tree, within,
};
use crate::args::Rollout;
use crate::client::Connection;
use crate::exit::{End, Exit, Failure};
use crate::printer;
use ringfence_domain::rollout as file;
use ringfence_domain::scp::{self, Parameters};
use ringfence_domain::time::Span;
use ringfence_proto::v1;
use ringfence_proto::v1::rollout_service_client::RolloutServiceClient;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::Path;

pub(super) type Client = RolloutServiceClient<Connection>;

/// A rollout file with the policy that it names.
pub(crate) struct Read {
    pub(super) policy: String,
    pub(super) document: String,
    pub(super) parameters: Parameters,
    expected_denials: Vec<String>,
    replaces: String,
    probe: bool,
    windows: Vec<String>,
    time_zone: String,
    stages: Vec<file::Stage>,
}

impl Read {
    pub(super) fn stages(&self) -> Vec<v1::RolloutStage> {
        let stage = |s: &file::Stage| v1::RolloutStage {
            name: s.name.clone(),
            targets: s.targets.iter().map(ToString::to_string).collect(),
            bake_seconds: s.bake.0 / 1_000,
            observations: i32::try_from(s.observations).unwrap_or(i32::MAX),
            probe_account: s.probe.as_ref().map(|p| p.account.to_string()).unwrap_or_default(),
            probe_region: s.probe.as_ref().map(|p| p.region.to_string()).unwrap_or_default(),
            calls: i32::try_from(s.calls).unwrap_or(i32::MAX),
            approvals: i32::try_from(s.approvals).unwrap_or(i32::MAX),
            max_accounts: i32::try_from(s.max_accounts).unwrap_or(i32::MAX),
        };
        self.stages.iter().map(stage).collect()
    }

    pub(super) fn parameters(&self) -> Option<v1::PolicyParameters> {
        let Parameters { exempt_engines, break_glass, exempt_waived, restore_denied_tag } =
            self.parameters.clone();
        Some(v1::PolicyParameters {
            exempt_engines,
            break_glass,
            exempt_waived,
            restore_denied_tag,
        })
    }
}

/// Reads and checks a rollout file and, if it names one, the policy document beside it.
pub(crate) fn read(path: &Path) -> Result<Read, Failure> {
    let fail = |message: String| Failure::new(Exit::Error, message);
    let text =
        std::fs::read_to_string(path).map_err(|e| fail(format!("read {}: {e}", path.display())))?;
    let (parsed, stages) =
        file::parse(&text).map_err(|e| fail(format!("{}: {e}", path.display())))?;
    let own = parsed.policy == file::BUILT_IN;
    let mut read = Read {
        policy: parsed.policy,
        document: String::new(),
        parameters: parsed.parameters,
        expected_denials: parsed.expected_denials,
        replaces: parsed.replaces,
        probe: parsed.probe,
        windows: parsed.windows,
        time_zone: parsed.time_zone,
        stages,
    };
    if own {
        scp::rds_encryption(&read.parameters, &BTreeSet::new())
            .map_err(|e| fail(format!("{}: {e}", path.display())))?;
        return Ok(read);
    }
    let policy = path.parent().unwrap_or(Path::new("")).join(&read.policy);
    let document = std::fs::read_to_string(&policy).map_err(|e| {
        fail(format!(
            "{}: policy = \"{}\" is neither rds-encryption nor a file that can be read ({}: {e})",
            path.display(),
            read.policy,
            policy.display()
        ))
    })?;
    scp::lint(&document).map_err(|e| fail(format!("{}: {}", policy.display(), scp::said(&e))))?;
    read.policy = policy.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    read.document = document;
    Ok(read)
}

pub(crate) async fn run(context: &Context, command: Rollout, read: Option<Read>) -> End {
    let mut client = Client::new(context.connection.clone()).max_decoding_message_size(MESSAGE_MAX);
    match command {
        Rollout::Plan { file: _, allow_root, dry_run } => {
            let read = read.ok_or_else(|| missing("a file"))?;
            plan(context, client, read, allow_root, dry_run).await
        }
        Rollout::Simulate { id, file: _, since, fresh, events, timeout } => {
            let ask = simulate::Ask { id, read, since, fresh, events };
            simulate::run(context, client, ask, timeout).await
        }
        Rollout::Page { id, no_history, timeout } => {
            page::run(context, client, id, no_history, timeout).await
        }
        Rollout::Probe { account, region, timeout } => {
            probe::run(context, client, (account, region), timeout).await
        }
        Rollout::Approve { id, reason, hash } => approve(context, id, reason, hash).await,
        Rollout::Start { id, wait, timeout } => {
            let rollout =
                client.start_rollout(v1::StartRolloutRequest { id }).await?.into_inner().rollout;
            follow(context, client, rollout, (wait, timeout), Goal::Complete).await
        }
        Rollout::Status { id, watch: true, .. } => watch(context, client, id).await,
        Rollout::Status { id, junit: as_junit, .. } => {
            let rollout = get(&mut client, id).await?;
            if as_junit {
                printer::data(&junit::report(&rollout)?);
                return Ok(Exit::Done);
            }
            shown(context, Some(rollout))
        }
        Rollout::Propose {
            policy,
            canaries,
            large,
            percents,
            max_accounts,
            bake,
            environment_tag,
        } => {
            let bake_seconds = bake.0 / 1_000;
            let request = v1::ProposeRolloutRequest {
                canaries,
                large,
                percents,
                max_accounts,
                bake_seconds,
                environment_tag,
            };
            propose::run(context, client, policy, request).await
        }
        Rollout::List => list(context, client).await,
        Rollout::Pause { id, reason } => {
            let rollout = client
                .pause_rollout(v1::PauseRolloutRequest { id, reason })
                .await?
                .into_inner()
                .rollout;
            shown(context, rollout)
        }
        Rollout::Resume { id, reason, wait, timeout } => {
            let rollout = client
                .resume_rollout(v1::ResumeRolloutRequest { id, reason })
                .await?
                .into_inner()
                .rollout;
            follow(context, client, rollout, (wait, timeout), Goal::Complete).await
        }
        Rollout::Promote { id, reason } => {
            let next = format!("next: ringfence rollout resume {id}");
            let request = v1::PromoteRolloutRequest { id, reason };
            let rollout = client.promote_rollout(request).await?.into_inner().rollout;
            use v1::RolloutState::{Blocked, Paused};
            if rollout.as_ref().is_some_and(|r| matches!(r.state(), Blocked | Paused)) {
                printer::talk(&next);
            }
            shown(context, rollout)
        }
        Rollout::Skip { id, target, reason } => {
            let next = format!("next: ringfence rollout resume {id}");
            let request = v1::SkipRolloutTargetRequest { id, target, reason };
            let rollout = client.skip_rollout_target(request).await?.into_inner().rollout;
            printer::talk(&next);
            shown(context, rollout)
        }
        Rollout::Retry { id, target, reason } => {
            let request = v1::RetryRolloutTargetRequest { id, target, reason };
            shown(context, client.retry_rollout_target(request).await?.into_inner().rollout)
        }
        Rollout::Undo { id, to, reason, wait, timeout } => {
            let to = to.unwrap_or_default();
            let request = v1::UndoRolloutRequest { id, reason, to: to.clone() };
            let rollout = client.undo_rollout(request).await?.into_inner().rollout;
            follow(context, client, rollout, (wait, timeout), Goal::Back(&to)).await
        }
        Rollout::Abort { id, reason, wait, timeout } => {
            let rollout = client
                .abort_rollout(v1::AbortRolloutRequest { id, reason })
                .await?
                .into_inner()
                .rollout;
            follow(context, client, rollout, (wait, timeout), Goal::Back("")).await
        }
    }
}

async fn plan(
    context: &Context,
    mut client: Client,
    read: Read,
    allow_root: bool,
    dry_run: bool,
) -> End {
    let request = v1::PlanRolloutRequest {
        request_id: request_id(),
        validate_only: dry_run,
        stages: read.stages(),
        parameters: read.parameters(),
        expected_denials: read.expected_denials,
        replaces: read.replaces,
        probe: read.probe,
        windows: read.windows,
        time_zone: read.time_zone,
        policy: read.policy,
        policy_document: read.document,
        allow_root,
    };
    let answer = client.plan_rollout(request).await?.into_inner();
    let rollout = answer.rollout.ok_or_else(|| missing("a rollout"))?;
    for warning in &answer.warnings {
        printer::talk(&format!("warning: {warning}"));
    }
    show(context, &rollout);
    match dry_run {
        true => printer::talk("dry run: nothing was stored"),
        false => printer::talk(&format!(
            "next, by {} other than {}: ringfence rollout approve {} --reason ...",
            people(rollout.approvals_needed),
            rollout.author,
            rollout.id
        )),
    }
    Ok(Exit::Done)
}

async fn list(context: &Context, mut client: Client) -> End {
    let rollouts = pages!(client, list_rollouts, v1::ListRolloutsRequest::default(), rollouts);
    if context.json() {
        #[derive(Serialize)]
        struct Rollouts {
            rollouts: Vec<v1::Rollout>,
        }
        printer::json(&Rollouts { rollouts });
        return Ok(Exit::Done);
    }
    let row = |r: &v1::Rollout| {
        let attached = r.targets.iter().filter(|t| tree::attached(t)).count();
        vec![
            r.id.clone(),
            state(r),
            format!("{attached}/{}", r.targets.len()),
            r.policy_name.clone(),
            r.author.clone(),
            r.created_at.clone(),
        ]
    };
    printer::table(
        &["ID", "STATE", "ATTACHED", "POLICY", "AUTHOR", "CREATED"],
        rollouts.iter().map(row).collect(),
    );
    Ok(Exit::Done)
}

/// Approves a rollout under the hash that it has now, or the one that was read.
pub(crate) async fn approve(
    context: &Context,
    id: String,
    reason: String,
    hash: Option<String>,
) -> End {
    let mut client = Client::new(context.connection.clone()).max_decoding_message_size(MESSAGE_MAX);
    let rollout = get(&mut client, id.clone()).await?;
    let hash = hash.unwrap_or(rollout.hash);
    let request = v1::ApproveRolloutRequest { id, reason, hash };
    let rollout = client
        .approve_rollout(request)
        .await?
        .into_inner()
        .rollout
        .ok_or_else(|| missing("a rollout"))?;
    if context.json() {
        printer::json(&rollout);
    } else {
        let r = &rollout;
        printer::data(&is_approved(&r.id, &r.approvals, r.approvals_needed, &r.hash));
        more_approvals(r).iter().for_each(|line| printer::data(line));
    }
    Ok(Exit::Done)
}

/// Stages that want more people than the rollout does.
fn more_approvals(rollout: &v1::Rollout) -> Vec<String> {
    let more = rollout.stages.iter().filter(|s| s.approvals > rollout.approvals_needed);
    let line = |s: &v1::RolloutStage| {
        format!(
            "stage {} wants {} approvals, {} are there",
            s.name,
            s.approvals,
            rollout.approvals.len()
        )
    };
    more.map(line).collect()
}

pub(super) fn state(rollout: &v1::Rollout) -> String {
    state_name(rollout.state())
}

pub(super) fn state_name(state: v1::RolloutState) -> String {
    state.as_str_name().trim_start_matches("ROLLOUT_STATE_").to_ascii_lowercase()
}

/// How a wait ends, by the state in which what was waited for rests.
pub(super) fn rests(state: v1::RolloutState) -> Exit {
    match state {
        v1::RolloutState::Complete | v1::RolloutState::Aborted => Exit::Done,
        v1::RolloutState::Blocked | v1::RolloutState::Paused => Exit::Refused,
        _ => Exit::Failed,
    }
}

/// What is waited for.
#[derive(Clone, Copy, PartialEq)]
enum Goal<'a> {
    /// That it is carried out.
    Complete,
    /// That it is taken back; and then, while earlier versions are undone in their turn, each of those, as far as this one
    /// (empty: none).
    Back(&'a str),
}

async fn follow(
    context: &Context,
    mut client: Client,
    rollout: Option<v1::Rollout>,
    (wait, timeout): (bool, Option<Span>),
    goal: Goal<'_>,
) -> End {
    let rollout = rollout.ok_or_else(|| missing("a rollout"))?;
    if !wait {
        show(context, &rollout);
        return Ok(Exit::Done);
    }
    let what = format!("rollout {}", rollout.id);
    let to = if let Goal::Back(to) = goal { to } else { "" };
    let watched = async {
        let mut last = until_it_rests(&mut client, rollout).await?;
        while let Some(earlier) = last
            .replaces
            .as_ref()
            .filter(|e| !to.is_empty() && e.rollout != to && ended(&last) == Exit::Done)
        {
            let earlier = get(&mut client, earlier.rollout.clone()).await?;
            last = until_it_rests(&mut client, earlier).await?;
        }
        if !to.is_empty() && ended(&last) == Exit::Done {
            last = get(&mut client, to.to_owned()).await?;
        }
        Ok(last)
    };
    let rollout = within(timeout, &what, watched).await?;
    show(context, &rollout);
    Ok(match rollout.state() {
        // It did harm, or somebody took it back meanwhile.
        v1::RolloutState::Aborted if goal == Goal::Complete => Exit::Failed,
        _ => ended(&rollout),
    })
}

/// One rollout.
pub(super) async fn get(client: &mut Client, id: String) -> Result<v1::Rollout, Failure> {
    let answer = client.get_rollout(v1::GetRolloutRequest { id }).await?.into_inner();
    answer.rollout.ok_or_else(|| missing("a rollout"))
}

/// Tells each change, and gives the last one.
async fn until_it_rests(client: &mut Client, rollout: v1::Rollout) -> Result<v1::Rollout, Failure> {
    let request = v1::WatchRolloutRequest { id: rollout.id.clone() };
    let mut stream = client.watch_rollout(request).await?.into_inner();
    let (mut last, mut told) = (rollout, String::new());
    while let Some(answer) = stream.message().await? {
        last = answer.rollout.ok_or_else(|| missing("a rollout"))?;
        let done = last.targets.iter().filter(|t| tree::attached(t)).count();
        let why: String = last.why.iter().map(|why| format!("; {why}")).collect();
        let (id, state, all) = (&last.id, state(&last), last.targets.len());
        let line = format!("{id} {state}: {done} of {all} targets attached{why}");
        if line != told {
            printer::talk(&line);
            told = line;
        }
    }
    Ok(last)
}

/// How a wait for it ends.
fn ended(rollout: &v1::Rollout) -> Exit {
    match rollout.state() {
        // What it took the place of could not be attached again everywhere, or what was detached was not seen to be gone.
        v1::RolloutState::Aborted
            if rollout.replaces.iter().flat_map(|r| &r.targets).any(|t| t.state == "lost")
                || rollout.probes.iter().any(|p| p.state == "not seen to be gone") =>
        {
            Exit::Partial
        }
        state => rests(state),
    }
}

pub(super) fn target_state(target: &v1::RolloutTarget) -> String {
    let name = target.state().as_str_name().trim_start_matches("ROLLOUT_TARGET_STATE_");
    name.to_ascii_lowercase().replace('_', " ")
}

/// Shows what was answered.
fn shown(context: &Context, rollout: Option<v1::Rollout>) -> End {
    show(context, &rollout.ok_or_else(|| missing("a rollout"))?);
    Ok(Exit::Done)
}

/// Shows a rollout at each change; where the screen can be cleared, in one place.
async fn watch(context: &Context, mut client: Client, id: String) -> End {
    let mut stream = client.watch_rollout(v1::WatchRolloutRequest { id }).await?.into_inner();
    let mut last = None;
    while let Some(answer) = stream.message().await? {
        last = answer.rollout;
        if let Some(rollout) = last.as_ref().filter(|_| !context.json()) {
            printer::again();
            show(context, rollout);
        }
    }
    match context.json() {
        true => shown(context, last),
        false => Ok(Exit::Done),
    }
}

fn show(context: &Context, rollout: &v1::Rollout) {
    if context.json() {
        printer::json(rollout);
        return;
    }
    printer::data(&format!("{}  {}  {}", rollout.id, rollout.policy_name, state(rollout)));
    for why in &rollout.why {
        printer::data(&format!("! {why}"));
    }
    tree::lines(rollout).iter().for_each(|line| printer::data(line));
    if let Some(earlier) = &rollout.replaces {
        let of = |state: &str| earlier.targets.iter().filter(|t| t.state == state).count();
        printer::data(&format!(
            "takes the place of {} ({}), which is detached last: {} of {} detached",
            earlier.rollout,
            earlier.policy_id,
            of("detached"),
            earlier.targets.len()
        ));
        earlier.changes.iter().for_each(|change| printer::data(&format!("  {change}")));
    }
    if !rollout.windows.is_empty() {
        let hours = rollout.windows.join(" ");
        printer::data(&format!(
            "only in {hours} ({}); the way back at any hour",
            rollout.time_zone
        ));
    }
    more_approvals(rollout).iter().for_each(|line| printer::data(line));
    for who in &rollout.exempt {
        printer::data(&format!("left alone: {who}"));
    }
    if rollout.state() == v1::RolloutState::Aborted && !rollout.policy_id.is_empty() {
        let policy = &rollout.policy_id;
        printer::data(&format!(
            "{policy} is still in the organization: a plan of the same policy uses it again; to delete it: aws organizations delete-policy --policy-id {policy}"
        ));
    }
    let by = approved_by(&rollout.approvals);
    printer::data(&format!(
        "by {}; approved by {by}; {} needed; hash {}",
        rollout.author, rollout.approvals_needed, rollout.hash
    ));
}
