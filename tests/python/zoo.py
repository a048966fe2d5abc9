"""A zoo of databases with unusual settings, built with boto3; and each twin compared with its original, member by
member, with boto3.

    zoo.py URL ACCOUNT REGION build [NAME...]
    zoo.py URL ACCOUNT REGION compare

It knows nothing of Ringfence but the twins' names: a member is equal, or it is in the list of those that cannot be.
"""

import hashlib
import json
import sys
import time

from member import clients

URL, ACCOUNT, REGION = sys.argv[1:4]
ALIAS = "alias/RDSEncryptionAtRestKMSAlias"
ROLE_ARN = f"arn:aws:iam::{ACCOUNT}:role/rds-monitoring-role"
FAMILIES = {
    "postgres": "postgres16", "mysql": "mysql8.0", "mariadb": "mariadb10.11", "oracle-ee": "oracle-ee-19",
    "oracle-se2": "oracle-se2-19", "sqlserver-se": "sqlserver-se-15.0", "sqlserver-ee": "sqlserver-ee-15.0",
    "sqlserver-ex": "sqlserver-ex-15.0", "sqlserver-web": "sqlserver-web-15.0", "db2-se": "db2-se-11.5",
}
MAJORS = {"mysql": "8.0", "oracle-ee": "19", "sqlserver-se": "15.00", "mariadb": "10.11"}
LONG = "the-longest-name-that-rds-takes-is-of-sixty-three-characters-ab"


client = clients(URL, ACCOUNT, REGION)


