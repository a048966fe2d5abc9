"""Attaches a policy to the root, an OU and an account of an emulator, with boto3.

    attach.py URL make NAME          makes the policy and attaches it
    attach.py URL targets POLICY     what it is attached to
    attach.py URL alone POLICY       takes everything else from the OU
"""

import json
import sys

import boto3
from member import BASE


def main():
    url, what, name = sys.argv[1:]
    org = boto3.client("organizations", region_name="us-east-1", endpoint_url=url, **BASE)
    root = org.list_roots()["Roots"][0]["Id"]
    if what == "make":
        types = org.list_roots()["Roots"][0].get("PolicyTypes", [])
        if not any(t["Type"] == "SERVICE_CONTROL_POLICY" and t["Status"] == "ENABLED" for t in types):
            org.enable_policy_type(RootId=root, PolicyType="SERVICE_CONTROL_POLICY")
        deny = dict(Version="2012-10-17", Statement=[dict(Effect="Deny", Action="ec2:RunInstances", Resource="*")])
        policy = org.create_policy(
            Name=name, Description="d", Type="SERVICE_CONTROL_POLICY", Content=json.dumps(deny)
        )["Policy"]["PolicySummary"]["Id"]
        ou = org.create_organizational_unit(ParentId=root, Name="emergency")["OrganizationalUnit"]["Id"]
        account = next(a["Id"] for a in org.list_accounts()["Accounts"] if a.get("State", a.get("Status")) == "ACTIVE")
        for target in [root, ou, account]:
            org.attach_policy(PolicyId=policy, TargetId=target)
        print(json.dumps(dict(policy=policy, ou=ou)))
    elif what == "targets":
        pages = org.get_paginator("list_targets_for_policy").paginate(PolicyId=name)
        print(json.dumps(dict(targets=sorted(t["TargetId"] for page in pages for t in page["Targets"]))))
    else:
        targets = org.list_targets_for_policy(PolicyId=name)["Targets"]
        ou = next(t["TargetId"] for t in targets if t["TargetId"].startswith("ou-"))
        for policy in org.list_policies_for_target(TargetId=ou, Filter="SERVICE_CONTROL_POLICY")["Policies"]:
            if policy["Id"] != name:
                org.detach_policy(PolicyId=policy["Id"], TargetId=ou)
        print(json.dumps({}))


main()
