"""From what the generator recorded to the figures of a run.

Latency counts from the instant a request was due (in a closed loop that is when it was sent), service time from when it
really was sent. Both are of the requests that were answered as they should be, and of those never answered, which count
until they were given up: a stall hides in nothing. Refusals (503) are fast, so they are counted beside, by problem, and
not among the latencies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from hdrh.histogram import HdrHistogram

from load.plan import Instants, Raw
from load.traffic import OPERATIONS

PERCENTILES: Final = (50.0, 90.0, 99.0, 99.9, 99.99)
BIN_S: Final = 0.5  # of the timeline
HISTOGRAM_MAX_US: Final = 3_600_000_000
HISTOGRAM_DIGITS: Final = 3
Times = npt.NDArray[np.int64]


def percentile(ordered: Times, percent: float) -> int:
    """The smallest value that at least this share of the values does not exceed; 0 of none."""
    count = len(ordered)
    return int(ordered[max(0, math.ceil(round(percent / 100 * count, 6)) - 1)]) if count else 0


def latencies(times_ns: Times) -> dict[str, float]:
    """Percentiles, maximum and mean in microseconds."""
    ordered = np.sort(times_ns)
    told = {f"p{percent:g}": round(percentile(ordered, percent) / 1e3, 1) for percent in PERCENTILES}
    mean, most = (float(ordered.mean()), int(ordered[-1])) if len(ordered) else (0.0, 0)
    return told | {"max": round(most / 1e3, 1), "mean": round(mean / 1e3, 1)}


def histogram(times_ns: Times) -> str:
    """An HdrHistogram of microseconds (1 us to an hour, three digits), in its V2 compressed form, base64."""
    recorded = HdrHistogram(1, HISTOGRAM_MAX_US, HISTOGRAM_DIGITS)
    values, counts = np.unique(np.clip(times_ns // 1_000, 1, HISTOGRAM_MAX_US), return_counts=True)
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        recorded.record_value(value, count)
    encoded: bytes = recorded.encode()
    return encoded.decode()


def ends_ns(raw: Raw) -> Instants:
    """When each request was answered, or given up."""
    return np.where(raw.done_ns == 0, raw.ended_ns, raw.done_ns)


def counted(raw: Raw) -> npt.NDArray[np.bool_]:
    """Which requests have a latency: those that were answered as they should be, or never."""
    never: npt.NDArray[np.bool_] = raw.done_ns == 0
    return ~raw.failed | never


def latency_ns(raw: Raw) -> Times:
    """Of the counted requests, from when they were due."""
    return (ends_ns(raw) - raw.due_ns)[counted(raw)]


def service_time_ns(raw: Raw) -> Times:
    """Of the counted requests that were sent, from when they were."""
    chosen = counted(raw) & (raw.sent_ns > 0)
    return (ends_ns(raw) - raw.sent_ns)[chosen]


def send_lag_ns(raw: Raw) -> Times:
    """How late the generator sent requests that had a free connection when they were due."""
    return (raw.sent_ns - raw.due_ns)[~raw.waited & (raw.sent_ns > 0)]


def per_s(raw: Raw) -> float:
    """Requests answered as they should be within the window, a second."""
    good = (raw.done_ns > 0) & ~raw.failed & (raw.done_ns <= raw.began_ns + int(raw.seconds * 1e9))
    return int(np.count_nonzero(good)) / raw.seconds


def timeline(raws: Sequence[Raw]) -> list[dict[str, float]]:
    """Bins of the time at which requests were due; rounds follow one another without the pauses between them."""
    bins: list[dict[str, float]] = []
    offset_s = 0.0
    for raw in raws:
        number = ((raw.due_ns - raw.began_ns) / 1e9 // BIN_S).astype(int)
        latency, used = ends_ns(raw) - raw.due_ns, counted(raw)
        for bin_ in range(math.ceil(raw.seconds / BIN_S)):
            here = number == bin_
            ordered = np.sort(latency[here & used])
            bins.append({
                "t_s": round(offset_s + bin_ * BIN_S, 3), "requests": int(np.count_nonzero(here)),
                "failures": int(np.count_nonzero(here & raw.failed)),
                "p50_us": round(percentile(ordered, 50) / 1e3, 1), "p99_us": round(percentile(ordered, 99) / 1e3, 1),
                "max_us": round(int(ordered[-1]) / 1e3, 1) if len(ordered) else 0.0,
            })  # fmt: skip
        offset_s += raw.seconds
    return bins


def operations(raws: Sequence[Raw]) -> dict[str, Any]:
    """Latency by operation, of those that occurred."""
    told = {}
    for index, name in enumerate(OPERATIONS):
        number = sum(int(np.count_nonzero(raw.operation == index)) for raw in raws)
        if number:
            times = [(ends_ns(raw) - raw.due_ns)[counted(raw) & (raw.operation == index)] for raw in raws]
            told[name] = {"requests": number, "latency_us": latencies(np.concatenate(times))}
    return told


def together(counts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The sum of each entry over several counts."""
    names = sorted({name for one in counts for name in one})
    return {name: sum(one.get(name, 0) for one in counts) for name in names}


def lag(raws: Sequence[Raw]) -> dict[str, float]:
    """The generator's own lateness."""
    ordered = np.sort(np.concatenate([send_lag_ns(raw) for raw in raws]))
    return {
        "p99": round(percentile(ordered, 99) / 1e3, 1),
        "max": round(int(ordered[-1]) / 1e3, 1) if len(ordered) else 0.0,
    }
