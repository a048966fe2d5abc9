"""What the scripts share: clients inside a member account, and waiting for it."""

import time

import boto3

# Of the management account; emulators take any secret.
BASE = dict(aws_access_key_id="management", aws_secret_access_key="x")
# The way in that every account has from its creation.
ADMIN_ROLE = "OrganizationAccountAccessRole"


def keys(url, account):
    """Credentials inside a member account."""
    sts = boto3.client("sts", region_name="us-east-1", endpoint_url=url, **BASE)
    role = f"arn:aws:iam::{account}:role/{ADMIN_ROLE}"
    c = sts.assume_role(RoleArn=role, RoleSessionName="tests")["Credentials"]
    return dict(
        aws_access_key_id=c["AccessKeyId"],
        aws_secret_access_key=c["SecretAccessKey"],
        aws_session_token=c["SessionToken"],
    )


def clients(url, account, region):
    """Makes clients of one cell, by the service's name."""
    own = keys(url, account)
    return lambda service: boto3.client(service, region_name=region, endpoint_url=url, **own)


def until(status):
    """Waits until it is available; emulators take milliseconds."""
    for _ in range(2000):
        if status() == "available":
            return
        time.sleep(0.01)
    raise SystemExit("it does not become available")
