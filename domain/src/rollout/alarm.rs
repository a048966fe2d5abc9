//! CloudWatch alarms as signs of health while a stage bakes.

use super::Health;
use crate::id::{AccountId, Region};
use std::collections::BTreeMap;
use std::fmt;

/// An alarm, by its ARN: `arn:aws:cloudwatch:eu-west-1:111122223333:alarm:orders-errors`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alarm {
    /// Its region.
    pub region: Region,
    /// Its account.
    pub account: AccountId,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "alarm {} ({} {})", self.name, self.account, self.region)
    }
}

impl Alarm {
    /// Reads an ARN.
    pub fn parse(arn: &str) -> Option<Alarm> {
        let parts: Vec<&str> = arn.splitn(7, ':').collect();
        let [arn, _, service, region, account, kind, name] = parts.as_slice() else { return None };
        if (*arn, *service, *kind) != ("arn", "cloudwatch", "alarm") || name.is_empty() {
            return None;
        }
        let (region, account) = (region.parse().ok()?, account.parse().ok()?);
        Some(Alarm { region, account, name: (*name).to_owned() })
    }

    /// What their states (with CloudWatch's reason) say: one in `ALARM` is harm; one without data, or that is not there, is
    /// no proof of health.
    pub fn verdict(
        alarms: &[Alarm],
        states: &BTreeMap<Alarm, (String, String)>,
    ) -> (Health, String) {
        let state = |alarm: &&Alarm| states.get(*alarm).map_or("", |(state, _)| state.as_str());
        if let Some(alarm) = alarms.iter().find(|a| state(a) == "ALARM") {
            let why = states.get(alarm).map_or("", |(_, why)| why.as_str());
            return (Health::Unhealthy, format!("{alarm} is in ALARM: {why}"));
        }
        match alarms.iter().find(|a| state(a) != "OK") {
            Some(alarm) if states.contains_key(alarm) => {
                (Health::Inconclusive, format!("{alarm} is in {}", state(&alarm)))
            }
            Some(alarm) => (Health::Inconclusive, format!("{alarm} does not exist")),
            None if alarms.len() == 1 => (Health::Healthy, "1 alarm is OK".to_owned()),
            None => (Health::Healthy, format!("{} alarms are OK", alarms.len())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_are_harm_or_no_proof_or_fine() {
        let arn = "arn:aws:cloudwatch:eu-west-1:111122223333:alarm:orders: errors";
        let one = Alarm::parse(arn).unwrap();
        assert_eq!(one.name, "orders: errors");
        for odd in [
            "arn:aws:cloudwatch:eu-west-1:111122223333:alarm:",
            "arn:aws:sns:eu-west-1:111122223333:alarm:x",
            "orders-errors",
            "arn:aws:cloudwatch:eu-west-1:1:alarm:x",
        ] {
            assert_eq!(Alarm::parse(odd), None, "{odd}");
        }
        let two = Alarm { name: "two".into(), ..one.clone() };
        let both = [one.clone(), two.clone()];
        let states = |a: &str, b: &str| -> BTreeMap<Alarm, (String, String)> {
            let all = [(one.clone(), a), (two.clone(), b)];
            let said = all.into_iter().filter(|(_, s)| !s.is_empty());
            said.map(|(alarm, s)| (alarm, (s.to_owned(), "5 > 3".to_owned()))).collect()
        };
        for (a, b, want, says) in [
            ("OK", "OK", Health::Healthy, "2 alarms are OK"),
            (
                "OK",
                "ALARM",
                Health::Unhealthy,
                "alarm two (111122223333 eu-west-1) is in ALARM: 5 > 3",
            ),
            ("INSUFFICIENT_DATA", "ALARM", Health::Unhealthy, "in ALARM"),
            ("INSUFFICIENT_DATA", "OK", Health::Inconclusive, "is in INSUFFICIENT_DATA"),
            ("OK", "", Health::Inconclusive, "does not exist"),
        ] {
            let (health, said) = Alarm::verdict(&both, &states(a, b));
            assert!(health == want && said.contains(says), "{a} {b}: {health:?} {said}");
        }
    }
}
