//! SDK types to our own, at once: an SDK instance is several times as large, and its members are
//! all optional.

use aws_sdk_rds::types;
use ringfence_domain::rds::{
    Cluster, ClusterSettings, Domain, Encryption, Instance, InstanceSettings, JOBS_TAG, MemberRef,
    StorageVolume, TAG, WINDOW_TAG, managed_by,
};
use std::collections::{BTreeMap, BTreeSet};

/// The status of a role that RDS cannot assume (API reference, DBInstanceRole): it cannot be given again.
const INVALID: &str = "INVALID";

pub(super) fn text(value: Option<&str>) -> String {
    value.unwrap_or_default().to_owned()
}

pub(super) fn some(value: Option<&str>) -> Option<String> {
    value.filter(|v| !v.is_empty()).map(str::to_owned)
}

/// AWS promises no order in its lists, and fingerprints must not change with it.
fn sorted<T: Ord>(mut list: Vec<T>) -> Vec<T> {
    list.sort();
    list
}

/// Tags that a person set. `aws:` and `rds:` are reserved and refused at restore (RDS guide,
/// "Tagging"); ours mark what we made and are not part of what must be equal.
pub(super) fn tags(list: &[types::Tag]) -> BTreeMap<String, String> {
    let own = |key: &str| {
        !key.is_empty() && !["aws:", "rds:", "ringfence:"].iter().any(|p| key.starts_with(p))
    };
    list.iter()
        .filter(|t| own(t.key().unwrap_or_default()))
        .map(|t| (text(t.key()), text(t.value())))
        .collect()
}

fn tagged(list: &[types::Tag], key: &str) -> Option<String> {
    list.iter().find(|t| t.key() == Some(key)).map(|t| text(t.value()))
}

fn managed(list: &[types::Tag]) -> Option<String> {
    managed_by(list.iter().map(|t| (t.key().unwrap_or_default(), t.value().unwrap_or_default())))
}

pub(super) fn made_by(list: &[types::Tag]) -> Option<String> {
    tagged(list, TAG)
}

fn groups(list: &[types::VpcSecurityGroupMembership]) -> BTreeSet<String> {
    list.iter()
        .filter(|g| g.status() != Some("removing"))
        .filter_map(|g| some(g.vpc_security_group_id()))
        .collect()
}

fn domain(list: &[types::DomainMembership]) -> Option<Domain> {
    list.first().map(|d| Domain {
        domain: some(d.domain()),
        iam_role_name: some(d.iam_role_name()),
        fqdn: some(d.fqdn()),
        ou: some(d.ou()),
        auth_secret_arn: some(d.auth_secret_arn()),
        dns_ips: sorted(d.dns_ips().to_vec()),
    })
}

pub(super) fn encryption(
    kind: Option<&types::StorageEncryptionType>,
    flag: Option<bool>,
) -> Encryption {
    Encryption::judge(kind.map(|k| k.as_str()), flag)
}

/// Notes an X member that is in use.
fn foreign(map: &mut BTreeMap<String, String>, name: &str, value: Option<String>) {
    if let Some(value) = value.filter(|v| !v.is_empty()) {
        map.insert(name.to_owned(), value);
    }
}

pub(super) fn list<T>(items: &[T], name: impl Fn(&T) -> String) -> Option<String> {
    (!items.is_empty()).then(|| items.iter().map(name).collect::<Vec<_>>().join(", "))
}

fn stream(mode: Option<&str>, status: Option<&str>) -> Option<String> {
    let on = status.is_some_and(|s| s != "stopped");
    on.then(|| format!("{} {}", text(mode), text(status)).trim().to_owned())
}

