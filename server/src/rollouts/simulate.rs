//! The dry run: what accounts did lately, put before a policy.

use super::policy::{self, Named};
use crate::app::{App, Fault, now, rest};
use crate::histories::{self, Wanted};
use crate::org;
use crate::store::{Kind, Row};
use ringfence_domain::audit::Actor;
use ringfence_domain::history::{Call, Calls, Judged, KEPT, Replay, judge, lookups, unsure};
use ringfence_domain::iam::document;
use ringfence_domain::id::{AccountId, NodeId};
use ringfence_domain::org::OrgTree;
use ringfence_domain::rollout::{self, Rollout, Stage};
use ringfence_domain::scp::{self, Covered, Own, Policy};
use ringfence_domain::time::{Span, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What is to be simulated.
pub struct Ask {
    /// A planned rollout, or
    pub id: String,
    /// this policy
    pub policy: Named,
    /// on these targets.
    pub stages: Vec<Stage>,
    /// How far back; 0 means as far as CloudTrail remembers.
    pub span: Span,
    /// Read again what was read a while ago.
    pub fresh: bool,
    /// Calls from elsewhere; then CloudTrail is not asked.
    pub calls: Option<BTreeMap<AccountId, Calls>>,
}

/// One kind of call that the policy does not simply let through.
pub struct Stopped {
    /// What it says of it.
    pub judged: Judged,
    /// The stage and target that bind it.
    pub stage: String,
    /// See `stage`.
    pub target: NodeId,
    /// The call.
    pub call: Call,
    /// How often, when first, when last.
    pub counted: (u64, Time, Time),
}

/// How many calls ended how.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Accounts that were looked at.
    pub accounts: usize,
    /// Calls.
    pub calls: u64,
    /// Let through.
    pub allowed: u64,
    /// Denied.
    pub denied: u64,
    /// Nobody can tell.
    pub unknown: u64,
    /// Denied already then.
    pub denied_before: u64,
    /// Of principals that SCPs do not bind.
    pub unbound: u64,
}

/// What came of it.
pub struct Simulation {
    /// The policy's name.
    pub name: String,
    /// From when to when.
    pub span: (Time, Time),
    /// What was looked up.
    pub lookups: Vec<String>,
    /// What it does to our own calls.
    pub own: Own,
    /// What else should be known.
    pub warnings: Vec<String>,
    /// How many calls ended how.
    pub counts: Counts,
    /// Those that are not simply let through, the most frequent first.
    pub stopped: Vec<Stopped>,
    /// Account, region, and why it was not read.
    pub unread: Vec<(AccountId, String, String)>,
    /// Accounts with more kinds of calls than are kept.
    pub overflowed: Vec<AccountId>,
    /// The ways to make a database.
    pub coverage: Vec<Covered>,
    /// Names of accounts.
    pub tree: Arc<OrgTree>,
}

/// A simulation that has begun.
pub struct Run {
    name: String,
    policy: Policy,
    replay: Replay,
    own: Own,
    wanted: Wanted,
    strange: Vec<(AccountId, String)>,
    /// Stage and target by account.
    places: BTreeMap<AccountId, (String, NodeId)>,
    tree: Arc<OrgTree>,
    calls: Option<BTreeMap<AccountId, Calls>>,
}

/// Checks the policy, and has agents read what is not there.
pub async fn begin(app: &App, actor: &Actor, ask: Ask) -> Result<Run, Fault> {
    let tree = org::fresh(app, app.config.org_max_age).await?;
    let (name, policy, stages) = match ask.id.as_str() {
        "" => {
            let bound = rollout::bound(&tree, ask.stages.iter().flat_map(|s| &s.targets));
            let waived = policy::waived(app, &ask.policy, &bound).await?.into_keys().collect();
            (ask.policy.name.clone(), policy::checked(&ask.policy, &waived)?, ask.stages)
        }
        id => {
            let (_, rollout): (Row, Rollout) = app.load(Kind::Rollout, id).await?;
            let warnings = scp::lint(&rollout.body.content).map(|p| p.warnings);
            let policy =
                Policy { minified: rollout.body.content, warnings: warnings.unwrap_or_default() };
            (rollout.body.policy_name, policy, rollout.body.stages)
        }
    };
    let mut places = BTreeMap::new();
    for stage in &stages {
        for target in &stage.targets {
            if tree.get(target).is_none() {
                return Err(Fault::NotFound(format!(
                    "{target} is not in the organization as of {}",
                    tree.as_of
                )));
            }
            for account in rollout::bound(&tree, std::iter::once(target)) {
                places.entry(account).or_insert((stage.name.clone(), target.clone()));
            }
        }
    }
    let accounts: BTreeSet<AccountId> = places.keys().cloned().collect();
    let replay = policy::asked(&name, &policy)?;
    let own = policy::own(app, (&replay, &policy.minified), &accounts).await?;
    let read = document::Policy::parse(&policy.minified).map_err(Fault::Invalid)?;
    let until = now();
    let back = if ask.span.0 == 0 { KEPT } else { ask.span };
    let wanted = Wanted {
        purpose: format!("simulate {}", back.0),
        accounts: accounts.into_iter().collect(),
        lookups: lookups(&read),
        span: (until.plus(Span(-back.0)), until),
        failures_count: false,
        // A span of the same length that was read lately is as good: it reaches as far back, but for its age.
        max_age: if ask.fresh { Span(-1) } else { app.config.history_max_age },
    };
    let strange = match ask.calls {
        Some(_) => Vec::new(),
        None => histories::begin(app, actor, &wanted).await?,
    };
    Ok(Run { name, policy, replay, own, wanted, strange, places, tree, calls: ask.calls })
}

