"""Fixtures that every test may use, and the rule that a skip for want of a tool is a failure in CI."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.faults.report import CASES
from tests.stack import Stack

# How long an example takes tells how busy the machine is, not whether it is right.
settings.register_profile("tidegate", deadline=None)
settings.load_profile("tidegate")


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The five real services, set up, shared by the tests of one worker: each test makes buckets of its own."""
    stack = Stack(tmp_path_factory.mktemp("stack")).start()
    yield stack
    stack.stop()


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[Stack]:
    """A stack for one test alone, that it may hurt."""
    stack = Stack(tmp_path / "stack").start()
    yield stack
    if stack.process is not None:
        stack.stop()


@pytest.fixture
def bucket(stack: Stack) -> str:
    """The name of a fresh bucket, which is a database of the same name."""
    name = f"b{uuid.uuid4().hex[:12]}"
    stack.make_bucket(name)
    return name


def need(program: str, package: str) -> str:
    """The path of *program*; without it the test is skipped and names the package (in CI it fails)."""
    path = shutil.which(program)
    if path is None:
        reason = f"{program} is not installed: package {package}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return path


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The cases of the run together, where one process ran them all (``make faults``)."""
    if CASES:
        terminalreporter.section("cases")
        for line in CASES:
            terminalreporter.line(line)
        failed = sum(line.endswith("FAIL") for line in CASES)
        terminalreporter.line(f"{len(CASES)} cases, {failed} failed")
