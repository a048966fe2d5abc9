//! KMS keys: whether one can be used, what its policy says, and how one is made where there is none.

pub mod decide;
pub mod job;
mod judge;
pub mod list;
pub mod plan;
pub mod policy;

use crate::id::{AccountId, Region};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The tag of a key that we made; its value is the alias that it is for. A key whose alias was not made before
/// a crash is found by it, for `CreateKey` has no token that would make a repeat harmless.
pub const TAG: &str = "ringfence:alias";

/// The tag with the plan that it was made by. A key with [`TAG`] alone may be anybody's.
pub const PLAN_TAG: &str = "ringfence:key-plan";

/// Why no key is made in an account that has no role of ours.
pub const NO_ROLE: &str = "the account is entered with the server's own credentials: there is no role to let in; deploy the member role there first";

/// Which key is to be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// `kms.alias`.
    pub alias: String,
    /// `kms.account`: the account whose keys serve all; each account's own unless said.
    pub central: Option<AccountId>,
}

impl Wanted {
    /// How an account names it: the alias, or the ARN of another account's alias ("specify the key ARN or alias
    /// ARN" across accounts: KMS API reference, DescribeKey).
    pub fn id(&self, account: &AccountId, partition: &str, region: &Region) -> String {
        let alias = &self.alias;
        match &self.central {
            Some(central) if central != account => {
                format!("arn:{partition}:kms:{region}:{central}:{alias}")
            }
            _ => alias.clone(),
        }
    }

    /// Whether this is what a scan asked for; the configuration may have changed since.
    fn was_asked(&self, facts: &KeyFacts, account: &AccountId) -> bool {
        let alias = &self.alias;
        match &self.central {
            Some(central) if central != account => {
                facts.alias.ends_with(&format!(":{central}:{alias}"))
            }
            _ => facts.alias == *alias,
        }
    }
}

/// What AWS says of the key behind the alias, in one region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyFacts {
    /// The alias that was asked for.
    pub alias: String,
    /// What came of it.
    pub answer: Result<Key, String>,
}

/// A KMS key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Its ARN. An alias can be pointed elsewhere later; a database stays with the key, so this is
    /// what a plan keeps.
    pub arn: String,
    /// `Enabled`, `Disabled`, `PendingDeletion` ...
    pub state: String,
    /// `ENCRYPT_DECRYPT` ...
    pub usage: String,
    /// `SYMMETRIC_DEFAULT` ...
    pub spec: String,
    /// `CUSTOMER` or `AWS`.
    pub manager: String,
    /// Whether it rotates, or why that could not be read. Of a customer's key of the account itself; `None` of
    /// any other, and where it was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Result<bool, String>>,
    /// What its policy says; likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Result<policy::Facts, String>>,
    /// The operations that grants let the role use without any constraint, or why they could not be read. Read
    /// only where the policy alone does not let it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub granted: Option<Result<BTreeSet<String>, String>>,
}

impl Key {
    /// The account that owns it.
    pub fn account(&self) -> &str {
        self.arn.split(':').nth(4).unwrap_or_default()
    }

    /// Whether grants let us in where its policy does not say so. "A grant is a policy instrument that allows": none
    /// beats a denial (KMS guide, "Grants in AWS KMS").
    pub fn has_grants(&self) -> bool {
        let denied = |f: &policy::Facts| matches!(f.lets, policy::Lets::Denied(_));
        let denied = self.policy.as_ref().is_some_and(|p| p.as_ref().is_ok_and(denied));
        !denied && self.granted.as_ref().is_some_and(|g| g.as_ref().is_ok_and(policy::suffice))
    }
}

/// The word that AWS has for a key or alias that is not there.
pub const NOT_FOUND: &str = "NotFoundException";

