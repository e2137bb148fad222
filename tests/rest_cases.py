"""Tables of requests and answers: tests/cases/rest/*.yaml, run against auth's rules alone and against a whole stack,
and tests/cases/stack/*.yaml, which the whole stack alone serves.

A file is a list of steps, run in order in a world that has been set up; or ``settings`` of a stack of its own (with
``set_up: false`` one that has not been set up) and its ``steps``:

    - name: what it shows
      request: POST /api/v2/buckets?x=y     ${variables} are filled in
      as: operator                          or none, token ${t}, basic name:password, cookie ${c}, raw <header>
      json: {orgID: "${org_id}"}            or body: the text itself
      headers: {accept: application/json}   of the request
      status: 201                           or accepted: true, whatever it is but 401 (a credential on a v1 path)
      answer: {id: "<id>", name: "x"}       the whole JSON; "<any>", "<id>", "<time>", "<text>" stand for such values
      has: {name: x}                        instead: these members at least
      text: "404 page not found\\n"          instead: the very bytes
      answer_headers: {Content-Type: x}     these at least; null = absent, "~x" = a regular expression
      save: {bucket_id: id, first: buckets.0.id}   variables for later steps; "cookie" saves the session cookie

``message:`` with ``code:`` is short for an error body, whose headers and layout are checked with it. Names made with
``${n}`` are fresh in each run; ``${long}`` is 5,000 characters.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CASES = Path(__file__).parent / "cases"
# What was taken away may be let through for that long, until every replica has heard of it (S09).
REVOKED_WITHIN_S = 1.0
V1_PATHS = ("/write", "/query")
COMPACT_PATHS = (
    *V1_PATHS, "/api/v2/write", "/api/v2/query", "/api/v2/delete", "/api/v2/variables", "/api/v2/telegrafs", "/metrics",
)  # fmt: skip
# Of answers that succeed.
ONE_LINE_PATHS = (
    *V1_PATHS, "/api/v2/flags", "/api/v2/resources", "/api/v2/variables", "/api/v2/telegrafs", "/health",
)  # fmt: skip
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_HOLES = {
    "<id>": re.compile(r"[0-9a-f]{16}"),
    "<time>": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z"),
    "<token>": re.compile(r"[A-Za-z0-9_-]{86}=="),
    "<text>": re.compile(r".+", re.DOTALL),
}


@dataclass(frozen=True, slots=True)
class Table:
    """A file of steps, and the stack that it is for; ``settings`` None = the one that all share."""

    path: Path
    steps: list[dict[str, Any]]
    settings: dict[str, str] | None = None
    set_up: bool = True

    @classmethod
    def read(cls, path: Path) -> Table:
        content = yaml.safe_load(path.read_text())
        if isinstance(content, list):
            return cls(path, content)
        return cls(path, content["steps"], content.get("settings", {}), content.get("set_up", True))


@dataclass(frozen=True, slots=True)
class Got:
    """An answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


# (method, path with query, headers, body) -> answer
Send = Callable[[str, str, Mapping[str, str], bytes], Awaitable[Got]]


def tables(*folders: str) -> list[Table]:
    """The tables of ``rest``, of ``stack``, or of both."""
    return [Table.read(path) for folder in folders for path in sorted((CASES / folder).glob("*.yaml"))]


async def run_table(table: Table, send: Send, variables: Mapping[str, str]) -> int:
    """Run one table; returns the number of its steps. Raises AssertionError naming the step."""
    known = {"n": uuid.uuid4().hex[:8], "long": 5000 * "x", **variables}
    for number, step in enumerate(table.steps, 1):
        label = f"{table.path.name} step {number}: {step.get('name') or step['request']}"
        await _run_step(_filled(step, known), send, known, label)
    return len(table.steps)


