//! `ringfence rollout page`: what a change board reads.

use super::rollout::{Client, get};
use super::{Context, approved_by, simulate};
use crate::exit::{End, Exit};
use crate::printer;
use ringfence_domain::time::Span;
use ringfence_proto::v1;
use serde::Serialize;
use std::fmt::Write as _;

/// Kinds of calls on the page.
const SHOWN: usize = 25;

#[derive(Serialize)]
struct Page {
    rollout: v1::Rollout,
    simulation: Option<v1::Simulation>,
}

pub(super) async fn run(
    context: &Context,
    mut client: Client,
    id: String,
    no_history: bool,
    timeout: Option<Span>,
) -> End {
    let rollout = get(&mut client, id.clone()).await?;
    let simulation = match no_history {
        true => None,
        false => {
            let request = v1::SimulateRolloutRequest { id, ..Default::default() };
            Some(simulate::simulated(client, request, timeout).await?)
        }
    };
    let page = Page { rollout, simulation };
    match context.json() {
        true => printer::json(&page),
        false => printer::data(&text(&page)),
    }
    Ok(Exit::Done)
}

fn text(page: &Page) -> String {
    let r = &page.rollout;
    let mut out = String::new();
    let mut line = |text: &str| {
        out.push_str(text);
        out.push('\n');
    };
    line(&format!("# Rollout {}: {}", r.id, r.policy_name));
    line("");
    line(&format!("- State: {}", super::rollout::state(r)));
    for why in &r.why {
        line(&format!("- {why}"));
    }
    line(&format!("- Planned by {} at {}", r.author, r.created_at));
    let by = approved_by(&r.approvals);
    line(&format!("- Approved by {by}; {} needed, by others than the author", r.approvals_needed));
    line(&format!("- SHA-256 of what is approved: `{}`", r.hash));
    line("");
    line("## What it does");
    line("");
    line(
        "Attaches one service control policy, target by target in this order. It holds denials only: it takes permissions away, and gives none. The management account and service-linked roles are not bound by it.",
    );
    if let Some(earlier) = &r.replaces {
        let at: Vec<&str> = earlier.targets.iter().map(|t| t.id.as_str()).collect();
        line("");
        line(&format!(
            "**It takes the place of {} (`{}`).** When all has been attached and watched, that policy is detached from {}, each right after a look that the new one binds there. What it denied and the new one does not is allowed again then. What changes:",
            earlier.rollout,
            earlier.policy_id,
            at.join(", ")
        ));
        line("");
        earlier.changes.iter().for_each(|change| line(&format!("- {change}")));
        if earlier.changes.is_empty() {
            line("- nothing");
        }
    }
    line("");
    line(&targets(r));
    line(
        "Before each target every account in it must have been scanned, in every region, lately, and have no unencrypted database that is not waived. What is attached is read back.",
    );
    if !r.probes.is_empty() {
        line("");
        line(
            "Once attached, a stage is probed: two creates of a database that must fail, for want of a subnet group, show whether the policy denies the one without encryption and lets the other through. A stage that denies what it is not to deny is taken back; what was seen in force and taken back is looked for again. Alarms that count denials see the probes, in each place several until the policy is in force (source identity `ringfence-probe`).",
        );
        line("");
        line(&probes(r));
    }
    if r.targets.iter().any(|t| !t.replaced_by.is_empty()) {
        line("Accounts that are left to their OU are detached at the end, when the OU binds them.");
    }
    line("");
    line("## When, and whom it leaves alone");
    line("");
    when(r).iter().for_each(|l| line(l));
    line("");
    line("## The way back");
    line("");
    line(&format!(
        "`ringfence rollout abort {} --reason ...` detaches, the last first, what this rollout attached, and nothing else. Without a server: `ringfence-server emergency-detach --policy {}`.",
        r.id,
        if r.policy_id.is_empty() { "p-... (its id, once it is made)" } else { &r.policy_id }
    ));
    if let Some(earlier) = &r.replaces {
        line(&format!(
            "Once it is complete: `ringfence rollout undo {} --reason ...` attaches the policy of {} again first, then detaches this one.",
            r.id, earlier.rollout
        ));
    }
    line("");
    match &page.simulation {
        Some(simulation) => line(&simulated(simulation)),
        None => line("## What it would have denied\n\nNot looked at.\n"),
    }
    if !r.expected_denials.is_empty() {
        line("Denials of these are expected, and count as no harm while a stage bakes:");
        line("");
        r.expected_denials.iter().for_each(|p| line(&format!("- `{p}`")));
        line("");
    }
    line("## The policy");
    line("");
    line(&format!("{} characters.", r.policy_document.chars().count()));
    line("");
    line("```json");
    let pretty = serde_json::from_str::<serde_json::Value>(&r.policy_document);
    let pretty = pretty.ok().and_then(|v| serde_json::to_string_pretty(&v).ok());
    line(pretty.as_ref().unwrap_or(&r.policy_document));
    line("```");
    out
}

