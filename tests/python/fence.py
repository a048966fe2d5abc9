"""Tries a fence with boto3: who may create what.

    fence.py URL FENCED_ACCOUNT FREE_ACCOUNT
"""

import json
import sys

import boto3
from botocore.exceptions import ClientError

URL, FENCED, FREE = sys.argv[1:4]


def client(service, account):
    base = dict(region_name="us-east-1", endpoint_url=URL)
    keys = dict(aws_access_key_id="m", aws_secret_access_key="x")
    role = f"arn:aws:iam::{account}:role/OrganizationAccountAccessRole"
    c = boto3.client("sts", **base, **keys).assume_role(RoleArn=role, RoleSessionName="fence")["Credentials"]
    return boto3.client(
        service,
        aws_access_key_id=c["AccessKeyId"],
        aws_secret_access_key=c["SecretAccessKey"],
        aws_session_token=c["SessionToken"],
        **base,
    )


def attempt(call, **params):
    try:
        call(**params)
        return {"code": "", "message": ""}
    except ClientError as error:
        return {"code": error.response["Error"]["Code"], "message": error.response["Error"]["Message"]}


def main():
    instance = dict(Engine="postgres", DBInstanceClass="db.m5.large", AllocatedStorage=20, MasterUsername="admin1", MasterUserPassword="not-a-secret-1")
    fenced, free = client("rds", FENCED), client("rds", FREE)
    said = {
        "fenced plain": attempt(fenced.create_db_instance, DBInstanceIdentifier="plain", **instance),
        "fenced encrypted": attempt(fenced.create_db_instance, DBInstanceIdentifier="safe", StorageEncrypted=True, **instance),
        "free plain": attempt(free.create_db_instance, DBInstanceIdentifier="plain", **instance),
    }
    cluster = dict(DBClusterIdentifier="c", Engine="aurora-mysql", MasterUsername="admin1", MasterUserPassword="not-a-secret-1")
    fenced.create_db_cluster(StorageEncrypted=True, **cluster)
    fenced.get_waiter("db_cluster_available").wait(DBClusterIdentifier="c", WaiterConfig=dict(Delay=1))
    said["fenced cluster member"] = attempt(
        fenced.create_db_instance, DBInstanceIdentifier="c-1", DBClusterIdentifier="c", Engine="aurora-mysql", DBInstanceClass="db.r6g.large"
    )
    events = client("cloudtrail", FENCED).lookup_events()["Events"]
    records = [json.loads(e["CloudTrailEvent"]) for e in events]
    said["trail"] = sum(1 for r in records if "service_control_policy/p-" in r.get("errorMessage", ""))
    print(json.dumps(said))


main()
