//! What can be set of a DB instance: where a parameter is taken, what an omitted one gives, and what a
//! modification does. One row a parameter.
//!
//! Source: RDS API reference (botocore rds/2014-10-31), CreateDBInstance,
//! RestoreDBInstanceFromDBSnapshot and ModifyDBInstance, "Default:" and "Constraints:" of each
//! parameter. Omitted parameters of a restore mostly do not come from the snapshot: that is how
//! settings get lost, and why this table exists.

use super::engines::Engine;
use super::groups::Groups;
use crate::fault::Fault;
use crate::value::{Map, Value, list};
use crate::world::{AccountId, Region};

/// What an omitted parameter gives.
#[derive(Clone, Copy)]
pub(crate) enum Omitted {
    /// The operation does not take it; the member is not there.
    Absent,
    /// The operation does not take it; the member has this value.
    Flag(bool),
    /// A number.
    Number(i64),
    /// A text.
    Text(&'static str),
    /// What the snapshot or source had.
    Kept,
    /// It depends.
    By(fn(&Facts<'_>) -> Option<Value>),
}

/// What a modification does with it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Modify {
    /// Refused.
    Never,
    /// In force with the answer.
    AtOnce,
    /// Seen in PendingModifiedValues first; in force when the status has passed through `modifying`.
    Later,
}

/// How a parameter becomes a member.
#[derive(Clone, Copy)]
pub(crate) enum Shape {
    Text,
    Flag,
    Number,
    Texts,
    Features,
    SecurityGroups,
    ParameterGroup,
    OptionGroup,
    SubnetGroup,
}

/// What defaults depend on.
pub(crate) struct Facts<'a> {
    pub(crate) engine: &'static Engine,
    pub(crate) version: &'a str,
    pub(crate) account: AccountId,
    pub(crate) region: Region,
    pub(crate) params: &'a Map,
    pub(crate) groups: &'a Groups,
    pub(crate) security_groups: &'a [String],
}

pub(crate) struct Setting {
    pub(crate) input: &'static str,
    pub(crate) member: &'static str,
    pub(crate) shape: Shape,
    pub(crate) create: Omitted,
    pub(crate) restore: Omitted,
    pub(crate) modify: Modify,
}

const fn row(
    input: &'static str,
    member: &'static str,
    shape: Shape,
    create: Omitted,
    restore: Omitted,
    modify: Modify,
) -> Setting {
    Setting { input, member, shape, create, restore, modify }
}

use Modify::{AtOnce, Later, Never};
use Omitted::{Absent, By, Flag, Kept, Number, Text};

/// All rows.
pub(crate) const SETTINGS: &[Setting] = &[
    row("DBInstanceClass", "DBInstanceClass", Shape::Text, Absent, Kept, Later),
    row("AllocatedStorage", "AllocatedStorage", Shape::Number, Absent, Kept, Later),
    row("Iops", "Iops", Shape::Number, By(baseline_iops), Kept, Later),
    row(
        "StorageThroughput",
        "StorageThroughput",
        Shape::Number,
        By(baseline_throughput),
        By(baseline_throughput),
        Later,
    ),
    // "Default: io1, if the Iops parameter is specified. Otherwise, gp3": at a restore too.
    row("StorageType", "StorageType", Shape::Text, By(storage_type), By(storage_type), Later),
    row("MultiAZ", "MultiAZ", Shape::Flag, Flag(false), Flag(false), Later),
    row("AvailabilityZone", "AvailabilityZone", Shape::Text, By(zone), By(zone), Never),
    row("PubliclyAccessible", "PubliclyAccessible", Shape::Flag, By(public), By(public), AtOnce),
    row(
        "AutoMinorVersionUpgrade",
        "AutoMinorVersionUpgrade",
        Shape::Flag,
        Flag(true),
        Flag(true),
        AtOnce,
    ),
    row("LicenseModel", "LicenseModel", Shape::Text, By(license), Kept, Later),
    row("DBName", "DBName", Shape::Text, Absent, Kept, Never),
    row("CharacterSetName", "CharacterSetName", Shape::Text, Absent, Kept, Never),
    row("Timezone", "Timezone", Shape::Text, Absent, Kept, Never),
    row("TdeCredentialArn", "TdeCredentialArn", Shape::Text, Absent, Absent, Never),
    row(
        "CACertificateIdentifier",
        "CACertificateIdentifier",
        Shape::Text,
        Text("rds-ca-rsa2048-g1"),
        Text("rds-ca-rsa2048-g1"),
        AtOnce,
    ),
    row("CopyTagsToSnapshot", "CopyTagsToSnapshot", Shape::Flag, Flag(false), Flag(false), AtOnce),
    row("ProcessorFeatures", "ProcessorFeatures", Shape::Features, Absent, Absent, Later),
    row("DeletionProtection", "DeletionProtection", Shape::Flag, Flag(false), Flag(false), AtOnce),
    row("NetworkType", "NetworkType", Shape::Text, Text("IPV4"), Text("IPV4"), AtOnce),
    row("BackupTarget", "BackupTarget", Shape::Text, Text("region"), Text("region"), Never),
    row("CustomIamInstanceProfile", "CustomIamInstanceProfile", Shape::Text, Absent, Absent, Never),
    row("DedicatedLogVolume", "DedicatedLogVolume", Shape::Flag, Flag(false), Flag(false), Later),
    row(
        "EngineLifecycleSupport",
        "EngineLifecycleSupport",
        Shape::Text,
        By(lifecycle),
        By(lifecycle),
        AtOnce,
    ),
    row("BackupRetentionPeriod", "BackupRetentionPeriod", Shape::Number, Number(1), Kept, AtOnce),
    row(
        "PreferredBackupWindow",
        "PreferredBackupWindow",
        Shape::Text,
        Text("03:30-04:00"),
        Kept,
        AtOnce,
    ),
    // Not taken by a restore: the copy gets a window of its own.
    row(
        "PreferredMaintenanceWindow",
        "PreferredMaintenanceWindow",
        Shape::Text,
        Text("sun:06:00-sun:06:30"),
        Text("thu:08:11-thu:08:41"),
        AtOnce,
    ),
    row(
        "VpcSecurityGroupIds",
        "VpcSecurityGroups",
        Shape::SecurityGroups,
        By(security_groups),
        By(security_groups),
        AtOnce,
    ),
    row(
        "DBParameterGroupName",
        "DBParameterGroups",
        Shape::ParameterGroup,
        By(parameter_group),
        By(parameter_group),
        AtOnce,
    ),
    row(
        "DBSubnetGroupName",
        "DBSubnetGroup",
        Shape::SubnetGroup,
        By(subnet_group),
        By(subnet_group),
        Later,
    ),
    // The guides contradict each other on what an omitted group gives; the worse one is modelled.
    row(
        "OptionGroupName",
        "OptionGroupMemberships",
        Shape::OptionGroup,
        By(option_group),
        By(option_group),
        AtOnce,
    ),
    row(
        "EnableIAMDatabaseAuthentication",
        "IAMDatabaseAuthenticationEnabled",
        Shape::Flag,
        Flag(false),
        Flag(false),
        AtOnce,
    ),
    row(
        "EnableCloudwatchLogsExports",
        "EnabledCloudwatchLogsExports",
        Shape::Texts,
        Absent,
        Absent,
        Never,
    ),
    row(
        "EnableCustomerOwnedIp",
        "CustomerOwnedIpEnabled",
        Shape::Flag,
        Flag(false),
        Flag(false),
        AtOnce,
    ),
    row("MonitoringInterval", "MonitoringInterval", Shape::Number, Number(0), Number(0), AtOnce),
    row("MonitoringRoleArn", "MonitoringRoleArn", Shape::Text, Absent, Absent, AtOnce),
    row(
        "EnablePerformanceInsights",
        "PerformanceInsightsEnabled",
        Shape::Flag,
        Flag(false),
        Flag(false),
        AtOnce,
    ),
    row(
        "PerformanceInsightsKMSKeyId",
        "PerformanceInsightsKMSKeyId",
        Shape::Text,
        Absent,
        Absent,
        AtOnce,
    ),
    row(
        "PerformanceInsightsRetentionPeriod",
        "PerformanceInsightsRetentionPeriod",
        Shape::Number,
        Absent,
        Absent,
        AtOnce,
    ),
    row(
        "DatabaseInsightsMode",
        "DatabaseInsightsMode",
        Shape::Text,
        Text("standard"),
        Text("standard"),
        AtOnce,
    ),
    row("MaxAllocatedStorage", "MaxAllocatedStorage", Shape::Number, Absent, Absent, AtOnce),
    // Of members of clusters only, which get 1 where none is given.
    row("PromotionTier", "PromotionTier", Shape::Number, Absent, Absent, AtOnce),
];

fn storage_type(facts: &Facts<'_>) -> Option<Value> {
    if facts.engine.clustered() {
        return Some(Value::from("aurora"));
    }
    Some(Value::from(if facts.params.has("Iops") { "io1" } else { "gp3" }))
}

/// gp3 volumes below 400 GiB have 3,000 IOPS and 125 MiBps (RDS user guide, "DB instance storage").
fn baseline_iops(facts: &Facts<'_>) -> Option<Value> {
    (chosen_type(facts) == "gp3").then_some(Value::Int(3000))
}

fn baseline_throughput(facts: &Facts<'_>) -> Option<Value> {
    (chosen_type(facts) == "gp3").then_some(Value::Int(125))
}

fn chosen_type<'a>(facts: &Facts<'a>) -> &'a str {
    let fallback = match (facts.engine.clustered(), facts.params.has("Iops")) {
        (true, _) => "aurora",
        (false, true) => "io1",
        (false, false) => "gp3",
    };
    facts.params.text("StorageType").unwrap_or(fallback)
}

