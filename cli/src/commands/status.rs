//! `ringfence status`

use super::{Context, MESSAGE_MAX, freeze, scan, scope};
use crate::args::Scope;
use crate::exit::End;
use crate::printer;
use ringfence_proto::v1;
use ringfence_proto::v1::status_service_client::StatusServiceClient;
use std::collections::BTreeMap;

fn counts(map: &BTreeMap<String, i32>) -> String {
    let some: Vec<String> = map
        .iter()
        .filter(|(k, n)| **n > 0 && *k != "cells")
        .map(|(k, n)| format!("{n} {k}"))
        .collect();
    if some.is_empty() { "none".to_owned() } else { some.join(", ") }
}

pub(crate) async fn run(context: &Context, wanted: Scope) -> End {
    let mut client =
        StatusServiceClient::new(context.connection.clone()).max_decoding_message_size(MESSAGE_MAX);
    let status =
        client.get_status(v1::GetStatusRequest { scope: scope(&wanted) }).await?.into_inner();
    let findings = status.findings.unwrap_or_default();
    if context.json() {
        printer::json(&status);
        return Ok(context.present(findings.open > 0));
    }
    let org = status.org.clone().unwrap_or_default();
    printer::data(&format!(
        "organization  {} accounts ({}), {} OUs, read {}",
        org.accounts,
        counts(&org.accounts_by_state),
        org.ous,
        org.as_of
    ));
    let cells = status.coverage.get("cells").copied().unwrap_or(0);
    printer::data(&format!("coverage      {cells} cells: {}", counts(&status.coverage)));
    printer::data(&format!(
        "unencrypted   {} open ({} instances, {} clusters), of them {} held originals; {} waived",
        findings.open,
        findings.instances,
        findings.clusters,
        findings.held_original,
        findings.waived
    ));
    if findings.snapshots > 0 {
        printer::data(&format!(
            "old snapshots {} unencrypted, as last looked for; {} of them with a verified copy",
            findings.snapshots, findings.snapshots_held
        ));
    }
    if !status.config.is_empty() {
        printer::data(&format!("AWS Config    {}", counts(&status.config)));
    }
    printer::data(&format!("remediations  {}", counts(&status.remediations)));
    for f in &status.freezes {
        printer::data(&format!(
            "frozen        {} until {} by {}: {} ({})",
            freeze::place(f),
            f.to,
            f.by,
            f.reason,
            f.id
        ));
    }
    for rollout in &status.rollouts {
        printer::data(&format!(
            "rollout       {} {}: {} of {} targets attached",
            rollout.id, rollout.state, rollout.attached, rollout.targets
        ));
    }
    let by = status.rows.first().map(|r| r.by.to_ascii_uppercase()).unwrap_or_default();
    let row = |r: &v1::StatusRow| {
        vec![r.name.clone(), r.cells.to_string(), r.answered.to_string(), r.open.to_string()]
    };
    if !status.rows.is_empty() {
        printer::data("");
        printer::table(
            &[by.as_str(), "CELLS", "ANSWERED", "OPEN"],
            status.rows.iter().map(row).collect(),
        );
    }
    if !status.unanswered.is_empty() {
        printer::data("\nnot answered, so nothing is known of them:");
    }
    scan::show_failed(&status.unanswered);
    if !status.disagreeing.is_empty() {
        printer::data("\nAWS Config and Describe differ:");
    }
    scan::show_disagreeing(&status.disagreeing);
    Ok(context.present(findings.open > 0))
}
