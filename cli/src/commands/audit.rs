//! `ringfence audit`

use super::{Context, MESSAGE_MAX};
use crate::args::Audit;
use crate::exit::{End, Exit};
use crate::printer;
use ringfence_proto::v1;
use ringfence_proto::v1::status_service_client::StatusServiceClient;

pub(crate) async fn run(context: &Context, command: Audit) -> End {
    let Audit::List { subject, actor, limit } = command;
    let mut client =
        StatusServiceClient::new(context.connection.clone()).max_decoding_message_size(MESSAGE_MAX);
    let mut events = Vec::new();
    let mut page_token = String::new();
    let mut left = limit.max(1);
    while left > 0 {
        let request = v1::ListAuditEventsRequest {
            subject: subject.clone(),
            actor: actor.clone(),
            page_size: left.min(1_000),
            page_token,
        };
        let answer = client.list_audit_events(request).await?.into_inner();
        left -= i32::try_from(answer.events.len()).unwrap_or(left);
        events.extend(answer.events);
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if context.json() {
        printer::json(&v1::ListAuditEventsResponse { events, next_page_token: page_token });
        return Ok(Exit::Done);
    }
    let row = |e: &v1::AuditEvent| {
        let actor = if e.authenticated {
            e.actor.clone()
        } else {
            format!("{} (unauthenticated)", e.actor)
        };
        vec![
            e.sequence.to_string(),
            e.at.clone(),
            actor,
            e.action.clone(),
            e.subject.clone(),
            e.reason.clone(),
        ]
    };
    printer::table(
        &["#", "AT", "ACTOR", "ACTION", "SUBJECT", "WHY"],
        events.iter().map(row).collect(),
    );
    Ok(Exit::Done)
}
