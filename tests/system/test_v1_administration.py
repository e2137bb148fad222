"""1.x administration in InfluxQL, by PyPI's influxdb and by the shell; the setting that turns it off."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import influxdb
import pytest

from tests.stack import ADMIN_TOKEN, Stack
from tests.system.security.figures import make_token, permission
from tests.system.test_clients import shell

FORBIDDEN = "insufficient permissions"


@pytest.fixture
def admin(stack: Stack) -> Iterator[influxdb.InfluxDBClient]:
    """A client with the operator token for a password."""
    with influxdb.InfluxDBClient("127.0.0.1", stack.port, "anyone", ADMIN_TOKEN) as client:
        yield client


@pytest.fixture
def name() -> str:
    return f"d{uuid.uuid4().hex[:10]}"


def client_of(stack: Stack, user: str, password: str, database: str | None = None) -> influxdb.InfluxDBClient:
    return influxdb.InfluxDBClient("127.0.0.1", stack.port, user, password, database)


def soon(check: Callable[[], bool]) -> None:
    """What gateways keep of an identity is dropped by the feed, within a second."""
    deadline = time.monotonic() + 5
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def error_of(stack: Stack, q: str, **more: Any) -> str | None:
    result = stack.query(q, **more)["results"][0]
    error: str | None = result.get("error")
    return error


def names(client: influxdb.InfluxDBClient) -> list[str]:
    return [entry["name"] for entry in client.get_list_database()]


def test_a_database_is_made_written_read_and_dropped(admin: influxdb.InfluxDBClient, stack: Stack, name: str) -> None:
    admin.create_database(name)
    assert name in names(admin)
    admin.create_database(name)  # as Telegraf does at each start
    assert admin.write_points(["m v=1i 1"], protocol="line", database=name)
    assert [point["v"] for point in admin.query("SELECT v FROM m", database=name).get_points()] == [1]
    made = stack.json("GET", "/api/v2/buckets", params={"name": f"{name}/autogen"})["buckets"]
    assert [bucket["retentionRules"][0]["everySeconds"] for bucket in made] == [0]
    mapping = stack.json("GET", "/api/v2/dbrps", params={"orgID": stack.org_id(), "db": name})["content"]
    assert [(m["retention_policy"], m["default"], m["virtual"]) for m in mapping] == [("autogen", True, False)]
    admin.drop_database(name)
    assert name not in names(admin)
    admin.drop_database(name)  # no error in 1.x
    assert stack.request("GET", "/api/v2/buckets", params={"name": f"{name}/autogen"}).json().get("buckets", []) == []
    admin.create_database(name)
    assert list(admin.query("SELECT v FROM m", database=name).get_points()) == []


def test_the_statement_after_create_database_sees_it(stack: Stack, name: str) -> None:
    results = stack.query(
        f'CREATE DATABASE "{name}" WITH DURATION 3d NAME "three"; SHOW RETENTION POLICIES ON "{name}"'
    )
    assert results["results"][1]["series"][0]["values"] == [["three", "72h0m0s", "24h0m0s", 1, True]]


def test_a_database_with_another_policy_than_there_is_conflicts(stack: Stack, name: str) -> None:
    asked = f'CREATE DATABASE "{name}" WITH DURATION 3d NAME "three"'
    assert error_of(stack, asked) is None
    assert error_of(stack, asked) is None
    assert error_of(stack, f'CREATE DATABASE "{name}"') is None
    conflict = "retention policy conflicts with an existing policy"
    assert error_of(stack, f'CREATE DATABASE "{name}" WITH DURATION 4d NAME "three"') == conflict
    assert error_of(stack, f'CREATE DATABASE "{name}" WITH DURATION 3d NAME "other"') == conflict


def test_retention_policies(admin: influxdb.InfluxDBClient, stack: Stack, name: str) -> None:
    admin.create_database(name)

    def shown() -> dict[str, tuple[str, str, bool]]:
        listed = admin.get_list_retention_policies(name)
        return {p["name"]: (p["duration"], p["shardGroupDuration"], p["default"]) for p in listed}

    admin.create_retention_policy("week", "7d", "1", database=name, shard_duration="1d")
    assert shown() == {"autogen": ("0s", "168h0m0s", True), "week": ("168h0m0s", "24h0m0s", False)}
    admin.create_retention_policy("week", "7d", "1", database=name, shard_duration="1d")
    with pytest.raises(influxdb.exceptions.InfluxDBClientError, match="retention policy already exists"):
        admin.create_retention_policy("week", "8d", "1", database=name)
    admin.alter_retention_policy("week", database=name, duration="14d", default=True)
    assert shown() == {"autogen": ("0s", "168h0m0s", False), "week": ("336h0m0s", "24h0m0s", True)}
    admin.create_retention_policy("year", "52w", "1", database=name, default=True)
    assert [policy for policy, (_, _, default) in shown().items() if default] == ["year"]
    admin.drop_retention_policy("year", database=name)
    assert set(shown()) == {"autogen", "week"}
    admin.drop_retention_policy("year", database=name)
    policy = f'"year" ON "{name}"'
    assert error_of(stack, f"ALTER RETENTION POLICY {policy} DURATION 1d") == "retention policy not found: year"
    gone = "database not found: nowhere"
    assert error_of(stack, "ALTER RETENTION POLICY a ON nowhere DURATION 1d") == gone
    assert error_of(stack, "CREATE RETENTION POLICY a ON nowhere DURATION 1d REPLICATION 1") == gone
    short = error_of(stack, f'CREATE RETENTION POLICY s ON "{name}" DURATION 30m REPLICATION 1')
    assert short == "retention policy duration must be at least 1h0m0s"
    tiny = error_of(stack, f'CREATE RETENTION POLICY s ON "{name}" DURATION 1ns REPLICATION 1')
    assert tiny == "retention policy duration must be at least 1h0m0s"
    limit = error_of(stack, f'CREATE RETENTION POLICY s ON "{name}" DURATION 1d REPLICATION 1 FUTURE LIMIT 1h')
    assert limit == "FUTURE LIMIT and PAST LIMIT are not supported"


def test_a_policy_beside_a_virtual_database_leaves_its_default(stack: Stack, bucket: str) -> None:
    assert error_of(stack, f'CREATE RETENTION POLICY p ON "{bucket}" DURATION 1d REPLICATION 1') is None
    rows = stack.rows(f'SHOW RETENTION POLICIES ON "{bucket}"', bucket)
    assert [(row[0], row[-1]) for row in rows] == [("autogen", True), ("p", False)]
    assert stack.write("m v=1 1", bucket).status_code == 204
    assert stack.rows("SELECT v FROM autogen.m", bucket, epoch="ns") == [[1, 1]]


def test_dropping_a_database_leaves_a_bucket_that_has_another_name_too(stack: Stack, bucket: str, name: str) -> None:
    found = stack.json("GET", "/api/v2/buckets", params={"name": bucket})["buckets"][0]
    mapping = {"orgID": found["orgID"], "bucketID": found["id"], "database": name, "retention_policy": "autogen"}
    stack.json("POST", "/api/v2/dbrps", mapping)
    assert stack.write("m v=1 1", name).status_code == 204
    assert error_of(stack, f'DROP DATABASE "{name}"') is None
    assert stack.rows("SELECT v FROM m", bucket, epoch="ns") == [[1, 1]]
    assert error_of(stack, "SELECT v FROM m", db=name) == f"database not found: {name}"


def test_users_are_made_granted_shown_revoked_and_dropped(
    admin: influxdb.InfluxDBClient, stack: Stack, name: str
) -> None:
    user = f"u-{name}"
    admin.create_database(name)
    admin.create_user(user, "p")
    admin.create_user(user, "p")
    with pytest.raises(influxdb.exceptions.InfluxDBClientError, match="user already exists"):
        admin.create_user(user, "other")
    assert {"user": user, "admin": False} in admin.get_list_users()
    assert admin.get_list_privileges(user) == []

    own = client_of(stack, user, "p", name)
    assert names(own) == []
    admin.grant_privilege("read", name, user)
    assert admin.get_list_privileges(user) == [{"database": name, "privilege": "READ"}]
    soon(lambda: names(own) == [name])
    with pytest.raises(influxdb.exceptions.InfluxDBClientError):
        own.write_points(["m v=1i 1"], protocol="line")
    admin.grant_privilege("ALL", name, user)
    assert admin.get_list_privileges(user) == [{"database": name, "privilege": "ALL PRIVILEGES"}]
    soon(lambda: stack.request("POST", "/write", None, params={"db": name, "u": user, "p": "p"}, data="m v=1i 1").ok)
    admin.revoke_privilege("WRITE", name, user)
    assert admin.get_list_privileges(user) == [{"database": name, "privilege": "READ"}]
    soon(
        lambda: not stack.request("POST", "/write", None, params={"db": name, "u": user, "p": "p"}, data="m v=1i 1").ok
    )
    admin.revoke_privilege("ALL", name, user)
    assert admin.get_list_privileges(user) == []
    soon(lambda: names(own) == [])

    admin.set_user_password(user, "another")
    soon(
        lambda: (
            stack.request("GET", "/query", None, params={"u": user, "p": "p", "q": "SHOW DATABASES"}).status_code == 401
        )
    )
    assert stack.request("GET", "/query", None, params={"u": user, "p": "another", "q": "SHOW DATABASES"}).ok
    admin.drop_user(user)
    soon(
        lambda: (
            stack.request("GET", "/query", None, params={"u": user, "p": "another", "q": "SHOW DATABASES"}).status_code
            == 401
        )
    )
    assert user not in {entry["user"] for entry in admin.get_list_users()}
    for statement in (
        "DROP USER x",
        "SET PASSWORD FOR x = 'p'",
        "GRANT ALL TO x",
        "REVOKE ALL FROM x",
        "SHOW GRANTS FOR x",
    ):
        assert error_of(stack, statement) == "user not found"


def test_an_administrator_administers_and_may_be_made_a_common_user(
    admin: influxdb.InfluxDBClient, stack: Stack, name: str
) -> None:
    user, other = f"root-{name}", f"other-{name}"
    admin.create_user(user, "secret of root", admin=True)
    assert {"user": user, "admin": True} in admin.get_list_users()
    root = client_of(stack, user, "secret of root")
    root.create_database(name)
    assert name in names(root)
    root.create_user(other, "x")
    root.grant_privilege("WRITE", name, other)
    assert stack.request("POST", "/write", None, params={"db": name, "u": other, "p": "x"}, data="m v=1i 1").ok
    root.grant_admin_privileges(other)
    assert {"user": other, "admin": True} in root.get_list_users()
    root.revoke_admin_privileges(other)
    assert root.get_list_privileges(other) == [{"database": name, "privilege": "WRITE"}]
    admin.revoke_admin_privileges(user)
    soon(lambda: (error_of_user(stack, user, "secret of root", f"CREATE USER no-{name} WITH PASSWORD 'x'") or "") != "")


def error_of_user(stack: Stack, user: str, password: str, q: str) -> str | None:
    answer = stack.request("POST", "/query", None, params={"u": user, "p": password}, data={"q": q.replace("-", "_")})
    assert answer.status_code == 200
    error: str | None = answer.json()["results"][0].get("error")
    return error


@pytest.mark.parametrize("size", [0, 73])
def test_passwords_hold_1_to_72_bytes(stack: Stack, name: str, size: int) -> None:
    wrong = "passwords must be between 1 and 72 bytes long"
    assert error_of(stack, f"CREATE USER {name} WITH PASSWORD '{'x' * size}'") == wrong
    assert error_of(stack, f"CREATE USER {name} WITH PASSWORD '{'x' * 72}'") is None
    assert error_of(stack, f"SET PASSWORD FOR {name} = '{'x' * size}'") == wrong


def test_who_may_not_administer_is_told_by_each_statement(stack: Stack, bucket: str, name: str) -> None:
    assert error_of(stack, f"CREATE USER {name} WITH PASSWORD 'x'") is None
    found = stack.json("GET", "/api/v2/buckets", params={"name": bucket})["buckets"][0]
    resource = {"type": "buckets", "id": found["id"], "orgID": found["orgID"]}
    grants = [{"action": action, "resource": resource} for action in ("read", "write")]
    token = stack.json("POST", "/api/v2/authorizations", {"orgID": found["orgID"], "permissions": grants})["token"]
    for statement in (
        f"CREATE DATABASE other_{name}",
        f'CREATE RETENTION POLICY p ON "{bucket}" DURATION 1d REPLICATION 1',
        "DROP DATABASE first",
        "CREATE USER someone WITH PASSWORD 'x'",
        f"DROP USER {name}",
        f"SET PASSWORD FOR {name} = 'y'",
        f'GRANT ALL ON "{bucket}" TO {name}',
        f"GRANT ALL TO {name}",
        f'REVOKE ALL ON "{bucket}" FROM {name}',
        f"REVOKE ALL FROM {name}",
        "SHOW USERS",
        f"SHOW GRANTS FOR {name}",
    ):
        answer = stack.request("POST", "/query", token, data={"q": statement})
        assert answer.status_code == 200
        assert FORBIDDEN in answer.json()["results"][0].get("error", ""), statement


def test_another_organization_is_not_there(stack: Stack, bucket: str, name: str) -> None:
    org_id = stack.json("POST", "/api/v2/orgs", {"name": f"org-{name}"})["id"]
    user_id = stack.json("GET", "/api/v2/me")["id"]
    grants = [
        {"action": action, "resource": {"type": type, "orgID": org_id}}
        for action in ("read", "write")
        for type in ("buckets", "authorizations")
    ] + [{"action": action, "resource": {"type": "users", "id": user_id}} for action in ("read", "write")]
    token = stack.json("POST", "/api/v2/authorizations", {"orgID": org_id, "permissions": grants})["token"]
    assert error_of(stack, f"CREATE USER {name} WITH PASSWORD 'x'") is None

    def ask(q: str) -> Any:
        return stack.request("POST", "/query", token, data={"q": q}).json()["results"][0]

    assert ask(f"DROP USER {name}")["error"] == "user not found"
    assert ask(f"SET PASSWORD FOR {name} = 'y'")["error"] == "user not found"
    assert ask(f"SHOW GRANTS FOR {name}")["error"] == "user not found"
    assert ask(f"CREATE USER {name} WITH PASSWORD 'x'")["error"] == "user already exists"
    assert "values" not in ask("SHOW USERS")["series"][0]
    assert ask(f'DROP DATABASE "{bucket}"') == {"statement_id": 0}
    assert stack.write("m v=1 1", bucket).status_code == 204
    assert ask(f"CREATE USER own_{name} WITH PASSWORD 'x'") == {"statement_id": 0}
    assert ask(f'GRANT READ ON "{bucket}" TO own_{name}')["error"] == f"database not found: {bucket}"


def test_the_shell_administers(stack: Stack, name: str) -> None:
    known = {"user": "anyone", "password": ADMIN_TOKEN}
    for statement in (
        f"CREATE DATABASE {name}",
        f"CREATE USER {name} WITH PASSWORD 'it''s' ".replace("''", "\\'"),
        f"GRANT ALL ON {name} TO {name}",
        f"CREATE RETENTION POLICY r ON {name} DURATION 1d REPLICATION 1",
    ):
        done = shell(stack, "-execute", statement, **known)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), statement
    shown = shell(stack, "-execute", f"SHOW GRANTS FOR {name}", "-format", "csv", **known)
    # The policy came after the grant, which reaches it.
    assert shown.stdout.splitlines() == ["database,privilege", f"{name},ALL PRIVILEGES"]


def test_each_change_is_audited_without_its_password(stack: Stack, name: str) -> None:
    secret = f"a-secret-{uuid.uuid4().hex}"
    assert error_of(stack, f"CREATE USER {name} WITH PASSWORD '{secret}'") is None
    assert error_of(stack, f"GRANT READ ON first TO {name}") is None
    path = stack.folder / "data" / "audit.log"

    reader = make_token(stack, [permission("read", "buckets", orgID=stack.org_id())])
    request_id = uuid.uuid4().hex
    headers = {"Authorization": f"Token {reader['token']}", "X-Request-Id": request_id}
    assert stack.request("POST", "/query", None, params={"q": f"DROP USER {name}"}, headers=headers).ok

    def events() -> list[dict[str, str]]:
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [line for line in lines if line.get("target") == name]

    told = [("v1.create_user", "ok"), ("v1.grant", "ok"), ("v1.drop_user", "forbidden")]
    soon(lambda: [(event["event"], event["result"]) for event in events()] == told)
    assert all(event["remote"] == "127.0.0.1" for event in events())
    assert events()[-1]["request_id"] == request_id
    assert events()[-1]["credential_id"] == reader["id"]
    assert secret not in path.read_text()
    assert secret not in stack.log_path.read_text(errors="replace")


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("refusing"), {"TIDEGATE_V1_ADMIN": "off"}).start()
    yield stack
    stack.stop()


def test_with_the_setting_off_each_statement_is_refused_in_influxdbs_words(refusing: Stack) -> None:
    for statement, words in {
        "CREATE DATABASE x": "CREATE DATABASE",
        "DROP DATABASE first": "DROP DATABASE",
        "CREATE RETENTION POLICY p ON first DURATION 1d REPLICATION 1": "CREATE RETENTION POLICY",
        "ALTER RETENTION POLICY autogen ON first DEFAULT": "ALTER RETENTION POLICY",
        "DROP RETENTION POLICY autogen ON first": "DROP RETENTION POLICY",
        "CREATE USER x WITH PASSWORD 'y'": "CREATE USER",
        "DROP USER x": "DROP USER",
        "SET PASSWORD FOR x = 'y'": "SET PASSWORD",
        "GRANT READ ON first TO x": "GRANT",
        "GRANT ALL TO x": "GRANT ALL",
        "REVOKE READ ON first FROM x": "REVOKE",
        "REVOKE ALL FROM x": "REVOKE ALL",
        "SHOW USERS": "SHOW USERS",
        "SHOW GRANTS FOR x": "SHOW GRANTS",
    }.items():
        assert refusing.query(statement) == {"results": [{"statement_id": 0, "error": f"not implemented: {words}"}]}
    assert refusing.write("m v=1 1", "first").status_code == 204


# ---------------------------------------------------------------- the 1.x image's environment


def test_the_environment_of_the_1x_image_makes_an_administrator_once(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("pw\n")
    environment = {
        "INFLUXDB_ADMIN_USER": "root",
        "INFLUXDB_ADMIN_PASSWORD_FILE": str(secret),
        "INFLUXDB_DB": "telegraf",
        "INFLUXDB_HTTP_AUTH_ENABLED": "false",
    }
    stack = Stack(tmp_path / "stack", environment, setup=False)
    try:
        stack.start()
        root = client_of(stack, "root", "pw", "telegraf")
        assert root.get_list_users() == [{"user": "root", "admin": True}]
        assert "telegraf" in names(root)
        assert root.write_points(["m v=1i 1"], protocol="line")
        # Never open, whatever the variable says.
        assert stack.request("GET", "/query", None, params={"q": "SHOW DATABASES"}).status_code == 401
        root.set_user_password("root", "changed")
        client_of(stack, "root", "changed").create_user("second", "pw", admin=True)
        stack.stop()
        stack.start()
        again = client_of(stack, "root", "changed", "telegraf")
        assert {entry["user"] for entry in again.get_list_users()} == {"root", "second"}
        client_of(stack, "second", "pw").drop_user("root")
        stack.stop()
        stack.start()
        # Dropped is dropped.
        assert client_of(stack, "second", "pw").get_list_users() == [{"user": "second", "admin": True}]
        assert "pw" not in stack.log_path.read_text(errors="replace").replace("INFLUXDB", "").split()
    finally:
        stack.stop()
