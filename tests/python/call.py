"""One call by somebody, with boto3; prints AWS's answer or its refusal.

    call.py URL ACCOUNT ROLE REGION SERVICE OPERATION PARAMS

ACCOUNT `-` is whoever the keys are of.
"""

import json
import sys

import boto3
from botocore.exceptions import ClientError

URL, ACCOUNT, ROLE, REGION, SERVICE, OPERATION, PARAMS = sys.argv[1:8]


def main():
    base = dict(region_name=REGION, endpoint_url=URL)
    keys = dict(aws_access_key_id="m", aws_secret_access_key="x")
    if ACCOUNT != "-":
        role = f"arn:aws:iam::{ACCOUNT}:role/{ROLE}"
        c = boto3.client("sts", **base, **keys).assume_role(RoleArn=role, RoleSessionName="somebody")["Credentials"]
        keys = dict(
            aws_access_key_id=c["AccessKeyId"],
            aws_secret_access_key=c["SecretAccessKey"],
            aws_session_token=c["SessionToken"],
        )
    client = boto3.client(SERVICE, **base, **keys)
    try:
        answer = client._make_api_call(OPERATION, json.loads(PARAMS))
        print(json.dumps({"code": "", "answer": answer}, default=str))
    except ClientError as error:
        print(json.dumps({"code": error.response["Error"]["Code"], "message": error.response["Error"]["Message"]}))


main()
