//! Worlds for the tables of `decide`, described by what differs from a plain one.

use super::{Act, Bounds, Intent, Mark, Names, Remediation, State, Step};
use crate::finding::{Kind, Resource};
use crate::id::{AccountId, Region};
use crate::rds::{
    Cluster, ClusterSettings, Encryption, Instance, InstanceSettings, MemberRef, Snapshot, Sweep,
};
use crate::time::{Span, Time};
use std::collections::BTreeMap;

const NOW: Time = Time(1_000_000_000);
const KEY: &str = "arn:aws:kms:eu-west-1:111122223333:key/1";
pub(crate) const BOUNDS: Bounds = Bounds {
    expect_for: Span::seconds(60),
    quiet_for: Span::seconds(900),
    quiet_writes: 5,
    metric_period: Span::seconds(60),
    measure_every: Span::seconds(60),
    hold: Span::hours(24 * 7),
    hold_look: Span::hours(6),
    check: false,
};

/// How a world differs from one where only the source exists.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Change {
    SourceStatus(&'static str),
    SourceGone,
    SourceReplaced,
    SourceChanged,
    SourceEncrypted,
    /// key, attempts, seconds ago
    Intended(&'static str, u32, i64),
    Made(&'static str),
    NotRecorded(&'static str),
    OtherArn(&'static str),
    Snapshot(&'static str),
    SnapshotForeign,
    Copy(&'static str),
    CopyPlain,
    CopyOtherKey,
    Twin(&'static str),
    TwinForeign,
    TwinPlain,
    TwinOtherKey,
    TwinReplaced,
    TwinPending,
    TwinDiffers(&'static str),
    TwinUnprotected,
    Member(&'static str, &'static str),
    MemberDiffers(&'static str),
    WriterIs(&'static str),
    Verified,
    GivingUp,
    Later(Span),
}

pub(crate) fn account() -> AccountId {
    "111122223333".parse().unwrap()
}

pub(crate) fn region() -> Region {
    "eu-west-1".parse().unwrap()
}

/// A replica of `orders` in another region.
pub(crate) const FAR: &str = "arn:aws:rds:us-east-1:111122223333:db:orders";

/// A tree with that replica, and what its region is given.
pub(crate) fn across(rem: &mut Remediation, seen: &mut Sweep) {
    let (mut main, mut far) = (instance("orders"), instance("far"));
    (far.id, far.arn, far.replica_source) = (FAR.into(), FAR.into(), Some("orders".into()));
    main.replicas = vec![FAR.into()];
    rem.source = Resource::Instance { instance: main.clone(), replicas: vec![far.clone()] };
    let there: Region = "us-east-1".parse().unwrap();
    rem.far_keys = [(there.clone(), FAR_KEY.to_owned())].into();
    if let Some(swap) = &mut rem.swap {
        swap.far_isolation = [(there, "sg-far".to_owned())].into();
    }
    let twin = seen.instances.iter().find(|i| i.id == "encrypted-orders").cloned();
    seen.instances = [main, far].into_iter().chain(twin).collect();
}

pub(crate) const FAR_KEY: &str = "arn:aws:kms:us-east-1:111122223333:key/far";

pub(crate) fn instance(id: &str) -> Instance {
    Instance {
        id: id.into(),
        arn: format!("arn:aws:rds:eu-west-1:111122223333:db:{id}"),
        resource_id: format!("db-{}", id.to_uppercase()),
        engine: "postgres".into(),
        status: "available".into(),
        encryption: Encryption::None,
        kms_key: None,
        cluster: None,
        replica_source: None,
        replicas: vec![],
        vpc: Some("vpc-1".into()),
        address: None,
        window: None,
        jobs_known: false,
        managed_by: None,
        settings: InstanceSettings {
            db_instance_class: "db.m5.large".into(),
            allocated_storage: Some(100),
            storage_type: Some("gp3".into()),
            availability_zone: Some("eu-west-1a".into()),
            backup_retention_period: 7,
            port: Some(5432),
            db_parameter_group: Some("pg".into()),
            deletion_protection: true,
            monitoring_interval: 60,
            associated_roles: [("s3Import".into(), "arn:role".into())].into(),
            tags: BTreeMap::from([("team".into(), "a".into())]),
            ..InstanceSettings::default()
        },
        inherited: BTreeMap::from([("MasterUsername".into(), "admin".into())]),
        foreign: BTreeMap::new(),
        pending: vec![],
        out_of_sync: vec![],
        promotion_tier: None,
        made_by: None,
    }
}

pub(crate) fn member(id: &str, cluster: &str) -> Instance {
    Instance {
        engine: "aurora-postgresql".into(),
        cluster: Some(cluster.into()),
        promotion_tier: Some(1),
        ..instance(id)
    }
}

pub(crate) fn cluster(id: &str, members: &[&str]) -> Cluster {
    Cluster {
        id: id.into(),
        arn: format!("arn:aws:rds:eu-west-1:111122223333:cluster:{id}"),
        resource_id: format!("cluster-{}", id.to_uppercase()),
        engine: "aurora-postgresql".into(),
        engine_version: "15.4".into(),
        status: "available".into(),
        address: None,
        encryption: Encryption::None,
        kms_key: None,
        members: members
            .iter()
            .map(|m| MemberRef { id: (*m).into(), writer: *m == "m2" || members.len() == 1 })
            .collect(),
        endpoints: vec![],
        settings: ClusterSettings {
            backup_retention_period: Some(7),
            port: Some(5432),
            deletion_protection: true,
            ..ClusterSettings::default()
        },
        inherited: BTreeMap::new(),
        foreign: BTreeMap::new(),
        pending: vec![],
        window: None,
        jobs_known: false,
        managed_by: None,
        made_by: None,
    }
}

/// An old snapshot that somebody made.
pub(crate) fn old_snapshot(id: &str) -> Snapshot {
    let settings = [("Engine", "postgres"), ("AllocatedStorage", "100"), ("Port", "5432")];
    Snapshot {
        arn: format!("arn:aws:rds:eu-west-1:111122223333:snapshot:{id}"),
        made_by: None,
        resource_id: "db-ORDERS@old".into(),
        settings: settings.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        tags: BTreeMap::from([("team".into(), "a".into())]),
        ..snapshot(id, "orders", "available")
    }
}

/// The world of an old snapshot.
pub(crate) fn snapshot_world() -> (Remediation, Sweep, Time) {
    let snapshot = old_snapshot("monthly");
    let seen = Sweep { snapshots: vec![snapshot.clone()], ..Sweep::default() };
    let source = Resource::Snapshot { snapshot, of_cluster: false, shared: Ok(vec![]) };
    (remediation(source, Kind::Snapshot), seen, NOW)
}

fn snapshot(id: &str, of: &str, status: &str) -> Snapshot {
    Snapshot {
        id: id.into(),
        arn: format!("arn:snapshot:{id}"),
        of: of.into(),
        status: status.into(),
        encryption: Encryption::None,
        kms_key: None,
        created_at: Some(NOW),
        made_by: Some("rem-1".into()),
        resource_id: String::new(),
        settings: BTreeMap::new(),
        tags: BTreeMap::new(),
    }
}

fn remediation(source: Resource, kind: Kind) -> Remediation {
    Remediation {
        id: "rem-1".into(),
        plan: "pl-1".into(),
        plan_hash: "h".into(),
        finding: "fi-1".into(),
        account: account(),
        region: region(),
        kind,
        key_arn: KEY.into(),
        far_keys: BTreeMap::new(),
        names: Names::new("rem-1", &source),
        source,
        approved_at: NOW,
        begun_at: None,
        checked: None,
        verified_at: None,
        giving_up: None,
        cancelled: false,
        failure: None,
        forgiven: false,
        priority: 0,
        goal: super::Goal::Twin,
        swap: None,
        windows: vec![],
        rounds: 0,
        activity: None,
        note: None,
        retirement: None,
        intents: BTreeMap::new(),
        state: State::Pending,
        why: String::new(),
        wake_at: NOW,
    }
}

/// Records that an intent made the thing with that ARN.
fn record(rem: &mut Remediation, key: &str, arn: &str) {
    let act = Act::CreateSnapshot { snapshot: "x".into() };
    let intent = Intent {
        act,
        first_at: NOW,
        at: NOW,
        attempts: 1,
        made: Some(arn.into()),
        resource_id: None,
        done: false,
        refused: None,
        plain_gp3: false,
    };
    rem.intents.insert(key.into(), intent);
}

/// The changes that are the same for instances and clusters; the rest is given back.
fn common(
    rem: &mut Remediation,
    seen: &mut Sweep,
    now: &mut Time,
    change: Change,
) -> Option<Change> {
    let cluster = rem.kind == Kind::Cluster;
    let name = rem.names.snapshot.clone();
    let list = |seen: &mut Sweep, s: Snapshot| match cluster {
        true => seen.cluster_snapshots.push(s),
        false => seen.snapshots.push(s),
    };
    match change {
        Change::Intended(key, attempts, ago) => {
            let act = Act::CreateSnapshot { snapshot: name };
            let at = Time(now.0 - ago * 1000);
            rem.intents.insert(
                key.into(),
                Intent {
                    act,
                    first_at: at,
                    at,
                    attempts,
                    made: None,
                    resource_id: None,
                    done: false,
                    refused: None,
                    plain_gp3: false,
                },
            );
        }
        Change::Made(key) => {
            rem.intents.get_mut(key).unwrap().made = Some("arn".into());
        }
        Change::NotRecorded(key) => {
            rem.intents.get_mut(key).unwrap().made = None;
        }
        Change::OtherArn(key) => {
            rem.intents.get_mut(key).unwrap().made = Some("arn:another".into());
        }
        Change::Snapshot(status) => {
            let s = snapshot(&name, "source", status);
            record(rem, "snapshot", &s.arn);
            list(seen, s);
        }
        Change::SnapshotForeign => {
            for s in seen.snapshots.iter_mut().chain(&mut seen.cluster_snapshots) {
                s.made_by = None;
            }
        }
        Change::Verified => rem.verified_at = Some(NOW),
        Change::GivingUp => rem.giving_up = Some("why".into()),
        Change::Later(span) => *now = now.plus(span),
        other => return Some(other),
    }
    None
}

/// A world around the instance `orders`.
pub(crate) fn instance_world(changes: &[Change]) -> (Remediation, Sweep, Time) {
    let source = instance("orders");
    let resource = Resource::Instance { instance: source.clone(), replicas: vec![] };
    let mut rem = remediation(resource, Kind::Instance);
    let mut seen = Sweep { instances: vec![source.clone()], ..Sweep::default() };
    let mut now = NOW;
    for change in changes {
        let Some(change) = common(&mut rem, &mut seen, &mut now, *change) else {
            continue;
        };
        let last = seen.instances.len() - 1;
        match change {
            Change::SourceStatus(status) => seen.instances[0].status = status.into(),
            Change::SourceGone => drop(seen.instances.remove(0)),
            Change::SourceReplaced => seen.instances[0].resource_id = "db-OTHER".into(),
            Change::SourceChanged => seen.instances[0].settings.backup_retention_period = 9,
            Change::SourceEncrypted => seen.instances[0].encryption = Encryption::SseKms,
            Change::Copy(status) => {
                let mut s = snapshot(&rem.names.copy, "orders", status);
                (s.encryption, s.kms_key) = (Encryption::SseKms, Some(KEY.into()));
                record(&mut rem, "copy", &s.arn);
                seen.snapshots.push(s);
            }
            Change::CopyPlain => seen.snapshots[0].encryption = Encryption::None,
            Change::CopyOtherKey => seen.snapshots[0].kms_key = Some("arn:other".into()),
            Change::Twin(status) => {
                let twin = Instance {
                    status: status.into(),
                    encryption: Encryption::SseKms,
                    kms_key: Some(KEY.into()),
                    made_by: Some("rem-1".into()),
                    settings: source.settings.clone(),
                    ..instance("encrypted-orders")
                };
                seen.instances.push(twin);
            }
            Change::TwinForeign => seen.instances[last].made_by = None,
            Change::TwinPlain => seen.instances[last].encryption = Encryption::None,
            Change::TwinPending => seen.instances[last].pending = vec!["MultiAZ".into()],
            Change::TwinDiffers("port") => seen.instances[last].settings.port = Some(1),
            Change::TwinDiffers("no role") => {
                seen.instances[last].settings.associated_roles.clear();
            }
            Change::TwinDiffers("another role") => {
                let roles = &mut seen.instances[last].settings.associated_roles;
                roles.insert(("s3Export".into(), "arn:other".into()));
            }
            Change::TwinDiffers(_) => seen.instances[last].settings.monitoring_interval = 0,
            Change::TwinUnprotected => seen.instances[last].settings.deletion_protection = false,
            other => panic!("{other:?} is not for instances"),
        }
    }
    (rem, seen, now)
}

/// A world around the cluster `ledger` with the reader `m1` and the writer `m2`.
pub(crate) fn cluster_world(changes: &[Change]) -> (Remediation, Sweep, Time) {
    let source = cluster("ledger", &["m1", "m2"]);
    let members = vec![member("m1", "ledger"), member("m2", "ledger")];
    let resource = Resource::Cluster { cluster: source.clone(), members: members.clone() };
    let mut rem = remediation(resource, Kind::Cluster);
    let mut seen =
        Sweep { instances: members.clone(), clusters: vec![source.clone()], ..Sweep::default() };
    let mut now = NOW;
    for change in changes {
        let Some(change) = common(&mut rem, &mut seen, &mut now, *change) else {
            continue;
        };
        let last = seen.clusters.len() - 1;
        match change {
            Change::SourceStatus(status) => seen.clusters[0].status = status.into(),
            Change::SourceGone => drop(seen.clusters.remove(0)),
            Change::SourceReplaced => seen.clusters[0].resource_id = "cluster-OTHER".into(),
            Change::SourceChanged => seen.clusters[0].settings.backup_retention_period = Some(9),
            Change::Twin(status) => {
                let twin = Cluster {
                    status: status.into(),
                    encryption: Encryption::SseKms,
                    kms_key: Some(KEY.into()),
                    made_by: Some("rem-1".into()),
                    members: vec![],
                    ..cluster("encrypted-ledger", &[])
                };
                record(&mut rem, "twin", &twin.arn);
                let id = Some(twin.resource_id.clone());
                rem.intents.get_mut("twin").unwrap().resource_id = id;
                seen.clusters.push(twin);
            }
            Change::TwinForeign => seen.clusters[last].made_by = None,
            Change::TwinReplaced => seen.clusters[last].resource_id = "cluster-OTHER".into(),
            Change::TwinPlain => seen.clusters[last].encryption = Encryption::None,
            Change::TwinOtherKey => seen.clusters[last].kms_key = Some("arn:other".into()),
            Change::TwinDiffers(_) => seen.clusters[last].settings.port = Some(1),
            Change::TwinUnprotected => seen.clusters[last].settings.deletion_protection = false,
            Change::Member(of, status) => {
                let id = format!("encrypted-{of}");
                let writer = seen.clusters[last].members.is_empty();
                seen.clusters[last].members.push(MemberRef { id: id.clone(), writer });
                let twin = Instance {
                    status: status.into(),
                    made_by: Some("rem-1".into()),
                    ..member(&id, "encrypted-ledger")
                };
                seen.instances.push(twin);
            }
            Change::MemberDiffers(of) => {
                let id = format!("encrypted-{of}");
                let found = seen.instances.iter_mut().find(|i| i.id == id);
                found.unwrap().promotion_tier = Some(9);
            }
            Change::WriterIs(of) => {
                let id = format!("encrypted-{of}");
                for m in &mut seen.clusters[last].members {
                    m.writer = m.id == id;
                }
            }
            other => panic!("{other:?} is not for clusters"),
        }
    }
    (rem, seen, now)
}

/// A step as one line.
pub(crate) fn show(step: &Step) -> String {
    match step {
        Step::Act(act) => format!("act {}", act.title()),
        Step::Wait(why) => format!("wait {why}"),
        Step::Measure { names, .. } => format!("measure {}", names.join(", ")),
        Step::Check => "check".into(),
        Step::Mark(Mark::Checked { said }) => format!("mark checked: {said}"),
        Step::Mark(Mark::Verified) => "mark verified".into(),
        Step::Mark(Mark::GivingUp { why }) => format!("mark giving up: {why}"),
        Step::Mark(Mark::Isolation { group }) => format!("mark isolation {group}"),
        Step::Mark(Mark::Greens { twins }) => {
            let names: Vec<&str> = twins.values().map(|t| t.name.as_str()).collect();
            format!("mark greens {}", names.join(", "))
        }
        Step::Mark(Mark::SwitchedOver { held }) => {
            let names: Vec<&str> = held.values().map(String::as_str).collect();
            format!("mark switched over, held {}", names.join(", "))
        }
        Step::Mark(Mark::Quiet { .. }) => "mark quiet".into(),
        Step::Mark(Mark::Stopped { .. }) => "mark stopped".into(),
        Step::Mark(Mark::Unmet) => "mark unmet".into(),
        Step::Mark(Mark::CutOverBegins { .. }) => "mark cutover begins".into(),
        Step::Mark(Mark::CutOver) => "mark cut over".into(),
        Step::Mark(Mark::Stale { why }) => format!("mark stale: {why}"),
        Step::Mark(Mark::RollBackBegins) => "mark rollback begins".into(),
        Step::Mark(Mark::Met { why }) => format!("mark met: {why}"),
        Step::Mark(Mark::NoWayBack { why }) => format!("mark no way back: {why}"),
        Step::Finish => "finish".into(),
        Step::AskHuman(why) => format!("ask {why}"),
    }
}
