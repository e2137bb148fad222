"""Live instances of ingest and query, as the feed tells them: least in flight first, a dead one not until later.

Knows no network: the clock comes in, and callers say how their calls went.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

FIRST_PAUSE_S = 0.1
MAX_PAUSE_S = 2.0


@dataclass(slots=True, eq=False)
class Replica:
    """One instance.

    Attributes:
        in_flight: calls of any kind under way.
        batches: those among them that carry small writes.
        streams: those among them that carry a large write.
        resting_until_s: not used before, unless there is no other.
    """

    instance: str
    service: str
    url: str
    in_flight: int = 0
    batches: int = 0
    streams: int = 0
    resting_until_s: float = 0.0
    pause_s: float = FIRST_PAUSE_S


class Replicas:
    """The instances of all services.

    Args:
        clock_s: monotonic seconds.
    """

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s
        self._by_instance: dict[str, Replica] = {}
        self._by_service: dict[str, list[Replica]] = {}
        self._turn = 0
        self.listeners: list[Callable[[], None]] = []

    def update(self, instances: Iterable[Sequence[str]]) -> None:
        """Take the whole list ``[[instance, service, url], …]`` as the truth about who lives."""
        fresh: dict[str, Replica] = {}
        for instance, service, url in instances:
            known = self._by_instance.get(instance)
            fresh[instance] = known if known is not None and known.url == url else Replica(instance, service, url)
        self._by_instance = fresh
        self._by_service = {}
        for replica in fresh.values():
            self._by_service.setdefault(replica.service, []).append(replica)
        self.tell()

    def of(self, service: str) -> list[Replica]:
        """All live instances of *service*."""
        return list(self._by_service.get(service, ()))

    def everyone(self) -> list[Replica]:
        return list(self._by_instance.values())

    def find(self, service: str, fits: Callable[[Replica], bool] = lambda _replica: True) -> Replica | None:
        """The replica of *service* with the least in flight among those that *fit* and do not rest, or None."""
        replicas = self._by_service.get(service)
        if not replicas:
            return None
        now_s = self._clock_s()
        best: Replica | None = None
        # Where several are equal they take turns.
        self._turn += 1
        for position in range(len(replicas)):
            replica = replicas[(position + self._turn) % len(replicas)]
            if replica.resting_until_s > now_s or not fits(replica):
                continue
            if best is None or replica.in_flight < best.in_flight:
                best = replica
        return best

    def failed(self, replica: Replica) -> None:
        """A call could not reach *replica*: leave it alone for a while, each time for longer."""
        replica.resting_until_s = self._clock_s() + replica.pause_s
        replica.pause_s = min(replica.pause_s * 2, MAX_PAUSE_S)

    def busy(self, replica: Replica) -> None:
        """*replica* said that it can't take more now: others first."""
        replica.resting_until_s = self._clock_s() + FIRST_PAUSE_S

    def worked(self, replica: Replica) -> None:
        """A call to *replica* was answered."""
        replica.pause_s = FIRST_PAUSE_S
        replica.resting_until_s = 0.0

    def tell(self) -> None:
        """Tell the listeners that there may be room or somebody new."""
        for listener in self.listeners:
            listener()