def instances(key, groups):
    """Name to what is unusual about it; the rest is a plain one."""
    big = dict(AllocatedStorage=500)
    return {
        "plain": {},
        LONG: {},
        "gp2": dict(StorageType="gp2"),
        "magnetic": dict(StorageType="standard"),
        "io1": dict(StorageType="io1", Iops=3000),
        "io2": dict(StorageType="io2", Iops=5000),
        "gp3-fast": dict(big, StorageType="gp3", Iops=14000, StorageThroughput=600),
        "grows": dict(MaxAllocatedStorage=900),
        "multi-az": dict(MultiAZ=True),
        "in-zone-c": dict(AvailabilityZone=f"{REGION}c"),
        "public": dict(PubliclyAccessible=True),
        "no-minor": dict(AutoMinorVersionUpgrade=False),
        "old-ca": dict(CACertificateIdentifier="rds-ca-rsa4096-g1"),
        "copies-tags": dict(CopyTagsToSnapshot=True),
        "protected": dict(DeletionProtection=True),
        "dual-stack": dict(NetworkType="DUAL"),
        "log-volume": dict(StorageType="io1", Iops=3000, DedicatedLogVolume=True),
        "no-support": dict(EngineLifecycleSupport="open-source-rds-extended-support-disabled"),
        "no-backups": dict(BackupRetentionPeriod=0),
        "long-backups": dict(BackupRetentionPeriod=35, PreferredBackupWindow="23:10-23:50"),
        "sunday": dict(PreferredMaintenanceWindow="sun:22:00-sun:23:00"),
        "other-port": dict(Port=6543),
        "two-groups": dict(VpcSecurityGroupIds=groups),
        "own-parameters": dict(DBParameterGroupName="zoo-postgres"),
        "own-options": dict(Engine="mysql", OptionGroupName="zoo-mysql"),
        "own-subnets": dict(DBSubnetGroupName="zoo-subnets"),
        "iam-auth": dict(EnableIAMDatabaseAuthentication=True),
        "logs": dict(EnableCloudwatchLogsExports=["postgresql", "upgrade"]),
        "mysql-logs": dict(Engine="mysql", EnableCloudwatchLogsExports=["audit", "error", "slowquery"]),
        "monitored": dict(MonitoringInterval=15, MonitoringRoleArn=ROLE_ARN),
        "insights": dict(EnablePerformanceInsights=True, PerformanceInsightsRetentionPeriod=731, PerformanceInsightsKMSKeyId=key),
        "advanced": dict(
            EnablePerformanceInsights=True, PerformanceInsightsRetentionPeriod=465, PerformanceInsightsKMSKeyId=key,
            DatabaseInsightsMode="advanced",
        ),
        "secret": dict(MasterUserPassword=None, ManageMasterUserPassword=True),
        "secret-key": dict(MasterUserPassword=None, ManageMasterUserPassword=True, MasterUserSecretKmsKeyId=key),
        "named": dict(DBName="ledger"),
        "mariadb": dict(Engine="mariadb", DBParameterGroupName="zoo-mariadb", OptionGroupName="zoo-mariadb"),
        "oracle": dict(
            Engine="oracle-ee", LicenseModel="bring-your-own-license", DBName="ORCL", OptionGroupName="zoo-oracle-ee",
            CharacterSetName="WE8ISO8859P15", AllocatedStorage=200,
        ),
        "oracle-small": dict(Engine="oracle-se2", LicenseModel="license-included", DBName="SE"),
        "cores": dict(
            Engine="oracle-ee", LicenseModel="bring-your-own-license", DBInstanceClass="db.r5.4xlarge", DBName="CORE",
            ProcessorFeatures=[{"Name": "coreCount", "Value": "4"}, {"Name": "threadsPerCore", "Value": "1"}],
        ),
        "mssql": dict(
            Engine="sqlserver-se", LicenseModel="license-included", Timezone="GMT Standard Time", OptionGroupName="zoo-sqlserver-se",
            AllocatedStorage=200,
        ),
        "mssql-domain": dict(Engine="sqlserver-ee", LicenseModel="license-included", Domain="d-0123456789", DomainIAMRoleName="ad-role"),
        "mssql-express": dict(Engine="sqlserver-ex", LicenseModel="license-included"),
        "db2": dict(Engine="db2-se", LicenseModel="bring-your-own-license", DBParameterGroupName="zoo-db2-se"),
        "tagged": dict(Tags=[{"Key": f"k{i:02}", "Value": "v" * (i * 5)} for i in range(40)]),
        "odd-tags": dict(Tags=[{"Key": "Köln/straße", "Value": ""}, {"Key": "a:b", "Value": "x=y&z"}, {"Key": "team", "Value": "a + b"}]),
        "everything": dict(
            big, StorageType="gp3", Iops=13000, StorageThroughput=500, MultiAZ=True, AutoMinorVersionUpgrade=False,
            CopyTagsToSnapshot=True, DeletionProtection=True, BackupRetentionPeriod=14, Port=5544, DBSubnetGroupName="zoo-subnets",
            DBParameterGroupName="zoo-postgres", EnableIAMDatabaseAuthentication=True, EnableCloudwatchLogsExports=["postgresql"],
            MonitoringInterval=60, MonitoringRoleArn=ROLE_ARN, EnablePerformanceInsights=True,
            PerformanceInsightsRetentionPeriod=7, PerformanceInsightsKMSKeyId=key, MaxAllocatedStorage=1000,
            VpcSecurityGroupIds=groups, PreferredMaintenanceWindow="mon:01:00-mon:01:30", Tags=[{"Key": "team", "Value": "z"}],
        ),
    }


