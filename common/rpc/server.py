"""The called side of internal calls: checks a call, hands it to its method, sends the answer. Source: docs/rpc.md."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from aiohttp import StreamReader, hdrs, web

from common.errors import InfluxError, Invalid, TooLarge, Unauthorized, Unavailable
from common.log import get_logger
from common.messages import CALLERS
from common.rpc import small, wire
from common.rpc.clock import now_ms
from common.rpc.parts import MAX_PART_BYTES, Pieces, iter_parts, read_part, read_prefix
from common.rpc.small import PATH
from common.rpc.wire import STATUS_OF_ERROR, Buffer, Keys

log = get_logger("rpc")
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
        claim: wire.CallClaim,
        head: Any,
        pieces: Pieces,
        key: bytes,
        content_length: int | None = None,
    ) -> None:
        self.caller = claim.caller
        self.head = head
        self.content_length = content_length
        self._pieces = pieces
        # None: the whole body is verified already.
        self._seal = wire.Seal(key, claim.nonce) if claim.form == wire.SEALED else None
        self._checked = False

    async def iter_parts(self, max_part_bytes: int = MAX_PART_BYTES) -> AsyncIterator[bytes]:
        """Parts as they arrive. Nothing may be *done* with them before the iteration has ended: only then is the
        seal checked (Unauthorized if it is wrong, Invalid if the body is cut or is no sequence of parts)."""
        with _cut_is_invalid():
            while not isinstance(part := await read_part(self._pieces, max_part_bytes), wire.Closing):
                if self._seal is not None:
                    self._seal.add(part)
                yield part
        await self._check_end(part)

    async def iter_pieces(self) -> AsyncIterator[Buffer]:
        """What the parts hold, in pieces as they arrive, without regard to where a part ends; otherwise as
        ``iter_parts``: large parts are not put together first."""
        with _cut_is_invalid():
            while not isinstance(left := await read_prefix(self._pieces, MAX_PART_BYTES), wire.Closing):
                if self._seal is not None:
                    self._seal.begin(left)
                while left:
                    piece = await self._pieces.take_some(left)
                    left -= len(piece)
                    if self._seal is not None:
                        self._seal.update(piece)
                    yield piece
        await self._check_end(left)

    async def parts(self, max_bytes: int = 1 << 30, max_part_bytes: int = MAX_PART_BYTES) -> list[bytes]:
        """All parts, checked; TooLarge past *max_bytes* in sum."""
        at_hand = self._parts_at_hand()
        if at_hand is not None:
            if sum(map(len, at_hand)) > max_bytes or any(len(part) > max_part_bytes for part in at_hand):
                raise TooLarge(f"a call of over {max_bytes} bytes, or a part of over {max_part_bytes}")
            return at_hand
        parts = []
        total = 0
        async for part in self.iter_parts(max_part_bytes):
            total += len(part)
            if total > max_bytes:
                raise TooLarge(f"a call of over {max_bytes} bytes")
            parts.append(part)
        return parts

    async def finish(self) -> None:
        """Check the end of a call whose handler wants no parts."""
        if self._checked:
            return
        at_hand = self._parts_at_hand()
        if at_hand is None:
            async for _ in self.iter_parts():
                raise Invalid("a part in a call that takes none")
        elif at_hand:
            raise Invalid("a part in a call that takes none")

    def _parts_at_hand(self) -> list[bytes] | None:
        """As ``parts`` where the whole body has come; None where it is on its way."""
        at_hand = self._pieces.at_hand()
        if at_hand is None:
            return None
        with _cut_is_invalid():
            parts, closing = wire.split_parts(*at_hand)
        if self._seal is not None:
            for part in parts:
                self._seal.add(part)
        self._check_closing(closing)
        return parts

    async def _check_end(self, closing: wire.Closing) -> None:
        self._check_closing(closing)
        if not await self._pieces.at_end():
            raise Invalid("bytes after the end of a call")

    def _check_closing(self, closing: wire.Closing) -> None:
        code, payload = (wire.END_CODE, b"") if self._seal is None else (wire.SEAL_CODE, self._seal.finish())
        if closing.code != code or not secrets.compare_digest(closing.payload, payload):
            raise Unauthorized("the seal of the call is wrong")
        self._checked = True


@contextmanager
def _cut_is_invalid() -> Iterator[None]:
    try:
        yield
    except EOFError:
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
            if request.method != hdrs.METH_POST:
                raise Invalid("a call is a POST")
            pieces = Pieces(request.content)
            size = _head_size(request.headers.get(wire.HEAD_HEADER, ""))
            claim = wire.parse_claim(request.headers.get(wire.CALL_HEADER, ""))
            body = await _read_whole(request.content) if claim.form == wire.WHOLE else None
            if body is not None:
                pieces = Pieces.of(body)
            head = await _read_head(request.content, pieces, size)
            method, signed = request.raw_path.removeprefix(PATH), head if body is None else body
            call, handler = self._admit(method, claim, signed, head, pieces, request.content_length)
        except InfluxError as error:
            # The body is not read: the connection can't be used again.
            response = web.Response(status=_status_of_refusal(error), text=str(error))
            response.force_close()
            return response
        sink = _ResponseSink(request)
        whole = await self._run(method, call, handler, sink)
        return _WholeAnswer(request, *whole) if whole is not None else sink.response

    async def answer_small(self, request: small.SmallRequest, sink: Sink) -> bytes:
        """Answer a call that is all there.

        Args:
            sink: takes an answer that is not small.

        Returns:
            the answer; b"" if *sink* has taken it, or if it was cut.
        """
        pieces = Pieces.of(request.body)
        try:
            size = _head_size(request.head_size)
            if size > len(request.body):
                raise Unauthorized("the head of the call is cut")
            claim, head = wire.parse_claim(request.claim), await pieces.take(size)
            signed = request.body if claim.form == wire.WHOLE else head
            call, handler = self._admit(request.method, claim, signed, head, pieces, len(request.body))
        except InfluxError as error:
            return small.refusal(_status_of_refusal(error), str(error))
        try:
            whole = await self._run(request.method, call, handler, sink)
        except ConnectionError:
            return b""
        return b"" if whole is None else small.answer(*whole)

    def _admit(
        self, method: str, claim: wire.CallClaim, signed: bytes, head: bytes, pieces: Pieces, size: int | None
    ) -> tuple[Call, Handler]:
        key = wire.verify_call(self._keys, claim, method, self._audience, signed, now_ms())
        self._guard.admit(claim.nonce)
        if claim.caller not in CALLERS.get(method, ()):
            raise Unauthorized(f"{claim.caller} may not call {method}")
        handler = self._handlers.get(method.partition(".")[2])
        if handler is None:
            raise Invalid(f"no method {method}")
        return Call(claim, wire.decode_head(head), pieces, key, size), handler

    async def _run(self, method: str, call: Call, handler: Handler, sink: Sink) -> tuple[int, int, bytes] | None:
        """The answer of *handler*: status, size of its head, body; None when *sink* has taken it.

        Raises ConnectionError: it was cut.
        """
        try:
            reply = await handler(call)
        except Exception as error:
            return _error_answer(method, error)
        head = wire.encode_head(reply.head)
        if isinstance(reply.parts, Sequence) and sum(map(len, reply.parts)) <= SMALL_ANSWER_BYTES:
            return 200, len(head), wire.encode_whole(head, reply.parts)
        try:
            # Closed whatever happens: a handler's generator holds slots and memory until it is.
            async with aclosing(iter_parts(reply.parts)) as parts:
                await sink.begin({wire.HEAD_HEADER: str(len(head)), "Content-Type": wire.CONTENT_TYPE}, head)
                async for part in parts:
                    async with asyncio.timeout(SEND_TIMEOUT_S):
                        await sink.write(wire.part_prefix(len(part)))
                        await sink.write(part)
                await sink.end(wire.END)
        except BaseException as error:
            # Closing would first send what is buffered, to a caller who may never take it.
            sink.abort()
            if isinstance(error, InfluxError | TimeoutError):
                log.warning("an answer was cut", method=method, reason=str(error) or "the caller takes nothing")
                raise ConnectionError("the answer was cut") from error
            raise
        return None


class Sink(Protocol):
    """Takes an answer that leaves as it is made."""

    async def begin(self, headers: dict[str, str], head: bytes) -> None: ...

    async def write(self, data: Buffer) -> None: ...

    async def end(self, data: bytes) -> None: ...

    def abort(self) -> None:
        """Break the connection at once."""
        ...


class _ResponseSink:
    """One of aiohttp's responses."""

    def __init__(self, request: web.BaseRequest) -> None:
        self._request = request
        self.response = web.StreamResponse()

    async def begin(self, headers: dict[str, str], head: bytes) -> None:
        self.response.headers.update(headers)
        await self.response.prepare(self._request)
        await self.response.write(head)

    async def write(self, data: Buffer) -> None:
        await self.response.write(data)

    async def end(self, data: bytes) -> None:
        await self.response.write_eof(data)

    def abort(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()


def _head_size(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= wire.MAX_HEAD_BYTES:
        raise Unauthorized("the call has no head")
    return int(text)


async def _read_head(content: StreamReader, pieces: Pieces, size: int) -> bytes:
    try:
        if content.is_eof():
            return await pieces.take(size)
        async with asyncio.timeout(HEAD_TIMEOUT_S):
            return await pieces.take(size)
    except (asyncio.IncompleteReadError, TimeoutError):
        raise Unauthorized("the head of the call is cut") from None


async def _read_whole(content: StreamReader) -> bytes:
    """The body of a call that is signed as a whole."""
    try:
        async with asyncio.timeout(HEAD_TIMEOUT_S):
            body = bytearray()
            while piece := await content.readany():
                body += piece
                if len(body) > wire.MAX_WHOLE_BYTES:
                    raise Unauthorized(f"a call of over {wire.MAX_WHOLE_BYTES} bytes is not signed as a whole")
            return bytes(body)
    except TimeoutError:
        raise Unauthorized("the body of the call is cut") from None


def _status_of_refusal(error: InfluxError) -> int:
    return 401 if isinstance(error, Unauthorized) else 503 if isinstance(error, Unavailable) else 400


def _error_answer(method: str, error: Exception) -> tuple[int, int, bytes]:
    if not isinstance(error, InfluxError):
        log.error("internal call failed", method=method, exc_info=error)
        error = InfluxError("An internal error has occurred - check server logs")
    head = {
        "code": error.code,
        "message": str(error),
        "retry_after_s": error.retry_after_s,
        "details": error.details,
    }
    encoded = wire.encode_head(head)
    return STATUS_OF_ERROR, len(encoded), encoded + wire.END


class _WholeAnswer(web.StreamResponse):
    """An answer that is all there: its few headers are written here, which aiohttp takes 30 us to prepare."""

    def __init__(self, request: web.BaseRequest, status: int, head_size: int, body: bytes) -> None:
        super().__init__(status=status)
        self._call = request
        self._head_size = head_size
        self._whole_body = body

    async def prepare(self, request: web.BaseRequest) -> None:
        self._keep_alive = request.keep_alive

    async def write_eof(self, data: bytes = b"") -> None:
        keep_alive = bool(self._keep_alive)
        await self._call.writer.write(
            small.answer(self.status, self._head_size, self._whole_body, keep_alive=keep_alive)
        )
