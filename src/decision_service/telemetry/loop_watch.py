"""A watch over the event loop: whether anything holds it up, for how long, and what.

A heartbeat every BEAT_S tells how late the loop is; that is also where admission measures. A beat later than BLOCK_S is
a block: something synchronous (a file, a lock, a large computation) ran on the loop, and every request waited for it. A
thread beside it looks at what the loop's thread is doing as soon as a beat is overdue, so that the line in the log says
where in the code it was; while all is well it sleeps through a beat or two, for each time it wakes it takes the
interpreter from the loop. Time for which the thread only waited for a CPU is no block.

    beat      late by less than BLOCK_S    nothing
              late by more                 counted, and logged with what was seen: at most one line in LINE_EVERY_S
    thread    a beat is STUCK_S overdue    logged at once, for it may never come

The thread looks while it holds the interpreter lock: a call that keeps the lock all the time is counted, not seen.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from types import FrameType
from typing import Final

from decision_service.telemetry.thread_time import ThreadTime

LOG = logging.getLogger("decision_service.loop")
BEAT_S: Final = 0.02
BLOCK_S: Final = 0.05
LOOK_S: Final = BLOCK_S / 2  # a beat is so much overdue: something may be holding it up
STUCK_S: Final = 2.0
LINE_EVERY_S: Final = 1.0
FRAMES_MAX: Final = 12
UNSEEN: Final = "nobody saw where"


class LoopWatch:
    """Watches the running event loop. `on_beat(lag_s, wanted_s)`, with the time for which
    its thread ran or wanted to, and `on_block(seconds)` are called on the loop."""

    def __init__(self, on_beat: Callable[[float, float], None], on_block: Callable[[float], None]) -> None:
        self._on_beat = on_beat
        self._on_block = on_block
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        self._time = ThreadTime()
        self._due = perf_counter() + BEAT_S
        self._waited_s = self._time.waited_s()
        self._seen = ""
        self._said = 0.0
        self._ended = threading.Event()
        self._timer = self._loop.call_later(BEAT_S, self._beat)
        self._thread = threading.Thread(target=self._look, name="loop-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Watch no more."""
        self._timer.cancel()
        self._ended.set()
        self._thread.join()
        self._time.close()

    def _beat(self) -> None:
        now, (wanted_s, waited_s) = perf_counter(), self._time.both_s()
        late_s = now - self._due
        blocked_s = late_s - (waited_s - self._waited_s)
        if blocked_s > BLOCK_S:
            self._on_block(blocked_s)
            if now - self._said > LINE_EVERY_S:
                self._said = now
                LOG.warning("the event loop was blocked for %.0f ms: %s", blocked_s * 1000, self._seen or UNSEEN)
        self._seen = ""
        self._on_beat(max(0.0, late_s), wanted_s)
        self._due, self._waited_s = perf_counter() + BEAT_S, waited_s
        self._timer = self._loop.call_later(BEAT_S, self._beat)

    def _look(self) -> None:
        """What the watching thread does."""
        told, wait_s = 0.0, BEAT_S
        while not self._ended.wait(wait_s):
            due = self._due
            overdue_s = perf_counter() - due
            if overdue_s <= LOOK_S:
                wait_s = LOOK_S - overdue_s  # there is nothing to see before
                continue
            wait_s = BEAT_S
            frame = sys._current_frames().get(self._thread_id)
            if frame is not None and due == self._due:
                self._seen = where(frame)
            if overdue_s > STUCK_S and due != told:
                told = due
                LOG.error("the event loop is blocked for more than %.0f s: %s", STUCK_S, self._seen)


def where(frame: FrameType | None) -> str:
    """Innermost first: `function (file:line) < function (file:line)`. Code only, never values."""
    places: list[str] = []
    while frame is not None and len(places) < FRAMES_MAX:
        file = "/".join(frame.f_code.co_filename.split("/")[-2:])
        places.append(f"{frame.f_code.co_name} ({file}:{frame.f_lineno})")
        frame = frame.f_back
    return " < ".join(places)


@contextmanager
def watched_loop(on_beat: Callable[[float, float], None], on_block: Callable[[float], None]) -> Iterator[None]:
    """Watch the running loop inside the block."""
    watch = LoopWatch(on_beat, on_block)
    try:
        yield
    finally:
        watch.close()
