//! Organizations: the tree, and the state that its other files read and write.
//! Source: Organizations API reference and "Quotas for AWS Organizations"; where a limit is a
//! setting, it is in [`crate::settings::Settings`].

mod policies;
mod tree;

use super::{AccountId, Ctx, Op, op};
use crate::fault::{Fault, Kind};
use crate::hash;
use crate::value::{Map, Time, Value, list};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub(crate) use policies::FULL_ACCESS;

pub(crate) const OPS: &[Op] = &[
    op!(Write "CreateOrganization" ("FeatureSet") tree::create_organization),
    op!(Read "DescribeOrganization" () tree::describe_organization),
    op!(Read "ListRoots" ("MaxResults", "NextToken") tree::list_roots),
    op!(Read "ListOrganizationalUnitsForParent" ("ParentId", "MaxResults", "NextToken") tree::list_ous),
    op!(Read "ListAccountsForParent" ("ParentId", "MaxResults", "NextToken") tree::list_accounts_for_parent),
    op!(Read "ListChildren" ("ParentId", "ChildType", "MaxResults", "NextToken") tree::list_children),
    op!(Read "ListParents" ("ChildId", "MaxResults", "NextToken") tree::list_parents),
    op!(Read "ListAccounts" ("MaxResults", "NextToken") tree::list_accounts),
    op!(Read "DescribeAccount" ("AccountId") tree::describe_account),
    op!(Read "DescribeOrganizationalUnit" ("OrganizationalUnitId") tree::describe_ou),
    op!(Write "CreateOrganizationalUnit" ("ParentId", "Name", "Tags") tree::create_ou),
    op!(Write "UpdateOrganizationalUnit" ("OrganizationalUnitId", "Name") tree::rename_ou),
    op!(Write "DeleteOrganizationalUnit" ("OrganizationalUnitId") tree::delete_ou),
    op!(Write "CreateAccount" ("Email", "AccountName", "RoleName", "IamUserAccessToBilling", "Tags") tree::create_account),
    op!(Read "DescribeCreateAccountStatus" ("CreateAccountRequestId") tree::create_account_status),
    op!(Write "CloseAccount" ("AccountId") tree::close_account),
    op!(Write "MoveAccount" ("AccountId", "SourceParentId", "DestinationParentId") tree::move_account),
    op!(Read "ListPolicies" ("Filter", "MaxResults", "NextToken") policies::list_policies),
    op!(Read "DescribePolicy" ("PolicyId") policies::describe),
    op!(Read "ListPoliciesForTarget" ("TargetId", "Filter", "MaxResults", "NextToken") policies::for_target),
    op!(Read "ListTargetsForPolicy" ("PolicyId", "MaxResults", "NextToken") policies::targets),
    op!(Write "CreatePolicy" ("Content", "Description", "Name", "Type", "Tags") policies::create),
    op!(Write "UpdatePolicy" ("PolicyId", "Name", "Description", "Content") policies::update),
    op!(Write "DeletePolicy" ("PolicyId") policies::delete),
    op!(Write "AttachPolicy" ("PolicyId", "TargetId") policies::attach),
    op!(Write "DetachPolicy" ("PolicyId", "TargetId") policies::detach),
    op!(Write "EnablePolicyType" ("RootId", "PolicyType") policies::enable_type),
    op!(Write "DisablePolicyType" ("RootId", "PolicyType") policies::disable_type),
    op!(Write "TagResource" ("ResourceId", "Tags") policies::tag),
    op!(Write "UntagResource" ("ResourceId", "TagKeys") policies::untag),
    op!(Read "ListTagsForResource" ("ResourceId", "NextToken") policies::tags),
];

/// The states of an account (Organizations API reference, `State`).
pub(crate) const STATES: [&str; 5] =
    ["ACTIVE", "PENDING_CLOSURE", "SUSPENDED", "CLOSED", "PENDING_ACTIVATION"];

/// Items on one page.
const PAGE: i64 = 20;

#[derive(Debug, Clone)]
pub(crate) struct Ou {
    pub(crate) name: String,
    pub(crate) parent: String,
}

