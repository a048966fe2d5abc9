//! DB instances: create, restore, delete, start, stop, reboot, describe.

use super::engines::{self, Engine};
use super::settings::{self, Facts, Omitted};
use super::snapshots::Snapshot;
use super::{
    Rds, Status, Step, Tags, check_name, filters, members, page, seconds, snapshots, tags,
};
use crate::fault::Fault;
use crate::hash;
use crate::value::{Map, Time, Value, list};
use crate::world::organizations::write_tags;
use crate::world::{AccountId, Ctx, Region};

/// GiB that a database may have (RDS user guide, "DB instance storage": 20 to 65,536).
pub(crate) const STORAGE: std::ops::RangeInclusive<i64> = 20..=65_536;

#[derive(Debug, Clone)]
pub(crate) struct Instance {
    pub(crate) name: String,
    /// `DbiResourceId`: never changes, and never comes again.
    pub(crate) dbi: String,
    pub(crate) status: Status,
    /// All members that a person set, or that came with a snapshot, by their names in the reply.
    pub(crate) settings: Map,
    pub(crate) port: i64,
    pub(crate) tags: Tags,
    pub(crate) cluster: Option<String>,
    /// The name of the instance that this one replicates; its ARN, where that is in another region.
    pub(crate) source: Option<String>,
    /// Whether that source is gone, and it was not promoted.
    pub(crate) terminated: bool,
    /// The ARNs of its replicas in other regions.
    pub(crate) far_replicas: Vec<String>,
    pub(crate) roles: Vec<Map>,
    pub(crate) created: Option<Time>,
    pub(crate) pending: Map,
    pub(crate) new_name: Option<String>,
    /// What it becomes instead of available.
    pub(crate) fate: Option<&'static str>,
    /// When it was stopped, and until when.
    pub(crate) stops: Vec<(Time, Option<Time>)>,
}

impl Instance {
    /// Whether it was stopped at that time: it has no metrics of it, then or later.
    pub(crate) fn was_stopped(&self, at: Time) -> bool {
        self.stops.iter().any(|(from, until)| *from <= at && until.is_none_or(|until| at < until))
    }

    /// Notes when it stops, and when it runs again.
    fn note_stop(&mut self, status: &str, time: Time) {
        match self.stops.last_mut().filter(|(_, until)| until.is_none()) {
            Some((_, until)) if status != "stopped" => *until = Some(time),
            None if status == "stopped" => self.stops.push((time, None)),
            _ => {}
        }
    }

    pub(crate) fn new(name: &str, dbi: String, settings: Map, port: i64, tags: Tags) -> Instance {
        Instance {
            name: name.to_owned(),
            dbi,
            status: "creating".into(),
            settings,
            port,
            tags,
            cluster: None,
            source: None,
            terminated: false,
            far_replicas: Vec::new(),
            roles: Vec::new(),
            created: None,
            pending: Map::new(),
            new_name: None,
            fate: None,
            stops: Vec::new(),
        }
    }

    /// A database that is being deleted stays so, whatever was to become of it.
    pub(crate) fn become_(&mut self, status: &'static str, time: Time) {
        if self.status == "deleting" {
            return;
        }
        let fate = self.fate.filter(|_| status == "available" || status == "backing-up");
        self.status = fate.unwrap_or(status).into();
        self.note_stop(fate.unwrap_or(status), time);
        self.created = self.created.or((self.status != "creating").then_some(time));
    }

    /// What was pending is in force.
    pub(crate) fn apply(&mut self, changes: Map) {
        for (name, value) in changes.iter() {
            // Shown by name while it is pending.
            self.pending.remove(if name == "DBSubnetGroup" { "DBSubnetGroupName" } else { name });
            match (name, value) {
                ("Port", Value::Int(port)) => self.port = *port,
                _ => self.settings.set(name.to_owned(), value.clone()),
            }
        }
    }

