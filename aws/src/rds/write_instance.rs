//! The writes on instances: one AWS call each.
//!
//! Settings are taken apart without `..`, so that a field that is added to them does not compile
//! until it is sent, or left out on purpose, here.

use super::write::{Made, gone, made, made_instance, send, strings, tag, tags};
use crate::client::Cloud;
use crate::error::cloud_error;
use crate::limits::Class;
use crate::retry::To;
use crate::session::Session;
use aws_sdk_rds::types::{
    AdditionalStorageVolume, CloudwatchLogsExportConfiguration, DatabaseInsightsMode,
    ProcessorFeature,
};
use ringfence_domain::cloud::CloudError;
use ringfence_domain::id::Region;
use ringfence_domain::rds::{Domain, Instance, InstanceSettings, StorageVolume, TAG};
use std::collections::{BTreeMap, BTreeSet};

fn volumes(list: &[StorageVolume]) -> Option<Vec<AdditionalStorageVolume>> {
    let volume = |v: &StorageVolume| {
        AdditionalStorageVolume::builder()
            .set_volume_name(v.volume_name.clone())
            .set_allocated_storage(v.allocated_storage)
            .set_iops(v.iops)
            .set_max_allocated_storage(v.max_allocated_storage)
            .set_storage_throughput(v.storage_throughput)
            .set_storage_type(v.storage_type.clone())
            .build()
    };
    (!list.is_empty()).then(|| list.iter().map(volume).collect())
}

impl Cloud {
    /// `CreateDBSnapshot`.
    pub async fn create_snapshot(
        &self,
        session: &Session,
        region: &Region,
        instance: &str,
        name: &str,
        remediation: &str,
    ) -> Result<Made, CloudError> {
        let answer = send!(self, session, region, "rds:CreateDBSnapshot", |client| {
            client
                .create_db_snapshot()
                .db_instance_identifier(instance)
                .db_snapshot_identifier(name)
                .tags(tag(TAG, remediation))
        })?;
        made("rds:CreateDBSnapshot", answer.db_snapshot().and_then(|s| s.db_snapshot_arn()))
    }

    /// `CopyDBSnapshot` under a key: the step that encrypts an instance.
    pub async fn copy_snapshot(
        &self,
        session: &Session,
        region: &Region,
        (from, to): (&str, &str),
        key_arn: &str,
        own: &BTreeMap<String, String>,
        remediation: &str,
    ) -> Result<Made, CloudError> {
        let answer = send!(self, session, region, "rds:CopyDBSnapshot", |client| client
            .copy_db_snapshot()
            .source_db_snapshot_identifier(from)
            .target_db_snapshot_identifier(to)
            .kms_key_id(key_arn)
            .copy_tags(false)
            .set_tags(tags(own, remediation)))?;
        made("rds:CopyDBSnapshot", answer.db_snapshot().and_then(|s| s.db_snapshot_arn()))
    }

