"""The Procfile: ``name: command`` a line, ``#`` begins a comment line · pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_LINE = re.compile(r"^([A-Za-z0-9_-]+):\s*(\S.*)$")
MAX_REPLICAS = 64


@dataclass(frozen=True, slots=True)
class Line:
    """One process type."""

    name: str
    command: str


def parse_procfile(text: str) -> list[Line]:
    """The lines in order. Raises ValueError naming the line that has another form."""
    lines = []
    for number, raw in enumerate(text.splitlines(), 1):
        stripped = raw.strip()
        if not stripped or stripped.startswith("#"):
            continue
        match = _LINE.match(stripped)
        if match is None:
            raise ValueError(f"Procfile line {number} is not 'name: command': {stripped!r}")
        lines.append(Line(match[1], match[2]))
    return lines


def counts_of(lines: Sequence[Line], arguments: Sequence[str], environment: Mapping[str, str]) -> dict[str, int]:
    """Replicas by name: ``name=count`` arguments, else the environment's ``NAME=count``, else 1.

    Raises ValueError for a name that the Procfile has not, or a count that is no number from 0 to 64.
    """
    names = {line.name for line in lines}
    counts = {
        name: _count(name, environment[name.upper()]) for name in names if environment.get(name.upper(), "").strip()
    }
    for argument in arguments:
        name, separator, text = argument.partition("=")
        if not separator or name not in names:
            raise ValueError(f"{argument!r} is not name=count with a name of the Procfile ({', '.join(sorted(names))})")
        counts[name] = _count(name, text)
    return counts


def _count(name: str, text: str) -> int:
    if not text.strip().isdecimal() or int(text) > MAX_REPLICAS:
        raise ValueError(f"{name}={text}: the count must be a number from 0 to {MAX_REPLICAS}")
    return int(text)
