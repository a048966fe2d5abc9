//! A blue/green deployment in place of snapshot, copy, restore and renames: AWS makes the twin, encrypted under the
//! key, keeps it in step with the original, and gives it the name (RDS guide, "Using Amazon RDS Blue/Green
//! Deployments"; API reference, TargetResourceConfiguration: `TargetKmsKeyId` encrypts what is unencrypted).
//!
//! Writers go on until the switchover: AWS itself stops them for it, waits until the green environment has all, and
//! goes back where that takes too long. So nothing need be proven quiet; and there is no way back afterwards, for
//! nothing replicates to the old environment. Greens have no tag of ours: what they are is known by the deployment
//! that we made, and from then on by their immutable ids.

mod down;

pub(super) use down::discard;

use down::{delete, take_down};

use super::place::settle;
use super::retire::unsure;
use super::swap::{differences, hold};
use super::unit::{Db, Part, bearer, find, pairs};
use super::{
    Act, Bounds, CREATE_FOR_MAX, MODIFY_FOR_MAX, Mark, Remediation, Step, broken, create, fidelity,
    mend, mend_cluster, repeat, wait_for,
};
use crate::finding::{Kind, Resource};
use crate::rds::{BlueGreen, Sweep, name_in};
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of the deployment's databases.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Green {
    /// The twins that it made, by the immutable ids of their originals.
    pub twins: BTreeMap<String, Twin>,
    /// Milestone: switched over; the names that the originals have since, by their immutable ids.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub held: BTreeMap<String, String>,
    /// When it was seen that AWS encrypts green environments of this engine in this account: the twin was verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proven_at: Option<Time>,
}

/// A database of a green environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Twin {
    /// The name that AWS gave it.
    pub name: String,
    /// Its immutable id.
    pub resource_id: String,
}

/// The names that AWS gives originals at a switchover end with this and a number (RDS guide, "Switching a blue/green
/// deployment").
const OLD: &str = "-old";

/// How a cluster may show what AWS feeds from it, and what it is fed from, until the switchover.
const REPLICAS: &str = "ReadReplicaIdentifiers";
const FED_BY: &str = "ReplicationSourceIdentifier";

/// The name that an original most likely gets.
pub(super) fn old_name(name: &str) -> String {
    format!("{name}{OLD}1")
}

impl Green {
    /// Whether the names have changed.
    pub fn switched(&self) -> bool {
        !self.held.is_empty()
    }
}

impl Remediation {
    /// What is known of its blue/green deployment, where its plan says that there is one.
    pub fn green(&self) -> Option<&Green> {
        self.swap.as_ref()?.green.as_ref()
    }

    /// The name of its blue/green deployment.
    pub fn deployment(&self) -> String {
        format!("ringfence-{}", self.id)
    }
}

/// The deployment of a remediation: the one of its name, or that it is somebody else's.
fn deployment<'a>(rem: &Remediation, seen: &'a Sweep) -> Result<Option<&'a BlueGreen>, Step> {
    let name = rem.deployment();
    let Some(found) = seen.blue_greens.iter().find(|b| b.name == name) else { return Ok(None) };
    if found.made_by.as_deref() != Some(rem.id.as_str()) {
        return Err(Step::AskHuman(format!(
            "the blue/green deployment {name} exists and was not made by {}, or has lost its tag",
            rem.id
        )));
    }
    Ok(Some(found))
}

/// The table of the twin; the first row that holds is the answer.
pub(super) fn decide(rem: &Remediation, seen: &Sweep, now: Time, bounds: Bounds) -> Step {
    if rem.verified_at.is_some() {
        return Step::Finish;
    }
    let made = match deployment(rem, seen) {
        Ok(made) => made,
        Err(step) => return step,
    };
    if let Some(why) = &rem.giving_up {
        let down = take_down(rem, made, seen, now, bounds);
        return down.unwrap_or_else(|| Step::AskHuman(why.clone()));
    }
    // While it is made, what shows of it may look like anything.
    match made.map(|m| (m.status.as_str(), m)) {
        Some(("PROVISIONING", made)) => {
            let what = format!("the blue/green deployment {}", made.id);
            return wait_for(rem, "deployment", &what, "being provisioned", CREATE_FOR_MAX, now);
        }
        None | Some(("AVAILABLE", _)) => {}
        Some((status, made)) => return not_ready(rem, made, status, now),
    }
    if let Some(why) = source_changed(rem, seen) {
        return Step::AskHuman(why);
    }
    let Some(made) = made else { return begin(rem, seen, now, bounds) };
    let twins = match twins(rem, made, seen) {
        Ok(twins) => twins,
        Err(missing) => {
            let what = format!("the green environment of {}", made.id);
            return wait_for(rem, "deployment", &what, &missing, MODIFY_FOR_MAX, now);
        }
    };
    if rem.green().is_none_or(|g| g.twins != twins) {
        return Step::Mark(Mark::Greens { twins });
    }
    unequal(rem, seen, now, bounds).unwrap_or(Step::Mark(Mark::Verified))
}

