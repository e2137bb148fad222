"""Tidegate and InfluxDB 1.6.7 side by side: the same data, the same questions, and what counts as the same answer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import requests

from tests.bench.servers import Influx
from tests.stack import Stack
from tests.system.test_influxql_examples import same

TOLERANCE = 1e-9
# (why, of which statements): these are answered otherwise for a reason that is known.
Known = list[tuple[str, Callable[[str], Any]]]


@dataclass(frozen=True, slots=True)
class Pair:
    """Both servers, with one database on each."""

    stack: Stack
    influx: Influx
    database: str

    def make(self) -> None:
        self.stack.make_bucket(self.database)
        self.influx.make_database(self.database)

    def write(self, lines: str, precision: str = "s") -> None:
        params = {"db": self.database, "precision": precision}
        assert self.stack.write(lines, **params).status_code == 204
        answer = requests.post(f"{self.influx.url}/write", params=params, data=lines.encode(), timeout=30)
        assert answer.status_code == 204, answer.text

    def ask(self, q: str, **more: str) -> tuple[Any, Any]:
        """What Tidegate answers, and what InfluxDB does."""
        params = {"db": self.database, "q": q, **more}
        ours = self.stack.request("POST", "/query", data=params)
        assert ours.status_code in (200, 400), f"{q}: {ours.status_code} {ours.text}"
        theirs = requests.post(f"{self.influx.url}/query", data=params, timeout=30)
        return told(ours), told(theirs)


def told(answer: requests.Response) -> Any:
    """What an answer says, refusals in one dress."""
    body = answer.json()
    text = body.get("message", body.get("error"))
    return re.sub("^(failed to parse|error parsing) query: ", "", text) if answer.status_code == 400 else body


def equal(got: Any, wanted: Any) -> bool:
    """Whether the answers agree, in what they refuse at least in kind."""
    if same(got, wanted, TOLERANCE):
        return True
    results = [body.get("results", [{}])[0] if isinstance(body, dict) else {} for body in (got, wanted)]
    errors = [result.get("error", "") for result in results]
    refusals = [error.startswith(("type error", "unsupported")) for error in errors]
    # 1.6.7 prints floats in type errors with three digits, and names of several calls any one; where no row is found
    # the two differ in whether types are looked at.
    nothing = [result == {"statement_id": 0} for result in results]
    return all(refusal or none for refusal, none in zip(refusals, nothing, strict=True))


def differences(pair: Pair, statements: Sequence[str], known: Known, alike: Callable[[Any, Any], bool] = equal) -> str:
    """What is not answered the same, as text; "" = nothing. Fails when too little is left to be compared."""
    found, compared = [], 0
    for text in statements:
        # Asked for all the same: nothing may be too much for Tidegate.
        got, wanted = pair.ask(text)
        if any(holds(text) for _, holds in known):
            continue
        compared += 1
        if not alike(got, wanted):
            found.append(f"{text}\n  got    {json.dumps(got)[:600]}\n  wanted {json.dumps(wanted)[:600]}")
    assert compared > len(statements) // 5
    return "\n".join(found)
