"""Calls every operation of the simulator with boto3, and checks each answer against botocore's models.

    conformance.py URL ADMIN_URL

The models are AWS's own, and neither they nor the parser are ours. An answer must have the model's
required members, types and enum values, and no member that the model does not know; an error's code
must be one that the model names, or a common one. At the end, every operation that the simulator says
it has must have been called. Prints {operations, answers, errors}.
"""

import json
import sys
import urllib.request
import xml.etree.ElementTree as ET

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

# "Common errors" of the API references; services do not repeat them in their models.
COMMON = {
    "AccessDenied", "AccessDeniedException", "Throttling", "ThrottlingException", "ValidationError",
    "ValidationException", "InvalidParameterValue", "InvalidParameterCombination", "InvalidClientTokenId",
    "UnrecognizedClientException", "ExpiredToken", "ExpiredTokenException", "InternalFailure",
    "AuthFailure", "RequestLimitExceeded", "InvalidGroup.NotFound", "InvalidGroup.Duplicate",
    "InvalidPermission.Duplicate", "InvalidPermission.NotFound", "InvalidVpcID.NotFound",
    "DependencyViolation", "SerializationException", "MalformedInput", "UnauthorizedOperation",
}
URL, ADMIN = sys.argv[1], sys.argv[2]
seen, errors, problems, answers = set(), set(), set(), 0
raw = {}


def admin(method, path, body=None):
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(ADMIN + path, data=data, method=method)
    return json.load(urllib.request.urlopen(request))


def advance(seconds=3600):
    admin("POST", "/clock", {"advance_ms": seconds * 1000})


class Account:
    """boto3 clients of one account and region."""

    def __init__(self, keys, region="us-east-1"):
        self.keys, self.region = keys, region

    def of(self, region):
        return type(self)(self.keys, region)

    def client(self, service):
        client = boto3.client(
            service, region_name=self.region, endpoint_url=URL, config=Config(retries={"total_max_attempts": 1}), **self.keys
        )
        client.meta.events.register("before-parse.*", keep)
        return client


def keep(response_dict, **_):
    raw["body"], raw["type"] = response_dict["body"], response_dict["headers"].get("content-type", "")


def call(account, service, operation, expect=None, **params):
    """Makes a call, checks its answer, and gives it back; `expect` is the error code that must come."""
    global answers
    client = account.client(service)
    model = client.meta.service_model
    method = next(m for m, op in client.meta.method_to_api_mapping.items() if op == operation)
    prefix = {"monitoring": "cloudwatch", "accessanalyzer": "access-analyzer"}
    seen.add(f"{prefix.get(service, service)}:{operation}")
    try:
        answer = getattr(client, method)(**params)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        known = {s.error_code for s in model.error_shapes} | {s.name for s in model.error_shapes} | COMMON
        assert code in known, f"{service}:{operation}: {code} is no code of this service"
        assert error.response["Error"]["Message"], f"{service}:{operation}: {code} without a message"
        errors.add(code)
        assert code == expect, f"{service}:{operation}: {error}, expected {expect}"
        return error.response
    assert expect is None, f"{service}:{operation}: expected {expect}, got {answer}"
    answers += 1
    shape = model.operation_model(operation).output_shape
    answer.pop("ResponseMetadata")
    if shape:
        at = f"{service}:{operation}"
        check(answer, shape, at)
        known_members(raw["body"], raw["type"], shape, at, operation)
    return answer


def demand(holds, problem):
    """All problems are wanted, not the first."""
    if not holds:
        problems.add(problem)


def check(value, shape, at):
    """Types, required members, enums."""
    kind = shape.type_name
    if kind == "structure":
        for name in shape.required_members:
            demand(name in value, f"{at}: {name} is required and missing")
        for name, member in value.items():
            check(member, shape.members[name], f"{at}.{name}")
    elif kind == "list":
        demand(isinstance(value, list), at)
        for item in value:
            check(item, shape.member, f"{at}[]")
    elif kind == "map":
        for item in value.values():
            check(item, shape.value, f"{at}{{}}")
    elif kind == "boolean":
        demand(isinstance(value, bool), f"{at}: {value!r} is no boolean")
    elif kind in ("integer", "long"):
        demand(isinstance(value, int) and not isinstance(value, bool), f"{at}: {value!r} is no integer")
    elif kind in ("double", "float"):
        demand(isinstance(value, (int, float)), f"{at}: {value!r} is no number")
    elif kind == "timestamp":
        demand(hasattr(value, "year"), f"{at}: {value!r} is no timestamp")
    elif kind == "string" and shape.name == "policyDocumentType":
        # botocore decodes and parses it.
        demand(isinstance(value, dict), f"{at}: {value!r} is no document")
    elif kind == "string":
        demand(isinstance(value, str), f"{at}: {value!r} is no string")
        enum = shape.metadata.get("enum")
        demand(not enum or value in enum, f"{at}: {value!r} is not one of {enum}")


def known_members(body, kind, shape, at, operation):
    """The bytes hold nothing that the model does not know: parsers pass over it silently."""
    if "xml" in kind:
        root = ET.fromstring(body)
        strip = lambda tag: tag.split("}")[-1]
        inner = [e for e in root if strip(e.tag) == f"{operation}Result"]
        elements = inner[0] if inner else [e for e in root if strip(e.tag) not in ("requestId", "ResponseMetadata")]
        walk_xml(list(elements), shape, at, strip)
    elif "json" in kind:
        walk(json.loads(body or b"{}"), shape, at)


def walk_xml(elements, shape, at, strip):
    names = {m.serialization.get("name", n): m for n, m in shape.members.items()}
    for element in elements:
        tag = strip(element.tag)
        demand(tag in names, f"{at}: the model has no {tag}")
        if tag not in names:
            continue
        member = names[tag]
        if member.type_name == "structure":
            walk_xml(list(element), member, f"{at}.{tag}", strip)
        elif member.type_name == "list":
            item = member.member.serialization.get("name", "member")
            for child in element:
                demand(strip(child.tag) == item, f"{at}.{tag}: items are {strip(child.tag)}, the model says {item}")
                if member.member.type_name == "structure":
                    walk_xml(list(child), member.member, f"{at}.{tag}[]", strip)


