//! `ringfence freeze`

use super::{Context, MESSAGE_MAX, missing, pages, request_id, scope};
use crate::args::Freeze;
use crate::exit::{End, Exit};
use crate::printer;
use ringfence_proto::v1;
use ringfence_proto::v1::freeze_service_client::FreezeServiceClient;
use serde::Serialize;

pub(crate) async fn run(context: &Context, command: Freeze) -> End {
    let mut client =
        FreezeServiceClient::new(context.connection.clone()).max_decoding_message_size(MESSAGE_MAX);
    match command {
        Freeze::Add { scope: wanted, from, to, reason, midway, dry_run } => {
            let request = v1::AddFreezeRequest {
                request_id: request_id(),
                validate_only: dry_run,
                scope: scope(&wanted),
                from,
                to,
                reason,
                midway,
            };
            let made = client.add_freeze(request).await?.into_inner().freeze;
            let made = made.ok_or_else(|| missing("a freeze"))?;
            let text = format!(
                "{}: nothing may be changed from {} to {}, {}",
                if dry_run { "dry run, nothing was stored" } else { made.id.as_str() },
                made.from,
                made.to,
                place(&made)
            );
            say(context, &made, &text);
            printer::talk(match midway {
                true => {
                    "swaps under way are stopped too: databases that are cut off or between two names stay so until it ends"
                }
                false => {
                    "what AWS was asked for goes on there; databases that a swap has cut off are brought to its end"
                }
            });
            Ok(Exit::Done)
        }
        Freeze::Lift { id, reason, dry_run } => {
            let request = v1::LiftFreezeRequest { id, reason, validate_only: dry_run };
            let lifted = client.lift_freeze(request).await?.into_inner().freeze;
            let lifted = lifted.ok_or_else(|| missing("a freeze"))?;
            let text = match dry_run {
                true => format!("dry run: {} would be lifted", lifted.id),
                false => format!("{} is lifted: work goes on", lifted.id),
            };
            say(context, &lifted, &text);
            Ok(Exit::Done)
        }
        Freeze::List { all } => {
            let request = v1::ListFreezesRequest { include_ended: all, ..Default::default() };
            let freezes = pages!(client, list_freezes, request, freezes);
            if context.json() {
                #[derive(Serialize)]
                struct Freezes {
                    freezes: Vec<v1::Freeze>,
                }
                printer::json(&Freezes { freezes });
                return Ok(Exit::Done);
            }
            let header = ["ID", "STATE", "FROM", "TO", "WHERE", "BY", "REASON"];
            printer::table(&header, freezes.iter().map(row).collect());
            Ok(Exit::Done)
        }
    }
}

/// Where it is; "everywhere" for the whole organization.
pub(crate) fn place(freeze: &v1::Freeze) -> String {
    let scope = freeze.scope.clone().unwrap_or_default();
    let accounts = [scope.ous, scope.accounts].concat();
    let all = if accounts.is_empty() { "everywhere".to_owned() } else { accounts.join(", ") };
    let only = scope.regions.join(", ");
    if only.is_empty() { all } else { format!("{all} in {only}") }
}

fn say(context: &Context, freeze: &v1::Freeze, text: &str) {
    if context.json() {
        printer::json(freeze);
    } else {
        printer::data(text);
    }
}

fn row(f: &v1::Freeze) -> Vec<String> {
    let midway = if f.midway { " (swaps midway too)" } else { "" };
    vec![
        f.id.clone(),
        f.state.clone(),
        f.from.clone(),
        f.to.clone(),
        format!("{}{midway}", place(f)),
        f.by.clone(),
        f.reason.clone(),
    ]
}
