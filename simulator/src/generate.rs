//! Generated organizations: every account and region is a function of a seed, made when it is first
//! looked at; and rehearsals, which are made the same way from an exported inventory.

use crate::hash;
use crate::inventory::{Database, Encryption, Inventory, Kind};
use crate::regions;
use crate::settings::Settings;
use crate::value::{Map, Time, list};
use crate::world::rds::clusters::Cluster;
use crate::world::rds::engines::{self, Engine};
use crate::world::rds::members as cluster_members;
use crate::world::rds::settings::{self, Facts};
use crate::world::rds::{Instance, Rds, Tags, default_security_group};
use crate::world::{AccountId, Cell, Region, World};
use std::collections::BTreeMap;

/// When everything that is generated was made: 2025-06-01.
const MADE: Time = Time(1_748_736_000_000);

/// The alias that the AWS pattern gives the key.
const ALIAS: &str = "alias/RDSEncryptionAtRestKMSAlias";

/// What an organization is generated from.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// Accounts, the management account included.
    pub accounts: u32,
    /// Regions that are on by default, 1 to 17.
    pub regions: usize,
    /// Opt-in regions; each account has turned some of them on.
    pub opt_in: usize,
    /// The share of cells with databases.
    pub density: f64,
    /// Cells that have databases have so many instances, and nothing else.
    pub instances: Option<u32>,
    /// Whether every account is active, has the role and no policy against us.
    pub plain: bool,
}

/// Where cells come from.
#[derive(Debug, Clone)]
pub struct Generator {
    seed: u64,
    role_denied: Vec<AccountId>,
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    Seed { density: f64, instances: Option<u32> },
    Inventory { cells: BTreeMap<(AccountId, Region), Vec<Database>>, on: Vec<(AccountId, Region)> },
}

/// A share of all, by a hash.
fn one_in(hash: u64, n: u64) -> bool {
    hash.is_multiple_of(n)
}

const OUS: &[(&str, Option<usize>)] = &[
    ("security", None),
    ("sandbox", None),
    ("workloads", None),
    ("prod", Some(2)),
    ("test", Some(2)),
    ("dev", Some(2)),
    ("regional", None),
];

/// Accounts of one team's OU.
const TEAM: usize = 20;
/// Organizations has 2,000 OUs at most; teams get OUs of their own below that.
const TEAMS_MAX: usize = 1_900;

/// An SCP that many organizations have: only some regions may be used.
const REGION_DENY: &str = r#"{"Version":"2012-10-17","Statement":[{"Sid":"OnlyHome","Effect":"Deny","NotAction":["iam:*","sts:*","organizations:*","account:*"],"Resource":"*","Condition":{"StringNotEquals":{"aws:RequestedRegion":["us-east-1","eu-west-1"]}}}]}"#;

/// Builds the organization; its cells are made later.
///
/// # Errors
/// Names the number that is out of bounds.
pub fn generate(settings: Settings, shape: &Shape) -> Result<World, String> {
    let bounds = |name: &str, n: usize, from: usize, to: usize| {
        if (from..=to).contains(&n) {
            return Ok(());
        }
        Err(format!("{name} must be between {from} and {to}, not {n}"))
    };
    bounds("accounts", shape.accounts as usize, 1, 50_000)?;
    bounds("regions", shape.regions, 1, regions::DEFAULT.len())?;
    bounds("opt-in", shape.opt_in, 0, regions::OPT_IN.len())?;
    if !(0.0..=1.0).contains(&shape.density) {
        return Err(format!("density must be between 0 and 1, not {}", shape.density));
    }
    let on = regions::DEFAULT.iter().take(shape.regions);
    let all = on.chain(regions::OPT_IN.iter().take(shape.opt_in)).copied().collect();
    let seed = settings.seed;
    let mut world = World::new(settings, all);
    world.org.found(true, MADE);
    let ous = tree(&mut world, seed, shape);
    let mut denied = Vec::new();
    for i in 1..u64::from(shape.accounts) {
        let id = AccountId(200_000_000_000 + i * 7_919 + hash::mix(seed, 3) % 1_000_000);
        let dice = hash::mix(seed ^ 0xacc0, i);
        let state = match dice % 100 {
            _ if shape.plain => "ACTIVE",
            0 => "SUSPENDED",
            1 => "CLOSED",
            2 => "PENDING_CLOSURE",
            _ => "ACTIVE",
        };
        if !shape.plain && one_in(dice >> 20, 33) {
            denied.push(id);
        }
        let parent = &ous[(i as usize - 1) % ous.len()];
        world.org.add_account(id, &format!("account-{i:05}"), state, parent, MADE);
    }
    denied.sort_unstable();
    let source = Source::Seed { density: shape.density, instances: shape.instances };
    let generator = Generator { seed, role_denied: denied, source };
    world.generator = Some(std::sync::Arc::new(generator));
    Ok(world)
}

