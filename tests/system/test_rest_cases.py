"""Every table of tests/cases/rest and tests/cases/stack through the gateway of a running stack."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.rest_cases import Got, Table, run_table, tables
from tests.stack import ADMIN_TOKEN, ORG, PASSWORD, USER, Stack

TABLES = tables("rest", "stack")
SHARED = [table for table in TABLES if table.settings is None]
OWN = [table for table in TABLES if table.settings is not None]


@pytest.mark.parametrize("table", SHARED, ids=lambda table: table.path.stem)
async def test_the_answers_are_as_the_table_says(stack: Stack, table: Table) -> None:
    await run(stack, table)


@pytest.mark.parametrize("table", OWN, ids=lambda table: table.path.stem)
async def test_the_answers_of_a_stack_with_settings_are_as_the_table_says(tmp_path: Path, table: Table) -> None:
    stack = Stack(tmp_path / "stack", table.settings or {}, setup=table.set_up)
    await asyncio.to_thread(stack.start)
    try:
        await run(stack, table)
    finally:
        await asyncio.to_thread(stack.stop)


async def run(stack: Stack, table: Table) -> None:
    variables = {"operator_token": ADMIN_TOKEN, "user": USER, "password": PASSWORD, "org": ORG}
    if table.set_up:
        variables |= {"org_id": stack.org_id(), "user_id": stack.json("GET", "/api/v2/me")["id"]}

    async def send(method: str, target: str, headers: Mapping[str, str], body: bytes) -> Got:
        answer = await asyncio.to_thread(stack.request, method, target, None, headers=dict(headers), data=body)
        assert answer.headers["X-Influxdb-Build"] == "OSS"
        assert answer.headers["X-Influxdb-Version"] == "v2.9.0"
        return Got(answer.status_code, {name.lower(): value for name, value in answer.headers.items()}, answer.content)

    assert await run_table(table, send, variables) > 0