    pub(crate) fn engine(&self) -> Result<&'static Engine, Fault> {
        engines::find(self.settings.text_or_empty("Engine"))
    }

    pub(crate) fn arn(&self, account: AccountId, region: Region) -> String {
        format!("arn:aws:rds:{region}:{account}:db:{}", self.name)
    }

    /// The shape that Describe shows.
    pub(crate) fn show(&self, rds: &Rds, account: AccountId, region: Region, now: Time) -> Map {
        let mut map = self.settings.clone();
        map.set("DBInstanceIdentifier", &self.name);
        map.set("DbiResourceId", &self.dbi);
        map.set("DBInstanceArn", self.arn(account, region));
        map.set("DBInstanceStatus", Value::Text(self.status.clone()));
        map.set("DbInstancePort", 0);
        map.set("PendingModifiedValues", self.pending.clone());
        map.set("TagList", write_tags("Tag", &self.tags));
        map.set("AssociatedRoles", list("DBInstanceRole", self.roles.clone()));
        map.set("ActivityStreamStatus", "stopped");
        let nothing: [Map; 0] = [];
        map.set("DBSecurityGroups", list("DBSecurityGroup", nothing));
        super::replicas::show(self, rds, &mut map);
        if let Some(cluster) = &self.cluster {
            map.set("DBClusterIdentifier", cluster);
        }
        // No endpoint and no creation time until it has come into being.
        if let Some(created) = self.created {
            map.set("InstanceCreateTime", created);
            let unique = hash::letters(hash::of(account.0, region), 12);
            let endpoint = Map::new()
                .with("Address", format!("{}.{unique}.{region}.rds.amazonaws.com", self.name))
                .with("Port", self.port)
                .with("HostedZoneId", "Z2R2ITUGPM61AM");
            map.set("Endpoint", endpoint);
            if self.settings.number("BackupRetentionPeriod") > 0 && self.cluster.is_none() {
                // Five minutes behind (RDS user guide, "Point-in-time recovery").
                map.set("LatestRestorableTime", now.plus(-300_000).max(created));
            }
        }
        map
    }
}

pub(crate) fn not_found(name: &str) -> Fault {
    Fault::new(404, "DBInstanceNotFound", format!("DBInstance {name} not found."))
}

pub(crate) fn invalid_state(message: impl Into<String>) -> Fault {
    Fault::new(400, "InvalidDBInstanceState", message)
}

pub(crate) fn combination(message: impl Into<String>) -> Fault {
    Fault::new(400, "InvalidParameterCombination", message)
}

/// The instance that a request names, by name or ARN.
pub(crate) fn named<'a>(rds: &'a Rds, params: &Map, field: &str) -> Result<&'a Instance, Fault> {
    let name = params.required(field)?;
    let last = name.rsplit(':').next().unwrap_or(name).to_lowercase();
    rds.instances.get(&last).ok_or_else(|| not_found(&last))
}

pub(crate) fn shown(ctx: &mut Ctx<'_>, name: &str) -> Map {
    let (account, region, now) = (ctx.account, ctx.region, ctx.now);
    let rds = ctx.rds();
    let map = rds.instances.get(name).map(|i| i.show(rds, account, region, now));
    Map::new().maybe("DBInstance", map)
}

pub(super) fn describe(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let known = ["db-instance-id", "db-cluster-id", "dbi-resource-id", "engine", "domain"];
    let filters = filters(params, &known)?;
    let (account, region, now) = (ctx.account, ctx.region, ctx.now);
    let rds = ctx.rds();
    let only = match params.text("DBInstanceIdentifier") {
        Some(_) => Some(named(rds, params, "DBInstanceIdentifier")?.name.clone()),
        None => None,
    };
    let passes = |i: &Instance| {
        filters.iter().all(|(name, values)| {
            let value = match name.as_str() {
                "db-instance-id" => i.name.as_str(),
                "dbi-resource-id" => &i.dbi,
                "engine" => i.settings.text_or_empty("Engine"),
                "db-cluster-id" => i.cluster.as_deref().unwrap_or_default(),
                _ => "",
            };
            values.iter().any(|v| v.rsplit(':').next() == Some(value))
        })
    };
    let after = params.text("Marker").unwrap_or_default();
    let all = rds.instances.values().filter(|i| only.as_ref().is_none_or(|n| *n == i.name));
    // One more than a page: the rest is not written out.
    let all = all.filter(|i| i.name.as_str() > after && passes(i)).take(101);
    let all = all.map(|i| i.show(rds, account, region, now)).collect();
    page(params, "DBInstances", "DBInstance", all, |map| {
        map.text_or_empty("DBInstanceIdentifier").to_owned()
    })
}

