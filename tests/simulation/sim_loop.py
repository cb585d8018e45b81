"""Virtual time: the scheduler of a whole simulated world, and one event loop for every simulated worker.

    World      one clock, one heap of timers, one random number generator
      Loop     what `asyncio` sees in one worker: its own queue of ready callbacks, first come first served as in a real
               loop; which worker takes its next step is drawn, as between real processes

Nothing sleeps and nothing runs in a thread. Time stands while a callback runs (or passes by a drawn bit, see
`World.step_cost_s`) and jumps to the next timer when nobody has anything to do. A step is one callback of one worker;
between two steps a worker may be *killed*: its queue and its timers are dropped and no `finally` of its tasks runs, for
that is what `kill -9` and a power cut do. (Its tasks are kept until the world is over, so that Python does not close
them either.) A worker may also *stall*: it does nothing until an instant, as if its process were stopped.

The same seed gives the same steps: nothing here looks at an address, a hash of a string or a real clock.
"""

from __future__ import annotations

import asyncio
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context, copy_context
from heapq import heappop, heappush
from random import Random
from typing import Any, Final

STEPS_MAX: Final = 20_000  # of one history; more means that something goes round and round


class Handle:
    """A callback that waits for its turn."""

    __slots__ = ("_when", "args", "callback", "context", "loop")

    def __init__(
        self, callback: Callable[..., Any] | None, args: tuple[Any, ...], loop: Loop | None,
        context: Context | None, when: float,
    ) -> None:  # fmt: skip
        self.callback = callback
        self.args = args
        self.loop = loop
        self.context = context
        self._when = when

    def cancel(self) -> None:
        """Never call it."""
        self.callback = None

    def cancelled(self) -> bool:
        """Whether it was cancelled (or called)."""
        return self.callback is None

    def when(self) -> float:
        """When it is due, in seconds of virtual time."""
        return self._when


class World:
    """One simulated world. `bugs` are mistakes of the code under test that showed as exceptions nobody took."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.now = 0.0
        self.steps = 0
        self.step_cost_s = 0.0
        self.over = False
        self.bugs: list[str] = []
        self.loops: list[Loop] = []
        self.stops: dict[int, Callable[[], None]] = {}  # what is done before the step of this number
        self._timers: list[tuple[float, int, Handle]] = []
        self._ties = 0
        self._all: list[Loop] = []
        self.context = copy_context()

    def at(self, when: float, callback: Callable[..., Any], *args: Any) -> Handle:
        """Have something happen in the world (outside every worker) at an instant."""
        handle = Handle(callback, args, None, None, when)
        self.push(when, handle)
        return handle

    def push(self, when: float, handle: Handle) -> None:
        """Keep a timer."""
        self._ties += 1
        heappush(self._timers, (when, self._ties, handle))

    def run(self, until: float) -> None:
        """Let everything happen that happens up to an instant."""
        try:
            self._run(until)
        finally:
            events._set_running_loop(None)

    def _run(self, until: float) -> None:
        timers, rng, stops, loops = self._timers, self.rng.random, self.stops, self.loops
        while True:
            while timers and timers[0][0] <= self.now:
                handle = heappop(timers)[2]
                callback, loop = handle.callback, handle.loop
                if callback is None:
                    continue
                if loop is None:
                    handle.callback = None
                    callback(*handle.args)
                elif not loop.dead:
                    loop.ready.append(handle)
            ready = [loop for loop in loops if loop.ready and loop.stalled_until <= self.now]
            if not ready:
                if not timers or timers[0][0] > until:
                    self.now = max(self.now, until)
                    return
                self.now = max(self.now, timers[0][0])
                continue
            loop = ready[0] if len(ready) == 1 else ready[int(rng() * len(ready))]
            self.steps += 1
            if self.steps in stops:
                stops.pop(self.steps)()
                if loop.dead or loop.stalled_until > self.now:
                    continue
            self._step(loop)

    def _step(self, loop: Loop) -> None:
        """Let a worker run one callback."""
        if self.steps > STEPS_MAX:
            raise AssertionError(f"{STEPS_MAX} steps and no end")
        handle = loop.ready.popleft()
        callback = handle.callback
        if callback is None:
            return
        handle.callback = None
        events._set_running_loop(loop)
        try:
            assert handle.context is not None
            handle.context.run(callback, *handle.args)
        except Exception as error:
            self.bugs.append(f"a callback raised {error!r}")
        if self.step_cost_s:
            self.now += self.step_cost_s * self.rng.random()

    def enter(self, loop: Loop) -> None:
        """A worker begins its life."""
        self.loops.append(loop)
        self._all.append(loop)

    def end(self) -> None:
        """The world is over: what was never finished is closed, and whatever that does counts for nothing."""
        self.over = True
        for loop in self._all:
            for task in loop.tasks:
                if not task.done():
                    coroutine = task.get_coro()
                    assert coroutine is not None
                    with suppress(Exception):
                        coroutine.close()


class Loop(asyncio.AbstractEventLoop):
    """The event loop of one worker."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.ready: deque[Handle] = deque()
        self.dead = False
        self.stalled_until = 0.0
        self.tasks: list[asyncio.Task[Any]] = []
        world.enter(self)

    def kill(self) -> None:
        """End the worker as `kill -9` does."""
        self.dead = True
        self.ready.clear()
        self.world.loops.remove(self)

    def time(self) -> float:
        """The instant, in seconds of virtual time."""
        return self.world.now

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Handle:
        """See `asyncio`."""
        handle = Handle(callback, args, self, context or self.world.context, self.world.now)
        if not self.dead:
            self.ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Handle:
        """See `asyncio`."""
        handle = Handle(callback, args, self, context or self.world.context, when)
        self.world.push(when, handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Handle:
        """See `asyncio`."""
        return self.call_at(self.world.now + delay, callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        """See `asyncio`."""
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[Any]:
        """See `asyncio`."""
        task = asyncio.Task(coro, loop=self, name=name or "task", context=context)
        self.tasks.append(task)
        return task

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """What a real loop sends to a thread happens at once; its result comes after a drawn moment."""
        future = self.create_future()
        try:
            result = func(*args)
        except Exception as error:
            self.call_later(self.world.rng.random() * 0.001, _give_error, future, error)
        else:
            self.call_later(self.world.rng.random() * 0.001, give, future, result)
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """An error that nobody took is a mistake of the code under test, unless the worker is dead or all is over."""
        if not self.dead and not self.world.over:
            self.world.bugs.append(f"{self.name}: {context.get('message')}: {context.get('exception')!r}")

    def get_debug(self) -> bool:
        """See `asyncio`."""
        return False

    def is_running(self) -> bool:
        """See `asyncio`."""
        return not self.dead

    def is_closed(self) -> bool:
        """See `asyncio`."""
        return self.dead


def give(future: asyncio.Future[Any], result: Any) -> None:
    """Set a result unless nobody waits for it any more."""
    if not future.done():
        future.set_result(result)


def _give_error(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
