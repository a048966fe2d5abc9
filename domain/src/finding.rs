//! A finding: one resource that breaks a control, and its life.

use crate::hash;
use crate::id::{AccountId, Region};
use crate::opinion::Verdict;
use crate::rds::{Cluster, Encryption, Instance, Snapshot};
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What kind of resource it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A DB instance outside clusters; replicas are instances.
    Instance,
    /// A DB cluster, whatever its members.
    Cluster,
    /// A manual snapshot of either; looked for only where that is asked for.
    Snapshot,
}

impl Kind {
    /// `instance`, `cluster` or `snapshot`.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Instance => "instance",
            Kind::Cluster => "cluster",
            Kind::Snapshot => "snapshot",
        }
    }

    /// What is made of one: a `twin`, or a `copy`.
    pub fn made(self) -> &'static str {
        match self {
            Kind::Instance | Kind::Cluster => "twin",
            Kind::Snapshot => "copy",
        }
    }
}

/// The resource as last read.
#[expect(clippy::large_enum_variant, reason = "most are instances, and a box each would cost more")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum Resource {
    /// A DB instance.
    Instance {
        /// It.
        instance: Instance,
        /// Its read replicas in the region and theirs, each after its source.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        replicas: Vec<Instance>,
    },
    /// A cluster with its members.
    Cluster {
        /// It.
        cluster: Cluster,
        /// Its members, as instances.
        members: Vec<Instance>,
    },
    /// A manual snapshot.
    Snapshot {
        /// It.
        snapshot: Snapshot,
        /// Whether it is of a cluster.
        of_cluster: bool,
        /// Who may restore it beside its account (`all` is everybody), or why that is not known.
        shared: Result<Vec<String>, String>,
    },
}

impl Resource {
    /// The identifier.
    pub fn name(&self) -> &str {
        match self {
            Resource::Instance { instance, .. } => &instance.id,
            Resource::Cluster { cluster, .. } => &cluster.id,
            Resource::Snapshot { snapshot, .. } => &snapshot.id,
        }
    }

    /// The ARN.
    pub fn arn(&self) -> &str {
        match self {
            Resource::Instance { instance, .. } => &instance.arn,
            Resource::Cluster { cluster, .. } => &cluster.arn,
            Resource::Snapshot { snapshot, .. } => &snapshot.arn,
        }
    }

    /// The immutable id.
    pub fn resource_id(&self) -> &str {
        match self {
            Resource::Instance { instance, .. } => &instance.resource_id,
            Resource::Cluster { cluster, .. } => &cluster.resource_id,
            Resource::Snapshot { snapshot, .. } => &snapshot.resource_id,
        }
    }

    /// The engine.
    pub fn engine(&self) -> &str {
        match self {
            Resource::Instance { instance, .. } => &instance.engine,
            Resource::Cluster { cluster, .. } => &cluster.engine,
            Resource::Snapshot { snapshot, .. } => snapshot.setting("Engine"),
        }
    }

    /// How it is protected at rest.
    pub fn encryption(&self) -> &Encryption {
        match self {
            Resource::Instance { instance, .. } => &instance.encryption,
            Resource::Cluster { cluster, .. } => &cluster.encryption,
            Resource::Snapshot { snapshot, .. } => &snapshot.encryption,
        }
    }

    /// The same database under another name; the members of a cluster under theirs, where they have new ones.
    pub fn renamed(&self, name: &str, members: &BTreeMap<String, String>) -> Resource {
        let rename = |id: &mut String, arn: &mut String, to: &str| {
            if let Some(head) = arn.strip_suffix(id.as_str()) {
                *arn = format!("{head}{to}");
            }
            to.clone_into(id);
        };
        let mut it = self.clone();
        match &mut it {
            Resource::Instance { instance, .. } => {
                rename(&mut instance.id, &mut instance.arn, name);
            }
            Resource::Cluster { cluster, members: all } => {
                rename(&mut cluster.id, &mut cluster.arn, name);
                let new = |id: &str| members.get(id).cloned().unwrap_or_else(|| id.to_owned());
                cluster.members.iter_mut().for_each(|m| m.id = new(&m.id));
                for member in all {
                    let to = new(&member.id);
                    rename(&mut member.id, &mut member.arn, &to);
                }
            }
            Resource::Snapshot { snapshot, .. } => {
                rename(&mut snapshot.id, &mut snapshot.arn, name);
            }
        }
        it
    }

    /// What is made with it: the members of a cluster, the replicas of an instance.
    pub fn dependents(&self) -> &[Instance] {
        match self {
            Resource::Instance { replicas, .. } => replicas,
            Resource::Cluster { members, .. } => members,
            Resource::Snapshot { .. } => &[],
        }
    }

    /// All its instances: itself and its replicas, or a cluster's members.
    pub fn instances(&self) -> impl Iterator<Item = &Instance> {
        let main = match self {
            Resource::Instance { instance, .. } => Some(instance),
            Resource::Cluster { .. } | Resource::Snapshot { .. } => None,
        };
        main.into_iter().chain(self.dependents())
    }

