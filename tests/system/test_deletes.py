"""Deletes through the gateway: what is hidden, what stays, what may be written afterwards, who may, and how soon."""

from __future__ import annotations

import time
from typing import Any

import pytest
import requests

from tests.stack import ORG, Stack


def make(stack: Stack, name: str) -> str:
    id: str = stack.make_bucket(name)
    answer = stack.write(
        "m,host=a,dc=x v=1,w=1i 1\nm,host=b,dc=x v=2 2\nm,host=c v=3 3\nn,host=a v=4 1", name, precision="s"
    )
    assert answer.status_code == 204, answer.text
    return id


def delete(stack: Stack, bucket: str, body: Any, **params: str) -> requests.Response:
    given = {"org": ORG, "bucket": bucket, **params}
    return stack.request("POST", "/api/v2/delete", params=given, json=body)


def everything(**more: str) -> dict[str, str]:
    return {"start": "1970-01-01T00:00:00Z", "stop": "2200-01-01T00:00:00Z", **more}


def hosts(stack: Stack, db: str, measurement: str = "m") -> list[str]:
    rows = stack.rows(f"SELECT host, v FROM {measurement}", db, epoch="s")
    return [row[1] for row in rows]


@pytest.mark.parametrize(
    ("predicate", "left"),
    [
        ('host="a"', ["b", "c"]),
        ("host=a", ["b", "c"]),
        ('_measurement="m" AND host="a"', ["b", "c"]),
        ('(_measurement="m") and (dc="x" and host!="a")', ["a", "c"]),
        ('dc!="y"', ["c"]),
        ('dc=""', ["a", "b", "c"]),
        ('v="1"', ["a", "b", "c"]),
        ('_measurement="nothing"', ["a", "b", "c"]),
        ('_measurement!="n"', []),
        ("", []),
    ],
)
def test_a_predicate_chooses(stack: Stack, predicate: str, left: list[str]) -> None:
    db = "predicate " + predicate.replace('"', "'")
    make(stack, db)
    assert delete(stack, db, everything(predicate=predicate)).status_code == 204
    assert hosts(stack, db) == left


def test_both_ends_are_inclusive_and_later_writes_stay(stack: Stack) -> None:
    db = "inclusive"
    make(stack, db)
    assert delete(stack, db, {"start": "1970-01-01T00:00:02Z", "stop": "1970-01-01T00:00:03Z"}).status_code == 204
    assert hosts(stack, db) == ["a"]
    assert delete(stack, db, {"start": "1970-01-01T00:00:09Z", "stop": "1970-01-01T00:00:00Z"}).status_code == 204
    stack.write("m,host=b v=5 2", db, precision="s")
    assert hosts(stack, db) == ["a", "b"]


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (everything(predicate='t="a" or t="b"'), 400, "the logical operator OR is not supported yet at position 6"),
        (everything(predicate='t=~"a"'), 400, 'operator: "=~" at position: 1 is not supported yet'),
        (everything(predicate="load>3"), 400, 'invalid operator ">" at position: 4'),
        (everything(predicate="t='a'"), 400, 'bad tag value: "a", at position 1'),
        (everything(predicate='_field="x"'), 501, "delete by field is not supported"),
        ({"stop": "2024-01-01T00:00:00Z"}, 400, "invalid RFC3339Nano for field start, please format your time with"),
        ({"start": "1600-01-01T00:00:00Z", "stop": "2024-01-01T00:00:00Z"}, 400, "start time must not be before"),
        ({"start": "2024-01-01T00:00:00Z", "stop": "2400-01-01T00:00:00Z"}, 400, "stop time must not be after"),
        ([], 400, "error decoding json body: json: cannot unmarshal array"),
    ],
)
def test_what_is_refused_says_why(stack: Stack, body: Any, status: int, text: str) -> None:
    answer = delete(stack, "no such bucket", body)
    assert (answer.status_code, text in answer.json()["message"]) == (status, True), answer.text


def test_organization_and_bucket_are_asked_for(stack: Stack) -> None:
    def ask(**params: str) -> tuple[int, str]:
        answer = stack.request("POST", "/api/v2/delete", params=params, json=everything())
        return answer.status_code, answer.json()["message"]

    assert ask() == (400, "Please provide either orgID or org")
    assert ask(org=ORG) == (400, "Please provide either bucketID or bucket")
    assert ask(org=ORG, bucket="no such") == (404, 'bucket "no such" not found')
    assert ask(org=ORG, bucketID="0123456789abcdef") == (404, "bucket not found")


