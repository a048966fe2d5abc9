//! Probes between the protos and the domain.

use super::convert::when;
use crate::app::Fault;
use ringfence_domain::id::NodeId;
use ringfence_domain::probe::{Answer, Off, Place, Probe};
use ringfence_domain::rollout::{Rollout, Stage, Wish};
use ringfence_proto::v1;

pub(crate) fn place(account: &str, region: &str) -> Result<Place, Fault> {
    Ok(Place {
        account: account.parse().map_err(|e| Fault::Invalid(format!("account: {e}")))?,
        region: region.parse().map_err(|e| Fault::Invalid(format!("region: {e}")))?,
    })
}

/// A probe that is to prove probing, and whether it does.
pub(crate) fn proof(probe: &Probe, proven: &Result<Probe, Off>) -> v1::ProveProbesResponse {
    let said = |of: fn(&ringfence_domain::probe::Answered) -> &Answer| {
        probe.answered.as_ref().map(|a| of(a).said()).unwrap_or_default()
    };
    let open = probe.answered.is_none();
    let denied = |a: &Answer| matches!(a, Answer::Denied(_));
    let bound = probe.answered.as_ref().is_some_and(|a| denied(&a.plain) || denied(&a.encrypted));
    let why = match proven {
        _ if open => String::new(),
        _ if bound => format!(
            "something denies creates in {}: try an account and region where nothing does",
            probe.place
        ),
        Ok(_) if probe.proves() => String::new(),
        Ok(other) => {
            format!("this one proves nothing; probes are proven by {} in {}", other.id, other.place)
        }
        Err(off) => off.to_string(),
    };
    v1::ProveProbesResponse {
        id: probe.id.clone(),
        account: probe.place.account.to_string(),
        region: probe.place.region.to_string(),
        unencrypted: said(|a| &a.plain),
        encrypted: said(|a| &a.encrypted),
        proven: probe.proves() && proven.is_ok(),
        why,
    }
}

/// Whether all that was attached there is detached again.
fn off(r: &Rollout, stage: &Stage) -> bool {
    let off = |t: &NodeId| r.attachments.get(t).is_some_and(|a| a.detached_at.is_some());
    r.wish == Wish::Abort && stage.targets.iter().all(off)
}

/// The stages that are probed.
pub(crate) fn probes(r: &Rollout) -> Vec<v1::RolloutProbe> {
    let stages = r.body.stages.iter().enumerate();
    let one = |(n, stage): (usize, &Stage)| {
        let place = stage.probe.as_ref()?;
        let probed = r.probes.get(&n);
        let state = match probed {
            None if stage.targets.iter().all(|t| r.is_skipped(t)) => "not probed",
            None => "waiting",
            Some(p) => match p.lifted {
                Some((_, true)) => "gone",
                Some((_, false)) => "not seen to be gone",
                None if p.detached_at.is_some() => "going",
                // Where the earlier version denies the same again.
                None if off(r, stage) => "not looked for",
                None if p.promoted.is_some() => "passed",
                None if p.passed_at.is_some() && p.shadowed => "behind the earlier one",
                None if p.passed_at.is_some() => "in force",
                None if p.began_at.is_none() => "waiting",
                None => "probing",
            },
        };
        let last = probed.and_then(|p| p.last.as_ref());
        Some(v1::RolloutProbe {
            stage: stage.name.clone(),
            account: place.account.to_string(),
            region: place.region.to_string(),
            state: state.to_owned(),
            passed_at: when(probed.and_then(|p| p.passed_at)),
            last_at: when(last.map(|(at, _)| *at)),
            last_said: last.map(|(_, said)| said.clone()).unwrap_or_default(),
            promoted: probed.and_then(|p| p.promoted.clone()).unwrap_or_default(),
        })
    };
    stages.filter_map(one).collect()
}
