"""LightGBM with monotone constraints, stopped early by customers it has not seen, calibrated on time it has not seen.

A share of the training values is blanked at random: LightGBM reads a null as 0 wherever it never saw one, and a model
must know unknown as unknown.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from decision_service.scorer import LightGbmScorer
from decision_service.train.calibrate import calibrate
from decision_service.train.config import TrainConfig, TrainedFeature
from decision_service.train.division import Division
from decision_service.train.fitted import Fitted
from decision_service.train.model_design import LightgbmDesign
from decision_service.train.sample import Sample


def fit(sample: Sample, config: TrainConfig, division: Division, say: Callable[[str], None]) -> Fitted:
    """Grow and calibrate a model. Raises NothingToLearn."""
    import lightgbm

    design = config.model
    assert isinstance(design, LightgbmDesign), "the training file says kind: lightgbm"
    booster, trees = _grow(sample, config.features, design, division)
    say(f"kept {trees} of {design.trees} trees")
    margins = booster.predict(sample.rows, raw_score=True, num_iteration=trees, num_threads=1)
    calibration = calibrate(config.calibration, margins[division.calibrate], sample.bad[division.calibrate])
    about = f"LightGBM {lightgbm.__version__}, {trees} trees of at most {design.leaves} leaves"
    text = booster.model_to_string(num_iteration=trees).encode()
    scorer = LightGbmScorer(text, len(config.names))
    return Fitted(text, "lightgbm", margins, calibration, about, config.names, scorer)


def _grow(
    sample: Sample, features: tuple[TrainedFeature, ...], design: LightgbmDesign, division: Division
) -> tuple[Any, int]:
    import lightgbm

    names = [feature.name for feature in features]
    rows = blanked(sample.rows[division.train], design.null_share, design.seed)
    train = lightgbm.Dataset(rows, sample.bad[division.train], feature_name=names, params=_parameters(design, features))
    validate = train.create_valid(sample.rows[division.validate], sample.bad[division.validate])
    callbacks: list[Callable[..., Any]] = (
        [lightgbm.early_stopping(design.stop_after, verbose=False)] if design.stop_after else []
    )
    booster = lightgbm.train(
        _parameters(design, features), train, design.trees, valid_sets=[validate], callbacks=callbacks
    )
    return booster, booster.best_iteration if design.stop_after else booster.num_trees()


def _parameters(design: LightgbmDesign, features: tuple[TrainedFeature, ...]) -> dict[str, Any]:
    return {
        "objective": "binary", "metric": "binary_logloss", "num_leaves": design.leaves,
        "learning_rate": design.learning_rate, "min_data_in_leaf": design.rows_in_leaf_min, "lambda_l2": design.l2,
        "bagging_fraction": design.rows_share, "bagging_freq": 1, "feature_fraction": design.features_share,
        "monotone_constraints": [feature.monotone for feature in features],
        "monotone_constraints_method": "intermediate", "seed": design.seed, "deterministic": True,
        "force_row_wise": True, "num_threads": 1, "verbosity": -1,
    }  # fmt: skip


def blanked(rows: npt.NDArray[np.float64], null_share: float, seed: int) -> npt.NDArray[np.float64]:
    """Rows with a share of their values made null at random, the same ones on every run."""
    rng = np.random.default_rng(seed + 1)
    return np.where(rng.random(rows.shape) < null_share, np.nan, rows)
