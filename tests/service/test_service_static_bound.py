"""One host never lends more than the line, whatever its store, its disk and its workers do.

Two workers of one host in virtual time: everything a worker waits for takes a drawn while, the store goes away from
each of them and comes back, loses commits and replies, writes fail, callers hang up, and workers die and start again.
After every answer and every commit all that was approved is added up: there is no allowance for small amounts.

`SEEDS` in the environment makes more histories of it than the suite has time for.
"""

from __future__ import annotations

import asyncio
import os
import random
import selectors
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
import pytest
from conftest_service import LINE, Clock, ask, write_policy
from static_cases import PARTITIONS, STATIC_RULES, clean

from decision_service.answer import Answer
from decision_service.core.errors import DecisionServiceError, JournalUnavailable, OutcomeUnknown, StoreUnavailable
from decision_service.core.event import words_of
from decision_service.core.ledger import position_of
from decision_service.core.limits import DAY_MS, HOUR_MS
from decision_service.core.policy import Policy
from decision_service.core.request import DecisionRequest
from decision_service.core.state import CustomerState
from decision_service.decision_log import answer_in
from decision_service.journal import Conflict, StaticRow
from decision_service.journal.delivery import Deliverer
from decision_service.journal.memory import MemoryJournal, MemorySentTable
from decision_service.linker import Linker
from decision_service.policies.loading import load_policy
from decision_service.recording import Retention
from decision_service.service import DecisionService
from decision_service.store import Commit
from decision_service.store.keys import decision_id_of
from decision_service.store.memory import MemoryStore
from decision_service.warm import warm

SEEDS = int(os.environ.get("SEEDS", "250"))
LIMIT_MINOR = LINE.limit_minor
QUESTIONS = 6
BUDGET_MS = 60
HEALED_MS = 5_000


class _Skipping(selectors.SelectSelector):
    """Does not wait: the time it should have waited has passed."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        self.now += timeout or 0.0
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose time jumps to the next timer when nothing is left to do."""

    def __init__(self) -> None:
        self._skipping = _Skipping()
        super().__init__(self._skipping)

    def time(self) -> float:
        """Virtual seconds."""
        return self._skipping.now


class NoMeters:
    """Counts nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_args, **_named: None


class Active:
    """The policy in force."""

    def __init__(self) -> None:
        self.current = policy()

    def keep(self, *_args: Any) -> None:
        """Take no note."""


@cache
def policy() -> Policy:
    """The small policy, which pays small amounts up to 500."""
    with TemporaryDirectory() as folder:
        models = Path(folder) / "models"
        models.mkdir()
        loaded, _ = load_policy(write_policy(Path(folder) / "rules", STATIC_RULES), models, "Asia/Shanghai",
                                24 * HOUR_MS)  # fmt: skip
    warm(loaded)
    return loaded


class World:
    """The trouble of one seed, and all that was approved."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.healed = False
        self.slow_s = self.rng.choice((0.000_1, 0.001, 0.004))
        self.bad = self.rng.choice((0.0, 0.1, 0.5))
        self.failing_disk = self.rng.choice((0.0, 0.0, 0.1))
        self.store = MemoryStore(partitions=PARTITIONS)
        self.journal = HastyJournal(self)
        self.marks: list[set[str]] = []
        self.told: dict[str, set[bytes]] = {}
        self.broken: list[str] = []
        self.clock = Clock()

    async def wait(self, s: float | None = None) -> None:
        """A drawn while."""
        if not self.healed:
            await asyncio.sleep(self.rng.random() * (self.slow_s if s is None else s))

    def tell(self, request: DecisionRequest, answer: Answer) -> None:
        """An answer reached its caller."""
        self.told.setdefault(request.request_id, set()).add(answer.body)
        self.check()

    def check(self) -> None:
        """No more is promised than the line, nor does the log say more."""
        bodies = {body for told in self.told.values() for body in told}
        said = [orjson.loads(body) for body in bodies]
        approved_minor = sum(round(100 * answer["approved_amount"]) for answer in said)
        if approved_minor > LIMIT_MINOR:
            self.broken.append(f"{approved_minor} was promised")
        state = self.store._customers.get("c-1")
        if state is not None:
            position = position_of(LINE, words_of(state.log), self.clock(), 24 * HOUR_MS)
            if position.reserved_minor > LIMIT_MINOR:
                self.broken.append(f"{position.reserved_minor} stands in the log")


class HastyJournal(MemoryJournal):
    """A disk: what is written is there a while before its writer knows, and may fail."""

    def __init__(self, world: World) -> None:
        super().__init__(self._slowly)
        self._world = world

    async def _slowly(self) -> None:
        await self._world.wait()
        if not self._world.healed and self._world.rng.random() < self._world.failing_disk:
            raise JournalUnavailable("full")

    async def write(self, row: StaticRow) -> StaticRow | None:
        """Write; known a while later."""
        written = await super().write(row)
        await self._world.wait()
        return written

    async def oldest(self, after_seq: int, limit: int) -> list[StaticRow]:
        """Read; they may have changed by the time they are looked at."""
        rows = await super().oldest(after_seq, limit)
        await self._world.wait()
        return rows

    async def keep_conflict(self, conflict: Conflict) -> bool:
        """On one host nothing that was told is contradicted, nor anything that approves."""
        told = {body for bodies in self._world.told.values() for body in bodies}
        if conflict.approved_minor or answer_in(conflict.frame) in told:
            self._world.broken.append(f"a conflict: {conflict.kind} of {conflict.approved_minor}")
        return await super().keep_conflict(conflict)


