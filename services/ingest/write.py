"""The way of a write through ingest: raw → admitted → parsed → checked → stored.

| stage | type | what has been proved |
|---|---|---|
| as the gateway sent it | RawWrite | the gateway sent it |
| ``_admit_all`` | AdmittedWrite | its bucket exists, its sender may write there, the body is whole |
| ``parse_writes`` | ParsedWrites (of all writes of one call) | each row is a point that its bucket would keep |
| ``check_writes`` | CheckedWrites | no types in conflict; a commit |
| ``Commits.commit`` | results | storage has it on disk |

Source: spec of /write and /api/v2/write, "Order of checks"; design, "How a write travels".
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.budget import Budget, Claim
from common.errors import InfluxError, InternalError, TooLarge, Unavailable
from common.identity import Identity
from common.log import get_logger
from common.model import Bucket
from services.ingest.checks import AdmittedWrite, Result, to_result
from services.ingest.commit import Commits
from services.ingest.config import BodyLimit
from services.ingest.inflate import TooLong, check_header, guess_size, inflate, is_gzip
from services.ingest.metrics import Metrics
from services.ingest.targets import Targets, check_params

log = get_logger("write")
# Working memory of a body, as a multiple of it, where its lines are of a common length.
WORK_FACTOR = 4
# From this length on lines and fields are counted instead: the shortest ones take 40 times their text.
MEASURED_BYTES = 1 << 20
BYTES_A_LINE, BYTES_A_FIELD = 120, 60
COUNTED_BYTES = 128 << 10
# Bodies of up to this size are counted in the event loop (0.6 ms).
INLINE_COUNT_BYTES = 4 << 20
# gzip of up to this size is inflated in the event loop: that is quicker than the way to a thread.
INLINE_GZIP_BYTES = 2 << 10
TRUE_WORDS = ("true", "True", "TRUE", "t", "T", "1")


@dataclass(frozen=True, slots=True)
class RawWrite:
    """A write as the gateway passes it on.

    Attributes:
        id: minted by the gateway, kept over every retry.
        now_ns: the client's moment: time of lines without one, and of the retention.
        attempt: how often it has been tried before.
        params: of the URL, as given.
        encoding: Content-Encoding as given.
    """

    id: bytes
    now_ns: int
    attempt: int
    identity: Identity
    dialect: str
    params: Mapping[str, str]
    encoding: str
    body: bytes


class Writer:
    """Takes the writes of one call through all stages; each has its own result.

    Args:
        hash_key: gives the key of the series hash, or None until storage has told it.
        body_limit: the limits of a dialect.
    """

    def __init__(
        self,
        targets: Targets,
        commits: Commits,
        budget: Budget,
        pool: Executor,
        metrics: Metrics,
        hash_key: Callable[[], bytes | None],
        body_limit: Callable[[str], BodyLimit],
    ) -> None:
        self._targets = targets
        self._commits = commits
        self._budget = budget
        self._pool = pool
        self._metrics = metrics
        self._hash_key = hash_key
        self._body_limit = body_limit

    async def write(self, raws: Sequence[RawWrite]) -> list[Result]:
        """Store *raws*. Returns the result of each; the trouble of one is never that of another.

        Raises:
            Unavailable: this ingest is new and does not know storage yet; the gateway takes them to another one.
        """
        hash_key = self._hash_key()
        if hash_key is None:
            raise Unavailable("storage has not answered yet")
        with self._budget.claim() as claim:
            outcomes: list[AdmittedWrite | InfluxError | Result] = list(await self._admit_all(raws, claim))
            await self._recall(raws, outcomes)
            writes = [outcome for outcome in outcomes if isinstance(outcome, AdmittedWrite)]
            stored = iter(await self._store(writes, hash_key)) if writes else iter(())
        results = []
        for outcome in outcomes:
            if isinstance(outcome, AdmittedWrite):
                outcome = next(stored)
            results.append(to_result(outcome) if isinstance(outcome, InfluxError) else outcome)
        for code, count in Counter("ok" if result is None else result["code"] for result in results).items():
            self._metrics.writes.labels(code).inc(count)
        return results

    # ------------------------------------------------------------ admission

    async def _admit_all(self, raws: Sequence[RawWrite], claim: Claim) -> list[AdmittedWrite | InfluxError]:
        kept: dict[Any, Bucket | None] = {}
        begun = [self._begin(raw, kept) for raw in raws]
        asked = iter(
            await asyncio.gather(*(self._ask(raw) for raw, one in zip(raws, begun, strict=True) if one is None))
        )
        admitted: list[AdmittedWrite | InfluxError] = []
        for raw, one in zip(raws, begun, strict=True):
            outcome: Bucket | AdmittedWrite | InfluxError = next(asked) if one is None else one
            if isinstance(outcome, Bucket):
                try:
                    outcome = _admitted(raw, outcome, await self._read_body(raw, claim))
                except InfluxError as error:
                    outcome = error
            admitted.append(outcome)
        self._metrics.bytes.inc(sum(len(one.body) for one in admitted if isinstance(one, AdmittedWrite)))
        return admitted

    def _begin(self, raw: RawWrite, kept: dict[Any, Bucket | None]) -> Bucket | InfluxError | None:
        """What *raw* may write to, by what is kept; None if auth has to be asked.

        Args:
            kept: what was found for earlier writes of the call: most of them go to one place.
        """
        try:
            check_params(raw.dialect, raw.params)
            if is_gzip(raw.encoding):
                check_header(raw.body)
        except InfluxError as error:
            return error
        key = (id(raw.identity), raw.dialect, *raw.params.items())
        if key not in kept:
            kept[key] = self._targets.find(raw.identity, raw.dialect, raw.params)
        return kept[key]

    async def _ask(self, raw: RawWrite) -> Bucket | InfluxError:
        try:
            return await self._targets.get(raw.identity, raw.dialect, raw.params)
        except InfluxError as error:
            return error

    async def _read_body(self, raw: RawWrite, claim: Claim) -> bytes:
        """Inflate the body where it is compressed, and claim the memory that its reading takes."""
        body = raw.body
        if is_gzip(raw.encoding):
            body = await self._inflate(body, self._body_limit(raw.dialect), claim)
        if len(body) < MEASURED_BYTES:
            claim.take(len(body) * WORK_FACTOR)
        else:
            if len(body) <= INLINE_COUNT_BYTES:
                needed = _work_bytes(body)
            else:
                needed = await asyncio.get_running_loop().run_in_executor(self._pool, _work_bytes, body)
            if needed > self._budget.limit_bytes:
                raise TooLarge(
                    f"Request Entity Too Large: reading the body takes {needed} bytes of memory (TIDEGATE_MEMORY_BYTES)"
                )
            claim.take(needed)
        return body

    async def _inflate(self, body: bytes, limit: BodyLimit, claim: Claim) -> bytes:
        keep = guess_size(body)
        while True:
            claim.take(keep)
            try:
                if len(body) <= INLINE_GZIP_BYTES and keep <= INLINE_GZIP_BYTES * 16:
                    inflated = inflate(body, limit.inflated_bytes, keep)
                else:
                    inflated = await asyncio.get_running_loop().run_in_executor(
                        self._pool, inflate, body, limit.inflated_bytes, keep
                    )
            except TooLong:
                raise TooLarge(
                    f"Request Entity Too Large: the body inflates to over {limit.inflated_bytes} bytes "
                    f"({limit.inflated_setting})"
                ) from None
            if inflated.body is not None:
                return inflated.body
            keep = inflated.size

    # ------------------------------------------------------------ storing

    async def _recall(self, raws: Sequence[RawWrite], outcomes: list[AdmittedWrite | InfluxError | Result]) -> None:
        """Answer writes that were tried before, and stored then, with the result that they had."""
        again = [
            index for index, raw in enumerate(raws) if raw.attempt > 0 and isinstance(outcomes[index], AdmittedWrite)
        ]
        if not again:
            return
        try:
            known = await self._commits.find_results([raws[index].id for index in again])
        except InfluxError as error:
            for index in again:
                outcomes[index] = error
            return
        for index in again:
            if raws[index].id in known:
                outcomes[index] = known[raws[index].id]

    async def _store(self, writes: Sequence[AdmittedWrite], hash_key: bytes) -> Sequence[Result | InfluxError]:
        try:
            return await self._commits.commit(writes, hash_key)
        except Unavailable as error:
            return [error] * len(writes)
        except Exception as error:
            if len(writes) == 1:
                if isinstance(error, InfluxError):
                    return [error]
                log.error("a write failed", id=writes[0].id.hex(), exc_info=error)
                return [InternalError("An internal error has occurred - check server logs")]
        # One of them spoils the commit. Under the same ids nothing is stored twice.
        return [(await self._store([write], hash_key))[0] for write in writes]


def _admitted(raw: RawWrite, bucket: Bucket, body: bytes) -> AdmittedWrite:
    v1 = raw.dialect == "v1"
    return AdmittedWrite(
        id=raw.id,
        now_ns=raw.now_ns,
        bucket=bucket,
        unit_ns=check_params(raw.dialect, raw.params),
        partial=v1 or raw.params.get("accept_partial", "") in TRUE_WORDS,
        gone_text="no dbrp mapping found" if v1 else f'bucket "{raw.params["bucket"]}" not found',
        body=body,
        again=raw.attempt > 0,
    )


def _work_bytes(body: bytes) -> int:
    """Estimate of the memory that parsing *body* and building its blocks takes."""
    text = np.frombuffer(body, np.uint8)
    lines = fields = 0
    # In pieces that stay in the processor's cache: ten times as fast as bytes.count.
    for start in range(0, len(text), COUNTED_BYTES):
        piece = text[start : start + COUNTED_BYTES]
        lines += int(np.count_nonzero(piece == ord("\n")))
        fields += int(np.count_nonzero(piece == ord("=")))
    return len(body) + BYTES_A_LINE * lines + BYTES_A_FIELD * fields
