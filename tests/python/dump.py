"""Reads everything that matters out of an emulator, directly and over HTTP: the ground truth for tests.

    dump.py URL WORLD.json

Prints {cells: {"account region": {instances, clusters, snapshots, cluster_snapshots}},
policies: {target: [names]}, ringfence_policies: how many policy objects are ours}.
"""

import json
import sys

import boto3


def main():
    url = sys.argv[1]
    world = json.load(open(sys.argv[2]))

    def client(service, region, keys):
        return boto3.client(service, region_name=region, endpoint_url=url, **keys)

    base = dict(aws_access_key_id="management", aws_secret_access_key="x")
    sts = client("sts", "us-east-1", base)
    cells = {}
    for account in world["accounts"]:
        if account["id"] == world["suspended"]:
            continue  # nobody can enter it
        keys = base
        if account["id"] != world["management"]:
            role = f"arn:aws:iam::{account['id']}:role/OrganizationAccountAccessRole"
            c = sts.assume_role(RoleArn=role, RoleSessionName="dump")["Credentials"]
            keys = dict(
                aws_access_key_id=c["AccessKeyId"],
                aws_secret_access_key=c["SecretAccessKey"],
                aws_session_token=c["SessionToken"],
            )
        for region in world["regions"]:
            rds = client("rds", region, keys)
            pages = lambda op, field: [x for p in rds.get_paginator(op).paginate() for x in p[field]]
            cells[f"{account['id']} {region}"] = {
                "instances": {i["DBInstanceIdentifier"]: i for i in pages("describe_db_instances", "DBInstances")},
                "clusters": {c["DBClusterIdentifier"]: c for c in pages("describe_db_clusters", "DBClusters")},
                "snapshots": {
                    s["DBSnapshotIdentifier"]: s
                    for s in pages("describe_db_snapshots", "DBSnapshots")
                    if s["SnapshotType"] == "manual"
                },
                "cluster_snapshots": {
                    s["DBClusterSnapshotIdentifier"]: s
                    for s in pages("describe_db_cluster_snapshots", "DBClusterSnapshots")
                    if s["SnapshotType"] == "manual"
                },
            }
    org = client("organizations", "us-east-1", base)
    policies = {}
    listed = lambda op, field, **more: [x for p in org.get_paginator(op).paginate(Filter="SERVICE_CONTROL_POLICY", **more) for x in p[field]]
    for target in [world["root"], *world["ous"].values(), *(a["id"] for a in world["accounts"])]:
        found = listed("list_policies_for_target", "Policies", TargetId=target)
        policies[target] = sorted(p["Name"] for p in found)
    made = listed("list_policies", "Policies")
    ours = sum(1 for p in made if p["Name"].startswith("ringfence-"))
    print(json.dumps({"cells": cells, "policies": policies, "ringfence_policies": ours}, default=str))


main()
