//! The organization's rules, and the aggregator; in the management account or the one that it delegated
//! Config to (`config-multiaccountsetup.amazonaws.com`). Server only.

use super::{PAGE, odd, pages};
use crate::client::Cloud;
use crate::error::cloud_error;
use crate::limits::Class;
use crate::retry::To;
use aws_sdk_config::types::OrganizationManagedRuleMetadata;
use ringfence_domain::cloud::CloudError;
use ringfence_domain::deployment::Found;
use ringfence_domain::id::{AccountId, Region};
use std::collections::{BTreeMap, BTreeSet};

/// How an organization rule stands in a region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleStatus {
    /// `CREATE_SUCCESSFUL`, `UPDATE_IN_PROGRESS` and so on.
    pub status: String,
    /// AWS's code and message; empty if it did not fail.
    pub error: String,
}

/// How an organization rule stands in one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    /// The account.
    pub account: String,
    /// `CREATE_SUCCESSFUL`, `CREATE_FAILED` and so on.
    pub status: String,
    /// AWS's code and message; empty if it did not fail.
    pub error: String,
}

/// A database that the aggregator holds for unencrypted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    /// The account.
    pub account: AccountId,
    /// The region.
    pub region: Region,
    /// Its name there.
    pub name: String,
}

/// The aggregator is asked for these types, one query each. Config's grammar has no `IN` for all
/// properties and no tests for null; an unquoted `false` is the form that AWS's examples use.
const TYPES: [&str; 2] = ["AWS::RDS::DBInstance", "AWS::RDS::DBCluster"];

impl Cloud {
    /// The organization's rules in a region, by name.
    pub async fn organization_rules(
        &self,
        region: &Region,
    ) -> Result<BTreeMap<String, Found>, CloudError> {
        const OP: &str = "config:DescribeOrganizationConfigRules";
        let client = self.config(region.as_str());
        let caller = self.caller().await?;
        let to = To::cell(Class::ConfigRead, caller.account.as_str(), region.as_str());
        let mut rules = BTreeMap::new();
        pages!(
            self,
            to,
            OP,
            |token| client
                .describe_organization_config_rules()
                .limit(PAGE)
                .set_next_token(token.clone())
                .send(),
            |page| for rule in page.organization_config_rules() {
                let managed = rule.organization_managed_rule_metadata();
                let found = Found {
                    // A rule with code of its own has none, and so is never taken for ours.
                    identifier: managed.map(|m| m.rule_identifier().to_owned()).unwrap_or_default(),
                    excluded: rule.excluded_accounts().iter().cloned().collect(),
                };
                rules.insert(rule.organization_config_rule_name().to_owned(), found);
            }
        );
        Ok(rules)
    }

    /// How the organization's rules stand in a region as a whole, by name: AWS's status, and the code and
    /// message where it failed.
    pub async fn organization_rule_statuses(
        &self,
        region: &Region,
    ) -> Result<BTreeMap<String, RuleStatus>, CloudError> {
        const OP: &str = "config:DescribeOrganizationConfigRuleStatuses";
        let client = self.config(region.as_str());
        let caller = self.caller().await?;
        let to = To::cell(Class::ConfigRead, caller.account.as_str(), region.as_str());
        let mut found = BTreeMap::new();
        pages!(
            self,
            to,
            OP,
            |token| client
                .describe_organization_config_rule_statuses()
                .limit(PAGE)
                .set_next_token(token.clone())
                .send(),
            |page| for rule in page.organization_config_rule_statuses() {
                let status = RuleStatus {
                    status: rule.organization_rule_status().as_str().to_owned(),
                    error: join(rule.error_code(), rule.error_message()),
                };
                found.insert(rule.organization_config_rule_name().to_owned(), status);
            }
        );
        Ok(found)
    }

