//! An exported organization (`ringfence org export`): what a rehearsal is built from.
//!
//! The export has the tree, the ledger and the open findings. Databases that are in order are known by
//! number only, so they stand in a rehearsal under made-up names.

use crate::regions;
use crate::value::Time;
use crate::world::organizations::{Organization, STATES};
use crate::world::{AccountId, Region};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// How a database is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encryption {
    None,
    SseRds,
    SseKms,
}

/// What kind of database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Instance,
    /// Of that source.
    Replica(String),
    /// With these members.
    Cluster(Vec<String>),
}

/// A database to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Database {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) engine: String,
    pub(crate) encryption: Encryption,
}

/// Where an account could not even say its regions (it denied us), the ledger has one cell, with this in
/// a region's place.
const UNKNOWN: &str = "unknown";

/// The document; members that a rehearsal does not need are passed over.
#[derive(Debug, Clone, Deserialize)]
pub struct Inventory {
    schema_version: String,
    nodes: Vec<Node>,
    cells: Vec<LedgerCell>,
    findings: Vec<Finding>,
}

#[derive(Debug, Clone, Deserialize)]
struct Node {
    id: String,
    #[serde(default)]
    parent: String,
    name: String,
    kind: String,
    #[serde(default)]
    account_state: String,
    #[serde(default)]
    management: bool,
}

#[derive(Debug, Clone, Deserialize)]
struct LedgerCell {
    account: String,
    region: String,
    state: String,
    #[serde(default)]
    instances: u32,
    #[serde(default)]
    clusters: u32,
}

#[derive(Debug, Clone, Deserialize)]
struct Finding {
    account: String,
    region: String,
    kind: String,
    name: String,
    engine: String,
    #[serde(default)]
    group: String,
    #[serde(default)]
    encryption: String,
}

impl Inventory {
    /// Reads the document.
    ///
    /// # Errors
    /// Says what is wrong with it, and where.
    pub fn parse(text: &str) -> Result<Inventory, String> {
        let inventory: Inventory = serde_json::from_str(text).map_err(|e| {
            format!("the inventory is not an export of `ringfence org export`: {e}")
        })?;
        if inventory.schema_version != "1" {
            return Err(format!(
                "the inventory has schema_version {}; this version reads 1",
                inventory.schema_version
            ));
        }
        Ok(inventory)
    }

    fn account(text: &str) -> Result<AccountId, String> {
        text.parse().map_err(|_| format!("the inventory names {text}, which is no account id"))
    }

    pub(crate) fn management(&self) -> Result<AccountId, String> {
        let node = self.nodes.iter().find(|n| n.management);
        Self::account(&node.ok_or("the inventory has no management account")?.id)
    }

    pub(crate) fn root(&self) -> Result<String, String> {
        let node = self.nodes.iter().find(|n| n.kind == "root");
        let id = &node.ok_or("the inventory has no root")?.id;
        if !id.starts_with("r-") {
            return Err(format!("the inventory's root has the id {id}, which is none (r-...)"));
        }
        Ok(id.clone())
    }

    pub(crate) fn regions(&self) -> Result<Vec<Region>, String> {
        let named = self.cells.iter().map(|c| c.region.as_str());
        let names: BTreeSet<&str> = named.filter(|name| *name != UNKNOWN).collect();
        if names.is_empty() {
            return Err(
                "the inventory has no cells with a region: scan the organization before you export it".into()
            );
        }
        let region = |name: &str| {
            regions::find(name).ok_or_else(|| {
                format!("the inventory names a region {name}, which the simulator does not know")
            })
        };
        names.into_iter().map(region).collect()
    }

    pub(crate) fn fill(&self, org: &mut Organization) -> Result<(), String> {
        for node in self.nodes.iter().filter(|n| n.kind == "ou") {
            org.put_ou(&node.id, &node.name, &node.parent);
        }
        for node in self.nodes.iter().filter(|n| n.kind == "account" && !n.management) {
            let state = STATES.into_iter().find(|s| *s == node.account_state).unwrap_or("ACTIVE");
            org.add_account(Self::account(&node.id)?, &node.name, state, &node.parent, Time(0));
        }
        Ok(())
    }

