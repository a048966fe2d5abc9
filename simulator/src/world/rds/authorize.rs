//! What each RDS call is authorized against, and which condition keys it carries.
//! Source: Service Authorization Reference, Amazon RDS. `rds:StorageEncrypted` and
//! `rds:DatabaseEngine` belong to the `db` resource and to a few cluster actions, and not to restores
//! of cluster snapshots; where the parameter is omitted the key is `false`
//! (aws-system-manager-automation-unencrypted-to-encrypted-resources#10).

use super::{Rds, blue_green, tags};
use crate::value::Map;
use crate::world::authorize::Resource;
use crate::world::organizations::read_tags;
use crate::world::{AccountId, Region};

/// The engine that a call is about: its own, or that of what it copies.
fn engine(rds: &Rds, params: &Map) -> String {
    let last = |name: &str| name.rsplit(':').next().unwrap_or(name).to_lowercase();
    let snapshot = params.text("DBSnapshotIdentifier").and_then(|n| rds.snapshots.get(&last(n)));
    let source =
        params.text("SourceDBInstanceIdentifier").and_then(|n| rds.instances.get(&last(n)));
    let settings = snapshot.map(|s| &s.settings).or(source.map(|s| &s.settings));
    let copied = settings.and_then(|s| s.text("Engine"));
    params.text("Engine").or(copied).unwrap_or_default().to_owned()
}

