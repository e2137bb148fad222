"""More connections than there are files for them (L11)."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import psutil
import requests

from tests.faults.report import case
from tests.stack import BUCKET, Stack

OPEN_FILES, CONNECTIONS, WATCHED_S = 256, 400, 2.0


def test_connections_beyond_the_open_files(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "stack", open_files=OPEN_FILES).start()
    held: list[socket.socket] = []
    try:
        kept = requests.Session()
        kept.headers["Authorization"] = f"Token {stack.token}"

        def write(value: int) -> int:
            target = f"{stack.url}/write?db={BUCKET}"
            return kept.post(target, data=f"m v={value} {value}", timeout=10).status_code

        statuses = [write(1)]
        gateway = psutil.Process(stack.pids("gateway")[0])
        for _ in range(CONNECTIONS):
            held.append(socket.create_connection(("127.0.0.1", stack.port), timeout=10))
        before_s = sum(gateway.cpu_times()[:2])
        time.sleep(WATCHED_S)
        share = (sum(gateway.cpu_times()[:2]) - before_s) / WATCHED_S
        files = gateway.num_fds()
        statuses += [write(2), write(3)]
        while held:
            held.pop().close()
        began = time.monotonic()
        while True:
            try:
                fresh = requests.post(
                    f"{stack.url}/write?db={BUCKET}", data="m v=4 4", headers=dict(kept.headers), timeout=10
                )
                if fresh.status_code == 204:
                    break
            except requests.RequestException:
                pass
            assert time.monotonic() < began + 10, "no new connection is served"
            time.sleep(0.02)
        again_s = time.monotonic() - began
        rows = stack.rows("SELECT count(v) FROM m", BUCKET)
    finally:
        for each in held:
            each.close()
        stack.stop()
    case(
        "L11",
        f"open_files={OPEN_FILES} connections={CONNECTIONS} files={files} cpu_share={share:.2f} "
        f"kept_connection={statuses} new_one_again_s={again_s:.2f} stored={rows[0][1]}",
        "the connection that is there is served, no spinning, new ones again in 10 s",
        statuses == [204] * 3 and share < 0.5 and files < OPEN_FILES and rows[0][1] == 4,
    )
