"""Whether two runs differ by more than each of them wanders by itself.

A figure is looked at in parts: the rounds of a run where it was run three times or more, else its timeline cut into
`BLOCKS` blocks of time. Welch's t-test at 99 % on the two sets of parts says what difference chance would make (the
noise); only a larger one counts. Blocks of one run share whatever the machine did that minute, so their noise is the
least there can be: a difference just beyond it deserves rounds in turns. A figure without parts (CPU of a single run)
is compared, and nothing is said of its noise.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from load_report.document import Run, number, timeline

BLOCKS: Final = 6
ROUNDS_MIN: Final = 3
_T_99: Final = (63.66, 9.925, 5.841, 4.604, 4.032, 3.707, 3.499, 3.355, 3.250, 3.169)  # two-sided, 1 to 10 degrees
_T_99_MORE: Final = ((15, 2.947), (20, 2.845), (30, 2.750), (60, 2.660))
_T_99_MANY: Final = 2.576

Parts = Sequence[float]


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure of two runs. `noise` is the difference that chance would make, None where it is not known."""

    what: str
    unit: str
    first: float
    second: float
    noise: float | None
    lower_is_better: bool | None = True

    @property
    def delta(self) -> float:
        """Second less first."""
        return self.second - self.first

    @property
    def relative(self) -> float:
        """The delta as a fraction of the first; NaN if that is 0 or unknown."""
        return self.delta / self.first if self.first else math.nan

    @property
    def beyond_noise(self) -> bool | None:
        """Whether it is more than chance would make; None if that is not known."""
        if self.noise is None or math.isnan(self.delta):
            return None
        return abs(self.delta) > self.noise

    @property
    def says(self) -> str:
        """The plain statement."""
        if math.isnan(self.delta):
            return "not known of both"
        if self.delta == 0:
            return "the same"
        if self.beyond_noise is None:
            return "noise not known: one round each"
        if not self.beyond_noise:
            return "within the noise"
        if self.lower_is_better is None:
            return "other, beyond the noise"
        return "better, beyond the noise" if (self.delta < 0) == self.lower_is_better else "worse, beyond the noise"


def chance(first: Parts, second: Parts) -> float | None:
    """The difference of means that chance makes in 1 of 100 comparisons of such parts; None with fewer than two."""
    if min(len(first), len(second)) < 2:
        return None
    a, b = (statistics.variance(parts) / len(parts) for parts in (first, second))
    if a + b == 0:
        return 0.0
    degrees = (a + b) ** 2 / (a**2 / (len(first) - 1) + b**2 / (len(second) - 1))
    return t_99(degrees) * math.sqrt(a + b)


def t_99(degrees: float) -> float:
    """Student's t for 99 %, two-sided, at the next tabled number of degrees of freedom below."""
    if degrees < 11:
        return _T_99[max(0, min(int(degrees) - 1, len(_T_99) - 1))]
    return next((t for top, t in reversed(_T_99_MORE) if degrees >= top), _T_99[-1]) if degrees < 120 else _T_99_MANY


def compared(
    what: str,
    unit: str,
    rounds: tuple[list[Run], list[Run]],
    path: tuple[str, ...],
    lower_is_better: bool | None = True,
) -> Difference:
    """A figure of the rounds of two runs: medians over the rounds, and the noise of their parts."""
    first, second = ([value for run in runs if not math.isnan(value := number(run, *path))] for runs in rounds)
    noise = None
    if min(len(first), len(second)) >= ROUNDS_MIN:
        noise = chance(first, second)
    elif (block := _BLOCK_FIGURES.get(path)) is not None:
        blocks = [[block(row) for run in runs for row in blocks_of(run)] for runs in rounds]
        blocks = [[value for value in parts if not math.isnan(value)] for parts in blocks]
        noise = chance(blocks[0], blocks[1]) if min(map(len, blocks)) >= ROUNDS_MIN else None
    return Difference(what, unit, _median(first), _median(second), noise, lower_is_better)


def blocks_of(run: Run) -> list[dict[str, float]]:
    """The run's timeline in blocks, with the rate of each."""
    blocks = timeline(run, BLOCKS)
    begins = [0.0, *(block["t_s"] for block in blocks[:-1])]
    return [
        block | {"per_s": block["requests"] / (block["t_s"] - begin) if block["t_s"] > begin else math.nan}
        for begin, block in zip(begins, blocks, strict=True)
    ]


def _field(name: str) -> Callable[[dict[str, float]], float]:
    return lambda block: block[name]


_BLOCK_FIGURES: Final[dict[Any, Callable[[dict[str, float]], float]]] = {
    ("per_s",): _field("per_s"),
    ("latency_us", "p50"): _field("p50_us"),
    ("latency_us", "p99"): _field("p99_us"),
    ("latency_us", "max"): _field("max_us"),
}


def _median(values: list[float]) -> float:
    return statistics.median(values) if values else math.nan
