//! Whether the service control policies in force let us do what a remediation does: one that does not stops it
//! halfway, with a copy that is paid for and a database that is not encrypted.

use super::checks::{Check, Verdict};
use super::{Item, Strategy};
use crate::finding::Resource;
use crate::iam::scp::{self, Level, Reason};
use crate::iam::{Context, Request};
use crate::key::policy::suffix;
use crate::rds::{Cluster, Instance};
use crate::remediation::{Swap, held_name, twin_name};
use std::collections::{BTreeMap, BTreeSet};

const NAME: &str = "policies";

/// What the policies from the root down to the item's account say of all its calls, made as that role.
pub fn fenced(item: &Item, levels: &[Level], role: &str) -> Vec<Check> {
    let mut denied: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut unknown: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let note = |into: &mut BTreeMap<String, BTreeSet<String>>, why: String, action: &str| {
        into.entry(why).or_default().insert(action.to_owned());
    };
    for request in requests(item, role) {
        match scp::judge(levels, &request) {
            scp::Verdict::Allowed => {}
            scp::Verdict::Denied(reasons) => reasons.iter().for_each(|reason| {
                let why = format!("{reason}; {}", advice(reason, role));
                note(&mut denied, why, &request.action);
            }),
            scp::Verdict::Unknown(reasons) => {
                reasons.iter().for_each(|r| note(&mut unknown, r.to_string(), &request.action));
            }
        }
    }
    let list = |calls: &BTreeSet<String>| calls.iter().cloned().collect::<Vec<_>>().join(", ");
    let name = item.resource.name();
    let blocks = denied.iter().map(|(why, calls)| {
        let text = format!("{name}: service control policies deny us {}: {why}", list(calls));
        Check::new(NAME, Verdict::Block, text)
    });
    let warnings = unknown.iter().map(|(why, calls)| {
        let text = format!(
            "{name}: whether service control policies deny us {} cannot be told from here: {why}; if they do, its remediation stops there",
            list(calls)
        );
        Check::new(NAME, Verdict::Warn, text)
    });
    let all: Vec<Check> = blocks.chain(warnings).collect();
    if all.is_empty() { vec![Check::new(NAME, Verdict::Pass, String::new())] } else { all }
}

/// What to do about a denial.
fn advice(reason: &Reason, role: &str) -> String {
    match reason {
        Reason::Statement { policy, .. } | Reason::Unread { policy, .. } => format!(
            "exempt {role} in that statement (ArnNotLike on aws:PrincipalArn), or detach {policy} for as long as the remediation takes"
        ),
        Reason::NothingAllows { node, .. } => {
            format!("allow these calls by a policy on {node}")
        }
    }
}

/// The check where the policies could not be read.
pub fn unfenced(item: &Item, why: &str) -> Check {
    let text = format!(
        "{}: the service control policies in force could not be read ({why}): if one denies us a call, its remediation stops there",
        item.resource.name()
    );
    Check::new(NAME, Verdict::Warn, text)
}

/// All requests that the work on an item makes, as far as they are known before it begins.
fn requests(item: &Item, role: &str) -> Vec<Request> {
    let mut calls = Calls::new(item, role);
    // Every look reads them all; an ordinary scan has read no snapshots.
    calls.on("rds:DescribeDBInstances", &["db:*"]);
    calls.on("rds:DescribeDBClusters", &["cluster:*"]);
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
    calls.key();
    if let Some(swap) = &item.swap {
        let context = calls.direct();
        calls.add("cloudwatch:GetMetricData", "*".to_owned(), context);
        calls.group(swap);
    }
    calls.all
}

/// Our own writes, each on everything that it is authorized against (Service Authorization Reference).
struct Calls<'a> {
    item: &'a Item,
    role: &'a str,
    partition: &'a str,
    all: Vec<Request>,
}

