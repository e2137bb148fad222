"""Both forms of the parser against a plain reading of the page about line protocol. FUZZ_LINES=1000000 for more."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.lineprotocol import compiled
from common.lineprotocol.format import Point, points_of
from common.lineprotocol.kernels import PLAIN, Kernels, current, use
from common.lineprotocol.parse import Body, Parsed, parse
from tests.unit.common.lineprotocol import oracle
from tests.unit.common.lineprotocol.lines import random_body

KEY = bytes(range(16))
LINES = int(os.environ.get("FUZZ_LINES", "20000"))
PLAIN_LINES = LINES // 10
UNITS = (1, 1000, 10**6, 10**9)


@pytest.fixture(params=["plain", "compiled"], scope="module")
def kernels(request: pytest.FixtureRequest) -> Iterator[Kernels]:
    compiled.prepare()
    machine = current()
    use(PLAIN if request.param == "plain" else machine)
    yield current()
    use(machine)


def exact(point: Point) -> tuple[object, ...]:
    """Equal only when doubles are equal bit by bit."""
    fields = [
        (name, type_, struct.pack("<d", value) if isinstance(value, float) else value)
        for name, type_, value in point.fields
    ]
    return point.measurement, point.tags, fields, point.time_ns


def check(bodies: list[Body], parsed: Parsed) -> None:
    """Hold what was parsed against the plain reading of each body."""
    points = points_of(parsed)
    where = list(zip(parsed.body.tolist(), parsed.line.tolist(), strict=True))
    got = [(place, exact(point)) for place, point in zip(where, points, strict=True)]
    errors = [(error.body, error.line, error.text, error.reason) for error in parsed.errors]
    wanted, wanted_errors = [], []
    for index, body in enumerate(bodies):
        good, bad = oracle.read(body)
        wanted += [((index, line), exact(point)) for line, point in good]
        wanted_errors += [(index, line, text.decode("utf-8", "replace"), reason) for line, text, reason in bad]
    assert errors == wanted_errors
    assert got == wanted


def test_random_lines_read_as_plainly_read(kernels: Kernels) -> None:
    seed = int(os.environ.get("FUZZ_SEED", "1"))
    random_ = random.Random(seed)
    left = LINES if kernels.compiled else PLAIN_LINES
    while left > 0:
        bodies = [
            Body(random_body(random_, random_.randrange(12)), random_.choice(UNITS), 1700000000123456789)
            for _ in range(random_.randrange(1, 20))
        ]
        left -= max(1, sum(body.data.count(b"\n") for body in bodies))
        check(bodies, parse(bodies, KEY))


@given(data=st.binary(max_size=200))
def test_any_bytes_read_as_plainly_read(kernels: Kernels, data: bytes) -> None:
    body = Body(data, 1, 5)
    check([body], parse([body], KEY))


@given(data=st.text(alphabet='m,t= v1i"\\\n\r\t\0#-.eTx', max_size=60))
def test_any_text_of_the_grammars_letters_reads_as_plainly_read(kernels: Kernels, data: str) -> None:
    body = Body(data.encode(), 1000, 5)
    check([body], parse([body], KEY))
