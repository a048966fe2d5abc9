//! Leases, what is to be scanned, and what agents report.

use super::documents::control;
use super::sql::{Postgres, Sqlite, account_lease, columns, for_both, leases_json};
use super::{Fenced, Kind, Lease, Result, Row, json};
use async_trait::async_trait;
use ringfence_domain::audit::Event;
use ringfence_domain::bounds::UNREACHABLE_PASSES;
use ringfence_domain::id::AccountId;
use ringfence_domain::ledger::Cell;
use ringfence_domain::opinion::Opinion;
use ringfence_domain::time::{Span, Time};
use serde::Serialize;
use sqlx::Row as _;
use std::collections::{BTreeMap, BTreeSet};

/// What an account's holder has to write after looking at some of its cells.
#[derive(Debug, Clone, Default)]
pub struct Part {
    /// The account, and the right to write about it.
    pub lease: Lease,
    /// The scans that it is for, with the pass of each that was looked for.
    pub scans: BTreeMap<String, i64>,
    /// The cells, as they are now.
    pub cells: Vec<Cell>,
    /// Findings: new ones have version 0.
    pub findings: Vec<Row>,
    /// With the account's last part: what closes it.
    pub end: Option<End>,
    /// What the audit log is told.
    pub event: Option<Event>,
}

/// What closes an account in its scans.
#[derive(Debug, Clone, Default)]
pub struct End {
    /// Regions whose cells are dropped: the account is known not to have them.
    pub gone: Vec<String>,
    /// When the account itself named its regions, and the list as JSON; `None` if it was not asked.
    pub regions: Option<(Time, String)>,
    /// Regions that did not answer: they are tried once more before the scan ends.
    pub unreachable: Vec<String>,
    /// Cells looked at, those that failed, and what was found in them: for the progress of the scan.
    pub counts: (i64, i64, i64),
    /// Whether the lease is given back.
    pub release: bool,
}

/// An account that a scan is to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Target {
    /// The account.
    pub account: AccountId,
    /// Only these regions of it; empty means those of the scan.
    pub regions: Vec<String>,
}

impl Target {
    /// Whole accounts.
    pub fn whole(accounts: &[AccountId]) -> Vec<Target> {
        accounts.iter().map(|a| Target { account: a.clone(), regions: Vec::new() }).collect()
    }
}

/// An account that a scan wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The account.
    pub account: String,
    /// The scan.
    pub scan: String,
    /// 0 at first, more when cells that did not answer are tried again.
    pub pass: i64,
    /// In a later pass, the regions to try.
    pub retry: Vec<String>,
    /// See [`Target::regions`].
    pub regions: Vec<String>,
}

/// How far a scan is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Its accounts.
    pub accounts: i64,
    /// Those that are done.
    pub done: i64,
    /// Those with regions that will be tried again.
    pub parked: i64,
    /// Cells looked at in the accounts that are done.
    pub cells: i64,
    /// Of these, not answered.
    pub failed: i64,
    /// What was found in them.
    pub found: i64,
}

/// The work that waits, and who does it.
#[async_trait]
pub trait Queue: Send + Sync {
    /// Queues accounts for a scan; those of a lower `priority` are leased first. False if the scan
    /// exists.
    async fn start_scan(
        &self,
        scan: &Row,
        targets: &[Target],
        priority: i64,
        event: &Event,
    ) -> Result<bool>;

    /// Adds accounts to a running scan; those that it has stay as they are.
    async fn add_accounts(&self, scan: &str, accounts: &[AccountId], priority: i64) -> Result<()>;

    /// How far a scan is.
    async fn scan_progress(&self, scan: &str) -> Result<Progress>;

    /// Ends a pass: if nothing is to do but what did not answer, that is queued again. True if nothing
    /// is left at all.
    async fn end_pass(&self, scan: &str) -> Result<bool>;

    /// Leases up to `max` accounts that have work due and no holder: remediations first, then scans
    /// by priority.
    async fn claim(&self, owner: &str, now: Time, ttl: Span, max: i64) -> Result<Vec<Lease>>;

    /// Which scans want these accounts.
    async fn wanted(&self, accounts: &[&str]) -> Result<Vec<Wanted>>;

    /// Remediations, or the work on keys, in these accounts that want to be looked at.
    async fn due(&self, kind: Kind, accounts: &[&str], now: Time) -> Result<Vec<Row>>;

