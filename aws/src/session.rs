//! Sessions in member accounts: one for an account and phase, checked before use.

use crate::client::{Cloud, SourceIdentity, StsEndpoint};
use crate::error::{broken, cloud_error};
use crate::limits::whole;
use crate::retry::To;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use ringfence_domain::cloud::{CloudError, ErrorClass};
use ringfence_domain::id::AccountId;
use ringfence_domain::probe;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

/// A role that is assumed from a role gets one hour at most, and asking for more fails (STS API
/// reference, AssumeRole, "role chaining").
const SESSION_SECONDS: i32 = 3600;

/// A session is renewed when so much of its life is over, in percent, so that no call meets its end.
const RENEW_AT: u32 = 80;

/// What a session may do, on top of what the role may.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Read only.
    Scan,
    /// Make snapshots, copies and twins; delete nothing that lacks our tag.
    Remediate,
    /// The same, and delete what has this ARN and nothing else.
    Decommission(String),
    /// The same as to remediate, and delete the blue/green deployment with this id and its green environment.
    Green(String),
    /// Make and mend keys, and nothing else; disable and delete none.
    Keys,
    /// Try to make an instance of a probe's names, in a DB subnet group that nobody has, and nothing else.
    Probe,
}

impl Phase {
    /// The session policy. STS counts at most 2,048 characters.
    fn policy(&self) -> String {
        let policy = match self {
            Phase::Scan => serde_json::json!({
                "Version": "2012-10-17",
                "Statement": [{
                    "Effect": "Allow",
                    "Action": [
                        "rds:Describe*", "rds:ListTagsForResource", "kms:DescribeKey", "kms:GetKeyPolicy", "kms:GetKeyRotationStatus", "kms:ListGrants",
                        "account:ListRegions", "cloudwatch:DescribeAlarms", "iam:GetAccountAuthorizationDetails", "ec2:DescribeSecurityGroups",
                        "secretsmanager:ListSecrets", "cloudtrail:LookupEvents",
                        "config:Describe*", "config:GetComplianceDetailsByConfigRule"
                    ],
                    "Resource": "*"
                }]
            }),
            Phase::Keys => serde_json::json!({
                "Version": "2012-10-17",
                "Statement": [{
                    "Effect": "Allow",
                    "Action": [
                        "kms:CreateAlias", "kms:CreateKey", "kms:DescribeKey", "kms:EnableKeyRotation",
                        "kms:GetKeyPolicy", "kms:GetKeyRotationStatus", "kms:ListGrants", "kms:ListKeys",
                        "kms:ListResourceTags", "kms:PutKeyPolicy", "kms:TagResource"
                    ],
                    "Resource": "*"
                }]
            }),
            // The key is named so that a create is not refused for it before anything else is looked at; a grant to RDS is
            // all that may come of it.
            Phase::Probe => serde_json::json!({
                "Version": "2012-10-17",
                "Statement": [
                    {"Effect": "Allow", "Action": "rds:CreateDBInstance", "Resource": [
                        "arn:*:rds:*:*:db:ringfence-probe-*", "arn:*:rds:*:*:subgrp:ringfence-probe-*", "arn:*:rds:*:*:og:*", "arn:*:rds:*:*:pg:*"]},
                    {"Effect": "Allow", "Action": ["rds:DescribeDBInstances", "kms:DescribeKey"], "Resource": "*"},
                    {"Effect": "Allow", "Action": "kms:CreateGrant", "Resource": "*", "Condition": {"Bool": {"kms:GrantIsForAWSResource": "true"}}}
                ]
            }),
            Phase::Remediate => write_policy(
                serde_json::json!({"Effect": "Deny", "Action": "rds:Delete*", "NotResource": ENDPOINTS, "Condition": {
                    "Null": {"aws:ResourceTag/ringfence:remediation": "true"}}}),
            ),
            Phase::Decommission(arn) => write_policy(
                serde_json::json!({"Effect": "Deny", "Action": "rds:Delete*", "NotResource": arn}),
            ),
            // AWS deletes the environment in our name. Its databases have no tag of ours, and "attached IAM policies
            // can't contain partial resource name patterns" of them (RDS guide, "Authorizing access to blue/green
            // deployment operations"). It is entered for that one call.
            Phase::Green(id) => write_policy(
                serde_json::json!({"Effect": "Deny", "Action": "rds:Delete*", "NotResource": [
                format!("arn:*:rds:*:*:deployment:{id}"), "arn:*:rds:*:*:db:*", "arn:*:rds:*:*:cluster:*", ENDPOINTS]}),
            ),
        };
        policy.to_string()
    }
}

