//! Who may use a key: its policy, IAM, and what RDS asks for when it makes a grant.
//! Source: KMS guide, "Default key policy", "kms:ViaService"; RDS user guide, "AWS KMS key management".

use super::{AWS_RDS, Key, Kms, read_key_tags};
use crate::fault::Fault;
use crate::value::{Map, Time};
use crate::world::authorize::{Resource, judge};
use crate::world::{AccountId, Ctx, Principal, Region, World};
use iam_rs::{ContextValue, Decision, IAMPolicy};
use std::sync::Arc;

/// A key with what conditions may ask of it.
fn described(kms: &Kms, key: &Key) -> Resource {
    let aliases = kms.aliases.iter().filter(|(_, id)| **id == key.id);
    let aliases = aliases.map(|(name, _)| name.clone()).collect();
    let mut resource = Resource::new(key.arn.clone()).tags("aws:ResourceTag/", &key.tags);
    resource.keys.push(("kms:ResourceAliases".into(), ContextValue::StringList(aliases)));
    resource
}

/// A statement for arn:aws:iam::ACCOUNT:root stands for every principal whom IAM allows it.
fn root_of(who: &Principal) -> Principal {
    let principal_arn = format!("arn:aws:iam::{}:root", who.account);
    Principal { principal_arn, ..who.clone() }
}

/// "The key policy must allow the calling principal to make a subsequent PutKeyPolicy request" (KMS API
/// reference, PutKeyPolicy and CreateKey, BypassPolicyLockoutSafetyCheck).
pub(super) fn keeps_it(ctx: &Ctx<'_>, policy: &Arc<IAMPolicy>) -> Result<(), Fault> {
    let arn = format!("arn:aws:kms:{}:{}:key/new", ctx.region, ctx.account);
    let (resource, base) = (Resource::new(arn), ctx.world.base_context(ctx.who, ctx.region));
    let root = root_of(ctx.who);
    let allows = |who| judge(policy, who, "kms:PutKeyPolicy", &resource, &base) == Decision::Allow;
    match allows(ctx.who) || allows(&root) {
        true => Ok(()),
        false => Err(Fault::new(
            400,
            "MalformedPolicyDocumentException",
            "The new key policy will not allow you to update the key policy in the future.",
        )),
    }
}

/// What a call is authorized against: the key with its tags and aliases, an alias and its key, or, for a key that
/// is yet to be made, its tags (Service Authorization Reference, AWS KMS).
pub(crate) fn resources(kms: &Kms, op: &str, place: &str, params: &Map) -> Vec<Resource> {
    let alias = params.text("AliasName").map(|name| Resource::new(format!("{place}:{name}")));
    let name = params.text("KeyId").or(params.text("TargetKeyId")).unwrap_or_default();
    let mut all: Vec<Resource> =
        alias.into_iter().chain(kms.find(name).map(|key| described(kms, key))).collect();
    if all.is_empty() {
        let mut resource = Resource::new(format!("{place}:*"));
        if let ("CreateKey", Ok(tags)) = (op, read_key_tags(params)) {
            resource = resource.tags("aws:RequestTag/", &tags);
        }
        all.push(resource);
    }
    all
}

