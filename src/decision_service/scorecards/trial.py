"""The trial load of a model, in a process of its own: `python -m decision_service.scorecards.trial`.

LightGBM parses a broken model by crashing, and a crash here is a message there (`files`). Bytes
come in on standard input, so that what was tried is exactly what is loaded afterwards:

    stdin    one line of JSON {"n_features": n, "rows": [[number or null, ...], ...]}, then the model's bytes
    stdout   one line of JSON {"margins": [...], "call_us": CPU time} or {"refused": "why"}

The imports are few because every one of them is waited for. What a score takes is the CPU time of the median call
of the best round: a busy machine (whose slowest calls pay for cold caches and interrupts) must not get a good model
refused, for that would keep the service from starting just when it is needed.
"""

from __future__ import annotations

import json
import math
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Final

import numpy as np

from decision_service.core.scorecards import Scorer
from decision_service.scorer import LightGbmScorer, ModelNotLoadable

CPU_S_MAX: Final = 20
MEMORY_BYTES_MAX: Final = 4 * 1024**3
FILES_MAX: Final = 32
_ROUNDS: Final = 5
_CALLS_PER_ROUND: Final = 200

Call = Callable[[np.ndarray], object]


def confine() -> None:
    """Bound what this process may take: CPU, memory, open files; no file is written, no core dumped."""
    for limit, value in (
        (resource.RLIMIT_CPU, CPU_S_MAX),
        (resource.RLIMIT_AS, MEMORY_BYTES_MAX),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, FILES_MAX),
    ):
        hard = resource.getrlimit(limit)[1]
        allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (allowed, allowed))


def call_us(call: Call, rows: list[np.ndarray], calls: int = _CALLS_PER_ROUND) -> float:
    """CPU time of the median call on a row, the least of some rounds, in microseconds."""
    again = [rows[i % len(rows)] for i in range(calls)]
    rounds = []
    for _ in range(_ROUNDS):
        spent = sorted(_spent_ns(call, row) for row in again)
        rounds.append(spent[len(spent) // 2] / 1_000)
    return min(rounds)


def _spent_ns(call: Call, row: np.ndarray) -> int:
    began = time.thread_time_ns()
    call(row)
    return time.thread_time_ns() - began


def attempt(n_features: int, inputs: list[list[float | None]], model_text: bytes) -> dict[str, object]:
    """Load the model, score the rows, and say what came out."""
    try:
        return tried(LightGbmScorer(model_text, n_features), inputs)
    except ModelNotLoadable as error:
        return {"refused": str(error)}


def tried(scorer: Scorer, inputs: list[list[float | None]]) -> dict[str, object]:
    """What a scorer gives for some rows, and how long one takes."""
    rows = [np.array([math.nan if x is None else x for x in row], np.float64) for row in inputs]
    margins = [scorer.margin(row) for row in rows]
    return {"margins": [m if math.isfinite(m) else None for m in margins], "call_us": call_us(scorer.margin, rows)}


def main() -> None:
    """One trial; LightGBM's own chatter goes to standard error."""
    confine()
    answer_to = os.dup(1)
    os.dup2(2, 1)
    task = json.loads(sys.stdin.buffer.readline())
    answer = attempt(task["n_features"], task["rows"], sys.stdin.buffer.read())
    os.write(answer_to, json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    main()
