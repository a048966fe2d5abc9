//! Service control policies: objects, attachments, tags.

use super::{
    Attachment, Organization, Policy, constraint, invalid, management, page, read_tags, write,
    write_tags,
};
use crate::fault::{Fault, Kind};
use crate::hash;
use crate::value::Map;
use crate::world::Ctx;
use std::sync::Arc;

/// The policy that AWS attaches to every root, OU and account.
pub(crate) const FULL_ACCESS: &str = "p-FullAWSAccess";

const SCP: &str = "SERVICE_CONTROL_POLICY";

pub(super) fn full_access() -> Policy {
    let content =
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;
    Policy {
        name: "FullAWSAccess".into(),
        description: "Allows access to every operation".into(),
        content: content.into(),
        parsed: Arc::new(iam_rs::IAMPolicy::from_json(content).unwrap_or_default()),
    }
}

/// Only SCPs are modelled; a filter for another type is said aloud.
fn only_scps(params: &Map, name: &str) -> Result<(), Fault> {
    match params.required(name)? {
        SCP => Ok(()),
        other => {
            let message =
                format!("the simulator models service control policies only, not {other}");
            Err(Fault::of(Kind::NotModelled, message))
        }
    }
}

fn summary(org: &Organization, id: &str) -> Option<Map> {
    let policy = org.policies.get(id)?;
    let map = Map::new()
        .with("Id", id.to_owned())
        .with("Arn", org.policy_arn(id))
        .with("Name", &policy.name)
        .with("Description", &policy.description)
        .with("Type", SCP)
        .with("AwsManaged", id == FULL_ACCESS);
    Some(map)
}

fn reply(org: &Organization, id: &str) -> Map {
    let content = org.policies.get(id).map(|p| &p.content);
    let policy = Map::new().maybe("PolicySummary", summary(org, id)).maybe("Content", content);
    Map::new().with("Policy", policy)
}

fn known(ctx: &Ctx<'_>, params: &Map) -> Result<String, Fault> {
    let id = params.required("PolicyId")?;
    if ctx.world.org.policies.contains_key(id) {
        return Ok(id.to_owned());
    }
    let message = "You specified a policy that doesn't exist.";
    Err(Fault::new(400, "PolicyNotFoundException", message))
}

fn target(ctx: &Ctx<'_>, params: &Map) -> Result<String, Fault> {
    let id = params.required("TargetId")?;
    if ctx.world.org.exists(id) {
        return Ok(id.to_owned());
    }
    let message = "You specified a target that doesn't exist.";
    Err(Fault::new(400, "TargetNotFoundException", message))
}

fn attached(org: &Organization, target: &str) -> Vec<String> {
    let all = org.attachments.get(target).map(Vec::as_slice).unwrap_or_default();
    all.iter().filter(|a| a.until.is_none()).map(|a| a.policy.clone()).collect()
}

pub(super) fn list_policies(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    management(ctx)?;
    only_scps(params, "Filter")?;
    let ids: Vec<String> = ctx.world.org.policies.keys().cloned().collect();
    page(ctx, params, "Policies", &ids, |org, id| summary(org, id))
}

pub(super) fn describe(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    management(ctx)?;
    let id = known(ctx, params)?;
    Ok(reply(&ctx.world.org, &id))
}

pub(super) fn for_target(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    management(ctx)?;
    only_scps(params, "Filter")?;
    let target = target(ctx, params)?;
    let ids = attached(&ctx.world.org, &target);
    page(ctx, params, "Policies", &ids, |org, id| summary(org, id))
}

pub(super) fn targets(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    management(ctx)?;
    let id = known(ctx, params)?;
    let org = &ctx.world.org;
    let mut ids: Vec<String> = org
        .attachments
        .iter()
        .filter(|(_, list)| list.iter().any(|a| a.policy == id && a.until.is_none()))
        .map(|(target, _)| target.clone())
        .collect();
    ids.sort();
    page(ctx, params, "Targets", &ids, |org, id| {
        let (kind, name, path) = match id.parse() {
            Ok(account) => ("ACCOUNT", &org.account(account)?.name, "account"),
            Err(_) if *id == org.root => ("ROOT", &org.root, "root"),
            Err(_) => ("ORGANIZATIONAL_UNIT", &org.ous.get(id)?.name, "ou"),
        };
        let name = if kind == "ROOT" { "Root".to_owned() } else { name.clone() };
        let map = Map::new().with("TargetId", id).with("Arn", org.arn(path, id));
        Some(map.with("Name", name).with("Type", kind))
    })
}

