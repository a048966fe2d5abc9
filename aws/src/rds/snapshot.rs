//! Snapshots: what is read of them, and whom they are shared with.

use super::convert::{encryption, made_by, some, tags, text};
use crate::client::Cloud;
use crate::error::cloud_error;
use crate::limits::Class;
use crate::retry::To;
use crate::session::Session;
use aws_sdk_rds::types;
use aws_smithy_types::DateTime;
use ringfence_domain::cloud::{CloudError, ErrorClass};
use ringfence_domain::id::Region;
use ringfence_domain::rds::Snapshot;
use ringfence_domain::time::Time;
use std::collections::BTreeMap;

fn time(value: Option<&DateTime>) -> Option<Time> {
    value.and_then(|t| t.to_millis().ok()).map(Time)
}

/// A snapshot has no immutable id: its database's and its own time tell it from another of its name.
fn identity(of: Option<&str>, at: Option<&DateTime>) -> String {
    let at = time(at).map(|t| {
        let seconds = t.to_string();
        format!("{}.{:03}Z", seconds.trim_end_matches('Z'), t.0.rem_euclid(1_000))
    });
    format!("{}@{}", text(of), at.unwrap_or_default())
}

fn settings<const N: usize>(list: [(&str, Option<String>); N]) -> BTreeMap<String, String> {
    let set = list.into_iter().filter_map(|(k, v)| Some((k, v.filter(|v| !v.is_empty())?)));
    set.map(|(k, v)| (k.to_owned(), v)).collect()
}

fn number<N: ToString>(value: Option<N>) -> Option<String> {
    value.map(|n| n.to_string())
}

/// What a copy of a snapshot must have too; see `members::SNAPSHOT_COMPARED`.
fn compared(s: &types::DbSnapshot) -> BTreeMap<String, String> {
    let when = |t: Option<&DateTime>| time(t).map(|t| t.to_string());
    let mut features: Vec<String> = s
        .processor_features()
        .iter()
        .map(|f| format!("{}={}", text(f.name()), text(f.value())))
        .collect();
    features.sort();
    let volume = |v: &types::AdditionalStorageVolume| {
        let all = [
            some(v.volume_name()),
            number(v.allocated_storage()),
            number(v.iops()),
            number(v.max_allocated_storage()),
            number(v.storage_throughput()),
            some(v.storage_type()),
        ];
        all.map(Option::unwrap_or_default).join("/")
    };
    let mut volumes: Vec<String> = s.additional_storage_volumes().iter().map(volume).collect();
    volumes.sort();
    settings([
        ("DBInstanceIdentifier", some(s.db_instance_identifier())),
        ("DbiResourceId", some(s.dbi_resource_id())),
        ("InstanceCreateTime", when(s.instance_create_time())),
        ("OriginalSnapshotCreateTime", when(s.original_snapshot_create_time())),
        ("SnapshotDatabaseTime", when(s.snapshot_database_time())),
        ("Engine", some(s.engine())),
        ("EngineVersion", some(s.engine_version())),
        ("LicenseModel", some(s.license_model())),
        ("MasterUsername", some(s.master_username())),
        ("Port", number(s.port())),
        ("SnapshotTarget", some(s.snapshot_target())),
        ("AllocatedStorage", number(s.allocated_storage())),
        ("StorageType", some(s.storage_type())),
        ("Iops", number(s.iops())),
        ("StorageThroughput", number(s.storage_throughput())),
        ("OptionGroupName", some(s.option_group_name())),
        ("TdeCredentialArn", some(s.tde_credential_arn())),
        ("Timezone", some(s.timezone())),
        ("DBSystemId", some(s.db_system_id())),
        ("MultiTenant", number(s.multi_tenant())),
        ("DedicatedLogVolume", number(s.dedicated_log_volume())),
        ("IAMDatabaseAuthenticationEnabled", number(s.iam_database_authentication_enabled())),
        ("ProcessorFeatures", Some(features.join(", "))),
        ("AdditionalStorageVolumes", Some(volumes.join(", "))),
    ])
}

pub(super) fn snapshot(s: &types::DbSnapshot) -> Snapshot {
    Snapshot {
        id: text(s.db_snapshot_identifier()),
        arn: text(s.db_snapshot_arn()),
        of: text(s.db_instance_identifier()),
        status: text(s.status()),
        encryption: encryption(s.storage_encryption_type(), s.encrypted()),
        kms_key: some(s.kms_key_id()),
        created_at: time(s.snapshot_create_time()),
        made_by: made_by(s.tag_list()),
        resource_id: identity(s.dbi_resource_id(), s.snapshot_create_time()),
        settings: compared(s),
        tags: tags(s.tag_list()),
    }
}

