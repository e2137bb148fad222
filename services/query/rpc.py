"""``query.influxql``: decode, run, stream. Shapes: docs/rpc.md."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from common.errors import Invalid, NotFound, TooLarge, Unavailable
from common.identity import Identity
from common.log import get_logger
from common.rpc.server import Call, Handler, Reply
from services.query.context import MappingSource, Origin, QueryContext, SelectLimits
from services.query.control.allowance import Allowance
from services.query.control.peers import Peers
from services.query.control.queries import Phase, Running
from services.query.control.slots import Slots
from services.query.execute import Executor, Limits, execute
from services.query.influxql import tree
from services.query.influxql.bind import parse_params
from services.query.influxql.parser import parse
from services.query.influxql.tokens import ParseError
from services.query.metrics import Metrics
from services.query.planning.prepared import Preparations
from services.query.removal.request import Deletes
from services.query.render import make_renderer
from services.query.render.renderer import Style, choose_type, epoch_of

if TYPE_CHECKING:
    from services.query.reading.reader import Reader

MAX_DELETE_BYTES = 16 << 20
log = get_logger("query")
DEFAULT_CHUNK_ROWS = 10_000
MAX_CHUNK_ROWS = 1_000_000
# Of an answer that is made large: what a slow reader keeps in the buffers of two services is a few of them.
MAX_PART_BYTES = 256 << 10
# Texts longer than this are parsed in a thread.
CHARS_ON_LOOP = 4_096


@dataclass(frozen=True, slots=True)
class Query:
    """One request, decoded."""

    text: str
    bound: str
    database: str
    policy: str
    style: Style
    max_rows: int
    accept: str
    identity: Identity
    now_ns: int
    origin: Origin


def decode_query(head: Any, max_chars: int) -> Query:
    """Raises Invalid or TooLarge with the texts of a client's mistake."""
    match head:
        case {"params": dict(params), "accept": str(accept), "identity": bytes(identity), "now_ns": int(now_ns)} if (
            _are_texts(params) and _are_texts(params.values())
        ):
            pass
        case _:
            raise Invalid("cannot run a query: the head has no known form")
    given = params.get("q", "")
    text = given.strip()  # places in error texts are counted without the blanks around it
    if not text:
        raise Invalid('missing required parameter "q"')
    if len(given) + len(params.get("params", "")) > max_chars:
        raise TooLarge(f"the query is longer than TIDEGATE_QUERY_MAX_CHARS, {max_chars} characters")
    chunked = params.get("chunked") == "true"
    return Query(
        text,
        params.get("params", ""),
        params.get("db", ""),
        params.get("rp", ""),
        Style(epoch_of(params.get("epoch", "")), chunked, params.get("pretty") == "true"),
        _chunk_rows(params.get("chunk_size", "")) if chunked else DEFAULT_CHUNK_ROWS,
        accept,
        Identity.from_wire(identity),
        now_ns,
        Origin(str(head.get("remote", "")), str(head.get("request_id", ""))),
    )


def _are_texts(values: Iterable[Any]) -> bool:
    return {str}.issuperset(map(type, values))


def _chunk_rows(text: str) -> int:
    """Not a number or none at all: the default."""
    digits = text.strip()
    if not digits.isascii() or not digits.isdecimal() or len(digits) > 18 or int(digits) == 0:
        return DEFAULT_CHUNK_ROWS
    return min(int(digits), MAX_CHUNK_ROWS)


class Parser:
    """Parses, and keeps the trees of short texts that only read: dashboards ask the same again and again.

    A tree holds no time and nothing of the caller. Texts that may hold a password are never kept.
    """

    def __init__(self, max_kept: int = 2_000) -> None:
        self._max_kept = max_kept
        self._kept: OrderedDict[tuple[str, str], tuple[tree.Statement, ...]] = OrderedDict()

    async def parse(self, query: Query) -> Sequence[tree.Statement]:
        """Raises Invalid as a request that does not parse is answered."""
        if len(query.text) + len(query.bound) > CHARS_ON_LOOP:
            return await asyncio.to_thread(_parse, query)
        key = (query.text, query.bound)
        statements = self._kept.get(key)
        if statements is not None:
            self._kept.move_to_end(key)
            return statements
        statements = _parse(query)
        if all(isinstance(statement, tree.ReadStatement) for statement in statements):
            self._kept[key] = statements
            if len(self._kept) > self._max_kept:
                self._kept.popitem(last=False)
        return statements


