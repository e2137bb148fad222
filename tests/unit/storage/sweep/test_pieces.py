"""Pieces of the series dictionary: merged when there are many; a damaged one hides its own series only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from common.errors import Gone
from common.segment import decode_dictionary
from common.tombstones import Tombstone, is_chosen
from services.storage.storage import Storage
from services.storage.sweep.pieces import MIN_PIECES, PieceSize, merge_pieces, plan_pieces
from tests.services.storage_parts import BUCKET, Calls, keys_of, make_block, running, series_ids
from tests.unit.storage.sqlite.test_row_checksums import damage

COUNT = MIN_PIECES + 2
IDS = series_ids(COUNT)
HEAD = {"bucket_id": BUCKET, "measurement": "cpu", "generation": -1, "after": 0}


async def fill(calls: Calls) -> None:
    """One piece a series."""
    await calls.make_bucket()
    for at in range(COUNT):
        await calls.append(make_block(IDS[at : at + 1], [1, 2]))


async def read_all(calls: Calls) -> dict[tuple[int, int], bytes]:
    parts = (await calls.query.call(calls.url, "storage.series", HEAD)).parts
    return {tuple(id): key for part in parts for ids, keys in [decode_dictionary(part)]
            for id, key in zip(ids.tolist(), keys, strict=True)}  # fmt: skip


async def pieces(storage: Storage) -> int:
    return len(await storage.catalog.list_pieces(next(iter(storage.state.by_id))))


def test_neighbours_at_the_end_merge_when_they_are_many_and_small() -> None:
    small = [PieceSize(at, 1, 50) for at in range(20)]
    assert plan_pieces(small[: MIN_PIECES - 1]) is None
    assert plan_pieces(small) == (0, 20)
    large = [PieceSize(0, 1000, 50_000), *(PieceSize(1000 + at, 1, 50) for at in range(20))]
    assert plan_pieces(large) == (1000, 1020)
    assert plan_pieces([PieceSize(0, 20_000, 1), *(PieceSize(20_000 * at, 20_000, 1) for at in range(1, 20))]) is None
    assert plan_pieces([]) is None


def test_a_series_is_written_again_only_some_times() -> None:
    held: list[PieceSize] = []
    written = 0
    for at in range(5_000):
        held.append(PieceSize(at, 1, 50))
        found = plan_pieces(held)
        if found is not None:
            written += found[1] - found[0]
            held = [piece for piece in held if piece.first < found[0]]
            held.append(PieceSize(found[0], found[1] - found[0], 50 * (found[1] - found[0])))
    assert len(held) < 40
    assert written < 10 * 5_000


async def test_merged_pieces_say_the_same(tmp_path: Path) -> None:
    async with running(tmp_path) as (calls, storage):
        await fill(calls)
        assert await pieces(storage) == COUNT
        await merge_pieces(storage.catalog, storage.committer)
        assert await pieces(storage) == 1
        assert await read_all(calls) == dict(zip(map(tuple, IDS.tolist()), keys_of(IDS), strict=True))
        # A known series and a new one: the numbers go on.
        more = series_ids(2, seed=5)
        await calls.append(make_block(IDS, [5]))
        await calls.append(make_block(more, [5]))
    async with running(tmp_path) as (calls, storage):
        assert not storage.state.damage
        assert len(await read_all(calls)) == COUNT + 2


@pytest.mark.parametrize("damaged", ["piece = zeroblob(length(piece))", "piece = zeroblob(9), ids = zeroblob(16)"])
async def test_a_damaged_piece_hides_its_own_series_only(tmp_path: Path, damaged: str) -> None:
    async with running(tmp_path) as (calls, _):
        await fill(calls)
    damage(tmp_path, f"UPDATE dictionary SET {damaged} WHERE first = 3")
    async with running(tmp_path) as (calls, storage):
        if "ids" not in damaged:
            with pytest.raises(Gone):
                await read_all(calls)
        plan = await calls.plan()
        (stone,) = map(Tombstone.from_wire, plan["tombstones"])
        assert np.flatnonzero(is_chosen(stone.series, np.arange(COUNT))).tolist() == [3]
        found = await read_all(calls)
        assert len(found) == COUNT
        assert sorted(key for key in found.values() if key) == sorted(keys_of(np.delete(IDS, 3, axis=0)))
        assert any(found.reason.startswith("series 3 to 3 of measurement 'cpu'") for found in storage.state.damage)
        # Whoever knows it as stored is asked for its tags, and with them it comes back, its older rows too.
        block = make_block(IDS, [9])
        unknown = (await calls.append(block, new=[]))["retry"]["unknown"]
        assert np.frombuffer(unknown[0][1], np.int64).tolist() == [3]
        await calls.append(block)
        # The pieces are not merged over the damaged one.
        await merge_pieces(storage.catalog, storage.committer)
        assert await pieces(storage) == COUNT + 1
    async with running(tmp_path) as (calls, storage):
        (stone,) = map(Tombstone.from_wire, (await calls.plan())["tombstones"])
        assert np.flatnonzero(is_chosen(stone.series, np.arange(COUNT + 1))).tolist() == [3]
        assert (await read_all(calls))[tuple(IDS[3].tolist())] == keys_of(IDS)[3]
        (measurement,) = storage.state.by_id.values()
        assert measurement.series.find(IDS).tolist() == [0, 1, 2, COUNT, *range(4, COUNT)]


async def test_a_series_with_damaged_tags_comes_back_with_a_write_before_anybody_has_read_it(tmp_path: Path) -> None:
    async with running(tmp_path) as (calls, _):
        await fill(calls)
    damage(tmp_path, "UPDATE dictionary SET piece = zeroblob(length(piece)) WHERE first = 3")
    async with running(tmp_path) as (calls, storage):
        await calls.append(make_block(IDS, [9]))
        assert len(storage.state.damage) == 1
        assert sorted(key for key in (await read_all(calls)).values() if key) == sorted(keys_of(IDS))