    /// Accounts that denied every cell.
    pub(crate) fn denied(&self) -> Vec<AccountId> {
        let mut open: BTreeMap<&str, bool> = BTreeMap::new();
        for cell in &self.cells {
            *open.entry(&cell.account).or_default() |= cell.state != "denied";
        }
        let denied = open.into_iter().filter(|(_, open)| !open);
        denied.filter_map(|(id, _)| id.parse().ok()).collect()
    }

    pub(crate) fn opted_in(&self) -> Result<Vec<(AccountId, Region)>, String> {
        let on = self.cells.iter().filter(|c| c.state != "region-off");
        on.filter_map(|c| Some((c, regions::find(&c.region)?)))
            .filter(|(_, region)| regions::opt_in(region))
            .map(|(c, region)| Ok((Self::account(&c.account)?, region)))
            .collect()
    }

    pub(crate) fn cells(&self) -> Result<BTreeMap<(AccountId, Region), Vec<Database>>, String> {
        let mut cells: BTreeMap<(AccountId, Region), Vec<Database>> = BTreeMap::new();
        for f in &self.findings {
            let Some(region) = regions::find(&f.region) else { continue };
            let names = |prefix: &str| {
                let list = f.group.split(';').find_map(|part| part.trim().strip_prefix(prefix));
                list.map(|l| l.split(',').map(|n| n.trim().to_owned()).collect::<Vec<_>>())
            };
            let kind = match (f.kind.as_str(), names("replica of ")) {
                ("cluster", _) => Kind::Cluster(names("members: ").unwrap_or_default()),
                // One of another region is an instance here: what it replicates is not rehearsed.
                (_, Some(source)) if !source.concat().starts_with("arn:") => {
                    Kind::Replica(source.concat())
                }
                _ => Kind::Instance,
            };
            let encryption =
                if f.encryption == "sse-rds" { Encryption::SseRds } else { Encryption::None };
            let database =
                Database { name: f.name.clone(), kind, engine: f.engine.clone(), encryption };
            cells.entry((Self::account(&f.account)?, region)).or_default().push(database);
        }
        for cell in &self.cells {
            let Some(region) = regions::find(&cell.region) else { continue };
            let place = (Self::account(&cell.account)?, region);
            let known = cells.get(&place).map(Vec::as_slice).unwrap_or_default();
            let clusters = known.iter().filter(|d| matches!(d.kind, Kind::Cluster(_))).count();
            let members: usize = known
                .iter()
                .map(|d| if let Kind::Cluster(m) = &d.kind { m.len() } else { 1 })
                .sum();
            let more = safe(cell, clusters, members);
            if !more.is_empty() {
                cells.entry(place).or_default().extend(more);
            }
        }
        Ok(cells)
    }
}

/// The databases of a cell that are in order: as many as the ledger counts, beside the findings.
fn safe(cell: &LedgerCell, clusters: usize, instances: usize) -> Vec<Database> {
    let mut left = (cell.instances as usize).saturating_sub(instances);
    let mut found = Vec::new();
    let encryption = Encryption::SseKms;
    for i in 0..(cell.clusters as usize).saturating_sub(clusters) {
        let name = format!("rehearsed-cluster-{}", i + 1);
        let members = if left > 0 { vec![format!("{name}-1")] } else { vec![] };
        left -= members.len();
        let engine = "aurora-postgresql".to_owned();
        found.push(Database { name, kind: Kind::Cluster(members), engine, encryption });
    }
    for i in 0..left {
        let name = format!("rehearsed-{}", i + 1);
        found.push(Database { name, kind: Kind::Instance, engine: "postgres".into(), encryption });
    }
    found
}
