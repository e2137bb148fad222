"""docs/compatibility.md: what each difference is shown by is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "compatibility.md").read_text()
# Not shown yet: named here, so that it is not forgotten.
NOT_SHOWN: frozenset[str] = frozenset()
# Every test function and class by name.
NAMES = {
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^\s*(?:async )?(?:def|class) (\w+)", path.read_text(), re.MULTILINE)
}


def rows() -> list[tuple[str, str]]:
    """The point of each difference, and what it is shown by ("the same": by what the row above is)."""
    table = TEXT.partition("## Where Tidegate differs")[2]
    found: list[tuple[str, str]] = []
    for line in table.splitlines():
        cells = [cell.strip().replace("\0", "|") for cell in line.replace("\\|", "\0").strip("|").split("|")]
        if line.startswith("|") and len(cells) == 4 and cells[0] != "point" and not set(cells[0]) <= {"-"}:
            found.append((cells[0], found[-1][1] if cells[3] == "the same" else cells[3]))
    return found


@pytest.mark.parametrize(("point", "shown_by"), rows(), ids=[point for point, _ in rows()])
def test_what_shows_it_exists(point: str, shown_by: str) -> None:
    references = re.findall(r"`([^`]+)`", shown_by)
    assert bool(references) != (point in NOT_SHOWN), f"nothing shows: {point}"
    for reference in references:
        assert (ROOT / reference).exists() or reference in NAMES, reference
