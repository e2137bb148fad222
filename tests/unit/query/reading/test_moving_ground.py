"""Answers are whole whatever happens under them: segments merged and replaced, columns evicted, rows cut into portions.

The truth is what was written; rows written again with the same values change nothing of it.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from common.budget import Budget
from common.merge import merge_blocks
from common.segment import encode_block
from services.query.evaluation.portions import Room
from services.query.evaluation.select import select
from services.query.influxql.parser import parse
from services.query.reading import units
from services.query.reading.reader import Reader
from services.query.reading.series_index import SeriesIndex
from tests.unit.query.engine.memory import MemoryStorage, bucket_of, make_context
from tests.unit.query.engine.points import Point

S = 10**9
BUCKET = bucket_of("db", "autogen")
HOSTS, STEPS, STEPS_A_COMMIT = 6, 240, 8
CLIENTS, ROUNDS = 4, 4
BUDGET_BYTES = 1 << 30

Row = tuple[int, str, float, float]


def rows(random_: random.Random) -> list[Row]:
    return [
        (second * S, f"h{host}", random_.randrange(100) / 2, random_.randrange(100) / 2)
        for second in range(STEPS)
        for host in range(HOSTS)
    ]


def points(rows: list[Row]) -> list[Point]:
    return [Point("m", (("host", host),), (("v", v), ("w", w)), time) for time, host, v, w in rows]


class Compacted(MemoryStorage):
    """Storage in which two neighbouring segments may become one just before chunks are asked for, and are gone.

    Attributes:
        merged: how often that was so; ``may_merge``: how often it still may.
    """

    def __init__(self, random_: random.Random) -> None:
        super().__init__()
        self._random = random_
        self.merged = 0
        self.may_merge = 0

    def compact(self) -> None:
        """Merge two neighbours; the old ones are gone at once."""
        measurement = self.buckets[BUCKET.id]["m"]
        there = measurement.segments
        if len(there) < 2:
            return
        at = self._random.randrange(len(there) - 1)
        blocks = []
        for id, order, meta in there[at : at + 2]:
            segment = units.read_segment(id, order, meta)
            blocks.append(units.decode_segment(segment, segment.chunks, dict(enumerate(self.chunks.pop(id)))))
        self._number += 1
        meta, self.chunks[self._number] = encode_block(merge_blocks(blocks), 1)
        meta["deletes"] = self._number
        there[at : at + 2] = [[self._number, there[at + 1][1], meta]]
        measurement.version += 1
        self.merged += 1

    def _fetch(self, head: Any) -> tuple[Any, list[bytes]]:
        # Once in any case: chance and the order of threads might leave it out.
        if self.may_merge and (not self.merged or self._random.random() < 0.3):
            self.may_merge -= 1
            self.compact()
        return super()._fetch(head)


def told(found: list[Row]) -> list[tuple[Any, ...]]:
    return [(0, len(found), max(v for _, _, v, _ in found), min(w for *_, w in found))]


# Each question, and its answer made row by row.
QUESTIONS: list[tuple[str, Any]] = [
    ("SELECT * FROM m WHERE v > 40", lambda all_rows: [row for row in all_rows if row[2] > 40]),
    ("SELECT * FROM m", lambda all_rows: all_rows),
    ("SELECT host, w FROM m WHERE time >= 50s AND time < 190s",
     lambda all_rows: [(time, host, w) for time, host, _, w in all_rows if 50 * S <= time < 190 * S]),
    ("SELECT count(v), max(v), min(w) FROM m", told),
    ("SELECT count(w) FROM m WHERE host = 'h3'", lambda all_rows: [(0, sum(row[1] == "h3" for row in all_rows))]),
]  # fmt: skip


async def ask(storage: MemoryStorage, reader: Reader, text: str) -> list[tuple[Any, ...]]:
    (statement,) = parse(text)
    found: list[tuple[Any, ...]] = []
    async for series in select(statement, make_context(storage, "db", reader=reader)):  # type: ignore[arg-type]
        found += zip(*(np.asarray(each.values).tolist() for each in series.own_columns), strict=True)
    return found


@pytest.mark.parametrize("small_rows", [1, 100, 100_000])
@pytest.mark.parametrize(("cache_bytes", "room"), [(1 << 29, 1 << 20), (1 << 29, 4_000), (20_000, 20_000)],
                         ids=["as a whole", "cut", "evicted"])  # fmt: skip
async def test_answers_are_whole_while_segments_are_replaced(small_rows: int, cache_bytes: int, room: int) -> None:
    random_ = random.Random(small_rows + room)
    written = rows(random_)
    commits = [written[at : at + HOSTS * STEPS_A_COMMIT] for at in range(0, len(written), HOSTS * STEPS_A_COMMIT)]
    storage = Compacted(random_)
    for commit in commits:
        storage.write(BUCKET.id, points(commit))
    with patch("services.query.reading.reader.CACHE_SHARE", cache_bytes / BUDGET_BYTES):
        reader = Reader(storage, "memory:", Budget(BUDGET_BYTES))  # type: ignore[arg-type]

    async def client(number: int) -> None:
        for round_number in range(ROUNDS):
            storage.may_merge = min(storage.may_merge + 2, 5)
            text, truth = QUESTIONS[(number + round_number) % len(QUESTIONS)]
            assert await ask(storage, reader, text) == truth(written), text
            storage.write(BUCKET.id, points(random_.choice(commits)))

    with (
        patch.object(units, "SMALL_ROWS", small_rows),
        patch.object(Room, "of", lambda _: Room(room, room, room)),
        patch("services.query.reading.reader.MAX_PLANS", 100),
    ):
        await asyncio.gather(*map(client, range(CLIENTS)))
    assert storage.merged > 0


def test_series_count_once_their_tags_can_be_asked_for() -> None:
    class Watched(SeriesIndex):
        def _add_tags(self, first: int, keys: Sequence[bytes]) -> None:
            super()._add_tags(first, keys)
            counts.append((self.count, self.table.count))

    counts: list[tuple[int, int]] = []
    index = Watched()
    for host in (b"host=a", b"host=b"):
        index.extend([(np.array([[index.count, 1]], np.uint64), [host])])
    assert counts == [(0, 0), (1, 1)]
    assert index.count == index.table.count == 2
    assert index.table.values("host").tolist() == ["a", "b"]


def test_series_that_come_bit_by_bit_are_ranked_as_all_at_once() -> None:
    random_ = random.Random(3)
    keys = [b"host=%d,zone=%d" % (random_.randrange(10**6), n) for n in range(300)]
    ids = np.array([[n, 7] for n in range(300)], np.uint64)
    at_once, bit_by_bit = SeriesIndex(), SeriesIndex()
    at_once.extend([(ids, keys)])
    with patch("services.query.reading.series_index.SORTED_TOGETHER", 7):
        for start in range(0, 300, 60):
            bit_by_bit.extend([(ids[at : at + 20], keys[at : at + 20]) for at in range(start, start + 60, 20)])
    for index in (at_once, bit_by_bit):
        order = np.argsort(index.table.ranks).tolist()
        assert [keys[code] for code in order] == sorted(keys)
        assert index.find_codes(ids[::-1]).tolist() == list(range(299, -1, -1))


async def test_series_come_once_however_often_their_reader_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Compacted(random.Random(1))
    storage.write(BUCKET.id, points(rows(random.Random(1))[:HOSTS]))
    reader = Reader(storage, "memory:", Budget(BUDGET_BYTES))  # type: ignore[arg-type]
    plain = SeriesIndex.extend
    began, goes_on = threading.Event(), threading.Event()

    def slow(self: SeriesIndex, parts: Any) -> None:
        began.set()
        assert goes_on.wait(10)
        plain(self, parts)

    monkeypatch.setattr(SeriesIndex, "extend", slow)
    first = asyncio.create_task(reader.measured(BUCKET, "m"))
    await asyncio.to_thread(began.wait, 10)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    others = [asyncio.create_task(reader.measured(BUCKET, "m")) for _ in range(3)]
    await asyncio.sleep(0.05)
    goes_on.set()
    for measured in await asyncio.gather(*others):
        assert measured is not None
        assert measured.table.count == HOSTS
