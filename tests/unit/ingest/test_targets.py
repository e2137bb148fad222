"""Which bucket a write goes to: allowances from the cache, refusals from auth, each confirmed after it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from common.errors import Forbidden, InfluxError, Invalid, NotFound
from common.identity import Identity, Permission
from common.rpc.client import Answer
from services.ingest.targets import Confirmer, Targets, check_params

ORG = "00000000000000aa"
WEEK_NS = 604_800_000_000_000


def bucket_wire(id: str, org_id: str = ORG) -> list[Any]:
    return [id, org_id, f"bucket {id}", 0, WEEK_NS]


def writer(bucket_id: str | None = None, *, active: bool = True, action: str = "write") -> Identity:
    return Identity("token", "1", "2", ORG, (Permission(action, "buckets", bucket_id, ORG),), active)


class FakeAuth:
    """Answers auth's two methods from a table of buckets and a list of mappings."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.buckets: dict[str, list[Any]] = {}
        self.mappings: list[list[Any]] = []
        self.unconfirmed: list[list[Any]] | None = None
        self.number = 1
        self.gate: asyncio.Event | None = None

    async def call(self, url: str, method: str, head: Mapping[str, Any], **_: Any) -> Answer:
        self.calls.append((method, dict(head)))
        if self.gate is not None:
            await self.gate.wait()
        if method == "auth.bucket":
            found = self.buckets.get(head["bucket"])
            if found is None:
                raise NotFound(f'bucket "{head["bucket"]}" not found')
            return Answer({"number": self.number, "tags": [f"bucket:{found[0]}"], "bucket": found})
        late = self.unconfirmed is not None and not head.get("confirm")
        mappings = self.unconfirmed if late else self.mappings
        return Answer({"number": self.number, "tags": [f"dbrp:{head['org_id']}"], "mappings": mappings})


@pytest.fixture
def auth() -> FakeAuth:
    return FakeAuth()


@pytest.fixture
def targets(auth: FakeAuth) -> Targets:
    made = Targets(auth, "http://auth")  # type: ignore[arg-type]
    made.set_fed(True)
    return made


async def test_a_bucket_is_asked_for_once_and_then_kept(auth: FakeAuth, targets: Targets) -> None:
    auth.buckets["b"] = bucket_wire("01")
    params = {"org": "o", "bucket": "b"}
    assert targets.find(writer(), "v2", params) is None
    assert (await targets.get(writer(), "v2", params)).id == "01"
    assert targets.find(writer(), "v2", params) is not None
    targets.drop(["bucket:01"], 2)
    assert targets.find(writer(), "v2", params) is None


async def test_an_unknown_bucket_is_asked_for_each_time(auth: FakeAuth, targets: Targets) -> None:
    for _ in range(2):
        with pytest.raises(NotFound, match='bucket "b" not found'):
            await targets.get(writer(), "v2", {"org": "o", "bucket": "b"})
    auth.buckets["b"] = bucket_wire("01")
    assert (await targets.get(writer(), "v2", {"org": "o", "bucket": "b"})).id == "01"


@pytest.mark.parametrize(
    ("identity", "text"),
    [
        (writer("02"), "insufficient permissions for write"),
        (writer(action="read"), "insufficient permissions for write"),
        (writer(active=False), "insufficient permissions for write: token is inactive"),
    ],
)
async def test_v2_needs_write_permission(auth: FakeAuth, targets: Targets, identity: Identity, text: str) -> None:
    auth.buckets["b"] = bucket_wire("01")
    await targets.get(writer(), "v2", {"bucket": "b"})
    assert targets.find(identity, "v2", {"bucket": "b"}) is None
    with pytest.raises(Forbidden) as caught:
        await targets.get(identity, "v2", {"bucket": "b"})
    assert str(caught.value) == text


