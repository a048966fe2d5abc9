//! What becomes of every member of `DescribeDBInstances`, `DescribeDBClusters` and `DescribeDBSnapshots`.
//!
//! A setting that nobody thought of is a setting that a twin loses. The test below reads the
//! members of the SDK's own types and fails when one is not listed here, so an SDK that learns a
//! new member cannot be taken without a decision. Groups and sources: `ringfence_domain::rds`.

/// Members of DBInstance that the twin must have: read into `InstanceSettings`.
pub const INSTANCE_SETTINGS: &[&str] = &[
    "db_instance_class",
    "allocated_storage",
    "iops",
    "storage_throughput",
    "storage_type",
    "multi_az",
    "availability_zone",
    "publicly_accessible",
    "auto_minor_version_upgrade",
    "license_model",
    "db_name",
    "ca_certificate_identifier",
    "copy_tags_to_snapshot",
    "processor_features",
    "deletion_protection",
    "network_type",
    "backup_target",
    "custom_iam_instance_profile",
    "dedicated_log_volume",
    "engine_lifecycle_support",
    "additional_storage_volumes",
    "backup_retention_period",
    "preferred_backup_window",
    "db_capacity_reservation_identifier",
    "endpoint",
    "vpc_security_groups",
    "db_parameter_groups",
    "db_subnet_group",
    "option_group_memberships",
    "domain_memberships",
    "iam_database_authentication_enabled",
    "enabled_cloudwatch_logs_exports",
    "customer_owned_ip_enabled",
    "tag_list",
    "preferred_maintenance_window",
    "monitoring_interval",
    "monitoring_role_arn",
    "performance_insights_enabled",
    "performance_insights_kms_key_id",
    "performance_insights_retention_period",
    "database_insights_mode",
    "max_allocated_storage",
    "master_user_secret",
    "promotion_tier",
    "associated_roles",
];

/// Members of DBInstance that come with the snapshot and are compared.
pub const INSTANCE_INHERITED: &[&str] = &[
    "master_username",
    "engine",
    "engine_version",
    "character_set_name",
    "nchar_character_set_name",
    "timezone",
    "db_system_id",
    "multi_tenant",
];

/// Members of DBInstance that block a plan when they are in use.
pub const INSTANCE_BLOCKING: &[&str] = &[
    "db_security_groups",
    "tde_credential_arn",
    "activity_stream_status",
    "activity_stream_kms_key_id",
    "activity_stream_kinesis_stream_name",
    "activity_stream_mode",
    "activity_stream_engine_native_audit_fields_included",
    "activity_stream_policy_status",
    "db_instance_automated_backups_replications",
    "read_replica_db_cluster_identifiers",
    "read_replica_source_db_cluster_identifier",
    "pending_modified_values",
];

/// Members of DBInstance that are derived, identify it, belong to RDS Custom (blocked as a whole)
/// or to AWS Backup, or that the groups above cover otherwise.
pub const INSTANCE_DERIVED: &[&str] = &[
    "db_instance_identifier",
    "db_instance_status",
    "instance_create_time",
    "upgrade_rollout_order",
    "latest_restorable_time",
    "read_replica_source_db_instance_identifier",
    "read_replica_db_instance_identifiers",
    "replica_mode",
    "secondary_availability_zone",
    "status_infos",
    "storage_encryption_type",
    "db_instance_port",
    "db_cluster_identifier",
    "storage_encrypted",
    "kms_key_id",
    "dbi_resource_id",
    "enhanced_monitoring_resource_arn",
    "db_instance_arn",
    "listener_endpoint",
    "automation_mode",
    "resume_full_automation_mode_time",
    "aws_backup_recovery_point_arn",
    "automatic_restart_time",
    "certificate_details",
    "percent_progress",
    "is_storage_config_upgrade_available",
    "storage_volume_status",
    "storage_operation_status",
    "storage_operation_percent_progress",
];

/// Members of DBCluster that the twin must have: read into `ClusterSettings`.
pub const CLUSTER_SETTINGS: &[&str] = &[
    "availability_zones",
    "backup_retention_period",
    "preferred_backup_window",
    "database_name",
    "port",
    "backtrack_window",
    "engine_mode",
    "storage_type",
    "iops",
    "deletion_protection",
    "copy_tags_to_snapshot",
    "network_type",
    "serverless_v2_scaling_configuration",
    "monitoring_interval",
    "monitoring_role_arn",
    "performance_insights_enabled",
    "performance_insights_kms_key_id",
    "performance_insights_retention_period",
    "engine_lifecycle_support",
    "db_cluster_parameter_group",
    "db_subnet_group",
    "vpc_security_groups",
    "iam_database_authentication_enabled",
    "enabled_cloudwatch_logs_exports",
    "domain_memberships",
    "tag_list",
    "preferred_maintenance_window",
    "auto_minor_version_upgrade",
    "database_insights_mode",
    "master_user_secret",
    "local_write_forwarding_status",
    "associated_roles",
    "custom_endpoints",
    "db_cluster_members",
];

/// Members of DBCluster that come with the snapshot and are compared.
pub const CLUSTER_INHERITED: &[&str] =
    &["master_username", "engine", "engine_version", "character_set_name", "db_system_id"];