/// The OUs that hold accounts.
fn tree(world: &mut World, seed: u64, shape: &Shape) -> Vec<String> {
    let root = world.org.root.clone();
    let mut ids: Vec<String> = Vec::new();
    for (name, parent) in OUS {
        let parent = parent.map_or(root.clone(), |i| ids[i].clone());
        ids.push(world.org.add_ou(seed, name, &parent));
    }
    if !shape.plain {
        world.org.put_policy("region-deny", REGION_DENY, &ids[6]);
    }
    let teams = (shape.accounts as usize / TEAM).min(TEAMS_MAX);
    let mut holders = vec![ids[0].clone(), ids[1].clone()];
    if !shape.plain {
        holders.push(ids[6].clone());
    }
    for team in 0..teams {
        let under = &ids[3 + team % 3];
        holders.push(world.org.add_ou(seed, &format!("team-{team:04}"), under));
    }
    if teams == 0 {
        holders.extend([ids[3].clone(), ids[5].clone()]);
    }
    holders
}

/// Builds a rehearsal of an organization that was exported.
///
/// # Errors
/// Names what the inventory lacks.
pub fn rehearse(settings: Settings, inventory: &Inventory) -> Result<World, String> {
    let regions: Vec<Region> = inventory.regions()?;
    let seed = settings.seed;
    let mut world = World::new(settings, regions);
    world.org.management = inventory.management()?;
    world.org.root = inventory.root()?;
    world.org.found(true, MADE);
    inventory.fill(&mut world.org)?;
    let generator = Generator {
        seed,
        role_denied: inventory.denied(),
        source: Source::Inventory { cells: inventory.cells()?, on: inventory.opted_in()? },
    };
    world.generator = Some(std::sync::Arc::new(generator));
    Ok(world)
}

impl Generator {
    pub(crate) fn has_role(&self, account: AccountId) -> bool {
        self.role_denied.binary_search(&account).is_err()
    }

    pub(crate) fn opted_in(&self, account: AccountId, region: Region) -> bool {
        match &self.source {
            Source::Seed { .. } => one_in(hash::of(self.seed ^ account.0, region), 3),
            Source::Inventory { on, .. } => on.contains(&(account, region)),
        }
    }

    /// What is in a cell that nobody has touched.
    pub(crate) fn cell(&self, account: AccountId, region: Region) -> Cell {
        let dice = hash::of(self.seed ^ account.0.rotate_left(17), region);
        let mut made: Vec<Database> = Vec::new();
        let databases: &[Database] = match &self.source {
            Source::Inventory { cells, .. } => {
                cells.get(&(account, region)).map(Vec::as_slice).unwrap_or_default()
            }
            Source::Seed { density, instances } => {
                if (dice >> 11) as f64 / ((1_u64 << 53) as f64) < *density {
                    made = match instances {
                        None => databases(dice),
                        Some(n) => (0..u64::from(*n)).map(|i| single(dice, i)).collect(),
                    };
                }
                &made
            }
        };
        let mut cell = Cell::default();
        if databases.is_empty() {
            return cell;
        }
        cell.config.record(MADE);
        // One region in 33 has no such key, as in life.
        let alias = (!one_in(dice >> 7, 33)).then_some(ALIAS);
        let key = cell.kms.add((account, region), self.seed, alias, MADE).arn.clone();
        for database in databases {
            add(&mut cell.rds, (account, region), database, &key);
        }
        cell
    }
}

/// A DB instance that stands alone.
fn single(dice: u64, i: u64) -> Database {
    let pick = |n: u64| hash::mix(dice, n);
    let encryption = if pick(30 + i) % 10 < 3 { Encryption::None } else { Encryption::SseKms };
    let engine = ["postgres", "mysql", "mariadb"][(pick(20 + i) % 3) as usize].to_owned();
    let name = format!("db-{}-{i}", hash::letters(pick(10 + i), 6));
    Database { name, kind: Kind::Instance, engine, encryption }
}

