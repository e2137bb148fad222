"""What every case of the fault suite says, and how often it is done."""

from __future__ import annotations

import os

# The lines of all cases of this run, for its end.
CASES: list[str] = []


def rounds(default: int) -> int:
    """How often a case is done: FAULT_ROUNDS, else *default*, with which the whole suite takes about 25 minutes."""
    return max(1, int(os.environ.get("FAULT_ROUNDS", "") or default))


def case(id: str, figure: str, limit: str, ok: bool) -> None:
    """Print the one line of a case; a failure fails the test."""
    line = f"CASE {id} {figure} limit: {limit} {'PASS' if ok else 'FAIL'}"
    CASES.append(line)
    print(f"\n{line}", flush=True)
    assert ok, line
