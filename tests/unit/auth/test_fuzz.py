"""Whatever is sent to whatever route gives an answer or an ``InfluxError``, never a fault of ours (B22)."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import InfluxError, Invalid
from services.auth import routes
from services.auth.rest.document import Document
from services.auth.rest.request import Request
from services.auth.routes import ROUTES
from tests.unit.auth.world import World

WORDS = (
    "orgID", "org", "name", "description", "permissions", "action", "resource", "type", "id", "status", "userID",
    "token", "password", "retentionRules", "everySeconds", "shardGroupDurationSeconds", "bucketID", "database",
    "retention_policy", "default", "properties", "labelID", "arguments", "values", "selected", "config", "metadata",
    "buckets", "secrets", "username", "bucket", "retentionPeriodSeconds", "language", "query",
)  # fmt: skip
TYPES = st.sampled_from(
    ["buckets", "orgs", "users", "read", "write", "constant", "map", "active", "", "x", "_x", "a/b"]
)
IDS = st.sampled_from(["0123456789abcdef", "{org}", "{user}", "{bucket}", "0" * 16, "short"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | TYPES | IDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=5),
    max_leaves=12,
)
BODIES = st.dictionaries(st.sampled_from(WORDS), VALUES, max_size=7).map(json.dumps) | st.text(max_size=30)
QUERIES = st.lists(
    st.tuples(
        st.sampled_from(["org", "orgID", "id", "name", "user", "userID", "limit", "offset", "after", "token", "db"]),
        st.text(max_size=6) | IDS,
    ),
    max_size=3,
)


@pytest.fixture(scope="module")
def loop() -> Any:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.mark.parametrize("path", sorted(ROUTES))
def test_any_body_on_any_route_gives_an_answer(path: str, loop: asyncio.AbstractEventLoop) -> None:
    world = loop.run_until_complete(_world())
    made = world.made

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.sampled_from(sorted(ROUTES[path])), IDS, BODIES, QUERIES)
    def check(method: str, id: str, body: str, query: list[tuple[str, str]]) -> None:
        known = {"{org}": made.org.id, "{user}": made.user.id, "{bucket}": made.bucket.id}

        def filled(text: str) -> str:
            for hole, value in known.items():
                text = text.replace(hole, value)
            return text

        target = filled(path.replace("{id}", filled(id)).replace("{key}", "k").replace("{label}", made.user.id))
        pairs = [(name, filled(value)) for name, value in query]
        got = loop.run_until_complete(_send(world, method, target, pairs, filled(body).encode("utf-8", "replace")))
        assert got == "refused" or got < 500

    check()


async def _world() -> Any:
    world = World()
    world.made = await world.set_up()  # type: ignore[attr-defined]
    world.operator = await world.identity()  # type: ignore[attr-defined]
    return world


async def _send(world: Any, method: str, path: str, query: list[tuple[str, str]], body: bytes) -> Any:
    request = Request(method, path, query, {}, world.operator, "basic", "admin", "admin-password", body=body)
    try:
        return (await routes.handle(world.context, request)).status
    except InfluxError:
        return "refused"


@given(st.binary(max_size=200))
def test_any_bytes_are_a_document_or_invalid(body: bytes) -> None:
    with contextlib.suppress(Invalid):
        Document.parse(body)


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000, b'{"a":' + b"9" * 100_000 + b"}", b'{"a":1e999}'])
def test_depth_and_digits_have_an_end(body: bytes) -> None:
    with contextlib.suppress(Invalid):
        Document.parse(body).integer("a")
