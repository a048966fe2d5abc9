//! What is due in accounts that were just leased.

use crate::app::{App, Fault, now, readable};
use crate::probes::dealt;
use crate::store::{Kind, Lease, Wanted};
use ringfence_domain::work::{
    EVERYWHERE, Look, RegionList, Scan, Versioned, VersionedJob, VersionedProbe, VersionedReading,
    Work,
};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

/// The work of each account. A scan or remediation that cannot be read is left out, and said: it must not
/// keep the others from being worked on.
pub async fn work_of(app: &App, leases: &[Lease]) -> Result<Vec<(Lease, Work)>, Fault> {
    if leases.is_empty() {
        return Ok(Vec::new());
    }
    let accounts: Vec<&str> = leases.iter().map(|l| l.account.as_str()).collect();
    let wanted = app.store.wanted(&accounts).await?;
    let mut unread = 0;
    let mut scans: BTreeMap<String, Scan> = BTreeMap::new();
    for one in &wanted {
        if scans.contains_key(&one.scan) {
            continue;
        }
        match readable(app.load(Kind::Scan, &one.scan).await)? {
            Some((_, scan)) => drop(scans.insert(one.scan.clone(), scan)),
            None => unread += 1,
        }
    }
    let mut places: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for (account, region, scan) in app.store.places(&accounts).await? {
        places.entry(account).or_default().push((region, scan));
    }
    let mut lists: BTreeMap<String, RegionList> = BTreeMap::new();
    for (account, read_at, text) in app.store.region_lists(&accounts).await? {
        // One that cannot be read is read anew from the account.
        if let Ok(enabled) = serde_json::from_str(&text) {
            lists.insert(account, RegionList { read_at, enabled });
        }
    }
    let of = (app, accounts.as_slice());
    let keys = due(of, Kind::KeyJob, &mut unread, |version, job| VersionedJob { version, job });
    let keys = keys.await?;
    let readings = |version, reading| VersionedReading { version, reading };
    let readings = due(of, Kind::Reading, &mut unread, readings).await?;
    let probes = |version, probe| VersionedProbe { version, probe };
    let mut probes = due(of, Kind::Probe, &mut unread, probes).await?;
    for due in probes.values_mut() {
        *due = dealt(app, std::mem::take(due)).await?;
    }
    let remediations = |version, remediation| Versioned { version, remediation };
    let remediations = due(of, Kind::Remediation, &mut unread, remediations).await?;
    let max_age = app.config.scan_regions_max_age;
    lists.retain(|_, list| list.is_fresh(max_age, now()));
    let due = Due { wanted, scans, places, lists, remediations, keys, readings, probes, unread };
    Ok(due.dealt(leases))
}

/// The documents of a kind that are due, by account; `unread` counts those that cannot be read.
async fn due<D: DeserializeOwned, V>(
    (app, accounts): (&App, &[&str]),
    kind: Kind,
    unread: &mut usize,
    versioned: impl Fn(i64, D) -> V,
) -> Result<BTreeMap<String, Vec<V>>, Fault> {
    let mut found: BTreeMap<String, Vec<V>> = BTreeMap::new();
    for row in app.store.due(kind, accounts, now()).await? {
        match readable(row.document().map_err(Fault::from))? {
            Some(document) => {
                let one = versioned(row.version, document);
                found.entry(row.account).or_default().push(one);
            }
            None => *unread += 1,
        }
    }
    Ok(found)
}

/// What the store has for some accounts.
#[derive(Default)]
struct Due {
    wanted: Vec<Wanted>,
    scans: BTreeMap<String, Scan>,
    /// Region and last scan of the cells of an account.
    places: BTreeMap<String, Vec<(String, String)>>,
    lists: BTreeMap<String, RegionList>,
    remediations: BTreeMap<String, Vec<Versioned>>,
    keys: BTreeMap<String, Vec<VersionedJob>>,
    readings: BTreeMap<String, Vec<VersionedReading>>,
    probes: BTreeMap<String, Vec<VersionedProbe>>,
    /// Documents that could not be read.
    unread: usize,
}

