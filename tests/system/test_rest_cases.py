"""Every table of tests/cases/rest through the gateway of a running stack."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.rest_cases import Got, case_files, run_file
from tests.stack import ORG, PASSWORD, USER, Stack


@pytest.mark.parametrize("path", case_files(), ids=lambda path: path.stem)
async def test_the_answers_are_as_the_table_says(stack: Stack, path: Path) -> None:
    me = stack.json("GET", "/api/v2/me")
    variables = {
        "operator_token": stack.token, "user": USER, "password": PASSWORD, "org": ORG, "org_id": stack.org_id(),
        "user_id": me["id"],
    }  # fmt: skip

    async def send(method: str, target: str, headers: Mapping[str, str], body: bytes) -> Got:
        answer = await asyncio.to_thread(stack.request, method, target, None, headers=dict(headers), data=body)
        if method != "HEAD":
            assert answer.headers["X-Influxdb-Build"] == "OSS"
        return Got(answer.status_code, {name.lower(): value for name, value in answer.headers.items()}, answer.content)

    await run_file(path, send, variables)
