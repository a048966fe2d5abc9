//! What is looked at before it is decided: the databases of a cell, those of their units in other regions, and what
//! instances have been doing.

use crate::lease::{Desk, Pipe};
use crate::now;
use crate::perform::confused;
use ringfence_aws::{Phase, Session};
use ringfence_domain::cloud::CloudError;
use ringfence_domain::far;
use ringfence_domain::id::Region;
use ringfence_domain::rds::Sweep;
use ringfence_domain::remediation::Activity;
use ringfence_domain::time::Time;
use ringfence_domain::work::Versioned;
use std::collections::{BTreeMap, BTreeSet};

/// Whether what only some of the remediations need could be read.
pub(super) struct Read {
    pub(super) groups: Result<(), CloudError>,
    pub(super) blue_greens: Result<(), CloudError>,
    /// Other regions that could not be read.
    pub(super) far: BTreeMap<Region, CloudError>,
}

pub(super) async fn observe<P: Pipe>(
    desk: &Desk<P>,
    region: &Region,
    open: &[Versioned],
) -> Result<(Session, Sweep, Read), CloudError> {
    let rem = &open[0].remediation;
    let session = desk.cloud.enter(&rem.account, Phase::Remediate, &rem.plan).await?;
    let mut seen = Sweep::default();
    desk.cloud.sweep_databases(&session, region, &mut seen).await?;
    desk.cloud.sweep_snapshots(&session, region, &mut seen).await?;
    let mut read = Read { groups: Ok(()), blue_greens: Ok(()), far: BTreeMap::new() };
    let far: BTreeSet<Region> =
        open.iter().flat_map(|one| one.remediation.source.far_regions()).collect();
    for there in far {
        let mut found = Sweep::default();
        match desk.cloud.sweep_databases(&session, &there, &mut found).await {
            Ok(()) => seen.add_far(region, found),
            Err(error) => drop(read.far.insert(there, error)),
        }
    }
    if open.iter().any(|one| one.remediation.green().is_some()) {
        match desk.cloud.blue_greens(&session, region).await {
            Ok(all) => seen.blue_greens = all,
            Err(error) => read.blue_greens = Err(error),
        }
    }
    if open.iter().any(|one| one.remediation.wants_group()) {
        let isolation = &desk.settings.isolation;
        match desk.cloud.isolation_groups(&session, region, isolation).await {
            Ok(groups) => seen.groups = groups,
            Err(error) => read.groups = Err(error),
        }
    }
    Ok((session, seen, read))
}

/// What these have been doing, each by the CloudWatch of its region.
pub(super) async fn activity<P: Pipe>(
    desk: &Desk<P>,
    session: &Session,
    region: &Region,
    (names, from): (&[String], Time),
) -> Result<Activity, CloudError> {
    let period = desk.settings.bounds.metric_period;
    let mut places: BTreeMap<Region, Vec<String>> = BTreeMap::new();
    for id in names {
        let there = far::region(id).unwrap_or_else(|| region.clone());
        places.entry(there).or_default().push(far::name(id).to_owned());
    }
    let mut all: Option<Activity> = None;
    for (there, own) in places {
        let found = desk.cloud.activity(session, &there, &own, (from, now()), period).await?;
        all = Some(all.map_or(found.clone(), |all| all.and(&found)));
    }
    let none = || confused("no database to ask about");
    Ok(Activity { names: names.to_vec(), ..all.ok_or_else(none)? })
}