impl Due {
    /// The work of each lease.
    fn dealt(mut self, leases: &[Lease]) -> Vec<(Lease, Work)> {
        let mut work = Vec::new();
        for lease in leases {
            let account = match lease.account.parse() {
                Ok(account) => account,
                Err(e) => {
                    tracing::error!("a lease on no account: {e}");
                    continue;
                }
            };
            let here = self.places.remove(&lease.account).unwrap_or_default();
            let list = self.lists.remove(&lease.account);
            let look = self
                .wanted
                .iter()
                .filter(|w| w.account == lease.account)
                .filter_map(|w| Some(look(w, self.scans.get(&w.scan)?, list.as_ref(), &here)))
                .reduce(Look::merge);
            let known_regions = here.into_iter().map(|(region, _)| region).collect();
            let remediations = self.remediations.remove(&lease.account).unwrap_or_default();
            let keys = self.keys.remove(&lease.account).unwrap_or_default();
            let readings = self.readings.remove(&lease.account).unwrap_or_default();
            let probes = self.probes.remove(&lease.account).unwrap_or_default();
            let late = readings.is_empty() && probes.is_empty();
            let nothing = look.is_none() && remediations.is_empty() && keys.is_empty() && late;
            if nothing && self.unread > 0 {
                // Its lease runs out by itself: until then nobody is given it again, and others come first.
                continue;
            }
            let work_here =
                Work { account, known_regions, look, remediations, keys, readings, probes };
            work.push((lease.clone(), work_here));
        }
        work
    }
}

/// What one scan wants of an account.
fn look(
    wanted: &Wanted,
    scan: &Scan,
    list: Option<&RegionList>,
    places: &[(String, String)],
) -> Look {
    let again = wanted.pass > 0;
    let regions = match again && !wanted.retry.iter().any(|r| r == EVERYWHERE) {
        true => wanted.retry.clone(),
        false if !wanted.regions.is_empty() => wanted.regions.clone(),
        false => scan.regions.clone(),
    };
    // A list that was read for this scan is good enough for its later passes, and after a crash.
    let list =
        list.filter(|l| !scan.options.fresh_regions || l.read_at >= scan.started_at).cloned();
    // In a later pass, all that is asked for was seen before, and not answered.
    let seen = match again {
        true => Vec::new(),
        false => places
            .iter()
            .filter(|(_, by)| *by == wanted.scan)
            .map(|(region, _)| region.clone())
            .collect(),
    };
    Look {
        scans: BTreeMap::from([(wanted.scan.clone(), wanted.pass)]),
        regions,
        seen,
        options: scan.options,
        list,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringfence_domain::time::Time;

    #[test]
    fn an_account_with_nothing_but_what_cannot_be_read_is_not_given_out_again_at_once() {
        let lease = |account: &str| Lease { account: account.to_owned(), fence: 1 };
        let leases = [lease("111122223333"), lease("111122223334")];
        let given = |unread| {
            let wanted =
                Wanted { account: "111122223334".into(), scan: "sc-1".into(), ..Wanted::default() };
            let scan = serde_json::from_value(serde_json::json!({
                "id": "sc-1", "started_by": "test", "started_at": Time(1), "ended_at": null, "regions": []
            }));
            let scans = BTreeMap::from([("sc-1".to_owned(), scan.expect("a scan"))]);
            let due = Due { wanted: vec![wanted], scans, unread, ..Due::default() };
            let dealt = due.dealt(&leases).into_iter();
            dealt.map(|(lease, _)| lease.account).collect::<Vec<_>>()
        };
        // Where the store holds what cannot be read, an account without work is left to its lease's end:
        // handed out, it would be given back at once, and leased again, for ever.
        assert_eq!(given(1), ["111122223334"]);
        // Where all could be read it is the agent that gives it back.
        assert_eq!(given(0), ["111122223333", "111122223334"]);
    }
}
