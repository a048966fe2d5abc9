//! Accounts and organizational units.

use super::{
    Account, Children, Organization, constraint, invalid, management, page, read_tags, write,
};
use crate::fault::Fault;
use crate::hash;
use crate::value::{Map, list};
use crate::world::{AccountId, Ctx};

/// Levels of OUs under the root, and OUs in all (Organizations guide, quotas).
const DEPTH_MAX: usize = 5;
const OUS_MAX: usize = 2_000;

pub(super) fn create_organization(ctx: &mut Ctx<'_>, _: &Map) -> Result<Map, Fault> {
    if ctx.world.org.founded {
        let message = "The AWS account is already a member of an organization.";
        return Err(Fault::new(400, "AlreadyInOrganizationException", message));
    }
    let now = ctx.now;
    ctx.world.org.found(false, now);
    Ok(organization(&ctx.world.org))
}

pub(super) fn describe_organization(ctx: &mut Ctx<'_>, _: &Map) -> Result<Map, Fault> {
    // Any member may ask.
    if !ctx.world.org.founded || !ctx.world.org.has(ctx.account) {
        let message = "Your account is not a member of an organization.";
        return Err(Fault::new(400, "AWSOrganizationsNotInUseException", message));
    }
    Ok(organization(&ctx.world.org))
}

fn organization(org: &Organization) -> Map {
    let management = org.management.to_string();
    let organization = Map::new()
        .with("Id", &org.id)
        .with("Arn", org.arn("organization", "").trim_end_matches('/').to_owned())
        .with("FeatureSet", "ALL")
        .with("MasterAccountId", &management)
        .with("MasterAccountArn", org.arn("account", &management))
        .with("MasterAccountEmail", "management@example.com");
    Map::new().with("Organization", organization)
}

pub(super) fn list_roots(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    management(ctx)?;
    page(ctx, params, "Roots", &[()], |org, ()| {
        let scps = Map::new().with("Type", "SERVICE_CONTROL_POLICY").with("Status", "ENABLED");
        let root = Map::new().with("Id", &org.root).with("Arn", org.arn("root", &org.root));
        let types = list("member", org.scps_enabled.then_some(scps));
        Some(root.with("Name", "Root").with("PolicyTypes", types))
    })
}

fn ou(org: &Organization, id: &str) -> Option<Map> {
    let ou = org.ous.get(id)?;
    let map = Map::new().with("Id", id.to_owned()).with("Arn", org.arn("ou", id));
    Some(map.with("Name", &ou.name))
}

fn account(org: &Organization, account: &Account) -> Map {
    let id = account.id.to_string();
    // The management account is in the organization as its founder.
    let method = if account.id == org.management { "INVITED" } else { "CREATED" };
    Map::new()
        .with("Arn", org.arn("account", &id))
        .with("Id", id)
        .with("Name", &account.name)
        .with("Email", &account.email)
        .with("State", account.state)
        .with("JoinedMethod", method)
        .with("JoinedTimestamp", account.joined)
}

fn children<'a>(org: &'a Organization, parent: &str) -> Result<Option<&'a Children>, Fault> {
    if parent != org.root && !org.ous.contains_key(parent) {
        let message = "You provided a root or OU that does not exist.";
        return Err(Fault::new(400, "ParentNotFoundException", message));
    }
    Ok(org.children.get(parent))
}

pub(super) fn list_ous(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    management(ctx)?;
    let found = children(&ctx.world.org, params.required("ParentId")?)?;
    let ids = found.map(|c| c.ous.clone()).unwrap_or_default();
    page(ctx, params, "OrganizationalUnits", &ids, |org, id| ou(org, id))
}

pub(super) fn list_accounts_for_parent(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    management(ctx)?;
    let found = children(&ctx.world.org, params.required("ParentId")?)?;
    let ids = found.map(|c| c.accounts.clone()).unwrap_or_default();
    page(ctx, params, "Accounts", &ids, |org, id| org.accounts.get(id).map(|a| account(org, a)))
}

pub(super) fn list_accounts(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    management(ctx)?;
    let ids: Vec<AccountId> = ctx.world.org.accounts.keys().copied().collect();
    page(ctx, params, "Accounts", &ids, |org, id| org.accounts.get(id).map(|a| account(org, a)))
}

