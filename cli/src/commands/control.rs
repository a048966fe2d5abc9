//! `ringfence control`

use super::{Context, MESSAGE_MAX, approved_by, missing, pages, request_id, texts};
use crate::args::Control;
use crate::exit::{End, Exit};
use crate::printer;
use ringfence_proto::v1;
use ringfence_proto::v1::control_service_client::ControlServiceClient;
use serde::Serialize;
use std::collections::BTreeMap;

/// Accounts of one failure that are named on screen; JSON has all.
const ACCOUNTS_MAX: usize = 5;

type Client = ControlServiceClient<crate::client::Connection>;

fn client(context: &Context) -> Client {
    ControlServiceClient::new(context.connection.clone()).max_decoding_message_size(MESSAGE_MAX)
}

pub(crate) async fn run(context: &Context, command: Control) -> End {
    let mut client = client(context);
    match command {
        Control::Deploy { control, config_rule: _, regions, excluded, dry_run } => {
            let request = v1::PlanDeploymentRequest {
                request_id: request_id(),
                validate_only: dry_run,
                control,
                regions: texts(&regions),
                excluded_accounts: texts(&excluded),
            };
            let made = client.plan_deployment(request).await?.into_inner().deployment;
            let made = made.ok_or_else(|| missing("a deployment"))?;
            show(context, &made);
            if dry_run {
                printer::talk("dry run: nothing was stored");
            } else if made.acting == 0 {
                printer::talk("nothing is to be done, so nothing was stored");
            } else {
                let id = &made.id;
                printer::talk(&format!(
                    "next, by another person: ringfence approve {id} --reason ..., then: ringfence control apply {id}"
                ));
            }
            Ok(context.present(made.acting > 0))
        }
        Control::Apply { id, dry_run } => {
            let request = v1::ApplyDeploymentRequest { id, validate_only: dry_run };
            let done = client.apply_deployment(request).await?.into_inner().deployment;
            let done = done.ok_or_else(|| missing("a deployment"))?;
            applied(context, &done, dry_run);
            Ok(if done.failed > 0 { Exit::Partial } else { Exit::Done })
        }
        Control::Show { id } => {
            let found = client.get_deployment(v1::GetDeploymentRequest { id }).await?;
            let found = found.into_inner().deployment.ok_or_else(|| missing("a deployment"))?;
            show(context, &found);
            Ok(Exit::Done)
        }
        Control::List => list(context, client).await,
        Control::Check { control, regions } => {
            let request = v1::CheckControlRequest { control, regions: texts(&regions) };
            Ok(check(context, client.check_control(request).await?.into_inner()))
        }
    }
}

fn show(context: &Context, deployment: &v1::Deployment) {
    if context.json() {
        printer::json(deployment);
        return;
    }
    printer::data(&deployment.text);
    let by = approved_by(&deployment.approvals);
    printer::data(&format!(
        "state {}; approved by {by}; {} needed",
        deployment.state, deployment.approvals_needed
    ));
}

fn applied(context: &Context, done: &v1::Deployment, dry_run: bool) {
    if context.json() {
        printer::json(done);
        return;
    }
    if dry_run {
        printer::data(&format!("dry run: {} may be applied, nothing was changed", done.id));
        return;
    }
    let put = done.items.iter().filter(|i| i.outcome == "put").count();
    printer::data(&format!("{} {}: {put} of {} rules put", done.id, done.state, done.acting));
    for item in done.items.iter().filter(|i| i.outcome == "failed") {
        printer::data(&format!("! {} in {}: {}", item.name, item.region, item.reason));
    }
    if done.failed > 0 {
        printer::talk(&format!("try the rest again: ringfence control apply {}", done.id));
    } else {
        printer::talk(&format!(
            "AWS deploys it to the accounts now: ringfence control check {}",
            done.control
        ));
    }
}