class Road(MemoryStore):
    """One worker's way to the store."""

    def __init__(self, world: World) -> None:
        super().__init__(partitions=PARTITIONS)
        self.__dict__.update(world.store.__dict__)
        self._world = world
        self.away = False

    async def _pass(self) -> None:
        await self._world.wait()
        if self.away and not self._world.healed:
            raise StoreUnavailable("away")

    async def read(self, customer_id: str, decision_id: str | None, timeout_s: float) -> CustomerState:
        """Read, and hear of it later."""
        await self._pass()
        state = await super().read(customer_id, decision_id, timeout_s)
        await self._world.wait()
        return state

    async def read_decision(self, decision_id: str, timeout_s: float) -> bytes | None:
        """Read."""
        await self._pass()
        return await super().read_decision(decision_id, timeout_s)

    async def commit(self, commit: Commit, timeout_s: float) -> int:
        """Commit; lost on the way there or back now and then."""
        await self._pass()
        world = self._world
        fate = "" if world.healed or world.rng.random() > world.bad else world.rng.choice(("lost", "unheard", "down"))
        if fate == "lost":
            raise OutcomeUnknown("lost")
        if fate == "down":
            raise StoreUnavailable("down")
        version = await super().commit(commit, timeout_s)
        world.check()
        await world.wait()
        if fate == "unheard":
            raise OutcomeUnknown("unheard")
        return version


class Worker:
    """One worker, in any of its lives."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.tasks: set[asyncio.Task[Any]] = set()
        self.start()

    def start(self) -> None:
        """A new life, with the files of the host."""
        world, nothing, active = self.world, NoMeters(), Active()
        used: Any = nothing
        in_force: Any = active
        self.road = Road(world)
        linker = Linker(self.road, used, world.clock, PARTITIONS, 1_024, 400 * DAY_MS)
        retention = Retention(400 * DAY_MS, 4_096, 256)
        self.decisions = DecisionService(
            self.road, in_force, used, PARTITIONS, retention, linker, 1_000, world.clock,
            monotonic=asyncio.get_running_loop().time,
        )  # fmt: skip
        delivery = self.decisions.keep_journal(world.journal, MemorySentTable(world.marks))
        self.deliverer = Deliverer(delivery, world.journal)

    def run(self, coroutine: Any) -> asyncio.Task[Any]:
        """Do something that ends with the worker."""
        task = asyncio.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def die(self) -> None:
        """Nothing goes on; start again."""
        for task in self.tasks:
            task.cancel()
        self.start()

    async def decide(self, request: DecisionRequest, budget_ms: int = BUDGET_MS) -> None:
        """Ask, and tell the world."""
        now = asyncio.get_running_loop().time()
        try:
            answer = await self.decisions.decide(request, budget_ms, now)
        except DecisionServiceError:
            return
        self.world.tell(request, answer)


def question(rng: random.Random, name: str) -> DecisionRequest:
    """A drawdown: small ones on a clean snapshot, and large ones, which together are more than the line."""
    if rng.random() < 0.5:
        return clean(name, rng.choice((300_00, 500_00)))
    return rng.choice((ask, clean))(name, rng.choice((600_00, 1_000_00, 1_000_00)))


async def happen(seed: int) -> World:
    """The history of a seed."""
    world = World(seed)
    rng = world.rng
    line = Commit("c-1", 0, facilities={LINE.facility_id: LINE})
    await world.store.claim_facility(LINE.facility_id, "c-1", 1.0)
    await world.store.commit(line, 1.0)
    workers = [Worker(world), Worker(world)]
    questions = [question(rng, f"r-{n}") for n in range(QUESTIONS)]
    horizon_s = rng.choice((0.002, 0.01, 0.05))

    async def at_some_time(act: Callable[[], Any]) -> None:
        await asyncio.sleep(rng.random() * horizon_s)
        act()

    def turn() -> None:
        road = rng.choice(workers).road
        road.away = not road.away

    def call() -> None:
        worker = rng.choice(workers)
        worker.run(worker.decide(rng.choice(questions)))

    def hang_up() -> None:
        going = sorted(rng.choice(workers).tasks, key=lambda task: task.get_name())
        if going:
            rng.choice(going).cancel()

    def deliver() -> None:
        worker = rng.choice(workers)
        worker.run(a_round(worker))

    workers[0].road.away = rng.random() < 0.8
    acts = [call] * 18 + [turn] * rng.choice((0, 0, 2, 8)) + [deliver] * 4 + [hang_up] * rng.choice((0, 0, 3))
    acts += [lambda: rng.choice(workers).die()] * rng.choice((0, 0, 2))
    await asyncio.gather(*(at_some_time(act) for act in acts))
    await asyncio.gather(*(task for worker in workers for task in worker.tasks), return_exceptions=True)
    world.healed = True
    for _ in range(20):
        await a_round(workers[0])
    assert world.journal.pending == 0
    for request in questions:
        for worker in workers:
            await worker.decide(request, HEALED_MS)
        frame = await world.store.read_decision(decision_id_of("c-1", request.request_id, PARTITIONS), 1)
        assert frame is not None
        assert world.told[request.request_id] == {answer_in(frame)}, f"{request.request_id}: told twice differently"
    world.check()
    assert not world.broken, world.broken[0]
    return world


async def a_round(worker: Worker) -> None:
    """Deliver, if the store takes it."""
    try:
        await worker.deliverer.round()
    except (StoreUnavailable, JournalUnavailable):
        return


def run(seed: int) -> World:
    """The history of a seed, in a loop of its own."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(happen(seed))


@pytest.mark.fault("A03", "A05", "A06", "D02", "D07", "D19")
@pytest.mark.parametrize("shard", range(10))
def test_one_host_never_lends_more_than_the_line(shard: int) -> None:
    """In every history, after every answer and every commit; and each question has one answer, which is stored."""
    for seed in range(shard * SEEDS // 10, (shard + 1) * SEEDS // 10):
        try:
            run(seed)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}") from error
