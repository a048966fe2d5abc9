//! AWS Config: recorders, managed rules for RDS, organization rules, aggregated queries.
//!
//! Source: AWS Config API reference and the pages of the three managed rules. The rules judge by
//! `storageEncrypted`, for the recorded items have no encryption type (aws-config-resource-schema): an
//! Aurora cluster under an AWS-owned key is non-compliant here, although its data is encrypted.

mod organization;
mod query;

use super::rds::Rds;
use super::{Ctx, Op, op};
use crate::fault::Fault;
use crate::hash;
use crate::value::{Map, Time, list};
use std::collections::BTreeMap;

pub(crate) use organization::OrganizationRules;

pub(crate) const OPS: &[Op] = &[
    op!(Write "PutConfigurationRecorder" ("ConfigurationRecorder", "Tags") put_recorder),
    op!(Write "StartConfigurationRecorder" ("ConfigurationRecorderName") start_recorder),
    op!(Write "StopConfigurationRecorder" ("ConfigurationRecorderName") stop_recorder),
    op!(Write "DeleteConfigurationRecorder" ("ConfigurationRecorderName") delete_recorder),
    op!(Read "DescribeConfigurationRecorders" ("ConfigurationRecorderNames") recorders),
    op!(Read "DescribeConfigurationRecorderStatus" ("ConfigurationRecorderNames") recorder_status),
    op!(Write "PutConfigRule" ("ConfigRule", "Tags") put_rule),
    op!(Write "DeleteConfigRule" ("ConfigRuleName") delete_rule),
    op!(Read "DescribeConfigRules" ("ConfigRuleNames", "NextToken", "Filters") rules),
    op!(Read "DescribeComplianceByConfigRule" ("ConfigRuleNames", "ComplianceTypes", "NextToken") by_rule),
    op!(Read "GetComplianceDetailsByConfigRule" ("ConfigRuleName", "ComplianceTypes", "Limit", "NextToken") details),
    op!(Write "StartConfigRulesEvaluation" ("ConfigRuleNames") evaluate),
    op!(Write "PutOrganizationConfigRule" (
        "OrganizationConfigRuleName", "OrganizationManagedRuleMetadata", "ExcludedAccounts",
    ) organization::put),
    op!(Write "DeleteOrganizationConfigRule" ("OrganizationConfigRuleName") organization::delete),
    op!(Read "DescribeOrganizationConfigRules" ("OrganizationConfigRuleNames", "Limit", "NextToken") organization::describe),
    op!(Read "DescribeOrganizationConfigRuleStatuses" ("OrganizationConfigRuleNames", "Limit", "NextToken") organization::statuses),
    op!(Read "GetOrganizationConfigRuleDetailedStatus" ("OrganizationConfigRuleName", "Filters", "Limit", "NextToken") organization::detailed),
    op!(Write "PutConfigurationAggregator" (
        "ConfigurationAggregatorName", "OrganizationAggregationSource", "AccountAggregationSources", "Tags",
    ) organization::put_aggregator),
    op!(Read "DescribeConfigurationAggregators" ("ConfigurationAggregatorNames", "NextToken", "Limit") organization::aggregators),
    op!(Read "SelectAggregateResourceConfig" (
        "Expression", "ConfigurationAggregatorName", "Limit", "MaxResults", "NextToken",
    ) query::select),
];

/// The managed rules that are modelled, with what they judge.
pub(crate) const RULES: &[(&str, &[&str])] = &[
    ("RDS_STORAGE_ENCRYPTED", &["AWS::RDS::DBInstance"]),
    ("RDS_CLUSTER_ENCRYPTED_AT_REST", &["AWS::RDS::DBCluster"]),
    ("RDS_SNAPSHOT_ENCRYPTED", &["AWS::RDS::DBSnapshot", "AWS::RDS::DBClusterSnapshot"]),
];

#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    pub(crate) name: String,
    pub(crate) recording: bool,
    group: Map,
    since: Time,
}