async fn list(context: &Context, mut client: Client) -> End {
    let all = pages!(client, list_deployments, v1::ListDeploymentsRequest::default(), deployments);
    if context.json() {
        #[derive(Serialize)]
        struct Deployments {
            deployments: Vec<v1::Deployment>,
        }
        printer::json(&Deployments { deployments: all });
        return Ok(Exit::Done);
    }
    let row = |d: &v1::Deployment| {
        vec![
            d.id.clone(),
            d.state.clone(),
            d.control.clone(),
            d.acting.to_string(),
            d.failed.to_string(),
            d.author.clone(),
            d.created_at.clone(),
        ]
    };
    let header = ["ID", "STATE", "CONTROL", "TO PUT", "FAILED", "AUTHOR", "CREATED"];
    printer::table(&header, all.iter().map(row).collect());
    Ok(Exit::Done)
}

/// A number of accounts; `-` where there is no rule, and so none to count.
fn number(rule: &v1::RuleStatus, n: i32) -> String {
    if rule.name.is_empty() { "-".to_owned() } else { n.to_string() }
}

/// How the rules stand. 3 where one is missing, not in place, or an account does not have it.
fn check(context: &Context, answer: v1::CheckControlResponse) -> Exit {
    let all_well = answer.rules.iter().all(|r| r.well);
    if context.json() {
        printer::json(&answer);
        return if all_well { Exit::Done } else { Exit::Partial };
    }
    let row = |r: &v1::RuleStatus| {
        vec![
            r.region.clone(),
            r.rule.clone(),
            r.name.clone(),
            r.status.clone(),
            number(r, r.accounts),
            number(r, i32::try_from(r.failed.len()).unwrap_or(i32::MAX)),
            number(r, r.excluded_accounts),
        ]
    };
    let header = ["REGION", "RULE", "NAME", "STATUS", "ACCOUNTS WITH IT", "WITHOUT", "LEFT OUT"];
    printer::table(&header, answer.rules.iter().map(row).collect());
    let mut groups: BTreeMap<(&str, &str), BTreeMap<&str, usize>> = BTreeMap::new();
    for rule in &answer.rules {
        for failure in &rule.failed {
            let group = groups.entry((&failure.status, &failure.reason)).or_default();
            *group.entry(failure.account.as_str()).or_default() += 1;
        }
    }
    for ((status, reason), accounts) in groups {
        let some: Vec<&str> = accounts.keys().take(ACCOUNTS_MAX).copied().collect();
        let more = match accounts.len() - some.len() {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        printer::data(&format!("! {status} in {}{more}: {reason}", some.join(", ")));
    }
    let reasons = answer.rules.iter().filter(|r| r.status != "absent" && !r.reason.is_empty());
    for rule in reasons {
        printer::data(&format!("! {} in {}: {}", rule.rule, rule.region, rule.reason));
    }
    if all_well { Exit::Done } else { Exit::Partial }
}

/// Approves a deployment under the hash that it has now, or the one that was read.
pub(crate) async fn approve(
    context: &Context,
    id: String,
    reason: String,
    hash: Option<String>,
) -> End {
    let mut client = client(context);
    let found = client.get_deployment(v1::GetDeploymentRequest { id: id.clone() }).await?;
    let found = found.into_inner().deployment.ok_or_else(|| missing("a deployment"))?;
    let hash = hash.unwrap_or(found.hash);
    let request = v1::ApproveDeploymentRequest { id, reason, hash };
    let done = client.approve_deployment(request).await?.into_inner().deployment;
    let done = done.ok_or_else(|| missing("a deployment"))?;
    if context.json() {
        printer::json(&done);
    } else {
        let (have, needed) = (done.approvals.len(), done.approvals_needed);
        printer::data(&format!("{}: {have} of {needed} approvals, hash {}", done.id, done.hash));
        if done.state == "approved" {
            printer::talk(&format!("next: ringfence control apply {}", done.id));
        }
    }
    Ok(Exit::Done)
}
