//! `ringfence agent`

use super::{Context, MESSAGE_MAX, pages};
use crate::args::Agent;
use crate::exit::{End, Exit};
use crate::printer;
use ringfence_proto::v1;
use ringfence_proto::v1::fleet_service_client::FleetServiceClient;
use serde::Serialize;
use std::collections::BTreeMap;

pub(crate) async fn run(context: &Context, command: Agent) -> End {
    let mut client =
        FleetServiceClient::new(context.connection.clone()).max_decoding_message_size(MESSAGE_MAX);
    match command {
        Agent::List => {
            let agents = pages!(client, list_agents, v1::ListAgentsRequest::default(), agents);
            if context.json() {
                #[derive(Serialize)]
                struct Agents {
                    agents: Vec<v1::Agent>,
                }
                printer::json(&Agents { agents });
                return Ok(Exit::Done);
            }
            if agents.is_empty() {
                printer::talk(
                    "no agent is connected: nothing is scanned or remediated. Set server.embedded_agent, or start ringfence-agent",
                );
            }
            let row = |a: &v1::Agent| {
                vec![
                    a.name.clone(),
                    if a.draining { "draining" } else { "working" }.to_owned(),
                    a.accounts.to_string(),
                    format!("{:.0}%", a.share * 100.0),
                    a.joined_at.clone(),
                    a.seen_at.clone(),
                ]
            };
            printer::table(
                &["AGENT", "STATE", "ACCOUNTS", "STS SHARE", "JOINED", "SEEN"],
                agents.iter().map(row).collect(),
            );
        }
        Agent::Limits => {
            let limits = pages!(client, list_limits, v1::ListLimitsRequest::default(), limits);
            show_limits(context, limits);
        }
        Agent::Drain { name, undo, dry_run } => {
            let request =
                v1::DrainAgentRequest { name: name.clone(), undo, validate_only: dry_run };
            let told = client.drain_agent(request).await?.into_inner();
            if context.json() {
                printer::json(&told);
                return Ok(Exit::Done);
            }
            let what = match (dry_run, undo) {
                (true, _) => "would be told",
                (false, false) => "finish what they have begun and take nothing new",
                (false, true) => "take work again",
            };
            printer::data(&format!("{name}: {} threads {what}", told.threads));
        }
    }
    Ok(Exit::Done)
}

/// One line a limit, all agents together; JSON has a row for each agent's thread.
fn show_limits(context: &Context, limits: Vec<v1::Limit>) {
    if context.json() {
        #[derive(Serialize)]
        struct Limits {
            limits: Vec<v1::Limit>,
        }
        printer::json(&Limits { limits });
        return;
    }
    let mut by_limit: BTreeMap<&str, (f64, f64, [i64; 4])> = BTreeMap::new();
    for l in &limits {
        let (sum, most, counts) = by_limit.entry(&l.limit).or_default();
        *sum += l.rate;
        *most = l.rate.max(*most);
        for (count, n) in counts.iter_mut().zip([l.granted, l.waiting, l.throttled, l.slowed]) {
            *count += n;
        }
    }
    let row = |(limit, (sum, most, [granted, waiting, throttled, slowed])): (
        &&str,
        &(f64, f64, [i64; 4]),
    )| {
        // Of a common budget the agents' parts add up; all others are by account, which one agent holds.
        let rate = if *limit == "sts" { sum } else { most };
        vec![
            (*limit).to_owned(),
            format!("{rate:.0}/s"),
            granted.to_string(),
            waiting.to_string(),
            throttled.to_string(),
            slowed.to_string(),
        ]
    };
    printer::table(
        &["LIMIT", "RATE OF A BUCKET", "GRANTED", "WAITING", "THROTTLED", "BUCKETS SLOWED"],
        by_limit.iter().map(row).collect(),
    );
}
