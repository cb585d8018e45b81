"""What makes up the scores of some rows: how much each feature weighs, and which reason codes it comes to.

From exact contributions to the margin (`Scorer.contributions`), so it means the same for every kind of model.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from decision_service.core.scorecards.adverse import ReasonCodes
from decision_service.core.scorecards.scorecard import Scorecard

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TreeUse:
    """How often the trees of a LightGBM model split by a feature, and what these splits gained in training."""

    splits: int
    gain: float


def contributions(card: Scorecard, rows: Floats) -> Floats:
    """float64[rows, features + 1]: what each feature adds to the margin expected of an unknown row, and last that."""
    if not len(rows):
        return np.empty((0, len(card.names) + 1))
    return np.array([card.scorer.contributions(np.ascontiguousarray(row)) for row in rows])


def reason_counts(card: Scorecard, rows: Floats) -> tuple[Counter[str], Counter[str]]:
    """How many rows have each code as their first reason, and among all reasons that an answer would give them."""
    codes = ReasonCodes(card.manifest)
    first: Counter[str] = Counter()
    among: Counter[str] = Counter()
    for row, parts in zip(rows, contributions(card, rows), strict=True):
        told = [adverse.code for adverse in codes.adverse(row, parts)]
        first.update(told[:1])
        among.update(told)
    return first, among


def tree_use(model_text: bytes, features: int) -> list[TreeUse]:
    """Of each feature, from a model in LightGBM's text format."""
    splits, gains = np.zeros(features, np.int64), np.zeros(features)
    chosen = np.empty(0, np.intp)
    for line in model_text.decode().splitlines():
        key, _, numbers = line.partition("=")
        if key == "split_feature":
            chosen = np.array(numbers.split(), np.intp)
            np.add.at(splits, chosen, 1)
        elif key == "split_gain":
            np.add.at(gains, chosen, np.array(numbers.split(), np.float64))
    return [TreeUse(int(n), float(gain)) for n, gain in zip(splits, gains, strict=True)]