/// The databases of a cell: instances, now and then with a replica, and Aurora clusters.
fn databases(dice: u64) -> Vec<Database> {
    let pick = |n: u64| hash::mix(dice, n);
    let mut found = Vec::new();
    let encryption = |n: u64| match pick(n) % 10 {
        0..=2 => Encryption::None,
        _ => Encryption::SseKms,
    };
    let engine = |n: u64| ["postgres", "mysql", "mariadb"][(pick(n) % 3) as usize].to_owned();
    for i in 0..1 + pick(1) % 4 {
        let name = format!("db-{}", hash::letters(pick(10 + i), 6));
        let (engine, encryption) = (engine(20 + i), encryption(30 + i));
        if one_in(pick(40 + i), 8) {
            let kind = Kind::Replica(name.clone());
            let replica = format!("{name}-read");
            found.push(Database { name: replica, kind, engine: engine.clone(), encryption });
        }
        found.push(Database { name, kind: Kind::Instance, engine, encryption });
    }
    if one_in(pick(2), 4) {
        let name = format!("cluster-{}", hash::letters(pick(3), 6));
        let encryption = match pick(4) % 10 {
            0..=2 => Encryption::None,
            // Made since 2026-02-18: under a key that AWS owns.
            3 => Encryption::SseRds,
            _ => Encryption::SseKms,
        };
        let engine = ["aurora-postgresql", "aurora-mysql"][(pick(5) % 2) as usize].to_owned();
        let members = (1..=1 + pick(6) % 3).map(|i| format!("{name}-{i}")).collect();
        found.push(Database { name, kind: Kind::Cluster(members), engine, encryption });
    }
    found
}

fn add(rds: &mut Rds, place: (AccountId, Region), database: &Database, key: &str) {
    // An engine that the simulator does not know stands as PostgreSQL, so that the number is right.
    let engine = engines::find(&database.engine).or_else(|_| engines::find("postgres"));
    let Ok(engine) = engine else { return };
    match &database.kind {
        Kind::Cluster(members) => cluster(rds, place, database, (engine, members), key),
        Kind::Instance => instance(rds, place, database, engine, key),
        Kind::Replica(source) => {
            instance(rds, place, database, engine, key);
            if let Some(replica) = rds.instances.get_mut(&database.name) {
                replica.source = Some(source.clone());
                replica.settings.set("BackupRetentionPeriod", 0);
            }
        }
    }
}

fn protect(settings: &mut Map, encryption: Encryption, key: &str) {
    let (kind, flag) = match encryption {
        Encryption::None => ("none", false),
        Encryption::SseRds => ("sse-rds", false),
        Encryption::SseKms => ("sse-kms", true),
    };
    settings.set("StorageEncryptionType", kind);
    settings.set("StorageEncrypted", flag);
    if flag {
        settings.set("KmsKeyId", key.to_owned());
    }
}

/// Settings that differ from every default, so that a copy which forgets one is seen to differ.
fn instance(
    rds: &mut Rds,
    (account, region): (AccountId, Region),
    database: &Database,
    engine: &'static Engine,
    key: &str,
) {
    let dice = hash::of(account.0, &database.name);
    let version = engine.version;
    let family = engine.family(version);
    rds.groups.add_parameter_group("chosen", &family);
    let multi_az = one_in(dice, 2);
    let params = Map::new()
        .with("DBInstanceClass", ["db.m5.large", "db.r6g.large"][(dice % 2) as usize])
        .with("AllocatedStorage", [20, 100, 250][(dice % 3) as usize])
        .with("MultiAZ", multi_az)
        .with("PubliclyAccessible", false)
        .with("BackupRetentionPeriod", [1, 7, 30][(dice / 3 % 3) as usize])
        .with("PreferredBackupWindow", "02:00-02:30")
        .with("PreferredMaintenanceWindow", "sun:04:00-sun:04:30")
        .with("CopyTagsToSnapshot", one_in(dice / 7, 2))
        .with("DeletionProtection", one_in(dice / 11, 3))
        .with("AutoMinorVersionUpgrade", one_in(dice / 13, 2));
    let security_groups = [default_security_group(account, region)];
    let facts = Facts {
        engine,
        version,
        account,
        region,
        params: &params,
        groups: &rds.groups,
        security_groups: &security_groups,
    };
    let Ok(mut settings) = settings::members(&facts, |s| s.create, &Map::new()) else {
        return;
    };
    settings.set("Engine", engine.name);
    settings.set("EngineVersion", version);
    settings.set("MasterUsername", "admin1");
    protect(&mut settings, database.encryption, key);
    put(rds, (account, region), &database.name, settings, engine.port, None);
}

