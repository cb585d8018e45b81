"""What makes up the scores of some rows: how much each feature weighs, and which reason codes it comes to.

From exact contributions to the margin (`Scorer.contributions`), so it means the same for every kind of model.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from decision_service.core.scorecards.scorecard import Scorecard

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TreeUse:
    """How often the trees of a LightGBM model split by a feature, and what these splits gained in training."""

    splits: int
    gain: float


def contributions(card: Scorecard, rows: Floats) -> Floats:
    """float64[rows, features]: what each feature adds to the margin expected of an unknown row."""
    if not len(rows):
        return np.empty((0, len(card.names)))
    return np.array([card.scorer.contributions(np.ascontiguousarray(row))[:-1] for row in rows])


def reason_counts(card: Scorecard, parts: Floats, top: int) -> tuple[Counter[str], Counter[str]]:
    """How many rows have each code as their first reason, and among their first `top`."""
    first: Counter[str] = Counter()
    among: Counter[str] = Counter()
    for row in parts:
        codes = _adverse_codes(card, row, top)
        first.update(codes[:1])
        among.update(codes)
    return first, among


def _adverse_codes(card: Scorecard, row: Floats, top: int) -> list[str]:
    """The codes that weigh against a row, heaviest first: those whose features together raise the margin."""
    weights: Counter[str] = Counter()
    for feature, part in zip(card.manifest.features, row.tolist(), strict=True):
        weights[feature.reason] += part
    adverse = sorted((-weight, code) for code, weight in weights.items() if weight > 0.0)
    return [code for _, code in adverse[:top]]


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
