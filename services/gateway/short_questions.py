"""Questions whose head is known (``question_heads.py``), asked and answered without aiohttp's requests and responses.

What a question means, who may ask it, where it goes and how its answer is cut into pieces is the same code as on the
long way: ``find_v1``, ``Identities``, ``parameters_of``, ``ask``, ``relay``. Whatever is not as usual (a credential
that has to be asked for, a parameter that is missing or broken) goes the long way, which says why.
"""

from __future__ import annotations

import asyncio
import time

from aiohttp import hdrs

from common.errors import InfluxError
from common.passing import PassingHandler
from common.web import status_of
from services.gateway import dialects
from services.gateway.credentials import find_v1
from services.gateway.exchange import mint_id
from services.gateway.forms import read_form
from services.gateway.gateway import Gateway
from services.gateway.identity import Caller
from services.gateway.queries import Asker, ask, parameters_of
from services.gateway.query_string import first_values, parse_pairs
from services.gateway.question_heads import KnownQuestion, QuestionHeads
from services.gateway.raw_answers import STATUS_CLIENT_GONE, refusal_of, render_head
from services.gateway.relay import Broken

PATH = "/query"
_LAST_CHUNK = b"0\r\n\r\n"


class ShortQuestions:
    """Takes the questions whose head is known.

    Attributes:
        taken: how many have gone the short way.
    """

    def __init__(self, gateway: Gateway, heads: QuestionHeads) -> None:
        self._gateway = gateway
        self._heads = heads
        self.taken = 0

    def digest(self, data: bytes, peer: bytes) -> bytes | None:
        """Under what the head that *data* begins with may be remembered; None when it is no question."""
        return self._heads.digest(data, peer)

    def begin(self, data: bytes, peer: bytes, connection: PassingHandler) -> asyncio.Task[None] | None:
        """Ask the question that *data* is; its answer ends on *connection* with ``end_aside``, unless it is cancelled.

        Returns:
            The task that does so, or None when *data* has to go the long way.
        """
        found = self._heads.find(data, peer)
        if found is None:
            return None
        known, raw_query, body = found
        try:
            query = first_values(parse_pairs(raw_query))
            caller = self._find_caller(known, query)
            if known.method == hdrs.METH_POST:
                query |= first_values(read_form(known.content_type, body))
            params = parameters_of(query)
        except InfluxError:
            return None
        if caller is None:
            return None
        self.taken += 1
        now_ns = time.time_ns()
        asker = Asker(caller.wire, known.accept, known.remote, known.request_id or mint_id(now_ns).hex(), now_ns)
        return asyncio.create_task(self._answer(known, params, asker, connection))

    def _find_caller(self, known: KnownQuestion, query: dict[str, str]) -> Caller | None:
        """Who asks, if that is remembered; parameters of the URL come before the header, as in ``find_v1``."""
        identities = self._gateway.identities
        credential = find_v1("", query)
        key = known.credential if credential is None else identities.key_of("v1", credential, known.remote)
        return None if key is None else identities.recall(key)

    async def _answer(
        self, known: KnownQuestion, params: dict[str, str], asker: Asker, connection: PassingHandler
    ) -> None:
        started_s = time.perf_counter()
        gateway = self._gateway
        sink = _RawSink(known, asker.request_id, connection)
        status = STATUS_CLIENT_GONE
        try:
            status = await self._ask(params, asker, sink)
        finally:
            seconds = time.perf_counter() - started_s
            gateway.meter.request(known.method, PATH, status, known.agent, seconds)
        connection.end_aside(b"")

    async def _ask(self, params: dict[str, str], asker: Asker, sink: _RawSink) -> int:
        """The status of the answer that has been sent."""
        gateway = self._gateway
        try:
            with gateway.meter.query_slot(gateway.config.max_queries):
                await ask(gateway, params, asker, sink)
        except Broken:
            return STATUS_CLIENT_GONE
        except Exception as error:
            refusal = refusal_of(error, asker.request_id, PATH)
            more, body = dialects.dress(refusal, "v1")
            sink.whole(status_of(refusal), more, body)
        return sink.status


class _RawSink:
    """Where an answer goes: bytes on a connection, in chunks when it is not sent whole."""

    without_body = False

    def __init__(self, known: KnownQuestion, request_id: str, connection: PassingHandler) -> None:
        self._known = known
        self._connection = connection
        self._head = b""
        self.request_id = request_id
        self.status = 0

    def accepts_gzip(self) -> bool:
        return self._known.accepts_gzip

    def whole(self, status: int, headers: dict[str, str], body: bytes) -> None:
        answer = self._render(status, headers, hdrs.CONTENT_LENGTH, str(len(body))) + body
        transport = self._connection.transport
        # To a client that is gone nothing is sent; the connection's end cancels what is under way.
        if transport is not None:
            transport.write(answer)

    async def begin(self, status: int, headers: dict[str, str]) -> None:
        # Sent with the first piece.
        self._head = self._render(status, headers, hdrs.TRANSFER_ENCODING, "chunked")

    async def write(self, piece: bytes) -> None:
        head, self._head = self._head, b""
        self._send(b"%b%x\r\n%b\r\n" % (head, len(piece), piece))
        await self._connection.drain()

    async def end(self) -> None:
        head, self._head = self._head, b""
        self._send(head + _LAST_CHUNK)

    def transport(self) -> asyncio.Transport | None:
        return self._connection.transport

    def _render(self, status: int, headers: dict[str, str], framing: str, value: str) -> bytes:
        self.status = status
        return render_head(
            status, {**self._known.headers, "X-Request-Id": self.request_id, **headers, str(framing): value}
        )

    def _send(self, data: bytes) -> None:
        transport = self._connection.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client is gone")
        transport.write(data)
