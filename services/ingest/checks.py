"""The stages of the writes of one call, after their targets are known: parsed → checked → results · pure.

Knows no storage and no clock: what storage answers comes in as a ``Ruling``. Order of the stages: services/ingest/
write.py. Source: spec of /write, sections 4 and 5; decisions 5, 19 and 20 of spec/README.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import InfluxError, Invalid, Unprocessable
from common.lineprotocol.parse import Body, LineError, Parsed, parse
from common.model import Bucket, FieldType
from common.segment import encode_block, encode_dictionary
from services.ingest import messages
from services.ingest.blocks import Built, build_blocks
from services.ingest.columns import FieldCheck, Trouble, TypeCheck, check_fields, check_types
from services.ingest.groups import Groups, group_rows
from services.ingest.known_series import KnownSeries

Mask = NDArray[np.bool_]
Result = dict[str, Any] | None  # None: all is stored; else the error as docs/rpc.md writes it
GroupKey = tuple[str, str, int]  # bucket id, measurement, start of the shard


@dataclass(frozen=True, slots=True)
class AdmittedWrite:
    """A write whose bucket is known, that may be written to; its body is no longer compressed.

    ``partial``: its good lines are stored although others do not parse. ``gone_text``: what is said if the bucket is
    found to be gone. ``again``: an earlier call has carried it, and may be under way still.
    """

    id: bytes
    now_ns: int
    bucket: Bucket
    unit_ns: int
    partial: bool
    gone_text: str
    body: bytes
    again: bool = False


@dataclass(frozen=True, slots=True)
class ParsedWrites:
    """The writes of one call, read and held against what no bucket takes and against the retention of theirs.

    Attributes:
        lost: bool a row: dropped already.
        expired: body → what is said of its points outside the retention.
        errors: body → its lines that do not parse, the first ones of them.
    """

    writes: tuple[AdmittedWrite, ...]
    parsed: Parsed
    fields: FieldCheck
    lost: Mask
    expired: Mapping[int, str]
    errors: Mapping[int, Sequence[LineError]]

    def refused(self, body: int) -> bool:
        """Whether a line that does not parse keeps the whole body out."""
        return bool(self.parsed.error_counts[body]) and not self.writes[body].partial


@dataclass(slots=True)
class Ruling:
    """What storage has said so far about the writes of one call; grows from answer to answer.

    Attributes:
        results: body → its result, for those that are settled without being stored now (known, gone).
        types: types that won, over what ingest knows.
        over_limit: bool a row: its series is over the limit.
    """

    over_limit: Mask
    results: dict[int, Result] = field(default_factory=dict)
    types: dict[GroupKey, dict[str, FieldType]] = field(default_factory=dict)
    limit: int = 0


@dataclass(frozen=True, slots=True)
class CheckedWrites:
    """One commit, ready to be sent, and the results of the writes if storage takes it.

    Attributes:
        stored: bodies that have points in the commit, and those that have lost all of theirs but may have had some in
            an earlier call: storage knows, and otherwise notes that they have none, lest that call come later.
        new_series: (bucket id, measurement, ids) of each part behind those of the blocks.
    """

    results: tuple[Result, ...]
    stored: tuple[int, ...]
    groups: Groups
    types: TypeCheck
    built: tuple[Built, ...]
    metas: tuple[dict[str, Any], ...]
    parts: tuple[bytes, ...]
    new_series: tuple[tuple[str, str, NDArray[np.uint64]], ...]


def parse_writes(writes: Sequence[AdmittedWrite], hash_key: bytes) -> ParsedWrites:
    """Parse all bodies in one go and find the points that are dropped whatever else is stored."""
    parsed = parse([Body(write.body, write.unit_ns, write.now_ns) for write in writes], hash_key)
    fields = check_fields(parsed)
    lost, expired = _check_retention(parsed, writes, fields.lost)
    errors: dict[int, list[LineError]] = {}
    for error in parsed.errors:
        errors.setdefault(error.body, []).append(error)
    return ParsedWrites(tuple(writes), parsed, fields, lost, expired, errors)


def _check_retention(parsed: Parsed, writes: Sequence[AdmittedWrite], lost: Mask) -> tuple[Mask, dict[int, str]]:
    """Drop what is older than its bucket keeps. Returns the new mask and a text for each body concerned."""
    expired: dict[int, str] = {}
    if not any(write.bucket.retention_ns for write in writes):
        return lost, expired
    nothing = np.iinfo(np.int64).min
    bounds = np.array(
        [write.now_ns - write.bucket.retention_ns if write.bucket.retention_ns else nothing for write in writes],
        np.int64,
    )
    old = (parsed.times < bounds[parsed.body]) & ~lost
    rows = np.flatnonzero(old)
    for body in np.unique(parsed.body[rows]).tolist():
        own = rows[parsed.body[rows] == body]
        times = parsed.times[own]
        ends = own[[int(np.argmin(times)), int(np.argmax(times))]]
        oldest, newest = (
            (parsed.measurements[parsed.series_measurement[parsed.series[row]]], int(parsed.times[row]))
            for row in ends.tolist()
        )
        retention_ns = writes[body].bucket.retention_ns
        expired[body] = messages.beyond_retention(len(own), retention_ns, int(bounds[body]), oldest, newest)
    return lost | old, expired


def group_writes(stage: ParsedWrites, ruling: Ruling) -> Groups:
    """The rows that may still be stored, by bucket, measurement and shard."""
    buckets = [
        None if body in ruling.results or stage.refused(body) else write.bucket
        for body, write in enumerate(stage.writes)
    ]
    return group_rows(stage.parsed, buckets, ~(stage.lost | ruling.over_limit))


def group_key(groups: Groups, group: int) -> GroupKey:
    return groups.buckets[group].id, groups.measurements[group], groups.shards[group][0]


def groups_in_conflict(groups: Groups, types: TypeCheck) -> list[int]:
    """The groups that lose points for their types."""
    if not types.first:
        return []
    lost = types.lost[groups.rows]
    return [g for g in range(len(groups)) if lost[groups.offsets[g] : groups.offsets[g + 1]].any()]


def check_writes(
    stage: ParsedWrites,
    ruling: Ruling,
    groups: Groups,
    types: TypeCheck,
    series: KnownSeries,
) -> CheckedWrites:
    """Build the commit of what is left, and say what becomes of each write."""
    parsed = stage.parsed
    built = build_blocks(parsed, groups, ~types.lost)
    metas, parts = [], []
    for one in built:
        meta, chunks = encode_block(one.block, 0)
        metas.append(meta)
        parts.append(b"".join(chunks))
    new_series = _find_new_series(parsed, built, series)
    for _, _, indexes in new_series:
        parts.append(encode_dictionary(parsed.series_ids[indexes], parsed.tag_keys(indexes)))
    counts = _count_rows(parsed, stage.lost | ruling.over_limit | types.lost, len(stage.writes))
    return CheckedWrites(
        results=tuple(_result(stage, ruling, types, body, counts) for body in range(len(stage.writes))),
        stored=_find_stored(stage, ruling, groups, types.lost),
        groups=groups,
        types=types,
        built=tuple(built),
        metas=tuple(metas),
        parts=tuple(parts),
        new_series=tuple((bucket, name, parsed.series_ids[indexes]) for bucket, name, indexes in new_series),
    )


def _find_new_series(
    parsed: Parsed, built: Sequence[Built], known: KnownSeries
) -> list[tuple[str, str, NDArray[np.int64]]]:
    """Series of the blocks that are not known to be stored, once for each bucket and measurement."""
    found: dict[tuple[str, str], list[NDArray[np.int64]]] = {}
    for one in built:
        missing = one.series[~known.find(one.block.bucket_id, one.block.measurement, one.block.series)]
        if len(missing):
            found.setdefault((one.block.bucket_id, one.block.measurement), []).append(missing)
    return [
        (bucket, name, indexes[0] if len(indexes) == 1 else np.unique(np.concatenate(indexes)))
        for (bucket, name), indexes in found.items()
    ]


def _count_rows(parsed: Parsed, mask: Mask, bodies: int) -> list[int]:
    """Rows in *mask*, by body."""
    return np.bincount(parsed.body[mask], minlength=bodies).tolist() if mask.any() else [0] * bodies


def _find_stored(stage: ParsedWrites, ruling: Ruling, groups: Groups, lost: Mask) -> tuple[int, ...]:
    parsed, bodies = stage.parsed, len(stage.writes)
    rows = groups.rows[~lost[groups.rows]]
    stored = np.bincount(parsed.body[rows], minlength=bodies) > 0
    for body, write in enumerate(stage.writes):
        if write.again and not stored[body] and body not in ruling.results and not stage.refused(body):
            # What parsing and retention drop is dropped in every call; types and the limit may have let it in before.
            stored[body] = bool((~stage.lost[parsed.body == body]).any())
    return tuple(np.flatnonzero(stored).tolist())


def _result(stage: ParsedWrites, ruling: Ruling, types: TypeCheck, body: int, dropped: Sequence[int]) -> Result:
    """What is said of one write when the commit is stored."""
    if body in ruling.results:
        return ruling.results[body]
    bad = int(stage.parsed.error_counts[body])
    lines = ""
    if bad:
        # A batch's texts go into one head together, and storage remembers them.
        room = min(messages.MAX_TEXT_BYTES, messages.MAX_BATCH_BYTES // len(stage.writes))
        lines = messages.join_parts(map(str, stage.errors[body]), bad, room)
        if stage.refused(body):
            return to_result(Invalid(lines))
    reason, has_place = _find_reason(stage, ruling, types, body)
    place = stage.writes[body].bucket.id if has_place else None
    count = dropped[body]
    if not bad:
        if reason is None:
            return None
        text = messages.store_failure(messages.partial_write(reason, count, place))
        return to_result(Unprocessable(text, details={"dropped": count}))
    if reason is not None:
        count += bad
        text = messages.partial_write(f"{lines}\n{reason}", count, place)
    elif not (stage.parsed.body == body).any():
        text, count = lines, bad
    else:
        text = messages.partial_write(lines, 0)
    return to_result(Invalid(text, details={"dropped": count}))


def _find_reason(stage: ParsedWrites, ruling: Ruling, types: TypeCheck, body: int) -> tuple[str | None, bool]:
    """The first reason why points of *body* are not stored whole, and whether it ends with the place."""
    troubles = [found[body] for found in (stage.fields.first, types.first) if body in found]
    over = ruling.over_limit & (stage.parsed.body == body) if ruling.limit else None
    if over is not None and over.any():
        troubles.append(Trouble(int(over.argmax()), messages.too_many_series(ruling.limit)))
    if troubles:
        return min(troubles, key=lambda trouble: trouble.row).reason, False
    if body in stage.expired:
        return stage.expired[body], True
    if body in stage.fields.stripped:
        return stage.fields.stripped[body].reason, True
    return None, False


def to_result(error: InfluxError) -> dict[str, Any]:
    """An error as it travels and as storage remembers it."""
    return {
        "code": error.code,
        "message": str(error),
        "retry_after_s": error.retry_after_s,
        "details": {"dropped": error.details["dropped"]} if "dropped" in error.details else {},
    }


def check_group_types(
    stage: ParsedWrites, groups: Groups, ruling: Ruling, known: Mapping[GroupKey, Mapping[str, FieldType]]
) -> TypeCheck:
    """Hold the rows' types against what is known, and over that against what storage has ruled."""
    keys = [group_key(groups, group) for group in range(len(groups))]
    types = [{**known[key], **ruling.types[key]} if key in ruling.types else known[key] for key in keys]
    return check_types(stage.parsed, groups, types)
