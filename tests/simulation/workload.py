"""Clients that write, one write after the other, and note what they were told."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from common.errors import InfluxError, Unavailable
from common.model import FieldType
from services.gateway.batching import Write
from tests.services.ingest_parts import ORG, WRITER
from tests.simulation.cluster import EPOCH_MS, WRITE_TIMEOUT_S, now_ms

MINUTE_NS = 60 * 10**9
NOW_NS = EPOCH_MS * 10**6
WEEK_AGO_NS, LONG_AGO_NS = NOW_NS - 8 * 24 * 60 * MINUTE_NS, NOW_NS - 3 * 60 * MINUTE_NS
TYPES = (FieldType.INTEGER, FieldType.FLOAT, FieldType.STRING, FieldType.UNSIGNED)
FRESH_MS = 100
Key = tuple[str, str, str, int, str]  # bucket, measurement, tags, time, field


@dataclass(frozen=True, slots=True)
class Line:
    """A point with one field, whose value no other point has."""

    bucket: str
    measurement: str
    tags: str
    field: str
    type: FieldType
    number: int
    time_ns: int | None  # None: the line does not say

    @property
    def value(self) -> Any:
        if self.type is FieldType.FLOAT:
            return self.number + 0.5
        return b"s%d" % self.number if self.type is FieldType.STRING else self.number

    def text(self) -> str:
        suffix = {FieldType.INTEGER: "i", FieldType.UNSIGNED: "u"}.get(self.type, "")
        value = f'"s{self.number}"' if self.type is FieldType.STRING else f"{self.value}{suffix}"
        end = "" if self.time_ns is None else f" {self.time_ns}"
        return f"{self.measurement},{self.tags} {self.field}={value}{end}"


@dataclass(slots=True, eq=False)
class Operation:
    """One write and what became of it.

    Attributes:
        bad: lines in it that do not parse.
        whole: one bad line keeps all others out.
        began_s, ended_s: when the client sent it and heard of it.
        error: what it heard; None with ``ended_s`` = success.
    """

    client: int
    lines: tuple[Line, ...]
    bad: int
    whole: bool
    now_ns: int
    began_s: float
    ended_s: float | None = None
    error: InfluxError | None = None

    @property
    def is_settled(self) -> bool:
        """Whether the client knows what is stored."""
        return self.ended_s is not None and not isinstance(self.error, Unavailable)

    def key(self, line: Line) -> Key:
        return line.bucket, line.measurement, line.tags, self.time_of(line), line.field

    def time_of(self, line: Line) -> int:
        return self.now_ns if line.time_ns is None else line.time_ns


@dataclass(slots=True)
class History:
    """All operations, and the point to each value."""

    operations: list[Operation] = field(default_factory=list)
    by_number: dict[int, tuple[Operation, Line]] = field(default_factory=dict)
    told: Counter[str] = field(default_factory=Counter)

    def add(self, operation: Operation) -> None:
        self.operations.append(operation)
        for line in operation.lines:
            self.by_number[line.number] = operation, line


class Client:
    """Writes to series of its own; measurements and fields it shares with the others.

    Args:
        submit: the gateway's.
        numbers: gives a value that nobody else has.
    """

    def __init__(
        self,
        number: int,
        seed: str,
        submit: Callable[[Write], Any],
        history: History,
        numbers: Iterator[int],
    ) -> None:
        self.number = number
        self._draw = random.Random(f"{seed} client {number}")
        self._submit = submit
        self._history = history
        self._numbers = numbers
        self._identity = WRITER.to_wire()
        # Mostly all agree on the types.
        self._fields = [self._draw.choice(TYPES) if self._draw.random() < 0.2 else type for type in TYPES[:2]]

    async def write(self, *, contested: bool = False) -> Operation:
        """One write, drawn; returns when the gateway has answered.

        Args:
            contested: with a point whose field all clients write first at about the same time, each with its type.
        """
        draw = self._draw
        now = now_ms()
        bucket = draw.choice(("db", "db", "db", "short"))
        dialect = draw.choice(("v1", "v1", "v2"))
        lines = [self._line(bucket) for _ in range(draw.randint(1, 5))]
        if contested:
            tags = f"c=c{self.number},s=s0"
            lines.append(
                Line(bucket, "m0", tags, "contested", draw.choice(TYPES), next(self._numbers), NOW_NS - MINUTE_NS)
            )
        chosen = {(line.measurement, line.tags, line.field, line.time_ns): line for line in lines}
        ordered = tuple(chosen.values())
        bad = int(draw.random() < 0.1)
        operation = Operation(
            self.number, ordered, bad, bool(bad) and dialect == "v2", now * 10**6,
            asyncio.get_running_loop().time(),
        )  # fmt: skip
        self._history.add(operation)
        texts = [line.text() for line in ordered] + ["m0,t=x v="] * bad
        write = Write(
            id=now.to_bytes(8, "big") + draw.randbytes(8),
            now_ns=operation.now_ns,
            identity=self._identity,
            org=ORG,
            dialect=dialect,
            params={"db": bucket} if dialect == "v1" else {"org": "o", "bucket": bucket},
            encoding="",
            body="\n".join(texts).encode(),
            deadline_s=operation.began_s + WRITE_TIMEOUT_S,
        )
        try:
            await self._submit(write)
        except InfluxError as error:
            operation.error = error
        operation.ended_s = asyncio.get_running_loop().time()
        self._history.told["ok" if operation.error is None else operation.error.code] += 1
        return operation

    async def pause(self) -> None:
        await asyncio.sleep(self._draw.choice((0, 0, 0.01, 0.5)))

    def _line(self, bucket: str) -> Line:
        draw = self._draw
        which = draw.randrange(2)
        if draw.random() < 0.25:
            # A field that is new to all, at about the same time.
            name, type = f"g{now_ms() // FRESH_MS % 1000}", draw.choice(TYPES)
        else:
            name, type = f"f{which}", draw.choice(TYPES) if draw.random() < 0.05 else self._fields[which]
        recent = [None, *(NOW_NS - minutes * MINUTE_NS for minutes in range(1, 4))]
        times = [*recent, LONG_AGO_NS] if bucket == "short" else [*recent, WEEK_AGO_NS]
        return Line(
            bucket,
            f"m{draw.randrange(2)}",
            f"c=c{self.number},s=s{draw.randrange(3)}",
            name,
            type,
            next(self._numbers),
            draw.choice(times),
        )


def make_clients(seed: str, many: int, submit: Callable[[Write], Any], history: History) -> list[Client]:
    numbers = count(1)
    return [Client(number, seed, submit, history, numbers) for number in range(many)]
