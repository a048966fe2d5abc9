//! What server and agent hand each other, beside remediations: scans, account work, reports.

use crate::finding::Detected;
use crate::id::AccountId;
use crate::ledger::{Cell, RegionsSource};
use crate::remediation::Remediation;
use crate::time::Time;
use serde::{Deserialize, Serialize};

/// One scan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scan {
    /// `sc-` and 12 hex digits.
    pub id: String,
    /// Who started it.
    pub started_by: String,
    /// When.
    pub started_at: Time,
    /// When the last account was done.
    pub ended_at: Option<Time>,
    /// The accounts, in the order of their ids.
    pub accounts: Vec<AccountId>,
    /// Only these regions; empty means all.
    pub regions: Vec<String>,
    /// Read the key in every cell, not only where something is to be encrypted.
    pub keys: bool,
}

/// What a scan wants of one account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanWork {
    /// The scan.
    pub scan: String,
    /// See [`Scan::regions`].
    pub regions: Vec<String>,
    /// See [`Scan::keys`].
    pub keys: bool,
}

/// A remediation with the version that a commit must name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versioned {
    /// The version.
    pub version: i64,
    /// The remediation.
    pub remediation: Remediation,
}

/// All that is due in one account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// The account.
    pub account: AccountId,
    /// The regions that it has cells of: where its state is noted when it cannot be entered.
    pub known_regions: Vec<String>,
    /// Scans that want it.
    pub scans: Vec<ScanWork>,
    /// Remediations that are due.
    pub remediations: Vec<Versioned>,
}

/// One cell as an agent found it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CellReport {
    /// The cell.
    pub cell: Cell,
    /// What breaks the control in it.
    pub detected: Vec<Detected>,
}

/// What an agent found in an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountReport {
    /// The cells.
    pub cells: Vec<CellReport>,
    /// Every region that the account is expected to have a cell of, scanned now or not: those that
    /// have none yet get a pending one, so that a ledger is never full without them.
    pub regions: Vec<String>,
    /// Where that list came from. One from the account is complete: other cells are dropped.
    pub regions_source: RegionsSource,
    /// What people should know of the session, for the audit log; empty if nothing.
    pub note: String,
}