pub(crate) fn free_name(ctx: &mut Ctx<'_>, params: &Map) -> Result<String, Fault> {
    let name = params.required("DBInstanceIdentifier")?.to_lowercase();
    check_name(&name, 63, "DBInstanceIdentifier")?;
    let most = ctx.world.settings.rds_instances;
    let rds = ctx.rds();
    if rds.instance_name_taken(&name) {
        return Err(Fault::new(400, "DBInstanceAlreadyExists", "DB instance already exists"));
    }
    if rds.instances.len() >= most {
        let message = "Cannot create more than 40 DB instances in this account and region";
        return Err(Fault::new(400, "InstanceQuotaExceeded", message));
    }
    Ok(name)
}

/// "Not available for db.m1, db.m2 and db.t2.micro" (RDS user guide, "Encrypting Amazon RDS
/// resources", limitations).
pub(crate) fn check_class(class: &str, encrypted: bool) -> Result<(), Fault> {
    if !class.starts_with("db.") {
        return Err(Fault::new(
            400,
            "InvalidParameterValue",
            format!("Invalid DB Instance class: {class}"),
        ));
    }
    let old = class.starts_with("db.m1.") || class.starts_with("db.m2.") || class == "db.t2.micro";
    if encrypted && old {
        let message = format!("DB Instance class {class} does not support encryption at rest");
        return Err(combination(message));
    }
    Ok(())
}

/// What belongs together or excludes each other.
fn check_settings(settings: &Map, params: &Map) -> Result<(), Fault> {
    if settings.is("MultiAZ") && params.has("AvailabilityZone") {
        return Err(combination(
            "Requesting a specific availability zone is not valid for Multi-AZ instances.",
        ));
    }
    let interval = settings.number("MonitoringInterval");
    if ![0, 1, 5, 10, 15, 30, 60].contains(&interval) {
        return Err(Fault::new(400, "InvalidParameterValue", "MonitoringInterval is not valid"));
    }
    if (interval > 0) != settings.has("MonitoringRoleArn") {
        return Err(combination(
            "A MonitoringRoleARN value is required if you specify a MonitoringInterval value other than 0.",
        ));
    }
    if !(0..=35).contains(&settings.number("BackupRetentionPeriod")) {
        return Err(Fault::new(400, "InvalidParameterValue", "Invalid backup retention period"));
    }
    let provisioned = settings.text("StorageType").is_some_and(|t| t == "io1" || t == "io2");
    if provisioned && !settings.has("Iops") {
        return Err(combination("Iops must be given for io1 and io2 storage"));
    }
    if params.has("Iops")
        && settings.text("StorageType").is_some_and(|t| t == "gp2" || t == "standard")
    {
        return Err(combination("Iops cannot be given for this storage type"));
    }
    Ok(())
}

pub(super) fn create(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let name = free_name(ctx, params)?;
    let engine = engines::find(params.required("Engine")?)?;
    let class = params.required("DBInstanceClass")?;
    if engine.clustered() || params.has("DBClusterIdentifier") {
        return members::create(ctx, params, &name, engine, class);
    }
    let version = params.text("EngineVersion").unwrap_or(engine.version).to_owned();
    let encrypted = params.flag("StorageEncrypted")?.unwrap_or(false);
    check_class(class, encrypted)?;
    if params.int("AllocatedStorage")?.is_none_or(|gib| !STORAGE.contains(&gib)) {
        return Err(Fault::new(
            400,
            "InvalidParameterValue",
            "Invalid storage size for engine and storage type: at least 20 GiB",
        ));
    }
    let managed = params.flag("ManageMasterUserPassword")?.unwrap_or(false);
    params.required("MasterUsername")?;
    if managed == params.has("MasterUserPassword") {
        return Err(combination("Give MasterUserPassword or ManageMasterUserPassword, not both"));
    }
    let mut settings = collect(ctx, params, (engine, &version), |s| s.create, &Map::new())?;
    settings.set("Engine", engine.name);
    settings.set("EngineVersion", version);
    settings.set("MasterUsername", params.required("MasterUsername")?.to_owned());
    encrypt(ctx, params, encrypted, &mut settings)?;
    domain_and_secret(ctx, params, managed, &mut settings)?;
    check_settings(&settings, params)?;
    let port = params.int("Port")?.unwrap_or(engine.port);
    let tags = tags::read(params)?;
    begin(ctx, &name, settings, port, tags, seconds::CREATE);
    Ok(shown(ctx, &name))
}

