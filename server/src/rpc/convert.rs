//! Between the protos and the domain; rollouts have a file of their own.

use super::freeze::show as show_freeze;
use crate::app::Fault;
use crate::doctor::{Check, Outcome};
use crate::org::Synced;
use crate::scope::Scope;
use crate::status::Status;
use crate::store::{Logged, Progress};
use ringfence_domain::approval::Approval;
use ringfence_domain::finding::{Finding, FindingState, Kind, Resource, Waiver};
use ringfence_domain::ledger::{Cell, CellState, Coverage};
use ringfence_domain::opinion::{Disagreement, Opinion};
use ringfence_domain::org::{Node, NodeKind, OrgTree};
use ringfence_domain::plan::{self, Item, Plan, Strategy, Verdict};
use ringfence_domain::remediation::{self, Activity, Remediation, Retirement};
use ringfence_domain::rollout::Rollout;
use ringfence_domain::time::Time;
use ringfence_domain::work::{Listing, Scan};
use ringfence_proto::v1;
use std::collections::BTreeMap;

/// A count for the wire; no organization has more than 2^31 of anything.
pub(crate) fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

pub(crate) fn counts(map: &BTreeMap<String, u32>) -> BTreeMap<String, i32> {
    map.iter().map(|(k, n)| (k.clone(), i32::try_from(*n).unwrap_or(i32::MAX))).collect()
}

pub(crate) fn when(time: Option<Time>) -> String {
    time.map(|t| t.to_string()).unwrap_or_default()
}

/// Counts by state, with their sum as `cells`.
pub(crate) fn coverage(coverage: &Coverage) -> BTreeMap<String, i32> {
    let mut map = counts(&coverage.0);
    map.insert("cells".to_owned(), i32::try_from(coverage.cells()).unwrap_or(i32::MAX));
    map
}

pub(crate) fn ids<T>(field: &str, texts: &[String]) -> Result<Vec<T>, Fault>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    let parse = |text: &String| text.parse().map_err(|e| Fault::Invalid(format!("{field}: {e}")));
    texts.iter().map(parse).collect()
}

pub(crate) fn scope(scope: Option<v1::Scope>) -> Result<Scope, Fault> {
    let v1::Scope { ous, accounts, mut regions } = scope.unwrap_or_default();
    regions.sort();
    regions.dedup();
    Ok(Scope {
        ous: ids("ou", &ous)?,
        accounts: ids("account", &accounts)?,
        regions: ids("region", &regions)?,
    })
}

pub(crate) fn node(node: &Node, tree: &OrgTree) -> v1::Node {
    let (kind, management) = match &node.kind {
        NodeKind::Root => (v1::NodeKind::Root, false),
        NodeKind::Ou => (v1::NodeKind::Ou, false),
        NodeKind::Account { management, .. } => (v1::NodeKind::Account, *management),
    };
    let state = node.account_state();
    v1::Node {
        id: node.id.to_string(),
        parent: node.parent.as_ref().map(ToString::to_string).unwrap_or_default(),
        name: node.name.clone(),
        kind: kind.into(),
        account_state: state.map(|s| s.as_str().to_owned()).unwrap_or_default(),
        excluded: state.and_then(|s| s.excluded()).unwrap_or_default().to_owned(),
        management,
        path: tree.path(&node.id),
    }
}

pub(crate) fn synced(synced: &Synced) -> v1::SyncOrgResponse {
    let mut by_state = BTreeMap::new();
    let mut ous = 0;
    for node in synced.tree.nodes() {
        match &node.kind {
            NodeKind::Root => {}
            NodeKind::Ou => ous += 1,
            NodeKind::Account { state, .. } => {
                *by_state.entry(state.as_str().to_owned()).or_insert(0) += 1;
            }
        }
    }
    let change = |c: &ringfence_domain::org::OrgChange| v1::OrgChange {
        id: c.id.to_string(),
        name: c.name.clone(),
        what: c.what.clone(),
    };
    v1::SyncOrgResponse {
        as_of: synced.tree.as_of.to_string(),
        ous,
        accounts: by_state.values().sum(),
        accounts_by_state: by_state,
        changes: synced.changes.iter().map(change).collect(),
        first: synced.first,
    }
}