def test_writing_is_what_may_delete(stack: Stack) -> None:
    db = "may delete"
    bucket_id = make(stack, db)
    for action, status in (("read", 403), ("write", 204)):
        grants = [{"action": action, "resource": {"type": "buckets", "id": bucket_id, "orgID": stack.org_id()}}]
        made = stack.json("POST", "/api/v2/authorizations", {"orgID": stack.org_id(), "permissions": grants})
        params = {"org": ORG, "bucketID": bucket_id}
        answer = stack.request("POST", "/api/v2/delete", made["token"], params=params, json=everything())
        assert answer.status_code == status
        if status == 403:
            assert answer.json()["message"] == "insufficient permissions to delete"
            refused = stack.request("POST", "/query", made["token"], data={"db": db, "q": "DELETE FROM m"})
            assert refused.json()["results"][0]["error"] == "insufficient permissions"
            assert hosts(stack, db) == ["a", "b", "c"]


@pytest.mark.parametrize("condition", ['host = "a"', "host = 5", "host = true", 'host != "a"', "nosuch = host"])
@pytest.mark.parametrize("statement", ["DELETE", "DROP SERIES"])
def test_a_condition_that_tags_do_not_answer_deletes_nothing(stack: Stack, statement: str, condition: str) -> None:
    db = f"kept {statement} {condition}".replace('"', "^")
    make(stack, db)
    assert stack.query(f"{statement} FROM m WHERE {condition}", db) == {"results": [{"statement_id": 0}]}
    assert hosts(stack, db) == ["a", "b", "c"]


@pytest.mark.parametrize("condition", ["host > 'a'", "host + 'a' = 'aa'"])
def test_a_condition_that_is_none_on_tags_is_refused(stack: Stack, condition: str) -> None:
    db = f"refused {condition}"
    make(stack, db)
    assert "error" in stack.query(f"DELETE FROM m WHERE {condition}", db)["results"][0]
    assert hosts(stack, db) == ["a", "b", "c"]


def test_a_dropped_measurement_is_forgotten_with_its_types(stack: Stack) -> None:
    db = "forgotten"
    make(stack, db)
    assert stack.write('m,host=a v="text" 5', db, precision="s").status_code == 422
    stack.query("DROP MEASUREMENT m", db)
    assert stack.rows("SHOW MEASUREMENTS", db) == [["n"]]
    assert stack.write('m,host=a v="text" 5', db, precision="s").status_code == 204
    assert stack.rows("SHOW FIELD KEYS FROM m", db) == [["v", "string"]]
    assert stack.rows("SHOW SERIES FROM m", db) == [["m,host=a"]]


def test_series_without_points_vanish_and_come_back(stack: Stack) -> None:
    db = "vanishing"
    make(stack, db)
    stack.query("DELETE FROM m WHERE time <= 2s", db)
    assert stack.rows("SHOW SERIES FROM m", db) == [["m,host=c"]]
    assert stack.rows("SHOW TAG KEYS FROM m", db) == [["host"]]
    assert stack.rows("SHOW SERIES EXACT CARDINALITY FROM m", db) == [[1]]
    result = stack.query("SELECT * FROM m", db)["results"][0]["series"][0]
    assert "dc" not in result["columns"]
    stack.write("m,host=a,dc=x v=9 9", db, precision="s")
    assert stack.rows("SHOW SERIES FROM m", db) == [["m,dc=x,host=a"], ["m,host=c"]]
    stack.query("DROP SERIES FROM m WHERE host =~ /a|c/", db)
    assert stack.rows("SHOW MEASUREMENTS", db) == [["n"]]
    assert stack.rows("SHOW SERIES", db) == [["n,host=a"]]


def test_a_delete_takes_no_longer_for_more(stack: Stack) -> None:
    """Prints its figures; the bound is loose, for the machine is shared."""
    db = "many"
    stack.make_bucket(db)
    for start in range(0, 20_000, 10_000):
        lines = "\n".join(f"m,host=h{n} v={n} {n}" for n in range(start, start + 10_000))
        assert stack.write(lines, db).status_code == 204
    assert stack.rows("SELECT count(v) FROM m", db)[0][1] == 20_000
    for statement, left in (
        ("DELETE FROM m WHERE host = 'h1'", 19_999),
        ("DELETE FROM m WHERE host =~ /[02468]$/", 9_999),
        ("DELETE FROM m WHERE time < 10000", 5_000),
    ):
        began = time.monotonic()
        stack.query(statement, db)
        took = time.monotonic() - began
        print(f"{statement}: {took * 1000:.1f} ms")
        assert stack.rows("SELECT count(v) FROM m", db)[0][1] == left
        assert took < 5


def test_what_is_past_the_retention_is_not_seen_to_the_second(stack: Stack) -> None:
    db = "hour"
    stack.make_bucket(db, retention_s=3600)
    at = int(time.time()) - 3597
    assert stack.write(f"m v=1 {at}\nm v=2 {at + 1000}", db, precision="s").status_code == 204
    assert [row[1] for row in stack.rows("SELECT v FROM m", db)] == [1, 2]
    time.sleep(max(0.0, at + 3600.1 - time.time()))
    assert [row[1] for row in stack.rows("SELECT v FROM m", db)] == [2]
    assert stack.rows("SELECT count(v) FROM m", db)[0][1] == 1