/// Custom endpoints hold no data, and a swap deletes those of the original to make them on its twin.
const ENDPOINTS: &str = "arn:*:rds:*:*:cluster-endpoint:*";

/// A session that writes, and deletes no more than that.
fn write_policy(deletes: serde_json::Value) -> serde_json::Value {
    serde_json::json!({
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Resource": "*", "Action": [
                "rds:*", "kms:*", "iam:PassRole", "secretsmanager:*", "account:ListRegions", "cloudwatch:GetMetricData",
                "ec2:CreateSecurityGroup", "ec2:CreateTags", "ec2:DescribeSecurityGroups", "ec2:RevokeSecurityGroupEgress"]},
            deletes,
            {"Effect": "Deny", "Action": ["kms:ScheduleKeyDeletion", "kms:DisableKey", "kms:PutKeyPolicy"], "Resource": "*"}
        ]
    })
}

/// Credentials in one account.
#[derive(Debug, Clone)]
pub struct Session {
    /// The account, proven by AWS's own answer.
    pub account: AccountId,
    /// Anything that people should know, for example that SourceIdentity could not be set.
    pub note: Option<String>,
    /// Whether these are the caller's own credentials, and no role's.
    pub own: bool,
    /// Whether it bears the run's id as SourceIdentity.
    pub identified: bool,
    pub(crate) credentials: Credentials,
    renew_at: SystemTime,
}

tokio::task_local! {
    /// Whose call is being made.
    static CREDENTIALS: Credentials;
}

impl Session {
    /// Makes an SDK call with this session's credentials.
    ///
    /// One client serves all accounts of a region; a `config_override` for each call, the other way to give it
    /// credentials, makes a builder and a plugin each time (docs/adr/0010).
    pub(crate) fn within<F: Future>(&self, call: F) -> impl Future<Output = F::Output> + use<F> {
        CREDENTIALS.scope(self.credentials.clone(), call)
    }
}

/// The credentials of the session that the call is made within; none outside of one.
#[derive(Debug)]
pub(crate) struct OfSession;

impl ProvideCredentials for OfSession {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let none =
            |_| CredentialsError::not_loaded("a member account was called outside of a session");
        future::ProvideCredentials::ready(CREDENTIALS.try_with(Clone::clone).map_err(none))
    }
}

/// When a session that is new now and ends then is to be renewed.
fn renew_at(now: SystemTime, end: SystemTime) -> SystemTime {
    now + end.duration_since(now).unwrap_or_default() * RENEW_AT / 100
}

/// Who the process is to AWS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The account of its credentials.
    pub account: AccountId,
    /// Its ARN.
    pub arn: String,
}

impl Caller {
    /// `aws`, `aws-cn`, `aws-us-gov` ...
    pub(crate) fn partition(&self) -> &str {
        self.arn.split(':').nth(1).unwrap_or("aws")
    }
}

/// One session, or the one task that is fetching it while the others wait.
type Place = Arc<tokio::sync::Mutex<Option<Session>>>;

#[derive(Default)]
pub(crate) struct Sessions(Mutex<HashMap<(AccountId, Phase, String), Place>>);

#[expect(
    clippy::disallowed_methods,
    reason = "ends of sessions are wall-clock time, and only the wall clock knows that we slept"
)]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

fn role_of(caller: &Caller, account: &AccountId, name: &str) -> String {
    format!("arn:{}:iam::{account}:role/{name}", caller.partition())
}

impl Cloud {
    /// Who we are (`sts:GetCallerIdentity`, which nothing can deny).
    ///
    /// Asked once: credentials are renewed in the life of a process, the identity is not.
    pub async fn caller(&self) -> Result<Caller, CloudError> {
        self.0.caller.get_or_try_init(|| self.ask_caller()).await.cloned()
    }

    async fn ask_caller(&self) -> Result<Caller, CloudError> {
        const OP: &str = "sts:GetCallerIdentity";
        let answer = self
            .sts(0, OP, |sts| async move {
                sts.get_caller_identity().send().await.map_err(|e| cloud_error(OP, e))
            })
            .await?;
        let account = answer.account().unwrap_or_default();
        let account = account.parse().map_err(|e| broken(OP, format!("{e}")))?;
        Ok(Caller { account, arn: answer.arn().unwrap_or_default().to_owned() })
    }

