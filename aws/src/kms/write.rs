//! KMS writes: a key, its policy, its rotation, its alias. None of them disables or deletes.

use crate::client::Cloud;
use crate::error::{broken, cloud_error};
use crate::limits::Class;
use crate::retry::To;
use crate::session::{Session, now};
use aws_sdk_kms::types::Tag;
use ringfence_domain::cloud::{CloudError, ErrorClass};
use ringfence_domain::hash;
use ringfence_domain::id::Region;
use ringfence_domain::key::{PLAN_TAG, TAG, policy};
use ringfence_domain::time::{Span, Time};
use std::time::UNIX_EPOCH;

fn to<'a>(session: &'a Session, region: &'a Region) -> To<'a> {
    To::cell(Class::KmsWrite, session.account.as_str(), region.as_str())
}

impl Cloud {
    /// Makes a symmetric key with our tag, under the policy that lets the role use it through RDS; its ARN.
    pub async fn create_key(
        &self,
        session: &Session,
        region: &Region,
        (alias, plan): (&str, &str),
        not_after: Time,
    ) -> Result<String, CloudError> {
        const OP: &str = "kms:CreateKey";
        let not_after = UNIX_EPOCH + Span(not_after.0).to_duration();
        let tag = |key: &str, value: &str| {
            Tag::builder()
                .tag_key(key)
                .tag_value(value)
                .build()
                .map_err(|e| broken(OP, e.to_string()))
        };
        let (ours, of) = (tag(TAG, alias)?, tag(PLAN_TAG, plan)?);
        let policy = policy::new(&self.key_caller(session, region).await?);
        let client = self.kms(region.as_str());
        let once = || async {
            // Whoever was asleep for longer than others wait for it to show must not make a second one.
            if now() > not_after {
                return Err(broken(OP, "it was asked for too long ago".into()));
            }
            let call = client
                .create_key()
                .description("Encrypts RDS databases at rest; made by Ringfence")
                .policy(&policy)
                .tags(ours.clone())
                .tags(of.clone());
            session.within(call.send()).await.map_err(|e| cloud_error(OP, e))
        };
        let answer = self.0.gate.write(to(session, region), OP, once).await?;
        let arn = answer.key_metadata().and_then(|k| k.arn()).map(str::to_owned);
        // It was made all the same: it is found by its tag.
        arn.ok_or_else(|| CloudError {
            class: ErrorClass::Unknown,
            ..broken(OP, "it answered without a key".into())
        })
    }

    /// Turns a key's yearly rotation on.
    pub async fn rotate_key(
        &self,
        session: &Session,
        region: &Region,
        key: &str,
    ) -> Result<(), CloudError> {
        const OP: &str = "kms:EnableKeyRotation";
        let client = self.kms(region.as_str());
        let once = || async {
            let call = client.enable_key_rotation().key_id(key).send();
            session.within(call).await.map_err(|e| cloud_error(OP, e))
        };
        self.0.gate.write(to(session, region), OP, once).await.map(drop)
    }

    /// Points an alias that does not exist at a key.
    pub async fn name_key(
        &self,
        session: &Session,
        region: &Region,
        alias: &str,
        key: &str,
    ) -> Result<(), CloudError> {
        const OP: &str = "kms:CreateAlias";
        let client = self.kms(region.as_str());
        let once = || async {
            let call = client.create_alias().alias_name(alias).target_key_id(key).send();
            session.within(call).await.map_err(|e| cloud_error(OP, e))
        };
        self.0.gate.write(to(session, region), OP, once).await.map(drop)
    }

    /// Adds our statements to the policy with this hash. PutKeyPolicy replaces all of it and knows no version, so
    /// it is read again right before: one that was changed since is left alone.
    pub async fn admit_to_key(
        &self,
        session: &Session,
        region: &Region,
        key: &str,
        over: &str,
    ) -> Result<(), CloudError> {
        const OP: &str = "kms:PutKeyPolicy";
        let caller = self.key_caller(session, region).await?;
        let client = self.kms(region.as_str());
        // Before each try, for a try may wait long. It counts as one call with the put: whoever holds a place at the
        // host and waits for another one could wait for ever.
        let once = || async {
            let read = client.get_key_policy().key_id(key).policy_name("default").send();
            let read = session.within(read).await.map_err(|e| cloud_error(OP, e))?;
            let before = read.policy().unwrap_or_default();
            if hash::sha256(before.as_bytes()) != over {
                return Err(broken(
                    OP,
                    format!("the policy of {key} was changed since it was read"),
                ));
            }
            let policy = policy::merged(before, &caller).map_err(|why| broken(OP, why))?;
            let call = client.put_key_policy().key_id(key).policy_name("default").policy(policy);
            session.within(call.send()).await.map_err(|e| cloud_error(OP, e))
        };
        self.0.gate.write(to(session, region), OP, once).await.map(drop)
    }
}
