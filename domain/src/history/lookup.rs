//! Which events are asked for, given what a policy denies.

use crate::iam::document::Policy;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// What LookupEvents is asked for: it takes one attribute (CloudTrail API reference).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lookup {
    /// Events of this name of this service: `CreateDBInstance` of `rds`.
    Name {
        /// The prefix of its actions.
        service: String,
        /// The event's name, as written in the policy.
        name: String,
    },
    /// All events of a service.
    Service(String),
    /// All events.
    Everything,
}

impl fmt::Display for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lookup::Name { service, name } => write!(f, "{service}:{name}"),
            Lookup::Service(service) => write!(f, "{service}:*"),
            Lookup::Everything => f.write_str("all events"),
        }
    }
}

/// Services whose events come from a source that is not named after the prefix of their actions (Service Authorization
/// Reference; CloudTrail guide, "AWS service topics for CloudTrail").
const SOURCES: &[(&str, &str)] = &[("cloudwatch", "monitoring"), ("ses", "email")];

impl Lookup {
    /// Whether an event of this service is meant: several services may have one of that name.
    pub fn is_about(&self, of: &str) -> bool {
        match self {
            Lookup::Name { service, .. } | Lookup::Service(service) => service == of,
            Lookup::Everything => true,
        }
    }

    /// The event source of a service.
    pub fn source(service: &str) -> String {
        let named = SOURCES.iter().find(|(prefix, _)| *prefix == service);
        format!("{}.amazonaws.com", named.map_or(service, |(_, source)| source))
    }
}

/// The prefix of the actions of an event's source: `rds` of `rds.amazonaws.com`.
pub fn service_of(source: &str) -> String {
    let source = source.split('.').next().unwrap_or_default();
    let named = SOURCES.iter().find(|(_, of)| *of == source);
    named.map_or(source, |(prefix, _)| prefix).to_owned()
}

/// All that has to be looked up to see what the denials of a policy are about: an event by its name where the policy
/// names the action, all of a service where it has a pattern, all there is where that is what it denies.
pub fn lookups(policy: &Policy) -> BTreeSet<Lookup> {
    let mut all = BTreeSet::new();
    for statement in policy.statements.iter().filter(|s| s.denies) {
        let (actions, all_but) = statement.actions();
        if all_but {
            all.insert(Lookup::Everything);
        }
        all.extend(actions.iter().filter(|_| !all_but).map(|a| of(a)));
    }
    // What is asked for as a whole is not asked for in parts.
    if all.contains(&Lookup::Everything) {
        return BTreeSet::from([Lookup::Everything]);
    }
    let whole = all.clone();
    all.retain(|l| match l {
        Lookup::Name { service, .. } => !whole.contains(&Lookup::Service(service.clone())),
        Lookup::Service(_) | Lookup::Everything => true,
    });
    all
}

/// Events of RDS that are named as their actions. Policies have no case; LookupEvents does (CloudTrail guide, "Looking up
/// events").
const EVENTS: &[&str] = &[
    "AddTagsToResource",
    "CopyDBClusterSnapshot",
    "CopyDBSnapshot",
    "CreateBlueGreenDeployment",
    "CreateDBCluster",
    "CreateDBClusterSnapshot",
    "CreateDBInstance",
    "CreateDBInstanceReadReplica",
    "CreateDBSnapshot",
    "CreateGlobalCluster",
    "DeleteDBCluster",
    "DeleteDBInstance",
    "ModifyDBCluster",
    "ModifyDBInstance",
    "ModifyDBSnapshotAttribute",
    "RemoveTagsFromResource",
    "RestoreDBClusterFromS3",
    "RestoreDBClusterFromSnapshot",
    "RestoreDBClusterToPointInTime",
    "RestoreDBInstanceFromDBSnapshot",
    "RestoreDBInstanceFromS3",
    "RestoreDBInstanceToPointInTime",
    "StartDBInstance",
    "StopDBInstance",
];

/// Those of the lookups whose events may not be named as they are asked for: what they find may not be all.
pub fn unsure(lookups: &BTreeSet<Lookup>) -> Vec<String> {
    let sure = |l: &&Lookup| match l {
        Lookup::Name { service, name } => service == "rds" && EVENTS.contains(&name.as_str()),
        Lookup::Service(_) | Lookup::Everything => true,
    };
    lookups.iter().filter(|l| !sure(l)).map(ToString::to_string).collect()
}

fn of(action: &str) -> Lookup {
    let wild = |text: &str| text.contains(['*', '?']);
    match action.split_once(':') {
        Some((service, name)) if !wild(service) => {
            let service = service.to_ascii_lowercase();
            match wild(name) {
                true => Lookup::Service(service),
                false => {
                    let known = EVENTS.iter().find(|known| known.eq_ignore_ascii_case(name));
                    let known = known.filter(|_| service == "rds");
                    let name = known.map_or(name, |known| *known).to_owned();
                    Lookup::Name { service, name }
                }
            }
        }
        Some(_) | None => Lookup::Everything,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_policy(actions: &str) -> String {
        let text = format!(
            r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Deny",{actions},"Resource":"*"}}}}"#
        );
        let all = lookups(&Policy::parse(&text).unwrap());
        all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn as_little_is_looked_up_as_the_policy_allows() {
        for (actions, want) in [
            (r#""Action":["rds:CreateDBInstance"]"#, "rds:CreateDBInstance"),
            (r#""Action":"rds:createdbinstance""#, "rds:CreateDBInstance"),
            (r#""Action":["RDS:CreateDBInstance","s3:Put*"]"#, "rds:CreateDBInstance s3:*"),
            (r#""Action":["rds:CreateDBInstance","rds:Create*"]"#, "rds:*"),
            (r#""Action":["rds:CreateDBInstance","*"]"#, "all events"),
            (r#""Action":"r*:CreateDBInstance""#, "all events"),
            (r#""NotAction":"rds:CreateDBInstance""#, "all events"),
        ] {
            assert_eq!(of_policy(actions), want, "{actions}");
        }
        let built_in = Policy::parse(crate::scp::RDS_ENCRYPTION).unwrap();
        assert_eq!(lookups(&built_in).len(), 4);
        assert!(unsure(&lookups(&built_in)).is_empty());
        let odd = BTreeSet::from([of("lambda:CreateFunction"), of("rds:Nonsense"), of("s3:Put*")]);
        assert_eq!(unsure(&odd), ["lambda:CreateFunction", "rds:Nonsense"]);
    }

    #[test]
    fn sources_and_services_are_told_from_each_other() {
        for service in ["rds", "cloudwatch", "ses", "kms"] {
            assert_eq!(service_of(&Lookup::source(service)), service);
        }
        assert_eq!(Lookup::source("cloudwatch"), "monitoring.amazonaws.com");
    }
}
