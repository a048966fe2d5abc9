//! What must equal: the twin against the original, field by field.

use crate::rds::{Cluster, ClusterSettings, Instance, InstanceSettings};
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A field that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The field's name.
    pub field: String,
    /// The original's value, as JSON.
    pub want: String,
    /// The twin's value, as JSON.
    pub have: String,
}

/// Differences as one line for people.
pub fn describe(differences: &[Difference]) -> String {
    let lines: Vec<String> = differences
        .iter()
        .map(|d| format!("{} is {} and should be {}", d.field, d.have, d.want))
        .collect();
    lines.join("; ")
}

/// The fields that ModifyDBInstance can set on a running instance without moving or rebooting it.
/// Whatever else differs cannot be mended and stops the remediation.
pub const INSTANCE_MODIFIABLE: &[&str] = &[
    "auto_minor_version_upgrade",
    "backup_retention_period",
    "ca_certificate_identifier",
    "copy_tags_to_snapshot",
    "database_insights_mode",
    "deletion_protection",
    "enabled_cloudwatch_logs_exports",
    "iam_database_authentication",
    "manage_master_user_password",
    "master_user_secret_kms_key_id",
    "max_allocated_storage",
    "monitoring_interval",
    "monitoring_role_arn",
    "multi_az",
    "performance_insights",
    "performance_insights_kms_key_id",
    "performance_insights_retention_period",
    "preferred_backup_window",
    "preferred_maintenance_window",
    "publicly_accessible",
    "vpc_security_group_ids",
];

/// The fields that ModifyDBCluster can set.
pub const CLUSTER_MODIFIABLE: &[&str] = &[
    "auto_minor_version_upgrade",
    "backtrack_window",
    "backup_retention_period",
    "copy_tags_to_snapshot",
    "database_insights_mode",
    "deletion_protection",
    "enabled_cloudwatch_logs_exports",
    "iam_database_authentication",
    "local_write_forwarding",
    "manage_master_user_password",
    "master_user_secret_kms_key_id",
    "monitoring_interval",
    "monitoring_role_arn",
    "performance_insights",
    "performance_insights_kms_key_id",
    "performance_insights_retention_period",
    "preferred_backup_window",
    "preferred_maintenance_window",
    "serverless_v2",
    "vpc_security_group_ids",
];

/// The settings that a cluster member has of its own; the rest is its cluster's ("This setting
/// doesn't apply to Aurora", API reference, CreateDBInstance).
pub const MEMBER_FIELDS: &[&str] = &[
    "auto_minor_version_upgrade",
    "availability_zone",
    "ca_certificate_identifier",
    "db_instance_class",
    "db_parameter_group",
    "monitoring_interval",
    "monitoring_role_arn",
    "performance_insights",
    "performance_insights_kms_key_id",
    "performance_insights_retention_period",
    "preferred_maintenance_window",
    "publicly_accessible",
    "tags",
];

fn object<T: Serialize>(value: &T) -> BTreeMap<String, Value> {
    match serde_json::to_value(value) {
        Ok(Value::Object(map)) => map.into_iter().collect(),
        // Settings are structs with text keys.
        other => unreachable!("settings that are not a JSON object: {other:?}"),
    }
}

fn compare<T: Serialize>(want: &T, have: &T, differences: &mut Vec<Difference>) {
    let (want, have) = (object(want), object(have));
    let keys: BTreeSet<&String> = want.keys().chain(have.keys()).collect();
    for key in keys {
        let (w, h) = (want.get(key).unwrap_or(&Value::Null), have.get(key).unwrap_or(&Value::Null));
        if w != h {
            let field = key.clone();
            differences.push(Difference { field, want: w.to_string(), have: h.to_string() });
        }
    }
}

/// The settings without what cannot be equal: the zone of a Multi-AZ instance is AWS's choice, since
/// a zone and MultiAZ exclude each other at restore.
fn comparable(settings: &InstanceSettings) -> InstanceSettings {
    let mut settings = settings.clone();
    if settings.multi_az {
        settings.availability_zone = None;
    }
    settings
}

/// How an instance's twin differs from the original.
pub fn instance(want: &Instance, have: &Instance) -> Vec<Difference> {
    let mut differences = Vec::new();
    compare(&comparable(&want.settings), &comparable(&have.settings), &mut differences);
    compare(&want.inherited, &have.inherited, &mut differences);
    compare(&want.foreign, &have.foreign, &mut differences);
    if want.engine != have.engine {
        let (want, have) = (want.engine.clone(), have.engine.clone());
        differences.push(Difference { field: "engine".into(), want, have });
    }
    differences
}

