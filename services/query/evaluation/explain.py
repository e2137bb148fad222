"""EXPLAIN and EXPLAIN ANALYZE: what a SELECT would read, and what reading it has cost.

EXPLAIN has InfluxDB's lines with these meanings: *cached values* are those of commits that compaction has not taken
up yet, *files* are compacted segments, *blocks* their column chunks that would be read, in bytes as stored.
Source: spec/influxql.md, 13.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from common.segment import COUNT, LENGTH
from common.times import format_go_duration
from services.query.context import QueryContext
from services.query.control.queries import Phase
from services.query.engine.scan import Source, choose_series
from services.query.engine.spec import Call, Query, Ref, RefKind
from services.query.influxql.format import format_ident, format_number, format_string
from services.query.reading import units
from services.query.reading.held import Measured
from services.query.render.result import Kind, ResultColumn, ResultSeries


@dataclass(frozen=True, slots=True)
class Needs:
    """What a query over one measurement reads: counts, and bytes as stored."""

    shards: int = 0
    read: int = 0
    skipped: int = 0
    cached_values: int = 0
    files: int = 0
    blocks: int = 0
    block_bytes: int = 0
    stored_bytes: int = 0


def needs_of(measured: Measured, names: Sequence[str], start_ns: int, stop_ns: int) -> Needs:
    """What the fields *names* of a measurement cost in ``[start_ns, stop_ns)``."""
    shards = read = skipped = cached = files = blocks = block_bytes = stored = 0
    for (shard_start, shard_stop), segments in measured.shards.items():
        touched = shard_start < stop_ns and shard_stop > start_ns
        # As the reader has it: the small segments of a shard are one unit.
        needed = [
            segment
            for segment in segments
            if touched
            and (segment.rows < units.SMALL_ROWS or (segment.min_ns < stop_ns and segment.max_ns >= start_ns))
        ]
        shards += bool(needed)
        read += len(needed)
        skipped += len(segments) - len(needed)
        for segment in needed:
            chunks = segment.meta["chunks"]
            entries = [chunks[segment.chunks[name][0]] for name in names if name in segment.chunks]
            stored += sum(chunks[index][LENGTH] for index in units.STRUCTURE) + sum(entry[LENGTH] for entry in entries)
            if segment.meta["level"] == 0:
                cached += sum(entry[COUNT] for entry in entries)
            else:
                files += 1
                blocks += len(entries)
                block_bytes += sum(entry[LENGTH] for entry in entries)
    return Needs(shards, read, skipped, cached, files, blocks, block_bytes, stored)


def describe(query: Query, measured: Measured, start_ns: int, stop_ns: int) -> Iterator[list[str]]:
    """The lines of each thing that is read: one a call of the query, or one for its plain columns."""
    calls = list(dict.fromkeys(_innermost(leaf) for leaf in query.leaves if isinstance(leaf, Call)))
    plain = [leaf for leaf in query.leaves if isinstance(leaf, Ref)]
    everything = replace(query, slimit=0, soffset=0)
    wanted = choose_series(Source(measured.name, measured.table, ()), everything)
    series = measured.table.count if wanted is None else int(wanted.sum())
    things: list[Call | None] = [*calls] or [None]
    for call in things:
        refs = plain if call is None else [*_refs(call), *plain]
        names = sorted({ref.name for ref in refs if ref.kind is RefKind.FIELD})
        needs = needs_of(measured, names, start_ns, stop_ns)
        lines = [f"EXPRESSION: {'<nil>' if call is None else _format_call(call)}"]
        if plain:
            lines.append(f"AUXILIARY FIELDS: {', '.join(map(_format_ref, plain))}")
        yield [
            *lines,
            f"NUMBER OF SHARDS: {needs.shards}",
            f"NUMBER OF SERIES: {series if needs.read else 0}",
            f"CACHED VALUES: {needs.cached_values}",
            f"NUMBER OF FILES: {needs.files}",
            f"NUMBER OF BLOCKS: {needs.blocks}",
            f"SIZE OF BLOCKS: {needs.block_bytes}",
        ]


def _innermost(call: Call) -> Call:
    while isinstance(call.argument, Call):
        call = call.argument
    return call


def _refs(call: Call) -> Iterator[Ref]:
    if isinstance(call.argument, Ref):
        yield call.argument
    yield from call.tags


def _format_ref(ref: Ref) -> str:
    if ref.kind is RefKind.UNKNOWN:
        return format_ident(ref.name)
    return f"{format_ident(ref.name)}::{'tag' if ref.kind is RefKind.TAG else ref.type.word}"


def _format_call(call: Call) -> str:
    if call.name in ("count_distinct", "count_hll"):
        inner = "distinct" if call.name == "count_distinct" else "sum_hll"
        return f"count({inner}({', '.join(map(_format_ref, _refs(call)))}))"
    options = (format_string(each) if isinstance(each, str) else _format_number(each) for each in call.options)
    return f"{call.name}({', '.join((*map(_format_ref, _refs(call)), *options))})"


def _format_number(value: int | float) -> str:
    return str(value) if isinstance(value, int) else format_number(value)


def _table(name: str, lines: Sequence[str]) -> ResultSeries:
    return ResultSeries(None, (), (ResultColumn(name, Kind.STRING, lines),))


def plan_table(descriptions: Iterable[list[str]]) -> ResultSeries | None:
    """The answer of EXPLAIN: what is read, an empty line between."""
    lines: list[str] = []
    for description in descriptions:
        lines += ["", *description] if lines else description
    return _table("QUERY PLAN", lines) if lines else None


async def analyze(answer: AsyncIterator[ResultSeries], context: QueryContext) -> ResultSeries:
    """Run a SELECT to its end, drop what it answers and tell what it has cost."""
    running = context.running
    before = dict(running.cost.seconds)
    told = 0
    async for series in answer:
        told += series.rows
    running.enter(Phase.PLANNING)
    cost = running.cost
    took = {phase: int((cost.seconds[phase] - before[phase]) * 1e9) for phase in Phase}
    planning = took[Phase.PLANNING]
    execution = took[Phase.READING] + took[Phase.AGGREGATING]
    facts = [
        f"execution_time: {format_go_duration(execution)}",
        f"planning_time: {format_go_duration(planning)}",
        f"total_time: {format_go_duration(planning + execution)}",
    ]
    stages = {
        "read": [
            f"time: {format_go_duration(took[Phase.READING])}",
            f"segments_read: {cost.segments_read}",
            f"segments_skipped: {cost.segments_skipped}",
            f"segments_told: {cost.segments_told}",
            f"bytes: {cost.bytes_read}",
        ],
        "aggregate": [
            f"time: {format_go_duration(took[Phase.AGGREGATING])}",
            f"series: {cost.series}",
            f"rows_scanned: {cost.rows_scanned}",
            f"rows_told: {told}",
        ],
    }
    lines = [".", "└── select", *(f"    ├── {fact}" for fact in facts)]
    for number, (stage, details) in enumerate(stages.items(), 1):
        last = number == len(stages)
        lines.append(f"    {'└' if last else '├'}── {stage}")
        lead = "    " if last else "│   "
        lines += [f"    {lead}{'└' if i == len(details) else '├'}── {text}" for i, text in enumerate(details, 1)]
    return _table("EXPLAIN ANALYZE", lines)
