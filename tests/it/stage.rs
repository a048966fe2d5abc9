//! One account of a simulated organization with databases of a test's own, and a server.

use ringfence_tests::emulator::Sim;
use ringfence_tests::process::{Cli, Setup};
use ringfence_tests::{Guard, python, root, until};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

pub(crate) const MINUTE: Duration = Duration::from_secs(60);

/// One account of a simulated organization with databases of the test's own, and a server.
pub(crate) struct Stage {
    pub(crate) sim: Sim,
    pub(crate) setup: Setup,
    pub(crate) server: Option<Guard>,
    pub(crate) account: String,
    pub(crate) region: String,
    /// The second one, if there is one.
    pub(crate) far: String,
    /// The security group that the databases are in, and the one that lets nobody in.
    pub(crate) own: String,
    pub(crate) isolation: String,
    _folder: tempfile::TempDir,
}

impl Stage {
    pub(crate) fn new() -> Stage {
        Stage::among(1)
    }

    /// The same in an organization of so many accounts; of more than one, it is not the management account, which
    /// no service control policy binds.
    pub(crate) fn among(accounts: u32) -> Stage {
        Stage::of(accounts, 1)
    }

    /// The same with a second region, which has a key and an isolation group, too.
    pub(crate) fn across() -> Stage {
        let mut stage = Stage::of(1, 2);
        let cells = stage.sim.truth()["cells"].as_array().expect("cells").clone();
        let regions = cells.iter().filter(|c| c["account"] == stage.account.as_str());
        let other = regions.map(|c| text(c, "region")).find(|r| *r != stage.region);
        stage.far = other.expect("another region").to_owned();
        stage.furnish(&stage.far, "ringfence-isolation");
        stage
    }

    fn of(accounts: u32, regions: u32) -> Stage {
        let folder = tempfile::tempdir().expect("a folder");
        let sim = Sim::plain(accounts, regions, 0.0, &["--seed", "5", "--time-scale", "3000"]);
        sim.inside().world().settings.aurora_default = "none".into();
        let cells = sim.truth()["cells"].as_array().expect("cells").clone();
        let management = sim.truth()["management_account"].clone();
        let member = cells.iter().find(|c| c["account"] != management);
        let cell = member.or(cells.first()).expect("a cell");
        let text = |field: &str| cell[field].as_str().expect("text").to_owned();
        let (account, region) = (text("account"), text("region"));
        let mut stage = Stage {
            setup: Setup::new(&sim.url(), folder.path()),
            sim,
            server: None,
            account,
            region,
            far: String::new(),
            own: String::new(),
            isolation: String::new(),
            _folder: folder,
        };
        (stage.own, stage.isolation) = stage.furnish(&stage.region, "nobody");
        stage
    }