def clusters(key, groups):
    """Name to what is unusual about the cluster, and about each member."""
    return {
        "aurora": ({}, [{}]),
        "readers": ({}, [dict(PromotionTier=3), dict(PromotionTier=0), dict(PromotionTier=15, DBInstanceClass="db.r6g.2xlarge")]),
        "serverless": (
            dict(ServerlessV2ScalingConfiguration=dict(MinCapacity=0.5, MaxCapacity=64.0)), [dict(DBInstanceClass="db.serverless")],
        ),
        "optimized": (dict(StorageType="aurora-iopt1", BackupRetentionPeriod=21, CopyTagsToSnapshot=True), [{}]),
        "backtracks": (dict(Engine="aurora-mysql", BacktrackWindow=86400, EnableCloudwatchLogsExports=["audit"]), [{}]),
        "guarded": (
            dict(
                DeletionProtection=True, EnableIAMDatabaseAuthentication=True, VpcSecurityGroupIds=groups, Port=6000,
                DBClusterParameterGroupName="zoo-aurora", DBSubnetGroupName="zoo-subnets", PreferredMaintenanceWindow="tue:05:00-tue:05:30",
                Tags=[{"Key": "team", "Value": "c"}],
            ),
            [dict(MonitoringInterval=30, MonitoringRoleArn=ROLE_ARN, AutoMinorVersionUpgrade=False, Tags=[{"Key": "m", "Value": "1"}]),
             dict(EnablePerformanceInsights=True, PerformanceInsightsRetentionPeriod=7, PerformanceInsightsKMSKeyId=key)],
        ),
    }


def settled(rds, name):
    for _ in range(4000):
        found = rds.describe_db_instances(DBInstanceIdentifier=name)["DBInstances"][0]
        if found["DBInstanceStatus"] == "available" and not found.get("PendingModifiedValues"):
            return
        time.sleep(0.01)
    raise SystemExit(f"{name} does not become available")


