"""How a score responds to one feature: the mean PD over real rows while that feature takes one value after another.

This is the partial dependence of J. Friedman (Annals of Statistics 29, 2001). Beside it, every single row is held to
the feature's promise: a scorecard whose PD may only rise must not let it fall in any row, however little. Rows are
copies of sampled ones, the values are quantiles of those that occur, so the model is asked nothing strange.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from decision_service.core.scorecards.scorecard import Scorecard

Floats = npt.NDArray[np.float64]

VALUES_MAX: Final = 24
_SLACK: Final = 1e-9  # of margins: sums of floating point numbers in another order


@dataclass(frozen=True, slots=True)
class FeatureResponse:
    """`pds[i]` is the mean PD if the feature is `values[i]` in all rows, and `null_pd` if it is null (NaN where null is
    not scored). `broken` counts the steps from one value to the next at which a row goes the forbidden way."""

    name: str
    monotone: int
    values: Floats
    pds: Floats
    null_pd: float
    steps: int
    broken: int


def response(card: Scorecard, rows: Floats, feature: int) -> FeatureResponse:
    """The response of `card` to one feature, over some rows. `values` is empty if it is null in all of them."""
    spec = card.manifest.features[feature]
    known = rows[:, feature][~np.isnan(rows[:, feature])]
    quantiles = np.quantile(known, np.linspace(0.0, 1.0, VALUES_MAX), method="nearest") if len(known) else known
    values = np.unique(quantiles)
    margins = _margins(card, rows, feature, values)
    turns = np.diff(margins, axis=1) * spec.monotone
    null = _margins(card, rows, feature, np.array([np.nan])) if spec.nulls_allowed else np.full((len(rows), 1), np.nan)
    return FeatureResponse(
        spec.name, spec.monotone, values, _mean_pds(card, margins), float(_mean_pds(card, null)[0]),
        turns.size, int(np.sum(turns < -_SLACK)),
    )  # fmt: skip


def _margins(card: Scorecard, rows: Floats, feature: int, values: Floats) -> Floats:
    """float64[rows, values]."""
    changed, margins = rows.copy(), np.empty((len(rows), len(values)))
    for k, value in enumerate(values):
        changed[:, feature] = value
        margins[:, k] = [card.scorer.margin(row) for row in changed]
    return margins


def _mean_pds(card: Scorecard, margins: Floats) -> Floats:
    pd = card.manifest.calibration.pd
    return np.array([np.mean([pd(float(margin)) for margin in column]) for column in margins.T])
