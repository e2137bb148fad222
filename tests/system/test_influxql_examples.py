"""The recorded questions and answers of a real InfluxDB, asked of the running stack.

Each dataset is a database of its own, its policies made by dbrp mappings; each sequence has a fresh copy. Answers that
a decision changes stand in ``tests/cases/influxql_decided.jsonl``, each with the decision's number. What is expected
to fail is listed in ``tests/cases/influxql_expected_failures.txt``, by id; a listed example that passes is a failure
too, so that the list can only shrink. A recorded refusal belongs to TIDEGATE_V1_ADMIN=off (decision 15) and is asked
of a stack with that setting. Source of the file's form: spec/influxql.md, 16.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.stack import Stack

TESTS = Path(__file__).parents[1]
DATA = TESTS / "data" / "influxql-examples.jsonl"
EXPECTED_FAILURES = TESTS / "cases" / "influxql_expected_failures.txt"
DECIDED = TESTS / "cases" / "influxql_decided.jsonl"
# Floats are compared to nine digits where an example gives no bound of its own.
TOLERANCE = 1e-9


def read_lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines() if line]


EXAMPLES = read_lines(DATA)
DATASETS = {item["id"]: item for item in EXAMPLES if item["type"] == "dataset"}
DECISIONS = {item["id"]: item for item in read_lines(DECIDED)}
FAILING = frozenset(
    line.split()[0] for line in EXPECTED_FAILURES.read_text().splitlines() if line and not line.startswith("#")
)


def is_refused(item: dict[str, Any]) -> bool:
    """Whether what was recorded holds a refusal of administration, and no decision gave it another answer."""
    return "not implemented: " in json.dumps(item) and item["id"] not in DECISIONS


class Database:
    """The datasets in one organization, which names of databases belong to."""

    def __init__(self, stack: Stack, org: str) -> None:
        self._stack = stack
        self._org = org
        self._org_id: str = stack.json("POST", "/api/v2/orgs", {"name": org})["id"]
        grants = [
            {"action": action, "resource": {"type": type, "orgID": self._org_id}}
            for action in ("read", "write")
            for type in ("buckets", "dbrp", "orgs")
        ]
        made = stack.json("POST", "/api/v2/authorizations", {"orgID": self._org_id, "permissions": grants})
        self._token: str = made["token"]

    def write(self, dataset: dict[str, Any]) -> None:
        name = dataset["id"]
        for index, policy in enumerate(dataset["rps"]):
            bucket = {"orgID": self._org_id, "name": f"examples-{name}-{policy}", "retentionRules": []}
            bucket_id = self._stack.json("POST", "/api/v2/buckets", bucket)["id"]
            mapping = {
                "orgID": self._org_id,
                "bucketID": bucket_id,
                "database": name,
                "retention_policy": policy,
                "default": index == 0,
            }
            self._stack.json("POST", "/api/v2/dbrps", mapping)
        for write in dataset["writes"]:
            lines = write["lines"] if isinstance(write["lines"], str) else "\n".join(write["lines"])
            params = {"db": name, "rp": write["rp"], "precision": write["precision"]}
            answer = self._stack.request("POST", "/write", self._token, params=params, data=lines.encode())
            assert answer.status_code == 204, answer.text

    def ask(self, dataset: str, query: str, params: dict[str, str]) -> requests.Response:
        given = {"db": dataset, "q": query, **params}
        return self._stack.request("POST", "/query", self._token, data=given)


@pytest.fixture(scope="module")
def database(stack: Stack) -> Database:
    """All datasets, written once."""
    made = Database(stack, "influxql examples")
    for dataset in DATASETS.values():
        made.write(dataset)
    return made


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that refuses as InfluxDB 2.9 does."""
    stack = Stack(tmp_path_factory.mktemp("refusing"), {"TIDEGATE_V1_ADMIN": "off"}).start()
    yield stack
    stack.stop()