pub(crate) fn cell(cell: &Cell) -> v1::Cell {
    let state = match cell.state {
        CellState::Pending => v1::CellState::Pending,
        CellState::Clean => v1::CellState::Clean,
        CellState::Findings => v1::CellState::Findings,
        CellState::Denied => v1::CellState::Denied,
        CellState::ScpDenied => v1::CellState::ScpDenied,
        CellState::RegionOff => v1::CellState::RegionOff,
        CellState::ThrottledOut => v1::CellState::ThrottledOut,
        CellState::Error => v1::CellState::Error,
        CellState::SkippedByRule => v1::CellState::SkippedByRule,
    };
    let number = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    v1::Cell {
        account: cell.account.to_string(),
        region: cell.region.clone(),
        state: state.into(),
        reason: cell.reason.clone(),
        as_of: when(cell.as_of),
        regions_source: cell.regions_source.as_str().to_owned(),
        instances: number(cell.instances),
        clusters: number(cell.clusters),
        out_of_scope: number(cell.out_of_scope),
        config: cell.config.as_ref().map(opinion),
    }
}

/// A cell whose snapshots could not be read, with the reason.
pub(crate) fn cell_of_snapshots(of: &Cell) -> v1::Cell {
    let why = of.snapshots.as_ref().and_then(|s| s.clone().err());
    v1::Cell { reason: why.unwrap_or_default(), ..cell(of) }
}

fn opinion(o: &Opinion) -> v1::ConfigOpinion {
    let differ = |d: &Disagreement| v1::Disagreement {
        resource: d.resource.clone(),
        rule: d.rule.as_str().to_owned(),
        config: d.config.as_str().to_owned(),
        describe: d.describe.clone(),
    };
    let rules = o.rules.iter();
    v1::ConfigOpinion {
        verdict: o.verdict.as_str().to_owned(),
        reason: o.why.clone(),
        rules: rules.map(|(r, v)| (r.as_str().to_owned(), v.as_str().to_owned())).collect(),
        disagreements: o.disagreements.iter().map(differ).collect(),
    }
}

