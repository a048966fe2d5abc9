//! What a policy that is attached denied, and who changed attachments.

use super::call::Call;
use super::reading::Reading;
use super::replay::{Judged, Replay, weigh};
use crate::iam::pattern::{covers, literal, pattern};
use crate::time::Time;
use serde_json::Value;

/// What a policy did to the accounts that it binds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Harm {
    /// Denials of principals that nobody said would be denied: the call, how often, when last.
    pub denied: Vec<(Call, u64, Time)>,
    /// Denials of those that it was meant for.
    pub expected: u64,
    /// Calls that were looked at.
    pub calls: u64,
    /// Of these, went through, and are of those that were asked to be counted.
    pub counted: u64,
    /// Account, region, and why it was not read: no harm is known, and none ruled out.
    pub unread: Vec<(String, String, String)>,
}

impl Harm {
    /// The first few denials, for people.
    pub fn said(&self) -> String {
        const NAMED: usize = 3;
        let one = |(call, count, last): &(Call, u64, Time)| {
            format!(
                "{} of {} in {} {} ({count} times, last {last})",
                call.action, call.principal, call.account, call.region
            )
        };
        let named: Vec<String> = self.denied.iter().take(NAMED).map(one).collect();
        match self.denied.len().saturating_sub(NAMED) {
            0 => named.join(", "),
            more => format!("{} and {more} more", named.join(", ")),
        }
    }
}

/// What readings show of a policy's denials. `expected` are patterns of the ARNs of principals; `counts` says which calls that went
/// through show something.
pub fn harm<'a>(
    readings: impl IntoIterator<Item = &'a Reading>,
    policy: &str,
    expected: &[String],
    replay: &Replay,
    counts: impl Fn(&Call) -> bool,
) -> Harm {
    let mut harm = Harm::default();
    for reading in readings {
        let place = |(region, why): (&String, &str)| {
            (reading.account.to_string(), region.clone(), why.to_owned())
        };
        harm.unread.extend(reading.failures().map(place));
        if reading.calls.left_out > 0 {
            let why = "it has more kinds of calls than are kept".to_owned();
            harm.unread.push((reading.account.to_string(), String::new(), why));
        }
        for (call, (count, _, last)) in &reading.calls.kinds {
            harm.calls += count;
            if call.refused.is_none() && counts(call) {
                harm.counted += count;
            }
            let by_it = matches!(&call.refused, Some(r) if r.policy == policy);
            // AWS names policies service by service: one that it does not name may be this one.
            let unnamed = matches!(&call.refused, Some(r) if r.by_scp && r.policy.is_empty());
            let maybe = unnamed && weigh(replay, call) != Judged::Allowed;
            let meant = |p: &String| covers(&pattern(p), &literal(&call.principal));
            match by_it {
                false if maybe && !expected.iter().any(meant) => {
                    let why = format!(
                        "{} of {} was denied by a service control policy that AWS does not name, and this one may be it",
                        call.action, call.principal
                    );
                    harm.unread.push((call.account.to_string(), call.region.clone(), why));
                }
                false => {}
                true if expected.iter().any(meant) => harm.expected += count,
                true => harm.denied.push((call.clone(), *count, *last)),
            }
        }
    }
    harm.denied.sort_by_key(|(_, count, _)| std::cmp::Reverse(*count));
    harm
}

/// A change of attachments or of a policy, by somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// When.
    pub at: Time,
    /// `DetachPolicy`, `UpdatePolicy` ...
    pub name: String,
    /// The session or user.
    pub who: String,
    /// The policy, or the account that was moved, or the name of the OU that was made.
    pub subject: String,
    /// The target, where the act has one: of a move, where it went; of what was made, in what.
    pub target: String,
}

/// Acts that change what a policy says, or where it is no longer attached.
pub const ACTS: &[&str] = &["DetachPolicy", "UpdatePolicy", "DeletePolicy"];

