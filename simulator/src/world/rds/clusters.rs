//! Aurora clusters: create, restore from a snapshot (which is what encrypts them), delete, endpoints.
//! Source: API reference, CreateDBCluster, RestoreDBClusterFromSnapshot; Aurora user guide, "Encrypting
//! Amazon Aurora resources" (2026).

use super::engines::{self, Engine};
use super::instances::{combination, domain_and_secret};
use super::{
    BTreeMap, Rds, Status, Step, Tags, check_name, filters, page, seconds, snapshots, tags,
};
use crate::fault::{Fault, Kind};
use crate::hash;
use crate::value::{Map, Time, Value, list};
use crate::world::organizations::write_tags;
use crate::world::{AccountId, Ctx, Region};

#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    pub(crate) name: String,
    pub(crate) resource_id: String,
    pub(crate) status: Status,
    pub(crate) settings: Map,
    pub(crate) port: i64,
    pub(crate) tags: Tags,
    /// The names of its instances; the first one is the writer.
    pub(crate) members: Vec<String>,
    pub(crate) roles: Vec<Map>,
    pub(crate) endpoint_tags: BTreeMap<String, Tags>,
    pub(crate) endpoints: Vec<Map>,
    pub(crate) created: Option<Time>,
    pub(crate) new_name: Option<String>,
    pub(crate) fate: Option<&'static str>,
}

/// Parameters that become members of the same meaning; `M` marks those a modification takes too.
const PLAIN: &[(&str, &str, Shape, Option<&str>)] = &[
    ("BackupRetentionPeriod", "BackupRetentionPeriod", Shape::Number, Some("1")),
    ("PreferredBackupWindow", "PreferredBackupWindow", Shape::Text, Some("04:30-05:00")),
    (
        "PreferredMaintenanceWindow",
        "PreferredMaintenanceWindow",
        Shape::Text,
        Some("wed:03:11-wed:03:41"),
    ),
    ("EngineMode", "EngineMode", Shape::Text, Some("provisioned")),
    ("StorageType", "StorageType", Shape::Text, Some("aurora")),
    ("NetworkType", "NetworkType", Shape::Text, Some("IPV4")),
    ("DeletionProtection", "DeletionProtection", Shape::Flag, Some("false")),
    ("CopyTagsToSnapshot", "CopyTagsToSnapshot", Shape::Flag, Some("false")),
    ("AutoMinorVersionUpgrade", "AutoMinorVersionUpgrade", Shape::Flag, Some("true")),
    (
        "EnableIAMDatabaseAuthentication",
        "IAMDatabaseAuthenticationEnabled",
        Shape::Flag,
        Some("false"),
    ),
    ("EnableHttpEndpoint", "HttpEndpointEnabled", Shape::Flag, Some("false")),
    (
        "EngineLifecycleSupport",
        "EngineLifecycleSupport",
        Shape::Text,
        Some("open-source-rds-extended-support"),
    ),
    ("DatabaseInsightsMode", "DatabaseInsightsMode", Shape::Text, Some("standard")),
    ("EnablePerformanceInsights", "PerformanceInsightsEnabled", Shape::Flag, None),
    ("PerformanceInsightsKMSKeyId", "PerformanceInsightsKMSKeyId", Shape::Text, None),
    (
        "PerformanceInsightsRetentionPeriod",
        "PerformanceInsightsRetentionPeriod",
        Shape::Number,
        None,
    ),
    ("MonitoringInterval", "MonitoringInterval", Shape::Number, None),
    ("MonitoringRoleArn", "MonitoringRoleArn", Shape::Text, None),
    ("BacktrackWindow", "BacktrackWindow", Shape::Number, None),
    ("DatabaseName", "DatabaseName", Shape::Text, None),
    ("PubliclyAccessible", "PubliclyAccessible", Shape::Flag, None),
    ("EnableCloudwatchLogsExports", "EnabledCloudwatchLogsExports", Shape::Texts, None),
    ("AvailabilityZones", "AvailabilityZones", Shape::Texts, None),
    ("ServerlessV2ScalingConfiguration", "ServerlessV2ScalingConfiguration", Shape::Scaling, None),
    ("DBClusterParameterGroupName", "DBClusterParameterGroup", Shape::ParameterGroup, None),
    ("DBSubnetGroupName", "DBSubnetGroup", Shape::SubnetGroup, None),
    ("VpcSecurityGroupIds", "VpcSecurityGroups", Shape::SecurityGroups, None),
];

