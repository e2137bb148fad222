"""Which instances of the other services live: leased records, kept in memory · pure.

After a start the list is empty and fills within one heartbeat of the instances.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from common.errors import Invalid, Unavailable

MAX_INSTANCES = 1000
MAX_LEASE_S = 60


class Instance(NamedTuple):
    """One process of a service and where it is reached."""

    instance: str
    service: str
    url: str


class Instances:
    """The leases.

    Args:
        clock_s: monotonic seconds.
        on_change: told the whole list whenever it changes.
    """

    def __init__(self, clock_s: Callable[[], float], on_change: Callable[[list[Instance]], None]) -> None:
        self._clock_s = clock_s
        self._on_change = on_change
        self._leases: dict[str, tuple[Instance, float]] = {}

    def listed(self) -> list[Instance]:
        """The live instances, in the order of their names."""
        return sorted(instance for instance, _ in self._leases.values())

    def register(self, instance: Instance, lease_s: float) -> None:
        """Take the lease, or renew it; 0 gives it back. Raises Invalid, or Unavailable at the bound."""
        if not 0 <= lease_s <= MAX_LEASE_S:
            raise Invalid(f"cannot register: a lease is 0 to {MAX_LEASE_S} s")
        known = self._leases.get(instance.instance)
        if lease_s == 0:
            if self._leases.pop(instance.instance, None) is not None:
                self._on_change(self.listed())
            return
        if known is None and len(self._leases) >= MAX_INSTANCES:
            raise Unavailable(f"cannot register: there are {MAX_INSTANCES} instances")
        self._leases[instance.instance] = (instance, self._clock_s() + lease_s)
        if known is None or known[0] != instance:
            self._on_change(self.listed())

    def expire(self) -> None:
        """Let the leases go that have run out."""
        now = self._clock_s()
        over = [name for name, (_, until) in self._leases.items() if until <= now]
        for name in over:
            del self._leases[name]
        if over:
            self._on_change(self.listed())