    /// A call to one of STS's regional endpoints: the `first`, and where that one cannot be reached or
    /// is switched off, the next.
    async fn sts<T, F>(
        &self,
        first: usize,
        operation: &'static str,
        call: impl Fn(aws_sdk_sts::Client) -> F,
    ) -> Result<T, CloudError>
    where
        F: Future<Output = Result<T, CloudError>>,
    {
        let refuses = |e: &&StsEndpoint| e.refuses.load(Ordering::Relaxed);
        let mut endpoints: Vec<&StsEndpoint> = self.0.sts.iter().filter(|e| !refuses(e)).collect();
        if endpoints.is_empty() {
            endpoints = self.0.sts.iter().collect();
        }
        let mut last = None;
        for n in 0..endpoints.len() {
            let endpoint = endpoints[(first + n) % endpoints.len()];
            let once = || call(endpoint.client.clone());
            match self.0.gate.read(To::sts(&endpoint.region), operation, once).await {
                // Networks may let only some of the endpoints through.
                Err(error) if error.unanswered() => last = Some(error),
                // Each can be switched off in an account (IAM guide, "Managing AWS STS in an AWS Region").
                Err(error) if error.class == ErrorClass::RegionRefused => {
                    // Off in the target's account says nothing of others; off in ours, of all.
                    if error.code != "RegionDisabledException" {
                        endpoint.refuses.store(true, Ordering::Relaxed);
                    }
                    last = Some(error);
                }
                answer => return answer,
            }
        }
        Err(last.unwrap_or_else(|| broken(operation, "no STS endpoint is configured".into())))
    }

    /// A session in `account`, from the cache while it has life left, else by AssumeRole.
    ///
    /// `run` names the session in CloudTrail. The account in AWS's answer must be the one that was
    /// meant. Where the account is the caller's own and has no such role (the management account
    /// usually), the caller's own credentials serve.
    pub async fn enter(
        &self,
        account: &AccountId,
        phase: Phase,
        run: &str,
    ) -> Result<Session, CloudError> {
        let key = (account.clone(), phase.clone(), run.to_owned());
        let place = crate::client::get_or_insert(&self.0.sessions.0, key, Place::default);
        // Whoever comes second waits for the answer that the first one asked for.
        let mut place = place.lock().await;
        if let Some(session) = place.as_ref().filter(|s| s.renew_at > now()) {
            return Ok(session.clone());
        }
        let caller = self.caller().await?;
        let session = match self.assume(&caller, account, &phase, run).await {
            Ok(session) => session,
            Err(error) if error.class == ErrorClass::Denied && caller.account == *account => {
                self.own(&caller).await?
            }
            Err(error) => return Err(error),
        };
        *place = Some(session.clone());
        Ok(session)
    }

    /// Ends our use of a session: the next [`Cloud::enter`] fetches a new one.
    pub fn leave(&self, account: &AccountId, phase: Phase, run: &str) {
        let mut cache = whole(&self.0.sessions.0);
        cache.remove(&(account.clone(), phase, run.to_owned()));
    }

    /// Sessions that nobody is fetching and whose time is up are dropped: memory follows the work, not
    /// the organization.
    pub(crate) fn forget_ended(&self) {
        let now = now();
        let mut cache = whole(&self.0.sessions.0);
        cache.retain(|_, place| match place.try_lock() {
            Ok(session) => session.as_ref().is_some_and(|s| s.renew_at > now),
            Err(_) => true,
        });
    }

    /// The role that is assumed in accounts, by its name.
    pub fn role_name(&self) -> &str {
        &self.0.settings.role_name
    }

    /// The role that is assumed in an account, as an ARN.
    pub async fn role_arn(&self, account: &AccountId) -> Result<String, CloudError> {
        Ok(role_of(&self.caller().await?, account, &self.0.settings.role_name))
    }

    async fn assume(
        &self,
        caller: &Caller,
        account: &AccountId,
        phase: &Phase,
        run: &str,
    ) -> Result<Session, CloudError> {
        const OP: &str = "sts:AssumeRole";
        let settings = &self.0.settings;
        let role = role_of(caller, account, &settings.role_name);
        let external = Some(settings.external_id.clone()).filter(|id| !id.is_empty());
        // Accounts are spread over the endpoints by their ids, the same way in every process.
        let first =
            account.as_str().bytes().fold(0_usize, |n, b| (n * 31 + usize::from(b)) % 65_521);
        let ask = |identity: Option<String>| {
            let (role, external) = (role.clone(), external.clone());
            self.sts(first, OP, move |sts| {
                let call = sts.assume_role().role_arn(&role).role_session_name(run);
                let call = call.duration_seconds(SESSION_SECONDS).policy(phase.policy());
                let call = call.set_external_id(external.clone());
                let call = call.set_source_identity(identity.clone());
                async move { call.send().await.map_err(|e| cloud_error(OP, e)) }
            })
        };
        // A probe's denials are told from harm by this; which rollout it is of, its session's name says.
        let identity = if *phase == Phase::Probe { probe::RUN } else { run };
        let identity =
            (settings.source_identity == SourceIdentity::Auto).then(|| identity.to_owned());
        let (mut note, mut identified) = (None, identity.is_some());
        let answer = match ask(identity).await {
            Err(e) if e.class == ErrorClass::Denied && e.message.contains("SetSourceIdentity") => {
                identified = false;
                note =
                    Some("the role's trust policy does not allow sts:SetSourceIdentity".to_owned());
                ask(None).await?
            }
            other => other?,
        };
        let arn = answer.assumed_role_user().map(|u| u.arn().to_owned()).unwrap_or_default();
        if arn.split(':').nth(4) != Some(account.as_str()) {
            return Err(broken(OP, format!("the session is {arn}, not of account {account}")));
        }
        let given = answer
            .credentials()
            .ok_or_else(|| broken(OP, "no credentials in the answer".into()))?;
        let end = SystemTime::try_from(*given.expiration())
            .map_err(|e| broken(OP, format!("the session's end: {e}")))?;
        let credentials = Credentials::new(
            given.access_key_id(),
            given.secret_access_key(),
            Some(given.session_token().to_owned()),
            Some(end),
            "ringfence",
        );
        Ok(Session {
            account: account.clone(),
            note,
            own: false,
            identified,
            credentials,
            renew_at: renew_at(now(), end),
        })
    }

