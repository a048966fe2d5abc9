//! The two adapters, stamped from one SQL text. What differs: the clock, the number of an event,
//! and how a transaction begins.

use super::{
    Fenced, Filter, Kind, Lease, Logged, Report, Result, Row, Store, StoreError, json,
    without_password,
};
use async_trait::async_trait;
use ringfence_domain::audit::Event;
use ringfence_domain::controls::ALL;
use ringfence_domain::id::{AccountId, NodeId};
use ringfence_domain::ledger::Cell;
use ringfence_domain::org::Node;
use ringfence_domain::time::{Span, Time};
use sqlx::Row as _;

/// Raised with each change of the schema; a database of a newer version is refused.
const SCHEMA: i64 = 1;

macro_rules! schema {
    ($sequence:literal) => {
        [
            "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
            "CREATE TABLE IF NOT EXISTS node (id TEXT PRIMARY KEY, body TEXT NOT NULL)",
            "CREATE TABLE IF NOT EXISTS cell (account TEXT NOT NULL, region TEXT NOT NULL, control TEXT NOT NULL,
                state TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (account, region, control))",
            "CREATE TABLE IF NOT EXISTS resource (kind TEXT NOT NULL, id TEXT NOT NULL, account TEXT NOT NULL,
                region TEXT NOT NULL, state TEXT NOT NULL, wake_at BIGINT NOT NULL, version BIGINT NOT NULL,
                created_at BIGINT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (kind, id))",
            "CREATE INDEX IF NOT EXISTS resource_by_account ON resource (kind, account, region)",
            "CREATE INDEX IF NOT EXISTS resource_by_state ON resource (kind, state)",
            "CREATE TABLE IF NOT EXISTS scan_account (scan TEXT NOT NULL, account TEXT NOT NULL, done BIGINT NOT NULL,
                PRIMARY KEY (scan, account))",
            "CREATE INDEX IF NOT EXISTS scan_account_open ON scan_account (account) WHERE done = 0",
            "CREATE TABLE IF NOT EXISTS lease (name TEXT PRIMARY KEY, owner TEXT NOT NULL, fence BIGINT NOT NULL,
                expires_at BIGINT NOT NULL)",
            concat!(
                "CREATE TABLE IF NOT EXISTS event (seq ", $sequence, ", at BIGINT NOT NULL, actor TEXT NOT NULL,
                authenticated BIGINT NOT NULL, action TEXT NOT NULL, subject TEXT NOT NULL, reason TEXT NOT NULL)"
            ),
            "CREATE INDEX IF NOT EXISTS event_by_subject ON event (subject, seq)",
        ]
    };
}

fn control() -> &'static str {
    ALL[0].id()
}

fn account_lease(account: &str) -> String {
    format!("account/{account}")
}

