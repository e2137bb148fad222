"""An event loop without waiting: when nothing is ready its clock jumps to the next timer."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

T = TypeVar("T")


class Deadlock(RuntimeError):
    """Nothing is ready, and nothing ever will be."""


class _Jump(selectors.SelectSelector):
    """Waits by moving the clock."""

    clock_s = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise Deadlock("all tasks wait for each other")
        self.clock_s += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """``time()`` begins at 0 and moves only while all tasks wait. What is given to threads runs in the loop itself,
    a moment later.

    Args:
        thread_delay_s: how long the next piece of work given to a thread takes.
    """

    def __init__(self, thread_delay_s: Callable[[], float]) -> None:
        self._jump = _Jump()
        self._thread_delay_s = thread_delay_s
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.clock_s

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self.create_future()

        def work() -> None:
            # Like a thread: it is done even when nobody waits for it any more.
            try:
                result = func(*args)
            except Exception as error:
                if not future.done():
                    future.set_exception(error)
            else:
                if not future.done():
                    future.set_result(result)

        self.call_later(self._thread_delay_s(), work)
        return future
