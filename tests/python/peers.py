"""Runs other people's tools against the simulator, unmodified, and compares what they find with the truth.

    peers.py URL TRUTH.json FOLDER

c7n-org with its own policy for RDS, and a boto3 script with a thread pool as teams write it. Both look at
`StorageEncrypted`, so they also report members of Aurora clusters under a key that AWS owns (`sse-rds`),
which are encrypted: that is known of them, and counted apart. Prints what each found.
"""

import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys

import boto3

URL, TRUTH, FOLDER = sys.argv[1], json.load(open(sys.argv[2])), pathlib.Path(sys.argv[3])
KEYS = dict(aws_access_key_id="management", aws_secret_access_key="x")
DEFAULT_REGIONS = [r for r in TRUTH["regions"] if r not in TRUTH["opt_in"]]
MEMBERS = [a for a in TRUTH["accounts"] if a["state"] == "ACTIVE" and a["id"] != TRUTH["management_account"]]


def truth():
    """(account, region, instance) of all whose StorageEncrypted is false, where anybody may look."""
    members = {a["id"] for a in MEMBERS}
    found = set()
    for cell in TRUTH["cells"]:
        if cell["account"] in members and cell["region"] in DEFAULT_REGIONS and cell["expect"] in ("clean", "findings"):
            found |= {(cell["account"], cell["region"], i["id"]) for i in cell["instances"] if i["encryption"] != "sse-kms"}
    return found


def thread_pool():
    sts = boto3.client("sts", region_name="us-east-1", endpoint_url=URL, **KEYS)

    def account(id):
        try:
            role = f"arn:aws:iam::{id}:role/{TRUTH['role']}"
            c = sts.assume_role(RoleArn=role, RoleSessionName="inventory")["Credentials"]
        except sts.exceptions.ClientError:
            return []
        session = boto3.Session(c["AccessKeyId"], c["SecretAccessKey"], c["SessionToken"])
        rows = []
        for region in DEFAULT_REGIONS:
            rds = session.client("rds", region_name=region, endpoint_url=URL)
            try:
                for page in rds.get_paginator("describe_db_instances").paginate(PaginationConfig={"PageSize": 20}):
                    rows += [(id, region, i["DBInstanceIdentifier"]) for i in page["DBInstances"] if not i["StorageEncrypted"]]
            except rds.exceptions.ClientError:
                pass
        return rows

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        return {row for rows in pool.map(account, [a["id"] for a in MEMBERS]) for row in rows}


def c7n_org():
    accounts = [
        dict(account_id=a["id"], name=a["name"], role=f"arn:aws:iam::{a['id']}:role/{TRUTH['role']}", regions=DEFAULT_REGIONS)
        for a in MEMBERS
    ]
    policy = dict(policies=[dict(name="plain", resource="aws.rds", filters=[dict(StorageEncrypted=False)])])
    # JSON is YAML.
    (FOLDER / "accounts.yml").write_text(json.dumps(dict(accounts=accounts)))
    (FOLDER / "policy.yml").write_text(json.dumps(policy))
    environment = dict(os.environ, AWS_ENDPOINT_URL=URL, AWS_ACCESS_KEY_ID="m", AWS_SECRET_ACCESS_KEY="x", AWS_DEFAULT_REGION="us-east-1")
    tool = pathlib.Path(sys.executable).parent / "c7n-org"
    line = [tool, "run", "-c", "accounts.yml", "-u", "policy.yml", "-s", "out", "--cache-period", "0"]
    ran = subprocess.run(line, cwd=FOLDER, env=environment, capture_output=True, text=True)
    ids = {a["name"]: a["id"] for a in MEMBERS}
    found = set()
    for file in (FOLDER / "out").glob("*/*/plain/resources.json"):
        name, region = file.parts[-4:-2]
        found |= {(ids[name], region, i["DBInstanceIdentifier"]) for i in json.loads(file.read_text())}
    assert (FOLDER / "out").exists(), ran.stderr[-2000:]
    return found


def main():
    expected = truth()
    assert len(expected) > 10, "a truth that says nothing"
    results = {"truth": len(expected)}
    for name, run in [("boto3 thread pool", thread_pool), ("c7n-org", c7n_org)]:
        found = run()
        assert found == expected, f"{name}: missing {sorted(expected - found)}, too many {sorted(found - expected)}"
        results[name] = len(found)
    print(json.dumps(results))


main()
