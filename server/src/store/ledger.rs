//! Cells, their counts, and findings by place.

use super::sql::{Postgres, Sqlite, columns, for_both};
use super::{Kind, Result, Row, StoreError, json};
use async_trait::async_trait;
use ringfence_domain::ledger::Cell;
use ringfence_domain::time::Time;
use sqlx::Row as _;

/// Which rows of a list are wanted, and where its page begins. Empty lists and texts mean any.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// Only these accounts, in ascending order.
    pub accounts: Vec<String>,
    /// Only these regions.
    pub regions: Vec<String>,
    /// Only this state.
    pub state: String,
    /// Account, region and (of findings) id of the last row of the page before.
    pub after: (String, String, String),
    /// At most so many rows.
    pub limit: i64,
}

/// Accounts that one statement looks for, to begin with: all that they hold is sorted for the page. Each
/// further statement of the same page takes four times as many: where most accounts hold nothing, a page is
/// still found in a few statements.
const ACCOUNTS_AT_ONCE: usize = 8;

impl Page {
    /// The lists of accounts that make up the page, one a statement.
    fn chunks(&self) -> Vec<Vec<String>> {
        if self.accounts.is_empty() {
            return vec![Vec::new()];
        }
        let begin = self.accounts.partition_point(|a| *a < self.after.0);
        let (mut rest, mut chunks, mut size) =
            (&self.accounts[begin..], Vec::new(), ACCOUNTS_AT_ONCE);
        while !rest.is_empty() {
            let (some, more) = rest.split_at(size.min(rest.len()));
            chunks.push(some.to_vec());
            (rest, size) = (more, size * 4);
        }
        chunks
    }
}

/// What cells are chosen by.
#[derive(Debug, Clone, Copy)]
pub enum In<'a> {
    /// Their states.
    State(&'a [&'a str]),
    /// AWS Config's word on them.
    Config(&'a [&'a str]),
    /// That their snapshots were looked for and could not be read.
    SnapshotsUnread,
}

