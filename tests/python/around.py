"""Names the database `orders` of one cell from outside, over HTTP: a proxy, an event subscription, an alarm, and,
with IAM authentication on, a policy with its resource id.

    around.py URL ACCOUNT REGION
"""

import json
import sys

from botocore.exceptions import ClientError
from member import clients


def subnets(ec2):
    """Those of the default VPC, where the emulator has some."""
    try:
        return [s["SubnetId"] for s in ec2.describe_subnets()["Subnets"]]
    except ClientError:
        return ["subnet-1"]


def main():
    url, account, region = sys.argv[1:]
    client = clients(url, account, region)
    rds = client("rds")
    rds.create_db_proxy(
        DBProxyName="front",
        EngineFamily="POSTGRESQL",
        RoleArn=f"arn:aws:iam::{account}:role/proxy",
        Auth=[{"AuthScheme": "SECRETS", "SecretArn": "arn:aws:secretsmanager:us-east-1:1:secret:s"}],
        VpcSubnetIds=subnets(client("ec2")),
    )
    rds.register_db_proxy_targets(DBProxyName="front", DBInstanceIdentifiers=["orders"])
    rds.create_event_subscription(
        SubscriptionName="ops",
        SnsTopicArn=f"arn:aws:sns:{region}:{account}:ops",
        SourceType="db-instance",
        SourceIds=["orders"],
    )
    client("cloudwatch").put_metric_alarm(
        AlarmName="busy",
        Namespace="AWS/RDS",
        MetricName="CPUUtilization",
        Dimensions=[{"Name": "DBInstanceIdentifier", "Value": "orders"}],
        Statistic="Average",
        Period=60,
        EvaluationPeriods=1,
        Threshold=90.0,
        ComparisonOperator="GreaterThanThreshold",
    )
    rds.modify_db_instance(
        DBInstanceIdentifier="orders", EnableIAMDatabaseAuthentication=True, ApplyImmediately=True
    )
    found = rds.describe_db_instances(DBInstanceIdentifier="orders")["DBInstances"][0]
    for name, id in [("apps", found["DbiResourceId"]), ("others", "db-ANOTHERANOTHERANOTHER")]:
        statement = dict(
            Effect="Allow",
            Action="rds-db:connect",
            Resource=f"arn:aws:rds-db:{region}:{account}:dbuser:{id}/app",
        )
        client("iam").create_policy(
            PolicyName=name,
            PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
        )
    secrets = client("secretsmanager")
    secrets.create_secret(Name="prod/orders", SecretString="of-nobody")
    secrets.create_secret(Name="prod/orders-read", SecretString="of-nobody")
    print(json.dumps({}))


main()