/// The members for one operation, from the table of settings.
pub(crate) fn collect(
    ctx: &mut Ctx<'_>,
    params: &Map,
    (engine, version): (&'static Engine, &str),
    column: impl Fn(&super::settings::Setting) -> Omitted,
    source: &Map,
) -> Result<Map, Fault> {
    let (account, region) = (ctx.account, ctx.region);
    let security_groups = ctx.security_groups();
    let groups = &ctx.rds().groups;
    let facts = Facts {
        engine,
        version,
        account,
        region,
        params,
        groups,
        security_groups: &security_groups,
    };
    settings::members(&facts, column, source)
}

fn encrypt(
    ctx: &mut Ctx<'_>,
    params: &Map,
    encrypted: bool,
    settings: &mut Map,
) -> Result<(), Fault> {
    settings.set("StorageEncrypted", encrypted);
    settings.set("StorageEncryptionType", if encrypted { "sse-kms" } else { "none" });
    if params.has("KmsKeyId") && !encrypted {
        return Err(combination("KmsKeyId can be given for encrypted storage only"));
    }
    if encrypted {
        let key = ctx.rds_key(params.text("KmsKeyId"))?;
        settings.set("KmsKeyId", key);
    }
    Ok(())
}

pub(crate) fn domain_and_secret(
    ctx: &mut Ctx<'_>,
    params: &Map,
    managed: bool,
    settings: &mut Map,
) -> Result<(), Fault> {
    if let Some(domain) = params.text("Domain") {
        let membership = Map::new()
            .with("Domain", domain.to_owned())
            .with("Status", "joined")
            .maybe("IAMRoleName", params.text("DomainIAMRoleName").map(str::to_owned));
        settings.set("DomainMemberships", list("DomainMembership", [membership]));
    }
    if managed {
        let id = ctx.id(12);
        let secret = ctx.arn("secretsmanager", &format!("secret:rds!db-{id}"));
        let key = ctx.rds_key(params.text("MasterUserSecretKmsKeyId"))?;
        settings.set(
            "MasterUserSecret",
            Map::new()
                .with("SecretArn", secret)
                .with("SecretStatus", "active")
                .with("KmsKeyId", key),
        );
    }
    Ok(())
}

/// Brings an instance into being; the states that follow are scheduled.
pub(crate) fn begin(
    ctx: &mut Ctx<'_>,
    name: &str,
    settings: Map,
    port: i64,
    tags: Tags,
    takes: i64,
) -> String {
    let dbi = format!("db-{}", ctx.id(26).to_uppercase());
    let backups = settings.number("BackupRetentionPeriod") > 0;
    let up = ctx.after(takes);
    let backed = ctx.after(takes + seconds::BACKUP);
    let rds = ctx.rds();
    let instance = Instance::new(name, dbi.clone(), settings, port, tags);
    rds.instances.insert(name.to_owned(), instance);
    rds.newest = Some(dbi.clone());
    let mut step = |at, status| rds.at(at, Step::Instance { dbi: dbi.clone(), status });
    if backups {
        // The first automated backup: whoever takes "no longer creating" for "available" is early.
        step(up, "backing-up");
        step(backed, "available");
    } else {
        step(up, "available");
    }
    dbi
}

pub(super) fn restore(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let name = free_name(ctx, params)?;
    let snapshot = snapshots::named(&ctx.rds().snapshots, params, "DBSnapshotIdentifier")?.clone();
    if snapshot.status != "available" {
        return Err(Fault::new(400, "InvalidDBSnapshotState", "The snapshot is not available."));
    }
    let source = snapshot.settings.clone();
    let engine = engines::find(source.text_or_empty("Engine"))?;
    let version = source.text_or_empty("EngineVersion").to_owned();
    check_restored_storage(params, engine, &snapshot)?;
    let mut settings = collect(ctx, params, (engine, &version), |s| s.restore, &source)?;
    inherit(&mut settings, &source);
    check_class(settings.text_or_empty("DBInstanceClass"), settings.is("StorageEncrypted"))?;
    if let Some(key) = settings.text("KmsKeyId").map(str::to_owned) {
        ctx.rds_key(Some(&key))?;
    }
    let managed = params.flag("ManageMasterUserPassword")?.unwrap_or(false);
    domain_and_secret(ctx, params, managed, &mut settings)?;
    check_settings(&settings, params)?;
    let port = params.int("Port")?.unwrap_or(snapshot.port);
    // "If any tags are given only those are used, else the source's as of the snapshot."
    let tags = if params.has("Tags") { tags::read(params)? } else { snapshot.source_tags.clone() };
    begin(ctx, &name, settings, port, tags, seconds::RESTORE);
    Ok(shown(ctx, &name))
}

/// What a copy of data has from where it comes from, and no parameter can change.
pub(crate) fn inherit(settings: &mut Map, source: &Map) {
    for member in [
        "Engine",
        "EngineVersion",
        "MasterUsername",
        "StorageEncrypted",
        "StorageEncryptionType",
        "KmsKeyId",
    ] {
        if let Some(value) = source.get(member) {
            settings.set(member, value.clone());
        }
    }
}

/// Storage cannot shrink, grows by a tenth at least, and is not given for SQL Server (API reference,
/// RestoreDBInstanceFromDBSnapshot, AllocatedStorage).
fn check_restored_storage(params: &Map, engine: &Engine, snapshot: &Snapshot) -> Result<(), Fault> {
    let Some(size) = params.int("AllocatedStorage")? else {
        return Ok(());
    };
    let had = snapshot.settings.number("AllocatedStorage");
    if engine.sql_server() {
        return Err(combination("AllocatedStorage can't be given when restoring SQL Server"));
    }
    if !STORAGE.contains(&size) || (size != had && size * 10 < had * 11) {
        let message = format!("AllocatedStorage must be {had} or at least 10 percent more");
        return Err(Fault::new(400, "InvalidParameterValue", message));
    }
    Ok(())
}

pub(super) fn delete(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let instance = named(ctx.rds(), params, "DBInstanceIdentifier")?.clone();
    let skip = params.flag("SkipFinalSnapshot")?.unwrap_or(false);
    let last = params.text("FinalDBSnapshotIdentifier").map(str::to_owned);
    if instance.settings.is("DeletionProtection") {
        let message = "Cannot delete protected DB Instance, please disable deletion protection and try again.";
        return Err(combination(message));
    }
    if instance.status == "deleting" {
        let message = format!("Instance {} is already being deleted.", instance.name);
        return Err(invalid_state(message));
    }
    if last.is_some() && !["available", "stopped"].contains(&instance.status.as_ref()) {
        let message =
            format!("A final snapshot of {} can be made when it is available.", instance.name);
        return Err(invalid_state(message));
    }
    let standalone = instance.cluster.is_none() && instance.source.is_none();
    match (skip, &last) {
        (true, Some(_)) => {
            return Err(combination(
                "FinalDBSnapshotIdentifier can not be specified when deleting with SkipFinalSnapshot.",
            ));
        }
        (false, None) if standalone => {
            return Err(combination(
                "FinalDBSnapshotIdentifier is required unless SkipFinalSnapshot is specified.",
            ));
        }
        (false, Some(name)) => {
            if !standalone {
                return Err(combination(
                    "A final snapshot can not be made of a read replica or a member of a cluster.",
                ));
            }
            snapshots::take(ctx, &instance, name, Tags::new())?;
        }
        _ => {}
    }
    let keep = !params.flag("DeleteAutomatedBackups")?.unwrap_or(true);
    let (account, region, now) = (ctx.account, ctx.region, ctx.now);
    let at = ctx.after(seconds::DELETE);
    let rds = ctx.rds();
    if keep && instance.settings.number("BackupRetentionPeriod") > 0 {
        rds.kept_backups
            .push(super::lifecycle::backup(&instance, account, region, "retained", now));
    }
    if let Some(found) = rds.instances.get_mut(&instance.name) {
        found.status = "deleting".into();
    }
    rds.at(at, Step::Gone { dbi: instance.dbi });
    Ok(shown(ctx, &instance.name))
}
