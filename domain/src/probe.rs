//! Two creates that must fail, made in an account to see whether a policy is in force there: one without encryption, one
//! with.
//!
//! Both name a DB subnet group that does not exist. AWS asks policies first: a denial names the policy that binds the
//! account (since January 2026, see [`crate::history::refusal`]), and `DBSubnetGroupNotFoundFault` says that none denies. The
//! order is nowhere documented, so nothing is probed before both creates were tried in a sandbox account where nothing
//! denies them; and a database that ever comes of one puts an end to probing, until it is proven anew.

use crate::cloud::{CloudError, ErrorClass};
use crate::history::{Call, Judged, Refusal, Replay, refusal, weigh};
use crate::id::{AccountId, Region};
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The SourceIdentity of a probe's session, by which CloudTrail tells it from others; its name is that of its rollout.
pub const RUN: &str = "ringfence-probe";

/// The call that is tried.
pub const ACTION: &str = "rds:CreateDBInstance";

/// What is asked for: an engine whose instances have storage of their own, and a class that newer regions have, too.
pub const ENGINE: &str = "mysql";
/// See [`ENGINE`].
pub const CLASS: &str = "db.t4g.micro";

/// The instance that a probe would make: one name each, so that one that was ever made is found.
pub fn instance_name(encrypted: bool) -> &'static str {
    match encrypted {
        true => "ringfence-probe-encrypted",
        false => "ringfence-probe-unencrypted",
    }
}

/// Where creates are tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// A member account: no service control policy binds the management account.
    pub account: AccountId,
    /// One of its regions.
    pub region: Region,
}

impl Place {
    /// Reads `111122223333/eu-west-1`.
    pub fn parse(text: &str) -> Option<Place> {
        let (account, region) = text.split_once('/')?;
        Some(Place { account: account.parse().ok()?, region: region.parse().ok()? })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.account, self.region)
    }
}

/// What one create came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Refused because there is no such subnet group: no policy denies it.
    NotDenied,
    /// Refused by a policy.
    Denied(Refusal),
    /// A database of that name was there before: nothing was tried.
    Found,
    /// It went through: a database is being made.
    Made,
    /// Anything else, which says nothing.
    Other(String),
}

impl Answer {
    /// Reads AWS's answer to the create; true is that it went through, false that there was one already.
    pub fn of(answer: Result<bool, CloudError>) -> Answer {
        let error = match answer {
            Ok(true) => return Answer::Made,
            Ok(false) => return Answer::Found,
            // A look whether one is there already, which comes first, says nothing of the create.
            Err(error) if error.operation != ACTION => return Answer::Other(error.to_string()),
            Err(error) => error,
        };
        match (error.class, error.code.as_str()) {
            (_, "DBSubnetGroupNotFoundFault") => Answer::NotDenied,
            (_, "DBInstanceAlreadyExists" | "DBInstanceAlreadyExistsFault") => Answer::Found,
            (ErrorClass::Denied | ErrorClass::ScpDenied, code) => {
                match refusal(code, &error.message) {
                    Some(refusal) => Answer::Denied(refusal),
                    None => Answer::Other(error.to_string()),
                }
            }
            _ => Answer::Other(error.to_string()),
        }
    }

    /// For people.
    pub fn said(&self) -> String {
        match self {
            Answer::NotDenied => "not denied".to_owned(),
            Answer::Denied(r) if !r.policy.is_empty() => format!("denied by {}", r.policy),
            Answer::Denied(r) if r.by_scp => {
                "denied by a service control policy that AWS does not name".to_owned()
            }
            Answer::Denied(_) => "denied, and AWS does not say by what policy".to_owned(),
            Answer::Found => "not tried, for a database of that name is there already".to_owned(),
            Answer::Made => "MADE, a database is coming into being".to_owned(),
            Answer::Other(why) => format!("not known: {why}"),
        }
    }

    fn is_by(&self, policy: &str) -> bool {
        matches!(self, Answer::Denied(r) if r.policy == policy)
    }
}

