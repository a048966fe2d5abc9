//! What every part of the server shares, and how its requests fail.

use crate::config::Config;
use crate::store::{Filter, Kind, Row, Store, StoreError};
use ringfence_aws::Cloud;
use ringfence_domain::cloud::CloudError;
use ringfence_domain::org::OrgTree;
use ringfence_domain::time::{Span, Time};
use serde::de::DeserializeOwned;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// Rows of one statement when all are read.
const BATCH: i64 = 1_000;

/// The version of the organization in the store, and the organization.
type KnownTree = (i64, Arc<OrgTree>);

/// Shared by all parts; cheap to clone.
#[derive(Clone)]
pub struct App {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The way to AWS: organization-wide calls only. What is inside accounts is an agent's.
    pub cloud: Cloud,
    /// The configuration.
    pub config: Arc<Config>,
    /// Who this process is in leases.
    pub owner: Arc<str>,
    /// A hint that a rollout has something to do; polling is the truth.
    pub wake_rollouts: Arc<Notify>,
    /// The same for scans that list the organization.
    pub wake_scans: Arc<Notify>,
    /// The same for remediations that wait for their turn.
    pub wake_admission: Arc<Notify>,
    /// A hint for agents that wait for work.
    pub wake_agents: Arc<Notify>,
    /// `rollout.health_command`, where there is one.
    pub health: Option<ringfence_agent::Checks>,
    /// Writes to Organizations, one after the other: the lease keeps servers apart, this the workers of one.
    pub writes: Arc<tokio::sync::Mutex<()>>,
    /// `rollout.gate_command`, where there is one.
    pub gate: Option<ringfence_agent::Checks>,
    /// The organization as last read from the store, with its version there.
    pub tree: Arc<Mutex<Option<KnownTree>>>,
}

/// Why a request fails.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The request is wrong; the message names the field and the fix.
    #[error("{0}")]
    Invalid(String),
    /// What it names does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The world, a rule or a missing approval forbids it now.
    #[error("{message}")]
    Refused {
        /// A constant for programs, UPPER_SNAKE (AIP-193).
        reason: &'static str,
        /// For people.
        message: String,
    },
    /// This person may not do it.
    #[error("{0}")]
    Forbidden(String),
    /// It did not finish in its time; work may go on.
    #[error("{0}")]
    Late(String),
    /// Somebody else changed it meanwhile.
    #[error("{0}")]
    Conflict(String),
    /// AWS refused or did not answer.
    #[error("{0}")]
    Cloud(#[from] CloudError),
    /// The store failed.
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// A refusal.
pub(crate) fn refused<T>(reason: &'static str, message: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Refused { reason, message: message.into() })
}

/// The wall clock: read here and in the store, nowhere else in the server.
#[expect(clippy::disallowed_methods, reason = "the server's one clock")]
pub fn now() -> Time {
    Time(jiff::Timestamp::now().as_millisecond())
}

#[expect(clippy::disallowed_methods, reason = "worker loops and watches poll")]
pub(crate) async fn rest(milliseconds: u64) {
    tokio::time::sleep(std::time::Duration::from_millis(milliseconds)).await;
}

/// Somebody was faster.
pub(crate) fn changed(id: &str) -> Fault {
    Fault::Conflict(format!("{id} was changed by somebody else just now: try again"))
}

/// An instant that a person wrote.
pub(crate) fn instant(field: &str, text: &str) -> Result<Time, Fault> {
    Time::parse(text).ok_or_else(|| {
        Fault::Invalid(format!(
            "--{field} `{text}`: it must be a date (2027-01-31: its first moment, UTC) or an RFC 3339 instant with its offset (2027-01-31T18:00:00Z)"
        ))
    })
}

/// What a person wrote as the reason; `what` is what becomes of it.
pub(crate) fn because<'a>(reason: &'a str, what: &str) -> Result<&'a str, Fault> {
    match reason.trim() {
        "" => Err(Fault::Invalid(format!("reason: say why; {what}"))),
        reason => Ok(reason),
    }
}

