//! Whether a policy may be rolled out: what is wrong with it, and whether it would stop Ringfence itself.

use super::gates::thawed;
use super::work::{same, stop, system};
use super::{Loaded, change};
use crate::app::{App, Fault, now, refused};
use crate::waivers;
use ringfence_domain::history::{Replay, replay};
use ringfence_domain::id::AccountId;
use ringfence_domain::rollout::{BUILT_IN, State};
use ringfence_domain::scp::{self, Lint, Own, Parameters, Policy};
use ringfence_domain::time::{Span, Time};
use std::collections::{BTreeMap, BTreeSet};

/// How long Access Analyzer is waited for: a plan without its word says so.
const ANALYZER_FOR: Span = Span::seconds(20);

/// Accounts that the policy is tried in as Ringfence's role, beside those that it names by their number: of more, some spread
/// over the list stand for all.
const TRIED_MAX: usize = 200;

/// A policy by its name, with its document where it is not the built-in one.
#[derive(Debug, Clone, Default)]
pub struct Named {
    /// Its short name.
    pub name: String,
    /// Its document; empty for the built-in one.
    pub document: String,
    /// What is set of the built-in one.
    pub parameters: Parameters,
}

/// The accounts, of these, that the policy is to leave alone, and until when they are waived.
pub(super) async fn waived(
    app: &App,
    named: &Named,
    bound: &BTreeSet<AccountId>,
) -> Result<BTreeMap<AccountId, Time>, Fault> {
    if !named.parameters.exempt_waived {
        return Ok(BTreeMap::new());
    }
    let all = waivers::active(app).await?;
    let of_these = all.into_iter().filter(|(account, _)| bound.contains(account));
    Ok(of_these.map(|(account, w)| (account, w.waiver.until)).collect())
}

/// The document, checked on its own.
pub(super) fn checked(named: &Named, waived: &BTreeSet<AccountId>) -> Result<Policy, Fault> {
    let document = match (named.name.as_str(), named.document.as_str()) {
        (BUILT_IN, "") => scp::rds_encryption(&named.parameters, waived).map_err(Fault::Invalid)?,
        (name, "") => {
            return Err(Fault::Invalid(format!(
                "policy `{name}` is not built in, and no document was given"
            )));
        }
        (_, _) if named.parameters != Parameters::default() => {
            return Err(Fault::Invalid("parameters: they are of the built-in policy only".into()));
        }
        (_, document) => document.to_owned(),
    };
    scp::lint(&document).map_err(|lints| Fault::Invalid(format!("policy: {}", scp::said(&lints))))
}

/// The policy, ready to be asked.
pub(super) fn asked(name: &str, policy: &Policy) -> Result<Replay, Fault> {
    replay(name, &policy.minified).map_err(|why| Fault::Invalid(format!("policy: {why}")))
}

/// What it says of our own calls in these accounts; `document` is what it says.
pub(super) async fn own(
    app: &App,
    (policy, document): (&Replay, &str),
    accounts: &BTreeSet<AccountId>,
) -> Result<Own, Fault> {
    let mut all = Own::default();
    // Where nobody is bound yet, the role's name alone is tried.
    let somewhere = match accounts.is_empty() {
        true => [app.cloud.caller().await?.account].into(),
        false => accounts.clone(),
    };
    let every = somewhere.len().div_ceil(TRIED_MAX).max(1);
    let mut found = Vec::new();
    let named = somewhere.iter().filter(|account| document.contains(account.as_str()));
    let tried: BTreeSet<&AccountId> = somewhere.iter().step_by(every).chain(named).collect();
    for account in tried {
        found.push(scp::own(policy, &app.cloud.role_arn(account).await?));
    }
    let caller = app.cloud.caller().await?;
    if accounts.contains(&caller.account) {
        found.push(scp::of_server(policy, &caller.arn));
    }
    for own in found {
        for (into, from) in [(&mut all.denied, own.denied), (&mut all.unknown, own.unknown)] {
            for (why, calls) in from {
                into.entry(why).or_default().extend(calls);
            }
        }
    }
    Ok(all)
}

/// Finds or creates the policy. Its name holds its content's hash, so a repeat meets its own work.
pub(super) async fn create(app: &App, loaded: Loaded) -> Result<bool, Fault> {
    let body = &loaded.1.body;
    let id = &body.id;
    if let Some(first) = body.targets().next() {
        thawed(app, first).await?;
    }
    let policy = match app.cloud.find_policy(&body.policy_name).await? {
        Some(found) => {
            if !same(&app.cloud.policy_content(&found.id).await?, &body.content) {
                let why = format!(
                    "a policy named {} exists ({}) and says something else",
                    body.policy_name, found.id
                );
                stop(app, loaded, State::Failed, vec![why]).await?;
                return Ok(false);
            }
            found.id
        }
        None => {
            let event = system().did(now(), "rollout.create-policy", id, &body.policy_name);
            app.store.append(&event).await?;
            app.cloud.create_policy(&body.policy_name, &body.content, id).await?
        }
    };
    change(app, &system(), loaded, "rollout.policy", &policy, |r| {
        r.policy_id = Some(policy.clone());
        Ok(())
    })
    .await?;
    Ok(true)
}

/// Refuses a policy that stops our own remediation, or that Access Analyzer finds wrong. What should be known besides.
pub(super) async fn may_go(
    app: &App,
    name: &str,
    policy: &Policy,
    accounts: &BTreeSet<AccountId>,
) -> Result<Vec<String>, Fault> {
    let own = own(app, (&asked(name, policy)?, &policy.minified), accounts).await?;
    let refusals = own.refusals();
    if !refusals.is_empty() {
        return refused(
            "POLICY_STOPS_RINGFENCE",
            format!("the policy cannot be rolled out: {}", refusals.join("; ")),
        );
    }
    let mut warnings: Vec<String> = policy.warnings.iter().map(ToString::to_string).collect();
    warnings.extend(own.warnings());
    let found = analyzed(app, policy).await;
    let (bad, other): (Vec<Lint>, Vec<Lint>) = found
        .unwrap_or_else(|why| {
            warnings.push(why);
            Vec::new()
        })
        .into_iter()
        .partition(|l| l.refuses);
    if !bad.is_empty() {
        return Err(Fault::Invalid(format!("policy: {}", scp::said(&bad))));
    }
    warnings.extend(other.iter().map(ToString::to_string));
    Ok(warnings)
}

/// What Access Analyzer finds, or why it was not asked.
async fn analyzed(app: &App, policy: &Policy) -> Result<Vec<Lint>, String> {
    if !app.config.access_analyzer {
        return Ok(Vec::new());
    }
    let asked = app.cloud.validate_policy(&policy.minified);
    match tokio::time::timeout(ANALYZER_FOR.to_duration(), asked).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(format!(
            "Access Analyzer did not look at the policy: {error}; allow access-analyzer:ValidatePolicy, or set rollout.access_analyzer = false"
        )),
        Err(_) => Err(format!(
            "Access Analyzer did not look at the policy: no answer within {ANALYZER_FOR}"
        )),
    }
}
