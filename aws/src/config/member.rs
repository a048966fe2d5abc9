//! Inside a member account: the recorder, and what the managed rules say.

use super::{PAGE, pages, without_parameters};
use crate::client::Cloud;
use crate::error::cloud_error;
use crate::limits::Class;
use crate::retry::To;
use crate::session::Session;
use aws_sdk_config::types::{
    ComplianceType, ConfigurationRecorder, RecorderStatus, RecordingStrategyType, ResourceType,
};
use ringfence_domain::cloud::CloudError;
use ringfence_domain::id::Region;
use ringfence_domain::opinion::{ConfigFacts, Deployed, Recorded, Recorder, Rule, Verdict};
use std::collections::BTreeMap;

/// Names that one DescribeComplianceByConfigRule takes (Config API reference).
const NAMES_AT_ONCE: usize = 25;

/// Which types a recorder records. A group that says nothing records all (Config API reference,
/// RecordingGroup).
fn recorded(recorder: &ConfigurationRecorder) -> Recorded {
    let Some(group) = recorder.recording_group() else { return Recorded::All };
    let names = |kinds: &[ResourceType]| kinds.iter().map(|k| k.as_str().to_owned()).collect();
    let except = group.exclusion_by_resource_types().map(|e| e.resource_types()).unwrap_or(&[]);
    match group.recording_strategy().and_then(|s| s.use_only()) {
        Some(RecordingStrategyType::AllSupportedResourceTypes) => Recorded::All,
        Some(RecordingStrategyType::ExclusionByResourceTypes) => Recorded::Except(names(except)),
        Some(RecordingStrategyType::InclusionByResourceTypes) => {
            Recorded::Only(names(group.resource_types()))
        }
        // One that this version does not know: what it records is not known either.
        Some(_) => Recorded::Only(Vec::new()),
        // Older recorders have no strategy, and one of the other members.
        None if !except.is_empty() => Recorded::Except(names(except)),
        None if group.all_supported() || group.resource_types().is_empty() => Recorded::All,
        None => Recorded::Only(names(group.resource_types())),
    }
}

impl Cloud {
    /// What Config says of a cell. Without a recorder nothing else is asked: it has nothing to say.
    pub async fn config_facts(
        &self,
        session: &Session,
        region: &Region,
    ) -> Result<ConfigFacts, CloudError> {
        let recorder = self.recorder(session, region).await?;
        if !recorder.as_ref().is_some_and(|r| r.recording) {
            return Ok(ConfigFacts { recorder, deployed: Vec::new() });
        }
        let names = self.encryption_rules(session, region).await?;
        let mut verdicts = BTreeMap::new();
        let all: Vec<String> = names.iter().map(|(_, name)| name.clone()).collect();
        for some in all.chunks(NAMES_AT_ONCE) {
            verdicts.extend(self.compliance(session, region, some).await?);
        }
        let mut deployed = Vec::new();
        for (rule, name) in names {
            let verdict = verdicts.get(&name).copied().unwrap_or(Verdict::NoData);
            let resources = match rule.about_databases() {
                true => self.judged(session, region, &name).await?,
                false => BTreeMap::new(),
            };
            deployed.push(Deployed { rule, verdict, resources });
        }
        Ok(ConfigFacts { recorder, deployed })
    }

    async fn recorder(
        &self,
        session: &Session,
        region: &Region,
    ) -> Result<Option<Recorder>, CloudError> {
        const RECORDERS: &str = "config:DescribeConfigurationRecorders";
        const STATUS: &str = "config:DescribeConfigurationRecorderStatus";
        let client = self.member_config(region.as_str());
        let to = To::cell(Class::ConfigRead, session.account.as_str(), region.as_str());
        let found = self
            .0
            .gate
            .read(to, RECORDERS, || async {
                let call = client.describe_configuration_recorders().send();
                session.within(call).await.map_err(|e| cloud_error(RECORDERS, e))
            })
            .await?;
        let Some(recorder) = found.configuration_recorders().first() else { return Ok(None) };
        let status = self
            .0
            .gate
            .read(to, STATUS, || async {
                let call = client.describe_configuration_recorder_status().send();
                session.within(call).await.map_err(|e| cloud_error(STATUS, e))
            })
            .await?;
        let name = recorder.name();
        let status = status.configuration_recorders_status().iter().find(|s| s.name() == name);
        let failed = status.filter(|s| s.last_status() == Some(&RecorderStatus::Failure));
        let failure = failed.map(|s| s.last_error_code().unwrap_or("no error code").to_owned());
        Ok(Some(Recorder {
            recording: status.is_some_and(|s| s.recording()),
            failure: failure.unwrap_or_default(),
            recorded: recorded(recorder),
        }))
    }

