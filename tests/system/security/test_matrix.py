"""S05, S06: the permission matrix, generated, and two organizations side by side.

The rules are stated here once more, in ``covers``, apart from the code's own. Source: "authorizations", permissions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from common.identity import RESOURCE_TYPES
from tests.stack import Stack
from tests.system.security.figures import fresh, permission, show

V2 = "/api/v2"
REFUSALS = (401, 403, 404)
SCOPES = ("org", "id", "everywhere", "other org", "other id")
COLLECTIONS = ("buckets", "dbrps", "labels", "variables", "telegrafs", "orgs", "users")


@dataclass
class Side:
    """One organization with an object of each kind."""

    stack: Stack
    name: str = field(default_factory=lambda: fresh("side"))
    org_id: str = ""
    ids: dict[str, str] = field(default_factory=dict)

    def build(self) -> Side:
        self.org_id = self.ids["orgs"] = self.stack.json("POST", f"{V2}/orgs", {"name": self.name})["id"]
        for type in COLLECTIONS:
            if type != "orgs":
                self.ids[type] = self.make(type)
        return self

    def make(self, type: str) -> str:
        """A new object of the organization; its id."""
        made = self.stack.json("POST", f"{V2}/{type}", self.body(type))
        found: str = made["label"]["id"] if type == "labels" else made["id"]
        return found

    def body(self, type: str) -> dict[str, Any]:
        name = fresh(type)
        if type == "orgs" or type == "users":
            return {"name": name}
        body: dict[str, Any] = {"orgID": self.org_id, "name": name}
        if type == "dbrps":
            bucket_id = self.ids["buckets"]
            body |= {"bucketID": bucket_id, "database": name, "retention_policy": name, "default": False}
        if type == "variables":
            body |= {"arguments": {"type": "constant", "values": ["a"]}}
        if type == "telegrafs":
            body |= {"config": "[agent]", "metadata": {"buckets": []}}
        return body

    def change(self, type: str) -> tuple[str, dict[str, Any]]:
        """Method and body of a change of an object."""
        if type == "telegrafs":
            return "PUT", self.body(type)
        return "PATCH", {"retention_policy": fresh("rp")} if type == "dbrps" else {"name": fresh("new")}


@dataclass(frozen=True)
class Held:
    """One permission that a token holds."""

    action: str
    type: str
    id: str | None = None
    org_id: str | None = None

    def json(self) -> dict[str, Any]:
        scope = {"id": self.id, "orgID": self.org_id}
        return permission(self.action, self.type, **{name: value for name, value in scope.items() if value})


def covers(held: Held, action: str, type: str, id: str | None, org_id: str | None) -> bool:
    """The rules: the action, the type, and no scope that names something else.

    An org-wide permission covers only what belongs to that organization (users and organizations belong to none, and
    an object that is about to be made has no id yet).
    """
    if (held.action, held.type) != (action, type):
        return False
    if held.id is not None:
        return held.id == id
    return held.org_id is None or held.org_id == org_id


@pytest.fixture(scope="module")
def sides(stack: Stack) -> tuple[Side, Side]:
    return Side(stack).build(), Side(stack).build()


class Tokens:
    """Tokens of single permissions, each made once."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._made: dict[tuple[str, Any], str] = {}

    def of(self, org_id: str, *held: Held) -> str:
        key = (org_id, held)
        if key not in self._made:
            # One of the organization: where it belongs counts as having a part in it.
            owned = [h for h in held if h.org_id in (None, org_id)]
            body = {"orgID": org_id, "permissions": [h.json() for h in owned]}
            self._made[key] = self._stack.json("POST", f"{V2}/authorizations", body)["token"]
        return self._made[key]


def holds(type: str, own: Side, other: Side, id: str | None) -> Iterator[tuple[str, str, tuple[Held, ...]]]:
    """Each set of permissions to try on an object of *own*: the organization of the token, label, permissions."""
    for actions in (("read",), ("write",), ("read", "write")):
        for scope in SCOPES:
            org = other.org_id if scope == "other org" else own.org_id
            held_id = {"id": id, "other id": other.ids[type]}.get(scope)
            held_org = org if scope in ("org", "other org") else None
            if scope != "id" or id is not None:
                yield org, f"{'+'.join(actions)} {scope}", tuple(Held(a, type, held_id, held_org) for a in actions)


@dataclass(frozen=True)
class Operation:
    """A call: method, path, body; the actions needed; the type and id of what they are needed on."""

    name: str
    needs: tuple[str, ...]
    method: str
    path: str
    body: Any
    type: str
    id: str | None

    def allowed(self, own: Side, held: tuple[Held, ...]) -> bool:
        owner = None if self.type in ("orgs", "users") else own.org_id
        return all(any(covers(h, action, self.type, self.id, owner) for h in held) for action in self.needs)


