//! The coverage ledger: every cell in exactly one named state.

use crate::around::Around;
use crate::bounds::REGIONS_WITH_EVIDENCE;
use crate::finding::Kind;
use crate::id::{AccountId, Region};
use crate::isolation::Group;
use crate::key::KeyFacts;
use crate::opinion::Opinion;
use crate::rds::Quotas;
use crate::time::{Span, Time};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// The state of one cell for one control. "0 unencrypted" is only ever said of a full ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CellState {
    /// Not scanned yet.
    Pending,
    /// All was read, nothing breaks the control.
    Clean,
    /// All was read, something does.
    Findings,
    /// The account or the calls in it are denied.
    Denied,
    /// A service control policy denies the reading.
    ScpDenied,
    /// The account has not enabled the region: nothing can exist there.
    RegionOff,
    /// AWS throttled until the cell's time was up.
    ThrottledOut,
    /// Anything else; the reason says what.
    Error,
    /// An enabled region that `aws.regions` leaves out.
    SkippedByRule,
}

impl CellState {
    /// All states, in the order in which they are shown.
    pub const ALL: [CellState; 9] = [
        CellState::Pending,
        CellState::Clean,
        CellState::Findings,
        CellState::Denied,
        CellState::ScpDenied,
        CellState::RegionOff,
        CellState::ThrottledOut,
        CellState::Error,
        CellState::SkippedByRule,
    ];

    /// The name in the store, in JSON and on screen.
    pub fn as_str(self) -> &'static str {
        match self {
            CellState::Pending => "pending",
            CellState::Clean => "clean",
            CellState::Findings => "findings",
            CellState::Denied => "denied",
            CellState::ScpDenied => "scp-denied",
            CellState::RegionOff => "region-off",
            CellState::ThrottledOut => "throttled-out",
            CellState::Error => "error",
            CellState::SkippedByRule => "skipped-by-rule",
        }
    }

    /// The state of that name.
    pub fn parse(text: &str) -> Option<CellState> {
        CellState::ALL.into_iter().find(|s| s.as_str() == text)
    }

    /// Whether the cell was answered, so that it counts as seen.
    pub fn answered(self) -> bool {
        matches!(self, CellState::Clean | CellState::Findings | CellState::RegionOff)
    }

    /// The names of the states for which [`failed`](Self::failed) holds.
    pub fn failures() -> Vec<&'static str> {
        CellState::ALL.into_iter().filter(|s| s.failed()).map(CellState::as_str).collect()
    }

    /// Whether a scan that ends with this state is partial (exit code 3).
    pub fn failed(self) -> bool {
        matches!(
            self,
            CellState::Denied | CellState::ScpDenied | CellState::ThrottledOut | CellState::Error
        )
    }
}

impl fmt::Display for CellState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where an account's list of regions came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegionsSource {
    /// `account:ListRegions` answered inside the account: the list is known to be complete.
    Account,
    /// It did not; `aws.regions` was used. Complete only if the operator says so.
    Configured,
    /// Not read yet.
    Unknown,
}

impl RegionsSource {
    /// The name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            RegionsSource::Account => "account",
            RegionsSource::Configured => "configured",
            RegionsSource::Unknown => "unknown",
        }
    }
}

/// The region of the one cell that an account has while its regions are not known.
pub const REGION_UNKNOWN: &str = "unknown";

/// One cell of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// The account.
    pub account: AccountId,
    /// The region, or [`REGION_UNKNOWN`].
    pub region: String,
    /// Its state.
    pub state: CellState,
    /// Why, when the state alone does not say it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// When AWS was asked; `None` while pending.
    pub as_of: Option<Time>,
    /// Where the region came from.
    pub regions_source: RegionsSource,
    /// When the account named its regions; `None` where it was not the account that did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regions_at: Option<Time>,
    /// DB instances seen, members and replicas included, out-of-scope engines not.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub instances: u32,
    /// DB clusters seen, out-of-scope engines not.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub clusters: u32,
    /// Neptune and DocumentDB instances and clusters seen.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub out_of_scope: u32,
    /// Every instance and cluster name in the cell: a twin may not take one of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Every manual snapshot of an instance in it, or why they could not be read, which says nothing of its
    /// databases; `None` where they were not looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshots: Option<Result<Vec<String>, String>>,
    /// Whether it was read with the server's own credentials, for the account has no role of ours.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own: bool,
    /// The key behind the alias, where something was found to encrypt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyFacts>,
    /// Databases by the ARN of the KMS key that they are under; clusters, not their members.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub under: BTreeMap<String, Vec<String>>,
    /// The quotas, where something was found to encrypt, or why they could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quotas: Option<Result<Quotas, String>>,
    /// What names the databases that were found, where something was found to encrypt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub around: Option<Around>,
    /// The isolation groups, where something was found to encrypt, or why they could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Result<Vec<Group>, String>>,
    /// What AWS Config said beside it; `None` where it was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Opinion>,
}

/// What is zero is left out of the store: nearly all cells are empty, and there are many.
fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl Cell {
    /// Whether something of that kind has that name in it: databases share names, snapshots have theirs.
    pub fn has(&self, kind: Kind, name: &String) -> bool {
        match kind {
            Kind::Instance | Kind::Cluster => self.names.contains(name),
            Kind::Snapshot => matches!(&self.snapshots, Some(Ok(all)) if all.contains(name)),
        }
    }

    /// Whether a look at it says whether something of that kind is still there: it was read to its end, and
    /// snapshots were looked at.
    pub fn tells(&self, kind: Kind) -> bool {
        let looked = kind != Kind::Snapshot || matches!(self.snapshots, Some(Ok(_)));
        self.state.answered() && looked
    }

    /// A cell that nothing is known of.
    pub fn pending(account: AccountId, region: &str, source: RegionsSource) -> Cell {
        Cell {
            account,
            region: region.to_owned(),
            state: CellState::Pending,
            reason: String::new(),
            as_of: None,
            regions_source: source,
            regions_at: None,
            instances: 0,
            clusters: 0,
            out_of_scope: 0,
            names: Vec::new(),
            snapshots: None,
            own: false,
            key: None,
            under: BTreeMap::new(),
            quotas: None,
            around: None,
            groups: None,
            config: None,
        }
    }

    /// The region, unless it is not known.
    pub fn region(&self) -> Option<Region> {
        self.region.parse().ok()
    }
}

