//! `ringfence staging`

use super::rollout::{rests, state_name};
use super::{
    Context, MESSAGE_MAX, approved_by, is_approved, missing, pages, people, request_id, texts,
    within,
};
use crate::args::Staging;
use crate::client::Connection;
use crate::exit::{End, Exit};
use crate::printer;
use ringfence_domain::time::Span;
use ringfence_proto::v1;
use ringfence_proto::v1::staging_service_client::StagingServiceClient;
use serde::Serialize;

type Client = StagingServiceClient<Connection>;

fn client(context: &Context) -> Client {
    Client::new(context.connection.clone()).max_decoding_message_size(MESSAGE_MAX)
}

pub(crate) async fn run(context: &Context, command: Staging) -> End {
    let mut client = client(context);
    match command {
        Staging::Plan { ou, account, batch, stay, allow_control_tower, dry_run } => {
            let request = v1::PlanStagingRequest {
                request_id: request_id(),
                validate_only: dry_run,
                ou: ou.to_string(),
                accounts: texts(&account),
                batch,
                stay_seconds: stay.0 / 1_000,
                allow_control_tower,
            };
            plan(context, client, request).await
        }
        Staging::Start { id, wait, timeout } => {
            let answer = client.start_staging(v1::StartStagingRequest { id }).await?.into_inner();
            follow(context, client, answer.staging, (wait, timeout), true).await
        }
        Staging::Status { id } => {
            let answer = client.get_staging(v1::GetStagingRequest { id }).await?.into_inner();
            show(context, answer.staging)
        }
        Staging::Pause { id, reason } => {
            let request = v1::PauseStagingRequest { id, reason };
            show(context, client.pause_staging(request).await?.into_inner().staging)
        }
        Staging::Resume { id, reason, wait, timeout } => {
            let request = v1::ResumeStagingRequest { id, reason };
            let answer = client.resume_staging(request).await?.into_inner();
            follow(context, client, answer.staging, (wait, timeout), true).await
        }
        Staging::Abort { id, reason, wait, timeout } => {
            let request = v1::AbortStagingRequest { id, reason };
            let answer = client.abort_staging(request).await?.into_inner();
            follow(context, client, answer.staging, (wait, timeout), false).await
        }
        Staging::List => list(context, client).await,
    }
}

async fn plan(context: &Context, mut client: Client, request: v1::PlanStagingRequest) -> End {
    let dry = request.validate_only;
    let answer = client.plan_staging(request).await?.into_inner();
    for warning in &answer.warnings {
        printer::talk(&format!("warning: {warning}"));
    }
    let staging = answer.staging.ok_or_else(|| missing("a staging"))?;
    let next = match dry {
        true => "dry run: nothing was stored".to_owned(),
        false => format!(
            "next, by {} other than {}: ringfence approve {} --reason ...",
            people(staging.approvals_needed),
            staging.author,
            staging.id
        ),
    };
    show(context, Some(staging))?;
    printer::talk(&next);
    Ok(Exit::Done)
}

/// Approves under the hash that it has now, or the one that was read.
pub(crate) async fn approve(
    context: &Context,
    id: String,
    reason: String,
    hash: Option<String>,
) -> End {
    let mut client = client(context);
    let now = client.get_staging(v1::GetStagingRequest { id: id.clone() }).await?.into_inner();
    let hash = hash.unwrap_or(now.staging.ok_or_else(|| missing("a staging"))?.hash);
    let request = v1::ApproveStagingRequest { id, reason, hash };
    let staging = client.approve_staging(request).await?.into_inner().staging;
    let staging = staging.ok_or_else(|| missing("a staging"))?;
    match context.json() {
        true => printer::json(&staging),
        false => {
            let s = &staging;
            printer::data(&is_approved(&s.id, &s.approvals, s.approvals_needed, &s.hash));
        }
    }
    Ok(Exit::Done)
}