def build(only):
    rds, kms, ec2 = client("rds"), client("kms"), client("ec2")
    key = kms.create_key(Description="rds")["KeyMetadata"]["Arn"]
    kms.create_alias(AliasName=ALIAS, TargetKeyId=key)
    vpc = ec2.describe_security_groups()["SecurityGroups"][0].get("VpcId", "")
    more = {"VpcId": vpc} if vpc else {}
    groups = [ec2.create_security_group(GroupName=f"zoo-{i}", Description="zoo", **more)["GroupId"] for i in range(2)]
    wanted = [unusual for name, unusual in instances(key, groups).items() if not only or name in only]
    for engine, family in FAMILIES.items():
        if any(w.get("DBParameterGroupName") == f"zoo-{engine}" for w in wanted):
            rds.create_db_parameter_group(DBParameterGroupName=f"zoo-{engine}", DBParameterGroupFamily=family, Description="zoo")
    for engine, major in MAJORS.items():
        if any(w.get("OptionGroupName") == f"zoo-{engine}" for w in wanted):
            rds.create_option_group(
                OptionGroupName=f"zoo-{engine}", EngineName=engine, MajorEngineVersion=major, OptionGroupDescription="zoo"
            )
    rds.create_db_cluster_parameter_group(
        DBClusterParameterGroupName="zoo-aurora", DBParameterGroupFamily="aurora-postgresql16", Description="zoo"
    )
    try:
        subnets = [s["SubnetId"] for s in ec2.describe_subnets()["Subnets"]][:3]
    except Exception:  # an emulator without subnets takes any
        subnets = ["subnet-1", "subnet-2"]
    rds.create_db_subnet_group(DBSubnetGroupName="zoo-subnets", DBSubnetGroupDescription="zoo", SubnetIds=subnets)
    made = []
    for name, unusual in instances(key, groups).items():
        if only and name not in only:
            continue
        plain = dict(
            DBInstanceIdentifier=name, Engine="postgres", DBInstanceClass="db.m6g.large", AllocatedStorage=100,
            MasterUsername="admin1", MasterUserPassword="not-a-secret-1", BackupRetentionPeriod=7, StorageEncrypted=False,
        )
        plain.update(unusual)
        rds.create_db_instance(**{k: v for k, v in plain.items() if v is not None})
        made.append(name)
    for name, (unusual, members) in clusters(key, groups).items():
        if only and name not in only:
            continue
        plain = dict(
            DBClusterIdentifier=name, Engine="aurora-postgresql", MasterUsername="admin1", MasterUserPassword="not-a-secret-1",
            StorageEncrypted=False,
        )
        plain.update(unusual)
        rds.create_db_cluster(**plain)
        for _ in range(4000):
            if rds.describe_db_clusters(DBClusterIdentifier=name)["DBClusters"][0]["Status"] == "available":
                break
            time.sleep(0.01)
        for i, member in enumerate(members):
            plain_member = dict(DBInstanceClass="db.r6g.large")
            plain_member.update(member)
            rds.create_db_instance(
                DBInstanceIdentifier=f"{name}-{i + 1}", DBClusterIdentifier=name, Engine=plain["Engine"], **plain_member
            )
            settled(rds, f"{name}-{i + 1}")
        made.append(name)
    for name in made:
        if name not in clusters(key, groups):
            settled(rds, name)
    if not only:
        for name in ["plain", "multi-az"]:
            for feature in ["s3Import", "s3Export"]:
                rds.add_role_to_db_instance(DBInstanceIdentifier=name, RoleArn=f"{ROLE_ARN}-{feature}", FeatureName=feature)
        rds.add_role_to_db_cluster(DBClusterIdentifier="readers", RoleArn=f"{ROLE_ARN}-load")
        rds.create_db_cluster_endpoint(
            DBClusterIdentifier="readers", DBClusterEndpointIdentifier="reports", EndpointType="READER", StaticMembers=["readers-2"],
            Tags=[{"Key": "team", "Value": "d"}],
        )
        rds.create_db_cluster_endpoint(
            DBClusterIdentifier="readers", DBClusterEndpointIdentifier="most", EndpointType="ANY", ExcludedMembers=["readers-3"]
        )
        rds.add_role_to_db_cluster(DBClusterIdentifier="readers", RoleArn=f"{ROLE_ARN}-lambda", FeatureName="Lambda")
        for name, source in [("plain-read", "plain"), ("plain-read-more", "plain-read")]:
            rds.create_db_instance_read_replica(
                DBInstanceIdentifier=name, SourceDBInstanceIdentifier=source, DBInstanceClass="db.m6g.2xlarge", Port=6001,
                AllocatedStorage=600, Iops=15000, StorageThroughput=700, StorageType="gp3", MultiAZ=name == "plain-read",
                MonitoringInterval=5, MonitoringRoleArn=ROLE_ARN, EnablePerformanceInsights=True,
                EnableCloudwatchLogsExports=["postgresql"], MaxAllocatedStorage=2000, CopyTagsToSnapshot=True,
                EnableIAMDatabaseAuthentication=True, DBParameterGroupName="zoo-postgres", PubliclyAccessible=True,
                Tags=[{"Key": "role", "Value": name}],
            )
            settled(rds, name)
            rds.add_role_to_db_instance(DBInstanceIdentifier=name, RoleArn=f"{ROLE_ARN}-read", FeatureName="Lambda")
            rds.modify_db_instance(DBInstanceIdentifier=name, BackupRetentionPeriod=3, DeletionProtection=True, ApplyImmediately=True)
            settled(rds, name)
    print(json.dumps(made))


# What cannot be equal: identity, times, and the encryption that it is all about.
OTHER = {
    "DBInstanceIdentifier", "DbiResourceId", "DBInstanceArn", "InstanceCreateTime", "LatestRestorableTime", "StorageEncrypted",
    "StorageEncryptionType", "KmsKeyId", "DBClusterIdentifier", "DbClusterResourceId", "DBClusterArn", "ClusterCreateTime",
    "EarliestRestorableTime", "ReaderEndpoint", "StatusInfos", "CertificateDetails", "EarliestBacktrackTime", "HostedZoneId",
}


def twin_name(name, resource_id):
    whole = f"encrypted-{name}"
    if len(whole) <= 63:
        return whole
    return whole[:54].rstrip("-") + "-" + hashlib.sha256(resource_id.encode()).hexdigest()[:8]


