"""Credential → identity: API tokens, 1.x names, sessions.

The rule of 1.x paths: a name that is a legacy authorization's takes that one's password and nothing else (if it has
none yet: an API token); with any other name the secret is an API token and the name is ignored.
What is refused was read at storage; only allowances are cached. Source: InfluxDB 2.x, "Credentials, sessions".
"""

from __future__ import annotations

import dataclasses
import hmac
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter

from common.errors import Forbidden, InfluxError, NotFound, TooManyRequests, Unauthorized, Unavailable
from common.identity import Identity, Permission
from services.auth.access import grants, sessions
from services.auth.access.caches import Caches, Found
from services.auth.access.resolve import Resolver
from services.auth.context import Context
from services.auth.entities.authorizations import ApiToken, Authorization, Legacy
from services.auth.entities.entity import ACTIVE, INACTIVE
from services.auth.entities.users import Password, User
from services.auth.records.reader import Reader
from services.auth.security import jwt

V1, V2 = "v1", "v2"
# What is longer is no credential: a bound on the keys and tags of the caches.
MAX_CREDENTIAL_BYTES = 4096
UNKNOWN = {V1: "Unauthorized", V2: "unauthorized access"}
PASSWORD_SCHEMES = frozenset(("basic", "query"))
MAX_OVERTAKEN = 5
EXPIRED = {V1: "Unauthorized: token has expired", V2: "token has expired"}
INACTIVE_USER = "User is inactive"


@dataclass(frozen=True, slots=True)
class Credential:
    """What a client gave. ``scheme``: token, bearer, basic, query or session; ``remote``: where it came from."""

    dialect: str
    scheme: str
    user: str
    secret: str = field(repr=False)
    remote: str = ""


_Method = Callable[["Verifier", Credential], Awaitable[Found[Identity]]]


