//! Stages that are probed: where, until when, and what becomes of what a probe shows.

use super::bake::{edited, harmed, name};
use super::gates::thawed;
use super::work::{stop, system, waits};
use super::{Loaded, back, change};
use crate::app::{App, Fault, now, refused};
use crate::probes::{self, Asked};
use crate::scans;
use ringfence_domain::hash;
use ringfence_domain::history::{Replay, replay};
use ringfence_domain::id::AccountId;
use ringfence_domain::ledger::CellState;
use ringfence_domain::org::OrgTree;
use ringfence_domain::probe::{self, Answered, Expected, Place, Shows};
use ringfence_domain::rollout::{Probed, Rollout, Stage, State, Wish, bound};
use ringfence_domain::time::Time;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Accounts of a stage that are looked at for one with a region that answers.
const LOOKED_AT: usize = 50;

/// Says of each stage where it is probed, where the plan does not; and why one is not. Refuses what no probe would show.
pub(super) async fn placed(
    app: &App,
    (tree, waived): (&OrgTree, &BTreeMap<AccountId, Time>),
    policy: &Replay,
    stages: &mut [Stage],
) -> Result<Vec<String>, Fault> {
    if let Err(why) = probes::proven(app).await? {
        return refused("PROBES_OFF", format!("nothing was planned: {why}"));
    }
    let (mut warnings, mut before) = (Vec::new(), BTreeSet::new());
    for stage in stages {
        let here = bound(tree, stage.targets.iter());
        // What an earlier stage binds is denied already, and stays denied when this one is taken back.
        let new = here.difference(&before).filter(|a| !waived.contains_key(*a));
        let own: BTreeSet<AccountId> = new.cloned().collect();
        before.extend(here);
        match &stage.probe {
            Some(place) if !own.contains(&place.account) => {
                return Err(Fault::Invalid(format!(
                    "stage `{}`: probe_in: {} is bound by none of its targets, or by an earlier stage's already, or left alone as waived",
                    stage.name, place.account
                )));
            }
            Some(place) => probes::is_on(app, place).await?,
            None => stage.probe = chosen(app, &own).await?,
        }
        match &stage.probe {
            None => warnings.push(format!(
                "stage {} is not probed: none of its accounts is new to it and has a region that a scan has seen",
                stage.name
            )),
            Some(place) => tells(app, policy, place).await?,
        }
    }
    Ok(warnings)
}

/// The first account with a region that was scanned; there, the region with the most databases: where others work, other
/// policies let them.
async fn chosen(app: &App, accounts: &BTreeSet<AccountId>) -> Result<Option<Place>, Fault> {
    for account in accounts.iter().take(LOOKED_AT) {
        let cells = scans::cells(app, std::slice::from_ref(account)).await?;
        let seen = |s: CellState| matches!(s, CellState::Clean | CellState::Findings);
        let best = cells
            .into_iter()
            .filter(|c| seen(c.state) && !c.own)
            .max_by_key(|c| (c.instances + c.clusters, Reverse(c.region.clone())));
        if let Some(region) = best.and_then(|c| c.region.parse().ok()) {
            return Ok(Some(Place { account: account.clone(), region }));
        }
    }
    Ok(None)
}

async fn tells(app: &App, policy: &Replay, place: &Place) -> Result<(), Fault> {
    let role = app.cloud.role_arn(&place.account).await?;
    match Expected::of(policy, place, &role).tells() {
        true => Ok(()),
        false => Err(Fault::Invalid(format!(
            "probe: the policy denies {role} neither of the creates that a probe tries ({} of {}, with and without encryption), so a probe shows nothing of it there: name another place by probe_in, or leave `probe` out",
            probe::ACTION,
            probe::ENGINE
        ))),
    }
}

/// The probe of a stage; while it is attached, or after it was detached.
fn id(rollout: &Rollout, n: usize, way: &str) -> String {
    format!("pb-{}", hash::short(&format!("{} {n} {way}", rollout.body.id), 12))
}

/// Where a stage is probed, and what came of it until now.
fn of(rollout: &Rollout, n: usize) -> Option<(&Place, Option<&Probed>)> {
    Some((rollout.body.stages.get(n)?.probe.as_ref()?, rollout.probes.get(&n)))
}

fn lately(app: &App, probed: &Probed) -> bool {
    let every = app.config.probe_every;
    probed.last.as_ref().is_some_and(|(at, _)| now().since(*at) < every)
}

/// Whether somebody waits for too long by now.
fn late(app: &App, since: Time) -> bool {
    now().since(since) >= app.config.probe_for
}