fn zone(facts: &Facts<'_>) -> Option<Value> {
    Some(Value::from(format!("{}a", facts.region)))
}

/// "If DBSubnetGroupName isn't specified, and PubliclyAccessible isn't specified": public, for the
/// default VPC has an internet gateway. With a subnet group: private.
fn public(facts: &Facts<'_>) -> Option<Value> {
    Some(Value::Bool(!facts.params.has("DBSubnetGroupName") && !facts.engine.clustered()))
}

fn license(facts: &Facts<'_>) -> Option<Value> {
    Some(Value::from(facts.engine.license))
}

/// Omitted, a database is enrolled in paid Extended Support.
fn lifecycle(facts: &Facts<'_>) -> Option<Value> {
    let open = ["mysql", "postgres"].iter().any(|e| facts.engine.name.ends_with(e))
        || facts.engine.aurora();
    open.then_some(Value::from("open-source-rds-extended-support"))
}

fn security_groups(facts: &Facts<'_>) -> Option<Value> {
    Some(memberships(&[super::default_security_group(facts.account, facts.region)]))
}

fn parameter_group(facts: &Facts<'_>) -> Option<Value> {
    let family = facts.engine.family(facts.version);
    Some(parameter_membership(&format!("default.{family}"), "in-sync"))
}

