"""From raw margins to probabilities that come true: Platt's logistic curve, or a monotone table.

Calibration is fitted on rows the model has not seen and is not judged on. An isotonic table is made from as many equal
groups of rows by margin as hold `_BADS_A_GROUP` bads on average (at most KNOTS_MAX), pooled until their bad rates rise
strictly: raw isotonic regression makes steps out of single bads, flat for thousands of rows, where points could not
tell customers apart. Every group's rate is drawn towards the overall one by one bad's worth of rows, so that no knot
says 0 or 1.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from decision_service.core.scorecards.scaling import Calibration, Isotonic, Platt
from decision_service.train.fitted import NothingToLearn

Method = Literal["platt", "isotonic"]
METHODS: Final[tuple[Method, ...]] = ("platt", "isotonic")
KNOTS_MAX: Final = 20
KNOTS_MIN: Final = 3
_BADS_A_GROUP: Final = 8
_ROUND_DECIMALS: Final = 6  # of the calibration: far below what the data can tell

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int8]


def calibrate(method: Method, margins: Floats, bad: Labels) -> Calibration:
    """The calibration of rows whose outcomes are known. Raises NothingToLearn if they contradict the model's order."""
    return _platt(margins, bad) if method == "platt" else _isotonic(margins, bad)


def _platt(margins: Floats, bad: Labels) -> Platt:
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=np.inf, tol=1e-9, max_iter=1_000).fit(margins.reshape(-1, 1), bad)
    platt = Platt(
        round(float(fitted.coef_[0, 0]), _ROUND_DECIMALS), round(float(fitted.intercept_[0]), _ROUND_DECIMALS)
    )
    if platt.a <= 0.0:
        raise NothingToLearn("on the calibration rows the model's order is upside down")
    return platt


def _isotonic(margins: Floats, bad: Labels) -> Isotonic:
    order = np.argsort(margins, kind="stable")
    groups = int(np.clip(int(bad.sum()) // _BADS_A_GROUP, KNOTS_MIN, KNOTS_MAX))
    overall = float(bad.mean())
    pools: list[tuple[float, float, float]] = []  # rows, sum of margins, bads
    for part in np.array_split(order, groups):
        if len(part):
            pool = (float(len(part)), float(margins[part].sum()), float(bad[part].sum()))
            while pools and not _rate(pools[-1], overall) < _rate(pool, overall):
                pool = _both(pools.pop(), pool)
            pools.append(pool)
    table = Isotonic(
        tuple(round(total / rows, _ROUND_DECIMALS) for rows, total, _ in pools),
        tuple(round(_rate(pool, overall), 2 * _ROUND_DECIMALS) for pool in pools),
    )
    if len(pools) < KNOTS_MIN or np.diff(table.margins).min(initial=np.inf) <= 0.0:
        raise NothingToLearn(
            f"on the calibration rows the model's order leaves {len(pools)} isotonic knots, at least {KNOTS_MIN} are "
            "needed: calibrate by platt, or with more rows"
        )
    return table


def _rate(pool: tuple[float, float, float], overall: float) -> float:
    rows, _, bads = pool
    return (bads + 1.0) / (rows + 1.0 / overall)


def _both(a: tuple[float, float, float], b: tuple[float, float, float]) -> tuple[float, float, float]:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]