/// Whether a name is one that AWS gives the counterpart of this database.
fn is_green(name: &str, of: &str) -> bool {
    name.strip_prefix(of).is_some_and(|rest| rest.starts_with("-green-"))
}

/// Why the original is no longer what was planned. Its counterparts may show as its replicas, under names that the
/// deployment does not say yet.
fn source_changed(rem: &Remediation, seen: &Sweep) -> Option<String> {
    let parts = rem.parts();
    let green = |name: &str| parts.iter().any(|p| is_green(name_in(name), p.id));
    let mut own = Sweep {
        instances: seen.instances.clone(),
        clusters: seen.clusters.clone(),
        ..Sweep::default()
    };
    own.instances.retain(|i| !green(&i.id));
    for one in &mut own.instances {
        one.replicas.retain(|name| !green(name));
    }
    for one in &mut own.clusters {
        if one.foreign.get(REPLICAS).is_some_and(|all| all.split(", ").all(green)) {
            one.foreign.remove(REPLICAS);
        }
    }
    match &rem.source {
        Resource::Instance { .. } => super::instance::source_changed(rem, &own),
        Resource::Cluster { .. } => super::cluster::source_changed(rem, &own),
        Resource::Snapshot { snapshot, .. } => Some(format!("{} is a snapshot", snapshot.id)),
    }
}

/// Asks for the deployment, once the original is available.
fn begin(rem: &Remediation, seen: &Sweep, now: Time, bounds: Bounds) -> Step {
    let parts = rem.parts();
    for part in &parts {
        let Some(db) = find(seen, part.kind, part.resource_id) else { continue };
        if broken(db.status) || db.status == "stopped" || db.status == "deleting" {
            let why = "a blue/green deployment needs it available";
            return Step::AskHuman(format!("{} is {}: {why}", db.id, db.status));
        }
        if db.status != "available" && !rem.intents.contains_key("deployment") {
            return wait_for(rem, "deployment", db.id, db.status, MODIFY_FOR_MAX, now);
        }
    }
    create(rem, Act::CreateBlueGreen { name: rem.deployment() }, now, bounds)
}

/// What a deployment that is neither being made nor ready means on the way to a twin.
fn not_ready(rem: &Remediation, made: &BlueGreen, status: &str, now: Time) -> Step {
    let id = &made.id;
    match status {
        "DELETING" => {
            let what = format!("the blue/green deployment {id}");
            wait_for(rem, "deployment", &what, "being deleted", MODIFY_FOR_MAX, now)
        }
        "INVALID_CONFIGURATION" => Step::AskHuman(format!(
            "the blue/green deployment {id} is {}: look at it at AWS; `ringfence remediation cancel` deletes it with its green environment",
            made.doing()
        )),
        _ => Step::AskHuman(format!(
            "the blue/green deployment {id} is {}, and nobody ordered a switchover",
            made.doing()
        )),
    }
}

/// The counterpart of each database of the unit; or which is not there yet.
fn twins(
    rem: &Remediation,
    made: &BlueGreen,
    seen: &Sweep,
) -> Result<BTreeMap<String, Twin>, String> {
    let parts = rem.parts();
    let originals: BTreeSet<&str> = parts.iter().map(|p| p.resource_id).collect();
    let one = |part: &Part<'_>| {
        let name = made.target_of(part.arn).map(str::to_owned);
        let name = name.or_else(|| counterpart(made, part, seen));
        let name = name.ok_or_else(|| format!("without a counterpart of {} yet", part.id))?;
        let id = bearer(seen, part.kind, &name);
        let resource_id = id.ok_or_else(|| format!("not showing {name} yet"))?.to_owned();
        if originals.contains(resource_id.as_str()) {
            return Err(format!("naming {name} as its own counterpart"));
        }
        Ok((part.resource_id.to_owned(), Twin { name, resource_id }))
    };
    parts.iter().map(one).collect()
}

/// The counterpart of a member of a cluster, where the deployment names only the clusters: the member of the green
/// cluster whose name begins like its own.
fn counterpart(made: &BlueGreen, part: &Part<'_>, seen: &Sweep) -> Option<String> {
    if part.own.is_some() {
        return None;
    }
    let green = made.target_of(&made.source).and_then(|name| seen.cluster(name))?;
    let mut found = green.members.iter().filter(|m| is_green(&m.id, part.id));
    let first = found.next()?;
    found.next().is_none().then(|| first.id.clone())
}