def _parse(query: Query) -> tuple[tree.Statement, ...]:
    bound = parse_params(query.bound)
    try:
        return parse(query.text, bound)
    except ParseError as error:
        raise Invalid(f"failed to parse query: {error}") from None


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Settings of all requests; 0 = none.

    Attributes:
        max_rows: of an answer that is not chunked.
        slow_s: a request that takes longer is logged.
        timeout_s: longest time that one may take, and that it may wait for its reader, all waits together.
        max_chars: longest text.
        allowance: of each token.
    """

    select: SelectLimits
    max_rows: int
    slow_s: float
    timeout_s: float
    max_chars: int
    allowance: Allowance


class Methods:
    """The methods of the query service."""

    def __init__(
        self,
        executors: Mapping[type, Executor],
        mappings: MappingSource,
        reader: Reader,
        slots: Slots,
        metrics: Metrics,
        peers: Peers,
        limits: RequestLimits,
        deletes: Deletes,
    ) -> None:
        self._deletes = deletes
        self._executors = executors
        self._parser = Parser()
        self._prepared = Preparations()
        self._mappings = mappings
        self._reader = reader
        self._slots = slots
        self._metrics = metrics
        self._peers = peers
        self._limits = limits

    def handlers(self) -> Mapping[str, Handler]:
        return {"influxql": self.influxql, "queries": self.queries, "kill": self.kill, "delete": self.delete}

    async def delete(self, call: Call) -> Reply:
        """``query.delete``."""
        parts = await call.parts(MAX_DELETE_BYTES)
        match call.head:
            case {"params": dict(params), "identity": bytes(identity)} if _are_texts(params.values()):
                async with self._slots.turn():
                    await self._deletes.delete(b"".join(parts), params, Identity.from_wire(identity))
                return Reply({})
        raise Invalid("cannot delete: the head has no known form")

    async def queries(self, call: Call) -> Reply:
        """``query.queries``."""
        await call.finish()
        identity = Identity.from_wire(call.head["identity"])
        return Reply({"queries": [list(query) for query in self._peers.own(identity)]})

    async def kill(self, call: Call) -> Reply:
        """``query.kill``."""
        await call.finish()
        self._peers.queries.kill(int(call.head["id"]), Identity.from_wire(call.head["identity"]))
        return Reply({})

    async def influxql(self, call: Call) -> Reply:
        await call.finish()
        query = decode_query(call.head, self._limits.max_chars)
        self._limits.allowance.check(query.identity.credential_id)
        statements = await self._parser.parse(query)
        content_type = choose_type(query.accept)
        headers = [["Content-Type", content_type]]
        running = Running(statements, query.database, query.identity)
        head = {"status": 200, "headers": headers, "changes": running.changes}
        pieces = self._answer(query, statements, content_type, running)
        # Nothing is promised before the first piece stands: until then a trouble is an error of the whole request.
        first = await anext(pieces, b"")
        if query.style.chunked:
            return Reply(head, _joined([first] if first else [], pieces))
        second = await anext(pieces, None)
        if second is None:
            headers.append(["X-Tidegate-Stats", running.cost.summary()])
            return Reply(head, [first])
        return Reply(head, _joined([first, second], pieces))

    async def _answer(
        self, query: Query, statements: Sequence[tree.Statement], content_type: str, running: Running
    ) -> AsyncGenerator[bytes, None]:
        with self._metrics.measured(), _Listed(running, self._peers, self._limits):
            running.enter(Phase.WAITING)
            async with self._slots.turn(running):
                running.enter(Phase.PLANNING)
                context = await self._context(query, running)
                deadline_s = running.loop.time() + self._limits.timeout_s
                limits = Limits(query.max_rows, deadline_s, query.style.chunked, self._limits.max_rows)
                renderer = make_renderer(content_type, query.style)
                async with aclosing(execute(statements, context, renderer, limits, self._executors)) as pieces:
                    async for piece in pieces:
                        for start in range(0, len(piece), MAX_PART_BYTES):
                            with running.sending():
                                yield piece[start : start + MAX_PART_BYTES]
                            # Its slot and memory are others' too.
                            if running.cost.seconds[Phase.SENDING] > self._limits.timeout_s:
                                raise Unavailable("the answer is not taken in TIDEGATE_QUERY_TIMEOUT_S")

    async def _context(self, query: Query, running: Running) -> QueryContext:
        org_id = query.identity.org_id
        if org_id is None:
            raise NotFound("organization not found")
        await self._mappings.of_org(org_id)  # raises for an organization that is gone
        return QueryContext(
            query.identity, query.database, query.policy, query.now_ns, self._mappings, self._reader, running,
            self._limits.select, self._peers, query.origin, self._prepared,
        )  # fmt: skip


class _Listed:
    """A with block in which a query is listed; at its end it is counted for its token, and logged if it was long."""

    __slots__ = ("_limits", "_peers", "_running")

    def __init__(self, running: Running, peers: Peers, limits: RequestLimits) -> None:
        self._running = running
        self._peers = peers
        self._limits = limits

    def __enter__(self) -> None:
        self._peers.queries.add(self._running, self._peers.replica)

    def __exit__(self, *_: object) -> None:
        running, limits = self._running, self._limits
        self._peers.queries.remove(running)
        if running.identity is not None:
            limits.allowance.spend(running.identity.credential_id, running.worked_s)
        if limits.slow_s and running.seconds > limits.slow_s:
            log.warning(
                "slow query",
                query=running.text,
                database=running.database,
                seconds=round(running.seconds, 3),
                cost=running.cost.summary(),
            )


async def _joined(first: Sequence[bytes], rest: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    try:
        for piece in first:
            yield piece
        async for piece in rest:
            yield piece
    finally:
        await rest.aclose()
