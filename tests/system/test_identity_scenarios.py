"""What the documentation shows of identity, as it stands: a Python program, the command line's shapes, curl, jq."""

# The published client has no types.
# mypy: disable-error-code="no-untyped-call,attr-defined"

from __future__ import annotations

import os
import subprocess
import uuid

from influxdb_client import BucketRetentionRules, InfluxDBClient, Permission, PermissionResource

from tests.conftest import need
from tests.stack import ORG, PASSWORD, USER, Stack

SCRIPT = """
set -eu
org_id=$(curl -sf -H "Authorization: Token $TOKEN" "$URL/api/v2/orgs?org=$ORG" | jq -er '.orgs[0].id')
user_id=$(curl -sf -H "Authorization: Token $TOKEN" "$URL/api/v2/users?name=$NAME" | jq -er '.users[0].id')
curl -sf --request POST "$URL/api/v2/authorizations" \\
  --header "Authorization: Token $TOKEN" --header 'Content-type: application/json' \\
  --data '{"status":"active","description":"scoped","orgID":"'"$org_id"'","userID":"'"$user_id"'",
    "permissions":[{"action":"read","resource":{"orgID":"'"$org_id"'","type":"buckets"}}]}' |
  jq -er '[.user, .status, .token, .permissions[0].resource.type] | @tsv'
"""


def test_a_program_signs_in_finds_or_creates_and_makes_a_bucket_token(stack: Stack) -> None:
    name = f"iot-{uuid.uuid4().hex[:8]}"
    with InfluxDBClient(stack.url, username=USER, password=PASSWORD, org=ORG) as client:
        org = next((o for o in client.organizations_api().find_organizations() if o.name == ORG), None)
        assert org is not None
        made_org = client.organizations_api().create_organization(name=name)
        buckets = client.buckets_api()
        assert buckets.find_bucket_by_name(name) is None
        rules = BucketRetentionRules(type="expire", every_seconds=3600)
        bucket = buckets.create_bucket(bucket_name=name, retention_rules=rules, org_id=org.id)
        resource = PermissionResource(id=bucket.id, type="buckets", org_id=org.id)
        permissions = [Permission(action=action, resource=resource) for action in ("read", "write")]
        made = client.authorizations_api().create_authorization(org_id=org.id, permissions=permissions)
        assert made.token
        listed = client.authorizations_api().find_authorizations()
        assert made.id in [authorization.id for authorization in listed]
        print(*(f"{a.id} {a.status} {a.description} {a.permissions[0].action}" for a in listed), sep="\n")
        assert made_org.name == name
    assert stack.request("POST", f"/api/v2/write?org={ORG}&bucket={name}", made.token, data=b"m v=1").status_code == 204
    assert stack.request("POST", f"/api/v2/write?org={ORG}&bucket=first", made.token, data=b"m v=1").status_code >= 400


def test_the_command_line_asks_for_types_and_makes_an_all_access_token(stack: Stack) -> None:
    org_id = stack.org_id()
    types = stack.json("GET", "/api/v2/resources")
    permissions = [
        {"action": action, "resource": {"type": type, **({"id": org_id} if type == "orgs" else {"orgID": org_id})}}
        for type in types
        if type not in ("instance", "users")
        for action in ("read", "write")
    ]
    made = stack.json(
        "POST", "/api/v2/authorizations", {"orgID": org_id, "description": "all", "permissions": permissions}
    )
    assert len(made["permissions"]) == len(permissions)
    assert stack.request("GET", "/api/v2/buckets", made["token"]).status_code == 200


def test_the_script_of_curl_and_jq_makes_a_token_of_a_user(stack: Stack) -> None:
    need("curl", "curl")
    need("jq", "jq")
    name = f"user-{uuid.uuid4().hex[:8]}"
    stack.json("POST", "/api/v2/users", {"name": name})
    environment = {**os.environ, "URL": stack.url, "TOKEN": stack.token, "ORG": ORG, "NAME": name}
    done = subprocess.run(["sh", "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=60, check=True)
    user, status, token, type = done.stdout.strip().split("\t")
    assert (user, status, type) == (name, "active", "buckets")
    assert stack.request("GET", "/api/v2/buckets", token).status_code == 200
