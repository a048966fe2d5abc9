//! Why a database cannot be encrypted by this version: each reason names the database and what to do.

use crate::rds::{Cluster, Instance};
use crate::remediation::broken;

/// Classes without encryption at rest (RDS guide, "Encrypting Amazon RDS resources").
fn class_blocker(what: &str, class: &str) -> Option<String> {
    let old = class.starts_with("db.m1.") || class.starts_with("db.m2.") || class == "db.t2.micro";
    old.then(|| {
        format!("{what}: class {class} has no encryption at rest; move it to a newer class first")
    })
}

/// What blocks an instance outside clusters, its replicas included.
pub(super) fn tree(main: &Instance, replicas: &[Instance], blockers: &mut Vec<String>) {
    if let Some(source) = &main.replica_source {
        let id = &main.id;
        blockers.push(match source.starts_with("arn:") {
            true => format!("{id} is a read replica of {source}, in another region: encrypt the source, then create the replica anew there with a key of that region (`aws rds create-db-instance-read-replica --kms-key-id`)"),
            false => format!("{id} is a read replica of {source}: it is rebuilt with it"),
        });
    }
    for one in std::iter::once(main).chain(replicas) {
        instance(one, blockers);
        let known = |name: &String| replicas.iter().any(|r| r.id == *name);
        for far in one.replicas.iter().filter(|name| !known(name)) {
            blockers.push(format!("{}: its replica {far} is in another region or could not be read: this version rebuilds replicas of the same region; delete it, and create it anew from the twin", one.id));
        }
    }
}

/// What blocks an instance.
fn instance(instance: &Instance, blockers: &mut Vec<String>) {
    let id = &instance.id;
    if instance.engine.starts_with("custom-") {
        blockers.push(format!("{id} is RDS Custom: its snapshots cannot be copied"));
    }
    blockers.extend(class_blocker(id, &instance.settings.db_instance_class));
    if broken(&instance.status) || instance.status == "stopped" || instance.status == "deleting" {
        blockers.push(format!("{id} is {}: a snapshot needs it available", instance.status));
    }
    blockers
        .extend(instance.foreign.iter().map(|(k, v)| format!("{k} = {v} cannot be carried over")));
    blockers.extend(
        instance.pending.iter().map(|p| format!("a change of {p} is pending: apply or cancel it")),
    );
}

/// What blocks a cluster, its members included.
pub(super) fn cluster(cluster: &Cluster, members: &[Instance], blockers: &mut Vec<String>) {
    let id = &cluster.id;
    if !cluster.engine.starts_with("aurora") {
        blockers.push(format!("{id} is a Multi-AZ DB cluster ({}): AWS documents no way to encrypt one; do it by hand", cluster.engine));
    }
    if broken(&cluster.status) || cluster.status == "stopped" || cluster.status == "deleting" {
        blockers.push(format!("{id} is {}: a snapshot needs it available", cluster.status));
    }
    if members.len() != cluster.members.len() {
        blockers.push(format!(
            "{id}: only {} of {} members could be read",
            members.len(),
            cluster.members.len()
        ));
    }
    blockers
        .extend(cluster.foreign.iter().map(|(k, v)| format!("{k} = {v} cannot be carried over")));
    blockers.extend(
        cluster.pending.iter().map(|p| format!("a change of {p} is pending: apply or cancel it")),
    );
    for member in members {
        instance(member, blockers);
    }
}
