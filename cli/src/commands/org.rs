//! `ringfence org`

use super::{Context, MESSAGE_MAX, pages};
use crate::args::Org;
use crate::client::Connection;
use crate::exit::End;
use crate::printer;
use ringfence_proto::v1;
use ringfence_proto::v1::finding_service_client::FindingServiceClient;
use ringfence_proto::v1::org_service_client::OrgServiceClient;
use ringfence_proto::v1::scan_service_client::ScanServiceClient;
use serde::Serialize;

/// Changes listed on screen; JSON has all.
const CHANGES_MAX: usize = 50;

pub(crate) async fn run(context: &Context, command: Org) -> End {
    let mut client =
        OrgServiceClient::new(context.connection.clone()).max_decoding_message_size(MESSAGE_MAX);
    match command {
        Org::Sync { wait: _, dry_run } => {
            let answer =
                client.sync_org(v1::SyncOrgRequest { validate_only: dry_run }).await?.into_inner();
            let changed = !answer.changes.is_empty();
            if context.json() {
                printer::json(&answer);
                return Ok(context.present(changed));
            }
            let states: Vec<String> =
                answer.accounts_by_state.iter().map(|(s, n)| format!("{n} {s}")).collect();
            printer::data(&format!(
                "{} OUs, {} accounts ({}) as of {}",
                answer.ous,
                answer.accounts,
                states.join(", "),
                answer.as_of
            ));
            if !answer.first && !changed {
                printer::data("nothing changed since the last sync");
            }
            for change in answer.changes.iter().take(CHANGES_MAX) {
                printer::data(&format!("~ {} {}: {}", change.id, change.name, change.what));
            }
            if answer.changes.len() > CHANGES_MAX {
                printer::data(&format!(
                    "... and {} more; -o json lists all",
                    answer.changes.len() - CHANGES_MAX
                ));
            }
            if dry_run {
                printer::talk("dry run: nothing was stored");
            }
            Ok(context.present(changed))
        }
        Org::Tree if context.json() => {
            #[derive(Serialize)]
            struct Tree {
                as_of: String,
                nodes: Vec<v1::Node>,
            }
            let as_of = client.get_tree(v1::GetTreeRequest {}).await?.into_inner().as_of;
            let nodes = pages!(client, list_nodes, v1::ListNodesRequest::default(), nodes);
            printer::json(&Tree { as_of, nodes });
            Ok(crate::exit::Exit::Done)
        }
        Org::Export => export(context, client).await,
        Org::Tree => {
            let answer = client.get_tree(v1::GetTreeRequest {}).await?.into_inner();
            printer::data(&answer.drawing);
            Ok(crate::exit::Exit::Done)
        }
    }
}

/// Everything that a rehearsal is built from. Always JSON: it is read by programs.
async fn export(context: &Context, mut org: OrgServiceClient<Connection>) -> End {
    #[derive(Serialize)]
    struct Export {
        as_of: String,
        nodes: Vec<v1::Node>,
        cells: Vec<v1::Cell>,
        findings: Vec<v1::Finding>,
    }
    let as_of = org.get_tree(v1::GetTreeRequest {}).await?.into_inner().as_of;
    let nodes = pages!(org, list_nodes, v1::ListNodesRequest::default(), nodes);
    let connection = || context.connection.clone();
    let mut scan = ScanServiceClient::new(connection()).max_decoding_message_size(MESSAGE_MAX);
    let cells = pages!(scan, list_cells, v1::ListCellsRequest::default(), cells);
    let mut finding =
        FindingServiceClient::new(connection()).max_decoding_message_size(MESSAGE_MAX);
    let findings = pages!(finding, list_findings, v1::ListFindingsRequest::default(), findings);
    if cells.iter().all(|cell| cell.state() == v1::CellState::Pending) {
        printer::talk("warning: nothing was scanned yet, so the export has no databases");
    }
    printer::json(&Export { as_of, nodes, cells, findings });
    Ok(crate::exit::Exit::Done)
}
