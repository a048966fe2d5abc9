//! The store: what must outlive a process or cross one goes through here, and nowhere else.
//!
//! # What do we store?
//! - `node`: the organization as last read.
//! - `cell`: the ledger, one row for each account x region x control.
//! - `resource`: findings, plans, remediations, rollouts and scans: JSON documents of
//!   `ringfence-domain` with the columns that are searched, and a version for compare-and-set.
//! - `scan_account`: which accounts a scan has still to do.
//! - `lease`: who works on what: owner, fence, expiry by the database's clock.
//! - `event`: the audit log, written in the transaction of the change that it tells of.
//!
//! Each method is one transaction. Two adapters are stamped from one SQL text ([`sql`]); one
//! contract test (`tests/it/store_contract.rs`) runs on both.

mod sql;

use async_trait::async_trait;
use ringfence_domain::audit::Event;
use ringfence_domain::id::{AccountId, NodeId};
use ringfence_domain::ledger::Cell;
use ringfence_domain::org::Node;
use ringfence_domain::time::{Span, Time};
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
    /// The region it is about; empty if none. Of a remediation: its plan.
    pub region: String,
    /// Its state, as the document says it.
    pub state: String,
    /// When it wants to be looked at.
    pub wake_at: Time,
    /// Raised by one with each write. A write with an older one changes nothing.
    pub version: i64,
    /// When it was made.
    pub created_at: Time,
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

/// The right to work on one account, with its fence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The account.
    pub account: String,
    /// Raised at each take-over.
    pub fence: i64,
}

/// What an account's holder has to write after looking at cells.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The cells, as they are now.
    pub cells: Vec<Cell>,
    /// Findings: new ones have version 0.
    pub findings: Vec<Row>,
    /// Regions whose cells are dropped: the account is known not to have them.
    pub gone: Vec<String>,
    /// Whether the account is done with, for this scan.
    pub last: bool,
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
}

/// See the module.
#[async_trait]
pub trait Store: Send + Sync {
    /// Replaces the organization: writes `nodes`, removes `gone`, makes the cells that are not there
    /// yet, and drops the cells of accounts that have none any more.
    async fn put_org(
        &self,
        as_of: Time,
        nodes: &[Node],
        gone: &[NodeId],
        new_cells: &[Cell],
        without_cells: &[AccountId],
        event: &Event,
    ) -> Result<()>;

    /// The organization and when it was read; `None` before the first sync.
    async fn org(&self) -> Result<Option<(Time, Vec<Node>)>>;

    /// Cells ordered by account and region, after that pair; empty `account` means any.
    async fn cells(&self, account: &str, after: (&str, &str), limit: i64) -> Result<Vec<Cell>>;

    /// Account, region and state of every cell: what counts are made of.
    async fn cell_states(&self) -> Result<Vec<(String, String, String)>>;

    /// One document.
    async fn get(&self, kind: Kind, id: &str) -> Result<Option<Row>>;

    /// Documents ordered by id, after that id.
    async fn list(&self, kind: Kind, filter: &Filter, after: &str, limit: i64) -> Result<Vec<Row>>;

    /// Writes new documents, all or none. False if one of the ids is taken.
    async fn create(&self, rows: &[Row], event: &Event) -> Result<bool>;

    /// Writes documents whose versions are still those given, and new ones of version 0; all or
    /// none. False if one was changed meanwhile.
    async fn update(&self, rows: &[Row], event: &Event) -> Result<bool>;

    /// Queues accounts for a scan. False if the scan exists.
    async fn start_scan(&self, scan: &Row, accounts: &[AccountId], event: &Event) -> Result<bool>;

    /// How many accounts a scan has, and how many are done.
    async fn scan_progress(&self, scan: &str) -> Result<(i64, i64)>;

    /// Leases up to `max` accounts that have work due and no holder.
    async fn claim(&self, owner: &str, now: Time, ttl: Span, max: i64) -> Result<Vec<Lease>>;

    /// The scans that still want this account.
    async fn scans_of(&self, account: &str) -> Result<Vec<String>>;

    /// Prolongs leases; those that are not answered are lost.
    async fn renew(&self, owner: &str, leases: &[Lease], ttl: Span) -> Result<Vec<Lease>>;

    /// Gives an account back.
    async fn release(&self, owner: &str, lease: &Lease) -> Result<()>;

    /// Writes what was seen in cells, under the fence.
    async fn report(
        &self,
        owner: &str,
        lease: &Lease,
        scan: &str,
        report: &Report,
        event: Option<&Event>,
    ) -> Result<Fenced>;

    /// Writes documents, under the fence and their versions; all or none. A look that found nothing
    /// new has no event.
    async fn commit(
        &self,
        owner: &str,
        lease: &Lease,
        rows: &[Row],
        event: Option<&Event>,
    ) -> Result<Fenced>;

    /// Takes or keeps a named lease (the rollouts, the server); true if it is ours now.
    async fn hold(&self, name: &str, owner: &str, ttl: Span) -> Result<bool>;

    /// Appends an event that goes with no change, for example a refusal.
    async fn append(&self, event: &Event) -> Result<()>;

    /// Events, newest first, below that number; empty texts mean any.
    async fn events(
        &self,
        subject: &str,
        actor: &str,
        below: i64,
        limit: i64,
    ) -> Result<Vec<Logged>>;

    /// The database's clock.
    async fn clock(&self) -> Result<Time>;
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
