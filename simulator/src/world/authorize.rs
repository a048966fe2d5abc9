//! May this principal do this? Service control policies from the root down, then the role's own policy
//! and the session's.
//!
//! The documents are judged by the library `iam-rs` and not by Ringfence's own code, so that the
//! simulator is no mirror of the product's mistakes (docs/adr/0009). Rule for SCPs: at every level
//! from the root to the account some policy must allow the call, and no policy at any level may deny
//! it (Organizations guide, "SCP evaluation"). The management account is exempt.

use super::organizations::FULL_ACCESS;
use super::{Op, Principal, Region, World, ec2, kms, rds};
use crate::fault::{Fault, Kind};
use crate::value::{Map, Time};
use crate::wire::Service;
use iam_rs::{Arn, Context, ContextValue, Decision, IAMPolicy, IAMRequest, PrincipalId};
use std::collections::BTreeMap;

/// Something that a call is authorized against. One call may have several: CreateDBInstance is checked
/// against the db, its subnet group, its parameter group and more, and only the db carries
/// `rds:StorageEncrypted` (Service Authorization Reference, Amazon RDS).
#[derive(Debug, Clone)]
pub(crate) struct Resource {
    /// The action, where it is not the operation's own.
    pub(crate) action: Option<&'static str>,
    pub(crate) arn: String,
    pub(crate) keys: Vec<(String, ContextValue)>,
}

impl Resource {
    pub(crate) fn new(arn: String) -> Resource {
        Resource { action: None, arn, keys: Vec::new() }
    }

    pub(crate) fn text(mut self, key: impl Into<String>, value: impl Into<String>) -> Resource {
        self.keys.push((key.into(), ContextValue::String(value.into())));
        self
    }

    pub(crate) fn flag(mut self, key: &str, value: bool) -> Resource {
        // As a boolean, not as text: iam-rs's Bool does not match text.
        self.keys.push((key.into(), ContextValue::Boolean(value)));
        self
    }

    pub(crate) fn tags(mut self, prefix: &str, tags: &BTreeMap<String, String>) -> Resource {
        for (key, value) in tags {
            self = self.text(format!("{prefix}{key}"), value);
        }
        self
    }
}

/// What a policy says of a call.
pub(crate) fn judge(
    policy: &IAMPolicy,
    who: &Principal,
    action: &str,
    resource: &Resource,
    base: &Context,
) -> Decision {
    let Ok(arn) = Arn::parse(&resource.arn) else {
        return Decision::NotApplicable;
    };
    let mut context = base.clone();
    for (key, value) in &resource.keys {
        context.insert(key.clone(), value.clone());
    }
    let principal = iam_rs::Principal::Aws(PrincipalId::String(who.principal_arn.clone()));
    let request = IAMRequest::new_with_context(principal, action, arn, context);
    // What the library cannot judge is denied, as AWS denies what it cannot evaluate.
    iam_rs::evaluate_policy(policy, &request).unwrap_or(Decision::Deny)
}

/// Policies in force from the root down, by level.
pub(crate) type Levels<'a> = Vec<Vec<(&'a str, &'a super::organizations::Policy)>>;

impl World {
    /// Keys that every request has (IAM guide, "global condition context keys").
    pub(crate) fn base_context(&self, who: &Principal, region: Region) -> Context {
        let mut context = Context::new()
            .with_string("aws:PrincipalArn", who.principal_arn.clone())
            .with_string("aws:PrincipalAccount", who.account.to_string())
            .with_string("aws:RequestedRegion", region)
            .with_boolean("aws:PrincipalIsAWSService", false)
            .with_boolean("aws:ViaAWSService", false)
            .with_boolean("aws:SecureTransport", true);
        if self.org.has(who.account) {
            context = context.with_string("aws:PrincipalOrgID", self.org.id.clone());
        }
        if let Some(identity) = &who.source_identity {
            context = context.with_string("aws:SourceIdentity", identity.clone());
        }
        context
    }