macro_rules! adapter {
    ($(#[$doc:meta])* $name:ident, $pool:ty, $tx:ty, $row:ty, $begin:expr, $now:literal) => {
        $(#[$doc])*
        pub(super) struct $name {
            pool: $pool,
        }

        impl $name {
            async fn migrate(&self, statements: &[&'static str]) -> Result<()> {
                let mut tx = self.begin().await?;
                for statement in statements {
                    sqlx::query(*statement).execute(&mut *tx).await?;
                }
                let found = sqlx::query("SELECT value FROM meta WHERE key = 'schema'").fetch_optional(&mut *tx).await?;
                let found = found.map(|r| r.try_get::<String, _>(0)).transpose()?;
                let found: i64 = found.and_then(|v| v.parse().ok()).unwrap_or(SCHEMA);
                if found > SCHEMA {
                    return Err(StoreError::Newer { found, known: SCHEMA });
                }
                sqlx::query("INSERT INTO meta (key, value) VALUES ('schema', $1) ON CONFLICT (key) DO UPDATE SET value = excluded.value")
                    .bind(SCHEMA.to_string()).execute(&mut *tx).await?;
                tx.commit().await?;
                Ok(())
            }

            async fn begin(&self) -> Result<$tx> {
                let begin = $begin;
                Ok(begin(&self.pool).await?)
            }

            fn row(row: &$row, kind: Kind) -> Result<Row> {
                Ok(Row {
                    kind,
                    id: row.try_get(0)?,
                    account: row.try_get(1)?,
                    region: row.try_get(2)?,
                    state: row.try_get(3)?,
                    wake_at: Time(row.try_get(4)?),
                    version: row.try_get(5)?,
                    created_at: Time(row.try_get(6)?),
                    body: row.try_get(7)?,
                })
            }

            fn cell(row: &$row) -> Result<Cell> {
                let body: String = row.try_get(0)?;
                serde_json::from_str(&body).map_err(|e| StoreError::Document { kind: "cell", id: body, why: e.to_string() })
            }

            async fn log(tx: &mut $tx, event: &Event) -> Result<()> {
                sqlx::query("INSERT INTO event (at, actor, authenticated, action, subject, reason) VALUES ($1, $2, $3, $4, $5, $6)")
                    .bind(event.at.0).bind(&event.actor).bind(i64::from(event.authenticated))
                    .bind(&event.action).bind(&event.subject).bind(&event.reason)
                    .execute(&mut **tx).await?;
                Ok(())
            }

            async fn put_cell(tx: &mut $tx, cell: &Cell) -> Result<()> {
                sqlx::query("INSERT INTO cell (account, region, control, state, body) VALUES ($1, $2, $3, $4, $5)
                    ON CONFLICT (account, region, control) DO UPDATE SET state = excluded.state, body = excluded.body")
                    .bind(cell.account.as_str()).bind(&cell.region).bind(control())
                    .bind(cell.state.as_str()).bind(json(cell))
                    .execute(&mut **tx).await?;
                Ok(())
            }

            /// Inserts a row of version 0, updates any other; false if it lost.
            async fn put(tx: &mut $tx, row: &Row) -> Result<bool> {
                let done = if row.version == 0 {
                    sqlx::query("INSERT INTO resource (kind, id, account, region, state, wake_at, version, created_at, body)
                        VALUES ($1, $2, $3, $4, $5, $6, 1, $7, $8) ON CONFLICT (kind, id) DO NOTHING")
                        .bind(row.kind.as_str()).bind(&row.id).bind(&row.account).bind(&row.region)
                        .bind(&row.state).bind(row.wake_at.0).bind(row.created_at.0).bind(&row.body)
                        .execute(&mut **tx).await?
                } else {
                    sqlx::query("UPDATE resource SET state = $3, wake_at = $4, body = $5, version = version + 1
                        WHERE kind = $1 AND id = $2 AND version = $6")
                        .bind(row.kind.as_str()).bind(&row.id).bind(&row.state).bind(row.wake_at.0)
                        .bind(&row.body).bind(row.version)
                        .execute(&mut **tx).await?
                };
                Ok(done.rows_affected() == 1)
            }

            /// Whether the lease still holds. The update takes the row's lock, so that nobody can
            /// take the account over before this transaction ends.
            async fn holds(tx: &mut $tx, owner: &str, lease: &Lease) -> Result<bool> {
                let done = sqlx::query(concat!(
                    "UPDATE lease SET owner = owner WHERE name = $1 AND owner = $2 AND fence = $3 AND expires_at > ", $now))
                    .bind(account_lease(&lease.account)).bind(owner).bind(lease.fence)
                    .execute(&mut **tx).await?;
                Ok(done.rows_affected() == 1)
            }
        }

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
                for node in nodes {
                    sqlx::query("INSERT INTO node (id, body) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET body = excluded.body")
                        .bind(node.id.as_str()).bind(json(node)).execute(&mut *tx).await?;
                }
                for id in gone {
                    sqlx::query("DELETE FROM node WHERE id = $1").bind(id.as_str()).execute(&mut *tx).await?;
                }
                for account in without_cells {
                    sqlx::query("DELETE FROM cell WHERE account = $1").bind(account.as_str()).execute(&mut *tx).await?;
                }
                for cell in new_cells {
                    sqlx::query("INSERT INTO cell (account, region, control, state, body) VALUES ($1, $2, $3, $4, $5)
                        ON CONFLICT (account, region, control) DO NOTHING")
                        .bind(cell.account.as_str()).bind(&cell.region).bind(control())
                        .bind(cell.state.as_str()).bind(json(cell)).execute(&mut *tx).await?;
                }
                sqlx::query("INSERT INTO meta (key, value) VALUES ('org_as_of', $1) ON CONFLICT (key) DO UPDATE SET value = excluded.value")
                    .bind(as_of.0.to_string()).execute(&mut *tx).await?;
                Self::log(&mut tx, event).await?;
                tx.commit().await?;
                Ok(())
            }

            async fn org(&self) -> Result<Option<(Time, Vec<Node>)>> {
                let mut tx = self.begin().await?;
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

            async fn cells(&self, account: &str, after: (&str, &str), limit: i64) -> Result<Vec<Cell>> {
                let rows = sqlx::query("SELECT body FROM cell WHERE ($1 = '' OR account = $1)
                    AND (account > $2 OR (account = $2 AND region > $3)) ORDER BY account, region LIMIT $4")
                    .bind(account).bind(after.0).bind(after.1).bind(limit).fetch_all(&self.pool).await?;
                rows.iter().map(Self::cell).collect()
            }

            async fn cell_states(&self) -> Result<Vec<(String, String, String)>> {
                let rows = sqlx::query("SELECT account, region, state FROM cell ORDER BY account, region").fetch_all(&self.pool).await?;
                rows.iter().map(|r| Ok((r.try_get(0)?, r.try_get(1)?, r.try_get(2)?))).collect()
            }

            async fn get(&self, kind: Kind, id: &str) -> Result<Option<Row>> {
                let row = sqlx::query("SELECT id, account, region, state, wake_at, version, created_at, body FROM resource WHERE kind = $1 AND id = $2")
                    .bind(kind.as_str()).bind(id).fetch_optional(&self.pool).await?;
                row.map(|r| Self::row(&r, kind)).transpose()
            }

            async fn list(&self, kind: Kind, filter: &Filter, after: &str, limit: i64) -> Result<Vec<Row>> {
                let rows = sqlx::query("SELECT id, account, region, state, wake_at, version, created_at, body FROM resource
                    WHERE kind = $1 AND id > $2 AND ($3 = '' OR account = $3) AND ($4 = '' OR region = $4)
                    AND ($5 = '' OR state = $5) ORDER BY id LIMIT $6")
                    .bind(kind.as_str()).bind(after).bind(&filter.account).bind(&filter.region)
                    .bind(&filter.state).bind(limit).fetch_all(&self.pool).await?;
                rows.iter().map(|r| Self::row(r, kind)).collect()
            }

            async fn create(&self, rows: &[Row], event: &Event) -> Result<bool> {
                self.update(rows, event).await
            }

            async fn update(&self, rows: &[Row], event: &Event) -> Result<bool> {
                let mut tx = self.begin().await?;
                for row in rows {
                    if !Self::put(&mut tx, row).await? {
                        return Ok(false); // dropping the transaction rolls it back
                    }
                }
                Self::log(&mut tx, event).await?;
                tx.commit().await?;
                Ok(true)
            }

            async fn start_scan(&self, scan: &Row, accounts: &[AccountId], event: &Event) -> Result<bool> {
                let mut tx = self.begin().await?;
                if !Self::put(&mut tx, scan).await? {
                    return Ok(false);
                }
                for account in accounts {
                    sqlx::query("INSERT INTO scan_account (scan, account, done) VALUES ($1, $2, 0)")
                        .bind(&scan.id).bind(account.as_str()).execute(&mut *tx).await?;
                }
                Self::log(&mut tx, event).await?;
                tx.commit().await?;
                Ok(true)
            }

            async fn scan_progress(&self, scan: &str) -> Result<(i64, i64)> {
                let row = sqlx::query("SELECT COUNT(*), CAST(COALESCE(SUM(done), 0) AS BIGINT) FROM scan_account WHERE scan = $1")
                    .bind(scan).fetch_one(&self.pool).await?;
                Ok((row.try_get(0)?, row.try_get(1)?))
            }

            async fn claim(&self, owner: &str, now: Time, ttl: Span, max: i64) -> Result<Vec<Lease>> {
                let mut tx = self.begin().await?;
                let rows = sqlx::query(concat!(
                    "SELECT w.account FROM (SELECT account FROM scan_account WHERE done = 0
                        UNION SELECT account FROM resource WHERE kind = 'remediation'
                            AND state IN ('pending', 'running') AND wake_at <= $1) w
                    WHERE NOT EXISTS (SELECT 1 FROM lease l WHERE l.name = 'account/' || w.account AND l.expires_at > ", $now, ")
                    ORDER BY w.account LIMIT $2"))
                    .bind(now.0).bind(max).fetch_all(&mut *tx).await?;
                let mut leases = Vec::new();
                for row in rows {
                    let account: String = row.try_get(0)?;
                    // The WHERE of the upsert decides between two who saw the same free account:
                    // the second waits for the row, sees the new expiry, and gets nothing.
                    let fence = sqlx::query(concat!(
                        "INSERT INTO lease (name, owner, fence, expires_at) VALUES ($1, $2, 1, ", $now, " + $3)
                        ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, fence = lease.fence + 1,
                            expires_at = excluded.expires_at WHERE lease.expires_at <= ", $now, " RETURNING fence"))
                        .bind(account_lease(&account)).bind(owner).bind(ttl.0).fetch_optional(&mut *tx).await?;
                    if let Some(fence) = fence {
                        leases.push(Lease { account, fence: fence.try_get(0)? });
                    }
                }
                tx.commit().await?;
                Ok(leases)
            }

            async fn scans_of(&self, account: &str) -> Result<Vec<String>> {
                let rows = sqlx::query("SELECT scan FROM scan_account WHERE account = $1 AND done = 0 ORDER BY scan")
                    .bind(account).fetch_all(&self.pool).await?;
                rows.iter().map(|r| Ok(r.try_get(0)?)).collect()
            }

            async fn renew(&self, owner: &str, leases: &[Lease], ttl: Span) -> Result<Vec<Lease>> {
                let mut tx = self.begin().await?;
                let mut held = Vec::new();
                for lease in leases {
                    // Not after it expired: somebody may be about to take it, and a worker that was
                    // frozen must learn that it lost the account.
                    let done = sqlx::query(concat!(
                        "UPDATE lease SET expires_at = ", $now, " + $4
                        WHERE name = $1 AND owner = $2 AND fence = $3 AND expires_at > ", $now))
                        .bind(account_lease(&lease.account)).bind(owner).bind(lease.fence).bind(ttl.0)
                        .execute(&mut *tx).await?;
                    if done.rows_affected() == 1 {
                        held.push(lease.clone());
                    }
                }
                tx.commit().await?;
                Ok(held)
            }

            async fn release(&self, owner: &str, lease: &Lease) -> Result<()> {
                sqlx::query("UPDATE lease SET expires_at = 0 WHERE name = $1 AND owner = $2 AND fence = $3")
                    .bind(account_lease(&lease.account)).bind(owner).bind(lease.fence).execute(&self.pool).await?;
                Ok(())
            }

            async fn report(&self, owner: &str, lease: &Lease, scan: &str, report: &Report, event: Option<&Event>) -> Result<Fenced> {
                let mut tx = self.begin().await?;
                if !Self::holds(&mut tx, owner, lease).await? {
                    return Ok(Fenced::Lost);
                }
                for region in &report.gone {
                    sqlx::query("DELETE FROM cell WHERE account = $1 AND region = $2")
                        .bind(&lease.account).bind(region).execute(&mut *tx).await?;
                }
                for cell in &report.cells {
                    Self::put_cell(&mut tx, cell).await?;
                }
                for finding in &report.findings {
                    if !Self::put(&mut tx, finding).await? {
                        return Ok(Fenced::Stale);
                    }
                }
                if report.last {
                    sqlx::query("UPDATE scan_account SET done = 1 WHERE scan = $1 AND account = $2")
                        .bind(scan).bind(&lease.account).execute(&mut *tx).await?;
                }
                if let Some(event) = event {
                    Self::log(&mut tx, event).await?;
                }
                tx.commit().await?;
                Ok(Fenced::Done)
            }

            async fn commit(&self, owner: &str, lease: &Lease, rows: &[Row], event: Option<&Event>) -> Result<Fenced> {
                let mut tx = self.begin().await?;
                if !Self::holds(&mut tx, owner, lease).await? {
                    return Ok(Fenced::Lost);
                }
                for row in rows {
                    if !Self::put(&mut tx, row).await? {
                        return Ok(Fenced::Stale);
                    }
                }
                if let Some(event) = event {
                    Self::log(&mut tx, event).await?;
                }
                tx.commit().await?;
                Ok(Fenced::Done)
            }

            async fn hold(&self, name: &str, owner: &str, ttl: Span) -> Result<bool> {
                let row = sqlx::query(concat!(
                    "INSERT INTO lease (name, owner, fence, expires_at) VALUES ($1, $2, 1, ", $now, " + $3)
                    ON CONFLICT (name) DO UPDATE SET fence = lease.fence + CASE WHEN lease.owner = excluded.owner THEN 0 ELSE 1 END,
                        owner = excluded.owner, expires_at = excluded.expires_at
                        WHERE lease.expires_at <= ", $now, " OR lease.owner = excluded.owner RETURNING fence"))
                    .bind(name).bind(owner).bind(ttl.0).fetch_optional(&self.pool).await?;
                Ok(row.is_some())
            }

            async fn append(&self, event: &Event) -> Result<()> {
                let mut tx = self.begin().await?;
                Self::log(&mut tx, event).await?;
                tx.commit().await?;
                Ok(())
            }

            async fn events(&self, subject: &str, actor: &str, below: i64, limit: i64) -> Result<Vec<Logged>> {
                let rows = sqlx::query("SELECT seq, at, actor, authenticated, action, subject, reason FROM event
                    WHERE seq < $1 AND ($2 = '' OR subject = $2) AND ($3 = '' OR actor = $3) ORDER BY seq DESC LIMIT $4")
                    .bind(below).bind(subject).bind(actor).bind(limit).fetch_all(&self.pool).await?;
                let logged = |r: &$row| -> Result<Logged> {
                    let event = Event {
                        at: Time(r.try_get(1)?),
                        actor: r.try_get(2)?,
                        authenticated: r.try_get::<i64, _>(3)? != 0,
                        action: r.try_get(4)?,
                        subject: r.try_get(5)?,
                        reason: r.try_get(6)?,
                    };
                    Ok(Logged { sequence: r.try_get(0)?, event })
                };
                rows.iter().map(logged).collect()
            }

            async fn clock(&self) -> Result<Time> {
                let row = sqlx::query(concat!("SELECT ", $now)).fetch_one(&self.pool).await?;
                Ok(Time(row.try_get(0)?))
            }
        }
    };
}

type SqliteTx = sqlx::Transaction<'static, sqlx::Sqlite>;
type PostgresTx = sqlx::Transaction<'static, sqlx::Postgres>;

adapter!(
    /// SQLite in WAL mode: one machine, one server, one connection (more only wait for each other).
    Sqlite,
    sqlx::SqlitePool,
    SqliteTx,
    sqlx::sqlite::SqliteRow,
    // A transaction that reads first and writes later must take the write lock at once.
    |pool: &sqlx::SqlitePool| pool.clone().begin_owned(),
    "CAST(unixepoch('subsec') * 1000 AS INTEGER)"
);

adapter!(
    /// PostgreSQL: many servers and agents.
    Postgres,
    sqlx::PgPool,
    PostgresTx,
    sqlx::postgres::PgRow,
    |pool: &sqlx::PgPool| pool.clone().begin_owned(),
    "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)"
);

/// Begins a transaction that can be held across awaits without borrowing the pool.
trait BeginOwned {
    type Tx;
    async fn begin_owned(self) -> sqlx::Result<Self::Tx>;
}

impl BeginOwned for sqlx::SqlitePool {
    type Tx = SqliteTx;
    async fn begin_owned(self) -> sqlx::Result<SqliteTx> {
        self.begin_with("BEGIN IMMEDIATE").await
    }
}

impl BeginOwned for sqlx::PgPool {
    type Tx = PostgresTx;
    async fn begin_owned(self) -> sqlx::Result<PostgresTx> {
        self.begin().await
    }
}

impl Sqlite {
    pub(super) async fn open(path: &str) -> Result<Sqlite> {
        use sqlx::sqlite::{
            SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
        };
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // FULL: an intent that AWS acts on must be on disk before the call.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(std::time::Duration::from_secs(10));
        let open = SqlitePoolOptions::new().max_connections(1).connect_with(options).await;
        let pool = open.map_err(|e| StoreError::Url {
            url: format!("sqlite://{path}"),
            why: format!("{e}; the directory must exist and be writable"),
        })?;
        let store = Sqlite { pool };
        store.migrate(&schema!("INTEGER PRIMARY KEY AUTOINCREMENT")).await?;
        Ok(store)
    }
}

impl Postgres {
    pub(super) async fn open(url: &str) -> Result<Postgres> {
        use sqlx::postgres::PgPoolOptions;
        let open = PgPoolOptions::new()
            .max_connections(8)
            .acquire_timeout(std::time::Duration::from_secs(10))
            .connect(url)
            .await;
        let pool =
            open.map_err(|e| StoreError::Url { url: without_password(url), why: e.to_string() })?;
        let store = Postgres { pool };
        store.migrate(&schema!("BIGSERIAL PRIMARY KEY")).await?;
        Ok(store)
    }
}
