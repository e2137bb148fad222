"""Every table of tests/cases/rest against auth's rules, with storage in memory."""

from __future__ import annotations

import pytest

from tests.rest_cases import Table, run_table, tables
from tests.unit.auth.world import ORG, PASSWORD, TOKEN, USER, World


@pytest.mark.parametrize("table", tables("rest"), ids=lambda table: table.path.stem)
async def test_the_answers_are_as_the_table_says(table: Table) -> None:
    world = World()
    made = await world.set_up()
    variables = {
        "operator_token": TOKEN, "user": USER, "password": PASSWORD, "org": ORG,
        "org_id": made.org.id, "user_id": made.user.id,
    }  # fmt: skip
    assert await run_table(table, world.send, variables) > 0