#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) name: String,
    pub(crate) identifier: String,
    /// Made by the organization, and to be changed by it only.
    pub(crate) by_organization: bool,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Config {
    pub(crate) recorder: Option<Recorder>,
    pub(crate) rules: BTreeMap<String, Rule>,
    evaluated: Option<Time>,
}

impl Config {
    /// A recorder of everything, for worlds that are generated.
    pub(crate) fn record(&mut self, since: Time) {
        let group = Map::new().with("allSupported", true).with("includeGlobalResourceTypes", false);
        let recorder = Recorder { name: "default".into(), recording: true, group, since };
        self.recorder = Some(recorder);
    }
}

/// A resource as Config judges it: type, id, and whether it is encrypted.
pub(crate) fn judged(rds: &Rds, kinds: &[&str]) -> Vec<(&'static str, String, bool)> {
    let mut found = Vec::new();
    let has = |kind: &str| kinds.contains(&kind);
    if has("AWS::RDS::DBInstance") {
        // A DBInstance's resource id is its DbiResourceId, members of clusters included.
        let instance = |i: &super::rds::Instance| {
            ("AWS::RDS::DBInstance", i.dbi.clone(), i.settings.is("StorageEncrypted"))
        };
        found.extend(rds.instances.values().map(instance));
    }
    if has("AWS::RDS::DBCluster") {
        let cluster = |c: &super::rds::Cluster| {
            ("AWS::RDS::DBCluster", c.resource_id.clone(), c.settings.is("StorageEncrypted"))
        };
        found.extend(rds.clusters.values().map(cluster));
    }
    for (kind, table) in [
        ("AWS::RDS::DBSnapshot", &rds.snapshots),
        ("AWS::RDS::DBClusterSnapshot", &rds.cluster_snapshots),
    ] {
        if has(kind) {
            let all = table.values();
            found.extend(all.map(|s| (kind, s.name.clone(), s.settings.is("StorageEncrypted"))));
        }
    }
    found
}

fn no_recorder() -> Fault {
    let message = "There are no configuration recorders.";
    Fault::new(400, "NoSuchConfigurationRecorderException", message)
}

fn no_rule(name: &str) -> Fault {
    let message = format!(
        "The ConfigRule '{name}' provided in the request is invalid. Please check the configRule name"
    );
    Fault::new(400, "NoSuchConfigRuleException", message)
}

fn put_recorder(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let given = params.map("ConfigurationRecorder").cloned().unwrap_or_default();
    let name = given.text("name").unwrap_or("default").to_owned();
    let group = given.map("recordingGroup").cloned().unwrap_or_default();
    let now = ctx.now;
    let config = &mut ctx.cell().config;
    if config.recorder.as_ref().is_some_and(|r| r.name != name) {
        let message = "You can have one configuration recorder in an account and region.";
        return Err(Fault::new(400, "MaxNumberOfConfigurationRecordersExceededException", message));
    }
    let recording = config.recorder.as_ref().is_some_and(|r| r.recording);
    config.recorder = Some(Recorder { name, recording, group, since: now });
    Ok(Map::new())
}

fn turn_recorder(ctx: &mut Ctx<'_>, on: bool) -> Result<Map, Fault> {
    let now = ctx.now;
    let recorder = ctx.cell().config.recorder.as_mut().ok_or_else(no_recorder)?;
    (recorder.recording, recorder.since) = (on, now);
    Ok(Map::new())
}

fn start_recorder(ctx: &mut Ctx<'_>, _: &Map) -> Result<Map, Fault> {
    turn_recorder(ctx, true)
}

fn stop_recorder(ctx: &mut Ctx<'_>, _: &Map) -> Result<Map, Fault> {
    turn_recorder(ctx, false)
}

fn delete_recorder(ctx: &mut Ctx<'_>, _: &Map) -> Result<Map, Fault> {
    ctx.cell().config.recorder.take().map(|_| Map::new()).ok_or_else(no_recorder)
}

