"""What may be tried again at another instance."""

from __future__ import annotations

import aiohttp

from common.connections import NotConnected
from common.errors import Unavailable


def was_answered(error: Unavailable) -> bool:
    """The called service itself said that it can't now."""
    return bool(error.details.get("answered"))


def never_reached(error: Unavailable) -> bool:
    """No connection came about, so nothing of the call was seen by anybody."""
    return isinstance(error.__cause__, aiohttp.ClientConnectorError | NotConnected)
