//! `ringfence audit`

use super::{Context, MESSAGE_MAX};
use crate::args::Audit;
use crate::client::Connection;
use crate::exit::{End, Exit};
use crate::printer;
use ringfence_domain::audit::{Chain, Event};
use ringfence_domain::time::Time;
use ringfence_proto::v1;
use ringfence_proto::v1::status_service_client::StatusServiceClient;
use serde::Serialize;

type Client = StatusServiceClient<Connection>;

/// Events in one answer.
const PAGE: i32 = 1_000;

pub(crate) async fn run(context: &Context, command: Audit) -> End {
    let client = Client::new(context.connection.clone()).max_decoding_message_size(MESSAGE_MAX);
    match command {
        Audit::List { subject, actor, action, limit } => {
            let only = v1::ListAuditEventsRequest { subject, actor, action, ..Default::default() };
            list(context, client, only, limit).await
        }
        Audit::Verify { head } => verify(context, client, head).await,
    }
}

async fn list(
    context: &Context,
    mut client: Client,
    only: v1::ListAuditEventsRequest,
    limit: i32,
) -> End {
    let mut events = Vec::new();
    let mut page_token = String::new();
    let mut left = limit.max(1);
    while left > 0 {
        let page_size = left.min(PAGE);
        let request = v1::ListAuditEventsRequest { page_size, page_token, ..only.clone() };
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

/// What was found of the log.
#[derive(Serialize)]
struct Verdict {
    /// Whether it is what was written, as far as can be told.
    intact: bool,
    events: u64,
    head: Option<Head>,
    /// Events that are not what was sealed, or do not follow what is before them; newest first.
    broken: Vec<i64>,
    /// What is wrong with the head that was given.
    kept: Option<String>,
}

#[derive(Serialize)]
struct Head {
    sequence: i64,
    seal: String,
}

/// Computes every seal here, from the events as anybody gets them.
async fn verify(context: &Context, mut client: Client, head: Option<(i64, String)>) -> End {
    let (mut chain, mut page_token, mut found) = (Chain::default(), String::new(), None);
    let mut kept = head.as_ref().map(|(number, _)| format!("event {number} is not in the log"));
    loop {
        let request =
            v1::ListAuditEventsRequest { page_size: PAGE, page_token, ..Default::default() };
        let answer = client.list_audit_events(request).await?.into_inner();
        for e in answer.events {
            if let Some((number, seal)) = head.as_ref().filter(|(number, _)| *number == e.sequence)
            {
                kept =
                    (*seal != e.seal).then(|| format!("event {number} has another seal than that"));
                found = kept.is_none().then_some(*number);
            }
            let (at, authenticated) = (Time(e.at_millis), e.authenticated);
            let (actor, action, subject, reason) = (e.actor, e.action, e.subject, e.reason);
            let event = Event { at, actor, authenticated, action, subject, reason };
            chain.read(e.sequence, event, e.seal);
        }
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    chain.ends();
    let Chain { head, events, broken, .. } = chain;
    let head = head.map(|(sequence, seal)| Head { sequence, seal });
    let verdict =
        Verdict { intact: broken.is_empty() && kept.is_none(), events, head, broken, kept };
    match context.json() {
        true => printer::json(&verdict),
        false => lines(&verdict, found).iter().for_each(|line| printer::data(line)),
    }
    Ok(if verdict.intact { Exit::Done } else { Exit::Error })
}

/// Numbers that are shown of events that are broken.
const SHOWN: usize = 10;

fn lines(verdict: &Verdict, found: Option<i64>) -> Vec<String> {
    let mut said = Vec::new();
    if !verdict.broken.is_empty() {
        let some: Vec<String> =
            verdict.broken.iter().take(SHOWN).map(ToString::to_string).collect();
        let more = match verdict.broken.len().saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        said.push(format!(
            "! the log was changed: at event {}{more}, what is there is not what was sealed, or something before it is gone",
            some.join(", ")
        ));
    }
    if let Some(why) = &verdict.kept {
        said.push(format!(
            "! {why}: the log was cut off or written anew, or what was given is mistyped"
        ));
    }
    if let Some(number) = found {
        said.push(format!("event {number} has the seal that was kept"));
    }
    if verdict.intact {
        said.push(match verdict.events {
            0 => "the log is empty".to_owned(),
            n => format!("{n} events, each as it was sealed"),
        });
    }
    if let Some(head) = verdict.head.as_ref().filter(|_| verdict.intact) {
        let Head { sequence, seal } = head;
        said.push(format!("newest: {sequence}:{seal}"));
        said.push(match found {
            Some(_) => "keep it where this server's database cannot be written".to_owned(),
            None => "keep it where this server's database cannot be written: --head then tells whether the end was cut off, which nothing else does".to_owned(),
        });
    }
    said
}
