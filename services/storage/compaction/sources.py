"""What a merge is made of, as the process that merges is given it · pure."""

from __future__ import annotations

from typing import Any

import numpy as np

from common.rpc import wire
from common.segment import IDS
from common.tombstones import is_chosen, pending
from services.storage.state.blocks import Segment
from services.storage.state.measurement import Measurement
from services.storage.state.series import decode_ids

# Packed meta, and chunks.
Source = tuple[bytes, list[bytes]]


def with_hidden(segment: Segment, source: Source, measurement: Measurement) -> Source:
    """*source* with what deletes hide of it in its meta, for the compactor."""
    stones = pending(measurement.tombstones, segment.applied, segment.min_time_ns, segment.max_time_ns)
    if not stones:
        return source
    meta, chunks = source
    numbers = measurement.series.find(decode_ids(chunks[IDS]))
    hidden: list[list[Any]] = []
    for stone in stones:
        mask = None if stone.is_whole else is_chosen(stone.series, numbers)
        if mask is None or mask.any():
            bits = None if mask is None else np.packbits(mask, bitorder="little").tobytes()
            hidden.append([stone.start_ns, stone.stop_ns, bits])
    return wire.encode_head(wire.decode_head(meta) | {"hidden": hidden}), chunks
