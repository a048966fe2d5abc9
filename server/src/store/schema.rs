//! The tables, and how a database of an older version is brought up to date.

/// Raised with each change of the schema; a database of a newer version is refused.
pub(super) const SCHEMA: i64 = 4;

/// Version 1, as it was: databases of that version hold it already.
macro_rules! version_1 {
    ($sequence:literal) => {
        &[
            "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
            "CREATE TABLE IF NOT EXISTS node (id TEXT PRIMARY KEY, body TEXT NOT NULL)",
            "CREATE TABLE IF NOT EXISTS cell (account TEXT NOT NULL, region TEXT NOT NULL, control TEXT NOT NULL,
                state TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (account, region, control))",
            "CREATE TABLE IF NOT EXISTS resource (kind TEXT NOT NULL, id TEXT NOT NULL, account TEXT NOT NULL,
                region TEXT NOT NULL, state TEXT NOT NULL, wake_at BIGINT NOT NULL, version BIGINT NOT NULL,
                created_at BIGINT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (kind, id))",
            "CREATE TABLE IF NOT EXISTS scan_account (scan TEXT NOT NULL, account TEXT NOT NULL, done BIGINT NOT NULL,
                PRIMARY KEY (scan, account))",
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

/// From version 1 to 2: what a page, a count and a scan of thousands of accounts need. `$body` reads
/// the column `body` as JSON.
macro_rules! version_2 {
    ($body:literal) => {
        &[
            "ALTER TABLE node ADD COLUMN parent TEXT NOT NULL DEFAULT ''",
            concat!("UPDATE node SET parent = COALESCE(", $body, "->>'parent', '')"),
            // The scan that looked last, so that a scan that goes on after a crash skips the cell.
            "ALTER TABLE cell ADD COLUMN scan TEXT NOT NULL DEFAULT ''",
            "ALTER TABLE cell ADD COLUMN as_of BIGINT NOT NULL DEFAULT 0",
            concat!("UPDATE cell SET as_of = COALESCE(CAST(", $body, "->>'as_of' AS BIGINT), 0)"),
            "CREATE INDEX cell_by_state ON cell (state, account, region)",
            // Of a finding: its kind, and `+held` where a twin stands beside it. What is counted.
            "ALTER TABLE resource ADD COLUMN label TEXT NOT NULL DEFAULT ''",
            // Of a finding, wake_at is when its waiver ends; 0 without one.
            concat!("UPDATE resource SET wake_at = COALESCE(CAST(", $body, "->'waiver'->>'until' AS BIGINT), 0),
                label = (", $body, "->>'kind') || CASE WHEN ", $body, "->>'held_by' IS NULL THEN '' ELSE '+held' END
                WHERE kind = 'finding'"),
            "DROP INDEX IF EXISTS resource_by_account",
            "DROP INDEX IF EXISTS resource_by_state",
            "CREATE INDEX resource_by_place ON resource (kind, account, region, id)",
            "CREATE INDEX resource_by_state ON resource (kind, state, account, region, id, label)",
            "CREATE INDEX resource_waived ON resource (wake_at) WHERE kind = 'finding' AND wake_at > 0",
            // done: 0 to do, 1 done, 2 to be tried again. retry: the regions that did not answer.
            "ALTER TABLE scan_account ADD COLUMN priority BIGINT NOT NULL DEFAULT 1",
            "ALTER TABLE scan_account ADD COLUMN pass BIGINT NOT NULL DEFAULT 0",
            "ALTER TABLE scan_account ADD COLUMN retry TEXT NOT NULL DEFAULT '[]'",
            "ALTER TABLE scan_account ADD COLUMN cells BIGINT NOT NULL DEFAULT 0",
            "ALTER TABLE scan_account ADD COLUMN failed BIGINT NOT NULL DEFAULT 0",
            "ALTER TABLE scan_account ADD COLUMN found BIGINT NOT NULL DEFAULT 0",
            "DROP INDEX IF EXISTS scan_account_open",
            "CREATE INDEX scan_account_due ON scan_account (priority, account) WHERE done = 0",
            "CREATE INDEX scan_account_wanted ON scan_account (account) WHERE done = 0",
            "CREATE INDEX scan_account_open ON scan_account (scan, done) WHERE done <> 1",
            // Counts by account, kept with each change: nobody counts 170,000 cells to show a status.
            "CREATE TABLE tally (account TEXT NOT NULL, key TEXT NOT NULL, n BIGINT NOT NULL, PRIMARY KEY (account, key))",
            "INSERT INTO tally (account, key, n) SELECT account, 'cell/' || state, COUNT(*) FROM cell GROUP BY account, state",
            "INSERT INTO tally (account, key, n) SELECT account, 'open/' || label, COUNT(*) FROM resource
                WHERE kind = 'finding' AND state = 'open' GROUP BY account, label",
            // An account's enabled regions, as it last said itself, and when.
            "CREATE TABLE region_list (account TEXT PRIMARY KEY, read_at BIGINT NOT NULL, regions TEXT NOT NULL)",
            "CREATE TABLE agent (name TEXT PRIMARY KEY, instance TEXT NOT NULL, joined_at BIGINT NOT NULL,
                seen_at BIGINT NOT NULL, expires_at BIGINT NOT NULL, share BIGINT NOT NULL, draining BIGINT NOT NULL,
                usage TEXT NOT NULL)",
            "CREATE TABLE join_token (hash TEXT PRIMARY KEY, name TEXT NOT NULL, created_at BIGINT NOT NULL)",
        ]
    };
}

/// From version 2 to 3: AWS Config's word on a cell, and scans of some regions of each account.
pub(super) const VERSION_3: &[&str] = &[
    // Led by `kind`, or SQLite takes an index of all findings for it: 5 s instead of 0.2 ms.
    "DROP INDEX IF EXISTS resource_waived",
    "CREATE INDEX resource_waived ON resource (kind, wake_at) WHERE kind = 'finding' AND wake_at > 0",
    "ALTER TABLE cell ADD COLUMN config TEXT NOT NULL DEFAULT ''",
    "CREATE INDEX cell_by_config ON cell (config, account, region) WHERE config <> ''",
    // Only these regions of the account, as JSON; none means those of the scan.
    "ALTER TABLE scan_account ADD COLUMN regions TEXT NOT NULL DEFAULT '[]'",
];

/// From version 3 to 4: the audit log's seals. Events of before are sealed once they are there.
pub(super) const VERSION_4: &[&str] =
    &["ALTER TABLE event ADD COLUMN seal TEXT NOT NULL DEFAULT ''"];

/// After that: a server of before, which knows no seals, must not append.
pub(super) const SEALED_SQLITE: &str = "CREATE TRIGGER event_sealed BEFORE INSERT ON event WHEN NEW.seal = ''
    BEGIN SELECT RAISE(ABORT, 'this database is of a newer version: its audit log wants seals'); END";
pub(super) const SEALED_POSTGRES: &str = "ALTER TABLE event ALTER COLUMN seal DROP DEFAULT";

pub(super) use {version_1, version_2};
