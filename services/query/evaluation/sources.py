"""A planned SELECT, source by source: read, worked out, in portions where there are many rows.

I/O, limits and memory are here; what is computed is ``engine/``. Source: design, decisions 8 and 16.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from common.budget import Claim
from common.errors import Invalid, Unavailable
from common.model import MIN_TIME_NS
from services.query.context import QueryContext
from services.query.control.queries import Phase
from services.query.engine.answers import Answer
from services.query.engine.derive import combine, split_by_columns
from services.query.engine.fold import Fold
from services.query.engine.frame import Piece, gather_piece
from services.query.engine.run import Task
from services.query.engine.scan import Source, choose_series
from services.query.engine.spec import Call, Query
from services.query.engine.vectors import Mask
from services.query.evaluation import newest, statistics
from services.query.evaluation.ends import find_ends
from services.query.evaluation.explain import needs_of
from services.query.evaluation.portions import Portion, Range, Room, plan_portions, row_bytes
from services.query.planning.names import Schema
from services.query.reading.held import Measured

# Up to so many rows a query is worked out on the event loop: a thread costs more than the work.
ROWS_ON_LOOP = 4_000
SERIES_ON_LOOP = 4_000
STATISTICS_ON_LOOP = 300


@dataclass(frozen=True, slots=True)
class Entry:
    """One source of a SELECT: a measurement, or one name of a subquery's answer."""

    name: str
    schema: Schema
    measured: Measured | None = None
    derived: Source | None = None


@dataclass(slots=True)
class _Paging:
    """LIMIT and OFFSET over the slices of one group."""

    limit: int
    offset: int
    seen: int = 0

    @property
    def full(self) -> bool:
        return bool(self.limit) and self.seen >= self.offset + self.limit

    def ask(self, query: Query) -> Query:
        """*query* for the next slice."""
        return replace(query, limit=self.offset + self.limit - self.seen if self.limit else 0, offset=0)

    def take(self, answer: Answer) -> Answer:
        """What is told of the slice's answer."""
        skipped = max(0, self.offset - self.seen)
        self.seen += len(answer)
        return answer.take(slice(skipped, None)) if skipped else answer