pub(super) fn list_children(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    management(ctx)?;
    let kind = params.required("ChildType")?;
    let found = children(&ctx.world.org, params.required("ParentId")?)?;
    let (ids, kind): (Vec<String>, &'static str) = match (kind, found) {
        ("ACCOUNT", found) => {
            (found.iter().flat_map(|c| &c.accounts).map(ToString::to_string).collect(), "ACCOUNT")
        }
        ("ORGANIZATIONAL_UNIT", found) => {
            (found.iter().flat_map(|c| c.ous.clone()).collect(), "ORGANIZATIONAL_UNIT")
        }
        _ => {
            return Err(invalid(
                "INVALID_ENUM",
                "ChildType must be ACCOUNT or ORGANIZATIONAL_UNIT",
            ));
        }
    };
    page(ctx, params, "Children", &ids, |_, id| Some(Map::new().with("Id", id).with("Type", kind)))
}

pub(super) fn list_parents(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    management(ctx)?;
    let child = params.required("ChildId")?;
    let org = &ctx.world.org;
    let parent = match child.parse() {
        Ok(id) => org.account(id).map(|a| a.parent.clone()),
        Err(_) => org.ous.get(child).map(|ou| ou.parent.clone()),
    };
    let parent = parent.ok_or_else(|| {
        Fault::new(
            400,
            "ChildNotFoundException",
            "You provided an account or OU that does not exist.",
        )
    })?;
    page(ctx, params, "Parents", &[parent], |org, id| {
        let kind = if *id == org.root { "ROOT" } else { "ORGANIZATIONAL_UNIT" };
        Some(Map::new().with("Id", id).with("Type", kind))
    })
}

fn known_account(ctx: &Ctx<'_>, params: &Map) -> Result<AccountId, Fault> {
    let id: AccountId = params.required("AccountId")?.parse()?;
    if ctx.world.org.has(id) {
        return Ok(id);
    }
    let message = "You specified an account that doesn't exist.";
    Err(Fault::new(400, "AccountNotFoundException", message))
}

pub(super) fn describe_account(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    management(ctx)?;
    let id = known_account(ctx, params)?;
    let org = &ctx.world.org;
    Ok(Map::new().maybe("Account", org.account(id).map(|a| account(org, a))))
}

fn known_ou(ctx: &Ctx<'_>, params: &Map) -> Result<String, Fault> {
    let id = params.required("OrganizationalUnitId")?;
    if ctx.world.org.ous.contains_key(id) {
        return Ok(id.to_owned());
    }
    let message = "You specified an organizational unit that doesn't exist.";
    Err(Fault::new(400, "OrganizationalUnitNotFoundException", message))
}

fn ou_reply(ctx: &Ctx<'_>, id: &str) -> Map {
    Map::new().maybe("OrganizationalUnit", ou(&ctx.world.org, id))
}

pub(super) fn describe_ou(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    management(ctx)?;
    let id = known_ou(ctx, params)?;
    Ok(ou_reply(ctx, &id))
}

fn unique_name(org: &Organization, parent: &str, name: &str) -> Result<(), Fault> {
    let siblings = children(org, parent)?;
    let taken = siblings
        .is_some_and(|c| c.ous.iter().any(|id| org.ous.get(id).is_some_and(|ou| ou.name == name)));
    if taken {
        let message = "An OU with the same name already exists.";
        return Err(Fault::new(400, "DuplicateOrganizationalUnitException", message));
    }
    Ok(())
}

pub(super) fn create_ou(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    write(ctx)?;
    let (parent, name) = (params.required("ParentId")?.to_owned(), params.required("Name")?);
    let tags = read_tags(params)?;
    let org = &ctx.world.org;
    unique_name(org, &parent, name)?;
    let mut depth = 1;
    let mut above = &parent;
    while let Some(ou) = org.ous.get(above) {
        (depth, above) = (depth + 1, &ou.parent);
    }
    if depth > DEPTH_MAX {
        let message = "You have exceeded the maximum nesting depth of OUs.";
        return Err(constraint("OU_DEPTH_LIMIT_EXCEEDED", message));
    }
    if org.ous.len() >= OUS_MAX {
        return Err(constraint("OU_NUMBER_LIMIT_EXCEEDED", "You have exceeded the number of OUs."));
    }
    let seed = ctx.world.settings.seed;
    let id = ctx.world.org.add_ou(seed, name, &parent);
    if !tags.is_empty() {
        ctx.world.org.tags.insert(id.clone(), tags);
    }
    Ok(ou_reply(ctx, &id))
}

pub(super) fn rename_ou(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    write(ctx)?;
    let id = known_ou(ctx, params)?;
    if let Some(name) = params.text("Name") {
        let parent = ctx.world.org.ous.get(&id).map(|ou| ou.parent.clone()).unwrap_or_default();
        unique_name(&ctx.world.org, &parent, name)?;
        if let Some(ou) = ctx.world.org.ous.get_mut(&id) {
            ou.name = name.to_owned();
        }
    }
    Ok(ou_reply(ctx, &id))
}

