//! Blue/green deployments: a copy of a database with its replicas or members, kept in step, and a switch of names.
//!
//! Sources: RDS user guide, "Using Amazon RDS Blue/Green Deployments for database updates" and its pages on
//! limitations, switching and deleting; API reference, CreateBlueGreenDeployment, TargetResourceConfiguration. Names
//! of greens end with `-green-` and six letters, those of blues after a switchover with `-old1`. Whether a green
//! shows as a replica of its blue is not documented: here it does for MySQL and MariaDB, which makes it harder.

use super::clusters::{self, Cluster};
use super::instances::{self, Instance, combination, invalid_state};
use super::{Rds, Step, Tags, filters, members, page, seconds, tags};
use crate::fault::Fault;
use crate::value::{Map, Time, list};
use crate::world::organizations::write_tags;
use crate::world::{AccountId, Ctx, Region};
use std::collections::BTreeMap;

const ENGINES: [&str; 5] = ["mysql", "mariadb", "postgres", "aurora-mysql", "aurora-postgresql"];

/// What one database of an environment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Cluster,
    Instance,
}

impl Kind {
    /// What its ARNs say.
    pub(crate) fn arn(self) -> &'static str {
        match self {
            Kind::Cluster => "cluster",
            Kind::Instance => "db",
        }
    }
}

/// A database with its counterpart, by their immutable ids.
#[derive(Debug, Clone)]
struct Member {
    kind: Kind,
    blue: String,
    green: String,
}

#[derive(Debug, Clone)]
pub(crate) struct Deployment {
    pub(crate) id: String,
    name: String,
    status: &'static str,
    details: Option<&'static str>,
    created: Time,
    pub(crate) tags: Tags,
    members: Vec<Member>,
    /// What it becomes instead of available.
    pub(crate) fate: Option<&'static str>,
}

fn last(arn: &str) -> String {
    arn.rsplit(':').next().unwrap_or(arn).to_lowercase()
}

fn not_found(id: &str) -> Fault {
    let message = format!("Blue/Green Deployment not found: {id}");
    Fault::new(404, "BlueGreenDeploymentNotFoundFault", message)
}

fn wrong_state(message: String) -> Fault {
    Fault::new(400, "InvalidBlueGreenDeploymentStateFault", message)
}

fn not_supported(message: impl Into<String>) -> Fault {
    Fault::new(400, "SourceDatabaseNotSupportedFault", message)
}

/// The databases that a deployment of this source is of, each with its kind, the source first.
pub(crate) fn unit(rds: &Rds, source: &str) -> Vec<(Kind, String)> {
    let name = last(source);
    if source.contains(":cluster:") {
        let Some(cluster) = rds.clusters.get(&name) else { return Vec::new() };
        let members = cluster.members.iter().map(|m| (Kind::Instance, m.clone()));
        return std::iter::once((Kind::Cluster, name)).chain(members).collect();
    }
    let replicas = rds.instances.values().filter(|i| i.source.as_ref() == Some(&name));
    let replicas: Vec<_> = replicas.map(|i| (Kind::Instance, i.name.clone())).collect();
    std::iter::once((Kind::Instance, name)).chain(replicas).collect()
}

/// The greens of a deployment, by name.
pub(crate) fn greens(rds: &Rds, id: &str) -> Vec<(Kind, String)> {
    let found = rds.deployments.iter().find(|d| d.id == id);
    let members = found.into_iter().flat_map(|d| &d.members);
    members.filter_map(|m| Some((m.kind, name_of(rds, m.kind, &m.green)?))).collect()
}

/// The name that a database has now.
fn name_of(rds: &Rds, kind: Kind, id: &str) -> Option<String> {
    match kind {
        Kind::Cluster => {
            rds.clusters.values().find(|c| c.resource_id == id).map(|c| c.name.clone())
        }
        Kind::Instance => rds.instances.values().find(|i| i.dbi == id).map(|i| i.name.clone()),
    }
}

