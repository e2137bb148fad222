"""What the documentation shows of identity, run as it stands: Python, JavaScript and JWT programs, curl and jq, and the
requests of the command line.
"""

# The published client has no types.
# mypy: disable-error-code="no-untyped-call,attr-defined"

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from influxdb_client import BucketRetentionRules, InfluxDBClient, Permission, PermissionResource

from tests.conftest import need
from tests.stack import ORG, PASSWORD, USER, Stack

V2, LEGACY = "/api/v2", "/private/legacy/authorizations"
# The published JWT program's own phrase.
PHRASE = "my super secret pass phrase"


def fresh(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def write(stack: Stack, bucket: str, token: str) -> int:
    return stack.request("POST", f"{V2}/write?org={ORG}&bucket={bucket}", token, data=b"m v=1").status_code


# ---------------------------------------------------------------- Python, signing in with a password


def find_or_create(client: InfluxDBClient, org_name: str, bucket_name: str) -> tuple[Any, Any]:
    """Organization and bucket, as the published program does it."""
    organizations, buckets = client.organizations_api(), client.buckets_api()
    org = next((one for one in organizations.find_organizations() if one.name == org_name), None)
    if org is None:
        org = organizations.create_organization(name=org_name)
    bucket = buckets.find_bucket_by_name(bucket_name)
    if bucket is None:
        rules = BucketRetentionRules(type="expire", every_seconds=3600)
        bucket = buckets.create_bucket(bucket_name=bucket_name, retention_rules=rules, org_id=org.id)
    return org, bucket


def test_a_program_signs_in_finds_or_creates_and_makes_a_bucket_token(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    name = fresh("iot")
    with InfluxDBClient(stack.url, username=USER, password=PASSWORD, org=ORG) as client:
        assert client.organizations_api().create_organization(name=fresh("another")).id
        org, bucket = find_or_create(client, ORG, name)
        assert [one.id for one in find_or_create(client, ORG, name)] == [org.id, bucket.id]
        assert (bucket.name, bucket.org_id, bucket.retention_rules[0].every_seconds) == (name, org.id, 3600)

        resource = PermissionResource(id=bucket.id, type="buckets", org_id=org.id)
        permissions = [Permission(action=action, resource=resource) for action in ("read", "write")]
        made = client.authorizations_api().create_authorization(org_id=org.id, permissions=permissions)
        assert (made.org_id, made.org, made.user, made.status) == (org.id, ORG, USER, "active")

        listed = client.authorizations_api().find_authorizations()
        for one in listed:
            print("Authorization", one.id, one.token, one.user, one.org, one.status, one.description)
            for held in one.permissions:
                print("   ", held.action, held.resource.type, held.resource.id, held.resource.name)
        cookie = client.api_client.cookie
    printed = capsys.readouterr().out
    # Shown once, when it was made: a list prints an empty text, not None.
    assert made.token not in printed
    assert f"Authorization {made.id}  {USER} {ORG} active" in printed
    assert f"    write buckets {bucket.id} {name}" in printed
    assert write(stack, name, made.token) == 204
    assert write(stack, "first", made.token) in (401, 403, 404)
    listed_by_it = stack.request("GET", f"{V2}/authorizations", made.token)
    assert (listed_by_it.status_code, listed_by_it.json()["authorizations"]) == (200, [])
    # The end of the block signed out.
    assert stack.request("GET", f"{V2}/me", None, headers={"Cookie": cookie}).status_code == 401


# ---------------------------------------------------------------- the command line's requests


def chunked(body: Any) -> Iterator[bytes]:
    """JSON as the command line sends it: in chunks, of no length."""
    text = json.dumps(body).encode()
    yield text[:7]
    yield text[7:]


def send(stack: Stack, method: str, path: str, body: Any, token: str | None = None) -> Any:
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": "influx/2.7.5 (linux) Sha/none Date/now",
    }
    answer = stack.request(method, path, token or stack.token, data=chunked(body), headers=headers)
    assert answer.ok, answer.text
    return answer.json() if answer.content else None


def org_of(stack: Stack) -> str:
    """``GET orgs?org=NAME``, with which each command begins."""
    found: str = stack.json("GET", f"{V2}/orgs", params={"org": ORG})["orgs"][0]["id"]
    return found


def test_auth_create_all_access(stack: Stack) -> None:
    org_id, me = org_of(stack), stack.json("GET", f"{V2}/me")["id"]
    permissions: list[dict[str, Any]] = []
    for type in stack.json("GET", f"{V2}/resources"):
        if type == "instance":
            continue
        scope = {"id": org_id} if type == "orgs" else {"id": me} if type == "users" else {"orgID": org_id}
        actions = ("read",) if type == "orgs" else ("read", "write")
        permissions += [{"action": action, "resource": {"type": type, **scope}} for action in actions]
    made = send(stack, "POST", f"{V2}/authorizations", {"orgID": org_id, "permissions": permissions})
    assert [(p["action"], p["resource"]["type"]) for p in made["permissions"]] == [
        (p["action"], p["resource"]["type"]) for p in permissions
    ]
    token, name = made["token"], fresh("made")
    assert send(stack, "POST", f"{V2}/buckets", {"orgID": org_id, "name": name}, token)["name"] == name
    assert write(stack, name, token) == 204
    assert [one["id"] for one in stack.json("GET", f"{V2}/orgs", token=token)["orgs"]] == [org_id]
    # It is all access to its organization, and to no other one.
    assert stack.request("POST", f"{V2}/orgs", token, json={"name": fresh("no")}).status_code in (401, 403)
    assert stack.request("POST", f"{V2}/users", token, json={"name": fresh("no")}).status_code in (401, 403)


def test_auth_create_operator(stack: Stack) -> None:
    permissions = [
        {"action": action, "resource": {"type": type}}
        for type in stack.json("GET", f"{V2}/resources")
        if type != "instance"
        for action in ("read", "write")
    ]
    made = send(stack, "POST", f"{V2}/authorizations", {"orgID": org_of(stack), "permissions": permissions})
    other = stack.json("POST", f"{V2}/orgs", {"name": fresh("other")}, made["token"])
    assert (
        stack.json("POST", f"{V2}/buckets", {"orgID": other["id"], "name": "b"}, made["token"])["orgID"] == other["id"]
    )


def test_auth_create_for_a_bucket_list_inactive_active_delete(stack: Stack, bucket: str) -> None:
    org_id = org_of(stack)
    bucket_id = stack.json("GET", f"{V2}/buckets", params={"name": bucket, "org": ORG})["buckets"][0]["id"]
    resource = {"type": "buckets", "id": bucket_id, "orgID": org_id}
    permissions = [{"action": action, "resource": resource} for action in ("read", "write")]
    body = {"orgID": org_id, "description": "of the command line", "permissions": permissions}
    made = send(stack, "POST", f"{V2}/authorizations", body)
    assert {p["resource"]["name"] for p in made["permissions"]} == {bucket}
    path = f"{V2}/authorizations/{made['id']}"
    (listed,) = [a for a in stack.json("GET", f"{V2}/authorizations")["authorizations"] if a["id"] == made["id"]]
    assert listed == stack.json("GET", path) == {**made, "token": ""}
    for status, expected in (("inactive", 403), ("active", 204)):
        changed = send(stack, "PATCH", path, {"status": status})
        assert (changed["status"], changed["permissions"]) == (status, made["permissions"])
        assert write(stack, bucket, made["token"]) == expected
    assert stack.request("DELETE", path).status_code == 204
    assert write(stack, bucket, made["token"]) == 401
    assert stack.request("GET", path).status_code == 404


def test_v1_auth_create_list_inactive_password_delete(stack: Stack, bucket: str) -> None:
    org_id, name = org_of(stack), fresh("telegraf")
    bucket_id = stack.json("GET", f"{V2}/buckets", params={"name": bucket, "org": ORG})["buckets"][0]["id"]
    free = stack.request("GET", LEGACY, params={"token": name})
    assert free.status_code == 404 or free.json()["authorizations"] == []
    resource = {"type": "buckets", "id": bucket_id, "orgID": org_id}
    body: dict[str, Any] = {"orgID": org_id, "token": name, "description": "", "permissions": []}
    none = stack.request("POST", LEGACY, data=json.dumps(body))
    assert (none.status_code, none.json()["message"]) == (400, "authorization must include permissions")
    body["permissions"] = [{"action": action, "resource": resource} for action in ("read", "write")]
    made = send(stack, "POST", LEGACY, body)
    path = f"{LEGACY}/{made['id']}"
    assert made["token"] == name
    assert stack.json("GET", f"{V2}/users/{made['userID']}")["name"] == USER

    def may(password: str) -> int:
        login = {"db": bucket, "u": name, "p": password}
        return stack.request("POST", "/write", None, params=login, data=b"m v=1").status_code

    assert may("a-first-password") == 401
    assert send(stack, "POST", f"{path}/password", {"password": "a-first-password"}) is None
    assert may("a-first-password") == 204
    # The published path is an alias of the real one.
    for listing in (LEGACY, "/legacy/authorizations"):
        (found,) = stack.json("GET", listing, params={"token": name})["authorizations"]
        assert (found["id"], found["token"], found["status"]) == (made["id"], name, "active")
    for status, expected in (("inactive", 401), ("active", 204)):
        assert send(stack, "PATCH", path, {"status": status})["status"] == status
        assert may("a-first-password") == expected
    send(stack, "POST", f"{path}/password", {"password": "a-second-password"})
    assert [may("a-first-password"), may("a-second-password")] == [401, 204]
    assert stack.request("DELETE", path).status_code == 204
    assert may("a-second-password") == 401


# ---------------------------------------------------------------- curl and jq


SCOPED = """
set -eu
org_id=$(curl -sf -H "Authorization: Token $TOKEN" "$URL/api/v2/orgs?org=$ORG" | jq -er '.orgs[0].id')
user_id=$(curl -sf -H "Authorization: Token $TOKEN" "$URL/api/v2/users?name=$NAME" | jq -er '.users[0].id')
curl -sf --request POST "$URL/api/v2/authorizations" \\
  --header "Authorization: Token $TOKEN" --header 'Content-type: application/json' \\
  --data '{"status":"active","description":"scoped","orgID":"'"$org_id"'","userID":"'"$user_id"'",
    "permissions":[{"action":"read","resource":{"orgID":"'"$org_id"'","type":"buckets"}}]}' |
  jq -er '[.user, .userID, .status, .token, .permissions[0].resource.type] | @tsv'
"""


def run_shell(stack: Stack, script: str, **environment: str) -> str:
    for program in ("curl", "jq"):
        need(program, program)
    known = {**os.environ, "URL": stack.url, "TOKEN": stack.token, "ORG": ORG, **environment}
    done = subprocess.run(["sh", "-c", script], env=known, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_script_of_curl_and_jq_makes_a_token_of_a_user(stack: Stack, bucket: str) -> None:
    name = fresh("user")
    stack.json("POST", f"{V2}/users", {"name": name})
    user, user_id, status, token, type = run_shell(stack, SCOPED, NAME=name).split("\t")
    assert (user, status, type) == (name, "active", "buckets")
    assert stack.request("GET", f"{V2}/buckets", token).status_code == 200
    assert write(stack, bucket, token) == 403
    # It is the user's: listed by the user's name and id, and over when the user is.
    for listed in ({"user": name}, {"userID": user_id}):
        (found,) = stack.json("GET", f"{V2}/authorizations", params=listed)["authorizations"]
        assert (found["userID"], found["description"]) == (user_id, "scoped")
    stack.json("PATCH", f"{V2}/users/{user_id}", {"status": "inactive"})
    assert stack.request("GET", f"{V2}/buckets", token).status_code == 403


# ---------------------------------------------------------------- the 1.x token


JWT_PROGRAM = """
import datetime, os
import jwt
claims = {"username": os.environ["NAME"], "exp": datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=30)}
print(jwt.encode(claims, os.environ["PHRASE"], algorithm="HS256"))
"""
JWT_QUERY = """
curl -sf -G "$URL/query?db=first" --data-urlencode "q=SHOW DATABASES" --header "Authorization: Bearer $JWT" |
  jq -er '.results[0].series[0].values | flatten | .[]'"""


def test_the_program_of_a_1x_token(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "stack", {"INFLUXDB_HTTP_SHARED_SECRET": PHRASE}).start()
    try:
        name = fresh("jwt")
        stack.query(f"CREATE USER \"{name}\" WITH PASSWORD 'a-long-password'")
        stack.query(f'GRANT ALL ON "first" TO "{name}"')
        program = [sys.executable, "-c", JWT_PROGRAM]
        environment = {**os.environ, "NAME": name, "PHRASE": PHRASE}
        done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=60, check=True)
        token = done.stdout.strip()
        assert run_shell(stack, JWT_QUERY, JWT=token) == "first"
        header = {"Authorization": f"Bearer {token}"}
        assert requests.post(f"{stack.url}/write?db=first", b"m v=1", headers=header, timeout=20).status_code == 204
        refused = requests.get(f"{stack.url}/query?q=SHOW DATABASES", headers={"Authorization": f"Bearer {token}x"})
        assert refused.status_code == 401
        assert token not in stack.log_path.read_text()
    finally:
        stack.stop()


# ---------------------------------------------------------------- JavaScript


CLIENTS = ("@influxdata/influxdb-client@1.35.0", "@influxdata/influxdb-client-apis@1.35.0")
JS_PROGRAM = """
const {InfluxDB, Point} = require('@influxdata/influxdb-client')
const {AuthorizationsAPI, BucketsAPI, MeAPI, OrgsAPI, PingAPI, SigninAPI, SignoutAPI} =
  require('@influxdata/influxdb-client-apis')
const {URL: url, ORG: org, NAME: name, USERNAME: username, PASSWORD: password} = process.env

async function main() {
  const cookies = []
  await new SigninAPI(new InfluxDB({url})).postSignin({auth: {user: username, password}}, {
    responseStarted: (headers) => cookies.push([].concat(headers['set-cookie'])[0].split(';')[0]),
  })
  const session = new InfluxDB({url, headers: {cookie: cookies[0]}})
  const me = await new MeAPI(session).getMe()
  const orgID = (await new OrgsAPI(session).getOrgs({org})).orgs[0].id
  const buckets = new BucketsAPI(session)
  const bucket = await buckets.postBuckets({body: {orgID, name, retentionRules: []}})
  const resource = {type: 'buckets', id: bucket.id, orgID}
  const permissions = [{action: 'read', resource}, {action: 'write', resource}]
  const authorizations = new AuthorizationsAPI(session)
  const made = await authorizations.postAuthorizations({body: {orgID, permissions, description: name}})

  const writer = new InfluxDB({url, token: made.token}).getWriteApi(org, name, 's')
  writer.writePoint(new Point('m').tag('t', 'a').floatField('v', 1.5).timestamp(7))
  await writer.close()

  const listed = (await authorizations.getAuthorizations({orgID})).authorizations
  const found = listed.filter((one) => one.description === name).map((one) => [one.id, one.token, one.status])
  await authorizations.patchAuthorizationsID({authID: made.id, body: {status: 'inactive'}})
  const refused = new InfluxDB({url, token: made.token, writeOptions: {maxRetries: 0}}).getWriteApi(org, name, 's')
  refused.writePoint(new Point('m').floatField('v', 2).timestamp(8))
  const status = await refused.close().then(() => 204, (error) => error.statusCode)
  await new SignoutAPI(session).postSignout()
  const after = await new MeAPI(session).getMe().then(() => 200, (error) => [error.statusCode, error.code])
  console.log(JSON.stringify({me: me.name, id: made.id, token: made.token, found, status, after}))
}
main().catch((error) => { console.error(error); process.exit(1) })
"""


def test_the_javascript_client_signs_in_makes_a_token_and_writes_with_it(stack: Stack, tmp_path: Path) -> None:
    npm, node = need("npm", "npm"), need("node", "nodejs")
    quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(tmp_path)]
    environment = {**os.environ, "npm_config_cache": str(tmp_path / "cache")}
    subprocess.run([npm, "install", *quiet, *CLIENTS], check=True, capture_output=True, timeout=100, env=environment)
    program, name = tmp_path / "program.js", fresh("js")
    program.write_text(JS_PROGRAM)
    given = {**os.environ, "URL": stack.url, "ORG": ORG, "NAME": name, "USERNAME": USER, "PASSWORD": PASSWORD}
    done = subprocess.run([node, program], env=given, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["found"] == [[said["id"], "", "active"]]
    assert (said["me"], said["status"], said["after"]) == (USER, 403, [401, "unauthorized"])
    assert stack.rows("SELECT v FROM m WHERE t = 'a'", name, epoch="s") == [[7, 1.5]]
