"""The internal methods of storage: decode, call, encode. Shapes: docs/rpc.md."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from common.errors import Invalid, Unavailable
from common.rpc import wire
from common.rpc.server import Call, Handler, Reply
from services.storage.catalog.segment_store import ChunkRead
from services.storage.changes.append import Append
from services.storage.changes.append_request import decode_append
from services.storage.changes.deletes import Delete, decode_delete
from services.storage.changes.records import ChangeRecords, decode_change
from services.storage.changes.results import WRITE_ID_BYTES, check_ids, decode_result
from services.storage.instances import Instance
from services.storage.reading.plan import answer_measurements, answer_schema, find_plan, plan_on_wire
from services.storage.reading.segments import slices
from services.storage.storage import VERSION, Storage

# Appends of up to this many bytes are decoded on the loop: a hop to a thread takes longer.
SMALL_BYTES = 64 << 10
# Plans of up to this many segments are put together on the loop.
SMALL_PLAN = 50
MAX_APPEND_BYTES = 256 << 20
MAX_DELETE_BYTES = 64 << 20
MAX_READS = 1000
MAX_IDS = 4096
MAX_CHUNKS = 1_000_000


class Methods:
    """One method each; nothing here decides anything."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def handlers(self) -> Mapping[str, Handler]:
        names = (
            "hello", "register", "feed", "read_records", "change_records", "append", "results", "schema",
            "measurements", "plan", "series", "fetch", "delete",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}

    async def hello(self, call: Call) -> Reply:
        await call.finish()
        storage = self._storage
        head = {
            "hash_key": storage.hash_key,
            "number": storage.state.number,
            "max_series_per_bucket": storage.settings.max_series_per_bucket,
            "version": VERSION,
        }
        return Reply(head)

    async def register(self, call: Call) -> Reply:
        await call.finish()
        match call.head:
            case {
                "instance": str(instance),
                "service": str(service),
                "url": str(url),
                "lease_s": int(lease_s) | float(lease_s),
            } if max(map(len, (instance, service, url))) <= 1024:
                self._storage.instances.register(Instance(instance, service, url), lease_s)
                return Reply({})
        raise Invalid("cannot register: the head has no known form")

    async def feed(self, call: Call) -> Reply:
        await call.finish()
        task = asyncio.current_task()
        assert task is not None
        subscription = self._storage.feed.subscribe(task.cancel)
        # Nothing comes between the subscription and the snapshot: both are made without a pause.
        snapshot = {
            "number": self._storage.state.number,
            "instances": [list(instance) for instance in self._storage.instances.listed()],
        }
        return Reply(snapshot, subscription.parts())

    async def read_records(self, call: Call) -> Reply:
        await call.finish()
        match call.head:
            case {"reads": list(reads)} if len(reads) <= MAX_READS:
                number, answers = await self._storage.catalog.read_records(reads)
            case _:
                raise Invalid(f"cannot read records: a list of at most {MAX_READS} reads is wanted")
        return Reply(await asyncio.to_thread(_records_on_wire, number, answers))

    async def change_records(self, call: Call) -> Reply:
        await call.finish()
        return Reply(await self._storage.committer.submit(ChangeRecords(decode_change(call.head))))

    async def append(self, call: Call) -> Reply:
        storage = self._storage
        size = call.content_length or 0
        with storage.budget.held(size):
            parts = await call.parts(MAX_APPEND_BYTES)
            total = sum(map(len, parts))
            with storage.budget.held(max(0, total - size)):
                if total <= SMALL_BYTES:
                    request = decode_append(call.head, parts)
                else:
                    request = await asyncio.to_thread(decode_append, call.head, parts)
                del parts
                check_ids((id for id, _ in request.writes), storage.now_ms())
                await storage.pressure.wait()
                head = await storage.committer.submit(Append(request, storage.settings.max_series_per_bucket))
        storage.count_append(request, head)
        return Reply(head)

    async def delete(self, call: Call) -> Reply:
        size = call.content_length or 0
        with self._storage.budget.held(size):
            parts = await call.parts(MAX_DELETE_BYTES)
            request = decode_delete(call.head, parts)
            return Reply(await self._storage.committer.submit(Delete(request)))

    async def results(self, call: Call) -> Reply:
        await call.finish()
        match call.head:
            case {"ids": list(ids)} if len(ids) <= MAX_IDS and all(
                isinstance(id, bytes) and len(id) == WRITE_ID_BYTES for id in ids
            ):
                found = await self._storage.catalog.find_results(ids)
            case _:
                raise Invalid(f"cannot tell results: a list of at most {MAX_IDS} ids is wanted")
        return Reply({"results": [[id, decode_result(found[id])] for id in ids if id in found]})

    async def schema(self, call: Call) -> Reply:
        await call.finish()
        return Reply(answer_schema(self._storage.state, call.head))

    async def measurements(self, call: Call) -> Reply:
        await call.finish()
        return Reply(answer_measurements(self._storage.state, call.head) | {"board": self._storage.board.told})

    async def plan(self, call: Call) -> Reply:
        await call.finish()
        plan = find_plan(self._storage.state, call.head)
        if plan.size <= SMALL_PLAN:
            head = plan_on_wire(plan)
        else:
            head = await asyncio.to_thread(plan_on_wire, plan)
        return Reply(head | {"board": self._storage.board.told})

    async def series(self, call: Call) -> Reply:
        await call.finish()
        match call.head:
            case {
                "bucket_id": str(bucket_id),
                "measurement": str(name),
                "generation": int(generation),
                "after": int(after),
            } if after >= 0:
                dictionary = self._storage.dictionary
                found = dictionary.find(bucket_id, name, generation, after)
                await dictionary.check(found)
                return Reply(
                    {"generation": found.generation, "count": found.count},
                    dictionary.read(found),
                )
        raise Invalid("cannot tell series: the head has no known form")

    async def fetch(self, call: Call) -> Reply:
        await call.finish()
        reads = self._storage.segments.locate(_decode_chunks(call.head))
        parts = self._chunks(reads)
        # The first bytes are read before the head goes out, so that most troubles come as an error, not as a cut.
        try:
            first = await anext(parts)
        except StopAsyncIteration:
            return Reply({})
        return Reply({}, _chain(first, parts))

    async def _chunks(self, reads: Sequence[ChunkRead]) -> AsyncIterator[bytes]:
        for some in slices(reads):
            with self._storage.budget.held(sum(read.size for read in some)):
                async for chunk in self._storage.segments.read(some):
                    yield chunk


async def _chain(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for part in rest:
        yield part


def _decode_chunks(head: Any) -> list[tuple[int, list[int]]]:
    match head:
        case {"chunks": list(entries)}:
            asked = [_decode_entry(entry) for entry in entries]
            if sum(len(chunks) for _, chunks in asked) > MAX_CHUNKS:
                raise Unavailable(f"cannot fetch: over {MAX_CHUNKS} chunks")
            return asked
    raise Invalid("cannot fetch: the head has no known form")


def _decode_entry(entry: Any) -> tuple[int, list[int]]:
    match entry:
        case [int(segment), list(chunks)] if all(isinstance(chunk, int) for chunk in chunks):
            return segment, chunks
    raise Invalid("cannot fetch: an entry has no known form")


def _records_on_wire(number: int, answers: Sequence[Sequence[Any]]) -> dict[str, Any]:
    return {
        "number": number,
        "answers": [
            [[record.kind, record.id, record.version, wire.decode_head(record.body)] for record in answer]
            for answer in answers
        ],
    }