impl Deployment {
    fn show(&self, rds: &Rds, account: AccountId, region: Region) -> Map {
        let arn = |kind: Kind, id: &str| {
            let name = name_of(rds, kind, id)?;
            Some(format!("arn:aws:rds:{region}:{account}:{}:{name}", kind.arn()))
        };
        let member = |m: &Member| {
            let (source, target) = (arn(m.kind, &m.blue), arn(m.kind, &m.green));
            let status = match (&source, &target) {
                (None, _) => "MISSING_SOURCE",
                (_, None) if self.status != "PROVISIONING" => "MISSING_TARGET",
                _ => self.status,
            };
            Map::new()
                .maybe("SourceMember", source)
                .maybe("TargetMember", target)
                .with("Status", status)
        };
        let done = if self.status == "PROVISIONING" { "IN_PROGRESS" } else { "COMPLETED" };
        let task = |name: &'static str| Map::new().with("Name", name).with("Status", done);
        let top = &self.members[0];
        Map::new()
            .with("BlueGreenDeploymentIdentifier", &self.id)
            .with("BlueGreenDeploymentName", &self.name)
            .maybe("Source", arn(top.kind, &top.blue))
            .maybe("Target", arn(top.kind, &top.green))
            .with("SwitchoverDetails", list("member", self.members.iter().map(member)))
            .with("Tasks", list("member", [task("CREATING_READ_REPLICA_OF_SOURCE")]))
            .with("Status", self.status)
            .maybe("StatusDetails", self.details.map(str::to_owned))
            .with("CreateTime", self.created)
            .with("TagList", write_tags("Tag", &self.tags))
    }
}

fn shown(ctx: &mut Ctx<'_>, id: &str) -> Map {
    let (account, region) = (ctx.account, ctx.region);
    let rds = ctx.rds();
    let found = rds.deployments.iter().find(|d| d.id == id).map(|d| d.show(rds, account, region));
    Map::new().maybe("BlueGreenDeployment", found)
}

/// The deployment that a request names.
fn named<'a>(rds: &'a mut Rds, params: &Map) -> Result<&'a mut Deployment, Fault> {
    let id = params.required("BlueGreenDeploymentIdentifier")?;
    let found = rds.deployments.iter_mut().find(|d| d.id.eq_ignore_ascii_case(id));
    found.ok_or_else(|| not_found(id))
}

pub(super) fn describe(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let known =
        ["blue-green-deployment-identifier", "blue-green-deployment-name", "source", "target"];
    let filters = filters(params, &known)?;
    let (account, region) = (ctx.account, ctx.region);
    let rds = ctx.rds();
    let mut all: Vec<Map> = rds.deployments.iter().map(|d| d.show(rds, account, region)).collect();
    if let Some(id) = params.text("BlueGreenDeploymentIdentifier") {
        all.retain(|d| d.text("BlueGreenDeploymentIdentifier") == Some(id));
        if all.is_empty() {
            return Err(not_found(id));
        }
    }
    for (name, values) in filters {
        let field = match name.as_str() {
            "blue-green-deployment-identifier" => "BlueGreenDeploymentIdentifier",
            "blue-green-deployment-name" => "BlueGreenDeploymentName",
            "source" => "Source",
            _ => "Target",
        };
        all.retain(|d| values.iter().any(|v| d.text(field) == Some(v.as_str())));
    }
    page(params, "BlueGreenDeployments", "member", all, |d| {
        d.text_or_empty("BlueGreenDeploymentIdentifier").to_owned()
    })
}

