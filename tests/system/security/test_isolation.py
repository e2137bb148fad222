"""S06: two organizations side by side. Whoever may do everything in one finds nothing of the other and changes nothing.

Users belong to no organization: who knows the id of one may make it a member of what is their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote_plus

import pytest
import requests

from tests.stack import Stack
from tests.system.security.figures import permission, show
from tests.system.security.operations import ABOUT_THE_CALLERS_OWN, PARTS, REFUSALS
from tests.system.security.sides import LEGACY, PATHS, V2, Side

Who = str | Mapping[str, str]
# Method, path, body, parameters.
Call = tuple[str, str, Any, dict[str, str]]
ALL_TIME = {"start": "1970-01-01T00:00:00Z", "stop": "2100-01-01T00:00:00Z"}


@pytest.fixture(scope="module")
def sides(stack: Stack) -> tuple[Side, Side]:
    return Side(stack).build(), Side(stack).build()


@pytest.fixture(scope="module")
def callers(sides: tuple[Side, Side]) -> dict[str, Who]:
    own, _ = sides
    permissions = own.everything()
    buckets = [p for p in permissions if p["resource"]["type"] == "buckets"]
    return {
        "all-access token": own.token(permissions),
        "token of buckets": own.token(buckets),
        "owner's session": own.sign_in_owner(),
    }


class Watch:
    """Counts what was tried and what came through.

    An answer leaks if it holds a name or an id of the other side that the question did not hold.
    """

    def __init__(self, own: Side, other: Side) -> None:
        self.own, self.other = own, other
        self.tried = 0
        self.leaks: list[str] = []
        self._hidden = [other.name, other.bucket, *other.ids.values()]

    def note(self, what: str, answer: requests.Response, came_through: bool, known: str = "") -> None:
        """*known*: what the caller has said before."""
        self.tried += 1
        asked = unquote_plus(f"{known} {answer.request.url} {answer.request.body!r}")
        told = [text for text in self._hidden if text in answer.text and text not in asked]
        if came_through or told or answer.status_code >= 500:
            self.leaks.append(f"{what}: {answer.status_code} {answer.text[:200]!r} tells {told}")

    def show(self, case: str) -> None:
        print("\n".join(self.leaks[:40]))
        show(case, f"{len(self.leaks)}/{self.tried}", 0, not self.leaks)


def test_s06_every_operation_on_the_other_side_is_refused(sides: tuple[Side, Side], callers: dict[str, Who]) -> None:
    """Those of the permission matrix, by the other's ids, names and orgID."""
    own, other = sides
    watch = Watch(own, other)
    before = _state(other)
    for part in PARTS.values():
        for make in part(other):
            for label, who in callers.items():
                operation = make()
                answer = other.ask(operation.method, operation.path, who, operation.body)
                reached = operation.allowed(answer) and operation.name not in ABOUT_THE_CALLERS_OWN
                watch.note(f"{operation.name}, {label}", answer, reached)
    assert _state(other) == before
    watch.show("S06 operations")


def test_s06_ids_names_and_organizations_mixed_lead_nowhere(sides: tuple[Side, Side], callers: dict[str, Who]) -> None:
    own, other = sides
    watch = Watch(own, other)
    before = _state(other)
    for method, path, body, params in _mixes(own, other):
        for label, who in callers.items():
            answer = own.ask(method, path, who, body, params)
            # A list may be empty, and a filter may be ignored; what it tells is looked at.
            listed = method == "GET" and not re.search(r"/[0-9a-f]{16}", path)
            came_through = not listed and answer.status_code not in (400, 422, *REFUSALS)
            watch.note(f"{method} {path} {params} {body}, {label}", answer, came_through)
    assert _state(other) == before
    watch.show("S06 mixes")


