"""``python -m services.export``: a bucket, some measurements, or the answer to a query as Parquet files.

A client of the public HTTP API: it needs a token that may read the bucket, and nothing of the data folder. A
measurement is read in slices of time, shard by shard, each a few hundred thousand rows, so that neither side holds
much at once. What is written while it runs may or may not be in the files.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from common.errors import InfluxError
from common.model import MAX_TIME_NS, MIN_TIME_NS
from common.times import parse_rfc3339
from services.export.answers import Asker, ExportFailed, Source, quote
from services.export.files import ParquetFile, file_name
from services.export.slices import Slices
from services.export.tables import Batch, Layout, Series

BATCH_ROWS = 100_000
URL = "http://localhost:8086"


@dataclass(frozen=True, slots=True)
class Span:
    """Which times are to be exported, half open."""

    start_ns: int
    stop_ns: int


async def export_measurement(asker: Asker, name: str, path: Path, span: Span) -> ParquetFile:
    """Write the points of a measurement."""
    tags = [row[0] for row in await asker.rows(f"SHOW TAG KEYS FROM {quote(name)}")]
    fields = [(row[0], row[1]) for row in await asker.rows(f"SHOW FIELD KEYS FROM {quote(name)}")]
    layout = Layout.of(tags, fields)
    with ParquetFile(path, list(layout.tags.values())) as file:
        await _fill(file, _points(asker, name, span), layout)
    return file


async def _points(asker: Asker, name: str, span: Span) -> AsyncIterator[Series]:
    for shard_start_ns, shard_stop_ns in await _shards(asker, span):
        slices = Slices(shard_start_ns, shard_stop_ns)
        while (window := slices.window()) is not None:
            start_ns, stop_ns = window
            q = f"SELECT * FROM {quote(name)} WHERE time >= {start_ns} AND time < {stop_ns} GROUP BY *"  # noqa: S608
            rows = 0
            async for series in asker.series(q):
                rows += len(series.rows)
                yield series
            slices.done(rows)


async def _shards(asker: Asker, span: Span) -> list[tuple[int, int]]:
    """The spans of time of the database that hold points, within what is asked for."""
    try:
        rows = await asker.rows("SHOW SHARDS")
    except ExportFailed:
        # A server without 1.x administration: all at once then.
        return [(span.start_ns, span.stop_ns)]
    spans = {(parse_rfc3339(row[4]), parse_rfc3339(row[5])) for row in rows if row[1] == asker.database}
    cut = ((max(start, span.start_ns), min(stop, span.stop_ns)) for start, stop in sorted(spans))
    return [(start, stop) for start, stop in cut if start < stop]


async def export_query(asker: Asker, q: str, path: Path) -> ParquetFile:
    """Write the answer to a statement: time, measurement, tags, columns."""
    with ParquetFile(path, ()) as file:
        await _fill(file, asker.series(q), None)
    return file


async def _fill(file: ParquetFile, points: AsyncIterator[Series], layout: Layout | None) -> None:
    batch = Batch(layout)
    async for series in points:
        batch.add(series)
        if batch.rows >= BATCH_ROWS:
            await asyncio.to_thread(file.add, batch)
            batch = Batch(layout)
    if batch.rows:
        await asyncio.to_thread(file.add, batch)
    await asyncio.to_thread(file.finish)


async def run(arguments: argparse.Namespace) -> None:
    source = Source(arguments.host.rstrip("/"), _token(arguments), arguments.bucket, arguments.rp)
    span = Span(_time(arguments.start, MIN_TIME_NS), _time(arguments.stop, MAX_TIME_NS))
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        asker = Asker(session, source)
        if arguments.query:
            path = arguments.output if arguments.output.suffix else arguments.output / "query.parquet"
            _tell(path, await export_query(asker, arguments.query, path))
            return
        names = arguments.measurement or [row[0] for row in await asker.rows("SHOW MEASUREMENTS")]
        if not names:
            raise ExportFailed(f"no measurement in {arguments.bucket}, or no such bucket that the token may read")
        for name in names:
            path = arguments.output / file_name(name)
            _tell(path, await export_measurement(asker, name, path, span))


def _tell(path: Path, file: ParquetFile) -> None:
    print(f"{path}\t{file.rows} rows" if file.rows else f"{path}\tnot written: no rows")


def _token(arguments: argparse.Namespace) -> str:
    if arguments.token_file:
        return str(arguments.token_file.read_text().strip())
    return os.environ.get("INFLUX_TOKEN", "")


def _time(text: str | None, default: int) -> int:
    if text is None:
        return default
    try:
        return int(text) if text.lstrip("-").isdecimal() else parse_rfc3339(text)
    except ValueError:
        raise ExportFailed(f"{text} is no time: RFC 3339 or ns since the epoch is wanted") from None


def parse_arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m services.export",
        description="Export points as Parquet, one file a measurement. The token comes from INFLUX_TOKEN or a file.",
    )
    parser.add_argument(
        "--host", default=os.environ.get("INFLUX_HOST", "http://localhost:8086"), help="URL of Tidegate"
    )
    parser.add_argument("--token-file", type=Path, help="file that holds the token")
    parser.add_argument("--bucket", required=True, help="bucket, or database of 1.x")
    parser.add_argument("--rp", default="", help="retention policy of the database")
    parser.add_argument("--measurement", action="append", help="only this one; may be given several times")
    parser.add_argument("--start", help="first time, RFC 3339 or ns since the epoch")
    parser.add_argument("--stop", help="time after the last one")
    parser.add_argument("--query", help="export the answer to this InfluxQL statement instead")
    parser.add_argument("--output", type=Path, default=Path(), help="folder, or with --query the file")
    return parser.parse_args(given)


def main() -> None:
    try:
        asyncio.run(run(parse_arguments()))
    except (ExportFailed, InfluxError, OSError) as error:
        sys.exit(f"cannot export: {error}")


if __name__ == "__main__":
    main()
