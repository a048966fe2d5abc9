//! KMS: keys, aliases, states, key policies, and the grants that RDS makes.
//! Source: KMS API reference; KMS guide, "Key states", "Default key policy", "kms:ViaService".

mod access;

use super::organizations::read_tags;
use super::{AccountId, Ctx, Op, Region, op};
use crate::fault::{Fault, Kind};
use crate::hash;
use crate::value::{Map, Time, list};
pub(crate) use access::resources;
use access::{keeps_it, key_allows};
use iam_rs::IAMPolicy;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) const OPS: &[Op] = &[
    op!(Write "CreateKey" (
        "Description", "KeyUsage", "KeySpec", "CustomerMasterKeySpec", "Origin", "Policy", "Tags",
        "MultiRegion", "BypassPolicyLockoutSafetyCheck",
    ) create),
    op!(Read "DescribeKey" ("KeyId", "GrantTokens") describe),
    op!(Read "ListKeys" ("Limit", "Marker") list_keys),
    op!(Write "CreateAlias" ("AliasName", "TargetKeyId") create_alias),
    op!(Write "UpdateAlias" ("AliasName", "TargetKeyId") update_alias),
    op!(Write "DeleteAlias" ("AliasName") delete_alias),
    op!(Read "ListAliases" ("KeyId", "Limit", "Marker") aliases),
    op!(Read "GetKeyPolicy" ("KeyId", "PolicyName") get_policy),
    op!(Write "PutKeyPolicy" ("KeyId", "PolicyName", "Policy", "BypassPolicyLockoutSafetyCheck") put_policy),
    op!(Write "EnableKey" ("KeyId") enable),
    op!(Write "DisableKey" ("KeyId") disable),
    op!(Write "ScheduleKeyDeletion" ("KeyId", "PendingWindowInDays") schedule_deletion),
    op!(Write "CancelKeyDeletion" ("KeyId") cancel_deletion),
    op!(Write "EnableKeyRotation" ("KeyId", "RotationPeriodInDays") enable_rotation),
    op!(Write "DisableKeyRotation" ("KeyId") disable_rotation),
    op!(Read "GetKeyRotationStatus" ("KeyId") rotation),
    op!(Write "CreateGrant" (
        "KeyId", "GranteePrincipal", "RetiringPrincipal", "Operations", "Constraints", "GrantTokens", "Name",
    ) create_grant),
    op!(Read "ListGrants" ("KeyId", "Limit", "Marker", "GrantId", "GranteePrincipal") grants),
    op!(Write "RevokeGrant" ("KeyId", "GrantId") revoke),
    op!(Write "TagResource" ("KeyId", "Tags") tag),
    op!(Read "ListResourceTags" ("KeyId", "Limit", "Marker") tags),
];

/// The alias of the key that AWS manages for RDS.
const AWS_RDS: &str = "alias/aws/rds";

#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) id: String,
    pub(crate) arn: String,
    pub(crate) state: &'static str,
    description: String,
    spec: String,
    usage: String,
    aws_managed: bool,
    multi_region: bool,
    rotation: bool,
    deletion: Option<Time>,
    created: Time,
    /// None: the default policy.
    policy: Option<(String, Arc<IAMPolicy>)>,
    grants: Vec<Map>,
    tags: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Kms {
    keys: BTreeMap<String, Key>,
    aliases: BTreeMap<String, String>,
}

impl Kms {
    /// A key by its id, ARN, alias or alias ARN.
    pub(crate) fn find(&self, name: &str) -> Option<&Key> {
        let last = if name.starts_with("arn:") { name.splitn(6, ':').nth(5)? } else { name };
        let id = match last.strip_prefix("key/") {
            Some(id) => id,
            None if last.starts_with("alias/") => self.aliases.get(last)?,
            None => last,
        };
        self.keys.get(id)
    }

    fn find_mut(&mut self, name: &str) -> Option<&mut Key> {
        let id = self.find(name)?.id.clone();
        self.keys.get_mut(&id)
    }

    /// A new key under the default policy, with an alias where one is given.
    pub(crate) fn add(
        &mut self,
        (account, region): (AccountId, Region),
        seed: u64,
        alias: Option<&str>,
        now: Time,
    ) -> &mut Key {
        let id = hash::uuid(seed ^ account.0, hash::of(self.keys.len() as u64, region));
        let key = Key {
            arn: format!("arn:aws:kms:{region}:{account}:key/{id}"),
            id: id.clone(),
            state: "Enabled",
            description: String::new(),
            spec: "SYMMETRIC_DEFAULT".into(),
            usage: "ENCRYPT_DECRYPT".into(),
            aws_managed: false,
            multi_region: false,
            rotation: false,
            deletion: None,
            created: now,
            policy: None,
            grants: Vec::new(),
            tags: BTreeMap::new(),
        };
        if let Some(alias) = alias {
            self.aliases.insert(alias.to_owned(), id.clone());
        }
        self.keys.entry(id).or_insert(key)
    }
}