fn put(
    rds: &mut Rds,
    (account, region): (AccountId, Region),
    name: &str,
    settings: Map,
    port: i64,
    cluster: Option<&str>,
) {
    let id = hash::letters(hash::of(account.0 ^ hash::of(1, region), name), 26).to_uppercase();
    let team = ["payments", "orders", "search"][(hash::of(2, name) % 3) as usize];
    let tags =
        Tags::from([("team".to_owned(), team.to_owned()), ("name".to_owned(), name.to_owned())]);
    let mut instance = Instance::new(name, format!("db-{id}"), settings, port, tags);
    instance.status = "available".into();
    instance.created = Some(MADE);
    instance.cluster = cluster.map(str::to_owned);
    rds.instances.insert(name.to_owned(), instance);
}

fn cluster(
    rds: &mut Rds,
    (account, region): (AccountId, Region),
    database: &Database,
    (engine, members): (&'static Engine, &[String]),
    key: &str,
) {
    let version = engine.version;
    let security_groups = [default_security_group(account, region)];
    let group =
        Map::new().with("VpcSecurityGroupId", security_groups[0].clone()).with("Status", "active");
    let mut settings = Map::new()
        .with("Engine", engine.name)
        .with("EngineVersion", version)
        .with("EngineMode", "provisioned")
        .with("MasterUsername", "admin1")
        .with("BackupRetentionPeriod", 7)
        .with("PreferredBackupWindow", "01:00-01:30")
        .with("PreferredMaintenanceWindow", "mon:05:00-mon:05:30")
        .with("DeletionProtection", true)
        .with("CopyTagsToSnapshot", true)
        .with("AutoMinorVersionUpgrade", true)
        .with("IAMDatabaseAuthenticationEnabled", true)
        .with("HttpEndpointEnabled", false)
        .with("StorageType", "aurora")
        .with("NetworkType", "IPV4")
        .with("DatabaseInsightsMode", "standard")
        .with("EngineLifecycleSupport", "open-source-rds-extended-support")
        .with("DBClusterParameterGroup", format!("default.{}", engine.family(version)))
        .with("DBSubnetGroup", "default")
        .with("VpcSecurityGroups", list("VpcSecurityGroupMembership", [group]))
        .with(
            "AvailabilityZones",
            list("AvailabilityZone", ['a', 'b', 'c'].map(|z| format!("{region}{z}"))),
        );
    protect(&mut settings, database.encryption, key);
    for (i, name) in members.iter().enumerate() {
        let params =
            Map::new().with("DBInstanceClass", "db.r6g.large").with("PromotionTier", i as i64);
        let groups = &rds.groups;
        let security_groups = &security_groups;
        let facts =
            Facts { engine, version, account, region, params: &params, groups, security_groups };
        let Ok(mut own) = settings::members(&facts, |s| s.create, &Map::new()) else { return };
        own.set("Engine", engine.name);
        cluster_members::of_cluster(&mut own, &settings);
        put(rds, (account, region), name, own, engine.port, Some(&database.name));
    }
    let id = hash::letters(hash::of(account.0 ^ hash::of(2, region), &database.name), 26);
    let cluster = Cluster {
        name: database.name.clone(),
        resource_id: format!("cluster-{}", id.to_uppercase()),
        status: "available".into(),
        settings,
        port: engine.port,
        tags: Tags::from([("team".to_owned(), "data".to_owned())]),
        members: members.to_vec(),
        roles: Vec::new(),
        endpoint_tags: BTreeMap::new(),
        endpoints: Vec::new(),
        created: Some(MADE),
        new_name: None,
        fate: None,
    };
    rds.clusters.insert(database.name.clone(), cluster);
}
