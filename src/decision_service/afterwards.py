"""Afterwards: what is done about a decision once its answer has left.

    commit ──▶ put ──▶ answer written          put: one append a consumer; nothing if nobody is registered
                └─ a queue a consumer, at most QUEUE_MAX
                     └─ every ROUND_S ──▶ batches of BATCH_MAX ──▶ the consumer

Shadow scorecards and drift counts live here: work that nobody waits for, about decisions that are already told. So

  * nothing here runs before the answer is written. `put` only appends, and from the commit's reply to the write of the
    answer the event loop runs nothing else; the consumers' turn comes ROUND_S later;
  * a consumer that raises, hangs or is slow touches no answer and no other consumer: each has its own queue and task,
    and TAKE_S for a batch; a failure is counted, and logged once for each kind of error;
  * what can grow is bounded: a decision that finds a queue full is not handed on there, and counted. The same
    `Done` stands in every queue;
  * at the end of a worker the queues are emptied for up to CLOSE_S; what is left then, and what a worker that is killed
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
ROUND_S: Final = 0.25  # decisions of this time are handed on together: cold caches are paid for once a batch
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
    """One worker's decisions that were made. `register` consumers, then `start`; `close` with the worker."""

    def __init__(self, meters: Meters) -> None:
        self._meters = meters
        self._queues: dict[str, _Queue] = {}

    def register(self, name: str, take: Take) -> None:
        """Give every batch to `take` from now on. `name` is one of `telemetry.meters.CONSUMERS`, each once."""
        if name in self._queues:
            raise ValueError(f"{name!r} is registered already")
        self._queues[name] = _Queue(name, take, self._meters, self._tell)

    def put(self, done: Done) -> None:
        """Hand on a decision that was committed. Waits for nothing and raises nothing."""
        for queue in self._queues.values():
            queue.put(done)

    def start(self) -> None:
        """Begin to hand on."""
        for queue in self._queues.values():
            queue.task = asyncio.create_task(queue.work())

    async def close(self) -> None:
        """Stop; what is in the queues is handed on if the consumers are quick about it, and otherwise dropped."""
        queues, self._queues = list(self._queues.values()), {}
        await asyncio.gather(*(queue.close() for queue in queues))

    async def flush(self) -> None:
        """Hand on everything in the queues."""
        await asyncio.gather(*(queue.flush() for queue in self._queues.values()))

    def _tell(self) -> None:
        self._meters.set_afterwards_waiting(sum(len(queue.waiting) for queue in self._queues.values()))


class _Queue:
    """What one consumer has still to be given."""

    def __init__(self, name: str, take: Take, meters: Meters, tell: Callable[[], None]) -> None:
        self.task: asyncio.Task[None] | None = None
        self.waiting: deque[Done] = deque()
        self._tell = tell
        self._name = name
        self._take = take
        self._meters = meters
        self._filled = asyncio.Event()
        self._closing = False
        self._told: set[str] = set()  # kinds of error that the log has had

    def put(self, done: Done) -> None:
        waiting = len(self.waiting)
        if waiting >= QUEUE_MAX:
            self._meters.count_afterwards(self._name, "dropped", 1)
            return
        self.waiting.append(done)
        if not waiting:
            self._filled.set()

    async def close(self) -> None:
        self._closing = True
        self._filled.set()
        if self.task is not None:
            await asyncio.wait((self.task,), timeout=CLOSE_S)
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        if self.waiting:
            self._meters.count_afterwards(self._name, "dropped", len(self.waiting))
            LOG.warning("%s did not look at %d decisions: the worker stops", self._name, len(self.waiting))
            self.waiting.clear()

    async def flush(self) -> None:
        while self.waiting:
            batch = [self.waiting.popleft() for _ in range(min(len(self.waiting), BATCH_MAX))]
            self._tell()
            await self._give(batch)

    async def work(self) -> None:
        while True:
            await self._filled.wait()
            if not self._closing:
                await asyncio.sleep(ROUND_S)
            self._filled.clear()
            await self.flush()
            if self._closing:
                return

    async def _give(self, batch: Sequence[Done]) -> None:
        try:
            async with asyncio.timeout(TAKE_S):
                await self._take(batch)
        except (Exception, asyncio.CancelledError) as error:
            self._meters.count_afterwards(self._name, "failed", len(batch))
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise  # the worker stops; otherwise something that the consumer waited for was cancelled
            kind = type(error).__name__
            if kind not in self._told:
                self._told.add(kind)
                LOG.error("%s failed after decisions were made; told once for %s", self._name, kind, exc_info=error)
        else:
            self._meters.count_afterwards(self._name, "taken", len(batch))
