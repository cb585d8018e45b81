"""When the requests of an open loop are due, in nanoseconds after its start.

Even: one each 1/rate seconds, as wrk2 does. Poisson: independent callers, hence bursts and pauses around the same
mean. Steps: rates one after the other, each even.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from load.plan import Instants

ARRIVALS = ("even", "poisson")


def even(per_s: float, seconds: float) -> Instants:
    """`per_s * seconds` instants at equal distances, the first at 0."""
    return (np.arange(round(per_s * seconds)) * (1e9 / per_s)).astype(np.int64)


def poisson(per_s: float, seconds: float, seed: int = 7) -> Instants:
    """Instants of independent callers; how many follows from the draw."""
    drawn = np.random.default_rng(seed).exponential(1e9 / per_s, round(per_s * seconds * 1.2) + 100)
    instants = np.cumsum(drawn)
    return instants[instants < seconds * 1e9].astype(np.int64)


def arriving(arrivals: str, per_s: float, seconds: float) -> Instants:
    """A schedule by the name of its arrivals."""
    return even(per_s, seconds) if arrivals == "even" else poisson(per_s, seconds)


def steps(rates: Sequence[float], seconds_each: float) -> Instants:
    """Even schedules one after the other."""
    return np.concatenate([even(rate, seconds_each) + round(i * seconds_each * 1e9) for i, rate in enumerate(rates)])