/// "Allows the account full access, and lets IAM policies give access to the key" (KMS guide, default
/// key policy).
fn default_policy(account: AccountId) -> String {
    serde_json::json!({
        "Version": "2012-10-17",
        "Id": "key-default-1",
        "Statement": [{
            "Sid": "Enable IAM User Permissions", "Effect": "Allow",
            "Principal": {"AWS": format!("arn:aws:iam::{account}:root")},
            "Action": "kms:*", "Resource": "*",
        }],
    })
    .to_string()
}

fn not_found(name: &str) -> Fault {
    Fault::new(400, "NotFoundException", format!("Key '{name}' does not exist"))
}

fn metadata(account: AccountId, key: &Key) -> Map {
    let map = Map::new()
        .with("KeyId", &key.id)
        .with("Arn", &key.arn)
        .with("AWSAccountId", account.to_string())
        .with("CreationDate", key.created)
        .with("Enabled", key.state == "Enabled")
        .with("Description", &key.description)
        .with("KeyUsage", &key.usage)
        .with("KeyState", key.state)
        .with("Origin", "AWS_KMS")
        .with("KeyManager", if key.aws_managed { "AWS" } else { "CUSTOMER" })
        .with("CustomerMasterKeySpec", &key.spec)
        .with("KeySpec", &key.spec)
        .with("MultiRegion", key.multi_region);
    map.maybe("DeletionDate", key.deletion)
}

fn create(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let policy = params.text("Policy").map(parse).transpose()?;
    if let Some((_, parsed)) = policy.as_ref().filter(|_| !bypasses(params)) {
        keeps_it(ctx, parsed)?;
    }
    let tags = read_key_tags(params)?;
    let (account, region, now) = (ctx.account, ctx.region, ctx.now);
    let seed = ctx.world.settings.seed;
    let key = ctx.cell().kms.add((account, region), seed, None, now);
    key.description = params.text_or_empty("Description").to_owned();
    if let Some(spec) = params.text("KeySpec").or(params.text("CustomerMasterKeySpec")) {
        key.spec = spec.to_owned();
    }
    if let Some(usage) = params.text("KeyUsage") {
        key.usage = usage.to_owned();
    }
    key.multi_region = params.flag("MultiRegion")?.unwrap_or(false);
    key.policy = policy;
    key.tags = tags;
    let metadata = metadata(account, key);
    Ok(Map::new().with("KeyMetadata", metadata))
}

fn bypasses(params: &Map) -> bool {
    matches!(params.flag("BypassPolicyLockoutSafetyCheck"), Ok(Some(true)))
}

fn parse(policy: &str) -> Result<(String, Arc<IAMPolicy>), Fault> {
    let parsed = IAMPolicy::from_json(policy)
        .map_err(|e| Fault::new(400, "MalformedPolicyDocumentException", e.to_string()))?;
    Ok((policy.to_owned(), Arc::new(parsed)))
}

fn read_key_tags(params: &Map) -> Result<BTreeMap<String, String>, Fault> {
    let tags = params.maps("Tags").map(|t| {
        Map::new()
            .with("Key", t.text_or_empty("TagKey").to_owned())
            .with("Value", t.text_or_empty("TagValue").to_owned())
    });
    read_tags(&Map::new().with("Tags", list("member", tags)))
}

/// The key that a request names, in any of the four ways, if the caller may do this to it.
fn named(ctx: &Ctx<'_>, params: &Map, action: &str) -> Result<Key, Fault> {
    let name = params.required("KeyId")?;
    let mut place = (ctx.account, ctx.region);
    if let Some(rest) = name.strip_prefix("arn:") {
        let parts: Vec<&str> = rest.split(':').collect();
        if parts.get(2) != Some(&ctx.region) {
            return Err(Fault::new(400, "NotFoundException", "Invalid arn"));
        }
        place.0 = parts.get(3).copied().unwrap_or_default().parse()?;
    }
    let kms = ctx.world.cells.get(&place).map(|c| &c.kms);
    let key = kms.and_then(|k| k.find(name)).ok_or_else(|| not_found(name))?;
    if !key.aws_managed && !key_allows(ctx.world, key, ctx.who, ctx.region, action, false) {
        let message = format!(
            "User: {} is not authorized to perform: {action} on resource: {} because no resource-based policy allows the {action} action",
            ctx.who.arn, key.arn
        );
        return Err(Fault::of(Kind::Denied, message));
    }
    Ok(key.clone())
}