/// A document, unless it cannot be read or is gone: that is said, and the others are worked on.
pub(crate) fn readable<T>(found: Result<T, Fault>) -> Result<Option<T>, Fault> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(fault @ (Fault::NotFound(_) | Fault::Store(StoreError::Document { .. }))) => {
            tracing::error!("it is left out: {fault}");
            Ok(None)
        }
        Err(fault) => Err(fault),
    }
}

impl App {
    /// The organization as stored. Ten thousand nodes are read again only when they changed.
    pub async fn tree(&self) -> Result<Arc<OrgTree>, Fault> {
        let version = self.store.org_version().await?;
        let known = self.tree.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, tree)) = known.filter(|(v, _)| *v == version && version > 0) {
            return Ok(tree);
        }
        let Some((as_of, nodes)) = self.store.org().await? else {
            return refused(
                "ORG_NOT_SYNCED",
                "the organization was never read: run `ringfence org sync`",
            );
        };
        let tree = OrgTree::new(as_of, nodes).map_err(|errors| {
            let text: Vec<String> = errors.iter().map(ToString::to_string).collect();
            Fault::Invalid(format!(
                "the stored organization is broken ({}): run `ringfence org sync`",
                text.join("; ")
            ))
        })?;
        let tree = Arc::new(tree);
        // Read after the version: it may be newer, and is then read once more.
        *self.tree.lock().unwrap_or_else(PoisonError::into_inner) = Some((version, tree.clone()));
        Ok(tree)
    }

    /// Keeps a named lease that is ours. Ends when it is lost: the work in hand is to be dropped, and
    /// another server looks again.
    pub async fn keep(&self, name: &str, ttl: Span) {
        let third = u64::try_from(ttl.0 / 3).unwrap_or(1_000);
        let mut silent = 0;
        loop {
            rest(third).await;
            match self.store.hold(name, &self.owner, ttl).await {
                Ok(true) => silent = 0,
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!("the lease {name}: {error}");
                    silent += 1;
                }
            }
            // By now it has run out, and another server may have it.
            if silent >= 3 {
                return;
            }
        }
    }

    /// One document with its row.
    pub async fn load<T: DeserializeOwned>(&self, kind: Kind, id: &str) -> Result<(Row, T), Fault> {
        let Some(row) = self.store.get(kind, id).await? else {
            return Err(Fault::NotFound(format!("there is no {} `{id}`", kind.as_str())));
        };
        let document = row.document()?;
        Ok((row, document))
    }

    /// All rows that a filter lets through.
    pub(crate) async fn rows(&self, kind: Kind, filter: &Filter) -> Result<Vec<Row>, Fault> {
        let (mut found, mut after) = (Vec::new(), String::new());
        loop {
            let rows = self.store.list(kind, filter, &after, BATCH).await?;
            let Some(last) = rows.last() else {
                return Ok(found);
            };
            after = last.id.clone();
            found.extend(rows);
        }
    }

    /// The documents of those that can be read: for loops in which one that cannot must not keep the others
    /// waiting. It is said in the log.
    pub(crate) async fn all_readable<T: DeserializeOwned>(
        &self,
        kind: Kind,
        filter: &Filter,
    ) -> Result<Vec<(Row, T)>, Fault> {
        let mut found = Vec::new();
        for row in self.rows(kind, filter).await? {
            if let Some(document) = readable(row.document().map_err(Fault::from))? {
                found.push((row, document));
            }
        }
        Ok(found)
    }

    /// All documents that a filter lets through.
    pub async fn all<T: DeserializeOwned>(
        &self,
        kind: Kind,
        filter: &Filter,
    ) -> Result<Vec<(Row, T)>, Fault> {
        let mut found = Vec::new();
        for row in self.rows(kind, filter).await? {
            let document = row.document()?;
            found.push((row, document));
        }
        Ok(found)
    }
}