#[derive(Clone, Copy)]
enum Shape {
    Text,
    Flag,
    Number,
    Texts,
    Scaling,
    ParameterGroup,
    SubnetGroup,
    SecurityGroups,
}

impl Cluster {
    pub(crate) fn become_(&mut self, status: &'static str) {
        if self.status == "deleting" {
            return;
        }
        let fate = self.fate.filter(|_| status == "available");
        self.status = fate.unwrap_or(status).into();
    }

    pub(crate) fn apply(&mut self, changes: Map) {
        for (name, value) in changes.iter() {
            match (name, value) {
                ("Port", Value::Int(port)) => self.port = *port,
                _ => self.settings.set(name.to_owned(), value.clone()),
            }
        }
    }

    pub(crate) fn engine(&self) -> Result<&'static Engine, Fault> {
        engines::find(self.settings.text_or_empty("Engine"))
    }

    fn show(&self, rds: &Rds, account: AccountId, region: Region, now: Time) -> Map {
        let unique = hash::letters(hash::of(account.0, region), 12);
        let endpoint =
            |kind: &str| format!("{}.cluster-{kind}{unique}.{region}.rds.amazonaws.com", self.name);
        let mut map = self.settings.clone();
        map.set("DBClusterIdentifier", &self.name);
        map.set("DbClusterResourceId", &self.resource_id);
        map.set("DBClusterArn", format!("arn:aws:rds:{region}:{account}:cluster:{}", self.name));
        map.set("Status", Value::Text(self.status.clone()));
        map.set("Endpoint", endpoint(""));
        map.set("ReaderEndpoint", endpoint("ro-"));
        map.set("Port", self.port);
        map.set("HostedZoneId", "Z2R2ITUGPM61AM");
        map.set("MultiAZ", self.members.len() > 1);
        map.set("TagList", write_tags("Tag", &self.tags));
        map.set("AssociatedRoles", list("DBClusterRole", self.roles.clone()));
        map.set("CrossAccountClone", false);
        map.set("ActivityStreamStatus", "stopped");
        map.set("AllocatedStorage", 1);
        if let Some(created) = self.created {
            map.set("ClusterCreateTime", created);
            map.set("EarliestRestorableTime", created);
            map.set("LatestRestorableTime", now.plus(-60_000).max(created));
        }
        let custom = self.endpoints.iter().filter_map(|e| e.get("Endpoint").cloned());
        map.set("CustomEndpoints", Value::List("member", custom.collect()));
        let member = |(i, name): (usize, &String)| {
            let tier = rds.instances.get(name).map(|m| m.settings.number("PromotionTier"));
            Map::new()
                .with("DBInstanceIdentifier", name)
                .with("IsClusterWriter", i == 0)
                .with("DBClusterParameterGroupStatus", "in-sync")
                .with("PromotionTier", tier.unwrap_or(1))
        };
        let members = self.members.iter().enumerate().map(member);
        map.set("DBClusterMembers", list("DBClusterMember", members));
        map
    }
}

pub(crate) fn not_found(name: &str) -> Fault {
    Fault::new(404, "DBClusterNotFoundFault", format!("DBCluster {name} not found."))
}

/// The cluster that a request names, by name or ARN.
pub(crate) fn named<'a>(rds: &'a Rds, params: &Map) -> Result<&'a Cluster, Fault> {
    let name = params.required("DBClusterIdentifier")?;
    let last = name.rsplit(':').next().unwrap_or(name).to_lowercase();
    rds.clusters.get(&last).ok_or_else(|| not_found(&last))
}

pub(crate) fn shown(ctx: &mut Ctx<'_>, name: &str) -> Map {
    let (account, region, now) = (ctx.account, ctx.region, ctx.now);
    let rds = ctx.rds();
    let map = rds.clusters.get(name).map(|c| c.show(rds, account, region, now));
    Map::new().maybe("DBCluster", map)
}

