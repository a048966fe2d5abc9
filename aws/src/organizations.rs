//! AWS Organizations: the tree and the policies. Server only.

use crate::client::Cloud;
use crate::error::cloud_error;
use crate::limits::Class;
use crate::retry::To;
use aws_sdk_organizations::types::{PolicyType, PolicyTypeStatus, Tag};
use ringfence_domain::cloud::{CloudError, ErrorClass};
use ringfence_domain::id::{AccountId, NodeId};
use ringfence_domain::org::{AccountState, Node, NodeKind};
use std::collections::BTreeSet;

/// The organization's own data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Organization {
    /// `o-...`
    pub id: String,
    /// The management account.
    pub management_account: String,
    /// `ALL` or `CONSOLIDATED_BILLING`.
    pub feature_set: String,
}

/// A policy as AWS has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyFound {
    /// `p-...`
    pub id: String,
    /// Its name.
    pub name: String,
}

/// What an AttachPolicy call met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attach {
    /// It was attached by this call.
    Done,
    /// It was attached already (DuplicatePolicyAttachmentException).
    WasThere,
}

/// How often the tree is read until it holds every account.
const TREE_READS: u32 = 3;

/// Reads all pages: "can occasionally return an empty set of results even when there are more
/// results available" (Organizations API reference), so only a missing token ends the reading.
macro_rules! pages {
    ($cloud:expr, $op:expr, |$token:ident| $request:expr, |$page:ident| $take:expr) => {{
        let mut $token: Option<String> = None;
        loop {
            let $page = $cloud
                .0
                .gate
                .read(To::organization(Class::OrganizationsRead), $op, || async {
                    $request
                        .set_next_token($token.clone())
                        .send()
                        .await
                        .map_err(|e| cloud_error($op, e))
                })
                .await?;
            $take;
            $token = $page.next_token().map(str::to_owned);
            if $token.is_none() {
                break;
            }
        }
    }};
}

pub(crate) use pages;

/// One page of accounts.
#[derive(Debug, Clone)]
pub struct AccountsPage {
    /// The accounts, in any state.
    pub accounts: Vec<(AccountId, AccountState)>,
    /// The token of the next page; `None` after the last.
    pub next: Option<String>,
}

/// `State` replaced `Status`, which was retired on 2026-09-09.
fn state_of(account: &aws_sdk_organizations::types::Account) -> AccountState {
    match (account.state(), account.status()) {
        (Some(state), _) => AccountState::parse(state.as_str()),
        (None, Some(status)) => AccountState::parse(status.as_str()),
        (None, None) => AccountState::Other("NOT_REPORTED".into()),
    }
}

/// AWS's largest page in this API.
pub(crate) const PAGE: i32 = 20;

pub(crate) fn odd(operation: &str, message: impl ToString) -> CloudError {
    let (class, code) = (ErrorClass::Invalid, String::new());
    CloudError { class, operation: operation.to_owned(), code, message: message.to_string() }
}

pub(crate) fn node_id(operation: &str, text: Option<&str>) -> Result<NodeId, CloudError> {
    text.unwrap_or_default().parse().map_err(|e| odd(operation, e))
}

impl Cloud {
    /// `DescribeOrganization`; works from any account of it.
    pub async fn organization(&self) -> Result<Organization, CloudError> {
        const OP: &str = "organizations:DescribeOrganization";
        let answer = self
            .0
            .gate
            .read(To::organization(Class::OrganizationsRead), OP, || async {
                let call = self.0.organizations.describe_organization();
                call.send().await.map_err(|e| cloud_error(OP, e))
            })
            .await?;
        let o = answer.organization().ok_or_else(|| odd(OP, "no organization in the answer"))?;
        let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
        Ok(Organization {
            id: text(o.id()),
            management_account: text(o.master_account_id()),
            feature_set: text(o.feature_set().map(|f| f.as_str())),
        })
    }