/// Counts of cells by state; sums to [`Coverage::cells`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage(pub BTreeMap<String, u32>);

impl Coverage {
    /// All states, those without cells as 0.
    pub fn new(counts: impl IntoIterator<Item = (CellState, u32)>) -> Coverage {
        let mut map: BTreeMap<String, u32> =
            CellState::ALL.iter().map(|s| (s.as_str().to_owned(), 0)).collect();
        for (state, n) in counts {
            *map.entry(state.as_str().to_owned()).or_default() += n;
        }
        Coverage(map)
    }

    /// How many cells there are.
    pub fn cells(&self) -> u32 {
        self.0.values().sum()
    }

    /// Cells whose state a test lets through.
    pub fn count(&self, test: impl Fn(CellState) -> bool) -> u32 {
        CellState::ALL.iter().filter(|s| test(**s)).filter_map(|s| self.0.get(s.as_str())).sum()
    }
}

/// What the gate accepts as a full ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Evidence older than this does not count.
    pub max_age: Span,
    /// Whether a configured region list counts as complete.
    pub accept_configured: bool,
}

/// How far an agent's clock may be ahead of the server's.
const SKEW_MAX: Span = Span::seconds(300);

/// Why one account's ledger is not full; empty if it is.
pub fn gaps(account: &AccountId, cells: &[Cell], rule: Rule, now: Time) -> Vec<String> {
    if cells.is_empty() {
        return vec![format!("{account}: no cell in the ledger; run `ringfence scan start`")];
    }
    let mut gaps = Vec::new();
    for cell in cells {
        let at = format!("{account} {}", cell.region);
        let because =
            if cell.reason.is_empty() { String::new() } else { format!(" ({})", cell.reason) };
        if !cell.state.answered() {
            gaps.push(format!("{at}: {}{because}", cell.state));
            continue;
        }
        match cell.as_of {
            // An agent's clock that runs ahead would keep its evidence fresh for too long.
            Some(t) if t.since(now) > SKEW_MAX => {
                gaps.push(format!("{at}: evidence from the future"));
            }
            Some(t) if now.since(t) <= rule.max_age => {}
            Some(t) => gaps.push(format!("{at}: evidence is {} old", now.since(t))),
            None => gaps.push(format!("{at}: no evidence")),
        }
        if let (RegionsSource::Account, Some(as_of)) = (cell.regions_source, cell.as_of)
            && cell.regions_at.is_none_or(|read| as_of.since(read) > REGIONS_WITH_EVIDENCE)
        {
            gaps.push(format!(
                "{at}: its list of enabled regions is older than the evidence; run `ringfence scan start`, which reads it anew"
            ));
        }
        if cell.regions_source != RegionsSource::Account && !rule.accept_configured {
            gaps.push(format!(
                "{at}: the region list is configured, not read from the account (rollout.accept_configured_regions is false)"
            ));
        }
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(state: CellState, at: i64, source: RegionsSource) -> Cell {
        let account = "111122223333".parse().unwrap();
        let regions_at = (source == RegionsSource::Account).then_some(Time(at));
        let cell = Cell::pending(account, "eu-west-1", source);
        Cell { state, as_of: Some(Time(at)), regions_at, ..cell }
    }

    #[test]
    fn only_fresh_answers_from_a_complete_list_are_full() {
        use CellState::*;
        let now = Time(0).plus(Span::hours(100));
        let fresh = now.0 - 1;
        let strict = Rule { max_age: Span::hours(24), accept_configured: false };
        let lax = Rule { accept_configured: true, ..strict };
        let account = "111122223333".parse().unwrap();
        for (cells, rule, full) in [
            (vec![cell(Clean, fresh, RegionsSource::Account)], strict, true),
            (vec![cell(RegionOff, fresh, RegionsSource::Account)], strict, true),
            (vec![cell(Findings, fresh, RegionsSource::Account)], strict, true),
            (vec![cell(Clean, 0, RegionsSource::Account)], strict, false),
            (
                vec![Cell {
                    regions_at: Some(Time(fresh - 7_200_000)),
                    ..cell(Clean, fresh, RegionsSource::Account)
                }],
                strict,
                false,
            ),
            (vec![cell(Clean, fresh, RegionsSource::Configured)], strict, false),
            (vec![cell(Clean, fresh, RegionsSource::Configured)], lax, true),
            (vec![], lax, false),
        ] {
            assert_eq!(gaps(&account, &cells, rule, now).is_empty(), full, "{cells:?}");
        }
        for state in CellState::ALL {
            let full = gaps(&account, &[cell(state, fresh, RegionsSource::Account)], strict, now)
                .is_empty();
            assert_eq!(full, state.answered(), "{state}");
        }
    }

    #[test]
    fn coverage_counts_every_state() {
        let coverage = Coverage::new([(CellState::Clean, 2), (CellState::Denied, 1)]);
        assert_eq!(coverage.cells(), 3);
        assert_eq!(coverage.0.len(), CellState::ALL.len());
        for state in CellState::ALL {
            assert_eq!(CellState::parse(state.as_str()), Some(state));
        }
    }
}