def walk(value, shape, at):
    if shape.type_name == "structure":
        names = {m.serialization.get("name", n): m for n, m in shape.members.items()}
        for name, member in value.items():
            demand(name in names, f"{at}: the model has no {name}")
            if name in names:
                walk(member, names[name], f"{at}.{name}")
    elif shape.type_name == "list":
        for item in value:
            walk(item, shape.member, f"{at}[]")


def organizations(m):
    o = "organizations"
    call(m, o, "DescribeOrganization", expect="AWSOrganizationsNotInUseException")
    call(m, o, "CreateOrganization", FeatureSet="ALL")
    call(m, o, "CreateOrganization", expect="AlreadyInOrganizationException", FeatureSet="ALL")
    call(m, o, "DescribeOrganization")
    root = call(m, o, "ListRoots")["Roots"][0]["Id"]
    scp = dict(PolicyType="SERVICE_CONTROL_POLICY", RootId=root)
    advance(1)
    call(m, o, "EnablePolicyType", **scp)
    advance(1)
    call(m, o, "EnablePolicyType", expect="PolicyTypeAlreadyEnabledException", **scp)
    advance(1)
    call(m, o, "DisablePolicyType", **scp)
    advance(1)
    call(m, o, "EnablePolicyType", **scp)
    advance(1)
    ou = call(m, o, "CreateOrganizationalUnit", ParentId=root, Name="prod", Tags=[dict(Key="a", Value="b")])
    call(m, o, "CreateOrganizationalUnit", expect="ConcurrentModificationException", ParentId=root, Name="now")
    ou = ou["OrganizationalUnit"]["Id"]
    advance(1)
    call(m, o, "CreateOrganizationalUnit", expect="DuplicateOrganizationalUnitException", ParentId=root, Name="prod")
    advance(1)
    call(m, o, "CreateOrganizationalUnit", expect="ParentNotFoundException", ParentId="ou-none-12345678", Name="x")
    call(m, o, "DescribeOrganizationalUnit", OrganizationalUnitId=ou)
    call(m, o, "DescribeOrganizationalUnit", expect="OrganizationalUnitNotFoundException", OrganizationalUnitId="ou-none-12345678")
    advance(1)
    call(m, o, "UpdateOrganizationalUnit", OrganizationalUnitId=ou, Name="production")
    advance(1)
    made = call(m, o, "CreateAccount", Email="a@example.com", AccountName="app")["CreateAccountStatus"]
    call(m, o, "DescribeCreateAccountStatus", CreateAccountRequestId=made["Id"])
    app = made["AccountId"]
    call(m, o, "ListParents", ChildId=app)
    call(m, o, "ListChildren", ParentId=root, ChildType="ACCOUNT")
    advance(1)
    move = dict(AccountId=app, DestinationParentId=ou)
    call(m, o, "MoveAccount", expect="SourceParentNotFoundException", SourceParentId=ou[:3] + "none-12345678", **move)
    advance(1)
    call(m, o, "MoveAccount", SourceParentId=root, **move)
    advance(1)
    call(m, o, "MoveAccount", expect="DuplicateAccountException", SourceParentId=root, **move)
    call(m, o, "ListAccountsForParent", ParentId=ou)
    call(m, o, "ListOrganizationalUnitsForParent", ParentId=root)
    assert call(m, o, "ListAccounts")["Accounts"]
    call(m, o, "DescribeAccount", AccountId=app)
    call(m, o, "DescribeAccount", expect="AccountNotFoundException", AccountId="999999999999")
    policies(m, root, ou)
    advance(1)
    gone = call(m, o, "CreateAccount", Email="b@example.com", AccountName="gone")["CreateAccountStatus"]["AccountId"]
    advance(1)
    call(m, o, "CloseAccount", AccountId=gone)
    advance(1)
    call(m, o, "CloseAccount", expect="AccountAlreadyClosedException", AccountId=gone)
    advance(1)
    call(m, o, "DeleteOrganizationalUnit", expect="OrganizationalUnitNotEmptyException", OrganizationalUnitId=ou)
    advance(1)
    extra = call(m, o, "CreateOrganizationalUnit", ParentId=ou, Name="extra")["OrganizationalUnit"]["Id"]
    advance(1)
    call(m, o, "DeleteOrganizationalUnit", OrganizationalUnitId=extra)
    return app, gone, ou


def policies(m, root, ou):
    o = "organizations"
    deny = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "s3:*", "Resource": "*"}]})
    make = dict(Description="d", Type="SERVICE_CONTROL_POLICY")
    advance(1)
    policy = call(m, o, "CreatePolicy", Name="no-s3", Content=deny, **make)["Policy"]["PolicySummary"]["Id"]
    for expect, name, content in [
        ("DuplicatePolicyException", "no-s3", deny),
        ("MalformedPolicyDocumentException", "bad", "{"),
        ("ConstraintViolationException", "long", deny + " " * 11_000),
    ]:
        advance(1)
        call(m, o, "CreatePolicy", expect=expect, Name=name, Content=content, **make)
    call(m, o, "DescribePolicy", PolicyId=policy)
    call(m, o, "DescribePolicy", expect="PolicyNotFoundException", PolicyId="p-12345678")
    advance(1)
    call(m, o, "UpdatePolicy", PolicyId=policy, Description="other")
    call(m, o, "ListPolicies", Filter="SERVICE_CONTROL_POLICY")
    both = dict(PolicyId=policy, TargetId=ou)
    advance(1)
    call(m, o, "AttachPolicy", **both)
    advance(1)
    call(m, o, "AttachPolicy", expect="DuplicatePolicyAttachmentException", **both)
    advance(1)
    call(m, o, "DeletePolicy", expect="PolicyInUseException", PolicyId=policy)
    call(m, o, "ListTargetsForPolicy", PolicyId=policy)
    call(m, o, "ListPoliciesForTarget", TargetId=ou, Filter="SERVICE_CONTROL_POLICY")
    call(m, o, "ListPoliciesForTarget", expect="TargetNotFoundException", TargetId="999999999999", Filter="SERVICE_CONTROL_POLICY")
    advance(1)
    call(m, o, "DetachPolicy", **both)
    advance(1)
    call(m, o, "DetachPolicy", expect="PolicyNotAttachedException", **both)
    advance(1)
    call(m, o, "DetachPolicy", expect="ConstraintViolationException", PolicyId="p-FullAWSAccess", TargetId=root)
    advance(1)
    call(m, o, "TagResource", ResourceId=policy, Tags=[dict(Key="owner", Value="ringfence")])
    call(m, o, "ListTagsForResource", ResourceId=policy)
    advance(1)
    call(m, o, "UntagResource", ResourceId=policy, TagKeys=["owner"])
    advance(1)
    call(m, o, "DeletePolicy", PolicyId=policy)


