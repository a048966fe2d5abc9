"""Reads everything that matters out of an emulator, directly and over HTTP: the ground truth for tests.

    dump.py URL WORLD.json

Prints {cells: {"account region": {instances, clusters, snapshots, cluster_snapshots}},
policies: {target: [names]}, ringfence_policies: how many policy objects are ours}.
"""

import json
import sys

import boto3
from member import BASE, keys


def main():
    url = sys.argv[1]
    world = json.load(open(sys.argv[2]))

    def client(service, region, own):
        return boto3.client(service, region_name=region, endpoint_url=url, **own)

    cells = {}
    for account in world["accounts"]:
        if account["id"] == world["suspended"]:
            continue  # nobody can enter it
        own = BASE if account["id"] == world["management"] else keys(url, account["id"])
        for region in world["regions"]:
            rds = client("rds", region, own)
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
    org = client("organizations", "us-east-1", BASE)
    policies = {}
    listed = lambda op, field, **more: [x for p in org.get_paginator(op).paginate(Filter="SERVICE_CONTROL_POLICY", **more) for x in p[field]]
    for target in [world["root"], *world["ous"].values(), *(a["id"] for a in world["accounts"])]:
        found = listed("list_policies_for_target", "Policies", TargetId=target)
        policies[target] = sorted(p["Name"] for p in found)
    made = listed("list_policies", "Policies")
    ours = sum(1 for p in made if p["Name"].startswith("ringfence-"))
    print(json.dumps({"cells": cells, "policies": policies, "ringfence_policies": ours}, default=str))


main()
