"""The quick start of the README, run as it is printed, against a fresh stack."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from tests.conftest import need
from tests.stack import ROOT, Stack

BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


def quick_start() -> tuple[list[str], str]:
    """The shell commands after ``make run``, and the answer that the README shows."""
    text = (ROOT / "README.md").read_text().partition("## Quick start")[2].partition("\n## ")[0]
    blocks = BLOCK.findall(text)
    commands = [body for language, body in blocks if language == "sh"]
    assert commands[0] == "make run\n"
    return commands[1:], next(body for language, body in blocks if language == "json")


def test_the_quick_start_does_what_it_says(tmp_path: Path) -> None:
    need("curl", "curl")
    stack = Stack(tmp_path / "stack", setup=False).start()
    try:
        (setup, write, query), shown = quick_start()

        def run(command: str) -> str:
            command = command.replace("localhost:8086", f"127.0.0.1:{stack.port}")
            return subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=30, check=True).stdout

        assert json.loads(run(setup))["auth"]["token"] == "my-first-token"
        assert run(write).startswith("HTTP/1.1 204")
        assert json.loads(run(query)) == json.loads(shown)
    finally:
        stack.stop()
