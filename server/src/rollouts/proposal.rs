//! Stages by risk, from the organization as it is and from what scans found.

use crate::app::{App, Fault};
use crate::org;
use crate::store::{Filter, Kind};
use ringfence_domain::history::Reading;
use ringfence_domain::org::NodeKind;
use ringfence_domain::rollout::propose::{Proposed, Wanted, propose as staged};
use ringfence_domain::time::Time;

/// Stages for a whole organization.
pub struct Proposal {
    /// The stages, each with its reasons.
    pub stages: Vec<Proposed>,
    /// What no stage binds.
    pub left_out: Vec<String>,
    /// When the organization was read.
    pub as_of: Time,
}

/// Proposes stages. `tag` is the key of the tag of OUs that names their environment; with none, their names alone say it.
pub async fn propose(app: &App, mut wanted: Wanted, tag: &str) -> Result<Proposal, Fault> {
    if app.config.accounts_per_stage > 0 {
        wanted.max_accounts = wanted.max_accounts.min(app.config.accounts_per_stage);
    }
    let tree = org::fresh(app, app.config.org_max_age).await?;
    for account in tree.accounts_under(tree.root()) {
        let cells = app.store.cells(account.as_str(), ("", ""), 1_000).await?;
        let databases = cells.iter().map(|c| c.instances + c.clusters).sum();
        wanted.databases.insert(account, databases);
    }
    for (_, reading) in app.all_readable::<Reading>(Kind::Reading, &Filter::default()).await? {
        let calls: u64 = reading.calls.kinds.values().map(|(count, ..)| *count).sum();
        let known = wanted.calls.entry(reading.account).or_default();
        // Readings for different ends overlap.
        *known = calls.max(*known);
    }
    if !tag.is_empty() {
        for node in tree.nodes().filter(|n| matches!(n.kind, NodeKind::Ou)) {
            if let Some(value) = app.cloud.tag_of(&node.id, tag).await? {
                wanted.tagged.insert(node.id.clone(), value);
            }
        }
    }
    let (stages, left_out) = staged(&tree, &wanted);
    Ok(Proposal { stages, left_out, as_of: tree.as_of })
}
