//! The ground truth: what is really there, and what a scan should say of each cell.

use crate::regions;
use crate::value::Time;
use crate::wire::Service;
use crate::world::{AccountId, Region, World, find};
use serde_json::{Value, json};
use std::io::Write;

/// The encryption type; the flag decides only where there is none.
fn encryption(settings: &crate::value::Map) -> &str {
    let by_flag = if settings.is("StorageEncrypted") { "sse-kms" } else { "none" };
    settings.text("StorageEncryptionType").unwrap_or(by_flag)
}

/// Encrypted, as a control judges it: an Aurora cluster under a key of AWS's is, whatever its
/// `StorageEncrypted` says.
fn encrypted(settings: &crate::value::Map) -> bool {
    encryption(settings) != "none"
}

impl World {
    /// Why nothing can be read of a cell, as the ledger's state; none if it can be read.
    fn closed(&self, account: AccountId, region: Region, now: Time) -> Option<&'static str> {
        let entered = account == self.management() || self.role_there(account);
        if !entered {
            return Some("denied");
        }
        if !self.region_on(account, region) {
            return Some("region-off");
        }
        let op = find(Service::Rds, "DescribeDBInstances").ok()?;
        let who = self.admin(account);
        let empty = crate::value::Map::new();
        self.denial((Service::Rds, op), &who, region, &empty, now).map(|_| "scp-denied")
    }

    /// One cell of the truth; none where the account is out of work.
    pub fn truth_of(&mut self, account: AccountId, region: Region, now: Time) -> Option<Value> {
        if !self.org.usable(account) {
            return None;
        }
        let closed = self.closed(account, region, now);
        let (instances, clusters) = self.with_cell(account, region, now, |cell| {
            let rds = &cell.rds;
            let instances: Vec<Value> = rds
                .instances
                .values()
                .map(|i| {
                    let kind = match (&i.cluster, &i.source) {
                        (Some(_), _) => "member",
                        (None, Some(_)) => "replica",
                        (None, None) => "instance",
                    };
                    let mut map = json!({
                        "id": i.name, "encrypted": encrypted(&i.settings), "kind": kind,
                        "encryption": encryption(&i.settings),
                    });
                    if let Some(cluster) = &i.cluster {
                        map["cluster"] = cluster.as_str().into();
                    }
                    map
                })
                .collect();
            let cluster = |c: &crate::world::rds::Cluster| {
                json!({
                    "id": c.name, "encrypted": encrypted(&c.settings),
                    "encryption": encryption(&c.settings),
                })
            };
            (instances, rds.clusters.values().map(cluster).collect::<Vec<_>>())
        });
        let plain =
            |all: &[Value]| all.iter().any(|v| v["encrypted"] == false && v["kind"] != "member");
        let expect = match closed {
            Some(state) => state,
            None if plain(&instances) || plain(&clusters) => "findings",
            None => "clean",
        };
        Some(json!({
            "account": account.to_string(), "region": region, "instances": instances,
            "clusters": clusters, "expect": expect,
        }))
    }

    /// The head of the truth: everything but the cells.
    pub fn truth_head(&self) -> Value {
        let account = |a: &crate::world::organizations::Account| {
            json!({
                "id": a.id.to_string(), "name": a.name, "state": a.state,
                "ou_path": self.org.path(a.id),
            })
        };
        json!({
            "management_account": self.management().to_string(),
            "role": self.settings.role,
            "seed": self.settings.seed,
            "regions": self.regions,
            "opt_in": self.regions.iter().filter(|r| regions::opt_in(r)).collect::<Vec<_>>(),
            "accounts": self.org.accounts().map(account).collect::<Vec<_>>(),
        })
    }

    /// All accounts, for who writes the cells one by one.
    pub fn account_ids(&self) -> Vec<AccountId> {
        self.org.accounts().map(|a| a.id).collect()
    }
}

/// Writes the whole truth, cell by cell, without holding it in memory. `cell` looks into the world.
///
/// # Errors
/// What the writer says.
pub fn write(
    out: &mut impl Write,
    head: &Value,
    accounts: &[AccountId],
    regions: &[Region],
    mut cell: impl FnMut(AccountId, Region) -> Option<Value>,
) -> std::io::Result<()> {
    let head = head.to_string();
    // The head's closing brace comes after the cells.
    write!(out, "{},\"cells\":[", &head[..head.len() - 1])?;
    let mut first = true;
    for account in accounts {
        for region in regions {
            if let Some(cell) = cell(*account, region) {
                let comma = if first { "" } else { "," };
                write!(out, "{comma}\n{cell}")?;
                first = false;
            }
        }
    }
    writeln!(out, "\n]}}")?;
    out.flush()
}