fn recorders(ctx: &mut Ctx<'_>, _: &Map) -> Result<Map, Fault> {
    let role = format!(
        "arn:aws:iam::{}:role/aws-service-role/config.amazonaws.com/AWSServiceRoleForConfig",
        ctx.account
    );
    let all = ctx.cell().config.recorder.iter().map(|r| {
        let map = Map::new().with("name", &r.name).with("roleARN", role.clone());
        map.with("recordingGroup", r.group.clone())
    });
    Ok(Map::new().with("ConfigurationRecorders", list("member", all)))
}

fn recorder_status(ctx: &mut Ctx<'_>, _: &Map) -> Result<Map, Fault> {
    let all = ctx.cell().config.recorder.iter().map(|r| {
        let changed = if r.recording { "lastStartTime" } else { "lastStopTime" };
        Map::new()
            .with("name", &r.name)
            .with("recording", r.recording)
            .with("lastStatus", if r.recording { "Success" } else { "Pending" })
            .with(changed, r.since)
    });
    Ok(Map::new().with("ConfigurationRecordersStatus", list("member", all)))
}

fn put_rule(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let rule = params.map("ConfigRule").cloned().unwrap_or_default();
    let name = rule.required("ConfigRuleName")?.to_owned();
    let source = rule.map("Source").cloned().unwrap_or_default();
    let identifier = source.text_or_empty("SourceIdentifier").to_owned();
    if source.text("Owner") != Some("AWS") || !RULES.iter().any(|(id, _)| *id == identifier) {
        let message = format!(
            "the simulator models {} only",
            RULES.iter().map(|(id, _)| *id).collect::<Vec<_>>().join(", ")
        );
        return Err(Fault::new(400, "InvalidParameterValueException", message));
    }
    let config = &mut ctx.cell().config;
    if config.recorder.is_none() {
        let message = "Configuration Recorder is not available to put config rule.";
        return Err(Fault::new(400, "NoAvailableConfigurationRecorderException", message));
    }
    config.rules.insert(name.clone(), Rule { name, identifier, by_organization: false });
    Ok(Map::new())
}

fn delete_rule(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let name = params.required("ConfigRuleName")?.to_owned();
    match ctx.cell().config.rules.remove(&name) {
        Some(_) => Ok(Map::new()),
        None => Err(no_rule(&name)),
    }
}

/// The rules of this account and region: its own, and the organization's.
fn all_rules(ctx: &mut Ctx<'_>, params: &Map) -> Result<Vec<Rule>, Fault> {
    let mut all: Vec<Rule> = ctx.cell().config.rules.values().cloned().collect();
    let recorder = ctx.cell().config.recorder.is_some();
    if recorder {
        all.extend(ctx.world.config_org.rules_for(ctx.account, ctx.region, &ctx.world.org));
    }
    let wanted = params.texts("ConfigRuleNames");
    if let Some(unknown) = wanted.iter().find(|name| !all.iter().any(|r| r.name == **name)) {
        return Err(no_rule(unknown));
    }
    all.retain(|rule| wanted.is_empty() || wanted.contains(&rule.name));
    Ok(all)
}

fn rules(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let all = all_rules(ctx, params)?;
    let seed = ctx.world.settings.seed;
    let rules: Vec<Map> = all
        .iter()
        .map(|rule| {
            let id = format!("config-rule-{}", hash::letters(hash::of(seed, &rule.name), 6));
            let source = Map::new().with("Owner", "AWS").with("SourceIdentifier", &rule.identifier);
            let made_by = rule.by_organization.then_some("config-multiaccountsetup.amazonaws.com");
            Map::new()
                .with("ConfigRuleName", &rule.name)
                .with("ConfigRuleArn", ctx.arn("config", &format!("config-rule/{id}")))
                .with("ConfigRuleId", id)
                .with("Source", source)
                .with("ConfigRuleState", "ACTIVE")
                .maybe("CreatedBy", made_by)
        })
        .collect();
    Ok(Map::new().with("ConfigRules", list("member", rules)))
}

fn kinds_of(identifier: &str) -> &'static [&'static str] {
    RULES.iter().find(|(id, _)| *id == identifier).map_or(&[], |(_, kinds)| kinds)
}