    /// Prolongs leases; those that are not answered are lost.
    async fn renew(&self, owner: &str, leases: &[Lease], ttl: Span) -> Result<Vec<Lease>>;

    /// Gives accounts back.
    async fn release(&self, owner: &str, leases: &[Lease]) -> Result<()>;

    /// Writes what was seen in cells, each part under its fence. A part whose lease is lost, or one of
    /// whose findings changed meanwhile, is not written; the others are.
    async fn report(&self, owner: &str, parts: &[Part]) -> Result<Vec<Fenced>>;

    /// Writes documents, under the fence and their versions; all or none. A look that found nothing
    /// new has no event.
    async fn commit(
        &self,
        owner: &str,
        lease: &Lease,
        rows: &[Row],
        event: Option<&Event>,
    ) -> Result<Fenced>;
}

/// A cell as a statement takes it apart: no tree of values is built for each of a scan's cells.
#[derive(Serialize)]
struct CellRow<'a> {
    a: &'a str,
    r: &'a str,
    s: &'a str,
    n: &'a str,
    t: i64,
    c: &'static str,
    b: &'a Cell,
}

fn cells_json(parts: &[&Part]) -> String {
    fn row<'a>(part: &'a Part, cell: &'a Cell) -> CellRow<'a> {
        // Of one scan only: who comes back after a crash may skip the cell for that one, not for
        // another that has begun since; and only a cell that was answered.
        let scan = match part.scans.first_key_value() {
            Some((scan, _)) if part.scans.len() == 1 && cell.state.answered() => scan.as_str(),
            _ => "",
        };
        CellRow {
            a: cell.account.as_str(),
            r: &cell.region,
            s: cell.state.as_str(),
            n: scan,
            t: cell.as_of.map_or(0, |t| t.0),
            c: cell.config.as_ref().map_or("", Opinion::word),
            b: cell,
        }
    }
    // The same cell twice in one statement would be an error: the last one counts.
    let mut rows = BTreeMap::new();
    for part in parts {
        for cell in &part.cells {
            rows.insert((cell.account.as_str(), cell.region.as_str()), row(part, cell));
        }
    }
    json(&rows.into_values().collect::<Vec<_>>())
}

fn ends_json(parts: &[&Part]) -> String {
    let mut rows = Vec::new();
    for part in parts {
        let Some(end) = &part.end else { continue };
        let retry = json(&end.unreachable);
        for (scan, pass) in &part.scans {
            let (cells, failed, found) = end.counts;
            rows.push(serde_json::json!({"s": scan, "p": pass, "a": part.lease.account, "r": retry, "c": cells, "f": failed, "o": found}));
        }
    }
    json(&rows)
}

/// Regions that have no cell any more, one entry each.
fn gone_json(parts: &[&Part]) -> String {
    let gone = |part: &Part| -> Vec<serde_json::Value> {
        let regions = part.end.iter().flat_map(|e| &e.gone);
        regions.map(|r| serde_json::json!({"a": part.lease.account, "r": r})).collect()
    };
    json(&parts.iter().flat_map(|p| gone(p)).collect::<Vec<_>>())
}

fn region_lists_json(parts: &[&Part]) -> String {
    let mut rows = BTreeMap::new();
    for part in parts {
        if let Some((at, list)) = part.end.as_ref().and_then(|e| e.regions.as_ref()) {
            let account = part.lease.account.as_str();
            rows.insert(account, serde_json::json!({"a": account, "t": at.0, "l": list}));
        }
    }
    json(&rows.into_values().collect::<Vec<_>>())
}