    /// What a call is authorized against.
    pub(crate) fn resources(
        &self,
        service: Service,
        op: &Op,
        who: &Principal,
        region: Region,
        params: &Map,
    ) -> Vec<Resource> {
        let cell = self.cells.get(&(who.account, region));
        if let (Service::Rds, Some(cell)) = (service, cell) {
            return rds::resources(&cell.rds, op.name, who.account, region, params);
        }
        let (prefix, account) = (service.prefix(), who.account);
        if let (Service::Sts, Some(role)) = (service, params.text("RoleArn")) {
            return vec![Resource::new(role.to_owned())];
        }
        if let (Service::Kms, Some(cell)) = (service, cell) {
            let arn = format!("arn:aws:kms:{region}:{account}");
            return kms::resources(&cell.kms, op.name, &arn, params);
        }
        if service == Service::Ec2 {
            let groups = cell.map_or(&[][..], |cell| &cell.groups);
            return ec2::resources(groups, op.name, (account, region), params);
        }
        vec![Resource::new(format!("arn:aws:{prefix}:{region}:{account}:*"))]
    }

    /// The denial of a call, if it is denied.
    pub(crate) fn denial(
        &self,
        (service, op): (Service, &Op),
        who: &Principal,
        region: Region,
        params: &Map,
        now: Time,
    ) -> Option<Fault> {
        // Nothing can deny it (STS API reference).
        if op.name == "GetCallerIdentity" {
            return None;
        }
        let own = [who.role_policy.as_ref(), who.session_policy.as_ref()];
        let levels = self.levels_that_bite(who, now);
        if levels.is_empty() && own.iter().all(Option::is_none) {
            return None;
        }
        let base = self.base_context(who, region);
        for resource in self.resources(service, op, who, region, params) {
            let action = resource
                .action
                .map_or_else(|| format!("{}:{}", service.prefix(), op.name), str::to_owned);
            if let Some(fault) = self.scp_denial(&levels, who, &action, &resource, &base) {
                return Some(fault);
            }
            for (policy, kind) in own.iter().zip(["identity-based", "session"]) {
                let Some(policy) = policy else { continue };
                let why = match judge(policy, who, &action, &resource, &base) {
                    Decision::Allow => continue,
                    Decision::Deny => {
                        format!("with an explicit deny in {} {kind} policy", article(kind))
                    }
                    Decision::NotApplicable => {
                        format!("because no {kind} policy allows the {action} action")
                    }
                };
                return Some(refuse(who, &action, &resource.arn, &why));
            }
        }
        None
    }

    /// The denial by a service control policy, if there is one.
    pub(crate) fn scp_denial(
        &self,
        levels: &Levels<'_>,
        who: &Principal,
        action: &str,
        resource: &Resource,
        base: &Context,
    ) -> Option<Fault> {
        for level in levels {
            let mut allowed = false;
            for (id, policy) in level {
                match judge(&policy.parsed, who, action, resource, base) {
                    Decision::Deny => {
                        let arn = self.org.policy_arn(id);
                        let why =
                            format!("with an explicit deny in a service control policy: {arn}");
                        return Some(refuse(who, action, &resource.arn, &why));
                    }
                    Decision::Allow => allowed = true,
                    Decision::NotApplicable => {}
                }
            }
            if !allowed {
                let why = format!("because no service control policy allows the {action} action");
                return Some(refuse(who, action, &resource.arn, &why));
            }
        }
        None
    }

    /// The levels above an account that hold more than FullAWSAccess; none for the management account.
    pub(crate) fn levels_that_bite(&self, who: &Principal, now: Time) -> Levels<'_> {
        if !self.org.fenced(who.account) {
            return Vec::new();
        }
        let delay = self.settings.scp_delay_ms;
        let mut levels = self.org.levels(who.account);
        levels
            .drain(..)
            .map(|target| self.org.in_force(&target, now, delay))
            .filter(|policies| !matches!(policies.as_slice(), [(id, _)] if *id == FULL_ACCESS))
            .collect()
    }
}

fn article(kind: &str) -> &'static str {
    if kind.starts_with('i') { "an" } else { "a" }
}

/// The wording that AWS sends since January 2026, with the policy's ARN (AWS security blog, "Enhanced
/// access denied error messages with policy ARNs").
fn refuse(who: &Principal, action: &str, resource: &str, why: &str) -> Fault {
    let message = format!(
        "User: {} is not authorized to perform: {action} on resource: {resource} {why}",
        who.arn
    );
    Fault::of(Kind::Denied, message)
}

/// A denial by the caller's own policies.
pub(crate) fn plain(service: Service, op: &Op, who: &Principal) -> Fault {
    let action = format!("{}:{}", service.prefix(), op.name);
    let why = format!("because no identity-based policy allows the {action} action");
    refuse(who, &action, "*", &why)
}
