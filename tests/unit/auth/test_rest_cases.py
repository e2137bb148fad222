"""Every table of tests/cases/rest against auth's rules, with storage in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rest_cases import case_files, run_file
from tests.unit.auth.world import ORG, PASSWORD, TOKEN, USER, World


@pytest.mark.parametrize("path", case_files(), ids=lambda path: path.stem)
async def test_the_answers_are_as_the_table_says(path: Path) -> None:
    world = World()
    made = await world.set_up()
    variables = {
        "operator_token": TOKEN, "user": USER, "password": PASSWORD, "org": ORG,
        "org_id": made.org.id, "user_id": made.user.id,
    }  # fmt: skip
    assert await run_file(path, world.send, variables) > 0
