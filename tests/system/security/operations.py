"""The calls of the permission matrix: what each needs by the pages of authorizations, tenancy and queries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import requests

from tests.system.security.figures import fresh
from tests.system.security.rules import Scope
from tests.system.security.sides import PASSWORD, PATHS, V2, Side

REFUSALS = (401, 403, 404)
BOTH = ("read", "write")
# Statements that name nothing of any organization: they are about the caller's own.
ABOUT_THE_CALLERS_OWN = frozenset(("CREATE DATABASE", "CREATE USER", "SHOW USERS"))
# What asks for read too, where others ask for write alone.
CHANGE_NEEDS = dict.fromkeys(("buckets", "dbrps", "variables", "telegrafs", "authorizations", "legacy"), BOTH)


@dataclass(frozen=True)
class Operation:
    """A call, and what it needs.

    Attributes:
        inside: it is for callers of the organization alone: 1.x knows no other one than the caller's, and what is
            guarded by something that belongs to no organization does not exist for strangers (decision 12).
        done: whether an answer shows that the call was let through; default: by its status.
    """

    name: str
    needs: tuple[Scope, ...]
    method: str
    path: str
    body: Any = None
    inside: bool = False
    done: Callable[[requests.Response], bool] | None = None

    def allowed(self, answer: requests.Response) -> bool:
        if self.done is not None:
            return answer.status_code == 200 and self.done(answer)
        return answer.status_code not in REFUSALS


Make = Callable[[], Operation]


def _needs(own: Side, kind: str, id: str | None, *actions: str) -> tuple[Scope, ...]:
    """What *actions* on an object of *kind* need; *id* None = on one that is about to be made."""
    if kind in ("authorizations", "legacy"):
        # Of both kinds the same; and the user whom it belongs to.
        return tuple(
            scope
            for action in actions
            for scope in (Scope(action, "authorizations", id, own.org_id), Scope(action, "users", own.owner_id))
        )
    if kind == "dbrps":  # guarded by the bucket
        return _needs(own, "buckets", own.ids["buckets"], *actions)
    org_id = None if kind in ("orgs", "users") else own.org_id
    return tuple(Scope(action, kind, id, org_id) for action in actions)


def _objects(own: Side) -> Iterator[Make]:
    """Get, change, make and delete of each kind."""
    for kind in PATHS:
        yield from _of_kind(own, kind, PATHS[kind], f"?orgID={own.org_id}" if kind == "dbrps" else "")


def _of_kind(own: Side, kind: str, path: str, end: str) -> Iterator[Make]:
    def get() -> Operation:
        id = own.ids[kind]
        return Operation(f"get {kind}", _needs(own, kind, id, "read"), "GET", f"{path}/{id}{end}")

    def change() -> Operation:
        id, (method, body) = own.ids[kind], own.change(kind)
        needs = _needs(own, kind, id, *CHANGE_NEEDS.get(kind, ("write",)))
        return Operation(f"change {kind}", needs, method, f"{path}/{id}{end}", body)

    def create() -> Operation:
        needs = _needs(own, kind, None, *(BOTH if kind == "dbrps" else ("write",)))
        if kind in ("authorizations", "legacy"):  # nobody gives more than they have
            needs += (Scope("read", "buckets", None, own.org_id),)
        return Operation(f"create {kind}", needs, "POST", path, own.body(kind))

    def delete() -> Operation:
        id = own.make(kind)
        return Operation(f"delete {kind}", _needs(own, kind, id, "write"), "DELETE", f"{path}/{id}{end}")

    def describe() -> Operation:
        id = own.ids[kind]
        return Operation(
            "describe bucket", _needs(own, kind, id, "write"), "PATCH", f"{path}/{id}", {"description": "d"}
        )

    yield from (get, change, create, delete)
    if kind == "buckets":
        yield describe


def _users(own: Side) -> Iterator[Make]:
    id, legacy_id = own.owner_id, own.ids["legacy"]
    write = (Scope("write", "users", id),)
    body = {"password": PASSWORD}
    yield lambda: Operation("password", write, "POST", f"{V2}/users/{id}/password", body)
    yield lambda: Operation("permissions", (Scope("read", "users", id),), "GET", f"{V2}/users/{id}/permissions")
    yield lambda: Operation("1.x password", write, "POST", f"{PATHS['legacy']}/{legacy_id}/password", body, inside=True)


def _secrets(own: Side) -> Iterator[Make]:
    path = f"{V2}/orgs/{own.org_id}/secrets"
    reads, writes = ((Scope("read", "orgs", own.org_id), Scope(action, "secrets", None, own.org_id)) for action in BOTH)
    yield lambda: Operation("list secrets", reads, "GET", path)
    yield lambda: Operation("set secret", writes, "PATCH", path, {"key": "value"})
    yield lambda: Operation("delete secret", writes, "DELETE", f"{path}/none")
    yield lambda: Operation("delete secrets", writes, "POST", f"{path}/delete", {"secrets": ["none"]})


def _members(own: Side) -> Iterator[Make]:
    for kind in ("orgs", "buckets", "telegrafs"):
        for role in ("members", "owners"):
            yield from _of_role(own, kind, role)


def _of_role(own: Side, kind: str, role: str) -> Iterator[Make]:
    id = own.ids[kind]
    path = f"{V2}/{kind}/{id}/{role}"
    org = Scope("read", "orgs", own.org_id)
    reads, writes = (_needs(own, kind, id, *actions) for actions in (("read",), BOTH))
    listed = tuple(dict.fromkeys((*reads, org)))
    yield lambda: Operation(f"list {role} of {kind}", listed, "GET", path)
    yield lambda: Operation(f"add {role} of {kind}", writes, "POST", path, {"id": own.make("users")})
    yield lambda: Operation(f"remove {role} of {kind}", writes, "DELETE", f"{path}/{own.owner_id}")


def _labels(own: Side) -> Iterator[Make]:
    for kind in ("buckets", "telegrafs", "variables"):
        yield from _labels_on(own, kind)


def _labels_on(own: Side, kind: str) -> Iterator[Make]:
    id = own.ids[kind]
    path = f"{V2}/{kind}/{id}/labels"
    reads, writes = (_needs(own, kind, id, *actions) for actions in (("read",), BOTH))
    yield lambda: Operation(f"list labels of {kind}", reads, "GET", path)
    yield lambda: Operation(f"add label to {kind}", writes, "POST", path, {"labelID": own.make("labels")})
    yield lambda: Operation(f"remove label of {kind}", writes, "DELETE", f"{path}/{own.ids['labels']}")


def _data(own: Side) -> Iterator[Make]:
    write = _needs(own, "buckets", own.ids["buckets"], "write")
    where = f"orgID={own.org_id}&bucket={own.ids['buckets']}"
    nothing = {"start": "1971-01-01T00:00:00Z", "stop": "1971-01-01T00:00:01Z"}
    yield lambda: Operation("v2 write", write, "POST", f"{V2}/write?{where}", "m v=1")
    yield lambda: Operation("v2 delete", write, "POST", f"{V2}/delete?{where}", nothing)
    yield lambda: Operation("v1 write", write, "POST", f"/write?db={own.bucket}", "m v=1", inside=True)


def _statements(own: Side) -> Iterator[Make]:
    """Of 1.x. A refusal stands in the answer of the statement."""
    bucket = own.ids["buckets"]
    read, write, both = (_needs(own, "buckets", bucket, *actions) for actions in (("read",), ("write",), BOTH))
    in_org = _needs(own, "buckets", None, "write")
    db = f'"{own.bucket}"'

    def statement(name: str, needs: tuple[Scope, ...], q: str, done: Callable[[requests.Response], bool]) -> Operation:
        params = urlencode({"db": own.bucket, "q": q})
        return Operation(name, needs, "POST", f"/query?{params}", inside=True, done=done)

    def reads(name: str, q: str, shows: str) -> Make:
        return lambda: statement(name, read, q, lambda answer: f'"{shows}"' in answer.text)

    yield reads("SELECT", "SELECT v FROM m", "series")
    yield reads("EXPLAIN", "EXPLAIN SELECT v FROM m", "series")
    yield reads("SHOW DATABASES", "SHOW DATABASES", own.bucket)
    yield reads("SHOW RETENTION POLICIES", f"SHOW RETENTION POLICIES ON {db}", "autogen")
    yield reads("SHOW MEASUREMENTS", f"SHOW MEASUREMENTS ON {db}", "m")
    yield reads("SHOW SERIES", f"SHOW SERIES ON {db}", "m,t=a")
    yield reads("SHOW TAG KEYS", f"SHOW TAG KEYS ON {db}", "t")
    yield reads("SHOW TAG VALUES", f"SHOW TAG VALUES ON {db} WITH KEY = t", "a")
    yield reads("SHOW FIELD KEYS", f"SHOW FIELD KEYS ON {db}", "float")

    def gone(measurement: str) -> Callable[[requests.Response], bool]:
        """DROP of what is not readable is no error and does nothing: what counts is what is left."""

        def check(_: requests.Response) -> bool:
            asked = {"db": own.bucket, "q": f'SELECT v FROM "{measurement}"'}
            return '"series"' not in own.ask("GET", "/query", own.reader(), params=asked).text

        return check

    def removes(name: str, q: str) -> Make:
        def make() -> Operation:
            measurement = fresh("gone")
            own.post(f"{V2}/write?orgID={own.org_id}&bucket={bucket}", f"{measurement} v=1 1")
            return statement(name, both, q.replace("?", f'"{measurement}"'), gone(measurement))

        return make

    yield removes("DELETE", "DELETE FROM ?")
    yield removes("DROP SERIES", "DROP SERIES FROM ?")
    yield removes("DROP MEASUREMENT", "DROP MEASUREMENT ?")

    def changes(name: str, needs: tuple[Scope, ...], q: Callable[[], str]) -> Make:
        return lambda: statement(name, needs, q(), lambda answer: '"error"' not in answer.text)

    def rule(policy: str) -> str:
        return f'RETENTION POLICY "{policy}" ON {db} DURATION 1d REPLICATION 1'

    yield changes("CREATE DATABASE", in_org, lambda: f'CREATE DATABASE "{fresh("made")}"')
    yield changes("CREATE RETENTION POLICY", in_org, lambda: f"CREATE {rule(fresh('rp'))}")
    yield changes("ALTER RETENTION POLICY", write, lambda: f"ALTER RETENTION POLICY autogen ON {db} DURATION INF")
    yield from _dropped(own, statement)
    yield from _of_1x_users(own, changes)


Statement = Callable[[str, tuple[Scope, ...], str, Callable[[requests.Response], bool]], Operation]
Changes = Callable[[str, tuple[Scope, ...], Callable[[], str]], Make]


def _dropped(own: Side, statement: Statement) -> Iterator[Make]:
    def drop_database() -> Operation:
        """Of one that is not there is no error: what counts is what is left."""
        name = fresh("gone")
        id = own.make("buckets", name)
        needs = _needs(own, "buckets", id, "write")
        left = f"{PATHS['buckets']}/{id}"
        is_gone = lambda _: own.ask("GET", left, own.stack.token).status_code == 404  # noqa: E731
        return statement("DROP DATABASE", needs, f'DROP DATABASE "{name}"', is_gone)

    yield drop_database


def _of_1x_users(own: Side, changes: Changes) -> Iterator[Make]:
    """What 1.x calls users are legacy authorizations; theirs belong to the user who made them."""
    name = fresh("one-x")
    legacy_id = own.post(PATHS["legacy"], own.body("legacy", name))["id"]
    on_it, seen = (
        (Scope(action, "authorizations", legacy_id, own.org_id), Scope(action, "users", own.owner_id))
        for action in ("write", "read")
    )
    read = _needs(own, "buckets", own.ids["buckets"], "read")
    yield changes("SET PASSWORD", on_it, lambda: f"SET PASSWORD FOR \"{name}\" = '{PASSWORD}'")
    yield changes("GRANT", (*on_it, *read), lambda: f'GRANT READ ON "{own.bucket}" TO "{name}"')
    yield changes("SHOW GRANTS", seen, lambda: f'SHOW GRANTS FOR "{name}"')
    yield changes("SHOW USERS", (Scope("read", "authorizations", None, own.org_id),), lambda: "SHOW USERS")
    making = (Scope("write", "authorizations", None, own.org_id), Scope("write", "users", own.owner_id))
    yield changes("CREATE USER", making, lambda: f"CREATE USER \"{fresh('u')}\" WITH PASSWORD '{PASSWORD}'")


# By what they are about. Each operation is made anew for each trial, since deletions use their object up.
PARTS: dict[str, Callable[[Side], Iterator[Make]]] = {
    "objects": _objects,
    "users": _users,
    "secrets": _secrets,
    "members": _members,
    "labels": _labels,
    "data": _data,
    "statements": _statements,
}
