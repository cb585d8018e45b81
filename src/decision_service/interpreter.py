"""The interpreter's settings while heavy work runs in a thread beside the event loop.

Compiling a policy makes a million small objects that stay. Python's cyclic collector would look at them all again and
again, and once more when the work is done: a pass that nothing interrupts, 80 ms long after the shipped policy and
200 ms after one of 5,000 rules, with every request waiting. And a thread that computes keeps the interpreter for 5 ms
at a time, which a request that only wants to parse a reply has to wait for.

So inside `beside_the_loop()` the collector looks at nothing but what was made a moment ago (requests go on and leave
their litter), the interpreter changes hands every SWITCH_S, and on leaving what was made is set aside for good
(`gc.freeze`). What is set aside is freed by its reference count alone: a policy that is replaced must hold no
reference cycle, and a test sees to it. All of it are settings of the process: the last one to leave puts them back.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Final

SWITCH_S: Final = 0.0005
YOUNG_OBJECTS: Final = 10_000  # made since the collector last looked; going through as many takes half a millisecond
_NEVER: Final = 1 << 30

_lock: Final = Lock()
_inside = 0
_before: tuple[tuple[int, int, int], float] = ((700, 10, 10), 0.005)


@contextmanager
def beside_the_loop() -> Iterator[None]:
    """For the time of a `with` block: only young objects are collected, a short switch interval; then `gc.freeze`.

    May nest, from any thread. A collector that is switched off stays off.
    """
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _inside, _before
    with _lock:
        if _inside == 0:
            _before = gc.get_threshold(), sys.getswitchinterval()
            gc.set_threshold(YOUNG_OBJECTS, _NEVER, _NEVER)
            sys.setswitchinterval(SWITCH_S)
        _inside += 1


def _leave() -> None:
    global _inside
    with _lock:
        _inside -= 1
        if _inside == 0:
            thresholds, interval = _before
            sys.setswitchinterval(interval)
            if gc.isenabled():
                gc.collect(0)
                gc.freeze()
            gc.set_threshold(*thresholds)