#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) id: AccountId,
    pub(crate) name: String,
    pub(crate) email: String,
    /// `State`; `Status` was retired on 2026-09-09 and is not sent.
    pub(crate) state: &'static str,
    pub(crate) parent: String,
    pub(crate) joined: Time,
}

/// A service control policy.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) content: String,
    pub(crate) parsed: Arc<iam_rs::IAMPolicy>,
}

/// A policy at a target; kept a while after it was detached, because denials go on for that long.
#[derive(Debug, Clone)]
pub(crate) struct Attachment {
    pub(crate) policy: String,
    since: Time,
    until: Option<Time>,
}

impl Attachment {
    /// One that was always there.
    fn since_ever(policy: &str) -> Attachment {
        Attachment { policy: policy.to_owned(), since: Time(i64::MIN / 2), until: None }
    }

    fn in_force(&self, now: Time, delay: i64) -> bool {
        self.since.plus(delay) <= now && self.until.is_none_or(|until| now < until.plus(delay))
    }
}

#[derive(Debug, Clone, Default)]
struct Children {
    ous: Vec<String>,
    accounts: Vec<AccountId>,
}

#[derive(Debug, Clone)]
pub(crate) struct Organization {
    pub(crate) management: AccountId,
    pub(crate) founded: bool,
    pub(crate) id: String,
    pub(crate) root: String,
    scps_enabled: bool,
    accounts: BTreeMap<AccountId, Account>,
    ous: BTreeMap<String, Ou>,
    children: HashMap<String, Children>,
    policies: BTreeMap<String, Policy>,
    attachments: HashMap<String, Vec<Attachment>>,
    tags: BTreeMap<String, BTreeMap<String, String>>,
    busy_until: Time,
    pages: u64,
    made: u64,
}

impl Organization {
    pub(crate) fn new(management: AccountId, seed: u64) -> Organization {
        let id = format!("o-{}", hash::letters(hash::mix(seed, 11), 10));
        let root = format!("r-{}", hash::letters(hash::mix(seed, 12), 4));
        Organization {
            management,
            founded: false,
            id,
            root,
            scps_enabled: false,
            accounts: BTreeMap::new(),
            ous: BTreeMap::new(),
            children: HashMap::new(),
            policies: BTreeMap::new(),
            attachments: HashMap::new(),
            tags: BTreeMap::new(),
            busy_until: Time(0),
            pages: 0,
            made: 0,
        }
    }

    /// Founds it, with service control policies on or off.
    pub(crate) fn found(&mut self, scps_enabled: bool, now: Time) {
        self.founded = true;
        self.scps_enabled = scps_enabled;
        self.policies.insert(FULL_ACCESS.into(), policies::full_access());
        let root = self.root.clone();
        self.fence(&root);
        self.add_account(self.management, "management", "ACTIVE", &root, now);
    }

    /// Every new target starts with FullAWSAccess.
    fn fence(&mut self, target: &str) {
        let full = Attachment::since_ever(FULL_ACCESS);
        self.attachments.entry(target.to_owned()).or_default().push(full);
    }

    pub(crate) fn add_account(
        &mut self,
        id: AccountId,
        name: &str,
        state: &'static str,
        parent: &str,
        joined: Time,
    ) {
        let email = format!("{name}@example.com");
        let parent = parent.to_owned();
        self.children.entry(parent.clone()).or_default().accounts.push(id);
        self.fence(&id.to_string());
        self.accounts
            .insert(id, Account { id, name: name.to_owned(), email, state, parent, joined });
    }

    pub(crate) fn add_ou(&mut self, seed: u64, name: &str, parent: &str) -> String {
        self.made += 1;
        let letters = hash::letters(hash::mix(seed ^ 21, self.made), 8);
        let id = format!("ou-{}-{letters}", &self.root[2..]);
        self.put_ou(&id, name, parent);
        id
    }

    /// An OU with the id that it had where it was exported.
    pub(crate) fn put_ou(&mut self, id: &str, name: &str, parent: &str) {
        self.children.entry(parent.to_owned()).or_default().ous.push(id.to_owned());
        self.fence(id);
        self.ous.insert(id.to_owned(), Ou { name: name.to_owned(), parent: parent.to_owned() });
    }

