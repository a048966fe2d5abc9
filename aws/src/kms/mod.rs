//! KMS in a member account: the key behind the alias, its rotation and its policy; keys that we made.

mod write;

use crate::client::Cloud;
use crate::error::cloud_error;
use crate::limits::Class;
use crate::retry::To;
use crate::session::Session;
use ringfence_domain::cloud::{CloudError, ErrorClass};
use ringfence_domain::id::Region;
use ringfence_domain::key::policy::{self, Caller, Lets};
use ringfence_domain::key::{Key, KeyFacts, PLAN_TAG, TAG, Wanted};
use std::collections::BTreeSet;

fn to<'a>(session: &'a Session, region: &'a Region) -> To<'a> {
    To::cell(Class::KmsRead, session.account.as_str(), region.as_str())
}

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
        let answer = self
            .0
            .gate
            .read(to(session, region), OP, || async {
                let call = client.describe_key().key_id(key_id).send();
                session.within(call).await.map_err(|e| cloud_error(OP, e))
            })
            .await;
        let alias = key_id.to_owned();
        let answer = match answer {
            Ok(answer) => answer,
            Err(e) if lost(&e) => return Err(e),
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
            ..Key::default()
        };
        Ok(KeyFacts { alias, answer: Ok(key) })
    }

    /// The key that is wanted in a cell, with its rotation and policy where it is the account's own.
    pub async fn key_facts(
        &self,
        session: &Session,
        region: &Region,
        wanted: &Wanted,
    ) -> Result<KeyFacts, CloudError> {
        let caller = self.caller().await?;
        let id = wanted.id(&session.account, caller.partition(), region);
        let mut facts = self.key(session, region, &id).await?;
        if let Ok(key) = &mut facts.answer {
            self.inside(session, region, key).await?;
        }
        Ok(facts)
    }

    /// Reads a key's rotation and policy. Of keys of other accounts, of AWS's, and where no role is let in,
    /// there is nothing to read.
    async fn inside(
        &self,
        session: &Session,
        region: &Region,
        key: &mut Key,
    ) -> Result<(), CloudError> {
        if key.manager == "AWS" || key.account() != session.account.as_str() || session.own {
            return Ok(());
        }
        key.rotation = Some(answered(self.rotates(session, region, &key.arn).await)?);
        let caller = self.key_caller(session, region).await?;
        let text = answered(self.key_policy(session, region, &key.arn).await)?;
        key.policy = Some(text.and_then(|text| policy::read(&text, &key.arn, &caller)));
        let shut = |f: &policy::Facts| matches!(f.lets, Lets::No(_) | Lets::Unclear(_));
        if key.policy.as_ref().is_some_and(|p| p.as_ref().is_ok_and(shut)) {
            let granted = self.granted(session, region, &key.arn, &caller.role).await;
            key.granted = Some(answered(granted)?);
        }
        Ok(())
    }

    /// The operations that grants let a role use without any constraint.
    async fn granted(
        &self,
        session: &Session,
        region: &Region,
        key: &str,
        role: &str,
    ) -> Result<BTreeSet<String>, CloudError> {
        const OP: &str = "kms:ListGrants";
        let client = self.kms(region.as_str());
        let (mut granted, mut marker) = (BTreeSet::new(), None::<String>);
        loop {
            let once = || async {
                let call = client.list_grants().key_id(key).grantee_principal(role);
                let call = call.limit(100).set_marker(marker.clone()).send();
                session.within(call).await.map_err(|e| cloud_error(OP, e))
            };
            let page = self.0.gate.read(to(session, region), OP, once).await?;
            let free = page.grants().iter().filter(|g| g.constraints().is_none());
            granted.extend(free.flat_map(|g| g.operations()).map(|o| o.as_str().to_owned()));
            marker = page.next_marker().filter(|_| page.truncated()).map(str::to_owned);
            if marker.is_none() {
                return Ok(granted);
            }
        }
    }

    /// Whom a key's policy is to let in.
    pub async fn key_caller(
        &self,
        session: &Session,
        region: &Region,
    ) -> Result<Caller, CloudError> {
        Ok(Caller {
            partition: self.caller().await?.partition().to_owned(),
            account: session.account.to_string(),
            region: region.to_string(),
            role: self.role_arn(&session.account).await?,
        })
    }

    async fn rotates(
        &self,
        session: &Session,
        region: &Region,
        key: &str,
    ) -> Result<bool, CloudError> {
        const OP: &str = "kms:GetKeyRotationStatus";
        let client = self.kms(region.as_str());
        let once = || async {
            let call = client.get_key_rotation_status().key_id(key).send();
            session.within(call).await.map_err(|e| cloud_error(OP, e))
        };
        Ok(self.0.gate.read(to(session, region), OP, once).await?.key_rotation_enabled())
    }

    /// A key's policy as text. It has one, named `default` (KMS API reference, GetKeyPolicy).
    async fn key_policy(
        &self,
        session: &Session,
        region: &Region,
        key: &str,
    ) -> Result<String, CloudError> {
        const OP: &str = "kms:GetKeyPolicy";
        let client = self.kms(region.as_str());
        let once = || async {
            let call = client.get_key_policy().key_id(key).policy_name("default").send();
            session.within(call).await.map_err(|e| cloud_error(OP, e))
        };
        let answer = self.0.gate.read(to(session, region), OP, once).await?;
        Ok(answer.policy().unwrap_or_default().to_owned())
    }

    /// Keys of a cell that we made for this alias and one of these plans, by their tags; and those that do not let
    /// us see their tags, which may be among them.
    pub async fn keys_made_for(
        &self,
        session: &Session,
        region: &Region,
        alias: &str,
        plans: &[&str],
    ) -> Result<(Vec<Key>, Vec<String>), CloudError> {
        let (mut found, mut unread) = (Vec::new(), Vec::new());
        for arn in self.key_arns(session, region).await? {
            match self.is_for(session, region, &arn, (alias, plans)).await? {
                Some(true) => match self.key_by_arn(session, region, &arn).await? {
                    Some(key) => found.push(key),
                    None => unread.push(arn),
                },
                Some(false) => {}
                None => unread.push(arn),
            }
        }
        Ok((found, unread))
    }

    /// A key with its rotation and policy; `None` where it is not there or may not be looked at.
    pub async fn key_by_arn(
        &self,
        session: &Session,
        region: &Region,
        arn: &str,
    ) -> Result<Option<Key>, CloudError> {
        let Ok(mut key) = self.key(session, region, arn).await?.answer else { return Ok(None) };
        self.inside(session, region, &mut key).await?;
        Ok(Some(key))
    }

    async fn key_arns(
        &self,
        session: &Session,
        region: &Region,
    ) -> Result<Vec<String>, CloudError> {
        const OP: &str = "kms:ListKeys";
        let client = self.kms(region.as_str());
        let (mut arns, mut marker) = (Vec::new(), None::<String>);
        loop {
            let once = || async {
                let call = client.list_keys().limit(1_000).set_marker(marker.clone()).send();
                session.within(call).await.map_err(|e| cloud_error(OP, e))
            };
            let page = self.0.gate.read(to(session, region), OP, once).await?;
            arns.extend(page.keys().iter().filter_map(|k| k.key_arn().map(str::to_owned)));
            marker = page.next_marker().filter(|_| page.truncated()).map(str::to_owned);
            if marker.is_none() {
                return Ok(arns);
            }
        }
    }

    async fn is_for(
        &self,
        session: &Session,
        region: &Region,
        key: &str,
        (alias, plans): (&str, &[&str]),
    ) -> Result<Option<bool>, CloudError> {
        const OP: &str = "kms:ListResourceTags";
        let client = self.kms(region.as_str());
        let once = || async {
            let call = client.list_resource_tags().key_id(key).send();
            session.within(call).await.map_err(|e| cloud_error(OP, e))
        };
        match self.0.gate.read(to(session, region), OP, once).await {
            // All on one page: a key has 50 tags at most.
            Ok(page) => {
                let has = |tag: &str, fits: &dyn Fn(&str) -> bool| {
                    page.tags().iter().any(|t| t.tag_key() == tag && fits(t.tag_value()))
                };
                Ok(Some(has(TAG, &|v| v == alias) && has(PLAN_TAG, &|v| plans.contains(&v))))
            }
            Err(e) if lost(&e) => Err(e),
            Err(e) if e.class == ErrorClass::NotFound => Ok(Some(false)),
            // AWS's own keys are not ours; of others nobody knows.
            Err(_) => match self.key(session, region, key).await?.answer {
                Ok(key) if key.manager == "AWS" => Ok(Some(false)),
                _ => Ok(None),
            },
        }
    }
}

/// Whether nothing came back.
fn lost(error: &CloudError) -> bool {
    matches!(error.class, ErrorClass::Throttled | ErrorClass::Unknown)
}

/// That something may not be read is an answer; that nothing came back is an error.
fn answered<T>(read: Result<T, CloudError>) -> Result<Result<T, String>, CloudError> {
    match read {
        Ok(value) => Ok(Ok(value)),
        Err(e) if lost(&e) => Err(e),
        Err(e) => Ok(Err(e.to_string())),
    }
}
