"""The form of an append, checked before anything is done (docs/rpc.md, "storage.append") · pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from common.errors import Invalid
from common.rpc import wire
from common.segment import SeriesIds, StringArray, decode_dictionary_arrays
from services.storage.catalog.segment_store import MAX_BLOCKS_PER_COMMIT
from services.storage.changes.results import WRITE_ID_BYTES
from services.storage.state.blocks import BlockMeta, parse_meta
from services.storage.state.series import ID_BYTES, decode_ids

MAX_WRITES = 4096
MAX_RESULT_BYTES = 64 << 10
Place = tuple[str, str]  # bucket id, measurement


@dataclass(frozen=True, slots=True)
class NewSeries:
    """Tag keys of series that ingest does not know to be stored."""

    place: Place
    ids: SeriesIds
    keys: StringArray
    piece: bytes


@dataclass(frozen=True, slots=True)
class AppendRequest:
    """An append whose form has been checked.

    Attributes:
        writes: id and packed result (None = success) of each write.
        data: the chunks of all blocks, in order.
        ids: series ids of each block.
    """

    writes: tuple[tuple[bytes, bytes | None], ...]
    blocks: tuple[BlockMeta, ...]
    data: bytes
    ids: tuple[SeriesIds, ...]
    new_series: tuple[NewSeries, ...]


def decode_append(head: Any, parts: Sequence[bytes]) -> AppendRequest:
    """Check the form of an append. Raises Invalid."""
    match head:
        case {"writes": list(writes), "blocks": list(metas), "new_series": list(new_series)}:
            pass
        case _:
            raise Invalid("cannot append: the head has no known form")
    if not 0 < len(writes) <= MAX_WRITES:
        raise Invalid(f"cannot append: {len(writes)} writes (1 to {MAX_WRITES})")
    if len(metas) > MAX_BLOCKS_PER_COMMIT or len(parts) != len(metas) + len(new_series):
        raise Invalid(f"cannot append: {len(parts)} parts for {len(metas)} blocks and {len(new_series)} dictionaries")
    blocks = tuple(map(parse_meta, metas))
    block_parts = parts[: len(blocks)]
    for block, part in zip(blocks, block_parts, strict=True):
        if block.size != len(part):
            raise Invalid(f"cannot append: a block of {len(part)} bytes, its meta says {block.size}")
        if block.level != 0:
            raise Invalid(f"cannot append: a block of level {block.level}")
    return AppendRequest(
        tuple(map(_decode_write, writes)),
        blocks,
        block_parts[0] if len(block_parts) == 1 else b"".join(block_parts),
        tuple(
            decode_ids(memoryview(part)[: ID_BYTES * block.series])
            for block, part in zip(blocks, block_parts, strict=True)
        ),
        tuple(_decode_new_series(*entry) for entry in zip(new_series, parts[len(blocks) :], strict=True)),
    )


def _decode_write(write: Any) -> tuple[bytes, bytes | None]:
    match write:
        case [bytes(id), None] if len(id) == WRITE_ID_BYTES:
            return id, None
        case [bytes(id), dict(result)] if len(id) == WRITE_ID_BYTES:
            packed = wire.encode_head(result)
            if len(packed) <= MAX_RESULT_BYTES:
                return id, packed
    raise Invalid("cannot append: a write has no known form")


def _decode_new_series(entry: Any, part: bytes) -> NewSeries:
    match entry:
        case [str(bucket_id), str(measurement), int(count)]:
            ids, keys = decode_dictionary_arrays(part)
            if len(ids) == count:
                return NewSeries((bucket_id, measurement), ids, keys, part)
    raise Invalid("cannot append: new series have no known form")
