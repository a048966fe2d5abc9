"""Attaches a policy to the root, an OU and an account of an emulator, with boto3.

    attach.py URL make NAME          makes the policy and attaches it
    attach.py URL targets POLICY     what it is attached to
    attach.py URL alone POLICY       takes everything else from the OU
"""

import json
import sys

import boto3
from member import BASE

SCP = "SERVICE_CONTROL_POLICY"


def main():
    url, what, name = sys.argv[1:]
    org = boto3.client("organizations", region_name="us-east-1", endpoint_url=url, **BASE)

    def every(operation, key, **more):
        """All pages: some are empty, with a token."""
        return [one for page in org.get_paginator(operation).paginate(**more) for one in page[key]]

    def targets():
        return sorted(t["TargetId"] for t in every("list_targets_for_policy", "Targets", PolicyId=name))

    if what == "make":
        root = every("list_roots", "Roots")[0]
        if not any(t["Type"] == SCP and t["Status"] == "ENABLED" for t in root.get("PolicyTypes", [])):
            org.enable_policy_type(RootId=root["Id"], PolicyType=SCP)
        deny = dict(Version="2012-10-17", Statement=[dict(Effect="Deny", Action="ec2:RunInstances", Resource="*")])
        made = org.create_policy(Name=name, Description="d", Type=SCP, Content=json.dumps(deny))
        policy = made["Policy"]["PolicySummary"]["Id"]
        ou = org.create_organizational_unit(ParentId=root["Id"], Name="emergency")["OrganizationalUnit"]["Id"]
        accounts = every("list_accounts", "Accounts")
        account = next(a["Id"] for a in accounts if a.get("State", a.get("Status")) == "ACTIVE")
        for target in [root["Id"], ou, account]:
            org.attach_policy(PolicyId=policy, TargetId=target)
        print(json.dumps(dict(policy=policy)))
    elif what == "targets":
        print(json.dumps(dict(targets=targets())))
    else:
        ou = next(t for t in targets() if t.startswith("ou-"))
        for policy in every("list_policies_for_target", "Policies", TargetId=ou, Filter=SCP):
            if policy["Id"] != name:
                org.detach_policy(PolicyId=policy["Id"], TargetId=ou)
        print(json.dumps({}))


main()