impl KeyFacts {
    /// Why this key cannot be used in a cell, with what to do; `None` if it can.
    ///
    /// RDS takes only symmetric encryption keys that are enabled and in the same region (KMS guide,
    /// "How Amazon RDS uses AWS KMS"); snapshots under `alias/aws/rds` cannot be shared across
    /// accounts and its policy cannot be edited, so that key is refused.
    pub fn trouble(&self, account: &AccountId, region: &str) -> Option<String> {
        let alias = &self.alias;
        let key = match &self.answer {
            Ok(key) => key,
            Err(why) => return Some(self.unanswered(why, account, region)),
        };
        let arn = &key.arn;
        if alias == "alias/aws/rds" || key.manager == "AWS" {
            return Some(format!(
                "{alias} is a key that AWS manages: its policy cannot be edited nor its snapshots shared; set kms.alias to a customer managed key"
            ));
        }
        if arn.split(':').nth(3) != Some(region) {
            return Some(format!(
                "key {arn} is not in {region}: RDS needs a key of the same region"
            ));
        }
        match key.state.as_str() {
            "Enabled" => {}
            "Disabled" => {
                return Some(format!(
                    "key {arn} is disabled: run `aws kms enable-key --key-id {arn} --region {region}`"
                ));
            }
            "PendingDeletion" => {
                return Some(format!(
                    "key {arn} is waiting to be deleted, and what is under it is lost with it: `aws kms cancel-key-deletion --key-id {arn} --region {region}`, then `aws kms enable-key`"
                ));
            }
            other => return Some(format!("key {arn} is in state {other}, not Enabled")),
        }
        if key.usage != "ENCRYPT_DECRYPT" || key.spec != "SYMMETRIC_DEFAULT" {
            return Some(format!(
                "key {arn} is {} for {}: RDS needs a SYMMETRIC_DEFAULT key for ENCRYPT_DECRYPT",
                key.spec, key.usage
            ));
        }
        None
    }

    /// Why there is no key, as far as we can see.
    fn unanswered(&self, why: &str, account: &AccountId, region: &str) -> String {
        let alias = &self.alias;
        match (why, alias.split(':').nth(4)) {
            (_, Some(central)) => format!(
                "no usable key behind {alias} ({why}): it is account {central}'s to make, and its policy must admit {account}"
            ),
            (NOT_FOUND, None) => format!(
                "there is no key behind {alias} in {region}: `ringfence key ensure --account {account} --region {region} --everywhere` plans one"
            ),
            (_, None) => format!(
                "{alias} could not be read in {region} ({why}): there may be a key that does not let us look; its policy must let the member role kms:DescribeKey it"
            ),
        }
    }

    /// What the key's policy says of us, where it does not let us in or nobody can tell: whether that blocks,
    /// and what to do.
    pub fn shut_out(&self) -> Option<(bool, String)> {
        let key = self.answer.as_ref().ok()?;
        let arn = &key.arn;
        if key.has_grants() {
            return None;
        }
        match key.policy.as_ref()? {
            Ok(facts) => match &facts.lets {
                policy::Lets::Named | policy::Lets::ByIam => None,
                policy::Lets::No(why) => Some((
                    true,
                    format!("key {arn}: {why}: `ringfence key ensure` plans the statements"),
                )),
                policy::Lets::Denied(why) => Some((
                    true,
                    format!(
                        "key {arn}: {why}; take that statement out, or point {} at another key",
                        self.alias
                    ),
                )),
                policy::Lets::Unclear(why) => Some((
                    false,
                    format!("key {arn}: {why}; if it does not let us in, the first copy stops"),
                )),
            },
            Err(why) => Some((
                false,
                format!(
                    "key {arn}: its policy could not be read ({why}); if it does not let us in, the first copy stops"
                ),
            )),
        }
    }
}

