"""Which calls of the resource API are security events, and what is told of them · pure.

What is refused with 401, 403 or 429 is an event whatever the call was.
"""

from __future__ import annotations

import json
from typing import Any

from services.auth.rest.request import Answer, Request

V2, LEGACY = "/api/v2", "/private/legacy/authorizations"
REFUSED = "access.refused"


def _table() -> dict[tuple[str, str], str]:
    table = {
        ("POST", f"{V2}/setup"): "setup",
        ("POST", f"{V2}/signin"): "session.signin",
        ("POST", f"{V2}/signout"): "session.signout",
        ("PUT", f"{V2}/me/password"): "user.password",
        ("POST", f"{V2}/users/{{id}}/password"): "user.password",
        ("PUT", f"{V2}/users/{{id}}/password"): "user.password",
        ("PATCH", f"{V2}/orgs/{{id}}/secrets"): "secret.update",
        ("POST", f"{V2}/orgs/{{id}}/secrets/delete"): "secret.delete",
        ("DELETE", f"{V2}/orgs/{{id}}/secrets/{{key}}"): "secret.delete",
        ("POST", f"{LEGACY}/{{id}}/password"): "legacy.password",
    }
    kinds = {
        f"{V2}/users": "user", f"{V2}/orgs": "org", f"{V2}/buckets": "bucket", f"{V2}/dbrps": "dbrp",
        f"{V2}/authorizations": "token", LEGACY: "legacy",
    }  # fmt: skip
    for path, kind in kinds.items():
        table["POST", path] = f"{kind}.create"
        table["PATCH", f"{path}/{{id}}"] = f"{kind}.update"
        table["DELETE", f"{path}/{{id}}"] = f"{kind}.delete"
    for kind in ("orgs", "buckets", "telegrafs"):
        for role in ("member", "owner"):
            table["POST", f"{V2}/{kind}/{{id}}/{role}s"] = f"{role}.add"
            table["DELETE", f"{V2}/{kind}/{{id}}/{role}s/{{user}}"] = f"{role}.remove"
    return table


EVENTS = _table()


def facts_of(request: Request, answer: Answer | None = None) -> dict[str, Any]:
    """Who, what, from where. *request* as the route has it; of the answer only the id of what was made is told."""
    caller = request.identity
    facts: dict[str, Any] = {
        "method": request.method,
        "path": request.path,
        "remote": request.remote,
        "request_id": request.request_id,
        "user": request.user,
        "object": request.params.get("id"),
        "member": request.params.get("user"),
    }
    if caller is not None:
        facts |= {
            "credential": caller.kind, "credential_id": caller.credential_id, "user_id": caller.user_id,
            "org_id": caller.org_id,
        }  # fmt: skip
    if (request.method in ("POST", "PATCH") and "id" in request.params) or request.method == "PATCH":
        facts["status"] = _member(request.body, "status")
    if answer is not None and answer.status == 201:
        facts["object"] = _made(answer.body) or facts["object"]
    return facts


def _made(body: bytes) -> str | None:
    document = _object(body)
    inner = document.get("user")
    id = document.get("id") or (inner.get("id") if isinstance(inner, dict) else None)
    return id if isinstance(id, str) else None


def _member(body: bytes, name: str) -> str | None:
    """``active`` or ``inactive`` as a change asks for it; nothing else of a body is told."""
    value = _object(body).get(name)
    return value if value in ("active", "inactive") else None


def _object(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
