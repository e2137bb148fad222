"""The real ingest between an auth and a storage that are played: what is refused, what is stored, what is retried."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from common.errors import Invalid, Unavailable
from common.identity import Identity, Permission
from common.model import Bucket, FieldType
from common.rpc import wire
from tests.services.ingest_parts import HOUR_NS, ORG, WEEK_NS, Parts, running_parts

NOTHING = Identity("token", "1", "2", ORG, ())
READER = Identity("token", "1", "2", ORG, (Permission("read", "buckets", None, ORG),))
INACTIVE = Identity("token", "1", "2", ORG, (Permission("write", "buckets", None, ORG),), active=False)
FOREIGN = {"org": "o", "bucket": "foreign"}
CONFLICT = (
    'failure writing points to database: partial write: field type conflict: input field "v" on measurement "m" '
    "is type {new}, already exists as type {old} dropped={dropped}"
)


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with running_parts(tmp_path) as running:
        yield running


def told(result: Any) -> tuple[str, str] | None:
    """Code and message of a result; None = stored."""
    return None if result is None else (result["code"], result["message"])


# ---------------------------------------------------------------- what is stored


async def test_points_are_stored_with_their_tags_and_types(parts: Parts) -> None:
    body = b'm,b=2,a=1 f=1.5,i=2i,u=3u,t=true,s="x y" 10\nm f=2 20\nn v=1i 10\n'
    assert await parts.write(body) is None
    assert parts.storage.points == {
        ("01", "m", b"a=1,b=2", 10): {"f": 1.5, "i": 2, "u": 3, "t": True, "s": b"x y"},
        ("01", "m", b"", 20): {"f": 2.0},
        ("01", "n", b"", 10): {"v": 1},
    }


@pytest.mark.parametrize(
    ("dialect", "precision", "line", "expected"),
    [
        ("v1", "s", b"m v=1 7", 7_000_000_000),
        ("v1", "m", b"m v=1 7", 420_000_000_000),
        ("v1", "m", b"m v=1", 61_200_000_000_000),
        ("v1", "h", b"m v=1", 61_200_000_000_000),
        ("v1", "n", b"m v=1", 61_234_567_890_123),
        ("v2", "ms", b"m v=1 7", 7_000_000),
        ("v2", "us", b"m v=1", 61_234_567_890_000),
    ],
)
async def test_times_have_the_precision_of_the_request(
    parts: Parts, dialect: str, precision: str, line: bytes, expected: int
) -> None:
    params = {"db": "db", "org": "o", "bucket": "db", "precision": precision}
    assert await parts.write(line, dialect, params=params, now_ns=61_234_567_890_123) is None
    assert parts.times == [expected]


@pytest.mark.parametrize("body", [b"", b"\n\n", b"# only\n  # comments\n"])
async def test_bodies_without_points_are_taken_and_not_sent_on(parts: Parts, body: bytes) -> None:
    for dialect in ("v1", "v2"):
        assert await parts.write(body, dialect) is None
    assert parts.storage.appends == []


async def test_a_known_series_is_sent_without_its_tags(parts: Parts) -> None:
    for time_ns in (1, 2):
        assert await parts.write(b"m,a=1 v=1 %d\n" % time_ns) is None
    assert [len(head["new_series"]) for head in parts.storage.appends] == [1, 0]


async def test_writes_that_travel_together_make_one_commit(parts: Parts) -> None:
    items = [parts.item(b"m,host=h%d v=%d 10\n" % (n, n)) for n in range(100)]
    assert await parts.send(items) == [None] * 100
    assert len(parts.storage.appends) == 1
    assert len(parts.storage.points) == 100
    assert set(parts.storage.results) == {item["id"] for item, _ in items}


async def test_the_trouble_of_one_write_is_not_that_of_another(parts: Parts) -> None:
    items = [
        parts.item(b"m v=1 1"),
        parts.item(b"m v=", "v2"),
        parts.item(b"m v=1 2\nm v= 3"),
        parts.item(b"x", encoding="gzip"),
        parts.item(gzip.compress(b"m v=1 4"), encoding="gzip"),
        parts.item(b"m v=1 5", "v2", params={"org": "o", "bucket": "none"}),
        parts.item(b"m v=1i 6"),
        parts.item(b"m v=1 7", "v2"),
    ]
    assert list(map(told, await parts.send(items))) == [
        None,
        ("invalid", "unable to parse 'm v=': missing field value"),
        ("invalid", "partial write: unable to parse 'm v= 3': missing field value dropped=0"),
        ("invalid", "unable to read data: gzip: invalid header"),
        None,
        ("not found", 'bucket "none" not found'),
        ("unprocessable entity", CONFLICT.format(new="integer", old="float", dropped=1)),
        None,
    ]
    assert parts.times == [1, 2, 4, 7]


async def test_one_write_that_spoils_the_commit_leaves_the_others_whole(parts: Parts) -> None:
    parts.storage.answers += [Invalid("a write is too old"), None, Invalid("a write is too old"), None]
    results = await parts.send([parts.item(b"m v=%d %d" % (n, n)) for n in range(3)])
    assert list(map(told, results)) == [None, ("invalid", "a write is too old"), None]


# ---------------------------------------------------------------- what is refused, in which order


@pytest.mark.parametrize(
    ("dialect", "params", "identity", "code", "text"),
    [
        ("v2", {"precision": "x"}, NOTHING, "invalid",
         "invalid precision; valid precision units are ns, us, ms, and s"),
        ("v2", {"org": "o"}, NOTHING, "not found", "bucket not found"),
        ("v2", {"org": "o", "bucket": "none"}, NOTHING, "not found", 'bucket "none" not found'),
        ("v2", {"org": "o", "bucket": "db"}, NOTHING, "forbidden", "insufficient permissions for write"),
        ("v2", {"org": "o", "bucket": "db"}, READER, "forbidden", "insufficient permissions for write"),
        ("v2", {"org": "o", "bucket": "db"}, INACTIVE, "forbidden",
         "insufficient permissions for write: token is inactive"),
        ("v2", FOREIGN, READER, "forbidden", "insufficient permissions for write"),
        ("v1", {"precision": "x"}, NOTHING, "invalid", "missing db"),
        ("v1", {"db": "none"}, READER, "not found", "no dbrp mapping found"),
        ("v1", {"db": "foreign"}, READER, "not found", "no dbrp mapping found"),
        ("v1", {"db": "db", "rp": "other"}, READER, "not found", "no dbrp mapping found"),
        ("v1", {"db": "db"}, NOTHING, "not found", "no dbrp mapping found"),
        ("v1", {"db": "db"}, READER, "forbidden", "insufficient permissions for write"),
    ],
)  # fmt: skip
async def test_refusals_come_before_the_body_is_read(
    parts: Parts, dialect: str, params: dict[str, str], identity: Identity, code: str, text: str
) -> None:
    result = await parts.write(b"does not parse", dialect, identity, params=params)
    assert told(result) == (code, text)
    assert parts.storage.appends == []


async def test_a_gzip_header_is_looked_at_before_the_target(parts: Parts) -> None:
    result = await parts.write(b"m v=1", params={"db": "none"}, encoding="gzip")
    assert told(result) == ("invalid", "unable to read data: gzip: invalid header")
    body = gzip.compress(b"m v=1")[:-3]
    assert told(await parts.write(body, params={"db": "none"}, encoding="gzip")) == (
        "not found", "no dbrp mapping found",
    )  # fmt: skip


async def test_a_bucket_that_was_just_made_is_found(parts: Parts) -> None:
    assert told(await parts.write(b"m v=1", params={"db": "late"})) == ("not found", "no dbrp mapping found")
    assert told(await parts.write(b"m v=1", "v2", params={"org": "o", "bucket": "late"})) is not None
    parts.auth.buckets["late"] = Bucket("09", ORG, "late", 0, WEEK_NS)
    assert await parts.write(b"m v=1", params={"db": "late"}) is None
    assert await parts.write(b"m v=1", "v2", params={"org": "o", "bucket": "late"}) is None


async def test_auth_that_is_down_makes_503_and_never_a_refusal(parts: Parts) -> None:
    assert await parts.write(b"m v=1 1") is None
    parts.auth.error = Unavailable("auth is down")
    assert await parts.write(b"m v=1 2") is None  # from what is kept
    result = await parts.write(b"m v=1", params={"db": "other"})
    assert (result["code"], result["retry_after_s"]) == ("unavailable", 1)


# ---------------------------------------------------------------- lines that do not parse


async def test_v1_stores_the_good_lines(parts: Parts) -> None:
    result = await parts.write(b"m v=1 1\n\nbad\nm v=x 2\n  m v=1 3\n")
    assert told(result) == (
        "invalid",
        "partial write: unable to parse 'bad': missing fields\nunable to parse 'm v=x 2': invalid boolean dropped=0",
    )
    assert parts.times == [1, 3]


async def test_v1_with_no_good_line_says_so_plainly(parts: Parts) -> None:
    assert told(await parts.write(b"bad\n")) == ("invalid", "unable to parse 'bad': missing fields")
    assert parts.storage.appends == []


async def test_v2_stores_nothing_beside_a_bad_line_unless_asked_to(parts: Parts) -> None:
    body = b"m v=1 1\nbad\nm v=1 2"
    assert told(await parts.write(body, "v2")) == ("invalid", "unable to parse 'bad': missing fields")
    assert parts.times == []
    params = {"org": "o", "bucket": "db", "accept_partial": "true"}
    assert told(await parts.write(body, "v2", params=params)) == (
        "invalid", "partial write: unable to parse 'bad': missing fields dropped=0",
    )  # fmt: skip
    assert parts.times == [1, 2]


async def test_one_bad_line_in_five_thousand_hides_none(parts: Parts) -> None:
    lines = [b"m v=%d %d" % (n, n) for n in range(5000)]
    for place in (0, 2499, 4999):
        parts.storage.points.clear()
        body = b"\n".join([*lines[:place], b"m v=oops 1", *lines[place + 1 :]])
        result = await parts.write(body)
        assert result["message"] == "partial write: unable to parse 'm v=oops 1': invalid boolean dropped=0"
        assert len(parts.storage.points) == 4999


async def test_the_text_of_many_bad_lines_has_a_bound(parts: Parts) -> None:
    result = await parts.write(b"bad\n" * 50_000)
    assert len(result["message"]) < 64 << 10
    assert result["message"].endswith(" more")


# ---------------------------------------------------------------- points that are dropped


async def test_the_first_line_fixes_the_type(parts: Parts) -> None:
    result = await parts.write(b'm v=1i 1\nm v=2 2\nm v="s",w=1 3\nm w=1 4\n')
    assert told(result) == ("unprocessable entity", CONFLICT.format(new="float", old="integer", dropped=2))
    assert result["details"] == {"dropped": 2}
    assert parts.times == [1, 4]


async def test_a_type_is_fixed_per_shard(parts: Parts) -> None:
    assert await parts.write(b"m v=1i 1\nm v=2 %d\n" % (2 * WEEK_NS)) is None
    assert len(parts.storage.points) == 2


async def test_a_conflict_with_what_is_stored_is_found_and_confirmed(parts: Parts) -> None:
    assert await parts.write(b"m v=1i 1") is None
    result = await parts.write(b"m v=2 2\nm w=1 3")
    assert told(result) == ("unprocessable entity", CONFLICT.format(new="float", old="integer", dropped=1))
    assert parts.storage.schema_calls == 1
    assert parts.times == [1, 3]
    # Storage has forgotten the measurement, and the feed has not told it yet.
    parts.storage.types.clear()
    assert await parts.write(b"m v=2 4") is None


async def test_storage_has_the_last_word_on_types(parts: Parts) -> None:
    parts.storage.types["01", "m", 0, "v"] = FieldType.STRING
    result = await parts.write(b"m v=1 1\nm w=1 2\nm v=true 3")
    assert told(result) == ("unprocessable entity", CONFLICT.format(new="float", old="string", dropped=2))
    assert parts.times == [2]
    assert len(parts.storage.appends) == 2
    assert len({tuple(write[0] for write in head["writes"]) for head in parts.storage.appends}) == 1
    # Known from now on: no second commit that is in vain.
    assert (await parts.write(b"m v=1 1\nm w=1 5"))["details"] == {"dropped": 1}
    assert len(parts.storage.appends) == 3


async def test_conflicts_are_counted_by_write(parts: Parts) -> None:
    parts.storage.types["01", "m", 0, "v"] = FieldType.STRING
    results = await parts.send([
        parts.item(b"m v=1 1\nm v=2 2\nm w=1 3"), parts.item(b"m w=1 4"), parts.item(b"m v=1 5"),
        parts.item(b"m v=1i 6\nbad\n"),
    ])  # fmt: skip
    assert [None if result is None else result["details"]["dropped"] for result in results] == [2, None, 1, 2]
    assert results[3]["message"] == (
        "partial write: unable to parse 'bad': missing fields\nfield type conflict: input field \"v\" on measurement "
        '"m" is type integer, already exists as type string dropped=2'
    )
    assert results[3]["code"] == "invalid"
    assert parts.times == [3, 4]


async def test_strings_that_are_too_long_and_fields_named_time(parts: Parts) -> None:
    long = b'm s="%s" 1\nm s="x" 2' % (b"x" * 1_048_577)
    assert told(await parts.write(long)) == (
        "unprocessable entity",
        'failure writing points to database: partial write: input field "s" on measurement "m" is too long, '
        "1048577 > 1048576 dropped=1",
    )
    invalid = 'failure writing points to database: partial write: invalid field name: input field "time" on measurement'
    assert told(await parts.write(b"m time=1 3\nm s=\"x\" 4")) == (
        "unprocessable entity", f'{invalid} "m" is invalid dropped=1',
    )  # fmt: skip
    assert told(await parts.write(b'm time=1,s="y" 5')) == (
        "unprocessable entity",
        f'{invalid} "m" is invalid. Field "time" has been stripped from point. dropped=0 '
        "for database: 01 for retention policy: autogen",
    )
    assert parts.times == [2, 4, 5]


async def test_points_older_than_the_retention_are_dropped(parts: Parts) -> None:
    now_ns = 10 * HOUR_NS + 1
    body = b"a v=1 0\nb v=1 %d\na v=1 %d\na v=1\n" % (5 * HOUR_NS, 9 * HOUR_NS + 1)
    result = await parts.write(body, params={"db": "short"}, now_ns=now_ns)
    bound = "dropped because it violates a Retention Policy Lower Bound at 1970-01-01T09:00:00.000000001Z"
    assert told(result) == (
        "unprocessable entity",
        "failure writing points to database: partial write: dropped 2 points outside retention policy of duration "
        f"1h0m0s - oldest point a at 1970-01-01T00:00:00Z {bound}, newest point b at 1970-01-01T05:00:00Z {bound} "
        "dropped=2 for database: 02 for retention policy: autogen",
    )
    assert parts.times == [9 * HOUR_NS + 1, now_ns]


# ---------------------------------------------------------------- what storage rules


async def test_a_write_that_storage_knows_has_the_result_it_had(parts: Parts) -> None:
    known, fresh = parts.item(b"m v=1 1"), parts.item(b"m v=1 2")
    before = {"code": "unprocessable entity", "message": "as before", "retry_after_s": None, "details": {"dropped": 3}}
    parts.storage.results[known[0]["id"]] = before
    assert await parts.send([known, fresh]) == [before, None]
    assert parts.times == [2]


async def test_a_retry_asks_first_and_sends_nothing_twice(parts: Parts) -> None:
    item, body = parts.item(b"m v=1 1")
    assert await parts.send([(item, body)]) == [None]
    assert await parts.send([({**item, "attempt": 1}, body)]) == [None]
    assert len(parts.storage.appends) == 1


async def test_series_that_storage_misses_are_sent_with_their_tags(parts: Parts) -> None:
    assert await parts.write(b"m,a=1 v=1 1") is None
    parts.storage.keys.clear()
    parts.storage.answers.append({"unknown": [[0, np.array([0], "<i8").tobytes()]]})
    assert await parts.write(b"m,a=1 v=1 2") is None
    assert [len(head["new_series"]) for head in parts.storage.appends] == [1, 0, 1]


async def test_series_over_the_limit_are_dropped(parts: Parts) -> None:
    parts.storage.answers.append({"over_limit": [[0, np.array([0, 1], "<i8").tobytes()]], "limit": 1_000_000})
    result = await parts.write(b"m,a=1 v=1 1\nm,a=1 v=1 2\nm,a=2 v=1 3\nm,a=2 v=1 4\nm,a=3 v=1 5\nm,a=3 v=1 6")
    assert told(result) == (
        "unprocessable entity",
        "failure writing points to database: partial write: max-series-per-database limit exceeded: (1000000) "
        "dropped=4",
    )
    assert len(parts.times) == 2


async def test_a_bucket_that_is_gone_does_not_exist(parts: Parts) -> None:
    parts.storage.answers.append({"gone": ["02"]})
    items = [
        parts.item(b"m v=1", params={"db": "short"}),
        parts.item(b"m v=1 1"),
        parts.item(b"m v=1", "v2", params={"org": "o", "bucket": "short"}),
    ]
    assert list(map(told, await parts.send(items))) == [
        ("not found", "no dbrp mapping found"), None, ("not found", 'bucket "short" not found'),
    ]  # fmt: skip
    assert parts.times == [1]


async def test_storage_that_is_away_for_a_moment_is_waited_for(parts: Parts) -> None:
    parts.storage.answers += [Unavailable("busy"), Unavailable("busy"), None]
    assert await parts.write(b"m v=1 1") is None
    assert len({head["writes"][0][0] for head in parts.storage.appends}) == 1


async def test_storage_that_stays_away_makes_503(parts: Parts) -> None:
    parts.storage.answers += [Unavailable("the disk is full", retry_after_s=7)] * 50
    results = await parts.send([parts.item(b"m v=1 1"), parts.item(b"bad", "v2")])
    assert [(r["code"], r["message"], r["retry_after_s"]) for r in results[:1]] == [
        ("unavailable", "the disk is full", 7)
    ]


async def test_a_storage_that_takes_nothing_is_not_asked_for_ever(parts: Parts) -> None:
    parts.storage.answers += [{"unknown": [[0, bytes(8)]]}] * 1000
    assert (await parts.write(b"m v=1 1"))["code"] == "unavailable"
    assert len(parts.storage.appends) < 100


async def test_more_measurements_than_one_commit_lists_are_413(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_HEAD_BYTES", 100_000)
    body = b"\n".join(b"m%d v=1 1" % n for n in range(2000))
    results = await parts.send([parts.item(body), parts.item(b"m v=1 2")])
    assert told(results[0]) == (
        "request too large", "Request Entity Too Large: points of 2000 measurements and shards at once",
    )  # fmt: skip
    assert results[1] is None


# ---------------------------------------------------------------- bodies


async def test_gzip_is_inflated_and_other_encodings_are_ignored(parts: Parts) -> None:
    body = gzip.compress(b"m v=1 1\n") + gzip.compress(b"m v=1 2\n")
    assert await parts.write(body, encoding="gzip") is None
    assert await parts.write(gzip.compress(b"m v=1 3\n" * 100_000), encoding="x-gzip") is None
    assert await parts.write(b"m v=1 4", encoding="deflate") is None
    assert parts.times == [1, 2, 3, 4]


async def test_a_gzip_body_cut_anywhere_stores_nothing(parts: Parts) -> None:
    whole = gzip.compress(b"".join(b"m,host=h%d v=%d %d\n" % (n % 9, n, n) for n in range(2000)))
    for percent in range(100):
        result = await parts.write(whole[: len(whole) * percent // 100], encoding="gzip")
        assert told(result) == ("invalid", "unable to read data: unexpected EOF")
    assert parts.storage.appends == []


async def test_bodies_have_a_limit_on_the_wire_and_inflated(tmp_path: Path) -> None:
    limits: dict[str, Any] = {"write_max_body_bytes": 1000, "write_max_inflated_bytes": 5000}
    async with running_parts(tmp_path, **limits) as parts:
        body = b"m v=1 1\n".ljust(1000, b"\n")
        assert await parts.write(body) is None
        assert await parts.stream([body[:10], body[10:]]) is None
        assert (await parts.stream([body, b"\n"]))["code"] == "request too large"
        too_large = await parts.write(body + b"\n", "v2")  # the other dialect has a limit of its own
        assert too_large is None
        inflated = gzip.compress(b"m v=1 2\n".ljust(5000, b"\n"))
        assert await parts.write(inflated, encoding="gzip") is None
        result = await parts.write(gzip.compress(b"\n" * 5001), encoding="gzip")
        assert told(result) == (
            "request too large",
            "Request Entity Too Large: the body inflates to over 5000 bytes (TIDEGATE_WRITE_MAX_INFLATED_BYTES)",
        )


async def test_a_bomb_is_refused_quickly(parts: Parts) -> None:
    bomb = gzip.compress(bytes(1 << 28))
    result = await parts.write(bomb, encoding="gzip")
    assert result["code"] == "request too large"


async def test_a_body_may_come_in_parts(parts: Parts) -> None:
    whole = gzip.compress(b"m v=1 1\nm v=1 2\n")
    assert await parts.stream([whole[:5], whole[5:9], whole[9:]], encoding="gzip") is None
    assert await parts.stream([], "v2") is None
    assert parts.times == [1, 2]


async def test_memory_past_the_budget_makes_503(tmp_path: Path) -> None:
    async with running_parts(tmp_path, memory_bytes=100_000) as parts:
        body = b"m v=1 1\n" * 5000
        results = await parts.send([parts.item(b"m v=1 2"), parts.item(body)])
        assert results[0] is None
        assert (results[1]["code"], results[1]["retry_after_s"]) == ("unavailable", 1)
        assert await parts.write(b"m v=1 3") is None
        with pytest.raises(Unavailable):
            await parts.write(body * 5)


# ---------------------------------------------------------------- the feed


async def test_the_feed_drops_what_has_changed(parts: Parts) -> None:
    assert await parts.write(b"m v=1 1") is None
    asked = parts.auth.calls
    assert await parts.write(b"m v=1 2") is None
    assert parts.auth.calls == asked
    parts.auth.buckets["db"] = Bucket("08", ORG, "db", 0, WEEK_NS)
    parts.auth.number = 50
    parts.storage.events.put_nowait([{"number": 50, "tags": [f"dbrp:{ORG}"]}, {"instances": []}])
    deadline = time.monotonic() + 5
    while ("08", "m", b"", 3) not in parts.storage.points:
        assert time.monotonic() < deadline
        assert await parts.write(b"m v=1 3") is None
        await asyncio.sleep(0.01)


async def test_a_retry_that_loses_all_its_points_is_noted_lest_its_first_try_come_later(parts: Parts) -> None:
    assert await parts.write(b"m v=1 1") is None
    item, body = parts.item(b"m v=1i 2", attempt=1)
    (result,) = await parts.send([(item, body)])
    assert result["details"] == {"dropped": 1}
    assert parts.storage.results[item["id"]] == result
    # Nothing can have been stored of one that does not parse.
    unread, junk = parts.item(b"junk", attempt=1)
    await parts.send([(unread, junk)])
    assert unread["id"] not in parts.storage.results


# ---------------------------------------------------------------- start and stop


async def test_storage_absent_at_the_start_is_said_and_makes_503(tmp_path: Path) -> None:
    async with running_parts(tmp_path, wait=False, storage_url="http://127.0.0.1:1") as parts:
        async with aiohttp.ClientSession() as session, session.get(f"{parts.url}/ready") as response:
            assert response.status == 503
            assert (await response.json())["storage"] == "storage does not answer"
        # Of the call, not of the write: the gateway takes it to another ingest then.
        with pytest.raises(Unavailable) as refusal:
            await parts.write(b"m v=1 1")
        assert refusal.value.retry_after_s == 1


async def test_a_write_under_way_is_finished_before_the_end(parts: Parts) -> None:
    parts.storage.gate = asyncio.Event()
    writing = asyncio.create_task(parts.write(b"m v=1 1"))
    while not parts.storage.appends:
        await asyncio.sleep(0.01)
    stopping = asyncio.create_task(parts.server.stop())
    await asyncio.sleep(0.05)
    parts.storage.gate.set()
    assert await writing is None
    await stopping
    with pytest.raises(Unavailable):
        await parts.write(b"m v=1 2")


async def test_metrics_tell_what_was_written(parts: Parts) -> None:
    await parts.write(b"m v=1i 1\nbad\nm v=1 2")
    async with aiohttp.ClientSession() as session, session.get(f"{parts.url}/metrics") as response:
        lines = (await response.text()).splitlines()
    assert 'tidegate_ingest_points_total{result="stored"} 1.0' in lines
    assert 'tidegate_ingest_points_total{result="dropped"} 1.0' in lines
    assert 'tidegate_ingest_points_total{result="unparsed"} 1.0' in lines
    assert 'tidegate_ingest_writes_total{result="invalid"} 1.0' in lines
    assert "tidegate_ingest_budget_used_bytes 0.0" in lines
