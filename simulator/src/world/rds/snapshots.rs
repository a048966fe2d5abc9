//! Snapshots of instances and of clusters, and their copies.
//!
//! Copying with a key is what encrypts an instance's snapshot; a cluster snapshot is encrypted by the
//! restore, and copying it with a key is refused while it is unencrypted (API reference,
//! CopyDBClusterSnapshot).

use super::instances::{Instance, combination, invalid_state};
use super::{Rds, Step, Tags, check_name, clusters, filters, instances, page, seconds, tags};
use crate::fault::Fault;
use crate::value::{Map, Time};
use crate::world::Ctx;
use crate::world::organizations::write_tags;
use std::collections::BTreeMap;

/// Copies of cluster snapshots in flight to one region (RDS user guide, "Copying a snapshot").
const CLUSTER_COPIES: usize = 5;

#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) name: String,
    pub(crate) arn: String,
    pub(crate) status: &'static str,
    /// The database's name at the time; a later rename does not change it.
    pub(crate) source: String,
    pub(crate) source_id: String,
    pub(crate) source_tags: Tags,
    pub(crate) settings: Map,
    pub(crate) port: i64,
    pub(crate) tags: Tags,
    pub(crate) created: Time,
    pub(crate) original: Time,
    pub(crate) db_created: Option<Time>,
    /// The ARN that it was copied from.
    pub(crate) copy_of: Option<String>,
    /// Accounts that may restore it, or `all`; a copy is shared with nobody.
    pub(crate) shared: Vec<String>,
}

fn not_found(kind: Kind, name: &str) -> Fault {
    match kind {
        Kind::Instance => {
            Fault::new(404, "DBSnapshotNotFound", format!("DBSnapshot {name} not found."))
        }
        Kind::Cluster => Fault::new(
            404,
            "DBClusterSnapshotNotFoundFault",
            format!("DBClusterSnapshot not found: {name}"),
        ),
    }
}

/// Which of the two kinds of snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Instance,
    Cluster,
}

impl Kind {
    fn table(self, rds: &mut Rds) -> &mut BTreeMap<String, Snapshot> {
        match self {
            Kind::Instance => &mut rds.snapshots,
            Kind::Cluster => &mut rds.cluster_snapshots,
        }
    }

    fn step(self, arn: String) -> Step {
        match self {
            Kind::Instance => Step::Snapshot { arn },
            Kind::Cluster => Step::ClusterSnapshot { arn },
        }
    }

    fn wrong_state(self, message: &str) -> Fault {
        let code = match self {
            Kind::Instance => "InvalidDBSnapshotState",
            Kind::Cluster => "InvalidDBClusterSnapshotStateFault",
        };
        Fault::new(400, code, message)
    }
}

/// The snapshot that a request names, by name or ARN.
pub(crate) fn named<'a>(
    table: &'a BTreeMap<String, Snapshot>,
    params: &Map,
    field: &str,
) -> Result<&'a Snapshot, Fault> {
    let name = params.required(field)?;
    let kind = if field.contains("Cluster") || field == "SnapshotIdentifier" {
        Kind::Cluster
    } else {
        Kind::Instance
    };
    let last = name.rsplit(':').next().unwrap_or(name).to_lowercase();
    table.get(&last).ok_or_else(|| not_found(kind, name))
}

/// A name that no snapshot of this kind has yet, within the quota.
fn free(ctx: &mut Ctx<'_>, kind: Kind, name: &str) -> Result<String, Fault> {
    let (most, field) = match kind {
        Kind::Instance => (255, "DBSnapshotIdentifier"),
        Kind::Cluster => (63, "DBClusterSnapshotIdentifier"),
    };
    let name = name.to_lowercase();
    check_name(&name, most, field)?;
    let quota = ctx.world.settings.rds_snapshots;
    let table = kind.table(ctx.rds());
    if table.contains_key(&name) {
        let (code, what) = match kind {
            Kind::Instance => ("DBSnapshotAlreadyExists", "snapshot"),
            Kind::Cluster => ("DBClusterSnapshotAlreadyExistsFault", "cluster snapshot"),
        };
        let message = format!(
            "Cannot create the {what} because one with the identifier {name} already exists."
        );
        return Err(Fault::new(400, code, message));
    }
    if table.len() >= quota {
        let message = format!("Cannot create more than {quota} manual snapshots");
        return Err(Fault::new(400, "SnapshotQuotaExceeded", message));
    }
    Ok(name)
}

