"""SELECT worked out row by row in plain Python, as the page on InfluxQL says it: what the engine is held against.

Knows a part of the language: fields and tags, the common functions, conditions, GROUP BY, fill, order and limits.
Written for plainness; nothing of it is shared with the engine.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.unit.query.engine.points import Point, Unsigned

Row = dict[str, Any]  # fields of one point
INT_MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Question:
    """A SELECT in pieces, and its text.

    Attributes:
        columns: names of fields or tags of a raw query, or (function, field) of one with functions.
        where: (name, operator, literal) of which all must hold.
        width_s: of GROUP BY time(), 0 = none.
    """

    columns: tuple[Any, ...]
    where: tuple[tuple[str, str, Any], ...] = ()
    keys: tuple[str, ...] = ()
    width_s: int = 0
    offset_s: int = 0
    fill: Any = None
    first_s: int | None = None
    last_s: int | None = None
    descending: bool = False
    limit: int = 0
    offset: int = 0

    @property
    def text(self) -> str:
        columns = [c if isinstance(c, str) else _call_text(c) for c in self.columns]
        conditions = [f"{name} {op} {_literal(value)}" for name, op, value in self.where]
        if self.first_s is not None:
            conditions.append(f"time >= {self.first_s}s")
        if self.last_s is not None:
            conditions.append(f"time <= {self.last_s}s")
        groups = list(self.keys)
        if self.width_s:
            groups.append(f"time({self.width_s}s, {self.offset_s}s)")
        text = f"SELECT {', '.join(columns)} FROM m"
        text += " WHERE " + " AND ".join(conditions) if conditions else ""
        text += " GROUP BY " + ", ".join(groups) if groups else ""
        text += "" if self.fill is None else f" fill({self.fill})"
        text += " ORDER BY time DESC" if self.descending else ""
        text += f" LIMIT {self.limit}" if self.limit else ""
        return text + (f" OFFSET {self.offset}" if self.offset else "")


def _call_text(call: tuple[str, str]) -> str:
    name, field = call
    return f"percentile({field}, {name[1:]})" if name[0] == "p" else f"{name}({field})"


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"'{value}'" if isinstance(value, str) else repr(value)


Answer = list[tuple[tuple[str, ...], list[tuple[int, ...]]]]


def answer(points: list[Point], question: Question) -> Answer:
    """(tag values, rows) of each series in order; a row is its time in ns and the columns. Later points win."""
    merged: dict[tuple[tuple[tuple[str, str], ...], int], Row] = {}
    for point in points:
        fields = {name: _told(name, value, question) for name, value in point.fields}
        merged.setdefault((point.tags, point.time_ns), {}).update(fields)
    groups: dict[tuple[str, ...], list[tuple[int, dict[str, str], Row]]] = {}
    for (tags, time_ns), fields in sorted(merged.items(), key=lambda item: (item[0][1], item[0][0])):
        if _in_range(time_ns, question) and all(_holds(dict(tags), fields, *each) for each in question.where):
            key = tuple(dict(tags).get(name, "") for name in question.keys)
            groups.setdefault(key, []).append((time_ns, dict(tags), fields))
    result: Answer = []
    for key in sorted(groups, reverse=question.descending):
        raw = isinstance(question.columns[0], str)
        rows = _raw(groups[key], question) if raw else _calls(groups[key], question)
        if question.descending:
            rows.reverse()
        rows = rows[question.offset : question.offset + question.limit if question.limit else None]
        if rows:
            result.append((key, rows))
    return result


def _told(name: str, value: Any, question: Question) -> Any:
    """A value as this question sees it: c is an integer, and a float where the second shard is touched too."""
    if isinstance(value, Unsigned):
        return int(value)
    return float(value) if name == "c" and question.last_s is None else value


def _in_range(time_ns: int, question: Question) -> bool:
    first, last = question.first_s, question.last_s
    return (first is None or time_ns >= first * 10**9) and (last is None or time_ns <= last * 10**9)


def _holds(tags: dict[str, str], fields: Row, name: str, op: str, value: Any) -> bool:
    have = tags.get(name, "") if name in ("a", "b", "nosuch") else fields.get(name)
    if isinstance(value, bool) and have is None:
        have = False  # a missing boolean counts as false beside another
    if isinstance(have, bool) != isinstance(value, bool) or isinstance(have, str) != isinstance(value, str):
        return False
    if have is None:
        return False
    if isinstance(value, bool | str) and op not in ("=", "!="):
        return False
    compare: dict[str, Callable[[Any, Any], bool]] = {
        "=": lambda x, y: x == y, "!=": lambda x, y: x != y, "<": lambda x, y: x < y, "<=": lambda x, y: x <= y,
        ">": lambda x, y: x > y, ">=": lambda x, y: x >= y,
    }  # fmt: skip
    return compare[op](have, value)


def _raw(rows: list[tuple[int, dict[str, str], Row]], question: Question) -> list[tuple[Any, ...]]:
    fields = [name for name in question.columns if name not in ("a", "b")]
    return [
        (time, *(row.get(c) if c in fields else tags.get(c) for c in question.columns))
        for time, tags, row in rows
        if any(name in row for name in fields)
    ]


def _calls(rows: list[tuple[int, dict[str, str], Row]], question: Question) -> list[tuple[Any, ...]]:
    columns = [_one_call(rows, name, field, question) for name, field in question.columns]
    times = sorted({time for column in columns for time in column})
    for column, (name, field) in zip(columns, question.columns, strict=True):
        told = None
        for time in reversed(times) if question.descending else times:
            if question.fill == "previous":
                told = column[time] = told if column.get(time) is None else column[time]
            elif time not in column and isinstance(question.fill, int | float):
                column[time] = _number(name, field, question)
    return [(time, *(column.get(time) for column in columns)) for time in times]


def _one_call(rows: list[tuple[int, dict[str, str], Row]], name: str, field: str, question: Question) -> dict[int, Any]:
    windows: dict[int, list[tuple[int, Any]]] = {}
    for time, _, row in rows:
        if field in row:
            windows.setdefault(_window(time, question), []).append((time, row[field]))
    if not question.width_s:
        values = windows.get(0, [])
        result = FUNCTIONS[name[0] if name[0] == "p" else name](values, name) if values else None
        if result is None:
            return {}
        time = question.first_s * 10**9 if question.first_s is not None else 0
        # The same call twice is one call.
        if len(set(question.columns)) == 1 and result[0] is not None:
            time = result[0]
        return {time: result[1]}
    found = {}
    for start, values in windows.items():
        result = FUNCTIONS[name[0] if name[0] == "p" else name](values, name)
        if result is not None:
            found[start] = result[1]
    return _filled(found, name, field, question)


def _window(time_ns: int, question: Question) -> int:
    if not question.width_s:
        return 0
    width, offset = question.width_s * 10**9, question.offset_s * 10**9
    return (time_ns - offset) // width * width + offset


def _filled(found: dict[int, Any], name: str, field: str, question: Question) -> dict[int, Any]:
    if not found or question.fill == "none":
        return found
    assert question.last_s is not None
    first = min(found) if question.first_s is None else _window(question.first_s * 10**9, question)
    last = _window(question.last_s * 10**9, question)
    width = question.width_s * 10**9
    filled: dict[int, Any] = {}
    starts = list(range(first, last + 1, width))
    for start in starts:
        if start in found:
            filled[start] = found[start]
            continue
        before = [found[t] for t in starts if t < start and t in found]
        after = [found[t] for t in starts if t > start and t in found]
        value: Any = None
        if question.fill in (None, "null"):
            value = 0 if name == "count" else None
        elif question.fill == "previous":
            near = after[:1] if question.descending else before[-1:]
            value = near[0] if near else None
        elif question.fill == "linear":
            whole = _is_whole(name, field)
            value = _linear(found, starts, start, whole) if name == "count" or field not in ("s", "t") else None
        else:
            value = _number(name, field, question)
        filled[start] = value
    return filled


def _is_whole(name: str, field: str) -> bool:
    return name == "count" or (field in ("i", "u", "c") and name not in ("mean", "median", "stddev"))


def _number(name: str, field: str, question: Question) -> Any:
    """The number of fill() as a result of that call."""
    if name != "count" and field in ("s", "t"):
        return "" if field == "s" else False
    value = int(question.fill) if _is_whole(name, field) else float(question.fill)
    return value % (1 << 64) if isinstance(value, int) and name != "count" and field == "u" else value


def _linear(found: dict[int, Any], starts: list[int], start: int, whole: bool) -> Any:
    left = [t for t in starts if t < start and t in found]
    right = [t for t in starts if t > start and t in found]
    if not left or not right:
        return None
    t0, t1 = left[-1], right[0]
    if found[t0] is None or found[t1] is None:
        return None
    value = (found[t1] - found[t0]) / ((t1 - t0) / (starts[1] - starts[0])) * ((start - t0) / (starts[1] - starts[0]))
    value += found[t0]
    return int(value) if whole else value


# ---------------------------------------------------------------- functions: [(time, value)] → (own time, value)

Values = list[tuple[int, Any]]


def _sum(values: Values) -> Any:
    total = sum(value for _, value in values)
    return total if isinstance(total, float) else (total + (1 << 63)) % (1 << 64) - (1 << 63)


def _percentile(values: Values, name: str) -> tuple[int | None, Any] | None:
    ordered = sorted(value for _, value in values)
    index = math.floor(len(ordered) * float(name[1:]) / 100 + 0.5) - 1
    if not 0 <= index < len(ordered):
        return None
    # Which of equal values is taken is not told; the caller compares values only.
    return values[0][0], ordered[index]


def _median(values: Values) -> Any:
    ordered = sorted(value for _, value in values)
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return low + (high - low) / 2


def _stddev(values: Values) -> Any:
    if len(values) < 2:
        return None
    mean = math.fsum(value for _, value in values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for _, value in values) / (len(values) - 1))


def _extreme(values: Values, sign: int) -> tuple[int, Any]:
    best = max(value * sign for _, value in values) * sign
    return min(time for time, value in values if value == best), type(values[0][1])(best)


def _first(values: Values) -> tuple[int, Any]:
    time = min(time for time, _ in values)
    tied = [value for t, value in values if t == time]
    return time, min(tied) if isinstance(tied[0], bool) else max(tied)


def _last(values: Values) -> tuple[int, Any]:
    time = max(time for time, _ in values)
    return time, max(value for t, value in values if t == time)


FUNCTIONS: dict[str, Callable[[Values, str], tuple[int | None, Any] | None]] = {
    "count": lambda values, _: (None, len(values)),
    "sum": lambda values, _: (None, _sum(values)),
    "mean": lambda values, _: (None, _sum(values) / len(values)),
    "median": lambda values, _: (None, _median(values)),
    "stddev": lambda values, _: (None, _stddev(values)),
    "spread": lambda values, _: (None, max(v for _, v in values) - min(v for _, v in values)),
    "max": lambda values, _: _extreme(values, 1),
    "min": lambda values, _: _extreme(values, -1),
    "first": lambda values, _: _first(values),
    "last": lambda values, _: _last(values),
    "p": _percentile,
}
