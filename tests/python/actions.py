"""Prints the actions that a CloudFormation template's roles allow, one a line.

    actions.py TEMPLATE
"""

import sys

from cfnlint.decode.cfn_yaml import load


def main():
    template = load(sys.argv[1])
    actions = set()
    for resource in template["Resources"].values():
        properties = resource["Properties"]
        own = [properties] if "PolicyDocument" in properties else []
        for policy in properties.get("Policies", []) + own:
            for statement in policy["PolicyDocument"]["Statement"]:
                assert statement["Effect"] == "Allow", statement
                action = statement["Action"]
                actions.update([action] if isinstance(action, str) else action)
    print("\n".join(sorted(actions)))


main()
