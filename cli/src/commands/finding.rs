//! `ringfence finding`

use super::{Context, MESSAGE_MAX, missing, pages, scope};
use crate::args::{Finding, FindingKind, FindingState};
use crate::client::Connection;
use crate::exit::{End, Exit};
use crate::printer;
use ringfence_proto::v1;
use ringfence_proto::v1::finding_service_client::FindingServiceClient;
use ringfence_proto::v1::status_service_client::StatusServiceClient;
use serde::Serialize;

pub(crate) async fn run(context: &Context, command: Finding) -> End {
    let mut client = FindingServiceClient::new(context.connection.clone())
        .max_decoding_message_size(MESSAGE_MAX);
    match command {
        Finding::List { scope: wanted, all, kinds, states } => {
            let request = v1::ListFindingsRequest {
                scope: scope(&wanted),
                include_resolved: all || states.contains(&FindingState::Resolved),
                ..Default::default()
            };
            let mut findings = pages!(client, list_findings, request, findings);
            findings.retain(|f| kinds.is_empty() || kinds.contains(&kind(f)));
            findings.retain(|f| states.is_empty() || states.contains(&state(f)));
            let present = findings.iter().any(|f| f.state() == v1::FindingState::Open);
            if context.json() {
                #[derive(Serialize)]
                struct Findings {
                    findings: Vec<v1::Finding>,
                }
                printer::json(&Findings { findings });
            } else {
                let header = [
                    "ID",
                    "ACCOUNT",
                    "REGION",
                    "KIND",
                    "NAME",
                    "ENGINE",
                    "STATE",
                    "CONFIG",
                    "FIRST SEEN",
                    "GROUP",
                ];
                printer::table(&header, findings.iter().map(row).collect());
                unseen(context, &wanted).await?;
            }
            Ok(context.present(present))
        }
        Finding::Waivers => waivers(context, client).await,
        Finding::Waive { account: Some(account), id: _, reason, until, owner } => {
            let request =
                v1::WaiveAccountRequest { account, owner, reason, until, validate_only: false };
            let answer = client.waive_account(request).await?.into_inner();
            let waiver = answer.waiver.ok_or_else(|| missing("a waiver"))?;
            let until = waiver.waiver.as_ref().map(|w| w.until.as_str()).unwrap_or_default();
            let text = format!(
                "{} is waived until {until}: {} open findings, and what is found there until then; what cannot be read there is no less unknown",
                waiver.account, answer.findings
            );
            match context.json() {
                true => printer::json(&waiver),
                false => printer::data(&text),
            }
            Ok(Exit::Done)
        }
        Finding::Unwaive { account: Some(account), id: _, reason } => {
            let request = v1::UnwaiveAccountRequest {
                account: account.clone(),
                reason,
                validate_only: false,
            };
            let answer = client.unwaive_account(request).await?.into_inner();
            match context.json() {
                true => printer::json(&answer),
                false => printer::data(&format!(
                    "{account} is not waived any more: {} findings count again",
                    answer.findings
                )),
            }
            Ok(Exit::Done)
        }
        Finding::Waive { id, account: None, reason, until, owner } => {
            let id = id.unwrap_or_default();
            let request =
                v1::WaiveFindingRequest { id, owner, reason, until, validate_only: false };
            let finding = client
                .waive_finding(request)
                .await?
                .into_inner()
                .finding
                .ok_or_else(|| missing("a finding"))?;
            let until = finding.waiver.as_ref().map(|w| w.until.clone()).unwrap_or_default();
            say(context, &finding, &format!("{} is waived until {until}", finding.id));
            Ok(Exit::Done)
        }
        Finding::Unwaive { id, account: None, reason } => {
            let id = id.unwrap_or_default();
            let request = v1::UnwaiveFindingRequest { id, reason, validate_only: false };
            let finding = client
                .unwaive_finding(request)
                .await?
                .into_inner()
                .finding
                .ok_or_else(|| missing("a finding"))?;
            say(context, &finding, &format!("{} counts again", finding.id));
            Ok(Exit::Done)
        }
    }
}

async fn waivers(context: &Context, mut client: FindingServiceClient<Connection>) -> End {
    let request = v1::ListAccountWaiversRequest {};
    let answer = client.list_account_waivers(request).await?.into_inner();
    if context.json() {
        printer::json(&answer);
        return Ok(Exit::Done);
    }
    let row = |w: &v1::AccountWaiver| {
        let of = w.waiver.clone().unwrap_or_default();
        vec![w.account.clone(), of.owner, of.until, of.by, of.reason]
    };
    let rows = answer.waivers.iter().map(row).collect();
    printer::table(&["ACCOUNT", "OWNER", "UNTIL", "BY", "REASON"], rows);
    Ok(Exit::Done)
}

/// Says how much of the scope was not seen: a short list is no proof of anything.
pub(super) async fn unseen(
    context: &Context,
    wanted: &crate::args::Scope,
) -> Result<(), crate::exit::Failure> {
    let mut client =
        StatusServiceClient::new(context.connection.clone()).max_decoding_message_size(MESSAGE_MAX);
    let request = v1::GetStatusRequest { scope: scope(wanted) };
    let coverage = client.get_status(request).await?.into_inner().coverage;
    let count = |state: &str| coverage.get(state).copied().unwrap_or(0);
    let cells = count("cells");
    let unseen = cells - count("clean") - count("findings") - count("region-off");
    if unseen > 0 {
        printer::talk(&format!(
            "{unseen} of {cells} cells were not answered, {} of them never scanned: what is in them is not known (`ringfence scan start` looks; `ringfence status` says why)",
            count("pending")
        ));
    }
    Ok(())
}

fn say(context: &Context, finding: &v1::Finding, text: &str) {
    if context.json() {
        printer::json(finding);
    } else {
        printer::data(text);
    }
}

fn state(f: &v1::Finding) -> FindingState {
    match f.state() {
        v1::FindingState::Resolved => FindingState::Resolved,
        _ if f.waived => FindingState::Waived,
        _ if !f.held_by.is_empty() => FindingState::HeldOriginal,
        _ => FindingState::Open,
    }
}

fn kind(f: &v1::Finding) -> FindingKind {
    match f.kind() {
        v1::ResourceKind::Cluster => FindingKind::Cluster,
        v1::ResourceKind::Snapshot => FindingKind::Snapshot,
        _ => FindingKind::Instance,
    }
}

fn row(f: &v1::Finding) -> Vec<String> {
    let state = match state(f) {
        FindingState::Resolved => "resolved",
        FindingState::Waived => "waived",
        FindingState::HeldOriginal => "held-original",
        FindingState::Open if f.incomplete => "open (cell incomplete)",
        FindingState::Open => "open",
    };
    let kind = match kind(f) {
        FindingKind::Cluster => "cluster",
        FindingKind::Snapshot => "snapshot",
        FindingKind::Instance => "instance",
    };
    vec![
        f.id.clone(),
        f.account.clone(),
        f.region.clone(),
        kind.to_owned(),
        f.name.clone(),
        f.engine.clone(),
        state.to_owned(),
        if f.config.is_empty() { "-".to_owned() } else { f.config.clone() },
        f.first_seen.clone(),
        f.group.clone(),
    ]
}