impl<'a> Calls<'a> {
    fn new(item: &'a Item, role: &'a str) -> Calls<'a> {
        Calls { item, role, partition: role.split(':').nth(1).unwrap_or("aws"), all: Vec::new() }
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
            .with("aws:RequestedRegion", self.item.region.as_str())
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
        let Item { account, region, .. } = self.item;
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
        for replica in replicas {
            let made = twin_name(&replica.id, &replica.resource_id);
            self.on("rds:CreateDBInstanceReadReplica", &[&format!("db:{made}"), &twin]);
            self.instance(replica, &made);
            self.swapped("DBInstance", "db", (&replica.id, &replica.resource_id));
        }
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
        let Item { account, region, .. } = self.item;
        let arn = |on: &str| format!("arn:{}:ec2:{region}:{account}:{on}", self.partition);
        let mut calls = vec![("ec2:DescribeSecurityGroups", "*".to_owned())];
        if let Some(new) = &swap.make {
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
        let Item { account, region, .. } = self.item;
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
    fn key(&mut self) {
        let Some(key) = self.item.key_arn.clone() else { return };
        let service = format!("rds.{}.{}", self.item.region, suffix(self.partition));
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

#[cfg(test)]
mod tests {
    use super::super::tests::planned;
    use super::*;
    use crate::iam::document::Policy;
    use crate::iam::scp::Attached;
    use crate::rds::Endpoint;
    use crate::remediation::{Swap, sample};
    use crate::scp::OUR_CALLS;
    use serde_json::{Value, json};

    const ROLE: &str = "arn:aws:iam::111122223333:role/RingfenceRemediation";

    /// A tree, a cluster and a snapshot with all that asks for a call of its own.
    fn items() -> Vec<Item> {
        let role = "arn:aws:iam::111122223333:role/x".to_owned();
        let mut instance = sample::instance("orders");
        instance.settings.associated_roles.insert((role.clone(), "S3".into()));
        instance.settings.manage_master_user_password = true;
        instance.settings.db_parameter_group = Some("pg-a".into());
        let replica =
            Instance { replica_source: Some("orders".into()), ..sample::instance("orders-r") };
        let mut cluster = sample::cluster("bills", &["bills-1"]);
        cluster.settings.associated_roles.insert((role, "S3".into()));
        cluster.endpoints.push(Endpoint {
            id: "reports".into(),
            arn: "arn".into(),
            kind: "ANY".into(),
            members: BTreeSet::new(),
            excluded: BTreeSet::new(),
            status: "available".into(),
            tags: BTreeMap::new(),
        });
        let members = vec![sample::member("bills-1", "bills")];
        let swap = Some(Swap { isolation: "sg-1".into(), ..Swap::default() });
        let old = sample::old_snapshot("monthly");
        [
            Resource::Instance { instance, replicas: vec![replica] },
            Resource::Cluster { cluster, members },
            Resource::Snapshot { snapshot: old, of_cluster: false, shared: Ok(Vec::new()) },
        ]
        .into_iter()
        .map(|resource| Item { swap: swap.clone(), ..planned(resource) })
        .collect()
    }

    #[test]
    fn every_call_of_ours_is_asked_about() {
        let asked: BTreeSet<String> =
            items().iter().flat_map(|item| requests(item, ROLE)).map(|r| r.action).collect();
        // The way in is the caller's, whom other policies bind; ListRegions is a scan's; of tenant databases
        // nothing is planned.
        let before = [
            "sts:AssumeRole",
            "sts:SetSourceIdentity",
            "account:ListRegions",
            "rds:CreateTenantDatabase",
        ];
        for call in OUR_CALLS.iter().filter(|c| !before.contains(*c)) {
            assert!(asked.contains(*call), "{call}: {asked:?}");
        }
    }

    fn said(statement: &Value) -> Vec<String> {
        let mut statement = statement.clone();
        statement["Effect"] = "Deny".into();
        let full = json!({"Effect": "Allow", "Action": "*", "Resource": "*"});
        let document = json!({"Version": "2012-10-17", "Statement": [full, statement]});
        let policy = Policy::parse(&document.to_string());
        let levels = [Level {
            node: "r-1".into(),
            policies: vec![Attached { name: "p-1".into(), policy }.into()],
        }];
        let verdict = |item: &Item| {
            let checks = fenced(item, &levels, ROLE);
            let worst = checks.iter().map(|c| c.verdict).max_by_key(|v| v.as_str() == "block");
            worst.map_or("none", Verdict::as_str).to_owned()
        };
        items().iter().map(verdict).collect()
    }

    #[test]
    fn a_policy_blocks_what_it_denies_and_warns_of_what_it_may_deny() {
        let when = |action: &str, condition: Value| json!({"Action": action, "Resource": "*", "Condition": condition});
        let unencrypted = || json!({"Bool": {"rds:StorageEncrypted": "false"}});
        for (statement, want) in [
            (json!({"Action": "s3:*", "Resource": "*"}), ["pass", "pass", "pass"]),
            (json!({"Action": "rds:CopyDBSnapshot", "Resource": "*"}), ["block", "pass", "block"]),
            (json!({"Action": "iam:PassRole", "Resource": "*"}), ["block", "block", "pass"]),
            (json!({"Action": "kms:Decrypt", "Resource": "*"}), ["block", "block", "block"]),
            (json!({"Action": "secretsmanager:*", "Resource": "*"}), ["block", "pass", "pass"]),
            (
                json!({"Action": "rds:*", "Resource": "arn:*:rds:*:*:pg:pg-a"}),
                ["block", "pass", "pass"],
            ),
            (
                json!({"Action": "rds:Stop*", "Resource": "arn:*:rds:*:*:*-unencrypted-*"}),
                ["block", "block", "pass"],
            ),
            // What the restore of an instance is seen with; nobody says so of a cluster's.
            (when("rds:RestoreDBInstance*", unencrypted()), ["block", "pass", "pass"]),
            (when("rds:RestoreDBCluster*", unencrypted()), ["pass", "warn", "pass"]),
            (when("rds:CreateDBInstance", unencrypted()), ["pass", "block", "pass"]),
            (
                when("rds:CreateDBInstance", json!({"Null": {"rds:StorageEncrypted": "true"}})),
                ["pass", "block", "pass"],
            ),
            (
                when("rds:*", json!({"StringEquals": {"aws:ResourceTag/team": "a"}})),
                ["warn", "warn", "warn"],
            ),
            (
                when(
                    "*",
                    json!({"ArnNotLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/RingfenceRemediation"}}),
                ),
                ["pass", "pass", "pass"],
            ),
            (
                when("*", json!({"StringNotEquals": {"aws:RequestedRegion": ["eu-west-1"]}})),
                ["pass", "pass", "pass"],
            ),
            (
                when("*", json!({"StringNotEquals": {"aws:RequestedRegion": ["us-east-1"]}})),
                ["block", "block", "block"],
            ),
        ] {
            assert_eq!(said(&statement), want, "{statement}");
        }
        let built_in = Policy::parse(crate::scp::RDS_ENCRYPTION).unwrap();
        let full = Policy::parse(r#"{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#);
        let attached = |id: &str, policy| Attached { name: id.into(), policy }.into();
        let levels = [Level {
            node: "r-1".into(),
            policies: vec![attached("p-full", full), attached("p-1", Ok(built_in))],
        }];
        for item in items() {
            let checks = fenced(&item, &levels, ROLE);
            assert!(checks.iter().all(|c| c.verdict == Verdict::Pass), "{checks:?}");
        }
    }
}
