"""Requests as the InfluxDB documentation prints them for curl, v1 and v2, against the running stack."""

from __future__ import annotations

import gzip
import json
import uuid
import zlib
from typing import Any

import pytest

from tests.stack import BUCKET, ORG, PASSWORD, USER, Stack


def legacy(stack: Stack, bucket: str, password: str | None = "legacy-password", **scope: bool) -> str:
    """A 1.x user that may read and write *bucket*; its name."""
    name = f"user-{uuid.uuid4().hex[:8]}"
    found = stack.json("GET", "/api/v2/buckets", params={"name": bucket, "org": ORG})["buckets"][0]
    actions = [action for action in ("read", "write") if scope.get(action, True)]
    resource = {"type": "buckets", "id": found["id"], "orgID": found["orgID"]}
    permissions = [{"action": action, "resource": resource} for action in actions]
    made = stack.json(
        "POST", "/private/legacy/authorizations", {"orgID": found["orgID"], "token": name, "permissions": permissions}
    )
    if password is not None:
        answer = stack.request(
            "POST", f"/private/legacy/authorizations/{made['id']}/password", data=json.dumps({"password": password})
        )
        assert answer.status_code == 204
    return name


def bucket_token(stack: Stack, bucket: str, *actions: str) -> str:
    """The value of a new API token with *actions* on *bucket*."""
    found = stack.json("GET", "/api/v2/buckets", params={"name": bucket, "org": ORG})["buckets"][0]
    resource = {"type": "buckets", "id": found["id"], "orgID": found["orgID"]}
    permissions = [{"action": action, "resource": resource} for action in actions]
    made = stack.json("POST", "/api/v2/authorizations", {"orgID": found["orgID"], "permissions": permissions})
    value: str = made["token"]
    return value


# ---------------------------------------------------------------- writing


@pytest.mark.parametrize(
    ("precision", "time", "stored"),
    [("ns", 1556813561098000000, 1556813561098000000), ("us", 1556813561098000, 1556813561098000000),
     ("ms", 1556813561098, 1556813561098000000), ("s", 1556813561, 1556813561000000000)],
)  # fmt: skip
def test_a_v2_write_in_each_precision(stack: Stack, bucket: str, precision: str, time: int, stored: int) -> None:
    answer = stack.request(
        "POST", "/api/v2/write", params={"org": ORG, "bucket": bucket, "precision": precision},
        data=f"mem,host=host1 used_percent=23.43234543 {time}",
        headers={"Content-Type": "text/plain; charset=utf-8", "Accept": "application/json"},
    )  # fmt: skip
    assert (answer.status_code, answer.text) == (204, "")
    assert stack.rows("SELECT used_percent FROM mem", bucket, epoch="ns") == [[stored, 23.43234543]]


@pytest.mark.parametrize(
    ("precision", "time", "stored_s"),
    [("n", 7200000000000, 7200), ("u", 7200000000, 7200), ("ms", 7200000, 7200), ("s", 7200, 7200),
     ("m", 120, 7200), ("h", 2, 7200)],
)  # fmt: skip
def test_a_v1_write_in_each_precision(stack: Stack, bucket: str, precision: str, time: int, stored_s: int) -> None:
    assert stack.write(f"m v=1i {time}", bucket, precision=precision).status_code == 204
    assert stack.rows("SELECT v FROM m", bucket, epoch="s") == [[stored_s, 1]]


def test_a_line_without_time_gets_the_servers(stack: Stack, bucket: str) -> None:
    before = stack.rows("SELECT v FROM nothing", bucket)
    assert before == []
    assert stack.write("m v=1", bucket).status_code == 204
    assert len(stack.rows("SELECT v FROM m WHERE time > now() - 1m AND time <= now()", bucket)) == 1


@pytest.mark.parametrize("wrap", [gzip.compress, lambda body: gzip.compress(body[:7]) + gzip.compress(body[7:])])
def test_gzip_is_read_and_several_members_too(stack: Stack, bucket: str, wrap: Any) -> None:
    body = wrap(b"m v=1 1\nm v=2 2\n")
    for path, params in (("/write", {"db": bucket}), ("/api/v2/write", {"org": ORG, "bucket": bucket})):
        answer = stack.request("POST", path, params=params, data=body, headers={"Content-Encoding": "gzip"})
        assert answer.status_code == 204, answer.text
    assert stack.rows("SELECT count(v) FROM m", bucket)[0][1] == 2


