//! IAM policies that name databases by their resource ids, and roles by their names.

use crate::client::Cloud;
use crate::error::cloud_error;
use crate::limits::Class;
use crate::retry::To;
use crate::session::Session;
use aws_sdk_iam::operation::get_account_authorization_details::GetAccountAuthorizationDetailsOutput;
use aws_sdk_iam::operation::list_roles::ListRolesOutput;
use aws_sdk_iam::types::{EntityType, PolicyDetail};
use ringfence_domain::around::ByResourceId;
use ringfence_domain::cloud::CloudError;

/// The most that a page may have (API reference, GetAccountAuthorizationDetails and ListRoles).
const PAGE: i32 = 1_000;

/// Resource ids are longer; names such as `db-admins` are none.
const ID_MIN: usize = 12;

impl Cloud {
    /// The policies of an account, inline ones too, that name a database's resource id, by that id.
    ///
    /// # Errors
    /// The caller may not read them (`iam:GetAccountAuthorizationDetails`), or AWS does not answer.
    pub async fn policies_by_resource_id(
        &self,
        session: &Session,
    ) -> Result<ByResourceId, CloudError> {
        const OP: &str = "iam:GetAccountAuthorizationDetails";
        let to = To::cell(Class::IamRead, session.account.as_str(), "");
        let kinds =
            [EntityType::LocalManagedPolicy, EntityType::Role, EntityType::User, EntityType::Group];
        let mut found = ByResourceId::new();
        let page = |marker| {
            let call = self.0.iam.get_account_authorization_details().max_items(PAGE);
            let call = call.set_filter(Some(kinds.to_vec())).set_marker(marker).send();
            let call = session.within(call);
            async { call.await.map_err(|e| cloud_error(OP, e)) }
        };
        let keep = |page: GetAccountAuthorizationDetailsOutput| {
            take(&mut found, &page);
            page.marker.filter(|_| page.is_truncated)
        };
        self.0.gate.pages(to, OP, page, keep).await?;
        Ok(found)
    }

    /// The roles of our own account whose names contain this.
    ///
    /// # Errors
    /// The caller may not list them (`iam:ListRoles`), or AWS does not answer.
    pub async fn own_roles(&self, part: &str) -> Result<Vec<String>, CloudError> {
        const OP: &str = "iam:ListRoles";
        let own = self.caller().await?.account;
        let to = To::cell(Class::IamRead, own.as_str(), "");
        let mut found = Vec::new();
        let page = |marker| {
            let call = self.0.own_iam.list_roles().max_items(PAGE).set_marker(marker).send();
            async { call.await.map_err(|e| cloud_error(OP, e)) }
        };
        let keep = |page: ListRolesOutput| {
            let names = page.roles().iter().map(|role| role.role_name());
            found.extend(names.filter(|name| name.contains(part)).map(str::to_owned));
            page.marker.filter(|_| page.is_truncated)
        };
        self.0.gate.pages(to, OP, page, keep).await?;
        Ok(found)
    }
}

fn take(found: &mut ByResourceId, page: &GetAccountAuthorizationDetailsOutput) {
    for policy in page.policies() {
        let in_force = policy.policy_version_list().iter().find(|v| v.is_default_version());
        // moto leaves the name out (docs/emulators.md); the ARN ends with it.
        let by_arn = || policy.arn().and_then(|arn| arn.rsplit('/').next());
        let name = policy.policy_name().or_else(by_arn).unwrap_or_default();
        let name = format!("policy {name}");
        note(found, &name, in_force.and_then(|v| v.document()));
    }
    let mut inline = |kind: &str, of: Option<&str>, policies: &[PolicyDetail]| {
        for policy in policies {
            let (of, name) = (of.unwrap_or_default(), policy.policy_name().unwrap_or_default());
            note(found, &format!("{kind} {of}/{name}"), policy.policy_document());
        }
    };
    for role in page.role_detail_list() {
        inline("role", role.role_name(), role.role_policy_list());
    }
    for user in page.user_detail_list() {
        inline("user", user.user_name(), user.user_policy_list());
    }
    for group in page.group_detail_list() {
        inline("group", group.group_name(), group.group_policy_list());
    }
}

fn note(found: &mut ByResourceId, policy: &str, document: Option<&str>) {
    for id in resource_ids(document.unwrap_or_default()) {
        found.entry(id).or_default().insert(policy.to_owned());
    }
}

/// The resource ids of instances and clusters in a document.
///
/// Documents come percent-encoded (RFC 3986), which leaves the letters of an id as they are; what stands before it
/// may end in a letter (`%3Adb-...`), so an id begins wherever its prefix does.
fn resource_ids(document: &str) -> Vec<String> {
    let mut ids = Vec::new();
    for prefix in ["db-", "cluster-"] {
        for (at, _) in document.match_indices(prefix) {
            let rest = &document[at + prefix.len()..];
            let upper = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit();
            let id = rest.split(|c| !upper(c)).next().unwrap_or_default();
            if id.len() >= ID_MIN {
                ids.push(format!("{prefix}{id}"));
            }
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_iam::types::{ManagedPolicyDetail, PolicyVersion, RoleDetail};

    const DOCUMENT: &str = "%7B%22Resource%22%3A%22arn%3Aaws%3Ards-db%3Aus-east-1%3A111122223333%3Adbuser%3Adb-ABCDEFGHIJKL01234%2Fapp%22%7D";

    #[test]
    fn ids_are_found_in_what_iam_sends() {
        for (document, want) in [
            (DOCUMENT, vec!["db-ABCDEFGHIJKL01234"]),
            ("dbuser:cluster-ABCDEFGHIJKL0/*", vec!["cluster-ABCDEFGHIJKL0"]),
            ("dbuser:*/app", vec![]),
            ("arn:aws:iam::1:group/db-admins", vec![]),
            ("arn:aws:rds:us-east-1:1:db:db-prod", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(resource_ids(document), want, "{document}");
        }
    }

    #[test]
    fn only_versions_in_force_count_and_inline_policies_too() {
        let version = |document: &str, default| {
            PolicyVersion::builder().document(document).is_default_version(default).build()
        };
        let policy = ManagedPolicyDetail::builder()
            .policy_name("apps")
            .policy_version_list(version("dbuser:db-OLDOLDOLDOLD/app", false))
            .policy_version_list(version(DOCUMENT, true))
            .build();
        let inline = PolicyDetail::builder().policy_name("db").policy_document(DOCUMENT).build();
        let role = RoleDetail::builder().role_name("web").role_policy_list(inline).build();
        let page = GetAccountAuthorizationDetailsOutput::builder()
            .policies(policy)
            .role_detail_list(role)
            .build();
        let mut found = ByResourceId::new();
        take(&mut found, &page);
        let by: Vec<_> = found.remove("db-ABCDEFGHIJKL01234").unwrap().into_iter().collect();
        assert_eq!(by, ["policy apps", "role web/db"]);
        assert!(found.is_empty(), "{found:?}");
    }
}