async def test_v1_tells_a_reader_403_and_a_stranger_404(auth: FakeAuth, targets: Targets) -> None:
    auth.mappings = [["db", "autogen", True, True, bucket_wire("01")]]
    assert (await targets.get(writer("01"), "v1", {"db": "db"})).id == "01"
    with pytest.raises(Forbidden, match=r"^insufficient permissions for write$"):
        await targets.get(writer("01", action="read"), "v1", {"db": "db"})
    with pytest.raises(NotFound, match=r"^no dbrp mapping found$"):
        await targets.get(writer("02"), "v1", {"db": "db"})


async def test_a_v1_refusal_is_confirmed(auth: FakeAuth, targets: Targets) -> None:
    auth.unconfirmed = []
    auth.mappings = [["db", "autogen", True, True, bucket_wire("01")]]
    assert (await targets.get(writer(), "v1", {"db": "db"})).id == "01"
    assert [head.get("confirm", False) for _, head in auth.calls] == [False, True]
    assert targets.find(writer(), "v1", {"db": "db", "rp": ""}) is not None


async def test_an_identity_without_an_organization_finds_nothing(targets: Targets) -> None:
    with pytest.raises(NotFound, match="no dbrp mapping found"):
        await targets.get(Identity("session", "1", "2", None, ()), "v1", {"db": "db"})


async def test_a_bucket_that_is_gone_is_asked_for_again(auth: FakeAuth, targets: Targets) -> None:
    auth.buckets["b"] = bucket_wire("01")
    await targets.get(writer(), "v2", {"bucket": "b"})
    targets.forget("01")
    assert targets.find(writer(), "v2", {"bucket": "b"}) is None


async def test_a_flood_of_the_same_question_is_one_call_after_another(auth: FakeAuth, targets: Targets) -> None:
    auth.gate = asyncio.Event()
    asking = [asyncio.create_task(targets.get(writer(), "v2", {"bucket": "b"})) for _ in range(50)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(auth.calls) == 1
    auth.buckets["b"] = bucket_wire("01")  # made after the first call was sent
    auth.gate.set()
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    assert len(auth.calls) == 2
    assert not [outcome for outcome in outcomes[1:] if isinstance(outcome, InfluxError)]


async def test_who_leaves_takes_the_answer_from_nobody() -> None:
    gate, confirmer = asyncio.Event(), Confirmer()

    async def question() -> int:
        await gate.wait()
        return 7

    first, second = (asyncio.create_task(confirmer.ask("k", question)) for _ in range(2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    gate.set()
    assert await second == 7
    assert await confirmer.ask("k", question) == 7


@pytest.mark.parametrize(
    ("dialect", "params", "expected"),
    [
        ("v1", {"db": "d"}, 1),
        ("v1", {"db": "d", "precision": ""}, 1),
        ("v1", {"db": "d", "precision": "n"}, 1),
        ("v1", {"db": "d", "precision": "u"}, 1_000),
        ("v1", {"db": "d", "precision": "us"}, 1_000),
        ("v1", {"db": "d", "precision": "ms"}, 1_000_000),
        ("v1", {"db": "d", "precision": "s"}, 1_000_000_000),
        ("v1", {"db": "d", "precision": "m"}, 60_000_000_000),
        ("v1", {"db": "d", "precision": "h"}, 3_600_000_000_000),
        ("v1", {"precision": "x"}, Invalid("missing db")),
        ("v1", {"db": ""}, Invalid("missing db")),
        ("v1", {"db": "d", "precision": "x"}, Invalid('invalid precision "x" (use n, u, ms, s, m or h)')),
        ("v2", {"bucket": "b"}, 1),
        ("v2", {"bucket": "b", "precision": "us"}, 1_000),
        ("v2", {"precision": "n"}, Invalid("invalid precision; valid precision units are ns, us, ms, and s")),
        ("v2", {}, NotFound("bucket not found")),
        ("v2", {"bucket": ""}, NotFound("bucket not found")),
    ],
)
def test_what_a_write_must_say(dialect: str, params: dict[str, str], expected: int | InfluxError) -> None:
    if isinstance(expected, int):
        assert check_params(dialect, params) == expected
        return
    with pytest.raises(type(expected)) as caught:
        check_params(dialect, params)
    assert str(caught.value) == str(expected)
