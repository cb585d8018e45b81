"""Gains: how many of the bad stand among the riskiest, and how well single features know them.

`bad` is 1 for bad, 0 for good; a higher `pd` means worse. Rows of equal `pd` keep their order in the sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from decision_service.core.scorecards.drift import counts_of

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Gain:
    """One group of rows, the riskiest being the first; `so_far` counts it and those before it."""

    rows: int
    bads: int
    pd_least: float
    bad_rate: float
    lift: float  # bad rate over that of all rows
    rows_so_far: float  # share of all rows
    bads_so_far: float  # share of all bads


def gains(pd: Floats, bad: Labels, groups: int = 10) -> tuple[Gain, ...]:
    """Groups of equal size, riskiest first. There must be a bad among the rows; the last is at 100 % of both."""
    order = np.argsort(-pd, kind="stable")
    found: list[Gain] = []
    rows = bads = 0
    for part in np.array_split(order, min(groups, len(order))):
        rows, bads = rows + len(part), bads + int(bad[part].sum())
        rate = float(bad[part].mean())
        found.append(
            Gain(
                len(part), int(bad[part].sum()), float(pd[part].min()), rate, rate / float(bad.mean()),
                rows / len(bad), bads / int(bad.sum()),
            )
        )  # fmt: skip
    return tuple(found)


def cumulated(values: Floats, bad: Labels, most: int) -> tuple[Floats, Floats, Floats]:
    """Some rising values, and the shares of goods and of bads that are not above each: at most `most` values spread
    over the rows, and the one where the shares are furthest apart (Kolmogorov-Smirnov)."""
    at = np.unique(values)
    good_share, bad_share = (
        np.searchsorted(np.sort(values[bad == label]), at, side="right") / max(int((bad == label).sum()), 1)
        for label in (0, 1)
    )
    widest = int(np.argmax(np.abs(bad_share - good_share)))
    few = np.linspace(0, len(at) - 1, min(most, len(at))).astype(np.intp)
    kept = np.unique(np.append(few, widest))
    return at[kept], good_share[kept], bad_share[kept]


def information_value(cuts: Sequence[float], values: Floats, bad: Labels) -> float:
    """IV over the bins of `cuts` and a bin of null: sum of (g - b) ln(g / b), g and b the bin's shares of goods and
    bads. Half a row is added to either side of a bin, so that one without bads does not make it infinite."""
    goods = counts_of(cuts, values[bad == 0]).astype(np.float64)
    bads = counts_of(cuts, values[bad == 1]).astype(np.float64)
    used = goods + bads > 0.0
    g, b = (goods[used] + 0.5) / (goods[used] + 0.5).sum(), (bads[used] + 0.5) / (bads[used] + 0.5).sum()
    return float(np.sum((g - b) * np.log(g / b)))