    /// Makes an organization rule in a region, or changes the one of that name.
    pub async fn put_organization_rule(
        &self,
        region: &Region,
        name: &str,
        identifier: &str,
        excluded: &BTreeSet<String>,
    ) -> Result<(), CloudError> {
        const OP: &str = "config:PutOrganizationConfigRule";
        let client = self.config(region.as_str());
        let caller = self.caller().await?;
        let to = To::cell(Class::ConfigWrite, caller.account.as_str(), region.as_str());
        let rule = OrganizationManagedRuleMetadata::builder()
            .rule_identifier(identifier)
            .build()
            .map_err(|e| odd(OP, e))?;
        self.0
            .gate
            .write(to, OP, || async {
                let call = client.put_organization_config_rule();
                let call = call.organization_config_rule_name(name);
                let call = call.organization_managed_rule_metadata(rule.clone());
                let call = call.set_excluded_accounts(Some(excluded.iter().cloned().collect()));
                call.send().await.map_err(|e| cloud_error(OP, e))
            })
            .await
            .map(drop)
    }

    /// How an organization rule stands in each account of a region.
    pub async fn organization_rule_members(
        &self,
        region: &Region,
        name: &str,
    ) -> Result<Vec<MemberStatus>, CloudError> {
        const OP: &str = "config:GetOrganizationConfigRuleDetailedStatus";
        let client = self.config(region.as_str());
        let caller = self.caller().await?;
        let to = To::cell(Class::ConfigRead, caller.account.as_str(), region.as_str());
        let mut found = Vec::new();
        pages!(
            self,
            to,
            OP,
            |token| client
                .get_organization_config_rule_detailed_status()
                .organization_config_rule_name(name)
                .limit(PAGE)
                .set_next_token(token.clone())
                .send(),
            |page| found.extend(page.organization_config_rule_detailed_status().iter().map(|m| {
                MemberStatus {
                    account: m.account_id().to_owned(),
                    status: m.member_account_rule_status().as_str().to_owned(),
                    error: join(m.error_code(), m.error_message()),
                }
            }))
        );
        Ok(found)
    }

    /// What an aggregator holds for unencrypted, in the whole organization. It knows nothing of what no
    /// recorder sees, so that an empty list proves nothing.
    pub async fn candidates(
        &self,
        region: &str,
        aggregator: &str,
    ) -> Result<BTreeSet<Candidate>, CloudError> {
        const OP: &str = "config:SelectAggregateResourceConfig";
        let client = self.config(region);
        let caller = self.caller().await?;
        let to = To::cell(Class::ConfigRead, caller.account.as_str(), region);
        let mut found = BTreeSet::new();
        for kind in TYPES {
            let expression = format!(
                "SELECT accountId, awsRegion, resourceId, resourceName WHERE resourceType = '{kind}' AND configuration.storageEncrypted = false"
            );
            let mut rows: Vec<String> = Vec::new();
            pages!(
                self,
                to,
                OP,
                |token| client
                    .select_aggregate_resource_config()
                    .configuration_aggregator_name(aggregator)
                    .expression(&expression)
                    .limit(PAGE)
                    .set_next_token(token.clone())
                    .send(),
                |page| rows.extend(page.results().iter().cloned())
            );
            for row in &rows {
                found.insert(candidate(row).map_err(|why| odd(OP, format!("{why} in {row}")))?);
            }
        }
        Ok(found)
    }
}

fn join(code: Option<&str>, message: Option<&str>) -> String {
    [code, message].into_iter().flatten().collect::<Vec<_>>().join(": ")
}

/// A row of the answer, which is a JSON document.
fn candidate(row: &str) -> Result<Candidate, String> {
    let row: serde_json::Value = serde_json::from_str(row).map_err(|e| e.to_string())?;
    let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let name = match text("resourceName") {
        name if name.is_empty() => text("resourceId"),
        name => name,
    };
    Ok(Candidate {
        account: text("accountId").parse().map_err(|e| format!("accountId: {e}"))?,
        region: text("awsRegion").parse().map_err(|e| format!("awsRegion: {e}"))?,
        name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_and_broken_ones_named() {
        let row = r#"{"accountId":"111122223333","awsRegion":"eu-west-1","resourceId":"db-A","resourceName":"orders"}"#;
        assert_eq!(candidate(row).unwrap().name, "orders");
        let nameless =
            r#"{"accountId":"111122223333","awsRegion":"eu-west-1","resourceId":"db-A"}"#;
        assert_eq!(candidate(nameless).unwrap().name, "db-A");
        assert!(candidate(r#"{"awsRegion":"eu-west-1"}"#).unwrap_err().contains("accountId"));
        assert!(candidate("{").is_err());
    }
}