BOTH = ("read", "write")
# What asks for read too, where others ask for write alone.
CHANGE_NEEDS = {"buckets": BOTH, "dbrps": BOTH, "variables": BOTH, "telegrafs": BOTH}


def operations(own: Side, type: str) -> list[Callable[[], Operation]]:
    """The operations on an object of *type*; each is made anew for each trial, since deletions use it up."""
    # A mapping is guarded by the permissions of its bucket.
    on_type = "buckets" if type == "dbrps" else type
    end = f"?orgID={own.org_id}" if type == "dbrps" else ""

    def on(name: str, needs: tuple[str, ...], method: str, more: str, body: Any, id: str) -> Operation:
        guard = own.ids["buckets"] if type == "dbrps" else id
        return Operation(name, needs, method, f"{V2}/{type}/{id}{more}{end}", body, on_type, guard)

    def create() -> Operation:
        needs = BOTH if type == "dbrps" else ("write",)
        guard = own.ids["buckets"] if type == "dbrps" else None
        return Operation("create", needs, "POST", f"{V2}/{type}", own.body(type), on_type, guard)

    def change() -> Operation:
        method, body = own.change(type)
        return on("change", CHANGE_NEEDS.get(type, ("write",)), method, "", body, own.ids[type])

    found = [
        lambda: on("get", ("read",), "GET", "", None, own.ids[type]),
        change,
        create,
        lambda: on("delete", ("write",), "DELETE", "", None, own.make(type)),
    ]
    if type == "buckets":
        write = f"{V2}/write?orgID={own.org_id}&bucket={own.ids[type]}"
        describe = {"description": "new"}
        found += [
            lambda: Operation("write points", ("write",), "POST", write, "m v=1", type, own.ids[type]),
            lambda: on("describe", ("write",), "PATCH", "", describe, own.ids[type]),
        ]
    return found


def test_s05_no_wrong_allow_and_no_wrong_refusal(stack: Stack, sides: tuple[Side, Side]) -> None:
    own, other = sides
    tokens = Tokens(stack)
    faults: list[str] = []
    checked = allowances = 0

    def expect(operation: Operation, allowed: bool, token: str, label: str) -> None:
        nonlocal checked, allowances
        body = operation.body
        sent = {"data": body} if isinstance(body, str) else {"json": body} if body is not None else {}
        answer = stack.request(operation.method, operation.path, token, **sent)
        checked += 1
        allowances += allowed
        if allowed == (answer.status_code in REFUSALS) or answer.status_code >= 500:
            faults.append(f"{operation.name} {label}: {answer.status_code} {answer.text[:120]!r}, {allowed=}")

    for type in COLLECTIONS:
        for make in operations(own, type):
            first = make()
            for org_id, label, held in holds(first.type, own, other, first.id):
                operation = make()
                if " id" in label and "other" not in label:
                    held = tuple(Held(h.action, h.type, operation.id) for h in held)
                expect(operation, operation.allowed(own, held), tokens.of(org_id, *held), f"{type}, {label}")
            others = [t for t in RESOURCE_TYPES if t not in (first.type, "instance")]
            everything_else = [Held(a, t, None, own.org_id) for t in others for a in BOTH]
            expect(make(), False, tokens.of(own.org_id, *everything_else), f"{type}, all other types")
    print("\n".join(faults[:30]))
    show("S05", f"{len(faults)}/{checked}({allowances}allowed)", 0, not faults and checked >= 200)


def test_s05_members_are_shown_to_who_may_read_the_object_and_its_organization(
    stack: Stack, sides: tuple[Side, Side]
) -> None:
    own, _ = sides
    tokens = Tokens(stack)
    bucket, org = Held("read", "buckets", own.ids["buckets"]), Held("read", "orgs", own.org_id)
    for held, status in (((bucket, org), 200), ((bucket,), 404), ((org,), 404)):
        answer = stack.request("GET", f"{V2}/buckets/{bucket.id}/members", tokens.of(own.org_id, *held))
        assert answer.status_code == status


def test_s05_a_list_shows_what_may_be_read_and_nothing_else(stack: Stack, sides: tuple[Side, Side]) -> None:
    own, other = sides
    tokens = Tokens(stack)
    faults, checked = [], 0
    for type in COLLECTIONS:
        on_type = "buckets" if type == "dbrps" else type
        owner = None if type in ("orgs", "users") else own.org_id
        params = {"limit": "100"} if owner is None else {"orgID": own.org_id}
        if type in ("orgs", "users"):
            params |= {"name" if type == "users" else "org": stack.json("GET", f"{V2}/{type}/{own.ids[type]}")["name"]}
        for org_id, label, held in holds(on_type, own, other, own.ids[on_type]):
            answer = stack.request("GET", f"{V2}/{type}", tokens.of(org_id, *held), params=params)
            shown = answer.status_code == 200 and own.ids[type] in answer.text
            checked += 1
            if shown != any(covers(h, "read", on_type, own.ids[on_type], owner) for h in held):
                faults.append(f"{type} {label}: {answer.status_code} {answer.text[:150]!r}")
    print("\n".join(faults[:30]))
    show("S05 lists", f"{len(faults)}/{checked}", 0, not faults)