/// Members of DBCluster that block a plan when they are in use.
pub const CLUSTER_BLOCKING: &[&str] = &[
    "db_cluster_option_group_memberships",
    "replication_source_identifier",
    "read_replica_identifiers",
    "pending_modified_values",
    "scaling_configuration_info",
    "rds_custom_cluster_configuration",
    "http_endpoint_enabled",
    "activity_stream_mode",
    "activity_stream_status",
    "activity_stream_kms_key_id",
    "activity_stream_kinesis_stream_name",
    "global_cluster_identifier",
    "global_write_forwarding_status",
    "global_write_forwarding_requested",
    "limitless_database",
    "cluster_scalability_type",
    "vpc_networking_enabled",
    "internet_access_gateway_enabled",
];

/// Members of DBCluster that are derived, identify it, belong to Multi-AZ DB clusters (blocked as a
/// whole) or to AWS Backup.
pub const CLUSTER_DERIVED: &[&str] = &[
    "allocated_storage",
    "db_cluster_identifier",
    "status",
    "percent_progress",
    "earliest_restorable_time",
    "endpoint",
    "reader_endpoint",
    "multi_az",
    "latest_restorable_time",
    "upgrade_rollout_order",
    "status_infos",
    "hosted_zone_id",
    "storage_encrypted",
    "storage_encryption_type",
    "kms_key_id",
    "db_cluster_resource_id",
    "db_cluster_arn",
    "clone_group_id",
    "cluster_create_time",
    "earliest_backtrack_time",
    "backtrack_consumed_change_records",
    "capacity",
    "db_cluster_instance_class",
    "storage_throughput",
    "io_optimized_next_allowed_modification_time",
    "publicly_accessible",
    "cross_account_clone",
    "automatic_restart_time",
    "aws_backup_recovery_point_arn",
    "certificate_details",
    "serverless_v2_platform_version",
];

/// Members of DBSnapshot that an encrypted copy must have too: what the data is, and how it is restored.
pub const SNAPSHOT_COMPARED: &[&str] = &[
    "db_instance_identifier",
    "dbi_resource_id",
    "instance_create_time",
    "original_snapshot_create_time",
    "snapshot_database_time",
    "engine",
    "engine_version",
    "license_model",
    "master_username",
    "port",
    "snapshot_target",
    "allocated_storage",
    "storage_type",
    "iops",
    "storage_throughput",
    "option_group_name",
    "tde_credential_arn",
    "timezone",
    "db_system_id",
    "multi_tenant",
    "dedicated_log_volume",
    "iam_database_authentication_enabled",
    "processor_features",
    "additional_storage_volumes",
    "tag_list",
];

/// Members of DBSnapshot that are derived, identify it, say where it lies, or that a restore is given anew.
pub const SNAPSHOT_DERIVED: &[&str] = &[
    "db_snapshot_identifier",
    "db_snapshot_arn",
    "snapshot_create_time",
    "status",
    "percent_progress",
    "snapshot_type",
    "source_region",
    "source_db_snapshot_identifier",
    "encrypted",
    "storage_encryption_type",
    "kms_key_id",
    "availability_zone",
    "vpc_id",
    "snapshot_availability_zone",
    "backup_retention_period",
    "preferred_backup_window",
    "full_snapshot_size_in_bytes",
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// The field names of a struct, from its derived Debug form.
    fn fields(debug: &str) -> BTreeSet<String> {
        let inner = debug.split_once('{').unwrap().1.rsplit_once('}').unwrap().0;
        inner
            .split(", ")
            .filter_map(|part| part.split_once(':'))
            .map(|(name, _)| name.trim().to_owned())
            .collect()
    }

    fn check(debug: &str, groups: &[&[&str]]) {
        let mut listed = BTreeSet::new();
        for name in groups.iter().flat_map(|g| g.iter()) {
            assert!(listed.insert((*name).to_owned()), "{name} is listed twice");
        }
        let real = fields(debug);
        let new: Vec<_> = real.difference(&listed).collect();
        let gone: Vec<_> = listed.difference(&real).collect();
        assert!(new.is_empty(), "members without a decision: {new:?}");
        assert!(gone.is_empty(), "members that the SDK does not have: {gone:?}");
    }

    #[test]
    fn every_member_of_the_sdk_has_its_group() {
        let instance = aws_sdk_rds::types::DbInstance::builder().build();
        let groups = [INSTANCE_SETTINGS, INSTANCE_INHERITED, INSTANCE_BLOCKING, INSTANCE_DERIVED];
        check(&format!("{instance:?}"), &groups);
        let cluster = aws_sdk_rds::types::DbCluster::builder().build();
        let groups = [CLUSTER_SETTINGS, CLUSTER_INHERITED, CLUSTER_BLOCKING, CLUSTER_DERIVED];
        check(&format!("{cluster:?}"), &groups);
        let snapshot = aws_sdk_rds::types::DbSnapshot::builder().build();
        check(&format!("{snapshot:?}"), &[SNAPSHOT_COMPARED, SNAPSHOT_DERIVED]);
    }
}