/// The document, parsed, if it is one that SCPs can be.
fn document(ctx: &Ctx<'_>, content: &str) -> Result<Arc<iam_rs::IAMPolicy>, Fault> {
    let malformed = |why: String| {
        let message = format!(
            "The provided policy document does not meet the requirements of the specified policy type. {why}"
        );
        Fault::new(400, "MalformedPolicyDocumentException", message)
    };
    // White space counts: "SDKs and CLI save it as sent" (Organizations guide, SCP quotas).
    if content.chars().count() > ctx.world.settings.scp_characters {
        let message = "You have exceeded the maximum size of a policy document.";
        return Err(constraint("POLICY_CONTENT_LIMIT_EXCEEDED", message));
    }
    super::super::analyzer::scp_errors(content)
        .first()
        .map_or(Ok(()), |e| Err(malformed(e.clone())))?;
    let parsed = iam_rs::IAMPolicy::from_json(content).map_err(|e| malformed(e.to_string()))?;
    Ok(Arc::new(parsed))
}

fn unique(org: &Organization, name: &str, but: Option<&str>) -> Result<(), Fault> {
    if org.policies.iter().any(|(id, p)| p.name == name && Some(id.as_str()) != but) {
        let message = "A policy with the same name already exists.";
        return Err(Fault::new(400, "DuplicatePolicyException", message));
    }
    Ok(())
}

pub(super) fn create(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    write(ctx)?;
    only_scps(params, "Type")?;
    let name = params.required("Name")?;
    let content = params.required("Content")?;
    let description = params.text_or_empty("Description");
    if name.chars().count() > 128 || description.chars().count() > 512 {
        return Err(invalid(
            "MAX_LENGTH_EXCEEDED",
            "Name may have 128 characters, Description 512.",
        ));
    }
    let tags = read_tags(params)?;
    unique(&ctx.world.org, name, None)?;
    let parsed = document(ctx, content)?;
    let seed = ctx.world.settings.seed;
    let org = &mut ctx.world.org;
    org.made += 1;
    let id = format!("p-{}", hash::letters(hash::mix(seed ^ 41, org.made), 8));
    let policy = Policy {
        name: name.to_owned(),
        description: description.to_owned(),
        content: content.to_owned(),
        parsed,
    };
    org.policies.insert(id.clone(), policy);
    if !tags.is_empty() {
        org.tags.insert(id.clone(), tags);
    }
    Ok(reply(org, &id))
}

fn mutable(id: &str) -> Result<(), Fault> {
    if id == FULL_ACCESS {
        return Err(invalid("IMMUTABLE_POLICY", "You can't change an AWS managed policy."));
    }
    Ok(())
}

/// Changes every target of the policy at once.
pub(super) fn update(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    write(ctx)?;
    let id = known(ctx, params)?;
    mutable(&id)?;
    let parsed = params.text("Content").map(|content| document(ctx, content)).transpose()?;
    let org = &mut ctx.world.org;
    if let Some(name) = params.text("Name") {
        unique(org, name, Some(&id))?;
    }
    if let Some(policy) = org.policies.get_mut(&id) {
        if let Some(name) = params.text("Name") {
            policy.name = name.to_owned();
        }
        if let Some(description) = params.text("Description") {
            policy.description = description.to_owned();
        }
        if let (Some(content), Some(parsed)) = (params.text("Content"), parsed) {
            (policy.content, policy.parsed) = (content.to_owned(), parsed);
        }
    }
    Ok(reply(org, &id))
}

pub(super) fn delete(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    write(ctx)?;
    let id = known(ctx, params)?;
    mutable(&id)?;
    let org = &mut ctx.world.org;
    if org.attachments.values().flatten().any(|a| a.policy == id && a.until.is_none()) {
        let message = "The policy is attached to one or more entities.";
        return Err(Fault::new(400, "PolicyInUseException", message));
    }
    org.policies.remove(&id);
    org.tags.remove(&id);
    Ok(Map::new())
}