    /// What it replicates or, of a cluster, its members, or its replicas, or what it was taken of; empty if
    /// nothing.
    pub fn group(&self) -> String {
        match self {
            Resource::Instance { instance, .. } => match &instance.replica_source {
                Some(source) => format!("replica of {source}"),
                None if instance.replicas.is_empty() => String::new(),
                None => format!("replicas: {}", instance.replicas.join(", ")),
            },
            Resource::Cluster { members, .. } => {
                let names: Vec<&str> = members.iter().map(|m| m.id.as_str()).collect();
                format!("members: {}", names.join(", "))
            }
            Resource::Snapshot { snapshot, shared, .. } => {
                let taken = snapshot.created_at.map(|at| format!(", taken {at}"));
                let open = match shared {
                    Ok(with) if with.iter().any(|w| w == "all") => ", PUBLIC".to_owned(),
                    Ok(with) if !with.is_empty() => format!(", shared with {}", with.len()),
                    _ => String::new(),
                };
                format!("of {}{}{open}", snapshot.of, taken.unwrap_or_default())
            }
        }
    }

    /// A hash over everything that a plan relies on: identity, settings, blockers, members. Status
    /// and progress are left out, for they change by themselves.
    pub fn fingerprint(&self) -> String {
        let of = |i: &Instance| {
            let mut i = i.clone();
            if i.settings.multi_az {
                i.settings.availability_zone = None; // a failover swaps it
            }
            (
                (i.id, i.resource_id, i.settings, i.inherited, i.foreign),
                (i.replicas, i.replica_source, i.promotion_tier),
            )
        };
        match self {
            Resource::Instance { instance, replicas } => {
                hash::of(&(of(instance), replicas.iter().map(of).collect::<Vec<_>>()))
            }
            Resource::Cluster { cluster, members } => {
                let c = cluster.clone();
                let own = (
                    c.id,
                    c.resource_id,
                    c.engine_version,
                    c.members.into_iter().map(|m| m.id).collect::<Vec<_>>(), // not who writes: that may fail over
                    c.settings,
                    c.inherited,
                    c.foreign,
                    c.endpoints
                        .into_iter()
                        .map(|e| (e.id, e.kind, e.members, e.excluded))
                        .collect::<Vec<_>>(),
                );
                hash::of(&(own, members.iter().map(of).collect::<Vec<_>>()))
            }
            Resource::Snapshot { snapshot: s, .. } => {
                hash::of(&(&s.id, &s.resource_id, &s.settings, &s.tags))
            }
        }
    }
}

/// What a scan found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detected {
    /// Its kind.
    pub kind: Kind,
    /// The resource.
    pub resource: Resource,
    /// What AWS Config says of it; `None` where it was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Verdict>,
}

/// Where a finding stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingState {
    /// It holds.
    Open,
    /// A full read of the cell no longer shows it.
    Resolved,
}

impl FindingState {
    /// `open` or `resolved`.
    pub fn as_str(self) -> &'static str {
        match self {
            FindingState::Open => "open",
            FindingState::Resolved => "resolved",
        }
    }
}

/// A person's decision to live with a finding for a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiver {
    /// Who answers for it.
    pub owner: String,
    /// Why.
    pub reason: String,
    /// Until when; afterwards the finding counts again.
    pub until: Time,
    /// Who recorded it.
    pub by: String,
    /// Whether it is of the whole account, and so of what is found there later, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub account: bool,
}

/// A waiver of all findings of an account. What could not be read there stays unknown: it waives no cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountWaiver {
    /// The account.
    pub account: AccountId,
    /// The waiver.
    pub waiver: Waiver,
}

impl AccountWaiver {
    /// Covers an open finding, unless a waiver of its own lasts longer.
    pub fn cover(&self, finding: &mut Finding) {
        let longer = |w: &Waiver| !w.account && w.until >= self.waiver.until;
        if finding.account == self.account && !finding.waiver.as_ref().is_some_and(longer) {
            finding.waiver = Some(self.waiver.clone());
        }
    }
}

/// One resource that breaks a control.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// `fi-` and 12 hex digits of the SHA-256 of control and ARN: the same for every scan.
    pub id: String,
    /// The control.
    pub control: String,
    /// The account.
    pub account: AccountId,
    /// The region.
    pub region: Region,
    /// Instance or cluster.
    pub kind: Kind,
    /// The resource as last seen.
    pub resource: Resource,
    /// Where it stands.
    pub state: FindingState,
    /// When it was first seen (of this resource id).
    pub first_seen: Time,
    /// When it was last seen, to a day: the cell's `as_of` is exact.
    pub last_seen: Time,
    /// When it was last resolved.
    pub resolved_at: Option<Time>,
    /// How often it came back.
    pub reopened: u32,
    /// Whether the cell that shows it was not read to its end.
    pub incomplete: bool,
    /// The waiver, if there is one.
    pub waiver: Option<Waiver>,
    /// The remediation whose verified twin stands beside this original: it stays open
    /// (`held-original`) until it is decommissioned or waived.
    pub held_by: Option<String>,
    /// That twin, where its name is AWS's choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub twin: Option<String>,
    /// What AWS Config says of it; `None` where it was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Verdict>,
}

