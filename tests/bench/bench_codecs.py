"""Size and speed of the codecs, the merge and the dictionary: the numbers of docs/decisions/0001-codecs.md.

``python -m tests.bench.bench_codecs``. A million values a row; best of five; one core.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np
from isal.isal_zlib import crc32

from common.codecs.ints import encode_times
from common.merge import merge_blocks
from common.model import FieldType
from common.segment import (
    Block,
    Column,
    StringArray,
    decode_block,
    decode_column,
    decode_dictionary_arrays,
    decode_times,
    encode_block,
    encode_dictionary,
)

DICE = np.random.default_rng(1)
SERIES, EACH = 1000, 1000
ROWS = SERIES * EACH
START_NS, STEP_NS = 1_700_000_000 * 10**9, 10**10


def best(run: Callable[[], Any], times: int = 5) -> tuple[float, Any]:
    """Seconds of the quickest run, and its result."""
    quickest, result = float("inf"), None
    for _ in range(times):
        began = time.perf_counter()
        result = run()
        quickest = min(quickest, time.perf_counter() - began)
    return quickest, result


def walks(sigma: float) -> Any:
    steps = np.rint(DICE.normal(0, sigma, (SERIES, EACH)))
    return (np.cumsum(steps, axis=1) + DICE.integers(0, 100, SERIES)[:, None]).astype(np.int64).reshape(-1)


def columns() -> dict[str, tuple[FieldType, Any]]:
    unit = np.cumsum(DICE.integers(-1, 2, (SERIES, EACH)), axis=1).reshape(-1)
    counters = np.cumsum(DICE.integers(0, 1000, (SERIES, EACH)), axis=1) + DICE.integers(0, 1 << 40, SERIES)[:, None]
    decimals = np.round(DICE.random(ROWS) * 100, 2)
    return {
        "integers, random 0 to 99": (FieldType.INTEGER, DICE.integers(0, 100, ROWS)),
        "integers, random 12 bits": (FieldType.INTEGER, DICE.integers(0, 4096, ROWS)),
        "integers, 0 or 1": (FieldType.INTEGER, DICE.integers(0, 2, ROWS)),
        "integers, walk of -1, 0, 1": (FieldType.INTEGER, unit),
        "integers, walk, normal steps": (FieldType.INTEGER, walks(1)),
        "integers, counter, steps to 999": (FieldType.INTEGER, counters.reshape(-1)),
        "integers, constant a series": (FieldType.INTEGER, DICE.integers(0, 1 << 40, SERIES).repeat(EACH)),
        "integers, 0.1 % outliers": (
            FieldType.INTEGER,
            np.where(DICE.random(ROWS) < 0.001, 1 << 40, DICE.integers(0, 100, ROWS)),
        ),
        "integers, any 64 bits": (FieldType.INTEGER, DICE.integers(-(2**63), 2**63 - 1, ROWS)),
        "floats, two decimals": (FieldType.FLOAT, decimals),
        "floats, 1 % not decimal": (FieldType.FLOAT, np.where(DICE.random(ROWS) < 0.01, DICE.random(ROWS), decimals)),
        "floats, walk in tenths": (FieldType.FLOAT, np.round(unit / 10, 1)),
        "floats, 1,000 ratios": (FieldType.FLOAT, 100 * DICE.integers(0, 1000, ROWS) / 997),
        "floats, any": (FieldType.FLOAT, DICE.random(ROWS) * 100),
        "booleans, random": (FieldType.BOOLEAN, DICE.random(ROWS) < 0.5),
        "booleans, 1 % true": (FieldType.BOOLEAN, DICE.random(ROWS) < 0.01),
        "strings, one of three": (FieldType.STRING, strings([b"on", b"off", b"error"], 3)),
        "strings, one of 100 hosts": (FieldType.STRING, strings([b"host_%d" % n for n in range(100)], 100)),
        "strings, all different": (FieldType.STRING, strings([b"call %d, %d" % (n, n % 997) for n in range(ROWS)], 0)),
    }  # fmt: skip


def strings(words: list[bytes], of: int) -> StringArray:
    chosen = [words[n] for n in DICE.integers(0, of, ROWS)] if of else words
    offsets = np.zeros(len(chosen) + 1, np.int64)
    np.cumsum([len(word) for word in chosen], out=offsets[1:])
    return StringArray(offsets, np.frombuffer(b"".join(chosen), np.uint8))


def report(name: str, size: Callable[[int], tuple[float, float, float]]) -> None:
    cells = [f"{size_:8.4f} B {encoded:6.0f} {decoded:6.0f}" for size_, encoded, decoded in (size(0), size(1))]
    print(f"{name:34}", " | ".join(cells))


def measure_columns() -> None:
    print(f"{'bytes a value, M values/s in, out':34} {'level 0':^24} | {'level 1':^24}")
    one = np.zeros((1, 2), np.uint64)
    offsets, times_ns = np.array([0, ROWS]), np.arange(ROWS)
    for name, (kind, values) in columns().items():
        block = Block("b", "m", 0, 1, one, offsets, times_ns, (Column("x", kind, values),))
        bare = Block("b", "m", 0, 1, one, offsets, times_ns, ())

        def size(level: int, block: Block = block, bare: Block = bare) -> tuple[float, float, float]:
            # What the ids and times of the same block cost is taken off.
            whole_s, (meta, chunks) = best(lambda: encode_block(block, level), 3)
            bare_s, _ = best(lambda: encode_block(bare, level), 3)
            out_s, _ = best(lambda: decode_column(meta, 3, chunks[3]))
            return len(chunks[3]) / ROWS, ROWS / max(whole_s - bare_s, 1e-9) / 1e6, ROWS / out_s / 1e6

        report(name, size)


def measure_times() -> None:
    regular = np.tile(START_NS + np.arange(EACH) * STEP_NS, SERIES)
    shapes = {
        "times, every 10 s": regular,
        "times, jitter of ms": regular + DICE.integers(0, 1000, ROWS) * 10**6,
        "times, jitter of ns": regular + DICE.integers(0, 10**9, ROWS),
    }
    for name, times_ns in shapes.items():

        def size(level: int, times_ns: Any = times_ns) -> tuple[float, float, float]:
            in_s, chunk = best(lambda: encode_times(times_ns, level), 3)
            meta = {"format": 1, "rows": ROWS, "chunks": [[0, 0], [0, 0], [len(chunk), crc32(chunk)]]}
            out_s, _ = best(lambda: decode_times(meta, chunk))
            return len(chunk) / ROWS, ROWS / in_s / 1e6, ROWS / out_s / 1e6

        report(name, size)


def cpu_block(hosts: int, times_ns: Any, kind: FieldType = FieldType.INTEGER) -> Block:
    rows = hosts * len(times_ns)
    ids = np.arange(hosts, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    ids.sort()
    numbers = DICE.integers(0, 100, (10, rows))
    return Block(
        "00000000000000aa",
        "cpu",
        0,
        2 * START_NS,
        np.stack([ids, ids], 1),
        np.arange(hosts + 1) * len(times_ns),
        np.tile(times_ns, hosts),
        tuple(
            Column(f"usage_{n}", kind, numbers[n] if kind is FieldType.INTEGER else numbers[n] / 7) for n in range(10)
        ),
    )


def measure_blocks() -> None:
    print()
    for hosts, each in ((1, 1), (10, 1), (100, 1), (1000, 10)):
        for kind in (FieldType.INTEGER, FieldType.FLOAT):
            block = cpu_block(hosts, START_NS + np.arange(each) * STEP_NS, kind)
            in_s, (meta, chunks) = best(lambda block=block: encode_block(block, 0), 50)
            out_s, _ = best(lambda meta=meta, chunks=chunks: decode_block(meta, chunks), 50)
            sizes = f"meta {len(msgpack.packb(meta))} B, chunks {sum(map(len, chunks))} B"
            speeds = f"in {in_s * 1e6:.0f} us, out {out_s * 1e6:.0f} us"
            print(f"commit of {block.rows} rows × 10 {kind.word}s: {speeds}, {sizes}")
    for overlap in (0, 1):
        commits = [cpu_block(SERIES, START_NS + (np.arange(10) + n * (10 - overlap)) * STEP_NS) for n in range(100)]
        merge_s, merged = best(lambda commits=commits: merge_blocks(commits), 3)
        encode_s, (_, chunks) = best(lambda merged=merged: encode_block(merged, 1), 3)
        size = sum(map(len, chunks)) / merged.rows / 10
        print(
            f"100 commits of 10,000 rows × 10, {overlap} of 10 times doubled: merged in {merge_s * 1e3:.0f} ms, "
            f"encoded in {encode_s * 1e3:.0f} ms, {size:.3f} B a value"
        )
    ids = DICE.integers(0, 2**63, (100_000, 2)).astype(np.uint64)
    keys = [b"host=host_%d,region=eu-%d" % (n, n % 7) for n in range(100_000)]
    in_s, part = best(lambda: encode_dictionary(ids, keys))
    out_s, _ = best(lambda: decode_dictionary_arrays(part))
    print(f"dictionary of 100,000 series: in {in_s * 1e3:.1f} ms, out {out_s * 1e3:.2f} ms, {len(part)} B")


if __name__ == "__main__":
    measure_columns()
    measure_times()
    measure_blocks()
