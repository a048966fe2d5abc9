//! STS: sessions of roles.
//! Source: STS API reference, AssumeRole and GetCallerIdentity; IAM guide, "Role chaining".

use super::{AccountId, Ctx, Op, Principal, World, op};
use crate::fault::{Fault, Kind};
use crate::hash;
use crate::value::{Map, Time};
use crate::wire::Request;
use std::collections::HashMap;
use std::sync::Arc;

pub(crate) const OPS: &[Op] = &[
    op!(Read "GetCallerIdentity" () identity),
    op!(Read "AssumeRole" (
        "RoleArn", "RoleSessionName", "DurationSeconds", "Policy", "ExternalId", "SourceIdentity",
        "Tags", "TransitiveTagKeys",
    ) assume),
];

/// Characters of a session policy.
const POLICY_MAX: usize = 2_048;

#[derive(Debug, Clone)]
struct Session {
    token: String,
    expires: Time,
    principal: Arc<Principal>,
}

/// A role of an account, beside those that every member account has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Role {
    pub(crate) gone: bool,
    pub(crate) external_id: Option<String>,
    pub(crate) policy: Option<Arc<iam_rs::IAMPolicy>>,
    pub(crate) no_source_identity: bool,
}

#[derive(Default)]
pub(crate) struct Sessions {
    live: HashMap<String, Session>,
    /// Roles that differ from the default, by account and name.
    pub(crate) roles: HashMap<(AccountId, String), Role>,
    made: u64,
}

impl World {
    /// Who signed a request. An access key that AssumeRole gave out decides account and session; any
    /// other is the management account's.
    pub(crate) fn who(&self, request: &Request, now: Time) -> Result<Arc<Principal>, Fault> {
        let bad =
            || Fault::of(Kind::BadToken, "The security token included in the request is invalid.");
        match self.sessions.live.get(&request.access_key) {
            Some(session) if request.token.as_deref() != Some(&session.token) => Err(bad()),
            Some(session) if session.expires <= now => {
                let message = "The security token included in the request is expired";
                Err(Fault::of(Kind::Expired, message))
            }
            Some(session) if !self.alive(session.principal.account) => {
                let message = "The account is suspended or closed.";
                Err(Fault::of(Kind::Denied, message))
            }
            Some(session) => Ok(session.principal.clone()),
            // Ours, and unknown: forged, or of an earlier life of this world.
            None if request.access_key.starts_with("ASIA") => Err(bad()),
            None => Ok(Arc::new(self.admin(self.org.management))),
        }
    }

    /// Whether anybody can work there: an account outside the organization is nobody's to close.
    fn alive(&self, account: AccountId) -> bool {
        !self.org.has(account) || self.org.usable(account)
    }

    /// A principal with all rights in an account.
    pub(crate) fn admin(&self, account: AccountId) -> Principal {
        let arn = format!("arn:aws:iam::{account}:user/admin");
        Principal {
            account,
            principal_arn: arn.clone(),
            arn,
            source_identity: None,
            session_policy: None,
            role_policy: None,
            assumed: false,
        }
    }

    /// Whether Ringfence's role is in the account.
    pub(crate) fn role_there(&self, account: AccountId) -> bool {
        self.role(account, &self.settings.role).is_some()
    }

    /// The role, if it exists.
    fn role(&self, account: AccountId, name: &str) -> Option<Role> {
        let special = self.sessions.roles.get(&(account, name.to_owned())).cloned();
        if special.as_ref().is_some_and(|role| role.gone) {
            return None;
        }
        let member = account != self.org.management;
        let settings = &self.settings;
        if member && name == settings.role {
            let generated = self.generator.as_ref().is_none_or(|g| g.has_role(account));
            let external = Some(settings.external_id.clone()).filter(|id| !id.is_empty());
            let usual = Role { external_id: external, ..Role::default() };
            return special.or(generated.then_some(usual));
        }
        // Made by CreateAccount in the new account; invited accounts lack it (Organizations guide).
        let usual = member && name == "OrganizationAccountAccessRole";
        special.or(usual.then(Role::default))
    }
}

fn identity(ctx: &mut Ctx<'_>, _: &Map) -> Result<Map, Fault> {
    let id = if ctx.who.assumed { "AROASIMULATED" } else { "AIDASIMULATED" };
    Ok(Map::new()
        .with("Account", ctx.account.to_string())
        .with("Arn", ctx.who.arn.clone())
        .with("UserId", format!("{id}{}", ctx.account)))
}

