"""Damaged and missing rows of the small tables: named, mended where the segments know better, never served."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from common.errors import InternalError
from common.segment import decode_block, encode_block
from services.storage.catalog.interface import UnusableCatalog
from services.storage.reading.segments import NewSegment
from services.storage.sqlite.catalog import FILE_NAME, SqliteCatalog
from services.storage.sqlite.checksums import add_row, cells_checksum, take_row, tally_of
from services.storage.storage import Storage
from tests.services.storage_parts import BUCKET, make_block, running, series_ids

IDS = series_ids(3)


def damage(folder: Path, *statements: str) -> None:
    """Change the file behind the back of storage, which is stopped."""
    connection = sqlite3.connect(folder / FILE_NAME)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


async def fill(folder: Path) -> None:
    async with running(folder) as (calls, _):
        await calls.make_bucket()
        await calls.append(make_block(IDS, [1, 2]), make_block(IDS, [1], measurement="mem"))
        await calls.change(
            puts=[
                {"kind": "user", "id": "u1", "body": {"name": "ann"}, "unique": ["user:ann"], "indexes": {"org": "o"}}
            ]
        )


def tables(storage: Storage) -> set[str]:
    return {found.table for found in storage.state.damage}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE measurements SET name = x'6d656e' WHERE name = x'6d656d'",
        "UPDATE measurements SET name = CAST(x'6dff6d' AS TEXT) WHERE name = x'6d656d'",
        "UPDATE measurements SET dropped = 1 WHERE name = x'6d656d'",
        "UPDATE measurements SET checksum = 5 WHERE name = x'6d656d'",
        "DELETE FROM measurements WHERE name = x'6d656d'",
    ],
)
async def test_a_measurement_is_named_again_by_its_segments(tmp_path: Path, statement: str) -> None:
    await fill(tmp_path)
    damage(tmp_path, statement)
    async with running(tmp_path) as (calls, storage):
        assert tables(storage) == {"measurements"}
        assert len(await calls.points("mem")) == len(await calls.points("cpu")) / 2 == 3
        await calls.append(make_block(IDS, [5], measurement="mem"))
        assert len(await calls.points("mem")) == 6
    async with running(tmp_path) as (calls, storage):
        assert not storage.state.damage
        assert len(await calls.points("mem")) == 6


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE fields SET type = 3",
        "UPDATE fields SET field = x'7f'",
        "UPDATE fields SET type = x'00'",
        "DELETE FROM fields",
    ],
)
async def test_types_of_fields_come_back_from_the_segments(tmp_path: Path, statement: str) -> None:
    await fill(tmp_path)
    damage(tmp_path, statement)
    for found in ({"fields"}, set()):
        async with running(tmp_path) as (calls, storage):
            assert tables(storage) == found
            answer = await calls.ingest.call(
                calls.url, "storage.schema", {"bucket_id": BUCKET, "measurements": ["cpu", "mem"]}
            )
            assert answer.head["fields"] == {"cpu": [[0, "value", 1]], "mem": [[0, "value", 1]]}


@pytest.mark.parametrize("table", ["commits", "segments", "dictionary", "records", "record_keys", "replaced"])
async def test_a_missing_row_is_noticed(tmp_path: Path, table: str) -> None:
    await fill(tmp_path)
    async with running(tmp_path) as (calls, storage):
        segment = next(iter(storage.state.segments()))
        meta, chunks = await storage.segments.read_segment(segment.id)
        await storage.segments.replace([segment.id], [NewSegment(*encode_block(decode_block(meta, chunks), 1))])
        await calls.append(make_block(IDS, [9], measurement="disk"))
    damage(tmp_path, f"DELETE FROM {table} WHERE rowid = (SELECT max(rowid) FROM {table})"
           if table not in ("records", "record_keys") else f"DELETE FROM {table}")  # fmt: skip
    async with running(tmp_path) as (_, storage):
        assert table in tables(storage)


async def test_a_damaged_record_is_refused_and_a_list_goes_on_without_it(tmp_path: Path) -> None:
    await fill(tmp_path)
    damage(tmp_path, "UPDATE records SET body = x'80' WHERE kind = x'75736572'")
    async with running(tmp_path) as (calls, storage):
        assert [found.reason for found in storage.state.damage] == ["user u1 does not have its checksum"]
        for read in (["id", "user", "u1"], ["unique", "user:ann"]):
            with pytest.raises(InternalError):
                await calls.read(read)
        listed: list[Any] = await calls.read(
            ["list", "user", None, None, None, 10], ["list", "bucket", None, None, None, 9]
        )
        assert [len(answer) for answer in listed] == [0, 1]


async def test_the_sequence_and_the_key_of_the_hash_are_mended(tmp_path: Path) -> None:
    await fill(tmp_path)
    damage(tmp_path, "UPDATE sequence SET number = 1", "UPDATE facts SET value = x'00' WHERE name = 'hash_key'")
    async with running(tmp_path) as (calls, storage):
        assert tables(storage) == {"sequence", "facts"}
        key, number = storage.hash_key, storage.state.number
        assert len(key) == 16
        assert number > 1
        assert (await calls.append(make_block(IDS, [7])))["number"] == number + 1
        assert len(await calls.points()) == 9
    async with running(tmp_path) as (_, storage):
        assert not storage.state.damage
        assert storage.hash_key == key
    damage(tmp_path, "UPDATE facts SET value = x'00'")
    catalog = SqliteCatalog(tmp_path)
    with pytest.raises(UnusableCatalog, match="key of the series hash"):
        await catalog.open()
    await catalog.close()


def test_a_tally_tells_what_was_taken() -> None:
    rows = [cells_checksum(number, b"x", None) for number in range(5)]
    assert take_row(tally_of(rows), rows[2]) == tally_of(rows[:2] + rows[3:])
    assert add_row(tally_of(rows[:4]), rows[4]) == tally_of(rows)
    assert cells_checksum(1, b"a") != cells_checksum(1, b"b")
