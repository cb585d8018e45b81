"""Drift: whether what a scorecard sees and says today is spread as it was when it was trained.

A *base* is a training distribution: shares of the bins that distinct cut points make. k cuts make k + 1 bins of the
values there are, and nulls have a bin of their own behind them, which drift leaves aside: nulls are judged by their
rate.

    bin    0              1                     ...   k               k + 1
    holds  value <= c[0]  c[0] < value <= c[1]        value > c[k-1]  null

PSI = sum over bins of (q - p) * ln(q / p), p the base's share and q the share now. An empty side counts as half a row;
a bin that is empty on both sides is no bin. When nothing moved, and both sides are samples, PSI is about chi-squared
with bins - 1 degrees of freedom times (1/n + 1/base_rows) (B. Yurdakul, J. Naranjo, "Statistical properties of the
population stability index", Journal of Risk Model Validation 14(4), 2020). So a fixed limit of 0.1 or 0.2 is passed by
chance alone in a small sample and never in a large one; `critical` is what chance passes once in a hundred times, and
stands beside PSI everywhere. It is exact only for many rows a bin: with fewer than ROWS_PER_BIN_MIN a bin PSI has a
heavier tail, and `thin` says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from decision_service.core.scorecards.chi_squared import quantile

CHANCE: Final = 0.01  # how often `critical` is passed when nothing moved
PSI_SHIFTED: Final = 0.1  # from here on a distribution has shifted, if it is beyond chance
PSI_MOVED: Final = 0.2  # above, it is another one: a reason to rebuild
NULL_SHIFT_MAX: Final = 0.10  # of a null rate, either way, without an alert
ROWS_PER_BIN_MIN: Final = 20
_HALF_ROW: Final = 0.5
_FLOOR_UNKNOWN: Final = 1e-4  # share of an empty bin of a base whose rows are not known

Verdict = Literal["no data", "steady", "shifted", "moved"]


@dataclass(frozen=True, slots=True)
class Drift:
    """A distribution against its base. `psi` and `critical` are NaN without rows or with fewer than two bins."""

    n: int  # rows that are not null
    bins: int  # that hold anything on either side
    psi: float
    critical: float

    @property
    def beyond_chance(self) -> bool:
        """Whether PSI is larger than chance makes it once in a hundred times."""
        return self.psi > self.critical

    @property
    def thin(self) -> bool:
        """Whether there are too few rows a bin for `critical` to be more than a rough bound."""
        return self.n < ROWS_PER_BIN_MIN * self.bins

    @property
    def verdict(self) -> Verdict:
        """`shifted` from PSI_SHIFTED, `moved` above PSI_MOVED, and both only beyond chance."""
        if math.isnan(self.psi):
            return "no data"
        if not self.beyond_chance or self.psi < PSI_SHIFTED:
            return "steady"
        return "moved" if self.psi > PSI_MOVED else "shifted"


def bins_of(cuts: Sequence[float] | npt.NDArray[np.float64], values: npt.ArrayLike) -> npt.NDArray[np.intp]:
    """The bin of each value, nulls (NaN) in the last. `cuts` rise strictly; k of them make k + 2 bins with that of
    nulls. A value equal to a cut is below it."""
    edges = np.asarray(cuts, np.float64)
    given = np.asarray(values, np.float64)
    found = np.searchsorted(edges, given, side="left")
    found[np.isnan(given)] = len(edges) + 1
    return found


def counts_of(cuts: Sequence[float] | npt.NDArray[np.float64], values: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """How many values each bin holds, nulls last: int64[len(cuts) + 2]."""
    return np.bincount(bins_of(cuts, values), minlength=len(cuts) + 2).astype(np.int64)


def drift(shares: Sequence[float], counts: Sequence[int] | npt.NDArray[np.int64], base_rows: int) -> Drift:
    """How far `counts` of the bins, without nulls, are from the base's `shares`.

    `base_rows` is how many rows the shares rest on; 0 is unknown and takes the base as exact, which makes `critical`
    smaller than it is. ValueError unless both have one entry a bin.
    """
    base = np.asarray(shares, np.float64)
    seen = np.asarray(counts, np.float64)
    if base.shape != seen.shape:
        raise ValueError(f"{len(seen)} counts for {len(base)} shares: one a bin is expected")
    n = int(seen.sum())
    used = (base > 0.0) | (seen > 0.0)
    bins = int(used.sum())
    if n == 0 or bins < 2:
        return Drift(n, bins, math.nan, math.nan)
    p = np.maximum(base[used], _HALF_ROW / base_rows if base_rows else _FLOOR_UNKNOWN)
    q = np.maximum(seen[used] / n, _HALF_ROW / n)
    psi = float(np.sum((q - p) * np.log(q / p)))
    return Drift(n, bins, psi, critical_psi(n, bins, base_rows))


def critical_psi(n: int, bins: int, base_rows: int) -> float:
    """The PSI that chance passes once in a hundred times when nothing moved; 0 `base_rows` takes the base as exact."""
    return quantile(CHANCE, bins - 1) * (1.0 / n + (1.0 / base_rows if base_rows else 0.0))


def null_shift(base_rate: float, nulls: int, rows: int) -> float:
    """By how much the share of nulls rose (fell, if negative); NaN without rows."""
    return nulls / rows - base_rate if rows else math.nan
