//! Agents: who is there, and what their limits say.

use crate::app::{App, Fault};
use ringfence_domain::audit::Actor;
use ringfence_domain::work::LimitUsage;

/// What the limits of all agents say, a second ago at most, by agent thread.
pub async fn usage(app: &App) -> Result<Vec<(String, LimitUsage)>, Fault> {
    let mut all = Vec::new();
    for agent in app.store.agents().await? {
        // An agent of another version may say something else; that is no reason to show nothing.
        let rows: Vec<LimitUsage> = serde_json::from_str(&agent.usage).unwrap_or_default();
        all.extend(rows.into_iter().map(|u| (agent.name.clone(), u)));
    }
    Ok(all)
}

/// An agent's thread in the audit log: without its instance.
pub fn actor(agent: &str) -> Actor {
    Actor::system(&format!("agent/{}", agent.split('#').next().unwrap_or(agent)))
}