class Work:
    """Works out the parts of one request."""

    def __init__(self, context: QueryContext) -> None:
        self._context = context
        self._reader = context.reader
        self._budget = context.reader.budget

    async def answers(self, query: Query, entries: Sequence[Entry]) -> AsyncGenerator[tuple[Task, Answer], None]:
        """The answer of *query* over the sources of one name, in order; a group that comes in several goes on.

        Raises:
            Invalid: a limit of SELECT is exceeded, or the answer can't be told, in InfluxDB's words.
            Unavailable: the memory budget does not hold it, or storage does not answer.
        """
        wanted = [
            None if entry.measured is None else await self._count_series(query, entry.measured) for entry in entries
        ]
        cost = self._context.running.cost
        scanned = cost.rows_scanned
        for part, suffices in await self._tries(query, entries, wanted):
            told = await self._gathered(part, entries, wanted)
            if suffices([answer for _, answer in told]):
                for each in told:
                    yield each
                return
            # Rows that are looked at again count once towards the limit of points.
            cost.rows_scanned = scanned
        portions, known = await self._cut(query, entries, wanted)
        if not portions:
            task, answer = await self._whole(query, entries, wanted, known)
            with self._held(_answer_bytes(answer)):
                if len(answer):
                    yield task, answer
            return
        async with aclosing(self._in_portions(query, entries, portions)) as found:
            async for each in found:
                yield each

    async def _gathered(
        self, query: Query, entries: Sequence[Entry], wanted: Sequence[Mask | None]
    ) -> list[tuple[Task, Answer]]:
        """As ``answers``, all together and without tries."""
        portions, known = await self._cut(query, entries, wanted)
        if portions:
            async with aclosing(self._in_portions(query, entries, portions)) as found:
                return [each async for each in found]
        task, answer = await self._whole(query, entries, wanted, known)
        return [(task, answer)] if len(answer) else []

    async def _tries(
        self, query: Query, entries: Sequence[Entry], wanted: Sequence[Mask | None]
    ) -> Sequence[tuple[Query, Callable[[Sequence[Answer]], bool]]]:
        """Queries over a part of the rows, each with what tells whether its answer is that of the whole."""
        parts = [(part, partial(newest.suffices, query)) for part in newest.tries(query)]
        measured = entries[0].measured if len(entries) == 1 else None
        if parts or measured is None or not query.calls:
            return parts
        find = partial(find_ends, query, measured.table, wanted[0], measured.shards)
        quick = measured.table.count <= SERIES_ON_LOOP and sum(map(len, measured.shards.values())) <= STATISTICS_ON_LOOP
        ends = find() if quick else await asyncio.to_thread(find)
        return [] if ends is None else [(ends.query, ends.suffices)]

    async def _cut(
        self, query: Query, entries: Sequence[Entry], wanted: Sequence[Mask | None]
    ) -> tuple[list[Portion], statistics.Told | None]:
        """The portions in which the rows are worked out, none = as a whole, with what statistics tell of them then."""
        only = entries[0].measured if len(entries) == 1 else None
        if only is None:
            return [], None
        told = await self._told(query, only)
        portions = await self._portions(query, only if told is None else replace(only, shards=told.rest), wanted[0])
        if portions and told is not None:
            # Between two portions segments may be replaced: what is told of and what is read would not fit together.
            portions = await self._portions(query, only, wanted[0])
        return portions, told

    async def _whole(
        self, query: Query, entries: Sequence[Entry], wanted: Sequence[Mask | None], told: statistics.Told | None
    ) -> tuple[Task, Answer]:
        self._enter(Phase.READING)
        task = await self._task(query, entries, wanted, told)
        return task, await self._work(task)

    async def _in_portions(
        self, query: Query, entries: Sequence[Entry], portions: Iterable[Portion]
    ) -> AsyncGenerator[tuple[Task, Answer], None]:
        """The answers of the portions of the only source."""
        only = entries[0].measured
        assert only is not None
        names, read = query.fields_read, range_read(query)
        self._count_needs(only, names, *read)
        # The conditions on tags have chosen the series already.
        query = replace(query, filters=tuple(each for each in query.filters if not each.only_tags))
        for portion in portions:
            async with aclosing(self._portion(query, only, names, portion)) as answers:
                async for task, answer in answers:
                    if len(answer):
                        yield task, answer

    # ------------------------------------------------------------ statistics

    async def _told(self, query: Query, measured: Measured) -> statistics.Told | None:
        """What the statistics of segments tell of *query*."""
        tell = partial(statistics.tell, query, measured.shards, measured.tombstones)
        effort = statistics.effort(query, measured.shards)
        return tell() if effort <= STATISTICS_ON_LOOP else await asyncio.to_thread(tell)

    async def _read_told(self, query: Query, measured: Measured, told: statistics.Told) -> Source:
        """What *told* leaves to be read, and what it tells."""
        names, read = query.fields_read, range_read(query)
        rest = replace(measured, shards=told.rest)
        self._count_needs(rest, names, *read)
        found, pieces = await self._read(query, rest, names, *read)
        if found.shards is not told.rest:
            # Planned anew, and whole: the statistics are of segments that were replaced.
            return Source(found.name, found.table, pieces)
        self._context.running.cost.segments_told += told.segments
        return Source(found.name, found.table, pieces, told.summaries)

    async def _read(
        self, query: Query, measured: Measured, names: Sequence[str], start_ns: int, stop_ns: int
    ) -> tuple[Measured, list[Piece]]:
        """As ``Reader.pieces``; where it only matters which rows have a value, and all have, no column is read."""
        find = partial(statistics.full_fields, query)
        quick = statistics.effort(query, measured.shards) <= STATISTICS_ON_LOOP
        asked = (measured.shards, start_ns, stop_ns)
        full = find(*asked) if quick else await asyncio.to_thread(find, *asked)
        if not full:
            return await self._reader.pieces(measured, names, start_ns, stop_ns)
        found, pieces = await self._reader.pieces(measured, (), start_ns, stop_ns)
        if found.shards is not measured.shards and full != find(found.shards, start_ns, stop_ns):
            return await self._reader.pieces(found, names, start_ns, stop_ns)
        return found, statistics.with_full_fields(pieces, full)

    # ------------------------------------------------------------ portions

    async def _portions(self, query: Query, measured: Measured, wanted: Mask | None) -> list[Portion]:
        read = range_read(query)
        segments = [
            segment
            for (start_ns, stop_ns), found in measured.shards.items()
            if start_ns < read[1] and stop_ns > read[0]
            for segment in found
        ]
        room = Room.of(self._budget.limit_bytes)
        fields = len(query.fields_read)

        def plan() -> list[Portion]:
            return plan_portions(query, measured.table.group(query.keys), wanted, segments, read, fields, room)

        return await asyncio.to_thread(plan) if measured.table.count > SERIES_ON_LOOP else plan()

    def _portion(
        self, query: Query, measured: Measured, names: Sequence[str], portion: Portion
    ) -> AsyncGenerator[tuple[Task, Answer], None]:
        if portion.folded:
            return self._folded(query, measured, names, portion)
        if portion.by_slice:
            return self._by_slice(query, measured, names, portion)
        return self._at_once(query, measured, names, portion)

    async def _folded(
        self, query: Query, measured: Measured, names: Sequence[str], portion: Portion
    ) -> AsyncGenerator[tuple[Task, Answer], None]:
        """All slices together, of each of which only the partial results are kept."""
        fold = Fold(query)
        with self._budget.claim() as claim:
            for start_ns, stop_ns in portion.slices:
                asked = replace(query, start_ns=start_ns, stop_ns=stop_ns)
                one = replace(portion, slices=((start_ns, stop_ns),))
                async with aclosing(self._at_once(asked, measured, names, one, fold.take)) as steps:
                    async for _ in steps:
                        claim.take(fold.nbytes - claim.size)
            task = Task(query, Source(measured.name, measured.table, ()))
            answer = await self._work(task, fold.answer)
            with self._held(_answer_bytes(answer)):
                yield task, answer

    async def _by_slice(
        self, query: Query, measured: Measured, names: Sequence[str], portion: Portion
    ) -> AsyncGenerator[tuple[Task, Answer], None]:
        """Each slice of the portion's one group by itself, in the order of the answer."""
        paging = _Paging(query.limit, query.offset)
        for start_ns, stop_ns in portion.slices[:: -1 if query.descending else 1]:
            asked = replace(paging.ask(query), start_ns=start_ns, stop_ns=stop_ns)
            one = replace(portion, slices=((start_ns, stop_ns),))
            async with aclosing(self._at_once(asked, measured, names, one)) as answers:
                async for task, answer in answers:
                    yield task, paging.take(answer)
            if paging.full:
                return

    async def _at_once(
        self,
        query: Query,
        measured: Measured,
        names: Sequence[str],
        portion: Portion,
        run: Callable[[Task], Answer] | None = None,
    ) -> AsyncGenerator[tuple[Task, Answer], None]:
        """All slices of the portion together, worked out by *run*, ``Task.run`` if it is None."""
        table, generation = measured.table, measured.generation
        with self._budget.claim() as claim:
            self._enter(Phase.READING)
            gathered: list[Piece] = []
            for start_ns, stop_ns in portion.slices:
                measured, pieces = await self._read(query, measured, names, start_ns, stop_ns)
                if measured.generation != generation:
                    raise Unavailable(f"cannot read {measured.name!r}: it was dropped meanwhile")
                found = await asyncio.to_thread(_gather, pieces, portion, start_ns, stop_ns)
                size = sum(piece.nbytes for piece in found)
                self._reader.make_room(size)
                claim.take(size)
                gathered += found
            task = Task(query, Source(measured.name, table, gathered))
            answer = await self._work(task, run)
            with self._held(_answer_bytes(answer)):
                yield task, answer

    # ------------------------------------------------------------ limits

    async def _count_series(self, query: Query, measured: Measured) -> Mask | None:
        """The series to be read, None = all; counted before rows are read."""
        limit = self._context.limits.series
        cost = self._context.running.cost
        source = Source(measured.name, measured.table, ())
        asked = replace(query, slimit=0, soffset=0) if query.slimit or query.soffset else query
        if _is_quick(query, measured.table.count):
            wanted = choose_series(source, asked)
        else:
            wanted = await asyncio.to_thread(choose_series, source, asked)
        cost.series += measured.table.count if wanted is None else int(np.count_nonzero(wanted))
        if limit and cost.series > limit:
            raise Invalid(f"max-select-series limit exceeded: ({cost.series}/{limit})")
        return wanted

    def _count_needs(self, measured: Measured, names: Sequence[str], start_ns: int, stop_ns: int) -> None:
        needs = needs_of(measured, names, start_ns, stop_ns)
        cost = self._context.running.cost
        cost.segments_read += needs.read
        cost.segments_skipped += needs.skipped
        cost.bytes_read += needs.stored_bytes

    def _count_points(self, rows: int) -> None:
        limit = self._context.limits.points
        cost = self._context.running.cost
        cost.rows_scanned += rows
        if limit and cost.rows_scanned > limit:
            # The text is misspelt in InfluxDB too.
            raise Invalid(f"max-select-point limit exceed: ({cost.rows_scanned}/{limit})")

    def _held(self, size: int) -> Claim:
        """Hold *size* bytes of the budget for the length of a with block; what is cached gives way."""
        self._reader.make_room(size)
        return self._budget.held(size)

    # ------------------------------------------------------------ as a whole

    async def _task(
        self, query: Query, entries: Sequence[Entry], wanted: Sequence[Mask | None], told: statistics.Told | None
    ) -> Task:
        names = query.fields_read
        start_ns, stop_ns = range_read(query)
        sources = []
        for entry in entries:
            if entry.derived is not None:
                split = [key for key in query.keys if key in entry.schema.tag_columns]
                sources.append(split_by_columns(entry.derived, split))
            elif entry.measured is not None and told is not None:
                sources.append(await self._read_told(query, entry.measured, told))
            elif entry.measured is not None:
                self._count_needs(entry.measured, names, start_ns, stop_ns)
                measured, pieces = await self._read(query, entry.measured, names, start_ns, stop_ns)
                sources.append(Source(entry.name, measured.table, pieces))
        source, only = combine(sources), entries[0].measured if len(entries) == 1 else None
        if only is not None and source.table is only.table and not (query.slimit or query.soffset):
            return Task(query, source, wanted[0])
        return Task(query, source)

    async def _work(self, task: Task, run: Callable[[Task], Answer] | None = None) -> Answer:
        run = run or Task.run
        self._enter(Phase.AGGREGATING)
        if _is_quick(task.query, task.source.table.count):
            rows = task.choose()
        else:
            rows = await asyncio.to_thread(task.choose)
        self._count_points(rows)
        with self._held(rows * row_bytes(task.query)):
            if rows <= ROWS_ON_LOOP and _is_quick(task.query, task.source.table.count):
                answer = run(task)
            else:
                answer = await asyncio.to_thread(run, task)
        self._enter(Phase.PLANNING)
        return answer

    def _enter(self, phase: Phase) -> None:
        self._context.running.enter(phase)


