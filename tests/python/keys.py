"""Reads the KMS keys of one cell that bear our tag, directly and over HTTP: the ground truth for tests.

    keys.py URL ACCOUNT REGION ALIAS

Prints a list of {arn, state, rotation, policy, behind}: `behind` says whether the alias points at it.
"""

import json
import sys

from member import clients


def main():
    url, account, region, alias = sys.argv[1:]
    kms = clients(url, account, region)("kms")
    aliases = {a["AliasName"]: a.get("TargetKeyId") for a in kms.list_aliases()["Aliases"]}
    found = []
    for key in kms.list_keys()["Keys"]:
        arn = key["KeyArn"]
        tags = {t["TagKey"]: t["TagValue"] for t in kms.list_resource_tags(KeyId=arn)["Tags"]}
        if tags.get("ringfence:alias") != alias:
            continue
        found.append(
            {
                "arn": arn,
                "state": kms.describe_key(KeyId=arn)["KeyMetadata"]["KeyState"],
                "rotation": kms.get_key_rotation_status(KeyId=arn)["KeyRotationEnabled"],
                "policy": json.loads(kms.get_key_policy(KeyId=arn, PolicyName="default")["Policy"]),
                "behind": aliases.get(alias) == key["KeyId"],
            }
        )
    print(json.dumps(found))


main()
