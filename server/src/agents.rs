//! Agents: who is there, and what their limits say.

use crate::app::{App, Fault};
use serde::Deserialize;

/// What one limit of one agent thread says.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Usage {
    /// The agent thread.
    #[serde(default)]
    pub agent: String,
    /// `sts`, `rds_read` ...
    pub limit: String,
    /// The ceiling of one bucket, in calls a second; of a shared budget, this thread's part.
    pub rate: f64,
    /// Calls let through.
    pub granted: i64,
    /// Calls that wait.
    pub waiting: i64,
    /// Calls that AWS throttled.
    pub throttled: i64,
    /// Buckets that are slowed down.
    pub slowed: i64,
}

/// What the limits of all agents say, a second ago at most.
pub async fn usage(app: &App) -> Result<Vec<Usage>, Fault> {
    let mut all = Vec::new();
    for agent in app.store.agents().await? {
        // An agent of another version may say something else; that is no reason to show nothing.
        let rows: Vec<Usage> = serde_json::from_str(&agent.usage).unwrap_or_default();
        all.extend(rows.into_iter().map(|u| Usage { agent: agent.name.clone(), ..u }));
    }
    Ok(all)
}
