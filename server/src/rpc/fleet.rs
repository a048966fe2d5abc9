//! `FleetService`.

use super::{Answer, Rpc, actor, ok, page, page_size};
use crate::agents;
use crate::app::{Fault, now};
use ringfence_domain::work::LimitUsage;
use ringfence_proto::v1;
use ringfence_proto::v1::fleet_service_server::FleetService;
use std::collections::BTreeMap;
use tonic::Request;

#[tonic::async_trait]
impl FleetService for Rpc {
    async fn list_agents(
        &self,
        request: Request<v1::ListAgentsRequest>,
    ) -> Answer<v1::ListAgentsResponse> {
        let asked = request.into_inner();
        let store = &self.0.store;
        let held: BTreeMap<String, i64> =
            store.leases_held().await.map_err(Fault::from)?.into_iter().collect();
        let agents = store.agents().await.map_err(Fault::from)?;
        let shown = agents
            .into_iter()
            .map(|a| {
                let owner = format!("{}#{}", a.name, a.instance);
                v1::Agent {
                    joined_at: a.joined_at.to_string(),
                    seen_at: a.seen_at.to_string(),
                    share: a.share as f64 / 1e6,
                    draining: a.draining,
                    accounts: held.get(&owner).map_or(0, |n| i32::try_from(*n).unwrap_or(i32::MAX)),
                    name: a.name,
                }
            })
            .collect();
        let (agents, next_page_token) =
            page(shown, page_size(asked.page_size)?, &asked.page_token)?;
        ok(v1::ListAgentsResponse { agents, next_page_token })
    }

    async fn list_limits(
        &self,
        request: Request<v1::ListLimitsRequest>,
    ) -> Answer<v1::ListLimitsResponse> {
        let asked = request.into_inner();
        let limit = |(agent, u): (String, LimitUsage)| v1::Limit {
            agent,
            limit: u.limit,
            rate: u.rate,
            granted: u.granted,
            waiting: u.waiting,
            throttled: u.throttled,
            slowed: u.slowed,
        };
        // The server's own calls, about the organization as a whole, are those of this process.
        let own = ringfence_agent::usage(&self.0.cloud).into_iter();
        // Of STS it asks who it is, once; the budget of a scan is the agents'.
        let own =
            own.filter(|u| u.granted > 0 && u.limit != "sts").map(|u| ("server".to_owned(), u));
        let all = own.chain(agents::usage(&self.0).await?).map(limit).collect();
        let (limits, next_page_token) = page(all, page_size(asked.page_size)?, &asked.page_token)?;
        ok(v1::ListLimitsResponse { limits, next_page_token })
    }

    async fn drain_agent(
        &self,
        request: Request<v1::DrainAgentRequest>,
    ) -> Answer<v1::DrainAgentResponse> {
        let who = actor(request.metadata())?;
        let a = request.into_inner();
        let matches = |name: &str| name == a.name || name.split('/').next() == Some(&a.name);
        let agents = self.0.store.agents().await.map_err(Fault::from)?;
        let known = agents.iter().filter(|x| matches(&x.name)).count();
        if known == 0 {
            return Err(Fault::NotFound(format!(
                "there is no agent `{}`; `ringfence agent list` shows who is there",
                a.name
            ))
            .into());
        }
        if a.validate_only {
            return ok(v1::DrainAgentResponse { threads: super::convert::count(known) });
        }
        let action = if a.undo { "agent.undrain" } else { "agent.drain" };
        let event = who.did(now(), action, &a.name, "");
        let told = self.0.store.drain_agent(&a.name, !a.undo, &event).await.map_err(Fault::from)?;
        ok(v1::DrainAgentResponse { threads: i32::try_from(told).unwrap_or(i32::MAX) })
    }
}