async fn list(context: &Context, mut client: Client) -> End {
    let stagings = pages!(client, list_stagings, v1::ListStagingsRequest::default(), stagings);
    if context.json() {
        #[derive(Serialize)]
        struct Stagings {
            stagings: Vec<v1::Staging>,
        }
        printer::json(&Stagings { stagings });
        return Ok(Exit::Done);
    }
    let row = |s: &v1::Staging| {
        let away =
            s.visits.iter().filter(|v| !["at home", "back", "gone"].contains(&v.state.as_str()));
        let back = s.visits.iter().filter(|v| v.state == "back").count();
        vec![
            s.id.clone(),
            state(s),
            format!("{} of {}", away.count(), s.visits.len()),
            back.to_string(),
            s.ou.clone(),
            s.author.clone(),
            s.created_at.clone(),
        ]
    };
    printer::table(
        &["ID", "STATE", "AWAY", "BACK", "OU", "AUTHOR", "CREATED"],
        stagings.iter().map(row).collect(),
    );
    Ok(Exit::Done)
}

fn state(staging: &v1::Staging) -> String {
    state_name(staging.state())
}

async fn follow(
    context: &Context,
    mut client: Client,
    staging: Option<v1::Staging>,
    (wait, timeout): (bool, Option<Span>),
    forward: bool,
) -> End {
    let staging = staging.ok_or_else(|| missing("a staging"))?;
    if !wait {
        return show(context, Some(staging));
    }
    let id = staging.id.clone();
    let watched = async {
        let request = v1::WatchStagingRequest { id: id.clone() };
        let mut stream = client.watch_staging(request).await?.into_inner();
        let (mut last, mut told) = (staging, String::new());
        while let Some(answer) = stream.message().await? {
            last = answer.staging.ok_or_else(|| missing("a staging"))?;
            let back = last.visits.iter().filter(|v| v.state == "back").count();
            let why = last.why.first().map_or(String::new(), |why| format!("; {why}"));
            let line = format!("{id} {}: {back} of {} back{why}", state(&last), last.visits.len());
            if line != told {
                printer::talk(&line);
                told = line;
            }
        }
        Ok(last)
    };
    let staging = within(timeout, &format!("staging {id}"), watched).await?;
    let exit = match staging.state() {
        // It did harm, or somebody called it off.
        v1::RolloutState::Aborted if forward => Exit::Failed,
        state => rests(state),
    };
    show(context, Some(staging))?;
    Ok(exit)
}

fn show(context: &Context, staging: Option<v1::Staging>) -> End {
    let s = staging.ok_or_else(|| missing("a staging"))?;
    if context.json() {
        printer::json(&s);
        return Ok(Exit::Done);
    }
    let stay = Span(s.stay_seconds.saturating_mul(1_000));
    printer::data(&format!(
        "{}  {} at a time to {} ({}) for {stay}  {}",
        s.id,
        s.batch,
        s.ou_name,
        s.ou,
        state(&s)
    ));
    s.why.iter().for_each(|why| printer::data(&format!("! {why}")));
    let row = |v: &v1::StagingVisit| {
        vec![
            v.account.clone(),
            v.account_name.clone(),
            v.origin.clone(),
            v.state.clone(),
            v.arrived_at.clone(),
            v.returned_at.clone(),
        ]
    };
    printer::table(
        &["ACCOUNT", "NAME", "HOME", "STATE", "ARRIVED", "BACK"],
        s.visits.iter().map(row).collect(),
    );
    if s.differences.is_empty() {
        printer::data("the same policies and StackSets are theirs there as at home");
    }
    for d in &s.differences {
        let list = |what: &str, names: &[String]| match names {
            [] => String::new(),
            names => format!("; {what} {}", names.join(", ")),
        };
        printer::data(&format!(
            "from {}, {}{}{}",
            d.origin,
            d.policy_type,
            list("not there:", &d.loses),
            list("there alone:", &d.gets)
        ));
    }
    if !s.last_at.is_empty() {
        printer::data(&format!("last {} {}: {}", s.last_at, s.last_health, s.last_said));
    }
    printer::data(&format!(
        "by {}; approved by {}; {} needed; hash {}",
        s.author,
        approved_by(&s.approvals),
        s.approvals_needed,
        s.hash
    ));
    Ok(Exit::Done)
}
