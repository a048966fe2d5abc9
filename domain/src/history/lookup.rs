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

fn of(action: &str) -> Lookup {
    let wild = |text: &str| text.contains(['*', '?']);
    match action.split_once(':') {
        Some((service, name)) if !wild(service) => {
            let service = service.to_ascii_lowercase();
            match wild(name) {
                true => Lookup::Service(service),
                false => Lookup::Name { service, name: name.to_owned() },
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
    }

    #[test]
    fn sources_and_services_are_told_from_each_other() {
        for service in ["rds", "cloudwatch", "ses", "kms"] {
            assert_eq!(service_of(&Lookup::source(service)), service);
        }
        assert_eq!(Lookup::source("cloudwatch"), "monitoring.amazonaws.com");
    }
}
