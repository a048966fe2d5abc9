//! Simulations between the protos and the domain.

use super::convert::count;
use super::rollout_convert::{policy, stages};
use crate::app::Fault;
use crate::rollouts::simulate::{Ask, Counts, Simulation, Stopped};
use ringfence_domain::history::{Judged, KEPT};
use ringfence_domain::time::Span;
use ringfence_proto::v1;

pub(crate) fn ask(a: v1::SimulateRolloutRequest) -> Result<Ask, Fault> {
    let span = Span(a.span_seconds.saturating_mul(1_000));
    if span < Span(0) || span > KEPT {
        return Err(Fault::Invalid(format!(
            "span_seconds = {}: it must be 0 to {}, for CloudTrail remembers {KEPT}",
            a.span_seconds,
            KEPT.0 / 1_000
        )));
    }
    let calls = match a.calls_json.as_str() {
        "" => None,
        text => Some(
            serde_json::from_str(text).map_err(|e| Fault::Invalid(format!("calls_json: {e}")))?,
        ),
    };
    Ok(Ask {
        stages: if a.id.is_empty() { stages(a.stages)? } else { Vec::new() },
        id: a.id,
        policy: policy(a.policy, a.policy_document, a.parameters),
        span,
        fresh: a.fresh,
        calls,
    })
}

pub(crate) fn answer(
    (accounts, done, simulation): (usize, usize, Option<Simulation>),
) -> v1::SimulateRolloutResponse {
    v1::SimulateRolloutResponse {
        accounts: count(accounts),
        accounts_done: count(done),
        simulation: simulation.map(|s| whole(&s)),
    }
}

fn whole(s: &Simulation) -> v1::Simulation {
    let unread = |(account, region, why): &(_, String, String)| v1::UnreadHistory {
        account: format!("{account}"),
        region: region.clone(),
        why: why.clone(),
    };
    let covered = |c: &ringfence_domain::scp::Covered| v1::CoveredPath {
        path: c.path.clone(),
        unencrypted: c.unencrypted.clone(),
        encrypted: c.encrypted.clone(),
        note: c.note.clone(),
        for_nothing: c.for_nothing.clone(),
    };
    v1::Simulation {
        policy_name: s.name.clone(),
        from: s.span.0.to_string(),
        until: s.span.1.to_string(),
        lookups: s.lookups.clone(),
        refusals: s.own.refusals(),
        warnings: s.warnings.clone(),
        counts: Some(counts(s.counts)),
        calls: s.stopped.iter().map(|call| stopped(s, call)).collect(),
        unread: s.unread.iter().map(unread).collect(),
        coverage: s.coverage.iter().map(covered).collect(),
        overflowed: s.overflowed.iter().map(ToString::to_string).collect(),
    }
}

fn number(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn counts(c: Counts) -> v1::SimulatedCounts {
    v1::SimulatedCounts {
        accounts: i64::from(count(c.accounts)),
        calls: number(c.calls),
        allowed: number(c.allowed),
        denied: number(c.denied),
        unknown: number(c.unknown),
        denied_before: number(c.denied_before),
        unbound: number(c.unbound),
    }
}

fn stopped(simulation: &Simulation, s: &Stopped) -> v1::SimulatedCalls {
    let (verdict, statements) = match &s.judged {
        Judged::Denied(by) => ("denied", by.clone()),
        Judged::Unknown(by) => ("unknown", by.clone()),
        Judged::Allowed | Judged::WasDenied => ("", Vec::new()),
    };
    let node = simulation.tree.get(&(&s.call.account).into());
    let keys = s.call.keys.iter();
    let parent = node.and_then(|n| n.parent.as_ref());
    v1::SimulatedCalls {
        verdict: verdict.to_owned(),
        statements,
        stage: s.stage.clone(),
        target: s.target.to_string(),
        account: s.call.account.to_string(),
        account_name: node.map(|n| n.name.clone()).unwrap_or_default(),
        region: s.call.region.clone(),
        action: s.call.action.clone(),
        principal: s.call.principal.clone(),
        keys: keys.filter_map(|(k, v)| Some((k.clone(), v.clone()?))).collect(),
        count: number(s.counted.0),
        first: s.counted.1.to_string(),
        last: s.counted.2.to_string(),
        ou: parent.map(|ou| simulation.tree.path(ou)).unwrap_or_default(),
    }
}
