//! `ringfence key`

use super::{Context, MESSAGE_MAX, approved_by, missing, pages, request_id, scope, within};
use crate::args::Key;
use crate::exit::{End, Exit, Failure};
use crate::printer;
use ringfence_proto::v1;
use ringfence_proto::v1::key_service_client::KeyServiceClient;
use serde::Serialize;
use std::collections::BTreeSet;
use std::time::Duration;

/// How often a plan that is being applied is looked at.
const LOOK: Duration = Duration::from_secs(1);

type Client = KeyServiceClient<crate::client::Connection>;

fn client(context: &Context) -> Client {
    KeyServiceClient::new(context.connection.clone()).max_decoding_message_size(MESSAGE_MAX)
}

pub(crate) async fn run(context: &Context, command: Key) -> End {
    let mut client = client(context);
    match command {
        Key::Ensure { scope: wanted, everywhere, dry_run } => {
            let request = v1::PlanKeysRequest {
                request_id: request_id(),
                validate_only: dry_run,
                scope: scope(&wanted),
                everywhere,
            };
            let made = client.plan_keys(request).await?.into_inner().plan;
            let made = made.ok_or_else(|| missing("a plan"))?;
            let blocked = made.items.iter().filter(|i| i.change == "blocked").count();
            show(context, &made);
            if made.acting == 0 && blocked > 0 {
                printer::talk(&format!(
                    "nothing that Ringfence can do, so nothing was stored; {blocked} cells want a person"
                ));
            } else if made.acting == 0 {
                printer::talk("nothing is to be done, so nothing was stored");
            } else if dry_run {
                printer::talk("dry run: nothing was stored");
            } else {
                let id = &made.id;
                printer::talk(&format!(
                    "next, by another person: ringfence approve {id} --reason ..., then: ringfence key apply {id}"
                ));
            }
            Ok(context.present(made.acting > 0))
        }
        Key::Apply { id, wait, timeout, dry_run } => {
            let request = v1::ApplyKeyPlanRequest { id: id.clone(), validate_only: dry_run };
            let applied = client.apply_key_plan(request).await?.into_inner().plan;
            let mut plan = applied.ok_or_else(|| missing("a plan"))?;
            if wait && !dry_run {
                let ends =
                    within(timeout, &format!("the work of {id}"), ended(&mut client, &id)).await;
                if ends.is_err() && !context.json() {
                    work(&get(&mut client, &id).await?);
                }
                plan = ends?;
            }
            Ok(applied_to(context, &plan, wait, dry_run))
        }
        Key::Show { id } => {
            show(context, &get(&mut client, &id).await?);
            Ok(Exit::Done)
        }
        Key::Plans => plans(context, client).await,
        Key::List { scope: wanted } => {
            let request = v1::ListKeysRequest { scope: scope(&wanted), ..Default::default() };
            let keys = pages!(client, list_keys, request, keys);
            list(context, keys);
            Ok(Exit::Done)
        }
    }
}

async fn get(client: &mut Client, id: &str) -> Result<v1::KeyPlan, Failure> {
    let found = client.get_key_plan(v1::GetKeyPlanRequest { id: id.to_owned() }).await?;
    found.into_inner().plan.ok_or_else(|| missing("a plan"))
}

