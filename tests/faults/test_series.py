"""A million series and a restart (L12), and a writer that makes series without end (B19)."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.faults.report import case, rounds
from tests.faults.test_load import memory_bytes
from tests.stack import Stack

BATCH = 20_000


def body(first: int) -> bytes:
    """A point of each of BATCH new series."""
    return "\n".join(
        f"cpu,host=h{number},rack=r{number % 100} v={number}i 1" for number in range(first, first + BATCH)
    ).encode()


@pytest.mark.timeout(600)
def test_a_start_with_a_million_series(own_stack: Stack) -> None:
    series = rounds(50) * BATCH
    own_stack.make_bucket("many")
    for first in range(0, series, BATCH):
        assert own_stack.write(body(first), "many").status_code == 204
    largest = memory_bytes(own_stack)
    assert own_stack.stop() == 0
    began = time.monotonic()
    own_stack.start()
    ready_s = time.monotonic() - began
    counted = own_stack.rows("SHOW SERIES EXACT CARDINALITY", "many")[0][0]
    case(
        "L12",
        f"series={series} ready_s={ready_s:.1f} counted={counted} before_mb={largest >> 20} "
        f"after_mb={memory_bytes(own_stack) >> 20}",
        "10 s, exact",
        ready_s <= 10 and counted == series,
    )


@pytest.mark.timeout(600)
def test_a_writer_that_makes_series_without_end(tmp_path: Path) -> None:
    limit = 5 * BATCH
    stack = Stack(tmp_path / "stack", {"TIDEGATE_MAX_SERIES_PER_BUCKET": str(limit)}).start()
    try:
        stack.make_bucket("bomb")
        stack.make_bucket("other")
        texts: set[str] = set()
        statuses: list[int] = []
        others: list[tuple[float, int]] = []
        for number in range(5 + rounds(15)):
            answer = stack.write(body(number * BATCH + 7), "bomb")
            statuses.append(answer.status_code)
            if answer.status_code != 204:
                texts.add(answer.json()["error"])
            began = time.monotonic()
            status = stack.write(f"cpu,host=a v={number}i {number + 1}", "other").status_code
            others.append((time.monotonic() - began, status))
        counted = stack.rows("SHOW SERIES EXACT CARDINALITY", "bomb")[0][0]
        # Series that are there go on.
        again = stack.write("cpu,host=h7,rack=r7 v=1i 2", "bomb").status_code
        kept = stack.rows("SELECT count(v) FROM cpu", "other")[0][1]
        case(
            "B19",
            f"limit={limit} tried={len(statuses) * BATCH} series={counted} statuses={sorted(set(statuses))} "
            f"text={sorted(texts)[:1]} known_again={again} other={sorted({status for _, status in others})} "
            f"other_worst_s={max(others)[0]:.2f} memory_mb={memory_bytes(stack) >> 20}",
            "refused at the limit with its text, others unhurt",
            counted == limit and set(statuses) == {204, 422} and again == 204 and kept == len(others)
            and all("max-series-per-database limit exceeded" in text for text in texts),
        )  # fmt: skip
    finally:
        stack.stop()
