"""The queries of all replicas: SHOW QUERIES asks each, KILL QUERY goes to the one that the id names.

Source: docs/rpc.md, "query"; replicas are those of the feed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from common.errors import InfluxError, NotFound
from common.identity import Identity
from common.log import get_logger
from common.rpc.client import RpcClient
from services.query.control.queries import Queries, replica_number, replica_of

log = get_logger("peers")
# Longest wait for another replica: one that hangs must not hide the others.
PEER_TIMEOUT_S = 1.0

# id, text, database, duration in ns, status
Listed = tuple[int, str, str, int, str]


class Peers:
    """This process's queries and those of the others.

    Args:
        url: gives the address under which this instance is reached, None until it listens.
    """

    def __init__(self, queries: Queries, client: RpcClient, url: Callable[[], str | None]) -> None:
        self.queries = queries
        self._client = client
        self._url = url
        self._others: tuple[str, ...] = ()

    @property
    def replica(self) -> int:
        return replica_number(self._url() or "")

    def learn(self, instances: Iterable[Sequence[str]]) -> None:
        """Take in the live instances, as the feed tells them."""
        self._others = tuple(url for _, service, url in instances if service == "query" and url != self._url())

    def own(self, identity: Identity) -> list[Listed]:
        """The queries of this process that *identity* may see, oldest first."""
        return [
            (
                running.id,
                running.text,
                running.database,
                int(running.seconds * 1e9),
                "killed" if running.killed else running.phase.value,
            )
            for running in self.queries.seen_by(identity)
        ]

    async def listed(self, identity: Identity) -> list[Listed]:
        """As ``own``, of all replicas that answer; the longest running first."""
        calls = (self._ask(url, "query.queries", {"identity": identity.to_wire()}) for url in self._others)
        found = self.own(identity)
        for answer in await asyncio.gather(*calls):
            if answer is not None:
                found += [(id, text, db, ns, status) for id, text, db, ns, status in answer["queries"]]
        return sorted(found, key=lambda query: -query[3])

    async def kill(self, id: int, identity: Identity) -> None:
        """End the query *id*, wherever it runs. Raises NotFound ``no such query id: n``, Unavailable."""
        wanted = replica_of(id)
        if wanted == self.replica:
            self.queries.kill(id, identity)
            return
        for url in self._others:
            if replica_number(url) == wanted:
                head = {"id": id, "identity": identity.to_wire()}
                await self._client.call(url, "query.kill", head, timeout_s=PEER_TIMEOUT_S)
                return
        raise NotFound(f"no such query id: {id}")

    async def _ask(self, url: str, method: str, head: dict[str, Any]) -> Any:
        try:
            return (await self._client.call(url, method, head, timeout_s=PEER_TIMEOUT_S)).head
        except InfluxError as error:
            log.warning("another replica does not tell its queries", url=url, reason=str(error))
            return None
