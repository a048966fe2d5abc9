//! The writes on Aurora clusters and their members: one AWS call each.

use super::write::{Made, gone, made, made_instance, send, strings, tag, tags};
use crate::client::Cloud;
use crate::error::cloud_error;
use crate::limits::Class;
use crate::retry::To;
use crate::session::Session;
use aws_sdk_rds::types::{
    CloudwatchLogsExportConfiguration, DatabaseInsightsMode, ServerlessV2ScalingConfiguration,
};
use ringfence_domain::cloud::CloudError;
use ringfence_domain::id::Region;
use ringfence_domain::rds::{Cluster, ClusterSettings, Instance, TAG};
use std::collections::BTreeSet;

fn serverless(s: &(String, String, Option<i32>)) -> ServerlessV2ScalingConfiguration {
    ServerlessV2ScalingConfiguration::builder()
        .set_min_capacity(s.0.parse().ok())
        .set_max_capacity(s.1.parse().ok())
        .set_seconds_until_auto_pause(s.2)
        .build()
}

impl Cloud {
    /// `CreateDBClusterSnapshot`.
    pub async fn create_cluster_snapshot(
        &self,
        session: &Session,
        region: &Region,
        cluster: &str,
        name: &str,
        remediation: &str,
    ) -> Result<Made, CloudError> {
        let answer = send!(self, session, region, "rds:CreateDBClusterSnapshot", |client| client
            .create_db_cluster_snapshot()
            .db_cluster_identifier(cluster)
            .db_cluster_snapshot_identifier(name)
            .tags(tag(TAG, remediation)))?;
        let snapshot = answer.db_cluster_snapshot();
        made("rds:CreateDBClusterSnapshot", snapshot.and_then(|s| s.db_cluster_snapshot_arn()))
    }

    /// `RestoreDBClusterFromSnapshot` under a key: the step that encrypts an Aurora cluster.
    pub async fn restore_cluster(
        &self,
        session: &Session,
        region: &Region,
        (snapshot, name): (&str, &str),
        source: &Cluster,
        key_arn: &str,
        remediation: &str,
    ) -> Result<Made, CloudError> {
        const OP: &str = "rds:RestoreDBClusterFromSnapshot";
        let ClusterSettings {
            availability_zones,
            backup_retention_period,
            preferred_backup_window,
            database_name,
            port,
            backtrack_window,
            engine_mode,
            storage_type,
            iops,
            deletion_protection: _, // set last, by modify_cluster
            copy_tags_to_snapshot,
            network_type,
            serverless_v2,
            monitoring_interval,
            monitoring_role_arn,
            performance_insights,
            performance_insights_kms_key_id,
            performance_insights_retention_period,
            engine_lifecycle_support,
            db_cluster_parameter_group,
            db_subnet_group,
            vpc_security_group_ids,
            iam_database_authentication,
            enabled_cloudwatch_logs_exports,
            domain,
            tags: own_tags,
            // Not taken by a restore: modify_cluster sets them.
            preferred_maintenance_window: _,
            auto_minor_version_upgrade: _,
            database_insights_mode: _,
            manage_master_user_password: _,
            master_user_secret_kms_key_id: _,
            local_write_forwarding: _,
            associated_roles: _, // by add_role
        } = &source.settings;
        let domain = domain.as_ref();
        let answer =
            send!(self, session, region, "rds:RestoreDBClusterFromSnapshot", |client| client
                .restore_db_cluster_from_snapshot()
                .snapshot_identifier(snapshot)
                .db_cluster_identifier(name)
                .engine(&source.engine)
                // Omitted, the region's default version would be taken.
                .engine_version(&source.engine_version)
                .kms_key_id(key_arn)
                .set_availability_zones(strings(availability_zones))
                .set_backup_retention_period(*backup_retention_period)
                .set_preferred_backup_window(preferred_backup_window.clone())
                .set_database_name(database_name.clone())
                .set_port(*port)
                .set_backtrack_window((*backtrack_window > 0).then_some(*backtrack_window))
                .set_engine_mode(engine_mode.clone())
                .set_storage_type(storage_type.clone())
                .set_iops(iops.filter(|n| *n > 0))
                .deletion_protection(false)
                .copy_tags_to_snapshot(*copy_tags_to_snapshot)
                .set_network_type(network_type.clone())
                .set_serverless_v2_scaling_configuration(serverless_v2.as_ref().map(serverless))
                .set_monitoring_interval(monitoring_interval.filter(|n| *n > 0))
                .set_monitoring_role_arn(monitoring_role_arn.clone())
                .set_enable_performance_insights(performance_insights.filter(|on| *on))
                .set_performance_insights_kms_key_id(performance_insights_kms_key_id.clone())
                .set_performance_insights_retention_period(*performance_insights_retention_period)
                .set_engine_lifecycle_support(engine_lifecycle_support.clone())
                .set_db_cluster_parameter_group_name(
                    db_cluster_parameter_group.clone().filter(|g| !g.starts_with("default."))
                )
                .set_db_subnet_group_name(db_subnet_group.clone())
                .set_vpc_security_group_ids(strings(vpc_security_group_ids))
                .enable_iam_database_authentication(*iam_database_authentication)
                .set_enable_cloudwatch_logs_exports(strings(enabled_cloudwatch_logs_exports))
                .set_domain(domain.and_then(|d| d.domain.clone()))
                .set_domain_iam_role_name(domain.and_then(|d| d.iam_role_name.clone()))
                .set_tags(tags(own_tags, remediation)))?;
        let cluster = answer.db_cluster();
        let made = made(OP, cluster.and_then(|c| c.db_cluster_arn()))?;
        let resource_id = cluster.and_then(|c| c.db_cluster_resource_id()).map(str::to_owned);
        Ok(Made { resource_id, ..made })
    }

