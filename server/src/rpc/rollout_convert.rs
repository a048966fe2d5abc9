//! Rollouts between the protos and the domain.

use super::convert::{approval, count, ids, when};
use super::probe;
use crate::app::Fault;
use crate::rollouts::{Named, Proposal};
use ringfence_domain::id::NodeId;
use ringfence_domain::org::OrgTree;
use ringfence_domain::rollout::{self, BAKE_MAX, Hours, Moment, Rollout, Wish, propose};
use ringfence_domain::scp::{self, Parameters};
use ringfence_domain::time::Span;
use ringfence_proto::v1;

pub(crate) fn stages(stages: Vec<v1::RolloutStage>) -> Result<Vec<rollout::Stage>, Fault> {
    if stages.is_empty() {
        return Err(Fault::Invalid("stages: there is none".into()));
    }
    let stage = |s: v1::RolloutStage| {
        let targets = ids(&format!("stage `{}`", s.name), &s.targets)?;
        let bake = Span(s.bake_seconds.saturating_mul(1_000));
        if bake < Span(0) || bake > BAKE_MAX {
            return Err(Fault::Invalid(format!(
                "stage `{}`: bake_seconds = {}: it must be 0 to {}",
                s.name,
                s.bake_seconds,
                BAKE_MAX.0 / 1_000
            )));
        }
        let number = |key: &str, value: i32| {
            let bad = || format!("stage `{}`: {key} = {value}: it must be 0 or more", s.name);
            u32::try_from(value).map_err(|_| Fault::Invalid(bad()))
        };
        let observations = number("observations", s.observations)?;
        let (calls, approvals) = (number("calls", s.calls)?, number("approvals", s.approvals)?);
        let max_accounts = number("max_accounts", s.max_accounts)?;
        let probe = match (s.probe_account.as_str(), s.probe_region.as_str()) {
            ("", "") => None,
            (account, region) => Some(probe::place(account, region)?),
        };
        Ok(rollout::Stage {
            name: s.name,
            targets,
            bake,
            observations,
            calls,
            approvals,
            max_accounts,
            probe,
        })
    };
    stages.into_iter().map(stage).collect()
}

pub(crate) fn policy(name: String, document: String, set: Option<v1::PolicyParameters>) -> Named {
    let set = set.unwrap_or_default();
    let parameters = Parameters {
        exempt_engines: set.exempt_engines,
        break_glass: set.break_glass,
        exempt_waived: set.exempt_waived,
        restore_denied_tag: set.restore_denied_tag,
    };
    Named { name, document, parameters }
}

/// Patterns of principals.
pub(crate) fn principals(patterns: Vec<String>) -> Result<Vec<String>, Fault> {
    match patterns.iter().find(|p| !rollout::is_principal(p)) {
        Some(odd) => Err(Fault::Invalid(format!(
            "expected_denials: `{odd}` is no pattern of a role's or user's ARN"
        ))),
        None => Ok(patterns),
    }
}

/// What a proposal is asked for; and the key of the tag that names environments.
pub(crate) fn wanted(a: v1::ProposeRolloutRequest) -> Result<(propose::Wanted, String), Fault> {
    let size = |name: &str, value: i32, least: usize| {
        usize::try_from(value)
            .ok()
            .filter(|n| *n >= least)
            .ok_or_else(|| Fault::Invalid(format!("{name} = {value}: it must be {least} or more")))
    };
    let mut percents = Vec::new();
    for percent in &a.percents {
        let more = u32::try_from(*percent).ok().filter(|p| (1..100).contains(p));
        match more.filter(|p| percents.last().is_none_or(|last| last < p)) {
            Some(percent) => percents.push(percent),
            None => {
                return Err(Fault::Invalid(format!(
                    "percents: {percent}: they are 1 to 99, each more than the one before"
                )));
            }
        }
    }
    let bake = Span(a.bake_seconds.saturating_mul(1_000));
    if bake < Span(0) || bake > BAKE_MAX {
        return Err(Fault::Invalid(format!("bake: it must be 0 to {BAKE_MAX}")));
    }
    let wanted = propose::Wanted {
        databases: Default::default(),
        calls: Default::default(),
        tagged: Default::default(),
        canaries: size("canaries", a.canaries, 0)?,
        large: size("large", a.large, 1)?,
        percents,
        max_accounts: size("max_accounts", a.max_accounts, 1)?,
        bake,
    };
    Ok((wanted, a.environment_tag))
}

