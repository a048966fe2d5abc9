//! The part of the demo where twins take their originals' places.

use super::{Demo, list, say, text};
use anyhow::Context;
use ringfence_simulator::run::Running;
use ringfence_simulator::world::change::Change;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A cell with databases, and its security group that lets nobody in.
pub(super) struct Place {
    account: String,
    region: String,
    vpc: String,
    group: String,
}

/// What somebody else does in the world: no part of the product.
fn change(simulator: &Running, change: Value) -> anyhow::Result<Value> {
    let change: Change = serde_json::from_value(change)?;
    let now = simulator.simulator.clock.now();
    simulator.simulator.world().change(&change, now).map_err(anyhow::Error::msg)
}

impl Place {
    /// The first cell of the truth where something is unencrypted.
    pub(super) fn find(simulator: &Running, truth: &Value) -> anyhow::Result<Place> {
        let cell = list(&truth["cells"]).iter().find(|c| {
            c["expect"] == "findings"
                && list(&c["instances"]).iter().any(|i| i["kind"] == "instance")
        });
        let cell = cell.context("a cell with findings")?;
        let (account, region) =
            (text(&cell["account"]).to_owned(), text(&cell["region"]).to_owned());
        let mut place = Place { account, region, vpc: String::new(), group: String::new() };
        let all = place.call(simulator, "rds", "DescribeDBInstances", json!({}))?;
        place.vpc = text(&all["DBInstances"][0]["DBSubnetGroup"]["VpcId"]).to_owned();
        let group = json!({"GroupName": "nobody", "GroupDescription": "lets nobody in"});
        let made = place.call(simulator, "ec2", "CreateSecurityGroup", group)?;
        place.group = text(&made["groupId"]).to_owned();
        Ok(place)
    }

    /// `remediation.isolation_groups`
    pub(super) fn setting(&self) -> String {
        format!("{}={}", self.vpc, self.group)
    }

    fn call(
        &self,
        simulator: &Running,
        service: &str,
        operation: &str,
        params: Value,
    ) -> anyhow::Result<Value> {
        let (account, region) = (&self.account, &self.region);
        change(
            simulator,
            json!({"call": {"account": account, "region": region, "service": service,
            "operation": operation, "params": params}}),
        )
    }

    fn instances(&self, simulator: &Running) -> anyhow::Result<BTreeMap<String, Value>> {
        let all = self.call(simulator, "rds", "DescribeDBInstances", json!({}))?;
        let all = list(&all["DBInstances"]).iter();
        Ok(all.map(|i| (text(&i["DBInstanceIdentifier"]).to_owned(), i.clone())).collect())
    }
}