    /// The root, and whether service control policies are enabled on it.
    pub async fn root(&self) -> Result<(Node, bool), CloudError> {
        const OP: &str = "organizations:ListRoots";
        let client = &self.0.organizations;
        let mut roots = Vec::new();
        pages!(self, OP, |token| client.list_roots().max_results(PAGE), |page| {
            for root in page.roots() {
                let scp = root.policy_types().iter().any(|t| {
                    t.r#type() == Some(&PolicyType::ServiceControlPolicy)
                        && t.status() == Some(&PolicyTypeStatus::Enabled)
                });
                let id = node_id(OP, root.id())?;
                let name = root.name().unwrap_or_default().to_owned();
                roots.push((Node { id, parent: None, name, kind: NodeKind::Root }, scp));
            }
        });
        match roots.len() {
            1 => Ok(roots.remove(0)),
            n => Err(odd(OP, format!("{n} roots, not one"))),
        }
    }

    /// Every node of the organization: the root, nested OUs, accounts in any state; `listed` is what
    /// `ListAccounts` just said.
    ///
    /// The tree is read OU by OU, so an account that is moved meanwhile, out of an OU not yet read
    /// into one already read, would be in no list. `ListAccounts` has all: a tree that lacks one, or
    /// has one too many, is read again.
    pub async fn tree(&self, listed: BTreeSet<AccountId>) -> Result<Vec<Node>, CloudError> {
        let management = self.organization().await?.management_account;
        let mut listed = Some(listed);
        for _ in 0..TREE_READS {
            let nodes = self.walk(&management).await?;
            let seen: BTreeSet<AccountId> = nodes.iter().filter_map(|n| n.id.account()).collect();
            let all = match listed.take() {
                // One listed before the walk may have left since, and a new one have come: ask again.
                Some(all) if all == seen => all,
                _ => self.account_ids().await?,
            };
            if seen == all {
                return Ok(nodes);
            }
        }
        Err(odd("organizations:ListAccounts", "the organization keeps changing while it is read"))
    }

    /// The ids of all accounts, in any state.
    pub async fn account_ids(&self) -> Result<BTreeSet<AccountId>, CloudError> {
        let (mut ids, mut token) = (BTreeSet::new(), None);
        loop {
            let page = self.accounts_page(token).await?;
            ids.extend(page.accounts.into_iter().map(|(id, _)| id));
            token = page.next;
            if token.is_none() {
                return Ok(ids);
            }
        }
    }

    /// One page of `ListAccounts`. Pages may be empty and have another one after them ("can occasionally
    /// return an empty set of results even when there are more results available", Organizations API
    /// reference).
    pub async fn accounts_page(&self, token: Option<String>) -> Result<AccountsPage, CloudError> {
        const OP: &str = "organizations:ListAccounts";
        let page = self
            .0
            .gate
            .read(To::organization(Class::OrganizationsRead), OP, || async {
                let call = self.0.organizations.list_accounts().max_results(PAGE);
                let call = call.set_next_token(token.clone()).send();
                call.await.map_err(|e| cloud_error(OP, e))
            })
            .await?;
        let mut accounts = Vec::new();
        for account in page.accounts() {
            let id = account.id().unwrap_or_default().parse().map_err(|e| odd(OP, e))?;
            accounts.push((id, state_of(account)));
        }
        Ok(AccountsPage { accounts, next: page.next_token().map(str::to_owned) })
    }

    async fn walk(&self, management: &str) -> Result<Vec<Node>, CloudError> {
        let (root, _) = self.root().await?;
        let mut open = vec![root.id.clone()];
        let mut nodes = vec![root];
        while let Some(parent) = open.pop() {
            let ous = self.ous(&parent).await?;
            open.extend(ous.iter().map(|n| n.id.clone()));
            nodes.extend(ous);
            nodes.extend(self.accounts(&parent, management).await?);
        }
        Ok(nodes)
    }

    /// What is under a root or OU just now; of an account, itself. Empty where the target is gone.
    pub async fn below(&self, target: &NodeId) -> Result<Vec<Node>, CloudError> {
        let read = async {
            if target.account().is_some() {
                return Ok(vec![self.account_node(target).await?]);
            }
            let (mut open, mut nodes) = (vec![target.clone()], Vec::new());
            while let Some(parent) = open.pop() {
                let ous = self.ous(&parent).await?;
                open.extend(ous.iter().map(|n| n.id.clone()));
                nodes.extend(ous);
                nodes.extend(self.accounts(&parent, "").await?);
            }
            Ok(nodes)
        };
        match read.await {
            Err(CloudError { class: ErrorClass::NotFound, .. }) => Ok(Vec::new()),
            read => read,
        }
    }