macro_rules! queue {
    ($name:ident, $row:ty, $tx:ty, $now:literal, $open:literal, $texts:literal, $close:literal) => {
        #[async_trait]
        impl Queue for $name {
            async fn start_scan(&self, scan: &Row, targets: &[Target], priority: i64, event: &Event) -> Result<bool> {
                let mut tx = self.begin().await?;
                if !Self::put(&mut tx, std::slice::from_ref(scan)).await? {
                    return Ok(false);
                }
                sqlx::query(concat!("INSERT INTO scan_account (scan, account, regions, done, priority)
                    SELECT $1, value->>'account', CAST(value->'regions' AS TEXT), 0, $3 FROM ", $open, "$2", $close))
                    .bind(&scan.id).bind(json(&targets)).bind(priority).execute(&mut *tx).await?;
                Self::log(&mut tx, &[event]).await?;
                tx.commit().await?;
                Ok(true)
            }

            async fn add_accounts(&self, scan: &str, accounts: &[AccountId], priority: i64) -> Result<()> {
                let mut tx = self.begin().await?;
                sqlx::query(concat!("INSERT INTO scan_account (scan, account, done, priority)
                    SELECT $1, value, 0, $3 FROM ", $texts, "$2", $close, " WHERE true ON CONFLICT (scan, account) DO NOTHING"))
                    .bind(scan).bind(json(&accounts)).bind(priority).execute(&mut *tx).await?;
                tx.commit().await?;
                Ok(())
            }

            async fn scan_progress(&self, scan: &str) -> Result<Progress> {
                let row = sqlx::query("SELECT COUNT(*), COUNT(CASE WHEN done = 1 THEN 1 END), COUNT(CASE WHEN done = 2 OR (done = 0 AND pass > 0) THEN 1 END),
                    CAST(COALESCE(SUM(cells), 0) AS BIGINT), CAST(COALESCE(SUM(failed), 0) AS BIGINT), CAST(COALESCE(SUM(found), 0) AS BIGINT)
                    FROM scan_account WHERE scan = $1").bind(scan).fetch_one(&self.reader).await?;
                Ok(Progress {
                    accounts: row.try_get(0)?,
                    done: row.try_get(1)?,
                    parked: row.try_get(2)?,
                    cells: row.try_get(3)?,
                    failed: row.try_get(4)?,
                    found: row.try_get(5)?,
                })
            }

            async fn end_pass(&self, scan: &str) -> Result<bool> {
                let left = |row: Option<$row>| row.is_some();
                let open = sqlx::query("SELECT 1 FROM scan_account WHERE scan = $1 AND done <> 1 AND done = 0 LIMIT 1")
                    .bind(scan).fetch_optional(&self.reader).await?;
                if left(open) {
                    return Ok(false);
                }
                let mut tx = self.begin().await?;
                sqlx::query("UPDATE scan_account SET done = 0, pass = pass + 1 WHERE scan = $1 AND done <> 1 AND done = 2
                    AND NOT EXISTS (SELECT 1 FROM scan_account o WHERE o.scan = $1 AND o.done <> 1 AND o.done = 0)")
                    .bind(scan).execute(&mut *tx).await?;
                let open = sqlx::query("SELECT 1 FROM scan_account WHERE scan = $1 AND done <> 1 LIMIT 1")
                    .bind(scan).fetch_optional(&mut *tx).await?;
                tx.commit().await?;
                Ok(!left(open))
            }

            async fn claim(&self, owner: &str, now: Time, ttl: Span, max: i64) -> Result<Vec<Lease>> {
                let mut tx = self.begin().await?;
                // Each half stops at `max`: of ten thousand accounts that wait, a claim reads a few.
                let rows = sqlx::query(concat!(
                    "SELECT account, MIN(priority) AS priority FROM (
                        SELECT * FROM (SELECT w.account, -1 AS priority FROM resource w WHERE w.kind IN ('remediation', 'key job', 'reading', 'probe')
                            AND w.state IN ('running', 'cut_over') AND w.wake_at <= $1 AND w.account <> ''
                            AND NOT EXISTS (SELECT 1 FROM lease l WHERE l.name = 'account/' || w.account AND l.expires_at > ", $now, ")
                            ORDER BY w.account LIMIT $2) r
                        UNION ALL SELECT * FROM (SELECT w.account, w.priority FROM scan_account w WHERE w.done = 0
                            AND NOT EXISTS (SELECT 1 FROM lease l WHERE l.name = 'account/' || w.account AND l.expires_at > ", $now, ")
                            ORDER BY w.priority, w.account LIMIT $2) s
                    ) d GROUP BY account ORDER BY 2, 1 LIMIT $2"))
                    .bind(now.0).bind(max).fetch_all(&mut *tx).await?;
                let mut names = rows.iter().map(|r| Ok(account_lease(&r.try_get::<String, _>(0)?))).collect::<Result<Vec<_>>>()?;
                // In one order, so that two who claim at once wait for each other and not both.
                names.sort();
                // The WHERE of the upsert decides between two who saw the same free account: the second
                // waits for the row, sees the new expiry, and gets nothing.
                let rows = sqlx::query(concat!(
                    "INSERT INTO lease (name, owner, fence, expires_at) SELECT value, $2, 1, ", $now, " + $3 FROM ", $texts, "$1", $close, "
                    WHERE true ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, fence = lease.fence + 1,
                        expires_at = excluded.expires_at WHERE lease.expires_at <= ", $now, " RETURNING name, fence"))
                    .bind(json(&names)).bind(owner).bind(ttl.0).fetch_all(&mut *tx).await?;
                tx.commit().await?;
                rows.iter().map(Self::lease).collect()
            }

            async fn wanted(&self, accounts: &[&str]) -> Result<Vec<Wanted>> {
                let rows = sqlx::query(concat!("SELECT account, scan, pass, retry, regions FROM scan_account
                    WHERE done = 0 AND account IN (SELECT value FROM ", $texts, "$1", $close, ")"))
                    .bind(json(&accounts)).fetch_all(&self.reader).await?;
                let wanted = |r: &$row| -> Result<Wanted> {
                    let (retry, regions): (String, String) = (r.try_get(3)?, r.try_get(4)?);
                    Ok(Wanted {
                        account: r.try_get(0)?,
                        scan: r.try_get(1)?,
                        pass: r.try_get(2)?,
                        retry: serde_json::from_str(&retry).unwrap_or_default(),
                        regions: serde_json::from_str(&regions).unwrap_or_default(),
                    })
                };
                let mut found = rows.iter().map(wanted).collect::<Result<Vec<_>>>()?;
                found.sort_by(|a, b| (&a.account, &a.scan).cmp(&(&b.account, &b.scan)));
                Ok(found)
            }

            async fn due(&self, kind: Kind, accounts: &[&str], now: Time) -> Result<Vec<Row>> {
                let rows = sqlx::query(concat!("SELECT ", columns!(), " FROM resource
                    WHERE kind = $3 AND state IN ('running', 'cut_over') AND wake_at <= $2
                    AND account IN (SELECT value FROM ", $texts, "$1", $close, ")"))
                    .bind(json(&accounts)).bind(now.0).bind(kind.as_str()).fetch_all(&self.reader).await?;
                let mut found = rows.iter().map(|r| Self::row(r, kind)).collect::<Result<Vec<_>>>()?;
                found.sort_by(|a, b| a.id.cmp(&b.id));
                Ok(found)
            }

            async fn renew(&self, owner: &str, leases: &[Lease], ttl: Span) -> Result<Vec<Lease>> {
                let mut tx = self.begin().await?;
                // Not after it expired: somebody may be about to take it, and a worker that was frozen
                // must learn that it lost the account.
                let rows = sqlx::query(concat!(
                    "UPDATE lease SET expires_at = ", $now, " + $3 WHERE owner = $2 AND expires_at > ", $now, "
                    AND (name, fence) IN (SELECT value->>'n', CAST(value->>'f' AS BIGINT) FROM ", $open, "$1", $close, ")
                    RETURNING name, fence"))
                    .bind(leases_json(leases.iter())).bind(owner).bind(ttl.0).fetch_all(&mut *tx).await?;
                tx.commit().await?;
                rows.iter().map(Self::lease).collect()
            }

            async fn release(&self, owner: &str, leases: &[Lease]) -> Result<()> {
                let mut tx = self.begin().await?;
                Self::give_back(&mut tx, owner, leases.iter()).await?;
                tx.commit().await?;
                Ok(())
            }

            async fn report(&self, owner: &str, parts: &[Part]) -> Result<Vec<Fenced>> {
                let mut tx = self.begin().await?;
                Self::counting_under_a_lease(&mut tx).await?;
                let held = Self::holds(&mut tx, owner, parts.iter().map(|p| &p.lease)).await?;
                let held: BTreeSet<(&str, i64)> = held.iter().map(|l| (l.account.as_str(), l.fence)).collect();
                let mut outcome = Vec::new();
                let mut written: Vec<&Part> = Vec::new();
                for part in parts {
                    if !held.contains(&(part.lease.account.as_str(), part.lease.fence)) {
                        outcome.push(Fenced::Lost);
                        continue;
                    }
                    if part.findings.is_empty() {
                        outcome.push(Fenced::Done);
                        written.push(part);
                        continue;
                    }
                    // A finding that changed meanwhile undoes its own part, and no other.
                    sqlx::query("SAVEPOINT part").execute(&mut *tx).await?;
                    if Self::put(&mut tx, &part.findings).await? {
                        outcome.push(Fenced::Done);
                        written.push(part);
                    } else {
                        sqlx::query("ROLLBACK TO SAVEPOINT part").execute(&mut *tx).await?;
                        outcome.push(Fenced::Stale);
                    }
                    sqlx::query("RELEASE SAVEPOINT part").execute(&mut *tx).await?;
                }
                sqlx::query(concat!("DELETE FROM cell WHERE (account, region) IN
                    (SELECT value->>'a', value->>'r' FROM ", $open, "$1", $close, ")"))
                    .bind(gone_json(&written)).execute(&mut *tx).await?;
                sqlx::query(concat!("INSERT INTO cell (account, region, control, state, scan, as_of, config, body)
                    SELECT value->>'a', value->>'r', $2, value->>'s', value->>'n', CAST(value->>'t' AS BIGINT), value->>'c', CAST(value->'b' AS TEXT) FROM ", $open, "$1", $close, "
                    WHERE true ON CONFLICT (account, region, control) DO UPDATE SET state = excluded.state, scan = excluded.scan, as_of = excluded.as_of,
                        config = excluded.config, body = excluded.body"))
                    .bind(cells_json(&written)).bind(control()).execute(&mut *tx).await?;
                if written.iter().any(|p| p.end.is_some()) {
                    // Once for each pass: a report whose answer was lost comes again.
                    sqlx::query(concat!("INSERT INTO region_list (account, read_at, regions)
                        SELECT value->>'a', CAST(value->>'t' AS BIGINT), value->>'l' FROM ", $open, "$1", $close, "
                        WHERE true ON CONFLICT (account) DO UPDATE SET read_at = excluded.read_at, regions = excluded.regions"))
                        .bind(region_lists_json(&written)).execute(&mut *tx).await?;
                    sqlx::query(concat!("UPDATE scan_account SET done = CASE WHEN r.retry <> '[]' AND scan_account.pass < $2 THEN 2 ELSE 1 END,
                            retry = r.retry, failed = r.failed, found = scan_account.found + r.found,
                            cells = CASE WHEN scan_account.pass = 0 THEN r.cells ELSE scan_account.cells END
                        FROM (SELECT value->>'s' AS scan, value->>'a' AS account, CAST(value->>'p' AS BIGINT) AS pass, value->>'r' AS retry, CAST(value->>'c' AS BIGINT) AS cells,
                            CAST(value->>'f' AS BIGINT) AS failed, CAST(value->>'o' AS BIGINT) AS found FROM ", $open, "$1", $close, ") r
                        WHERE scan_account.scan = r.scan AND scan_account.account = r.account
                        AND scan_account.done = 0 AND scan_account.pass = r.pass"))
                        .bind(ends_json(&written)).bind(UNREACHABLE_PASSES).execute(&mut *tx).await?;
                    let back = written.iter().filter(|p| p.end.as_ref().is_some_and(|e| e.release)).map(|p| &p.lease);
                    Self::give_back(&mut tx, owner, back).await?;
                }
                Self::recount(&mut tx, written.iter().map(|p| p.lease.account.as_str()).collect()).await?;
                let events: Vec<&Event> = written.iter().filter_map(|p| p.event.as_ref()).collect();
                Self::log(&mut tx, &events).await?;
                tx.commit().await?;
                Ok(outcome)
            }

            async fn commit(&self, owner: &str, lease: &Lease, rows: &[Row], event: Option<&Event>) -> Result<Fenced> {
                let mut tx = self.begin().await?;
                Self::counting_under_a_lease(&mut tx).await?;
                if Self::holds(&mut tx, owner, std::iter::once(lease)).await?.is_empty() {
                    return Ok(Fenced::Lost);
                }
                if !Self::put_all(&mut tx, rows).await? {
                    return Ok(Fenced::Stale);
                }
                Self::log(&mut tx, event.as_slice()).await?;
                tx.commit().await?;
                Ok(Fenced::Done)
            }
        }
    };
}

for_both!(queue);