def _mixes(own: Side, other: Side) -> Iterator[Call]:
    """The other's ids and names where one's own belong, in path, query and body."""
    theirs, mine = other.ids, own.ids
    for kind, path in PATHS.items():
        filters = [
            {"orgID": other.org_id}, {"org": other.name}, {"id": theirs[kind]}, {"authID": theirs[kind]},
            {"orgID": other.org_id, "id": theirs[kind]}, {"orgID": own.org_id, "id": theirs[kind]},
            {"name": other.bucket}, {"orgID": own.org_id, "name": other.bucket},
            {"orgID": other.org_id, "name": other.bucket}, {"org": other.name, "name": other.bucket},
            {"userID": other.owner_id}, {"orgID": own.org_id, "bucketID": theirs["buckets"]},
            {"orgID": own.org_id, "db": other.bucket}, {"orgID": other.org_id, "token": "x"}, {},
        ]  # fmt: skip
        for params in filters:
            yield "GET", path, None, {**params, "limit": "100"}
        for params in ({"orgID": own.org_id}, {"org": own.name}):
            yield "GET", f"{path}/{theirs[kind]}", None, params
            yield "DELETE", f"{path}/{theirs[kind]}", None, params
            method, change = own.change(kind)
            yield method, f"{path}/{theirs[kind]}", {**change, "orgID": own.org_id}, params
        if kind not in ("orgs", "users"):
            yield "POST", path, {**own.body(kind), "orgID": other.org_id}, {}
            yield "POST", path, {**own.body(kind), "orgID": other.org_id, "org": own.name}, {"orgID": own.org_id}
    yield "POST", PATHS["dbrps"], {**own.body("dbrps"), "bucketID": theirs["buckets"]}, {}
    yield "POST", PATHS["dbrps"], {**own.body("dbrps"), "org": other.name, "orgID": ""}, {}
    for kind in ("buckets", "telegrafs", "variables"):
        yield "POST", f"{V2}/{kind}/{mine[kind]}/labels", {"labelID": theirs["labels"]}, {}
        yield "POST", f"{V2}/{kind}/{theirs[kind]}/labels", {"labelID": mine["labels"]}, {}
        yield "DELETE", f"{V2}/{kind}/{theirs[kind]}/labels/{mine['labels']}", None, {}
    for kind in ("orgs", "buckets", "telegrafs"):
        for role in ("members", "owners"):
            yield "POST", f"{V2}/{kind}/{theirs[kind]}/{role}", {"id": own.owner_id}, {}
            yield "DELETE", f"{V2}/{kind}/{theirs[kind]}/{role}/{own.owner_id}", None, {}
    yield from _minted(own, other)
    yield from _points(own, other)


def _minted(own: Side, other: Side) -> Iterator[Call]:
    """Tokens and 1.x names that would reach over."""
    theirs = other.ids["buckets"]
    reaching = [
        permission("read", "buckets", id=theirs),
        permission("read", "buckets", id=theirs, orgID=other.org_id),
        permission("read", "buckets", orgID=other.org_id),
        permission("read", "buckets", name=other.bucket, orgID=own.org_id),
        permission("read", "buckets", name=other.bucket, orgID=other.org_id),
        permission("read", "buckets", name=other.bucket),
        permission("read", "buckets"),
        permission("read", "orgs", id=other.org_id),
        permission("read", "orgs", name=other.name),
        permission("read", "users", id=other.owner_id),
        permission("write", "authorizations", id=other.ids["authorizations"]),
    ]
    for path in (PATHS["authorizations"], PATHS["legacy"]):
        for wanted in reaching:
            yield "POST", path, {**own.body("legacy"), "permissions": [wanted]}, {}
        yield "POST", path, {**own.body("legacy"), "userID": other.owner_id}, {}


def _points(own: Side, other: Side) -> Iterator[Call]:
    """The other's bucket behind one's own organization, and the other way round."""
    for org in ({"orgID": own.org_id}, {"org": own.name}, {"orgID": other.org_id}, {"org": other.name}):
        for bucket in (other.ids["buckets"], other.bucket):
            yield "POST", f"{V2}/write", "m v=2 1", {**org, "bucket": bucket}
            yield "POST", f"{V2}/delete", ALL_TIME, {**org, "bucket": bucket}
        yield "POST", f"{V2}/delete", ALL_TIME, {**org, "bucketID": other.ids["buckets"]}
        yield "POST", f"{V2}/delete", ALL_TIME, {**org, "bucketID": other.ids["buckets"], "bucket": own.bucket}
    for org in ({}, {"orgID": other.org_id}, {"org": other.name}):
        yield "POST", "/write", "m v=2 1", {"db": other.bucket, **org}


