//! Custom endpoints of Aurora clusters: made for a twin, and moved in a swap.
//!
//! Their names do not contain the cluster's, and are unique in an account and region, so one that is to keep its
//! name is deleted on the one cluster and made on the other (Aurora guide, "Custom endpoints for Amazon Aurora").

use super::{Act, Bounds, MODIFY_FOR_MAX, Remediation, Step, repeat, twin_name, wait_for};
use crate::rds::{Cluster, Endpoint, Instance};
use crate::time::Time;
use std::collections::BTreeSet;

/// The endpoints of a twin that stands beside its original: the same, under names of their own and of its
/// members.
pub(super) fn beside(spec: &Cluster, members: &[Instance]) -> Vec<Endpoint> {
    let of = |names: &BTreeSet<String>| -> BTreeSet<String> {
        let theirs = members.iter().filter(|m| names.contains(&m.id));
        theirs.map(|m| twin_name(&m.id, &m.resource_id)).collect()
    };
    let one = |e: &Endpoint| Endpoint {
        id: twin_name(&e.id, &spec.resource_id),
        members: of(&e.members),
        excluded: of(&e.excluded),
        ..e.clone()
    };
    spec.endpoints.iter().map(one).collect()
}

/// Makes the endpoints of a cluster one after the other; each is taken from the other cluster first, if that has
/// it. `None` once all are there and as they must be.
pub(super) fn put(
    rem: &Remediation,
    wanted: &[Endpoint],
    from: Option<&Cluster>,
    to: &Cluster,
    now: Time,
    bounds: Bounds,
) -> Option<Step> {
    for want in wanted {
        if let Some(from) = from
            && let Some(there) = from.endpoints.iter().find(|e| e.id == want.id)
        {
            let act = Act::DeleteEndpoint {
                cluster: from.id.clone(),
                resource_id: from.resource_id.clone(),
                endpoint: want.id.clone(),
            };
            return Some(match there.status.as_str() {
                "deleting" => {
                    let what = format!("endpoint {} of {}", want.id, from.id);
                    wait_for(rem, &act.key(), &what, "being deleted", MODIFY_FOR_MAX, now)
                }
                _ => repeat(rem, act, now, bounds),
            });
        }
        let act = Act::CreateEndpoint {
            cluster: to.id.clone(),
            resource_id: to.resource_id.clone(),
            endpoint: Box::new(want.clone()),
        };
        let Some(have) = to.endpoints.iter().find(|e| e.id == want.id) else {
            return Some(repeat(rem, act, now, bounds));
        };
        // One without a member that is up is inactive, as its original may be.
        if !["available", "inactive"].contains(&have.status.as_str()) {
            let what = format!("endpoint {}", have.id);
            return Some(wait_for(rem, &act.key(), &what, &have.status, MODIFY_FOR_MAX, now));
        }
        if !have.equals(want) {
            return Some(Step::AskHuman(format!(
                "the endpoint {} of {} differs: it is {}, and should be {}",
                have.id,
                to.id,
                have.show(),
                want.show()
            )));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    fn endpoint(id: &str, members: &[&str]) -> Endpoint {
        Endpoint {
            id: id.into(),
            arn: String::new(),
            kind: "READER".into(),
            members: members.iter().map(|m| (*m).to_owned()).collect(),
            excluded: BTreeSet::new(),
            status: "available".into(),
            tags: [("team".to_owned(), "a".to_owned())].into(),
        }
    }

    #[test]
    fn a_twin_beside_has_them_under_names_of_its_own() {
        let members = [sample::member("m1", "ledger"), sample::member("m2", "ledger")];
        let mut spec = sample::cluster("ledger", &["m1", "m2"]);
        spec.endpoints =
            vec![Endpoint { excluded: ["m2".into()].into(), ..endpoint("reports", &["m1"]) }];
        let made = beside(&spec, &members);
        assert_eq!(made[0].id, "encrypted-reports");
        assert_eq!(made[0].members, ["encrypted-m1".to_owned()].into());
        assert_eq!(made[0].excluded, ["encrypted-m2".to_owned()].into());
        assert_eq!(made[0].tags, spec.endpoints[0].tags);
    }

    #[test]
    fn each_is_taken_from_the_one_and_made_on_the_other() {
        let (rem, _, now) = sample::cluster_world(&[]);
        let want = [endpoint("reports", &["m1"])];
        let with = |endpoints: &[Endpoint]| Cluster {
            endpoints: endpoints.to_vec(),
            ..sample::cluster("ledger", &["m1"])
        };
        let old = |status: &str| Endpoint { status: status.into(), ..want[0].clone() };
        for (from, to, said) in [
            (Some(with(&[old("available")])), with(&[]), "act delete endpoint reports of ledger"),
            (Some(with(&[old("deleting")])), with(&[]), "wait endpoint reports of ledger is being"),
            (Some(with(&[])), with(&[]), "act make endpoint reports of ledger"),
            (None, with(&[]), "act make endpoint reports of ledger"),
            (None, with(&[old("creating")]), "wait endpoint reports is creating"),
            (None, with(&[old("available")]), "done"),
            (None, with(&[old("inactive")]), "done"),
            (
                None,
                with(&[endpoint("reports", &["m2"])]),
                "ask the endpoint reports of ledger differs",
            ),
        ] {
            let step = put(&rem, &want, from.as_ref(), &to, now, sample::BOUNDS);
            let have = step.map_or("done".to_owned(), |s| sample::show(&s));
            assert!(have.starts_with(said), "want {said}, have {have}");
        }
    }
}