class Verifier:
    """Verifies credentials, through the cache.

    Args:
        jwt_secret: shared secret of 1.x tokens; None = they are not accepted.
    """

    def __init__(
        self, context: Context, caches: Caches, registry: CollectorRegistry, jwt_secret: bytes | None = None
    ) -> None:
        self._context = context
        self._resolver = Resolver(context, caches)
        self._jwt_secret = jwt_secret
        self._caches = caches
        self._key = secrets.token_bytes(32)
        self._results = Counter(
            "tidegate_auth_verifications", "Verified credentials by dialect, scheme and result",
            ["dialect", "scheme", "result"], registry=registry,
        )  # fmt: skip

    async def verify(self, credential: Credential) -> Found[Identity]:
        """Who this is.

        Raises:
            Unauthorized, Forbidden: in the words of the dialect.
            Unavailable: storage can't be asked; never Unauthorized then.
        """
        result = "error"
        try:
            found = await self._verify(credential)
            result = "allowed"
        except (Unauthorized, Forbidden, TooManyRequests) as error:
            result = "refused"
            name = credential.user[:MAX_CREDENTIAL_BYTES]
            self._context.audit.record(
                "credential.refused", error.code, reason=str(error), dialect=credential.dialect,
                scheme=credential.scheme, user=name, remote=credential.remote,
            )  # fmt: skip
            raise
        finally:
            scheme = credential.scheme if credential.scheme in _METHODS[V2] or credential.scheme in _METHODS[V1] else ""
            self._results.labels(credential.dialect, scheme, result).inc()
        return found

    async def _verify(self, credential: Credential) -> Found[Identity]:
        method = _METHODS.get(credential.dialect, {}).get(credential.scheme)
        if method is None:
            raise Unauthorized(UNKNOWN[V2])
        if not credential.secret or len(credential.user) + len(credential.secret) > MAX_CREDENTIAL_BYTES:
            raise Unauthorized(UNKNOWN[credential.dialect])
        if credential.scheme == "session":
            return await sessions.verify(self._context, credential.secret)
        if credential.scheme in PASSWORD_SCHEMES:
            # Before the cache too: else a right guess would show through it, however many were wrong.
            self._context.attempts.check(credential.user, credential.remote)
        key = self._cache_key(credential)
        found = self._caches.verified.find(key)
        if found is None or (found.value.expires_ms or self._context.now_ms() + 1) <= self._context.now_ms():
            if credential.scheme in PASSWORD_SCHEMES:
                async with self._context.attempts.one(credential.user, credential.remote):
                    found = await self._ask(method, credential)
            else:
                found = await self._ask(method, credential)
            self._caches.verified.put(key, found)
        elif credential.scheme in PASSWORD_SCHEMES:
            self._context.attempts.right(credential.user, credential.remote)
        return found

    async def _ask(self, method: _Method, credential: Credential) -> Found[Identity]:
        """What *method* finds; again when a change has overtaken it: a password may wait long for its turn."""
        for _ in range(MAX_OVERTAKEN):
            found = await method(self, credential)
            if not self._caches.verified.is_superseded(found):
                return found
        raise Unavailable("the credential is being changed")

    def _cache_key(self, credential: Credential) -> bytes:
        """Never the secret itself: a core dump of the cache tells nothing."""
        parts = (credential.dialect, credential.scheme, credential.user, credential.secret)
        encoded = [part.encode("utf-8", "surrogateescape") for part in parts]
        return hmac.digest(self._key, b"".join(len(part).to_bytes(4) + part for part in encoded), "sha256")

    async def _token(self, credential: Credential) -> Found[Identity]:
        """An API token; the gateway has dropped a ``name:`` before it (1.x paths)."""
        reader = self._context.records.reader()
        found = await self._find_token(reader, credential.secret, credential.dialect)
        if found is None:
            raise Unauthorized(UNKNOWN[credential.dialect])
        return found

    async def _bearer(self, credential: Credential) -> Found[Identity]:
        """On 1.x paths: a JWT where a secret is set, else an API token."""
        if self._jwt_secret is None or not jwt.looks_like(credential.secret):
            return await self._token(credential)
        claims = jwt.read(credential.secret, self._jwt_secret, self._context.now_ns() / 1e9)
        reader = self._context.records.reader()
        legacy = await reader.find_unique(Legacy, Legacy.name_key(claims.username))
        if legacy is not None:
            found = await self._identify(reader, legacy, "jwt", V1)
        else:
            found = await self._identify_user(reader, claims.username)
        names = (f"name:legacy:{claims.username}", f"name:user:{claims.username}")
        identity = dataclasses.replace(
            found.value, expires_ms=min(claims.expires_ms, found.value.expires_ms or claims.expires_ms)
        )
        return Found(identity, found.number, (*found.tags, *names))

    async def _identify_user(self, reader: Reader, name: str) -> Found[Identity]:
        """A user of the v2 API: what its sessions may do, in the organization that it was first made part of."""
        user = await reader.find_unique(User, User.name_key(name))
        if user is None:
            raise Unauthorized("user not found")
        if user.status != ACTIVE:
            raise Unauthorized(UNKNOWN[V1])
        members, permissions = await sessions.read_permissions(reader, user.id, self._context.now_ms())
        orgs = [member.resource_id for member in members if member.resource_type == "orgs"]
        identity = Identity("jwt", user.id, user.id, orgs[0] if orgs else None, permissions)
        return Found(identity, reader.number, (f"user:{user.id}",))

    async def _find_token(self, reader: Reader, value: str, dialect: str) -> Found[Identity] | None:
        token = await reader.find_unique(ApiToken, ApiToken.value_key(self._context.hasher.token(value)))
        return None if token is None else await self._identify(reader, token, "token", dialect)

    async def _name_and_secret(self, credential: Credential) -> Found[Identity]:
        """A legacy authorization's name and password; else anything and an API token."""
        reader = self._context.records.reader()
        legacy = await reader.find_unique(Legacy, Legacy.name_key(credential.user)) if credential.user else None
        password = await reader.find(Password, legacy.id) if legacy else None
        if legacy and password:
            if not await self._context.passwords.matches(credential.secret, password.hash):
                raise Unauthorized(UNKNOWN[V1])
            return await self._identify(reader, legacy, "legacy", V1)
        is_inactive = legacy is not None and legacy.status != ACTIVE
        found = None if is_inactive else await self._find_token(reader, credential.secret, V1)
        if found is None:
            # As slow as a wrong password, so that the time does not tell which names exist.
            await self._context.passwords.matches(credential.secret, None)
            raise Unauthorized(UNKNOWN[V1])
        # Someone may make a legacy authorization of this name, or give it a password: then the token counts no more.
        hangs_on = [f"name:legacy:{credential.user}", *([f"auth:{legacy.id}"] if legacy else [])]
        return Found(found.value, found.number, (*found.tags, *hangs_on))

    async def _identify(self, reader: Reader, authorization: Authorization, kind: str, dialect: str) -> Found[Identity]:
        """The identity of a known authorization, if it and its owner are in force."""
        owner, number = await self._find_owner(reader, authorization.user_id)
        refused: InfluxError | None = None
        if dialect == V1:
            if owner is None or owner.status != ACTIVE or authorization.status != ACTIVE:
                refused = Unauthorized(UNKNOWN[V1])
        elif owner is None or owner.status == INACTIVE:
            refused = Forbidden(INACTIVE_USER)
        expires_ms = authorization.expires_ms
        if refused is None and expires_ms is not None and expires_ms <= self._context.now_ms():
            refused = Unauthorized(EXPIRED[dialect])
        if refused is not None:
            raise refused
        tags = (f"auth:{authorization.id}", f"user:{authorization.user_id}")
        permissions, number, more = await self._permissions(authorization, number)
        identity = Identity(
            kind,
            authorization.id,
            authorization.user_id,
            authorization.org_id,
            permissions,
            authorization.status == ACTIVE,
            expires_ms,
        )
        return Found(identity, number, (*tags, *more))

    async def _find_owner(self, reader: Reader, id: str) -> tuple[User | None, int]:
        """The user, and the number as of which it and what *reader* has read hold; only an active one is remembered:
        many tokens may be one user's."""
        known = self._caches.owners.find(id)
        if known is not None:
            return known.value, min(known.number, reader.number)
        owner = await reader.find(User, id)
        if owner is not None and owner.status == ACTIVE:
            self._caches.owners.put(id, Found(owner, reader.number, tuple(owner.tags())))
        return owner, reader.number

    async def _permissions(
        self, authorization: Authorization, number: int
    ) -> tuple[tuple[Permission, ...], int, tuple[str, ...]]:
        """What it may do; as of which number, *number* or an older one; and the tags that this hangs on besides."""
        if not isinstance(authorization, Legacy) or not authorization.grants:
            return authorization.permissions, number, ()
        try:
            found = await self._resolver.mappings(authorization.org_id)
        except NotFound:  # the organization was deleted: nothing is left that a grant could reach
            return authorization.permissions, number, (f"org:{authorization.org_id}",)
        policies = [(database, bucket[0]) for database, _, _, _, bucket in found.value]
        return grants.effective(authorization, policies), min(number, found.number), found.tags


_METHODS: dict[str, dict[str, _Method]] = {
    V1: {
        "token": Verifier._token,
        "bearer": Verifier._bearer,
        "basic": Verifier._name_and_secret,
        "query": Verifier._name_and_secret,
    },
    # Sessions are verified by their own module.
    V2: {"token": Verifier._token, "bearer": Verifier._token, "session": Verifier._token},
}