/// Whether the key's policy lets a principal do something, by itself or by handing the decision to the
/// account's IAM policies.
pub(super) fn key_allows(
    world: &World,
    key: &Key,
    who: &Principal,
    region: Region,
    action: &str,
    via_rds: bool,
) -> bool {
    let home = key.arn.split(':').nth(4).and_then(|account| account.parse().ok());
    let kms = home.and_then(|home| world.cells.get(&(home, region))).map(|cell| &cell.kms);
    let resource = match kms {
        Some(kms) => described(kms, key),
        None => Resource::new(key.arn.clone()),
    };
    let mut resource = resource.text("kms:CallerAccount", who.account.to_string());
    if via_rds {
        resource = resource
            .text("kms:ViaService", format!("rds.{region}.amazonaws.com"))
            .flag("kms:GrantIsForAWSResource", true);
    }
    let base = world.base_context(who, region);
    let allows =
        |policy: &Arc<IAMPolicy>| judge(policy, who, action, &resource, &base) == Decision::Allow;
    let own = || [&who.role_policy, &who.session_policy].into_iter().flatten();
    let iam = own().all(allows);
    let forbidden = own().any(|p| judge(p, who, action, &resource, &base) == Decision::Deny);
    let at_home = key.arn.split(':').nth(4) == Some(&who.account.to_string());
    let Some((_, policy)) = &key.policy else {
        // The default policy hands the decision to the account's IAM policies.
        return iam && at_home;
    };
    let direct = judge(policy, who, action, &resource, &base);
    let delegated = judge(policy, &root_of(who), action, &resource, &base);
    if forbidden || direct == Decision::Deny || delegated == Decision::Deny {
        return false;
    }
    // At home the key's own word is enough for a role, and a session policy still takes away; across
    // accounts both sides must allow it (IAM guide, "Cross-account policy evaluation").
    let session = who.session_policy.iter().all(allows);
    let operation = action.trim_start_matches("kms:");
    let granted = key.grants.iter().any(|grant| {
        grant.text("GranteePrincipal") == Some(&who.principal_arn)
            && grant.texts("Operations").iter().any(|o| o == operation)
    });
    // "A grant is a policy instrument that allows AWS principals to use KMS keys" (KMS guide, "Grants").
    (direct == Decision::Allow && if at_home { session } else { iam })
        || (delegated == Decision::Allow && iam)
        || (granted && session)
}

impl World {
    /// The ARN of the key that RDS shall use for this principal; RDS checks that it may make the grant
    /// it keeps for the life of the database (RDS user guide, "AWS KMS key management").
    pub(crate) fn key_for_rds(
        &mut self,
        (account, region): (AccountId, Region),
        who: &Principal,
        name: Option<&str>,
        now: Time,
    ) -> Result<String, Fault> {
        let name = name.unwrap_or(AWS_RDS);
        let bad = |why: String| {
            let message = format!(
                "The specified KMS key [{name}] does not exist, is not enabled or you do not have permissions to access it. {why}"
            );
            Fault::new(400, "KMSKeyNotAccessibleFault", message.trim_end().to_owned())
        };
        let mut home = account;
        if let Some(rest) = name.strip_prefix("arn:") {
            let parts: Vec<&str> = rest.split(':').collect();
            // "KMS keys are specific to the Region they are created in."
            if parts.get(2) != Some(&region) {
                return Err(bad(format!("The key is not in {region}.")));
            }
            home = parts.get(3).copied().unwrap_or_default().parse()?;
        }
        if home != account {
            self.enter(home, region, now);
        }
        let seed = self.settings.seed;
        let kms = &mut self.cell_mut(home, region).kms;
        if name == AWS_RDS && kms.find(AWS_RDS).is_none() {
            let key = kms.add((home, region), seed ^ 9, Some(AWS_RDS), now);
            key.aws_managed = true;
            key.description =
                "Default key that protects my RDS database volumes when no other key is defined"
                    .into();
        }
        let kms = self.cells.get(&(home, region)).map(|c| &c.kms);
        let key = kms.and_then(|k| k.find(name)).ok_or_else(|| bad(String::new()))?;
        if key.state != "Enabled" || key.spec != "SYMMETRIC_DEFAULT" {
            return Err(bad(format!("Its state is {}.", key.state)));
        }
        let levels = self.levels_that_bite(who, now);
        let base = self.base_context(who, region);
        for action in ["kms:DescribeKey", "kms:CreateGrant"] {
            // SCPs hold for the calls that RDS makes in the caller's name, too.
            let resource = Resource::new(key.arn.clone())
                .text("kms:ViaService", format!("rds.{region}.amazonaws.com"));
            if let Some(fault) = self.scp_denial(&levels, who, action, &resource, &base) {
                return Err(bad(fault.message));
            }
            if !key.aws_managed && !key_allows(self, key, who, region, action, true) {
                return Err(bad(format!("{} may not {action} through RDS.", who.arn)));
            }
        }
        Ok(key.arn.clone())
    }

    /// Whether a database under this key can be used.
    pub(crate) fn key_enabled(&self, arn: &str) -> bool {
        let parts: Vec<&str> = arn.split(':').collect();
        let place = parts
            .get(4)
            .and_then(|a| a.parse().ok())
            .zip(parts.get(3).and_then(|r| crate::regions::find(r)));
        let key = place.and_then(|p| self.cells.get(&p)).and_then(|c| c.kms.find(arn));
        key.is_some_and(|k| k.state == "Enabled")
    }
}
