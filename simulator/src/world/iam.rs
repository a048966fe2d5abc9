//! IAM, as far as inventory tools ask, and whoever looks for policies that name a database.
//! Source: IAM API reference, ListAccountAliases (an account has one alias at most), CreatePolicy, CreateRole, ListRoles,
//! GetAccountAuthorizationDetails (documents are percent-encoded as of RFC 3986).

use super::{Ctx, Op, op};
use crate::fault::Fault;
use crate::value::{Map, list};

pub(crate) const OPS: &[Op] = &[
    op!(Read "ListAccountAliases" ("Marker", "MaxItems") aliases),
    op!(Write "CreatePolicy" ("PolicyName", "PolicyDocument", "Path", "Description", "Tags") create),
    op!(Write "CreateRole" ("RoleName", "AssumeRolePolicyDocument", "Path", "Description", "Tags") create_role),
    op!(Read "ListRoles" ("PathPrefix", "Marker", "MaxItems") roles),
    op!(Read "GetAccountAuthorizationDetails" ("Filter", "Marker", "MaxItems") details),
];

/// A managed policy of an account: its name and its document.
pub(crate) type Policy = (String, String);

/// IAM is one for all regions; what it has is kept where its one endpoint is.
const HOME: &str = "us-east-1";

fn policies<'a>(ctx: &'a mut Ctx<'_>) -> &'a mut Vec<Policy> {
    &mut ctx.world.cells.entry((ctx.account, HOME)).or_default().policies
}

fn aliases(ctx: &mut Ctx<'_>, _: &Map) -> Result<Map, Fault> {
    let name = ctx.world.org.account(ctx.account).map(|account| account.name.to_lowercase());
    Ok(Map::new().with("AccountAliases", list("member", name)).with("IsTruncated", false))
}

fn arn(ctx: &Ctx<'_>, name: &str) -> String {
    format!("arn:aws:iam::{}:policy/{name}", ctx.account)
}

fn create(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let name = params.required("PolicyName")?.to_owned();
    let document = params.required("PolicyDocument")?.to_owned();
    if serde_json::from_str::<serde_json::Value>(&document).is_err() {
        let message = "Syntax errors in policy.";
        return Err(Fault::new(400, "MalformedPolicyDocument", message));
    }
    if policies(ctx).iter().any(|(known, _)| *known == name) {
        let message =
            format!("A policy called {name} already exists. Duplicate names are not allowed.");
        return Err(Fault::new(409, "EntityAlreadyExists", message));
    }
    policies(ctx).push((name.clone(), document));
    let policy = Map::new().with("PolicyName", &name).with("Arn", arn(ctx, &name));
    Ok(Map::new().with("Policy", policy))
}

fn role(ctx: &Ctx<'_>, name: &str) -> Map {
    let arn = format!("arn:aws:iam::{}:role/{name}", ctx.account);
    let map = Map::new()
        .with("Path", "/")
        .with("RoleName", name.to_owned())
        .with("RoleId", format!("AROA{name}"));
    map.with("Arn", arn).with("CreateDate", "2026-01-01T00:00:00Z")
}

fn create_role(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let name = params.required("RoleName")?.to_owned();
    params.required("AssumeRolePolicyDocument")?;
    let known = &mut ctx.world.cells.entry((ctx.account, HOME)).or_default().roles;
    if known.contains(&name) {
        let message = format!("Role with name {name} already exists.");
        return Err(Fault::new(409, "EntityAlreadyExists", message));
    }
    known.push(name.clone());
    Ok(Map::new().with("Role", role(ctx, &name)))
}

/// What is asked of a list: how many, and from where.
fn paged(params: &Map) -> Result<(usize, usize), Fault> {
    let most = params.int("MaxItems")?.unwrap_or(100).clamp(1, 1_000);
    let from = params.text("Marker").and_then(|m| m.parse().ok()).unwrap_or(0);
    Ok((usize::try_from(most).unwrap_or(1), from))
}

fn roles(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let (most, from) = paged(params)?;
    let all = ctx.world.cells.entry((ctx.account, HOME)).or_default().roles.clone();
    let page: Vec<Map> = all.iter().skip(from).take(most).map(|name| role(ctx, name)).collect();
    let next = from + page.len();
    let more = (next < all.len()).then(|| next.to_string());
    Ok(Map::new()
        .with("Roles", list("member", page))
        .with("IsTruncated", more.is_some())
        .maybe("Marker", more))
}

fn details(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let (most, from) = paged(params)?;
    let wanted = params.texts("Filter");
    let managed = wanted.is_empty() || wanted.iter().any(|kind| kind == "LocalManagedPolicy");
    let all = if managed { policies(ctx).clone() } else { Vec::new() };
    let page: Vec<Map> = all
        .iter()
        .skip(from)
        .take(most)
        .map(|(name, document)| {
            let version = Map::new()
                .with("VersionId", "v1")
                .with("IsDefaultVersion", true)
                .with("Document", encode(document));
            Map::new()
                .with("PolicyName", name)
                .with("Arn", arn(ctx, name))
                .with("DefaultVersionId", "v1")
                .with("PolicyVersionList", list("member", [version]))
        })
        .collect();
    let next = from + page.len();
    let more = (next < all.len()).then(|| next.to_string());
    Ok(Map::new()
        .with("Policies", list("member", page))
        .with("IsTruncated", more.is_some())
        .maybe("Marker", more))
}

/// Percent-encoding: all but RFC 3986's unreserved characters.
fn encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