pub(super) fn cluster_snapshot(s: &types::DbClusterSnapshot) -> Snapshot {
    Snapshot {
        id: text(s.db_cluster_snapshot_identifier()),
        arn: text(s.db_cluster_snapshot_arn()),
        of: text(s.db_cluster_identifier()),
        status: text(s.status()),
        encryption: encryption(s.storage_encryption_type(), s.storage_encrypted()),
        kms_key: some(s.kms_key_id()),
        created_at: time(s.snapshot_create_time()),
        made_by: made_by(s.tag_list()),
        resource_id: identity(s.db_cluster_resource_id(), s.snapshot_create_time()),
        // Never copied: what people are shown of it.
        settings: settings([
            ("Engine", some(s.engine())),
            ("EngineVersion", some(s.engine_version())),
            ("AllocatedStorage", number(s.allocated_storage())),
        ]),
        tags: tags(s.tag_list()),
    }
}

impl Cloud {
    /// The instances' snapshots that have these names now.
    pub async fn snapshots_named(
        &self,
        session: &Session,
        region: &Region,
        names: &[&str],
    ) -> Result<Vec<Snapshot>, CloudError> {
        const OP: &str = "rds:DescribeDBSnapshots";
        let client = self.rds(region.as_str());
        let to = To::cell(Class::RdsRead, session.account.as_str(), region.as_str());
        let mut found = Vec::new();
        for name in names {
            let read = || async {
                let call = client.describe_db_snapshots().db_snapshot_identifier(*name).send();
                session.within(call).await.map_err(|e| cloud_error(OP, e))
            };
            match self.0.gate.read(to, OP, read).await {
                Ok(answer) => found.extend(answer.db_snapshots().first().map(snapshot)),
                Err(error) if error.class == ErrorClass::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Who may restore an instance's snapshot beside its account: account ids, or `all` (API reference,
    /// DescribeDBSnapshotAttributes, attribute `restore`).
    pub async fn shared(
        &self,
        session: &Session,
        region: &Region,
        name: &str,
    ) -> Result<Vec<String>, CloudError> {
        const OP: &str = "rds:DescribeDBSnapshotAttributes";
        let client = self.rds(region.as_str());
        let to = To::cell(Class::RdsRead, session.account.as_str(), region.as_str());
        let read = || async {
            let call = client.describe_db_snapshot_attributes().db_snapshot_identifier(name).send();
            session.within(call).await.map_err(|e| cloud_error(OP, e))
        };
        let answer = self.0.gate.read(to, OP, read).await?;
        let found = answer.db_snapshot_attributes_result();
        let all = found.map(types::DbSnapshotAttributesResult::db_snapshot_attributes);
        let restore =
            all.unwrap_or_default().iter().filter(|a| a.attribute_name() == Some("restore"));
        let mut with: Vec<String> = restore.flat_map(|a| a.attribute_values().to_vec()).collect();
        with.sort();
        Ok(with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::members::SNAPSHOT_COMPARED;

    #[test]
    fn whatever_must_be_the_same_is_read() {
        let at = DateTime::from_secs(1);
        let text = |s: types::builders::DbSnapshotBuilder| {
            s.db_instance_identifier("a")
                .dbi_resource_id("b")
                .engine("c")
                .engine_version("d")
                .license_model("e")
                .master_username("f")
                .storage_type("g")
                .option_group_name("h")
                .tde_credential_arn("i")
                .timezone("j")
                .db_system_id("k")
                .snapshot_target("l")
        };
        let feature = types::ProcessorFeature::builder().name("n").value("v").build();
        let volume = types::AdditionalStorageVolume::builder().volume_name("v").build();
        let all = text(types::DbSnapshot::builder())
            .instance_create_time(at)
            .original_snapshot_create_time(at)
            .snapshot_database_time(at)
            .port(1)
            .allocated_storage(2)
            .iops(3)
            .storage_throughput(4)
            .multi_tenant(true)
            .dedicated_log_volume(true)
            .iam_database_authentication_enabled(true)
            .processor_features(feature)
            .additional_storage_volumes(volume)
            .build();
        // Its tags are compared apart.
        assert_eq!(compared(&all).len(), SNAPSHOT_COMPARED.len() - 1, "{:?}", compared(&all));
        let identity = snapshot(&all).resource_id;
        assert_eq!(identity, "b@", "no time of its own yet");
    }
}
