"""Builds an organization in an emulator over HTTP, as a person with boto3 would, and prints what it built.

    world.py URL SEED            the demo's organization: 26 accounts, 3 regions, databases
    world.py URL SEED empty N    N member accounts without any database
    world.py URL SEED single N   N member accounts with the one instance `orders` each
    world.py URL SEED aurora N   N member accounts with the one cluster `ledger` each, of two members

It knows nothing of Ringfence: what it prints is the ground truth that tests compare with.
"""

import json
import random
import sys

import boto3
from member import BASE, keys, until

REGIONS = ["us-east-1", "eu-west-1", "eu-central-1"]
WITHOUT_ALIAS = "eu-central-1"
ALIAS = "alias/RDSEncryptionAtRestKMSAlias"
ROLE = "RingfenceRemediation"
FAMILIES = {"postgres": "postgres16", "mysql": "mysql8.0"}
VERSIONS = {"postgres": "16.4", "mysql": "8.0.39"}
# name, parent (by name), accounts, kind of databases
OUS = [
    ("security", None, ["audit", "logs"], "encrypted"),
    ("sandbox", None, ["play-1", "play-2", "play-3"], "encrypted"),
    ("workloads", None, [], None),
    ("prod", "workloads", ["shared"], "mixed"),
    ("payments", "prod", ["pay-api", "pay-ledger", "pay-risk", "pay-reports"], "mixed"),
    ("orders", "prod", ["orders-eu", "orders-us", "orders-bi"], "mixed"),
    ("dev", "workloads", ["dev-1", "dev-2", "dev-3", "dev-4", "dev-5"], "mixed"),
    ("legacy", None, ["old-erp", "old-crm", "mainframe", "fax"], "encrypted"),
    ("empty", "workloads", ["new-1", "new-2", "new-3"], "none"),
]
DENIED = ["old-erp", "old-crm"]
SUSPENDED = "fax"


class Org:
    def __init__(self, url):
        self.url = url
        self.keys = {}

    def client(self, service, region="us-east-1", account=None):
        if account and account not in self.keys:
            self.keys[account] = keys(self.url, account)
        own = self.keys[account] if account else BASE
        return boto3.client(service, region_name=region, endpoint_url=self.url, **own)


def instance(rds, rng, name, encrypted, key):
    engine = rng.choice(["postgres", "mysql"])
    rds.create_db_parameter_group(
        DBParameterGroupName=f"{name}-params", DBParameterGroupFamily=FAMILIES[engine], Description="chosen"
    )
    settings = dict(
        DBInstanceIdentifier=name,
        Engine=engine,
        EngineVersion=VERSIONS[engine],
        DBInstanceClass=rng.choice(["db.m5.large", "db.r6g.large"]),
        AllocatedStorage=rng.choice([20, 100, 250]),
        StorageType="gp3",
        MasterUsername="admin1",
        MasterUserPassword="not-a-secret-1",
        DBParameterGroupName=f"{name}-params",
        BackupRetentionPeriod=rng.choice([1, 7, 30]),
        PreferredBackupWindow="02:00-02:30",
        PreferredMaintenanceWindow="sun:04:00-sun:04:30",
        MultiAZ=rng.random() < 0.5,
        DeletionProtection=rng.random() < 0.5,
        CopyTagsToSnapshot=rng.random() < 0.5,
        EnableIAMDatabaseAuthentication=engine == "postgres",
        PubliclyAccessible=False,
        Port=rng.choice([5432, 6432]),
        Tags=[{"Key": "team", "Value": rng.choice(["a", "b"])}, {"Key": "name", "Value": name}],
        StorageEncrypted=encrypted,
    )
    if encrypted:
        settings["KmsKeyId"] = key
    rds.create_db_instance(**settings)
    available(rds, name)


def available(rds, name):
    until(lambda: rds.describe_db_instances(DBInstanceIdentifier=name)["DBInstances"][0]["DBInstanceStatus"])


def cluster(rds, name, members, encrypted, key):
    settings = dict(
        DBClusterIdentifier=name,
        Engine="aurora-postgresql",
        MasterUsername="admin1",
        MasterUserPassword="not-a-secret-1",
        StorageEncrypted=encrypted,
        Tags=[{"Key": "team", "Value": "a"}],
    )
    if encrypted:
        settings["KmsKeyId"] = key
    rds.create_db_cluster(**settings)
    until(lambda: rds.describe_db_clusters(DBClusterIdentifier=name)["DBClusters"][0]["Status"])
    for i in range(members):
        rds.create_db_instance(
            DBInstanceIdentifier=f"{name}-{i + 1}",
            Engine="aurora-postgresql",
            DBInstanceClass="db.r6g.large",
            DBClusterIdentifier=name,
            PromotionTier=i,
        )
        available(rds, f"{name}-{i + 1}")


