//! An act, as exactly one AWS write.

use crate::lease::{Desk, Pipe};
use ringfence_aws::rds::Made;
use ringfence_aws::{Phase, Session};
use ringfence_domain::cloud::{CloudError, ErrorClass};
use ringfence_domain::far;
use ringfence_domain::finding::{Kind, Resource};
use ringfence_domain::id::Region;
use ringfence_domain::rds::{Instance, Snapshot, Sweep};
use ringfence_domain::remediation::{Act, Remediation};
use std::collections::BTreeMap;

/// Does it, in the region in which it is to be asked for.
pub(crate) async fn perform<P: Pipe>(
    desk: &Desk<P>,
    session: &Session,
    region: &Region,
    rem: &Remediation,
    act: &Act,
    seen: &Sweep,
) -> Result<Option<Made>, CloudError> {
    match act {
        Act::CreateSnapshot { .. }
        | Act::CopySnapshot { .. }
        | Act::CreateClusterSnapshot { .. }
        | Act::LastSnapshot { .. }
        | Act::LastCopy { .. }
        | Act::SnapshotTwin { .. } => snapshot(desk, session, region, rem, act).await.map(Some),
        Act::RestoreInstance { .. }
        | Act::RestoreCluster { .. }
        | Act::CreateMember { .. }
        | Act::CreateReplica { .. } => twin(desk, session, region, rem, act).await.map(Some),
        Act::CreateEndpoint { cluster, endpoint, .. } => {
            desk.cloud.create_endpoint(session, region, cluster, endpoint).await.map(Some)
        }
        Act::DeleteEndpoint { endpoint, .. } => {
            desk.cloud.delete_endpoint(session, region, endpoint).await.map(|()| None)
        }
        Act::ModifyInstance { .. } | Act::ModifyCluster { .. } => {
            mend(desk, session, region, rem, act).await.map(|()| None)
        }
        Act::AddRole { .. }
        | Act::SetGroups { .. }
        | Act::Rename { .. }
        | Act::Protect { .. }
        | Act::Start { .. }
        | Act::Stop { .. }
        | Act::Reboot { .. } => place(desk, session, region, act).await.map(|()| None),
        Act::DeleteSnapshot { snapshot } => {
            desk.cloud.delete_snapshot(session, region, snapshot).await.map(|()| None)
        }
        Act::DeleteClusterSnapshot { snapshot } => {
            desk.cloud.delete_cluster_snapshot(session, region, snapshot).await.map(|()| None)
        }
        Act::DeleteCluster { cluster } => {
            desk.cloud.delete_cluster(session, region, cluster).await.map(|()| None)
        }
        Act::CreateGroup { vpc, name } => {
            desk.cloud.create_group(session, region, (vpc, name)).await.map(Some)
        }
        Act::CloseGroup { group } => {
            desk.cloud.close_group(session, region, group).await.map(|()| None)
        }
        Act::CreateBlueGreen { .. } | Act::SwitchOver { .. } | Act::DeleteBlueGreen { .. } => {
            blue_green(desk, session, region, rem, act).await
        }
        Act::Retire { kind, database, resource_id } => {
            let arn = match kind {
                Kind::Instance => {
                    let found = seen.instances.iter().find(|i| i.resource_id == *resource_id);
                    found.map(|i| i.arn.clone())
                }
                Kind::Cluster => {
                    let found = seen.clusters.iter().find(|c| c.resource_id == *resource_id);
                    found.map(|c| c.arn.clone())
                }
                Kind::Snapshot => {
                    // The time alone does not tell two apart that were made at once.
                    let is = |s: &&Snapshot| s.id == *database && s.resource_id == *resource_id;
                    seen.snapshots.iter().find(is).map(|s| s.arn.clone())
                }
            };
            let arn = arn.ok_or_else(|| confused(database))?;
            // A session that can delete this one, and nothing else that we did not make.
            let phase = Phase::Decommission(arn);
            let session = desk.cloud.enter(&rem.account, phase, &rem.id).await?;
            desk.cloud.retire(&session, region, *kind, far::name(database)).await.map(|()| None)
        }
    }
}

async fn blue_green<P: Pipe>(
    desk: &Desk<P>,
    session: &Session,
    region: &Region,
    rem: &Remediation,
    act: &Act,
) -> Result<Option<Made>, CloudError> {
    let cloud = &desk.cloud;
    match act {
        Act::CreateBlueGreen { name } => {
            // "For Aurora, encryption applies at the DB cluster level" (API reference, TargetResourceConfiguration).
            let parts = rem.parts();
            let keyed = parts.iter().filter(|p| p.own.is_some()).map(|p| p.arn);
            let all = (rem.source.arn(), &keyed.collect::<Vec<_>>()[..]);
            let name = desk.settings.names.of(name);
            let made =
                cloud.create_blue_green(session, region, &name, all, &rem.key_arn, &rem.id).await;
            made.map(Some)
        }
        Act::SwitchOver { deployment, .. } => {
            cloud.switch_over(session, region, deployment).await.map(|()| None)
        }
        // A session that can delete this one and what it made.
        Act::DeleteBlueGreen { deployment, green: true, .. } => {
            let phase = Phase::Green(deployment.clone());
            let session = desk.cloud.enter(&rem.account, phase, &rem.id).await?;
            cloud.delete_blue_green(&session, region, deployment, true).await.map(|()| None)
        }
        Act::DeleteBlueGreen { deployment, .. } => {
            cloud.delete_blue_green(session, region, deployment, false).await.map(|()| None)
        }
        _ => Err(confused(rem.source.name())),
    }
}

