"""Which instance of query a call goes to, and what may be tried again at another one."""

from __future__ import annotations

import asyncio
import time

import aiohttp

from common.errors import Unavailable
from common.messages import QUERY
from common.rpc.connections import NotConnected
from services.gateway.replicas import Replica, Replicas

RETRY_FOR_S = 5.0
RETRY_PAUSE_S = 0.05


async def find_query(replicas: Replicas, deadline_s: float) -> Replica:
    """The query instance with the least to do; waits while there is none. Raises Unavailable after *deadline_s*, a
    time of the monotonic clock."""
    while (replica := replicas.find(QUERY)) is None:
        if time.monotonic() > deadline_s:
            raise Unavailable("no query instance is running")
        await asyncio.sleep(RETRY_PAUSE_S)
    return replica


def was_answered(error: Unavailable) -> bool:
    """The called service itself said that it can't now."""
    return bool(error.details.get("answered"))


def never_reached(error: Unavailable) -> bool:
    """No connection came about, so nothing of the call was seen by anybody."""
    return isinstance(error.__cause__, aiohttp.ClientConnectorError | NotConnected)