    /// `RestoreDBInstanceFromDBSnapshot` with every setting that it takes. Deletion protection is
    /// off until the twin is verified.
    ///
    /// `plain_gp3` leaves out IOPS and throughput: Describe reports a baseline for small gp3 volumes
    /// that some engines refuse to be given.
    pub async fn restore_instance(
        &self,
        session: &Session,
        region: &Region,
        (snapshot, name): (&str, &str),
        source: &Instance,
        remediation: &str,
        plain_gp3: bool,
    ) -> Result<Made, CloudError> {
        const OP: &str = "rds:RestoreDBInstanceFromDBSnapshot";
        let InstanceSettings {
            db_instance_class,
            allocated_storage,
            iops,
            storage_throughput,
            storage_type,
            multi_az,
            availability_zone,
            publicly_accessible,
            auto_minor_version_upgrade,
            license_model,
            db_name,
            ca_certificate_identifier,
            copy_tags_to_snapshot,
            processor_features,
            deletion_protection: _, // set last, by modify_instance
            network_type,
            backup_target,
            custom_iam_instance_profile,
            dedicated_log_volume,
            engine_lifecycle_support,
            additional_storage_volumes,
            backup_retention_period,
            preferred_backup_window,
            db_capacity_reservation_identifier,
            port,
            vpc_security_group_ids,
            db_parameter_group,
            db_subnet_group,
            option_group,
            domain,
            iam_database_authentication,
            enabled_cloudwatch_logs_exports,
            customer_owned_ip,
            tags: own_tags,
            // Not taken by a restore: modify_instance sets them.
            preferred_maintenance_window: _,
            monitoring_interval: _,
            monitoring_role_arn: _,
            performance_insights: _,
            performance_insights_kms_key_id: _,
            performance_insights_retention_period: _,
            database_insights_mode: _,
            max_allocated_storage: _,
            manage_master_user_password: _,
            master_user_secret_kms_key_id: _,
            associated_roles: _, // by add_role
        } = &source.settings;
        let sql_server = source.engine.starts_with("sqlserver");
        let of = |types: &[&str]| storage_type.as_deref().is_some_and(|t| types.contains(&t));
        let provisioned = of(&["io1", "io2", "gp3"]) && !plain_gp3;
        let throughput = of(&["gp3"]) && !plain_gp3;
        let features: Vec<ProcessorFeature> = processor_features
            .iter()
            .map(|(name, value)| ProcessorFeature::builder().name(name).value(value).build())
            .collect();
        let d = domain.clone().unwrap_or(Domain {
            domain: None,
            iam_role_name: None,
            fqdn: None,
            ou: None,
            auth_secret_arn: None,
            dns_ips: vec![],
        });
        let answer =
            send!(self, session, region, "rds:RestoreDBInstanceFromDBSnapshot", |client| client
                .restore_db_instance_from_db_snapshot()
                .db_snapshot_identifier(snapshot)
                .db_instance_identifier(name)
                .db_instance_class(db_instance_class)
                // Storage cannot be set for SQL Server; elsewhere it equals the snapshot's.
                .set_allocated_storage(allocated_storage.filter(|_| !sql_server))
                .set_iops(iops.filter(|n| *n > 0 && provisioned))
                .set_storage_throughput(storage_throughput.filter(|n| *n > 0 && throughput))
                .set_storage_type(storage_type.clone())
                .multi_az(*multi_az)
                // A zone and MultiAZ exclude each other.
                .set_availability_zone(availability_zone.clone().filter(|_| !multi_az))
                .publicly_accessible(*publicly_accessible)
                .auto_minor_version_upgrade(*auto_minor_version_upgrade)
                .set_license_model(license_model.clone())
                // Only Oracle takes a name; elsewhere it is in the snapshot.
                .set_db_name(db_name.clone().filter(|_| source.engine.starts_with("oracle")))
                .set_ca_certificate_identifier(ca_certificate_identifier.clone())
                .copy_tags_to_snapshot(*copy_tags_to_snapshot)
                .set_processor_features((!features.is_empty()).then(|| features.clone()))
                .deletion_protection(false)
                .set_network_type(network_type.clone())
                .set_backup_target(backup_target.clone())
                .set_custom_iam_instance_profile(custom_iam_instance_profile.clone())
                .set_dedicated_log_volume(dedicated_log_volume.then_some(true))
                .set_engine_lifecycle_support(engine_lifecycle_support.clone())
                .set_additional_storage_volumes(volumes(additional_storage_volumes))
                .backup_retention_period(*backup_retention_period)
                .set_preferred_backup_window(preferred_backup_window.clone())
                .set_db_capacity_reservation_identifier(db_capacity_reservation_identifier.clone())
                .set_port(*port)
                .set_vpc_security_group_ids(strings(vpc_security_group_ids))
                // A default group is what an omitted name gives; it is compared afterwards like the rest.
                .set_db_parameter_group_name(
                    db_parameter_group.clone().filter(|g| !g.starts_with("default."))
                )
                .set_db_subnet_group_name(db_subnet_group.clone())
                .set_option_group_name(option_group.clone().filter(|g| !g.starts_with("default:")))
                .set_domain(d.domain.clone())
                .set_domain_iam_role_name(d.iam_role_name.clone())
                .set_domain_fqdn(d.fqdn.clone().filter(|_| d.auth_secret_arn.is_some()))
                .set_domain_ou(d.ou.clone().filter(|_| d.auth_secret_arn.is_some()))
                .set_domain_auth_secret_arn(d.auth_secret_arn.clone())
                .set_domain_dns_ips((!d.dns_ips.is_empty()).then(|| d.dns_ips.clone()))
                .enable_iam_database_authentication(*iam_database_authentication)
                .set_enable_cloudwatch_logs_exports(strings(enabled_cloudwatch_logs_exports))
                .set_enable_customer_owned_ip(customer_owned_ip.then_some(true))
                .set_tags(tags(own_tags, remediation)))?;
        made_instance(OP, answer.db_instance())
    }

