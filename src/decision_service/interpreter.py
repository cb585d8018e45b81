"""The interpreter's settings while heavy work runs in a thread beside the event loop.

Compiling a policy makes millions of small objects, and Python's cyclic collector looks at them all again and again
(`benchmarks/rules.py` prints what that costs); and a thread that computes keeps the interpreter for 5 ms at a time,
which a request that only wants to parse a reply has to wait for. Inside `beside_the_loop()` nothing is collected and
the interpreter changes hands every SWITCH_S. Both are settings of the process: the last one to leave puts them back.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Final

SWITCH_S: Final = 0.0005

_lock: Final = Lock()
_inside = 0
_before: tuple[bool, float] = (True, 0.005)


@contextmanager
def beside_the_loop() -> Iterator[None]:
    """For the time of a `with` block: no cyclic collection, a short switch interval. May nest, from any thread."""
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _inside, _before
    with _lock:
        if _inside == 0:
            _before = gc.isenabled(), sys.getswitchinterval()
            gc.disable()
            sys.setswitchinterval(SWITCH_S)
        _inside += 1


def _leave() -> None:
    global _inside
    with _lock:
        _inside -= 1
        if _inside == 0:
            collecting, interval = _before
            sys.setswitchinterval(interval)
            if collecting:
                gc.enable()