/// All targets of a stage are attached: asks whether the policy is in force, or takes in what came of it.
pub(super) async fn look(app: &App, loaded: Loaded, n: usize) -> Result<bool, Fault> {
    let Some((place, probed)) = of(&loaded.1, n) else { return Ok(false) };
    let begun = probed.filter(|p| !p.shadowed).filter(|p| p.began_at.is_some());
    let (Some(probed), Some(began_at)) = (begun, begun.and_then(|p| p.began_at)) else {
        let text = format!("stage {}, in {place}", name(&loaded.1, n));
        change(app, &system(), loaded, "rollout.probe", &text, |r| {
            let seen_at = r.probes.get(&n).and_then(|p| p.seen_at);
            r.probes.insert(n, Probed { seen_at, ..Probed::begun(now()) });
            (r.state, r.why) = (State::Running, vec![r.probes_for()]);
            Ok(())
        })
        .await?;
        return Ok(true);
    };
    if lately(app, probed) {
        return Ok(false);
    }
    let rollout = &loaded.1;
    if let Some(why) = moved(app, rollout, n, place).await? {
        stop(app, loaded, State::Blocked, vec![why]).await?;
        return Ok(false);
    }
    thawed(app, &(&place.account).into()).await?;
    let (id, own) = (id(rollout, n, "in force"), &rollout.body.id);
    match probes::since(app, &system(), (&id, own), place, probed.since()).await? {
        Asked::Answered(answered) => take(app, loaded, n, (answered, began_at)).await,
        Asked::Off(why) => {
            stop(app, loaded, State::Blocked, vec![why]).await?;
            Ok(false)
        }
        Asked::Waits(since) if late(app, since) => {
            let text = format!(
                "no agent has probed stage {} in {place} within {}",
                name(rollout, n),
                app.config.probe_for
            );
            pause(app, loaded, &text).await
        }
        Asked::Waits(_) => {
            waits(app, own, vec![rollout.probes_for()]).await?;
            Ok(false)
        }
    }
}

/// Why a probe there would say nothing of the stage.
async fn moved(
    app: &App,
    rollout: &Rollout,
    n: usize,
    place: &Place,
) -> Result<Option<String>, Fault> {
    let stage = &rollout.body.stages[n];
    let tree = app.tree().await?;
    let here = bound(&tree, rollout.targets_of(n).iter());
    let others = rollout.body.targets().filter(|t| !stage.targets.contains(t) && rollout.holds(t));
    // Once all is attached and the earlier version is off, it is seen that what was behind that one is in force.
    let last = rollout.body.replaces.is_some() && rollout.released();
    let why = match () {
        () if !here.contains(&place.account) => "none of its targets binds any more",
        () if last => return Ok(None),
        () if bound(&tree, others).contains(&place.account) => "another stage binds as well",
        () => return Ok(None),
    };
    Ok(Some(format!(
        "stage {} is to be probed in {place}, which {why}; `ringfence rollout promote {} --reason ...` lets it pass without, then resume",
        stage.name, rollout.body.id
    )))
}

/// Nobody knows whether the policy is in force.
async fn pause(app: &App, loaded: Loaded, text: &str) -> Result<bool, Fault> {
    change(app, &system(), loaded, "rollout.probed", text, |r| {
        inconclusive(r, text);
        Ok(())
    })
    .await?;
    Ok(false)
}

fn inconclusive(r: &mut Rollout, text: &str) {
    tracing::warn!("{}: paused: {text}", r.body.id);
    (r.wish, r.state) = (Wish::Pause, State::Paused);
    r.why = vec![format!(
        "{text}; nothing more is attached; resume probes again, promote lets the stage pass without; where other policies deny creates, plan it with another probe_in"
    )];
}

/// Takes in what a probe shows of a policy that is attached.
async fn take(
    app: &App,
    loaded: Loaded,
    n: usize,
    (answered, began_at): (Answered, Time),
) -> Result<bool, Fault> {
    let rollout = &loaded.1;
    let Some((place, _)) = of(rollout, n) else { return Ok(false) };
    if let Some(why) = edited(app, rollout).await? {
        stop(app, loaded, State::Failed, vec![why]).await?;
        return Ok(false);
    }
    let policy = replay(&rollout.body.policy_name, &rollout.body.content)
        .map_err(|why| Fault::Invalid(format!("the policy is not understood: {why}")))?;
    let expected = Expected::of(&policy, place, &app.cloud.role_arn(&place.account).await?);
    let own = rollout.policy_id.as_deref().unwrap_or_default();
    let earlier = rollout.body.replaces.as_ref().filter(|_| !rollout.released());
    let earlier = earlier.map(|r| r.policy.as_str());
    let named = answered.names(own);
    let shows = probe::in_force(&answered, &expected, own, earlier);
    let said = answered.said();
    let text = format!("stage {}, probed in {place}: {said}", name(rollout, n));
    if shows == Shows::Made {
        let made = answered.made().unwrap_or_default();
        let why = format!(
            "{text}; no probe may make {made}: look at it, delete it, prove probes anew (`ringfence rollout probe`), then resume; until then nothing more is attached, and nothing is probed anywhere"
        );
        stop(app, loaded, State::Failed, vec![why]).await?;
        return Ok(false);
    }
    let (late, probe_for) = (late(app, began_at), app.config.probe_for);
    change(app, &system(), loaded, "rollout.probed", &text, |r| {
        let passed = r.probes.get_mut(&n).is_some_and(|p| {
            p.sees(shows, named, said, now());
            p.passed_at.is_some()
        });
        if shows == Shows::Harm {
            harmed(app, r, n, &format!("{text}, which it is not to deny"));
            return Ok(());
        }
        match passed {
            true => r.why.clear(),
            false if late && shows != Shows::Yes => {
                inconclusive(r, &format!("{text}; it was not seen in force within {probe_for}"));
            }
            false => r.why = vec![r.probes_for()],
        }
        Ok(())
    })
    .await?;
    Ok(true)
}

