//! One event of CloudTrail's as far as policies see it, and many alike as one with a count.

use super::lookup::service_of;
use crate::id::AccountId;
use crate::probe;
use crate::time::Time;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// How many kinds of calls one account may have: a bound on memory and on the store. Beyond it calls are counted as left
/// out, and the account as not read to its end.
pub const DISTINCT_MAX: usize = 2_000;

/// That a call was denied.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Refusal {
    /// The service control policy that AWS names, by its id; empty where it names none.
    pub policy: String,
    /// Whether it was, or may have been, a service control policy: AWS says so, or says nothing that can be read.
    #[serde(default)]
    pub by_scp: bool,
}

/// What one kind of call looks like to a policy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Call {
    /// The account whose policies bind it.
    pub account: AccountId,
    /// The region.
    pub region: String,
    /// The action: `rds:CreateDBInstance`.
    pub action: String,
    /// Whose call it is: the ARN of a role or user, never of a session, for there is one for each run.
    pub principal: String,
    /// `AssumedRole`, `User` or `Account` (IAM guide, "aws:PrincipalType").
    pub principal_type: String,
    /// Whether a service made it in the principal's name.
    pub via_service: bool,
    /// SourceIdentity of its session; empty if it has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source_identity: String,
    /// What conditions look at: the value, or that the call does not have it. Any other is not known.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub keys: BTreeMap<String, Option<String>>,
    /// That it was denied then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refusal>,
}

/// An event, sorted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A call that policies of the account see.
    Call(Box<Call>, Time),
    /// One that they do not bind: a service's own, a service-linked role's, another account's (Organizations guide, "SCP
    /// effects on permissions").
    Unbound,
    /// No call of an API: a sign-in, an event of a service. Or a probe of ours, which was made to be denied.
    NoCall,
}

/// Calls, each kind once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calls {
    /// How many of each kind, the first and the last.
    #[serde(with = "as_list")]
    pub kinds: BTreeMap<Call, (u64, Time, Time)>,
    /// Calls that policies do not bind.
    pub unbound: u64,
    /// Calls of kinds that are beyond [`DISTINCT_MAX`].
    pub left_out: u64,
}

impl Calls {
    /// Counts one.
    pub fn add(&mut self, event: Event) {
        match event {
            Event::Unbound => self.unbound += 1,
            Event::NoCall => {}
            Event::Call(call, at) => self.count(*call, (1, at, at)),
        }
    }

    /// Counts all of another.
    pub fn extend(&mut self, other: Calls) {
        self.unbound += other.unbound;
        self.left_out += other.left_out;
        for (call, counted) in other.kinds {
            self.count(call, counted);
        }
    }

    fn count(&mut self, call: Call, (n, first, last): (u64, Time, Time)) {
        let full = self.kinds.len() >= DISTINCT_MAX;
        match self.kinds.entry(call) {
            Entry::Occupied(mut place) => {
                let (count, from, until) = place.get_mut();
                (*count, *from, *until) = (*count + n, (*from).min(first), (*until).max(last));
            }
            Entry::Vacant(_) if full => self.left_out += n,
            Entry::Vacant(place) => drop(place.insert((n, first, last))),
        }
    }
}

/// A map whose keys are no texts, as JSON.
mod as_list {
    use super::{BTreeMap, Call, Time};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    type Kinds = BTreeMap<Call, (u64, Time, Time)>;

