//! What the world can be made to do from outside: by people at the admin door, and by faults.

use super::cloudwatch::Load;
use super::organizations::STATES;
use super::{AccountId, Cell, Region, World, find};
use crate::regions;
use crate::value::{Map, Time};
use crate::wire::{Service, json};
use serde::{Deserialize, Serialize};

/// A change that no AWS call makes, or a call that somebody else makes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Change {
    /// A call by an administrator of the account: no throttle, no policy, no fault.
    Call {
        /// The account.
        account: String,
        /// The region.
        region: String,
        /// The service's IAM prefix.
        service: String,
        /// The operation.
        operation: String,
        /// Its parameters, as JSON.
        #[serde(default)]
        params: serde_json::Value,
    },
    /// A role appears, disappears or changes. Without a policy it may do everything.
    Role {
        /// The account.
        account: String,
        /// The role's name.
        name: String,
        /// Whether it is there.
        present: bool,
        /// What its trust policy wants.
        #[serde(default)]
        external_id: Option<String>,
        /// Its permissions, as a policy document.
        #[serde(default)]
        policy: Option<serde_json::Value>,
        /// Whether its trust policy lacks sts:SetSourceIdentity.
        #[serde(default)]
        no_source_identity: bool,
    },
    /// What people do to a database from now on.
    Load {
        /// The account.
        account: String,
        /// The region.
        region: String,
        /// The instance's name.
        instance: String,
        /// Client connections.
        connections: f64,
        /// Writes a second.
        write_iops: f64,
    },
    /// A database's status.
    Status {
        /// The account.
        account: String,
        /// The region.
        region: String,
        /// The name of an instance or a cluster.
        name: String,
        /// `storage-full`, `incompatible-parameters`, ...
        status: String,
    },
    /// A member of a database, as Describe shows it.
    Member {
        /// The account.
        account: String,
        /// The region.
        region: String,
        /// The name of an instance or a cluster.
        name: String,
        /// The member's name.
        member: String,
        /// Its value.
        value: serde_json::Value,
    },
    /// An opt-in region is turned on or off in an account.
    Region {
        /// The account.
        account: String,
        /// The region.
        region: String,
        /// Whether it is on.
        on: bool,
    },
    /// An account's state, as Organizations shows it.
    AccountState {
        /// The account.
        account: String,
        /// `ACTIVE`, `PENDING_CLOSURE`, `SUSPENDED`, `CLOSED` or `PENDING_ACTIVATION`.
        state: String,
    },
}

fn place(account: &str, region: &str) -> Result<(AccountId, Region), String> {
    let account: AccountId =
        account.parse().map_err(|_| format!("account: {account} is no account id"))?;
    let region =
        regions::find(region).ok_or_else(|| format!("region: there is no region {region}"))?;
    Ok((account, region))
}

impl World {
    /// Makes a change; the reply of a call, else nothing.
    ///
    /// # Errors
    /// Names the field that makes no sense, or the call's error.
    pub fn change(&mut self, change: &Change, now: Time) -> Result<serde_json::Value, String> {
        match change {
            Change::Call { account, region, service, operation, params } => {
                let place = place(account, region)?;
                return self.call(place, service, operation, params, now);
            }
            Change::Role { account, name, present, external_id, policy, no_source_identity } => {
                let (account, _) = place(account, "us-east-1")?;
                let policy = policy
                    .as_ref()
                    .map(|p| iam_rs::IAMPolicy::from_json(&p.to_string()))
                    .transpose()
                    .map_err(|e| format!("policy: {e}"))?;
                let role = super::sts::Role {
                    gone: !present,
                    external_id: external_id.clone(),
                    policy: policy.map(std::sync::Arc::new),
                    no_source_identity: *no_source_identity,
                };
                self.sessions.roles.insert((account, name.clone()), role);
            }
            Change::Load { account, region, instance, connections, write_iops } => {
                let (account, region) = place(account, region)?;
                self.enter(account, region, now);
                let load = Load { since: now, connections: *connections, write_iops: *write_iops };
                let loads = &mut self.cell_mut(account, region).metrics.loads;
                loads.entry(instance.clone()).or_default().push(load);
            }
            Change::Status { account, region, name, status } => {
                let (account, region) = place(account, region)?;
                self.enter(account, region, now);
                let rds = &mut self.cell_mut(account, region).rds;
                match (rds.instances.get_mut(name), rds.clusters.get_mut(name)) {
                    (Some(instance), _) => instance.status = status.clone().into(),
                    (None, Some(cluster)) => cluster.status = status.clone().into(),
                    (None, None) => return Err(format!("name: there is no database {name}")),
                }
            }
            Change::Member { account, region, name, member, value } => {
                let (account, region) = place(account, region)?;
                self.enter(account, region, now);
                let rds = &mut self.cell_mut(account, region).rds;
                let settings = match (rds.instances.get_mut(name), rds.clusters.get_mut(name)) {
                    (Some(instance), _) => &mut instance.settings,
                    (None, Some(cluster)) => &mut cluster.settings,
                    (None, None) => return Err(format!("name: there is no database {name}")),
                };
                match json::tree(value.clone()) {
                    Some(value) => settings.set(member.clone(), value),
                    None => drop(settings.remove(member)),
                }
            }
            Change::Region { account, region, on } => {
                let (account, region) = place(account, region)?;
                if !regions::opt_in(region) || !self.regions.contains(&region) {
                    return Err(format!("region: {region} is no opt-in region of this world"));
                }
                self.turn_region(account, region, *on);
            }
            Change::AccountState { account, state } => {
                let (account, _) = place(account, "us-east-1")?;
                let state = STATES
                    .into_iter()
                    .find(|s| s == state)
                    .ok_or_else(|| format!("state must be one of {}", STATES.join(", ")))?;
                if !self.org.set_state(account, state) {
                    return Err(format!("account: {account} is not in the organization"));
                }
            }
        }
        Ok(serde_json::Value::Null)
    }

    fn call(
        &mut self,
        (account, region): (AccountId, Region),
        service: &str,
        operation: &str,
        params: &serde_json::Value,
        now: Time,
    ) -> Result<serde_json::Value, String> {
        let service = Service::find(service)
            .ok_or_else(|| format!("service: there is no service {service}"))?;
        let op = find(service, operation).map_err(|fault| fault.message)?;
        let params = match json::tree(params.clone()) {
            None => Map::new(),
            Some(crate::value::Value::Map(map)) => map,
            Some(_) => return Err("params must be a JSON object".into()),
        };
        self.enter(account, region, now);
        let who = self.admin(account);
        let result = self.apply(account, region, &who, (service, op), &params, now);
        result
            .map(|map| json::object(&map))
            .map_err(|fault| format!("{}: {}", fault.code(service).0, fault.message))
    }

    /// Looks into a cell without keeping it, where nobody has touched it yet.
    pub(crate) fn with_cell<T>(
        &mut self,
        account: AccountId,
        region: Region,
        now: Time,
        look: impl FnOnce(&Cell) -> T,
    ) -> T {
        if let Some(cell) = self.cells.get_mut(&(account, region)) {
            cell.rds.settle(now);
            return look(cell);
        }
        let cell = self.generator.as_ref().map(|g| g.cell(account, region)).unwrap_or_default();
        look(&cell)
    }
}
