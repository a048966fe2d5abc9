//! IAM Access Analyzer's word on a policy document.

use crate::client::Cloud;
use crate::error::cloud_error;
use crate::limits::Class;
use crate::retry::To;
use aws_sdk_accessanalyzer::operation::validate_policy::ValidatePolicyOutput;
use aws_sdk_accessanalyzer::types::{PolicyType, ValidatePolicyFindingType};
use ringfence_domain::cloud::CloudError;
use ringfence_domain::scp::Lint;

const OP: &str = "access-analyzer:ValidatePolicy";

impl Cloud {
    /// What Access Analyzer finds in a service control policy; errors and security warnings refuse it (IAM guide, "IAM
    /// Access Analyzer policy validation"). It needs no analyzer, and sends the document to AWS.
    pub async fn validate_policy(&self, document: &str) -> Result<Vec<Lint>, CloudError> {
        let mut found = Vec::new();
        let page = |token| {
            let call = self
                .0
                .analyzer
                .validate_policy()
                .policy_document(document)
                .policy_type(PolicyType::ServiceControlPolicy)
                .set_next_token(token);
            async { call.send().await.map_err(|e| cloud_error(OP, e)) }
        };
        let take = |page: ValidatePolicyOutput| {
            found.extend(page.findings().iter().map(|f| {
                let location = f.locations().first();
                let line =
                    location.and_then(|l| l.span()).and_then(|s| s.start()).map(|p| p.line());
                Lint {
                    code: format!("ACCESS_ANALYZER_{}", f.issue_code()).into(),
                    refuses: matches!(
                        f.finding_type(),
                        ValidatePolicyFindingType::Error
                            | ValidatePolicyFindingType::SecurityWarning
                    ),
                    line: line.and_then(|l| usize::try_from(l).ok()).unwrap_or(1),
                    text: f.finding_details().to_owned(),
                }
            }));
            page.next_token
        };
        let to = To::organization(Class::AnalyzerRead);
        self.0.gate.pages(to, OP, page, take).await?;
        Ok(found)
    }
}
