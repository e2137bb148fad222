"""The one limit of bodies of the resource API, at the gateway."""

from __future__ import annotations

import json

import pytest

from tests.stack import Stack

LIMIT = 4 << 20


def body(stack: Stack, size: int) -> bytes:
    """A variable that stays small however long the body is: what is not known is left alone."""
    known = {"orgID": stack.org_id(), "name": f"v{size}", "arguments": {"type": "constant", "values": []}}
    text = json.dumps({**known, "unknown": ""})
    return json.dumps({**known, "unknown": "x" * (size - len(text))}).encode()


@pytest.mark.parametrize(("over", "status"), [(-1, 201), (0, 201), (1, 413)])
def test_a_body_is_taken_to_the_limit_and_no_further(stack: Stack, over: int, status: int) -> None:
    given = body(stack, LIMIT + over)
    assert len(given) == LIMIT + over
    answer = stack.request("POST", "/api/v2/variables", data=given)
    assert answer.status_code == status
    if status == 413:
        assert answer.headers["X-Platform-Error-Code"] == "request too large"
        assert answer.json() == {
            "code": "request too large",
            "message": f"Request Entity Too Large: the body is over {LIMIT} bytes (TIDEGATE_REST_MAX_BODY_BYTES)",
        }
