"""The real auth over the real storage, by internal calls only."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from common.config import load_keys
from common.errors import Forbidden, InfluxError, NotFound, Unauthorized, Unavailable
from common.identity import Identity
from common.rpc import wire
from common.rpc.client import RpcClient
from common.web import Server, status_of
from services.auth import app as auth_app
from services.auth.config import AuthSettings
from services.gateway.credentials import find_basic, find_session, find_v1, find_v2
from services.gateway.dialects import dress, layout_of
from services.gateway.query_string import parse_pairs, unescape_path
from services.gateway.routes import is_open_rest
from services.storage import app as storage_app
from services.storage.config import StorageSettings
from tests.rest_cases import Got, Table, run_table, tables

USER, PASSWORD, ORG, BUCKET, TOKEN = "admin", "admin-password", "tide", "first", "the-operator-token"
FIRST_START = {
    "init_mode": "setup", "init_username": USER, "init_password": PASSWORD, "init_org": ORG, "init_bucket": BUCKET,
    "init_admin_token": TOKEN,
}  # fmt: skip


class Parts:
    """One storage and any number of auths on loopback."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.changes: list[Any] = []
        self.storage: Server | None = None
        self.storage_url = ""
        self.auths: list[Server] = []
        keys = load_keys(StorageSettings(data=folder))
        self.gateway, self.query = RpcClient(keys, "gateway"), RpcClient(keys, "query")

    async def start_storage(self) -> None:
        port = int(self.storage_url.rpartition(":")[2] or 0)
        self.storage = Server(storage_app.build(StorageSettings(data=self.folder)), "127.0.0.1", port)
        self.storage_url = await self.storage.start()

    async def stop_storage(self) -> None:
        if self.storage is not None:
            await self.storage.stop()
            self.storage = None

    async def start_auth(self, **settings: Any) -> str:
        given = {"data": self.folder, "storage_url": self.storage_url, "bcrypt_cost": 4}
        # All tests come from one address.
        given |= {"max_wrong_passwords": 0, **settings}
        server: Server

        def url() -> str | None:
            return server.url

        server = Server(auth_app.build(AuthSettings(**given), url), "127.0.0.1", 0)
        started = await server.start()
        self.auths.append(server)
        return started

    async def close(self) -> None:
        for client in (self.gateway, self.query):
            await client.close()
        for server in self.auths:
            await server.stop()
        await self.stop_storage()

    # ------------------------------------------------------------ as the gateway and query call

    async def verify(self, url: str, secret: str, scheme: str = "token", user: str = "", dialect: str = "v2") -> Any:
        head = {"dialect": dialect, "scheme": scheme, "user": user, "secret": secret, "remote": ""}
        return (await self.gateway.call(url, "auth.verify", head)).head

    async def rest(self, url: str, method: str, path: str, body: Any = None, token: str = TOKEN) -> Got:
        headers = {"authorization": f"Token {token}"} if token else {}
        return await self.send(url, method, path, headers, b"" if body is None else json.dumps(body).encode())

    async def json(self, url: str, method: str, path: str, body: Any = None) -> Any:
        got = await self.rest(url, method, path, body)
        assert got.status < 300, got.body
        return json.loads(got.body) if got.body else None

    async def send(self, url: str, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Got:
        raw, _, query = path.partition("?")
        bare = unescape_path(raw)
        dialect = "v1" if bare in ("/write", "/query") else "v2"
        authorization, cookie = headers.get("authorization", ""), headers.get("cookie", "")
        try:
            if dialect == "v1":
                given = find_v1(authorization, dict(parse_pairs(query)))
                await self.verify(url, *((given.secret, given.scheme, given.user) if given else ("", "")), dialect="v1")
                return Got(204, {}, b"")
            identity = None
            if not is_open_rest(method, bare):
                given = find_v2(authorization, cookie)
                identity = (await self.verify(url, *((given.secret, given.scheme) if given else ("", ""))))["identity"]
            own = find_session(cookie) if bare.endswith("/signout") else find_basic(authorization)
            head = {
                "method": method, "path": bare, "query": parse_pairs(query), "headers": dict(headers),
                "identity": identity, "scheme": own.scheme if own else "", "user": own.user if own else "",
                "secret": own.secret if own else "", "remote": "", "request_id": "",
            }  # fmt: skip
            answer = await self.gateway.call(url, "auth.rest", head, [body])
        except InfluxError as error:
            more, dressed = dress(error, dialect, layout_of(bare))
            return Got(status_of(error), {name.lower(): value for name, value in more.items()}, dressed)
        self.changes = answer.head["changes"]
        return Got(answer.head["status"], {n.lower(): v for n, v in answer.head["headers"]}, b"".join(answer.parts))


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    parts = Parts(tmp_path)
    await parts.gateway.open()
    await parts.query.open()
    await parts.start_storage()
    yield parts
    await parts.close()


async def set_up(parts: Parts, url: str) -> Any:
    """Wait for the set-up from the environment; the operator's identity."""
    return await eventually(lambda: parts.verify(url, TOKEN))


async def eventually(call: Any, within_s: float = 10.0) -> Any:
    deadline = time.monotonic() + within_s
    while True:
        try:
            return await call()
        except InfluxError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.02)