pub(super) fn attach(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    write(ctx)?;
    let (id, target) = (known(ctx, params)?, target(ctx, params)?);
    if !ctx.world.org.scps_enabled {
        let message = "The policy type is not enabled in this root.";
        return Err(Fault::new(400, "PolicyTypeNotEnabledException", message));
    }
    let (now, most) = (ctx.now, ctx.world.settings.scps_per_target);
    let org = &mut ctx.world.org;
    let there = attached(org, &target);
    if there.contains(&id) {
        let message = "The selected policy is already attached to the specified target.";
        return Err(Fault::new(400, "DuplicatePolicyAttachmentException", message));
    }
    if there.len() >= most {
        let message = "You have attached the maximum number of policies to the specified target.";
        return Err(constraint("MAX_POLICY_TYPE_ATTACHMENT_LIMIT_EXCEEDED", message));
    }
    let list = org.attachments.entry(target).or_default();
    // Forget what has long been out of force.
    list.retain(|a| a.until.is_none_or(|until| until > now.plus(-86_400_000)));
    list.push(Attachment { policy: id, since: now, until: None });
    Ok(Map::new())
}

pub(super) fn detach(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    write(ctx)?;
    let (id, target) = (known(ctx, params)?, target(ctx, params)?);
    let now = ctx.now;
    let org = &mut ctx.world.org;
    let there = attached(org, &target);
    if !there.contains(&id) {
        let message = "The policy isn't attached to the specified target.";
        return Err(Fault::new(400, "PolicyNotAttachedException", message));
    }
    if there.len() == 1 {
        let message = "You cannot remove the last policy attached to the specified target. You must have at least one attached at all times.";
        return Err(constraint("MIN_POLICY_TYPE_ATTACHMENT_LIMIT_EXCEEDED", message));
    }
    for a in org.attachments.entry(target).or_default() {
        if a.policy == id && a.until.is_none() {
            a.until = Some(now);
        }
    }
    Ok(Map::new())
}

fn root(ctx: &Ctx<'_>, params: &Map) -> Result<(), Fault> {
    only_scps(params, "PolicyType")?;
    if params.required("RootId")? != ctx.world.org.root {
        let message = "You specified a root that doesn't exist.";
        return Err(Fault::new(400, "RootNotFoundException", message));
    }
    Ok(())
}

fn root_reply(ctx: &mut Ctx<'_>) -> Result<Map, Fault> {
    let mut roots = super::tree::list_roots(ctx, &Map::new())?;
    if roots.items("Roots").is_empty() {
        roots = super::tree::list_roots(ctx, &Map::new().with("NextToken", "0e"))?;
    }
    let root = roots.maps("Roots").next().cloned();
    Ok(Map::new().maybe("Root", root))
}

pub(super) fn enable_type(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    write(ctx)?;
    root(ctx, params)?;
    if ctx.world.org.scps_enabled {
        let message = "The specified policy type is already enabled.";
        return Err(Fault::new(400, "PolicyTypeAlreadyEnabledException", message));
    }
    ctx.world.org.scps_enabled = true;
    root_reply(ctx)
}

/// Detaches every SCP in the organization, and "attachments are not automatically recoverable"
/// (Organizations guide, "Disabling a policy type").
pub(super) fn disable_type(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    write(ctx)?;
    root(ctx, params)?;
    if !ctx.world.org.scps_enabled {
        let message = "The specified policy type isn't currently enabled in this root.";
        return Err(Fault::new(400, "PolicyTypeNotEnabledException", message));
    }
    let org = &mut ctx.world.org;
    org.scps_enabled = false;
    let full = Attachment::since_ever(FULL_ACCESS);
    for list in org.attachments.values_mut() {
        *list = vec![full.clone()];
    }
    root_reply(ctx)
}

fn tagged(ctx: &Ctx<'_>, params: &Map) -> Result<String, Fault> {
    let id = params.required("ResourceId")?;
    let org = &ctx.world.org;
    if org.exists(id) || org.policies.contains_key(id) {
        return Ok(id.to_owned());
    }
    let message = "You specified a resource that doesn't exist.";
    Err(Fault::new(400, "TargetNotFoundException", message))
}

pub(super) fn tag(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    write(ctx)?;
    let id = tagged(ctx, params)?;
    let tags = read_tags(params)?;
    ctx.world.org.tags.entry(id).or_default().extend(tags);
    Ok(Map::new())
}

pub(super) fn untag(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    write(ctx)?;
    let id = tagged(ctx, params)?;
    let keys = params.texts("TagKeys");
    ctx.world.org.tags.entry(id).or_default().retain(|key, _| !keys.contains(key));
    Ok(Map::new())
}

pub(super) fn tags(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    management(ctx)?;
    let id = tagged(ctx, params)?;
    let tags = ctx.world.org.tags.get(&id).cloned().unwrap_or_default();
    Ok(Map::new().with("Tags", write_tags("member", &tags)))
}
