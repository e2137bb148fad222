"""Credentials as tests/cases/credentials say, and what may never be shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.credentials import Credential, find_basic, find_v1, find_v2
from services.gateway.query_string import first_values, parse_pairs

CASES = Path(__file__).parents[2] / "cases" / "credentials"


def cases(dialect: str) -> Iterator[tuple[list[str], str]]:
    given_lines: list[str] = []
    lines = iter((CASES / f"{dialect}.txt").read_text().splitlines())
    for line in lines:
        if line == "----":
            yield given_lines, next(lines)
            given_lines = []
        elif line and not line.startswith("#"):
            given_lines.append(line)


def find(dialect: str, lines: list[str]) -> Credential | None:
    query, headers = "", {"Authorization": "", "Cookie": ""}
    for line in lines:
        if line.startswith("?"):
            query = line[1:]
        else:
            name, _, value = line.partition(": ")
            headers[name] = value
    if dialect == "v1":
        return find_v1(headers["Authorization"], first_values(parse_pairs(query)))
    return find_v2(headers["Authorization"], headers["Cookie"])


@pytest.mark.parametrize(
    ("dialect", "lines", "expected"),
    [pytest.param(dialect, *case, id=f"{dialect} {case[0]}") for dialect in ("v1", "v2") for case in cases(dialect)],
)
def test_the_table(dialect: str, lines: list[str], expected: str) -> None:
    found = find(dialect, lines)
    if expected == "none":
        assert found is None
    else:
        scheme, user, secret = (word.replace("-", "", word == "-").replace("_", " ") for word in expected.split(" "))
        assert found == Credential(scheme, user, secret)


def test_a_secret_is_not_in_the_text_of_a_credential() -> None:
    assert "hidden" not in repr(Credential("basic", "ann", "hidden"))


def test_basic_holds_bytes_that_are_not_utf_8() -> None:
    found = find_basic("Basic YTr/")
    assert found is not None
    assert found.secret.encode("utf-8", "surrogateescape") == b"\xff"


@given(st.text(), st.text(), st.text())
def test_any_headers_give_a_credential_or_none(authorization: str, cookie: str, query: str) -> None:
    find_v1(authorization, first_values(parse_pairs(query)))
    find_v2(authorization, cookie)
    find_v2(authorization, f"influxdb-oss-session={cookie}")