def sessions(m, app, gone):
    role = lambda id: f"arn:aws:iam::{id}:role/OrganizationAccountAccessRole"
    call(m, "sts", "GetCallerIdentity")
    made = call(m, "sts", "AssumeRole", RoleArn=role(app), RoleSessionName="conformance", SourceIdentity="me12")
    call(m, "sts", "AssumeRole", expect="AccessDenied", RoleArn=role(gone), RoleSessionName="conformance")
    call(m, "sts", "AssumeRole", expect="ValidationError", RoleArn=role(app), RoleSessionName="no spaces")
    call(m, "sts", "AssumeRole", expect="MalformedPolicyDocument", RoleArn=role(app), RoleSessionName="xx", Policy="{")
    c = made["Credentials"]
    keys = dict(
        aws_access_key_id=c["AccessKeyId"],
        aws_secret_access_key=c["SecretAccessKey"],
        aws_session_token=c["SessionToken"],
    )
    bad = Account(dict(keys, aws_session_token="wrong"))
    for service, op, expect in [
        ("sts", "GetCallerIdentity", "InvalidClientTokenId"),
        ("organizations", "DescribeOrganization", "UnrecognizedClientException"),
        ("account", "ListRegions", "UnrecognizedClientException"),
        ("ec2", "DescribeRegions", "AuthFailure"),
        ("cloudwatch", "ListMetrics", "InvalidClientTokenId"),
    ]:
        call(bad, service, op, expect=expect)
    return keys


def small_services(m, a):
    call(a, "account", "ListRegions")
    call(m, "account", "ListRegions", AccountId=call(a, "sts", "GetCallerIdentity")["Account"])
    call(a, "account", "GetRegionOptStatus", RegionName="us-east-1")
    call(a, "account", "EnableRegion", expect="ValidationException", RegionName="us-east-1")
    call(a, "account", "DisableRegion", expect="ValidationException", RegionName="us-east-1")
    call(a, "ec2", "DescribeRegions", AllRegions=True)
    group = call(a, "ec2", "CreateSecurityGroup", GroupName="quiet", Description="d")["GroupId"]
    call(a, "ec2", "CreateSecurityGroup", expect="InvalidGroup.Duplicate", GroupName="quiet", Description="d")
    found = call(a, "ec2", "DescribeSecurityGroups", GroupIds=[group])["SecurityGroups"][0]
    call(a, "ec2", "DescribeSecurityGroups", Filters=[dict(Name="group-name", Values=["quiet"]), dict(Name="vpc-id", Values=[found["VpcId"]])])
    port = [dict(IpProtocol="tcp", FromPort=5432, ToPort=5432, IpRanges=[dict(CidrIp="10.0.0.0/8")])]
    call(a, "ec2", "AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=port)
    call(a, "ec2", "AuthorizeSecurityGroupIngress", expect="InvalidPermission.Duplicate", GroupId=group, IpPermissions=port)
    call(a, "ec2", "RevokeSecurityGroupEgress", GroupId=group, IpPermissions=found["IpPermissionsEgress"])
    call(a, "ec2", "RevokeSecurityGroupEgress", expect="InvalidPermission.NotFound", GroupId=group, IpPermissions=found["IpPermissionsEgress"])
    call(a, "ec2", "DeleteSecurityGroup", GroupId=group)
    call(a, "ec2", "DeleteSecurityGroup", expect="InvalidGroup.NotFound", GroupId=group)
    call(a, "iam", "ListAccountAliases")
    document = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "rds-db:connect", "Resource": "*"}]})
    call(a, "iam", "CreatePolicy", PolicyName="apps", PolicyDocument=document)
    call(a, "iam", "CreatePolicy", PolicyName="more", PolicyDocument=document)
    call(a, "iam", "CreatePolicy", expect="EntityAlreadyExists", PolicyName="apps", PolicyDocument=document)
    call(a, "iam", "CreatePolicy", expect="MalformedPolicyDocument", PolicyName="bad", PolicyDocument="{")
    call(a, "secretsmanager", "CreateSecret", Name="one", SecretString="s", Description="d", Tags=[dict(Key="of", Value="orders")])
    call(a, "secretsmanager", "CreateSecret", Name="two", SecretString="s")
    call(a, "secretsmanager", "CreateSecret", expect="ResourceExistsException", Name="two", SecretString="s")
    page = call(a, "secretsmanager", "ListSecrets", MaxResults=1)
    assert call(a, "secretsmanager", "ListSecrets", NextToken=page["NextToken"])["SecretList"][0]["Name"] == "two"
    for name in ("one", "two"):
        auto = dict(Enabled=True, RetainStacksOnAccountRemoval=name == "two")
        call(m, "cloudformation", "CreateStackSet", StackSetName=name, TemplateBody="{}", PermissionModel="SERVICE_MANAGED", AutoDeployment=auto)
    call(m, "cloudformation", "CreateStackSet", expect="NameAlreadyExistsException", StackSetName="one", TemplateBody="{}")
    ous = dict(OrganizationalUnitIds=["ou-ab12-aaaaaaaa"])
    call(m, "cloudformation", "CreateStackInstances", StackSetName="one", DeploymentTargets=ous, Regions=["eu-west-1"])
    call(m, "cloudformation", "CreateStackInstances", expect="StackSetNotFoundException", StackSetName="no", DeploymentTargets=ous, Regions=["eu-west-1"])
    page = call(m, "cloudformation", "ListStackSets", MaxResults=1)
    page = call(m, "cloudformation", "ListStackSets", NextToken=page["NextToken"])
    assert page["Summaries"][0]["AutoDeployment"]["RetainStacksOnAccountRemoval"], page
    page = call(m, "cloudformation", "ListStackSetAutoDeploymentTargets", StackSetName="one")
    assert page["Summaries"] == [dict(OrganizationalUnitId="ou-ab12-aaaaaaaa", Regions=["eu-west-1"])], page
    call(m, "cloudformation", "ListStackSetAutoDeploymentTargets", expect="StackSetNotFoundException", StackSetName="no")
    trust = json.dumps({"Version": "2012-10-17", "Statement": []})
    for name in ("one", "two"):
        call(a, "iam", "CreateRole", RoleName=name, AssumeRolePolicyDocument=trust)
    call(a, "iam", "CreateRole", expect="EntityAlreadyExists", RoleName="one", AssumeRolePolicyDocument=trust)
    page = call(a, "iam", "ListRoles", MaxItems=1)
    assert call(a, "iam", "ListRoles", Marker=page["Marker"])["Roles"][0]["RoleName"] == "two"
    page = call(a, "iam", "GetAccountAuthorizationDetails", Filter=["LocalManagedPolicy", "Role"], MaxItems=1)
    page = call(a, "iam", "GetAccountAuthorizationDetails", Marker=page["Marker"])
    assert page["Policies"][0]["PolicyVersionList"][0]["Document"] == json.loads(document), page
    good = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "s3:*", "Resource": "*"}]})
    bad = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Principal": "*", "Action": "s3", "Resource": "*"}]})
    validate = lambda doc: call(m, "accessanalyzer", "ValidatePolicy", policyDocument=doc, policyType="SERVICE_CONTROL_POLICY")
    assert validate(good)["findings"] == []
    codes = {f["issueCode"] for f in validate(bad)["findings"]}
    assert codes == {"UNSUPPORTED_ELEMENT_IN_SCP", "INVALID_ACTION"}, codes


