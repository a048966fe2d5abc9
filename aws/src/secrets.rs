//! Secrets of a cell, by what is said of them. What is in them is never asked for.

use crate::client::Cloud;
use crate::error::cloud_error;
use crate::limits::Class;
use crate::retry::To;
use crate::session::Session;
use aws_sdk_secretsmanager::operation::list_secrets::ListSecretsOutput;
use aws_sdk_secretsmanager::types::SecretListEntry;
use ringfence_domain::around::Secret;
use ringfence_domain::cloud::CloudError;
use ringfence_domain::id::Region;

/// The most that a page may have (API reference, ListSecrets).
const PAGE: i32 = 100;

impl Cloud {
    /// All secrets of a cell but those that RDS keeps itself (managed master passwords), which go with their databases.
    pub async fn secrets(
        &self,
        session: &Session,
        region: &Region,
    ) -> Result<Vec<Secret>, CloudError> {
        const OP: &str = "secretsmanager:ListSecrets";
        let client = self.secretsmanager(region.as_str());
        let to = To::cell(Class::SecretsRead, session.account.as_str(), region.as_str());
        let mut found = Vec::new();
        let page = |token| {
            let call = session
                .within(client.list_secrets().max_results(PAGE).set_next_token(token).send());
            async { call.await.map_err(|e| cloud_error(OP, e)) }
        };
        let take = |page: ListSecretsOutput| {
            let own = page.secret_list().iter().filter(|s| s.owning_service() != Some("rds"));
            found.extend(own.map(secret));
            page.next_token
        };
        self.0.gate.pages(to, OP, page, take).await?;
        Ok(found)
    }
}

fn secret(entry: &SecretListEntry) -> Secret {
    let name = entry.name().unwrap_or_default();
    let mut said = format!("{name} {}", entry.description().unwrap_or_default());
    for tag in entry.tags() {
        said =
            format!("{said} {}={}", tag.key().unwrap_or_default(), tag.value().unwrap_or_default());
    }
    Secret { name: name.to_owned(), said }
}