/// What AWS makes no deployment of.
fn check_source(rds: &Rds, unit: &[(Kind, String)]) -> Result<(), Fault> {
    let (kind, name) = &unit[0];
    let settings = match kind {
        Kind::Cluster => &rds.clusters.get(name).ok_or_else(|| clusters::not_found(name))?.settings,
        Kind::Instance => {
            let found = rds.instances.get(name).ok_or_else(|| instances::not_found(name))?;
            if found.cluster.is_some() || found.source.is_some() {
                return Err(not_supported(format!("{name} is a member or a replica")));
            }
            &found.settings
        }
    };
    if !ENGINES.contains(&settings.text_or_empty("Engine")) {
        return Err(not_supported("The engine is not supported for blue/green deployments"));
    }
    if settings.has("MasterUserSecret") {
        let message = "Master user passwords managed in Secrets Manager are not supported";
        return Err(not_supported(message));
    }
    if *kind == Kind::Instance && settings.number("BackupRetentionPeriod") == 0 {
        return Err(invalid_state("Automated backups are not enabled for this database instance."));
    }
    for (kind, name) in unit.iter().filter(|(k, _)| *k == Kind::Instance) {
        let found = rds.instances.get(name).ok_or_else(|| instances::not_found(name))?;
        if found.status != "available" {
            return Err(invalid_state(format!("Instance {name} is not available.")));
        }
        let feeds = |i: &Instance| i.source.as_ref() == Some(name);
        if *kind == Kind::Instance && *name != unit[0].1 && rds.instances.values().any(feeds) {
            return Err(not_supported("Cascading read replicas are not supported"));
        }
    }
    if rds.deployments.iter().any(|d| {
        let blue =
            |m: &Member| unit.iter().any(|(k, n)| name_of(rds, *k, &m.blue).as_ref() == Some(n));
        d.status != "SWITCHOVER_COMPLETED" && d.members.iter().any(blue)
    }) {
        return Err(not_supported(format!("{name} is part of a blue/green deployment")));
    }
    Ok(())
}

pub(super) fn create(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let name = params.required("BlueGreenDeploymentName")?.to_owned();
    let source = params.required("Source")?.to_owned();
    if name.len() > 60 {
        return Err(Fault::new(
            400,
            "InvalidParameterValue",
            "BlueGreenDeploymentName is too long",
        ));
    }
    if ctx.rds().deployments.iter().any(|d| d.name == name) {
        let message = format!("Blue/Green Deployment {name} already exists");
        return Err(Fault::new(400, "BlueGreenDeploymentAlreadyExistsFault", message));
    }
    let unit = unit(ctx.rds(), &source);
    if unit.is_empty() {
        return Err(clusters::not_found(&last(&source)));
    }
    check_source(ctx.rds(), &unit)?;
    let keys = keys(ctx, params, &unit)?;
    let tags = tags::read(params)?;
    let ending = ctx.id(6);
    let mut members = Vec::new();
    for (kind, blue) in &unit {
        let green = green_name(blue, &ending);
        let key =
            keys.get(blue).or_else(|| keys.get(&unit[0].1).filter(|_| unit[0].0 == Kind::Cluster));
        let key = key.filter(|_| ctx.world.settings.blue_green_encrypts).cloned();
        members.push(match kind {
            Kind::Cluster => cluster(ctx, blue, &green, key)?,
            Kind::Instance => instance(ctx, blue, &green, key, &ending)?,
        });
    }
    let id = format!("bgd-{}", ctx.id(16));
    let (created, up) = (ctx.now, ctx.after(seconds::SNAPSHOT + seconds::RESTORE));
    let rds = ctx.rds();
    let (status, details, fate) = ("PROVISIONING", None, None);
    rds.deployments.push(Deployment {
        id: id.clone(),
        name,
        status,
        details,
        created,
        tags,
        members,
        fate,
    });
    rds.newest = Some(id.clone());
    rds.at(up, Step::Deployment { id: id.clone(), status: "AVAILABLE" });
    Ok(shown(ctx, &id))
}

fn green_name(blue: &str, ending: &str) -> String {
    let cut: String = blue.chars().take(63 - "-green-".len() - ending.len()).collect();
    format!("{}-green-{ending}", cut.trim_end_matches('-'))
}

/// `TargetResourceConfigurations`: a key for some of the databases.
fn keys(
    ctx: &mut Ctx<'_>,
    params: &Map,
    unit: &[(Kind, String)],
) -> Result<BTreeMap<String, String>, Fault> {
    let mut keys = BTreeMap::new();
    for one in params.maps("TargetResourceConfigurations") {
        let arn = one.required("SourceArn")?;
        let name = last(arn);
        let kind = if arn.contains(":cluster:") { Kind::Cluster } else { Kind::Instance };
        if !unit.contains(&(kind, name.clone())) {
            let message = format!("{arn} is not part of the blue environment");
            return Err(Fault::new(400, "InvalidParameterValue", message));
        }
        if unit[0].0 == Kind::Cluster && kind == Kind::Instance {
            return Err(combination("For Aurora, specify a DB cluster ARN in SourceArn"));
        }
        if let Some(key) = one.text("TargetKmsKeyId") {
            let key = ctx.rds_key(Some(key))?;
            if keys.insert(name, key).is_some() {
                return Err(combination("The same SourceArn is given in more than one entry"));
            }
        }
    }
    Ok(keys)
}

