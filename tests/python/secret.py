"""Makes a secret with the credentials of a database in moto.

    secret.py URL NAME
"""

import json
import sys

import boto3
from member import BASE


def main():
    url, name = sys.argv[1:]
    secrets = boto3.client("secretsmanager", region_name="us-east-1", endpoint_url=url, **BASE)
    given = dict(username="postgres", password="of-the-secret", dbname="postgres")
    secrets.create_secret(Name=name, SecretString=json.dumps(given))
    print(json.dumps({}))


main()
