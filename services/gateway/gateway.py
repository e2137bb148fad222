"""The parts that the handlers share, put together by ``app.py``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from common.budget import Budget
from common.rpc.client import RpcClient
from services.gateway import csrf
from services.gateway.batching import Batcher
from services.gateway.config import GatewaySettings
from services.gateway.credentials import Credential, find_v1, find_v2
from services.gateway.exchange import Exchange, Proxies
from services.gateway.express import Express
from services.gateway.identity import Caller, Identities
from services.gateway.meter import Meter
from services.gateway.question_heads import QuestionHeads
from services.gateway.replicas import Replicas
from services.gateway.status import Probes
from services.gateway.turns import Turns
from services.gateway.watch import Watch


@dataclass(frozen=True, slots=True)
class Gateway:
    """Everything a handler may use."""

    config: GatewaySettings
    client: RpcClient
    identities: Identities
    replicas: Replicas
    batcher: Batcher
    express: Express | None
    question_heads: QuestionHeads | None
    turns: Turns
    probes: Probes
    watch: Watch
    budget: Budget
    meter: Meter
    proxies: Proxies

    async def caller_of(self, exchange: Exchange) -> Caller:
        """The verified caller. Raises Unauthorized and what else ``auth.verify`` raises."""
        credential = find_credential(exchange)
        if credential is not None and credential.scheme == "session":
            csrf.check(exchange.request.method, exchange.request.headers)
        caller = await self.identities.verify(exchange.route.dialect, credential, exchange.remote)
        exchange.verified = True
        exchange.org_id = caller.identity.org_id
        return caller


Handle = Callable[[Gateway, Exchange], Awaitable[web.StreamResponse]]


def find_credential(exchange: Exchange) -> Credential | None:
    """What the request gives, by the rules of its path."""
    headers = exchange.request.headers
    authorization = headers.get("Authorization", "")
    if exchange.route.dialect == "v1":
        return find_v1(authorization, exchange.query)
    return find_v2(authorization, headers.get("Cookie", ""))