/// Its hours, what some stages want more than others, and whom the policy does not bind.
fn when(r: &v1::Rollout) -> Vec<String> {
    let mut said = vec![match r.windows.as_slice() {
        [] => "- At any hour.".to_owned(),
        windows => {
            format!("- Only in {} ({}); the way back at any hour.", windows.join(", "), r.time_zone)
        }
    }];
    for stage in &r.stages {
        if stage.approvals > 0 {
            said.push(format!(
                "- Stage {} wants {} approvals before it begins.",
                stage.name, stage.approvals
            ));
        }
        if stage.max_accounts > 0 {
            said.push(format!(
                "- Stage {} may bind {} accounts that no earlier stage binds, and stops where there are more by then.",
                stage.name, stage.max_accounts
            ));
        }
    }
    said.push("- Not bound: the management account, and service-linked roles.".to_owned());
    said.extend(r.exempt.iter().map(|who| format!("- Left alone: {who}.")));
    said
}

/// What would end a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn row(out: &mut String, cells: &[&str]) {
    let cells: Vec<String> = cells.iter().map(|c| cell(c)).collect();
    let _ = writeln!(out, "| {} |", cells.join(" | "));
}

fn targets(r: &v1::Rollout) -> String {
    let mut out = String::from(
        "| Stage | Target | Name | Accounts | Policies there | Changes | Then bakes for | State |\n|---|---|---|---:|---:|---|---|---|\n",
    );
    for t in &r.targets {
        let bake = r.bakes.iter().find(|b| b.stage == t.stage);
        let watched = bake.map_or("-".to_owned(), |b| {
            let time = Span(b.bake_seconds.saturating_mul(1_000)).to_string();
            match b.observations {
                0 => time,
                n => format!("{time} and {n} healthy observations"),
            }
        });
        let calls = r.stages.iter().find(|s| s.name == t.stage).map_or(0, |s| s.calls);
        let watched = match calls {
            0 => watched,
            calls => format!("{watched} and {calls} calls in CloudTrail"),
        };
        let name = match t.replaced_by.as_str() {
            "" => t.name.clone(),
            ou => format!("{} (left to {ou} at the end)", t.name),
        };
        let state = super::rollout::target_state(t);
        let accounts = t.accounts.to_string();
        let slots = t.slots.to_string();
        row(&mut out, &[&t.stage, &t.id, &name, &accounts, &slots, &t.change, &watched, &state]);
    }
    out
}

/// Where each stage is probed, and what came of it.
fn probes(r: &v1::Rollout) -> String {
    let mut out = String::from(
        "| Stage | Probed in | State | Since | By a person | Last |\n|---|---|---|---|---|---|\n",
    );
    let mut stages: Vec<&str> = r.targets.iter().map(|t| t.stage.as_str()).collect();
    stages.dedup();
    for stage in stages {
        match r.probes.iter().find(|p| p.stage == stage) {
            None => row(&mut out, &[stage, "nowhere: it is not probed", "", "", "", ""]),
            Some(p) => {
                let place = format!("{} {}", p.account, p.region);
                let cells = [stage, &place, &p.state, &p.passed_at, &p.promoted, &p.last_said];
                row(&mut out, &cells);
            }
        }
    }
    out
}

fn simulated(s: &v1::Simulation) -> String {
    let counts = s.counts.unwrap_or_default();
    let mut out = format!(
        "## What it would have denied\n\nCalls in CloudTrail from {} to {} of {} accounts ({}): {}; {} let through, **{} would have been denied**, {} cannot be told, {} were denied already.\n\n",
        s.from,
        s.until,
        counts.accounts,
        s.lookups.join(", "),
        counts.calls,
        counts.allowed,
        counts.denied,
        counts.unknown,
        counts.denied_before
    );
    if !s.calls.is_empty() {
        out.push_str("| Would be | Count | Last | Stage | Account | Region | Action | Principal | By |\n|---|---:|---|---|---|---|---|---|---|\n");
        for c in s.calls.iter().take(SHOWN) {
            let account = format!("{} {}", c.account, c.account_name);
            row(
                &mut out,
                &[
                    &c.verdict,
                    &c.count.to_string(),
                    &c.last,
                    &c.stage,
                    &account,
                    &c.region,
                    &c.action,
                    &c.principal,
                    &c.statements.join(", "),
                ],
            );
        }
        out.push_str("\n| OU | Principal | Denied | Unknown | Last |\n|---|---|---:|---:|---|\n");
        for by in simulate::by_ou(s).iter().take(SHOWN) {
            row(&mut out, &by.iter().map(String::as_str).collect::<Vec<_>>());
        }
        if s.calls.len() > SHOWN {
            let _ = writeln!(
                out,
                "\nAnd {} more kinds of calls: `-o json` has all.",
                s.calls.len() - SHOWN
            );
        }
        out.push('\n');
    }
    let unread = s.unread.len() + s.overflowed.len();
    if unread > 0 {
        let _ = writeln!(
            out,
            "**Not read, so nothing is known of it: {unread} parts** (`ringfence rollout simulate` names them).\n"
        );
    }
    match s.refusals.as_slice() {
        [] => out.push_str("Ringfence's own calls were put before it: it denies none.\n\n"),
        refusals => refusals.iter().for_each(|r| {
            let _ = writeln!(out, "**{r}**\n");
        }),
    }
    for warning in &s.warnings {
        let _ = writeln!(out, "- {warning}");
    }
    out.push_str("\n## What it covers\n\n| Way to make a database | Unencrypted | Encrypted | Denied although it would be encrypted | |\n|---|---|---|---|---|\n");
    for c in &s.coverage {
        let encrypted = if c.encrypted.is_empty() { "-" } else { &c.encrypted };
        row(&mut out, &[&c.path, &c.unencrypted, encrypted, &c.for_nothing, &c.note]);
    }
    out
}
