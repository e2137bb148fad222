"""What the API says of itself: links, resource types, feature flags, options. Source: InfluxDB 2.x, "Small
endpoints"."""

from __future__ import annotations

from typing import Any

from common.errors import Unauthorized
from common.identity import RESOURCE_TYPES, operator_permissions
from services.auth.context import Context
from services.auth.rest.jsonlayout import COMPACT, encode
from services.auth.rest.request import Answer, Request

_PLAIN = (
    "authorizations", "backup", "buckets", "checks", "dashboards", "delete", "flags", "labels", "me",
    "notificationEndpoints", "notificationRules", "orgs", "restore", "scrapers", "setup", "signin", "signout",
    "sources", "tasks", "telegrafs", "users", "variables", "write",
)  # fmt: skip
LINKS: dict[str, Any] = {
    **{name: f"/api/v2/{name}" for name in _PLAIN},
    "external": {"statusFeed": "https://www.influxdata.com/feed/json"},
    "plugins": "/api/v2/telegraf/plugins",
    "query": {
        "analyze": "/api/v2/query/analyze",
        "ast": "/api/v2/query/ast",
        "self": "/api/v2/query",
        "suggestions": "/api/v2/query/suggestions",
    },
    "swagger": "/api/v2/swagger.json",
    "system": {"debug": "/debug/pprof", "health": "/health", "metrics": "/metrics"},
}


async def links(context: Context, request: Request) -> Answer:
    return Answer.json(dict(sorted(LINKS.items())), layout=COMPACT)


async def resources(context: Context, request: Request) -> Answer:
    return Answer(200, encode(list(RESOURCE_TYPES), COMPACT), (("Content-Type", "application/json"),))


async def flags(context: Context, request: Request) -> Answer:
    """There are no feature flags."""
    return Answer.json({}, layout=COMPACT)


async def config(context: Context, request: Request) -> Answer:
    """Options under InfluxDB's names, none of them a secret; for operators."""
    if not all(request.caller.may(p.action, p.type, p.id, p.org_id) for p in operator_permissions()):
        raise Unauthorized("access to /api/v2/config requires operator permissions")
    settings = context.settings
    options = {
        "log-level": settings.log_level,
        "session-length": settings.session_length_m,
        "session-renew-disabled": not settings.session_renew,
        "strong-passwords": settings.strong_passwords,
        "use-hashed-tokens": True,
    }
    return Answer.json({"config": options})
