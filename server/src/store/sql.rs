//! The two adapters, whose methods are stamped from one SQL text. What differs: the clock, the number
//! of an event, how JSON becomes rows, and how a transaction begins.

use super::schema::{
    SCHEMA, SEALED_POSTGRES, SEALED_SQLITE, VERSION_3, VERSION_4, version_1, version_2,
};
use super::{Kind, Lease, Logged, Result, Row, StoreError, without_password};
use ringfence_domain::audit::Event;
use ringfence_domain::time::Time;
use serde::Serialize;
use sqlx::Row as _;

/// Stamps a macro for both databases: the adapter, its row, its transaction, its clock, and what stands before a
/// parameter whose JSON array becomes rows of one column `value` (of objects, of texts), and after it.
macro_rules! for_both {
    ($stamp:ident) => {
        $stamp!(
            Sqlite,
            sqlx::sqlite::SqliteRow,
            SqliteTx,
            "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
            "json_each(",
            "json_each(",
            ")"
        );
        $stamp!(
            Postgres,
            sqlx::postgres::PgRow,
            PostgresTx,
            "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)",
            "json_array_elements(CAST(",
            "json_array_elements_text(CAST(",
            " AS JSON)) AS t(value)"
        );
    };
}

/// The columns of a document, in the order in which `row` reads them.
macro_rules! columns {
    () => {
        "id, account, region, state, wake_at, version, created_at, label, body"
    };
}

/// The columns of an event, in the order in which `logged` reads them.
macro_rules! event_columns {
    () => {
        "seq, at, actor, authenticated, action, subject, reason, seal"
    };
}

pub(super) use {columns, event_columns, for_both};

/// SQLite in WAL mode: one machine, one server, one connection that writes (more only wait for each
/// other) and some that read beside it.
pub(super) struct Sqlite {
    writer: sqlx::SqlitePool,
    pub(super) reader: sqlx::SqlitePool,
}

/// PostgreSQL: many servers and agents.
pub(super) struct Postgres {
    pub(super) reader: sqlx::PgPool,
}

pub(super) type SqliteTx = sqlx::Transaction<'static, sqlx::Sqlite>;
pub(super) type PostgresTx = sqlx::Transaction<'static, sqlx::Postgres>;

/// The name of an account's lease.
pub(super) fn account_lease(account: &str) -> String {
    format!("account/{account}")
}

/// Leases as rows for a statement: their names and fences.
pub(super) fn leases_json<'a>(leases: impl Iterator<Item = &'a Lease>) -> String {
    let rows: Vec<_> =
        leases.map(|l| serde_json::json!({"n": account_lease(&l.account), "f": l.fence})).collect();
    serde_json::Value::Array(rows).to_string()
}

/// A document as a statement takes it apart.
#[derive(Serialize)]
struct RowJson<'a> {
    k: &'static str,
    i: &'a str,
    a: &'a str,
    r: &'a str,
    s: &'a str,
    w: i64,
    v: i64,
    c: i64,
    l: &'a str,
    b: &'a str,
}

fn rows_json(rows: &[&Row]) -> String {
    let rows = rows.iter().map(|row| RowJson {
        k: row.kind.as_str(),
        i: &row.id,
        a: &row.account,
        r: &row.region,
        s: &row.state,
        w: row.wake_at.0,
        v: row.version,
        c: row.created_at.0,
        l: &row.label,
        b: &row.body,
    });
    super::json(&rows.collect::<Vec<_>>())
}

