"""The hosts' cpu table: 10 tags and 10 integer fields a line, 343 bytes, as line protocol · pure.

The shape is that of the Time Series Benchmark Suite's cpu-only case; the values are our own, from a seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np

START_NS = 1_451_606_400_000_000_000  # 2016-01-01T00:00:00Z
STEP_NS = 10_000_000_000
FIELDS = (
    "usage_user", "usage_system", "usage_idle", "usage_nice", "usage_iowait",
    "usage_irq", "usage_softirq", "usage_steal", "usage_guest", "usage_guest_nice",
)  # fmt: skip
_REGIONS = ("us-east-1", "us-west-1", "us-west-2", "eu-west-1", "eu-central-1", "ap-southeast-1", "sa-east-1")
_OSES = ("Ubuntu16.10", "Ubuntu16.04LTS", "Ubuntu15.10")
_TEAMS = ("SF", "NYC", "LON", "CHI")
_STAGES = ("production", "staging", "test")


HOSTS = 1000
# Shapes of values of which the bytes on disk are measured.
SHAPES = ("ints", "walks", "hosts")


def hosts(count: int, first: int = 0) -> list[str]:
    """Measurement and tags of *count* hosts."""
    rng = np.random.default_rng(first)
    tags = []
    for host in range(first, first + count):
        region = _REGIONS[host % len(_REGIONS)]
        tags.append(
            f"cpu,arch=x{rng.choice((64, 86))},datacenter={region}{'abc'[host % 3]},hostname=host_{host},"
            f"os={_OSES[host % 3]},rack={rng.integers(100)},region={region},service={rng.integers(20)},"
            f"service_environment={_STAGES[host % 3]},service_version={host % 2},team={_TEAMS[host % 4]}"
        )
    return tags


def lines(tags: list[str], steps: int, first_step: int = 0, seed: int = 1) -> Iterator[bytes]:
    """One line a host and step, step by step; integers 0–99 at random."""
    rng = np.random.default_rng(seed)
    template = ",".join(f"{field}=%di" for field in FIELDS)
    for step in range(first_step, first_step + steps):
        values = rng.integers(0, 100, (len(tags), len(FIELDS))).tolist()
        time_ns = START_NS + step * STEP_NS
        for host, row in zip(tags, values, strict=True):
            yield f"{host} {template % tuple(row)} {time_ns}\n".encode()


def many_series(count: int) -> Iterator[bytes]:
    """One point in each of *count* series of four tags."""
    for number in range(count):
        yield (
            f"cpu,device=d{number},firmware=v{number % 7},room=r{number % 1000},site=s{number % 50} "
            f"usage_user={number % 100}i {START_NS}\n"
        ).encode()


def shaped(shape: str, values: int, seed: int = 3) -> Iterator[bytes]:
    """*values* values of a shape, every ten seconds: 10 fields of 1,000 hosts, or of 100 series.

    Args:
        shape: ``hosts``, the table; ``ints``, integers 0-99 at random; ``walks``, floats that change by -1, 0 or 1.
    """
    if shape == "hosts":
        yield from lines(hosts(HOSTS), values // (HOSTS * len(FIELDS)), seed=seed)
        return
    rng = np.random.default_rng(seed)
    template = ",".join(f"{field}=%d{'i' if shape == 'ints' else ''}" for field in FIELDS)
    level = np.zeros((100, len(FIELDS)), np.int64)
    for step in range(values // level.size):
        level = rng.integers(0, 100, level.shape) if shape == "ints" else level + rng.integers(-1, 2, level.shape)
        time_ns = START_NS + step * STEP_NS
        for series, row in enumerate(level.tolist()):
            yield f"{measurement_of(shape)},series=s{series} {template % tuple(row)} {time_ns}\n".encode()


def measurement_of(shape: str) -> str:
    """Where the points of a shape are."""
    return "cpu" if shape == "hosts" else shape


def iter_bodies(all_lines: Iterator[bytes], lines_a_body: int) -> Iterator[bytes]:
    """Write bodies of *lines_a_body* lines each."""
    while batch := list(islice(all_lines, lines_a_body)):
        yield b"".join(batch)


def bodies(all_lines: Iterator[bytes], lines_a_body: int) -> list[bytes]:
    """All bodies at once."""
    return list(iter_bodies(all_lines, lines_a_body))
