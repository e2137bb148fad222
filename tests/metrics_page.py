"""What a page of /metrics says."""

from __future__ import annotations


def figure(page: str, name: str, label: str = "") -> float:
    """The sum of all samples of *name*; with *label* (``key="value"``) of those that have it."""
    return sum(
        float(line.rpartition(" ")[2])
        for line in page.splitlines()
        if line.startswith((f"{name} ", f"{name}{{")) and label in line
    )