    pub(crate) fn has(&self, account: AccountId) -> bool {
        self.accounts.contains_key(&account)
    }

    pub(crate) fn account(&self, account: AccountId) -> Option<&Account> {
        self.accounts.get(&account)
    }

    pub(crate) fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.accounts.values()
    }

    pub(crate) fn set_state(&mut self, account: AccountId, state: &'static str) -> bool {
        self.accounts.get_mut(&account).map(|a| a.state = state).is_some()
    }

    /// Whether anybody can work in the account: PENDING_CLOSURE "remains functional", SUSPENDED, CLOSED
    /// and PENDING_ACTIVATION do not (Organizations guide, account states).
    pub(crate) fn usable(&self, account: AccountId) -> bool {
        let state = self.accounts.get(&account).map(|a| a.state);
        matches!(state, Some("ACTIVE" | "PENDING_CLOSURE"))
    }

    /// From the root down to the account, itself included.
    pub(crate) fn levels(&self, account: AccountId) -> Vec<String> {
        let mut levels = vec![account.to_string()];
        let mut parent = self.accounts.get(&account).map(|a| a.parent.clone());
        while let Some(id) = parent {
            parent = self.ous.get(&id).map(|ou| ou.parent.clone());
            levels.push(id);
        }
        levels.reverse();
        levels
    }

    /// The names of the OUs above an account, joined by `/`.
    pub(crate) fn path(&self, account: AccountId) -> String {
        let levels = self.levels(account);
        let name = |id: &String| {
            if *id == self.root {
                Some("Root")
            } else {
                self.ous.get(id).map(|ou| ou.name.as_str())
            }
        };
        levels.iter().filter_map(name).collect::<Vec<_>>().join("/")
    }

    /// Puts a policy at a target, in force since ever; for worlds that are generated.
    pub(crate) fn put_policy(&mut self, name: &str, content: &str, target: &str) {
        let id = format!("p-{}", hash::letters(hash::of(51, name), 8));
        let parsed = Arc::new(iam_rs::IAMPolicy::from_json(content).unwrap_or_default());
        let policy = Policy {
            name: name.to_owned(),
            description: String::new(),
            content: content.to_owned(),
            parsed,
        };
        self.policies.insert(id.clone(), policy);
        let attachment = Attachment::since_ever(&id);
        self.attachments.entry(target.to_owned()).or_default().push(attachment);
    }

    /// The policies in force at a target.
    pub(crate) fn in_force(&self, target: &str, now: Time, delay: i64) -> Vec<(&str, &Policy)> {
        let attached = self.attachments.get(target).map(Vec::as_slice).unwrap_or_default();
        attached
            .iter()
            .filter(|a| a.in_force(now, delay))
            .filter_map(|a| Some((a.policy.as_str(), self.policies.get(&a.policy)?)))
            .collect()
    }

    /// Every target that has more than FullAWSAccess, with the names of its policies.
    pub(crate) fn attached_everywhere(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut all = BTreeMap::new();
        for (target, list) in &self.attachments {
            let now = list.iter().filter(|a| a.until.is_none());
            let names: Vec<&str> =
                now.filter_map(|a| self.policies.get(&a.policy).map(|p| p.name.as_str())).collect();
            if names != ["FullAWSAccess"] {
                all.insert(target.as_str(), names);
            }
        }
        all
    }

    /// Whether policies are in force for this account at all.
    pub(crate) fn fenced(&self, account: AccountId) -> bool {
        self.founded && self.scps_enabled && account != self.management && self.has(account)
    }

    fn exists(&self, target: &str) -> bool {
        target == self.root
            || self.ous.contains_key(target)
            || target.parse().is_ok_and(|id: AccountId| self.has(id))
    }

    fn arn(&self, kind: &str, id: &str) -> String {
        format!("arn:aws:organizations::{}:{kind}/{}/{id}", self.management, self.id)
    }

    pub(crate) fn policy_arn(&self, id: &str) -> String {
        if id == FULL_ACCESS {
            return format!("arn:aws:organizations::aws:policy/service_control_policy/{id}");
        }
        format!(
            "arn:aws:organizations::{}:policy/{}/service_control_policy/{id}",
            self.management, self.id
        )
    }
}