@pytest.fixture(scope="module")
def refusing_database(refusing: Stack) -> Database:
    """The datasets of recorded refusals."""
    made = Database(refusing, "influxql examples")
    for name in {case["dataset"] for case in CASES if is_refused(case)}:
        made.write(DATASETS[name])
    return made


def same(got: Any, wanted: Any, tolerance: float) -> bool:
    """Equal as JSON: integers exactly, floats within a relative bound, the order of keys free."""
    if isinstance(wanted, float) or (isinstance(got, float) and isinstance(wanted, int)) or _both_large(got, wanted):
        is_number = isinstance(got, int | float) and not isinstance(got, bool)
        return is_number and math.isclose(got, wanted, rel_tol=tolerance, abs_tol=tolerance)
    if type(got) is not type(wanted):
        return False
    if isinstance(wanted, dict):
        return got.keys() == wanted.keys() and all(same(got[key], wanted[key], tolerance) for key in wanted)
    if isinstance(wanted, list):
        return len(got) == len(wanted) and all(same(g, w, tolerance) for g, w in zip(got, wanted, strict=True))
    return bool(got == wanted)


def _both_large(got: Any, wanted: Any) -> bool:
    """Whether both are floats that print as integers: shortest digits, filled up with zeros."""
    return all(isinstance(value, int) and abs(value) > 1 << 53 and value % 100 == 0 for value in (got, wanted))


def fault(step: dict[str, Any], answer: requests.Response) -> str | None:
    """What is wrong with an answer; None = nothing."""
    if answer.status_code != step["status"]:
        return f"status {answer.status_code} instead of {step['status']}: {answer.text[:500]}"
    if step.get("volatile"):
        return None
    if step["status"] != 200:
        got = {key: answer.json().get(key) for key in ("code", "message")}
        return None if got == step["response"] else f"{got} instead of {step['response']}"
    if "response_chunks" in step:
        got, wanted = [json.loads(line) for line in answer.text.splitlines()], step["response_chunks"]
    else:
        got, wanted = answer.json(), step["response"]
    if same(got, wanted, step.get("tolerance", TOLERANCE)):
        return None
    return f"\n got    {json.dumps(got)[:3000]}\n wanted {json.dumps(wanted)[:3000]}"


def judge(id: str, found: str | None) -> None:
    """Pass or fail an example as the list of expected failures says."""
    if id in FAILING:
        assert found is not None, f"{id} passes: take it off {EXPECTED_FAILURES.name}"
        pytest.xfail(found)
    assert found is None, found


CASES = [item for item in EXAMPLES if item["type"] == "case"]


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_a_recorded_question_has_its_recorded_answer(case: dict[str, Any], request: pytest.FixtureRequest) -> None:
    wanted = case | DECISIONS.get(case["id"], {})
    database: Database = request.getfixturevalue("refusing_database" if is_refused(case) else "database")
    answer = database.ask(case["dataset"], case["query"], case["params"])
    found = fault(wanted, answer)
    judge(case["id"], None if found is None else f"{case['query']}: {found}")


SEQUENCES = [item for item in EXAMPLES if item["type"] == "sequence"]


@pytest.mark.parametrize("sequence", SEQUENCES, ids=[sequence["id"] for sequence in SEQUENCES])
def test_a_recorded_sequence_goes_as_recorded(sequence: dict[str, Any], request: pytest.FixtureRequest) -> None:
    stack: Stack = request.getfixturevalue("refusing" if is_refused(sequence) else "stack")
    database = Database(stack, f"influxql {sequence['id']}")
    database.write(DATASETS[sequence["dataset"]])
    decided = DECISIONS.get(sequence["id"], {}).get("steps", {})
    found = None
    for index, step in enumerate(sequence["steps"]):
        answer = database.ask(sequence["dataset"], step["query"], step["params"])
        found = fault(step | decided.get(str(index), {}), answer)
        if found is not None:
            found = f"step {index}, {step['query']}: {found}"
            break
    judge(sequence["id"], found)
