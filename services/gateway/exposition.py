"""Several pages of metrics into one, each sample with the service and the instance that it comes from · pure.

Source: Prometheus text format 0.0.4.

    page   = *line
    line   = "# HELP " name " " text | "# TYPE " name " " type | "#" comment | sample | ""
    sample = name ["{" labels "}"] " " value [" " time]
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

_SUFFIXES = ("_bucket", "_count", "_sum", "_total", "_created")


@dataclass(slots=True)
class _Family:
    comments: list[str] = field(default_factory=list)
    samples: list[str] = field(default_factory=list)


def merge_pages(pages: Iterable[tuple[str, str, str]]) -> str:
    """Merge pages ``(service, instance, text)``: a family's samples stand together, under the first page's comments."""
    families: dict[str, _Family] = {}
    for service, instance, text in pages:
        labels = f'service="{_escape(service)}",instance="{_escape(instance)}"'
        current = ""
        for line in text.splitlines():
            if line.startswith(("# HELP ", "# TYPE ")):
                _, kind, name, *_ = line.split(" ", 3)
                current = name
                family = families.setdefault(name, _Family())
                if not any(comment.startswith(f"# {kind} ") for comment in family.comments):
                    family.comments.append(line)
            elif line and line[0] != "#":
                name = line.partition("{")[0].partition(" ")[0]
                families.setdefault(_family_of(name, current), _Family()).samples.append(_labelled(line, name, labels))
    lines: list[str] = []
    for family in families.values():
        lines += family.comments
        lines += family.samples
    return "\n".join(lines) + "\n"


def _family_of(name: str, current: str) -> str:
    """The family whose comments stood last, if the sample belongs to it."""
    if name == current or (name.startswith(current) and name[len(current) :] in _SUFFIXES):
        return current
    return name


def _labelled(line: str, name: str, labels: str) -> str:
    rest = line[len(name) :]
    if not rest.startswith("{"):
        return f"{name}{{{labels}}}{rest}"
    return f"{name}{{{labels}{'' if rest[1:2] == '}' else ','}{rest[1:]}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
