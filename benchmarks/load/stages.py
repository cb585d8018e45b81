"""What the service's own stage histograms (`/metrics`) say of a run: the difference between two readings.

Means are exact. A percentile lies somewhere in its bucket and is told by linear interpolation; where nearly all
decisions are in the first bucket, whose lower bound is 0, the mean is told instead. All workers together.
"""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

STAGES: Final = ("parse", "read", "features", "score", "rules", "commit", "serialise")
_NEARLY_ALL: Final = 0.95
_LINE: Final = re.compile(
    r'^decision_service_stage_seconds_(bucket|sum|count)\{(?:le="([^"]+)",)?stage="(\w+)"(?:,le="([^"]+)")?\} (\S+)$'
)


@dataclass(slots=True)
class Stage:
    """Counts up to each bound (cumulative, as Prometheus tells them), and the sum of the seconds."""

    up_to: dict[float, float] = field(default_factory=dict)
    sum_s: float = 0.0

    def minus(self, before: Stage) -> Stage:
        """What came after."""
        counts = {bound: count - before.up_to.get(bound, 0.0) for bound, count in self.up_to.items()}
        return Stage(counts, self.sum_s - before.sum_s)

    def plus(self, other: Stage) -> Stage:
        """Both together."""
        counts = {b: self.up_to.get(b, 0.0) + other.up_to.get(b, 0.0) for b in {**self.up_to, **other.up_to}}
        return Stage(counts, self.sum_s + other.sum_s)

    @property
    def count(self) -> float:
        """How many there are."""
        return max(self.up_to.values(), default=0.0)

    @property
    def mean_s(self) -> float:
        """0 of none."""
        return self.sum_s / self.count if self.count else 0.0

    def percentile_s(self, percent: float) -> float:
        """0 of none; of what lies above the last bound that bound."""
        wanted = percent / 100 * self.count
        bounds = sorted(self.up_to)
        if not self.count:
            return 0.0
        if self.up_to[bounds[0]] >= max(wanted, _NEARLY_ALL * self.count):
            return self.mean_s
        low, below = 0.0, 0.0
        for bound in bounds:
            if self.up_to[bound] >= wanted:
                if bound == float("inf"):
                    return low
                return low + (bound - low) * (wanted - below) / max(self.up_to[bound] - below, 1.0)
            low, below = bound, self.up_to[bound]
        return low


Reading = dict[str, Stage]


def read(page: str) -> Reading:
    """The stages of a page of metrics."""
    found: Reading = {}
    for line in page.splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        what, early, name, late, value = match.groups()
        stage = found.setdefault(name, Stage())
        if what == "bucket":
            stage.up_to[float(early or late)] = float(value)
        elif what == "sum":
            stage.sum_s = float(value)
    return found


def asked(port: int) -> Reading:
    """What the service on a loopback port says now."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        return read(answer.read().decode())


def between(before: Reading, after: Reading) -> Reading:
    """What happened between two readings."""
    return {name: stage.minus(before.get(name, Stage())) for name, stage in after.items()}


def summed(readings: Sequence[Reading]) -> Reading:
    """Several runs together."""
    total: Reading = {}
    for reading in readings:
        for name, stage in reading.items():
            total[name] = total.get(name, Stage()).plus(stage)
    return total


def told(reading: Reading) -> dict[str, dict[str, float]]:
    """Percentiles and mean in microseconds by stage; none where nothing was decided."""
    return {
        name: {
            "p50": round(stage.percentile_s(50) * 1e6, 1), "p99": round(stage.percentile_s(99) * 1e6, 1),
            "mean": round(stage.mean_s * 1e6, 1),
        }
        for name in STAGES
        if (stage := reading.get(name)) is not None and stage.count
    }  # fmt: skip