    /// One account; whether it is the management account and where it is, this does not say.
    async fn account_node(&self, id: &NodeId) -> Result<Node, CloudError> {
        const OP: &str = "organizations:DescribeAccount";
        let to = To::organization(Class::OrganizationsRead);
        let answer = self
            .0
            .gate
            .read(to, OP, || async {
                let call = self.0.organizations.describe_account().account_id(id.as_str());
                call.send().await.map_err(|e| cloud_error(OP, e))
            })
            .await?;
        let account = answer.account().ok_or_else(|| odd(OP, "no account in the answer"))?;
        let kind = NodeKind::Account { state: state_of(account), management: false };
        let name = account.name().unwrap_or_default().to_owned();
        Ok(Node { id: id.clone(), parent: None, name, kind })
    }

    async fn ous(&self, parent: &NodeId) -> Result<Vec<Node>, CloudError> {
        const OP: &str = "organizations:ListOrganizationalUnitsForParent";
        let client = &self.0.organizations;
        let mut nodes = Vec::new();
        pages!(
            self,
            OP,
            |token| client
                .list_organizational_units_for_parent()
                .parent_id(parent.as_str())
                .max_results(PAGE),
            |page| for ou in page.organizational_units() {
                let id = node_id(OP, ou.id())?;
                let name = ou.name().unwrap_or_default().to_owned();
                nodes.push(Node { id, parent: Some(parent.clone()), name, kind: NodeKind::Ou });
            }
        );
        Ok(nodes)
    }

    async fn accounts(&self, parent: &NodeId, management: &str) -> Result<Vec<Node>, CloudError> {
        const OP: &str = "organizations:ListAccountsForParent";
        let client = &self.0.organizations;
        let mut nodes = Vec::new();
        pages!(
            self,
            OP,
            |token| client.list_accounts_for_parent().parent_id(parent.as_str()).max_results(PAGE),
            |page| for account in page.accounts() {
                let state = state_of(account);
                let id = node_id(OP, account.id())?;
                let management = id.as_str() == management;
                let name = account.name().unwrap_or_default().to_owned();
                let kind = NodeKind::Account { state, management };
                nodes.push(Node { id, parent: Some(parent.clone()), name, kind });
            }
        );
        Ok(nodes)
    }

