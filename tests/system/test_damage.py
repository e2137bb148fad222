"""What damage of the data folder costs a user: the part that is damaged, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ALL_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

import pytest
import requests

from tests.stack import BUCKET, ROOT, Stack
from tests.unit.storage.sqlite.test_row_checksums import damage


@pytest.mark.parametrize("damaged", ["piece = zeroblob(length(piece))", "piece = zeroblob(9), ids = zeroblob(16)"])
def test_a_damaged_piece_of_the_dictionary_hides_its_series_until_they_are_written_again(
    own_stack: Stack, damaged: str
) -> None:
    stack = own_stack
    for host in "abc":
        assert stack.write(f"cpu,host={host} value={ord(host)} 1000000000", BUCKET).status_code == 204
    stack.stop()
    damage(
        stack.folder / "data",
        f"UPDATE dictionary SET {damaged} WHERE rowid = (SELECT min(rowid) FROM dictionary) + 1",
    )
    stack.start()
    assert stack.rows("SELECT value FROM cpu", BUCKET, epoch="s") == [[1, 97], [1, 99]]
    assert stack.rows("SHOW TAG VALUES FROM cpu WITH KEY = host", BUCKET) == [["host", "a"], ["host", "c"]]
    assert stack.rows("SELECT count(value) FROM cpu", BUCKET) == [["1970-01-01T00:00:00Z", 2]]
    metrics = requests.get(f"http://127.0.0.1:{stack.storage_port}/metrics", timeout=5).text
    assert "tidegate_storage_damages 0.0" not in metrics
    assert "series 1 to 1 of measurement 'cpu'" in stack.log_path.read_text()
    assert stack.write("cpu,host=b value=5 2000000000", BUCKET).status_code == 204
    for _ in range(2):
        rows = stack.rows("SELECT value FROM cpu", BUCKET, epoch="s")
        assert sorted(rows) == [[1, 97], [1, 98], [1, 99], [2, 5]]
        assert stack.rows("SHOW TAG VALUES FROM cpu WITH KEY = host", BUCKET) == [["host", x] for x in "abc"]
        stack.stop()
        stack.start()


def verify(stack: Stack) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.verify"],
        capture_output=True, text=True, timeout=60, check=False, cwd=ROOT, env={**os.environ, **stack.settings()},
    )  # fmt: skip


def test_verify_names_what_is_damaged_by_bucket_measurement_and_time(own_stack: Stack, tmp_path: Path) -> None:
    stack = own_stack
    assert stack.write("cpu,host=a value=1 1000000000", BUCKET).status_code == 204
    assert stack.write("cpu,host=a value=2 2000000000\nmem,host=a value=2 2000000000", BUCKET).status_code == 204
    bucket_id = stack.json("GET", "/api/v2/buckets", params={"name": BUCKET})["buckets"][0]["id"]
    held = verify(stack)
    assert (held.returncode, held.stdout) == (2, "")
    assert "is held by" in held.stderr
    stack.stop()

    whole = verify(stack)
    assert (whole.returncode, whole.stdout) == (0, "")
    assert "2 measurements, 2 series, 3 segments, 12 chunks, 3 rows" in whole.stderr
    assert whole.stderr.endswith("all is well\n")

    data = stack.folder / "data"
    for _ in range(2):  # a start moves a damaged segment into quarantine; it is told all the same
        damage(
            data, "UPDATE commits SET data = zeroblob(length(data)) WHERE number = (SELECT min(number) FROM commits)"
        )
        damaged = verify(stack)
        assert damaged.returncode == 1
        (found,) = damaged.stdout.splitlines()
        assert found.split("\t")[:4] == [bucket_id, "cpu", "1970-01-01T00:00:01Z", "1970-01-01T00:00:01.000000001Z"]
        stack.start()
        # Statistics tell a count until somebody has wanted the rows.
        assert [value for _, value in stack.rows("SELECT value FROM cpu", BUCKET)] == [2]
        assert stack.rows("SELECT count(value) FROM cpu", BUCKET)[0][1] == 1
        stack.stop()
    damage(data, "UPDATE dictionary SET piece = zeroblob(9)", "UPDATE fields SET type = 3", "DELETE FROM replaced")
    reasons = [line.split("\t")[4] for line in verify(stack).stdout.splitlines()]
    assert sum("tags of series 0 to 0 are damaged" in reason for reason in reasons) == 2
    assert sum(reason.startswith("table fields: ") for reason in reasons) == 2

    empty = Stack(tmp_path / "nothing")
    assert verify(empty).returncode == 2
    (empty.folder / "data").mkdir(parents=True)
    (empty.folder / "data" / "tidegate.db").write_bytes(b"no database at all, whatever its name may say" * 100)
    assert "cannot verify: " in verify(empty).stderr


def test_nothing_is_damaged_after_storage_was_killed_at_work(own_stack: Stack) -> None:
    stack = own_stack
    for round_ in range(3):
        with ThreadPoolExecutor(4) as pool:
            lines = [f"cpu,host=h{round_}x{at} value={at} {at + 1}" for at in range(200)]
            writes = [pool.submit(stack.write, line, BUCKET) for line in lines]
            wait(writes[:50], return_when=ALL_COMPLETED)
            (pid,) = stack.pids("storage")
            stack.kill(pid)
        assert stack.write(f"cpu,host=last value={round_} {round_ + 1}", BUCKET).status_code == 204
        stack.wait_ready()
    stack.stop()
    found = verify(stack)
    assert (found.returncode, found.stdout) == (0, ""), found.stderr
