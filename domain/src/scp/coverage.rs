//! Which ways to make a database a policy covers: each is put before it, unencrypted and encrypted.

use crate::history::{Replay, ask, replay};
use crate::iam::scp::{Reason, Verdict};
use crate::iam::{Context, Request};
use serde::{Deserialize, Serialize};

/// What a policy says of one way to make a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Covered {
    /// The way.
    pub path: String,
    /// What it says where the database would not be encrypted: `denied by X`, `allowed`, or on what it depends.
    pub unencrypted: String,
    /// What it says where it would be; empty where that cannot be told from the call.
    pub encrypted: String,
    /// What it denies although it would be encrypted all the same: the call leaves the parameter out, which counts as false.
    #[serde(default)]
    pub for_nothing: String,
    /// What to know.
    pub note: String,
}

/// How a way shows to policies.
struct Path {
    path: &'static str,
    action: &'static str,
    kind: &'static str,
    engine: &'static str,
    /// Whether the call is known to carry `rds:StorageEncrypted`.
    keyed: bool,
    /// Which calls that leave the parameter out make an encrypted database; empty if none does.
    omitted: &'static str,
    note: &'static str,
}

const INHERITS: &str = "encryption comes from the source; whether AWS shows rds:StorageEncrypted here its pages contradict each other";

const PATHS: &[Path] = &[
    Path {
        path: "CreateDBInstance",
        action: "rds:CreateDBInstance",
        kind: "db",
        engine: "postgres",
        keyed: true,
        omitted: "",
        note: "",
    },
    Path {
        path: "CreateDBInstance, member of an Aurora cluster",
        action: "rds:CreateDBInstance",
        kind: "db",
        engine: "aurora-postgresql",
        keyed: true,
        omitted: "members of an encrypted cluster: they never send the parameter",
        note: "members are encrypted as their cluster is",
    },
    Path {
        path: "CreateDBCluster",
        action: "rds:CreateDBCluster",
        kind: "cluster",
        engine: "aurora-postgresql",
        keyed: true,
        omitted: "creates that leave it to Aurora, which encrypts new clusters by itself since 2026-02",
        note: "",
    },
    Path {
        path: "RestoreDBInstanceFromS3",
        action: "rds:RestoreDBInstanceFromS3",
        kind: "db",
        engine: "mysql",
        keyed: true,
        omitted: "",
        note: "",
    },
    Path {
        path: "RestoreDBClusterFromS3",
        action: "rds:RestoreDBClusterFromS3",
        kind: "cluster",
        engine: "aurora-mysql",
        keyed: true,
        omitted: "",
        note: "",
    },
    Path {
        path: "RestoreDBInstanceFromDBSnapshot",
        action: "rds:RestoreDBInstanceFromDBSnapshot",
        kind: "db",
        engine: "postgres",
        keyed: false,
        omitted: "",
        note: INHERITS,
    },
    Path {
        path: "RestoreDBInstanceToPointInTime",
        action: "rds:RestoreDBInstanceToPointInTime",
        kind: "db",
        engine: "postgres",
        keyed: false,
        omitted: "",
        note: INHERITS,
    },
    Path {
        path: "RestoreDBClusterFromSnapshot",
        action: "rds:RestoreDBClusterFromSnapshot",
        kind: "cluster",
        engine: "aurora-postgresql",
        keyed: false,
        omitted: "",
        note: INHERITS,
    },
    Path {
        path: "RestoreDBClusterToPointInTime",
        action: "rds:RestoreDBClusterToPointInTime",
        kind: "cluster",
        engine: "aurora-postgresql",
        keyed: false,
        omitted: "",
        note: INHERITS,
    },
    Path {
        path: "CreateDBInstanceReadReplica",
        action: "rds:CreateDBInstanceReadReplica",
        kind: "db",
        engine: "postgres",
        keyed: false,
        omitted: "",
        note: "a replica in the region of its source is encrypted as that is",
    },
    Path {
        path: "CreateBlueGreenDeployment",
        action: "rds:CreateBlueGreenDeployment",
        kind: "deployment",
        engine: "postgres",
        keyed: false,
        omitted: "",
        note: "the green environment is encrypted as the blue one is, unless a key is named",
    },
    Path {
        path: "CreateDBInstance, RDS Custom",
        action: "rds:CreateDBInstance",
        kind: "db",
        engine: "custom-oracle-ee",
        keyed: true,
        omitted: "creates that leave it unset, as RDS Custom lets them: it encrypts always",
        note: "",
    },
    Path {
        path: "CreateDBInstance, member of a DocumentDB or Neptune cluster",
        action: "rds:CreateDBInstance",
        kind: "db",
        engine: "docdb",
        keyed: true,
        omitted: "members of an encrypted cluster: they never send the parameter",
        note: "they share the actions of RDS, and are encrypted as their cluster is",
    },
    Path {
        path: "CreateDBCluster, Multi-AZ DB cluster",
        action: "rds:CreateDBCluster",
        kind: "cluster",
        engine: "postgres",
        keyed: true,
        omitted: "",
        note: "its instances may be asked for as creates of their own: not documented",
    },
    Path {
        path: "CreateGlobalCluster",
        action: "rds:CreateGlobalCluster",
        kind: "global-cluster",
        engine: "aurora-postgresql",
        keyed: false,
        omitted: "",
        note: "it holds no data; its clusters come from CreateDBCluster",
    },
    Path {
        path: "CopyDBSnapshot, of a snapshot that another account shares",
        action: "rds:CopyDBSnapshot",
        kind: "snapshot",
        engine: "postgres",
        keyed: false,
        omitted: "",
        note: "no condition key says whether a snapshot is encrypted",
    },
];