/// The regions of a scan that are those of a cell: the account's own in that scan, else the scan's.
macro_rules! in_scan {
    ($texts:literal, $close:literal, $region:literal, $scan:literal, $of_scan:literal) => {
        concat!(
            "(",
            $of_scan,
            " = '[]' OR ",
            $region,
            " = 'unknown' OR ",
            $region,
            " IN (SELECT value FROM ",
            $texts,
            $of_scan,
            $close,
            "))
            AND (",
            $scan,
            ".regions = '[]' OR ",
            $region,
            " = 'unknown' OR ",
            $region,
            " IN (SELECT value FROM ",
            $texts,
            $scan,
            ".regions",
            $close,
            "))"
        )
    };
}

/// The cells whose column `$by` is one of some.
macro_rules! cells_in {
    ($texts:literal, $close:literal, $by:literal) => {
        concat!("SELECT body FROM cell WHERE ", $by, " IN (SELECT value FROM ", $texts, "$1", $close, ")
            AND ($2 = '' OR EXISTS (SELECT 1 FROM scan_account s WHERE s.scan = $2 AND s.account = cell.account
                AND (s.regions = '[]' OR cell.region = 'unknown' OR cell.region IN (SELECT value FROM ", $texts, "s.regions", $close, "))))
            AND ($3 = '[]' OR account IN (SELECT value FROM ", $texts, "$3", $close, "))
            AND ($4 = '[]' OR region = 'unknown' OR region IN (SELECT value FROM ", $texts, "$4", $close, "))
            ORDER BY account, region LIMIT $5")
    };
}

/// A page of findings, given the statement that finds its ids: an index has all that this needs, so that of the
/// documents (4 KB each) only the page's own are read.
macro_rules! page_of {
    ($($ids:expr),+) => {
        concat!("SELECT ", columns!(), " FROM resource WHERE kind = 'finding' AND id IN (", $($ids),+, ")
            ORDER BY account || '', region, id")
    };
}

/// What is known of the accounts, and how much of it there is.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// Cells of one account; of all with an empty `account`. Ordered by account and region, after that
    /// pair.
    async fn cells(&self, account: &str, after: (&str, &str), limit: i64) -> Result<Vec<Cell>>;

    /// A page of cells, ordered by account and region.
    async fn cell_page(&self, page: &Page) -> Result<Vec<Cell>>;

    /// Account and region of every cell of these accounts, with the scan that looked at it last.
    async fn places(&self, accounts: &[&str]) -> Result<Vec<(String, String, String)>>;

    /// The first cells that are in one of these, of the accounts and regions of a scan (empty: any) and
    /// of these accounts and regions (empty: any).
    async fn cells_in(
        &self,
        which: In<'_>,
        scan: &str,
        accounts: &[String],
        regions: &[String],
        limit: i64,
    ) -> Result<Vec<Cell>>;

    /// Counts of cells (`cell/STATE`) and open findings (`open/LABEL`) by parent of the account in the
    /// tree.
    async fn tally_by_parent(&self) -> Result<Vec<(String, String, i64)>>;

    /// The same by account.
    async fn tally_by_account(&self, accounts: &[String]) -> Result<Vec<(String, String, i64)>>;

    /// The same by region, of these accounts (empty: all) and regions (empty: all). Cells of accounts whose
    /// regions are not known count in any: they may be there.
    async fn tally_by_region(
        &self,
        accounts: &[String],
        regions: &[String],
    ) -> Result<Vec<(String, String, i64)>>;

    /// The same in all, of the accounts of a scan and of these regions (empty: all).
    async fn tally_of_scan(&self, scan: &str, regions: &[String]) -> Result<Vec<(String, i64)>>;

    /// The accounts with the oldest evidence, those without any first; not those that a scan has still to
    /// do.
    async fn oldest(&self, limit: i64) -> Result<Vec<String>>;

    /// How many regions an account has, on average.
    async fn regions_of_an_account(&self) -> Result<i64>;

    /// Accounts that have cells.
    async fn known_accounts(&self) -> Result<Vec<String>>;

    /// A page of findings, ordered by account, region and id.
    async fn finding_page(&self, page: &Page) -> Result<Vec<Row>>;

    /// All findings of these accounts, of any state.
    async fn findings_of(&self, accounts: &[&str]) -> Result<Vec<Row>>;

    /// Open findings under a waiver that ends after that instant.
    async fn waived(&self, after: Time) -> Result<Vec<Row>>;

    /// Open findings whose waiver is over at that instant.
    async fn waivers_over(&self, by: Time) -> Result<Vec<Row>>;

    /// Since when an account's list of regions is known, and the list as JSON.
    async fn region_lists(&self, accounts: &[&str]) -> Result<Vec<(String, Time, String)>>;
}

macro_rules! ledger {
    ($name:ident, $row:ty, $tx:ty, $now:literal, $open:literal, $texts:literal, $close:literal) => {
        impl $name {
            fn cell(row: &$row) -> Result<Cell> {
                let body: String = row.try_get(0)?;
                serde_json::from_str(&body).map_err(|e| StoreError::Document { kind: "cell", id: body, why: e.to_string() })
            }

            fn triple(row: &$row) -> Result<(String, String, i64)> {
                Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
            }
        }

        #[async_trait]
        impl Ledger for $name {
            async fn cells(&self, account: &str, after: (&str, &str), limit: i64) -> Result<Vec<Cell>> {
                let accounts = if account.is_empty() { Vec::new() } else { vec![account.to_owned()] };
                let after = (after.0.to_owned(), after.1.to_owned(), String::new());
                self.cell_page(&Page { accounts, after, limit, ..Page::default() }).await
            }

            async fn cell_page(&self, page: &Page) -> Result<Vec<Cell>> {
                let regions = json(&page.regions);
                let mut found = Vec::new();
                for accounts in page.chunks() {
                    let left = page.limit - i64::try_from(found.len()).unwrap_or(i64::MAX);
                    if left <= 0 {
                        break;
                    }
                    // Three texts, so that each has the index that it needs.
                    let query = match (accounts.is_empty(), page.state.is_empty()) {
                        (true, true) => sqlx::query(concat!("SELECT body FROM cell WHERE (account, region) > ($1, $2)
                            AND ($3 = '[]' OR region IN (SELECT value FROM ", $texts, "$3", $close, ")) AND $4 = ''
                            ORDER BY account, region LIMIT $5")),
                        (true, false) => sqlx::query(concat!("SELECT body FROM cell WHERE state = $4 AND (account, region) > ($1, $2)
                            AND ($3 = '[]' OR region IN (SELECT value FROM ", $texts, "$3", $close, "))
                            ORDER BY account, region LIMIT $5")),
                        (false, _) => sqlx::query(concat!("SELECT body FROM (SELECT value AS wanted FROM ", $texts, "$6", $close, ") a
                            CROSS JOIN cell WHERE account = wanted AND (account, region) > ($1, $2)
                            AND ($3 = '[]' OR region IN (SELECT value FROM ", $texts, "$3", $close, ")) AND ($4 = '' OR state = $4)
                            ORDER BY account || '', region LIMIT $5")),
                    };
                    let query = query.bind(&page.after.0).bind(&page.after.1).bind(&regions).bind(&page.state).bind(left);
                    let query = if accounts.is_empty() { query } else { query.bind(json(&accounts)) };
                    for row in &query.fetch_all(&self.reader).await? {
                        found.push(Self::cell(row)?);
                    }
                }
                Ok(found)
            }

            async fn places(&self, accounts: &[&str]) -> Result<Vec<(String, String, String)>> {
                let rows = sqlx::query(concat!("SELECT account, region, scan FROM cell
                    WHERE account IN (SELECT value FROM ", $texts, "$1", $close, ")"))
                    .bind(json(&accounts)).fetch_all(&self.reader).await?;
                rows.iter().map(|r| Ok((r.try_get(0)?, r.try_get(1)?, r.try_get(2)?))).collect()
            }

            async fn cells_in(&self, which: In<'_>, scan: &str, accounts: &[String], regions: &[String], limit: i64) -> Result<Vec<Cell>> {
                let (statement, words) = match which {
                    In::State(words) => (cells_in!($texts, $close, "state"), words),
                    In::Config(words) => (cells_in!($texts, $close, "config"), words),
                    // As either database writes it.
                    In::SnapshotsUnread => (cells_in!($texts, $close, "CASE WHEN body LIKE '%\"snapshots\":{\"Err\"%'
                        OR body LIKE '%\"snapshots\": {\"Err\"%' THEN 'unread' ELSE '' END"), &["unread"][..]),
                };
                let rows = sqlx::query(statement).bind(json(&words)).bind(scan).bind(json(&accounts)).bind(json(&regions)).bind(limit)
                    .fetch_all(&self.reader).await?;
                rows.iter().map(Self::cell).collect()
            }

            async fn tally_by_parent(&self) -> Result<Vec<(String, String, i64)>> {
                let rows = sqlx::query("SELECT n.parent, t.key, CAST(SUM(t.n) AS BIGINT) FROM tally t JOIN node n ON n.id = t.account GROUP BY n.parent, t.key")
                    .fetch_all(&self.reader).await?;
                rows.iter().map(Self::triple).collect()
            }

            async fn tally_by_account(&self, accounts: &[String]) -> Result<Vec<(String, String, i64)>> {
                let rows = sqlx::query(concat!("SELECT account, key, n FROM tally WHERE account IN (SELECT value FROM ", $texts, "$1", $close, ")"))
                    .bind(json(&accounts)).fetch_all(&self.reader).await?;
                rows.iter().map(Self::triple).collect()
            }

            async fn tally_by_region(&self, accounts: &[String], regions: &[String]) -> Result<Vec<(String, String, i64)>> {
                let rows = sqlx::query(concat!(
                    "SELECT region, 'cell/' || state, COUNT(*) FROM cell
                        WHERE ($1 = '[]' OR account IN (SELECT value FROM ", $texts, "$1", $close, "))
                        AND ($2 = '[]' OR region = 'unknown' OR region IN (SELECT value FROM ", $texts, "$2", $close, ")) GROUP BY region, state
                    UNION ALL SELECT region, 'config/' || config, COUNT(*) FROM cell WHERE config <> ''
                        AND ($1 = '[]' OR account IN (SELECT value FROM ", $texts, "$1", $close, "))
                        AND ($2 = '[]' OR region IN (SELECT value FROM ", $texts, "$2", $close, ")) GROUP BY region, config
                    UNION ALL SELECT region, 'open/' || label, COUNT(*) FROM resource WHERE kind = 'finding' AND state = 'open'
                        AND ($1 = '[]' OR account IN (SELECT value FROM ", $texts, "$1", $close, "))
                        AND ($2 = '[]' OR region IN (SELECT value FROM ", $texts, "$2", $close, ")) GROUP BY region, label"))
                    .bind(json(&accounts)).bind(json(&regions)).fetch_all(&self.reader).await?;
                rows.iter().map(Self::triple).collect()
            }

            async fn tally_of_scan(&self, scan: &str, regions: &[String]) -> Result<Vec<(String, i64)>> {
                let rows = sqlx::query(concat!(
                    "SELECT 'cell/' || c.state, COUNT(*) FROM cell c JOIN scan_account s ON s.account = c.account
                        WHERE s.scan = $1 AND ", in_scan!($texts, $close, "c.region", "s", "$2"), " GROUP BY c.state
                    UNION ALL SELECT 'config/' || c.config, COUNT(*) FROM cell c JOIN scan_account s ON s.account = c.account
                        WHERE s.scan = $1 AND c.config <> '' AND ", in_scan!($texts, $close, "c.region", "s", "$2"), " GROUP BY c.config
                    UNION ALL SELECT 'open/' || r.label, COUNT(*) FROM resource r JOIN scan_account s ON s.account = r.account
                        WHERE r.kind = 'finding' AND r.state = 'open' AND s.scan = $1
                        AND ", in_scan!($texts, $close, "r.region", "s", "$2"), " GROUP BY r.label"))
                    .bind(scan).bind(json(&regions)).fetch_all(&self.reader).await?;
                rows.iter().map(|r| Ok((r.try_get(0)?, r.try_get(1)?))).collect()
            }

            async fn oldest(&self, limit: i64) -> Result<Vec<String>> {
                let rows = sqlx::query("SELECT account, MIN(as_of) FROM cell
                    WHERE NOT EXISTS (SELECT 1 FROM scan_account s WHERE s.account = cell.account AND s.done = 0)
                    GROUP BY account ORDER BY 2, 1 LIMIT $1").bind(limit).fetch_all(&self.reader).await?;
                rows.iter().map(|r| Ok(r.try_get(0)?)).collect()
            }

            async fn regions_of_an_account(&self) -> Result<i64> {
                let row = sqlx::query("SELECT CAST(COALESCE(SUM(n) / COUNT(DISTINCT account), 0) AS BIGINT) FROM tally WHERE key LIKE 'cell/%'")
                    .fetch_one(&self.reader).await?;
                Ok(row.try_get(0)?)
            }

            async fn known_accounts(&self) -> Result<Vec<String>> {
                let rows = sqlx::query("SELECT DISTINCT account FROM tally WHERE key LIKE 'cell/%'").fetch_all(&self.reader).await?;
                rows.iter().map(|r| Ok(r.try_get(0)?)).collect()
            }

            async fn finding_page(&self, page: &Page) -> Result<Vec<Row>> {
                let regions = json(&page.regions);
                let (after, state) = (&page.after, &page.state);
                let mut found = Vec::new();
                for accounts in page.chunks() {
                    let left = page.limit - i64::try_from(found.len()).unwrap_or(i64::MAX);
                    if left <= 0 {
                        break;
                    }
                    // Four texts, so that each has the index that it needs. `account || ''` keeps PostgreSQL from
                    // walking the whole index in order until it meets the accounts: 0.7 s for one of 10,000.
                    let query = match (accounts.is_empty(), state.is_empty()) {
                        (true, true) => sqlx::query(page_of!("SELECT id FROM resource
                            WHERE kind = 'finding' AND (account, region, id) > ($1, $2, $3)
                            AND ($4 = '[]' OR region IN (SELECT value FROM ", $texts, "$4", $close, "))
                            ORDER BY account, region, id LIMIT $5")),
                        (true, false) => sqlx::query(page_of!("SELECT id FROM resource
                            WHERE kind = 'finding' AND state = $6 AND (account, region, id) > ($1, $2, $3)
                            AND ($4 = '[]' OR region IN (SELECT value FROM ", $texts, "$4", $close, "))
                            ORDER BY account, region, id LIMIT $5")),
                        (false, true) => sqlx::query(page_of!("SELECT id
                            FROM (SELECT value AS wanted FROM ", $texts, "$6", $close, ") a CROSS JOIN resource
                            WHERE account = wanted AND kind = 'finding' AND (account, region, id) > ($1, $2, $3)
                            AND ($4 = '[]' OR region IN (SELECT value FROM ", $texts, "$4", $close, "))
                            ORDER BY account || '', region, id LIMIT $5")),
                        (false, false) => sqlx::query(page_of!("SELECT id
                            FROM (SELECT value AS wanted FROM ", $texts, "$7", $close, ") a CROSS JOIN resource
                            WHERE account = wanted AND kind = 'finding' AND state = $6 AND (account, region, id) > ($1, $2, $3)
                            AND ($4 = '[]' OR region IN (SELECT value FROM ", $texts, "$4", $close, "))
                            ORDER BY account || '', region, id LIMIT $5")),
                    };
                    let query = query.bind(&after.0).bind(&after.1).bind(&after.2).bind(&regions).bind(left);
                    let query = if state.is_empty() { query } else { query.bind(state) };
                    let query = if accounts.is_empty() { query } else { query.bind(json(&accounts)) };
                    for row in &query.fetch_all(&self.reader).await? {
                        found.push(Self::row(row, Kind::Finding)?);
                    }
                }
                Ok(found)
            }

            async fn findings_of(&self, accounts: &[&str]) -> Result<Vec<Row>> {
                let rows = sqlx::query(concat!("SELECT ", columns!(), " FROM resource
                    WHERE kind = 'finding' AND account IN (SELECT value FROM ", $texts, "$1", $close, ")"))
                    .bind(json(&accounts)).fetch_all(&self.reader).await?;
                rows.iter().map(|r| Self::row(r, Kind::Finding)).collect()
            }

            async fn waived(&self, after: Time) -> Result<Vec<Row>> {
                let rows = sqlx::query(concat!("SELECT ", columns!(), " FROM resource
                    WHERE kind = 'finding' AND wake_at > 0 AND wake_at > $1 AND state = 'open'"))
                    .bind(after.0).fetch_all(&self.reader).await?;
                rows.iter().map(|r| Self::row(r, Kind::Finding)).collect()
            }

            async fn waivers_over(&self, by: Time) -> Result<Vec<Row>> {
                let rows = sqlx::query(concat!("SELECT ", columns!(), " FROM resource
                    WHERE kind = 'finding' AND wake_at > 0 AND wake_at <= $1 AND state = 'open'"))
                    .bind(by.0).fetch_all(&self.reader).await?;
                rows.iter().map(|r| Self::row(r, Kind::Finding)).collect()
            }

            async fn region_lists(&self, accounts: &[&str]) -> Result<Vec<(String, Time, String)>> {
                let rows = sqlx::query(concat!("SELECT account, read_at, regions FROM region_list
                    WHERE account IN (SELECT value FROM ", $texts, "$1", $close, ")"))
                    .bind(json(&accounts)).fetch_all(&self.reader).await?;
                rows.iter().map(|r| Ok((r.try_get(0)?, Time(r.try_get(1)?), r.try_get(2)?))).collect()
            }
        }
    };
}

for_both!(ledger);
