//! Whether the service control policies in force let us do what a remediation does: one that does not stops it
//! halfway, with a copy that is paid for and a database that is not encrypted.

mod calls;

use super::Item;
use super::checks::{Check, Verdict};
use crate::iam::scp::{self, Level, Reason};
use calls::requests;
use std::collections::{BTreeMap, BTreeSet};

const NAME: &str = "policies";

/// What the policies from the root down to the item's account say of all its calls, made as that role.
pub fn fenced(item: &Item, levels: &[Level], role: &str) -> Vec<Check> {
    let mut denied: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut unknown: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let note = |into: &mut BTreeMap<String, BTreeSet<String>>, why: String, action: &str| {
        into.entry(why).or_default().insert(action.to_owned());
    };
    for request in requests(item, role) {
        match scp::judge(levels, &request) {
            scp::Verdict::Allowed => {}
            scp::Verdict::Denied(reasons) => reasons.iter().for_each(|reason| {
                let why = format!("{reason}; {}", advice(reason, role));
                note(&mut denied, why, &request.action);
            }),
            scp::Verdict::Unknown(reasons) => {
                reasons.iter().for_each(|r| note(&mut unknown, r.to_string(), &request.action));
            }
        }
    }
    let list = |calls: &BTreeSet<String>| calls.iter().cloned().collect::<Vec<_>>().join(", ");
    let name = item.resource.name();
    let blocks = denied.iter().map(|(why, calls)| {
        let text = format!("{name}: service control policies deny us {}: {why}", list(calls));
        Check::new(NAME, Verdict::Block, text)
    });
    let warnings = unknown.iter().map(|(why, calls)| {
        let text = format!(
            "{name}: whether service control policies deny us {} cannot be told from here: {why}; if they do, its remediation stops there",
            list(calls)
        );
        Check::new(NAME, Verdict::Warn, text)
    });
    let all: Vec<Check> = blocks.chain(warnings).collect();
    if all.is_empty() { vec![Check::new(NAME, Verdict::Pass, String::new())] } else { all }
}

/// What to do about a denial.
fn advice(reason: &Reason, role: &str) -> String {
    match reason {
        Reason::Statement { policy, .. } | Reason::Unread { policy, .. } => format!(
            "exempt {role} in that statement (ArnNotLike on aws:PrincipalArn), or detach {policy} for as long as the remediation takes"
        ),
        Reason::NothingAllows { node, .. } => {
            format!("allow these calls by a policy on {node}")
        }
    }
}

/// The check where the policies could not be read.
pub fn unfenced(item: &Item, why: &str) -> Check {
    let text = format!(
        "{}: the service control policies in force could not be read ({why}): if one denies us a call, its remediation stops there",
        item.resource.name()
    );
    Check::new(NAME, Verdict::Warn, text)
}

#[cfg(test)]
mod tests {
    use super::super::tests::planned;
    use super::*;
    use crate::finding::Resource;
    use crate::iam::document::Policy;
    use crate::iam::scp::Attached;
    use crate::rds::Endpoint;
    use crate::rds::Instance;
    use crate::remediation::{Green, Swap, sample};
    use crate::scp::OUR_CALLS;
    use serde_json::{Value, json};

    const ROLE: &str = "arn:aws:iam::111122223333:role/RingfenceRemediation";

    /// A tree, a cluster and a snapshot with all that asks for a call of its own.
    fn items() -> Vec<Item> {
        let role = "arn:aws:iam::111122223333:role/x".to_owned();
        let mut instance = sample::instance("orders");
        instance.settings.associated_roles.insert((role.clone(), "S3".into()));
        instance.settings.manage_master_user_password = true;
        instance.settings.db_parameter_group = Some("pg-a".into());
        let replica =
            Instance { replica_source: Some("orders".into()), ..sample::instance("orders-r") };
        let mut cluster = sample::cluster("bills", &["bills-1"]);
        cluster.settings.associated_roles.insert((role, "S3".into()));
        cluster.endpoints.push(Endpoint {
            id: "reports".into(),
            arn: "arn".into(),
            kind: "ANY".into(),
            members: BTreeSet::new(),
            excluded: BTreeSet::new(),
            status: "available".into(),
            tags: BTreeMap::new(),
        });
        let members = vec![sample::member("bills-1", "bills")];
        let swap = Some(Swap { isolation: "sg-1".into(), ..Swap::default() });
        let old = sample::old_snapshot("monthly");
        [
            Resource::Instance { instance, replicas: vec![replica] },
            Resource::Cluster { cluster, members },
            Resource::Snapshot { snapshot: old, of_cluster: false, shared: Ok(Vec::new()) },
        ]
        .into_iter()
        .map(|resource| Item { swap: swap.clone(), ..planned(resource) })
        .collect()
    }