/// How a member's twin differs from the original member.
pub fn member(want: &Instance, have: &Instance) -> Vec<Difference> {
    let mut differences = Vec::new();
    compare(&want.settings, &have.settings, &mut differences);
    differences.retain(|d| MEMBER_FIELDS.contains(&d.field.as_str()));
    if want.promotion_tier != have.promotion_tier {
        let show = |tier: Option<i32>| tier.map_or("null".to_owned(), |t| t.to_string());
        let (want, have) = (show(want.promotion_tier), show(have.promotion_tier));
        differences.push(Difference { field: "promotion_tier".into(), want, have });
    }
    differences
}

/// How a cluster's twin differs from the original, members apart.
pub fn cluster(want: &Cluster, have: &Cluster) -> Vec<Difference> {
    let mut differences = Vec::new();
    compare::<ClusterSettings>(&want.settings, &have.settings, &mut differences);
    compare(&want.inherited, &have.inherited, &mut differences);
    compare(&want.foreign, &have.foreign, &mut differences);
    let texts = [
        ("engine", &want.engine, &have.engine),
        ("engine_version", &want.engine_version, &have.engine_version),
    ];
    for (field, want, have) in texts {
        if want != have {
            let (want, have) = (want.clone(), have.clone());
            differences.push(Difference { field: field.into(), want, have });
        }
    }
    differences
}

/// Splits differences: what a Modify call can mend (deletion protection last and alone), and what
/// it cannot.
pub fn mendable(
    differences: &[Difference],
    modifiable: &[&str],
) -> Result<BTreeSet<String>, String> {
    let stuck: Vec<Difference> =
        differences.iter().filter(|d| !modifiable.contains(&d.field.as_str())).cloned().collect();
    if !stuck.is_empty() {
        return Err(describe(&stuck));
    }
    let all: BTreeSet<String> = differences.iter().map(|d| d.field.clone()).collect();
    let mut first = all.clone();
    first.remove("deletion_protection");
    Ok(if first.is_empty() { all } else { first })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remediation::sample;

    #[test]
    fn every_setting_is_compared() {
        // Flip each member in turn through JSON: a member that compare() forgot would pass unseen.
        let want = sample::instance("orders");
        for key in object(&want.settings).keys() {
            let mut map = object(&want.settings);
            let flipped = match &map[key] {
                Value::Bool(b) => Value::Bool(!b),
                Value::Number(n) => Value::from(n.as_i64().unwrap_or(0) + 1),
                Value::String(s) => Value::String(format!("{s}x")),
                Value::Array(_) | Value::Object(_) | Value::Null => continue,
            };
            map.insert(key.clone(), flipped);
            let mut have = want.clone();
            let value = Value::Object(map.into_iter().collect());
            have.settings = serde_json::from_value(value).unwrap();
            if key == "availability_zone" || key == "multi_az" {
                continue; // their own test, below
            }
            let fields: Vec<String> = instance(&want, &have).into_iter().map(|d| d.field).collect();
            assert_eq!(fields, std::slice::from_ref(key));
        }
    }

    #[test]
    fn the_zone_counts_only_without_multi_az() {
        let mut want = sample::instance("orders");
        want.settings.multi_az = false;
        let mut have = want.clone();
        have.settings.availability_zone = Some("eu-west-1c".into());
        assert_eq!(instance(&want, &have).len(), 1);
        want.settings.multi_az = true;
        have.settings.multi_az = true;
        assert_eq!(instance(&want, &have), []);
    }

    #[test]
    fn deletion_protection_is_mended_last_and_alone() {
        let d =
            |field: &str| Difference { field: field.into(), want: "1".into(), have: "0".into() };
        let both = [d("deletion_protection"), d("monitoring_interval")];
        assert_eq!(
            mendable(&both, INSTANCE_MODIFIABLE).unwrap(),
            ["monitoring_interval".to_owned()].into()
        );
        let last = [d("deletion_protection")];
        assert_eq!(
            mendable(&last, INSTANCE_MODIFIABLE).unwrap(),
            ["deletion_protection".to_owned()].into()
        );
        let stuck = [d("port"), d("monitoring_interval")];
        assert!(mendable(&stuck, INSTANCE_MODIFIABLE).unwrap_err().contains("port"));
    }

    #[test]
    fn the_field_lists_name_real_fields() {
        let names = object(&InstanceSettings::default());
        for field in INSTANCE_MODIFIABLE.iter().chain(MEMBER_FIELDS) {
            assert!(names.contains_key(*field), "{field}");
        }
        let names = object(&ClusterSettings::default());
        for field in CLUSTER_MODIFIABLE {
            assert!(names.contains_key(*field), "{field}");
        }
    }
}
