"""Storage is killed while three ingests bring a new field with three types (R28)."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.faults.report import case, rounds
from tests.stack import Stack

WORDS = {"1i": 1, "1.5": 1.5, '"x"': "x"}
POINTS = 5


def write(stack: Stack, measurement: str, word: str) -> requests.Response:
    """Points of one type, sent until storage is there again."""
    lines = "\n".join(f"{measurement},w={list(WORDS).index(word)} v={word} {at + 1}" for at in range(POINTS))
    while True:
        answer = stack.write(lines, "types")
        if answer.status_code != 503:
            return answer
        time.sleep(0.05)


@pytest.mark.timeout(400)
def test_types_race_and_storage_is_killed(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "stack", {"INGEST": "3"}).start()
    count = rounds(10)
    wrong: list[str] = []
    outcomes: dict[tuple[int, ...], int] = {}
    try:
        stack.make_bucket("types")
        for number in range(count):
            name = f"m{number}"
            with ThreadPoolExecutor(3) as pool:
                asked = [pool.submit(write, stack, name, word) for word in WORDS]
                time.sleep(0.002 * (number % 10))
                stack.kill(stack.pids("storage")[0])
                answers = [one.result() for one in asked]
            stack.wait_ready(30)
            statuses = tuple(sorted(answer.status_code for answer in answers))
            outcomes[statuses] = outcomes.get(statuses, 0) + 1
            stored = [row[1] for row in stack.rows(f"SELECT v FROM {name}", "types")]
            winner = [word for word, answer in zip(WORDS, answers, strict=True) if answer.status_code == 204]
            if len(winner) != 1 or stored != [WORDS[winner[0]]] * POINTS:
                wrong.append(f"{name}: {statuses}, stored {stored}")
            wrong += [
                f"{name}: {answer.text[:200]}"
                for answer in answers
                if answer.status_code != 204
                and not (answer.status_code == 422 and f"dropped={POINTS}" in answer.text and "conflict" in answer.text)
            ]
    finally:
        stack.stop()
    case(
        "R28",
        f"rounds={count} outcomes={outcomes} wrong={wrong[:3]}",
        "one type wins, the others get 422 with the count",
        not wrong,
    )