pub(super) fn describe(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let filters =
        filters(params, &["db-cluster-id", "db-cluster-resource-id", "engine", "domain"])?;
    let (account, region, now) = (ctx.account, ctx.region, ctx.now);
    let rds = ctx.rds();
    let only = match params.text("DBClusterIdentifier") {
        Some(_) => Some(named(rds, params)?.name.clone()),
        None => None,
    };
    let passes = |c: &&Cluster| {
        filters.iter().all(|(name, values)| {
            let value = match name.as_str() {
                "db-cluster-id" => c.name.as_str(),
                "db-cluster-resource-id" => &c.resource_id,
                "engine" => c.settings.text_or_empty("Engine"),
                _ => "",
            };
            values.iter().any(|v| v.rsplit(':').next() == Some(value))
        })
    };
    let all = rds.clusters.values().filter(|c| only.as_ref().is_none_or(|n| *n == c.name));
    let all = all.filter(passes).map(|c| c.show(rds, account, region, now)).collect();
    page(params, "DBClusters", "DBCluster", all, |map| {
        map.text_or_empty("DBClusterIdentifier").to_owned()
    })
}

fn free_name(ctx: &mut Ctx<'_>, params: &Map) -> Result<String, Fault> {
    let name = params.required("DBClusterIdentifier")?.to_lowercase();
    check_name(&name, 63, "DBClusterIdentifier")?;
    let most = ctx.world.settings.rds_clusters;
    let rds = ctx.rds();
    if rds.cluster_name_taken(&name) {
        let message = format!("DB cluster {name} already exists");
        return Err(Fault::new(400, "DBClusterAlreadyExistsFault", message));
    }
    if rds.clusters.len() >= most {
        let message = "Cannot create more DB clusters in this account and region";
        return Err(Fault::new(400, "DBClusterQuotaExceededFault", message));
    }
    Ok(name)
}

/// The members that a request gives, and the defaults of those it leaves out.
pub(crate) fn collect(
    ctx: &mut Ctx<'_>,
    params: &Map,
    engine: &'static Engine,
    version: &str,
    defaults: bool,
) -> Result<Map, Fault> {
    let (account, region) = (ctx.account, ctx.region);
    let security_groups = ctx.security_groups();
    let groups = &ctx.rds().groups;
    let mut settings = Map::new();
    for (input, member, shape, default) in PLAIN {
        let default = default.filter(|_| defaults);
        let value = match shape {
            Shape::Text => params.text(input).or(default).map(|t| Value::from(t.to_owned())),
            Shape::Flag => {
                let given = params.flag(input)?;
                given.or(default.map(|d| d == "true")).map(Value::Bool)
            }
            Shape::Number => {
                params.int(input)?.or(default.and_then(|d| d.parse().ok())).map(Value::Int)
            }
            Shape::Texts => {
                let texts = params.texts(input);
                let item =
                    if *input == "AvailabilityZones" { "AvailabilityZone" } else { "member" };
                (!texts.is_empty()).then(|| list(item, texts))
            }
            Shape::Scaling => params.map(input).map(scaling).transpose()?,
            Shape::ParameterGroup => {
                let family = engine.family(version);
                let given = params.text(input);
                if let Some(name) = given {
                    groups.check_cluster_group(name, &family)?;
                }
                let name =
                    given.map(str::to_owned).or(defaults.then(|| format!("default.{family}")));
                name.map(Value::from)
            }
            Shape::SubnetGroup => {
                let name = params.text(input).or(defaults.then_some("default"));
                if let Some(name) = name
                    && groups.subnet_group(name, account, region).is_none()
                {
                    let message = format!("DB subnet group not found: {name}");
                    return Err(Fault::new(404, "DBSubnetGroupNotFoundFault", message));
                }
                name.map(|n| Value::from(n.to_owned()))
            }
            Shape::SecurityGroups => {
                let mut ids = params.texts(input);
                if let Some(unknown) = ids.iter().find(|id| !security_groups.contains(id)) {
                    let message =
                        format!("Invalid security group , groupId= {unknown}, groupName=.");
                    return Err(Fault::new(400, "InvalidParameterValue", message));
                }
                if ids.is_empty() && defaults {
                    ids.push(super::default_security_group(account, region));
                }
                let group = |id: &String| {
                    Map::new().with("VpcSecurityGroupId", id).with("Status", "active")
                };
                (!ids.is_empty()).then(|| list("VpcSecurityGroupMembership", ids.iter().map(group)))
            }
        };
        if let Some(value) = value {
            settings.set(*member, value);
        }
    }
    if defaults && !settings.has("AvailabilityZones") {
        let zones = ['a', 'b', 'c'].map(|zone| format!("{region}{zone}"));
        settings.set("AvailabilityZones", list("AvailabilityZone", zones));
    }
    Ok(settings)
}