pub(super) fn instance(i: &types::DbInstance) -> Instance {
    Instance {
        id: text(i.db_instance_identifier()),
        arn: text(i.db_instance_arn()),
        resource_id: text(i.dbi_resource_id()),
        engine: text(i.engine()),
        status: text(i.db_instance_status()),
        encryption: encryption(i.storage_encryption_type(), i.storage_encrypted()),
        kms_key: some(i.kms_key_id()),
        cluster: some(i.db_cluster_identifier()),
        replica_source: some(i.read_replica_source_db_instance_identifier())
            .or_else(|| some(i.read_replica_source_db_cluster_identifier())),
        replicas: sorted(i.read_replica_db_instance_identifiers().to_vec()),
        vpc: i.db_subnet_group().and_then(|g| some(g.vpc_id())),
        address: i.endpoint().and_then(|e| some(e.address())),
        settings: instance_settings(i),
        inherited: instance_inherited(i),
        foreign: instance_foreign(i),
        pending: i.pending_modified_values().map(pending).unwrap_or_default(),
        out_of_sync: out_of_sync(i),
        promotion_tier: i.promotion_tier(),
        window: tagged(i.tag_list(), WINDOW_TAG),
        jobs_known: tagged(i.tag_list(), JOBS_TAG).as_deref() == Some("acknowledged"),
        managed_by: managed(i.tag_list()),
        made_by: made_by(i.tag_list()),
    }
}

fn instance_settings(i: &types::DbInstance) -> InstanceSettings {
    let volume = |v: &types::AdditionalStorageVolumeOutput| StorageVolume {
        volume_name: some(v.volume_name()),
        allocated_storage: v.allocated_storage(),
        iops: v.iops(),
        max_allocated_storage: v.max_allocated_storage(),
        storage_throughput: v.storage_throughput(),
        storage_type: some(v.storage_type()),
    };
    let features = i.processor_features().iter();
    InstanceSettings {
        db_instance_class: text(i.db_instance_class()),
        allocated_storage: i.allocated_storage(),
        iops: i.iops(),
        storage_throughput: i.storage_throughput(),
        storage_type: some(i.storage_type()),
        multi_az: i.multi_az().unwrap_or_default(),
        availability_zone: some(i.availability_zone()),
        publicly_accessible: i.publicly_accessible().unwrap_or_default(),
        auto_minor_version_upgrade: i.auto_minor_version_upgrade().unwrap_or_default(),
        license_model: some(i.license_model()),
        db_name: some(i.db_name()),
        ca_certificate_identifier: some(i.ca_certificate_identifier()),
        copy_tags_to_snapshot: i.copy_tags_to_snapshot().unwrap_or_default(),
        processor_features: features.map(|f| (text(f.name()), text(f.value()))).collect(),
        deletion_protection: i.deletion_protection().unwrap_or_default(),
        network_type: some(i.network_type()),
        backup_target: some(i.backup_target()),
        custom_iam_instance_profile: some(i.custom_iam_instance_profile()),
        dedicated_log_volume: i.dedicated_log_volume().unwrap_or_default(),
        engine_lifecycle_support: some(i.engine_lifecycle_support()),
        additional_storage_volumes: sorted(
            i.additional_storage_volumes().iter().map(volume).collect(),
        ),
        backup_retention_period: i.backup_retention_period().unwrap_or_default(),
        preferred_backup_window: some(i.preferred_backup_window()),
        db_capacity_reservation_identifier: some(i.db_capacity_reservation_identifier()),
        // DbInstancePort is 0 outside clusters on AWS; the endpoint's port is the one in use.
        port: i.endpoint().and_then(|e| e.port()),
        vpc_security_group_ids: groups(i.vpc_security_groups()),
        db_parameter_group: i
            .db_parameter_groups()
            .first()
            .and_then(|g| some(g.db_parameter_group_name())),
        db_subnet_group: i.db_subnet_group().and_then(|g| some(g.db_subnet_group_name())),
        option_group: i
            .option_group_memberships()
            .first()
            .and_then(|g| some(g.option_group_name())),
        domain: domain(i.domain_memberships()),
        iam_database_authentication: i.iam_database_authentication_enabled().unwrap_or_default(),
        enabled_cloudwatch_logs_exports: i
            .enabled_cloudwatch_logs_exports()
            .iter()
            .cloned()
            .collect(),
        customer_owned_ip: i.customer_owned_ip_enabled().unwrap_or_default(),
        tags: tags(i.tag_list()),
        preferred_maintenance_window: some(i.preferred_maintenance_window()),
        monitoring_interval: i.monitoring_interval().unwrap_or_default(),
        monitoring_role_arn: some(i.monitoring_role_arn()),
        performance_insights: i.performance_insights_enabled().unwrap_or_default(),
        performance_insights_kms_key_id: some(i.performance_insights_kms_key_id()),
        performance_insights_retention_period: i.performance_insights_retention_period(),
        database_insights_mode: i.database_insights_mode().and_then(|m| some(Some(m.as_str()))),
        max_allocated_storage: i.max_allocated_storage(),
        manage_master_user_password: i.master_user_secret().is_some(),
        master_user_secret_kms_key_id: i.master_user_secret().and_then(|s| some(s.kms_key_id())),
        associated_roles: i
            .associated_roles()
            .iter()
            .filter(|r| r.status() != Some(INVALID))
            .map(|r| (text(r.feature_name()), text(r.role_arn())))
            .collect(),
    }
}