def kms(a):
    key = call(a, "kms", "CreateKey", Description="rds", Tags=[dict(TagKey="a", TagValue="b")])["KeyMetadata"]["Arn"]
    alias = dict(AliasName="alias/RDSEncryptionAtRestKMSAlias", TargetKeyId=key)
    call(a, "kms", "CreateAlias", **alias)
    call(a, "kms", "CreateAlias", expect="AlreadyExistsException", **alias)
    call(a, "kms", "CreateAlias", expect="InvalidAliasNameException", AliasName="alias/aws/x", TargetKeyId=key)
    call(a, "kms", "UpdateAlias", **alias)
    for name in [key, key.split("/")[-1], alias["AliasName"], "alias/aws/rds"]:
        call(a, "kms", "DescribeKey", KeyId=name)
    call(a, "kms", "DescribeKey", expect="NotFoundException", KeyId="alias/none")
    for op in ["ListKeys", "ListAliases"]:
        call(a, "kms", op)
    one = dict(KeyId=key)
    policy = call(a, "kms", "GetKeyPolicy", **one)["Policy"]
    call(a, "kms", "PutKeyPolicy", Policy=policy, **one)
    call(a, "kms", "EnableKeyRotation", **one)
    call(a, "kms", "GetKeyRotationStatus", **one)
    call(a, "kms", "DisableKeyRotation", **one)
    grant = call(a, "kms", "CreateGrant", GranteePrincipal="arn:aws:iam::1:role/x", Operations=["Decrypt"], **one)
    call(a, "kms", "ListGrants", **one)
    call(a, "kms", "RevokeGrant", GrantId=grant["GrantId"], **one)
    call(a, "kms", "TagResource", Tags=[dict(TagKey="c", TagValue="d")], **one)
    call(a, "kms", "ListResourceTags", **one)
    other = call(a, "kms", "CreateKey")["KeyMetadata"]["KeyId"]
    call(a, "kms", "DisableKey", KeyId=other)
    call(a, "kms", "EnableKey", KeyId=other)
    call(a, "kms", "CreateAlias", AliasName="alias/other", TargetKeyId=other)
    call(a, "kms", "DeleteAlias", AliasName="alias/other")
    call(a, "kms", "ScheduleKeyDeletion", KeyId=other, PendingWindowInDays=7)
    call(a, "kms", "EnableKeyRotation", expect="KMSInvalidStateException", KeyId=other)
    call(a, "kms", "DescribeKey", KeyId=other)
    call(a, "kms", "CancelKeyDeletion", KeyId=other)
    return key


def rds_groups(a):
    r = "rds"
    for create, describe, delete, name, more in [
        ("CreateDBParameterGroup", "DescribeDBParameterGroups", "DeleteDBParameterGroup", "DBParameterGroupName", dict(DBParameterGroupFamily="postgres16", Description="d")),
        ("CreateDBClusterParameterGroup", "DescribeDBClusterParameterGroups", "DeleteDBClusterParameterGroup", "DBClusterParameterGroupName", dict(DBParameterGroupFamily="aurora-postgresql16", Description="d")),
        ("CreateOptionGroup", "DescribeOptionGroups", "DeleteOptionGroup", "OptionGroupName", dict(EngineName="mysql", MajorEngineVersion="8.0", OptionGroupDescription="d")),
        ("CreateDBSubnetGroup", "DescribeDBSubnetGroups", "DeleteDBSubnetGroup", "DBSubnetGroupName", dict(SubnetIds=["subnet-1"], DBSubnetGroupDescription="d")),
    ]:
        call(a, r, create, **{name: "mine"}, **more)
        call(a, r, describe)
        call(a, r, describe, **{name: "mine"})
        call(a, r, create, **{name: "spare"}, **more)
        call(a, r, delete, **{name: "spare"})
    call(a, r, "DescribeDBSubnetGroups", expect="DBSubnetGroupNotFoundFault", DBSubnetGroupName="none")
    call(a, r, "DescribeAccountAttributes")
    call(a, r, "DescribePendingMaintenanceActions")


