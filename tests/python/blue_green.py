"""Shows blue/green deployments, or the names of all instances, of an account and region.

    blue_green.py URL ACCOUNT REGION deployments|databases
"""

import json
import sys

from member import clients


def main():
    url, account, region, what = sys.argv[1:]
    rds = clients(url, account, region)("rds")
    if what == "databases":
        pages = rds.get_paginator("describe_db_instances").paginate()
        print(json.dumps(sorted(i["DBInstanceIdentifier"] for p in pages for i in p["DBInstances"])))
        return
    pages = rds.get_paginator("describe_blue_green_deployments").paginate()
    found = [d for p in pages for d in p["BlueGreenDeployments"]]
    tags = lambda d: {t["Key"]: t["Value"] for t in d["TagList"]}
    print(json.dumps([{"name": d["BlueGreenDeploymentName"], "status": d["Status"], "tags": tags(d)} for d in found]))


main()