fn add(ctx: &mut Ctx<'_>, kind: Kind, snapshot: Snapshot) -> Map {
    let gib = snapshot.settings.number("AllocatedStorage");
    let at = ctx.after(seconds::SNAPSHOT + gib * seconds::SNAPSHOT_GIB);
    let (account, region) = (ctx.account, ctx.region);
    let shown = snapshot.show(kind, account, region);
    let rds = ctx.rds();
    rds.at(at, kind.step(snapshot.arn.clone()));
    rds.newest = Some(snapshot.arn.clone());
    kind.table(rds).insert(snapshot.name.clone(), snapshot);
    shown
}

/// Takes a snapshot of an instance, whoever asked.
pub(crate) fn take(
    ctx: &mut Ctx<'_>,
    instance: &Instance,
    name: &str,
    tags: Tags,
) -> Result<Map, Fault> {
    if instance.cluster.is_some() {
        let message = "The specified instance is a member of a cluster and a snapshot cannot be created directly. Please use the CreateDBClusterSnapshot API instead.";
        return Err(Fault::new(400, "InvalidParameterValue", message));
    }
    let name = free(ctx, Kind::Instance, name)?;
    let arn = ctx.arn("rds", &format!("snapshot:{name}"));
    let mut tags = tags;
    if instance.settings.is("CopyTagsToSnapshot") {
        for (key, value) in &instance.tags {
            tags.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    let snapshot = Snapshot {
        name,
        arn,
        status: "creating",
        source: instance.name.clone(),
        source_id: instance.dbi.clone(),
        source_tags: instance.tags.clone(),
        settings: instance.settings.clone(),
        port: instance.port,
        tags,
        created: ctx.now,
        original: ctx.now,
        db_created: instance.created,
        copy_of: None,
        shared: Vec::new(),
    };
    Ok(add(ctx, Kind::Instance, snapshot))
}

pub(super) fn create(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let instance = instances::named(ctx.rds(), params, "DBInstanceIdentifier")?.clone();
    // The name first: whoever asks again with the same one learns that it is there.
    let name = free(ctx, Kind::Instance, params.required("DBSnapshotIdentifier")?)?;
    if !["available", "storage-optimization"].contains(&instance.status.as_ref()) {
        return Err(invalid_state(format!(
            "Cannot create a snapshot because the database instance {} is not currently in the available state.",
            instance.name
        )));
    }
    let tags = tags::read(params)?;
    let snapshot = take(ctx, &instance, &name, tags)?;
    // "The DB instance is currently being backed up" (RDS guide, status): nothing else may begin.
    let at = ctx.after(seconds::BACKUP);
    let rds = ctx.rds();
    if let Some(found) = rds.instances.get_mut(&instance.name) {
        found.status = "backing-up".into();
    }
    rds.forget_states(&instance.dbi);
    rds.at(at, Step::Instance { dbi: instance.dbi, status: "available" });
    Ok(Map::new().with("DBSnapshot", snapshot))
}

/// Takes a snapshot of a cluster, whoever asked.
pub(crate) fn take_cluster(
    ctx: &mut Ctx<'_>,
    cluster: &clusters::Cluster,
    name: &str,
    tags: Tags,
) -> Result<Map, Fault> {
    let name = free(ctx, Kind::Cluster, name)?;
    let arn = ctx.arn("rds", &format!("cluster-snapshot:{name}"));
    let mut tags = tags;
    if cluster.settings.is("CopyTagsToSnapshot") {
        for (key, value) in &cluster.tags {
            tags.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    let snapshot = Snapshot {
        name,
        arn,
        status: "creating",
        source: cluster.name.clone(),
        source_id: cluster.resource_id.clone(),
        source_tags: cluster.tags.clone(),
        settings: cluster.settings.clone(),
        port: cluster.port,
        tags,
        created: ctx.now,
        original: ctx.now,
        db_created: cluster.created,
        copy_of: None,
        shared: Vec::new(),
    };
    Ok(add(ctx, Kind::Cluster, snapshot))
}

pub(super) fn create_cluster(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let cluster = clusters::named(ctx.rds(), params)?.clone();
    let name = free(ctx, Kind::Cluster, params.required("DBClusterSnapshotIdentifier")?)?;
    if cluster.status != "available" {
        let message = format!("Cluster {} is not in the available state.", cluster.name);
        return Err(Fault::new(400, "InvalidDBClusterStateFault", message));
    }
    let tags = tags::read(params)?;
    let snapshot = take_cluster(ctx, &cluster, &name, tags)?;
    let at = ctx.after(seconds::BACKUP);
    let rds = ctx.rds();
    if let Some(found) = rds.clusters.get_mut(&cluster.name) {
        found.status = "backing-up".into();
    }
    rds.at(at, Step::Cluster { id: cluster.resource_id, status: "available" });
    Ok(Map::new().with("DBClusterSnapshot", snapshot))
}

pub(super) fn copy(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let snapshot = copied(
        ctx,
        params,
        Kind::Instance,
        ("SourceDBSnapshotIdentifier", "TargetDBSnapshotIdentifier"),
    )?;
    Ok(Map::new().with("DBSnapshot", snapshot))
}

pub(super) fn copy_cluster(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let snapshot = copied(
        ctx,
        params,
        Kind::Cluster,
        ("SourceDBClusterSnapshotIdentifier", "TargetDBClusterSnapshotIdentifier"),
    )?;
    Ok(Map::new().with("DBClusterSnapshot", snapshot))
}

fn copied(
    ctx: &mut Ctx<'_>,
    params: &Map,
    kind: Kind,
    (from, to): (&str, &str),
) -> Result<Map, Fault> {
    let source = named(kind.table(ctx.rds()), params, from)?.clone();
    let name = free(ctx, kind, params.required(to)?)?;
    if source.status != "available" {
        return Err(kind.wrong_state("The source snapshot is not available."));
    }
    let (most, path) = match kind {
        Kind::Instance => (ctx.world.settings.rds_copies, "snapshot"),
        Kind::Cluster => (CLUSTER_COPIES, "cluster-snapshot"),
    };
    let flying = |s: &&Snapshot| s.copy_of.is_some() && s.status == "creating";
    if kind.table(ctx.rds()).values().filter(flying).count() >= most {
        let message = format!("Cannot copy more than {most} snapshots at a time to this region");
        return Err(Fault::new(400, "SnapshotQuotaExceeded", message));
    }
    let mut settings = source.settings.clone();
    // The data is read under its old key, whatever the new one is.
    if let Some(old) = source.settings.text("KmsKeyId") {
        ctx.rds_key(Some(old))?;
    }
    if let Some(key) = params.text("KmsKeyId") {
        if kind == Kind::Cluster && !settings.is("StorageEncrypted") {
            return Err(combination(
                "KmsKeyId can't be given for a copy of an unencrypted DB cluster snapshot.",
            ));
        }
        let key = ctx.rds_key(Some(key))?;
        settings.set("KmsKeyId", key);
        settings.set("StorageEncrypted", true);
        settings.set("StorageEncryptionType", "sse-kms");
    }
    let mut tags = tags::read(params)?;
    if params.flag("CopyTags")?.unwrap_or(false) && tags.is_empty() {
        tags = source.tags.clone();
    }
    let snapshot = Snapshot {
        arn: ctx.arn("rds", &format!("{path}:{name}")),
        name,
        status: "creating",
        settings,
        tags,
        created: ctx.now,
        copy_of: Some(source.arn.clone()),
        shared: Vec::new(),
        ..source
    };
    Ok(add(ctx, kind, snapshot))
}

pub(super) fn delete(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let snapshot = deleted(ctx, params, Kind::Instance, "DBSnapshotIdentifier")?;
    Ok(Map::new().with("DBSnapshot", snapshot))
}

pub(super) fn delete_cluster(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let snapshot = deleted(ctx, params, Kind::Cluster, "DBClusterSnapshotIdentifier")?;
    Ok(Map::new().with("DBClusterSnapshot", snapshot))
}

/// "The DB snapshot must be in the available state to be deleted."
fn deleted(ctx: &mut Ctx<'_>, params: &Map, kind: Kind, field: &str) -> Result<Map, Fault> {
    let (account, region) = (ctx.account, ctx.region);
    let table = kind.table(ctx.rds());
    let snapshot = named(table, params, field)?.clone();
    if snapshot.status != "available" {
        return Err(
            kind.wrong_state("Cannot delete a snapshot that is not in the available state.")
        );
    }
    table.remove(&snapshot.name);
    // A copy that is still being made from it is lost (RDS guide, "Copying a snapshot").
    for copy in table.values_mut().filter(|s| s.copy_of.as_ref() == Some(&snapshot.arn)) {
        if copy.status == "creating" {
            copy.status = "failed";
        }
    }
    let mut shown = snapshot.show(kind, account, region);
    shown.set("Status", "deleted");
    Ok(shown)
}

pub(super) fn describe(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let known = ["db-instance-id", "db-snapshot-id", "dbi-resource-id", "snapshot-type", "engine"];
    let fields = ("DBInstanceIdentifier", "DBSnapshotIdentifier", "DbiResourceId");
    listed(ctx, params, Kind::Instance, &known, fields, ("DBSnapshots", "DBSnapshot"))
}

pub(super) fn describe_cluster(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let known = ["db-cluster-id", "db-cluster-snapshot-id", "snapshot-type", "engine"];
    let fields = ("DBClusterIdentifier", "DBClusterSnapshotIdentifier", "DbClusterResourceId");
    let names = ("DBClusterSnapshots", "DBClusterSnapshot");
    listed(ctx, params, Kind::Cluster, &known, fields, names)
}

fn listed(
    ctx: &mut Ctx<'_>,
    params: &Map,
    kind: Kind,
    known: &[&str],
    (source, name, id): (&str, &'static str, &str),
    (plural, item): (&'static str, &'static str),
) -> Result<Map, Fault> {
    let filters = filters(params, known)?;
    let (account, region) = (ctx.account, ctx.region);
    let table = kind.table(ctx.rds());
    let only = match params.text(name) {
        Some(_) => Some(named(table, params, name)?.name.clone()),
        None => None,
    };
    let kind_wanted = params.text("SnapshotType").unwrap_or("manual");
    let passes = |s: &Snapshot| {
        only.as_ref().is_none_or(|n| *n == s.name)
            && params.text(source).is_none_or(|n| n.rsplit(':').next() == Some(s.source.as_str()))
            && params.text(id).is_none_or(|n| n == s.source_id)
            // Every snapshot here was asked for by somebody; AWS's own are not modelled.
            && kind_wanted == "manual"
            && filters.iter().all(|(name, values)| {
                let value = match name.as_str() {
                    "db-instance-id" | "db-cluster-id" => &s.source,
                    "db-snapshot-id" | "db-cluster-snapshot-id" => &s.name,
                    "dbi-resource-id" => &s.source_id,
                    "snapshot-type" => "manual",
                    _ => s.settings.text_or_empty("Engine"),
                };
                values.iter().any(|v| v == value)
            })
    };
    let all = table.values().filter(|s| passes(s)).map(|s| s.show(kind, account, region)).collect();
    page(params, plural, item, all, |map| map.text_or_empty(name).to_owned())
}

impl Snapshot {
    /// The shape that Describe shows.
    fn show(
        &self,
        kind: Kind,
        account: crate::world::AccountId,
        region: crate::world::Region,
    ) -> Map {
        let s = &self.settings;
        let text = |name: &str| s.text(name).map(str::to_owned);
        let progress = if self.status == "available" { 100 } else { 0 };
        let mut map = Map::new()
            .with("Status", self.status)
            .with("Port", self.port)
            .with("Engine", s.text_or_empty("Engine").to_owned())
            .with("EngineVersion", s.text_or_empty("EngineVersion").to_owned())
            .with("SnapshotType", "manual")
            .with("AllocatedStorage", s.number("AllocatedStorage"))
            .with("VpcId", super::groups::vpc(account, region))
            .with("PercentProgress", progress)
            .with("StorageEncryptionType", s.text_or_empty("StorageEncryptionType").to_owned())
            .with("IAMDatabaseAuthenticationEnabled", s.is("IAMDatabaseAuthenticationEnabled"))
            .with("TagList", write_tags("Tag", &self.tags))
            .maybe("MasterUsername", text("MasterUsername"))
            .maybe("LicenseModel", text("LicenseModel"))
            .maybe("StorageType", text("StorageType"))
            .maybe("KmsKeyId", text("KmsKeyId"));
        // Known when the snapshot is taken, which is a little after it is asked for.
        if self.status == "available" {
            map.set("SnapshotCreateTime", self.created);
        }
        match kind {
            Kind::Instance => {
                map.set("DBSnapshotIdentifier", &self.name);
                map.set("DBSnapshotArn", &self.arn);
                map.set("DBInstanceIdentifier", &self.source);
                map.set("DbiResourceId", &self.source_id);
                map.set("Encrypted", s.is("StorageEncrypted"));
                map.set("OriginalSnapshotCreateTime", self.original);
                let zone = s.text("AvailabilityZone").map(str::to_owned);
                map = map
                    .maybe("AvailabilityZone", zone)
                    .maybe("InstanceCreateTime", self.db_created);
                let group = s.maps("OptionGroupMemberships").next();
                map = map.maybe(
                    "OptionGroupName",
                    group.and_then(|g| g.get("OptionGroupName").cloned()),
                );
                for name in ["Iops", "StorageThroughput"] {
                    map = map.maybe(name, s.get(name).cloned());
                }
                map = map.maybe("SourceDBSnapshotIdentifier", self.copy_of.clone());
            }
            Kind::Cluster => {
                map.set("DBClusterSnapshotIdentifier", &self.name);
                map.set("DBClusterSnapshotArn", &self.arn);
                map.set("DBClusterIdentifier", &self.source);
                map.set("DbClusterResourceId", &self.source_id);
                map.set("StorageEncrypted", s.is("StorageEncrypted"));
                map = map.maybe("ClusterCreateTime", self.db_created);
                map = map.maybe("SourceDBClusterSnapshotArn", self.copy_of.clone());
            }
        }
        map
    }
}