fn instance_inherited(i: &types::DbInstance) -> BTreeMap<String, String> {
    let tenant = i.multi_tenant().map(|m| m.to_string());
    [
        ("MasterUsername", some(i.master_username())),
        ("EngineVersion", some(i.engine_version())),
        ("CharacterSetName", some(i.character_set_name())),
        ("NcharCharacterSetName", some(i.nchar_character_set_name())),
        ("Timezone", some(i.timezone())),
        ("DBSystemId", some(i.db_system_id())),
        ("MultiTenant", tenant),
    ]
    .into_iter()
    .filter_map(|(name, value)| value.map(|v| (name.to_owned(), v)))
    .collect()
}

fn instance_foreign(i: &types::DbInstance) -> BTreeMap<String, String> {
    let mut map = BTreeMap::new();
    let security = list(i.db_security_groups(), |g| text(g.db_security_group_name()));
    foreign(&mut map, "DBSecurityGroups", security);
    foreign(&mut map, "TdeCredentialArn", some(i.tde_credential_arn()));
    let dead = i.associated_roles().iter().filter(|r| r.status() == Some(INVALID));
    let dead: Vec<String> = dead.map(|r| text(r.role_arn())).collect();
    foreign(&mut map, "AssociatedRoles (INVALID)", Some(dead.join(", ")));
    let mode = i.activity_stream_mode().map(|m| m.as_str());
    let status = i.activity_stream_status().map(|s| s.as_str());
    foreign(&mut map, "ActivityStream", stream(mode, status));
    let backups = i.db_instance_automated_backups_replications();
    let backups = list(backups, |b| text(b.db_instance_automated_backups_arn()));
    foreign(&mut map, "DBInstanceAutomatedBackupsReplications", backups);
    let clusters = list(i.read_replica_db_cluster_identifiers(), Clone::clone);
    foreign(&mut map, "ReadReplicaDBClusterIdentifiers", clusters);
    if i.domain_memberships().len() > 1 {
        let domains = list(i.domain_memberships(), |d| text(d.domain()));
        foreign(&mut map, "DomainMemberships", domains);
    }
    map
}

/// The pending values that are set. The password is never read back; its being there is all that
/// is kept.
fn pending(p: &types::PendingModifiedValues) -> Vec<String> {
    let features = !p.processor_features().is_empty();
    [
        ("DBInstanceClass", p.db_instance_class().is_some()),
        ("AllocatedStorage", p.allocated_storage().is_some()),
        ("MasterUserPassword", p.master_user_password().is_some()),
        ("Port", p.port().is_some()),
        ("BackupRetentionPeriod", p.backup_retention_period().is_some()),
        ("MultiAZ", p.multi_az().is_some()),
        ("EngineVersion", p.engine_version().is_some()),
        ("LicenseModel", p.license_model().is_some()),
        ("Iops", p.iops().is_some()),
        ("StorageThroughput", p.storage_throughput().is_some()),
        ("DBInstanceIdentifier", p.db_instance_identifier().is_some()),
        ("StorageType", p.storage_type().is_some()),
        ("CACertificateIdentifier", p.ca_certificate_identifier().is_some()),
        ("DBSubnetGroupName", p.db_subnet_group_name().is_some()),
        ("PendingCloudwatchLogsExports", p.pending_cloudwatch_logs_exports().is_some()),
        ("ProcessorFeatures", features),
        ("AutomationMode", p.automation_mode().is_some()),
        ("MultiTenant", p.multi_tenant().is_some()),
        ("IAMDatabaseAuthenticationEnabled", p.iam_database_authentication_enabled().is_some()),
        ("DedicatedLogVolume", p.dedicated_log_volume().is_some()),
        ("Engine", p.engine().is_some()),
        ("AdditionalStorageVolumes", !p.additional_storage_volumes().is_empty()),
    ]
    .into_iter()
    .filter(|(_, set)| *set)
    .map(|(name, _)| name.to_owned())
    .collect()
}