    /// The SCPs attached directly to a target, by id; inherited ones are not among them. `None`
    /// where the target is gone.
    pub async fn attached(&self, target: &NodeId) -> Result<Option<BTreeSet<String>>, CloudError> {
        const OP: &str = "organizations:ListPoliciesForTarget";
        let client = &self.0.organizations;
        let read = async {
            let mut ids = BTreeSet::new();
            pages!(
                self,
                OP,
                |token| client
                    .list_policies_for_target()
                    .target_id(target.as_str())
                    .filter(PolicyType::ServiceControlPolicy)
                    .max_results(PAGE),
                |page| ids.extend(page.policies().iter().filter_map(|p| p.id()).map(str::to_owned))
            );
            Ok(ids)
        };
        match read.await {
            Ok(ids) => Ok(Some(ids)),
            Err(CloudError { class: ErrorClass::NotFound, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The targets that an SCP is attached to directly; none where it is gone.
    pub async fn targets_of(&self, policy: &str) -> Result<BTreeSet<NodeId>, CloudError> {
        Ok(self.targets_if_there(policy).await?.unwrap_or_default())
    }

    /// The same; `None` where there is no such policy.
    pub async fn targets_if_there(
        &self,
        policy: &str,
    ) -> Result<Option<BTreeSet<NodeId>>, CloudError> {
        const OP: &str = "organizations:ListTargetsForPolicy";
        let client = &self.0.organizations;
        let read = async {
            let mut targets = BTreeSet::new();
            pages!(
                self,
                OP,
                |token| client.list_targets_for_policy().policy_id(policy).max_results(PAGE),
                |page| for target in page.targets() {
                    targets.insert(node_id(OP, target.target_id())?);
                }
            );
            Ok(Some(targets))
        };
        match read.await {
            Err(CloudError { class: ErrorClass::NotFound, .. }) => Ok(None),
            read => read,
        }
    }

    /// All SCPs of the organization, attached or not.
    pub async fn policies(&self) -> Result<Vec<PolicyFound>, CloudError> {
        const OP: &str = "organizations:ListPolicies";
        let client = &self.0.organizations;
        let mut found = Vec::new();
        pages!(
            self,
            OP,
            |token| client
                .list_policies()
                .filter(PolicyType::ServiceControlPolicy)
                .max_results(PAGE),
            |page| found.extend(page.policies().iter().map(|policy| PolicyFound {
                id: policy.id().unwrap_or_default().to_owned(),
                name: policy.name().unwrap_or_default().to_owned(),
            }))
        );
        Ok(found)
    }

    /// The SCP of that name, if there is one.
    pub async fn find_policy(&self, name: &str) -> Result<Option<PolicyFound>, CloudError> {
        Ok(self.policies().await?.into_iter().find(|p| p.name == name))
    }

    /// A policy's document, as saved.
    pub async fn policy_content(&self, id: &str) -> Result<String, CloudError> {
        const OP: &str = "organizations:DescribePolicy";
        let answer = self
            .0
            .gate
            .read(To::organization(Class::OrganizationsRead), OP, || async {
                let call = self.0.organizations.describe_policy().policy_id(id);
                call.send().await.map_err(|e| cloud_error(OP, e))
            })
            .await?;
        let content = answer.policy().and_then(|p| p.content());
        Ok(content.unwrap_or_default().to_owned())
    }

    /// Creates an SCP, tagged with the rollout.
    pub async fn create_policy(
        &self,
        name: &str,
        content: &str,
        rollout: &str,
    ) -> Result<String, CloudError> {
        const OP: &str = "organizations:CreatePolicy";
        let tag = |key: &str, value: &str| Tag::builder().key(key).value(value).build();
        let tag = tag("ringfence:rollout", rollout).map_err(|e| odd(OP, e))?;
        let answer = self
            .0
            .gate
            .write(To::organization(Class::OrganizationsWrite), OP, || async {
                let call = self.0.organizations.create_policy().name(name).content(content);
                let call = call
                    .description(format!("Ringfence {rollout}: made by a rollout, do not edit"));
                let call = call.r#type(PolicyType::ServiceControlPolicy).tags(tag.clone());
                call.send().await.map_err(|e| cloud_error(OP, e))
            })
            .await?;
        let id = answer.policy().and_then(|p| p.policy_summary()).and_then(|s| s.id());
        id.map(str::to_owned).ok_or_else(|| odd(OP, "no policy id in the answer"))
    }

    /// Attaches. That it is attached already is an answer of its own: whose it is, the caller knows.
    pub async fn attach_policy(&self, policy: &str, target: &NodeId) -> Result<Attach, CloudError> {
        const OP: &str = "organizations:AttachPolicy";
        let answer = self
            .0
            .gate
            .write(To::organization(Class::OrganizationsWrite), OP, || async {
                let call = self.0.organizations.attach_policy();
                let call = call.policy_id(policy).target_id(target.as_str());
                call.send().await.map_err(|e| cloud_error(OP, e))
            })
            .await;
        match answer {
            Ok(_) => Ok(Attach::Done),
            Err(e) if e.code == "DuplicatePolicyAttachmentException" => Ok(Attach::WasThere),
            Err(e) => Err(e),
        }
    }

    /// Detaches. That it is detached already is success: the caller reads it back anyway.
    pub async fn detach_policy(&self, policy: &str, target: &NodeId) -> Result<(), CloudError> {
        const OP: &str = "organizations:DetachPolicy";
        let answer = self
            .0
            .gate
            .write(To::organization(Class::OrganizationsWrite), OP, || async {
                let call = self.0.organizations.detach_policy();
                let call = call.policy_id(policy).target_id(target.as_str());
                call.send().await.map_err(|e| cloud_error(OP, e))
            })
            .await;
        match answer {
            // AWS deletes no policy that is attached anywhere.
            Err(e) if e.code == "PolicyNotFoundException" => Ok(()),
            Err(e) if e.code != "PolicyNotAttachedException" => Err(e),
            _ => Ok(()),
        }
    }
}
