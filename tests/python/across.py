"""A replica in another region of the database `orders`, directly and over HTTP.

    across.py URL ACCOUNT REGION FAR make     makes the replica `orders-far` in FAR, with a key behind the alias there
    across.py URL ACCOUNT REGION FAR show     prints the databases of both regions by name, and the key of each
"""

import json
import sys

from member import clients, until

ALIAS = "alias/RDSEncryptionAtRestKMSAlias"


def main():
    url, account, region, far, verb = sys.argv[1:]
    cells = {place: clients(url, account, place) for place in (region, far)}

    def databases(place):
        found = cells[place]("rds").describe_db_instances()["DBInstances"]
        return {d["DBInstanceIdentifier"]: d for d in found}

    if verb == "make":
        kms = cells[far]("kms")
        aliases = [a["AliasName"] for page in kms.get_paginator("list_aliases").paginate() for a in page["Aliases"]]
        if ALIAS not in aliases:
            key = kms.create_key()["KeyMetadata"]["KeyId"]
            kms.create_alias(AliasName=ALIAS, TargetKeyId=key)
        source = databases(region)["orders"]
        rds = cells[far]("rds")
        # moto keeps the source's group, which is not there.
        family = {"postgres": "postgres16", "mysql": "mysql8.0"}[source["Engine"]]
        group = dict(DBParameterGroupName="far-params")
        rds.create_db_parameter_group(DBParameterGroupFamily=family, Description="chosen", **group)
        rds.create_db_instance_read_replica(
            DBInstanceIdentifier="orders-far", SourceDBInstanceIdentifier=source["DBInstanceArn"], Port=6543, **group
        )
        until(lambda: databases(far)["orders-far"]["DBInstanceStatus"])
    keys = {place: cells[place]("kms").describe_key(KeyId=ALIAS)["KeyMetadata"]["Arn"] for place in cells}
    print(json.dumps({place: {"databases": databases(place), "key": keys[place]} for place in cells}, default=str))


main()