fn scaling(given: &Map) -> Result<Value, Fault> {
    let map = Map::new()
        .maybe("MinCapacity", given.float("MinCapacity")?)
        .maybe("MaxCapacity", given.float("MaxCapacity")?)
        .maybe("SecondsUntilAutoPause", given.int("SecondsUntilAutoPause")?);
    Ok(Value::Map(map))
}

/// What protects the storage: a key where one is asked for, else what Aurora does by itself.
fn encryption(
    ctx: &mut Ctx<'_>,
    settings: &mut Map,
    encrypted: bool,
    key: Option<&str>,
) -> Result<(), Fault> {
    settings.set("StorageEncrypted", encrypted);
    if encrypted {
        let key = ctx.rds_key(key)?;
        settings.set("KmsKeyId", key);
        settings.set("StorageEncryptionType", "sse-kms");
    } else {
        settings.set("StorageEncryptionType", ctx.world.settings.aurora_default.clone());
    }
    Ok(())
}

pub(super) fn create(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let name = free_name(ctx, params)?;
    let engine = engines::find(params.required("Engine")?)?;
    if !engine.clustered() {
        let message =
            format!("the simulator does not model Multi-AZ DB clusters ({})", engine.name);
        return Err(Fault::of(Kind::NotModelled, message));
    }
    let version = params.text("EngineVersion").unwrap_or(engine.version).to_owned();
    let managed = params.flag("ManageMasterUserPassword")?.unwrap_or(false);
    let user = params.required("MasterUsername")?.to_owned();
    if managed == params.has("MasterUserPassword") {
        return Err(combination("Give MasterUserPassword or ManageMasterUserPassword, not both"));
    }
    let mut settings = collect(ctx, params, engine, &version, true)?;
    settings.set("Engine", engine.name);
    settings.set("EngineVersion", version);
    settings.set("MasterUsername", user);
    let encrypted = params.flag("StorageEncrypted")?.unwrap_or(false);
    if params.has("KmsKeyId") && !encrypted {
        return Err(combination("KmsKeyId can be given for encrypted storage only"));
    }
    encryption(ctx, &mut settings, encrypted, params.text("KmsKeyId"))?;
    domain_and_secret(ctx, params, managed, &mut settings)?;
    let port = params.int("Port")?.unwrap_or(engine.port);
    let tags = tags::read(params)?;
    begin(ctx, &name, settings, port, tags, seconds::CREATE / 2);
    Ok(shown(ctx, &name))
}

pub(crate) fn begin(
    ctx: &mut Ctx<'_>,
    name: &str,
    settings: Map,
    port: i64,
    tags: Tags,
    takes: i64,
) -> String {
    let resource_id = format!("cluster-{}", ctx.id(26).to_uppercase());
    let (now, at) = (ctx.now, ctx.after(takes));
    let cluster = Cluster {
        name: name.to_owned(),
        resource_id: resource_id.clone(),
        status: "creating".into(),
        settings,
        port,
        tags,
        members: Vec::new(),
        roles: Vec::new(),
        endpoint_tags: BTreeMap::new(),
        endpoints: Vec::new(),
        created: Some(now),
        new_name: None,
        fate: None,
    };
    let rds = ctx.rds();
    rds.clusters.insert(name.to_owned(), cluster);
    rds.newest = Some(resource_id.clone());
    rds.at(at, Step::Cluster { id: resource_id.clone(), status: "available" });
    resource_id
}