/// What a rule says of each resource; a recorder that is off has seen nothing new, which is no answer.
fn verdicts(ctx: &mut Ctx<'_>, rule: &Rule) -> Vec<(&'static str, String, bool)> {
    let cell = ctx.cell();
    match &cell.config.recorder {
        Some(recorder) if recorder.recording => judged(&cell.rds, kinds_of(&rule.identifier)),
        _ => Vec::new(),
    }
}

fn by_rule(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let wanted = params.texts("ComplianceTypes");
    let mut all = Vec::new();
    for rule in all_rules(ctx, params)? {
        let verdicts = verdicts(ctx, &rule);
        let bad = verdicts.iter().filter(|(_, _, encrypted)| !encrypted).count() as i64;
        let kind = match (verdicts.is_empty(), bad) {
            (true, _) => "INSUFFICIENT_DATA",
            (false, 0) => "COMPLIANT",
            _ => "NON_COMPLIANT",
        };
        if !wanted.is_empty() && !wanted.iter().any(|w| w == kind) {
            continue;
        }
        let count = Map::new().with("CappedCount", bad.min(25)).with("CapExceeded", bad > 25);
        let mut compliance = Map::new().with("ComplianceType", kind);
        if bad > 0 {
            compliance.set("ComplianceContributorCount", count);
        }
        all.push(Map::new().with("ConfigRuleName", &rule.name).with("Compliance", compliance));
    }
    Ok(Map::new().with("ComplianceByConfigRules", list("member", all)))
}

fn details(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let name = params.required("ConfigRuleName")?.to_owned();
    let wanted = params.texts("ComplianceTypes");
    let limit = params.int("Limit")?.unwrap_or(10);
    if !(0..=100).contains(&limit) {
        return Err(Fault::new(400, "InvalidParameterValueException", "Limit must be at most 100"));
    }
    let named = Map::new().with("ConfigRuleNames", list("member", [name.clone()]));
    let rule = all_rules(ctx, &named)?.pop().ok_or_else(|| no_rule(&name))?;
    let now = ctx.now;
    let all: Vec<Map> = verdicts(ctx, &rule)
        .into_iter()
        .map(|(kind, id, encrypted)| {
            (kind, id, if encrypted { "COMPLIANT" } else { "NON_COMPLIANT" })
        })
        .filter(|(_, _, verdict)| wanted.is_empty() || wanted.iter().any(|w| w == verdict))
        .map(|(kind, id, verdict)| {
            let qualifier = Map::new()
                .with("ConfigRuleName", &name)
                .with("ResourceType", kind)
                .with("ResourceId", id);
            let identifier = Map::new()
                .with("EvaluationResultQualifier", qualifier)
                .with("OrderingTimestamp", now);
            Map::new()
                .with("EvaluationResultIdentifier", identifier)
                .with("ComplianceType", verdict)
                .with("ResultRecordedTime", now)
                .with("ConfigRuleInvokedTime", now)
        })
        .collect();
    slice(params, "EvaluationResults", all, if limit == 0 { 10 } else { limit as usize })
}

/// A page by an offset.
pub(crate) fn slice(
    params: &Map,
    name: &'static str,
    all: Vec<Map>,
    limit: usize,
) -> Result<Map, Fault> {
    let bad = || Fault::new(400, "InvalidNextTokenException", "The next token is not valid.");
    let from: usize = params.text("NextToken").map_or(Ok(0), |t| t.parse().map_err(|_| bad()))?;
    let next = from.saturating_add(limit);
    let more = next < all.len();
    let page = all.into_iter().skip(from).take(limit);
    Ok(Map::new()
        .with(name, list("member", page))
        .maybe("NextToken", more.then(|| next.to_string())))
}

/// "Once per minute" a rule (API reference, StartConfigRulesEvaluation).
fn evaluate(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    all_rules(ctx, params)?;
    let now = ctx.now;
    let config = &mut ctx.cell().config;
    if config.evaluated.is_some_and(|last| now < last.plus(60_000)) {
        let message =
            "An evaluation of these rules is running or was started less than a minute ago.";
        return Err(Fault::new(400, "LimitExceededException", message));
    }
    config.evaluated = Some(now);
    Ok(Map::new())
}
