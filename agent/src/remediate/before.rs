//! What is read again right before an act: whom it is for, and whether its key and its isolation group are as they
//! must be.

use crate::lease::{Desk, Pipe};
use crate::now;
use ringfence_aws::Session;
use ringfence_domain::cloud::{CloudError, ErrorClass};
use ringfence_domain::far;
use ringfence_domain::id::Region;
use ringfence_domain::rds::Sweep;
use ringfence_domain::remediation::{Act, Remediation, Step, decide};

/// Why an act is not for the database that bears its name now: names change hands, so whom it is done to is
/// read again, right before.
pub(super) async fn other_subject<P: Pipe>(
    desk: &Desk<P>,
    session: &Session,
    region: &Region,
    act: &Act,
) -> Option<String> {
    let (kind, name, id) = act.subject()?;
    match desk.cloud.resource_id(session, region, kind, far::name(name)).await {
        Ok(Some(found)) if found == id => None,
        Ok(_) => Some(format!("{name} is no longer {id}; it is looked at again")),
        Err(error) => Some(error.to_string()),
    }
}

/// Why what cannot be undone is not done now: an old snapshot deleted, or a switchover. It is decided once more on a
/// read of just what it is about, for the sweep that the decision stands on serves many, and may be minutes old by then.
pub(super) async fn decided_otherwise<P: Pipe>(
    desk: &Desk<P>,
    session: &Session,
    region: &Region,
    rem: &Remediation,
    act: &Act,
) -> Option<String> {
    let seen = match act {
        Act::SwitchOver { .. } => switchover(desk, session, region).await,
        _ => {
            let names = [rem.source.name(), rem.names.twin.as_str()];
            let read = desk.cloud.snapshots_named(session, region, &names).await;
            read.map(|snapshots| Sweep { snapshots, ..Sweep::default() })
        }
    };
    let seen = match seen {
        Ok(seen) => seen,
        Err(error) => return Some(error.to_string()),
    };
    match decide(rem, &seen, now(), desk.settings.bounds) {
        Step::Act(again) if again == *act => None,
        Step::AskHuman(why) | Step::Wait(why) => Some(why),
        _ => Some("it changed just now; it is looked at again".into()),
    }
}

/// All that a switchover is decided on.
async fn switchover<P: Pipe>(
    desk: &Desk<P>,
    session: &Session,
    region: &Region,
) -> Result<Sweep, CloudError> {
    let mut seen = Sweep::default();
    desk.cloud.sweep_databases(session, region, &mut seen).await?;
    seen.blue_greens = desk.cloud.blue_greens(session, region).await?;
    Ok(seen)
}

/// What is wrong with an isolation group.
pub(super) enum Trouble {
    /// It may be mended.
    Passing(String),
    /// It is not there.
    Gone(String),
}

/// Why the isolation group does not isolate right now; `None` if it does, or where nobody may look, which its plan
/// said.
pub(super) async fn group_trouble<P: Pipe>(
    desk: &Desk<P>,
    session: &Session,
    region: &Region,
    rem: &Remediation,
    far: Option<&Region>,
) -> Option<Trouble> {
    let swap = rem.swap.as_ref()?;
    let Some(group) = far.map_or(Some(&swap.isolation), |r| swap.far_isolation.get(r)) else {
        return Some(Trouble::Gone(format!(
            "its plan names no isolation group of {region}: plan again"
        )));
    };
    match desk.cloud.security_group(session, region, group).await {
        Ok(Some(found)) => found.open().map(Trouble::Passing),
        Ok(None) => Some(Trouble::Gone(match swap.make {
            Some(_) if far.is_none() => {
                format!("the isolation group {group} is gone; a retry makes it again")
            }
            _ => format!("the isolation group {group} is gone: plan again with another one"),
        })),
        Err(error) if matches!(error.class, ErrorClass::Denied | ErrorClass::ScpDenied) => None,
        Err(error) => Some(Trouble::Passing(error.to_string())),
    }
}

/// Why the key cannot be used right now; `None` if it can.
pub(super) async fn key_trouble<P: Pipe>(
    desk: &Desk<P>,
    session: &Session,
    region: &Region,
    rem: &Remediation,
    far: Option<&Region>,
) -> Option<String> {
    let Some(key) = far.map_or(Some(&rem.key_arn), |r| rem.far_keys.get(r)) else {
        return Some(format!("its plan names no key of {region}: plan again"));
    };
    match desk.cloud.key(session, region, key).await {
        Ok(key) => key.trouble(&rem.account, region.as_str()),
        Err(error) => Some(error.to_string()),
    }
}