/// Changes the key that a request names.
fn change<T>(
    ctx: &mut Ctx<'_>,
    params: &Map,
    action: &str,
    how: impl FnOnce(&mut Key) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let key = named(ctx, params, action)?;
    if key.aws_managed {
        let message = format!("{} is managed by AWS and cannot be changed", key.arn);
        return Err(Fault::new(400, "UnsupportedOperationException", message));
    }
    let found = ctx.cell().kms.find_mut(&key.id).ok_or_else(|| not_found(&key.id))?;
    how(found)
}

fn wrong_state(key: &Key) -> Fault {
    let message = format!("{} is {}.", key.arn, key.state);
    Fault::new(400, "KMSInvalidStateException", message)
}

fn describe(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    // An alias that only AWS could have made is made on first use.
    if params.text("KeyId") == Some(AWS_RDS) {
        let who = ctx.who.clone();
        let _ = ctx.world.key_for_rds((ctx.account, ctx.region), &who, None, ctx.now);
    }
    let key = named(ctx, params, "kms:DescribeKey")?;
    let account = key.arn.split(':').nth(4).unwrap_or_default().parse()?;
    Ok(Map::new().with("KeyMetadata", metadata(account, &key)))
}

/// All on one page: a cell of this world has few keys.
fn whole(name: &'static str, maps: Vec<Map>) -> Map {
    Map::new().with(name, list("member", maps)).with("Truncated", false)
}

fn list_keys(ctx: &mut Ctx<'_>, _: &Map) -> Result<Map, Fault> {
    let key = |k: &Key| Map::new().with("KeyId", &k.id).with("KeyArn", &k.arn);
    Ok(whole("Keys", ctx.cell().kms.keys.values().map(key).collect()))
}

fn alias_name(params: &Map) -> Result<&str, Fault> {
    let name = params.required("AliasName")?;
    let good = |c: char| c.is_ascii_alphanumeric() || "/_-".contains(c);
    let body = name.strip_prefix("alias/").unwrap_or_default();
    if body.is_empty() || body.starts_with("aws/") || !body.chars().all(good) {
        let message =
            "Alias must start with the prefix \"alias/\" and must not be reserved for AWS";
        return Err(Fault::new(400, "InvalidAliasNameException", message));
    }
    Ok(name)
}

fn put_alias(ctx: &mut Ctx<'_>, params: &Map, there: bool) -> Result<Map, Fault> {
    let name = alias_name(params)?.to_owned();
    let target = params.required("TargetKeyId")?.to_owned();
    let arn = ctx.arn("kms", &name);
    let kms = &mut ctx.cell().kms;
    if kms.aliases.contains_key(&name) != there {
        return Err(match there {
            true => Fault::new(400, "NotFoundException", format!("Alias {arn} is not found.")),
            false => Fault::new(
                400,
                "AlreadyExistsException",
                format!("An alias with the name {arn} already exists"),
            ),
        });
    }
    let id = kms.find(&target).map(|k| k.id.clone()).ok_or_else(|| not_found(&target))?;
    kms.aliases.insert(name, id);
    Ok(Map::new())
}

fn create_alias(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    put_alias(ctx, params, false)
}

fn update_alias(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    put_alias(ctx, params, true)
}

fn delete_alias(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let name = params.required("AliasName")?.to_owned();
    let arn = ctx.arn("kms", &name);
    match ctx.cell().kms.aliases.remove(&name) {
        Some(_) => Ok(Map::new()),
        None => Err(Fault::new(400, "NotFoundException", format!("Alias {arn} is not found."))),
    }
}

fn aliases(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let arn = ctx.arn("kms", "");
    let kms = &mut ctx.cell().kms;
    let only = params.text("KeyId").map(|name| kms.find(name).map(|k| k.id.clone()));
    let all =
        kms.aliases.iter().filter(|(_, id)| only.as_ref().is_none_or(|o| o.as_ref() == Some(*id)));
    let alias = |(name, id): (&String, &String)| {
        let map = Map::new().with("AliasName", name).with("AliasArn", format!("{arn}{name}"));
        map.with("TargetKeyId", id)
    };
    Ok(whole("Aliases", all.map(alias).collect()))
}

fn get_policy(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let key = named(ctx, params, "kms:GetKeyPolicy")?;
    let account = key.arn.split(':').nth(4).unwrap_or_default().parse()?;
    let policy = key.policy.map_or_else(|| default_policy(account), |(text, _)| text);
    Ok(Map::new().with("Policy", policy).with("PolicyName", "default"))
}

fn put_policy(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let policy = parse(params.required("Policy")?)?;
    if !bypasses(params) {
        keeps_it(ctx, &policy.1)?;
    }
    change(ctx, params, "kms:PutKeyPolicy", |key| {
        key.policy = Some(policy);
        Ok(Map::new())
    })
}

