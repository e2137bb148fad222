"""The calling side of internal calls: signs, sends, and reads answers. Source: docs/rpc.md."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from common.errors import Unavailable, error_of
from common.log import get_logger
from common.rpc import small, wire
from common.rpc.clock import now_ms
from common.rpc.connections import CONNECT_TIMEOUT_S, Connection, Connections, find_place
from common.rpc.parts import MAX_PART_BYTES, Pieces, iter_parts, read_part
from common.rpc.wire import STATUS_OF_ERROR, Buffer, Keys

log = get_logger("rpc")
# A call's seal over up to this much is made in the event loop (0.3 ms); over more in a thread.
INLINE_CALL_BYTES = 4 << 20
# Head and parts of calls that are signed as a whole; what frames many tiny parts has room beside them.
WHOLE_BYTES = wire.MAX_WHOLE_BYTES // 4
# Parts of calls whose parts are streamed, if their size is known.
STREAMED_PART_BYTES = 1 << 20

# How an answer fails to come.
_BROKEN = (aiohttp.ClientError, HttpProcessingError, TimeoutError, EOFError, OSError)


@dataclass(frozen=True, slots=True)
class Streamed:
    """What a call carries, *size* bytes in pieces as they come: cut into parts anew on the way."""

    pieces: AsyncIterable[Buffer]
    size: int


Parts = Sequence[Buffer] | AsyncIterable[Buffer] | Streamed


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: its head and its parts."""

    head: Any
    parts: list[bytes] = field(default_factory=list)


class StreamedAnswer:
    """An answer whose parts are read as they come. A cut answer raises Unavailable, never ends early."""

    def __init__(self, head: Any, pieces: Pieces) -> None:
        self.head = head
        self._pieces = pieces

    async def parts(self) -> AsyncIterator[bytes]:
        while isinstance(part := await read_part(self._pieces, MAX_PART_BYTES), bytes):
            yield part
        if part.code != wire.END_CODE or not await self._pieces.at_end():
            raise Unavailable("an answer did not end as it should")

    def parts_at_hand(self) -> list[bytes] | None:
        """All parts, where the whole answer has come; None where it is on its way."""
        at_hand = self._pieces.at_hand()
        if at_hand is None:
            return None
        parts, closing = wire.split_parts(*at_hand)
        if closing.code != wire.END_CODE:
            raise Unavailable("an answer did not end as it should")
        return parts

    async def whole(self) -> Answer:
        """The answer with all of its parts."""
        parts = self.parts_at_hand()
        return Answer(self.head, [part async for part in self.parts()] if parts is None else parts)


