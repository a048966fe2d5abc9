//! The store: what must outlive a process or cross one goes through here, and nowhere else.
//!
//! # What do we store?
//! - `node`: the organization as last read.
//! - `cell`: the ledger, one row for each account x region x control; `tally`: its counts, and those of
//!   open findings, by account; `region_list`: the regions that an account has enabled.
//! - `resource`: findings, plans, remediations, rollouts, scans, deployments, freezes and the work on keys: JSON documents of
//!   `ringfence-domain` with the columns that are searched, and a version for compare-and-set.
//! - `scan_account`: which accounts a scan has still to do.
//! - `lease`: who works on what: owner, fence, expiry by the database's clock.
//! - `agent`, `join_token`: who may take leases, and what share of a common budget each has.
//! - `event`: the audit log, written in the transaction of the change that it tells of.
//!
//! Each method is one transaction. Two adapters are stamped from one SQL text ([`sql`]); one
//! contract test (`tests/it/store_contract.rs`) runs on both.

mod agents;
mod documents;
mod ledger;
mod queue;
mod schema;
mod sql;

pub use agents::{Agent, AgentSeen, Agents, Token};
pub use documents::Store;
pub use ledger::{In, Ledger, Page};
pub use queue::{End, Part, Progress, Queue, Target, Wanted};

use ringfence_domain::audit::Event;
use ringfence_domain::time::Time;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// What can go wrong in the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database URL is not one.
    #[error("store.url `{url}`: {why}")]
    Url {
        /// The URL, without its password.
        url: String,
        /// What is wrong, and what would be right.
        why: String,
    },
    /// The database could not be opened, or a statement failed.
    #[error("the store: {0}")]
    Database(#[from] sqlx::Error),
    /// A document in the store cannot be read.
    #[error("the store holds a {kind} {id} that cannot be read: {why}")]
    Document {
        /// Its kind.
        kind: &'static str,
        /// Its id.
        id: String,
        /// Why.
        why: String,
    },
    /// The database was written by a newer version.
    #[error(
        "the database has schema {found}, this version knows {known}: use the newer ringfence-server"
    )]
    Newer {
        /// What was found.
        found: i64,
        /// What is known.
        known: i64,
    },
}

/// The result of a store call.
pub type Result<T> = std::result::Result<T, StoreError>;

/// The kinds of documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `ringfence_domain::finding::Finding`
    Finding,
    /// `ringfence_domain::plan::Plan`
    Plan,
    /// `ringfence_domain::remediation::Remediation`
    Remediation,
    /// `ringfence_domain::rollout::Rollout`
    Rollout,
    /// `ringfence_domain::work::Scan`
    Scan,
    /// `ringfence_domain::deployment::Deployment`
    Deployment,
    /// `ringfence_domain::freeze::Freeze`
    Freeze,
    /// `ringfence_domain::key::plan::KeyPlan`
    KeyPlan,
    /// `ringfence_domain::key::job::Job`
    KeyJob,
    /// `ringfence_domain::history::Reading`
    Reading,
    /// `ringfence_domain::staging::Staging`
    Staging,
    /// `ringfence_domain::probe::Probe`
    Probe,
    /// `ringfence_domain::finding::AccountWaiver`
    Waiver,
}

impl Kind {
    /// The name in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Finding => "finding",
            Kind::Plan => "plan",
            Kind::Remediation => "remediation",
            Kind::Rollout => "rollout",
            Kind::Scan => "scan",
            Kind::Deployment => "deployment",
            Kind::Freeze => "freeze",
            Kind::KeyPlan => "key plan",
            Kind::KeyJob => "key job",
            Kind::Reading => "reading",
            Kind::Staging => "staging",
            Kind::Probe => "probe",
            Kind::Waiver => "waiver",
        }
    }
}

