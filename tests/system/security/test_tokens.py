"""S02, S03, S07, S08, S10, S24, S35, expiry and last use of tokens."""

from __future__ import annotations

import base64
import concurrent.futures
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import requests

from services.auth.records import uses
from services.auth.security.hashing import Hasher, make_secret
from services.gateway import identity
from tests.stack import Stack
from tests.system.security.figures import fresh, make_token, permission, show
from tests.system.security.timing import compare_refusals


def status_of(stack: Stack, value: str) -> int:
    return stack.request("GET", "/api/v2/me", value).status_code


def test_s02_what_storage_keeps_is_no_token(own_stack: Stack) -> None:
    """The stored hash in each form, and the shown one, presented as a token."""
    data = own_stack.folder / "data"
    own_stack.stop()
    hasher = Hasher((data / "token.key").read_bytes().strip())
    hex_form = hasher.token(own_stack.token)
    own_stack.start()
    raw = base64.urlsafe_b64encode(bytes.fromhex(hex_form)).decode()
    statuses = [status_of(own_stack, form) for form in (hex_form, raw, hasher.shown(own_stack.token))]
    show("S02", statuses.count(401), 3, statuses == [401] * 3)


def test_s03_a_right_beginning_takes_no_longer(stack: Stack) -> None:
    """Of each kind 1,000; tests/faults does 20,000."""
    compare_refusals(stack, 1_000)


def test_s07_nobody_makes_more_than_they_hold(stack: Stack) -> None:
    org_id = stack.org_id()
    other = stack.json("POST", "/api/v2/orgs", {"name": fresh("other")})["id"]
    stranger = stack.json("POST", "/api/v2/users", {"name": fresh("stranger")})["id"]
    me = stack.json("GET", "/api/v2/me")["id"]
    held = [
        permission("write", "authorizations", orgID=org_id), permission("read", "authorizations", orgID=org_id),
        permission("read", "users", id=me), permission("write", "users", id=me),
        permission("read", "buckets", orgID=org_id),
    ]  # fmt: skip
    small = make_token(stack, held)
    wanted: list[dict[str, Any]] = [
        {"permissions": [permission("write", "buckets", orgID=org_id)]},
        {"permissions": [permission("read", "buckets")]},
        {"permissions": [permission("read", "buckets", orgID=other)]},
        {"permissions": [permission("read", "instance")]},
        {"permissions": [permission("read", "users")]},
        {"permissions": [permission("read", "buckets", orgID=org_id)], "userID": stranger},
        {"permissions": [permission("read", "buckets", orgID=org_id)], "orgID": other},
    ]
    made = 0
    for body in wanted:
        answer = stack.request("POST", "/api/v2/authorizations", small["token"], json={"orgID": org_id, **body})
        made += answer.status_code not in (400, 401, 403, 404)
    same = {"orgID": org_id, "permissions": [permission("read", "buckets", orgID=org_id)], "token": "chosen", "id": me}
    mine = stack.json("POST", "/api/v2/authorizations", same, small["token"])
    assert mine["token"] != "chosen"
    assert mine["id"] != me
    change = {"permissions": held, "orgID": other, "userID": stranger, "token": "chosen", "description": "new"}
    changed = stack.json("PATCH", f"/api/v2/authorizations/{mine['id']}", change, small["token"])
    kept = all(changed[name] == mine[name] for name in ("permissions", "orgID", "userID"))
    assert status_of(stack, "chosen") == 401
    show("S07", f"{made}/{len(wanted)}", 0, made == 0 and kept)


def test_s08_no_list_gives_a_value_that_works(stack: Stack) -> None:
    value = make_token(stack, [permission("read", "buckets", orgID=stack.org_id())])["token"]
    listed = stack.json("GET", "/api/v2/authorizations")["authorizations"]
    found = [stack.json("GET", f"/api/v2/authorizations/{item['id']}") for item in listed[:20]]
    usable = sum(bool(item["token"]) and status_of(stack, item["token"]) == 200 for item in (*listed, *found))
    text = stack.request("GET", "/api/v2/authorizations").text
    show("S08", usable, 0, usable == 0 and value not in text and stack.token not in text)


def test_s24_of_fifty_set_ups_at_once_one_is_done(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "bare", setup=False).start()
    try:

        def set_up(number: int) -> int:
            body = {"username": f"u{number}", "password": "a-long-password", "org": f"o{number}", "bucket": "b"}
            return stack.request("POST", "/api/v2/setup", None, json=body).status_code

        with concurrent.futures.ThreadPoolExecutor(50) as pool:
            statuses = list(pool.map(set_up, range(50)))
        again = set_up(51)
        done = statuses.count(201)
        show("S24", done, 1, done == 1 and again == 422 and set(statuses) <= {201, 422, 503})
    finally:
        stack.stop()


def test_s35_ten_thousand_tokens_differ() -> None:
    made = {make_secret() for _ in range(10_000)}
    sizes = {len(base64.urlsafe_b64decode(value)) for value in made}
    show("S35", f"{10_000 - len(made)},{sizes}", "0,{64}", len(made) == 10_000 and sizes == {64})


# ---------------------------------------------------------------- expiry, last use


