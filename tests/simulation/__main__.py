"""``python -m tests.simulation SEED``: replay a seed and print what happened in it."""

from __future__ import annotations

import sys

from tests.simulation.cluster import simulated_surroundings
from tests.simulation.run import simulate


def main() -> int:
    with simulated_surroundings():
        outcome = simulate(int(sys.argv[1]))
    print("\n".join(outcome.trace))
    print(dict(outcome.counts))
    print("\n".join(outcome.findings) or "everything holds")
    return bool(outcome.findings)


if __name__ == "__main__":
    sys.exit(main())
