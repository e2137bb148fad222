"""What every case of the fault suite says, and how often it is done."""

from __future__ import annotations

import os

# The lines of all cases of this run, for its end.
CASES: list[str] = []


def rounds(default: int, of_spec: int | None = None) -> int:
    """How often a case is done: FAULT_ROUNDS, else *default*, with which the whole suite takes half an hour.

    Args:
        of_spec: how often the reliability notes want it, for ``FAULT_ROUNDS=spec``; None = *default* is that.
    """
    wanted = os.environ.get("FAULT_ROUNDS", "")
    if wanted == "spec":
        return of_spec or default
    return max(1, int(wanted or default))


def case(id: str, figure: str, limit: str, ok: bool) -> None:
    """Print the one line of a case; a failure fails the test."""
    line = f"CASE {id} {figure} limit: {limit} {'PASS' if ok else 'FAIL'}"
    CASES.append(line)
    print(f"\n{line}", flush=True)
    assert ok, line
