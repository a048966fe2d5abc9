//! Documents, the organization, named leases, the audit log.

use super::agents::Agents;
use super::ledger::Ledger;
use super::queue::Queue;
use super::sql::{Postgres, Sqlite, columns, event_columns, for_both};
use super::{EventFilter, Filter, Kind, Logged, Result, Row, StoreError, json};
use async_trait::async_trait;
use ringfence_domain::audit::Event;
use ringfence_domain::controls::ALL;
use ringfence_domain::id::{AccountId, NodeId};
use ringfence_domain::ledger::Cell;
use ringfence_domain::org::Node;
use ringfence_domain::time::{Span, Time};
use sqlx::Row as _;

/// See the module `store`.
#[async_trait]
pub trait Store: Ledger + Queue + Agents {
    /// Replaces the organization: writes `nodes`, removes `gone`, makes the cells that are not there
    /// yet, and drops the cells of accounts that have none any more, and their places in scans.
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

    /// What changes with each [`Store::put_org`], cheap to ask for; 0 before the first sync.
    async fn org_version(&self) -> Result<i64>;

    /// One document.
    async fn get(&self, kind: Kind, id: &str) -> Result<Option<Row>>;

    /// Documents ordered by id, after that id.
    async fn list(&self, kind: Kind, filter: &Filter, after: &str, limit: i64) -> Result<Vec<Row>>;

    /// Writes documents whose versions are still those given, and new ones of version 0; all or
    /// none. False if one was changed meanwhile, or a new one's id is taken.
    async fn update_all(&self, rows: &[Row], events: &[&Event]) -> Result<bool>;

    /// The same, of one event.
    async fn update(&self, rows: &[Row], event: &Event) -> Result<bool> {
        self.update_all(rows, &[event]).await
    }

    /// Takes or keeps a named lease (the rollouts, the server); true if it is ours now.
    async fn hold(&self, name: &str, owner: &str, ttl: Span) -> Result<bool>;

    /// Who has a named lease, and until when unless it is kept; `None` where nobody has it.
    async fn holder(&self, name: &str) -> Result<Option<(String, Time)>>;

    /// Appends an event that goes with no change, for example a refusal.
    async fn append(&self, event: &Event) -> Result<()>;

    /// Events, newest first, below that number.
    async fn events(&self, only: EventFilter<'_>, below: i64, limit: i64) -> Result<Vec<Logged>>;

    /// The database's clock.
    async fn clock(&self) -> Result<Time>;
}

/// The one control so far.
pub(super) fn control() -> &'static str {
    ALL[0].id()
}

