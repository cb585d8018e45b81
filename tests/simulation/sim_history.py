"""One history: what one seed draws, and what comes of it.

    draw       hosts, workers, questions, attempts, events, faults: each seed its own subset and sizes (swarm testing)
    happen     everything at its drawn instant or step, up to HEALED_S
    heal       all faults end; dead workers come back
    probe      every question is asked once more, of some worker: it must be answered, and as before
    check      `sim_check.violations`

A history draws everything from one `Random(seed)`, so a seed is a history. `trace` holds what happened, in order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from random import Random
from typing import Any, Final

from sim_loop import World
from sim_policy import (
    AMOUNTS_MINOR,
    LIMIT_MINOR,
    line_of,
    policies,
    question,
    repayment,
    settlement,
)
from sim_real import nothing_real
from sim_store import FATES, Network, Server
from sim_worker import PARTITIONS, Host, Worker

from decision_service.answer import Answer
from decision_service.core.errors import DecisionServiceError, JournalUnavailable, StoreError
from decision_service.core.event import BOOKED, CANCELLED, FAILED
from decision_service.core.request import DecisionRequest, PostedEvent
from decision_service.store.keys import decision_id_of

HORIZONS_S: Final = (0.000_5, 0.004, 0.03, 0.2)  # in which everything but the healing happens
BUDGETS_MS: Final = (2, 5, 10, 20, 50)
PROBE_BUDGET_MS: Final = 2_000
SMALL_AMOUNT_MINOR: Final = 45_00  # one of AMOUNTS_MINOR
HEALED_S: Final = 1.0
FAULTS: Final = (
    "network", "cut", "freeze", "kill_server", "flush", "crash", "stall", "power", "clock", "breaker", "slow_cpu",
    "cancel", "other_content", "reload", "disk",
)  # fmt: skip


@dataclass(slots=True)
class Attempt:
    """One call of one caller and what came of it."""

    number: int
    question: int
    request: DecisionRequest
    worker: str
    host: str
    budget_ms: int
    probe: bool = False
    began: float = 0.0
    ended: float = -1.0  # never, if the worker died
    stalled: bool = False  # the worker stood still meanwhile
    cancelled: bool = False
    died: bool = False  # with its worker
    result: Answer | DecisionServiceError | None = None


@dataclass(slots=True)
class Posted:
    """One call of `record_events` with one event; `status` is what the caller was told, empty for nothing."""

    event: PostedEvent
    status: str = ""


class History:
    """The history of one seed."""

    def __init__(self, seed: int, crash_at: int = 0) -> None:
        """`crash_at`: besides everything else the first worker dies before this step; 0 for never."""
        self.seed = seed
        self.crash_at = crash_at
        self.world = World(seed)
        self.trace: list[tuple[Any, ...]] = []
        self.attempts: list[Attempt] = []
        self.posted: list[Posted] = []
        rng = self.rng = self.world.rng
        self.faults = {fault for fault in FAULTS if rng.random() < 0.25}
        self.profile = rng.choice(("fast", "safe", "safe"))
        self.network = Network(latency_s=rng.choice((0.000_1, 0.000_5, 0.002)))
        self.server = Server(self.world, PARTITIONS, self.profile, self.tell)
        self.hosts = [Host(self.world, f"h{i}", self.tell) for i in range(rng.choice((1, 1, 2)))]
        for host in self.hosts:
            for i in range(rng.choice((1, 2))):
                host.workers.append(Worker(self.world, host, f"{host.name}w{i}", self.server, self.network))
        self.workers = [worker for host in self.hosts for worker in host.workers]
        self.horizon_s = rng.choice(HORIZONS_S)
        self.linked = rng.random() < 0.1
        self.static = rng.random() < 0.85
        for worker in self.workers:
            worker.gives_static = self.static
        self.questions: list[tuple[int, int, bool, bool, int]] = []
        self.policy_ids = {policy.id for policy in policies()}

    # --- telling --------------------------------------------------------------------------------------------------

    def tell(self, what: str, *details: Any) -> None:
        """Keep what happened."""
        self.trace.append((self.world.steps, self.world.now, what, *details))

    def digest(self) -> str:
        """What tells this trace from another."""
        return blake2b(repr(self.trace).encode(), digest_size=16).hexdigest()

    # --- drawing --------------------------------------------------------------------------------------------------

    def _draw(self) -> None:
        rng = self.rng
        customers = rng.choice((1, 1, 2))
        for _ in range(rng.choice((1, 1, 2, 2, 3))):
            snapshot = rng.random() < 0.6
            dated_back_ms = 0 if rng.random() < 0.9 else rng.choice((60_000, 3_600_000, 30 * 3_600_000))
            device = self.linked and rng.random() < 0.8
            self.questions.append(
                (rng.randrange(customers), rng.choice(AMOUNTS_MINOR), snapshot, device, dated_back_ms)
            )
        for worker in self.workers:
            worker.active.current = policies()[self.linked]
            if self.linked:
                worker.link()
        for customer in range(customers):
            if rng.random() < 0.8:  # the line was known before
                self.server.run("claim_facility", (f"f-{customer}", f"c-{customer}"))
                self._open(customer)
        home = rng.choice(self.workers)
        sticky = rng.random() < 0.5
        for number in range(len(self.questions)):
            for _ in range(rng.choice((1, 1, 2, 3))):
                worker = home if sticky else rng.choice(self.workers)
                other = "other_content" in self.faults and rng.random() < 0.3
                self._at_some_time(self.ask, number, worker, rng.choice(BUDGETS_MS), other)
        if rng.random() < 0.2:
            self._draw_duel()
        if rng.random() < 0.2:  # the store is back, and nothing is delivered yet
            self.questions.append(self.questions[0])
            self.world.at(HEALED_S + 1, self.ask, len(self.questions) - 1, home, max(BUDGETS_MS), False)
        for number in range(rng.choice((0, 0, 1, 2))):
            self._at_some_time(self._some_event, f"e-{number}", rng.random())
        for _ in range(rng.choice((0, 1, 2))):
            self._at_some_time(self._deliver, rng.choice(self.workers))
        for fault in FAULTS:
            if fault in self.faults:
                getattr(self, f"_draw_{fault}")()
        self._draw_beside(Random(f"beside {self.seed}"))

    def _draw_beside(self, rng: Random) -> None:
        """A small amount is asked of a worker that has no store, and almost at once more than is left beside it of one
        that has, which also delivers. Drawn apart, so that the other histories stay as they are."""
        workers = self.hosts[0].workers
        if len(workers) < 2 or rng.random() > 0.2:
            return
        for amount_minor, worker, from_s in (
            (SMALL_AMOUNT_MINOR, workers[0], 0.0),
            (max(AMOUNTS_MINOR), workers[1], -4),
        ):
            at = self.horizon_s / 2 + 0.01 + rng.random() * from_s * self.network.latency_s
            if not from_s:
                self.world.at(at, self._open_breaker, worker, 0.01)
            self.questions.append((0, amount_minor, True, False, 0))
            self.world.at(at, self.ask, len(self.questions) - 1, worker, max(BUDGETS_MS), False)
            self.world.at(at + rng.random() * 0.002, self._deliver, workers[1])

    def _draw_duel(self) -> None:
        """All workers of a host are asked the same at almost one instant."""
        rng = self.rng
        number, budget_ms = rng.randrange(len(self.questions)), rng.choice(BUDGETS_MS)
        at = rng.random() * self.horizon_s
        for worker in rng.choice(self.hosts).workers:
            self.world.at(at + rng.random() * 2 * self.network.latency_s, self.ask, number, worker, budget_ms, False)

    def _open(self, customer: int) -> None:
        from decision_service.store import Commit

        line = line_of(customer)
        self.server.run("commit", (Commit(line.customer_id, 0, facilities={line.facility_id: line}),))

    def _at_some_time(self, callback: Callable[..., None], *args: Any) -> None:
        self.world.at(self.rng.random() * self.horizon_s, callback, *args)

    def _window(self, name: str, begin: Callable[[], None], end: Callable[[], None]) -> None:
        """Something that lasts a while."""
        rng = self.rng
        start = rng.random() * self.horizon_s
        self.world.at(start, self._told, f"{name} begins", begin)
        self.world.at(start + rng.random() * rng.choice((0.005, 0.05, 0.4)), self._told, f"{name} ends", end)

    def _told(self, what: str, callback: Callable[[], None]) -> None:
        self.tell(what)
        callback()

    def _at_some_step(self, callback: Callable[[], None]) -> None:
        self.world.stops[self.rng.randrange(1, self.rng.choice((12, 40, 100)))] = callback

    # --- faults ---------------------------------------------------------------------------------------------------

    def _draw_network(self) -> None:
        self.network.chance = self.rng.choice((0.05, 0.2, 0.5))
        self.network.fates = tuple(fate for fate in FATES if self.rng.random() < 0.5) or FATES
        self.network.late_s = self.rng.choice((0.005, 0.05))

    def _draw_cut(self) -> None:
        worker = self.rng.choice(self.workers).name
        self._window(f"cut of {worker}", lambda: self.network.cut.add(worker), lambda: self.network.cut.discard(worker))

    def _draw_freeze(self) -> None:
        self._window("freeze", self.server.freeze, self._thaw)

    def _thaw(self) -> None:
        if self.server.frozen:
            self.server.thaw()

    def _draw_kill_server(self) -> None:
        power = self.rng.random() < 0.5
        if self.profile == "fast" and power:
            for _ in range(2):
                self._at_some_time(self.server.sync)
        name = "power cut of the store" if power else "kill of the store"
        self._window(name, lambda: self.server.kill(power), self.server.start)

    def _draw_flush(self) -> None:
        lose = partial(setattr, self.server, "history_lost")
        self._window("lost history", lambda: lose(True), lambda: lose(False))

    def _draw_crash(self) -> None:
        for _ in range(self.rng.choice((1, 1, 3))):
            worker = self.rng.choice(self.workers)
            self._at_some_step(lambda worker=worker: self.crash(worker))  # type: ignore[misc]

    def crash(self, worker: Worker) -> None:
        """`kill -9`; the supervisor starts it again a little later."""
        self.tell("crash", worker.name)
        worker.kill()
        for attempt in self.attempts:
            if attempt.worker == worker.name and attempt.ended < 0:
                attempt.died = True
        self.world.at(self.world.now + self.rng.random() * 0.02, self._start_again, worker)

    def _start_again(self, worker: Worker) -> None:
        if not worker.alive:
            self.tell("start", worker.name)
            worker.start()

    def _draw_stall(self) -> None:
        worker = self.rng.choice(self.workers)
        until_s = self.rng.random() * self.rng.choice((0.01, 0.1))
        self._at_some_step(lambda: self._stall(worker, until_s))

    def _stall(self, worker: Worker, for_s: float) -> None:
        self.tell("stall", worker.name, for_s)
        worker.loop.stalled_until = self.world.now + for_s
        for attempt in self.attempts:
            if attempt.worker == worker.name and attempt.ended < 0:
                attempt.stalled = True

    def _draw_power(self) -> None:
        host = self.rng.choice(self.hosts)
        self._at_some_step(lambda: self._power(host))

    def _power(self, host: Host) -> None:
        self.tell("power", host.name)
        host.disk.power_cut()
        for worker in host.workers:
            self.crash(worker)

    def _draw_clock(self) -> None:
        for _ in range(self.rng.choice((1, 2))):
            host = self.rng.choice(self.hosts)
            step_ms = self.rng.choice((-3_600_000, -5_000, -50, 50, 5_000, 3_600_000, 2 * 86_400_000))
            self._at_some_time(self._clock, host, step_ms)

    def _clock(self, host: Host, step_ms: int) -> None:
        self.tell("clock", host.name, step_ms)
        host.wall_ahead_ms += step_ms

    def _draw_breaker(self) -> None:
        worker, for_s = self.rng.choice(self.workers), self.rng.random() * 0.05
        self._at_some_time(self._open_breaker, worker, for_s)

    def _open_breaker(self, worker: Worker, for_s: float) -> None:
        self.tell("breaker", worker.name, for_s)
        worker.store.refuse_until(self.world.now + for_s)

    def _draw_slow_cpu(self) -> None:
        self.world.step_cost_s = self.rng.choice((0.000_02, 0.000_2))

    def _draw_cancel(self) -> None:
        self._at_some_step(self._cancel)

    def _cancel(self) -> None:
        """A caller hangs up."""
        going = [attempt for attempt in self.attempts if attempt.ended < 0]
        if going:
            attempt = self.rng.choice(going)
            self.tell("hang up", attempt.number)
            attempt.cancelled = True
            self._tasks[attempt.number].cancel()

    def _draw_other_content(self) -> None:
        """Drawn with the attempts."""

    def _draw_reload(self) -> None:
        worker = self.rng.choice(self.workers)
        self._at_some_time(lambda: setattr(worker.active, "current", policies()[0]))

    def _draw_disk(self) -> None:
        disk = self.rng.choice(self.hosts).disk
        disk.latency_s = self.rng.choice((0.000_5, 0.005, 0.02))
        disk.lying = self.rng.random() < 0.3
        what = self.rng.choice(("full", "broken", "frozen_until"))
        value = self.rng.random() * 0.05 + self.horizon_s if what == "frozen_until" else True
        self._window(f"disk {what}", lambda: setattr(disk, what, value), lambda: setattr(disk, what, False))

    # --- what callers do ------------------------------------------------------------------------------------------

    def request(self, number: int, other: bool = False) -> DecisionRequest:
        """The request of a question."""
        customer, amount_minor, snapshot, device, dated_back_ms = self.questions[number]
        return question(customer, number, amount_minor, snapshot, device, dated_back_ms, other)

    def ask(self, number: int, worker: Worker, budget_ms: int, other: bool, probe: bool = False) -> None:
        """A caller asks."""
        request = self.request(number, other)
        attempt = Attempt(
            len(self.attempts), number, request, worker.name, worker.host.name, budget_ms, probe, self.world.now
        )
        self.attempts.append(attempt)
        self.tell("ask", attempt.number, request.request_id, request.customer_id, request.amount_minor, worker.name)
        if not worker.alive:
            attempt.ended = self.world.now  # connection refused
            self._tasks.append(None)
            return
        attempt.stalled = worker.loop.stalled_until > self.world.now
        self._tasks.append(worker.loop.create_task(self._serve(worker, attempt)))

    async def _serve(self, worker: Worker, attempt: Attempt) -> None:
        try:
            attempt.result = await worker.decisions.decide(attempt.request, attempt.budget_ms, attempt.began)
        except DecisionServiceError as error:
            attempt.result = error
        except asyncio.CancelledError:
            attempt.cancelled = True
        attempt.ended = self.world.now
        result = attempt.result
        if isinstance(result, Answer):
            self.tell("answer", attempt.number, result.outcome, result.rung, result.replayed, result.body)
        else:
            self.tell("no answer", attempt.number, "hung up" if result is None else result.code)

    def _some_event(self, name: str, chance: float) -> None:
        """Core banking tells something: what became of an approved drawdown, money that came back, or a cut limit."""
        rng, customer = self.rng, 0
        worker = rng.choice(self.workers)
        at_ms = self.hosts[0].now_ms()
        if chance < 0.6:
            told = [a for a in self.attempts if isinstance(a.result, Answer) and a.result.outcome == "approve"]
            if not told:
                return
            attempt = rng.choice(told)
            assert isinstance(attempt.result, Answer)
            customer = int(attempt.request.customer_id[2:])
            status = rng.choice((BOOKED, BOOKED, FAILED, CANCELLED))
            event = settlement(name, customer, attempt.result.decision_id, status, at_ms)
        elif chance < 0.8:
            event = repayment(name, customer, rng.choice(AMOUNTS_MINOR), at_ms)
        else:
            line = line_of(customer, rng.choice((0, LIMIT_MINOR // 2)), 1 + int(name[2:]), "active")
            self._run(worker, self._put(worker, line))
            return
        for _ in range(rng.choice((1, 2))):
            posted = Posted(event)
            self.posted.append(posted)
            self._run(worker, self._post(worker, posted))
            worker = rng.choice(self.workers)

    def _run(self, worker: Worker, coroutine: Any) -> None:
        if worker.alive:
            worker.loop.create_task(coroutine)
        else:
            coroutine.close()

    async def _post(self, worker: Worker, posted: Posted) -> None:
        try:
            outcomes = await worker.customers.record_events([posted.event])
        except DecisionServiceError as error:
            self.tell("event failed", posted.event.event_id, error.code)
        else:
            posted.status = outcomes[0].status
            self.tell("event", posted.event.event_id, posted.status)

    async def _put(self, worker: Worker, line: Any) -> None:
        try:
            await worker.customers.put_facility(line)
            self.tell("limit", line.facility_id, line.limit_minor)
        except DecisionServiceError as error:
            self.tell("limit failed", error.code)

    # --- happening ------------------------------------------------------------------------------------------------

    def run(self) -> History:
        """Draw everything and let it happen."""
        self._tasks: list[Any] = []
        world = self.world
        for worker in self.workers:
            worker.start()
        self._draw()
        if self.crash_at:
            world.stops[self.crash_at] = lambda: self.crash(self.workers[0])
        world.run(HEALED_S)
        self._heal()
        world.run(HEALED_S + 5.0)
        for host in self.hosts:
            self._deliver(host.workers[0])
        world.run(HEALED_S + 10.0)
        for number in range(len(self.questions)):
            self.ask(number, self.rng.choice(self.workers), PROBE_BUDGET_MS, False, probe=True)
        world.run(HEALED_S + 20.0)
        world.end()
        return self

    def _deliver(self, worker: Worker) -> None:
        """A round of the host's deliverer, which rests while there is nothing to deliver."""
        if worker.alive and worker.journal.pending and worker.deliverer is not None:
            self._run(worker, self._round(worker))

    async def _round(self, worker: Worker) -> None:
        assert worker.deliverer is not None
        try:
            await worker.deliverer.round()
        except (StoreError, JournalUnavailable) as error:
            self.tell("delivery failed", worker.name, error.code)

    def _heal(self) -> None:
        """No fault any more."""
        self.tell("healed")
        self.network.chance = 0.0
        self.network.cut.clear()
        self.server.history_lost = False
        self._thaw()
        self.server.start()
        self.world.stops.clear()
        self.world.step_cost_s = 0.0
        for host in self.hosts:
            disk = host.disk
            disk.latency_s, disk.full, disk.broken, disk.frozen_until = 0.000_5, False, False, 0.0
        for worker in self.workers:
            self._start_again(worker)
            worker.loop.stalled_until = 0.0

    def decision_id(self, number: int) -> str:
        """Under which id the decision on a question is kept."""
        request = self.request(number)
        return decision_id_of(request.customer_id, request.request_id, PARTITIONS)


def run(seed: int) -> History:
    """The history of a seed, run to its end."""
    history = History(seed)
    with nothing_real(history.world):
        return history.run()