fn encrypt(settings: &mut Map, key: Option<String>) {
    if let Some(key) = key {
        settings.set("StorageEncrypted", true);
        settings.set("StorageEncryptionType", "sse-kms");
        settings.set("KmsKeyId", key);
    }
}

fn instance(
    ctx: &mut Ctx<'_>,
    blue: &str,
    green: &str,
    key: Option<String>,
    ending: &str,
) -> Result<Member, Fault> {
    let of = ctx.rds().instances.get(blue).ok_or_else(|| instances::not_found(blue))?.clone();
    let mut settings = of.settings.clone();
    // It is off on what is made (RDS user guide, "Deleting a blue/green deployment", wants it off there).
    settings.set("DeletionProtection", false);
    let cluster = of.cluster.as_ref().map(|c| green_name(c, ending));
    match cluster.as_ref().and_then(|c| ctx.rds().clusters.get(c)) {
        Some(cluster) => members::of_cluster(&mut settings, &cluster.settings.clone()),
        None => encrypt(&mut settings, key),
    }
    let dbi = instances::begin(ctx, green, settings, of.port, of.tags.clone(), seconds::RESTORE);
    let fed_by_blue = ["mysql", "mariadb"].contains(&of.settings.text_or_empty("Engine"));
    let rds = ctx.rds();
    if let Some(made) = rds.instances.get_mut(green) {
        made.roles.clone_from(&of.roles);
        made.cluster.clone_from(&cluster);
        made.source = match &of.source {
            Some(source) => Some(green_name(source, ending)),
            None => fed_by_blue.then(|| blue.to_owned()),
        };
    }
    if let Some(found) = cluster.and_then(|c| rds.clusters.get_mut(&c)) {
        found.members.push(green.to_owned());
    }
    Ok(Member { kind: Kind::Instance, blue: of.dbi, green: dbi })
}

fn cluster(
    ctx: &mut Ctx<'_>,
    blue: &str,
    green: &str,
    key: Option<String>,
) -> Result<Member, Fault> {
    let of: Cluster =
        ctx.rds().clusters.get(blue).ok_or_else(|| clusters::not_found(blue))?.clone();
    let mut settings = of.settings.clone();
    settings.set("DeletionProtection", false);
    encrypt(&mut settings, key);
    let id = clusters::begin(ctx, green, settings, of.port, of.tags.clone(), seconds::RESTORE);
    if let Some(made) = ctx.rds().clusters.get_mut(green) {
        made.roles.clone_from(&of.roles);
    }
    Ok(Member { kind: Kind::Cluster, blue: of.resource_id, green: id })
}

pub(super) fn switch_over(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let lags = ctx.world.settings.blue_green_lags;
    if params.int("SwitchoverTimeout")?.is_some_and(|s| !(30..=3_600).contains(&s)) {
        let message = "SwitchoverTimeout must be between 30 and 3600";
        return Err(Fault::new(400, "InvalidParameterValue", message));
    }
    let done = ctx.after(seconds::SWITCHOVER);
    let rds = ctx.rds();
    let found = named(rds, params)?;
    if !["AVAILABLE", "SWITCHOVER_FAILED"].contains(&found.status) {
        return Err(wrong_state(format!("{} is {}", found.id, found.status)));
    }
    (found.status, found.details) = ("SWITCHOVER_IN_PROGRESS", None);
    let id = found.id.clone();
    let step = match lags {
        true => Step::Deployment { id: id.clone(), status: "SWITCHOVER_FAILED" },
        false => Step::SwitchedOver { id: id.clone() },
    };
    rds.at(done, step);
    Ok(shown(ctx, &id))
}