macro_rules! documents {
    ($name:ident, $row:ty, $tx:ty, $now:literal, $open:literal, $texts:literal, $close:literal) => {
        #[async_trait]
        impl Store for $name {
            async fn put_org(
                &self,
                as_of: Time,
                nodes: &[Node],
                gone: &[NodeId],
                new_cells: &[Cell],
                without_cells: &[AccountId],
                event: &Event,
            ) -> Result<()> {
                let mut tx = self.begin().await?;
                Self::counting_alone(&mut tx).await?;
                let rows: Vec<_> = nodes.iter()
                    .map(|n| serde_json::json!({"i": n.id.as_str(), "p": n.parent.as_ref().map_or("", |p| p.as_str()), "b": n}))
                    .collect();
                sqlx::query(concat!("INSERT INTO node (id, parent, body)
                    SELECT value->>'i', value->>'p', CAST(value->'b' AS TEXT) FROM ", $open, "$1", $close, "
                    WHERE true ON CONFLICT (id) DO UPDATE SET parent = excluded.parent, body = excluded.body"))
                    .bind(json(&rows)).execute(&mut *tx).await?;
                for id in gone {
                    sqlx::query("DELETE FROM node WHERE id = $1").bind(id.as_str()).execute(&mut *tx).await?;
                }
                for account in without_cells {
                    sqlx::query("DELETE FROM cell WHERE account = $1").bind(account.as_str()).execute(&mut *tx).await?;
                    sqlx::query("DELETE FROM scan_account WHERE account = $1 AND done <> 1").bind(account.as_str()).execute(&mut *tx).await?;
                }
                let rows: Vec<_> = new_cells.iter()
                    .map(|c| serde_json::json!({"a": c.account.as_str(), "r": c.region, "s": c.state.as_str(), "b": c}))
                    .collect();
                // An account that was scanned meanwhile has its own.
                sqlx::query(concat!("INSERT INTO cell (account, region, control, state, body)
                    SELECT value->>'a', value->>'r', $2, value->>'s', CAST(value->'b' AS TEXT) FROM ", $open, "$1", $close, "
                    WHERE NOT EXISTS (SELECT 1 FROM cell c WHERE c.account = value->>'a') ON CONFLICT (account, region, control) DO NOTHING"))
                    .bind(json(&rows)).bind(control()).execute(&mut *tx).await?;
                let touched = new_cells.iter().map(|c| c.account.as_str()).chain(without_cells.iter().map(|a| a.as_str()));
                Self::recount(&mut tx, touched.collect()).await?;
                sqlx::query("INSERT INTO meta (key, value) VALUES ('org_as_of', $1) ON CONFLICT (key) DO UPDATE SET value = excluded.value")
                    .bind(as_of.0.to_string()).execute(&mut *tx).await?;
                sqlx::query("INSERT INTO meta (key, value) VALUES ('org_version', '1') ON CONFLICT (key)
                    DO UPDATE SET value = CAST(CAST(meta.value AS BIGINT) + 1 AS TEXT)").execute(&mut *tx).await?;
                Self::log(&mut tx, &[event]).await?;
                tx.commit().await?;
                Ok(())
            }

            async fn org(&self) -> Result<Option<(Time, Vec<Node>)>> {
                let mut tx = self.reader.begin().await?;
                let as_of = sqlx::query("SELECT value FROM meta WHERE key = 'org_as_of'").fetch_optional(&mut *tx).await?;
                let as_of = as_of.map(|r| r.try_get::<String, _>(0)).transpose()?;
                let Some(as_of) = as_of.and_then(|v| v.parse().ok()) else { return Ok(None) };
                let rows = sqlx::query("SELECT body FROM node ORDER BY id").fetch_all(&mut *tx).await?;
                let node = |row: &$row| -> Result<Node> {
                    let body: String = row.try_get(0)?;
                    serde_json::from_str(&body).map_err(|e| StoreError::Document { kind: "node", id: body, why: e.to_string() })
                };
                Ok(Some((Time(as_of), rows.iter().map(node).collect::<Result<_>>()?)))
            }

            async fn org_version(&self) -> Result<i64> {
                let found = sqlx::query("SELECT value FROM meta WHERE key = 'org_version'").fetch_optional(&self.reader).await?;
                let found = found.map(|r| r.try_get::<String, _>(0)).transpose()?;
                Ok(found.and_then(|v| v.parse().ok()).unwrap_or(0))
            }

            async fn get(&self, kind: Kind, id: &str) -> Result<Option<Row>> {
                let row = sqlx::query(concat!("SELECT ", columns!(), " FROM resource WHERE kind = $1 AND id = $2"))
                    .bind(kind.as_str()).bind(id).fetch_optional(&self.reader).await?;
                row.map(|r| Self::row(&r, kind)).transpose()
            }

            async fn list(&self, kind: Kind, filter: &Filter, after: &str, limit: i64) -> Result<Vec<Row>> {
                let rows = sqlx::query(concat!("SELECT ", columns!(), " FROM resource
                    WHERE kind = $1 AND id > $2 AND ($3 = '' OR account = $3) AND ($4 = '' OR region = $4)
                    AND ($5 = '' OR state = $5) ORDER BY id LIMIT $6"))
                    .bind(kind.as_str()).bind(after).bind(&filter.account).bind(&filter.region)
                    .bind(&filter.state).bind(limit).fetch_all(&self.reader).await?;
                rows.iter().map(|r| Self::row(r, kind)).collect()
            }

            async fn update_all(&self, rows: &[Row], events: &[&Event]) -> Result<bool> {
                let mut tx = self.begin().await?;
                if rows.iter().any(|r| r.kind == Kind::Finding) {
                    Self::counting_alone(&mut tx).await?;
                }
                if !Self::put_all(&mut tx, rows).await? {
                    return Ok(false); // dropping the transaction rolls it back
                }
                Self::log(&mut tx, events).await?;
                tx.commit().await?;
                Ok(true)
            }

            async fn hold(&self, name: &str, owner: &str, ttl: Span) -> Result<bool> {
                let mut tx = self.begin().await?;
                let row = sqlx::query(concat!(
                    "INSERT INTO lease (name, owner, fence, expires_at) VALUES ($1, $2, 1, ", $now, " + $3)
                    ON CONFLICT (name) DO UPDATE SET fence = lease.fence + CASE WHEN lease.owner = excluded.owner THEN 0 ELSE 1 END,
                        owner = excluded.owner, expires_at = excluded.expires_at
                        WHERE lease.expires_at <= ", $now, " OR lease.owner = excluded.owner RETURNING fence"))
                    .bind(name).bind(owner).bind(ttl.0).fetch_optional(&mut *tx).await?;
                tx.commit().await?;
                Ok(row.is_some())
            }

            async fn holder(&self, name: &str) -> Result<Option<(String, Time)>> {
                let row = sqlx::query(concat!("SELECT owner, expires_at FROM lease
                    WHERE name = $1 AND expires_at > ", $now)).bind(name).fetch_optional(&self.reader).await?;
                row.map(|row| Ok((row.try_get(0)?, Time(row.try_get(1)?)))).transpose()
            }

            async fn append(&self, event: &Event) -> Result<()> {
                let mut tx = self.begin().await?;
                Self::log(&mut tx, &[event]).await?;
                tx.commit().await?;
                Ok(())
            }

            async fn events(&self, only: EventFilter<'_>, below: i64, limit: i64) -> Result<Vec<Logged>> {
                let rows = sqlx::query(concat!("SELECT ", event_columns!(), " FROM event
                    WHERE seq < $1 AND ($2 = '' OR subject = $2) AND ($3 = '' OR actor = $3)
                    AND ($4 = '' OR action = $4) ORDER BY seq DESC LIMIT $5"))
                    .bind(below).bind(only.subject).bind(only.actor).bind(only.action).bind(limit)
                    .fetch_all(&self.reader).await?;
                rows.iter().map(Self::logged).collect()
            }

            async fn clock(&self) -> Result<Time> {
                let row = sqlx::query(concat!("SELECT ", $now)).fetch_one(&self.reader).await?;
                Ok(Time(row.try_get(0)?))
            }
        }
    };
}

for_both!(documents);