/// What is under a key that is no longer enabled becomes unusable two hours later.
fn turn(ctx: &mut Ctx<'_>, params: &Map, action: &str, state: &'static str) -> Result<Map, Fault> {
    let arn = change(ctx, params, action, |key| {
        if key.state == "PendingDeletion" {
            return Err(wrong_state(key));
        }
        key.state = state;
        Ok(key.arn.clone())
    })?;
    let lost = ctx.after(super::rds::seconds::KEY_LOST);
    match state {
        "Enabled" => ctx.rds().key_back(&arn),
        _ => ctx.rds().key_lost(&arn, lost),
    }
    Ok(Map::new())
}

fn enable(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    turn(ctx, params, "kms:EnableKey", "Enabled")
}

fn disable(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    turn(ctx, params, "kms:DisableKey", "Disabled")
}

fn schedule_deletion(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let days = params.int("PendingWindowInDays")?.unwrap_or(30);
    if !(7..=30).contains(&days) {
        return Err(Fault::validation("PendingWindowInDays must be between 7 and 30"));
    }
    let end = ctx.now.plus(days * 86_400_000);
    let arn = named(ctx, params, "kms:ScheduleKeyDeletion")?.arn;
    let lost = ctx.after(super::rds::seconds::KEY_LOST);
    ctx.rds().key_lost(&arn, lost);
    change(ctx, params, "kms:ScheduleKeyDeletion", |key| {
        if key.state == "PendingDeletion" {
            return Err(wrong_state(key));
        }
        (key.state, key.deletion) = ("PendingDeletion", Some(end));
        Ok(Map::new()
            .with("KeyId", &key.arn)
            .with("DeletionDate", end)
            .with("KeyState", "PendingDeletion")
            .with("PendingWindowInDays", days))
    })
}

/// A key that was to be deleted comes back disabled.
fn cancel_deletion(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    change(ctx, params, "kms:CancelKeyDeletion", |key| {
        if key.state != "PendingDeletion" {
            return Err(wrong_state(key));
        }
        (key.state, key.deletion) = ("Disabled", None);
        Ok(Map::new().with("KeyId", &key.arn))
    })
}

fn enable_rotation(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    rotate(ctx, params, "kms:EnableKeyRotation", true)
}

fn disable_rotation(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    rotate(ctx, params, "kms:DisableKeyRotation", false)
}

fn rotate(ctx: &mut Ctx<'_>, params: &Map, action: &str, on: bool) -> Result<Map, Fault> {
    change(ctx, params, action, |key| {
        if key.state != "Enabled" {
            return Err(wrong_state(key));
        }
        key.rotation = on;
        Ok(Map::new())
    })
}

fn rotation(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let key = named(ctx, params, "kms:GetKeyRotationStatus")?;
    let map = Map::new().with("KeyRotationEnabled", key.rotation).with("KeyId", key.id);
    Ok(map.maybe("RotationPeriodInDays", key.rotation.then_some(365)))
}

fn create_grant(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let grantee = params.required("GranteePrincipal")?.to_owned();
    let operations = params.texts("Operations");
    let (id, now, issuer) = (ctx.id(64), ctx.now, ctx.who.arn.clone());
    change(ctx, params, "kms:CreateGrant", |key| {
        if key.state != "Enabled" {
            return Err(wrong_state(key));
        }
        let grant = Map::new()
            .with("KeyId", &key.arn)
            .with("GrantId", &id)
            .with("GranteePrincipal", grantee)
            .with("IssuingAccount", issuer)
            .with("CreationDate", now)
            .with("Operations", list("member", operations));
        key.grants.push(grant);
        Ok(Map::new().with("GrantId", &id).with("GrantToken", hash::letters(1, 40)))
    })
}

fn grants(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let key = named(ctx, params, "kms:ListGrants")?;
    let mut grants = key.grants;
    if let Some(who) = params.text("GranteePrincipal") {
        grants.retain(|grant| grant.text("GranteePrincipal") == Some(who));
    }
    Ok(whole("Grants", grants))
}

fn revoke(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let id = params.required("GrantId")?.to_owned();
    change(ctx, params, "kms:RevokeGrant", |key| {
        let before = key.grants.len();
        key.grants.retain(|grant| grant.text("GrantId") != Some(&id));
        if key.grants.len() == before {
            return Err(Fault::new(400, "NotFoundException", format!("Grant {id} not found")));
        }
        Ok(Map::new())
    })
}

fn tag(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let tags = read_key_tags(params)?;
    change(ctx, params, "kms:TagResource", |key| {
        key.tags.extend(tags);
        Ok(Map::new())
    })
}

fn tags(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let key = named(ctx, params, "kms:ListResourceTags")?;
    let tag = |(k, v): (&String, &String)| Map::new().with("TagKey", k).with("TagValue", v);
    Ok(whole("Tags", key.tags.iter().map(tag).collect()))
}
