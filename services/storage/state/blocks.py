"""What storage needs to know of a block: its place, its fields, where its chunks are · pure.

Storage moves bytes: it reads the meta that the encoder wrote (docs/segment-format.md) and the raw series ids, and
decodes no column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, TypeVar

from common.errors import Invalid
from common.model import FieldType
from common.rpc import wire
from common.segment import CHECKSUM, FIRST_COLUMN, FORMAT, IDS, LENGTH, NAME, TYPE
from services.storage.catalog.segment_store import ChunkRead, commit_of
from services.storage.state.series import ID_BYTES

T = TypeVar("T")

MAX_META_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Segment:
    """A block as it is stored and planned with.

    Attributes:
        order: of two segments with the same series, time and field the one with the greater order wins.
        meta: the block's meta, packed.
        offset: where its chunks begin within its commit's data (level 0), else 0.
        size: bytes of its chunks.
        applied: number up to which deletes need not be looked at: those before it are worked in.
    """

    id: int
    order: int
    level: int
    measurement: int
    shard_start_ns: int
    shard_stop_ns: int
    min_time_ns: int
    max_time_ns: int
    rows: int
    offset: int
    size: int
    meta: bytes
    applied: int = 0


@dataclass(frozen=True, slots=True)
class BlockMeta:
    """The facts of a block's meta that storage acts on.

    Attributes:
        fields: name and type of each column.
        packed: the whole meta.
        deletes: number up to which compaction has worked deletes in; None = it did not say.
    """

    bucket_id: str
    measurement: str
    shard_start_ns: int
    shard_stop_ns: int
    level: int
    min_time_ns: int
    max_time_ns: int
    rows: int
    series: int
    fields: tuple[tuple[str, FieldType], ...]
    chunk_sizes: tuple[int, ...]
    packed: bytes
    deletes: int | None = None

    @property
    def size(self) -> int:
        return sum(self.chunk_sizes)


def parse_meta(meta: Any) -> BlockMeta:
    """Read a block's meta (``common/segment.py``). Raises Invalid when it isn't one."""
    try:
        entries = meta["chunks"]
        shard_start_ns, shard_stop_ns = meta["shard"]
        min_time_ns, max_time_ns = meta["time"]
        parsed = BlockMeta(
            bucket_id=_of(str, meta["bucket"]),
            measurement=_of(str, meta["measurement"]),
            shard_start_ns=_of(int, shard_start_ns),
            shard_stop_ns=_of(int, shard_stop_ns),
            level=_of(int, meta["level"]),
            min_time_ns=_of(int, min_time_ns),
            max_time_ns=_of(int, max_time_ns),
            rows=_of(int, meta["rows"]),
            series=_of(int, meta["series"]),
            fields=tuple((_of(str, entry[NAME]), FieldType(entry[TYPE])) for entry in entries[FIRST_COLUMN:]),
            chunk_sizes=tuple(_of(int, entry[LENGTH]) for entry in entries),
            packed=wire.encode_head(meta),
            deletes=None if meta.get("deletes") is None else _of(int, meta["deletes"]),
        )
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise Invalid(f"cannot store a block: its meta has no known form ({type(error).__name__})") from None
    sizes = parsed.chunk_sizes
    if (
        meta["format"] != FORMAT
        or len(sizes) < FIRST_COLUMN
        or min(sizes) < 0
        or parsed.series <= 0
        or parsed.rows < parsed.series
        or sizes[IDS] != ID_BYTES * parsed.series
        or parsed.min_time_ns > parsed.max_time_ns
        or len(parsed.packed) > MAX_META_BYTES
    ):
        raise Invalid("cannot store a block: its meta contradicts itself")
    return parsed


def _of(kind: type[T], value: Any) -> T:
    if type(value) is not kind:
        raise TypeError
    return value


def segment_of(block: BlockMeta, id: int, order: int, measurement: int, offset: int) -> Segment:
    """The segment that *block* becomes."""
    return Segment(
        id, order, block.level, measurement, block.shard_start_ns, block.shard_stop_ns,
        block.min_time_ns, block.max_time_ns, block.rows, offset, block.size, block.packed,
        commit_of(id) if block.level == 0 or block.deletes is None else block.deletes,
    )  # fmt: skip


def chunk_reads(segment: Segment, chunks: Sequence[int] | None = None) -> list[ChunkRead]:
    """Where chunks of *segment* are; None = all. Raises Invalid for one that it has not."""
    entries = wire.decode_head(segment.meta)["chunks"]
    places = list(accumulate((entry[LENGTH] for entry in entries), initial=segment.offset))
    asked = range(len(entries)) if chunks is None else chunks
    if any(not 0 <= chunk < len(entries) for chunk in asked):
        raise Invalid(f"segment {segment.id} has {len(entries)} chunks")
    return [
        ChunkRead(segment.id, segment.level, chunk, places[chunk], entries[chunk][LENGTH], entries[chunk][CHECKSUM])
        for chunk in asked
    ]