@pytest.mark.parametrize("path", ["/write", "/api/v2/write"])
def test_a_cut_or_corrupt_gzip_is_400_and_stores_nothing(stack: Stack, bucket: str, path: str) -> None:
    whole = gzip.compress(b"".join(b"m,h=%d v=1 %d\n" % (n % 50, n) for n in range(3000)), mtime=0)
    params = {"db": bucket, "org": ORG, "bucket": bucket}
    bad = [whole[: len(whole) * cut // 10] for cut in range(1, 10)]
    bad += [
        whole[:-8] + b"\0\0\0\0" + whole[-4:],
        whole[:-1] + b"\7",
        whole + b"junk",
        b"junk",
        zlib.compress(b"m v=1"),
    ]
    for body in bad:
        answer = stack.request("POST", path, params=params, data=body, headers={"Content-Encoding": "gzip"})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid"), (len(body), answer.text)
    assert "series" not in stack.query("SELECT v FROM m", bucket)["results"][0]


def test_v1_keeps_the_good_lines_and_v2_all_or_nothing(stack: Stack, bucket: str) -> None:
    body = "m v=1 1\nm v= 2\nm v=3 3\n"
    v2 = stack.request("POST", "/api/v2/write", params={"org": ORG, "bucket": bucket}, data=body)
    assert v2.status_code == 400
    assert v2.json() == {"code": "invalid", "message": "unable to parse 'm v= 2': missing field value"}
    assert "series" not in stack.query("SELECT v FROM m", bucket)["results"][0]

    v1 = stack.write(body, bucket)
    assert v1.status_code == 400
    assert v1.json()["error"].startswith("partial write: unable to parse 'm v= 2': missing field value")
    assert v1.headers["X-Influxdb-Error"] == v1.json()["error"]
    assert stack.rows("SELECT v FROM m", bucket, epoch="ns") == [[1, 1], [3, 3]]


def test_a_type_conflict_drops_the_point_and_counts_it(stack: Stack, bucket: str) -> None:
    assert stack.write("m v=1i 1", bucket).status_code == 204
    answer = stack.write('m v=2i 2\nm v="x",w=1 3\nm v=1.5 4\nm v=5i 5', bucket)
    assert answer.status_code == 422
    assert answer.json()["message"] == (
        "failure writing points to database: partial write: field type conflict: "
        'input field "v" on measurement "m" is type string, already exists as type integer dropped=2'
    )
    assert stack.rows("SELECT v FROM m", bucket, epoch="ns") == [[1, 1], [2, 2], [5, 5]]


def test_last_write_wins_field_by_field(stack: Stack, bucket: str) -> None:
    for lines in ("m,h=a v=1,w=1 1\nm,h=a v=2,w=2 2", "m,h=a v=10 1", "m,h=a x=7i 1\nm,h=a w=20 2"):
        assert stack.write(lines, bucket).status_code == 204
    assert stack.rows("SELECT v, w, x FROM m", bucket, epoch="ns") == [[1, 10, 1, 7], [2, 2, 20, None]]


def test_large_bodies_stream_through(stack: Stack, bucket: str) -> None:
    lines = "".join(f'big,host=h{n % 1000} a={n}i,b={n}.5,c="text {n}" {n}\n' for n in range(60_000)).encode()
    assert len(lines) > 2_000_000
    assert stack.write(lines, bucket).status_code == 204
    assert stack.rows("SELECT count(a), sum(a) FROM big", bucket) == [
        ["1970-01-01T00:00:00Z", 60_000, sum(range(60_000))]
    ]


def test_a_body_over_the_limit_is_413(stack: Stack, bucket: str) -> None:
    body = b"m v=1 1\n" * (25_000_000 // 8 + 1)
    assert stack.write(body, bucket).status_code == 413
    bomb = gzip.compress(b"\n" * 260_000_000)
    answer = stack.request(
        "POST", "/api/v2/write", params={"org": ORG, "bucket": bucket}, data=bomb, headers={"Content-Encoding": "gzip"}
    )
    assert (answer.status_code, answer.json()["code"]) == (413, "request too large")


@pytest.mark.parametrize(
    ("path", "params", "status", "message"),
    [
        ("/write", {}, 400, "missing db"),
        ("/write", {"db": "nowhere"}, 404, "no dbrp mapping found"),
        ("/write", {"db": BUCKET, "precision": "fortnight"}, 400,
         'invalid precision "fortnight" (use n, u, ms, s, m or h)'),
        ("/api/v2/write", {"org": ORG}, 404, "bucket not found"),
        ("/api/v2/write", {"bucket": BUCKET}, 400, "Please provide either orgID or org"),
        ("/api/v2/write", {"org": "nobody", "bucket": BUCKET}, 404, 'organization name "nobody" not found'),
        ("/api/v2/write", {"org": ORG, "bucket": "nowhere"}, 404, 'bucket "nowhere" not found'),
        ("/api/v2/write", {"org": ORG, "bucket": BUCKET, "precision": "m"}, 400,
         "invalid precision; valid precision units are ns, us, ms, and s"),
    ],
)  # fmt: skip
def test_a_write_that_can_not_be_placed(
    stack: Stack, path: str, params: dict[str, str], status: int, message: str
) -> None:
    answer = stack.request("POST", path, params=params, data="m v=1")
    assert (answer.status_code, answer.json()["message"]) == (status, message)


# ---------------------------------------------------------------- being known


def test_every_form_of_v1_credentials(stack: Stack, bucket: str) -> None:
    name = legacy(stack, bucket)
    token = bucket_token(stack, bucket, "read", "write")
    accepted: list[dict[str, Any]] = [
        {"params": {"u": name, "p": "legacy-password"}},
        {"auth": (name, "legacy-password")},
        {"auth": ("anybody", token)},
        {"params": {"u": "anybody", "p": token}},
        {"headers": {"Authorization": f"Token {token}"}},
        {"headers": {"Authorization": f"Token someone:{token}"}},
        {"headers": {"Authorization": f"Bearer {token}"}},
    ]
    for number, given in enumerate(accepted):
        kwargs = {key: value for key, value in given.items() if key != "params"}
        params = {"db": bucket, **given.get("params", {})}
        answer = stack.request("POST", "/write", None, params=params, data=f"m v={number} {number}", **kwargs)
        assert answer.status_code == 204, (given, answer.text)
        answer = stack.request("GET", "/query", None, params={**params, "q": "SELECT v FROM m"}, **kwargs)
        assert len(answer.json()["results"][0]["series"][0]["values"]) == number + 1
    refused: list[dict[str, Any]] = [
        {"auth": (name, token)},
        {"auth": (name, "wrong-password")},
        {"auth": (USER, PASSWORD)},
        {"params": {"u": name, "p": "wrong"}},
        {"headers": {"Authorization": f"Token {name}:legacy-password"}},
        {"headers": {"Authorization": f"token {token}"}},
        {"headers": {"Authorization": "Token nonsense"}},
        {},
    ]
    for given in refused:
        kwargs = {key: value for key, value in given.items() if key != "params"}
        params = {"db": bucket, **given.get("params", {})}
        answer = stack.request("POST", "/write", None, params=params, data="m v=1", **kwargs)
        assert answer.status_code == 401, given
        body = answer.json()
        assert body["code"] == "unauthorized"
        assert body["error"] == body["message"]
        assert answer.headers["WWW-Authenticate"] == 'Basic realm="InfluxDB"'


def test_v2_paths_take_token_and_bearer_alone(stack: Stack, bucket: str) -> None:
    token = bucket_token(stack, bucket, "write")
    params = {"org": ORG, "bucket": bucket}
    for value in (f"Token {token}", f"Bearer {token}", f"token {token}"):
        answer = stack.request(
            "POST", "/api/v2/write", None, params=params, data="m v=1", headers={"Authorization": value}
        )
        assert answer.status_code == 204, value
    for value in ("", token, f"Basic {token}", "Token nonsense", f"Token  {token}"):
        headers = {"Authorization": value} if value else {}
        answer = stack.request("POST", "/api/v2/write", None, params=params, data="m v=1", headers=headers)
        assert answer.status_code == 401, value
        assert answer.json() == {"code": "unauthorized", "message": "unauthorized access"}
        assert answer.headers["X-Platform-Error-Code"] == "unauthorized"


def test_a_token_may_do_what_its_permissions_say_and_no_more(stack: Stack, bucket: str) -> None:
    other = f"other-{uuid.uuid4().hex[:8]}"
    stack.make_bucket(other)
    stack.write("m v=1 1", bucket)
    stack.write("m v=1 1", other)
    read, write = bucket_token(stack, bucket, "read"), bucket_token(stack, bucket, "write")

    answer = stack.request("POST", "/api/v2/write", read, params={"org": ORG, "bucket": bucket}, data="m v=1")
    assert (answer.status_code, answer.json()["message"]) == (403, "insufficient permissions for write")
    assert stack.request("POST", "/write", read, params={"db": bucket}, data="m v=1").status_code == 403
    assert stack.request("POST", "/write", write, params={"db": other}, data="m v=1").status_code == 404
    assert stack.request("POST", "/write", write, params={"db": bucket}, data="m v=2 2").status_code == 204

    def ask(token: str, db: str) -> Any:
        return stack.request("GET", "/query", token, params={"db": db, "q": "SELECT v FROM m"}).json()["results"][0]

    assert "series" in ask(read, bucket)
    assert ask(read, other)["error"] == f"database not found: {other}"
    assert ask(write, bucket)["error"] == f"database not found: {bucket}"
    names = stack.request("GET", "/query", read, params={"q": "SHOW DATABASES"}).json()["results"][0]["series"][0]
    assert names["values"] == [[bucket]]


# ---------------------------------------------------------------- administering


def test_a_bucket_mapped_to_a_database_and_policy(stack: Stack, bucket: str) -> None:
    found = stack.json("GET", "/api/v2/buckets", params={"name": bucket, "org": ORG})["buckets"][0]
    db = f"db{uuid.uuid4().hex[:8]}"
    mapping = {"orgID": found["orgID"], "bucketID": found["id"], "database": db, "retention_policy": "weekly"}
    made = stack.json("POST", "/api/v2/dbrps", {**mapping, "default": True})
    assert (made["database"], made["retention_policy"], made["default"], made["virtual"]) == (db, "weekly", True, False)
    assert stack.write("m v=1 1", db).status_code == 204
    assert stack.write("m v=2 2", db, rp="weekly").status_code == 204
    assert stack.write("m v=2 2", db, rp="monthly").status_code == 404
    assert len(stack.rows("SELECT v FROM m", db)) == 2
    assert len(stack.rows(f'SELECT v FROM "{db}"."weekly"."m"', bucket)) == 2
    listed = stack.json("GET", "/api/v2/dbrps", params={"org": ORG, "db": db})["content"]
    assert [entry["id"] for entry in listed] == [made["id"]]
    policies = stack.rows(f'SHOW RETENTION POLICIES ON "{db}"', db)
    assert [row[0] for row in policies] == ["weekly"]


def test_create_then_write_works_at_once(stack: Stack) -> None:
    for _ in range(20):
        name = f"fresh-{uuid.uuid4().hex[:8]}"
        assert stack.write("m v=1", name).status_code == 404
        stack.make_bucket(name)
        assert stack.write("m v=1", name).status_code == 204
        assert len(stack.rows("SELECT v FROM m", name)) == 1


def test_a_revoked_token_is_refused(stack: Stack, bucket: str) -> None:
    found = stack.json("GET", "/api/v2/buckets", params={"name": bucket, "org": ORG})["buckets"][0]
    resource = {"type": "buckets", "id": found["id"], "orgID": found["orgID"]}
    body = {"orgID": found["orgID"], "permissions": [{"action": "write", "resource": resource}]}
    made = stack.json("POST", "/api/v2/authorizations", body)
    params = {"db": bucket}
    assert stack.request("POST", "/write", made["token"], params=params, data="m v=1").status_code == 204
    assert stack.request("DELETE", f"/api/v2/authorizations/{made['id']}").status_code == 204
    answers = [
        stack.request("POST", "/write", made["token"], params=params, data="m v=1").status_code for _ in range(100)
    ]
    assert answers[-1] == 401
    assert answers.index(401) < 50


def test_setup_is_over(stack: Stack) -> None:
    assert stack.request("GET", "/api/v2/setup", None).json() == {"allowed": False}
    body = {"username": "x", "password": "another-password", "org": "o", "bucket": "b"}
    answer = stack.request("POST", "/api/v2/setup", None, data=json.dumps(body))
    assert (answer.status_code, answer.json()["message"]) == (422, "onboarding has already been completed")


# ---------------------------------------------------------------- looking


def test_ping_health_ready_and_metrics(stack: Stack) -> None:
    for method in ("GET", "HEAD"):
        answer = stack.request(method, "/ping", None)
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["X-Influxdb-Version"] == "v2.9.0"
        assert answer.headers["X-Influxdb-Build"] == "OSS"
        assert answer.headers["X-Tidegate-Version"]
    health = stack.request("GET", "/health", None)
    assert health.status_code == 200
    assert (health.json()["name"], health.json()["status"], health.json()["version"]) == ("influxdb", "pass", "v2.9.0")
    ready = stack.request("GET", "/ready", None)
    assert ready.status_code == 200
    assert ready.json()["status"] == "ready"
    for service in ("gateway", "auth", "ingest", "query", "storage"):
        assert service in ready.text
    metrics = stack.request("GET", "/metrics", None)
    assert metrics.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    for words in (
        "http_api_requests_total",
        'service="auth"',
        'service="ingest"',
        'service="query"',
        'service="storage"',
    ):
        assert words in metrics.text, words
