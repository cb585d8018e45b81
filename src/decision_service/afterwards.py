"""Afterwards: what is done about a decision once its answer has left.

    commit ──▶ put ──▶ answer written          put: one append; nothing if nobody is registered
                └─ queue, at most QUEUE_MAX
                     └─ every ROUND_S ──▶ batches of BATCH_MAX ──▶ every registered consumer at once

Shadow scorecards and drift counts live here: work that nobody waits for, about decisions that are already told. So

  * nothing here runs before the answer is written. `put` only appends, and from the commit's reply to the write of the
    answer the event loop runs nothing else; the consumers' turn comes ROUND_S later;
  * a consumer that raises, hangs or is slow touches no answer and no other consumer: each has its own task and TAKE_S
    for a batch; a failure is counted, and logged once for each kind of error;
  * what can grow is bounded: a decision that finds the queue full is not handed on, and counted. A `Done` is some
    5 kB, so a full queue is 20 MB;
  * at the end of a worker the queue is emptied for up to CLOSE_S; what is left then, and what a worker that is killed
    had in its queue, is lost. The decision log has every decision all the same.

Consumers run in the event loop, not in a thread. A thread that computes in Python takes the interpreter from the loop
for up to 5 ms at a time (its switch interval), which every request then waits for; a consumer in the loop gives way
where it chooses. So a consumer must not keep the loop for longer than a request would (half a millisecond): it gives
way (`await asyncio.sleep(0)`) between pieces, and sends to a thread only work that holds no GIL.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from decision_service.core.decision import Decision
from decision_service.core.policy import Policy
from decision_service.telemetry import Meters

LOG = logging.getLogger("decision_service.afterwards")
ROUND_S: Final = 0.02  # decisions of this time are handed on together
BATCH_MAX: Final = 64  # decisions handed on at once
QUEUE_MAX: Final = 4_096  # decisions in memory; further ones are dropped
TAKE_S: Final = 5.0  # for one batch
CLOSE_S: Final = 1.0  # for what is in the queue when the worker stops


class Done(NamedTuple):
    """A committed decision, with the numbers that its rules saw and the policy that made it."""

    decision: Decision
    scene: str
    numbers: bytes  # `Trace.numbers`: float64 in the layout of the policy's scene
    policy: Policy


Take = Callable[[Sequence[Done]], Awaitable[None]]


class Afterwards:
    """One worker's queue of decisions that were made. `register` consumers, then `start`; `close` with the worker."""

    def __init__(self, meters: Meters) -> None:
        self._meters = meters
        self._consumers: dict[str, Take] = {}
        self._queue: deque[Done] = deque()
        self._filled = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self._told: set[tuple[str, str]] = set()  # consumer and kind of error that the log has had

    def register(self, name: str, take: Take) -> None:
        """Give every batch to `take` from now on. `name` is one of `telemetry.meters.CONSUMERS`, each once."""
        if name in self._consumers:
            raise ValueError(f"{name!r} is registered already")
        self._consumers[name] = take

    def put(self, done: Done) -> None:
        """Hand on a decision that was committed. Waits for nothing and raises nothing."""
        if not self._consumers:
            return
        waiting = len(self._queue)
        if waiting >= QUEUE_MAX:
            self._meters.count_afterwards_dropped(1)
            return
        self._queue.append(done)
        if not waiting:
            self._filled.set()

    def start(self) -> None:
        """Begin to hand on."""
        self._task = asyncio.create_task(self._work())

    async def close(self) -> None:
        """Stop; what is in the queue is handed on if the consumers are quick about it, and otherwise dropped."""
        self._closing = True
        self._filled.set()
        if self._task is not None:
            await asyncio.wait((self._task,), timeout=CLOSE_S)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._consumers = {}
        if self._queue:
            self._meters.count_afterwards_dropped(len(self._queue))
            LOG.warning("%d decisions were not looked at afterwards: the worker stops", len(self._queue))
            self._queue.clear()

    async def flush(self) -> None:
        """Hand on everything in the queue."""
        while self._queue:
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH_MAX))]
            self._meters.set_afterwards_waiting(len(self._queue))
            await asyncio.gather(*(self._give(name, take, batch) for name, take in self._consumers.items()))

    async def _work(self) -> None:
        while True:
            await self._filled.wait()
            if not self._closing:
                await asyncio.sleep(ROUND_S)
            self._filled.clear()
            await self.flush()
            if self._closing:
                return

    async def _give(self, name: str, take: Take, batch: Sequence[Done]) -> None:
        try:
            async with asyncio.timeout(TAKE_S):
                await take(batch)
        except (Exception, asyncio.CancelledError) as error:
            self._meters.count_afterwards(name, "failed", len(batch))
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise  # the worker stops; otherwise something that the consumer waited for was cancelled
            kind = (name, type(error).__name__)
            if kind not in self._told:
                self._told.add(kind)
                LOG.error("%s failed after decisions were made; told once for %s", *kind, exc_info=error)
        else:
            self._meters.count_afterwards(name, "taken", len(batch))
