//! The organization's rules, and the aggregator; in the management account or the one that it delegated
//! Config to (`config-multiaccountsetup.amazonaws.com`). Server only.

use super::{PAGE, odd, pages, without_parameters};
use crate::client::Cloud;
use crate::error::cloud_error;
use crate::limits::Class;
use crate::retry::To;
use aws_sdk_config::types::OrganizationManagedRuleMetadata;
use ringfence_domain::cloud::CloudError;
use ringfence_domain::deployment::Found;
use ringfence_domain::id::{AccountId, Region};
use ringfence_domain::opinion::Rule;
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
    /// Its type and id there.
    pub resource: String,
}

/// What an aggregator answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Candidates {
    /// The databases.
    pub found: BTreeSet<Candidate>,
    /// Rows that make no sense; they are logged.
    pub unreadable: usize,
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
                    narrowed: managed.map(narrowed).unwrap_or_default(),
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
    ) -> Result<Candidates, CloudError> {
        const OP: &str = "config:SelectAggregateResourceConfig";
        let client = self.config(region);
        let caller = self.caller().await?;
        let to = To::cell(Class::ConfigRead, caller.account.as_str(), region);
        let mut all = Candidates::default();
        for kind in TYPES {
            let expression = format!(
                "SELECT accountId, awsRegion, resourceId WHERE resourceType = '{kind}' AND configuration.storageEncrypted = false"
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
                match candidate(kind, row) {
                    Ok(candidate) => drop(all.found.insert(candidate)),
                    // One odd row must not hide all others.
                    Err(why) => {
                        tracing::warn!("the aggregator {aggregator}: {why} in {row}");
                        all.unreadable += 1;
                    }
                }
            }
        }
        Ok(all)
    }
}

/// Parameters and scopes of a rule, in words; empty if it judges all that its kind judges.
fn narrowed(rule: &OrganizationManagedRuleMetadata) -> String {
    let mut words = Vec::new();
    let parameters = rule.input_parameters().unwrap_or_default();
    if !without_parameters(parameters) {
        words.push(format!("the parameters {parameters}"));
    }
    for (what, scope) in [
        ("resource", rule.resource_id_scope()),
        ("tag", rule.tag_key_scope()),
        ("tag value", rule.tag_value_scope()),
    ] {
        words.extend(scope.filter(|s| !s.is_empty()).map(|s| format!("the {what} scope {s}")));
    }
    let judges = Rule::of(rule.rule_identifier()).map(Rule::judges).unwrap_or_default();
    let kinds = rule.resource_types_scope();
    if !kinds.is_empty() && !judges.iter().all(|j| kinds.iter().any(|k| k == j)) {
        words.push(format!("the type scope {}", kinds.join(", ")));
    }
    words.join(", ")
}

fn join(code: Option<&str>, message: Option<&str>) -> String {
    [code, message].into_iter().flatten().collect::<Vec<_>>().join(": ")
}

/// A row of the answer, which is a JSON document.
fn candidate(kind: &str, row: &str) -> Result<Candidate, String> {
    let row: serde_json::Value = serde_json::from_str(row).map_err(|e| e.to_string())?;
    let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
    Ok(Candidate {
        account: text("accountId").parse().map_err(|e| format!("accountId: {e}"))?,
        region: text("awsRegion").parse().map_err(|e| format!("awsRegion: {e}"))?,
        resource: format!("{kind} {}", text("resourceId")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_and_broken_ones_named() {
        let row = r#"{"accountId":"111122223333","awsRegion":"eu-west-1","resourceId":"db-A"}"#;
        assert_eq!(candidate("T", row).unwrap().resource, "T db-A");
        assert!(candidate("T", r#"{"awsRegion":"eu-west-1"}"#).unwrap_err().contains("accountId"));
        assert!(candidate("T", "{").is_err());
    }

    #[test]
    fn a_rule_that_judges_less_than_all_says_so() {
        let rule = OrganizationManagedRuleMetadata::builder();
        let rule = rule.rule_identifier("RDS_STORAGE_ENCRYPTED").input_parameters("{}");
        let all = rule.clone().resource_types_scope("AWS::RDS::DBInstance").build().unwrap();
        assert_eq!(narrowed(&all), "");
        for (some, word) in [
            (rule.clone().input_parameters(r#"{"kmsKeyId":"k"}"#), "kmsKeyId"),
            (rule.clone().tag_key_scope("prod"), "the tag scope prod"),
            (rule.clone().resource_id_scope("db-A"), "db-A"),
            (rule.resource_types_scope("AWS::S3::Bucket"), "the type scope AWS::S3::Bucket"),
        ] {
            assert!(narrowed(&some.build().unwrap()).contains(word));
        }
    }
}
