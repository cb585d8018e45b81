"""Quality: whether scores tell those who went bad from the others, and whether their probabilities came true.

`pd` is float64, higher is worse; `bad` is bool. Ties in `pd` count half in AUC and are one step in KS, as in
scikit-learn's ROC. Intervals are 95 %.

    AUC          with its standard error after J. Hanley, B. McNeil, Radiology 143 (1982)
    KS           the largest distance between the distributions of bads and goods
    calibration  ten groups by pd, ties kept together: mean pd against the share that went bad; ECE is the mean
                 distance, weighted by size; Hosmer-Lemeshow is chi-squared with as many degrees of freedom as groups,
                 for the model was not fitted on these decisions
    rates        intervals after E. Wilson (1927); differences of two after R. Newcombe, Statistics in Medicine 17
                 (1998), method 10; the p-value is of the pooled two-proportion test
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from decision_service.core.scorecards.chi_squared import survival

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
GROUPS: Final = 10
BADS_MIN: Final = 30  # below, no figure of quality is more than an indication
_Z: Final = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Group:
    """One tenth of the decisions by predicted probability."""

    rows: int
    bads: int
    pd_mean: float
    bad_rate: float


@dataclass(frozen=True, slots=True)
class Quality:
    """The figures of some decisions whose outcomes are known. NaN where only goods or only bads are there."""

    rows: int
    bads: int
    pd_mean: float
    bad_rate: float
    auc: float
    auc_error: float  # one standard error
    ks: float
    brier: float
    calibration_error: float
    hosmer_lemeshow: float
    hosmer_lemeshow_p: float
    groups: tuple[Group, ...]

    @property
    def thin(self) -> bool:
        """Whether too few went bad, or too few did not, for more than an indication."""
        return min(self.bads, self.rows - self.bads) < BADS_MIN


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float


def quality(pd: Floats, bad: Bools) -> Quality:
    """All figures of some decisions, one at least."""
    groups = calibration_groups(pd, bad)
    auc, ks = _auc_and_ks(pd, bad)
    statistic, p = _hosmer_lemeshow(groups)
    bads = int(np.count_nonzero(bad))
    return Quality(
        rows=len(pd), bads=bads, pd_mean=math.fsum(pd) / len(pd), bad_rate=bads / len(pd), auc=auc,
        auc_error=_auc_error(auc, bads, len(pd) - bads), ks=ks, brier=math.fsum((pd - bad) ** 2) / len(pd),
        calibration_error=sum(g.rows * abs(g.pd_mean - g.bad_rate) for g in groups) / len(pd),
        hosmer_lemeshow=statistic, hosmer_lemeshow_p=p, groups=groups,
    )  # fmt: skip


def calibration_groups(pd: Floats, bad: Bools, groups: int = GROUPS) -> tuple[Group, ...]:
    """Groups of about equal size by predicted probability, lowest first. Equal probabilities stay together, in the
    group of the middle of their ranks, so that the order of rows does not matter; a group may be empty and left out."""
    _, which, counts = np.unique(pd, return_inverse=True, return_counts=True)
    middles = np.cumsum(counts) - counts / 2
    group = np.minimum((groups * middles / len(pd)).astype(np.int64), groups - 1)[which]
    parts = (np.flatnonzero(group == i) for i in range(groups))
    return tuple(
        Group(len(part), int(bad[part].sum()), math.fsum(pd[part]) / len(part), float(bad[part].mean()))
        for part in parts
        if len(part)
    )


def roc(pd: Floats, bad: Bools) -> tuple[Floats, Floats]:
    """Shares of goods and of bads at or above each distinct pd, from none to all."""
    order = np.argsort(-pd, kind="stable")
    last = np.flatnonzero(np.append(np.diff(pd[order]) != 0.0, True))
    worse = np.cumsum(bad[order])[last].astype(np.float64)
    better = last + 1.0 - worse
    return np.append(0.0, better / better[-1]), np.append(0.0, worse / worse[-1])


def _auc_and_ks(pd: Floats, bad: Bools) -> tuple[float, float]:
    bads = int(np.count_nonzero(bad))
    if bads in (0, len(bad)):
        return math.nan, math.nan
    goods_share, bads_share = roc(pd, bad)
    return float(np.trapezoid(bads_share, goods_share)), float(np.max(bads_share - goods_share))


def _auc_error(auc: float, bads: int, goods: int) -> float:
    if math.isnan(auc):
        return math.nan
    q1, q2 = auc / (2.0 - auc), 2.0 * auc * auc / (1.0 + auc)
    variance = auc * (1.0 - auc) + (bads - 1) * (q1 - auc * auc) + (goods - 1) * (q2 - auc * auc)
    return math.sqrt(max(variance, 0.0) / (bads * goods))


def _hosmer_lemeshow(groups: tuple[Group, ...]) -> tuple[float, float]:
    parts = [
        (g.bads - g.rows * g.pd_mean) ** 2 / (g.rows * g.pd_mean * (1.0 - g.pd_mean))
        for g in groups
        if 0.0 < g.pd_mean < 1.0
    ]
    if not parts:
        return math.nan, math.nan
    return sum(parts), survival(sum(parts), len(parts))


def share(count: int, n: int) -> Interval:
    """A share with Wilson's interval; NaN of nothing."""
    if n == 0:
        return Interval(math.nan, math.nan, math.nan)
    p, z2 = count / n, _Z * _Z
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return Interval(p, max(0.0, middle - half), min(1.0, middle + half))


def share_difference(count: int, n: int, other_count: int, other_n: int) -> Interval:
    """The first share minus the other, with Newcombe's interval; NaN if either is of nothing."""
    one, other = share(count, n), share(other_count, other_n)
    value = one.value - other.value
    low = value - math.hypot(one.value - one.low, other.high - other.value)
    high = value + math.hypot(one.high - one.value, other.value - other.low)
    return Interval(value, low, high)


def two_proportion_p(count: int, n: int, other_count: int, other_n: int) -> float:
    """How likely two samples of one population differ at least so much; NaN if either is empty, 1 without variance."""
    if n == 0 or other_n == 0:
        return math.nan
    pooled = (count + other_count) / (n + other_n)
    variance = pooled * (1 - pooled) * (1 / n + 1 / other_n)
    if variance == 0.0:
        return 1.0
    return math.erfc(abs(count / n - other_count / other_n) / math.sqrt(2.0 * variance))


def mean_difference(one: Floats, other: Floats) -> Interval:
    """The first mean minus the other with its normal interval; NaN with fewer than two of either."""
    if min(len(one), len(other)) < 2:
        return Interval(math.nan, math.nan, math.nan)
    value = float(one.mean() - other.mean())
    half = _Z * math.sqrt(float(one.var(ddof=1)) / len(one) + float(other.var(ddof=1)) / len(other))
    return Interval(value, value - half, value + half)
