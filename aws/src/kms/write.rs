//! KMS writes: a key, its policy, its rotation, its alias. None of them disables or deletes.

use crate::client::Cloud;
use crate::error::cloud_error;
use crate::limits::Class;
use crate::retry::To;
use crate::session::Session;
use aws_sdk_kms::types::Tag;
use ringfence_domain::cloud::{CloudError, ErrorClass};
use ringfence_domain::hash;
use ringfence_domain::id::Region;
use ringfence_domain::key::{TAG, policy};

fn to<'a>(session: &'a Session, region: &'a Region) -> To<'a> {
    To::cell(Class::KmsWrite, session.account.as_str(), region.as_str())
}

fn broken(operation: &str, message: String) -> CloudError {
    let class = ErrorClass::Invalid;
    CloudError { class, operation: operation.to_owned(), code: String::new(), message }
}

impl Cloud {
    /// Makes a symmetric key with our tag, under the policy that lets the role use it through RDS; its ARN.
    pub async fn create_key(
        &self,
        session: &Session,
        region: &Region,
        alias: &str,
        plan: &str,
    ) -> Result<String, CloudError> {
        const OP: &str = "kms:CreateKey";
        let tag = |key: &str, value: &str| {
            Tag::builder()
                .tag_key(key)
                .tag_value(value)
                .build()
                .map_err(|e| broken(OP, e.to_string()))
        };
        let (ours, of) = (tag(TAG, alias)?, tag("ringfence:key-plan", plan)?);
        let policy = policy::new(&self.key_caller(session, region).await?);
        let client = self.kms(region.as_str());
        let once = || async {
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
        let before = self.key_policy(session, region, key).await?;
        if hash::sha256(before.as_bytes()) != over {
            return Err(broken(OP, format!("the policy of {key} was changed since it was read")));
        }
        let caller = self.key_caller(session, region).await?;
        let policy = policy::merged(&before, &caller).map_err(|why| broken(OP, why))?;
        let client = self.kms(region.as_str());
        let once = || async {
            let call = client.put_key_policy().key_id(key).policy_name("default").policy(&policy);
            session.within(call.send()).await.map_err(|e| cloud_error(OP, e))
        };
        self.0.gate.write(to(session, region), OP, once).await.map(drop)
    }
}