/// What both creates came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// When.
    pub at: Time,
    /// Without encryption.
    pub plain: Answer,
    /// With encryption.
    pub encrypted: Answer,
}

impl Answered {
    /// The same answer to both.
    pub fn both(at: Time, answer: Answer) -> Answered {
        Answered { at, plain: answer.clone(), encrypted: answer }
    }

    /// For people.
    pub fn said(&self) -> String {
        let (plain, encrypted) = (self.plain.said(), self.encrypted.said());
        match plain == encrypted {
            true => format!("both creates are {plain}"),
            false => {
                format!(
                    "a create without encryption is {plain}, one with encryption is {encrypted}"
                )
            }
        }
    }

    /// Whether one of them was denied by this policy.
    pub fn names(&self, policy: &str) -> bool {
        self.plain.is_by(policy) || self.encrypted.is_by(policy)
    }

    /// The database that came of it, or of one before it.
    pub fn made(&self) -> Option<&'static str> {
        match (&self.plain, &self.encrypted) {
            (Answer::Made | Answer::Found, _) => Some(instance_name(false)),
            (_, Answer::Made | Answer::Found) => Some(instance_name(true)),
            _ => None,
        }
    }
}

/// One probe: asked for by the server, made by an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// `pb-` and 12 hex digits.
    pub id: String,
    /// Where.
    pub place: Place,
    /// The rollout that it is for; `None` for one that is to prove probing.
    pub rollout: Option<String>,
    /// When it was asked for.
    pub asked_at: Time,
    /// What came of it.
    pub answered: Option<Answered>,
}

impl Probe {
    /// The name of its state in the store.
    pub fn state(&self) -> &'static str {
        if self.answered.is_some() { "done" } else { "running" }
    }

    /// Whether it shows that a probe makes nothing, and what it looks like where nothing denies it.
    pub fn proves(&self) -> bool {
        let not_denied =
            |a: &Answered| (&a.plain, &a.encrypted) == (&Answer::NotDenied, &Answer::NotDenied);
        self.rollout.is_none() && self.answered.as_ref().is_some_and(not_denied)
    }
}

/// Why probes may not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Off {
    /// They were never proven.
    Unproven,
    /// A database of this name came of one there, or was met, after they were proven last.
    Made(Place, String),
}

impl fmt::Display for Off {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const PROVE: &str = "ringfence rollout probe --account SANDBOX --region REGION";
        match self {
            Off::Unproven => write!(
                f,
                "probes are off until they are proven once, in an account where nothing denies creates: `{PROVE}`"
            ),
            Off::Made(place, name) => write!(
                f,
                "probes are off: in {place} there is a database {name}, which no probe may make; look at it, delete it, then prove them anew (`{PROVE}`) and resume what waits for them"
            ),
        }
    }
}

/// When and where probing was proven last.
///
/// # Errors
/// Why it may not be used.
pub fn proven<'a>(probes: impl IntoIterator<Item = &'a Probe>) -> Result<&'a Probe, Off> {
    let at = |p: &&Probe| p.answered.as_ref().map(|a| a.at);
    let (mut proof, mut made): (Option<&Probe>, Option<&Probe>) = (None, None);
    for probe in probes {
        if probe.proves() {
            proof = proof.into_iter().chain([probe]).max_by_key(at);
        }
        if probe.answered.as_ref().is_some_and(|a| a.made().is_some()) {
            made = made.into_iter().chain([probe]).max_by_key(at);
        }
    }
    match (proof, made) {
        // One that was under way when it came into being says nothing of what somebody did since.
        (proof, Some(made)) if proof.map(|p| p.asked_at) <= at(&made) => {
            let name = made.answered.as_ref().and_then(Answered::made).unwrap_or_default();
            Err(Off::Made(made.place.clone(), name.to_owned()))
        }
        (Some(proof), _) => Ok(proof),
        (None, _) => Err(Off::Unproven),
    }
}

/// What a policy says of both creates, by our own evaluator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    plain: Judged,
    encrypted: Judged,
}

