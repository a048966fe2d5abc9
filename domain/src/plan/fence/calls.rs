//! All calls that a remediation makes, each on everything that it is authorized against (Service Authorization
//! Reference).

use super::super::{Item, Strategy};
use crate::far;
use crate::finding::Resource;
use crate::iam::{Context, Request};
use crate::id::Region;
use crate::key::policy::suffix;
use crate::rds::{Cluster, Instance};
use crate::remediation::{Swap, held_name, twin_name};

/// All requests that the work on an item makes, as far as they are known before it begins.
pub(super) fn requests(item: &Item, role: &str) -> Vec<Request> {
    let mut calls = Calls::new(item, role);
    // Every look reads them all; an ordinary scan has read no snapshots.
    calls.on("rds:DescribeDBSnapshots", &["snapshot:*"]);
    calls.on("rds:DescribeDBClusterSnapshots", &["cluster-snapshot:*"]);
    match &item.resource {
        resource if Strategy::of(item.swap.as_ref()) == Strategy::BlueGreen => {
            calls.blue_green(resource);
        }
        Resource::Instance { instance, replicas } => calls.tree(instance, replicas),
        Resource::Cluster { cluster, members } => calls.cluster(cluster, members),
        Resource::Snapshot { snapshot, .. } => {
            let copy = format!("snapshot:{}", item.twin);
            calls.on("rds:CopyDBSnapshot", &[&format!("snapshot:{}", snapshot.id), &copy]);
            calls.on("rds:AddTagsToResource", &[&copy]);
            calls.on("rds:DeleteDBSnapshot", &[&copy]);
        }
    }
    let keys = item.key_arn.iter().map(|key| (item.region.clone(), key));
    for (region, key) in keys.chain(item.far_keys.iter().map(|(r, k)| (r.clone(), k))) {
        calls.region = region;
        calls.on("rds:DescribeDBInstances", &["db:*"]);
        calls.on("rds:DescribeDBClusters", &["cluster:*"]);
        calls.key(key);
        if let Some(swap) = &item.swap {
            let context = calls.direct();
            calls.add("cloudwatch:GetMetricData", "*".to_owned(), context);
            calls.group(swap);
        }
    }
    calls.all
}

/// Our own writes, each on everything that it is authorized against (Service Authorization Reference).
struct Calls<'a> {
    item: &'a Item,
    role: &'a str,
    partition: &'a str,
    /// Where the calls go that come next.
    region: Region,
    all: Vec<Request>,
}

