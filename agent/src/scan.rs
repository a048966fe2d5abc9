//! One account: its regions, and each cell swept and judged.

mod beside;

use crate::lease::{Desk, Pipe, Slot};
use crate::now;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use ringfence_aws::{Phase, Session};
use ringfence_domain::around::{Around, ByResourceId};
use ringfence_domain::cloud::{CloudError, ErrorClass, REGION_UNREACHABLE};
use ringfence_domain::control::{Control, Detection};
use ringfence_domain::controls::rds_encryption::RdsEncryption;
use ringfence_domain::finding::Detected;
use ringfence_domain::id::Region;
use ringfence_domain::isolation::Group;
use ringfence_domain::key::KeyFacts;
use ringfence_domain::key::list::Under;
use ringfence_domain::ledger::{Cell, CellState, REGION_UNKNOWN, RegionsSource};
use ringfence_domain::opinion::Opinion;
use ringfence_domain::rds::{Quotas, Sweep};
use ringfence_domain::work::{
    AccountEnd, AccountReport, CellReport, EVERYWHERE, Look, RegionList, Work,
};
use std::sync::atomic::Ordering;
use tokio::sync::OnceCell;
use tonic::Status;

/// Which regions an account has, and in which state the others are.
struct Regions {
    scan: Vec<Region>,
    other: Vec<(String, CellState, String)>,
    source: RegionsSource,
    /// The account's own list, with its date; read now or before.
    list: Option<RegionList>,
    /// Whether it was read now.
    read_now: bool,
}

/// What AWS said of a cell.
struct Read {
    /// Of every instance and cluster.
    names: Vec<String>,
    under: Under,
    /// Whether the server's own credentials served.
    own: bool,
    found: Detection,
    /// Old snapshots, where they were asked for; and the names of all.
    old: Vec<Detected>,
    snapshots: Option<Result<Vec<String>, String>>,
    key: Option<KeyFacts>,
    quotas: Option<Result<Quotas, String>>,
    around: Option<Around>,
    groups: Option<Result<Vec<Group>, String>>,
    /// AWS Config's word, where it was asked and the cell was read.
    config: Option<Opinion>,
    /// Whether it was read to its end.
    read: Result<(), CloudError>,
}

/// A cell with what failed in it, if something did.
struct Seen {
    report: CellReport,
    lost: bool,
}

/// One account's look while it lasts.
struct Visit<'a, P> {
    desk: &'a Desk<P>,
    work: &'a Work,
    look: &'a Look,
    /// Whether nothing else is to be done in the account.
    release: bool,
    /// The account's policies that name databases, read once for all its cells.
    policies: OnceCell<Result<ByResourceId, String>>,
}

/// Scans an account and reports it, cell by cell as they come. An account that cannot be entered is
/// reported as such: every cell that is known of it gets the reason. The slot is given back when all is
/// read, and only the report is to be waited for; it is not given where more is to be done in the account.
pub(crate) async fn account<P: Pipe>(
    desk: &Desk<P>,
    work: &Work,
    look: &Look,
    slot: Option<Slot>,
) -> Result<(), Status> {
    let visit = Visit { desk, work, look, release: slot.is_some(), policies: OnceCell::new() };
    let last = match desk.cloud.enter(&work.account, Phase::Scan, visit.run()).await {
        Err(error) => visit.closed(&error),
        Ok(session) => visit.inside(&session).await,
    };
    // Another account may be read from here on.
    drop(slot);
    desk.handed_in.store(visit.release, Ordering::Relaxed);
    desk.reporter.last(last).await
}

/// The regions whose cells are marked where the account itself cannot be asked: all that are configured
/// and all that it has cells of, so that none of them keeps an answer that is no longer had.
fn regions_of(configured: &[String], known: &[String]) -> Vec<String> {
    let known = known.iter().filter(|r| *r != REGION_UNKNOWN);
    let mut all: Vec<String> = configured.iter().chain(known).cloned().collect();
    all.sort();
    all.dedup();
    match all.is_empty() {
        true => vec![REGION_UNKNOWN.to_owned()],
        false => all,
    }
}

fn state_of(class: ErrorClass) -> CellState {
    match class {
        ErrorClass::Denied => CellState::Denied,
        ErrorClass::ScpDenied => CellState::ScpDenied,
        ErrorClass::Throttled => CellState::ThrottledOut,
        ErrorClass::RegionRefused
        | ErrorClass::NotFound
        | ErrorClass::AlreadyExists
        | ErrorClass::Conflict
        | ErrorClass::Invalid
        | ErrorClass::Unknown => CellState::Error,
    }
}