fn out_of_sync(i: &types::DbInstance) -> Vec<String> {
    let parameters = i
        .db_parameter_groups()
        .iter()
        .map(|g| ("parameter group", g.db_parameter_group_name(), g.parameter_apply_status()));
    let options = i
        .option_group_memberships()
        .iter()
        .map(|g| ("option group", g.option_group_name(), g.status()));
    parameters
        .chain(options)
        .filter(|(_, _, status)| status.is_some_and(|s| s != "in-sync"))
        .map(|(what, name, status)| format!("{what} {} is {}", text(name), text(status)))
        .collect()
}

pub(super) fn cluster(c: &types::DbCluster) -> Cluster {
    let member = |m: &types::DbClusterMember| MemberRef {
        id: text(m.db_instance_identifier()),
        writer: m.is_cluster_writer().unwrap_or_default(),
    };
    let mut inherited = BTreeMap::new();
    foreign(&mut inherited, "MasterUsername", some(c.master_username()));
    foreign(&mut inherited, "CharacterSetName", some(c.character_set_name()));
    foreign(&mut inherited, "DBSystemId", some(c.db_system_id()));
    Cluster {
        id: text(c.db_cluster_identifier()),
        arn: text(c.db_cluster_arn()),
        resource_id: text(c.db_cluster_resource_id()),
        engine: text(c.engine()),
        engine_version: text(c.engine_version()),
        status: text(c.status()),
        encryption: encryption(c.storage_encryption_type(), c.storage_encrypted()),
        kms_key: some(c.kms_key_id()),
        members: sorted(c.db_cluster_members().iter().map(member).collect()),
        address: some(c.endpoint()),
        endpoints: Vec::new(), // of another call: endpoints.rs
        settings: cluster_settings(c),
        inherited,
        foreign: cluster_foreign(c),
        pending: cluster_pending(c),
        window: tagged(c.tag_list(), WINDOW_TAG),
        jobs_known: tagged(c.tag_list(), JOBS_TAG).as_deref() == Some("acknowledged"),
        managed_by: managed(c.tag_list()),
        made_by: made_by(c.tag_list()),
    }
}

fn cluster_settings(c: &types::DbCluster) -> ClusterSettings {
    let number = |n: Option<f64>| n.map(|n| n.to_string()).unwrap_or_default();
    let forwarding = c.local_write_forwarding_status().map(|s| s.as_str());
    ClusterSettings {
        availability_zones: c.availability_zones().iter().cloned().collect(),
        backup_retention_period: c.backup_retention_period(),
        preferred_backup_window: some(c.preferred_backup_window()),
        database_name: some(c.database_name()),
        port: c.port(),
        backtrack_window: c.backtrack_window().unwrap_or_default(),
        engine_mode: some(c.engine_mode()),
        storage_type: some(c.storage_type()),
        iops: c.iops(),
        deletion_protection: c.deletion_protection().unwrap_or_default(),
        copy_tags_to_snapshot: c.copy_tags_to_snapshot().unwrap_or_default(),
        network_type: some(c.network_type()),
        serverless_v2: c.serverless_v2_scaling_configuration().map(|s| {
            (number(s.min_capacity()), number(s.max_capacity()), s.seconds_until_auto_pause())
        }),
        monitoring_interval: c.monitoring_interval(),
        monitoring_role_arn: some(c.monitoring_role_arn()),
        performance_insights: c.performance_insights_enabled(),
        performance_insights_kms_key_id: some(c.performance_insights_kms_key_id()),
        performance_insights_retention_period: c.performance_insights_retention_period(),
        engine_lifecycle_support: some(c.engine_lifecycle_support()),
        db_cluster_parameter_group: some(c.db_cluster_parameter_group()),
        db_subnet_group: some(c.db_subnet_group()),
        vpc_security_group_ids: groups(c.vpc_security_groups()),
        iam_database_authentication: c.iam_database_authentication_enabled().unwrap_or_default(),
        enabled_cloudwatch_logs_exports: c
            .enabled_cloudwatch_logs_exports()
            .iter()
            .cloned()
            .collect(),
        domain: domain(c.domain_memberships()),
        tags: tags(c.tag_list()),
        preferred_maintenance_window: some(c.preferred_maintenance_window()),
        auto_minor_version_upgrade: c.auto_minor_version_upgrade(),
        database_insights_mode: c.database_insights_mode().and_then(|m| some(Some(m.as_str()))),
        manage_master_user_password: c.master_user_secret().is_some(),
        master_user_secret_kms_key_id: c.master_user_secret().and_then(|s| some(s.kms_key_id())),
        local_write_forwarding: forwarding
            .is_some_and(|s| ["enabled", "enabling", "requested"].contains(&s)),
        associated_roles: c
            .associated_roles()
            .iter()
            .filter(|r| r.status() != Some(INVALID))
            .map(|r| (text(r.feature_name()), text(r.role_arn())))
            .collect(),
    }
}