async def ready(url: str) -> Any:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/ready") as response:
        return await response.json()


# ---------------------------------------------------------------- set-up


async def test_the_environment_sets_up_once_and_does_no_harm_later(parts: Parts) -> None:
    url = await parts.start_auth(**FIRST_START, init_retention="7d")
    await set_up(parts, url)
    bucket = (await parts.json(url, "GET", f"/api/v2/buckets?name={BUCKET}"))["buckets"][0]
    assert bucket["retentionRules"][0]["everySeconds"] == 7 * 86_400
    again = await parts.start_auth(**{**FIRST_START, "init_org": "another", "init_admin_token": "another"})
    await eventually(lambda: parts.verify(again, TOKEN))
    await asyncio.sleep(0.1)
    assert len((await parts.json(again, "GET", "/api/v2/orgs"))["orgs"]) == 1
    with pytest.raises(Unauthorized):
        await parts.verify(again, "another")
    assert (await ready(again))["status"] == "ready"


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("init_password", "short", "passwords must be between 8 and 72 characters long"),
        ("init_retention", "a week", '"a week" is not a duration'),
        ("init_bucket", "_x", "may not start with underscore"),
        ("init_username", "", "needs DOCKER_INFLUXDB_INIT_USERNAME"),
        ("init_mode", "upgrade", "upgrade is not supported"),
    ],
)
async def test_a_bad_value_is_said_by_ready(parts: Parts, setting: str, value: str, said: str) -> None:
    url = await parts.start_auth(**{**FIRST_START, setting: value})
    deadline = time.monotonic() + 5
    while said not in (await ready(url)).get("setup", "") and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    state = await ready(url)
    assert said in state["setup"]
    assert state["status"] != "ready"
    assert PASSWORD not in str(state)


async def test_of_fifty_set_ups_at_once_over_two_replicas_one_succeeds(parts: Parts) -> None:
    urls = [await parts.start_auth(), await parts.start_auth()]
    body = {"password": "long-enough", "org": "o", "bucket": "b"}
    calls = [
        parts.rest(urls[i % 2], "POST", "/api/v2/setup", {**body, "username": f"u{i}", "org": f"o{i}"}, token="")
        for i in range(50)
    ]
    statuses = [got.status for got in await asyncio.gather(*calls)]
    assert sorted(set(statuses)) == [201, 422]
    assert statuses.count(201) == 1


# ---------------------------------------------------------------- the tables


@pytest.mark.parametrize("table", tables("rest"), ids=lambda table: table.path.stem)
async def test_the_answers_are_as_the_table_says(parts: Parts, table: Table) -> None:
    url = await parts.start_auth(**FIRST_START)
    operator = await set_up(parts, url)
    org_id = (await parts.json(url, "GET", f"/api/v2/orgs?org={ORG}"))["orgs"][0]["id"]
    variables = {
        "operator_token": TOKEN, "user": USER, "password": PASSWORD, "org": ORG, "org_id": org_id,
        "user_id": Identity.from_wire(operator["identity"]).user_id,
    }  # fmt: skip
    await run_table(table, lambda *request: parts.send(url, *request), variables)


# ---------------------------------------------------------------- telling


@asynccontextmanager
async def listening(parts: Parts, url: str) -> AsyncIterator[tuple[Any, asyncio.Queue[Any]]]:
    """The snapshot of auth's feed, and the events that follow."""
    events: asyncio.Queue[Any] = asyncio.Queue()
    async with parts.gateway.stream(url, "auth.feed", {}) as answer:

        async def read() -> None:
            async for part in answer.parts():
                for event in wire.decode_head(part):
                    events.put_nowait(event)

        task = asyncio.create_task(read())
        yield answer.head, events
        task.cancel()