/// What a policy says of all of them.
///
/// # Errors
/// The policy is not understood.
pub fn coverage(document: &str) -> Result<Vec<Covered>, String> {
    let policy = replay("", document)?;
    let covered = |path: &Path| Covered {
        path: path.path.to_owned(),
        unencrypted: said(&policy, path, false),
        encrypted: if path.keyed { said(&policy, path, true) } else { String::new() },
        for_nothing: match path.omitted {
            "" => String::new(),
            omitted if said(&policy, path, false).starts_with("denied") => omitted.to_owned(),
            _ => String::new(),
        },
        note: path.note.to_owned(),
    };
    Ok(PATHS.iter().map(covered).collect())
}

/// Whether a call of this action makes a database.
pub fn makes_database(action: &str) -> bool {
    PATHS.iter().any(|path| path.action == action)
}

/// A call is denied if it is on one of what it is authorized against; only the database carries its keys.
fn said(policy: &Replay, path: &Path, encrypted: bool) -> String {
    let arn = |kind: &str| format!("arn:aws:rds:eu-west-1:111122223333:{kind}:*");
    // As somebody whom nothing exempts.
    let context = Context::default()
        .with("aws:PrincipalArn", "arn:aws:iam::111122223333:role/application")
        .with("aws:PrincipalAccount", "111122223333")
        .with("aws:PrincipalType", "AssumedRole")
        .with("aws:PrincipalIsAWSService", "false")
        .with("aws:RequestedRegion", "eu-west-1");
    let own = match path.keyed {
        true => context
            .clone()
            .with("rds:StorageEncrypted", if encrypted { "true" } else { "false" })
            .with("rds:DatabaseEngine", path.engine),
        false => context.clone(),
    };
    let bare = match path.keyed {
        true => context.without("rds:StorageEncrypted").without("rds:DatabaseEngine"),
        false => context,
    };
    let request = |resource, context| Request { action: path.action.into(), resource, context };
    let (mut unknown, mut by) = (Vec::new(), Vec::new());
    for request in [request(arn(path.kind), own), request(arn("subgrp"), bare)] {
        match ask(policy, &request) {
            Verdict::Allowed => {}
            Verdict::Denied(reasons) => by.extend(reasons.iter().map(Reason::short)),
            Verdict::Unknown(reasons) => unknown.extend(reasons.iter().map(Reason::short)),
        }
    }
    for list in [&mut by, &mut unknown] {
        list.sort();
        list.dedup();
    }
    match (by.is_empty(), unknown.is_empty()) {
        (false, _) => format!("denied by {}", by.join(", ")),
        (true, false) => format!("depends: {}", unknown.join(", ")),
        (true, true) => "allowed".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_policy_covers_creates_and_says_what_it_leaves_open() {
        let all = coverage(crate::scp::RDS_ENCRYPTION).unwrap();
        let of = |path: &str| {
            let found = all.iter().find(|c| c.path == path).unwrap();
            (found.unencrypted.as_str(), found.encrypted.as_str())
        };
        assert_eq!(of("CreateDBInstance"), ("denied by DenyUnencryptedInstance", "allowed"));
        assert_eq!(of("CreateDBCluster"), ("denied by DenyUnencryptedCluster", "allowed"));
        assert_eq!(of("CreateDBInstance, member of an Aurora cluster"), ("allowed", "allowed"));
        assert_eq!(of("RestoreDBInstanceFromDBSnapshot"), ("allowed", ""));
        assert_eq!(of("CreateGlobalCluster"), ("allowed", ""));
        assert_eq!(all.iter().filter(|c| c.unencrypted.starts_with("denied")).count(), 5);
        // What is denied although it would be encrypted: only where the policy denies it.
        let for_nothing = |all: &[Covered]| -> Vec<String> {
            let some = all.iter().filter(|c| !c.for_nothing.is_empty());
            some.map(|c| c.path.clone()).collect()
        };
        assert_eq!(for_nothing(&all), ["CreateDBCluster"]);
        let wide =
            crate::scp::RDS_ENCRYPTION.replace("aurora*", "none*").replace("docdb*", "none*");
        let members = for_nothing(&coverage(&wide).unwrap());
        assert_eq!(members.len(), 3, "{members:?}");
        let stops = r#"{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"rds:Stop*","Resource":"*"}}"#;
        assert!(for_nothing(&coverage(stops).unwrap()).is_empty());
    }

    #[test]
    fn a_policy_on_restores_is_said_to_depend_on_what_nobody_knows() {
        let text = r#"{"Version":"2012-10-17","Statement":{"Sid":"A","Effect":"Deny","Action":"rds:Restore*","Resource":"*","Condition":{"Bool":{"rds:StorageEncrypted":"false"}}}}"#;
        let all = coverage(text).unwrap();
        let restore = all.iter().find(|c| c.path == "RestoreDBClusterFromSnapshot").unwrap();
        assert_eq!(restore.unencrypted, "depends: A (by rds:StorageEncrypted)");
    }
}