/// A key of the account itself, as it should be, for the tests of this module's parts.
#[cfg(test)]
pub(crate) fn sample(rotates: bool, lets: policy::Lets, lacks: &[&str]) -> Key {
    let lacks = lacks.iter().map(|sid| (*sid).to_owned()).collect();
    Key {
        arn: "arn:aws:kms:eu-west-1:111122223333:key/1".into(),
        state: "Enabled".into(),
        usage: "ENCRYPT_DECRYPT".into(),
        spec: "SYMMETRIC_DEFAULT".into(),
        manager: "CUSTOMER".into(),
        rotation: Some(Ok(rotates)),
        policy: Some(Ok(policy::Facts { hash: "h".into(), lets, lacks })),
        granted: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(region: &str, state: &str, spec: &str, manager: &str) -> KeyFacts {
        KeyFacts {
            alias: "alias/k".into(),
            answer: Ok(Key {
                arn: format!("arn:aws:kms:{region}:111122223333:key/1"),
                state: state.into(),
                usage: "ENCRYPT_DECRYPT".into(),
                spec: spec.into(),
                manager: manager.into(),
                ..Key::default()
            }),
        }
    }

    #[test]
    fn unusable_keys_are_told_apart() {
        let good = key("eu-west-1", "Enabled", "SYMMETRIC_DEFAULT", "CUSTOMER");
        let account = "111122223333".parse().unwrap();
        assert_eq!(good.trouble(&account, "eu-west-1"), None);
        for (facts, want) in [
            (key("eu-west-1", "Disabled", "SYMMETRIC_DEFAULT", "CUSTOMER"), "enable-key"),
            (
                key("eu-west-1", "PendingDeletion", "SYMMETRIC_DEFAULT", "CUSTOMER"),
                "cancel-key-deletion",
            ),
            (key("eu-west-1", "Unavailable", "SYMMETRIC_DEFAULT", "CUSTOMER"), "not Enabled"),
            (key("us-east-1", "Enabled", "SYMMETRIC_DEFAULT", "CUSTOMER"), "same region"),
            (key("eu-west-1", "Enabled", "RSA_2048", "CUSTOMER"), "SYMMETRIC_DEFAULT"),
            (key("eu-west-1", "Enabled", "SYMMETRIC_DEFAULT", "AWS"), "customer managed"),
            (
                KeyFacts { alias: "alias/k".into(), answer: Err(NOT_FOUND.into()) },
                "key ensure --account 111122223333 --region eu-west-1 --everywhere",
            ),
            (
                KeyFacts { alias: "alias/k".into(), answer: Err("AccessDenied".into()) },
                "does not let us look",
            ),
            (
                KeyFacts {
                    alias: "arn:aws:kms:eu-west-1:999988887777:alias/k".into(),
                    answer: Err(NOT_FOUND.into()),
                },
                "999988887777's to make",
            ),
        ] {
            let said = facts.trouble(&account, "eu-west-1").unwrap_or_default();
            assert!(said.contains(want), "{want}: {said}");
        }
    }

    #[test]
    fn a_policy_that_shuts_us_out_blocks_and_one_that_nobody_can_tell_warns() {
        let with = |policy| {
            let mut facts = key("eu-west-1", "Enabled", "SYMMETRIC_DEFAULT", "CUSTOMER");
            facts.answer = facts.answer.map(|key| Key { policy, ..key });
            facts.shut_out().map(|(blocks, _)| blocks)
        };
        let lets =
            |lets| Some(Ok(policy::Facts { hash: String::new(), lets, lacks: Default::default() }));
        assert_eq!(with(None), None, "not asked");
        assert_eq!(with(lets(policy::Lets::ByIam)), None);
        assert_eq!(with(lets(policy::Lets::No("no".into()))), Some(true));
        assert_eq!(with(lets(policy::Lets::Denied("no".into()))), Some(true));
        assert_eq!(with(lets(policy::Lets::Unclear("maybe".into()))), Some(false));
        assert_eq!(with(Some(Err("AccessDenied".into()))), Some(false));
        // Grants let in where the policy does not, and never over a denial.
        let granted = |lets, operations: &[&str]| {
            let mut facts = key("eu-west-1", "Enabled", "SYMMETRIC_DEFAULT", "CUSTOMER");
            let policy =
                Some(Ok(policy::Facts { hash: String::new(), lets, lacks: Default::default() }));
            let granted = operations.iter().map(|o| (*o).to_owned()).collect();
            facts.answer =
                facts.answer.map(|key| Key { policy, granted: Some(Ok(granted)), ..key });
            facts.shut_out().map(|(blocks, _)| blocks)
        };
        let all = ["CreateGrant", "Decrypt", "DescribeKey", "GenerateDataKey"];
        assert_eq!(granted(policy::Lets::No("no".into()), &all), None);
        assert_eq!(granted(policy::Lets::Unclear("maybe".into()), &all), None);
        assert_eq!(granted(policy::Lets::No("no".into()), &all[1..]), Some(true));
        assert_eq!(granted(policy::Lets::Denied("no".into()), &all), Some(true));
    }

    #[test]
    fn a_central_key_is_named_by_the_arn_of_its_alias_from_elsewhere() {
        let (here, region) = ("111122223333".parse().unwrap(), "eu-west-1".parse().unwrap());
        let central = |c: Option<&str>| Wanted {
            alias: "alias/k".into(),
            central: c.map(|c| c.parse().unwrap()),
        };
        assert_eq!(central(None).id(&here, "aws", &region), "alias/k");
        assert_eq!(central(Some("111122223333")).id(&here, "aws", &region), "alias/k");
        let elsewhere = central(Some("999988887777")).id(&here, "aws-cn", &region);
        assert_eq!(elsewhere, "arn:aws-cn:kms:eu-west-1:999988887777:alias/k");
    }
}
