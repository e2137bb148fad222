"""1.x administration: statements of the tree → calls of ``auth.administer``, which knows the rules.

With ``TIDEGATE_V1_ADMIN=off`` none of this is in the table of executors, and each says InfluxDB 2.9's refusal.
Source: docs/rpc.md, "auth.administer"; decisions 14 to 16.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from common.errors import Invalid
from common.rpc.client import RpcClient
from services.query.context import QueryContext
from services.query.execute import Executor
from services.query.influxql import tree
from services.query.reading.mappings import Mappings
from services.query.render.result import Kind, ResultColumn, ResultSeries

# A password takes a tenth of a second, in a queue.
TIMEOUT_S = 30
ACTIONS = {
    tree.Privilege.READ: ["read"],
    tree.Privilege.WRITE: ["write"],
    tree.Privilege.ALL: ["read", "write"],
}


def _create_database(s: tree.CreateDatabase) -> dict[str, Any]:
    options = s.options or tree.PolicyOptions()
    return {"name": s.name, "policy": s.policy, "checked": s.options is not None, **_durations(options)}


def _create_policy(s: tree.CreateRetentionPolicy) -> dict[str, Any]:
    return {"name": s.name, "database": s.database, "default": s.default, **_durations(s.options)}


def _alter_policy(s: tree.AlterRetentionPolicy) -> dict[str, Any]:
    return {"name": s.name, "database": s.database, "default": s.default, **_durations(s.options)}


def _durations(options: tree.PolicyOptions) -> dict[str, int | None]:
    """REPLICATION is taken and means nothing, as on one server of 1.x. Raises Invalid for a limit."""
    if options.future_limit_ns or options.past_limit_ns:
        # To take it and store the points all the same would be a lie.
        raise Invalid("FUTURE LIMIT and PAST LIMIT are not supported")
    return {"duration_ns": options.duration_ns, "shard_ns": options.shard_ns}


def _granted(s: tree.Grant | tree.Revoke) -> dict[str, Any]:
    return {"user": s.user, "database": s.database, "actions": ACTIONS[s.privilege]}


# Statement → its type in the call, and its members.
CALLS: dict[type, tuple[str, Callable[[Any], dict[str, Any]]]] = {
    tree.CreateDatabase: ("create_database", _create_database),
    tree.DropDatabase: ("drop_database", lambda s: {"name": s.name}),
    tree.CreateRetentionPolicy: ("create_retention_policy", _create_policy),
    tree.AlterRetentionPolicy: ("alter_retention_policy", _alter_policy),
    tree.DropRetentionPolicy: ("drop_retention_policy", lambda s: {"name": s.name, "database": s.database}),
    tree.CreateUser: ("create_user", lambda s: {"name": s.name, "password": s.password, "admin": s.admin}),
    tree.DropUser: ("drop_user", lambda s: {"name": s.name}),
    tree.SetPassword: ("set_password", lambda s: {"name": s.name, "password": s.password}),
    tree.Grant: ("grant", _granted),
    tree.GrantAdmin: ("grant", lambda s: {"user": s.user}),
    tree.Revoke: ("revoke", _granted),
    tree.RevokeAdmin: ("revoke", lambda s: {"user": s.user}),
    tree.ShowUsers: ("show_users", lambda s: {}),
    tree.ShowGrants: ("show_grants", lambda s: {"user": s.user}),
}
# What a SHOW answers; the others answer nothing.
COLUMNS = {tree.ShowUsers: ("user", "admin"), tree.ShowGrants: ("database", "privilege")}


class Administration:
    """Calls auth, and reads the mappings anew after a change, so that the next statement sees it."""

    def __init__(self, client: RpcClient, auth_url: str, mappings: Mappings) -> None:
        self._client = client
        self._auth_url = auth_url
        self._mappings = mappings

    def executors(self) -> Mapping[type, Executor]:
        """What makes these statements work."""
        return dict.fromkeys(CALLS, self.run)

    async def run(self, statement: tree.AdminStatement, context: QueryContext) -> AsyncIterator[ResultSeries]:
        """Raises what fails the statement."""
        type_, members = CALLS[type(statement)]
        head = {
            "identity": context.identity.to_wire(),
            "statement": {"type": type_, **members(statement)},
            "remote": context.origin.remote,
            "request_id": context.origin.request_id,
        }
        answer = await self._client.call(self._auth_url, "auth.administer", head, timeout_s=TIMEOUT_S)
        context.running.changes += answer.head.get("changes", ())
        columns = COLUMNS.get(type(statement))
        if columns is None:
            await self._mappings.of_org(context.org_id, confirm=True)
            return
        rows = answer.head["rows"]
        # Even without rows the columns are shown, as in 1.x.
        yield ResultSeries(
            None, (), tuple(ResultColumn(n, Kind.MIXED, [row[i] for row in rows]) for i, n in enumerate(columns))
        )
