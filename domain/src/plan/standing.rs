//! Whether something may be worked on at all, and whether enough is known of its region.

use super::checks::{Checks, Verdict};
use crate::finding::{Finding, Kind};
use crate::key::KeyFacts;
use crate::ledger::Cell;
use crate::org::AccountState;
use crate::remediation::is_held;

/// The scan that reads what a plan for it needs.
pub(super) fn scan(kind: Kind) -> &'static str {
    match kind {
        Kind::Snapshot => "run `ringfence scan start --snapshots` for the account",
        Kind::Instance | Kind::Cluster => "run `ringfence scan start` for the account",
    }
}

/// What a scan read beside databases, or why that is not known.
pub(super) fn known<'a, T>(
    what: &str,
    read: Option<&'a Result<T, String>>,
) -> Result<&'a T, String> {
    match read {
        None => Err(format!("{what} were not read: {}", scan(Kind::Instance))),
        Some(Err(why)) => Err(format!("{what} could not be read: {why}")),
        Some(Ok(read)) => Ok(read),
    }
}

/// Whether the key behind the alias can be used, as last read, and whether its policy lets us.
pub(super) fn keyed(finding: &Finding, cell: Option<&Cell>, checks: &mut Checks) {
    let facts = cell.and_then(|c| c.key.as_ref());
    checks.block("key", key(finding, facts));
    if facts.is_some_and(|k| k.answer.as_ref().is_ok_and(|k| k.policy.is_some())) {
        let shut = facts.and_then(KeyFacts::shut_out);
        let verdict = if matches!(shut, Some((false, _))) { Verdict::Warn } else { Verdict::Block };
        checks.see("key-policy", verdict, shut.map(|(_, why)| why));
    }
}

/// What is wrong with the key behind the alias, as last read.
fn key(finding: &Finding, key: Option<&KeyFacts>) -> Option<String> {
    match key {
        None => Some(format!("the key of {} was not read: {}", finding.region, scan(finding.kind))),
        Some(key) => key.trouble(&finding.account, finding.region.as_str()),
    }
}

/// Whether the snapshots of its region are not known, so that nobody knows which names are free.
pub(super) fn unread(finding: &Finding, cell: Option<&Cell>) -> Option<String> {
    if finding.kind != Kind::Snapshot {
        return None;
    }
    match cell.and_then(|c| c.snapshots.as_ref()) {
        Some(Ok(_)) => None,
        Some(Err(why)) => Some(format!("the snapshots of its region could not be read: {why}")),
        None => Some(format!("the last scan did not look for snapshots: {}", scan(finding.kind))),
    }
}

/// Whether it may be worked on at all.
pub(super) fn see(finding: &Finding, account: &AccountState, twin: &str, checks: &mut Checks) {
    let active = *account == AccountState::Active;
    checks.block(
        "account",
        (!active).then(|| {
            format!("account {} is {}: it is never written to", finding.account, account.as_str())
        }),
    );
    let name = finding.resource.name();
    let verified = finding.held_by.iter();
    let twin = finding.twin.as_deref().unwrap_or(twin);
    checks.block(
        "original",
        verified.map(|held| format!("its {} {twin} was verified by {held} already", finding.kind.made())).chain(
            is_held(name, finding.resource.resource_id()).then(|| {
                format!(
                    "{name} is the original of a swap: it is kept until its remediation is rolled back or decommissioned"
                )
            }),
        ),
    );
}
