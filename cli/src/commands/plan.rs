//! `ringfence plan` and `ringfence approve`

use super::{Context, MESSAGE_MAX, approved_by, is_approved, missing, pages, request_id, scope};
use crate::args::{Plan, Quiesce, Strategy};
use crate::exit::{End, Exit, Failure};
use crate::printer;
use ringfence_proto::v1;
use ringfence_proto::v1::plan_service_client::PlanServiceClient;
use serde::Serialize;

pub(crate) async fn run(context: &Context, command: Plan) -> End {
    let mut client =
        PlanServiceClient::new(context.connection.clone()).max_decoding_message_size(MESSAGE_MAX);
    match command {
        Plan::Create {
            all,
            findings,
            scope: wanted,
            strategy,
            quiesce,
            auto_cutover,
            make_isolation_groups,
            acknowledge_jobs,
            snapshots,
            unproven,
            dry_run,
        } => {
            check(strategy, quiesce, auto_cutover || make_isolation_groups, unproven)?;
            let strategy = match strategy {
                Strategy::SideBySide => "side-by-side",
                Strategy::Swap => "swap",
                Strategy::BlueGreen => "blue-green",
            };
            let quiesce = match quiesce {
                Quiesce::Observe => "observe",
                Quiesce::Isolate => "isolate",
                Quiesce::Stop => "stop",
                Quiesce::Confirm => "confirm",
            };
            let scoped =
                !(wanted.ous.is_empty() && wanted.accounts.is_empty() && wanted.regions.is_empty());
            if !all && findings.is_empty() && !scoped {
                return Err(Failure::new(
                    Exit::Usage,
                    "say what to plan: --all, --finding ID, --ou OU, --account ID or --region REGION",
                ));
            }
            let request = v1::CreatePlanRequest {
                request_id: request_id(),
                validate_only: dry_run,
                findings,
                scope: scope(&wanted),
                strategy: strategy.to_owned(),
                unproven,
                quiesce: quiesce.to_owned(),
                auto_cutover,
                acknowledge_jobs,
                snapshots,
                make_isolation_groups,
            };
            let by_scope = request.findings.is_empty();
            let answer = client.create_plan(request).await;
            // A plan of what was found is no plan of what is there.
            if by_scope {
                super::finding::unseen(context, &wanted).await?;
            }
            let answer = answer?.into_inner();
            let plan = answer.plan.ok_or_else(|| missing("a plan"))?;
            show(context, &plan);
            if answer.left_out > 0 {
                printer::talk(&format!(
                    "{} more in this scope are left out: they have a verified twin or copy already (`ringfence remediation list`)",
                    answer.left_out
                ));
            }
            if dry_run {
                printer::talk("dry run: nothing was stored");
            } else if plan.ready > 0 {
                printer::talk(&format!(
                    "next, by another person: ringfence approve {} --reason ...",
                    plan.id
                ));
            }
            Ok(context.present(plan.ready > 0))
        }
        Plan::Show { id } => {
            let plan = client.get_plan(v1::GetPlanRequest { id }).await?.into_inner().plan;
            show(context, &plan.ok_or_else(|| missing("a plan"))?);
            Ok(Exit::Done)
        }
        Plan::List => {
            let plans = pages!(client, list_plans, v1::ListPlansRequest::default(), plans);
            if context.json() {
                #[derive(Serialize)]
                struct Plans {
                    plans: Vec<v1::Plan>,
                }
                printer::json(&Plans { plans });
                return Ok(Exit::Done);
            }
            let row = |p: &v1::Plan| {
                vec![
                    p.id.clone(),
                    state(p),
                    p.ready.to_string(),
                    p.blocked.to_string(),
                    p.author.clone(),
                    p.created_at.clone(),
                ]
            };
            printer::table(
                &["ID", "STATE", "TO ENCRYPT", "BLOCKED", "AUTHOR", "CREATED"],
                plans.iter().map(row).collect(),
            );
            Ok(Exit::Done)
        }
    }
}

/// Refuses what does not belong to a strategy.
fn check(
    strategy: Strategy,
    quiesce: Quiesce,
    places: bool,
    unproven: bool,
) -> Result<(), Failure> {
    let why = match strategy {
        Strategy::SideBySide if places => {
            "--auto-cutover and --make-isolation-groups are for --strategy swap or blue-green"
        }
        Strategy::SideBySide | Strategy::BlueGreen if quiesce != Quiesce::Observe => {
            "--quiesce is for --strategy swap"
        }
        Strategy::SideBySide | Strategy::Swap if unproven => {
            "--unproven is for --strategy blue-green"
        }
        _ => return Ok(()),
    };
    Err(Failure::new(Exit::Usage, why))
}

fn state(plan: &v1::Plan) -> String {
    plan.state().as_str_name().trim_start_matches("PLAN_STATE_").to_ascii_lowercase()
}

fn show(context: &Context, plan: &v1::Plan) {
    if context.json() {
        printer::json(plan);
        return;
    }
    printer::data(&plan.text);
    let by = approved_by(&plan.approvals);
    printer::data(&format!(
        "\nstate {}; approved by {by}; {} needed",
        state(plan),
        plan.approvals_needed
    ));
}

/// Approves a plan under the hash that it has now, or the one that was read.
pub(crate) async fn approve(
    context: &Context,
    id: String,
    reason: String,
    hash: Option<String>,
) -> End {
    let mut client =
        PlanServiceClient::new(context.connection.clone()).max_decoding_message_size(MESSAGE_MAX);
    let plan = client.get_plan(v1::GetPlanRequest { id: id.clone() }).await?.into_inner().plan;
    let hash = hash.unwrap_or(plan.ok_or_else(|| missing("a plan"))?.hash);
    let request = v1::ApprovePlanRequest { id, reason, hash };
    let plan =
        client.approve_plan(request).await?.into_inner().plan.ok_or_else(|| missing("a plan"))?;
    if context.json() {
        printer::json(&plan);
    } else {
        let p = &plan;
        printer::data(&is_approved(&p.id, &p.approvals, p.approvals_needed, &p.hash));
        printer::talk(&format!("next: ringfence remediation apply {} --wait", plan.id));
    }
    Ok(Exit::Done)
}