/// What the twins are still short of: each available, encrypted under the key, and equal; `None` when they are.
fn unequal(rem: &Remediation, seen: &Sweep, now: Time, bounds: Bounds) -> Option<Step> {
    let pairs = match pairs(rem, seen) {
        Ok(pairs) => pairs,
        Err(why) => return Some(Step::AskHuman(why)),
    };
    // Before anything is set on them: it may be that AWS did not encrypt.
    for pair in &pairs {
        let twin = &pair.twin;
        if let Some(step) = up(rem, twin, now) {
            return Some(step);
        }
        let what = ("the green database", twin.id);
        if let Some(why) = rem.other_key(what, twin.encryption, twin.kms_key) {
            return Some(Step::Mark(Mark::GivingUp { why }));
        }
    }
    pairs.iter().find_map(|pair| {
        settle(rem, &pair.twin, &format!("modify {}", pair.twin.id), now)
            .or_else(|| equal(rem, &pair.part, &pair.twin, seen, now, bounds))
    })
}

/// Waits until a database of the green environment is available.
fn up(rem: &Remediation, twin: &Db<'_>, now: Time) -> Option<Step> {
    if broken(twin.status) {
        return Some(Step::AskHuman(format!("the twin {} is {}", twin.id, twin.status)));
    }
    let modify = format!("modify {}", twin.id);
    let (key, max) = match rem.intents.contains_key(&modify) {
        true => (modify.as_str(), MODIFY_FOR_MAX),
        false => ("deployment", CREATE_FOR_MAX),
    };
    (twin.status != "available").then(|| wait_for(rem, key, twin.id, twin.status, max, now))
}

/// Makes one twin what its original is; `None` once it is. AWS says that a green environment copies the topology and
/// the features of the blue one; which of the settings that is, it does not say.
fn equal(
    rem: &Remediation,
    part: &Part<'_>,
    twin: &Db<'_>,
    seen: &Sweep,
    now: Time,
    bounds: Bounds,
) -> Option<Step> {
    match (&rem.source, part.kind) {
        (Resource::Cluster { cluster: want, .. }, Kind::Cluster) => {
            let mut have = seen.cluster(twin.id)?.clone();
            if !rem.placed() && !want.foreign.contains_key(FED_BY) {
                have.foreign.remove(FED_BY);
            }
            mend_cluster(rem, (want, &have), now, bounds)
        }
        (source, _) => {
            let (want, have) =
                (source.instances().find(|i| i.id == part.id)?, seen.instance(twin.id)?);
            if !have.out_of_sync.is_empty() {
                let what = format!("{}: {}", have.id, have.out_of_sync.join(", "));
                let key = format!("modify {}", have.id);
                return Some(wait_for(rem, &key, &what, "being applied", MODIFY_FOR_MAX, now));
            }
            let found = match part.own {
                Some(_) => fidelity::instance(want, have),
                None => fidelity::member(want, have),
            };
            mend("the twin", rem, (want, have), found, now, bounds)
        }
    }
}

/// The table of a switchover; the first row that holds is the answer.
pub(super) fn cut_over(rem: &Remediation, seen: &Sweep, now: Time, bounds: Bounds) -> Step {
    let Some(swap) = &rem.swap else {
        return Step::AskHuman("its plan does not swap".into());
    };
    if swap.done_at.is_some() {
        return hold(rem, swap, seen, now, bounds);
    }
    if swap.began_at.is_some() {
        return match differences(rem, seen, &rem.source) {
            Ok(()) => Step::Mark(Mark::CutOver),
            Err(why) => Step::AskHuman(why),
        };
    }
    let made = match deployment(rem, seen) {
        Ok(made) => made,
        Err(step) => return step,
    };
    // Whoever did it, and whether the deployment is still there: what bears the name decides.
    if has_name(rem, seen) {
        return switched(rem, seen, now);
    }
    let Some(made) = made else {
        return Step::AskHuman(format!(
            "its blue/green deployment {} is gone, and it was not switched over",
            rem.deployment()
        ));
    };
    let asked = rem.intents.get("switch over").map(|i| i.at);
    let recent = asked.is_some_and(|at| now.since(at) < bounds.expect_for);
    match made.status.as_str() {
        // This look may be older than what was asked for.
        "AVAILABLE" | "SWITCHOVER_FAILED" if recent => {
            Step::Wait(format!("asked AWS to switch {} over; it does not show yet", made.id))
        }
        "SWITCHOVER_IN_PROGRESS" | "SWITCHOVER_COMPLETED" => {
            wait_for(rem, "switch over", &made.id, "switching over", MODIFY_FOR_MAX, now)
        }
        "SWITCHOVER_FAILED" if asked.is_some() => Step::AskHuman(format!(
            "AWS did not switch over, and the original is as before: {}; mend that, and retry, or `ringfence remediation discard {}`",
            made.doing(),
            rem.id
        )),
        "AVAILABLE" | "SWITCHOVER_FAILED" => switch(rem, made, seen, now, bounds),
        _ => Step::AskHuman(format!("the blue/green deployment is {}", made.doing())),
    }
}

