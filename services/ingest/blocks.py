"""Parsed rows → checked rows → blocks of columns, grouped by bucket, measurement and shard. · pure

How it is called, in this order::

    parsed = parse(bodies, hash_key)
    fields = check_fields(parsed)                              # strings too long, fields named time
    groups = group_rows(parsed, buckets, keep=~fields.lost & …)
    known = [schema of (groups.bucket_of(g), groups.measurement_of(g), groups.shard_of(g)) for g in range(len(groups))]
    types = check_types(parsed, groups, known)                 # conflicts
    built = build_blocks(parsed, groups, keep=~types.lost)     # → Block, and which series each holds

When storage answers with winning types, series over a limit or buckets that are gone: narrow the mask (and the known
types), and call ``check_types`` and ``build_blocks`` again; ``parsed`` and ``groups`` stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.lineprotocol.parse import Parsed
from common.model import Bucket, FieldType
from common.segment import Block

MAX_STRING_BYTES = 1048576


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a row is not stored whole: the first such reason of a body.

    Attributes:
        row: the row, so that troubles of several checks can be put in order.
        reason: InfluxDB's text behind ``partial write: ``.
    """

    row: int
    reason: str


@dataclass(frozen=True, slots=True)
class FieldCheck:
    """Rows with fields that no bucket takes.

    Attributes:
        lost: bool a row: the point is dropped (a string over MAX_STRING_BYTES, no field but ``time``).
        first: body → its first row that is lost.
        stripped: body → its first row that is kept without its field ``time`` (``dropped=0``).
    """

    lost: NDArray[np.bool_]
    first: dict[int, Trouble]
    stripped: dict[int, Trouble]


@dataclass(frozen=True, slots=True)
class Groups:
    """Rows by (bucket, measurement, shard).

    Attributes:
        buckets: bucket of each group.
        measurements: name of each group's measurement.
        shards: (start_ns, stop_ns) of each group.
        rows: row numbers by group, in input order within a group, int64.
        offsets: rows of group g are ``rows[offsets[g]:offsets[g + 1]]``, int64.
    """

    buckets: tuple[Bucket, ...]
    measurements: tuple[str, ...]
    shards: tuple[tuple[int, int], ...]
    rows: NDArray[np.int64]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.buckets)


@dataclass(frozen=True, slots=True)
class TypeCheck:
    """What the known types of the fields say to the rows.

    Attributes:
        lost: bool a row: the point is dropped for a field whose type loses.
        first: body → its first row that is lost, with InfluxDB's text.
        new: per group, types of the fields that were not known.
    """

    lost: NDArray[np.bool_]
    first: dict[int, Trouble]
    new: tuple[dict[str, FieldType], ...]


@dataclass(frozen=True, slots=True)
class Built:
    """A block and what it was made of.

    Attributes:
        block: as storage takes it.
        group: index of its group.
        series: index in ``parsed`` of each of the block's series, int64, in the block's order: position p of the
            block is ``parsed.series_ids[series[p]]``, its tag key ``parsed.tag_keys(series[[p]])``.
    """

    block: Block
    group: int
    series: NDArray[np.int64]


def check_fields(parsed: Parsed) -> FieldCheck:
    """Find the rows that no bucket takes as they are: too long strings, fields named ``time``."""
    raise NotImplementedError


def group_rows(parsed: Parsed, buckets: Sequence[Bucket | None], keep: NDArray[np.bool_] | None = None) -> Groups:
    """Sort rows by bucket, measurement and shard.

    Args:
        buckets: where each body goes; None = its rows are left out (refused, or all or nothing with a bad line).
        keep: bool a row; None = all.
    """
    raise NotImplementedError


def check_types(parsed: Parsed, groups: Groups, known: Sequence[Mapping[str, FieldType]]) -> TypeCheck:
    """Compare each field value's type with the field's known type; the first kept row fixes a type that is not known.

    A row with one losing field is lost whole and fixes no types. The field ``time`` is passed over.

    Args:
        known: types of each group's fields, one mapping a group.
    """
    raise NotImplementedError


def build_blocks(parsed: Parsed, groups: Groups, keep: NDArray[np.bool_] | None = None) -> list[Built]:
    """Make the blocks of a commit: rows by series and time, each once.

    Rows of one series and time are merged: their fields join, of a field named twice the later value stays. The field
    ``time`` is left out. A group that keeps no row has no block; a group has several blocks (of disjoint rows) when
    its columns are many and mostly empty, so that the memory of blocks stays in proportion to the input.

    Args:
        keep: bool a row; None = all of ``groups``.

    Raises:
        ValueError: a column holds two types: ``check_types`` was not asked.
    """
    raise NotImplementedError