/// A scan and how far it is.
pub(crate) fn scan(scan: &Scan, progress: &Progress, now: Time) -> v1::Scan {
    let state = match scan.ended_at {
        Some(_) => v1::ScanState::Done,
        None => v1::ScanState::Running,
    };
    let number = |n: i64| i32::try_from(n).unwrap_or(i32::MAX);
    let seconds = scan.ended_at.unwrap_or(now).since(scan.started_at).0.max(1) as f64 / 1e3;
    v1::Scan {
        id: scan.id.clone(),
        state: state.into(),
        started_at: scan.started_at.to_string(),
        ended_at: when(scan.ended_at),
        started_by: scan.started_by.clone(),
        accounts: number(progress.accounts),
        accounts_done: number(progress.done),
        trigger: scan.trigger.as_str().to_owned(),
        listing_failed: scan.listing_failed.clone(),
        candidates: scan.candidates.map_or(0, number),
        by_candidates: scan.candidates.is_some(),
        progress: Some(v1::ScanProgress {
            cells: number(progress.cells),
            failed: number(progress.failed),
            found: number(progress.found),
            accounts_to_retry: number(progress.parked),
            listing: scan.listing != Listing::Done,
            cells_per_second: progress.cells as f64 / seconds,
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn kind(kind: Kind) -> v1::ResourceKind {
    match kind {
        Kind::Instance => v1::ResourceKind::Instance,
        Kind::Cluster => v1::ResourceKind::Cluster,
        Kind::Snapshot => v1::ResourceKind::Snapshot,
    }
}

pub(crate) fn finding(f: &Finding, now: Time) -> v1::Finding {
    let state = match f.state {
        FindingState::Open => v1::FindingState::Open,
        FindingState::Resolved => v1::FindingState::Resolved,
    };
    v1::Finding {
        id: f.id.clone(),
        control: f.control.clone(),
        account: f.account.to_string(),
        region: f.region.to_string(),
        kind: kind(f.kind).into(),
        name: f.resource.name().to_owned(),
        arn: f.resource.arn().to_owned(),
        resource_id: f.resource.resource_id().to_owned(),
        engine: f.resource.engine().to_owned(),
        group: f.resource.group(),
        state: state.into(),
        first_seen: f.first_seen.to_string(),
        last_seen: f.last_seen.to_string(),
        resolved_at: when(f.resolved_at),
        reopened: i32::try_from(f.reopened).unwrap_or(i32::MAX),
        incomplete: f.incomplete,
        waived: f.waived(now),
        waiver: f.waiver.as_ref().map(waiver),
        held_by: f.held_by.clone().unwrap_or_default(),
        encryption: f.resource.encryption().to_string(),
        config: f.config.map(|v| v.as_str().to_owned()).unwrap_or_default(),
    }
}

pub(crate) fn waiver(w: &Waiver) -> v1::Waiver {
    v1::Waiver {
        owner: w.owner.clone(),
        reason: w.reason.clone(),
        until: w.until.to_string(),
        by: w.by.clone(),
        account: w.account,
    }
}

pub(crate) fn approval(a: &Approval) -> v1::Approval {
    v1::Approval {
        by: a.by.clone(),
        at: a.at.to_string(),
        reason: a.reason.clone(),
        hash: a.hash.clone(),
    }
}

fn plan_check(c: &plan::Check) -> v1::PlanCheck {
    let (name, verdict) = (c.name.clone(), c.verdict.as_str().to_owned());
    v1::PlanCheck { name, verdict, text: c.text.clone() }
}

fn item(i: &Item) -> v1::PlanItem {
    let settings = match &i.resource {
        Resource::Instance { instance, .. } => crate::store::json(&instance.settings),
        Resource::Cluster { cluster, .. } => crate::store::json(&cluster.settings),
        Resource::Snapshot { snapshot, .. } => crate::store::json(&snapshot.settings),
    };
    v1::PlanItem {
        finding: i.finding.clone(),
        account: i.account.to_string(),
        region: i.region.to_string(),
        kind: kind(i.kind).into(),
        name: i.resource.name().to_owned(),
        engine: i.resource.engine().to_owned(),
        twin: i.twin.clone(),
        key_arn: i.key_arn.clone().unwrap_or_default(),
        far_keys: i.far_keys.iter().map(|(r, k)| (r.to_string(), k.clone())).collect(),
        steps: i.steps.clone(),
        notes: i.texts(Verdict::Warn).cloned().collect(),
        blockers: i.texts(Verdict::Block).cloned().collect(),
        checks: i.checks.iter().map(plan_check).collect(),
        estimate: i.estimate.as_ref().map(|e| v1::PlanEstimate {
            seconds: e.takes.0 / 1_000,
            learned_from: count(e.learned),
            storage_gib: e.gib,
            instances: count(e.instances),
        }),
        settings_json: settings,
        strategy: Strategy::of(i.swap.as_ref()).as_str().into(),
        windows: i.windows.iter().map(ToString::to_string).collect(),
    }
}

pub(crate) fn plan(p: &Plan, needed: usize) -> v1::Plan {
    let state = match p.state(needed) {
        "applied" => v1::PlanState::Applied,
        "approved" => v1::PlanState::Approved,
        _ => v1::PlanState::Draft,
    };
    let ready = p.ready().count();
    v1::Plan {
        id: p.body.id.clone(),
        hash: p.hash.clone(),
        state: state.into(),
        author: p.body.author.clone(),
        created_at: p.body.created_at.to_string(),
        items: p.body.items.iter().map(item).collect(),
        approvals: p.approvals.iter().map(approval).collect(),
        approvals_needed: count(needed),
        ready: count(ready),
        blocked: count(p.body.items.len() - ready),
        text: p.text(),
    }
}

fn retirement(r: &Retirement, needed: usize) -> v1::Retirement {
    let named =
        |list: &[(String, String)]| list.iter().map(|(n, id)| format!("{n} ({id})")).collect();
    v1::Retirement {
        author: r.author.clone(),
        at: r.at.to_string(),
        reason: r.reason.clone(),
        hash: r.hash(),
        originals: named(&r.originals),
        twins: named(&r.twins),
        approvals: r.approvals.iter().map(approval).collect(),
        approvals_needed: count(needed),
    }
}

/// A remediation; `needed` is how many approve a decommission.
pub(crate) fn remediation(r: &Remediation, needed: usize) -> v1::Remediation {
    let swap = r.swap.as_ref();
    let said = |proof: Option<&Activity>| proof.map(ToString::to_string).unwrap_or_default();
    let state = match r.state {
        remediation::State::Pending => v1::RemediationState::Pending,
        remediation::State::Running => v1::RemediationState::Running,
        remediation::State::Verified => v1::RemediationState::Verified,
        remediation::State::Stopped => v1::RemediationState::Stopped,
        remediation::State::Paused => v1::RemediationState::Paused,
        remediation::State::Cancelled => v1::RemediationState::Cancelled,
        remediation::State::CutOver => v1::RemediationState::CutOver,
        remediation::State::RolledBack => v1::RemediationState::RolledBack,
        remediation::State::Decommissioned => v1::RemediationState::Decommissioned,
        remediation::State::Discarded => v1::RemediationState::Discarded,
    };
    let mut steps: Vec<_> = r.intents.values().collect();
    steps.sort_by_key(|i| i.first_at);
    let step = |i: &remediation::Intent| v1::RemediationStep {
        what: i.act.title(),
        at: i.first_at.to_string(),
        attempts: i32::try_from(i.attempts).unwrap_or(i32::MAX),
        made: i.made.clone().unwrap_or_default(),
    };
    v1::Remediation {
        id: r.id.clone(),
        plan: r.plan.clone(),
        finding: r.finding.clone(),
        account: r.account.to_string(),
        region: r.region.to_string(),
        kind: kind(r.kind).into(),
        name: r.source.name().to_owned(),
        // Where it is now: after a cutover it has the name.
        twin: match swap.is_some_and(|s| s.done_at.is_some() && s.back_at.is_none()) {
            true => r.source.name().to_owned(),
            false => r.names.twin.clone(),
        },
        key_arn: r.key_arn.clone(),
        far_keys: r.far_keys.iter().map(|(r, k)| (r.to_string(), k.clone())).collect(),
        state: state.into(),
        why: r.why.clone(),
        steps: steps.into_iter().map(step).collect(),
        approved_at: r.approved_at.to_string(),
        verified_at: when(r.verified_at),
        failure: r.failure.map_or(String::new(), |f| f.as_str().to_owned()),
        priority: r.priority,
        strategy: Strategy::of(swap).as_str().into(),
        held: r.held(),
        cut_over_at: when(swap.and_then(|s| s.done_at)),
        quiet: said(swap.and_then(|s| s.quiet.as_ref())),
        proof: said(swap.and_then(|s| s.proof.as_ref())),
        note: r.note.clone().unwrap_or_default(),
        checked: r.checked.as_ref().map_or(String::new(), |(at, said)| format!("{at} {said}")),
        windows: r.windows.iter().map(ToString::to_string).collect(),
        retirement: r.retirement.as_ref().map(|r| retirement(r, needed)),
    }
}

pub(crate) fn status(s: &Status) -> v1::GetStatusResponse {
    let number = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    let line = |l: &crate::status::Line| v1::StatusRow {
        name: l.name.clone(),
        by: l.by.to_owned(),
        cells: number(l.cells),
        answered: number(l.answered),
        open: number(l.open),
    };
    let rollout = |r: &Rollout| {
        let attached = r
            .attachments
            .values()
            .filter(|a| a.attached_at.is_some() && a.detached_at.is_none() && a.lost_at.is_none());
        v1::RolloutStatus {
            id: r.body.id.clone(),
            state: r.state.as_str().to_owned(),
            attached: count(attached.count()),
            targets: count(r.body.targets().count()),
        }
    };
    v1::GetStatusResponse {
        as_of: s.as_of.to_string(),
        org: Some(v1::OrgStatus {
            as_of: s.org_as_of.to_string(),
            accounts: number(s.accounts),
            accounts_by_state: counts(&s.accounts_by_state),
            ous: number(s.ous),
        }),
        coverage: coverage(&s.coverage),
        findings: Some(v1::FindingsStatus {
            open: number(s.instances + s.clusters),
            instances: number(s.instances),
            clusters: number(s.clusters),
            waived: number(s.waived),
            held_original: number(s.held),
            snapshots: number(s.snapshots),
            snapshots_held: number(s.snapshots_held),
        }),
        remediations: counts(&s.remediations),
        rollouts: s.rollouts.iter().map(rollout).collect(),
        rows: s.lines.iter().map(line).collect(),
        unanswered: s.unanswered.iter().map(cell).collect(),
        config: counts(&s.config),
        disagreeing: s.disagreeing.iter().map(cell).collect(),
        freezes: s.freezes.iter().map(|f| show_freeze(f, s.as_of)).collect(),
    }
}

pub(crate) fn event(logged: &Logged) -> v1::AuditEvent {
    let e = &logged.event;
    v1::AuditEvent {
        sequence: logged.sequence,
        at: e.at.to_string(),
        actor: e.actor.clone(),
        authenticated: e.authenticated,
        action: e.action.clone(),
        subject: e.subject.clone(),
        reason: e.reason.clone(),
        at_millis: e.at.0,
        seal: logged.seal.clone(),
    }
}

pub(crate) fn check(c: &Check) -> v1::Check {
    let outcome = match c.outcome {
        Outcome::Ok => v1::CheckOutcome::Ok,
        Outcome::Warning => v1::CheckOutcome::Warning,
        Outcome::Failed => v1::CheckOutcome::Failed,
    };
    v1::Check {
        name: c.name.to_owned(),
        outcome: outcome.into(),
        message: c.message.clone(),
        fix: c.fix.clone(),
    }
}
