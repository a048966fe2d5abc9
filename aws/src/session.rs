//! Sessions in member accounts: one for an account and phase, checked before use.

use crate::client::{Cloud, SourceIdentity};
use crate::error::cloud_error;
use crate::limits::{Class, Key};
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use ringfence_domain::cloud::{CloudError, ErrorClass};
use ringfence_domain::id::AccountId;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// A role that is assumed from a role gets one hour at most, and asking for more fails (STS API
/// reference, AssumeRole, "role chaining").
const SESSION_SECONDS: i32 = 3600;

/// A session is renewed when this much of its life is left, so that no call meets its end.
const RENEW_LEFT: Duration = Duration::from_secs(720);

/// What a session may do, on top of what the role may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Read only.
    Scan,
    /// Make snapshots, copies and twins; delete nothing that lacks our tag.
    Remediate,
}

impl Phase {
    /// The session policy. STS counts at most 2,048 characters.
    fn policy(self) -> String {
        let policy = match self {
            Phase::Scan => serde_json::json!({
                "Version": "2012-10-17",
                "Statement": [{
                    "Effect": "Allow",
                    "Action": ["rds:Describe*", "kms:DescribeKey", "account:ListRegions"],
                    "Resource": "*"
                }]
            }),
            Phase::Remediate => serde_json::json!({
                "Version": "2012-10-17",
                "Statement": [
                    {"Effect": "Allow", "Action": ["rds:*", "kms:*", "iam:PassRole", "secretsmanager:*", "account:ListRegions"], "Resource": "*"},
                    {"Effect": "Deny", "Action": "rds:Delete*", "Resource": "*",
                     "Condition": {"Null": {"aws:ResourceTag/ringfence:remediation": "true"}}},
                    {"Effect": "Deny", "Action": ["kms:ScheduleKeyDeletion", "kms:DisableKey", "kms:PutKeyPolicy"], "Resource": "*"}
                ]
            }),
        };
        policy.to_string()
    }
}

/// Credentials in one account.
#[derive(Debug, Clone)]
pub struct Session {
    /// The account, proven by AWS's own answer.
    pub account: AccountId,
    /// Anything that people should know, for example that SourceIdentity could not be set.
    pub note: Option<String>,
    pub(crate) credentials: Credentials,
    expires: SystemTime,
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
    fn partition(&self) -> &str {
        self.arn.split(':').nth(1).unwrap_or("aws")
    }
}

#[derive(Default)]
pub(crate) struct Sessions(Mutex<HashMap<(AccountId, Phase, String), Session>>);

#[expect(clippy::disallowed_methods, reason = "AWS gives the end of a session as wall-clock time")]
fn now() -> SystemTime {
    SystemTime::now()
}

fn broken(operation: &str, message: String) -> CloudError {
    let class = ErrorClass::Invalid;
    CloudError { class, operation: operation.to_owned(), code: String::new(), message }
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
        let limits = &self.0.limits;
        let answer = limits
            .read(Class::Sts, Key::SHARED, || async {
                self.0.sts.get_caller_identity().send().await.map_err(|e| cloud_error(OP, e))
            })
            .await?;
        let account = answer.account().unwrap_or_default();
        let account = account.parse().map_err(|e| broken(OP, format!("{e}")))?;
        Ok(Caller { account, arn: answer.arn().unwrap_or_default().to_owned() })
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
        let cache = &self.0.sessions.0;
        let key = (account.clone(), phase, run.to_owned());
        let hit = cache.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(session) = hit.filter(|s| s.expires > now() + RENEW_LEFT) {
            return Ok(session);
        }
        let caller = self.caller().await?;
        let session = match self.assume(&caller, account, phase, run).await {
            Ok(session) => session,
            Err(error) if error.class == ErrorClass::Denied && caller.account == *account => {
                self.own(&caller).await?
            }
            Err(error) => return Err(error),
        };
        let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
        // Only live sessions are kept: memory follows the work, not the organization.
        cache.retain(|_, s| s.expires > now() + RENEW_LEFT);
        cache.insert(key, session.clone());
        Ok(session)
    }

    async fn assume(
        &self,
        caller: &Caller,
        account: &AccountId,
        phase: Phase,
        run: &str,
    ) -> Result<Session, CloudError> {
        const OP: &str = "sts:AssumeRole";
        let settings = &self.0.settings;
        let role = format!("arn:{}:iam::{account}:role/{}", caller.partition(), settings.role_name);
        let external = Some(settings.external_id.clone()).filter(|id| !id.is_empty());
        let ask = |identity: Option<String>| {
            let (role, external, limits) = (role.clone(), external.clone(), &self.0.limits);
            async move {
                limits
                    .read(Class::Sts, Key::SHARED, || async {
                        let call = self.0.sts.assume_role().role_arn(&role).role_session_name(run);
                        let call = call.duration_seconds(SESSION_SECONDS).policy(phase.policy());
                        let call = call.set_external_id(external.clone());
                        let call = call.set_source_identity(identity.clone());
                        call.send().await.map_err(|e| cloud_error(OP, e))
                    })
                    .await
            }
        };
        let identity = (settings.source_identity == SourceIdentity::Auto).then(|| run.to_owned());
        let mut note = None;
        let answer = match ask(identity).await {
            Err(e) if e.class == ErrorClass::Denied && e.message.contains("SetSourceIdentity") => {
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
        let expires = SystemTime::try_from(*given.expiration())
            .map_err(|e| broken(OP, format!("the session's end: {e}")))?;
        let credentials = Credentials::new(
            given.access_key_id(),
            given.secret_access_key(),
            Some(given.session_token().to_owned()),
            Some(expires),
            "ringfence",
        );
        Ok(Session { account: account.clone(), note, credentials, expires })
    }

    async fn own(&self, caller: &Caller) -> Result<Session, CloudError> {
        const OP: &str = "own credentials";
        let provider = self.0.base.credentials_provider();
        let provider = provider.ok_or_else(|| broken(OP, "there are none".into()))?;
        let credentials =
            provider.provide_credentials().await.map_err(|e| broken(OP, format!("{e}")))?;
        let hour = Duration::from_secs(3600);
        let expires = credentials.expiry().unwrap_or_else(|| now() + hour);
        let note = Some(format!("the role is not there; own credentials ({}) serve", caller.arn));
        Ok(Session { account: caller.account.clone(), note, credentials, expires })
    }

    /// Calls made and throttles met since the start.
    pub fn counts(&self) -> (u64, u64) {
        self.0.limits.counts()
    }

    /// Drops token buckets that are full again.
    pub fn forget_idle(&self) {
        self.0.limits.forget_idle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_policies_fit_and_scans_only_read() {
        for phase in [Phase::Scan, Phase::Remediate] {
            assert!(phase.policy().len() <= 2_048);
        }
        let scan = Phase::Scan.policy();
        for verb in ["Create", "Delete", "Modify", "Restore", "rds:*", "kms:*"] {
            assert!(!scan.contains(verb), "{verb}");
        }
    }
}
