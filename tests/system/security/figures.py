"""The line that each security case of the list S01… prints, and what its tests share."""

from __future__ import annotations

import uuid
from typing import Any

from tests.stack import Stack


def show(case: str, figure: Any, limit: Any, passed: bool) -> None:
    """Print ``CASE id figure limit PASS`` and fail the test where it is not passed."""
    line = f"CASE {case} {figure} {limit} {'PASS' if passed else 'FAIL'}"
    print(line)
    assert passed, line


def fresh(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex[:10]}"


def permission(action: str, type: str, **scope: str) -> dict[str, Any]:
    return {"action": action, "resource": {"type": type, **scope}}


def make_token(stack: Stack, permissions: list[dict[str, Any]], token: str | None = None, **more: Any) -> Any:
    """A new token as its creating answer shows it."""
    body = {"orgID": stack.org_id(), "permissions": permissions, **more}
    return stack.json("POST", "/api/v2/authorizations", body, token or stack.token)


def make_user(stack: Stack, password: str = "a-long-password") -> tuple[str, str]:
    """A user of the first organization who owns it: name and id."""
    name = fresh("user")
    id = stack.json("POST", "/api/v2/users", {"name": name})["id"]
    stack.json("POST", f"/api/v2/users/{id}/password", {"password": password})
    stack.json("POST", f"/api/v2/orgs/{stack.org_id()}/owners", {"id": id})
    return name, id


def sign_in(stack: Stack, name: str, password: str) -> str:
    """The Cookie header of a new session."""
    answer = stack.request("POST", "/api/v2/signin", auth=(name, password))
    assert answer.status_code == 204, answer.text
    return answer.headers["Set-Cookie"].partition(";")[0]