/// Reads an act on a policy or an account from a record of the organization's account; `None` for any other event, and for
/// what AWS refused.
pub fn act(record: &Value) -> Option<Act> {
    let name = record["eventName"].as_str()?;
    let parameters = &record["requestParameters"];
    if !record["errorCode"].is_null() {
        return None;
    }
    let text = |key: &str| parameters[key].as_str();
    let made = text("name").filter(|_| name == "CreateOrganizationalUnit");
    let subject = text("policyId").or(text("accountId")).or(made)?;
    let target = text("targetId").or(text("destinationParentId")).or(text("parentId"));
    let identity = &record["userIdentity"];
    let who = identity["arn"].as_str().or(identity["principalId"].as_str()).unwrap_or("somebody");
    let source = identity["sessionContext"]["sourceIdentity"].as_str();
    Some(Act {
        at: Time::parse(record["eventTime"].as_str()?)?,
        name: name.to_owned(),
        who: match source.filter(|s| !s.is_empty()) {
            Some(source) => format!("{who} (source identity {source})"),
            None => who.to_owned(),
        },
        subject: subject.to_owned(),
        target: target.unwrap_or_default().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::call::{event, tests::record};
    use super::super::replay;
    use super::super::{Part, State};
    use super::*;
    use serde_json::json;
    use std::collections::BTreeSet;

    fn reading(policy: &str, times: u32) -> Reading {
        let mut denied = record();
        denied["errorCode"] = "AccessDenied".into();
        denied["errorMessage"] =
            format!("no: arn:aws:organizations::1:policy/o-1/service_control_policy/{policy}")
                .into();
        let account = "111122223333".parse().unwrap();
        let regions = BTreeSet::from(["eu-west-1".to_owned()]);
        let span = (Time(0), Time(1));
        let mut reading = Reading::new("bake", account, BTreeSet::new(), span, regions);
        reading.state = State::Done;
        reading.regions.values_mut().for_each(|p| *p = Part::Read);
        for _ in 0..times {
            reading.calls.add(event(&denied).unwrap());
        }
        reading.calls.add(event(&record()).unwrap());
        reading
    }

    #[test]
    fn denials_by_the_policy_count_unless_they_were_meant() {
        let of = |reading: &Reading, expected: &[&str]| {
            let expected: Vec<String> = expected.iter().map(|e| (*e).to_owned()).collect();
            let replay = replay("p", crate::scp::RDS_ENCRYPTION).unwrap();
            harm([reading], "p-ours0000", &expected, &replay, |_| true)
        };
        let ours = reading("p-ours0000", 3);
        let found = of(&ours, &[]);
        assert_eq!((found.denied.len(), found.denied[0].1, found.calls), (1, 3, 4));
        assert!(found.said().contains("rds:CreateDBInstance of arn:aws:iam::111122223333:role/ci"));
        assert_eq!(of(&ours, &["arn:aws:iam::*:role/ci"]).expected, 3);
        assert!(of(&ours, &["arn:aws:iam::*:role/ci"]).denied.is_empty());
        assert_eq!(of(&ours, &["arn:aws:iam::*:role/other"]).denied.len(), 1);
        assert!(of(&reading("p-theirs00", 3), &[]).denied.is_empty(), "another policy's");
        // Denied by an SCP that AWS does not name: it may be ours.
        let mut unnamed = record();
        unnamed["errorCode"] = "AccessDenied".into();
        unnamed["errorMessage"] = "no, with an explicit deny in a service control policy".into();
        let mut dark = ours.clone();
        dark.calls = Default::default();
        dark.calls.add(event(&unnamed).unwrap());
        assert_eq!(of(&dark, &[]).unread.len(), 1);
        unnamed["requestParameters"]["storageEncrypted"] = true.into();
        dark.calls = Default::default();
        dark.calls.add(event(&unnamed).unwrap());
        assert!(of(&dark, &[]).unread.is_empty(), "ours lets that through");
        let mut silent = ours.clone();
        silent.regions.insert("eu-west-2".into(), Part::Failed("denied".into()));
        assert_eq!(of(&silent, &[]).unread.len(), 1);
    }

    #[test]
    fn who_did_it_is_read_from_the_record() {
        let record = json!({
            "eventTime": "2026-11-01T10:00:00Z", "eventName": "DetachPolicy",
            "requestParameters": {"policyId": "p-1", "targetId": "ou-1"},
            "userIdentity": {"arn": "arn:aws:sts::1:assumed-role/admin/eve",
                "sessionContext": {"sourceIdentity": "eve@example.com"}},
        });
        let found = act(&record).unwrap();
        assert_eq!(
            found.who,
            "arn:aws:sts::1:assumed-role/admin/eve (source identity eve@example.com)"
        );
        let what = |a: &Act| (a.name.clone(), a.subject.clone(), a.target.clone());
        assert_eq!(what(&found), ("DetachPolicy".into(), "p-1".into(), "ou-1".into()));
        let mut moved = record.clone();
        moved["eventName"] = "MoveAccount".into();
        moved["requestParameters"] =
            json!({"accountId": "111122223333", "destinationParentId": "ou-2"});
        let moved = act(&moved).unwrap();
        assert_eq!((moved.subject.as_str(), moved.target.as_str()), ("111122223333", "ou-2"));
        let mut refused = record;
        refused["errorCode"] = "AccessDeniedException".into();
        assert_eq!(act(&refused), None);
    }
}