/// A restore with a key encrypts, whatever the snapshot is; without one, an unencrypted snapshot gives
/// what Aurora does by itself today. An omitted EngineVersion is the region's default and not the
/// snapshot's.
pub(super) fn restore(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let name = free_name(ctx, params)?;
    let snapshot =
        snapshots::named(&ctx.rds().cluster_snapshots, params, "SnapshotIdentifier")?.clone();
    if snapshot.status != "available" {
        let message = "The snapshot is not available.";
        return Err(Fault::new(400, "InvalidDBClusterSnapshotStateFault", message));
    }
    let engine = engines::find(params.required("Engine")?)?;
    if snapshot.settings.text("Engine") != Some(engine.name) {
        return Err(combination(format!(
            "The engine of the snapshot is {}",
            snapshot.settings.text_or_empty("Engine")
        )));
    }
    let version = params.text("EngineVersion").unwrap_or(engine.version).to_owned();
    let mut settings = collect(ctx, params, engine, &version, true)?;
    settings.set("Engine", engine.name);
    settings.set("EngineVersion", version);
    for member in ["MasterUsername", "DatabaseName"] {
        if let Some(value) = snapshot.settings.get(member)
            && !settings.has(member)
        {
            settings.set(member, value.clone());
        }
    }
    let old_key = snapshot.settings.text("KmsKeyId");
    let key = params.text("KmsKeyId").or(old_key);
    encryption(ctx, &mut settings, key.is_some(), key)?;
    domain_and_secret(ctx, params, false, &mut settings)?;
    let port = params.int("Port")?.unwrap_or(engine.port);
    let tags = if params.has("Tags") { tags::read(params)? } else { snapshot.source_tags.clone() };
    begin(ctx, &name, settings, port, tags, seconds::RESTORE);
    Ok(shown(ctx, &name))
}

pub(super) fn delete(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let cluster = named(ctx.rds(), params)?.clone();
    let skip = params.flag("SkipFinalSnapshot")?.unwrap_or(false);
    let last = params.text("FinalDBSnapshotIdentifier").map(str::to_owned);
    if cluster.settings.is("DeletionProtection") {
        let message =
            "Cannot delete protected Cluster, please disable deletion protection and try again.";
        return Err(combination(message));
    }
    let alive = |name: &String| {
        ctx.world
            .cells
            .get(&(ctx.account, ctx.region))
            .is_some_and(|c| c.rds.instances.get(name).is_some_and(|i| i.status != "deleting"))
    };
    if cluster.status == "deleting" || cluster.members.iter().any(alive) {
        let message =
            "Cluster cannot be deleted, it still contains DB instances in non-deleting state.";
        return Err(Fault::new(400, "InvalidDBClusterStateFault", message));
    }
    match (skip, &last) {
        (true, Some(_)) => {
            return Err(combination(
                "FinalDBSnapshotIdentifier can not be specified when deleting a cluster with SkipFinalSnapshot.",
            ));
        }
        (false, None) => {
            return Err(combination(
                "FinalDBSnapshotIdentifier is required unless SkipFinalSnapshot is specified.",
            ));
        }
        (false, Some(name)) => drop(snapshots::take_cluster(ctx, &cluster, name, Tags::new())?),
        (true, None) => {}
    }
    let at = ctx.after(seconds::DELETE);
    let rds = ctx.rds();
    if let Some(found) = rds.clusters.get_mut(&cluster.name) {
        found.status = "deleting".into();
    }
    rds.at(at, Step::ClusterGone { id: cluster.resource_id });
    Ok(shown(ctx, &cluster.name))
}

/// A cluster stops and starts with its members (Aurora user guide, "Stopping and starting an Amazon Aurora
/// DB cluster").
fn through(
    ctx: &mut Ctx<'_>,
    params: &Map,
    from: &str,
    states: [&'static str; 2],
    takes: i64,
) -> Result<Cluster, Fault> {
    let cluster = named(ctx.rds(), params)?.clone();
    if cluster.status != from {
        let message = format!("DB cluster {} is not in {from} state.", cluster.name);
        return Err(Fault::new(400, "InvalidDBClusterStateFault", message));
    }
    let at = ctx.after(takes);
    let rds = ctx.rds();
    if let Some(found) = rds.clusters.get_mut(&cluster.name) {
        found.status = states[0].into();
    }
    rds.forget_states(&cluster.resource_id);
    rds.at(at, Step::Cluster { id: cluster.resource_id.clone(), status: states[1] });
    for member in &cluster.members {
        let Some(found) = rds.instances.get_mut(member) else { continue };
        found.status = states[0].into();
        let dbi = found.dbi.clone();
        rds.forget_states(&dbi);
        rds.at(at, Step::Instance { dbi, status: states[1] });
    }
    Ok(cluster)
}

pub(super) fn stop(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let cluster = through(ctx, params, "available", ["stopping", "stopped"], seconds::STOP)?;
    Ok(shown(ctx, &cluster.name))
}

pub(super) fn start(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let cluster = through(ctx, params, "stopped", ["starting", "available"], seconds::START)?;
    Ok(shown(ctx, &cluster.name))
}