fn option_group(facts: &Facts<'_>) -> Option<Value> {
    Some(option_membership(&facts.engine.option_group(facts.version)))
}

fn subnet_group(facts: &Facts<'_>) -> Option<Value> {
    facts.groups.subnet_group("default", facts.account, facts.region).map(Value::Map)
}

fn memberships(ids: &[String]) -> Value {
    let group = |id: &String| Map::new().with("VpcSecurityGroupId", id).with("Status", "active");
    list("VpcSecurityGroupMembership", ids.iter().map(group))
}

pub(crate) fn parameter_membership(name: &str, status: &'static str) -> Value {
    let group = Map::new().with("DBParameterGroupName", name.to_owned());
    list("DBParameterGroup", [group.with("ParameterApplyStatus", status)])
}

fn option_membership(name: &str) -> Value {
    let group = Map::new().with("OptionGroupName", name.to_owned()).with("Status", "in-sync");
    list("OptionGroupMembership", [group])
}

fn missing(what: &str, code: &'static str, name: &str) -> Fault {
    Fault::new(404, code, format!("{what} not found: {name}"))
}

impl Setting {
    /// The member for a parameter that was given; names of groups are looked up.
    pub(crate) fn given(&self, facts: &Facts<'_>) -> Result<Option<Value>, Fault> {
        let (params, input) = (facts.params, self.input);
        let groups = facts.groups;
        Ok(match self.shape {
            Shape::Text => params.text(input).map(|t| Value::from(t.to_owned())),
            Shape::Flag => params.flag(input)?.map(Value::Bool),
            Shape::Number => params.int(input)?.map(Value::Int),
            Shape::Texts => {
                let texts = params.texts(input);
                (!texts.is_empty()).then(|| list("member", texts))
            }
            Shape::Features => {
                let features: Vec<Map> = params.maps(input).cloned().collect();
                (!features.is_empty()).then(|| list("ProcessorFeature", features))
            }
            Shape::SecurityGroups => security_group_members(facts, input)?,
            Shape::ParameterGroup => match params.text(input) {
                None => None,
                Some(name) => {
                    groups.check_parameter_group(name, &facts.engine.family(facts.version))?;
                    Some(parameter_membership(name, "in-sync"))
                }
            },
            Shape::OptionGroup => match params.text(input) {
                None => None,
                Some(name)
                    if name == facts.engine.option_group(facts.version)
                        || groups.has_option_group(name) =>
                {
                    Some(option_membership(name))
                }
                Some(name) => {
                    return Err(missing(
                        "Specified OptionGroupName",
                        "OptionGroupNotFoundFault",
                        name,
                    ));
                }
            },
            Shape::SubnetGroup => match params.text(input) {
                None => None,
                Some(name) => {
                    let found = groups.subnet_group(name, facts.account, facts.region);
                    let missing = || missing("DB subnet group", "DBSubnetGroupNotFoundFault", name);
                    Some(Value::Map(found.ok_or_else(missing)?))
                }
            },
        })
    }
}

