"""Whether a model keeps what its training file promises: that the PD only rises, or only falls, with a feature.

LightGBM is told to, and then it is looked at, for what a customer is told rests on it. On the trees: of any two leaves
that differ in the promised feature and can be reached by rows equal in all others, the one further up must not have
the lower (or higher) value. A sum of trees that keep a promise keeps it, so this proves it, nulls apart, which have no
order. On a grid: rows of the sample with one feature moved through its quantiles, scored by the scorer that serves.
"""

from __future__ import annotations

import json
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from decision_service.train.config import TrainConfig, TrainedFeature
from decision_service.train.fitted import Fitted, NothingToLearn

Floats = npt.NDArray[np.float64]
_ROWS: Final = 40
_STEPS: Final = 21
_TOLERANCE: Final = 1e-9


def check_promises(config: TrainConfig, fitted: Fitted, rows: Floats) -> None:
    """Raise NothingToLearn for the first promise that a model breaks; `rows` hold the features it kept."""
    for i, feature in enumerate(config.features):
        if feature.monotone and not _on_grid(i, feature, fitted, rows):
            raise NothingToLearn(f"{_broken(feature)} on rows of the sample")
    if fitted.model_kind == "lightgbm":
        for number, tree in enumerate(_trees(fitted.model_text)):
            for i, feature in enumerate(config.features):
                if feature.monotone and not tree_keeps(tree, i, feature.monotone):
                    raise NothingToLearn(f"{_broken(feature)} in tree {number}")


def _broken(feature: TrainedFeature) -> str:
    way = "rises" if feature.monotone > 0 else "falls"
    return f"the model breaks the promise that the PD only {way} with {feature.name}"


def _on_grid(i: int, feature: TrainedFeature, fitted: Fitted, rows: Floats) -> bool:
    known = rows[:, i][~np.isnan(rows[:, i])]
    if not len(known):
        return True
    steps = np.unique(np.quantile(known, np.linspace(0.0, 1.0, _STEPS)))
    for row in rows[:: max(1, len(rows) // _ROWS)]:
        ladder = np.tile(row, (len(steps), 1))
        ladder[:, i] = steps
        margins = np.array([fitted.scorer.margin(np.ascontiguousarray(each)) for each in ladder])
        if (np.diff(margins) * feature.monotone < -_TOLERANCE).any():
            return False
    return True


def _trees(model_text: bytes) -> list[dict[str, Any]]:
    import lightgbm

    booster = lightgbm.Booster(model_str=model_text.decode())
    dumped: dict[str, Any] = json.loads(json.dumps(booster.dump_model()))
    return [tree["tree_structure"] for tree in dumped["tree_info"]]


def tree_keeps(tree: dict[str, Any], feature: int, direction: int) -> bool:
    """Whether a tree (as LightGBM dumps it) only rises (1) or falls (-1) with a feature, nulls apart."""
    leaves = _leaves(tree, {})
    names = sorted({name for bounds, _ in leaves for name in bounds} | {feature})
    low, high = (np.array([[b.get(n, (-np.inf, np.inf))[k] for n in names] for b, _ in leaves]) for k in (0, 1))
    values = np.array([value for _, value in leaves])
    meet = np.ones((len(leaves), len(leaves)), bool)
    for column, name in enumerate(names):
        if name != feature:
            meet &= np.maximum.outer(low[:, column], low[:, column]) < np.minimum.outer(
                high[:, column], high[:, column]
            )
    at = names.index(feature)
    below = high[:, at][:, None] <= low[:, at][None, :]
    falls = (values[:, None] - values[None, :]) * direction > _TOLERANCE
    return not bool((meet & below & falls).any())


Bounds = dict[int, tuple[float, float]]


def _leaves(node: dict[str, Any], bounds: Bounds) -> list[tuple[Bounds, float]]:
    """`(what of each feature reaches it: above low, up to high; its value)` of every leaf."""
    if "split_feature" not in node:
        return [(bounds, float(node["leaf_value"]))]
    name, cut = int(node["split_feature"]), float(node["threshold"])
    low, high = bounds.get(name, (-np.inf, np.inf))
    left = _leaves(node["left_child"], bounds | {name: (low, min(high, cut))})
    return left + _leaves(node["right_child"], bounds | {name: (max(low, cut), high)})
