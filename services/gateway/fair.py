"""A queue that is fair between organizations · pure.

One item of each organization in turn: who floods waits for himself only.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """First in, first out within an organization; organizations take turns."""

    def __init__(self) -> None:
        self._by_org: OrderedDict[str, deque[T]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def push(self, org: str, item: T, *, front: bool = False) -> None:
        """Queue *item*; *front*: before the others of its organization (it was out already)."""
        queue = self._by_org.get(org)
        if queue is None:
            queue = self._by_org[org] = deque()
        if front:
            queue.appendleft(item)
        else:
            queue.append(item)
        self._count += 1

    def take(self, max_items: int, max_bytes: int = 0, size: Callable[[T], int] = lambda _item: 0) -> list[T]:
        """The next items, at most *max_items* and *max_bytes* in sum; a first item that is larger goes alone."""
        taken: list[T] = []
        total = 0
        while self._by_org and len(taken) < max_items:
            org, queue = next(iter(self._by_org.items()))
            bytes_more = size(queue[0])
            if taken and total + bytes_more > max_bytes:
                break
            taken.append(queue.popleft())
            total += bytes_more
            self._count -= 1
            if queue:
                self._by_org.move_to_end(org)
            else:
                del self._by_org[org]
        return taken

    def remove(self, unwanted: Callable[[T], bool]) -> list[T]:
        """Take out every item for which *unwanted* holds."""
        removed: list[T] = []
        for org in list(self._by_org):
            kept: deque[T] = deque()
            for item in self._by_org[org]:
                (removed if unwanted(item) else kept).append(item)
            if kept:
                self._by_org[org] = kept
            else:
                del self._by_org[org]
        self._count -= len(removed)
        return removed
