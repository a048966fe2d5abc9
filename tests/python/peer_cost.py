"""What the same scan costs in other people's tools: CPU of the process and its children, a cell.

    peer_cost.py URL TRUTH.json FOLDER boto3|c7n-org

boto3: one shared Session, 20 threads, a client for each account and region, both Describe calls.
c7n-org: its own fan-out, one policy for RDS instances and one for clusters.
"""

import concurrent.futures
import json
import os
import pathlib
import resource
import subprocess
import sys

URL, TRUTH, FOLDER, TOOL = sys.argv[1], json.load(open(sys.argv[2])), pathlib.Path(sys.argv[3]), sys.argv[4]
REGIONS = TRUTH["regions"]
MEMBERS = [a for a in TRUTH["accounts"] if a["id"] != TRUTH["management_account"]]


def role(id):
    return f"arn:aws:iam::{id}:role/{TRUTH['role']}"


def boto3_threads():
    import boto3

    session = boto3.Session("management", "x", region_name="us-east-1")
    sts = session.client("sts", endpoint_url=URL)

    def account(id):
        c = sts.assume_role(RoleArn=role(id), RoleSessionName="inventory")["Credentials"]
        keys = dict(aws_access_key_id=c["AccessKeyId"], aws_secret_access_key=c["SecretAccessKey"], aws_session_token=c["SessionToken"])
        for region in REGIONS:
            rds = session.client("rds", region_name=region, endpoint_url=URL, **keys)
            for operation in ("describe_db_instances", "describe_db_clusters"):
                for _ in rds.get_paginator(operation).paginate():
                    pass

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        list(pool.map(account, [a["id"] for a in MEMBERS]))


def c7n_org():
    accounts = [dict(account_id=a["id"], name=a["name"], role=role(a["id"]), regions=REGIONS) for a in MEMBERS]
    policies = [dict(name="i", resource="aws.rds"), dict(name="c", resource="aws.rds-cluster")]
    (FOLDER / "accounts.yml").write_text(json.dumps(dict(accounts=accounts)))
    (FOLDER / "policy.yml").write_text(json.dumps(dict(policies=policies)))
    environment = dict(os.environ, AWS_ENDPOINT_URL=URL, AWS_ACCESS_KEY_ID="m", AWS_SECRET_ACCESS_KEY="x", AWS_DEFAULT_REGION="us-east-1")
    tool = pathlib.Path(sys.executable).parent / "c7n-org"
    line = [tool, "run", "-c", "accounts.yml", "-u", "policy.yml", "-s", "out", "--cache-period", "0"]
    subprocess.run(line, cwd=FOLDER, env=environment, capture_output=True, check=True)


dict([("boto3", boto3_threads), ("c7n-org", c7n_org)])[TOOL]()
used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
cpu = sum(u.ru_utime + u.ru_stime for u in used)
print(json.dumps(dict(cells=len(MEMBERS) * len(REGIONS), cpu_us=cpu * 1e6)))