async fn snapshot<P: Pipe>(
    desk: &Desk<P>,
    session: &Session,
    region: &Region,
    rem: &Remediation,
    act: &Act,
) -> Result<Made, CloudError> {
    let cloud = &desk.cloud;
    let name = |name: &str| desk.settings.names.of(name);
    let source = rem.source.name();
    match act {
        Act::CreateSnapshot { snapshot } => {
            cloud.create_snapshot(session, region, source, &name(snapshot), &rem.id).await
        }
        Act::CopySnapshot { from, to } | Act::LastCopy { from, to } => {
            // Scratch needs no tags but ours.
            let own = match &rem.source {
                Resource::Snapshot { snapshot, .. } => snapshot.tags.clone(),
                Resource::Instance { .. } | Resource::Cluster { .. } => BTreeMap::new(),
            };
            let names = (from.as_str(), name(to));
            let (key, id) = (&rem.key_arn, &rem.id);
            cloud.copy_snapshot(session, region, (names.0, &names.1), key, &own, id).await
        }
        // After the swap the original's name is the twin's.
        Act::CreateClusterSnapshot { snapshot } | Act::SnapshotTwin { snapshot } => {
            cloud.create_cluster_snapshot(session, region, source, &name(snapshot), &rem.id).await
        }
        Act::LastSnapshot { snapshot } => {
            cloud.create_snapshot(session, region, &rem.held(), &name(snapshot), &rem.id).await
        }
        _ => Err(confused(source)),
    }
}

async fn twin<P: Pipe>(
    desk: &Desk<P>,
    session: &Session,
    region: &Region,
    rem: &Remediation,
    act: &Act,
) -> Result<Made, CloudError> {
    let cloud = &desk.cloud;
    let name = |name: &str| desk.settings.names.of(name);
    match (act, &*rem.twin_spec()) {
        (Act::RestoreInstance { snapshot, instance: id }, Resource::Instance { instance, .. }) => {
            let plain = rem.intents.get(&act.key()).is_some_and(|i| i.plain_gp3);
            let names = (snapshot.as_str(), name(id));
            cloud
                .restore_instance(session, region, (names.0, &names.1), instance, &rem.id, plain)
                .await
        }
        (Act::RestoreCluster { snapshot, cluster: id }, Resource::Cluster { cluster, .. }) => {
            let names = (snapshot.as_str(), name(id));
            let key = &rem.key_arn;
            cloud.restore_cluster(session, region, (names.0, &names.1), cluster, key, &rem.id).await
        }
        (Act::CreateMember { source, instance, cluster }, Resource::Cluster { members, .. }) => {
            let member = one_of(members, source)?;
            cloud.create_member(session, region, (&name(instance), cluster), member, &rem.id).await
        }
        (Act::CreateReplica { source, instance, of }, Resource::Instance { replicas, .. }) => {
            let replica = one_of(replicas, source)?;
            let made = name(far::name(instance));
            let of = far::source(instance, of, rem.source.arn());
            // Across regions the key must be named; within one it is its source's.
            let key = of.starts_with("arn:").then(|| rem.key_of(instance));
            cloud.create_replica(session, region, (&made, &of), (replica, key), &rem.id).await
        }
        _ => Err(confused(rem.source.name())),
    }
}

async fn mend<P: Pipe>(
    desk: &Desk<P>,
    session: &Session,
    region: &Region,
    rem: &Remediation,
    act: &Act,
) -> Result<(), CloudError> {
    let cloud = &desk.cloud;
    match (act, &*rem.twin_spec()) {
        (Act::ModifyInstance { instance: id, fields }, spec) => {
            let part = rem.parts().into_iter().find(|p| p.twin == *id);
            let of = part.map(|p| p.id.to_owned()).unwrap_or_default();
            let want = spec.instances().find(|i| i.id == of).ok_or_else(|| confused(id))?;
            let name = far::name(id);
            cloud.modify_instance(session, region, name, &want.settings, fields).await
        }
        (Act::ModifyCluster { cluster: id, fields }, Resource::Cluster { cluster, .. }) => {
            cloud.modify_cluster(session, region, id, &cluster.settings, fields).await
        }
        _ => Err(confused(rem.source.name())),
    }
}

async fn place<P: Pipe>(
    desk: &Desk<P>,
    session: &Session,
    region: &Region,
    act: &Act,
) -> Result<(), CloudError> {
    let cloud = &desk.cloud;
    match act {
        Act::AddRole { kind, database, role, feature } => {
            cloud.add_role(session, region, (*kind, far::name(database)), (role, feature)).await
        }
        Act::SetGroups { kind, database, groups, .. } => {
            cloud.set_groups(session, region, *kind, far::name(database), groups).await
        }
        Act::Rename { kind, from, to, .. } => {
            let names = (far::name(from), far::name(to));
            cloud.rename(session, region, *kind, names).await
        }
        Act::Protect { kind, database, on, .. } => {
            cloud.protect(session, region, *kind, far::name(database), *on).await
        }
        Act::Start { kind, database, .. } => {
            cloud.start(session, region, *kind, far::name(database)).await
        }
        Act::Stop { kind, database, .. } => {
            cloud.stop(session, region, *kind, far::name(database)).await
        }
        Act::Reboot { instance, .. } => cloud.reboot(session, region, far::name(instance)).await,
        _ => Err(confused(&act.title())),
    }
}

fn one_of<'a>(list: &'a [Instance], id: &str) -> Result<&'a Instance, CloudError> {
    list.iter().find(|m| m.id == id).ok_or_else(|| confused(id))
}

/// A step that does not fit its source: nothing is called, a person is asked.
pub(crate) fn confused(id: &str) -> CloudError {
    CloudError {
        class: ErrorClass::Invalid,
        operation: "ringfence".into(),
        code: "Confused".into(),
        message: format!("the step does not fit the source of {id}"),
    }
}