    /// A key, and the group that databases are in with the one that lets nobody in.
    fn furnish(&self, region: &str, isolation: &str) -> (String, String) {
        let group = |name: &str| {
            let params = json!({"GroupName": name, "GroupDescription": name});
            let made = self.call_in(region, "ec2", "CreateSecurityGroup", params);
            made["groupId"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned()
        };
        let key = self.call_in(region, "kms", "CreateKey", json!({}));
        let key = key["KeyMetadata"]["KeyId"].as_str().unwrap_or_else(|| panic!("{key}"));
        let alias = json!({"AliasName": "alias/RDSEncryptionAtRestKMSAlias", "TargetKeyId": key});
        self.call_in(region, "kms", "CreateAlias", alias);
        let (own, isolation) = (group("app"), group(isolation));
        // AWS lets everything out of a new one.
        self.call_in(
            region,
            "ec2",
            "RevokeSecurityGroupEgress",
            json!({"GroupId": isolation.clone(),
            "IpPermissions": [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]}),
        );
        (own, isolation)
    }

    /// Starts the server; the databases are there, so the VPC is known.
    pub(crate) fn start(&mut self, settings: &[(&str, &str)]) {
        let some = self.describe().into_values().next().expect("a database");
        let vpc = some["DBSubnetGroup"]["VpcId"].as_str().expect("a VPC").to_owned();
        let groups = format!("{vpc}={}", self.isolation);
        for (key, value) in [
            ("RINGFENCE_AWS__REGIONS", ""),
            ("RINGFENCE_AWS__EXTERNAL_ID", ""),
            ("RINGFENCE_LIMITS__METRICS_READ", "1000"),
            ("RINGFENCE_REMEDIATION__METRIC_PERIOD", "1s"),
            ("RINGFENCE_REMEDIATION__QUIET_FOR", "1s"),
            ("RINGFENCE_REMEDIATION__HOLD", "0s"),
            ("RINGFENCE_REMEDIATION__ISOLATION_GROUPS", &groups),
        ] {
            self.setup.set(key, value);
        }
        for (key, value) in settings {
            self.setup.set(&format!("RINGFENCE_{key}"), value);
        }
        self.role();
        self.server = Some(self.setup.start());
        self.cli("ann").expect("org sync", 0);
    }

    /// Holds a write, after so many others.
    pub(crate) fn hold_write(&self, skip: usize, effect: &str) {
        self.sim.fault(json!({"match": {"write": true}, "skip": skip, "effect": effect}));
    }

    /// `kill -9` where a call is held, and a new server on the same store; which call that was.
    pub(crate) fn kill_where_held(&mut self) -> Option<String> {
        let hold = self.sim.inside().held().into_iter().next()?;
        self.kill_and_start();
        self.sim.release_all();
        Some(hold.call.rsplit(':').next().unwrap_or_default().to_owned())
    }

    /// `kill -9`, and a new server on the same store.
    pub(crate) fn kill_and_start(&mut self) {
        drop(self.server.take());
        self.server = Some(self.setup.start());
    }

    /// The member role may do what its template says, and no more.
    pub(crate) fn role(&self) {
        let ran = Command::new(python())
            .arg(root().join("tests/python/role_policy.py"))
            .arg(root().join("deploy/member-role.yaml"))
            .arg(&self.account)
            .output()
            .expect("run Python");
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        let policy: Value = serde_json::from_slice(&ran.stdout).expect("JSON");
        self.sim.change(json!({"role": {"account": self.account, "name": "RingfenceRemediation",
            "present": true, "policy": policy}}));
    }

    pub(crate) fn cli(&self, user: &str) -> Cli {
        self.setup.cli(user)
    }

    pub(crate) fn call(&self, service: &str, operation: &str, params: Value) -> Value {
        self.call_in(&self.region, service, operation, params)
    }

    pub(crate) fn call_in(
        &self,
        region: &str,
        service: &str,
        operation: &str,
        params: Value,
    ) -> Value {
        let account = &self.account;
        self.sim.change(json!({"call": {"account": account, "region": region, "service": service,
            "operation": operation, "params": params}}))
    }

    pub(crate) fn instance(&self, name: &str) {
        let own = &self.own;
        self.call("rds", "CreateDBInstance", json!({"DBInstanceIdentifier": name, "Engine": "postgres",
            "DBInstanceClass": "db.m6g.large", "AllocatedStorage": 100, "MasterUsername": "admin",
            "MasterUserPassword": "secret-secret", "BackupRetentionPeriod": 7, "DeletionProtection": true,
            "VpcSecurityGroupIds": [own], "Tags": [{"Key": "team", "Value": "a"}]}));
        self.available(name);
    }

    pub(crate) fn replica(&self, name: &str, of: &str) {
        let own = &self.own;
        self.call("rds", "CreateDBInstanceReadReplica", json!({"DBInstanceIdentifier": name,
            "SourceDBInstanceIdentifier": of, "DBInstanceClass": "db.m6g.xlarge", "VpcSecurityGroupIds": [own]}));
        self.available(name);
    }

    /// A replica in the second region, with backups, so that it can have its own.
    pub(crate) fn far_replica(&self, name: &str, of: &str) {
        let group = self.far_group("app");
        self.call_in(&self.far, "rds", "CreateDBInstanceReadReplica", json!({"DBInstanceIdentifier": name,
            "SourceDBInstanceIdentifier": of, "DBInstanceClass": "db.m6g.xlarge", "VpcSecurityGroupIds": [group]}));
        self.available_in(&self.far, name);
        self.call_in(
            &self.far,
            "rds",
            "ModifyDBInstance",
            json!({"DBInstanceIdentifier": name,
            "BackupRetentionPeriod": 3, "ApplyImmediately": true}),
        );
        until(&format!("{name} has backups"), MINUTE, || {
            let it = &self.describe_in(&self.far)[name];
            match it["BackupRetentionPeriod"] == 3 && it["DBInstanceStatus"] == "available" {
                true => Ok(()),
                false => Err(it.to_string()),
            }
        });
    }

    /// A security group of the second region, by its name.
    pub(crate) fn far_group(&self, name: &str) -> String {
        let all = self.call_in(&self.far, "ec2", "DescribeSecurityGroups", json!({}));
        let all = all["securityGroupInfo"].as_array().expect("groups").clone();
        let found = all.iter().find(|g| g["groupName"] == name);
        text(found.unwrap_or_else(|| panic!("{name}: {all:?}")), "groupId").to_owned()
    }

    pub(crate) fn arn(&self, region: &str, name: &str) -> String {
        format!("arn:aws:rds:{region}:{}:db:{name}", self.account)
    }

    pub(crate) fn cluster(&self, name: &str, members: &[&str]) {
        let own = &self.own;
        self.call("rds", "CreateDBCluster", json!({"DBClusterIdentifier": name, "Engine": "aurora-postgresql",
            "MasterUsername": "admin", "MasterUserPassword": "secret-secret", "DeletionProtection": true,
            "VpcSecurityGroupIds": [own]}));
        until("the cluster is available", MINUTE, || {
            let status = self.clusters()[name]["Status"].to_string();
            if status == "\"available\"" { Ok(()) } else { Err(status) }
        });
        for (tier, member) in members.iter().enumerate() {
            self.call("rds", "CreateDBInstance", json!({"DBInstanceIdentifier": member, "DBClusterIdentifier": name,
                "Engine": "aurora-postgresql", "DBInstanceClass": "db.r6g.large", "PromotionTier": tier}));
            self.available(member);
        }
    }

    /// Gives a cluster a parameter group of its own: in AWS's default ones nothing can be turned on.
    pub(crate) fn own_parameters(&self, cluster: &str) {
        let family = "aurora-postgresql16";
        self.call(
            "rds",
            "CreateDBClusterParameterGroup",
            json!({"DBClusterParameterGroupName": "own", "DBParameterGroupFamily": family, "Description": "own"}),
        );
        self.call(
            "rds",
            "ModifyDBCluster",
            json!({"DBClusterIdentifier": cluster, "DBClusterParameterGroupName": "own", "ApplyImmediately": true}),
        );
        until("the cluster is available", MINUTE, || {
            let status = self.clusters()[cluster]["Status"].to_string();
            if status == "\"available\"" { Ok(()) } else { Err(status) }
        });
    }

    pub(crate) fn available(&self, name: &str) {
        self.available_in(&self.region, name);
    }

    pub(crate) fn available_in(&self, region: &str, name: &str) {
        until(&format!("{name} is available"), MINUTE, || {
            let all = self.describe_in(region);
            let status = all.get(name).map(|i| i["DBInstanceStatus"].to_string());
            if status.as_deref() == Some("\"available\"") {
                Ok(())
            } else {
                Err(format!("{status:?}"))
            }
        });
    }

    /// All instances by name, as AWS shows them.
    pub(crate) fn describe(&self) -> BTreeMap<String, Value> {
        self.describe_in(&self.region)
    }

    pub(crate) fn describe_in(&self, region: &str) -> BTreeMap<String, Value> {
        let all = self.call_in(region, "rds", "DescribeDBInstances", json!({}));
        let list = all["DBInstances"].as_array().expect("instances").clone();
        list.into_iter()
            .map(|i| (i["DBInstanceIdentifier"].as_str().expect("a name").to_owned(), i))
            .collect()
    }

    pub(crate) fn clusters(&self) -> BTreeMap<String, Value> {
        let all = self.call("rds", "DescribeDBClusters", json!({}));
        let list = all["DBClusters"].as_array().expect("clusters").clone();
        list.into_iter()
            .map(|i| (i["DBClusterIdentifier"].as_str().expect("a name").to_owned(), i))
            .collect()
    }

    pub(crate) fn snapshots(&self) -> Vec<String> {
        let mut names = Vec::new();
        for (operation, list, id) in [
            ("DescribeDBSnapshots", "DBSnapshots", "DBSnapshotIdentifier"),
            ("DescribeDBClusterSnapshots", "DBClusterSnapshots", "DBClusterSnapshotIdentifier"),
        ] {
            let all = self.call("rds", operation, json!({}));
            let all = all[list].as_array().expect("snapshots").clone();
            names.extend(all.iter().map(|s| {
                format!(
                    "{} {}",
                    s[id].as_str().expect("a name"),
                    s["StorageEncryptionType"].as_str().unwrap_or("?")
                )
            }));
        }
        names
    }

    pub(crate) fn load(&self, instance: &str, connections: u32) {
        let (account, region) = (&self.account, &self.region);
        self.sim
            .change(json!({"load": {"account": account, "region": region, "instance": instance,
            "connections": connections, "write_iops": connections}}));
    }

    /// Waits until CloudWatch has seen so many connections at a time in the last seconds.
    pub(crate) fn shows(&self, instance: &str, connections: u32) {
        let time = |ms: i64| ringfence_domain::time::Time(ms).to_string();
        until(&format!("{instance} shows {connections}"), MINUTE, || {
            let now = self.sim.inside().clock.now().0;
            let said = self.call(
                "cloudwatch",
                "GetMetricStatistics",
                json!({"Namespace": "AWS/RDS",
                "MetricName": "DatabaseConnections", "Period": 1, "Statistics": ["Maximum"],
                "Dimensions": [{"Name": "DBInstanceIdentifier", "Value": instance}],
                "StartTime": time(now - 5_000), "EndTime": time(now + 1_000)}),
            );
            let points = said["Datapoints"].as_array().cloned().unwrap_or_default();
            // Just so many: more of them may be of a few seconds ago.
            let shown = |p: &Value| p["Maximum"].as_f64() == Some(f64::from(connections));
            if points.iter().any(shown) { Ok(()) } else { Err(said.to_string()) }
        });
    }

    /// Plans with these flags, approves, applies; the remediations by the original's name.
    pub(crate) fn apply(&self, flags: &str) -> BTreeMap<String, String> {
        self.applied(&self.planned(flags))
    }

    /// A plan with these flags, approved.
    pub(crate) fn planned(&self, flags: &str) -> String {
        self.planned_after("scan start --wait --timeout 60s", flags)
    }

    /// The same, after this scan.
    pub(crate) fn planned_after(&self, scan: &str, flags: &str) -> String {
        let (ann, bob) = (self.cli("ann"), self.cli("bob"));
        ann.expect(scan, 0);
        let plan = ann.json(&format!("plan create --all {flags}"), 0);
        let plan = plan["id"].as_str().expect("a plan");
        bob.expect(&format!("approve {plan} --reason CHG-1"), 0);
        plan.to_owned()
    }

    /// Applies a plan; the remediations by the original's name.
    pub(crate) fn applied(&self, plan: &str) -> BTreeMap<String, String> {
        let made = self.cli("ann").json(&format!("remediation apply {plan}"), 0);
        let list = made["remediations"].as_array().expect("remediations").clone();
        let text = |r: &Value, field: &str| r[field].as_str().expect("text").to_owned();
        list.iter().map(|r| (text(r, "name"), text(r, "id"))).collect()
    }

    pub(crate) fn get(&self, id: &str) -> Value {
        self.cli("ann").json(&format!("remediation get {id}"), 0)
    }

    pub(crate) fn reaches(&self, id: &str, state: &str) -> Value {
        until(&format!("{id} is {state}"), MINUTE, || {
            let rem = self.get(id);
            if rem["state"] == state { Ok(rem) } else { Err(rem.to_string()) }
        })
    }

    pub(crate) fn order(&self, verb: &str, id: &str, code: i32) -> String {
        let ran = self.cli("ann").args(&["remediation", verb, id, "--reason", "because"]);
        assert_eq!(ran.code, code, "{verb} {id}: {ran:?}");
        ran.err
    }
}

pub(crate) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

pub(crate) fn groups(database: &Value) -> Vec<&str> {
    let list = database["VpcSecurityGroups"].as_array().expect("groups");
    list.iter().map(|g| text(g, "VpcSecurityGroupId")).collect()
}

/// The check of that name of a plan's first database.
pub(crate) fn check<'a>(plan: &'a Value, name: &str) -> (&'a str, &'a str) {
    let checks = plan["items"][0]["checks"].as_array().expect("checks");
    let found =
        checks.iter().find(|c| c["name"] == name).unwrap_or_else(|| panic!("{name}: {plan}"));
    (text(found, "verdict"), text(found, "text"))
}
