"""The resource API: one table, method and path → function; and what is answered where nothing matches.

Runs behind ``auth.rest``: knows neither msgpack nor HTTP servers. Source: InfluxDB 2.x, "Routing errors".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable

from common.errors import Forbidden, InfluxError, NotFound, TooManyRequests, Unauthorized
from services.auth import audited
from services.auth.context import Context
from services.auth.entities.users import MEMBER, OWNER
from services.auth.records.contest import settle
from services.auth.resources import (
    buckets,
    dbrp,
    discovery,
    labels,
    legacy,
    members,
    org_secrets,
    orgs,
    signin,
    telegrafs,
    tokens,
    users,
    variables,
)
from services.auth.rest.request import PAGE_NOT_FOUND, Answer, Request
from services.auth.rest.router import Router
from services.auth.security.audit import OK
from services.auth.setup import onboarding

Function = Callable[[Context, Request], Awaitable[Answer]]
V2 = "/api/v2"


def _members(type: str) -> dict[str, dict[str, Function]]:
    table = {}
    for role in (MEMBER, OWNER):
        calls = members.calls(type, role)
        path = f"{V2}/{type}/{{id}}/{role}s"
        table[path] = {"GET": calls["list"], "POST": calls["add"]}
        table[path + "/{user}"] = {"DELETE": calls["remove"]}
    return table


def _labels(type: str) -> dict[str, dict[str, Function]]:
    calls = labels.calls_on(type)
    path = f"{V2}/{type}/{{id}}/labels"
    return {
        path: {"GET": calls["list"], "POST": calls["attach"]},
        path + "/{label}": {"DELETE": calls["detach"]},
    }


ROUTES: dict[str, dict[str, Function]] = {
    V2: {"GET": discovery.links},
    f"{V2}/resources": {"GET": discovery.resources},
    f"{V2}/flags": {"GET": discovery.flags},
    f"{V2}/config": {"GET": discovery.config},
    f"{V2}/setup": {"GET": onboarding.get, "POST": onboarding.post},
    f"{V2}/signin": {"POST": signin.sign_in},
    f"{V2}/signout": {"POST": signin.sign_out},
    f"{V2}/me": {"GET": users.me},
    f"{V2}/me/password": {"PUT": users.put_own_password},
    f"{V2}/users": {"GET": users.list_, "POST": users.create},
    f"{V2}/users/{{id}}": {"GET": users.get_one, "PATCH": users.patch, "DELETE": users.delete},
    f"{V2}/users/{{id}}/password": {"POST": users.post_password, "PUT": users.put_password},
    f"{V2}/users/{{id}}/permissions": {"GET": users.permissions},
    f"{V2}/orgs": {"GET": orgs.list_, "POST": orgs.create},
    f"{V2}/orgs/{{id}}": {"GET": orgs.get_one, "PATCH": orgs.patch, "DELETE": orgs.delete},
    **_members("orgs"),
    f"{V2}/orgs/{{id}}/secrets": {"GET": org_secrets.list_, "PATCH": org_secrets.patch},
    f"{V2}/orgs/{{id}}/secrets/delete": {"POST": org_secrets.delete_many},
    f"{V2}/orgs/{{id}}/secrets/{{key}}": {"DELETE": org_secrets.delete_one},
    f"{V2}/buckets": {"GET": buckets.list_, "POST": buckets.create},
    f"{V2}/buckets/{{id}}": {"GET": buckets.get_one, "PATCH": buckets.patch, "DELETE": buckets.delete},
    **_members("buckets"),
    **_labels("buckets"),
    f"{V2}/dbrps": {"GET": dbrp.list_, "POST": dbrp.create},
    f"{V2}/dbrps/{{id}}": {"GET": dbrp.get, "PATCH": dbrp.patch, "DELETE": dbrp.delete},
    f"{V2}/labels": {"GET": labels.list_, "POST": labels.create},
    f"{V2}/labels/{{id}}": {"GET": labels.get_one, "PATCH": labels.patch, "DELETE": labels.delete},
    f"{V2}/authorizations": {"GET": tokens.list_, "POST": tokens.create},
    f"{V2}/authorizations/{{id}}": {"GET": tokens.get_one, "PATCH": tokens.patch, "DELETE": tokens.delete},
    f"{legacy.PATH}": {"GET": legacy.list_, "POST": legacy.create},
    f"{legacy.PATH}/{{id}}": {"GET": legacy.get_one, "PATCH": legacy.patch, "DELETE": legacy.delete},
    f"{legacy.PATH}/{{id}}/password": {"POST": legacy.post_password},
    f"{V2}/variables": {"GET": variables.list_, "POST": variables.create},
    f"{V2}/variables/{{id}}": {
        "GET": variables.get_one,
        "PATCH": variables.patch,
        "PUT": variables.patch,
        "DELETE": variables.delete,
    },
    **_labels("variables"),
    f"{V2}/telegrafs": {"GET": telegrafs.list_, "POST": telegrafs.create},
    f"{V2}/telegrafs/{{id}}": {"GET": telegrafs.get_one, "PUT": telegrafs.put, "DELETE": telegrafs.delete},
    **_members("telegrafs"),
    **_labels("telegrafs"),
}
# Open to everyone; signin and signout look at credentials themselves.
OPEN = frozenset(
    [
        ("GET", V2), ("GET", f"{V2}/setup"), ("POST", f"{V2}/setup"), ("POST", f"{V2}/signin"),
        ("POST", f"{V2}/signout"), ("GET", f"{V2}/swagger.json"),
    ]
)  # fmt: skip
_ROUTER = Router(ROUTES)
# Whatever stands below these is known or a text 404; anything else is "path not found".
_ROOTS = frozenset(path.split("/")[3] for path in ROUTES if path.startswith(f"{V2}/"))


def normalize(path: str) -> str:
    """Without a last slash; the published path of legacy authorizations is the real one."""
    path = path.rstrip("/") or "/"
    return f"/private{path}" if path == "/legacy/authorizations" or path.startswith("/legacy/authorizations/") else path


async def handle(context: Context, request: Request) -> Answer:
    """Answer one call. Raises what the gateway dresses."""
    # "/api/v2/" is not "/api/v2" as long as nobody has signed in.
    open_path = request.path if request.path == f"{V2}/" else normalize(request.path)
    if request.identity is None and (request.method, open_path) not in OPEN:
        raise Unauthorized("unauthorized access")
    path = normalize(request.path)
    found = _ROUTER.find(path)
    if found is None:
        below_known = (path.startswith(f"{V2}/") and path.split("/")[3] in _ROOTS) or path.startswith(legacy.PATH)
        if below_known:
            return PAGE_NOT_FOUND
        raise NotFound("path not found")
    function = found.functions.get(request.method)
    if function is None:
        return Answer(405, headers=(("Allow", ", ".join(sorted(found.functions))),))
    request = dataclasses.replace(request, path=path, params=found.params)
    event = audited.EVENTS.get((request.method, found.route))
    try:
        answer = await settle(lambda: function(context, request))
    except InfluxError as error:
        if event or isinstance(error, Unauthorized | Forbidden | TooManyRequests):
            context.audit.record(event or audited.REFUSED, error.code, **audited.facts_of(request))
        raise
    if event:
        context.audit.record(event, OK, **audited.facts_of(request, answer))
    return answer
