"""The supervisor: what it reads, who holds the folder, and what it does with processes that die."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from common.folder_lock import FolderHeld
from services.__main__ import FIRST_PAUSE_S, HEALTHY_AFTER_S, LONGEST_APART_S, next_pause
from services.hold import hold
from services.procfile import Line, counts_of, parse_procfile
from tests.stack import ROOT

LINES = [Line("storage", "x"), Line("ingest", "y")]


def test_a_procfile_is_name_and_command_a_line() -> None:
    assert parse_procfile("# all\n\nstorage: exec a b\ningest:  exec c\n") == [
        Line("storage", "exec a b"),
        Line("ingest", "exec c"),
    ]
    with pytest.raises(ValueError, match="line 2"):
        parse_procfile("a: b\nnonsense\n")


def test_counts_come_from_arguments_then_from_the_environment() -> None:
    assert counts_of(LINES, [], {}) == {}
    assert counts_of(LINES, [], {"INGEST": "3", "OTHER": "x"}) == {"ingest": 3}
    assert counts_of(LINES, ["ingest=2"], {"INGEST": "3"}) == {"ingest": 2}


@pytest.mark.parametrize("argument", ["nothing=1", "ingest", "ingest=x", "ingest=-1", "ingest=65"])
def test_a_wrong_count_is_refused_by_name(argument: str) -> None:
    with pytest.raises(ValueError, match=argument.partition("=")[0]):
        counts_of(LINES, [argument], {})


def test_a_held_folder_names_its_holder(tmp_path: Path) -> None:
    with hold(tmp_path), pytest.raises(FolderHeld, match=f"process {os.getpid()}"), hold(tmp_path):
        pass
    with hold(tmp_path):  # free again
        pass


def start(tmp_path: Path, procfile: str, *arguments: str) -> subprocess.Popen[bytes]:
    (tmp_path / "Procfile").write_text(procfile)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TIDEGATE_DATA": str(tmp_path / "data"), "TIDEGATE_PORT": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "services", *arguments], cwd=tmp_path, env=environment, stderr=subprocess.PIPE
    )


def wait_for(path: Path, lines: int) -> list[str]:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        text = path.read_text().splitlines() if path.exists() else []
        if len(text) >= lines:
            return text
        time.sleep(0.02)
    raise AssertionError(f"{path.name} has not got {lines} lines")


def test_what_dies_is_started_again_and_all_stop_in_order(tmp_path: Path) -> None:
    # Each service notes its start, and at SIGTERM its end.
    script = tmp_path / "service.sh"
    script.write_text(
        'echo "$TIDEGATE_INSTANCE $$" >> started\n'
        "trap 'echo \"$TIDEGATE_INSTANCE\" >> stopped; exit 0' TERM\n"
        "while :; do sleep 0.05; done\n"
    )
    names = ("storage", "auth", "ingest", "query", "gateway")
    procfile = "".join(f"{name}: exec sh service.sh\n" for name in names)
    process = start(tmp_path, procfile, "ingest=2")
    started = wait_for(tmp_path / "started", 6)
    victim = next(line for line in started if line.startswith("ingest.2"))
    os.kill(int(victim.split()[1]), signal.SIGKILL)
    assert wait_for(tmp_path / "started", 7)[6].startswith("ingest.2")
    process.terminate()
    assert process.wait(15) == 0
    stopped = [line.partition(".")[0] for line in wait_for(tmp_path / "stopped", 6)]
    assert stopped[0] == "gateway"
    assert sorted(stopped[1:4]) == ["ingest", "ingest", "query"]
    assert stopped[4:] == ["auth", "storage"]


def test_one_that_dies_at_once_is_started_ever_less_often() -> None:
    apart_s, pauses = FIRST_PAUSE_S, []
    for _ in range(8):
        apart_s, pause_s = next_pause(apart_s, lived_s=0.05)
        pauses.append(pause_s)
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_APART_S - 0.05
    # What it worked counts; and a long life makes all good.
    assert next_pause(apart_s, lived_s=LONGEST_APART_S) == (LONGEST_APART_S, FIRST_PAUSE_S)
    assert next_pause(apart_s, lived_s=HEALTHY_AFTER_S + 1) == (FIRST_PAUSE_S, FIRST_PAUSE_S)


def test_one_that_can_not_start_ends_everything_with_1_and_is_named(tmp_path: Path) -> None:
    process = start(tmp_path, "storage: exec sh -c 'exit 1'\ngateway: exec sleep 60\n")
    assert process.wait(15) == 1
    assert process.stderr is not None
    assert b"storage.1 can't start" in process.stderr.read()


def test_a_second_supervisor_on_the_folder_ends_with_1_and_harms_nothing(tmp_path: Path) -> None:
    first = start(tmp_path, "gateway: exec sleep 60\n")
    deadline = time.monotonic() + 10
    while not psutil.Process(first.pid).children() and time.monotonic() < deadline:
        time.sleep(0.02)
    second = start(tmp_path, "gateway: exec sleep 60\n")
    assert second.wait(10) == 1
    assert second.stderr is not None
    assert f"held by process {first.pid}".encode() in second.stderr.read()
    assert first.poll() is None
    first.terminate()
    assert first.wait(15) == 0


def test_a_wrong_count_ends_with_2_before_anything_starts(tmp_path: Path) -> None:
    process = start(tmp_path, "gateway: exec sleep 60\n", "gateway=many")
    assert process.wait(10) == 2


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("TIDEGATE_PORT", "abc", b"TIDEGATE_PORT: "),
        ("TIDEGATE_PORT", "65536", b"TIDEGATE_PORT: "),
        ("TIDEGATE_LOG_LEVEL", "loud", b"TIDEGATE_LOG_LEVEL: "),
        ("TIDEGATE_LOG_FORMAT", "xml", b"TIDEGATE_LOG_FORMAT: "),
        ("TIDEGATE_MEMORY_BYTES", "1g", b"TIDEGATE_MEMORY_BYTES: "),
        ("TIDEGATE_INTERNAL_KEY_FILE", "/nowhere/key", b"TIDEGATE_INTERNAL_KEY_FILE: cannot read /nowhere/key"),
        ("TIDEGATE_DATA", "/dev/null/x", b"cannot use the data folder /dev/null/x: Not a directory"),
    ],
)
def test_what_can_not_be_used_is_one_line_that_names_it(name: str, value: str, told: bytes, tmp_path: Path) -> None:
    environment = {**os.environ, "TIDEGATE_DATA": str(tmp_path), name: value}
    ended = subprocess.run(
        [sys.executable, "-m", "services"], cwd=ROOT, env=environment, stderr=subprocess.PIPE, timeout=20, check=False
    )
    assert ended.returncode == 1
    assert told in ended.stderr
    assert ended.stderr.count(b"\n") == 1


@pytest.mark.parametrize("service", ["gateway", "storage", "ingest", "query", "auth"])
def test_a_taken_port_ends_a_service_with_one_line_and_1(service: str, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        setting = "TIDEGATE_PORT" if service == "gateway" else f"TIDEGATE_{service.upper()}_PORT"
        environment = {
            **os.environ,
            "TIDEGATE_DATA": str(tmp_path),
            "TIDEGATE_HOST": "127.0.0.1",
            "TIDEGATE_STORAGE_URL": "http://127.0.0.1:1",
            "TIDEGATE_AUTH_URL": "http://127.0.0.1:1",
            setting: str(port),
        }
        ended = subprocess.run(
            [sys.executable, "-m", f"services.{service}"],
            cwd=ROOT, env=environment, stderr=subprocess.PIPE, timeout=30, check=False,
        )  # fmt: skip
    assert ended.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use".encode() in ended.stderr
    assert b"Traceback" not in ended.stderr