impl Finding {
    /// The id of the finding on that resource.
    pub fn id_of(control: &str, arn: &str) -> String {
        format!("fi-{}", hash::short(&format!("{control} {arn}"), 12))
    }

    /// A finding that was just seen, given what was known of it.
    pub fn seen(
        before: Option<Finding>,
        control: &str,
        account: &AccountId,
        region: &Region,
        detected: Detected,
        incomplete: bool,
        now: Time,
    ) -> Finding {
        let fresh = Finding {
            id: Finding::id_of(control, detected.resource.arn()),
            control: control.to_owned(),
            account: account.clone(),
            region: region.clone(),
            kind: detected.kind,
            resource: detected.resource,
            state: FindingState::Open,
            first_seen: now,
            last_seen: now,
            resolved_at: None,
            reopened: 0,
            incomplete,
            waiver: None,
            held_by: None,
            twin: None,
            config: detected.config,
        };
        // Another database under the same name is another finding: neither age nor waiver carry over.
        let same = |old: &Finding| old.resource.resource_id() == fresh.resource.resource_id();
        match before.filter(same) {
            None => fresh,
            Some(old) => Finding {
                first_seen: old.first_seen,
                resolved_at: old.resolved_at,
                reopened: old.reopened + u32::from(old.state == FindingState::Resolved),
                waiver: old.waiver,
                held_by: old.held_by,
                twin: old.twin,
                ..fresh
            },
        }
    }

    /// The finding after a full read of its cell no longer showed it.
    pub fn resolved(mut self, now: Time) -> Finding {
        if self.state == FindingState::Open {
            self.state = FindingState::Resolved;
            self.resolved_at = Some(now);
        }
        self
    }

    /// What it counts as: its kind, and `+held` where a verified twin stands beside it.
    pub fn label(&self) -> String {
        let held = if self.held_by.is_some() { "+held" } else { "" };
        format!("{}{held}", self.kind.as_str())
    }

    /// Whether a waiver covers it now.
    pub fn waived(&self, now: Time) -> bool {
        self.waiver.as_ref().is_some_and(|w| w.until > now)
    }

    /// Whether it counts against a gate.
    pub fn counts(&self, now: Time) -> bool {
        self.state == FindingState::Open && !self.waived(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remediation::sample;

    fn seen(before: Option<Finding>, resource_id: &str, now: i64) -> Finding {
        let mut instance = sample::instance("orders");
        instance.resource_id = resource_id.into();
        let resource = Resource::Instance { instance, replicas: vec![] };
        let detected = Detected { kind: Kind::Instance, resource, config: None };
        let (account, region) = (sample::account(), sample::region());
        Finding::seen(before, "rds-encryption", &account, &region, detected, false, Time(now))
    }

    #[test]
    fn a_finding_is_first_seen_resolved_and_reopened() {
        let first = seen(None, "db-A", 1);
        assert_eq!((first.first_seen, first.last_seen, first.reopened), (Time(1), Time(1), 0));
        let again = seen(Some(first), "db-A", 2);
        assert_eq!((again.first_seen, again.last_seen, again.reopened), (Time(1), Time(2), 0));
        let resolved = again.resolved(Time(3));
        assert_eq!((resolved.state, resolved.resolved_at), (FindingState::Resolved, Some(Time(3))));
        let back = seen(Some(resolved), "db-A", 4);
        assert_eq!((back.state, back.reopened, back.first_seen), (FindingState::Open, 1, Time(1)));
    }

    #[test]
    fn another_database_under_the_name_loses_age_and_waiver() {
        let mut old = seen(None, "db-A", 1);
        let waiver = Waiver {
            owner: "ann".into(),
            reason: "r".into(),
            until: Time(9),
            by: "ann".into(),
            account: false,
        };
        old.waiver = Some(waiver);
        assert!(old.waived(Time(5)) && !old.waived(Time(9)));
        let new = seen(Some(old.clone()), "db-B", 5);
        assert_eq!((new.waiver, new.first_seen, &new.id), (None, Time(5), &old.id));
        // That of the account covers it, unless one of its own lasts longer.
        let covered = |own: i64, until: i64| {
            let mut finding = old.clone();
            let waiver = |until, account| Waiver {
                owner: "o".into(),
                reason: "r".into(),
                until: Time(until),
                by: "b".into(),
                account,
            };
            finding.waiver = Some(waiver(own, false));
            AccountWaiver { account: sample::account(), waiver: waiver(until, true) }
                .cover(&mut finding);
            finding.waiver.map(|w| (w.until, w.account))
        };
        assert_eq!(covered(9, 20), Some((Time(20), true)));
        assert_eq!(covered(9, 9), Some((Time(9), false)));
    }

    #[test]
    fn the_fingerprint_ignores_status_but_not_settings() {
        let a = sample::instance("orders");
        let mut b = a.clone();
        b.status = "backing-up".into();
        let mut c = a.clone();
        c.settings.backup_retention_period = 9;
        let print = |instance| Resource::Instance { instance, replicas: vec![] }.fingerprint();
        assert_eq!(print(a.clone()), print(b));
        assert_ne!(print(a), print(c));
    }
}