pub(crate) fn resources(
    rds: &Rds,
    op: &str,
    account: AccountId,
    region: Region,
    params: &Map,
) -> Vec<Resource> {
    let arn = |kind: &str, name: &str| {
        if name.starts_with("arn:") {
            return name.to_owned();
        }
        format!("arn:aws:rds:{region}:{account}:{kind}:{}", name.to_lowercase())
    };
    // Reads are authorized against all of a kind, and nothing in these policies tells them apart.
    if op.starts_with("Describe") {
        return vec![Resource::new(arn("db", "*"))];
    }
    let existing = |kind: &str, name: &str, prefix: &str| {
        let arn = arn(kind, name);
        // What is in another region has no tags that this one knows.
        let here = arn.split(':').nth(3).is_none_or(|r| r == region);
        let tags = tags::of(rds, &arn).filter(|_| here).unwrap_or_default();
        Resource::new(arn).tags("aws:ResourceTag/", &tags).tags(prefix, &tags)
    };
    let request_tags = read_tags(params).unwrap_or_default();
    let mut all = Vec::new();
    let mut new = |kind: &str, name: &str, keyed: bool| {
        let mut resource = Resource::new(arn(kind, name))
            .tags("aws:RequestTag/", &request_tags)
            .tags("rds:req-tag/", &request_tags);
        if keyed {
            let encrypted = params.flag("StorageEncrypted").ok().flatten().unwrap_or(false);
            resource = resource
                .flag("rds:StorageEncrypted", encrypted)
                .text("rds:DatabaseEngine", engine(rds, params))
                .text("rds:DatabaseClass", params.text_or_empty("DBInstanceClass"));
        }
        if !request_tags.is_empty() {
            // "AddTagsToResource" is a dependent action of every create that brings tags.
            let tagging = Resource { action: Some("rds:AddTagsToResource"), ..resource.clone() };
            all.push(tagging);
        }
        all.push(resource);
    };
    let text = |name: &str| params.text_or_empty(name);
    match op {
        "CreateDBInstance" => {
            new("db", text("DBInstanceIdentifier"), true);
            if params.has("DBClusterIdentifier") {
                all.push(existing("cluster", text("DBClusterIdentifier"), "rds:cluster-tag/"));
            }
        }
        "CreateDBCluster" => new("cluster", text("DBClusterIdentifier"), true),
        "RestoreDBInstanceFromDBSnapshot" => {
            // The parameter does not exist on restores, so the key is false: a policy that lists them
            // denies restores of encrypted snapshots as well (aws-sdk-go-v2#2678).
            new("db", text("DBInstanceIdentifier"), true);
            all.push(existing("snapshot", text("DBSnapshotIdentifier"), "rds:snapshot-tag/"));
        }
        "RestoreDBClusterFromSnapshot" => {
            new("cluster", text("DBClusterIdentifier"), false);
            let source = text("SnapshotIdentifier");
            all.push(existing("cluster-snapshot", source, "rds:cluster-snapshot-tag/"));
        }
        "CreateDBInstanceReadReplica" => {
            new("db", text("DBInstanceIdentifier"), true);
            all.push(existing("db", text("SourceDBInstanceIdentifier"), "rds:db-tag/"));
        }
        "CreateDBSnapshot" => {
            new("snapshot", text("DBSnapshotIdentifier"), false);
            all.push(existing("db", text("DBInstanceIdentifier"), "rds:db-tag/"));
        }
        "CreateDBClusterSnapshot" => {
            new("cluster-snapshot", text("DBClusterSnapshotIdentifier"), false);
            all.push(existing("cluster", text("DBClusterIdentifier"), "rds:cluster-tag/"));
        }
        "CopyDBSnapshot" => {
            new("snapshot", text("TargetDBSnapshotIdentifier"), false);
            all.push(existing("snapshot", text("SourceDBSnapshotIdentifier"), "rds:snapshot-tag/"));
        }
        "CopyDBClusterSnapshot" => {
            new("cluster-snapshot", text("TargetDBClusterSnapshotIdentifier"), false);
            let source = text("SourceDBClusterSnapshotIdentifier");
            all.push(existing("cluster-snapshot", source, "rds:cluster-snapshot-tag/"));
        }
        // With its dependent actions: what is made, and what is deleted with it.
        "CreateBlueGreenDeployment" => {
            new("deployment", "*", false);
            let kind = if text("Source").contains(":cluster:") { "cluster" } else { "db" };
            all.push(existing(kind, text("Source"), "rds:db-tag/"));
            for (blue, made) in blue_green::unit(rds, text("Source")) {
                let green = format!("{made}-green-new");
                let action = match blue {
                    blue_green::Kind::Cluster => "rds:CreateDBCluster",
                    blue_green::Kind::Instance => "rds:CreateDBInstance",
                };
                all.push(Resource {
                    action: Some(action),
                    ..Resource::new(arn(blue.arn(), &green))
                });
            }
        }
        "SwitchoverBlueGreenDeployment" | "DeleteBlueGreenDeployment" => {
            let id = text("BlueGreenDeploymentIdentifier");
            all.push(existing("deployment", id, "rds:"));
            if params.flag("DeleteTarget").ok().flatten().unwrap_or(false) {
                for (kind, name) in blue_green::greens(rds, id) {
                    let action = match kind {
                        blue_green::Kind::Cluster => "rds:DeleteDBCluster",
                        blue_green::Kind::Instance => "rds:DeleteDBInstance",
                    };
                    let green = existing(kind.arn(), &name, "rds:db-tag/");
                    all.push(Resource { action: Some(action), ..green });
                }
            }
        }
        "CreateDBClusterEndpoint" => {
            new("cluster-endpoint", text("DBClusterEndpointIdentifier"), false);
            all.push(existing("cluster", text("DBClusterIdentifier"), "rds:cluster-tag/"));
        }
        "AddTagsToResource" | "RemoveTagsFromResource" | "ListTagsForResource" => {
            all.push(
                existing("", text("ResourceName"), "rds:db-tag/")
                    .tags("aws:RequestTag/", &request_tags),
            );
        }
        _ => {
            for (kind, field, prefix) in [
                ("db", "DBInstanceIdentifier", "rds:db-tag/"),
                ("cluster", "DBClusterIdentifier", "rds:cluster-tag/"),
                ("cluster-endpoint", "DBClusterEndpointIdentifier", "rds:cluster-tag/"),
                ("snapshot", "DBSnapshotIdentifier", "rds:snapshot-tag/"),
                ("cluster-snapshot", "DBClusterSnapshotIdentifier", "rds:cluster-snapshot-tag/"),
            ] {
                if params.has(field) && all.is_empty() {
                    all.push(existing(kind, text(field), prefix));
                }
            }
        }
    }
    if ["CreateDBInstance", "RestoreDBInstanceFromDBSnapshot"].contains(&op) {
        // The same call is authorized against its groups, and those carry no rds:StorageEncrypted: that
        // is how BoolIfExists or Null in a Deny forbid encrypted databases too.
        for (kind, field) in [
            ("subgrp", "DBSubnetGroupName"),
            ("pg", "DBParameterGroupName"),
            ("og", "OptionGroupName"),
        ] {
            all.push(Resource::new(arn(kind, params.text(field).unwrap_or("default"))));
        }
    }
    if all.is_empty() {
        all.push(Resource::new(arn("db", "*")));
    }
    all
}