    async fn own(&self, caller: &Caller) -> Result<Session, CloudError> {
        const OP: &str = "own credentials";
        let provider = self.0.base.credentials_provider();
        let provider = provider.ok_or_else(|| broken(OP, "there are none".into()))?;
        let credentials =
            provider.provide_credentials().await.map_err(|e| broken(OP, format!("{e}")))?;
        let hour = Duration::from_secs(3600);
        let end = credentials.expiry().unwrap_or_else(|| now() + hour);
        let note = Some(format!("the role is not there; own credentials ({}) serve", caller.arn));
        Ok(Session {
            account: caller.account.clone(),
            note,
            own: true,
            identified: false,
            credentials,
            renew_at: renew_at(now(), end),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_renewed_at_four_fifths_of_their_life() {
        let begin = SystemTime::UNIX_EPOCH;
        let at = |s| begin + Duration::from_secs(s);
        assert_eq!(renew_at(begin, at(3_600)), at(2_880));
        assert_eq!(renew_at(begin, at(900)), at(720));
        assert_eq!(renew_at(at(10), at(5)), at(10), "one that has ended is renewed at once");
    }

    fn session(key: &str) -> Session {
        let (account, credentials) =
            ("111122223333".parse().unwrap(), Credentials::new(key, "secret", None, None, "test"));
        let (own, identified) = (false, true);
        let renew_at = SystemTime::UNIX_EPOCH;
        Session { account, note: None, own, identified, credentials, renew_at }
    }

    #[tokio::test]
    async fn a_call_has_the_credentials_of_its_own_session_and_outside_of_one_none() {
        let key = || async {
            // Another call goes on in between.
            tokio::task::yield_now().await;
            let got = OfSession.provide_credentials().await;
            got.map(|c| c.access_key_id().to_owned())
        };
        let (a, b) = (session("A"), session("B"));
        let (first, second) = futures::join!(a.within(key()), b.within(key()));
        assert_eq!((first.unwrap(), second.unwrap()), ("A".to_owned(), "B".to_owned()));
        assert!(key().await.is_err(), "nobody's credentials, not the caller's");
    }

    #[test]
    fn session_policies_fit_and_scans_only_read() {
        let arn = format!("arn:aws-us-gov:rds:us-gov-west-1:111122223333:cluster:{:063}", 0);
        let decommission = Phase::Decommission(arn);
        let green = Phase::Green("bgd-0123456789abcdef".into());
        for phase in [Phase::Scan, Phase::Remediate, decommission, green, Phase::Keys, Phase::Probe]
        {
            assert!(phase.policy().len() <= 2_048, "{}", phase.policy().len());
        }
        let scan = Phase::Scan.policy();
        for verb in ["Create", "Delete", "Modify", "Restore", "rds:*", "kms:*"] {
            assert!(!scan.contains(verb), "{verb}");
        }
        let probe = Phase::Probe.policy();
        for verb in
            ["Delete", "Modify", "Restore", "\"rds:*\"", "\"kms:*\"", "iam:", "db:*", "subgrp:*"]
        {
            assert!(!probe.contains(verb), "{verb}");
        }
        let keys = Phase::Keys.policy();
        let grants = ["CreateGrant", "RevokeGrant", "RetireGrant"];
        for verb in ["rds:", "Delete", "Disable", "kms:*", "Decrypt"].into_iter().chain(grants) {
            assert!(!keys.contains(verb), "{verb}");
        }
    }
}