/// Accounts, and those that are done; with the simulation once all are.
pub async fn look(app: &App, run: &Run) -> Result<(usize, usize, Option<Simulation>), Fault> {
    let all = run.wanted.accounts.len();
    let left = match run.calls {
        Some(_) => 0,
        None => histories::left(app, &run.wanted).await?,
    };
    if left > 0 {
        // Of many, each look costs a while.
        rest(u64::try_from(left / 4).unwrap_or(0).min(2_000)).await;
        return Ok((all, all - left, None));
    }
    Ok((all, all, Some(end(app, run).await?)))
}

async fn end(app: &App, run: &Run) -> Result<Simulation, Fault> {
    let mut simulation = Simulation {
        name: run.name.clone(),
        span: run.wanted.span,
        lookups: run.wanted.lookups.iter().map(ToString::to_string).collect(),
        own: run.own.clone(),
        warnings: run.policy.warnings.iter().map(ToString::to_string).collect(),
        counts: Counts { accounts: run.wanted.accounts.len(), ..Counts::default() },
        stopped: Vec::new(),
        unread: Vec::new(),
        overflowed: Vec::new(),
        coverage: scp::coverage(&run.policy.minified).map_err(Fault::Invalid)?,
        tree: run.tree.clone(),
    };
    simulation.warnings.extend(run.own.warnings());
    for (account, why) in &run.strange {
        simulation.unread.push((account.clone(), String::new(), why.clone()));
    }
    let unsure = unsure(&run.wanted.lookups);
    if !unsure.is_empty() {
        simulation.warnings.push(format!(
            "events are looked up as the policy spells them, and are not always named as their actions: of {} not all may be found",
            unsure.join(", ")
        ));
    }
    match &run.calls {
        Some(calls) => {
            for (account, calls) in calls {
                take(&mut simulation, run, account, calls);
            }
            let absent = run.places.keys().filter(|account| !calls.contains_key(account));
            let why =
                "nothing of it is in the file: it had no such calls, or the file is not about it";
            let absent = absent.map(|account| (account.clone(), String::new(), why.to_owned()));
            simulation.unread.extend(absent);
            let times = calls.values().flat_map(|c| c.kinds.values());
            let span = times.clone().map(|t| t.1).min().zip(times.map(|t| t.2).max());
            simulation.span = span.unwrap_or(simulation.span);
        }
        None => {
            for reading in histories::read(app, &run.wanted).await? {
                simulation.span.0 = simulation.span.0.max(reading.from);
                simulation.span.1 = simulation.span.1.min(reading.until);
                let unread = reading.failures();
                simulation.unread.extend(
                    unread.map(|(r, why)| (reading.account.clone(), r.clone(), why.to_owned())),
                );
                take(&mut simulation, run, &reading.account, &reading.calls);
            }
        }
    }
    let order =
        |s: &Stopped| (matches!(s.judged, Judged::Unknown(_)), std::cmp::Reverse(s.counted.0));
    simulation.stopped.sort_by_key(order);
    Ok(simulation)
}

fn take(simulation: &mut Simulation, run: &Run, account: &AccountId, calls: &Calls) {
    // Of an export: accounts that no target binds.
    let Some((stage, target)) = run.places.get(account) else { return };
    let counts = &mut simulation.counts;
    counts.unbound += calls.unbound;
    if calls.left_out > 0 {
        simulation.overflowed.push(account.clone());
    }
    for (call, counted) in &calls.kinds {
        counts.calls += counted.0;
        let judged = judge(&run.replay, call);
        match &judged {
            Judged::Allowed => counts.allowed += counted.0,
            Judged::WasDenied => counts.denied_before += counted.0,
            Judged::Denied(_) => counts.denied += counted.0,
            Judged::Unknown(_) => counts.unknown += counted.0,
        }
        if matches!(judged, Judged::Denied(_) | Judged::Unknown(_)) {
            simulation.stopped.push(Stopped {
                judged,
                stage: stage.clone(),
                target: target.clone(),
                call: call.clone(),
                counted: *counted,
            });
        }
    }
}