/// What every part of the store uses, on either database.
macro_rules! common {
    ($name:ident, $row:ty, $tx:ty, $now:literal, $open:literal, $texts:literal, $close:literal) => {
        impl $name {
            pub(super) async fn migrate(&self, first: &[&'static str], second: &[&'static str], sealed: &'static str) -> Result<()> {
                let mut tx = self.begin().await?;
                // Of two servers that start at once, one migrates.
                Self::counting_alone(&mut tx).await?;
                for statement in first {
                    sqlx::query(*statement).execute(&mut *tx).await?;
                }
                let found = sqlx::query("SELECT value FROM meta WHERE key = 'schema'").fetch_optional(&mut *tx).await?;
                let found = found.map(|r| r.try_get::<String, _>(0)).transpose()?;
                let found: i64 = found.and_then(|v| v.parse().ok()).unwrap_or(1);
                if found > SCHEMA {
                    return Err(StoreError::Newer { found, known: SCHEMA });
                }
                for (version, statements) in [(2, second), (3, VERSION_3), (4, VERSION_4)] {
                    for statement in statements.iter().filter(|_| found < version) {
                        sqlx::query(*statement).execute(&mut *tx).await?;
                    }
                }
                if found < 4 {
                    Self::seal_all(&mut tx).await?;
                    sqlx::query(sealed).execute(&mut *tx).await?;
                }
                sqlx::query("INSERT INTO meta (key, value) VALUES ('schema', $1) ON CONFLICT (key) DO UPDATE SET value = excluded.value")
                    .bind(SCHEMA.to_string()).execute(&mut *tx).await?;
                tx.commit().await?;
                Ok(())
            }

            pub(super) fn row(row: &$row, kind: Kind) -> Result<Row> {
                Ok(Row {
                    kind,
                    id: row.try_get(0)?,
                    account: row.try_get(1)?,
                    region: row.try_get(2)?,
                    state: row.try_get(3)?,
                    wake_at: Time(row.try_get(4)?),
                    version: row.try_get(5)?,
                    created_at: Time(row.try_get(6)?),
                    label: row.try_get(7)?,
                    body: row.try_get(8)?,
                })
            }

            /// A lease from its name and fence.
            pub(super) fn lease(row: &$row) -> Result<Lease> {
                let name: String = row.try_get(0)?;
                let account = name.strip_prefix("account/").unwrap_or(&name).to_owned();
                Ok(Lease { account, fence: row.try_get(1)? })
            }

            /// Seals the events that were written before there were seals.
            async fn seal_all(tx: &mut $tx) -> Result<()> {
                let (mut after, mut seal) = (0, String::new());
                loop {
                    let rows = sqlx::query(concat!("SELECT ", event_columns!(), " FROM event WHERE seq > $1 ORDER BY seq LIMIT 1000"))
                        .bind(after).fetch_all(&mut **tx).await?;
                    if rows.is_empty() {
                        return Ok(());
                    }
                    let mut seals = Vec::new();
                    for row in &rows {
                        let logged = Self::logged(row)?;
                        (after, seal) = (logged.sequence, logged.event.seal(logged.sequence, &seal));
                        seals.push(serde_json::json!({"n": after, "s": seal}));
                    }
                    sqlx::query(concat!("UPDATE event SET seal = n.seal FROM (SELECT CAST(value->>'n' AS BIGINT) AS seq, value->>'s' AS seal
                        FROM ", $open, "$1", $close, ") n WHERE event.seq = n.seq"))
                        .bind(super::json(&seals)).execute(&mut **tx).await?;
                }
            }

            /// An event of the audit log, from its row.
            pub(super) fn logged(r: &$row) -> Result<Logged> {
                let event = Event {
                    at: Time(r.try_get(1)?),
                    actor: r.try_get(2)?,
                    authenticated: r.try_get::<i64, _>(3)? != 0,
                    action: r.try_get(4)?,
                    subject: r.try_get(5)?,
                    reason: r.try_get(6)?,
                };
                Ok(Logged { sequence: r.try_get(0)?, event, seal: r.try_get(7)? })
            }

            /// Appends to the audit log, which must be the last that a transaction does: from here to its end it is alone.
            pub(super) async fn log(tx: &mut $tx, events: &[&Event]) -> Result<()> {
                if events.is_empty() {
                    return Ok(());
                }
                Self::logging_alone(tx).await?;
                let last = sqlx::query("SELECT seq, seal FROM event ORDER BY seq DESC LIMIT 1").fetch_optional(&mut **tx).await?;
                let (mut sequence, mut seal): (i64, String) = match last {
                    Some(row) => (row.try_get(0)?, row.try_get(1)?),
                    None => (0, String::new()),
                };
                for event in events {
                    sequence += 1;
                    seal = event.seal(sequence, &seal);
                    sqlx::query("INSERT INTO event (seq, at, actor, authenticated, action, subject, reason, seal) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)")
                        .bind(sequence).bind(event.at.0).bind(&event.actor).bind(i64::from(event.authenticated))
                        .bind(&event.action).bind(&event.subject).bind(&event.reason).bind(&seal)
                        .execute(&mut **tx).await?;
                }
                Ok(())
            }

            /// Inserts rows of version 0, updates all others; false if one lost: it was changed meanwhile, or
            /// its id is taken. The caller undoes the others. Two statements, however many rows there are.
            pub(super) async fn put(tx: &mut $tx, rows: &[Row]) -> Result<bool> {
                let (new, old): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| row.version == 0);
                for (rows, statement) in [
                    (new, concat!("INSERT INTO resource (kind, id, account, region, state, wake_at, version, created_at, label, body)
                        SELECT value->>'k', value->>'i', value->>'a', value->>'r', value->>'s', CAST(value->>'w' AS BIGINT), 1,
                            CAST(value->>'c' AS BIGINT), value->>'l', value->>'b' FROM ", $open, "$1", $close, "
                        WHERE true ON CONFLICT (kind, id) DO NOTHING")),
                    (old, concat!("UPDATE resource SET state = n.state, wake_at = n.wake_at, label = n.label, body = n.body, version = n.version + 1
                        FROM (SELECT value->>'k' AS kind, value->>'i' AS id, value->>'s' AS state, CAST(value->>'w' AS BIGINT) AS wake_at,
                            CAST(value->>'v' AS BIGINT) AS version, value->>'l' AS label, value->>'b' AS body FROM ", $open, "$1", $close, ") n
                        WHERE resource.kind = n.kind AND resource.id = n.id AND resource.version = n.version")),
                ] {
                    if rows.is_empty() {
                        continue;
                    }
                    let done = sqlx::query(statement).bind(rows_json(&rows)).execute(&mut **tx).await?;
                    if done.rows_affected() != rows.len() as u64 {
                        return Ok(false);
                    }
                }
                Ok(true)
            }

            /// [`put`](Self::put), and the counts that it changes.
            pub(super) async fn put_all(tx: &mut $tx, rows: &[Row]) -> Result<bool> {
                if !Self::put(tx, rows).await? {
                    return Ok(false); // dropping the transaction rolls it back
                }
                let touched = rows.iter().filter(|r| r.kind == Kind::Finding).map(|r| r.account.as_str());
                Self::recount(tx, touched.collect()).await?;
                Ok(true)
            }

            /// Counts the cells and open findings of these accounts anew.
            pub(super) async fn recount(tx: &mut $tx, accounts: std::collections::BTreeSet<&str>) -> Result<()> {
                if accounts.is_empty() {
                    return Ok(());
                }
                let accounts = super::json(&accounts);
                for statement in [
                    concat!("DELETE FROM tally WHERE account IN (SELECT value FROM ", $texts, "$1", $close, ")"),
                    concat!("INSERT INTO tally (account, key, n) SELECT account, 'cell/' || state, COUNT(*) FROM cell
                        WHERE account IN (SELECT value FROM ", $texts, "$1", $close, ") GROUP BY account, state
                        UNION ALL SELECT account, 'config/' || config, COUNT(*) FROM cell
                        WHERE config <> '' AND account IN (SELECT value FROM ", $texts, "$1", $close, ") GROUP BY account, config"),
                    concat!("INSERT INTO tally (account, key, n) SELECT account, 'open/' || label, COUNT(*) FROM resource
                        WHERE kind = 'finding' AND state = 'open'
                        AND account IN (SELECT value FROM ", $texts, "$1", $close, ") GROUP BY account, label"),
                ] {
                    sqlx::query(statement).bind(&accounts).execute(&mut **tx).await?;
                }
                Ok(())
            }

            /// Which of these leases still hold. The update takes the rows' locks, so that nobody can
            /// take an account over before this transaction ends.
            pub(super) async fn holds(tx: &mut $tx, owner: &str, leases: impl Iterator<Item = &Lease>) -> Result<Vec<Lease>> {
                let rows = sqlx::query(concat!(
                    "UPDATE lease SET owner = owner WHERE owner = $2 AND expires_at > ", $now, "
                    AND (name, fence) IN (SELECT value->>'n', CAST(value->>'f' AS BIGINT) FROM ", $open, "$1", $close, ")
                    RETURNING name, fence"))
                    .bind(leases_json(leases)).bind(owner)
                    .fetch_all(&mut **tx).await?;
                rows.iter().map(Self::lease).collect()
            }

            /// Ends leases that are still ours.
            pub(super) async fn give_back(tx: &mut $tx, owner: &str, leases: impl Iterator<Item = &Lease>) -> Result<()> {
                sqlx::query(concat!("UPDATE lease SET expires_at = 0 WHERE owner = $2
                    AND (name, fence) IN (SELECT value->>'n', CAST(value->>'f' AS BIGINT) FROM ", $open, "$1", $close, ")"))
                    .bind(leases_json(leases)).bind(owner).execute(&mut **tx).await?;
                Ok(())
            }
        }
    };
}

for_both!(common);

/// Connections that read beside the one that writes.
const SQLITE_READERS: u32 = 4;

impl Sqlite {
    /// A transaction that reads first and writes later must take the write lock at once.
    pub(super) async fn begin(&self) -> Result<SqliteTx> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }

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
        let failed = |e: sqlx::Error| StoreError::Url {
            url: format!("sqlite://{path}"),
            why: format!("{e}; the directory must exist and be writable"),
        };
        let pool = |n| SqlitePoolOptions::new().max_connections(n);
        let writer = pool(1).connect_with(options.clone()).await.map_err(failed)?;
        let reader = pool(SQLITE_READERS)
            .connect_with(options.create_if_missing(false).pragma("query_only", "ON"))
            .await
            .map_err(failed)?;
        let store = Sqlite { writer, reader };
        let first = version_1!("INTEGER PRIMARY KEY AUTOINCREMENT");
        store.migrate(first, version_2!("body"), SEALED_SQLITE).await?;
        Ok(store)
    }
}

/// Counts are made anew by deleting and inserting them, which two at once for one account must not do.
/// Whoever holds the account's lease is alone with other holders; whoever does not (a waiver, a sync)
/// waits for all. Taken first in the transaction, so that nobody waits in a circle, and gone with it.
const COUNTS: i64 = 0x72_69_6e_67;

/// An event's seal holds the one before it, so two transactions must not append at once. Taken last in the transaction, so
/// that whoever waits for it holds nothing that its holder still wants.
const LOG: i64 = COUNTS + 1;

impl Sqlite {
    /// Whoever writes is alone here.
    async fn logging_alone(_: &mut SqliteTx) -> Result<()> {
        Ok(())
    }
    /// Whoever writes is alone here.
    pub(super) async fn counting_alone(_: &mut SqliteTx) -> Result<()> {
        Ok(())
    }

    /// Whoever writes is alone here.
    pub(super) async fn counting_under_a_lease(_: &mut SqliteTx) -> Result<()> {
        Ok(())
    }
}

/// Settings of each connection.
const POSTGRES: [(&str, &str); 4] = [
    // Notices are of no use to anybody: "index does not exist, skipping".
    ("client_min_messages", "warning"),
    // What was committed while a lock was waited for must be seen after it.
    ("default_transaction_isolation", "read committed"),
    // A server that lost its network in a transaction holds its locks no longer than this.
    ("idle_in_transaction_session_timeout", "60s"),
    ("lock_timeout", "60s"),
];

impl Postgres {
    /// See [`LOG`].
    async fn logging_alone(tx: &mut PostgresTx) -> Result<()> {
        sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOG).execute(&mut **tx).await?;
        Ok(())
    }

    /// See [`COUNTS`].
    pub(super) async fn counting_alone(tx: &mut PostgresTx) -> Result<()> {
        sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(COUNTS).execute(&mut **tx).await?;
        Ok(())
    }

    /// See [`COUNTS`].
    pub(super) async fn counting_under_a_lease(tx: &mut PostgresTx) -> Result<()> {
        let lock = "SELECT pg_advisory_xact_lock_shared($1)";
        sqlx::query(lock).bind(COUNTS).execute(&mut **tx).await?;
        Ok(())
    }

    pub(super) async fn begin(&self) -> Result<PostgresTx> {
        Ok(self.reader.begin().await?)
    }

    pub(super) async fn open(url: &str) -> Result<Postgres> {
        use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
        let failed =
            |e: sqlx::Error| StoreError::Url { url: without_password(url), why: e.to_string() };
        let options: PgConnectOptions = url.parse().map_err(failed)?;
        let pool = PgPoolOptions::new()
            .max_connections(8)
            .acquire_timeout(std::time::Duration::from_secs(10))
            .connect_with(options.options(POSTGRES))
            .await
            .map_err(failed)?;
        let store = Postgres { reader: pool };
        let (first, second) =
            (version_1!("BIGSERIAL PRIMARY KEY"), version_2!("CAST(body AS JSON)"));
        store.migrate(first, second, SEALED_POSTGRES).await?;
        Ok(store)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{EventFilter, Ledger, Queue, Store};
    use ringfence_domain::audit::{Actor, Chain};

    /// A database as version 1 left it: a running scan, a cell, a waived finding.
    #[tokio::test]
    async fn a_database_of_the_first_version_is_brought_up_to_date() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.db").display().to_string();
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
        let old = sqlx::SqlitePool::connect_with(options.create_if_missing(true)).await.unwrap();
        let scan = r#"{"id":"sc-1","started_by":"a","started_at":1,"ended_at":null,"regions":[]}"#;
        let cell = r#"{"account":"111122223333","region":"eu-west-1","state":"clean","as_of":5,"regions_source":"account"}"#;
        let finding = r#"{"kind":"instance","waiver":{"until":9}}"#;
        for statement in version_1!("INTEGER PRIMARY KEY AUTOINCREMENT") {
            sqlx::query(*statement).execute(&old).await.unwrap();
        }
        for (statement, body) in [
            ("INSERT INTO meta VALUES ('schema', $1)", "1"),
            ("INSERT INTO resource VALUES ('scan', 'sc-1', '', '', 'running', 1, 1, 1, $1)", scan),
            (
                "INSERT INTO resource VALUES ('finding', 'fi-1', '111122223333', 'eu-west-1', 'open', 1, 1, 1, $1)",
                finding,
            ),
            (
                "INSERT INTO cell VALUES ('111122223333', 'eu-west-1', 'rds-encryption', 'clean', $1)",
                cell,
            ),
            ("INSERT INTO scan_account VALUES ('sc-1', $1, 0)", "111122223333"),
        ] {
            sqlx::query(statement).bind(body).execute(&old).await.unwrap();
        }
        // A page of events and one more, with numbers left out.
        let event = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1001)
            INSERT INTO event SELECT i * 2, i, 'ann', 1, 'plan.make', 'pl-' || i, '' FROM n";
        sqlx::query(event).execute(&old).await.unwrap();
        old.close().await;
        for n in 0..2 {
            let store = Sqlite::open(&path).await.unwrap();
            let tally = store.tally_by_account(&["111122223333".into()]).await.unwrap();
            let keys: Vec<_> = tally.iter().map(|(_, key, n)| (key.as_str(), *n)).collect();
            assert_eq!(keys, [("cell/clean", 1), ("open/instance", 1)]);
            assert_eq!(store.waived(Time(8)).await.unwrap().len(), 1);
            let wanted = store.wanted(&["111122223333"]).await.unwrap();
            assert_eq!((wanted[0].pass, wanted[0].regions.len()), (0, 0));
            let row = store.get(Kind::Scan, "sc-1").await.unwrap().unwrap();
            let scan: ringfence_domain::work::Scan = row.document().unwrap();
            assert_eq!(scan.started_by, "a");
            store.append(&Actor::system("test").did(Time(9), "a", "b", "c")).await.unwrap();
            let mut chain = Chain::default();
            let events = store.events(EventFilter::default(), i64::MAX, 2_000).await.unwrap();
            events.into_iter().for_each(|e| chain.read(e.sequence, e.event, e.seal));
            chain.ends();
            assert_eq!((chain.events, chain.broken), (1_002 + n, vec![]));
        }
        let old = sqlx::SqlitePool::connect(&format!("sqlite://{path}")).await.unwrap();
        let unsealed = "INSERT INTO event (at, actor, authenticated, action, subject, reason) VALUES (1, '', 1, '', '', '')";
        let refused = sqlx::query(unsealed).execute(&old).await.unwrap_err();
        assert!(refused.to_string().contains("wants seals"), "{refused}");
    }
}