impl Expected {
    /// Puts both creates before the policy, as made by this role.
    pub fn of(policy: &Replay, place: &Place, role: &str) -> Expected {
        let judged = |encrypted: bool| {
            let keys = [
                ("rds:StorageEncrypted", encrypted.to_string()),
                ("rds:DatabaseEngine", ENGINE.to_owned()),
                ("rds:DatabaseClass", CLASS.to_owned()),
            ];
            let call = Call {
                account: place.account.clone(),
                region: place.region.to_string(),
                action: ACTION.to_owned(),
                principal: role.to_owned(),
                principal_type: "AssumedRole".to_owned(),
                via_service: false,
                source_identity: RUN.to_owned(),
                keys: keys.map(|(key, value)| (key.to_owned(), Some(value))).into(),
                refused: None,
            };
            weigh(policy, &call)
        };
        Expected { plain: judged(false), encrypted: judged(true) }
    }

    /// Whether a probe can show that the policy is in force: it denies one of them for certain.
    pub fn tells(&self) -> bool {
        [&self.plain, &self.encrypted].iter().any(|j| matches!(j, Judged::Denied(_)))
    }
}

/// What a probe shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shows {
    /// What was hoped for.
    Yes,
    /// Not yet.
    No,
    /// Nothing.
    Unknown,
    /// The policy denies what it was not to deny.
    Harm,
    /// A database is there.
    Made,
}

/// Whether a policy is in force, and denies what it is to deny and nothing else: one of the creates must be denied by it.
/// `earlier`: the policy that it takes the place of, while that is attached beside it and may be the one that AWS names.
pub fn in_force(
    answered: &Answered,
    expected: &Expected,
    policy: &str,
    earlier: Option<&str>,
) -> Shows {
    let one = |answer: &Answer, expected: &Judged| {
        let denies = matches!(expected, Judged::Denied(_));
        let by_earlier = || earlier.is_some_and(|e| answer.is_by(e));
        match answer {
            Answer::Made | Answer::Found => Shows::Made,
            Answer::Other(_) => Shows::Unknown,
            Answer::NotDenied if denies => Shows::No,
            Answer::NotDenied => Shows::Yes,
            Answer::Denied(_) if answer.is_by(policy) && *expected == Judged::Allowed => {
                Shows::Harm
            }
            Answer::Denied(_) if answer.is_by(policy) => Shows::Yes,
            Answer::Denied(_) if denies && by_earlier() => Shows::Yes,
            Answer::Denied(_) => Shows::Unknown,
        }
    };
    let shown = worst([
        one(&answered.plain, &expected.plain),
        one(&answered.encrypted, &expected.encrypted),
    ]);
    let denied = answered.names(policy) || earlier.is_some_and(|e| answered.names(e));
    match shown {
        // What nobody expects to be denied, and is not, is no sight of it.
        Shows::Yes if !(expected.tells() && denied) => Shows::Unknown,
        shown => shown,
    }
}

/// Whether a policy that was in force no longer is. Where another one denies, AWS may name that, and both stand.
pub fn lifted(answered: &Answered, policy: &str) -> Shows {
    let one = |answer: &Answer| match answer {
        Answer::Made | Answer::Found => Shows::Made,
        Answer::Other(_) => Shows::Unknown,
        Answer::NotDenied => Shows::Yes,
        answer if answer.is_by(policy) => Shows::No,
        Answer::Denied(_) => Shows::Unknown,
    };
    worst([one(&answered.plain), one(&answered.encrypted)])
}

