"""What the generator is told (`Plan`) and what it tells (`Raw`). Both go through a pipe, pickled.

Instants are nanoseconds of `time.perf_counter_ns`, which on Linux is one clock for all processes (CLOCK_MONOTONIC).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from load.traffic import Traffic

Instants = npt.NDArray[np.int64]

CONNECTIONS: Final = 32
DRAIN_S: Final = 10.0  # requests still unanswered so long after the last was due have failed
NO_ANSWER: Final = "no answer"
CONNECTION_LOST: Final = "connection lost"


@dataclass(frozen=True, slots=True)
class Plan:
    """One run. Open loop if `due_ns` says when each request is due after the start, else closed for `seconds`."""

    port: int
    traffic: Traffic
    seconds: float
    due_ns: Instants | None = None
    connections: int = CONNECTIONS
    prepared: int = 20_000  # requests of a closed loop that are rendered before the clock starts
    drain_s: float = DRAIN_S
    families: Mapping[str, Sequence[int]] = field(default_factory=dict)  # processes whose CPU time is told, by name


@dataclass(slots=True)
class Raw:
    """What was recorded, a place for each request in the order in which they were due.

    `done_ns` 0 is a request without an answer; `ended_ns` is when it was given up. `waited` are requests that found no
    free connection when they were due: not sent then, which is the server's doing and no lag of the generator.
    """

    began_ns: int
    ended_ns: int
    seconds: float  # of the window in which requests were due (open) or sent (closed)
    due_ns: Instants
    sent_ns: Instants
    done_ns: Instants
    operation: npt.NDArray[np.uint8]
    failed: npt.NDArray[np.bool_]
    waited: npt.NDArray[np.bool_]
    failures: dict[str, int]
    rungs: dict[str, int]
    outcomes: dict[str, int]
    first_failure: str
    cpu_s: dict[str, float]
    wall_s: float  # in which that CPU time was used
    core_busy_s: dict[int, float]  # by core, whoever used it
    core_stolen_s: dict[int, float]  # of that, taken away by the host of this machine
    replayed: int = 0  # answers that were stored ones: none should be
