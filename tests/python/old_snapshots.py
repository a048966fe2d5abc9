"""Snapshots of the database `orders` of one cell, directly and over HTTP: some that are old, and the truth.

    old_snapshots.py URL ACCOUNT REGION make     takes `monthly` and `yearly`, the second shared with somebody
    old_snapshots.py URL ACCOUNT REGION show     prints all manual ones by name, with who may restore them
"""

import json
import sys

from member import clients, until

SOMEBODY = "999988887777"


def main():
    url, account, region, verb = sys.argv[1:]
    rds = clients(url, account, region)("rds")

    def snapshots(**more):
        pages = rds.get_paginator("describe_db_snapshots").paginate(**more)
        found = [s for page in pages for s in page["DBSnapshots"]]
        return {s["DBSnapshotIdentifier"]: s for s in found if s["SnapshotType"] == "manual"}

    def settled():
        databases = rds.describe_db_instances()["DBInstances"]
        states = [s["Status"] for s in snapshots().values()] + [d["DBInstanceStatus"] for d in databases]
        return "available" if all(state == "available" for state in states) else "busy"

    if verb == "make":
        for name, keep in [("monthly", "1y"), ("yearly", "7y")]:
            tags = [{"Key": "keep", "Value": keep}, {"Key": "team", "Value": "a"}]
            rds.create_db_snapshot(DBSnapshotIdentifier=name, DBInstanceIdentifier="orders", Tags=tags)
            until(settled)
        share = dict(DBSnapshotIdentifier="yearly", AttributeName="restore")
        rds.modify_db_snapshot_attribute(ValuesToAdd=[SOMEBODY, "all"], **share)
        rds.modify_db_snapshot_attribute(ValuesToRemove=["all"], **share)
    found = snapshots()
    for name, snapshot in list(found.items()):
        try:
            result = rds.describe_db_snapshot_attributes(DBSnapshotIdentifier=name)["DBSnapshotAttributesResult"]
        except rds.exceptions.DBSnapshotNotFoundFault:
            del found[name]  # deleted since it was listed: a decommission goes on meanwhile
            continue
        values = [a["AttributeValues"] for a in result["DBSnapshotAttributes"] if a["AttributeName"] == "restore"]
        snapshot["Shared"] = values[0] if values else []
        snapshot["Tags"] = {t["Key"]: t["Value"] for t in snapshot["TagList"]}
    print(json.dumps(found, default=str))


main()
