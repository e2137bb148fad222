"""The real clients: the 1.x shell, PyPI's influxdb and influxdb-client."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import uuid
from pathlib import Path
from typing import Any

import influxdb
import influxdb_client
import pytest
from influxdb_client.client.write_api import SYNCHRONOUS, Point

from tests.conftest import need
from tests.stack import ORG, Stack
from tests.system.test_documented_requests import bucket_token, legacy

# ---------------------------------------------------------------- influx 1.6, the shell


def shell(
    stack: Stack, *arguments: str, user: str | None = None, password: str | None = None, typed: str | None = None
) -> subprocess.CompletedProcess[str]:
    """One call of the shell against the gateway; *typed* is what comes in by its input."""
    program = need("influx", "influxdb-client (Debian)")
    credentials = ["-username", user, "-password", password or ""] if user else []
    environment = {key: value for key, value in os.environ.items() if not key.startswith("INFLUX")}
    return subprocess.run(
        [program, "-host", "127.0.0.1", "-port", str(stack.port), *credentials, *arguments],
        capture_output=True, text=True, timeout=60, env=environment, check=False, input=typed,
    )  # fmt: skip


def test_the_shell_writes_and_reads(stack: Stack, bucket: str) -> None:
    name = legacy(stack, bucket)
    known = {"user": name, "password": "legacy-password"}
    done = shell(stack, "-database", bucket, "-execute", "INSERT cpu,host=a usage=0.5,n=3i 1000000000", **known)
    assert (done.returncode, done.stderr) == (0, "")
    shown = shell(stack, "-execute", "SHOW DATABASES", "-format", "csv", **known)
    assert shown.stdout.splitlines() == ["name,name", f"databases,{bucket}"]
    as_json = shell(stack, "-database", bucket, "-execute", "SELECT * FROM cpu", "-format", "json", **known)
    assert json.loads(as_json.stdout)["results"][0]["series"] == [
        {"name": "cpu", "columns": ["time", "host", "n", "usage"], "values": [[1000000000, "a", 3, 0.5]]}
    ]
    table = shell(stack, "-database", bucket, "-execute", "SELECT * FROM cpu", "-precision", "rfc3339", **known)
    assert "1970-01-01T00:00:01Z a    3 0.5" in table.stdout


def test_the_shell_takes_a_token_for_a_password(stack: Stack, bucket: str) -> None:
    token = bucket_token(stack, bucket, "read", "write")
    done = shell(stack, "-execute", "SHOW DATABASES", "-format", "csv", user="anyone", password=token)
    assert bucket in done.stdout


def test_the_shell_says_what_is_wrong(stack: Stack, bucket: str) -> None:
    name = legacy(stack, bucket)
    wrong = shell(stack, "-execute", "SHOW DATABASES", user=name, password="wrong-password")
    assert wrong.returncode != 0 or "unauthorized" in (wrong.stdout + wrong.stderr).lower()
    unknown = shell(stack, "-database", "nowhere", "-execute", "SELECT v FROM m", user=name, password="legacy-password")
    assert "database not found: nowhere" in unknown.stdout + unknown.stderr
    unparsed = shell(stack, "-database", bucket, "-execute", "SELEC v", user=name, password="legacy-password")
    assert "found SELEC" in unparsed.stdout + unparsed.stderr


def test_the_shell_imports_a_dump(stack: Stack, bucket: str, tmp_path: Path) -> None:
    name = legacy(stack, bucket)
    lines = [f"imported,host=h{n % 7} v={n}i {n}" for n in range(12_000)]
    dump = tmp_path / "dump.txt"
    dump.write_text(
        "\n".join(["# DML", f"# CONTEXT-DATABASE:{bucket}", "# CONTEXT-RETENTION-POLICY:autogen", "", *lines, ""])
    )
    done = shell(stack, "-import", "-path", str(dump), "-precision", "s", user=name, password="legacy-password")
    assert "Failed 0 inserts" in done.stdout + done.stderr
    assert stack.rows("SELECT count(v), sum(v) FROM imported", bucket)[0][1:] == [12_000, sum(range(12_000))]


def test_the_shell_reads_a_long_answer_in_chunks(stack: Stack, bucket: str) -> None:
    name = legacy(stack, bucket)
    assert stack.write("\n".join(f"m v={n}i {n}" for n in range(25_000)), bucket).status_code == 204
    done = shell(
        stack,
        "-database",
        bucket,
        "-execute",
        "SELECT v FROM m",
        "-format",
        "csv",
        user=name,
        password="legacy-password",
    )
    rows = [row for row in csv.reader(io.StringIO(done.stdout)) if row and row[0] == "m"]
    assert [int(row[2]) for row in rows] == list(range(25_000))


# ---------------------------------------------------------------- influxdb 5 (v1)


@pytest.fixture
def v1(stack: Stack, bucket: str) -> influxdb.InfluxDBClient:
    name = legacy(stack, bucket)
    return influxdb.InfluxDBClient("127.0.0.1", stack.port, name, "legacy-password", bucket)


def test_the_v1_client_writes_and_reads(v1: influxdb.InfluxDBClient) -> None:
    assert v1.ping() == "v2.9.0"
    points = [
        {
            "measurement": "cpu",
            "tags": {"host": host},
            "time": n,
            "fields": {"load": n / 4, "n": n, "ok": True, "s": "ä"},
        }
        for n in range(1, 5)
        for host in ("a", "b")
    ]
    assert v1.write_points(points, time_precision="s")
    found = v1.query("SELECT * FROM cpu WHERE host = 'a'", epoch="s")
    assert next(iter(found.get_points())) == {"time": 1, "host": "a", "load": 0.25, "n": 1, "ok": True, "s": "ä"}
    grouped = v1.query("SELECT mean(load) FROM cpu GROUP BY host")
    assert sorted(key[1]["host"] for key in grouped.keys()) == ["a", "b"]  # noqa: SIM118 - a ResultSet is no dict
    assert {entry["name"] for entry in v1.get_list_measurements()} == {"cpu"}
    assert sorted(v1.get_list_series()) == ["cpu,host=a", "cpu,host=b"]
    assert [policy["name"] for policy in v1.get_list_retention_policies()] == ["autogen"]


def test_the_v1_client_writes_gzip_and_reads_chunks(stack: Stack, bucket: str) -> None:
    name = legacy(stack, bucket)
    # In MessagePack this client takes the first document of a chunked answer for the whole, with any server.
    json_alone = {"Accept": "application/json"}
    client = influxdb.InfluxDBClient(
        "127.0.0.1", stack.port, name, "legacy-password", bucket, gzip=True, headers=json_alone
    )
    lines = [f"m v={n}i {n}" for n in range(2_000)]
    assert client.write_points(lines, protocol="line", time_precision="n")
    found = client.query("SELECT v FROM m", chunked=True, chunk_size=300)
    pieces = [[point["v"] for point in piece.get_points()] for piece in found]
    assert [len(piece) for piece in pieces] == [300] * 6 + [200]
    assert [value for piece in pieces for value in piece] == list(range(2_000))


def test_the_v1_client_binds_parameters(v1: influxdb.InfluxDBClient) -> None:
    v1.write_points(["m,host=a v=1i 1", "m,host=b v=2i 2"], protocol="line")
    found = v1.query("SELECT v FROM m WHERE host = $h", bind_params={"h": "b"})
    assert [point["v"] for point in found.get_points()] == [2]


def test_the_v1_client_raises_what_the_server_says(v1: influxdb.InfluxDBClient) -> None:
    with pytest.raises(influxdb.exceptions.InfluxDBClientError, match="missing field value"):
        v1.write_points(["m v="], protocol="line")
    with pytest.raises(influxdb.exceptions.InfluxDBClientError, match="database not found"):
        v1.query("SELECT v FROM m", database="nowhere")


# ---------------------------------------------------------------- influxdb-client (v2)


@pytest.fixture
def v2(stack: Stack) -> Any:
    with influxdb_client.InfluxDBClient(stack.url, stack.token, org=ORG) as client:
        yield client


def test_the_v2_client_looks_round(v2: influxdb_client.InfluxDBClient) -> None:
    assert v2.ping() is True
    assert v2.version() == "v2.9.0"
    assert v2.build() == "OSS"
    assert v2.health().status == "pass"
    assert v2.ready().status == "ready"


def test_the_v2_client_writes(v2: influxdb_client.InfluxDBClient, stack: Stack, bucket: str) -> None:
    api = v2.write_api(write_options=SYNCHRONOUS)
    api.write(bucket, ORG, Point("cpu").tag("host", "a").field("v", 1.5).time(1_000_000_000))
    api.write(bucket, ORG, ["cpu,host=b v=2 2", "cpu,host=c v=3 3"])
    api.write(bucket, ORG, {"measurement": "cpu", "tags": {"host": "d"}, "fields": {"v": 4.0}, "time": 4})
    assert stack.rows("SELECT count(v), sum(v) FROM cpu", bucket)[0][1:] == [4, 10.5]
    with pytest.raises(influxdb_client.rest.ApiException) as caught:
        api.write(bucket, ORG, "cpu v=")
    assert caught.value.status == 400
    with pytest.raises(influxdb_client.rest.ApiException) as caught:
        api.write("nowhere", ORG, "cpu v=1")
    assert caught.value.status == 404


def test_the_v2_client_writes_in_batches(v2: influxdb_client.InfluxDBClient, stack: Stack, bucket: str) -> None:
    options = influxdb_client.WriteOptions(batch_size=500, flush_interval=100)
    with v2.write_api(write_options=options) as api:
        for n in range(5_000):
            api.write(bucket, ORG, f"m,h=h{n % 10} v={n}i {n}")
    assert stack.rows("SELECT count(v), sum(v) FROM m", bucket)[0][1:] == [5_000, sum(range(5_000))]


def test_the_v2_client_administers(v2: influxdb_client.InfluxDBClient, stack: Stack) -> None:
    name = f"made-{uuid.uuid4().hex[:8]}"
    buckets = v2.buckets_api()
    rule = influxdb_client.BucketRetentionRules(type="expire", every_seconds=86400)
    made = buckets.create_bucket(bucket_name=name, org=ORG, retention_rules=rule, description="for a test")
    found = buckets.find_bucket_by_name(name)
    assert (found.id, found.retention_rules[0].every_seconds) == (made.id, 86400)
    assert buckets.find_bucket_by_name("nowhere") is None
    assert name in {bucket.name for bucket in buckets.find_buckets_iter()}

    authorizations = v2.authorizations_api()
    resource = influxdb_client.PermissionResource(type="buckets", id=made.id, org_id=made.org_id)
    permission = influxdb_client.Permission(action="write", resource=resource)
    token = authorizations.create_authorization(org_id=made.org_id, permissions=[permission])
    assert len(token.token) == 88
    listed = {authorization.id: authorization for authorization in authorizations.find_authorizations()}
    assert listed[token.id].token == ""
    with influxdb_client.InfluxDBClient(stack.url, token.token, org=ORG) as writer:
        writer.write_api(write_options=SYNCHRONOUS).write(name, ORG, "m v=1")
    authorizations.delete_authorization(token)
    buckets.delete_bucket(made)
    assert buckets.find_bucket_by_name(name) is None


def test_the_v2_client_signs_in_with_a_password(stack: Stack, bucket: str) -> None:
    with influxdb_client.InfluxDBClient(stack.url, username="admin", password="admin-password", org=ORG) as client:
        assert client.buckets_api().find_bucket_by_name(bucket) is not None
        client.write_api(write_options=SYNCHRONOUS).write(bucket, ORG, "m v=1 1")
    assert stack.rows("SELECT v FROM m", bucket, epoch="ns") == [[1, 1]]
