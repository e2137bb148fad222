"""The rows of the catalog as they are stored: bodies, metas and names packed · pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from common.tombstones import Tombstone


def to_key(name: str) -> bytes:
    """A name as it is stored and ordered."""
    return name.encode("utf-8", "surrogateescape")


def from_key(key: bytes) -> str:
    """Inverse of ``to_key``."""
    return key.decode("utf-8", "surrogateescape")


class StoredRecord(NamedTuple):
    """A record: something of identity or tenancy."""

    kind: str
    id: str
    version: int
    body: bytes


class MeasurementRow(NamedTuple):
    """A living measurement."""

    id: int
    bucket_id: str
    name: str


class SegmentRow(NamedTuple):
    """Metadata of a compacted segment; ``meta`` None = it is damaged."""

    id: int
    measurement: int
    level: int
    order: int
    size: int
    meta: bytes | None


class BlockRow(NamedTuple):
    """Directory entry of one block of a level-0 commit."""

    measurement: int
    offset: int
    size: int
    meta: bytes


class CommitRow(NamedTuple):
    """A level-0 commit: its number, the bytes of its data and its directory; None = the directory is damaged."""

    number: int
    size: int
    blocks: list[BlockRow] | None


class SeriesPiece(NamedTuple):
    """A row of the dictionary: *series* of them from sequence number *first* on.

    Attributes:
        generation: of the numbers; it names the measurement (``state/generations.py``).
        ids: 16 bytes each; empty when they are lost.
        is_whole: whether the row has its checksum; else the numbers may be wrong too.
    """

    generation: int
    first: int
    series: int
    ids: bytes
    is_whole: bool


class Damage(NamedTuple):
    """Something of a table that is not what was written."""

    table: str
    reason: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a start reads: metadata only.

    Attributes:
        epochs: of measurements whose series dictionary has been written anew, how often.
        series_ids: by generation and first sequence number.
        replaced: segment → Unix ms at which it was replaced.
        tombstones: with their measurements, by number.
        damage: what was left out, or taken from elsewhere; damaged commits and segments are told by their None.
    """

    number: int
    hash_key: bytes
    buckets: list[StoredRecord]
    measurements: list[MeasurementRow]
    fields: list[tuple[int, int, str, int]]
    epochs: dict[int, int]
    series_ids: list[SeriesPiece]
    commits: list[CommitRow]
    segments: list[SegmentRow]
    replaced: dict[int, int]
    quarantined: dict[int, str]
    tombstones: list[tuple[int, Tombstone]]
    dropped: list[int]
    damage: list[Damage]