/// One document with the columns that are searched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its kind.
    pub kind: Kind,
    /// Its id, unique within the kind.
    pub id: String,
    /// The account it is about; empty if none.
    pub account: String,
    /// The region it is about; empty if none. Of a remediation or the work on a key: its plan.
    pub region: String,
    /// Its state, as the document says it.
    pub state: String,
    /// When it wants to be looked at. Of a finding: when its waiver ends, 0 without one.
    pub wake_at: Time,
    /// Raised by one with each write. A write with an older one changes nothing.
    pub version: i64,
    /// When it was made.
    pub created_at: Time,
    /// What it counts as; of findings only.
    pub label: String,
    /// The document.
    pub body: String,
}

impl Row {
    /// A new row, of version 0 until it is written.
    pub fn new<T: Serialize>(kind: Kind, id: &str, state: &str, now: Time, document: &T) -> Row {
        Row {
            kind,
            id: id.to_owned(),
            account: String::new(),
            region: String::new(),
            state: state.to_owned(),
            wake_at: now,
            version: 0,
            created_at: now,
            label: String::new(),
            body: json(document),
        }
    }

    /// Reads the document.
    pub fn document<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.body).map_err(|e| StoreError::Document {
            kind: self.kind.as_str(),
            id: self.id.clone(),
            why: e.to_string(),
        })
    }

    /// The row with another document and state.
    pub fn with<T: Serialize>(mut self, state: &str, document: &T) -> Row {
        self.state = state.to_owned();
        self.body = json(document);
        self
    }
}

/// A document as text. Our documents are plain data with text keys, for which this cannot fail.
pub fn json<T: Serialize>(document: &T) -> String {
    match serde_json::to_string(document) {
        Ok(text) => text,
        Err(error) => unreachable!("a document that is not JSON: {error}"),
    }
}

/// Which rows to list. Empty texts mean any.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only this account.
    pub account: String,
    /// Only this region (of a remediation: this plan).
    pub region: String,
    /// Only this state.
    pub state: String,
}

/// Which events to list. Empty texts mean any.
#[derive(Debug, Clone, Copy, Default)]
pub struct EventFilter<'a> {
    /// Only of this subject.
    pub subject: &'a str,
    /// Only by this person or part.
    pub actor: &'a str,
    /// Only this action.
    pub action: &'a str,
}

/// The right to work on one account, with its fence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lease {
    /// The account.
    pub account: String,
    /// Raised at each take-over.
    pub fence: i64,
}

/// What came of a fenced write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fenced {
    /// Written.
    Done,
    /// The lease is lost: nothing was written, and the work must stop.
    Lost,
    /// A document changed meanwhile: nothing was written, read again.
    Stale,
}

/// One line of the audit log with its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// Grows; never reused.
    pub sequence: i64,
    /// The event.
    pub event: Event,
    /// See [`Event::seal`].
    pub seal: String,
}

/// Opens the store at `sqlite://PATH` or `postgres://...`, and brings its schema up to date.
pub async fn open(url: &str) -> Result<Arc<dyn Store>> {
    if let Some(path) = url.strip_prefix("sqlite://") {
        if path.is_empty() {
            let why = "it needs a path: sqlite:///var/lib/ringfence/ringfence.db".to_owned();
            return Err(StoreError::Url { url: url.to_owned(), why });
        }
        return Ok(Arc::new(sql::Sqlite::open(path).await?));
    }
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return Ok(Arc::new(sql::Postgres::open(url).await?));
    }
    let why = "it must begin with sqlite:// or postgres://".to_owned();
    Err(StoreError::Url { url: without_password(url), why })
}

/// The URL without its password, for messages.
pub fn without_password(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme + 3 <= at => {
            let user = url[scheme + 3..at].split(':').next().unwrap_or_default();
            format!("{}{user}:***{}", &url[..scheme + 3], &url[at..])
        }
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_stay_out_of_messages() {
        assert_eq!(without_password("postgres://a:b@h/d"), "postgres://a:***@h/d");
        assert_eq!(without_password("mysql://a:p@ss@h/d"), "mysql://a:***@h/d");
        assert_eq!(without_password("sqlite:///x.db"), "sqlite:///x.db");
    }
}
