//! Other tools that manage policies of the organization: found before a rollout is planned, and named.

use super::who;
use crate::app::{App, now};
use ringfence_domain::cloud::CloudError;
use ringfence_domain::rollout::Attached;
pub(crate) use ringfence_domain::rollout::tools::CONTROL_TOWER;
use ringfence_domain::rollout::tools::{ACCELERATOR, REVERTS, Tool, of_policy, of_principal};
use ringfence_domain::time::Span;
use std::collections::{BTreeMap, BTreeSet};

/// How far back CloudTrail is asked who changed attachments.
const LATELY: Span = Span::hours(30 * 24);

/// One line for each tool that has policies on these targets, or that changed attachments lately.
pub(super) async fn warnings(app: &App, attached: &Attached) -> Vec<String> {
    let (mut traces, mut unlooked) = (Traces::new(), Vec::new());
    match reverts(app).await {
        Ok(roles) if roles.is_empty() => {}
        Ok(roles) => drop(traces.insert(ACCELERATOR, roles)),
        Err(why) => unlooked.push(format!(
            "whether {} undoes attachments was not looked at: {why}",
            ACCELERATOR.name
        )),
    }
    let (tools, mut unseen) = traced(app, attached, traces).await;
    unseen.extend(unlooked);
    tools.into_iter().map(|(_, line)| line).chain(unseen).collect()
}

/// The same, by tool; and what could not be looked at.
pub(crate) async fn found(app: &App, attached: &Attached) -> (Vec<(Tool, String)>, Vec<String>) {
    traced(app, attached, Traces::new()).await
}

/// What tools leave behind.
type Traces = BTreeMap<Tool, BTreeSet<String>>;

/// The same, with what is known already.
async fn traced(
    app: &App,
    attached: &Attached,
    mut traces: Traces,
) -> (Vec<(Tool, String)>, Vec<String>) {
    let mut said = Vec::new();
    match app.cloud.policies().await {
        Err(error) => said.push(format!("whose policies are attached was not looked at: {error}")),
        Ok(all) => {
            let on = |id: &String| {
                let here = |set: &&BTreeSet<String>| set.contains(id);
                attached.values().flatten().filter(here).count()
            };
            for policy in &all {
                let count = on(&policy.id);
                if let Some(tool) = of_policy(&policy.name).filter(|_| count > 0) {
                    let trace = format!("{} is attached to {count} of the targets", policy.name);
                    traces.entry(tool).or_default().insert(trace);
                }
            }
        }
    }
    let since = now().plus(Span(-LATELY.0));
    match who::acts(app, &["AttachPolicy", "DetachPolicy"], since).await {
        Ok(acts) => {
            for act in acts.iter().rev() {
                if let Some(tool) = of_principal(&act.who) {
                    let trace =
                        format!("it changed attachments in the last {LATELY}, as {}", act.who);
                    traces.entry(tool).or_default().insert(trace);
                }
            }
        }
        Err(why) => {
            said.push(format!("which tools change attachments was not looked at: {why}"));
        }
    }
    let line = |(tool, traces): (Tool, BTreeSet<String>)| {
        let some: Vec<String> = traces.into_iter().take(3).collect();
        (tool, format!("{} is at work here ({}): {}", tool.name, some.join("; "), tool.advice))
    };
    (traces.into_iter().map(line).collect(), said)
}

/// The function that undoes what others attach, by its role; it is in the management account, if anywhere.
async fn reverts(app: &App) -> Result<BTreeSet<String>, String> {
    let said = |error: CloudError| error.to_string();
    let organization = app.cloud.organization().await.map_err(said)?;
    if app.cloud.caller().await.map_err(said)?.account.as_str() != organization.management_account {
        return Err("its role would be in the management account, and the server is not".to_owned());
    }
    let roles = app.cloud.own_roles(REVERTS).await.map_err(said)?;
    Ok(roles
        .into_iter()
        .map(|role| format!("its function that undoes attachments is here, with the role {role}"))
        .collect())
}