async def test_the_feed_tells_the_instances_and_passes_changes_on(parts: Parts) -> None:
    url = await parts.start_auth(**FIRST_START)
    await set_up(parts, url)
    head = {"instance": "ingest-1", "service": "ingest", "url": "http://127.0.0.1:1", "lease_s": 30}
    await parts.query.call(parts.storage_url, "storage.register", head)
    async with asyncio.timeout(5):
        while True:
            async with listening(parts, url) as (snapshot, events):
                if ["ingest-1", "ingest", "http://127.0.0.1:1"] not in snapshot["instances"]:
                    await asyncio.sleep(0.05)
                    continue
                await parts.json(url, "POST", "/api/v2/orgs", {"name": "told"})
                while "name:org:told" not in (event := await events.get()).get("tags", ()):
                    pass
                assert event["number"] > snapshot["number"]
                return


async def test_an_answer_tells_the_changes_that_it_made_and_no_others(parts: Parts) -> None:
    url = await parts.start_auth(**FIRST_START)
    await set_up(parts, url)
    await asyncio.gather(*(parts.json(url, "POST", "/api/v2/orgs", {"name": f"other{n}"}) for n in range(3)))
    await parts.json(url, "GET", "/api/v2/orgs")
    assert parts.changes == []
    made = await parts.json(url, "POST", "/api/v2/orgs", {"name": "mine"})
    ((tags, number),) = parts.changes
    assert "name:org:mine" in tags and not any("other" in tag for tag in tags)
    await parts.json(url, "DELETE", f"/api/v2/orgs/{made['id']}")
    assert all(later > number for _, later in parts.changes)
    assert f"org:{made['id']}" in {tag for tags, _ in parts.changes for tag in tags}


async def test_a_revoked_token_is_refused_by_each_replica_within_100_ms(parts: Parts) -> None:
    urls = [await parts.start_auth(**FIRST_START), await parts.start_auth()]
    await set_up(parts, urls[0])
    org_id = (await parts.json(urls[0], "GET", "/api/v2/orgs"))["orgs"][0]["id"]
    permissions = [{"action": "read", "resource": {"type": "buckets", "orgID": org_id}}]
    worst_ms = 0.0
    for _ in range(20):
        made = await parts.json(
            urls[0], "POST", "/api/v2/authorizations", {"orgID": org_id, "permissions": permissions}
        )
        for url in urls:
            await parts.verify(url, made["token"])
        await parts.json(urls[0], "DELETE", f"/api/v2/authorizations/{made['id']}")
        began = time.monotonic()
        with pytest.raises(Unauthorized):
            await parts.verify(urls[0], made["token"])
        while True:
            try:
                await parts.verify(urls[1], made["token"])
            except Unauthorized:
                break
            assert time.monotonic() - began < 1
        worst_ms = max(worst_ms, (time.monotonic() - began) * 1000)
    print(f"CASE S09 revoked within {worst_ms:.1f} ms")


async def test_a_new_password_ends_the_old_one_at_once(parts: Parts) -> None:
    url = await parts.start_auth(**FIRST_START)
    operator = await set_up(parts, url)
    org_id = Identity.from_wire(operator["identity"]).org_id
    permissions = [{"action": "read", "resource": {"type": "buckets", "orgID": org_id}}]
    body = {"orgID": org_id, "token": "old", "permissions": permissions}
    id = (await parts.json(url, "POST", "/legacy/authorizations", body))["id"]
    await parts.json(url, "POST", f"/legacy/authorizations/{id}/password", {"password": "password-1"})
    found = await parts.verify(url, "password-1", "basic", "old", "v1")
    legacy = Identity.from_wire(found["identity"])
    assert (legacy.kind, legacy.credential_id) == ("legacy", id)
    await parts.json(url, "POST", f"/legacy/authorizations/{id}/password", {"password": "password-2"})
    with pytest.raises(Unauthorized):
        await parts.verify(url, "password-1", "basic", "old", "v1")
    await parts.verify(url, "password-2", "basic", "old", "v1")


# ---------------------------------------------------------------- names


async def test_buckets_and_mappings_are_found_by_name(parts: Parts) -> None:
    url = await parts.start_auth(**FIRST_START)
    operator = await set_up(parts, url)
    org_id = Identity.from_wire(operator["identity"]).org_id

    async def bucket(**head: str) -> Any:
        return (await parts.query.call(url, "auth.bucket", {"org": "", "org_id": "", "bucket": "", **head})).head

    found = (await bucket(org=ORG, bucket=BUCKET))["bucket"]
    assert found[1:] == [org_id, BUCKET, 0, 604_800 * 10**9]
    assert (await bucket(org_id=org_id, bucket=found[0]))["bucket"] == found
    assert (await bucket(org=org_id, org_id="", bucket=BUCKET))["bucket"] == found
    with pytest.raises(NotFound, match='bucket "none" not found'):
        await bucket(org=ORG, bucket="none")
    made = await parts.json(url, "POST", "/api/v2/buckets", {"orgID": org_id, "name": "none"})
    assert (await bucket(org=ORG, bucket="none"))["bucket"][0] == made["id"]

    async def mappings(confirm: bool = False) -> Any:
        return (await parts.query.call(url, "auth.mappings", {"org_id": org_id, "confirm": confirm})).head["mappings"]

    names = [row[:4] for row in await mappings()]
    assert [BUCKET, "autogen", True, True] in names
    assert ["none", "autogen", True, True] in names
    await parts.json(url, "DELETE", f"/api/v2/buckets/{made['id']}")
    assert ["none", "autogen", True, True] not in [row[:4] for row in await mappings()]
    assert await mappings(confirm=True) == await mappings()


