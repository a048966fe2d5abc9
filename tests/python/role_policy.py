"""Prints the permissions of a CloudFormation template's role as one policy document.

    role_policy.py TEMPLATE ACCOUNT
"""

import json
import sys

from cfnlint.decode.cfn_yaml import load

VALUES = {
    "AWS::Partition": "aws",
    "AWS::AccountId": sys.argv[2],
    "AWS::URLSuffix": "amazonaws.com",
    "KeyAlias": "alias/RDSEncryptionAtRestKMSAlias",
}


def rendered(node):
    if isinstance(node, dict):
        if list(node) == ["Ref"]:
            return VALUES[node["Ref"]]
        if list(node) == ["Fn::Sub"]:
            text = node["Fn::Sub"]
            for name, value in VALUES.items():
                text = text.replace("${" + name + "}", value)
            assert "${" not in text, text
            return text
        return {str(key): rendered(value) for key, value in node.items()}
    if isinstance(node, list):
        return [rendered(item) for item in node]
    return str(node) if isinstance(node, str) else node


def main():
    resources = load(sys.argv[1])["Resources"]
    documents = [policy["PolicyDocument"] for policy in resources["Role"]["Properties"]["Policies"]]
    for more in ["SwapPolicy", "BlueGreenPolicy", "SnapshotsPolicy", "KeysPolicy"]:
        documents.append(resources[more]["Properties"]["PolicyDocument"])
    statements = [s for document in documents for s in document["Statement"]]
    print(json.dumps({"Version": "2012-10-17", "Statement": rendered(statements)}))


main()
