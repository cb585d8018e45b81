"""WOE points scorecards as models: what they consist of and how they score.

WOE is ln(share of all goods / share of all bads): above 0 a bin is better than the average, so coefficients are never
above 0. A row's margin (log-odds of bad) is

    intercept + sum of coefficient * woe of the bin each value is in

Rows and bads of a bin are those of training. They give the share and bad rate shown to people, and the margin expected
of an unknown row, to which contributions are relative: coefficient * (woe - mean woe), which adds up exactly.

Points are for people: of each bin in whole points, with calibration, intercept and offset spread evenly over the
features (Siddiqi 2006, ch. 6):

    offset / n - factor * (a * (coefficient * woe + intercept / n) + b / n)    pd = logistic(a * margin + b)

Added up they miss the score by the rounding of n bins at most, so the score itself comes from the exact margin, as any
model's does. `woe_file` reads such a model and refuses one whose points do not fit.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from decision_service.core.scorecards.scaling import Platt, Scaling


@dataclass(frozen=True, slots=True)
class WoeBin:
    """One bin: its values are below `below` (infinite in the last, NaN for null), and not in an earlier bin."""

    below: float
    points: int
    woe: float
    rows: int
    bads: int

    @property
    def bad_rate(self) -> float:
        """Bads among the training rows of the bin; NaN without rows."""
        return self.bads / self.rows if self.rows else math.nan


@dataclass(frozen=True, slots=True)
class WoeFeature:
    """One feature: its bins in order, and the bin of null unless null is never scored."""

    name: str
    coefficient: float
    bins: tuple[WoeBin, ...]
    missing: WoeBin | None

    @property
    def all_bins(self) -> tuple[WoeBin, ...]:
        """The bins of known values, then the bin of null if there is one."""
        return self.bins if self.missing is None else (*self.bins, self.missing)

    @property
    def rows(self) -> int:
        """Training rows in all bins."""
        return sum(one.rows for one in self.all_bins)

    @property
    def woe_mean(self) -> float:
        """The mean over the training rows."""
        return math.fsum(one.rows * one.woe for one in self.all_bins) / self.rows

    @property
    def iv(self) -> float:
        """The information value: sum over the bins of (share of all goods - share of all bads) * WOE."""
        bads = sum(one.bads for one in self.all_bins)
        goods = self.rows - bads
        if not bads or not goods:
            return 0.0
        return math.fsum(((one.rows - one.bads) / goods - one.bads / bads) * one.woe for one in self.all_bins)


@dataclass(frozen=True, slots=True)
class WoeModel:
    """A checked model file."""

    intercept: float
    features: tuple[WoeFeature, ...]


def bin_text(low: float, below: float) -> str:
    """The values of a bin for people: from `low` on, up to but without `below`; infinite where there is no bound."""
    if math.isinf(low):
        return "all" if math.isinf(below) else f"below {below:g}"
    return f"{low:g} and more" if math.isinf(below) else f"{low:g} to below {below:g}"


def bin_points(
    woe: float, coefficient: float, intercept: float, features: int, platt: Platt, scaling: Scaling
) -> float:
    """Exact points of a bin: its part of the score, with what belongs to no feature spread evenly over all of them."""
    log_odds = platt.a * (coefficient * woe + intercept / features) + platt.b / features
    return scaling.offset / features - scaling.factor * log_odds


class WoeScorer:
    """Scores by a WOE model (`core.scorecards.Scorer`). Nothing in it ever changes, so any thread may use it.

    The cuts of a feature end with infinity, and `bisect_right` finds a NaN below none of them: null falls into the
    place behind the last bin without being asked for. Where there is no bin for null that place holds NaN, which no
    scorecard takes for a score. A margin of 15 features takes 3.4 us; a loop in Numba takes 1.1 us and has to be
    compiled or loaded in every process; `np.searchsorted` for each feature takes 70 us.
    """

    __slots__ = ("__weakref__", "_centred", "_expected", "_features", "_intercept", "_shape", "model")

    def __init__(self, model: WoeModel) -> None:
        self.model = model
        self._shape = (len(model.features),)
        self._intercept = model.intercept
        self._features = tuple((_cuts(feature), _terms(feature, 0.0)) for feature in model.features)
        means = [feature.woe_mean for feature in model.features]
        self._centred = tuple(_terms(feature, mean) for feature, mean in zip(model.features, means, strict=True))
        expected = (feature.coefficient * mean for feature, mean in zip(model.features, means, strict=True))
        self._expected = math.fsum((model.intercept, *expected))

    def margin(self, row: npt.NDArray[np.float64]) -> float:
        """Log-odds of bad for float64[n_features]; NaN is null. Raises ValueError for an infinity or another shape."""
        margin = self._intercept
        for value, (cuts, terms) in zip(self._values(row), self._features, strict=True):
            margin += terms[bisect_right(cuts, value)]
        return margin

    def contributions(self, row: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """float64[n_features + 1]: what each value adds to the margin expected of an unknown row, and last that one."""
        result = np.empty(len(self._features) + 1)
        for i, value in enumerate(self._values(row)):
            result[i] = self._centred[i][bisect_right(self._features[i][0], value)]
        result[-1] = self._expected
        return result

    def _values(self, row: npt.NDArray[np.float64]) -> list[float]:
        if row.shape != self._shape:
            raise ValueError(f"a row of shape {self._shape} is expected, not {row.shape}")
        values: list[float] = row.tolist()
        if math.inf in values or -math.inf in values:
            raise ValueError(f"feature {int(np.isinf(row).argmax())} is infinite")
        return values


def _cuts(feature: WoeFeature) -> tuple[float, ...]:
    return tuple(one.below for one in feature.bins)


def _terms(feature: WoeFeature, mean: float) -> tuple[float, ...]:
    """Of each bin, coefficient * (woe - mean); last that of null."""
    woes = [one.woe for one in (*feature.bins, feature.missing) if one is not None]
    known = tuple(feature.coefficient * (woe - mean) for woe in woes)
    return known if feature.missing is not None else (*known, math.nan)
