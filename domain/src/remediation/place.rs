//! The acts on databases that are there: groups, names, protection; each a row that is done or not yet.

use super::unit::Db;
use super::{Act, Bounds, MODIFY_FOR_MAX, Remediation, Step, broken, repeat, wait_for};
use crate::time::Time;
use std::collections::BTreeSet;

/// The key of the intent that puts a database into these groups.
pub(super) fn groups_key(resource_id: &str, groups: &BTreeSet<String>) -> String {
    let list: Vec<&str> = groups.iter().map(String::as_str).collect();
    format!("groups {resource_id} {}", list.join(","))
}

fn groups_act(db: &Db<'_>, groups: &BTreeSet<String>) -> Act {
    Act::SetGroups {
        kind: db.kind,
        database: db.id.to_owned(),
        resource_id: db.resource_id.to_owned(),
        groups: groups.clone(),
    }
}

/// Puts a database into these groups; `None` once it is.
pub(super) fn set_groups(
    rem: &Remediation,
    db: &Db<'_>,
    groups: &BTreeSet<String>,
    now: Time,
    bounds: Bounds,
) -> Option<Step> {
    let act = groups_act(db, groups);
    if *db.groups == *groups {
        return settle(rem, db, &act.key(), now);
    }
    when_available(rem, db, &act.key(), now, bounds).or_else(|| Some(repeat(rem, act, now, bounds)))
}

/// Cuts a database off, for a proof that follows; `None` once it is.
///
/// That it looks isolated is not enough: a read may be older than the opening of its groups. So it is asked
/// for once more, and what is seen counts after AWS confirmed that, or after reads have had their time.
pub(super) fn isolate(
    rem: &Remediation,
    db: &Db<'_>,
    only: &BTreeSet<String>,
    now: Time,
    bounds: Bounds,
) -> Option<Step> {
    let key = groups_key(db.resource_id, only);
    match rem.intents.get(&key) {
        None => {
            let act = groups_act(db, only);
            when_available(rem, db, &key, now, bounds).or(Some(Step::Act(act)))
        }
        Some(intent) if !intent.done && now.since(intent.at) < bounds.expect_for => {
            Some(Step::Wait(format!("{} is being isolated", db.id)))
        }
        Some(_) => set_groups(rem, db, only, now, bounds),
    }
}

/// Waits until what was asked for is applied; `None` once it is.
pub(super) fn settle(rem: &Remediation, db: &Db<'_>, key: &str, now: Time) -> Option<Step> {
    if broken(db.status) {
        return Some(Step::AskHuman(format!("{} is {}", db.id, db.status)));
    }
    (!db.settled()).then(|| wait_for(rem, key, db.id, &db.doing(), MODIFY_FOR_MAX, now))
}

/// What must happen before a database can be changed; one that is stopped is started first ("you can't
/// modify a stopped DB instance", RDS guide, "Stopping a DB instance").
pub(super) fn when_available(
    rem: &Remediation,
    db: &Db<'_>,
    key: &str,
    now: Time,
    bounds: Bounds,
) -> Option<Step> {
    if db.status != "stopped" {
        return settle(rem, db, key, now);
    }
    let act = Act::Start {
        kind: db.kind,
        database: db.id.to_owned(),
        resource_id: db.resource_id.to_owned(),
    };
    Some(repeat(rem, act, now, bounds))
}

/// Gives a database another name; `None` once it has it and is up again.
pub(super) fn rename(
    rem: &Remediation,
    db: &Db<'_>,
    to: &str,
    now: Time,
    bounds: Bounds,
) -> Option<Step> {
    let act = Act::Rename {
        kind: db.kind,
        from: db.id.to_owned(),
        to: to.to_owned(),
        resource_id: db.resource_id.to_owned(),
    };
    if db.id == to {
        return settle(rem, db, &act.key(), now);
    }
    when_available(rem, db, &act.key(), now, bounds).or_else(|| Some(repeat(rem, act, now, bounds)))
}

/// Sets deletion protection; `None` once it is so.
pub(super) fn protect(
    rem: &Remediation,
    db: &Db<'_>,
    on: bool,
    now: Time,
    bounds: Bounds,
) -> Option<Step> {
    let act = Act::Protect {
        kind: db.kind,
        database: db.id.to_owned(),
        resource_id: db.resource_id.to_owned(),
        on,
    };
    if db.protected == on {
        return None;
    }
    when_available(rem, db, &act.key(), now, bounds).or_else(|| Some(repeat(rem, act, now, bounds)))
}
