//! `account:ListRegions`: which regions an account has enabled.

use crate::client::Cloud;
use crate::error::cloud_error;
use crate::limits::Class;
use crate::retry::To;
use crate::session::Session;
use aws_sdk_account::types::RegionOptStatus;
use ringfence_domain::cloud::CloudError;
use std::collections::BTreeMap;

impl Cloud {
    /// The regions that exist for the account, and whether each is enabled. Asked inside the member
    /// session, without an AccountId: no trusted access is needed.
    pub async fn regions(&self, session: &Session) -> Result<BTreeMap<String, bool>, CloudError> {
        const OP: &str = "account:ListRegions";
        let mut regions = BTreeMap::new();
        let mut token: Option<String> = None;
        let to = To::cell(Class::Account, session.account.as_str(), "global");
        loop {
            let page = self
                .0
                .gate
                .read(to, OP, || async {
                    let call = self.0.account.list_regions().max_results(50);
                    let call = call.set_next_token(token.clone()).send();
                    session.within(call).await.map_err(|e| cloud_error(OP, e))
                })
                .await?;
            for region in page.regions() {
                // Only DISABLED is off: a region that is being enabled, or whose status is new to
                // us, is read, and refuses if it is not there yet.
                let on = region.region_opt_status() != Some(&RegionOptStatus::Disabled);
                if let Some(name) = region.region_name() {
                    regions.insert(name.to_owned(), on);
                }
            }
            token = page.next_token().map(str::to_owned);
            if token.is_none() {
                return Ok(regions);
            }
        }
    }
}