def across(far, r):
    """A replica in another region: by ARN on both sides; boto3 signs a URL for it, which AWS ignores there."""
    here = call(far.of("us-east-1"), r, "DescribeDBInstances", DBInstanceIdentifier="orders")["DBInstances"][0]
    replica = dict(DBInstanceIdentifier="far", SourceDBInstanceIdentifier=here["DBInstanceArn"])
    call(far, r, "CreateDBInstanceReadReplica", expect="DBInstanceNotFound", DBInstanceIdentifier="far",
         SourceDBInstanceIdentifier=here["DBInstanceArn"].replace("orders", "none"))
    call(far, r, "CreateDBInstanceReadReplica", SourceRegion="us-east-1", **replica)
    advance()
    made = call(far, r, "DescribeDBInstances", DBInstanceIdentifier="far")["DBInstances"][0]
    assert made["ReadReplicaSourceDBInstanceIdentifier"] == here["DBInstanceArn"], made
    here = call(far.of("us-east-1"), r, "DescribeDBInstances", DBInstanceIdentifier="orders")["DBInstances"][0]
    assert made["DBInstanceArn"] in here["ReadReplicaDBInstanceIdentifiers"], here
    call(far, r, "DeleteDBInstance", DBInstanceIdentifier="far", SkipFinalSnapshot=True)
    advance()


def rds_instances(a, key):
    r = "rds"
    rds_groups(a)
    make = dict(Engine="postgres", DBInstanceClass="db.m5.large", AllocatedStorage=20, MasterUsername="admin1", MasterUserPassword="not-a-secret-1")
    one = dict(DBInstanceIdentifier="orders")
    made = call(a, r, "CreateDBInstance", DBParameterGroupName="mine", DBSubnetGroupName="mine", BackupRetentionPeriod=7, Tags=[dict(Key="team", Value="a")], **one, **make)
    arn = made["DBInstance"]["DBInstanceArn"]
    call(a, r, "CreateDBInstance", expect="DBInstanceAlreadyExists", **one, **make)
    call(a, r, "CreateDBInstance", expect="DBSubnetGroupNotFoundFault", DBInstanceIdentifier="x", DBSubnetGroupName="none", **make)
    call(a, r, "CreateDBInstance", expect="InvalidParameterValue", DBInstanceIdentifier="no--good", **make)
    call(a, r, "CreateDBInstance", expect="KMSKeyNotAccessibleFault", DBInstanceIdentifier="x", StorageEncrypted=True, KmsKeyId="alias/none", **make)
    call(a, r, "CreateDBSnapshot", expect="InvalidDBInstanceState", DBSnapshotIdentifier="early", **one)
    call(a, r, "DescribeDBInstances", expect="InvalidParameterValue", MaxRecords=10)
    call(a, r, "DescribeDBInstances", expect="DBInstanceNotFound", DBInstanceIdentifier="none")
    advance()
    assert call(a, r, "DescribeDBInstances")["DBInstances"][0]["DBInstanceStatus"] == "available"
    call(a, r, "AddTagsToResource", ResourceName=arn, Tags=[dict(Key="k", Value="v")])
    call(a, r, "ListTagsForResource", ResourceName=arn)
    call(a, r, "RemoveTagsFromResource", ResourceName=arn, TagKeys=["k"])
    call(a, r, "AddTagsToResource", expect="InvalidParameterValue", ResourceName=arn, Tags=[dict(Key="aws:k", Value="v")])
    role = dict(RoleArn="arn:aws:iam::1:role/s3", FeatureName="s3Import", **one)
    call(a, r, "AddRoleToDBInstance", **role)
    call(a, r, "AddRoleToDBInstance", expect="DBInstanceRoleAlreadyExists", **role)
    call(a, r, "RemoveRoleFromDBInstance", **role)
    call(a, r, "DescribeDBInstanceAutomatedBackups")
    call(a, r, "CreateDBSnapshot", DBSnapshotIdentifier="snap", **one)
    call(a, r, "CreateDBSnapshot", expect="DBSnapshotAlreadyExists", DBSnapshotIdentifier="snap", **one)
    copy = dict(SourceDBSnapshotIdentifier="snap", TargetDBSnapshotIdentifier="copy", KmsKeyId=key)
    call(a, r, "CopyDBSnapshot", expect="InvalidDBSnapshotState", **copy)
    advance()
    call(a, r, "CopyDBSnapshot", **copy)
    call(a, r, "RestoreDBInstanceFromDBSnapshot", expect="InvalidDBSnapshotState", DBInstanceIdentifier="twin", DBSnapshotIdentifier="copy")
    advance()
    twin = call(a, r, "RestoreDBInstanceFromDBSnapshot", DBInstanceIdentifier="twin", DBSnapshotIdentifier="copy")["DBInstance"]
    assert twin["StorageEncrypted"] and twin["KmsKeyId"] == key and twin["DBSubnetGroup"]["DBSubnetGroupName"] == "default"
    call(a, r, "DescribeDBSnapshots", SnapshotType="manual")
    call(a, r, "DescribeDBSnapshots", expect="DBSnapshotNotFound", DBSnapshotIdentifier="none")
    shared = dict(AttributeName="restore", ValuesToAdd=["all"])
    call(a, r, "ModifyDBSnapshotAttribute", expect="InvalidParameterValue", DBSnapshotIdentifier="copy", **shared)
    call(a, r, "ModifyDBSnapshotAttribute", DBSnapshotIdentifier="snap", **shared)
    found = call(a, r, "DescribeDBSnapshotAttributes", DBSnapshotIdentifier="snap")["DBSnapshotAttributesResult"]
    assert found["DBSnapshotAttributes"][0]["AttributeValues"] == ["all"], found
    call(a, r, "DeleteDBSnapshot", DBSnapshotIdentifier="copy")
    proxy = dict(DBProxyName="front")
    made = dict(EngineFamily="POSTGRESQL", RoleArn="arn:aws:iam::1:role/proxy", VpcSubnetIds=["subnet-1"], Auth=[dict(AuthScheme="SECRETS")], **proxy)
    call(a, r, "CreateDBProxy", **made)
    call(a, r, "CreateDBProxy", expect="DBProxyAlreadyExistsFault", **made)
    targets = dict(DBInstanceIdentifiers=["orders"], **proxy)
    call(a, r, "DeregisterDBProxyTargets", expect="DBProxyTargetNotFoundFault", **targets)
    call(a, r, "RegisterDBProxyTargets", **targets)
    call(a, r, "RegisterDBProxyTargets", expect="DBProxyTargetAlreadyRegisteredFault", **targets)
    found = call(a, r, "DescribeDBProxyTargets", **proxy)["Targets"]
    assert [(t["Type"], t["RdsResourceId"]) for t in found] == [("RDS_INSTANCE", "orders")], found
    call(a, r, "DeregisterDBProxyTargets", **targets)
    call(a, r, "DescribeDBProxies", expect="DBProxyNotFoundFault", DBProxyName="none")
    assert len(call(a, r, "DescribeDBProxies")["DBProxies"]) == 1
    ops = dict(SubscriptionName="ops", SnsTopicArn="arn:aws:sns:us-east-1:1:ops", SourceIds=["orders"])
    call(a, r, "CreateEventSubscription", expect="InvalidParameterCombination", **ops)
    call(a, r, "CreateEventSubscription", SourceType="db-instance", **ops)
    call(a, r, "CreateEventSubscription", expect="SubscriptionAlreadyExist", SourceType="db-instance", **ops)
    found = call(a, r, "DescribeEventSubscriptions")["EventSubscriptionsList"]
    assert found[0]["SourceIdsList"] == ["orders"], found
    advance()
    replica = dict(DBInstanceIdentifier="reader", SourceDBInstanceIdentifier="orders")
    call(a, r, "CreateDBInstanceReadReplica", expect="InvalidParameterCombination", KmsKeyId=key, **replica)
    call(a, r, "CreateDBInstanceReadReplica", **replica)
    across(type(a)({}, region="eu-west-1"), r)
    advance()
    call(a, r, "StopDBInstance", expect="InvalidDBInstanceState", **one)
    call(a, r, "PromoteReadReplica", DBInstanceIdentifier="reader")
    call(a, r, "RebootDBInstance", **one)
    advance()
    call(a, r, "ModifyDBInstance", ApplyImmediately=True, DBInstanceClass="db.r6g.large", **one)
    advance()
    call(a, r, "ModifyDBInstance", ApplyImmediately=True, NewDBInstanceIdentifier="orders-old", **one)
    call(a, r, "ModifyDBInstance", expect="InvalidDBInstanceState", DeletionProtection=True, **one)
    advance(7200)
    call(a, r, "DescribeDBInstances", expect="DBInstanceNotFound", **one)
    old = dict(DBInstanceIdentifier="orders-old")
    call(a, r, "StopDBInstance", **old)
    advance()
    call(a, r, "StartDBInstance", **old)
    advance()
    call(a, r, "ModifyDBInstance", DeletionProtection=True, **old)
    call(a, r, "DeleteDBInstance", expect="InvalidParameterCombination", SkipFinalSnapshot=True, **old)
    call(a, r, "ModifyDBInstance", DeletionProtection=False, **old)
    call(a, r, "DeleteDBInstance", expect="InvalidParameterCombination", **old)
    call(a, r, "DeleteDBInstance", FinalDBSnapshotIdentifier="last", DeleteAutomatedBackups=False, **old)
    advance()
    call(a, r, "DescribeDBInstances", expect="DBInstanceNotFound", **old)
    call(a, r, "DescribeDBInstanceAutomatedBackups")