def test_s06_the_other_organization_is_out_of_reach(stack: Stack, sides: tuple[Side, Side]) -> None:
    """An owner's token of one side at everything of the other, by id, name and orgID."""
    own, other = sides
    everything = [
        permission(a, t, **({"id": own.org_id} if t == "orgs" else {"orgID": own.org_id}))
        for t in RESOURCE_TYPES
        if t not in ("instance", "users")
        for a in ("read", "write")
    ]
    body = {"orgID": own.org_id, "permissions": everything}
    token = stack.json("POST", f"{V2}/authorizations", body)["token"]
    secret = fresh("hidden")
    marker = stack.json("POST", f"{V2}/buckets", {"orgID": other.org_id, "name": secret})
    theirs = stack.json(
        "POST", f"{V2}/authorizations",
        {"orgID": other.org_id, "description": secret, "permissions": [permission("read", "buckets")]},
    )["id"]  # fmt: skip
    assert stack.request("POST", f"{V2}/write?orgID={other.org_id}&bucket={secret}", data=f"{secret} v=1").ok
    tried = leaks = 0

    def attempt(method: str, path: str, body: Any = None, **params: str) -> None:
        nonlocal tried, leaks
        sent = {"data": body} if isinstance(body, str) else {"json": body} if body is not None else {}
        answer = stack.request(method, path, token, params=params, **sent)
        tried += 1
        empty = method == "GET" and answer.status_code == 200 and not any(i in answer.text for i in hidden)
        # A refusal may say again what was asked for.
        tells = secret in answer.text and secret not in params.values()
        if not (answer.status_code in (400, *REFUSALS) or empty) or tells:
            leaks += 1
            print(f"{method} {path} {params}: {answer.status_code} {answer.text[:200]!r}")

    hidden = [id for type, id in other.ids.items() if type != "orgs"] + [theirs, marker["id"]]
    for type, id in other.ids.items():
        where = {"orgID": other.org_id} if type == "dbrps" else {}
        method, change = other.change(type)
        attempt("GET", f"{V2}/{type}/{id}", **where)
        attempt(method, f"{V2}/{type}/{id}", change, **where)
        attempt("DELETE", f"{V2}/{type}/{id}", **where)
        if type not in ("orgs", "users"):
            attempt("POST", f"{V2}/{type}", other.body(type))
            attempt("GET", f"{V2}/{type}", orgID=other.org_id)
            attempt("GET", f"{V2}/{type}", org=other.name)
        if type in ("buckets", "telegrafs", "orgs"):
            for role in ("members", "owners"):
                attempt("GET", f"{V2}/{type}/{id}/{role}")
                attempt("POST", f"{V2}/{type}/{id}/{role}", {"id": own.ids["users"]})
        if type in ("buckets", "telegrafs", "variables"):
            attempt("GET", f"{V2}/{type}/{id}/labels")
            attempt("POST", f"{V2}/{type}/{id}/labels", {"labelID": own.ids["labels"]})
    attempt("GET", f"{V2}/orgs/{other.org_id}/secrets")
    attempt("PATCH", f"{V2}/orgs/{other.org_id}/secrets", {"a": "b"})
    for path in (f"{V2}/authorizations", "/private/legacy/authorizations"):
        attempt("GET", path, orgID=other.org_id)
        attempt("GET", path, org=other.name)
    for method in ("GET", "PATCH", "DELETE"):
        attempt(method, f"{V2}/authorizations/{theirs}", {"status": "inactive"} if method == "PATCH" else None)
    for bucket in (secret, marker["id"]):
        attempt("POST", f"{V2}/write", "m v=1", orgID=other.org_id, bucket=bucket)
        attempt("POST", f"{V2}/write", "m v=1", org=other.name, bucket=bucket)
        attempt("POST", f"{V2}/write", "m v=1", orgID=own.org_id, bucket=bucket)
    attempt("POST", "/write", "m v=1", db=secret)
    for q in (f'SELECT * FROM "{secret}"', "SHOW MEASUREMENTS"):
        answer = stack.request("GET", "/query", token, params={"db": secret, "q": q})
        tried += 1
        leaks += "series" in answer.text
    minted = {"orgID": own.org_id, "permissions": [permission("read", "buckets", id=marker["id"])]}
    attempt("POST", f"{V2}/authorizations", minted)
    show("S06", f"{leaks}/{tried}", 0, leaks == 0)