    pub(super) fn serialize<S: Serializer>(kinds: &Kinds, to: S) -> Result<S::Ok, S::Error> {
        kinds.iter().collect::<Vec<_>>().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Kinds, D::Error> {
        Ok(Vec::<(Call, (u64, Time, Time))>::deserialize(from)?.into_iter().collect())
    }
}

/// Reads a record (CloudTrail guide, "CloudTrail record contents").
///
/// # Errors
/// What it lacks: a call that cannot be read must not count as one that nothing denies.
pub fn event(record: &Value) -> Result<Event, String> {
    let text = |name: &str| record[name].as_str().filter(|t| !t.is_empty());
    let need = |name: &str| text(name).ok_or_else(|| format!("a record has no {name}"));
    // Records before version 1.05 have no type; all of them are calls.
    if !matches!(text("eventType"), None | Some("AwsApiCall")) {
        return Ok(Event::NoCall);
    }
    let at = Time::parse(need("eventTime")?).ok_or("a record has an eventTime that is none")?;
    let service = service_of(need("eventSource")?);
    let identity = &record["userIdentity"];
    if !identity.is_object() {
        return Err("a record has no userIdentity".to_owned());
    }
    // Who is called and who calls may be of different accounts; policies bind whoever calls.
    let called = text("recipientAccountId").or(identity["accountId"].as_str()).unwrap_or_default();
    let Some((principal, principal_type)) = principal(identity) else { return Ok(Event::Unbound) };
    if identity["accountId"].as_str().is_some_and(|of| of != called) {
        return Ok(Event::Unbound);
    }
    let name = need("eventName")?;
    let source_identity = identity["sessionContext"]["sourceIdentity"].as_str();
    let action = format!("{service}:{name}");
    // Others may call a session so; a denial may be recorded without its parameters.
    let asked = &record["requestParameters"]["dBInstanceIdentifier"];
    let named = asked.as_str().is_none_or(|name| name.starts_with(probe::RUN));
    if source_identity == Some(probe::RUN) && action == probe::ACTION && named {
        return Ok(Event::NoCall);
    }
    let call = Call {
        account: called.parse().map_err(|e| format!("a record's account: {e}"))?,
        region: need("awsRegion")?.to_owned(),
        action,
        principal: principal.to_owned(),
        principal_type: principal_type.to_owned(),
        via_service: identity["invokedBy"]
            .as_str()
            .is_some_and(|by| by.ends_with(".amazonaws.com")),
        source_identity: source_identity.unwrap_or_default().to_owned(),
        keys: keys(&service, name, &record["requestParameters"]),
        refused: refused(record),
    };
    Ok(Event::Call(Box::new(call), at))
}

/// Whose call it is, as policies know it; `None` for those that SCPs do not bind.
fn principal(identity: &Value) -> Option<(&str, &str)> {
    let arn = identity["arn"].as_str();
    let issuer = identity["sessionContext"]["sessionIssuer"]["arn"].as_str();
    let (arn, kind) = match identity["type"].as_str()? {
        "AssumedRole" => (issuer.or(arn)?, "AssumedRole"),
        "IAMUser" => (arn?, "User"),
        "Root" => (arn?, "Account"),
        "FederatedUser" => (issuer.or(arn)?, "FederatedUser"),
        // AWSService, AWSAccount, Directory, WebIdentityUser, SAMLUser, Unknown: none of the account's principals.
        _ => return None,
    };
    (!arn.contains(":role/aws-service-role/")).then_some((arn, kind))
}

/// The codes of a denial, of all services (error codes of the APIs; CloudTrail writes EC2's with `Client.`).
const DENIALS: &[&str] = &[
    "AccessDenied",
    "AccessDeniedException",
    "UnauthorizedOperation",
    "Client.UnauthorizedOperation",
    "AuthorizationError",
];

fn refused(record: &Value) -> Option<Refusal> {
    refusal(record["errorCode"].as_str()?, record["errorMessage"].as_str().unwrap_or_default())
}

/// Whether an error is a denial, and by which service control policy: since January 2026 AWS names its ARN (AWS security
/// blog, "Enhanced access denied error messages with policy ARNs").
pub fn refusal(code: &str, said: &str) -> Option<Refusal> {
    let named = said.split("/service_control_policy/").nth(1);
    if named.is_none() && !DENIALS.contains(&code) {
        return None;
    }
    let id = named.unwrap_or_default();
    let end = id.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'));
    let policy = id[..end.unwrap_or(id.len())].to_owned();
    let by_scp = said.contains("service control policy") || said.contains("Encoded authorization");
    Some(Refusal { by_scp: by_scp || named.is_some(), policy })
}

/// The calls that RDS asks its condition keys of (Service Authorization Reference, RDS).
const CREATES: &[&str] =
    &["CreateDBInstance", "CreateDBCluster", "RestoreDBInstanceFromS3", "RestoreDBClusterFromS3"];

/// What conditions look at, of the calls where it is known how they show.
///
/// `rds:StorageEncrypted` is false where the parameter is left out: AWS wrote so of members of clusters, and what it
/// denies agrees (aws-secure-environment-accelerator#105).
fn keys(service: &str, name: &str, asked: &Value) -> BTreeMap<String, Option<String>> {
    let mut keys = BTreeMap::new();
    if service != "rds" || !CREATES.contains(&name) {
        return keys;
    }
    // Exports write it as text.
    let said = &asked["storageEncrypted"];
    let encrypted = said.as_bool().unwrap_or(said.as_str() == Some("true"));
    keys.insert("rds:StorageEncrypted".to_owned(), Some(encrypted.to_string()));
    for (key, parameter) in
        [("rds:DatabaseEngine", "engine"), ("rds:DatabaseClass", "dBInstanceClass")]
    {
        let value = asked[parameter].as_str().map(str::to_owned);
        keys.insert(key.to_owned(), value);
    }
    keys
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    pub(in super::super) fn record() -> Value {
        json!({
            "eventTime": "2026-11-01T10:00:00Z", "eventSource": "rds.amazonaws.com", "eventName": "CreateDBInstance",
            "awsRegion": "eu-west-1", "recipientAccountId": "111122223333", "eventType": "AwsApiCall",
            "userIdentity": {"type": "AssumedRole", "accountId": "111122223333",
                "arn": "arn:aws:sts::111122223333:assumed-role/ci/run-7",
                "sessionContext": {"sessionIssuer": {"arn": "arn:aws:iam::111122223333:role/ci"}}},
            "requestParameters": {"engine": "postgres", "dBInstanceIdentifier": "orders"}
        })
    }

    fn with(edit: impl FnOnce(&mut Value)) -> Result<Event, String> {
        let mut record = record();
        edit(&mut record);
        event(&record)
    }

    fn call(edit: impl FnOnce(&mut Value)) -> Call {
        match with(edit) {
            Ok(Event::Call(call, _)) => *call,
            other => panic!("no call: {other:?}"),
        }
    }

    #[test]
    fn a_record_is_read_as_policies_see_it() {
        let plain = call(|_| {});
        assert_eq!(
            plain.principal, "arn:aws:iam::111122223333:role/ci",
            "the role, not the session"
        );
        assert_eq!(
            plain.keys["rds:StorageEncrypted"].as_deref(),
            Some("false"),
            "left out is false"
        );
        assert_eq!(plain.keys["rds:DatabaseClass"], None);
        assert_eq!((plain.via_service, &plain.refused), (false, &None));
        let encrypted = call(|r| r["requestParameters"]["storageEncrypted"] = true.into());
        assert_eq!(encrypted.keys["rds:StorageEncrypted"].as_deref(), Some("true"));
        let text = call(|r| r["requestParameters"]["storageEncrypted"] = "true".into());
        assert_eq!(text.keys, encrypted.keys);
        let stack =
            call(|r| r["userIdentity"]["invokedBy"] = "cloudformation.amazonaws.com".into());
        assert!(stack.via_service);
        let other = call(|r| r["eventName"] = "StartDBInstance".into());
        assert!(other.keys.is_empty(), "nobody says with what keys it is asked for");
        // A request that was refused for what it said had passed its policies.
        let failed = call(|r| r["errorCode"] = "DBSubnetGroupNotFoundFault".into());
        assert_eq!(failed.refused, None);
        // A probe of ours is no call that counts; what else such a session does is.
        let probes = |r: &mut Value| {
            r["userIdentity"]["sessionContext"]["sourceIdentity"] = probe::RUN.into();
        };
        assert!(matches!(with(probes), Ok(Event::Call(..))), "of another name");
        let named = |r: &mut Value| {
            probes(r);
            r["requestParameters"]["dBInstanceIdentifier"] = probe::instance_name(false).into();
        };
        assert_eq!(with(named), Ok(Event::NoCall));
        let other = call(|r| {
            probes(r);
            r["eventName"] = "DeleteDBInstance".into();
        });
        assert_eq!(other.source_identity, probe::RUN);
    }

    #[test]
    fn a_denial_is_known_with_the_policy_that_aws_names() {
        let denied = |message: &str| {
            call(|r| {
                r["errorCode"] = "AccessDenied".into();
                r["errorMessage"] = message.into();
            })
            .refused
            .map(|r| r.policy)
        };
        let named = "User: x is not authorized to perform: rds:CreateDBInstance with an explicit deny in a service control policy: arn:aws:organizations::111122223333:policy/o-abcdefghij/service_control_policy/p-12345678";
        assert_eq!(denied(named).as_deref(), Some("p-12345678"));
        assert_eq!(denied(&format!("{named} (and more)")).as_deref(), Some("p-12345678"));
        assert_eq!(denied("is not authorized").as_deref(), Some(""));
    }

    #[test]
    fn what_policies_do_not_bind_is_told_from_what_cannot_be_read() {
        let role = "arn:aws:iam::111122223333:role/aws-service-role/rds.amazonaws.com/AWSServiceRoleForRDS";
        let linked = |r: &mut Value| {
            r["userIdentity"]["sessionContext"]["sessionIssuer"]["arn"] = role.into();
        };
        assert_eq!(with(linked), Ok(Event::Unbound));
        assert_eq!(with(|r| r["userIdentity"]["type"] = "AWSService".into()), Ok(Event::Unbound));
        let foreign = |r: &mut Value| r["userIdentity"]["accountId"] = "999988887777".into();
        assert_eq!(with(foreign), Ok(Event::Unbound), "bound by its own account's");
        assert_eq!(with(|r| r["eventType"] = "AwsServiceEvent".into()), Ok(Event::NoCall));
        for lost in ["eventTime", "eventSource", "eventName", "awsRegion", "userIdentity"] {
            let error = with(|r| r[lost] = Value::Null).unwrap_err();
            assert!(error.contains(lost), "{lost}: {error}");
        }
    }

    #[test]
    fn calls_alike_are_one_with_a_count_and_there_is_a_bound() {
        let mut calls = Calls::default();
        for minute in [5, 1, 9] {
            let at = format!("2026-11-01T10:0{minute}:00Z");
            calls.add(with(|r| r["eventTime"] = at.into()).unwrap());
        }
        calls.add(Event::Unbound);
        let [(_, (3, first, last))] = calls.kinds.iter().collect::<Vec<_>>()[..] else {
            panic!("{calls:?}");
        };
        assert_eq!(last.since(*first).0, 8 * 60_000);
        let again: Calls = serde_json::from_str(&serde_json::to_string(&calls).unwrap()).unwrap();
        assert_eq!(again, calls);
        for n in 0..DISTINCT_MAX + 5 {
            calls.add(with(|r| r["awsRegion"] = format!("r-{n}").into()).unwrap());
        }
        assert_eq!((calls.kinds.len(), calls.left_out, calls.unbound), (DISTINCT_MAX, 6, 1));
    }
}
