"""Fitting: LightGBM with monotone constraints on the customers it may see, calibrated on time it has not seen.

    in time      training customers      grow the trees
                 validation customers    say when to stop
    out of time  one half of customers   Platt calibration of the margin
                 the other half          the figures in the manifest

Customers, never rows, are divided, so that no one is on both sides of a question. A share of the training values is
blanked at random: LightGBM reads a null as 0 wherever it never saw one, and a model must know unknown as unknown.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from decision_service.core.scorecards.scaling import Platt
from decision_service.train.config import ModelDesign, TrainedFeature
from decision_service.train.sample import Sample

Mask = npt.NDArray[np.bool_]
_ROUND_DECIMALS: Final = 6  # of the calibration: far below what the data can tell


@dataclass(frozen=True, slots=True)
class Division:
    """Which rows serve which purpose."""

    train: Mask
    validate: Mask
    calibrate: Mask
    judge: Mask


@dataclass(frozen=True, slots=True)
class Fitted:
    """A model as text, how many trees it kept of those allowed, its calibration, and raw margins of all rows."""

    model_text: bytes
    trees: int
    platt: Platt
    margins: npt.NDArray[np.float64]
    division: Division


class NothingToLearn(Exception):
    """The sample cannot make a scorecard; the message says why."""


def fit(
    sample: Sample, features: tuple[TrainedFeature, ...], design: ModelDesign, say: Callable[[str], None]
) -> Fitted:
    """Grow and calibrate a model. Raises NothingToLearn."""
    division = divide(sample, design)
    for name, rows in (("training", division.train), ("validation", division.validate),
                       ("calibration", division.calibrate), ("judging", division.judge)):  # fmt: skip
        bads = int(sample.bad[rows].sum())
        say(f"{name}: {int(rows.sum()):,} rows, {bads:,} bad")
        if not 0 < bads < rows.sum():
            raise NothingToLearn(f"the {name} rows hold {bads} bads among {int(rows.sum())}")
    booster, trees = _grow(sample, features, design, division)
    say(f"kept {trees} of {design.trees} trees")
    margins = booster.predict(sample.rows, raw_score=True, num_iteration=trees, num_threads=1)
    platt = _calibrate(margins[division.calibrate], sample.bad[division.calibrate])
    text = booster.model_to_string(num_iteration=trees).encode()
    return Fitted(text, trees, platt, margins, division)


def divide(sample: Sample, design: ModelDesign) -> Division:
    """Assign every row by its customer and its observation."""
    rng = np.random.default_rng(design.seed)
    draw = rng.random(int(sample.customer.max()) + 1)[sample.customer]
    validate = draw < design.validation_share
    calibrate = rng.random(int(sample.customer.max()) + 1)[sample.customer] < 0.5
    late = sample.out_of_time
    return Division(~late & ~validate, ~late & validate, late & calibrate, late & ~calibrate)


def _grow(
    sample: Sample, features: tuple[TrainedFeature, ...], design: ModelDesign, division: Division
) -> tuple[Any, int]:
    import lightgbm

    names = [feature.name for feature in features]
    rows = _blanked(sample.rows[division.train], design)
    train = lightgbm.Dataset(rows, sample.bad[division.train], feature_name=names, params=_parameters(design, features))
    validate = train.create_valid(sample.rows[division.validate], sample.bad[division.validate])
    callbacks: list[Callable[..., Any]] = (
        [lightgbm.early_stopping(design.stop_after, verbose=False)] if design.stop_after else []
    )
    booster = lightgbm.train(
        _parameters(design, features), train, design.trees, valid_sets=[validate], callbacks=callbacks
    )
    return booster, booster.best_iteration if design.stop_after else booster.num_trees()


def _parameters(design: ModelDesign, features: tuple[TrainedFeature, ...]) -> dict[str, Any]:
    return {
        "objective": "binary", "metric": "binary_logloss", "num_leaves": design.leaves,
        "learning_rate": design.learning_rate, "min_data_in_leaf": design.rows_in_leaf_min, "lambda_l2": design.l2,
        "bagging_fraction": design.rows_share, "bagging_freq": 1, "feature_fraction": design.features_share,
        "monotone_constraints": [feature.monotone for feature in features],
        "monotone_constraints_method": "intermediate", "seed": design.seed, "deterministic": True,
        "force_row_wise": True, "num_threads": 1, "verbosity": -1,
    }  # fmt: skip


def _blanked(rows: npt.NDArray[np.float64], design: ModelDesign) -> npt.NDArray[np.float64]:
    rng = np.random.default_rng(design.seed + 1)
    return np.where(rng.random(rows.shape) < design.null_share, np.nan, rows)


def _calibrate(margins: npt.NDArray[np.float64], bad: npt.NDArray[np.int8]) -> Platt:
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=np.inf, tol=1e-9, max_iter=1_000).fit(margins.reshape(-1, 1), bad)
    platt = Platt(
        round(float(fitted.coef_[0, 0]), _ROUND_DECIMALS), round(float(fitted.intercept_[0]), _ROUND_DECIMALS)
    )
    if platt.a <= 0.0:
        raise NothingToLearn("out of time the model's order is upside down")
    return platt