pub(super) fn delete_ou(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    write(ctx)?;
    let id = known_ou(ctx, params)?;
    let org = &mut ctx.world.org;
    if org.children.get(&id).is_some_and(|c| !c.ous.is_empty() || !c.accounts.is_empty()) {
        let message = "The specified OU is not empty.";
        return Err(Fault::new(400, "OrganizationalUnitNotEmptyException", message));
    }
    if let Some(ou) = org.ous.remove(&id)
        && let Some(siblings) = org.children.get_mut(&ou.parent)
    {
        siblings.ous.retain(|other| *other != id);
    }
    org.attachments.remove(&id);
    org.tags.remove(&id);
    Ok(Map::new())
}

/// The account is there at once; AWS takes minutes, and says IN_PROGRESS until then. Nothing of ours
/// creates accounts, so the wait is not modelled.
pub(super) fn create_account(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    write(ctx)?;
    let name = params.required("AccountName")?.to_owned();
    params.required("Email")?;
    let tags = read_tags(params)?;
    let seed = ctx.world.settings.seed;
    let now = ctx.now;
    let org = &mut ctx.world.org;
    org.made += 1;
    let mut id = AccountId(200_000_000_000 + hash::mix(seed ^ 31, org.made) % 700_000_000_000);
    while org.has(id) {
        id.0 += 1;
    }
    let root = org.root.clone();
    org.add_account(id, &name, "ACTIVE", &root, now);
    if !tags.is_empty() {
        org.tags.insert(id.to_string(), tags);
    }
    Ok(Map::new().with("CreateAccountStatus", created(org, id)))
}

fn created(org: &Organization, id: AccountId) -> Map {
    let account = org.account(id);
    Map::new()
        .with("Id", format!("car-{}", hash::letters(id.0, 32)))
        .with("AccountId", id.to_string())
        .with("State", "SUCCEEDED")
        .maybe("AccountName", account.map(|a| &a.name))
        .maybe("RequestedTimestamp", account.map(|a| a.joined))
        .maybe("CompletedTimestamp", account.map(|a| a.joined))
}

pub(super) fn create_account_status(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    management(ctx)?;
    let request = params.required("CreateAccountRequestId")?;
    let org = &ctx.world.org;
    let found = org.accounts().find(|a| format!("car-{}", hash::letters(a.id.0, 32)) == request);
    let id = found.map(|a| a.id).ok_or_else(|| {
        let message = "There is no request with this id.";
        Fault::new(400, "CreateAccountStatusNotFoundException", message)
    })?;
    Ok(Map::new().with("CreateAccountStatus", created(org, id)))
}

/// Closing takes AWS a while (PENDING_CLOSURE), then the account stays CLOSED for 90 days.
pub(super) fn close_account(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    write(ctx)?;
    let id = known_account(ctx, params)?;
    if id == ctx.world.org.management {
        let reason = "CANNOT_CLOSE_MANAGEMENT_ACCOUNT";
        return Err(constraint(reason, "You can't close the management account."));
    }
    if ctx.world.org.account(id).is_some_and(|a| a.state == "CLOSED") {
        let message = "You can't close an account that is already closed.";
        return Err(Fault::new(400, "AccountAlreadyClosedException", message));
    }
    ctx.world.org.set_state(id, "CLOSED");
    Ok(Map::new())
}

/// The source parent is a compare-and-set: it must be where the account is.
pub(super) fn move_account(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    write(ctx)?;
    let id = known_account(ctx, params)?;
    let (from, to) =
        (params.required("SourceParentId")?, params.required("DestinationParentId")?.to_owned());
    let org = &mut ctx.world.org;
    if to != org.root && !org.ous.contains_key(&to) {
        let message = "You specified a destination parent that doesn't exist.";
        return Err(Fault::new(400, "DestinationParentNotFoundException", message));
    }
    let current = org.account(id).map(|a| a.parent.clone()).unwrap_or_default();
    if current == to {
        let message = "The account is already in the destination.";
        return Err(Fault::new(400, "DuplicateAccountException", message));
    }
    if current != from {
        let message = "You specified a source parent that is not the account's.";
        return Err(Fault::new(400, "SourceParentNotFoundException", message));
    }
    if let Some(left) = org.children.get_mut(&current) {
        left.accounts.retain(|other| *other != id);
    }
    org.children.entry(to.clone()).or_default().accounts.push(id);
    if let Some(account) = org.accounts.get_mut(&id) {
        account.parent = to;
    }
    Ok(Map::new())
}