/// Databases by the key that they are under; members are under their cluster's.
fn under(sweep: &Sweep) -> Under {
    let single = sweep.instances.iter().filter(|i| i.cluster.is_none());
    let single = single.map(|i| (&i.kms_key, &i.id));
    let mut under = Under::new();
    for (key, id) in single.chain(sweep.clusters.iter().map(|c| (&c.kms_key, &c.id))) {
        if let Some(key) = key {
            under.entry(key.clone()).or_default().push(id.clone());
        }
    }
    under
}

fn reason(error: &CloudError) -> String {
    if error.unanswered() && error.code != REGION_UNREACHABLE {
        return format!("{REGION_UNREACHABLE}: {error}");
    }
    match error.class {
        ErrorClass::RegionRefused => {
            format!("the region refuses the session; it may not be enabled in the account: {error}")
        }
        ErrorClass::Throttled
        | ErrorClass::Denied
        | ErrorClass::ScpDenied
        | ErrorClass::NotFound
        | ErrorClass::AlreadyExists
        | ErrorClass::Conflict
        | ErrorClass::Invalid
        | ErrorClass::Unknown => error.to_string(),
    }
}

impl<P: Pipe> Visit<'_, P> {
    /// Names the session in CloudTrail.
    fn run(&self) -> &str {
        self.look.scans.keys().next().map_or("scan", String::as_str)
    }

    fn chosen(&self, region: &str) -> bool {
        self.look.regions.is_empty() || self.look.regions.iter().any(|r| r == region)
    }

    fn report(&self, cells: Vec<CellReport>, end: Option<AccountEnd>) -> AccountReport {
        AccountReport {
            account: self.work.account.clone(),
            fence: self.desk.lease.fence,
            scans: self.look.scans.clone(),
            cells,
            end,
        }
    }

    /// A cell that was not read, and why.
    fn unread(
        &self,
        region: &str,
        source: RegionsSource,
        state: CellState,
        why: &str,
    ) -> CellReport {
        let cell = Cell {
            state,
            reason: why.to_owned(),
            as_of: Some(now()),
            ..Cell::pending(self.work.account.clone(), region, source)
        };
        CellReport { cell, detected: Vec::new() }
    }

    /// The report of an account that cannot be entered.
    fn closed(&self, error: &CloudError) -> AccountReport {
        let configured: Vec<String> =
            self.desk.settings.regions.iter().map(ToString::to_string).collect();
        // Every cell that the account has and that was asked for gets the reason: a denied account is never
        // silence. No cell is made of a region that was only asked for, for nobody knows whether the
        // account has it; where none is known, the account's place holder says it.
        let names = regions_of(&configured, &self.work.known_regions);
        let asked: Vec<String> = names.iter().filter(|r| self.chosen(r)).cloned().collect();
        let names = if asked.is_empty() { vec![REGION_UNKNOWN.to_owned()] } else { asked };
        let cells: Vec<CellReport> = names
            .iter()
            .map(|region| {
                let source = match region == REGION_UNKNOWN {
                    true => RegionsSource::Unknown,
                    false => RegionsSource::Configured,
                };
                self.unread(region, source, state_of(error.class), &reason(error))
            })
            .collect();
        let count = u32::try_from(cells.len()).unwrap_or(u32::MAX);
        let lost = error.class == ErrorClass::Unknown;
        let end = AccountEnd {
            regions: configured,
            regions_source: RegionsSource::Configured,
            list: None,
            unreachable: if lost { vec![EVERYWHERE.to_owned()] } else { Vec::new() },
            cells: count,
            failed: count,
            found: 0,
            note: String::new(),
            release: self.release,
        };
        self.report(cells, Some(end))
    }

    /// Reads the account, and reports its cells as they come; what is left is the last report.
    async fn inside(&self, session: &Session) -> AccountReport {
        let regions = self.regions(session).await;
        let others = self.others(&regions);
        let mut end = AccountEnd {
            regions: self.expected(&regions),
            regions_source: regions.source,
            list: regions.list.clone().filter(|_| regions.read_now),
            unreachable: Vec::new(),
            cells: u32::try_from(others.len() + self.look.seen.len()).unwrap_or(u32::MAX),
            failed: 0,
            found: 0,
            note: session.note.clone().unwrap_or_default(),
            release: self.release,
        };
        end.failed = u32::try_from(others.iter().filter(|c| c.cell.state.failed()).count())
            .unwrap_or(u32::MAX);
        let mut cells: FuturesUnordered<_> = regions
            .scan
            .iter()
            .filter(|r| self.chosen(r.as_str()) && !self.look.seen.iter().any(|s| s == r.as_str()))
            .map(|region| self.cell(region, &regions))
            .collect();
        let mut last = others;
        while let Some(Seen { report, lost }) = cells.next().await {
            end.cells += 1;
            end.failed += u32::from(report.cell.state.failed());
            end.found += u32::try_from(report.detected.len()).unwrap_or(u32::MAX);
            if lost {
                end.unreachable.push(report.cell.region.clone());
            }
            // Cells go as they come, so that a slow region holds up no other; the last one of them
            // takes along what closes the account.
            match cells.is_empty() {
                true => last.push(report),
                false => self.desk.reporter.cells(self.report(vec![report], None)).await,
            }
        }
        // A later pass of the same run enters again with the session that is there.
        if end.unreachable.is_empty() {
            self.desk.cloud.leave(&self.work.account, Phase::Scan, self.run());
        }
        self.report(last, Some(end))
    }

    /// Every region that has a cell. A later pass is about a few regions, and says nothing of others.
    fn expected(&self, regions: &Regions) -> Vec<String> {
        if self.look.pass() > 0 {
            return Vec::new();
        }
        let others = regions.other.iter().map(|(name, _, _)| name.clone());
        others.chain(regions.scan.iter().map(ToString::to_string)).collect()
    }

    /// The cells that need no call, and those that cannot have one.
    fn others(&self, regions: &Regions) -> Vec<CellReport> {
        let source = regions.source;
        let mut cells = Vec::new();
        for (region, state, reason) in &regions.other {
            if self.chosen(region) {
                let mut report = self.unread(region, source, *state, reason);
                report.cell.regions_at = regions.list.as_ref().map(|l| l.read_at);
                cells.push(report);
            }
        }
        let named = |region: &String| {
            regions.scan.iter().any(|r| r.as_str() == region)
                || regions.other.iter().any(|(name, _, _)| name == region)
        };
        let why = match (source, regions.other.first()) {
            (RegionsSource::Unknown, Some((_, _, why))) => why.as_str(),
            _ => "asked for, and not among the account's regions",
        };
        let strange = self.look.regions.iter().filter(|r| !named(r));
        cells.extend(strange.map(|r| self.unread(r, source, CellState::Error, why)));
        cells
    }

    /// The account's regions: as it named them a while ago, if that may be used again, else from
    /// ListRegions inside it; where that does not answer, the configured list, marked as such.
    async fn regions(&self, session: &Session) -> Regions {
        if let Some(list) = &self.look.list {
            return self.sorted(list.clone(), false);
        }
        let configured = &self.desk.settings.regions;
        match self.desk.cloud.regions(session).await {
            Ok(enabled) => self.sorted(RegionList { read_at: now(), enabled }, true),
            Err(error) if configured.is_empty() => {
                let why = format!("ListRegions did not answer, and aws.regions is empty: {error}");
                let known = regions_of(&[], &self.work.known_regions);
                let failed = |region| (region, CellState::Error, why.clone());
                let other = known.into_iter().map(failed).collect();
                let source = RegionsSource::Unknown;
                Regions { scan: Vec::new(), other, source, list: None, read_now: false }
            }
            Err(error) => {
                tracing::debug!("{}: {error}; aws.regions is used", session.account);
                Regions {
                    scan: configured.clone(),
                    other: Vec::new(),
                    source: RegionsSource::Configured,
                    list: None,
                    read_now: false,
                }
            }
        }
    }

    fn sorted(&self, list: RegionList, read_now: bool) -> Regions {
        let configured = &self.desk.settings.regions;
        let (mut scan, mut other) = (Vec::new(), Vec::new());
        for (name, on) in &list.enabled {
            let named = configured.is_empty() || configured.iter().any(|r| r.as_str() == name);
            let mut out = |state, why: &str| other.push((name.clone(), state, why.to_owned()));
            match (on, named, name.parse::<Region>()) {
                (false, _, _) => out(CellState::RegionOff, ""),
                (true, false, _) => {
                    out(CellState::SkippedByRule, "enabled, and not in aws.regions");
                }
                (true, true, Ok(region)) => scan.push(region),
                (true, true, Err(_)) => out(CellState::Error, "not a region code"),
            }
        }
        Regions { scan, other, source: RegionsSource::Account, list: Some(list), read_now }
    }

    /// One cell: swept, judged, and its key read where something is to be encrypted. A call that fails
    /// makes the cell that failure; what was found until then stays listed.
    async fn cell(&self, region: &Region, regions: &Regions) -> Seen {
        // In a later pass the region gets one real try, and all wait for what comes of it.
        let probe = match self.look.pass() > 0 {
            true => self.desk.cloud.settle(region, self.desk.pass_began(self.look)).await,
            false => None,
        };
        let mut seen = self.read(region, false).await;
        if seen.read.as_ref().is_err_and(CloudError::expired) {
            // Its time was up before the time it was given for: a new session, once.
            seen = self.read(region, true).await;
        }
        let unreachable = |e: &CloudError| e.code == REGION_UNREACHABLE;
        if probe.is_some() && seen.read.as_ref().is_err_and(unreachable) {
            // Of two calls at once, one was the probe; if that was answered, the other may go now.
            seen = self.read(region, false).await;
        }
        drop(probe);
        let Read {
            names,
            under,
            own,
            found,
            old,
            snapshots,
            key,
            quotas,
            around,
            groups,
            config,
            read,
        } = seen;
        let source = regions.source;
        let mut cell = Cell::pending(self.work.account.clone(), region.as_str(), source);
        let lost = read.as_ref().is_err_and(|e| e.class == ErrorClass::Unknown);
        (cell.state, cell.reason) =
            match (read, found.unjudged.is_empty(), found.findings.is_empty()) {
                (Err(error), _, _) => (state_of(error.class), reason(&error)),
                (Ok(()), false, _) => (CellState::Error, found.unjudged.join("; ")),
                (Ok(()), true, false) => (CellState::Findings, String::new()),
                (Ok(()), true, true) => (CellState::Clean, String::new()),
            };
        cell.key = key;
        (cell.under, cell.own) = (under, own);
        (cell.quotas, cell.around, cell.groups) = (quotas, around, groups);
        cell.config = config;
        cell.as_of = Some(now());
        cell.regions_at = regions.list.as_ref().map(|l| l.read_at);
        cell.instances = found.instances;
        cell.clusters = found.clusters;
        cell.out_of_scope = found.out_of_scope;
        (cell.names, cell.snapshots) = (names, snapshots);
        let detected = found.findings.into_iter().chain(old).collect();
        Seen { report: CellReport { cell, detected }, lost }
    }

    /// What AWS says of a cell; on an error, what it said until then.
    async fn read(&self, region: &Region, anew: bool) -> Read {
        let (cloud, settings) = (&self.desk.cloud, &self.desk.settings);
        if anew {
            cloud.leave(&self.work.account, Phase::Scan, self.run());
        }
        let mut sweep = Sweep::default();
        // From the cache: a session that is near its end is renewed here.
        let entered = cloud.enter(&self.work.account, Phase::Scan, self.run()).await;
        let mut read = match &entered {
            Ok(session) => cloud.sweep_databases(session, region, &mut sweep).await,
            Err(error) => Err(error.clone()),
        };
        let mut found = RdsEncryption.detect(&sweep, settings.require_kms_key);
        if let (Ok(session), Ok(())) = (&entered, &read) {
            read = self.endpoint_tags(session, region, &mut found).await;
        }
        let (mut old, mut snapshots) = (Vec::new(), None);
        if let (Ok(session), Ok(()), true) = (&entered, &read, self.look.options.snapshots) {
            match self.snapshots(session, region, &mut sweep).await {
                Ok(found) => {
                    let names = sweep.snapshots.iter().map(|s| s.id.clone());
                    (snapshots, old) = (Some(Ok(names.collect())), found);
                }
                Err(error) if error.expired() => read = Err(error),
                // It says nothing of the databases, which were read.
                Err(error) => snapshots = Some(Err(error.to_string())),
            }
        }
        let (mut key, mut quotas, mut beside) = (None, None, None);
        if let Ok(session) = &entered
            && (self.look.options.keys || !found.findings.is_empty() || !old.is_empty())
        {
            let named = async {
                let any = !found.findings.is_empty();
                if any { Some(self.beside(session, region, &found).await) } else { None }
            };
            let facts = cloud.key_facts(session, region, &settings.key);
            let (facts, room, named) = futures::join!(facts, cloud.quotas(session, region), named);
            match facts {
                Ok(facts) => key = Some(facts),
                Err(error) => read = read.and(Err(error)),
            }
            // What of this is not read is no failure of the cell: plans say that it was not.
            (quotas, beside) = (Some(room.map_err(|e| e.to_string())), named);
        }
        let mut config = None;
        if let (Ok(session), Ok(()), true) = (&entered, &read, self.look.options.config) {
            match self.opinion(session, region, &sweep, &mut found).await {
                Ok(opinion) => config = Some(opinion),
                Err(expired) => read = Err(expired),
            }
        }
        let names = sweep.instances.iter().map(|i| i.id.clone());
        let names = names.chain(sweep.clusters.iter().map(|c| c.id.clone())).collect();
        let own = entered.is_ok_and(|session| session.own);
        let under = under(&sweep);
        let (around, groups) = beside.unzip();
        Read { names, under, own, found, old, snapshots, key, quotas, around, groups, config, read }
    }
}
