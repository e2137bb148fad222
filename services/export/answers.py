"""Asks a running Tidegate over ``/query`` and reads its answers as they come, MessagePack in chunks."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgpack

from services.export.tables import Series

CHUNK_ROWS = 10_000
PIECE_BYTES = 1 << 20
MAX_ERROR_BYTES = 64 << 10
# An answer may be long; a server that says nothing for this long is gone.
SILENCE_S = 120.0


class ExportFailed(Exception):
    """What was asked for cannot be had; ``str(error)`` says why."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the points are.

    Attributes:
        policy: retention policy; "" = the default one.
    """

    url: str
    token: str
    database: str
    policy: str = ""


def quote(name: str) -> str:
    """A name as InfluxQL quotes it."""
    escaped = name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


class Asker:
    """Asks one source."""

    def __init__(self, session: aiohttp.ClientSession, source: Source) -> None:
        self._session = session
        self._source = source
        self.database = source.database

    async def series(self, q: str) -> AsyncIterator[Series]:
        """The series of the answer to one statement, a part of some thousand rows at a time.

        Raises:
            ExportFailed: the server refuses, does not answer, or breaks off.
        """
        source = self._source
        params = {"db": source.database, "q": q, "epoch": "ns", "chunked": "true", "chunk_size": str(CHUNK_ROWS)}
        if source.policy:
            params["rp"] = source.policy
        headers = {"Accept": "application/x-msgpack", "Accept-Encoding": "identity"}
        if source.token:
            headers["Authorization"] = f"Token {source.token}"
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=SILENCE_S)
        try:
            async with self._session.post(
                f"{source.url}/query", data=params, headers=headers, timeout=timeout
            ) as answer:
                if answer.status != 200:
                    raise ExportFailed(f"{source.url} answers {answer.status}: {await _reason(answer)}")
                unpacker = msgpack.Unpacker(unicode_errors="replace", max_buffer_size=1 << 30)
                async for piece in answer.content.iter_chunked(PIECE_BYTES):
                    unpacker.feed(piece)
                    for document in unpacker:
                        for series in _series_of(document):
                            yield series
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ExportFailed(f"{source.url} does not answer to the end: {error or type(error).__name__}") from None

    async def rows(self, q: str) -> list[list[Any]]:
        """All rows of a short answer, whatever series they are of."""
        return [list(row) async for series in self.series(q) for row in series.rows]


async def _reason(answer: aiohttp.ClientResponse) -> str:
    text = (await answer.content.read(MAX_ERROR_BYTES)).decode(errors="replace")
    try:
        found = json.loads(text)
    except ValueError:
        return text.strip() or str(answer.reason)
    return str(found.get("error") or found.get("message") or text) if isinstance(found, dict) else text


def _series_of(document: Any) -> list[Series]:
    found: list[Series] = []
    for result in document["results"]:
        if "error" in result:
            raise ExportFailed(result["error"])
        if result.get("statement_id", 0):
            raise ExportFailed("one statement at a time can be exported")
        found += [
            Series(one.get("name", ""), one.get("tags", {}), one["columns"], one.get("values", []))
            for one in result.get("series", [])
        ]
    return found
