"""Requests that another site makes a browser send with its session cookie, or to the set-up · pure.

The cookie is SameSite=Strict; this holds where that does not (old browsers, other ports of the same host).
"""

from __future__ import annotations

from collections.abc import Mapping

from common.errors import Forbidden

SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))
REFUSED = "a request of a browser with a session cookie, or to set up, has to come from the same origin"


def check(method: str, headers: Mapping[str, str]) -> None:
    """Raises Forbidden for a state-changing request of another origin.

    Browsers say where a request comes from in Sec-Fetch-Site, or else in Origin; what says neither is no browser.
    """
    if method in SAFE_METHODS:
        return
    site = headers.get("Sec-Fetch-Site")
    if site is not None:
        if site not in ("same-origin", "none"):
            raise Forbidden(REFUSED)
        return
    origin = headers.get("Origin")
    if origin is not None and host_of(origin) != headers.get("Host", "").lower():
        raise Forbidden(REFUSED)


def host_of(origin: str) -> str | None:
    """``host:port`` as it stands in an Origin; None where it has none, as in ``null``."""
    return origin.partition("://")[2].lower() or None