def test_s06_a_permission_on_a_foreign_bucket_worn_as_ones_own_reaches_nothing(sides: tuple[Side, Side]) -> None:
    """Such a token is made, as in InfluxDB; there it reads and writes the bucket."""
    own, other = sides
    watch = Watch(own, other)
    before = _state(other)
    id = other.ids["buckets"]
    worn = [permission(action, "buckets", id=id, orgID=own.org_id) for action in ("read", "write")]
    body = {"orgID": own.org_id, "userID": own.owner_id, "permissions": worn}
    made = own.ask("POST", PATHS["authorizations"], own.token(own.everything()), body)
    assert made.status_code == 201
    watch.note("the answer that made it", made, False)
    token = made.json()["token"]
    path = f"{PATHS['authorizations']}/{made.json()['id']}"
    watch.note("the token shown", own.ask("GET", path, own.token(own.everything())), False, known=id)
    calls: list[Call] = [
        ("GET", f"{V2}/buckets/{id}", None, {}),
        ("GET", f"{V2}/buckets", None, {"id": id}),
        ("PATCH", f"{V2}/buckets/{id}", {"description": "mine"}, {}),
        ("DELETE", f"{V2}/buckets/{id}", None, {}),
        ("GET", f"{V2}/buckets/{id}/labels", None, {}),
        ("POST", f"{V2}/dbrps", {**own.body("dbrps"), "bucketID": id}, {}),
        *_points(own, other),
    ]
    for method, path, sent, params in calls:
        answer = own.ask(method, path, token, sent, params)
        watch.note(f"{method} {path} {params}", answer, answer.status_code not in REFUSALS)
    for q in ("SELECT * FROM m", f'SELECT * FROM "{other.bucket}"..m', "SHOW DATABASES"):
        answer = own.ask("GET", "/query", token, params={"db": other.bucket, "q": q})
        watch.note(q, answer, '"values"' in answer.text)
    legacy = own.ask(
        "POST", f"{LEGACY}/authorizations", own.token(own.everything()), {**body, "token": other.bucket + "x"}
    )
    watch.note("a 1.x name", legacy, legacy.status_code != 404)
    assert _state(other) == before
    watch.show("S06 worn")


def test_s06_nothing_moves_into_or_out_of_an_organization(sides: tuple[Side, Side]) -> None:
    """A change that names another organization leaves the object where it is."""
    own, other = sides
    token = own.token(own.everything())
    moved = tried = 0
    for kind in PATHS:
        if kind in ("orgs", "users", "dbrps"):
            continue
        method, change = own.change(kind)
        path = f"{PATHS[kind]}/{own.ids[kind]}"
        answer = own.ask(method, path, token, {**change, "orgID": other.org_id, "org": other.name})
        tried += 1
        shown = own.ask("GET", path, {"Authorization": f"Token {own.stack.token}", "Accept": "application/json"}).json()
        moved += answer.status_code >= 500 or shown.get("label", shown)["orgID"] != own.org_id
    show("S06 moves", f"{moved}/{tried}", 0, moved == 0)


def _state(side: Side) -> dict[str, str]:
    """Everything of the side as the operator sees it, points included."""
    operator = {"Authorization": f"Token {side.stack.token}", "Accept": "application/json"}
    where = {"orgID": side.org_id}
    found = {
        kind: side.ask("GET", f"{path}/{side.ids[kind]}", operator, params=where).text for kind, path in PATHS.items()
    }
    for kind in ("orgs", "buckets", "telegrafs"):
        for role in ("members", "owners"):
            path = f"{V2}/{kind}/{side.ids[kind]}/{role}"
            found[path] = side.ask("GET", path, operator).text
    found["labels"] = side.ask("GET", f"{V2}/buckets/{side.ids['buckets']}/labels", operator).text
    found["points"] = side.ask("GET", "/query", side.reader(), params={"db": side.bucket, "q": "SELECT v FROM m"}).text
    assert '"values"' in found["points"]
    return found
