"""The called side of internal calls: checks a call, hands it to its method, sends the answer. Source: docs/rpc.md."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import hdrs, web

from common.errors import InfluxError, Invalid, TooLarge, Unauthorized, Unavailable
from common.log import get_logger
from common.messages import CALLERS
from common.rpc import wire
from common.rpc.clock import now_ms
from common.rpc.parts import MAX_PART_BYTES, Closing, Pieces, iter_parts, read_part, read_prefix
from common.rpc.wire import STATUS_OF_ERROR, Buffer, Keys

log = get_logger("rpc")
PATH = "/rpc/"
# Answers of up to this many bytes leave in one write; larger ones part by part.
SMALL_ANSWER_BYTES = 1 << 20
# How long the head of a call may be on its way.
HEAD_TIMEOUT_S = 10.0
# A caller that takes nothing of an answer for so long is given up: what it holds here is not free.
SEND_TIMEOUT_S = 90.0


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
            async with aclosing(iter_parts(reply.parts)) as parts:
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
