"""Simulated hosts and workers: the real services, built on a simulated loop, store and disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from sim_disk import Disk, SimJournal, sent_table
from sim_loop import Loop, World
from sim_policy import T0_MS, policies
from sim_store import Network, Server, SimStore

from decision_service.afterwards import Afterwards
from decision_service.core.limits import DAY_MS
from decision_service.core.policy import Policy
from decision_service.customers import Customers
from decision_service.decision_log import answer_in
from decision_service.journal.delivery import Deliverer
from decision_service.linker import Linker
from decision_service.recording import Retention
from decision_service.service import DecisionService
from decision_service.store import Commit

PARTITIONS = 4
RETENTION = Retention(400 * DAY_MS, 4_096, 256)


class NoMeters:
    """Counts nothing."""

    def __getattr__(self, name: str) -> Any:
        return _count_nothing


def _count_nothing(*_args: Any, **_named: Any) -> None:
    """Nothing."""


NO_METERS: Any = NoMeters()


class ActiveStub:
    """The policy in force of one worker: switched between two requests, as the real one does."""

    def __init__(self) -> None:
        self.current: Policy = policies()[0]

    def keep(self, *_args: Any) -> None:
        """Take no note."""


class Host:
    """A machine: a wall clock that may be wrong, and a disk that its workers share."""

    def __init__(self, world: World, name: str, tell: Callable[..., None]) -> None:
        self.world = world
        self.name = name
        self.wall_ahead_ms = 0
        self.disk = Disk(world, tell)
        self.workers: list[Worker] = []

    def now_ms(self) -> int:
        """The wall clock."""
        return T0_MS + self.wall_ahead_ms + int(self.world.now * 1_000)


class Worker:
    """One worker process; `start` begins a new life of it."""

    def __init__(self, world: World, host: Host, name: str, server: Server, network: Network) -> None:
        self.world = world
        self.host = host
        self.name = name
        self.alive = False
        self.lives = 0
        self.links = False
        self.gives_static = True  # the setting `static_answers`
        self.active = ActiveStub()
        self._server = server
        self._network = network
        self.loop: Loop
        self.store: SimStore
        self.decisions: DecisionService
        self.customers: Customers
        self.linker: Linker
        self.deliverer: Deliverer | None

    def start(self) -> None:
        """A fresh process."""
        self.lives += 1
        self.alive = True
        self.loop = Loop(self.world, self.name)
        self.store = SimStore(self.world, self.loop, self._server, self._network, PARTITIONS, self._sends)
        store: Any = self.store
        active: Any = self.active
        now_ms = self.host.now_ms
        self.linker = Linker(store, NO_METERS, now_ms, PARTITIONS, 1_024, 400 * DAY_MS)
        self.linker._worker = f"{self.name}{self.lives:6}".encode()[:8]
        self.journal = SimJournal(self.host.disk, self.loop)
        self.decisions = DecisionService(
            store, active, NO_METERS, PARTITIONS, RETENTION, self.linker, 5, now_ms, Afterwards(NO_METERS),
            monotonic=self.loop.time,
        )  # fmt: skip
        self.deliverer = None
        if self.gives_static:
            delivery = self.decisions.keep_journal(self.journal, sent_table(self.host.disk))
            self.deliverer = Deliverer(delivery, self.journal)
        self.customers = Customers(store, active, RETENTION, self.linker, now_ms)

        if self.links:
            self.link()

    def link(self) -> None:
        """Let its linker work, now and in every further life."""
        self.links = True
        self.linker._tasks = [self.loop.create_task(self.linker._work()), self.loop.create_task(self.linker._sweep())]

    def _sends(self, commit: Commit) -> None:
        """No decision leaves while its customer has an approval that this host told and the store does not know."""
        if commit.decision is None or self.deliverer is None:
            return
        if orjson.loads(answer_in(commit.decision[1]))["rung"] == "static":
            return  # a delivery: of one of these, or of one that another worker has just delivered
        rows, there = self.host.disk.journal.of_customer(commit.customer_id), self._server.memory._decisions
        for row in rows:
            if row.approved_minor and not row.doubtful and row.decision_id not in there:
                self.world.bugs.append(f"I2 {commit.decision[0]} is sent while {row.decision_id} is undelivered")

    def kill(self) -> None:
        """End it as `kill -9` does."""
        if self.alive:
            self.alive = False
            self.loop.kill()
