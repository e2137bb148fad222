"""One seed, from its faults to its findings. ``python -m tests.simulation SEED`` prints the trace of one."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from common.errors import Gone, InfluxError
from common.lineprotocol import compiled
from common.segment import decode_block
from tests.simulation.check import Stored, check, check_reading, values_of
from tests.simulation.cluster import BUCKETS, REMEMBERED_MS, STORAGE_URL, Cluster, Shape, client_of
from tests.simulation.loop import VirtualLoop
from tests.simulation.network import Faults, Network, task_factory
from tests.simulation.workload import Client, History, make_clients

# A run that is not over by then hangs.
LONGEST_S = 600.0
ALL = {"start_ns": -(1 << 63) + 1, "stop_ns": (1 << 63) - 1}


@dataclass(slots=True)
class Outcome:
    """What one seed has shown.

    Attributes:
        findings: what does not hold.
        counts: what the clients were told, kills, commits.
        trace: what happened, each line with its time.
    """

    seed: int
    findings: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    trace: list[str] = field(default_factory=list)


def simulate(seed: int) -> Outcome:
    """Run *seed*. Everything that is drawn comes from it, so another run of it is the same run."""
    compiled.prepare()
    outcome = Outcome(seed)
    draw = random.Random(seed)
    thread_draw = random.Random(f"{seed} threads")
    loop = VirtualLoop(lambda: thread_draw.uniform(0, 0.002))
    loop.set_task_factory(task_factory)

    def note_failure(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        outcome.findings.append(f"{context['message']}: {context.get('exception')!r}")

    loop.set_exception_handler(note_failure)
    try:
        loop.run_until_complete(asyncio.wait_for(_Run(outcome, draw, loop.time).run(), LONGEST_S))
    except (Exception, asyncio.CancelledError) as error:
        outcome.findings.append(f"the run ended with {error!r}")
    finally:
        loop.run_until_complete(_end_others())
        loop.close()
    return outcome


async def _end_others() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


class _Run:
    """The run of one seed."""

    def __init__(self, outcome: Outcome, draw: random.Random, clock_s: Callable[[], float]) -> None:
        self._outcome = outcome
        self._draw = draw
        self._clock_s = clock_s
        self._history = History()
        seed = str(outcome.seed)
        self._network = Network(seed, trace=lambda line: outcome.trace.append(f"{clock_s():9.4f} {line}"))
        self._shape = Shape(
            ingests=draw.randint(1, 3),
            calls=draw.choice((1, 2, 4)),
            max_series=draw.choice((0, 0, 0, 6)),
        )
        self._faults = Faults(
            lost_request=draw.choice((0, 0.02, 0.2)),
            lost_answer=draw.choice((0, 0.02, 0.2)),
            repeated=draw.choice((0, 0.05, 0.3)),
            delay_s=draw.choice((0.001, 0.005, 0.05)),
            slow=draw.choice((0, 0, 0.05)),
            slow_s=draw.choice((0.5, 3)),
            late_s=draw.choice((0.05, 1, 3)),
            feed_cut=draw.choice((0, 0, 0.05)),
        )
        # Some runs go on until writes have been forgotten, and repeats come even later.
        self._is_long = draw.random() < 0.1
        if self._is_long:
            self._faults.late_s = 2 * REMEMBERED_MS / 1000
        self._deaths = draw.choice(((0, 0), (0.02, 0.02), (0, 0.08)))

    async def run(self) -> None:
        cluster = self._cluster = Cluster(self._network.seed, self._shape, self._network)
        await cluster.start()
        self._network.faults = self._faults
        cluster.disk.deaths = self._deaths
        cluster.disk.commit_s = self._draw.choice((0.002, 0.02, 0.1))
        clients = make_clients(self._network.seed, self._draw.randint(2, 6), cluster.gateway.submit, self._history)
        troubles = asyncio.create_task(self._make_trouble(cluster))
        await asyncio.gather(*(self._work(client) for client in clients))
        troubles.cancel()
        await asyncio.gather(troubles, return_exceptions=True)
        await self._heal(cluster)
        for operation in await asyncio.gather(*(client.write() for client in clients)):
            if not operation.is_settled:
                self._outcome.findings.append(f"nothing is broken any more, and {operation} is refused")
        # What still wanders about arrives.
        await asyncio.sleep(self._faults.late_s + (REMEMBERED_MS / 1000 if self._is_long else 0))
        await cluster.all_up()
        assert cluster.storage is not None
        self._outcome.findings += await check(self._history, cluster.disk, cluster.storage, self._shape.max_series)
        self._outcome.findings += self._network.crimes
        self._outcome.counts.update(self._history.told)
        self._outcome.counts["commits"] += len(cluster.disk.commits)
        self._outcome.counts["kills"] += sum("is killed" in line for line in self._outcome.trace)
        await cluster.stop()

    async def _work(self, client: Client) -> None:
        draw = random.Random(f"{self._network.seed} reads {client.number}")
        await asyncio.sleep(draw.uniform(0, 0.01))
        for number in range(draw.randint(2, 5)):
            operation = await client.write(contested=number == 0 and client.number > 0)
            told = "ok" if operation.error is None else f"{operation.error.code}: {operation.error}"
            self._network.trace(f"client {client.number}: {[line.text() for line in operation.lines]} -> {told}")
            if operation.error is None and draw.random() < 0.3:
                await self._read(client)
            await client.pause()

    async def _read(self, client: Client) -> None:
        """As a query does: plan, fetch; all that was acknowledged before has to be there."""
        reader = client_of(self._network, "query")
        began_s = self._clock_s()
        values: list[tuple[int, Stored]] = []
        try:
            for bucket in BUCKETS.values():
                head = {"bucket_id": bucket.id, "measurements": {"m0": -1, "m1": -1}, **ALL}
                plan = (await reader.call(STORAGE_URL, "storage.plan", head)).head
                for found in plan["measurements"].values():
                    for segment, order, meta in found["segments"]:
                        chunks = {"chunks": [[segment, list(range(len(meta["chunks"])))]]}
                        parts = (await reader.call(STORAGE_URL, "storage.fetch", chunks)).parts
                        values += [(order, one) for one in values_of(decode_block(meta, parts), order)]
        except Gone:
            return  # planned again by a real query
        except InfluxError:
            return
        ordered = [one for _, one in sorted(values, key=lambda pair: pair[0])]
        self._outcome.counts["readings"] += 1
        self._outcome.findings += check_reading(self._history, client.number, ordered, began_s)

    async def _make_trouble(self, cluster: Cluster) -> None:
        draw = random.Random(f"{self._network.seed} trouble")
        names = ["storage", *(f"ingest{number}" for number in range(self._shape.ingests))]
        kinds = draw.sample(("kill", "cut", "full", "calm"), 2)
        while True:
            await asyncio.sleep(draw.expovariate(1))
            kind, name = draw.choice(kinds), draw.choice(names)
            if kind == "kill":
                cluster.kill(name)
            elif kind == "cut":
                self._network.trace(f"{name} is cut off")
                self._network.cut_off.add(name)
                await asyncio.sleep(draw.uniform(0, 4))
                self._network.cut_off.discard(name)
            elif kind == "full":
                self._network.trace("the disk is full")
                cluster.disk.is_full = True
                await asyncio.sleep(draw.uniform(0, 2))
                cluster.disk.is_full = False

    async def _heal(self, cluster: Cluster) -> None:
        self._network.trace("everything is whole again")
        self._network.faults = Faults(delay_s=self._faults.delay_s)
        self._network.cut_off.clear()
        cluster.disk.is_full = False
        cluster.disk.deaths = (0, 0)
        await cluster.all_up()