def comparable(found, names):
    """Without what cannot be equal; twins' names are those of their originals."""
    own = lambda name: names.get(name, name)
    out = {k: v for k, v in found.items() if k not in OTHER}
    out["TagList"] = sorted((t["Key"], t["Value"]) for t in found.get("TagList", []) if not t["Key"].startswith("ringfence:"))
    endpoint = found.get("Endpoint")
    out["Endpoint"] = endpoint.get("Port") if isinstance(endpoint, dict) else None
    secret = found.get("MasterUserSecret")
    out["MasterUserSecret"] = secret and secret.get("KmsKeyId")
    if found.get("MultiAZ") and "DBInstanceIdentifier" in found:
        out.pop("AvailabilityZone", None)
    for field in ["ReadReplicaSourceDBInstanceIdentifier"]:
        if field in found:
            out[field] = own(found[field])
    for field in ["ReadReplicaDBInstanceIdentifiers"]:
        out[field] = sorted(own(n) for n in found.get(field, []))
    out["DBClusterMembers"] = sorted(
        (own(m["DBInstanceIdentifier"]), m["IsClusterWriter"], m.get("PromotionTier")) for m in found.get("DBClusterMembers", [])
    )
    out["VpcSecurityGroups"] = sorted(g["VpcSecurityGroupId"] for g in found.get("VpcSecurityGroups", []))
    out["EnabledCloudwatchLogsExports"] = sorted(found.get("EnabledCloudwatchLogsExports", []))
    out["CustomEndpoints"] = sorted(endpoint_of(address, names) for address in found.get("CustomEndpoints", []))
    out["AssociatedRoles"] = sorted((r["RoleArn"], r.get("FeatureName"), r["Status"]) for r in found.get("AssociatedRoles", []))
    out["ProcessorFeatures"] = sorted((f["Name"], f["Value"]) for f in found.get("ProcessorFeatures", []))
    return out


def endpoint_of(address, names):
    """A custom endpoint as its original's: kind, members, tags."""
    rds = client("rds")
    name = address.split(".")[0]
    e = rds.describe_db_cluster_endpoints(DBClusterEndpointIdentifier=name)["DBClusterEndpoints"][0]
    own = lambda members: sorted(names.get(m, m) for m in members)
    tags = rds.list_tags_for_resource(ResourceName=e["DBClusterEndpointArn"])["TagList"]
    return name.removeprefix("encrypted-"), e["CustomEndpointType"], own(e["StaticMembers"]), own(e["ExcludedMembers"]), str(tags)


def compare():
    rds = client("rds")
    pages = lambda op, field: [x for p in rds.get_paginator(op).paginate() for x in p[field]]
    found = {i["DBInstanceIdentifier"]: i for i in pages("describe_db_instances", "DBInstances")}
    aurora = {c["DBClusterIdentifier"]: c for c in pages("describe_db_clusters", "DBClusters")}
    names, pairs, differences = {}, [], []
    for all, id in [(found, "DbiResourceId"), (aurora, "DbClusterResourceId")]:
        for name, one in all.items():
            twin = twin_name(name, one[id])
            if twin in all:
                names[twin] = name
                pairs.append((name, one, all[twin]))
            elif not name.startswith("encrypted-"):
                differences.append(f"{name}: there is no {twin}")
    for name, original, twin in pairs:
        if twin.get("StorageEncryptionType", "sse-kms" if twin["StorageEncrypted"] else "none") != "sse-kms":
            differences.append(f"{name}: the twin is not encrypted")
        a, b = comparable(original, {}), comparable(twin, names)
        for field in sorted(set(a) | set(b)):
            if a.get(field) != b.get(field):
                differences.append(f"{name}: {field} was {a.get(field)}, is {b.get(field)}")
    members = sorted({field for _, original, _ in pairs for field in original})
    print(json.dumps({"compared": len(pairs), "members": len(members), "differences": differences}, default=str))


if sys.argv[4] == "build":
    build(sys.argv[5:])
else:
    compare()
