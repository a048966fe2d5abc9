"""The security groups of one cell, over HTTP.

    isolation.py URL ACCOUNT REGION place        makes the database `tickets`, in a VPC
    isolation.py URL ACCOUNT REGION show NAME    prints the groups of that name: what they let in and out, their tags
"""

import json
import sys

from botocore.exceptions import ClientError
from member import clients, until


def place(ec2, rds):
    """In a subnet group of its own: moto gives no VPC to one that names none."""
    more = {}
    try:
        subnets = [s["SubnetId"] for s in ec2.describe_subnets()["Subnets"]]
        rds.create_db_subnet_group(DBSubnetGroupName="own", DBSubnetGroupDescription="d", SubnetIds=subnets)
        more = dict(DBSubnetGroupName="own")
    except ClientError:
        pass  # the simulator has one VPC and no subnets to list
    rds.create_db_instance(
        DBInstanceIdentifier="tickets",
        Engine="postgres",
        DBInstanceClass="db.m6g.large",
        AllocatedStorage=100,
        MasterUsername="admin1",
        MasterUserPassword="secret-secret",
        **more,
    )
    until(lambda: rds.describe_db_instances(DBInstanceIdentifier="tickets")["DBInstances"][0]["DBInstanceStatus"])
    return {}


def show(ec2, rds, name):
    groups = ec2.describe_security_groups(Filters=[dict(Name="group-name", Values=[name])])["SecurityGroups"]
    vpc = rds.describe_db_instances(DBInstanceIdentifier="tickets")["DBInstances"][0]["DBSubnetGroup"]["VpcId"]
    return [
        dict(
            id=g["GroupId"],
            rules=len(g["IpPermissions"]) + len(g["IpPermissionsEgress"]),
            tags={t["Key"]: t["Value"] for t in g.get("Tags", [])},
            of_the_database=g["VpcId"] == vpc,
        )
        for g in groups
    ]


def main():
    url, account, region, what, *name = sys.argv[1:]
    client = clients(url, account, region)
    do = dict(place=place, show=show)[what]
    print(json.dumps(do(client("ec2"), client("rds"), *name)))


main()