# ---------------------------------------------------------------- trouble


async def test_without_storage_a_good_token_is_never_refused(parts: Parts) -> None:
    url = await parts.start_auth(**FIRST_START)
    await set_up(parts, url)
    await parts.stop_storage()
    assert Identity.from_wire((await parts.verify(url, TOKEN))["identity"]).kind == "token"
    with pytest.raises(Unavailable):
        await parts.verify(url, "unknown here")
    with pytest.raises(Unavailable):
        async with listening(parts, url):
            pass
    assert (await ready(url))["status"] == "not ready"
    await parts.start_storage()
    with pytest.raises(Unauthorized):
        await eventually_refused(parts, url)
    await eventually(lambda: parts.verify(url, TOKEN))


async def eventually_refused(parts: Parts, url: str) -> None:
    for _ in range(200):
        try:
            await parts.verify(url, "unknown here")
        except Unavailable:
            await asyncio.sleep(0.02)


async def test_no_secret_lies_in_the_data_folder(parts: Parts) -> None:
    url = await parts.start_auth(**FIRST_START)
    operator = await set_up(parts, url)
    org_id = Identity.from_wire(operator["identity"]).org_id
    permissions = [{"action": "read", "resource": {"type": "buckets", "orgID": org_id}}]
    body = {"orgID": org_id, "permissions": permissions}
    secrets = [TOKEN, PASSWORD, (await parts.json(url, "POST", "/api/v2/authorizations", body))["token"]]
    id = (await parts.json(url, "POST", "/legacy/authorizations", {**body, "token": "old"}))["id"]
    await parts.json(url, "POST", f"/legacy/authorizations/{id}/password", {"password": "a-legacy-password"})
    secrets.append("a-legacy-password")
    basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    got = await parts.send(url, "POST", "/api/v2/signin", {"authorization": f"Basic {basic}"}, b"")
    secrets.append(got.headers["set-cookie"].partition(";")[0].partition("=")[2])
    stored = b"".join(path.read_bytes() for path in parts.folder.rglob("*") if path.is_file())
    assert len(stored) > 10_000
    assert [secret for secret in secrets if secret.encode() in stored] == []


async def test_an_expired_session_is_refused_and_use_prolongs_one(parts: Parts) -> None:
    url = await parts.start_auth(**FIRST_START, session_length_m=1)
    await set_up(parts, url)
    basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    got = await parts.send(url, "POST", "/api/v2/signin", {"authorization": f"Basic {basic}"}, b"")
    assert "; Path=/api/; Expires=" in got.headers["set-cookie"]
    assert got.headers["set-cookie"].endswith(" GMT; HttpOnly; SameSite=Strict")
    cookie = got.headers["set-cookie"].partition(";")[0].partition("=")[2]
    assert len(cookie) == 88
    identity = Identity.from_wire((await parts.verify(url, cookie, "session"))["identity"])
    assert identity.kind == "session"
    assert identity.expires_ms is not None
    assert identity.expires_ms > time.time() * 1000 + 240_000


async def test_an_inactive_user_is_refused_in_the_words_of_each_family(parts: Parts) -> None:
    url = await parts.start_auth(**FIRST_START)
    operator = await set_up(parts, url)
    org_id = Identity.from_wire(operator["identity"]).org_id
    user = await parts.json(url, "POST", "/api/v2/users", {"name": "idle"})
    permissions = [{"action": "read", "resource": {"type": "buckets", "orgID": org_id}}]
    body = {"orgID": org_id, "userID": user["id"], "permissions": permissions}
    token = (await parts.json(url, "POST", "/api/v2/authorizations", body))["token"]
    await parts.verify(url, token)
    await parts.json(url, "PATCH", f"/api/v2/users/{user['id']}", {"status": "inactive"})
    with pytest.raises(Forbidden, match="User is inactive"):
        await parts.verify(url, token)
    with pytest.raises(Unauthorized, match="Unauthorized"):
        await parts.verify(url, token, dialect="v1")
