//! What server and agent hand each other, beside remediations: scans, account work, reports.

use crate::finding::Detected;
use crate::history::Reading;
use crate::id::AccountId;
use crate::key::job::Job;
use crate::ledger::{Cell, RegionsSource};
use crate::probe::Probe;
use crate::remediation::Remediation;
use crate::time::{Span, Time};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Why a scan was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// A person, or a part of Ringfence that waits for it.
    #[default]
    Demand,
    /// `scan.schedule`.
    Schedule,
    /// `scan.calls_per_hour`: changed accounts, and the oldest evidence.
    Incremental,
}

impl Trigger {
    /// The name on screen.
    pub fn as_str(self) -> &'static str {
        match self {
            Trigger::Demand => "demand",
            Trigger::Schedule => "schedule",
            Trigger::Incremental => "incremental",
        }
    }
}

/// Whether a scan still adds accounts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Listing {
    /// Its accounts are all queued.
    #[default]
    Done,
    /// The organization is being listed; each page's accounts are queued as it arrives.
    Open,
    /// The organization is listed once more before the scan ends: accounts may have been created,
    /// suspended or closed since.
    Again,
}

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
    /// Only these regions; empty means all.
    pub regions: Vec<String>,
    /// What is looked at beside the databases.
    #[serde(default)]
    pub options: Options,
    /// Why it was made.
    #[serde(default)]
    pub trigger: Trigger,
    /// Whether it is about the whole organization.
    #[serde(default)]
    pub whole: bool,
    /// See [`Listing`].
    #[serde(default)]
    pub listing: Listing,
    /// When the organization was last listed for it.
    #[serde(default)]
    pub listed_at: Option<Time>,
    /// Whether it was listed again already; that is done once.
    #[serde(default)]
    pub relisted: bool,
    /// Why the organization could not be listed for it, so that it ends without some accounts; empty if
    /// it could, or was not asked.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub listing_failed: String,
    /// How many databases AWS Config's aggregator named, where the scan looks at those cells alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidates: Option<i64>,
}

/// What a scan looks at beside the databases.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// Read the key in every cell, not only where something is to be encrypted.
    pub keys: bool,
    /// Read the lists of enabled regions anew: evidence for a gate wants that.
    pub fresh_regions: bool,
    /// Ask AWS Config for its opinion of every cell.
    pub config: bool,
    /// Look for old snapshots that are not encrypted.
    pub snapshots: bool,
}

/// The regions of an account, as it named them itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionList {
    /// When.
    pub read_at: Time,
    /// Whether each is enabled.
    pub enabled: BTreeMap<String, bool>,
}

impl RegionList {
    /// Whether it may be used again now.
    pub fn is_fresh(&self, max_age: Span, now: Time) -> bool {
        now.since(self.read_at) <= max_age
    }
}

/// What scans want of one account, in one look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// The scans, with the pass that each is in: one look serves all that wait for the account.
    /// Pass 0 comes first; later ones try again what did not answer.
    pub scans: BTreeMap<String, i64>,
    /// Only these regions; empty means all.
    pub regions: Vec<String>,
    /// Regions that were looked at for this scan already, before a crash.
    pub seen: Vec<String>,
    /// What is looked at beside the databases.
    pub options: Options,
    /// The regions, unless they are to be read anew.
    pub list: Option<RegionList>,
}

impl Look {
    /// The pass that it is in: the first of its scans'.
    pub fn pass(&self) -> i64 {
        self.scans.values().copied().min().unwrap_or(0)
    }

    /// One look that serves both.
    #[must_use]
    pub fn merge(self, other: Look) -> Look {
        let all = self.regions.is_empty() || other.regions.is_empty();
        let mut regions: Vec<String> =
            if all { Vec::new() } else { self.regions.into_iter().chain(other.regions).collect() };
        regions.sort();
        regions.dedup();
        Look {
            scans: self.scans.into_iter().chain(other.scans).collect(),
            regions,
            // What one has seen already, the other may not have.
            seen: Vec::new(),
            options: Options {
                keys: self.options.keys || other.options.keys,
                fresh_regions: self.options.fresh_regions || other.options.fresh_regions,
                config: self.options.config || other.options.config,
                snapshots: self.options.snapshots || other.options.snapshots,
            },
            list: self.list.and(other.list),
        }
    }
}

/// In [`AccountEnd::unreachable`]: the whole account is to be tried again.
pub const EVERYWHERE: &str = "*";

