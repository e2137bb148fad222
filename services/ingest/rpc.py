"""ingest.write: decode, call, encode. Source: docs/rpc.md."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any, Literal

import msgspec

from common.budget import Budget, Claim
from common.errors import Invalid, TooLarge
from common.identity import Identity
from common.rpc.server import Call, Handler, Reply
from common.rpc.wire import Buffer
from services.ingest.checks import Result, to_result
from services.ingest.config import BodyLimit
from services.ingest.write import RawWrite

MAX_ITEMS = 4096
WriteAll = Callable[[Sequence[RawWrite]], Awaitable[list[Result]]]


class _Item(msgspec.Struct, frozen=True):
    id: bytes
    now_ns: int
    attempt: int
    identity: int
    dialect: Literal["v1", "v2"]
    params: dict[str, str]
    encoding: str
    size: int


class _Head(msgspec.Struct, frozen=True):
    identities: list[bytes]
    items: list[_Item]


def handlers(write: WriteAll, budget: Budget, body_limit: Callable[[str], BodyLimit]) -> dict[str, Handler]:
    """The methods of ingest."""

    async def handle_write(call: Call) -> Reply:
        identities, items = _decode_head(call.head)
        with budget.claim() as claim:
            if len(items) == 1 and items[0].size < 0:
                try:
                    bodies = [await _read_streamed(call, body_limit(items[0].dialect), claim)]
                except TooLarge as error:
                    return Reply({"results": [to_result(error)]})
            else:
                bodies = await _read_sized(call, items, body_limit, claim)
            raws = [_raw(item, identities, body) for item, body in zip(items, bodies, strict=True)]
            return Reply({"results": await write(raws)})

    return {"write": handle_write}


def _decode_head(head: Any) -> tuple[list[Identity], list[_Item]]:
    try:
        decoded = msgspec.convert(head, _Head)
        identities = [Identity.from_wire(wire) for wire in decoded.identities]
    except (msgspec.ValidationError, ValueError, TypeError) as error:
        raise Invalid(f"the head of a write is malformed: {error}") from None
    items = decoded.items
    if not 0 < len(items) <= MAX_ITEMS:
        raise Invalid(f"a call with {len(items)} writes")
    for item in items:
        if len(item.id) != 16 or not 0 <= item.identity < len(identities) or item.attempt < 0:
            raise Invalid("the head of a write is malformed")
        if item.size < 0 and len(items) > 1:
            raise Invalid("a write of unknown size among others")
    return identities, items


def _raw(item: _Item, identities: Sequence[Identity], body: bytes) -> RawWrite:
    return RawWrite(
        id=item.id,
        now_ns=item.now_ns,
        attempt=item.attempt,
        identity=identities[item.identity],
        dialect=item.dialect,
        params=item.params,
        encoding=item.encoding,
        body=body,
    )


async def _read_streamed(call: Call, limit: BodyLimit, claim: Claim) -> bytes:
    """The body of a write whose size is not known beforehand."""
    pieces: list[Buffer] = []
    size = 0
    async for piece in call.iter_pieces():
        size += len(piece)
        if size > limit.wire_bytes:
            raise _too_large(limit)
        claim.take(len(piece))
        pieces.append(piece)
    return b"".join(pieces)


async def _read_sized(
    call: Call, items: Sequence[_Item], body_limit: Callable[[str], BodyLimit], claim: Claim
) -> list[bytes]:
    """The bodies of writes whose sizes stand in the head."""
    for item in items:
        limit = body_limit(item.dialect)
        if item.size > limit.wire_bytes:
            raise _too_large(limit)
    stops = list(accumulate((item.size for item in items), initial=0))
    claim.take(stops[-1])
    parts = await call.parts(max_bytes=stops[-1])
    if len(parts) != 1 or len(parts[0]) != stops[-1]:
        raise Invalid("the part of a write is not as long as its head says")
    return [parts[0][start:stop] for start, stop in pairwise(stops)]


def _too_large(limit: BodyLimit) -> TooLarge:
    return TooLarge(f"Request Entity Too Large: the body is over {limit.wire_bytes} bytes ({limit.wire_setting})")