/// Whoever may call: DescribeOrganization any member, everything else the management account.
fn management(ctx: &Ctx<'_>) -> Result<(), Fault> {
    if !ctx.world.org.founded {
        let message = "Your account is not a member of an organization.";
        return Err(Fault::new(400, "AWSOrganizationsNotInUseException", message));
    }
    if ctx.account != ctx.world.org.management {
        let message = "You don't have permissions to access this resource.";
        return Err(Fault::of(Kind::Denied, message));
    }
    Ok(())
}

/// The same for a write, which keeps the organization busy for a moment: another write in that time
/// fails, even one that comes right after (iambic#384, terraform-provider-aws#5073).
fn write(ctx: &mut Ctx<'_>) -> Result<(), Fault> {
    management(ctx)?;
    let (now, busy) = (ctx.now, ctx.world.settings.organizations_busy_ms);
    if now < ctx.world.org.busy_until {
        let message = "AWS Organizations can't complete your request because it conflicts with another attempt to modify the same entity. Try again later.";
        return Err(Fault::new(400, "ConcurrentModificationException", message));
    }
    ctx.world.org.busy_until = now.plus(busy);
    Ok(())
}

fn constraint(reason: &'static str, message: &str) -> Fault {
    Fault::new(400, "ConstraintViolationException", message).because(reason)
}

fn invalid(reason: &'static str, message: impl Into<String>) -> Fault {
    Fault::new(400, "InvalidInputException", message).because(reason)
}

/// One page of at most 20; now and then an empty one with a token, as the API reference warns.
fn page<K>(
    ctx: &mut Ctx<'_>,
    params: &Map,
    name: &'static str,
    keys: &[K],
    render: impl Fn(&Organization, &K) -> Option<Map>,
) -> Result<Map, Fault> {
    let max = params.int("MaxResults")?.unwrap_or(PAGE);
    if !(1..=PAGE).contains(&max) {
        return Err(invalid(
            "MAX_VALUE_EXCEEDED",
            format!("MaxResults must be between 1 and {PAGE}"),
        ));
    }
    let bad = || invalid("INVALID_NEXT_TOKEN", "You provided an invalid value for NextToken.");
    let token = params.text("NextToken").unwrap_or("0");
    let (from, after_empty) = match token.strip_suffix('e') {
        Some(number) => (number.parse::<usize>().map_err(|_| bad())?, true),
        None => (token.parse().map_err(|_| bad())?, false),
    };
    let every = ctx.world.settings.empty_page_every;
    let org = &mut ctx.world.org;
    org.pages += 1;
    let empty = !after_empty && every > 0 && org.pages.is_multiple_of(every);
    let (items, next): (&[K], _) = if empty && from < keys.len() {
        (&[], Some(format!("{from}e")))
    } else {
        let end = keys.len().min(from.saturating_add(max as usize));
        (keys.get(from..end).unwrap_or_default(), (end < keys.len()).then(|| end.to_string()))
    };
    let items: Vec<Map> = items.iter().filter_map(|key| render(org, key)).collect();
    Ok(Map::new().with(name, list("member", items)).maybe("NextToken", next))
}

/// `Tags` of a request.
pub(crate) fn read_tags(params: &Map) -> Result<BTreeMap<String, String>, Fault> {
    let mut tags = BTreeMap::new();
    for tag in params.maps("Tags") {
        tags.insert(tag.required("Key")?.to_owned(), tag.text_or_empty("Value").to_owned());
    }
    Ok(tags)
}

/// Tags of a reply.
pub(crate) fn write_tags(item: &'static str, tags: &BTreeMap<String, String>) -> Value {
    let tag = |(key, value): (&String, &String)| Map::new().with("Key", key).with("Value", value);
    list(item, tags.iter().map(tag))
}
