"""Three ingests behind nginx: spread, death, scaling; and the system tests through the proxy."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator

import pytest
import requests

from tests.proxy import proxy_before
from tests.stack import Stack
from tests.system import test_documented_requests, test_telegraf_data

# One worker runs them all: each stack of this module is started once.
pytestmark = pytest.mark.xdist_group("replicas")


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("three"), {"INGEST": "3"}).start()
    yield stack
    stack.stop()


class Proxied(Stack):
    """A stack that is talked to through nginx."""

    proxy_url: str = ""

    @property
    def url(self) -> str:
        return self.proxy_url or super().url


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Proxied(tmp_path_factory.mktemp("proxied"), {"INGEST": "3"})
    stack.start()
    with proxy_before(f"127.0.0.1:{stack.port}", stack.folder / "nginx") as url:
        stack.proxy_url = url
        yield stack
        # What nginx logged holds no credentials: u and p were sent in query strings.
        log = (stack.folder / "nginx" / "access.log").read_text()
        assert " 204 " in log
        assert "legacy-password" not in log
        stack.proxy_url = ""
    stack.stop()


# The same tests, with the stack of this module: all that goes through the proxy.
for module in (test_documented_requests, test_telegraf_data):
    for name in dir(module):
        if name.startswith("test_") and "setup" not in name:
            globals()[f"test_through_nginx_{name.removeprefix('test_')}"] = getattr(module, name)


def written_by(stack: Stack) -> dict[str, float]:
    """Points that each ingest has taken, by instance, from /metrics of the whole."""
    text = stack.request("GET", "/metrics", None).text
    pattern = re.compile(r"^tidegate_ingest_points_total\{([^}]*)\} (\S+)$", re.MULTILINE)
    found: dict[str, float] = {}
    for labels, value in pattern.findall(text):
        instance = re.search(r'instance="([^"]+)"', labels)
        assert instance is not None
        found[instance[1]] = found.get(instance[1], 0) + float(value)
    return found


def test_writes_are_spread_over_the_replicas(three: Stack) -> None:
    three.make_bucket("spread")
    body = "\n".join(f"m,h=h{n % 100} v={n}i {n}" for n in range(5_000))

    def load() -> None:
        for _ in range(12):
            assert three.write(body, "spread").status_code == 204

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = written_by(three)
    assert len(counts) == 3
    assert all(count > 0 for count in counts.values()), counts
    assert sum(counts.values()) >= 12 * 4 * 5_000


def test_the_death_of_one_is_not_seen_and_a_new_one_is_taken_in(three: Stack) -> None:
    three.make_bucket("death")
    stop = threading.Event()
    statuses: list[int] = []
    written: list[int] = []

    def load(number: int) -> None:
        n = 0
        while not stop.is_set():
            stamp = number * 1_000_000 + n
            answer = three.write(f"m,w=w{number} v=1i {stamp}", "death")
            statuses.append(answer.status_code)
            if answer.status_code == 204:
                written.append(stamp)
            n += 1

    threads = [threading.Thread(target=load, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(2):
        time.sleep(1)
        victim = three.pids("ingest")[0]
        three.kill(victim)
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline and (len(three.pids("ingest")) < 3 or len(written_by(three)) < 3):
            time.sleep(0.1)
        assert len(written_by(three)) == 3
    stop.set()
    for thread in threads:
        thread.join()
    assert set(statuses) == {204}
    assert three.rows("SELECT count(v) FROM m", "death")[0][1] == len(written)


def test_a_chunked_answer_comes_piece_by_piece_through_the_proxy(stack: Stack, bucket: str) -> None:
    assert stack.write("\n".join(f"m v={n}i {n}" for n in range(50_000)), bucket).status_code == 204
    params = {"db": bucket, "q": "SELECT v FROM m", "chunked": "true", "chunk_size": "1000"}
    headers = {"Authorization": f"Token {stack.token}", "Accept-Encoding": "identity"}
    with requests.get(f"{stack.url}/query", params=params, headers=headers, stream=True, timeout=60) as answer:
        lines = [line for line in answer.iter_lines() if line]
    assert len(lines) == 50
    assert all(b'"partial":true' in line for line in lines[:-1])
    assert b'"partial":true' not in lines[-1]
