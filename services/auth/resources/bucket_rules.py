"""What a bucket may be, how one is made and how it ends. Source: InfluxDB 2.x, "Buckets"."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from common.errors import Invalid, Unprocessable
from services.auth.access import mappings
from services.auth.context import Context
from services.auth.entities.buckets import SECOND_NS, Bucket, Dbrp
from services.auth.records.change import Change
from services.auth.records.reader import Reader
from services.auth.resources import attachments

HOUR_S, DAY_S = 3600, 86_400
SYSTEM = (
    ("_monitoring", "System bucket for monitoring logs", 7 * DAY_S),
    ("_tasks", "System bucket for task logs", 3 * DAY_S),
)
MAX_SECONDS = (1 << 63) // SECOND_NS - 1


def check_name(name: str) -> None:
    """Raises Invalid for a name that no bucket of a user may have."""
    if not name:
        raise Invalid("bucket name is empty")
    if name.startswith("_"):
        raise Invalid(f"bucket name {name} is invalid. Buckets may not start with underscore")
    if '"' in name:
        raise Invalid(f"bucket name {name} is invalid. Bucket names may not include quotation marks")


def default_shard_s(retention_s: int) -> int:
    """Length of a shard where none is asked; *retention_s* 0 = for ever."""
    if 0 < retention_s < 2 * DAY_S:
        return HOUR_S
    return DAY_S if 0 < retention_s < 180 * DAY_S else 7 * DAY_S


def check_retention(retention_s: int, shard_s: int) -> int:
    """The shard length for a retention, both in s; 0 = the default one. Raises Unprocessable."""
    if retention_s < 0:
        raise Unprocessable("expiration seconds cannot be negative")
    if shard_s < 0:
        raise Unprocessable("shard-group duration seconds cannot be negative")
    if max(retention_s, shard_s) > MAX_SECONDS:
        raise Unprocessable(f"durations cannot be longer than {MAX_SECONDS} seconds")
    if 0 < retention_s < HOUR_S:
        raise Unprocessable("retention policy duration must be at least 1h0m0s")
    shard_s = max(shard_s, HOUR_S) if shard_s else default_shard_s(retention_s)
    if 0 < retention_s < shard_s:
        raise Unprocessable("retention policy duration must be greater than the shard duration")
    return shard_s


def changed_retention(bucket: Bucket, retention_s: int | None, shard_s: int | None) -> tuple[int, int]:
    """Retention and shard length, in ns, of a bucket whose rule is changed; None = as it is. Raises Unprocessable."""
    if retention_s is None and shard_s is None:
        return bucket.retention_ns, bucket.shard_ns
    if retention_s is None:
        retention_s = bucket.retention_ns // SECOND_NS
    if shard_s is None:
        shard_s = bucket.shard_ns // SECOND_NS
        if HOUR_S <= retention_s < shard_s:
            raise Unprocessable("shard-group duration must also be updated to be smaller than new retention duration")
    shard_s = check_retention(retention_s, shard_s)
    return retention_s * SECOND_NS, shard_s * SECOND_NS


def make(
    context: Context, org_id: str, name: str, retention_s: int = 0, shard_s: int = 0, *, description: str = "",
    rp: str = "", type: str = "user",
) -> Bucket:  # fmt: skip
    """A new bucket, valid but for its name. Raises Unprocessable."""
    now_ns = context.now_ns()
    shard_s = check_retention(retention_s, shard_s)
    return Bucket(
        id=context.ids.random(), org_id=org_id, name=name, type=type, description=description, rp=rp,
        retention_ns=retention_s * SECOND_NS, shard_ns=shard_s * SECOND_NS, created_ns=now_ns, updated_ns=now_ns,
    )  # fmt: skip


def system_buckets(context: Context, org_id: str) -> list[Bucket]:
    """The two that each organization has."""
    return [
        make(context, org_id, name, retention_s, DAY_S, description=description, type="system")
        for name, description, retention_s in SYSTEM
    ]


async def end(reader: Reader, change: Change, ended: Sequence[Bucket], also: Iterable[Dbrp] = ()) -> None:
    """Add to *change* the end of buckets of one organization: data, mappings, memberships and label mappings.

    Args:
        also: mappings of other buckets that end with them.

    Raises:
        Invalid: one is a system bucket.
    """
    gone = list(also)
    for bucket in ended:
        if bucket.type == "system":
            raise Invalid("system buckets cannot be deleted")
        change.delete_once(bucket)
        await attachments.end(reader, change, "buckets", bucket.id)
        gone += await reader.list_all(Dbrp, "bucket_id", bucket.id)
        change.drop_buckets.append(bucket.id)
    await mappings.remove(reader, change, gone)
