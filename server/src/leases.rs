//! What is due in accounts that were just leased.

use crate::app::{App, Fault, now, readable};
use crate::store::{Kind, Lease, Wanted};
use ringfence_domain::history::Reading;
use ringfence_domain::key::job::Job;
use ringfence_domain::remediation::Remediation;
use ringfence_domain::work::{
    EVERYWHERE, Look, RegionList, Scan, Versioned, VersionedJob, VersionedReading, Work,
};
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
    let mut due: BTreeMap<String, Vec<Versioned>> = BTreeMap::new();
    let mut keys: BTreeMap<String, Vec<VersionedJob>> = BTreeMap::new();
    for row in app.store.due(Kind::KeyJob, &accounts, now()).await? {
        let (account, version) = (row.account.clone(), row.version);
        let Some(job) = readable::<Job>(row.document().map_err(Fault::from))? else {
            unread += 1;
            continue;
        };
        keys.entry(account).or_default().push(VersionedJob { version, job });
    }
    let mut readings: BTreeMap<String, Vec<VersionedReading>> = BTreeMap::new();
    for row in app.store.due(Kind::Reading, &accounts, now()).await? {
        let (account, version) = (row.account.clone(), row.version);
        let Some(reading) = readable::<Reading>(row.document().map_err(Fault::from))? else {
            unread += 1;
            continue;
        };
        readings.entry(account).or_default().push(VersionedReading { version, reading });
    }
    for row in app.store.due(Kind::Remediation, &accounts, now()).await? {
        let (account, version) = (row.account.clone(), row.version);
        let Some(remediation) = readable::<Remediation>(row.document().map_err(Fault::from))?
        else {
            unread += 1;
            continue;
        };
        due.entry(account).or_default().push(Versioned { version, remediation });
    }
    let max_age = app.config.scan_regions_max_age;
    lists.retain(|_, list| list.is_fresh(max_age, now()));
    Ok(Due { wanted, scans, places, lists, remediations: due, keys, readings, unread }
        .dealt(leases))
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
            let nothing =
                look.is_none() && remediations.is_empty() && keys.is_empty() && readings.is_empty();
            if nothing && self.unread > 0 {
                // Its lease runs out by itself: until then nobody is given it again, and others come first.
                continue;
            }
            let work_here = Work { account, known_regions, look, remediations, keys, readings };
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