/// The plan once nothing of it runs any more.
#[expect(clippy::disallowed_methods, reason = "it is polled")]
async fn ended(client: &mut Client, id: &str) -> Result<v1::KeyPlan, Failure> {
    loop {
        let plan = get(client, id).await?;
        if plan.done + plan.stopped >= plan.acting {
            return Ok(plan);
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn show(context: &Context, plan: &v1::KeyPlan) {
    if context.json() {
        printer::json(plan);
        return;
    }
    printer::data(&plan.text);
    if plan.acting == 0 {
        return;
    }
    let by = approved_by(&plan.approvals);
    printer::data(&format!(
        "state {}; approved by {by}; {} needed",
        plan.state, plan.approvals_needed
    ));
    work(plan);
}

/// How far it is, where it was applied.
fn work(plan: &v1::KeyPlan) {
    if plan.items.iter().all(|i| i.state.is_empty()) {
        return;
    }
    printer::data(&format!("{} of {} keys done, {} stopped", plan.done, plan.acting, plan.stopped));
    for item in plan.items.iter().filter(|i| !i.state.is_empty()) {
        let (mark, said) = match item.state.as_str() {
            "done" => ("+", &item.key_arn),
            "stopped" => ("!", &item.why),
            _ => (".", &item.why),
        };
        printer::data(&format!("{mark} {} {}: {said}", item.account, item.region));
    }
}

/// 6 where all stopped, 3 where some did; without --wait, what is known by now.
fn applied_to(context: &Context, plan: &v1::KeyPlan, wait: bool, dry_run: bool) -> Exit {
    if context.json() {
        printer::json(plan);
    } else if dry_run {
        let left = plan.acting - plan.done;
        printer::data(&format!(
            "dry run: {} may be applied to {left} keys, nothing was changed",
            plan.id
        ));
    } else {
        printer::data(&format!("{} {}", plan.id, plan.state));
        work(plan);
        if !wait && plan.done + plan.stopped < plan.acting {
            printer::talk(&format!("agents work on it: ringfence key show {}", plan.id));
        } else if plan.stopped > 0 {
            printer::talk(&format!(
                "the cells are scanned again; then, as each says: ringfence key apply {} once more, or key ensure anew",
                plan.id
            ));
        } else {
            printer::talk("the cells are scanned again, so that plans of databases see the keys");
        }
    }
    match (wait && !dry_run, plan.stopped) {
        (false, _) | (_, 0) => Exit::Done,
        (true, stopped) if stopped == plan.acting => Exit::Failed,
        (true, _) => Exit::Partial,
    }
}

async fn plans(context: &Context, mut client: Client) -> End {
    let plans = pages!(client, list_key_plans, v1::ListKeyPlansRequest::default(), plans);
    if context.json() {
        #[derive(Serialize)]
        struct Plans {
            plans: Vec<v1::KeyPlan>,
        }
        printer::json(&Plans { plans });
        return Ok(Exit::Done);
    }
    let row = |p: &v1::KeyPlan| {
        vec![
            p.id.clone(),
            p.state.clone(),
            p.alias.clone(),
            p.acting.to_string(),
            p.done.to_string(),
            p.stopped.to_string(),
            p.author.clone(),
            p.created_at.clone(),
        ]
    };
    let header = ["ID", "STATE", "ALIAS", "TO DO", "DONE", "STOPPED", "AUTHOR", "CREATED"];
    printer::table(&header, plans.iter().map(row).collect());
    Ok(Exit::Done)
}

fn list(context: &Context, keys: Vec<v1::KeyInUse>) {
    if context.json() {
        #[derive(Serialize)]
        struct Keys {
            keys: Vec<v1::KeyInUse>,
        }
        printer::json(&Keys { keys });
        return;
    }
    let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let asked: BTreeSet<_> =
        keys.iter().filter(|k| k.chosen).map(|k| (&k.account, &k.region)).collect();
    let row = |k: &v1::KeyInUse| {
        let alias = match (k.chosen, k.key_arn.is_empty()) {
            (true, false) => "yes",
            (true, true) => "none",
            (false, _) if asked.contains(&(&k.account, &k.region)) => "no",
            (false, _) => "-",
        };
        let rotates = match k.rotates {
            Some(true) => "on",
            Some(false) => "off",
            None => "-",
        };
        vec![
            k.account.clone(),
            k.region.clone(),
            k.key_arn.rsplit('/').next().map(or_dash).unwrap_or_default(),
            alias.to_owned(),
            or_dash(&k.state),
            rotates.to_owned(),
            or_dash(&k.policy),
            k.databases.len().to_string(),
        ]
    };
    let header = ["ACCOUNT", "REGION", "KEY", "ALIAS", "STATE", "ROTATION", "POLICY", "DATABASES"];
    printer::table(&header, keys.iter().map(row).collect());
    if keys.iter().any(|k| !k.chosen) {
        printer::talk(
            "- was not read: only the key behind the alias is, where something is to be encrypted, or by `ringfence scan start --keys`",
        );
    }
    for key in keys.iter().filter(|k| !k.trouble.is_empty()) {
        printer::data(&format!("! {} {}: {}", key.account, key.region, key.trouble));
    }
}

/// Approves a plan under the hash that it has now, or the one that was read.
pub(crate) async fn approve(
    context: &Context,
    id: String,
    reason: String,
    hash: Option<String>,
) -> End {
    let mut client = client(context);
    let hash = match hash {
        Some(hash) => hash,
        None => get(&mut client, &id).await?.hash,
    };
    let request = v1::ApproveKeyPlanRequest { id, reason, hash };
    let plan = client.approve_key_plan(request).await?.into_inner().plan;
    let plan = plan.ok_or_else(|| missing("a plan"))?;
    if context.json() {
        printer::json(&plan);
    } else {
        let (have, needed) = (plan.approvals.len(), plan.approvals_needed);
        printer::data(&format!("{}: {have} of {needed} approvals, hash {}", plan.id, plan.hash));
        if plan.state == "approved" {
            printer::talk(&format!("next: ringfence key apply {} --wait", plan.id));
        }
    }
    Ok(Exit::Done)
}