def blue_green(a, key):
    r = "rds"
    make = dict(Engine="mysql", DBInstanceClass="db.m5.large", AllocatedStorage=20, MasterUsername="admin1", MasterUserPassword="not-a-secret-1")
    source = call(a, r, "CreateDBInstance", DBInstanceIdentifier="blue", BackupRetentionPeriod=7, **make)["DBInstance"]["DBInstanceArn"]
    bare = call(a, r, "CreateDBInstance", DBInstanceIdentifier="bare", BackupRetentionPeriod=0, **make)["DBInstance"]["DBInstanceArn"]
    advance()
    under = lambda arn: [dict(SourceArn=arn, TargetKmsKeyId=key)]
    one = dict(BlueGreenDeploymentName="safer", Source=source)
    call(a, r, "CreateBlueGreenDeployment", expect="InvalidDBInstanceState", BlueGreenDeploymentName="none", Source=bare)
    call(a, r, "CreateBlueGreenDeployment", expect="DBClusterNotFoundFault", BlueGreenDeploymentName="none", Source=source.replace(":db:blue", ":cluster:none"))
    call(a, r, "CreateBlueGreenDeployment", expect="InvalidParameterValue", TargetResourceConfigurations=under(bare), **one)
    made = call(a, r, "CreateBlueGreenDeployment", TargetResourceConfigurations=under(source), Tags=[dict(Key="a", Value="b")], **one)["BlueGreenDeployment"]
    assert made["Status"] == "PROVISIONING" and made["Source"] == source, made
    call(a, r, "CreateBlueGreenDeployment", expect="BlueGreenDeploymentAlreadyExistsFault", **one)
    ours = dict(BlueGreenDeploymentIdentifier=made["BlueGreenDeploymentIdentifier"])
    call(a, r, "SwitchoverBlueGreenDeployment", expect="InvalidBlueGreenDeploymentStateFault", **ours)
    call(a, r, "DescribeBlueGreenDeployments", expect="BlueGreenDeploymentNotFoundFault", BlueGreenDeploymentIdentifier="bgd-none")
    advance()
    call(a, r, "CreateBlueGreenDeployment", expect="SourceDatabaseNotSupportedFault", BlueGreenDeploymentName="second", Source=source)
    found = call(a, r, "DescribeBlueGreenDeployments", Filters=[dict(Name="blue-green-deployment-name", Values=["safer"])])["BlueGreenDeployments"]
    assert [(d["Status"], d["TagList"]) for d in found] == [("AVAILABLE", [dict(Key="a", Value="b")])], found
    green = found[0]["SwitchoverDetails"][0]["TargetMember"].split(":")[-1]
    twin = call(a, r, "DescribeDBInstances", DBInstanceIdentifier=green)["DBInstances"][0]
    assert green.startswith("blue-green-") and twin["KmsKeyId"] == key, twin
    call(a, r, "SwitchoverBlueGreenDeployment", expect="InvalidParameterValue", SwitchoverTimeout=5000, **ours)
    call(a, r, "SwitchoverBlueGreenDeployment", **ours)
    call(a, r, "DeleteBlueGreenDeployment", expect="InvalidBlueGreenDeploymentStateFault", **ours)
    advance()
    found = call(a, r, "DescribeBlueGreenDeployments", **ours)["BlueGreenDeployments"][0]
    assert (found["Status"], found["Source"], found["Target"]) == ("SWITCHOVER_COMPLETED", source + "-old1", source), found
    assert call(a, r, "DescribeDBInstances", DBInstanceIdentifier="blue")["DBInstances"][0]["DbiResourceId"] == twin["DbiResourceId"]
    call(a, r, "DeleteBlueGreenDeployment", expect="InvalidParameterCombination", DeleteTarget=True, **ours)
    call(a, r, "DeleteBlueGreenDeployment", **ours)
    advance()
    assert call(a, r, "DescribeBlueGreenDeployments")["BlueGreenDeployments"] == []


