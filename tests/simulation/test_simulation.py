"""R34: 2,000 seeds of ingest ↔ storage; what clients were told is what storage has."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.simulation.cluster import simulated_surroundings
from tests.simulation.run import simulate
from tests.stack import ROOT

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "") or 2000)
PARTS = 20


@pytest.fixture(autouse=True)
def surroundings() -> Iterator[None]:
    with simulated_surroundings():
        yield


@pytest.mark.timeout(0 if SEEDS > 2000 else 300)
@pytest.mark.parametrize("part", range(PARTS))
def test_what_was_acknowledged_is_there_once(part: int) -> None:
    for seed in range(part, SEEDS, PARTS):
        outcome = simulate(seed)
        if outcome.findings:
            print(*outcome.trace, sep="\n")
            listed = "\n".join(outcome.findings[:5])
            pytest.fail(f"seed {seed} (python -m tests.simulation {seed}):\n{listed}", pytrace=False)


def test_a_seed_is_the_same_run_in_every_process() -> None:
    """Nothing comes from the clock, from the order of sets or from randomness other than the seed's."""
    seeds = (3, 7, 12)
    here = ["\n".join(simulate(seed).trace) for seed in seeds]
    assert ["\n".join(simulate(seed).trace) for seed in seeds] == here
    for hash_seed in ("1", "2"):
        for seed, trace in zip(seeds, here, strict=True):
            replayed = subprocess.run(
                [sys.executable, "-m", "tests.simulation", str(seed)],
                cwd=ROOT,
                env={**os.environ, "PYTHONHASHSEED": hash_seed},
                capture_output=True,
                text=True,
                check=True,
            )
            assert replayed.stdout.startswith(trace)