fn worst(shown: [Shows; 2]) -> Shows {
    let order = [Shows::Made, Shows::Harm, Shows::Unknown, Shows::No];
    order.into_iter().find(|s| shown.contains(s)).unwrap_or(Shows::Yes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::replay;
    use crate::scp::RDS_ENCRYPTION;

    fn error(class: ErrorClass, code: &str, message: &str) -> Answer {
        let operation = ACTION.to_owned();
        let (code, message) = (code.to_owned(), message.to_owned());
        Answer::of(Err(CloudError { class, operation, code, message }))
    }

    fn denied(policy: &str) -> Answer {
        let arn = format!("arn:aws:organizations::1:policy/o-1/service_control_policy/{policy}");
        let said = format!("with an explicit deny in a service control policy: {arn}");
        error(ErrorClass::ScpDenied, "AccessDenied", &said)
    }

    fn unnamed() -> Answer {
        let said = "with an explicit deny in a service control policy";
        error(ErrorClass::ScpDenied, "AccessDenied", said)
    }

    fn by_its_role() -> Answer {
        let said = "because no identity-based policy allows the rds:CreateDBInstance action";
        error(ErrorClass::Denied, "AccessDenied", said)
    }

    fn place() -> Place {
        Place::parse("111122223333/eu-west-1").unwrap()
    }

    fn expected(policy: &str, role: &str) -> Expected {
        let role = format!("arn:aws:iam::111122223333:role/{role}");
        Expected::of(&replay("p", policy).unwrap(), &place(), &role)
    }

    #[test]
    fn an_answer_is_what_aws_said_and_everything_else_says_nothing() {
        let not_found = error(ErrorClass::NotFound, "DBSubnetGroupNotFoundFault", "no such group");
        assert_eq!(not_found, Answer::NotDenied);
        assert!(denied("p-1").is_by("p-1") && !denied("p-1").is_by("p-2"));
        assert_eq!((Answer::of(Ok(true)), Answer::of(Ok(false))), (Answer::Made, Answer::Found));
        assert_eq!(error(ErrorClass::AlreadyExists, "DBInstanceAlreadyExists", ""), Answer::Found);
        for (class, code) in [
            (ErrorClass::Throttled, "ThrottlingException"),
            (ErrorClass::Unknown, ""),
            (ErrorClass::Invalid, "InvalidParameterCombination"),
            (ErrorClass::NotFound, "DBParameterGroupNotFound"),
            (ErrorClass::RegionRefused, "InvalidClientTokenId"),
            (ErrorClass::Denied, "ExpiredToken"),
        ] {
            assert!(matches!(error(class, code, "no"), Answer::Other(_)), "{code}");
        }
        let looked = CloudError {
            class: ErrorClass::ScpDenied,
            operation: "rds:DescribeDBInstances".to_owned(),
            code: "AccessDenied".to_owned(),
            message: "policy/o-1/service_control_policy/p-1".to_owned(),
        };
        assert!(matches!(Answer::of(Err(looked)), Answer::Other(_)), "no create was tried");
        assert_eq!(Place::parse("11112222333/eu-west-1"), None);
        assert_eq!(Place::parse("111122223333/eu west"), None);
    }

    #[test]
    fn what_a_probe_shows_of_a_policy() {
        use Answer::{Made, NotDenied};
        let other = || Answer::Other("timed out".into());
        let own = expected(RDS_ENCRYPTION, "rf");
        assert!(own.tells());
        for (plain, encrypted, earlier, want) in [
            (denied("p-1"), NotDenied, None, Shows::Yes),
            (NotDenied, NotDenied, None, Shows::No),
            // Denied as a whole, as it happened to others.
            (denied("p-1"), denied("p-1"), None, Shows::Harm),
            (NotDenied, denied("p-1"), None, Shows::Harm),
            (denied("p-2"), NotDenied, None, Shows::Unknown),
            (denied("p-2"), NotDenied, Some("p-2"), Shows::Yes),
            (denied("p-1"), denied("p-2"), Some("p-2"), Shows::Unknown),
            (denied("p-1"), denied("p-2"), None, Shows::Unknown),
            (unnamed(), NotDenied, None, Shows::Unknown),
            (by_its_role(), NotDenied, None, Shows::Unknown),
            (other(), NotDenied, None, Shows::Unknown),
            (denied("p-1"), other(), None, Shows::Unknown),
            (Made, NotDenied, None, Shows::Made),
            (denied("p-1"), Made, None, Shows::Made),
            (Made, denied("p-1"), None, Shows::Made),
            (Answer::Found, NotDenied, None, Shows::Made),
        ] {
            let answered = Answered { at: Time(0), plain, encrypted };
            let shown = in_force(&answered, &own, "p-1", earlier);
            assert_eq!(shown, want, "{answered:?}");
        }
    }

    #[test]
    fn a_policy_that_denies_neither_create_shows_nothing() {
        let deny = |more: &str| {
            format!(
                r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Deny","Resource":"*",{more}}}]}}"#
            )
        };
        assert!(!expected(&deny(r#""Action":"s3:*""#), "rf").tells());
        let exempt = r#""Action":"rds:CreateDBInstance","Condition":{"ArnNotLike":{"aws:PrincipalArn":"arn:*:iam::*:role/rf"}}"#;
        assert!(!expected(&deny(exempt), "rf").tells(), "our own role is exempt");
        assert!(expected(&deny(exempt), "other").tells());
        // It means to deny all: then a denied encrypted create is no harm.
        let all = expected(&deny(r#""Action":"rds:Create*""#), "rf");
        let both = Answered::both(Time(0), denied("p-1"));
        assert_eq!(in_force(&both, &all, "p-1", None), Shows::Yes);
        let blind = expected(&deny(r#""Action":"s3:*""#), "rf");
        let none = Answered::both(Time(0), Answer::NotDenied);
        assert_eq!(in_force(&none, &blind, "p-1", None), Shows::Unknown, "nothing was denied");
        let unsure =
            r#""Action":"rds:Create*","Condition":{"StringEquals":{"aws:RequestTag/a":"b"}}"#;
        assert!(!expected(&deny(unsure), "rf").tells());
    }

    #[test]
    fn a_policy_is_lifted_when_it_is_no_longer_named() {
        use Answer::{Made, NotDenied};
        for (plain, encrypted, want) in [
            (NotDenied, NotDenied, Shows::Yes),
            (denied("p-1"), NotDenied, Shows::No),
            (denied("p-2"), NotDenied, Shows::Unknown),
            (unnamed(), NotDenied, Shows::Unknown),
            (by_its_role(), by_its_role(), Shows::Unknown),
            (NotDenied, Answer::Other("timed out".into()), Shows::Unknown),
            (Made, NotDenied, Shows::Made),
        ] {
            let answered = Answered { at: Time(0), plain, encrypted };
            assert_eq!(lifted(&answered, "p-1"), want, "{answered:?}");
        }
    }

    #[test]
    fn probes_are_off_until_they_are_proven_and_again_once_one_made_a_database() {
        let probe = |at: i64, rollout: Option<&str>, answer: Answer| Probe {
            id: format!("pb-{at}"),
            place: place(),
            rollout: rollout.map(str::to_owned),
            asked_at: Time(at),
            answered: Some(Answered::both(Time(at), answer)),
        };
        let off = |probes: &[Probe]| proven(probes).unwrap_err().to_string();
        assert!(off(&[]).contains("proven once"));
        let open = Probe { answered: None, ..probe(1, None, Answer::NotDenied) };
        assert!(off(&[open]).contains("proven once"));
        assert!(off(&[probe(1, None, denied("p-1"))]).contains("proven once"));
        // What a rollout saw proves nothing: there a policy may be in force.
        assert!(off(&[probe(1, Some("ro-1"), Answer::NotDenied)]).contains("proven once"));
        let (proof, made) =
            (probe(1, None, Answer::NotDenied), probe(2, Some("ro-1"), Answer::Made));
        assert_eq!(proven([&proof]).unwrap().id, "pb-1");
        let said = off(&[proof.clone(), made.clone()]);
        assert!(said.contains("111122223333 eu-west-1") && said.contains("ringfence-probe-unenc"));
        let anew = probe(3, None, Answer::NotDenied);
        assert_eq!(proven([&anew, &made, &proof]).unwrap().id, "pb-3");
        assert!(
            off(&[Probe { asked_at: Time(1), ..anew.clone() }, made]).contains("off"),
            "it was asked for before"
        );
    }
}
