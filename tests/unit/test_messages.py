"""Every text of tests/cases/messages.yaml is an answer in some table, or says why it can't be."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.rest_cases import CASES, tables

ROOT = CASES.parent.parent
MESSAGES: dict[str, list[Any]] = yaml.safe_load((CASES / "messages.yaml").read_text())


def answered() -> set[str]:
    """Whatever a table says that a body holds: messages, texts, and values of members called message or error."""
    found: set[str] = set()
    for table in tables("rest", "stack"):
        for step in table.steps:
            found |= {step[key] for key in ("message", "text") if key in step}
            found |= set(_texts(step.get("answer"))) | set(_texts(step.get("has")))
    jwt_cases = yaml.safe_load((CASES / "credentials" / "jwt.yaml").read_text())
    return found | {case["text"] for case in jwt_cases if "text" in case}


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [item for name, item in value.items() if name in ("message", "error") and isinstance(item, str)]
        return own + [text for item in value.values() for text in _texts(item)]
    return [text for item in value for text in _texts(item)] if isinstance(value, list) else []


def pattern(text: str) -> re.Pattern[str]:
    """*text* with ``<...>`` standing for anything."""
    return re.compile(".+".join(map(re.escape, re.split(r"<[^<>]*>", text))), re.DOTALL)


def entries() -> list[Any]:
    return [
        pytest.param(entry if isinstance(entry, dict) else {"text": entry}, id=f"{page}-{number}")
        for page, listed in MESSAGES.items()
        for number, entry in enumerate(listed)
    ]


@pytest.fixture(scope="module")
def answers() -> set[str]:
    return answered()


@pytest.mark.parametrize("entry", entries())
def test_the_text_is_in_a_table_or_says_why_not(entry: dict[str, str], answers: set[str]) -> None:
    wanted = pattern(entry["text"])
    seen = any(wanted.fullmatch(answer) for answer in answers)
    if "unreachable" in entry:
        assert len(entry["unreachable"]) > 10
        assert not seen, f"it is reached after all: {entry['text']}"
    elif "elsewhere" in entry:
        assert entry["text"] in (ROOT / entry["elsewhere"]).read_text()
    else:
        assert seen, f"no table has the answer {entry['text']!r}"


def test_every_code_of_the_api_is_in_a_table() -> None:
    """But those of our own faults, which no request brings about."""
    codes = {step["code"] for table in tables("rest", "stack") for step in table.steps if "code" in step}
    expected = {
        "not implemented", "not found", "conflict", "invalid", "unprocessable entity", "empty value", "forbidden",
        "too many requests", "unauthorized", "method not allowed", "request too large",
    }  # fmt: skip
    assert codes == expected
