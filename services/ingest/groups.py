"""Parsed rows by bucket, measurement and shard. · pure"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.lineprotocol.kernels import Kernels, current
from common.lineprotocol.parse import Parsed
from common.model import Bucket


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


def group_rows(parsed: Parsed, buckets: Sequence[Bucket | None], keep: NDArray[np.bool_] | None = None) -> Groups:
    """Sort rows by bucket, measurement and shard.

    Args:
        buckets: where each body goes; None = its rows are left out (refused, or all or nothing with a bad line).
        keep: bool a row; None = all.
    """
    kernels = current()
    targets: dict[str, int] = {}
    distinct: list[Bucket] = []
    body_bucket = np.full(len(buckets), -1, np.int32)
    for body, bucket in enumerate(buckets):
        if bucket is not None:
            body_bucket[body] = targets.setdefault(bucket.id, len(distinct))
            if len(targets) > len(distinct):
                distinct.append(bucket)
    runs = np.empty((parsed.rows, 3), np.int64)
    row_run = np.empty(parsed.rows, np.int32)
    count = kernels.split_rows(
        parsed.body,
        parsed.series,
        parsed.times,
        _mask(parsed, keep),
        body_bucket,
        np.fromiter((bucket.shard_ns for bucket in distinct), np.int64, len(distinct)),
        parsed.series_measurement,
        np.full((len(distinct), len(parsed.measurements)), -1, np.int32),
        runs,
        row_run,
    )
    if count == 1:
        groups, row_group = runs[:1], row_run
    else:
        groups, run_group = np.unique(runs[:count], axis=0, return_inverse=True)
        row_group = np.where(row_run >= 0, run_group.reshape(-1)[row_run] if count else -1, -1).astype(np.int32)
    rows, offsets = order_rows(kernels, row_group, len(groups))
    wanted = groups.tolist()
    return Groups(
        buckets=tuple(distinct[bucket] for bucket, _, _ in wanted),
        measurements=tuple(parsed.measurements[measurement] for _, measurement, _ in wanted),
        shards=tuple(_shard(shard, distinct[bucket].shard_ns) for bucket, _, shard in wanted),
        rows=rows,
        offsets=offsets,
    )


def _shard(number: int, shard_ns: int) -> tuple[int, int]:
    """Bounds of a shard; the outermost ones are cut where 64 bits end."""
    return max(number * shard_ns, -(2**63)), min((number + 1) * shard_ns, 2**63 - 1)


def _mask(parsed: Parsed, keep: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    return np.ones(parsed.rows, np.bool_) if keep is None else np.ascontiguousarray(keep, np.bool_)


def order_rows(kernels: Kernels, group: NDArray[np.int32], groups: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows by group, in row order within a group, and where each group begins; rows of group -1 are left out."""
    offsets = np.zeros(groups + 1, np.int64)
    order = np.empty(len(group), np.int64)
    kernels.order_by(group, offsets, order)
    return order[: offsets[groups]], offsets