impl Demo {
    /// A swap with a replica, a twin that is not equal, and a way back.
    pub(super) fn swap(&self) -> anyhow::Result<()> {
        say(
            "6. Orders, invoices and tickets shall keep their endpoints: the twins take their places",
        );
        let sim = &self.simulator;
        for name in ["orders", "invoices", "tickets"] {
            self.place.call(sim, "rds", "CreateDBInstance", json!({"DBInstanceIdentifier": name, "Engine": "postgres",
                "DBInstanceClass": "db.m6g.large", "AllocatedStorage": 100, "MasterUsername": "admin1",
                "MasterUserPassword": "not-a-secret-1", "BackupRetentionPeriod": 7, "DeletionProtection": true}))?;
        }
        self.until("the databases are available", || self.status("orders", "available"))?;
        self.place.call(
            sim,
            "rds",
            "CreateDBInstanceReadReplica",
            json!({"DBInstanceIdentifier": "orders-read", "SourceDBInstanceIdentifier": "orders"}),
        )?;
        self.until("its replica is available", || self.status("orders-read", "available"))?;
        let before = self.place.instances(sim)?;
        self.show("ann", &["scan", "start", "--account", &self.place.account, "--wait"], &[0, 3])?;
        let findings =
            self.cli("ann").json(&format!("finding list --account {}", self.place.account), 0);
        let mut args = vec!["plan", "create", "--strategy", "swap"];
        for finding in list(&findings["findings"]) {
            if ["orders", "invoices", "tickets"].contains(&text(&finding["name"])) {
                args.extend(["--finding", text(&finding["id"])]);
            }
        }
        let plan = self.id("ann", &args)?;
        self.show("ann", &["plan", "show", &plan], &[0])?;
        self.show("bob", &["approve", &plan, "--reason", "CHG-1240"], &[0])?;
        self.show("ann", &["remediation", "apply", &plan], &[0])?;
        println!(
            "\nMeanwhile something is not as it was: a setting of the twin of invoices is changed behind our back."
        );
        self.until("the twin of invoices appears", || {
            Ok(self.place.instances(sim)?.contains_key("encrypted-invoices"))
        })?;
        let place = &self.place;
        change(
            sim,
            json!({"member": {"account": place.account, "region": place.region, "name": "encrypted-invoices",
            "member": "LicenseModel", "value": "bring-your-own-license"}}),
        )?;
        self.wait(&plan)?;
        self.show("ann", &["remediation", "list", "--plan", &plan], &[0])?;
        let made = self.remediations(&plan)?;
        anyhow::ensure!(made["invoices"].1 == "stopped", "the difference was not caught: {made:?}");
        let (orders, tickets) = (&made["orders"].0, &made["tickets"].0);
        println!(
            "\nThe difference was caught before anything changed places. The other two change theirs:"
        );
        self.show("ann", &["remediation", "cutover", orders, "--reason", "CHG-1241"], &[0])?;
        self.show("ann", &["remediation", "cutover", tickets, "--reason", "CHG-1241"], &[0])?;
        self.show("ann", &["remediation", "watch", orders], &[0])?;
        self.until("tickets are cut over", || {
            Ok(self.remediations(&plan)?["tickets"].1 == "cut_over")
        })?;
        let after = self.place.instances(sim)?;
        for name in ["orders", "orders-read"] {
            let (old, new) = (&before[name], &after[name]);
            println!(
                "  {name}: {} is the same endpoint; its storage was {}, is {}",
                text(&new["Endpoint"]["Address"]),
                text(&old["StorageEncryptionType"]),
                text(&new["StorageEncryptionType"])
            );
            let swapped =
                old["DbiResourceId"] != new["DbiResourceId"] && old["Endpoint"] == new["Endpoint"];
            anyhow::ensure!(
                swapped && new["StorageEncryptionType"] == "sse-kms",
                "{name} is not swapped"
            );
        }
        say("7. Tickets does not like it: the way back");
        self.show(
            "ann",
            &["remediation", "rollback", tickets, "--reason", "errors in the application"],
            &[0],
        )?;
        self.until("tickets are back", || {
            Ok(self.remediations(&plan)?["tickets"].1 == "rolled_back")
        })?;
        self.show("ann", &["remediation", "get", tickets], &[0])?;
        let back = self.place.instances(sim)?;
        anyhow::ensure!(
            back["tickets"]["DbiResourceId"] == before["tickets"]["DbiResourceId"],
            "it is not back"
        );
        println!("\nAnd of orders the original is kept; its end takes its name, and two others:");
        let held = after
            .keys()
            .find(|name| name.starts_with("orders-unencrypted-"))
            .context("the original")?;
        let decommission =
            ["remediation", "decommission", orders, "--confirm", held, "--reason", "done with it"];
        self.show("ann", &decommission, &[5])
    }

    fn status(&self, name: &str, status: &str) -> anyhow::Result<bool> {
        let all = self.place.instances(&self.simulator)?;
        Ok(all.get(name).is_some_and(|i| i["DBInstanceStatus"] == status))
    }

    /// Id and state by the original's name.
    fn remediations(&self, plan: &str) -> anyhow::Result<BTreeMap<String, (String, String)>> {
        let all = self.cli("ann").json(&format!("remediation list --plan {plan}"), 0);
        let one = |r: &Value| {
            let [name, id, state] = ["name", "id", "state"].map(|f| text(&r[f]).to_owned());
            (name, (id, state))
        };
        Ok(list(&all["remediations"]).iter().map(one).collect())
    }

    fn until(&self, what: &str, holds: impl Fn() -> anyhow::Result<bool>) -> anyhow::Result<()> {
        let end = Instant::now() + Duration::from_secs(90);
        while !holds()? {
            anyhow::ensure!(
                Instant::now() < end,
                "{what}: not in time; the server's log:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }
}