    /// `ModifyDBInstance` of just the named fields, at once.
    pub async fn modify_instance(
        &self,
        session: &Session,
        region: &Region,
        name: &str,
        want: &InstanceSettings,
        fields: &BTreeSet<String>,
    ) -> Result<(), CloudError> {
        let has = |field: &str| fields.contains(field);
        let insights = has("performance_insights")
            || has("performance_insights_kms_key_id")
            || has("performance_insights_retention_period");
        let monitoring = has("monitoring_interval") || has("monitoring_role_arn");
        let secret = has("manage_master_user_password") || has("master_user_secret_kms_key_id");
        let logs = CloudwatchLogsExportConfiguration::builder()
            .set_enable_log_types(strings(&want.enabled_cloudwatch_logs_exports))
            .build();
        let mode = want.database_insights_mode.as_deref().map(DatabaseInsightsMode::from);
        send!(self, session, region, "rds:ModifyDBInstance", |client| {
            client
                .modify_db_instance()
                .db_instance_identifier(name)
                .apply_immediately(true)
                .set_auto_minor_version_upgrade(
                    has("auto_minor_version_upgrade").then_some(want.auto_minor_version_upgrade),
                )
                .set_backup_retention_period(
                    has("backup_retention_period").then_some(want.backup_retention_period),
                )
                .set_ca_certificate_identifier(
                    want.ca_certificate_identifier
                        .clone()
                        .filter(|_| has("ca_certificate_identifier")),
                )
                .set_copy_tags_to_snapshot(
                    has("copy_tags_to_snapshot").then_some(want.copy_tags_to_snapshot),
                )
                .set_database_insights_mode(mode.clone().filter(|_| has("database_insights_mode")))
                .set_deletion_protection(
                    has("deletion_protection").then_some(want.deletion_protection),
                )
                .set_cloudwatch_logs_export_configuration(
                    has("enabled_cloudwatch_logs_exports").then(|| logs.clone()),
                )
                .set_enable_iam_database_authentication(
                    has("iam_database_authentication").then_some(want.iam_database_authentication),
                )
                .set_manage_master_user_password(secret.then_some(want.manage_master_user_password))
                .set_master_user_secret_kms_key_id(
                    want.master_user_secret_kms_key_id.clone().filter(|_| secret),
                )
                .set_max_allocated_storage(
                    want.max_allocated_storage.filter(|_| has("max_allocated_storage")),
                )
                // Interval and role go together: an interval above 0 needs the role (API reference).
                .set_monitoring_interval(monitoring.then_some(want.monitoring_interval))
                .set_monitoring_role_arn(want.monitoring_role_arn.clone().filter(|_| monitoring))
                .set_multi_az(has("multi_az").then_some(want.multi_az))
                // Without the key, RDS would take the account's default key for Performance Insights.
                .set_enable_performance_insights(insights.then_some(want.performance_insights))
                .set_performance_insights_kms_key_id(
                    want.performance_insights_kms_key_id.clone().filter(|_| insights),
                )
                .set_performance_insights_retention_period(
                    want.performance_insights_retention_period.filter(|_| insights),
                )
                .set_preferred_backup_window(
                    want.preferred_backup_window.clone().filter(|_| has("preferred_backup_window")),
                )
                .set_preferred_maintenance_window(
                    want.preferred_maintenance_window
                        .clone()
                        .filter(|_| has("preferred_maintenance_window")),
                )
                .set_publicly_accessible(
                    has("publicly_accessible").then_some(want.publicly_accessible),
                )
                .set_vpc_security_group_ids(
                    strings(&want.vpc_security_group_ids).filter(|_| has("vpc_security_group_ids")),
                )
        })?;
        Ok(())
    }

    /// `DeleteDBSnapshot`. That it is gone already is success.
    pub async fn delete_snapshot(
        &self,
        session: &Session,
        region: &Region,
        name: &str,
    ) -> Result<(), CloudError> {
        let answer = send!(self, session, region, "rds:DeleteDBSnapshot", |client| {
            client.delete_db_snapshot().db_snapshot_identifier(name)
        });
        gone(answer.map(drop))
    }
}