/// Whether the twin bears the original's name.
fn has_name(rem: &Remediation, seen: &Sweep) -> bool {
    let top = &rem.parts()[0];
    let id = super::unit::twin_id(rem, top);
    id.and_then(|id| find(seen, top.kind, id)).is_some_and(|db| db.id == top.id)
}

/// Deletes a deployment that is done: the databases of it are ordinary ones again, and those that are kept can be
/// stopped. `None` once it is gone. "RDS removes read-only protections from the previous production" then (Aurora
/// guide, "Deleting a blue/green deployment"): so only after the original is isolated.
pub(super) fn ended(rem: &Remediation, seen: &Sweep, now: Time, bounds: Bounds) -> Option<Step> {
    rem.green()?;
    match deployment(rem, seen) {
        Ok(made) => made.map(|made| delete(rem, made, false, now, bounds)),
        Err(step) => Some(step),
    }
}

/// Asks for the switchover, once all is as it was verified.
fn switch(rem: &Remediation, made: &BlueGreen, seen: &Sweep, now: Time, bounds: Bounds) -> Step {
    let act = Act::SwitchOver {
        deployment: made.id.clone(),
        kind: rem.kind,
        database: rem.source.name().to_owned(),
        resource_id: rem.source.resource_id().to_owned(),
    };
    if let Some(why) = source_changed(rem, seen) {
        return Step::AskHuman(why);
    }
    let verified = rem.green().is_some_and(|g| twins(rem, made, seen).as_ref() == Ok(&g.twins));
    if !verified {
        return Step::AskHuman(
            "its green environment is no longer the one that was verified".into(),
        );
    }
    match unequal(rem, seen, now, bounds) {
        // What it lacks now it had when it was verified: somebody changed it.
        Some(Step::Act(act)) => Step::AskHuman(format!(
            "its twin changed since it was verified ({}): `ringfence remediation discard {}`, and retry",
            act.title(),
            rem.id
        )),
        Some(Step::Mark(Mark::GivingUp { why })) => Step::AskHuman(why),
        Some(step) => step,
        None => repeat(rem, act, now, bounds),
    }
}

/// What a completed switchover shows: each twin has its original's name, each original another, or somebody deleted
/// it. Until it does, a read may be older than it.
fn switched(rem: &Remediation, seen: &Sweep, now: Time) -> Step {
    let mut held = BTreeMap::new();
    for part in rem.parts() {
        let twin = match super::unit::twin(rem, &part, seen) {
            Ok(twin) => twin,
            Err(why) => return Step::AskHuman(why),
        };
        let source = find(seen, part.kind, part.resource_id);
        if twin.id != part.id || source.is_some_and(|db| db.id == part.id) {
            let status = format!("not showing {} under its new name yet", part.id);
            return wait_for(rem, "switch over", "the switchover", &status, MODIFY_FOR_MAX, now);
        }
        if let Some(step) = settle(rem, &twin, "switch over", now) {
            return step;
        }
        let name = source.map_or_else(|| old_name(part.id), |db| db.id.to_owned());
        held.insert(part.resource_id.to_owned(), name);
    }
    Step::Mark(Mark::SwitchedOver { held })
}

/// The table of a way back, which there is only until AWS has switched over.
pub(super) fn roll_back(rem: &Remediation, seen: &Sweep, now: Time, bounds: Bounds) -> Step {
    let made = match deployment(rem, seen) {
        Ok(made) => made,
        Err(step) => return step,
    };
    match made.map(|m| (m.status.as_str(), m)) {
        _ if has_name(rem, seen) => Step::Mark(Mark::NoWayBack {
            why: "AWS completed the switchover first, and nothing replicates back".into(),
        }),
        Some(("SWITCHOVER_IN_PROGRESS" | "SWITCHOVER_COMPLETED", m)) => {
            let what =
                format!("AWS cannot be stopped; the way back holds if it gives up: {}", m.id);
            wait_for(rem, "switch over", &what, "switching over", MODIFY_FOR_MAX, now)
        }
        // What was asked for last may still show.
        _ => unsure(rem, now, bounds).unwrap_or(Step::Finish),
    }
}
