"""What each feature tells by itself: nulls, information value, and how alike it is to another.

    IV = sum over bins of (share of goods - share of bads) * ln(share of goods / share of bads)

over the bins of its training deciles and one of nulls, half a row added to every side. Below 0.02 a feature is useless,
above IV_SUSPECT it may know the outcome already: look at how it is made before believing the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from decision_service.core.scorecards.distribution import cuts_of
from decision_service.core.scorecards.drift import bins_of

Floats = npt.NDArray[np.float64]
IV_SUSPECT: Final = 0.5
IV_USELESS: Final = 0.02
_HALF_ROW: Final = 0.5


@dataclass(frozen=True, slots=True)
class Characteristic:
    """One feature over the training rows. `alike` is the feature with the highest rank correlation, "" for none."""

    name: str
    iv: float
    null_rate: float
    alike: str
    correlation: float

    @property
    def suspect(self) -> bool:
        """Whether it tells more than a feature of behaviour usually can."""
        return self.iv > IV_SUSPECT


def characteristics(names: tuple[str, ...], rows: Floats, bad: npt.NDArray[np.int8]) -> tuple[Characteristic, ...]:
    """Every feature of training rows, in order."""
    ranks = np.column_stack([_ranks(rows[:, i]) for i in range(len(names))])
    found = []
    for i, name in enumerate(names):
        alike, correlation = _nearest(ranks, i)
        null_rate = float(np.isnan(rows[:, i]).mean())
        iv = information_value(rows[:, i], bad)
        found.append(Characteristic(name, iv, null_rate, "" if alike is None else names[alike], correlation))
    return tuple(found)


def information_value(values: Floats, bad: npt.NDArray[np.int8]) -> float:
    """The information value over the deciles of `values`, nulls a bin of their own."""
    known = values[~np.isnan(values)]
    cuts = cuts_of(np.quantile(known, np.arange(1, 10) / 10).tolist()) if len(known) else ()
    bins = bins_of(cuts, values)
    counts = np.array([np.bincount(bins[bad == side], minlength=len(cuts) + 2) for side in (0, 1)], float)
    counts = counts[:, counts.sum(axis=0) > 0] + _HALF_ROW
    goods, bads = counts / counts.sum(axis=1, keepdims=True)
    return float(np.sum((goods - bads) * np.log(goods / bads)))


def _ranks(values: Floats) -> Floats:
    """Ranks around 0 with unit length, ties sharing theirs; nulls in the middle."""
    ranks = np.zeros(len(values))
    known = ~np.isnan(values)
    _, which, counts = np.unique(values[known], return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts + 1) / 2
    ranks[known] = middle[which] - middle[which].mean() if len(which) else 0.0
    length = float(np.sqrt(ranks @ ranks))
    return ranks / length if length > 0.0 else ranks


def _nearest(ranks: Floats, i: int) -> tuple[int | None, float]:
    if ranks.shape[1] < 2:
        return None, 0.0
    correlations = ranks.T @ ranks[:, i]
    correlations[i] = 0.0
    nearest = int(np.abs(correlations).argmax())
    return nearest, float(correlations[nearest])
