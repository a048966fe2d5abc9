//! `kms:DescribeKey`: the key behind the alias.

use crate::client::Cloud;
use crate::error::cloud_error;
use crate::limits::Class;
use crate::retry::To;
use crate::session::Session;
use ringfence_domain::cloud::{CloudError, ErrorClass};
use ringfence_domain::id::Region;
use ringfence_domain::rds::{Key, KeyFacts};

impl Cloud {
    /// Resolves an alias, or looks at a key by its ARN. A key that is not there, or not readable,
    /// is an answer; only a lost one is an error.
    pub async fn key(
        &self,
        session: &Session,
        region: &Region,
        key_id: &str,
    ) -> Result<KeyFacts, CloudError> {
        const OP: &str = "kms:DescribeKey";
        let client = self.kms(region.as_str());
        let to = To::cell(Class::KmsRead, session.account.as_str(), region.as_str());
        let answer = self
            .0
            .gate
            .read(to, OP, || async {
                let call = client.describe_key().key_id(key_id).send();
                session.within(call).await.map_err(|e| cloud_error(OP, e))
            })
            .await;
        let alias = key_id.to_owned();
        let answer = match answer {
            Ok(answer) => answer,
            Err(e) if matches!(e.class, ErrorClass::Throttled | ErrorClass::Unknown) => {
                return Err(e);
            }
            Err(e) => {
                let why = if e.code.is_empty() { e.message } else { e.code };
                return Ok(KeyFacts { alias, answer: Err(why) });
            }
        };
        let Some(key) = answer.key_metadata() else {
            return Ok(KeyFacts { alias, answer: Err(format!("{OP} answered without a key")) });
        };
        let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
        let key = Key {
            arn: text(key.arn()),
            state: text(key.key_state().map(|s| s.as_str())),
            // ENCRYPT_DECRYPT is the default and is left out by some endpoints.
            usage: key.key_usage().map_or("ENCRYPT_DECRYPT", |u| u.as_str()).to_owned(),
            spec: text(key.key_spec().map(|s| s.as_str())),
            manager: text(key.key_manager().map(|m| m.as_str())),
        };
        Ok(KeyFacts { alias, answer: Ok(key) })
    }
}