def _filled(value: Any, known: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return _VARIABLE.sub(lambda match: known[match[1]], value)
    if isinstance(value, list):
        return [_filled(item, known) for item in value]
    if isinstance(value, dict):
        return {_filled(key, known): _filled(item, known) for key, item in value.items()}
    return value


async def _run_step(step: dict[str, Any], send: Send, known: dict[str, str], label: str) -> None:
    method, _, path = step["request"].partition(" ")
    headers = {**_credential(step.get("as", "operator"), known), **step.get("headers", {})}
    body = json.dumps(step["json"]).encode() if "json" in step else step.get("body", "").encode()
    got = await send(method, path, headers, body)
    deadline_s = time.monotonic() + REVOKED_WITHIN_S
    while step.get("status") in (401, 403) and got.status != step["status"] and time.monotonic() < deadline_s:
        await asyncio.sleep(0.02)
        got = await send(method, path, headers, body)
    shown = f"{label}\n  answered {got.status} {got.body.decode('utf-8', 'replace')}"
    if step.get("accepted"):
        assert got.status not in (401, 403, 503), shown
        return
    assert got.status == step["status"], f"{shown}\n  not {step['status']}"
    for name, value in step.get("answer_headers", {}).items():
        given = got.headers.get(name.lower())
        if isinstance(value, str) and value.startswith("~"):
            assert re.fullmatch(value[1:], given or ""), f"{shown}\n  {name}: {given}"
        else:
            assert given == value, f"{shown}\n  {name}: {given}"
    if "text" in step:
        assert got.body == step["text"].encode(), shown
    document: Any = json.loads(got.body) if _wants_json(step) else None
    if "message" in step:
        expected = {"code": step["code"], "message": step["message"]}
        assert {key: document.get(key) for key in expected} == expected, f"{shown}\n  not {expected}"
        fault = _undressed(got, path.partition("?")[0], step["code"], step["message"])
        assert fault is None, f"{shown}\n  {fault}"
    if got.status < 300 and document is not None:
        fault = _misplaced(got.body, path.partition("?")[0])
        assert fault is None, f"{shown}\n  {fault}"
    if "answer" in step:
        fault = _differs(step["answer"], document, exact=True)
        assert fault is None, f"{shown}\n  {fault}"
    if "has" in step:
        fault = _differs(step["has"], document, exact=False)
        assert fault is None, f"{shown}\n  {fault}"
    for name, place in step.get("save", {}).items():
        known[name] = _cookie(got) if place == "cookie" else str(_at(document, place))


def _misplaced(body: bytes, path: str) -> str | None:
    """What is not right about the white space of an answer that succeeded, by the page of errors; or None."""
    if path.startswith("/ready") or path.endswith(("/members", "/owners", "/labels")):  # the page does not say
        return None
    if path.startswith(ONE_LINE_PATHS) or path.rstrip("/") == "/api/v2":
        return None if body.count(b"\n") == 1 and body.endswith(b"\n") else "it is not one line and its end"
    return None if body[-1:] in b"}]" and body[1:3] in (b"\n\t", b"]", b"}") else "it is not indented by tabs"


def _undressed(got: Got, path: str, code: str, message: str) -> str | None:
    """What is not right about an error's headers and white space, by the page of errors and decision 3; or None."""
    v1 = path.rstrip("/") in V1_PATHS
    expected = {
        "content-type": "application/json; charset=utf-8",
        "x-platform-error-code": code,
        "x-influxdb-error": message if v1 else None,
        "www-authenticate": 'Basic realm="InfluxDB"' if v1 and got.status == 401 else None,
    }
    wrong = {name: got.headers.get(name) for name, value in expected.items() if got.headers.get(name) != value}
    if wrong:
        return f"headers are {wrong}"
    if (got.status in (429, 503)) != got.headers.get("retry-after", "").isdigit():
        return f"Retry-After: {got.headers.get('retry-after')}"
    members = {"code": code, "message": message, **({"error": message} if v1 else {})}
    if list(json.loads(got.body)) != list(members):
        return f"the members are not {list(members)}"
    tabs = got.body.startswith(b"{\n\t")
    # A refused credential is told before anyone knows whose path it is.
    if got.status not in (401, 403) and tabs == path.startswith(COMPACT_PATHS):
        return "the layout is the other one"
    return None


def _wants_json(step: Mapping[str, Any]) -> bool:
    saves = any(place != "cookie" for place in step.get("save", {}).values())
    return saves or any(key in step for key in ("message", "answer", "has"))


def _credential(given: str, known: Mapping[str, str]) -> dict[str, str]:
    kind, _, value = given.partition(" ")
    if kind == "none":
        return {}
    if kind == "operator":
        return {"authorization": f"Token {known['operator_token']}"}
    if kind == "cookie":
        return {"cookie": f"influxdb-oss-session={value}"}
    if kind == "basic":
        return {"authorization": "Basic " + base64.b64encode(value.encode()).decode()}
    return {"authorization": value if kind == "raw" else f"{kind.title()} {value}"}


def _differs(expected: Any, got: Any, exact: bool, place: str = "$") -> str | None:
    """Where *got* is not as *expected*, or None. Lists are compared whole, objects key by key (in order, if exact)."""
    if expected == "<any>":
        return None
    if isinstance(expected, str) and expected in _HOLES:
        fits = isinstance(got, str) and _HOLES[expected].fullmatch(got)
        return None if fits else f"{place} is {got!r}, not {expected}"
    if isinstance(expected, dict) and isinstance(got, dict):
        if exact and list(expected) != list(got):
            return f"{place} has the keys {list(got)}, not {list(expected)}"
        faults = (_differs(value, got.get(key), exact, f"{place}.{key}") for key, value in expected.items())
        return next((fault for fault in faults if fault), None)
    if isinstance(expected, list) and isinstance(got, list):
        if len(expected) != len(got):
            return f"{place} has {len(got)} items, not {len(expected)}"
        pairs = enumerate(zip(expected, got, strict=True))
        faults = (_differs(value, item, exact, f"{place}.{index}") for index, (value, item) in pairs)
        return next((fault for fault in faults if fault), None)
    same = expected == got and isinstance(expected, bool) == isinstance(got, bool)
    return None if same else f"{place} is {got!r}, not {expected!r}"


def _at(document: Any, place: str) -> Any:
    for part in place.split("."):
        document = document[int(part)] if isinstance(document, list) else document[part]
    return document


def _cookie(got: Got) -> str:
    return got.headers["set-cookie"].partition(";")[0].partition("=")[2]
