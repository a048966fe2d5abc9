//! What the policy denied in the accounts of a stage since it was attached, from their CloudTrail.

use crate::app::{App, Fault, now};
use crate::histories::{self, Wanted};
use ringfence_domain::audit::Actor;
use ringfence_domain::history::{Call, harm, lookups, replay};
use ringfence_domain::iam::document::Policy;
use ringfence_domain::rollout::{Health, Rollout, bound};
use ringfence_domain::scp::{coverage, makes_database};
use ringfence_domain::time::Span;

/// How long agents may take to read what one look wants; then nobody knows.
const READ_FOR: Span = Span::hours(1);

/// What it says of a stage, and how many calls that count for its bake it saw; `None` while agents read. A region that was not read rules nothing out.
pub(super) async fn look(
    app: &App,
    rollout: &Rollout,
    n: usize,
    (look, max_age): (&str, Span),
) -> Result<Option<(Health, String, u64)>, Fault> {
    let inconclusive = |why: String| Ok(Some((Health::Inconclusive, why, 0)));
    let (Some(stage), Some(bake)) = (rollout.body.stages.get(n), rollout.bakes.get(&n)) else {
        return Ok(None);
    };
    let policy = match Policy::parse(&rollout.body.content) {
        Ok(policy) => policy,
        Err(why) => return inconclusive(format!("the policy is not understood: {why}")),
    };
    // What CloudTrail does not show yet is not what did not happen.
    if now().since(bake.began_at) < app.config.trail_delay {
        return Ok(None);
    }
    let replay = match replay(&rollout.body.policy_name, &rollout.body.content) {
        Ok(replay) => replay,
        Err(why) => return inconclusive(format!("the policy is not understood: {why}")),
    };
    let tree = app.tree().await?;
    let wanted = Wanted {
        purpose: look.to_owned(),
        accounts: bound(&tree, rollout.targets_of(n).iter()).into_iter().collect(),
        lookups: lookups(&policy),
        span: (bake.began_at, now()),
        failures_count: true,
        max_age,
    };
    if let Some(since) = histories::waits_since(app, &wanted).await? {
        return match now().since(since) > READ_FOR {
            true => inconclusive(format!("no agent has read CloudTrail within {READ_FOR}")),
            false => Ok(None),
        };
    }
    let strange = histories::begin(app, &Actor::system("rollouts"), &wanted).await?;
    if histories::waits_since(app, &wanted).await?.is_some() {
        return Ok(None);
    }
    let readings = histories::read(app, &wanted).await?;
    let id = rollout.policy_id.as_deref().unwrap_or_default();
    // Of a policy on how databases are made, those calls count that make one; of another one, all that it names. Ours show
    // nothing of what people do, and nobody is bound where a waiver exempts.
    let covered = coverage(&rollout.body.content).unwrap_or_default();
    let on_databases = covered.iter().any(|path| path.unencrypted.starts_with("denied"));
    let own = format!("role/{}", app.cloud.role_name());
    let counts = |call: &Call| {
        (!on_databases || makes_database(&call.action))
            && !rollout.body.waived.contains_key(&call.account)
            && !call.principal.ends_with(&own)
    };
    let harm = harm(&readings, id, &rollout.body.expected_denials, &replay, counts);
    if !harm.denied.is_empty() {
        return Ok(Some((Health::Unhealthy, format!("{id} denied {}", harm.said()), harm.counted)));
    }
    if let Some((account, why)) = strange.first() {
        return inconclusive(format!("{account}: {why}"));
    }
    if let Some((account, region, why)) = harm.unread.first() {
        let more = harm.unread.len() - 1;
        return inconclusive(format!(
            "CloudTrail of {account} {region} was not read ({why}), nor of {more} more"
        ));
    }
    let count = match stage.calls {
        0 => String::new(),
        _ => format!(" ({} of them are creates by others than Ringfence)", harm.counted),
    };
    let seen = format!("{} calls in CloudTrail{count}, none denied by {id}", harm.calls);
    Ok(Some((
        Health::Healthy,
        match harm.expected {
            0 => seen,
            n => format!("{seen} but {n} that were expected"),
        },
        harm.counted,
    )))
}
