"""Models of many shapes, trained on noise, and what LightGBM says of them."""

from __future__ import annotations

from typing import Any

import lightgbm
import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float64]


def make_rows(n_rows: int, n_features: int, seed: int, *, zeros: float = 0.1, nulls: float = 0.1) -> Rows:
    """Noise with a share of zeros and of nulls; every third feature is coarse, every fifth huge."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n_rows, n_features))
    rows[:, ::3] = np.round(rows[:, ::3], 1)
    rows[:, ::5] *= 1e12
    rows[rng.random(rows.shape) < zeros] = 0.0
    rows[rng.random(rows.shape) < nulls] = np.nan
    return rows


def make_model(rows: Rows, trees: int, leaves: int, seed: int = 1, **parameters: Any) -> lightgbm.Booster:
    """A model of whether the features, in pairs, are of one sign."""
    rng = np.random.default_rng(seed)
    signal = np.sign(np.nan_to_num(rows)) @ rng.normal(size=rows.shape[1]) + np.sign(
        np.nan_to_num(rows[:, 0] * rows[:, -1])
    )
    label = (signal + rng.normal(size=len(rows)) > 0).astype(int)
    given = {
        "objective": "binary", "num_leaves": leaves, "verbosity": -1, "num_threads": 1, "seed": seed,
        "min_data_in_leaf": 2, "min_sum_hessian_in_leaf": 1e-6, "learning_rate": 0.1, "deterministic": True,
    }  # fmt: skip
    return lightgbm.train(given | parameters, lightgbm.Dataset(rows, label), trees)


def text_of(booster: lightgbm.Booster) -> bytes:
    """The model as a scorecard's file holds it."""
    return str(booster.model_to_string()).encode()