/// "You can't specify this option if the blue/green deployment status is SWITCHOVER_COMPLETED" (API reference).
pub(super) fn delete(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let target = params.flag("DeleteTarget")?;
    let gone = ctx.after(seconds::DELETE);
    let rds = ctx.rds();
    let found = named(rds, params)?;
    let (id, status) = (found.id.clone(), found.status);
    if ["DELETING", "SWITCHOVER_IN_PROGRESS", "PROVISIONING"].contains(&status) {
        return Err(wrong_state(format!("{id} is {status}")));
    }
    if target.is_some() && status == "SWITCHOVER_COMPLETED" {
        return Err(combination("DeleteTarget can't be specified after a switchover"));
    }
    let mut steps = vec![Step::DeploymentGone { id: id.clone() }];
    if target == Some(true) {
        let all = greens(rds, &id);
        let protected = |(kind, name): &(Kind, String)| match kind {
            Kind::Cluster => {
                rds.clusters.get(name).is_some_and(|c| c.settings.is("DeletionProtection"))
            }
            Kind::Instance => {
                rds.instances.get(name).is_some_and(|i| i.settings.is("DeletionProtection"))
            }
        };
        if let Some((_, name)) = all.iter().find(|one| protected(one)) {
            return Err(wrong_state(format!("{name} is protected from deletion")));
        }
        for (kind, name) in all {
            match kind {
                Kind::Cluster => {
                    if let Some(c) = rds.clusters.get_mut(&name) {
                        c.status = "deleting".into();
                        steps.push(Step::ClusterGone { id: c.resource_id.clone() });
                    }
                }
                Kind::Instance => {
                    if let Some(i) = rds.instances.get_mut(&name) {
                        i.status = "deleting".into();
                        steps.push(Step::Gone { dbi: i.dbi.clone() });
                    }
                }
            }
        }
    } else {
        rds.part(&id);
    }
    steps.into_iter().for_each(|step| rds.at(gone, step));
    if let Ok(found) = named(rds, params) {
        found.status = "DELETING";
    }
    Ok(shown(ctx, &id))
}

impl Rds {
    pub(super) fn deployment_becomes(&mut self, id: &str, status: &'static str) {
        for found in self.deployments.iter_mut().filter(|d| d.id == id) {
            found.status = found.fate.filter(|_| status == "AVAILABLE").unwrap_or(status);
            found.details = match found.status {
                "SWITCHOVER_FAILED" => {
                    Some("The replica lag of the green environment was too high.")
                }
                "INVALID_CONFIGURATION" => Some("The green environment could not be created."),
                _ => None,
            };
        }
    }

    /// Greens are fed by their blues no more.
    fn part(&mut self, id: &str) {
        let found = self.deployments.iter().find(|d| d.id == id);
        let (blues, greens): (Vec<String>, Vec<String>) = found
            .iter()
            .flat_map(|d| &d.members)
            .filter_map(|m| Some((name_of(self, m.kind, &m.blue)?, m.green.clone())))
            .unzip();
        let fed = |i: &&mut Instance| i.source.as_ref().is_some_and(|s| blues.contains(s));
        for green in self.instances.values_mut().filter(|i| greens.contains(&i.dbi)).filter(fed) {
            green.source = None;
        }
    }

    /// All names change hands at once: blues get `-old1`, or the next number that is free, and greens get theirs.
    pub(super) fn switched_over(&mut self, id: &str) {
        let members: Vec<Member> = self
            .deployments
            .iter()
            .filter(|d| d.id == id)
            .flat_map(|d| d.members.clone())
            .collect();
        self.part(id);
        for Member { kind, blue, green } in &members {
            let (Some(name), true) =
                (name_of(self, *kind, blue), name_of(self, *kind, green).is_some())
            else {
                continue;
            };
            let taken = |rds: &Rds, name: &str| match kind {
                Kind::Cluster => rds.cluster_name_taken(name),
                Kind::Instance => rds.instance_name_taken(name),
            };
            let old = (1..).map(|n| format!("{name}-old{n}")).find(|old| !taken(self, old));
            let Some(old) = old else { continue };
            for (id, name) in [(blue, &old), (green, &name)] {
                match kind {
                    Kind::Cluster => self.rename_cluster(id, name),
                    Kind::Instance => {
                        self.rename_instance(id, name);
                        if let Some(found) = self.by_dbi(id) {
                            found.status = "available".into();
                        }
                    }
                }
            }
        }
        self.deployment_becomes(id, "SWITCHOVER_COMPLETED");
    }
}