def _in(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def test_a_token_ends_when_it_says_with_a_text_of_its_own(stack: Stack) -> None:
    org_id = stack.org_id()
    ends = _in(1.5)
    made = make_token(stack, [permission("write", "buckets", orgID=org_id)], expiresAt=ends)
    assert made["expiresAt"][:21] == ends[:21]
    shown = stack.json("GET", f"/api/v2/authorizations/{made['id']}")
    assert shown["expiresAt"] == made["expiresAt"]

    def write(path: str) -> requests.Response:
        return stack.request("POST", path, made["token"], data=b"m v=1")

    v1, v2 = "/write?db=first", f"/api/v2/write?org={org_id}&bucket=first"
    assert write(v1).status_code == write(v2).status_code == 204
    deadline = time.monotonic() + 10
    while write(v2).status_code == 204:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert write(v1).status_code == 401
    assert write(v1).json()["error"] == "Unauthorized: token has expired"
    assert write(v2).json() == {"code": "unauthorized", "message": "token has expired"}


def test_a_legacy_authorization_ends_too(stack: Stack) -> None:
    name = fresh("ending")
    permissions = [permission("write", "buckets", orgID=stack.org_id())]
    body = {"orgID": stack.org_id(), "token": name, "permissions": permissions, "expiresAt": _in(2)}
    made = stack.json("POST", "/private/legacy/authorizations", body)
    stack.json("POST", f"/private/legacy/authorizations/{made['id']}/password", {"password": "a-long-password"})
    auth = (name, "a-long-password")
    assert stack.request("POST", "/write?db=first", auth=auth, data=b"m v=1").status_code == 204
    time.sleep(2.1)
    answer = stack.request("POST", "/write?db=first", auth=auth, data=b"m v=1")
    assert (answer.status_code, answer.json()["error"]) == (401, "Unauthorized: token has expired")


def test_an_end_that_is_none_is_refused_and_what_ends_makes_nothing_that_lasts(stack: Stack) -> None:
    org_id = stack.org_id()
    read = [permission("read", "buckets", orgID=org_id)]
    for text in ("tomorrow", "2030-13-01T00:00:00Z", "2001-01-01T00:00:00Z", "1"):
        body = {"orgID": org_id, "permissions": read, "expiresAt": text}
        assert stack.request("POST", "/api/v2/authorizations", json=body).status_code == 400, text
    me = stack.json("GET", "/api/v2/me")["id"]
    makes = [*read, permission("write", "authorizations", orgID=org_id), permission("write", "users", id=me)]
    ending = make_token(stack, makes, expiresAt=_in(600))
    body = {"orgID": org_id, "permissions": read}
    made = stack.json("POST", "/api/v2/authorizations", body, ending["token"])
    assert made["expiresAt"] == ending["expiresAt"]
    later = {**body, "expiresAt": _in(6000)}
    assert stack.request("POST", "/api/v2/authorizations", ending["token"], json=later).status_code == 403


def test_the_last_use_is_shown_within_a_minute_and_not_before_the_first(stack: Stack) -> None:
    made = make_token(stack, [permission("write", "buckets", orgID=stack.org_id())])
    path = f"/api/v2/authorizations/{made['id']}"
    assert "lastUsedAt" not in stack.json("GET", path)
    before = _in(-1)
    assert stack.request("POST", "/write?db=first", made["token"], data=b"m v=1").status_code == 204
    began = time.monotonic()
    while "lastUsedAt" not in (shown := stack.json("GET", path)):
        assert time.monotonic() - began < 60
        time.sleep(0.25)
    assert before <= shown["lastUsedAt"] <= _in(0)
    assert identity.TELL_EVERY_S + uses.WRITE_EVERY_S < 60
    listed = stack.json("GET", "/api/v2/authorizations")["authorizations"]
    assert next(item for item in listed if item["id"] == made["id"])["lastUsedAt"] == shown["lastUsedAt"]
    stack.json("DELETE", path)


def test_s10_the_password_or_token_rule_in_every_place(stack: Stack) -> None:
    """Each place × each secret × each name, against the rule in three lines."""
    org_id = stack.org_id()
    permissions = [permission("write", "buckets", orgID=org_id)]
    token = make_token(stack, permissions)["token"]
    with_password, without = fresh("with"), fresh("without")
    for name in (with_password, without):
        body = {"orgID": org_id, "token": name, "permissions": permissions}
        id = stack.json("POST", "/private/legacy/authorizations", body)["id"]
        if name == with_password:
            stack.json("POST", f"/private/legacy/authorizations/{id}/password", {"password": "a-long-password"})
    wrong = checked = 0
    for name in (with_password, without, fresh("nobody")):
        for secret in (token, "a-long-password", "wrong-password"):
            right = secret == "a-long-password" if name == with_password else secret == token
            basic = base64.b64encode(f"{name}:{secret}".encode()).decode()
            for header, params, allowed in (
                (f"Basic {basic}", {}, right),
                ("", {"u": name, "p": secret}, right),
                (f"Token {name}:{secret}", {}, secret == token),
                (f"Token {secret}", {}, secret == token),
                ("Token nonsense", {"u": name, "p": secret}, right),
                (f"Token {token}", {"u": name, "p": "wrong-password"}, False),
            ):
                headers = {"Authorization": header} if header else {}
                params = {"db": "first", **params}
                status = stack.request("POST", "/write", None, params=params, data=b"m v=1", headers=headers)
                wrong += (status.status_code == 204) != allowed
                checked += 1
    show("S10", f"{wrong}/{checked}", 0, wrong == 0)
