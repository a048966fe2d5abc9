"""Prints the security groups of one cell that bear a name: what they let in and out, and their tags.

    isolation.py URL ACCOUNT REGION NAME
"""

import json
import sys

from member import clients


def main():
    url, account, region, name = sys.argv[1:]
    ec2 = clients(url, account, region)("ec2")
    rds = clients(url, account, region)("rds")
    groups = ec2.describe_security_groups(Filters=[dict(Name="group-name", Values=[name])])["SecurityGroups"]
    vpcs = {i["DBSubnetGroup"]["VpcId"] for i in rds.describe_db_instances()["DBInstances"] if "DBSubnetGroup" in i}
    print(
        json.dumps(
            [
                dict(
                    id=g["GroupId"],
                    rules=len(g["IpPermissions"]) + len(g["IpPermissionsEgress"]),
                    tags={t["Key"]: t["Value"] for t in g.get("Tags", [])},
                    of_databases=g["VpcId"] in vpcs,
                )
                for g in groups
            ]
        )
    )


main()
