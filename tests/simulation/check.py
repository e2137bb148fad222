"""What has to hold between what clients were told and what storage has.

Every point has a value of its own, so each stored value leads back to the write that brought it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from common.model import FieldType
from common.rpc import wire
from common.segment import Block, StringArray, decode_block, decode_dictionary, split_chunks
from services.storage.state.state import State
from tests.simulation.cluster import BUCKETS, SimulatedStorage
from tests.simulation.disk import Commit, Disk
from tests.simulation.workload import LONG_AGO_NS, History, Key, Line, Operation

NAMES = {bucket.id: name for name, bucket in BUCKETS.items()}
SeriesKeys = dict[tuple[str, str], dict[bytes, str]]  # bucket, measurement → id → tags


@dataclass(frozen=True, slots=True)
class Stored:
    """One value as storage has it."""

    commit: int
    bucket: str
    measurement: str
    series: bytes
    shard_ns: int
    time_ns: int
    field: str
    type: FieldType
    value: Any

    @property
    def number(self) -> int:
        """By which its line is found."""
        return int(self.value[1:]) if isinstance(self.value, bytes) else int(self.value)


def values_of(block: Block, commit: int) -> Iterator[Stored]:
    """The values of a block."""
    series = np.repeat(np.arange(len(block.series)), np.diff(block.offsets)).tolist()
    ids = [id.tobytes() for id in block.series]
    times = block.times.tolist()
    bucket = NAMES[block.bucket_id]
    for column in block.columns:
        for row in range(block.rows) if column.valid is None else np.flatnonzero(column.valid).tolist():
            value: Any = column.values
            if isinstance(value, StringArray):
                value = value.data[value.offsets[row] : value.offsets[row + 1]].tobytes()
            else:
                value = value[row].item()
            yield Stored(
                commit, bucket, block.measurement, ids[series[row]], block.shard_start_ns, times[row],
                column.name, column.type, value,
            )  # fmt: skip


def values_of_commits(commits: Iterable[Commit]) -> list[Stored]:
    """All values ever committed, in the order of the commits."""
    found = []
    for number, blocks, data in commits:
        for row in blocks:
            meta = wire.decode_head(row.meta)
            found += values_of(decode_block(meta, split_chunks(meta, data[row.offset : row.offset + row.size])), number)
    return found


async def read_all(storage: SimulatedStorage) -> list[Stored]:
    """All values that a query would see, oldest first: the last one of a key wins."""
    found = []
    for segment in sorted(storage.state.segments(), key=lambda segment: (segment.order, segment.id)):
        found += values_of(decode_block(*await storage.segments.read_segment(segment.id)), segment.order)
    return found


async def read_keys(storage: SimulatedStorage) -> SeriesKeys:
    """The dictionaries, as stored."""
    keys: SeriesKeys = {}
    for measurement in storage.state.by_id.values():
        named = keys[NAMES[measurement.bucket_id], measurement.name] = {}
        for _, _, piece in await storage.catalog.read_dictionary(measurement.generation, 0, 1 << 32):
            ids, texts = decode_dictionary(piece)
            named.update(zip((id.tobytes() for id in ids), (text.decode() for text in texts), strict=True))
    return keys


@dataclass(slots=True)
class Findings:
    """What is wrong, in words; empty is what is wanted."""

    found: list[str] = field(default_factory=list)

    def claim(self, holds: bool, text: str) -> None:
        if not holds:
            self.found.append(text)


async def check(history: History, disk: Disk, storage: SimulatedStorage, max_series: int) -> list[str]:
    """All that does not hold, at the end of a run in which nothing is under way any more."""
    findings = Findings()
    keys = await read_keys(storage)
    committed = values_of_commits(disk.commits)
    winners = _check_types(findings, committed, storage.state)
    _check_origin(findings, history, committed, keys)
    _check_series(findings, committed, keys, storage.state, max_series)
    _check_operations(findings, history, committed, winners, is_limited=bool(max_series))
    _check_answers(findings, history, committed, await read_all(storage))
    return findings.found


Winners = dict[tuple[str, str, int, str], FieldType]


def _check_types(findings: Findings, committed: Sequence[Stored], state: State) -> Winners:
    """One type a field and shard, and storage knows it."""
    winners: Winners = {}
    for one in committed:
        place = (one.bucket, one.measurement, one.shard_ns, one.field)
        findings.claim(winners.setdefault(place, one.type) is one.type, f"two types in {place}")
    known = {
        (NAMES[measurement.bucket_id], measurement.name, shard_ns, name): type
        for measurement in state.by_id.values()
        for shard_ns, fields in measurement.fields.items()
        for name, type in fields.items()
    }
    findings.claim(known == winners, f"storage knows types {known}, stored are {winners}")
    return winners


def _check_origin(findings: Findings, history: History, committed: Sequence[Stored], keys: SeriesKeys) -> None:
    """Nothing was stored that nobody sent, and nothing twice."""
    for number, times in Counter(one.number for one in committed).items():
        findings.claim(times == 1, f"value {number} was stored {times} times")
    for one in committed:
        operation, line = history.by_number.get(one.number, (None, None))
        if operation is None or line is None:
            findings.claim(False, f"nobody sent {one}")
            continue
        tags = keys.get((one.bucket, one.measurement), {}).get(one.series)
        findings.claim(
            (one.bucket, one.measurement, tags, one.time_ns, one.field) == operation.key(line)
            and (one.value, one.type) == (line.value, line.type),
            f"{line} was stored as {one} of series {tags}",
        )


def _check_series(
    findings: Findings, committed: Sequence[Stored], keys: SeriesKeys, state: State, max_series: int
) -> None:
    """The dictionary holds the series that have points, each once, and no others."""
    used: dict[tuple[str, str], set[bytes]] = {}
    for one in committed:
        used.setdefault((one.bucket, one.measurement), set()).add(one.series)
    counts: Counter[str] = Counter()
    for measurement in state.by_id.values():
        place = (NAMES[measurement.bucket_id], measurement.name)
        listed = keys[place]
        counts[place[0]] += measurement.series.count
        findings.claim(set(listed) == used.get(place), f"{place} has other series than its points")
        findings.claim(
            measurement.series.count == len(listed) == len(set(listed.values())), f"a series of {place} is there twice"
        )
    for bucket, count in counts.items():
        findings.claim(not max_series or count <= max_series, f"{bucket} has {count} series, over {max_series}")


def _check_operations(
    findings: Findings, history: History, committed: Sequence[Stored], winners: Winners, *, is_limited: bool
) -> None:
    """Each write is stored as its answer says; one without an answer is stored whole or not at all."""
    commits = {one.number: one.commit for one in committed}
    for operation in history.operations:
        stored = {line for line in operation.lines if line.number in commits}
        at = {commits[line.number] for line in stored}
        findings.claim(len(at) <= 1, f"{operation} is in several commits: {at}")
        if operation.error is not None:
            findings.claim(operation.error.code != "internal error", f"{operation} met an internal error")
        if not operation.is_settled:
            if not is_limited and stored:
                expected = _expected(operation, winners)
                findings.claim(stored == expected, f"{operation} is stored in part: {stored} of {expected}")
            continue
        said = len(operation.lines) - _dropped(operation)
        findings.claim(len(stored) == said, f"{operation} is said to be stored in {said} lines, it is in {len(stored)}")
        if not is_limited:
            expected = _expected(operation, winners)
            findings.claim(stored == expected, f"{operation} has {stored} stored, to be expected are {expected}")


def _expected(operation: Operation, winners: Winners) -> set[Line]:
    """Lines that no rule keeps out, given the types that won."""
    if operation.whole:
        return set()
    return {
        line
        for line in operation.lines
        if not (line.bucket == "short" and line.time_ns == LONG_AGO_NS)
        and winners.get(_place(operation, line), line.type) is line.type
    }


def _place(operation: Operation, line: Line) -> tuple[str, str, int, str]:
    shard_ns = BUCKETS[line.bucket].shard_ns
    return line.bucket, line.measurement, operation.time_of(line) // shard_ns * shard_ns, line.field


def _dropped(operation: Operation) -> int:
    """How many of the lines that parse the answer says to be dropped."""
    if operation.whole:
        return len(operation.lines)
    if operation.error is None:
        return 0
    # Lines that do not parse are counted in where points are dropped, and not where none are.
    return max(0, int(operation.error.details.get("dropped", 0)) - operation.bad)


def _check_answers(
    findings: Findings, history: History, committed: Sequence[Stored], readable: Sequence[Stored]
) -> None:
    """What is read is the last committed value of each key, which no acknowledged later one precedes."""
    last: dict[Key, int] = {}
    for one in committed:
        operation, line = history.by_number[one.number]
        last[operation.key(line)] = one.number
    read: dict[Key, int] = {}
    for one in readable:
        operation, line = history.by_number[one.number]
        read[operation.key(line)] = one.number
    for key in last.keys() | read.keys():
        findings.claim(
            last.get(key) == read.get(key), f"{key} reads {read.get(key)}, committed last was {last.get(key)}"
        )
    stored = {one.number for one in committed}
    for operation in history.operations:
        if operation.is_settled:
            for line in operation.lines:
                if line.number in stored:
                    text = _overtaken(history, operation, read.get(operation.key(line)))
                    findings.claim(not text, f"{operation.key(line)}: {text}")


def _overtaken(history: History, newer: Operation, number: int | None) -> str:
    """Why *number* may not be what is read where *newer* has been acknowledged."""
    if number is None:
        return f"{newer} is lost"
    older, _ = history.by_number[number]
    if older.is_settled and older.ended_s is not None and older.ended_s < newer.began_s:
        return f"{older} came over {newer}, which was sent after it had been acknowledged"
    return ""


def check_reading(history: History, client: int, values: Sequence[Stored], began_s: float) -> list[str]:
    """What does not hold in a reading that began at *began_s*: all that *client* had been told to be stored is there.

    Args:
        values: oldest first, of all clients.
    """
    findings = Findings()
    read: dict[Key, int] = {}
    for one in values:
        operation, line = history.by_number[one.number]
        read[operation.key(line)] = one.number
    for operation in history.operations:
        if (
            operation.client == client
            and operation.error is None
            and operation.ended_s is not None
            and operation.ended_s <= began_s
        ):
            for line in operation.lines:
                text = _overtaken(history, operation, read.get(operation.key(line)))
                findings.claim(not text, f"read at {began_s:.3f}: {operation.key(line)}: {text}")
    return findings.found