/// A stage as it was asked for.
fn shown(stage: &rollout::Stage) -> v1::RolloutStage {
    let number = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    let probe = stage.probe.as_ref();
    v1::RolloutStage {
        name: stage.name.clone(),
        targets: stage.targets.iter().map(ToString::to_string).collect(),
        bake_seconds: stage.bake.0 / 1_000,
        observations: number(stage.observations),
        calls: number(stage.calls),
        approvals: number(stage.approvals),
        max_accounts: number(stage.max_accounts),
        probe_account: probe.map(|p| p.account.to_string()).unwrap_or_default(),
        probe_region: probe.map(|p| p.region.to_string()).unwrap_or_default(),
    }
}

pub(crate) fn proposal(proposal: Proposal) -> v1::ProposeRolloutResponse {
    let stage = |p: propose::Proposed| v1::ProposedStage {
        stage: Some(shown(&p.stage)),
        because: p.because,
    };
    v1::ProposeRolloutResponse {
        stages: proposal.stages.into_iter().map(stage).collect(),
        left_out: proposal.left_out,
        as_of: proposal.as_of.to_string(),
    }
}

pub(crate) fn rollout_state(state: rollout::State) -> v1::RolloutState {
    match state {
        rollout::State::Planned => v1::RolloutState::Planned,
        rollout::State::Running => v1::RolloutState::Running,
        rollout::State::Baking => v1::RolloutState::Baking,
        rollout::State::Paused => v1::RolloutState::Paused,
        rollout::State::Blocked => v1::RolloutState::Blocked,
        rollout::State::Aborting => v1::RolloutState::Aborting,
        rollout::State::Complete => v1::RolloutState::Complete,
        rollout::State::Aborted => v1::RolloutState::Aborted,
        rollout::State::Failed => v1::RolloutState::Failed,
        rollout::State::Superseded => v1::RolloutState::Superseded,
    }
}

fn target_state(r: &Rollout, target: &NodeId) -> v1::RolloutTargetState {
    use v1::RolloutTargetState as T;
    let before = match (&r.baseline, &r.policy_id) {
        (Some(baseline), Some(policy)) => baseline.get(target).is_some_and(|s| s.contains(policy)),
        _ => false,
    };
    match r.attachments.get(target) {
        _ if before => T::AttachedBefore,
        // A later version has taken its place, and detached it.
        Some(a) if r.state == rollout::State::Superseded && a.attached_at.is_some() => T::Detached,
        _ if r.is_skipped(target) => T::Skipped,
        Some(a) if a.detached_at.is_some() && r.is_replaced(target) && r.wish == Wish::Run => {
            T::Replaced
        }
        Some(a) if a.detached_at.is_some() => T::Detached,
        Some(a) if a.lost_at.is_some() => T::Lost,
        Some(a) if a.attached_at.is_some() => T::Attached,
        Some(a) if a.intended_at.is_some() => T::Attaching,
        Some(_) | None => T::Waiting,
    }
}

