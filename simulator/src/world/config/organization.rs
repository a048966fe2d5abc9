//! Rules that the organization deploys to its members, region by region, and aggregators.

use super::{Rule, slice};
use crate::fault::Fault;
use crate::hash;
use crate::value::{Map, Time, list};
use crate::world::organizations::Organization;
use crate::world::{AccountId, Ctx, Region};
use std::collections::BTreeMap;

#[derive(Debug, Clone)]
struct OrganizationRule {
    identifier: String,
    excluded: Vec<String>,
    updated: Time,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct OrganizationRules {
    rules: BTreeMap<(Region, String), OrganizationRule>,
    pub(super) aggregators: BTreeMap<String, Map>,
    /// The rows of the last query, so that its pages are not computed one by one.
    pub(super) last_query: Option<(String, Time, Vec<String>)>,
}

impl OrganizationRules {
    /// What the organization has put into this account and region.
    pub(super) fn rules_for(
        &self,
        account: AccountId,
        region: Region,
        org: &Organization,
    ) -> Vec<Rule> {
        let here = |rule: &OrganizationRule| !rule.excluded.contains(&account.to_string());
        self.rules
            .iter()
            .filter(|((at, _), rule)| *at == region && here(rule) && org.usable(account))
            .map(|((_, name), rule)| Rule {
                name: format!("OrgConfigRule-{name}-{}", suffix(name)),
                identifier: rule.identifier.clone(),
                by_organization: true,
            })
            .collect()
    }
}

fn suffix(name: &str) -> String {
    hash::letters(hash::of(3, name), 8)
}

/// Only the management account here; delegated administrators are not modelled.
fn management(ctx: &Ctx<'_>) -> Result<(), Fault> {
    if ctx.account == ctx.world.org.management && ctx.world.org.founded {
        return Ok(());
    }
    let message = "This operation can only be called by the organization's management account.";
    Err(Fault::new(400, "OrganizationAccessDeniedException", message))
}

fn arn(ctx: &Ctx<'_>, name: &str) -> String {
    ctx.arn("config", &format!("organization-config-rule/{name}-{}", suffix(name)))
}

pub(super) fn put(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    management(ctx)?;
    let name = params.required("OrganizationConfigRuleName")?.to_owned();
    let metadata = params.map("OrganizationManagedRuleMetadata").cloned().unwrap_or_default();
    let identifier = metadata.required("RuleIdentifier")?.to_owned();
    if !super::RULES.iter().any(|(id, _)| *id == identifier) {
        let message = format!("the simulator does not model the rule {identifier}");
        return Err(Fault::new(400, "InvalidParameterValueException", message));
    }
    let rule = OrganizationRule {
        identifier,
        excluded: params.texts("ExcludedAccounts"),
        updated: ctx.now,
    };
    let region = ctx.region;
    let arn = arn(ctx, &name);
    ctx.world.config_org.rules.insert((region, name), rule);
    Ok(Map::new().with("OrganizationConfigRuleArn", arn))
}

fn no_such(name: &str) -> Fault {
    let message = format!("The organization config rule {name} does not exist.");
    Fault::new(400, "NoSuchOrganizationConfigRuleException", message)
}

pub(super) fn delete(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    management(ctx)?;
    let name = params.required("OrganizationConfigRuleName")?.to_owned();
    let region = ctx.region;
    match ctx.world.config_org.rules.remove(&(region, name.clone())) {
        Some(_) => Ok(Map::new()),
        None => Err(no_such(&name)),
    }
}

fn wanted(ctx: &Ctx<'_>, params: &Map) -> Result<Vec<(String, OrganizationRule)>, Fault> {
    management(ctx)?;
    let names = params.texts("OrganizationConfigRuleNames");
    let here = |((region, name), rule): (&(Region, String), &OrganizationRule)| {
        (*region == ctx.region).then(|| (name.clone(), rule.clone()))
    };
    let mut all: Vec<_> = ctx.world.config_org.rules.iter().filter_map(here).collect();
    if let Some(name) = names.iter().find(|name| !all.iter().any(|(n, _)| n == *name)) {
        return Err(no_such(name));
    }
    all.retain(|(name, _)| names.is_empty() || names.contains(name));
    Ok(all)
}

pub(super) fn describe(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let rules = wanted(ctx, params)?.into_iter().map(|(name, rule)| {
        let metadata = Map::new().with("RuleIdentifier", rule.identifier);
        Map::new()
            .with("OrganizationConfigRuleArn", arn(ctx, &name))
            .with("OrganizationConfigRuleName", name)
            .with("OrganizationManagedRuleMetadata", metadata)
            .with("ExcludedAccounts", list("member", rule.excluded))
            .with("LastUpdateTime", rule.updated)
    });
    let all = rules.collect();
    slice(params, "OrganizationConfigRules", all, 100)
}

pub(super) fn statuses(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let rules = wanted(ctx, params)?.into_iter().map(|(name, rule)| {
        Map::new()
            .with("OrganizationConfigRuleName", name)
            .with("OrganizationRuleStatus", "CREATE_SUCCESSFUL")
            .with("LastUpdateTime", rule.updated)
    });
    let all = rules.collect();
    slice(params, "OrganizationConfigRuleStatuses", all, 100)
}

/// An account without a recorder cannot take the rule.
pub(super) fn detailed(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let name = params.required("OrganizationConfigRuleName")?.to_owned();
    let named = Map::new().with("OrganizationConfigRuleNames", list("member", [name.clone()]));
    let rule = wanted(ctx, &named)?.pop().ok_or_else(|| no_such(&name))?.1;
    let accounts: Vec<AccountId> = ctx.world.org.accounts().map(|a| a.id).collect();
    let (region, now) = (ctx.region, ctx.now);
    let mut all = Vec::new();
    for account in accounts {
        if !ctx.world.org.usable(account) || rule.excluded.contains(&account.to_string()) {
            continue;
        }
        let recorder = ctx.world.with_cell(account, region, now, |c| c.config.recorder.is_some());
        let mut map = Map::new()
            .with("AccountId", account.to_string())
            .with("ConfigRuleName", format!("OrgConfigRule-{name}-{}", suffix(&name)))
            .with("LastUpdateTime", rule.updated);
        if recorder {
            map.set("MemberAccountRuleStatus", "CREATE_SUCCESSFUL");
        } else {
            map.set("MemberAccountRuleStatus", "CREATE_FAILED");
            map.set("ErrorCode", "NoAvailableConfigurationRecorder");
            map.set("ErrorMessage", "Configuration Recorder is not available to put config rule.");
        }
        all.push(map);
    }
    slice(params, "OrganizationConfigRuleDetailedStatus", all, 100)
}

pub(super) fn put_aggregator(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    management(ctx)?;
    let name = params.required("ConfigurationAggregatorName")?.to_owned();
    let id = hash::letters(hash::of(4, &name), 8);
    let aggregator = Map::new()
        .with("ConfigurationAggregatorName", &name)
        .with(
            "ConfigurationAggregatorArn",
            ctx.arn("config", &format!("config-aggregator/config-aggregator-{id}")),
        )
        .with("CreationTime", ctx.now)
        .with("LastUpdatedTime", ctx.now)
        .maybe(
            "OrganizationAggregationSource",
            params.map("OrganizationAggregationSource").cloned(),
        );
    ctx.world.config_org.aggregators.insert(name, aggregator.clone());
    Ok(Map::new().with("ConfigurationAggregator", aggregator))
}

pub(super) fn aggregators(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let names = params.texts("ConfigurationAggregatorNames");
    let all = &ctx.world.config_org.aggregators;
    if let Some(name) = names.iter().find(|name| !all.contains_key(*name)) {
        let message = format!("The configuration aggregator {name} does not exist.");
        return Err(Fault::new(400, "NoSuchConfigurationAggregatorException", message));
    }
    let found = all.iter().filter(|(name, _)| names.is_empty() || names.contains(name));
    let found = found.map(|(_, aggregator)| aggregator.clone()).collect();
    slice(params, "ConfigurationAggregators", found, 100)
}