/// What one limit of one agent thread says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LimitUsage {
    /// Its key under `limits.`: `sts`, `rds_read` ...
    pub limit: String,
    /// The ceiling of one bucket, in calls a second; of a shared budget, this thread's part.
    pub rate: f64,
    /// Calls let through.
    pub granted: i64,
    /// Calls that wait.
    pub waiting: i64,
    /// Calls that AWS throttled.
    pub throttled: i64,
    /// Buckets that are slowed down.
    pub slowed: i64,
}

/// A remediation with the version that a commit must name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versioned {
    /// The version.
    pub version: i64,
    /// The remediation.
    pub remediation: Remediation,
}

/// The work on a key with the version that a commit must name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionedJob {
    /// The version.
    pub version: i64,
    /// The job.
    pub job: Job,
}

/// A reading of an account's history with the version that a commit must name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionedReading {
    /// The version.
    pub version: i64,
    /// The reading.
    pub reading: Reading,
}

/// A probe with the version that a commit must name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionedProbe {
    /// The version.
    pub version: i64,
    /// The probe.
    pub probe: Probe,
}

/// All that is due in one account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// The account.
    pub account: AccountId,
    /// The regions that it has cells of: where its state is noted when it cannot be entered.
    pub known_regions: Vec<String>,
    /// What scans want of it.
    pub look: Option<Look>,
    /// Remediations that are due.
    pub remediations: Vec<Versioned>,
    /// Keys that are due.
    #[serde(default)]
    pub keys: Vec<VersionedJob>,
    /// Histories that are to be read.
    #[serde(default)]
    pub readings: Vec<VersionedReading>,
    /// Probes that are to be made.
    #[serde(default)]
    pub probes: Vec<VersionedProbe>,
}

/// One cell as an agent found it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CellReport {
    /// The cell.
    pub cell: Cell,
    /// What breaks the control in it.
    pub detected: Vec<Detected>,
}

/// Some cells of an account; with the last of them, what closes the account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountReport {
    /// The account.
    pub account: AccountId,
    /// The lease's fence.
    pub fence: i64,
    /// The scans that it is for, with the pass of each that was looked for.
    pub scans: BTreeMap<String, i64>,
    /// The cells.
    pub cells: Vec<CellReport>,
    /// With the last cells only.
    pub end: Option<AccountEnd>,
}

/// What closes an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountEnd {
    /// Every region that the account is expected to have a cell of, scanned now or not: those that
    /// have none yet get a pending one, so that a ledger is never full without them.
    pub regions: Vec<String>,
    /// Where that list came from. One from the account is complete: other cells are dropped.
    pub regions_source: RegionsSource,
    /// The list, if the account was asked now.
    pub list: Option<RegionList>,
    /// Regions that did not answer: they are tried once more before the scan ends.
    pub unreachable: Vec<String>,
    /// Cells looked at.
    pub cells: u32,
    /// Of these, not answered.
    pub failed: u32,
    /// What was found in them.
    pub found: u32,
    /// What people should know of the session, for the audit log; empty if nothing.
    pub note: String,
    /// Whether nothing else is to be done in the account, so that its lease ends.
    pub release: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(scan: &str, regions: &[&str], pass: i64) -> Look {
        Look {
            scans: BTreeMap::from([(scan.into(), pass)]),
            regions: regions.iter().map(|r| (*r).to_owned()).collect(),
            seen: vec!["eu-west-1".into()],
            options: Options { keys: scan == "a", ..Options::default() },
            list: Some(RegionList { read_at: Time(1), enabled: BTreeMap::new() }),
        }
    }

    #[test]
    fn one_look_serves_all_that_wait() {
        let both = look("a", &["x", "y"], 0).merge(look("b", &["y", "z"], 1));
        let scans = BTreeMap::from([("a".to_owned(), 0), ("b".to_owned(), 1)]);
        assert_eq!((&both.scans, both.regions.join(",")), (&scans, "x,y,z".into()));
        assert!(both.options.keys && both.seen.is_empty() && both.list.is_some());
        assert_eq!(both.pass(), 0);
        assert!(look("a", &[], 0).merge(look("b", &["z"], 0)).regions.is_empty(), "all means all");
        let fresh = Look { list: None, ..look("b", &[], 0) };
        assert!(look("a", &[], 0).merge(fresh).list.is_none(), "one wants it anew");
    }

    #[test]
    fn a_scan_of_the_first_version_is_read() {
        let old = r#"{"id":"sc-1","started_by":"ann","started_at":5,"ended_at":null,"regions":[]}"#;
        let scan: Scan = serde_json::from_str(old).unwrap();
        assert_eq!((scan.trigger, scan.listing), (Trigger::Demand, Listing::Done));
        assert!(!scan.whole && scan.options == Options::default());
    }
}