pub(crate) fn rollout(
    r: &Rollout,
    tree: Option<&OrgTree>,
    needed: usize,
    moment: Moment,
) -> v1::Rollout {
    let mut targets = Vec::new();
    for stage in &r.body.stages {
        for id in &stage.targets {
            let before = r.baseline.as_ref().and_then(|b| b.get(id));
            let there = match (&r.policy_id, before) {
                (Some(policy), Some(before)) => before.contains(policy),
                _ => false,
            };
            let skip = r.skipped.get(id).filter(|_| r.is_skipped(id));
            let attached_at = r.attachments.get(id).and_then(|a| a.attached_at);
            targets.push(v1::RolloutTarget {
                stage: stage.name.clone(),
                id: id.to_string(),
                name: tree.and_then(|t| t.get(id)).map(|n| n.name.clone()).unwrap_or_default(),
                state: target_state(r, id).into(),
                attached_at: when(attached_at),
                skipped: skip
                    .map(|s| format!("{} at {}: {}", s.by, s.at, s.reason))
                    .unwrap_or_default(),
                change: if there { "nothing: it is attached there" } else { "adds denials" }.into(),
                slots: count(r.body.planned_on.get(id).map_or(0, |set| set.len())),
                before: before.map(|s| s.iter().cloned().collect()).unwrap_or_default(),
                accounts: count(tree.map_or(0, |t| rollout::bound(t, std::iter::once(id)).len())),
                replaced_by: r
                    .body
                    .replaced_by
                    .get(id)
                    .map(ToString::to_string)
                    .unwrap_or_default(),
                evidence: r
                    .attachments
                    .get(id)
                    .and_then(|a| a.evidence.clone())
                    .unwrap_or_default(),
            });
        }
    }
    v1::Rollout {
        id: r.body.id.clone(),
        hash: r.hash.clone(),
        state: rollout_state(r.state).into(),
        why: r.why.clone(),
        author: r.body.author.clone(),
        created_at: r.body.created_at.to_string(),
        policy_name: r.body.policy_name.clone(),
        policy_id: r.policy_id.clone().unwrap_or_default(),
        policy_document: r.body.content.clone(),
        targets,
        approvals: r.approvals.iter().map(approval).collect(),
        approvals_needed: count(needed),
        bakes: bakes(r, moment),
        expected_denials: r.body.expected_denials.clone(),
        replaces: r.body.replaces.as_ref().map(|replaces| earlier(r, replaces)),
        superseded_by: r.superseded_by.clone().unwrap_or_default(),
        probes: probe::probes(r),
        stages: r.body.stages.iter().map(shown).collect(),
        windows: r.body.hours.as_ref().map(Hours::windows).unwrap_or_default(),
        time_zone: r.body.hours.as_ref().map(|h| h.time_zone().to_owned()).unwrap_or_default(),
        exempt: exempt(r),
    }
}

/// Whom the policy leaves alone, and until when the waivers of those that it names stood when it was planned.
fn exempt(r: &Rollout) -> Vec<String> {
    let waived = r
        .body
        .waived
        .iter()
        .map(|(account, until)| format!("{account}, waived until {until} when it was planned"));
    scp::exempt(&r.body.content).into_iter().chain(waived).collect()
}

fn earlier(r: &Rollout, replaces: &rollout::Replaces) -> v1::RolloutEarlier {
    let target = |(id, by): (&NodeId, &NodeId)| {
        let state = match r.old.get(id) {
            Some(done) if done.lost_at.is_some() => "lost",
            Some(done) if done.attached_at.is_some() => "attached again",
            Some(done) if done.detached_at.is_some() => "detached",
            Some(_) | None => "attached",
        };
        v1::RolloutEarlierTarget {
            id: id.to_string(),
            bound_by: by.to_string(),
            state: state.to_owned(),
        }
    };
    v1::RolloutEarlier {
        rollout: replaces.rollout.clone(),
        policy_id: replaces.policy.clone(),
        targets: replaces.targets.iter().map(target).collect(),
        changes: replaces.changes.clone(),
    }
}

fn bakes(r: &Rollout, moment: Moment) -> Vec<v1::RolloutBake> {
    let stages = r.body.stages.iter().enumerate().filter(|(_, s)| s.bakes());
    let bake = |(n, stage): (usize, &rollout::Stage)| {
        let bake = r.bakes.get(&n);
        let last = bake.and_then(|b| b.last.as_ref());
        let promoted = bake.and_then(|b| b.promoted.as_ref());
        v1::RolloutBake {
            stage: stage.name.clone(),
            bake_seconds: stage.bake.0 / 1_000,
            observations: i32::try_from(stage.wanted(moment)).unwrap_or(i32::MAX),
            began_at: when(bake.map(|b| b.began_at)),
            healthy: bake.map_or(0, |b| i32::try_from(b.healthy).unwrap_or(i32::MAX)),
            last_at: when(last.map(|o| o.at)),
            last_health: last.map(|o| o.health.as_str().to_owned()).unwrap_or_default(),
            last_said: last.map(|o| o.said.clone()).unwrap_or_default(),
            promoted: promoted.map(|(_, who)| who.clone()).unwrap_or_default(),
            done_at: when(bake.and_then(|b| b.done_at)),
            calls: bake.map_or(0, |b| i64::try_from(b.calls).unwrap_or(i64::MAX)),
        }
    };
    stages.map(bake).collect()
}