/// Stages that were seen in force are detached: asks whether it is gone there, all at once, or takes in what came of it. That
/// it cannot be seen holds up nothing but this look, and is said.
pub(super) async fn lifted(app: &App, loaded: Loaded, stages: &[usize]) -> Result<bool, Fault> {
    let fresh = |r: &Rollout, n: &usize| r.probes.get(n).is_some_and(|p| p.detached_at.is_none());
    if stages.iter().any(|n| fresh(&loaded.1, n)) {
        let text = format!("{} stages that are detached", stages.len());
        change(app, &system(), loaded, "rollout.probe", &text, |r| {
            for (_, probed) in
                r.probes.iter_mut().filter(|(n, p)| stages.contains(n) && p.detached_at.is_none())
            {
                probed.goes(now());
            }
            Ok(())
        })
        .await?;
        return Ok(true);
    }
    let mut found = Vec::new();
    for n in stages {
        found.extend(gone(app, &loaded.1, *n).await?.map(|seen| (*n, seen)));
    }
    if found.is_empty() {
        return waits_for(app, loaded, stages).await;
    }
    let lines = |r: &Rollout, (n, seen): &(usize, Seen)| match of(r, *n) {
        Some((place, _)) => format!("stage {} is detached; in {place}: {}", name(r, *n), seen.said),
        None => String::new(),
    };
    let text: Vec<String> = found.iter().map(|one| lines(&loaded.1, one)).collect();
    change(app, &system(), loaded, "rollout.probed", &text.join("; "), |r| {
        r.why.retain(|why| !why.starts_with(LOOKS));
        for ((n, seen), line) in found.into_iter().zip(text.clone()) {
            let Some(probed) = r.probes.get_mut(&n) else { continue };
            probed.looks(seen.shows, seen.late, seen.said, now());
            match (probed.lifted, seen.shows) {
                (_, Shows::Made) => r.why.push(format!("{line}: no probe was to make it; look at it and delete it; nothing is probed until probes are proven anew")),
                (Some((_, true)), _) => r.why.push(line),
                (Some((_, false)), _) => r.why.push(format!("{line}; it was not seen to be gone")),
                (None, _) => {}
            }
        }
        Ok(())
    })
    .await?;
    Ok(true)
}

/// What a look after a stage was detached shows.
struct Seen {
    shows: Shows,
    late: bool,
    said: String,
}

/// `None` while nothing is known yet.
async fn gone(app: &App, rollout: &Rollout, n: usize) -> Result<Option<Seen>, Fault> {
    let Some((place, Some(probed))) = of(rollout, n) else { return Ok(None) };
    if lately(app, probed) {
        return Ok(None);
    }
    let late = late(app, probed.detached_at.unwrap_or(Time(0)));
    let policy = rollout.policy_id.clone().unwrap_or_default();
    let (id, own) = (id(rollout, n, "lifted"), &rollout.body.id);
    let unknown = |said: String| Some(Seen { shows: Shows::Unknown, late: true, said });
    Ok(match probes::since(app, &system(), (&id, own), place, probed.since()).await? {
        Asked::Answered(answered) => {
            let shows = probe::lifted(&answered, &policy);
            Some(Seen { shows, late, said: answered.said() })
        }
        Asked::Off(why) => unknown(format!("nobody looked whether {policy} is gone: {why}")),
        Asked::Waits(_) if late => unknown(format!("no agent has looked whether {policy} is gone")),
        Asked::Waits(_) => None,
    })
}

/// Begins the line that says what it waits for.
const LOOKS: &str = "it is detached; to see that it is gone";

/// Says what it waits for, beside why it is taken back.
async fn waits_for(app: &App, loaded: Loaded, stages: &[usize]) -> Result<bool, Fault> {
    let mut all = back::reasons(&loaded.1);
    if !all.iter().any(|why| why.starts_with(LOOKS)) {
        let most = app.config.probe_for;
        all.push(format!("{LOOKS}, {} stage(s) are probed, for {most} at most", stages.len()));
    }
    if all != loaded.1.why {
        change(app, &system(), loaded, "rollout.wait", &all.join("; "), |r| {
            r.why.clone_from(&all);
            Ok(())
        })
        .await?;
    }
    Ok(false)
}