impl<'a> Calls<'a> {
    fn new(item: &'a Item, role: &'a str) -> Calls<'a> {
        let partition = role.split(':').nth(1).unwrap_or("aws");
        Calls { item, role, partition, region: item.region.clone(), all: Vec::new() }
    }

    /// What every request of ours has.
    fn context(&self) -> Context {
        let account = self.item.account.as_str();
        Context::default()
            .with("aws:PrincipalArn", self.role)
            .with("aws:PrincipalAccount", account)
            .with("aws:PrincipalType", "AssumedRole")
            .with("aws:PrincipalIsAWSService", "false")
            .with("aws:ResourceAccount", account)
            .with("aws:RequestedRegion", self.region.as_str())
            .with("aws:SecureTransport", "true")
    }

    /// What one has that no service makes in our name.
    fn direct(&self) -> Context {
        self.context().with("aws:ViaAWSService", "false").without("aws:CalledVia")
    }

    fn add(&mut self, action: &str, resource: String, context: Context) {
        self.all.push(Request { action: action.to_owned(), resource, context });
    }

    fn arn(&self, on: &str) -> String {
        let (account, region) = (&self.item.account, &self.region);
        format!("arn:{}:rds:{region}:{account}:{on}", self.partition)
    }

    /// A call to RDS that is authorized against these.
    fn on(&mut self, action: &str, resources: &[&str]) {
        for resource in resources {
            self.add(action, self.arn(resource), self.direct());
        }
    }

    /// A call that makes a database without naming `StorageEncrypted`, and is seen with the key false: members of
    /// clusters (aws-secure-environment-accelerator#105) and restores of instances, also of encrypted snapshots
    /// (aws-sdk-go-v2#2678). Only the database carries it, so a policy that asks whether it is missing denies
    /// what else the call is authorized against.
    fn unnamed(&mut self, action: &str, database: &str, beside: &[&str]) {
        let keys = self
            .direct()
            .with("rds:StorageEncrypted", "false")
            .with("rds:DatabaseEngine", self.item.resource.engine());
        self.add(action, self.arn(database), keys);
        for resource in beside {
            let keys = self.direct().without("rds:StorageEncrypted");
            self.add(action, self.arn(resource), keys);
        }
    }

    fn tree(&mut self, instance: &Instance, replicas: &[Instance]) {
        let (name, twin) = (format!("db:{}", instance.id), format!("db:{}", self.item.twin));
        let snapshot = "snapshot:ringfence-rem-*";
        self.on("rds:CreateDBSnapshot", &[&name, snapshot]);
        self.on("rds:CopyDBSnapshot", &[snapshot]);
        self.on("rds:AddTagsToResource", &[snapshot]);
        self.on("rds:DeleteDBSnapshot", &[snapshot]);
        let groups = groups(instance);
        let mut beside = vec![snapshot];
        beside.extend(groups.iter().map(String::as_str));
        self.unnamed("rds:RestoreDBInstanceFromDBSnapshot", &twin, &beside);
        self.instance(instance, &self.item.twin);
        self.swapped("DBInstance", "db", (&instance.id, &instance.resource_id));
        let source = self.arn(&twin);
        for replica in replicas {
            self.region = far::region(&replica.id).unwrap_or_else(|| self.item.region.clone());
            let name = far::name(&replica.id);
            let made = twin_name(name, &replica.resource_id);
            self.on("rds:CreateDBInstanceReadReplica", &[&format!("db:{made}")]);
            self.add("rds:CreateDBInstanceReadReplica", source.clone(), self.direct());
            self.instance(replica, &made);
            self.swapped("DBInstance", "db", (name, &replica.resource_id));
        }
        self.region = self.item.region.clone();
    }

    fn cluster(&mut self, cluster: &Cluster, members: &[Instance]) {
        let (name, twin) =
            (format!("cluster:{}", cluster.id), format!("cluster:{}", self.item.twin));
        let snapshot = "cluster-snapshot:ringfence-rem-*";
        self.on("rds:CreateDBClusterSnapshot", &[&name, snapshot]);
        self.on("rds:AddTagsToResource", &[snapshot, &twin]);
        self.on("rds:DeleteDBClusterSnapshot", &[snapshot]);
        let settings = &cluster.settings;
        let group = settings.db_cluster_parameter_group.iter().map(|g| format!("cluster-pg:{g}"));
        let subnets = settings.db_subnet_group.iter().map(|g| format!("subgrp:{g}"));
        let own: Vec<String> = group.chain(subnets).collect();
        let mut restore = vec![twin.as_str(), snapshot];
        restore.extend(own.iter().map(String::as_str));
        self.on("rds:RestoreDBClusterFromSnapshot", &restore);
        self.on("rds:ModifyDBCluster", &[&twin]);
        // A twin that turned out not to be encrypted is taken down.
        self.on("rds:DeleteDBCluster", &[&twin]);
        let roles = [&settings.monitoring_role_arn].into_iter().flatten();
        self.roles(roles.chain(settings.associated_roles.iter().map(|(role, _)| role)));
        if !settings.associated_roles.is_empty() {
            self.on("rds:AddRoleToDBCluster", &[&twin]);
        }
        self.secret(settings.manage_master_user_password);
        for endpoint in &cluster.endpoints {
            let own = format!("cluster-endpoint:{}", endpoint.id);
            self.on("rds:CreateDBClusterEndpoint", &[&twin, "cluster-endpoint:*"]);
            if self.item.swap.is_some() {
                self.on("rds:DeleteDBClusterEndpoint", &[&own]);
            }
        }
        self.swapped("DBCluster", "cluster", (&cluster.id, &cluster.resource_id));
        for member in members {
            let made = twin_name(&member.id, &member.resource_id);
            let own = groups(member);
            let mut beside = vec![twin.as_str()];
            beside.extend(own.iter().map(String::as_str));
            self.unnamed("rds:CreateDBInstance", &format!("db:{made}"), &beside);
            self.instance(member, &made);
            self.swapped("DBInstance", "db", (&member.id, &member.resource_id));
        }
    }

    /// A blue/green deployment, and what AWS does for it in our name (Service Authorization Reference, the dependent
    /// actions of CreateBlueGreenDeployment, SwitchoverBlueGreenDeployment and DeleteBlueGreenDeployment). With what
    /// keys it is asked for the green databases is written nowhere: policies that look at them are said to be unknown.
    fn blue_green(&mut self, resource: &Resource) {
        let clustered = matches!(resource, Resource::Cluster { .. });
        let of =
            |kind: &str, name: &str| (format!("{kind}:{name}"), format!("{kind}:{name}-green-*"));
        let top = of(if clustered { "cluster" } else { "db" }, resource.name());
        let deployment = "deployment:*";
        self.on("rds:DescribeBlueGreenDeployments", &[deployment]);
        self.on("rds:CreateBlueGreenDeployment", &[deployment, &top.0]);
        self.on("rds:AddTagsToResource", &[deployment]);
        self.on("rds:SwitchoverBlueGreenDeployment", &[deployment, &top.0, &top.1]);
        self.on("rds:DeleteBlueGreenDeployment", &[deployment, &top.1]);
        if clustered {
            for action in [
                "CreateDBCluster",
                "ModifyDBCluster",
                "DeleteDBCluster",
                "PromoteReadReplicaDBCluster",
            ] {
                self.on(&format!("rds:{action}"), &[&top.1]);
            }
            self.swapped("DBCluster", "cluster", (resource.name(), resource.resource_id()));
        }
        for instance in resource.instances() {
            let (_, made) = of("db", &instance.id);
            for action in ["CreateDBInstance", "DeleteDBInstance", "PromoteReadReplica"] {
                self.on(&format!("rds:{action}"), &[&made]);
            }
            if !clustered {
                self.on("rds:CreateDBInstanceReadReplica", &[&made]);
            }
            self.instance(instance, &format!("{}-green-*", instance.id));
            self.swapped("DBInstance", "db", (&instance.id, &instance.resource_id));
        }
    }

    /// The isolation group: looked at, and made where the plan says so.
    fn group(&mut self, swap: &Swap) {
        let (account, region) = (&self.item.account, &self.region);
        let arn = |on: &str| format!("arn:{}:ec2:{region}:{account}:{on}", self.partition);
        let mut calls = vec![("ec2:DescribeSecurityGroups", "*".to_owned())];
        if let Some(new) = swap.make.as_ref().filter(|_| self.region == self.item.region) {
            calls.extend([
                ("ec2:CreateSecurityGroup", arn("security-group/*")),
                ("ec2:CreateSecurityGroup", arn(&format!("vpc/{}", new.vpc))),
                ("ec2:CreateTags", arn("security-group/*")),
                ("ec2:RevokeSecurityGroupEgress", arn("security-group/*")),
            ]);
        }
        for (action, resource) in calls {
            let context = self.direct();
            self.add(action, resource, context);
        }
    }

    /// What is set on an instance that was made.
    fn instance(&mut self, like: &Instance, made: &str) {
        let on = format!("db:{made}");
        self.on("rds:ModifyDBInstance", &[&on]);
        self.on("rds:AddTagsToResource", &[&on]);
        let settings = &like.settings;
        let domain = settings.domain.iter().filter_map(|d| d.iam_role_name.as_ref());
        let roles = settings.associated_roles.iter().map(|(role, _)| role);
        self.roles(settings.monitoring_role_arn.iter().chain(domain).chain(roles));
        if !settings.associated_roles.is_empty() {
            self.on("rds:AddRoleToDBInstance", &[&on]);
        }
        self.secret(settings.manage_master_user_password && like.cluster.is_none());
    }

    /// Roles that a database is given: ARNs, or names where AWS says no more.
    fn roles<'r>(&mut self, roles: impl Iterator<Item = &'r String>) {
        for role in roles {
            let arn = match role.starts_with("arn:") {
                true => role.clone(),
                false => format!("arn:{}:iam::{}:role/{role}", self.partition, self.item.account),
            };
            self.add("iam:PassRole", arn, self.direct());
        }
    }

    /// RDS makes the secret of a managed master password in our name.
    fn secret(&mut self, managed: bool) {
        let (account, region) = (&self.item.account, &self.region);
        let arn = format!("arn:{}:secretsmanager:{region}:{account}:secret:rds!*", self.partition);
        for action in ["CreateSecret", "RotateSecret", "TagResource"].iter().filter(|_| managed) {
            self.add(&format!("secretsmanager:{action}"), arn.clone(), self.context());
        }
    }

    /// What a swap does to an original, under both of its names.
    fn swapped(&mut self, calls: &str, kind: &str, (name, resource_id): (&str, &str)) {
        if self.item.swap.is_none() {
            return;
        }
        let held = match Strategy::of(self.item.swap.as_ref()) {
            Strategy::BlueGreen => format!("{name}-old*"),
            Strategy::SideBySide | Strategy::Swap => held_name(name, resource_id),
        };
        let (own, held) = (format!("{kind}:{name}"), format!("{kind}:{held}"));
        for verb in ["Modify", "Start", "Stop"] {
            self.on(&format!("rds:{verb}{calls}"), &[&own, &held]);
        }
        if kind == "db" {
            self.on("rds:RebootDBInstance", &[&own, &held]);
        }
    }

    /// What RDS does with the key in our name.
    fn key(&mut self, key: &str) {
        let key = key.to_owned();
        let service = format!("rds.{}.{}", self.region, suffix(self.partition));
        let owner = key.split(':').nth(4).unwrap_or_default().to_owned();
        let ours = |context: Context| {
            context
                .with("aws:ResourceAccount", &owner)
                .with("kms:CallerAccount", self.item.account.as_str())
        };
        let through = ours(self.context()).with("kms:ViaService", &service);
        let direct = ours(self.direct()).without("kms:ViaService");
        let grant = through.clone().with("kms:GrantIsForAWSResource", "true");
        self.add("kms:CreateGrant", key.clone(), grant);
        self.add("kms:Decrypt", key.clone(), through.clone());
        self.add("kms:GenerateDataKey", key.clone(), through);
        self.add("kms:DescribeKey", key, direct);
    }
}

/// The groups that an instance is made with.
fn groups(instance: &Instance) -> Vec<String> {
    let settings = &instance.settings;
    let named =
        |kind: &str, name: &Option<String>| name.iter().map(|n| format!("{kind}:{n}")).next();
    [
        named("pg", &settings.db_parameter_group),
        named("og", &settings.option_group),
        named("subgrp", &settings.db_subnet_group),
    ]
    .into_iter()
    .flatten()
    .collect()
}
