//! `CreateDBInstanceReadReplica`.

use super::write::{Made, made_instance, send, strings, tags};
use crate::client::Cloud;
use crate::error::cloud_error;
use crate::limits::Class;
use crate::retry::To;
use crate::session::Session;
use ringfence_domain::cloud::CloudError;
use ringfence_domain::id::Region;
use ringfence_domain::rds::Instance;

impl Cloud {
    /// A read replica of `of`, with the settings of `source` that the call takes; the rest is set afterwards. Within a
    /// region it is encrypted under its source's key ("the read replica is encrypted with the same KMS key", API
    /// reference, KmsKeyId), and its subnet group is its source's. Across regions `of` is an ARN, the key "for the
    /// destination region" must be given, and the subnet group decides its VPC. The presigned URL of old "applies only
    /// to GovCloud and China" (the same, PreSignedUrl), where plans block it.
    pub async fn create_replica(
        &self,
        session: &Session,
        region: &Region,
        (name, of): (&str, &str),
        (source, key): (&Instance, Option<&str>),
        remediation: &str,
    ) -> Result<Made, CloudError> {
        const OP: &str = "rds:CreateDBInstanceReadReplica";
        let s = &source.settings;
        let insights = s.performance_insights;
        let kind = s.storage_type.as_deref();
        let io = kind.is_some_and(|t| ["io1", "io2"].contains(&t));
        // A small gp3 volume reports a baseline that it need not be given (RDS guide, "DB instance storage").
        let fast = kind == Some("gp3") && s.iops.is_some_and(|n| n > 3_000);
        let sql_server = source.engine.starts_with("sqlserver");
        let own = |group: &Option<String>| group.clone().filter(|g| !g.starts_with("default"));
        let answer = send!(self, session, region, "rds:CreateDBInstanceReadReplica", |client| {
            client
                .create_db_instance_read_replica()
                .db_instance_identifier(name)
                .source_db_instance_identifier(of)
                .set_kms_key_id(key.map(str::to_owned))
                .set_db_subnet_group_name(s.db_subnet_group.clone().filter(|_| key.is_some()))
                .db_instance_class(&s.db_instance_class)
                .multi_az(s.multi_az)
                // A zone and MultiAZ exclude each other.
                .set_availability_zone(s.availability_zone.clone().filter(|_| !s.multi_az))
                .set_port(s.port)
                .auto_minor_version_upgrade(s.auto_minor_version_upgrade)
                .set_storage_type(s.storage_type.clone())
                .set_allocated_storage(s.allocated_storage.filter(|_| !sql_server))
                .set_iops(s.iops.filter(|n| *n > 0 && (io || fast)))
                .set_storage_throughput(s.storage_throughput.filter(|n| *n > 0 && fast))
                .set_db_parameter_group_name(own(&s.db_parameter_group))
                .set_option_group_name(own(&s.option_group))
                .publicly_accessible(s.publicly_accessible)
                .copy_tags_to_snapshot(s.copy_tags_to_snapshot)
                .set_monitoring_interval(
                    (s.monitoring_interval > 0).then_some(s.monitoring_interval),
                )
                .set_monitoring_role_arn(s.monitoring_role_arn.clone())
                .enable_iam_database_authentication(s.iam_database_authentication)
                .set_enable_performance_insights(insights.then_some(true))
                .set_performance_insights_kms_key_id(
                    s.performance_insights_kms_key_id.clone().filter(|_| insights),
                )
                .set_performance_insights_retention_period(
                    s.performance_insights_retention_period.filter(|_| insights),
                )
                .set_enable_cloudwatch_logs_exports(strings(&s.enabled_cloudwatch_logs_exports))
                .set_network_type(s.network_type.clone())
                .set_ca_certificate_identifier(s.ca_certificate_identifier.clone())
                .set_max_allocated_storage(s.max_allocated_storage)
                .deletion_protection(false)
                .set_vpc_security_group_ids(strings(&s.vpc_security_group_ids))
                .set_tags(tags(&s.tags, remediation))
        })?;
        made_instance(OP, answer.db_instance())
    }
}
