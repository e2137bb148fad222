"""1.x administration with three queries and ingests: the statement after it sees it, at whichever replica."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator

import pytest

from tests.stack import Stack

# One worker runs them all: each stack of this kind is started once.
pytestmark = pytest.mark.xdist_group("replicas")
REPLICAS, ROUNDS = 3, 2
# The promise is a second; the machine of a test may be busy.
WITHIN_S, GIVE_UP_S = 1.0, 5.0


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("administered"), {"INGEST": "3", "QUERY": "3"}).start()
    yield stack
    stack.stop()


def everywhere(check: Callable[[], bool]) -> float:
    """Ask until each replica is likely to have agreed; seconds until the last one that did not."""
    began, agreed, settled_s = time.monotonic(), 0, 0.0
    while agreed < 2 * REPLICAS:
        if check():
            agreed += 1
        else:
            agreed, settled_s = 0, time.monotonic() - began
            assert settled_s < GIVE_UP_S
    return settled_s


def test_a_statement_is_seen_by_every_replica(three: Stack) -> None:
    assert len(three.pids("query")) == REPLICAS
    worst_s = 0.0
    for _ in range(ROUNDS):
        name = f"d{uuid.uuid4().hex[:8]}"

        def status(method: str, path: str, password: str = "p", name: str = name, **params: str) -> int:
            data = "m v=1i 1" if path == "/write" else None
            known = {"u": name, "p": password, "db": name, **params}
            return three.request(method, path, None, params=known, data=data).status_code

        def rows(q: str, name: str = name) -> int:
            answer = three.request("GET", "/query", None, params={"u": name, "p": "p", "db": name, "q": q}).json()
            found = answer["results"][0] if "results" in answer else {}
            return sum(len(series.get("values", [])) for series in found.get("series", []))

        three.query(f'CREATE DATABASE "{name}"')
        # At once, at whichever ingest and query: a refusal would have been confirmed first.
        for _ in range(2 * REPLICAS):
            assert three.write("m v=1i 1", name).status_code == 204
            assert three.rows("SELECT v FROM m", name, epoch="ns") == [[1, 1]]
        three.query(f"CREATE USER {name} WITH PASSWORD 'p'")
        for _ in range(2 * REPLICAS):
            assert status("GET", "/query", q="SHOW DATABASES") == 200
        three.query(f'GRANT WRITE ON "{name}" TO {name}')
        waits = [everywhere(lambda status=status: status("POST", "/write") == 204)]
        three.query(f'GRANT READ ON "{name}" TO {name}')
        waits.append(everywhere(lambda rows=rows: rows("SELECT v FROM m") == 1))
        three.query(f'CREATE RETENTION POLICY later ON "{name}" DURATION 0s REPLICATION 1')
        waits.append(everywhere(lambda status=status: status("POST", "/write", rp="later") == 204))
        waits.append(everywhere(lambda rows=rows: rows("SELECT v FROM later.m") == 1))
        three.query(f'REVOKE READ ON "{name}" FROM {name}')
        waits.append(everywhere(lambda rows=rows: rows("SELECT v FROM m") == 0))
        three.query(f'REVOKE WRITE ON "{name}" FROM {name}')
        waits.append(everywhere(lambda status=status: status("POST", "/write") in (401, 403, 404)))
        three.query(f"SET PASSWORD FOR {name} = 'q'")
        waits.append(everywhere(lambda status=status: status("GET", "/query", q="SHOW DATABASES") == 401))
        assert status("GET", "/query", "q", q="SHOW DATABASES") == 200
        three.query(f"DROP USER {name}")
        waits.append(everywhere(lambda status=status: status("GET", "/query", "q", q="SHOW DATABASES") == 401))
        three.query(f'DROP DATABASE "{name}"')
        waits.append(everywhere(lambda name=name: three.write("m v=1i 1", name).status_code == 404))
        worst_s = max(worst_s, *waits)
    result = "PASS" if worst_s < WITHIN_S else "FAIL"
    print(f"CASE V1-SEEN everywhere after at most {worst_s * 1000:.0f} ms {WITHIN_S * 1000:.0f} {result}")