fn cluster_foreign(c: &types::DbCluster) -> BTreeMap<String, String> {
    let mut map = BTreeMap::new();
    let yes = |flag: Option<bool>| (flag == Some(true)).then(|| "true".to_owned());
    foreign(&mut map, "CustomEndpoints", list(c.custom_endpoints(), Clone::clone));
    let option =
        list(c.db_cluster_option_group_memberships(), |g| text(g.db_cluster_option_group_name()));
    let option = option.filter(|o| !o.starts_with("default"));
    foreign(&mut map, "DBClusterOptionGroupMemberships", option);
    foreign(&mut map, "ReplicationSourceIdentifier", some(c.replication_source_identifier()));
    foreign(&mut map, "ReadReplicaIdentifiers", list(c.read_replica_identifiers(), Clone::clone));
    let dead = c.associated_roles().iter().filter(|r| r.status() == Some(INVALID));
    let dead: Vec<String> = dead.map(|r| text(r.role_arn())).collect();
    foreign(&mut map, "AssociatedRoles (INVALID)", Some(dead.join(", ")));
    foreign(&mut map, "HttpEndpointEnabled", yes(c.http_endpoint_enabled()));
    let mode = c.activity_stream_mode().map(|m| m.as_str());
    let status = c.activity_stream_status().map(|s| s.as_str());
    foreign(&mut map, "ActivityStream", stream(mode, status));
    foreign(&mut map, "GlobalClusterIdentifier", some(c.global_cluster_identifier()));
    foreign(&mut map, "GlobalWriteForwardingRequested", yes(c.global_write_forwarding_requested()));
    let scalability = c.cluster_scalability_type().map(|s| s.as_str()).filter(|s| *s != "standard");
    foreign(&mut map, "ClusterScalabilityType", some(scalability));
    foreign(&mut map, "VPCNetworkingEnabled", yes(c.vpc_networking_enabled()));
    foreign(&mut map, "InternetAccessGatewayEnabled", yes(c.internet_access_gateway_enabled()));
    let v1 = c
        .engine_mode()
        .filter(|m| *m == "serverless" || *m == "multimaster" || *m == "parallelquery");
    foreign(&mut map, "EngineMode", some(v1));
    if c.domain_memberships().len() > 1 {
        foreign(&mut map, "DomainMemberships", list(c.domain_memberships(), |d| text(d.domain())));
    }
    map
}

fn cluster_pending(c: &types::DbCluster) -> Vec<String> {
    let Some(p) = c.pending_modified_values() else {
        return Vec::new();
    };
    [
        ("MasterUserPassword", p.master_user_password().is_some()),
        ("DBClusterIdentifier", p.db_cluster_identifier().is_some()),
        ("EngineVersion", p.engine_version().is_some()),
        ("BackupRetentionPeriod", p.backup_retention_period().is_some()),
        ("StorageType", p.storage_type().is_some()),
        ("AllocatedStorage", p.allocated_storage().is_some()),
        ("Iops", p.iops().is_some()),
        ("IAMDatabaseAuthenticationEnabled", p.iam_database_authentication_enabled().is_some()),
        ("PendingCloudwatchLogsExports", p.pending_cloudwatch_logs_exports().is_some()),
    ]
    .into_iter()
    .filter(|(_, set)| *set)
    .map(|(name, _)| name.to_owned())
    .collect()
}