def fill(org, rng, account, name, kind):
    for region in REGIONS:
        rds = org.client("rds", region, account)
        kms = org.client("kms", region, account)
        key = kms.create_key(Description="rds")["KeyMetadata"]["Arn"]
        if region != WITHOUT_ALIAS:
            kms.create_alias(AliasName=ALIAS, TargetKeyId=key)
        if kind == "none":
            continue
        short = {"us-east-1": "use1", "eu-west-1": "euw1", "eu-central-1": "euc1"}[region]
        instance(rds, rng, f"{name}-{short}-safe", True, key)
        if kind == "mixed" and region == "us-east-1":
            instance(rds, rng, f"{name}-{short}-plain", False, key)
        if kind == "mixed" and name == "pay-ledger" and region == "eu-west-1":
            cluster(rds, "ledger", 3, False, key)
            cluster(rds, "vault", 2, True, key)
        if name == "orders-eu" and region == "eu-west-1":
            cluster(rds, "basket", 2, False, key)
            instance(rds, rng, "orders-main", False, key)
            rds.create_db_instance_read_replica(
                DBInstanceIdentifier="orders-read", SourceDBInstanceIdentifier="orders-main"
            )
        if name == "dev-1" and region == WITHOUT_ALIAS:
            instance(rds, rng, "keyless", False, key)
        if name == "dev-2" and region == "eu-west-1":
            # 58 characters: encrypted-<name> would be over RDS's 63
            instance(rds, rng, "a-very-long-name-that-somebody-chose-for-the-warehouse-db1", False, key)


def main():
    url, seed = sys.argv[1], int(sys.argv[2])
    rng = random.Random(seed)
    org = Org(url)
    api = org.client("organizations")
    api.create_organization(FeatureSet="ALL")
    root = next(r["Id"] for page in api.get_paginator("list_roots").paginate() for r in page["Roots"])
    api.enable_policy_type(RootId=root, PolicyType="SERVICE_CONTROL_POLICY")
    management = api.describe_organization()["Organization"]["MasterAccountId"]
    accounts, ous = [], {}

    def account(name, parent, ou, kind):
        made = api.create_account(Email=f"{name}@example.com", AccountName=name)
        id = made["CreateAccountStatus"]["AccountId"]
        if parent != root:
            api.move_account(AccountId=id, SourceParentId=root, DestinationParentId=parent)
        accounts.append({"id": id, "name": name, "ou": ou, "kind": kind})
        return id

    if len(sys.argv) > 3:
        ou = api.create_organizational_unit(ParentId=root, Name="all")["OrganizationalUnit"]["Id"]
        ous["all"] = ou
        for i in range(int(sys.argv[4])):
            id = account(f"account-{i}", ou, "all", "none")
            if sys.argv[3] == "single":
                kms = org.client("kms", REGIONS[0], id)
                key = kms.create_key(Description="rds")["KeyMetadata"]["Arn"]
                kms.create_alias(AliasName=ALIAS, TargetKeyId=key)
                instance(org.client("rds", REGIONS[0], id), rng, "orders", False, key)
            if sys.argv[3] == "aurora":
                kms = org.client("kms", REGIONS[0], id)
                key = kms.create_key(Description="rds")["KeyMetadata"]["Arn"]
                kms.create_alias(AliasName=ALIAS, TargetKeyId=key)
                cluster(org.client("rds", REGIONS[0], id), "ledger", 2, False, key)
    else:
        for name, parent, names, kind in OUS:
            ou = api.create_organizational_unit(ParentId=ous.get(parent, root), Name=name)
            ous[name] = ou["OrganizationalUnit"]["Id"]
            for n in names:
                id = account(n, ous[name], name, kind)
                fill(org, rng, id, n, kind)
                if n == SUSPENDED:
                    api.close_account(AccountId=id)
        fill(org, rng, None, "management", "encrypted")
        accounts.append({"id": management, "name": "management", "ou": "root", "kind": "encrypted"})
    ids = {a["name"]: a["id"] for a in accounts}
    print(
        json.dumps(
            {
                "seed": seed,
                "management": management,
                "root": root,
                "role": ROLE,
                "regions": REGIONS,
                "without_alias": WITHOUT_ALIAS,
                "ous": ous,
                "accounts": accounts,
                "denied": [ids[n] for n in DENIED if n in ids],
                "suspended": ids.get(SUSPENDED, ""),
            }
        )
    )


main()