    #[test]
    fn every_call_of_ours_is_asked_about() {
        let green = |item: &Item| {
            let swap = Swap { green: Some(Green::default()), ..Swap::default() };
            Item { swap: Some(swap), ..item.clone() }
        };
        let greens: Vec<Item> = items().iter().take(2).map(green).collect();
        let asked: BTreeSet<String> = items()
            .iter()
            .chain(&greens)
            .flat_map(|item| requests(item, ROLE))
            .map(|r| r.action)
            .collect();
        // The way in is the caller's, whom other policies bind; these two are a scan's and a history's; of tenant databases
        // nothing is planned, groups are made where a plan says so, and a decommission is asked about when it comes.
        let others = [
            "sts:AssumeRole",
            "sts:SetSourceIdentity",
            "account:ListRegions",
            "cloudtrail:LookupEvents",
            "rds:CreateTenantDatabase",
            "ec2:CreateSecurityGroup",
            "ec2:CreateTags",
            "ec2:RevokeSecurityGroupEgress",
        ];
        for call in OUR_CALLS.iter().filter(|c| !others.contains(*c)) {
            assert!(asked.contains(*call), "{call}: {asked:?}");
        }
        // What AWS does in our name for a green environment only its own plan asks about.
        for call in items().iter().flat_map(|item| requests(item, ROLE)).map(|r| r.action) {
            assert!(OUR_CALLS.contains(&call.as_str()), "a policy is not asked about {call}");
        }
    }

    fn said(statement: &Value) -> Vec<String> {
        let mut statement = statement.clone();
        statement["Effect"] = "Deny".into();
        let full = json!({"Effect": "Allow", "Action": "*", "Resource": "*"});
        let document = json!({"Version": "2012-10-17", "Statement": [full, statement]});
        let policy = Policy::parse(&document.to_string());
        let levels = [Level {
            node: "r-1".into(),
            policies: vec![Attached { name: "p-1".into(), policy }.into()],
        }];
        let verdict = |item: &Item| {
            let checks = fenced(item, &levels, ROLE);
            let worst = checks.iter().map(|c| c.verdict).max_by_key(|v| v.as_str() == "block");
            worst.map_or("none", Verdict::as_str).to_owned()
        };
        items().iter().map(verdict).collect()
    }

    #[test]
    fn a_policy_blocks_what_it_denies_and_warns_of_what_it_may_deny() {
        let when = |action: &str, condition: Value| json!({"Action": action, "Resource": "*", "Condition": condition});
        let unencrypted = || json!({"Bool": {"rds:StorageEncrypted": "false"}});
        for (statement, want) in [
            (json!({"Action": "s3:*", "Resource": "*"}), ["pass", "pass", "pass"]),
            (json!({"Action": "rds:CopyDBSnapshot", "Resource": "*"}), ["block", "pass", "block"]),
            (json!({"Action": "iam:PassRole", "Resource": "*"}), ["block", "block", "pass"]),
            (json!({"Action": "kms:Decrypt", "Resource": "*"}), ["block", "block", "block"]),
            (json!({"Action": "secretsmanager:*", "Resource": "*"}), ["block", "pass", "pass"]),
            (
                json!({"Action": "rds:*", "Resource": "arn:*:rds:*:*:pg:pg-a"}),
                ["block", "pass", "pass"],
            ),
            (
                json!({"Action": "rds:Stop*", "Resource": "arn:*:rds:*:*:*-unencrypted-*"}),
                ["block", "block", "pass"],
            ),
            // What the restore of an instance is seen with; nobody says so of a cluster's.
            (when("rds:RestoreDBInstance*", unencrypted()), ["block", "pass", "pass"]),
            (when("rds:RestoreDBCluster*", unencrypted()), ["pass", "warn", "pass"]),
            (when("rds:CreateDBInstance", unencrypted()), ["pass", "block", "pass"]),
            (
                when("rds:CreateDBInstance", json!({"Null": {"rds:StorageEncrypted": "true"}})),
                ["pass", "block", "pass"],
            ),
            (
                when("rds:*", json!({"StringEquals": {"aws:ResourceTag/team": "a"}})),
                ["warn", "warn", "warn"],
            ),
            (
                when(
                    "*",
                    json!({"ArnNotLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/RingfenceRemediation"}}),
                ),
                ["pass", "pass", "pass"],
            ),
            (
                when("*", json!({"StringNotEquals": {"aws:RequestedRegion": ["eu-west-1"]}})),
                ["pass", "pass", "pass"],
            ),
            (
                when("*", json!({"StringNotEquals": {"aws:RequestedRegion": ["us-east-1"]}})),
                ["block", "block", "block"],
            ),
        ] {
            assert_eq!(said(&statement), want, "{statement}");
        }
        let built_in = Policy::parse(crate::scp::RDS_ENCRYPTION).unwrap();
        let full = Policy::parse(r#"{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#);
        let attached = |id: &str, policy| Attached { name: id.into(), policy }.into();
        let levels = [Level {
            node: "r-1".into(),
            policies: vec![attached("p-full", full), attached("p-1", Ok(built_in))],
        }];
        for item in items() {
            let checks = fenced(&item, &levels, ROLE);
            assert!(checks.iter().all(|c| c.verdict == Verdict::Pass), "{checks:?}");
        }
    }
}