    /// `CreateDBInstance` as a member of the twin cluster. Only what members have of their own is
    /// sent; the API reference says of the rest that it does not apply to Aurora.
    pub async fn create_member(
        &self,
        session: &Session,
        region: &Region,
        (name, cluster): (&str, &str),
        source: &Instance,
        remediation: &str,
    ) -> Result<Made, CloudError> {
        let s = &source.settings;
        let insights = s.performance_insights;
        let answer = send!(self, session, region, "rds:CreateDBInstance", |client| {
            client
                .create_db_instance()
                .db_instance_identifier(name)
                .db_cluster_identifier(cluster)
                .engine(&source.engine)
                .db_instance_class(&s.db_instance_class)
                .set_availability_zone(s.availability_zone.clone())
                .set_db_parameter_group_name(
                    s.db_parameter_group.clone().filter(|g| !g.starts_with("default.")),
                )
                .set_preferred_maintenance_window(s.preferred_maintenance_window.clone())
                .auto_minor_version_upgrade(s.auto_minor_version_upgrade)
                .publicly_accessible(s.publicly_accessible)
                .set_promotion_tier(source.promotion_tier)
                .set_monitoring_interval(
                    (s.monitoring_interval > 0).then_some(s.monitoring_interval),
                )
                .set_monitoring_role_arn(s.monitoring_role_arn.clone())
                .set_enable_performance_insights(insights.then_some(true))
                .set_performance_insights_kms_key_id(
                    s.performance_insights_kms_key_id.clone().filter(|_| insights),
                )
                .set_performance_insights_retention_period(
                    s.performance_insights_retention_period.filter(|_| insights),
                )
                .set_ca_certificate_identifier(s.ca_certificate_identifier.clone())
                .set_tags(tags(&s.tags, remediation))
        })?;
        made_instance("rds:CreateDBInstance", answer.db_instance())
    }

    /// `ModifyDBCluster` of just the named fields, at once.
    pub async fn modify_cluster(
        &self,
        session: &Session,
        region: &Region,
        name: &str,
        want: &ClusterSettings,
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
        let scaling = want.serverless_v2.as_ref().map(serverless);
        send!(self, session, region, "rds:ModifyDBCluster", |client| {
            client
                .modify_db_cluster()
                .db_cluster_identifier(name)
                .apply_immediately(true)
                .set_auto_minor_version_upgrade(
                    want.auto_minor_version_upgrade.filter(|_| has("auto_minor_version_upgrade")),
                )
                .set_backtrack_window(has("backtrack_window").then_some(want.backtrack_window))
                .set_backup_retention_period(
                    want.backup_retention_period.filter(|_| has("backup_retention_period")),
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
                .set_enable_local_write_forwarding(
                    has("local_write_forwarding").then_some(want.local_write_forwarding),
                )
                .set_manage_master_user_password(secret.then_some(want.manage_master_user_password))
                .set_master_user_secret_kms_key_id(
                    want.master_user_secret_kms_key_id.clone().filter(|_| secret),
                )
                .set_monitoring_interval(want.monitoring_interval.filter(|_| monitoring))
                .set_monitoring_role_arn(want.monitoring_role_arn.clone().filter(|_| monitoring))
                .set_enable_performance_insights(want.performance_insights.filter(|_| insights))
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
                .set_serverless_v2_scaling_configuration(
                    scaling.clone().filter(|_| has("serverless_v2")),
                )
                .set_vpc_security_group_ids(
                    strings(&want.vpc_security_group_ids).filter(|_| has("vpc_security_group_ids")),
                )
        })?;
        Ok(())
    }

    /// `DeleteDBClusterSnapshot`. That it is gone already is success.
    pub async fn delete_cluster_snapshot(
        &self,
        session: &Session,
        region: &Region,
        name: &str,
    ) -> Result<(), CloudError> {
        let answer = send!(self, session, region, "rds:DeleteDBClusterSnapshot", |client| client
            .delete_db_cluster_snapshot()
            .db_cluster_snapshot_identifier(name));
        gone(answer.map(drop))
    }

    /// `DeleteDBCluster` of a twin that never had a member. No final snapshot: it holds nothing that
    /// the original and the plain snapshot do not hold.
    pub async fn delete_cluster(
        &self,
        session: &Session,
        region: &Region,
        name: &str,
    ) -> Result<(), CloudError> {
        let answer = send!(self, session, region, "rds:DeleteDBCluster", |client| {
            client.delete_db_cluster().db_cluster_identifier(name).skip_final_snapshot(true)
        });
        gone(answer.map(drop))
    }
}
