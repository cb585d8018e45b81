"""Scoring rows with the trees of a LightGBM model, by compiled walks of our own (`core.scorecards.Scorer`).

LightGBM's own calls are what these are held to: margins equal to the bit, contributions to 1e-9 (tests), and every load
compares the manifest's golden rows once more. Why not call it: on 300 trees x 31 leaves, rows that change, its fastest
single-row call takes 38 us (guessing branches wrong) and its contributions milliseconds; and it trusts what it reads,
whereas nothing of a model's text reaches these walks unchecked (`trees.py`).
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from decision_service.core.scorecards import forest_kernel
from decision_service.core.scorecards.contributions import terms_of
from decision_service.core.scorecards.forest import columns_of, lay_out
from decision_service.core.scorecards.trees import Floats, read_trees

_FLOAT64: Final = np.dtype(np.float64)


class TreeScorer:
    """A loaded model. Immutable and thread-safe. Raises UnsupportedTrees for a text that cannot be walked."""

    __slots__ = ("__weakref__", "_contributing", "_expected", "_shape", "_walking")

    def __init__(self, model_text: bytes, n_features: int) -> None:
        trees = read_trees(model_text, n_features)
        columns, column = columns_of(trees)
        forest, terms = lay_out(trees, columns, column), terms_of(trees, column)
        self._shape: Final = (n_features,)
        self._expected: Final = terms.expected
        self._walking: Final[tuple[Any, ...]] = (
            forest.columns, forest.nodes, forest.links, forest.order,
        )  # fmt: skip
        self._contributing: Final[tuple[Any, ...]] = (
            forest.columns, terms.nodes, terms.numbers, terms.values, terms.trees, terms.passes, terms.points,
            terms.weights, terms.inverses, terms.widest,
        )  # fmt: skip
        nothing_known = np.full(n_features, np.nan)
        self.margin(nothing_known)  # whatever has to be compiled is compiled now, not before a decision
        self.contributions(nothing_known)

    def margin(self, row: Floats) -> float:
        """Log-odds of bad for float64[n_features]; NaN is null. Raises ValueError for an infinity or another shape."""
        row = self._checked(row)
        margin: float = forest_kernel.margin(row, *self._walking)
        if math.isinf(margin):
            _refuse_infinity(row)
        return margin

    @property
    def walking(self) -> tuple[Any, ...]:
        """What `forest_kernel.margin` takes behind a row, for who walks many."""
        return self._walking

    def contributions(self, row: Floats) -> Floats:
        """float64[n_features + 1]: what each feature of a row adds to the margin (SHAP values), and last the margin
        expected of an unknown row; their sum is the margin. Raises ValueError like `margin`.
        """
        row = self._checked(row)
        _refuse_infinity(row)
        result = np.zeros(len(row) + 1)
        forest_kernel.contributions(row, *self._contributing, result[:-1])
        result[-1] = self._expected
        return result

    def close(self) -> None:
        """Nothing to free: memory goes with the object."""

    def _checked(self, row: Floats) -> Floats:
        """The row as the kernels are compiled for. Raises ValueError for another shape."""
        if row.shape != self._shape:
            raise ValueError(f"a row of shape {self._shape} is expected, not {row.shape}")
        return row if row.dtype is _FLOAT64 and row.flags.carray else np.array(row, np.float64)


def _refuse_infinity(row: Floats) -> None:
    infinite = np.isinf(row)
    if infinite.any():
        raise ValueError(f"feature {int(infinite.argmax())} is infinite")