fn assume(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let arn = params.required("RoleArn")?;
    let name = params.required("RoleSessionName")?;
    let seconds = params.int("DurationSeconds")?.unwrap_or(3600);
    let policy = params.text("Policy");
    let session_char = |c: char| c.is_ascii_alphanumeric() || "_=,.@-+".contains(c);
    for text in [Some(name), params.text("SourceIdentity")].into_iter().flatten() {
        if !(2..=64).contains(&text.len()) || !text.chars().all(session_char) {
            let message = format!("'{text}' must be 2 to 64 characters of [\\w+=,.@-]");
            return Err(Fault::validation(message));
        }
    }
    let parts: Vec<&str> = arn.split(':').collect();
    let role_name = parts.get(5).and_then(|r| r.strip_prefix("role/")).unwrap_or_default();
    let (6, "iam", false) =
        (parts.len(), parts.get(2).copied().unwrap_or_default(), role_name.is_empty())
    else {
        return Err(Fault::validation(format!("{arn} is invalid")));
    };
    let target: AccountId = parts[4].parse()?;
    let bare = role_name.rsplit('/').next().unwrap_or(role_name);
    check_duration(ctx, seconds)?;
    let session_policy = parse_policy(policy)?;
    let refused = |action: &str| {
        let message = format!(
            "User: {} is not authorized to perform: {action} on resource: {arn}",
            ctx.who.arn
        );
        Fault::of(Kind::Denied, message)
    };
    // A closed or suspended account, a missing role, a trust policy that differs: all the same answer,
    // so that nobody learns which it is (aws-sra-examples#218).
    let usable = target == ctx.account || ctx.world.org.usable(target);
    let role =
        ctx.world.role(target, bare).filter(|_| usable).ok_or_else(|| refused("sts:AssumeRole"))?;
    let given = params.text("ExternalId").map(str::to_owned);
    if role.external_id.is_some() && role.external_id != given {
        return Err(refused("sts:AssumeRole"));
    }
    if params.has("SourceIdentity") && role.no_source_identity {
        return Err(refused("sts:SetSourceIdentity"));
    }
    // An identity that a session has already cannot be changed by chaining.
    let inherited = ctx.who.source_identity.clone();
    let wanted = params.text("SourceIdentity").map(str::to_owned);
    if inherited.is_some() && wanted.is_some() && inherited != wanted {
        return Err(refused("sts:SetSourceIdentity"));
    }
    let principal = Principal {
        account: target,
        arn: format!("arn:aws:sts::{target}:assumed-role/{bare}/{name}"),
        principal_arn: format!("arn:aws:iam::{target}:role/{role_name}"),
        source_identity: inherited.or(wanted),
        session_policy,
        role_policy: role.policy,
        assumed: true,
    };
    Ok(give(ctx, principal, seconds, policy))
}

/// A role that is assumed from a session gets an hour at most, and asking for more fails.
fn check_duration(ctx: &Ctx<'_>, seconds: i64) -> Result<(), Fault> {
    if !(900..=43_200).contains(&seconds) {
        return Err(Fault::validation(format!(
            "DurationSeconds must be between 900 and 43200, not {seconds}"
        )));
    }
    if seconds > 3600 && !ctx.who.assumed {
        // Every role here has the default, one hour.
        return Err(Fault::validation(
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
        ));
    }
    if seconds > 3600 {
        return Err(Fault::validation(
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining",
        ));
    }
    Ok(())
}

fn parse_policy(policy: Option<&str>) -> Result<Option<Arc<iam_rs::IAMPolicy>>, Fault> {
    let Some(policy) = policy else {
        return Ok(None);
    };
    if policy.len() > POLICY_MAX {
        return Err(Fault::validation(format!(
            "Policy must have length less than or equal to {POLICY_MAX}"
        )));
    }
    let parsed = iam_rs::IAMPolicy::from_json(policy).map_err(|error| {
        Fault::new(400, "MalformedPolicyDocument", format!("the session policy: {error}"))
    })?;
    Ok(Some(Arc::new(parsed)))
}

fn give(ctx: &mut Ctx<'_>, principal: Principal, seconds: i64, policy: Option<&str>) -> Map {
    let seed = ctx.world.settings.seed;
    let sessions = &mut ctx.world.sessions;
    sessions.made += 1;
    let key =
        format!("ASIA{}", hash::letters(hash::mix(seed ^ 1, sessions.made), 16).to_uppercase());
    let token = hash::letters(hash::mix(seed ^ 2, sessions.made), 320);
    let expires = ctx.now.plus(seconds * 1000);
    let now = ctx.now;
    if sessions.made.is_multiple_of(1024) {
        // Kept for a day after their end, so that an old token is told "expired" and not "invalid".
        sessions.live.retain(|_, session| session.expires > now.plus(-86_400_000));
    }
    let arn = principal.arn.clone();
    let identity = principal.source_identity.clone();
    let session = Session { token: token.clone(), expires, principal: Arc::new(principal) };
    sessions.live.insert(key.clone(), session);
    let credentials = Map::new()
        .with("AccessKeyId", key.clone())
        .with("SecretAccessKey", hash::letters(hash::mix(seed ^ 3, sessions.made), 40))
        .with("SessionToken", token)
        .with("Expiration", expires);
    Map::new()
        .with("Credentials", credentials)
        .with(
            "AssumedRoleUser",
            Map::new().with("AssumedRoleId", format!("AROA{}", &key[4..])).with("Arn", arn),
        )
        .maybe("PackedPolicySize", policy.map(|p| (p.len() * 100 / POLICY_MAX) as i64))
        .maybe("SourceIdentity", identity)
}
