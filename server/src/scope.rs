//! What a request is about: OUs, accounts, regions.

use crate::app::Fault;
use ringfence_domain::id::{AccountId, NodeId, Region};
use ringfence_domain::org::OrgTree;
use std::collections::BTreeSet;

/// A scope whose ids are well formed. Empty lists mean everything.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// OUs (or the root).
    pub ous: Vec<NodeId>,
    /// Accounts.
    pub accounts: Vec<AccountId>,
    /// Regions.
    pub regions: Vec<Region>,
}

impl Scope {
    /// The accounts that are meant, checked against the tree; all accounts if none is named.
    pub fn accounts(&self, tree: &OrgTree) -> Result<BTreeSet<AccountId>, Fault> {
        let missing = |id: &str| {
            Fault::NotFound(format!(
                "{id} is not in the organization as of {}; `ringfence org tree` shows what is",
                tree.as_of
            ))
        };
        if self.is_whole() {
            return Ok(tree.accounts_under(tree.root()).into_iter().collect());
        }
        let mut found = BTreeSet::new();
        for ou in &self.ous {
            tree.get(ou).ok_or_else(|| missing(ou.as_str()))?;
            found.extend(tree.accounts_under(ou));
        }
        for account in &self.accounts {
            tree.get(&NodeId::from(account)).ok_or_else(|| missing(account.as_str()))?;
            found.insert(account.clone());
        }
        Ok(found)
    }

    /// Whether a region is meant.
    pub fn region(&self, region: &str) -> bool {
        self.regions.is_empty() || self.regions.iter().any(|r| r.as_str() == region)
    }

    /// Whether the accounts of the whole organization are meant.
    pub fn is_whole(&self) -> bool {
        self.ous.is_empty() && self.accounts.is_empty()
    }

    /// The regions as the store is asked for them; none where all are meant.
    pub fn region_names(&self) -> Vec<String> {
        self.regions.iter().map(ToString::to_string).collect()
    }

    /// The accounts as the store is asked for them; none where the whole organization is meant.
    pub fn account_names(&self, accounts: &BTreeSet<AccountId>) -> Vec<String> {
        if self.is_whole() {
            return Vec::new();
        }
        accounts.iter().map(ToString::to_string).collect()
    }
}
