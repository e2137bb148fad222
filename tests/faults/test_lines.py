"""A million lines of line protocol, read by the compiled parser, by the plain one, and by an independent reading of the
page about it (B10)."""

from __future__ import annotations

import random

import pytest

from common.lineprotocol import compiled
from common.lineprotocol.kernels import PLAIN, current, use
from common.lineprotocol.parse import Body, parse
from tests.faults.report import case, rounds
from tests.unit.common.lineprotocol.lines import random_body
from tests.unit.common.lineprotocol.test_oracle import KEY, UNITS, check

LINES_A_ROUND = 50_000
NOW_NS = 1_700_000_000_123_456_789


@pytest.mark.timeout(1800)
def test_three_readings_of_a_million_lines() -> None:
    wanted = rounds(20) * LINES_A_ROUND
    compiled.prepare()
    machine = current()
    draw = random.Random(10)
    lines = points = bad = differences = 0
    first = ""
    try:
        while lines < wanted:
            bodies = [
                Body(random_body(draw, draw.randrange(12)), draw.choice(UNITS), NOW_NS)
                for _ in range(draw.randrange(1, 20))
            ]
            lines += sum(body.data.count(b"\n") + 1 for body in bodies)
            for kernels in (machine, PLAIN):
                use(kernels)
                parsed = parse(bodies, KEY)
                try:
                    check(bodies, parsed)
                except AssertionError as error:
                    differences += 1
                    first = first or str(error)[:300]
            points += parsed.rows
            bad += len(parsed.errors)
    finally:
        use(machine)
    case(
        "B10",
        f"lines={lines} points={points} refused={bad} compiled={machine.compiled} differences={differences} {first}",
        "0 differences among the compiled, the plain and the independent reading",
        not differences and machine.compiled and points > lines // 10 and bad > 0,
    )