fn security_group_members(facts: &Facts<'_>, input: &str) -> Result<Option<Value>, Fault> {
    let ids = facts.params.texts(input);
    if let Some(unknown) = ids.iter().find(|id| !facts.security_groups.contains(id)) {
        let message = format!("Invalid security group , groupId= {unknown}, groupName=.");
        return Err(Fault::new(400, "InvalidParameterValue", message));
    }
    Ok((!ids.is_empty()).then(|| memberships(&ids)))
}

impl Omitted {
    /// The member for a parameter that was not given.
    pub(crate) fn value(self, member: &str, facts: &Facts<'_>, source: &Map) -> Option<Value> {
        match self {
            Omitted::Absent => None,
            Omitted::Flag(flag) => Some(Value::Bool(flag)),
            Omitted::Number(n) => Some(Value::Int(n)),
            Omitted::Text(text) => Some(Value::from(text)),
            Omitted::Kept => source.get(member).cloned(),
            Omitted::By(rule) => rule(facts),
        }
    }
}

/// The members for one operation: what was given, and what an omitted parameter gives.
pub(crate) fn members(
    facts: &Facts<'_>,
    column: impl Fn(&Setting) -> Omitted,
    source: &Map,
) -> Result<Map, Fault> {
    let mut settings = Map::new();
    for setting in SETTINGS {
        let value = match setting.given(facts)? {
            Some(value) => Some(value),
            None => column(setting).value(setting.member, facts, source),
        };
        if let Some(value) = value {
            settings.set(setting.member, value);
        }
    }
    Ok(settings)
}
