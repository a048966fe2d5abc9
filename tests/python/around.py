"""Names the database `orders` of one cell from outside, over HTTP: a proxy, an event subscription, an alarm.

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
    print(json.dumps({}))


main()