def _is_quick(query: Query, series: int) -> bool:
    """Whether the choice of series is no work for a thread: patterns are linear, but some take long for each letter."""
    return series <= SERIES_ON_LOOP and not query.has_pattern


def _gather(pieces: Iterable[Piece], portion: Portion, start_ns: int, stop_ns: int) -> list[Piece]:
    """The wanted rows of *pieces*; of their own, so that the rest can go, where they are kept for long."""
    found = (gather_piece(piece, portion.wanted, start_ns, stop_ns, copy=not portion.by_slice) for piece in pieces)
    return [piece for piece in found if len(piece.times)]


def _answer_bytes(answer: Answer) -> int:
    return answer.groups.nbytes + answer.times.nbytes + sum(column.nbytes for column in answer.columns)


# ---------------------------------------------------------------- what a query reads


def range_read(query: Query) -> Range:
    """The times that *query* reads: its own and as far outside as transformations of windows look."""
    back_ns = _back_ns(query)
    stop_ns = query.stop_ns + (back_ns if query.descending else 0)
    return max(query.start_ns - back_ns, MIN_TIME_NS, query.visible_from_ns), min(stop_ns, (1 << 63) - 1)


def _back_ns(query: Query) -> int:
    """How far outside the range transformations of windows look, at most."""
    if query.windows is None:
        return 0
    steps = 0
    for leaf in query.leaves:
        deep = 0
        while isinstance(leaf, Call):
            deep += int(leaf.options[0]) if leaf.name == "moving_average" else 1
            leaf = leaf.argument
        steps = max(steps, deep)
    return steps * query.windows.width_ns
