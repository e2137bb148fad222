"""Storage as the other services see it: a real one, over HTTP."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from common.config import load_keys
from common.errors import Conflict, Gone, InternalError, Invalid, Unavailable
from common.feed import FeedFollower
from common.model import FieldType
from common.rpc import wire
from common.rpc.clock import now_ms
from common.segment import decode_dictionary, encode_block
from services.storage.config import StorageSettings
from services.storage.reading.segments import NewSegment
from services.storage.storage import Storage
from tests.services.storage_parts import (
    BUCKET,
    SHARD_NS,
    Calls,
    Process,
    keys_of,
    make_block,
    running,
    series_ids,
    write_id,
)

IDS = series_ids(5)


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[tuple[Calls, Storage]]:
    async with running(tmp_path) as (calls, storage):
        await calls.make_bucket()
        yield calls, storage


@pytest.fixture
def calls(both: tuple[Calls, Storage]) -> Calls:
    return both[0]


# ---------------------------------------------------------------- appends


async def test_what_is_appended_is_planned_with_and_fetched(calls: Calls) -> None:
    block = make_block(IDS, [1, 2, 3])
    number = (await calls.append(block))["number"]
    plan = await calls.plan()
    assert plan["version"] == number
    assert plan["series"][1] == len(IDS)
    [[segment, _, meta]] = plan["segments"]
    assert meta["rows"] == block.rows
    chunks = encode_block(block, 0)[1]
    assert (await calls.fetch((segment, range(len(chunks))))).parts == chunks
    assert (await calls.fetch((segment, [3]), (segment, [0, 2]))).parts == [chunks[3], chunks[0], chunks[2]]


async def test_one_commit_holds_blocks_of_many_measurements(calls: Calls) -> None:
    await calls.append(*(make_block(IDS, [at], measurement=f"m{at}", field=f"f{at}") for at in range(1, 40)))
    for at in (1, 20, 39):
        assert await calls.points(f"m{at}") == {(int(high), at): n for n, high in enumerate(IDS[:, 0])}


async def test_a_held_plan_is_unchanged_until_something_is_added(calls: Calls) -> None:
    await calls.append(make_block(IDS))
    version = (await calls.plan())["version"]
    assert await calls.plan(held=version) is None
    await calls.append(make_block(IDS, measurement="other"))
    assert await calls.plan(held=version) is None
    await calls.append(make_block(IDS, [7]))
    changed = await calls.plan(held=version)
    assert len(changed["segments"]) == 1
    assert changed["gone"] == []


async def test_segments_outside_of_the_range_are_left_out(calls: Calls) -> None:
    await calls.append(make_block(IDS, [10, 20]), new=None)
    for start_ns, stop_ns, count in ((0, 10, 0), (0, 11, 1), (20, 30, 1), (21, 30, 0)):
        assert len((await calls.plan(start_ns=start_ns, stop_ns=stop_ns))["segments"]) == count


async def test_a_write_is_stored_once_and_its_result_remembered(calls: Calls) -> None:
    id = write_id()
    result = {
        "code": "unprocessable entity",
        "message": "partial write",
        "retry_after_s": None,
        "details": {"dropped": 1},
    }
    assert "number" in await calls.append(make_block(IDS), id=id, result=result)
    assert await calls.append(make_block(IDS, [9]), id=id) == {"retry": {"known": [[id, result]]}}
    assert len(await calls.points()) == len(IDS)
    unknown = write_id()
    answer = await calls.ingest.call(calls.url, "storage.results", {"ids": [id, unknown]})
    assert answer.head == {"results": [[id, result]]}


async def test_of_appends_at_the_same_time_with_one_id_one_is_stored(calls: Calls) -> None:
    id = write_id()
    answers = await asyncio.gather(*(calls.append(make_block(IDS, [at]), id=id) for at in range(1, 9)))
    assert sum("number" in answer for answer in answers) == 1
    assert len(await calls.points()) == len(IDS)


@pytest.mark.parametrize("age_ms", [15 * 60_000 + 1000, -120_000])
async def test_a_write_out_of_its_time_is_refused(calls: Calls, age_ms: int) -> None:
    with pytest.raises(Invalid):
        await calls.append(make_block(IDS), id=write_id(age_ms))


async def test_a_series_without_its_key_is_asked_for(calls: Calls) -> None:
    block = make_block(IDS)
    retry = (await calls.append(block, new=[(block, IDS[1:3], keys_of(IDS[1:3]))]))["retry"]
    [[index, positions]] = retry["unknown"]
    assert index == 0
    assert np.frombuffer(positions, np.int64).tolist() == [0, 3, 4]
    assert await calls.plan() == {}
    assert "number" in await calls.append(block)
    assert "number" in await calls.append(make_block(IDS, [2]), new=[])


async def test_a_conflict_names_the_type_that_wins_and_stores_nothing(calls: Calls) -> None:
    await calls.append(make_block(IDS, type=FieldType.FLOAT))
    answer = await calls.append(make_block(IDS, [2]), make_block(IDS, [3], field="other"), new=[])
    assert answer == {"retry": {"conflicts": [[0, "value", int(FieldType.FLOAT)]]}}
    assert (await calls.plan())["series"][1] == len(IDS)
    assert len((await calls.plan())["segments"]) == 1


async def test_a_field_may_have_another_type_in_another_shard(calls: Calls) -> None:
    await calls.append(make_block(IDS, type=FieldType.FLOAT))
    assert "number" in await calls.append(make_block(IDS, shard=1, type=FieldType.STRING))
    answer = await calls.ingest.call(calls.url, "storage.schema", {"bucket_id": BUCKET, "measurements": ["cpu", "no"]})
    types = {tuple(entry) for entry in answer.head["fields"]["cpu"]}
    assert types == {(0, "value", int(FieldType.FLOAT)), (10**15, "value", int(FieldType.STRING))}
    assert "no" not in answer.head["fields"]


async def test_of_appends_at_the_same_time_with_two_types_one_type_wins(calls: Calls) -> None:
    types = [FieldType.INTEGER, FieldType.FLOAT, FieldType.STRING] * 4
    answers = await asyncio.gather(*(calls.append(make_block(IDS, [at + 1], type=t)) for at, t in enumerate(types)))
    won = {t for t, answer in zip(types, answers, strict=True) if "number" in answer}
    assert len(won) == 1
    winner = int(won.pop())
    for t, answer in zip(types, answers, strict=True):
        assert int(t) == winner or answer["retry"]["conflicts"] == [[0, "value", winner]]
    assert {int(block.columns[0].type) for block in await calls.blocks()} == {winner}


async def test_an_id_with_another_key_is_an_error_and_never_a_merge(calls: Calls) -> None:
    block = make_block(IDS)
    await calls.append(block)
    with pytest.raises(InternalError, match="have one id"):
        await calls.append(make_block(IDS, [2]), new=[(block, IDS, [b"host=other", *keys_of(IDS)[1:]])])
    with pytest.raises(InternalError, match="have one id"):
        other = make_block(IDS[:1], measurement="other")
        await calls.append(other, new=[(other, IDS[[0, 0]], [b"a=1", b"a=2"])])
    assert "number" in await calls.append(make_block(IDS, [2]))


async def test_series_over_the_limit_are_named(tmp_path: Path) -> None:
    async with running(tmp_path, max_series_per_bucket=3) as (calls, _):
        await calls.make_bucket()
        block = make_block(IDS)
        retry = (await calls.append(block))["retry"]
        assert retry["limit"] == 3
        [[index, positions]] = retry["over_limit"]
        assert (index, np.frombuffer(positions, np.int64).tolist()) == (0, [3, 4])
        assert "number" in await calls.append(make_block(IDS[:3]))
        retry = (await calls.append(make_block(IDS[2:], measurement="other")))["retry"]
        assert np.frombuffer(retry["over_limit"][0][1], np.int64).tolist() == [0, 1, 2]


async def test_an_append_to_a_bucket_that_is_gone_is_refused(calls: Calls) -> None:
    answer = await calls.append(make_block(IDS, bucket="00000000000000ff"))
    assert answer == {"retry": {"gone": ["00000000000000ff"]}}


async def test_appends_at_the_same_time_are_all_there_in_order(calls: Calls) -> None:
    await calls.append(make_block(IDS, [0]))
    blocks = [make_block(IDS, [at % 7 + 1], [at] * len(IDS)) for at in range(100)]
    numbers = [answer["number"] for answer in await asyncio.gather(*(calls.append(b, new=[]) for b in blocks))]
    assert len(set(numbers)) == len(numbers)
    points = await calls.points()
    for when in range(1, 8):
        last = max((at for at in range(100) if at % 7 + 1 == when), key=lambda at: numbers[at])
        assert points[int(IDS[0, 0]), when] == last


async def test_names_that_are_not_utf8_survive(calls: Calls) -> None:
    name = b"m\xff\xc3".decode("utf-8", "surrogateescape")
    await calls.append(make_block(IDS, measurement=name, field=name))
    assert len(await calls.points(name)) == len(IDS)
    answer = await calls.query.call(calls.url, "storage.measurements", {"bucket_id": BUCKET, "version": -1})
    assert answer.head["measurements"] == [[name, len(IDS), [[0, name, int(FieldType.INTEGER)]], False]]
    version = answer.head["version"]
    answer = await calls.query.call(calls.url, "storage.measurements", {"bucket_id": BUCKET, "version": version})
    assert answer.head == {"version": version, "board": answer.head["board"]}


@pytest.mark.parametrize(
    "change",
    [
        {"rows": 0}, {"series": 6}, {"chunks": []}, {"chunks": [[80, 0]]}, {"level": 1}, {"format": 2}, {"bucket": 1},
        {"time": [5, 1]}, {"shard": [0]},
    ],
)  # fmt: skip
async def test_a_meta_that_is_none_is_refused(calls: Calls, change: dict[str, Any]) -> None:
    meta, chunks = encode_block(make_block(IDS), 0)
    head = {"writes": [[write_id(), None]], "blocks": [{**meta, **change}], "new_series": []}
    with pytest.raises(Invalid):
        await calls.ingest.call(calls.url, "storage.append", head, [b"".join(chunks)])


@pytest.mark.parametrize("head", [None, [], {}, {"writes": [], "blocks": [], "new_series": []}, {"writes": 1}])
async def test_a_head_that_has_another_form_is_refused(calls: Calls, head: Any) -> None:
    for client, methods in (
        (calls.ingest, ("append", "results", "schema", "register")),
        (calls.query, ("measurements", "plan", "series", "fetch")),
        (calls.auth, ("read_records",)),
    ):
        for method in methods:
            with pytest.raises(Invalid):
                await client.call(calls.url, f"storage.{method}", head)


async def test_the_dictionary_is_told_from_where_one_left_off(calls: Calls) -> None:
    ids = series_ids(300)
    for start, stop in ((0, 100), (100, 101), (101, 300)):
        block = make_block(ids[start:stop])
        await calls.append(block)

    async def series(generation: int, after: int) -> tuple[Any, list[tuple[int, bytes]]]:
        head = {"bucket_id": BUCKET, "measurement": "cpu", "generation": generation, "after": after}
        answer = await calls.query.call(calls.url, "storage.series", head)
        entries: list[tuple[int, bytes]] = []
        for part in answer.parts:
            found, keys = decode_dictionary(part)
            entries += zip(found[:, 0].tolist(), keys, strict=True)
        return answer.head, entries

    head, entries = await series(-1, 0)
    assert head["count"] == 300
    assert entries == list(zip(ids[:, 0].tolist(), keys_of(ids), strict=True))
    for after in (0, 50, 100, 101, 299, 300):
        assert (await series(head["generation"], after))[1] == entries[after:]
    assert (await series(head["generation"] + 1, 299))[1] == entries


# ---------------------------------------------------------------- segments


async def test_replaced_segments_stay_readable_for_a_while(tmp_path: Path) -> None:
    async with running(tmp_path, storage_keep_replaced_s=1) as (calls, storage):
        await calls.make_bucket()
        for at in (1, 2):
            await calls.append(make_block(IDS, [at], [at] * len(IDS)))
        [shard] = storage.segments.by_shard()
        olds = [segment.id for segment in shard.segments]
        before = await calls.points()
        meta, chunks = encode_block(make_block(IDS, [1, 2], [1, 2] * len(IDS)), 1)
        [new] = await storage.segments.replace(olds, [NewSegment(meta, chunks)])
        assert await calls.points() == before
        assert [entry[0] for entry in (await calls.plan())["segments"]] == [new]
        assert (await storage.segments.read_segment(new))[1] == chunks
        assert len((await calls.fetch((olds[0], [0]), (olds[1], [0]))).parts) == 2
        with pytest.raises(Gone):
            await storage.segments.replace(olds, [NewSegment(meta, chunks)])
        async with asyncio.timeout(10):
            while storage.state.commits:
                await storage.sweeper.sweep()
                await asyncio.sleep(0.05)
        with pytest.raises(Gone):
            await calls.fetch((olds[0], [0]))
        assert await calls.points() == before
    async with running(tmp_path) as (calls, _):
        assert await calls.points() == before


async def test_a_dropped_bucket_is_gone_at_once_and_deleted_later(tmp_path: Path) -> None:
    async with running(tmp_path) as (calls, storage):
        for bucket in (BUCKET, "00000000000000b2"):
            await calls.make_bucket(bucket)
        await calls.append(make_block(IDS), make_block(IDS, bucket="00000000000000b2"))
        [[segment, _, _]] = (await calls.plan())["segments"]
        await calls.change(deletes=[["bucket", BUCKET]], drop_buckets=[BUCKET])
        assert await calls.plan() == {}
        with pytest.raises(Gone):
            await calls.fetch((segment, [0]))
        assert len(await calls.points(bucket="00000000000000b2")) == len(IDS)
        await storage.sweeper.sweep()
        assert not storage.state.dropped
    async with running(tmp_path) as (calls, _):
        assert await calls.plan() == {}
        assert len(await calls.points(bucket="00000000000000b2")) == len(IDS)


async def test_a_bucket_that_is_dropped_and_filled_again_starts_empty(calls: Calls) -> None:
    await calls.append(make_block(IDS, type=FieldType.FLOAT))
    generation = (await calls.plan())["series"][0]
    await calls.change(drop_buckets=[BUCKET])
    assert "unknown" in (await calls.append(make_block(IDS), new=[]))["retry"]
    assert "number" in await calls.append(make_block(IDS[:2]))
    plan = await calls.plan()
    assert plan["series"][1] == 2
    assert plan["series"][0] != generation


async def test_a_shard_whose_time_is_over_is_dropped(tmp_path: Path) -> None:
    now_shard = time.time_ns() // SHARD_NS
    async with running(tmp_path) as (calls, storage):
        await calls.make_bucket(retention_ns=SHARD_NS)
        for shard in (0, now_shard - 2, now_shard - 1, now_shard):
            await calls.append(make_block(IDS, shard=shard))
        await storage.sweeper.expire()
        assert {block.shard_start_ns // SHARD_NS for block in await calls.blocks()} == {now_shard - 1, now_shard}
        # The shard is new again, to any type.
        assert "number" in await calls.append(make_block(IDS, shard=0, type=FieldType.STRING))
    async with running(tmp_path) as (calls, storage):
        assert set(storage.state.find(BUCKET, "cpu").fields) >= {(now_shard - 1) * SHARD_NS}
        await calls.make_bucket(retention_ns=0)
        await storage.sweeper.expire()
        assert len(await calls.blocks()) >= 2


async def test_a_damaged_segment_is_quarantined_and_the_rest_served(tmp_path: Path) -> None:
    async with running(tmp_path) as (calls, _):
        await calls.make_bucket()
        await calls.append(make_block(IDS, [1]))
        await calls.append(make_block(IDS, [2]))
        segments = [entry[0] for entry in (await calls.plan())["segments"]]
    database = tmp_path / "tidegate.db"
    chunk = encode_block(make_block(IDS, [2]), 0)[1][0] + encode_block(make_block(IDS, [2]), 0)[1][1]
    content = bytearray(database.read_bytes())
    at = content.rfind(chunk)
    content[at] ^= 1
    first = content.find(chunk)
    assert first in (-1, at) or first > 0
    database.write_bytes(content)
    async with running(tmp_path) as (calls, storage):
        with pytest.raises(Gone):
            for segment in segments:
                await calls.fetch((segment, [0]))
        assert len(storage.state.quarantined) == 1
        assert len(await calls.points()) == len(IDS)
    async with running(tmp_path) as (calls, storage):
        assert len(storage.state.quarantined) == 1
        assert len(await calls.points()) == len(IDS)
        async with aiohttp.ClientSession() as session, session.get(f"{calls.url}/metrics") as response:
            assert "tidegate_storage_quarantined_segments 1.0" in await response.text()


async def test_a_damaged_directory_does_not_stop_the_start(tmp_path: Path) -> None:
    async with running(tmp_path) as (calls, _):
        await calls.make_bucket()
        await calls.append(make_block(IDS, [1]))
        await calls.append(make_block(IDS, [2], measurement="the_damaged_one"))
    database = tmp_path / "tidegate.db"
    content = database.read_bytes()
    # The name stands in the measurements' row too: only the directory has the word before it.
    damaged = content.replace(b"\xabmeasurement\xafthe_damaged_one", b"\xabmeasurement\xafthe_damage\x00_one")
    assert damaged != content
    database.write_bytes(damaged)
    async with running(tmp_path) as (calls, storage):
        assert len(storage.state.quarantined) == 1
        assert len(await calls.points()) == len(IDS)


# ---------------------------------------------------------------- records


def put(id: str, *, kind: str = "user", unique: tuple[str, ...] = (), **indexes: Any) -> dict[str, Any]:
    return {"kind": kind, "id": id, "body": {"id": id}, "unique": list(unique), "indexes": indexes}


async def test_records_are_found_by_id_by_key_and_by_index(calls: Calls) -> None:
    number = await calls.change(
        puts=[put(f"{n}", unique=(f"name:{n}",), org="even" if n % 2 == 0 else ["odd", "other"]) for n in range(6)]
    )
    by_id, by_key, none, even, odd, page = await calls.read(
        ["id", "user", "3"], ["unique", "name:4"], ["unique", "name:9"], ["list", "user", "org", "even", None, 10],
        ["list", "user", "org", "other", "1", 10], ["list", "user", None, None, "2", 2],
    )  # fmt: skip
    assert by_id == [["user", "3", number, {"id": "3"}]]
    assert by_key == [["user", "4", number, {"id": "4"}]]
    assert none == []
    assert [record[1] for record in even] == ["0", "2", "4"]
    assert [record[1] for record in odd] == ["3", "5"]
    assert [record[1] for record in page] == ["3", "4"]


async def test_a_put_replaces_keys_and_indexes(calls: Calls) -> None:
    await calls.change(puts=[put("1", unique=("name:a",), org="x")])
    await calls.change(puts=[put("1", unique=("name:b",), org="y")])
    a, b, x, y = await calls.read(
        ["unique", "name:a"],
        ["unique", "name:b"],
        ["list", "user", "org", "x", None, 9],
        ["list", "user", "org", "y", None, 9],
    )
    assert (len(a), len(b), len(x), len(y)) == (0, 1, 0, 1)
    await calls.change(puts=[put("2", unique=("name:a",))], deletes=[["user", "1"]])
    assert await calls.read(["unique", "name:b"], ["id", "user", "1"]) == [[], []]


async def test_conditions_hold_or_nothing_changes(calls: Calls) -> None:
    version = await calls.change(puts=[put("1", unique=("name:a",))])
    fresh = put("2", unique=("name:b",))
    for conditions, failed in (
        ([["absent", "name:b"], ["absent", "name:a"]], 1),
        ([["none", "user"]], 0),
        ([["exists", "user", "2"]], 0),
        ([["version", "user", "1", version + 1]], 0),
    ):
        with pytest.raises(Conflict) as caught:
            await calls.change(conditions=conditions, puts=[fresh])
        assert caught.value.details["condition"] == failed
    with pytest.raises(Conflict) as caught:
        await calls.change(puts=[put("3"), put("4", unique=("name:a",))])
    assert caught.value.details["unique"] == "name:a"
    assert len((await calls.read(["list", "user", None, None, None, 9]))[0]) == 1
    good = [["absent", "name:b"], ["none", "org"], ["exists", "user", "1"], ["version", "user", "1", version]]
    await calls.change(conditions=good, puts=[fresh])


async def test_a_unique_key_may_move_within_a_batch(calls: Calls) -> None:
    await calls.change(puts=[put("1", unique=("name:a",)), put("2", unique=("name:b",))])
    await calls.change(puts=[put("1", unique=("name:b",)), put("2", unique=("name:a",))])
    a, b = await calls.read(["unique", "name:a"], ["unique", "name:b"])
    assert (a[0][1], b[0][1]) == ("2", "1")


async def test_of_many_batches_for_one_name_one_wins(calls: Calls) -> None:
    async def create(n: int) -> bool:
        try:
            await calls.change(conditions=[["none", "org"]], puts=[put(str(n), kind="org", unique=("org:a",))])
        except Conflict:
            return False
        return True

    assert sum(await asyncio.gather(*map(create, range(20)))) == 1


# ---------------------------------------------------------------- feed and leases


async def follow(calls: Calls) -> tuple[FeedFollower, list[Any], asyncio.Task[None]]:
    told: list[Any] = []
    follower = FeedFollower(
        calls.auth, calls.url, "storage.feed", told.append, told.append, lambda: told.append("down")
    )
    task = asyncio.create_task(follower.run())
    await asyncio.wait_for(follower.up.wait(), 5)
    return follower, told, task


async def until(told: list[Any], count: int) -> None:
    async with asyncio.timeout(5):
        while len(told) < count:
            await asyncio.sleep(0.01)


async def test_the_feed_tells_changes_in_order_and_instances(calls: Calls) -> None:
    _, told, task = await follow(calls)
    numbers = [await calls.change(tags=[f"user:{n}", "org:1"]) for n in range(3)]
    await calls.append(make_block(IDS))
    await calls.append(make_block(IDS, [2]))  # changes no schema
    lease = {"instance": "ingest-1", "service": "ingest", "url": "http://x", "lease_s": 5}
    await calls.ingest.call(calls.url, "storage.register", lease)
    await calls.ingest.call(calls.url, "storage.register", lease)
    await calls.ingest.call(calls.url, "storage.register", {**lease, "lease_s": 0})
    await until(told, 7)
    snapshot, *events = told
    assert snapshot["instances"] == []
    assert [event["number"] for event in events[:3]] == numbers
    assert events[1]["tags"] == ["user:1", "org:1"]
    assert events[3]["tags"] == [f"schema:{BUCKET}"]
    assert events[4:] == [{"instances": [["ingest-1", "ingest", "http://x"]]}, {"instances": []}]
    task.cancel()


async def test_a_lease_that_is_not_renewed_ends(calls: Calls) -> None:
    lease = {"instance": "ingest-1", "service": "ingest", "url": "http://x", "lease_s": 0.1}
    await calls.ingest.call(calls.url, "storage.register", lease)
    _, told, task = await follow(calls)
    assert told[0]["instances"] == [["ingest-1", "ingest", "http://x"]]
    await until(told, 2)
    assert told[1] == {"instances": []}
    task.cancel()


async def test_feeds_end_when_storage_stops(both: tuple[Calls, Storage]) -> None:
    calls, storage = both
    _, told, task = await follow(calls)
    storage.feed.close()  # as the app does first when it stops
    await until(told, 2)
    assert told[1] == "down"
    task.cancel()


# ---------------------------------------------------------------- calls that are none


async def post(calls: Calls, folder: Path, method: str = "storage.hello", **changes: Any) -> int:
    """Status of a hand-made call; *changes* are to what is signed and sent."""
    keys = load_keys(StorageSettings(data=folder))
    head = changes.get("head", wire.encode_head({}))
    nonce = changes.get("nonce", os.urandom(16))
    signed = changes.get("signed", method)
    expires_ms = now_ms() + changes.get("lifetime_ms", 30_000)
    claim = wire.sign_call(keys, signed, changes.get("audience", "storage"), changes.get("caller", "query"), expires_ms, nonce, head)  # fmt: skip  # noqa: E501
    headers = {wire.CALL_HEADER: changes.get("claim", claim), wire.HEAD_HEADER: str(len(head))}
    body = b"".join(wire.encode_call(keys, nonce, changes.get("sent", head), []))
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{calls.url}/rpc/{method}", data=changes.get("body", body), headers=headers) as response,
    ):
        return response.status


async def test_calls_that_are_not_signed_for_this_are_401(calls: Calls, tmp_path: Path) -> None:
    assert await post(calls, tmp_path) == 200
    nonce = os.urandom(16)
    assert await post(calls, tmp_path, nonce=nonce) == 200
    assert await post(calls, tmp_path, nonce=nonce) == 401
    for changes in (
        {"claim": ""}, {"claim": "1 query x y z"}, {"lifetime_ms": -1}, {"lifetime_ms": 600_000},
        {"signed": "storage.plan"}, {"audience": "auth"}, {"caller": "gateway"}, {"sent": wire.encode_head([])},
    ):  # fmt: skip
        assert await post(calls, tmp_path, **changes) == 401, changes


async def test_junk_is_400(calls: Calls, tmp_path: Path) -> None:
    for head in (b"\xc1", b"\xdd\xff\xff\xff\xff", b"\x91" * 5000, b"\xc7\x01\x05x", b"\x80\x80", b"\x81\x01\x02"):
        assert await post(calls, tmp_path, head=head) == 400
    assert await post(calls, tmp_path) == 200


# ---------------------------------------------------------------- the process


async def test_after_kill_9_everything_acknowledged_is_there_once(tmp_path: Path) -> None:
    acknowledged: dict[tuple[int, int], int] = {}
    sent: dict[tuple[int, int], int] = {}
    for round in range(3):
        process = Process(tmp_path)
        url = await asyncio.to_thread(process.url)
        try:
            async with process.calls(url) as calls:
                if round == 0:
                    await calls.make_bucket()
                assert acknowledged.items() <= (await calls.points()).items() <= sent.items()
                kept = await calls.blocks()
                # No row twice, be it in a commit or in what compaction made.
                assert sum(block.rows for block in kept) == len(await calls.points())

                async def write(worker: int, calls: Calls = calls, round: int = round) -> None:
                    for n in range(10_000):
                        at = round * 10**6 + worker * 10**5 + n
                        points = {(int(high), at): at for high in IDS[:, 0]}
                        sent.update(points)
                        try:
                            answer = await calls.append(make_block(IDS, [at], [at] * len(IDS)))
                        except Unavailable:
                            return
                        assert "number" in answer
                        acknowledged.update(points)

                writers = [asyncio.create_task(write(worker)) for worker in range(4)]
                await asyncio.sleep(0.3)
                assert process.end(signal.SIGKILL) == -signal.SIGKILL
                await asyncio.gather(*writers)
        finally:
            process.child.kill()
    assert acknowledged
    async with running(tmp_path) as (calls, _):
        assert acknowledged.items() <= (await calls.points()).items() <= sent.items()


async def test_sigterm_finishes_and_a_second_process_is_refused(tmp_path: Path) -> None:
    process = Process(tmp_path)
    url = await asyncio.to_thread(process.url)
    try:
        second = Process(tmp_path)
        assert second.child.stderr is not None
        said = await asyncio.to_thread(second.child.stderr.read)
        second.child.stderr.close()
        assert second.child.wait(5) == 1
        assert f"held by process {process.child.pid}" in said
        async with process.calls(url) as calls:
            await calls.make_bucket()
            await calls.append(make_block(IDS))
        assert await asyncio.to_thread(process.end, signal.SIGTERM) == 0
    finally:
        process.child.kill()
    assert not (tmp_path / "tidegate.db-wal").exists()
    assert (tmp_path / "tidegate.db").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"x" * 5000, "can't start"), (b"SQLite format 3\x00" + b"\xff" * 5000, "can't start")],
)
async def test_data_that_cannot_be_used_is_said_and_ends_the_process(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "tidegate.db").write_bytes(content)
    process = Process(tmp_path)
    assert process.child.stderr is not None
    assert said in await asyncio.to_thread(process.child.stderr.read)
    process.child.stderr.close()
    assert process.child.wait(5) == 1