class RpcClient:
    """Calls methods of other services; one per process.

    Errors of the called method are raised again here as the same class. No connection, a cut answer or a time-out is
    ``Unavailable``.
    """

    def __init__(self, keys: Keys, caller: str, max_connections: int = 256) -> None:
        self._keys = keys
        self._caller = caller
        self._max_connections = max_connections
        self._session: aiohttp.ClientSession | None = None
        self._connections: Connections | None = None

    async def open(self) -> None:
        """Open the connection pools; needs the running loop."""
        self._connections = Connections(self._max_connections)
        connector = aiohttp.TCPConnector(limit=self._max_connections, keepalive_timeout=60, ttl_dns_cache=5)
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)

    async def close(self) -> None:
        if self._connections is not None:
            self._connections.close()
        if self._session is not None:
            await self._session.close()

    async def call(
        self,
        url: str,
        method: str,
        head: Any,
        parts: Sequence[Buffer] = (),
        *,
        timeout_s: float = 30,
        retry_for_s: float = 0,
    ) -> Answer:
        """Call *method* (``audience.name``) at the service *url* and read the whole answer.

        Args:
            retry_for_s: how long to try again when the service can't be reached; only for calls that are harmless
                twice. Each try is signed anew.
        """
        deadline = time.monotonic() + retry_for_s
        pause_s = 0.05
        while True:
            try:
                return await self._call(url, method, head, parts, timeout_s)
            except Unavailable as error:
                if error.details.get("answered") or time.monotonic() + pause_s > deadline:
                    raise
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, 1.0)

    async def _call(self, url: str, method: str, head: Any, parts: Sequence[Buffer], timeout_s: float) -> Answer:
        place = find_place(url)
        if place is None:
            async with self.stream(url, method, head, parts, timeout_s=timeout_s) as answer:
                return await answer.whole()
        encoded = await self._encode(method, head, parts, [])
        try:
            connection = await self._pool.acquire(place)
            try:
                return await (await self._ask(connection, method, encoded, timeout_s)).whole()
            finally:
                self._pool.release(connection)
        except _BROKEN as error:
            raise _unreachable(method, error) from error

    @asynccontextmanager
    async def stream(
        self,
        url: str,
        method: str,
        head: Any,
        parts: Parts = (),
        *,
        timeout_s: float | None = 30,
    ) -> AsyncIterator[StreamedAnswer]:
        """Call *method* and read the answer's parts as they come; *parts* may be streamed too, best ``Streamed``.

        *timeout_s* bounds the wait for each piece of the answer, not the whole of it; None = no bound (feeds).
        An exception raised by *parts* itself ends the call and is raised here.
        """
        source_error: list[BaseException] = []
        encoded = await self._encode(method, head, parts, source_error)
        place = find_place(url)
        try:
            if place is not None and encoded.size is not None:
                connection = await self._pool.acquire(place)
                try:
                    yield await self._ask(connection, method, encoded, timeout_s)
                finally:
                    self._pool.release(connection)
            else:
                timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=timeout_s)
                target, data = f"{url}{small.PATH}{method}", iter_parts(encoded.pieces)
                headers = {
                    wire.CALL_HEADER: encoded.claim,
                    wire.HEAD_HEADER: str(encoded.head_size),
                    "Content-Type": wire.CONTENT_TYPE,
                }
                async with self._general.post(target, data=data, headers=headers, timeout=timeout) as response:
                    pieces = Pieces(response.content)
                    size = _head_size(response.headers)
                    answer_head = await _read_answer_head(response.status, size, pieces, method)
                    yield StreamedAnswer(answer_head, pieces)
        except _BROKEN as error:
            if source_error:
                raise source_error[0] from None
            raise _unreachable(method, error) from error

    async def _ask(
        self, connection: Connection, method: str, encoded: _Encoded, timeout_s: float | None
    ) -> StreamedAnswer:
        """Send a call whose size is known over *connection*, and read the head of its answer."""
        assert encoded.size is not None
        head = small.request_head(connection.place.host_header, method, encoded.claim, encoded.head_size, encoded.size)
        answered = await connection.ask(head, encoded.pieces, timeout_s)
        if isinstance(answered, small.SmallAnswer):
            pieces, size = Pieces.of(answered.body), answered.head_size
        else:
            pieces, size = Pieces(answered.content), _head_size(answered.headers)
        return StreamedAnswer(await _read_answer_head(answered.status, size, pieces, method), pieces)

    @property
    def _pool(self) -> Connections:
        if self._connections is None:
            raise RuntimeError("the RPC client is not open")
        return self._connections

    @property
    def _general(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("the RPC client is not open")
        return self._session

    async def _encode(self, method: str, head: Any, parts: Parts, source_error: list[BaseException]) -> _Encoded:
        """A signed call; an exception that streamed *parts* raise is put into *source_error*."""
        encoded = wire.encode_head(head)
        nonce = secrets.token_bytes(wire.NONCE_BYTES)
        expires_ms = now_ms() + wire.LIFETIME_MS
        audience = method.partition(".")[0]
        if isinstance(parts, Sequence) and len(encoded) + sum(map(len, parts)) <= WHOLE_BYTES:
            body = wire.encode_whole(encoded, parts)
            claim = wire.sign_call(self._keys, method, audience, self._caller, expires_ms, nonce, body, wire.WHOLE)
            return _Encoded(claim, len(encoded), (body,), len(body))
        claim = wire.sign_call(self._keys, method, audience, self._caller, expires_ms, nonce, encoded)
        if isinstance(parts, Streamed):
            size = len(encoded) + wire.framed_bytes(parts.size, STREAMED_PART_BYTES)
            framed = wire.frame(self._keys.signing, nonce, encoded, parts.pieces, parts.size, STREAMED_PART_BYTES)
            return _Encoded(claim, len(encoded), _watched(framed, source_error), size)
        if not isinstance(parts, Sequence):
            streamed = _stream_call(self._keys.signing, nonce, encoded, parts)
            return _Encoded(claim, len(encoded), _watched(streamed, source_error), None)
        if sum(map(len, parts)) <= INLINE_CALL_BYTES:
            pieces = wire.encode_call(self._keys, nonce, encoded, parts)
        else:
            pieces = await asyncio.to_thread(wire.encode_call, self._keys, nonce, encoded, parts)
        return _Encoded(claim, len(encoded), pieces, sum(map(len, pieces)))


@dataclass(frozen=True, slots=True)
class _Encoded:
    """A call: the header that signs it, how long its head is, and its body, head included.

    ``size`` of the body is None when nobody knows it beforehand.
    """

    claim: str
    head_size: int
    pieces: Sequence[Buffer] | AsyncGenerator[Buffer, None]
    size: int | None


async def _watched(pieces: AsyncIterable[Buffer], source_error: list[BaseException]) -> AsyncGenerator[Buffer, None]:
    try:
        async for piece in pieces:
            yield piece
    except Exception as error:
        source_error.append(error)
        raise


async def _stream_call(
    key: bytes, nonce: bytes, head: bytes, parts: AsyncIterable[Buffer]
) -> AsyncGenerator[Buffer, None]:
    seal = wire.Seal(key, nonce)
    yield head
    async for part in parts:
        seal.add(part)
        yield wire.part_prefix(len(part)) + part
    yield wire.SEAL_PREFIX + seal.finish()


def _unreachable(method: str, error: BaseException) -> Unavailable:
    return Unavailable(f"cannot reach {method.partition('.')[0]}: {type(error).__name__}")


def _head_size(headers: Mapping[str, str]) -> int:
    return int(headers.get(wire.HEAD_HEADER, "0"))


async def _read_answer_head(status: int, size: int, pieces: Pieces, method: str) -> Any:
    head = wire.decode_head(await pieces.take(size)) if size else None
    if status == 200:
        return head
    if status == STATUS_OF_ERROR and isinstance(head, dict):
        details = head.get("details") or {}
        raise error_of(head["code"], head["message"], head.get("retry_after_s"), {**details, "answered": True})
    # The call itself was refused (401, 400, 404): a fault between our own services, not the client's.
    log.error("internal call refused", method=method, status=status)
    raise Unavailable(f"the call {method} was refused with {status}")