def rds_clusters(a, key):
    r = "rds"
    make = dict(Engine="aurora-postgresql", MasterUsername="admin1", MasterUserPassword="not-a-secret-1")
    one = dict(DBClusterIdentifier="ledger")
    made = call(a, r, "CreateDBCluster", DBClusterParameterGroupName="mine", EngineVersion="16.3", **one, **make)["DBCluster"]
    assert made["StorageEncryptionType"] == "sse-rds" and not made["StorageEncrypted"], made
    call(a, r, "CreateDBCluster", expect="DBClusterAlreadyExistsFault", **one, **make)
    member = dict(DBInstanceIdentifier="ledger-1", DBInstanceClass="db.r6g.large", Engine="aurora-postgresql", **one)
    call(a, r, "CreateDBInstance", expect="InvalidDBClusterStateFault", **member)
    advance()
    call(a, r, "CreateDBInstance", expect="InvalidParameterCombination", StorageEncrypted=True, **member)
    call(a, r, "CreateDBInstance", **member)
    advance()
    call(a, r, "CreateDBSnapshot", expect="InvalidParameterValue", DBInstanceIdentifier="ledger-1", DBSnapshotIdentifier="no")
    call(a, r, "DescribeDBClusters", **one)
    call(a, r, "DescribeDBClusters", expect="DBClusterNotFoundFault", DBClusterIdentifier="none")
    call(a, r, "AddRoleToDBCluster", RoleArn="arn:aws:iam::1:role/s3", FeatureName="s3Import", **one)
    call(a, r, "CreateDBClusterEndpoint", DBClusterEndpointIdentifier="reports", EndpointType="READER", **one)
    call(a, r, "DescribeDBClusterEndpoints", **one)
    call(a, r, "CreateDBClusterSnapshot", DBClusterSnapshotIdentifier="snap", **one)
    advance()
    copy = dict(SourceDBClusterSnapshotIdentifier="snap", TargetDBClusterSnapshotIdentifier="copy")
    call(a, r, "CopyDBClusterSnapshot", expect="InvalidParameterCombination", KmsKeyId=key, **copy)
    call(a, r, "CopyDBClusterSnapshot", **copy)
    call(a, r, "DescribeDBClusterSnapshots")
    call(a, r, "DescribeDBClusterSnapshots", expect="DBClusterSnapshotNotFoundFault", DBClusterSnapshotIdentifier="none")
    twin = dict(DBClusterIdentifier="twin-cluster", SnapshotIdentifier="snap", Engine="aurora-postgresql")
    made = call(a, r, "RestoreDBClusterFromSnapshot", KmsKeyId=key, **twin)["DBCluster"]
    assert made["StorageEncryptionType"] == "sse-kms" and made["EngineVersion"] == "16.4", made
    advance()
    call(a, r, "DeleteDBClusterSnapshot", DBClusterSnapshotIdentifier="copy")
    call(a, r, "ModifyDBCluster", ApplyImmediately=True, BackupRetentionPeriod=14, **one)
    advance()
    call(a, r, "ModifyDBCluster", ApplyImmediately=True, NewDBClusterIdentifier="ledger-old", **one)
    advance()
    old = dict(DBClusterIdentifier="ledger-old")
    assert call(a, r, "DescribeDBInstances", DBInstanceIdentifier="ledger-1")["DBInstances"][0]["DBClusterIdentifier"] == "ledger-old"
    call(a, r, "StartDBCluster", expect="InvalidDBClusterStateFault", **old)
    call(a, r, "StopDBCluster", **old)
    advance()
    member = call(a, r, "DescribeDBInstances", DBInstanceIdentifier="ledger-1")["DBInstances"][0]
    assert member["DBInstanceStatus"] == "stopped", member
    call(a, r, "ModifyDBCluster", expect="InvalidDBClusterStateFault", ApplyImmediately=True, DeletionProtection=True, **old)
    call(a, r, "StartDBCluster", **old)
    advance()
    call(a, r, "DeleteDBCluster", expect="InvalidDBClusterStateFault", SkipFinalSnapshot=True, **old)
    call(a, r, "DeleteDBInstance", DBInstanceIdentifier="ledger-1", SkipFinalSnapshot=True)
    call(a, r, "DeleteDBClusterEndpoint", DBClusterEndpointIdentifier="reports")
    call(a, r, "DeleteDBCluster", SkipFinalSnapshot=True, **old)
    advance()
    call(a, r, "DescribeDBClusters", expect="DBClusterNotFoundFault", **old)


