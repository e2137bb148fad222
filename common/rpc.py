"""Internal calls: msgpack over HTTP, signed both ends here; the bytes themselves are ``common/wire.py``.

Source: docs/rpc.md.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from common import wire
from common.connections import CONNECT_TIMEOUT_S, Connections, Place, find_place
from common.errors import InfluxError, Invalid, TooLarge, Unauthorized, Unavailable, error_of
from common.log import get_logger
from common.messages import CALLERS
from common.rpc_parts import Closing, Pieces, read_part, read_prefix
from common.wire import Buffer, Keys

log = get_logger("rpc")
PATH = "/rpc/"
MAX_PART_BYTES = 64 << 20
# A call's seal over up to this much is made in the event loop (0.3 ms); over more in a thread.
INLINE_CALL_BYTES = 4 << 20
# Answers of up to this many bytes leave in one write; larger ones part by part.
SMALL_ANSWER_BYTES = 1 << 20
# How long the head of a call may be on its way.
HEAD_TIMEOUT_S = 10.0
# A caller that takes nothing of an answer for so long is given up: what it holds here is not free.
SEND_TIMEOUT_S = 90.0
STATUS_OF_ERROR = 460  # any error of a called method; its code is in the head. 401 and 400 speak of the call itself.

# Parts of calls whose parts are streamed, if their size is known.
STREAMED_PART_BYTES = 1 << 20

# How an answer fails to come.
_BROKEN = (aiohttp.ClientError, HttpProcessingError, TimeoutError, asyncio.IncompleteReadError, OSError)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


# ---------------------------------------------------------------- calling


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
        clock_s = asyncio.get_running_loop().time
        deadline = clock_s() + retry_for_s
        pause_s = 0.05
        while True:
            try:
                async with self.stream(url, method, head, parts, timeout_s=timeout_s) as answer:
                    return Answer(answer.head, [part async for part in answer.parts()])
            except Unavailable as error:
                if error.details.get("answered") or clock_s() + pause_s > deadline:
                    raise
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, 1.0)

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
        if self._session is None or self._connections is None:
            raise RuntimeError("the RPC client is not open")
        audience = method.partition(".")[0]
        source_error: list[BaseException] = []
        headers, body = await self._encode(method, head, parts, source_error)
        place = find_place(url)
        try:
            if place is not None and body.size is not None:
                headers["Content-Length"] = str(body.size)
                connection = await self._connections.acquire(place)
                try:
                    message, content = await connection.ask(
                        _request_head(place, method, headers), body.pieces, timeout_s
                    )
                    pieces = Pieces(content)
                    yield StreamedAnswer(await _read_answer_head(message.code, message.headers, pieces, method), pieces)
                finally:
                    self._connections.release(connection)
            else:
                timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=timeout_s)
                target, data = f"{url}/rpc/{method}", _each(body.pieces)
                async with self._session.post(target, data=data, headers=headers, timeout=timeout) as response:
                    pieces = Pieces(response.content)
                    answer_head = await _read_answer_head(response.status, response.headers, pieces, method)
                    yield StreamedAnswer(answer_head, pieces)
        except _BROKEN as error:
            if source_error:
                raise source_error[0] from None
            raise Unavailable(f"cannot reach {audience}: {type(error).__name__}") from error

    async def _encode(
        self, method: str, head: Any, parts: Parts, source_error: list[BaseException]
    ) -> tuple[dict[str, str], _Body]:
        """Headers and body of a call, signed; an exception that streamed *parts* raise is put into *source_error*."""
        encoded = wire.encode_head(head)
        nonce = secrets.token_bytes(wire.NONCE_BYTES)
        expires_ms = now_ms() + wire.LIFETIME_MS
        audience = method.partition(".")[0]
        headers = {
            wire.CALL_HEADER: wire.sign_call(self._keys, method, audience, self._caller, expires_ms, nonce, encoded),
            wire.HEAD_HEADER: str(len(encoded)),
            "Content-Type": wire.CONTENT_TYPE,
        }
        if isinstance(parts, Streamed):
            size = len(encoded) + wire.framed_bytes(parts.size, STREAMED_PART_BYTES)
            framed = wire.frame(self._keys.signing, nonce, encoded, parts.pieces, parts.size, STREAMED_PART_BYTES)
            return headers, _Body(_watched(framed, source_error), size)
        if not isinstance(parts, Sequence):
            streamed = _stream_call(self._keys.signing, nonce, encoded, parts)
            return headers, _Body(_watched(streamed, source_error), None)
        if sum(map(len, parts)) <= INLINE_CALL_BYTES:
            pieces = wire.encode_call(self._keys, nonce, encoded, parts)
        else:
            pieces = await asyncio.to_thread(wire.encode_call, self._keys, nonce, encoded, parts)
        return headers, _Body(pieces, sum(map(len, pieces)))


@dataclass(frozen=True, slots=True)
class _Body:
    """The body of a call; *size* is None when nobody knows it beforehand."""

    pieces: Sequence[Buffer] | AsyncGenerator[Buffer, None]
    size: int | None


def _request_head(place: Place, method: str, headers: Mapping[str, str]) -> bytes:
    lines = (f"POST /rpc/{method} HTTP/1.1", f"Host: {place.host_header}", *map(": ".join, headers.items()), "", "")
    return "\r\n".join(lines).encode()


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


async def _read_answer_head(status: int, headers: Mapping[str, str], pieces: Pieces, method: str) -> Any:
    size = int(headers.get(wire.HEAD_HEADER, "0"))
    head = wire.decode_head(await pieces.take(size)) if size else None
    if status == 200:
        return head
    if status == STATUS_OF_ERROR and isinstance(head, dict):
        details = head.get("details") or {}
        raise error_of(head["code"], head["message"], head.get("retry_after_s"), {**details, "answered": True})
    # The call itself was refused (401, 400, 404): a fault between our own services, not the client's.
    log.error("internal call refused", method=method, status=status)
    raise Unavailable(f"the call {method} was refused with {status}")


# ---------------------------------------------------------------- being called


class Call:
    """One verified call as its handler sees it. Parts are checked against the seal when the last one is read.

    ``content_length`` is the size of the whole body, head and seal included; None = it is streamed.
    """

    def __init__(
        self,
        caller: str,
        head: Any,
        pieces: Pieces,
        key: bytes,
        nonce: bytes,
        content_length: int | None = None,
    ) -> None:
        self.caller = caller
        self.head = head
        self.content_length = content_length
        self._pieces = pieces
        self._key = key
        self._nonce = nonce
        self._sealed = False

    async def iter_parts(self, max_part_bytes: int = MAX_PART_BYTES) -> AsyncIterator[bytes]:
        """Parts as they arrive. Nothing may be *done* with them before the iteration has ended: only then is the
        seal checked (Unauthorized if it is wrong, Invalid if the body is cut or is no sequence of parts)."""
        seal = wire.Seal(self._key, self._nonce)
        with _cut_is_invalid():
            while not isinstance(part := await read_part(self._pieces, max_part_bytes), Closing):
                seal.add(part)
                yield part
        await self._check_end(part, seal)

    async def iter_pieces(self) -> AsyncIterator[Buffer]:
        """What the parts hold, in pieces as they arrive, without regard to where a part ends; otherwise as
        ``iter_parts``: large parts are not put together first."""
        seal = wire.Seal(self._key, self._nonce)
        with _cut_is_invalid():
            while not isinstance(left := await read_prefix(self._pieces, MAX_PART_BYTES), Closing):
                seal.begin(left)
                while left:
                    piece = await self._pieces.take_some(left)
                    left -= len(piece)
                    seal.update(piece)
                    yield piece
        await self._check_end(left, seal)

    async def _check_end(self, closing: Closing, seal: wire.Seal) -> None:
        if closing.code != wire.SEAL_CODE or not secrets.compare_digest(closing.payload, seal.finish()):
            raise Unauthorized("the seal of the call is wrong")
        if not await self._pieces.at_end():
            raise Invalid("bytes after the seal of a call")
        self._sealed = True

    async def parts(self, max_bytes: int = 1 << 30, max_part_bytes: int = MAX_PART_BYTES) -> list[bytes]:
        """All parts, checked; TooLarge past *max_bytes* in sum."""
        parts = []
        total = 0
        async for part in self.iter_parts(max_part_bytes):
            total += len(part)
            if total > max_bytes:
                raise TooLarge(f"a call of over {max_bytes} bytes")
            parts.append(part)
        return parts

    async def finish(self) -> None:
        """Check the seal of a call whose handler wants no parts."""
        if not self._sealed:
            async for _ in self.iter_parts():
                raise Invalid("a part in a call that takes none")


@contextmanager
def _cut_is_invalid() -> Iterator[None]:
    try:
        yield
    except asyncio.IncompleteReadError:
        raise Invalid("the body of a call is cut") from None


@dataclass(slots=True)
class Reply:
    """What a handler answers. *parts* may be an async iterator; then they leave as they come."""

    head: Any = None
    parts: Sequence[Buffer] | AsyncIterable[Buffer] = ()


Handler = Callable[[Call], Awaitable[Reply]]


class RpcServer:
    """The ``/rpc/<method>`` endpoint of one service."""

    def __init__(self, audience: str, keys: Keys, handlers: Mapping[str, Handler]) -> None:
        self._audience = audience
        self._keys = keys
        self._handlers = handlers
        self._guard = wire.ReplayGuard(now_ms)
        unknown = {name for name in handlers if f"{audience}.{name}" not in CALLERS}
        if unknown:
            raise ValueError(f"methods of {audience} that common/messages.py does not list: {sorted(unknown)}")

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request whose path begins with ``PATH``."""
        try:
            call, handler = await self._admit(request)
        except InfluxError as error:
            # The body is not read: the connection can't be used again.
            status = 401 if isinstance(error, Unauthorized) else 503 if isinstance(error, Unavailable) else 400
            response = web.Response(status=status, text=str(error))
            response.force_close()
            return response
        try:
            reply = await handler(call)
        except Exception as error:
            return _error_response(request, error)
        return await self._send(request, reply)

    async def _admit(self, request: web.BaseRequest) -> tuple[Call, Handler]:
        if request.method != hdrs.METH_POST:
            raise Invalid("a call is a POST")
        claim = wire.parse_claim(request.headers.get(wire.CALL_HEADER, ""))
        size_text = request.headers.get(wire.HEAD_HEADER, "")
        if not size_text.isdecimal() or not 0 < int(size_text) <= wire.MAX_HEAD_BYTES:
            raise Unauthorized("the call has no head")
        pieces = Pieces(request.content)
        try:
            if request.content.is_eof():
                head = await pieces.take(int(size_text))
            else:
                async with asyncio.timeout(HEAD_TIMEOUT_S):
                    head = await pieces.take(int(size_text))
        except (asyncio.IncompleteReadError, TimeoutError):
            raise Unauthorized("the head of the call is cut") from None
        method = request.raw_path.removeprefix(PATH)
        key = wire.verify_call(self._keys, claim, method, self._audience, head, now_ms())
        self._guard.admit(claim.nonce)
        if claim.caller not in CALLERS.get(method, ()):
            raise Unauthorized(f"{claim.caller} may not call {method}")
        handler = self._handlers.get(method.partition(".")[2])
        if handler is None:
            raise Invalid(f"no method {method}")
        decoded = wire.decode_head(head)
        return Call(claim.caller, decoded, pieces, key, claim.nonce, request.content_length), handler

    async def _send(self, request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
        head = wire.encode_head(reply.head)
        if isinstance(reply.parts, Sequence) and sum(map(len, reply.parts)) <= SMALL_ANSWER_BYTES:
            pieces: list[Buffer] = [head]
            for part in reply.parts:
                pieces += (wire.part_prefix(len(part)), part)
            pieces.append(wire.END)
            return _WholeAnswer(request, 200, len(head), b"".join(pieces))
        headers = {wire.HEAD_HEADER: str(len(head)), "Content-Type": wire.CONTENT_TYPE}
        response = web.StreamResponse(headers=headers)
        try:
            # Closed whatever happens: a handler's generator holds slots and memory until it is.
            async with aclosing(_each(reply.parts)) as parts:
                await response.prepare(request)
                await response.write(head)
                async for part in parts:
                    async with asyncio.timeout(SEND_TIMEOUT_S):
                        await response.write(wire.part_prefix(len(part)))
                        await response.write(part)
                await response.write_eof(wire.END)
        except BaseException as error:
            # Closing would first send what is buffered, to a caller who may never take it.
            if request.transport is not None:
                request.transport.abort()
            if isinstance(error, InfluxError | TimeoutError):
                log.warning("an answer was cut", path=request.path, reason=str(error) or "the caller takes nothing")
                raise ConnectionError("the answer was cut") from error
            raise
        return response


async def _each(parts: Sequence[Buffer] | AsyncIterable[Buffer]) -> AsyncGenerator[Buffer, None]:
    if isinstance(parts, Sequence):
        for part in parts:
            yield part
        return
    try:
        async for part in parts:
            yield part
    finally:
        close = getattr(parts, "aclose", None)
        if close is not None:
            await close()


def _error_response(request: web.BaseRequest, error: Exception) -> web.StreamResponse:
    if not isinstance(error, InfluxError):
        log.error("internal call failed", path=request.raw_path, exc_info=error)
        error = InfluxError("An internal error has occurred - check server logs")
    head = {
        "code": error.code,
        "message": str(error),
        "retry_after_s": error.retry_after_s,
        "details": error.details,
    }
    encoded = wire.encode_head(head)
    return _WholeAnswer(request, STATUS_OF_ERROR, len(encoded), encoded + wire.END)


class _WholeAnswer(web.StreamResponse):
    """An answer that is all there: its few headers are written here, which aiohttp takes 30 us to prepare."""

    def __init__(self, request: web.BaseRequest, status: int, head_bytes: int, body: bytes) -> None:
        super().__init__(status=status)
        self._call = request
        self._head_bytes = head_bytes
        self._whole_body = body

    async def prepare(self, request: web.BaseRequest) -> None:
        self._keep_alive = request.keep_alive

    async def write_eof(self, data: bytes = b"") -> None:
        lines = (
            f"HTTP/1.1 {self.status} {'OK' if self.status == 200 else 'Failed'}",
            f"{wire.HEAD_HEADER}: {self._head_bytes}",
            f"Content-Type: {wire.CONTENT_TYPE}",
            f"Content-Length: {len(self._whole_body)}",
            f"Connection: {'keep-alive' if self._keep_alive else 'close'}",
            "",
            "",
        )
        await self._call.writer.write("\r\n".join(lines).encode() + self._whole_body)
