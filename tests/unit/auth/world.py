"""Auth's rules over records in memory, behind the gateway's pure parts: a request in, an answer out, no sockets."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from common.errors import InfluxError
from common.identity import Identity
from common.web import status_of
from services.auth import routes
from services.auth.access.caches import Caches
from services.auth.access.resolve import Resolver
from services.auth.access.verify import Credential, Verifier
from services.auth.config import AuthSettings
from services.auth.context import Context
from services.auth.hub import Hub
from services.auth.records.id_maker import IdMaker
from services.auth.records.store import Records
from services.auth.rest.request import Request
from services.auth.security.hashing import Hasher
from services.auth.security.passwords import Passwords
from services.auth.security.sealing import load_sealer
from services.auth.setup import onboarding
from services.gateway.credentials import find_basic, find_session, find_v1, find_v2
from services.gateway.dialects import dress, layout_of
from services.gateway.query_string import parse_pairs, unescape_path
from services.gateway.routes import is_open_rest
from tests.rest_cases import Got
from tests.unit.auth.fake_storage import FakeStorage

USER, PASSWORD, ORG, BUCKET, TOKEN = "admin", "admin-password", "tide", "first", "the-operator-token"

JWT_SECRET = b"the phrase of this test: my super secret"


class World:
    """One auth over one storage. ``clock_ns`` may be moved."""

    def __init__(self, storage: FakeStorage | None = None, **settings: Any) -> None:
        self.storage = storage or FakeStorage()
        self.shift_ns = 0
        registry = CollectorRegistry()
        self.settings = AuthSettings(
            **{"data": Path("/nonexistent"), "bcrypt_cost": 4, "secrets_key": "s" * 32, **settings}
        )
        self.caches = Caches(1000, registry)
        self.hub = Hub(self.caches)
        self.hub.start({"number": 0, "instances": []})
        records = Records(self.storage, "", self._told)
        passwords = Passwords(4, self.settings.max_password_checks, 300, registry)
        sealer = load_sealer(self.settings)
        ids = IdMaker(lambda: self.now_ns() // 1_000_000)
        self.context = Context(records, Hasher(b"k" * 32), passwords, ids, self.now_ns, self.settings, sealer)
        self.verifier = Verifier(self.context, self.caches, registry, JWT_SECRET)
        self.resolver = Resolver(self.context, self.caches)

    def now_ns(self) -> int:
        return time.time_ns() + self.shift_ns

    def _told(self, tags: Any, number: int) -> None:
        self.caches.drop(tags, number)

    def tell(self) -> None:
        """Pass on what the feed of storage would have told."""
        events, self.storage.events = self.storage.events, []
        for event in events:
            self.hub.event(event)

    async def set_up(self) -> onboarding.Made:
        return await onboarding.set_up(self.context, onboarding.Wanted(USER, PASSWORD, ORG, BUCKET, 0, TOKEN))

    async def identity(
        self, secret: str = TOKEN, scheme: str = "token", user: str = "", dialect: str = "v2"
    ) -> Identity:
        return (await self.verifier.verify(Credential(dialect, scheme, user, secret))).value

    async def send(self, method: str, path: str, headers: Mapping[str, str] = {}, body: bytes = b"") -> Got:
        """As the gateway would."""
        bare, _, query = path.partition("?")
        try:
            if bare in ("/write", "/query"):
                return await self._v1(bare, query, headers)
            return await self._v2(method, bare, query, headers, body)
        except InfluxError as error:
            dialect = "v1" if bare in ("/write", "/query") else "v2"
            more, dressed = dress(error, dialect, layout_of(bare))
            return Got(status_of(error), {name.lower(): value for name, value in more.items()}, dressed)

    async def _v1(self, path: str, query: str, headers: Mapping[str, str]) -> Got:
        given = find_v1(headers.get("authorization", ""), dict(parse_pairs(query)))
        scheme, user, secret = (given.scheme, given.user, given.secret) if given else ("", "", "")
        await self.verifier.verify(Credential("v1", scheme, user, secret))
        return Got(204, {}, b"")

    async def _v2(self, method: str, raw: str, query: str, headers: Mapping[str, str], body: bytes) -> Got:
        path = unescape_path(raw)
        identity = None
        if not is_open_rest(method, path):
            given = find_v2(headers.get("authorization", ""), headers.get("cookie", ""))
            scheme, secret = (given.scheme, given.secret) if given else ("", "")
            identity = (await self.verifier.verify(Credential("v2", scheme, "", secret))).value
        own = find_session(headers.get("cookie", "")) if path.endswith("/signout") else None
        own = own or find_basic(headers.get("authorization", ""))
        answer = await routes.handle(
            self.context,
            Request(
                method,
                path,
                parse_pairs(query),
                dict(headers),
                Identity.from_wire(identity.to_wire()) if identity else None,
                own.scheme if own else "",
                own.user if own else "",
                own.secret if own else "",
                body=body,
            ),
        )
        return Got(answer.status, {name.lower(): value for name, value in answer.headers}, answer.body)
