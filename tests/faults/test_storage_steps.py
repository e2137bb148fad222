"""Compaction killed at each of its steps (R17), answers of storage that never arrive (R27), the log under readers
that stay (R35)."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from tests import writers as writing
from tests.faults.report import case, rounds
from tests.services import test_compaction as compaction
from tests.stack import Stack, free_port
from tests.writers import balance, writers


@pytest.mark.timeout(900)
async def test_a_merge_is_killed_at_each_step(tmp_path: Path) -> None:
    count = rounds(3, 20)
    done = 0
    for step in compaction.STEPS:
        for number in range(count):
            folder = tmp_path / f"{done}-{number}"
            # It asserts that nothing is lost, doubled, or left behind.
            await compaction.test_a_merge_killed_at_any_step_changes_nothing_that_is_read(step, folder)
            done += 1
    case("R17", f"kills={done} steps={len(compaction.STEPS)}", "nothing lost, doubled, left", done > 0)


class Cutter:
    """Stands between the services and storage; cuts some connections when the answer to an append has come, so that
    all is stored and nobody is told. Bounded: loopback, one thread, ends with the test."""

    def __init__(self, target: int, share: float) -> None:
        self.port = free_port()
        self.cuts = 0
        self.is_cutting = False
        self._target = target
        self._share = share
        self._draw = random.Random(27)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self._stop = asyncio.Event()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._pass_on, "127.0.0.1", self.port)
        await self._stop.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        asked = [b""]

        async def up() -> None:
            while piece := await reader.read(1 << 16):
                if piece.startswith(b"POST /rpc/"):
                    asked[0] = piece[10:40]
                up_writer.write(piece)
                await up_writer.drain()

        async def down() -> None:
            while piece := await up_reader.read(1 << 16):
                if self.is_cutting and asked[0].startswith(b"storage.append") and self._draw.random() < self._share:
                    self.cuts += 1
                    raw = writer.get_extra_info("socket")
                    # A reset, not an end.
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    writer.transport.abort()
                    return
                writer.write(piece)
                await writer.drain()

        tasks = [asyncio.create_task(up()), asyncio.create_task(down())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for side in (up_writer, writer):
                side.close()


@contextmanager
def cut_stack(folder: Path) -> Iterator[tuple[Stack, Cutter]]:
    """A stack whose services reach storage through a cutter."""
    stack = Stack(folder)
    cutter = Cutter(stack.storage_port, 0.3)
    stack.environment = {"TIDEGATE_STORAGE_URL": f"http://127.0.0.1:{cutter.port}"}
    cutter.start()
    try:
        stack.start()
        yield stack, cutter
    finally:
        try:
            if stack.process is not None:
                stack.stop()
        finally:
            cutter.stop()


@pytest.mark.timeout(1200)
def test_the_answer_of_an_append_never_arrives(tmp_path: Path) -> None:
    wanted = rounds(150, 500)
    with cut_stack(tmp_path / "stack") as (stack, cutter):
        stack.make_bucket("cut")
        newest: dict[int, tuple[int, int]] = {}
        stop = threading.Event()

        def overwrite(number: int) -> None:
            """Each write replaces the one before it, so an old one that comes again would be seen."""
            value = 0
            while not stop.is_set():
                value += 1
                status = stack.write(f"o,w=w{number} v={value}i 1", "cut").status_code
                acknowledged = value if status == 204 else newest.get(number, (0, 0))[0]
                newest[number] = (acknowledged, value)
                if status == 204 and value % 5 == 0:
                    seen = stack.rows(f"SELECT v FROM o WHERE w = 'w{number}'", "cut")[0][1]
                    if seen != value:
                        overtaken.append(f"{seen} after {value}")

        overtaken: list[str] = []
        threads = [threading.Thread(target=overwrite, args=(number,)) for number in range(3)]
        cutter.is_cutting = True
        with writers(stack, "cut", 4) as ledgers:
            for thread in threads:
                thread.start()
            ends = time.monotonic() + min(900, 60 + wanted)
            while cutter.cuts < wanted and time.monotonic() < ends:
                time.sleep(0.1)
            stop.set()
            for thread in threads:
                thread.join()
        cutter.is_cutting = False
        result = balance(stack, "cut", ledgers)
        statuses: dict[int, int] = {}
        for ledger in ledgers:
            for status, times in ledger.statuses.items():
                statuses[status] = statuses.get(status, 0) + times
        for number, (acknowledged, last) in newest.items():
            seen = stack.rows(f"SELECT v FROM o WHERE w = 'w{number}'", "cut")[0][1]
            if not acknowledged <= seen <= last:
                overtaken.append(f"{seen} at the end, {acknowledged} acknowledged")
    case(
        "R27",
        f"cuts={cutter.cuts}/{wanted} {result} statuses={statuses} overtaken={len(overtaken)} {overtaken[:3]}",
        "0 doubled, 0 overtaken, 204 or 503",
        cutter.cuts >= wanted and not overtaken and result.lost == result.doubled == result.ghosts == 0
        and statuses.keys() <= {204, 503},
    )  # fmt: skip


@pytest.mark.timeout(300)
def test_the_log_stays_short_under_readers_that_stay(own_stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "BATCH", 3000)
    own_stack.make_bucket("log")
    for start in range(0, 200_000, 10_000):
        lines = "\n".join(f"r v={at}i {at}" for at in range(start, start + 10_000))
        assert own_stack.write(lines, "log").status_code == 204
    log = own_stack.folder / "data" / "tidegate.db-wal"
    largest = read = 0
    seconds = min(60, 3 * rounds(7, 20))
    params = {"q": "SELECT v FROM r", "db": "log", "chunked": "true", "chunk_size": "1000"}
    with contextlib.ExitStack() as readers, writers(own_stack, "log", 8) as ledgers:
        headers = {"Authorization": f"Token {own_stack.token}"}
        answers: list[requests.Response] = []
        for _ in range(4):
            answer = requests.get(f"{own_stack.url}/query", params=params, headers=headers, stream=True, timeout=60)
            answers.append(readers.enter_context(answer))
        pieces = [answer.iter_content(1000) for answer in answers]
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            for piece in pieces:  # a thousand bytes each now and then: they take as long as the test
                read += len(next(piece, b""))
            largest = max(largest, log.stat().st_size if log.exists() else 0)
            time.sleep(0.2)
    started = time.monotonic()
    while (length := log.stat().st_size) > 40 << 20 and time.monotonic() - started < 20:
        time.sleep(0.1)
    caught_up_s = time.monotonic() - started
    result = balance(own_stack, "log", ledgers)
    case(
        "R35",
        f"seconds={seconds} {result} largest_log_mb={largest / 1e6:.0f} then={length / 1e6:.0f} "
        f"caught_up_s={caught_up_s:.1f} read_bytes={read}",
        "256 MB, caught up in 10 s, 0 lost",
        largest <= 256 << 20 and caught_up_s <= 10 and result.lost == result.doubled == result.ghosts == 0,
    )