def config(m, a):
    c = "config"
    rule = dict(ConfigRuleName="plain", Source=dict(Owner="AWS", SourceIdentifier="RDS_STORAGE_ENCRYPTED"))
    call(a, c, "PutConfigRule", expect="NoAvailableConfigurationRecorderException", ConfigRule=rule)
    call(a, c, "PutConfigurationRecorder", ConfigurationRecorder=dict(name="default", roleARN="arn:aws:iam::1:role/x", recordingGroup=dict(allSupported=True)))
    call(a, c, "StartConfigurationRecorder", ConfigurationRecorderName="default")
    call(a, c, "DescribeConfigurationRecorders")
    call(a, c, "DescribeConfigurationRecorderStatus")
    call(a, c, "PutConfigRule", ConfigRule=rule)
    call(a, c, "DescribeConfigRules")
    call(a, c, "DescribeConfigRules", expect="NoSuchConfigRuleException", ConfigRuleNames=["none"])
    call(a, c, "DescribeComplianceByConfigRule")
    details = call(a, c, "GetComplianceDetailsByConfigRule", ConfigRuleName="plain", ComplianceTypes=["NON_COMPLIANT"])
    assert details["EvaluationResults"], details
    call(a, c, "StartConfigRulesEvaluation", ConfigRuleNames=["plain"])
    call(a, c, "StartConfigRulesEvaluation", expect="LimitExceededException", ConfigRuleNames=["plain"])
    metadata = dict(RuleIdentifier="RDS_CLUSTER_ENCRYPTED_AT_REST")
    put = dict(OrganizationConfigRuleName="clusters", OrganizationManagedRuleMetadata=metadata)
    call(a, c, "PutOrganizationConfigRule", expect="OrganizationAccessDeniedException", **put)
    call(m, c, "PutOrganizationConfigRule", **put)
    call(m, c, "DescribeOrganizationConfigRules")
    call(m, c, "DescribeOrganizationConfigRuleStatuses")
    status = call(m, c, "GetOrganizationConfigRuleDetailedStatus", OrganizationConfigRuleName="clusters")
    found = {s["MemberAccountRuleStatus"] for s in status["OrganizationConfigRuleDetailedStatus"]}
    assert found == {"CREATE_SUCCESSFUL", "CREATE_FAILED"}, found
    source = dict(RoleArn="arn:aws:iam::1:role/x", AllAwsRegions=True)
    call(m, c, "PutConfigurationAggregator", ConfigurationAggregatorName="all", OrganizationAggregationSource=source)
    call(m, c, "DescribeConfigurationAggregators")
    select = "SELECT accountId, resourceId, configuration.engine WHERE resourceType = 'AWS::RDS::DBInstance' AND configuration.storageEncrypted = false"
    rows = call(m, c, "SelectAggregateResourceConfig", Expression=select, ConfigurationAggregatorName="all")["Results"]
    assert json.loads(rows[0])["configuration"]["engine"] == "postgres", rows
    call(m, c, "SelectAggregateResourceConfig", expect="InvalidExpressionException", Expression="DROP", ConfigurationAggregatorName="all")
    call(m, c, "DeleteOrganizationConfigRule", OrganizationConfigRuleName="clusters")
    call(a, c, "StopConfigurationRecorder", ConfigurationRecorderName="default")
    call(a, c, "DeleteConfigRule", ConfigRuleName="plain")
    call(a, c, "DeleteConfigurationRecorder", ConfigurationRecorderName="default")


def watch(a):
    w = "cloudwatch"
    now = admin("GET", "/clock")["ms"] / 1000
    metric = dict(Namespace="AWS/RDS", MetricName="DatabaseConnections", Dimensions=[dict(Name="DBInstanceIdentifier", Value="reader")])
    times = dict(StartTime=now - 3600, EndTime=now)
    admin("POST", "/changes", {"load": dict(account=call(a, "sts", "GetCallerIdentity")["Account"], region="us-east-1", instance="reader", connections=12, write_iops=40)})
    advance(600)
    times = dict(StartTime=now - 3600, EndTime=now + 600)
    data = call(a, w, "GetMetricData", MetricDataQueries=[dict(Id="c", MetricStat=dict(Metric=metric, Period=60, Stat="Maximum"))], **times)
    values = data["MetricDataResults"][0]["Values"]
    assert values[0] == 12 and values[-1] == 0, values
    call(a, w, "GetMetricStatistics", Period=300, Statistics=["Maximum"], **metric, **times)
    call(a, w, "GetMetricStatistics", expect="InvalidParameterValue", Period=300, Statistics=["Maximum"], StartTime=now, EndTime=now, **metric)
    call(a, w, "ListMetrics")
    alarm = dict(AlarmName="errors", EvaluationPeriods=1, Threshold=1.0, ComparisonOperator="GreaterThanThreshold", Period=60, Statistic="Maximum", **metric)
    call(a, w, "PutMetricAlarm", **alarm)
    call(a, w, "SetAlarmState", AlarmName="errors", StateValue="ALARM", StateReason="test")
    assert call(a, w, "DescribeAlarms")["MetricAlarms"][0]["StateValue"] == "ALARM"
    call(a, w, "DeleteAlarms", AlarmNames=["errors"])
    events = call(a, "cloudtrail", "LookupEvents", LookupAttributes=[dict(AttributeKey="EventName", AttributeValue="CreateDBInstance")])["Events"]
    failed = [e for e in events if json.loads(e["CloudTrailEvent"]).get("errorCode")]
    assert failed and len(failed) < len(events), events
    assert "not-a-secret" not in json.dumps(events, default=str)
    call(a, "cloudtrail", "LookupEvents", expect="InvalidTimeRangeException", StartTime=now, EndTime=now - 10)


def main():
    m = Account(dict(aws_access_key_id="management", aws_secret_access_key="x"))
    admin("PATCH", "/settings", {"organizations_busy_ms": 500})
    app, gone, _ = organizations(m)
    keys = sessions(m, app, gone)
    # The script moves the clock by more than a session's hour.
    renew = lambda: Account(sessions(m, app, gone))
    a = renew()
    small_services(m, a)
    key = kms(a)
    class Fresh(Account):
        def client(self, service):
            made = boto3.client("sts", region_name="us-east-1", endpoint_url=URL, aws_access_key_id="m", aws_secret_access_key="x").assume_role(
                RoleArn=f"arn:aws:iam::{app}:role/OrganizationAccountAccessRole", RoleSessionName="conformance")["Credentials"]
            self.keys = dict(aws_access_key_id=made["AccessKeyId"], aws_secret_access_key=made["SecretAccessKey"], aws_session_token=made["SessionToken"])
            return super().client(service)
    a = Fresh({})
    rds_instances(a, key)
    rds_clusters(a, key)
    config(m, a)
    watch(a)
    blue_green(a, key)
    expired = Account(keys)
    call(expired, "rds", "DescribeDBInstances", expect="ExpiredToken")
    call(expired, "kms", "ListKeys", expect="ExpiredTokenException")
    have = {f"{o['service']}:{o['operation']}" for o in admin("GET", "/operations")}
    missing = have - seen
    assert not missing, f"never called: {sorted(missing)}"
    assert not problems, "\n".join(sorted(problems))
    print(json.dumps({"operations": len(have), "answers": answers, "errors": sorted(errors)}))


try:
    main()
except BaseException:
    print("\n".join(sorted(problems)), file=sys.stderr)
    raise