    /// The managed rules about encryption, with the names that they have here. One with parameters
    /// (`kmsKeyId`) is left out: it asks for a certain key, which is another question.
    async fn encryption_rules(
        &self,
        session: &Session,
        region: &Region,
    ) -> Result<Vec<(Rule, String)>, CloudError> {
        const OP: &str = "config:DescribeConfigRules";
        let client = self.member_config(region.as_str());
        let to = To::cell(Class::ConfigRead, session.account.as_str(), region.as_str());
        let mut found = Vec::new();
        pages!(
            self,
            to,
            OP,
            |token| session
                .within(client.describe_config_rules().set_next_token(token.clone()).send()),
            |page| for rule in page.config_rules() {
                let plain = without_parameters(rule.input_parameters().unwrap_or_default());
                let identifier = rule.source().and_then(|s| s.source_identifier());
                let managed = rule.source().is_some_and(|s| s.owner().as_str() == "AWS");
                let rule_of = identifier.and_then(Rule::of).filter(|_| managed && plain);
                if let (Some(rule), Some(name)) = (rule_of, rule.config_rule_name()) {
                    found.push((rule, name.to_owned()));
                }
            }
        );
        Ok(found)
    }

    async fn compliance(
        &self,
        session: &Session,
        region: &Region,
        names: &[String],
    ) -> Result<Vec<(String, Verdict)>, CloudError> {
        const OP: &str = "config:DescribeComplianceByConfigRule";
        let client = self.member_config(region.as_str());
        let to = To::cell(Class::ConfigRead, session.account.as_str(), region.as_str());
        let mut found = Vec::new();
        pages!(
            self,
            to,
            OP,
            |token| session.within(
                client
                    .describe_compliance_by_config_rule()
                    .set_config_rule_names(Some(names.to_vec()))
                    .set_next_token(token.clone())
                    .send()
            ),
            |page| for rule in page.compliance_by_config_rules() {
                let verdict = match rule.compliance().and_then(|c| c.compliance_type()) {
                    Some(ComplianceType::Compliant) => Verdict::Compliant,
                    Some(ComplianceType::NonCompliant) => Verdict::NonCompliant,
                    _ => Verdict::NoData,
                };
                found.push((rule.config_rule_name().unwrap_or_default().to_owned(), verdict));
            }
        );
        Ok(found)
    }

    /// What a rule says of each resource, by its id.
    async fn judged(
        &self,
        session: &Session,
        region: &Region,
        name: &str,
    ) -> Result<BTreeMap<String, bool>, CloudError> {
        const OP: &str = "config:GetComplianceDetailsByConfigRule";
        let client = self.member_config(region.as_str());
        let to = To::cell(Class::ConfigRead, session.account.as_str(), region.as_str());
        let mut found = BTreeMap::new();
        pages!(
            self,
            to,
            OP,
            |token| session.within(
                client
                    .get_compliance_details_by_config_rule()
                    .config_rule_name(name)
                    .limit(PAGE)
                    .set_next_token(token.clone())
                    .send()
            ),
            |page| for result in page.evaluation_results() {
                let about = result.evaluation_result_identifier();
                let about = about.and_then(|i| i.evaluation_result_qualifier());
                let compliant = match result.compliance_type() {
                    Some(ComplianceType::Compliant) => true,
                    Some(ComplianceType::NonCompliant) => false,
                    _ => continue,
                };
                if let Some(id) = about.and_then(|q| q.resource_id()) {
                    found.insert(id.to_owned(), compliant);
                }
            }
        );
        Ok(found)
    }
}
