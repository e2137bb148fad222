"""Credential → Identity: asks auth, remembers, and is told what changed (design, decision 11).

Remembers allowances only; a refusal is auth's to confirm each time. The key of the memory is a keyed hash: no secret
is kept here.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from common.cache import ToldCache
from common.errors import InfluxError, Unauthorized, Unavailable
from common.identity import Identity
from common.log import get_logger
from common.rpc.client import RpcClient
from services.gateway.credentials import Credential

log = get_logger("gateway")
PASSWORD_SCHEMES = frozenset(("basic", "query"))
TELL_EVERY_S = 15.0
MAX_USED_PER_CALL = 10_000
MAX_ASKING = 64
MAX_WAITING = 2000
ASK_TIMEOUT_S = 10.0
# Auth may be starting again: that long an answer is waited for before it is 503.
ASK_RETRY_S = 2.0
# An answer that a change has overtaken on its way is asked for again, after these pauses: the replica of auth that gave
# it may have to hear of the change first.
OVERTAKEN_PAUSES_S = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


@dataclass(frozen=True, slots=True)
class Caller:
    """A verified identity, with its wire form made once."""

    identity: Identity
    wire: bytes = field(repr=False)

    @property
    def org(self) -> str:
        """Whose turn this caller takes in a fair queue."""
        return self.identity.org_id or self.identity.user_id


class _Lane:
    """Credentials that are being asked about: some at once, others waiting for them.

    Passwords have a lane of their own: each may wait 0.1 s and more for its hash, and wrong ones cost nothing to send.
    """

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(MAX_ASKING)
        self._count = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """A turn to ask. Raises Unavailable when too many wait for theirs."""
        if self._count >= MAX_WAITING:
            raise Unavailable(f"more than {MAX_WAITING} credentials are being verified")
        self._count += 1
        try:
            async with self._slots:
                yield
        finally:
            self._count -= 1


class Identities:
    """Verifies credentials.

    Args:
        clock_s: monotonic seconds, for the memory.
        clock_ms: Unix ms, for the expiry of credentials.
    """

    def __init__(
        self,
        client: RpcClient,
        auth_url: str,
        max_entries: int,
        clock_s: Callable[[], float] = time.monotonic,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._client = client
        self._auth_url = auth_url
        self._clock_ms = clock_ms
        self._key = secrets.token_bytes(32)
        self.cache: ToldCache[Caller] = ToldCache(max_entries, clock_s)
        self._asking: dict[bytes, asyncio.Task[Caller]] = {}
        self._used: dict[str, int] = {}
        self._lanes = {True: _Lane(), False: _Lane()}  # of passwords, and of the rest

    def key_of(self, dialect: str, credential: Credential, remote: str) -> bytes:
        """Under what a credential is remembered; a password for each address, since auth counts wrong ones by it."""
        place = remote if credential.scheme in PASSWORD_SCHEMES else ""
        text = f"{dialect} {credential.scheme} {place} {len(credential.user)} {credential.user}{credential.secret}"
        return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), key=self._key, digest_size=16).digest()

    async def verify(self, dialect: str, credential: Credential | None, remote: str) -> Caller:
        """Who that is. Raises Unauthorized, Forbidden, or Unavailable when auth can't be asked."""
        if credential is None:
            raise Unauthorized("unauthorized access")
        key = self.key_of(dialect, credential, remote)
        caller = self.recall(key)
        if caller is not None:
            return caller
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = asyncio.create_task(self._ask(key, dialect, credential, remote))
            asking.add_done_callback(lambda task: self._forget(key, task))
        # Shielded: others may wait for the same answer when this client goes away.
        return await asyncio.shield(asking)

    def recall(self, key: bytes) -> Caller | None:
        """Who that is by what is remembered under *key* (``key_of``); None = ask."""
        caller = self.cache.find(key)
        if caller is None:
            return None
        expires_ms = caller.identity.expires_ms
        now_ms = self._clock_ms()
        if expires_ms is not None and now_ms >= expires_ms:
            return None
        self._note(caller.identity, now_ms)
        return caller

    def heed(self, changes: Iterable[tuple[Sequence[str], int]]) -> None:
        """Forget what hangs on *changes*, tags and number of each: their answer may overtake the feed."""
        for tags, number in changes:
            self.cache.drop(tags, number)

    def _note(self, identity: Identity, now_ms: int) -> None:
        if identity.kind in ("token", "legacy") and (
            identity.credential_id in self._used or len(self._used) < MAX_USED_PER_CALL
        ):
            self._used[identity.credential_id] = now_ms

    async def keep_telling(self) -> None:
        """Tell auth every 15 s what was used, for ever."""
        while True:
            await asyncio.sleep(TELL_EVERY_S)
            await self.tell()

    async def tell(self) -> None:
        """Tell auth what was used since it was last told."""
        used, self._used = self._used, {}
        if not used:
            return
        try:
            await self._client.call(self._auth_url, "auth.used", {"used": used}, timeout_s=ASK_TIMEOUT_S)
        except InfluxError as error:
            log.warning("cannot tell auth which tokens were used", reason=str(error))
            self._used = used | self._used

    def _forget(self, key: bytes, task: asyncio.Task[Caller]) -> None:
        del self._asking[key]
        if not task.cancelled():
            task.exception()  # whoever still waits is told; nobody may be left

    async def _ask(self, key: bytes, dialect: str, credential: Credential, remote: str) -> Caller:
        head = {
            "dialect": dialect,
            "scheme": credential.scheme,
            "user": credential.user,
            "secret": credential.secret,
            "remote": remote,
        }
        lane = self._lanes[credential.scheme in PASSWORD_SCHEMES]
        for pause_s in OVERTAKEN_PAUSES_S:
            async with lane.turn():
                answer = await self._client.call(
                    self._auth_url, "auth.verify", head, timeout_s=ASK_TIMEOUT_S, retry_for_s=ASK_RETRY_S
                )
            wire, tags, number = answer.head["identity"], answer.head["tags"], answer.head["number"]
            # Requests that came after the change may wait for this answer too.
            if not self.cache.is_superseded(tags, number):
                break
            await asyncio.sleep(pause_s)
        else:
            raise Unavailable("the credential is being changed")
        caller = Caller(Identity.from_wire(wire), wire)
        self._note(caller.identity, self._clock_ms())
        # Each use of a session prolongs it, so auth has to see each.
        if credential.scheme != "session":
            self.cache.put(key, caller, tags, number)
        return caller
